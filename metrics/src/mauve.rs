//! MAUVE and the frontier integral of two histograms (Pillutla et al. 2021, arXiv 2102.01454; Liu et al. 2021, arXiv
//! 2106.07898), by the formulas of `krishnap25/mauve`. With `R_w = w P + (1 - w) Q`:
//!
//! ```text
//! MAUVE: area under (exp(-c KL(Q, R_w)), exp(-c KL(P, R_w))), with (1, 0) and (0, 1); the mean over both ways of reading it
//! frontier integral: 2 sum (p + q)/4 - p q ln(p/q) / (2 (p - q)), p/4 or q/4 where the other is 0
//! ```
//!
//! MAUVE is too good for few texts and is for ranking at equal settings alone; with 1/2 added to each count it is MAUVE*.

use crate::histogram::Histograms;
use crate::registry::{Better, ComparedMetric, Measured};

/// MAUVE.
pub const MAUVE: ComparedMetric = ComparedMetric {
    name: "mauve",
    definition: "area under the divergences from mixtures of both sides' shares of clusters; for ranking alone",
    better: Better::Higher,
    measure: |compared| Measured::Number(of_histograms(&compared.histograms, 0.0)),
};

/// MAUVE with half a text more in each cluster.
pub const MAUVE_STAR: ComparedMetric = ComparedMetric {
    name: "mauve_star",
    definition: "mauve with 1/2 added to the count of each cluster, less noisy for few texts",
    better: Better::Higher,
    measure: |compared| Measured::Number(of_histograms(&compared.histograms, 0.5)),
};

/// The frontier integral.
pub const FRONTIER_INTEGRAL: ComparedMetric = ComparedMetric {
    name: "frontier_integral",
    definition: "mean divergence from mixtures of both sides' shares of clusters; 0 where they are equal",
    better: Better::Lower,
    measure: |compared| {
        let (p, q) = compared.histograms.shares(0.0);
        Measured::Number(frontier_integral(&p, &q))
    },
};

fn of_histograms(histograms: &Histograms, added: f64) -> f64 {
    let (p, q) = histograms.shares(added);
    mauve(&p, &q, SCALE, POINTS)
}

/// The factor of the divergences.
pub const SCALE: f64 = 5.0;

/// Mixtures.
pub const POINTS: usize = 25;

/// MAUVE of two distributions over the same clusters, with `points` mixtures, `w` from 1e-6 to 1 - 1e-6.
pub fn mauve(p: &[f64], q: &[f64], scale: f64, points: usize) -> f64 {
    let mut curve = vec![(1.0, 0.0), (0.0, 1.0)];
    for place in 0..points {
        let w = 1e-6 + (1.0 - 2e-6) * place as f64 / (points.max(2) - 1) as f64;
        let mixture: Vec<f64> = p.iter().zip(q).map(|(p, q)| w * p + (1.0 - w) * q).collect();
        curve.push(((-scale * divergence(q, &mixture)).exp(), (-scale * divergence(p, &mixture)).exp()));
    }
    let swapped = curve.iter().map(|(x, y)| (*y, *x)).collect();
    (area(curve) + area(swapped)) / 2.0
}

/// The frontier integral, 0 for equal distributions and 1 for ones with nothing in common.
pub fn frontier_integral(p: &[f64], q: &[f64]) -> f64 {
    let term = |(p, q): (&f64, &f64)| match (*p, *q) {
        (p, q) if p == 0.0 || q == 0.0 => (p + q) / 4.0,
        // As the package has it: what is left of a difference so small is rounding.
        (p, q) if (p - q).abs() <= 1e-8 => 0.0,
        (p, q) => (p + q) / 4.0 - p * q * (p / q).ln() / (2.0 * (p - q)),
    };
    2.0 * p.iter().zip(q).map(term).sum::<f64>()
}

fn divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
}

/// Under a curve of points (x, y), by trapezoids.
fn area(mut curve: Vec<(f64, f64)>) -> f64 {
    // The curve falls: of points one above another, as those of equal distributions are, the higher one comes first.
    curve.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    curve.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[1].1 + pair[0].1) / 2.0).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_near;

    #[test]
    fn two_histograms() {
        let (p, q) = ([0.5, 0.3, 0.2, 0.0], [0.25; 4]);
        assert_near(mauve(&p, &q, SCALE, POINTS), 0.608_113_576);
        assert_near(mauve(&p, &q, SCALE, 1001), 0.607_981_549);
        assert_near(frontier_integral(&p, &q), 0.156_800_523);
        assert_near(mauve(&p, &p, SCALE, POINTS), 1.0);
        assert_near(mauve(&[1.0], &[1.0], SCALE, POINTS), 1.0);
        assert_eq!(frontier_integral(&p, &p), 0.0);
        assert_near(frontier_integral(&[1.0, 0.0], &[0.0, 1.0]), 1.0);
    }

    /// `compute_area_under_curve(get_divergence_curve_for_multinomials(p, q, numpy.linspace(1e-6, 1 - 1e-6, 25), 5))` and
    /// `get_fronter_integral(p, q)` of mauve-text 0.4.0.
    #[test]
    fn twelve_clusters_as_the_package_has_them() {
        let p: Vec<f64> = (1..=12).map(|place| f64::from(place * 7 % 13) / 78.0).collect();
        let q: Vec<f64> = (1..=12).map(|place| f64::from(place % 5) / 23.0).collect();
        assert_near(mauve(&p, &q, SCALE, POINTS), 0.503_196_915_659);
        assert_near(frontier_integral(&p, &q), 0.197_806_851_989);
    }

    #[test]
    fn half_a_count_more() {
        let histograms = Histograms { references: vec![5, 3, 2, 0], samples: vec![2, 3, 3, 2] };
        let (p, q) = histograms.shares(0.5);
        assert_near(mauve(&p, &q, SCALE, POINTS), 0.854_223_014);
        assert_near(frontier_integral(&p, &q), 0.078_017_194);
    }
}
