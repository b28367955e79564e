//! What a run has changed, in exact numbers: precision and recall of the prompts before and after, at the temperature that
//! they are sampled at and at the one that gives the precision of before.

use checkpoints::Run;
use faults::{Fault, Place, counted};
use metrics::frontier::at_precision;
use serde_json::Value;

/// The number of samples whose expected coverage is told.
const BUDGET: &str = "100";

/// The exact numbers of all prompts together after a step.
struct Evaluation {
    prompts: usize,
    points: Vec<Point>,
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

/// A table of before and after `step`; empty where the run has measured no targets.
///
/// # Errors
/// A file of the run that cannot be read.
pub(super) fn table(run: &Run, step: u64, temperature: f64) -> Result<String, Fault> {
    let (Some(before), Some(after)) = (Evaluation::read(run, 0)?, Evaluation::read(run, step)?) else {
        return Ok(String::new());
    };
    let at = |points: &[Point]| points.iter().find(|point| point.temperature == temperature).copied();
    let (Some(base), Some(trained)) = (at(&before.points), at(&after.points)) else { return Ok(String::new()) };
    let mut table = row(
        &format!("exactly, of {}", counted(before.prompts as u64, "prompt")),
        ["precision".into(), "recall (F_8)".into(), format!("coverage at {BUDGET}")],
    );
    table += &row(&format!("before (step 0), T = {temperature}"), base.numbers());
    table += &row(&format!("after step {step}, T = {temperature}"), trained.numbers());
    match at_precision_of(&after.points, base.precision) {
        // Between temperatures that were computed, so about; two decimals are as many as it is known to.
        Some(equal) => table += &row(&format!("the same at T = {:.2} or so", equal.temperature), equal.numbers()),
        None => {
            let [first, .., last] = &after.points[..] else { return Ok(table) };
            table += &format!(
                "  no temperature from {} to {} gives the precision of before\n",
                first.temperature, last.temperature
            );
        }
    }
    Ok(table)
}

impl Evaluation {
    /// The numbers after a step, if they were computed.
    fn read(run: &Run, step: u64) -> Result<Option<Self>, Fault> {
        let file = run.folder().join(format!("evaluation/step-{step:06}.jsonl"));
        let text = match fs_err::read_to_string(&file) {
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
        let of_prompts = lines.iter().filter(|line| !line["prompt"].is_null()).count();
        Ok(Some(Self { prompts: of_prompts / points.len().max(1), points }))
    }
}

impl Point {
    fn numbers(&self) -> [String; 3] {
        [self.precision, self.f8, self.coverage].map(|number| format!("{number:.4}"))
    }

    fn of(line: &Value) -> Option<Self> {
        Some(Self {
            temperature: line["temperature"].as_f64()?,
            precision: line["mass"].as_f64()?,
            f8: line["f8"].as_f64()?,
            coverage: line["coverage"][BUDGET].as_f64()?,
        })
    }
}

/// Between the temperatures that were measured, where the precision is this.
fn at_precision_of(points: &[Point], precision: f64) -> Option<Point> {
    let at = |of: fn(&Point) -> f64| {
        let curve: Vec<(f64, f64)> = points.iter().map(|point| (point.precision, of(point))).collect();
        at_precision(&curve, precision)
    };
    Some(Point {
        temperature: at(|point| point.temperature)?,
        precision,
        f8: at(|point| point.f8)?,
        coverage: at(|point| point.coverage)?,
    })
}

fn row(name: &str, [precision, recall, coverage]: [String; 3]) -> String {
    format!("  {name:<33} {precision:>9}  {recall:>12}  {coverage:>15}\n")
}
