//! Frozen sentence encoders: a text goes in, a vector of unit length comes out.
//!
//! A BERT-class encoder (MiniLM, BGE, E5) is read from its Hugging Face folder. `builtin:words` stands in where none is at
//! hand: it knows which words two texts share and nothing of what they mean.

mod bert;
mod words;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use checkpoints::Weights;
use checkpoints::hub;
use datasets::Tokenizer;
use faults::{Fault, Faults, Place, json as python, nearest};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use bert::{Bert, BertConfig};

/// The encoder inside this program.
const WORDS: &str = "builtin:words";

/// Tokens, padding included, that go through an encoder at once.
const BATCH_TOKENS: usize = 8192;

/// How the hidden states of a text become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooling {
    /// Their mean.
    Mean,
    /// The first one.
    Cls,
}

/// An encoder that was found, its weights not yet loaded.
pub enum EncoderFiles {
    /// `builtin:words`.
    Words,
    /// A BERT-class model in a folder.
    Bert {
        /// The folder.
        folder: PathBuf,
        /// Its shape.
        config: Box<BertConfig>,
    },
}

/// An encoder ready to run.
pub enum Encoder {
    /// `builtin:words`.
    Words,
    /// A BERT-class model.
    Bert(Box<Pipeline>),
}

/// Text to vector through a BERT-class model.
pub struct Pipeline {
    model: Bert,
    tokenizer: Tokenizer,
    pooling: Pooling,
    longest: usize,
}

impl EncoderFiles {
    /// Finds a folder, a repository of the hub, or a builtin encoder, and reads its configuration.
    ///
    /// # Errors
    /// No such encoder, or one of another class.
    pub fn locate(name: &str) -> Result<Self, Fault> {
        if name == WORDS {
            return Ok(Self::Words);
        }
        if name.starts_with("builtin:") {
            let near = nearest(name, [WORDS]).unwrap_or(WORDS);
            return Err(Fault::new(format!("there is no sentence encoder `{name}`")).hint(format!("there is `{near}`")));
        }
        let check = |folder: &Path| {
            let config = BertConfig::read(&folder.join("config.json"))?;
            Self::tokenizer(folder, &config).map_err(|faults| faults.into_list().swap_remove(0))?;
            pooling(&folder.join(POOLING_FILE)).map(drop)
        };
        let folder = hub::model_folder(name, None, &hub::progress_on_stderr(), &check)?;
        let config = Box::new(BertConfig::read(&folder.join("config.json"))?);
        Ok(Self::Bert { folder, config })
    }

    /// Width of its vectors.
    pub fn dimension(&self) -> usize {
        match self {
            Self::Words => words::DIMENSION,
            Self::Bert { config, .. } => config.hidden_size,
        }
    }

    /// SHA-256 in hexadecimal of all that its vectors depend on.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn fingerprint(&self) -> Result<String, Fault> {
        let mut hash = Sha256::new();
        match self {
            Self::Words => hash.update(format!("{WORDS} {}", words::VERSION)),
            Self::Bert { folder, .. } => {
                for name in ["config.json", "tokenizer.json", POOLING_FILE] {
                    let path = folder.join(name);
                    match faults::read_file(&path) {
                        Ok(bytes) => hash.update(Sha256::digest(bytes)),
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => hash.update([0; 32]),
                        Err(error) => return Err(Fault::of_file("cannot read the encoder", &path, &error)),
                    }
                }
                let weights = Weights::open(folder)?;
                for name in weights.names() {
                    hash.update((name.len() as u64).to_le_bytes());
                    hash.update(name);
                    hash.update(Sha256::digest(weights.bytes(name)?));
                }
            }
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Looks at all that [`EncoderFiles::load`] will read, at the weights by their names and shapes alone.
    ///
    /// # Errors
    /// Files that are missing, cut or of another model.
    pub fn check(&self) -> Result<(), Faults> {
        let Self::Bert { folder, config } = self else { return Ok(()) };
        Self::tokenizer(folder, config)?;
        pooling(&folder.join(POOLING_FILE))?;
        let weights = Weights::open(folder)?;
        config.check_weights(&weights).map_err(|fault| fault.at(Place::file(weights.name())))?;
        Ok(())
    }

    /// Loads the weights onto `device`, in f32.
    ///
    /// # Errors
    /// Files that are missing, cut or of another model.
    pub fn load(&self, device: &Device) -> Result<Encoder, Faults> {
        let Self::Bert { folder, config } = self else { return Ok(Encoder::Words) };
        let tokenizer = Self::tokenizer(folder, config)?;
        let pooling = pooling(&folder.join(POOLING_FILE))?;
        let model = Bert::load(config, &Weights::open(folder)?, device)?;
        Ok(Encoder::Bert(Box::new(Pipeline { model, tokenizer, pooling, longest: config.max_position_embeddings })))
    }

    /// The encoder's tokenizer, which must be of its own weights.
    fn tokenizer(folder: &Path, config: &BertConfig) -> Result<Tokenizer, Faults> {
        let tokenizer = Tokenizer::load(folder)?;
        if tokenizer.vocabulary() > config.vocab_size {
            let (known, rows) = (tokenizer.vocabulary(), config.vocab_size);
            return Err(Fault::new(format!(
                "the encoder's tokenizer has {known} tokens and its embedding {rows} rows"
            ))
            .at(Place::file(folder))
            .hint(AGAIN)
            .into());
        }
        Ok(tokenizer)
    }
}

impl Encoder {
    /// The vectors of `texts`, flat, `[texts, dimension]`; zeros for a text without a word. Equal texts are encoded
    /// once, and texts of like length together. `done` is told how many texts are ready, each time some are.
    ///
    /// # Errors
    /// A text that the tokenizer cannot represent; an embedding that is not finite.
    pub fn embed(&self, texts: &[String], done: &mut dyn FnMut(usize)) -> Result<Vec<f32>, Fault> {
        let pipeline = match self {
            Self::Words => {
                let values = texts.iter().flat_map(|text| words::embed(text)).collect();
                done(texts.len());
                return Ok(values);
            }
            Self::Bert(pipeline) => pipeline,
        };
        let dimension = pipeline.model.dimension();
        let mut values = vec![0.0; texts.len() * dimension];
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, text) in texts.iter().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            places.entry(text).or_default().push(place);
        }
        let mut rows = Vec::with_capacity(places.len());
        for (text, places) in places {
            rows.push((pipeline.ids(text)?, places));
        }
        // The longest first: what does not fit into memory fails at once.
        rows.sort_by(|(a, first), (b, second)| b.len().cmp(&a.len()).then(first.cmp(second)));
        let mut ready = 0;
        while !rows.is_empty() {
            let width = rows[0].0.len().max(1);
            let batch: Vec<_> = rows.drain(..(BATCH_TOKENS / width).clamp(1, rows.len())).collect();
            let ids: Vec<&[u32]> = batch.iter().map(|(ids, _)| &ids[..]).collect();
            let vectors = pipeline.model.embed(&ids, pipeline.pooling == Pooling::Cls);
            if vectors.iter().any(|value| !value.is_finite()) {
                return Err(Fault::new("an embedding of the sentence encoder is not finite")
                    .at(Place::Named("the sentence encoder".into()))
                    .hint("its weights may be damaged: `trainer inspect` names tensors that hold NaN"));
            }
            for ((_, places), vector) in batch.iter().zip(vectors.chunks(dimension)) {
                for place in places {
                    values[place * dimension..][..dimension].copy_from_slice(vector);
                }
                ready += places.len();
            }
            done(ready);
        }
        Ok(values)
    }
}

impl Encoder {
    /// How many of `texts` are longer than it reads: their ends are in no vector.
    ///
    /// # Errors
    /// A text that the tokenizer cannot represent.
    pub fn cut(&self, texts: &[String]) -> Result<usize, Fault> {
        let Self::Bert(pipeline) = self else { return Ok(0) };
        let mut cut = 0;
        for text in texts {
            cut += usize::from(pipeline.tokenizer.encode(text, true)?.len() > pipeline.longest);
        }
        Ok(cut)
    }
}

impl Pipeline {
    /// The ids of a text between its special tokens, cut to what the encoder can read.
    fn ids(&self, text: &str) -> Result<Vec<u32>, Fault> {
        let mut ids = self.tokenizer.encode(text, true)?;
        if ids.len() > self.longest {
            let last = ids[ids.len() - 1];
            ids.truncate(self.longest - 1);
            ids.push(last);
        }
        Ok(ids)
    }
}

/// What to do about an encoder whose files do not go together.
const AGAIN: &str = "download the encoder again, or choose another";

/// Where sentence-transformers writes how a model pools.
const POOLING_FILE: &str = "1_Pooling/config.json";

#[derive(Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
}

/// The pooling of a folder; the mean where it does not say.
fn pooling(path: &Path) -> Result<Pooling, Fault> {
    let text = match faults::read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Pooling::Mean),
        Err(error) => return Err(Fault::of_file("cannot read how the encoder pools", path, &error)),
    };
    let broken = |error: serde_json::Error| {
        Fault::new(format!("cannot read how the encoder pools: {error}")).at(Place::file(path)).hint(AGAIN)
    };
    let read = python::read_object(&text).map_err(broken)?;
    let read = PoolingConfig::deserialize(&Value::Object(read.with_special_floats())).map_err(broken)?;
    match (read.pooling_mode_cls_token, read.pooling_mode_mean_tokens) {
        (true, false) => Ok(Pooling::Cls),
        (false, true) => Ok(Pooling::Mean),
        _ => Err(Fault::new("the encoder pools in a way that is not known here")
            .at(Place::file(path))
            .hint("`pooling_mode_mean_tokens` or `pooling_mode_cls_token`, one of them alone, must be true")),
    }
}

#[cfg(test)]
mod tests;
