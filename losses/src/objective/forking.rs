//! Forking tokens: `w = 1` where the predicted distribution's entropy is above a running quantile, else `0`.
//!
//! "Beyond the 80/20 Rule" (arXiv 2506.01939), there for reinforcement learning: the fraction `share` with the highest
//! entropy, where a text may go on in several ways, is learned. The quantile is that of the last entropies, as `trunc_r` has
//! of losses, in place of that of a batch: so the size of a micro-batch changes nothing. `share = 1` is `nll`.

use crate::ObjectiveKind;
use crate::objective::quantile::{Dropped, Kept, RollingQuantile};

/// `forking` as listed in the registry.
pub const FORKING: ObjectiveKind = ObjectiveKind {
    name: "forking",
    purpose: "learns only where a text may go on in several ways: the fraction `share` of tokens with the highest entropy",
    build: |section| {
        let quantile = RollingQuantile::read_share(section, Dropped::Lowest, 0.2);
        Box::new(Kept { name: FORKING.name, quantile, of_entropy: true })
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::testing::*;
    use crate::{Objective, Statistics};

    fn kept(objective: &mut dyn Objective, entropy: &[f64]) -> Vec<f32> {
        // The nll says nothing: it falls as the entropy rises.
        let nll: Vec<f64> = entropy.iter().map(|entropy| 10.0 - entropy).collect();
        weights_told(objective, &nll, &Told { entropy: Some(entropy), ..Told::default() })
    }

    #[test]
    fn what_lies_above_the_quantile_of_entropies_is_kept() {
        let mut objective = build(FORKING, "share = 0.4\nbuffer = 5").expect("valid keys");
        assert_eq!(objective.statistics(), Statistics { entropy: true, ..Statistics::default() });
        assert_eq!(kept(&mut *objective, &[0.4, 3.1, 1.2, 0.9, 2.2]), [1.0; 5]);
        // np.percentile(.., 60) = 1.6
        assert_eq!(objective.diagnostics(), [("cutoff".to_string(), f64::from(1.6f32))]);
        assert_eq!(kept(&mut *objective, &[1.5, 1.7, 0.0, 9.0]), [0.0, 1.0, 0.0, 1.0]);
        // A fifth, as published.
        let mut objective = build(FORKING, "buffer = 100").expect("valid keys");
        let entropies: Vec<f64> = (0..100).map(|place| f64::from(place * 37 % 100)).collect();
        kept(&mut *objective, &entropies);
        assert_eq!(kept(&mut *objective, &entropies).iter().sum::<f32>(), 20.0);
    }

    #[test]
    fn a_share_of_one_is_nll_bitwise() {
        let mut objective = build(FORKING, "share = 1\nbuffer = 2").expect("valid keys");
        for _ in 0..3 {
            assert_eq!(kept(&mut *objective, &NEUTRAL), [1.0; NEUTRAL.len()]);
        }
    }

    #[test]
    fn a_stream_cut_by_saving_and_restoring_goes_on_bitwise() {
        let build = || build(FORKING, "buffer = 3").expect("valid keys");
        let (mut first, mut second) = (build(), build());
        kept(&mut *first, &[0.4, 3.1, 1.2, 0.9]);
        second.restore(first.state().expect("it has one")).expect("its own state");
        let rest = [1.0, 2.0, 0.1, 3.0, 1.3];
        let expected = kept(&mut *first, &rest);
        assert!(expected.contains(&0.0) && expected.contains(&1.0));
        assert_eq!(kept(&mut *second, &rest), expected);
    }

    #[test]
    fn impossible_values_are_refused() {
        for keys in [
            "share = 0",
            "share = -0.1",
            "share = 1.5",
            "share = nan",
            "buffer = 0",
            "drop = 0.4",
            "granularity = \"token\"",
        ] {
            assert!(build(FORKING, keys).is_err(), "{keys}");
        }
    }
}
