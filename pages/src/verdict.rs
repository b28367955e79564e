//! Whether two arms differ, in a sentence with its interval.
//!
//! Recall is compared at equal precision, since temperature exchanges one for the other: each run's curve over temperature
//! is interpolated at one precision, and the difference is that of runs of equal seed. The precision is what the baseline
//! has at temperature 1, so that it is not chosen by what comes out; where a curve does not reach it, the nearest that all
//! of them reach.

use metrics::frontier::at_precision;
use metrics::interval::{Mean, paired};
use serde::Serialize;

use crate::number::{plain, signed};
use crate::read::Run;

/// The names of what is compared.
pub const PRECISION: &str = "mass";
/// As [`PRECISION`].
pub const RECALL: &str = "f8";

/// A comparison of an arm with the baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The arm.
    pub arm: String,
    /// What it is compared with.
    pub baseline: String,
    /// Where both are compared; `None` where they share no precision or no seed.
    pub precision: Option<f64>,
    /// Recall there of the arm's runs.
    pub recall: Option<Mean>,
    /// The same of the baseline.
    pub baseline_recall: Option<Mean>,
    /// The mean of the differences of runs of equal seed.
    pub difference: Option<Mean>,
    /// Half the width of its 95 % interval by Student's t.
    pub half_width: Option<f64>,
    /// True where the interval does not hold 0.
    pub told: bool,
    /// All of it in words.
    pub sentence: String,
}

/// The runs of both arms that have the same seed; one run each is a pair without it.
pub fn pairs<'a>(baseline: &[&'a Run], arm: &[&'a Run]) -> Vec<(&'a Run, &'a Run)> {
    if let ([one], [other]) = (baseline, arm) {
        return vec![(*one, *other)];
    }
    let same = |run: &&Run, seed: u64| run.seed == Some(seed);
    let pair = |run: &&'a Run| Some((*run, *arm.iter().find(|other| run.seed.is_some_and(|seed| same(other, seed)))?));
    baseline.iter().filter_map(pair).collect()
}

/// Differences below this part of a number are rounding.
const ROUNDING: f64 = 1e-12;

/// Half the width of the interval, 0 where only rounding tells the numbers apart.
pub fn half_width(mean: &Mean) -> Option<f64> {
    mean.half_width().map(|half| if half <= ROUNDING * mean.mean.abs() { 0.0 } else { half })
}

/// The paired difference of a number of two arms, and half the width of its interval.
pub fn difference(pairs: &[(f64, f64)]) -> Option<(Mean, Option<f64>)> {
    let same = |a: f64, b: f64| (a - b).abs() <= ROUNDING * a.abs().max(b.abs());
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().map(|(a, b)| (*a, if same(*a, *b) { *a } else { *b })).unzip();
    let mean = (!pairs.is_empty()).then(|| paired(&a, &b))?;
    Some((mean, half_width(&mean)))
}

/// True where an interval around `mean` does not hold 0; one pair alone has no interval.
pub fn is_told(mean: &Mean, half_width: Option<f64>) -> bool {
    half_width.is_some_and(|half| mean.mean.abs() > half)
}

/// Compares an arm with the baseline.
pub fn compare(baseline: (&str, &[&Run]), arm: (&str, &[&Run])) -> Verdict {
    let mut verdict = Verdict {
        arm: arm.0.into(),
        baseline: baseline.0.into(),
        precision: None,
        recall: None,
        baseline_recall: None,
        difference: None,
        half_width: None,
        told: false,
        sentence: String::new(),
    };
    let pairs = pairs(baseline.1, arm.1);
    let none = format!("No difference can be told between {} and {}", arm.0, baseline.0);
    let curves: Vec<_> = pairs.iter().map(|(a, b)| (a.curve(PRECISION, RECALL), b.curve(PRECISION, RECALL))).collect();
    if curves.is_empty() {
        verdict.sentence = format!("{none}: they share no seed.");
        return verdict;
    }
    if curves.iter().any(|(a, b)| a.is_empty() || b.is_empty()) {
        verdict.sentence = format!("{none}: precision ({PRECISION}) and recall ({RECALL}) were not measured for both.");
        return verdict;
    }
    let ones: Vec<f64> = pairs.iter().filter_map(|(run, _)| nearest_to_one(run)?.value(PRECISION)).collect();
    let Some(precision) = shared(curves.iter().flat_map(|(a, b)| [a, b]), Mean::of(&ones).mean) else {
        verdict.sentence = format!("{none}: there is no precision ({PRECISION}) that all of their curves reach.");
        return verdict;
    };
    let recalls: Vec<(f64, f64)> =
        curves.iter().filter_map(|(a, b)| Some((at_precision(a, precision)?, at_precision(b, precision)?))).collect();
    let Some((difference, half)) = difference(&recalls) else {
        verdict.sentence = format!("{none}: there is no precision ({PRECISION}) that all of their curves reach.");
        return verdict;
    };
    let level = |of: fn(&(f64, f64)) -> f64| Mean::of(&recalls.iter().map(of).collect::<Vec<_>>());
    let (base, own) = (level(|pair| pair.0), level(|pair| pair.1));
    verdict.told = is_told(&difference, half);
    let seeds = match recalls.len() {
        1 => "one run each, so there is no interval".to_owned(),
        count => format!("{count} seeds, paired, 95 % interval"),
    };
    let numbers = format!(
        "at precision {} ({PRECISION}), recall ({RECALL}) is {} against {}: {}; {seeds}.",
        plain(precision),
        level_text(&own),
        level_text(&base),
        with_half(signed(difference.mean), half),
    );
    verdict.sentence = match (verdict.told, difference.mean > 0.0) {
        (true, true) => format!("{} finds more than {}: {numbers}", arm.0, baseline.0),
        (true, false) => format!("{} finds less than {}: {numbers}", arm.0, baseline.0),
        (false, _) => format!("{none}: {numbers}"),
    };
    Verdict {
        precision: Some(precision),
        recall: Some(own),
        baseline_recall: Some(base),
        difference: Some(difference),
        half_width: half,
        ..verdict
    }
}

fn level_text(mean: &Mean) -> String {
    with_half(plain(mean.mean), half_width(mean))
}

/// A number with half its interval behind it, if there is one.
pub fn with_half(number: String, half_width: Option<f64>) -> String {
    match half_width {
        Some(half) => format!("{number} \u{b1} {}", plain(half)),
        None => number,
    }
}

/// The point whose temperature is nearest to 1.
pub fn nearest_to_one(run: &Run) -> Option<&crate::read::Point> {
    run.points.iter().min_by(|a, b| (a.temperature - 1.0).abs().total_cmp(&(b.temperature - 1.0).abs()))
}

/// The precision nearest to `wanted` that each curve reaches.
fn shared<'a>(curves: impl Iterator<Item = &'a Vec<(f64, f64)>>, wanted: f64) -> Option<f64> {
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    for curve in curves {
        low = low.max(curve.iter().map(|point| point.0).fold(f64::INFINITY, f64::min));
        high = high.min(curve.iter().map(|point| point.0).fold(f64::NEG_INFINITY, f64::max));
    }
    (low <= high && wanted.is_finite()).then(|| wanted.clamp(low, high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run;

    /// Recall falls by the line 1 - precision/2 and is shifted by `shift`.
    fn line(name: &str, shift: f64) -> Run {
        run(name, &[(0.5, 0.9, 0.55 + shift), (1.0, 0.7, 0.65 + shift), (2.0, 0.5, 0.75 + shift)])
    }

    fn of(baseline: &[Run], arm: &[Run]) -> Verdict {
        compare(("nll", &baseline.iter().collect::<Vec<_>>()), ("cdiv", &arm.iter().collect::<Vec<_>>()))
    }

    /// Levels spread by more than they differ, and differences by pairs that do not.
    #[test]
    fn three_seeds_with_a_known_difference() {
        let nll: Vec<Run> = (1..=3).map(|seed| line(&format!("a=n,seed={seed}"), 0.05 * f64::from(seed))).collect();
        let shifts = [0.06, 0.07, 0.08];
        let arm: Vec<Run> = (1..=3)
            .map(|seed| line(&format!("a=c,seed={seed}"), 0.05 * f64::from(seed) + shifts[seed as usize - 1]))
            .collect();
        let verdict = of(&nll, &arm);
        let difference = verdict.difference.expect("three pairs");
        assert!((difference.mean - 0.07).abs() < 1e-9 && verdict.told);
        // 4.302652730 s / sqrt(3).
        let half = verdict.half_width.expect("three pairs");
        assert!((half - 4.302_652_730 * 0.01 / 3f64.sqrt()).abs() < 1e-8, "{half}");
        let expected = "cdiv finds more than nll: at precision 0.7 (mass), recall (f8) is 0.82 \u{b1} 0.149 against 0.75 \u{b1} \
                        0.1242: +0.07 \u{b1} 0.02484; 3 seeds, paired, 95 % interval.";
        assert_eq!(verdict.sentence, expected);
        // The other way round, by whatever order the seeds come.
        let reversed: Vec<Run> = nll.into_iter().rev().collect();
        assert!(of(&arm, &reversed).sentence.contains("finds less than nll: at precision 0.7 (mass)"));
    }

    /// EVALUATION: .41, .44, .40 is .416667 +- .051711 of three seeds.
    #[test]
    fn the_level_has_the_interval_of_its_seeds() {
        let at = |name: &str, recall: f64| run(name, &[(1.0, 0.8, recall)]);
        let nll: Vec<Run> = (1..=3).map(|seed| at(&format!("n,seed={seed}"), 0.4)).collect();
        let arm: Vec<Run> = [0.41, 0.44, 0.40]
            .iter()
            .enumerate()
            .map(|(seed, recall)| at(&format!("c,seed={}", seed + 1), *recall))
            .collect();
        let verdict = of(&nll, &arm);
        assert!(verdict.sentence.contains("0.4167 \u{b1} 0.05171 against 0.4 \u{b1} 0"), "{}", verdict.sentence);
        assert!(!verdict.told && verdict.sentence.starts_with("No difference can be told between cdiv and nll"));
    }

    #[test]
    fn what_cannot_be_compared_says_why() {
        let one = of(&[line("a", 0.0)], &[line("b", 0.2)]);
        assert!(
            !one.told && one.sentence.ends_with("+0.2; one run each, so there is no interval."),
            "{}",
            one.sentence
        );
        let apart = of(&[line("a", 0.0)], &[run("b", &[(1.0, 0.95, 0.1)])]);
        assert!(apart.sentence.ends_with("there is no precision (mass) that all of their curves reach."));
        let unlike = [line("n,seed=1", 0.0), line("n,seed=2", 0.0)];
        let seeds = of(&unlike, &[line("c,seed=3", 0.0), line("c,seed=4", 0.0)]);
        assert!(seeds.sentence.ends_with("they share no seed."), "{}", seeds.sentence);
        let unmeasured = of(&[line("a", 0.0)], &[run("b", &[])]);
        assert!(unmeasured.sentence.contains("were not measured for both"), "{}", unmeasured.sentence);
    }

    #[test]
    fn rounding_is_no_difference() {
        let (mean, half) = difference(&[(0.3, 0.1 + 0.2), (0.6, 0.6)]).expect("pairs");
        assert_eq!((mean.mean, half, is_told(&mean, half)), (0.0, Some(0.0), false));
    }

    /// The baseline's precision at temperature 1 is .7; an arm that ends at .6 is compared there.
    #[test]
    fn the_precision_is_one_that_all_reach() {
        let short = run("b", &[(1.0, 0.6, 0.7), (2.0, 0.4, 0.8)]);
        assert_eq!(of(&[line("a", 0.0)], &[short]).precision, Some(0.6));
    }
}
