//! Seed-OSS: Llama with biases on queries, keys and values, and dropout behind attention and MLP in training.
//! (`modeling_seed_oss.py` of transformers.)

use serde_json::json;

use super::Family;
use crate::config::Config;
use crate::fields::Fields;

/// The family.
pub(super) const FAMILY: Family = Family {
    name: "seed_oss",
    class: "SeedOssForCausalLM",
    configure,
    // What is absent drops a tenth.
    own: |_| json!({"attention_dropout": 0.0, "residual_dropout": 0.0}),
};

fn configure(fields: &mut Fields, config: &mut Config) {
    config.qkv_bias = fields.flag("attention_bias", true);
    config.output_bias = fields.flag("attention_out_bias", false);
    config.mlp_bias = fields.flag("mlp_bias", false);
    config.head_dim = super::head_dim(fields, config, 128);
    let dropouts = ["attention_dropout", "residual_dropout"].map(|name| (name, fields.number(name, 0.1)));
    config.dropouts = dropouts.into_iter().filter(|(_, probability)| *probability != 0.0).collect();
}
