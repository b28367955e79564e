//! Matrix products: a register tile of rows by a strip of columns, summed over one or several pairs of factors.
//!
//! Adding the pairs up in registers is what makes a low-rank path beside a frozen matrix, or three projections back to
//! one input, a single pass over the output.

mod blocked;
mod left;
mod segment;
mod tile;

use rayon::prelude::*;

use crate::coded::Coded;
use crate::element::Element;
use crate::packed::{Packed, STRIP, Values};
use crate::parallel::{Build, Shared};
use blocked::sum;
pub(crate) use blocked::sum_here;
pub(crate) use left::Left;
pub(crate) use segment::{LeftSide, RightSide, Segment};
pub(crate) use tile::{Start, Target};

/// Tasks for each thread, so that none waits long for the last.
const TASKS: usize = 4;
/// Strips of columns that a task goes through with the rows it copied, where there is work enough for all threads.
const STRIPS: usize = 9;

/// Sums the segments into `target`, all rows and columns, on all threads.
///
/// # Safety
/// As [`sum`].
unsafe fn run<O: Element>(segments: &[Segment], rows: usize, columns: usize, start: Start, target: Target<O>) {
    let (blocks, strips) = (rows.div_ceil(blocked::ROWS), columns.div_ceil(STRIP));
    let wanted = (TASKS * rayon::current_num_threads()).div_ceil(blocks.max(1));
    let groups = strips.div_ceil(STRIPS).max(wanted.min(strips));
    // Tasks of one block of rows are neighbours: threads that run at the same time read the same rows.
    (0..blocks * groups).into_par_iter().for_each(|task| {
        let (block, group) = (task / groups, task % groups);
        let strips = strips * group / groups..strips * (group + 1) / groups;
        let columns = strips.start * STRIP..columns.min(strips.end * STRIP);
        // SAFETY: each task has rows and strips of its own.
        unsafe { sum(segments, rows * block / blocks..rows * (block + 1) / blocks, columns, start, target) }
    });
}

/// [`run`] where some right sides are in codes: strips are packed by the thread that needs them, as many as lie in its
/// cache together, for as many rows as leaves work for all threads. Sums are the same in the same order.
///
/// # Safety
/// As [`sum`]; the right sides of segments with codes are not looked at.
unsafe fn run_coded<O: Element>(
    segments: &[Segment],
    coded: &[Option<&Coded>],
    rows: usize,
    columns: usize,
    start: Start,
    target: Target<O>,
) {
    /// Words of the strips that are packed together: a second-level cache of a mebibyte.
    const ROOM: usize = 1 << 18;
    let strips = columns.div_ceil(STRIP);
    let wanted = TASKS * rayon::current_num_threads();
    let words: usize = segments.iter().map(|segment| segment.right.strip_words()).sum();
    let together = (ROOM / words.max(1)).clamp(1, STRIPS);
    let groups = strips.div_ceil(together).max(wanted.min(strips));
    let pieces = wanted.div_ceil(groups.max(1)).min(rows.div_ceil(blocked::ROWS));
    let room = || vec![Vec::<u32>::new(); segments.len()];
    (0..groups * pieces).into_par_iter().for_each_init(room, |room, task| {
        let (group, piece) = (task / pieces, task % pieces);
        let (first, end) = (rows * piece / pieces, rows * (piece + 1) / pieces);
        let strips = strips * group / groups..strips * (group + 1) / groups;
        let filled = segments.iter().zip(coded).zip(room).map(|((segment, coded), room)| {
            let Some(coded) = coded else { return *segment };
            let words = segment.right.strip_words();
            room.resize(words * strips.len(), 0);
            for (strip, room) in strips.clone().zip(room.chunks_exact_mut(words.max(1))) {
                coded.fill(strip, words / STRIP, room);
            }
            // From here a strip is found by its number.
            let pointer = room.as_ptr().wrapping_sub(strips.start * words);
            Segment { right: segment.right.packed_again(pointer), ..*segment }
        });
        let filled: Vec<Segment> = filled.collect();
        let blocks = (end - first).div_ceil(blocked::ROWS);
        for block in 0..blocks {
            let rows = first + (end - first) * block / blocks..first + (end - first) * (block + 1) / blocks;
            let columns = strips.start * STRIP..columns.min(strips.end * STRIP);
            // SAFETY: each task has rows and strips of its own.
            unsafe { sum(&filled, rows, columns, start, target) }
        }
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
    let segments = pairs.iter().map(|pair| pair.left.segment(rows, pair.inputs, pair.offset, pair.right));
    let segments: Vec<Segment> = segments.collect();
    // SAFETY: the shapes were just compared, and the target is the caller's promise.
    unsafe {
        match coded.iter().any(Option::is_some) {
            true => run_coded(&segments, &coded, rows, columns, start, target),
            false => run(&segments, rows, columns, start, target),
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
    let from = right[right_columns.start..].as_ptr();
    let segment = Segment {
        left: LeftSide::Steps(left[left_columns.start..].as_ptr(), left_stride),
        right: match R::IS_BF16 {
            true => RightSide::Halves(from.cast(), right_stride),
            false => RightSide::Rows(from.cast(), right_stride),
        },
        steps: rows,
        pairs: false,
    };
    let strips = columns.div_ceil(STRIP);
    // SAFETY: each task has a strip of its own.
    unsafe {
        let target = Target { pointer: Shared::new(build.at(0)), stride: columns };
        (0..strips).into_par_iter().for_each(|strip| {
            let columns = strip * STRIP..columns.min((strip + 1) * STRIP);
            sum(&[segment], 0..outputs, columns, Start::ZERO, target);
        });
        build.finish()
    }
}

#[cfg(test)]
mod tests;
