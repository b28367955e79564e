//! `config.json` of a Hugging Face folder, read into what the one decoder needs to know.
//!
//! Each architecture says in its own file which of these switches it turns; a field that would change the mathematics
//! and is not understood is refused by name.

use faults::{Fault, Place, nearest};
use serde_json::{Map, Value};

use super::rotary::RopeScaling;
use super::{llama, mistral, qwen2, qwen3};

/// The decoder's shape and switches, whatever the family.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `model_type` of the file, for example `llama`.
    pub model_type: String,
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
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched for long contexts.
    pub rope_scaling: RopeScaling,
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
    /// RMSNorm over each head's queries and keys before the rotary encoding.
    pub query_key_norm: bool,
    /// For each layer, how many positions back it sees, itself included; `None` sees all.
    pub sliding_windows: Vec<Option<usize>>,
}

/// Reads what is a family's own into the shared configuration.
type Configure = fn(&mut Fields, &mut Config);

/// The families of decoder, each with the function that reads what is its own.
const FAMILIES: [(&str, Configure); 4] = [
    ("llama", llama::configure),
    ("mistral", mistral::configure),
    ("qwen2", qwen2::configure),
    ("qwen3", qwen3::configure),
];

/// Fields of any `config.json` that do not change the forward pass of a decoder in training, or that are read elsewhere
/// (the tokens by the tokenizer).
const WITHOUT_EFFECT: [&str; 30] = [
    "architectures",
    "model_type",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "transformers.js_config",
    "use_cache",
    "initializer_range",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "unk_token_id",
    "_name_or_path",
    "pretraining_tp",
    "attention_dropout",
    "hidden_dropout",
    "attn_implementation",
    "_attn_implementation",
    "is_llama_config",
    "rope_interleaved",
    "auto_map",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "chunk_size_feed_forward",
    "id2label",
    "label2id",
    "problem_type",
    "is_encoder_decoder",
    "use_mrope",
];

impl Config {
    /// Reads the text of a `config.json`, shown as `place` in faults.
    ///
    /// # Errors
    /// JSON that is broken, an architecture that is not known, a field that is missing, of the wrong type, impossible,
    /// or that would change the mathematics in a way that is not understood.
    pub fn parse(text: &str, place: &str) -> Result<Self, Fault> {
        let at = || Place::File(place.into());
        let value: Value = serde_json::from_str(text)
            .map_err(|error| Fault::new(format!("`config.json` is not valid JSON: {error}")).at(at()))?;
        let Value::Object(map) = value else {
            return Err(Fault::new("`config.json` must hold a JSON object").at(at()));
        };
        Self::from_map(&map).map_err(|fault| fault.at(at()))
    }

    fn from_map(map: &Map<String, Value>) -> Result<Self, Fault> {
        let mut fields = Fields { map, asked: Vec::new(), fault: None };
        let model_type: String = fields.required("model_type", "a string", as_string);
        if let Some(fault) = fields.fault {
            return Err(fault.hint("is this the folder of a Hugging Face model?"));
        }
        let Some((_, configure)) = FAMILIES.iter().find(|(name, _)| *name == model_type) else {
            let names = FAMILIES.map(|(name, _)| name);
            let near = nearest(&model_type, names).map(|near| format!("; the nearest is `{near}`")).unwrap_or_default();
            return Err(Fault::new(format!("unknown architecture `{model_type}`"))
                .hint(format!("known architectures: {}{near}", names.join(", "))));
        };
        let mut config = Self::shared(&mut fields, model_type);
        configure(&mut fields, &mut config);
        config.check(&mut fields);
        fields.refuse_unread()?;
        Ok(config)
    }

    /// What all families spell alike.
    fn shared(fields: &mut Fields, model_type: String) -> Self {
        let hidden_size = fields.size("hidden_size");
        let num_attention_heads = fields.size("num_attention_heads");
        let num_hidden_layers = fields.size("num_hidden_layers");
        let (rope_theta, rope_scaling) = RopeScaling::read(fields);
        Self {
            vocab_size: fields.size("vocab_size"),
            intermediate_size: fields.size("intermediate_size"),
            num_key_value_heads: fields.optional_size("num_key_value_heads").unwrap_or(num_attention_heads),
            head_dim: fields.optional_size("head_dim").unwrap_or(hidden_size / num_attention_heads.max(1)),
            rms_norm_eps: fields.number("rms_norm_eps", 1e-6),
            rope_theta,
            rope_scaling,
            max_position_embeddings: fields.optional_size("max_position_embeddings").unwrap_or(2048),
            tie_word_embeddings: fields.flag("tie_word_embeddings", false),
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            query_key_norm: false,
            sliding_windows: vec![None; num_hidden_layers.min(1 << 16)],
            model_type,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
        }
    }

    fn check(&self, fields: &mut Fields) {
        fields.expect_word("hidden_act", "silu");
        if !(self.rms_norm_eps > 0.0 && self.max_position_embeddings > 0) {
            fields.reject("`rms_norm_eps` and `max_position_embeddings` must be above 0".into());
        }
        let heads = (self.num_attention_heads, self.num_key_value_heads);
        if heads.1 == 0 || !heads.0.is_multiple_of(heads.1) {
            fields.reject(format!("{} query heads cannot share {} key heads evenly", heads.0, heads.1));
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            fields.reject(format!("`head_dim` must be even, found {}", self.head_dim));
        }
        if self.num_hidden_layers > 1 << 16 || self.hidden_size > 1 << 20 || self.vocab_size > 1 << 28 {
            fields.reject("the sizes are not those of any model".into());
        }
    }

    /// Number of weights of the backbone, head and embedding counted once when tied.
    pub fn parameters(&self) -> u64 {
        let (hidden, inner) = (self.hidden_size as u64, self.intermediate_size as u64);
        let (queries, keys) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        let attention = hidden * (2 * queries + 2 * keys) as u64;
        let embeddings = if self.tie_word_embeddings { 1 } else { 2 };
        (attention + 3 * hidden * inner + 2 * hidden) * self.num_hidden_layers as u64
            + embeddings * hidden * self.vocab_size as u64
            + hidden
    }
}

/// The fields of a `config.json`, which remember what was asked for and keep the first fault.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    asked: Vec<String>,
    fault: Option<Fault>,
}

impl<'a> Fields<'a> {
    /// Gives a default when the field is absent or null, and keeps a fault when it has the wrong type.
    fn read<T>(&mut self, name: &str, expected: &str, convert: fn(&Value) -> Option<T>) -> Option<T> {
        self.asked.push(name.into());
        let value = self.map.get(name).filter(|value| !value.is_null())?;
        let converted = convert(value);
        if converted.is_none() {
            self.reject(format!("`{name}` must be {expected}, found `{value}`"));
        }
        converted
    }

    fn required<T: Default>(&mut self, name: &str, expected: &str, convert: fn(&Value) -> Option<T>) -> T {
        let value = self.read(name, expected, convert);
        if value.is_none() {
            self.reject(format!("`{name}` is missing"));
        }
        value.unwrap_or_default()
    }

    pub(super) fn size(&mut self, name: &str) -> usize {
        let size = self.required(name, "a whole number", as_size);
        if size == 0 {
            self.reject(format!("`{name}` must be at least 1"));
        }
        size
    }

    pub(super) fn optional_size(&mut self, name: &str) -> Option<usize> {
        self.read(name, "a whole number", as_size)
    }

    pub(super) fn number(&mut self, name: &str, default: f64) -> f64 {
        self.read(name, "a number", Value::as_f64).unwrap_or(default)
    }

    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
        self.read(name, "true or false", Value::as_bool).unwrap_or(default)
    }

    pub(super) fn words(&mut self, name: &str) -> Option<Vec<String>> {
        self.read(name, "a list of strings", |value| value.as_array()?.iter().map(as_string).collect())
    }

    pub(super) fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        self.read(name, "an object", |value| value.as_object().cloned())
    }

    /// Refuses any value of `name` but `expected`.
    pub(super) fn expect_word(&mut self, name: &str, expected: &str) {
        let word = self.read(name, "a string", as_string);
        if let Some(word) = word.filter(|word| word != expected) {
            self.reject(format!("`{name}` is `{word}`, and only `{expected}` is supported for this architecture"));
        }
    }

    /// Keeps a fault, unless there is one already.
    pub(super) fn reject(&mut self, message: String) {
        self.fault.get_or_insert_with(|| Fault::new(message));
    }

    fn refuse_unread(self) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        for (name, value) in self.map {
            let known = self.asked.contains(name) || WITHOUT_EFFECT.contains(&name.as_str());
            let neutral = value.is_null() || *value == Value::Bool(false);
            if !known && !neutral {
                return Err(Fault::new(format!("the field `{name}` of this model is not understood")).hint(
                    "it may change the model's mathematics; remove it from the folder's `config.json` if it does not",
                ));
            }
        }
        Ok(())
    }
}

fn as_string(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn as_size(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|value| value.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama(extra: &str) -> String {
        format!(
            r#"{{"model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 172,
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
        assert_eq!((old.rope_theta, old.head_dim, old.num_key_value_heads), (500000.0, 8, 8));
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
    }

    #[test]
    fn the_number_of_parameters_is_that_of_the_published_models() {
        let text = r#"{"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": true}"#;
        assert_eq!(Config::parse(text, "c").expect("SmolLM2-135M").parameters(), 134_515_008);
    }
}
