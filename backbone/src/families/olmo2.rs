//! OLMo 2: Llama with norms on what attention and MLP give and none on what they take, and norms over all heads of queries
//! and keys. (`modeling_olmo2.py` of transformers.)

use serde_json::json;

use super::Family;
use crate::config::{Config, NormPlaces, QueryKeyNorm};
use crate::fields::Fields;

/// The family.
pub(super) const FAMILY: Family = Family { name: "olmo2", class: "Olmo2ForCausalLM", configure, own: |_| json!({}) };

pub(super) fn configure(fields: &mut Fields, config: &mut Config) {
    config.norm_places = NormPlaces::After;
    config.norm_epsilon = 1e-5;
    config.query_key_norm = QueryKeyNorm::Together;
    let attention_bias = fields.flag("attention_bias", false);
    config.qkv_bias = attention_bias;
    config.output_bias = attention_bias;
}
