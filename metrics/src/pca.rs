//! Principal components: the directions that explain most of the spread of points, centred and not whitened, as
//! scikit-learn's `PCA` has them.

use crate::eigen::Eigen;
use crate::points::{Points, dot};

/// A projection onto principal components.
#[derive(Debug, Clone)]
pub struct Pca {
    mean: Vec<f64>,
    /// The directions one after another, the one that explains most first.
    directions: Vec<f64>,
    /// The share of the spread that each explains, kept or not.
    pub explained: Vec<f64>,
    /// How many are kept.
    pub kept: usize,
}

impl Pca {
    /// Of some points, with as few components as explain at least `share` of their spread; exactly `share` counts.
    pub fn fit(points: Points<'_>, share: f64) -> Self {
        let (n, dimension) = (points.len(), points.dimension());
        let mut mean = vec![0.0; dimension];
        for row in points.rows() {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / n as f64);
        }
        let centred: Vec<f64> =
            points.rows().flat_map(|row| row.iter().zip(&mean).map(|(value, mean)| value - mean)).collect();
        let centred = Points::new(&centred, dimension);
        let (values, directions) = match n < dimension {
            true => from_inner_products(centred),
            false => from_covariance(centred),
        };
        let total: f64 = values.iter().map(|value| value.max(0.0)).sum();
        let explained: Vec<f64> =
            values.iter().map(|value| if total > 0.0 { value.max(0.0) / total } else { 0.0 }).collect();
        let mut sum = 0.0;
        let missing = explained.iter().take_while(|part| {
            let before = sum;
            sum += **part;
            // Rounding must not ask for one more.
            before < share - 1e-12
        });
        let kept = missing.count();
        Self { mean, directions, explained, kept }
    }

    /// The points along the components that are kept, one after another; the dimension is [`Pca::kept`].
    pub fn project(&self, points: Points<'_>) -> Vec<f64> {
        let directions = &self.directions[..self.kept * self.mean.len()];
        let along = |row: &[f64]| {
            let centred: Vec<f64> = row.iter().zip(&self.mean).map(|(value, mean)| value - mean).collect();
            directions.chunks_exact(self.mean.len()).map(|axis| dot(axis, &centred)).collect::<Vec<_>>()
        };
        points.rows().flat_map(along).collect()
    }
}

fn from_covariance(centred: Points<'_>) -> (Vec<f64>, Vec<f64>) {
    let dimension = centred.dimension();
    let mut covariance = vec![0.0; dimension * dimension];
    for row in centred.rows() {
        for (value, line) in row.iter().zip(covariance.chunks_exact_mut(dimension)) {
            line.iter_mut().zip(row).for_each(|(sum, other)| *sum += value * other);
        }
    }
    let eigen = Eigen::new(&covariance, dimension);
    (eigen.values, eigen.vectors)
}

/// With fewer points than dimensions: the eigenvectors `u` of `X X^T` give the directions `X^T u`.
fn from_inner_products(centred: Points<'_>) -> (Vec<f64>, Vec<f64>) {
    let (n, dimension) = (centred.len(), centred.dimension());
    let products: Vec<f64> = centred.rows().flat_map(|a| centred.rows().map(move |b| dot(a, b))).collect();
    let eigen = Eigen::new(&products, n);
    let mut directions = Vec::with_capacity(n * dimension);
    for vector in eigen.vectors.chunks_exact(n) {
        let mut direction = vec![0.0; dimension];
        for (weight, row) in vector.iter().zip(centred.rows()) {
            direction.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
        }
        crate::points::normalise(&mut direction, dimension);
        directions.extend(direction);
    }
    (eigen.values, directions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::squared_distance;
    use crate::testing::assert_near;

    #[test]
    fn exactly_the_share_is_enough() {
        // Ten directions of equal spread, of which nine explain .9.
        let mut values = vec![0.0; 20 * 10];
        for axis in 0..10 {
            values[2 * axis * 10 + axis] = 1.0;
            values[(2 * axis + 1) * 10 + axis] = -1.0;
        }
        let pca = Pca::fit(Points::new(&values, 10), 0.9);
        assert_eq!(pca.kept, 9);
        assert_eq!(Pca::fit(Points::new(&[0.0; 6], 2), 0.9).explained, [0.0, 0.0]);
    }

    #[test]
    fn few_points_in_many_dimensions_keep_their_distances() {
        let values: Vec<f64> = (0..5 * 12).map(|place| ((place * place) as f64).sin()).collect();
        let points = Points::new(&values, 12);
        let pca = Pca::fit(points, 1.0);
        let projected = pca.project(points);
        let found = Points::new(&projected, pca.kept);
        for i in 0..5 {
            for j in 0..5 {
                let expected = squared_distance(points.row(i), points.row(j));
                assert_near(squared_distance(found.row(i), found.row(j)), expected);
            }
        }
    }
}
