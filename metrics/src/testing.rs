//! What the tests share.

use crate::curve::Curve;

/// Fails where `found` is further than 1e-6 from `expected`, relative to it where that is above 1.
#[track_caller]
pub fn assert_near(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{found} is not {expected}");
}

/// The same for lists.
#[track_caller]
pub fn assert_all_near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{found:?} is not {expected:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert_near(*found, *expected);
    }
}

/// 60 points in six dimensions of a linear congruential generator, rows filled from the left.
pub fn generated(seed: u64, scale: [f64; 6], offset: [f64; 6]) -> Vec<f64> {
    let mut state = seed;
    (0..360)
        .map(|place| {
            state = (1_103_515_245 * state + 12_345) % (1 << 31);
            let unit = state as f64 / f64::from(1u32 << 31) - 0.5;
            unit * scale[place % 6] + offset[place % 6]
        })
        .collect()
}

/// References and samples of [`generated`].
pub fn references_and_samples() -> (Vec<f64>, Vec<f64>) {
    let references = generated(31, [1.0, 1.0, 1.0, 1.0, 0.3, 0.1], [1.0, 0.5, 0.0, 0.0, 0.0, 0.0]);
    let samples = generated(1031, [1.2, 0.6, 1.0, 0.4, 0.6, 0.1], [1.1, 0.2, 0.3, 0.0, 0.0, 0.0]);
    (references, samples)
}

/// The largest `F_b` on a grid of angles as published code takes it, `lambda = tan(pi/2 k / (angles + 1))` with 1e-10 in the
/// denominator: up to 3e-4 below [`Curve::max_f`].
pub fn max_f_on_grid(curve: &Curve, b: f64, angles: usize) -> f64 {
    let square = b * b;
    let f = |(alpha, beta): (f64, f64)| (1.0 + square) * alpha * beta / (square * alpha + beta + 1e-10);
    curve.grid(angles).map(f).fold(0.0, f64::max)
}
