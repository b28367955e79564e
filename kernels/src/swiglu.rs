//! The gated activation `silu(gate) * up` in one pass each way.

use rayon::prelude::*;

use crate::element::Element;
use crate::parallel::Build;
use crate::simd::{Lanes, multiversion};

/// Rows of a task.
const ROWS: usize = 16;

/// `silu(gate) * up`, `[rows, width]`, for rows `[gate, up]` of `2 * width`.
pub fn swiglu<E: Element>(gate_up: &[E], width: usize) -> Vec<E> {
    assert!(width > 0 && gate_up.len().is_multiple_of(2 * width), "rows of another width");
    let build = Build::new(gate_up.len() / 2);
    gate_up.par_chunks(ROWS * 2 * width).enumerate().for_each(|(chunk, rows)| {
        for (row, values) in rows.chunks_exact(2 * width).enumerate() {
            // SAFETY: each row has a place of its own.
            unsafe { forward(values.as_ptr(), build.at((chunk * ROWS + row) * width), width) }
        }
    });
    // SAFETY: every row was written.
    unsafe { build.finish() }
}

/// The gradient of `gate_up`, `[rows, 2 * width]`, from that of the output, `[rows, width]`.
pub fn swiglu_backward<E: Element, G: Element>(gate_up: &[E], gradient: &[G], width: usize) -> Vec<E> {
    assert!(width > 0 && gate_up.len() == 2 * gradient.len(), "rows of another width");
    assert!(gradient.len().is_multiple_of(width), "rows of another width");
    let build = Build::new(gate_up.len());
    gate_up.par_chunks(ROWS * 2 * width).zip(gradient.par_chunks(ROWS * width)).enumerate().for_each(
        |(chunk, (rows, gradient))| {
            let rows = rows.chunks_exact(2 * width).zip(gradient.chunks_exact(width));
            for (row, (values, gradient)) in rows.enumerate() {
                // SAFETY: each row has a place of its own.
                unsafe {
                    let to = build.at((chunk * ROWS + row) * 2 * width);
                    backward(values.as_ptr(), gradient.as_ptr(), to, width);
                }
            }
        },
    );
    // SAFETY: every row was written.
    unsafe { build.finish() }
}

multiversion! { fn forward<E: Element>(gate_up: *const E, y: *mut E, width: usize) = forward_body; }
multiversion! {
    fn backward<E: Element, G: Element>(gate_up: *const E, gradient: *const G, to: *mut E, width: usize) = backward_body;
}

/// 1 / (1 + e^-x)
#[inline(always)]
unsafe fn sigmoid<L: Lanes>(x: L::V) -> L::V {
    unsafe {
        let one = L::splat(1.0);
        L::div(one, L::add(one, L::exp(L::sub(L::splat(0.0), x))))
    }
}

#[inline(always)]
unsafe fn forward_body<L: Lanes, E: Element>(gate_up: *const E, y: *mut E, width: usize) {
    for i in (0..width).step_by(L::WIDTH) {
        unsafe {
            let gate = E::load::<L>(gate_up.add(i), width - i);
            let up = E::load::<L>(gate_up.add(width + i), width - i);
            E::store::<L>(y.add(i), width - i, L::mul(L::mul(gate, sigmoid::<L>(gate)), up));
        }
    }
}

/// With s the sigmoid of the gate: `d up = g gate s`, `d gate = g up s (1 + gate (1 - s))`.
#[inline(always)]
unsafe fn backward_body<L: Lanes, E: Element, G: Element>(
    gate_up: *const E,
    gradient: *const G,
    to: *mut E,
    width: usize,
) {
    for i in (0..width).step_by(L::WIDTH) {
        unsafe {
            let left = width - i;
            let gate = E::load::<L>(gate_up.add(i), left);
            let up = E::load::<L>(gate_up.add(width + i), left);
            let scaled = {
                let s = sigmoid::<L>(gate);
                let slope = L::fma(gate, L::sub(L::splat(1.0), s), L::splat(1.0));
                let g = L::mul(G::load::<L>(gradient.add(i), left), s);
                E::store::<L>(to.add(i), left, L::mul(L::mul(g, up), slope));
                g
            };
            E::store::<L>(to.add(width + i), left, L::mul(scaled, gate));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_gradients_match_the_definition() {
        let (rows, width) = (19, 45);
        let gate_up: Vec<f32> = (0..rows * 2 * width).map(|i| (i as f32 * 0.37).sin() * 9.0).collect();
        let gradient: Vec<f32> = (0..rows * width).map(|i| (i as f32 * 0.11).cos()).collect();
        let value = |gate: f64, up: f64| gate / (1.0 + (-gate).exp()) * up;
        let (found, back) = (swiglu(&gate_up, width), swiglu_backward(&gate_up, &gradient, width));
        for row in 0..rows {
            for i in 0..width {
                let (a, b) = (row * 2 * width + i, row * 2 * width + width + i);
                let (gate, up) = (f64::from(gate_up[a]), f64::from(gate_up[b]));
                assert!((f64::from(found[row * width + i]) - value(gate, up)).abs() < 2e-5);
                let g = f64::from(gradient[row * width + i]);
                let slope = (value(gate + 1e-6, up) - value(gate - 1e-6, up)) / 2e-6;
                assert!((f64::from(back[a]) - g * slope).abs() < 3e-5, "{} {}", back[a], g * slope);
                assert!((f64::from(back[b]) - g * value(gate, 1.0)).abs() < 2e-5);
            }
        }
    }

    /// The exponential over its whole range, and what is not a number.
    #[test]
    fn extreme_gates_stay_finite_and_nan_stays_nan() {
        let row = [-1e30f32, -100.0, -88.0, 0.0, 88.0, 100.0, 1e30, f32::NAN];
        let gate_up: Vec<f32> = row.iter().copied().chain([1.0; 8]).collect();
        let found = swiglu(&gate_up, 8);
        assert!(found[..7].iter().all(|v| v.is_finite()), "{found:?}");
        assert_eq!((found[3], found[5], found[6]), (0.0, 100.0, 1e30));
        assert!(found[7].is_nan());
    }
}
