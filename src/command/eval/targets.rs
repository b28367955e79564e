//! Rows with targets: every number exact, from one pass over all targets for all temperatures.

use std::collections::BTreeSet;

use datasets::Example;
use faults::Faults;
use metrics::Outcome;
use serde_json::Value;

use super::drawn::Drawn;
use super::{Measuring, drawn};
use crate::command::print;
use crate::engine::data::prompts;
use crate::evaluation::lines::{Lines, probabilities};
use crate::evaluation::{BUDGETS, outcomes};

/// A line for each prompt and temperature, then one for each temperature and all prompts.
pub(super) fn run(measuring: &Measuring<'_>, examples: &[Example]) -> Result<(), Faults> {
    let budgets: BTreeSet<usize> = BUDGETS.iter().chain(&measuring.arguments.budget).copied().collect();
    let lines = Lines::new(measuring.name, budgets.into_iter().collect());
    let prompts = prompts(examples);
    // Of each temperature, the outcomes of each prompt, and what was drawn.
    let mut all: Vec<(Vec<Vec<Outcome>>, Vec<Drawn>)> = measuring.samplers.iter().map(|_| Default::default()).collect();
    for (index, prompt) in prompts.iter().enumerate() {
        let of_samplers = outcomes(&measuring.model.decoder, examples, prompt, &measuring.samplers)?;
        for ((sampler, outcomes), (kept, draws)) in measuring.samplers.iter().zip(of_samplers).zip(&mut all) {
            let (targets, tokenizer) = (&examples[prompt.targets.clone()], &measuring.model.tokenizer);
            let mut line = lines.of_prompt(&targets[0], tokenizer, sampler, &outcomes)?;
            if measuring.arguments.n > 0 {
                let drawn = drawn::draw(measuring, targets, index, sampler)?;
                drawn.add(&mut line);
                draws.push(drawn);
            }
            if index < measuring.arguments.probabilities {
                line.insert("probabilities".into(), probabilities(targets, tokenizer, &outcomes)?);
            }
            print(&format!("{}\n", Value::Object(line)))?;
            kept.push(outcomes);
        }
    }
    for (sampler, (outcomes, draws)) in measuring.samplers.iter().zip(&all) {
        let mut line = lines.of_all(sampler, outcomes);
        if let Some(drawn) = Drawn::together(draws) {
            drawn.add(&mut line);
        }
        print(&format!("{}\n", Value::Object(line)))?;
    }
    Ok(())
}
