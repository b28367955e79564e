//! `report.html`: a run on one page that needs nothing but itself.
//!
//! The curves are drawn here as points of inline SVG, the page around them is the template beside this file.

use faults::counted;
use metrics::{Kind, Registry, Shown};
use minijinja::value::Serde;
use minijinja::{Environment, context};
use pages::axis::{coordinate, place, range, ticks};
use pages::number::{labels, plain};
use serde::Serialize;
use serde_json::{Value, json};

use super::record;
use super::record::{EXACT, SAMPLES};
use super::trouble::{self, Watched};

/// Size of a chart's drawing area in SVG units.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 200.0;

/// More points than this are averaged in groups.
const POINTS: usize = 400;

/// What runs are compared by comes first, training rows and held-out rows on one scale; numbers without a title follow.
const TITLES: [(&str, &str); 9] = [
    ("nll", "nll (nats per token)"),
    (LOSS, "loss (what is minimised)"),
    ("entropy", "entropy (nats per token)"),
    ("grad_norm", "gradient norm"),
    ("lr", "learning rate"),
    ("objective/weight_mean", "mean weight"),
    ("objective/weight_max", "largest weight"),
    ("objective/active_fraction", "active fraction (weights above 0)"),
    (EFFECTIVE, "effective sample size (part of the learned tokens)"),
];

const LOSS: &str = "loss";
const EFFECTIVE: &str = "objective/effective_sample_size";

/// Differences below this part of a number are rounding.
const ROUNDING: f64 = 1e-6;

#[derive(Serialize)]
struct Chart {
    title: String,
    /// True where it stands among the many that few look at.
    is_folded: bool,
    curves: Vec<Curve>,
    marks_y: Vec<Mark>,
    marks_x: Vec<Mark>,
}

#[derive(Serialize)]
struct Curve {
    split: &'static str,
    /// The numbers that are drawn.
    numbers: Vec<Point>,
    /// Pieces between which a number was not finite, each as the `points` of a `polyline`.
    pieces: Vec<String>,
    /// Single values, drawn when they are few.
    dots: Vec<Dot>,
    last: String,
}

#[derive(Serialize)]
struct Dot {
    x: String,
    y: String,
    text: String,
}

#[derive(Serialize)]
struct Mark {
    at: String,
    text: String,
}

#[derive(Serialize)]
struct Row {
    name: String,
    value: String,
}

/// The page of a run: `lines` are those of `metrics.jsonl`, `recipe` the resolved one, `watched` what the run was watched for,
/// `comparison` what it measured before, while and after it trained, whose verdict stands first.
pub fn render(
    title: &str,
    lines: &[Value],
    recipe: &toml::Table,
    watched: &Watched,
    comparison: Option<&pages::Section>,
) -> String {
    let mut environment = Environment::new();
    // The ending of the name turns on the escaping of HTML.
    environment.add_template("report.html", include_str!("html/report.html.jinja")).expect("the template is valid");
    let template = environment.get_template("report.html").expect("it was just added");
    let mut settings = Vec::new();
    flatten("", recipe, &mut settings);
    let (charts, constants) = charts(lines);
    let json = numbers(&charts);
    let (folded, shown): (Vec<Chart>, Vec<Chart>) = charts.into_iter().partition(|chart| chart.is_folded);
    let troubles: Vec<String> = trouble::of_run(lines, watched).iter().map(ToString::to_string).collect();
    let page = context! {
        title,
        style => pages::STYLE,
        verdict => comparison.map(|section| &section.verdict),
        comparison => comparison.map(|section| &section.body),
        width => WIDTH,
        height => HEIGHT,
        summary => summary(lines),
        troubles => troubles,
        charts => Serde(shown),
        folded => Serde(folded),
        json => pages::json_in_html(&json),
        constants => Serde(constants),
        results => Serde(results(lines)),
        settings => Serde(settings),
        version => env!("CARGO_PKG_VERSION"),
    };
    template.render(page).expect("the template names what it is given")
}

fn flatten(path: &str, table: &toml::Table, rows: &mut Vec<Row>) {
    for (key, value) in table {
        let name = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, rows),
            value => rows.push(Row { name, value: value.to_string() }),
        }
    }
}

/// What the curves are drawn from: of each the title, and of rows of training and held-out ones the steps with their numbers.
fn numbers(charts: &[Chart]) -> Value {
    let curve = |curve: &Curve| json!({"split": curve.split, "points": curve.numbers});
    let of_chart =
        |chart: &Chart| json!({"title": chart.title, "curves": chart.curves.iter().map(curve).collect::<Vec<Value>>()});
    charts.iter().map(of_chart).collect()
}

/// The run in a sentence.
fn summary(lines: &[Value]) -> String {
    let last = of_split(lines, "train").filter_map(|line| line["step"].as_u64()).max().unwrap_or_default();
    let mut text = counted(last, "step");
    let nlls: Vec<f64> = of_split(lines, "eval").filter_map(|line| line["nll"].as_f64()).collect();
    if let [first, .., last] = nlls[..] {
        text += &format!(", nll of the held-out rows {first:.4} \u{2192} {last:.4}");
    }
    text
}

/// The last numbers of both splits, the lowest evaluation loss, and what the run cost.
fn results(lines: &[Value]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |name: String, value: String| rows.push(Row { name, value });
    for split in ["train", "eval"] {
        let Some(last) = of_split(lines, split).last() else { continue };
        row(format!("last step ({split})"), last["step"].to_string());
        for (name, value) in record::scalars(last) {
            row(format!("{split} {name}"), plain(value));
        }
    }
    let losses = of_split(lines, "eval").filter_map(|line| Some((line["nll"].as_f64()?, &line["step"])));
    if let Some((loss, step)) = losses.min_by(|(one, _), (other, _)| one.total_cmp(other)) {
        row("lowest eval nll".into(), format!("{} at step {step}", plain(loss)));
    }
    let sum = |key: &str| of_split(lines, "train").filter_map(|line| line[key].as_f64()).sum::<f64>();
    let seconds = sum("seconds");
    row("training time".into(), format!("{seconds:.1} s"));
    for (key, name) in [("tokens", "processed"), ("tokens_real", "real"), ("tokens_loss", "learned")] {
        let tokens = sum(key);
        let rate = if seconds > 0.0 { format!(", {:.0} per second", tokens / seconds) } else { String::new() };
        row(format!("{name} tokens"), format!("{tokens:.0}{rate}"));
    }
    rows
}

fn of_split<'a>(lines: &'a [Value], split: &str) -> impl Iterator<Item = &'a Value> {
    lines.iter().filter(move |line| line["split"].as_str() == Some(split))
}

/// Of what is measured of prompts at an evaluation, what stands beside the other curves, with its title; the rest, dozens of curves,
/// is folded.
fn measured() -> Vec<(String, String)> {
    let first = Registry::default().headlines().into_iter().filter(|shown| shown.headline.is_first);
    let curve = |shown: Shown| {
        let group = match shown.kind {
            Kind::Exact => EXACT,
            Kind::Samples => SAMPLES,
            Kind::Likelihood => return None,
        };
        Some((format!("{group}/{}", shown.key('.')), shown.headline.title.to_owned()))
    };
    first.filter_map(curve).collect()
}

/// The numbers of a run as charts; those that never change as they are.
fn charts(lines: &[Value]) -> (Vec<Chart>, Vec<Row>) {
    let kept = measured();
    let mut names: Vec<(String, String)> = TITLES.map(|(key, title)| (key.into(), title.into())).into();
    names.extend(kept.clone());
    for line in lines {
        for (name, _) in record::scalars(line) {
            if !names.iter().any(|(known, _)| *known == name) {
                names.push((name.clone(), name));
            }
        }
    }
    let (mut charts, mut constants) = (Vec::new(), Vec::new());
    for (name, title) in names {
        let series = Series::of(lines, &name);
        if name == LOSS && series.is(&Series::of(lines, "nll")) {
            constants.push(Row { name: title, value: "the nll".into() });
        } else if let Some(value) = series.constant() {
            constants.push(Row { name: title, value: plain(value) });
        } else {
            let is_kept = kept.iter().any(|(kept, _)| *kept == name);
            let is_folded = !is_kept && [EXACT, SAMPLES].iter().any(|group| name.split('/').next() == Some(*group));
            charts.extend(chart(&series, title).map(|chart| Chart { is_folded, ..chart }));
        }
    }
    (charts, constants)
}

/// A number over the steps, of the training rows and of the held-out ones.
struct Series([(&'static str, Vec<Point>); 2]);

/// A step and its number, if that is finite.
type Point = (f64, Option<f64>);

impl Series {
    fn of(lines: &[Value], name: &str) -> Self {
        let path = format!("/{name}");
        let point = |line: &Value| {
            let value = line.pointer(&path)?.as_f64();
            // By itself it would tell how many tokens the steps have.
            let unit = if name == EFFECTIVE { line["tokens_loss"].as_f64()?.max(1.0) } else { 1.0 };
            Some((line["step"].as_f64()?, value.map(|value| value / unit)))
        };
        let split = |split| match (split, name) {
            // The loss of an evaluation is its nll, and no number beside a weighted one.
            ("eval", LOSS) => Vec::new(),
            _ => of_split(lines, split).filter_map(point).collect(),
        };
        Self(["train", "eval"].map(|name| (name, split(name))))
    }

    fn finite(&self) -> impl Iterator<Item = (f64, f64)> {
        self.0.iter().flat_map(|(_, points)| points).filter_map(|(step, value)| Some((*step, (*value)?)))
    }

    /// The number that it is at every step; one number alone is such.
    fn constant(&self) -> Option<f64> {
        let (low, high) = range(self.finite().map(|(_, value)| value))?;
        // Held-out rows may not have it at all, as gradients: that is no gap.
        let is_cut = |points: &[Point]| points.iter().any(|p| p.1.is_none()) && points.iter().any(|p| p.1.is_some());
        let gap = self.0.iter().any(|(_, points)| is_cut(points));
        (!gap && high - low <= ROUNDING * high.abs().max(low.abs())).then_some(high)
    }

    /// True when the numbers of the training rows are those of another.
    fn is(&self, other: &Self) -> bool {
        let same = |(one, other): (&Point, &Point)| match (one.1, other.1) {
            (Some(one), Some(other)) => (one - other).abs() <= ROUNDING * other.abs(),
            (one, other) => one == other,
        };
        let (one, other) = (&self.0[0].1, &other.0[0].1);
        !one.is_empty() && one.len() == other.len() && one.iter().zip(other).all(same)
    }
}

/// The chart of one number over the steps; `None` when it was never finite.
fn chart(series: &Series, title: String) -> Option<Chart> {
    let curves = series.0.each_ref().map(|(split, points)| (*split, averaged(points)));
    let all = curves.iter().flat_map(|(_, points)| points);
    let drawn: Vec<(f64, f64)> = all.filter_map(|(step, value)| Some((*step, (*value)?))).collect();
    let (low, high) = range(drawn.iter().map(|(_, value)| *value))?;
    let (first, last) = range(drawn.iter().map(|(step, _)| *step))?;
    let ticks_y = ticks(low, high);
    let ticks_x: Vec<f64> = ticks(first, last).into_iter().filter(|step| step.fract() == 0.0).collect();
    let (low, high) = (low.min(ticks_y[0]), high.max(*ticks_y.last()?));
    let x = |step: f64| place(step, first, last) * WIDTH;
    let y = |value: f64| HEIGHT - place(value, low, high) * HEIGHT;
    let texts = labels(&ticks_y);
    Some(Chart {
        title,
        is_folded: false,
        marks_y: ticks_y.iter().zip(texts).map(|(value, text)| Mark { at: coordinate(y(*value)), text }).collect(),
        marks_x: ticks_x
            .iter()
            .filter(|step| (first..=last).contains(*step))
            .map(|step| Mark { at: coordinate(x(*step)), text: plain(*step) })
            .collect(),
        curves: curves.into_iter().filter_map(|(split, points)| curve(split, &points, x, y)).collect(),
    })
}

fn curve(split: &'static str, points: &[Point], x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> Option<Curve> {
    let finite = || points.iter().filter_map(|(step, value)| Some((*step, (*value)?)));
    let last = plain(finite().next_back()?.1);
    let pieces = points
        .split(|(_, value)| value.is_none())
        .map(|piece| {
            let pairs = piece.iter().filter_map(|(step, value)| Some((*step, (*value)?)));
            pairs.map(|(step, value)| format!("{},{}", coordinate(x(step)), coordinate(y(value)))).collect::<Vec<_>>()
        })
        .filter(|pairs| pairs.len() > 1)
        .map(|pairs| pairs.join(" "))
        .collect();
    let dot = |(step, value): (f64, f64)| Dot {
        x: coordinate(x(step)),
        y: coordinate(y(value)),
        text: format!("{split}, step {}: {}", plain(step), plain(value)),
    };
    let dots = if finite().count() <= 60 { finite().map(dot).collect() } else { Vec::new() };
    Some(Curve { split, numbers: points.to_vec(), pieces, dots, last })
}

/// At most [`POINTS`] points, each the mean of a group of neighbours; a group without a finite number has none.
fn averaged(points: &[Point]) -> Vec<Point> {
    let group = points.len().div_ceil(POINTS).max(1);
    points
        .chunks(group)
        .map(|group| {
            let finite: Vec<f64> = group.iter().filter_map(|(_, value)| *value).collect();
            let mean = (!finite.is_empty()).then(|| finite.iter().sum::<f64>() / finite.len() as f64);
            (group[group.len() - 1].0, mean)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::record::{StepRecord, example};

    fn page(lines: &[Value]) -> String {
        let recipe: toml::Table = "seed = 1\n[model]\npath = \"<b>&\"\n".parse().expect("TOML");
        render("runs/first", lines, &recipe, &Watched::default(), None)
    }

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let mut lines: Vec<Value> =
            (1..=30).map(|step| example(step, "train", 3.0 - step as f64 / 30.0).to_json()).collect();
        lines.extend([10, 20, 30].map(|step| {
            let nll = 2.5 - step as f64 / 100.0;
            StepRecord { nll, ..example(step, "eval", nll) }.to_json()
        }));
        let page = page(&lines);
        // The loss and the held-out nll; all else stays what it is: six numbers.
        assert_eq!(page.matches("<svg").count(), 2);
        assert_eq!(page.matches("class=\"constant\"").count(), 5);
        assert!(page.contains("&lt;b&gt;&amp;") && !page.contains("<b>&"));
        for outside in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        // No script runs; one block holds the numbers that are drawn.
        let (_, block) = page.split_once("<script type=\"application/json\" id=\"curves\">").expect("a block of JSON");
        assert_eq!(page.matches("<script").count(), 1);
        let block: Value = serde_json::from_str(block.split_once("</script>").expect("its end").0).expect("JSON");
        let points = |chart: usize, curve: usize| block[chart]["curves"][curve]["points"].as_array().map(Vec::len);
        assert_eq!((points(0, 0), points(0, 1), points(1, 0)), (Some(30), Some(3), Some(30)));
        assert_eq!(
            (&block[0]["curves"][1]["split"], &block[0]["curves"][1]["points"][2]),
            (&json!("eval"), &json!([30.0, 2.2]))
        );
        assert!(page.contains("2.2 at step 30"), "the lowest nll of the held-out rows");
        // Processed tokens of 30 steps, 512 in half a second each.
        assert!(page.contains("15360, 1024 per second"));
    }

    #[test]
    fn what_came_of_a_run_stands_first_and_what_it_measured_before_its_curves() {
        let lines = [example(1, "train", 2.0).to_json(), example(2, "train", 1.0).to_json()];
        let compared = pages::Section { verdict: "<p>the verdict</p>".into(), body: "<p>the comparison</p>".into() };
        let page = render("run", &lines, &toml::Table::new(), &Watched::default(), Some(&compared));
        let (comparison, curve) = (page.find("<p>the comparison</p>"), page.find("<svg"));
        assert!(comparison.is_some() && comparison < curve, "{page}");
        let (_, below) = page.split_once("</h1>").expect("a title");
        assert!(below.trim_start().starts_with("<p>the verdict</p>"), "{below}");
    }

    #[test]
    fn a_run_without_a_number_is_a_page_too() {
        assert_eq!(page(&[]).matches("<svg").count(), 0);
        let lines = [example(1, "train", f64::NAN).to_json(), example(2, "train", 1.0).to_json()];
        assert!(page(&lines).contains("<svg"));
    }

    /// A weighted loss and a plain nll are on two scales; a rate that is the same at every step is no chart.
    #[test]
    fn numbers_of_one_scale_share_a_chart_and_constant_ones_have_none() {
        let step = |step: usize| {
            let nll = 2.0 - step as f64 / 100.0;
            let rounding = if step.is_multiple_of(2) { 1e-9 } else { 0.0 };
            let objective = vec![("active_fraction".into(), 0.5 + rounding), ("cutoff".into(), nll)];
            StepRecord { nll, objective, auxiliaries: Vec::new(), ..example(step, "train", 3.0 * nll) }
        };
        let mut records: Vec<StepRecord> = (1..=9).map(step).collect();
        records.push(StepRecord {
            nll: 1.9,
            objective: Vec::new(),
            auxiliaries: Vec::new(),
            ..example(9, "eval", 1.9)
        });
        let drawn = |records: &[StepRecord]| {
            let (charts, constants) = charts(&records.iter().map(StepRecord::to_json).collect::<Vec<_>>());
            let charts: Vec<String> = charts
                .iter()
                .map(|chart| {
                    let splits: Vec<&str> = chart.curves.iter().map(|curve| curve.split).collect();
                    format!("{}: {}", chart.title, splits.join(" "))
                })
                .collect();
            let constants: Vec<String> = constants.iter().map(|row| format!("{}: {}", row.name, row.value)).collect();
            (charts, constants)
        };
        let (charts, constants) = drawn(&records);
        let expected =
            ["nll (nats per token): train eval", "loss (what is minimised): train", "objective/cutoff: train"];
        assert_eq!(charts, expected);
        let expected = [
            "entropy (nats per token): 1.5",
            "gradient norm: 0.25",
            "learning rate: 1e-4",
            "active fraction (weights above 0): 0.5",
        ];
        assert_eq!(constants, expected);
        // Without weights what is minimised is the nll.
        records.iter_mut().for_each(|record| record.loss = record.nll);
        let (charts, constants) = drawn(&records);
        assert_eq!((charts.len(), constants[0].as_str()), (2, "loss (what is minimised): the nll"));
    }

    /// Of what is measured of prompts a few curves stand beside the others, and the rest is folded.
    #[test]
    fn of_what_is_measured_of_prompts_most_is_folded() {
        let step = |step: usize| {
            let value = step as f64;
            let group = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), value)).collect();
            let measured = vec![
                (EXACT.to_owned(), group(&["mass", "kl", "f8", "coverage.10", "coverage.100"])),
                (SAMPLES.to_owned(), group(&["distinct", "ead", "vendi.1"])),
            ];
            StepRecord { measured, nll: value, ..example(step, "eval", value) }.to_json()
        };
        let lines: Vec<Value> = (1..=3).map(step).collect();
        let (found, _) = charts(&lines);
        let titles = |folded: bool| -> Vec<&str> {
            found.iter().filter(|chart| chart.is_folded == folded).map(|chart| &chart.title[..]).collect()
        };
        let shown =
            ["nll (nats per token)", "precision (mass)", "recall (f8)", "coverage in 100 samples", "different samples"];
        assert_eq!(titles(false), shown);
        assert_eq!(titles(true), ["exact/kl", "exact/coverage.10", "samples/ead", "samples/vendi.1"]);
        let page = page(&lines);
        let folded = page.find("<summary>4 more curves").expect("a part that opens without a script");
        let last = page.rfind("aria-label=\"different samples").expect("shown");
        let first = page.find("aria-label=\"exact&#x2f;kl").expect("folded");
        assert!(last < folded && folded < first && page.matches("<svg").count() == 9);
    }

    #[test]
    fn a_curve_has_a_gap_where_a_number_is_not_finite() {
        let losses = [4.0, 3.0, f64::NAN, 2.0, 1.0];
        let lines: Vec<Value> =
            losses.iter().zip(1..).map(|(loss, step)| example(step, "train", *loss).to_json()).collect();
        let chart = chart(&Series::of(&lines, "loss"), String::new()).expect("a chart");
        assert_eq!(chart.curves[0].pieces, ["0.0,0.0 130.0,66.7", "390.0,133.3 520.0,200.0"]);
        assert_eq!(chart.marks_y.iter().map(|mark| mark.text.as_str()).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    }

    #[test]
    fn a_long_run_is_averaged_to_few_points() {
        let points: Vec<_> = (1..=1000).map(|step| (f64::from(step), Some(f64::from(step)))).collect();
        let few = averaged(&points);
        assert_eq!((few.len(), few[0], few[333]), (334, (3.0, Some(2.0)), (1000.0, Some(1000.0))));
    }
}
