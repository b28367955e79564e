//! Low-rank adapters beside a frozen matrix: two factors (LoRA), and with DoRA the trained length of each row.

use std::sync::OnceLock;

use burn::tensor::{Int, Tensor};
use kernels::Dropout;
use losses::Parameter;

use super::ops::{Matrix, on_side_of};

/// Beside an embedding, as PEFT has it: row v of the matrix becomes `W_v + s B A_v`. Nothing is dropped. The lengths that
/// DoRA trains are those of the columns, one for each value of the hidden states.
pub struct EmbeddingLora {
    /// `[rank, vocabulary]`
    a: Tensor<2>,
    /// `[hidden_size, rank]`
    b: Tensor<2>,
    scale: f64,
    magnitude: Option<Magnitude>,
}

/// `W + s B A` in place of W (Hu et al. 2021, arXiv 2106.09685). The product `B A` is never formed.
pub struct Lora {
    /// `[rank, in]`
    a: Tensor<2>,
    /// `[out, rank]`
    b: Tensor<2>,
    scale: f64,
    dropout: f64,
    magnitude: Option<Magnitude>,
    /// The factors that were taken out of the matrix before training (PiSSA), beside which it is the original one.
    taken: Option<Box<Lora>>,
}

/// DoRA (Liu et al. 2024, arXiv 2402.09353): the rows of `W + s B A` are brought to trained lengths; of an embedding, the
/// columns of `W + s (B A)^T`.
struct Magnitude {
    /// m, `[out]`
    lengths: Tensor<1>,
    /// Squared lengths of the rows of W, `[out]`.
    squares: Tensor<1>,
    /// Lengths of the rows of `W + s B A` as A and B stand, `[out]`; forgotten when these are shown to be changed.
    norms: OnceLock<Tensor<1>>,
}

/// The least length of a row: below that of any row that matters, so that a row of zeros stays one in place of NaN.
const SHORTEST: f32 = 1e-30;

impl Lora {
    /// Leaves that require a gradient.
    ///
    /// # Shapes
    /// - `a`: `[rank, in]`, `b`: `[out, rank]`, f32.
    pub(super) fn new(a: Tensor<2>, b: Tensor<2>, scale: f64, dropout: f64) -> Self {
        let leaf = |tensor: Tensor<2>| tensor.autodiff().require_grad();
        Self { a: leaf(a), b: leaf(b), scale, dropout, magnitude: None, taken: None }
    }

    /// With trained lengths of the rows of `W + s B A`: those given, or those they have now.
    pub(super) fn with_magnitude(mut self, weight: &Matrix, lengths: Option<Tensor<1>>) -> Self {
        let squares = weight.row_squares();
        let norms = self.row_norms(weight, &squares);
        self.magnitude = Some(Magnitude::new(squares, norms, lengths));
        self
    }

    /// Beside a matrix that factors were taken out of.
    pub(super) fn with_taken(mut self, a: Tensor<2>, b: Tensor<2>) -> Self {
        let (a, b, scale) = (a.autodiff(), b.autodiff(), self.scale);
        self.taken = Some(Box::new(Self { a, b, scale, dropout: 0.0, magnitude: None, taken: None }));
        self
    }

    /// What stands beside the matrix where the adapter is left out, so that it is the original one: the factors that were
    /// taken out of it, if any were.
    pub(super) fn taken(&self) -> Option<&Self> {
        self.taken.as_deref()
    }

    /// A and B as they are beside the original matrix, `[ranks, in]` and `[out, ranks]`: with what was taken out of it
    /// taken away again.
    pub(super) fn beside_original(&self) -> Option<(Tensor<2>, Tensor<2>)> {
        let taken = self.taken()?;
        let factors = |lora: &Self| (lora.a.clone().inner(), lora.b.clone().inner());
        let ((a, b), (taken_a, taken_b)) = (factors(self), factors(taken));
        Some((Tensor::cat(vec![a, taken_a], 0), Tensor::cat(vec![b, taken_b.neg()], 1)))
    }

    /// A, `[rank, in]`, on the side of `x`.
    pub fn a<const D: usize>(&self, x: &Tensor<D>) -> Tensor<2> {
        on_side_of(x, &self.a)
    }

    /// B, `[out, rank]`, on the side of `x`.
    pub fn b<const D: usize>(&self, x: &Tensor<D>) -> Tensor<2> {
        on_side_of(x, &self.b)
    }

    /// The factor of `B A`.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// True when rows have trained lengths.
    pub fn has_magnitude(&self) -> bool {
        self.magnitude.is_some()
    }

    /// The length that each row of `W + s B A` has, which is taken for a constant, and what it is multiplied with to have
    /// its trained length, both `[out]`.
    pub fn gain<const D: usize>(&self, weight: &Matrix, x: &Tensor<D>) -> Option<(Tensor<1>, Tensor<1>)> {
        let magnitude = self.magnitude.as_ref()?;
        let norms = magnitude.norms.get_or_init(|| self.row_norms(weight, &magnitude.squares)).clone();
        Some((norms.clone(), on_side_of(x, &magnitude.lengths) / norms))
    }

    /// What drops inputs of A in a pass with this seed, for the adapter of `name`. The same places are dropped whenever
    /// the same micro-batch passes again, so that recomputed blocks and resumed runs see what the first pass saw.
    pub fn dropout(&self, name: &str, seed: Option<u64>) -> Option<Dropout> {
        let seed = seed.filter(|_| self.dropout > 0.0)?;
        Some(Dropout::new(crate::random::key(seed, &["dropout", name]), self.dropout))
    }

    /// What inputs of A are multiplied with, in a pass with this seed: zero where they are dropped. On the CPU the
    /// places are those of [`Lora::dropout`]; a GPU draws its own.
    ///
    /// # Shapes
    /// - `x` and output: `[tokens, in]`, the output not tracked.
    pub fn mask(&self, name: &str, x: &Tensor<2>, seed: Option<u64>) -> Option<Tensor<2>> {
        let dropout = self.dropout(name, seed)?;
        Some(crate::ops::dropout_mask(dropout, self.dropout, x.dims(), x.dtype(), &x.device().inner()))
    }

    /// `||W + s B A||` of each row, `[out]`.
    fn row_norms(&self, weight: &Matrix, squares: &Tensor<1>) -> Tensor<1> {
        let (a, b) = (self.a.clone().inner(), self.b.clone().inner());
        norms(weight.product(a.clone()), a, b, squares, self.scale)
    }

    pub(super) fn visit(&mut self, name: &str, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        visit(&format!("{name}.lora_A.weight"), Parameter::Matrix(&mut self.a));
        visit(&format!("{name}.lora_B.weight"), Parameter::Matrix(&mut self.b));
        if let Some(magnitude) = &mut self.magnitude {
            visit(&format!("{name}.lora_magnitude_vector"), Parameter::Vector(&mut magnitude.lengths));
            magnitude.norms.take();
        }
    }
}

/// `||W + s B A||` of each row from `||W||^2 + 2 s (W A^T) . B + s^2 (B A A^T) . B`, `[out]`.
///
/// # Shapes
/// - `crossed`: `A W^T`, `[rank, out]`; `a`: `[rank, in]`, `b`: `[out, rank]`, `squares`: `[out]`.
fn norms(crossed: Tensor<2>, a: Tensor<2>, b: Tensor<2>, squares: &Tensor<1>, scale: f64) -> Tensor<1> {
    let row_sums = |product: Tensor<2>| product.sum_dim(1).squeeze_dim::<1>(1);
    let crossed = row_sums(crossed.transpose() * b.clone());
    let own = row_sums(b.clone().matmul(a.clone().matmul(a.transpose())) * b);
    let squares = squares.clone() + crossed.mul_scalar(2.0 * scale) + own.mul_scalar(scale * scale);
    squares.clamp_min(0.0).sqrt().clamp_min(SHORTEST)
}

impl Magnitude {
    /// A leaf that requires a gradient, of the lengths given or of those that the rows have.
    fn new(squares: Tensor<1>, norms: Tensor<1>, lengths: Option<Tensor<1>>) -> Self {
        let lengths = lengths.unwrap_or_else(|| norms.clone()).autodiff().require_grad();
        Self { lengths, squares, norms: OnceLock::from(norms) }
    }
}

impl EmbeddingLora {
    /// Leaves that require a gradient.
    ///
    /// # Shapes
    /// - `a`: `[rank, vocabulary]`, `b`: `[hidden_size, rank]`, f32.
    pub(super) fn new(a: Tensor<2>, b: Tensor<2>, scale: f64) -> Self {
        let leaf = |tensor: Tensor<2>| tensor.autodiff().require_grad();
        Self { a: leaf(a), b: leaf(b), scale, magnitude: None }
    }

    /// With trained lengths of the columns of `W + s (B A)^T`: those given, or those they have now.
    pub(super) fn with_magnitude(mut self, weight: &Matrix, lengths: Option<Tensor<1>>) -> Self {
        let squares = weight.column_squares();
        let norms = self.column_norms(weight, &squares);
        self.magnitude = Some(Magnitude::new(squares, norms, lengths));
        self
    }

    /// `||W + s (B A)^T||` of each column, `[hidden_size]`.
    fn column_norms(&self, weight: &Matrix, squares: &Tensor<1>) -> Tensor<1> {
        let (a, b) = (self.a.clone().inner(), self.b.clone().inner());
        norms(weight.product_back(a.clone()), a, b, squares, self.scale)
    }

    /// The factor of each column of the adapted embedding (DoRA): its trained length over the length it has, `[hidden_size]`.
    pub(super) fn gain(&self, weight: &Matrix, rows: &Tensor<2>) -> Option<Tensor<1>> {
        let magnitude = self.magnitude.as_ref()?;
        let norms = magnitude.norms.get_or_init(|| self.column_norms(weight, &magnitude.squares)).clone();
        Some(on_side_of(rows, &magnitude.lengths) / norms)
    }

    /// The low-rank update of the rows `ids`, f32.
    ///
    /// # Shapes
    /// - `ids`: `[tokens]`; output `[tokens, hidden_size]`. Tracked when asked for.
    pub(super) fn rows(&self, ids: Tensor<1, Int>, tracked: bool) -> Tensor<2> {
        let side = |tensor: &Tensor<2>| if tracked { tensor.clone() } else { tensor.clone().inner() };
        let low = side(&self.a).select(1, ids).transpose();
        low.matmul(side(&self.b).transpose()).mul_scalar(self.scale)
    }

    pub(super) fn visit(&mut self, name: &str, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        visit(&format!("{name}.lora_embedding_A"), Parameter::Matrix(&mut self.a));
        visit(&format!("{name}.lora_embedding_B"), Parameter::Matrix(&mut self.b));
        if let Some(magnitude) = &mut self.magnitude {
            visit(&format!("{name}.lora_magnitude_vector"), Parameter::Vector(&mut magnitude.lengths));
            magnitude.norms.take();
        }
    }
}
