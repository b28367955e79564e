//! Root mean square norm in one pass each way.

use rayon::prelude::*;

use crate::element::Element;
use crate::parallel::Build;
use crate::simd::{Lanes, multiversion};

/// Rows of a task, and of a partial sum of the weight's gradient.
const ROWS: usize = 32;

/// `x / sqrt(mean(x^2) + epsilon) * weight` over rows of the weight's length.
pub fn rms_norm<E: Element, O: Element>(x: &[E], weight: &[f32], epsilon: f32) -> Vec<O> {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "rows of another width");
    let build = Build::new(x.len());
    x.par_chunks(ROWS * width).enumerate().for_each(|(chunk, x)| {
        for (row, x) in x.chunks_exact(width).enumerate() {
            // SAFETY: each row has a place of its own.
            unsafe {
                let y = build.at((chunk * ROWS + row) * width);
                forward(x.as_ptr(), weight.as_ptr(), y, width, epsilon);
            }
        }
    });
    // SAFETY: every row was written.
    unsafe { build.finish() }
}

/// Gradients of `x` in its type, and of the weight where it is asked for, from the gradient of the output.
pub fn rms_norm_backward<E: Element, G: Element>(
    x: &[E],
    weight: &[f32],
    gradient: &[G],
    epsilon: f32,
    want_weight: bool,
) -> (Vec<E>, Option<Vec<f32>>) {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width) && x.len() == gradient.len(), "rows of another width");
    let build = Build::new(x.len());
    let partial: Vec<Vec<f32>> = (x.par_chunks(ROWS * width).zip(gradient.par_chunks(ROWS * width)).enumerate())
        .map(|(chunk, (x, gradient))| {
            let mut weight_gradient = vec![0.0; if want_weight { width } else { 0 }];
            for (row, (x, gradient)) in x.chunks_exact(width).zip(gradient.chunks_exact(width)).enumerate() {
                // SAFETY: each row has a place of its own, and the sum of the chunk is its own.
                unsafe {
                    let dx = build.at((chunk * ROWS + row) * width);
                    let sum = if want_weight { weight_gradient.as_mut_ptr() } else { std::ptr::null_mut() };
                    backward(x.as_ptr(), weight.as_ptr(), gradient.as_ptr(), dx, sum, width, epsilon);
                }
            }
            weight_gradient
        })
        .collect();
    let weight_gradient = want_weight.then(|| {
        partial.into_iter().fold(vec![0.0; width], |mut sum, part| {
            sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            sum
        })
    });
    // SAFETY: every row was written.
    (unsafe { build.finish() }, weight_gradient)
}

multiversion! {
    fn forward<E: Element, O: Element>(x: *const E, weight: *const f32, y: *mut O, width: usize, epsilon: f32)
        = forward_body;
}

multiversion! {
    fn backward<E: Element, G: Element>(
        x: *const E, weight: *const f32, gradient: *const G, dx: *mut E, dweight: *mut f32, width: usize, epsilon: f32,
    ) = backward_body;
}

/// 1 / sqrt(mean(x^2) + epsilon)
#[inline(always)]
unsafe fn reciprocal<L: Lanes, E: Element>(x: *const E, width: usize, epsilon: f32) -> f32 {
    // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `width` values, and
    // no lane past them is touched.
    unsafe {
        let mut squares = L::splat(0.0);
        for i in (0..width).step_by(L::WIDTH) {
            let v = E::load::<L>(x.add(i), width - i);
            squares = L::fma(v, v, squares);
        }
        1.0 / (L::sum(squares) / width as f32 + epsilon).sqrt()
    }
}

#[inline(always)]
unsafe fn forward_body<L: Lanes, E: Element, O: Element>(
    x: *const E,
    weight: *const f32,
    y: *mut O,
    width: usize,
    epsilon: f32,
) {
    // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `width` values, and
    // no lane past them is touched.
    unsafe {
        let r = L::splat(reciprocal::<L, E>(x, width, epsilon));
        for i in (0..width).step_by(L::WIDTH) {
            let v = L::mul(E::load::<L>(x.add(i), width - i), r);
            O::store::<L>(y.add(i), width - i, L::mul(v, L::load_part(weight.add(i), width - i)));
        }
    }
}

/// With r the reciprocal root: `dx = r w g - x r^3 mean(w g x)`, `dw += g x r`.
#[inline(always)]
unsafe fn backward_body<L: Lanes, E: Element, G: Element>(
    x: *const E,
    weight: *const f32,
    gradient: *const G,
    dx: *mut E,
    dweight: *mut f32,
    width: usize,
    epsilon: f32,
) {
    // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `width` values, and
    // no lane past them is touched.
    unsafe {
        let r = reciprocal::<L, E>(x, width, epsilon);
        let mut dot = L::splat(0.0);
        for i in (0..width).step_by(L::WIDTH) {
            let left = width - i;
            let scaled = L::mul(G::load::<L>(gradient.add(i), left), L::load_part(weight.add(i), left));
            dot = L::fma(scaled, E::load::<L>(x.add(i), left), dot);
        }
        let factor = L::splat(-L::sum(dot) / width as f32 * r * r * r);
        let r = L::splat(r);
        for i in (0..width).step_by(L::WIDTH) {
            let left = width - i;
            let (v, g) = (E::load::<L>(x.add(i), left), G::load::<L>(gradient.add(i), left));
            let scaled = L::mul(L::mul(g, L::load_part(weight.add(i), left)), r);
            E::store::<L>(dx.add(i), left, L::fma(v, factor, scaled));
            if !dweight.is_null() {
                let sum = L::load_part(dweight.add(i), left);
                L::store_part(dweight.add(i), left, L::fma(L::mul(g, v), r, sum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.73 + seed).sin() * 2.0).collect()
    }

    fn reference(x: &[f64], weight: &[f64]) -> Vec<f64> {
        let rows = x.chunks(weight.len()).flat_map(|row| {
            let root = (row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64 + 1e-5).sqrt();
            row.iter().zip(weight).map(move |(x, w)| x / root * w)
        });
        rows.collect()
    }

    /// Gradients against central differences of the f64 definition.
    #[test]
    fn values_and_gradients_match_the_definition() {
        let (rows, width) = (37, 43);
        let (x, weight, gradient) = (values(rows * width, 0.3), values(width, 0.5), values(rows * width, 0.9));
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let (x64, weight64) = (wide(&x), wide(&weight));
        let y: Vec<f32> = rms_norm(&x, &weight, 1e-5);
        for (found, expected) in y.iter().zip(reference(&x64, &weight64)) {
            assert!((f64::from(*found) - expected).abs() < 2e-6);
        }
        let loss = |x: &[f64], weight: &[f64]| -> f64 {
            reference(x, weight).iter().zip(&gradient).map(|(y, g)| y * f64::from(*g)).sum()
        };
        let (dx, dweight) = rms_norm_backward(&x, &weight, &gradient, 1e-5, true);
        let check = |found: f32, values: &[f64], index: usize, loss: &dyn Fn(&[f64]) -> f64| {
            let at = |delta: f64| {
                let mut moved = values.to_vec();
                moved[index] += delta;
                loss(&moved)
            };
            let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((f64::from(found) - expected).abs() < 1e-5 * expected.abs().max(1.0), "{found} {expected}");
        };
        for index in (0..x.len()).step_by(53) {
            check(dx[index], &x64, index, &|x| loss(x, &weight64));
        }
        let dweight = dweight.expect("it was asked for");
        for (index, dweight) in dweight.iter().enumerate() {
            check(*dweight, &weight64, index, &|weight| loss(&x64, weight));
        }
    }
}
