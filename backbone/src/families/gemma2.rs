//! Gemma 2: Gemma with norms on both sides, every other layer local, and soft caps on attention scores and logits.
//! (`modeling_gemma2.py` of transformers.)

use serde_json::{Value, json};

use super::Family;
use super::gemma;
use crate::config::{Activation, Config, NormPlaces};
use crate::fields::Fields;
use crate::scratch::Init;

/// The family.
pub(super) const FAMILY: Family = Family { name: "gemma2", class: "Gemma2ForCausalLM", configure, own };

fn configure(fields: &mut Fields, config: &mut Config) {
    blocks(fields, config, 2);
    config.attention_cap = fields.nullable("attn_logit_softcapping", Fields::optional_number, 50.0);
    config.logit_cap = fields.nullable("final_logit_softcapping", Fields::optional_number, 30.0);
    // Another name for `sliding_window` that some files have beside it.
    if let Some(size) = fields.optional_size("sliding_window_size") {
        let window = config.sliding_windows.iter().flatten().next().copied();
        if window.is_some_and(|window| window != size) {
            fields.reject(format!("`sliding_window_size` = {size} is not `sliding_window`"));
        }
    }
}

/// The switches of Gemma 2 and 3; unless the file says otherwise, every `pattern`th layer has no sliding window.
pub(super) fn blocks(fields: &mut Fields, config: &mut Config, pattern: usize) {
    gemma::shared(fields, config);
    config.norm_places = NormPlaces::Both;
    fields.expect_activation("hidden_activation", Activation::GeluTanh);
    // Another name for it in many files, which transformers does not read.
    fields.expect_activation("hidden_act", Activation::GeluTanh);
    config.attention_scale = Some(fields.number("query_pre_attn_scalar", 256.0).powf(-0.5));
    let layers = config.sliding_windows.len();
    let usual = (1..=layers).map(|layer| if layer % pattern == 0 { "full_attention" } else { "sliding_attention" });
    let types = fields.words("layer_types").unwrap_or_else(|| usual.map(str::to_owned).collect());
    let window = fields.nullable("sliding_window", Fields::optional_size, 4096);
    if window.is_none() {
        // transformers makes a mask of it even where no layer is local, and fails.
        fields.reject("`sliding_window` is null, and this architecture has no form without one".into());
    }
    config.sliding_windows = fields.layer_windows(&types, layers, window);
}

/// What a new model's `config.json` says beside what all say.
pub(super) fn own(init: &Init) -> Value {
    let gelu = "gelu_pytorch_tanh";
    json!({
        "hidden_act": gelu,
        "hidden_activation": gelu,
        "query_pre_attn_scalar": init.head_dim,
        // Asked for by transformers, and used by no layer here.
        "sliding_window": init.max_positions,
        "layer_types": vec!["full_attention"; init.layers],
    })
}
