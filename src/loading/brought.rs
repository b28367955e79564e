//! What an adapter's folder brings beside its weights: the tokenizer it was trained with, its chat template, how to
//! generate. Each goes before the base's; what is not there is the base's.

use std::path::{Path, PathBuf};

use backbone::{ModelFiles, TokenizerParts};
use checkpoints::files_beside;
use datasets::Tokenizer;
use faults::{Fault, Faults, Place};
use serde_json::{Map, Value, json};

const TOKENIZER: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";
/// A template as processors of images save it.
const TEMPLATE_OF_PROCESSOR: &str = "chat_template.json";
const GENERATION: &str = "generation_config.json";
const MAP: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";

/// Where a tokenizer keeps templates with names.
const FURTHER_TEMPLATES: &str = "additional_chat_templates/";

/// Tokens named one by one.
const NAMED: usize = 4;

/// A file's name and content.
pub type File = (String, Vec<u8>);

/// The tokenizer of an adapter that is not its base's.
pub struct Brought {
    /// The files as they lie in the adapter's folder.
    pub own: Vec<File>,
    /// Those and the base's, as a model with the adapter merged into it has them.
    pub files: Vec<File>,
    /// Warnings about a tokenizer that differs from the base's, one sentence each.
    pub warnings: Vec<String>,
    folder: PathBuf,
    /// Rows of the base's embedding.
    rows: usize,
}

impl Brought {
    /// What the adapter in `folder` brings; `None` where that is nothing, or the base has the same.
    ///
    /// # Errors
    /// A token of adapter and base with two ids, tokens that the base has no embedding for, files that cannot be read.
    pub fn find(folder: &Path, base: &ModelFiles) -> Result<Option<Self>, Faults> {
        Self::of(folder, files_beside(folder)?, base)
    }

    /// What these files bring.
    fn of(folder: &Path, own: Vec<File>, base: &ModelFiles) -> Result<Option<Self>, Faults> {
        if own.is_empty() {
            return Ok(None);
        }
        let of_base = base.base()?.files;
        if own.iter().all(|file| of_base.contains(file)) {
            return Ok(None);
        }
        let other_tokens = own.iter().any(|file| file.0 == TOKENIZER && !of_base.contains(file));
        let mut overlay = Overlay { folder, files: Vec::new(), warnings: Vec::new() };
        overlay.lay(&own, of_base);
        overlay.tell_of_unread(&own, base)?;
        let readable = |tokenizer: Tokenizer| match tokenizer.unread_template() {
            Some(fault) if template_in(&own).is_some() => Err(fault.clone().into()),
            _ => Ok(tokenizer),
        };
        let tokenizer = match read(folder, &overlay.files).and_then(readable) {
            Ok(tokenizer) => tokenizer,
            Err(faults) => {
                let reason = faults.list()[0].line();
                tracing::warn!("what the adapter's folder has for a tokenizer cannot be used, the base's is: {reason}");
                // Its chat template and its end tokens may be sound all the same.
                let (rest, tokens): (Vec<File>, Vec<File>) = own.into_iter().partition(|(name, _)| is_beside(name));
                return if tokens.is_empty() { Ok(None) } else { Self::of(folder, rest, base) };
            }
        };
        if other_tokens {
            overlay.compare(&tokenizer, base)?;
        }
        let rows = base.config()?.vocab_size;
        let tokenizer = tokenizer.bounded(rows)?;
        overlay.tell_of_named(&own, &tokenizer);
        overlay.say_end(&own, &tokenizer, base)?;
        let Overlay { files, warnings, .. } = overlay;
        Ok(Some(Self { own, files, warnings, folder: folder.to_owned(), rows }))
    }

    /// What the files say.
    ///
    /// # Errors
    /// None but for what [`Brought::find`] has refused.
    pub fn tokenizer(&self) -> Result<Tokenizer, Faults> {
        Ok(read(&self.folder, &self.files)?.bounded(self.rows)?)
    }

    /// What of it is the adapter's own.
    pub fn own_parts(&self) -> TokenizerParts {
        let has = |wanted: &str| self.own.iter().any(|(name, _)| name == wanted);
        TokenizerParts {
            tokens: has(TOKENIZER),
            template: template_in(&self.own).is_some(),
            stops: has(SETTINGS) || has(GENERATION),
        }
    }

    /// What of it is the adapter's own, in words.
    pub fn line(&self) -> String {
        let has = |wanted: &str| self.own.iter().any(|(name, _)| name == wanted);
        let mut parts = Vec::new();
        if has(TOKENIZER) || has(SETTINGS) {
            parts.push("tokenizer");
        }
        if template_in(&self.own).is_some() {
            parts.push("chat template");
        }
        if has(GENERATION) {
            parts.push("`generation_config.json`");
        }
        parts.join(", ")
    }
}

/// The adapter's files over the base's, in the making.
struct Overlay<'a> {
    folder: &'a Path,
    files: Vec<File>,
    warnings: Vec<String>,
}

impl Overlay<'_> {
    fn lay(&mut self, own: &[File], base: Vec<File>) {
        let has = |wanted: &str| own.iter().any(|(name, _)| name == wanted);
        let (whole, template) = (has(TOKENIZER), template_in(own));
        let of_base = template_in(&base);
        let own_template = |name: &str| template.is_some() && [TEMPLATE, TEMPLATE_OF_PROCESSOR].contains(&name);
        // Beside a template of the adapter's own, those of the base that have names would be asked for what that one is to write.
        let is_named = |name: &str| template.is_some() && name.starts_with(FURTHER_TEMPLATES);
        let named = base.iter().filter_map(|(name, _)| name.strip_prefix(FURTHER_TEMPLATES)?.strip_suffix(".jinja"));
        let named: Vec<String> = named.filter(|_| template.is_some()).map(str::to_owned).collect();
        let gone = |name: &str| {
            has(name) || is_named(name) || whole && (is_vocabulary(name) || name == MAP) || own_template(name)
        };
        self.files.extend(base.into_iter().filter(|(name, _)| !gone(name)));
        let read = |name: &str| whole || !is_vocabulary(name);
        self.files.extend(own.iter().filter(|(name, _)| read(name)).cloned());
        match (template, of_base) {
            // As processors write it, nothing but they would read it.
            (Some(text), _) if !has(TEMPLATE) && template_of_settings(own).is_none() => {
                self.files.push((TEMPLATE.into(), text.into()));
            }
            (None, Some(text)) if has(SETTINGS) => {
                if !self.files.iter().any(|(name, _)| name == TEMPLATE) {
                    self.files.push((TEMPLATE.into(), text.into()));
                }
                self.warn("the adapter's tokenizer has no chat template: the base's is taken");
            }
            _ => {}
        }
        self.leave_one_template(named);
        if whole && !has(SETTINGS) {
            self.warn("the adapter has a `tokenizer.json` and no `tokenizer_config.json`: the base's is taken");
        }
        self.files.sort();
    }

    /// Takes another template out of the settings where there is a file of it: some programs read the one, some the other. Those
    /// with names are told of, and `named`.
    fn leave_one_template(&mut self, mut named: Vec<String>) {
        named.extend(self.template_out_of_settings());
        if !named.is_empty() {
            let named: Vec<String> = named.iter().map(|name| format!("`{name}`")).collect();
            let named = some(&named);
            self.warn(&format!(
                "the adapter has a chat template of its own: of the base's named ones {named} are left out"
            ));
        }
    }

    /// The names of the templates that were taken out.
    fn template_out_of_settings(&mut self) -> Vec<String> {
        let Some((_, template)) = self.files.iter().find(|(name, _)| name == TEMPLATE) else { return Vec::new() };
        let other = template_of_settings(&self.files).is_some_and(|text| text.as_bytes() != template.as_slice());
        let settings = self.files.iter_mut().find(|(name, _)| name == SETTINGS).filter(|_| other);
        let Some((_, bytes)) = settings else { return Vec::new() };
        let Some(mut keys) = object(bytes) else { return Vec::new() };
        let gone = keys.shift_remove("chat_template");
        *bytes = serde_json::to_vec_pretty(&keys).expect("a JSON object can be written");
        let names = gone.iter().filter_map(Value::as_array).flatten().filter_map(|entry| entry["name"].as_str());
        names.filter(|name| *name != "default").map(str::to_owned).collect()
    }

    fn warn(&mut self, message: &str) {
        self.warnings.push(format!("{}: {message}", self.folder.display()));
    }

    /// What is there and says nothing without a `tokenizer.json`.
    fn tell_of_unread(&mut self, own: &[File], base: &ModelFiles) -> Result<(), Faults> {
        let unread: Vec<&File> = own.iter().filter(|(name, _)| is_vocabulary(name) && name != TOKENIZER).collect();
        if unread.is_empty() || own.iter().any(|(name, _)| name == TOKENIZER) {
            return Ok(());
        }
        let names: Vec<String> = unread.iter().map(|(name, _)| format!("`{name}`")).collect();
        let mut message =
            format!("{} cannot be read without a `tokenizer.json`: the base's tokens are taken", names.join(", "));
        let added = unread.iter().find(|(name, _)| name == ADDED).and_then(|(_, bytes)| object(bytes));
        if let Some(added) = added {
            let tokenizer = base.tokenizer()?;
            let foreign = |(token, id): &(&String, &Value)| tokenizer.id_of(token).map(u64::from) != id.as_u64();
            let foreign: Vec<String> = added.iter().filter(foreign).map(|(t, id)| format!("`{t}` ({id})")).collect();
            if !foreign.is_empty() {
                message += &format!(", which does not have {} as the adapter does", some(&foreign));
            }
        }
        message += "; `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)` writes it";
        self.warn(&message);
        Ok(())
    }

    /// The tokens that base and adapter share are the same ones, and what is new can be embedded.
    fn compare(&mut self, tokenizer: &Tokenizer, base: &ModelFiles) -> Result<(), Faults> {
        let (apart, rows) = (tokenizer.tokens_apart(&base.tokenizer()?), base.config()?.vocab_size);
        if let Some((token, here, there)) = apart.moved {
            let message = format!("the token `{token}` is {here} for the adapter and {there} for the base");
            return Err(Fault::new(message)
                .at(Place::file(self.folder.join(TOKENIZER)))
                .hint("adapter and base do not belong together, or the file is not the adapter's: take it away then")
                .into());
        }
        let past = apart.new.iter().filter(|(id, _)| *id as usize >= rows);
        let past: Vec<String> = past.map(|(id, token)| format!("`{token}` ({id})")).collect();
        if !past.is_empty() {
            let tokens = some(&past);
            self.warn(&format!(
                "the adapter's tokenizer has {tokens}, which the base's embedding of {rows} rows does not have: no text \
                 with it can be read"
            ));
        }
        Ok(())
    }

    /// Tokens that the settings name and the vocabulary does not have.
    fn tell_of_named(&mut self, own: &[File], tokenizer: &Tokenizer) {
        let settings = own.iter().find(|(name, _)| name == SETTINGS).and_then(|(_, bytes)| object(bytes));
        for key in ["bos_token", "eos_token", "pad_token"] {
            let written = settings.as_ref().and_then(|settings| settings.get(key));
            let text = written.and_then(|value| value.as_str().or_else(|| value.get("content")?.as_str()));
            if let Some(text) = text.filter(|text| tokenizer.id_of(text).is_none()) {
                self.warn(&format!("`{key}` is `{text}`, which is no token of the vocabulary: it is passed over"));
            }
        }
    }

    /// Other programs stop at the tokens of `generation_config.json`, or else of `config.json`: an end token that the
    /// adapter brings stands first there, unless it brings the file, too.
    fn say_end(&mut self, own: &[File], tokenizer: &Tokenizer, base: &ModelFiles) -> Result<(), Faults> {
        let Some(end) = tokenizer.end_token().filter(|_| !own.iter().any(|(name, _)| name == GENERATION)) else {
            return Ok(());
        };
        let find = |wanted: &str| {
            let file = self.files.iter().find(|(name, _)| name == wanted);
            file.and_then(|(_, bytes)| object(bytes))
        };
        let model = find("config.json").unwrap_or_default();
        let of_model = || {
            let keys = ["bos_token_id", "eos_token_id", "pad_token_id"].into_iter();
            keys.filter_map(|key| Some((key.to_owned(), model.get(key).filter(|id| !id.is_null())?.clone()))).collect()
        };
        let mut generation: Map<String, Value> = find(GENERATION).unwrap_or_else(of_model);
        let mut ends = match generation.get("eos_token_id") {
            Some(Value::Array(ids)) => ids.clone(),
            Some(Value::Null) | None => Vec::new(),
            Some(id) => vec![id.clone()],
        };
        let is_said = match ends.iter().position(|id| *id == json!(end)) {
            None => false,
            Some(0) => true,
            // The order of a base that has the same end is its own. A large tokenizer takes a while to read: only here.
            Some(_) => base.tokenizer()?.end_token() == Some(end),
        };
        if is_said {
            return Ok(());
        }
        ends.retain(|id| *id != json!(end));
        ends.insert(0, json!(end));
        generation.insert("eos_token_id".into(), if ends.len() == 1 { json!(end) } else { Value::Array(ends) });
        self.files.retain(|(name, _)| name != GENERATION);
        let text = serde_json::to_vec_pretty(&generation).expect("a JSON object can be written");
        self.files.push((GENERATION.into(), text));
        self.files.sort();
        Ok(())
    }
}

/// The tokenizer that some files make, named as those of `folder`.
fn read(folder: &Path, files: &[File]) -> Result<Tokenizer, Faults> {
    // Files of bytes are of no concern here.
    let texts: Vec<(String, &str)> = files
        .iter()
        .filter_map(|(name, bytes)| Some((folder.join(name).display().to_string(), std::str::from_utf8(bytes).ok()?)))
        .collect();
    Tokenizer::from_texts(&texts.iter().map(|(name, text)| (name.as_str(), *text)).collect::<Vec<_>>())
}

/// True for a file that says something without a tokenizer of its own.
fn is_beside(name: &str) -> bool {
    [TEMPLATE, TEMPLATE_OF_PROCESSOR, GENERATION].contains(&name)
}

/// True for a file that says which tokens there are.
fn is_vocabulary(name: &str) -> bool {
    let names = [TOKENIZER, ADDED, "vocab.json", "vocab.txt", "merges.txt"];
    names.contains(&name) || name.ends_with(".model") || name.ends_with(".tiktoken")
}

fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(bytes).ok()
}

/// The template that some files have, as a text.
fn template_in(files: &[File]) -> Option<String> {
    let find = |wanted: &str| files.iter().find(|(name, _)| name == wanted).map(|(_, bytes)| bytes);
    if let Some(bytes) = find(TEMPLATE) {
        return String::from_utf8(bytes.clone()).ok();
    }
    template_of_settings(files).or_else(|| template_of(&object(find(TEMPLATE_OF_PROCESSOR)?)?))
}

fn template_of_settings(files: &[File]) -> Option<String> {
    template_of(&object(&files.iter().find(|(name, _)| name == SETTINGS)?.1)?)
}

/// `chat_template` is a text, or a list of named ones of which `default` counts, or else the first.
fn template_of(keys: &Map<String, Value>) -> Option<String> {
    let text = |entry: &Value| Some(entry.get("template")?.as_str()?.to_owned());
    match keys.get("chat_template")? {
        Value::String(text) => Some(text.clone()),
        Value::Array(entries) => {
            let default = entries.iter().find(|entry| entry["name"] == "default");
            text(default.or(entries.first())?)
        }
        _ => None,
    }
}

/// The first of some names, and how many more there are.
fn some(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED { format!("{shown} and {} more", names.len() - NAMED) } else { shown }
}

#[cfg(test)]
mod tests;
