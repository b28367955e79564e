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
    let [rope, local] = Rope::read_of_kinds(fields, global, local);
    config.rope = rope;
    config.local_rope = window.map(|_| local);
}
