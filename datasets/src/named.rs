//! Data sets of the hub by name: what a name says, and which files of a repository it means.
//!
//! The rules are those of the library `datasets`: the `configs` of the front matter of `README.md` where there are some, else
//! the names of files and folders (<https://huggingface.co/docs/datasets/repository_structure>).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use faults::{Fault, Place, nearest};

use crate::files::{is_of_rows, split};
use crate::form::unpacked_name;

mod card;

use card::{Card, Subset};

/// A data set of the hub as a recipe names it: `org/name`, `org/name/subset@revision:split`, or
/// `hf://datasets/org/name@revision/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// `organisation/name`
    pub repository: String,
    /// A branch, tag or commit.
    pub revision: Option<String>,
    /// A configuration of the data set.
    pub subset: Option<String>,
    /// A part of it, such as `train`.
    pub split: Option<String>,
    /// A path within the repository, which may be a pattern.
    pub path: Option<String>,
}

/// Splits that stand for the rows to train on, the first that there is.
pub const TRAIN: &[&str] = &["train"];

/// Splits that stand for held-out rows, the first that there is.
pub const HELD_OUT: &[&str] = &["validation", "test"];

const ADDRESS: &str = "hf://datasets/";

impl Named {
    /// What `text` names on the hub; `None` where it is a path of this machine, be it there or not.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix(ADDRESS) {
            return Self::of_address(rest);
        }
        let path = Path::new(text);
        let first = text.split('/').next().unwrap_or_default();
        let is_local = text.starts_with(['.', '/', '~', '$']) || text.contains("://") || path.exists();
        if is_local || is_of_rows(path) || Path::new(first).is_dir() {
            return None;
        }
        let (rest, split) = match text.split_once(':') {
            Some((rest, split)) => (rest, Some(split.to_owned())),
            None => (text, None),
        };
        let (rest, revision) = match rest.split_once('@') {
            Some((rest, revision)) => (rest, Some(revision.to_owned())),
            None => (rest, None),
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let good = (2..=3).contains(&parts.len()) && parts.iter().all(|part| is_part(part));
        // A file without a known ending looks like a name and is none.
        let is_file =
            split.is_none() && revision.is_none() && Path::new(parts.last()?).extension().is_some_and(is_ending);
        (good && !is_file).then(|| Self {
            repository: parts[..2].join("/"),
            revision,
            subset: parts.get(2).map(|part| (*part).to_owned()),
            split,
            path: None,
        })
    }

    fn of_address(rest: &str) -> Option<Self> {
        let mut parts = rest.trim_end_matches('/').splitn(3, '/');
        let (organisation, name, path) = (parts.next()?, parts.next()?, parts.next());
        let (name, revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision.replace("%2F", "/"))),
            None => (name, None),
        };
        let good = is_part(organisation) && is_part(name);
        let repository = format!("{organisation}/{name}");
        good.then(|| Self { repository, revision, subset: None, split: None, path: path.map(str::to_owned) })
    }

    /// The files of it among `files`, those of the repository, by what its `README.md` says, in the order in which they are
    /// read. Without a split those of the first of `splits` that there is.
    ///
    /// # Errors
    /// A subset, a split or a path that it does not have, several where none is named, no files of rows.
    pub fn select(
        &self,
        files: &BTreeSet<String>,
        readme: Option<&str>,
        splits: &[&str],
    ) -> Result<Vec<String>, Fault> {
        let fault = |message: String| Fault::new(message).at(Place::Named(self.repository.clone()));
        if let Some(path) = &self.path {
            let found: Vec<String> = files.iter().filter(|file| is_like(path, file)).cloned().collect();
            return match found.is_empty() {
                true => Err(fault(format!("`{}` has no file `{path}`", self.repository)).hint(some_of(files))),
                false => Ok(found),
            };
        }
        let card =
            readme.map(card::read).transpose().map_err(|fault| fault.at(Place::Named(self.page("README.md"))))?;
        let found = match card.filter(|card| !card.subsets.is_empty()) {
            Some(card) => self.of_card(&card, files)?,
            None => self.of_names(files)?,
        };
        if found.is_empty() {
            let message = format!("`{}` has no files of rows that are read here", self.repository);
            return Err(fault(message).hint(format!(
                "{}; the hub may have made tables of it: `{}@refs/convert/parquet`",
                some_of(files),
                self.repository
            )));
        }
        let names = || found.keys().map(|split| format!("`{split}`")).collect::<Vec<_>>().join(", ");
        let chosen = match &self.split {
            Some(split) => found.get(split).ok_or_else(|| {
                let fault = fault(format!("`{}` has no split `{split}`", self.whole()));
                match (split.contains('['), nearest(split, found.keys().map(String::as_str))) {
                    (true, _) => fault.hint(
                        "rows are not cut out by `[..]`: `limit` of a table in `data.train` takes the first ones",
                    ),
                    (false, Some(near)) => fault.hint(format!("did you mean `{near}`?")),
                    (false, None) => fault.hint(format!("it has {}", names())),
                }
            })?,
            None => match splits.iter().find_map(|split| found.get(*split)) {
                Some(files) => files,
                None if found.len() == 1 && splits == TRAIN => found.values().next().expect("there is one"),
                None => {
                    let message = format!("`{}` has no split `{}`", self.whole(), splits.join("` or `"));
                    return Err(fault(message).hint(format!(
                        "name one as in `{}:SPLIT`; it has {}",
                        self.whole(),
                        names()
                    )));
                }
            },
        };
        Ok(chosen.clone())
    }

    /// Its name without the split.
    fn whole(&self) -> String {
        let subset = self.subset.as_ref().map_or_else(String::new, |subset| format!("/{subset}"));
        let revision = self.revision.as_ref().map_or_else(String::new, |revision| format!("@{revision}"));
        format!("{}{subset}{revision}", self.repository)
    }

    fn page(&self, file: &str) -> String {
        format!("{}/{file}", self.repository)
    }

    /// Splits with their files, as the card says.
    fn of_card(&self, card: &Card, files: &BTreeSet<String>) -> Result<BTreeMap<String, Vec<String>>, Fault> {
        let subset = self.subset_of(card)?;
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (split, patterns) in &subset.files {
            let is_meant = |file: &&String| patterns.iter().any(|pattern| is_like(pattern, file));
            let of_split: Vec<String> = files.iter().filter(is_meant).cloned().collect();
            if let Some(other) = of_split.iter().find(|file| !is_of_rows(Path::new(file))) {
                let message = format!("`{other}` of the split `{split}` is no file of rows that is read here");
                let fault = Fault::new(message).at(Place::Named(self.repository.clone()));
                return Err(fault
                    .hint(format!("the hub may have made tables of it: `{}@refs/convert/parquet`", self.repository)));
            }
            if !of_split.is_empty() {
                found.entry(split.clone()).or_default().extend(of_split);
            }
        }
        if subset.files.is_empty() {
            let inside = subset.folder.as_deref().unwrap_or("");
            return Ok(by_name(files.iter().filter(|file| file.starts_with(inside)), inside));
        }
        Ok(found)
    }

    fn subset_of<'c>(&self, card: &'c Card) -> Result<&'c Subset, Fault> {
        let names = || card.subsets.iter().map(|subset| subset.name.as_str());
        let listed = || names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let found = match &self.subset {
            Some(name) => card.subsets.iter().find(|subset| subset.name == *name),
            None if card.subsets.len() == 1 => card.subsets.first(),
            None => card.subsets.iter().find(|subset| subset.is_default || subset.name == "default"),
        };
        found.ok_or_else(|| {
            let fault = |message: String| Fault::new(message).at(Place::Named(self.repository.clone()));
            match &self.subset {
                Some(name) => {
                    let fault = fault(format!("`{}` has no subset `{name}`", self.repository));
                    match nearest(name, names()) {
                        Some(near) => fault.hint(format!("did you mean `{near}`?")),
                        None => fault.hint(format!("it has {}", listed())),
                    }
                }
                None => {
                    let fault = fault(format!("`{}` has several subsets and none by default", self.repository));
                    fault.hint(format!(
                        "name one as in `{}/{}`; it has {}",
                        self.repository,
                        card.subsets[0].name,
                        listed()
                    ))
                }
            }
        })
    }

    /// Splits with their files, as their names say; a subset is a folder.
    fn of_names(&self, files: &BTreeSet<String>) -> Result<BTreeMap<String, Vec<String>>, Fault> {
        let inside = self.subset.as_ref().map_or_else(String::new, |subset| format!("{subset}/"));
        let found = by_name(files.iter().filter(|file| file.starts_with(&inside)), &inside);
        match (&self.subset, found.is_empty()) {
            (Some(subset), true) => {
                let fault = Fault::new(format!("`{}` has no subset and no folder `{subset}`", self.repository));
                Err(fault.at(Place::Named(self.repository.clone())).hint(some_of(files)))
            }
            _ => Ok(found),
        }
    }
}

/// Files of rows by the splits that their names within the folder `inside` say; of several endings the most frequent, because
/// a repository may have the same rows in several forms.
fn by_name<'f>(files: impl Iterator<Item = &'f String>, inside: &str) -> BTreeMap<String, Vec<String>> {
    let files: Vec<&String> = files.filter(|file| is_of_rows(Path::new(file))).collect();
    let ending = |file: &str| unpacked_name(Path::new(file)).extension().map(|ending| ending.to_ascii_lowercase());
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    for file in &files {
        *counts.entry(ending(file)).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(ending, _)| ending);
    let of_form = files.into_iter().filter(|file| most.as_ref() == Some(&ending(file)));
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut others = Vec::new();
    for file in of_form {
        match split(Path::new(file.strip_prefix(inside).unwrap_or(file))) {
            Some(split) => found.entry(split.to_owned()).or_default().push(file.clone()),
            None => others.push(file.clone()),
        }
    }
    // Where no name says a split, all are to train on.
    if found.is_empty() && !others.is_empty() {
        found.insert("train".into(), others);
    }
    found
}

fn is_part(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with(['.', '~', '-'])
        && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// An ending that no data set's name has: letters behind its last dot.
fn is_ending(ending: &std::ffi::OsStr) -> bool {
    ending.to_string_lossy().chars().all(|c| c.is_ascii_alphabetic())
}

/// Whether `file` is one that `pattern` means: the file, all of a folder, or what it matches.
fn is_like(pattern: &str, file: &str) -> bool {
    let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    pattern == file
        || file.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('/'))
        || glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches_with(file, options))
}

fn some_of(files: &BTreeSet<String>) -> String {
    let shown: Vec<String> =
        files.iter().filter(|file| !file.starts_with('.')).take(5).map(|file| format!("`{file}`")).collect();
    let more = if files.len() > 5 { ", .." } else { "" };
    if shown.is_empty() { "it has no files".into() } else { format!("it has {}{more}", shown.join(", ")) }
}

#[cfg(test)]
mod tests;
