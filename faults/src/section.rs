//! Strict reading of TOML that keeps every value's place and collects every fault.
//!
//! A [`Section`] is one table of a [`Document`]. The code that needs a key asks for it, once, with its default; what is
//! never asked for is unknown. The same calls write the resolved table (defaults filled in), so that what is printed as
//! the plan and what was read cannot differ.

use std::cell::RefCell;
use std::fmt::Display;
use std::rc::Rc;

use crate::document::{Shared, dotted};
use crate::shape::{Key, Known, Shape};
use crate::tree::{Entry, Node, Value, plain};
use crate::{Fault, FromToml, Place, nearest};

/// One table of a recipe, read key by key.
pub struct Section {
    path: String,
    entries: Vec<Entry>,
    place: Place,
    asked: Vec<String>,
    resolved: toml::Table,
    shared: Rc<RefCell<Shared>>,
}

impl Section {
    /// A section without a text behind it: asking it for keys tells which keys a reader knows.
    pub fn probe() -> Self {
        Self::new(String::new(), Vec::new(), Place::Named("probe".into()), Rc::default())
    }

    pub(crate) fn new(path: String, entries: Vec<Entry>, place: Place, shared: Rc<RefCell<Shared>>) -> Self {
        Self { path, entries, place, asked: Vec::new(), resolved: toml::Table::new(), shared }
    }

    /// What this section and all others of its document will have been asked for when they are read.
    pub fn known(&self) -> Known {
        Known::of(&self.shared)
    }

    /// The keys asked for so far.
    pub fn asked(&self) -> &[String] {
        &self.asked
    }

    /// True when the user wrote this key.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// The keys that the user wrote, in their order: for tables whose keys are the user's own.
    pub fn keys(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.key.clone()).collect()
    }

    /// True when the user wrote a table under this key.
    pub fn is_table(&self, key: &str) -> bool {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.is_some_and(|entry| matches!(entry.node.value, Value::Table(_)))
    }

    /// True when the user wrote nothing in this table.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of `key`, or `default`.
    pub fn value<T: FromToml>(&mut self, key: &str, default: T) -> T {
        self.note(key, |key| key.default = Some(default.to_toml()));
        let value = self.read(key).unwrap_or(default);
        self.resolve(key, value.to_toml());
        value
    }

    /// The value of `key` if the user wrote it.
    pub fn optional<T: FromToml>(&mut self, key: &str) -> Option<T> {
        let value: Option<T> = self.read(key);
        if let Some(value) = &value {
            self.resolve(key, value.to_toml());
        }
        value
    }

    /// The value of `key`; files a fault and gives the type's default when it is absent.
    pub fn required<T: FromToml + Default>(&mut self, key: &str, hint: impl Display) -> T {
        self.note(key, |key| key.required = true);
        let missing = !self.has(key);
        let value = self.optional(key);
        if missing {
            let message = format!("`{}` is missing", self.full(key));
            self.file(Fault::new(message).at(self.place.clone()).hint(hint.to_string()));
        }
        value.unwrap_or_default()
    }

    /// Takes note of `key` without reading it, where a fault or another key has made it void: it is then neither unknown
    /// nor in the resolved table.
    pub fn skip(&mut self, key: &str) {
        self.ask(key);
    }

    /// Forgets what the user wrote under `key` unless it is `neutral`; true when there was something to forget.
    pub fn forget_unless(&mut self, key: &str, neutral: &toml::Value) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.key != key || plain(&entry.node).as_ref() == Some(neutral));
        self.entries.len() < before
    }

    /// One of a few words, each standing for a value; files a fault with the nearest word for any other.
    pub fn choice<T: Clone>(&mut self, key: &str, choices: &[(&str, T)], default: &str) -> T {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let word = self.value(key, default.to_string());
        self.words(key, &words);
        let found = choices.iter().find(|(candidate, _)| *candidate == word);
        if found.is_none() {
            let hint = match nearest(&word, words.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("one of: {}", words.join(", ")),
            };
            self.reject(key, format!("`{}` cannot be \"{word}\"", self.full(key)), hint);
        }
        let fallback = choices.iter().find(|(candidate, _)| *candidate == default).or(choices.first());
        found.or(fallback).map(|(_, value)| value.clone()).expect("a choice has at least one word")
    }

    /// Says that `key`, a string, is one of these words, where it is read by another way than [`Section::choice`].
    pub fn words(&mut self, key: &str, words: &[&str]) {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        self.note(key, |key| key.shape = Some(Shape::Words(words)));
    }

    /// Says that this table has names of the user's own, each with a value of this type.
    pub fn any_name<T: FromToml>(&mut self) {
        self.shared.borrow_mut().note(&self.path, "*", |key| key.shape = Some(T::shape()));
    }

    /// The table under `key`, empty when absent. Give it back with [`Section::close`].
    pub fn section(&mut self, key: &str) -> Section {
        self.note(key, |key| key.shape = Some(Shape::Table));
        let full = self.full(key);
        let entry = self.entries.iter().find(|entry| entry.key == key).cloned();
        let (entries, place) = match entry {
            Some(Entry { node: Node { value: Value::Table(entries), .. }, key_place, .. }) => (entries, key_place),
            Some(entry) => {
                let message = format!("`{full}` must be a table, found {}", entry.node.value.describe());
                let translate = self.shared.borrow().translate;
                let hint = translate.filter(|_| !full.contains('.')).and_then(|translate| translate(&full));
                let hint = hint
                    .unwrap_or_else(|| format!("write `[{full}]` on a line of its own, or `--set {full}.KEY=VALUE`"));
                self.shapeless(Fault::new(message).at(entry.node.place).hint(hint));
                (Vec::new(), self.place.clone())
            }
            None => (Vec::new(), self.place.clone()),
        };
        Section::new(full, entries, place, self.shared.clone())
    }

    /// The tables of the array under `key` (`[[key]]`), none when absent. Give them back with [`Section::close_all`].
    pub fn sections(&mut self, key: &str) -> Vec<Section> {
        self.note(key, |key| key.shape = Some(Shape::List(Box::new(Shape::Table))));
        let Some(entry) = self.entries.iter().find(|entry| entry.key == key).cloned() else { return Vec::new() };
        let path = self.full(key);
        let numbered = |entries: &[Entry]| {
            !entries.is_empty() && entries.iter().enumerate().all(|(index, entry)| entry.key == index.to_string())
        };
        let items = match entry.node.value {
            Value::Array(items) => Some(items),
            // An override can begin a list that the text does not have.
            Value::Table(entries) if numbered(&entries) => Some(entries.into_iter().map(|entry| entry.node).collect()),
            _ => None,
        };
        let Some(items) = items else {
            let message = format!("`{path}` must be an array of tables");
            let hint = format!("write `[[{path}]]`, or `--set '{path}=[{{kind=\"NAME\"}}]'`");
            self.shapeless(Fault::new(message).at(entry.key_place).hint(hint));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            match item.value {
                Value::Table(entries) => {
                    // As an override names it.
                    let path = format!("{path}.{index}");
                    sections.push(Section::new(path, entries, item.place, self.shared.clone()));
                }
                other => {
                    let message = format!("`{path}` must hold tables, found {}", other.describe());
                    self.shapeless(Fault::new(message).at(item.place).hint(format!("write `[[{path}]]`")));
                }
            }
        }
        sections
    }

    /// Ends a table opened with [`Section::section`]: what it never asked for is unknown.
    pub fn close(&mut self, child: Section) {
        let key = child.path.rsplit('.').next().unwrap_or_default().to_string();
        let resolved = child.end();
        if !resolved.is_empty() {
            self.resolve(&key, toml::Value::Table(resolved));
        }
    }

    /// Ends the tables opened with [`Section::sections`].
    pub fn close_all(&mut self, key: &str, children: Vec<Section>) {
        let tables: Vec<_> = children.into_iter().map(|child| toml::Value::Table(child.end())).collect();
        if !tables.is_empty() {
            self.resolve(key, toml::Value::Array(tables));
        }
    }

    /// Ends this table and gives its resolved form, defaults filled in.
    pub fn end(self) -> toml::Table {
        let mut shared = self.shared.borrow_mut();
        for entry in &self.entries {
            if !self.asked.contains(&entry.key) {
                shared.unknown.push((self.path.clone(), entry.clone(), self.asked.clone()));
            }
        }
        self.resolved
    }

    /// Says whose key `key` is, for the hint when it stands in this table and nothing asks for it.
    pub fn foreign(&mut self, key: &str, owner: impl Display) {
        self.shared.borrow_mut().foreign.push((self.path.clone(), key.into(), owner.to_string()));
    }

    /// Files a fault at `key` unless `holds`.
    pub fn check(&self, key: &str, holds: bool, message: impl Display, hint: impl Display) {
        if !holds {
            self.reject(key, message, hint);
        }
    }

    /// Files a fault at the place of `key`, or of this table when the key is not written.
    pub fn reject(&self, key: &str, message: impl Display, hint: impl Display) {
        self.file(Fault::new(message.to_string()).at(self.place_of(key)).hint(hint.to_string()));
    }

    /// Files a warning at the place of `key` unless `holds`.
    pub fn warn(&self, key: &str, holds: bool, message: impl Display, hint: impl Display) {
        if !holds {
            let warning = Fault::new(message.to_string()).at(self.place_of(key)).hint(hint.to_string());
            self.shared.borrow_mut().warnings.push(warning);
        }
    }

    /// Files a fault at `key` where `value`, which is computed with as f32, would be 0 or infinite there and is not.
    pub fn check_single(&self, key: &str, value: f64, hint: impl Display) {
        let single = value as f32;
        let lost = value.is_finite() && (single.is_infinite() || value != 0.0 && !single.is_normal());
        let what = if value.abs() < 1.0 { "0" } else { "infinite" };
        self.check(
            key,
            !lost,
            format!("`{}` = {value:e} is {what} as f32, which is computed with", self.full(key)),
            hint,
        );
    }

    /// The place of the value of `key`, or of this table when the key is not written.
    pub fn place_of(&self, key: &str) -> Place {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.map_or_else(|| self.place.clone(), |entry| entry.node.place.clone())
    }

    /// Files a fault that has its place already.
    pub fn file(&self, fault: Fault) {
        self.shared.borrow_mut().faults.push(fault);
    }

    /// The dotted name of `key` from the top of the recipe.
    pub fn full(&self, key: &str) -> String {
        dotted(&self.path, key)
    }

    fn shapeless(&self, fault: Fault) {
        self.shared.borrow_mut().shapeless.push(fault);
    }

    fn ask(&mut self, key: &str) {
        self.note(key, |_| {});
    }

    /// Asks for `key`, and keeps what is said of it.
    fn note(&mut self, key: &str, say: impl FnOnce(&mut Key)) {
        if !self.asked.iter().any(|asked| asked == key) {
            self.asked.push(key.into());
        }
        self.shared.borrow_mut().note(&self.path, key, say);
    }

    fn resolve(&mut self, key: &str, value: toml::Value) {
        self.resolved.insert(key.into(), value);
    }

    fn read<T: FromToml>(&mut self, key: &str) -> Option<T> {
        self.note(key, |key| key.shape = Some(T::shape()));
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let value = plain(&entry.node).and_then(|value| T::from_toml(&value));
        if value.is_none() {
            let message =
                format!("`{}` must be {}, found {}", self.full(key), T::expected(), entry.node.value.describe());
            let hint = format!("write {} there, or remove it for the default", T::expected());
            self.file(Fault::new(message).at(entry.node.place.clone()).hint(hint));
        }
        value
    }
}

#[cfg(test)]
mod tests;
