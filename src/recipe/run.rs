//! `[checkpoint]`, `[eval]` and `[output]`: what a run keeps, how often it looks at itself, and where it lives.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use faults::Section;

use super::data::Files;
use super::{Positive, positive};
use crate::engine::best::BestBy;

/// `[checkpoint]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Steps between checkpoints; `None` for one at the end alone.
    pub every: Option<NonZeroUsize>,
    /// How many of the latest are kept.
    pub keep: usize,
    /// Whether the best one is kept beside them.
    pub keep_best: bool,
    /// The number of the evaluations that says which is the best.
    pub best_by: BestBy,
    /// Evaluations in a row without a better number after which the run ends.
    pub patience: Option<usize>,
}

/// `[eval]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Eval {
    /// Steps between evaluations; `None` for one at the end alone (or none at all without `data.eval`).
    pub every: Option<NonZeroUsize>,
    /// What samples are drawn of at each evaluation, if anything.
    pub prompts: Option<Prompts>,
}

/// The prompts of `[eval]`, and how their samples are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompts {
    /// Files of prompts; of rows with targets the exact numbers are computed, too.
    pub files: Vec<String>,
    /// Samples of each prompt at each evaluation; 0 for the exact numbers alone.
    pub samples: usize,
    /// Divides the logits.
    pub temperature: f64,
    /// At each of these the exact numbers are computed, too; `None` for the usual ones.
    pub temperatures: Option<Vec<f64>>,
    /// Most prompts that are measured, spread evenly over the files; `None` for all.
    pub max_prompts: Option<usize>,
    /// Most tokens of a sample.
    pub max_tokens: usize,
}

/// `[output]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The run's directory; `runs/` and the recipe's file name without its ending unless written.
    pub dir: PathBuf,
}

pub(super) fn read_checkpoint(
    section: &mut Section,
    has_eval: bool,
    last_step: Option<NonZeroUsize>,
    warnings: &mut Vec<String>,
) -> Checkpoint {
    let every = NonZeroUsize::new(section.value("every", 100));
    warnings.extend(warn_of_no_effect(section, last_step, every));
    let keep = positive(section, "keep", 3);
    let keep_best = section.value("keep_best", has_eval);
    let message = "`checkpoint.keep_best` needs evaluation data to choose by";
    section.check("keep_best", has_eval || !keep_best, message, "write `data.eval`, or remove it");
    let best_by: Option<BestBy> = section.optional("best_by");
    let patience = section.optional::<Positive>("patience").map(|patience| patience.0);
    for (key, is_written) in [("best_by", best_by.is_some()), ("patience", patience.is_some())] {
        let message = format!("`checkpoint.{key}` needs evaluation data to go by");
        section.check(key, has_eval || !is_written, message, "write `data.eval`, or remove it");
    }
    Checkpoint { every, keep, keep_best, best_by: best_by.unwrap_or_default(), patience }
}

/// Evaluates as often as checkpoints are written unless told otherwise, so that each can be the best.
pub(super) fn read_eval(
    section: &mut Section,
    checkpoint: &Checkpoint,
    has_eval: bool,
    last_step: Option<NonZeroUsize>,
    warnings: &mut Vec<String>,
) -> Eval {
    if !has_eval {
        let written = section.optional::<usize>("every").is_some_and(|every| every > 0);
        section.check("every", !written, "`eval.every` has no effect without `data.eval`", "write `data.eval`");
        for key in PROMPTS {
            let message = format!("`eval.{key}` has no effect without `data.eval`: there are no evaluations");
            section.check(key, !section.has(key), message, "write `data.eval`");
            section.forget_unless(key, &false.into());
        }
        return Eval { every: None, prompts: None };
    }
    let every = NonZeroUsize::new(section.value("every", checkpoint.every.map_or(0, NonZeroUsize::get)));
    warnings.extend(warn_of_no_effect(section, last_step, every));
    Eval { every, prompts: read_prompts(section) }
}

/// The keys of `[eval]` about prompts.
const PROMPTS: [&str; 6] = ["prompts", "samples", "temperature", "temperatures", "max_prompts", "max_tokens"];

fn read_prompts(section: &mut Section) -> Option<Prompts> {
    let files = section.optional::<Files>("prompts").map(|files| files.0).unwrap_or_default();
    if files.is_empty() {
        for key in &PROMPTS[1..] {
            let message = format!("`eval.{key}` has no effect without `eval.prompts`");
            section.check(key, !section.has(key), message, "name a file of prompts there, or remove it");
            section.forget_unless(key, &false.into());
        }
        return None;
    }
    let samples = section.value("samples", 8);
    let temperature = section.value("temperature", 1.0);
    let possible = |temperature: &f64| temperature.is_finite() && *temperature >= 0.0;
    let hint = "1 is the model's own";
    section.check("temperature", possible(&temperature), "`eval.temperature` must be 0 or more", hint);
    let temperatures: Option<Vec<f64>> = section.optional("temperatures");
    let are_possible = temperatures.as_ref().is_none_or(|written| !written.is_empty() && written.iter().all(possible));
    section.check("temperatures", are_possible, "`eval.temperatures` must be numbers from 0 up", hint);
    let max_prompts = section.optional::<Positive>("max_prompts").map(|prompts| prompts.0);
    Some(Prompts {
        files,
        samples,
        temperature,
        temperatures,
        max_prompts,
        max_tokens: positive(section, "max_tokens", 64),
    })
}

pub(super) fn read_output(section: &mut Section, default: &str) -> Output {
    let dir = section.value("dir", default.to_string());
    section.check("dir", !dir.is_empty(), "`output.dir` is empty", format!("default: {default}"));
    let is_of_shell = dir == "~" || dir.starts_with("~/");
    let hint = "write the whole path of your home; a folder of that name is `./~`";
    section.check("dir", !is_of_shell, "`output.dir`: `~` is expanded by a shell, and not here", hint);
    Output { dir: dir.into() }
}

/// Forgets a key of evaluation, where there is to be none, with a warning if it asked for more than `nothing`.
pub(super) fn lay_aside(section: &mut Section, key: &str, nothing: impl Into<toml::Value>) -> Option<String> {
    let forgotten = section.forget_unless(key, &nothing.into());
    forgotten.then(|| format!("`{}` has no effect: `data.eval` is empty", section.full(key)))
}

/// A setting that is no mistake and yet changes nothing: the run ends before `every`.
fn warn_of_no_effect(
    section: &Section,
    last_step: Option<NonZeroUsize>,
    every: Option<NonZeroUsize>,
) -> Option<String> {
    let (every, last_step) = (every?, last_step?);
    let full = section.full("every");
    let void = section.has("every") && every > last_step;
    void.then(|| format!("`{full}` = {every} has no effect: the run ends at step {last_step}"))
}
