//! How many samples are valid, and how many different ones: the names of Spectrum Suite (Sorensen et al. 2025, arXiv
//! 2510.06084). Valid is what rows, a judge or the targets say is right; a sample without a verdict is not.

use std::collections::BTreeSet;

use crate::bounds::Bounds;
use crate::headline::Headline;
use crate::registry::{Better, Measured, SampleMetric};
use crate::samples::Samples;

/// Valid samples.
pub const VALID: SampleMetric = SampleMetric {
    name: "valid",
    definition: "number of valid samples: those that rows, a judge or the targets say are right",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| Some(Measured::Count(valid(samples.correct?))),
};

/// Their share.
pub const VALIDITY: SampleMetric = SampleMetric {
    name: "validity",
    definition: "share of the samples that is valid (Spectrum Suite)",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: Some(Headline::new("validity")),
    measure: |samples| {
        let correct = samples.correct.filter(|correct| !correct.is_empty())?;
        Some(Measured::Number(valid(correct) as f64 / correct.len() as f64))
    },
};

/// Different ones by all valid ones.
pub const UNIQUENESS: SampleMetric = SampleMetric {
    name: "uniqueness",
    definition: "different by all valid samples (Spectrum Suite); none where no sample is valid",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| {
        let different = different_valid(samples)?;
        let valid = valid(samples.correct?);
        (valid > 0).then(|| Measured::Number(different as f64 / valid as f64))
    },
};

/// Different valid samples.
pub const YIELD: SampleMetric = SampleMetric {
    name: "yield",
    definition: "number of different valid samples (Spectrum Suite)",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| Some(Measured::Count(different_valid(samples)?)),
};

fn valid(correct: &[bool]) -> usize {
    correct.iter().filter(|correct| **correct).count()
}

fn different_valid(samples: &Samples<'_>) -> Option<usize> {
    let valid = samples.texts?.iter().zip(samples.correct?).filter(|(_, correct)| **correct);
    Some(valid.map(|(text, _)| text).collect::<BTreeSet<_>>().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_of_a_valid_sample_are_one() {
        let texts = ["a", "a", "b", "c", "a"].map(str::to_owned);
        let correct = [true, true, true, false, false];
        let samples = Samples { texts: Some(&texts), correct: Some(&correct), ..Samples::default() };
        let find = |metric: SampleMetric| (metric.measure)(&samples);
        assert_eq!((find(VALID), find(YIELD)), (Some(Measured::Count(3)), Some(Measured::Count(2))));
        assert_eq!(find(VALIDITY), Some(Measured::Number(0.6)));
        assert_eq!(find(UNIQUENESS), Some(Measured::Number(2.0 / 3.0)));
        let none = Samples { correct: Some(&[false; 5]), ..samples };
        assert_eq!((UNIQUENESS.measure)(&none), None);
    }
}
