//! Gemma: Llama with norms around zero, embeddings scaled by the root of their width, and GELU. (`modeling_gemma.py` of
//! transformers.)

use serde_json::json;

use super::Family;
use crate::config::{Activation, Config, NormKind};
use crate::fields::Fields;

/// The family.
pub(super) const FAMILY: Family =
    Family { name: "gemma", class: "GemmaForCausalLM", configure, own: |_| json!({"hidden_act": "gelu_pytorch_tanh"}) };

fn configure(fields: &mut Fields, config: &mut Config) {
    shared(fields, config);
    // The first releases say `gelu` and mean its tanh approximation, as transformers reads them.
    if fields.word("hidden_act").as_deref() != Some("gelu") {
        fields.expect_activation("hidden_act", Activation::GeluTanh);
    }
    // Not read by transformers, and the same wherever it is written.
    fields.expect_activation("hidden_activation", Activation::GeluTanh);
}

/// The switches that all Gemmas turn.
pub(super) fn shared(fields: &mut Fields, config: &mut Config) {
    config.norm = NormKind::RmsPlusOne;
    config.activation = Activation::GeluTanh;
    config.embedding_scale = (config.hidden_size as f64).sqrt();
    config.head_dim = fields.optional_size("head_dim").unwrap_or(256);
    config.tie_word_embeddings = fields.flag("tie_word_embeddings", true);
    let attention_bias = fields.flag("attention_bias", false);
    config.qkv_bias = attention_bias;
    config.output_bias = attention_bias;
}
