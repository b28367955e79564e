//! Llama 2 and 3: grouped-query attention, SwiGLU, optional biases. (`modeling_llama.py` of transformers.)

use super::config::Config;
use super::fields::Fields;

pub(super) fn configure(fields: &mut Fields, config: &mut Config) {
    let attention_bias = fields.flag("attention_bias", false);
    config.qkv_bias = attention_bias;
    config.output_bias = attention_bias;
    config.mlp_bias = fields.flag("mlp_bias", false);
}
