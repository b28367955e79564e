//! k-means: the clusters that histograms of texts are counted on. First centres are drawn as k-means++ does (Arthur and
//! Vassilvitskii 2007), then Lloyd's iterations; the best of several tries.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

use crate::points::{Points, squared_distance};

/// How clusters are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How many there are to be.
    pub clusters: usize,
    /// Most iterations of a try.
    pub iterations: usize,
    /// Tries, of which the one with the least squared distances counts.
    pub tries: usize,
    /// Seed of the first centres.
    pub seed: u64,
}

impl Settings {
    /// As MAUVE and `pr-4-llm` have it: a tenth of the points of one side, 500 iterations, the best of 5.
    pub fn usual(points_of_a_side: usize, seed: u64) -> Self {
        Self { clusters: (points_of_a_side / 10).max(2), iterations: 500, tries: 5, seed }
    }
}

/// The cluster of each point, from 0.
pub fn k_means(points: Points<'_>, settings: &Settings) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
    let tries = (0..settings.tries.max(1)).map(|_| one_try(points, settings, &mut random));
    tries.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(labels, _)| labels).unwrap_or_default()
}

fn one_try(points: Points<'_>, settings: &Settings, random: &mut ChaCha8Rng) -> (Vec<usize>, f64) {
    let dimension = points.dimension();
    let mut centres = first_centres(points, settings.clusters, random);
    let mut labels = Vec::new();
    let mut cost = 0.0;
    for _ in 0..settings.iterations.max(1) {
        let nearest: Vec<(usize, f64)> =
            (0..points.len()).into_par_iter().map(|point| nearest(points.row(point), &centres)).collect();
        cost = nearest.iter().map(|(_, distance)| distance).sum();
        let found: Vec<usize> = nearest.into_iter().map(|(label, _)| label).collect();
        if found == labels {
            break;
        }
        labels = found;
        let mut sums = vec![0.0; centres.len()];
        let mut counts = vec![0usize; centres.len() / dimension];
        for (row, label) in points.rows().zip(&labels) {
            counts[*label] += 1;
            sums[label * dimension..][..dimension].iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        // A cluster that has lost all its points keeps its centre.
        for (label, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            for place in label * dimension..(label + 1) * dimension {
                centres[place] = sums[place] / *count as f64;
            }
        }
    }
    (labels, cost)
}

/// Points as centres, each drawn in proportion to its squared distance from those before it.
fn first_centres(points: Points<'_>, clusters: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
    let mut unit = || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut centres = Vec::with_capacity(clusters * points.dimension());
    let mut distances = vec![1.0; points.len()];
    for _ in 0..clusters.min(points.len()) {
        let total: f64 = distances.iter().sum();
        // Fewer different points than clusters.
        if total == 0.0 {
            break;
        }
        let mut left = unit() * total;
        let drawn = distances.iter().position(|distance| {
            left -= distance;
            left < 0.0
        });
        let last = || distances.iter().rposition(|distance| *distance > 0.0).expect("their sum is above 0");
        let centre = points.row(drawn.unwrap_or_else(last));
        let first = centres.is_empty();
        centres.extend_from_slice(centre);
        for (distance, row) in distances.iter_mut().zip(points.rows()) {
            let found = squared_distance(row, centre);
            *distance = if first { found } else { found.min(*distance) };
        }
    }
    centres
}

fn nearest(row: &[f64], centres: &[f64]) -> (usize, f64) {
    let distances = centres.chunks_exact(row.len()).map(|centre| squared_distance(row, centre));
    distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).expect("a centre at least")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twelve points around three places.
    const POINTS: [f64; 24] = [
        0.0, 0.0, 0.1, 0.0, 0.0, 0.1, 0.1, 0.1, 5.0, 5.0, 5.1, 5.0, 5.0, 5.1, 5.1, 5.1, -5.0, 5.0, -5.1, 5.0, -5.0,
        5.1, -5.1, 5.1,
    ];

    #[test]
    fn clusters_that_stand_apart_are_found() {
        let settings = Settings { clusters: 3, iterations: 100, tries: 5, seed: 1 };
        let labels = k_means(Points::new(&POINTS, 2), &settings);
        for group in labels.chunks(4) {
            assert!(group.iter().all(|label| *label == group[0]), "{labels:?}");
        }
        assert!(labels[0] != labels[4] && labels[0] != labels[8] && labels[4] != labels[8]);
        assert_eq!(labels, k_means(Points::new(&POINTS, 2), &settings));
    }

    #[test]
    fn more_clusters_than_points() {
        let settings = Settings { clusters: 5, iterations: 10, tries: 2, seed: 1 };
        assert_eq!(k_means(Points::new(&[1.0, 1.0, 1.0], 1), &settings), [0, 0, 0]);
    }
}
