//! One token from the logits of the next.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::Settings;

/// One token from the logits; `None` where these are not numbers.
pub(super) fn draw(logits: &[f32], settings: &Settings, random: &mut ChaCha8Rng) -> Option<u32> {
    if logits.iter().any(|logit| logit.is_nan() || *logit == f32::INFINITY) {
        return None;
    }
    if settings.temperature == 0.0 {
        return Some(most_likely(logits));
    }
    if settings.top_k == 0 && settings.top_p >= 1.0 && settings.min_p <= 0.0 {
        return Some(draw_from_all(logits, settings.temperature, random));
    }
    let mut ranked: Vec<(u32, f64)> =
        logits.iter().enumerate().map(|(token, logit)| (token as u32, f64::from(*logit))).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if settings.top_k > 0 {
        ranked.truncate(settings.top_k);
    }
    let largest = ranked[0].1;
    for (_, value) in &mut ranked {
        *value = ((*value - largest) / settings.temperature).exp();
    }
    let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
    if settings.top_p < 1.0 {
        let mut sum = 0.0;
        let kept = ranked.iter().take_while(|(_, weight)| {
            let before = sum;
            sum += weight / total;
            before < settings.top_p
        });
        let kept = kept.count();
        ranked.truncate(kept.max(1));
    }
    // The largest weight is 1.
    let kept = ranked.iter().take_while(|(_, weight)| *weight >= settings.min_p).count();
    ranked.truncate(kept.max(1));
    let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
    let mut left = random.random::<f64>() * total;
    for (token, weight) in &ranked {
        left -= weight;
        if left < 0.0 {
            return Some(*token);
        }
    }
    Some(ranked[ranked.len() - 1].0)
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

    use super::super::tests::settings;
    use super::*;

    fn frequencies(settings: &Settings) -> [f64; 3] {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut counts = [0.0; 3];
        for _ in 0..20_000 {
            counts[draw(&logits, settings, &mut random).expect("a token") as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn assert_close(found: [f64; 3], expected: [f64; 3]) {
        // Four standard deviations of a frequency near one half in 20,000 draws.
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.0142), "{found:?} is not {expected:?}");
    }

    #[test]
    fn draws_follow_the_temperature_and_the_cuts() {
        assert_close(frequencies(&settings(1.0, 1.0, 0)), [0.5, 0.3, 0.2]);
        let squares: f64 = 0.25 + 0.09 + 0.04;
        assert_close(frequencies(&settings(0.5, 1.0, 0)), [0.25 / squares, 0.09 / squares, 0.04 / squares]);
        assert_close(frequencies(&settings(1.0, 1.0, 2)), [0.625, 0.375, 0.0]);
        assert_close(frequencies(&settings(1.0, 0.6, 0)), [0.625, 0.375, 0.0]);
        assert_close(frequencies(&settings(1.0, 0.5, 0)), [1.0, 0.0, 0.0]);
        assert_close(frequencies(&settings(0.0, 1.0, 0)), [1.0, 0.0, 0.0]);
        // So hot that all are alike, so cold that only one is left.
        assert_close(frequencies(&settings(1e300, 1.0, 0)), [1.0 / 3.0; 3]);
        assert_close(frequencies(&settings(1e-300, 0.9, 0)), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn logits_that_are_no_numbers_draw_nothing() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for bad in [f32::NAN, f32::INFINITY] {
            for settings in [settings(0.0, 1.0, 0), settings(1.0, 1.0, 0), settings(1.0, 0.5, 0), settings(1.0, 1.0, 2)]
            {
                for place in 0..3 {
                    let mut logits = [0.0, 1.0, f32::NEG_INFINITY];
                    logits[place] = bad;
                    assert_eq!(draw(&logits, &settings, &mut random), None, "{bad} at {place}, {settings:?}");
                }
            }
        }
    }
}
