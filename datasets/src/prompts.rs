//! Files of prompts to sample from: the question of each row, and whatever else the row holds.

use std::path::{Path, PathBuf};

use faults::{Causes, Fault, Faults, Place};
use serde_json::{Map, Value};

use crate::kinds::refuse_other_kinds;
use crate::lines::{At, NumberedRow};
use crate::notices::{Notice, Oddity};
use crate::open::{rows, shown};
use crate::rename::check_rename;
use crate::report::Report;
use crate::row::{Names, Row, is_nothing};
use crate::shapes::asked::{Asked, QUESTIONS};
use crate::shapes::columns::{self, ChatColumns};
use crate::shapes::messages::{BESIDE, conversation, refuse_beside};
use crate::shapes::{MESSAGE_KEYS, targets};
use crate::tokenizer::Tokenizer;
use crate::unread;
use crate::way::Way;

/// A question of a file with all else that its row holds.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptRow {
    /// The question.
    pub asked: Asked,
    /// How its answers begin: of rows with `targets` a `response`, and nothing else.
    pub beginning: String,
    /// The other columns, such as `id`.
    pub columns: Map<String, Value>,
    /// Where the row stands; `None` for a prompt of no file.
    pub place: Option<Place>,
}

/// The questions of a file.
#[derive(Debug, Clone)]
pub struct Prompts {
    /// A row of the file is one of them, or with `targets` as many as it has beginnings of answers.
    pub rows: Vec<PromptRow>,
    file: String,
    /// Where each row stands.
    at: Vec<At>,
    way: Way,
    renamed: Vec<(String, String)>,
}

/// How the rows of a file are asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asking<'a> {
    /// Columns under other names, pairs of a column and its key. A recipe's are those of its training rows: a prompt goes by
    /// the ones that it has.
    pub rename: &'a [(String, String)],
    /// Columns and fields of messages that are as if they were not there.
    pub ignore: &'a [String],
    /// Columns that are the turns of a conversation. In a row without them a plain `prompt` is the user's turn.
    pub columns: Option<&'a ChatColumns>,
    /// Whether a plain `prompt` is the user's turn in any case.
    pub chat: bool,
    /// Where all this is written.
    pub way: Way,
}

impl PromptRow {
    /// The question as the tokenizer's chat template takes it.
    ///
    /// # Errors
    /// The template has no place for something that the row says, or reads under another name what stands in a column or a
    /// field of a message.
    pub fn fitted(&self, tokenizer: &Tokenizer, way: Way) -> Result<Asked, Fault> {
        // A text under such a name goes along, as in samples with a `thinking` of their own.
        let is_switch = |(column, value): &(&String, &Value)| {
            let is_said = unread::is_flag(value) || !value.is_string() || unread::is_further_switch(column);
            !is_nothing(value) && is_said && unread::is_switch(column, tokenizer)
        };
        if let Some((column, _)) = self.columns.iter().find(is_switch) {
            return Err(unread::switch(&format!("nothing reads `{column}` of a prompt"), column, way));
        }
        if let Asked::Conversation(conversation) = &self.asked {
            let mut fields = conversation.messages.iter().flat_map(|message| message.fields.keys());
            fields.try_for_each(|field| match unread::reads_field(field, tokenizer) {
                true => Ok(()),
                false => unread::refuse_field(field, way),
            })?;
        }
        self.asked.clone().fitted(tokenizer, way)
    }
}

/// The questions (`prompt`, `messages`, `conversations` or `request`) of a file of rows, or of the embedded data of that
/// name. A row with `targets` is as many prompts as it has beginnings of answers, as in training.
///
/// # Errors
/// A file that is none of rows, cannot be read or has no rows, and every row without a question.
pub fn read_prompts(path: &Path, asking: Asking<'_>) -> Result<Prompts, Faults> {
    let name = shown(path);
    refuse_other_kinds(&[PathBuf::from(path)])?;
    let more = ["response", "targets"].into_iter().chain(MESSAGE_KEYS);
    let Asking { rename, ignore, way, .. } = asking;
    // A recipe's are looked at with its rows.
    if way == Way::Flags {
        check_rename(rename, "--rename", QUESTIONS.into_iter().chain(BESIDE).chain(more))?;
    }
    let names = Names { rename, ignore, way };
    let mut faults = Causes::new();
    let mut prompts = Prompts { rows: Vec::new(), file: name.clone(), at: Vec::new(), way, renamed: Vec::new() };
    for row in rows(&name, path, names, "cannot read the prompts")? {
        let of_row = row.and_then(|row| {
            for pair in rename.iter().filter(|(column, _)| row.object.contains_key(column)) {
                if !prompts.renamed.contains(pair) {
                    prompts.renamed.push(pair.clone());
                }
            }
            let place = row.at.place(&name);
            let found = prompts_of(&row, asking, &place).map_err(|fault| fault.at(place))?;
            Ok((row.at, found))
        });
        match of_row {
            Ok((at, found)) => {
                prompts.at.extend(found.iter().map(|_| at));
                prompts.rows.extend(found);
            }
            Err(fault) => faults.push(fault),
        }
    }
    if prompts.rows.is_empty() && faults.count() == 0 {
        faults.push(
            Fault::new("the file has no rows").at(Place::file(path)).hint("write `{\"prompt\": \"..\"}`, one a line"),
        );
    }
    faults.check()?;
    Ok(prompts)
}

impl Prompts {
    /// Of the columns under other names those that a row has.
    pub fn renamed(&self) -> &[(String, String)] {
        &self.renamed
    }

    /// What these rows have that the chat template never speaks of, or does not write.
    pub fn notices(&self, tokenizer: &Tokenizer) -> Vec<Notice> {
        let mut report = Report { rows: self.rows.len(), ..Report::of(self.way) };
        for (row, at) in self.rows.iter().zip(&self.at) {
            report.leave_unread(row.asked.unread(tokenizer), &self.file, *at);
            report.notice_row(row.asked.unwritten(tokenizer), &self.file, *at);
        }
        report.count(&[]);
        report
            .notices
            .retain(|notice| matches!(notice.oddity, Oddity::UnreadColumn | Oddity::Unread | Oddity::Rewritten));
        report.notices
    }
}

fn prompts_of(numbered: &NumberedRow, asking: Asking<'_>, place: &Place) -> Result<Vec<PromptRow>, Fault> {
    // Those within messages are met there.
    let is_met = |(column, key): &&(String, String)| {
        asking.way == Way::Flags || numbered.object.contains_key(column) || MESSAGE_KEYS.contains(&key.as_str())
    };
    let rename: Vec<(String, String)> = asking.rename.iter().filter(is_met).cloned().collect();
    let names = Names { rename: &rename, ignore: asking.ignore, way: asking.way };
    let row = Row::new(&numbered.object, names);
    let has_beginnings = row.has("targets");
    let turns = asking.columns.filter(|chat| chat.user.first().is_some_and(|user| numbered.object.contains_key(user)));
    // The answer's column goes along: it may be what an answer is compared with.
    let is_turn =
        |column: &str| turns.is_some_and(|chat| chat.names().any(|name| name == column && name != chat.assistant));
    let own = |key: &str| {
        QUESTIONS.contains(&key)
            || BESIDE.contains(&key)
            || is_turn(key)
            || has_beginnings && ["response", "targets"].contains(&key)
    };
    unread::refuse_oddities(&numbered.oddities, &row, own)?;
    unread::refuse_of_prompt(&row, &is_turn)?;
    let chat = asking.chat || asking.columns.is_some() && !has_beginnings;
    if row.get("prompt").is_some_and(Value::is_string) && asking.way == Way::Flags && !chat {
        let hint = "put the question through the chat template with `--chat`, or write it as `messages`";
        refuse_beside(&row, "a plain `prompt`", hint)?;
    }
    let asked = match turns {
        Some(chat) => Asked::Conversation(conversation(&row, columns::question(&row, chat)?)?),
        None if chat => Asked::of_chat(&row)?,
        None => Asked::of(&row)?,
    };
    let found = if has_beginnings { targets::beginnings(&row)? } else { vec![""] };
    let mut columns = numbered.object.clone();
    columns.retain(|column, _| {
        // A column whose name another one has goes along as any other does.
        let Some(key) = names.key_of(column) else { return true };
        let is_read = QUESTIONS.contains(&key) || BESIDE.contains(&key) || is_turn(column);
        !(is_read || has_beginnings && key == "response")
    });
    let prompt = |beginning: &str| PromptRow {
        asked: asked.clone(),
        beginning: beginning.to_owned(),
        columns: columns.clone(),
        place: Some(place.clone()),
    };
    Ok(found.into_iter().map(prompt).collect())
}
