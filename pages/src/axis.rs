//! Axes: from where to where, and the round numbers on them.

/// The least and the largest number; `None` of none.
pub fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// From 0 at `low` to 1 at `high`; the middle when they are one.
pub fn place(value: f64, low: f64, high: f64) -> f64 {
    if high > low { (value - low) / (high - low) } else { 0.5 }
}

/// Round numbers from at most `low` to at least `high`, two to eight of them; one when there is no range.
pub fn ticks(low: f64, high: f64) -> Vec<f64> {
    let raw = (high - low) / 5.0;
    if !(raw.is_normal() && raw > 0.0) {
        return vec![low];
    }
    let power = 10f64.powf(raw.log10().floor());
    // Marks must not move by what rounding makes of the range.
    let is_enough = |factor: &f64| factor * power >= raw * (1.0 - 1e-6);
    let step = power * [1.0, 2.0, 5.0, 10.0].into_iter().find(is_enough).unwrap_or(10.0);
    let (first, last) = ((low / step + 1e-6).floor(), (high / step - 1e-6).ceil());
    let count = (last - first).clamp(1.0, 10.0) as usize;
    (0..=count).map(|index| (first + index as f64) * step).collect()
}

/// A place in a drawing, to a tenth of a unit.
pub fn coordinate(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_hold_the_range() {
        assert_eq!(ticks(0.0, 1.0).len(), 6);
        assert_eq!(ticks(1.0, 4.0), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(ticks(3.0, 3.0), [3.0]);
        let marks = ticks(0.123, 0.877);
        assert!(marks[0] <= 0.123 && marks[marks.len() - 1] >= 0.877 && marks.len() <= 8, "{marks:?}");
    }
}
