//! A factor for each column of a matrix of activations, as DoRA has beside its projections, and the lengths of the rows
//! of a packed matrix that the factors are made of.

use rayon::prelude::*;

use crate::element::Element;
use crate::packed::Packed;
use crate::parallel::Build;
use crate::simd::{Lanes, multiversion};

/// Rows of a task, and of a partial sum.
const ROWS: usize = 64;

/// `z * gain + start`, `[rows, width]`: `start` is empty for zero, one row for all, or a row for each.
pub fn scale_columns<E: Element, O: Element>(z: &[E], gain: &[f32], start: &[f32]) -> Vec<O> {
    let width = gain.len();
    assert!(width > 0 && z.len().is_multiple_of(width), "rows of another width");
    assert!([0, width, z.len()].contains(&start.len()), "a start of another shape");
    let zeros = if start.is_empty() { vec![0.0; width] } else { Vec::new() };
    let start = if start.is_empty() { &zeros } else { start };
    // With one row there is no difference between the row and all rows.
    let stride = if start.len() == width { 0 } else { width };
    let build = Build::new(z.len());
    z.par_chunks(ROWS * width).enumerate().for_each(|(chunk, rows)| {
        for (row, values) in rows.chunks_exact(width).enumerate() {
            let row = chunk * ROWS + row;
            // SAFETY: each row has a place of its own, and `start` was checked to have a row here.
            unsafe {
                let (start, to) = (start.as_ptr().add(row * stride), build.at(row * width));
                forward(values.as_ptr(), gain.as_ptr(), start, to, width);
            }
        }
    });
    // SAFETY: every row was written.
    unsafe { build.finish() }
}

/// The gradients of `z` and of `gain` from that of the output.
pub fn scale_columns_backward<E: Element, G: Element>(z: &[E], gain: &[f32], gradient: &[G]) -> (Vec<E>, Vec<f32>) {
    let width = gain.len();
    assert!(width > 0 && z.len().is_multiple_of(width) && z.len() == gradient.len(), "rows of another width");
    let build = Build::new(z.len());
    let partial: Vec<Vec<f32>> = (z.par_chunks(ROWS * width).zip(gradient.par_chunks(ROWS * width)).enumerate())
        .map(|(chunk, (rows, gradient))| {
            let mut sums = vec![0.0; width];
            for (row, (z, gradient)) in rows.chunks_exact(width).zip(gradient.chunks_exact(width)).enumerate() {
                // SAFETY: each row has a place of its own.
                unsafe {
                    let to = build.at((chunk * ROWS + row) * width);
                    backward(z.as_ptr(), gain.as_ptr(), gradient.as_ptr(), to, sums.as_mut_ptr(), width);
                }
            }
            sums
        })
        .collect();
    let column = |column: usize| partial.iter().map(|sums| f64::from(sums[column])).sum::<f64>() as f32;
    // SAFETY: every row was written.
    (unsafe { build.finish() }, (0..width).map(column).collect())
}

/// The sum of the squares of each row, `[out]`.
pub fn row_squares(matrix: &Packed) -> Vec<f32> {
    let [outputs, inputs] = matrix.shape();
    let squares = |row: &mut Vec<f32>, output: usize| {
        matrix.row(output, row);
        row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() as f32
    };
    (0..outputs).into_par_iter().map_init(|| vec![0.0; inputs], squares).collect()
}

multiversion! {
    fn forward<E: Element, O: Element>(z: *const E, gain: *const f32, start: *const f32, y: *mut O, width: usize)
        = forward_body;
}
multiversion! {
    fn backward<E: Element, G: Element>(
        z: *const E, gain: *const f32, gradient: *const G, dz: *mut E, sums: *mut f32, width: usize,
    ) = backward_body;
}

#[inline(always)]
unsafe fn forward_body<L: Lanes, E: Element, O: Element>(
    z: *const E,
    gain: *const f32,
    start: *const f32,
    y: *mut O,
    width: usize,
) {
    for i in (0..width).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `width` values,
        // and no lane past them is touched.
        unsafe {
            let left = width - i;
            let (factor, start) = (L::load_part(gain.add(i), left), L::load_part(start.add(i), left));
            O::store::<L>(y.add(i), left, L::fma(E::load::<L>(z.add(i), left), factor, start));
        }
    }
}

#[inline(always)]
unsafe fn backward_body<L: Lanes, E: Element, G: Element>(
    z: *const E,
    gain: *const f32,
    gradient: *const G,
    dz: *mut E,
    sums: *mut f32,
    width: usize,
) {
    for i in (0..width).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `width` values,
        // and no lane past them is touched.
        unsafe {
            let left = width - i;
            let g = G::load::<L>(gradient.add(i), left);
            let sum = L::fma(g, E::load::<L>(z.add(i), left), L::load_part(sums.add(i), left));
            L::store_part(sums.add(i), left, sum);
            E::store::<L>(dz.add(i), left, L::mul(g, L::load_part(gain.add(i), left)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::Precision;

    fn values(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.7 + seed).sin()).collect()
    }

    #[test]
    fn columns_and_their_gradients_match_the_definition() {
        for (rows, width) in [(1, 3), (150, 45), (64, 32)] {
            let (z, gain, g) = (values(rows * width, 0.1), values(width, 0.2), values(rows * width, 0.3));
            for start in [Vec::new(), values(width, 0.4), values(rows * width, 0.5)] {
                let y: Vec<f32> = scale_columns(&z, &gain, &start);
                for (i, y) in y.iter().enumerate() {
                    let start = start.get(if start.len() == width { i % width } else { i }).copied().unwrap_or(0.0);
                    let expected = f64::from(z[i]) * f64::from(gain[i % width]) + f64::from(start);
                    assert!((f64::from(*y) - expected).abs() < 1e-6, "{rows} {width} {i}");
                }
            }
            let (dz, dgain) = scale_columns_backward(&z, &gain, &g);
            for (i, dz) in dz.iter().enumerate() {
                assert!((f64::from(*dz) - f64::from(g[i]) * f64::from(gain[i % width])).abs() < 1e-6);
            }
            for (column, dgain) in dgain.iter().enumerate() {
                let products = (column..rows * width).step_by(width).map(|i| f64::from(g[i]) * f64::from(z[i]));
                assert!((f64::from(*dgain) - products.sum::<f64>()).abs() < 3e-5);
            }
        }
    }

    #[test]
    fn squares_are_those_of_the_rows() {
        let (outputs, inputs) = (47, 31);
        let matrix = values(outputs * inputs, 0.6);
        let packed = Packed::new(&matrix, [outputs, inputs], (inputs, 1), 1.0, Precision::F32);
        for (row, found) in matrix.chunks(inputs).zip(row_squares(&packed)) {
            let expected: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
            assert!((f64::from(found) / expected - 1.0).abs() < 1e-6);
        }
    }
}
