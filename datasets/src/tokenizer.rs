//! The tokenizer of a model's folder: ids with offsets, the special tokens, the tokens that end a text.
//!
//! A Hugging Face folder spreads these over up to six files. They are read here once, so that the rest of the project
//! asks one object, and settings that would silently change the data (truncation, padding, trimmed offsets) are off.

mod boundaries;
mod chats;
mod compare;
mod foreign;
mod identity;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use faults::{Fault, Faults, Place, json as python, read_text, refuse_pointer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokenizers::processors::PostProcessorWrapper;

use crate::chat::{ChatTemplate, Moment};
use crate::row::listed;

pub use compare::TokensApart;
pub use identity::TokenizerIdentity;

/// The files of a model's folder that say how text becomes ids; all but the first may be absent.
const FILES: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "config.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
];

/// The chat template that transformers takes for rows with tools, where a model has several.
const FOR_TOOLS: &str = "tool_use";

/// The special tokens that a chat template may name.
const NAMED_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Text to ids and back, with the model's special tokens and chat template.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    name: String,
    bos: Option<(u32, String)>,
    end: Option<u32>,
    pad: u32,
    stop: Vec<u32>,
    /// What the model's files name as its ends and is no token of the vocabulary.
    foreign_ends: Vec<String>,
    vocabulary: usize,
    /// Ids from here on have no row in the model's embedding.
    rows: usize,
    added: Vec<String>,
    special: Vec<String>,
    /// Tokens of the added ones that take the blanks beside them.
    greedy: Vec<(u32, String)>,
    /// Those that cut a text.
    boundaries: BTreeSet<u32>,
    /// The texts of the added tokens at which the model stops.
    stop_texts: Vec<String>,
    /// The tokens that a chat template may name.
    named: Vec<(&'static str, String)>,
    template: Option<ChatTemplate>,
    /// True where the model's files have another template for rows with tools.
    has_tool_template: bool,
    /// Why the template of the model's files cannot be read: a fault of whoever asks for it.
    unread_template: Option<Fault>,
    arguments: Map<String, Value>,
    moment: Moment,
    fingerprint: String,
}

/// One text as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The token ids.
    pub ids: Vec<u32>,
    /// The bytes of the text that each token stands for; empty for a token that the tokenizer put in.
    pub offsets: Vec<Range<usize>>,
    /// True for the tokens that the tokenizer itself put around the text, such as the one that begins it.
    pub inserted: Vec<bool>,
}

impl Tokenizer {
    /// Reads the tokenizer of a model's folder.
    ///
    /// # Errors
    /// `tokenizer.json` is missing, or a file of the folder cannot be understood.
    pub fn load(folder: &Path) -> Result<Self, Faults> {
        let mut texts = Vec::new();
        for name in FILES {
            let path = folder.join(name);
            match read_text(&path) {
                Ok(text) => texts.push((path.display().to_string(), text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Fault::of_file("cannot read the tokenizer", &path, &error).into()),
            }
        }
        let files: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        if !files.iter().any(|(name, _)| file_name(name) == FILES[0]) {
            let is_sentencepiece = ["tokenizer.model", "spiece.model"].iter().any(|name| folder.join(name).is_file());
            return Err(missing_tokenizer(&folder.display().to_string(), is_sentencepiece).into());
        }
        Self::from_texts(&files)
    }

    /// The same from files in memory, each a name ending in the file's own (`tokenizer.json`, ..) and its text.
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn from_texts(files: &[(&str, &str)]) -> Result<Self, Faults> {
        let find = |wanted: &str| files.iter().find(|(name, _)| file_name(name) == wanted).copied();
        let (name, text) = find("tokenizer.json").ok_or_else(|| missing_tokenizer("the files in memory", false))?;
        refuse_pointer(name, text.as_bytes())?;
        let mut inner = foreign::read(name, text)?;
        let fingerprint = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        forget_lengths(&mut inner);
        let vocabulary = vocabulary_of(&inner).map_err(|fault| fault.at(Place::file(name)).hint(AGAIN))?;
        let object = |wanted: &str| -> Result<Map<String, Value>, Fault> {
            find(wanted).map_or_else(|| Ok(Map::new()), |(name, text)| parse_object(name, text))
        };
        let config = object("tokenizer_config.json")?;
        let map = object("special_tokens_map.json")?;
        let generation = object("generation_config.json")?;
        let model = object("config.json")?;

        let named: Vec<(&'static str, String)> = NAMED_TOKENS
            .iter()
            .filter_map(|key| {
                let written = config.get(*key).filter(|value| !value.is_null()).or_else(|| map.get(*key));
                Some((*key, token_text(written?)?))
            })
            .collect();
        let token = |key: &str| {
            let (_, text) = named.iter().find(|(name, _)| *name == key)?;
            inner.token_to_id(text).map(|id| (id, text.clone()))
        };
        let named_end = token("eos_token").map(|(id, _)| id);
        let mut stop: Vec<u32> = Vec::new();
        for id in named_end.into_iter().chain(end_ids(&generation)).chain(end_ids(&model)) {
            if (id as usize) < vocabulary && !stop.contains(&id) {
                stop.push(id);
            }
        }
        let mut foreign_ends: Vec<String> =
            [&generation, &model].into_iter().flat_map(|c| foreign_ends(c, vocabulary)).collect();
        foreign_ends.dedup();
        let end = stop.first().copied();
        let bos = token("bos_token");
        let pad = token("pad_token").map(|(id, _)| id).or(end).unwrap_or(0);
        let mut tokens: Vec<_> = inner.get_added_tokens_decoder().into_values().collect();
        tokens.sort_by(|a, b| a.content.cmp(&b.content));
        let is_special = |token: &&tokenizers::AddedToken| token.special && !token.content.is_empty();
        let takes_blanks = |token: &&tokenizers::AddedToken| token.lstrip || token.rstrip;
        let with_id =
            |token: &tokenizers::AddedToken| Some((inner.token_to_id(&token.content)?, token.content.clone()));
        let special = tokens.iter().filter(is_special).map(|token| token.content.clone()).collect();
        let greedy = tokens.iter().filter(takes_blanks).filter_map(with_id).collect();
        let added = tokens.into_iter().map(|token| token.content).collect();

        let moment = Moment::now();
        let (template, has_tool_template) = written_template(&find, &config, &named, moment);
        let (template, unread_template) =
            template.map_or_else(|fault| (None, Some(fault)), |template| (template, None));
        let mut read = Self {
            boundaries: boundaries::of(&inner),
            inner,
            name: name.to_string(),
            bos,
            end,
            pad,
            stop,
            foreign_ends,
            vocabulary,
            rows: vocabulary,
            added,
            special,
            greedy,
            stop_texts: Vec::new(),
            named,
            template,
            has_tool_template,
            unread_template,
            arguments: Map::new(),
            moment,
            fingerprint,
        };
        read.name_stops();
        Ok(read)
    }

    /// This tokenizer for a model whose embedding has so many `rows`.
    ///
    /// Tokens that were added to the vocabulary may lie past them, as Gemma 3's token for images does in its models of
    /// text alone: a text that holds one cannot be encoded.
    ///
    /// # Errors
    /// A token of the vocabulary itself lies past them, or one that begins or ends texts.
    pub fn bounded(mut self, rows: usize) -> Result<Self, Fault> {
        let of_words = self.inner.get_vocab(false).into_values();
        let needed = of_words.chain(self.end).chain(self.bos()).max().map_or(0, |last| last as usize + 1);
        if needed > rows {
            let message = format!("the tokenizer has {} tokens and the model's embedding {rows} rows", self.vocabulary);
            return Err(self.fault(message).hint("tokenizer and weights are not of the same model"));
        }
        self.rows = rows;
        Ok(self)
    }

    /// What of its files is passed over, a sentence each.
    pub fn remarks(&self) -> Vec<String> {
        let foreign = self.foreign_ends.iter().map(|id| {
            format!(
                "{}: `eos_token_id` is {id} in the files beside it, and the vocabulary has {} tokens: it is passed over",
                self.name, self.vocabulary
            )
        });
        foreign.collect()
    }

    /// The ids of `text`; with `special`, also the tokens that the tokenizer puts around a text.
    ///
    /// # Errors
    /// The tokenizer cannot represent the text, or the text holds a token that the model does not have.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, Fault> {
        Ok(self.encode_with_offsets(text, special)?.ids)
    }

    /// The ids of a text that goes on, such as a prompt: with `special`, what the tokenizer puts before a text, unless
    /// the text begins with it, and nothing that it puts after one.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_beginning(&self, text: &str, special: bool) -> Result<Vec<u32>, Fault> {
        let Encoded { mut ids, inserted, .. } = self.encode_with_offsets(text, special && !self.begins(text))?;
        let length = match inserted.iter().rposition(|inserted| !inserted) {
            Some(last) => last + 1,
            None => usize::from(ids.first().copied() == self.bos() && !ids.is_empty()),
        };
        ids.truncate(length);
        Ok(ids)
    }

    /// True when a text begins with the token that begins a text.
    pub(crate) fn begins(&self, text: &str) -> bool {
        self.bos_text().is_some_and(|bos| !bos.is_empty() && text.starts_with(bos))
    }

    /// The ids of `text` with the bytes of the text that each stands for.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_offsets(&self, text: &str, special: bool) -> Result<Encoded, Fault> {
        let encoding = foreign::called(|| self.inner.encode(text, special))
            .map_err(|error| self.fault(format!("the tokenizer cannot encode a text: {error}")))?;
        if let Some(place) = encoding.get_ids().iter().position(|id| *id as usize >= self.rows) {
            let token = &encoding.get_tokens()[place];
            let message =
                format!("the text holds the token `{token}`, and the model's embedding has {} rows", self.rows);
            let is_of_template = self.chat_template().is_some_and(|source| source.contains(token.as_str()));
            return Err(self.fault(message).hint(match is_of_template {
                true => "this model was not made for that token, which its chat template writes: name another template",
                false => "this model was not made for that token; take it out of the text",
            }));
        }
        Ok(Encoded {
            ids: encoding.get_ids().to_vec(),
            offsets: self.places(text, encoding.get_ids(), encoding.get_offsets()),
            inserted: encoding.get_special_tokens_mask().iter().map(|mark| *mark == 1).collect(),
        })
    }

    /// The bytes that tokens stand for: of a token that takes the blanks beside it, those of its own letters.
    fn places(&self, text: &str, ids: &[u32], offsets: &[(usize, usize)]) -> Vec<Range<usize>> {
        let place = |(id, (start, end)): (&u32, &(usize, usize))| {
            let own = self.greedy.iter().find(|(greedy, _)| greedy == id).and_then(|(_, letters)| {
                let at = start + text.get(*start..*end)?.find(letters.as_str())?;
                Some(at..at + letters.len())
            });
            own.unwrap_or(*start..*end)
        };
        ids.iter().zip(offsets).map(place).collect()
    }

    /// The text of `ids`; `skip_special` leaves out special tokens.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Fault> {
        foreign::called(|| self.inner.decode(ids, skip_special))
            .map_err(|error| self.fault(format!("the tokenizer cannot decode ids: {error}")))
    }

    /// The text that each id adds, special tokens included. Where several ids make up one character, the last has it.
    pub(crate) fn decode_each(&self, ids: &[u32]) -> Vec<String> {
        let mut stream = self.inner.decode_stream(false);
        ids.iter().map(|id| foreign::called(|| stream.step(*id)).ok().flatten().unwrap_or_default()).collect()
    }

    /// The token that ends a text: `eos_token`, else the first end token of the model's configuration.
    pub fn end_token(&self) -> Option<u32> {
        self.end
    }

    /// Every token at which the model stops to generate, the end token first.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop
    }

    /// The token that begins a text, if the tokenizer names one.
    pub fn bos(&self) -> Option<u32> {
        self.bos.as_ref().map(|(id, _)| *id)
    }

    /// The text of the token that begins a text.
    pub(crate) fn bos_text(&self) -> Option<&str> {
        self.bos.as_ref().map(|(_, text)| text.as_str())
    }

    /// A token to fill rows with. It may be the end token: padding is known by length, never by this id.
    pub fn pad_token(&self) -> u32 {
        self.pad
    }

    /// SHA-256 in hexadecimal of `tokenizer.json`: what the text of ids depends on.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// One more than the largest token id.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// True for the text of a token that is matched whole, before any splitting.
    pub(crate) fn is_added(&self, text: &str) -> bool {
        self.added.iter().any(|token| token == text)
    }

    /// The first special token that a text spells out.
    pub(crate) fn special_token_in(&self, text: &str) -> Option<&str> {
        let firsts: Vec<char> = self.special.iter().filter_map(|token| token.chars().next()).collect();
        let spelled = |(at, _): (usize, &str)| self.special.iter().find(|token| text[at..].starts_with(token.as_str()));
        text.match_indices(&firsts[..]).find_map(spelled).map(String::as_str)
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(message).at(Place::file(&self.name))
    }
}

/// What to do about a tokenizer's file that is broken.
const AGAIN: &str = "download the model again, or save its tokenizer again with a recent transformers";

fn file_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

fn missing_tokenizer(place: &str, is_sentencepiece: bool) -> Fault {
    Fault::new("`tokenizer.json` is missing").at(Place::file(place)).hint(match is_sentencepiece {
        true => "transformers makes one of `tokenizer.model`: `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)`",
        false => {
            "transformers writes it where it knows the model's tokenizer, `AutoTokenizer.from_pretrained(NAME).save_pretrained(DIR)`; \
             a model without one takes that of the model it was made of"
        }
    })
}

/// One more than the largest id.
fn vocabulary_of(inner: &tokenizers::Tokenizer) -> Result<usize, Fault> {
    let last = inner.get_vocab(true).into_values().max();
    match last.filter(|last| *last >= i32::MAX as u32) {
        Some(last) => Err(Fault::new(format!("the token id {last} is too large"))),
        None => Ok(last.map_or(0, |last| last as usize + 1)),
    }
}

/// Switches off what the file asks for beyond text to ids: cutting and padding are decided per row by the recipe, and
/// trimmed offsets would give tokens of blanks no place in the text, so that they were never learned.
fn forget_lengths(inner: &mut tokenizers::Tokenizer) {
    inner.with_padding(None);
    inner.with_truncation(None).expect("taking truncation away checks nothing");
    if let Some(processor) = inner.get_post_processor().cloned() {
        inner.with_post_processor(Some(keep_blanks(processor)));
    }
}

fn keep_blanks(processor: PostProcessorWrapper) -> PostProcessorWrapper {
    match processor {
        PostProcessorWrapper::ByteLevel(inner) => inner.trim_offsets(false).into(),
        PostProcessorWrapper::Roberta(inner) => inner.trim_offsets(false).into(),
        PostProcessorWrapper::Sequence(mut inner) => {
            for processor in inner.as_mut() {
                *processor = keep_blanks(processor.clone());
            }
            inner.into()
        }
        other => other,
    }
}

/// True for what is read of the files beside `tokenizer.json`.
fn is_read(key: &str) -> bool {
    NAMED_TOKENS.contains(&key) || ["chat_template", "eos_token_id"].contains(&key)
}

fn parse_object(name: &str, text: &str) -> Result<Map<String, Value>, Fault> {
    refuse_pointer(name, text.as_bytes())?;
    let read = python::read_object(text)
        .map_err(|error| Fault::new(format!("expected a JSON object: {error}")).at(Place::file(name)).hint(AGAIN))?;
    read.refuse_odd(is_read).map_err(|fault| fault.at(Place::file(name)).hint("write what the model has there"))?;
    Ok(read.value)
}

/// A special token is written as its text or as an object with `content`.
fn token_text(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// `eos_token_id` is one id or a list of them.
fn end_ids(config: &Map<String, Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match config.get("eos_token_id") {
        Some(Value::Array(values)) => values.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// What `eos_token_id` says that is no id of a vocabulary of so many tokens.
fn foreign_ends(config: &Map<String, Value>, vocabulary: usize) -> Vec<String> {
    let said = match config.get("eos_token_id") {
        Some(Value::Array(values)) => values.as_slice(),
        Some(value) if !value.is_null() => std::slice::from_ref(value),
        _ => &[],
    };
    let is_token = |value: &&Value| value.as_u64().is_some_and(|id| id < vocabulary as u64);
    said.iter().filter(|value| !value.is_null() && !is_token(value)).map(Value::to_string).collect()
}

/// The chat template of the files that `find` gives by their names, and whether they have another one for rows with tools.
///
/// # Errors
/// A template that cannot be read, or several of which none is the default.
fn written_template<'a>(
    find: &impl Fn(&str) -> Option<(&'a str, &'a str)>,
    config: &Map<String, Value>,
    named: &[(&'static str, String)],
    moment: Moment,
) -> (Result<Option<ChatTemplate>, Fault>, bool) {
    let of_settings = || {
        let name = find("tokenizer_config.json")?.0;
        Some(default_template(config)?.map_err(|fault| fault.at(Place::file(name))).map(|text| (name, text)))
    };
    let own_file = find("chat_template.jinja");
    let is_listed = own_file.is_none() && names_of_templates(config).contains(&FOR_TOOLS);
    let written = own_file.map(Ok).or_else(of_settings);
    let template = written.map(|written| written.and_then(|(name, text)| ChatTemplate::new(name, text, named, moment)));
    (template.transpose(), is_listed || find("tool_use.jinja").is_some())
}

/// `chat_template` is one template, or a list of named ones of which `default` counts.
///
/// # Errors
/// A list without one, which transformers refuses, too.
fn default_template(config: &Map<String, Value>) -> Option<Result<&str, Fault>> {
    match config.get("chat_template")? {
        Value::String(text) => Some(Ok(text)),
        Value::Array(entries) => {
            let default = entries.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"));
            let Some(default) = default else {
                let names = listed(names_of_templates(config).into_iter());
                let fault = Fault::new(format!(
                    "the model has several chat templates and none of them is the default: {names}"
                ));
                return (!entries.is_empty()).then(|| {
                    Err(fault.hint("write the one that is meant into a file, and name that as the template"))
                });
            };
            default.get("template")?.as_str().map(Ok)
        }
        _ => None,
    }
}

/// The names of the templates of a list.
fn names_of_templates(config: &Map<String, Value>) -> Vec<&str> {
    let entries = config.get("chat_template").and_then(Value::as_array);
    entries.into_iter().flatten().filter_map(|entry| entry.get("name")?.as_str()).collect()
}
