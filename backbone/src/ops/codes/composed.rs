//! Dequantisation composed of burn's operations.

use std::ops::Range;

use burn::backend::Backend;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, FloatDType, Int, Shape, Slice, Tensor};
use kernels::{BLOCK, LEVELS, PART, Quantisation, SCALE_BLOCK};

use super::{Codes, Layout, PIECE, Parts};

/// Where the bytes of a word begin.
const BYTES: [i64; 4] = [0, 8, 16, 24];

/// Where its values of 4 bits begin: the first of two is in the high bits of their byte.
const HALVES: [i64; 8] = [4, 0, 12, 8, 20, 16, 28, 24];

/// Rows of a matrix that are dequantised together, `values` or a few more at a time. Each begins with a block, whatever the
/// width.
pub(super) fn by_pieces([outputs, inputs]: [usize; 2], values: usize) -> impl Iterator<Item = Range<usize>> {
    let step = (values / inputs.max(1)).next_multiple_of(BLOCK);
    (0..outputs).step_by(step).map(move |first| first..(first + step).min(outputs))
}

/// `x W^T`, or `x W` on the way back, a piece of the matrix after the other.
pub(super) fn product<B: Backend>(x: FloatTensor<B>, parts: &Parts<B>, back: bool) -> FloatTensor<B> {
    product_of::<B>(x, by_pieces(parts.layout.shape, PIECE), back, |rows| piece(parts, rows))
}

/// [`product`] whose pieces are dequantised by `piece`.
pub(super) fn product_of<B: Backend>(
    x: FloatTensor<B>,
    pieces: impl Iterator<Item = Range<usize>>,
    back: bool,
    piece: impl Fn(Range<usize>) -> FloatTensor<B>,
) -> FloatTensor<B> {
    if back {
        let shares = pieces.map(|rows| {
            let columns = B::float_slice(x.clone(), &[Slice::full(), slice(rows.clone())]);
            B::float_matmul(columns, piece(rows))
        });
        return shares.reduce(B::float_add).expect("a matrix has rows");
    }
    let shares = pieces.map(|rows| B::float_matmul(x.clone(), B::float_swap_dims(piece(rows), 0, 1)));
    let mut shares: Vec<_> = shares.collect();
    if shares.len() == 1 { shares.swap_remove(0) } else { B::float_cat(shares, 1) }
}

/// Rows of the matrix, `[rows, in]`, in the type of products. The first of them begins with a block.
fn piece<B: Backend>(parts: &Parts<B>, rows: Range<usize>) -> FloatTensor<B> {
    let Layout { shape: [_, inputs], quantisation, offset, dtype } = parts.layout;
    let count = rows.len() * inputs;
    let (first, end) = (rows.start * inputs / BLOCK, (rows.end * inputs).div_ceil(BLOCK));
    let blocks = end - first;
    let values = match quantisation {
        Quantisation::Int8 => {
            let codes = unpack::<B>(parts.codes.clone(), first * BLOCK / 4..end * BLOCK / 4, &BYTES);
            let codes = B::int_into_float(codes, FloatDType::F32);
            let codes = B::float_reshape(B::float_add_scalar(codes, (-128.0).into()), Shape::new([blocks, BLOCK]));
            let scales = B::float_slice(parts.scales.clone(), &[slice(first..end)]);
            let values = B::float_mul(codes, B::float_reshape(scales, Shape::new([blocks, 1])));
            B::float_mul_scalar(values, PART.into())
        }
        Quantisation::Nf4 => {
            let codes = unpack::<B>(parts.codes.clone(), first * BLOCK / 8..end * BLOCK / 8, &HALVES);
            let levels = B::float_slice(parts.tables.clone(), &[slice(0..LEVELS.len())]);
            let levels = B::float_reshape(B::float_select(levels, 0, codes), Shape::new([blocks, BLOCK]));
            // Magnitudes of whole blocks of them, and of these the part that is asked for.
            let (outer, outer_end) = (first / SCALE_BLOCK, end.div_ceil(SCALE_BLOCK));
            let all = outer * SCALE_BLOCK..outer_end * SCALE_BLOCK;
            let codes = unpack::<B>(parts.scale_codes.clone(), all.start / 4..all.end / 4, &BYTES);
            let map = B::float_slice(parts.tables.clone(), &[slice(LEVELS.len()..LEVELS.len() + 256)]);
            let scales = B::float_select(map, 0, codes);
            let scales = B::float_reshape(scales, Shape::new([outer_end - outer, SCALE_BLOCK]));
            let largest = B::float_slice(parts.scales.clone(), &[slice(outer..outer_end)]);
            let largest = B::float_reshape(largest, Shape::new([outer_end - outer, 1]));
            let scales = B::float_add_scalar(B::float_mul(scales, largest), offset.into());
            let scales = B::float_reshape(scales, Shape::new([all.len()]));
            let scales = B::float_slice(scales, &[slice(first - all.start..end - all.start)]);
            B::float_mul(levels, B::float_reshape(scales, Shape::new([blocks, 1])))
        }
    };
    let values = B::float_reshape(values, Shape::new([blocks * BLOCK]));
    let values = B::float_reshape(B::float_slice(values, &[slice(0..count)]), Shape::new([rows.len(), inputs]));
    if dtype == DType::BF16 { B::float_cast(values, FloatDType::BF16) } else { values }
}

/// The codes in some words, in the order of `places`.
fn unpack<B: Backend>(words: IntTensor<B>, range: Range<usize>, places: &[i64]) -> IntTensor<B> {
    let count = range.len();
    let words = B::int_reshape(B::int_slice(words, &[slice(range)]), Shape::new([count, 1]));
    let mask = (1i64 << (32 / places.len())) - 1;
    let code = |place: &i64| {
        let moved = B::bitwise_right_shift_scalar(words.clone(), (*place).into());
        B::bitwise_and_scalar(moved, mask.into())
    };
    B::int_reshape(B::int_cat(places.iter().map(code).collect(), 1), Shape::new([count * places.len()]))
}

fn slice(range: Range<usize>) -> Slice {
    Slice::from(range)
}

impl Codes {
    /// As `Codes::rows`.
    pub(super) fn composed_rows(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        let ([tokens], [_, inputs]) = (ids.dims(), self.layout.shape);
        let columns = Tensor::<1, Int>::arange(0..inputs as i64, &ids.device()).unsqueeze::<2>();
        let places = (ids.mul_scalar(inputs as i64).reshape([tokens, 1]) + columns).reshape([tokens * inputs]);
        let blocks = places.clone().bitwise_right_shift_scalar(BLOCK.ilog2() as i64);
        let byte = |words: &Tensor<1, Int>, places: &Tensor<1, Int>| {
            let word = words.clone().select(0, places.clone().bitwise_right_shift_scalar(2));
            let shift = places.clone().bitwise_and_scalar(3).mul_scalar(8).cast(DType::I32);
            word.bitwise_right_shift(shift).bitwise_and_scalar(255)
        };
        let values = match self.layout.quantisation {
            Quantisation::Int8 => {
                let scales = self.scales.clone().select(0, blocks);
                ((byte(&self.codes, &places).float() - 128.0) * scales).mul_scalar(PART)
            }
            Quantisation::Nf4 => {
                let word = self.codes.clone().select(0, places.clone().bitwise_right_shift_scalar(3));
                let shift = places.bitwise_and_scalar(7).bitwise_xor_scalar(1).mul_scalar(4).cast(DType::I32);
                let codes = word.bitwise_right_shift(shift).bitwise_and_scalar(15);
                let greater = blocks.clone().bitwise_right_shift_scalar(SCALE_BLOCK.ilog2() as i64);
                let scale_codes = byte(&self.scale_codes, &blocks) + LEVELS.len() as i64;
                let scales = self.tables.clone().select(0, scale_codes) * self.scales.clone().select(0, greater);
                self.tables.clone().select(0, codes) * (scales + self.layout.offset)
            }
        };
        values.reshape([tokens, inputs]).cast(self.layout.dtype)
    }
}
