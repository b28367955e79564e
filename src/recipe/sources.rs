//! `data.train` and `data.eval`: files, folders, patterns and data sets of the hub, alone or in tables with what else is said
//! of them; or the part of the training rows that is held out.

use std::collections::BTreeSet;

use faults::{FromToml, Section, Shape, nearest};

/// An entry of `data.train` or `data.eval`.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// A file, a folder, a pattern, a name of the hub, a `builtin:` name, or `-` for stdin.
    pub path: String,
    /// What evaluations call it, if not by its path.
    pub name: Option<String>,
    /// How often each of its rows is learned in an epoch.
    pub weight: f64,
    /// The most rows that are read of it.
    pub limit: Option<usize>,
}

/// The rows to evaluate on.
#[derive(Debug, Clone, PartialEq)]
pub enum Held {
    /// Files of their own; none where there is to be no evaluation.
    Files(Vec<Entry>),
    /// This part of the prompts to train on, and of their rows.
    Part(f64),
}

impl Entry {
    /// All rows of a path, once.
    pub fn of(path: impl Into<String>) -> Self {
        Self { path: path.into(), name: None, weight: 1.0, limit: None }
    }

    /// What evaluations call it.
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.path)
    }
}

impl Held {
    /// True where there is to be no evaluation.
    pub fn is_empty(&self) -> bool {
        matches!(self, Held::Files(files) if files.is_empty())
    }

    /// The files, where there are some.
    pub fn files(&self) -> &[Entry] {
        match self {
            Held::Files(files) => files,
            Held::Part(_) => &[],
        }
    }
}

/// What a table of an entry may say.
const KEYS: [&str; 4] = ["path", "name", "weight", "limit"];

/// An entry as it is written: what is wrong with a table is told by its keys.
#[derive(Clone)]
struct Written(Entry, Vec<String>);

/// One entry, or several.
#[derive(Clone)]
struct Entries(Vec<Written>);

/// Entries, or a part.
#[derive(Clone)]
enum WrittenHeld {
    Files(Entries),
    Part(f64),
}

impl FromToml for Written {
    const EXPECTED: &'static str = "a file or a table with `path`";

    fn shape() -> Shape {
        let whole = |least| Shape::Whole(Some(least));
        let [path, name, weight, limit] = KEYS;
        let fields = vec![(path, Shape::Text), (name, Shape::Text), (weight, Shape::Number), (limit, whole(1))];
        Shape::Either(vec![Shape::Text, Shape::Fields(fields)])
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        let table = match value {
            toml::Value::String(path) => return Some(Self(Entry::of(path), Vec::new())),
            toml::Value::Table(table) => table,
            _ => return None,
        };
        let mut faults = Vec::new();
        let mut wrong = |key: &str, what: &str| faults.push(format!("`{key}` must be {what}"));
        let text =
            |key: &str| table.get(key).map(|value| value.as_str().map(str::to_owned).filter(|text| !text.is_empty()));
        let mut entry = Entry::of("");
        match text("path") {
            Some(Some(path)) => entry.path = path,
            _ => wrong("path", "the name of a file, a folder, a pattern or a data set of the hub"),
        }
        match text("name") {
            Some(None) => wrong("name", "a word that evaluations call it by"),
            name => entry.name = name.flatten(),
        }
        match table.get("weight").map(f64::from_toml) {
            None => {}
            Some(Some(weight)) if weight > 0.0 && weight <= 1000.0 => entry.weight = weight,
            Some(_) => wrong("weight", "a number above 0: how often each row is learned in an epoch"),
        }
        match table.get("limit").map(usize::from_toml) {
            None => {}
            Some(Some(limit)) if limit > 0 => entry.limit = Some(limit),
            Some(_) => wrong("limit", "a whole number above 0: the most rows that are read"),
        }
        for key in table.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            faults.push(match nearest(key, KEYS) {
                Some(near) => format!("unknown key `{key}`: did you mean `{near}`?"),
                None => format!("unknown key `{key}`: a table has `path`, `name`, `weight` and `limit`"),
            });
        }
        Some(Self(entry, faults))
    }

    fn to_toml(&self) -> toml::Value {
        let Entry { path, name, weight, limit } = &self.0;
        if *self == Self(Entry::of(path), Vec::new()) {
            return path.to_toml();
        }
        let mut table = toml::Table::new();
        table.insert("path".into(), path.to_toml());
        if let Some(name) = name {
            table.insert("name".into(), name.to_toml());
        }
        if *weight != 1.0 {
            table.insert("weight".into(), weight.to_toml());
        }
        if let Some(limit) = limit {
            table.insert("limit".into(), limit.to_toml());
        }
        toml::Value::Table(table)
    }
}

impl PartialEq for Written {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl FromToml for Entries {
    const EXPECTED: &'static str = "a file or a list of files";

    fn shape() -> Shape {
        Shape::Either(vec![Written::shape(), Shape::List(Box::new(Written::shape()))])
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        match value {
            toml::Value::Array(_) => Vec::from_toml(value).map(Self),
            value => Written::from_toml(value).map(|entry| Self(vec![entry])),
        }
    }

    fn to_toml(&self) -> toml::Value {
        self.0.to_toml()
    }
}

impl FromToml for WrittenHeld {
    const EXPECTED: &'static str = "a file, a list of files, or the part of the training rows that is held out";

    fn shape() -> Shape {
        Shape::Either(vec![Shape::Number, Entries::shape()])
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        f64::from_toml(value).map(Self::Part).or_else(|| Entries::from_toml(value).map(Self::Files))
    }

    fn to_toml(&self) -> toml::Value {
        match self {
            Self::Files(entries) => entries.to_toml(),
            Self::Part(part) => part.to_toml(),
        }
    }
}

/// Reads `data.train`.
pub(super) fn read_train(section: &mut Section) -> Vec<Entry> {
    let written: Option<Entries> = section.optional("train");
    let is_nothing = |Entries(entries): &Entries| {
        entries.iter().all(|Written(entry, faults)| entry.path.is_empty() && faults.is_empty())
    };
    if !section.has("train") || written.as_ref().is_some_and(is_nothing) {
        section.reject("train", "`data.train` names no file", "write `train = [\"rows.jsonl\"]`");
    }
    checked(section, "train", written.map(|Entries(entries)| entries).unwrap_or_default())
}

/// Reads `data.eval`.
pub(super) fn read_held(section: &mut Section) -> Held {
    // What cannot be read stands for a file: that there is none would be a second fault.
    let unread = if section.has("eval") { vec![Written(Entry::of(""), Vec::new())] } else { Vec::new() };
    match section.value("eval", WrittenHeld::Files(Entries(unread))) {
        WrittenHeld::Part(part) => {
            let message = format!("`data.eval` = {part} must be a part of the training rows, above 0 and below 1");
            let hint = "0.05 holds one prompt out of twenty out; held-out rows of their own are named by file";
            section.check("eval", part > 0.0 && part < 1.0, message, hint);
            Held::Part(part)
        }
        WrittenHeld::Files(Entries(entries)) => {
            let entries = checked(section, "eval", entries);
            let weighted = entries.iter().any(|entry| entry.weight != 1.0);
            let hint = "each held-out row counts once: remove it";
            section.check("eval", !weighted, "`weight` has no effect in `data.eval`", hint);
            Held::Files(entries)
        }
    }
}

/// Files what is wrong with the tables, and two entries of one name, whose numbers would be one.
fn checked(section: &Section, key: &str, written: Vec<Written>) -> Vec<Entry> {
    let full = section.full(key);
    let many = written.len() > 1;
    for (index, Written(_, faults)) in written.iter().enumerate() {
        let place = if many { format!("{full}[{index}]") } else { full.clone() };
        for fault in faults {
            section.reject(
                key,
                format!("`{place}`: {fault}"),
                "write `{ path = \"rows.jsonl\", weight = 2, limit = 10000 }`",
            );
        }
    }
    let entries: Vec<Entry> = written.into_iter().map(|Written(entry, _)| entry).collect();
    let mut seen = BTreeSet::new();
    let named = entries.iter().filter_map(|entry| entry.name.as_ref());
    if let Some(twice) = named.into_iter().find(|name| !seen.insert(*name)) {
        section.reject(key, format!("`{full}` has two entries of the name `{twice}`"), "give each a name of its own");
    }
    entries
}
