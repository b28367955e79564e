//! A model built from scratch (`[model.init]`): its shape, its tokenizer, and the `config.json` that it has.

use std::path::{Path, PathBuf};

use datasets::Tokenizer;
use faults::{Fault, Faults};
use serde_json::{Value, json};

use super::config::Config;
use super::families::Family;
use super::files::embedded_tokenizer;

/// The tokenizer inside this program.
const EMBEDDED: &str = "builtin:tiny";

/// The shape of a backbone built from scratch. Its vocabulary is the tokenizer's.
#[derive(Debug, Clone, PartialEq)]
pub struct Init {
    /// Its family.
    pub architecture: &'static Family,
    /// A `tokenizer.json`, a directory that holds one, or `builtin:tiny`.
    pub tokenizer: String,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Longest sequence in tokens.
    pub max_positions: usize,
    /// Base of the rotary encoding.
    pub rope_theta: f64,
    /// Whether the head is the embedding.
    pub tie_embeddings: bool,
}

impl Init {
    /// The tokenizer.
    ///
    /// # Errors
    /// A tokenizer that cannot be read.
    pub fn tokenizer(&self) -> Result<Tokenizer, Faults> {
        if self.tokenizer == EMBEDDED { embedded_tokenizer() } else { Tokenizer::load(&self.tokenizer_folder()) }
    }

    /// The tokenizer's files by their names, to be exported with the model.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn tokenizer_files(&self) -> Result<Vec<(String, Vec<u8>)>, Fault> {
        if self.tokenizer == EMBEDDED {
            let files = datasets::builtin::tokenizer_files();
            return Ok(files.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect());
        }
        let folder = self.tokenizer_folder();
        let names = ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"];
        let present = names.into_iter().map(|name| (name, folder.join(name))).filter(|(_, path)| path.is_file());
        let read = |(name, path): (&str, PathBuf)| {
            let bytes =
                faults::read_file(&path).map_err(|error| Fault::of_file("cannot read the tokenizer", &path, &error))?;
            Ok((name.to_owned(), bytes))
        };
        present.map(read).collect()
    }

    fn tokenizer_folder(&self) -> PathBuf {
        let path = Path::new(&self.tokenizer);
        if path.is_file() { path.parent().map(PathBuf::from).unwrap_or_default() } else { path.to_owned() }
    }
}

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
    let mut config = json!({
        "architectures": [init.architecture.class],
        "model_type": init.architecture.name,
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
    let own = (init.architecture.own)(init);
    for (name, value) in own.as_object().into_iter().flatten() {
        config[name] = value.clone();
    }
    config
}
