//! The vocabulary head with its adapter, outside of any graph: its gradients are made by hand, chunk by chunk.

use burn::tensor::{DType, Tensor};

use super::lora::Lora;
use super::matrix::Matrix;

/// `logits = h W^T`, with what an adapter adds.
pub struct Head<'a> {
    /// W, `[vocabulary, hidden_size]`.
    pub matrix: &'a Matrix,
    /// Its name.
    pub name: String,
    /// The adapter.
    pub lora: Option<&'a Lora>,
    /// Factor of the logits.
    pub scale: f64,
    /// Logits become `cap * tanh(logit / cap)`.
    pub cap: Option<f64>,
}

/// Gradients of an adapter's tensors.
pub struct LoraGradients {
    /// Of A, `[rank, hidden_size]`.
    pub a: Tensor<2>,
    /// Of B, `[vocabulary, rank]`.
    pub b: Tensor<2>,
    /// Of the inputs of A, `[rows, hidden_size]`.
    pub input: Tensor<2>,
}

impl Head<'_> {
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
    pub fn bend(&self, logits: Tensor<2>) -> Tensor<2> {
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
    pub fn low_rank(&self, x: Tensor<2>) -> Option<(Tensor<2>, Tensor<2>)> {
        let lora = self.lora?;
        let x = x.cast(DType::F32);
        let low = x.clone().matmul(lora.a(&x).transpose());
        let more = low.clone().matmul(lora.b(&x).transpose()).mul_scalar(lora.scale());
        Some((low, more))
    }

    /// The lengths of the rows and what each is multiplied with to have its trained length, both `[vocabulary]`.
    pub fn gain(&self) -> Option<(Tensor<1>, Tensor<1>)> {
        let nothing = Tensor::<1>::zeros([1], &self.matrix.device());
        self.lora?.gain(self.matrix, &nothing)
    }

    /// Gradients from that of `s x A^T B^T`, with x and `x A^T`.
    pub fn low_rank_gradients(&self, x: Tensor<2>, low: Tensor<2>, gradient: Tensor<2>) -> Option<LoraGradients> {
        let lora = self.lora?;
        let x = x.cast(DType::F32);
        let (a, b) = (lora.a(&x), lora.b(&x));
        let low_gradient = gradient.clone().matmul(b).mul_scalar(lora.scale());
        Some(LoraGradients {
            a: low_gradient.clone().transpose().matmul(x),
            b: gradient.transpose().matmul(low).mul_scalar(lora.scale()),
            input: low_gradient.matmul(a),
        })
    }
}
