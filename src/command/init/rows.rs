//! The rows that other trainers' settings name, as entries of `data.train` and `data.eval`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::draft::Draft;
use super::keys::{number, texts};
use super::source::{Source, Trainer, is_nothing, normal};

/// The shape of rows that is told from the first one.
const TOLD: &str = "auto";

/// What is found of rows, before it is written.
#[derive(Debug, Default)]
struct Found {
    entries: Vec<toml::Value>,
    formats: BTreeSet<&'static str>,
    rename: BTreeMap<String, String>,
}

/// Writes the rows; gives the settings that were looked at.
pub(super) fn translate(source: &Source, draft: &mut Draft) -> BTreeSet<String> {
    let mut taken = BTreeSet::new();
    let mut train = Found::default();
    let mut eval = Found::default();
    let limit = source.find(&["max_samples", "max_train_samples"]).and_then(|(key, value)| {
        let limit = number(value).filter(|limit| *limit >= 1.0)?;
        (source.trainer == Trainer::LlamaFactory).then(|| (key.to_owned(), limit as i64))
    });
    match source.trainer {
        Trainer::Peft => return taken,
        Trainer::LlamaFactory => {
            let folder = info_folder(source, &mut taken, draft);
            for (name, found) in [("dataset", &mut train), ("eval_dataset", &mut eval)] {
                let Some((setting, value)) = source.find(&[name]) else { continue };
                taken.insert(setting.to_owned());
                of_factory(setting, value, folder.as_deref(), found, draft);
            }
        }
        Trainer::Axolotl => {
            for (name, found) in [("datasets", &mut train), ("test_datasets", &mut eval)] {
                let Some((setting, value)) = source.find(&[name]) else { continue };
                taken.insert(setting.to_owned());
                listed(setting, value, found, draft);
            }
        }
        Trainer::Trl => {
            of_trl(source, &mut train, &mut eval, &mut taken, draft);
            if let Some((setting, value)) = source.find(&["datasets"]) {
                taken.insert(setting.to_owned());
                listed(setting, value, &mut train, draft);
            }
        }
    }
    let names: Vec<String> = taken.iter().cloned().collect();
    let of = |words: &[&str]| {
        let named: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| words.contains(&normal(name).as_str())).collect();
        named.join(", ")
    };
    if let Some((setting, limit)) = limit.filter(|_| !train.entries.is_empty()) {
        train.entries.iter_mut().for_each(|entry| *entry = limited(entry, limit));
        taken.insert(setting);
    }
    let formats: BTreeSet<&str> = train.formats.union(&eval.formats).copied().collect();
    if formats.len() > 1 {
        draft
            .remark("the data sets have rows of several shapes, and a run has one: `trainer check` says what it reads");
    }
    if let [format] = formats.iter().copied().collect::<Vec<_>>()[..]
        && format != TOLD
        && train.rename.is_empty()
    {
        draft.set("data.format", format, &of(&["datasets", "dataset", "test_datasets", "eval_dataset"]));
    }
    let rename: toml::Table =
        train.rename.into_iter().chain(eval.rename).map(|(column, key)| (column, key.into())).collect();
    let rows = of(&["datasets", "dataset", "dataset_name", "dataset_config", "dataset_train_split", "max_samples"]);
    if !rename.is_empty() {
        draft.set("data.rename", rename, &of(&["datasets", "dataset", "dataset_text_field"]));
    }
    if !train.entries.is_empty() {
        draft.set("data.train", train.entries, &rows);
    }
    if !eval.entries.is_empty() {
        draft.set("data.eval", eval.entries, &of(&["test_datasets", "eval_dataset", "dataset_test_split"]));
    }
    taken
}

/// The entry with at most so many rows.
fn limited(entry: &toml::Value, limit: i64) -> toml::Value {
    let mut table = match entry {
        toml::Value::Table(table) => table.clone(),
        path => toml::Table::from_iter([("path".to_owned(), path.clone())]),
    };
    table.entry("limit").or_insert(limit.into());
    toml::Value::Table(table)
}

/// A data set of the hub as an entry names it; of `train[:1000]` the first rows.
fn of_hub(
    name: &str,
    subset: Option<&str>,
    revision: Option<&str>,
    split: Option<&str>,
) -> Result<toml::Value, String> {
    let mut path = name.to_owned();
    if let Some(subset) = subset.filter(|subset| !subset.is_empty()) {
        path += &format!("/{subset}");
    }
    if let Some(revision) = revision {
        path += &format!("@{revision}");
    }
    let Some(split) = split else { return Ok(path.into()) };
    let (split, part) =
        split.split_once('[').map_or((split, None), |(split, part)| (split, Some(part.trim_end_matches(']'))));
    let path = toml::Value::from(format!("{path}:{split}"));
    match part.map(|part| part.strip_prefix(':').and_then(|part| part.parse::<i64>().ok())) {
        None => Ok(path),
        Some(Some(limit)) => Ok(limited(&path, limit)),
        Some(None) => {
            Err(format!("`{}` of the rows: an entry takes the first ones, `limit = 1000`", part.unwrap_or_default()))
        }
    }
}

/// True of what is a file or a folder here, or can be nothing else.
fn is_local(path: &str) -> bool {
    let ending = Path::new(path).extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let of_rows = ["json", "jsonl", "parquet", "csv", "tsv", "gz", "zst"].contains(&ending.as_str());
    of_rows || path.starts_with(['/', '.', '~']) || Path::new(path).exists()
}

/// A list of data sets as Axolotl has it, TRL too: `path`, `name`, `split`, `type` and so on.
fn listed(setting: &str, value: &Value, found: &mut Found, draft: &mut Draft) {
    let one = [value.clone()];
    let sets = value.as_array().map_or(&one[..], Vec::as_slice);
    for (index, set) in sets.iter().enumerate() {
        let named = format!("{setting}[{index}]");
        match set {
            Value::String(path) => found.entries.push(path.as_str().into()),
            Value::Object(set) => one_set(&named, set, found, draft),
            other => {
                draft.left(&named, other, "an entry of `data.train` is a file, a folder, or a data set of the hub")
            }
        }
    }
}

fn one_set(named: &str, set: &Map<String, Value>, found: &mut Found, draft: &mut Draft) {
    let text = |key: &str| set.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let files = set.get("data_files").and_then(texts).unwrap_or_default();
    let path = text("path").unwrap_or_default();
    let is_loader = ["json", "csv", "parquet", "text"].contains(&path);
    match (files.is_empty(), is_local(path)) {
        (false, _) if is_loader || is_local(path) => {
            found.entries.extend(files.iter().map(|file| file.as_str().into()))
        }
        (false, _) => {
            let at = text("revision").map(|revision| format!("@{revision}")).unwrap_or_default();
            found.entries.extend(files.iter().map(|file| format!("hf://datasets/{path}{at}/{file}").into()));
        }
        (true, true) => found.entries.push(path.into()),
        (true, false) if path.is_empty() => draft.left(named, &Value::Object(set.clone()), "it has no `path`"),
        (true, false) => match of_hub(path, text("name"), text("revision"), text("split")) {
            Ok(entry) => found.entries.push(entry),
            Err(why) => {
                draft.left(&format!("{named}.split"), &set["split"], why);
                found.entries.push(path.into());
            }
        },
    }
    shape(named, set, found, draft);
    let known = [
        "path",
        "name",
        "split",
        "revision",
        "data_files",
        "type",
        "field",
        "field_messages",
        "field_instruction",
        "field_input",
        "field_output",
        "message_property_mappings",
        "ds_type",
        "message_field_role",
        "message_field_content",
        "columns",
    ];
    for (key, value) in set.iter().filter(|(key, value)| !known.contains(&key.as_str()) && !is_nothing(value)) {
        let why = match key.as_str() {
            "chat_template" if value == "tokenizer_default" => continue,
            "chat_template" | "chat_template_jinja" => {
                "the model's own template is used; `data.chat_template` names another, a file of Jinja"
            }
            "roles" => "roles are known by their usual names (`human`, `gpt`, `user`, `assistant`, ..)",
            "roles_to_train" | "train_on_eos" | "message_field_training" => {
                "answers and their ends are learned: see `data.train_on`"
            }
            _ => "`trainer check` shows what is read of these rows",
        };
        draft.left(&format!("{named}.{key}"), value, why);
    }
}

/// The shape of the rows, and their columns under other names.
fn shape(named: &str, set: &Map<String, Value>, found: &mut Found, draft: &mut Draft) {
    let custom = set.get("type").and_then(Value::as_object);
    let text =
        |key: &str| set.get(key).or_else(|| custom?.get(key)).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut two_names = Vec::new();
    let mut rename = |column: Option<&str>, key: &str| {
        let Some(column) = column.filter(|column| *column != key) else { return };
        match found.rename.get(column).filter(|before| *before != key) {
            Some(before) => two_names.push(format!("`{column}` is `{before}` in one and `{key}` in another")),
            None => drop(found.rename.insert(column.to_owned(), key.to_owned())),
        }
    };
    let kind = set.get("type").and_then(Value::as_str).map(|kind| kind.split('.').next().unwrap_or(kind));
    // What is told from the first row is a shape of its own.
    let known = [("alpaca", "alpaca"), ("sharegpt", "sharegpt"), ("completion", "text")];
    let format = known.iter().find(|(name, _)| Some(*name) == kind).map_or(TOLD, |(_, format)| format);
    found.formats.insert(format);
    match kind {
        Some("alpaca" | "sharegpt") => {}
        Some("chat_template") => {
            rename(text("field_messages"), "messages");
            let mappings = set.get("message_property_mappings").and_then(Value::as_object);
            for (key, column) in mappings.into_iter().flatten() {
                // What is so in the usual shapes is known.
                if column.as_str() != Some(key) && !["from", "value"].contains(&column.as_str().unwrap_or_default()) {
                    rename(column.as_str(), key);
                }
            }
            rename(text("message_field_role").filter(|column| *column != "from"), "role");
            rename(text("message_field_content").filter(|column| *column != "value"), "content");
        }
        Some("completion") => {
            rename(text("field"), "text");
        }
        Some(other) => {
            let why = "the shape of the rows is told from the first one: `trainer check` shows what is made of them";
            draft.left(&format!("{named}.type"), &other.into(), why);
        }
        None => {}
    }
    rename(text("field_instruction"), "instruction");
    rename(text("field_input"), "input");
    rename(text("field_output"), "output");
    if !two_names.is_empty() {
        let names = two_names.join(", ");
        draft.remark(format!(
            "the data sets call their columns otherwise: {names}; a run has one `data.rename`, which is the first's: give the rows of the others its names"
        ));
    }
    for (key, value) in custom.into_iter().flatten() {
        if !key.starts_with("field_") && !is_nothing(value) {
            draft.left(
                &format!("{named}.type.{key}"),
                value,
                "a text around the columns has no place: write it into the rows",
            );
        }
    }
    // `conversations` is found under its own name, without a word.
    found.rename.retain(|column, key| !(column == "conversations" && key == "messages"));
}

/// The folder with LLaMA-Factory's `dataset_info.json`.
fn info_folder(source: &Source, taken: &mut BTreeSet<String>, draft: &mut Draft) -> Option<PathBuf> {
    let (setting, folder) = match source.find(&["dataset_dir"]) {
        Some((setting, value)) => (Some(setting.to_owned()), value.as_str().unwrap_or("data").to_owned()),
        None => (None, "data".to_owned()),
    };
    let beside = source.path.parent().unwrap_or(Path::new("")).join(&folder);
    let places = [PathBuf::from(&folder), beside];
    let found = places.into_iter().find(|place| place.join("dataset_info.json").is_file());
    if let Some(setting) = setting {
        taken.insert(setting.clone());
        match found {
            Some(_) => draft.nothing(&setting),
            None => draft.left(
                &setting,
                &folder.into(),
                "there is no `dataset_info.json` in it here: files are named in `data.train`",
            ),
        }
    }
    found
}

/// Names of `dataset_info.json`, between commas or in a list.
fn of_factory(setting: &str, value: &Value, folder: Option<&Path>, found: &mut Found, draft: &mut Draft) {
    let names: Vec<String> = match value {
        Value::String(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        _ => texts(value).unwrap_or_default(),
    };
    let info = folder.and_then(|folder| faults::read_text(&folder.join("dataset_info.json")).ok());
    let info: Value = info.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    for name in names {
        let (Some(set), Some(folder)) = (info.get(&name).and_then(Value::as_object), folder) else {
            let why = "a name of LLaMA-Factory's `dataset_info.json`, which does not say it here: name the file in `data.train`";
            draft.left(setting, &name.into(), why);
            continue;
        };
        let text = |key: &str| set.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let limit = set.get("num_samples").and_then(Value::as_i64);
        let entry = match (text("file_name"), text("hf_hub_url")) {
            (_, Some(hub)) => {
                of_hub(hub, text("subset"), None, Some(text("split").unwrap_or("train"))).unwrap_or_else(|_| hub.into())
            }
            (Some(file), None) => folder.join(file).display().to_string().into(),
            (None, None) => {
                draft.left(setting, &name.into(), "its entry in `dataset_info.json` names no file");
                continue;
            }
        };
        found.entries.push(limit.map_or(entry.clone(), |limit| limited(&entry, limit)));
        found.formats.insert(if text("formatting") == Some("sharegpt") { "sharegpt" } else { "alpaca" });
        columns(set, found);
    }
}

/// The columns that an entry of `dataset_info.json` names in another way than is usual.
fn columns(set: &Map<String, Value>, found: &mut Found) {
    let keys = [
        ("prompt", "instruction"),
        ("query", "input"),
        ("response", "output"),
        ("messages", "conversations"),
        ("system", "system"),
        ("tools", "tools"),
        ("history", "history"),
    ];
    let columns = set.get("columns").and_then(Value::as_object);
    for (key, column) in columns.into_iter().flatten() {
        let Some((_, ours)) = keys.iter().find(|(theirs, _)| theirs == key) else { continue };
        if let Some(column) = column.as_str().filter(|column| column != ours && *column != "messages") {
            found.rename.insert(column.to_owned(), (*ours).to_owned());
        }
    }
}

/// `dataset_name` and what goes with it.
fn of_trl(source: &Source, train: &mut Found, eval: &mut Found, taken: &mut BTreeSet<String>, draft: &mut Draft) {
    let mut take = |name: &str| {
        let (setting, value) = source.find(&[name])?;
        let text = value.as_str()?.to_owned();
        taken.insert(setting.to_owned());
        Some(text)
    };
    let Some(name) = take("dataset_name") else { return };
    let subset = take("dataset_config").or_else(|| take("dataset_config_name"));
    let split = take("dataset_train_split");
    let evaluates = source
        .find(&["eval_strategy", "evaluation_strategy"])
        .is_some_and(|(_, value)| value != "no" && *value != Value::Bool(false));
    let test = take("dataset_test_split");
    if is_local(&name) {
        train.entries.push(name.as_str().into());
    } else {
        let entry = of_hub(&name, subset.as_deref(), None, Some(split.as_deref().unwrap_or("train")));
        train.entries.push(entry.unwrap_or_else(|why| {
            draft.left("dataset_train_split", &split.clone().unwrap_or_default().into(), why);
            name.as_str().into()
        }));
        if evaluates || test.is_some() {
            let test = test.as_deref().unwrap_or("test");
            eval.entries.extend(of_hub(&name, subset.as_deref(), None, Some(test)));
        }
    }
    if let Some(column) = take("dataset_text_field").filter(|column| column != "text") {
        train.rename.insert(column, "text".into());
    }
}
