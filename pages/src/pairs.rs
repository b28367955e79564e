//! Which runs of two arms are compared, and how far apart their numbers are.

use metrics::interval::{Mean, paired};

use crate::read::Run;

/// Runs that are compared with each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs<'a> {
    /// A run of the baseline and one of the arm.
    pub runs: Vec<(&'a Run, &'a Run)>,
    /// True where one of the arms is a single model without a seed, with which every seed of the other is compared.
    pub constant: bool,
}

impl<'a> Pairs<'a> {
    /// The runs of both arms that have the same seed. One model without a seed, such as the base, is a constant: every run
    /// of the other arm is compared with it.
    ///
    /// # Errors
    /// Why there are none.
    pub fn of(baseline: &[&'a Run], arm: &[&'a Run]) -> Result<Self, String> {
        let pairs = match (baseline, arm) {
            ([one], [other]) => Self { runs: vec![(*one, *other)], constant: false },
            ([one], many) if one.seed.is_none() => {
                Self { runs: many.iter().map(|other| (*one, *other)).collect(), constant: true }
            }
            (many, [one]) if one.seed.is_none() => {
                Self { runs: many.iter().map(|other| (*other, *one)).collect(), constant: true }
            }
            _ => {
                let with_seed = |run: &&'a Run| {
                    let other = arm.iter().find(|other| run.seed.is_some() && other.seed == run.seed)?;
                    Some((*run, *other))
                };
                Self { runs: baseline.iter().filter_map(with_seed).collect(), constant: false }
            }
        };
        if pairs.runs.is_empty() {
            return Err("they share no seed".into());
        }
        match pairs.runs.iter().find_map(|(one, other)| one.unlike(other)) {
            Some(why) => Err(why),
            None => Ok(pairs),
        }
    }

    /// True where a mean over tokens is a number of one unit in all of them.
    pub fn have_same_tokens(&self) -> bool {
        self.runs.iter().all(|(one, other)| one.has_same_tokens(other))
    }

    /// How many there are, and of what kind, in words.
    pub fn words(&self, count: usize) -> String {
        match (count, self.constant) {
            (1, _) => "one run each, so what other seeds would say is not known".into(),
            (count, true) => format!("{count} seeds against one model, 95 % interval"),
            (count, false) => format!("{count} seeds, paired, 95 % interval"),
        }
    }
}

/// Differences below this part of a number are rounding.
const ROUNDING: f64 = 1e-12;

/// Half the width of the interval, 0 where only rounding tells the numbers apart.
pub fn half_width(mean: &Mean) -> Option<f64> {
    mean.half_width().map(|half| if half <= ROUNDING * mean.mean.abs() { 0.0 } else { half })
}

/// A mean difference with half the width of its 95 % interval by Student's t over the pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The mean of the pairs.
    pub mean: f64,
    /// `None` for one pair.
    pub half_width: Option<f64>,
}

impl Difference {
    /// Of pairs (baseline, arm); `None` of none.
    pub fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        let same = |a: f64, b: f64| (a - b).abs() <= ROUNDING * a.abs().max(b.abs());
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().map(|(a, b)| (*a, if same(*a, *b) { *a } else { *b })).unzip();
        let mean = (!pairs.is_empty()).then(|| paired(&a, &b))?;
        Some(Self { mean: mean.mean, half_width: half_width(&mean) })
    }

    /// True where the interval does not hold 0; one pair alone has no interval.
    pub fn is_told(&self) -> bool {
        self.half_width.is_some_and(|half| self.mean.abs() > half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run;

    #[test]
    fn one_model_without_a_seed_is_a_constant_to_all_seeds() {
        let base = run("base", &[(1.0, 0.5, 0.5)]);
        let seeds: Vec<Run> = (1..=3).map(|seed| run(&format!("n,seed={seed}"), &[(1.0, 0.5, 0.5)])).collect();
        let seeds: Vec<&Run> = seeds.iter().collect();
        let pairs = Pairs::of(&[&base], &seeds).expect("pairs");
        assert_eq!((pairs.runs.len(), pairs.constant), (3, true));
        assert!(pairs.runs.iter().all(|(one, _)| one.name == "base"));
        let pairs = Pairs::of(&seeds, &[&base]).expect("pairs");
        assert!(pairs.runs.iter().all(|(_, other)| other.name == "base") && pairs.constant);
        // One run that has a seed stands for that seed alone.
        let pairs = Pairs::of(&seeds[..1], &seeds).expect("a pair");
        assert_eq!((pairs.runs.len(), pairs.constant), (1, false));
        assert_eq!(Pairs::of(&seeds[..2], &seeds[2..]).expect_err("none"), "they share no seed".to_owned());
    }

    #[test]
    fn rounding_is_no_difference() {
        let difference = Difference::of(&[(0.3, 0.1 + 0.2), (0.6, 0.6)]).expect("pairs");
        assert_eq!(difference, Difference { mean: 0.0, half_width: Some(0.0) });
        assert!(!difference.is_told());
    }
}
