//! Softmax and cross-entropy of rows of logits, without a tensor of probabilities.

use rayon::prelude::*;

use crate::element::Element;
use crate::functions::{cap_slope, capped};
use crate::parallel::{Build, Shared};
use crate::simd::{Lanes, multiversion};

/// What is kept of each row of logits.
#[derive(Debug, Clone, PartialEq)]
pub struct RowStatistics {
    /// Minus the log of the target's probability.
    pub nll: Vec<f32>,
    /// Entropy of the softmax, in nats.
    pub entropy: Vec<f32>,
    /// Log of the sum of the exponentials.
    pub log_sum: Vec<f32>,
}

/// Statistics of logits `[rows, vocabulary]` with one target a row.
pub fn softmax_statistics(logits: &[f32], vocabulary: usize, targets: &[u32]) -> RowStatistics {
    assert!(logits.len() == targets.len() * vocabulary, "one target a row");
    assert!(targets.iter().all(|target| (*target as usize) < vocabulary), "targets inside of the vocabulary");
    let rows: Vec<(f32, f32, f32)> = (logits.par_chunks(vocabulary.max(1)).zip(targets))
        .map(|(row, target)| {
            // SAFETY: the row has the length that is given.
            let (largest, sum, weighted) = unsafe { row_sums(row.as_ptr(), vocabulary) };
            let log_sum = f64::from(largest) + sum.ln();
            let entropy = sum.ln() - weighted / sum;
            ((log_sum - f64::from(row[*target as usize])) as f32, entropy as f32, log_sum as f32)
        })
        .collect();
    RowStatistics {
        nll: rows.iter().map(|row| row.0).collect(),
        entropy: rows.iter().map(|row| row.1).collect(),
        log_sum: rows.iter().map(|row| row.2).collect(),
    }
}

/// The log of each row's sum of `e^(factor * logit)`. At `1 / T` it is that of the softmax at temperature T; with it at 2,
/// the sum of the squared probabilities is `exp(at 2 - 2 (at 1))`.
pub fn log_sums(logits: &[f32], vocabulary: usize, factor: f32) -> Vec<f32> {
    let rows = logits.par_chunks(vocabulary.max(1)).map(|row| {
        // SAFETY: the row has the length that is given.
        let (largest, sum) = unsafe { factored_sum(row.as_ptr(), row.len(), factor) };
        (f64::from(largest) + sum.ln()) as f32
    });
    rows.collect()
}

/// Logits times `scale`, and then `cap * tanh(logit / cap)` where there is a cap.
pub fn scale_and_cap(logits: &mut [f32], scale: f32, cap: Option<f32>) {
    const PIECE: usize = 1 << 14;
    logits.par_chunks_mut(PIECE).for_each(|piece| {
        // SAFETY: the pointer and the count are those of one slice.
        unsafe { scale_piece(piece.as_mut_ptr(), piece.len(), scale, cap.unwrap_or(0.0)) }
    });
}

/// How the logits of a gradient are meant.
#[derive(Debug, Clone, Copy)]
pub struct Bend {
    /// They were capped at this, and the gradient is that of the logits before.
    pub cap: Option<f32>,
    /// They are multiplied with this in the softmax: one over its temperature.
    pub factor: f32,
}

impl Bend {
    /// The softmax of the logits as they are.
    pub const NONE: Self = Self { cap: None, factor: 1.0 };
}

/// `weight * (softmax - onehot)` of each row, by the log of its sum of exponentials at the same factor.
pub fn logits_gradient<O: Element>(
    logits: &[f32],
    vocabulary: usize,
    targets: &[u32],
    log_sum: &[f32],
    weights: &[f32],
    bend: Bend,
) -> Vec<O> {
    let Bend { cap, factor } = bend;
    let reciprocal = cap.map_or(0.0, |cap| 1.0 / cap);
    assert!(logits.len() == targets.len() * vocabulary, "one target a row");
    assert!(log_sum.len() == targets.len() && weights.len() == targets.len(), "one of each a row");
    let build = Build::new(logits.len());
    logits.par_chunks(vocabulary.max(1)).enumerate().for_each(|(row, logits)| {
        let target = targets[row] as usize;
        assert!(target < vocabulary, "targets inside of the vocabulary");
        // SAFETY: each row has a place of its own.
        unsafe {
            let to = Shared::new(build.at(row * vocabulary));
            gradient(logits.as_ptr(), to.at(0), vocabulary, [factor, log_sum[row]], weights[row], reciprocal);
            let probability = f64::from(logits[target] * factor - log_sum[row]).exp();
            let slope = 1.0 - f64::from(logits[target] * reciprocal).powi(2);
            let value = (f64::from(weights[row]) * (probability - 1.0) * slope) as f32;
            crate::element::convert_piece(&raw const value, to.at(target), 1);
        }
    });
    // SAFETY: every row was written.
    unsafe { build.finish() }
}

multiversion! { fn factored_sum(logits: *const f32, count: usize, factor: f32) -> (f32, f64) = factored_sum_body; }
multiversion! { fn row_sums(logits: *const f32, count: usize) -> (f32, f64, f64) = row_sums_body; }
multiversion! {
    fn gradient<O: Element>(
        logits: *const f32, to: *mut O, count: usize, softmax: [f32; 2], weight: f32, reciprocal: f32,
    ) = gradient_body;
}
multiversion! { fn scale_piece(logits: *mut f32, count: usize, scale: f32, cap: f32) = scale_body; }

/// The largest value, the sum of `e^(x - largest)`, and that of `(x - largest) e^(x - largest)`.
#[inline(always)]
unsafe fn row_sums_body<L: Lanes>(logits: *const f32, count: usize) -> (f32, f64, f64) {
    /// Values between two additions to the sums in f64, which keep a long vocabulary exact.
    const PIECE: usize = 2048;
    // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count` values, and
    // no lane past them is touched.
    unsafe {
        let mut largest = L::splat(f32::NEG_INFINITY);
        let whole = count / L::WIDTH * L::WIDTH;
        for i in (0..whole).step_by(L::WIDTH) {
            largest = L::max(L::load(logits.add(i)), largest);
        }
        let mut top = L::largest(largest);
        for i in whole..count {
            top = top.max(*logits.add(i));
        }
        let (mut total, mut total_weighted) = (0.0f64, 0.0f64);
        for piece in (0..whole).step_by(PIECE) {
            let (mut sum, mut weighted) = (L::splat(0.0), L::splat(0.0));
            for i in (piece..(piece + PIECE).min(whole)).step_by(L::WIDTH) {
                let shifted = L::sub(L::load(logits.add(i)), L::splat(top));
                let e = L::exp(shifted);
                sum = L::add(sum, e);
                // Below -87.3 the exponential is cut off; the product must not grow with it.
                weighted = L::fma(L::max(shifted, L::splat(-88.0)), e, weighted);
            }
            total += f64::from(L::sum(sum));
            total_weighted += f64::from(L::sum(weighted));
        }
        for i in whole..count {
            let shifted = f64::from(*logits.add(i) - top);
            total += shifted.exp();
            total_weighted += shifted.max(-88.0) * shifted.exp();
        }
        (top, total, total_weighted)
    }
}

/// The largest of `factor * x`, and the sum of `e^(factor * x - largest)`.
#[inline(always)]
unsafe fn factored_sum_body<L: Lanes>(logits: *const f32, count: usize, factor: f32) -> (f32, f64) {
    const PIECE: usize = 2048;
    // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count` values, and
    // no lane past them is touched.
    unsafe {
        let mut largest = L::splat(f32::NEG_INFINITY);
        let whole = count / L::WIDTH * L::WIDTH;
        for i in (0..whole).step_by(L::WIDTH) {
            largest = L::max(L::mul(L::load(logits.add(i)), L::splat(factor)), largest);
        }
        let mut top = L::largest(largest);
        for i in whole..count {
            top = top.max(*logits.add(i) * factor);
        }
        let mut total = 0.0f64;
        for piece in (0..whole).step_by(PIECE) {
            let mut sum = L::splat(0.0);
            for i in (piece..(piece + PIECE).min(whole)).step_by(L::WIDTH) {
                let scaled = L::mul(L::load(logits.add(i)), L::splat(factor));
                sum = L::add(sum, L::exp(L::sub(scaled, L::splat(top))));
            }
            total += f64::from(L::sum(sum));
        }
        for i in whole..count {
            total += f64::from(*logits.add(i) * factor - top).exp();
        }
        (top, total)
    }
}

#[inline(always)]
unsafe fn gradient_body<L: Lanes, O: Element>(
    logits: *const f32,
    to: *mut O,
    count: usize,
    [factor, log_sum]: [f32; 2],
    weight: f32,
    reciprocal: f32,
) {
    for i in (0..count).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count` values,
        // and no lane past them is touched.
        unsafe {
            let logit = L::load_part(logits.add(i), count - i);
            let probability = L::exp(L::sub(L::mul(logit, L::splat(factor)), L::splat(log_sum)));
            let weight = L::mul(L::splat(weight), cap_slope::<L>(logit, reciprocal));
            O::store::<L>(to.add(i), count - i, L::mul(probability, weight));
        }
    }
}

/// A `cap` of 0 caps nothing.
#[inline(always)]
unsafe fn scale_body<L: Lanes>(logits: *mut f32, count: usize, scale: f32, cap: f32) {
    for i in (0..count).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count` values,
        // and no lane past them is touched.
        unsafe {
            let logit = L::mul(L::load_part(logits.add(i), count - i), L::splat(scale));
            let logit = if cap > 0.0 { capped::<L>(logit, cap) } else { logit };
            L::store_part(logits.add(i), count - i, logit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_and_gradients_match_the_definition() {
        for vocabulary in [1, 7, 33, 5003] {
            let rows = 5;
            let logits: Vec<f32> = (0..rows * vocabulary).map(|i| (i as f32 * 0.61).sin() * 7.0).collect();
            let targets: Vec<u32> = (0..rows).map(|row| (row * 3 % vocabulary) as u32).collect();
            let weights: Vec<f32> = (0..rows).map(|row| row as f32 * 0.3).collect();
            let found = softmax_statistics(&logits, vocabulary, &targets);
            let gradient: Vec<f32> =
                logits_gradient(&logits, vocabulary, &targets, &found.log_sum, &weights, Bend::NONE);
            for row in 0..rows {
                let logits: Vec<f64> = logits[row * vocabulary..][..vocabulary].iter().map(|v| f64::from(*v)).collect();
                let sum: f64 = logits.iter().map(|v| v.exp()).sum();
                let probabilities: Vec<f64> = logits.iter().map(|v| v.exp() / sum).collect();
                let target = targets[row] as usize;
                let entropy: f64 = probabilities.iter().map(|p| -p * p.ln()).sum();
                assert!((f64::from(found.nll[row]) + probabilities[target].ln()).abs() < 2e-6);
                assert!((f64::from(found.entropy[row]) - entropy).abs() < 2e-6);
                for (i, p) in probabilities.iter().enumerate() {
                    let expected = f64::from(weights[row]) * (p - f64::from(u8::from(i == target)));
                    assert!((f64::from(gradient[row * vocabulary + i]) - expected).abs() < 1e-6);
                }
            }
        }
    }

    /// The gradient of the logits before scale and cap, against central differences of the f64 definition.
    #[test]
    fn scaled_and_capped_logits_have_the_gradient_of_their_definition() {
        let (vocabulary, target, scale, cap) = (37, 5, 0.4, 3.0);
        let raw: Vec<f32> = (0..vocabulary).map(|i| (i as f32 * 0.61).sin() * 12.0).collect();
        for (cap, expected_cap) in [(Some(cap), f64::from(cap)), (None, f64::INFINITY)] {
            let bent = |x: f64| {
                let x = x * f64::from(scale);
                if expected_cap.is_finite() { expected_cap * (x / expected_cap).tanh() } else { x }
            };
            let nll = |raw: &[f64]| {
                let sum: f64 = raw.iter().map(|x| bent(*x).exp()).sum();
                sum.ln() - bent(raw[target])
            };
            let mut logits = raw.clone();
            scale_and_cap(&mut logits, scale, cap);
            let found = softmax_statistics(&logits, vocabulary, &[target as u32]);
            let wide: Vec<f64> = raw.iter().map(|x| f64::from(*x)).collect();
            assert!((f64::from(found.nll[0]) - nll(&wide)).abs() < 2e-6);
            let gradient: Vec<f32> = logits_gradient(
                &logits,
                vocabulary,
                &[target as u32],
                &found.log_sum,
                &[0.7 * scale],
                Bend { cap, factor: 1.0 },
            );
            for (i, gradient) in gradient.iter().enumerate() {
                let at = |delta: f64| {
                    let mut moved = wide.clone();
                    moved[i] += delta;
                    nll(&moved)
                };
                let expected = 0.7 * (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((f64::from(*gradient) - expected).abs() < 1e-6, "{i}: {gradient} is not {expected}");
            }
        }
    }

    /// Sums at other factors, what follows from them, and the gradient at a temperature, against the definitions in f64.
    #[test]
    fn other_temperatures_match_the_definition() {
        for vocabulary in [1, 7, 33, 5003] {
            let logits: Vec<f32> = (0..3 * vocabulary).map(|i| (i as f32 * 0.61).sin() * 7.0).collect();
            let targets: Vec<u32> = (0..3).map(|row| (row * 3 % vocabulary) as u32).collect();
            let softmax = |row: usize, factor: f64| -> Vec<f64> {
                let row = &logits[row * vocabulary..][..vocabulary];
                let exponentials: Vec<f64> = row.iter().map(|v| (f64::from(*v) * factor).exp()).collect();
                let sum: f64 = exponentials.iter().sum();
                exponentials.into_iter().map(|e| e / sum).collect()
            };
            let [one, two] = [1.0, 2.0].map(|factor| log_sums(&logits, vocabulary, factor));
            let factor = 1.0 / 0.7;
            let log_sum = log_sums(&logits, vocabulary, factor);
            let bend = Bend { cap: None, factor };
            let gradient: Vec<f32> = logits_gradient(&logits, vocabulary, &targets, &log_sum, &[0.3, 1.0, 2.0], bend);
            for (row, weight) in [0.3, 1.0, 2.0].into_iter().enumerate() {
                let squares: f64 = softmax(row, 1.0).iter().map(|q| q * q).sum();
                assert!((f64::from(two[row] - 2.0 * one[row]).exp() / squares - 1.0).abs() < 1e-5);
                for (i, q) in softmax(row, f64::from(factor)).into_iter().enumerate() {
                    let expected = weight * (q - f64::from(u8::from(i == targets[row] as usize)));
                    assert!((f64::from(gradient[row * vocabulary + i]) - expected).abs() < 5e-6);
                }
            }
        }
    }

    #[test]
    fn logits_that_are_not_finite_show() {
        let found = softmax_statistics(&[f32::NAN, 1.0, 2.0, 3.0], 4, &[1]);
        assert!(found.nll[0].is_nan() || found.log_sum[0].is_nan());
        let mut long = vec![0.0; 64];
        long[7] = f32::NAN;
        assert!(softmax_statistics(&long, 64, &[1]).nll[0].is_nan());
    }
}
