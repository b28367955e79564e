//! Texts as vectors for `--encoder`: a sentence encoder, or any causal model, whose last hidden state at a text's last token
//! stands for it (Le Bronnec et al. 2024, arXiv 2402.10693).

use std::collections::BTreeMap;

use backbone::{Decoder, Encoder, EncoderFiles, values};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use faults::{Fault, Faults, Place};
use losses::Parameter;
use metrics::points::normalise;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Arguments;
use crate::command::{argument, open_device};
use crate::loading::{self, Loaded, Named, is_run};
use crate::report::progress::Counter;

/// Most tokens of a text that a causal model reads, as published protocols have it.
const LONGEST: usize = 1024;

/// Tokens, padding included, that go through a causal model at once.
const BATCH_TOKENS: usize = 8192;

/// What `--encoder` names, found and not yet loaded.
pub(super) enum Located {
    Sentence(EncoderFiles),
    Causal(Box<Named>),
}

/// An encoder ready to run.
pub(super) struct TextEncoder {
    name: String,
    digest: String,
    kind: Kind,
}

enum Kind {
    Sentence(Encoder, usize),
    Causal(Box<Loaded>),
}

/// Vectors of texts.
pub(super) struct Embedded {
    /// One after another, each of length 1; zeros for a text without a word.
    pub values: Vec<f64>,
    /// Numbers of each.
    pub dimension: usize,
}

impl Located {
    /// Finds it: a sentence encoder, else a causal model by any name that models have on the command line.
    ///
    /// # Errors
    /// Neither.
    pub(super) fn find(name: &str) -> Result<Self, Faults> {
        let placed = |fault: Fault| fault.or_at(argument("encoder"));
        if is_run(std::path::Path::new(name)) {
            return loading::named(name, None).map(|named| Self::Causal(Box::new(named)));
        }
        let sentence = match EncoderFiles::locate(name) {
            Ok(files) => return Ok(Self::Sentence(files)),
            Err(fault) => fault,
        };
        match loading::named(name, None) {
            Ok(named) => Ok(Self::Causal(Box::new(named))),
            // A folder of a sentence encoder that is damaged is no damaged causal model.
            Err(_) if is_bert(name) => Err(placed(sentence).into()),
            Err(faults) => Err(faults.map(placed)),
        }
    }

    /// Loads it in f32.
    ///
    /// # Errors
    /// Files that are missing, cut or of another model.
    pub(super) fn load(self, name: &str, device: &str) -> Result<TextEncoder, Faults> {
        let device = open_device(device)?;
        let (digest, kind) = match self {
            Self::Sentence(files) => (files.fingerprint()?, Kind::Sentence(files.load(&device)?, files.dimension())),
            Self::Causal(named) => {
                let mut loaded = named.load(&device, DType::F32)?;
                (fingerprint(&mut loaded), Kind::Causal(Box::new(loaded)))
            }
        };
        Ok(TextEncoder { name: name.to_owned(), digest, kind })
    }
}

fn is_bert(name: &str) -> bool {
    let config = std::path::Path::new(name).join("config.json");
    let text = faults::read_text(&config).unwrap_or_default();
    serde_json::from_str::<Value>(&text).is_ok_and(|config| config["model_type"] == "bert")
}

/// SHA-256 of the tokenizer and of all weights as they are used, an adapter's among them.
fn fingerprint(loaded: &mut Loaded) -> String {
    let mut hash = Sha256::new();
    hash.update(loaded.tokenizer.fingerprint());
    loaded.decoder.visit(&mut |name, parameter| {
        hash.update(name);
        hash.update([0]);
        let values = match parameter {
            Parameter::Matrix(weight) => values(weight.clone().flatten(0, 1)),
            Parameter::Vector(weight) => values(weight.clone()),
        };
        values.iter().for_each(|value| hash.update(value.to_le_bytes()));
    });
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl TextEncoder {
    /// The one that the command line names, ready to run.
    ///
    /// # Errors
    /// As [`Located::find`] and [`Located::load`].
    pub(super) fn of(located: Option<Located>, arguments: &Arguments) -> Result<Option<Self>, Faults> {
        let (Some(located), Some(name)) = (located, &arguments.encoder) else { return Ok(None) };
        located.load(name, &arguments.device).map(Some)
    }

    /// Whether cosines of its vectors say which texts mean the same.
    pub(super) fn is_of_sentences(&self) -> bool {
        matches!(self.kind, Kind::Sentence(..))
    }

    /// What results say of it: numbers of different encoders do not compare.
    pub(super) fn describe(&self) -> Value {
        let kind = match self.kind {
            Kind::Sentence(..) => "sentence",
            Kind::Causal(_) => "last_token",
        };
        json!({"name": self.name, "kind": kind, "digest": self.digest})
    }

    /// The vectors of texts.
    ///
    /// # Errors
    /// A text that the tokenizer cannot represent, or an embedding that is not finite.
    pub(super) fn embed(&self, texts: &[String]) -> Result<Embedded, Fault> {
        let mut counter = Counter::new(texts.len(), "texts embedded".into());
        let (values, dimension) = match &self.kind {
            Kind::Sentence(encoder, dimension) => (encoder.embed(texts, &mut |done| counter.at(done))?, *dimension),
            Kind::Causal(model) => {
                let values = last_states(model, texts, &mut |done| counter.at(done))?;
                (values, model.decoder.config.hidden_size)
            }
        };
        let mut values: Vec<f64> = values.into_iter().map(f64::from).collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(Fault::new("an embedding is not finite")
                .at(Place::Named(format!("--encoder {}", self.name)))
                .hint("its weights may be damaged: `trainer inspect` names tensors that hold NaN"));
        }
        normalise(&mut values, dimension);
        Ok(Embedded { values, dimension })
    }

    /// How many of `texts` are longer than it reads: their ends are in no vector.
    ///
    /// # Errors
    /// As [`TextEncoder::embed`].
    pub(super) fn cut(&self, texts: &[String]) -> Result<usize, Fault> {
        let model = match &self.kind {
            Kind::Sentence(encoder, _) => return encoder.cut(texts),
            Kind::Causal(model) => model,
        };
        let longest = longest(&model.decoder);
        let mut cut = 0;
        for text in texts {
            cut += usize::from(model.tokenizer.encode_beginning(text, true)?.len() > longest);
        }
        Ok(cut)
    }
}

fn longest(decoder: &Decoder) -> usize {
    LONGEST.min(decoder.config.max_position_embeddings)
}

/// The last hidden state of each text, after the last norm, at its last token: `[texts, hidden_size]`, flat; zeros for a text
/// of blanks. Equal texts are computed once, texts of like length together, padded behind, where no token sees.
fn last_states(model: &Loaded, texts: &[String], done: &mut dyn FnMut(usize)) -> Result<Vec<f32>, Fault> {
    let decoder = &model.decoder;
    let (device, hidden_size, longest): (&Device, _, _) =
        (decoder.device(), decoder.config.hidden_size, longest(decoder));
    let mut found = vec![0.0; texts.len() * hidden_size];
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, text) in texts.iter().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        places.entry(text).or_default().push(place);
    }
    let mut rows = Vec::with_capacity(places.len());
    for (text, places) in places {
        let mut ids = model.tokenizer.encode_beginning(text, true)?;
        ids.truncate(longest);
        if !ids.is_empty() {
            rows.push((ids, places));
        }
    }
    // The longest first: what does not fit into memory fails at once.
    rows.sort_by(|(a, first), (b, second)| b.len().cmp(&a.len()).then(first.cmp(second)));
    let mut ready = 0;
    while !rows.is_empty() {
        let width = rows[0].0.len();
        let batch: Vec<_> = rows.drain(..(BATCH_TOKENS / width).clamp(1, rows.len())).collect();
        let padded = batch
            .iter()
            .flat_map(|(ids, _)| ids.iter().map(|id| *id as i32).chain(std::iter::repeat_n(0, width - ids.len())));
        let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(padded.collect(), [batch.len(), width]), device);
        let context = decoder.context(0, width, width, None);
        let hidden = decoder.hidden_in(&context, ids, false, None).reshape([batch.len() * width, hidden_size]);
        let last = batch.iter().enumerate().map(|(row, (ids, _))| (row * width + ids.len() - 1) as i32);
        let last: Tensor<1, Int> = Tensor::from_data(TensorData::new(last.collect(), [batch.len()]), device);
        let vectors = values(hidden.select(0, last).flatten(0, 1));
        for ((_, places), vector) in batch.iter().zip(vectors.chunks_exact(hidden_size)) {
            for place in places {
                found[place * hidden_size..][..hidden_size].copy_from_slice(vector);
            }
            ready += places.len();
        }
        done(ready);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside longer texts, twice, and cut: the state at the last token, as the decoder has it of the text alone.
    #[test]
    fn a_text_has_the_state_of_its_last_token_whatever_stands_beside_it() {
        let encoder =
            Located::find("builtin:tiny").and_then(|found| found.load("builtin:tiny", "cpu")).expect("a model");
        let Kind::Causal(model) = &encoder.kind else { panic!("a causal model") };
        let long = "The fox and the owl. ".repeat(400);
        let texts = ["The fox", "A young owl is quick and quiet.", " ", &long, "The fox", ""].map(str::to_owned);
        let Embedded { values: found, dimension } = encoder.embed(&texts).expect("vectors");
        assert_eq!(found.len(), texts.len() * dimension);
        for (text, vector) in texts.iter().zip(found.chunks_exact(dimension)) {
            if text.trim().is_empty() {
                assert!(vector.iter().all(|value| *value == 0.0));
                continue;
            }
            let mut ids = model.tokenizer.encode_beginning(text, true).expect("tokens");
            ids.truncate(longest(&model.decoder));
            let row: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
            let device = model.decoder.device();
            let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(row.clone(), [1, row.len()]), device);
            let alone = values(model.decoder.hidden(ids, false, None).narrow(1, row.len() - 1, 1).flatten(0, 2));
            let mut alone: Vec<f64> = alone.into_iter().map(f64::from).collect();
            normalise(&mut alone, dimension);
            let far = vector.iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(far < 1e-5, "{text:.20}: {far}");
        }
        assert_eq!(encoder.cut(&texts).expect("a count"), 1);
    }
}
