//! Intent Factored Generation (arXiv 2506.09659): the nll of intent, separator and response, `w = 1`.
//!
//! The objective is plain nll; what makes the method is the rows, which state an intent before each response, and the
//! sampler, which draws the intent at a higher temperature than the response. This word in a recipe says that the rows
//! must have intents. Which part is learned is `data.train_on`, and any other objective may be trained on such rows.

use burn::tensor::Tensor;

use crate::{Objective, ObjectiveKind, Tokens};

/// `intent` as listed in the registry.
pub const INTENT: ObjectiveKind = ObjectiveKind {
    name: "intent",
    purpose: "more diverse samples: nll on rows that say what they are about to say; sampled at two temperatures",
    build: |_section| Box::new(Intent),
};

struct Intent;

impl Objective for Intent {
    fn name(&self) -> &str {
        INTENT.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        tokens.nll.ones_like()
    }

    fn row_shape(&self) -> Option<&'static str> {
        Some("intent")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::testing::*;

    #[test]
    fn every_learned_token_counts_as_in_nll() {
        let mut objective = build(INTENT, "").expect("no keys");
        assert_eq!(weights(&mut *objective, &NEUTRAL), [1.0; NEUTRAL.len()]);
        assert_eq!(objective.row_shape(), Some("intent"));
        assert!(build(INTENT, "template = \"chat\"").is_err());
    }
}
