//! A register tile of rows by a strip of columns: the innermost loops of all products.

use crate::element::Element;
use crate::packed::STRIP;
use crate::parallel::Shared;
use crate::simd::{Lanes, multiversion};

/// One pair of factors. `L` is f32, or u32 for two neighbouring bf16.
pub(crate) struct Segment<L, R> {
    pub(crate) left: *const L,
    /// From one row of the left side to the next.
    pub(crate) row_stride: usize,
    /// From one step of the inner dimension to the next, on the left side.
    pub(crate) left_stride: usize,
    pub(crate) right: *const R,
    /// From one strip of columns to the next.
    pub(crate) strip_stride: usize,
    /// From one step of the inner dimension to the next, on the right side.
    pub(crate) right_stride: usize,
    /// Steps of the inner dimension.
    pub(crate) steps: usize,
}

impl<L, R> Clone for Segment<L, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L, R> Copy for Segment<L, R> {}

// SAFETY: segments are only read through.
unsafe impl<L: Sync, R: Sync> Sync for Segment<L, R> {}
// SAFETY: as above.
unsafe impl<L: Sync, R: Sync> Send for Segment<L, R> {}

/// Where a product goes: rows of `stride` from `pointer` on.
#[derive(Clone, Copy)]
pub(crate) struct Target<O> {
    pub(crate) pointer: Shared<O>,
    pub(crate) stride: usize,
}

/// What is added to a product: rows of `stride`; a stride of 0 adds the same row to all.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    pub(crate) pointer: *const f32,
    pub(crate) stride: usize,
}

impl Start {
    pub(crate) const ZERO: Self = Self { pointer: std::ptr::null(), stride: 0 };
}

// SAFETY: it is only read through, or written by the thread that owns the place.
unsafe impl Sync for Start {}
// SAFETY: as above.
unsafe impl Send for Start {}

/// The kernel of one precision.
pub(crate) trait Kernel: Copy + Sync {
    /// A strip of up to [`STRIP`] columns for some rows.
    ///
    /// # Safety
    /// All pointers are valid for the rows, columns and steps; the target is nobody else's.
    unsafe fn strip<O: Element>(
        segments: &[Self],
        rows: std::ops::Range<usize>,
        strip: usize,
        columns: usize,
        start: Start,
        target: Target<O>,
    );
}

impl<R: Element> Kernel for Segment<f32, R> {
    unsafe fn strip<O: Element>(
        segments: &[Self],
        rows: std::ops::Range<usize>,
        strip: usize,
        columns: usize,
        start: Start,
        target: Target<O>,
    ) {
        // SAFETY: as the caller promises.
        unsafe { strip_f32(segments.as_ptr(), segments.len(), rows.start, rows.end, strip, columns, start, target) }
    }
}

impl Kernel for Segment<u32, u32> {
    unsafe fn strip<O: Element>(
        segments: &[Self],
        rows: std::ops::Range<usize>,
        strip: usize,
        columns: usize,
        start: Start,
        target: Target<O>,
    ) {
        // SAFETY: as the caller promises.
        unsafe { strip_bf16(segments.as_ptr(), segments.len(), rows.start, rows.end, strip, columns, start, target) }
    }
}

multiversion! {
    fn strip_f32<R: Element, O: Element>(
        segments: *const Segment<f32, R>, count: usize, first: usize, end: usize, strip: usize, columns: usize,
        start: Start, target: Target<O>,
    ) = strip_f32_body;
}

multiversion! {
    fn strip_bf16<O: Element>(
        segments: *const Segment<u32, u32>, count: usize, first: usize, end: usize, strip: usize, columns: usize,
        start: Start, target: Target<O>,
    ) = strip_bf16_body;
}

/// Calls `$tile` with the number of rows as a constant.
macro_rules! with_rows {
    ($rows:expr, $tile:ident :: <$($generic:ident),*> ($($argument:expr),*)) => {
        match $rows {
            1 => $tile::<$($generic,)* 1>($($argument),*),
            2 => $tile::<$($generic,)* 2>($($argument),*),
            3 => $tile::<$($generic,)* 3>($($argument),*),
            4 => $tile::<$($generic,)* 4>($($argument),*),
            5 if L::ROWS >= 5 => $tile::<$($generic,)* 5>($($argument),*),
            6 if L::ROWS >= 6 => $tile::<$($generic,)* 6>($($argument),*),
            7 if L::ROWS >= 7 => $tile::<$($generic,)* 7>($($argument),*),
            8 if L::ROWS >= 8 => $tile::<$($generic,)* 8>($($argument),*),
            9 if L::ROWS >= 9 => $tile::<$($generic,)* 9>($($argument),*),
            10 if L::ROWS >= 10 => $tile::<$($generic,)* 10>($($argument),*),
            11 if L::ROWS >= 11 => $tile::<$($generic,)* 11>($($argument),*),
            12 if L::ROWS >= 12 => $tile::<$($generic,)* 12>($($argument),*),
            _ => unreachable!("a tile has no more rows than registers"),
        }
    };
}

/// Cuts the rows into tiles of nearly equal height.
macro_rules! strip_body {
    ($name:ident, $tile:ident, $left:ty, $right:ty $(, $generic:ident)?) => {
        #[inline(always)]
        #[allow(clippy::too_many_arguments, reason = "as the body takes them")]
        unsafe fn $name<L: Lanes, $($generic: Element,)? O: Element>(
            segments: *const Segment<$left, $right>,
            count: usize,
            first: usize,
            end: usize,
            strip: usize,
            columns: usize,
            start: Start,
            target: Target<O>,
        ) {
            let tiles = (end - first).div_ceil(L::ROWS);
            for column in (0..columns).step_by(2 * L::WIDTH) {
                for tile in 0..tiles {
                    let row = first + (end - first) * tile / tiles;
                    let rows = first + (end - first) * (tile + 1) / tiles - row;
                    let place = (row, strip, column, columns - column);
                    // SAFETY: as the caller promises, of the rows of this tile alone.
                    unsafe {
                        with_rows!(rows, $tile::<L, $($generic,)? O>(segments, count, place, start, target))
                    }
                }
            }
        }
    };
}

strip_body!(strip_f32_body, tile_f32, f32, R, R);
strip_body!(strip_bf16_body, tile_bf16, u32, u32);

/// Row, strip, column inside of the strip, and columns from there on.
type Place = (usize, usize, usize, usize);

#[inline(always)]
unsafe fn start_of<L: Lanes, const ROWS: usize>(place: Place, start: Start) -> [[L::V; 2]; ROWS] {
    let (row, strip, column, columns) = place;
    // SAFETY: the caller's start is null or has this place; no lane past `columns` is touched.
    unsafe {
        let mut sums = [[L::splat(0.0); 2]; ROWS];
        if !start.pointer.is_null() {
            for (r, sums) in sums.iter_mut().enumerate() {
                let from = start.pointer.add((row + r) * start.stride + strip * STRIP + column);
                sums[0] = L::load_part(from, columns);
                if columns > L::WIDTH {
                    sums[1] = L::load_part(from.add(L::WIDTH), columns - L::WIDTH);
                }
            }
        }
        sums
    }
}

#[inline(always)]
unsafe fn write<L: Lanes, O: Element, const ROWS: usize>(sums: [[L::V; 2]; ROWS], place: Place, target: Target<O>) {
    let (row, strip, column, columns) = place;
    for (r, sums) in sums.iter().enumerate() {
        // SAFETY: the caller's target has this place; no lane past `columns` is touched.
        unsafe {
            let to = target.pointer.at((row + r) * target.stride + strip * STRIP + column);
            O::store::<L>(to, columns, sums[0]);
            if columns > L::WIDTH {
                O::store::<L>(to.add(L::WIDTH), columns - L::WIDTH, sums[1]);
            }
        }
    }
}

#[inline(always)]
unsafe fn tile_f32<L: Lanes, R: Element, O: Element, const ROWS: usize>(
    segments: *const Segment<f32, R>,
    count: usize,
    place: Place,
    start: Start,
    target: Target<O>,
) {
    let (row, strip, column, columns) = place;
    // SAFETY: the caller's segments have these rows and strips for all of their steps.
    unsafe {
        let mut sums = start_of::<L, ROWS>(place, start);
        for segment in 0..count {
            let segment = *segments.add(segment);
            let mut left = segment.left.add(row * segment.row_stride);
            let mut right = segment.right.wrapping_add(strip * segment.strip_stride + column);
            if columns >= 2 * L::WIDTH {
                for _ in 0..segment.steps {
                    let b = [R::load::<L>(right, L::WIDTH), R::load::<L>(right.add(L::WIDTH), L::WIDTH)];
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let a = L::splat(*left.add(r * segment.row_stride));
                        sums[0] = L::fma(a, b[0], sums[0]);
                        sums[1] = L::fma(a, b[1], sums[1]);
                    }
                    left = left.add(segment.left_stride);
                    right = right.add(segment.right_stride);
                }
            } else {
                let widths = (columns.min(L::WIDTH), columns.saturating_sub(L::WIDTH));
                for _ in 0..segment.steps {
                    let first = R::load::<L>(right, widths.0);
                    let second = if widths.1 > 0 { R::load::<L>(right.add(L::WIDTH), widths.1) } else { first };
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let a = L::splat(*left.add(r * segment.row_stride));
                        sums[0] = L::fma(a, first, sums[0]);
                        if widths.1 > 0 {
                            sums[1] = L::fma(a, second, sums[1]);
                        }
                    }
                    left = left.add(segment.left_stride);
                    right = right.add(segment.right_stride);
                }
            }
        }
        write::<L, O, ROWS>(sums, place, target);
    }
}

#[inline(always)]
unsafe fn tile_bf16<L: Lanes, O: Element, const ROWS: usize>(
    segments: *const Segment<u32, u32>,
    count: usize,
    place: Place,
    start: Start,
    target: Target<O>,
) {
    let (row, strip, column, _) = place;
    // SAFETY: the caller's segments have these rows and strips for all of their steps.
    unsafe {
        let mut sums = start_of::<L, ROWS>(place, start);
        for segment in 0..count {
            let segment = *segments.add(segment);
            let mut left = segment.left.add(row * segment.row_stride);
            let mut right = segment.right.wrapping_add(strip * segment.strip_stride + column);
            // Packed strips are filled up, so both vectors can always be read.
            for _ in 0..segment.steps {
                let b = [L::load_pairs(right), L::load_pairs(right.add(L::WIDTH))];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let a = L::splat_pair(left.add(r * segment.row_stride).read_unaligned());
                    sums[0] = L::dot(a, b[0], sums[0]);
                    sums[1] = L::dot(a, b[1], sums[1]);
                }
                left = left.add(segment.left_stride);
                right = right.add(segment.right_stride);
            }
        }
        write::<L, O, ROWS>(sums, place, target);
    }
}
