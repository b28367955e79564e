//! Pages that compare models.
//!
//! What `trainer eval` and `trainer sample` printed goes in ([`read`], [`samples`]), one HTML file comes out ([`render`]) that
//! loads nothing, needs no script, and holds each number of its pictures and tables as JSON. Nothing here knows a model or a
//! folder. Each part of the page is a file: what it shows is computed there, its elements stand in the template.

pub mod axis;
pub mod changes;
pub mod chart;
pub mod distribution;
pub mod figures;
pub mod grid;
pub mod keys;
pub mod labels;
pub mod levels;
pub mod number;
pub mod pairs;
mod placing;
pub mod read;
pub mod references;
pub mod samples;
pub mod tables;
#[cfg(test)]
mod testing;
mod text;
pub mod training;
pub mod verdict;

use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde::Serialize;
use serde_json::{Value, json};

use crate::chart::{Drawing, Figure};
use crate::figures::View;
use crate::grid::Grid;
use crate::labels::Labels;
use crate::read::{Arm, Run, arms};
use crate::samples::{Drawn, Targets};
use crate::training::Training;
use crate::verdict::Verdict;

/// The style of the page, for pages that hold a [`section`].
pub const STYLE: &str = include_str!("style.css");

/// Arms that have a column and a line; all stand in the overview.
const SHOWN: usize = 12;

/// Of these, those that do worst.
const WORST: usize = 3;

/// What a page is made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// What is compared.
    pub title: String,
    /// What was evaluated.
    pub runs: Vec<Run>,
    /// The arm that the others are compared with; the first where none is named.
    pub baseline: Option<String>,
    /// The arm whose verdict stands first.
    pub lead: Option<String>,
    /// The user's own temperature; 1 where none is known.
    pub temperature: Option<f64>,
    /// Shown side by side.
    pub samples: Vec<Drawn>,
    /// What is right to say after a prompt, of rows that were evaluated.
    pub targets: Targets,
    /// The keys of a sweep.
    pub grid: Grid,
    /// How the runs were trained.
    pub training: Vec<Training>,
    /// How it came about: names and values.
    pub settings: Vec<(String, String)>,
    /// Runs that have no numbers, and why.
    pub failures: Vec<(String, String)>,
    /// What else is to be known, a sentence each.
    pub notes: Vec<String>,
}

/// A baseline that is no arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownBaseline {
    /// What was asked for.
    pub wanted: String,
    /// The arms that there are.
    pub arms: Vec<String>,
}

#[derive(Serialize)]
struct Legend {
    arm: String,
    place: usize,
    runs: usize,
    baseline: bool,
}

/// The page.
///
/// # Errors
/// A baseline that is no arm.
pub fn render(comparison: &Comparison) -> Result<String, UnknownBaseline> {
    let Section { verdict, body } = section(comparison)?;
    let page = context! {
        title => &comparison.title,
        style => STYLE,
        verdict,
        body,
        version => env!("CARGO_PKG_VERSION"),
    };
    Ok(filled("page.html", include_str!("page.html.jinja"), &Labels::default(), page))
}

/// A comparison without the page around it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// What came out, in sentences: they stand first on any page.
    pub verdict: String,
    /// Pictures and tables.
    pub body: String,
}

/// The comparison without the page around it, to stand in another one that has [`STYLE`].
///
/// # Errors
/// A baseline that is no arm.
pub fn section(comparison: &Comparison) -> Result<Section, UnknownBaseline> {
    let all = arms(&comparison.runs);
    let labels = labels(comparison, &all);
    let (baseline, verdicts) = verdicts(comparison, &all, &labels)?;
    let shown = in_order(shown(&all, baseline.0, &verdicts), baseline.0, &verdicts, comparison);
    let view = View {
        arms: &shown,
        temperature: comparison.temperature.unwrap_or(1.0),
        ceiling: figures::ceiling(&comparison.runs),
    };
    let told = context! {
        sentences => sentences(&all, &baseline, &verdicts, &labels, !comparison.samples.is_empty()),
        has_intervals => verdicts.iter().filter(|verdict| verdict.half_width.is_some()).count() > 1,
    };
    let filling = filling(comparison, &all, &view, &baseline, &verdicts, &labels);
    Ok(Section {
        verdict: filled("verdict.html", include_str!("verdict.html.jinja"), &labels, told),
        body: filled("section.html", include_str!("section.html.jinja"), &labels, filling),
    })
}

/// The labels of all arms, those that have samples alone among them.
fn labels(comparison: &Comparison, all: &[Arm<'_>]) -> Labels {
    let mut names: Vec<&str> = all.iter().map(|(arm, _)| *arm).collect();
    for drawn in &comparison.samples {
        if !names.contains(&&drawn.model[..]) {
            names.push(&drawn.model);
        }
    }
    Labels::of(&names, &comparison.grid)
}

/// The sentence that stands first on the page, if there is anything to compare.
///
/// # Errors
/// A baseline that is no arm.
pub fn headline(comparison: &Comparison) -> Result<Option<String>, UnknownBaseline> {
    let all = arms(&comparison.runs);
    let (_, verdicts) = verdicts(comparison, &all, &labels(comparison, &all))?;
    Ok(verdicts.into_iter().next().map(|verdict| verdict.sentence))
}

/// The baseline, and the verdicts on all others in the order of the page.
fn verdicts<'a>(
    comparison: &Comparison,
    all: &[Arm<'a>],
    labels: &Labels,
) -> Result<(Arm<'a>, Vec<Verdict>), UnknownBaseline> {
    let names = || all.iter().map(|(arm, _)| (*arm).to_owned()).collect();
    let baseline = match &comparison.baseline {
        Some(wanted) => all
            .iter()
            .find(|(arm, _)| Some(*arm) == labels.arm(wanted))
            .cloned()
            .ok_or_else(|| UnknownBaseline { wanted: wanted.clone(), arms: names() })?,
        None => all.first().cloned().unwrap_or_default(),
    };
    let others = all.iter().filter(|(arm, _)| *arm != baseline.0);
    let mut verdicts: Vec<Verdict> = others.map(|arm| verdict::compare(&baseline, arm, labels)).collect();
    // A model without a seed among arms of seeds, as the base is, comes last.
    let seeds = comparison.runs.iter().any(|run| run.seed.is_some());
    let is_without = |name: &str| seeds && comparison.runs.iter().any(|run| run.arm == name && run.seed.is_none());
    verdicts.sort_by_key(|verdict| (Some(&verdict.arm) != comparison.lead.as_ref(), is_without(&verdict.arm)));
    Ok((baseline, verdicts))
}

/// What the template of the comparison is filled with.
fn filling(
    comparison: &Comparison,
    all: &[Arm<'_>],
    view: &View<'_>,
    baseline: &Arm<'_>,
    verdicts: &[Verdict],
    labels: &Labels,
) -> minijinja::Value {
    let temperature = view.nearest();
    let (exact, curves) = (figures::frontiers(view), figures::curves(view));
    let frontiers = [&exact[..], &references::frontiers(view)].concat();
    let levels = levels::levels(view.arms, baseline);
    let distributions = distribution::distributions(view.arms, baseline, temperature);
    let side_by_side = samples::side_by_side(&comparison.samples, &comparison.runs, &comparison.targets);
    let tables = tables::metrics(view.arms, baseline, temperature, &view.ceiling);
    let changes = changes::changes(view.arms, baseline, temperature);
    let overview = grid::overview(all, verdicts, &comparison.grid, temperature);
    let (heat_maps, lines) = grid::pictures(&overview, &comparison.grid);
    let order: Vec<&str> = view.arms.iter().map(|(arm, _)| *arm).collect();
    let training = training::curves(&comparison.training, &order);
    let legend: Vec<Legend> = view
        .arms
        .iter()
        .enumerate()
        .map(|(place, (arm, runs))| Legend {
            arm: (*arm).into(),
            place,
            runs: runs.len(),
            baseline: *arm == baseline.0 && all.len() > 1,
        })
        .collect();
    let failures = [&comparison.failures[..], &unfinished(&comparison.runs)].concat();
    let figures = [&frontiers[..], &lines, &curves, &training].concat();
    let json = json!({
        "title": comparison.title, "baseline": baseline.0, "labels": labels.all(), "verdicts": verdicts, "levels": levels,
        "figures": figures,
        "distributions": distributions, "heat_maps": heat_maps, "overview": overview, "tables": tables,
        "prompts": changes, "settings": comparison.settings, "failures": failures, "notes": comparison.notes,
    });
    let drawn_distributions: Vec<Option<Drawing>> =
        distributions.iter().map(|found| found.figure.as_ref().and_then(chart::draw)).collect();
    let drawn = |figures: &[Figure]| Serde(figures.iter().filter_map(chart::draw).collect::<Vec<_>>());
    context! {
        legend => Serde(legend),
        hidden => all.len() - view.arms.len(),
        baseline => baseline.0,
        width => chart::WIDTH,
        height => chart::HEIGHT,
        frontiers => drawn(&frontiers),
        is_exact => !exact.is_empty(),
        lines => drawn(&lines),
        curves => drawn(&curves),
        training => drawn(&training),
        levels => Serde(levels),
        distributions => Serde(&distributions),
        drawn_distributions => Serde(drawn_distributions),
        samples => Serde(side_by_side),
        has_grid => !comparison.grid.keys.is_empty(),
        keys => comparison.grid.keys.len(),
        heat_maps => Serde(heat_maps),
        overview => Serde((all.len() > 2 || !comparison.grid.keys.is_empty()).then_some(overview)),
        tables => Serde(&tables),
        changes => Serde(&changes),
        sizes => Serde(sizes(&comparison.runs)),
        settings => Serde(&comparison.settings),
        failures => Serde(by_reason(&failures)),
        notes => Serde(&comparison.notes),
        json => json_in_html(&json),
    }
}

fn filled(name: &str, template: &str, labels: &Labels, context: minijinja::Value) -> String {
    let mut environment = Environment::new();
    let labels = labels.clone();
    environment.add_filter("label", move |arm: String| labels.label(&arm).to_owned());
    environment.add_filter("breakable", |name: String| minijinja::Value::from_safe_string(text::breakable(&name)));
    // The ending of the name turns on the escaping of HTML.
    environment.add_template(name, template).expect("the template is valid");
    let template = environment.get_template(name).expect("it was just added");
    template.render(context).expect("the template names what it is given")
}

/// JSON that no HTML parser takes for the end of its script.
pub fn json_in_html(json: &Value) -> String {
    json.to_string().replace('<', "\\u003c")
}

fn sentences(all: &[Arm<'_>], baseline: &Arm<'_>, verdicts: &[Verdict], labels: &Labels, drawn: bool) -> Vec<String> {
    match (verdicts, all.is_empty()) {
        (_, true) if drawn => {
            vec!["There are no exact evaluations, so no difference can be told; what was drawn stands below.".into()]
        }
        (_, true) => vec!["Nothing was evaluated, so nothing can be said.".into()],
        ([], false) => {
            let name = labels.label(baseline.0);
            vec![format!("{name} alone was evaluated: there is nothing to compare it with.")]
        }
        // Of samples alone there is none for all the same reason, which one sentence says.
        (verdicts, false) if verdicts.iter().all(Verdict::has_nothing) => {
            vec![verdict::nothing_measured(verdicts.len())]
        }
        (verdicts, false) => verdicts.iter().map(|verdict| verdict.sentence.clone()).collect(),
    }
}

/// Runs whose prompts were measured, and not all of them together.
fn unfinished(runs: &[Run]) -> Vec<(String, String)> {
    let without = runs.iter().filter(|run| run.points.is_empty() && !run.parts.is_empty());
    let why = "its lines end before the one for all prompts together: the file was cut off";
    without.map(|run| (run.name.clone(), why.to_owned())).collect()
}

/// What has no numbers under the reason that it has none, in the order of the first of each.
fn by_reason(failures: &[(String, String)]) -> Vec<(&str, Vec<&str>)> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, reason) in failures {
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, names)) => names.push(name),
            None => reasons.push((reason, vec![name])),
        }
    }
    reasons
}

/// The arms that have a line and a column: all, or where they are many the baseline, the first verdict's, and those that do
/// best and worst.
fn shown<'a>(all: &[Arm<'a>], baseline: &str, verdicts: &[Verdict]) -> Vec<Arm<'a>> {
    if all.len() <= SHOWN {
        return all.to_vec();
    }
    let mut ranked: Vec<&Verdict> = verdicts.iter().collect();
    ranked.sort_by(|a, b| {
        let of = |verdict: &Verdict| verdict.difference.unwrap_or(f64::NEG_INFINITY);
        of(b).total_cmp(&of(a))
    });
    let with_number: Vec<&Verdict> = ranked.iter().copied().filter(|verdict| verdict.difference.is_some()).collect();
    let worst = with_number.iter().rev().take(WORST);
    let first = verdicts.first();
    let wanted = first.into_iter().chain(worst.copied()).chain(ranked.iter().copied());
    let mut kept = vec![baseline];
    for verdict in wanted {
        if kept.len() < SHOWN && !kept.contains(&&verdict.arm[..]) {
            kept.push(&verdict.arm);
        }
    }
    all.iter().filter(|(arm, _)| kept.contains(arm)).cloned().collect()
}

/// The arms in the order of their columns: where runs have seeds the baseline, then the others as their verdicts stand, so that
/// what is asked for has room on a small screen and the base comes last. Steps of a run stay in the order of the run.
fn in_order<'a>(mut arms: Vec<Arm<'a>>, baseline: &str, verdicts: &[Verdict], comparison: &Comparison) -> Vec<Arm<'a>> {
    if comparison.runs.iter().any(|run| run.seed.is_some()) {
        let place = |arm: &Arm<'_>| verdicts.iter().position(|verdict| verdict.arm == arm.0);
        arms.sort_by_key(|arm| if arm.0 == baseline { None } else { Some(place(arm).unwrap_or(verdicts.len())) });
    }
    arms
}

/// How much was evaluated, where that differs between runs by run.
fn sizes(runs: &[Run]) -> Vec<(String, String)> {
    let Some(first) = runs.first() else { return Vec::new() };
    let text = |run: &Run| {
        run.sizes.iter().map(|(name, size)| format!("{} {name}", number::plain(*size))).collect::<Vec<_>>().join(", ")
    };
    match runs.iter().all(|run| run.sizes == first.sizes) {
        true => vec![("evaluated".into(), text(first))],
        false => runs.iter().map(|run| (format!("evaluated of {}", run.name), text(run))).collect(),
    }
}
