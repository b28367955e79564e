//! A matrix in the order in which products read it.
//!
//! Columns of the product, which are rows `[out]` of a weight `[out, in]`, stand in strips of [`STRIP`]; in a strip all
//! values of one `in` are neighbours (f32), or all pairs of two neighbouring `in` (bf16, as the dot product instruction
//! takes them). The last strip, and the last pair, are filled up with zeros. A quantised matrix keeps its codes, and
//! products pack strips of it while they run.

use std::sync::Arc;

use rayon::prelude::*;

use crate::coded::Coded;
use crate::parallel::Build;
use crate::quantised::{Quantised, dequantise_rows, round};
use crate::simd::{Lanes, multiversion};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Level, level};

/// Columns of a strip: two vectors of AVX-512.
pub(crate) const STRIP: usize = 32;

/// In which type a matrix is packed; what it is multiplied with is rounded to the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Products and sums in f32.
    F32,
    /// Products of bf16, summed in f32.
    Bf16,
}

/// A packed matrix, `[out, in]`.
#[derive(Debug, Clone)]
pub struct Packed {
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    /// Steps (of one `in`, or of two) from one strip to the next.
    pub(crate) stride: usize,
    pub(crate) values: Values,
}

/// Strip after strip.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    /// `[strips][in][STRIP]`
    F32(Vec<f32>),
    /// `[strips][in / 2][STRIP]`, each the pair of two `in`, the even one in the low bits.
    Bf16(Vec<u32>),
    /// Packed strip by strip when it is read.
    Coded(Coded),
}

/// The bits of the nearest bf16, ties to even, without a branch: the matrices of adapters are packed in every step.
fn bits(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if value.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

impl Packed {
    /// Packs a matrix `[out, in]` of which value `(o, i)` stands at `o * strides.0 + i * strides.1`, times `scale`.
    pub fn new(
        values: &[f32],
        [outputs, inputs]: [usize; 2],
        strides: (usize, usize),
        scale: f32,
        precision: Precision,
    ) -> Self {
        let last = outputs.saturating_sub(1) * strides.0 + inputs.saturating_sub(1) * strides.1;
        assert!(outputs == 0 || inputs == 0 || last < values.len(), "the strides lead out of the matrix");
        // The values of one input in the order in which they are written, zero behind the last.
        let strip_of = |strip: usize, input: usize| {
            let mut found = [0.0; STRIP];
            if input < inputs {
                let columns = strip * STRIP..outputs.min((strip + 1) * STRIP);
                for (to, column) in found.iter_mut().zip(columns) {
                    *to = values[column * strides.0 + input * strides.1] * scale;
                }
            }
            found
        };
        let strips = outputs.div_ceil(STRIP);
        let values = match precision {
            Precision::F32 => {
                let mut packed = vec![0.0; strips * inputs * STRIP];
                packed.par_chunks_mut((inputs * STRIP).max(1)).enumerate().for_each(|(strip, packed)| {
                    for (input, packed) in packed.chunks_exact_mut(STRIP).enumerate() {
                        packed.copy_from_slice(&strip_of(strip, input));
                    }
                });
                Values::F32(packed)
            }
            Precision::Bf16 => {
                let pairs = inputs.div_ceil(2);
                let mut packed = vec![0; strips * pairs * STRIP];
                packed.par_chunks_mut((pairs * STRIP).max(1)).enumerate().for_each(|(strip, packed)| {
                    for (pair, packed) in packed.chunks_exact_mut(STRIP).enumerate() {
                        let both = strip_of(strip, 2 * pair).into_iter().zip(strip_of(strip, 2 * pair + 1));
                        packed.iter_mut().zip(both).for_each(|(to, (low, high))| *to = bits(low) | bits(high) << 16);
                    }
                });
                Values::Bf16(packed)
            }
        };
        let stride = match precision {
            Precision::F32 => inputs,
            Precision::Bf16 => inputs.div_ceil(2),
        };
        Self { outputs, inputs, stride, values }
    }

    /// A matrix that stays in codes; products are those of its values in `precision`, to the bit.
    pub fn quantised(matrix: Quantised, precision: Precision) -> Self {
        let [outputs, inputs] = matrix.shape();
        Self::coded(Coded { matrix: Arc::new(matrix), precision, turned: None }, outputs, inputs)
    }

    fn coded(coded: Coded, outputs: usize, inputs: usize) -> Self {
        let stride = match coded.precision {
            Precision::F32 => inputs,
            Precision::Bf16 => inputs.div_ceil(2),
        };
        Self { outputs, inputs, stride, values: Values::Coded(coded) }
    }

    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        [self.outputs, self.inputs]
    }

    /// The type in which the values take part in products.
    pub fn precision(&self) -> Precision {
        match &self.values {
            Values::F32(_) => Precision::F32,
            Values::Bf16(_) => Precision::Bf16,
            Values::Coded(coded) => coded.precision,
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match &self.values {
            Values::F32(values) => values.len() * 4,
            Values::Bf16(values) => values.len() * 4,
            Values::Coded(coded) => coded.matrix.bytes(),
        }
    }

    /// Row `output` of the matrix, `[in]`: an embedding's lookup.
    pub fn row(&self, output: usize, row: &mut [f32]) {
        assert!(output < self.outputs && row.len() == self.inputs, "a row of another matrix");
        let (strip, column) = (output / STRIP, output % STRIP);
        match &self.values {
            Values::F32(values) => {
                let strip = &values[strip * self.inputs * STRIP..];
                for (input, value) in row.iter_mut().enumerate() {
                    *value = strip[input * STRIP + column];
                }
            }
            Values::Bf16(values) => {
                let strip = &values[strip * self.inputs.div_ceil(2) * STRIP..];
                for (input, value) in row.iter_mut().enumerate() {
                    let pair = strip[input / 2 * STRIP + column];
                    *value = f32::from_bits(if input % 2 == 0 { pair << 16 } else { pair & 0xffff_0000 });
                }
            }
            Values::Coded(coded) => {
                // SAFETY: the row was compared with the matrix's shape; a transpose is never asked for a row.
                unsafe { dequantise_rows(&coded.matrix, (output, 0), (1, self.inputs), row.as_mut_ptr(), self.inputs) }
                if coded.precision == Precision::Bf16 {
                    round(row);
                }
            }
        }
    }

    /// The transpose of rows `outputs` of the matrix, packed the same way: `[in, rows]`. The way back through a product
    /// needs it; it is made when it is needed, because it costs less than a hundredth of the product and as much memory
    /// as the matrix. `rows.start` is a multiple of [`STRIP`].
    pub(crate) fn transposed(&self, rows: std::ops::Range<usize>) -> Self {
        assert!(rows.start.is_multiple_of(STRIP) && rows.end <= self.outputs, "rows of whole strips");
        let count = rows.len();
        let first = rows.start / STRIP;
        let filled = count.next_multiple_of(STRIP);
        let (stride, values) = match &self.values {
            Values::Coded(coded) => {
                let turned = Coded { turned: Some(rows), ..coded.clone() };
                return Self::coded(turned, self.inputs, count);
            }
            Values::F32(values) => {
                (filled, Values::F32(transpose(values, first, count, self.inputs, self.stride, filled, 1)))
            }
            Values::Bf16(values) => {
                (filled / 2, Values::Bf16(transpose(values, first, count, self.inputs, self.stride, filled / 2, 2)))
            }
        };
        Self { outputs: self.inputs, inputs: count, stride, values }
    }
}

/// Transposes strips of `from_steps` steps into strips of `to_steps`, in blocks of a strip squared. `lanes` values share
/// a word.
fn transpose<T: Copy + Send + Sync + Default + Word>(
    values: &[T],
    first: usize,
    count: usize,
    inputs: usize,
    from_steps: usize,
    to_steps: usize,
    lanes: usize,
) -> Vec<T> {
    let (strips, blocks) = (count.div_ceil(STRIP), inputs.div_ceil(STRIP));
    let steps = STRIP / lanes;
    let build = Build::<T>::new(blocks * to_steps * STRIP);
    let build_pointer = &build;
    // All rows of a column of blocks: what one task writes is one strip.
    (0..blocks).into_par_iter().for_each(|block| {
        for strip in 0..strips {
            let from = ((first + strip) * from_steps + block * steps) * STRIP;
            let available = steps.min(from_steps - block * steps);
            let mut source = [T::default(); STRIP * STRIP];
            let source = if available == steps {
                &values[from..from + steps * STRIP]
            } else {
                source[..available * STRIP].copy_from_slice(&values[from..from + available * STRIP]);
                &source[..steps * STRIP]
            };
            // SAFETY: each block has a place of its own, and all of them together fill the memory.
            unsafe {
                let to = build_pointer.at((block * to_steps + strip * steps) * STRIP);
                T::transpose_block(source.as_ptr(), to);
            }
        }
    });
    // SAFETY: all blocks of all strips were written.
    unsafe { build.finish() }
}

/// A word of a packed matrix that knows how a block of a strip squared is turned.
trait Word: Sized {
    /// # Safety
    /// Both point to a block: for f32 `STRIP * STRIP` words, for pairs of bf16 half as many.
    unsafe fn transpose_block(from: *const Self, to: *mut Self);
}

impl Word for f32 {
    unsafe fn transpose_block(from: *const Self, to: *mut Self) {
        // SAFETY: as the caller promises: a block is a strip of as many steps.
        unsafe { transpose_words(from.cast(), to.cast(), STRIP) }
    }
}

impl Word for u32 {
    unsafe fn transpose_block(from: *const Self, to: *mut Self) {
        // Word (p, n) of the source holds the values (2p, n) and (2p + 1, n). Turned as words it is row-major: row n
        // has its values side by side. Two neighbouring rows are then woven into pairs.
        let mut rows = [0u32; STRIP * STRIP / 2];
        // SAFETY: a block of pairs has half as many steps; `rows` holds all of its words.
        unsafe {
            transpose_words(from, rows.as_mut_ptr(), STRIP / 2);
            weave(rows.as_ptr(), to);
        }
    }
}

/// `[steps][STRIP]` words to `[STRIP][steps]`.
///
/// # Safety
/// Both point to `steps * STRIP` words; `steps` is a multiple of 16.
pub(crate) unsafe fn transpose_words(from: *const u32, to: *mut u32, steps: usize) {
    #[cfg(target_arch = "x86_64")]
    match level() {
        Level::Avx512 | Level::Avx512F => {
            for (row, column) in (0..steps).step_by(16).flat_map(|row| [(row, 0), (row, 16)]) {
                // SAFETY: AVX-512 is there; 16 rows and columns from here on lie inside of the block.
                unsafe { x86::transpose16(from.add(row * STRIP + column), STRIP, to.add(column * steps + row), steps) }
            }
            return;
        }
        Level::Avx2 => {
            for (row, column) in (0..steps).step_by(8).flat_map(|row| [(row, 0), (row, 8), (row, 16), (row, 24)]) {
                // SAFETY: AVX2 is there; 8 rows and columns from here on lie inside of the block.
                unsafe { x86::transpose8(from.add(row * STRIP + column), STRIP, to.add(column * steps + row), steps) }
            }
            return;
        }
        Level::Neon | Level::Portable => {}
    }
    for row in 0..steps {
        for column in 0..STRIP {
            // SAFETY: the row is below `steps` and the column below the strip's.
            unsafe { *to.add(column * steps + row) = *from.add(row * STRIP + column) }
        }
    }
}

multiversion! {
    /// Rows `[STRIP][STRIP]` of bf16 to `[STRIP / 2][STRIP]` pairs of two rows.
    ///
    /// # Safety
    /// Both point to half of `STRIP * STRIP` words.
    pub(crate) fn weave(from: *const u32, to: *mut u32) = weave_body;
}

#[inline(always)]
unsafe fn weave_body<L: Lanes>(from: *const u32, to: *mut u32) {
    let from = from.cast::<u16>();
    for pair in 0..STRIP / 2 {
        for column in 0..STRIP {
            // SAFETY: inside of the two blocks.
            unsafe {
                let even = u32::from(*from.add(2 * pair * STRIP + column));
                let odd = u32::from(*from.add((2 * pair + 1) * STRIP + column));
                *to.add(pair * STRIP + column) = even | odd << 16;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Transposes 8 by 8 words.
    ///
    /// # Safety
    /// AVX2 is there; `from` has 8 rows of `from_stride`, `to` of `to_stride` words.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn transpose8(from: *const u32, from_stride: usize, to: *mut u32, to_stride: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            let mut a = [_mm256_setzero_ps(); 8];
            for (row, a) in a.iter_mut().enumerate() {
                *a = _mm256_loadu_ps(from.add(row * from_stride).cast());
            }
            // Four by four inside of the halves of each vector: words, then pairs of words.
            let mut b = a;
            for group in [0, 4] {
                let low01 = _mm256_unpacklo_ps(a[group], a[group + 1]);
                let high01 = _mm256_unpackhi_ps(a[group], a[group + 1]);
                let low23 = _mm256_unpacklo_ps(a[group + 2], a[group + 3]);
                let high23 = _mm256_unpackhi_ps(a[group + 2], a[group + 3]);
                b[group] = _mm256_shuffle_ps::<0b01_00_01_00>(low01, low23);
                b[group + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(low01, low23);
                b[group + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(high01, high23);
                b[group + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(high01, high23);
            }
            // Then the halves themselves.
            for column in 0..4 {
                let low = _mm256_permute2f128_ps::<0x20>(b[column], b[4 + column]);
                let high = _mm256_permute2f128_ps::<0x31>(b[column], b[4 + column]);
                _mm256_storeu_ps(to.add(column * to_stride).cast(), low);
                _mm256_storeu_ps(to.add((4 + column) * to_stride).cast(), high);
            }
        }
    }

    /// Transposes 16 by 16 words.
    ///
    /// # Safety
    /// AVX-512 is there; `from` has 16 rows of `from_stride`, `to` of `to_stride` words.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn transpose16(from: *const u32, from_stride: usize, to: *mut u32, to_stride: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            let mut a = [_mm512_setzero_si512(); 16];
            for (row, a) in a.iter_mut().enumerate() {
                *a = _mm512_loadu_si512(from.add(row * from_stride).cast());
            }
            // Four by four inside of the quarters of each vector: words, then pairs of words.
            let mut b = a;
            for group in (0..16).step_by(4) {
                let low01 = _mm512_unpacklo_epi32(a[group], a[group + 1]);
                let high01 = _mm512_unpackhi_epi32(a[group], a[group + 1]);
                let low23 = _mm512_unpacklo_epi32(a[group + 2], a[group + 3]);
                let high23 = _mm512_unpackhi_epi32(a[group + 2], a[group + 3]);
                b[group] = _mm512_unpacklo_epi64(low01, low23);
                b[group + 1] = _mm512_unpackhi_epi64(low01, low23);
                b[group + 2] = _mm512_unpacklo_epi64(high01, high23);
                b[group + 3] = _mm512_unpackhi_epi64(high01, high23);
            }
            // Then the quarters themselves, four by four.
            for column in 0..4 {
                let (q0, q1, q2, q3) = (b[column], b[4 + column], b[8 + column], b[12 + column]);
                let low01 = _mm512_shuffle_i32x4::<0b10_00_10_00>(q0, q1);
                let high01 = _mm512_shuffle_i32x4::<0b11_01_11_01>(q0, q1);
                let low23 = _mm512_shuffle_i32x4::<0b10_00_10_00>(q2, q3);
                let high23 = _mm512_shuffle_i32x4::<0b11_01_11_01>(q2, q3);
                let rows = [
                    _mm512_shuffle_i32x4::<0b10_00_10_00>(low01, low23),
                    _mm512_shuffle_i32x4::<0b10_00_10_00>(high01, high23),
                    _mm512_shuffle_i32x4::<0b11_01_11_01>(low01, low23),
                    _mm512_shuffle_i32x4::<0b11_01_11_01>(high01, high23),
                ];
                for (quarter, row) in rows.into_iter().enumerate() {
                    _mm512_storeu_si512(to.add((4 * quarter + column) * to_stride).cast(), row);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn rounding_is_that_of_bf16() {
        let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, f32::MAX, 1e-40];
        let drawn = (0..200_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)));
        // In the middle of two: to the even one.
        let ties = (0..1000u32)
            .map(|i| f32::from_bits(i << 20 | 0x8000))
            .chain((0..1000).map(|i| f32::from_bits(i << 16 | 0x8000)));
        for value in special.into_iter().chain(drawn).chain(ties) {
            assert_eq!(bits(value), u32::from(bf16::from_f32(value).to_bits()), "{value} {:x}", value.to_bits());
        }
    }

    fn matrix(outputs: usize, inputs: usize) -> Vec<f32> {
        (0..outputs * inputs).map(|i| bf16::from_f32((i as f32 * 0.7).sin()).to_f32()).collect()
    }

    #[test]
    fn rows_come_back_and_a_transpose_is_the_packing_of_the_transpose() {
        for (outputs, inputs) in [(47, 31), (64, 64), (33, 96), (1, 2), (128, 70)] {
            let values = matrix(outputs, inputs);
            for precision in [Precision::F32, Precision::Bf16] {
                let packed = Packed::new(&values, [outputs, inputs], (inputs, 1), 1.0, precision);
                let mut row = vec![0.0; inputs];
                for output in 0..outputs {
                    packed.row(output, &mut row);
                    assert_eq!(row, values[output * inputs..(output + 1) * inputs]);
                }
                for rows in [0..outputs, 0..outputs.min(40), 32.min(outputs / 32 * 32)..outputs] {
                    let turned = packed.transposed(rows.clone());
                    assert_eq!(turned.shape(), [inputs, rows.len()]);
                    // A strip of the transpose is filled up to whole strips of rows.
                    let steps = turned.stride;
                    for (input, row) in (0..inputs).flat_map(|input| rows.clone().map(move |row| (input, row))) {
                        let (strip, column, step) = (input / STRIP, input % STRIP, row - rows.start);
                        let found = match &turned.values {
                            Values::F32(values) => values[(strip * steps + step) * STRIP + column],
                            Values::Bf16(values) => {
                                let pair = values[(strip * steps + step / 2) * STRIP + column];
                                f32::from_bits(if step % 2 == 0 { pair << 16 } else { pair & 0xffff_0000 })
                            }
                            Values::Coded(_) => unreachable!("it was packed from values"),
                        };
                        assert_eq!(found, values[row * inputs + input], "{input} {row}");
                    }
                }
            }
        }
    }
}
