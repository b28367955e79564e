//! Qwen3 (dense): RMSNorm on each head's queries and keys, no biases unless asked for. (`modeling_qwen3.py` of
//! transformers.)

use serde_json::json;

use super::Family;
use super::qwen2::sliding_windows;
use crate::config::{Config, QueryKeyNorm};
use crate::fields::Fields;

/// The family.
pub(super) const FAMILY: Family = Family { name: "qwen3", class: "Qwen3ForCausalLM", configure, own: |_| json!({}) };

fn configure(fields: &mut Fields, config: &mut Config) {
    config.query_key_norm = QueryKeyNorm::Heads;
    let attention_bias = fields.flag("attention_bias", false);
    config.qkv_bias = attention_bias;
    config.output_bias = attention_bias;
    config.sliding_windows = sliding_windows(fields, config.num_hidden_layers);
}
