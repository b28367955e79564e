//! The phases of a run with SFR: the head alone, then a growing share, then the full weight.

/// How the weight goes on once it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// It stays.
    Constant,
    /// To zero along a line.
    Linear,
    /// To zero along half a cosine.
    Cosine,
}

/// The weight of the flow loss over the steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phases {
    /// The full weight.
    pub lambda: f64,
    /// Steps of phase A.
    pub head_warmup: usize,
    /// Steps of phase B.
    pub lambda_warmup: usize,
    /// Phase C.
    pub decay: Decay,
    /// Steps of the whole run.
    pub steps: usize,
}

impl Phases {
    /// True in phase A, where the head learns alone, from hidden states that pass no gradient on.
    pub fn head_alone(&self, step: usize) -> bool {
        step <= self.head_warmup
    }

    /// The weight at a step, from 1. Like the paper's code, phase B begins at 0 and phase C at the full weight.
    pub fn weight(&self, step: usize) -> f64 {
        if self.head_alone(step) {
            return self.lambda;
        }
        let joint = step - 1 - self.head_warmup;
        if joint < self.lambda_warmup {
            return self.lambda * joint as f64 / self.lambda_warmup as f64;
        }
        let left = self.steps.saturating_sub(self.head_warmup + self.lambda_warmup).max(1);
        let progress = ((joint - self.lambda_warmup) as f64 / left as f64).min(1.0);
        match self.decay {
            Decay::Constant => self.lambda,
            Decay::Linear => self.lambda * (1.0 - progress),
            Decay::Cosine => self.lambda * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_follow_each_other() {
        let phases = Phases { lambda: 2.0, head_warmup: 2, lambda_warmup: 4, decay: Decay::Linear, steps: 10 };
        let weights: Vec<f64> = (1..=10).map(|step| phases.weight(step)).collect();
        assert_eq!(weights, [2.0, 2.0, 0.0, 0.5, 1.0, 1.5, 2.0, 1.5, 1.0, 0.5]);
        assert_eq!((1..=4).map(|step| phases.head_alone(step)).collect::<Vec<_>>(), [true, true, false, false]);
        let cosine = Phases { decay: Decay::Cosine, ..phases };
        assert!((cosine.weight(8) - (1.0 + 0.5f64.sqrt())).abs() < 1e-12);
        assert_eq!(Phases { decay: Decay::Constant, ..phases }.weight(10), 2.0);
    }

    #[test]
    fn without_phases_the_weight_is_there_at_once() {
        let phases = Phases { lambda: 0.3, head_warmup: 0, lambda_warmup: 0, decay: Decay::Cosine, steps: 4 };
        assert!(!phases.head_alone(1));
        assert_eq!(phases.weight(1), 0.3);
        assert!((phases.weight(3) - 0.15).abs() < 1e-12);
    }
}
