//! The lines of samples, wherever they come from: of a file, or drawn on the spot.

use std::path::Path;

use datasets::{Reference, Sampled};
use faults::Faults;
use serde_json::{Map, Value};

use super::Arguments;
use super::counted::{Counted, Counting, refuse_mixtures, tell_of_ceilings};
use super::encoder::{Located, TextEncoder};
use super::judge::Judge;
use super::novelty;
use super::references::References;
use crate::command::print;

/// What samples are measured with beside their own rows.
pub(super) struct Tools {
    pub encoder: Option<TextEncoder>,
    pub judge: Option<Judge>,
    references: Option<References>,
}

/// The same before anything is loaded.
pub(super) struct Found {
    encoder: Option<Located>,
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
        Ok(Self { encoder, references })
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
        Ok(Tools { encoder, references, judge: Judge::of(arguments) })
    }
}

/// A line for each prompt, which begins as `head` says, the mean over the prompts, and with references a line about both.
///
/// # Errors
/// Samples of different kinds, a judge that fails, or texts that cannot be embedded.
pub(super) fn write(
    sampled: &mut [Sampled],
    origin: &Origin<'_>,
    head: &dyn Fn(&Sampled) -> Map<String, Value>,
    tools: &mut Tools,
    arguments: &Arguments,
) -> Result<(), Faults> {
    let without = tools.judge.as_mut().map(|judge| judge.judge(sampled)).transpose()?;
    refuse_mixtures(sampled)?;
    let counting = Counting::new(sampled, arguments, tools.encoder.as_ref(), without)?;
    let (mut lines, mut classes) = (Vec::with_capacity(sampled.len()), Vec::with_capacity(sampled.len()));
    for (index, prompt) in sampled.iter().enumerate() {
        let Counted { line, classes: of_prompt } = counting.measure(index, prompt);
        let mut whole = head(prompt);
        whole.extend(line.clone());
        print(&format!("{}\n", Value::Object(whole)))?;
        lines.push(line);
        classes.push(of_prompt);
    }
    let mut mean = origin.head.clone();
    mean.extend(counting.mean(&lines));
    print(&format!("{}\n", Value::Object(mean)))?;
    tell_of_ceilings(&lines);
    if let (Some(references), Some(encoder), Some(embedded)) = (&tools.references, &tools.encoder, counting.embedded())
    {
        let mut line = origin.head.clone();
        line.extend(references.compare(sampled, embedded, encoder, origin.path)?);
        print(&format!("{}\n", Value::Object(line)))?;
    }
    if let Some(folder) = &arguments.novelty_bench {
        novelty::write(folder, sampled, &classes, counting.knows_meanings(), origin)?;
    }
    Ok(())
}
