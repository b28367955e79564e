//! Projections with their adapters: `x W^T + bias + scale * x A^T B^T`, with DoRA's trained lengths and dropped inputs.
//!
//! Packed matrices have one operation for all that meets an input; any other is composed of burn's operations.

mod composed;
mod packed;

use burn::tensor::{DType, Tensor};
use kernels::Dropout;

use super::matrix::Form;
use super::{Keeping, Matrix};
use crate::lora::Lora;
use packed::PackedProjection;
pub(super) use packed::product;

/// A projection as one pass sees it.
#[derive(Clone, Copy)]
pub struct Projection<'a> {
    /// Its path, which names the stream that its dropout draws from.
    pub name: &'a str,
    /// `[out, in]`
    pub weight: &'a Matrix,
    /// `[out]`
    pub bias: Option<&'a Tensor<1>>,
    /// The adapter beside it in this pass.
    pub lora: Option<&'a Lora>,
    /// Seed of the micro-batch's dropout; `None` drops nothing.
    pub dropout_seed: Option<u64>,
}

/// What `N` outputs of one input come as, which the operation after it takes as they are.
#[expect(clippy::large_enum_variant, reason = "one at a time, and a tensor's handle is what it is")]
pub enum Projected<const N: usize> {
    /// Side by side, `[tokens, sum of widths]`: on the CPU, from packed matrices.
    Together(Tensor<2>),
    /// Each `[tokens, width]`.
    Apart([Tensor<2>; N]),
}

impl<'a> Projection<'a> {
    /// True when rows of the adapted matrix have trained lengths.
    fn is_scaled(&self) -> bool {
        self.lora.is_some_and(Lora::has_magnitude)
    }

    /// The adapter's dropout in this pass.
    fn dropout(&self) -> Option<Dropout> {
        self.lora.and_then(|lora| lora.dropout(self.name, self.dropout_seed))
    }

    /// The factors by which DoRA scales the rows of the adapted matrix, `[out]`; ones without DoRA.
    fn gain(&self, x: &Tensor<2>) -> Tensor<1> {
        let gain = self.lora.and_then(|lora| lora.gain(self.weight, x));
        gain.map_or_else(|| Tensor::ones([self.weight.shape()[0]], &x.device().inner()), |(_, gain)| gain)
    }

    fn packed(self) -> Option<PackedProjection<'a>> {
        match self.weight.form() {
            Form::Packed(weight) => Some(PackedProjection { of: self, weight }),
            Form::Unpacked(_) => None,
        }
    }
}

/// One projection.
///
/// # Shapes
/// - `x`: `[tokens, in]`; output `[tokens, out]`, f32 of a packed matrix. Tracked when `x` is.
pub fn project(projection: Projection, x: Tensor<2>) -> Tensor<2> {
    match projection.weight.form() {
        Form::Packed(weight) => {
            packed::project(&[PackedProjection { of: projection, weight }], x, None, DType::F32, DType::F32)
        }
        Form::Unpacked(weight) => composed::project(projection, &weight, x),
    }
}

/// `residual + project(x)`
///
/// # Shapes
/// - `x`: `[tokens, in]`; `residual` and output: `[tokens, out]`, of the type of `residual`.
pub fn project_onto(residual: Tensor<2>, projection: Projection, x: Tensor<2>) -> Tensor<2> {
    match projection.packed() {
        Some(packed) if projection.bias.is_none() && residual.dtype() == DType::F32 => {
            let inner = x.dtype();
            packed::project(&[packed], x, Some(residual), inner, DType::F32)
        }
        _ => residual + project(projection, x),
    }
}

/// Outputs of these `widths`, each of a projection of its own or all of one, side by side where that is one operation.
///
/// # Shapes
/// - `x`: `[tokens, in]`; outputs of the type of `x` where they come together.
pub fn project_together<const N: usize>(projections: &[Projection], widths: [usize; N], x: Tensor<2>) -> Projected<N> {
    let packed: Option<Vec<_>> = projections.iter().map(|projection| projection.packed()).collect();
    let Some(packed) = packed else { return Projected::Apart(project_apart(projections, widths, x)) };
    let dtype = x.dtype();
    let scaled = projections.iter().any(Projection::is_scaled);
    let dropping = projections.iter().filter(|projection| projection.dropout().is_some()).count();
    // The second half of projections with trained lengths is there for all or for none.
    Projected::Together(match !scaled || [0, projections.len()].contains(&dropping) {
        true => packed::project(&packed, x, None, dtype, dtype),
        false => Tensor::cat(projections.iter().map(|one| project(*one, x.clone()).cast(dtype)).collect(), 1),
    })
}

/// Outputs of these `widths`, each of a projection of its own or all of one.
///
/// # Shapes
/// - `x`: `[tokens, in]`; outputs `[tokens, width]`, of the type that [`project`] gives.
pub fn project_apart<const N: usize>(projections: &[Projection], widths: [usize; N], x: Tensor<2>) -> [Tensor<2>; N] {
    if let [projection] = projections {
        let (y, mut start) = (project(*projection, x), 0);
        return widths.map(|width| {
            start += width;
            y.clone().narrow(1, start - width, width)
        });
    }
    let mut projections = projections.iter();
    widths.map(|_| project(*projections.next().expect("a projection for each width"), x.clone()))
}

/// Bytes of each token that `count` projections of one input of width `inputs` keep for the way back: the input, which other
/// operations may keep as well. Where it is dropped, burn's operations keep for each projection the mask and what is left.
pub fn project_bytes(keeping: &Keeping, inputs: u64, count: u64) -> u64 {
    let Keeping { size, is_packed, drops } = *keeping;
    let dropped = if drops && !is_packed { 2 * count * inputs } else { 0 };
    (inputs + dropped) * size
}

/// Bytes of each token that adapters of so many ranks together keep: what A makes of their inputs.
pub fn low_rank_bytes(keeping: &Keeping, ranks: u64) -> u64 {
    // Kernels of the CPU have it in f32.
    ranks * if keeping.is_packed { 4 } else { keeping.size }
}
