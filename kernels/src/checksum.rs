//! Sums by which memory that nobody writes is known again.

use rayon::prelude::*;

use crate::packed::{Packed, Values};
use crate::quantised::{Quantised, Scales};

/// Words that a thread sums at once.
const PIECE: usize = 1 << 16;

/// The sum of words modulo 2^64: any order gives the same, and one word with other bits gives another.
fn sum<T: Sync>(values: &[T], word: impl Fn(&T) -> u32 + Sync) -> u64 {
    let piece = |piece: &[T]| piece.iter().fold(0u64, |sum, value| sum.wrapping_add(word(value).into()));
    values.par_chunks(PIECE).map(piece).reduce(|| 0, u64::wrapping_add)
}

impl Packed {
    /// A sum of all that is held, modulo 2^64, which is another one where a bit has turned over.
    pub fn checksum(&self) -> u64 {
        match &self.values {
            Values::F32(values) => sum(values, |value| value.to_bits()),
            Values::Bf16(words) => sum(words, |word| *word),
            Values::Coded(coded) => coded.matrix.checksum(),
        }
    }
}

impl Quantised {
    /// As [`Packed::checksum`], of codes and magnitudes.
    pub fn checksum(&self) -> u64 {
        let bytes = |bytes: &[u8]| sum(bytes, |byte| u32::from(*byte));
        let floats = |values: &[f32]| sum(values, |value| value.to_bits());
        let scales = match self.scales() {
            Scales::Plain(scales) => floats(scales),
            Scales::Double { codes, largest, offset } => {
                bytes(codes).wrapping_add(floats(largest)).wrapping_add(offset.to_bits().into())
            }
        };
        bytes(self.codes()).wrapping_add(scales)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Precision, Quantisation};

    const SHAPE: [usize; 2] = [70, 130];

    fn values() -> Vec<f32> {
        (0..SHAPE[0] * SHAPE[1]).map(|i| (i as f32 * 0.37).sin()).collect()
    }

    #[test]
    fn a_bit_that_turns_over_gives_another_sum() {
        for precision in [Precision::F32, Precision::Bf16] {
            let packed = Packed::new(&values(), SHAPE, (SHAPE[1], 1), 1.0, precision);
            assert_eq!(packed.checksum(), packed.clone().checksum());
            for (at, bit) in [(0, 0), (17, 5), (4000, 31), (300, 16)] {
                let mut other = packed.clone();
                match &mut other.values {
                    Values::F32(values) => values[at] = f32::from_bits(values[at].to_bits() ^ 1 << bit),
                    Values::Bf16(words) => words[at] ^= 1 << bit,
                    Values::Coded(_) => unreachable!("packed as values"),
                }
                assert_ne!(other.checksum(), packed.checksum(), "{precision:?} {at} {bit}");
            }
        }
        for quantisation in [Quantisation::Int8, Quantisation::Nf4] {
            let matrix = Quantised::new(&values(), SHAPE, quantisation);
            let packed = Packed::quantised(matrix.clone(), Precision::F32);
            assert_eq!(packed.checksum(), matrix.checksum());
            let changed = |change: &dyn Fn(&mut Vec<u8>, &mut Scales)| {
                let mut other = matrix.clone();
                let (codes, scales) = other.parts_mut();
                change(codes, scales);
                other.checksum()
            };
            assert_eq!(changed(&|_, _| ()), matrix.checksum());
            assert_ne!(changed(&|codes, _| codes[999] ^= 1 << 7), matrix.checksum());
            let flip = |value: &mut f32| *value = f32::from_bits(value.to_bits() ^ 1);
            let in_scales = |_: &mut Vec<u8>, scales: &mut Scales| match scales {
                Scales::Plain(scales) => flip(&mut scales[3]),
                Scales::Double { offset, .. } => flip(offset),
            };
            assert_ne!(changed(&in_scales), matrix.checksum());
        }
    }
}
