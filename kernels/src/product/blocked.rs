//! The sums of some rows and columns on one thread, in blocks that stay in the caches.
//!
//! The inner dimension of all pairs together is cut into parts. Of each, the rows of the left side are copied side by
//! side (second-level cache), and then, two vectors of columns at a time, the right side (first-level cache), unless it
//! lies so already. Each part is summed by itself, step by step, and the parts then, one after another: where one product is
//! far above the others, as in models with massive activations, a single chain over thousands of steps would round all that
//! come behind it to its digits. How steps are cut depends on their number and the instruction set alone.

use std::cell::RefCell;
use std::ops::Range;

use super::segment::{LeftSide, Segment};
use super::tile::{LEFT_STRIDE, Rows, Start, Steps, Target, tiles};
use crate::element::{Element, convert_piece};
use crate::parallel::Shared;
use crate::simd::level;

/// Rows that are copied at once: with [`LEFT_STRIDE`] steps less than 256 KiB.
pub(super) const ROWS: usize = 192;

/// Columns for which a copy of the left side does not pay.
const FEW_COLUMNS: usize = 64;

/// What a thread copies, and sums that wait for the next part.
#[derive(Default)]
struct Room {
    left: Vec<u32>,
    right: Vec<u32>,
    sums: Vec<f32>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// The steps of one segment that belong to a part, and how many of the part stand before them.
struct Piece<'a> {
    segment: &'a Segment,
    steps: Range<usize>,
    before: usize,
}

fn pieces(segments: &[Segment], part: Range<usize>) -> impl Iterator<Item = Piece<'_>> {
    let mut end = 0;
    segments.iter().filter_map(move |segment| {
        let first = end;
        end += segment.steps;
        let (from, to) = (part.start.max(first), part.end.min(end));
        (from < to).then(|| Piece { segment, steps: from - first..to - first, before: from - part.start })
    })
}

/// [`sum`] of any number of rows, for those that have one thread for all of it.
///
/// # Safety
/// As [`sum`].
pub(crate) unsafe fn sum_here(segment: Segment, rows: usize, columns: usize, start: Start, target: Target<f32>) {
    for first in (0..rows).step_by(ROWS) {
        // SAFETY: as the caller promises.
        unsafe { sum(&[segment], first..rows.min(first + ROWS), 0..columns, start, target) }
    }
}

/// Sums the segments, on top of `start`, into rows and columns of `target`. Columns begin with a strip.
///
/// # Safety
/// All pointers are valid for the rows, columns and steps; the target is nobody else's. Rows are at most [`ROWS`], but
/// for left sides by steps, which are alone.
pub(super) unsafe fn sum<O: Element>(
    segments: &[Segment],
    rows: Range<usize>,
    columns: Range<usize>,
    start: Start,
    target: Target<O>,
) {
    ROOM.with_borrow_mut(|room| {
        let (pointer, stride) = if O::IS_BF16 {
            let stride = columns.len();
            room.sums.resize(room.sums.len().max(rows.len() * stride), 0.0);
            (Shared::new(room.sums.as_mut_ptr()), stride)
        } else {
            // SAFETY: inside of the target.
            let first = unsafe { target.pointer.at(rows.start * target.stride + columns.start) };
            (Shared::new(first.cast::<f32>()), target.stride)
        };
        let sums = Target { pointer, stride };
        let steps: usize = segments.iter().map(|segment| segment.steps).sum();
        // Where pairs are multiplied, a step is half as many bytes and the strips of packed pairs lie in order: cutting them,
        // and copying rows that are read a few times, costs more than it gives.
        // All of one size from the first step on, so that what stands behind a matrix, such as an adapter that is still zero,
        // does not move its cuts.
        let size = if has_whole_pairs(segments) { steps } else { level().steps() };
        let parts = steps.div_ceil(size.max(1)).max(1);
        for part in 0..parts {
            let start = match part {
                0 => start.at(rows.start, columns.start),
                // SAFETY: the sums begin there.
                _ => Start { pointer: unsafe { sums.pointer.at(0) }, stride },
            };
            let part = part * size..steps.min((part + 1) * size);
            // SAFETY: as the caller promises.
            unsafe { room.add(segments, part, (&rows, &columns), start, sums) }
        }
        if O::IS_BF16 {
            for (index, row) in rows.clone().enumerate() {
                // SAFETY: inside of the sums and of the target.
                unsafe {
                    let to = target.pointer.at(row * target.stride + columns.start);
                    convert_piece::<f32, O>(sums.pointer.at(index * stride), to, columns.len());
                }
            }
        }
    });
}

/// True where all are pairs that one instruction multiplies.
fn has_whole_pairs(segments: &[Segment]) -> bool {
    level().multiplies_pairs() && !segments.is_empty() && segments.iter().all(|segment| segment.pairs)
}

impl Room {
    /// The sums of a part of the steps on top of `start`.
    ///
    /// # Safety
    /// As [`sum`].
    unsafe fn add(
        &mut self,
        segments: &[Segment],
        part: Range<usize>,
        (rows, columns): (&Range<usize>, &Range<usize>),
        start: Start,
        sums: Target<f32>,
    ) {
        let width = level().columns();
        let pairs = segments.iter().any(|segment| segment.pairs);
        let lie = match segments.first().map(|segment| segment.left) {
            Some(LeftSide::Steps(..)) => Rows::Turned,
            Some(LeftSide::Rows(..)) if columns.len() <= FEW_COLUMNS && !pairs => Rows::Strided,
            Some(LeftSide::Rows(..)) if has_whole_pairs(segments) => Rows::Strided,
            _ => Rows::Copied,
        };
        if lie == Rows::Copied {
            self.left.resize(ROWS * LEFT_STRIDE, 0);
            for (index, row) in rows.clone().enumerate() {
                for piece in pieces(segments, part.clone()) {
                    let to = self.left[index * LEFT_STRIDE + piece.before..].as_mut_ptr();
                    // SAFETY: a part has no more steps than the stride.
                    unsafe { piece.segment.left.copy(row, piece.steps, to) }
                }
            }
        }
        self.right.resize(width * LEFT_STRIDE, 0);
        let mut steps: Vec<Steps> = Vec::with_capacity(segments.len());
        for column in columns.clone().step_by(width) {
            let count = width.min(columns.end - column);
            steps.clear();
            for piece in pieces(segments, part.clone()) {
                let lies = piece.segment.right.in_place(piece.steps.start, column, count, (width, rows.len()));
                let (right, right_stride) = lies.unwrap_or_else(|| {
                    let to = self.right[piece.before * width..].as_mut_ptr();
                    // SAFETY: as for the left side.
                    unsafe { piece.segment.right.copy(piece.steps.clone(), column, count, to) }
                    (to.cast_const(), width)
                });
                let (left, left_stride, row_stride) = match piece.segment.left {
                    LeftSide::Steps(from, stride) => {
                        (from.wrapping_add(piece.steps.start * stride + rows.start).cast::<u32>(), stride, 1)
                    }
                    LeftSide::Rows(from, stride) if lie == Rows::Strided => {
                        (from.wrapping_add(rows.start * stride + piece.steps.start), 1, stride)
                    }
                    _ => (self.left[piece.before..].as_ptr(), 1, LEFT_STRIDE),
                };
                steps.push(Steps { left, left_stride, row_stride, right, right_stride, count: piece.steps.len() });
            }
            // SAFETY: as the caller promises; the sums of these columns are as long.
            unsafe {
                let to = sums.pointer.at(column - columns.start);
                let start = start.at(0, column - columns.start);
                tiles(pairs, lie, &steps, [rows.len(), count], start, (to, sums.stride));
            }
        }
    }
}
