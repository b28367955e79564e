//! The few metrics that say most: what the table of a sweep, a run's words after an evaluation and the pictures show of dozens.
//! A metric says of itself that it is one.

use crate::registry::{Better, Registry};

/// A metric's place among the few that say most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headline {
    /// What a column or an axis calls it.
    pub title: &'static str,
    /// Of a series, the setting whose number it is, such as 100 samples of coverage.
    pub setting: Option<&'static str>,
    /// True of the handful that is told after every evaluation of a run.
    pub is_first: bool,
}

impl Headline {
    /// One that stands in tables.
    pub const fn new(title: &'static str) -> Self {
        Self { title, setting: None, is_first: false }
    }

    /// One of the handful that is told first.
    pub const fn first(title: &'static str) -> Self {
        Self { is_first: true, ..Self::new(title) }
    }

    /// The number of a series at this setting.
    pub const fn at(self, setting: &'static str) -> Self {
        Self { setting: Some(setting), ..self }
    }
}

/// What a metric is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Prompts whose answers are known.
    Exact,
    /// A prompt's samples.
    Samples,
    /// Rows that a model is to find likely.
    Likelihood,
}

/// A number that is a headline, with what its metric says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// What it is measured of.
    pub kind: Kind,
    /// The key of its metric.
    pub name: &'static str,
    /// Which way is better.
    pub better: Better,
    /// Its place.
    pub headline: Headline,
}

impl Shown {
    /// Its key with its setting, `joint` between them: `coverage.100` in records, `coverage@100` on pages.
    pub fn key(&self, joint: char) -> String {
        let setting = self.headline.setting.map_or(String::new(), |setting| format!("{joint}{setting}"));
        format!("{}{setting}", self.name)
    }
}

impl Registry {
    /// The headlines among these metrics, the handful that is told first before the others, else as they are listed.
    pub fn headlines(&self) -> Vec<Shown> {
        let shown = |kind, name, better, headline: Option<Headline>| {
            headline.map(|headline| Shown { kind, name, better, headline })
        };
        let exact = self.exact.iter().filter_map(|m| shown(Kind::Exact, m.name, m.better, m.headline));
        let samples = self.samples.iter().filter_map(|m| shown(Kind::Samples, m.name, m.better, m.headline));
        let likelihood = self.likelihood.iter().filter_map(|m| shown(Kind::Likelihood, m.name, m.better, m.headline));
        let mut all: Vec<Shown> = exact.chain(likelihood).chain(samples).collect();
        all.sort_by_key(|shown| !shown.headline.is_first);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::{Exact, outcomes};
    use crate::registry::Measured;

    /// What is told first is little, each has a title and a direction of its own, and the setting of a series is one that it has.
    #[test]
    fn headlines_are_few_and_say_what_they_are() {
        let registry = Registry::default();
        let shown = registry.headlines();
        let first: Vec<String> = shown.iter().filter(|shown| shown.headline.is_first).map(|s| s.key('.')).collect();
        assert!((1..=6).contains(&first.len()) && first.len() < shown.len(), "{first:?}");
        assert_eq!(shown[..first.len()].iter().map(|shown| shown.key('.')).collect::<Vec<_>>(), first);
        for (place, one) in shown.iter().enumerate() {
            assert!(one.better != Better::Neither && !one.headline.title.is_empty(), "{one:?}");
            assert!(shown[place + 1..].iter().all(|other| other.headline.title != one.headline.title), "{one:?}");
        }
        let prompt = outcomes(&[0.5, 0.5], &[0.6, 0.2]);
        for metric in &registry.exact {
            let Some(headline) = metric.headline else { continue };
            let measured = (metric.measure)(&Exact::new(vec![&prompt], &[10, 100, 1000]));
            let settings: Vec<Option<&str>> = measured.numbers().into_iter().map(|(setting, _)| setting).collect();
            assert!(settings.contains(&headline.setting), "{}: {measured:?}", metric.name);
            assert_eq!(matches!(measured, Measured::Series(_)), headline.setting.is_some(), "{}", metric.name);
        }
    }
}
