//! Llama 2 and 3: grouped-query attention, SwiGLU, optional biases. (`modeling_llama.py` of transformers.)

use serde_json::json;

use super::Family;
use crate::config::Config;
use crate::fields::Fields;

/// The family.
pub(super) const FAMILY: Family = Family { name: "llama", class: "LlamaForCausalLM", configure, own: |_| json!({}) };

pub(super) fn configure(fields: &mut Fields, config: &mut Config) {
    let attention_bias = fields.flag("attention_bias", false);
    config.qkv_bias = attention_bias;
    config.output_bias = attention_bias;
    config.mlp_bias = fields.flag("mlp_bias", false);
}
