//! Truncation of the likeliest: `w = 1` if `nll` is above a running quantile, else `0`.
//!
//! TruncR of "When Temperature Fails, Change the Loss" (arXiv 2508.09654), with the buffer of loss truncation (Kang &
//! Hashimoto 2020): the fraction `drop` with the lowest loss is not learned. `drop = 0` is `nll`.

use crate::ObjectiveKind;
use crate::objective::quantile::{Dropped, Kept, RollingQuantile};

/// `trunc_r` as listed in the registry.
pub const TRUNC_R: ObjectiveKind = ObjectiveKind {
    name: "trunc_r",
    purpose: "more diverse samples: leaves out the tokens (or rows) the model already predicts best, the fraction `drop`",
    build: |section| {
        let quantile = RollingQuantile::read(section, Dropped::Lowest);
        Box::new(Kept { name: TRUNC_R.name, quantile, of_entropy: false })
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::testing::*;
    use crate::{Extent, Scope, State};

    /// The rule in plain f64, one value at a time.
    fn reference(values: &[f64], drop: f64, buffer: usize, recompute: usize) -> Vec<f32> {
        let mut cutoff = None;
        let mut since = 0;
        let mut kept = Vec::new();
        for (index, value) in values.iter().enumerate() {
            kept.push(if cutoff.is_none_or(|cutoff| *value > cutoff) { 1.0 } else { 0.0 });
            let seen = &values[..=index];
            since += 1;
            if seen.len() == buffer || (seen.len() > buffer && since == recompute) {
                let mut last = seen[seen.len() - buffer..].to_vec();
                last.sort_by(f64::total_cmp);
                let place = drop * (buffer - 1) as f64;
                let (below, above) = (last[place.floor() as usize], last[place.ceil() as usize]);
                cutoff = Some(below + (above - below) * place.fract());
                since = 0;
            }
        }
        kept
    }

    /// Losses that look random and are the same everywhere.
    fn stream(count: usize) -> Vec<f64> {
        (1..=count).map(|index| f64::from((5.0 * (index as f32 * 0.618_034).fract()).powi(2))).collect()
    }

    #[test]
    fn agrees_with_the_reference_however_the_stream_is_cut() {
        let values = stream(100);
        for (buffer, recompute) in [(10, 10), (10, 3), (7, 25), (1, 1), (30, 1)] {
            let keys = format!("drop = 0.4\nbuffer = {buffer}\nrecompute = {recompute}");
            let expected = reference(&values, 0.4, buffer, recompute);
            assert!(expected.contains(&0.0));
            for chunk in [1, 4, 33, 100] {
                let mut objective = build(TRUNC_R, &keys).expect("valid keys");
                let found: Vec<f32> = values.chunks(chunk).flat_map(|chunk| weights(&mut *objective, chunk)).collect();
                assert_eq!(found, expected, "{keys} chunk {chunk}");
            }
        }
    }

    #[test]
    fn everything_is_kept_until_ten_thousand_losses_are_seen_then_six_of_ten() {
        let mut objective = build(TRUNC_R, "").expect("no keys");
        assert_eq!(objective.scope(), Scope::Token);
        let values = stream(20_000);
        assert_eq!(weights(&mut *objective, &values[..9_999]), [1.0; 9_999]);
        assert_eq!(objective.diagnostics(), []);
        assert_eq!(weights(&mut *objective, &values[9_999..10_000]), [1.0]);
        // The values are spread as 25 u^2, u uniform: the quantile of 0.4 is 4.
        let diagnostics = objective.diagnostics();
        assert_eq!(diagnostics[0].0, "cutoff");
        assert!((diagnostics[0].1 - 4.0).abs() < 0.02, "{diagnostics:?}");
        let kept = weights(&mut *objective, &values[10_000..]).iter().sum::<f32>();
        assert!((kept / 10_000.0 - 0.6).abs() < 0.002, "{kept}");
    }

    #[test]
    fn a_sequence_is_kept_or_dropped_whole_by_its_mean() {
        let keys = "drop = 0.4\nbuffer = 5\ngranularity = \"sequence\"";
        let mut objective = build(TRUNC_R, keys).expect("valid keys");
        assert_eq!(objective.scope(), Scope::Row);
        // Means 0.4, 3.1, 1.2, 0.9, 2.2: np.percentile(.., 40) = 1.08.
        let first: [&[f64]; 5] = [&[0.4], &[3.0, 3.2], &[1.2], &[0.1, 1.7], &[2.2]];
        assert_eq!(weights_of_rows(&mut *objective, &first), [1.0; 7]);
        let next: [&[f64]; 4] = [&[0.0, 3.0, 0.3], &[0.0, 2.1], &[], &[1.0, 1.0]];
        // Means 1.1, 1.05, none, 1.
        assert_eq!(weights_of_rows(&mut *objective, &next), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        let none: [&[f64]; 1] = [&[]];
        assert!(weights_of_rows(&mut *objective, &none).is_empty());
    }

    #[test]
    fn drop_zero_is_nll_bitwise() {
        let mut objective = build(TRUNC_R, "drop = 0\nbuffer = 2").expect("valid keys");
        for _ in 0..3 {
            assert_eq!(weights(&mut *objective, &NEUTRAL), [1.0; NEUTRAL.len()]);
        }
    }

    #[test]
    fn losses_that_are_not_finite_never_enter_the_buffer() {
        let mut objective = build(TRUNC_R, "drop = 0.5\nbuffer = 3").expect("valid keys");
        weights(&mut *objective, &[1.0, f64::NAN, f64::INFINITY, 2.0]);
        assert_eq!(objective.diagnostics(), []);
        weights(&mut *objective, &[3.0]);
        assert_eq!(objective.diagnostics(), [("cutoff".to_string(), 2.0)]);
    }

    #[test]
    fn a_stream_cut_by_saving_and_restoring_goes_on_bitwise() {
        let mut values = stream(60);
        values[17] = f64::NAN;
        for keys in ["buffer = 10\nrecompute = 7", "buffer = 10\nrecompute = 25", "buffer = 40"] {
            for cut in [0, 1, 9, 10, 11, 18, 38, 55] {
                let mut whole = build(TRUNC_R, keys).expect("valid keys");
                let mut first = build(TRUNC_R, keys).expect("valid keys");
                let mut second = build(TRUNC_R, keys).expect("valid keys");
                assert_eq!(weights(&mut *whole, &values[..cut]), weights(&mut *first, &values[..cut]));
                second.restore(first.state().expect("it has one")).expect("its own state");
                assert_eq!(second.state(), first.state());
                assert_eq!(weights(&mut *whole, &values[cut..]), weights(&mut *second, &values[cut..]), "{keys} {cut}");
                assert_eq!(whole.state(), second.state());
            }
        }
    }

    #[test]
    fn a_state_of_other_settings_or_damaged_is_refused() {
        let mut saved = build(TRUNC_R, "buffer = 10").expect("valid keys");
        weights(&mut *saved, &stream(15));
        for keys in ["buffer = 11", "buffer = 10\nrecompute = 5", "buffer = 10\ngranularity = \"sequence\""] {
            let fault =
                build(TRUNC_R, keys).expect("valid keys").restore(saved.state().expect("it has one")).expect_err(keys);
            assert!(fault.to_string().contains("another `buffer`"), "{fault}");
        }
        let mut objective = build(TRUNC_R, "buffer = 10").expect("valid keys");
        assert!(objective.restore(State::new()).is_err());
        for key in ["losses", "settings", "cutoff"] {
            let mut state = saved.state().expect("it has one");
            state.remove(key);
            assert!(objective.restore(state).is_err(), "without {key}");
            let mut state = saved.state().expect("it has one");
            state.insert(key.into(), burn::tensor::TensorData::new(vec![1i32, 2], [2]));
            assert!(objective.restore(state).is_err(), "{key} of another kind");
        }
        let mut state = saved.state().expect("it has one");
        state.insert("more".into(), burn::tensor::TensorData::new(vec![1f32], [1]));
        assert!(objective.restore(state).is_err());
    }

    #[test]
    fn gradient_is_that_of_pytorch() {
        // weight = (nll > 1.7) * 1.
        let mut objective = build(TRUNC_R, "drop = 0.5\nbuffer = 3").expect("valid keys");
        weights(&mut *objective, &[1.0, 1.7, 4.0]);
        let gradient = [
            [0.0; 4],
            [0.0; 4],
            [0.001291644, -0.207226626, 0.014238019, 0.191696963],
            [0.071426961, 0.078939, -0.246782272, 0.096416312],
        ];
        check_gradient(&mut *objective, 1.529582658, gradient);
    }

    #[test]
    fn a_model_from_scratch_is_warned_of_what_it_cannot_leave() {
        let remarks = |keys: &str, untrained: Option<usize>, tokens: usize| {
            let extent = Extent { steps: 10, tokens, rows: tokens, untrained };
            build(TRUNC_R, keys).expect("valid keys").remarks(&extent)
        };
        let stuck = remarks("buffer = 100", Some(14), 1000);
        assert!(stuck.len() == 1 && stuck[0].contains("may never leave the uniform distribution"), "{stuck:?}");
        assert!(remarks("buffer = 100", None, 1000).is_empty());
        for keys in ["drop = 0.1", "granularity = \"sequence\"", "drop = 0"] {
            assert_eq!(remarks(&format!("buffer = 100\n{keys}"), Some(14), 1000), Vec::<String>::new(), "{keys}");
        }
        // It drops nothing at all: that is said, and not both.
        let void = remarks("buffer = 1000", Some(14), 1000);
        assert!(void.len() == 1 && void[0].contains("is never full"), "{void:?}");
    }

    #[test]
    fn impossible_values_are_refused() {
        for keys in [
            "drop = 1",
            "drop = -0.1",
            "drop = nan",
            "buffer = 0",
            "buffer = 100000000000",
            "recompute = 0",
            "granularity = \"row\"",
            "dorp = 0.1",
        ] {
            assert!(build(TRUNC_R, keys).is_err(), "{keys}");
        }
    }
}
