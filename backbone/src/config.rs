//! `config.json` of a Hugging Face folder, read into what the one decoder needs to know.
//!
//! Each architecture says in its own file which of these switches it turns; a field that would change the mathematics
//! and is not understood is refused by name.

use faults::{Fault, Place, json as python, nearest, refuse_pointer};
use serde_json::{Map, Value};

use super::fields::Fields;
use super::neutral::changes_nothing;
pub use super::ops::Activation;
use super::rope::{Rope, RopeDefaults, RopeScaling};
use crate::families::{FAMILIES, gemma3_images};

/// The decoder's shape and switches, whatever the family.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `model_type` of the file, for example `llama`.
    pub model_type: String,
    /// Where the decoder is among the modules of the whole model, as transformers has it now.
    pub decoder_path: &'static str,
    /// Where the parts beside it are, which a text does not pass through: they are left as they are.
    pub other_parts: &'static [&'static str],
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides the number of query heads.
    pub num_key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// The norms' formula.
    pub norm: NormKind,
    /// Added to the mean square in every norm.
    pub norm_epsilon: f64,
    /// Where a block has norms.
    pub norm_places: NormPlaces,
    /// The activation of the gated MLP.
    pub activation: Activation,
    /// The rotary encoding.
    pub rope: Rope,
    /// The rotary encoding of layers with a sliding window, where it differs.
    pub local_rope: Option<Rope>,
    /// The layers whose queries and keys know nothing of their positions, for each layer (NoPE, Kazemnejad et al. 2023, arXiv
    /// 2305.19466); none where the list is empty.
    pub without_rope: Vec<bool>,
    /// The pairs that are turned are neighbours in a head, in place of the values at the same place in its two halves.
    pub turns_neighbours: bool,
    /// The longest sequence the model was made for.
    pub max_position_embeddings: usize,
    /// The output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Bias on the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias on the attention's output projection.
    pub output_bias: bool,
    /// Bias on the three projections of the MLP.
    pub mlp_bias: bool,
    /// One projection gives queries, keys and values, and one gate and up.
    pub fused_projections: bool,
    /// RMSNorm over queries and keys before the rotary encoding.
    pub query_key_norm: QueryKeyNorm,
    /// Queries, keys and values are cut off at this size.
    pub clip_qkv: Option<f64>,
    /// For each layer, how many positions back it sees, itself included; `None` sees all.
    pub sliding_windows: Vec<Option<usize>>,
    /// Factor of the products of queries and keys; `None` is `1 / sqrt(head_dim)`.
    pub attention_scale: Option<f64>,
    /// Attention scores become `cap * tanh(score / cap)`.
    pub attention_cap: Option<f64>,
    /// Factor of the embeddings.
    pub embedding_scale: f64,
    /// Factor of what attention and MLP add to the residual stream.
    pub residual_scale: f64,
    /// Factor of the logits.
    pub logit_scale: f64,
    /// Logits become `cap * tanh(logit / cap)`.
    pub logit_cap: Option<f64>,
    /// The fields that have transformers drop parts of the activations in training, with their probabilities; those that
    /// drop nothing are left out.
    pub dropouts: Vec<(&'static str, f64)>,
}

/// A norm's formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// RMSNorm: `x / rms(x) * weight`.
    Rms,
    /// RMSNorm with weights around zero: `x / rms(x) * (1 + weight)`.
    RmsPlusOne,
    /// LayerNorm without weights: `(x - mean) / deviation`.
    LayerWithoutWeights,
}

/// Where attention and MLP have their norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlaces {
    /// On what goes in.
    Before,
    /// On what comes out, before it is added to the residual stream.
    After,
    /// On both.
    Both,
}

/// The rotary encoding of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerRotary {
    /// That of most layers.
    Global,
    /// That of layers with a sliding window, where they have their own.
    Local,
    /// None.
    None,
}

/// How queries and keys are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKeyNorm {
    /// Nothing.
    None,
    /// Each head.
    Heads,
    /// All heads of a position together.
    Together,
}

/// The hint at a configuration that is impossible.
const AGAIN: &str = "it is not as its model has it: take `config.json` from where the weights come from again";

impl Config {
    /// Reads the text of a `config.json`, shown as `place` in faults.
    ///
    /// # Errors
    /// JSON that is broken, an architecture that is not known, a field that is missing, of the wrong type, impossible,
    /// or that would change the mathematics in a way that is not understood.
    pub fn parse(text: &str, place: &str) -> Result<Self, Fault> {
        let at = || Place::File(place.into());
        refuse_pointer(place, text.as_bytes())?;
        let read = python::read_object(text).map_err(|error| {
            let what = if error.is_data() { "must hold a JSON object" } else { "is not valid JSON" };
            Fault::new(format!("`config.json` {what}: {error}")).at(at()).hint(AGAIN)
        })?;
        let map = read.with_special_floats();
        let images = map.get("model_type").is_some_and(|name| name == gemma3_images::MODEL_TYPE);
        let read = if images { gemma3_images::read(&map) } else { Self::from_map("", &map) };
        read.map_err(|fault| fault.at(at()).or_hint(AGAIN))
    }

    /// The decoder that an object of the file describes, at `path`, which ends in a dot.
    pub(super) fn from_map(path: &'static str, map: &Map<String, Value>) -> Result<Self, Fault> {
        let mut fields = Fields::within(path, map);
        let model_type = fields.required_word("model_type");
        if let Some(fault) = fields.fault {
            return Err(fault.hint("is this the folder of a Hugging Face model?"));
        }
        let Some(family) = FAMILIES.iter().find(|family| family.name == model_type) else {
            let names: Vec<&str> =
                FAMILIES.iter().map(|family| family.name).chain([gemma3_images::MODEL_TYPE]).collect();
            let near = nearest(&model_type, names.iter().copied())
                .map(|near| format!("; the nearest is `{near}`"))
                .unwrap_or_default();
            return Err(Fault::new(format!("unknown architecture `{model_type}`"))
                .hint(format!("known architectures: {}{near}", names.join(", "))));
        };
        let mut config = Self::shared(&mut fields, model_type);
        (family.configure)(&mut fields, &mut config);
        if config.norm != NormKind::LayerWithoutWeights {
            config.norm_epsilon = fields.number("rms_norm_eps", config.norm_epsilon);
        }
        // A family that has more to say about the rotary encoding has read it.
        if !fields.knows("rope_theta") {
            let original = fields.optional_size("original_max_position_embeddings");
            config.rope = Rope::read(&mut fields, RopeDefaults { original, ..config.rope_defaults() });
            if config.rope.width != config.head_dim {
                fields.reject("`partial_rotary_factor` is not supported for this architecture".into());
            }
        }
        if let RopeScaling::Dynamic { factor, original } = config.rope.scaling {
            config.max_position_embeddings = (factor * original) as usize;
        }
        // A family with another activation has read it.
        if !fields.knows("hidden_act") {
            fields.expect_activation("hidden_act", config.activation);
        }
        config.check(&mut fields);
        fields.refuse_unread(|name, value| changes_nothing(name, value, map, &config))?;
        Ok(config)
    }

    /// Reads the fields that all families spell alike.
    fn shared(fields: &mut Fields, model_type: String) -> Self {
        let hidden_size = fields.size("hidden_size");
        let num_attention_heads = fields.size("num_attention_heads");
        let num_hidden_layers = fields.size("num_hidden_layers");
        let head_dim = fields.optional_size("head_dim").unwrap_or(hidden_size / num_attention_heads.max(1));
        let max_position_embeddings = fields.optional_size("max_position_embeddings").unwrap_or(2048);
        Self {
            vocab_size: fields.size("vocab_size"),
            intermediate_size: fields.size("intermediate_size"),
            num_key_value_heads: fields.optional_size("num_key_value_heads").unwrap_or(num_attention_heads),
            head_dim,
            norm: NormKind::Rms,
            norm_epsilon: 1e-6,
            norm_places: NormPlaces::Before,
            activation: Activation::Silu,
            rope: Rope::plain(head_dim, 10_000.0),
            local_rope: None,
            without_rope: Vec::new(),
            turns_neighbours: false,
            max_position_embeddings,
            tie_word_embeddings: fields.flag("tie_word_embeddings", false),
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            fused_projections: false,
            query_key_norm: QueryKeyNorm::None,
            clip_qkv: None,
            sliding_windows: vec![None; num_hidden_layers.min(1 << 16)],
            attention_scale: None,
            attention_cap: None,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logit_scale: 1.0,
            logit_cap: None,
            dropouts: dropouts(fields),
            model_type,
            decoder_path: "model",
            other_parts: &[],
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
        }
    }

    /// Which of the rotary encodings a layer has.
    pub(super) fn rotary_of(&self, layer: usize) -> LayerRotary {
        match self.local_rope.is_some() && self.sliding_windows[layer].is_some() {
            _ if self.without_rope.get(layer) == Some(&true) => LayerRotary::None,
            true => LayerRotary::Local,
            false => LayerRotary::Global,
        }
    }

    /// The rotary settings that most families take where the file says nothing.
    pub(super) fn rope_defaults(&self) -> RopeDefaults {
        let (head_dim, positions) = (self.head_dim, self.max_position_embeddings);
        RopeDefaults { head_dim, theta: self.rope.theta, partial: 1.0, positions, original: None }
    }

    /// Whether such a model can be trained as it describes itself; to run it needs nothing of this.
    ///
    /// # Errors
    /// A dropout inside of the model, which transformers applies in training. The fault has no place.
    pub fn check_training(&self) -> Result<(), Fault> {
        let Some((name, probability)) = self.dropouts.first() else { return Ok(()) };
        Err(Fault::new(format!(
            "`{name}` of this model is {probability}, and dropout inside of the model is not supported"
        ))
        .hint(format!(
            "to train without it, take a copy of the folder whose `config.json` has `{name}` = 0; `adapter.dropout` is there"
        )))
    }

    fn check(&self, fields: &mut Fields) {
        if !(self.norm_epsilon > 0.0 && self.max_position_embeddings > 0) {
            fields.reject("`rms_norm_eps` and `max_position_embeddings` must be above 0".into());
        }
        let heads = (self.num_attention_heads, self.num_key_value_heads);
        if heads.1 == 0 || !heads.0.is_multiple_of(heads.1) {
            fields.reject(format!("{} query heads cannot share {} key heads evenly", heads.0, heads.1));
        }
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads.max(1));
        if !fields.has("head_dim") && self.head_dim == hidden / heads && !hidden.is_multiple_of(heads) {
            fields.reject(format!("`hidden_size` = {hidden} is not a multiple of `num_attention_heads` = {heads}"));
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            fields.reject(format!("`head_dim` must be even, found {}", self.head_dim));
        }
        let large = self.num_hidden_layers > 1 << 16 || self.hidden_size > 1 << 20 || self.vocab_size > 1 << 28;
        let width = self.num_attention_heads.saturating_mul(self.head_dim);
        if large || self.intermediate_size > 1 << 24 || width > 1 << 20 {
            fields.reject("the sizes are not those of any model".into());
        }
        let factors = [self.embedding_scale, self.residual_scale, self.logit_scale];
        let optional = [self.attention_scale, self.attention_cap, self.logit_cap, self.clip_qkv];
        let usable = |value: f64| value > 0.0 && value.is_finite();
        if !factors.into_iter().chain(optional.into_iter().flatten()).all(usable) {
            fields.reject("the model's soft caps, clips and multipliers must be above 0".into());
        }
        if self.sliding_windows.contains(&Some(0)) {
            fields.reject("`sliding_window` must be at least 1".into());
        }
    }
}

/// Every spelling of a dropout inside of a decoder that a family here may have.
fn dropouts(fields: &mut Fields) -> Vec<(&'static str, f64)> {
    let names = ["attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "embedding_dropout"];
    let found = names.map(|name| (name, fields.number(name, 0.0)));
    found.into_iter().filter(|(_, probability)| *probability != 0.0).collect()
}

#[cfg(test)]
mod tests;
