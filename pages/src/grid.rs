//! What the settings of a sweep do: a heat map for two keys, a line for one, and a table of all arms.

use serde::Serialize;

use crate::chart::{Dot, Figure, Line};
use crate::keys::{headlines, title};
use crate::number::{signed_with_half, with_half};
use crate::pairs::half_width;
use crate::read::{Arm, Run};
use crate::verdict::{RECALL, Verdict};
use metrics::Better;
use metrics::interval::Mean;

/// The keys of a sweep, and the values that each arm has of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grid {
    /// Without the seed.
    pub keys: Vec<String>,
    /// Arms with a value for each key.
    pub arms: Vec<(String, Vec<String>)>,
}

/// A number of each arm.
#[derive(Debug, Clone, Serialize)]
pub struct Column {
    name: String,
    /// Of which less is better: the least stands first.
    #[serde(skip)]
    is_less: bool,
    /// In the order of the arms.
    cells: Vec<Cell>,
}

#[derive(Debug, Clone, Serialize)]
struct Cell {
    value: Option<f64>,
    text: String,
    /// Of each seed.
    seeds: Vec<f64>,
    /// Of a difference.
    interval: Option<(f64, f64)>,
}

/// The arms with their numbers, in several orders.
#[derive(Debug, Serialize)]
pub struct Overview {
    arms: Vec<String>,
    /// Runs of each arm.
    runs: Vec<usize>,
    keys: Vec<String>,
    /// Values of the keys of each arm.
    settings: Vec<Vec<String>>,
    columns: Vec<Column>,
    /// Name of each order, and the places of the arms in it.
    orders: Vec<(String, Vec<usize>)>,
}

/// The columns of all arms: the difference at equal precision, and the means at `temperature`.
pub fn overview(arms: &[Arm<'_>], verdicts: &[Verdict], grid: &Grid, temperature: Option<f64>) -> Overview {
    let told = |arm: &Arm<'_>| verdicts.iter().find(|verdict| verdict.arm == arm.0);
    let difference = |arm: &Arm<'_>| {
        let verdict = told(arm).filter(|verdict| verdict.difference.is_some());
        let value = verdict.and_then(|verdict| verdict.difference);
        let text = match (value, told(arm)) {
            (Some(value), Some(verdict)) => signed_with_half(value, verdict.half_width),
            (None, Some(_)) => "cannot be told".into(),
            _ => "the baseline".into(),
        };
        // The baseline is no distance from itself.
        let value = if told(arm).is_none() { Some(0.0) } else { value };
        let half = verdict.and_then(|verdict| verdict.half_width);
        let interval = value.zip(half).map(|(value, half)| (value - half, value + half));
        Cell { value, text, seeds: Vec::new(), interval }
    };
    let metric = verdicts.iter().find(|verdict| verdict.difference.is_some()).map_or(RECALL, |verdict| verdict.metric);
    let name = match metric {
        RECALL => "recall at equal precision, difference".into(),
        likelihood => format!("held-out {}, difference", title(likelihood)),
    };
    let cells = arms.iter().map(difference).collect();
    let mut columns = vec![Column { name, is_less: metric != RECALL, cells }];
    let mut headlines = headlines();
    // What the verdict is about stands first.
    headlines.sort_by_key(|(key, _)| key != metric);
    for (key, shown) in headlines {
        let cell = |arm: &Arm<'_>| {
            let seeds: Vec<f64> = arm.1.iter().filter_map(|run| value(run, temperature, &key)).collect();
            let mean = (!seeds.is_empty()).then(|| Mean::of(&seeds));
            let text = mean.map_or("\u{2013}".into(), |mean| with_half(mean.mean, half_width(&mean)));
            Cell { value: mean.map(|mean| mean.mean), text, seeds, interval: None }
        };
        let cells: Vec<Cell> = arms.iter().map(cell).collect();
        if cells.iter().any(|cell| cell.value.is_some()) {
            let is_less = shown.better == Better::Lower;
            columns.push(Column { name: shown.headline.title.into(), is_less, cells });
        }
    }
    // The baseline's 0 alone says nothing.
    columns.retain(|column| column.cells.iter().any(|cell| cell.value.is_some_and(|value| value != 0.0)));
    let values = |arm: &Arm<'_>| match grid.arms.iter().find(|(name, _)| name == arm.0) {
        Some((_, values)) => values.clone(),
        None => grid.keys.iter().map(|_| "\u{2013}".to_owned()).collect(),
    };
    Overview {
        arms: arms.iter().map(|(arm, _)| (*arm).to_owned()).collect(),
        runs: arms.iter().map(|(_, runs)| runs.len()).collect(),
        keys: grid.keys.clone(),
        settings: arms.iter().map(values).collect(),
        orders: orders(&columns, arms.len()),
        columns,
    }
}

/// The number at this temperature, or of samples, which stand at none.
fn value(run: &Run, temperature: Option<f64>, key: &str) -> Option<f64> {
    let at = |temperature| run.at(temperature)?.value(key);
    at(temperature).or_else(|| at(None))
}

/// The order of the arms, and for each column that of its numbers, the best first; arms without one come last.
fn orders(columns: &[Column], count: usize) -> Vec<(String, Vec<usize>)> {
    let given = ("in the order of the runs".to_owned(), (0..count).collect());
    let sorted = columns.iter().map(|column| {
        let mut places: Vec<usize> = (0..count).collect();
        let is_less = column.is_less;
        let value = |place: &usize| match column.cells[*place].value {
            Some(value) if is_less => -value,
            value => value.unwrap_or(f64::NEG_INFINITY),
        };
        places.sort_by(|a, b| value(b).total_cmp(&value(a)));
        (format!("by {}, the {} first", column.name, if is_less { "smallest" } else { "largest" }), places)
    });
    std::iter::once(given).chain(sorted).collect()
}

/// A number of the arms over two keys.
#[derive(Debug, Serialize)]
pub struct HeatMap {
    title: String,
    x: String,
    y: String,
    columns: Vec<String>,
    rows: Vec<HeatRow>,
}

#[derive(Debug, Serialize)]
struct HeatRow {
    name: String,
    cells: Vec<HeatCell>,
}

#[derive(Debug, Serialize)]
struct HeatCell {
    value: Option<f64>,
    text: String,
    /// From 0 for the least to 60 for the largest: per cent of the colour.
    share: String,
}

/// Heat maps of a sweep over two keys, lines of one over one.
pub fn pictures(overview: &Overview, grid: &Grid) -> (Vec<HeatMap>, Vec<Figure>) {
    let columns = overview.columns.iter().take(4);
    match &grid.keys[..] {
        [key] => (Vec::new(), columns.filter_map(|column| line(overview, column, key)).collect()),
        [y, x] => (columns.map(|column| heat_map(overview, column, grid, (x, y))).collect(), Vec::new()),
        _ => (Vec::new(), Vec::new()),
    }
}

fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

fn heat_map(overview: &Overview, column: &Column, grid: &Grid, (x, y): (&str, &str)) -> HeatMap {
    let values = |place: usize| distinct(grid.arms.iter().map(|(_, values)| values[place].clone()));
    let numbers = || column.cells.iter().filter_map(|cell| cell.value);
    let (low, high) = crate::axis::range(numbers()).unwrap_or_default();
    let cell = |row: &String, name: &String| {
        let is_here = |(_, values): &&(String, Vec<String>)| values[0] == *row && values[1] == *name;
        let arm = grid.arms.iter().find(is_here).map(|(arm, _)| arm);
        let place = overview.arms.iter().position(|known| Some(known) == arm);
        let cell = place.map(|place| &column.cells[place]);
        let value = cell.and_then(|cell| cell.value);
        HeatCell {
            value,
            text: cell.map_or("no numbers".into(), |cell| cell.text.clone()),
            share: value.map_or("0".into(), |value| format!("{:.0}", 60.0 * crate::axis::place(value, low, high))),
        }
    };
    let (columns, rows) = (values(1), values(0));
    let rows =
        rows.into_iter().map(|row| HeatRow { cells: columns.iter().map(|name| cell(&row, name)).collect(), name: row });
    HeatMap { title: column.name.clone(), x: x.into(), y: y.into(), rows: rows.collect(), columns }
}

fn line(overview: &Overview, column: &Column, key: &str) -> Option<Figure> {
    let known = |place: &usize| overview.settings[*place].iter().all(|value| value != "\u{2013}");
    let places: Vec<usize> = (0..overview.arms.len()).filter(known).collect();
    let names: Vec<String> = places.iter().map(|place| overview.settings[*place][0].clone()).collect();
    let numbers: Option<Vec<f64>> = names.iter().map(|name| name.parse().ok()).collect();
    let xs = numbers.clone().unwrap_or_else(|| (0..names.len()).map(|place| place as f64).collect());
    let cells = places.iter().zip(&xs).map(|(place, x)| (*x, &column.cells[*place]));
    let mut points: Vec<(f64, f64, &Cell)> = cells.filter_map(|(x, cell)| Some((x, cell.value?, cell))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    if points.is_empty() {
        return None;
    }
    let dot = |x: f64, y: f64| Dot { x, y, ..Dot::default() };
    let seeds = points.iter().flat_map(|(x, _, cell)| cell.seeds.iter().map(|y| dot(*x, *y)));
    let interval = |(x, _, cell): &(f64, f64, &Cell)| {
        let (low, high) = cell.interval?;
        let points = vec![dot(*x, low), dot(*x, high)];
        Some(Line { arm: "interval".into(), place: Some(0), run: Some("95 % interval".into()), apart: false, points })
    };
    let (low, high) = crate::axis::range(xs.iter().copied())?;
    let mut lines: Vec<Line> = points.iter().filter_map(interval).collect();
    let has_intervals = !lines.is_empty();
    lines.extend([
        Line { arm: "seeds".into(), place: Some(0), run: Some("a seed".into()), apart: true, points: seeds.collect() },
        Line {
            arm: "mean".into(),
            place: Some(0),
            run: None,
            apart: numbers.is_none(),
            points: points.iter().map(|(x, y, _)| dot(*x, *y)).collect(),
        },
    ]);
    lines.retain(|line| !line.points.is_empty());
    Some(Figure {
        title: format!("{} over {key}", column.name),
        note: if has_intervals { "With 95 % intervals; the baseline is 0." } else { "Small dots are seeds." }.into(),
        x: key.into(),
        y: column.name.clone(),
        logarithmic: numbers.is_some() && low > 0.0 && high >= 20.0 * low,
        names: if numbers.is_some() { Vec::new() } else { names.iter().map(|name| short(name)).collect() },
        lines,
        ..Figure::default()
    })
}

/// A name that has room under an axis.
fn short(name: &str) -> String {
    if name.chars().count() > 18 { name.chars().take(17).chain(['\u{2026}']).collect() } else { name.into() }
}

/// A value of a recipe as it stands in a heat map.
pub fn value_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        serde_json::Value::Object(table) => {
            // The kind is what all else belongs to, and says so itself.
            let kind = table.get("kind").map(value_text);
            let others = table.iter().filter(|(key, _)| *key != "kind");
            let others = others.map(|(key, value)| format!("{key}={}", value_text(value)));
            let pairs: Vec<String> = kind.into_iter().chain(others).collect();
            pairs.join(", ")
        }
        serde_json::Value::Array(elements) if elements.is_empty() => "none".into(),
        serde_json::Value::Array(elements) => elements.iter().map(value_text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::arms;
    use crate::testing::run;

    fn grid(keys: &[&str], arms: &[(&str, &[&str])]) -> Grid {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        Grid { keys: words(keys), arms: arms.iter().map(|(arm, values)| ((*arm).to_owned(), words(values))).collect() }
    }

    #[test]
    fn a_table_of_a_recipe_is_its_pairs() {
        let value = serde_json::json!({"kind": "cdiv", "alpha": 1.4});
        assert_eq!(value_text(&value), "cdiv, alpha=1.4");
        let list = serde_json::json!([{"kind": "mtp", "heads": 4}, {"kind": "sfr"}]);
        assert_eq!(value_text(&list), "mtp, heads=4, sfr");
        assert_eq!(value_text(&serde_json::json!(["a.jsonl"])), "a.jsonl");
        assert_eq!(value_text(&serde_json::json!([])), "none");
    }

    #[test]
    fn two_keys_are_a_heat_map_and_an_arm_without_numbers_is_named() {
        let runs = [run("a", &[(1.0, 0.5, 0.2)]), run("b", &[(1.0, 0.5, 0.6)]), run("c", &[(1.0, 0.5, 0.4)])];
        let grid = grid(&["k", "l"], &[("a", &["1", "x"]), ("b", &["1", "y"]), ("c", &["2", "x"]), ("d", &["2", "y"])]);
        let overview = overview(&arms(&runs), &[], &grid, Some(1.0));
        let (maps, lines) = pictures(&overview, &grid);
        assert!(lines.is_empty() && maps[0].title == "recall (f8)");
        let texts: Vec<Vec<(&str, &str)>> =
            maps[0].rows.iter().map(|row| row.cells.iter().map(|c| (&c.text[..], &c.share[..])).collect()).collect();
        assert_eq!(texts, [vec![("0.2", "0"), ("0.6", "60")], vec![("0.4", "30"), ("no numbers", "0")]]);
        assert_eq!(overview.orders[1], ("by recall (f8), the largest first".to_owned(), vec![1, 2, 0]));
    }

    #[test]
    fn one_key_is_a_line_by_its_numbers_or_its_names() {
        let runs = [run("a", &[(1.0, 0.5, 0.2)]), run("b", &[(1.0, 0.5, 0.6)])];
        let numbers = grid(&["lr"], &[("a", &["0.001"]), ("b", &["0.1"])]);
        let (_, lines) = pictures(&overview(&arms(&runs), &[], &numbers, Some(1.0)), &numbers);
        assert!(lines[0].logarithmic && lines[0].lines[1].points[1].x == 0.1);
        let names = grid(&["kind"], &[("a", &["nll"]), ("b", &["cdiv"])]);
        let (_, lines) = pictures(&overview(&arms(&runs), &[], &names, Some(1.0)), &names);
        assert_eq!((&lines[0].names[..], lines[0].lines[1].apart), (&["nll".to_owned(), "cdiv".into()][..], true));
        let three = grid(&["a", "b", "c"], &[]);
        assert!(pictures(&overview(&arms(&runs), &[], &three, Some(1.0)), &three).1.is_empty());
    }

    /// Samples are of no temperature that a line names: the setting of the sweep says it.
    #[test]
    fn what_was_measured_of_samples_alone_has_columns_and_maps() {
        let sampled = |name: &str, right: f64, loss: f64| {
            let mut run = run(name, &[(1.0, 0.0, 0.0)]);
            run.points[0].temperature = None;
            run.points[0].values = vec![("pass_at_k@1".into(), right), ("distinct".into(), 3.0), ("loss".into(), loss)];
            run
        };
        let runs = [("a", 0.2, 3.0), ("b", 0.6, 2.0), ("c", 0.4, 1.0)].map(|(name, y, loss)| sampled(name, y, loss));
        let sweep = grid(
            &["sample.temperature", "sample.top_p"],
            &[("a", &["1", "0.5"]), ("b", &["1", "1"]), ("c", &["2", "1"])],
        );
        let overview = overview(&arms(&runs), &[], &sweep, None);
        let names: Vec<&str> = overview.columns.iter().map(|column| &column.name[..]).collect();
        assert_eq!(names, ["different samples", "pass@1", "loss"]);
        assert_eq!(overview.orders[3], ("by loss, the smallest first".to_owned(), vec![2, 1, 0]));
        assert_eq!(pictures(&overview, &sweep).0.len(), 3);
    }
}
