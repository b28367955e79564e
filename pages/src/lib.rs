//! Pages that compare models.
//!
//! What `trainer eval` and `trainer sample` printed goes in ([`read`]), one HTML file comes out ([`render`]) that loads nothing,
//! needs no script, and holds each number of its pictures and tables as JSON. Nothing here knows a model or a folder.

pub mod chart;
pub mod figures;
mod number;
pub mod read;
pub mod samples;
pub mod tables;
#[cfg(test)]
mod testing;
pub mod verdict;

use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde::Serialize;
use serde_json::json;

use crate::read::{Run, arms};
use crate::samples::Drawn;

/// What a page is made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// What is compared.
    pub title: String,
    /// What was evaluated.
    pub runs: Vec<Run>,
    /// The arm that the others are compared with; the first where it is none of them.
    pub baseline: Option<String>,
    /// Shown side by side.
    pub samples: Vec<Drawn>,
    /// How it came about: names and values.
    pub settings: Vec<(String, String)>,
    /// Runs that have no numbers, and why.
    pub failures: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Legend {
    arm: String,
    place: usize,
    runs: usize,
    baseline: bool,
}

/// The page.
pub fn render(comparison: &Comparison) -> String {
    let arms = arms(&comparison.runs);
    let wanted = comparison.baseline.as_deref();
    let baseline = wanted.filter(|wanted| arms.iter().any(|(arm, _)| arm == wanted));
    let baseline = baseline.or(arms.first().map(|(arm, _)| *arm)).unwrap_or_default();
    let base = arms.iter().find(|(arm, _)| *arm == baseline).map(|(_, runs)| &runs[..]).unwrap_or_default();
    let others = arms.iter().filter(|(arm, _)| *arm != baseline);
    let verdicts: Vec<_> = others.map(|(arm, runs)| verdict::compare((baseline, base), (arm, runs))).collect();
    let sentences: Vec<String> = match (&verdicts[..], arms.is_empty()) {
        (_, true) => vec!["Nothing was evaluated, so nothing can be said.".into()],
        ([], false) => vec![format!("{baseline} alone was evaluated: there is nothing to compare it with.")],
        (verdicts, false) => verdicts.iter().map(|verdict| verdict.sentence.clone()).collect(),
    };
    let figures = figures::of(&arms);
    let tables = tables::metrics(&arms, baseline);
    let changes = tables::changes(&arms, baseline);
    let legend: Vec<Legend> = arms
        .iter()
        .enumerate()
        .map(|(place, (arm, runs))| Legend {
            arm: (*arm).into(),
            place,
            runs: runs.len(),
            baseline: *arm == baseline && arms.len() > 1,
        })
        .collect();
    let json = json!({
        "title": comparison.title,
        "baseline": baseline,
        "verdicts": verdicts,
        "figures": figures,
        "tables": tables,
        "prompts": changes,
        "settings": comparison.settings,
        "failures": comparison.failures,
    });
    let mut environment = Environment::new();
    // The ending of the name turns on the escaping of HTML.
    environment.add_template("page.html", include_str!("page.html.jinja")).expect("the template is valid");
    let template = environment.get_template("page.html").expect("it was just added");
    let page = context! {
        title => &comparison.title,
        sentences => sentences,
        legend => Serde(legend),
        width => chart::WIDTH,
        height => chart::HEIGHT,
        figures => Serde(figures.iter().filter_map(chart::draw).collect::<Vec<_>>()),
        tables => Serde(&tables),
        changes => Serde(&changes),
        samples => Serde(samples::side_by_side(&comparison.samples)),
        sizes => Serde(sizes(&comparison.runs)),
        settings => Serde(&comparison.settings),
        failures => Serde(&comparison.failures),
        json => escaped(&json.to_string()),
        version => env!("CARGO_PKG_VERSION"),
    };
    template.render(page).expect("the template names what it is given")
}

/// JSON that no HTML parser takes for the end of its script.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c")
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
