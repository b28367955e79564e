//! `--metrics`: which of all numbers are computed and printed.

use faults::{Fault, nearest};
use metrics::Registry;
use serde_json::{Map, Value};

use super::Arguments;
use crate::command::argument;

/// Options that are of one metric alone.
const OF_ONE: [(&str, &str); 3] = [("k", "pass_at_k"), ("vocabulary", "ead"), ("budget", "coverage")];

impl Arguments {
    /// The metrics that are wanted: all, or those that are named.
    pub(super) fn registry(&self) -> Registry {
        let all = Registry::default();
        if self.metrics.is_empty() { all } else { all.only(&self.metrics) }
    }
}

/// Refuses names that are no metric, those that what is measured does not have, and options that change none of the others.
pub(super) fn check(arguments: &Arguments) -> Vec<Fault> {
    if arguments.metrics.is_empty() {
        return Vec::new();
    }
    let names = Registry::default().names();
    let mut faults = Vec::new();
    for name in arguments.metrics.iter().filter(|name| !names.contains(&name.as_str())) {
        let fault = Fault::new(format!("there is no metric `{name}`")).at(argument("metrics"));
        faults.push(fault.hint(match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("one of: {}", names.join(", ")),
        }));
    }
    if faults.is_empty() && !(arguments.samples.is_empty() && arguments.prompts.is_empty()) {
        let mut chosen = Registry { exact: Vec::new(), likelihood: Vec::new(), ..Registry::default() };
        if arguments.references.is_none() {
            chosen.compared = Vec::new();
        }
        faults.extend(unmeasured(arguments, &chosen, "samples"));
    }
    let given = [!arguments.k.is_empty(), arguments.vocabulary.is_some(), !arguments.budget.is_empty()];
    for ((option, metric), _) in OF_ONE.iter().zip(given).filter(|(_, given)| *given) {
        if !arguments.metrics.iter().any(|name| name == metric) {
            let fault = Fault::new(format!("`--{option}` has no effect: `{metric}` is not among `--metrics`"));
            faults.push(fault.at(argument(option)).hint("leave it out, or name that metric too"));
        }
    }
    faults
}

/// Refuses names of metrics that rows of `--data` do not have, now that it is known of which kinds they are.
///
/// # Errors
/// Such a name.
pub(super) fn refuse_unmeasured(arguments: &Arguments, has_targets: bool, has_others: bool) -> Result<(), Fault> {
    let mut known = Registry { compared: Vec::new(), ..Registry::default() };
    if !has_targets {
        known.exact = Vec::new();
    }
    if !has_others {
        known.likelihood = Vec::new();
    }
    if arguments.draws() == 0 {
        known.samples = Vec::new();
    }
    let what = match (has_targets, has_others) {
        (true, true) => "these rows",
        (true, false) => "rows with `targets`",
        _ => "rows without `targets`",
    };
    unmeasured(arguments, &known, what).map_or(Ok(()), Err)
}

/// Tells of metrics that were asked for and that no prompt's samples have the evidence for.
pub(super) fn tell_of_missing(lines: &[Map<String, Value>], arguments: &Arguments) {
    let of_samples = Registry::default().samples;
    let is_missing = |name: &&String| {
        of_samples.iter().any(|metric| metric.name == *name) && lines.iter().all(|line| !line.contains_key(*name))
    };
    for name in arguments.metrics.iter().filter(is_missing) {
        tracing::warn!("`{name}` is not told: no prompt's samples have what it needs, which docs/evaluation.md says");
    }
}

/// The fault of the first name that `known` does not have, which is what is measured of `what`.
fn unmeasured(arguments: &Arguments, known: &Registry, what: &str) -> Option<Fault> {
    let names = known.names();
    let name = arguments.metrics.iter().find(|name| !names.contains(&name.as_str()))?;
    let fault = Fault::new(format!("`{name}` is not measured of {what}")).at(argument("metrics"));
    Some(fault.hint(format!("one of: {}", names.join(", "))))
}
