//! Rows with targets: every number exact, from one pass over all targets for all temperatures.

use std::collections::BTreeSet;

use datasets::Example;
use faults::{Fault, Faults};
use metrics::temperature::Sampler;
use metrics::{Exact, Outcome, Registry};
use serde_json::{Map, Value, json};

use super::Measuring;
use super::drawn::Drawn;
use super::lines::Tools;
use crate::command::print;
use crate::engine::data::{Prompt, prompts};
use crate::evaluation::{BUDGETS, outcomes};

/// A line for each prompt and temperature, then one for each temperature and all prompts.
pub(super) fn run(measuring: &Measuring<'_>, examples: &[Example], tools: &mut Tools) -> Result<(), Faults> {
    let registry = Registry::default();
    let budgets: Vec<usize> =
        BUDGETS.iter().chain(&measuring.arguments.budget).copied().collect::<BTreeSet<_>>().into_iter().collect();
    let prompts = prompts(examples);
    let drawn = drawn(measuring, examples, &prompts, tools)?;
    // Of each temperature, the outcomes of each prompt.
    let mut all: Vec<Vec<Vec<Outcome>>> = measuring.samplers.iter().map(|_| Vec::new()).collect();
    let mut targets = 0;
    for (index, prompt) in prompts.iter().enumerate() {
        let of_samplers = outcomes(&measuring.model.decoder, examples, prompt, &measuring.samplers)?;
        targets += of_samplers[0].len();
        for (place, (sampler, outcomes)) in measuring.samplers.iter().zip(of_samplers).enumerate() {
            let mut line = line(measuring, &examples[prompt.targets.start], sampler, outcomes.len())?;
            add(&mut line, &Exact::new(vec![&outcomes], &budgets), &registry);
            if let Some(drawn) = drawn.get(place) {
                drawn.add(index, &mut line);
            }
            print(&format!("{}\n", Value::Object(line)))?;
            all[place].push(outcomes);
        }
    }
    for (place, (sampler, outcomes)) in measuring.samplers.iter().zip(&all).enumerate() {
        let of_all = ["file", "line", "prompt"].map(|key| (key, Value::Null));
        let mut line = measuring.line(of_all.to_vec(), sampler);
        line.insert("targets".into(), json!(targets));
        add(&mut line, &Exact::new(outcomes.iter().map(Vec::as_slice).collect(), &budgets), &registry);
        if let Some(drawn) = drawn.get(place) {
            drawn.add_all(&mut line);
        }
        print(&format!("{}\n", Value::Object(line)))?;
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

fn add(line: &mut Map<String, Value>, exact: &Exact<'_>, registry: &Registry) {
    line.extend(registry.exact.iter().map(|metric| (metric.name.into(), json!((metric.measure)(exact)))));
}
