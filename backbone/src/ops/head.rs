//! The vocabulary head with its adapter, outside of any graph: the nll and the entropy of a chunk of rows on the way
//! forward; the gradients of the hidden states and of what is trained of the head on the way back.
//!
//! Every objective is a weighted nll with detached weights, so the gradient of the logits is
//! `weight * (softmax - onehot)`, and what label smoothing and an entropy bonus add to it, and needs no graph; the logits of all
//! rows together would not fit.

mod composed;
mod packed;

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::matrix::{Form as MatrixForm, Unpacked};
use super::{Form, Matrix};
use crate::lora::Lora;

/// Logits of a chunk, in values: 32 MiB of f32.
const CHUNK_VALUES: usize = 1 << 23;

/// Every chunk reads the whole head once on the way forward and once on the way back: with fewer rows than this, reading
/// takes longer than the arithmetic.
const LEAST_ROWS: usize = 128;

/// [`LEAST_ROWS`] on a GPU, where a head in codes is dequantised for each chunk on top.
const LEAST_ROWS_GPU: usize = 1024;

/// Rows of a chunk.
pub fn chunk_rows(vocabulary: usize, device: &Device) -> usize {
    let least = if crate::device::is_cpu(device) { LEAST_ROWS } else { LEAST_ROWS_GPU };
    (CHUNK_VALUES / vocabulary.max(1)).max(least)
}

/// Bytes of the logits of a chunk of so many tokens and of what is made of them, from a head whose values take so many. `more`
/// copies in f32 are those of an adapter beside it: what that adds and its gradient, and with trained lengths what these are
/// multiplied with.
pub fn chunk_bytes(tokens: u64, vocabulary: usize, size: u64, device: &Device, is_packed: bool, more: u64) -> u64 {
    let rows = tokens.min(chunk_rows(vocabulary, device) as u64);
    let copies = match (crate::device::is_cpu(device), is_packed) {
        // Logits, and their gradient in the type of the head.
        (_, true) => 4 + size,
        // As many as were measured.
        (true, false) => 6 * 4,
        (false, _) => 2 * size,
    };
    (copies + 4 * more) * rows * vocabulary as u64
}

/// `logits = h W^T`, with what an adapter adds.
pub struct Head<'a> {
    /// W, `[vocabulary, hidden_size]`.
    pub matrix: &'a Matrix,
    /// Its name.
    pub name: String,
    /// True where W itself is trained.
    pub is_trained: bool,
    /// The adapter.
    pub lora: Option<&'a Lora>,
    /// Factor of the logits.
    pub scale: f64,
    /// Logits become `cap * tanh(logit / cap)`.
    pub cap: Option<f64>,
}

/// The hidden states of a micro-batch as the head takes them in.
pub struct HeadInputs {
    /// `[rows * width, hidden_size]`
    flat: Tensor<2>,
    /// The mask of the adapter's dropout, scaled.
    mask: Option<Tensor<2>>,
}

/// The statistics and the gradient asked of a chunk; nll and entropy are always computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    /// [`Chunk::sum_of_squares`]
    pub sum_of_squares: bool,
    /// The temperature of the softmax in the gradient.
    pub temperature: f64,
    /// The part of the target that lies on all of the vocabulary alike.
    pub label_smoothing: f64,
    /// True where the way back is given a factor for the entropy, at a temperature of 1.
    pub entropy_bonus: bool,
}

impl Default for Asked {
    fn default() -> Self {
        Self { sum_of_squares: false, temperature: 1.0, label_smoothing: 0.0, entropy_bonus: false }
    }
}

/// The loss statistics of a chunk of rows, and what their backward pass needs.
pub struct Chunk {
    /// The nll of each row's target, `[rows]`.
    pub nll: Tensor<1>,
    /// The entropy of each row's softmax, `[rows]`.
    pub entropy: Tensor<1>,
    /// The sum of the squared probabilities of each row, `[rows]`, where it was asked for.
    pub sum_of_squares: Option<Tensor<1>>,
    /// What the gradient is that of where it is not the nll, `[rows]`: `T * nll` at another temperature T than 1, and the mean
    /// over the vocabulary mixed in by label smoothing.
    pub loss: Option<Tensor<1>>,
    kept: Kept,
    way_back: WayBack,
}

/// The inputs that the backward pass of a chunk needs beside the softmax.
struct WayBack {
    inputs: Inputs,
    targets: Vec<u32>,
    /// The inputs times A of the adapter, `[rows, rank]`.
    low: Option<Tensor<2>>,
}

/// The softmax of a chunk, as each form keeps it.
#[allow(clippy::large_enum_variant, reason = "one at a time, and a tensor's handle is what it is")]
enum Kept {
    Composed(composed::Kept),
    Packed(packed::Kept),
    /// The logits, the targets and the two parts of the log of each row's sum of exponentials.
    #[cfg(feature = "gpu")]
    Gpu(Tensor<2>, Tensor<1, Int>, [Tensor<1>; 2], Unpacked),
}

/// A chunk without its way back.
struct Softmax {
    nll: Tensor<1>,
    entropy: Tensor<1>,
    sum_of_squares: Option<Tensor<1>>,
    loss: Option<Tensor<1>>,
    kept: Kept,
}

/// The gradients that reach a chunk of rows: factors of the loss and of the entropy of each.
pub struct Pull {
    /// The weight of each row's loss, `[rows]`.
    pub weights: Tensor<1>,
    /// What each row's entropy is multiplied with where a loss has it taken off, `[rows]`; for [`Asked::entropy_bonus`].
    pub entropy_bonus: Option<Tensor<1>>,
}

impl Pull {
    fn scaled(self, scale: f64) -> Self {
        Self {
            weights: self.weights.mul_scalar(scale),
            entropy_bonus: self.entropy_bonus.map(|factors| factors.mul_scalar(scale)),
        }
    }
}

/// Gradients of what is trained of a head, flat, by name: its matrix, or its adapter.
#[derive(Default)]
pub struct HeadGradients(pub BTreeMap<String, Tensor<1>>);

impl HeadGradients {
    fn add(&mut self, name: String, gradient: Tensor<1>) {
        let sum = self.0.remove(&name).map_or(gradient.clone(), |sum| sum + gradient);
        self.0.insert(name, sum);
    }

    fn add_to_adapter(&mut self, part: &str, gradient: Tensor<1>) {
        self.add(format!("lm_head.{part}"), gradient);
    }
}

/// The hidden states of a chunk.
struct Inputs {
    /// `[rows, hidden_size]`
    plain: Tensor<2>,
    /// The hidden states after the adapter's dropout, and its mask.
    adapted: Tensor<2>,
    mask: Option<Tensor<2>>,
}

impl Inputs {
    /// Under DoRA with dropout, PEFT's `DoraLinearVariant.forward` scales `W d` of what is left of the inputs by the trained
    /// magnitudes, and adds `W (x - d)` as it is: the inputs of the two; elsewhere `x` and nothing.
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

impl Head<'_> {
    /// Rows of a chunk.
    pub fn chunk_rows(&self) -> usize {
        chunk_rows(self.matrix.shape()[0], &self.matrix.device())
    }

    /// The hidden states of a micro-batch, with dropped places where there is a seed for them.
    ///
    /// # Shapes
    /// - `hidden`: `[rows, width, hidden_size]`, not tracked.
    pub fn inputs(&self, hidden: Tensor<3>, dropout_seed: Option<u64>) -> HeadInputs {
        let [rows, width, hidden_size] = hidden.dims();
        let flat = hidden.reshape([rows * width, hidden_size]);
        HeadInputs { mask: self.lora.and_then(|lora| lora.mask("lm_head", &flat, dropout_seed)), flat }
    }

    /// Softmax of the hidden states at `places`, each against its target.
    pub fn forward(&self, inputs: &HeadInputs, places: Tensor<1, Int>, targets: Vec<u32>, asked: Asked) -> Chunk {
        let inputs = inputs.select(places);
        let (low, more) = self.low_rank(inputs.adapted.clone()).unzip();
        let softmax = match self.matrix.form() {
            MatrixForm::Packed(matrix) => packed::softmax(self, matrix, &inputs, more, &targets, asked),
            MatrixForm::Unpacked(matrix) => self.softmax(matrix, &inputs, more, &targets, asked),
        };
        let Softmax { nll, entropy, sum_of_squares, loss, kept } = softmax;
        Chunk { nll, entropy, sum_of_squares, loss, kept, way_back: WayBack { inputs, targets, low } }
    }

    /// The way back through a chunk whose rows are pulled so, times `scale`: adds the gradients of what is trained of the head
    /// to `gradients`, and gives that of the chunk's hidden states, `[rows, hidden_size]`.
    pub fn backward(&self, chunk: Chunk, pull: Pull, scale: f64, gradients: &mut HeadGradients) -> Tensor<2> {
        let pull = pull.scaled(scale * self.scale);
        let Chunk { kept, way_back, .. } = chunk;
        match kept {
            Kept::Packed(kept) => packed::backward(self, way_back, kept, pull, gradients),
            Kept::Composed(kept) => composed::backward(self, way_back, kept, pull, gradients),
            #[cfg(feature = "gpu")]
            Kept::Gpu(logits, targets, sums, matrix) => {
                let gradient = on_gpu::logits_gradient(logits, targets, sums, pull.weights);
                composed::through(self, &matrix, way_back, gradient, None, gradients)
            }
        }
    }

    /// The softmax of a chunk where the matrix is not packed.
    fn softmax(
        &self,
        matrix: Unpacked,
        inputs: &Inputs,
        more: Option<Tensor<2>>,
        targets: &[u32],
        asked: Asked,
    ) -> Softmax {
        let (scaled, kept) = inputs.halves(self);
        let (logits, kept) = (matrix.product(scaled), kept.map(|kept| matrix.product(kept)));
        match Form::on(&logits.device()) {
            #[cfg(feature = "gpu")]
            Form::Gpu if self.cap.is_none() && self.lora.is_none() && asked == Asked::default() => {
                let (logits, targets) = (self.bend(logits), indices(targets, &self.matrix.device()));
                let [nll, entropy, largest, above] = on_gpu::softmax_statistics(logits.clone(), targets.clone());
                Softmax {
                    nll,
                    entropy,
                    sum_of_squares: None,
                    loss: None,
                    kept: Kept::Gpu(logits, targets, [largest, above], matrix),
                }
            }
            _ => composed::softmax(self, matrix, logits, kept, more, targets, asked),
        }
    }

    /// Logits as they are outside of training, where nothing is dropped.
    ///
    /// # Shapes
    /// - `hidden`: `[tokens, hidden_size]`, not tracked; output `[tokens, vocabulary]`, f32.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let logits = self.matrix.product(hidden.clone());
        let logits = match self.low_rank(hidden) {
            Some((_, more)) => logits + more,
            None => logits,
        };
        self.bend(match self.gain() {
            Some((_, gain)) => logits * gain.unsqueeze(),
            None => logits,
        })
    }

    /// Logits, scaled and capped.
    fn bend(&self, logits: Tensor<2>) -> Tensor<2> {
        let logits = if self.scale == 1.0 { logits } else { logits.mul_scalar(self.scale) };
        match self.cap {
            Some(cap) => logits.div_scalar(cap).tanh().mul_scalar(cap),
            None => logits,
        }
    }

    /// `x A^T` and `s x A^T B^T`, f32.
    ///
    /// # Shapes
    /// - `x`: `[rows, hidden_size]`, not tracked; output `[rows, rank]` and `[rows, vocabulary]`.
    fn low_rank(&self, x: Tensor<2>) -> Option<(Tensor<2>, Tensor<2>)> {
        let lora = self.lora?;
        let x = x.cast(DType::F32);
        let low = x.clone().matmul(lora.a(&x).transpose());
        let more = low.clone().matmul(lora.b(&x).transpose()).mul_scalar(lora.scale());
        Some((low, more))
    }

    /// DoRA: the norms of the rows of `W + s B A`, and the trained magnitudes over these, both `[vocabulary]`.
    fn gain(&self) -> Option<(Tensor<1>, Tensor<1>)> {
        let nothing = Tensor::<1>::zeros([1], &self.matrix.device());
        self.lora?.gain(self.matrix, &nothing)
    }

    /// Adds the gradients of the adapter's factors, and gives that of the hidden states, f32. Zero without an adapter.
    ///
    /// # Shapes
    /// - `logits_gradient`: `[rows, vocabulary]`, of `s x A^T B^T`.
    fn adapter_backward(
        &self,
        way_back: WayBack,
        logits_gradient: Tensor<2>,
        gradients: &mut HeadGradients,
    ) -> Option<Tensor<2>> {
        let (lora, low) = (self.lora?, way_back.low?);
        let Inputs { adapted, mask, .. } = way_back.inputs;
        let x = adapted.cast(DType::F32);
        let (a, b) = (lora.a(&x), lora.b(&x));
        let low_gradient = logits_gradient.clone().matmul(b).mul_scalar(lora.scale());
        let of_a = low_gradient.clone().transpose().matmul(x);
        let of_b = logits_gradient.transpose().matmul(low).mul_scalar(lora.scale());
        gradients.add_to_adapter("lora_A.weight", of_a.flatten(0, 1));
        gradients.add_to_adapter("lora_B.weight", of_b.flatten(0, 1));
        let input = low_gradient.matmul(a);
        Some(match mask {
            Some(mask) => input * mask.cast(DType::F32),
            None => input,
        })
    }
}

impl HeadInputs {
    fn select(&self, places: Tensor<1, Int>) -> Inputs {
        let rows = |tensor: &Tensor<2>| tensor.clone().select(0, places.clone());
        let (plain, mask) = (rows(&self.flat), self.mask.as_ref().map(rows));
        let adapted = match &mask {
            Some(mask) => plain.clone() * mask.clone(),
            None => plain.clone(),
        };
        Inputs { plain, adapted, mask }
    }
}

fn indices(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> =
        values.iter().map(|value| i32::try_from(*value).expect("a vocabulary has fewer than 2^31 tokens")).collect();
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}

/// On a GPU: kernels of the crate `cube`, outside of burn's graph.
#[cfg(feature = "gpu")]
pub(super) mod on_gpu {
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
    use burn::tensor::{DType, Tensor};
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;

    use crate::ops::gpu::{beside, buffer};
    use crate::ops::gpu::{owned, scalars};
    use burn::backend::tensor::IntTensor;
    use burn::tensor::Int;

    /// The nll of each row's target, the entropy of its softmax, and the two parts of the log of its sum of exponentials (see
    /// [`cube::Statistics`]), all `[rows]` in f32.
    ///
    /// # Shapes
    /// - `logits`: `[rows, vocabulary]`, not tracked; `targets`: `[rows]`.
    pub fn softmax_statistics(logits: Tensor<2>, targets: Tensor<1, Int>) -> [Tensor<1>; 4] {
        let (logits, targets) = (logits.into_dispatch(), targets.into_dispatch());
        let (nll, entropy, largest, above) = <Dispatch as HeadKernels>::softmax_statistics(logits, targets);
        [nll, entropy, largest, above].map(Tensor::from_dispatch)
    }

    /// `weight * (softmax - onehot)` of each row, in the memory of the logits when nothing else holds them.
    ///
    /// # Shapes
    /// - `logits` and output: `[rows, vocabulary]`; `targets`, `sums`, `weights`: `[rows]`.
    pub fn logits_gradient(
        logits: Tensor<2>,
        targets: Tensor<1, Int>,
        sums: [Tensor<1>; 2],
        weights: Tensor<1>,
    ) -> Tensor<2> {
        let ([largest, above], weights) = (sums.map(Tensor::into_dispatch), weights.into_dispatch());
        let (logits, targets) = (logits.into_dispatch(), targets.into_dispatch());
        Tensor::from_dispatch(<Dispatch as HeadKernels>::logits_gradient(logits, targets, largest, above, weights))
    }

    /// Outside of the graph.
    #[backend_extension(Cube, Fusion)]
    pub(crate) trait HeadKernels: Backend {
        #[fusion(meta = |_logits, targets| {
        let rows = targets.shape.num_elements();
        (scalars(rows), scalars(rows), scalars(rows), scalars(rows))
    })]
        fn softmax_statistics(
            logits: FloatTensor<Self>,
            targets: IntTensor<Self>,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

        #[fusion(dtype = logits, shape = logits)]
        fn logits_gradient(
            logits: FloatTensor<Self>,
            targets: IntTensor<Self>,
            largest: FloatTensor<Self>,
            above: FloatTensor<Self>,
            weights: FloatTensor<Self>,
        ) -> FloatTensor<Self>;
    }

    impl HeadKernels for CubeBackend {
        fn softmax_statistics(
            logits: FloatTensor<Self>,
            targets: IntTensor<Self>,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
            let [logits, targets] = [logits, targets].map(into_contiguous);
            let vector = || beside(&logits, targets.shape(), DType::F32);
            let found = [vector(), vector(), vector(), vector()];
            let [nll, entropy, largest, above] = found.each_ref().map(buffer);
            let to = cube::Statistics { nll, entropy, largest, above };
            cube::softmax_statistics(&logits.client, &buffer(&logits), &buffer(&targets), &to);
            found.into()
        }

        fn logits_gradient(
            logits: FloatTensor<Self>,
            targets: IntTensor<Self>,
            largest: FloatTensor<Self>,
            above: FloatTensor<Self>,
            weights: FloatTensor<Self>,
        ) -> FloatTensor<Self> {
            let kept = [targets, largest, above, weights].map(into_contiguous);
            let logits = owned(logits);
            let [targets, largest, above, weights] = kept.each_ref().map(buffer);
            cube::logits_gradient(&logits.client, &buffer(&logits), &targets, [&largest, &above], &weights);
            logits
        }
    }
}
