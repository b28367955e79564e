//! The trained tensors and their gradients as one flat vector each.
//!
//! This is the one place where gradients meet, before clipping: the sum over several devices or machines would be taken
//! of [`GradientSum::flatten`]'s result.

use std::collections::HashMap;

use burn::tensor::{DType, Device, Gradients, Tensor, TensorData, s};
use losses::Parameter;

use super::trainee::{Trainee, auxiliary_name};

/// One trained tensor's place in the flat vector.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Name as [`Trainee::visit_trained`] gives it.
    pub name: String,
    /// Its own shape.
    pub shape: Vec<usize>,
    /// First element in the flat vector.
    pub offset: usize,
    /// Number of elements.
    pub length: usize,
}

/// Where each trained tensor stands in the flat vector.
pub struct Layout {
    /// In the order of [`Trainee::visit_trained`], without gaps.
    pub slots: Vec<Slot>,
    /// Number of values at the end that are controls.
    pub controls: usize,
    index: HashMap<String, usize>,
    device: Device,
}

impl Layout {
    /// The layout of everything that `trainee` trains.
    pub fn of(trainee: &mut Trainee) -> Self {
        let device = trainee.decoder.device().clone();
        let mut slots: Vec<Slot> = Vec::new();
        trainee.visit_trained(&mut |name, parameter| {
            let shape = match parameter {
                Parameter::Vector(tensor) => tensor.dims().to_vec(),
                Parameter::Matrix(tensor) => tensor.dims().to_vec(),
            };
            let offset = slots.last().map_or(0, |slot| slot.offset + slot.length);
            slots.push(Slot { name: name.into(), length: shape.iter().product(), shape, offset });
        });
        let index = slots.iter().enumerate().map(|(index, slot)| (slot.name.clone(), index)).collect();
        let controls = slots.iter().filter(|slot| trainee.is_control(&slot.name)).map(|slot| slot.length).sum();
        Self { slots, controls, index, device }
    }

    /// Number of trained values.
    pub fn length(&self) -> usize {
        self.slots.last().map_or(0, |slot| slot.offset + slot.length)
    }

    /// The trained values as one f32 vector, `[length]`.
    pub fn gather(&self, trainee: &mut Trainee) -> Tensor<1> {
        let mut pieces = Vec::with_capacity(self.slots.len());
        trainee.visit_trained(&mut |_, parameter| {
            pieces.push(match parameter {
                Parameter::Vector(tensor) => tensor.clone().inner().cast(DType::F32),
                Parameter::Matrix(tensor) => tensor.clone().inner().flatten(0, 1).cast(DType::F32),
            });
        });
        if pieces.is_empty() { Tensor::zeros([0], &self.device) } else { Tensor::cat(pieces, 0) }
    }

    /// Factors of the learning rate of each trained value, `[length]`: `ratio` for every `B` of a projection (LoRA+, Hayou
    /// et al. 2024, arXiv 2402.12354), 1 for all else.
    pub fn rate_factors(&self, ratio: f64) -> Tensor<1> {
        let factor = |slot: &Slot| if slot.name.ends_with(".lora_B.weight") { ratio as f32 } else { 1.0 };
        let factors: Vec<f32> =
            self.slots.iter().flat_map(|slot| std::iter::repeat_n(factor(slot), slot.length)).collect();
        Tensor::from_data(TensorData::new(factors, [self.length()]), &self.device)
    }

    /// `updated` with a part of the update taken back where an auxiliary loss damps its own parameters.
    pub fn damp(&self, before: &Tensor<1>, updated: Tensor<1>, trainee: &Trainee, step: usize) -> Tensor<1> {
        let mut updated = updated;
        for (index, auxiliary) in trainee.auxiliaries.iter().enumerate() {
            let damping = auxiliary.damping(step);
            let prefix = auxiliary_name(index, "");
            if damping == 0.0 {
                continue;
            }
            for slot in self.slots.iter().filter(|slot| slot.name.starts_with(&prefix)) {
                let (start, length) = (slot.offset, slot.length);
                let old = before.clone().narrow(0, start, length);
                let new = updated.clone().narrow(0, start, length);
                let kept = old.clone() + (new - old).mul_scalar(1.0 - damping);
                updated = updated.slice_assign(s![start..start + length], kept);
            }
        }
        updated
    }

    /// Puts the values of a flat vector in place of the trained tensors, as fresh leaves.
    pub fn scatter(&self, values: &Tensor<1>, trainee: &mut Trainee) {
        let mut slots = self.slots.iter();
        trainee.visit_trained(&mut |_, parameter| {
            let slot = slots.next().expect("the layout was made from this trainee");
            let piece = values.clone().narrow(0, slot.offset, slot.length);
            match parameter {
                Parameter::Vector(tensor) => {
                    *tensor = piece.cast(tensor.dtype()).autodiff().require_grad();
                }
                Parameter::Matrix(tensor) => {
                    let shape = [slot.shape[0], slot.shape[1]];
                    *tensor = piece.reshape(shape).cast(tensor.dtype()).autodiff().require_grad();
                }
            }
        });
    }
}

/// Gradients added up over the micro-batches of one optimizer step.
pub struct GradientSum<'a> {
    layout: &'a Layout,
    sums: Vec<Option<Tensor<1>>>,
}

impl<'a> GradientSum<'a> {
    /// No gradient yet.
    pub fn new(layout: &'a Layout) -> Self {
        Self { layout, sums: vec![None; layout.slots.len()] }
    }

    /// Takes the gradient of one parameter out of a backward pass, if it got one.
    pub fn take(&mut self, name: &str, parameter: &Parameter<'_>, gradients: &mut Gradients) {
        let gradient = match parameter {
            Parameter::Vector(tensor) => tensor.grad_remove(gradients),
            Parameter::Matrix(tensor) => tensor.grad_remove(gradients).map(|gradient| gradient.flatten(0, 1)),
        };
        if let Some(gradient) = gradient {
            self.add(name, gradient);
        }
    }

    /// Adds a gradient that was computed by hand, flattened. A tensor that is not trained is passed over.
    pub fn add(&mut self, name: &str, gradient: Tensor<1>) {
        let Some(&index) = self.layout.index.get(name) else { return };
        let gradient = gradient.cast(DType::F32);
        self.sums[index] = Some(match self.sums[index].take() {
            Some(sum) => sum + gradient,
            None => gradient,
        });
    }

    /// One f32 vector, `[length]`, zero where no gradient came.
    pub fn flatten(self) -> Tensor<1> {
        let device = &self.layout.device;
        let pieces: Vec<Tensor<1>> = (self.layout.slots.iter().zip(self.sums))
            .map(|(slot, sum)| sum.unwrap_or_else(|| Tensor::zeros([slot.length], device)))
            .collect();
        if pieces.is_empty() { Tensor::zeros([0], device) } else { Tensor::cat(pieces, 0) }
    }
}
