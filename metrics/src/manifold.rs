//! Precision, recall, density and coverage of samples against references, both as points: each point stands for a ball that
//! reaches to its k-th neighbour in its own set (Kynkaanniemi et al. 2019, arXiv 1904.06991; Naeem et al. 2020, arXiv
//! 2002.09797; for texts Le Bronnec et al. 2024, arXiv 2402.10693). With `D = |real_i - fake_j|`:
//!
//! ```text
//! precision = mean_j 1{some i: D <= r_real_i}        density  = 1/k mean_j #{i: D <= r_real_i}
//! recall    = mean_i 1{some j: D <= r_fake_j}        coverage = mean_i 1{min_j D <= r_real_i}
//! ```
//!
//! Published code (`prdc`, `pr-4-llm`) has `<`, with which k or more copies of a text have a ball that does not even hold
//! themselves; texts repeat exactly, so that `<=` is the default here, `strict` is for parity, and the shares of repeated
//! points belong beside the numbers. Neither is 1 for a perfect model: see [`expected_coverage`], and measure references
//! against references. One absurd sample with a large ball covers everything: never take recall alone.

use rayon::prelude::*;

use crate::points::{Points, normalise, squared_distance};
use crate::registry::{Better, ComparedMetric, Measured};

/// How many samples are like references.
pub const PRECISION: ComparedMetric = ComparedMetric {
    name: "precision",
    definition: "share of the samples in the ball of a reference to its k-th neighbour (Kynkaanniemi et al. 2019)",
    better: Better::Higher,
    measure: |compared| Measured::Number(compared.manifold.precision),
};

/// How many references are like samples.
pub const RECALL: ComparedMetric = ComparedMetric {
    name: "recall",
    definition: "share of the references in the ball of a sample to its k-th neighbour; one absurd sample can make it",
    better: Better::Higher,
    measure: |compared| Measured::Number(compared.manifold.recall),
};

/// How deep in the references samples lie.
pub const DENSITY: ComparedMetric = ComparedMetric {
    name: "density",
    definition: "balls of references that a sample lies in, by k; 1 for the references' distribution (Naeem et al. 2020)",
    better: Better::Higher,
    measure: |compared| Measured::Number(compared.manifold.density),
};

/// How many references have a sample near them.
pub const COVERAGE: ComparedMetric = ComparedMetric {
    name: "coverage",
    definition: "share of the references whose ball holds a sample; about 1 - 2^-k for a perfect model",
    better: Better::Higher,
    measure: |compared| Measured::Number(compared.manifold.coverage),
};

/// The four numbers, with what decides whether they mean something.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Manifold {
    /// Share of the samples that lie in the ball of a reference.
    pub precision: f64,
    /// Share of the references that lie in the ball of a sample.
    pub recall: f64,
    /// Balls of references that a sample lies in, by k; may be above 1.
    pub density: f64,
    /// Share of the references whose ball holds a sample.
    pub coverage: f64,
    /// Share of the references that are copies of an earlier one.
    pub repeated_references: f64,
    /// Share of the samples that are copies of an earlier one.
    pub repeated_samples: f64,
}

/// Which points a ball holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// Points at most as far as its radius.
    Held,
    /// Points nearer than its radius, as published code has it.
    Strict,
}

impl Ties {
    fn holds(self, distance: f64, radius: f64) -> bool {
        match self {
            Self::Held => distance <= radius,
            Self::Strict => distance < radius,
        }
    }
}

impl Manifold {
    /// Of samples against references, with balls to the `k`-th neighbour; `None` where a set has no more than `k` points.
    pub fn new(references: Points<'_>, samples: Points<'_>, k: usize, ties: Ties) -> Option<Self> {
        let (real, fake) = (squared_radii(references, k)?, squared_radii(samples, k)?);
        // Of each sample, the balls it lies in.
        let balls: Vec<usize> = (0..samples.len())
            .into_par_iter()
            .map(|sample| {
                let inside =
                    |(row, radius): &(&[f64], &f64)| ties.holds(squared_distance(row, samples.row(sample)), **radius);
                references.rows().zip(&real).filter(inside).count()
            })
            .collect();
        // Of each reference, whether a sample's ball holds it, and whether its own holds a sample.
        let covered: Vec<(bool, bool)> = (0..references.len())
            .into_par_iter()
            .map(|reference| {
                let (mut recalled, mut covers) = (false, false);
                for (row, radius) in samples.rows().zip(&fake) {
                    let distance = squared_distance(row, references.row(reference));
                    recalled |= ties.holds(distance, *radius);
                    covers |= ties.holds(distance, real[reference]);
                }
                (recalled, covers)
            })
            .collect();
        let share = |count: usize, of: usize| count as f64 / of as f64;
        Some(Self {
            precision: share(balls.iter().filter(|balls| **balls > 0).count(), samples.len()),
            recall: share(covered.iter().filter(|(recalled, _)| *recalled).count(), references.len()),
            density: share(balls.iter().sum(), k * samples.len()),
            coverage: share(covered.iter().filter(|(_, covers)| *covers).count(), references.len()),
            repeated_references: repeated(references),
            repeated_samples: repeated(samples),
        })
    }
}

/// The square of the distance of each point to its `k`-th neighbour, itself not counted; `None` for no more than `k` points.
pub fn squared_radii(points: Points<'_>, k: usize) -> Option<Vec<f64>> {
    if k == 0 || points.len() <= k {
        return None;
    }
    let radius = |own: usize| {
        let others = points.rows().enumerate().filter(|(other, _)| *other != own);
        let mut distances: Vec<f64> = others.map(|(_, row)| squared_distance(row, points.row(own))).collect();
        *distances.select_nth_unstable_by(k - 1, f64::total_cmp).1
    };
    Some((0..points.len()).into_par_iter().map(radius).collect())
}

/// The share of points that are copies of an earlier one.
fn repeated(points: Points<'_>) -> f64 {
    let mut rows: Vec<Vec<u64>> = points.rows().map(|row| row.iter().map(|value| value.to_bits()).collect()).collect();
    rows.sort_unstable();
    rows.dedup();
    (points.len() - rows.len()) as f64 / points.len() as f64
}

/// Features of samples and of references as the published pipeline takes them: rows of length 1, projected onto the fewest
/// principal components of both together that explain `share` of their spread.
#[derive(Debug, Clone)]
pub struct Features {
    /// Of the references.
    pub references: Vec<f64>,
    /// Of the samples.
    pub samples: Vec<f64>,
    /// Numbers of each.
    pub dimension: usize,
    /// The share of the spread that each component explains, kept or not.
    pub explained: Vec<f64>,
}

/// What the principal components are fitted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Samples and references, as published code has it: other samples, other axes.
    Union,
    /// The references alone, so that models can be compared along the same axes.
    References,
}

impl Features {
    /// Of embeddings of this dimension.
    pub fn new(references: &[f64], samples: &[f64], dimension: usize, share: f64, fit: Fit) -> Self {
        let mut union = [samples, references].concat();
        normalise(&mut union, dimension);
        let (fake, real) = union.split_at(samples.len());
        let pca = crate::pca::Pca::fit(Points::new(if fit == Fit::Union { &union } else { real }, dimension), share);
        Self {
            references: pca.project(Points::new(real, dimension)),
            samples: pca.project(Points::new(fake, dimension)),
            dimension: pca.kept,
            explained: pca.explained,
        }
    }

    /// The references as points.
    pub fn references(&self) -> Points<'_> {
        Points::new(&self.references, self.dimension)
    }

    /// The samples as points.
    pub fn samples(&self) -> Points<'_> {
        Points::new(&self.samples, self.dimension)
    }
}

/// The coverage that samples from the references' own distribution have in expectation:
/// `1 - prod_{i=1..k} (N - i) / (N + M - i)` for N references and M samples; `1 - 2^-k` for many. Their density is 1.
pub fn expected_coverage(references: usize, samples: usize, k: usize) -> f64 {
    let factor = |i: usize| references.saturating_sub(i) as f64 / (references + samples - i) as f64;
    1.0 - (1..=k).map(factor).product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_all_near, assert_near, references_and_samples};

    fn four(manifold: Manifold) -> [f64; 4] {
        [manifold.precision, manifold.recall, manifold.density, manifold.coverage]
    }

    const REAL: [f64; 12] = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 3.0, 3.0, 4.0, 3.0, 3.0, 4.0];
    const FAKE: [f64; 10] = [0.5, 0.2, 0.4, 0.4, 0.6, 0.1, 5.0, 5.0, 1.5, 1.5];

    #[test]
    fn points_in_the_plane() {
        let (real, fake) = (Points::new(&REAL, 2), Points::new(&FAKE, 2));
        let cases = [
            (1, [0.6, 0.5, 1.6, 0.5], [1.0; 6], [0.02, 0.05, 0.02, 24.5, 2.42]),
            (2, [0.6, 5.0 / 6.0, 0.9, 0.5], [1.0, 2.0, 2.0, 1.0, 2.0, 2.0], [0.05, 0.13, 0.13, 42.32, 2.69]),
            (3, [1.0, 1.0, 1.2, 1.0], [18.0, 13.0, 13.0, 13.0, 18.0, 18.0], [2.69, 2.42, 2.77, 43.29, 2.77]),
        ];
        for (k, expected, real_radii, fake_radii) in cases {
            assert_all_near(&squared_radii(real, k).expect("six points"), &real_radii);
            assert_all_near(&squared_radii(fake, k).expect("five points"), &fake_radii);
            for ties in [Ties::Held, Ties::Strict] {
                assert_all_near(&four(Manifold::new(real, fake, k, ties).expect("enough points")), &expected);
            }
        }
        assert_eq!(Manifold::new(real, fake, 5, Ties::Held), None);
        assert_eq!(Manifold::new(real, fake, 0, Ties::Held), None);
    }

    #[test]
    fn one_absurd_sample_makes_the_recall() {
        let without = [&FAKE[..6], &FAKE[8..]].concat();
        let real = Points::new(&REAL, 2);
        let found = Manifold::new(real, Points::new(&without, 2), 2, Ties::Held).expect("enough points");
        assert_near(found.recall, 2.0 / 6.0);
        assert_near(found.coverage, 3.0 / 6.0);
    }

    #[test]
    fn repeats_count_unless_ties_are_strict() {
        let real = [[0.0, 0.0]; 3].into_iter().chain([[1.0, 1.0]; 3]).flatten().collect::<Vec<_>>();
        let fake = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0];
        let manifold = |ties| Manifold::new(Points::new(&real, 2), Points::new(&fake, 2), 2, ties).expect("enough");
        assert_all_near(&four(manifold(Ties::Strict)), &[0.0, 0.5, 0.0, 0.0]);
        assert_all_near(&four(manifold(Ties::Held)), &[1.0, 1.0, 1.5, 1.0]);
        let found = manifold(Ties::Held);
        assert_near(found.repeated_references, 4.0 / 6.0);
        assert_near(found.repeated_samples, 3.0 / 5.0);
    }

    #[test]
    fn features_of_length_one_along_their_principal_components() {
        let real = [3.0, 4.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 1.0, 1.0, 1.0, 2.0, 1.0, 0.0, 0.0, 3.0, 4.0];
        let fake = [2.0, 2.0, 1.0, 4.0, 3.0, 0.0, 1.0, 5.0, 1.0, 1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 1.0, 2.0, 9.0];
        let features = Features::new(&real, &fake, 3, 0.9, Fit::Union);
        assert_all_near(&features.explained, &[0.611_521_170, 0.347_278_447, 0.041_200_383]);
        assert_eq!(features.dimension, 2);
        let radii = |points| squared_radii(points, 1).expect("points").into_iter().map(f64::sqrt).collect::<Vec<_>>();
        let expected = [0.458_730_893, 0.419_827_292, 0.588_211_046, 0.580_958_637, 0.419_827_292, 0.591_738_054];
        assert_all_near(&radii(features.references()), &expected);
        let expected = [0.326_824_841, 0.326_824_841, 0.542_947_004, 0.408_236_212, 0.180_199_031, 0.180_199_031];
        assert_all_near(&radii(features.samples()), &expected);
        let first = features.references().row(0);
        let distances: Vec<f64> = features.samples().rows().map(|row| squared_distance(first, row).sqrt()).collect();
        let expected = [0.324_910_898, 0.282_817_373, 0.478_284_284, 1.209_615_535, 1.402_920_976, 1.235_029_123];
        assert_all_near(&distances, &expected);
        for (k, expected) in [(1, [4.0 / 6.0, 4.0 / 6.0, 7.0 / 6.0, 5.0 / 6.0]), (2, [1.0, 1.0, 4.0 / 3.0, 1.0])] {
            let found = Manifold::new(features.references(), features.samples(), k, Ties::Held);
            assert_all_near(&four(found.expect("enough points")), &expected);
        }
    }

    /// `prdc.compute_prdc` on the same features has the same numbers (`tools/metrics_beside_packages.py`).
    #[test]
    fn sixty_points_in_six_dimensions() {
        let (real, fake) = references_and_samples();
        let first = [1.429_799_965, 0.793_358_947, -0.076_232_697, -0.178_268_524, -0.097_976_648, 0.032_659_193];
        assert_all_near(&real[..6], &first);
        let last = [1.628_217_785, 0.041_603_202, 0.569_949_287, -0.089_699_746, -0.173_402_650, -0.015_452_461];
        assert_all_near(&fake[354..], &last);
        let features = Features::new(&real, &fake, 6, 0.9, Fit::Union);
        let cumulative: Vec<f64> = (1..=4).map(|count| features.explained[..count].iter().sum()).collect();
        assert_all_near(&cumulative, &[0.445_135_970, 0.706_149_656, 0.882_321_164, 0.968_490_211]);
        assert_eq!(features.dimension, 4);
        let sum = |points, k| squared_radii(points, k).expect("points").into_iter().map(f64::sqrt).sum::<f64>();
        let cases = [
            (3, [39.0, 23.0, 80.0, 17.0], [14.544_180_843, 12.459_750_063]),
            (4, [43.0, 26.0, 136.0, 23.0], [16.355_363_098, 13.793_088_225]),
            (5, [48.0, 32.0, 172.0, 26.0], [17.829_815_225, 14.722_100_227]),
        ];
        for (k, [precision, recall, density, coverage], radii) in cases {
            assert_all_near(&[sum(features.references(), k), sum(features.samples(), k)], &radii);
            let expected = [precision / 60.0, recall / 60.0, density / (60 * k) as f64, coverage / 60.0];
            for ties in [Ties::Held, Ties::Strict] {
                let found = Manifold::new(features.references(), features.samples(), k, ties);
                assert_all_near(&four(found.expect("enough points")), &expected);
            }
        }
        // Along the references' own axes: other features, and those of the references do not depend on the samples.
        let own = Features::new(&real, &fake, 6, 0.9, Fit::References);
        assert_ne!(own.references, features.references);
        assert_eq!(own.references, Features::new(&real, &real, 6, 0.9, Fit::References).references);
    }

    #[test]
    fn the_ceiling_of_coverage_is_not_one() {
        assert_near(expected_coverage(200, 200, 4), 0.939_060_498);
        assert_near(expected_coverage(4000, 4000, 4), 0.937_578_120);
        assert_near(expected_coverage(50_000_000, 50_000_000, 4), 1.0 - 0.0625);
    }
}
