//! The vocabulary head in chunks of rows: losses and gradients without a `[tokens, vocabulary]` tensor.
//!
//! Every objective here is a weighted NLL with detached weights, so the gradient of the logits is
//! `weight * (softmax - onehot) / normaliser` and needs no graph.

use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};
use kernels::{Packed, Precision, bf16};
use losses::{Objective, Scope, Tokens};

use super::batch::{Batch, Learned};
use super::totals::Totals;
use super::trainee::values;
use crate::model::{Decoder, Head, Matrix};

/// Logits of a chunk, in values: 32 MiB of f32.
const CHUNK_VALUES: usize = 1 << 23;

/// Every chunk reads the whole head once on the way forward and once on the way back: with fewer rows than this, reading
/// takes longer than the arithmetic.
const LEAST_ROWS: usize = 128;

/// What the head gives back of a micro-batch.
pub struct HeadGradients {
    /// Gradient of the loss with respect to the hidden states, `[rows, width, hidden_size]`.
    pub hidden: Tensor<3>,
    /// Gradient of the head's matrix, when it is trained, with its name.
    pub weight: Option<(&'static str, Tensor<2>)>,
}

/// A softmax over a chunk of rows.
struct Chunk {
    /// `[rows]`
    nll: Tensor<1>,
    /// `[rows]`
    entropy: Tensor<1>,
    kept: Kept,
}

/// What a chunk's way back needs.
#[expect(clippy::large_enum_variant, reason = "one at a time, and a tensor's handle is what it is")]
enum Kept {
    /// `[rows, vocabulary]`, and the slope of each logit's cap, if it has one.
    Probabilities { values: Tensor<2>, slopes: Option<Tensor<2>> },
    /// Logits `[rows, vocabulary]`, and the log of each row's sum of exponentials.
    Logits { values: Vec<f32>, log_sum: Vec<f32> },
    /// The same on a GPU, with the targets.
    #[cfg(feature = "gpu")]
    OnDevice { logits: Tensor<2>, targets: Tensor<1, Int>, log_sum: Tensor<1> },
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
    let head = decoder.head();
    let row_weights = match objective.scope() {
        Scope::Token => None,
        Scope::Row => Some(whole_row_weights(head, &flat, batch, objective, &device)),
    };
    let mut gradients = Vec::new();
    let mut weight_gradient: Option<Tensor<2>> = None;
    for (start, learned) in chunks(&batch.learned, head.matrix.shape()[0]) {
        let inputs = select(&flat, learned, &device);
        let chunk = softmax(head, inputs.clone(), learned);
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
        let weights = weights.mul_scalar(scale * head.scale);
        match (head.matrix, chunk.kept) {
            (Matrix::Codes(codes), kept) => {
                let gradient = logits_gradient(kept, learned, weights, &device);
                gradients.push(codes.product_back(gradient).cast(dtype));
            }
            (Matrix::Packed(packed), Kept::Logits { values, log_sum }) => {
                gradients.push(native_gradient(packed, head.cap, &values, &log_sum, learned, weights, &device));
            }
            (Matrix::Tensor(matrix), kept) => {
                let logits_gradient = logits_gradient(kept, learned, weights, &device).cast(dtype);
                if decoder.is_trained() {
                    let gradient = logits_gradient.clone().transpose().matmul(inputs);
                    weight_gradient = Some(weight_gradient.map_or(gradient.clone(), |sum| sum + gradient));
                }
                gradients.push(logits_gradient.matmul(matrix.clone().inner()));
            }
            _ => unreachable!("`softmax` keeps what its matrix needs"),
        }
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
        weight: weight_gradient.map(|gradient| (head.name, gradient)),
    }
}

/// The plain nll and entropy of a micro-batch, and its loss by the rows' own weights, for evaluation.
pub fn evaluate(decoder: &Decoder, hidden: Tensor<3>, batch: &Batch, totals: &mut Totals) {
    let device = decoder.device().clone();
    let [rows, width, hidden_size] = hidden.dims();
    let flat = hidden.reshape([rows * width, hidden_size]);
    let head = decoder.head();
    for (_, learned) in chunks(&batch.learned, head.matrix.shape()[0]) {
        let chunk = softmax(head, select(&flat, learned, &device), learned);
        let weights = tokens(chunk.nll.clone(), learned, &[], &device).row_weight;
        totals.add(chunk.nll, chunk.entropy, weights, shared(learned, &device));
    }
}

/// The nll of each learned token of a micro-batch.
pub fn nll(decoder: &Decoder, hidden: Tensor<3>, batch: &Batch) -> Vec<f32> {
    let device = decoder.device().clone();
    let [rows, width, hidden_size] = hidden.dims();
    let flat = hidden.reshape([rows * width, hidden_size]);
    let head = decoder.head();
    chunks(&batch.learned, head.matrix.shape()[0])
        .flat_map(|(_, learned)| values(softmax(head, select(&flat, learned, &device), learned).nll))
        .collect()
}

/// A first pass over all chunks for the objectives whose weights depend on whole rows.
fn whole_row_weights(
    head: Head<'_>,
    flat: &Tensor<2>,
    batch: &Batch,
    objective: &mut dyn Objective,
    device: &Device,
) -> Tensor<1> {
    let nll: Vec<Tensor<1>> = chunks(&batch.learned, head.matrix.shape()[0])
        .map(|(_, learned)| softmax(head, select(flat, learned, device), learned).nll)
        .collect();
    if nll.is_empty() {
        return Tensor::zeros([0], device);
    }
    objective.weights(&tokens(Tensor::cat(nll, 0), &batch.learned, &batch.ranges, device))
}

/// Pieces of the learned tokens with their places, small enough that the logits of one stay small.
fn chunks(learned: &[Learned], vocabulary: usize) -> impl Iterator<Item = (usize, &[Learned])> {
    let rows = chunk_rows(vocabulary);
    learned.chunks(rows).enumerate().map(move |(index, chunk)| (index * rows, chunk))
}

/// Rows of a chunk.
pub fn chunk_rows(vocabulary: usize) -> usize {
    (CHUNK_VALUES / vocabulary.max(1)).max(LEAST_ROWS)
}

/// `weight * (softmax - onehot) * slope`, `[rows, vocabulary]`.
fn logits_gradient(kept: Kept, learned: &[Learned], weights: Tensor<1>, device: &Device) -> Tensor<2> {
    let (probabilities, slopes) = match kept {
        Kept::Probabilities { values, slopes } => (values, slopes),
        #[cfg(feature = "gpu")]
        Kept::OnDevice { logits, targets, log_sum } => {
            return crate::fused::gpu::logits_gradient(logits, targets, log_sum, weights);
        }
        Kept::Logits { .. } => unreachable!("kept for a packed matrix alone"),
    };
    let rows = learned.len();
    let minus_one = Tensor::<2>::full([rows, 1], -1.0, device);
    let places = targets(learned, device).reshape([rows, 1]);
    let difference = probabilities.scatter(1, places, minus_one, IndexingUpdateOp::Add);
    let gradient = difference * weights.reshape([rows, 1]);
    match slopes {
        Some(slopes) => gradient * slopes,
        None => gradient,
    }
}

/// Softmax, nll of the targets and entropy, in f32.
fn softmax(head: Head<'_>, inputs: Tensor<2>, learned: &[Learned]) -> Chunk {
    let device = inputs.device();
    match head.matrix {
        Matrix::Packed(packed) => native_softmax(packed, head, inputs, learned, &device),
        Matrix::Tensor(matrix) => {
            let logits = inputs.matmul(matrix.clone().inner().transpose());
            composed_softmax(logits, head, &targets(learned, &device))
        }
        Matrix::Codes(codes) => composed_softmax(codes.product(inputs), head, &targets(learned, &device)),
    }
}

fn composed_softmax(logits: Tensor<2>, head: Head<'_>, targets: &Tensor<1, Int>) -> Chunk {
    let rows = logits.dims()[0];
    #[cfg(feature = "gpu")]
    if head.cap.is_none() && crate::fused::gpu::wanted(&logits.device()) {
        let (logits, targets) = (head.bend(logits), targets.clone());
        let [nll, entropy, log_sum] = crate::fused::gpu::softmax_statistics(logits.clone(), targets.clone());
        return Chunk { nll, entropy, kept: Kept::OnDevice { logits, targets, log_sum } };
    }
    let logits = head.bend(logits.cast(DType::F32));
    let slopes = head.cap.map(|cap| {
        let part = logits.clone().div_scalar(cap);
        (part.clone() * part).neg().add_scalar(1.0)
    });
    let shifted = logits.clone() - logits.max_dim(1);
    let exponentials = shifted.clone().exp();
    let sum = exponentials.clone().sum_dim(1);
    let log_sum = sum.clone().log();
    let probabilities = exponentials / sum;
    let observed = shifted.clone().gather(1, targets.clone().reshape([rows, 1]));
    let nll = (log_sum.clone() - observed).reshape([rows]);
    let entropy = (log_sum - (probabilities.clone() * shifted).sum_dim(1)).reshape([rows]);
    Chunk { nll, entropy, kept: Kept::Probabilities { values: probabilities, slopes } }
}

/// The same in few passes over the logits, on the CPU.
fn native_softmax(packed: &Packed, head: Head<'_>, inputs: Tensor<2>, learned: &[Learned], device: &Device) -> Chunk {
    let rows = learned.len();
    let inputs = super::trainee::values(inputs.reshape([-1]).cast(DType::F32));
    let mut logits: Vec<f32> = kernels::product(&inputs, rows, packed);
    if head.scale != 1.0 || head.cap.is_some() {
        kernels::scale_and_cap(&mut logits, head.scale as f32, head.cap.map(|cap| cap as f32));
    }
    let targets: Vec<u32> = learned.iter().map(|token| token.target).collect();
    let found = kernels::softmax_statistics(&logits, packed.shape()[0], &targets);
    let vector = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [rows]), device);
    Chunk {
        nll: vector(found.nll),
        entropy: vector(found.entropy),
        kept: Kept::Logits { values: logits, log_sum: found.log_sum },
    }
}

/// The gradient of the hidden states of a chunk, `[rows, hidden_size]`, on the CPU.
fn native_gradient(
    packed: &Packed,
    cap: Option<f64>,
    logits: &[f32],
    log_sum: &[f32],
    learned: &[Learned],
    weights: Tensor<1>,
    device: &Device,
) -> Tensor<2> {
    let (rows, [vocabulary, width]) = (learned.len(), packed.shape());
    let targets: Vec<u32> = learned.iter().map(|token| token.target).collect();
    let weights = super::trainee::values(weights);
    let cap = cap.map(|cap| cap as f32);
    let gradient = match packed.precision() {
        Precision::F32 => {
            let gradient: Vec<f32> = kernels::logits_gradient(logits, vocabulary, &targets, log_sum, &weights, cap);
            kernels::product_transposed(&gradient, rows, packed)
        }
        Precision::Bf16 => {
            let gradient: Vec<bf16> = kernels::logits_gradient(logits, vocabulary, &targets, log_sum, &weights, cap);
            kernels::product_transposed(&gradient, rows, packed)
        }
    };
    Tensor::from_data(TensorData::new(gradient, [rows, width]), device)
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
