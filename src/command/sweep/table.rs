//! The table: what each arm came to, over its seeds, and how far it is from the baseline.
//!
//! The unit is the seed: means have Student's 95 % interval over seeds, and differences are taken seed by seed, which takes
//! away what a seed does to every arm alike.

use std::collections::BTreeMap;

use metrics::interval::{Mean, paired};
use serde_json::{Map, Value, json};

use super::folder::BASE;

/// What `trainer eval` says of a line that is no measurement.
const NO_METRICS: [&str; 16] = [
    "model",
    "file",
    "line",
    "prompt",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "targets",
    "rows",
    "tokens",
    "prompts",
    "samples",
    "prompts_at_ceiling",
    "perfect_coverage",
    "standard_errors",
];

/// Metrics that a person is shown, where there are any of them; `table.jsonl` has all.
const SHOWN: [&str; 9] = ["mass", "f8", "f1_8", "coverage.100", "loss", "nll", "pass_at_k.1", "distinct", "vendi"];

/// Numbers of one model: by temperature and by metric, in the order they were printed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Measured(Vec<(Value, Vec<(String, f64)>)>);

impl Measured {
    /// Takes the lines for all prompts and all files together out of what `trainer eval` printed.
    pub(super) fn read(lines: &[Value]) -> Self {
        let is_total = |line: &&Value| {
            let key = if line.get("prompt").is_some() { "prompt" } else { "file" };
            // The last line of what was measured of samples counts the prompts.
            line.get("prompts").is_some() || line.get(key).is_some_and(Value::is_null)
        };
        let mut found = Self::default();
        for line in lines.iter().filter(is_total) {
            let temperature = &line["temperature"];
            let at = found.0.iter().position(|(known, _)| known == temperature).unwrap_or_else(|| {
                found.0.push((temperature.clone(), Vec::new()));
                found.0.len() - 1
            });
            // Rows with targets and others may be measured together, and both have an entropy.
            let known: Vec<String> = found.0[at].1.iter().map(|(name, _)| name.clone()).collect();
            let mut numbers = Vec::new();
            collect("", line, &mut numbers);
            for (name, number) in numbers {
                let name = if known.contains(&name) { format!("rows.{name}") } else { name };
                found.0[at].1.push((name, number));
            }
        }
        found
    }

    fn get(&self, temperature: &Value, metric: &str) -> Option<f64> {
        let (_, numbers) = self.0.iter().find(|(known, _)| known == temperature)?;
        numbers.iter().find(|(name, _)| name == metric).map(|(_, number)| *number)
    }

    /// Temperatures with the names of what was measured at them.
    fn cells(&self) -> impl Iterator<Item = (&Value, &str)> {
        self.0.iter().flat_map(|(temperature, numbers)| numbers.iter().map(move |(name, _)| (temperature, &**name)))
    }
}

/// The numbers of an object, those inside of others under both names, as in `coverage.100`.
fn collect(prefix: &str, value: &Value, numbers: &mut Vec<(String, f64)>) {
    let Value::Object(object) = value else { return };
    for (key, value) in object.iter().filter(|(key, _)| !prefix.is_empty() || !NO_METRICS.contains(&key.as_str())) {
        let name = format!("{prefix}{key}");
        match value.as_f64() {
            Some(number) => numbers.push((name, number)),
            None => collect(&format!("{name}."), value, numbers),
        }
    }
}

/// A run that is done.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub arm: String,
    /// Of the recipe, where the grid has none.
    pub seed: u64,
    /// Of the arm: without the seed.
    pub settings: Map<String, Value>,
    pub measured: Measured,
}

/// One number of an arm.
#[derive(Debug, Clone, PartialEq)]
struct Cell {
    over_seeds: Mean,
    /// To the baseline, over the seeds that both have; of the baseline itself there is none.
    difference: Option<Mean>,
    seeds: Vec<u64>,
    values: Vec<f64>,
}

/// The numbers of every arm of a sweep.
pub(super) struct Table<'a> {
    rows: &'a [Row],
    baseline: &'a str,
}

impl<'a> Table<'a> {
    /// Of runs in the order of the grid, beside the arm `baseline`.
    pub(super) fn new(rows: &'a [Row], baseline: &'a str) -> Self {
        Self { rows, baseline }
    }

    fn arms(&self) -> Vec<&'a str> {
        let mut arms: Vec<&str> = Vec::new();
        for row in self.rows {
            if !arms.contains(&&*row.arm) {
                arms.push(&row.arm);
            }
        }
        arms
    }

    fn of_arm<'b>(&'b self, arm: &'b str) -> impl Iterator<Item = &'a Row> + 'b {
        self.rows.iter().filter(move |row| row.arm == arm)
    }

    /// Values by seed.
    fn values(&self, arm: &str, temperature: &Value, metric: &str) -> BTreeMap<u64, f64> {
        self.of_arm(arm).filter_map(|row| Some((row.seed, row.measured.get(temperature, metric)?))).collect()
    }

    fn cell(&self, arm: &str, temperature: &Value, metric: &str) -> Option<Cell> {
        let found = self.values(arm, temperature, metric);
        let (seeds, values): (Vec<u64>, Vec<f64>) = found.iter().unzip();
        if values.is_empty() {
            return None;
        }
        let mut difference = None;
        if arm != self.baseline {
            let base = self.values(self.baseline, temperature, metric);
            let pairs = found.iter().filter_map(|(seed, value)| Some((*base.get(seed)?, *value)));
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.unzip();
            difference = (!a.is_empty()).then(|| paired(&a, &b));
        }
        Some(Cell { over_seeds: Mean::of(&values), difference, seeds, values })
    }

    /// A line for each arm, temperature and metric, as `table.jsonl` has them.
    pub(super) fn lines(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        for arm in self.arms() {
            let Some(first) = self.of_arm(arm).next() else { continue };
            for (temperature, metric) in first.measured.cells() {
                let Some(cell) = self.cell(arm, temperature, metric) else { continue };
                lines.push(json!({
                    "arm": arm,
                    "settings": first.settings,
                    "temperature": temperature,
                    "metric": metric,
                    "count": cell.over_seeds.count,
                    "mean": cell.over_seeds.mean,
                    "standard_deviation": cell.over_seeds.standard_deviation,
                    "half_width": cell.over_seeds.half_width(),
                    "difference": cell.difference.map(|difference| difference.mean),
                    "difference_half_width": cell.difference.and_then(|difference| difference.half_width()),
                    "pairs": cell.difference.map(|difference| difference.count),
                    "seeds": cell.seeds,
                    "values": cell.values,
                }));
            }
        }
        lines
    }

    /// The most telling metrics, aligned, for a person; `base` is the model before training.
    pub(super) fn aligned(&self, base: Option<&Measured>) -> String {
        let Some(first) = self.rows.first().map(|row| &row.measured) else { return String::new() };
        let metrics: Vec<&str> =
            SHOWN.into_iter().filter(|shown| first.cells().any(|(_, name)| name == *shown)).collect();
        let mut rows =
            vec![["arm", "T", "seeds"].into_iter().chain(metrics.iter().copied()).map(String::from).collect()];
        for (temperature, _) in &first.0 {
            if let Some(base) = base {
                let mut row: Vec<String> = vec![BASE.into(), at(temperature), String::new()];
                let number = |metric: &&str| base.get(temperature, metric).map_or(String::new(), |x| format!("{x:.4}"));
                row.extend(metrics.iter().map(number));
                rows.push(row);
            }
            for arm in self.arms() {
                let cells: Vec<Option<Cell>> =
                    metrics.iter().map(|metric| self.cell(arm, temperature, metric)).collect();
                let count = cells.iter().flatten().map(|cell| cell.over_seeds.count).max().unwrap_or_default();
                let mut row = vec![arm.into(), at(temperature), count.to_string()];
                row.extend(cells.iter().map(|cell| cell.as_ref().map_or(String::new(), shown)));
                rows.push(row);
            }
        }
        aligned(&rows)
    }
}

/// A temperature, or nothing where the settings say it.
fn at(temperature: &Value) -> String {
    if temperature.is_null() { String::new() } else { temperature.to_string() }
}

/// `mean ±half (difference ±half)`, as far as there are any.
fn shown(cell: &Cell) -> String {
    let half = |mean: &Mean| mean.half_width().map_or(String::new(), |half| format!(" ±{half:.4}"));
    let difference = cell.difference.map_or(String::new(), |d| format!(" ({:+.4}{})", d.mean, half(&d)));
    format!("{:.4}{}{difference}", cell.over_seeds.mean, half(&cell.over_seeds))
}

/// Columns side by side, two blanks between them.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(arm: &str, seed: u64, f8: f64) -> Row {
        let total = json!({
            "model": "m", "file": null, "prompt": null, "temperature": 1.0, "targets": 4, "f8": f8,
            "coverage": {"100": f8 / 2.0}, "kl": null
        });
        let of_prompt = json!({"model": "m", "prompt": "a", "temperature": 1.0, "f8": 9.0});
        let settings = json!({"objective.kind": arm}).as_object().cloned().expect("an object");
        Row { arm: arm.into(), seed, settings, measured: Measured::read(&[of_prompt, total]) }
    }

    fn line<'a>(lines: &'a [Value], arm: &str, metric: &str) -> &'a Value {
        let found = lines.iter().find(|line| line["arm"] == arm && line["metric"] == metric);
        found.unwrap_or_else(|| panic!("no {metric} of {arm}"))
    }

    fn assert_near(found: &Value, expected: f64, error: f64) {
        let number = found.as_f64().unwrap_or_else(|| panic!("{found} is no number"));
        assert!((number - expected).abs() <= error, "{number} is not {expected}");
    }

    /// Three seeds .41, .44, .40: .416667 +- .051711.
    #[test]
    fn means_are_over_seeds_with_students_interval() {
        let rows = [row("a", 1, 0.41), row("a", 2, 0.44), row("a", 3, 0.40)];
        let lines = Table::new(&rows, "a").lines();
        let f8 = line(&lines, "a", "f8");
        assert_near(&f8["mean"], 0.416_666_667, 1e-9);
        assert_near(&f8["half_width"], 0.051_711, 5e-7);
        assert_eq!(f8["count"], 3);
        assert_eq!((&f8["difference"], &f8["difference_half_width"]), (&Value::Null, &Value::Null));
        assert_eq!(f8["settings"], json!({"objective.kind": "a"}));
        assert_near(&line(&lines, "a", "coverage.100")["mean"], 0.208_333_333, 1e-9);
        let metrics: Vec<&Value> = lines.iter().map(|line| &line["metric"]).collect();
        assert_eq!(metrics, ["f8", "coverage.100"], "neither places nor what has no number");
    }

    /// .2 .5 .9 .4 0 .7 against .3 .5 1 .6 .1 .6: .066667 +- .042164, paired; and t of five degrees of freedom is 2.570582
    /// (scipy 1.16).
    #[test]
    fn differences_to_the_baseline_are_paired_by_seed() {
        let (a, b) = ([0.2, 0.5, 0.9, 0.4, 0.0, 0.7], [0.3, 0.5, 1.0, 0.6, 0.1, 0.6]);
        let mut rows: Vec<Row> = a.iter().zip(1..).map(|(f8, seed)| row("a", seed, *f8)).collect();
        // In another order, and one seed that the baseline has not got.
        let of_b: Vec<Row> = b.iter().zip(1..).map(|(f8, seed)| row("b", seed, *f8)).collect();
        rows.extend(of_b.into_iter().rev());
        rows.push(row("b", 99, 0.5));
        let lines = Table::new(&rows, "a").lines();
        let f8 = line(&lines, "b", "f8");
        assert_near(&f8["difference"], 0.066_666_667, 1e-9);
        assert_near(&f8["difference_half_width"], 2.570_581_836 * 0.042_163_702, 1e-8);
        assert_eq!((&f8["count"], &f8["pairs"]), (&json!(7), &json!(6)));
        // From the other side.
        let back = Table::new(&rows, "b").lines();
        assert_near(&line(&back, "a", "f8")["difference"], -0.066_666_667, 1e-9);
    }

    #[test]
    fn one_seed_has_no_interval_and_a_missing_baseline_no_difference() {
        let rows = [row("b", 1, 0.5)];
        let lines = Table::new(&rows, "a").lines();
        let f8 = line(&lines, "b", "f8");
        assert_eq!((&f8["half_width"], &f8["difference"], &f8["pairs"]), (&Value::Null, &Value::Null, &Value::Null));
    }

    #[test]
    fn rows_with_targets_and_others_stand_beside_each_other() {
        let lines = [
            json!({"prompt": null, "file": null, "temperature": 1.0, "entropy": 2.0}),
            json!({"file": "a.jsonl", "temperature": 1.0, "nll": 7.0, "entropy": 7.0}),
            json!({"file": null, "temperature": 1.0, "nll": 3.0, "entropy": 4.0}),
        ];
        let measured = Measured::read(&lines);
        let cells: Vec<(String, Option<f64>)> =
            measured.cells().map(|(at, name)| (name.to_owned(), measured.get(at, name))).collect();
        let expected = [("entropy", 2.0), ("nll", 3.0), ("rows.entropy", 4.0)];
        assert_eq!(cells, expected.map(|(name, number)| (name.to_owned(), Some(number))));
    }

    #[test]
    fn a_person_sees_columns() {
        let rows = [row("a", 1, 0.41), row("a", 2, 0.44), row("bb", 1, 0.5), row("bb", 2, 0.55)];
        let base = row("x", 0, 0.3).measured;
        let text = Table::new(&rows, "a").aligned(Some(&base));
        let expected = "\
arm   T    seeds  f8                                coverage.100
base  1.0         0.3000                            0.1500
a     1.0  2      0.4250 ±0.1906                    0.2125 ±0.0953
bb    1.0  2      0.5250 ±0.3177 (+0.1000 ±0.1271)  0.2625 ±0.1588 (+0.0500 ±0.0635)
";
        assert_eq!(text, expected);
    }
}
