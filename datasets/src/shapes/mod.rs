//! The row shapes. A new one is a file beside this one and a line in [`ALL`].

mod alpaca;
pub(crate) mod asked;
mod beside;
pub(crate) mod columns;
pub(crate) mod fitting;
mod guess;
pub(crate) mod intent;
pub(crate) mod lost;
mod marks;
pub(crate) mod message;
pub(crate) mod messages;
mod prompt_completion;
pub(crate) mod results;
mod said;
mod sharegpt;
pub(crate) mod targets;
mod text;
mod turn;
mod turns;
mod values;

use faults::Fault;
use serde_json::Value;

use crate::draft::Draft;
use crate::options::{Options, TrainOn};
use crate::row::Row;
use crate::tokenizer::Tokenizer;
use crate::unread;

/// How the rows of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Told from the keys of each file's first row.
    #[default]
    Auto,
    /// `{"messages": [{"role", "content"}]}`
    Messages,
    /// `{"prompt", "completion"}`
    PromptCompletion,
    /// `{"instruction", "input", "output"}`
    Alpaca,
    /// `{"conversations": [{"from", "value"}]}`
    Sharegpt,
    /// `{"prompt" or "messages", "targets", "weights"}`
    Targets,
    /// `{"prompt" or "messages", "intent", "response"}` or `{.., "steps": [{"intent", "text"}]}`
    Intent,
    /// `{"text"}`
    Text,
}

/// Every shape. A row that fits several is read as the first.
const ALL: [&Shape; 8] = [
    &targets::SHAPE,
    &intent::SHAPE,
    &intent::STEPS,
    &messages::SHAPE,
    &sharegpt::SHAPE,
    &alpaca::SHAPE,
    &prompt_completion::SHAPE,
    &text::SHAPE,
];

/// One row shape.
pub(crate) struct Shape {
    pub format: Format,
    /// The word of the recipe.
    pub word: &'static str,
    /// A row with these keys has this shape.
    pub required: &'static [&'static str],
    /// Keys that a row of this shape may have.
    pub optional: &'static [&'static str],
    /// The model must learn from these rows where to stop.
    pub stops: bool,
    /// Reads one row: its prompts, each as the drafts that answer it.
    pub read: Read,
}

/// A row's prompts, each as the drafts that answer it.
pub(crate) type Drafts = Vec<Vec<Draft>>;

/// Reads one row.
pub(crate) type Read = fn(&Row<'_>, &Context<'_>) -> Result<Drafts, Fault>;

/// What a shape needs beside the row.
pub(crate) struct Context<'a> {
    pub tokenizer: &'a Tokenizer,
    pub options: &'a Options,
    pub train_on: TrainOn,
}

impl Format {
    /// The words of `data.format` with their meanings.
    pub fn words() -> Vec<(&'static str, Format)> {
        let mut words = vec![("auto", Format::Auto)];
        for shape in ALL {
            if words.iter().all(|(_, format)| *format != shape.format) {
                words.push((shape.word, shape.format));
            }
        }
        words
    }
}

impl Shape {
    /// True when `row` has every key of this shape.
    fn fits(&self, row: &Row<'_>) -> bool {
        self.required.iter().all(|key| row.has(key))
    }

    /// The shape of a file with this first row.
    pub fn of(options: &Options, first: &Row<'_>) -> Result<&'static Shape, Fault> {
        if options.chat.is_some() {
            return Ok(&columns::SHAPE);
        }
        if options.format != Format::Auto {
            let mut shapes = ALL.into_iter().filter(|shape| shape.format == options.format);
            let fitting = shapes.clone().find(|shape| shape.fits(first));
            return match (fitting, ALL.into_iter().find(|shape| shape.fits(first))) {
                (None, Some(other)) => Err(guess::other_shape(options, other)),
                _ => Ok(fitting.or_else(|| shapes.next()).expect("every format has its shape")),
            };
        }
        guess::shape(first)
    }

    /// Reads one row.
    pub fn drafts(&self, row: &Row<'_>, context: &Context<'_>) -> Result<Drafts, Fault> {
        if let Some(key) = self.required.iter().find(|key| !row.has(key)) {
            return Err(match ALL.into_iter().find(|shape| shape.fits(row)) {
                Some(other) => Fault::new(format!("this row is `{}` in a file of `{}`", other.word, self.word))
                    .hint("put rows of different shapes into files of their own"),
                None => row.missing(key),
            });
        }
        unread::refuse_columns(row, self, context.options, context.tokenizer)?;
        unread::refuse_fields(row, context.tokenizer)?;
        (self.read)(row, context)
    }

    /// The keys that rows of this shape have or may have.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.required.iter().chain(self.optional).copied()
    }

    /// True for a key that is read of rows of this shape.
    pub fn reads(&self, key: &str, options: &Options) -> bool {
        let of_chat = options.chat.as_ref().is_some_and(|chat| chat.names().any(|column| column == key));
        let of_numbers = options.number.as_ref().is_some_and(|column| column.name == key);
        of_chat || of_numbers || self.keys().any(|known| known == key)
    }
}

/// The keys under which a row has a conversation's turns.
pub(crate) const TURNS: [&str; 4] = ["messages", "conversations", "prompt", "completion"];

/// The turns of a row that are objects, with the key that each stands under.
pub(crate) fn turns_in<'a>(row: &Row<'a>) -> impl Iterator<Item = (&'static str, &'a serde_json::Map<String, Value>)> {
    let row = *row;
    TURNS.into_iter().flat_map(move |key| {
        let turns = row.get(key).and_then(Value::as_array).into_iter().flatten();
        turns.filter_map(move |turn| Some((key, turn.as_object()?)))
    })
}

/// Who speaks in the turns of a row, as chat templates name them.
pub(crate) fn speakers<'a>(row: &Row<'a>) -> Vec<&'a str> {
    let names = row.names();
    let speaker = |(_, turn): (&str, &'a serde_json::Map<String, Value>)| {
        let key = message::key_in(turn, "role", &message::ROLE, names);
        let spoken = turn.get(key)?.as_str()?;
        let is_agent = key == "from" && ["observation", "function_call", "tool_call"].contains(&spoken);
        Some(if is_agent { "tool" } else { message::role(spoken) })
    };
    turns_in(row).filter_map(speaker).collect()
}

/// Every key that `data.rename` may name: those of the shapes, and of a message who speaks and what is said.
pub(crate) fn known_keys() -> impl Iterator<Item = &'static str> + Clone {
    ALL.into_iter().flat_map(Shape::keys).chain(MESSAGE_KEYS)
}

/// Keys of a message that `data.rename` may name.
pub(crate) const MESSAGE_KEYS: [&str; 2] = ["role", "content"];
