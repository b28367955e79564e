//! What lies beside an adapter's weights: the tokenizer it was trained with, its chat template, how to generate.
//!
//! PEFT itself writes none of it; TRL, Axolotl, Unsloth and LLaMA-Factory save their tokenizer into the same folder, and a
//! checkpoint holds what the adapter it began with brought.

use std::fs;
use std::path::Path;

use faults::Fault;

use crate::files;

/// The files of a tokenizer and of a template, as any version of transformers has written them.
const NAMES: [&str; 9] = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

/// True for a file that belongs to a tokenizer, its chat template, or how it generates.
pub(crate) fn is_of_tokenizer(name: &str) -> bool {
    NAMES.contains(&name) || name == "vocab.txt" || name.ends_with(".model") || name.ends_with(".tiktoken")
}

/// Those files in a folder, by name, sorted.
///
/// # Errors
/// The folder or a file cannot be read.
pub fn files_beside(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, Fault> {
    let mut found = files_of(folder, is_of_tokenizer)?;
    found.sort();
    Ok(found)
}

/// The files of a folder whose names are wanted.
pub(crate) fn files_of(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, Vec<u8>)>, Fault> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| files::fault("read", folder, &error))? {
        let path = entry.map_err(|error| files::fault("read", folder, &error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| wanted(name));
        if let Some(name) = name.filter(|_| path.is_file()) {
            found.push((name.to_owned(), files::read(&path)?));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_tokenizer_are_found_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tokenizer.json", "spiece.model", "adapter_model.safetensors", "state.json", "README.md"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        // As where several templates were saved.
        fs::create_dir(folder.path().join("vocab.json")).unwrap();
        let found = files_beside(folder.path()).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["spiece.model", "tokenizer.json"]);
        assert_eq!(found[0].1, b"spiece.model");
    }
}
