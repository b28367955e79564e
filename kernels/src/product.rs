//! Matrix products: a register tile of rows by a strip of columns, summed over one or several pairs of factors.
//!
//! Adding the pairs up in registers is what makes a low-rank path beside a frozen matrix, or three projections back to
//! one input, a single pass over the output.

use half::bf16;
use rayon::prelude::*;

use crate::coded::{Coded, Word};
use crate::element::Element;
use crate::packed::{Packed, Precision, STRIP, Values};
use crate::parallel::{Build, Shared};
use crate::simd::{Lanes, multiversion};

/// Rows that run together through the strips of a group, so that both stay in the second-level cache.
const ROW_BLOCK: usize = 96;
/// Strips of a group.
const GROUP: usize = 4;
/// Steps of the inner dimension between two visits to the output, where the right side is not packed.
const STEP_BLOCK: usize = 128;

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
        #[allow(clippy::too_many_arguments)]
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

/// The left side of a product in the type its right side asks for.
pub(crate) enum Left<'a> {
    /// `[rows, inputs]`
    F32(std::borrow::Cow<'a, [f32]>),
    /// `[rows, stride]` with an even stride.
    Bf16 {
        /// Zero behind the inputs.
        values: std::borrow::Cow<'a, [bf16]>,
        stride: usize,
    },
}

impl<'a> Left<'a> {
    /// Values `[rows, inputs]` for products with matrices of `precision`.
    pub(crate) fn new<E: Element>(values: &'a [E], inputs: usize, precision: Precision) -> Self {
        use std::borrow::Cow;
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
