//! SmolLM3: Llama in which every fourth layer has no rotary encoding. (`modeling_smollm3.py` of transformers.)

use serde_json::json;

use super::Family;
use super::llama;
use crate::config::Config;
use crate::fields::Fields;

/// The family.
pub(super) const FAMILY: Family =
    Family { name: "smollm3", class: "SmolLM3ForCausalLM", configure, own: |_| json!({}) };

fn configure(fields: &mut Fields, config: &mut Config) {
    llama::configure(fields, config);
    config.rope.theta = 2_000_000.0;
    config.tie_word_embeddings = fields.flag("tie_word_embeddings", true);
    let key_heads = fields.nullable("num_key_value_heads", Fields::optional_size, 4);
    config.num_key_value_heads = key_heads.unwrap_or(config.num_attention_heads);
    let layers = config.sliding_windows.len();
    let interval = fields.optional_size("no_rope_layer_interval").unwrap_or(4).max(1);
    let turned = fields.numbers("no_rope_layers");
    config.without_rope = match turned {
        // The list says which layers have one, whatever its name.
        Some(turned) if turned.len() >= layers => turned.iter().take(layers).map(|turned| *turned == 0.0).collect(),
        Some(turned) => {
            fields.reject(format!("`no_rope_layers` is of {} layers of {layers}", turned.len()));
            Vec::new()
        }
        None => (1..=layers).map(|layer| layer % interval == 0).collect(),
    };
    let switched_on = fields.flag("use_sliding_window", false);
    let window = fields.optional_size("sliding_window").filter(|_| switched_on);
    config.sliding_windows = match fields.words("layer_types") {
        Some(types) => fields.layer_windows(&types, layers, window),
        None => config.without_rope.iter().map(|is_without| window.filter(|_| *is_without)).collect(),
    };
}
