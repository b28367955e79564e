//! A text of TOML that is read strictly: its sections, the places of its values, and what nothing has asked for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::overrides::{self, Absent};
use crate::shape::{Key, Known};
use crate::tree::{Entry, Value, parse_table};
use crate::{Fault, Faults, Place, Section, Source, nearest};

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
pub(crate) struct Shared {
    pub(crate) faults: Vec<Fault>,
    /// What is no table where a table must be: all else may be wrong because of it alone.
    pub(crate) shapeless: Vec<Fault>,
    pub(crate) warnings: Vec<Fault>,
    pub(crate) unknown: Vec<(String, Entry, Vec<String>)>,
    /// Every key that was asked for, once.
    pub(crate) asked: Vec<Key>,
    pub(crate) foreign: Vec<(String, String, String)>,
    /// Says what a key of another program is called here.
    pub(crate) translate: Option<Translate>,
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
        Section::new(String::new(), self.root.clone(), Place::File(self.source.name.clone()), self.shared.clone())
    }

    /// What will have been asked for when the reading is over.
    pub fn known(&self) -> Known {
        Known::of(&self.shared)
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
    let elsewhere = || shared.asked.iter().filter(|asked| asked.table != path && asked.name != "*");
    let exact = elsewhere().find(|asked| asked.name == key).map(Key::full);
    let near = || nearest(key, known.iter().map(String::as_str)).map(|near| dotted(path, near));
    let near_elsewhere = || {
        let near = nearest(key, elsewhere().map(|asked| asked.name.as_str()))?;
        elsewhere().find(|asked| asked.name == near).map(Key::full)
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
    let asked = shared.asked.iter().any(|asked| asked.table == *table && asked.name == *key);
    if key.is_empty() || asked || shared.foreign.iter().any(|(of, name, _)| of == table && name == key) {
        return None;
    }
    let here = shared.asked.iter().filter(|asked| asked.table == *table);
    let here: Vec<String> = here.map(|asked| asked.name.clone()).collect();
    Some(unknown_key(shared, table, key, place, &here))
}

/// The name of a key from the top of the text.
pub(crate) fn dotted(table: &str, key: &str) -> String {
    if table.is_empty() { key.into() } else { format!("{table}.{key}") }
}
