//! Gemma 3 with a part for images (`Gemma3ForConditionalGeneration`), as its models of 4B and more are published: the
//! decoder of `gemma3_text` in one part, what turns images into embeddings in two others. Text alone passes through the
//! decoder as it does without them. (`modeling_gemma3.py` of transformers.)

use faults::Fault;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::fields::Fields;

/// The `model_type` of such a model.
pub(crate) const MODEL_TYPE: &str = "gemma3";

/// Fields about images, which text does not depend on.
const OF_IMAGES: [&str; 8] = [
    "vision_config",
    "mm_tokens_per_image",
    "image_token_index",
    "image_token_id",
    "boi_token_index",
    "boi_token_id",
    "eoi_token_index",
    "eoi_token_id",
];

pub(crate) fn read(map: &Map<String, Value>) -> Result<Config, Fault> {
    let mut fields = Fields::new(map);
    fields.pass_over(&OF_IMAGES);
    let tied = fields.flag("tie_word_embeddings", true);
    let mut text = fields.object("text_config").unwrap_or_default();
    for (name, value) in defaults() {
        text.entry(name).or_insert(value);
    }
    text.entry("tie_word_embeddings").or_insert(tied.into());
    // What stands above as it stands in the part for text.
    fields.refuse_unread(|name, value| text.get(name) == Some(value))?;
    if text["model_type"] != "gemma3_text" {
        let message = format!("`text_config.model_type` is {}, expected \"gemma3_text\"", text["model_type"]);
        return Err(Fault::new(message));
    }
    let config = Config::from_map("text_config.", &text)?;
    if config.tie_word_embeddings != tied {
        let message = format!(
            "`tie_word_embeddings` is {tied}, and that of `text_config` is {}: versions of transformers differ in \
             which counts",
            config.tie_word_embeddings
        );
        return Err(Fault::new(message).hint("write what the weights are in both places"));
    }
    // The class of text alone applies it, this one does not (transformers 5.23): nobody can mean it.
    if let Some(cap) = config.logit_cap {
        let message = format!("`text_config.final_logit_softcapping` is {cap}, which has no effect beside images");
        return Err(Fault::new(message).hint("write null there, as the published models have it"));
    }
    Ok(Config {
        model_type: MODEL_TYPE.into(),
        decoder_path: "model.language_model",
        other_parts: &["model.vision_tower", "model.multi_modal_projector"],
        ..config
    })
}

/// What a published file leaves out of `text_config`: `Gemma3TextConfig` of transformers has it so. What is not here has the
/// same default wherever it stands.
fn defaults() -> Map<String, Value> {
    let defaults = json!({
        "model_type": "gemma3_text",
        "vocab_size": 262_208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131_072,
    });
    let Value::Object(defaults) = defaults else { unreachable!("it is written as an object") };
    defaults
}
