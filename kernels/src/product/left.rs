//! The left side of a product.

use std::borrow::Cow;

use half::bf16;

use super::tile::Segment;
use crate::element::Element;
use crate::packed::{Packed, Precision, STRIP, Values};

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
    pub(crate) fn f32_segment(&self, inputs: usize, offset: usize, right: &Packed) -> Segment<f32, f32> {
        let Self::F32(left) = self else { unreachable!("both sides have the precision they were made for") };
        let values = match &right.values {
            Values::F32(values) => values.as_ptr(),
            Values::Coded(_) => std::ptr::null(),
            Values::Bf16(_) => unreachable!("both sides have the precision they were made for"),
        };
        Segment {
            left: left[offset..].as_ptr(),
            row_stride: inputs,
            left_stride: 1,
            right: values,
            strip_stride: right.stride * STRIP,
            right_stride: STRIP,
            steps: right.inputs,
        }
    }

    pub(crate) fn bf16_segment(&self, offset: usize, right: &Packed) -> Segment<u32, u32> {
        let Self::Bf16 { values: left, stride } = self else {
            unreachable!("both sides have the precision they were made for")
        };
        let values = match &right.values {
            Values::Bf16(values) => values.as_ptr(),
            Values::Coded(_) => std::ptr::null(),
            Values::F32(_) => unreachable!("both sides have the precision they were made for"),
        };
        assert!(offset.is_multiple_of(2), "pairs begin at even places");
        Segment {
            left: left[offset..].as_ptr().cast(),
            row_stride: stride / 2,
            left_stride: 1,
            right: values,
            strip_stride: right.stride * STRIP,
            right_stride: STRIP,
            steps: right.inputs.div_ceil(2),
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
