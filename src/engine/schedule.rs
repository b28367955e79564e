//! The learning rate at each step.

use std::f64::consts::PI;

/// What the learning rate does after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Stays.
    Constant,
    /// Falls on a line to zero at the end.
    Linear,
    /// Falls on half a cosine to zero at the end.
    Cosine,
}

/// A linear warm-up, then [`Kind`]; the values of Hugging Face's `get_scheduler`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// What follows the warm-up.
    pub kind: Kind,
    /// The learning rate at the end of the warm-up.
    pub learning_rate: f64,
    /// Steps of the warm-up.
    pub warmup: usize,
    /// Steps of the whole run.
    pub total: usize,
}

impl Schedule {
    /// The learning rate of the optimizer step `step`, from 1. The first step of a warm-up has the rate 0, as users of
    /// other trainers know it.
    pub fn at(&self, step: usize) -> f64 {
        let done = step - 1;
        if done < self.warmup {
            return self.learning_rate * done as f64 / self.warmup as f64;
        }
        let left = (self.total - self.warmup).max(1) as f64;
        let progress = ((done - self.warmup) as f64 / left).min(1.0);
        let factor = match self.kind {
            Kind::Constant => 1.0,
            Kind::Linear => 1.0 - progress,
            Kind::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
        };
        self.learning_rate * factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `transformers.get_scheduler(name, AdamW(lr=1), num_warmup_steps=2, num_training_steps=6)`, `get_last_lr()` before
    /// each of the six steps.
    #[test]
    fn the_values_are_those_of_transformers() {
        let rates = |kind| -> Vec<f64> {
            let schedule = Schedule { kind, learning_rate: 1.0, warmup: 2, total: 6 };
            (1..=6).map(|step| schedule.at(step)).collect()
        };
        let close = |found: Vec<f64>, expected: [f64; 6]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7), "{found:?} is not {expected:?}");
        };
        close(rates(Kind::Constant), [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]);
        close(rates(Kind::Linear), [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]);
        close(rates(Kind::Cosine), [0.0, 0.5, 1.0, 0.853_553_390, 0.5, 0.146_446_609]);
    }

    #[test]
    fn a_longer_run_never_rises_again() {
        let schedule = Schedule { kind: Kind::Cosine, learning_rate: 1.0, warmup: 0, total: 10 };
        assert!(schedule.at(11).abs() < 1e-12 && schedule.at(25).abs() < 1e-12);
    }
}
