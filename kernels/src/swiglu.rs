//! Gated activations, `silu(gate) * up` and `gelu(gate) * up`, in one pass each way.

use rayon::prelude::*;

use crate::element::Element;
use crate::functions::sigmoid;
use crate::parallel::Build;
use crate::simd::{Lanes, multiversion};

/// Rows of a task.
const ROWS: usize = 16;

/// `silu(gate) * up`, `[rows, width]`, for rows `[gate, up]` of `2 * width`.
pub fn swiglu<E: Element>(gate_up: &[E], width: usize) -> Vec<E> {
    gated::<E, Silu>(gate_up, width)
}

/// The gradient of `gate_up`, `[rows, 2 * width]`, from that of the output, `[rows, width]`.
pub fn swiglu_backward<E: Element, G: Element>(gate_up: &[E], gradient: &[G], width: usize) -> Vec<E> {
    gated_backward::<E, G, Silu>(gate_up, gradient, width)
}

/// `gelu(gate) * up` with the tanh approximation of GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415), shapes as in
/// [`swiglu`].
pub fn geglu<E: Element>(gate_up: &[E], width: usize) -> Vec<E> {
    gated::<E, GeluTanh>(gate_up, width)
}

/// The gradient of `gate_up` in [`geglu`].
pub fn geglu_backward<E: Element, G: Element>(gate_up: &[E], gradient: &[G], width: usize) -> Vec<E> {
    gated_backward::<E, G, GeluTanh>(gate_up, gradient, width)
}

/// An activation of the form `x * sigmoid(v(x))`.
trait Activation {
    /// `v(x)` and its slope.
    unsafe fn inner<L: Lanes>(x: L::V) -> (L::V, L::V);
}

/// `v(x) = x`
struct Silu;

impl Activation for Silu {
    #[inline(always)]
    unsafe fn inner<L: Lanes>(x: L::V) -> (L::V, L::V) {
        // SAFETY: inside of `multiversion!` the instruction set is there, and nothing but registers is touched.
        (x, unsafe { L::splat(1.0) })
    }
}

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, which is `v(x) = 2 sqrt(2 / pi) (x + 0.044715 x^3)`.
struct GeluTanh;

impl Activation for GeluTanh {
    #[inline(always)]
    unsafe fn inner<L: Lanes>(x: L::V) -> (L::V, L::V) {
        const FACTOR: f32 = 1.595_769;
        // SAFETY: inside of `multiversion!` the instruction set is there, and nothing but registers is touched.
        unsafe {
            // Past 10 the sigmoid is 0 or 1 to the last bit, and the cube must not grow to infinity. Operands in this
            // order give NaN back when `x` is NaN.
            let x = L::max(L::splat(-10.0), L::min(L::splat(10.0), x));
            let square = L::mul(x, x);
            let value = L::mul(x, L::fma(square, L::splat(0.044_715 * FACTOR), L::splat(FACTOR)));
            (value, L::fma(square, L::splat(3.0 * 0.044_715 * FACTOR), L::splat(FACTOR)))
        }
    }
}

fn gated<E: Element, A: Activation>(gate_up: &[E], width: usize) -> Vec<E> {
    assert!(width > 0 && gate_up.len().is_multiple_of(2 * width), "rows of another width");
    let build = Build::new(gate_up.len() / 2);
    gate_up.par_chunks(ROWS * 2 * width).enumerate().for_each(|(chunk, rows)| {
        for (row, values) in rows.chunks_exact(2 * width).enumerate() {
            // SAFETY: each row has a place of its own.
            unsafe { forward::<E, A>(values.as_ptr(), build.at((chunk * ROWS + row) * width), width) }
        }
    });
    // SAFETY: every row was written.
    unsafe { build.finish() }
}

fn gated_backward<E: Element, G: Element, A: Activation>(gate_up: &[E], gradient: &[G], width: usize) -> Vec<E> {
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
                    backward::<E, G, A>(values.as_ptr(), gradient.as_ptr(), to, width);
                }
            }
        },
    );
    // SAFETY: every row was written.
    unsafe { build.finish() }
}

multiversion! {
    fn forward<E: Element, A: Activation>(gate_up: *const E, y: *mut E, width: usize) = forward_body;
}
multiversion! {
    fn backward<E: Element, G: Element, A: Activation>(
        gate_up: *const E, gradient: *const G, to: *mut E, width: usize,
    ) = backward_body;
}

#[inline(always)]
unsafe fn forward_body<L: Lanes, E: Element, A: Activation>(gate_up: *const E, y: *mut E, width: usize) {
    for i in (0..width).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `width` values,
        // `gate_up` twice as many, and no lane past them is touched.
        unsafe {
            let gate = E::load::<L>(gate_up.add(i), width - i);
            let up = E::load::<L>(gate_up.add(width + i), width - i);
            let (v, _) = A::inner::<L>(gate);
            E::store::<L>(y.add(i), width - i, L::mul(L::mul(gate, sigmoid::<L>(v)), up));
        }
    }
}

/// With s the sigmoid of v: `d up = g gate s`, `d gate = g up s (1 + gate v' (1 - s))`.
#[inline(always)]
unsafe fn backward_body<L: Lanes, E: Element, G: Element, A: Activation>(
    gate_up: *const E,
    gradient: *const G,
    to: *mut E,
    width: usize,
) {
    for i in (0..width).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `width` values,
        // `gate_up` twice as many, and no lane past them is touched.
        unsafe {
            let left = width - i;
            let gate = E::load::<L>(gate_up.add(i), left);
            let up = E::load::<L>(gate_up.add(width + i), left);
            let scaled = {
                let (v, slope) = A::inner::<L>(gate);
                let s = sigmoid::<L>(v);
                let slope = L::fma(L::mul(gate, slope), L::sub(L::splat(1.0), s), L::splat(1.0));
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

    fn silu(x: f64) -> f64 {
        x / (1.0 + (-x).exp())
    }

    fn gelu(x: f64) -> f64 {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
    }

    #[test]
    fn values_and_gradients_match_the_definition() {
        let (rows, width) = (19, 45);
        let gate_up: Vec<f32> = (0..rows * 2 * width).map(|i| (i as f32 * 0.37).sin() * 9.0).collect();
        let gradient: Vec<f32> = (0..rows * width).map(|i| (i as f32 * 0.11).cos()).collect();
        let functions: [fn(f64) -> f64; 2] = [silu, gelu];
        let cases = [
            (swiglu(&gate_up, width), swiglu_backward(&gate_up, &gradient, width)),
            (geglu(&gate_up, width), geglu_backward(&gate_up, &gradient, width)),
        ];
        for (function, (found, back)) in functions.into_iter().zip(cases) {
            for row in 0..rows {
                for i in 0..width {
                    let (a, b) = (row * 2 * width + i, row * 2 * width + width + i);
                    let (gate, up) = (f64::from(gate_up[a]), f64::from(gate_up[b]));
                    assert!((f64::from(found[row * width + i]) - function(gate) * up).abs() < 2e-5);
                    let g = f64::from(gradient[row * width + i]);
                    let slope = up * (function(gate + 1e-6) - function(gate - 1e-6)) / 2e-6;
                    assert!((f64::from(back[a]) - g * slope).abs() < 3e-5, "{} {}", back[a], g * slope);
                    assert!((f64::from(back[b]) - g * function(gate)).abs() < 2e-5);
                }
            }
        }
    }

    /// The exponential over its whole range, and what is not a number.
    #[test]
    fn extreme_gates_stay_finite_and_nan_stays_nan() {
        let row = [-1e30f32, -100.0, -88.0, 0.0, 88.0, 100.0, 1e30, f32::NAN];
        let gate_up: Vec<f32> = row.iter().copied().chain([1.0; 8]).collect();
        for (found, back) in [
            (swiglu(&gate_up, 8), swiglu_backward(&gate_up, &[1.0f32; 8], 8)),
            (geglu(&gate_up, 8), geglu_backward(&gate_up, &[1.0f32; 8], 8)),
        ] {
            assert!(found[..7].iter().all(|v| v.is_finite()), "{found:?}");
            assert!(back[..7].iter().all(|v| v.is_finite()), "{back:?}");
            assert_eq!((found[3], found[5], found[6]), (0.0, 100.0, 1e30));
            assert!(found[7].is_nan());
        }
    }
}
