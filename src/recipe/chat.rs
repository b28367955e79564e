//! Keys of `[data]` that say how conversations are written: the chat template, its switches, what ends a turn, the date.

use std::path::Path;

use datasets::{ChatSettings, Moment};
use faults::{Fault, FromToml, Section, Shape};
use serde_json::{Map, Value};

/// How conversations are written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chat {
    /// `data.chat_template`: a file in place of the model's own template.
    pub template: Option<String>,
    /// `data.template_arguments`: switches of the template.
    pub arguments: Map<String, Value>,
    /// `data.end_of_turn`: a token that ends a turn and is no end token of the model's files.
    pub end_of_turn: Option<String>,
    /// `data.date`: what the template is given as now; the moment at which the run starts where it is not written.
    pub date: Option<Moment>,
}

impl Chat {
    /// The same with the template read from its file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn settings(&self) -> Result<ChatSettings, Fault> {
        let read = |file: &String| {
            faults::read_given(Path::new(file))
                .map(|text| (file.clone(), text))
                .map_err(|error| Fault::of_file("cannot read the chat template", Path::new(file), &error))
        };
        Ok(ChatSettings {
            template: self.template.as_ref().map(read).transpose()?,
            arguments: self.arguments.clone(),
            end_of_turn: self.end_of_turn.clone(),
            moment: self.date,
        })
    }
}

/// Reads them.
pub(super) fn read(section: &mut Section) -> Chat {
    let template = section.optional("chat_template");
    let Switches(arguments) = section.optional("template_arguments").unwrap_or_default();
    let end_of_turn = section.optional("end_of_turn");
    let date: Option<Day> = section.optional("date");
    let date = date.and_then(|Day(text)| match Moment::parse(&text) {
        Ok(moment) => Some(moment),
        Err(fault) => {
            section.reject("date", format!("`data.date` = {}", fault.message), fault.hint.unwrap_or_default());
            None
        }
    });
    Chat { template, arguments, end_of_turn, date }
}

/// A date, in quotes or without.
#[derive(Debug, Clone)]
struct Day(String);

impl FromToml for Day {
    const EXPECTED: &'static str = "a date such as \"2026-11-28\"";

    fn shape() -> Shape {
        Shape::Text
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        match value {
            toml::Value::String(text) => Some(Self(text.clone())),
            toml::Value::Datetime(moment) => Some(Self(moment.to_string())),
            _ => None,
        }
    }

    fn to_toml(&self) -> toml::Value {
        toml::Value::String(self.0.clone())
    }
}

/// A table of any values, as a template is given them.
#[derive(Debug, Clone, Default)]
struct Switches(Map<String, Value>);

impl FromToml for Switches {
    const EXPECTED: &'static str = "a table such as `{ enable_thinking = false }`";

    fn shape() -> Shape {
        Shape::Map(Box::new(Shape::Any))
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        let table = value.as_table()?;
        Some(Self(table.iter().map(|(key, value)| (key.clone(), json(value))).collect()))
    }

    fn to_toml(&self) -> toml::Value {
        // What came from TOML goes back: there is no null in it.
        toml::Value::try_from(&self.0).unwrap_or_else(|_| toml::Value::Table(toml::Table::new()))
    }
}

fn json(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::from(text.as_str()),
        toml::Value::Integer(number) => Value::from(*number),
        toml::Value::Float(number) => Value::from(*number),
        toml::Value::Boolean(flag) => Value::from(*flag),
        toml::Value::Datetime(moment) => Value::from(moment.to_string()),
        toml::Value::Array(values) => values.iter().map(json).collect(),
        toml::Value::Table(table) => table.iter().map(|(key, value)| (key.clone(), json(value))).collect(),
    }
}
