//! The list of objectives and auxiliary losses, to which a program may add its own.

use std::sync::Arc;

use burn::tensor::Device;
use faults::Section;

use crate::auxiliary::{MTP, SFR};
use crate::objective::{
    CDIV, DEFT, DFT, DIFFUSE, EAFT, FOCAL, FORKING, GEM, GOLD, INTENT, LAMBDA_PR, MIXCE, NLL, PROXIMAL, TAILR, TOFU,
    TRUNC, TRUNC_R, WEIGHTED,
};
use crate::{Auxiliary, Embeddings, Extent, Objective, Sentences};

/// One objective as listed: its name, what it is for, and how it is built from its keys in `[objective]`.
#[derive(Clone, Copy)]
pub struct ObjectiveKind {
    /// The value of `objective.kind`.
    pub name: &'static str,
    /// One line for the list of objectives.
    pub purpose: &'static str,
    /// Reads its own keys and files a fault for each impossible value. Called with an empty section too, to learn
    /// which keys it knows: it must not fail then.
    pub build: fn(&mut Section) -> Box<dyn Objective>,
}

/// What an auxiliary loss may depend on when it is built.
pub struct Surroundings {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Number of tokens of the vocabulary.
    pub vocabulary: usize,
    /// The inner (not autodiff) device of the model.
    pub device: Device,
    /// The recipe's seed.
    pub seed: u64,
    /// Optimizer steps of the whole run.
    pub steps: usize,
    /// The sentence embeddings that [`AuxiliaryBuilder::sentences`] asked for.
    pub embeddings: Option<Arc<Embeddings>>,
}

/// One auxiliary loss as listed.
#[derive(Clone, Copy)]
pub struct AuxiliaryKind {
    /// The value of `kind` in `[[auxiliary]]`.
    pub name: &'static str,
    /// One line for the list of auxiliary losses.
    pub purpose: &'static str,
    /// Reads its own keys, as [`ObjectiveKind::build`] does, and gives what builds the loss once the model is known.
    pub build: fn(&mut Section) -> AuxiliaryBuilder,
}

/// The widths that the size of an auxiliary loss depends on, known before anything is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Widths {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Number of tokens of the vocabulary.
    pub vocabulary: usize,
    /// Width of the sentence embeddings that [`AuxiliaryBuilder::sentences`] asks for, if it does.
    pub embedding: Option<usize>,
}

/// Memory of an auxiliary loss during a micro-batch, in f32 values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Trained values.
    pub parameters: u64,
    /// Activations of each token that are kept for the backward pass.
    pub per_token: u64,
    /// Temporary values, whatever the number of tokens.
    pub passing: u64,
}

/// Builds an auxiliary loss once the model is known.
pub struct AuxiliaryBuilder {
    /// Sentence embeddings to be computed before training.
    pub sentences: Option<Sentences>,
    /// Its memory, for the plan's estimate.
    pub held: Box<dyn Fn(&Widths) -> Held>,
    /// What a user should know before a run of this extent, a sentence each.
    pub remarks: Remarks,
    /// Builds it.
    pub build: Build,
}

/// What a user should know before a run of some extent, a sentence each.
pub type Remarks = Box<dyn Fn(&Extent) -> Vec<String>>;

/// Builds an auxiliary loss from all that it may depend on.
pub type Build = Box<dyn Fn(&Surroundings) -> Box<dyn Auxiliary>>;

impl AuxiliaryBuilder {
    /// A loss that needs nothing computed before training and holds nothing worth counting.
    pub fn new(build: impl Fn(&Surroundings) -> Box<dyn Auxiliary> + 'static) -> Self {
        Self {
            sentences: None,
            held: Box::new(|_| Held::default()),
            remarks: Box::new(|_| Vec::new()),
            build: Box::new(build),
        }
    }

    /// Sets how its memory is estimated.
    pub fn holding(self, held: impl Fn(&Widths) -> Held + 'static) -> Self {
        Self { held: Box::new(held), ..self }
    }

    /// Sets its remarks on the run it is to be part of.
    pub fn remarking(self, remarks: impl Fn(&Extent) -> Vec<String> + 'static) -> Self {
        Self { remarks: Box::new(remarks), ..self }
    }

    /// Asks for sentence embeddings in [`Surroundings::embeddings`].
    pub fn with_sentences(self, sentences: Sentences) -> Self {
        Self { sentences: Some(sentences), ..self }
    }
}

/// All objectives and auxiliary losses that a recipe may name.
pub struct Registry {
    /// The objectives, in the order they are listed to the user.
    pub objectives: Vec<ObjectiveKind>,
    /// The auxiliary losses, in the order they are listed to the user.
    pub auxiliaries: Vec<AuxiliaryKind>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            objectives: vec![
                NLL, CDIV, TRUNC_R, LAMBDA_PR, FOCAL, GEM, TOFU, TRUNC, GOLD, TAILR, MIXCE, DFT, DEFT, EAFT, FORKING,
                PROXIMAL, WEIGHTED, DIFFUSE, INTENT,
            ],
            auxiliaries: vec![MTP, SFR],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use faults::Section;

    use super::*;
    use crate::{Parameter, RowVectors};

    #[test]
    fn every_objective_builds_without_keys_under_the_name_it_is_listed_by() {
        let registry = Registry::default();
        for kind in &registry.objectives {
            assert_eq!((kind.build)(&mut Section::probe()).name(), kind.name);
        }
        let names: BTreeSet<&str> = registry.objectives.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), registry.objectives.len(), "a name stands there twice");
    }

    #[test]
    fn every_auxiliary_loss_builds_without_keys_under_the_name_it_is_listed_by() {
        for kind in Registry::default().auxiliaries {
            let none = || RowVectors::new(4, Vec::new(), &[]);
            let surroundings = Surroundings {
                hidden_size: 2,
                vocabulary: 3,
                device: Device::flex(),
                seed: 1,
                steps: 1,
                embeddings: Some(Arc::new(Embeddings { dimension: 4, train: none(), eval: none() })),
            };
            let builder = (kind.build)(&mut Section::probe());
            let held = (builder.held)(&Widths { hidden_size: 2, vocabulary: 3, embedding: Some(4) });
            let mut auxiliary = (builder.build)(&surroundings);
            assert_eq!(auxiliary.name(), kind.name);
            let mut parameters = 0;
            auxiliary.visit_parameters(&mut |_, parameter| {
                parameters += match parameter {
                    Parameter::Vector(vector) => vector.dims()[0],
                    Parameter::Matrix(matrix) => matrix.dims().iter().product(),
                };
            });
            assert_eq!(held.parameters, parameters as u64, "{}", kind.name);
        }
    }
}
