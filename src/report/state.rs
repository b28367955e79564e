//! The state of the objective in words: of what it logs, the numbers that say something at this step.

use super::record::StepRecord;

/// What the engine logs for every objective, or of one with a floor; all else is the objective's own.
const OF_EVERY_OBJECTIVE: [&str; 7] =
    ["weight_mean", "weight_max", "active_fraction", "effective_sample_size", "loss", "floor", "gap"];

/// A deviation that is rounding.
const ROUNDING: f64 = 1e-3;

/// The numbers that an objective logs of its own accord.
pub fn own(record: &StepRecord) -> impl Iterator<Item = (&str, f64)> {
    let own = record.objective.iter().filter(|(name, _)| !OF_EVERY_OBJECTIVE.contains(&name.as_str()));
    own.map(|(name, value)| (name.as_str(), *value))
}

/// The objective's state at a step, a few words each: nothing of weights that are all 1, and of no number that follows from
/// those beside it. Then the auxiliary losses.
pub fn words(record: &StepRecord) -> Vec<String> {
    let mut words = Vec::new();
    let number = |name: &str| record.of_objective(name);
    if let Some(gap) = record.gap() {
        // The weights are the wanted distribution: they stay as they are.
        words.push(format!("gap {gap:.4}"));
    } else if let (Some(mean), Some(largest), Some(active), Some(effective)) =
        (number("weight_mean"), number("weight_max"), number("active_fraction"), number("effective_sample_size"))
    {
        let tokens = record.tokens_loss as f64;
        let some_off = active < 1.0;
        if some_off {
            words.push(format!("active {}", percent(active)));
        }
        // Weights of 0 and one other value: as many count as are active.
        if (effective - active * tokens).abs() > ROUNDING * tokens {
            words.push(format!("effective {} of {tokens}", short(effective)));
        }
        let plain = largest == 1.0 && (mean - active).abs() < ROUNDING;
        if !plain {
            words.push(format!("weight {}, at most {}", short(mean), short(largest)));
        }
    }
    words.extend(own(record).map(|(name, value)| format!("{name} {}", short(value))));
    for (name, numbers) in &record.auxiliaries {
        words.extend(numbers.first().map(|(of, value)| match of.as_str() {
            "loss" => format!("{name} {value:.4}"),
            of => format!("{name} {of} {value:.4}"),
        }));
    }
    words
}

/// Three digits.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        ..0.001 => format!("{value:.1e}"),
        ..1.0 => format!("{value:.3}"),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        ..1e6 => format!("{value:.0}"),
        _ => format!("{value:.1e}"),
    }
}

/// A part in percent: all but nothing is not shown as nothing.
fn percent(part: f64) -> String {
    let percent = 100.0 * part;
    if percent != 0.0 && percent < 10.0 { format!("{} %", short(percent)) } else { format!("{percent:.0} %") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::record::example;

    fn of(mean: f64, largest: f64, active: f64, effective: f64) -> StepRecord {
        let names = ["weight_mean", "weight_max", "active_fraction", "effective_sample_size"];
        let objective = names.into_iter().zip([mean, largest, active, effective]);
        StepRecord {
            tokens_loss: 352,
            objective: objective.map(|(name, value)| (name.into(), value)).collect(),
            auxiliaries: Vec::new(),
            ..example(1, "train", 2.0)
        }
    }

    #[test]
    fn weights_of_one_say_nothing() {
        assert_eq!(words(&of(1.0, 1.0, 1.0, 352.0)), Vec::<String>::new());
    }

    #[test]
    fn of_a_threshold_the_active_part_says_all() {
        let mut record = of(0.61, 1.0, 0.61, 0.61 * 352.0);
        record.objective.push(("cutoff".into(), 0.31234));
        assert_eq!(words(&record), ["active 61 %", "cutoff 0.312"]);
        assert_eq!(words(&of(0.0, 0.0, 0.0, 0.0)), ["active 0 %", "weight 0, at most 0"]);
        assert_eq!(words(&of(0.0042, 1.0, 0.0042, 1.5)), ["active 0.420 %"]);
    }

    #[test]
    fn of_weights_of_all_sizes_the_effective_tokens_are_told() {
        assert_eq!(words(&of(4.321, 987.25, 1.0, 4.5)), ["effective 4.50 of 352", "weight 4.32, at most 987"]);
        // Equal weights other than 1.
        assert_eq!(words(&of(0.5, 0.5, 1.0, 352.0)), ["weight 0.500, at most 0.500"]);
    }

    #[test]
    fn an_objective_with_a_floor_shows_its_gap_and_auxiliary_losses_their_own() {
        let mut record = of(0.1, 0.1, 1.0, 352.0);
        record.objective.extend([("floor".into(), 2.4026), ("gap".into(), 0.01234)]);
        record.auxiliaries = vec![
            ("sfr".into(), vec![("loss".into(), 0.125), ("gate".into(), 1.0)]),
            ("mtp".into(), vec![("head_1".into(), 2.0)]),
        ];
        assert_eq!(words(&record), ["gap 0.0123", "sfr 0.1250", "mtp head_1 2.0000"]);
        record.objective.push(("shared".into(), 12345.0));
        assert_eq!(words(&record)[1], "shared 12345");
    }
}
