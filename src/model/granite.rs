//! Granite: Llama with a factor on embeddings, attention scores, the residual stream's additions and logits.
//! (`modeling_granite.py` of transformers.)

use super::config::Config;
use super::fields::Fields;
use super::llama;

pub(super) fn configure(fields: &mut Fields, config: &mut Config) {
    llama::configure(fields, config);
    config.embedding_scale = fields.number("embedding_multiplier", 1.0);
    config.attention_scale = Some(fields.number("attention_multiplier", 1.0));
    config.residual_scale = fields.number("residual_multiplier", 1.0);
    config.logit_scale = 1.0 / fields.number("logits_scaling", 1.0);
}
