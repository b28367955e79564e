//! The learning rate at each step.

use std::f64::consts::PI;

/// The course of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Constant.
    Constant,
    /// Linear decay to the end of the run.
    Linear,
    /// Cosine decay to the end of the run; with [`Schedule::cycles`] as often, each time from the full rate (hard restarts).
    Cosine,
    /// Warm-up, stable, decay: constant, with a cosine decay over the last steps.
    Wsd,
}

/// A linear warm-up from zero, then [`Kind`]; the values of Hugging Face's `get_scheduler`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The course after the warm-up.
    pub kind: Kind,
    /// The learning rate at the end of the warm-up.
    pub learning_rate: f64,
    /// Steps of the warm-up.
    pub warmup: usize,
    /// Steps of the whole run.
    pub total: usize,
    /// The rate at the end of the decay, as a fraction of the learning rate.
    pub min_rate: f64,
    /// Number of decays, each from the full learning rate; of [`Kind::Cosine`].
    pub cycles: usize,
    /// Steps of the decay, the last of the run; of [`Kind::Wsd`].
    pub decay: usize,
}

impl Schedule {
    /// One decay to zero, over all steps after the warm-up.
    pub const fn new(kind: Kind, learning_rate: f64, warmup: usize, total: usize) -> Self {
        Self { kind, learning_rate, warmup, total, min_rate: 0.0, cycles: 1, decay: total.saturating_sub(warmup) }
    }

    /// The learning rate of the optimizer step `step`, from 1. The first step of a warm-up has the rate 0, as users of
    /// other trainers know it.
    pub fn at(&self, step: usize) -> f64 {
        let done = step - 1;
        if done < self.warmup {
            return self.learning_rate * done as f64 / self.warmup as f64;
        }
        let falling = match self.kind {
            Kind::Wsd => self.decay.min(self.total.saturating_sub(self.warmup)),
            _ => self.total - self.warmup,
        };
        let progress = done.saturating_sub(self.total - falling) as f64 / falling.max(1) as f64;
        let factor = match self.kind {
            Kind::Constant => 1.0,
            _ if progress >= 1.0 => 0.0,
            Kind::Linear => 1.0 - progress,
            Kind::Cosine => half_cosine((self.cycles as f64 * progress).fract()),
            Kind::Wsd => half_cosine(progress),
        };
        self.learning_rate * (factor * (1.0 - self.min_rate) + self.min_rate)
    }
}

/// Half a cosine: 1 at 0, 0 at 1.
fn half_cosine(progress: f64) -> f64 {
    0.5 * (1.0 + (PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `transformers.get_scheduler(name, AdamW(lr=1), num_warmup_steps=2, num_training_steps=6)`, `get_last_lr()` before
    /// each of the six steps.
    #[test]
    fn the_values_are_those_of_transformers() {
        let rates = |kind| -> Vec<f64> {
            let schedule = Schedule::new(kind, 1.0, 2, 6);
            (1..=6).map(|step| schedule.at(step)).collect()
        };
        let close = |found: Vec<f64>, expected: [f64; 6]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7), "{found:?} is not {expected:?}");
        };
        close(rates(Kind::Constant), [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]);
        close(rates(Kind::Linear), [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]);
        close(rates(Kind::Cosine), [0.0, 0.5, 1.0, 0.853_553_390, 0.5, 0.146_446_609]);
    }

    /// `transformers.optimization`'s `get_cosine_with_min_lr_schedule_with_warmup(.., min_lr_rate=.1)`,
    /// `get_cosine_with_hard_restarts_schedule_with_warmup(.., num_cycles=2)` and `get_wsd_schedule(.., num_decay_steps=3,
    /// min_lr_ratio=.1)`, 2 steps of warm-up and 8 in all, `get_last_lr()` before each of nine steps. The last one begins its
    /// warm-up at the least rate there, and at zero here.
    #[test]
    fn least_rates_restarts_and_stable_rates_are_those_of_transformers() {
        let close = |schedule: Schedule, expected: [f64; 7]| {
            let found: Vec<f64> = (3..=9).map(|step| schedule.at(step)).collect();
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-8), "{found:?} is not {expected:?}");
            assert_eq!([schedule.at(1), schedule.at(2)], [0.0, 0.5]);
        };
        let of = |kind| Schedule::new(kind, 1.0, 2, 8);
        let expected = [1.0, 0.939711432, 0.775, 0.55, 0.325, 0.160288568, 0.1];
        close(Schedule { min_rate: 0.1, ..of(Kind::Cosine) }, expected);
        close(Schedule { cycles: 2, ..of(Kind::Cosine) }, [1.0, 0.75, 0.25, 1.0, 0.75, 0.25, 0.0]);
        close(Schedule { min_rate: 0.1, decay: 3, ..of(Kind::Wsd) }, [1.0, 1.0, 1.0, 1.0, 0.775, 0.325, 0.1]);
        // Without an end it is a cosine.
        close(of(Kind::Wsd), [0, 1, 2, 3, 4, 5, 6].map(|step| of(Kind::Cosine).at(step + 3)));
    }

    #[test]
    fn a_longer_run_never_rises_again() {
        for cycles in [1, 3] {
            let schedule = Schedule { cycles, ..Schedule::new(Kind::Cosine, 1.0, 0, 10) };
            assert!(schedule.at(11).abs() < 1e-12 && schedule.at(25).abs() < 1e-12);
        }
    }
}
