//! A program with an objective of its own, which recipes name like any other.
//!
//!     cargo run --release --example custom_objective -- run examples/custom_objective.toml
//!
//! It is the whole of `trainer` (all commands, all other objectives) with one word more in `objective.kind`.

use std::process::ExitCode;

use burn::tensor::Tensor;
use trainer::faults::Section;
use trainer::losses::{Objective, ObjectiveKind, Registry, Tokens};

/// Later tokens of a response count more: `w_l = 1 + slope * (l - 1) / L`.
struct LateTokens {
    slope: f64,
}

impl Objective for LateTokens {
    fn name(&self) -> &str {
        LATE_TOKENS.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        let place = (tokens.position.clone() - 1.0) / tokens.length.clone();
        place * self.slope + 1.0
    }
}

/// Its name, its purpose, and how it reads its keys: strictly, with a fault for what cannot be.
const LATE_TOKENS: ObjectiveKind = ObjectiveKind {
    name: "late_tokens",
    purpose: "later tokens of a response count more",
    build: |section: &mut Section| {
        let slope = section.value("slope", 1.0);
        section.check("slope", slope >= 0.0, "`objective.slope` must be 0 or more", "0 is `nll`");
        Box::new(LateTokens { slope })
    },
};

fn main() -> ExitCode {
    let mut registry = Registry::default();
    registry.objectives.push(LATE_TOKENS);
    trainer::command::main(&registry)
}
