//! `{"prompt" or "messages", "intent", "response"}` and `{.., "steps": [{"intent", "text"}]}`: answers that first say what
//! they are about to say (Intent Factored Generation, arXiv 2506.09659).
//!
//! The [`Template`] says how intent and response are written as one text; the sampler with two temperatures writes
//! the same text in the same stages, so that both ask here.

use faults::{Fault, nearest};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::asked::Asked;
use super::{Context, Format, Shape};
use crate::draft::{Part, Piece};
use crate::row::{Row, string, wrong_type};
use crate::unread;

/// What no intent may hold in any template.
pub const SEPARATOR: &str = "###";

/// How intent and response become one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// `{keywords} ### {response}`
    Chat,
    /// `### Keywords:\n{keywords}\n### Comment:\n{comment}\n###`
    Comments,
    /// `### {intent} ### {step}\n### {intent} ### {step}`
    Mathematics,
    /// `### {comment} ###\n{fragment}\n### End of code. ###`
    Code,
}

impl Template {
    /// The words of `data.template`.
    pub const WORDS: [(&'static str, Template); 4] = [
        ("chat", Template::Chat),
        ("comments", Template::Comments),
        ("mathematics", Template::Mathematics),
        ("code", Template::Code),
    ];

    /// What stands before the first intent; given, not learned.
    pub fn head(self) -> &'static str {
        match self {
            Self::Chat => "",
            Self::Comments => "### Keywords:\n",
            Self::Mathematics | Self::Code => "###",
        }
    }

    /// What stands between the mark before an intent and the intent.
    pub fn lead(self) -> &'static str {
        if self.is_stepwise() { " " } else { "" }
    }

    /// The separator: it ends an intent and belongs to it.
    pub fn intent_end(self) -> &'static str {
        match self {
            Self::Chat | Self::Mathematics | Self::Code => " ###",
            Self::Comments => "\n### Comment:\n",
        }
    }

    /// What stands between the separator and the response.
    pub fn response_lead(self) -> &'static str {
        match self {
            Self::Chat | Self::Mathematics => " ",
            Self::Comments => "",
            Self::Code => "\n",
        }
    }

    /// What ends a response and belongs to it, beside the end token: in steps it opens the next intent.
    pub fn response_end(self) -> &'static str {
        match self {
            Self::Chat => "",
            Self::Comments | Self::Mathematics | Self::Code => "\n###",
        }
    }

    /// True when intents and responses take turns.
    pub fn is_stepwise(self) -> bool {
        matches!(self, Self::Mathematics | Self::Code)
    }

    /// What a whole answer ends with, beside the end token: in a response of mathematics, in an intent of code.
    pub fn end_mark(self) -> Option<&'static str> {
        match self {
            Self::Chat | Self::Comments => None,
            Self::Mathematics => Some("\\boxed{"),
            Self::Code => Some("End of code"),
        }
    }

    /// The template that a row was written with, from its text up to the first intent and from there on.
    pub fn of_text(prompt: &str, answer: &str) -> Option<Self> {
        // That of chat, which has no head, last.
        [Self::Comments, Self::Code, Self::Mathematics, Self::Chat].into_iter().find(|template| {
            let between = format!("{}{}", template.intent_end(), template.response_lead());
            prompt.ends_with(template.head()) && answer.contains(&between)
        })
    }

    /// Its word in `data.template`.
    pub fn word(self) -> &'static str {
        Self::WORDS.into_iter().find(|(_, known)| *known == self).map_or("", |(word, _)| word)
    }

    /// The template named `word`.
    fn named(word: &str) -> Result<Self, Fault> {
        let words = Self::WORDS.map(|(word, _)| word);
        Self::WORDS.into_iter().find(|(known, _)| *known == word).map(|(_, template)| template).ok_or_else(|| {
            let fault = Fault::new(format!("`template` cannot be \"{word}\""));
            match nearest(word, words) {
                Some(near) => fault.hint(format!("did you mean \"{near}\"?")),
                None => fault.hint(format!("one of: {}", words.join(", "))),
            }
        })
    }
}

/// Keys that rows with intents may have: how the question stands there, and what goes beside it.
const OPTIONAL: [&str; 8] =
    ["prompt", "messages", "conversations", "template", "system", "tools", "documents", "chat_template_kwargs"];

pub(super) const SHAPE: Shape = Shape {
    format: Format::Intent,
    word: "intent",
    required: &["intent", "response"],
    optional: &OPTIONAL,
    stops: true,
    read: |row, context| {
        let template = template(row, Template::Chat, context)?;
        if template.is_stepwise() {
            return Err(misfit(template, "`steps`, a list of `intent` and `text`", context));
        }
        let intent = checked("intent", row.text("intent")?, template, context)?;
        let response = row.filled_text("response")?;
        if !template.response_end().is_empty() && response.contains(SEPARATOR) {
            return Err(Fault::new(format!("`response` holds the separator `{SEPARATOR}`"))
                .hint("the sampler would end the response there: take it out"));
        }
        let answer = vec![
            piece(template.head().into(), Part::Prompt, context),
            piece(format!("{intent}{}", template.intent_end()), Part::Intent, context),
            piece(
                format!("{}{response}{}", template.response_lead(), template.response_end()),
                Part::Response,
                context,
            ),
        ];
        Ok(vec![vec![Asked::of(row)?.fitted(context.tokenizer, context.options.way)?.draft(answer, true, context)?]])
    },
};

pub(super) const STEPS: Shape = Shape {
    format: Format::Intent,
    word: "intent in steps",
    required: &["steps"],
    optional: &OPTIONAL,
    stops: true,
    read: |row, context| {
        let template = template(row, Template::Mathematics, context)?;
        if !template.is_stepwise() {
            return Err(misfit(template, "`intent` and `response`", context));
        }
        Ok(vec![vec![Asked::of(row)?.fitted(context.tokenizer, context.options.way)?.draft(
            steps(row, template, context)?,
            true,
            context,
        )?]])
    },
};

fn steps(row: &Row<'_>, template: Template, context: &Context<'_>) -> Result<Vec<Piece>, Fault> {
    let values = row.list("steps")?;
    if values.is_empty() {
        return Err(Fault::new("`steps` is empty").hint("a row must have something to learn: take it out"));
    }
    let mut pieces = vec![piece(template.head().into(), Part::Prompt, context)];
    let intent_piece =
        |intent: &str| piece(format!("{}{intent}{}", template.lead(), template.intent_end()), Part::Intent, context);
    for (index, value) in values.iter().enumerate() {
        let name = format!("steps[{index}]");
        let Value::Object(step) = value else { return Err(wrong_type(&name, "an object", value)) };
        unread::fields_of_step(step, row.names())
            .try_for_each(|field| unread::refuse_field_of_step(field, row.names().way))?;
        let field = |key: &str| {
            let full = format!("{name}.{key}");
            let value = step.get(key).ok_or_else(|| Fault::new(format!("`{full}` is missing")));
            string(&full, value?)
        };
        let intent = checked(&format!("{name}.intent"), field("intent")?, template, context)?;
        let text = field("text")?;
        if text.trim().is_empty() || text.contains(SEPARATOR) {
            let what = if text.contains(SEPARATOR) { "holds the separator `###`" } else { "is empty" };
            return Err(Fault::new(format!("`{name}.text` {what}")).hint("each step is one piece of the answer"));
        }
        let last = index + 1 == values.len() && template == Template::Mathematics;
        let end = if last { "" } else { template.response_end() };
        pieces.push(intent_piece(intent));
        pieces.push(piece(format!("{}{}{end}", template.response_lead(), text.trim_end()), Part::Response, context));
    }
    if template == Template::Code {
        pieces.push(intent_piece("End of code."));
    }
    Ok(pieces)
}

fn piece(text: String, part: Part, context: &Context<'_>) -> Piece {
    Piece { text, part, learned: context.train_on.learns(part) }
}

fn template(row: &Row<'_>, default: Template, context: &Context<'_>) -> Result<Template, Fault> {
    match row.optional_text("template")? {
        Some(word) => Template::named(word),
        None => Ok(context.options.template.unwrap_or(default)),
    }
}

fn misfit(template: Template, fields: &str, context: &Context<'_>) -> Fault {
    let (word, key) = (template.word(), context.options.way.key("template"));
    Fault::new(format!("the template `{word}` needs {fields}")).hint(format!("set {key}, or the row's own `template`"))
}

fn checked<'a>(name: &str, intent: &'a str, template: Template, context: &Context<'_>) -> Result<&'a str, Fault> {
    let intent = intent.trim();
    let ends = |mark: &str| template == Template::Code && intent.starts_with(mark);
    if template.end_mark().is_some_and(ends) {
        return Err(Fault::new(format!("`{name}` is the mark that ends the answer, `{intent}`"))
            .hint("the sampler would stop there: say it in other words"));
    }
    if intent.contains(SEPARATOR) {
        return Err(Fault::new(format!("`{name}` holds the separator `{SEPARATOR}`"))
            .hint("the sampler could not tell where the intent ends: take it out"));
    }
    let options = context.options;
    let emptied = options.intent_noise.is_some_and(|noise| noise.kind == NoiseKind::Drop);
    if intent.is_empty() && !options.allow_empty_intent && !emptied {
        return Err(Fault::new(format!("`{name}` is empty"))
            .hint(format!("write one, take the row out, or set {}", options.way.key("allow_empty_intent = true"))));
    }
    Ok(intent)
}

/// A fault put into the intents on purpose, to see what an objective makes of bad annotation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IntentNoise {
    /// What is done to them.
    pub kind: NoiseKind,
    /// The part of all intents that it is done to, 0 to 1.
    pub fraction: f64,
    /// Which ones, and what they become.
    pub seed: u64,
}

/// What is done to an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoiseKind {
    /// Those chosen change places among each other.
    Shuffle,
    /// Those chosen become empty.
    Drop,
    /// Each of those chosen becomes that of any row.
    Replace,
}

impl NoiseKind {
    /// The words of `data.intent_noise.kind`.
    pub const WORDS: [(&'static str, NoiseKind); 3] =
        [("shuffle", NoiseKind::Shuffle), ("drop", NoiseKind::Drop), ("replace", NoiseKind::Replace)];
}

/// Applies the noise to the rows of the file `name`: the same to the same rows on every machine.
pub(crate) fn spoil(noise: &IntentNoise, name: &str, rows: &mut [Map<String, Value>], key: &str) {
    let mut hash = Sha256::new();
    hash.update(b"intent noise");
    hash.update(noise.seed.to_le_bytes());
    hash.update(name.as_bytes());
    let mut random = ChaCha8Rng::from_seed(hash.finalize().into());
    let mut slots: Vec<&mut String> = rows.iter_mut().flat_map(|row| intents(row, key)).collect();
    let before: Vec<String> = slots.iter().map(|intent| intent.to_string()).collect();
    let mut order: Vec<usize> = (0..slots.len()).collect();
    order.shuffle(&mut random);
    order.truncate((noise.fraction * slots.len() as f64).round() as usize);
    for (place, &slot) in order.iter().enumerate() {
        *slots[slot] = match noise.kind {
            // Around the circle of those chosen, so that none stays where it was.
            NoiseKind::Shuffle => before[order[(place + 1) % order.len()]].clone(),
            NoiseKind::Drop => String::new(),
            NoiseKind::Replace => before[random.random_range(0..before.len())].clone(),
        };
    }
}

/// Every intent of a row; `key` is the column that stands for `intent`.
fn intents<'a>(row: &'a mut Map<String, Value>, key: &str) -> Vec<&'a mut String> {
    let mut found = Vec::new();
    for (column, value) in row.iter_mut() {
        match value {
            Value::String(text) if column == key => found.push(text),
            Value::Array(steps) if column == "steps" => {
                for step in steps {
                    if let Some(Value::String(text)) = step.get_mut("intent") {
                        found.push(text);
                    }
                }
            }
            _ => {}
        }
    }
    found
}
