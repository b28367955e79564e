//! One row of a file, asked for its fields by the names of the row shape.

use faults::{Fault, nearest};
use serde_json::{Map, Value};

/// A row under the names that `data.rename` gives its columns.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    object: &'a Map<String, Value>,
    rename: &'a [(String, String)],
}

impl<'a> Row<'a> {
    pub fn new(object: &'a Map<String, Value>, rename: &'a [(String, String)]) -> Self {
        Self { object, rename }
    }

    /// The value of `key`; `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        let value = match self.rename.iter().find(|(_, to)| to == key) {
            Some((column, _)) => self.object.get(column),
            None if self.rename.iter().any(|(column, _)| column == key) => None,
            None => self.object.get(key),
        };
        value.filter(|value| !value.is_null())
    }

    /// True when the row has `key`.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The columns as the file names them.
    pub fn columns(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        self.object.keys().map(String::as_str)
    }

    /// The string under `key`.
    pub fn text(&self, key: &str) -> Result<&'a str, Fault> {
        self.optional_text(key)?.ok_or_else(|| self.missing(key))
    }

    /// The string under `key`, which must hold more than nothing.
    pub fn filled_text(&self, key: &str) -> Result<&'a str, Fault> {
        let text = self.text(key)?;
        if text.is_empty() {
            return Err(Fault::new(format!("`{key}` is empty")).hint("a row must have something to learn: take it out"));
        }
        Ok(text)
    }

    /// The string under `key` if the row has it.
    pub fn optional_text(&self, key: &str) -> Result<Option<&'a str>, Fault> {
        self.get(key).map(|value| string(key, value)).transpose()
    }

    /// The flag under `key` if the row has it.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, Fault> {
        self.get(key).map(|value| value.as_bool().ok_or_else(|| wrong_type(key, "true or false", value))).transpose()
    }

    /// The list under `key`.
    pub fn list(&self, key: &str) -> Result<&'a [Value], Fault> {
        match self.get(key) {
            Some(Value::Array(values)) => Ok(values),
            Some(value) => Err(wrong_type(key, "a list", value)),
            None => Err(self.missing(key)),
        }
    }

    /// The fault of a row without `key`, with the column that was probably meant.
    pub fn missing(&self, key: &str) -> Fault {
        let column = self.rename.iter().find(|(_, to)| to == key).map_or(key, |(column, _)| column);
        let fault = Fault::new(format!("`{column}` is missing"));
        let others = self.columns().filter(|name| *name != column);
        match nearest(column, others.clone()) {
            Some(near) => fault.hint(format!("did you mean `{column}` where the row says `{near}`?")),
            None => fault.hint(format!("the row has {}", listed(others))),
        }
    }
}

/// `value`, which must be a string.
pub(crate) fn string<'a>(key: &str, value: &'a Value) -> Result<&'a str, Fault> {
    value.as_str().ok_or_else(|| wrong_type(key, "a string", value))
}

/// The fault of a field of another type.
pub(crate) fn wrong_type(key: &str, expected: &str, found: &Value) -> Fault {
    Fault::new(format!("`{key}` must be {expected}, found {}", described(found))).hint("change the row, or take it out")
}

/// What a value is, in words.
pub(crate) fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(value) => format!("the number `{value}`"),
        Value::String(_) => "a string".to_string(),
        Value::Array(_) => "a list".to_string(),
        Value::Object(_) => "an object".to_string(),
    }
}

/// Names in backticks with commas between them.
pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "no fields".into() } else { names.join(", ") }
}
