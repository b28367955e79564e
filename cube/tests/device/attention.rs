//! The kernels of attention against attention in f64, one score at a time: every width, grouped heads, windows, caps, documents,
//! trees, rows padded on the left, queries that are the last of more keys.

use cube::{Attention, AttentionForward, AttentionGradients, Buffer, Heads};
use cubecl::client::Client;
use cubecl::ir::{ElemType, FloatKind, UIntKind};
use cubecl::prelude::*;
use half::bf16;

const F32: ElemType = ElemType::Float(FloatKind::F32);
const BF16: ElemType = ElemType::Float(FloatKind::BF16);

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    All,
    /// Documents of so many positions, one more in each row of the batch.
    Documents(usize),
    /// A stem of so many, then branches of so many.
    Tree(usize, usize),
    /// Rows padded on the left by so many, one more in each.
    Padded(usize),
}

impl Seen {
    /// Ends and depths of the keys of every row.
    fn ends(self, batch: usize, keys: usize) -> Option<[Vec<u32>; 2]> {
        let of = |row: usize, key: usize| match self {
            Self::All => (keys, key),
            Self::Documents(length) => {
                let length = length + row;
                ((key / length + 1) * length, key % length)
            }
            Self::Tree(stem, _) if key < stem => (keys, key),
            Self::Tree(stem, branch) => (stem + ((key - stem) / branch + 1) * branch, stem + (key - stem) % branch),
            Self::Padded(padding) => (if key < padding + row { key + 1 } else { keys }, key),
        };
        let all: Vec<(usize, usize)> = (0..batch).flat_map(|row| (0..keys).map(move |key| of(row, key))).collect();
        let ends = all.iter().map(|(end, _)| (*end).min(keys) as u32).collect();
        (self != Self::All).then(|| [ends, all.iter().map(|(_, depth)| *depth as u32).collect()])
    }
}

/// Numbers that `element` holds, between -2 and 2.
fn numbers(count: usize, seed: u64, element: ElemType) -> Vec<f64> {
    let mut state = seed;
    let mut draw = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 22) as f32 - 2.0
    };
    let round = |x: f32| if element == BF16 { bf16::from_f32(x).to_f32() } else { x };
    (0..count).map(|_| f64::from(round(draw()))).collect()
}

fn buffer(client: &Client, values: &[f64], element: ElemType) -> Buffer {
    let floats: Vec<f32> = values.iter().map(|value| *value as f32).collect();
    let halves: Vec<bf16> = floats.iter().map(|value| bf16::from_f32(*value)).collect();
    let bytes = if element == BF16 { bf16::as_bytes(&halves) } else { f32::as_bytes(&floats) };
    Buffer { handle: client.create_from_slice(bytes), length: values.len(), element }
}

fn read(client: &Client, buffer: &Buffer) -> Vec<f64> {
    let bytes = client.read_one(buffer.handle.clone()).expect("the kernels ran");
    let values: Vec<f64> = match buffer.element == BF16 {
        true => bf16::from_bytes(&bytes).iter().map(|value| f64::from(*value)).collect(),
        false => f32::from_bytes(&bytes).iter().map(|value| f64::from(*value)).collect(),
    };
    values[..buffer.length].to_vec()
}

/// Output and gradients of queries, keys and values, each `[batch, positions, heads, width]`, given these in one matrix of rows
/// `[q | k | v]` and the gradient of the output.
fn expected(shape: Attention, qkv: &[f64], gradient: &[f64], seen: Option<&[Vec<u32>; 2]>) -> [Vec<f64>; 4] {
    let Attention { batch, queries, keys, heads, key_heads, width, scale, cap, window } = shape;
    let row = (heads + 2 * key_heads) * width;
    let (of_queries, of_keys) = (batch * queries * heads * width, batch * keys * key_heads * width);
    let mut found = [of_queries, of_queries, of_keys, of_keys].map(|count| vec![0.0; count]);
    for (b, h, i) in (0..batch).flat_map(|b| (0..heads).flat_map(move |h| (0..queries).map(move |i| (b, h, i)))) {
        let (kh, query) = (h / (heads / key_heads), keys - queries + i);
        let part = |position: usize, first: usize| &qkv[(b * keys + position) * row + first * width..][..width];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let sees = |key: usize| {
            let far = |distance: usize| window.is_none_or(|window| distance < window);
            match seen {
                None => far(query - key),
                Some([ends, depths]) => {
                    let depth = |position: usize| depths[b * keys + position] as usize;
                    query < ends[b * keys + key] as usize && far(depth(query).saturating_sub(depth(key)))
                }
            }
        };
        let at = ((b * queries + i) * heads + h) * width;
        let given = &gradient[at..at + width];
        let scores: Vec<(usize, f64, f64, f64)> = (0..=query)
            .filter(|key| sees(*key))
            .map(|key| {
                let score = dot(part(query, h), part(key, heads + kh)) * f64::from(scale);
                let (score, slope) = match cap.map(f64::from) {
                    Some(cap) => (cap * (score / cap).tanh(), 1.0 - (score / cap).tanh().powi(2)),
                    None => (score, 1.0),
                };
                (key, score.exp(), slope, dot(given, part(key, heads + key_heads + kh)))
            })
            .collect();
        let total: f64 = scores.iter().map(|score| score.1).sum();
        let mean: f64 = scores.iter().map(|score| score.1 / total * score.3).sum();
        for (key, share, slope, toward) in scores {
            let share = share / total;
            let slope = share * (toward - mean) * slope * f64::from(scale);
            let to = ((b * keys + key) * key_heads + kh) * width;
            for c in 0..width {
                found[0][at + c] += share * part(key, heads + key_heads + kh)[c];
                found[1][at + c] += slope * part(key, heads + kh)[c];
                found[2][to + c] += slope * part(query, h)[c];
                found[3][to + c] += share * given[c];
            }
        }
    }
    found
}

fn relative(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let squares: f64 = found.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
    (squares / expected.iter().map(|b| b.powi(2)).sum::<f64>()).sqrt()
}

/// Runs the kernels on one matrix of rows `[q | k | v]`, or on heads that stand apart, and holds them against f64.
fn trial(shape: Attention, seen: Seen, element: ElemType) {
    let client = cubecl::Device::Cuda(Default::default()).client();
    let Attention { batch, queries, keys, heads, key_heads, width, .. } = shape;
    if cube::attention_fits(&client, width, element).is_err() {
        assert!(element == F32 && width == 256, "{width}, {element:?}");
        return;
    }
    let row = (heads + 2 * key_heads) * width;
    let qkv = numbers(batch * keys * row, 7, element);
    let gradient = numbers(batch * queries * heads * width, 11, element);
    let ends = seen.ends(batch, keys);
    let all = buffer(&client, &qkv, element);
    let part = |first: usize, positions: usize| {
        let skipped = ((keys - positions) * row + first * width) * element.size();
        let handle = all.handle.clone().offset_start(skipped as u64);
        Buffer { handle, length: all.length - skipped / element.size(), element }
    };
    let place = Heads { batch: (keys * row) as i64, head: width as i64, position: row as i64 };
    let given = AttentionForward {
        inputs: [part(0, queries), part(heads, keys), part(heads + key_heads, keys)],
        heads: [place; 3],
        seen: ends.as_ref().map(|[ends, depths]| {
            let words = cube::seen(ends, depths, keys);
            let element = ElemType::UInt(UIntKind::U32);
            Buffer { handle: client.create_from_slice(u32::as_bytes(&words)), length: words.len(), element }
        }),
    };
    let of_queries = batch * queries * heads;
    let output = Buffer::empty(&client, of_queries * width, element);
    let log_sums = Buffer::empty(&client, of_queries, F32);
    cube::attention(&client, shape, &given, &output, &log_sums);
    let into = [of_queries, batch * keys * key_heads, batch * keys * key_heads]
        .map(|count| Buffer::empty(&client, count * width, element));
    let gradient_on = buffer(&client, &gradient, element);
    let back =
        AttentionGradients { output: &output, log_sums: &log_sums, gradient: &gradient_on, into: into.each_ref() };
    cube::attention_backward(&client, shape, &given, &back);
    let expected = expected(shape, &qkv, &gradient, ends.as_ref());
    let limit = if element == BF16 { 4e-3 } else { 2e-6 };
    for (name, (found, expected)) in
        ["output", "dq", "dk", "dv"].iter().zip([&output, &into[0], &into[1], &into[2]].into_iter().zip(&expected))
    {
        let error = relative(&read(&client, found), expected);
        assert!(error <= limit, "{shape:?} {seen:?} {element:?}: {name} is off by {error:.1e}");
    }
}

fn shape(batch: usize, keys: usize, heads: [usize; 2], width: usize) -> Attention {
    let [heads, key_heads] = heads;
    let scale = (width as f32).sqrt().recip();
    Attention { batch, queries: keys, keys, heads, key_heads, width, scale, cap: None, window: None }
}

fn of_width(width: usize) {
    for element in [BF16, F32] {
        trial(shape(1, 70, [2, 1], width), Seen::All, element);
        trial(shape(1, 133, [2, 2], width), Seen::Documents(41), element);
    }
}

#[test]
fn a_width_that_is_no_power_of_two_is_attention_in_f64() {
    of_width(80);
}

/// Half a minute of compilation on the emulator:
/// `CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$PWD/tools/emulator/emulate cargo test --release --locked --workspace
/// --features cuda-untuned --test device -- --ignored`
#[test]
#[ignore = "kernels for ten more kinds of heads are half a minute of compilation on the emulator"]
fn every_width_is_attention_in_f64() {
    for width in [16, 64, 96, 128, 256] {
        of_width(width);
    }
}

#[test]
fn every_visibility_is_attention_in_f64() {
    for element in [BF16, F32] {
        trial(shape(2, 64, [2, 1], 64), Seen::All, element);
        trial(shape(2, 200, [4, 2], 64), Seen::Documents(29), element);
        trial(shape(1, 150, [2, 1], 64), Seen::Tree(20, 13), element);
        trial(Attention { window: Some(25), cap: Some(3.0), ..shape(1, 150, [2, 1], 64) }, Seen::Tree(20, 13), element);
        trial(Attention { cap: Some(5.0), ..shape(1, 150, [2, 2], 64) }, Seen::All, element);
        trial(Attention { window: Some(37), ..shape(1, 210, [2, 1], 64) }, Seen::All, element);
        trial(Attention { window: Some(17), ..shape(1, 210, [2, 1], 64) }, Seen::Documents(150), element);
        trial(shape(3, 70, [2, 1], 64), Seen::Padded(9), element);
        trial(Attention { queries: 37, ..shape(2, 150, [4, 1], 64) }, Seen::All, element);
        trial(Attention { queries: 1, ..shape(2, 65, [4, 1], 64) }, Seen::Padded(3), element);
    }
}
