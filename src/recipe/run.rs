//! `[checkpoint]`, `[eval]` and `[output]`: what a run keeps, how often it looks at itself, and where it lives.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use faults::Section;

use super::positive;

/// `[checkpoint]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Steps between checkpoints; `None` for one at the end alone.
    pub every: Option<NonZeroUsize>,
    /// How many of the latest are kept.
    pub keep: usize,
    /// Whether the one with the lowest evaluation loss is kept beside them.
    pub keep_best: bool,
}

/// `[eval]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eval {
    /// Steps between evaluations; `None` for one at the end alone (or none at all without `data.eval`).
    pub every: Option<NonZeroUsize>,
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
    Checkpoint { every, keep, keep_best }
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
        return Eval { every: None };
    }
    let every = NonZeroUsize::new(section.value("every", checkpoint.every.map_or(0, NonZeroUsize::get)));
    warnings.extend(warn_of_no_effect(section, last_step, every));
    Eval { every }
}

pub(super) fn read_output(section: &mut Section, default: &str) -> Output {
    let dir = section.value("dir", default.to_string());
    section.check("dir", !dir.is_empty(), "`output.dir` is empty", format!("default: {default}"));
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
