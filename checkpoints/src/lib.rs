//! Everything that touches a run's disk: model weights, PEFT adapters, training state, merge and export.
//!
//! Nothing else in the workspace writes a run's files, so that one place decides what "saved" means: staged, synced,
//! checked, renamed. What is read is never trusted: a hostile or cut file is a [`faults::Fault`] that names file and
//! tensor, not a panic.
//!
//! * [`Weights`]: a model folder's tensors, mapped into memory;
//! * [`Adapter`]: a LoRA adapter in the format PEFT, vLLM and llama.cpp read;
//! * [`Run`] and [`Checkpoint`]: a run's directory and the states saved in it;
//! * [`Cache`]: what was computed once and would be computed again the same;
//! * [`export`]: adapters and merged models for other programs.

mod adapter;
mod adapter_config;
mod beside;
mod cache;
mod checkpoint;
mod elsewhere;
pub mod export;
mod files;
mod fingerprint;
mod format;
mod lock;
mod manifest;
mod merge;
mod metrics_file;
mod moving;
mod names;
mod pattern;
mod run;
mod targets;
mod tensor;
mod weights;

pub use adapter::{Adapter, Module};
pub use adapter_config::{AdapterConfig, TargetModules, matches_module};
pub use beside::files_beside;
pub use cache::Cache;
pub use checkpoint::{Checkpoint, Contents, Trained, find_checkpoint, of_run};
pub use elsewhere::inside;
pub use files::{again, replace, write_whole};
pub use hub;
pub use lock::Lock;
pub use moving::while_it_moves;
pub use run::{Retention, Run};
pub use safetensors::Dtype;
pub use tensor::StoredTensor;
pub use weights::Weights;
