//! All that is trained in a run: the adapter (or the whole backbone), and the auxiliary losses' own parameters.

use backbone::Decoder;
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
