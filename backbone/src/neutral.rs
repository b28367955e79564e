//! Fields of a `config.json` that a family does not read and that say what its model does anyway: a factor of 1, a dropout
//! of 0, no experts, another name for a size, the same activation by another name.

use serde_json::{Map, Value};

use super::config::{Activation, Config, QueryKeyNorm};

/// Probabilities of dropout under the names that other families have for them.
const DROPOUTS: [&str; 13] = [
    "attention_probs_dropout_prob",
    "hidden_dropout_prob",
    "attn_dropout",
    "attn_pdrop",
    "mlp_dropout",
    "ffn_dropout",
    "ffn_dropout_rate",
    "dropout",
    "dropout_rate",
    "activation_dropout",
    "residual_dropout",
    "classifier_dropout",
    "layerdrop",
];

/// Numbers of experts, and of layers for other ends.
const COUNTS: [&str; 8] = [
    "num_local_experts",
    "num_experts",
    "num_experts_per_tok",
    "n_routed_experts",
    "n_shared_experts",
    "moe_intermediate_size",
    "num_nextn_predict_layers",
    "num_kv_shared_layers",
];

/// The activation of a name, of those that transformers knows (`ACT2FN`); what differs in rounding alone is the same.
pub(super) fn activation(name: &str) -> Option<Activation> {
    match name {
        "silu" | "swish" => Some(Activation::Silu),
        "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_new" | "gelu_fast" => Some(Activation::GeluTanh),
        _ => None,
    }
}

/// True when the field says what the model is without it.
pub(super) fn changes_nothing(name: &str, value: &Value, map: &Map<String, Value>, config: &Config) -> bool {
    let is_number = |expected: f64| value.as_f64().is_some_and(|value| value == expected);
    let is_near = |expected: f64| value.as_f64().is_some_and(|value| (value - expected).abs() <= 1e-6 * expected.abs());
    let is_flag = |expected: bool| value.as_bool() == Some(expected);
    let is_size = |expected: usize| value.as_u64() == Some(expected as u64);
    let usual_scale = 1.0 / (config.head_dim as f64).sqrt();
    let scale = config.attention_scale.unwrap_or(usual_scale);
    // No cap is written as 0 by some.
    let cap = |cap: Option<f64>| is_number(cap.unwrap_or(0.0));
    match name {
        _ if DROPOUTS.contains(&name) => is_number(0.0),
        _ if COUNTS.contains(&name) => is_number(0.0),
        "embedding_multiplier" | "scale_emb" => is_near(config.embedding_scale),
        "residual_multiplier" => is_number(config.residual_scale),
        "logits_scaling" => is_near(1.0 / config.logit_scale),
        "logit_scale" => is_near(config.logit_scale),
        "attention_multiplier" => is_near(scale),
        "query_pre_attn_scalar" => is_near(scale.powi(-2)),
        "attn_logit_softcapping" => cap(config.attention_cap),
        "final_logit_softcapping" => cap(config.logit_cap),
        "partial_rotary_factor" | "rotary_pct" | "rope_pct" | "rotary_percent" => {
            is_number(config.rope.width as f64 / config.head_dim as f64)
        }
        "rotary_dim" => is_size(config.rope.width),
        "rotary_base" | "rotary_emb_base" | "rope_local_base_freq" => {
            is_number(config.local_rope.as_ref().unwrap_or(&config.rope).theta)
        }
        "norm_eps" | "norm_epsilon" | "layer_norm_eps" | "layer_norm_epsilon" | "rms_norm_eps" => {
            is_number(config.norm_epsilon)
        }
        "attention_bias" | "qkv_bias" | "use_qkv_bias" | "attention_qkv_bias" => is_flag(config.qkv_bias),
        "attention_out_bias" | "o_bias" => is_flag(config.output_bias),
        "mlp_bias" => is_flag(config.mlp_bias),
        "use_bias" | "bias" => [config.qkv_bias, config.output_bias, config.mlp_bias].into_iter().all(is_flag),
        "qk_norm" | "use_qk_norm" | "qk_layernorm" | "use_qk_layernorm" => {
            is_flag(config.query_key_norm != QueryKeyNorm::None)
        }
        "tie_embeddings" | "tie_weights" => is_flag(config.tie_word_embeddings),
        "hidden_act" | "hidden_activation" | "activation_function" | "activation" | "mlp_hidden_act" => {
            value.as_str().and_then(activation) == Some(config.activation)
        }
        "num_layers" | "n_layer" | "n_layers" => is_size(config.num_hidden_layers),
        "n_embd" | "d_model" | "dim" => is_size(config.hidden_size),
        "n_head" | "n_heads" | "num_heads" => is_size(config.num_attention_heads),
        "num_kv_heads" | "n_kv_heads" => is_size(config.num_key_value_heads),
        "head_size" | "kv_channels" | "attention_head_dim" => is_size(config.head_dim),
        "ffn_hidden_size" | "ffn_dim" | "d_ff" | "n_inner" => is_size(config.intermediate_size),
        "padded_vocab_size" => is_size(config.vocab_size),
        _ => is_of_windows(name, value, map, config),
    }
}

/// The same of the fields that say which layers see how far.
fn is_of_windows(name: &str, value: &Value, map: &Map<String, Value>, config: &Config) -> bool {
    let windows = &config.sliding_windows;
    let local = windows.iter().flatten().next();
    let switched_off = map.get("use_sliding_window") == Some(&Value::Bool(false));
    let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
    match name {
        "sliding_window" | "sliding_window_size" => match (local, size) {
            (Some(local), Some(size)) => *local == size,
            // Farther back than anything stands.
            (None, Some(size)) => switched_off || size >= config.max_position_embeddings,
            _ => false,
        },
        "use_sliding_window" => value.as_bool() == Some(local.is_some()),
        "max_window_layers" => local.is_none() || size == Some(0) && windows.iter().all(Option::is_some),
        "sliding_window_pattern" | "_sliding_window_pattern" => size.is_some_and(|pattern| {
            pattern > 0 && (1..).zip(windows).all(|(layer, window)| window.is_none() == (layer % pattern == 0))
        }),
        "layer_types" => value.as_array().is_some_and(|types| {
            let of = |window: &Option<usize>| if window.is_some() { "sliding_attention" } else { "full_attention" };
            types.len() == windows.len() && types.iter().zip(windows).all(|(kind, window)| kind == of(window))
        }),
        _ => false,
    }
}
