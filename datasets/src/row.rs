//! One row of a file, asked for its fields by the names of the row shape.

use faults::{Fault, json, nearest};
use serde_json::{Map, Value};

use crate::json::read;
use crate::options::NumberColumn;
use crate::way::Way;

/// Whose names the columns and fields of a row have.
#[derive(Clone, Copy, Default)]
pub(crate) struct Names<'a> {
    /// `data.rename`: a column of the file, and the key that it stands for.
    pub rename: &'a [(String, String)],
    /// `data.ignore`: columns and fields that are as if they were not there.
    pub ignore: &'a [String],
    /// Where these are written.
    pub way: Way,
}

/// A row under the names that `data.rename` gives its columns.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    object: &'a Map<String, Value>,
    names: Names<'a>,
}

impl<'a> Names<'a> {
    /// The name in the file of what the shapes call `key`.
    pub fn column_of<'k>(&self, key: &'k str) -> &'k str
    where
        'a: 'k,
    {
        self.rename.iter().find(|(_, to)| to == key).map_or(key, |(column, _)| column)
    }

    /// What the shapes call the column; `None` where another column has taken its name.
    pub fn key_of<'c>(&self, column: &'c str) -> Option<&'c str>
    where
        'a: 'c,
    {
        match self.rename.iter().find(|(name, _)| name == column) {
            Some((_, key)) => Some(key),
            None if self.rename.iter().any(|(_, key)| key == column) => None,
            None => Some(column),
        }
    }

    /// True for a column or field that is as if it were not there.
    pub fn ignores(&self, column: &str) -> bool {
        self.ignore.iter().any(|name| name == column)
    }
}

impl<'a> Row<'a> {
    pub fn new(object: &'a Map<String, Value>, names: Names<'a>) -> Self {
        Self { object, names }
    }

    /// The names of the file.
    pub fn names(&self) -> Names<'a> {
        self.names
    }

    /// The value of `key`; `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.written(key).filter(|value| !value.is_null())
    }

    /// The value of `key`, `null` too.
    fn written(&self, key: &str) -> Option<&'a Value> {
        let column = match self.names.rename.iter().find(|(_, to)| to == key) {
            Some((column, _)) => column.as_str(),
            None if self.names.rename.iter().any(|(column, _)| column == key) => return None,
            None => key,
        };
        self.object.get(column).filter(|_| !self.names.ignores(column))
    }

    /// True when the row has `key`.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// True when the row has `key`, be it `null`.
    pub fn names_key(&self, key: &str) -> bool {
        self.written(key).is_some()
    }

    /// True when the row has `key` and `data.ignore` names its column.
    pub fn leaves_out(&self, key: &str) -> bool {
        let column = self.names.column_of(key);
        self.names.ignores(column) && self.object.contains_key(column)
    }

    /// The columns as the file names them.
    pub fn columns(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        let names = self.names;
        self.object.keys().map(String::as_str).filter(move |column| !names.ignores(column))
    }

    /// The columns with what they hold, but for those that hold nothing.
    pub fn filled(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        let object = self.object;
        self.columns().filter_map(|column| Some((column, object.get(column)?))).filter(|(_, value)| !is_nothing(value))
    }

    /// The string under `key`.
    pub fn text(&self, key: &str) -> Result<&'a str, Fault> {
        self.optional_text(key)?.ok_or_else(|| self.missing(key))
    }

    /// The string under `key`, which must hold more than nothing.
    pub fn filled_text(&self, key: &str) -> Result<&'a str, Fault> {
        let text = self.text(key)?;
        if text.is_empty() {
            let column = self.names.column_of(key);
            let fault = Fault::new(format!("`{column}` is empty"));
            return Err(fault.hint("a row must have something to learn: take it out"));
        }
        Ok(text)
    }

    /// The string under `key` if the row has it.
    pub fn optional_text(&self, key: &str) -> Result<Option<&'a str>, Fault> {
        self.get(key).map(|value| string(self.names.column_of(key), value)).transpose()
    }

    /// The flag under `key` if the row has it.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, Fault> {
        self.get(key).map(|value| value.as_bool().ok_or_else(|| wrong_type(key, "true or false", value))).transpose()
    }

    /// The number of a column, under the name that it has in the file; `None` of a row that may be without it.
    pub fn number(&self, column: &NumberColumn) -> Result<Option<f64>, Fault> {
        let NumberColumn { name, least, required } = column;
        let Some(value) = self.object.get(name).filter(|value| !value.is_null() && !self.names.ignores(name)) else {
            return if *required { Err(self.missing_number(name)) } else { Ok(None) };
        };
        let number = value.as_f64().filter(|number| number.is_finite());
        let number = number.ok_or_else(|| wrong_type(name, "a number", value))?;
        match number < *least {
            true => Err(Fault::new(format!("`{name}` must be {least} or more, found {number}"))
                .hint("change the row, or take it out")),
            false => Ok(Some(number)),
        }
    }

    fn missing_number(&self, name: &str) -> Fault {
        let is_there = self.object.contains_key(name);
        if is_there && self.names.ignores(name) {
            return Fault::new(format!(
                "`data.ignore` names `{name}`, the column of numbers that the objective goes by"
            ))
            .hint("take it out of `data.ignore`, or name another column in `[objective]`");
        }
        if is_there {
            return Fault::new(format!("`{name}` is null")).hint("write a number, or take the row out");
        }
        let fault = Fault::new(format!("`{name}` is missing, the column of numbers that the objective goes by"));
        match nearest(name, self.columns()) {
            Some(near) => fault.hint(format!("did you mean `{near}`? `[objective]` names the column")),
            None => fault.hint(format!("the row has {}", listed(self.columns()))),
        }
    }

    /// The list under `key`.
    pub fn list(&self, key: &str) -> Result<&'a [Value], Fault> {
        match self.get(key) {
            Some(Value::Array(values)) => Ok(values),
            Some(value) => Err(wrong_type(self.names.column_of(key), "a list", value)),
            None => Err(self.missing(key)),
        }
    }

    /// The fault of a row without `key`, with the column that was probably meant.
    pub fn missing(&self, key: &str) -> Fault {
        let column = self.names.column_of(key);
        if self.names_key(key) {
            return Fault::new(format!("`{column}` is null")).hint("write it, or take the row out");
        }
        let fault = Fault::new(format!("`{column}` is missing"));
        let others = self.columns().filter(|name| *name != column);
        match nearest(column, others.clone()) {
            Some(near) => fault.hint(format!("did you mean `{column}` where the row says `{near}`?")),
            None => fault.hint(format!("the row has {}", listed(others))),
        }
    }
}

/// True for values that say nothing: `null`, and empty texts, lists and objects.
pub(crate) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// `value`, or where it is a text the JSON in it, as many tables hold their lists.
pub(crate) fn decoded(key: &str, value: &Value) -> Result<Value, Fault> {
    let Value::String(text) = value else { return Ok(value.clone()) };
    let is_of_python = ["{'", "[{'", "['"].iter().any(|start| text.trim_start().starts_with(start));
    let hint = if is_of_python { "it is as Python prints it: write it by `json.dumps`" } else { "write it as JSON" };
    let broken = |what: String| Fault::new(format!("`{key}` is a text, and {what}")).hint(hint);
    let json::Read { value, oddities } = read(text).map_err(|error| broken(format!("no JSON: {error}")))?;
    match oddities.first() {
        Some(oddity) => Err(broken(format!("`{key}{}` holds {oddity}", oddity.pointer))),
        None => Ok(value),
    }
}

/// `value`, which must be a string.
pub(crate) fn string<'a>(key: &str, value: &'a Value) -> Result<&'a str, Fault> {
    let fault = || wrong_type(key, "a string", value);
    value.as_str().ok_or_else(|| match value {
        Value::Object(fields) if fields.contains_key("0") => fault().hint(
            "a table that was written column by column: `df.to_json(FILE, orient='records', lines=True)` writes rows",
        ),
        Value::Number(_) | Value::Bool(_) => fault().hint("write it as text, in quotes"),
        other if json::whole(other).is_some() => fault().hint("write it as text, in quotes"),
        _ => fault(),
    })
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
        Value::Object(_) => match json::whole(value) {
            Some(digits) => format!("the number `{digits}`, of more than 64 bits"),
            None => "an object".to_string(),
        },
    }
}

/// Names in backticks with commas between them.
pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "no fields".into() } else { names.join(", ") }
}
