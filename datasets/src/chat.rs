//! Chat templates: a conversation as the one text that an instruct model was trained on.
//!
//! A template is Jinja written for Python; this is the environment that transformers gives it (`trim_blocks`,
//! `lstrip_blocks`, loop controls, `raise_exception`, `strftime_now`, a plain `tojson`, Python's string methods).

use std::collections::BTreeMap;

use faults::{Fault, Place};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

use crate::conversation::Conversation;
use crate::mentions::Mentions;

/// Instructions one rendering may take: a thousand times what a long conversation needs, yet seconds at most.
const FUEL: u64 = 20_000_000;

/// A compiled chat template with the special tokens it may name.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    tokens: BTreeMap<String, Value>,
    file: String,
    /// What it speaks of.
    pub mentions: Mentions,
}

impl ChatTemplate {
    /// Compiles `source`, read from `file`.
    pub fn new(file: &str, source: &str, tokens: &[(&str, String)]) -> Result<Self, Fault> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the delimiters are Jinja's own"));
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", to_json);
        environment.add_template_owned("chat", without_generation_marks(source)).map_err(|error| {
            Fault::new(format!("cannot read the chat template: {}", explain(&error)))
                .at(Place::file(file))
                .hint("convert the rows to `prompt` and `completion` to do without it")
        })?;
        let tokens = tokens.iter().map(|(name, text)| (name.to_string(), Value::from(text.clone()))).collect();
        Ok(Self { environment, tokens, file: file.to_string(), mentions: Mentions::of(source) })
    }

    /// True when the template speaks of `role`.
    pub fn names(&self, role: &str) -> bool {
        let template = self.environment.get_template("chat").expect("the template was added at the start");
        [format!("'{role}'"), format!("\"{role}\"")].iter().any(|word| template.source().contains(word))
    }

    /// The text of a conversation.
    pub fn render(&self, conversation: &Conversation, add_generation_prompt: bool) -> Result<String, Fault> {
        let mut context = self.tokens.clone();
        context.extend(conversation.arguments.iter().map(|(key, value)| (key.clone(), Value::from(Serde(value)))));
        context.insert("messages".into(), Value::from(Serde(&conversation.messages)));
        context.insert("add_generation_prompt".into(), Value::from(add_generation_prompt));
        context.insert("tools".into(), Value::from(Serde(&conversation.tools)));
        context.insert("documents".into(), Value::from(Serde(&conversation.documents)));
        let template = self.environment.get_template("chat").expect("the template was added at the start");
        template.render(Value::from(Serde(context))).map_err(|error| {
            Fault::new(format!("the chat template refuses this conversation: {}", explain(&error)))
                .hint(format!("the template is in `{}`", self.file))
        })
    }
}

/// What went wrong, with the template's line.
fn explain(error: &Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    error.line().map_or(detail.clone(), |line| format!("{detail} (line {line} of the template)"))
}

/// `{% generation %}` marks the assistant's text for transformers and prints nothing: a block that always holds does the
/// same and keeps the dashes that trim blanks.
fn without_generation_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start..start + length];
        text.push_str(&rest[..start]);
        match tag.trim_start_matches("{%").trim_matches(['-', '+', ' ', '\n', '\t']) {
            "generation" => text.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => text.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => text.push_str(tag),
        }
        rest = &rest[start + length..];
    }
    text.push_str(rest);
    text
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: String) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now())
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn to_json(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    if ascii == Some(true) {
        return Err(Error::new(ErrorKind::InvalidOperation, "`tojson` with `ensure_ascii=True` is not supported"));
    }
    let mut bytes = Vec::new();
    let written = match indent {
        Some(indent) => {
            let blanks = " ".repeat(indent.min(16));
            let formatter = PrettyFormatter::with_indent(blanks.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, OneLine)),
    };
    written.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// JSON on one line with the blanks that Python writes.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}
