//! Frozen matrices in 8 and 4 bits, by the definitions of bitsandbytes.
//!
//! A matrix `[out, in]` is cut, row after row, into blocks of [`BLOCK`] values; a block keeps its largest magnitude, and
//! each value a code that says which part of it the value is.
//!
//! * `nf4` (Dettmers et al. 2023, arXiv 2305.14314, `quantize_4bit` with `quant_type = "nf4"` and
//!   `compress_statistics = True`): the nearest of 16 [`LEVELS`], which are quantiles of a normal distribution. The
//!   blocks' magnitudes are kept in 8 bits themselves (double quantisation): less their mean, in blocks of
//!   [`SCALE_BLOCK`], as the nearest value of [`dynamic_map`].
//! * `int8` (Dettmers et al. 2022, arXiv 2208.07339, `int8_vectorwise_quant`, here of the vectors that the blocks are
//!   instead of whole rows): the nearest of -127 to 127 parts of 127. Its magnitudes stay in f32.

use std::sync::OnceLock;

use half::bf16;
use rayon::prelude::*;

use crate::element::Element;
use crate::simd::{Lanes, multiversion};

/// Values that share a magnitude.
pub const BLOCK: usize = 64;

/// Magnitudes that share one of their own, in nf4.
pub const SCALE_BLOCK: usize = 256;

/// The levels of nf4.
pub const LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// One part of 127, rounded as bitsandbytes rounds it.
pub const PART: f32 = 7.874_016e-3;

/// A way to keep a matrix in fewer bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantisation {
    /// 8 bits a value, 0.5 for its block.
    Int8,
    /// 4 bits a value, 0.127 for its block.
    Nf4,
}

impl Quantisation {
    /// Bytes of a matrix with this many values.
    pub fn bytes(self, values: usize) -> usize {
        let blocks = values.div_ceil(BLOCK);
        match self {
            Self::Int8 => values + 4 * blocks,
            Self::Nf4 => values.div_ceil(2) + blocks + 4 * blocks.div_ceil(SCALE_BLOCK) + 4,
        }
    }
}

/// A matrix `[out, in]` in codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantised {
    shape: [usize; 2],
    quantisation: Quantisation,
    codes: Vec<u8>,
    scales: Scales,
}

/// The magnitudes of blocks.
#[derive(Debug, Clone, PartialEq)]
pub enum Scales {
    /// As they are.
    Plain(Vec<f32>),
    /// `dynamic_map()[codes[i]] * largest[i / SCALE_BLOCK] + offset`.
    Double {
        /// One per block.
        codes: Vec<u8>,
        /// The largest magnitude of each [`SCALE_BLOCK`].
        largest: Vec<f32>,
        /// The mean of all.
        offset: f32,
    },
}

impl Quantised {
    /// The codes nearest to `values`, `[out, in]` in rows, which are finite.
    pub fn new(values: &[f32], shape: [usize; 2], quantisation: Quantisation) -> Self {
        assert_eq!(values.len(), shape[0] * shape[1], "a matrix of another shape");
        let largest: Vec<f32> = values.par_chunks(BLOCK).map(largest).collect();
        let blocks = values.par_chunks(BLOCK).zip(&largest);
        let (codes, scales) = match quantisation {
            Quantisation::Int8 => {
                let mut codes = vec![0; values.len()];
                codes.par_chunks_mut(BLOCK).zip(blocks).for_each(|(codes, (block, largest))| {
                    // The reciprocal first, as PyTorch divides a number by a tensor.
                    let by = if *largest > 0.0 { 1.0 / largest * 127.0 } else { 0.0 };
                    for (code, value) in codes.iter_mut().zip(block) {
                        *code = (value * by).round_ties_even().clamp(-127.0, 127.0) as i8 as u8;
                    }
                });
                (codes, Scales::Plain(largest))
            }
            Quantisation::Nf4 => {
                let mut codes = vec![0; values.len().div_ceil(2)];
                codes.par_chunks_mut(BLOCK / 2).zip(blocks).for_each(|(codes, (block, largest))| {
                    let by = 1.0 / largest.max(1e-38);
                    for (code, pair) in codes.iter_mut().zip(block.chunks(2)) {
                        // The first of two in the high bits; a value without a second is filled up with zero.
                        let second = pair.get(1).copied().unwrap_or(0.0);
                        *code = nearest_level(pair[0] * by) << 4 | nearest_level(second * by);
                    }
                });
                (codes, Scales::double(&largest))
            }
        };
        Self { shape, quantisation, codes, scales }
    }

    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// How it is kept.
    pub fn quantisation(&self) -> Quantisation {
        self.quantisation
    }

    /// int8: one signed byte per value. nf4: two values in a byte, the first in the high bits.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The magnitudes of the blocks.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// What it is made of, to be changed by tests.
    #[cfg(test)]
    pub(crate) fn parts_mut(&mut self) -> (&mut Vec<u8>, &mut Scales) {
        (&mut self.codes, &mut self.scales)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.codes.len()
            + match &self.scales {
                Scales::Plain(scales) => 4 * scales.len(),
                Scales::Double { codes, largest, .. } => codes.len() + 4 * largest.len() + 4,
            }
    }

    /// The whole matrix, `[out, in]`.
    pub fn dequantise(&self) -> Vec<f32> {
        let [outputs, inputs] = self.shape;
        let mut values = vec![0.0; outputs * inputs];
        values.par_chunks_mut(inputs.max(1)).enumerate().for_each(|(row, values)| {
            // SAFETY: the row lies inside of both.
            unsafe { dequantise_rows(self, (row, 0), (1, inputs), values.as_mut_ptr(), inputs) }
        });
        values
    }

    /// The magnitude of every block, as values are multiplied with it.
    pub(crate) fn magnitudes(&self) -> Vec<f32> {
        let blocks = (self.shape[0] * self.shape[1]).div_ceil(BLOCK);
        (0..blocks).map(|block| self.scale(block, dynamic_map())).collect()
    }

    /// nf4 without values, whose blocks have these magnitudes as far as they can be kept.
    pub(crate) fn blank(shape: [usize; 2], magnitudes: &[f32]) -> Self {
        Self { shape, quantisation: Quantisation::Nf4, codes: Vec::new(), scales: Scales::double(magnitudes) }
    }

    /// The same blocks with one of the [`LEVELS`] for each value.
    pub(crate) fn with_codes(self, codes: &[u8]) -> Self {
        assert!(self.quantisation == Quantisation::Nf4 && codes.len() == self.shape[0] * self.shape[1]);
        let zero = nearest_level(0.0);
        let pair = |pair: &[u8]| pair[0] << 4 | pair.get(1).copied().unwrap_or(zero);
        Self { codes: codes.par_chunks(2).map(pair).collect(), ..self }
    }

    /// The magnitude of a block.
    #[inline(always)]
    fn scale(&self, block: usize, map: &[f32; 256]) -> f32 {
        match &self.scales {
            Scales::Plain(scales) => scales[block],
            Scales::Double { codes, largest, offset } => {
                map[usize::from(codes[block])] * largest[block / SCALE_BLOCK] + offset
            }
        }
    }

    /// Value `place` of the rows in one line, given the magnitude of its block.
    #[inline(always)]
    fn value(&self, place: usize, scale: f32) -> f32 {
        match self.quantisation {
            Quantisation::Int8 => f32::from(self.codes[place] as i8) * scale * PART,
            Quantisation::Nf4 => {
                let pair = self.codes[place / 2];
                let code = if place.is_multiple_of(2) { pair >> 4 } else { pair & 15 };
                LEVELS[usize::from(code)] * scale
            }
        }
    }
}

impl Scales {
    fn double(scales: &[f32]) -> Self {
        let mean = scales.iter().map(|scale| f64::from(*scale)).sum::<f64>() / scales.len().max(1) as f64;
        let offset = mean as f32;
        let bounds = midpoints(dynamic_map());
        let centred: Vec<f32> = scales.iter().map(|scale| scale - offset).collect();
        let greatest: Vec<f32> = centred.chunks(SCALE_BLOCK).map(largest).collect();
        let codes = centred.chunks(SCALE_BLOCK).zip(&greatest).flat_map(|(block, greatest)| {
            let by = 1.0 / greatest.max(1e-38);
            block.iter().map(|value| nearest(&bounds, value * by)).collect::<Vec<u8>>()
        });
        Self::Double { codes: codes.collect(), largest: greatest, offset }
    }
}

/// The 256 values between -1 and 1 that double quantisation rounds to (`create_dynamic_map(signed = True)`; Dettmers
/// 2015, arXiv 1511.04561): for each power of ten from 1e-6 to 1 the middles of 1, 2, 4, .. 64 equal parts of the range
/// from a tenth of it to the whole, of both signs; 0; and 1.
pub fn dynamic_map() -> &'static [f32; 256] {
    static MAP: OnceLock<[f32; 256]> = OnceLock::new();
    MAP.get_or_init(|| {
        let mut map = [0.0; 256];
        let mut filled = 0;
        for (exponent, power) in [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0f32].into_iter().enumerate() {
            let parts = 1usize << exponent;
            // In the order of rounding in which the original's tensors are made: from the nearer of the two ends.
            let step = (1.0 - 0.1f32) / parts as f32;
            let bound = |i: usize| match i < parts.div_ceil(2) {
                true => step.mul_add(i as f32, 0.1),
                false => (-step).mul_add((parts - i) as f32, 1.0),
            };
            for part in 0..parts {
                let middle = power * ((bound(part) + bound(part + 1)) / 2.0);
                map[filled..filled + 2].copy_from_slice(&[middle, -middle]);
                filled += 2;
            }
        }
        // One place keeps its 0.
        map[filled] = 1.0;
        map.sort_unstable_by(f32::total_cmp);
        map
    })
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// The code of the nearest of the [`LEVELS`].
#[inline(always)]
pub(crate) fn nearest_level(value: f32) -> u8 {
    // Between two levels the nearest changes in their middle, and the lower one has the middle itself.
    let below = |pair: &[f32]| u8::from((pair[0] + pair[1]) / 2.0 < value);
    LEVELS.windows(2).map(below).sum()
}

/// Between which values the nearest one changes.
fn midpoints(levels: &[f32]) -> Vec<f32> {
    levels.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect()
}

/// The number of bounds below `value`: the lower level where it lies on a bound.
fn nearest(bounds: &[f32], value: f32) -> u8 {
    bounds.partition_point(|bound| *bound < value) as u8
}

multiversion! {
    /// Columns `column..column + count` of rows `row..row + rows` into `out`, whose rows are `stride` apart.
    ///
    /// # Safety
    /// Rows and columns lie inside of the matrix, and `out` has room for them.
    pub(crate) fn dequantise_rows<E: Element>(
        matrix: &Quantised, first: (usize, usize), size: (usize, usize), out: *mut E, stride: usize,
    ) = dequantise_rows_body;
}

#[inline(always)]
unsafe fn dequantise_rows_body<L: Lanes, E: Element>(
    matrix: &Quantised,
    (row, column): (usize, usize),
    (rows, count): (usize, usize),
    out: *mut E,
    stride: usize,
) {
    let map = dynamic_map();
    for r in 0..rows {
        let first = (row + r) * matrix.shape[1] + column;
        let mut done = 0;
        while done < count {
            let place = first + done;
            let run = (BLOCK - place % BLOCK).min(count - done);
            let scale = matrix.scale(place / BLOCK, map);
            // SAFETY: as the caller promises; the run ends with its block.
            unsafe { run_of_block::<L, E>(matrix, place, run, scale, out.add(r * stride + done)) }
            done += run;
        }
    }
}

/// `count` values of one block from `place` on.
#[inline(always)]
unsafe fn run_of_block<L: Lanes, E: Element>(matrix: &Quantised, place: usize, count: usize, scale: f32, out: *mut E) {
    // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count` values, and
    // no lane past them is touched.
    unsafe {
        let factor = L::splat(scale);
        // A vector of nf4 begins with a whole byte.
        let whole = match matrix.quantisation {
            Quantisation::Nf4 if !place.is_multiple_of(2) => 0,
            _ => count / L::WIDTH * L::WIDTH,
        };
        for i in (0..whole).step_by(L::WIDTH) {
            let values = match matrix.quantisation {
                Quantisation::Int8 => {
                    L::mul(L::mul(L::load_i8(matrix.codes.as_ptr().add(place + i)), factor), L::splat(PART))
                }
                Quantisation::Nf4 => L::mul(L::look_up(matrix.codes.as_ptr().add((place + i) / 2), &LEVELS), factor),
            };
            E::store::<L>(out.add(i), L::WIDTH, values);
        }
        for i in whole..count {
            E::store::<L>(out.add(i), 1, L::splat(matrix.value(place + i, scale)));
        }
    }
}

/// Rounded as a matrix of bf16 holds them.
pub(crate) fn round(values: &mut [f32]) {
    for value in values {
        *value = bf16::from_f32(*value).to_f32();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers whose magnitudes and their mean are exact in f32, so that no order of summation matters.
    fn values(count: usize) -> Vec<f32> {
        let value = |i: usize| {
            let hash = (i as u32).wrapping_mul(2_654_435_761) >> 20;
            (hash as i64 - 2048) as f32 * (1 + i / BLOCK % 7) as f32 / 32768.0
        };
        (0..count).map(value).collect()
    }

    /// The FNV-1a hash.
    fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
    }

    fn bits(values: &[f32]) -> u64 {
        hash(values.iter().flat_map(|value| value.to_le_bytes()))
    }

    fn double(matrix: &Quantised) -> (&[u8], &[f32], f32) {
        let Scales::Double { codes, largest, offset } = matrix.scales() else { panic!("nf4 quantises twice") };
        (codes, largest, *offset)
    }

    /// From bitsandbytes 0.50.2: `get_4bit_type("nf4")`, `create_dynamic_map(signed=True)` and the factor of
    /// `int8_vectorwise_dequant`.
    #[test]
    fn tables_are_those_of_bitsandbytes_to_the_bit() {
        assert_eq!(bits(&LEVELS), 0x38e1_0558_c37c_2c71);
        assert_eq!(bits(dynamic_map()), 0xd677_f22a_9666_5bc4);
        assert_eq!(PART.to_bits(), 1_006_699_012);
    }

    /// Codes and dequantised values of `quantize_4bit(.., blocksize=64, compress_statistics=True, quant_type="nf4")` and
    /// `dequantize_4bit` of bitsandbytes 0.50.2, blocks that cross rows and a block cut short among them.
    #[test]
    fn nf4_is_that_of_bitsandbytes_to_the_bit() {
        let small = Quantised::new(&values(210), [3, 70], Quantisation::Nf4);
        let codes = "0a2e61c3f91d50b3e71c4f92e60b3e81d50a2e71c4f91d50b3e71d4fa2e61c3f81d50a2e71c4f92e60b3e81d50a2e61c3\
                     f91d50b3e71c4fa2e60b3f81d50a2e71c4f92d60b3e81d4fa2e61c3f81d50b2e71c4f92e60b3e81d50a2e71c4f91d50b3\
                     e71d4fa2e60c3f81";
        assert_eq!(small.codes().iter().map(|code| format!("{code:02x}")).collect::<String>(), codes);
        assert_eq!(double(&small), (&[0, 47, 208, 253][..], &[0.091_712_95][..], 0.154_212_95));
        assert_eq!(bits(&small.dequantise()), 0xf37b_5be4_64cf_f661);
        let large = Quantised::new(&values(300 * 64), [300, 64], Quantisation::Nf4);
        assert_eq!(hash(large.codes().iter().copied()), 0xf19c_4819_bfac_5d23);
        let (codes, largest, offset) = double(&large);
        assert_eq!(hash(codes.iter().copied()), 0x12d0_692c_22ae_28e8);
        assert_eq!((largest, offset), (&[0.190_048_22, 0.189_834_6][..], 0.247_238_16));
        assert_eq!(bits(&large.dequantise()), 0xd0ba_5428_0e68_efb7);
    }

    /// `int8_vectorwise_quant` and `int8_vectorwise_dequant` of bitsandbytes 0.50.2 on the blocks as rows.
    #[test]
    fn int8_is_that_of_bitsandbytes_to_the_bit() {
        for (shape, codes, dequantised) in [
            ([3, 70], 0xa16a_66f3_c098_819a, 0xf5f3_799b_e95d_ec87),
            ([300, 64], 0xc13a_7385_dc33_eec4, 0xbbdb_ea09_7adb_635c),
        ] {
            let matrix = Quantised::new(&values(shape[0] * shape[1]), shape, Quantisation::Int8);
            assert_eq!(hash(matrix.codes().iter().copied()), codes);
            assert_eq!(bits(&matrix.dequantise()), dequantised);
        }
    }

    /// The definition in one line for each value, in f64: what a reader would write down.
    #[test]
    fn values_follow_the_closed_form() {
        let matrix = Quantised::new(&values(1000), [10, 100], Quantisation::Nf4);
        let (scales, largest, offset) = double(&matrix);
        for (i, found) in matrix.dequantise().into_iter().enumerate() {
            let code = matrix.codes()[i / 2] >> if i % 2 == 0 { 4 } else { 0 } & 15;
            let map = f64::from(dynamic_map()[usize::from(scales[i / 64])]);
            let scale = map * f64::from(largest[i / 64 / 256]) + f64::from(offset);
            let expected = f64::from(LEVELS[usize::from(code)]) * scale;
            assert!((f64::from(found) - expected).abs() <= 2e-7 * expected.abs(), "{i}: {found} {expected}");
        }
    }

    /// Zeros stay zeros, and a single value is its own magnitude, as far as 8 bits hold that.
    #[test]
    fn blocks_without_magnitude_are_zeros() {
        for quantisation in [Quantisation::Int8, Quantisation::Nf4] {
            let matrix = Quantised::new(&[0.0; 130], [2, 65], quantisation);
            assert_eq!(matrix.dequantise(), [0.0; 130]);
            assert_eq!(Quantised::new(&[0.5], [1, 1], quantisation).dequantise(), [0.5]);
            let empty = Quantised::new(&[], [0, 64], quantisation);
            assert_eq!((empty.dequantise(), empty.shape()), (Vec::new(), [0, 64]));
        }
    }

    /// 8.5 and 4.127 bits a value.
    #[test]
    fn codes_take_the_bytes_that_are_promised() {
        for (quantisation, per_value) in [(Quantisation::Int8, 1.0625), (Quantisation::Nf4, 0.515_87)] {
            let matrix = Quantised::new(&values(576 * 576), [576, 576], quantisation);
            assert_eq!(matrix.bytes(), quantisation.bytes(576 * 576));
            assert!((matrix.bytes() as f64 / (576.0 * 576.0) - per_value).abs() < 1e-4);
            let odd = Quantised::new(&values(33 * 7), [33, 7], quantisation);
            assert_eq!(odd.bytes(), quantisation.bytes(33 * 7));
        }
    }
}
