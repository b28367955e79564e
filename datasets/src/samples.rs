//! Files of samples that a model has drawn, with what a judge says of them: what diversity and success are counted on.
//!
//! A row is a sample, `{"prompt" or "id", "text", "correct"}`, of which `text` or `correct` may be absent; `trainer sample`
//! writes such rows, and where an intent stands before what is said, this alone as `response`. Or it is a judge's word on all samples of a prompt, `{"prompt" or "id", "same": [[i, j], ..], "n"}`:
//! the ordered pairs, counted from 0, that it holds for the same. Or it is all samples of a prompt as NoveltyBench has them
//! ([`crate::generations`]).

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use faults::{Causes, Fault, Faults, Place};
use serde_json::{Map, Value};

use crate::generations::{self, Generations};
use crate::kinds::refuse_other_kinds;
use crate::lines::NumberedRow;
use crate::notices::Notice;
use crate::open::{rows, shown};
use crate::report::Report;
use crate::row::{Names, Row, is_nothing, wrong_type};
use crate::unread::{is_near, refuse_oddities};
use crate::way::Way;

/// The most samples of one prompt that a judge may speak of: a file must not make us allocate by a number in it.
const MOST: usize = 100_000;

/// The samples of one prompt, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// `id` or `prompt`, whichever the rows have.
    pub key: &'static str,
    /// What stands under it.
    pub name: Value,
    /// What was asked, where rows with an `id` say so too.
    pub prompt: Option<Value>,
    /// The model that the rows name.
    pub model: Option<String>,
    /// Where the prompt comes first: the file and its line.
    pub place: Place,
    /// How many samples there are.
    pub count: usize,
    /// Their texts, if the rows have them.
    pub texts: Option<Vec<String>>,
    /// Whether each is right, if the rows say so.
    pub correct: Option<Vec<bool>>,
    /// How good each is, if the rows say so.
    pub scores: Option<Vec<f64>>,
    /// The class of each among those that mean the same, if a row says so.
    pub classes: Option<Vec<usize>>,
    /// The ordered pairs that a judge holds for the same, if there is a row of them.
    pub same: Option<BTreeSet<(usize, usize)>>,
    /// Each sample as a row of its own without its token ids, for a judge, and where it stands.
    pub rows: Vec<(Map<String, Value>, Place)>,
}

/// The samples of a file.
#[derive(Debug, Clone)]
pub struct Samples {
    /// By prompt, in the order of the file.
    pub prompts: Vec<Sampled>,
    /// Columns that nothing reads.
    pub notices: Vec<Notice>,
}

/// Columns that are read.
const READ: [&str; 9] = ["id", "prompt", "text", "response", "correct", "score", "same", "n", "model"];

/// Columns that `trainer sample` writes for people.
const WRITTEN: [&str; 4] = ["sample", "ids", "stopped", "stages"];

/// Other people's names for `correct`.
const CORRECT: [&str; 6] = ["is_correct", "passed", "pass", "success", "right", "solved"];

/// What the rows of one prompt have said so far.
struct Draft {
    key: &'static str,
    name: Value,
    place: Place,
    prompt: Option<Value>,
    model: Option<String>,
    samples: Vec<One>,
    classes: Option<Vec<usize>>,
    verdict: Option<Verdict>,
}

/// What a row says of a sample.
#[derive(Default)]
struct One {
    text: Option<String>,
    correct: Option<bool>,
    score: Option<f64>,
    row: Option<(Map<String, Value>, Place)>,
}

struct Verdict {
    count: Option<usize>,
    same: BTreeSet<(usize, usize)>,
    place: Place,
}

/// The prompts of a file of samples, in the order of the file; whoever asks for them reads the columns `read_too` of their rows.
///
/// # Errors
/// A file that cannot be read or has no rows, and every row that is neither a sample nor a judge's word, with its line.
pub fn read_samples(path: &Path, read_too: &[&str]) -> Result<Samples, Faults> {
    let name = shown(path);
    refuse_other_kinds(&[PathBuf::from(path)])?;
    let mut faults = Causes::new();
    let mut drafts: Vec<Draft> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut report = Report::of(Way::Flags);
    for row in rows(&name, path, Names::default(), "cannot open the samples")? {
        report.rows += 1;
        let taken = row.and_then(|row| {
            let place = row.at.place(&name);
            report.leave_unread(unread(&row.object, read_too), &name, row.at);
            take(&row, &place, read_too, &mut drafts, &mut known).map_err(|fault| fault.at(place))
        });
        faults.extend(taken.err());
    }
    if drafts.is_empty() && faults.count() == 0 {
        faults.push(Fault::new("the file has no rows").at(Place::file(path)).hint("`trainer sample` writes such rows"));
    }
    let finished = drafts.into_iter().filter_map(|draft| finish(draft).map_err(|fault| faults.push(fault)).ok());
    let prompts = finished.collect();
    faults.check()?;
    report.count(&[]);
    Ok(Samples { prompts, notices: report.notices })
}

/// The answers that the row of a sample holds for right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers<'a> {
    /// Their texts, one or more.
    pub texts: Vec<&'a str>,
    /// They are beginnings, after which anything may follow: `eos` of the row is false.
    pub are_open: bool,
}

impl Sampled {
    /// What the row of the sample at `index` holds for right, its `targets`; `None` where it has none.
    pub fn answers(&self, index: usize) -> Option<Answers<'_>> {
        let row = Row::new(&self.rows.get(index)?.0, Names::default());
        let texts = match row.get("targets")? {
            Value::String(text) => vec![text.as_str()],
            targets => targets.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?,
        };
        let are_open = row.flag("eos").ok().flatten() == Some(false);
        (!texts.is_empty()).then_some(Answers { texts, are_open })
    }

    /// Whether the sample at `index` ended by itself: its row does not say by `stopped` that it was cut at its greatest length.
    pub fn has_ended(&self, index: usize) -> bool {
        let stopped = self.rows.get(index).and_then(|(row, _)| Row::new(row, Names::default()).flag("stopped").ok()?);
        stopped != Some(false)
    }
}

/// The columns that nothing reads.
fn unread(object: &Map<String, Value>, read_too: &[&str]) -> Vec<String> {
    let of_generations = object.contains_key(generations::KEY);
    let own = |column: &str| {
        READ.contains(&column)
            || WRITTEN.contains(&column)
            || read_too.contains(&column)
            || of_generations && generations::COLUMNS.contains(&column)
    };
    object
        .iter()
        .filter(|(column, value)| !own(column) && !is_nothing(value))
        .map(|(column, _)| column.clone())
        .collect()
}

/// Refuses columns that say something of a sample under another name.
fn refuse_misnamed(row: &Row<'_>, read_too: &[&str]) -> Result<(), Fault> {
    let known = [&READ[..], &WRITTEN, &generations::COLUMNS, read_too];
    let own = |column: &str| known.iter().any(|columns| columns.contains(&column));
    let others = || row.columns().filter(|column| !own(column));
    let correct = || others().find(|column| CORRECT.contains(column)).map(|column| (column, "correct"));
    let keys = READ.into_iter().filter(|key| *key != "model").chain([generations::KEY]);
    let near = || others().find_map(|column| Some((column, keys.clone().find(|key| is_near(column, key))?)));
    match correct().filter(|_| !row.has("correct")).or_else(near) {
        Some((column, key)) if !row.has(key) => {
            let fault = Fault::new(format!("nothing reads `{column}` of a sample"));
            Err(fault.hint(format!("is it `{key}`? then give it that name, else take it out")))
        }
        _ => Ok(()),
    }
}

/// Adds a row to the prompt that it belongs to.
fn take(
    numbered: &NumberedRow,
    place: &Place,
    read_too: &[&str],
    drafts: &mut Vec<Draft>,
    known: &mut HashMap<String, usize>,
) -> Result<(), Fault> {
    let row = Row::new(&numbered.object, Names::default());
    refuse_oddities(&numbered.oddities, &row, |key| READ.contains(&key) || generations::COLUMNS.contains(&key))?;
    refuse_misnamed(&row, read_too)?;
    let found = ["id", "prompt"].into_iter().find_map(|key| row.get(key).map(|value| (key, value)));
    let (key, name) = found.ok_or_else(|| row.missing("prompt"))?;
    let index = *known.entry(format!("{key} {name}")).or_insert(drafts.len());
    if index == drafts.len() {
        let prompt = row.get("prompt").filter(|_| key == "id").cloned();
        let (name, place) = (name.clone(), place.clone());
        let (samples, model, classes, verdict) = (Vec::new(), None, None, None);
        drafts.push(Draft { key, name, place, prompt, model, samples, classes, verdict });
    }
    let draft = &mut drafts[index];
    if draft.model.is_none() {
        draft.model = row.get("model").and_then(Value::as_str).map(str::to_owned);
    }
    if row.has("same") {
        if let Some(column) = ["text", "response", "correct", "score"].into_iter().find(|key| row.has(key)) {
            return Err(Fault::new(format!("the row has both `same` and `{column}`"))
                .hint("a judge's word is a row of its own beside those of the samples"));
        }
        if draft.verdict.is_some() {
            return Err(Fault::new("the prompt has a row with `same` already").hint("keep one of them"));
        }
        draft.verdict = Some(verdict(&row, place)?);
        return Ok(());
    }
    if row.has(generations::KEY) {
        if !draft.samples.is_empty() {
            return Err(Fault::new("the prompt has samples already").hint("give each prompt an `id` of its own"));
        }
        let Generations { texts, classes, scores } = generations::read(&row)?;
        let scores = scores.map_or_else(|| vec![None; texts.len()], |scores| scores.into_iter().map(Some).collect());
        draft.samples = texts
            .into_iter()
            .zip(scores)
            .map(|(text, score)| {
                let row = (generations::one(&numbered.object, &text), place.clone());
                One { text: Some(text), correct: None, score, row: Some(row) }
            })
            .collect();
        draft.classes = classes;
        return Ok(());
    }
    if draft.classes.is_some() {
        return Err(Fault::new("the prompt has a row with `partition` already, of all its samples")
            .hint("give each prompt an `id` of its own"));
    }
    let text = if row.has("response") { "response" } else { "text" };
    let (text, correct, score) = (row.optional_text(text)?, row.flag("correct")?, score(&row)?);
    if text.is_none() && correct.is_none() {
        return Err(row.missing("text"));
    }
    let mut whole = numbered.object.clone();
    // Token ids of many samples are more than all else, and of no use to a judge.
    whole.remove("ids");
    let row = Some((whole, place.clone()));
    draft.samples.push(One { text: text.map(str::to_owned), correct, score, row });
    Ok(())
}

/// The number under `score` if the row has it.
fn score(row: &Row<'_>) -> Result<Option<f64>, Fault> {
    let number = |value: &Value| value.as_f64().ok_or_else(|| wrong_type("score", "a number", value));
    row.get("score").map(number).transpose()
}

fn verdict(row: &Row<'_>, place: &Place) -> Result<Verdict, Fault> {
    let index = |name: &str, value: &Value| {
        value.as_u64().and_then(|index| usize::try_from(index).ok()).ok_or_else(|| wrong_type(name, "a count", value))
    };
    let pair = |(position, value): (usize, &Value)| {
        let name = format!("same[{position}]");
        match value.as_array().map(Vec::as_slice) {
            Some([first, second]) => Ok((index(&name, first)?, index(&name, second)?)),
            _ => Err(wrong_type(&name, "a pair of samples such as [0, 1]", value)),
        }
    };
    let same = row.list("same")?.iter().enumerate().map(pair).collect::<Result<_, _>>()?;
    let count = row.get("n").map(|value| index("n", value)).transpose()?;
    if let Some(count) = count.filter(|count| !(1..=MOST).contains(count)) {
        let message = format!("`n` = {count} samples must be from 1 to {MOST}");
        return Err(Fault::new(message).hint("write how many samples the judge has seen"));
    }
    Ok(Verdict { count, same, place: place.clone() })
}

fn finish(draft: Draft) -> Result<Sampled, Fault> {
    let Draft { key, name, place, prompt, model, samples, classes, verdict } = draft;
    let count = match (&verdict, samples.len()) {
        (Some(verdict), 0) => verdict.count.ok_or_else(|| {
            Fault::new("`n` is missing").at(verdict.place.clone()).hint("write how many samples the judge has seen")
        })?,
        (_, count) => count,
    };
    if let Some(verdict) = &verdict {
        let hint = "the judge has to have seen the samples of this prompt, all of them";
        let misfit = |message: String| Err(Fault::new(message).at(verdict.place.clone()).hint(hint));
        if let Some(written) = verdict.count.filter(|written| *written != count) {
            return misfit(format!("`n` = {written}, and the prompt has {count} samples"));
        }
        if let Some((i, j)) = verdict.same.iter().find(|(i, j)| *i.max(j) >= count) {
            return misfit(format!("`same` names the pair [{i}, {j}] of {count} samples, counted from 0"));
        }
        if classes.is_some() {
            let fault = Fault::new("the prompt has both a `partition` and a row with `same`");
            return Err(fault.at(verdict.place.clone()).hint("keep one of them"));
        }
    }
    let (mut texts, mut correct, mut scores, mut rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for one in samples {
        texts.push(one.text);
        correct.push(one.correct);
        scores.push(one.score);
        rows.extend(one.row);
    }
    let texts = all_or_none(texts, "text", &name, &place)?;
    let correct = all_or_none(correct, "correct", &name, &place)?;
    let scores = all_or_none(scores, "score", &name, &place)?;
    let same = verdict.map(|verdict| verdict.same);
    Ok(Sampled { key, name, prompt, model, place, count, texts, correct, scores, classes, same, rows })
}

/// What every sample of a prompt has; `None` where none has it.
fn all_or_none<T>(values: Vec<Option<T>>, key: &str, name: &Value, place: &Place) -> Result<Option<Vec<T>>, Fault> {
    let (all, given) = (values.len(), values.iter().flatten().count());
    if given == 0 {
        return Ok(None);
    }
    if given < all {
        let message = format!("{given} of {all} samples of {name} have `{key}`");
        return Err(Fault::new(message).at(place.clone()).hint("write it for all samples of a prompt, or for none"));
    }
    Ok(Some(values.into_iter().flatten().collect()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_row_of_a_sample_says_what_is_right_and_whether_the_sample_ended() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        for row in [
            r#"{"prompt": "a", "text": "x", "targets": ["x", "y"], "eos": false}"#,
            r#"{"prompt": "a", "text": "y", "targets": "x", "stopped": false}"#,
            r#"{"prompt": "a", "text": "z", "targets": [], "stopped": true}"#,
            r#"{"prompt": "a", "text": "z", "targets": [1]}"#,
            r#"{"prompt": "a", "text": "z"}"#,
        ] {
            writeln!(file, "{row}").expect("written");
        }
        let samples = read_samples(file.path(), &["targets", "eos"]).expect("samples");
        let [prompt] = &samples.prompts[..] else { panic!("one prompt") };
        let answers: Vec<_> = (0..5).map(|index| prompt.answers(index)).collect();
        let expected =
            [(vec!["x", "y"], true), (vec!["x"], false)].map(|(texts, are_open)| Some(Answers { texts, are_open }));
        assert_eq!((&answers[..2], &answers[2..]), (&expected[..], &[None, None, None][..]));
        let ended: Vec<bool> = (0..5).map(|index| prompt.has_ended(index)).collect();
        assert_eq!(ended, [true, false, true, true, true]);
    }
}
