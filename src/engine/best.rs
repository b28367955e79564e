//! The number of an evaluation by which checkpoints are compared.

use std::collections::BTreeSet;

use faults::{Fault, FromToml, Place, Shape};
use metrics::{Better, Registry};
use serde_json::Value;

use crate::report::record::{EXACT, SAMPLES};

/// `checkpoint.best_by`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BestBy {
    /// `nll`, or a metric of prompts, with the setting that a series is taken at: `coverage.100`.
    name: String,
    higher: bool,
}

impl Default for BestBy {
    fn default() -> Self {
        Self { name: "nll".into(), higher: false }
    }
}

impl FromToml for BestBy {
    const EXPECTED: &'static str =
        "`nll`, or a metric that can be better or worse, such as `f8`, `coverage.100` or `distinct`";

    fn shape() -> Shape {
        Shape::Text
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        let name = value.as_str()?;
        if name == "nll" {
            return Some(Self::default());
        }
        let registry = Registry::default();
        let exact = registry.exact.iter().map(|metric| (metric.name, metric.better));
        let samples = registry.samples.iter().map(|metric| (metric.name, metric.better));
        let metric = name.split_once('.').map_or(name, |(metric, _)| metric);
        let (_, better) =
            exact.chain(samples).find(|(known, better)| *known == metric && *better != Better::Neither)?;
        Some(Self { name: name.into(), higher: better == Better::Higher })
    }

    fn to_toml(&self) -> toml::Value {
        self.name.clone().into()
    }
}

impl BestBy {
    /// As the recipe has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the number comes from prompts, not from the held-out rows.
    pub fn needs_prompts(&self) -> bool {
        self.name != "nll"
    }

    /// The fault of evaluations that have these numbers, and not this one.
    pub fn missing<'a>(&self, known: impl Iterator<Item = &'a str>) -> Fault {
        let usable: BTreeSet<&str> = known.filter(|name| Self::from_toml(&(*name).into()).is_some()).collect();
        Fault::new(format!("an evaluation of these prompts has no number `{}`", self.name))
            .at(Place::Named("checkpoint.best_by".into()))
            .hint(format!("one of: {}", usable.into_iter().collect::<Vec<_>>().join(", ")))
    }

    /// The number in an evaluation's line of `metrics.jsonl`, if it is there and finite: an exact one before one of samples.
    pub fn of_line(&self, line: &Value) -> Option<f64> {
        if !self.needs_prompts() {
            return line["nll"].as_f64();
        }
        [EXACT, SAMPLES].iter().find_map(|group| line[group][&self.name].as_f64())
    }

    /// Whether `value` is better than `than`.
    pub fn is_better(&self, value: f64, than: f64) -> bool {
        if self.higher { value > than } else { value < than }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn by(name: &str) -> Option<BestBy> {
        BestBy::from_toml(&name.into())
    }

    #[test]
    fn a_metric_has_its_direction_and_its_place_in_a_line() {
        let line =
            json!({"nll": 2.0, "exact": {"f8": 0.5, "coverage.100": 0.25}, "samples": {"f8": 9.0, "distinct": 7.0}});
        for (name, value, higher) in
            [("nll", 2.0, false), ("f8", 0.5, true), ("coverage.100", 0.25, true), ("distinct", 7.0, true)]
        {
            let by = by(name).expect(name);
            assert_eq!((by.of_line(&line), by.is_better(1.0, 0.0)), (Some(value), higher), "{name}");
            assert!(!by.is_better(1.0, 1.0));
        }
        assert!(by("kl").expect("a metric").is_better(0.0, 1.0));
        assert_eq!(by("kl").expect("a metric").of_line(&json!({"exact": {"kl": null}})), None);
    }

    #[test]
    fn what_has_no_better_direction_cannot_choose() {
        for name in ["entropy", "f9", "", "loss_of_something", "nll.1"] {
            assert_eq!(by(name), None, "{name}");
        }
    }
}
