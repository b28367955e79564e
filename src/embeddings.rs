//! Sentence embeddings of a run's rows, computed once before training and kept for the next run.
//!
//! They lie in the cache of the program (`$XDG_CACHE_HOME/trainer`, else `~/.cache/trainer`), not in the run: every seed
//! and setting of an experiment shares them. The key is a digest of the encoder's files, the tokenizer and the token ids
//! of every text, so that nothing they depend on can change under them.

use std::collections::BTreeMap;

use backbone::{Encoder, EncoderFiles};
use burn::tensor::Device;
use checkpoints::{Cache, StoredTensor};
use datasets::{Example, Tokenizer};
use faults::{Fault, Faults, counted};
use losses::{Embeddings, Row, RowVectors, Sentences};
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use crate::report::progress::Counter;

/// What the rows are called that must have a text.
const TRAINING: &str = "training";

/// The name of the vectors in a file of the cache.
const VECTORS: &str = "vectors";

/// The embeddings that `sentences` asks for, of all rows of a run.
///
/// # Errors
/// An encoder that cannot be loaded, or a text that it cannot represent. A cache that cannot be read or written is no
/// error: it is told of, and the vectors are computed.
pub fn compute(
    sentences: &Sentences,
    encoder: &EncoderFiles,
    tokenizer: &Tokenizer,
    train: &[Example],
    eval: &[Example],
    cache: Option<Cache>,
    device: &Device,
) -> Result<Embeddings, Faults> {
    if cache.is_none() {
        warn!("neither `XDG_CACHE_HOME` nor `HOME` names a folder: the embeddings are not kept for the next run");
    }
    let mut work = Work {
        sentences,
        files: encoder,
        loaded: None,
        identity: format!("{} {}", encoder.fingerprint()?, tokenizer.fingerprint()),
        tokenizer,
        cache,
        device,
    };
    let train = work.rows(TRAINING, train)?;
    let with_text = (0..train.rows()).filter(|row| train.has_vector(*row)).count();
    if let Some(place) = sentences.from_others.as_ref().filter(|_| with_text < 2) {
        let message = match with_text {
            0 => "no training row has a text to learn from",
            _ => "a single training row has a text to learn from, and there is no other row to take one from",
        };
        let hint = "train on more rows, or let each row learn from its own: `targets = \"own\"`";
        return Err(Fault::new(message).at(place.clone()).hint(hint).into());
    }
    let eval = work.rows("evaluation", eval)?;
    Ok(Embeddings { dimension: encoder.dimension(), train, eval })
}

struct Work<'a> {
    sentences: &'a Sentences,
    files: &'a EncoderFiles,
    /// The encoder, once it is needed.
    loaded: Option<Encoder>,
    /// Fingerprints of encoder and tokenizer.
    identity: String,
    tokenizer: &'a Tokenizer,
    cache: Option<Cache>,
    device: &'a Device,
}

impl Work<'_> {
    fn rows(&mut self, what: &str, examples: &[Example]) -> Result<RowVectors, Faults> {
        let mut counts = Vec::with_capacity(examples.len());
        let mut texts = Vec::new();
        for (index, example) in examples.iter().enumerate() {
            let row = Row { ids: example.ids.clone(), learned: example.learned.clone(), example: index };
            let of_row = (self.sentences.texts)(&row);
            counts.push(of_row.len());
            texts.extend(of_row);
        }
        if texts.is_empty() && what == TRAINING {
            let message = "no training row has an answer long enough for the auxiliary loss to learn from";
            let hint = "lower its `min_suffix`, or take the loss out of the recipe";
            return Err(Fault::new(message).at(self.sentences.place.clone()).hint(hint).into());
        }
        let dimension = self.files.dimension();
        let key = self.key(&texts);
        let values = match self.kept(&key, texts.len()) {
            Some(values) => {
                info!("embeddings of {} of the {what} rows are in the cache", counted(texts.len() as u64, "text"));
                values
            }
            None => self.embed(what, &key, &texts)?,
        };
        Ok(RowVectors::new(dimension, values, &counts))
    }

    fn key(&self, texts: &[Vec<u32>]) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{} {:?} ", self.identity, self.sentences.prefix));
        for text in texts {
            hash.update((text.len() as u64).to_le_bytes());
            text.iter().for_each(|id| hash.update(id.to_le_bytes()));
        }
        let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("embeddings-{digest}")
    }

    /// The vectors of an earlier run.
    fn kept(&self, key: &str, texts: usize) -> Option<Vec<f32>> {
        let cache = self.cache.as_ref()?;
        let tensor = match cache.get(key) {
            Ok(tensors) => tensors?.remove(VECTORS)?,
            Err(fault) => {
                warn!("computing embeddings again: {}", fault.line());
                return None;
            }
        };
        (tensor.shape == [texts, self.files.dimension()]).then(|| tensor.to_f32().ok()).flatten()
    }

    fn embed(&mut self, what: &str, key: &str, texts: &[Vec<u32>]) -> Result<Vec<f32>, Faults> {
        let encoder = match self.loaded.take() {
            Some(encoder) => encoder,
            None => self.files.load(self.device)?,
        };
        let mut decoded = Vec::with_capacity(texts.len());
        for ids in texts {
            let text = self.tokenizer.decode(ids, true)?;
            // A text of blanks stays one: it has no embedding.
            let is_blank = text.trim().is_empty();
            decoded.push(if is_blank { String::new() } else { format!("{}{text}", self.sentences.prefix) });
        }
        let mut counter = Counter::new(texts.len(), format!("embedding texts of the {what} rows"));
        let values = encoder.embed(&decoded, &mut |done| counter.at(done))?;
        drop(counter);
        self.loaded = Some(encoder);
        if let Some(cache) = &self.cache {
            let tensor = StoredTensor::from_f32([texts.len(), self.files.dimension()], &values);
            match cache.put(key, BTreeMap::from([(VECTORS.to_string(), tensor)])) {
                Ok(()) => info!("embeddings are kept in {}", cache.path(key).display()),
                Err(fault) => warn!("the embeddings are not kept for the next run: {}", fault.line()),
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests;
