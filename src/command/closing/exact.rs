//! What a run has changed, in exact numbers: precision and recall of the prompts before and after, at the temperature that
//! they are sampled at and at the one that gives the precision of before.

use std::path::Path;

use checkpoints::Run;
use faults::{Fault, Place, counted};
use metrics::coverage::COVERAGE;
use metrics::curve::F8;
use metrics::divergence::MASS;
use metrics::frontier::setting_at;
use metrics::interval::{Mean, paired};
use pages::number::{signed_with_half, with_half};
use serde_json::Value;

use crate::logging::columns::{Columns, Side};

/// The number of samples whose expected coverage is told.
const BUDGET: &str = "100";

/// The exact numbers of all prompts together after a step.
struct Evaluation {
    prompts: usize,
    points: Vec<Point>,
    /// Those of each prompt by itself, in the order of the file.
    singles: Vec<Point>,
}

/// What a run has measured, for a model's card.
pub(in crate::command) struct Measured {
    /// A table in Markdown, with intervals over the prompts.
    pub table: String,
    /// The temperature of before.
    pub temperature: f64,
    /// The temperature at which the model has the precision that its base had there, if one of the measured range does.
    pub as_precise: Option<f64>,
    /// There it has more recall than its base had.
    pub says_more: bool,
}

/// What a model has at a temperature.
#[derive(Clone, Copy)]
struct Point {
    temperature: f64,
    /// The mass on the targets.
    precision: f64,
    f8: f64,
    coverage: f64,
}

/// A table of before and after `step`, for a terminal of so many columns; empty where the run has measured no targets.
///
/// # Errors
/// A file of the run that cannot be read.
pub(super) fn table(run: &Run, step: u64, temperature: f64, columns: Option<usize>) -> Result<String, Fault> {
    let folder = run.folder();
    let (Some(before), Some(after)) = (Evaluation::read(folder, 0)?, Evaluation::read(folder, step)?) else {
        return Ok(String::new());
    };
    let at = |points: &[Point]| points.iter().find(|point| point.temperature == temperature).copied();
    let (Some(base), Some(trained)) = (at(&before.points), at(&after.points)) else { return Ok(String::new()) };
    let mut rows = vec![
        row(format!("before (step 0), T = {temperature}"), base),
        row(format!("after step {step}, T = {temperature}"), trained),
    ];
    let equal = at_precision_of(&after.points, base.precision);
    // Between temperatures that were computed, so about; two decimals are as many as it is known to.
    rows.extend(
        equal.map(|equal| row(format!("{} at T = {:.2} or so", equal.words(base.precision), equal.temperature), equal)),
    );
    let title = format!("exactly, of {}", counted(before.prompts as u64, "prompt"));
    let head = [title, "precision".into(), "recall (F_8)".into(), format!("coverage at {BUDGET}")];
    let table = Columns { head: head.into(), rows, keys: 1, side: Side::Right, indent: 2 };
    let mut table = table.fitted(columns);
    if let (None, [first, .., last]) = (equal, &after.points[..]) {
        table += &format!(
            "  no temperature from {} to {} gives the precision of before\n",
            first.temperature, last.temperature
        );
    }
    Ok(table)
}

/// The numbers of the run in a folder before it and after `step`, at `temperature`; `None` where it has measured no targets.
///
/// # Errors
/// A file of the run that cannot be read.
pub(in crate::command) fn measured(folder: &Path, step: u64, temperature: f64) -> Result<Option<Measured>, Fault> {
    let (Some(before), Some(after)) = (Evaluation::read(folder, 0)?, Evaluation::read(folder, step)?) else {
        return Ok(None);
    };
    let at = |evaluation: &Evaluation| {
        evaluation.singles.iter().filter(|point| point.temperature == temperature).copied().collect::<Vec<Point>>()
    };
    let (base, trained) = (at(&before), at(&after));
    if base.is_empty() || base.len() != trained.len() {
        return Ok(None);
    }
    let numbers: [fn(&Point) -> f64; 3] = [|point| point.precision, |point| point.f8, |point| point.coverage];
    let of = |points: &[Point], number: fn(&Point) -> f64| points.iter().map(number).collect::<Vec<f64>>();
    let mean = |points: &[Point]| {
        let cells = numbers.map(|number| {
            let mean = Mean::of(&of(points, number));
            with_half(mean.mean, mean.half_width())
        });
        cells.join(" | ")
    };
    let differences = numbers.map(|number| {
        let difference = paired(&of(&base, number), &of(&trained, number));
        signed_with_half(difference.mean, difference.half_width())
    });
    let together = before.points.iter().find(|point| point.temperature == temperature);
    let equal = together.and_then(|point| at_precision_of(&after.points, point.precision));
    let mut table = format!(
        "Exactly, from the probabilities of all answers of {}, at temperature {temperature} (means and 95 % intervals over the prompts):\n\n\
         | | precision | recall (F_8) | coverage at {BUDGET} |\n|---|---|---|---|\n| before | {} |\n| after step {step} | {} |\n| difference | {} |\n",
        counted(base.len() as u64, "prompt"),
        mean(&base),
        mean(&trained),
        differences.join(" | "),
    );
    if let Some(Point { temperature, precision, f8, coverage }) = equal {
        table += &format!("| after, at T = {temperature:.2} or so | {precision:.4} | {f8:.4} | {coverage:.4} |\n");
    }
    table += "\nPrecision is the share of what the model says that is an answer at all, recall how much of the true distribution it says, coverage how \
              many of the different answers 100 samples find.\n";
    let says_more = together.zip(equal).is_some_and(|(before, after)| after.f8 > before.f8);
    Ok(Some(Measured { table, temperature, as_precise: equal.map(|point| point.temperature), says_more }))
}

impl Evaluation {
    /// The numbers after a step, if they were computed.
    fn read(folder: &Path, step: u64) -> Result<Option<Self>, Fault> {
        let file = folder.join(format!("evaluation/step-{step:06}.jsonl"));
        let text = match faults::read_text(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Fault::of_file("cannot read the evaluation", &file, &error)),
        };
        let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        let lines = lines.map_err(|error| {
            let fault = Fault::new(format!("the evaluation cannot be read: {error}")).at(Place::file(&file));
            fault.hint("the run is done; `trainer eval` measures it again")
        })?;
        let together = lines.iter().filter(|line| line["prompt"].is_null());
        let mut points: Vec<Point> = together.filter_map(Point::of).collect();
        points.sort_by(|a, b| a.temperature.total_cmp(&b.temperature));
        let of_prompts: Vec<&Value> = lines.iter().filter(|line| !line["prompt"].is_null()).collect();
        let singles = of_prompts.iter().filter_map(|line| Point::of(line)).collect();
        Ok(Some(Self { prompts: of_prompts.len() / points.len().max(1), points, singles }))
    }
}

impl Point {
    /// How its precision is to that of before.
    fn words(&self, before: f64) -> &'static str {
        if self.precision > before { "more precise" } else { "the same" }
    }

    fn of(line: &Value) -> Option<Self> {
        Some(Self {
            temperature: line["temperature"].as_f64()?,
            precision: line[MASS.name].as_f64()?,
            f8: line[F8.name].as_f64()?,
            coverage: line[COVERAGE.name][BUDGET].as_f64()?,
        })
    }
}

/// The largest recall that there is with this precision or more, between the temperatures that were measured, as the report's
/// verdict has it; the other numbers are those of the same temperature. A curve may pass a precision twice, and what it has at
/// the higher temperature is nothing to sample at.
fn at_precision_of(points: &[Point], precision: f64) -> Option<Point> {
    let curve: Vec<(f64, f64, f64)> =
        points.iter().map(|point| (point.temperature, point.precision, point.f8)).collect();
    let (f8, temperature) = setting_at(&curve, precision, true)?;
    if let Some(measured) = points.iter().find(|point| point.temperature == temperature) {
        return Some(*measured);
    }
    let pair = points.windows(2).find(|pair| pair[0].temperature < temperature && temperature < pair[1].temperature)?;
    let part = (temperature - pair[0].temperature) / (pair[1].temperature - pair[0].temperature);
    let coverage = pair[0].coverage + part * (pair[1].coverage - pair[0].coverage);
    Some(Point { temperature, precision, f8, coverage })
}

fn row(name: String, point: Point) -> Vec<String> {
    let numbers = [point.precision, point.f8, point.coverage].map(|number| format!("{number:.4}"));
    std::iter::once(name).chain(numbers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(numbers: &[(f64, f64, f64, f64)]) -> Vec<Point> {
        let point = |(temperature, precision, f8, coverage): &(f64, f64, f64, f64)| Point {
            temperature: *temperature,
            precision: *precision,
            f8: *f8,
            coverage: *coverage,
        };
        numbers.iter().map(point).collect()
    }

    /// The precision .6 is passed at T = .75 on the way up and at T = 1.5 on the way down: all numbers are of one of these.
    #[test]
    fn all_numbers_are_those_of_one_temperature() {
        let curve = points(&[(0.5, 0.5, 0.1, 0.9), (1.0, 0.7, 0.4, 0.5), (2.0, 0.5, 0.3, 0.1)]);
        let found = at_precision_of(&curve, 0.6).expect("reached");
        // With more precision there is more recall: T = 1 was measured, and is better than either crossing.
        assert_eq!((found.temperature, found.precision, found.f8, found.coverage), (1.0, 0.7, 0.4, 0.5));
        assert_eq!(found.words(0.6), "more precise");
        let falls = points(&[(0.5, 0.9, 0.2, 0.1), (1.0, 0.7, 0.4, 0.3), (2.0, 0.5, 0.8, 0.2)]);
        let found = at_precision_of(&falls, 0.6).expect("reached");
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        near(found.temperature, 1.5);
        near(found.f8, 0.6);
        near(found.coverage, 0.25);
        assert_eq!((found.precision, found.words(0.6)), (0.6, "the same"));
        assert!(at_precision_of(&falls, 0.95).is_none());
    }
}
