//! `config.json` of a Hugging Face folder, read into what the one decoder needs to know.
//!
//! Each architecture says in its own file which of these switches it turns; a field that would change the mathematics
//! and is not understood is refused by name.

use faults::{Fault, Place, nearest};
use serde_json::{Map, Value};

use super::fields::Fields;
use super::rope::{Rope, RopeDefaults, RopeScaling};
use super::{gemma, gemma2, gemma3, gemma3_images, granite, llama, mistral, olmo, olmo2, phi3, qwen2, qwen3};

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
    /// That of layers with a sliding window, where they have their own.
    pub local_rope: Option<Rope>,
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

/// What is normalised of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKeyNorm {
    /// Nothing.
    None,
    /// Each head.
    Heads,
    /// All heads of a position together.
    Together,
}

/// The activation of a gated MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x sigmoid(x)`
    Silu,
    /// GELU in its tanh approximation.
    GeluTanh,
}

/// Reads what is a family's own into the shared configuration.
type Configure = fn(&mut Fields, &mut Config);

/// The families of decoder, each with the function that reads what is its own.
const FAMILIES: [(&str, Configure); 11] = [
    ("llama", llama::configure),
    ("mistral", mistral::configure),
    ("qwen2", qwen2::configure),
    ("qwen3", qwen3::configure),
    ("gemma", gemma::configure),
    ("gemma2", gemma2::configure),
    ("gemma3_text", gemma3::configure),
    ("olmo", olmo::configure),
    ("olmo2", olmo2::configure),
    ("granite", granite::configure),
    ("phi3", phi3::configure),
];

/// What to do about a configuration that cannot be meant.
const AGAIN: &str = "it is not as its model has it: take `config.json` from where the weights come from again";

impl Config {
    /// Reads the text of a `config.json`, shown as `place` in faults.
    ///
    /// # Errors
    /// JSON that is broken, an architecture that is not known, a field that is missing, of the wrong type, impossible,
    /// or that would change the mathematics in a way that is not understood.
    pub fn parse(text: &str, place: &str) -> Result<Self, Fault> {
        let at = || Place::File(place.into());
        let value: Value = serde_json::from_str(text)
            .map_err(|error| Fault::new(format!("`config.json` is not valid JSON: {error}")).at(at()).hint(AGAIN))?;
        let Value::Object(map) = value else {
            return Err(Fault::new("`config.json` must hold a JSON object").at(at()).hint(AGAIN));
        };
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
        let Some((_, configure)) = FAMILIES.iter().find(|(name, _)| *name == model_type) else {
            let names: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).chain([gemma3_images::MODEL_TYPE]).collect();
            let near = nearest(&model_type, names.iter().copied())
                .map(|near| format!("; the nearest is `{near}`"))
                .unwrap_or_default();
            return Err(Fault::new(format!("unknown architecture `{model_type}`"))
                .hint(format!("known architectures: {}{near}", names.join(", "))));
        };
        let mut config = Self::shared(&mut fields, model_type);
        configure(&mut fields, &mut config);
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
            fields.expect_word("hidden_act", "silu");
        }
        config.check(&mut fields);
        fields.refuse_unread()?;
        Ok(config)
    }

    /// What all families spell alike.
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

    /// What most families' rotary settings fall back on.
    pub(super) fn rope_defaults(&self) -> RopeDefaults {
        let (head_dim, positions) = (self.head_dim, self.max_position_embeddings);
        RopeDefaults { head_dim, theta: 10_000.0, partial: 1.0, positions, original: None }
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
            "set `{name}` to 0 in the folder's `config.json` to train without it; `adapter.dropout` is there"
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
mod tests {
    use super::*;

    fn llama(extra: &str) -> String {
        of("llama", extra)
    }

    fn of(model_type: &str, extra: &str) -> String {
        format!(
            r#"{{"model_type": "{model_type}", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 172,
            "num_hidden_layers": 5, "num_attention_heads": 8 {extra}}}"#
        )
    }

    #[test]
    fn both_spellings_of_the_rotary_settings_are_read() {
        let old = r#", "rope_theta": 500000.0, "rope_scaling": {"type": "linear", "factor": 2.0}"#;
        let new = r#", "rope_parameters": {"rope_theta": 500000.0, "rope_type": "linear", "factor": 2.0}"#;
        let old = Config::parse(&llama(old), "c").expect("old spelling");
        let new = Config::parse(&llama(new), "c").expect("new spelling");
        assert_eq!(old, new);
        assert_eq!((old.rope.theta, old.head_dim, old.num_key_value_heads), (500000.0, 8, 8));
        assert_eq!(old.rope.scaling, RopeScaling::Linear { factor: 2.0 });
    }

    #[test]
    fn faults_name_the_field() {
        let message = |text: &str| Config::parse(text, "m/config.json").expect_err("a fault").to_string();
        assert!(message("{").contains("not valid JSON"));
        assert!(message("[]").contains("JSON object"));
        assert!(message(r#"{"model_type": "lama"}"#).contains("nearest is `llama`"));
        assert!(message(r#"{"model_type": "llama"}"#).contains("`hidden_size` is missing"));
        assert!(message(&llama(r#", "num_key_value_heads": 3"#)).contains("evenly"));
        assert!(message(&llama(r#", "hidden_act": "gelu""#)).contains("`hidden_act` is `gelu`"));
        assert!(message(&llama(r#", "final_logit_softcapping": 30.0"#)).contains("final_logit_softcapping"));
        assert!(message(&llama(r#", "rope_scaling": {"rope_type": "magic"}"#)).contains("magic"));
        assert!(message(&llama(r#", "head_dim": 7"#)).contains("even"));
        let quantised = Config::parse(&llama(r#", "quantization_config": {"bits": 4}"#), "c").expect_err("a fault");
        assert!(quantised.message.contains("quantised already"), "{}", quantised.message);
        assert!(quantised.hint.is_some_and(|hint| hint.contains("model.quantize")));
    }

    /// As other trainers and older versions of transformers write them.
    #[test]
    fn fields_that_change_nothing_are_passed_over() {
        let extra = r#", "unsloth_fixed": true, "unsloth_version": "2025.1", "_attn_implementation_autoset": true,
            "max_length": 20, "temperature": 0.6, "do_sample": true, "num_labels": 2, "bad_words_ids": null,
            "model_max_length": 4096, "rope_scaling": {"type": "linear", "factor": 2.0, "finetuned": true}"#;
        let plain = Config::parse(&llama(r#", "rope_scaling": {"type": "linear", "factor": 2.0}"#), "c");
        assert_eq!(Config::parse(&llama(extra), "c"), plain);
        plain.expect("a configuration");
    }

    /// What each family does not know, beside what it does.
    #[test]
    fn fields_that_a_family_does_not_read_are_refused_by_name() {
        let cases = [
            (
                "llama",
                r#""rope_scaling": {"rope_type": "linear", "factor": 2.0, "mrope_section": [2, 1]}"#,
                "mrope_section",
            ),
            ("llama", r#""rope_scaling": {"rope_type": "linear"}"#, "`rope_scaling.factor` is missing"),
            ("llama", r#""partial_rotary_factor": 0.5"#, "partial_rotary_factor"),
            ("llama", r#""rope_parameters": {}, "rope_scaling": {}"#, "keep one"),
            ("llama", r#""rope_scaling": {"type": "yarn", "factor": 2.0, "beta_slow": 64}"#, "order"),
            ("mistral", r#""layer_types": ["full_attention"]"#, "layer_types"),
            ("mistral", r#""sliding_window": 0"#, "sliding_window"),
            ("qwen2", r#""qk_layernorm": true"#, "qk_layernorm"),
            ("gemma", r#""final_logit_softcapping": 30.0"#, "final_logit_softcapping"),
            ("gemma", r#""hidden_act": "relu""#, "`hidden_act` is `relu`"),
            ("llama", r#""rope_scaling": {"rope_type": "yarn"}"#, "`rope_scaling.factor` is missing"),
            ("llama", r#""attention_dropout": "0.1""#, "`attention_dropout` must be a number"),
            (
                "qwen2",
                r#""layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention", "full_attention"]"#,
                "no `sliding_window`",
            ),
            ("gemma2", r#""sliding_window": null"#, "`sliding_window` is null"),
            ("gemma3_text", r#""sliding_window": null"#, "`sliding_window` is null"),
            ("gemma2", r#""altup_num_inputs": 4"#, "altup_num_inputs"),
            ("gemma2", r#""is_causal": false"#, "is_causal"),
            ("gemma2", r#""hidden_activation": "silu""#, "`hidden_activation` is `silu`"),
            ("gemma2", r#""use_bidirectional_attention": true"#, "use_bidirectional_attention"),
            ("gemma2", r#""attn_logit_softcapping": -1"#, "soft caps"),
            ("gemma2", r#""layer_types": ["full_attention"]"#, "names 1 layers of 5"),
            ("gemma3_text", r#""attn_logit_softcapping": 50.0"#, "attn_logit_softcapping"),
            ("gemma3_text", r#""rope_parameters": {"rope_type": "default"}"#, "which kind of layers"),
            (
                "gemma3_text",
                r#""rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2, "beta_fast": 3}}"#,
                "`rope_parameters.full_attention.beta_fast`",
            ),
            ("olmo", r#""rms_norm_eps": 1e-6"#, "rms_norm_eps"),
            ("olmo", r#""clip_qkv": "8""#, "`clip_qkv` must be a number"),
            ("olmo2", r#""clip_qkv": 8.0"#, "clip_qkv"),
            ("granite", r#""num_local_experts": 8"#, "num_local_experts"),
            ("granite", r#""logits_scaling": 0"#, "multipliers"),
            ("phi3", r#""rope_scaling": {"type": "linear", "factor": 2.0}"#, "longrope"),
            (
                "phi3",
                r#""rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1]}"#,
                "short_factor",
            ),
            ("phi3", r#""partial_rotary_factor": 0.4"#, "even number"),
            ("phi3", r#""qk_layernorm": true"#, "qk_layernorm"),
        ];
        for (family, extra, expected) in cases {
            let message = Config::parse(&of(family, &format!(", {extra}")), "c").expect_err(extra).to_string();
            assert!(message.contains(expected), "{family} {extra}: {message}");
        }
    }

    /// transformers 5.23 takes the ratio of the lengths there: 64 / 16, of which the attention factor is 0.1 ln(4) + 1.
    #[test]
    fn a_yarn_factor_of_null_is_the_ratio_of_the_lengths() {
        let text = r#", "max_position_embeddings": 64, "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0,
            "original_max_position_embeddings": 16, "factor": null}"#;
        let rope = Config::parse(&llama(text), "c").expect("a configuration").rope;
        assert!((rope.attention_factor() - 1.138629436111989).abs() < 1e-12);
    }

    #[test]
    fn a_model_with_dropout_is_read_and_not_trained() {
        let parse = |extra: &str| Config::parse(&llama(extra), "c").expect("a configuration");
        parse(r#", "attention_dropout": 0.0, "resid_pdrop": 0"#).check_training().expect("nothing is dropped");
        for name in ["attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "embedding_dropout"] {
            let fault = parse(&format!(r#", "{name}": 0.1"#)).check_training().expect_err(name);
            assert!(fault.message.contains(&format!("`{name}` of this model is 0.1")), "{}", fault.message);
        }
    }

    /// Fields that are null are switched off, and absent ones have the family's own default.
    #[test]
    fn what_a_file_leaves_out_is_what_transformers_fills_in() {
        let parse = |family: &str, extra: &str| Config::parse(&of(family, extra), "c").expect("a configuration");
        let gemma2 = parse("gemma2", "");
        assert_eq!(
            (gemma2.attention_cap, gemma2.logit_cap, gemma2.tie_word_embeddings),
            (Some(50.0), Some(30.0), true)
        );
        assert_eq!((gemma2.attention_scale, gemma2.embedding_scale, gemma2.head_dim), (Some(0.0625), 8.0, 256));
        assert_eq!(gemma2.sliding_windows, [Some(4096), None, Some(4096), None, Some(4096)]);
        assert_eq!(parse("gemma2", r#", "final_logit_softcapping": null"#).logit_cap, None);
        // Both spellings of Gemma 3, as the published files have them and as transformers 5 saves them.
        let old = r#", "rope_theta": 1000000, "rope_local_base_freq": 10000, "sliding_window_pattern": 2,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0}"#;
        let new = r#", "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 10000},
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000}}, "layer_types":
            ["sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention"]"#;
        let (old, new) = (parse("gemma3_text", old), parse("gemma3_text", new));
        assert_eq!(old, new);
        assert_eq!((old.rope.theta, old.local_rope), (1e6, Some(Rope::plain(256, 1e4))));
        // The pattern that transformers writes is not the one that it reads.
        let pattern = |name: &str| format!(r#", "{name}": 2, "sliding_window": 16"#);
        let windows = parse("gemma3_text", &pattern("sliding_window_pattern")).sliding_windows;
        assert_eq!(windows, [Some(16), None, Some(16), None, Some(16)]);
        let fault = Config::parse(&of("gemma3_text", &pattern("_sliding_window_pattern")), "c").expect_err("a pattern");
        assert!(fault.message.contains("`_sliding_window_pattern` is 2"), "{}", fault.message);
        for family in ["qwen2", "qwen3"] {
            let windows = |extra: &str| parse(family, extra).sliding_windows;
            assert_eq!(windows(r#", "sliding_window": 16, "max_window_layers": 0"#), [None; 5]);
            let from = r#", "use_sliding_window": true, "max_window_layers": 3"#;
            assert_eq!(windows(from), [None, None, None, Some(4096), Some(4096)]);
            assert_eq!(windows(&format!(r#"{from}, "sliding_window": null"#)), [None; 5]);
            let deep = windows(r#", "use_sliding_window": true, "sliding_window": 16, "num_hidden_layers": 30"#);
            assert_eq!((deep[27], deep[28]), (None, Some(16)));
        }
        let mistral = parse("mistral", "");
        assert_eq!(mistral.sliding_windows, [Some(4096); 5]);
        assert_eq!(parse("mistral", r#", "sliding_window": null"#).sliding_windows, [None; 5]);
        let phi3 = parse(
            "phi3",
            r#", "rope_scaling": {"type": "longrope", "short_factor": [1, 1, 2, 3],
            "long_factor": [1, 2, 4, 8]}, "max_position_embeddings": 131072"#,
        );
        assert!((phi3.rope.attention_factor() - (1.0 + 32f64.ln() / 4096f64.ln()).sqrt()).abs() < 1e-12);
        let dynamic = parse("llama", r#", "rope_scaling": {"type": "dynamic", "factor": 4}"#);
        assert_eq!(dynamic.max_position_embeddings, 4 * 2048);
    }

    #[test]
    fn the_number_of_parameters_is_that_of_the_published_models() {
        let cases = [
            // SmolLM2-135M
            (
                r#"{"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
                "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
                "tie_word_embeddings": true}"#,
                134_515_008,
            ),
            // Qwen2.5-0.5B
            (
                r#"{"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
                "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
                "tie_word_embeddings": true}"#,
                494_032_768,
            ),
            // Gemma 2 2B
            (
                r#"{"model_type": "gemma2", "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216,
                "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}"#,
                2_614_341_888,
            ),
            // Gemma 3 1B
            (
                r#"{"model_type": "gemma3_text", "vocab_size": 262144, "hidden_size": 1152, "intermediate_size": 6912,
                "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256}"#,
                999_885_952,
            ),
            // Phi-3-mini
            (
                r#"{"model_type": "phi3", "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192,
                "num_hidden_layers": 32, "num_attention_heads": 32}"#,
                3_821_079_552,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Config::parse(text, "c").expect("a published model").parameters(), expected, "{text}");
        }
    }
}
