//! The table: what each arm came to, over its seeds, and how far it is from the baseline.
//!
//! The unit is the seed: means have Student's 95 % interval over seeds, and differences are taken seed by seed, which takes
//! away what a seed does to every arm alike. A difference that is a mean over prompts has an interval over them, too: how far it
//! would be another with other prompts of the kind.

use std::collections::BTreeMap;

use metrics::Registry;
use metrics::interval::{Mean, paired};
use pages::keys::is_measured;
use serde_json::{Map, Value, json};

use super::folder::BASE;
use crate::logging::columns::{Columns, Side};

/// What a row of the aligned table is about.
const KEYS: [&str; 3] = ["arm", "T", "seeds"];

/// Numbers of one model.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Measured {
    /// Of all prompts and files together, by temperature and by metric, in the order they were printed.
    all: Vec<(Value, Vec<(String, f64)>)>,
    /// Of single prompts, by temperature and metric as JSON writes them, and by what names the prompt.
    of_prompts: BTreeMap<(String, String), BTreeMap<String, f64>>,
}

impl Measured {
    /// Takes the numbers out of what `trainer eval` printed.
    pub(super) fn read(lines: &[Value]) -> Self {
        let is_total = |line: &&Value| {
            let key = if line.get("prompt").is_some() { "prompt" } else { "file" };
            // The last line of what was measured of samples counts the prompts.
            line.get("prompts").is_some() || line.get(key).is_some_and(Value::is_null)
        };
        let (mut found, registry) = (Self::default(), Registry::default());
        for line in lines.iter().filter(is_total) {
            let temperature = &line["temperature"];
            let at = found.all.iter().position(|(known, _)| known == temperature).unwrap_or_else(|| {
                found.all.push((temperature.clone(), Vec::new()));
                found.all.len() - 1
            });
            // Rows with targets and others may be measured together, and both have an entropy.
            let known: Vec<String> = found.all[at].1.iter().map(|(name, _)| name.clone()).collect();
            let mut numbers = Vec::new();
            collect("", line, &mut numbers);
            for (name, number) in numbers {
                let name = if known.contains(&name) { format!("rows.{name}") } else { name };
                found.all[at].1.push((name, number));
            }
        }
        for line in lines.iter().filter(|line| !is_total(line)) {
            let Some(prompt) = ["id", "prompt"].into_iter().find_map(|key| line.get(key)) else { continue };
            let mut numbers = Vec::new();
            collect("", line, &mut numbers);
            // What is a number of all prompts together is no mean over them, and has no spread over them.
            for (name, number) in numbers.into_iter().filter(|(name, _)| registry.is_mean(name)) {
                let of_metric = found.of_prompts.entry((line["temperature"].to_string(), name)).or_default();
                // The file of rows, which all runs have in common; samples of each run have a file of their own.
                let file = line.get("model").map_or(&Value::Null, |_| &line["file"]);
                // A prompt may stand in several lines.
                of_metric.insert(format!("{file} {} {prompt}", line.get("line").unwrap_or(&Value::Null)), number);
            }
        }
        found
    }

    /// By what names the prompt.
    fn of_prompts(&self, temperature: &Value, metric: &str) -> Option<&BTreeMap<String, f64>> {
        self.of_prompts.get(&(temperature.to_string(), metric.to_owned()))
    }

    fn get(&self, temperature: &Value, metric: &str) -> Option<f64> {
        let (_, numbers) = self.all.iter().find(|(known, _)| known == temperature)?;
        numbers.iter().find(|(name, _)| name == metric).map(|(_, number)| *number)
    }

    /// Temperatures with the names of what was measured at them.
    fn cells(&self) -> impl Iterator<Item = (&Value, &str)> {
        self.all.iter().flat_map(|(temperature, numbers)| numbers.iter().map(move |(name, _)| (temperature, &**name)))
    }
}

/// The numbers of an object, those inside of others under both names, as in `coverage.100`.
fn collect(prefix: &str, value: &Value, numbers: &mut Vec<(String, f64)>) {
    let Value::Object(object) = value else { return };
    for (key, value) in object.iter().filter(|(key, _)| !prefix.is_empty() || is_measured(key)) {
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
    /// The same over prompts, the mean of these seeds for each.
    over_prompts: Option<Mean>,
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
        let over_prompts = difference.and_then(|_| self.over_prompts(arm, temperature, metric));
        Some(Cell { over_seeds: Mean::of(&values), difference, over_prompts, seeds, values })
    }

    /// The difference to the baseline over the prompts that all runs have measured, for each the mean over the seeds that both
    /// have.
    fn over_prompts(&self, arm: &str, temperature: &Value, metric: &str) -> Option<Mean> {
        let of_seed = |arm: &str, seed: u64| {
            let row = self.of_arm(arm).find(|row| row.seed == seed)?;
            row.measured.of_prompts(temperature, metric)
        };
        let seeds = self.values(arm, temperature, metric).into_keys();
        let pairs: Vec<_> =
            seeds.filter_map(|seed| Some((of_seed(self.baseline, seed)?, of_seed(arm, seed)?))).collect();
        let (first, _) = pairs.first()?;
        let of_prompt = |prompt: &String| {
            let differences: Option<Vec<f64>> =
                pairs.iter().map(|(base, own)| Some(own.get(prompt)? - base.get(prompt)?)).collect();
            differences.map(|differences| Mean::of(&differences).mean)
        };
        let differences: Vec<f64> = first.keys().filter_map(of_prompt).collect();
        (!differences.is_empty()).then(|| Mean::of(&differences))
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
                    "prompts": cell.over_prompts.map(|over| over.count),
                    "difference_prompts_half_width": cell.over_prompts.and_then(|over| over.half_width()),
                    "seeds": cell.seeds,
                    "values": cell.values,
                }));
            }
        }
        lines
    }

    /// The headlines among the metrics that were measured, aligned, for a person; `base` is the model before training. `table.jsonl`
    /// has all.
    pub(super) fn aligned(&self, base: Option<&Measured>, columns: Option<usize>) -> String {
        let Some(first) = self.rows.first().map(|row| &row.measured) else { return String::new() };
        let headlines: Vec<String> = Registry::default().headlines().iter().map(|shown| shown.key('.')).collect();
        let is_measured = |key: &&str| first.cells().any(|(_, name)| name == *key);
        let metrics: Vec<&str> = headlines.iter().map(String::as_str).filter(is_measured).collect();
        let mut rows = Vec::new();
        for (temperature, _) in &first.all {
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
        let head: Vec<String> = KEYS.into_iter().chain(metrics).map(String::from).collect();
        Columns { head, rows, keys: KEYS.len(), side: Side::Left, indent: 0 }.fitted(columns)
    }
}

/// A temperature, or nothing where the settings say it.
fn at(temperature: &Value) -> String {
    if temperature.is_null() { String::new() } else { temperature.to_string() }
}

/// `mean ±half (difference ±half)`, as far as there are any: of one seed the difference has the interval over prompts.
fn shown(cell: &Cell) -> String {
    let half = |half: f64| format!(" ±{half:.4}");
    let difference = cell.difference.map_or(String::new(), |difference| {
        let over_seeds = difference.half_width().map(half);
        let over_prompts = || Some(half(cell.over_prompts?.half_width()?) + " over prompts");
        format!(" ({:+.4}{})", difference.mean, over_seeds.or_else(over_prompts).unwrap_or_default())
    });
    let level = cell.over_seeds.half_width().map_or(String::new(), half);
    format!("{:.4}{level}{difference}", cell.over_seeds.mean)
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

    /// a = .2 .5 .9 .4 0 .7, b = .3 .5 1 .6 .1 .6 by prompt: +.066667, and of one seed the interval is over these prompts alone.
    #[test]
    fn differences_have_an_interval_over_prompts_too() {
        let of_prompts = |arm: &str, seed: u64, values: &[f64]| {
            let mut lines: Vec<Value> = values
                .iter()
                .enumerate()
                .map(|(prompt, kl)| json!({"prompt": format!("p{prompt}"), "file": "f", "temperature": 1.0, "kl": kl, "f8": kl}))
                .collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            lines.push(json!({"prompt": null, "file": null, "temperature": 1.0, "kl": mean, "f8": 0.5}));
            Row { measured: Measured::read(&lines), ..row(arm, seed, 0.0) }
        };
        let (a, b) = ([0.2, 0.5, 0.9, 0.4, 0.0, 0.7], [0.3, 0.5, 1.0, 0.6, 0.1, 0.6]);
        let one = [of_prompts("a", 1, &a), of_prompts("b", 1, &b)];
        let lines = Table::new(&one, "a").lines();
        let kl = line(&lines, "b", "kl");
        assert_near(&kl["difference"], 0.066_666_667, 1e-9);
        assert_near(&kl["difference_prompts_half_width"], 2.570_581_836 * 0.042_163_702, 1e-8);
        assert_eq!((&kl["prompts"], &kl["difference_half_width"]), (&json!(6), &Value::Null));
        assert_eq!(line(&lines, "b", "f8")["prompts"], Value::Null, "a number of all prompts together");
        assert_eq!(line(&lines, "a", "kl")["prompts"], Value::Null, "the baseline");
        // A second seed with the arms' values exchanged: no prompt differs.
        let two = [of_prompts("a", 1, &a), of_prompts("a", 2, &b), of_prompts("b", 1, &b), of_prompts("b", 2, &a)];
        let lines = Table::new(&two, "a").lines();
        assert_near(&line(&lines, "b", "kl")["difference_prompts_half_width"], 0.0, 1e-12);
    }

    /// The same question in two lines of one file is two prompts, as it is two in the mean of all.
    #[test]
    fn a_prompt_that_stands_twice_counts_twice() {
        let of = |arm: &str, values: [f64; 2]| {
            let of_line = |(kl, line): (f64, u64)| json!({"model": arm, "file": "f", "line": line, "prompt": "same", "temperature": 1.0, "kl": kl});
            let mut lines: Vec<Value> = values.into_iter().zip(1..).map(of_line).collect();
            let mean = (values[0] + values[1]) / 2.0;
            lines.push(
                json!({"model": arm, "file": null, "line": null, "prompt": null, "temperature": 1.0, "kl": mean}),
            );
            Row { measured: Measured::read(&lines), ..row(arm, 1, 0.0) }
        };
        let rows = [of("a", [0.1, 0.2]), of("b", [0.3, 0.8])];
        let lines = Table::new(&rows, "a").lines();
        let kl = line(&lines, "b", "kl");
        assert_eq!(kl["prompts"], 2);
        assert_near(&kl["difference"], 0.4, 1e-12);
        // .2 and .6: 12.706205 s / sqrt(2).
        assert_near(&kl["difference_prompts_half_width"], 12.706_205 * 0.2, 1e-5);
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
    fn a_person_sees_which_interval_it_is() {
        let over_prompts = Some(Mean::of(&[0.1, 0.3]));
        let one = Cell {
            over_seeds: Mean::of(&[0.5]),
            difference: Some(Mean::of(&[0.2])),
            over_prompts,
            seeds: vec![1],
            values: vec![0.5],
        };
        assert_eq!(shown(&one), "0.5000 (+0.2000 ±1.2706 over prompts)");
        let two = Cell { difference: Some(Mean::of(&[0.1, 0.3])), over_seeds: Mean::of(&[0.4, 0.6]), ..one };
        assert_eq!(shown(&two), "0.5000 ±1.2706 (+0.2000 ±1.2706)");
    }

    #[test]
    fn a_person_sees_columns() {
        let rows = [row("a", 1, 0.41), row("a", 2, 0.44), row("bb", 1, 0.5), row("bb", 2, 0.55)];
        let base = row("x", 0, 0.3).measured;
        let text = Table::new(&rows, "a").aligned(Some(&base), None);
        let expected = "\
arm   T    seeds  f8                                coverage.100
base  1.0         0.3000                            0.1500
a     1.0  2      0.4250 ±0.1906                    0.2125 ±0.0953
bb    1.0  2      0.5250 ±0.3177 (+0.1000 ±0.1271)  0.2625 ±0.1588 (+0.0500 ±0.0635)
";
        assert_eq!(text, expected);
    }
}
