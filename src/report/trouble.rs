//! What goes wrong in a run whose numbers are all finite, told from the lines of `metrics.jsonl`: while it goes on, each once,
//! and of the whole run at its end.
//!
//! A rule on steps holds when it holds for most of the steps that are looked at, so that no single step sets it off. The
//! numbers behind each rule stand beside it.

use std::fmt;

use faults::counted;
use serde_json::Value;

/// Steps that are looked at while a run goes on.
const WINDOW: usize = 20;

/// Below this part of the learned tokens, what has a weight above 0 is next to nothing: 1 of 100.
const FEW_ACTIVE: f64 = 0.01;

/// Weights leave too little of a step when it is worth fewer equal tokens than this ..
const FEW_EFFECTIVE: f64 = 16.0;

/// .. and they do so themselves, where a small batch would not: less than this part of the learned tokens is left.
const EFFECTIVE_PART: f64 = 0.05;

/// Clipping is there for the odd step. A gradient this many times the limit in most steps says that the limit decides on
/// the size of every step, and a few tokens on its direction.
const FAR_ABOVE_CLIP: f64 = 20.0;

/// What a run is set to, as far as hints speak of it.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// `optimizer.clip_norm`, unless that is off.
    pub clip_norm: Option<f64>,
    /// `optimizer.learning_rate`.
    pub learning_rate: f64,
    /// What the objective would change when too few tokens count.
    pub milder: Option<String>,
    /// An auxiliary loss is learned beside the objective.
    pub has_auxiliary: bool,
}

/// What a trouble is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Weights are all 0.
    NothingLearned,
    /// Next to no token has a weight above 0.
    FewActive,
    /// A few tokens have nearly all of the weight.
    FewEffective,
    /// The gradient is far above the limit.
    Clipped,
    /// The held-out nll is above what it was.
    HeldOutRises,
}

/// Something that goes wrong, and what to change.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// Its subject.
    pub kind: Kind,
    /// What the records show.
    pub message: String,
    /// What to change.
    pub hint: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.hint)
    }
}

/// Watches a run line by line.
pub struct Watch {
    watched: Watched,
    steps: Vec<Step>,
    evaluations: Vec<Evaluation>,
    told: Vec<Kind>,
}

impl Watch {
    /// Nothing seen yet.
    pub fn new(watched: Watched) -> Self {
        Self { watched, steps: Vec::new(), evaluations: Vec::new(), told: Vec::new() }
    }

    /// What the run is set to.
    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    /// Takes a line of `metrics.jsonl` and gives what it shows for the first time.
    pub fn take(&mut self, line: &Value) -> Vec<Trouble> {
        let mut found = Vec::new();
        if let Some(step) = Step::of(line) {
            self.steps.push(step);
            if self.steps.len() == WINDOW {
                found = of_steps(&self.steps, &self.watched, &format!("the last {WINDOW} steps"));
                // Half of them again, so that what begins in the middle of a window is seen in the next.
                self.steps.drain(..WINDOW / 2);
            }
        } else if let Some(evaluation) = Evaluation::of(line) {
            self.evaluations.push(evaluation);
            // Two in a row: one evaluation may catch the model in the middle of a turn.
            if let [.., one, other] = self.evaluations[..] {
                let before = &self.evaluations[..self.evaluations.len() - 2];
                let both = rise(before, one, &self.watched).and(rise(before, other, &self.watched));
                found.extend(both);
            }
        }
        found.retain(|trouble| !self.told.contains(&trouble.kind));
        self.told.extend(found.iter().map(|trouble| trouble.kind));
        found
    }
}

/// What went wrong in a whole run, of which `lines` are all lines of `metrics.jsonl`.
pub fn of_run(lines: &[Value], watched: &Watched) -> Vec<Trouble> {
    let steps: Vec<Step> = lines.iter().filter_map(Step::of).collect();
    let evaluations: Vec<Evaluation> = lines.iter().filter_map(Evaluation::of).collect();
    let span = match steps.len() {
        1 => "the one step of the run".to_owned(),
        count => format!("the {} of the run", counted(count as u64, "step")),
    };
    let mut found = of_steps(&steps, watched, &span);
    if let Some((last, before)) = evaluations.split_last() {
        found.extend(rise(before, *last, watched));
    }
    found
}

/// A training step as the rules see it.
#[derive(Debug, Clone, Copy)]
struct Step {
    tokens: f64,
    active: f64,
    effective: f64,
    largest: f64,
    norm: f64,
}

impl Step {
    /// The step of a line, if it is one that was taken.
    fn of(line: &Value) -> Option<Self> {
        if line["split"] != "train" || line["skipped"] == true {
            return None;
        }
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        // With a floor the weights are the distribution that is wanted, however uneven; a number that is none fails all rules.
        let weights = Some(&line["objective"]).filter(|objective| objective["floor"].is_null());
        let of_weights = |name: &str| weights.map_or(f64::NAN, |weights| number(&weights[name]));
        Some(Self {
            tokens: number(&line["tokens_loss"]),
            active: of_weights("active_fraction"),
            effective: of_weights("effective_sample_size"),
            largest: of_weights("weight_max"),
            norm: number(&line["grad_norm"]),
        })
    }
}

/// An evaluation as the rules see it.
#[derive(Debug, Clone, Copy)]
struct Evaluation {
    step: u64,
    nll: f64,
    tokens: f64,
}

impl Evaluation {
    fn of(line: &Value) -> Option<Self> {
        if line["split"] != "eval" {
            return None;
        }
        Some(Self { step: line["step"].as_u64()?, nll: line["nll"].as_f64()?, tokens: line["tokens_loss"].as_f64()? })
    }

    /// A difference of means that chance may make. The nll of a token is spread about as far as its mean (it would be
    /// exponential if the model were right about every token), and two evaluations see the same tokens: twice the standard
    /// error of one mean is more than what two differ by without a reason. Below one part in a hundred nobody minds.
    fn noise(&self) -> f64 {
        (2.0 * self.nll / self.tokens.max(1.0).sqrt()).max(0.01 * self.nll)
    }
}

/// What most of `steps` show.
fn of_steps(steps: &[Step], watched: &Watched, span: &str) -> Vec<Trouble> {
    let most = |holds: &dyn Fn(&Step) -> bool| {
        !steps.is_empty() && 2 * steps.iter().filter(|step| holds(step)).count() > steps.len()
    };
    let median = |of: fn(&Step) -> f64| median(steps.iter().map(of));
    let middle = if steps.len() == 1 { span.to_owned() } else { format!("the median of {span}") };
    let milder = || watched.milder.clone().unwrap_or_else(|| "choose a milder setting of the objective".into());
    let mut found = Vec::new();
    if !steps.is_empty() && steps.iter().all(|step| step.active == 0.0) {
        let message = format!("no token had a weight above 0 in {span}: the objective teaches the model nothing");
        found.push(Trouble { kind: Kind::NothingLearned, message, hint: milder() });
    } else if most(&|step| step.active < FEW_ACTIVE) {
        let message = format!(
            "{:.2} % of the learned tokens have a weight above 0 in {middle}: next to nothing is learned from",
            100.0 * median(|step| step.active)
        );
        found.push(Trouble { kind: Kind::FewActive, message, hint: milder() });
    } else if most(&|step| step.effective < FEW_EFFECTIVE.min(EFFECTIVE_PART * step.tokens)) {
        let message = format!(
            "the weights of {span} are so uneven that a step of {:.0} learned tokens is worth {:.1} equal ones (medians; the \
             largest weight was {:.3e}): a few tokens make the gradient",
            median(|step| step.tokens),
            median(|step| step.effective),
            steps.iter().map(|step| step.largest).fold(0.0, f64::max)
        );
        let hint = format!("{}; a larger `train.batch_size` steadies it, too", milder());
        found.push(Trouble { kind: Kind::FewEffective, message, hint });
    }
    if let Some(clip) = watched.clip_norm.filter(|clip| most(&|step| step.norm > FAR_ABOVE_CLIP * clip)) {
        let message = format!(
            "the norm of the gradient is {:.3e} in {middle}, and `optimizer.clip_norm` cuts it to {clip}: the \
             limit decides on the size of every step",
            median(|step| step.norm)
        );
        let hint = match &watched.milder {
            Some(milder) => format!("{milder}, or raise `optimizer.clip_norm`"),
            None => {
                "raise `optimizer.clip_norm`, or look with `trainer check` whether the rows are what they should be"
                    .into()
            }
        };
        found.push(Trouble { kind: Kind::Clipped, message, hint });
    }
    found
}

/// How far `now` is above the evaluations before it, if that is more than noise: above the first, which is the model as it
/// was, or else above the lowest.
fn rise(before: &[Evaluation], now: Evaluation, watched: &Watched) -> Option<Trouble> {
    let above = |evaluation: &Evaluation| now.nll > evaluation.nll + evaluation.noise();
    let rate = format!("lower `optimizer.learning_rate` (it is {:e})", watched.learning_rate);
    let first = before.first().filter(|first| first.step == 0 && above(first));
    let (message, hint) = match first {
        Some(first) => (
            format!(
                "the nll of the held-out rows is {:.4} after step {}, and was {:.4} before training: the model gives them \
                 less probability than it did",
                now.nll, now.step, first.nll
            ),
            match &watched.milder {
                _ if watched.has_auxiliary => format!("{rate}, or the `weight` of the auxiliary loss"),
                Some(milder) => format!("{rate}, or {milder}"),
                None => rate,
            },
        ),
        None => {
            let lowest =
                before.iter().min_by(|one, other| one.nll.total_cmp(&other.nll)).filter(|lowest| above(lowest))?;
            (
                format!(
                    "the nll of the held-out rows is {:.4} after step {}, and was {:.4} after step {}: what the model learns \
                     since does not help with rows it has not seen",
                    now.nll, now.step, lowest.nll, lowest.step
                ),
                format!("end the run earlier (`train.steps` or `train.epochs`), or {rate}"),
            )
        }
    };
    Some(Trouble { kind: Kind::HeldOutRises, message, hint })
}

/// The middle of the numbers, the upper one of two; NaN of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A healthy step of 352 learned tokens, with `change` made to it.
    fn step(number: usize, change: impl Fn(&mut Value)) -> Value {
        let mut line = json!({"step": number, "split": "train", "nll": 2.0, "grad_norm": 0.8, "tokens_loss": 352, "objective":
            {"weight_mean": 1.0, "weight_max": 1.0, "active_fraction": 1.0, "effective_sample_size": 352.0}});
        change(&mut line);
        line
    }

    fn uneven(line: &mut Value) {
        line["objective"]["effective_sample_size"] = 4.5.into();
        line["objective"]["weight_max"] = 987.0.into();
    }

    fn evaluation(number: usize, nll: f64, tokens: usize) -> Value {
        json!({"step": number, "split": "eval", "nll": nll, "tokens_loss": tokens})
    }

    fn watched() -> Watched {
        Watched {
            clip_norm: Some(1.0),
            learning_rate: 1e-3,
            milder: Some("lower `objective.alpha`".into()),
            has_auxiliary: false,
        }
    }

    fn told(lines: &[Value]) -> Vec<Trouble> {
        let mut watch = Watch::new(watched());
        lines.iter().flat_map(|line| watch.take(line)).collect()
    }

    fn kinds(troubles: &[Trouble]) -> Vec<Kind> {
        troubles.iter().map(|trouble| trouble.kind).collect()
    }

    #[test]
    fn of_a_healthy_run_nothing_is_told() {
        let mut lines = vec![evaluation(0, 2.0, 10_000)];
        for number in 1..=200 {
            // One odd step in five is what clipping is there for.
            lines.push(step(number, |line| {
                if number % 5 == 0 {
                    uneven(line);
                    line["grad_norm"] = 500.0.into();
                }
            }));
            if number % 50 == 0 {
                lines.push(evaluation(number, 1.9 - number as f64 / 1000.0, 10_000));
            }
        }
        assert_eq!(told(&lines), []);
        assert_eq!(of_run(&lines, &watched()), []);
        assert_eq!(of_run(&[], &watched()), []);
    }

    #[test]
    fn a_few_tokens_with_all_of_the_weight_are_told_of_once_and_at_the_end() {
        let lines: Vec<Value> = (1..=100).map(|number| step(number, uneven)).collect();
        let while_it_goes_on = told(&lines);
        assert_eq!(
            while_it_goes_on.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "the weights of the last 20 steps are so uneven that a step of 352 learned tokens is worth 4.5 equal ones \
              (medians; the largest weight was 9.870e2): a few tokens make the gradient; lower `objective.alpha`; a larger \
              `train.batch_size` steadies it, too"
            ]
        );
        let at_the_end = of_run(&lines, &watched());
        assert_eq!(kinds(&at_the_end), [Kind::FewEffective]);
        assert!(at_the_end[0].message.starts_with("the weights of the 100 steps of the run"), "{}", at_the_end[0]);
        // Before a window is full nothing is said, and at the end it is.
        assert_eq!(told(&lines[..19]), []);
        assert_eq!(kinds(&of_run(&lines[..1], &watched())), [Kind::FewEffective]);
    }

    #[test]
    fn few_tokens_of_a_small_batch_and_many_of_a_large_one_are_no_trouble() {
        let sized = |tokens: usize, effective: f64| {
            let line = |number| {
                step(number, |line| {
                    line["tokens_loss"] = tokens.into();
                    line["objective"]["effective_sample_size"] = effective.into();
                })
            };
            kinds(&told(&(1..=40).map(line).collect::<Vec<_>>()))
        };
        // All ten tokens of a batch; 3 of 100 for 3,000; 12 of 100.
        assert_eq!((sized(10, 10.0), sized(100_000, 3000.0), sized(100, 12.0)), (vec![], vec![], vec![]));
        assert_eq!(sized(100_000, 15.0), [Kind::FewEffective]);
        // The wanted distribution of an objective with a floor is what it is.
        let wanted = |number| {
            step(number, |line| {
                uneven(line);
                line["objective"]["floor"] = 0.1.into();
            })
        };
        assert_eq!(told(&(1..=40).map(wanted).collect::<Vec<_>>()), []);
    }

    #[test]
    fn next_to_no_active_token_is_told_of_and_none_otherwise() {
        let active = |part: fn(usize) -> f64| {
            let line = |number| step(number, |line| line["objective"]["active_fraction"] = part(number).into());
            (1..=40).map(line).collect::<Vec<_>>()
        };
        let few = active(|number| if number % 4 == 0 { 0.5 } else { 0.004 });
        assert_eq!(kinds(&told(&few)), [Kind::FewActive]);
        assert!(told(&few)[0].message.starts_with("0.40 % of the learned tokens have a weight above 0"));
        let none = active(|_| 0.0);
        assert_eq!(kinds(&told(&none)), [Kind::NothingLearned]);
        assert_eq!(kinds(&of_run(&none[..2], &watched())), [Kind::NothingLearned]);
        assert!(told(&none)[0].message.contains("no token had a weight above 0 in the last 20 steps"));
        assert_eq!(told(&active(|_| 0.05)), []);
        // A line without the number, of another version, says nothing.
        let without = |number| step(number, |line| line["objective"] = Value::Null);
        assert_eq!(told(&(1..=40).map(without).collect::<Vec<_>>()), []);
    }

    #[test]
    fn a_gradient_far_above_the_limit_for_long_is_told_of() {
        let norms =
            |norm: f64| (1..=40).map(|number| step(number, |line| line["grad_norm"] = norm.into())).collect::<Vec<_>>();
        let found = told(&norms(242.0));
        assert_eq!(kinds(&found), [Kind::Clipped]);
        assert!(
            found[0].message.contains("2.420e2") && found[0].hint.contains("raise `optimizer.clip_norm`"),
            "{}",
            found[0]
        );
        assert_eq!(told(&norms(9.0)), []);
        let mut off = Watch::new(Watched { clip_norm: None, ..watched() });
        assert!(norms(242.0).iter().all(|line| off.take(line).is_empty()));
        // Without words of the objective the hint names what every recipe has.
        let plain = of_run(&norms(242.0), &Watched { milder: None, ..watched() });
        assert!(plain[0].hint.starts_with("raise `optimizer.clip_norm`"), "{}", plain[0]);
    }

    #[test]
    fn what_began_later_is_seen_and_skipped_steps_are_not_looked_at() {
        let late: Vec<Value> = (1..=60)
            .map(|number| {
                step(number, |line| {
                    if number > 30 {
                        uneven(line)
                    }
                })
            })
            .collect();
        assert_eq!(kinds(&told(&late)), [Kind::FewEffective]);
        let skipped = |number| {
            step(number, |line| {
                uneven(line);
                line["skipped"] = true.into();
            })
        };
        assert_eq!(told(&(1..=60).map(skipped).collect::<Vec<_>>()), []);
    }

    #[test]
    fn held_out_rows_that_become_worse_than_before_training_are_told_of() {
        let lines = [evaluation(0, 1.41, 9000), evaluation(50, 1.52, 9000), evaluation(100, 1.55, 9000)];
        let found = told(&lines);
        assert_eq!(kinds(&found), [Kind::HeldOutRises]);
        assert_eq!(
            found[0].to_string(),
            "the nll of the held-out rows is 1.5500 after step 100, and was 1.4100 before training: the model gives them less \
             probability than it did; lower `optimizer.learning_rate` (it is 1e-3), or lower `objective.alpha`"
        );
        assert_eq!(kinds(&of_run(&lines[..2], &watched())), [Kind::HeldOutRises]);
        // One evaluation may be a turn, while a run goes on.
        assert_eq!(told(&lines[..2]), []);
        assert_eq!(told(&[lines[0].clone(), lines[1].clone(), evaluation(100, 1.3, 9000)]), []);
    }

    #[test]
    fn a_rise_above_the_lowest_is_told_of_where_it_is_more_than_noise() {
        let run = |last: f64, tokens: usize| {
            let nlls = [2.0, 0.8915, 0.8920, last, last];
            let lines = nlls.iter().enumerate().map(|(place, nll)| evaluation(50 * place, *nll, tokens));
            told(&lines.collect::<Vec<_>>())
        };
        let found = run(0.9532, 9000);
        assert!(found[0].message.contains("0.9532 after step 200, and was 0.8915 after step 50"), "{}", found[0]);
        assert!(found[0].hint.starts_with("end the run earlier"), "{}", found[0]);
        // Twice 0.89 / sqrt(9000) is 0.019, and 0.089 of 400 tokens; below one part in a hundred nobody minds.
        assert_eq!(run(0.9032, 9000), []);
        assert_eq!(run(0.9532, 400), []);
        assert_eq!(run(0.8990, 4_000_000), []);
        assert_eq!(run(0.9032, 4_000_000).len(), 1);
    }
}
