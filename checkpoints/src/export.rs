//! Adapters and merged models as other programs read them: PEFT, transformers, vLLM, llama.cpp's converter.
//!
//! An export appears whole or not at all: it is written into a hidden folder beside the output, synced and renamed.

mod adapter;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use faults::{Fault, Faults, Place, json as python};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::adapter::Adapter;
use crate::beside::{files_of, is_of_tokenizer};
use crate::merge::{Update, convert};
use crate::names::{HEAD_WEIGHT, is_embedding};
use crate::tensor::float_size;
use crate::weights::{INDEX, SINGLE, Weights};
use crate::{files, format, run};

pub use adapter::{Reader, adapter};

/// The size at which a single file of weights is split, as Hugging Face does.
const SHARD_BYTES: u64 = 5_000_000_000;

/// The base model of a merge: its weights, and the files that go with them.
pub struct Base {
    /// The weights.
    pub weights: Weights,
    /// `config.json` and the files of the tokenizer, by name.
    pub files: Vec<(String, Vec<u8>)>,
}

/// The files that an export has written, and warnings.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The output folder.
    pub folder: PathBuf,
    /// Names of the files in it, sorted.
    pub files: Vec<String>,
    /// The modules that were changed, or that the adapter is on.
    pub modules: usize,
    /// What some program will not read or will read differently; one sentence each.
    pub warnings: Vec<String>,
}

impl Base {
    /// The model in a folder.
    ///
    /// # Errors
    /// Weights that cannot be opened, a file that cannot be read, no `config.json`.
    pub fn open(folder: &Path) -> Result<Self, Fault> {
        let weights = Weights::open(folder)?;
        let mut found = files_of(folder, goes_along)?;
        let further = folder.join(FURTHER_TEMPLATES);
        if further.is_dir() {
            let templates = files_of(&further, |name| name.ends_with(".jinja"))?;
            found.extend(templates.into_iter().map(|(name, bytes)| (format!("{FURTHER_TEMPLATES}/{name}"), bytes)));
        }
        found.sort();
        if !found.iter().any(|(name, _)| name == CONFIG) {
            return Err(Fault::new(format!("the model has no `{CONFIG}`"))
                .at(Place::file(folder))
                .hint("a model folder holds `config.json`, `tokenizer.json` and safetensors weights"));
        }
        Ok(Self { weights, files: found })
    }

    /// The keys of `config.json`.
    fn keys(&self) -> Result<serde_json::Map<String, Value>, Fault> {
        let config = self.files.iter().find(|(name, _)| name == CONFIG);
        Ok(config.map(|(_, bytes)| parse_config(bytes)).transpose()?.map(|read| read.value).unwrap_or_default())
    }

    /// True when the head has the embedding's weight.
    fn is_tied(&self) -> Result<bool, Fault> {
        Ok(!self.weights.contains(HEAD_WEIGHT) || self.says_tied()? && !self.weights.has_two_ends())
    }

    /// True when the configuration says so, and the weights are two. transformers 5 believes the weights, older ones the
    /// configuration.
    fn is_tied_in_words_alone(&self) -> Result<bool, Fault> {
        Ok(self.says_tied()? && self.weights.has_two_ends())
    }

    fn says_tied(&self) -> Result<bool, Fault> {
        let keys = self.keys()?;
        // As transformers has it: families of Gemma are tied unless they say otherwise, even beside a copy of the head.
        let is_gemma = keys.get("model_type").and_then(Value::as_str).is_some_and(|family| family.starts_with("gemma"));
        Ok(keys.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(is_gemma))
    }

    /// Who does not read a head of its own in a model of this family, because theirs is always the embedding: llama.cpp
    /// (`conversion/gemma.py`, which drops it) and vLLM (`gemma2.py`, which has no such parameter). With a part for images
    /// the embedding has rows past the tokenizer's tokens, which the former cuts off, there alone.
    fn head_is_passed_over(&self) -> Result<Option<String>, Fault> {
        let family = self.keys()?.get("model_type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let others = match family.as_str() {
            "gemma" => "",
            "gemma2" => ", and vLLM refuses it",
            "gemma3" => {
                return Ok(Some(
                    "whether llama.cpp reads a merged `gemma3` with a head of its own was not tried: its converter cuts \
                     the embedding to the tokenizer's tokens, and not the head"
                        .into(),
                ));
            }
            _ => return Ok(None),
        };
        Ok(Some(format!(
            "llama.cpp drops the head of a merged `{family}` without a word and computes something else{others}"
        )))
    }
}

const CONFIG: &str = "config.json";

/// Where transformers keeps the templates of a tokenizer that has several, but for the one that is taken by default.
const FURTHER_TEMPLATES: &str = "additional_chat_templates";

/// What is said of a base that is tied in words alone.
const TWO_ENDS: &str = "the base's `config.json` says that its head is its embedding, and its weights are two: that of the \
    output says so";

/// True for the files of a model that are not weights and that its readers look for.
fn goes_along(name: &str) -> bool {
    const NAMES: &[&str] = &[
        CONFIG,
        // Without these there is no processor for the images of a model that has a part for them.
        "preprocessor_config.json",
        "processor_config.json",
    ];
    NAMES.contains(&name) || is_of_tokenizer(name)
}

/// Writes the base with the adapter merged into it, each tensor in type `dtype` or its own. An adapter on one end of a
/// model whose ends are tied, on the embedding or the head, unties them: one weight cannot be both.
///
/// # Errors
/// `out` is a file or not empty; the adapter does not fit the base, or holds NaN or infinity; a number does not fit the
/// output type; the disk fails.
pub fn merged(base: &Base, adapter: &Adapter, out: &Path, dtype: Option<Dtype>) -> Result<Exported, Faults> {
    check_out(out)?;
    let modules = adapter.modules()?;
    adapter.check_base_copies(&base.weights)?;
    let mut updates = BTreeMap::new();
    let mut faults = Vec::new();
    for module in &modules {
        let weight = format!("{}.weight", module.path);
        let expected = [module.out_features, module.in_features];
        match base.weights.shape(base.weights.holder(&weight)) {
            None => faults.push(absent(&base.weights, &weight)),
            Some(shape) if shape != expected => faults.push(
                Fault::new(format!("`{weight}` is {shape:?} in the base, but the adapter is for {expected:?}"))
                    .at(base.weights.place_of(&weight))
                    .hint("this adapter was trained on another model"),
            ),
            Some(_) => {
                let held = base.weights.holder(&weight);
                let from = base.weights.dtype(held).expect("a tensor with a shape has a type");
                match base.weights.bytes(held).and_then(|bytes| Update::new(module, from, bytes)) {
                    Ok(update) => drop(updates.insert(weight, update)),
                    Err(fault) if fault.place.is_none() => faults.push(fault.at(Place::Named(weight))),
                    Err(fault) => faults.push(fault),
                }
            }
        }
    }
    Faults::check_alike(faults)?;
    // What the adapter does not change keeps its bytes, down to the sign of a zero.
    updates.retain(|_, update| !update.is_zero());
    let mut warnings = Vec::new();
    if updates.is_empty() {
        warnings.push("every `lora_B` is zero: the merged model is the base".into());
    }
    let untied = updates.keys().any(|name| name == HEAD_WEIGHT || is_embedding(name)) && base.is_tied()?;
    if base.is_tied_in_words_alone()? {
        warnings.push(TWO_ENDS.into());
        warnings.extend(base.head_is_passed_over()?);
    }
    if untied {
        warnings
            .push("the embedding and the head of the base are one weight, those of the merged model are two".into());
        warnings.extend(base.head_is_passed_over()?);
    }
    write_model(base, &Change { updates, untied, dtype }, out, SHARD_BYTES)?;
    exported(out, modules.len(), warnings)
}

/// Writes a model whose weights were all trained, each tensor in type `dtype` or its own.
///
/// # Errors
/// `out` is a file or not empty; a number does not fit the output type; the disk fails.
pub fn model(base: &Base, out: &Path, dtype: Option<Dtype>) -> Result<Exported, Faults> {
    check_out(out)?;
    write_model(base, &Change { updates: BTreeMap::new(), untied: false, dtype }, out, SHARD_BYTES)?;
    let warnings = base.is_tied_in_words_alone()?.then(|| TWO_ENDS.to_owned());
    exported(out, 0, warnings.into_iter().collect())
}

fn absent(weights: &Weights, weight: &str) -> Fault {
    Fault::new(format!("the adapter is on `{weight}`, which the base does not have"))
        .at(Place::Named(weight.to_owned()))
        .hint(format!("this adapter was trained on another model than {}", weights.name()))
}

/// How the output differs from the base.
struct Change {
    /// The updates of single tensors.
    updates: BTreeMap<String, Update>,
    /// The head gets a weight of its own.
    untied: bool,
    /// The type of all tensors; each has its own without.
    dtype: Option<Dtype>,
}

/// One file of the output.
struct Shard<'a> {
    name: String,
    tensors: Vec<&'a str>,
}

fn write_model(base: &Base, change: &Change, out: &Path, shard_bytes: u64) -> Result<(), Fault> {
    let (weights, dtype) = (&base.weights, change.dtype);
    let output = |name: &str| -> (Dtype, Vec<usize>, usize) {
        let name = weights.holder(name);
        let from = weights.dtype(name).expect("the names are the base's");
        let shape = weights.shape(name).expect("the names are the base's");
        let held = weights.bytes(name).expect("the names are the base's").len();
        match (dtype, float_size(from)) {
            (Some(to), Some(size)) => {
                let size_to = float_size(to).unwrap_or(size);
                (to, shape, held / size * size_to)
            }
            _ => (from, shape, held),
        }
    };
    let shards = shards(weights, change, shard_bytes, |name| output(name).2 as u64);
    stage(out, |folder| {
        let mut total = 0;
        for shard in &shards {
            let outputs: Vec<_> = shard.tensors.iter().map(|name| output(name)).collect();
            let stored: Vec<_> = shard.tensors.iter().map(|name| weights.stored_name(name, change.untied)).collect();
            let entries: Vec<_> = stored
                .iter()
                .zip(&outputs)
                .map(|(name, (dtype, shape, size))| format::Entry { name, dtype: *dtype, shape, size: *size })
                .collect();
            total += entries.iter().map(|entry| entry.size as u64).sum::<u64>();
            let mut trouble = None;
            let path = folder.join(&shard.name);
            let written = files::write(&path, |file| {
                format::write(file, &entries, |index| {
                    tensor(weights, shard.tensors[index], outputs[index].0, &change.updates).map_err(|fault| {
                        trouble = Some(fault);
                        io::Error::other("a tensor cannot be converted")
                    })
                })
            });
            trouble.map_or(written, Err)?;
        }
        if shards.len() > 1 || weights.index().is_some() {
            let index = index(weights, &shards, change.untied, total);
            let text = serde_json::to_vec_pretty(&index).expect("an index can be written");
            files::write(&folder.join(INDEX), |file| file.write_all(&text))?;
        }
        let untied = change.untied || base.is_tied_in_words_alone()?;
        for (name, bytes) in &base.files {
            let bytes = if name == CONFIG { config(bytes, dtype, untied)? } else { Cow::Borrowed(&bytes[..]) };
            let path = folder.join(name);
            let within = path.parent().unwrap_or(folder);
            fs::create_dir_all(within).map_err(|error| files::fault("make", within, &error))?;
            files::write(&path, |file| file.write_all(&bytes))?;
        }
        Ok(())
    })
}

fn tensor<'a>(
    weights: &'a Weights,
    name: &str,
    to: Dtype,
    updates: &BTreeMap<String, Update>,
) -> Result<Cow<'a, [u8]>, Fault> {
    let held = weights.holder(name);
    let bytes = weights.bytes(held)?;
    let from = weights.dtype(held).expect("a tensor with bytes has a type");
    let update = updates.get(name);
    if from == to && update.is_none() {
        return Ok(Cow::Borrowed(bytes));
    }
    convert(from, bytes, to, update).map(Cow::Owned).map_err(|fault| {
        Fault { message: format!("tensor `{name}`: {}", fault.message), ..fault }.at(weights.place_of(held))
    })
}

/// The files of the output: the base's own, or a single one split where it grows too large.
fn shards<'a>(weights: &'a Weights, change: &Change, shard_bytes: u64, size: impl Fn(&str) -> u64) -> Vec<Shard<'a>> {
    let mut files = weights.shards();
    if change.untied && !weights.contains(HEAD_WEIGHT) {
        // Beside the embedding, which has its type and so its alignment.
        for (_, names) in &mut files {
            if let Some(place) = names.iter().position(|name| is_embedding(name)) {
                names.insert(place + 1, HEAD_WEIGHT);
            }
        }
    }
    let output_type = |name: &str| {
        let from = weights.dtype(weights.holder(name)).expect("the names are the base's");
        change.dtype.filter(|_| float_size(from).is_some()).unwrap_or(from)
    };
    if change.dtype.is_some() {
        // Types that are not converted may be narrower than the rest now; wide ones first keep all of them aligned.
        files.iter_mut().for_each(|(_, names)| names.sort_by_key(|name| Reverse(output_type(name))));
    }
    if weights.index().is_some() {
        return files.into_iter().map(|(name, tensors)| Shard { name: name.into(), tensors }).collect();
    }
    let several = files.len() > 1;
    let mut names: Vec<&str> = files.into_iter().flat_map(|(_, names)| names).collect();
    if several {
        // Each file has its own order of types.
        names.sort_by_key(|name| Reverse(output_type(name)));
    }
    let mut groups: Vec<Vec<&str>> = vec![Vec::new()];
    let mut filled = 0;
    for name in names {
        if filled > 0 && filled + size(name) > shard_bytes {
            groups.push(Vec::new());
            filled = 0;
        }
        filled += size(name);
        groups.last_mut().expect("there is always a last group").push(name);
    }
    let count = groups.len();
    let name = |index: usize| match count {
        1 => SINGLE.to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    };
    groups.into_iter().enumerate().map(|(index, tensors)| Shard { name: name(index), tensors }).collect()
}

/// The list of files: the base's with the sizes of now, or a new one.
fn index(weights: &Weights, shards: &[Shard<'_>], untied: bool, total: u64) -> Value {
    let mut index = weights.index().cloned().unwrap_or_default();
    let metadata = index.entry("metadata").or_insert_with(|| json!({}));
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata["total_size"] = json!(total);
    let in_shard = |shard: &'_ Shard<'_>| {
        let name = shard.name.clone();
        shard
            .tensors
            .iter()
            .map(|tensor| (weights.stored_name(tensor, untied).into_owned(), name.clone()))
            .collect::<Vec<_>>()
    };
    let places: BTreeMap<String, String> = shards.iter().flat_map(in_shard).collect();
    index.insert("weight_map".into(), json!(places));
    Value::Object(index)
}

fn parse_config(bytes: &[u8]) -> Result<python::Read<Map<String, Value>>, Fault> {
    let fault = |error| {
        let fault = Fault::new(format!("not a JSON object: {error}")).at(Place::File(CONFIG.into()));
        fault.hint("take the file from the model's repository again")
    };
    python::read_object_of(bytes).map_err(fault)
}

/// `config.json` with the type the weights have now, and without the tie of a head that has a weight of its own.
fn config(bytes: &[u8], dtype: Option<Dtype>, untied: bool) -> Result<Cow<'_, [u8]>, Fault> {
    if dtype.is_none() && !untied {
        return Ok(Cow::Borrowed(bytes));
    }
    let python::Read { value: mut keys, oddities } = parse_config(bytes)?;
    let written = |keys: Map<String, Value>| Cow::Owned(python::written(keys, &oddities).into_bytes());
    if untied {
        keys.insert("tie_word_embeddings".into(), json!(false));
        // transformers before 5 looks at the part for text.
        if let Some(Value::Object(text)) = keys.get_mut("text_config") {
            text.insert("tie_word_embeddings".into(), json!(false));
        }
    }
    let Some(dtype) = dtype else { return Ok(written(keys)) };
    let word = match dtype {
        Dtype::F64 => "float64",
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
        _ => "float32",
    };
    // transformers 5 writes `dtype`, older versions `torch_dtype`; both read either.
    let present = ["dtype", "torch_dtype"].into_iter().filter(|key| keys.contains_key(*key)).collect::<Vec<_>>();
    for key in if present.is_empty() { vec!["torch_dtype"] } else { present } {
        keys.insert(key.into(), json!(word));
    }
    Ok(written(keys))
}

fn check_out(out: &Path) -> Result<(), Fault> {
    let fault = |message: &str| Err(Fault::new(message).at(Place::file(out)).hint("choose another `--out`"));
    if out.exists() && !out.is_dir() {
        return fault("the output folder is a file");
    }
    if out.is_dir() && !run::is_empty(out)? {
        return fault("the output folder is not empty");
    }
    match out.ancestors().skip(1).find(|folder| folder.exists()) {
        Some(file) if !file.is_dir() => {
            fault(&format!("the output folder cannot lie in `{}`, which is a file", file.display()))
        }
        _ => Ok(()),
    }
}

/// How the hidden folders end that exports are written into.
const PARTIAL: &str = ".partial";

/// Tells of what exports left beside `out` that were ended before they were done: whole models, where nobody looks. One to
/// the same place is removed by the next; another may be at work still.
fn tell_of_leftovers(parent: &Path, own: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let is_left = |path: &PathBuf| {
        let hidden = path.file_name().and_then(|name| name.to_str());
        let holds = |name: &str| path.join(name).exists();
        let of_export = holds(SINGLE) || holds(INDEX) || holds(crate::adapter::TENSORS) || holds(CONFIG);
        path != own && path.is_dir() && of_export && hidden.is_some_and(|n| n.starts_with('.') && n.ends_with(PARTIAL))
    };
    for left in entries.filter(is_left) {
        tracing::warn!(
            "`{}` is what an export left that did not end: remove it, unless one is at work",
            left.display()
        );
    }
}

/// Fills a hidden folder beside `out` and renames it when all of it is on the disk.
fn stage(out: &Path, fill: impl FnOnce(&Path) -> Result<(), Fault>) -> Result<(), Fault> {
    let Some(name) = out.file_name() else {
        return Err(Fault::new("the output folder has no name").at(Place::file(out)).hint("choose another `--out`"));
    };
    let parent = match out.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("."),
    };
    let staging = parent.join(format!(".{}{PARTIAL}", name.to_string_lossy()));
    if staging.is_dir() {
        tracing::info!("removing what an export to the same place left that did not end: `{}`", staging.display());
    }
    files::remove_folder(&staging).map_err(|fault| files::unhidden(fault, &staging, out))?;
    tell_of_leftovers(parent, &staging);
    let written = files::create_folder(&staging).and_then(|()| fill(&staging)).and_then(|()| {
        files::sync_folder(&staging)?;
        if out.is_dir() {
            // Empty, as was checked; not every system renames over a folder.
            fs::remove_dir(out).map_err(|error| files::fault("replace", out, &error))?;
        }
        files::rename(&staging, out)
    });
    if let Err(fault) = written {
        // The first fault says what is wrong.
        let _ = files::remove_folder(&staging);
        return Err(files::unhidden(fault, &staging, out));
    }
    files::sync_folder(parent)
}

fn exported(out: &Path, modules: usize, warnings: Vec<String>) -> Result<Exported, Faults> {
    let entries = fs::read_dir(out).map_err(|error| files::fault("read", out, &error))?;
    let mut files: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    files.sort();
    Ok(Exported { folder: out.into(), files, modules, warnings })
}

#[cfg(test)]
mod tests;
