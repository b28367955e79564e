//! Which matrices of a frozen base are kept in fewer bits, and how large they are then.

use burn::tensor::DType;
use kernels::Quantisation;

use super::config::Config;
use super::decoder::{HEAD, is_embedding};

/// How frozen matrices are quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantise {
    /// The format: int8 or nf4.
    pub quantisation: Quantisation,
    /// The embedding and the head among them.
    pub embeddings: bool,
    /// Rows of the training data that nf4's codes are fitted to; 0 for the nearest codes.
    pub rows: usize,
}

impl Quantise {
    /// How a matrix is kept, if not as it is.
    pub(super) fn of(self, name: &str) -> Option<Quantisation> {
        let path = name.strip_suffix(".weight").unwrap_or(name);
        let embedding = path == HEAD || is_embedding(path);
        (self.embeddings || !embedding).then_some(self.quantisation)
    }

    /// Bytes of a backbone's weights, what is not quantised in `dtype`.
    pub fn bytes(self, config: &Config, dtype: DType) -> u64 {
        let embedding = (config.vocab_size * config.hidden_size) as u64;
        let embeddings = if config.tie_word_embeddings { embedding } else { 2 * embedding };
        let kept = if self.embeddings { 0 } else { embeddings };
        let quantised = self.quantisation.bytes((config.parameters() - kept) as usize) as u64;
        quantised + kept * dtype.size() as u64
    }

    /// `int8` or `nf4`.
    pub fn name(self) -> &'static str {
        match self.quantisation {
            Quantisation::Int8 => "int8",
            Quantisation::Nf4 => "nf4",
        }
    }
}
