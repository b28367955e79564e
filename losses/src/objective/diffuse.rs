//! Diffuse cross-entropy (Zhang et al. 2024, "Forcing Diffuse Distributions out of Language Models", arXiv 2404.10859):
//!
//! ```text
//! L(prompt) = sum over targets y of p*(y) * sum_t nll(y_t | prompt, y_<t)
//! ```
//!
//! `p*` is the wanted distribution over a prompt's targets. The nll of a target is a sum, not a mean, and all targets of
//! the prompt are in the step, so that `L = KL(p* || model) + H(p*)`: its floor is the entropy of `p*`, and the gap to it
//! a divergence. The weight of a token is the sum of `p*` over the targets that it belongs to, which its row carries:
//! whether the engine runs each target by itself or their common beginnings once is all the same here.

use burn::tensor::Tensor;

use crate::{Normalisation, Objective, ObjectiveKind, Tokens};

/// `diffuse` as listed in the registry.
pub const DIFFUSE: ObjectiveKind = ObjectiveKind {
    name: "diffuse",
    purpose: "a wanted distribution over answers: cross-entropy to all targets of a prompt, a sum over each target",
    build: |section| {
        let early_stop = section.optional::<f64>("early_stop");
        section.check(
            "early_stop",
            early_stop.is_none_or(|gap| gap.is_finite() && gap >= 0.0),
            format!("`{}` must be 0 or more", section.full("early_stop")),
            "0.2 ends the run when the loss is within 20 % of its floor; leave it out where the targets are all there are",
        );
        section.check_single("early_stop", early_stop.unwrap_or(0.0), "0.2 ends the run within 20 % of its floor");
        Box::new(Diffuse { early_stop })
    },
};

struct Diffuse {
    early_stop: Option<f64>,
}

impl Objective for Diffuse {
    fn name(&self) -> &str {
        DIFFUSE.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        tokens.row_weight.clone()
    }

    fn normalisation(&self) -> Normalisation {
        Normalisation::Prompts
    }

    fn row_shape(&self) -> Option<&'static str> {
        Some("targets")
    }

    fn early_stop(&self) -> Option<f64> {
        self.early_stop
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::objective::testing::*;

    /// Two targets of one and two tokens with p* = (3/4, 1/4): in f64 by the definition, and as KL + H.
    #[test]
    fn the_weighted_sum_is_the_divergence_plus_the_entropy_of_the_targets() {
        let p = [0.75, 0.25];
        let q: [&[f64]; 2] = [&[0.5], &[0.4, 0.9]];
        let model = q.map(|target| target.iter().product::<f64>());
        let divergence: f64 = p.iter().zip(model).map(|(p, q)| p * (p / q).ln()).sum();
        let entropy: f64 = -p.iter().map(|p| p * p.ln()).sum::<f64>();

        let device = Device::flex();
        let tensor = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
        let nll: Vec<f32> = q.concat().iter().map(|q| nll_of(*q) as f32).collect();
        let mut objective = build(DIFFUSE, "").expect("no keys");
        let weights = objective.weights(&Tokens {
            nll: tensor(&nll),
            position: tensor(&[1.0, 1.0, 2.0]),
            length: tensor(&[1.0, 2.0, 2.0]),
            row_weight: tensor(&[0.75, 0.25, 0.25]),
            entropy: None,
            sum_of_squares: None,
            base_nll: None,
            column: None,
            rows: &[0..1, 1..3],
        });
        let weights: Vec<f32> = weights.into_data().try_to_vec().expect("f32 weights");
        let loss: f64 = weights.iter().zip(&nll).map(|(w, nll)| f64::from(w * nll)).sum();
        assert!((loss - (divergence + entropy)).abs() < 1e-6, "{loss} is not {divergence} + {entropy}");
        assert_eq!(objective.normalisation(), Normalisation::Prompts);
    }

    #[test]
    fn training_goes_on_to_the_end_unless_told_otherwise() {
        assert_eq!(build(DIFFUSE, "").expect("no keys").early_stop(), None);
        assert_eq!(build(DIFFUSE, "early_stop = 0.2").expect("a valid key").early_stop(), Some(0.2));
        for keys in ["early_stop = -0.1", "early_stop = nan", "early_stop = inf", "early_stp = 0.2"] {
            assert!(build(DIFFUSE, keys).is_err(), "{keys}");
        }
    }
}
