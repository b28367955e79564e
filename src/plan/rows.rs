//! The rows of a run, and whether they go with its objective.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;

use backbone::Config;
use datasets::{Dataset, Example, IntentNoise, Options, Tokenizer};
use faults::{Causes, Fault, Faults, Place};

use super::by_prompt;
use crate::recipe::Recipe;

/// Refuses files from which no rows can be read before anything of the model is fetched.
///
/// # Errors
/// A file that is not there, a table, an archive, a folder or a name of the hub in `data.train`, `data.eval` or `eval.prompts`.
pub(super) fn refuse_unreadable(recipe: &Recipe) -> Result<(), Faults> {
    let prompts = recipe.eval.prompts.iter().flat_map(|prompts| &prompts.files);
    let paths: Vec<PathBuf> =
        recipe.data.train.iter().chain(&recipe.data.eval).chain(prompts).map(PathBuf::from).collect();
    datasets::refuse_unreadable(&paths)
}

/// The rows to train on and to evaluate by, tokenised.
///
/// # Errors
/// Every row that cannot be used, and every file that does not go with the rest of the recipe.
pub(super) fn rows(
    recipe: &Recipe,
    config: &Config,
    tokenizer: &Tokenizer,
) -> Result<(Dataset, Option<Dataset>), Faults> {
    let data = &recipe.data;
    let limit = config.max_position_embeddings;
    if let Some(length) = data.max_length.filter(|length| *length > limit) {
        let message = format!("`data.max_length` = {length} is more than the model's {limit} positions");
        let fault = Fault::new(message).at(recipe.places.of("data.max_length"));
        return Err(fault.hint(format!("lower it to {limit}, or leave it out")).into());
    }
    let options = Options {
        format: data.format,
        train_on: data.train_on,
        max_length: data.max_length.unwrap_or(limit),
        model_limit: data.max_length.is_none_or(|length| length == limit),
        too_long: data.too_long,
        rename: data.rename.0.iter().map(|(column, key)| (column.clone(), key.clone())).collect(),
        ignore: data.ignore.clone(),
        chat: data.columns.clone(),
        end_token: data.targets.end_token,
        prefix_free: data.targets.prefix_free,
        template: data.intent.template,
        allow_empty_intent: data.intent.allow_empty,
        intent_noise: None,
        of_recipe: true,
    };
    let noise = data.intent.noise.map(|(kind, fraction)| IntentNoise { kind, fraction, seed: recipe.seed });
    let mut faults = Vec::new();
    let mut read = |key: &str, paths: &[String], options: &Options| {
        let read = datasets::read(&paths.iter().map(PathBuf::from).collect::<Vec<_>>(), options, tokenizer);
        let placed = |fault: Fault| {
            let of_key =
                ["data.rename", "data.ignore"].into_iter().find(|key| fault.message.starts_with(&format!("`{key}`")));
            let about = of_key.unwrap_or(key);
            fault.or_at(recipe.places.of(about))
        };
        read.map_err(|found| faults.extend(found.into_list().into_iter().map(placed))).ok()
    };
    let train = read("data.train", &data.train, &Options { intent_noise: noise, ..options.clone() });
    // Evaluation is by the rows as they are.
    let eval = if data.eval.is_empty() { None } else { read("data.eval", &data.eval, &options) };
    faults.extend(train.as_ref().map(|train| unfit_shapes(recipe, train)).unwrap_or_default());
    faults.extend(eval.as_ref().map(|eval| unfit_files(recipe, eval)).unwrap_or_default());
    if by_prompt(recipe).is_some() {
        faults.extend(train.iter().chain(&eval).flat_map(repeated_prompts));
    }
    // What is wrong with the keys is wrong with both data sets.
    let mut named: Vec<Fault> = Vec::new();
    for fault in faults {
        if !named.contains(&fault) {
            named.push(fault);
        }
    }
    Faults::check(named)?;
    let train = train.expect("a data set that could not be read has left a fault");
    if train.examples.is_empty() {
        let fault = Fault::new("no row is left to train on").at(recipe.places.of("data.train"));
        return Err(fault.hint("all were dropped: see `data.too_long` and `data.max_length`").into());
    }
    Ok((train, eval))
}

/// Names of `data.ignore` that neither data set has.
pub(super) fn unmet(recipe: &Recipe, train: &Dataset, eval: Option<&Dataset>) -> Option<String> {
    let everywhere = |name: &&String| eval.is_none_or(|eval| eval.report.unmet.contains(name));
    let names: Vec<String> = train.report.unmet.iter().filter(everywhere).map(|name| format!("`{name}`")).collect();
    let fault = Fault::new(format!("`data.ignore` names {}, which no row has", names.join(", ")));
    let fault = fault.at(recipe.places.of("data.ignore")).hint("look for a slip of the pen, or take the name out");
    (!names.is_empty()).then(|| fault.line())
}

/// Row shapes that do not go with the objective.
fn unfit_files(recipe: &Recipe, dataset: &Dataset) -> Vec<Fault> {
    let mut faults = Vec::new();
    let objective = &recipe.objective;
    for file in &dataset.report.files {
        let fault = match objective.row_shape() {
            Some(shape) if !file.format.starts_with(shape) => {
                let message =
                    format!("objective `{}` needs rows of `{shape}`, not `{}`", objective.name(), file.format);
                Fault::new(message).hint("convert the rows, or choose another `objective.kind`")
            }
            None if file.format == "targets" => {
                let message = format!("rows of `targets` need objective `diffuse`, not `{}`", objective.name());
                Fault::new(message).hint("set `objective.kind = \"diffuse\"`: no other knows the weights of targets")
            }
            _ => continue,
        };
        faults.push(fault.at(Place::file(&file.file)));
    }
    faults
}

/// Prompts of a data set that stand there more than once: each would have a distribution and a floor of its own, and the
/// model can have but one.
fn repeated_prompts(dataset: &Dataset) -> Vec<Fault> {
    let mut first: HashMap<&[u32], &Example> = HashMap::new();
    let mut faults = Causes::new();
    for targets in dataset.examples.chunk_by(|a, b| a.group == b.group) {
        let example = &targets[0];
        match first.entry(example.prompt()) {
            Entry::Vacant(place) => drop(place.insert(example)),
            Entry::Occupied(known) => {
                let known = known.get();
                let message = format!("the prompt stands in {} already", known.place());
                let hint = "write all targets of a prompt, with their weights, into one row";
                faults.push(Fault::new(message).at(example.place()).hint(hint));
            }
        }
    }
    faults.into_list()
}

/// The same of the training rows, and keys of `[data]` that none of them has a use for.
fn unfit_shapes(recipe: &Recipe, train: &Dataset) -> Vec<Fault> {
    let mut faults = unfit_files(recipe, train);
    let (targets, intent) = (recipe.data.targets.written, recipe.data.intent.written);
    for (written, shape, keys) in [
        (targets, "targets", "`data.end_token` and `data.prefix_free`"),
        (intent, "intent", "`data.template`, `data.allow_empty_intent` and `data.intent_noise`"),
    ] {
        if written && !train.report.files.iter().any(|file| file.format.starts_with(shape)) {
            let message = format!("{keys} have no effect: no file of `data.train` has rows of `{shape}`");
            faults.push(Fault::new(message).at(recipe.places.of("data")).hint("remove them"));
        }
    }
    faults
}
