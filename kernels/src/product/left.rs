//! The left side of a product.

use std::borrow::Cow;

use half::bf16;

use super::segment::{LeftSide, RightSide, Segment};
use super::tile::FEW_ROWS;
use crate::element::Element;
use crate::packed::{Packed, Precision, STRIP, Values};
use crate::simd::level;

/// The left side of a product in the type its right side asks for.
pub(crate) enum Left<'a> {
    /// `[rows, inputs]`
    F32(Cow<'a, [f32]>),
    /// `[rows, stride]` with an even stride.
    Bf16 {
        /// Zero behind the inputs.
        values: Cow<'a, [bf16]>,
        stride: usize,
    },
}

impl<'a> Left<'a> {
    /// Values `[rows, inputs]` for products with matrices of `precision`.
    pub(crate) fn new<E: Element>(values: &'a [E], inputs: usize, precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32(match as_f32(values) {
                Some(values) => Cow::Borrowed(values),
                None => Cow::Owned(crate::convert(values)),
            }),
            Precision::Bf16 => {
                let values = match as_bf16(values) {
                    Some(values) => Cow::Borrowed(values),
                    None => Cow::Owned(crate::convert(values)),
                };
                if inputs.is_multiple_of(2) {
                    return Self::Bf16 { values, stride: inputs };
                }
                let padded = values.chunks(inputs.max(1)).flat_map(|row| row.iter().copied().chain([bf16::ZERO]));
                Self::Bf16 { values: Cow::Owned(padded.collect()), stride: inputs + 1 }
            }
        }
    }

    /// The segment of columns `offset..` of the left side (an even offset for bf16) and a packed matrix.
    /// `rows` of it take part.
    pub(crate) fn segment(&self, rows: usize, inputs: usize, offset: usize, right: &Packed) -> Segment {
        const SAME: &str = "both sides have the precision they were made for";
        let strip = right.stride * STRIP;
        match self {
            Self::F32(left) => {
                let words: *const u32 = match &right.values {
                    Values::F32(values) => values.as_ptr().cast(),
                    Values::Coded(_) => std::ptr::null(),
                    Values::Bf16(_) => unreachable!("{SAME}"),
                };
                let left = LeftSide::Rows(left[offset..].as_ptr().cast(), inputs);
                Segment { left, right: RightSide::Strips(words, strip), steps: right.inputs, pairs: false }
            }
            Self::Bf16 { values: left, stride } => {
                let words = match &right.values {
                    Values::Bf16(values) => values.as_ptr(),
                    Values::Coded(_) => std::ptr::null(),
                    Values::F32(_) => unreachable!("{SAME}"),
                };
                assert!(offset.is_multiple_of(2), "pairs begin at even places");
                let left = left[offset..].as_ptr();
                if level().multiplies_pairs() || rows <= FEW_ROWS {
                    let left = LeftSide::Rows(left.cast(), stride / 2);
                    let steps = right.inputs.div_ceil(2);
                    return Segment { left, right: RightSide::Strips(words, strip), steps, pairs: true };
                }
                let left = LeftSide::Halves(left, *stride);
                Segment { left, right: RightSide::PairStrips(words, strip), steps: right.inputs, pairs: false }
            }
        }
    }
}

fn as_f32<E: Element>(values: &[E]) -> Option<&[f32]> {
    // SAFETY: `Element` is sealed, and what is not bf16 is f32.
    (!E::IS_BF16).then(|| unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) })
}

fn as_bf16<E: Element>(values: &[E]) -> Option<&[bf16]> {
    // SAFETY: as above.
    E::IS_BF16.then(|| unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) })
}
