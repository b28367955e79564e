//! The vocabulary head in chunks of rows: losses and gradients without a `[tokens, vocabulary]` tensor.
//!
//! Every objective here is a weighted NLL with detached weights, so the gradient of the logits is
//! `weight * (softmax - onehot) / normaliser` and needs no graph.

use std::collections::BTreeMap;

use backbone::values as host;
use backbone::{Decoder, Head, Lora, Matrix};
use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};
use kernels::{Packed, Precision, bf16};
use losses::{Objective, Scope, Tokens};

use super::batch::{Batch, Learned};
use super::totals::{Shared, Totals};

/// Logits of a chunk, in values: 32 MiB of f32.
const CHUNK_VALUES: usize = 1 << 23;

/// Every chunk reads the whole head once on the way forward and once on the way back: with fewer rows than this, reading
/// takes longer than the arithmetic.
const LEAST_ROWS: usize = 128;

/// The same on a GPU, where a head in codes is written and read as values on top.
const LEAST_ROWS_GPU: usize = 1024;

/// What the head gives back of a micro-batch.
pub struct HeadGradients {
    /// Gradient of the loss with respect to the hidden states, `[rows, width, hidden_size]`.
    pub hidden: Tensor<3>,
    /// Gradients of what is trained of the head, flat, by name: its matrix, or its adapter.
    pub own: BTreeMap<String, Tensor<1>>,
}

/// The hidden states of a micro-batch as the head takes them in.
struct Hidden {
    /// `[rows * width, hidden_size]`
    flat: Tensor<2>,
    /// What they are multiplied with on their way to the adapter, if some are dropped there.
    mask: Option<Tensor<2>>,
}

/// Those of a chunk.
struct Inputs {
    /// `[rows, hidden_size]`
    plain: Tensor<2>,
    /// The same for the adapter, and what the places that are dropped were multiplied with.
    adapted: Tensor<2>,
    mask: Option<Tensor<2>>,
}

impl Inputs {
    /// What goes through the matrix to be scaled to trained lengths, and what goes through it beside that. As PEFT's
    /// `DoraLinearVariant.forward` has it in training: the lengths act on what is left of dropped inputs, `W x - W d` is
    /// added as it is.
    fn halves(&self, head: &Head) -> (Tensor<2>, Option<Tensor<2>>) {
        let apart = self.mask.is_some() && head.lora.is_some_and(Lora::has_magnitude);
        match apart {
            true => (self.adapted.clone(), Some(self.plain.clone() - self.adapted.clone())),
            false => (self.plain.clone(), None),
        }
    }

    /// The gradient of the inputs, from those of their two halves: `through` of what is scaled.
    fn meet(&self, through: Tensor<2>, kept: Option<Tensor<2>>) -> Tensor<2> {
        match (kept, &self.mask) {
            (Some(kept), Some(mask)) => kept.clone() + (through.clone() - kept) * mask.clone().cast(through.dtype()),
            _ => through,
        }
    }
}

/// A softmax over a chunk of rows.
struct Chunk {
    /// `[rows]`
    nll: Tensor<1>,
    /// `[rows]`
    entropy: Tensor<1>,
    /// What an adapter makes of the inputs, `[rows, rank]`.
    low: Option<Tensor<2>>,
    kept: Kept,
}

/// What a chunk's way back needs.
#[allow(clippy::large_enum_variant, reason = "one at a time, and a tensor's handle is what it is")]
enum Kept {
    /// `[rows, vocabulary]`, the slope of each logit's cap if it has one, and where there are trained lengths the logits
    /// before them.
    Probabilities { values: Tensor<2>, slopes: Option<Tensor<2>>, plain: Option<Tensor<2>> },
    /// Logits `[rows, vocabulary]`, the same before trained lengths (empty where there are none), and the log of each row's
    /// sum of exponentials.
    Logits { values: Vec<f32>, plain: Vec<f32>, log_sum: Vec<f32> },
    /// Logits on a GPU, with the targets and the log of each row's sum of exponentials.
    #[cfg(feature = "gpu")]
    OnDevice { logits: Tensor<2>, targets: Tensor<1, Int>, log_sum: Tensor<1> },
}

impl Kept {
    /// The logits before trained lengths, where there are any.
    fn take_plain(&mut self) -> Option<Tensor<2>> {
        match self {
            Self::Probabilities { plain, .. } => plain.take(),
            _ => None,
        }
    }
}

impl Hidden {
    fn new(head: &Head, hidden: Tensor<3>, dropout_seed: Option<u64>) -> Self {
        let [rows, width, hidden_size] = hidden.dims();
        let flat = hidden.reshape([rows * width, hidden_size]);
        Self { mask: head.lora.and_then(|lora| lora.mask("lm_head", &flat, dropout_seed)), flat }
    }

    fn select(&self, learned: &[Learned], device: &Device) -> Inputs {
        let rows = |tensor: &Tensor<2>| tensor.clone().select(0, places(learned, device));
        let (plain, mask) = (rows(&self.flat), self.mask.as_ref().map(rows));
        let adapted = match &mask {
            Some(mask) => plain.clone() * mask.clone(),
            None => plain.clone(),
        };
        Inputs { plain, adapted, mask }
    }
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
    dropout_seed: u64,
    totals: &mut Totals,
) -> HeadGradients {
    let device = decoder.device().clone();
    let [rows, width, hidden_size] = hidden.dims();
    let dtype = hidden.dtype();
    let head = decoder.head();
    let hidden = Hidden::new(&head, hidden, Some(dropout_seed));
    let row_weights = match objective.scope() {
        Scope::Token => None,
        Scope::Row => Some(whole_row_weights(&head, &hidden, batch, objective, &device)),
    };
    let mut gradients = Vec::new();
    let mut own = BTreeMap::new();
    for (start, learned) in chunks(&batch.learned, head.matrix) {
        let inputs = hidden.select(learned, &device);
        let chunk = softmax(&head, &inputs, learned);
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
        gradients.push(match (head.matrix, chunk.kept) {
            (Matrix::Packed(packed), Kept::Logits { values, log_sum, .. }) if head.lora.is_none() => {
                native_gradient(packed, head.cap, &values, &log_sum, learned, weights, &device)
            }
            (Matrix::Packed(packed), Kept::Logits { values, plain, log_sum }) => {
                let targets: Vec<u32> = learned.iter().map(|token| token.target).collect();
                let vocabulary = packed.shape()[0];
                let (weights, cap) = (host(weights), head.cap.map(|cap| cap as f32));
                let logits_gradient: Vec<f32> =
                    kernels::logits_gradient(&values, vocabulary, &targets, &log_sum, &weights, cap);
                let back = |gradient: &[f32]| {
                    let through = kernels::product_transposed(gradient, learned.len(), packed);
                    Tensor::from_data(TensorData::new(through, [learned.len(), hidden_size]), &device)
                };
                let kept = inputs.halves(&head).1.map(|_| back(&logits_gradient));
                let logits_gradient = match head.gain() {
                    Some((norms, gain)) => {
                        let (scaled, sums) = kernels::scale_columns_backward(&plain, &host(gain), &logits_gradient);
                        let sums = Tensor::from_data(TensorData::new(sums, [vocabulary]), &device);
                        add(&mut own, "lora_magnitude_vector", sums / norms);
                        scaled
                    }
                    None => logits_gradient,
                };
                let through = inputs.meet(back(&logits_gradient), kept);
                let logits_gradient =
                    Tensor::from_data(TensorData::new(logits_gradient, [learned.len(), vocabulary]), &device);
                through + adapter_gradients(&head, inputs, chunk.low, logits_gradient, &mut own)
            }
            (matrix, mut kept) => {
                let plain = kept.take_plain();
                let mut logits_gradient = logits_gradient(kept, learned, weights, &device);
                let back = |gradient: &Tensor<2>| match matrix {
                    Matrix::Codes(codes) => codes.product_back(gradient.clone()).cast(dtype),
                    Matrix::Tensor(matrix) => gradient.clone().cast(dtype).matmul(matrix.clone().inner()),
                    Matrix::Packed(_) => unreachable!("`native_softmax` keeps logits"),
                };
                let kept = inputs.halves(&head).1.map(|_| back(&logits_gradient));
                if let Some((plain, (norms, gain))) = plain.zip(head.gain()) {
                    let sums = (plain * logits_gradient.clone()).sum_dim(0).squeeze_dim(0);
                    add(&mut own, "lora_magnitude_vector", sums / norms);
                    logits_gradient = logits_gradient * gain.unsqueeze();
                }
                if matches!(matrix, Matrix::Tensor(_)) && decoder.is_trained() {
                    let rounded = logits_gradient.clone().cast(dtype);
                    let gradient = rounded.transpose().matmul(inputs.plain.clone()).flatten(0, 1);
                    let sum = own.remove(&head.name).map_or(gradient.clone(), |sum| sum + gradient);
                    own.insert(head.name.clone(), sum);
                }
                let through = inputs.meet(back(&logits_gradient), kept);
                match head.lora {
                    Some(_) => {
                        through + adapter_gradients(&head, inputs, chunk.low, logits_gradient, &mut own).cast(dtype)
                    }
                    None => through,
                }
            }
        });
    }
    let hidden = Tensor::zeros([rows * width, hidden_size], (&device, dtype));
    let hidden = match gradients.is_empty() {
        true => hidden,
        false => {
            hidden.select_assign(0, places(&batch.learned, &device), Tensor::cat(gradients, 0), IndexingUpdateOp::Add)
        }
    };
    HeadGradients { hidden: hidden.reshape([rows, width, hidden_size]), own }
}

/// Adds the gradients of the adapter's factors to `own`, and gives that of the hidden states, f32.
fn adapter_gradients(
    head: &Head,
    inputs: Inputs,
    low: Option<Tensor<2>>,
    logits_gradient: Tensor<2>,
    own: &mut BTreeMap<String, Tensor<1>>,
) -> Tensor<2> {
    let low = low.expect("a head with an adapter keeps what it makes of the inputs");
    let back = head.low_rank_gradients(inputs.adapted, low, logits_gradient).expect("the head has an adapter");
    add(own, "lora_A.weight", back.a.flatten(0, 1));
    add(own, "lora_B.weight", back.b.flatten(0, 1));
    match inputs.mask {
        Some(mask) => back.input * mask.cast(DType::F32),
        None => back.input,
    }
}

fn add(own: &mut BTreeMap<String, Tensor<1>>, part: &str, gradient: Tensor<1>) {
    let name = format!("lm_head.{part}");
    let sum = own.remove(&name).map_or(gradient.clone(), |sum| sum + gradient);
    own.insert(name, sum);
}

/// The plain nll and entropy of a micro-batch, and its loss by the rows' own weights, for evaluation.
pub fn evaluate(decoder: &Decoder, hidden: Tensor<3>, batch: &Batch, totals: &mut Totals) {
    let device = decoder.device().clone();
    let head = decoder.head();
    let hidden = Hidden::new(&head, hidden, None);
    for (_, learned) in chunks(&batch.learned, head.matrix) {
        let chunk = softmax(&head, &hidden.select(learned, &device), learned);
        let weights = tokens(chunk.nll.clone(), learned, &[], &device).row_weight;
        totals.add(chunk.nll, chunk.entropy, weights, shared(learned, &device));
    }
}

/// The nll of each learned token of a micro-batch.
pub fn nll(decoder: &Decoder, hidden: Tensor<3>, batch: &Batch) -> Vec<f32> {
    let device = decoder.device().clone();
    let head = decoder.head();
    let hidden = Hidden::new(&head, hidden, None);
    chunks(&batch.learned, head.matrix)
        .flat_map(|(_, learned)| host(softmax(&head, &hidden.select(learned, &device), learned).nll))
        .collect()
}

/// A first pass over all chunks for the objectives whose weights depend on whole rows.
fn whole_row_weights(
    head: &Head,
    hidden: &Hidden,
    batch: &Batch,
    objective: &mut dyn Objective,
    device: &Device,
) -> Tensor<1> {
    let nll: Vec<Tensor<1>> = chunks(&batch.learned, head.matrix)
        .map(|(_, learned)| softmax(head, &hidden.select(learned, device), learned).nll)
        .collect();
    if nll.is_empty() {
        return Tensor::zeros([0], device);
    }
    objective.weights(&tokens(Tensor::cat(nll, 0), &batch.learned, &batch.ranges, device))
}

/// Pieces of the learned tokens with their places, small enough that the logits of one stay small.
fn chunks<'a>(learned: &'a [Learned], head: &Matrix) -> impl Iterator<Item = (usize, &'a [Learned])> {
    let rows = chunk_rows(head.shape()[0], &head.device());
    learned.chunks(rows).enumerate().map(move |(index, chunk)| (index * rows, chunk))
}

/// Rows of a chunk.
pub fn chunk_rows(vocabulary: usize, device: &Device) -> usize {
    let least = if backbone::device::is_cpu(device) { LEAST_ROWS } else { LEAST_ROWS_GPU };
    (CHUNK_VALUES / vocabulary.max(1)).max(least)
}

/// `weight * (softmax - onehot) * slope`, `[rows, vocabulary]`.
fn logits_gradient(kept: Kept, learned: &[Learned], weights: Tensor<1>, device: &Device) -> Tensor<2> {
    let (probabilities, slopes) = match kept {
        Kept::Probabilities { values, slopes, .. } => (values, slopes),
        #[cfg(feature = "gpu")]
        Kept::OnDevice { logits, targets, log_sum } => {
            return backbone::ops::gpu::logits_gradient(logits, targets, log_sum, weights);
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
fn softmax(head: &Head, inputs: &Inputs, learned: &[Learned]) -> Chunk {
    let (low, more) = head.low_rank(inputs.adapted.clone()).unzip();
    let (scaled, kept) = inputs.halves(head);
    let chunk = match head.matrix {
        Matrix::Packed(packed) => native_softmax(head, packed, scaled, kept, more, learned),
        Matrix::Tensor(matrix) => {
            let product = |x: Tensor<2>| x.matmul(matrix.clone().inner().transpose());
            composed_softmax(head, product(scaled), kept.map(product), more, learned)
        }
        Matrix::Codes(codes) => {
            let product = |x: Tensor<2>| codes.product(x);
            composed_softmax(head, product(scaled), kept.map(product), more, learned)
        }
    };
    Chunk { low, ..chunk }
}

fn composed_softmax(
    head: &Head,
    logits: Tensor<2>,
    kept: Option<Tensor<2>>,
    more: Option<Tensor<2>>,
    learned: &[Learned],
) -> Chunk {
    let (rows, targets) = (learned.len(), targets(learned, &logits.device()));
    #[cfg(feature = "gpu")]
    if head.cap.is_none() && head.lora.is_none() && backbone::ops::gpu::wanted(&logits.device()) {
        let logits = head.bend(logits);
        let [nll, entropy, log_sum] = backbone::ops::gpu::softmax_statistics(logits.clone(), targets.clone());
        return Chunk { nll, entropy, low: None, kept: Kept::OnDevice { logits, targets, log_sum } };
    }
    let mut logits = logits.cast(DType::F32);
    if let Some(more) = more {
        logits = logits + more;
    }
    let mut plain = None;
    if let Some((_, gain)) = head.gain() {
        let scaled = logits.clone() * gain.unsqueeze();
        plain = Some(std::mem::replace(&mut logits, scaled));
    }
    if let Some(kept) = kept {
        logits = logits + kept.cast(DType::F32);
    }
    let logits = head.bend(logits);
    let slopes = head.cap.map(|cap| {
        let part = logits.clone().div_scalar(cap);
        (part.clone() * part).neg().add_scalar(1.0)
    });
    let shifted = logits.clone() - logits.max_dim(1);
    let exponentials = shifted.clone().exp();
    let sum = exponentials.clone().sum_dim(1);
    let log_sum = sum.clone().log();
    let probabilities = exponentials / sum;
    let observed = shifted.clone().gather(1, targets.reshape([rows, 1]));
    let nll = (log_sum.clone() - observed).reshape([rows]);
    let entropy = (log_sum - (probabilities.clone() * shifted).sum_dim(1)).reshape([rows]);
    Chunk { nll, entropy, low: None, kept: Kept::Probabilities { values: probabilities, slopes, plain } }
}

/// The same in few passes over the logits, on the CPU.
fn native_softmax(
    head: &Head,
    packed: &Packed,
    inputs: Tensor<2>,
    kept: Option<Tensor<2>>,
    more: Option<Tensor<2>>,
    learned: &[Learned],
) -> Chunk {
    let (rows, device) = (learned.len(), inputs.device());
    let product =
        |x: Tensor<2>| -> Vec<f32> { kernels::product(&host(x.reshape([-1]).cast(DType::F32)), rows, packed) };
    let mut logits = product(inputs);
    if let Some(more) = more {
        logits = kernels::scale_columns(&logits, &vec![1.0; packed.shape()[0]], &host(more.flatten(0, 1)));
    }
    let mut plain = Vec::new();
    if let Some((_, gain)) = head.gain() {
        let scaled = kernels::scale_columns(&logits, &host(gain), &kept.map_or_else(Vec::new, product));
        plain = std::mem::replace(&mut logits, scaled);
    }
    if head.scale != 1.0 || head.cap.is_some() {
        kernels::scale_and_cap(&mut logits, head.scale as f32, head.cap.map(|cap| cap as f32));
    }
    let targets: Vec<u32> = learned.iter().map(|token| token.target).collect();
    let found = kernels::softmax_statistics(&logits, packed.shape()[0], &targets);
    let vector = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [rows]), &device);
    let kept = Kept::Logits { values: logits, plain, log_sum: found.log_sum };
    Chunk { nll: vector(found.nll), entropy: vector(found.entropy), low: None, kept }
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
    let (weights, cap) = (host(weights), cap.map(|cap| cap as f32));
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

/// What tokens stand for that several rows share; `None` where each has its own.
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
