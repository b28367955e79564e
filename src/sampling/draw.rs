//! One token from the logits of the next.

use std::borrow::Cow;
use std::collections::HashSet;

use metrics::temperature::{Row, Sampler};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// One token from the logits; `None` where these are not numbers.
pub(super) fn draw(logits: &[f32], sampler: &Sampler, random: &mut ChaCha8Rng) -> Option<u32> {
    if logits.iter().any(|logit| logit.is_nan() || *logit == f32::INFINITY) {
        return None;
    }
    if sampler.temperature == 0.0 {
        return Some(most_likely(logits));
    }
    if !sampler.cuts() {
        return Some(draw_from_all(logits, sampler.temperature, random));
    }
    let kept = Row::new(logits, std::slice::from_ref(sampler)).keep(sampler).weights();
    let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
    let mut left = random.random::<f64>() * total;
    for (token, weight) in &kept {
        left -= weight;
        if left < 0.0 {
            return Some(*token);
        }
    }
    kept.last().map(|(token, _)| *token)
}

/// The logits with those of the tokens that stand before them made less likely: divided by `penalty` where they are above 0,
/// multiplied by it where they are below (CTRL, arXiv 1909.05858, section 4.1; by logits as transformers has it). 1 changes
/// nothing.
pub(super) fn penalised<'a>(logits: &'a [f32], penalty: f64, before: impl Iterator<Item = u32>) -> Cow<'a, [f32]> {
    if penalty == 1.0 {
        return logits.into();
    }
    let mut changed = logits.to_vec();
    for token in before.collect::<HashSet<u32>>() {
        let Some(logit) = changed.get_mut(token as usize) else { continue };
        let value = f64::from(*logit);
        *logit = if value < 0.0 { value * penalty } else { value / penalty } as f32;
    }
    changed.into()
}

/// One token from all, without ranking them.
fn draw_from_all(logits: &[f32], temperature: f64, random: &mut ChaCha8Rng) -> u32 {
    let largest = f64::from(logits[most_likely(logits) as usize]);
    let weight = |logit: &f32| ((f64::from(*logit) - largest) / temperature).exp();
    let total: f64 = logits.iter().map(weight).sum();
    let mut left = random.random::<f64>() * total;
    let drawn = logits.iter().position(|logit| {
        left -= weight(logit);
        left < 0.0
    });
    drawn.map_or_else(|| most_likely(logits), |token| token as u32)
}

/// The token with the largest logit, the first of several.
fn most_likely(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn sampler(temperature: f64, top_p: f64, top_k: usize) -> Sampler {
        Sampler { top_p, top_k, ..Sampler::at(temperature) }
    }

    fn frequencies(sampler: &Sampler) -> [f64; 3] {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut counts = [0.0; 3];
        for _ in 0..20_000 {
            counts[draw(&logits, sampler, &mut random).expect("a token") as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn assert_close(found: [f64; 3], expected: [f64; 3]) {
        // Four standard deviations of a frequency near one half in 20,000 draws.
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.0142), "{found:?} is not {expected:?}");
    }

    #[test]
    fn draws_follow_the_temperature_and_the_cuts() {
        assert_close(frequencies(&sampler(1.0, 1.0, 0)), [0.5, 0.3, 0.2]);
        let squares: f64 = 0.25 + 0.09 + 0.04;
        assert_close(frequencies(&sampler(0.5, 1.0, 0)), [0.25 / squares, 0.09 / squares, 0.04 / squares]);
        assert_close(frequencies(&sampler(1.0, 1.0, 2)), [0.625, 0.375, 0.0]);
        assert_close(frequencies(&sampler(1.0, 0.6, 0)), [0.625, 0.375, 0.0]);
        assert_close(frequencies(&sampler(1.0, 0.5, 0)), [1.0, 0.0, 0.0]);
        assert_close(frequencies(&sampler(0.0, 1.0, 0)), [1.0, 0.0, 0.0]);
        // So hot that all are alike, so cold that only one is left.
        assert_close(frequencies(&sampler(1e300, 1.0, 0)), [1.0 / 3.0; 3]);
        assert_close(frequencies(&sampler(1e-300, 0.9, 0)), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn draws_keep_to_what_the_metrics_reckon_with() {
        // Of .5, .3 and .2 the entropy is 1.03 nats, and .3 has a surprise of 1.2, nearer than the others.
        assert_close(frequencies(&Sampler { typical_p: 0.2, ..Sampler::at(1.0) }), [0.0, 1.0, 0.0]);
        assert_close(frequencies(&Sampler { typical_p: 0.5, ..Sampler::at(1.0) }), [0.625, 0.375, 0.0]);
        assert_close(frequencies(&Sampler { min_p: 0.5, ..Sampler::at(1.0) }), [0.625, 0.375, 0.0]);
    }

    /// `RepetitionPenaltyLogitsProcessor(1.3)` of transformers 5.23 after the tokens 0, 4, 4, 2.
    #[test]
    fn a_token_that_stands_before_is_made_less_likely_once() {
        let logits = [3.0, 2.0, 1.0, 0.0, -1.0];
        let changed = penalised(&logits, 1.3, [0, 4, 4, 2].into_iter());
        assert!(changed.iter().zip([2.307_692_3, 2.0, 0.769_230_8, 0.0, -1.3]).all(|(a, b)| (a - b).abs() < 1e-6));
        assert!(matches!(penalised(&logits, 1.0, [0].into_iter()), Cow::Borrowed(_)));
    }

    #[test]
    fn logits_that_are_no_numbers_draw_nothing() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for bad in [f32::NAN, f32::INFINITY] {
            for sampler in [sampler(0.0, 1.0, 0), sampler(1.0, 1.0, 0), sampler(1.0, 0.5, 0), sampler(1.0, 1.0, 2)] {
                for place in 0..3 {
                    let mut logits = [0.0, 1.0, f32::NEG_INFINITY];
                    logits[place] = bad;
                    assert_eq!(draw(&logits, &sampler, &mut random), None, "{bad} at {place}, {sampler:?}");
                }
            }
        }
    }
}
