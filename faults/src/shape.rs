//! What a key of a text of TOML may say: noted while it is read, for a schema that cannot differ from the reading.

use std::cell::RefCell;
use std::rc::Rc;

use crate::document::{Shared, dotted};

/// The values that a key may have.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Any value.
    Any,
    /// `true` or `false`.
    Truth,
    /// A string.
    Text,
    /// One of these strings.
    Words(Vec<String>),
    /// A string that the regular expression matches.
    Matching(&'static str),
    /// A whole number, this one or more where there is a least one.
    Whole(Option<i64>),
    /// A number.
    Number,
    /// A list of such values.
    List(Box<Shape>),
    /// A table with names of the user's own, each with such a value.
    Map(Box<Shape>),
    /// A table with these keys, of which the first must be there.
    Fields(Vec<(&'static str, Shape)>),
    /// One of these.
    Either(Vec<Shape>),
    /// A table whose keys are noted by themselves.
    Table,
}

/// A key that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// The dotted name of its table; empty at the top.
    pub table: String,
    /// Its name, or `*` for any name.
    pub name: String,
    /// What it may say; `None` where it was passed over.
    pub shape: Option<Shape>,
    /// What it is when it is left out.
    pub default: Option<toml::Value>,
    /// It must be written.
    pub required: bool,
}

impl Key {
    /// Its dotted name from the top of the text.
    pub fn full(&self) -> String {
        dotted(&self.table, &self.name)
    }
}

/// The keys that a document, or a section without one, has been asked for.
pub struct Known(Rc<RefCell<Shared>>);

impl Known {
    pub(crate) fn of(shared: &Rc<RefCell<Shared>>) -> Self {
        Self(shared.clone())
    }

    /// All so far, in the order in which they were first asked for.
    pub fn keys(&self) -> Vec<Key> {
        self.0.borrow().asked.clone()
    }
}

impl Shared {
    /// Keeps what is said of a key, which is new or known.
    pub(crate) fn note(&mut self, table: &str, name: &str, say: impl FnOnce(&mut Key)) {
        let known = self.asked.iter().position(|key| key.table == table && key.name == name);
        let place = known.unwrap_or_else(|| {
            self.asked.push(Key {
                table: table.into(),
                name: name.into(),
                shape: None,
                default: None,
                required: false,
            });
            self.asked.len() - 1
        });
        say(&mut self.asked[place]);
    }
}
