//! What models give to each target of a prompt, beside the truth: sorted bars, and for many targets the cumulative curve.

use metrics::interval::Mean;
use serde::Serialize;

use crate::chart::{Dot, Figure, Line};
use crate::number::plain;
use crate::read::{Arm, Part, Point, Run, at};
use crate::text::Shown;

/// Prompts that are shown.
const PROMPTS: usize = 6;

/// Models that stand beside the truth.
const MODELS: usize = 6;

/// More targets than this are a curve.
const BARS: usize = 16;

/// Most points of such a curve.
const POINTS: usize = 200;

/// A prompt with its targets.
#[derive(Debug, Serialize)]
pub struct Distribution {
    prompt: Shown,
    temperature: f64,
    temperature_text: String,
    targets: usize,
    /// Least that the loss can be: the entropy of the truth.
    floor: Option<f64>,
    floor_text: String,
    models: Vec<Model>,
    /// Arms that have it, too, and are not drawn.
    left_out: Vec<String>,
    /// By falling truth; empty where there are too many.
    bars: Vec<Bar>,
    /// In place of the bars.
    pub figure: Option<Figure>,
}

#[derive(Debug, Serialize)]
struct Model {
    arm: String,
    place: usize,
    mass: Option<f64>,
    entropy: Option<f64>,
    text: String,
}

#[derive(Debug, Serialize)]
struct Bar {
    target: Shown,
    truth: Size,
    models: Vec<Size>,
}

#[derive(Debug, Serialize)]
struct Size {
    /// Place of the arm; `None` for the truth.
    place: Option<usize>,
    value: f64,
    text: String,
    /// Of the longest bar, in hundredths.
    width: String,
}

/// The prompts of which probabilities are known at `temperature`, as the baseline, the arms before it and those after it
/// have them.
pub fn distributions(arms: &[Arm<'_>], baseline: &Arm<'_>, temperature: Option<f64>) -> Vec<Distribution> {
    let Some(temperature) = temperature else { return Vec::new() };
    let has = |run: &Run| run.parts.iter().any(|part| known(part, temperature).is_some());
    let mut chosen: Vec<(usize, &Arm<'_>)> =
        arms.iter().enumerate().filter(|(_, (_, runs))| runs.iter().any(|r| has(r))).collect();
    // The baseline and the base come first, whatever stands where in a long list.
    chosen.sort_by_key(|(place, arm)| (arm.0 != baseline.0, !arm.1.iter().all(|run| run.seed.is_none()), *place));
    let mut left_out = chosen.split_off(chosen.len().min(MODELS));
    left_out.sort_by_key(|(place, _)| *place);
    chosen.sort_by_key(|(place, _)| *place);
    let left_out: Vec<String> = left_out.iter().map(|(_, (arm, _))| (*arm).to_owned()).collect();
    let Some(first) = chosen.iter().flat_map(|(_, (_, runs))| runs).find(|run| has(run)) else { return Vec::new() };
    let parts = first.parts.iter().filter_map(|part| Some((part, known(part, temperature)?)));
    let drawn =
        |(part, truth)| Distribution { left_out: left_out.clone(), ..distribution(part, truth, &chosen, temperature) };
    parts.take(PROMPTS).map(drawn).collect()
}

fn known(part: &Part, temperature: f64) -> Option<&Point> {
    at(&part.points, Some(temperature)).filter(|point| !point.targets.is_empty())
}

fn distribution(part: &Part, truth: &Point, chosen: &[(usize, &Arm<'_>)], temperature: f64) -> Distribution {
    // Each arm's runs that have this prompt.
    let points: Vec<(usize, &str, Vec<&Point>)> = chosen
        .iter()
        .map(|(place, (arm, runs))| {
            let same = runs.iter().filter_map(|run| run.parts.iter().find(|other| other.is(part)));
            (*place, *arm, same.filter_map(|part| known(part, temperature)).collect())
        })
        .filter(|(_, _, points): &(usize, &str, Vec<&Point>)| !points.is_empty())
        .collect();
    let mut order: Vec<usize> = (0..truth.targets.len()).collect();
    order.sort_by(|a, b| truth.targets[*b].p.total_cmp(&truth.targets[*a].p));
    let q = |points: &[&Point], target: usize| {
        let of = |point: &&Point| {
            let same = point.targets.get(target).filter(|known| known.text == truth.targets[target].text);
            same.map(|known| known.q)
        };
        let values: Vec<f64> = points.iter().filter_map(of).collect();
        if values.is_empty() { 0.0 } else { Mean::of(&values).mean }
    };
    let model = |(place, arm, points): &(usize, &str, Vec<&Point>)| {
        let mean = |name: &str| {
            let values: Vec<f64> = points.iter().filter_map(|point| point.value(name)).collect();
            (!values.is_empty()).then(|| Mean::of(&values).mean)
        };
        let (mass, entropy) = (mean("mass"), mean("entropy"));
        let text = |name: &str, value: Option<f64>| format!("{name} {}", value.map_or("not known".into(), plain));
        let text = format!("{}, {}", text("mass", mass), text("entropy", entropy));
        Model { arm: (*arm).into(), place: *place, mass, entropy, text }
    };
    let floor = truth.value("floor");
    let is_many = order.len() > BARS;
    let figure = is_many.then(|| {
        let kept = kept(order.len());
        let mut lines: Vec<Line> = points
            .iter()
            .map(|(place, arm, points)| {
                let values: Vec<f64> = order.iter().map(|target| q(points, *target)).collect();
                Line { arm: (*arm).into(), place: Some(*place), points: cumulated(&values, &kept), ..Line::default() }
            })
            .collect();
        let values: Vec<f64> = order.iter().map(|target| truth.targets[*target].p).collect();
        lines.push(Line { arm: "truth".into(), points: cumulated(&values, &kept), ..Line::default() });
        Figure {
            title: format!("Cumulative probability of {} targets, the truest first", order.len()),
            note: "Dashed: the truth.".into(),
            x: "targets".into(),
            y: "probability".into(),
            lines,
            ..Figure::default()
        }
    });
    let most = truth.targets.iter().map(|target| target.p);
    let most =
        most.chain(points.iter().flat_map(|(_, _, points)| (0..truth.targets.len()).map(|target| q(points, target))));
    let most = most.fold(0.0, f64::max);
    let size = |place: Option<usize>, value: f64| {
        let part = if most > 0.0 { 100.0 * value / most } else { 0.0 };
        Size { place, value, text: plain(value), width: format!("{part:.2}") }
    };
    let bar = |target: &usize| Bar {
        target: Shown::of(&truth.targets[*target].text),
        truth: size(None, truth.targets[*target].p),
        models: points.iter().map(|(place, _, points)| size(Some(*place), q(points, *target))).collect(),
    };
    Distribution {
        prompt: Shown::of(&part.name),
        temperature,
        temperature_text: plain(temperature),
        targets: order.len(),
        floor,
        floor_text: floor.map_or("not known".into(), plain),
        models: points.iter().map(model).collect(),
        left_out: Vec::new(),
        bars: if is_many { Vec::new() } else { order.iter().map(bar).collect() },
        figure,
    }
}

/// The numbers of targets at which a curve has its points, the first and the last among them.
fn kept(count: usize) -> Vec<usize> {
    let step = count.div_ceil(POINTS).max(1);
    let mut kept: Vec<usize> = (1..=count).step_by(step).collect();
    if kept.last() != Some(&count) {
        kept.push(count);
    }
    kept
}

fn cumulated(values: &[f64], kept: &[usize]) -> Vec<Dot> {
    let mut sum = 0.0;
    let sums: Vec<f64> = values
        .iter()
        .map(|value| {
            sum += value;
            sum
        })
        .collect();
    kept.iter().map(|count| Dot { x: *count as f64, y: sums[count - 1], ..Dot::default() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{Target, arms};
    use crate::testing::run;

    fn with_targets(name: &str, targets: &[(f64, f64)]) -> Run {
        let target = |(place, (p, q)): (usize, &(f64, f64))| Target { text: format!("t{place}"), p: *p, q: *q };
        let point = Point {
            temperature: Some(1.0),
            values: vec![("floor".into(), 1.0), ("entropy".into(), 0.5), ("mass".into(), 0.25)],
            targets: targets.iter().enumerate().map(target).collect(),
            ..Point::default()
        };
        let part = Part { name: "p".into(), is_prompt: true, points: vec![point], ..Part::default() };
        Run { parts: vec![part], ..run(name, &[]) }
    }

    #[test]
    fn bars_are_sorted_by_the_truth_and_are_means_over_seeds() {
        let runs = [
            with_targets("base", &[(0.25, 0.8), (0.75, 0.1)]),
            with_targets("n,seed=1", &[(0.25, 0.2), (0.75, 0.5)]),
            with_targets("n,seed=2", &[(0.25, 0.4), (0.75, 0.5)]),
        ];
        let arms = arms(&runs);
        let found = distributions(&arms, &arms[1], Some(1.0)).remove(0);
        let bars: Vec<_> = found
            .bars
            .iter()
            .map(|bar| (bar.truth.value, bar.models.iter().map(|size| size.value).collect::<Vec<_>>()))
            .collect();
        assert_eq!((bars[0].clone(), bars[1].0), ((0.75, vec![0.1, 0.5]), 0.25));
        assert!((bars[1].1[1] - 0.3).abs() < 1e-12 && found.bars[1].models[0].width == "100.00");
        assert_eq!((found.floor, &found.models[1].text[..]), (Some(1.0), "mass 0.25, entropy 0.5"));
        assert!(found.figure.is_none() && distributions(&arms, &arms[1], Some(2.0)).is_empty());
    }

    #[test]
    fn many_targets_are_a_curve_that_ends_at_the_mass() {
        let targets: Vec<(f64, f64)> =
            (0..1000).map(|place| (0.001, if place % 2 == 0 { 0.001 } else { 0.0 })).collect();
        let runs = [with_targets("a", &targets)];
        let arms = arms(&runs);
        let found = distributions(&arms, &arms[0], Some(1.0)).remove(0);
        let figure = found.figure.expect("a curve");
        assert!(found.bars.is_empty() && figure.lines.len() == 2 && figure.lines[0].points.len() <= POINTS + 1);
        let end = |line: &Line| line.points.last().map(|dot| (dot.x, (dot.y * 1e6).round() / 1e6));
        assert_eq!((end(&figure.lines[0]), end(&figure.lines[1])), (Some((1000.0, 0.5)), Some((1000.0, 1.0))));
    }
}
