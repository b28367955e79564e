//! Rows of NoveltyBench (`novelty-bench/novelty-bench`): all samples of a prompt in one row, as its `generations.jsonl`
//! (`id`, `prompt`, `model`, `generations`), `partitions.jsonl` (with `partition`, the class of each) and `scores.jsonl` (with
//! `generation_scores`, 0 for what repeats a class) have them.

use faults::Fault;
use serde_json::{Map, Value};

use crate::row::{Row, string, wrong_type};

/// The column of the texts.
pub(crate) const KEY: &str = "generations";

/// Columns of such rows beside `id`, `prompt` and `model`. Of these `distinct` (one too small), `partition_scores` and
/// `utility` follow from the others and are not read.
pub(crate) const COLUMNS: [&str; 6] =
    [KEY, "partition", "generation_scores", "distinct", "partition_scores", "utility"];

/// What such a row says.
pub(crate) struct Generations {
    /// The samples.
    pub texts: Vec<String>,
    /// The class of each.
    pub classes: Option<Vec<usize>>,
    /// How good each is.
    pub scores: Option<Vec<f64>>,
}

/// Reads a row with `generations`.
///
/// # Errors
/// No samples, or lists that are of other lengths or types.
pub(crate) fn read(row: &Row<'_>) -> Result<Generations, Fault> {
    if let Some(column) = ["text", "response", "correct", "score"].into_iter().find(|key| row.has(key)) {
        let fault = Fault::new(format!("the row has both `{KEY}` and `{column}`"));
        return Err(fault.hint("a row is one sample, or all samples of a prompt"));
    }
    let text = |(place, value): (usize, &Value)| string(&format!("{KEY}[{place}]"), value).map(str::to_owned);
    let texts = row.list(KEY)?.iter().enumerate().map(text).collect::<Result<Vec<_>, _>>()?;
    if texts.is_empty() {
        let fault = Fault::new(format!("`{KEY}` is empty"));
        return Err(fault.hint("the prompt was not answered: draw its samples again, or take the row out"));
    }
    let class = |name: &str, value: &Value| {
        let class = value.as_u64().and_then(|class| usize::try_from(class).ok()).filter(|class| *class < texts.len());
        class.ok_or_else(|| wrong_type(name, "a class, counted from 0", value))
    };
    let score = |name: &str, value: &Value| value.as_f64().ok_or_else(|| wrong_type(name, "a number", value));
    let classes = of_each(row, "partition", texts.len(), class)?;
    let scores = of_each(row, "generation_scores", texts.len(), score)?;
    Ok(Generations { texts, classes, scores })
}

/// The list under `key` with something of each sample, if the row has it.
fn of_each<T>(
    row: &Row<'_>,
    key: &str,
    count: usize,
    read: impl Fn(&str, &Value) -> Result<T, Fault>,
) -> Result<Option<Vec<T>>, Fault> {
    if !row.has(key) {
        return Ok(None);
    }
    let list = row.list(key)?;
    if list.len() != count {
        let fault = Fault::new(format!("`{key}` has {} entries for {count} of `{KEY}`", list.len()));
        return Err(fault.hint("the file belongs to other samples, or was cut"));
    }
    let values = list.iter().enumerate().map(|(place, value)| read(&format!("{key}[{place}]"), value));
    Ok(Some(values.collect::<Result<_, _>>()?))
}

/// One sample of such a row as a row of its own, with the columns that say nothing of the others.
pub(crate) fn one(object: &Map<String, Value>, text: &str) -> Map<String, Value> {
    let mut row = object.clone();
    row.retain(|column, _| !COLUMNS.contains(&column.as_str()));
    row.insert("text".into(), text.into());
    row
}
