//! The list of metrics. A metric is a constant in its own file; what is listed here is computed by `trainer eval`, stands in
//! its lines under its name, and is explained by its definition wherever it is shown.

use serde::{Serialize, Serializer};

use crate::bleu::{SELF_BLEU_NLTK, SELF_BLEU_SACREBLEU};
use crate::bounds::Bounds;
use crate::compared::Compared;
use crate::compression::COMPRESSION_RATIO;
use crate::counts::{DISTINCT, ENTROPY};
use crate::coverage::COVERAGE;
use crate::curve::{ALPHA, AREA, BETA, F1, F1_8, F8};
use crate::distance::MEAN_PAIRWISE_DISTANCE;
use crate::distinct::{DISTINCT_N, EAD};
use crate::divergence::{self, FLOOR, KL, LOSS, MASS, TOTAL_VARIATION};
use crate::exact::Exact;
use crate::headline::Headline;
use crate::histogram;
use crate::likelihood::{self, BITS_PER_BYTE, Likelihood, NLL, PERPLEXITY};
use crate::manifold::{self, DENSITY, PRECISION, RECALL};
use crate::mauve::{FRONTIER_INTEGRAL, MAUVE, MAUVE_STAR};
use crate::ngrams::N_GRAM_DIVERSITY;
use crate::novelty::{DISTINCT_K, UTILITY_K};
use crate::pass_at_k::{CORRECT, PASS_AT_K};
use crate::relaxed_semantic_entropy::{RELAXED_SEMANTIC_ENTROPY, SHARE_OF_CEILING};
use crate::richness::{CHAO1, MILLER_MADOW, RAREFIED, UNSEEN_MASS};
use crate::samples::Samples;
use crate::self_repetition::SELF_REPETITION;
use crate::semantic_entropy::SEMANTIC_ENTROPY;
use crate::validity::{UNIQUENESS, VALID, VALIDITY, YIELD};
use crate::vendi::VENDI;

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More.
    Higher,
    /// Less.
    Lower,
    /// It depends on what is wanted.
    Neither,
}

/// What a metric gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    /// A number; none that is not finite becomes `null` in JSON.
    Number(f64),
    /// A count.
    Count(usize),
    /// Numbers by a setting, such as coverage by the number of samples, in order.
    Series(Vec<(String, f64)>),
}

impl Measured {
    /// Numbers by the names of their setting.
    pub fn series<K: Into<String>>(values: impl IntoIterator<Item = (K, f64)>) -> Self {
        Self::Series(values.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// Each number with the setting that it belongs to, if there is one.
    pub fn numbers(&self) -> Vec<(Option<&str>, f64)> {
        match self {
            Self::Number(value) => vec![(None, *value)],
            Self::Count(count) => vec![(None, *count as f64)],
            Self::Series(values) => values.iter().map(|(key, value)| (Some(&key[..]), *value)).collect(),
        }
    }
}

impl Serialize for Measured {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(value) => value.serialize(serializer),
            Self::Count(count) => count.serialize(serializer),
            Self::Series(values) => serializer.collect_map(values.iter().map(|(key, value)| (key, value))),
        }
    }
}

/// A metric of prompts whose answers are known.
#[derive(Debug, Clone, Copy)]
pub struct ExactMetric {
    /// Its key.
    pub name: &'static str,
    /// What it is, in a line.
    pub definition: &'static str,
    /// Which way is better.
    pub better: Better,
    /// The ends of its scale.
    pub bounds: Bounds,
    /// Its place among the few that say most, where it has one.
    pub headline: Option<Headline>,
    /// True where that of several prompts is the mean of theirs, and false where it is a number of their joint distribution
    /// alone, as the largest value on a curve is: such a number has no spread over prompts.
    pub is_mean: bool,
    /// Computes it of one prompt, or of several together.
    pub measure: fn(&Exact<'_>) -> Measured,
}

/// A metric of a prompt's samples.
#[derive(Debug, Clone, Copy)]
pub struct SampleMetric {
    /// Its key.
    pub name: &'static str,
    /// What it is, in a line.
    pub definition: &'static str,
    /// Which way is better.
    pub better: Better,
    /// The ends of its scale.
    pub bounds: Bounds,
    /// Its place among the few that say most, where it has one.
    pub headline: Option<Headline>,
    /// Computes it; `None` where the samples lack what it needs.
    pub measure: fn(&Samples<'_>) -> Option<Measured>,
}

/// A metric of rows that a model is to find likely.
#[derive(Debug, Clone, Copy)]
pub struct LikelihoodMetric {
    /// Its key.
    pub name: &'static str,
    /// What it is, in a line.
    pub definition: &'static str,
    /// Which way is better.
    pub better: Better,
    /// Its place among the few that say most, where it has one.
    pub headline: Option<Headline>,
    /// True of what is counted by tokens: with another tokenizer it is a number of another unit.
    pub is_of_tokens: bool,
    /// Computes it of the sums of some rows.
    pub measure: fn(&Likelihood) -> f64,
}

/// A metric of samples against references.
#[derive(Debug, Clone, Copy)]
pub struct ComparedMetric {
    /// Its key.
    pub name: &'static str,
    /// What it is, in a line.
    pub definition: &'static str,
    /// Which way is better.
    pub better: Better,
    /// Computes it.
    pub measure: fn(&Compared) -> Measured,
}

/// All metrics.
pub struct Registry {
    /// The exact ones, in the order in which they are printed.
    pub exact: Vec<ExactMetric>,
    /// Those of samples.
    pub samples: Vec<SampleMetric>,
    /// Those of held-out rows.
    pub likelihood: Vec<LikelihoodMetric>,
    /// Those of samples against references.
    pub compared: Vec<ComparedMetric>,
}

impl Registry {
    /// The names of all, each once.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = Vec::new();
        let all = self.exact.iter().map(|metric| metric.name);
        let all = all.chain(self.likelihood.iter().map(|metric| metric.name));
        let all = all.chain(self.samples.iter().map(|metric| metric.name));
        for name in all.chain(self.compared.iter().map(|metric| metric.name)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Those of these names alone, in the order of the list.
    pub fn only(mut self, names: &[String]) -> Self {
        let is_wanted = |name: &str| names.iter().any(|wanted| wanted == name);
        self.exact.retain(|metric| is_wanted(metric.name));
        self.samples.retain(|metric| is_wanted(metric.name));
        self.likelihood.retain(|metric| is_wanted(metric.name));
        self.compared.retain(|metric| is_wanted(metric.name));
        self
    }

    /// Whether the number of several prompts is the mean of theirs; of a name that is not listed it is.
    pub fn is_mean(&self, name: &str) -> bool {
        self.exact.iter().find(|metric| metric.name == name).is_none_or(|metric| metric.is_mean)
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            exact: vec![
                MASS,
                LOSS,
                FLOOR,
                KL,
                TOTAL_VARIATION,
                ALPHA,
                BETA,
                F8,
                F1,
                F1_8,
                AREA,
                COVERAGE,
                divergence::ENTROPY,
            ],
            samples: vec![
                DISTINCT,
                ENTROPY,
                RELAXED_SEMANTIC_ENTROPY,
                SHARE_OF_CEILING,
                CORRECT,
                PASS_AT_K,
                VALID,
                VALIDITY,
                UNIQUENESS,
                YIELD,
                RAREFIED,
                MILLER_MADOW,
                UNSEEN_MASS,
                CHAO1,
                DISTINCT_N,
                EAD,
                SELF_BLEU_NLTK,
                SELF_BLEU_SACREBLEU,
                N_GRAM_DIVERSITY,
                SELF_REPETITION,
                COMPRESSION_RATIO,
                DISTINCT_K,
                UTILITY_K,
                SEMANTIC_ENTROPY,
                VENDI,
                MEAN_PAIRWISE_DISTANCE,
            ],
            likelihood: vec![NLL, PERPLEXITY, BITS_PER_BYTE, likelihood::ENTROPY],
            compared: vec![
                PRECISION,
                RECALL,
                DENSITY,
                manifold::COVERAGE,
                histogram::F8,
                histogram::F1,
                histogram::F1_8,
                MAUVE,
                MAUVE_STAR,
                FRONTIER_INTEGRAL,
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::exact::outcomes;
    use crate::points::Points;

    #[test]
    fn every_metric_has_a_name_of_its_own_and_a_definition_in_a_line() {
        let registry = Registry::default();
        let exact = registry.exact.iter().map(|metric| (metric.name, metric.definition));
        let samples = registry.samples.iter().map(|metric| (metric.name, metric.definition));
        let likelihood = registry.likelihood.iter().map(|metric| (metric.name, metric.definition));
        let compared = registry.compared.iter().map(|metric| (metric.name, metric.definition));
        for group in [exact.collect::<Vec<_>>(), samples.collect(), likelihood.collect(), compared.collect()] {
            let names: BTreeSet<&str> = group.iter().map(|(name, _)| *name).collect();
            assert_eq!(names.len(), group.len());
            for (name, definition) in group {
                assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
                assert!((20..=130).contains(&definition.len()) && !definition.contains('\n'), "{name}: {definition}");
            }
        }
    }

    /// With all that samples can have every metric has a value, without any of it none has.
    #[test]
    fn every_metric_of_samples_says_what_it_can() {
        let texts = ["a b c d e", "a b c d f", "g"].map(str::to_owned);
        let vectors = [1.0, 0.0, 0.6, 0.8, 0.0, 1.0];
        let samples = Samples {
            texts: Some(&texts),
            clusters: Some(&[2, 1]),
            classes: Some(&[0, 0, 1]),
            scores: Some(&[1.0, 2.0, 3.0]),
            log_likelihoods: Some(&[-1.0, -2.0, -3.0]),
            vectors: Some(Points::new(&vectors, 2)),
            correct: Some(&[true, false, false]),
            ks: &[1, 2],
            vocabulary: 20,
        };
        for metric in Registry::default().samples {
            let measured = (metric.measure)(&samples).unwrap_or_else(|| panic!("{}", metric.name));
            assert!(measured.numbers().iter().all(|(_, value)| value.is_finite()), "{}", metric.name);
            assert_eq!((metric.measure)(&Samples::default()), None, "{}", metric.name);
        }
    }

    #[test]
    fn some_of_them_are_chosen_by_name() {
        let chosen = Registry::default().only(&["mass".into(), "entropy".into(), "f8".into()]);
        assert_eq!(chosen.exact.iter().map(|metric| metric.name).collect::<Vec<_>>(), ["mass", "f8", "entropy"]);
        assert_eq!((chosen.samples.len(), chosen.likelihood.len(), chosen.compared.len()), (1, 1, 1));
        assert_eq!(chosen.names(), ["mass", "f8", "entropy"]);
    }

    /// What is said to be a mean over prompts is one, and what is not is none.
    #[test]
    fn every_exact_metric_knows_whether_it_is_a_mean_over_prompts() {
        // Each F_b has its largest value at another lambda in each.
        let (one, two) = (outcomes(&[0.5, 0.5], &[0.6, 0.2]), outcomes(&[0.25, 0.25, 0.5], &[0.02, 0.5, 0.4]));
        let of = |prompts: Vec<&[crate::Outcome]>, metric: &ExactMetric| {
            let measured = (metric.measure)(&Exact::new(prompts, &[1, 10]));
            measured.numbers().into_iter().map(|(_, value)| value).collect::<Vec<f64>>()
        };
        for metric in Registry::default().exact {
            let [a, b] = [&one, &two].map(|prompt| of(vec![prompt], &metric));
            let joint = of(vec![&one, &two], &metric);
            let is_mean = a.iter().zip(&b).zip(&joint).all(|((a, b), joint)| ((a + b) / 2.0 - joint).abs() < 1e-12);
            assert_eq!(is_mean, metric.is_mean, "{}: {a:?} {b:?} {joint:?}", metric.name);
            assert_eq!(Registry::default().is_mean(metric.name), metric.is_mean);
        }
    }

    #[test]
    fn exact_metrics_of_several_prompts_are_those_of_their_joint_distribution() {
        let (one, two) = (outcomes(&[0.5, 0.5], &[0.6, 0.2]), outcomes(&[0.25, 0.25, 0.5], &[0.1, 0.4, 0.3]));
        let exact = Exact::new(vec![&one, &two], &[1, 10]);
        let find = |name: &str| {
            let registry = Registry::default();
            let metric = registry.exact.iter().find(|metric| metric.name == name).expect("listed");
            serde_json::to_value((metric.measure)(&exact)).expect("JSON")
        };
        assert!((find("alpha")["1"].as_f64().expect("a number") - 0.675).abs() < 1e-12);
        assert!((find("total_variation").as_f64().expect("a number") - 0.325).abs() < 1e-12);
        assert!((find("mass").as_f64().expect("a number") - 0.8).abs() < 1e-12);
        assert!((find("coverage")["1"].as_f64().expect("a number") - (0.4 + 0.8 / 3.0) / 2.0).abs() < 1e-12);
        let kl = find("loss").as_f64().expect("a number") - find("floor").as_f64().expect("a number");
        assert!((find("kl").as_f64().expect("a number") - kl).abs() < 1e-12);
        assert_eq!(serde_json::to_value(Measured::Number(f64::INFINITY)).expect("JSON"), serde_json::Value::Null);
    }
}
