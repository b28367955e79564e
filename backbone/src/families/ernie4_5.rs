//! ERNIE 4.5 (dense): Llama whose rotary encoding turns neighbours. (`modeling_ernie4_5.py` of transformers.)

use serde_json::json;

use super::Family;
use crate::config::Config;
use crate::fields::Fields;

/// The family.
pub(super) const FAMILY: Family =
    Family { name: "ernie4_5", class: "Ernie4_5ForCausalLM", configure, own: |_| json!({}) };

fn configure(fields: &mut Fields, config: &mut Config) {
    let bias = fields.flag("use_bias", false);
    config.qkv_bias = bias;
    config.output_bias = bias;
    config.mlp_bias = bias;
    config.norm_epsilon = 1e-5;
    config.turns_neighbours = true;
    config.rope.theta = 500_000.0;
    config.tie_word_embeddings = fields.flag("tie_word_embeddings", true);
    let key_heads = fields.nullable("num_key_value_heads", Fields::optional_size, 2);
    config.num_key_value_heads = key_heads.unwrap_or(config.num_attention_heads);
    config.head_dim = super::head_dim(fields, config, 128);
}
