//! `trainer eval --samples`: what is counted of samples that are there already.

use datasets::{Sampled, Samples, read_samples};
use faults::{Fault, Faults};
use serde_json::{Map, json};

use super::Arguments;
use super::lines::{self, Found, Origin};
use crate::command::argument;

/// The lines of each file.
pub(super) fn run(arguments: &Arguments) -> Result<(), Faults> {
    let mut files: Vec<Samples> = Vec::with_capacity(arguments.samples.len());
    let read_too: Vec<&str> = ["targets", "eos"].into_iter().chain(arguments.exact_match.as_deref()).collect();
    for file in &arguments.samples {
        files.push(read_samples(file, &read_too)?);
    }
    let has_texts = |prompt: &Sampled| prompt.texts.is_some();
    for samples in &files {
        // A judge reads all that a row has.
        if arguments.judge.is_none() {
            samples.notices.iter().for_each(|notice| tracing::warn!("{notice}"));
        }
        if arguments.encoder.is_some() && !samples.prompts.iter().all(has_texts) {
            let fault = Fault::new("`--encoder` has nothing to judge: the samples have no `text`");
            return Err(fault.at(argument("encoder")).hint("leave it out").into());
        }
    }
    let mut tools = Found::of(arguments)?.load(arguments)?;
    for (path, Samples { mut prompts, .. }) in arguments.samples.iter().zip(files) {
        let file = json!(path.display().to_string());
        let head = |_: usize, prompt: &Sampled| {
            let mut head = Map::new();
            head.insert("file".into(), file.clone());
            head.insert(prompt.key.into(), prompt.name.clone());
            head
        };
        let origin = Origin { path, model: None, head: Map::from_iter([("file".into(), file.clone())]) };
        lines::write(&mut prompts, &origin, &head, &mut tools, arguments)?;
    }
    Ok(())
}
