//! Files of rows become a data set: every good row an example, every bad row a fault with its line.

use std::io::Cursor;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use faults::{Causes, Fault, Faults, Place, nearest};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::builtin;
use crate::draft::{Example, Tokens};
use crate::files;
use crate::held_out::HeldOut;
use crate::kinds;
use crate::lines::{At, NumberedRow, Rows};
use crate::notices::Oddity;
use crate::open::{self, Opening};
use crate::options::{Options, TrainOn};
use crate::outcome::{Outcome, Outcomes, outcomes};
use crate::rename::{check_rename, refuse_names_of_chat};
use crate::report::{Dropped, FileReport, Report};
use crate::row::{Row, listed};
use crate::shapes::intent;
use crate::shapes::{Context, Format, MESSAGE_KEYS, Shape, known_keys};
use crate::tokenizer::Tokenizer;
use crate::unread;
use crate::way::Way;

/// Rows tokenised at a time: enough to keep all cores busy, few enough to hold.
const CHUNK: usize = 2048;

/// Examples in the order of the files, and what was counted while they were read.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Every example.
    pub examples: Vec<Example>,
    /// Totals, lengths, what was dropped.
    pub report: Report,
    /// SHA-256 in hexadecimal over ids, masks, weights, numbers and groups: what must be equal for a run to be resumed.
    pub fingerprint: String,
}

/// Files that are read as one: what a recipe names by one entry of `data.train`.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// What evaluations call it.
    pub name: String,
    /// Its files, or [`builtin`] names, or `-` for stdin.
    pub files: Vec<PathBuf>,
    /// How often each of its rows is learned in an epoch; of a part, that part of the rows.
    pub weight: f64,
    /// The most rows that are read of it.
    pub limit: Option<usize>,
}

impl Source {
    /// The files that `path` stands for (see [`files::expand`]), with all of their rows once.
    ///
    /// # Errors
    /// A folder or a pattern without files of rows.
    pub fn of(path: &Path) -> Result<Self, Fault> {
        Ok(Self { name: open::shown(path), files: files::expand(path)?, weight: 1.0, limit: None })
    }
}

/// Reads files of rows, folders and patterns of such; `builtin:NAME` stands for the embedded data of that name, `-` for stdin.
///
/// # Errors
/// What is wrong with rows, each reason once as `path:line: reason` with the lines of the first twenty and their count, a
/// file that is none of rows or cannot be read, no rows at all, or rows from which the model would never learn to stop.
pub fn read(paths: &[PathBuf], options: &Options, tokenizer: &Tokenizer) -> Result<Dataset, Faults> {
    let (mut sources, mut faults) = (Vec::new(), Vec::new());
    for path in paths {
        match Source::of(path) {
            Ok(source) => sources.push(source),
            Err(fault) => faults.push(fault),
        }
    }
    match read_sources(&sources, options, tokenizer) {
        _ if sources.is_empty() && !faults.is_empty() => {}
        Ok(dataset) if faults.is_empty() => return Ok(dataset),
        Ok(_) => {}
        Err(more) => faults.extend(more.into_list()),
    }
    Err(Faults::check(faults).expect_err("there are some"))
}

/// The same of sources, each with its weight and its limit.
///
/// # Errors
/// As [`read`].
pub fn read_sources(sources: &[Source], options: &Options, tokenizer: &Tokenizer) -> Result<Dataset, Faults> {
    read_apart(sources, options, tokenizer, None).map(|(dataset, _)| dataset)
}

/// The same, and apart from it the rows that are held out: with a `part`, about that part of the prompts, each with all rows
/// that ask it, once.
///
/// # Errors
/// As [`read`], and a part of which there is no prompt, or that leaves none.
pub fn read_apart(
    sources: &[Source],
    options: &Options,
    tokenizer: &Tokenizer,
    part: Option<f64>,
) -> Result<(Dataset, Option<Dataset>), Faults> {
    let mut reading = Reading::new(options, tokenizer)?;
    let mut held = part.map(HeldOut::new);
    for source in sources {
        let before = reading.examples.len();
        let mut left = source.limit.unwrap_or(usize::MAX);
        for path in &source.files {
            if left == 0 {
                break;
            }
            if let Some(fault) = kinds::unreadable(path) {
                reading.fault(fault);
                continue;
            }
            let name = open::shown(path);
            match open::rows(&name, path, options.names(), "cannot open the data file") {
                Ok(rows) => left -= reading.file(&name, source, rows, left),
                Err(fault) => reading.fault(fault),
            }
        }
        if let Some(held) = &mut held {
            held.take(&mut reading.examples, before);
        }
        reading.repeat(before, source.weight);
    }
    if let Some(held) = &held
        && reading.faults.count() == 0
    {
        reading.faults.extend(held.fault(reading.examples.is_empty()));
    }
    let mut dataset = reading.finish()?;
    let held = held.map(|held| held.finish(&mut dataset));
    Ok((dataset, held))
}

/// Reads rows from memory; `name` stands for the path in faults.
///
/// # Errors
/// As [`read`].
pub fn read_text(name: &str, text: &str, options: &Options, tokenizer: &Tokenizer) -> Result<Dataset, Faults> {
    let mut reading = Reading::new(options, tokenizer)?;
    let source = Source { name: name.into(), files: Vec::new(), weight: 1.0, limit: None };
    match Rows::new(name, Cursor::new(text)) {
        Ok(rows) => {
            let rows = rows.map(|row| row.map(|row| open::with_turns(row, options.names(), false)));
            reading.file(name, &source, Box::new(rows), usize::MAX);
        }
        Err(fault) => reading.fault(fault),
    }
    reading.finish()
}

struct Reading<'a> {
    options: &'a Options,
    context: Context<'a>,
    examples: Vec<Example>,
    groups: usize,
    report: Report,
    faults: Causes,
    /// Of the names of `data.ignore` those that no row has had.
    unmet: Vec<String>,
    /// The same of the columns that are renamed.
    unmet_renames: Vec<String>,
    /// The columns of the first row.
    columns: Vec<String>,
}

impl Dataset {
    /// The sources with the examples of each, in their order.
    pub fn sources(&self) -> Vec<(&str, Range<usize>)> {
        let of_file = |file: &str| self.report.files.iter().find(|known| known.file == file);
        let mut found: Vec<(&str, Range<usize>)> = Vec::new();
        let mut start = 0;
        for of_one in self.examples.chunk_by(|a, b| a.file == b.file) {
            let end = start + of_one.len();
            let name = of_file(&of_one[0].file).map_or("", |file| file.source.as_str());
            match found.last_mut() {
                Some((last, range)) if *last == name => range.end = end,
                _ => found.push((name, start..end)),
            }
            start = end;
        }
        found
    }
}

impl<'a> Reading<'a> {
    fn new(options: &'a Options, tokenizer: &'a Tokenizer) -> Result<Self, Faults> {
        check_rename(
            &options.rename,
            if options.way == Way::Recipe { "data.rename" } else { "--rename" },
            known_keys(),
        )?;
        refuse_names_of_chat(options)?;
        Ok(Self {
            options,
            context: Context { tokenizer, options, train_on: options.train_on },
            examples: Vec::new(),
            groups: 0,
            report: Report::of(options.way),
            faults: Causes::new(),
            unmet: options.ignore.clone(),
            unmet_renames: renamed_columns(options).map(str::to_owned).collect(),
            columns: Vec::new(),
        })
    }

    fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Reads at most `limit` rows; gives how many there were.
    fn file(&mut self, name: &str, source: &Source, mut rows: Opening<'_>, limit: usize) -> usize {
        let file: Arc<str> = name.into();
        let (before, faults) = (self.examples.len(), self.faults.count());
        let mut shape = None;
        let mut counted = 0;
        let mut open_rows = false;
        loop {
            // Noise draws from all rows of a file, so that they have to be there at once.
            let most = self.options.intent_noise.map_or(CHUNK, |_| usize::MAX).min(limit - counted);
            let chunk: Vec<_> = rows.by_ref().take(most).collect();
            if chunk.is_empty() {
                break;
            }
            counted += chunk.len();
            let mut good = Vec::with_capacity(chunk.len());
            for row in chunk {
                match row {
                    Ok(row) => good.push(row),
                    Err(fault) => self.fault(fault),
                }
            }
            if shape.is_none()
                && let Some(first) = good.first()
            {
                let row = Row::new(&first.object, self.options.names());
                if self.columns.is_empty() {
                    self.columns = row.columns().map(str::to_owned).collect();
                }
                match self.shape(&row) {
                    Ok(found) => shape = Some(found),
                    Err(fault) => {
                        self.fault(fault.at(first.at.place(name)));
                        return counted;
                    }
                }
            }
            self.unmet.retain(|name| !good.iter().any(|row| unread::meets(&row.object, name)));
            self.unmet_renames.retain(|column| !good.iter().any(|row| row.object.contains_key(column)));
            if let Some(shape) = shape {
                let names = self.options.names();
                let is_open = |row: &NumberedRow| Row::new(&row.object, names).flag("eos") == Ok(Some(false));
                open_rows |= shape.format == Format::Targets && good.iter().any(is_open);
                self.spoil(name, shape, &mut good);
                self.chunk(&file, shape, &good);
            }
        }
        self.report.rows += counted;
        if counted == 0 {
            self.fault(Fault::new("the file has no rows").at(Place::file(name)).hint("is this the right file?"));
        }
        if let Some(shape) = shape {
            self.report.files.push(FileReport {
                file: name.into(),
                source: source.name.clone(),
                format: shape.word.into(),
                rows: counted,
                weight: source.weight,
            });
            // Open ends are what these ask for.
            let without_response = matches!(self.options.train_on, TrainOn::Parts { response: false, .. });
            let open = without_response || open_rows || shape.format == Format::Targets && !self.options.end_token;
            if shape.stops && !open && self.faults.count() == faults {
                self.check_stops(name, before);
            }
        }
        counted
    }

    /// Takes the prompts from the example `before` on `weight` times: all of them as often as its whole part says, and of the
    /// rest evenly as many as its fraction says.
    fn repeat(&mut self, before: usize, weight: f64) {
        if weight == 1.0 {
            return;
        }
        let once = self.examples.split_off(before);
        let (whole, part) = (weight.trunc() as usize, weight.fract());
        // Each copy is a prompt of its own.
        let mut take = |prompt: &[Example]| {
            self.examples.extend(prompt.iter().map(|example| Example { group: self.groups, ..example.clone() }));
            self.groups += 1;
        };
        let prompts: Vec<&[Example]> = once.chunk_by(|a, b| a.group == b.group).collect();
        for _ in 0..whole {
            prompts.iter().for_each(|prompt| take(prompt));
        }
        let taken = |index: usize| (index as f64 * part).floor();
        prompts
            .iter()
            .enumerate()
            .filter(|(index, _)| taken(index + 1) > taken(*index))
            .for_each(|(_, prompt)| take(prompt));
    }

    /// The shape of a file with this first row.
    fn shape(&self, first: &Row<'_>) -> Result<&'static Shape, Fault> {
        let shape = Shape::of(self.options, first).map_err(|fault| {
            // A column that a row may have could stand in a later one: what is missing here is another.
            let absent = renamed_columns(self.options).find(|column| !first.columns().any(|name| name == *column));
            absent.map_or(fault, |column| unmet_rename(column, first.names().way, "the first row", first.columns()))
        })?;
        unread::refuse_ignored(shape, self.options)?;
        Ok(shape)
    }

    /// Puts noise into the intents of a file that has some.
    fn spoil(&self, name: &str, shape: &Shape, rows: &mut [NumberedRow]) {
        let Some(noise) = self.options.intent_noise.filter(|_| shape.format == Format::Intent) else { return };
        let column = self.options.rename.iter().find(|(_, key)| key == "intent");
        let column = column.map_or("intent", |(column, _)| column);
        let mut objects: Vec<_> = rows.iter_mut().map(|row| std::mem::take(&mut row.object)).collect();
        intent::spoil(&noise, name, &mut objects, column);
        for (row, object) in rows.iter_mut().zip(objects) {
            row.object = object;
        }
    }

    fn chunk(&mut self, file: &Arc<str>, shape: &Shape, rows: &[NumberedRow]) {
        let (options, context) = (self.options, &self.context);
        let read: Vec<Result<Outcomes, Fault>> =
            rows.par_iter().map(|row| outcomes(shape, row, options, context, &|| row.at.place(file))).collect();
        for (row, outcomes) in rows.iter().zip(read) {
            match outcomes {
                Ok(Outcomes { prompts, oddities, number, unread }) => {
                    // Those of the program are as they are meant to be.
                    let is_own = file.starts_with(builtin::PREFIX);
                    let odd = oddities.into_iter().filter(|(oddity, _)| !is_own || *oddity != Oddity::Untemplated);
                    self.report.notice_row(odd, file, row.at);
                    self.report.leave_unread(unread, file, row.at);
                    for outcomes in prompts {
                        for outcome in outcomes {
                            self.keep(file, row.at, outcome, number);
                        }
                        self.groups += 1;
                    }
                }
                Err(fault) => self.fault(fault.at(row.at.place(file))),
            }
        }
    }

    fn keep(&mut self, file: &Arc<str>, at: At, outcome: Outcome, number: Option<f64>) {
        let At { line, element } = at;
        match outcome {
            Outcome::Dropped(reason) => {
                self.report.dropped.push(Dropped { file: file.to_string(), line, element, reason });
            }
            Outcome::Kept { tokens: Tokens { ids, parts, learned, alone, .. }, weight, truncated } => {
                self.report.truncated += usize::from(truncated);
                let (file, group) = (file.clone(), self.groups);
                self.examples.push(Example { ids, parts, learned, weight, number, alone, group, file, line, element });
            }
        }
    }

    /// A model that never learns where to stop goes on for ever: such a file is refused.
    fn check_stops(&mut self, name: &str, before: usize) {
        let stops = self.context.tokenizer.stop_tokens();
        let learned = |example: &Example| {
            example.ids.iter().zip(&example.learned).any(|(id, learned)| *learned && stops.contains(id))
        };
        let examples = &self.examples[before..];
        let Some(last) = examples.last() else { return };
        if examples.iter().any(learned) {
            return;
        }
        let text = |ids: &[u32]| self.context.tokenizer.decode(ids, false).unwrap_or_default();
        let ending = last.learned_ids().next_back().map_or_else(String::new, |id| text(&[id]));
        let known: Vec<String> = stops.iter().map(|id| format!("`{}`", text(&[*id]))).collect();
        let fault = Fault::new("no row teaches the model where to stop").at(Place::file(name));
        let way = self.options.way;
        let drop = way.key("too_long = \"drop\"");
        self.fault(if known.is_empty() {
            fault.hint("the model names no end token: set `eos_token` in its `tokenizer_config.json`")
        } else if self.report.truncated > 0 {
            fault.hint(match self.options.model_limit {
                true => format!("every row is cut off before its end: use {drop}, or shorten the rows"),
                false => {
                    format!("every row is cut off before its end: raise {}, or use {drop}", way.key("max_length"))
                }
            })
        } else {
            let marks = self.context.tokenizer.template_marks_generation() && self.context.train_on != TrainOn::All;
            let learned_until = last.learned.iter().rposition(|learned| *learned).map_or(0, |at| at + 1);
            let stops_unlearned = last.ids.get(learned_until).is_some_and(|id| stops.contains(id));
            let key = match self.context.tokenizer.is_added(&ending) {
                is_added if marks && (stops_unlearned || !is_added) => {
                    "the end of a turn within the template's `{% generation %}` marks, of which alone is \
                     learned, in a template that "
                        .to_owned()
                        + &way.key("chat_template")
                        + " names"
                }
                true => way.key(&format!("end_of_turn = {ending:?}")),
                false => format!(
                    "{} to an added token that ends an answer, `eos_token_id` in its `generation_config.json`, or {}",
                    way.key("end_of_turn"),
                    way.key("train_on")
                ),
            };
            fault.hint(format!(
                "what is learned ends with {ending:?}, but the model stops at {}: set {key}",
                known.join(", ")
            ))
        });
    }

    fn finish(mut self) -> Result<Dataset, Faults> {
        if self.faults.count() == 0
            && let Some(column) = self.unmet_renames.first()
        {
            let fault = unmet_rename(column, self.options.way, "no row", self.columns.iter().map(String::as_str));
            self.faults.push(fault);
        }
        if self.faults.count() == 0 && self.examples.is_empty() {
            let fault = Fault::new(format!("no example is left of {} rows", self.report.rows));
            self.faults.push(match self.report.dropped.first() {
                Some(dropped) => fault.hint(format!("the first was dropped: {dropped}")),
                None => fault.hint("`data.train` names the files to read"),
            });
        }
        self.faults.check()?;
        self.report.count(&self.examples);
        self.report.unmet = self.unmet;
        let fingerprint = fingerprint(&self.examples);
        Ok(Dataset { examples: self.examples, report: self.report, fingerprint })
    }
}

/// The columns that are renamed to keys of rows; those of messages are looked for where the messages are read.
fn renamed_columns(options: &Options) -> impl Iterator<Item = &str> {
    let of_rows = options.rename.iter().filter(|(_, key)| !MESSAGE_KEYS.contains(&key.as_str()));
    of_rows.map(|(column, _)| column.as_str())
}

/// `holder` is `the first row` or `no row`.
fn unmet_rename<'c>(column: &str, way: Way, holder: &str, columns: impl Iterator<Item = &'c str> + Clone) -> Fault {
    let has = if holder == "no row" { "has" } else { "does not have" };
    let fault = Fault::new(format!("{} names the column `{column}`, which {holder} {has}", way.key("rename")));
    match nearest(column, columns.clone()) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault.hint(format!("the first row has {}", listed(columns))),
    }
}

pub(crate) fn fingerprint(examples: &[Example]) -> String {
    let mut hash = Sha256::new();
    for example in examples {
        hash.update((example.ids.len() as u64).to_le_bytes());
        for ((id, part), learned) in example.ids.iter().zip(&example.parts).zip(&example.learned) {
            hash.update(id.to_le_bytes());
            hash.update([*part as u8, u8::from(*learned)]);
        }
        hash.update(example.weight.to_bits().to_le_bytes());
        // Where none is read, the fingerprint is that of versions that read none.
        if let Some(number) = example.number {
            hash.update(number.to_bits().to_le_bytes());
        }
        hash.update((example.group as u64).to_le_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
