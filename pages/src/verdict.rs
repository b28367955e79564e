//! Whether two arms differ, in a sentence with its interval.
//!
//! Recall is compared at equal precision, since temperature exchanges one for the other: each run's curve over temperature
//! is interpolated at one precision, and the difference is that of runs of equal seed. The precision is what the baseline
//! has at temperature 1, so that it is not chosen by what comes out; where a curve does not reach it, the nearest that all
//! of them reach, and the sentence says so. Where a curve passes a precision several times its largest recall there counts.
//! Where some run has more recall with more precision, as where both fall at high temperatures, nobody would sample at that
//! precision: what is compared is the largest recall of each with as much precision *or more*. Where no targets are known,
//! held-out likelihood is compared.

use metrics::curve::F8;
use metrics::divergence::MASS;
use metrics::frontier::{at_least, at_precision, setting_at};
use metrics::interval::Mean;
use metrics::likelihood::{BITS_PER_BYTE, NLL};
use serde::Serialize;

use crate::axis::range;
use crate::labels::Labels;
use crate::number::{plain, signed_with_half, with_half};
use crate::pairs::{Difference, Pairs, half_width};
use crate::read::{Arm, Run, nearest};

/// The names of what is compared.
pub const PRECISION: &str = MASS.name;
/// As [`PRECISION`].
pub const RECALL: &str = F8.name;
/// What is compared where there are no targets: by tokens, and where tokenizers differ by bytes.
pub(crate) const LIKELIHOOD: &str = NLL.name;
/// As [`LIKELIHOOD`].
pub(crate) const BY_BYTES: &str = BITS_PER_BYTE.name;

/// A comparison of an arm with the baseline.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// The arm.
    pub arm: String,
    /// What it is compared with.
    pub baseline: String,
    /// `f8` at equal precision, or `nll`, or `bits_per_byte`.
    pub metric: &'static str,
    /// Where both are compared; `None` where they share no precision or no seed.
    pub precision: Option<f64>,
    /// The metric there of the arm's runs.
    pub level: Option<Mean>,
    /// The same of the baseline.
    pub baseline_level: Option<Mean>,
    /// The mean of the differences of runs of equal seed.
    pub difference: Option<f64>,
    /// Half the width of its 95 % interval by Student's t.
    pub half_width: Option<f64>,
    /// How many pairs there are.
    pub pairs: usize,
    /// True where the interval does not hold 0.
    pub told: bool,
    /// True where it is the largest recall with that precision or more that is compared, since at the precision itself it is
    /// less.
    pub or_more: bool,
    /// The temperatures of the arm and of the baseline there, means over their runs.
    pub temperatures: [Option<f64>; 2],
    /// All of it in words.
    pub sentence: String,
}

/// Precision and recall over temperature.
pub(crate) type Curve = Vec<(f64, f64)>;

/// Recall is said to be larger with more precision where it is so by this part, which four digits show.
const MORE: f64 = 1e-3;

/// A precision below which there is nothing to compare: one sample in a million.
const NOTHING: f64 = 1e-6;

/// What was compared where neither targets nor held-out rows were measured.
const NOTHING_MEASURED: &str = "none";

/// Why there is no verdict on so many arms.
pub fn nothing_measured(arms: usize) -> String {
    let both = if arms == 1 { "both" } else { "all" };
    format!(
        "There is no verdict, which is one of precision ({PRECISION}) and recall ({RECALL}) on targets or of held-out \
         {LIKELIHOOD}: neither was measured for {both}. What was measured stands in the pictures and tables."
    )
}

impl Verdict {
    /// True where nothing was measured that a verdict could be of.
    pub fn has_nothing(&self) -> bool {
        self.metric == NOTHING_MEASURED
    }
}

/// Compares an arm with the baseline; the sentence calls them by their labels.
pub fn compare(baseline: &Arm<'_>, arm: &Arm<'_>, labels: &Labels) -> Verdict {
    let verdict = Verdict { arm: arm.0.into(), baseline: baseline.0.into(), metric: RECALL, ..Verdict::default() };
    let names = [labels.label(arm.0), labels.label(baseline.0)];
    let untold = |why: String| Verdict {
        sentence: format!("No difference can be told between {} and {}: {why}.", names[0], names[1]),
        ..verdict.clone()
    };
    let pairs = match Pairs::of(&baseline.1, &arm.1) {
        Ok(pairs) => pairs,
        Err(why) => return untold(why),
    };
    let curves: Vec<(Curve, Curve)> =
        pairs.runs.iter().map(|(a, b)| (a.curve(PRECISION, RECALL), b.curve(PRECISION, RECALL))).collect();
    if curves.iter().any(|(a, b)| a.is_empty() || b.is_empty()) {
        let metric = if pairs.have_same_tokens() { LIKELIHOOD } else { BY_BYTES };
        // At temperature 1, which is the model's own; at others there is none.
        let value = |run: &Run| run.at(Some(1.0))?.value(metric);
        let both: Option<Vec<(f64, f64)>> = pairs.runs.iter().map(|(a, b)| Some((value(a)?, value(b)?))).collect();
        return match both {
            Some(both) => of_likelihood(Verdict { metric, ..verdict }, &both, &pairs, names),
            None => Verdict { sentence: nothing_measured(1), metric: NOTHING_MEASURED, ..verdict },
        };
    }
    let ones: Vec<f64> = pairs.runs.iter().filter_map(|(run, _)| precision_near_one(run)).collect();
    let wanted = Mean::of(&ones).mean;
    let Some(precision) = shared(curves.iter().flat_map(|(a, b)| [a, b]), wanted) else {
        let why = apart(&curves, names[0], names[1]);
        let sentence = format!("{} and {} cannot be compared at equal precision: {why}.", names[0], names[1]);
        return Verdict { sentence, ..verdict };
    };
    if precision < NOTHING {
        return untold(format!("next to nothing of what they say is a target (precision {})", plain(precision)));
    }
    let of_arm = staircase(curves.iter().map(|pair| &pair.1), precision);
    let or_more = of_arm.or(staircase(curves.iter().map(|pair| &pair.0), precision)).is_some();
    let found = |run: &Run| setting_at(&run.sweep(PRECISION, RECALL), precision, or_more);
    let (base, own): (Vec<_>, Vec<_>) = pairs.runs.iter().filter_map(|(a, b)| Some((found(a)?, found(b)?))).unzip();
    let recalls: Vec<(f64, f64)> = base.iter().zip(&own).map(|(a, b)| (a.0, b.0)).collect();
    let temperature = |found: &[(f64, f64)]| {
        (!found.is_empty()).then(|| Mean::of(&found.iter().map(|(_, at)| *at).collect::<Vec<_>>()).mean)
    };
    let temperatures = [temperature(&own), temperature(&base)];
    let verdict = Verdict { precision: Some(precision), or_more, temperatures, ..verdict };
    let verdict = told(verdict, &recalls, pairs.constant);
    let moved = match precision == wanted {
        true => "the baseline's own at temperature 1".to_owned(),
        false => {
            format!("the nearest that all of them reach to {}, the baseline's own at temperature 1", plain(wanted))
        }
    };
    let place = match or_more {
        false => format!("at precision {} ({PRECISION}; {moved}), recall ({RECALL})", plain(precision)),
        true => format!("with precision {} ({PRECISION}; {moved}) or more, recall ({RECALL})", plain(precision)),
    };
    let words = match temperatures {
        [Some(arm), Some(base)] => format!("T {arm:.2} and {base:.2}; {}", pairs.words(recalls.len())),
        _ => pairs.words(recalls.len()),
    };
    in_words(verdict, &place, &words, names, ["finds more than", "finds less than"])
}

/// The mean over curves of the largest recall with at least this precision, where it is more than that at the precision.
pub(crate) fn staircase<'a>(curves: impl Iterator<Item = &'a Curve>, precision: f64) -> Option<f64> {
    let both = curves.map(|curve| Some((at_least(curve, precision)?, at_precision(curve, precision)?)));
    let both: Vec<(f64, f64)> = both.collect::<Option<_>>()?;
    let mean = |of: fn(&(f64, f64)) -> f64| Mean::of(&both.iter().map(of).collect::<Vec<_>>()).mean;
    let (more, at) = (mean(|pair| pair.0), mean(|pair| pair.1));
    (more > at * (1.0 + MORE)).then_some(more)
}

/// The levels and the difference of pairs.
fn told(verdict: Verdict, pairs: &[(f64, f64)], constant: bool) -> Verdict {
    let level = |of: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(of).collect();
        // One model in all pairs is one number, which has no interval.
        if constant && values.iter().all(|value| *value == values[0]) {
            values.truncate(1);
        }
        Mean::of(&values)
    };
    let difference = Difference::of(pairs);
    Verdict {
        level: Some(level(|pair| pair.1)),
        baseline_level: Some(level(|pair| pair.0)),
        difference: difference.map(|difference| difference.mean),
        half_width: difference.and_then(|difference| difference.half_width),
        pairs: pairs.len(),
        told: difference.is_some_and(|difference| difference.is_told()),
        ..verdict
    }
}

/// The sentence: `verbs` for more and for less.
fn in_words(verdict: Verdict, place: &str, words: &str, [arm, baseline]: [&str; 2], verbs: [&str; 2]) -> Verdict {
    let (Some(level), Some(base), Some(difference)) = (verdict.level, verdict.baseline_level, verdict.difference)
    else {
        return verdict;
    };
    let text = |mean: &Mean| with_half(mean.mean, half_width(mean));
    let numbers = format!(
        "{place} is {} against {}: {}; {words}.",
        text(&level),
        text(&base),
        signed_with_half(difference, verdict.half_width)
    );
    let sentence = match (verdict.told, difference > 0.0) {
        (true, true) => format!("{arm} {} {baseline}: {numbers}", verbs[0]),
        (true, false) => format!("{arm} {} {baseline}: {numbers}", verbs[1]),
        // Of these two models it is exact; of what made them there is no evidence.
        (false, _) if verdict.half_width.is_none() => format!("{arm} against {baseline}, these two alone: {numbers}"),
        (false, _) => format!("No difference can be told between {arm} and {baseline}: {numbers}"),
    };
    Verdict { sentence, ..verdict }
}

fn of_likelihood(verdict: Verdict, both: &[(f64, f64)], pairs: &Pairs<'_>, names: [&str; 2]) -> Verdict {
    let verdict = told(verdict, both, pairs.constant);
    let words = format!("{}; it says nothing of diversity", pairs.words(both.len()));
    let place = match verdict.metric {
        BY_BYTES => format!("with different tokenizers, the held-out bits a byte ({BY_BYTES})"),
        metric => format!("the held-out {metric} a token"),
    };
    in_words(verdict, &place, &words, names, ["fits worse than", "fits better than"])
}

fn precision_near_one(run: &Run) -> Option<f64> {
    let measured = run.points.iter().filter(|point| point.value(PRECISION).is_some());
    let temperatures: Vec<f64> = measured.filter_map(|point| point.temperature).collect();
    run.at(nearest(&temperatures, 1.0))?.value(PRECISION)
}

/// The precisions that a curve goes through.
fn reach<'a>(curves: impl Iterator<Item = &'a Curve>) -> Option<(f64, f64)> {
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    for curve in curves {
        let (least, most) = range(curve.iter().map(|point| point.0))?;
        (low, high) = (low.max(least), high.min(most));
    }
    Some((low, high))
}

/// The precision nearest to `wanted` that each curve reaches.
fn shared<'a>(curves: impl Iterator<Item = &'a Curve>, wanted: f64) -> Option<f64> {
    let (low, high) = reach(curves)?;
    (low <= high && wanted.is_finite()).then(|| wanted.clamp(low, high))
}

/// Why there is no shared precision.
fn apart(curves: &[(Curve, Curve)], arm: &str, baseline: &str) -> String {
    let all = |of: fn(&(Curve, Curve)) -> &Curve| {
        let precisions = curves.iter().flat_map(of).map(|point| point.0);
        range(precisions).map_or(String::new(), |(low, high)| format!("{} to {}", plain(low), plain(high)))
    };
    let points = curves.iter().flat_map(|(a, b)| [a.len(), b.len()]).max().unwrap_or_default();
    let hint = if points < 2 { "; evaluate several temperatures, which exchange one for the other" } else { "" };
    format!(
        "there is no precision ({PRECISION}) that all of their curves reach ({arm} has {}, {baseline} {}){hint}",
        all(|pair| &pair.1),
        all(|pair| &pair.0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{line, run};

    fn of(baseline: &[Run], arm: &[Run]) -> Verdict {
        compare(&("nll", baseline.iter().collect()), &("cdiv", arm.iter().collect()), &Labels::default())
    }

    /// At temperature 1 the baseline's recall has fallen, and so has its precision: the number there is no recommendation.
    #[test]
    fn where_both_numbers_fell_more_precision_is_compared_too() {
        let hot = |name: &str, shift: f64| {
            run(
                name,
                &[(0.5, 0.9, 0.6 + shift), (0.7, 0.7, 0.7 + shift), (1.0, 0.1, 0.3 + shift), (2.0, 0.0, 0.1 + shift)],
            )
        };
        let verdict = of(&[hot("n", 0.0)], &[hot("c", 0.1)]);
        let close = |found: Option<f64>, wanted: f64| found.is_some_and(|found| (found - wanted).abs() < 1e-9);
        let levels_of = [verdict.level, verdict.baseline_level].map(|level| level.map(|level| level.mean));
        assert!(close(levels_of[0], 0.8) && close(levels_of[1], 0.7) && close(verdict.difference, 0.1), "{verdict:?}");
        let [arm, base] = verdict.temperatures;
        assert!(verdict.or_more && close(arm, 0.7) && close(base, 0.7), "{verdict:?}");
        let part = "with precision 0.1 (mass; the baseline's own at temperature 1) or more, recall (f8) is 0.8 against 0.7: +0.1; T 0.70 and 0.70; ";
        assert!(verdict.sentence.contains(part), "{}", verdict.sentence);
        // An arm whose precision never reaches the baseline's is compared with all that the baseline has above it, and not
        // with what it has when it is as hot.
        let low = run("c", &[(0.5, 0.2, 0.35), (1.0, 0.1, 0.38)]);
        let verdict = of(&[hot("n", 0.0)], &[low]);
        assert!(close(verdict.difference, 0.38 - 0.7), "{verdict:?}");
        assert!(!of(&[line("a", 0.0)], &[line("b", 0.2)]).or_more);
    }

    #[test]
    fn the_sentence_has_the_labels() {
        let labels = Labels::of(&["runs/kind=nll", "runs/kind=cdiv"], &crate::grid::Grid::default());
        let (a, b) = (line("runs/kind=nll", 0.0), line("runs/kind=cdiv", 0.2));
        let verdict = compare(&("runs/kind=nll", vec![&a]), &("runs/kind=cdiv", vec![&b]), &labels);
        assert!(verdict.sentence.starts_with("cdiv against nll, these two alone"), "{}", verdict.sentence);
        assert_eq!(verdict.arm, "runs/kind=cdiv");
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
        assert!((verdict.difference.expect("three pairs") - 0.07).abs() < 1e-9 && verdict.told);
        // 4.302652730 s / sqrt(3).
        let half = verdict.half_width.expect("three pairs");
        assert!((half - 4.302_652_730 * 0.01 / 3f64.sqrt()).abs() < 1e-8, "{half}");
        let expected = "cdiv finds more than nll: at precision 0.7 (mass; the baseline's own at temperature 1), recall (f8) is \
                        0.82 \u{b1} 0.15 against 0.75 \u{b1} 0.12: +0.070 \u{b1} 0.025; T 1.00 and 1.00; 3 seeds, paired, 95 % interval.";
        assert_eq!(verdict.sentence, expected);
        // The other way round, by whatever order the seeds come.
        let reversed: Vec<Run> = nll.into_iter().rev().collect();
        assert!(of(&arm, &reversed).sentence.contains("finds less than nll: at precision 0.7 (mass"));
    }

    /// EVALUATION: .41, .44, .40 is .416667 +- .051711 of three seeds; against one base they are what is told.
    #[test]
    fn seeds_are_compared_with_a_base_as_with_a_constant() {
        let at = |name: &str, recall: f64| run(name, &[(1.0, 0.8, recall)]);
        let arm: Vec<Run> = [0.41, 0.44, 0.40]
            .iter()
            .enumerate()
            .map(|(seed, recall)| at(&format!("c,seed={}", seed + 1), *recall))
            .collect();
        let verdict = of(&[at("base", 0.3)], &arm);
        assert!(verdict.told && (verdict.half_width.expect("seeds") - 0.051_711).abs() < 1e-6);
        let numbers = "is 0.417 \u{b1} 0.052 against 0.3: +0.117 \u{b1} 0.052; T 1.00 and 1.00; 3 seeds against one model, 95 % interval.";
        assert!(
            verdict.sentence.starts_with("cdiv finds more than nll") && verdict.sentence.ends_with(numbers),
            "{}",
            verdict.sentence
        );
        let verdict = of(&[at("base", 0.4)], &arm);
        assert!(!verdict.told && verdict.sentence.starts_with("No difference can be told between cdiv and nll"));
    }

    #[test]
    fn what_cannot_be_compared_says_why() {
        let one = of(&[line("a", 0.0)], &[line("b", 0.2)]);
        assert!(
            !one.told
                && one
                    .sentence
                    .ends_with("+0.2; T 1.00 and 1.00; one run each, so what other seeds would say is not known."),
            "{}",
            one.sentence
        );
        let apart = of(&[line("a", 0.0)], &[run("b", &[(1.0, 0.95, 0.1)])]);
        assert!(
            apart.sentence.contains(
                "cdiv and nll cannot be compared at equal precision: there is no precision (mass) that all of their curves reach (cdiv has 0.95 to 0.95, nll 0.5 to 0.9)"
            ),
            "{}",
            apart.sentence
        );
        let unlike = [line("n,seed=1", 0.0), line("n,seed=2", 0.0)];
        let seeds = of(&unlike, &[line("c,seed=3", 0.0), line("c,seed=4", 0.0)]);
        assert!(seeds.sentence.ends_with("they share no seed."), "{}", seeds.sentence);
        let unmeasured = of(&[line("a", 0.0)], &[run("b", &[])]);
        assert!(unmeasured.sentence.contains("was measured for both"), "{}", unmeasured.sentence);
    }

    #[test]
    fn without_targets_the_likelihood_is_compared() {
        let at = |name: &str, nll: f64| {
            let mut run = run(name, &[(1.0, 0.0, 0.0)]);
            run.points[0].values = vec![("nll".into(), nll)];
            run
        };
        let nll: Vec<Run> = (1..=2).map(|seed| at(&format!("a,seed={seed}"), 1.5 + f64::from(seed))).collect();
        let arm: Vec<Run> = (1..=2).map(|seed| at(&format!("b,seed={seed}"), 1.4 + f64::from(seed))).collect();
        let verdict = of(&nll, &arm);
        assert!(
            verdict.told && verdict.sentence.starts_with("cdiv fits better than nll: the held-out nll a token is 2.9")
        );
        assert!(
            verdict.sentence.ends_with("2 seeds, paired, 95 % interval; it says nothing of diversity."),
            "{}",
            verdict.sentence
        );
    }

    /// As many bytes in other tokens: the likelihood of the text is compared, and not that of a token.
    #[test]
    fn models_of_different_tokenizers_are_compared_by_bytes() {
        let at = |name: &str, tokens: f64, nll: f64, bits: f64, bytes: f64| {
            let mut run = run(name, &[(1.0, 0.0, 0.0)]);
            run.points[0].values = vec![("nll".into(), nll), (BY_BYTES.into(), bits)];
            run.sizes = vec![("rows".into(), 3.0), ("tokens".into(), tokens), ("bytes".into(), bytes)];
            run
        };
        let (long, short) = (at("a", 10.0, 3.0, 1.5, 40.0), at("b", 20.0, 2.0, 2.0, 40.0));
        let verdict = of(std::slice::from_ref(&long), &[short]);
        assert_eq!((verdict.metric, verdict.difference), (BY_BYTES, Some(0.5)));
        let words = "with different tokenizers, the held-out bits a byte (bits_per_byte) is 2 against 1.5: +0.5;";
        assert!(verdict.sentence.contains(words), "{}", verdict.sentence);
        assert_eq!(of(std::slice::from_ref(&long), &[at("b", 10.0, 2.0, 2.0, 40.0)]).metric, "nll");
        let other_text = of(&[long], &[at("b", 20.0, 2.0, 2.0, 41.0)]);
        assert!(other_text.sentence.contains("evaluated on different rows"), "{}", other_text.sentence);
    }

    /// The baseline's precision at temperature 1 is .7; an arm that ends at .6 is compared there.
    #[test]
    fn the_precision_is_one_that_all_reach_and_the_sentence_says_so() {
        let short = run("b", &[(1.0, 0.6, 0.7), (2.0, 0.4, 0.8)]);
        let verdict = of(&[line("a", 0.0)], &[short]);
        assert_eq!(verdict.precision, Some(0.6));
        assert!(verdict.sentence.contains("the nearest that all of them reach to 0.7, the baseline's own"));
    }
}
