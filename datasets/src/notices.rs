//! What rows hold that is allowed and seldom meant: counted while they are read, and told with the first of them.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::row::Row;
use crate::shapes::{Format, Shape, speakers};
use crate::tokenizer::Tokenizer;

/// Roles that conversations have by custom; a chat template may name others.
const USUAL_ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// What is odd about a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Oddity {
    /// The prompt alone is other tokens than those that the row begins with.
    Seam,
    /// A target was cut at the greatest length and lost its end.
    CutTarget,
    /// A role that chats do not have.
    Role,
    /// The letters of a special token, which the tokenizer takes for the token.
    SpecialToken,
    /// Each turn is an example of its own, as the chat template writes the whole conversation otherwise than its parts.
    Apart,
    /// A first message of the assistant's that the chat template cannot open a turn for.
    Unasked,
    /// A part of the row that the chat template does not write.
    Unread,
}

/// How many rows of a data set have one oddity, and the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// What is odd.
    pub oddity: Oddity,
    /// Rows that have it.
    pub rows: usize,
    /// Rows of the data set.
    pub of: usize,
    /// The file of the first.
    pub file: String,
    /// Its line; the first is 1.
    pub line: usize,
    /// The role or the token of the first; empty where there is nothing to name.
    pub what: String,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, of, file, line, what, .. } = self;
        match self.oddity {
            Oddity::Seam => write!(
                f,
                "{rows} of {of} rows have a prompt that alone is other tokens than before its answer, first {file}:{line}: it \
                 ends inside a token of the whole, or in blanks that are split otherwise there, and a sampler, which has the \
                 prompt alone, begins from tokens that were not trained on; end the prompt with one line break, begin the \
                 answer with the blank between them, or use a chat template"
            ),
            Oddity::CutTarget => write!(
                f,
                "{rows} of {of} rows have targets that lose their end token at `data.max_length`, first {file}:{line}: \
                 the model does not learn to stop there; raise `data.max_length`, or set `data.too_long = \"drop\"`"
            ),
            Oddity::Role => write!(
                f,
                "{rows} of {of} rows have a role that neither chats nor the chat template know, first `{what}` in \
                 {file}:{line}: the template writes it as it stands, and it is not learned; the usual ones are {}",
                crate::row::listed(USUAL_ROLES.into_iter())
            ),
            Oddity::Apart => write!(
                f,
                "{rows} of {of} rows are one example a turn of the assistant, first {file}:{line}: the chat template writes \
                 the whole conversation otherwise than it opens its turns, and each is learned as it will be asked for"
            ),
            Oddity::Unasked => write!(
                f,
                "{rows} of {of} rows begin with a turn of the assistant that is not learned, first {file}:{line}: the chat \
                 template cannot open it, as it needs a turn of the user before"
            ),
            Oddity::Unread => write!(
                f,
                "{rows} of {of} rows have what the chat template does not write, first `{what}` in {file}:{line}: the model \
                 never sees it; name a template that does with `data.chat_template`, or take it out"
            ),
            Oddity::SpecialToken => write!(
                f,
                "{rows} of {of} rows spell out a special token, first `{what}` in {file}:{line}: it is read as that \
                 token and not as text; take it out unless the token is meant"
            ),
        }
    }
}

/// What is odd about a row as it is written, each oddity with its name.
pub(crate) fn of_row(row: &Row<'_>, shape: &Shape, tokenizer: &Tokenizer) -> Vec<(Oddity, String)> {
    let mut found = Vec::new();
    let unknown = |role: &&str| !USUAL_ROLES.contains(role) && !tokenizer.template_names(role);
    if let Some(role) = speakers(row).into_iter().find(unknown) {
        found.push((Oddity::Role, role.to_owned()));
    }
    // Plain text is what it is: corpora of conversations are written with these tokens.
    if shape.format != Format::Text {
        let keys = shape.required.iter().chain(shape.optional);
        let token = keys.filter_map(|key| row.get(key)).find_map(|value| spelled(value, tokenizer));
        found.extend(token.map(|token| (Oddity::SpecialToken, token.to_owned())));
    }
    found
}

/// The first special token in the texts of a value.
fn spelled<'a>(value: &Value, tokenizer: &'a Tokenizer) -> Option<&'a str> {
    match value {
        Value::String(text) => tokenizer.special_token_in(text),
        Value::Array(values) => values.iter().find_map(|value| spelled(value, tokenizer)),
        Value::Object(fields) => fields.values().find_map(|value| spelled(value, tokenizer)),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}
