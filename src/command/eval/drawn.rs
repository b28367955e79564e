//! Samples of prompts with targets: how many are valid, how many targets they cover, what they say in other tokens than the
//! targets', and whatever else is counted of samples.

use std::collections::{BTreeMap, BTreeSet};

use datasets::{Example, Sampled, Tokenizer};
use faults::{Fault, Faults};
use metrics::temperature::Sampler;
use serde_json::{Map, Value, json};

use super::Measuring;
use super::counted::{Counting, tell_of_ceilings};
use super::lines::Tools;
use super::prompts::settings;
use crate::evaluation::KnownTargets;
use crate::sampling::{DecoderRows, Sample, sample_all};

/// The name in these lines of what samples have under another key: there is an exact `entropy`.
const RENAMED: (&str, &str) = ("entropy", "sampled_entropy");

/// Counts whose sum over the prompts is told, first of all.
const SUMS: [&str; 3] = ["samples", "valid", "distinct"];

/// The samples of all prompts under one sampler, counted.
pub(super) struct Drawn {
    of_prompts: Vec<Map<String, Value>>,
    mean: Map<String, Value>,
}

/// What samples are beside the targets of their prompt.
#[derive(Debug, Clone, Copy, Default)]
struct BesideTargets {
    /// Different targets among them.
    covered: usize,
    /// Valid ones in other tokens than the target has: what the exact mass does not count.
    other_tokens: usize,
}

impl Drawn {
    /// Draws and counts samples of each of `prompts`, all its targets.
    ///
    /// # Errors
    /// A prompt without a token, or what the judge or the encoder has to say.
    pub(super) fn new(
        measuring: &Measuring<'_>,
        prompts: &[&[Example]],
        sampler: &Sampler,
        tools: &mut Tools,
    ) -> Result<Self, Faults> {
        let mut drawn = Vec::with_capacity(prompts.len());
        for (index, targets) in prompts.iter().enumerate() {
            drawn.push(draw(measuring, targets, index, sampler)?);
        }
        let (mut sampled, others): (Vec<Sampled>, Vec<BesideTargets>) = drawn.into_iter().unzip();
        let without = match &mut tools.judge {
            Some(judge) => {
                // The targets' word on what is valid gives way to the judge's.
                sampled.iter_mut().for_each(|prompt| prompt.correct = None);
                Some(judge.judge(&mut sampled)?)
            }
            None => None,
        };
        let counting = Counting::new(&sampled, measuring.arguments, tools.encoder.as_ref(), without)?;
        let lines: Vec<Map<String, Value>> =
            sampled.iter().enumerate().map(|(index, prompt)| counting.measure(index, prompt).line).collect();
        tell_of_ceilings(&lines);
        let mut mean = counting.mean(&lines);
        let sum = |key: &str| lines.iter().filter_map(|line| line[key].as_u64()).sum::<u64>();
        SUMS.iter().filter(|key| lines[0].contains_key(**key)).for_each(|key| {
            mean.insert((*key).into(), json!(sum(key)));
        });
        let (mut of_prompts, mut all) = (Vec::with_capacity(lines.len()), BesideTargets::default());
        for (line, beside) in lines.into_iter().zip(others) {
            all = BesideTargets {
                covered: all.covered + beside.covered,
                other_tokens: all.other_tokens + beside.other_tokens,
            };
            of_prompts.push(named(line, beside));
        }
        let mean = named(mean, all);
        Ok(Self { of_prompts, mean })
    }

    /// Adds the numbers of the prompt at `index` to its line.
    pub(super) fn add(&self, index: usize, line: &mut Map<String, Value>) {
        line.extend(self.of_prompts[index].clone());
    }

    /// Adds those of all prompts: counts are sums, all else is the mean over the prompts.
    pub(super) fn add_all(&self, line: &mut Map<String, Value>) {
        line.extend(self.mean.clone());
    }
}

/// The numbers under the names that they have beside the exact ones, those that say most first.
fn named(mut counted: Map<String, Value>, beside: BesideTargets) -> Map<String, Value> {
    let samples = counted["samples"].as_f64().unwrap_or(f64::NAN);
    let mut line = Map::new();
    for key in SUMS {
        // A judge may give scores and say nothing of what is valid.
        line.extend(counted.remove(key).map(|value| (key.into(), value)));
    }
    line.insert("covered".into(), json!(beside.covered));
    line.extend(counted.remove(RENAMED.0).map(|value| (RENAMED.1.into(), value)));
    line.insert("other_tokenisations".into(), json!(beside.other_tokens as f64 / samples));
    if let Some(Value::Object(errors)) = counted.get_mut("standard_errors") {
        let renamed = errors.remove(RENAMED.0);
        SUMS.iter().for_each(|key| drop(errors.remove(*key)));
        errors.extend(renamed.map(|value| (RENAMED.1.into(), value)));
    }
    line.extend(counted);
    line
}

/// Draws samples of the prompt at `index`, whose targets these are.
fn draw(
    measuring: &Measuring<'_>,
    targets: &[Example],
    index: usize,
    sampler: &Sampler,
) -> Result<(Sampled, BesideTargets), Fault> {
    let (arguments, tokenizer) = (measuring.arguments, &measuring.model.tokenizer);
    let asked = targets[0].prompt();
    if asked.is_empty() {
        return Err(Fault::new("a prompt without any token")
            .at(targets[0].place())
            .hint("give each prompt some text; `--n 0` leaves the samples out"));
    }
    // A stream of its own for each prompt: with one for all, their sampling errors would be one. The first has that of
    // `trainer sample`.
    let seed = match index {
        0 => arguments.seed(),
        _ => backbone::random::key(arguments.seed(), &["prompt", &index.to_string()]),
    };
    let mut rows = DecoderRows::new(&measuring.model.decoder);
    let settings = settings(arguments, sampler, seed);
    let samples = sample_all(&mut rows, tokenizer, &[asked.to_vec()], arguments.draws(), &settings, &mut |_| ())?;
    compare(&samples, targets, tokenizer)
}

fn compare(samples: &[Sample], targets: &[Example], tokenizer: &Tokenizer) -> Result<(Sampled, BesideTargets), Fault> {
    let stops = tokenizer.stop_tokens();
    let mut tokens: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for target in targets {
        let mut ids: Vec<u32> = target.learned_ids().collect();
        let text = tokenizer.decode(&ids, true)?.trim().to_string();
        ids.truncate(ids.len() - usize::from(ids.last().is_some_and(|last| stops.contains(last))));
        tokens.insert(text, ids);
    }
    let known = KnownTargets::new(tokens.keys().map(String::as_str), KnownTargets::are_open_in(targets, tokenizer));
    let texts: Vec<String> = samples.iter().map(|sample| sample.text.trim().to_owned()).collect();
    let (mut valid, mut other_tokens, mut covered) = (vec![false; samples.len()], 0, BTreeSet::new());
    for ((sample, text), valid) in samples.iter().zip(&texts).zip(&mut valid) {
        let Some(target) = known.find(text, sample.has_ended()) else { continue };
        *valid = true;
        covered.insert(target);
        let ids = &tokens[target];
        let same = if known.are_open() { sample.ids.starts_with(ids) } else { sample.ids == *ids };
        other_tokens += usize::from(!same);
    }
    let place = targets[0].place();
    let asked = json!(tokenizer.decode(targets[0].prompt(), true)?);
    let row = |(index, text): (usize, &String)| {
        let row =
            json!({"file": &*targets[0].file, "line": targets[0].line, "prompt": asked, "sample": index, "text": text});
        let Value::Object(row) = row else { unreachable!("an object was written") };
        (row, place.clone())
    };
    let sampled = Sampled {
        key: "prompt",
        name: asked.clone(),
        prompt: None,
        model: None,
        place: place.clone(),
        count: samples.len(),
        rows: texts.iter().enumerate().map(row).collect(),
        texts: Some(texts),
        correct: Some(valid),
        scores: None,
        classes: None,
        same: None,
    };
    Ok((sampled, BesideTargets { covered: covered.len(), other_tokens }))
}
