//! Fine-tune language models with an objective that is a plug-in: a recipe goes in, a mergeable adapter comes out.

pub mod allocation;
pub mod chat;
pub mod command;
pub mod embeddings;
pub mod engine;
pub mod evaluation;
pub mod inspection;
pub mod loading;
pub mod logging;
pub mod observation;
pub mod plan;
pub mod recipe;
pub mod report;
pub mod sampling;

// What a program with an objective of its own needs beside this library.
pub use backbone;
pub use faults;
pub use losses;
