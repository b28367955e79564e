//! Where a run stands: a bar on a terminal, lines in a log everywhere else.

use std::collections::VecDeque;

use indicatif::ProgressBar;
use metrics::{Registry, Shown};
use tracing::info;

use super::record::{SOURCES, StepRecord};
use super::state;
use crate::logging::{self, terminal::bar};

/// How many steps the rates are averaged over.
const RATE_STEPS: usize = 20;

/// Steps that are logged after the start, so that one sees early that things go well.
const FIRST_STEPS: usize = 3;

/// Lines over the whole run, about one for every two per cent.
const LINES: usize = 50;

/// The progress of one run. When it goes, its bar goes.
pub struct Progress {
    total: usize,
    start: usize,
    bar: Option<ProgressBar>,
    recent: VecDeque<Counts>,
}

#[derive(Clone, Copy)]
struct Counts {
    tokens: u64,
    real: u64,
    loss: u64,
    seconds: f64,
}

/// Tokens per second.
struct Rates {
    processed: f64,
    real: f64,
    loss: f64,
}

impl Progress {
    /// A run that ends at step `total` and goes on after step `resumed_at` (0 for a new one).
    pub fn new(total: usize, resumed_at: usize) -> Self {
        let bar = bar("{bar:30.green/dim} {pos}/{len}, {eta} left\n{wide_msg}\n{prefix}", total);
        let bar = bar.map(|bar| bar.with_position(resumed_at as u64));
        if let Some(bar) = &bar {
            bar.reset_eta();
        }
        Self { total, start: resumed_at, bar, recent: VecDeque::new() }
    }

    /// Shows a training step that was done.
    pub fn step(&mut self, record: &StepRecord) {
        if self.recent.len() == RATE_STEPS {
            self.recent.pop_front();
        }
        self.recent.push_back(Counts {
            tokens: record.tokens,
            real: record.tokens_real,
            loss: record.tokens_loss,
            seconds: record.seconds,
        });
        let rates = rates(&self.recent);
        let shown = is_shown(record.step, self.start, self.total);
        if let Some(bar) = &self.bar {
            bar.set_message(step_words(record).join("  "));
            bar.set_prefix(pace_words(record, &rates));
            bar.set_position(record.step as u64);
        } else if shown && logging::is_read_as_written() {
            let (step, pace) = (step_words(record).join("  "), pace_words(record, &rates));
            info!("{}  {step}  {pace}", self.place("step", record.step));
        } else if shown {
            let own = state::own(record).map(|(name, value)| format!("{name}:{}", rounded(value)));
            let own = own.collect::<Vec<_>>().join(",");
            info!(
                step = record.step,
                of = self.total,
                loss = rounded(record.loss),
                nll = rounded(record.nll),
                gap = record.gap().map(rounded),
                weight_mean = record.of_objective("weight_mean").map(rounded),
                weight_max = record.of_objective("weight_max").map(rounded),
                active_fraction = record.of_objective("active_fraction").map(rounded),
                effective_sample_size = record.of_objective("effective_sample_size").map(rounded),
                learned = record.tokens_loss,
                objective = (!own.is_empty()).then_some(own),
                grad_norm = record.grad_norm.map(rounded),
                lr = record.lr.map(rounded),
                tokens_per_s = rates.processed.round() as u64,
                real_per_s = rates.real.round() as u64,
                loss_per_s = rates.loss.round() as u64,
                "train"
            );
        }
    }

    /// Shows an evaluation.
    pub fn evaluation(&mut self, record: &StepRecord) {
        if logging::is_read_as_written() {
            info!("{}  {}", self.place("eval", record.step), evaluation_words(record).join("  "));
            return;
        }
        info!(
            step = record.step,
            of = self.total,
            loss = rounded(record.loss),
            nll = rounded(record.nll),
            entropy = rounded(record.entropy),
            gap = record.gap().map(rounded),
            prompts = of_prompts(record).map(|told| told.join(", ")),
            sources = of_sources(record),
            seconds = rounded(record.seconds),
            "eval"
        );
    }

    /// What a line is of and when, as wide in every line of a run.
    fn place(&self, what: &str, step: usize) -> String {
        format!("{what} {step:>width$}/{}", self.total, width = self.total.to_string().len())
    }
}

/// A step for a person: what is minimised, what runs are compared by, and the state of the objective.
fn step_words(record: &StepRecord) -> Vec<String> {
    let mut words = vec![format!("loss {:.4}", record.loss), format!("nll {:.4}", record.nll)];
    words.extend(state::words(record));
    words
}

/// How fast it goes.
fn pace_words(record: &StepRecord, rates: &Rates) -> String {
    let lr = record.lr.map(|lr| format!("lr {lr:.2e}  ")).unwrap_or_default();
    let [processed, real, loss] = [rates.processed, rates.real, rates.loss].map(short);
    format!("{lr}tokens/s {processed}, real {real}, learned {loss}")
}

/// An evaluation for a person. Its loss is the plain nll.
fn evaluation_words(record: &StepRecord) -> Vec<String> {
    let mut words = vec![format!("nll {:.4}", record.nll), format!("entropy {:.4}", record.entropy)];
    words.extend(state::words(record));
    words.extend(of_prompts(record).into_iter().flatten());
    words.extend(of_sources(record));
    words.push(format!("in {:.1} s", record.seconds));
    words
}

/// The nll of each source of held-out rows, where there are several.
fn of_sources(record: &StepRecord) -> Option<String> {
    let (_, numbers) = record.measured.iter().find(|(group, _)| group == SOURCES)?;
    let each: Vec<String> = numbers.iter().map(|(name, nll)| format!("{name} {nll:.4}")).collect();
    Some(format!("({})", each.join(", ")))
}

/// Of dozens of numbers of the prompts the few that say most, where there are any; all are in `metrics.jsonl`.
fn of_prompts(record: &StepRecord) -> Option<Vec<String>> {
    let first = Registry::default().headlines().into_iter().filter(|shown| shown.headline.is_first);
    let word = |shown: Shown| {
        let key = shown.key('.');
        told(record, &key).map(|value| format!("{key} {value:.4}"))
    };
    let words: Vec<String> = first.filter_map(word).collect();
    (!words.is_empty()).then_some(words)
}

/// A number of the prompts, where it was measured.
fn told(record: &StepRecord, name: &str) -> Option<f64> {
    let of_prompts = record.measured.iter().filter(|(group, _)| group != SOURCES);
    let mut measured = of_prompts.flat_map(|(_, numbers)| numbers);
    measured.find(|(known, _)| known == name).map(|(_, value)| rounded(*value))
}

/// The progress of work before training: a bar on a terminal, a line for every tenth elsewhere. When it goes, its bar
/// goes.
pub struct Counter {
    total: usize,
    what: String,
    shown: usize,
    bar: Option<ProgressBar>,
}

impl Counter {
    /// Nothing of `total` done yet.
    pub fn new(total: usize, what: String) -> Self {
        let bar = count_bar(total, &what);
        Self { total, what, shown: 0, bar }
    }

    /// So many are done.
    pub fn at(&mut self, done: usize) {
        let tenth = done * 10 / self.total.max(1);
        match &self.bar {
            Some(bar) => bar.set_position(done as u64),
            None if tenth > self.shown && logging::is_read_as_written() => {
                info!("{}: {done} of {}", self.what, self.total);
            }
            None if tenth > self.shown => info!(done, of = self.total, "{}", self.what),
            None => {}
        }
        self.shown = tenth;
    }
}

/// A bar for work that is counted, where bars are drawn: `what` says what is done.
pub fn count_bar(total: usize, what: &str) -> Option<ProgressBar> {
    let bar = bar("{bar:20.green/dim} {pos}/{len} {wide_msg} {eta_precise}", total)?;
    bar.set_message(what.to_owned());
    Some(bar)
}

fn rates(recent: &VecDeque<Counts>) -> Rates {
    let seconds: f64 = recent.iter().map(|counts| counts.seconds).sum();
    let rate = |count: fn(&Counts) -> u64| recent.iter().map(count).sum::<u64>() as f64 / seconds.max(1e-9);
    Rates {
        processed: rate(|counts| counts.tokens),
        real: rate(|counts| counts.real),
        loss: rate(|counts| counts.loss),
    }
}

/// Whether a step gets a line: the first ones, about one in fifty of the run, and the last.
fn is_shown(step: usize, start: usize, total: usize) -> bool {
    let line = |step: usize| step as u128 * LINES as u128 / total.max(1) as u128;
    step <= start.saturating_add(FIRST_STEPS) || step >= total || line(step) != line(step.saturating_sub(1))
}

/// Five significant digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// A rate in three digits or so.
fn short(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{:.2}M", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.1}k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_logs_about_fifty_lines_and_a_short_one_every_step() {
        let shown = |start: usize, total: usize| {
            (start + 1..=total).filter(|step| is_shown(*step, start, total)).collect::<Vec<_>>()
        };
        let long = shown(0, 10_000);
        assert_eq!(long.len(), 53);
        assert_eq!((&long[..5], long.last()), (&[1, 2, 3, 200, 400][..], Some(&10_000)));
        assert_eq!(shown(0, 10), (1..=10).collect::<Vec<_>>());
        assert_eq!(&shown(5_000, 10_000)[..4], [5_001, 5_002, 5_003, 5_200]);
    }

    #[test]
    fn rates_are_tokens_over_the_time_of_the_same_steps() {
        let counts = |tokens, seconds| Counts { tokens, real: tokens / 2, loss: tokens / 4, seconds };
        let rates = rates(&VecDeque::from([counts(100, 1.0), counts(700, 3.0)]));
        assert_eq!((rates.processed, rates.real, rates.loss), (200.0, 100.0, 50.0));
    }

    #[test]
    fn numbers_are_short_enough_to_read() {
        assert_eq!([rounded(1.234567), rounded(0.000123456), rounded(123456.0)], [1.2346, 0.00012346, 123460.0]);
        assert!(rounded(f64::NAN).is_nan());
        assert_eq!([short(12.4), short(12_345.0), short(1_234_567.0)], ["12", "12.3k", "1.23M"]);
    }
}
