//! `trainer report`: a page that compares what was evaluated.

use std::path::PathBuf;

use clap::Args;
use faults::{Fault, Faults};

use super::{Outcome, announce, argument};
use crate::report::comparison;

/// Write a page that compares models: verdict, precision against recall, distributions, samples, metrics, curves.
///
/// One HTML file that needs nothing but itself. An arm is what runs share that differ in `seed=N` of their name alone; one
/// model without a seed is compared with every seed of another arm. docs/report.md says what the page shows.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct Arguments {
    /// Sweeps, runs with `[eval] prompts`, or files that `trainer eval` or `trainer sample` wrote
    #[arg(required = true, value_name = "RUN|SWEEP|EVAL.jsonl")]
    paths: Vec<PathBuf>,
    /// The arm that the others are compared with [default: the sweep's own, a run's first step, or the first]
    #[arg(long, value_name = "ARM")]
    baseline: Option<String>,
    /// The temperature that you sample at: it is marked, and what has one temperature alone is shown at it [default: 1]
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// A path without an evaluation, a line that is none, a baseline that is no arm, a file that cannot be written.
pub fn run(arguments: &Arguments) -> Result<Outcome, Faults> {
    if arguments.temperature.is_some_and(|temperature| !(temperature.is_finite() && temperature >= 0.0)) {
        let fault = Fault::new("`--temperature` must be a number from 0 up").at(argument("temperature"));
        return Err(fault.hint("1 is the model as it is").into());
    }
    let mut comparison = comparison::of_paths(&arguments.paths)?;
    if let Some(wanted) = arguments.temperature {
        let points = comparison.runs.iter().flat_map(|run| &run.points);
        let mut measured: Vec<f64> = points.filter_map(|point| point.temperature).collect();
        measured.sort_by(f64::total_cmp);
        measured.dedup();
        if !measured.is_empty() && !measured.contains(&wanted) {
            let known: Vec<String> = measured.iter().map(f64::to_string).collect();
            let fault =
                Fault::new(format!("nothing was evaluated at temperature {wanted}")).at(argument("temperature"));
            return Err(fault.hint(format!("one of: {}", known.join(", "))).into());
        }
    }
    comparison.temperature = arguments.temperature.or(comparison.temperature);
    if arguments.baseline.is_some() {
        comparison.baseline.clone_from(&arguments.baseline);
    }
    comparison::write(&comparison, &arguments.out).map_err(|fault| fault.or_at(argument("baseline")))?;
    announce(&format!("wrote {}", arguments.out.display()));
    Ok(Outcome::Done)
}
