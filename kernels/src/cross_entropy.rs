//! Softmax and cross-entropy of rows of logits, without a tensor of probabilities.

use rayon::prelude::*;

use crate::element::Element;
use crate::functions::{cap_slope, capped};
use crate::parallel::{Build, Shared};
use crate::simd::{Lanes, multiversion};

/// Softmax statistics of each row of logits.
#[derive(Debug, Clone, PartialEq)]
pub struct RowStatistics {
    /// Minus the log of the target's probability.
    pub nll: Vec<f32>,
    /// Entropy of the softmax, in nats.
    pub entropy: Vec<f32>,
    /// The log of the sum of the exponentials.
    pub sums: LogSums,
}

/// The log of each row's sum of exponentials of `factor * logit`, in two parts: a probability is
/// `exp(factor * (logit - largest) - above)`.
///
/// Logits are in the tens, so that their sum in f32 would be wrong by 1e-6, and with it each probability of the row: a thousandth of
/// what is left of `1 - q` where a model is sure.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSums {
    /// The row's largest logit.
    pub largest: Vec<f32>,
    /// The log of the sum of the exponentials of `factor` times what the logits are below it.
    pub above: Vec<f32>,
}

impl LogSums {
    fn of(rows: Vec<(f32, f64)>) -> Self {
        let above = rows.iter().map(|(_, sum)| sum.ln() as f32).collect();
        Self { largest: rows.into_iter().map(|(largest, _)| largest).collect(), above }
    }
}

/// Values between two additions to the sums in f64, which keep a long vocabulary exact, and what stands beside a sure token.
const PIECE: usize = 256;

/// Statistics of logits `[rows, vocabulary]` with one target a row.
pub fn softmax_statistics(logits: &[f32], vocabulary: usize, targets: &[u32]) -> RowStatistics {
    assert!(logits.len() == targets.len() * vocabulary, "one target a row");
    assert!(targets.iter().all(|target| (*target as usize) < vocabulary), "targets inside of the vocabulary");
    let rows: Vec<(f32, f32, (f32, f64))> = (logits.par_chunks(vocabulary.max(1)).zip(targets))
        .map(|(row, target)| {
            // SAFETY: the row has the length that is given.
            let (largest, sum, weighted) = unsafe { row_sums(row.as_ptr(), vocabulary) };
            let log_sum = f64::from(largest) + sum.ln();
            let entropy = sum.ln() - weighted / sum;
            ((log_sum - f64::from(row[*target as usize])) as f32, entropy as f32, (largest, sum))
        })
        .collect();
    RowStatistics {
        nll: rows.iter().map(|row| row.0).collect(),
        entropy: rows.iter().map(|row| row.1).collect(),
        sums: LogSums::of(rows.into_iter().map(|row| row.2).collect()),
    }
}

/// The log of each row's sum of `e^(factor * logit)`. At `1 / T` it is that of the softmax at temperature T; with what is
/// above the largest at 2, the sum of the squared probabilities is `exp(at 2 - 2 (at 1))`.
pub fn log_sums(logits: &[f32], vocabulary: usize, factor: f32) -> LogSums {
    // SAFETY: the row has the length that is given.
    let rows = logits.par_chunks(vocabulary.max(1)).map(|row| unsafe { factored_sum(row.as_ptr(), row.len(), factor) });
    LogSums::of(rows.collect())
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

/// Terms of the gradient of logits beside `weight * (softmax - onehot)`: label smoothing and entropy bonus.
#[derive(Debug, Clone, Copy, Default)]
pub struct More<'a> {
    /// The part of the target that lies on all of the vocabulary alike (label smoothing).
    pub smoothing: f32,
    /// For each row a factor b of its entropy H and that entropy, at a factor of 1: the gradient has `b q (ln q + H)`, which
    /// is that of `-b H`.
    pub entropy: Option<[&'a [f32]; 2]>,
}

impl More<'_> {
    fn is_none(&self) -> bool {
        self.smoothing == 0.0 && self.entropy.is_none()
    }
}

/// `weight * (softmax - onehot)` of each row and what is more, by the log of its sum of exponentials at the same factor.
pub fn logits_gradient<O: Element>(
    logits: &[f32],
    vocabulary: usize,
    targets: &[u32],
    sums: &LogSums,
    weights: &[f32],
    bend: Bend,
    more: More,
) -> Vec<O> {
    let Bend { cap, factor } = bend;
    let reciprocal = cap.map_or(0.0, |cap| 1.0 / cap);
    assert!(logits.len() == targets.len() * vocabulary, "one target a row");
    assert!(sums.above.len() == targets.len() && weights.len() == targets.len(), "one of each a row");
    assert!(more.entropy.is_none() || factor == 1.0, "the entropy is that of the softmax as it is");
    let build = Build::new(logits.len());
    logits.par_chunks(vocabulary.max(1)).enumerate().for_each(|(row, logits)| {
        let target = targets[row] as usize;
        assert!(target < vocabulary, "targets inside of the vocabulary");
        let (softmax, weight) = ([factor, sums.largest[row], sums.above[row]], weights[row]);
        let [factor, largest, above] = softmax.map(f64::from);
        let log_probability = (f64::from(logits[target]) - largest) * factor - above;
        let mut at_target = f64::from(weight) * (log_probability.exp() - (1.0 - f64::from(more.smoothing)));
        // SAFETY: each row has a place of its own.
        let to = unsafe { Shared::new(build.at(row * vocabulary)) };
        if more.is_none() {
            // SAFETY: the row has the length that is given, and so has its place.
            unsafe { gradient(logits.as_ptr(), to.at(0), vocabulary, softmax, weight, reciprocal) };
        } else {
            let everywhere = f64::from(weight * more.smoothing) / vocabulary as f64;
            let [bonus, entropy] = more.entropy.map_or([0.0; 2], |[factors, entropies]| [factors[row], entropies[row]]);
            let surprise = log_probability.max(-88.0) + f64::from(entropy);
            at_target += f64::from(bonus) * log_probability.exp() * surprise - everywhere;
            let all = [weight, everywhere as f32, bonus, entropy];
            // SAFETY: as above.
            unsafe { gradient_and_more(logits.as_ptr(), to.at(0), vocabulary, softmax, all, reciprocal) };
        }
        let slope = 1.0 - f64::from(logits[target] * reciprocal).powi(2);
        let value = (at_target * slope) as f32;
        // SAFETY: the target is inside of the row.
        unsafe { crate::element::convert_piece(&raw const value, to.at(target), 1) };
    });
    // SAFETY: every row was written.
    unsafe { build.finish() }
}

/// The mean of each row of logits.
pub fn means(logits: &[f32], vocabulary: usize) -> Vec<f64> {
    let mean = |row: &[f32]| row.iter().map(|logit| f64::from(*logit)).sum::<f64>() / vocabulary as f64;
    logits.par_chunks(vocabulary.max(1)).map(mean).collect()
}

multiversion! { fn factored_sum(logits: *const f32, count: usize, factor: f32) -> (f32, f64) = factored_sum_body; }
multiversion! { fn row_sums(logits: *const f32, count: usize) -> (f32, f64, f64) = row_sums_body; }
multiversion! {
    fn gradient<O: Element>(
        logits: *const f32, to: *mut O, count: usize, softmax: [f32; 3], weight: f32, reciprocal: f32,
    ) = gradient_body;
}
multiversion! {
    fn gradient_and_more<O: Element>(
        logits: *const f32, to: *mut O, count: usize, softmax: [f32; 3], all: [f32; 4], reciprocal: f32,
    ) = gradient_and_more_body;
}
multiversion! { fn scale_piece(logits: *mut f32, count: usize, scale: f32, cap: f32) = scale_body; }

/// The largest value, the sum of `e^(x - largest)`, and that of `(x - largest) e^(x - largest)`.
#[inline(always)]
unsafe fn row_sums_body<L: Lanes>(logits: *const f32, count: usize) -> (f32, f64, f64) {
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

/// The largest value, and the sum of `e^(factor * (x - largest))`.
#[inline(always)]
unsafe fn factored_sum_body<L: Lanes>(logits: *const f32, count: usize, factor: f32) -> (f32, f64) {
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
        let mut total = 0.0f64;
        for piece in (0..whole).step_by(PIECE) {
            let mut sum = L::splat(0.0);
            for i in (piece..(piece + PIECE).min(whole)).step_by(L::WIDTH) {
                let shifted = L::sub(L::load(logits.add(i)), L::splat(top));
                sum = L::add(sum, L::exp(L::mul(shifted, L::splat(factor))));
            }
            total += f64::from(L::sum(sum));
        }
        for i in whole..count {
            total += f64::from((*logits.add(i) - top) * factor).exp();
        }
        (top, total)
    }
}

/// The log of a logit's probability, by the two parts of the log of the sum.
#[inline(always)]
unsafe fn log_probability<L: Lanes>(logit: L::V, [factor, largest, above]: [f32; 3]) -> L::V {
    // SAFETY: inside of `multiversion!` the instruction set is there, and nothing but registers is touched.
    unsafe { L::sub(L::mul(L::sub(logit, L::splat(largest)), L::splat(factor)), L::splat(above)) }
}

#[inline(always)]
unsafe fn gradient_body<L: Lanes, O: Element>(
    logits: *const f32,
    to: *mut O,
    count: usize,
    [factor, largest, above]: [f32; 3],
    weight: f32,
    reciprocal: f32,
) {
    for i in (0..count).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count` values,
        // and no lane past them is touched.
        unsafe {
            let logit = L::load_part(logits.add(i), count - i);
            let probability = L::exp(log_probability::<L>(logit, [factor, largest, above]));
            let weight = L::mul(L::splat(weight), cap_slope::<L>(logit, reciprocal));
            O::store::<L>(to.add(i), count - i, L::mul(probability, weight));
        }
    }
}

/// With the weight, what is taken off everywhere, and the entropy's factor and value.
#[inline(always)]
unsafe fn gradient_and_more_body<L: Lanes, O: Element>(
    logits: *const f32,
    to: *mut O,
    count: usize,
    [factor, largest, above]: [f32; 3],
    [weight, everywhere, of_entropy, entropy]: [f32; 4],
    reciprocal: f32,
) {
    for i in (0..count).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count` values,
        // and no lane past them is touched.
        unsafe {
            let logit = L::load_part(logits.add(i), count - i);
            let log_probability = log_probability::<L>(logit, [factor, largest, above]);
            let probability = L::exp(log_probability);
            // Below -87.3 the exponential is cut off; the product must not grow with it.
            let surprise = L::add(L::max(log_probability, L::splat(-88.0)), L::splat(entropy));
            let pull = L::fma(surprise, L::splat(of_entropy), L::splat(weight));
            let gradient = L::sub(L::mul(probability, pull), L::splat(everywhere));
            O::store::<L>(to.add(i), count - i, L::mul(gradient, cap_slope::<L>(logit, reciprocal)));
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
                logits_gradient(&logits, vocabulary, &targets, &found.sums, &weights, Bend::NONE, More::default());
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
                &found.sums,
                &[0.7 * scale],
                Bend { cap, factor: 1.0 },
                More::default(),
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
            let sums = log_sums(&logits, vocabulary, factor);
            let bend = Bend { cap: None, factor };
            let (weights, more) = ([0.3, 1.0, 2.0], More::default());
            let gradient: Vec<f32> = logits_gradient(&logits, vocabulary, &targets, &sums, &weights, bend, more);
            for (row, weight) in [0.3, 1.0, 2.0].into_iter().enumerate() {
                let squares: f64 = softmax(row, 1.0).iter().map(|q| q * q).sum();
                assert!((f64::from(two.above[row] - 2.0 * one.above[row]).exp() / squares - 1.0).abs() < 1e-5);
                for (i, q) in softmax(row, f64::from(factor)).into_iter().enumerate() {
                    let expected = weight * (q - f64::from(u8::from(i == targets[row] as usize)));
                    assert!((f64::from(gradient[row * vocabulary + i]) - expected).abs() < 5e-6);
                }
            }
        }
    }

    /// Where the logits are large and one token is all but sure, what is left of one less its probability keeps its digits, and
    /// the gradient of a row sums up to nothing.
    #[test]
    fn gradients_of_sure_tokens_keep_their_digits() {
        let vocabulary = 1003;
        for (largest, factor) in [(31.7f32, 1.0f32), (-44.3, 1.0), (63.1, 1.0 / 0.7)] {
            let mut logits: Vec<f32> =
                (0..vocabulary).map(|i| largest - 14.0 - (i as f32 * 0.61).sin() * 3.0).collect();
            logits[500] = largest;
            let exponentials: Vec<f64> =
                logits.iter().map(|z| (f64::from(factor) * (f64::from(*z) - f64::from(largest))).exp()).collect();
            let sum: f64 = exponentials.iter().sum();
            let sums = if factor == 1.0 {
                softmax_statistics(&logits, vocabulary, &[500]).sums
            } else {
                log_sums(&logits, vocabulary, factor)
            };
            let bend = Bend { cap: None, factor };
            let gradient: Vec<f32> = logits_gradient(&logits, vocabulary, &[500], &sums, &[1.0], bend, More::default());
            for (i, found) in gradient.iter().enumerate() {
                let others = || exponentials.iter().enumerate().filter(|(j, _)| *j != 500).map(|(_, e)| e).sum::<f64>();
                let expected = if i == 500 { -others() / sum } else { exponentials[i] / sum };
                // The sum of all is one in f32; with its log in one f32, too, all would be wrong by 1e-6 and more.
                let tolerance = if i == 500 { 5e-7 } else { 3e-6 * expected.abs() };
                assert!((f64::from(*found) - expected).abs() < tolerance, "{i}: {found} is not {expected}");
            }
            let left: f64 = gradient.iter().map(|value| f64::from(*value)).sum();
            assert!(left.abs() < 5e-7, "{left}");
        }
    }

    /// Label smoothing and an entropy's gradient, capped and not, against central differences of the loss in f64.
    #[test]
    fn smoothing_and_entropy_have_the_gradient_of_their_definition() {
        let (vocabulary, target, weight, bonus, smoothing) = (37, 5, 0.7f32, 0.2f32, 0.1f32);
        let raw: Vec<f32> =
            (0..vocabulary).map(|i| (i as f32 * 0.61).sin() * 12.0 - f32::from(u8::from(i == 9)) * 300.0).collect();
        for cap in [Some(3.0f32), None] {
            let bent = |x: f64| cap.map_or(x, |cap| f64::from(cap) * (x / f64::from(cap)).tanh());
            let loss = |raw: &[f64]| {
                let log_sum = raw.iter().map(|x| bent(*x).exp()).sum::<f64>().ln();
                let nll: Vec<f64> = raw.iter().map(|x| log_sum - bent(*x)).collect();
                let entropy: f64 = nll.iter().map(|nll| (-nll).exp() * nll).sum();
                let uniform = nll.iter().sum::<f64>() / vocabulary as f64;
                let smoothing = f64::from(smoothing);
                f64::from(weight) * ((1.0 - smoothing) * nll[target] + smoothing * uniform) - f64::from(bonus) * entropy
            };
            let mut logits = raw.clone();
            scale_and_cap(&mut logits, 1.0, cap);
            let found = softmax_statistics(&logits, vocabulary, &[target as u32]);
            let more = More { smoothing, entropy: Some([&[bonus], &found.entropy]) };
            let (targets, bend) = ([target as u32], Bend { cap, factor: 1.0 });
            let gradient: Vec<f32> = logits_gradient(&logits, vocabulary, &targets, &found.sums, &[weight], bend, more);
            let wide: Vec<f64> = raw.iter().map(|x| f64::from(*x)).collect();
            for (i, gradient) in gradient.iter().enumerate() {
                let at = |delta: f64| {
                    let mut moved = wide.clone();
                    moved[i] += delta;
                    loss(&moved)
                };
                let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((f64::from(*gradient) - expected).abs() < 1e-6, "{i}: {gradient} is not {expected}");
            }
            let mean = wide.iter().map(|x| bent(*x)).sum::<f64>() / vocabulary as f64;
            assert!((means(&logits, vocabulary)[0] - mean).abs() < 1e-6);
        }
    }

    #[test]
    fn logits_that_are_not_finite_show() {
        let found = softmax_statistics(&[f32::NAN, 1.0, 2.0, 3.0], 4, &[1]);
        assert!(found.nll[0].is_nan() || found.sums.above[0].is_nan());
        let mut long = vec![0.0; 64];
        long[7] = f32::NAN;
        assert!(softmax_statistics(&long, 64, &[1]).nll[0].is_nan());
    }
}
