//! Passes over one row of scores: softmax, its slopes, the soft cap.

use crate::element::Element;
use crate::functions::{cap_slope, capped};
use crate::simd::{Lanes, multiversion};

multiversion! {
    pub(super) fn softmax_row(scores: *mut f32, first: usize, last: usize, total: usize) -> (f32, f32) = softmax_row_body;
}
multiversion! {
    pub(super) fn slope_row(
        scores: *mut f32, slopes: *mut f32, first: usize, last: usize, total: usize, log_sum: f32, delta: f32,
    ) = slope_row_body;
}
multiversion! { pub(super) fn cap_row(scores: *mut f32, count: usize, cap: f32) = cap_row_body; }
multiversion! {
    pub(super) fn cap_slopes(slopes: *mut f32, scores: *const f32, count: usize, reciprocal: f32) = cap_slopes_body;
}
multiversion! { pub(super) fn dot<E: Element>(a: *const E, b: *const f32, count: usize) -> f32 = dot_body; }

/// Exponentials of the scores `first..last` in place, zero elsewhere; the largest score and their sum.
#[inline(always)]
unsafe fn softmax_row_body<L: Lanes>(scores: *mut f32, first: usize, last: usize, total: usize) -> (f32, f32) {
    // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `total` values, and
    // no lane past them is touched.
    unsafe {
        clear::<L>(scores, first, last, total);
        let whole = first + (last - first) / L::WIDTH * L::WIDTH;
        let mut largest = L::splat(f32::NEG_INFINITY);
        for i in (first..whole).step_by(L::WIDTH) {
            largest = L::max(L::load(scores.add(i)), largest);
        }
        let mut top = L::largest(largest);
        for i in whole..last {
            top = top.max(*scores.add(i));
        }
        let mut sum = L::splat(0.0);
        for i in (first..whole).step_by(L::WIDTH) {
            let e = L::exp(L::sub(L::load(scores.add(i)), L::splat(top)));
            L::store(scores.add(i), e);
            sum = L::add(sum, e);
        }
        let mut sum = L::sum(sum);
        if whole < last {
            let mut rest = [0.0f32; 16];
            L::store_part(rest.as_mut_ptr(), L::WIDTH, {
                let part = L::load_part(scores.add(whole), last - whole);
                L::exp(L::sub(part, L::splat(top)))
            });
            for (i, e) in rest.iter().enumerate().take(last - whole) {
                *scores.add(whole + i) = *e;
                sum += e;
            }
        }
        (top, sum)
    }
}

/// Scores to probabilities, and the gradient of the probabilities to that of the scores: `p = e^(s - log_sum)`,
/// `ds = p (dp - delta)`; both zero outside of `first..last`.
#[inline(always)]
unsafe fn slope_row_body<L: Lanes>(
    scores: *mut f32,
    slopes: *mut f32,
    first: usize,
    last: usize,
    total: usize,
    log_sum: f32,
    delta: f32,
) {
    // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `total` values, and
    // no lane past them is touched.
    unsafe {
        clear::<L>(scores, first, last, total);
        clear::<L>(slopes, first, last, total);
        for i in (first..last).step_by(L::WIDTH) {
            let left = last - i;
            let p = L::exp(L::sub(L::load_part(scores.add(i), left), L::splat(log_sum)));
            let slope = L::mul(p, L::sub(L::load_part(slopes.add(i), left), L::splat(delta)));
            L::store_part(scores.add(i), left, p);
            L::store_part(slopes.add(i), left, slope);
        }
    }
}

/// Scores to capped scores, in place.
#[inline(always)]
unsafe fn cap_row_body<L: Lanes>(scores: *mut f32, count: usize, cap: f32) {
    for i in (0..count).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count` values,
        // and no lane past them is touched.
        unsafe {
            let score = L::load_part(scores.add(i), count - i);
            L::store_part(scores.add(i), count - i, capped::<L>(score, cap));
        }
    }
}

/// Gradients of capped scores to those of the scores before, in place.
#[inline(always)]
unsafe fn cap_slopes_body<L: Lanes>(slopes: *mut f32, scores: *const f32, count: usize, reciprocal: f32) {
    for i in (0..count).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count` values,
        // and no lane past them is touched.
        unsafe {
            let slope = cap_slope::<L>(L::load_part(scores.add(i), count - i), reciprocal);
            let slope = L::mul(L::load_part(slopes.add(i), count - i), slope);
            L::store_part(slopes.add(i), count - i, slope);
        }
    }
}

/// Zeros in `0..first` and `last..total`.
#[inline(always)]
unsafe fn clear<L: Lanes>(values: *mut f32, first: usize, last: usize, total: usize) {
    for (from, to) in [(0, first), (last, total)] {
        for i in (from..to).step_by(L::WIDTH) {
            // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `total`
            // values, and no lane past them is touched.
            unsafe { L::store_part(values.add(i), to - i, L::splat(0.0)) }
        }
    }
}

#[inline(always)]
unsafe fn dot_body<L: Lanes, E: Element>(a: *const E, b: *const f32, count: usize) -> f32 {
    // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count` values, and
    // no lane past them is touched.
    unsafe {
        let mut sum = L::splat(0.0);
        for i in (0..count).step_by(L::WIDTH) {
            sum = L::fma(E::load::<L>(a.add(i), count - i), L::load_part(b.add(i), count - i), sum);
        }
        L::sum(sum)
    }
}
