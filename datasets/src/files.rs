//! The files that an entry of `data.train` stands for: a file, all of a folder, or those that a pattern matches.

use std::path::{Path, PathBuf};

use faults::{Fault, Place};

use crate::builtin;
use crate::form::unpacked_name;
use crate::kinds;
use crate::open::STDIN;

/// Endings of files of rows, but for those of packed ones.
const ENDINGS: [&str; 7] = ["jsonl", "json", "ndjson", "parquet", "csv", "tsv", "tab"];

/// What the library `datasets` puts beside rows.
const BESIDE: [&str; 4] = ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"];

/// Words for the parts of a data set, each with what it is called elsewhere.
const SPLITS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "val", "dev"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// The files of `path` in the order of their names; one that names no folder and no pattern is itself, be it there or not.
///
/// # Errors
/// A folder without files of rows or with those of several splits, a pattern that no file matches or that is none.
pub fn expand(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    let name = path.to_string_lossy();
    if name.starts_with(builtin::PREFIX) || name == STDIN || path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    if path.is_dir() {
        return of_folder(path);
    }
    if !path.exists() && name.contains(['*', '?', '[']) && !name.contains("://") {
        return of_pattern(path, &name);
    }
    Ok(vec![path.to_path_buf()])
}

/// True for a name that ends as a file of rows does, packed or not.
pub fn is_of_rows(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unpacked = unpacked_name(path);
    let ending = unpacked.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    !name.starts_with(['.', '_']) && !BESIDE.contains(&&*name) && ENDINGS.contains(&ending.as_str())
}

/// The split (`train`, `validation`, `test`) that a path within a data set names, by the rules of the library `datasets`: a
/// word of the file's name, or else of a folder's, set off by what is neither letter nor digit.
pub fn split(path: &Path) -> Option<&'static str> {
    let of_part = |part: &str| {
        let mut words = part.split(|c: char| !c.is_ascii_alphanumeric());
        words.find_map(|word| SPLITS.iter().find(|(_, names)| names.contains(&word.to_lowercase().as_str())))
    };
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.iter().rev().find_map(|part| of_part(part)).map(|(split, _)| *split)
}

fn of_folder(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    if let Some(fault) = kinds::saved_folder(folder) {
        return Err(fault);
    }
    let mut files = Vec::new();
    collect(folder, &mut files).map_err(|error| Fault::of_file("cannot read the folder", folder, &error))?;
    files.sort();
    let fault = |message: String| Fault::new(message).at(Place::file(folder));
    if files.is_empty() {
        let known: Vec<String> = ENDINGS.iter().map(|ending| format!("`.{ending}`")).collect();
        let hint = format!("files of rows end in {}, packed as `.gz` or `.zst` or not", known.join(", "));
        return Err(fault("the folder has no file of rows".into()).hint(hint));
    }
    let inside = |file: &PathBuf| split(file.strip_prefix(folder).unwrap_or(file));
    let mut splits: Vec<&str> = files.iter().filter_map(inside).collect();
    splits.sort_unstable();
    splits.dedup();
    if splits.len() > 1 {
        let first = files.iter().find(|file| inside(file) == Some(splits[0])).unwrap_or(&files[0]);
        let like = first.with_file_name(format!("{}*", splits[0]));
        let message = format!("the folder has files of several splits: {}", splits.join(", "));
        return Err(fault(message).hint(format!("name those that are meant, by a pattern: `{}`", like.display())));
    }
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(['.', '_']));
        if path.is_dir() && !is_hidden {
            collect(&path, files)?;
        } else if path.is_file() && is_of_rows(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn of_pattern(path: &Path, pattern: &str) -> Result<Vec<PathBuf>, Fault> {
    // As in a shell: a file that is hidden is named by its dot.
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let found = glob::glob_with(pattern, options).map_err(|error| {
        let fault = Fault::new(format!("the pattern cannot be read: {}", error.msg)).at(Place::file(path));
        fault.hint("`*` stands for any letters, `?` for one, `**` for any folders, `[ab]` for one of these letters")
    })?;
    let mut files: Vec<PathBuf> = found.flatten().filter(|file| file.is_file()).collect();
    files.sort();
    if files.is_empty() {
        let fault = Fault::new("no file matches the pattern").at(Place::file(path));
        return Err(
            fault.hint("check the path for a typing error; relative paths are meant from the current directory")
        );
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_words_of_paths() {
        for (path, found) in [
            ("train.jsonl", Some("train")),
            ("data/train-00000-of-00002.parquet", Some("train")),
            ("data/val_1.csv.gz", Some("validation")),
            ("dev/rows.jsonl", Some("validation")),
            ("train/test.jsonl", Some("test")),
            ("my_Training_rows.json", Some("train")),
            ("latest.jsonl", None),
            ("retrain.jsonl", None),
            ("rows.jsonl", None),
        ] {
            assert_eq!(split(Path::new(path)), found, "{path}");
        }
    }

    #[test]
    fn files_of_rows_are_known_by_their_endings() {
        for name in ["a.jsonl", "a.JSON", "a.parquet", "a.csv.gz", "a.jsonl.zst", "x/a.tsv"] {
            assert!(is_of_rows(Path::new(name)), "{name}");
        }
        for name in ["a.txt", ".a.jsonl", "_a.jsonl", "dataset_info.json", "a.gz", "a", "a.jsonl.bak"] {
            assert!(!is_of_rows(Path::new(name)), "{name}");
        }
    }
}
