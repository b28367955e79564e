//! Frozen projections with their adapters.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor};
use kernels::{Dropped, Factors, Packed, Part};

use super::swiglu::shape;
use super::{Call, INPUTS, Operation, gathered, slice, tensor, with_values};

/// A frozen matrix with its bias.
#[derive(Debug, Clone)]
pub struct Projection {
    /// `[out, in]`
    pub weight: Arc<Packed>,
    /// `[out]`
    pub bias: Option<Arc<Vec<f32>>>,
    /// Which inputs it and its adapter do not see.
    pub dropped: Dropped,
}

impl Projection {
    /// Without a bias, of all inputs.
    pub fn plain(weight: Arc<Packed>) -> Self {
        Self { weight, bias: None, dropped: Dropped::Nothing }
    }
}

/// The trained factors beside a projection.
pub struct Adapter {
    /// `[rank, in]`, f32.
    pub a: Tensor<2>,
    /// `[out, rank]`, f32.
    pub b: Tensor<2>,
    /// Factor of their product.
    pub scale: f64,
}

/// `x W^T + bias + scale * x A^T B^T` of up to three projections of one input, side by side, on top of `residual`, which
/// takes a single projection without a bias.
///
/// # Shapes
/// - `x`: `[tokens, in]`, f32 or bf16; `residual`: `[tokens, out]`, f32.
/// - output: `[tokens, sum of out]`, in the type `output`.
pub fn project(
    x: Tensor<2>,
    parts: Vec<(Projection, Option<Adapter>)>,
    residual: Option<Tensor<2>>,
    output: DType,
) -> Tensor<2> {
    assert!((1..=3).contains(&parts.len()), "one to three projections");
    let mut call = Call::new().input(x);
    let mut frozen = Vec::with_capacity(parts.len());
    for (index, (projection, adapter)) in parts.into_iter().enumerate() {
        call = call.skip_to(1 + 2 * index);
        frozen.push((projection, adapter.as_ref().map(|adapter| adapter.scale as f32)));
        if let Some(adapter) = adapter {
            call = call.input(adapter.a).input(adapter.b);
        }
    }
    let has_residual = residual.is_some();
    if let Some(residual) = residual {
        call = call.skip_to(INPUTS - 1).input(residual);
    }
    call.run(Project { parts: frozen, has_residual, output })
}

#[derive(Debug)]
struct Project {
    /// Each with the scale of its adapter, if it has one.
    parts: Vec<(Projection, Option<f32>)>,
    has_residual: bool,
    output: DType,
}

impl Project {
    /// The parts with their factors: A and B of part `i` at `2 i` and `2 i + 1`.
    fn parts<'a>(&'a self, factors: &'a [FlexTensor]) -> Vec<Part<'a>> {
        let parts = self.parts.iter().enumerate().map(|(index, (projection, scale))| Part {
            weight: &projection.weight,
            bias: projection.bias.as_ref().map(|bias| bias.as_slice()),
            factors: scale.map(|scale| Factors {
                a: slice(&factors[2 * index]),
                b: slice(&factors[2 * index + 1]),
                scale,
            }),
            dropped: projection.dropped,
        });
        parts.collect()
    }

    fn outputs(&self) -> usize {
        self.parts.iter().map(|(projection, _)| projection.weight.shape()[0]).sum()
    }
}

impl Operation for Project {
    fn forward(&self, inputs: &[FlexTensor; INPUTS]) -> (FlexTensor, Vec<FlexTensor>) {
        let x = gathered(&inputs[0]);
        let factors: Vec<FlexTensor> = inputs[1..INPUTS - 1].iter().map(gathered).collect();
        let residual = self.has_residual.then(|| gathered(&inputs[INPUTS - 1]));
        let residual = residual.as_ref().map(slice);
        let parts = self.parts(&factors);
        let ([rows, _], outputs) = (shape(&x), self.outputs());
        let (y, low) = with_values!(&x, values => match self.output {
            DType::BF16 => {
                let (y, low) = kernels::project::<_, kernels::bf16>(values, rows, &parts, residual);
                (tensor(y, [rows, outputs]), low)
            }
            _ => {
                let (y, low) = kernels::project::<_, f32>(values, rows, &parts, residual);
                (tensor(y, [rows, outputs]), low)
            }
        });
        let count = low.len();
        let mut saved = vec![x, tensor(low, [count])];
        saved.extend(factors);
        (y, saved)
    }

    fn backward(
        &self,
        saved: &[FlexTensor],
        gradient: FlexTensor,
        wanted: [bool; INPUTS],
    ) -> [Option<FlexTensor>; INPUTS] {
        let [x, low, factors @ ..] = saved else { unreachable!("what `forward` saved") };
        let parts = self.parts(factors);
        let [rows, inputs] = shape(x);
        let values = gathered(&gradient);
        let mut given = [const { None }; INPUTS];
        let factors = with_values!(x, x => with_values!(&values, gradient => {
            let back = kernels::project_backward(x, rows, &parts, slice(low), gradient, wanted[0]);
            given[0] = back.input.map(|values| tensor(values, [rows, inputs]));
            back.factors
        }));
        for (index, factors) in factors.into_iter().enumerate() {
            if let Some((a, b)) = factors {
                let rank = a.len() / inputs.max(1);
                let outputs = self.parts[index].0.weight.shape()[0];
                given[1 + 2 * index] = Some(tensor(a, [rank, inputs]));
                given[2 + 2 * index] = Some(tensor(b, [outputs, rank]));
            }
        }
        if self.has_residual {
            given[INPUTS - 1] = Some(gradient);
        }
        given
    }
}
