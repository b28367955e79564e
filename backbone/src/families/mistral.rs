//! Mistral: Llama with a sliding window on every layer. (`modeling_mistral.py` of transformers.)

use serde_json::json;

use super::Family;
use crate::config::Config;
use crate::fields::Fields;

/// The family.
pub(super) const FAMILY: Family = Family {
    name: "mistral",
    class: "MistralForCausalLM",
    configure,
    // The published default is a window of 4,096; a model from scratch has none unless it is asked for.
    own: |_| json!({"sliding_window": null}),
};

fn configure(fields: &mut Fields, config: &mut Config) {
    let window = fields.nullable("sliding_window", Fields::optional_size, 4096);
    config.sliding_windows.fill(window);
}
