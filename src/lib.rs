//! Fine-tune language models with an objective that is a plug-in: a recipe goes in, a mergeable adapter comes out.

pub mod allocation;
pub mod chat;
pub mod command;
pub mod device;
pub mod embeddings;
pub mod engine;
pub mod evaluation;
pub mod fused;
pub mod inspection;
pub mod loading;
pub mod logging;
pub mod model;
pub mod plan;
pub mod random;
pub mod recipe;
pub mod report;
pub mod sampling;

// What a program with an objective of its own needs beside this library.
pub use faults;
pub use losses;
