//! The row shapes. A new one is a file beside this one and a line in [`ALL`].

mod alpaca;
pub(crate) mod asked;
pub(crate) mod intent;
mod messages;
mod prompt_completion;
mod sharegpt;
pub(crate) mod targets;
mod text;
mod turn;
mod turns;

use faults::Fault;
use serde_json::Value;

use crate::draft::Draft;
use crate::options::{Options, TrainOn};
use crate::row::{Row, listed};
use crate::tokenizer::Tokenizer;

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
pub(crate) type Read = fn(&Row<'_>, &Context<'_>) -> Result<Vec<Vec<Draft>>, Fault>;

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
    pub fn of(format: Format, first: &Row<'_>) -> Result<&'static Shape, Fault> {
        if format != Format::Auto {
            let mut shapes = ALL.into_iter().filter(|shape| shape.format == format);
            let fitting = shapes.clone().find(|shape| shape.fits(first));
            return Ok(fitting.or_else(|| shapes.next()).expect("every format has its shape"));
        }
        ALL.into_iter().find(|shape| shape.fits(first)).ok_or_else(|| unknown(first))
    }

    /// Reads one row.
    pub fn drafts(&self, row: &Row<'_>, context: &Context<'_>) -> Result<Vec<Vec<Draft>>, Fault> {
        if let Some(key) = self.required.iter().find(|key| !row.has(key)) {
            return Err(match ALL.into_iter().find(|shape| shape.fits(row)) {
                Some(other) => Fault::new(format!("this row is `{}` in a file of `{}`", other.word, self.word))
                    .hint("put rows of different shapes into files of their own"),
                None => row.missing(key),
            });
        }
        (self.read)(row, context)
    }
}

/// Who speaks in the turns of a row, as chat templates name them.
pub(crate) fn speakers<'a>(row: &Row<'a>) -> Vec<&'a str> {
    let turns = |list: &str, role_key: &'static str| {
        let turns = row.get(list).and_then(Value::as_array).into_iter().flatten();
        turns.filter_map(move |turn| turn.get(role_key)?.as_str())
    };
    turns("messages", "role").chain(turns("conversations", "from").map(sharegpt::role)).collect()
}

/// Every key that some shape knows.
pub(crate) fn known_keys() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().flat_map(|shape| shape.required.iter().chain(shape.optional).copied())
}

/// Column names of other people's files, with the key each stands for.
const USUAL_NAMES: [(&str, &str); 14] = [
    ("question", "prompt"),
    ("query", "prompt"),
    ("problem", "prompt"),
    ("input", "prompt"),
    ("answer", "completion"),
    ("response", "completion"),
    ("solution", "completion"),
    ("output", "completion"),
    ("response", "output"),
    ("answer", "output"),
    ("conversation", "messages"),
    ("dialogue", "messages"),
    ("content", "text"),
    ("document", "text"),
];

fn unknown(row: &Row<'_>) -> Fault {
    let fault = Fault::new(format!("no row shape has {}", listed(row.columns())));
    let columns: Vec<&str> = row.columns().collect();
    for shape in ALL {
        let absent: Vec<&str> = shape.required.iter().copied().filter(|key| !row.has(key)).collect();
        let usual = |key: &str| {
            let mut names = USUAL_NAMES.iter().filter(|(_, to)| *to == key).map(|(name, _)| *name);
            names.find(|name| columns.contains(name)).map(|name| format!("{name} = \"{key}\""))
        };
        if let Some(renames) = absent.iter().copied().map(usual).collect::<Option<Vec<_>>>() {
            return fault.hint(format!("name the columns with `data.rename = {{ {} }}`", renames.join(", ")));
        }
    }
    for shape in ALL {
        let absent: Vec<&str> = shape.required.iter().copied().filter(|key| !row.has(key)).collect();
        let near = |key: &str| faults::nearest(key, columns.iter().copied()).map(|column| (key.to_string(), column));
        if let Some(pairs) = absent.iter().copied().map(near).collect::<Option<Vec<_>>>() {
            let meant: Vec<String> = pairs.iter().map(|(key, column)| format!("`{key}` for `{column}`")).collect();
            return fault.hint(format!("did you mean {}?", meant.join(" and ")));
        }
    }
    let shapes: Vec<String> =
        ALL.iter().map(|shape| format!("{} ({})", shape.word, listed(shape.required.iter().copied()))).collect();
    fault.hint(format!("one of: {}; or name the columns with `data.rename`", shapes.join(", ")))
}
