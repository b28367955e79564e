//! Precision against recall over a swept setting, such as the temperature: what two models have at equal precision.

use crate::interval::Mean;

/// The recall that a curve has at `precision`, between its points (precision, recall) in the order of the sweep; the
/// largest where it passes several times, `None` where it does not reach it.
pub fn at_precision(curve: &[(f64, f64)], precision: f64) -> Option<f64> {
    let on = curve.iter().filter(|point| point.0 == precision).map(|point| point.1);
    let between = curve.windows(2).filter_map(|pair| {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        let part = (precision - x0) / (x1 - x0);
        (part > 0.0 && part < 1.0).then_some(y0 + part * (y1 - y0))
    });
    on.chain(between).reduce(f64::max)
}

/// The staircase of a curve: the largest recall that it has with this precision or more; `None` where it does not reach the
/// precision. It is above [`at_precision`] where both numbers fall along the sweep, as at high temperatures: a setting with
/// more precision has more recall there, too.
pub fn at_least(curve: &[(f64, f64)], precision: f64) -> Option<f64> {
    let reached = at_precision(curve, precision)?;
    let above = curve.iter().filter(|point| point.0 >= precision).map(|point| point.1);
    Some(above.fold(reached, f64::max))
}

/// Where that recall is, and the setting of the sweep there, between its points (setting, precision, recall): at
/// `precision`, or with `or_more` wherever there is as much or more of it.
pub fn setting_at(points: &[(f64, f64, f64)], precision: f64, or_more: bool) -> Option<(f64, f64)> {
    let is_there = |x: f64| x == precision || or_more && x > precision;
    let on = points.iter().filter(|point| is_there(point.1)).map(|point| (point.2, point.0));
    let between = points.windows(2).filter_map(|pair| {
        let ((s0, x0, y0), (s1, x1, y1)) = (pair[0], pair[1]);
        let part = (precision - x0) / (x1 - x0);
        (part > 0.0 && part < 1.0).then_some((y0 + part * (y1 - y0), s0 + part * (s1 - s0)))
    });
    let curve: Vec<(f64, f64)> = points.iter().map(|point| (point.1, point.2)).collect();
    at_precision(&curve, precision)?;
    on.chain(between).reduce(|best, next| if next.0 > best.0 { next } else { best })
}

/// The mean recall over seeds at each precision, each seed's curve interpolated first; `None` where one does not reach it.
pub fn over_seeds(seeds: &[Vec<(f64, f64)>], precisions: &[f64]) -> Vec<Option<Mean>> {
    let at = |precision: &f64| {
        let recalls: Option<Vec<f64>> = seeds.iter().map(|curve| at_precision(curve, *precision)).collect();
        recalls.filter(|recalls| !recalls.is_empty()).map(|recalls| Mean::of(&recalls))
    };
    precisions.iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_near;

    #[test]
    fn the_setting_is_that_of_the_recall_which_counts() {
        // Both fall from the third on.
        let points = [(0.5, 0.9, 0.3), (1.0, 0.7, 0.6), (2.0, 0.2, 0.5), (3.0, 0.1, 0.2)];
        let curve = points.map(|(_, x, y)| (x, y));
        for precision in [0.9, 0.8, 0.7, 0.45, 0.2, 0.15] {
            let (recall, _) = setting_at(&points, precision, false).expect("reached");
            assert_near(recall, at_precision(&curve, precision).expect("reached"));
            let (recall, _) = setting_at(&points, precision, true).expect("reached");
            assert_near(recall, at_least(&curve, precision).expect("reached"));
        }
        let setting = |precision, or_more| setting_at(&points, precision, or_more).expect("reached").1;
        assert_near(setting(0.8, false), 0.75);
        assert_near(setting(0.45, false), 1.5);
        assert_near(setting(0.45, true), 1.0);
        assert_eq!(setting_at(&points, 0.95, true), None);
    }

    #[test]
    fn recall_between_the_points_of_a_sweep() {
        let curve = [(0.9, 0.3), (0.7, 0.6), (0.5, 0.65)];
        assert_near(at_precision(&curve, 0.8).expect("reached"), 0.45);
        assert_near(at_precision(&curve, 0.7).expect("a point"), 0.6);
        assert_near(at_precision(&curve, 0.5).expect("its end"), 0.65);
        assert_eq!((at_precision(&curve, 0.91), at_precision(&curve, 0.49)), (None, None));
        // Precision that rises and falls again: the better of the two.
        assert_near(at_precision(&[(0.6, 0.1), (0.8, 0.2), (0.4, 0.8)], 0.6).expect("reached"), 0.5);
    }

    /// Both fall from the third point on: at a precision of .1 there is .15, and .6 with more precision.
    #[test]
    fn the_staircase_has_what_more_precision_gives() {
        let curve = [(0.9, 0.3), (0.7, 0.6), (0.2, 0.2), (0.0, 0.1)];
        assert_near(at_precision(&curve, 0.1).expect("reached"), 0.15);
        assert_near(at_least(&curve, 0.1).expect("reached"), 0.6);
        // Where recall rises as precision falls the two are one.
        assert_near(at_least(&curve, 0.8).expect("reached"), 0.45);
        assert_near(at_least(&curve, 0.9).expect("its end"), 0.3);
        assert_eq!((at_least(&curve, 0.91), at_least(&[], 0.5)), (None, None));
    }

    #[test]
    fn a_mean_only_where_every_seed_has_a_value() {
        let seeds = [vec![(0.9, 0.3), (0.7, 0.5)], vec![(0.8, 0.4), (0.6, 0.6)]];
        let found = over_seeds(&seeds, &[0.85, 0.75, 0.65]);
        assert_eq!((found[0], found[2]), (None, None));
        assert_near(found[1].expect("both").mean, 0.45);
    }
}
