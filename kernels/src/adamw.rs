//! AdamW in one pass over the trained values.

use rayon::prelude::*;

use crate::simd::{Lanes, multiversion};

/// Values of a task, and of a partial sum of squares.
const PIECE: usize = 1 << 14;

/// The numbers of one update.
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep {
    /// Factor of the gradient: clipping.
    pub gradient_scale: f32,
    /// Decay of the two moments.
    pub betas: [f32; 2],
    /// 1 less each decay, rounded once: 1 - 0.999 in f32 is off in the fifth digit.
    pub shares: [f32; 2],
    /// Learning rate over the correction of the first moment.
    pub rate: f32,
    /// 1 over the root of the correction of the second moment.
    pub root_scale: f32,
    /// Added to the root.
    pub epsilon: f32,
    /// The share of the values that weight decay subtracts.
    pub decay: f32,
}

/// Updates values and moments in place. `factors` multiply `rate` and `decay` of each value; empty for all the same.
pub fn adamw(
    values: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    factors: &[f32],
    step: &AdamWStep,
) {
    let length = values.len();
    assert!(gradient.len() == length && first.len() == length && second.len() == length, "one of each a value");
    assert!([0, length].contains(&factors.len()), "a factor for each value, or none");
    (values.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE)).enumerate())
        .zip(first.par_chunks_mut(PIECE).zip(second.par_chunks_mut(PIECE)))
        .for_each(|((index, (values, gradient)), (first, second))| {
            let count = values.len();
            let (values, gradient) = (values.as_mut_ptr(), gradient.as_ptr());
            let (first, second) = (first.as_mut_ptr(), second.as_mut_ptr());
            // SAFETY: all have the same length.
            unsafe {
                match factors.get(index * PIECE..) {
                    Some([first_factor, ..]) => {
                        update_each(values, gradient, first, second, first_factor, count, step);
                    }
                    _ => update(values, gradient, first, second, count, step),
                }
            }
        });
}

/// The sum of squares, in an order that is always the same.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    let partial: Vec<f64> = values
        .par_chunks(PIECE)
        // SAFETY: the piece has the length that is given.
        .map(|piece| unsafe { squares(piece.as_ptr(), piece.len()) })
        .collect();
    partial.into_iter().sum()
}

multiversion! {
    fn update(
        values: *mut f32, gradient: *const f32, first: *mut f32, second: *mut f32, count: usize, step: &AdamWStep,
    ) = update_body;
}
multiversion! {
    fn update_each(
        values: *mut f32, gradient: *const f32, first: *mut f32, second: *mut f32, factors: *const f32, count: usize,
        step: &AdamWStep,
    ) = update_each_body;
}
multiversion! { fn squares(values: *const f32, count: usize) -> f64 = squares_body; }

#[inline(always)]
unsafe fn update_body<L: Lanes>(
    values: *mut f32,
    gradient: *const f32,
    first: *mut f32,
    second: *mut f32,
    count: usize,
    step: &AdamWStep,
) {
    for i in (0..count).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count` values,
        // and no lane past them is touched.
        unsafe {
            let (rate, keep) = (L::splat(step.rate), L::splat(1.0 - step.decay));
            let (value, m, v) = (values.add(i), first.add(i), second.add(i));
            lanes::<L>(value, gradient.add(i), m, v, (rate, keep), count - i, step);
        }
    }
}

#[inline(always)]
unsafe fn update_each_body<L: Lanes>(
    values: *mut f32,
    gradient: *const f32,
    first: *mut f32,
    second: *mut f32,
    factors: *const f32,
    count: usize,
    step: &AdamWStep,
) {
    for i in (0..count).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count` values,
        // and no lane past them is touched.
        unsafe {
            let factor = L::load_part(factors.add(i), count - i);
            let keep = L::sub(L::splat(1.0), L::mul(factor, L::splat(step.decay)));
            let rate = L::mul(factor, L::splat(step.rate));
            let (value, m, v) = (values.add(i), first.add(i), second.add(i));
            lanes::<L>(value, gradient.add(i), m, v, (rate, keep), count - i, step);
        }
    }
}

/// One vector of values.
#[inline(always)]
unsafe fn lanes<L: Lanes>(
    values: *mut f32,
    gradient: *const f32,
    first: *mut f32,
    second: *mut f32,
    (rate, keep): (L::V, L::V),
    left: usize,
    step: &AdamWStep,
) {
    // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `left` values, or a
    // whole vector, and no lane past them is touched.
    unsafe {
        let g = L::mul(L::load_part(gradient, left), L::splat(step.gradient_scale));
        let decayed = L::mul(L::load_part(first, left), L::splat(step.betas[0]));
        let m = L::fma(g, L::splat(step.shares[0]), decayed);
        let decayed = L::mul(L::load_part(second, left), L::splat(step.betas[1]));
        let v = L::fma(L::mul(g, g), L::splat(step.shares[1]), decayed);
        L::store_part(first, left, m);
        L::store_part(second, left, v);
        let root = L::fma(L::sqrt(v), L::splat(step.root_scale), L::splat(step.epsilon));
        let kept = L::mul(L::load_part(values, left), keep);
        L::store_part(values, left, L::sub(kept, L::div(L::mul(m, rate), root)));
    }
}

#[inline(always)]
unsafe fn squares_body<L: Lanes>(values: *const f32, count: usize) -> f64 {
    // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count` values, and
    // no lane past them is touched.
    unsafe {
        let mut sum = [L::splat(0.0); 2];
        for (index, i) in (0..count).step_by(L::WIDTH).enumerate() {
            let v = L::load_part(values.add(i), count - i);
            sum[index % 2] = L::fma(v, v, sum[index % 2]);
        }
        f64::from(L::sum(sum[0])) + f64::from(L::sum(sum[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_matches_the_definition_in_f64() {
        let length = PIECE + 37;
        let mut values: Vec<f32> = (0..length).map(|i| (i as f32 * 0.3).sin()).collect();
        let gradient: Vec<f32> = (0..length).map(|i| (i as f32 * 0.7).cos()).collect();
        let before = values.clone();
        let all: Vec<f32> = (0..length).map(|i| if i % 3 == 0 { 16.0 } else { 1.0 }).collect();
        let step = AdamWStep {
            gradient_scale: 0.5,
            betas: [0.9, 0.999],
            shares: [0.1, 0.001],
            rate: 0.01,
            root_scale: 1.5,
            epsilon: 1e-8,
            decay: 0.01,
        };
        for factors in [&[][..], &all] {
            values.clone_from(&before);
            let (mut first, mut second) = (vec![0.1; length], vec![0.2; length]);
            adamw(&mut values, &gradient, &mut first, &mut second, factors, &step);
            for i in 0..length {
                let factor = f64::from(factors.get(i).copied().unwrap_or(1.0));
                let g = f64::from(gradient[i]) * 0.5;
                let (m, v) = (0.9 * 0.1 + 0.1 * g, 0.999 * 0.2 + 0.001 * g * g);
                let change = 0.01 * m / (v.sqrt() * 1.5 + 1e-8);
                let expected = f64::from(before[i]) * (1.0 - 0.01 * factor) - factor * change;
                assert!((f64::from(values[i]) - expected).abs() < 1e-6);
                assert!((f64::from(first[i]) - m).abs() < 1e-6 && (f64::from(second[i]) - v).abs() < 1e-6);
            }
        }
        let expected: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
        assert!((sum_of_squares(&gradient) / expected - 1.0).abs() < 1e-6);
    }
}
