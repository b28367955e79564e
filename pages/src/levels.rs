//! Recall of every arm at round precisions, and the temperature that has it.

use metrics::frontier::{at_precision, setting_at};
use metrics::interval::Mean;
use serde::Serialize;

use crate::axis::range;
use crate::number::{plain, signed_with_half, with_half};
use crate::pairs::{Difference, Pairs, half_width};
use crate::read::{Arm, Run};
use crate::verdict::{Curve, PRECISION, RECALL, staircase};

/// Distances of the precisions that are shown, of which there are at most [`LEVELS`] and one.
const STEPS: [f64; 7] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1];
/// As [`STEPS`].
const LEVELS: f64 = 12.0;

/// Recall at equal precision, over a grid of precisions.
#[derive(Debug, Serialize)]
pub struct Level {
    /// The precision.
    pub precision: f64,
    text: String,
    /// True where some arm has more recall with more precision.
    is_beaten: bool,
    cells: Vec<Reached>,
}

#[derive(Debug, Serialize)]
struct Reached {
    arm: String,
    /// Runs whose curve reaches the precision.
    count: usize,
    runs: usize,
    mean: Option<f64>,
    half_width: Option<f64>,
    /// Where its runs have that recall, their mean.
    temperature: Option<f64>,
    temperature_text: String,
    /// The largest recall with that precision or more, where it is larger.
    with_more_precision: Option<f64>,
    difference: Option<f64>,
    difference_half_width: Option<f64>,
    text: String,
    more_text: String,
    difference_text: String,
    grey: bool,
}

/// The temperature at which a run has its largest recall at this precision.
fn temperature_at(run: &Run, precision: f64) -> Option<f64> {
    setting_at(&run.sweep(PRECISION, RECALL), precision, false).map(|(_, temperature)| temperature)
}

/// Recall of every arm at round precisions; an arm has a value where all of its runs reach it.
pub fn levels(arms: &[Arm<'_>], baseline: &Arm<'_>) -> Vec<Level> {
    let curve = |run: &Run| run.curve(PRECISION, RECALL);
    let all = arms.iter().flat_map(|(_, runs)| runs).flat_map(|run| curve(run));
    let Some((low, high)) = range(all.map(|point| point.0)) else { return Vec::new() };
    let step = STEPS.into_iter().find(|step| (high - low) / step <= LEVELS).unwrap_or(1.0);
    let count = (1.0f64 / step).round();
    let grid = (0..=count as usize).rev().map(|place| place as f64 / count);
    let grid = grid.filter(|precision| (low..=high).contains(precision));
    let cell = |arm: &Arm<'_>, precision: f64| {
        let recalls: Vec<f64> = arm.1.iter().filter_map(|run| at_precision(&curve(run), precision)).collect();
        let mean = (recalls.len() == arm.1.len()).then(|| Mean::of(&recalls));
        let both =
            |(a, b): &(&Run, &Run)| Some((at_precision(&curve(a), precision)?, at_precision(&curve(b), precision)?));
        let pairs = (arm.0 != baseline.0).then(|| Pairs::of(&baseline.1, &arm.1).ok()).flatten();
        let recalls_of_pairs: Option<Vec<_>> = pairs.and_then(|pairs| pairs.runs.iter().map(both).collect());
        let difference = recalls_of_pairs.as_deref().and_then(Difference::of);
        let half = mean.as_ref().and_then(half_width);
        let curves: Vec<Curve> = arm.1.iter().map(|run| curve(run)).collect();
        let more = staircase(curves.iter(), precision);
        let settings: Option<Vec<f64>> = arm.1.iter().map(|run| temperature_at(run, precision)).collect();
        let temperature = settings.filter(|_| mean.is_some()).map(|settings| Mean::of(&settings).mean);
        let text = match &mean {
            Some(mean) => with_half(mean.mean, half),
            None if recalls.is_empty() => "not reached".into(),
            None => format!("reached by {} of {}", recalls.len(), arm.1.len()),
        };
        Reached {
            arm: arm.0.into(),
            count: recalls.len(),
            runs: arm.1.len(),
            mean: mean.map(|mean| mean.mean),
            half_width: half,
            temperature,
            temperature_text: temperature.map_or(String::new(), |temperature| format!("T {temperature:.2}")),
            with_more_precision: more,
            more_text: more.map_or(String::new(), plain),
            difference: difference.map(|difference| difference.mean),
            difference_half_width: difference.and_then(|difference| difference.half_width),
            text,
            difference_text: difference.map_or(String::new(), |d| signed_with_half(d.mean, d.half_width)),
            grey: arm.0 != baseline.0 && !difference.is_some_and(|difference| difference.is_told()),
        }
    };
    let level = |precision: f64| {
        let cells: Vec<Reached> = arms.iter().map(|arm| cell(arm, precision)).collect();
        let is_beaten = cells.iter().any(|cell| cell.with_more_precision.is_some());
        Level { precision, text: plain(precision), is_beaten, cells }
    };
    let mut levels: Vec<Level> = grid.map(level).collect();
    levels.retain(|level| level.cells.iter().any(|cell| cell.count > 0));
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{line, run};

    #[test]
    fn what_more_precision_has_stands_beside_it_with_the_temperature() {
        let hot = |name: &str, shift: f64| {
            let points = [(0.5, 0.9, 0.6), (0.7, 0.7, 0.7), (1.0, 0.1, 0.3), (2.0, 0.0, 0.1)];
            run(name, &points.map(|(temperature, precision, recall)| (temperature, precision, recall + shift)))
        };
        let runs = [hot("n", 0.0), hot("c", 0.1)];
        let base: Arm<'_> = ("n", vec![&runs[0]]);
        let levels = levels(&[base.clone(), ("c", vec![&runs[1]])], &base);
        let texts: Vec<(&str, &str, &str)> =
            levels.iter().map(|l| (&l.text[..], &l.cells[0].text[..], &l.cells[0].more_text[..])).collect();
        // At a precision of .7 and above it falls as recall rises.
        assert_eq!((texts[1], texts[2]), (("0.8", "0.65", ""), ("0.7", "0.7", "")));
        assert!(texts[3..].iter().all(|(_, _, more)| *more == "0.7"), "{texts:?}");
        let cell = &levels[1].cells[0];
        assert!(
            cell.temperature.is_some_and(|found| (found - 0.6).abs() < 1e-9) && cell.temperature_text == "T 0.60",
            "{cell:?}"
        );
    }

    #[test]
    fn a_precision_that_a_seed_does_not_reach_has_no_value() {
        let runs = [line("n,seed=1", 0.0), line("n,seed=2", 0.1), run("c,seed=1", &[(1.0, 0.7, 0.7), (2.0, 0.5, 0.8)])];
        let base: Arm<'_> = ("n", vec![&runs[0], &runs[1]]);
        let levels = levels(&[base.clone(), ("c", vec![&runs[2]])], &base);
        let at = |precision: f64| {
            let found = levels.iter().find(|level| (level.precision - precision).abs() < 1e-9);
            let found = found.expect("a level");
            (found.cells[0].mean, found.cells[1].mean, &found.cells[1].text[..])
        };
        let (base, arm, _) = at(0.6);
        assert!((base.expect("both") - 0.75).abs() < 1e-9 && (arm.expect("one") - 0.75).abs() < 1e-9);
        let (base, arm, text) = at(0.8);
        assert!(base.is_some() && arm.is_none() && text == "not reached");
    }
}
