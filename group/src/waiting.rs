//! Which of the others are lost: those that one waits for, and that have not said for long that they wait, too.

use std::time::{Duration, Instant};

/// A process that has said so within this is there.
const FRESH: Duration = Duration::from_secs(10);

/// The processes of `missing`, which one has been waiting for since `since`, that are lost at `now`: the limit is over, and
/// `heard` does not have them waiting for somebody else a moment ago.
pub fn lost(
    missing: &[usize],
    heard: &[Option<Instant>],
    since: Instant,
    now: Instant,
    limit: Duration,
) -> Option<Vec<usize>> {
    if now.duration_since(since) < limit {
        return None;
    }
    let is_fresh = |rank: usize| heard[rank].is_some_and(|heard| now.duration_since(heard) < FRESH.min(limit));
    let lost: Vec<usize> = missing.iter().copied().filter(|rank| !is_fresh(*rank)).collect();
    (!lost.is_empty()).then_some(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_another_is_not_lost() {
        let (start, limit) = (Instant::now(), Duration::from_secs(60));
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let heard = [None, Some(at(55)), None, Some(at(3))];
        assert_eq!(lost(&[1, 2, 3], &heard, start, at(59), limit), None);
        // The second says that it waits; the fourth has said so and stopped.
        assert_eq!(lost(&[1, 2, 3], &heard, start, at(60), limit), Some(vec![2, 3]));
        assert_eq!(lost(&[1], &heard, start, at(60), limit), None);
        assert_eq!(lost(&[1], &heard, start, at(66), limit), Some(vec![1]));
    }
}
