//! A register tile of rows by two vectors of columns: the innermost loops of all products.

use crate::parallel::Shared;
use crate::simd::{Lanes, multiversion};

/// Words from one row to the next of a left side that was copied: a constant, so that a tile needs one pointer for all its
/// rows. What is copied at once has no more steps.
pub(super) const LEFT_STRIDE: usize = 320;

/// Some steps of the inner dimension.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    /// The first row of the left side.
    pub(super) left: *const u32,
    /// From one step to the next, on the left side.
    pub(super) left_stride: usize,
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

    /// The same from another row and column on.
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
        unsafe { L::splat(word.cast::<f32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u32) -> L::V {
        unsafe { L::load(from.cast()) }
    }
    #[inline(always)]
    unsafe fn add_product(a: L::V, b: L::V, sum: L::V) -> L::V {
        unsafe { L::fma(a, b, sum) }
    }
}

/// The sums of all tiles of some rows and of up to two vectors of columns, of pairs of bf16 where `pairs` is true: they
/// begin with `start` and go to rows of `stride` from `to` on. The left side is a copy, or has its rows side by side
/// where `turned` is true.
///
/// # Safety
/// All pointers are valid for the rows, columns and steps; pairs need a processor that multiplies them.
pub(super) unsafe fn tiles(
    pairs: bool,
    turned: bool,
    steps: &[Steps],
    [rows, columns]: [usize; 2],
    start: Start,
    (to, stride): (*mut f32, usize),
) {
    let (steps, count) = (steps.as_ptr(), steps.len());
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if pairs {
            return x86::pairs(steps, count, rows, columns, start, to, stride);
        }
        debug_assert!(!pairs, "no other processor multiplies pairs");
        match turned {
            true => turned_tiles(steps, count, rows, columns, start, to, stride),
            false => copied_tiles(steps, count, rows, columns, start, to, stride),
        }
    }
}

multiversion! {
    fn copied_tiles(
        steps: *const Steps, count: usize, rows: usize, columns: usize, start: Start, to: *mut f32, stride: usize,
    ) = copied_body;
}
multiversion! {
    fn turned_tiles(
        steps: *const Steps, count: usize, rows: usize, columns: usize, start: Start, to: *mut f32, stride: usize,
    ) = turned_body;
}

#[inline(always)]
unsafe fn copied_body<L: Lanes>(
    steps: *const Steps,
    count: usize,
    rows: usize,
    columns: usize,
    start: Start,
    to: *mut f32,
    stride: usize,
) {
    unsafe { body::<L, Single, LEFT_STRIDE>(steps, count, rows, columns, start, to, stride) }
}

#[inline(always)]
unsafe fn turned_body<L: Lanes>(
    steps: *const Steps,
    count: usize,
    rows: usize,
    columns: usize,
    start: Start,
    to: *mut f32,
    stride: usize,
) {
    unsafe { body::<L, Single, 1>(steps, count, rows, columns, start, to, stride) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LEFT_STRIDE, Start, Steps, Words};
    use crate::simd::Avx512;

    /// As pairs of bf16.
    struct Pairs;

    impl Words<Avx512> for Pairs {
        type Vector = __m512i;
        #[inline(always)]
        unsafe fn splat(word: *const u32) -> __m512i {
            unsafe { _mm512_set1_epi32(word.cast::<i32>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn load(from: *const u32) -> __m512i {
            unsafe { _mm512_loadu_si512(from.cast()) }
        }
        #[inline(always)]
        unsafe fn add_product(a: __m512i, b: __m512i, sum: __m512) -> __m512 {
            unsafe { _mm512_dpbf16_ps(sum, std::mem::transmute(a), std::mem::transmute(b)) }
        }
    }

    /// # Safety
    /// As [`super::tiles`].
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn pairs(
        steps: *const Steps,
        count: usize,
        rows: usize,
        columns: usize,
        start: Start,
        to: *mut f32,
        stride: usize,
    ) {
        unsafe { super::body::<Avx512, Pairs, LEFT_STRIDE>(steps, count, rows, columns, start, to, stride) }
    }
}

/// Cuts the rows into tiles of nearly equal height.
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
    let tiles = rows.div_ceil(L::ROWS);
    for index in 0..tiles {
        let row = rows * index / tiles;
        let height = rows * (index + 1) / tiles - row;
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
            unsafe { tile::<L, W, STRIDE, VECTORS, $rows>(steps, columns, start, to, stride) }
        };
    }
    match height {
        1 => tile!(1),
        2 => tile!(2),
        3 => tile!(3),
        4 => tile!(4),
        5 if L::ROWS >= 5 => tile!(5),
        6 if L::ROWS >= 6 => tile!(6),
        7 if L::ROWS >= 7 => tile!(7),
        8 if L::ROWS >= 8 => tile!(8),
        9 if L::ROWS >= 9 => tile!(9),
        10 if L::ROWS >= 10 => tile!(10),
        11 if L::ROWS >= 11 => tile!(11),
        12 if L::ROWS >= 12 => tile!(12),
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
    unsafe {
        let mut sums = [[L::splat(0.0); VECTORS]; ROWS];
        if !start.pointer.is_null() {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    let from = start.pointer.add(r * start.stride + v * L::WIDTH);
                    *sum = L::load_part(from, columns - v * L::WIDTH);
                }
            }
        }
        for index in 0..count {
            let Steps { left, left_stride, right, right_stride, count } = *steps.add(index);
            let (mut left, mut right) = (left.wrapping_add(row * STRIDE), right);
            macro_rules! step {
                () => {
                    let mut b = [W::load(right); VECTORS];
                    for (v, b) in b.iter_mut().enumerate().skip(1) {
                        *b = W::load(right.add(v * L::WIDTH));
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let a = W::splat(left.add(r * STRIDE));
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
                L::store_part(to.add(r * stride + v * L::WIDTH), columns - v * L::WIDTH, *sum);
            }
        }
    }
}
