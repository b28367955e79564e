//! Files of reference texts that samples are compared with: rows with `text`, `response` or `completion`, or with lists of
//! texts, `targets` or `generations`, and with `prompt` or `id` where it is known what they answer.

use std::path::{Path, PathBuf};

use faults::{Causes, Fault, Faults, Place};
use serde_json::{Map, Value};

use crate::generations;
use crate::kinds::refuse_other_kinds;
use crate::lines::NumberedRow;
use crate::notices::Notice;
use crate::open::{rows, shown};
use crate::report::Report;
use crate::row::{Names, Row, is_nothing, string};
use crate::unread::refuse_oddities;
use crate::way::Way;

/// A reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// What it says.
    pub text: String,
    /// The `id` of its prompt.
    pub id: Option<Value>,
    /// Its prompt.
    pub prompt: Option<Value>,
    /// Where it stands.
    pub place: Place,
}

/// The references of a file.
#[derive(Debug, Clone)]
pub struct References {
    /// In the order of the file.
    pub texts: Vec<Reference>,
    /// Columns that nothing reads.
    pub notices: Vec<Notice>,
}

/// Columns with one text.
const ONE: [&str; 3] = ["response", "text", "completion"];

/// Columns with several.
const SEVERAL: [&str; 2] = ["targets", generations::KEY];

/// What rows of samples have beside their text, so that one model's samples can be another's references.
const BESIDE: [&str; 9] = ["id", "prompt", "model", "sample", "ids", "stopped", "stages", "correct", "score"];

/// Reads references.
///
/// # Errors
/// A file that cannot be read or has no rows, and every row that has no text, or several.
pub fn read_references(path: &Path) -> Result<References, Faults> {
    let name = shown(path);
    refuse_other_kinds(&[PathBuf::from(path)])?;
    let mut faults = Causes::new();
    let mut texts = Vec::new();
    let mut report = Report::of(Way::Flags);
    for row in rows(&name, path, Names::default(), "cannot read the references")? {
        report.rows += 1;
        let taken = row.and_then(|row| {
            let place = row.at.place(&name);
            report.leave_unread(unread(&row.object), &name, row.at);
            take(&row, &place, &mut texts).map_err(|fault| fault.at(place))
        });
        faults.extend(taken.err());
    }
    if texts.is_empty() && faults.count() == 0 {
        faults.push(
            Fault::new("the file has no rows").at(Place::file(path)).hint("write `{\"text\": \"..\"}`, one a line"),
        );
    }
    faults.check()?;
    report.count(&[]);
    Ok(References { texts, notices: report.notices })
}

/// The columns that nothing reads.
fn unread(object: &Map<String, Value>) -> Vec<String> {
    let of_generations = object.contains_key(generations::KEY);
    let own = |column: &str| {
        ONE.contains(&column)
            || SEVERAL.contains(&column)
            || BESIDE.contains(&column)
            || of_generations && generations::COLUMNS.contains(&column)
    };
    let filled = object.iter().filter(|(column, value)| !own(column) && !is_nothing(value));
    filled.map(|(column, _)| column.clone()).collect()
}

fn take(numbered: &NumberedRow, place: &Place, texts: &mut Vec<Reference>) -> Result<(), Fault> {
    let row = Row::new(&numbered.object, Names::default());
    refuse_oddities(&numbered.oddities, &row, |key| ONE.contains(&key) || SEVERAL.contains(&key))?;
    if let Some(column) = ["weights", "weight"].into_iter().find(|column| row.has(column)) {
        return Err(Fault::new(format!("references have no `{column}`: each counts once"))
            .hint("write a text as often as it is to count, or measure rows with `targets` exactly by `--data`"));
    }
    let mut add = |text: &str| {
        let (id, prompt) = (row.get("id").cloned(), row.get("prompt").cloned());
        texts.push(Reference { text: text.to_owned(), id, prompt, place: place.clone() });
    };
    if let Some(key) = SEVERAL.into_iter().find(|key| row.has(key)) {
        for (index, value) in row.list(key)?.iter().enumerate() {
            add(string(&format!("{key}[{index}]"), value)?);
        }
        return Ok(());
    }
    // What an answer with intents says is its `response`, beside the whole as `text`.
    match ONE.into_iter().find(|key| row.has(key)) {
        Some(key) => add(row.text(key)?),
        None => return Err(row.missing("text")),
    }
    Ok(())
}
