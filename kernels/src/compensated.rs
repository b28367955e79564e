//! nf4 codes chosen for what a matrix gives for its inputs, and not for its values alone.
//!
//! Over inputs `x` whose products sum to `G = sum x x^T`, what a row loses is `(w - q) G (w - q)^T`. With
//! `G = (I + U) D (I + U)^T`, U strictly upper, one value after another is rounded, each first moved by what those before
//! it have lost: `q_k = round(w_k + sum_{j < k} (w_j - q_j) U_jk)`. That is LDLQ (Chee et al. 2023, arXiv 2307.13304,
//! section 3), which gives the codes of GPTQ (Frantar et al. 2022, arXiv 2210.17323) without an inverse. Levels and layout
//! stay those of [`crate::quantised`]: a reader of the codes knows no difference.

use std::ops::Range;

use rayon::prelude::*;

use crate::quantised::{BLOCK, LEVELS, Quantised, nearest_level};
use crate::simd::{Lanes, multiversion};

/// Inputs whose products are followed together; those of two such parts are not.
const PART: usize = 4096;

/// Rows that share a pass over the factor.
const ROWS: usize = 8;

/// Columns of the factor that are finished together.
const PANEL: usize = 64;

/// What is lost by a value of a row, as a change of those after it.
pub struct Feedback {
    parts: Vec<Part>,
    /// How large each input is, squared.
    squares: Vec<f32>,
}

struct Part {
    /// The first of its inputs.
    first: usize,
    /// Its inputs from there, in the order in which they are rounded.
    order: Vec<usize>,
    /// `U`, `[inputs, inputs]` in that order.
    upper: Vec<f32>,
}

/// The inputs that are followed together, of a matrix with so many.
pub fn feedback_parts(inputs: usize) -> impl Iterator<Item = Range<usize>> {
    (0..inputs).step_by(PART).map(move |first| first..(first + PART).min(inputs))
}

impl Feedback {
    /// From the sums of products of each of [`feedback_parts`], `[inputs, inputs]` of it. Those of equal inputs are raised by
    /// the share `damping` of their mean: how much the values themselves count.
    pub fn new(inputs: usize, grams: &[Vec<f32>], damping: f64) -> Self {
        let part = |(range, gram): (Range<usize>, &Vec<f32>)| {
            let n = range.len();
            assert_eq!(gram.len(), n * n, "sums of another width");
            let diagonal = |i: usize| f64::from(gram[i * n + i]);
            let mean = (0..n).map(diagonal).sum::<f64>() / n as f64;
            let raise = if mean > 0.0 { damping * mean } else { 1.0 };
            // The largest first: what they lose can still be made good by all others.
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|a, b| diagonal(*b).total_cmp(&diagonal(*a)));
            // From the last to the first an upper factor is a lower one.
            let mut lower = vec![0.0; n * n];
            for (row, i) in lower.chunks_exact_mut(n).zip(order.iter().rev()) {
                for (value, j) in row.iter_mut().zip(order.iter().rev()) {
                    *value = f64::from(gram[i * n + j]) + if i == j { raise } else { 0.0 };
                }
            }
            decompose(&mut lower, n);
            let upper = lower.iter().rev().map(|value| *value as f32).collect();
            Part { first: range.start, order, upper }
        };
        assert_eq!(feedback_parts(inputs).count(), grams.len(), "sums of another width");
        let parts: Vec<Part> = feedback_parts(inputs).zip(grams).map(part).collect();
        let squares = |(range, gram): (Range<usize>, &Vec<f32>)| {
            let (n, damping) = (range.len(), damping as f32);
            let mean = (0..n).map(|i| gram[i * n + i]).sum::<f32>() / n as f32;
            (0..n).map(|i| gram[i * n + i] + damping * mean).collect::<Vec<f32>>()
        };
        Self { parts, squares: feedback_parts(inputs).zip(grams).flat_map(squares).collect() }
    }
}

/// Turns the lower half of a positive definite matrix into `L` of `L D L^T`, whose diagonal is 1.
fn decompose(matrix: &mut [f64], n: usize) {
    let mut diagonal = vec![0.0; n];
    for start in (0..n).step_by(PANEL) {
        let end = (start + PANEL).min(n);
        let (above, below) = matrix.split_at_mut(end * n);
        // The rows of the panel times D, as far as they are finished.
        let mut scaled = vec![0.0; (end - start) * n];
        for i in start..end {
            let row = &mut above[i * n..][..n];
            for j in start..i {
                row[j] = (row[j] - dot(&row[..j], &scaled[(j - start) * n..][..j])) / diagonal[j];
            }
            let own = &mut scaled[(i - start) * n..][..i];
            own.iter_mut().zip(row.iter().zip(&diagonal)).for_each(|(own, (value, d))| *own = value * d);
            // Rounding may leave nothing of what the damping had raised.
            diagonal[i] = (row[i] - dot(&row[..i], own)).max(f64::MIN_POSITIVE.sqrt());
            row[i] = 1.0;
        }
        below.par_chunks_exact_mut(n).for_each(|row| {
            for j in start..end {
                row[j] = (row[j] - dot(&row[..j], &scaled[(j - start) * n..][..j])) / diagonal[j];
            }
        });
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
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

impl Quantised {
    /// `values`, `[out, in]` in rows, which are finite, in nf4 codes that lose least of what `feedback` was made of.
    pub fn compensated(values: &[f32], shape: [usize; 2], feedback: &Feedback) -> Self {
        let inputs = shape[1];
        let magnitudes: Vec<f32> = (values.par_chunks(BLOCK).enumerate())
            .map(|(block, values)| magnitude(values, |i| feedback.squares[(block * BLOCK + i) % inputs]))
            .collect();
        let blank = Self::blank(shape, &magnitudes);
        let scales = blank.magnitudes();
        let mut codes = vec![0; values.len()];
        let tasks = codes.par_chunks_mut(ROWS * inputs.max(1)).zip(values.par_chunks(ROWS * inputs.max(1)));
        tasks.enumerate().for_each(|(task, (codes, values))| {
            for part in &feedback.parts {
                // SAFETY: the part lies inside of the rows, and its factor is as wide as it is.
                unsafe { round_rows(codes, values, inputs, task * ROWS * inputs, part, &scales) };
            }
        });
        blank.with_codes(&codes)
    }
}

/// The magnitude of a block with which least is lost of values that count by the squares of their inputs: its largest
/// value, or less where a few large ones leave the many small ones too few levels.
fn magnitude(values: &[f32], square: impl Fn(usize) -> f32) -> f32 {
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let lost = |magnitude: f32| -> f32 {
        let by = 1.0 / magnitude.max(1e-38);
        let one = |(i, value): (usize, &f32)| {
            let lost = value - LEVELS[usize::from(nearest_level(value * by))] * magnitude;
            lost * lost * square(i)
        };
        values.iter().enumerate().map(one).sum()
    };
    let tried = (0..=8).map(|step| largest * (1.0 - 0.05 * step as f32));
    tried.map(|magnitude| (lost(magnitude), magnitude)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0.0, |best| best.1)
}

multiversion! {
    /// The codes of one part of some rows, which begin at the value `place` of the matrix.
    fn round_rows(
        codes: &mut [u8], values: &[f32], inputs: usize, place: usize, part: &Part, scales: &[f32],
    ) = round_rows_body;
}

#[inline(always)]
unsafe fn round_rows_body<L: Lanes>(
    codes: &mut [u8],
    values: &[f32],
    inputs: usize,
    place: usize,
    part: &Part,
    scales: &[f32],
) {
    let n = part.order.len();
    let rows = values.len() / inputs;
    let mut targets: Vec<f32> =
        (0..rows * n).map(|i| values[i / n * inputs + part.first + part.order[i % n]]).collect();
    for (k, input) in part.order.iter().enumerate() {
        let factor = &part.upper[k * n..][..n];
        for row in 0..rows {
            let index = row * inputs + part.first + input;
            let targets = &mut targets[row * n..][..n];
            let scale = scales[(place + index) / BLOCK];
            let code = nearest_level(targets[k] / scale.max(1e-38));
            codes[index] = code;
            let lost = values[index] - LEVELS[usize::from(code)] * scale;
            let mut at = k + 1;
            // SAFETY: both are `n` long, and the instruction set is there.
            unsafe {
                let lost = L::splat(lost);
                while at < n {
                    let count = L::WIDTH.min(n - at);
                    let to = targets.as_mut_ptr().add(at);
                    let moved = L::fma(lost, L::load_part(factor.as_ptr().add(at), count), L::load_part(to, count));
                    L::store_part(to, count, moved);
                    at += L::WIDTH;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantised::Quantisation;

    fn values(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.7 + seed).sin() + 0.3 * (i as f32 * 1.9).cos()).collect()
    }

    /// `sum x x^T` of some rows.
    fn gram(x: &[f32], inputs: usize) -> Vec<f32> {
        let sum =
            |i: usize, j: usize| x.chunks_exact(inputs).map(|row| f64::from(row[i]) * f64::from(row[j])).sum::<f64>();
        (0..inputs * inputs).map(|at| sum(at / inputs, at % inputs) as f32).collect()
    }

    /// `sum |x (w - q)^T|^2`
    fn lost(x: &[f32], weight: &[f32], quantised: &Quantised) -> f64 {
        let (inputs, found) = (quantised.shape()[1], quantised.dequantise());
        let row = |row: &[f32]| -> f64 {
            let products = weight.chunks_exact(inputs).zip(found.chunks_exact(inputs)).map(|(w, q)| {
                row.iter().zip(w.iter().zip(q)).map(|(x, (w, q))| f64::from(*x) * f64::from(w - q)).sum::<f64>()
            });
            products.map(|product| product * product).sum()
        };
        x.chunks_exact(inputs).map(row).sum()
    }

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

    /// On inputs that go together, much less is lost than by the nearest codes; on inputs that do not, the nearest is taken.
    #[test]
    fn what_is_lost_shrinks_where_inputs_go_together() {
        let (inputs, outputs, rank) = (130, 40, 6);
        let weight = values(outputs * inputs, 0.9);
        // Inputs of low rank with a little of their own.
        let basis: Vec<f32> = (0..rank * inputs).map(|i| ((i * i) as f32 * 0.37).sin()).collect();
        let x: Vec<f32> = (0..300)
            .flat_map(|row| {
                let weights: Vec<f32> = (0..rank).map(|k| ((row * (k + 3)) as f32 * 0.61).sin()).collect();
                let basis = &basis;
                (0..inputs).map(move |input| {
                    let own = ((row * 131 + input * 17) as f32).sin() * 0.1;
                    own + (0..rank).map(|k| weights[k] * basis[k * inputs + input]).sum::<f32>()
                })
            })
            .collect();
        let nearest = Quantised::new(&weight, [outputs, inputs], Quantisation::Nf4);
        let feedback = Feedback::new(inputs, &[gram(&x, inputs)], 0.01);
        let compensated = Quantised::compensated(&weight, [outputs, inputs], &feedback);
        assert_eq!((compensated.shape(), compensated.bytes()), (nearest.shape(), nearest.bytes()));
        let (before, after) = (lost(&x, &weight, &nearest), lost(&x, &weight, &compensated));
        assert!(after < 0.2 * before, "{after} of {before}");
        let apart: Vec<f32> = (0..inputs * inputs).map(|i| if i % (inputs + 1) == 0 { 1.0 } else { 0.0 }).collect();
        let alone = Quantised::compensated(&weight, [outputs, inputs], &Feedback::new(inputs, &[apart], 0.01));
        let scales = alone.magnitudes();
        for (index, (found, value)) in alone.dequantise().iter().zip(&weight).enumerate() {
            let error = |level: &f32| (level * scales[index / 64] - value).abs();
            let least = LEVELS.iter().map(error).fold(f32::INFINITY, f32::min);
            assert!((found - value).abs() <= least + 1e-6, "{index}: {found} for {value}");
        }
    }

    /// The definition written plainly in f64, with the factor from elimination of the last input first.
    #[test]
    fn codes_are_those_of_the_definition() {
        let (inputs, outputs) = (70, 9);
        let (weight, x) = (values(outputs * inputs, 0.2), values(200 * inputs, 1.3));
        let gram = gram(&x, inputs);
        let found = Quantised::compensated(
            &weight,
            [outputs, inputs],
            &Feedback::new(inputs, std::slice::from_ref(&gram), 0.05),
        );
        let mean = (0..inputs).map(|i| f64::from(gram[i * inputs + i])).sum::<f64>() / inputs as f64;
        let mut order: Vec<usize> = (0..inputs).collect();
        order.sort_by(|a, b| gram[b * inputs + b].total_cmp(&gram[a * inputs + a]));
        let mut rest: Vec<Vec<f64>> = (order.iter())
            .map(|i| {
                let raised = |j: &usize| f64::from(gram[i * inputs + j]) + if i == j { 0.05 * mean } else { 0.0 };
                order.iter().map(raised).collect()
            })
            .collect();
        let mut upper = vec![vec![0.0; inputs]; inputs];
        for k in (0..inputs).rev() {
            for j in 0..k {
                upper[j][k] = rest[j][k] / rest[k][k];
            }
            for i in 0..k {
                for j in 0..k {
                    rest[i][j] -= upper[i][k] * rest[k][k] * upper[j][k];
                }
            }
        }
        let scales = found.magnitudes();
        let dequantised = found.dequantise();
        let mut different = 0;
        for row in 0..outputs {
            let mut lost = vec![0.0; inputs];
            for k in 0..inputs {
                let index = row * inputs + order[k];
                let target = f64::from(weight[index]) + (0..k).map(|j| lost[j] * upper[j][k]).sum::<f64>();
                let scale = f64::from(scales[index / 64]);
                let level = |value: &f32| (f64::from(*value) * scale - target).abs();
                let nearest = LEVELS.iter().min_by(|a, b| level(a).total_cmp(&level(b))).expect("16 levels");
                different += usize::from((f64::from(*nearest) * scale - f64::from(dequantised[index])).abs() > 1e-6);
                // On from what was found: a tie that f32 breaks otherwise is one value and not all after it.
                lost[k] = f64::from(weight[index]) - f64::from(dequantised[index]);
            }
        }
        assert!(different <= 1, "{different} of {}", outputs * inputs);
    }
}
