//! On the CPU, of packed matrices: matrix, bias, adapter and dropout of up to three projections in one operation.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor};
use kernels::{Dropout, Dropped, Factors, Packed, Part};

use super::Projection;
use crate::ops::columns::scale_columns;
use crate::ops::cpu::{Call, INPUTS, Operation, gathered, shape, slice, tensor, with_values};

/// A projection whose matrix is packed.
pub(super) struct PackedProjection<'a> {
    pub of: Projection<'a>,
    pub weight: Arc<Packed>,
}

/// A frozen matrix with its bias.
#[derive(Debug, Clone)]
struct Frozen {
    /// `[out, in]`
    weight: Arc<Packed>,
    /// `[out]`
    bias: Option<Arc<Vec<f32>>>,
    /// The inputs that dropout takes away, from the adapter alone or from the matrix as well.
    dropped: Dropped,
}

/// The trained factors beside a projection.
struct Adapter {
    /// `[rank, in]`, f32.
    a: Tensor<2>,
    /// `[out, rank]`, f32.
    b: Tensor<2>,
    /// Factor of their product.
    scale: f64,
}

impl PackedProjection<'_> {
    fn frozen(&self, bias: Option<Arc<Vec<f32>>>, dropped: Dropped) -> Frozen {
        Frozen { weight: self.weight.clone(), bias, dropped }
    }

    fn host_bias(&self) -> Option<Arc<Vec<f32>>> {
        let host = |bias: &Tensor<1>| Arc::new(crate::values(bias.clone().inner()));
        self.of.bias.map(host)
    }

    /// Matrix and adapter, with the bias or without. With trained lengths and dropped inputs it is the half that has
    /// these lengths.
    fn part(&self, x: &Tensor<2>, with_bias: bool) -> (Frozen, Option<Adapter>) {
        let bias = if with_bias { self.host_bias() } else { None };
        let dropped = match self.of.dropout() {
            Some(dropout) if self.of.is_scaled() => Dropped::Both(dropout),
            Some(dropout) => Dropped::Adapter(dropout),
            None => Dropped::Nothing,
        };
        let adapter = self.of.lora.map(|lora| Adapter { a: lora.a(x), b: lora.b(x), scale: lora.scale() });
        (self.frozen(bias, dropped), adapter)
    }

    /// The other half: the matrix alone, of the inputs that the first drops.
    fn rest(&self, dropout: Dropout) -> (Frozen, Option<Adapter>) {
        (self.frozen(self.host_bias(), Dropped::Rest(dropout)), None)
    }
}

/// `x W^T`, in f32.
pub(crate) fn product(x: Tensor<2>, weight: Arc<Packed>) -> Tensor<2> {
    run(x, vec![(Frozen { weight, bias: None, dropped: Dropped::Nothing }, None)], None, DType::F32)
}

/// Projections of one input side by side, computed in the type `inner` and given in the type `output`. One alone and without
/// a bias takes a `residual` to stand on.
pub(super) fn project(
    projections: &[PackedProjection],
    x: Tensor<2>,
    residual: Option<Tensor<2>>,
    inner: DType,
    output: DType,
) -> Tensor<2> {
    match projections.iter().any(|projection| projection.of.is_scaled()) {
        true => scaled(projections, x, residual, inner).cast(output),
        false => {
            let parts = projections.iter().map(|projection| projection.part(&x, true)).collect();
            run(x, parts, residual, output)
        }
    }
}

/// Where rows have trained lengths. Where dropout leaves `d` of the adapter's inputs, PEFT's
/// `W x + b + (g - 1) W d + g s B A d` is `W (x - d) + b + g (W + s B A) d`: two halves that keep nothing but `x`.
fn scaled(projections: &[PackedProjection], x: Tensor<2>, residual: Option<Tensor<2>>, inner: DType) -> Tensor<2> {
    let gain = Tensor::cat(projections.iter().map(|projection| projection.of.gain(&x)).collect(), 0);
    let rests: Option<Vec<_>> = (projections.iter())
        .map(|projection| projection.of.dropout().map(|dropout| projection.rest(dropout)))
        .collect();
    let parts = projections.iter().map(|projection| projection.part(&x, false)).collect();
    let z = run(x.clone(), parts, None, inner);
    if let Some(rests) = rests {
        let rest = run(x, rests, residual, DType::F32);
        return scale_columns(z, gain, None, Some(rest));
    }
    let bias = projections.iter().any(|projection| projection.of.bias.is_some()).then(|| {
        let own = |projection: &PackedProjection| {
            let outputs = projection.weight.shape()[0];
            projection.host_bias().map_or_else(|| vec![0.0; outputs], |bias| bias.to_vec())
        };
        Arc::new(projections.iter().flat_map(own).collect())
    });
    scale_columns(z, gain, bias, residual)
}

/// `x W^T + bias + scale * x A^T B^T` of up to three projections of one input, side by side, on top of `residual`, which
/// takes a single projection without a bias.
///
/// # Shapes
/// - `x`: `[tokens, in]`, f32 or bf16; `residual`: `[tokens, out]`, f32.
/// - output: `[tokens, sum of out]`, in the type `output`.
fn run(x: Tensor<2>, parts: Vec<(Frozen, Option<Adapter>)>, residual: Option<Tensor<2>>, output: DType) -> Tensor<2> {
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
    parts: Vec<(Frozen, Option<f32>)>,
    has_residual: bool,
    output: DType,
}

impl Project {
    /// The parts with their factors: A and B of part `i` at `2 i` and `2 i + 1`.
    fn parts<'a>(&'a self, factors: &'a [FlexTensor]) -> Vec<Part<'a>> {
        let parts = self.parts.iter().enumerate().map(|(index, (frozen, scale))| Part {
            weight: &frozen.weight,
            bias: frozen.bias.as_ref().map(|bias| bias.as_slice()),
            factors: scale.map(|scale| Factors {
                a: slice(&factors[2 * index]),
                b: slice(&factors[2 * index + 1]),
                scale,
            }),
            dropped: frozen.dropped,
        });
        parts.collect()
    }

    fn outputs(&self) -> usize {
        self.parts.iter().map(|(frozen, _)| frozen.weight.shape()[0]).sum()
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
    use crate::ops::testing::{close, kept, leaf, plain, rows, run as both_ways, values};
    use crate::ops::{Keeping, low_rank_bytes, project_bytes};

    fn plain_of(weight: Packed) -> Frozen {
        Frozen { weight: Arc::new(weight), bias: None, dropped: Dropped::Nothing }
    }

    #[test]
    fn projections_are_the_composed_products_with_adapters_bias_and_residual() {
        let (rows, inputs, outs) = (31, 47, [33usize, 8, 70]);
        let weights: Vec<Tensor<2>> = outs.iter().map(|out| plain(*out, inputs, 0.3)).collect();
        let bias = values(70, 0.9);
        let mut leaves = vec![leaf(rows, inputs, 0.1)];
        for (out, rank) in outs.iter().zip([3, 4, 5]) {
            leaves.extend([leaf(rank, inputs, 0.2), leaf(*out, rank, 0.6)]);
        }
        let composed = both_ways(&leaves, |l| {
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
            let packed: Vec<Frozen> = (0..3)
                .map(|i| {
                    let shape = [outs[i], inputs];
                    let weight = Packed::new(&values(outs[i] * inputs, 0.3), shape, (inputs, 1), 1.0, precision);
                    let bias = (i == 2).then(|| Arc::new(bias.clone()));
                    Frozen { bias, ..plain_of(weight) }
                })
                .collect();
            let fused = both_ways(&leaves, |l| {
                let parts = (0..3).map(|i| {
                    let adapter = Adapter { a: l[1 + 2 * i].clone(), b: l[2 + 2 * i].clone(), scale: 0.5 };
                    (packed[i].clone(), Some(adapter))
                });
                run(l[0].clone(), parts.collect(), None, DType::F32)
            });
            close(&fused, &composed, tolerance);
        }
        let weight = Packed::new(&values(33 * inputs, 0.3), [33, inputs], (inputs, 1), 1.0, Precision::F32);
        let projection = plain_of(weight);
        let leaves = [leaf(rows, inputs, 0.1), leaf(rows, 33, 0.4)];
        let fused =
            both_ways(&leaves, |l| run(l[0].clone(), vec![(projection.clone(), None)], Some(l[1].clone()), DType::F32));
        let composed =
            both_ways(&leaves, |l| l[1].clone() + l[0].clone().matmul(weights[0].clone().autodiff().transpose()));
        close(&fused, &composed, 2e-6);
    }

    #[test]
    fn what_is_kept_is_what_the_estimate_counts() {
        let (inputs, outs, ranks) = (47, [33usize, 8], [3usize, 5]);
        let part = |out: usize| {
            let weight = Packed::new(&values(out * inputs, 0.3), [out, inputs], (inputs, 1), 1.0, Precision::F32);
            (plain_of(weight), Some(0.5))
        };
        let operation = Project { parts: outs.map(part).to_vec(), has_residual: false, output: DType::F32 };
        let of = |rank: usize, out: usize| [rows(rank, inputs, DType::F32), rows(out, rank, DType::F32)];
        // The factors are there anyway; what an operation does not have is a number.
        let factors = ranks.iter().zip(outs).map(|(rank, out)| 4 * (rank * inputs + out * rank)).sum::<usize>() + 4 * 2;
        for dtype in [DType::F32, DType::BF16] {
            let factors_of = ranks.iter().zip(outs).flat_map(|(rank, out)| of(*rank, out));
            let all: Vec<FlexTensor> = [rows(7, inputs, dtype)].into_iter().chain(factors_of).collect();
            let found = kept(&operation, &all);
            let keeping = Keeping { size: dtype.size() as u64, is_packed: true, drops: false };
            let of_token = project_bytes(&keeping, inputs as u64, 2)
                + low_rank_bytes(&keeping, ranks.iter().sum::<usize>() as u64);
            assert_eq!(found, 7 * of_token + factors as u64);
        }
    }
}
