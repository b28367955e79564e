//! How sure a number is: intervals of means over seeds or problems, and of differences.
//!
//! The unit is what was drawn independently: problems for pass@k, seeds for a training method, never samples of one
//! prompt. Seeds change the data's order, the adapter and the draws together; draws alone are no seeds.

use serde::Serialize;

/// A mean with its error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// How many numbers there are.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Standard deviation of one, by `count - 1`; `None` for one number.
    pub standard_deviation: Option<f64>,
    /// Standard deviation of the mean; `None` for one number.
    pub standard_error: Option<f64>,
}

impl Mean {
    /// Of at least one number.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let standard_deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        let standard_error = standard_deviation.map(|deviation| deviation / (count as f64).sqrt());
        Self { count, mean, standard_deviation, standard_error }
    }

    /// Half the width of Student's 95 % interval; `None` for one number.
    pub fn half_width(&self) -> Option<f64> {
        Some(t_quantile(0.975, (self.count - 1) as f64) * self.standard_error?)
    }
}

/// The mean difference `b - a` of the same units measured twice, which is surer than the difference of the means.
pub fn paired(a: &[f64], b: &[f64]) -> Mean {
    assert_eq!(a.len(), b.len(), "pairs");
    Mean::of(&a.iter().zip(b).map(|(a, b)| b - a).collect::<Vec<_>>())
}

/// The value that Student's t with so many degrees of freedom stays below with probability `probability`, 1/2 or more.
pub fn t_quantile(probability: f64, freedom: f64) -> f64 {
    let below = |t: f64| 1.0 - incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5) / 2.0;
    let (mut low, mut high) = (0.0, 1.0);
    while below(high) < probability {
        high *= 2.0;
    }
    // Each halving is a bit of the result.
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if below(middle) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// The regularised incomplete beta function by Lentz's continued fraction (Abramowitz and Stegun 26.5.8).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    if x <= 0.0 {
        return 0.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
    let (mut c, mut d) = (1.0, 1.0 / (1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for step in 1..300 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        for term in [even, odd] {
            d = 1.0 / (1.0 + term * d);
            c = 1.0 + term / c;
            fraction *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-16 {
            break;
        }
    }
    front * fraction
}

/// The logarithm of the gamma function for positive numbers: Stirling's series above 20, and the recurrence below.
fn ln_gamma(x: f64) -> f64 {
    if x < 20.0 {
        return ln_gamma(x + 1.0) - x.ln();
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_near;

    /// scipy 1.16: `stats.t.ppf(.975, df)`; and for one degree of freedom the tangent.
    #[test]
    fn quantiles_of_students_t() {
        for (freedom, expected) in [
            (1.0, (0.475 * std::f64::consts::PI).tan()),
            (2.0, 4.302_652_729_696),
            (4.0, 2.776_445_105_198),
            (30.0, 2.042_272_456_301),
            (1e6, 1.959_966_356_834),
        ] {
            let found = t_quantile(0.975, freedom);
            assert!((found - expected).abs() < 1e-9 * expected, "{freedom}: {found} is not {expected}");
        }
        assert_near(t_quantile(0.5, 3.0), 0.0);
    }

    #[test]
    fn three_seeds() {
        let mean = Mean::of(&[0.41, 0.44, 0.40]);
        assert_near(mean.mean, 0.416_666_667);
        assert!((mean.half_width().expect("three") - 0.051_711).abs() < 5e-7);
        let one = Mean::of(&[0.4]);
        assert_eq!((one.standard_error, one.half_width()), (None, None));
    }

    #[test]
    fn two_models_are_compared_by_problem() {
        let (a, b) = ([0.2, 0.5, 0.9, 0.4, 0.0, 0.7], [0.3, 0.5, 1.0, 0.6, 0.1, 0.6]);
        let difference = paired(&a, &b);
        assert_near(difference.mean, 0.066_666_667);
        assert!((difference.standard_error.expect("six") - 0.042_164).abs() < 5e-7);
    }
}
