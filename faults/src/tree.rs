//! TOML as a tree in which every key and value keeps its place.

use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::{Fault, Place, Source, shortened};

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub value: Value,
    pub place: Place,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    String(String),
    Array(Vec<Node>),
    Table(Vec<Entry>),
    Datetime(toml::value::Datetime),
    Unreadable(String),
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub key: String,
    pub key_place: Place,
    pub node: Node,
}

impl Value {
    pub fn describe(&self) -> String {
        match self {
            Value::Boolean(value) => format!("the boolean `{value}`"),
            Value::Integer(value) => format!("the integer `{value}`"),
            Value::Float(value) => format!("the number `{value}`"),
            Value::String(value) => format!("the string {:?}", shortened(value)),
            Value::Array(_) => "an array".into(),
            Value::Table(_) => "a table".into(),
            Value::Datetime(value) => format!("the date `{value}`"),
            Value::Unreadable(text) => format!("`{text}`"),
        }
    }
}

/// The value without its place, or `None` when a part of it cannot be read.
pub(crate) fn plain(node: &Node) -> Option<toml::Value> {
    Some(match &node.value {
        Value::Boolean(value) => toml::Value::Boolean(*value),
        Value::Integer(value) => toml::Value::Integer(*value),
        Value::Float(value) => toml::Value::Float(*value),
        Value::String(value) => toml::Value::String(value.clone()),
        Value::Array(values) => toml::Value::Array(values.iter().map(plain).collect::<Option<_>>()?),
        Value::Table(entries) => toml::Value::Table(
            entries.iter().map(|entry| Some((entry.key.clone(), plain(&entry.node)?))).collect::<Option<_>>()?,
        ),
        Value::Datetime(value) => toml::Value::Datetime(*value),
        Value::Unreadable(_) => return None,
    })
}

/// Faults of syntax that are told: one for each sign of a file that is no TOML would show that many times the same line.
const MOST_ERRORS: usize = 20;

pub(crate) fn parse_table(source: &Arc<Source>, faults: &mut Vec<Fault>) -> Vec<Entry> {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    for error in errors.into_iter().take(MOST_ERRORS) {
        let span = error.span().unwrap_or(source.text.len()..source.text.len());
        faults.push(
            Fault::new(format!("not valid TOML: {}", error.message()))
                .at(Place::Span(source.clone(), span))
                .hint("`trainer recipes` lists recipes to compare it with"),
        );
    }
    entries(source, table.get_ref())
}

pub(crate) fn entries(source: &Arc<Source>, table: &DeTable<'_>) -> Vec<Entry> {
    table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_place: Place::Span(source.clone(), key.span()),
            node: node(source, value.get_ref(), value.span()),
        })
        .collect()
}

pub(crate) fn node(source: &Arc<Source>, value: &DeValue<'_>, span: Range<usize>) -> Node {
    let read = match value {
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::String(value) => Value::String(value.to_string()),
        DeValue::Integer(value) => match i64::from_str_radix(value.as_str(), value.radix()) {
            Ok(integer) => Value::Integer(integer),
            Err(_) => Value::Unreadable(value.as_str().into()),
        },
        DeValue::Float(value) => match value.as_str().parse() {
            Ok(float) => Value::Float(float),
            Err(_) => Value::Unreadable(value.as_str().into()),
        },
        DeValue::Datetime(value) => Value::Datetime(*value),
        DeValue::Array(values) => {
            Value::Array(values.iter().map(|item| node(source, item.get_ref(), item.span())).collect())
        }
        DeValue::Table(table) => Value::Table(entries(source, table)),
    };
    Node { value: read, place: Place::Span(source.clone(), span) }
}
