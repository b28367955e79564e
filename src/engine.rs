//! Training: from rows and a model to gradients, updates, records and checkpoints.
//!
//! [`train`](train::train) is the loop, top to bottom; [`Trainer::step`](step::Trainer::step) is one optimizer step. What
//! they call stands beside them, one concern a file.

pub mod backward;
pub mod batch;
pub mod best;
pub mod data;
pub mod evaluate;
#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(all(test, any(feature = "cuda-untuned", feature = "wgpu")))]
mod gpu;
pub mod guard;
pub mod head;
pub mod learned;
pub mod neftune;
pub mod optimizer;
pub mod parameters;
pub mod record;
mod remembering;
pub mod schedule;
pub mod settings;
pub mod state;
pub mod step;
pub mod together;
pub mod totals;
pub mod train;
pub mod trainee;
pub mod tree;

pub use trainee::Trainee;
