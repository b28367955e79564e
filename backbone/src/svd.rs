//! The largest singular values of a weight matrix with their vectors.
//!
//! A random subspace is drawn to the largest singular vectors by passing it through the matrix and back a few times
//! (Halko, Martinsson and Tropp 2011, arXiv 0909.4061, algorithms 4.4 and 5.1), which costs some products with the matrix
//! in place of its whole decomposition. What is left is a small matrix, decomposed by Jacobi rotations in f64.

use kernels::{Packed, Precision};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Directions beside those asked for: they take up what the last ones would lose.
const MORE: usize = 16;

/// Passes through the matrix and back.
const PASSES: usize = 6;

/// A row this much shorter than it was before others were taken out of it is nothing but rounding.
const LOST: f64 = 1e-6;

/// Rotations below this do nothing in f64.
const CONVERGED: f64 = 1e-15;

/// The largest singular values, with vectors of length 1; the vectors of a singular value of zero are zero.
pub struct Svd {
    /// Falling, `[rank]`.
    pub values: Vec<f64>,
    /// U^T, `[rank, out]`.
    pub left: Vec<f32>,
    /// V^T, `[rank, in]`.
    pub right: Vec<f32>,
}

/// The `rank` largest singular values of a matrix `[out, in]`; `rank` is at most the smaller side.
pub fn largest(matrix: &[f32], [outputs, inputs]: [usize; 2], rank: usize, seed: u64) -> Svd {
    let width = (rank + MORE).min(outputs).min(inputs);
    assert!(rank <= width, "a rank above the matrix's own");
    let packed = Packed::new(matrix, [outputs, inputs], (inputs, 1), 1.0, Precision::F32);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let drawn: Vec<f32> = (0..width * inputs).map(|_| StandardNormal.sample(&mut random)).collect();
    let mut left: Vec<f32> = kernels::product(&drawn, width, &packed);
    orthonormalise(&mut left, outputs);
    for _ in 0..PASSES {
        let mut right: Vec<f32> = kernels::product_transposed(&left, width, &packed);
        orthonormalise(&mut right, inputs);
        left = kernels::product(&right, width, &packed);
        orthonormalise(&mut left, outputs);
    }
    // The matrix in this basis is `core` times orthonormal rows.
    let mut right: Vec<f32> = kernels::product_transposed(&left, width, &packed);
    let core = orthonormalise(&mut right, inputs);
    let mut found = jacobi(core, width);
    found.sort_by(|a, b| b.value.total_cmp(&a.value));
    found.truncate(rank);
    let combined = |basis: &[f32], size: usize, weights: &dyn Fn(&Triple) -> Vec<f64>| -> Vec<f32> {
        let rows = found.iter().flat_map(|triple| combination(basis, size, &weights(triple)));
        rows.collect()
    };
    Svd {
        values: found.iter().map(|triple| triple.value).collect(),
        left: combined(&left, outputs, &|triple| triple.left.clone()),
        right: combined(&right, inputs, &|triple| triple.right.clone()),
    }
}

/// The sum of the rows of `basis`, each with its weight.
fn combination(basis: &[f32], size: usize, weights: &[f64]) -> Vec<f32> {
    let mut sum = vec![0.0f64; size];
    for (row, weight) in basis.chunks_exact(size).zip(weights) {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * f64::from(*value));
    }
    sum.into_iter().map(|value| value as f32).collect()
}

/// Makes the rows orthogonal and of length 1 (Gram-Schmidt, each row twice), or zero where they depend on those before.
/// Gives the square matrix, row by row, that turns the new rows into the old ones.
fn orthonormalise(rows: &mut [f32], size: usize) -> Vec<f64> {
    let count = rows.len() / size.max(1);
    let mut coefficients = vec![0.0; count * count];
    for row in 0..count {
        let (before, rest) = rows.split_at_mut(row * size);
        let mut current: Vec<f64> = rest[..size].iter().map(|value| f64::from(*value)).collect();
        let length = norm(&current);
        for _ in 0..2 {
            for (index, other) in before.chunks_exact(size).enumerate() {
                let shared: f64 = current.iter().zip(other).map(|(a, b)| a * f64::from(*b)).sum();
                current.iter_mut().zip(other).for_each(|(a, b)| *a -= shared * f64::from(*b));
                coefficients[row * count + index] += shared;
            }
        }
        let left = norm(&current);
        let lost = left <= LOST * length;
        coefficients[row * count + row] = if lost { 0.0 } else { left };
        let scale = if lost { 0.0 } else { 1.0 / left };
        rest[..size].iter_mut().zip(&current).for_each(|(to, value)| *to = (value * scale) as f32);
    }
    coefficients
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// A singular value of a small matrix with its vectors.
struct Triple {
    value: f64,
    left: Vec<f64>,
    right: Vec<f64>,
}

/// All singular values of a square matrix, by rotations of pairs of rows until all are orthogonal (one-sided Jacobi,
/// which has every value to f64's own relative precision).
fn jacobi(matrix: Vec<f64>, size: usize) -> Vec<Triple> {
    let mut rows: Vec<Vec<f64>> = matrix.chunks_exact(size.max(1)).map(<[f64]>::to_vec).collect();
    let unit = |row: usize| (0..size).map(|column| f64::from(u8::from(row == column))).collect();
    let mut turned: Vec<Vec<f64>> = (0..size).map(unit).collect();
    // Convergence is quadratic; a dozen sweeps are more than any matrix takes.
    for _ in 0..40 {
        let mut rotated = false;
        for i in 0..size {
            for j in i + 1..size {
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let (own_i, own_j, shared) =
                    (dot(&rows[i], &rows[i]), dot(&rows[j], &rows[j]), dot(&rows[i], &rows[j]));
                if shared.abs() <= CONVERGED * (own_i * own_j).sqrt() {
                    continue;
                }
                rotated = true;
                let ratio = (own_j - own_i) / (2.0 * shared);
                let tangent = ratio.signum() / (ratio.abs() + (1.0 + ratio * ratio).sqrt());
                let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
                for pairs in [&mut rows, &mut turned] {
                    let (head, tail) = pairs.split_at_mut(j);
                    for (a, b) in head[i].iter_mut().zip(&mut tail[0]) {
                        (*a, *b) = (cosine * (*a - tangent * *b), cosine * (tangent * *a + *b));
                    }
                }
            }
        }
        if !rotated {
            break;
        }
    }
    let triple = |(mut right, left): (Vec<f64>, Vec<f64>)| {
        let value = norm(&right);
        let scale = if value > 0.0 { 1.0 / value } else { 0.0 };
        right.iter_mut().for_each(|number| *number *= scale);
        Triple { value, left, right }
    };
    rows.into_iter().zip(turned).map(triple).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a matrix with orthonormal rows, by reflections in f64: nothing of what is tested.
    fn orthonormal(count: usize, size: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut rows: Vec<Vec<f64>> =
            (0..count).map(|row| (0..size).map(|column| f64::from(u8::from(row == column))).collect()).collect();
        for _ in 0..4 {
            let mirror: Vec<f64> = (0..size).map(|_| StandardNormal.sample(&mut random)).collect();
            let square: f64 = mirror.iter().map(|value| value * value).sum();
            for row in &mut rows {
                let along: f64 = row.iter().zip(&mirror).map(|(a, b)| a * b).sum::<f64>() * 2.0 / square;
                row.iter_mut().zip(&mirror).for_each(|(value, mirror)| *value -= along * mirror);
            }
        }
        rows
    }

    /// `sum of values_k u_k v_k^T`, with the values given.
    fn with_values(values: &[f64], [outputs, inputs]: [usize; 2]) -> (Vec<f32>, Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let (left, right) = (orthonormal(values.len(), outputs, 1), orthonormal(values.len(), inputs, 2));
        let mut matrix = vec![0.0f64; outputs * inputs];
        for (k, value) in values.iter().enumerate() {
            for (row, u) in matrix.chunks_exact_mut(inputs).zip(&left[k]) {
                row.iter_mut().zip(&right[k]).for_each(|(sum, v)| *sum += value * u * v);
            }
        }
        (matrix.into_iter().map(|value| value as f32).collect(), left, right)
    }

    #[test]
    fn values_and_vectors_are_those_the_matrix_was_made_of() {
        // A slow fall, as weights have it; the thirty-second value is a third of the first.
        let values: Vec<f64> = (0..60).map(|k| 3.0 * (-(k as f64) / 30.0).exp()).collect();
        for shape in [[120, 75], [75, 130]] {
            let (matrix, left, right) = with_values(&values, shape);
            let found = largest(&matrix, shape, 12, 5);
            assert_eq!(found.values.len(), 12);
            for (k, value) in found.values.iter().enumerate() {
                assert!((value / values[k] - 1.0).abs() < 1e-5, "{k}: {value} is not {}", values[k]);
                let along = |rows: &[f32], size: usize, expected: &[f64]| -> f64 {
                    rows[k * size..][..size].iter().zip(expected).map(|(a, b)| f64::from(*a) * b).sum()
                };
                let (u, v) = (along(&found.left, shape[0], &left[k]), along(&found.right, shape[1], &right[k]));
                // Both have the sign of the other, whichever it is.
                assert!((u * v - 1.0).abs() < 2e-3 && (u.abs() - 1.0).abs() < 2e-3, "{k}: {u} {v}");
            }
        }
    }

    /// The whole spectrum of small matrices, against the eigenvalues of `W W^T` by plain Jacobi in f64.
    #[test]
    fn small_matrices_have_the_roots_of_the_eigenvalues_of_their_square() {
        let (outputs, inputs) = (9, 14);
        let matrix: Vec<f32> = (0..outputs * inputs).map(|i| (i as f32 * 0.7).sin() * (i % 5) as f32).collect();
        let mut square = vec![vec![0.0f64; outputs]; outputs];
        for (i, row) in square.iter_mut().enumerate() {
            for (j, sum) in row.iter_mut().enumerate() {
                let pairs = matrix[i * inputs..][..inputs].iter().zip(&matrix[j * inputs..][..inputs]);
                *sum = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            }
        }
        for _ in 0..60 {
            for i in 0..outputs {
                for j in i + 1..outputs {
                    let angle = 0.5 * (2.0 * square[i][j]).atan2(square[i][i] - square[j][j]);
                    let (sine, cosine) = angle.sin_cos();
                    let (above, below) = square.split_at_mut(j);
                    for (a, b) in above[i].iter_mut().zip(&mut below[0]) {
                        (*a, *b) = (cosine * *a + sine * *b, cosine * *b - sine * *a);
                    }
                    for row in &mut square {
                        let (a, b) = (row[i], row[j]);
                        (row[i], row[j]) = (cosine * a + sine * b, cosine * b - sine * a);
                    }
                }
            }
        }
        let mut expected: Vec<f64> = (0..outputs).map(|i| square[i][i].max(0.0).sqrt()).collect();
        expected.sort_by(|a, b| b.total_cmp(a));
        let largest_value = expected[0];
        let found = largest(&matrix, [outputs, inputs], outputs, 1);
        for (found, expected) in found.values.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5 * largest_value, "{found} {expected}");
        }
    }

    #[test]
    fn a_matrix_of_a_lower_rank_gives_zeros_and_nothing_that_is_not_a_number() {
        let (matrix, ..) = with_values(&[2.0, 1.0], [20, 30]);
        let found = largest(&matrix, [20, 30], 4, 3);
        assert!((found.values[0] - 2.0).abs() < 1e-5 && (found.values[1] - 1.0).abs() < 1e-5, "{:?}", found.values);
        assert!(found.values[2] < 1e-5 && found.values[3] < 1e-5, "{:?}", found.values);
        assert!(found.left.iter().chain(&found.right).all(|value| value.is_finite()));
        let zero = largest(&[0.0; 600], [20, 30], 4, 3);
        assert!(zero.values.iter().all(|value| *value == 0.0));
        assert!(zero.left.iter().chain(&zero.right).all(|value| value.is_finite()));
    }
}
