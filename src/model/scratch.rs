//! `config.json` of a model built from scratch (`[model.init]`).

use datasets::Tokenizer;
use faults::Fault;
use serde_json::{Value, json};

use super::config::Config;
use crate::recipe::{Architecture, Init};

/// Standard deviation of the first weights, as the published families use it.
pub const INITIALIZER_RANGE: f64 = 0.02;

impl Config {
    /// The configuration of a model of shape `init` with the tokenizer's vocabulary.
    ///
    /// # Errors
    /// A shape that no model has.
    pub fn from_init(init: &Init, tokenizer: &Tokenizer) -> Result<Self, Fault> {
        Self::parse(&config_json(init, tokenizer).to_string(), "[model.init]")
    }
}

/// What Hugging Face tools read of such a model.
pub fn config_json(init: &Init, tokenizer: &Tokenizer) -> Value {
    let (model_type, class) = match init.architecture {
        Architecture::Llama => ("llama", "LlamaForCausalLM"),
        Architecture::Mistral => ("mistral", "MistralForCausalLM"),
        Architecture::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
        Architecture::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
    };
    let mut config = json!({
        "architectures": [class],
        "model_type": model_type,
        "vocab_size": tokenizer.vocabulary(),
        "hidden_size": init.hidden_size,
        "intermediate_size": init.intermediate_size,
        "num_hidden_layers": init.layers,
        "num_attention_heads": init.heads,
        "num_key_value_heads": init.kv_heads,
        "head_dim": init.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": init.max_positions,
        "initializer_range": INITIALIZER_RANGE,
        "rms_norm_eps": 1e-5,
        "rope_theta": init.rope_theta,
        "tie_word_embeddings": init.tie_embeddings,
        "torch_dtype": "float32",
        "bos_token_id": tokenizer.bos(),
        "eos_token_id": tokenizer.end_token(),
        "pad_token_id": tokenizer.pad_token(),
    });
    if init.architecture == Architecture::Mistral {
        // The published default is a window of 4,096; a model from scratch has none unless it is asked for.
        config["sliding_window"] = Value::Null;
    }
    config
}
