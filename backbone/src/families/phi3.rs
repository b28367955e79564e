//! Phi-3: Llama with one projection for queries, keys and values and one for gate and up, a sliding window on every layer,
//! and a rotary encoding that may turn a part of each head. (`modeling_phi3.py` of transformers.)

use serde_json::json;

use super::Family;
use crate::config::Config;
use crate::fields::Fields;
use crate::rope::{Rope, RopeDefaults, RopeScaling};

/// The family.
pub(super) const FAMILY: Family = Family {
    name: "phi3",
    class: "Phi3ForCausalLM",
    configure,
    // The published default is a window of 4,096; a model from scratch has none unless it is asked for.
    own: |_| json!({"sliding_window": null}),
};

fn configure(fields: &mut Fields, config: &mut Config) {
    config.fused_projections = true;
    config.norm_epsilon = 1e-5;
    let window = fields.optional_size("sliding_window");
    config.sliding_windows.fill(window);
    let original = fields.optional_size("original_max_position_embeddings").or(Some(4096));
    let partial = fields.number("partial_rotary_factor", 1.0);
    config.rope = Rope::read(fields, RopeDefaults { partial, original, ..config.rope_defaults() });
    if !matches!(config.rope.scaling, RopeScaling::None | RopeScaling::LongRope { .. }) {
        fields.reject("this architecture knows no rotary scaling but `longrope`".into());
    }
    // Left over from the first releases' own code, which knew other values; transformers reads neither.
    for name in ["full_attn_mod", "interpolate_factor"] {
        if fields.optional_size(name).is_some_and(|value| value != 1) {
            fields.reject(format!("`{name}` of another value than 1 is not supported"));
        }
    }
}
