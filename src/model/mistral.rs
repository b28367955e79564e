//! Mistral: Llama with a sliding window on every layer. (`modeling_mistral.py` of transformers.)

use super::config::{Config, Fields};

pub(super) fn configure(fields: &mut Fields, config: &mut Config) {
    let window = fields.optional_size("sliding_window");
    config.sliding_windows.fill(window);
}
