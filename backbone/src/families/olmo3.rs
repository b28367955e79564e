//! OLMo 3: OLMo 2 with a sliding window on three of four layers, whose rotary encoding is never stretched.
//! (`modeling_olmo3.py` of transformers.)

use serde_json::json;

use super::Family;
use super::olmo2;
use crate::config::Config;
use crate::fields::Fields;
use crate::rope::{Rope, RopeDefaults};

/// The base of both encodings where the file has none.
const THETA: f64 = 500_000.0;

/// The family.
pub(super) const FAMILY: Family = Family {
    name: "olmo3",
    class: "Olmo3ForCausalLM",
    configure,
    // The published default is a window of 4,096; a model from scratch has none unless it is asked for.
    own: |init| json!({"sliding_window": null, "layer_types": vec!["full_attention"; init.layers]}),
};

fn configure(fields: &mut Fields, config: &mut Config) {
    olmo2::configure(fields, config);
    let window = fields.nullable("sliding_window", Fields::optional_size, 4096);
    let layers = config.sliding_windows.len();
    config.sliding_windows = match fields.words("layer_types") {
        Some(types) => fields.layer_windows(&types, layers, window),
        None => (1..=layers).map(|layer| window.filter(|_| layer % 4 != 0)).collect(),
    };
    let theta = fields.number("rope_theta", THETA);
    if theta != THETA && !fields.has("rope_parameters") && config.sliding_windows.iter().any(Option::is_some) {
        fields.reject(format!(
            "`rope_theta` is {theta}, which versions of transformers take for all layers (4) or for those without a window \
             (5): say it in `rope_parameters` for each kind"
        ));
    }
    let defaults = RopeDefaults { theta, ..config.rope_defaults() };
    let [rope, local] = Rope::read_of_kinds(fields, defaults, defaults);
    config.rope = rope;
    config.local_rope = config.sliding_windows.iter().any(Option::is_some).then_some(local);
}
