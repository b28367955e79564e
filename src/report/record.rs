//! One step or evaluation as numbers, and as the line of `metrics.jsonl` that other tools read.

use serde_json::{Map, Value};

/// A group of numbers in an evaluation's line beside those of the held-out rows: the exact ones of rows with targets.
pub const EXACT: &str = "exact";
/// The nll of the held-out rows of each source, where there are several.
pub const SOURCES: &str = "sources";
/// A group of numbers in the line of a step that several processes have shared: how many, the bytes that one has sent, and
/// the seconds that it waited for the others and that the sending took.
pub const GROUP: &str = "group";
/// Numbers of the samples that were drawn.
pub const SAMPLES: &str = "samples";

/// Named numbers, in the order to show them.
pub type Numbers = Vec<(String, f64)>;

/// The numbers of one optimizer step or of one evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// The optimizer step, from 1; an evaluation has the step it came after.
    pub step: usize,
    /// `train` or `eval`.
    pub split: &'static str,
    /// The loss that was minimised, auxiliary losses included.
    pub loss: f64,
    /// Mean plain negative log-likelihood of the learned tokens, in nats: comparable between objectives.
    pub nll: f64,
    /// Mean entropy of the predictions at the learned tokens, in nats.
    pub entropy: f64,
    /// Global norm of the gradient before clipping; none in an evaluation.
    pub grad_norm: Option<f64>,
    /// The learning rate; none in an evaluation.
    pub lr: Option<f64>,
    /// Tokens that went through the model, padding included.
    pub tokens: u64,
    /// Tokens that are not padding.
    pub tokens_real: u64,
    /// Tokens that were learned.
    pub tokens_loss: u64,
    /// Wall time of this step or evaluation.
    pub seconds: f64,
    /// True when the loss or the gradient was not finite and the weights were left as they are.
    pub skipped: bool,
    /// The objective's own numbers.
    pub objective: Numbers,
    /// The numbers of each auxiliary loss, by its name.
    pub auxiliaries: Vec<(String, Numbers)>,
    /// Of an evaluation, the nll by `sources`, and what was measured of prompts: `exact` numbers, and those of `samples`; of a
    /// step that several processes have shared, those of the `group`.
    pub measured: Vec<(String, Numbers)>,
    /// Seconds that each process waited for the others in a step that several have shared.
    pub waited: Vec<f64>,
}

impl StepRecord {
    /// How far the loss is above the least that it could be, if the objective has a floor.
    pub fn gap(&self) -> Option<f64> {
        self.of_objective("gap")
    }

    /// A number of the objective by its name.
    pub fn of_objective(&self, name: &str) -> Option<f64> {
        self.objective.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The line of `metrics.jsonl`. What is not finite is `null`, because JSON has no word for it; `skipped` is there when
    /// it is true, and `objective` and auxiliary groups when they hold something.
    pub fn to_json(&self) -> Value {
        let mut line = Map::new();
        let mut set = |key: &str, value: Value| {
            line.insert(key.into(), value);
        };
        set("step", self.step.into());
        set("split", self.split.into());
        set("loss", number(self.loss));
        set("nll", number(self.nll));
        set("entropy", number(self.entropy));
        set("grad_norm", self.grad_norm.map_or(Value::Null, number));
        set("lr", self.lr.map_or(Value::Null, number));
        set("tokens", self.tokens.into());
        set("tokens_real", self.tokens_real.into());
        set("tokens_loss", self.tokens_loss.into());
        set("seconds", number(self.seconds));
        if self.skipped {
            set("skipped", true.into());
        }
        let own = std::iter::once(("objective", &self.objective));
        let auxiliaries = self.auxiliaries.iter().chain(&self.measured).map(|(name, numbers)| (name.as_str(), numbers));
        for (name, numbers) in own.chain(auxiliaries).filter(|(_, numbers)| !numbers.is_empty()) {
            set(name, Value::Object(numbers.iter().map(|(key, value)| (key.clone(), number(*value))).collect()));
        }
        Value::Object(line)
    }
}

/// The numbers of a line of `metrics.jsonl` that are worth a chart, groups as `objective/weight_mean`. What is `null` is
/// left out.
pub fn scalars(line: &Value) -> Vec<(String, f64)> {
    const NOT_CHARTED: [&str; 3] = ["step", "tokens", "seconds"];
    let mut found = Vec::new();
    for (key, value) in line.as_object().into_iter().flatten() {
        if NOT_CHARTED.contains(&key.as_str()) || key.starts_with("tokens_") {
            continue;
        }
        match value {
            Value::Number(number) => found.extend(number.as_f64().map(|number| (key.clone(), number))),
            Value::Object(group) => {
                found.extend(group.iter().filter_map(|(name, value)| Some((format!("{key}/{name}"), value.as_f64()?))))
            }
            _ => {}
        }
    }
    found
}

/// `null` for what is not finite.
fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
pub(super) fn example(step: usize, split: &'static str, loss: f64) -> StepRecord {
    StepRecord {
        step,
        split,
        loss,
        nll: 2.0,
        entropy: 1.5,
        grad_norm: (split == "train").then_some(0.25),
        lr: (split == "train").then_some(1e-4),
        tokens: 512,
        tokens_real: 400,
        tokens_loss: 100,
        seconds: 0.5,
        skipped: false,
        objective: vec![("weight_mean".into(), 1.25)],
        auxiliaries: vec![("sfr".into(), vec![("loss".into(), 0.125)])],
        measured: Vec::new(),
        waited: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_step_has_the_keys_that_others_read() {
        let line = serde_json::to_string(&example(3, "train", 2.5).to_json()).expect("JSON");
        assert_eq!(
            line,
            r#"{"step":3,"split":"train","loss":2.5,"nll":2.0,"entropy":1.5,"grad_norm":0.25,"lr":0.0001,"tokens":512,"tokens_real":400,"tokens_loss":100,"seconds":0.5,"objective":{"weight_mean":1.25},"sfr":{"loss":0.125}}"#
        );
    }

    #[test]
    fn what_is_not_finite_or_not_there_is_null() {
        let mut record = example(3, "eval", f64::NAN);
        record.entropy = f64::INFINITY;
        record.skipped = true;
        record.objective.clear();
        let line = record.to_json();
        for key in ["loss", "entropy", "grad_norm", "lr"] {
            assert!(line[key].is_null(), "{key}");
        }
        assert_eq!(line["skipped"], true);
        assert!(line.get("objective").is_none());
        let names: Vec<String> = scalars(&line).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["nll", "sfr/loss"]);
    }
}
