//! What the keys of a line of `trainer eval` are: measurements, or what was measured and how.

use metrics::{Registry, Shown};

/// Counts that say what was evaluated, and measure nothing.
pub(crate) const SIZES: [&str; 5] = ["targets", "rows", BYTES, TOKENS, "prompts"];

/// The text of rows that is learned.
pub(crate) const BYTES: &str = "bytes";

/// What a tokenizer makes of it.
pub(crate) const TOKENS: &str = "tokens";

/// What says how tokens were drawn, beside the temperature: with another value of these a model is another one.
pub(crate) const CUTS: [&str; 4] = ["top_p", "top_k", "min_p", "typical_p"];

/// What a perfect model covers, which is no measure of this one.
pub(crate) const PERFECT_COVERAGE: &str = "perfect_coverage";

/// What says where a line stands and how it was measured, and numbers about numbers, which stand beside them.
const BESIDE: [&str; 12] = [
    "model",
    "file",
    "line",
    "prompt",
    "temperature",
    "standard_errors",
    "prompts_at_ceiling",
    "prompts_without",
    "clusters",
    "probabilities",
    "vocabulary",
    PERFECT_COVERAGE,
];

/// Between a number of a series and its setting, in the keys of a page.
pub(crate) const JOINT: char = '@';

/// The headlines of all metrics, each with its key on a page.
pub(crate) fn headlines() -> Vec<(String, Shown)> {
    Registry::default().headlines().into_iter().map(|shown| (shown.key(JOINT), shown)).collect()
}

/// What a column or an axis calls the number of this key: its metric's title, where that is a headline.
pub(crate) fn title(key: &str) -> String {
    let found = headlines().into_iter().find(|(known, _)| known == key);
    found.map_or_else(|| key.to_owned(), |(_, shown)| shown.headline.title.to_owned())
}

/// How many samples were drawn: a size that stands among the numbers of a page.
const SAMPLES: &str = "samples";

/// Whether a key has a measurement, a number or several.
pub fn is_measured(key: &str) -> bool {
    key != SAMPLES && !is_about(key)
}

/// True of what says where, how much and how.
pub(crate) fn is_about(key: &str) -> bool {
    BESIDE.contains(&key) || SIZES.contains(&key) || CUTS.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_as_a_metric_is_measured() {
        for name in metrics::Registry::default().names() {
            assert!(is_measured(name), "{name}");
        }
        for key in ["model", "bytes", "samples", "top_p", "standard_errors"] {
            assert!(!is_measured(key), "{key}");
        }
    }
}
