//! Files of prompts to sample from: the question of each row, and whatever else the row holds.

use std::path::Path;

use faults::{Fault, Faults, Place};
use serde_json::{Map, Value};

use crate::builtin;
use crate::lines::Rows;
use crate::row::Row;
use crate::shapes::asked::Asked;

/// The keys that a question stands under.
const QUESTIONS: [&str; 3] = ["prompt", "messages", "request"];

/// A question of a file with all else that its row holds.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptRow {
    /// The question.
    pub asked: Asked,
    /// The other columns, such as `id`.
    pub columns: Map<String, Value>,
}

/// The questions (`prompt`, `messages` or `request`) of a file of rows, or of the embedded data of that name.
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
        let prompt = row.and_then(|(line, mut columns)| {
            let asked = Asked::of(&Row::new(&columns, &[])).map_err(|fault| fault.at(Place::line(&name, line)))?;
            columns.retain(|column, _| !QUESTIONS.contains(&column.as_str()));
            Ok(PromptRow { asked, columns })
        });
        match prompt {
            Ok(prompt) => prompts.push(prompt),
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
