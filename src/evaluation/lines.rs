//! The lines of JSON that tell the exact numbers of rows with targets: what `trainer eval` prints and a run keeps.

use std::collections::BTreeSet;

use datasets::{Example, Tokenizer};
use faults::Fault;
use metrics::coverage::{COVERAGE, perfect_coverage};
use metrics::temperature::Sampler;
use metrics::{Exact, Outcome, Registry};
use serde_json::{Map, Value, json};

/// What a model that is the truth has as `coverage`.
pub const PERFECT_COVERAGE: &str = "perfect_coverage";

/// What is told of one model.
pub struct Lines<'a> {
    /// The numbers that are told.
    pub registry: Registry,
    model: &'a str,
    /// Numbers of samples whose expected coverage is told.
    budgets: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// Of the model of this name, with the exact metrics of `registry`.
    pub fn new(model: &'a str, budgets: Vec<usize>, registry: Registry) -> Self {
        Self { registry, model, budgets }
    }

    /// The line of a prompt, one of whose targets is `first`.
    ///
    /// # Errors
    /// Tokens that the tokenizer does not have.
    pub fn of_prompt(
        &self,
        first: &Example,
        tokenizer: &Tokenizer,
        sampler: &Sampler,
        outcomes: &[Outcome],
    ) -> Result<Map<String, Value>, Fault> {
        let asked = tokenizer.decode(first.prompt(), true)?;
        let place = [("file", json!(&*first.file)), ("line", json!(first.line)), ("prompt", json!(asked))];
        Ok(self.line(place, sampler, &Exact::new(vec![outcomes], &self.budgets)))
    }

    /// The line of all prompts together, with what a perfect model covers.
    pub fn of_all(&self, sampler: &Sampler, all: &Exact<'_>) -> Map<String, Value> {
        let mut line = self.line(["file", "line", "prompt"].map(|key| (key, Value::Null)), sampler, all);
        if line.contains_key(COVERAGE.name) {
            let perfect = |n: &usize| (n.to_string(), json!(all.mean(|outcomes| perfect_coverage(outcomes, *n))));
            line.insert(PERFECT_COVERAGE.into(), Value::Object(self.budgets.iter().map(perfect).collect()));
        }
        line
    }

    /// The joint distribution of prompts and their outcomes.
    pub fn joint<'b>(&self, outcomes: &'b [Vec<Outcome>]) -> Exact<'b> {
        Exact::new(outcomes.iter().map(Vec::as_slice).collect(), &self.budgets)
    }

    fn line(
        &self,
        place: impl IntoIterator<Item = (&'static str, Value)>,
        sampler: &Sampler,
        exact: &Exact<'_>,
    ) -> Map<String, Value> {
        let mut line = beginning(self.model, place, sampler);
        line.insert("targets".into(), json!(exact.prompts.iter().map(|targets| targets.len()).sum::<usize>()));
        line.extend(self.registry.exact.iter().map(|metric| (metric.name.into(), json!((metric.measure)(exact)))));
        line
    }
}

/// Each target of a prompt with its true and its modelled probability.
///
/// # Errors
/// Tokens that the tokenizer does not have.
pub fn probabilities(targets: &[Example], tokenizer: &Tokenizer, outcomes: &[Outcome]) -> Result<Value, Fault> {
    // Targets that are alike are one outcome, which has the place of the first.
    let mut known = BTreeSet::new();
    let different = targets.iter().filter(|target| known.insert(&target.ids));
    let target = |(target, outcome): (&Example, &Outcome)| {
        let ids: Vec<u32> = target.learned_ids().collect();
        let text = tokenizer.decode(&ids, true)?;
        Ok(json!({"target": text, "p": outcome.p, "q": outcome.q()}))
    };
    different.zip(outcomes).map(target).collect::<Result<Vec<Value>, Fault>>().map(Value::Array)
}

/// What every line says first: the model, where the rows stand, and how tokens are drawn.
pub fn beginning(
    model: &str,
    place: impl IntoIterator<Item = (&'static str, Value)>,
    sampler: &Sampler,
) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("model".into(), json!(model));
    line.extend(place.into_iter().map(|(key, value)| (key.into(), value)));
    line.insert("temperature".into(), json!(sampler.temperature));
    let Sampler { temperature: _, top_p, top_k, min_p, typical_p } = *sampler;
    line.extend((top_p < 1.0).then(|| ("top_p".into(), json!(top_p))));
    line.extend((top_k > 0).then(|| ("top_k".into(), json!(top_k))));
    line.extend((min_p > 0.0).then(|| ("min_p".into(), json!(min_p))));
    line.extend((typical_p < 1.0).then(|| ("typical_p".into(), json!(typical_p))));
    line
}
