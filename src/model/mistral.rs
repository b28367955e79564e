//! Mistral: Llama with a sliding window on every layer. (`modeling_mistral.py` of transformers.)

use super::config::Config;
use super::fields::Fields;

pub(super) fn configure(fields: &mut Fields, config: &mut Config) {
    let window = fields.nullable("sliding_window", Fields::optional_size, 4096);
    config.sliding_windows.fill(window);
}
