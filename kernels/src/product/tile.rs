//! A register tile of rows by two vectors of columns: the innermost loops of all products.

use crate::parallel::Shared;
use crate::simd::{Lanes, level, multiversion};

/// Words from one row to the next of a left side that was copied: a constant, so that a tile needs one pointer for all its
/// rows. What is copied at once has no more steps.
pub(super) const LEFT_STRIDE: usize = 320;

/// Rows for which neither side is copied for the sake of the cache: a tile or two.
pub(crate) const FEW_ROWS: usize = 6;

/// Some steps of the inner dimension.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    /// The first row of the left side.
    pub(super) left: *const u32,
    /// From one step to the next, on the left side.
    pub(super) left_stride: usize,
    /// From one row to the next, on a left side that is read where it lies.
    pub(super) row_stride: usize,
    /// Two vectors of columns.
    pub(super) right: *const u32,
    pub(super) right_stride: usize,
    pub(super) count: usize,
}

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

    /// The part from another row and column on.
    pub(super) fn at(self, row: usize, column: usize) -> Self {
        match self.pointer.is_null() {
            true => self,
            false => Self { pointer: self.pointer.wrapping_add(row * self.stride + column), ..self },
        }
    }
}

// SAFETY: it is only read through, or written by the thread that owns the place.
unsafe impl Sync for Start {}
// SAFETY: as above.
unsafe impl Send for Start {}

/// How words are multiplied.
trait Words<L: Lanes> {
    type Vector: Copy;
    /// Rows of a tile at most.
    const ROWS: usize = L::ROWS;
    unsafe fn splat(word: *const u32) -> Self::Vector;
    unsafe fn load(from: *const u32) -> Self::Vector;
    unsafe fn add_product(a: Self::Vector, b: Self::Vector, sum: L::V) -> L::V;
}

/// As f32.
struct Single;

impl<L: Lanes> Words<L> for Single {
    type Vector = L::V;
    #[inline(always)]
    unsafe fn splat(word: *const u32) -> L::V {
        // SAFETY: as the caller promises.
        unsafe { L::splat(word.cast::<f32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u32) -> L::V {
        // SAFETY: as the caller promises.
        unsafe { L::load(from.cast()) }
    }
    #[inline(always)]
    unsafe fn add_product(a: L::V, b: L::V, sum: L::V) -> L::V {
        // SAFETY: as the caller promises.
        unsafe { L::fma(a, b, sum) }
    }
}

/// As pairs of bf16 that are widened at each step: where a matrix is read once for a few rows, and its bytes are what takes
/// time.
struct Widened;

impl<L: Lanes> Words<L> for Widened {
    type Vector = (L::V, L::V);
    const ROWS: usize = FEW_ROWS / 2;
    #[inline(always)]
    unsafe fn splat(word: *const u32) -> Self::Vector {
        // SAFETY: as the caller promises.
        unsafe {
            let pair = word.read_unaligned();
            (L::splat(f32::from_bits(pair << 16)), L::splat(f32::from_bits(pair & 0xffff_0000)))
        }
    }
    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self::Vector {
        // SAFETY: as the caller promises.
        unsafe { L::widen_pairs(from) }
    }
    #[inline(always)]
    unsafe fn add_product(a: Self::Vector, b: Self::Vector, sum: L::V) -> L::V {
        // SAFETY: as the caller promises.
        unsafe { L::fma(a.1, b.1, L::fma(a.0, b.0, sum)) }
    }
}

/// How the rows of a left side lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Copied, [`LEFT_STRIDE`] words from each other.
    Copied,
    /// Their words of one step side by side.
    Turned,
    /// Where they are, with a stride of their own.
    Strided,
}

/// The sums of all tiles of some rows and of up to two vectors of columns, of pairs of bf16 where `pairs` is true: they
/// begin with `start` and go to rows of `stride` from `to` on. The left side of pairs that are widened is a copy.
///
/// # Safety
/// All pointers are valid for the rows, columns and steps.
pub(super) unsafe fn tiles(
    pairs: bool,
    lie: Rows,
    steps: &[Steps],
    [rows, columns]: [usize; 2],
    start: Start,
    (to, stride): (*mut f32, usize),
) {
    let (steps, count) = (steps.as_ptr(), steps.len());
    // SAFETY: as the caller promises.
    unsafe {
        if pairs {
            if level().multiplies_pairs() {
                #[cfg(target_arch = "x86_64")]
                return match lie {
                    Rows::Strided => x86::pairs::<0>(steps, count, rows, columns, start, to, stride),
                    _ => x86::pairs::<LEFT_STRIDE>(steps, count, rows, columns, start, to, stride),
                };
            }
            return widened_tiles(steps, count, rows, columns, start, to, stride);
        }
        match lie {
            Rows::Copied => copied_tiles(steps, count, rows, columns, start, to, stride),
            Rows::Turned => turned_tiles(steps, count, rows, columns, start, to, stride),
            Rows::Strided => strided_tiles(steps, count, rows, columns, start, to, stride),
        }
    }
}

/// A function for each instruction set, of words that lie so.
macro_rules! tiles_of {
    ($name:ident = $body:ident, $words:ident, $stride:expr) => {
        multiversion! {
            fn $name(
                steps: *const Steps, count: usize, rows: usize, columns: usize, start: Start, to: *mut f32, stride: usize,
            ) = $body;
        }

        #[inline(always)]
        unsafe fn $body<L: Lanes>(
            steps: *const Steps,
            count: usize,
            rows: usize,
            columns: usize,
            start: Start,
            to: *mut f32,
            stride: usize,
        ) {
            // SAFETY: as the caller promises.
            unsafe { body::<L, $words, { $stride }>(steps, count, rows, columns, start, to, stride) }
        }
    };
}

tiles_of!(copied_tiles = copied_body, Single, LEFT_STRIDE);
tiles_of!(turned_tiles = turned_body, Single, 1);
tiles_of!(strided_tiles = strided_body, Single, 0);
tiles_of!(widened_tiles = widened_body, Widened, LEFT_STRIDE);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Start, Steps, Words};
    use crate::simd::Avx512;

    /// As pairs of bf16.
    struct Pairs;

    impl Words<Avx512> for Pairs {
        type Vector = __m512bh;
        #[inline(always)]
        unsafe fn splat(word: *const u32) -> __m512bh {
            // SAFETY: as the caller promises.
            unsafe { std::mem::transmute(_mm512_set1_epi32(word.cast::<i32>().read_unaligned())) }
        }
        #[inline(always)]
        unsafe fn load(from: *const u32) -> __m512bh {
            // SAFETY: as the caller promises.
            unsafe { std::mem::transmute(_mm512_loadu_si512(from.cast())) }
        }
        #[inline(always)]
        unsafe fn add_product(a: __m512bh, b: __m512bh, sum: __m512) -> __m512 {
            // SAFETY: as the caller promises.
            unsafe { _mm512_dpbf16_ps(sum, a, b) }
        }
    }

    /// # Safety
    /// As [`super::tiles`].
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn pairs<const STRIDE: usize>(
        steps: *const Steps,
        count: usize,
        rows: usize,
        columns: usize,
        start: Start,
        to: *mut f32,
        stride: usize,
    ) {
        // SAFETY: as the caller promises.
        unsafe { super::body::<Avx512, Pairs, STRIDE>(steps, count, rows, columns, start, to, stride) }
    }
}

/// Cuts the rows into tiles of nearly equal height. A `STRIDE` of 0 is that of the steps.
#[inline(always)]
unsafe fn body<L: Lanes, W: Words<L>, const STRIDE: usize>(
    steps: *const Steps,
    count: usize,
    rows: usize,
    columns: usize,
    start: Start,
    to: *mut f32,
    stride: usize,
) {
    let tiles = rows.div_ceil(W::ROWS);
    for index in 0..tiles {
        let row = rows * index / tiles;
        let height = rows * (index + 1) / tiles - row;
        // SAFETY: as the caller promises.
        unsafe {
            let (start, to) = (start.at(row, 0), to.add(row * stride));
            let steps = (steps, count, row);
            if columns > L::WIDTH {
                of_height::<L, W, STRIDE, 2>(height, steps, columns, start, to, stride);
            } else {
                of_height::<L, W, STRIDE, 1>(height, steps, columns, start, to, stride);
            }
        }
    }
}

/// Calls [`tile`] with the number of rows as a constant.
#[inline(always)]
unsafe fn of_height<L: Lanes, W: Words<L>, const STRIDE: usize, const VECTORS: usize>(
    height: usize,
    steps: (*const Steps, usize, usize),
    columns: usize,
    start: Start,
    to: *mut f32,
    stride: usize,
) {
    macro_rules! tile {
        ($rows:literal) => {
            // SAFETY: as the caller promises.
            unsafe { tile::<L, W, STRIDE, VECTORS, $rows>(steps, columns, start, to, stride) }
        };
    }
    match height {
        1 => tile!(1),
        2 => tile!(2),
        3 => tile!(3),
        4 if W::ROWS >= 4 => tile!(4),
        5 if W::ROWS >= 5 => tile!(5),
        6 if W::ROWS >= 6 => tile!(6),
        7 if W::ROWS >= 7 => tile!(7),
        8 if W::ROWS >= 8 => tile!(8),
        9 if W::ROWS >= 9 => tile!(9),
        10 if W::ROWS >= 10 => tile!(10),
        11 if W::ROWS >= 11 => tile!(11),
        12 if W::ROWS >= 12 => tile!(12),
        _ => unreachable!("a tile has no more rows than registers"),
    }
}

#[inline(always)]
unsafe fn tile<L: Lanes, W: Words<L>, const STRIDE: usize, const VECTORS: usize, const ROWS: usize>(
    (steps, count, row): (*const Steps, usize, usize),
    columns: usize,
    start: Start,
    to: *mut f32,
    stride: usize,
) {
    /// Steps that are written out, so that the loop itself costs little.
    const UNROLLED: usize = 4;
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[L::splat(0.0); VECTORS]; ROWS];
        for index in 0..count {
            let Steps { left, left_stride, row_stride, right, right_stride, count } = *steps.add(index);
            let row_stride = if STRIDE == 0 { row_stride } else { STRIDE };
            let (mut left, mut right) = (left.wrapping_add(row * row_stride), right);
            macro_rules! step {
                () => {
                    let mut b = [W::load(right); VECTORS];
                    for (v, b) in b.iter_mut().enumerate().skip(1) {
                        *b = W::load(right.add(v * L::WIDTH));
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let a = W::splat(left.add(r * row_stride));
                        for (sum, b) in sums.iter_mut().zip(&b) {
                            *sum = W::add_product(a, *b, *sum);
                        }
                    }
                    left = left.wrapping_add(left_stride);
                    right = right.wrapping_add(right_stride);
                };
            }
            for _ in 0..count / UNROLLED {
                step!();
                step!();
                step!();
                step!();
            }
            for _ in 0..count % UNROLLED {
                step!();
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let mut sum = *sum;
                // Not before: every step after would be rounded to the digits of what is there.
                if !start.pointer.is_null() {
                    let from = start.pointer.add(r * start.stride + v * L::WIDTH);
                    sum = L::add(sum, L::load_part(from, columns - v * L::WIDTH));
                }
                L::store_part(to.add(r * stride + v * L::WIDTH), columns - v * L::WIDTH, sum);
            }
        }
    }
}
