//! `--novelty-bench DIR`: samples as NoveltyBench has them (`novelty-bench/novelty-bench`), so that its own programs can go on
//! with them: `generations.jsonl`, and where there are classes and scores `partitions.jsonl` and `scores.jsonl`.

use std::path::Path;

use datasets::Sampled;
use faults::{Fault, Faults};
use metrics::novelty::{PATIENCE, utility};
use serde_json::{Map, Value, json};

use super::Arguments;
use crate::command::argument;

const GENERATIONS: &str = "generations.jsonl";
const PARTITIONS: &str = "partitions.jsonl";
const SCORES: &str = "scores.jsonl";

/// Looks whether the files can be written.
///
/// # Errors
/// Files that would be replaced, or samples of several origins for one folder.
pub(super) fn check(arguments: &Arguments) -> Result<(), Fault> {
    let Some(folder) = &arguments.novelty_bench else { return Ok(()) };
    let sets = match &arguments.samples[..] {
        [] => arguments.model.len() * arguments.temperatures.len(),
        files => files.len(),
    };
    if sets > 1 {
        return Err(Fault::new(format!("`--novelty-bench` takes one set of samples, and there are {sets}"))
            .at(argument("novelty-bench"))
            .hint("one model and temperature, or one file of samples, for each folder"));
    }
    for name in [GENERATIONS, PARTITIONS, SCORES] {
        let path = folder.join(name);
        if path.exists() {
            let fault = Fault::new("the file is there already").at(faults::Place::file(path));
            return Err(fault.hint("name another folder, or move the file away"));
        }
    }
    Ok(())
}

/// Writes the files of samples that `model` drew, where that is known.
///
/// # Errors
/// Samples without texts, or files that cannot be written.
pub(super) fn write(
    folder: &Path,
    sampled: &[Sampled],
    classes: &[Option<Vec<usize>>],
    knows_meanings: bool,
    model: Option<&str>,
) -> Result<(), Faults> {
    fs_err::create_dir_all(folder).map_err(|error| Fault::of_file("cannot write there", folder, &error))?;
    let mut generations = Vec::with_capacity(sampled.len());
    for (index, prompt) in sampled.iter().enumerate() {
        let Some(texts) = &prompt.texts else {
            let fault = Fault::new("the samples have no `text` to write").at(prompt.place.clone());
            return Err(fault.hint("leave `--novelty-bench` out").into());
        };
        let (id, asked) = match (prompt.key, &prompt.prompt) {
            ("id", asked) => (prompt.name.clone(), asked.clone().unwrap_or(Value::Null)),
            _ => (json!(format!("prompt-{}", index + 1)), prompt.name.clone()),
        };
        let model = model.or(prompt.model.as_deref());
        let mut row = Map::new();
        row.insert("id".into(), id);
        row.insert("prompt".into(), asked);
        row.insert("model".into(), json!(model));
        row.insert("generations".into(), json!(texts));
        generations.push(row);
    }
    let file = |name: &str, rows: &[Map<String, Value>]| {
        let path = folder.join(name);
        let text: String =
            rows.iter().map(|row| format!("{}\n", faults::json::to_line(&Value::Object(row.clone())))).collect();
        checkpoints::write_whole(&path, text.as_bytes())
    };
    file(GENERATIONS, &generations)?;
    // Its programs pass over prompts that have a class: none may come from equal words.
    let Some(classes) = classes.iter().cloned().collect::<Option<Vec<_>>>().filter(|_| knows_meanings) else {
        return Ok(());
    };
    let partitions: Vec<Map<String, Value>> =
        generations.into_iter().zip(&classes).map(|(row, classes)| with_partition(row, classes)).collect();
    file(PARTITIONS, &partitions)?;
    let scored = partitions.into_iter().zip(sampled).zip(&classes);
    let scored = scored.map(|((row, prompt), classes)| Some(with_scores(row, prompt.scores.as_deref()?, classes)));
    if let Some(scored) = scored.collect::<Option<Vec<_>>>() {
        file(SCORES, &scored)?;
    }
    Ok(())
}

fn with_partition(mut row: Map<String, Value>, classes: &[usize]) -> Map<String, Value> {
    row.insert("partition".into(), json!(classes));
    // One too small, as the benchmark's own program writes it and none reads it.
    row.insert("distinct".into(), json!(classes.iter().max()));
    row
}

fn with_scores(mut row: Map<String, Value>, scores: &[f64], classes: &[usize]) -> Map<String, Value> {
    let is_first = |index: &usize| classes.iter().position(|class| *class == classes[*index]) == Some(*index);
    let of_sample = |index: usize| if is_first(&index) { scores[index] } else { 0.0 };
    let firsts = (0..classes.len()).filter(is_first);
    row.insert("generation_scores".into(), (0..classes.len()).map(of_sample).collect());
    row.insert("partition_scores".into(), firsts.map(|index| scores[index]).collect());
    row.insert("utility".into(), json!(utility(classes, scores, PATIENCE)));
    row
}
