//! How far a model `q` is from known probabilities `p` of the answers, what it loses, and how spread it is.
//!
//! ```text
//! mass = sum q        loss = -sum p ln q        floor = -sum p ln p        kl = loss - floor
//! total variation = (sum |p - q| + 1 - mass) / 2 = 1 - alpha(1)        entropy = -sum (q/mass) ln (q/mass)
//! ```
//!
//! All sums are over the answers with `p > 0`. Of several prompts these are means over the prompts.

use crate::bounds::{Bounds, Perfect};
use crate::counts::entropy_of;
use crate::exact::Outcome;
use crate::headline::Headline;
use crate::registry::{Better, ExactMetric, Measured};

/// The probability of any of the answers.
pub const MASS: ExactMetric = ExactMetric {
    name: "mass",
    definition: "the model's probability of giving one of the targets",
    better: Better::Higher,
    bounds: Bounds::SHARE,
    headline: Some(Headline::first("precision (mass)")),
    is_mean: true,
    measure: |exact| Measured::Number(exact.mean(mass)),
};

/// The cross-entropy.
pub const LOSS: ExactMetric = ExactMetric {
    name: "loss",
    definition: "cross-entropy of the targets in nats: -sum p ln q",
    better: Better::Lower,
    bounds: Bounds::new(Perfect::Floor, None),
    headline: Some(Headline::new("loss")),
    is_mean: true,
    measure: |exact| Measured::Number(exact.mean(loss)),
};

/// The least that the cross-entropy can be.
pub const FLOOR: ExactMetric = ExactMetric {
    name: "floor",
    definition: "entropy of the targets' own distribution in nats, the least that the loss can be",
    better: Better::Neither,
    bounds: Bounds::UNKNOWN,
    headline: None,
    is_mean: true,
    measure: |exact| Measured::Number(exact.mean(floor)),
};

/// The Kullback-Leibler divergence from the truth.
pub const KL: ExactMetric = ExactMetric {
    name: "kl",
    definition: "Kullback-Leibler divergence of the model from the targets' distribution in nats: sum p ln(p / q)",
    better: Better::Lower,
    bounds: Bounds::new(Perfect::Number(0.0), None),
    headline: None,
    is_mean: true,
    measure: |exact| Measured::Number(exact.mean(|outcomes| loss(outcomes) - floor(outcomes))),
};

/// The total variation from the truth.
pub const TOTAL_VARIATION: ExactMetric = ExactMetric {
    name: "total_variation",
    definition: "half the sum of |p - q|, what is no target included; 1 - alpha(1)",
    better: Better::Lower,
    bounds: Bounds::new(Perfect::Number(0.0), Some(1.0)),
    headline: None,
    is_mean: true,
    measure: |exact| {
        Measured::Number(exact.mean(|outcomes| {
            let (p, q): (Vec<f64>, Vec<f64>) = outcomes.iter().map(|x| (x.p, x.q())).unzip();
            total_variation(&p, &q)
        }))
    },
};

/// The entropy of what the model gives among the answers.
pub const ENTROPY: ExactMetric = ExactMetric {
    name: "entropy",
    definition: "entropy in nats of the model's answers among the targets, their probabilities made to sum to 1",
    better: Better::Neither,
    bounds: Bounds::new(Perfect::Floor, None),
    headline: None,
    is_mean: true,
    measure: |exact| Measured::Number(exact.mean(entropy_on_targets)),
};

/// `sum q`.
pub fn mass(outcomes: &[Outcome]) -> f64 {
    outcomes.iter().map(Outcome::q).sum()
}

/// `-sum p ln q`; infinite where an outcome cannot come.
pub fn loss(outcomes: &[Outcome]) -> f64 {
    // Taken from 0: a sum would be -0 where the only outcome is certain.
    outcomes.iter().filter(|x| x.p > 0.0).fold(0.0, |loss, x| loss - x.p * x.log_q)
}

/// `-sum p ln p`.
pub fn floor(outcomes: &[Outcome]) -> f64 {
    entropy_of(outcomes.iter().map(|x| x.p))
}

/// Entropy of `q / sum q`; not a number where the model gives none of the outcomes.
pub fn entropy_on_targets(outcomes: &[Outcome]) -> f64 {
    let largest = outcomes.iter().map(|x| x.log_q).fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return f64::NAN;
    }
    // Relative to the largest: of long answers the probabilities themselves may be too small for a number.
    let total: f64 = outcomes.iter().map(|x| (x.log_q - largest).exp()).sum();
    entropy_of(outcomes.iter().map(|x| (x.log_q - largest).exp() / total))
}

/// Total variation between `p` and `q` over the support of `p`; what `q` lacks to 1 lies outside of it.
pub fn total_variation(p: &[f64], q: &[f64]) -> f64 {
    let outside = (1.0 - q.iter().sum::<f64>()).max(0.0);
    let apart = p.iter().zip(q).map(|(p, q)| (p - q).abs()).sum::<f64>() + outside;
    // Rounding leaves sums of shares a little above theirs.
    (apart / 2.0).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::Curve;
    use crate::exact::outcomes;
    use crate::testing::assert_near;

    #[test]
    fn total_variation_counts_what_lies_outside() {
        let (p, q) = ([0.5, 0.25, 0.25], [0.25, 0.25, 0.25]);
        assert_near(total_variation(&p, &q), 0.25);
        assert_eq!(total_variation(&p, &p), 0.0);
        let (p, q) = ([0.25; 4], [0.40, 0.30, 0.10, 0.02]);
        assert_near(total_variation(&p, &q), 0.38);
        assert_near(1.0 - Curve::new(&outcomes(&p, &q)).alpha(1.0), 0.38);
    }

    #[test]
    fn divergence_is_the_loss_above_the_floor() {
        let outcomes = outcomes(&[0.5, 0.3, 0.2], &[0.4, 0.3, 0.1]);
        let expected = 0.5 * (0.5f64 / 0.4).ln() + 0.2 * 2f64.ln();
        assert_near(loss(&outcomes) - floor(&outcomes), expected);
        assert_near(mass(&outcomes), 0.8);
        let shares = [0.5f64, 0.375, 0.125];
        assert_near(entropy_on_targets(&outcomes), shares.iter().map(|p| -p * p.ln()).sum());
    }

    #[test]
    fn answers_that_cannot_come_cost_without_end_and_have_no_entropy() {
        let some = outcomes(&[0.5, 0.5], &[1.0, 0.0]);
        assert_eq!((loss(&some), entropy_on_targets(&some)), (f64::INFINITY, 0.0));
        assert!(entropy_on_targets(&outcomes(&[0.5, 0.5], &[0.0, 0.0])).is_nan());
        // Far below the smallest number: their entropy is still one.
        let long = [Outcome { p: 0.5, log_q: -1000.0 }, Outcome { p: 0.5, log_q: -1000.0 }];
        assert_near(entropy_on_targets(&long), 2f64.ln());
    }
}
