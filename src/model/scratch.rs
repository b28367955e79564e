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
        Architecture::Gemma => ("gemma", "GemmaForCausalLM"),
        Architecture::Gemma2 => ("gemma2", "Gemma2ForCausalLM"),
        Architecture::Gemma3 => ("gemma3_text", "Gemma3ForCausalLM"),
        Architecture::Olmo => ("olmo", "OlmoForCausalLM"),
        Architecture::Olmo2 => ("olmo2", "Olmo2ForCausalLM"),
        Architecture::Granite => ("granite", "GraniteForCausalLM"),
        Architecture::Phi3 => ("phi3", "Phi3ForCausalLM"),
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
    let gemma = "gelu_pytorch_tanh";
    let own = match init.architecture {
        Architecture::Llama | Architecture::Qwen2 | Architecture::Qwen3 | Architecture::Olmo2 => json!({}),
        // The published default is a window of 4,096; a model from scratch has none unless it is asked for.
        Architecture::Mistral | Architecture::Phi3 => json!({"sliding_window": null}),
        Architecture::Gemma => json!({"hidden_act": gemma}),
        Architecture::Gemma2 | Architecture::Gemma3 => json!({
            "hidden_act": gemma,
            "hidden_activation": gemma,
            "query_pre_attn_scalar": init.head_dim,
            // Asked for by transformers, and used by no layer here.
            "sliding_window": init.max_positions,
            "layer_types": vec!["full_attention"; init.layers],
        }),
        // Its norms have nothing to set.
        Architecture::Olmo => json!({"rms_norm_eps": null}),
        Architecture::Granite => json!({"attention_multiplier": (init.head_dim as f64).powf(-0.5)}),
    };
    for (name, value) in own.as_object().into_iter().flatten() {
        config[name] = value.clone();
    }
    config
}
