//! Files of prompts to sample from: the question of each row, and whatever else the row holds.

use std::path::Path;

use faults::{Fault, Faults, Place};
use serde_json::{Map, Value};

use crate::builtin;
use crate::lines::Rows;
use crate::row::Row;
use crate::shapes::asked::Asked;
use crate::shapes::targets;

/// The keys that a question stands under.
const QUESTIONS: [&str; 3] = ["prompt", "messages", "request"];

/// A question of a file with all else that its row holds.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptRow {
    /// The question.
    pub asked: Asked,
    /// How its answers begin: of rows with `targets` a `response`, and nothing else.
    pub beginning: String,
    /// The other columns, such as `id`.
    pub columns: Map<String, Value>,
}

/// The questions (`prompt`, `messages` or `request`) of a file of rows, or of the embedded data of that name. A row with
/// `targets` is as many prompts as it has beginnings of answers, as in training.
///
/// # Errors
/// A file that cannot be read or has no rows, and every row without a question.
pub fn read_prompts(path: &Path) -> Result<Vec<PromptRow>, Faults> {
    let name = path.display().to_string();
    let text = if name.starts_with(builtin::PREFIX) {
        builtin::rows(&name)?
    } else {
        fs_err::read_to_string(path).map_err(|error| Fault::of_file("cannot read the prompts", path, &error))?
    };
    let mut faults = Vec::new();
    let mut prompts = Vec::new();
    for row in Rows::new(&name, text.as_bytes())? {
        let of_row =
            row.and_then(|(line, columns)| prompts_of(columns).map_err(|fault| fault.at(Place::line(&name, line))));
        match of_row {
            Ok(of_row) => prompts.extend(of_row),
            Err(fault) => faults.push(fault),
        }
    }
    if prompts.is_empty() && faults.is_empty() {
        faults.push(
            Fault::new("the file has no rows").at(Place::file(path)).hint("write `{\"prompt\": \"..\"}`, one a line"),
        );
    }
    Faults::check(faults)?;
    Ok(prompts)
}

fn prompts_of(mut columns: Map<String, Value>) -> Result<Vec<PromptRow>, Fault> {
    let row = Row::new(&columns, &[]);
    let asked = Asked::of(&row)?;
    let has_beginnings = row.has("targets");
    let found = if has_beginnings { targets::beginnings(&row)? } else { vec![""] };
    let beginnings: Vec<String> = found.into_iter().map(str::to_owned).collect();
    let own = |column: &str| QUESTIONS.contains(&column) || has_beginnings && column == "response";
    columns.retain(|column, _| !own(column));
    let prompt = |beginning| PromptRow { asked: asked.clone(), beginning, columns: columns.clone() };
    Ok(beginnings.into_iter().map(prompt).collect())
}
