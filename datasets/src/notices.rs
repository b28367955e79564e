//! What rows hold that is allowed and seldom meant: counted while they are read, and told with the first of them.

use std::fmt;

use faults::Place;
use serde::Serialize;
use serde_json::Value;

use crate::lines::{At, place};
use crate::options::Options;
use crate::row::Row;
use crate::shapes::{Format, Shape, speakers};
use crate::tokenizer::Tokenizer;
use crate::way::Way;

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
    /// Columns or fields of messages that nothing reads.
    UnreadColumn,
    /// A question and an answer in no chat template, for a model that has one.
    Untemplated,
    /// Each turn is an example of its own, as the chat template writes the whole conversation otherwise than its parts.
    Apart,
    /// A first message of the assistant's that the chat template cannot open a turn for.
    Unasked,
    /// A part of the row that the chat template does not write.
    Unread,
    /// Words that the chat template writes otherwise than the row has them, or leaves out between others.
    Rewritten,
    /// A turn that is asked without a message before it, which another turn is asked with.
    Forgotten,
    /// A part of a learned turn, such as its thought, that is not in what is learned of it.
    Unlearned,
    /// A part of a learned turn that the chat template writes outside of its marks.
    Unmarked,
    /// A learned turn whose thought stands behind one that the chat template has closed.
    SecondThought,
    /// An answer without a thought where the chat template opens the turn with one, and never closes it.
    OpenThought,
    /// A learned turn that no token ends at which the model stops.
    Unended,
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
    /// Of a file that is one list, its element; the first is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<usize>,
    /// The role or the token of the first, or the names that nothing reads; empty where there is nothing to name.
    pub what: String,
    /// Where what it names is written.
    #[serde(skip)]
    pub way: Way,
}

impl Notice {
    /// The first row with an oddity.
    pub(crate) fn first(oddity: Oddity, what: String, file: &str, at: At, way: Way) -> Self {
        Self { oddity, rows: 1, of: 0, file: file.into(), line: at.line, element: at.element, what, way }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} rows {}", self.rows, self.of, self.words())
    }
}

impl Notice {
    /// What so many rows have or are, and the first of them.
    fn words(&self) -> String {
        let Self { what, way, .. } = self;
        let key = |key: &str| way.key(key);
        let place = place(&self.file, self.line, self.element);
        match self.oddity {
            Oddity::Seam => format!(
                "have a prompt that alone is other tokens than before its answer, first {place}: it \
                 ends inside a token of the whole, or in blanks that are split otherwise there, and a sampler, which has the \
                 prompt alone, begins from tokens that were not trained on; end the prompt with one line break, begin the \
                 answer with the blank between them, or use a chat template"
            ),
            Oddity::CutTarget => format!(
                "have targets that lose their end token at {length}, first {place}: \
                 the model does not learn to stop there; raise {length}, or set {}",
                key("too_long = \"drop\""),
                length = key("max_length"),
            ),
            Oddity::Role => format!(
                "have a role that neither chats nor the chat template know, first `{what}` in {place}: \
                 the template writes it as it stands, and it is not learned; the usual ones are {}",
                crate::row::listed(USUAL_ROLES.into_iter())
            ),
            Oddity::Apart => format!(
                "are one example a turn of the assistant, first {place}: the chat template writes \
                 the whole conversation otherwise than it opens its turns, and each is learned as it will be asked for"
            ),
            Oddity::Unasked => format!(
                "begin with a turn of the assistant that is not learned, first {place}: the chat \
                 template cannot open it, as it needs a turn of the user before"
            ),
            Oddity::Unended => format!(
                "have an answer that the chat template does not end with a token at which the model \
                 stops, first `{what}` in {place}: the model does not learn to stop there; {} names one more",
                key("end_of_turn")
            ),
            Oddity::SpecialToken => format!(
                "spell out a special token, first `{what}` in {place}: it is read as that \
                 token and not as text; take it out unless the token is meant"
            ),
            Oddity::UnreadColumn => {
                let left_out = format!("; {} names what is left out on purpose", key("ignore"));
                // No flag leaves a column out.
                let left_out = if *way == Way::Recipe { &left_out } else { "" };
                format!("have what nothing reads, first {place}: {what}{left_out}")
            }
            Oddity::Untemplated => format!(
                "are a question and an answer as plain text, first {place}, and the model has a chat \
                 template: asked through it, it has not seen them so; {what}"
            ),
            Oddity::Unread
            | Oddity::Rewritten
            | Oddity::Forgotten
            | Oddity::Unlearned
            | Oddity::Unmarked
            | Oddity::SecondThought
            | Oddity::OpenThought => self.words_of_template(&place),
        }
    }

    /// The same of what a chat template makes of a row.
    fn words_of_template(&self, place: &Place) -> String {
        let what = &self.what;
        let key = |key: &str| self.way.key(key);
        let template = key("chat_template");
        match self.oddity {
            Oddity::Rewritten => format!(
                "have words that the chat template changes or leaves out, first {what} in {place}: the model never sees \
                 them; name a template that writes them as they are with {template}, or take them out"
            ),
            Oddity::Forgotten => format!(
                "have a turn that is asked without what was said before, first {what}, in {place}: the chat template \
                 leaves it out there, as it will when the model is asked; name one that does not with {template}"
            ),
            Oddity::Unlearned => format!(
                "have a part of an answer that the chat template leaves out of it, first {what} in {place}: it is not \
                 learned; set a switch that writes it with {}, name another template with {}, or take it out",
                key("template_arguments"),
                key("chat_template")
            ),
            Oddity::Unmarked => format!(
                "have a part of an answer that the chat template writes and does not mark as generated, first {what} in \
                 {place}: it is not learned; name a template with other marks with {template}, or take it out"
            ),
            Oddity::SecondThought => format!(
                "have an answer that thinks behind a thought which the chat template has closed, first {what}, in \
                 {place}: the model learns to think once more where it is told not to"
            ),
            Oddity::OpenThought => format!(
                "have an answer without a thought where the chat template opens the turn with one, first {what}, in {place}: \
                 the model learns to answer without closing it; write the thought, be it an empty one, or name a template \
                 that opens none with {template}"
            ),
            // Nothing of it is written.
            _ => format!(
                "have what the chat template does not write, first {what} in {place}: the model \
                 never sees it; name a template that does with {template}, or take it out"
            ),
        }
    }
}

/// How a question and its answer go through a chat template, of rows that have `messages`, too.
const BY_MESSAGES: &str = "a row with `messages` in place of `prompt` goes through it";

/// What is odd about a row as it is written, each oddity with its name.
pub(crate) fn of_row(row: &Row<'_>, shape: &Shape, options: &Options, tokenizer: &Tokenizer) -> Vec<(Oddity, String)> {
    let mut found = Vec::new();
    let unknown = |role: &&str| !USUAL_ROLES.contains(role) && !tokenizer.template_names(role);
    if let Some(role) = speakers(row).into_iter().find(unknown) {
        found.push((Oddity::Role, role.to_owned()));
    }
    // Plain text is what it is: corpora of conversations are written with these tokens.
    if shape.format != Format::Text {
        let is_read = |column: &str| row.names().key_of(column).is_some_and(|key| shape.reads(key, options));
        let mut values = row.filled().filter(|(column, _)| is_read(column));
        let token = values.find_map(|(_, value)| spelled(value, tokenizer)).map(str::to_owned);
        let is_plain = !["prompt", "completion"].iter().any(|key| row.get(key).is_some_and(Value::is_array));
        let through_it = match shape.format {
            Format::PromptCompletion | Format::Alpaca if is_plain => {
                Some(options.way.key("chat") + " names the columns of `user` and `assistant`")
            }
            Format::Targets | Format::Intent if is_plain && row.has("prompt") => Some(BY_MESSAGES.to_owned()),
            _ => None,
        };
        if let Some(words) = through_it.filter(|_| token.is_none() && tokenizer.is_instructed()) {
            found.push((Oddity::Untemplated, words));
        }
        found.extend(token.map(|token| (Oddity::SpecialToken, token)));
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
