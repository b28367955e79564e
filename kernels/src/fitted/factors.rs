//! `L D L^T` of a positive definite matrix, in panels of columns, so that what is read again lies in the cache.

use rayon::prelude::*;

use crate::simd::{Lanes, multiversion};

/// Columns of the factor that are finished together.
const PANEL: usize = 64;

/// Rows of a matrix in f64 that are changed by one task.
const TASK: usize = 32;

/// Columns whose products are summed while those of a panel lie in the cache.
const DEPTH: usize = 512;

/// Turns the lower half of a positive definite matrix into `L` of `L D L^T`, whose diagonal is 1.
pub(super) fn decompose(matrix: &mut [f64], n: usize) {
    let mut diagonal = vec![0.0; n];
    for start in (0..n).step_by(PANEL) {
        let end = (start + PANEL).min(n);
        let (finished, rest) = matrix.split_at_mut(start * n);
        debug_assert_eq!(finished.len(), start * n);
        // The rows of the panel times D, as far as they are finished.
        let mut scaled = vec![0.0; (end - start) * n];
        for (scaled, row) in scaled.chunks_exact_mut(n).zip(rest.chunks_exact(n)) {
            scaled[..start].iter_mut().zip(row.iter().zip(&diagonal)).for_each(|(to, (value, d))| *to = value * d);
        }
        rest.par_chunks_mut(TASK * n).for_each(|rows| {
            // SAFETY: rows and panel are `n` wide, and the instruction set is there.
            unsafe { subtract_products(rows, &scaled, n, start, end) };
        });
        let (above, below) = rest.split_at_mut((end - start) * n);
        for i in start..end {
            let row = &mut above[(i - start) * n..][..n];
            for j in start..i {
                row[j] = (row[j] - dot(&row[start..j], &scaled[(j - start) * n..][start..j])) / diagonal[j];
            }
            let own = &mut scaled[(i - start) * n..][start..i];
            let values = row[start..i].iter().zip(&diagonal[start..i]);
            own.iter_mut().zip(values).for_each(|(own, (value, d))| *own = value * d);
            // Rounding may leave nothing of what the damping had raised.
            diagonal[i] = (row[i] - dot(&row[start..i], own)).max(f64::MIN_POSITIVE.sqrt());
            row[i] = 1.0;
        }
        below.par_chunks_exact_mut(n).for_each(|row| {
            for j in start..end {
                row[j] = (row[j] - dot(&row[start..j], &scaled[(j - start) * n..][start..j])) / diagonal[j];
            }
        });
    }
}

multiversion! {
    /// Takes from the columns `start..end` of some rows their products with the rows of a panel over the columns before.
    fn subtract_products(rows: &mut [f64], panel: &[f64], n: usize, start: usize, end: usize) = subtract_products_body;
}

/// Rows and rows of the panel whose products are summed at once, in registers.
const PRODUCTS: [usize; 2] = [2, 4];

#[inline(always)]
unsafe fn subtract_products_body<L: Lanes>(rows: &mut [f64], panel: &[f64], n: usize, start: usize, end: usize) {
    let [height, width] = PRODUCTS;
    for first in (0..start).step_by(DEPTH) {
        let columns = first..(first + DEPTH).min(start);
        for rows in rows.chunks_mut(height * n) {
            for j in (0..end - start).step_by(width) {
                let of_panel = |at: usize| &panel[(j + at) * n..][columns.clone()];
                if rows.len() == height * n && j + width <= end - start {
                    let (upper, lower) = rows.split_at_mut(n);
                    let found =
                        products([&upper[columns.clone()], &lower[columns.clone()]], std::array::from_fn(of_panel));
                    for (row, found) in [upper, lower].into_iter().zip(found) {
                        row[start + j..][..width].iter_mut().zip(found).for_each(|(value, found)| *value -= found);
                    }
                } else {
                    for row in rows.chunks_exact_mut(n) {
                        for at in 0..width.min(end - start - j) {
                            row[start + j + at] -= dot(&row[columns.clone()], of_panel(at));
                        }
                    }
                }
            }
        }
    }
}

/// The products of two rows with four, each summed as [`dot`] does it.
#[inline(always)]
fn products(rows: [&[f64]; 2], panel: [&[f64]; 4]) -> [[f64; 4]; 2] {
    let length = rows[0].len();
    let whole = length / LANES * LANES;
    let mut sums = [[[0.0; LANES]; 4]; 2];
    for at in (0..whole).step_by(LANES) {
        let load = |row: &[f64]| -> [f64; LANES] { row[at..at + LANES].try_into().expect("as many as asked for") };
        let (a, b) = (rows.map(load), panel.map(load));
        for (sums, a) in sums.iter_mut().zip(&a) {
            for (sums, b) in sums.iter_mut().zip(&b) {
                for lane in 0..LANES {
                    sums[lane] += a[lane] * b[lane];
                }
            }
        }
    }
    std::array::from_fn(|row| {
        std::array::from_fn(|of_panel| {
            let rest = rows[row][whole..].iter().zip(&panel[of_panel][whole..]).map(|(a, b)| a * b).sum::<f64>();
            sums[row][of_panel].iter().sum::<f64>() + rest
        })
    })
}

/// Sums that a product of two rows is kept in.
const LANES: usize = 8;

#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::super::tests::{gram, values};
    use super::decompose;

    /// `L D L^T` gives the matrix back, panels and a cut one among them.
    #[test]
    fn a_matrix_is_the_product_of_its_factors() {
        let n = 150;
        let x = values(400 * n, 0.3);
        let mut matrix: Vec<f64> = gram(&x, n).into_iter().map(f64::from).collect();
        (0..n).for_each(|i| matrix[i * n + i] += 40.0);
        let mut lower = matrix.clone();
        decompose(&mut lower, n);
        // D, from the definition: what the columns before leave of the diagonal.
        let mut d = vec![0.0; n];
        for i in 0..n {
            d[i] = matrix[i * n + i] - (0..i).map(|k| lower[i * n + k].powi(2) * d[k]).sum::<f64>();
            for j in 0..=i {
                let product: f64 = (0..=j).map(|k| lower[i * n + k] * lower[j * n + k] * d[k]).sum();
                assert!((product - matrix[i * n + j]).abs() < 1e-7, "{i} {j}: {product}");
            }
        }
    }
}
