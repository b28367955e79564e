//! Loss truncation: `w = 1` if `nll` is below a running quantile, else `0`.
//!
//! Kang & Hashimoto 2020 (ddkang/loss_dropper): the fraction `drop` with the highest loss is not learned. `drop = 0` is
//! `nll`.

use crate::ObjectiveKind;
use crate::objective::quantile::{Dropped, Kept, RollingQuantile};

/// `trunc` as listed in the registry.
pub const TRUNC: ObjectiveKind = ObjectiveKind {
    name: "trunc",
    purpose: "more precise samples: leaves out the tokens (or rows) the model predicts worst, such as noise, the fraction `drop`",
    build: |section| {
        let quantile = RollingQuantile::read(section, Dropped::Highest);
        Box::new(Kept { name: TRUNC.name, quantile, of_entropy: false })
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scope;
    use crate::objective::testing::*;

    #[test]
    fn what_lies_below_the_quantile_is_kept() {
        let mut objective = build(TRUNC, "drop = 0.4\nbuffer = 5").expect("valid keys");
        assert_eq!(objective.scope(), Scope::Token);
        assert_eq!(weights(&mut *objective, &[0.4, 3.1, 1.2, 0.9, 2.2]), [1.0; 5]);
        // np.percentile(.., 60) = 1.6
        assert_eq!(objective.diagnostics(), [("cutoff".to_string(), f64::from(1.6f32))]);
        assert_eq!(weights(&mut *objective, &[1.5, 1.7, 0.0, 9.0]), [1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn a_sequence_is_kept_or_dropped_whole_by_its_mean() {
        let keys = "drop = 0.4\nbuffer = 5\ngranularity = \"sequence\"";
        let mut objective = build(TRUNC, keys).expect("valid keys");
        assert_eq!(objective.scope(), Scope::Row);
        let first: [&[f64]; 5] = [&[0.4], &[3.0, 3.2], &[1.2], &[0.1, 1.7], &[2.2]];
        assert_eq!(weights_of_rows(&mut *objective, &first), [1.0; 7]);
        assert_eq!(weights_of_rows(&mut *objective, &[&[3.0, 0.0], &[1.0, 3.0]]), [1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn drop_zero_is_nll_bitwise() {
        let mut objective = build(TRUNC, "drop = 0\nbuffer = 2").expect("valid keys");
        for _ in 0..3 {
            assert_eq!(weights(&mut *objective, &NEUTRAL), [1.0; NEUTRAL.len()]);
        }
    }

    #[test]
    fn a_stream_cut_by_saving_and_restoring_goes_on_bitwise() {
        let (mut first, mut second) =
            (build(TRUNC, "buffer = 3").expect("valid keys"), build(TRUNC, "buffer = 3").expect("valid keys"));
        weights(&mut *first, &[0.4, 3.1, 1.2, 0.9]);
        second.restore(first.state().expect("it has one")).expect("its own state");
        let rest = [1.0, 2.0, 0.1, 3.0, 1.3];
        let expected = weights(&mut *first, &rest);
        assert!(expected.contains(&0.0) && expected.contains(&1.0));
        assert_eq!(weights(&mut *second, &rest), expected);
    }

    #[test]
    fn gradient_is_that_of_pytorch() {
        // weight = (nll < 1.5) * 1.
        let mut objective = build(TRUNC, "drop = 0.5\nbuffer = 3").expect("valid keys");
        weights(&mut *objective, &[1.0, 1.5, 4.0]);
        let gradient = [[-0.072475019, 0.039611177, 0.008838448, 0.024025394], [0.0; 4], [0.0; 4], [0.0; 4]];
        check_gradient(&mut *objective, 0.085587396, gradient);
    }
}
