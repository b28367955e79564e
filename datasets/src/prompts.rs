//! Files of prompts to sample from: the question of each row, whatever else the row holds.

use std::path::Path;

use faults::{Fault, Faults, Place};

use crate::builtin;
use crate::lines::Rows;
use crate::row::Row;
use crate::shapes::asked::Asked;

/// The questions (`prompt`, `messages` or `request`) of a file of rows, or of the embedded data of that name.
///
/// # Errors
/// A file that cannot be read or has no rows, and every row without a question.
pub fn read_prompts(path: &Path) -> Result<Vec<Asked>, Faults> {
    let name = path.display().to_string();
    let text = if name.starts_with(builtin::PREFIX) {
        builtin::rows(&name)?
    } else {
        fs_err::read_to_string(path).map_err(|error| Fault::of_file("cannot read the prompts", path, &error))?
    };
    let mut faults = Vec::new();
    let mut prompts = Vec::new();
    for row in Rows::new(&name, text.as_bytes())? {
        let asked = row.and_then(|(line, object)| {
            Asked::of(&Row::new(&object, &[])).map_err(|fault| fault.at(Place::line(&name, line)))
        });
        match asked {
            Ok(asked) => prompts.push(asked),
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
