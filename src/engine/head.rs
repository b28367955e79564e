//! The vocabulary head in chunks of rows: losses and gradients without a `[tokens, vocabulary]` tensor.
//!
//! Every objective here is a weighted NLL with detached weights, so the gradient of the logits is
//! `weight * (softmax - onehot) / normaliser` and needs no graph.

use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};
use losses::{Objective, Scope, Tokens};

use super::batch::{Batch, Learned};
use super::totals::Totals;
use super::trainee::values;
use crate::model::Decoder;

/// Logits of a chunk, in values: 32 MiB of f32.
const CHUNK_VALUES: usize = 1 << 23;

/// What the head gives back of a micro-batch.
pub struct HeadGradients {
    /// Gradient of the loss with respect to the hidden states, `[rows, width, hidden_size]`.
    pub hidden: Tensor<3>,
    /// Gradient of the head's matrix, when it is trained, with its name.
    pub weight: Option<(&'static str, Tensor<2>)>,
}

/// A softmax over a chunk of rows.
struct Chunk {
    /// `[rows, vocabulary]`
    probabilities: Tensor<2>,
    /// `[rows]`
    nll: Tensor<1>,
    /// `[rows]`
    entropy: Tensor<1>,
}

/// Loss and gradients of a micro-batch.
///
/// # Shapes
/// - `hidden`: `[rows, width, hidden_size]`, not tracked. `scale` is 1 over the step's normaliser.
pub fn loss_and_gradients(
    decoder: &Decoder,
    hidden: Tensor<3>,
    batch: &Batch,
    objective: &mut dyn Objective,
    scale: f64,
    totals: &mut Totals,
) -> HeadGradients {
    let device = decoder.device().clone();
    let [rows, width, hidden_size] = hidden.dims();
    let dtype = hidden.dtype();
    let flat = hidden.reshape([rows * width, hidden_size]);
    let (matrix, name) = decoder.head();
    let row_weights = match objective.scope() {
        Scope::Token => None,
        Scope::Row => Some(whole_row_weights(&matrix, &flat, batch, objective, &device)),
    };
    let mut gradients = Vec::new();
    let mut weight_gradient: Option<Tensor<2>> = None;
    for (start, learned) in chunks(&batch.learned, matrix.dims()[0]) {
        let inputs = select(&flat, learned, &device);
        let targets = targets(learned, &device);
        let chunk = softmax(&matrix, inputs.clone(), &targets);
        let weights = match &row_weights {
            Some(weights) => weights.clone().narrow(0, start, learned.len()),
            None => {
                let range = start..start + learned.len();
                let cut: Vec<_> = (batch.ranges.iter())
                    .map(|row| row.start.max(range.start)..row.end.min(range.end))
                    .filter(|row| row.start < row.end)
                    .map(|row| row.start - start..row.end - start)
                    .collect();
                objective.weights(&tokens(chunk.nll.clone(), learned, &cut, &device))
            }
        };
        totals.add(chunk.nll, chunk.entropy, weights.clone(), shared(learned, &device));
        let rows = learned.len();
        let minus_one = Tensor::<2>::full([rows, 1], -1.0, &device);
        let difference = chunk.probabilities.scatter(1, targets.reshape([rows, 1]), minus_one, IndexingUpdateOp::Add);
        let logits_gradient = (difference * weights.mul_scalar(scale).reshape([rows, 1])).cast(dtype);
        if decoder.is_trained() {
            let gradient = logits_gradient.clone().transpose().matmul(inputs);
            weight_gradient = Some(weight_gradient.map_or(gradient.clone(), |sum| sum + gradient));
        }
        gradients.push(logits_gradient.matmul(matrix.clone()));
    }
    let hidden = Tensor::zeros([rows * width, hidden_size], (&device, dtype));
    let hidden = match gradients.is_empty() {
        true => hidden,
        false => {
            hidden.select_assign(0, places(&batch.learned, &device), Tensor::cat(gradients, 0), IndexingUpdateOp::Add)
        }
    };
    HeadGradients {
        hidden: hidden.reshape([rows, width, hidden_size]),
        weight: weight_gradient.map(|gradient| (name, gradient)),
    }
}

/// The plain nll and entropy of a micro-batch, and its loss by the rows' own weights, for evaluation.
pub fn evaluate(decoder: &Decoder, hidden: Tensor<3>, batch: &Batch, totals: &mut Totals) {
    let device = decoder.device().clone();
    let [rows, width, hidden_size] = hidden.dims();
    let flat = hidden.reshape([rows * width, hidden_size]);
    let (matrix, _) = decoder.head();
    for (_, learned) in chunks(&batch.learned, matrix.dims()[0]) {
        let chunk = softmax(&matrix, select(&flat, learned, &device), &targets(learned, &device));
        let weights = tokens(chunk.nll.clone(), learned, &[], &device).row_weight;
        totals.add(chunk.nll, chunk.entropy, weights, shared(learned, &device));
    }
}

/// The nll of each learned token of a micro-batch.
pub fn nll(decoder: &Decoder, hidden: Tensor<3>, batch: &Batch) -> Vec<f32> {
    let device = decoder.device().clone();
    let [rows, width, hidden_size] = hidden.dims();
    let flat = hidden.reshape([rows * width, hidden_size]);
    let (matrix, _) = decoder.head();
    chunks(&batch.learned, matrix.dims()[0])
        .flat_map(|(_, learned)| {
            values(softmax(&matrix, select(&flat, learned, &device), &targets(learned, &device)).nll)
        })
        .collect()
}

/// A first pass over all chunks for the objectives whose weights depend on whole rows.
fn whole_row_weights(
    matrix: &Tensor<2>,
    flat: &Tensor<2>,
    batch: &Batch,
    objective: &mut dyn Objective,
    device: &Device,
) -> Tensor<1> {
    let nll: Vec<Tensor<1>> = chunks(&batch.learned, matrix.dims()[0])
        .map(|(_, learned)| softmax(matrix, select(flat, learned, device), &targets(learned, device)).nll)
        .collect();
    if nll.is_empty() {
        return Tensor::zeros([0], device);
    }
    objective.weights(&tokens(Tensor::cat(nll, 0), &batch.learned, &batch.ranges, device))
}

/// Pieces of the learned tokens with their places, small enough that the logits of one stay small.
fn chunks(learned: &[Learned], vocabulary: usize) -> impl Iterator<Item = (usize, &[Learned])> {
    let rows = (CHUNK_VALUES / vocabulary).max(16);
    learned.chunks(rows).enumerate().map(move |(index, chunk)| (index * rows, chunk))
}

/// Softmax, nll of the targets and entropy, in f32.
fn softmax(matrix: &Tensor<2>, inputs: Tensor<2>, targets: &Tensor<1, Int>) -> Chunk {
    let rows = inputs.dims()[0];
    let logits = inputs.matmul(matrix.clone().transpose()).cast(DType::F32);
    let shifted = logits.clone() - logits.max_dim(1);
    let exponentials = shifted.clone().exp();
    let sum = exponentials.clone().sum_dim(1);
    let log_sum = sum.clone().log();
    let probabilities = exponentials / sum;
    let observed = shifted.clone().gather(1, targets.clone().reshape([rows, 1]));
    let nll = (log_sum.clone() - observed).reshape([rows]);
    let entropy = (log_sum - (probabilities.clone() * shifted).sum_dim(1)).reshape([rows]);
    Chunk { probabilities, nll, entropy }
}

fn tokens<'a>(nll: Tensor<1>, learned: &[Learned], rows: &'a [std::ops::Range<usize>], device: &Device) -> Tokens<'a> {
    let vector = |value: fn(&Learned) -> f32| {
        let values: Vec<f32> = learned.iter().map(value).collect();
        Tensor::from_data(TensorData::new(values, [learned.len()]), device)
    };
    Tokens {
        nll,
        position: vector(|token| token.position as f32),
        length: vector(|token| token.length as f32),
        row_weight: vector(|token| token.weight as f32),
        rows,
    }
}

/// How many rows share each token; `None` where each has its own.
fn shared(learned: &[Learned], device: &Device) -> Option<Tensor<1>> {
    learned.iter().any(|token| token.rows > 1).then(|| {
        let rows: Vec<f32> = learned.iter().map(|token| token.rows as f32).collect();
        Tensor::from_data(TensorData::new(rows, [learned.len()]), device)
    })
}

fn indices(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> =
        values.map(|value| i32::try_from(value).expect("a batch has fewer than 2^31 tokens")).collect();
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}

fn places(learned: &[Learned], device: &Device) -> Tensor<1, Int> {
    indices(learned.iter().map(|token| token.hidden), device)
}

fn targets(learned: &[Learned], device: &Device) -> Tensor<1, Int> {
    indices(learned.iter().map(|token| token.target as usize), device)
}

fn select(flat: &Tensor<2>, learned: &[Learned], device: &Device) -> Tensor<2> {
    flat.clone().select(0, places(learned, device))
}
