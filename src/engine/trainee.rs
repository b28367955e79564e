//! All that is trained in a run: the adapter (or the whole backbone), and the auxiliary losses' own parameters.

use backbone::{Decoder, values};
use burn::tensor::{DType, Tensor};
use losses::{Auxiliary, Parameter};

/// The model in training with its auxiliary losses.
pub struct Trainee {
    /// The backbone with its adapter.
    pub decoder: Decoder,
    /// The auxiliary losses, in the recipe's order.
    pub auxiliaries: Vec<Box<dyn Auxiliary>>,
}

impl Trainee {
    /// Shows every trained tensor by its name, in an order that never changes: first the backbone's, then each auxiliary
    /// loss's under `auxiliary.N.`, and last those of the auxiliary losses that are controls.
    pub fn visit_trained(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        self.decoder.visit(&mut |name, parameter| {
            if requires_gradient(&parameter) {
                visit(name, parameter);
            }
        });
        for controls in [false, true] {
            for (index, auxiliary) in self.auxiliaries.iter_mut().enumerate() {
                let mut chosen = Vec::new();
                auxiliary.visit_parameters(&mut |name, _| chosen.push(name.to_owned()));
                chosen.retain(|name| auxiliary.is_control(name) == controls);
                auxiliary.visit_parameters(&mut |name, parameter| {
                    if chosen.iter().any(|chosen| chosen == name) {
                        visit(&auxiliary_name(index, name), parameter);
                    }
                });
            }
        }
    }

    /// True for a trained tensor of this name that is there to compare with.
    pub fn is_control(&self, name: &str) -> bool {
        self.auxiliaries.iter().enumerate().any(|(index, auxiliary)| {
            name.strip_prefix(&auxiliary_name(index, "")).is_some_and(|name| auxiliary.is_control(name))
        })
    }

    /// The sum and the sum of magnitudes of every frozen tensor, to see that training leaves them as they are.
    pub fn frozen_sums(&mut self) -> Vec<f32> {
        let mut sums = Vec::new();
        self.decoder.visit(&mut |_, parameter| {
            if !requires_gradient(&parameter) {
                let rows = match parameter {
                    Parameter::Vector(tensor) => tensor.clone().unsqueeze_dim(0),
                    Parameter::Matrix(tensor) => tensor.clone(),
                };
                // Along dimensions: the sum of all elements meets in an order that varies, between threads as between the
                // blocks of a GPU, which add to one number as they come.
                let along = |x: Tensor<2>| x.sum_dim(1).swap_dims(0, 1).sum_dim(1).reshape([1]);
                // In slices, because their magnitudes take memory.
                let slice = (1 << 20) / rows.dims()[1].max(1);
                for piece in rows.split(slice.max(1), 0) {
                    let piece = piece.cast(DType::F32);
                    sums.push(along(piece.clone()));
                    sums.push(along(piece.abs()));
                }
            }
        });
        if sums.is_empty() { Vec::new() } else { values(Tensor::cat(sums, 0)) }
    }
}

/// The name of parameter `name` of the auxiliary loss at `index` among all trained tensors.
pub fn auxiliary_name(index: usize, name: &str) -> String {
    format!("auxiliary.{index}.{name}")
}

fn requires_gradient(parameter: &Parameter<'_>) -> bool {
    match parameter {
        Parameter::Vector(tensor) => tensor.is_require_grad(),
        Parameter::Matrix(tensor) => tensor.is_require_grad(),
    }
}
