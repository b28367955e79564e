//! Qwen2 and Qwen2.5: biases on queries, keys and values; a sliding window on the layers from `max_window_layers` on,
//! when it is switched on. (`modeling_qwen2.py` of transformers.)

use serde_json::json;

use super::Family;
use crate::config::Config;
use crate::fields::Fields;

/// The family.
pub(super) const FAMILY: Family = Family { name: "qwen2", class: "Qwen2ForCausalLM", configure, own: |_| json!({}) };

fn configure(fields: &mut Fields, config: &mut Config) {
    config.qkv_bias = true;
    config.sliding_windows = sliding_windows(fields, config.num_hidden_layers);
}

/// The windows of the Qwen families: `layer_types` where the file has it, else by `max_window_layers`.
pub(super) fn sliding_windows(fields: &mut Fields, layers: usize) -> Vec<Option<usize>> {
    let switched_on = fields.flag("use_sliding_window", false);
    let window = fields.nullable("sliding_window", Fields::optional_size, 4096).filter(|_| switched_on);
    let first = fields.optional_size("max_window_layers").unwrap_or(28);
    match fields.words("layer_types") {
        Some(types) => fields.layer_windows(&types, layers, window),
        None => (0..layers.min(1 << 16)).map(|layer| window.filter(|_| layer >= first)).collect(),
    }
}
