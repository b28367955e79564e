//! The prompts whose numbers changed most, both ways.

use metrics::counts::DISTINCT;
use metrics::interval::Mean;
use serde::Serialize;

use crate::number::{plain, signed_with_half};
use crate::pairs::{Difference, Pairs};
use crate::read::{Arm, Part, Run, at};
use crate::text::Shown;
use crate::verdict::RECALL;

/// Prompts that are shown of each direction.
const PROMPTS: usize = 5;

/// The prompts whose number changed most from the baseline to an arm.
#[derive(Debug, Serialize)]
pub struct Changes {
    arm: String,
    baseline: String,
    temperature: String,
    metric: &'static str,
    /// Prompts that both were measured on.
    prompts: usize,
    more: Vec<Change>,
    less: Vec<Change>,
}

/// A prompt in both.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    prompt: Shown,
    baseline: f64,
    arm: f64,
    difference: f64,
    half_width: Option<f64>,
    text: String,
}

/// The changes of each arm at `temperature`; none where no prompt was measured in both.
pub fn changes(arms: &[Arm<'_>], baseline: &Arm<'_>, temperature: Option<f64>) -> Vec<Changes> {
    let others = arms.iter().filter(|(arm, _)| *arm != baseline.0);
    let all = others.filter_map(|arm| {
        let pairs = Pairs::of(&baseline.1, &arm.1).ok()?;
        // What drawn samples are compared by, where nothing is exact.
        let (metric, mut changed) = [RECALL, "pass_at_k@1", DISTINCT.name].into_iter().find_map(|metric| {
            let changed = changed(&pairs, metric, temperature);
            (!changed.is_empty()).then_some((metric, changed))
        })?;
        changed.sort_by(|a, b| b.difference.total_cmp(&a.difference));
        let more = changed.iter().filter(|change| change.difference > 0.0).take(PROMPTS).cloned().collect();
        let less = changed.iter().rev().filter(|change| change.difference < 0.0).take(PROMPTS).cloned().collect();
        Some(Changes {
            arm: arm.0.into(),
            baseline: baseline.0.into(),
            temperature: if metric == RECALL { temperature.map_or(String::new(), plain) } else { String::new() },
            metric,
            prompts: changed.len(),
            more,
            less,
        })
    });
    all.collect()
}

fn changed(pairs: &Pairs<'_>, metric: &str, temperature: Option<f64>) -> Vec<Change> {
    let Some((first, _)) = pairs.runs.first() else { return Vec::new() };
    let value = |run: &Run, part: &Part| {
        let same = run.parts.iter().find(|other| other.is_prompt && other.is(part))?;
        at(&same.points, temperature).or(at(&same.points, None))?.value(metric)
    };
    let change = |part: &Part| {
        let both: Option<Vec<(f64, f64)>> =
            pairs.runs.iter().map(|(a, b)| Some((value(a, part)?, value(b, part)?))).collect();
        let both = both?;
        let difference = Difference::of(&both)?;
        let level = |of: fn(&(f64, f64)) -> f64| Mean::of(&both.iter().map(of).collect::<Vec<_>>()).mean;
        Some(Change {
            prompt: Shown::of(&part.name),
            baseline: level(|pair| pair.0),
            arm: level(|pair| pair.1),
            difference: difference.mean,
            half_width: difference.half_width,
            text: signed_with_half(difference.mean, difference.half_width),
        })
    };
    first.parts.iter().filter(|part| part.is_prompt).filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{Point, arms};
    use crate::testing::run;

    #[test]
    fn prompts_that_changed_most_stand_first() {
        let with = |name: &str, recalls: &[f64]| {
            let mut run = run(name, &[(1.0, 0.5, 0.5)]);
            let point = |value: &f64| Point {
                temperature: Some(1.0),
                values: vec![(RECALL.into(), *value)],
                ..Point::default()
            };
            let part = |(place, value): (usize, &f64)| Part {
                name: format!("p{place}"),
                is_prompt: true,
                points: vec![point(value)],
                ..Part::default()
            };
            run.parts = recalls.iter().enumerate().map(part).collect();
            run
        };
        let runs = [with("n", &[0.5, 0.5, 0.5, 0.5]), with("c", &[0.6, 0.2, 0.9, 0.5])];
        let arms = arms(&runs);
        let found = changes(&arms, &arms[0], Some(1.0));
        let names = |changes: &[Change]| changes.iter().map(|change| change.prompt.clone()).collect::<Vec<_>>();
        let shown = |names: &[&str]| names.iter().map(|name| Shown::of(name)).collect::<Vec<_>>();
        assert_eq!((names(&found[0].more), names(&found[0].less)), (shown(&["p2", "p0"]), shown(&["p1"])));
        assert_eq!((found[0].metric, found[0].prompts), (RECALL, 4));
        assert!(changes(&arms[..1], &arms[0], Some(1.0)).is_empty());
    }
}
