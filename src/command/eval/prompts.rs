//! `trainer eval MODEL.. --prompts FILE`: samples drawn on the spot, counted as those of files are.

use std::path::PathBuf;

use datasets::{Asking, PromptRow, Prompts, Sampled, Way, read_prompts};
use faults::{Causes, Fault, Faults, Place};
use metrics::temperature::Sampler;
use serde_json::{Map, Value, json};

use super::lines::{self, Origin, Tools};
use super::{Arguments, Measuring};
use crate::command::sample::prompt_json;
use crate::evaluation::lines::beginning;
use crate::report::progress::Counter;
use crate::sampling::{DecoderRows, Sample, Settings, question, sample_all};

/// Reads the prompts of each file.
///
/// # Errors
/// Files that cannot be read, and rows without a question.
pub(super) fn read(arguments: &Arguments) -> Result<Vec<Prompts>, Faults> {
    let Arguments { rename, chat, .. } = arguments;
    let asking = Asking { rename, chat: *chat, way: Way::Flags, ..Asking::default() };
    let read = |file: &PathBuf| read_prompts(file, asking);
    arguments.prompts.iter().map(read).collect()
}

/// The lines of one model: for each temperature those of the prompts of all files, then the mean over them.
pub(super) fn run(measuring: &Measuring<'_>, files: &[Prompts], tools: &mut Tools) -> Result<(), Faults> {
    let arguments = measuring.arguments;
    let names: Vec<String> = arguments.prompts.iter().map(|path| path.display().to_string()).collect();
    for notice in files.iter().flat_map(|file| file.notices(&measuring.model.tokenizer)) {
        tracing::warn!("{notice}");
    }
    let asked = files.iter().map(|file| encoded(measuring, &file.rows)).collect::<Result<Vec<_>, Faults>>()?;
    for sampler in &measuring.samplers {
        // Of each file what `trainer sample` draws of it.
        let (mut sampled, mut of_files) = (Vec::new(), Vec::new());
        for (file, (Prompts { rows, .. }, asked)) in files.iter().zip(&asked).enumerate() {
            sampled.extend(draw(measuring, rows, asked, sampler)?);
            of_files.resize(sampled.len(), file);
        }
        let place = |file: Value, line: Value, prompt: Value| [("file", file), ("line", line), ("prompt", prompt)];
        let head = |index: usize, prompt: &Sampled| {
            let asked = prompt.prompt.clone().unwrap_or_else(|| prompt.name.clone());
            let line = match &prompt.place {
                Place::Line { line, .. } | Place::Element { line, .. } => json!(line),
                _ => Value::Null,
            };
            let mut head = beginning(measuring.name, place(json!(names[of_files[index]]), line, asked), sampler);
            head.extend((prompt.key == "id").then(|| ("id".into(), prompt.name.clone())));
            head
        };
        let file = if names.len() == 1 { json!(names[0]) } else { Value::Null };
        let of_all = beginning(measuring.name, place(file, Value::Null, Value::Null), sampler);
        let origin = Origin { path: &arguments.prompts[0], model: Some(measuring.name), head: of_all };
        lines::write(&mut sampled, &origin, &head, tools, arguments)?;
    }
    Ok(())
}

/// The tokens of each prompt as the model sees it.
fn encoded(measuring: &Measuring<'_>, rows: &[PromptRow]) -> Result<Vec<Vec<u32>>, Faults> {
    let (model, arguments) = (measuring.model, measuring.arguments);
    let limit = model.decoder.config.max_position_embeddings;
    let mut faults = Causes::new();
    let mut asked = Vec::with_capacity(rows.len());
    for row in rows {
        match question(row, &model.tokenizer, arguments.max_tokens, limit, Way::Flags) {
            Ok((_, ids)) => asked.push(ids),
            Err(fault) => faults.push(fault),
        }
    }
    faults.check()?;
    Ok(asked)
}

/// The samples of all prompts, those that `trainer sample` draws by the same seed.
fn draw(
    measuring: &Measuring<'_>,
    rows: &[PromptRow],
    asked: &[Vec<u32>],
    sampler: &Sampler,
) -> Result<Vec<Sampled>, Fault> {
    let (arguments, count) = (measuring.arguments, measuring.arguments.draws());
    let settings = settings(arguments, sampler, arguments.seed());
    let total = asked.len() * count;
    let mut counter = Counter::new(total, format!("samples drawn at temperature {}", sampler.temperature));
    let mut decoder = DecoderRows::new(&measuring.model.decoder);
    let done = &mut |done| counter.at(done);
    let drawn = sample_all(&mut decoder, &measuring.model.tokenizer, asked, count, &settings, done)
        .map_err(|fault| fault.or_at(Place::file(measuring.name)))?;
    Ok(rows.iter().zip(drawn.chunks(count)).map(|(row, samples)| sampled(row, samples)).collect())
}

/// How the command line has tokens drawn.
pub(super) fn settings(arguments: &Arguments, sampler: &Sampler, seed: u64) -> Settings {
    Settings { sampler: *sampler, repetition_penalty: 1.0, max_tokens: arguments.max_tokens, stop: Vec::new(), seed }
}

/// The samples of a prompt as a file of them would say, the prompt's other columns with each.
fn sampled(row: &PromptRow, samples: &[Sample]) -> Sampled {
    let asked = prompt_json(row);
    let place = row.place.clone().unwrap_or_else(|| Place::Named("--prompts".into()));
    let of_sample = |(index, sample): (usize, &Sample)| {
        let mut whole: Map<String, Value> = row.columns.clone();
        whole.insert("prompt".into(), asked.clone());
        whole.insert("sample".into(), json!(index));
        whole.insert("text".into(), json!(sample.text));
        whole.insert("stopped".into(), json!(sample.has_ended()));
        (whole, place.clone())
    };
    let id = row.columns.get("id").filter(|id| !id.is_null());
    Sampled {
        key: if id.is_some() { "id" } else { "prompt" },
        name: id.unwrap_or(&asked).clone(),
        prompt: id.map(|_| asked.clone()),
        model: None,
        place: place.clone(),
        count: samples.len(),
        texts: Some(samples.iter().map(|sample| sample.text.clone()).collect()),
        correct: None,
        scores: None,
        classes: None,
        same: None,
        rows: samples.iter().enumerate().map(of_sample).collect(),
    }
}
