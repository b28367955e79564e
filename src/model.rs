//! The backbone: one decoder for all families, its adapter, and how it is loaded.
//!
//! Nothing outside this module knows an architecture. Weights keep their Hugging Face names and shapes.

mod adapter;
mod attention;
mod block;
mod config;
mod decoder;
mod encoder;
mod files;
mod linear;
mod llama;
mod matrix;
mod mistral;
mod norm;
mod qwen2;
mod qwen3;
mod rotary;
mod scratch;
mod source;
mod visibility;

pub use adapter::{AdapterSettings, Targets, matches_module};
pub use attention::LayerCache;
pub use block::Block;
pub use config::Config;
pub use decoder::Decoder;
pub use encoder::{Encoder, EncoderFiles};
pub use files::{ModelFiles, embedded_tokenizer};
pub use linear::Linear;
pub use matrix::Matrix;
pub use rotary::{RopeScaling, Rotary};
pub use scratch::{INITIALIZER_RANGE, config_json};
pub use source::{Quantise, Source};
pub use visibility::Visibility;

/// What all layers of one pass share.
pub struct Context {
    /// Cosines and sines of the positions of this pass.
    pub rotary: Rotary,
    /// Which positions a position sees; `None` for all before it.
    pub visibility: Option<Visibility>,
    /// Seed of the micro-batch's dropout; `None` drops nothing.
    pub dropout_seed: Option<u64>,
}
