//! The flow head: a small network that turns a noisy target, a time and a hidden state into a velocity.
//!
//! ```text
//! e = [sin(tau w), cos(tau w)], w_i = exp(-i ln(10000) / (d/2 - 1)), tau unscaled
//! t = Linear(4d -> d)(SiLU(Linear(d -> 4d)(e)))
//! x = SiLU(LayerNorm(Linear(2d + H -> m)([z ; t ; h])))
//! x = x + SiLU(LayerNorm(Linear(m -> m)(x)))          layers - 2 times
//! v = Linear(m -> d)(x)                               zero at the start
//! ```
//!
//! Names and order are those of the authors' code (arXiv 2605.27971), so that a head can be compared with theirs.

use burn::tensor::activation::silu;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::Parameter;

/// PyTorch's default.
const NORM_EPSILON: f64 = 1e-5;

/// Widths and depth of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    /// `d`, of the sentence embeddings.
    pub dimension: usize,
    /// `H`, of the hidden states.
    pub hidden_size: usize,
    /// `m`, of the network itself.
    pub width: usize,
    /// Layers, the first and the last counted.
    pub layers: usize,
}

impl HeadShape {
    /// Number of trained values.
    pub fn parameters(&self) -> u64 {
        let Self { dimension, hidden_size, width, layers } = *self;
        let linear = |inputs: usize, outputs: usize| (inputs * outputs + outputs) as u64;
        let time = linear(dimension, 4 * dimension) + linear(4 * dimension, dimension);
        let norm = 2 * width as u64;
        let block = linear(width, width) + norm;
        let ends = linear(2 * dimension + hidden_size, width) + norm + linear(width, dimension);
        time + ends + (layers as u64 - 2) * block
    }

    /// Values that the way back of a position needs, in the compositions of [`FlowHead::forward`].
    pub fn kept_per_position(&self) -> u64 {
        let Self { dimension, hidden_size, width, layers } = *self;
        // Noise, target, their mixture, the time's part, the output and its difference; the input and what it is cut from.
        let ends = 8 * dimension + 2 * (2 * dimension + hidden_size);
        // Of a layer: its sum, centred, squared, divided, scaled, shifted, the sigmoid and its product.
        (ends + (layers - 1) * 9 * width) as u64
    }
}

/// The network with its parameters: leaves that require a gradient, f32.
pub struct FlowHead {
    linears: Vec<Linear>,
    norms: Vec<Norm>,
    /// `w`, `[1, d/2]`
    frequencies: Tensor<2>,
}

struct Linear {
    name: String,
    /// `[out, in]`
    weight: Tensor<2>,
    /// `[out]`
    bias: Tensor<1>,
}

struct Norm {
    name: String,
    weight: Tensor<1>,
    bias: Tensor<1>,
}

impl FlowHead {
    /// Starts as PyTorch's layers do, uniform within `1/sqrt(in)`, the last one at zero. The name leads those of the
    /// parameters; heads of one seed and shape start alike.
    pub fn new(shape: HeadShape, name: &str, seed: u64, device: &Device) -> Self {
        let HeadShape { dimension, hidden_size, width, layers } = shape;
        let mut start = Start { seed, name, device, stream: 0 };
        let mut linears = vec![
            start.linear("time_embed.mlp.0", [4 * dimension, dimension]),
            start.linear("time_embed.mlp.2", [dimension, 4 * dimension]),
            start.linear("input_proj.0", [width, 2 * dimension + hidden_size]),
        ];
        let mut norms = vec![start.norm("input_proj.1", width)];
        for block in 0..layers - 2 {
            linears.push(start.linear(&format!("res_blocks.{block}.linear"), [width, width]));
            norms.push(start.norm(&format!("res_blocks.{block}.norm"), width));
        }
        linears.push(Linear {
            name: format!("{name}.output_proj"),
            weight: leaf(Tensor::zeros([dimension, width], (device, DType::F32))),
            bias: leaf(Tensor::zeros([dimension], (device, DType::F32))),
        });
        let half = dimension / 2;
        let step = 10_000f64.ln() / half.saturating_sub(1).max(1) as f64;
        let frequencies: Vec<f32> = (0..half).map(|index| (-step * index as f64).exp() as f32).collect();
        let frequencies = Tensor::from_data(TensorData::new(frequencies, [1, half]), (device, DType::F32));
        Self { linears, norms, frequencies }
    }

    /// The velocity. Tracked when `tracked`; nothing else needs to be.
    ///
    /// # Shapes
    /// - `z`: `[positions, d]`, `tau`: `[rows]`, `row`: `[positions]`, which `tau` a position has, `hidden`:
    ///   `[positions, H]`, all f32; output `[positions, d]`.
    pub fn forward(
        &self,
        z: Tensor<2>,
        tau: Tensor<1>,
        row: Tensor<1, Int>,
        hidden: Tensor<2>,
        tracked: bool,
    ) -> Tensor<2> {
        let (time, rest) = self.linears.split_at(2);
        let (output, layers) = rest.split_last().expect("a head has an output");
        let angle = tau.unsqueeze_dim::<2>(1).matmul(self.frequencies.clone());
        let angles = Tensor::cat(vec![angle.clone().sin(), angle.cos()], 1);
        let time = time[1].forward(silu(time[0].forward(angles, tracked)), tracked).select(0, row);
        let input = Tensor::cat(vec![side(z, tracked), time, side(hidden, tracked)], 1);
        let layer =
            |index: usize, x: Tensor<2>| silu(self.norms[index].forward(layers[index].forward(x, tracked), tracked));
        let mut x = layer(0, input);
        for index in 1..layers.len() {
            x = x.clone() + layer(index, x);
        }
        output.forward(x, tracked)
    }

    /// Shows every parameter, always in the same order.
    pub fn visit(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        for linear in &mut self.linears {
            visit(&format!("{}.weight", linear.name), Parameter::Matrix(&mut linear.weight));
            visit(&format!("{}.bias", linear.name), Parameter::Vector(&mut linear.bias));
        }
        for norm in &mut self.norms {
            visit(&format!("{}.weight", norm.name), Parameter::Vector(&mut norm.weight));
            visit(&format!("{}.bias", norm.name), Parameter::Vector(&mut norm.bias));
        }
    }

    /// A tracked zero, `[1]`.
    pub fn zero(&self) -> Tensor<1> {
        self.norms[0].bias.clone().sum().mul_scalar(0.0)
    }
}

impl Linear {
    fn forward(&self, x: Tensor<2>, tracked: bool) -> Tensor<2> {
        let (weight, bias) = (side(self.weight.clone(), tracked), side(self.bias.clone(), tracked));
        side(x, tracked).matmul(weight.transpose()) + bias.unsqueeze()
    }
}

impl Norm {
    fn forward(&self, x: Tensor<2>, tracked: bool) -> Tensor<2> {
        let (weight, bias) = (side(self.weight.clone(), tracked), side(self.bias.clone(), tracked));
        let centred = x.clone() - x.mean_dim(1);
        let variance = (centred.clone() * centred.clone()).mean_dim(1);
        centred / variance.add_scalar(NORM_EPSILON).sqrt() * weight.unsqueeze() + bias.unsqueeze()
    }
}

/// The tensor as part of a tracked computation or of a plain one.
fn side<const D: usize>(tensor: Tensor<D>, tracked: bool) -> Tensor<D> {
    match (tracked, tensor.is_autodiff()) {
        (true, false) => tensor.autodiff(),
        (false, true) => tensor.inner(),
        _ => tensor,
    }
}

fn leaf<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    tensor.autodiff().require_grad()
}

/// Draws first values, each parameter from a stream of its own.
struct Start<'a> {
    seed: u64,
    name: &'a str,
    device: &'a Device,
    stream: u64,
}

impl Start<'_> {
    fn uniform(&mut self, count: usize, bound: f32) -> Vec<f32> {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..21].copy_from_slice(b"auxiliary.sfr");
        let mut random = ChaCha8Rng::from_seed(key);
        random.set_stream(self.stream);
        self.stream += 1;
        // 24 random bits are the digits of an f32 in [0, 1).
        let mut unit = || (random.next_u32() >> 8) as f32 / (1u32 << 24) as f32;
        (0..count).map(|_| (2.0 * unit() - 1.0) * bound).collect()
    }

    fn linear(&mut self, name: &str, shape: [usize; 2]) -> Linear {
        let bound = 1.0 / (shape[1] as f32).sqrt();
        let weight = TensorData::new(self.uniform(shape[0] * shape[1], bound), shape);
        let bias = TensorData::new(self.uniform(shape[0], bound), [shape[0]]);
        Linear {
            name: format!("{}.{name}", self.name),
            weight: leaf(Tensor::from_data(weight, (self.device, DType::F32))),
            bias: leaf(Tensor::from_data(bias, (self.device, DType::F32))),
        }
    }

    fn norm(&self, name: &str, size: usize) -> Norm {
        Norm {
            name: format!("{}.{name}", self.name),
            weight: leaf(Tensor::ones([size], (self.device, DType::F32))),
            bias: leaf(Tensor::zeros([size], (self.device, DType::F32))),
        }
    }
}
