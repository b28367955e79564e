//! Strict reading of TOML that keeps every value's place and collects every fault.
//!
//! A [`Section`] is one table of a [`Document`]. The code that needs a key asks for it, once, with its default; what is
//! never asked for is unknown. The same calls write the resolved table (defaults filled in), so that what is printed as
//! the plan and what was read cannot differ.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;

use crate::overrides::{self, Absent};
use crate::tree::{Entry, Node, Value, parse_table, plain};
use crate::{Fault, Faults, FromToml, Place, Source, nearest};

/// A parsed TOML text with the overrides of the command line applied.
pub struct Document {
    root: Vec<Entry>,
    source: Arc<Source>,
    /// What the command line takes away and the text does not have.
    absent: Vec<Absent>,
    shared: Rc<RefCell<Shared>>,
}

/// What all sections of a document write into.
#[derive(Default)]
struct Shared {
    faults: Vec<Fault>,
    /// What is no table where a table must be: all else may be wrong because of it alone.
    shapeless: Vec<Fault>,
    warnings: Vec<Fault>,
    unknown: Vec<(String, Entry, Vec<String>)>,
    asked: Vec<(String, String)>,
    foreign: Vec<(String, String, String)>,
    /// Says what a key of another program is called here.
    translate: Option<Translate>,
}

/// From a key of another program to what is to be written here, if it is known.
pub type Translate = fn(&str) -> Option<String>;

impl Document {
    /// Parses `text`, shown as `name` in faults, and applies overrides written `table.key=value`, or `table.key=` to take
    /// away what the text has.
    ///
    /// # Errors
    /// Every syntax error, each with its place, and every override that cannot be applied.
    pub fn parse(name: &str, text: &str, overrides: &[String]) -> Result<Self, Faults> {
        let source = Arc::new(Source { name: name.into(), text: text.into() });
        let mut faults = Vec::new();
        let mut root = parse_table(&source, &mut faults);
        let mut absent = Vec::new();
        for written in overrides {
            match overrides::apply(&mut root, written) {
                Ok(missing) => absent.extend(missing),
                Err(fault) => faults.push(fault),
            }
        }
        Faults::check(faults)?;
        Ok(Self { root, source, absent, shared: Rc::default() })
    }

    /// Names the keys of other programs: an unknown key is looked up there for its hint.
    pub fn translate_with(&self, translate: Translate) {
        self.shared.borrow_mut().translate = Some(translate);
    }

    /// The table at the top.
    pub fn root(&self) -> Section {
        Section {
            path: String::new(),
            entries: self.root.clone(),
            place: Place::File(self.source.name.clone()),
            asked: Vec::new(),
            resolved: toml::Table::new(),
            shared: self.shared.clone(),
        }
    }

    /// What [`Section::warn`] has filed so far.
    pub fn warnings(&self) -> Vec<Fault> {
        self.shared.borrow().warnings.clone()
    }

    /// The place of every value, for faults that are found when the reading is over.
    pub fn places(&self) -> Places {
        let mut places = BTreeMap::new();
        note_places(&self.root, "", &mut places);
        Places(places)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Every fault that any section of this document filed, and every key that nothing asked for.
    pub fn finish(self) -> Result<(), Faults> {
        let mut shared = self.shared.borrow_mut();
        Faults::check(std::mem::take(&mut shared.shapeless))?;
        let mut faults = std::mem::take(&mut shared.faults);
        let unknown = shared.unknown.iter();
        faults.extend(
            unknown.map(|(path, entry, known)| unknown_key(&shared, path, &entry.key, &entry.key_place, known)),
        );
        faults.extend(self.absent.iter().filter_map(|absent| absent_key(&shared, absent)));
        faults.sort_by_key(|fault| match &fault.place {
            Some(Place::Span(source, span)) => (source.name == "--set", span.start),
            _ => (true, usize::MAX),
        });
        Faults::check(faults)
    }
}

/// Where the values of a document stand, by their dotted names.
#[derive(Debug, Clone, Default)]
pub struct Places(BTreeMap<String, Place>);

impl Places {
    /// The place of the value of `key`, of the table that it would stand in, or else its name.
    pub fn of(&self, key: &str) -> Place {
        let mut name = key;
        loop {
            match (self.0.get(name), name.rsplit_once('.')) {
                (Some(place), _) => return place.clone(),
                (None, Some((table, _))) => name = table,
                (None, None) => return Place::Named(key.into()),
            }
        }
    }

    /// True when the user wrote `key`.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The same fault, where the value stands if it is at the name of one.
    pub fn located(&self, fault: Fault) -> Fault {
        let written = match &fault.place {
            Some(Place::Named(name)) => self.0.get(name).cloned(),
            _ => None,
        };
        match written {
            Some(place) => fault.at(place),
            None => fault,
        }
    }
}

fn note_places(entries: &[Entry], path: &str, places: &mut BTreeMap<String, Place>) {
    for entry in entries {
        let name = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        let place = match &entry.node.value {
            Value::Table(entries) => {
                note_places(entries, &name, places);
                &entry.key_place
            }
            _ => &entry.node.place,
        };
        places.insert(name, place.clone());
    }
}

/// The fault for a key that nothing asked for in the table `path`, which knows the keys `known`.
fn unknown_key(shared: &Shared, path: &str, key: &str, place: &Place, known: &[String]) -> Fault {
    let here = if path.is_empty() { "at the top of the recipe".to_string() } else { format!("in `[{path}]`") };
    let fault = Fault::new(format!("unknown key `{key}` {here}")).at(place.clone());
    let foreign = shared.foreign.iter().find(|(table, name, _)| table == path && name == key);
    if let Some((_, _, owner)) = foreign {
        return fault.hint(format!("`{key}` is a key of {owner}"));
    }
    if let Some(here) = shared.translate.and_then(|translate| translate(key)) {
        return fault.hint(here);
    }
    let elsewhere = || shared.asked.iter().filter(|(table, _)| table != path);
    let exact = elsewhere().find(|(_, name)| name == key).map(|(table, name)| dotted(table, name));
    let near = || nearest(key, known.iter().map(String::as_str)).map(|near| dotted(path, near));
    let near_elsewhere = || {
        let near = nearest(key, elsewhere().map(|(_, name)| name.as_str()))?;
        elsewhere().find(|(_, name)| name == near).map(|(table, name)| dotted(table, name))
    };
    if let Some(meant) = exact.or_else(near).or_else(near_elsewhere) {
        return fault.hint(format!("did you mean `{meant}`?"));
    }
    fault.hint(match known.is_empty() {
        true => "remove it: no key has a meaning here".into(),
        false => format!("known keys: {}", known.join(", ")),
    })
}

/// A key that was to be taken away, is not there and could not be.
fn absent_key(shared: &Shared, absent: &Absent) -> Option<Fault> {
    let Absent { table, key, place } = absent;
    let known = |(its_table, its_key): (&String, &String)| its_table == table && its_key == key;
    let asked = shared.asked.iter().any(|(table, key)| known((table, key)));
    if key.is_empty() || asked || shared.foreign.iter().any(|(table, key, _)| known((table, key))) {
        return None;
    }
    let here: Vec<String> =
        shared.asked.iter().filter(|(its_table, _)| its_table == table).map(|(_, key)| key.clone()).collect();
    Some(unknown_key(shared, table, key, place, &here))
}

fn dotted(table: &str, key: &str) -> String {
    if table.is_empty() { key.into() } else { format!("{table}.{key}") }
}

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
        Section {
            path: String::new(),
            entries: Vec::new(),
            place: Place::Named("probe".into()),
            asked: Vec::new(),
            resolved: toml::Table::new(),
            shared: Rc::default(),
        }
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

    /// The table under `key`, empty when absent. Give it back with [`Section::close`].
    pub fn section(&mut self, key: &str) -> Section {
        self.ask(key);
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
        Section {
            path: full,
            entries,
            place,
            asked: Vec::new(),
            resolved: toml::Table::new(),
            shared: self.shared.clone(),
        }
    }

    /// The tables of the array under `key` (`[[key]]`), none when absent. Give them back with [`Section::close_all`].
    pub fn sections(&mut self, key: &str) -> Vec<Section> {
        self.ask(key);
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
                Value::Table(entries) => sections.push(Section {
                    // As an override names it.
                    path: format!("{path}.{index}"),
                    entries,
                    place: item.place,
                    asked: Vec::new(),
                    resolved: toml::Table::new(),
                    shared: self.shared.clone(),
                }),
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
        if !self.asked.iter().any(|asked| asked == key) {
            self.asked.push(key.into());
            self.shared.borrow_mut().asked.push((self.path.clone(), key.into()));
        }
    }

    fn resolve(&mut self, key: &str, value: toml::Value) {
        self.resolved.insert(key.into(), value);
    }

    fn read<T: FromToml>(&mut self, key: &str) -> Option<T> {
        self.ask(key);
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
