//! Granite: Llama with a factor on embeddings, attention scores, the residual stream's additions and logits.
//! (`modeling_granite.py` of transformers.)

use serde_json::json;

use super::Family;
use super::llama;
use crate::config::Config;
use crate::fields::Fields;

/// The family.
pub(super) const FAMILY: Family = Family {
    name: "granite",
    class: "GraniteForCausalLM",
    configure,
    own: |init| json!({"attention_multiplier": (init.head_dim as f64).powf(-0.5)}),
};

fn configure(fields: &mut Fields, config: &mut Config) {
    llama::configure(fields, config);
    config.embedding_scale = fields.number("embedding_multiplier", 1.0);
    config.attention_scale = Some(fields.number("attention_multiplier", 1.0));
    config.residual_scale = fields.number("residual_multiplier", 1.0);
    config.logit_scale = 1.0 / fields.number("logits_scaling", 1.0);
}
