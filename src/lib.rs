//! Fine-tune language models with an objective that is a plug-in: a recipe goes in, a mergeable adapter comes out.

pub mod command;
pub mod device;
pub mod engine;
pub mod fused;
pub mod loading;
pub mod logging;
pub mod model;
pub mod plan;
pub mod random;
pub mod recipe;
pub mod report;
pub mod sampling;

/// The objectives and auxiliary losses that a recipe may name.
pub fn registry() -> losses::Registry {
    losses::Registry::default()
}
