//! Frozen projections with their adapters.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor};
use kernels::{Dropped, Factors, Packed, Part};

use super::cpu::{Call, INPUTS, Operation, gathered, shape, slice, tensor, with_values};

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

/// Bytes of each token that the CPU keeps for the way back of projections of one input, whose values take so many: the input,
/// which other operations may keep as well, and what A makes of it, of so many ranks together.
pub fn project_bytes(inputs: u64, size: u64, ranks: u64) -> u64 {
    inputs * size + ranks * 4
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

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use kernels::Precision;

    use super::*;
    use crate::ops::testing::{close, kept, leaf, plain, rows, run, values};

    #[test]
    fn projections_are_the_composed_products_with_adapters_bias_and_residual() {
        let (rows, inputs, outs) = (31, 47, [33usize, 8, 70]);
        let weights: Vec<Tensor<2>> = outs.iter().map(|out| plain(*out, inputs, 0.3)).collect();
        let bias = values(70, 0.9);
        let mut leaves = vec![leaf(rows, inputs, 0.1)];
        for (out, rank) in outs.iter().zip([3, 4, 5]) {
            leaves.extend([leaf(rank, inputs, 0.2), leaf(*out, rank, 0.6)]);
        }
        let composed = run(&leaves, |l| {
            let parts = (0..3).map(|i| {
                let low = l[0].clone().matmul(l[1 + 2 * i].clone().transpose());
                let y = l[0].clone().matmul(weights[i].clone().autodiff().transpose())
                    + low.matmul(l[2 + 2 * i].clone().transpose()).mul_scalar(0.5);
                let bias = Tensor::<1>::from_floats(bias.as_slice(), &Device::flex()).autodiff();
                if i == 2 { y + bias.unsqueeze() } else { y }
            });
            Tensor::cat(parts.collect(), 1)
        });
        for (precision, tolerance) in [(Precision::F32, 2e-6), (Precision::Bf16, 6e-2)] {
            let packed: Vec<Projection> = (0..3)
                .map(|i| {
                    let shape = [outs[i], inputs];
                    let weight = Packed::new(&values(outs[i] * inputs, 0.3), shape, (inputs, 1), 1.0, precision);
                    let bias = (i == 2).then(|| Arc::new(bias.clone()));
                    Projection { bias, ..Projection::plain(Arc::new(weight)) }
                })
                .collect();
            let fused = run(&leaves, |l| {
                let parts = (0..3).map(|i| {
                    let adapter = Adapter { a: l[1 + 2 * i].clone(), b: l[2 + 2 * i].clone(), scale: 0.5 };
                    (packed[i].clone(), Some(adapter))
                });
                project(l[0].clone(), parts.collect(), None, DType::F32)
            });
            close(&fused, &composed, tolerance);
        }
        let weight = Packed::new(&values(33 * inputs, 0.3), [33, inputs], (inputs, 1), 1.0, Precision::F32);
        let projection = Projection::plain(Arc::new(weight));
        let leaves = [leaf(rows, inputs, 0.1), leaf(rows, 33, 0.4)];
        let fused =
            run(&leaves, |l| project(l[0].clone(), vec![(projection.clone(), None)], Some(l[1].clone()), DType::F32));
        let composed = run(&leaves, |l| l[1].clone() + l[0].clone().matmul(weights[0].clone().autodiff().transpose()));
        close(&fused, &composed, 2e-6);
    }

    #[test]
    fn what_is_kept_is_what_the_estimate_counts() {
        let (inputs, outs, ranks) = (47, [33usize, 8], [3usize, 5]);
        let part = |out: usize| {
            let weight = Packed::new(&values(out * inputs, 0.3), [out, inputs], (inputs, 1), 1.0, Precision::F32);
            (Projection::plain(Arc::new(weight)), Some(0.5))
        };
        let operation = Project { parts: outs.map(part).to_vec(), has_residual: false, output: DType::F32 };
        let of = |rank: usize, out: usize| [rows(rank, inputs, DType::F32), rows(out, rank, DType::F32)];
        // The factors are there anyway; what an operation does not have is a number.
        let factors = ranks.iter().zip(outs).map(|(rank, out)| 4 * (rank * inputs + out * rank)).sum::<usize>() + 4 * 2;
        for dtype in [DType::F32, DType::BF16] {
            let factors_of = ranks.iter().zip(outs).flat_map(|(rank, out)| of(*rank, out));
            let all: Vec<FlexTensor> = [rows(7, inputs, dtype)].into_iter().chain(factors_of).collect();
            let found = kept(&operation, &all);
            let of_token = project_bytes(inputs as u64, dtype.size() as u64, ranks.iter().sum::<usize>() as u64);
            assert_eq!(found, 7 * of_token + factors as u64);
        }
    }
}
