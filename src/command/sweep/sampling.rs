//! A sweep that trains nothing: one model, sampled at every point of a grid of options of `trainer sample`.

use std::path::{Path, PathBuf};

use faults::{Fault, Faults};

use super::folder::{Evaluation, RunState, Sampling, Sweep, stem};
use super::grid::{self, Axis, Point};
use super::{Arguments, baseline, directory};
use crate::command::{eval, sample};

/// What keys of the grid begin with that are options of `trainer sample`.
const PREFIX: &str = "sample.";

/// What `trainer sample` draws with where nothing is said.
const SEED: u64 = 17;

/// True for a key that is an option of `trainer sample`.
pub(super) fn is_of_samples(axis: &Axis) -> bool {
    axis.key.starts_with(PREFIX)
}

/// Options as they are typed: `n=8` and `sample.intent_temperature=0.7` with dashes before and between.
pub(super) fn options(of_sweep: &[String], of_point: &[String]) -> Vec<String> {
    let words = of_sweep.iter().chain(of_point).map(|option| {
        let option = option.strip_prefix(PREFIX).unwrap_or(option);
        match option.split_once('=') {
            Some((key, value)) => format!("--{}={value}", key.replace('_', "-")),
            None => format!("--{}", option.replace('_', "-")),
        }
    });
    words.collect()
}

/// What samples are drawn of, if anything; `points` are those of the grid, where its keys are of samples.
///
/// # Errors
/// Options that `trainer sample` would refuse at any point, or prompts that cannot be read.
pub(super) fn sampling(arguments: &Arguments, model: &str, points: &[Point]) -> Result<Option<Sampling>, Faults> {
    let Some(prompts) = &arguments.prompts else { return Ok(None) };
    datasets::refuse_unreadable(std::slice::from_ref(prompts))?;
    let prompts = prompts.display().to_string();
    let mut faults: Vec<Fault> = Vec::new();
    // Without a point, the options of the sweep alone.
    let sets = points.iter().map(|point| &point.set[..]).chain(points.is_empty().then_some(&[][..]));
    for set in sets {
        let found = sample::check_options(model, &prompts, &options(&arguments.sample, set));
        for fault in found.err().into_iter().flat_map(Faults::into_list).map(|fault| placed(arguments, "sample", fault))
        {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }
    let found = eval::check_options(&options(&arguments.measure, &[])).err().into_iter().flat_map(Faults::into_list);
    faults.extend(found.map(|fault| placed(arguments, "measure", fault)));
    Faults::check(faults)?;
    Ok(Some(Sampling { prompts, options: arguments.sample.clone(), measure: arguments.measure.clone() }))
}

/// A fault of an option where the recipe has it, if it is the recipe that does.
fn placed(arguments: &Arguments, name: &str, fault: Fault) -> Fault {
    match arguments.of_recipe.get(name) {
        Some(place) => fault.at(place.clone()),
        None => fault,
    }
}

/// The sweep of a model over `axes`, its points, and the folder that it has unless another is named.
///
/// # Errors
/// Options that have no effect without training, no prompts, or what [`sampling`] refuses.
pub(super) fn sweep(arguments: &Arguments, model: &str, axes: Vec<Axis>) -> Result<(Sweep, Vec<Point>), Faults> {
    let mut faults = Vec::new();
    let of_training = [
        ("set", !arguments.set.is_empty()),
        ("data", !arguments.data.is_empty()),
        ("temperatures", arguments.temperatures != [1.0]),
    ];
    for (name, _) in of_training.into_iter().filter(|(_, given)| *given) {
        let fault = Fault::new(format!("`--{name}` has no effect where nothing is trained")).at(arguments.place(name));
        faults
            .push(fault.hint("all keys of the grid are options of `trainer sample`; others are given with `--sample`"));
    }
    if arguments.prompts.is_none() {
        let fault = Fault::new("there are no prompts to sample").at(arguments.place("prompts"));
        faults.push(fault.hint("name a file of them with `--prompts FILE`"));
    }
    Faults::check(faults)?;
    let points = grid::points(&axes, &stem(Path::new(model)), &arguments.place("grid"))?;
    let samples = sampling(arguments, model, &points)?;
    let seed = |point: &Point| point.settings.get("sample.seed").and_then(serde_json::Value::as_u64).unwrap_or(SEED);
    let sweep = Sweep {
        recipe: model.into(),
        directory: directory()?,
        set: Vec::new(),
        baseline: baseline(arguments, &points)?,
        runs: points.iter().map(|point| RunState::waiting(point, seed(point))).collect(),
        grid: axes,
        base: None,
        model: Some(model.into()),
        evaluation: Evaluation {
            data: Vec::new(),
            temperatures: Vec::new(),
            rename: Vec::new(),
            device: "auto".into(),
        },
        samples,
    };
    Ok((sweep, points))
}

/// The folder of a sweep that has no other name.
pub(super) fn folder(model: &str) -> PathBuf {
    Path::new("sweeps").join(format!("{}-samples", stem(Path::new(model))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_written_as_they_are_typed() {
        let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let found = options(&texts(&["n=8", "chat", "max_tokens=16"]), &texts(&["sample.intent_temperature=0.7"]));
        assert_eq!(found, ["--n=8", "--chat", "--max-tokens=16", "--intent-temperature=0.7"]);
        assert_eq!(options(&texts(&["stop=a=b_c"]), &[]), ["--stop=a=b_c"]);
    }
}
