//! The front matter of a data set's `README.md`: its subsets, and which files are which split.

use faults::Fault;
use saphyr::{LoadableYamlNode, Yaml};

/// What a card says of files.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Card {
    pub subsets: Vec<Subset>,
}

/// A configuration.
#[derive(Debug, PartialEq)]
pub(super) struct Subset {
    pub name: String,
    pub is_default: bool,
    /// Its folder, where it names no files.
    pub folder: Option<String>,
    /// Splits with the patterns of their files, in the order of the card.
    pub files: Vec<(String, Vec<String>)>,
}

/// Reads `configs` between the lines `---` at the top; a text without them says nothing.
///
/// # Errors
/// What stands there is no YAML, or `configs` is something else than the hub documents.
pub(super) fn read(text: &str) -> Result<Card, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let front = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---").map(|(front, _)| front));
    let Some(front) = front else { return Ok(Card::default()) };
    let broken = |why: String| {
        let fault = Fault::new(format!("the front matter of the data set's card cannot be used: {why}"));
        fault.hint("name its files: `hf://datasets/ORG/NAME/PATH`, where `*` stands for any letters")
    };
    let documents = Yaml::load_from_str(front).map_err(|error| broken(error.to_string()))?;
    let Some(configs) = documents.first().and_then(|document| document.as_mapping_get("configs")) else {
        return Ok(Card::default());
    };
    let configs = configs.as_sequence().ok_or_else(|| broken("`configs` is no list".into()))?;
    let subset = |config: &Yaml<'_>| {
        let text = |key: &str| config.as_mapping_get(key).and_then(|value| value.as_str()).map(str::to_owned);
        let folder = text("data_dir").map(|folder| folder.trim_end_matches('/').to_owned() + "/");
        let files = config.as_mapping_get("data_files").map_or_else(|| Some(Vec::new()), data_files);
        Some(Subset {
            name: text("config_name").unwrap_or_else(|| "default".into()),
            is_default: config.as_mapping_get("default").and_then(|value| value.as_bool()).unwrap_or(false),
            files: files?.into_iter().map(|(split, paths)| (split, in_folder(folder.as_deref(), paths))).collect(),
            folder,
        })
    };
    let subsets =
        configs.iter().map(|config| subset(config).ok_or_else(|| broken("`data_files` cannot be read".into())));
    Ok(Card { subsets: subsets.collect::<Result<_, _>>()? })
}

/// Paths are meant from the folder where there is one.
fn in_folder(folder: Option<&str>, paths: Vec<String>) -> Vec<String> {
    paths.into_iter().map(|path| format!("{}{}", folder.unwrap_or_default(), path.trim_start_matches("./"))).collect()
}

/// `data_files`: a path, several, a list of splits with their paths, or splits by name.
fn data_files(value: &Yaml<'_>) -> Option<Vec<(String, Vec<String>)>> {
    if let Some(paths) = paths(value) {
        return Some(vec![("train".into(), paths)]);
    }
    if let Some(entries) = value.as_sequence() {
        let entry = |entry: &Yaml<'_>| {
            let split = entry.as_mapping_get("split").and_then(|value| value.as_str()).unwrap_or("train").to_owned();
            Some((split, paths(entry.as_mapping_get("path")?)?))
        };
        return entries.iter().map(entry).collect();
    }
    let entries = value.as_mapping()?.iter();
    entries.map(|(split, value)| Some((split.as_str()?.to_owned(), paths(value)?))).collect()
}

fn paths(value: &Yaml<'_>) -> Option<Vec<String>> {
    match value.as_str() {
        Some(path) => Some(vec![path.to_owned()]),
        None => value.as_sequence()?.iter().map(|path| path.as_str().map(str::to_owned)).collect(),
    }
}
