//! Training curves of several runs, from the lines of their `metrics.jsonl`.

use serde_json::Value;

use crate::chart::Figure;
use crate::figures::{View, lines};
use crate::read::Run;

/// More points than this are averaged in groups.
const POINTS: usize = 60;

/// The steps of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Training {
    /// Its name among the runs that were evaluated.
    pub run: String,
    /// Its arm.
    pub arm: String,
    /// Its seed.
    pub seed: Option<u64>,
    /// The lines of its `metrics.jsonl`.
    pub lines: Vec<Value>,
}

/// What is drawn: of which rows, where it stands, and what it is.
const CURVES: [(&str, &str, &str); 9] = [
    ("eval", "/nll", "nll of the held-out rows (nats per token)"),
    ("train", "/nll", "nll of the training rows (nats per token)"),
    ("train", "/loss", "loss (what is minimised)"),
    ("train", "/entropy", "entropy (nats per token)"),
    ("train", "/grad_norm", "gradient norm"),
    ("train", "/objective/weight_mean", "mean weight"),
    ("train", "/objective/weight_max", "largest weight"),
    ("train", "/objective/active_fraction", "active fraction (weights above 0)"),
    ("train", "/tokens_loss", "learned tokens of a step"),
];

/// A picture for each number that some run has and that is not the same at every step of every run.
pub fn curves(trainings: &[Training], order: &[&str]) -> Vec<Figure> {
    // The colours are those of the arms elsewhere on the page.
    let runs: Vec<Run> = trainings
        .iter()
        .map(|t| Run { name: t.run.clone(), arm: t.arm.clone(), seed: t.seed, ..Run::default() })
        .collect();
    // Of a run alone the arms of the page are its steps, and the training is that of all of them.
    let own: Vec<&str> = match trainings.iter().any(|training| order.contains(&&training.arm[..])) {
        true => order.to_vec(),
        false => {
            let mut arms: Vec<&str> = trainings.iter().map(|training| &training.arm[..]).collect();
            arms.dedup();
            arms
        }
    };
    let arms = own.iter().map(|arm| (*arm, runs.iter().filter(|run| run.arm == **arm).collect::<Vec<&Run>>()));
    let arms: Vec<_> = arms.collect();
    let view = View { arms: &arms, temperature: f64::NAN, ceiling: Vec::new() };
    let curve = |(split, path, title): &(&str, &str, &str)| {
        let points = |run: &Run| {
            let training = trainings.iter().find(|t| t.run == run.name && t.arm == run.arm);
            training.map(|training| points(&training.lines, split, path)).unwrap_or_default()
        };
        let lines = lines(&view, false, points);
        let figure = Figure { title: (*title).into(), x: "step".into(), y: String::new(), lines, ..Figure::default() };
        let mut values = figure.lines.iter().flat_map(|line| &line.points).map(|dot| dot.y);
        let first = values.next()?;
        values.any(|value| (value - first).abs() > 1e-6 * first.abs()).then_some(figure)
    };
    CURVES.iter().filter_map(curve).collect()
}

/// Steps with their numbers, those that are finite, neighbours averaged.
fn points(lines: &[Value], split: &str, path: &str) -> Vec<(f64, f64, f64)> {
    let of_split = lines.iter().filter(|line| line["split"] == split);
    let points: Vec<(f64, f64)> =
        of_split.filter_map(|line| Some((line["step"].as_f64()?, line.pointer(path)?.as_f64()?))).collect();
    let group = points.len().div_ceil(POINTS).max(1);
    points
        .chunks(group)
        .map(|group| {
            let mean = group.iter().map(|(_, value)| value).sum::<f64>() / group.len() as f64;
            (group[group.len() - 1].0, mean, f64::NAN)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_curve_for_each_number_that_changes() {
        let lines = |shift: f64| -> Vec<Value> {
            let step = |step: usize| json!({"split": "train", "step": step, "nll": shift + step as f64, "entropy": 1.0, "grad_norm": null});
            (1..=120).map(step).collect()
        };
        let training = |seed: u64, shift: f64| Training {
            run: format!("n,seed={seed}"),
            arm: "n".into(),
            seed: Some(seed),
            lines: lines(shift),
        };
        let found = curves(&[training(1, 0.0), training(2, 1.0)], &["base", "n"]);
        let [figure] = &found[..] else { panic!("{found:?}") };
        let mean = &figure.lines[2];
        assert_eq!(
            (figure.lines.len(), mean.place, mean.run.as_deref(), mean.points.len()),
            (3, Some(1), None, POINTS)
        );
        // Steps 1 and 2 of both seeds.
        assert_eq!((mean.points[0].x, mean.points[0].y), (2.0, 2.0));
    }
}
