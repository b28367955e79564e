//! The rows of a run, and whether they go with its objective.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Known;
use std::path::PathBuf;

use backbone::Config;
use datasets::{Dataset, Example, HELD_OUT, IntentNoise, NumberColumn, Options, Source, TRAIN, Tokenizer, Way};
use faults::{Causes, Fault, Faults, Place};
use losses::Column;

use super::by_prompt;
use crate::loading;
use crate::recipe::{Entry, Held, Recipe};

/// Refuses files from which no rows can be read before anything of the model is fetched.
///
/// # Errors
/// A file that is not there or holds no rows in `data.train`, `data.eval` or `eval.prompts`, or stdin named twice.
pub(super) fn refuse_unreadable(recipe: &Recipe) -> Result<(), Faults> {
    let prompts = recipe.eval.prompts.iter().flat_map(|prompts| &prompts.files).map(String::as_str);
    let entries = recipe.data.train.iter().chain(recipe.data.eval.files()).map(|entry| entry.path.as_str());
    if entries.clone().chain(prompts.clone()).filter(|path| *path == "-").count() > 1 {
        let fault = Fault::new("`-` stands for stdin, which can be read once").at(recipe.places.of("data"));
        return Err(fault.hint("write the rows that come second into a file").into());
    }
    let of_prompts: Vec<PathBuf> = prompts.map(PathBuf::from).collect();
    let refused = [datasets::refuse_unreadable(&of_prompts), loading::rows::refuse_unreadable(entries)];
    Faults::check(refused.into_iter().filter_map(Result::err).flat_map(Faults::into_list).collect())
}

/// The entries of a key with the files that they stand for.
fn sources(entries: &[Entry], splits: &[&str]) -> Result<Vec<Source>, Faults> {
    let mut faults = Vec::new();
    let mut found = Vec::new();
    for entry in entries {
        let (name, weight, limit) = (entry.shown().to_owned(), entry.weight, entry.limit);
        match loading::rows::files(&entry.path, splits) {
            Ok(files) => found.push(Source { name, files, weight, limit }),
            Err(fault) => faults.push(fault),
        }
    }
    Faults::check(faults)?;
    Ok(found)
}

/// How the rows of a model with so many positions are read.
fn options(recipe: &Recipe, limit: usize) -> Options {
    let data = &recipe.data;
    Options {
        format: data.format,
        train_on: data.train_on,
        max_length: data.max_length.unwrap_or(limit),
        model_limit: data.max_length.is_none_or(|length| length == limit),
        too_long: data.too_long,
        rename: data.rename.pairs(),
        ignore: data.ignore.clone(),
        chat: data.columns.clone(),
        end_token: data.targets.end_token,
        prefix_free: data.targets.prefix_free,
        template: data.intent.template,
        allow_empty_intent: data.intent.allow_empty,
        intent_noise: None,
        // Rows that are only evaluated need not have it.
        number: recipe.objective.column().map(|Column { name, least }| NumberColumn {
            name: name.to_owned(),
            least,
            required: false,
        }),
        way: Way::Recipe,
    }
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
    let options = options(recipe, limit);
    let number = options.number.clone().map(|column| NumberColumn { required: true, ..column });
    let noise = data.intent.noise.map(|(kind, fraction)| IntentNoise { kind, fraction, seed: recipe.seed });
    let part = match data.eval {
        Held::Part(part) => Some(part),
        Held::Files(_) => None,
    };
    let mut faults = Vec::new();
    let mut read = |key: &str, entries: &[Entry], splits: &[&str], options: &Options| {
        let read = sources(entries, splits).and_then(|sources| {
            datasets::read_apart(&sources, options, tokenizer, part.filter(|_| key == "data.train"))
        });
        let placed = |fault: Fault| {
            let of_key = ["data.rename", "data.ignore", "data.eval"]
                .into_iter()
                .find(|key| fault.message.starts_with(&format!("`{key}`")));
            let about = of_key.unwrap_or(key);
            fault.or_at(recipe.places.of(about))
        };
        read.map_err(|found| faults.extend(found.into_list().into_iter().map(placed))).ok()
    };
    let train = read("data.train", &data.train, TRAIN, &Options { intent_noise: noise, number, ..options.clone() });
    let (train, apart) = train.unzip();
    // Evaluation is by the rows as they are.
    let eval = match &data.eval {
        Held::Part(_) => apart.flatten(),
        Held::Files(files) if files.is_empty() => None,
        Held::Files(files) => read("data.eval", files, HELD_OUT, &options).map(|(eval, _)| eval),
    };
    faults.extend(train.as_ref().map(|train| unfit_shapes(recipe, train)).unwrap_or_default());
    faults.extend(eval.as_ref().map(|eval| unfit_files(recipe, eval)).unwrap_or_default());
    if by_prompt(recipe).is_some() {
        faults.extend(train.iter().chain(&eval).flat_map(repeated_prompts));
    }
    // A wrong key is a fault of both data sets, told once.
    let mut named: Vec<Fault> = Vec::new();
    for fault in faults {
        if !named.contains(&fault) {
            named.push(fault);
        }
    }
    Faults::check(named)?;
    let Some(train) = train.filter(|train| !train.examples.is_empty()) else {
        let fault = Fault::new("no row is left to train on").at(recipe.places.of("data.train"));
        return Err(fault.hint("all were dropped: see `data.too_long` and `data.max_length`").into());
    };
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
            _ if file.format == "targets" && objective.column().is_some() => {
                let message = format!("objective `{}` goes by a column, and `targets` share tokens", objective.name());
                Fault::new(message).hint("write rows of another shape, or choose another `objective.kind`")
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
            Known::Vacant(place) => drop(place.insert(example)),
            // Its weight takes a row more than once.
            Known::Occupied(known) if known.get().place() == example.place() => {}
            Known::Occupied(known) => {
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
