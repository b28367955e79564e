//! What exact metrics are computed from: prompts whose answers, and how likely each is, are known.

use crate::curve::Curve;

/// One possible answer to a prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Its true probability, above 0.
    pub p: f64,
    /// The logarithm of the model's probability; `-inf` where the model cannot give it.
    pub log_q: f64,
}

impl Outcome {
    /// The model's probability.
    pub fn q(&self) -> f64 {
        self.log_q.exp()
    }
}

/// One prompt, or several of equal weight, each with all its answers: the joint distribution `P(c) p(y|c)` has
/// `P(c) = 1 / prompts`.
pub struct Exact<'a> {
    /// The answers of each prompt, whose `p` sum to 1.
    pub prompts: Vec<&'a [Outcome]>,
    /// The joint curve of precision and recall.
    pub curve: Curve,
    /// The numbers of samples whose coverage is asked for.
    pub budgets: Vec<usize>,
}

impl<'a> Exact<'a> {
    /// Of these prompts, at least one.
    pub fn new(prompts: Vec<&'a [Outcome]>, budgets: &[usize]) -> Self {
        let weight = 1.0 / prompts.len() as f64;
        let curve = Curve::joint(prompts.iter().map(|outcomes| (weight, *outcomes)));
        Self { prompts, curve, budgets: budgets.to_vec() }
    }

    /// The mean of what each prompt gives.
    pub fn mean(&self, of: impl Fn(&[Outcome]) -> f64) -> f64 {
        self.prompts.iter().map(|outcomes| of(outcomes)).sum::<f64>() / self.prompts.len() as f64
    }
}

/// Outcomes from plain probabilities, for tests.
#[cfg(test)]
pub(crate) fn outcomes(p: &[f64], q: &[f64]) -> Vec<Outcome> {
    p.iter().zip(q).map(|(p, q)| Outcome { p: *p, log_q: q.ln() }).collect()
}
