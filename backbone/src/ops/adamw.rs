//! One update of AdamW with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101) on a flat vector, with
//! global-norm clipping and the guard against gradients that are not finite.

use burn::tensor::{Device, Tensor, TensorData};
use kernels::AdamWStep;

use super::Form;
use crate::values as host;

/// Settings of the optimizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the mean of the gradients and of their squares.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Fraction of a value taken off at learning rate 1.
    pub weight_decay: f64,
    /// The largest global norm of the gradient; `None` does not clip.
    pub clip_norm: Option<f64>,
}

/// Moments of all trained values, what corrects their bias, and where learning rates differ, all f32. All of it lives on the
/// device, so that an update that is skipped there needs no word from the host.
pub struct Moments {
    /// Mean of the gradients, `[length]`.
    pub first: Tensor<1>,
    /// Mean of the squared gradients, `[length]`.
    pub second: Tensor<1>,
    /// `1 - beta^updates` of the two moments, `[2]`, skipped updates not counted. Kept by `c <- beta c + (1 - beta)`, which
    /// loses no digits where the powers are near 1.
    pub corrections: Tensor<1>,
    /// Factor of the learning rate of each value, `[length]`; `None` where all have the same.
    pub factors: Option<Tensor<1>>,
}

impl Moments {
    /// Before the first update.
    pub fn zeros(length: usize, device: &Device) -> Self {
        let zeros = |length| Tensor::zeros([length], device);
        Self { first: zeros(length), second: zeros(length), corrections: zeros(2), factors: None }
    }
}

/// The inputs of an update beside values and moments.
struct Update<'a> {
    /// `[length]`
    gradient: Tensor<1>,
    /// `[1]`
    loss: Tensor<1>,
    settings: &'a AdamW,
    learning_rate: f64,
}

/// Values and moments after an update, and the gradient's global norm before clipping, `[1]`.
type Updated = (Tensor<1>, Moments, Tensor<1>);

/// Numbers that every form derives from the settings.
struct Derived {
    /// How much of the moments is kept.
    betas: [f64; 2],
    /// How much of the gradient comes to them. Derived in f64: 1 - 0.999 in f32 is off in the fifth digit.
    shares: [f64; 2],
    /// How much is taken off the values.
    decay: f64,
}

impl Update<'_> {
    fn derived(&self) -> Derived {
        let AdamW { betas, weight_decay, .. } = *self.settings;
        Derived { betas, shares: betas.map(|beta| 1.0 - beta), decay: self.learning_rate * weight_decay }
    }
}

/// One update. Gives the new values and the gradient's global norm before clipping, `[1]`. Where the norm or the loss is not
/// finite, the norm given back is not finite either, and values and moments stay as they were. Moments are updated in their
/// memory when nothing else holds them.
///
/// # Shapes
/// - `values`, `gradient`: `[length]`, `loss`: `[1]`, f32.
pub fn adamw(
    values: Tensor<1>,
    moments: &mut Moments,
    gradient: Tensor<1>,
    loss: Tensor<1>,
    settings: &AdamW,
    learning_rate: f64,
) -> (Tensor<1>, Tensor<1>) {
    let device = values.device();
    let before = std::mem::replace(moments, Moments::zeros(0, &device));
    let update = Update { gradient, loss, settings, learning_rate };
    let (values, after, norm) = match Form::on(&device) {
        Form::Cpu => in_one_pass(values, before, update),
        #[cfg(feature = "gpu")]
        Form::Gpu if before.factors.is_none() => on_gpu::adamw(values, before, update),
        _ => composed(values, before, update),
    };
    *moments = after;
    (values, norm)
}

/// On the CPU, where the host may look at the norm: a pass for that, and one for the update, in place.
fn in_one_pass(values: Tensor<1>, moments: Moments, update: Update) -> Updated {
    let device = values.device();
    let Derived { betas, shares, decay } = update.derived();
    let Update { gradient, loss, settings, learning_rate } = update;
    let vector = |values: Vec<f32>| {
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), &device)
    };
    let gradient = host(gradient);
    let norm = kernels::sum_of_squares(&gradient).sqrt();
    let judged = norm as f32 + host(loss)[0] * 0.0;
    if !judged.is_finite() {
        return (values, moments, vector(vec![judged]));
    }
    let Moments { first, second, corrections, factors } = moments;
    let (mut first, mut second, before) = (host(first), host(second), host(corrections));
    let [correction1, correction2] = [0, 1].map(|of| f64::from(before[of]) * betas[of] + shares[of]);
    let step = AdamWStep {
        gradient_scale: settings.clip_norm.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0)) as f32,
        betas: betas.map(|beta| beta as f32),
        shares: shares.map(|share| share as f32),
        rate: (learning_rate / correction1) as f32,
        root_scale: (1.0 / correction2.sqrt()) as f32,
        epsilon: settings.epsilon as f32,
        decay: decay as f32,
    };
    let mut updated = host(values);
    let of_rates = factors.clone().map(host).unwrap_or_default();
    kernels::adamw(&mut updated, &gradient, &mut first, &mut second, &of_rates, &step);
    let corrections = vector(vec![correction1 as f32, correction2 as f32]);
    let [values, first, second] = [updated, first, second].map(vector);
    (values, Moments { first, second, corrections, factors }, vector(vec![judged]))
}

fn composed(values: Tensor<1>, moments: Moments, update: Update) -> Updated {
    let Derived { betas, shares, decay } = update.derived();
    let Update { gradient, loss, settings, learning_rate } = update;
    let norm = sum_of_squares(&gradient).sqrt() + loss.mul_scalar(0.0);
    let finite = norm.clone().is_finite();
    let Moments { first, second, corrections, factors } = moments;
    let length = values.dims()[0];
    let keep = finite.clone().bool_not().expand([length]);
    let gradient = match settings.clip_norm {
        // As PyTorch's `clip_grad_norm_`: min(1, clip / (norm + 1e-6)).
        Some(clip) => gradient * (norm.clone() + 1e-6).recip().mul_scalar(clip).clamp_max(1.0),
        None => gradient,
    };
    let new_first = first.clone().mul_scalar(betas[0]) + gradient.clone().mul_scalar(shares[0]);
    let new_second = second.clone().mul_scalar(betas[1]) + (gradient.clone() * gradient).mul_scalar(shares[1]);
    let [correction1, correction2] =
        [0, 1].map(|of| corrections.clone().narrow(0, of, 1).mul_scalar(betas[of]).add_scalar(shares[of]));
    let denominator = (new_second.clone() / correction2.clone()).sqrt().add_scalar(settings.epsilon);
    let direction = new_first.clone() / denominator * correction1.clone().recip();
    let change = direction.mul_scalar(learning_rate) + values.clone().mul_scalar(decay);
    let updated = match &factors {
        Some(factors) => values.clone() - change * factors.clone(),
        None => values.clone() - change,
    };
    let still = finite.bool_not().expand([2]);
    let moments = Moments {
        first: new_first.mask_where(keep.clone(), first),
        second: new_second.mask_where(keep.clone(), second),
        corrections: Tensor::cat(vec![correction1, correction2], 0).mask_where(still, corrections),
        factors,
    };
    (updated.mask_where(keep, values), moments, norm)
}

/// The sum of squares, `[1]`, in an order that is always the same: a long sum in one piece is split between threads as
/// they come.
fn sum_of_squares(values: &Tensor<1>) -> Tensor<1> {
    if values.dims()[0] == 0 {
        return Tensor::zeros([1], &values.device());
    }
    let pieces = values.clone().split(1 << 20, 0);
    Tensor::cat(pieces.into_iter().map(|piece| (piece.clone() * piece).sum()).collect(), 0).sum()
}

/// On a GPU: kernels of the crate `cube`, outside of burn's graph.
#[cfg(feature = "gpu")]
mod on_gpu {
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
    use burn::tensor::{DType, Shape, Tensor};
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;

    use crate::ops::gpu::{beside, buffer};
    use crate::ops::gpu::{owned, scalars};
    use burn::backend::ExtensionType;
    use cube::{AdamWBuffers, AdamWStep};

    /// In three kernels, which have one rate for all.
    pub fn adamw(values: Tensor<1>, moments: super::Moments, update: super::Update) -> super::Updated {
        let super::Derived { betas, shares, decay } = update.derived();
        let super::Update { gradient, loss, settings, learning_rate } = update;
        let step = AdamWStep {
            betas: betas.map(|beta| beta as f32),
            shares: shares.map(|share| share as f32),
            clip_norm: settings.clip_norm.map_or(f32::MAX, |clip| clip as f32),
            rate: learning_rate as f32,
            epsilon: settings.epsilon as f32,
            keep: (1.0 - decay) as f32,
        };
        let super::Moments { first, second, corrections, factors } = moments;
        let [values, first, second, corrections] = [values, first, second, corrections].map(Tensor::into_dispatch);
        let state = AdamWState { values, first, second, corrections };
        let (gradient, loss) = (gradient.into_dispatch(), loss.into_dispatch());
        let (state, norm) = <Dispatch as AdamWKernels>::adamw(state, gradient, loss, step);
        let AdamWState { values, first, second, corrections } = state;
        let [values, first, second, corrections] = [values, first, second, corrections].map(Tensor::from_dispatch);
        (values, super::Moments { first, second, corrections, factors }, Tensor::from_dispatch(norm))
    }

    /// Values and [`super::Moments`] as one backend has them, without factors.
    #[derive(ExtensionType)]
    #[extension_type(fusion)]
    pub(crate) struct AdamWState<B: Backend> {
        values: FloatTensor<B>,
        first: FloatTensor<B>,
        second: FloatTensor<B>,
        corrections: FloatTensor<B>,
    }

    /// Outside of the graph.
    #[backend_extension(Cube, Fusion)]
    pub(crate) trait AdamWKernels: Backend {
        #[fusion(meta = |state, _gradient, _loss, _step| (state.clone(), scalars(1)))]
        fn adamw(
            #[extension_type] state: AdamWState<Self>,
            gradient: FloatTensor<Self>,
            loss: FloatTensor<Self>,
            step: AdamWStep,
        ) -> (AdamWState<Self>, FloatTensor<Self>);
    }

    impl AdamWKernels for CubeBackend {
        fn adamw(
            state: AdamWState<Self>,
            gradient: FloatTensor<Self>,
            loss: FloatTensor<Self>,
            step: AdamWStep,
        ) -> (AdamWState<Self>, FloatTensor<Self>) {
            let AdamWState { values, first, second, corrections } = state;
            let [values, gradient, loss] = [values, gradient, loss].map(into_contiguous);
            let [first, second, corrections] = [first, second, corrections].map(owned);
            let updated = beside(&values, values.shape(), DType::F32);
            let norm = beside(&values, Shape::new([1]), DType::F32);
            let buffers = AdamWBuffers {
                values: &buffer(&values),
                gradient: &buffer(&gradient),
                loss: &buffer(&loss),
                first: &buffer(&first),
                second: &buffer(&second),
                corrections: &buffer(&corrections),
                updated: &buffer(&updated),
                norm: &buffer(&norm),
            };
            cube::adamw(&values.client, &buffers, &step);
            (AdamWState { values: updated, first, second, corrections }, norm)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values;

    fn vector(values: &[f32]) -> Tensor<1> {
        Tensor::from_floats(values, &Device::flex())
    }

    #[test]
    fn one_pass_gives_what_the_composition_gives() {
        let numbers = |seed: f32| (0..1003).map(|i| (i as f32 * 0.7 + seed).sin()).collect::<Vec<_>>();
        let settings = AdamW { betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.01, clip_norm: Some(1.0) };
        let rates = vector(&[1.0, 16.0, 1.0, 0.5].repeat(251)[..1003]);
        for factors in [None, Some(rates)] {
            let start = || Moments { factors: factors.clone(), ..Moments::zeros(1003, &Device::flex()) };
            let [(mut a, mut of_a), (mut b, mut of_b)] = [0, 1].map(|_| (vector(&numbers(0.1)), start()));
            for step in 0..5 {
                let update = || Update {
                    gradient: vector(&numbers(step as f32)),
                    loss: vector(&[1.0]),
                    settings: &settings,
                    learning_rate: 0.1,
                };
                let (next_a, moments_a, norm_a) = in_one_pass(a, of_a, update());
                let (next_b, moments_b, norm_b) = composed(b, of_b, update());
                let close = |a: &Tensor<1>, b: &Tensor<1>| {
                    let (a, b) = (values(a.clone()), values(b.clone()));
                    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0)), "{step}");
                };
                close(&next_a, &next_b);
                close(&norm_a, &norm_b);
                close(&moments_a.corrections, &moments_b.corrections);
                close(&moments_a.second, &moments_b.second);
                (a, of_a, b, of_b) = (next_a, moments_a, next_b, moments_b);
            }
        }
    }
}
