//! Qwen3 (dense): RMSNorm on each head's queries and keys, no biases unless asked for. (`modeling_qwen3.py` of
//! transformers.)

use super::config::{Config, QueryKeyNorm};
use super::fields::Fields;
use super::qwen2::sliding_windows;

pub(super) fn configure(fields: &mut Fields, config: &mut Config) {
    config.query_key_norm = QueryKeyNorm::Heads;
    let attention_bias = fields.flag("attention_bias", false);
    config.qkv_bias = attention_bias;
    config.output_bias = attention_bias;
    config.sliding_windows = sliding_windows(fields, config.num_hidden_layers);
}
