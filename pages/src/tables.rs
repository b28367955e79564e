//! The table of metrics, and the prompts that changed most.

use metrics::interval::Mean;
use metrics::{Better, Registry};
use serde::Serialize;

use crate::number::{plain, signed};
use crate::read::{Run, at};
use crate::verdict::{RECALL, difference, half_width, is_told, pairs, with_half};

/// Prompts that are shown of each direction.
const PROMPTS: usize = 5;

/// Metrics at one temperature: a row each, a column an arm.
#[derive(Debug, Serialize)]
pub struct Table {
    /// Of the samples.
    pub temperature: f64,
    title: String,
    /// True for the one that is shown first.
    open: bool,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    definition: String,
    better: &'static str,
    arrow: &'static str,
    cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
struct Cell {
    arm: String,
    text: String,
    count: usize,
    /// The numbers that `text` is made of.
    mean: Option<f64>,
    half_width: Option<f64>,
    difference: Option<f64>,
    difference_half_width: Option<f64>,
    difference_text: String,
    /// True where it cannot be told from the baseline.
    grey: bool,
}

type Arms<'a> = [(&'a str, Vec<&'a Run>)];

/// A table for each temperature: that nearest to 1 first and open, the others by rising temperature.
pub fn metrics(arms: &Arms<'_>, baseline: &str) -> Vec<Table> {
    let mut temperatures: Vec<f64> = points(arms).map(|point| point.temperature).collect();
    temperatures.sort_by(|a, b| (a - 1.0).abs().total_cmp(&(b - 1.0).abs()).then(a.total_cmp(b)));
    temperatures.dedup();
    if let Some((_, rest)) = temperatures.split_first_mut() {
        rest.sort_by(f64::total_cmp);
    }
    let registry = Registry::default();
    let base = arms.iter().find(|(arm, _)| *arm == baseline).map(|(_, runs)| &runs[..]);
    let table = |(place, temperature): (usize, f64)| {
        let mut names: Vec<&str> = Vec::new();
        for point in points(arms).filter(|point| point.temperature == temperature) {
            for (name, _) in &point.values {
                if !names.contains(&&name[..]) {
                    names.push(name);
                }
            }
        }
        let rows = names.into_iter().map(|name| {
            let (definition, better) = explained(&registry, name);
            let cells =
                arms.iter().map(|(arm, runs)| cell(arm, runs, base.filter(|_| *arm != baseline), temperature, name));
            let (better, arrow) = match better {
                Better::Higher => ("higher is better", "\u{2191}"),
                Better::Lower => ("lower is better", "\u{2193}"),
                Better::Neither => ("", ""),
            };
            Row { name: name.into(), definition: definition.into(), better, arrow, cells: cells.collect() }
        });
        let title = format!("Temperature {}", plain(temperature));
        Table { temperature, title, open: place == 0, rows: rows.collect() }
    };
    temperatures.into_iter().enumerate().map(table).collect()
}

fn points<'a>(arms: &'a Arms<'_>) -> impl Iterator<Item = &'a crate::read::Point> {
    arms.iter().flat_map(|(_, runs)| runs).flat_map(|run| &run.points)
}

fn cell(arm: &str, runs: &[&Run], base: Option<&[&Run]>, temperature: f64, name: &str) -> Cell {
    let value = |run: &Run| run.at(temperature)?.value(name);
    let values: Vec<f64> = runs.iter().filter_map(|run| value(run)).collect();
    let mean = (!values.is_empty()).then(|| Mean::of(&values));
    let half_width = mean.as_ref().and_then(half_width);
    let pairs: Option<Vec<(f64, f64)>> =
        base.map(|base| pairs(base, runs).into_iter().filter_map(|(a, b)| Some((value(a)?, value(b)?))).collect());
    let difference = pairs.as_deref().and_then(difference);
    Cell {
        arm: arm.into(),
        text: mean.map_or("\u{2013}".into(), |mean| with_half(plain(mean.mean), half_width)),
        count: values.len(),
        mean: mean.map(|mean| mean.mean),
        half_width,
        difference: difference.map(|(mean, _)| mean.mean),
        difference_half_width: difference.and_then(|(_, half)| half),
        difference_text: difference.map_or(String::new(), |(mean, half)| with_half(signed(mean.mean), half)),
        grey: base.is_some() && !difference.is_some_and(|(mean, half)| is_told(&mean, half)),
    }
}

/// What a number is and which way is better; nothing where it is no metric that is listed.
fn explained(registry: &Registry, name: &str) -> (&'static str, Better) {
    let metric = name.split('@').next().unwrap_or(name);
    match metric {
        "nll" => return ("Mean negative log-likelihood of the rows' learned tokens, in nats", Better::Lower),
        "perplexity" => return ("exp(nll)", Better::Lower),
        "token_entropy" => {
            return ("Mean entropy of the next token where the rows are learned, in nats", Better::Neither);
        }
        _ => {}
    }
    let exact = registry.exact.iter().map(|metric| (metric.name, metric.definition, metric.better));
    let samples = registry.samples.iter().map(|metric| (metric.name, metric.definition, metric.better));
    let found = exact.chain(samples).find(|(known, _, _)| *known == metric);
    found.map_or(("", Better::Neither), |(_, definition, better)| (definition, better))
}

/// The prompts whose recall changed most from the baseline to an arm.
#[derive(Debug, Serialize)]
pub struct Changes {
    arm: String,
    baseline: String,
    temperature: String,
    metric: &'static str,
    more: Vec<Change>,
    less: Vec<Change>,
}

#[derive(Debug, Clone, Serialize)]
struct Change {
    prompt: String,
    baseline: f64,
    arm: f64,
    difference: f64,
    text: String,
}

/// The changes of each arm at the temperature nearest to 1; none where no prompt was measured in both.
pub fn changes(arms: &Arms<'_>, baseline: &str) -> Vec<Changes> {
    let Some((_, base)) = arms.iter().find(|(arm, _)| *arm == baseline) else { return Vec::new() };
    let mut temperatures: Vec<f64> = points(arms).map(|point| point.temperature).collect();
    temperatures.sort_by(|a, b| (a - 1.0).abs().total_cmp(&(b - 1.0).abs()));
    let Some(temperature) = temperatures.first().copied() else { return Vec::new() };
    let others = arms.iter().filter(|(arm, _)| *arm != baseline);
    let all = others.map(|(arm, runs)| {
        let mut changed = changed(&pairs(base, runs), temperature);
        changed.sort_by(|a, b| b.difference.total_cmp(&a.difference));
        let more = changed.iter().filter(|change| change.difference > 0.0).take(PROMPTS).cloned().collect();
        let less = changed.iter().rev().filter(|change| change.difference < 0.0).take(PROMPTS).cloned().collect();
        Changes {
            arm: (*arm).into(),
            baseline: baseline.into(),
            temperature: plain(temperature),
            metric: RECALL,
            more,
            less,
        }
    });
    all.filter(|changes| !changes.more.is_empty() || !changes.less.is_empty()).collect()
}

fn changed(pairs: &[(&Run, &Run)], temperature: f64) -> Vec<Change> {
    let Some((first, _)) = pairs.first() else { return Vec::new() };
    let recall = |run: &Run, prompt: &str| {
        let (_, points) = run.parts.iter().find(|(name, _)| name == prompt)?;
        at(points, temperature)?.value(RECALL)
    };
    let change = |(prompt, _): &(String, Vec<_>)| {
        let both: Option<Vec<(f64, f64)>> =
            pairs.iter().map(|(a, b)| Some((recall(a, prompt)?, recall(b, prompt)?))).collect();
        let both = both?;
        let (mean, half) = difference(&both)?;
        let level = |of: fn(&(f64, f64)) -> f64| Mean::of(&both.iter().map(of).collect::<Vec<_>>()).mean;
        let (baseline, arm) = (level(|pair| pair.0), level(|pair| pair.1));
        let text = with_half(signed(mean.mean), half);
        Some(Change { prompt: prompt.clone(), baseline, arm, difference: mean.mean, text })
    };
    first.parts.iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{Point, arms};
    use crate::testing::run;

    #[test]
    fn a_cell_is_grey_where_it_cannot_be_told_from_the_baseline() {
        let at = |name: &str, mass: f64, f8: f64| run(name, &[(1.0, mass, f8), (0.5, mass, f8)]);
        let runs = [
            at("n,seed=1", 0.5, 0.60),
            at("n,seed=2", 0.6, 0.61),
            at("n,seed=3", 0.7, 0.62),
            at("c,seed=1", 0.6, 0.65),
            at("c,seed=2", 0.5, 0.66),
            at("c,seed=3", 0.7, 0.671),
        ];
        let tables = metrics(&arms(&runs), "n");
        assert_eq!(
            tables.iter().map(|table| (table.temperature, table.open)).collect::<Vec<_>>(),
            [(1.0, true), (0.5, false)]
        );
        let [mass, f8] = &tables[0].rows[..] else { panic!("{tables:?}") };
        assert_eq!((mass.cells[0].grey, mass.cells[1].grey, f8.cells[1].grey), (false, true, false));
        assert_eq!((f8.arrow, f8.cells[1].count), ("\u{2191}", 3));
        assert!(f8.cells[1].difference_text.starts_with("+0.05033 \u{b1} "), "{}", f8.cells[1].difference_text);
        assert!(!f8.definition.is_empty() && !mass.definition.is_empty());
    }

    #[test]
    fn prompts_that_changed_most_stand_first() {
        let with = |name: &str, recalls: &[f64]| {
            let mut run = run(name, &[(1.0, 0.5, 0.5)]);
            let point = |value: &f64| vec![Point { temperature: 1.0, values: vec![(RECALL.into(), *value)] }];
            run.parts = recalls.iter().enumerate().map(|(place, value)| (format!("p{place}"), point(value))).collect();
            run
        };
        let runs = [with("n", &[0.5, 0.5, 0.5, 0.5]), with("c", &[0.6, 0.2, 0.9, 0.5])];
        let found = changes(&arms(&runs), "n");
        let names = |changes: &[Change]| changes.iter().map(|change| change.prompt.clone()).collect::<Vec<_>>();
        assert_eq!(
            (names(&found[0].more), names(&found[0].less)),
            (vec!["p2".into(), "p0".into()], vec!["p1".to_owned()])
        );
        assert!(changes(&arms(&runs[..1]), "n").is_empty());
    }
}
