//! The pictures of a comparison as numbers: a line for each arm's mean, and thin ones for its seeds.

use metrics::interval::Mean;

use crate::chart::{Dot, Figure, Line};
use crate::number::plain;
use crate::read::Run;
use crate::verdict::{PRECISION, RECALL, nearest_to_one};

/// Recall beside F_8: the expected part of the targets in so many samples.
const COVERAGE: &str = "coverage@100";

type Arms<'a> = [(&'a str, Vec<&'a Run>)];

/// All pictures that the runs have numbers for.
pub fn of(arms: &Arms<'_>) -> Vec<Figure> {
    let mut figures = Vec::new();
    let recall = [(RECALL, "recall (f8)"), (COVERAGE, "coverage in 100 samples")];
    for (key, name) in recall {
        let lines = lines(arms, |run| {
            let points = run.points.iter();
            points.filter_map(|point| Some((point.value(key)?, point.value(PRECISION)?, point.temperature))).collect()
        });
        let title = format!("Precision against {name}, over temperature");
        figures.push(figure(title, name, "precision (mass)", false, lines));
    }
    let counts = lines(arms, |run| {
        let Some(point) = nearest_to_one(run) else { return Vec::new() };
        let numbers = point.values.iter().filter_map(|(key, value)| {
            let count: f64 = key.strip_prefix("coverage@")?.parse().ok()?;
            (count > 0.0).then_some((count, *value, f64::NAN))
        });
        let mut numbers: Vec<_> = numbers.collect();
        numbers.sort_by(|a, b| a.0.total_cmp(&b.0));
        numbers
    });
    figures.push(figure("Coverage against the number of samples".into(), "samples", "coverage", true, counts));
    for (key, title) in [(PRECISION, "Precision (mass) against temperature"), ("nll", "nll against temperature")] {
        let lines = lines(arms, |run| {
            let points = run.points.iter();
            points.filter_map(|point| Some((point.temperature, point.value(key)?, f64::NAN))).collect()
        });
        figures.push(figure(title.into(), "temperature", key, false, lines));
    }
    figures.retain(|figure| figure.lines.iter().any(|line| !line.points.is_empty()));
    figures
}

fn figure(title: String, x: &str, y: &str, logarithmic: bool, lines: Vec<Line>) -> Figure {
    Figure { title, x: x.into(), y: y.into(), logarithmic, lines }
}

/// The lines of what `points` gives of a run: x, y, and the temperature that stands beside it (NaN for none). The mean is
/// that of the places that every run has.
fn lines(arms: &Arms<'_>, points: impl Fn(&Run) -> Vec<(f64, f64, f64)>) -> Vec<Line> {
    let mut lines = Vec::new();
    let label =
        |temperature: f64| if temperature.is_nan() { String::new() } else { format!("T {}", plain(temperature)) };
    let dots = |points: &[(f64, f64, f64)], labelled: bool| {
        let label = |temperature| if labelled { label(temperature) } else { String::new() };
        points.iter().map(|(x, y, temperature)| Dot { x: *x, y: *y, label: label(*temperature) }).collect()
    };
    for (place, (arm, runs)) in arms.iter().enumerate() {
        let seeds: Vec<Vec<(f64, f64, f64)>> = runs.iter().map(|run| points(run)).collect();
        let line = |run, points| Line { arm: (*arm).into(), place, run, points };
        if seeds.len() > 1 {
            for (run, points) in runs.iter().zip(&seeds) {
                lines.push(line(Some(run.name.clone()), dots(points, false)));
            }
        }
        lines.push(line(None, dots(&mean(&seeds), true)));
    }
    // Means lie above the seeds of all arms.
    lines.sort_by_key(|line| line.run.is_none());
    lines
}

/// Points of the same temperature, or else of the same x, averaged; those that a run lacks are left out.
fn mean(seeds: &[Vec<(f64, f64, f64)>]) -> Vec<(f64, f64, f64)> {
    let key = |point: &(f64, f64, f64)| if point.2.is_nan() { point.0 } else { point.2 };
    let Some((first, _)) = seeds.split_first() else { return Vec::new() };
    let at = |point: &(f64, f64, f64)| {
        let same: Option<Vec<_>> =
            seeds.iter().map(|points| points.iter().find(|other| key(other) == key(point))).collect();
        let same = same?;
        let of = |part: fn(&(f64, f64, f64)) -> f64| Mean::of(&same.iter().map(|p| part(p)).collect::<Vec<_>>()).mean;
        Some((of(|p| p.0), of(|p| p.1), point.2))
    };
    first.iter().filter_map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::arms;
    use crate::testing::run;

    #[test]
    fn the_mean_of_seeds_lies_above_them_with_its_temperatures() {
        let runs = [run("n,seed=1", &[(0.5, 0.9, 0.5), (1.0, 0.7, 0.6)]), run("n,seed=2", &[(0.5, 0.7, 0.3)])];
        let figure = of(&arms(&runs)).into_iter().next().expect("a picture");
        let [one, two, mean] = &figure.lines[..] else { panic!("{figure:?}") };
        assert_eq!(
            (one.run.as_deref(), two.run.as_deref(), mean.run.as_deref()),
            (Some("n,seed=1"), Some("n,seed=2"), None)
        );
        assert_eq!((one.points.len(), &one.points[0].label[..]), (2, ""));
        let [dot] = &mean.points[..] else { panic!("{mean:?}") };
        assert!((dot.x - 0.4).abs() < 1e-12 && (dot.y - 0.8).abs() < 1e-12 && dot.label == "T 0.5");
    }
}
