//! What a model's `config.json` says of its mathematics, as a person and as a program read it.

use backbone::{Activation, Config, NormKind, NormPlaces, QueryKeyNorm, Rope, RopeScaling};
use faults::counted;
use serde_json::{Value, json};

use super::line;
use crate::plan::print::count;

/// A line for each part of the architecture; what a model does not have is left out.
pub(super) fn lines(config: &Config) -> String {
    let mut text = line(
        "model",
        &format!(
            "{}, {}, width {}, vocabulary {}, {} parameters",
            config.model_type,
            counted(config.num_hidden_layers as u64, "layer"),
            config.hidden_size,
            config.vocab_size,
            count(config.parameters())
        ),
    );
    if !config.other_parts.is_empty() {
        text += &line("left as is", &format!("{}, which text does not pass through", config.other_parts.join(", ")));
    }
    let (heads, keys, width) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
    let with = [
        (config.qkv_bias, "biases on queries, keys and values".to_owned()),
        (config.output_bias, "a bias on the output".into()),
        (config.fused_projections, "one projection for queries, keys and values".into()),
        (
            config.query_key_norm != QueryKeyNorm::None,
            format!("norms on queries and keys ({})", query_key_norm(config)),
        ),
    ];
    let scale = config.attention_scale.map(|scale| format!(", scores times {scale}")).unwrap_or_default();
    text += &line(
        "attention",
        &format!("{} of {width}, {keys} for keys and values{}{scale}", counted(heads as u64, "head"), parts(&with)),
    );
    let with =
        [(config.mlp_bias, "biases".to_owned()), (config.fused_projections, "one projection for gate and up".into())];
    text +=
        &line("mlp", &format!("width {}, gated by {}{}", config.intermediate_size, activation(config), parts(&with)));
    text += &line("norms", &format!("{} {}, epsilon {:e}", norm(config), norm_places(config), config.norm_epsilon));
    text += &line("positions", &format!("up to {}", config.max_position_embeddings));
    let local = config.local_rope.as_ref();
    text += &line(if local.is_some() { "rope, global" } else { "rope" }, &rope(&config.rope));
    if let Some(local) = local {
        text += &line("rope, local", &rope(local));
    }
    text += &line("windows", &windows(&config.sliding_windows));
    let caps = [("attention scores", config.attention_cap), ("logits", config.logit_cap)];
    let clip = config.clip_qkv.map(|clip| format!("queries, keys and values cut off at {clip}"));
    let caps = caps.into_iter().filter_map(|(what, cap)| Some(format!("{what} {}", cap?)));
    let caps: Vec<String> = caps.chain(clip).collect();
    if !caps.is_empty() {
        text += &line("soft caps", &caps.join(", "));
    }
    let scales = [
        ("embeddings", config.embedding_scale),
        ("what a block adds", config.residual_scale),
        ("logits", config.logit_scale),
    ];
    let scales = scales.into_iter().filter(|(_, scale)| *scale != 1.0);
    let scales: Vec<String> = scales.map(|(what, scale)| format!("{what} times {scale}")).collect();
    if !scales.is_empty() {
        text += &line("scales", &scales.join(", "));
    }
    let dropouts: Vec<String> = config.dropouts.iter().map(|(name, value)| format!("{name} {value}")).collect();
    if !dropouts.is_empty() {
        text += &line("dropout", &format!("{}: cannot be trained so", dropouts.join(", ")));
    }
    text + &line("head", if config.tie_word_embeddings { "tied to the embedding" } else { "a matrix of its own" })
}

/// The same for programs, into the model's own object.
pub(super) fn describe(config: &Config, object: &mut Value) {
    let fields = json!({
        "architecture": config.model_type,
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "vocabulary": config.vocab_size,
        "parameters": config.parameters(),
        "left_as_is": config.other_parts,
        "tied": config.tie_word_embeddings,
        "max_positions": config.max_position_embeddings,
        "activation": activation(config),
        "norm": norm(config),
        "norm_places": norm_places(config),
        "norm_epsilon": config.norm_epsilon,
        "query_key_norm": query_key_norm(config),
        "fused_projections": config.fused_projections,
        "biases": {"qkv": config.qkv_bias, "output": config.output_bias, "mlp": config.mlp_bias},
        "rope": rope_json(&config.rope),
        "local_rope": config.local_rope.as_ref().map(rope_json),
        "sliding_windows": config.sliding_windows,
        "attention_scale": config.attention_scale.unwrap_or((config.head_dim as f64).powf(-0.5)),
        "attention_cap": config.attention_cap,
        "logit_cap": config.logit_cap,
        "clip_qkv": config.clip_qkv,
        "embedding_scale": config.embedding_scale,
        "residual_scale": config.residual_scale,
        "logit_scale": config.logit_scale,
        "dropouts": config.dropouts.iter().map(|(name, value)| json!({"field": name, "value": value})).collect::<Vec<_>>(),
    });
    for (name, value) in fields.as_object().into_iter().flatten() {
        object[name] = value.clone();
    }
}

/// Those that are there, each after a comma.
fn parts(with: &[(bool, String)]) -> String {
    with.iter().filter(|(there, _)| *there).map(|(_, text)| format!(", {text}")).collect()
}

fn activation(config: &Config) -> &'static str {
    match config.activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu (tanh)",
    }
}

fn norm(config: &Config) -> &'static str {
    match config.norm {
        NormKind::Rms => "rms",
        NormKind::RmsPlusOne => "rms (1 + weight)",
        NormKind::LayerWithoutWeights => "layer (no weights)",
    }
}

fn norm_places(config: &Config) -> &'static str {
    match config.norm_places {
        NormPlaces::Before => "before attention and mlp",
        NormPlaces::After => "after attention and mlp",
        NormPlaces::Both => "before and after attention and mlp",
    }
}

fn query_key_norm(config: &Config) -> &'static str {
    match config.query_key_norm {
        QueryKeyNorm::None => "none",
        QueryKeyNorm::Heads => "each head",
        QueryKeyNorm::Together => "all heads together",
    }
}

/// The name of a scaling with its numbers.
fn scaling(rope: &Rope) -> (&'static str, Vec<(&'static str, Value)>) {
    match &rope.scaling {
        RopeScaling::None => ("none", Vec::new()),
        RopeScaling::Linear { factor } => ("linear", vec![("factor", json!(factor))]),
        RopeScaling::Dynamic { factor, original } => {
            ("dynamic", vec![("factor", json!(factor)), ("original", json!(original))])
        }
        RopeScaling::Yarn { factor, attention_factor, beta_fast, beta_slow, original, truncate } => (
            "yarn",
            vec![
                ("factor", json!(factor)),
                ("attention_factor", json!(attention_factor)),
                ("beta_fast", json!(beta_fast)),
                ("beta_slow", json!(beta_slow)),
                ("original", json!(original)),
                ("truncate", json!(truncate)),
            ],
        ),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => (
            "llama3",
            vec![
                ("factor", json!(factor)),
                ("low_freq_factor", json!(low_freq_factor)),
                ("high_freq_factor", json!(high_freq_factor)),
                ("original", json!(original)),
            ],
        ),
        RopeScaling::LongRope { short, long, attention_factor, original } => (
            "longrope",
            vec![
                ("short", json!(short)),
                ("long", json!(long)),
                ("attention_factor", json!(attention_factor)),
                ("original", json!(original)),
            ],
        ),
    }
}

fn rope(rope: &Rope) -> String {
    let (name, numbers) = scaling(rope);
    let shown = |(name, value): (&str, Value)| match value.as_array() {
        Some(values) => format!(" {name} of {} frequencies", values.len()),
        None => format!(" {name} {value}"),
    };
    let numbers: Vec<String> = numbers.into_iter().map(shown).collect();
    format!("theta {}, {} values of a head, scaling {name}{}", rope.theta, rope.width, numbers.join(","))
}

fn rope_json(rope: &Rope) -> Value {
    let (name, numbers) = scaling(rope);
    let mut object = json!({"theta": rope.theta, "width": rope.width, "scaling": name});
    for (name, value) in numbers {
        object[name] = value;
    }
    object
}

/// The layers of each window: `4096 on layers 0, 2, 4`; runs of them as `0-27`.
fn windows(windows: &[Option<usize>]) -> String {
    let mut sizes: Vec<usize> = windows.iter().flatten().copied().collect();
    sizes.sort_unstable();
    sizes.dedup();
    let of = |size: &usize| {
        let layers = (0..windows.len()).filter(|layer| windows[*layer] == Some(*size));
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for layer in layers {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == layer => *last = layer,
                _ => runs.push((layer, layer)),
            }
        }
        let run =
            |(first, last): (usize, usize)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
        format!("{size} on layers {}", runs.into_iter().map(run).collect::<Vec<_>>().join(", "))
    };
    match sizes.is_empty() {
        true => "none, every layer sees all".into(),
        false => sizes.iter().map(of).collect::<Vec<_>>().join("; "),
    }
}
