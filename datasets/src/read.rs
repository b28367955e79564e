//! Files of rows become a data set: every good row an example, every bad row a fault with its line.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use faults::{Causes, Fault, Faults, Place, nearest};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::builtin;
use crate::draft::{Draft, Example, Tokens};
use crate::kinds;
use crate::lines::{At, NumberedRow, Rows};
use crate::notices::{self, Oddity};
use crate::options::{Options, TooLong, TrainOn};
use crate::report::{Dropped, FileReport, Report};
use crate::row::{Row, listed};
use crate::shapes::intent;
use crate::shapes::targets::{self, PrefixFree};
use crate::shapes::{Context, Format, MESSAGE_KEYS, Shape, known_keys};
use crate::tokenizer::Tokenizer;
use crate::unread;

/// Rows tokenised at a time: enough to keep all cores busy, few enough to hold.
const CHUNK: usize = 2048;

/// Examples in the order of the files, and what was counted while they were read.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Every example.
    pub examples: Vec<Example>,
    /// Totals, lengths, what was dropped.
    pub report: Report,
    /// SHA-256 in hexadecimal over ids, masks, weights and groups: what must be equal for a run to be resumed.
    pub fingerprint: String,
}

/// Reads files of rows; `builtin:NAME` stands for the embedded data of that name.
///
/// # Errors
/// What is wrong with rows, each reason once as `path:line: reason` with the lines of the first twenty and their count, a
/// file that is none of rows or cannot be read, no rows at all, or rows from which the model would never learn to stop.
pub fn read(paths: &[PathBuf], options: &Options, tokenizer: &Tokenizer) -> Result<Dataset, Faults> {
    let mut reading = Reading::new(options, tokenizer)?;
    for path in paths {
        let name = path.display().to_string();
        if let Some(fault) = kinds::unreadable(path) {
            reading.fault(fault);
            continue;
        }
        if name.starts_with(builtin::PREFIX) {
            match builtin::rows(&name) {
                Ok(text) => reading.file(&name, text.as_bytes()),
                Err(fault) => reading.fault(fault.at(Place::file(path))),
            }
            continue;
        }
        match std::fs::File::open(path) {
            Ok(file) => reading.file(&name, std::io::BufReader::with_capacity(1 << 20, file)),
            Err(error) => reading.fault(Fault::of_file("cannot open the data file", path, &error)),
        }
    }
    reading.finish()
}

/// Reads rows from memory; `name` stands for the path in faults.
///
/// # Errors
/// As [`read`].
pub fn read_text(name: &str, text: &str, options: &Options, tokenizer: &Tokenizer) -> Result<Dataset, Faults> {
    let mut reading = Reading::new(options, tokenizer)?;
    reading.file(name, text.as_bytes());
    reading.finish()
}

/// Refuses keys of `rename`, the recipe's or that of the command line, that no row has.
pub(crate) fn check_rename(
    rename: &[(String, String)],
    name: &str,
    known: impl Iterator<Item = &'static str> + Clone,
) -> Result<(), Faults> {
    let mut faults = Vec::new();
    for (column, key) in rename {
        if !known.clone().any(|known| known == key) {
            let fault = Fault::new(format!("`{name}` gives `{column}` the unknown key `{key}`"));
            faults.push(match nearest(key, known.clone()) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault.hint("write the file's column first: `question = \"prompt\"`"),
            });
        }
        if rename.iter().filter(|(_, other)| other == key).count() > 1 {
            let message = format!("`{name}` gives two columns the key `{key}`");
            faults.push(Fault::new(message).hint("each key takes one column"));
        }
    }
    Faults::check(faults)
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
}

/// What became of one answer of one row.
enum Outcome {
    Kept { tokens: Tokens, weight: f64, truncated: bool },
    Dropped(String),
}

/// What became of one row.
struct Outcomes {
    /// Of each prompt, its answers.
    prompts: Vec<Vec<Outcome>>,
    oddities: Vec<(Oddity, String)>,
    /// Names that nothing reads.
    unread: Vec<String>,
}

impl<'a> Reading<'a> {
    fn new(options: &'a Options, tokenizer: &'a Tokenizer) -> Result<Self, Faults> {
        check_rename(&options.rename, if options.of_recipe { "data.rename" } else { "--rename" }, known_keys())?;
        Ok(Self {
            options,
            context: Context { tokenizer, options, train_on: options.train_on },
            examples: Vec::new(),
            groups: 0,
            report: Report::default(),
            faults: Causes::new(),
            unmet: options.ignore.clone(),
        })
    }

    fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    fn file(&mut self, name: &str, reader: impl BufRead) {
        let file: Arc<str> = name.into();
        let mut rows = match Rows::new(name, reader) {
            Ok(rows) => rows,
            Err(fault) => return self.fault(fault),
        };
        let (before, faults) = (self.examples.len(), self.faults.count());
        let mut shape = None;
        let mut counted = 0;
        let mut open_rows = false;
        loop {
            // Noise draws from all rows of a file, so that they have to be there at once.
            let chunk: Vec<_> = rows.by_ref().take(self.options.intent_noise.map_or(CHUNK, |_| usize::MAX)).collect();
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
                match self.shape(&Row::new(&first.object, self.options.names())) {
                    Ok(found) => shape = Some(found),
                    Err(fault) => return self.fault(fault.at(first.at.place(name))),
                }
            }
            self.unmet.retain(|name| !good.iter().any(|row| unread::meets(&row.object, name)));
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
            self.report.files.push(FileReport { file: name.into(), format: shape.word.into(), rows: counted });
            // Open ends are what these ask for.
            let without_response = matches!(self.options.train_on, TrainOn::Parts { response: false, .. });
            let open = without_response || open_rows || shape.format == Format::Targets && !self.options.end_token;
            if shape.stops && !open && self.faults.count() == faults {
                self.check_stops(name, before);
            }
        }
    }

    /// The shape of a file with this first row, which must have the columns that are renamed.
    fn shape(&self, first: &Row<'_>) -> Result<&'static Shape, Fault> {
        let of_rows = self.options.rename.iter().filter(|(_, key)| !MESSAGE_KEYS.contains(&key.as_str()));
        for (column, _) in of_rows {
            if !first.columns().any(|name| name == column) {
                let fault =
                    Fault::new(format!("`data.rename` names the column `{column}`, which the file does not have"));
                return Err(match nearest(column, first.columns()) {
                    Some(near) => fault.hint(format!("did you mean `{near}`?")),
                    None => fault.hint(format!("the row has {}", listed(first.columns()))),
                });
            }
        }
        let shape = Shape::of(self.options, first)?;
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
                Ok(Outcomes { prompts, oddities, unread }) => {
                    // Those of the program are as they are meant to be.
                    let is_own = file.starts_with(builtin::PREFIX);
                    for (oddity, what) in
                        oddities.into_iter().filter(|(oddity, _)| !is_own || *oddity != Oddity::Untemplated)
                    {
                        self.report.notice(oddity, what, file, row.at);
                    }
                    self.report.leave_unread(unread, file, row.at);
                    for outcomes in prompts {
                        for outcome in outcomes {
                            self.keep(file, row.at, outcome);
                        }
                        self.groups += 1;
                    }
                }
                Err(fault) => self.fault(fault.at(row.at.place(file))),
            }
        }
    }

    fn keep(&mut self, file: &Arc<str>, at: At, outcome: Outcome) {
        let At { line, element } = at;
        match outcome {
            Outcome::Dropped(reason) => {
                self.report.dropped.push(Dropped { file: file.to_string(), line, element, reason });
            }
            Outcome::Kept { tokens: Tokens { ids, parts, learned, alone, .. }, weight, truncated } => {
                self.report.truncated += usize::from(truncated);
                let (file, group) = (file.clone(), self.groups);
                self.examples.push(Example { ids, parts, learned, weight, alone, group, file, line, element });
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
        self.fault(if known.is_empty() {
            fault.hint("the model names no end token: set `eos_token` in its `tokenizer_config.json`")
        } else if self.report.truncated > 0 {
            fault.hint(match self.options.model_limit {
                true => "every row is cut off before its end: use `data.too_long = \"drop\"`, or shorten the rows",
                false => {
                    "every row is cut off before its end: raise `data.max_length`, or use `data.too_long = \"drop\"`"
                }
            })
        } else {
            let marks = self.context.tokenizer.template_marks_generation() && self.context.train_on != TrainOn::All;
            let key = match self.context.tokenizer.is_added(&ending) {
                false if marks => {
                    "the end of a turn within the template's `{% generation %}` marks, of which alone is \
                                   learned, in a template that `data.chat_template` names"
                        .to_owned()
                }
                true => format!("`data.end_of_turn = {ending:?}`"),
                false => "`eos_token_id` in its `generation_config.json`, or `data.train_on`".to_owned(),
            };
            fault.hint(format!(
                "what is learned ends with {ending:?}, but the model stops at {}: set {key}",
                known.join(", ")
            ))
        });
    }

    fn finish(mut self) -> Result<Dataset, Faults> {
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

/// The examples of each prompt of one row, no longer than allowed; `place` is the row's, for warnings.
fn outcomes(
    shape: &Shape,
    row: &NumberedRow,
    options: &Options,
    context: &Context<'_>,
    place: &dyn Fn() -> Place,
) -> Result<Outcomes, Fault> {
    let oddities = &row.oddities;
    let row = &Row::new(&row.object, options.names());
    unread::refuse_oddities(oddities, row, |key| shape.reads(key, options))?;
    let limit = options.max_length;
    let ends = row.flag("eos").ok().flatten().unwrap_or(options.end_token);
    let outcome = |draft: &Draft| {
        let mut tokens = draft.tokenise(context.tokenizer)?;
        let (length, weight) = (tokens.ids.len(), draft.weight);
        if length <= limit {
            return Ok(Outcome::Kept { tokens, weight, truncated: false });
        }
        match options.too_long {
            TooLong::Error if options.model_limit => Err(Fault::new(format!(
                "the row has {length} tokens, more than the model's {limit} positions"
            ))
            .hint(match options.of_recipe {
                true => "shorten it, or set `data.too_long` to \"drop\" or \"truncate\"",
                false => "shorten it, or take it out",
            })),
            TooLong::Error => Err(Fault::new(format!("the row has {length} tokens, more than {limit}"))
                .hint("raise `data.max_length`, or set `data.too_long` to \"drop\" or \"truncate\"")),
            TooLong::Drop => Ok(Outcome::Dropped(format!("{length} tokens, more than {limit}"))),
            TooLong::Truncate => {
                tokens.truncate(limit);
                Ok(if tokens.learned.contains(&true) {
                    Outcome::Kept { tokens, weight, truncated: true }
                } else {
                    Outcome::Dropped(format!("nothing to learn in the first {limit} of {length} tokens"))
                })
            }
        }
    };
    let prompt = |drafts: Vec<Draft>| {
        let outcomes: Vec<Outcome> = drafts.iter().map(outcome).collect::<Result<_, _>>()?;
        if shape.format == Format::Targets {
            whole_distribution(&drafts, outcomes, options, place)
        } else {
            Ok(outcomes)
        }
    };
    let drafts = shape.drafts(row, context)?;
    let mut oddities = notices::of_row(row, shape, options, context.tokenizer);
    oddities.extend(drafts.iter().flatten().flat_map(|draft| draft.oddities.iter().cloned()));
    let prompts: Vec<Vec<Outcome>> = drafts.into_iter().map(prompt).collect::<Result<_, _>>()?;
    let kept = || {
        prompts.iter().flatten().filter_map(|outcome| match outcome {
            Outcome::Kept { tokens, truncated, .. } => Some((tokens, *truncated)),
            Outcome::Dropped(_) => None,
        })
    };
    let stops = context.tokenizer.stop_tokens();
    let is_open = |tokens: &Tokens| tokens.ids.last().is_none_or(|last| !stops.contains(last));
    if kept().any(|(tokens, _)| tokens.seam) {
        oddities.push((Oddity::Seam, String::new()));
    }
    if shape.format == Format::Targets && ends && kept().any(|(tokens, truncated)| truncated && is_open(tokens)) {
        oddities.push((Oddity::CutTarget, String::new()));
    }
    // A row counts once for each oddity, be it in several of its turns.
    let mut told = Vec::new();
    oddities.retain(|(oddity, _)| {
        !told.contains(oddity) && {
            told.push(*oddity);
            true
        }
    });
    let unread = unread::unread(row, shape, options, context.tokenizer);
    Ok(Outcomes { prompts, oddities, unread })
}

/// Targets are a distribution together: none is dropped alone, all are learned from one place on, and none begins another.
fn whole_distribution(
    drafts: &[Draft],
    mut outcomes: Vec<Outcome>,
    options: &Options,
    place: &dyn Fn() -> Place,
) -> Result<Vec<Outcome>, Fault> {
    let mut dropped = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Dropped(reason) => Some(reason.clone()),
        Outcome::Kept { .. } => None,
    });
    if let Some(reason) = dropped.next() {
        return Ok(vec![Outcome::Dropped(format!("a target has {reason}"))]);
    }
    let mut kept: Vec<&mut Tokens> = outcomes
        .iter_mut()
        .filter_map(|outcome| match outcome {
            Outcome::Kept { tokens, .. } => Some(tokens),
            Outcome::Dropped(_) => None,
        })
        .collect();
    targets::learn_from_one_place(&mut kept)?;
    if options.prefix_free == PrefixFree::Off {
        return Ok(outcomes);
    }
    let names: Vec<String> = drafts.iter().map(targets::name).collect();
    let tokens = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Kept { tokens, .. } => Some(tokens),
        Outcome::Dropped(_) => None,
    });
    let is_refused = options.prefix_free == PrefixFree::Error;
    match targets::check(&names, &tokens.collect::<Vec<_>>(), is_refused) {
        Err(fault) if is_refused => Err(fault),
        Err(fault) => {
            tracing::warn!("{}", fault.at(place()).line());
            Ok(outcomes)
        }
        Ok(()) => Ok(outcomes),
    }
}

fn fingerprint(examples: &[Example]) -> String {
    let mut hash = Sha256::new();
    for example in examples {
        hash.update((example.ids.len() as u64).to_le_bytes());
        for ((id, part), learned) in example.ids.iter().zip(&example.parts).zip(&example.learned) {
            hash.update(id.to_le_bytes());
            hash.update([*part as u8, u8::from(*learned)]);
        }
        hash.update(example.weight.to_bits().to_le_bytes());
        hash.update((example.group as u64).to_le_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
