//! Gemma 3 (text): Gemma 2 without soft caps, with norms on queries and keys, five local layers to a global one, and a
//! rotary encoding for each of the two kinds. (`modeling_gemma3.py` of transformers.)

use super::Family;
use super::gemma2;
use crate::config::{Config, QueryKeyNorm};
use crate::fields::Fields;
use crate::rope::{Rope, RopeDefaults};

/// Bases of the global and the local layers where the file has none.
const THETA: (f64, f64) = (1_000_000.0, 10_000.0);

/// The family.
pub(super) const FAMILY: Family =
    Family { name: "gemma3_text", class: "Gemma3ForCausalLM", configure, own: gemma2::own };

fn configure(fields: &mut Fields, config: &mut Config) {
    let pattern = fields.optional_size("sliding_window_pattern").unwrap_or(6);
    // transformers writes this one beside `layer_types` and never reads it.
    let written = fields.optional_size("_sliding_window_pattern");
    if let Some(written) = written.filter(|written| *written != pattern && !fields.has("layer_types")) {
        fields.reject(format!(
            "`_sliding_window_pattern` is {written}, and the layers go by `sliding_window_pattern`, which is {pattern}"
        ));
    }
    gemma2::blocks(fields, config, pattern.max(1));
    config.query_key_norm = QueryKeyNorm::Heads;
    config.logit_cap = fields.optional_number("final_logit_softcapping");
    let window = config.sliding_windows.iter().flatten().next().copied();
    let global = RopeDefaults { theta: fields.number("rope_theta", THETA.0), ..config.rope_defaults() };
    let local = RopeDefaults { theta: fields.number("rope_local_base_freq", THETA.1), ..config.rope_defaults() };
    // Each kind of layer has its own settings (transformers 5), or the global ones alone can be scaled (before).
    let parameters = fields.object("rope_parameters").unwrap_or_default();
    let of = |kind: &str| parameters.get(kind).and_then(|value| value.as_object().cloned());
    let (full, sliding) = (of("full_attention"), of("sliding_attention"));
    let flat = parameters.keys().find(|key| !["full_attention", "sliding_attention"].contains(&key.as_str()));
    if let Some(key) = flat {
        fields.reject(format!("`rope_parameters.{key}` does not say which kind of layers it is for"));
    }
    let scaling = fields.object("rope_scaling");
    let old = scaling.map(|scaling| Rope::read_from(fields, "rope_scaling.", &scaling, global));
    config.rope = match (old, full) {
        (Some(old), None) => old,
        (old, full) => {
            let full = full.unwrap_or_default();
            let rope = Rope::read_from(fields, "rope_parameters.full_attention.", &full, global);
            rope.refuse_another(fields, old);
            rope
        }
    };
    let sliding = sliding.unwrap_or_default();
    let local = Rope::read_from(fields, "rope_parameters.sliding_attention.", &sliding, local);
    config.local_rope = window.map(|_| local);
    if config.rope.width != config.head_dim {
        fields.reject("`partial_rotary_factor` is not supported for this architecture".into());
    }
}
