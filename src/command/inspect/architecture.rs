//! What a model's `config.json` says of its mathematics.

use backbone::{Activation, Config, NormKind, NormPlaces, QueryKeyNorm, Rope, RopeScaling};
use faults::counted;
use serde::Serialize;
use serde_json::{Value, json, value};

use super::page::Page;
use crate::plan::print::count;

/// The tag of [`Scaling`].
const KIND: &str = "scaling";

#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Architecture(#[serde(with = "Fields")] pub Config);

/// The fields of [`Config`] under the names of the JSON.
#[derive(Serialize)]
#[serde(remote = "Config")]
struct Fields {
    #[serde(rename = "architecture")]
    model_type: String,
    #[serde(rename = "layers")]
    num_hidden_layers: usize,
    hidden_size: usize,
    intermediate_size: usize,
    #[serde(rename = "heads")]
    num_attention_heads: usize,
    #[serde(rename = "kv_heads")]
    num_key_value_heads: usize,
    head_dim: usize,
    #[serde(rename = "vocabulary")]
    vocab_size: usize,
    #[serde(getter = "Config::parameters")]
    parameters: u64,
    #[serde(rename = "left_as_is")]
    other_parts: &'static [&'static str],
    #[serde(rename = "tied")]
    tie_word_embeddings: bool,
    #[serde(rename = "max_positions")]
    max_position_embeddings: usize,
    #[serde(getter = "activation")]
    activation: &'static str,
    #[serde(getter = "norm")]
    norm: &'static str,
    #[serde(getter = "norm_places")]
    norm_places: &'static str,
    norm_epsilon: f64,
    #[serde(getter = "query_key_norm")]
    query_key_norm: &'static str,
    fused_projections: bool,
    #[serde(getter = "biases")]
    biases: Value,
    #[serde(with = "RopeFields")]
    rope: Rope,
    #[serde(getter = "local_rope")]
    local_rope: Option<LocalRope>,
    without_rope: Vec<bool>,
    turns_neighbours: bool,
    sliding_windows: Vec<Option<usize>>,
    #[serde(getter = "attention_scale")]
    attention_scale: f64,
    attention_cap: Option<f64>,
    logit_cap: Option<f64>,
    clip_qkv: Option<f64>,
    embedding_scale: f64,
    residual_scale: f64,
    logit_scale: f64,
    #[serde(getter = "dropouts")]
    dropouts: Vec<Value>,
}

/// Those of [`Rope`].
#[derive(Serialize)]
#[serde(remote = "Rope")]
struct RopeFields {
    theta: f64,
    width: usize,
    #[serde(flatten, with = "Scaling")]
    scaling: RopeScaling,
}

/// The variants of [`RopeScaling`] with their numbers.
#[derive(Serialize)]
#[serde(remote = "RopeScaling", tag = "scaling", rename_all = "lowercase")]
enum Scaling {
    None,
    Linear { factor: f64 },
    Dynamic { factor: f64, original: f64 },
    Yarn { factor: f64, attention_factor: f64, beta_fast: f64, beta_slow: f64, original: f64, truncate: bool },
    Llama3 { factor: f64, low_freq_factor: f64, high_freq_factor: f64, original: f64 },
    LongRope { short: Vec<f64>, long: Vec<f64>, attention_factor: f64, original: f64 },
}

#[derive(Serialize)]
#[serde(transparent)]
struct LocalRope(#[serde(with = "RopeFields")] Rope);

fn biases(config: &Config) -> Value {
    json!({"qkv": config.qkv_bias, "output": config.output_bias, "mlp": config.mlp_bias})
}

fn local_rope(config: &Config) -> Option<LocalRope> {
    config.local_rope.clone().map(LocalRope)
}

fn attention_scale(config: &Config) -> f64 {
    config.attention_scale.unwrap_or((config.head_dim as f64).powf(-0.5))
}

fn dropouts(config: &Config) -> Vec<Value> {
    config.dropouts.iter().map(|(field, value)| json!({"field": field, "value": value})).collect()
}

impl Architecture {
    /// A line for each part; what a model does not have is left out.
    pub(super) fn show(&self, page: &mut Page) {
        let config = &self.0;
        let layers = counted(config.num_hidden_layers as u64, "layer");
        let (width, vocabulary, parameters) = (config.hidden_size, config.vocab_size, count(config.parameters()));
        let kind = &config.model_type;
        page.line(
            "model",
            format!("{kind}, {layers}, width {width}, vocabulary {vocabulary}, {parameters} parameters"),
        );
        if !config.other_parts.is_empty() {
            let parts = config.other_parts.join(", ");
            page.line("left as is", format!("{parts}, which text does not pass through"));
        }
        let one_for_all = config.fused_projections;
        let with = [
            (config.qkv_bias, "biases on queries, keys and values".to_owned()),
            (config.output_bias, "a bias on the output".into()),
            (one_for_all, "one projection for queries, keys and values".into()),
            (
                config.query_key_norm != QueryKeyNorm::None,
                format!("norms on queries and keys ({})", query_key_norm(config)),
            ),
        ];
        let (heads, keys) = (counted(config.num_attention_heads as u64, "head"), config.num_key_value_heads);
        let scale = config.attention_scale.map(|scale| format!(", scores times {scale}")).unwrap_or_default();
        let (width, with) = (config.head_dim, parts(&with));
        page.line("attention", format!("{heads} of {width}, {keys} for keys and values{with}{scale}"));
        let with = [(config.mlp_bias, "biases".to_owned()), (one_for_all, "one projection for gate and up".into())];
        let (width, activation) = (config.intermediate_size, activation(config));
        page.line("mlp", format!("width {width}, gated by {activation}{}", parts(&with)));
        page.line("norms", format!("{} {}, epsilon {:e}", norm(config), norm_places(config), config.norm_epsilon));
        page.line("positions", format!("up to {}", config.max_position_embeddings));
        page.line(if config.local_rope.is_some() { "rope, global" } else { "rope" }, rope(&config.rope));
        if let Some(local) = &config.local_rope {
            page.line("rope, local", rope(local));
        }
        let without = (1..).zip(&config.without_rope).filter(|(_, is_without)| **is_without);
        page.list("no rope", &without.map(|(layer, _)| format!("layer {layer}")).collect::<Vec<_>>());
        if config.turns_neighbours {
            page.line("", "neighbours in a head are turned, not its two halves");
        }
        page.line("windows", windows(&config.sliding_windows));
        let caps = [("attention scores", config.attention_cap), ("logits", config.logit_cap)];
        let clip = config.clip_qkv.map(|clip| format!("queries, keys and values cut off at {clip}"));
        let caps = caps.into_iter().filter_map(|(what, cap)| Some(format!("{what} {}", cap?)));
        page.list("soft caps", &caps.chain(clip).collect::<Vec<_>>());
        let scales = [
            ("embeddings", config.embedding_scale),
            ("what a block adds", config.residual_scale),
            ("logits", config.logit_scale),
        ];
        let scales = scales.into_iter().filter(|(_, scale)| *scale != 1.0);
        page.list("scales", &scales.map(|(what, scale)| format!("{what} times {scale}")).collect::<Vec<_>>());
        let dropouts: Vec<String> = config.dropouts.iter().map(|(name, value)| format!("{name} {value}")).collect();
        if !dropouts.is_empty() {
            page.line("dropout", format!("{}: cannot be trained so", dropouts.join(", ")));
        }
        page.line("head", if config.tie_word_embeddings { "tied to the embedding" } else { "a matrix of its own" });
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

fn rope(rope: &Rope) -> String {
    let scaling = Scaling::serialize(&rope.scaling, value::Serializer).expect("names and numbers");
    let shown = |(name, value): (&String, &Value)| match value {
        Value::Array(values) => format!(" {name} of {} frequencies", values.len()),
        value => format!(" {name} {value}"),
    };
    let numbers = scaling.as_object().into_iter().flatten().filter(|(name, _)| *name != KIND).map(shown);
    let (kind, numbers) = (scaling[KIND].as_str().expect("its tag"), numbers.collect::<Vec<_>>().join(","));
    format!("theta {}, {} values of a head, scaling {kind}{numbers}", rope.theta, rope.width)
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
