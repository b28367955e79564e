//! The families of decoders: each says in its own file which switches of the one decoder it turns.
//!
//! A new family is a file here and a line in [`FAMILIES`].

mod ernie4_5;
mod gemma;
mod gemma2;
mod gemma3;
pub(crate) mod gemma3_images;
mod granite;
mod llama;
mod mistral;
mod olmo;
mod olmo2;
mod olmo3;
mod phi3;
mod qwen2;
mod qwen3;
mod seed_oss;
mod smollm3;

use serde_json::Value;

use crate::config::Config;
use crate::fields::Fields;
use crate::scratch::Init;

/// A family of decoders.
#[derive(Debug)]
pub struct Family {
    /// `model_type` in its `config.json`.
    pub name: &'static str,
    /// The class that transformers has for it.
    pub(crate) class: &'static str,
    /// Reads what is its own of `config.json`.
    pub(crate) configure: fn(&mut Fields, &mut Config),
    /// Fields of the `config.json` of a new model that not all families have.
    pub(crate) own: fn(&Init) -> Value,
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// All of them.
pub const FAMILIES: [&Family; 15] = [
    &llama::FAMILY,
    &smollm3::FAMILY,
    &mistral::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &gemma::FAMILY,
    &gemma2::FAMILY,
    &gemma3::FAMILY,
    &olmo::FAMILY,
    &olmo2::FAMILY,
    &olmo3::FAMILY,
    &granite::FAMILY,
    &phi3::FAMILY,
    &seed_oss::FAMILY,
    &ernie4_5::FAMILY,
];

/// The width of a head, with a `default` where the file does not speak of it; where it says null, the width divided by the heads.
fn head_dim(fields: &mut Fields, config: &Config, default: usize) -> usize {
    let usual = config.hidden_size / config.num_attention_heads.max(1);
    fields.nullable("head_dim", Fields::optional_size, default).unwrap_or(usual)
}
