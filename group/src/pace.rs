//! Which process the others wait for.

/// Steps that are looked at together.
const WINDOW: usize = 50;

/// The part of the time that the others must have waited for a process to be called slow.
const SHARE: f64 = 0.1;

/// How long each process has waited for the others in the steps so far.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    steps: usize,
    seconds: f64,
    waited: Vec<f64>,
}

/// A process that the others wait for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slow {
    /// Which one.
    pub rank: usize,
    /// The part of the time of the last steps that the others waited longer than it did, on average.
    pub share: f64,
    /// The number of those steps.
    pub steps: usize,
}

impl Pace {
    /// Takes a step of `seconds` in which process r `waited[r]` seconds; after so many steps the one that waited least, if the
    /// others waited much longer.
    pub fn add(&mut self, seconds: f64, waited: &[f64]) -> Option<Slow> {
        self.steps += 1;
        self.seconds += seconds;
        self.waited.resize(waited.len(), 0.0);
        self.waited.iter_mut().zip(waited).for_each(|(sum, waited)| *sum += waited);
        if self.steps < WINDOW {
            return None;
        }
        let Self { steps, seconds, waited } = std::mem::take(self);
        let (rank, own) = waited.iter().copied().enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let others = (waited.iter().sum::<f64>() - own) / (waited.len() - 1).max(1) as f64;
        // What was waited is that of a step before: a step that took long may be in the one and not in the other.
        let share = ((others - own) / seconds.max(f64::MIN_POSITIVE)).min(1.0);
        (share >= SHARE).then_some(Slow { rank, share, steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_the_others_wait_for_is_named_once_in_a_while() {
        let mut pace = Pace::default();
        let told: Vec<Slow> = (0..2 * WINDOW).filter_map(|_| pace.add(2.0, &[0.5, 0.1, 0.7])).collect();
        assert_eq!(told.len(), 2);
        assert_eq!((told[0].rank, told[0].steps), (1, WINDOW));
        // (0.6 - 0.1) / 2
        assert!((told[0].share - 0.25).abs() < 1e-9, "{told:?}");
    }

    #[test]
    fn processes_of_one_pace_are_not_named() {
        let mut pace = Pace::default();
        assert!((0..4 * WINDOW).all(|_| pace.add(2.0, &[0.1, 0.0, 0.2]).is_none()));
    }
}
