//! The lines of samples, wherever they come from: of a file, or drawn on the spot.

use std::path::Path;

use datasets::{Answers, Reference, Sampled};
use faults::Faults;
use faults::json::to_line;
use serde_json::{Map, Value};

use super::Arguments;
use super::chosen;
use super::counted::{Counted, Counting, refuse_mixtures, tell_of_ceilings};
use super::encoder::{Located, TextEncoder};
use super::exact_match::ExactMatch;
use super::judge::Judge;
use super::novelty;
use super::references::References;
use crate::command::print;
use crate::evaluation::KnownTargets;

/// What samples are measured with beside their own rows.
pub(super) struct Tools {
    /// `--encoder`: embeddings of texts, for metrics of meanings.
    pub encoder: Option<TextEncoder>,
    /// `--judge`: what says which samples are right.
    pub judge: Option<Judge>,
    exact_match: Option<ExactMatch>,
    references: Option<References>,
}

/// The same before anything is loaded.
pub(super) struct Found {
    encoder: Option<Located>,
    exact_match: Option<ExactMatch>,
    references: Option<Vec<Reference>>,
}

/// Where samples come from.
pub(super) struct Origin<'a> {
    /// What a fault about all of them points at.
    pub path: &'a Path,
    /// The model that drew them, where that is known.
    pub model: Option<&'a str>,
    /// What the lines about all of them say first.
    pub head: Map<String, Value>,
}

impl Found {
    /// Looks at all that is named, so that faults come before the work.
    ///
    /// # Errors
    /// References that cannot be read, or an encoder that cannot be found.
    pub(super) fn of(arguments: &Arguments) -> Result<Self, Faults> {
        let references = References::read(arguments)?;
        let encoder = arguments.encoder.as_deref().map(Located::find).transpose()?;
        novelty::check(arguments)?;
        Ok(Self { encoder, exact_match: ExactMatch::of(arguments)?, references })
    }

    /// Loads what was found.
    ///
    /// # Errors
    /// An encoder that cannot be loaded, or references that it cannot embed.
    pub(super) fn load(self, arguments: &Arguments) -> Result<Tools, Faults> {
        let encoder = TextEncoder::of(self.encoder, arguments)?;
        let references = match (self.references, &encoder) {
            (Some(all), Some(encoder)) => Some(References::new(all, encoder, arguments)?),
            _ => None,
        };
        Ok(Tools { encoder, references, judge: Judge::of(arguments), exact_match: self.exact_match })
    }
}

/// A line for each prompt, which begins as `head` says of it by its place among them, the mean over the prompts, and with references a line about both.
///
/// # Errors
/// Samples of different kinds, a judge that fails, or texts that cannot be embedded.
pub(super) fn write(
    sampled: &mut [Sampled],
    origin: &Origin<'_>,
    head: &dyn Fn(usize, &Sampled) -> Map<String, Value>,
    tools: &mut Tools,
    arguments: &Arguments,
) -> Result<(), Faults> {
    let without = tools.judge.as_mut().map(|judge| judge.judge(sampled)).transpose()?;
    match &tools.exact_match {
        Some(exact_match) => exact_match.judge(sampled)?,
        None if tools.judge.is_none() => find_targets(sampled),
        None => {}
    }
    refuse_mixtures(sampled)?;
    let counting = Counting::new(sampled, arguments, tools.encoder.as_ref(), without)?;
    let (mut lines, mut classes) = (Vec::with_capacity(sampled.len()), Vec::with_capacity(sampled.len()));
    for (index, prompt) in sampled.iter().enumerate() {
        let Counted { line, classes: of_prompt } = counting.measure(index, prompt);
        let mut whole = head(index, prompt);
        whole.extend(line.clone());
        print(&format!("{}\n", to_line(&Value::Object(whole))))?;
        lines.push(line);
        classes.push(of_prompt);
    }
    let mut mean = origin.head.clone();
    mean.extend(counting.mean(&lines));
    print(&format!("{}\n", to_line(&Value::Object(mean))))?;
    tell_of_ceilings(&lines);
    chosen::tell_of_missing(&lines, arguments);
    if let (Some(references), Some(encoder), Some(embedded)) = (&tools.references, &tools.encoder, counting.embedded())
    {
        let mut line = origin.head.clone();
        line.extend(references.compare(sampled, embedded, encoder, origin.path)?);
        print(&format!("{}\n", to_line(&Value::Object(line))))?;
    }
    if let Some(folder) = &arguments.novelty_bench {
        novelty::write(folder, sampled, &classes, counting.knows_meanings(), origin.model)?;
    }
    Ok(())
}

/// Says which samples are right by the `targets` of their rows, where all have them and nothing else says so.
fn find_targets(sampled: &mut [Sampled]) {
    if sampled.iter().any(|prompt| prompt.correct.is_some() || prompt.texts.is_none()) {
        return;
    }
    let found: Vec<Option<Vec<bool>>> = sampled.iter().map(verdicts).collect();
    let without = found.iter().position(Option::is_none);
    let verdicts: Vec<Vec<bool>> = found.into_iter().flatten().collect();
    if verdicts.is_empty() {
        return;
    }
    if let Some(without) = without {
        let (some, of, place) = (verdicts.len(), sampled.len(), &sampled[without].place);
        tracing::warn!("{some} of {of} prompts have `targets`, and {place} has none: what is right is not counted");
        return;
    }
    for (prompt, verdicts) in sampled.iter_mut().zip(verdicts) {
        prompt.correct = Some(verdicts);
    }
}

/// Which samples of a prompt are right by their own rows; `None` where one of them has no `targets`.
fn verdicts(prompt: &Sampled) -> Option<Vec<bool>> {
    // Rows of one prompt mostly have the same targets, which may be many.
    let mut last: Option<(Answers<'_>, KnownTargets)> = None;
    let texts = prompt.texts.as_ref()?;
    let mut found = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let answers = prompt.answers(index)?;
        let targets = match last.take().filter(|(known, _)| *known == answers) {
            Some((_, targets)) => targets,
            None => KnownTargets::new(answers.texts.iter().copied(), answers.are_open),
        };
        found.push(targets.find(text, prompt.has_ended(index)).is_some());
        last = Some((answers, targets));
    }
    Some(found)
}
