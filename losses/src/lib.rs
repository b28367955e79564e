//! Objectives and auxiliary losses.
//!
//! An [`Objective`] is a rule that gives every learned token a detached weight; the loss of a step is
//! `sum(weight * nll) / normaliser`, beside which [`Terms`] may stand. An [`Auxiliary`] is a loss on the hidden states beside it. Each stands in a file of
//! its own and is listed once, in [`Registry::default`].

pub mod auxiliary;
pub mod objective;
mod registry;
mod sentences;
mod terms;

pub use auxiliary::{Auxiliary, HeldOut, HiddenBatch, Parameter, Row};
pub use objective::{Column, Extent, Nll, Normalisation, Objective, Scope, Statistics, Tokens};
pub use registry::{
    AuxiliaryBuilder, AuxiliaryKind, Build, Held, ObjectiveKind, Registry, Remarks, Surroundings, Widths,
};
pub use sentences::{Embeddings, RowVectors, Sentences, Texts};
pub use terms::Terms;

/// Named tensors that an objective or an auxiliary loss saves with the training state and takes back on resume.
pub type State = std::collections::BTreeMap<String, burn::tensor::TensorData>;
