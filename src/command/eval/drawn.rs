//! Samples of prompts with targets: how many are valid, how many targets they cover, and what they say in other tokens than
//! the targets'.

use std::collections::{BTreeMap, BTreeSet};

use datasets::{Example, Tokenizer};
use faults::Fault;
use metrics::counts::entropy;
use metrics::temperature::Sampler;
use serde_json::{Map, Value, json};

use super::Measuring;
use crate::sampling::{DecoderRows, News, Sample, Settings, sample};

/// What was counted of the samples of a prompt, or of several.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawn {
    samples: usize,
    /// Samples that are a target, or begin with one that is open.
    valid: usize,
    /// Different texts of a prompt.
    distinct: usize,
    /// Different targets among the samples of a prompt.
    covered: usize,
    entropy: f64,
    /// Valid samples in other tokens than the target has: what the exact mass does not count.
    other_tokens: usize,
}

impl Drawn {
    /// The sums over prompts, and the mean of the entropy; `None` where nothing was drawn.
    pub(super) fn together(prompts: &[Self]) -> Option<Self> {
        let sum = |of: fn(&Self) -> usize| prompts.iter().map(of).sum();
        (!prompts.is_empty()).then(|| Self {
            samples: sum(|drawn| drawn.samples),
            valid: sum(|drawn| drawn.valid),
            distinct: sum(|drawn| drawn.distinct),
            covered: sum(|drawn| drawn.covered),
            entropy: prompts.iter().map(|drawn| drawn.entropy).sum::<f64>() / prompts.len() as f64,
            other_tokens: sum(|drawn| drawn.other_tokens),
        })
    }

    pub(super) fn add(&self, line: &mut Map<String, Value>) {
        line.insert("samples".into(), json!(self.samples));
        line.insert("valid".into(), json!(self.valid));
        line.insert("distinct".into(), json!(self.distinct));
        line.insert("covered".into(), json!(self.covered));
        line.insert("sampled_entropy".into(), json!(self.entropy));
        line.insert("other_tokenisations".into(), json!(self.other_tokens as f64 / self.samples as f64));
    }
}

/// Draws samples of the prompt at `index`, whose targets these are.
pub(super) fn draw(
    measuring: &Measuring<'_>,
    targets: &[Example],
    index: usize,
    sampler: &Sampler,
) -> Result<Drawn, Fault> {
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
        0 => arguments.seed,
        _ => backbone::random::key(arguments.seed, &["prompt", &index.to_string()]),
    };
    let settings = Settings {
        temperature: sampler.temperature,
        top_p: sampler.top_p,
        top_k: sampler.top_k,
        min_p: sampler.min_p,
        max_tokens: arguments.max_tokens,
        stop: Vec::new(),
        seed,
    };
    let mut rows = DecoderRows::new(&measuring.model.decoder);
    let mut samples = Vec::new();
    sample(&mut rows, tokenizer, &[asked.to_vec()], arguments.n, &settings, &mut |news| {
        if let News::Done(sample) = news {
            samples.push(sample);
        }
        Ok(())
    })?;
    count(&samples, targets, tokenizer)
}

fn count(samples: &[Sample], targets: &[Example], tokenizer: &Tokenizer) -> Result<Drawn, Fault> {
    let stops = tokenizer.stop_tokens();
    let mut known: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for target in targets {
        let learned = target.ids.iter().zip(&target.learned).filter(|(_, learned)| **learned).map(|(id, _)| *id);
        let mut ids: Vec<u32> = learned.collect();
        let text = tokenizer.decode(&ids, true)?.trim().to_string();
        ids.truncate(ids.len() - usize::from(ids.last().is_some_and(|last| stops.contains(last))));
        known.insert(text, ids);
    }
    // After a target without an end the model goes on as it likes.
    let open = targets[0].ids.last().is_none_or(|last| !stops.contains(last));
    let texts: Vec<&str> = samples.iter().map(|sample| sample.text.trim()).collect();
    let (mut valid, mut other_tokens, mut covered) = (0, 0, BTreeSet::new());
    for (sample, text) in samples.iter().zip(&texts) {
        let found = match open {
            true => known.iter().find(|(target, _)| text.starts_with(target.as_str())),
            false => known.get_key_value(*text),
        };
        let Some((target, ids)) = found else { continue };
        valid += 1;
        covered.insert(target);
        let same = if open { sample.ids.starts_with(ids) } else { sample.ids == *ids };
        other_tokens += usize::from(!same);
    }
    Ok(Drawn {
        samples: samples.len(),
        valid,
        distinct: texts.iter().collect::<BTreeSet<_>>().len(),
        covered: covered.len(),
        entropy: entropy(&texts),
        other_tokens,
    })
}
