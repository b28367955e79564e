//! Bad inputs out of good ones.

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::Target;

/// No input is longer, in bytes.
const LONGEST: usize = 64 << 10;

/// Numbers at which something ends.
const NUMBERS: [&str; 26] = [
    "0",
    "-1",
    "1",
    "2",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "1e308",
    "1e309",
    "-0.0",
    "5e-324",
    "0.1",
    "NaN",
    "-Infinity",
];

/// Texts at which a reader of texts may stumble.
const TEXTS: [&str; 30] = [
    "\u{0}",
    "\u{feff}",
    "\u{202e}",
    "\u{fffd}",
    "\u{1b}[2J",
    "\u{fdd0}",
    "\\ud800",
    "\\u0000",
    "\"",
    "'",
    "\\",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "../../etc/passwd",
    "/dev/zero",
    "</script>",
    "\u{1f600}\u{0301}",
];

/// Input number `index` of a target: the seeds themselves first.
pub fn mutate(target: &Target, seeds: &[Vec<u8>], index: u64) -> Vec<u8> {
    if let Some(seed) = usize::try_from(index).ok().and_then(|index| seeds.get(index)) {
        return seed.clone();
    }
    let mut random = ChaCha8Rng::seed_from_u64(index);
    let mut input = seeds[random.random_range(0..seeds.len())].clone();
    // Mostly little, so that what is wrong is the only thing that is.
    let changes = 1 << random.random_range(0..5u32);
    for _ in 0..random.random_range(1..=changes) {
        change(target, seeds, &mut random, &mut input);
    }
    input.truncate(LONGEST);
    input
}

fn change(target: &Target, seeds: &[Vec<u8>], random: &mut ChaCha8Rng, input: &mut Vec<u8>) {
    let at = random.random_range(0..=input.len());
    let length = 1usize << random.random_range(0..10u32);
    let range = at..(at + random.random_range(0..=length)).min(input.len());
    let word = |random: &mut ChaCha8Rng| -> Vec<u8> {
        let all = target.words.len() + TEXTS.len() + NUMBERS.len();
        let index = random.random_range(0..all);
        let words = target.words.iter().chain(&TEXTS).chain(&NUMBERS);
        words.map(|word| word.as_bytes().to_vec()).nth(index).unwrap_or_default()
    };
    match random.random_range(0..14u32) {
        0 => input.truncate(at),
        1 => drop(input.drain(range)),
        2 if at < input.len() => input[at] ^= 1 << random.random_range(0..8u32),
        3 if at < input.len() => input[at] = random.random(),
        4 => drop(input.splice(at..at, word(random))),
        5 => drop(input.splice(range, word(random))),
        // A number in place of another.
        6 | 7 => {
            if let Some(number) = number_from(input, at) {
                let other = NUMBERS[random.random_range(0..NUMBERS.len())];
                input.splice(number, other.bytes());
            }
        }
        // A part of it, again.
        8 => {
            let part = input[range].to_vec();
            input.splice(at..at, part);
        }
        // A part of another seed.
        9 => {
            let other = &seeds[random.random_range(0..seeds.len())];
            let from = random.random_range(0..=other.len());
            let part = other[from..(from + length).min(other.len())].to_vec();
            input.splice(range, part);
        }
        // Something so often that whoever recurses does so that deep.
        10 => {
            let mut part = if random.random() { word(random) } else { input[range].to_vec() };
            part.truncate(64);
            let times = (LONGEST / 2) >> random.random_range(0..12u32);
            input.splice(at..at, part.repeat(times / part.len().max(1)));
            input.truncate(LONGEST);
        }
        // A value of JSON in place of another.
        11 | 12 => {
            if let Some(value) = value_from(input, at) {
                let other = if random.random() { word(random) } else { value_of(seeds, random) };
                input.splice(value, other);
            }
        }
        // Two parts change places.
        _ => {
            let other = random.random_range(0..=input.len());
            let (first, second) = (range.start.min(other), range.start.max(other));
            input[first..second].reverse();
            let middle = first + (second - first) / 2;
            input[first..middle].reverse();
            input[middle..second].reverse();
        }
    }
}

/// The digits of the first number from a place on.
fn number_from(input: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let start = at + input[at..].iter().position(u8::is_ascii_digit)?;
    let length = input[start..].iter().position(|byte| !b"0123456789.eE+-".contains(byte));
    Some(start..length.map_or(input.len(), |length| start + length))
}

/// What stands behind the first colon, equals sign, comma or bracket from a place on, up to the next of these.
fn value_from(input: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let start = at + 1 + input[at..].iter().position(|byte| b":=,[".contains(byte))?;
    let length = input[start..].iter().position(|byte| b",]}\n".contains(byte));
    Some(start..length.map_or(input.len(), |length| start + length))
}

fn value_of(seeds: &[Vec<u8>], random: &mut ChaCha8Rng) -> Vec<u8> {
    let seed = &seeds[random.random_range(0..seeds.len())];
    let at = random.random_range(0..=seed.len());
    value_from(seed, at).map(|value| seed[value].to_vec()).unwrap_or_default()
}
