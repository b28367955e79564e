//! The fields of a `config.json`, read one by one: what was never asked for is refused at the end.

use faults::json::special_float;
use faults::{Fault, shortened};
use serde_json::{Map, Value};

use super::config::Activation;
use super::neutral::activation;

/// Fields of any `config.json` that do not change the forward pass of a decoder in training, or that are read elsewhere
/// (the tokens by the tokenizer).
const WITHOUT_EFFECT: [&str; 61] = [
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
    "sep_token_id",
    "_name_or_path",
    "_commit_hash",
    "pretraining_tp",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_flash_attn_2_enabled",
    "gradient_checkpointing",
    "is_llama_config",
    "rope_interleaved",
    "finetuned",
    "auto_map",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "chunk_size_feed_forward",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "is_encoder_decoder",
    "is_decoder",
    "use_mrope",
    "cache_implementation",
    "tokenizer_class",
    "torchscript",
    "model_max_length",
    "max_sequence_length",
    "unsloth_fixed",
    "unsloth_version",
    // Lengths of other programs, and of training.
    "seq_length",
    "sequence_length",
    "max_seq_len",
    "max_seq_length",
    "n_positions",
    "n_ctx",
    "train_seq_len",
    // What a class of transformers has for all of its models.
    "name_or_path",
    "decoder_start_token_id",
    "cls_token_id",
    "mask_token_id",
    "prefix",
    "finetuning_task",
    "task_specific_params",
    "tf_legacy_loss",
    "use_bfloat16",
    // How attention is computed, not what.
    "use_flash_attn",
    "use_flash_attention_2",
];

/// What versions of transformers up to 4 write there of how answers are drawn.
const OF_GENERATION: [&str; 25] = [
    "max_length",
    "min_length",
    "do_sample",
    "early_stopping",
    "num_beams",
    "num_beam_groups",
    "diversity_penalty",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "repetition_penalty",
    "length_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "num_return_sequences",
    "output_scores",
    "return_dict_in_generate",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "remove_invalid_values",
    "exponential_decay_length_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
];

/// What a model of these families does without being told: it sees what stands before alone, and knows where that stands. Every
/// other switch is off where nobody reads it.
const SWITCHED_ON: [&str; 3] = ["is_causal", "use_rope", "use_rotary"];

/// The fields of a `config.json`, which remember what was asked for and keep the first fault.
pub(super) struct Fields<'a> {
    /// What stands before the names in faults.
    path: &'static str,
    map: &'a Map<String, Value>,
    asked: Vec<String>,
    pub(super) fault: Option<Fault>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>) -> Self {
        Self::within("", map)
    }

    /// Those of an object that the file has at `path`, which ends in a dot.
    pub(super) fn within(path: &'static str, map: &'a Map<String, Value>) -> Self {
        Self { path, map, asked: Vec::new(), fault: None }
    }

    /// Takes over what is wrong with the fields of an object inside.
    pub(super) fn include(&mut self, inner: Fields, changes_nothing: impl Fn(&str, &Value) -> bool) {
        if let Err(fault) = inner.refuse_unread(changes_nothing) {
            self.fault.get_or_insert(fault);
        }
    }

    /// True when the file has a value for `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// True when `name` was asked for.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.asked.iter().any(|asked| asked == name)
    }

    /// Gives a default when the field is absent or null, and keeps a fault when it has the wrong type.
    fn read<T>(&mut self, name: &str, expected: &str, convert: fn(&Value) -> Option<T>) -> Option<T> {
        self.asked.push(name.into());
        let value = self.map.get(name).filter(|value| !value.is_null())?;
        let converted = convert(value);
        if converted.is_none() {
            let found = special_float(value).map_or_else(|| shortened(&value.to_string()), str::to_owned);
            self.reject(format!("`{}{name}` must be {expected}, found `{found}`", self.path));
        }
        converted
    }

    fn required<T: Default>(&mut self, name: &str, expected: &str, convert: fn(&Value) -> Option<T>) -> T {
        let value = self.read(name, expected, convert);
        if value.is_none() {
            self.reject(format!("`{}{name}` is missing", self.path));
        }
        value.unwrap_or_default()
    }

    pub(super) fn size(&mut self, name: &str) -> usize {
        let size = self.required(name, "a whole number", as_size);
        if size == 0 {
            self.reject(format!("`{}{name}` must be at least 1", self.path));
        }
        size
    }

    pub(super) fn optional_size(&mut self, name: &str) -> Option<usize> {
        self.read(name, "a whole number", as_size)
    }

    pub(super) fn number(&mut self, name: &str, default: f64) -> f64 {
        self.optional_number(name).unwrap_or(default)
    }

    /// A switch that is off when it is null, and has a `default` when it is absent.
    pub(super) fn nullable<T>(&mut self, name: &str, read: fn(&mut Self, &str) -> Option<T>, default: T) -> Option<T> {
        let absent = !self.map.contains_key(name);
        let value = read(self, name);
        if absent { Some(default) } else { value }
    }

    pub(super) fn optional_number(&mut self, name: &str) -> Option<f64> {
        self.read(name, "a number", Value::as_f64)
    }

    pub(super) fn required_number(&mut self, name: &str) -> f64 {
        self.required(name, "a number", Value::as_f64)
    }

    /// A number that is not left out, but may be null.
    pub(super) fn present_number(&mut self, name: &str) -> Option<f64> {
        if !self.map.contains_key(name) {
            self.reject(format!("`{}{name}` is missing", self.path));
        }
        self.optional_number(name)
    }

    pub(super) fn numbers(&mut self, name: &str) -> Option<Vec<f64>> {
        self.read(name, "a list of numbers", |value| value.as_array()?.iter().map(Value::as_f64).collect())
    }

    pub(super) fn word(&mut self, name: &str) -> Option<String> {
        self.read(name, "a string", as_string)
    }

    pub(super) fn required_word(&mut self, name: &str) -> String {
        self.required(name, "a string", as_string)
    }

    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
        self.read(name, "true or false", Value::as_bool).unwrap_or(default)
    }

    pub(super) fn words(&mut self, name: &str) -> Option<Vec<String>> {
        self.read(name, "a list of strings", |value| value.as_array()?.iter().map(as_string).collect())
    }

    pub(super) fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        // A number that JSON does not have is an object, too, as transformers 5 writes it.
        self.read(name, "an object", |value| value.as_object().filter(|_| special_float(value).is_none()).cloned())
    }

    /// The window of each layer by its kind.
    pub(super) fn layer_windows(
        &mut self,
        types: &[String],
        layers: usize,
        window: Option<usize>,
    ) -> Vec<Option<usize>> {
        if types.len() != layers {
            self.reject(format!("`layer_types` names {} layers of {layers}", types.len()));
        }
        let mut window_of = |layer_type: &String| match layer_type.as_str() {
            "sliding_attention" => {
                if window.is_none() {
                    self.reject("`layer_types` has `sliding_attention`, and there is no `sliding_window`".into());
                }
                window
            }
            "full_attention" => None,
            other => {
                self.reject(format!("the layer type `{other}` is not supported"));
                None
            }
        };
        types.iter().map(&mut window_of).collect()
    }

    /// Refuses any name at `name` but those of `expected`.
    pub(super) fn expect_activation(&mut self, name: &str, expected: Activation) {
        if let Some(word) = self.word(name).filter(|word| activation(word) != Some(expected)) {
            let path = self.path;
            let usual = match expected {
                Activation::Silu => "silu",
                Activation::GeluTanh => "gelu_pytorch_tanh",
            };
            self.reject(format!("`{path}{name}` is `{word}`, and only `{usual}` is supported for this architecture"));
            self.fault = self.fault.take().map(|fault| fault.or_hint("such a model cannot be trained here"));
        }
    }

    /// Takes note of fields that have no effect here, whatever they hold.
    pub(super) fn pass_over(&mut self, names: &[&str]) {
        self.asked.extend(names.iter().map(|name| (*name).to_owned()));
    }

    /// Keeps a fault, unless there is one already.
    pub(super) fn reject(&mut self, message: String) {
        self.fault.get_or_insert_with(|| Fault::new(message));
    }

    /// Refuses a field that was never asked for, unless it has no effect, says nothing, or `changes_nothing`.
    pub(super) fn refuse_unread(self, changes_nothing: impl Fn(&str, &Value) -> bool) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        for (name, value) in self.map {
            let idle = WITHOUT_EFFECT.iter().chain(&OF_GENERATION).any(|idle| idle == name);
            let known = idle || self.knows(name);
            let nothing = special_float(value).is_some()
                || match value {
                    Value::Null => true,
                    Value::Array(values) => values.is_empty(),
                    Value::Object(entries) => entries.is_empty(),
                    _ => false,
                };
            let off = *value == Value::Bool(SWITCHED_ON.contains(&name.as_str()));
            // An empty one names no method, which transformers refuses as well.
            let of_codes = name == "quantization_config" && value.is_object() && special_float(value).is_none();
            let neutral = !of_codes && (nothing || off || changes_nothing(name, value));
            if name == "quantization_config" && !neutral {
                let hint = "take the model that it was made from, and write `model.quantize = \"nf4\"` or \"int8\"";
                return Err(
                    Fault::new("the weights of this model are quantised already (`quantization_config`)").hint(hint)
                );
            }
            if !known && !neutral {
                let message = format!("the field `{}{name}` of this model is not understood", self.path);
                return Err(Fault::new(message).hint(
                    "it may change the model's mathematics; if it does not, take a copy of the folder with a \
                     `config.json` that leaves it out",
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
