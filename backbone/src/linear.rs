//! A projection with an optional low-rank adapter beside it.

use std::sync::Arc;

use burn::tensor::{DType, Tensor};
use faults::Fault;
use kernels::{Dropout, Dropped};
use losses::Parameter;

use super::Context;
use super::lora::Lora;
use super::ops::Matrix;
use super::source::Source;
use crate::ops;

/// `y = x W^T + b`, the matrix frozen or trained, with what an adapter adds.
pub struct Linear {
    name: String,
    /// `[out, in]`
    weight: Matrix,
    /// `[out]`
    bias: Option<Tensor<1>>,
    lora: Option<Lora>,
}

impl Linear {
    pub(super) fn load(source: &Source, name: &str, shape: [usize; 2], bias: bool) -> Result<Self, Fault> {
        let weight = source.projection(&format!("{name}.weight"), shape)?;
        let bias = if bias { Some(source.vector(&format!("{name}.bias"), shape[0], 0.0)?) } else { None };
        Ok(Self { name: name.into(), weight, bias, lora: None })
    }

    /// A projection by a frozen matrix that another part of the model has, too.
    pub(super) fn sharing(name: &str, weight: Matrix) -> Self {
        Self { name: name.into(), weight, bias: None, lora: None }
    }

    /// The dotted path, for example `model.layers.0.self_attn.q_proj`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        self.weight.shape()
    }

    /// The matrix itself, without the adapter.
    pub(super) fn weight(&self) -> &Matrix {
        &self.weight
    }

    /// The adapter, if there is one.
    pub(super) fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    /// What stands beside the matrix in a pass.
    fn lora_in(&self, context: &Context) -> Option<&Lora> {
        let lora = self.lora.as_ref()?;
        if context.without_adapter { lora.taken() } else { Some(lora) }
    }

    /// Puts another matrix of the same shape in the place of a frozen one.
    pub(super) fn replace_weight(&mut self, weight: Matrix) {
        assert_eq!(weight.shape(), self.shape(), "a matrix of another shape");
        self.weight = weight;
    }

    /// Puts an adapter beside the matrix.
    pub(super) fn attach(&mut self, lora: Lora) {
        self.lora = Some(lora);
    }

    /// # Shapes
    /// - `x`: `[tokens, in]`; output `[tokens, out]`. Tracked when `x` is.
    pub fn forward(&self, x: Tensor<2>, context: &Context) -> Tensor<2> {
        context.watch(&self.name, &x);
        let scaled = self.is_scaled(context);
        if let Some(part) = self.packed_part(&x, context, !scaled) {
            return match scaled {
                true => project_scaled(&[self], vec![part], x, None, DType::F32, context),
                false => ops::project(x, vec![part], None, DType::F32),
            };
        }
        let y = self.product(x.clone());
        let dtype = y.dtype();
        let with_bias = |y: Tensor<2>| match &self.bias {
            Some(bias) => y + beside(bias, &x).unsqueeze(),
            None => y,
        };
        let Some(lora) = self.lora_in(context) else { return with_bias(y) };
        let (a, b) = (lora.a(&x).cast(dtype), lora.b(&x).cast(dtype));
        let x = x.clone().cast(dtype);
        let mask = lora.mask(&self.name, &x, context.dropout_seed);
        let dropped = mask.clone().map_or_else(|| x.clone(), |mask| x.clone() * mask);
        let low = dropped.clone().matmul(a.transpose()).matmul(b.transpose()).mul_scalar(lora.scale());
        if !scaled {
            return with_bias(y) + low;
        }
        let gain = self.gain(&x);
        with_bias(match mask {
            // As PEFT: the rows' new lengths act on what is dropped too, on top of the plain product.
            Some(_) => y + ops::times_gain(self.product(dropped), gain.clone() - 1.0) + ops::times_gain(low, gain),
            None => ops::times_gain(y + low, gain),
        })
    }

    /// `x W^T`
    fn product(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.weight {
            Matrix::Tensor(weight) => x.clone().matmul(beside(weight, &x).transpose()),
            Matrix::Packed(weight) => {
                ops::project(x, vec![(ops::Projection::plain(weight.clone()), None)], None, DType::F32)
            }
            Matrix::Codes(weight) => weight.product(x),
        }
    }

    /// What the rows of the adapted matrix are multiplied with, `[out]`; ones where they are left as they are.
    fn gain(&self, x: &Tensor<2>) -> Tensor<1> {
        let gain = self.lora.as_ref().and_then(|lora| lora.gain(&self.weight, x));
        gain.map_or_else(|| Tensor::ones([self.shape()[0]], &x.device().inner()), |(_, gain)| gain)
    }

    fn host_bias(&self) -> Option<Arc<Vec<f32>>> {
        let host = |bias: &Tensor<1>| Arc::new(crate::values(bias.clone().inner()));
        self.bias.as_ref().map(host)
    }

    /// True when rows of the adapted matrix have trained lengths.
    fn is_scaled(&self, context: &Context) -> bool {
        self.lora_in(context).is_some_and(Lora::has_magnitude)
    }

    /// What drops inputs of the adapter in this pass.
    fn dropout(&self, context: &Context) -> Option<Dropout> {
        self.lora_in(context).and_then(|lora| lora.dropout(&self.name, context.dropout_seed))
    }

    /// This projection as a part of a fused one, with its bias or without; `None` where it has to be composed, because the
    /// matrix is not packed. With trained lengths and dropped inputs it is the half of it that has these lengths.
    fn packed_part(&self, x: &Tensor<2>, context: &Context, with_bias: bool) -> Option<FusedPart> {
        let Matrix::Packed(weight) = &self.weight else { return None };
        let bias = if with_bias { self.host_bias() } else { None };
        let dropped = match self.dropout(context) {
            Some(dropout) if self.is_scaled(context) => Dropped::Both(dropout),
            Some(dropout) => Dropped::Adapter(dropout),
            None => Dropped::Nothing,
        };
        let adapter =
            self.lora_in(context).map(|lora| ops::Adapter { a: lora.a(x), b: lora.b(x), scale: lora.scale() });
        Some((ops::Projection { weight: weight.clone(), bias, dropped }, adapter))
    }

    /// The other half: the matrix alone, of what the first does not see.
    fn rest_part(&self, context: &Context) -> Option<FusedPart> {
        let (Matrix::Packed(weight), Some(dropout)) = (&self.weight, self.dropout(context)) else { return None };
        let bias = self.host_bias();
        Some((ops::Projection { weight: weight.clone(), bias, dropped: Dropped::Rest(dropout) }, None))
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        if let Matrix::Tensor(weight) = &mut self.weight {
            visit(&format!("{}.weight", self.name), Parameter::Matrix(weight));
        }
        if let Some(bias) = &mut self.bias {
            visit(&format!("{}.bias", self.name), Parameter::Vector(bias));
        }
        if let Some(lora) = &mut self.lora {
            lora.visit(&self.name, visit);
        }
    }
}

/// A frozen projection and the adapter beside it.
type FusedPart = (ops::Projection, Option<ops::Adapter>);

/// Projections of one input, side by side.
///
/// # Shapes
/// - `x`: `[tokens, in]`; output `[tokens, sum of out]`, of the type of `x`.
pub(super) fn project_together(linears: &[Linear], x: Tensor<2>, context: &Context) -> Tensor<2> {
    let dtype = x.dtype();
    let scaled = linears.iter().any(|linear| linear.is_scaled(context));
    let dropping = linears.iter().filter(|linear| linear.dropout(context).is_some()).count();
    // The second half of projections with trained lengths is there for all or for none.
    let alike = !scaled || [0, linears.len()].contains(&dropping);
    let parts: Option<Vec<_>> = linears.iter().map(|linear| linear.packed_part(&x, context, !scaled)).collect();
    let Some(parts) = parts.filter(|_| alike) else {
        return Tensor::cat(linears.iter().map(|linear| linear.forward(x.clone(), context).cast(dtype)).collect(), 1);
    };
    context.watch(&linears[0].name, &x);
    match scaled {
        true => project_scaled(&linears.iter().collect::<Vec<_>>(), parts, x, None, dtype, context).cast(dtype),
        false => ops::project(x, parts, None, dtype),
    }
}

/// [`ops::project`] where rows have trained lengths. Where inputs `d` of the adapter are left by dropout, PEFT's
/// `W x + b + (g - 1) W d + g s B A d` is `W (x - d) + b + g (W + s B A) d`: two halves that keep nothing but `x`.
fn project_scaled(
    linears: &[&Linear],
    parts: Vec<FusedPart>,
    x: Tensor<2>,
    residual: Option<Tensor<2>>,
    dtype: DType,
    context: &Context,
) -> Tensor<2> {
    let gain = Tensor::cat(linears.iter().map(|linear| linear.gain(&x)).collect(), 0);
    let rests: Option<Vec<_>> = linears.iter().map(|linear| linear.rest_part(context)).collect();
    let z = ops::project(x.clone(), parts, None, dtype);
    if let Some(rests) = rests {
        let rest = ops::project(x, rests, residual, DType::F32);
        return ops::scale_columns(z, gain, None, Some(rest));
    }
    let bias = linears.iter().any(|linear| linear.bias.is_some()).then(|| {
        let own = |linear: &&Linear| linear.host_bias().map_or_else(|| vec![0.0; linear.shape()[0]], |b| b.to_vec());
        Arc::new(linears.iter().flat_map(own).collect())
    });
    ops::scale_columns(z, gain, bias, residual)
}

/// Parts of these `widths`, each of a projection of its own, or all of one.
///
/// # Shapes
/// - `x`: `[tokens, in]`; outputs `[tokens, width]`.
pub(super) fn project_apart<const N: usize>(
    linears: &[Linear],
    widths: [usize; N],
    x: Tensor<2>,
    context: &Context,
) -> [Tensor<2>; N] {
    if let [linear] = linears {
        let (y, mut start) = (linear.forward(x, context), 0);
        return widths.map(|width| {
            start += width;
            y.clone().narrow(1, start - width, width)
        });
    }
    let mut linears = linears.iter();
    widths.map(|_| linears.next().expect("a projection for each width").forward(x.clone(), context))
}

/// `residual + linear(x)`, or the projection alone.
///
/// # Shapes
/// - `x`: `[tokens, in]`; `residual` and output: `[tokens, out]`, of the type of `residual`.
pub(super) fn project_onto(residual: Option<Tensor<2>>, linear: &Linear, x: Tensor<2>, context: &Context) -> Tensor<2> {
    let Some(residual) = residual else { return linear.forward(x, context) };
    match linear.packed_part(&x, context, true) {
        Some(part) if linear.bias.is_none() && residual.dtype() == DType::F32 => {
            context.watch(&linear.name, &x);
            let dtype = x.dtype();
            match linear.is_scaled(context) {
                true => project_scaled(&[linear], vec![part], x, Some(residual), dtype, context),
                false => ops::project(x, vec![part], Some(residual), DType::F32),
            }
        }
        _ => residual + linear.forward(x, context),
    }
}

/// A weight on the side of `x`: a tracked leaf in a tracked computation, its plain values in any other.
pub(super) fn beside<const D: usize, const E: usize>(weight: &Tensor<D>, x: &Tensor<E>) -> Tensor<D> {
    if x.is_autodiff() { weight.clone() } else { weight.clone().inner() }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use kernels::{Packed, Precision};

    use super::*;

    fn values(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.7 + seed).sin()).collect()
    }

    fn host(tensor: Tensor<2>) -> Vec<f64> {
        crate::values(tensor.flatten(0, 1)).into_iter().map(f64::from).collect()
    }

    /// DoRA with dropped inputs, as PEFT's `DoraLinearVariant.forward` has it in training:
    /// `W x + b + (g - 1) W d + g s B A d`, d what is left of x, in plain f64.
    #[test]
    fn dora_acts_on_dropped_inputs_as_in_peft() {
        let (tokens, inputs, outputs, rank, scale) = (5, 6, 7, 2, 0.8);
        let matrix = |rows: usize, columns: usize, seed: f32| -> Tensor<2> {
            Tensor::from_data(TensorData::new(values(rows * columns, seed), [rows, columns]), &Device::flex())
        };
        let weight = Packed::new(&values(outputs * inputs, 0.1), [outputs, inputs], (inputs, 1), 1.0, Precision::F32);
        let weight = Matrix::Packed(Arc::new(weight));
        let lengths = Tensor::from_data(TensorData::new(values(outputs, 2.0), [outputs]), &Device::flex());
        let (a, b) = (matrix(rank, inputs, 0.2), matrix(outputs, rank, 0.3));
        let lora = Lora::new(a.clone(), b.clone(), scale, 0.5).with_magnitude(&weight, Some(lengths));
        let bias = Tensor::from_data(TensorData::new(values(outputs, 0.4), [outputs]), &Device::flex());
        let (x, seed) = (matrix(tokens, inputs, 0.5), 9);
        let mask = host(lora.mask("it", &x, Some(seed)).expect("inputs are dropped"));
        assert!(mask.contains(&0.0) && mask.contains(&2.0), "{mask:?}");
        let mut linear = Linear { name: "it".into(), weight, bias: Some(bias), lora: None };
        linear.attach(lora);
        let context = Context::without_positions;
        let (w, a, b, x) = (values(outputs * inputs, 0.1), host(a), host(b), host(x));
        let expected = |mask: &[f64]| -> Vec<f64> {
            let dropped: Vec<f64> = x.iter().zip(mask).map(|(x, mask)| x * mask).collect();
            let mut y = Vec::new();
            for token in 0..tokens {
                for output in 0..outputs {
                    let w: Vec<f64> = w[output * inputs..][..inputs].iter().map(|w| f64::from(*w)).collect();
                    let more =
                        |i: usize| scale * (0..rank).map(|r| b[output * rank + r] * a[r * inputs + i]).sum::<f64>();
                    let norm = (0..inputs).map(|i| (w[i] + more(i)).powi(2)).sum::<f64>().sqrt();
                    let gain = f64::from(values(outputs, 2.0)[output]) / norm;
                    let dot = |row: &dyn Fn(usize) -> f64, x: &[f64]| -> f64 {
                        (0..inputs).map(|i| row(i) * x[token * inputs + i]).sum()
                    };
                    let own = dot(&|i| w[i], &x) + (gain - 1.0) * dot(&|i| w[i], &dropped);
                    y.push(own + gain * dot(&more, &dropped) + f64::from(values(outputs, 0.4)[output]));
                }
            }
            y
        };
        let input = || matrix(tokens, inputs, 0.5);
        let close = |found: Vec<f64>, expected: Vec<f64>| {
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(found.len() == expected.len() && worst < 1e-5, "{worst}");
        };
        close(host(linear.forward(input(), &context(Some(seed)))), expected(&mask));
        close(host(linear.forward(input(), &context(None))), expected(&vec![1.0; tokens * inputs]));
    }

    /// Projections of packed matrices beside those that are composed of burn's operations, with the same inputs dropped:
    /// alone, side by side, and onto a residual, forward and backward.
    #[test]
    fn dropped_inputs_are_those_of_the_composed_projections() {
        let (tokens, inputs, outputs, rank) = (9, 12, [7, 5], 3);
        let matrix = |rows: usize, columns: usize, seed: f32| -> Tensor<2> {
            Tensor::from_data(TensorData::new(values(rows * columns, seed), [rows, columns]), &Device::flex())
        };
        let context = Context::without_positions(Some(3));
        for (scaled, bias) in [(false, true), (true, false), (true, true)] {
            let linears = |packed: bool| -> Vec<Linear> {
                let linear = |(index, outputs): (usize, usize)| {
                    let seed = index as f32;
                    let shape = [outputs, inputs];
                    let plain = values(outputs * inputs, seed);
                    let plain = match packed {
                        true => Matrix::Packed(Arc::new(Packed::new(&plain, shape, (inputs, 1), 1.0, Precision::F32))),
                        false => Matrix::Tensor(matrix(outputs, inputs, seed).autodiff()),
                    };
                    let lora = Lora::new(matrix(rank, inputs, seed + 0.2), matrix(outputs, rank, seed + 0.3), 0.8, 0.4);
                    let lengths = Tensor::from_data(TensorData::new(values(outputs, 2.0), [outputs]), &Device::flex());
                    let lora = if scaled { lora.with_magnitude(&plain, Some(lengths)) } else { lora };
                    let bias = Tensor::from_data(TensorData::new(values(outputs, 0.4), [outputs]), &Device::flex());
                    Linear { name: format!("{index}"), weight: plain, bias: Some(bias), lora: Some(lora) }
                };
                let both = outputs.into_iter().enumerate().map(linear);
                both.map(|linear| if bias { linear } else { Linear { bias: None, ..linear } }).collect()
            };
            let run = |mut linears: Vec<Linear>| -> Vec<Vec<f64>> {
                let x = matrix(tokens, inputs, 0.5).autodiff().require_grad();
                let residual = matrix(tokens, outputs[0], 0.9).autodiff().require_grad();
                let together = project_together(&linears, x.clone(), &context);
                let onto = project_onto(Some(residual.clone()), &linears[0], x.clone(), &context);
                let alone = linears[1].forward(x.clone(), &context);
                let y = Tensor::cat(vec![together, onto, alone], 1);
                let weights = matrix(tokens, y.dims()[1], 0.7).autodiff();
                let mut gradients = (y.clone() * weights).sum().backward();
                let mut found = vec![host(y.inner())];
                found.extend([&x, &residual].map(|leaf| host(leaf.grad(&gradients).expect("a gradient"))));
                for linear in &mut linears {
                    let lora = linear.lora.as_mut().expect("an adapter");
                    lora.visit("", &mut |_, parameter| {
                        found.push(match parameter {
                            Parameter::Matrix(leaf) => host(leaf.grad_remove(&mut gradients).expect("a gradient")),
                            Parameter::Vector(leaf) => {
                                host(leaf.grad_remove(&mut gradients).expect("a gradient").unsqueeze())
                            }
                        });
                    });
                }
                found
            };
            let (fused, composed) = (run(linears(true)), run(linears(false)));
            assert_eq!(fused.len(), if scaled { 9 } else { 7 });
            for (fused, composed) in fused.iter().zip(&composed) {
                let scale = composed.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
                let worst = fused.iter().zip(composed).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(fused.len() == composed.len() && worst < 2e-6 * scale, "{scaled} {bias}: {worst}");
            }
        }
    }
}
