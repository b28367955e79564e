//! Negative log-likelihood: `w = 1`.
//!
//! The maximum-likelihood objective, and the neutral setting that every other one is compared with.

use burn::tensor::Tensor;

use crate::{Objective, ObjectiveKind, Tokens};

/// `nll` as listed in the registry.
pub const NLL: ObjectiveKind = ObjectiveKind {
    name: "nll",
    purpose: "maximum likelihood; the baseline of every comparison",
    build: |_section| Box::new(Nll),
};

/// Every token counts alike.
#[derive(Debug)]
pub struct Nll;

impl Objective for Nll {
    fn name(&self) -> &str {
        NLL.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        tokens.nll.ones_like()
    }
}
