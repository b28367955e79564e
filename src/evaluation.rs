//! The probabilities that a model gives to the tokens of rows under every way of sampling, from one forward pass.
//!
//! Temperature and truncation act on each token's logits, so that the logits of a place serve all samplers at once. Where
//! targets share a beginning its places stand once, as a tree, and a place's logits serve all tokens that follow it there.
//! The logits come in chunks and are gone with the chunk: there is never a tensor `[tokens, vocabulary]` of all.

mod known_targets;
pub mod lines;

use std::collections::BTreeMap;
use std::ops::Range;

use backbone::Decoder;
use backbone::ops::chunk_rows;
use backbone::values;
use burn::tensor::{Int, Tensor, TensorData};
use datasets::Example;
use faults::Fault;
use metrics::Outcome;
use metrics::temperature::{Row, Sampler};
use rayon::prelude::*;

use crate::engine::batch::Batch;
use crate::engine::data::Prompt;

pub use known_targets::KnownTargets;

/// The numbers of samples whose expected coverage is always told.
pub const BUDGETS: [usize; 3] = [10, 100, 1000];

/// Most places of a tree of targets: each sees all others in a mask of their square.
const PLACES: usize = 1024;

/// What a model gives to the learned tokens of a batch.
pub struct Scores {
    /// For each sampler the `ln q` of each learned token; `-inf` where it is cut.
    pub log_q: Vec<Vec<f64>>,
    /// For each sampler the entropy in nats of the distribution that each learned token is drawn from.
    pub entropy: Vec<Vec<f64>>,
}

/// Whether entropies are computed too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entropies {
    /// They are.
    Wanted,
    /// They are left out.
    Left,
}

/// What `decoder` gives to the learned tokens of `batch` under each of `samplers`.
pub fn scores(decoder: &Decoder, batch: &Batch, samplers: &[Sampler], entropies: Entropies) -> Scores {
    let device = decoder.device();
    let context = batch.context(decoder, None);
    let hidden = decoder.hidden_in(&context, batch.ids(device), false, None);
    let [rows, width, hidden_size] = hidden.dims();
    let hidden = hidden.reshape([rows * width, hidden_size]);
    // Learned tokens by the place that predicts them.
    let mut order: Vec<usize> = (0..batch.learned.len()).collect();
    order.sort_by_key(|token| batch.learned[*token].hidden);
    let same_place = |a: &usize, b: &usize| batch.learned[*a].hidden == batch.learned[*b].hidden;
    let places: Vec<&[usize]> = order.chunk_by(same_place).collect();
    let empty = || vec![vec![0.0; batch.learned.len()]; samplers.len()];
    let mut scores = Scores { log_q: empty(), entropy: empty() };
    let vocabulary = decoder.config.vocab_size;
    for chunk in places.chunks(chunk_rows(vocabulary, device)) {
        let ids: Vec<i32> = chunk.iter().map(|tokens| index(batch.learned[tokens[0]].hidden)).collect();
        let ids: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [chunk.len()]), device);
        let logits = values(decoder.logits(hidden.clone().select(0, ids)).flatten(0, 1));
        let found: Vec<Vec<(Vec<f64>, f64)>> = chunk
            .par_iter()
            .zip(logits.par_chunks_exact(vocabulary))
            .map(|(tokens, logits)| {
                let wanted: Vec<u32> = tokens.iter().map(|token| batch.learned[*token].target).collect();
                let row = Row::new(logits, samplers);
                let of = |sampler: &Sampler| {
                    let mut log_q = Vec::with_capacity(wanted.len());
                    let kept = row.keep(sampler);
                    kept.log_probabilities(&wanted, &mut log_q);
                    let wanted = entropies == Entropies::Wanted;
                    (log_q, if wanted { kept.entropy() } else { 0.0 })
                };
                samplers.iter().map(of).collect()
            })
            .collect();
        for (tokens, of_samplers) in chunk.iter().zip(found) {
            for (sampler, (log_q, entropy)) in of_samplers.into_iter().enumerate() {
                for (token, log_q) in tokens.iter().zip(log_q) {
                    scores.log_q[sampler][*token] = log_q;
                    scores.entropy[sampler][*token] = entropy;
                }
            }
        }
    }
    scores
}

/// `ln q` of each target of a prompt under each of `samplers`, the sum over its learned tokens: a list for each sampler, in
/// the order of the targets.
pub fn target_log_q(
    decoder: &Decoder,
    examples: &[Example],
    targets: Range<usize>,
    samplers: &[Sampler],
) -> Vec<Vec<f64>> {
    let first = targets.start;
    let mut found = vec![vec![0.0; targets.len()]; samplers.len()];
    for part in parts(examples, targets) {
        let batch = Batch::packed(examples, &part, 1);
        let scores = scores(decoder, &batch, samplers, Entropies::Left);
        for (found, log_q) in found.iter_mut().zip(&scores.log_q) {
            for (target, log_q) in part.iter().zip(batch.row_sums(log_q)) {
                found[target - first] = log_q;
            }
        }
    }
    found
}

/// The outcomes of a prompt under each of `samplers`; targets that are alike, which are warned of, are one.
///
/// # Errors
/// A loss that is not finite under a sampler that cuts nothing.
pub fn outcomes(
    decoder: &Decoder,
    examples: &[Example],
    prompt: &Prompt,
    samplers: &[Sampler],
) -> Result<Vec<Vec<Outcome>>, Fault> {
    let targets = &examples[prompt.targets.clone()];
    let mut place: BTreeMap<&[u32], usize> = BTreeMap::new();
    let mut wanted: Vec<(usize, f64)> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let known = *place.entry(&target.ids).or_insert(wanted.len());
        match wanted.get_mut(known) {
            Some((_, p)) => *p += target.weight,
            None => wanted.push((index, target.weight)),
        }
    }
    let found = target_log_q(decoder, examples, prompt.targets.clone(), samplers);
    let of = |(sampler, log_q): (&Sampler, Vec<f64>)| {
        let outcomes: Vec<Outcome> = wanted.iter().map(|(index, p)| Outcome { p: *p, log_q: log_q[*index] }).collect();
        let loss = metrics::divergence::loss(&outcomes);
        // What a sampler cuts costs without end; a model does not.
        if loss.is_nan() || (loss.is_infinite() && !sampler.cuts()) {
            return Err(Fault::new(format!("the model's loss is {loss}"))
                .at(targets[0].place())
                .hint("its weights are not finite: take another checkpoint"));
        }
        Ok(outcomes)
    };
    samplers.iter().zip(found).map(of).collect()
}

/// Targets in parts of few enough places, those that begin alike together.
fn parts(examples: &[Example], targets: Range<usize>) -> Vec<Vec<usize>> {
    let mut sorted: Vec<usize> = targets.collect();
    sorted.sort_by(|a, b| examples[*a].ids.cmp(&examples[*b].ids));
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let mut places = 0;
    for target in sorted {
        let ids = &examples[target].ids;
        let before = parts.last().and_then(|part| part.last());
        let shared =
            before.map_or(0, |before| ids.iter().zip(&examples[*before].ids).take_while(|(a, b)| a == b).count());
        match parts.last_mut() {
            Some(part) if places + ids.len() - shared <= PLACES => {
                part.push(target);
                places += ids.len() - shared;
            }
            _ => {
                parts.push(vec![target]);
                places = ids.len();
            }
        }
    }
    parts
}

fn index(place: usize) -> i32 {
    i32::try_from(place).expect("a batch has fewer than 2^31 tokens")
}

#[cfg(test)]
mod tests;
