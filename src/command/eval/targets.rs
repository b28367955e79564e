//! Rows with targets: every number exact, from one pass over all targets for all temperatures.

use std::collections::BTreeSet;

use datasets::Example;
use faults::{Fault, Faults};
use metrics::temperature::Sampler;
use metrics::{Exact, Outcome, Registry};
use serde_json::{Map, Value, json};

use super::drawn::Drawn;
use super::{Measuring, drawn};
use crate::command::print;
use crate::engine::data::prompts;
use crate::evaluation::{BUDGETS, outcomes};

/// A line for each prompt and temperature, then one for each temperature and all prompts.
pub(super) fn run(measuring: &Measuring<'_>, examples: &[Example]) -> Result<(), Faults> {
    let registry = Registry::default();
    let budgets: Vec<usize> =
        BUDGETS.iter().chain(&measuring.arguments.budget).copied().collect::<BTreeSet<_>>().into_iter().collect();
    let prompts = prompts(examples);
    // Of each temperature, the outcomes of each prompt, and what was drawn.
    let mut all: Vec<(Vec<Vec<Outcome>>, Vec<Drawn>)> = measuring.samplers.iter().map(|_| Default::default()).collect();
    let mut targets = 0;
    for (index, prompt) in prompts.iter().enumerate() {
        let of_samplers = outcomes(&measuring.model.decoder, examples, prompt, &measuring.samplers)?;
        targets += of_samplers[0].len();
        for ((sampler, outcomes), (kept, draws)) in measuring.samplers.iter().zip(of_samplers).zip(&mut all) {
            let mut line = line(measuring, &examples[prompt.targets.start], sampler, outcomes.len())?;
            add(&mut line, &Exact::new(vec![&outcomes], &budgets), &registry);
            if measuring.arguments.n > 0 {
                let drawn = drawn::draw(measuring, &examples[prompt.targets.clone()], index, sampler)?;
                drawn.add(&mut line);
                draws.push(drawn);
            }
            if index < measuring.arguments.probabilities {
                line.insert(
                    "probabilities".into(),
                    probabilities(measuring, &examples[prompt.targets.clone()], &outcomes)?,
                );
            }
            print(&format!("{}\n", Value::Object(line)))?;
            kept.push(outcomes);
        }
    }
    for (sampler, (outcomes, draws)) in measuring.samplers.iter().zip(&all) {
        let place = ["file", "line", "prompt"].map(|key| (key, Value::Null));
        let mut line = measuring.line(place.to_vec(), sampler);
        line.insert("targets".into(), json!(targets));
        add(&mut line, &Exact::new(outcomes.iter().map(Vec::as_slice).collect(), &budgets), &registry);
        if let Some(drawn) = Drawn::together(draws) {
            drawn.add(&mut line);
        }
        print(&format!("{}\n", Value::Object(line)))?;
    }
    Ok(())
}

/// The beginning of a prompt's line.
fn line(
    measuring: &Measuring<'_>,
    first: &Example,
    sampler: &Sampler,
    targets: usize,
) -> Result<Map<String, Value>, Fault> {
    let asked = measuring.model.tokenizer.decode(first.prompt(), true)?;
    let place = vec![("file", json!(&*first.file)), ("line", json!(first.line)), ("prompt", json!(asked))];
    let mut line = measuring.line(place, sampler);
    line.insert("targets".into(), json!(targets));
    Ok(line)
}

/// Each target of a prompt with its true and its modelled probability.
fn probabilities(measuring: &Measuring<'_>, targets: &[Example], outcomes: &[Outcome]) -> Result<Value, Fault> {
    // Targets that are alike are one outcome, which has the place of the first.
    let mut known = BTreeSet::new();
    let different = targets.iter().filter(|target| known.insert(&target.ids));
    let target = |(target, outcome): (&Example, &Outcome)| {
        let ids: Vec<u32> = target.ids.iter().zip(&target.learned).filter(|(_, is)| **is).map(|(id, _)| *id).collect();
        let text = measuring.model.tokenizer.decode(&ids, true)?;
        Ok(json!({"target": text, "p": outcome.p, "q": outcome.q()}))
    };
    different.zip(outcomes).map(target).collect::<Result<Vec<Value>, Fault>>().map(Value::Array)
}

fn add(line: &mut Map<String, Value>, exact: &Exact<'_>, registry: &Registry) {
    line.extend(registry.exact.iter().map(|metric| (metric.name.into(), json!((metric.measure)(exact)))));
}
