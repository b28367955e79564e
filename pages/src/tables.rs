//! The table of metrics.

use metrics::interval::Mean;
use metrics::{Better, Bounds, LikelihoodMetric, Perfect, Registry};
use serde::Serialize;

use crate::number::{plain, signed_with_half, with_half};
use crate::pairs::{Difference, Pairs, half_width};
use crate::read::{Arm, Point, Run, at};
use crate::references;

/// Metrics at one temperature: a row each, a column an arm.
#[derive(Debug, Serialize)]
pub struct Table {
    /// Of the samples.
    pub temperature: Option<f64>,
    title: String,
    /// How it was measured, where that decides the numbers; else empty.
    note: String,
    /// What the last two columns are.
    bounds: [&'static str; 2],
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
    /// What a model has that is the truth, and the worst there is; empty where that is not known.
    perfect: String,
    worst: String,
    /// Of samples against references, what these score against others: in order, one number where all runs have the same.
    ceiling: Vec<f64>,
    floor: Vec<f64>,
    /// What stands in the last two columns.
    bounds: [String; 2],
    cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
struct Cell {
    arm: String,
    text: String,
    count: usize,
    /// The numbers that `text` is made of.
    values: Vec<f64>,
    mean: Option<f64>,
    half_width: Option<f64>,
    difference: Option<f64>,
    difference_half_width: Option<f64>,
    difference_text: String,
    /// All digits.
    exact: String,
    /// True where it cannot be told from the baseline.
    grey: bool,
}

/// A table for each temperature: that of `first` first and open, the others by rising temperature; last those of samples,
/// which have none. What was measured against references has a table of its own before the other one of its temperature.
pub fn metrics(arms: &[Arm<'_>], baseline: &Arm<'_>, first: Option<f64>, ceiling: &[(f64, f64)]) -> Vec<Table> {
    let mut temperatures: Vec<Option<f64>> = points(arms).map(|point| point.temperature).collect();
    let order = |t: &Option<f64>| (*t != first, t.is_none(), t.unwrap_or_default());
    temperatures.sort_by(|a, b| order(a).partial_cmp(&order(b)).expect("no temperature is NaN"));
    temperatures.dedup();
    let registry = Registry::default();
    let pairs: Vec<Option<Pairs<'_>>> =
        arms.iter().map(|arm| (arm.0 != baseline.0).then(|| Pairs::of(&baseline.1, &arm.1).ok()).flatten()).collect();
    let table = |temperature: Option<f64>| {
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
            let cells = arms.iter().zip(&pairs).map(|(arm, pairs)| {
                let value = |run: &Run| run.at(temperature)?.value(name);
                // Tokens of two tokenizers are two units.
                let alike = pairs.as_ref().filter(|pairs| pairs.have_same_tokens() || !is_of_tokens(&registry, name));
                let both = alike.map(|pairs| match &pairs.runs[..] {
                    // Of samples the prompts are what was drawn independently; a run by itself has no interval.
                    [(a, b)] if temperature.is_none() && has_prompts(a) && has_prompts(b) => {
                        (by_prompt(a, b, name), "prompts")
                    }
                    runs => (runs.iter().filter_map(|(a, b)| Some((value(a)?, value(b)?))).collect(), ""),
                });
                cell(arm, arm.0 == baseline.0, both, value)
            });
            let (better, arrow) = directed(better);
            let of_floor = points(arms).find_map(|point| point.value("floor"));
            let (perfect, worst) = bounds(&registry, name, of_floor, ceiling);
            Row {
                name: name.into(),
                definition: definition.into(),
                better,
                arrow,
                bounds: [worst.clone(), perfect.clone()],
                perfect,
                worst,
                ceiling: Vec::new(),
                floor: Vec::new(),
                cells: cells.collect(),
            }
        });
        let title = temperature.map_or("Samples".into(), |temperature| format!("Temperature {}", plain(temperature)));
        let rows: Vec<Row> = rows.collect();
        let bounds = ["worst", "perfect"];
        Table { temperature, title, note: String::new(), bounds, open: false, rows }
    };
    let mut tables: Vec<Table> = Vec::new();
    for (place, temperature) in temperatures.into_iter().enumerate() {
        let both = [against_references(arms, baseline, &pairs, temperature), table(temperature)];
        let found = both.into_iter().filter(|table| !table.rows.is_empty());
        tables.extend(found.map(|table| Table { open: place == 0, ..table }));
    }
    tables
}

/// What samples score against references, with the ceiling and the floor beside each number.
fn against_references(
    arms: &[Arm<'_>],
    baseline: &Arm<'_>,
    pairs: &[Option<Pairs<'_>>],
    temperature: Option<f64>,
) -> Table {
    let mut names: Vec<&str> = Vec::new();
    for found in arms.iter().flat_map(|(_, runs)| runs).filter_map(|run| references::of(run, temperature)) {
        for (name, _) in &found.values {
            if !names.contains(&&name[..]) {
                names.push(name);
            }
        }
    }
    let row = |name: &str| {
        let (definition, better) = references::definition(name).unwrap_or(("", Better::Neither));
        let (better, arrow) = directed(better);
        let value = |run: &Run| references::of(run, temperature)?.value(name);
        // Numbers that were measured in another way are none to be compared with.
        let both = |(a, b): &(&Run, &Run)| {
            let is_unlike = references::of(a, temperature)?.unlike(references::of(b, temperature)?).is_some();
            (!is_unlike).then(|| Some((value(a)?, value(b)?)))?
        };
        let cells = arms.iter().zip(pairs).map(|(arm, pairs)| {
            let both = pairs.as_ref().map(|pairs| (pairs.runs.iter().filter_map(both).collect(), ""));
            cell(arm, arm.0 == baseline.0, both, value)
        });
        let [(floor, floor_text), (ceiling, ceiling_text)] =
            [true, false].map(|is_floor| references::bound(arms, temperature, name, is_floor));
        Row {
            name: name.into(),
            definition: definition.into(),
            better,
            arrow,
            perfect: String::new(),
            worst: String::new(),
            ceiling,
            floor,
            bounds: [floor_text, ceiling_text],
            cells: cells.collect(),
        }
    };
    let at = temperature.map_or(String::new(), |temperature| format!(", temperature {}", plain(temperature)));
    Table {
        temperature,
        title: format!("Against references{at}"),
        note: references::note(arms, temperature),
        bounds: ["floor", "ceiling"],
        open: false,
        rows: names.into_iter().map(row).collect(),
    }
}

/// Which way is better in words, and an arrow.
fn directed(better: Better) -> (&'static str, &'static str) {
    match better {
        Better::Higher => ("higher is better", "\u{2191}"),
        Better::Lower => ("lower is better", "\u{2193}"),
        Better::Neither => ("", ""),
    }
}

fn points<'a>(arms: &'a [Arm<'_>]) -> impl Iterator<Item = &'a Point> {
    arms.iter().flat_map(|(_, runs)| runs).flat_map(|run| &run.points)
}

/// Whether samples were measured by prompt: of the steps of a run the means alone are known.
fn has_prompts(run: &Run) -> bool {
    run.parts.iter().any(|part| part.is_prompt && at(&part.points, None).is_some())
}

/// A number of each prompt that both were measured on.
fn by_prompt(a: &Run, b: &Run, name: &str) -> Vec<(f64, f64)> {
    let prompts = a.parts.iter().filter(|part| part.is_prompt);
    let both = prompts.filter_map(|part| {
        let other = b.parts.iter().find(|other| other.is(part))?;
        Some((at(&part.points, None)?.value(name)?, at(&other.points, None)?.value(name)?))
    });
    both.collect()
}

/// Pairs of numbers, and what they are pairs of, where those are not runs.
type Paired = (Vec<(f64, f64)>, &'static str);

fn cell(arm: &Arm<'_>, is_baseline: bool, both: Option<Paired>, value: impl Fn(&Run) -> Option<f64>) -> Cell {
    let values: Vec<f64> = arm.1.iter().filter_map(|run| value(run)).collect();
    let mean = (!values.is_empty()).then(|| Mean::of(&values));
    let half_width = mean.as_ref().and_then(half_width);
    let difference = both.as_ref().and_then(|(both, _)| Difference::of(both));
    let over = both.as_ref().filter(|(_, unit)| !unit.is_empty());
    let over = over.map_or(String::new(), |(both, unit)| format!(" over {} {unit}", both.len()));
    let exact: Vec<String> = values.iter().map(f64::to_string).collect();
    Cell {
        arm: arm.0.into(),
        text: mean.map_or("\u{2013}".into(), |mean| with_half(mean.mean, half_width)),
        count: values.len(),
        exact: format!("{}: {}", arm.0, if exact.is_empty() { "not measured".into() } else { exact.join(", ") }),
        values,
        mean: mean.map(|mean| mean.mean),
        half_width,
        difference: difference.map(|difference| difference.mean),
        difference_half_width: difference.and_then(|difference| difference.half_width),
        difference_text: difference.map_or(String::new(), |d| signed_with_half(d.mean, d.half_width) + &over),
        grey: !is_baseline && !difference.is_some_and(|difference| difference.is_told()),
    }
}

/// The metric of rows that a number of a page is; their entropy has another name there.
fn of_likelihood<'a>(registry: &'a Registry, name: &str) -> Option<&'a LikelihoodMetric> {
    let listed = match name {
        "token_entropy" => "entropy",
        "entropy" => return None,
        name => name,
    };
    registry.likelihood.iter().find(|metric| metric.name == listed)
}

fn is_of_tokens(registry: &Registry, name: &str) -> bool {
    of_likelihood(registry, name).is_some_and(|metric| metric.is_of_tokens)
}

/// What a number is and which way is better; nothing where it is no metric that is listed.
fn explained(registry: &Registry, name: &str) -> (&'static str, Better) {
    let metric = name.split('@').next().unwrap_or(name);
    if let Some(found) = of_likelihood(registry, metric) {
        return (found.definition, found.better);
    }
    match metric {
        "sample_entropy" => return ("entropy of the frequencies of the samples, at most ln(samples)", Better::Neither),
        "samples" => return ("samples that were drawn", Better::Neither),
        "valid" => return ("samples that are a target", Better::Higher),
        "covered" => return ("different targets among the samples", Better::Higher),
        "sampled_entropy" => return ("entropy of the frequencies of the samples", Better::Neither),
        "other_tokenisations" => {
            return (
                "samples that are a target in other tokens than the tokenizer's, which mass does not count",
                Better::Neither,
            );
        }
        _ => {}
    }
    let exact = registry.exact.iter().map(|metric| (metric.name, metric.definition, metric.better));
    let samples = registry.samples.iter().map(|metric| (metric.name, metric.definition, metric.better));
    let found = exact.chain(samples).find(|(known, _, _)| *known == metric);
    found.map_or(("", Better::Neither), |(_, definition, better)| (definition, better))
}

/// What a model that is the truth has, and the worst there is: `floor` is the loss of the truth, `ceiling` what so many
/// samples of it cover.
fn bounds(registry: &Registry, name: &str, floor: Option<f64>, ceiling: &[(f64, f64)]) -> (String, String) {
    let (metric, setting) = name.split_once('@').unwrap_or((name, ""));
    let setting: f64 = setting.parse().unwrap_or(f64::NAN);
    let exact = registry.exact.iter().map(|metric| (metric.name, metric.bounds));
    let samples = registry.samples.iter().map(|metric| (metric.name, metric.bounds));
    let found = exact.chain(samples).find(|(known, _)| *known == metric);
    let Bounds { perfect, worst } = found.map_or(Bounds::UNKNOWN, |(_, bounds)| bounds);
    let perfect = match perfect {
        Perfect::Unknown => None,
        Perfect::Number(number) => Some(number),
        Perfect::OfSetting(number) => Some(number(setting)),
        Perfect::Floor => floor,
        Perfect::Coverage => ceiling.iter().find(|(count, _)| *count == setting).map(|(_, covered)| *covered),
    };
    let text = |bound: Option<f64>| bound.filter(|bound| bound.is_finite()).map_or(String::new(), plain);
    (text(perfect), text(worst))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::arms;
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
            at("base", 0.5, 0.1),
        ];
        let arms = arms(&runs);
        let tables = metrics(&arms, &arms[0], Some(1.0), &[]);
        let order: Vec<_> = tables.iter().map(|table| (table.temperature, table.open)).collect();
        assert_eq!(order, [(Some(1.0), true), (Some(0.5), false)]);
        let [mass, f8] = &tables[0].rows[..] else { panic!("{tables:?}") };
        let grey = |row: &Row| row.cells.iter().map(|cell| cell.grey).collect::<Vec<_>>();
        assert_eq!((grey(mass), grey(f8)), (vec![false, true, true], vec![false, false, false]));
        assert_eq!((f8.arrow, f8.cells[1].count, &f8.perfect[..]), ("\u{2191}", 3, "1"));
        // .05, .05 and .051: 4.302653 s / sqrt(3) = .001434.
        assert_eq!(f8.cells[1].difference_text, "+0.0503 \u{b1} 0.0014");
        assert!(!f8.definition.is_empty() && !mass.definition.is_empty());
    }

    /// EVALUATION 4: pass@1 of six problems, .066667 with a standard error of .042164.
    #[test]
    fn samples_of_two_models_are_compared_by_prompt() {
        let of = |name: &str, values: [f64; 6]| {
            let line = |(place, value): (usize, f64)| {
                format!("{{\"prompt\":\"p{place}\",\"samples\":10,\"pass_at_k\":{{\"1\":{value}}}}}\n")
            };
            let mut text: String = values.into_iter().enumerate().map(line).collect();
            text += &format!(
                "{{\"prompts\":6,\"samples\":60,\"pass_at_k\":{{\"1\":{}}}}}",
                values.iter().sum::<f64>() / 6.0
            );
            let mut runs = Vec::new();
            crate::read::evaluations(&text, name, &mut runs).expect("lines");
            runs.remove(0)
        };
        let runs = [of("a", [0.2, 0.5, 0.9, 0.4, 0.0, 0.7]), of("b", [0.3, 0.5, 1.0, 0.6, 0.1, 0.6])];
        let arms = arms(&runs);
        let tables = metrics(&arms, &arms[0], Some(1.0), &[]);
        let row = tables[0].rows.iter().find(|row| row.name == "pass_at_k@1").expect("pass@1");
        assert_eq!((&tables[0].title[..], row.cells[1].count), ("Samples", 1));
        let half = row.cells[1].difference_half_width.expect("six prompts");
        // 2.570582 is the quantile of five degrees of freedom.
        assert!((half - 2.570_582 * 0.042_164).abs() < 1e-5, "{half}");
        assert_eq!(row.cells[1].difference_text, "+0.07 \u{b1} 0.11 over 6 prompts");
    }

    #[test]
    fn against_references_each_number_stands_between_its_floor_and_its_ceiling() {
        let line = |model: &str, temperature: f64, precision: f64, neighbours: usize| {
            format!(
                "{{\"model\":\"{model}\",\"file\":\"f\",\"prompt\":null,\"temperature\":{temperature},\"references\":\"r\",\
                 \"texts\":90,\"precision\":{precision},\"ceiling\":{{\"precision\":0.9}},\"floor\":{{\"precision\":0.25}},\
                 \"neighbours\":{neighbours}}}\n"
            )
        };
        let of = |neighbours: usize| {
            let mut runs = Vec::new();
            let text = [line("a", 1.0, 0.5, 4), line("b", 1.0, 0.75, neighbours), line("a", 0.5, 0.6, 4)].concat();
            crate::read::evaluations(&text, "", &mut runs).expect("lines");
            runs
        };
        let runs = of(4);
        let all = arms(&runs);
        let tables = metrics(&all, &all[0], Some(1.0), &[]);
        let titles: Vec<(&str, bool)> = tables.iter().map(|table| (&table.title[..], table.open)).collect();
        assert_eq!(
            titles,
            [("Against references, temperature 1", true), ("Against references, temperature 0.5", false)]
        );
        let row = &tables[0].rows[0];
        assert_eq!((&row.name[..], row.arrow, tables[0].bounds), ("precision", "\u{2191}", ["floor", "ceiling"]));
        assert_eq!(
            (&row.bounds, &row.ceiling[..], &row.floor[..]),
            (&["0.25".to_owned(), "0.9".into()], &[0.9][..], &[0.25][..])
        );
        let cells: Vec<(&str, &str)> = row.cells.iter().map(|c| (&c.text[..], &c.difference_text[..])).collect();
        assert_eq!(cells, [("0.5", ""), ("0.75", "+0.25")]);
        assert!(row.definition.contains("ball") && tables[0].rows[1].name == "texts");
        // With other neighbours it is another number.
        let runs = of(5);
        let all = arms(&runs);
        let tables = metrics(&all, &all[0], Some(1.0), &[]);
        let cell = &tables[0].rows[0].cells[1];
        assert!(cell.grey && cell.difference.is_none() && cell.mean == Some(0.75), "{cell:?}");
        assert!(tables[0].note.contains("`neighbours` is 4 and 5"), "{}", tables[0].note);
    }

    #[test]
    fn the_truth_itself_has_known_numbers() {
        let of = |name: &str| bounds(&Registry::default(), name, Some(1.5), &[(10.0, 0.75)]);
        assert_eq!(
            (of("alpha@0.1").0, of("alpha@10").0, of("beta@10").0, of("beta@0.1").0),
            ("0.1".into(), "1".into(), "0.1".into(), "1".into())
        );
        assert_eq!(
            (of("loss").0, of("coverage@10").0, of("coverage@100").0, of("chao1").0),
            ("1.5".into(), "0.75".into(), String::new(), String::new())
        );
    }
}
