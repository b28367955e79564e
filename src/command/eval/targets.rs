//! Rows with targets: every number exact, from one pass over all targets for all temperatures.

use std::collections::BTreeSet;

use datasets::Example;
use faults::Faults;
use faults::json::to_line;
use metrics::Outcome;
use serde_json::Value;

use super::Measuring;
use super::drawn::Drawn;
use super::lines::Tools;
use crate::command::print;
use crate::engine::data::{Prompt, prompts};
use crate::evaluation::lines::{Lines, probabilities};
use crate::evaluation::{BUDGETS, outcomes};

/// A line for each prompt and temperature, then one for each temperature and all prompts.
pub(super) fn run(measuring: &Measuring<'_>, examples: &[Example], tools: &mut Tools) -> Result<(), Faults> {
    let budgets: BTreeSet<usize> = BUDGETS.iter().chain(&measuring.arguments.budget).copied().collect();
    let registry = measuring.arguments.registry();
    let lines = Lines::new(measuring.name, budgets.into_iter().collect(), registry);
    let prompts = prompts(examples);
    let drawn = drawn(measuring, examples, &prompts, tools)?;
    // Of each temperature, the outcomes of each prompt.
    let mut all: Vec<Vec<Vec<Outcome>>> = vec![Vec::new(); measuring.samplers.len()];
    for (index, prompt) in prompts.iter().enumerate() {
        let of_samplers = outcomes(&measuring.model.decoder, examples, prompt, &measuring.samplers)?;
        for (place, (sampler, outcomes)) in measuring.samplers.iter().zip(of_samplers).enumerate() {
            let (targets, tokenizer) = (&examples[prompt.targets.clone()], &measuring.model.tokenizer);
            let mut line = lines.of_prompt(&targets[0], tokenizer, sampler, &outcomes)?;
            if let Some(drawn) = drawn.get(place) {
                drawn.add(index, &mut line);
            }
            if index < measuring.arguments.probabilities {
                line.insert("probabilities".into(), probabilities(targets, tokenizer, &outcomes)?);
            }
            print(&format!("{}\n", to_line(&Value::Object(line))))?;
            all[place].push(outcomes);
        }
    }
    for (place, (sampler, outcomes)) in measuring.samplers.iter().zip(&all).enumerate() {
        let mut line = lines.of_all(sampler, &lines.joint(outcomes));
        if let Some(drawn) = drawn.get(place) {
            drawn.add_all(&mut line);
        }
        print(&format!("{}\n", to_line(&Value::Object(line))))?;
    }
    Ok(())
}

/// What is drawn, of each sampler; nothing where no samples are wanted.
fn drawn(
    measuring: &Measuring<'_>,
    examples: &[Example],
    prompts: &[Prompt],
    tools: &mut Tools,
) -> Result<Vec<Drawn>, Faults> {
    if measuring.arguments.draws() == 0 {
        return Ok(Vec::new());
    }
    let targets: Vec<&[Example]> = prompts.iter().map(|prompt| &examples[prompt.targets.clone()]).collect();
    measuring.samplers.iter().map(|sampler| Drawn::new(measuring, &targets, sampler, tools)).collect()
}
