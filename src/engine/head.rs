//! The loss of a micro-batch and the gradient of its hidden states, chunk by chunk of its learned tokens: what the head
//! makes of a chunk, what the objective weights it with, and the way back, before the next chunk takes the memory.

use std::ops::Range;

use backbone::ops::{Asked, Chunk, Head, HeadGradients, HeadInputs, Pull};
use backbone::{Context, Decoder};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use losses::{Column, Objective, Scope, Statistics, Tokens};

use super::backward::MicroStep;
use super::batch::Batch;
use super::learned::Learned;
use super::totals::{Added, Shared, Totals};

/// The gradients of a micro-batch's losses.
pub struct Gradients {
    /// Gradient of the loss with respect to the hidden states, `[rows, width, hidden_size]`.
    pub hidden: Tensor<3>,
    /// Gradients of what is trained of the head.
    pub head: HeadGradients,
}

/// Adds the losses of a micro-batch to `totals`, and gives the gradients.
///
/// # Shapes
/// - `hidden`: `[rows, width, hidden_size]`, not tracked.
pub fn loss_and_gradients(
    decoder: &Decoder,
    hidden: Tensor<3>,
    batch: &Batch,
    objective: &mut dyn Objective,
    of: &MicroStep,
    totals: &mut Totals,
) -> Gradients {
    let device = decoder.device().clone();
    let ([rows, width, hidden_size], dtype) = (hidden.dims(), hidden.dtype());
    let head = decoder.head();
    let inputs = head.inputs(hidden, Some(of.seed));
    let wanted = objective.statistics();
    let bonus = of.terms.entropy_bonus;
    let asked = Asked {
        sum_of_squares: wanted.sum_of_squares,
        temperature: objective.temperature(),
        label_smoothing: of.terms.label_smoothing,
        entropy_bonus: bonus != 0.0,
    };
    let base = wanted.base_nll.then(|| base_nll(decoder, batch)).flatten();
    let seen_of = |chunk: &Chunk, start: usize| Seen::of(chunk, wanted, base.as_ref(), start);
    let row_weights = match objective.scope() {
        Scope::Token => None,
        Scope::Row => {
            let seen = chunks(&batch.learned, &head)
                .map(|(start, learned)| seen_of(&forward(&head, &inputs, learned, asked), start));
            Some(whole_row_weights(seen.collect(), batch, objective, &device))
        }
    };
    let mut gradients = Vec::new();
    let mut of_head = HeadGradients::default();
    for (start, learned) in chunks(&batch.learned, &head) {
        let chunk = forward(&head, &inputs, learned, asked);
        let weights = match &row_weights {
            Some(weights) => weights.clone().narrow(0, start, learned.len()),
            None => {
                let rows = batch.rows_within(start..start + learned.len());
                let tokens = tokens(seen_of(&chunk, start), learned, &rows, objective.column());
                objective.weights(&tokens)
            }
        };
        let factors = || of_tokens(learned, &device, |token| token.weight as f32).mul_scalar(bonus);
        let entropy_bonus = asked.entropy_bonus.then(factors);
        let loss = chunk.loss.as_ref().unwrap_or(&chunk.nll).clone();
        let beside = entropy_bonus.clone().map(|factors| (factors * chunk.entropy.clone()).neg());
        let seen = Added { loss, beside, nll: chunk.nll.clone(), entropy: chunk.entropy.clone() };
        totals.add(seen, weights.clone(), shared(learned, &device));
        let pull = Pull { weights, entropy_bonus };
        gradients.push(head.backward(chunk, pull, of.scale.objective, &mut of_head));
    }
    let hidden = Tensor::zeros([rows * width, hidden_size], (&device, dtype));
    let hidden = match gradients.is_empty() {
        true => hidden,
        false => {
            hidden.select_assign(0, places(&batch.learned, &device), Tensor::cat(gradients, 0), IndexingUpdateOp::Add)
        }
    };
    Gradients { hidden: hidden.reshape([rows, width, hidden_size]), head: of_head }
}

/// The plain nll and entropy of a micro-batch, and its loss by the rows' own weights, for evaluation.
pub fn evaluate(decoder: &Decoder, hidden: Tensor<3>, batch: &Batch, totals: &mut Totals) {
    let device = decoder.device().clone();
    let head = decoder.head();
    let inputs = head.inputs(hidden, None);
    for (_, learned) in chunks(&batch.learned, &head) {
        let Chunk { nll, entropy, .. } = forward(&head, &inputs, learned, Asked::default());
        let weights = of_tokens(learned, &device, |token| token.weight as f32);
        totals.add(Added { loss: nll.clone(), beside: None, nll, entropy }, weights, shared(learned, &device));
    }
}

/// The nll of each learned token of a micro-batch.
pub fn nll(decoder: &Decoder, hidden: Tensor<3>, batch: &Batch) -> Vec<f32> {
    let head = decoder.head();
    let inputs = head.inputs(hidden, None);
    chunks(&batch.learned, &head)
        .flat_map(|(_, learned)| backbone::values(forward(&head, &inputs, learned, Asked::default()).nll))
        .collect()
}

/// The nll of each learned token of a micro-batch under the model that the adapter stands beside, nothing dropped; `None`
/// where nothing is learned.
fn base_nll(decoder: &Decoder, batch: &Batch) -> Option<Tensor<1>> {
    let context = Context { without_adapter: true, ..batch.context(decoder, None) };
    let hidden = decoder.hidden_in(&context, batch.ids(decoder.device()), false, None);
    let head = decoder.base_head();
    let inputs = head.inputs(hidden, None);
    let nll = chunks(&batch.learned, &head)
        .map(|(_, learned)| forward(&head, &inputs, learned, Asked::default()).nll)
        .collect::<Vec<_>>();
    (!nll.is_empty()).then(|| Tensor::cat(nll, 0))
}

/// The weights of an objective that sees rows whole, from what a first pass over all chunks has seen.
fn whole_row_weights(seen: Vec<Seen>, batch: &Batch, objective: &mut dyn Objective, device: &Device) -> Tensor<1> {
    let Some(seen) = Seen::together(&seen) else { return Tensor::zeros([0], device) };
    let tokens = tokens(seen, &batch.learned, &batch.ranges, objective.column());
    objective.weights(&tokens)
}

/// What an objective sees of a chunk, or of a micro-batch: a number of each learned token, `[tokens]`.
pub(super) struct Seen {
    pub nll: Tensor<1>,
    pub entropy: Option<Tensor<1>>,
    pub sum_of_squares: Option<Tensor<1>>,
    pub base_nll: Option<Tensor<1>>,
}

impl Seen {
    /// Of the chunk whose first token is the micro-batch's learned token `start`, which `base_nll` has all of.
    fn of(chunk: &Chunk, wanted: Statistics, base_nll: Option<&Tensor<1>>, start: usize) -> Self {
        let Chunk { nll, entropy, sum_of_squares, .. } = chunk;
        let rows = nll.dims()[0];
        Self {
            nll: nll.clone(),
            entropy: wanted.entropy.then(|| entropy.clone()),
            sum_of_squares: sum_of_squares.clone(),
            base_nll: base_nll.map(|nll| nll.clone().narrow(0, start, rows)),
        }
    }

    /// The statistics of chunks one after another; `None` without any.
    fn together(chunks: &[Self]) -> Option<Self> {
        let together = |part: fn(&Self) -> Option<Tensor<1>>| {
            let parts: Option<Vec<_>> = chunks.iter().map(part).collect();
            parts.filter(|parts| !parts.is_empty()).map(|parts| Tensor::cat(parts, 0))
        };
        Some(Self {
            nll: together(|chunk| Some(chunk.nll.clone()))?,
            entropy: together(|chunk| chunk.entropy.clone()),
            sum_of_squares: together(|chunk| chunk.sum_of_squares.clone()),
            base_nll: together(|chunk| chunk.base_nll.clone()),
        })
    }
}

fn forward(head: &Head, inputs: &HeadInputs, learned: &[Learned], asked: Asked) -> Chunk {
    let targets = learned.iter().map(|token| token.target).collect();
    head.forward(inputs, places(learned, &head.matrix.device()), targets, asked)
}

/// Pieces of the learned tokens with their places, small enough that the logits of one stay small.
fn chunks<'a>(learned: &'a [Learned], head: &Head) -> impl Iterator<Item = (usize, &'a [Learned])> {
    let rows = head.chunk_rows();
    learned.chunks(rows).enumerate().map(move |(index, chunk)| (index * rows, chunk))
}

/// Learned tokens as an objective sees them.
pub(super) fn tokens<'a>(
    seen: Seen,
    learned: &[Learned],
    rows: &'a [Range<usize>],
    column: Option<Column>,
) -> Tokens<'a> {
    let device = seen.nll.device();
    let number = |token: &Learned| token.number.expect("rows without the objective's column are refused") as f32;
    Tokens {
        nll: seen.nll,
        position: of_tokens(learned, &device, |token| token.position as f32),
        length: of_tokens(learned, &device, |token| token.length as f32),
        row_weight: of_tokens(learned, &device, |token| token.weight as f32),
        entropy: seen.entropy,
        sum_of_squares: seen.sum_of_squares,
        base_nll: seen.base_nll,
        column: column.map(|_| of_tokens(learned, &device, number)),
        rows,
    }
}

/// A number of each token, `[tokens]`.
fn of_tokens(learned: &[Learned], device: &Device, value: fn(&Learned) -> f32) -> Tensor<1> {
    let values: Vec<f32> = learned.iter().map(value).collect();
    Tensor::from_data(TensorData::new(values, [learned.len()]), device)
}

/// How the weight of a token that several rows share is parted among them; `None` where each token belongs to one row.
fn shared(learned: &[Learned], device: &Device) -> Option<Shared> {
    learned.iter().any(|token| token.rows > 1).then(|| {
        let vector = |value: fn(&Learned) -> f64| {
            let values: Vec<f32> = learned.iter().map(|token| value(token) as f32).collect();
            Tensor::from_data(TensorData::new(values, [learned.len()]), device)
        };
        Shared {
            rows: vector(|token| token.rows as f64),
            squares: vector(|token| token.weight_squared / (token.weight * token.weight).max(f64::MIN_POSITIVE)),
            largest: vector(|token| token.largest_weight / token.weight),
        }
    })
}

/// The rows of the flattened hidden states that predict these tokens.
fn places(learned: &[Learned], device: &Device) -> Tensor<1, Int> {
    let place = |token: &Learned| i32::try_from(token.hidden).expect("a batch has fewer than 2^31 tokens");
    let places: Vec<i32> = learned.iter().map(place).collect();
    Tensor::from_data(TensorData::new(places, [learned.len()]), device)
}
