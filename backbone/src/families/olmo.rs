//! OLMo: Llama with norms that have no weights, and queries, keys and values that may be cut off. (`modeling_olmo.py` of
//! transformers.)

use serde_json::json;

use super::Family;
use crate::config::{Config, NormKind};
use crate::fields::Fields;

/// The family.
pub(super) const FAMILY: Family = Family {
    name: "olmo",
    class: "OlmoForCausalLM",
    configure,
    // Its norms have nothing to set.
    own: |_| json!({"rms_norm_eps": null}),
};

fn configure(fields: &mut Fields, config: &mut Config) {
    config.norm = NormKind::LayerWithoutWeights;
    config.norm_epsilon = 1e-5;
    config.clip_qkv = fields.optional_number("clip_qkv");
    let attention_bias = fields.flag("attention_bias", false);
    config.qkv_bias = attention_bias;
    config.output_bias = attention_bias;
}
