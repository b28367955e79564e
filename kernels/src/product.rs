//! Matrix products: a register tile of rows by a strip of columns, summed over one or several pairs of factors.
//!
//! Adding the pairs up in registers is what makes a low-rank path beside a frozen matrix, or three projections back to
//! one input, a single pass over the output.

mod left;
mod tile;

use rayon::prelude::*;

use crate::coded::{Coded, Word};
use crate::element::Element;
use crate::packed::{Packed, Precision, STRIP, Values};
use crate::parallel::{Build, Shared};
pub(crate) use left::Left;
pub(crate) use tile::{Kernel, Segment, Start, Target};

/// Rows that run together through the strips of a group, so that both stay in the second-level cache.
const ROW_BLOCK: usize = 96;
/// Strips of a group.
const GROUP: usize = 4;
/// Steps of the inner dimension between two visits to the output, where the right side is not packed.
const STEP_BLOCK: usize = 128;

/// Sums the segments into `target`, all rows and columns, on all threads.
///
/// # Safety
/// As [`Kernel::strip`].
pub(crate) unsafe fn run<S: Kernel, O: Element>(
    segments: &[S],
    rows: usize,
    columns: usize,
    start: Start,
    target: Target<O>,
) {
    let (blocks, groups) = (rows.div_ceil(ROW_BLOCK), columns.div_ceil(STRIP * GROUP));
    let block = rows.div_ceil(blocks.max(1));
    // Tasks of one block of rows are neighbours: threads that run at the same time read the same rows.
    (0..blocks * groups).into_par_iter().for_each(|task| {
        let (first, group) = (task / groups * block, task % groups);
        let end = (first + block).min(rows);
        for strip in group * GROUP..((group + 1) * GROUP).min(columns.div_ceil(STRIP)) {
            let width = STRIP.min(columns - strip * STRIP);
            // SAFETY: each task has rows and strips of its own.
            unsafe { S::strip(segments, first..end, strip, width, start, target) }
        }
    });
}

/// [`run`] where some right sides are in codes: their strips are packed by the thread that needs them, for as many rows
/// as leaves work for all threads. Sums are the same in the same order.
///
/// # Safety
/// As [`Kernel::strip`]; the right sides of segments with codes are not looked at.
unsafe fn run_coded<L, W: Word, O: Element>(
    segments: &[Segment<L, W>],
    coded: &[Option<&Coded>],
    rows: usize,
    columns: usize,
    start: Start,
    target: Target<O>,
) where
    Segment<L, W>: Kernel,
{
    /// Tasks for each thread, so that none waits long for the last.
    const TASKS: usize = 4;
    let strips = columns.div_ceil(STRIP);
    let wanted = (TASKS * rayon::current_num_threads()).div_ceil(strips.max(1));
    let pieces = wanted.min(rows.div_ceil(ROW_BLOCK));
    let piece = rows.div_ceil(pieces.max(1));
    let room = || vec![Vec::<W>::new(); segments.len()];
    (0..strips * pieces).into_par_iter().for_each_init(room, |room, task| {
        let (strip, first) = (task / pieces, task % pieces * piece);
        let end = (first + piece).min(rows);
        if first >= end {
            return;
        }
        let filled = segments.iter().zip(coded).zip(room).map(|((segment, coded), room)| {
            let Some(coded) = coded else { return *segment };
            room.resize(segment.steps * STRIP, W::default());
            W::fill(coded, strip, segment.steps, room);
            // From here the kernel finds the strip by its number.
            Segment { right: room.as_ptr().wrapping_sub(strip * segment.strip_stride), ..*segment }
        });
        let filled: Vec<Segment<L, W>> = filled.collect();
        let width = STRIP.min(columns - strip * STRIP);
        // SAFETY: each task has rows and a strip of its own.
        unsafe { Kernel::strip(&filled, first..end, strip, width, start, target) }
    });
}

/// One pair of factors of [`sum_of_products`]: columns `offset..` of rows `[rows, inputs]`, and a packed matrix.
pub(crate) struct Pair<'a, 'b> {
    pub(crate) left: &'a Left<'b>,
    /// Width of the left side's rows.
    pub(crate) inputs: usize,
    pub(crate) offset: usize,
    pub(crate) right: &'a Packed,
}

/// `start + sum over pairs of left right^T` into columns of `target`.
///
/// # Safety
/// `target` and `start` have `rows` rows of at least the matrices' outputs.
pub(crate) unsafe fn sum_of_products<O: Element>(pairs: &[Pair], rows: usize, start: Start, target: Target<O>) {
    let Some(first) = pairs.first() else { return };
    let columns = first.right.outputs;
    for pair in pairs {
        assert!(pair.right.outputs == columns && pair.offset + pair.right.inputs <= pair.inputs, "shapes do not fit");
        let length = match pair.left {
            Left::F32(values) => values.len() / pair.inputs.max(1),
            Left::Bf16 { values, stride } => values.len() / (*stride).max(1),
        };
        assert!(length >= rows, "the left side has too few rows");
    }
    let coded = pairs.iter().map(|pair| match &pair.right.values {
        Values::Coded(coded) => Some(coded),
        _ => None,
    });
    let coded: Vec<Option<&Coded>> = coded.collect();
    let any = coded.iter().any(Option::is_some);
    // SAFETY: the shapes were just compared, and the target is the caller's promise.
    unsafe {
        match first.right.precision() {
            Precision::F32 => {
                let segments: Vec<_> =
                    pairs.iter().map(|pair| pair.left.f32_segment(pair.inputs, pair.offset, pair.right)).collect();
                match any {
                    true => run_coded(&segments, &coded, rows, columns, start, target),
                    false => run(&segments, rows, columns, start, target),
                }
            }
            Precision::Bf16 => {
                let segments: Vec<_> =
                    pairs.iter().map(|pair| pair.left.bf16_segment(pair.offset, pair.right)).collect();
                match any {
                    true => run_coded(&segments, &coded, rows, columns, start, target),
                    false => run(&segments, rows, columns, start, target),
                }
            }
        }
    }
}

/// `left W^T`, `[rows, out]`, for left `[rows, in]` and packed W `[out, in]`.
pub fn product<E: Element, O: Element>(left: &[E], rows: usize, weight: &Packed) -> Vec<O> {
    assert_eq!(left.len(), rows * weight.inputs, "the left side has another shape");
    let left = Left::new(left, weight.inputs, weight.precision());
    let build = Build::new(rows * weight.outputs);
    let pair = Pair { left: &left, inputs: weight.inputs, offset: 0, right: weight };
    // SAFETY: the product writes every place of the output.
    unsafe {
        let target = Target { pointer: Shared::new(build.at(0)), stride: weight.outputs };
        sum_of_products(&[pair], rows, Start::ZERO, target);
        build.finish()
    }
}

/// `left W`, `[rows, in]`, for left `[rows, out]` and packed W `[out, in]`: the way back through [`product`].
pub fn product_transposed<E: Element>(left: &[E], rows: usize, weight: &Packed) -> Vec<f32> {
    /// Rows of the matrix that are turned at once: what is turned stays in the cache.
    const BLOCK: usize = 4096;
    assert_eq!(left.len(), rows * weight.outputs, "the left side has another shape");
    let left = Left::new(left, weight.outputs, weight.precision());
    let build = Build::new(rows * weight.inputs);
    for first in (0..weight.outputs).step_by(BLOCK) {
        let turned = weight.transposed(first..(first + BLOCK).min(weight.outputs));
        let pair = Pair { left: &left, inputs: weight.outputs, offset: first, right: &turned };
        // SAFETY: the first block writes every place, and the others add to it.
        unsafe {
            let target = Target { pointer: Shared::new(build.at(0)), stride: weight.inputs };
            let start = if first == 0 { Start::ZERO } else { Start { pointer: build.at(0), stride: weight.inputs } };
            sum_of_products(&[pair], rows, start, target);
        }
    }
    // SAFETY: as above; a matrix has at least one row.
    unsafe { build.finish() }
}

/// `left^T right`, `[columns of left, columns of right]`: the gradient of a weight, summed over `rows`.
///
/// Left is `[rows, left_stride]` of which columns `left_columns` take part; right likewise.
pub fn outer<R: Element>(
    rows: usize,
    (left, left_stride, left_columns): (&[f32], usize, std::ops::Range<usize>),
    (right, right_stride, right_columns): (&[R], usize, std::ops::Range<usize>),
) -> Vec<f32> {
    assert!(left.len() >= rows * left_stride && left_columns.end <= left_stride, "the left side is too small");
    assert!(right.len() >= rows * right_stride && right_columns.end <= right_stride, "the right side is too small");
    let (outputs, columns) = (left_columns.len(), right_columns.len());
    let build = Build::new(outputs * columns);
    let segment = Segment {
        left: left[left_columns.start..].as_ptr(),
        row_stride: 1,
        left_stride,
        right: right[right_columns.start..].as_ptr(),
        strip_stride: STRIP,
        right_stride,
        steps: rows,
    };
    let groups = columns.div_ceil(STRIP * GROUP);
    // SAFETY: each task has strips of its own; the first block of steps writes every place.
    unsafe {
        let pointer = Shared::new(build.at(0));
        (0..groups).into_par_iter().for_each(|group| {
            #[expect(
                clippy::redundant_locals,
                reason = "captures the whole, which may cross threads; its pointers may not"
            )]
            let segment = segment;
            for first in (0..rows.max(1)).step_by(STEP_BLOCK) {
                let block = Segment {
                    left: segment.left.wrapping_add(first * left_stride),
                    right: segment.right.wrapping_add(first * right_stride),
                    steps: STEP_BLOCK.min(rows - first),
                    ..segment
                };
                let target = Target { pointer, stride: columns };
                let start = if first == 0 { Start::ZERO } else { Start { pointer: pointer.at(0), stride: columns } };
                for strip in group * GROUP..((group + 1) * GROUP).min(columns.div_ceil(STRIP)) {
                    let width = STRIP.min(columns - strip * STRIP);
                    Kernel::strip(&[block], 0..outputs, strip, width, start, target);
                }
            }
        });
        build.finish()
    }
}

#[cfg(test)]
mod tests;
