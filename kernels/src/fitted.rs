//! nf4 codes chosen for the error of a matrix's outputs on known inputs, and not for that of its values alone.
//!
//! Over inputs `x` whose products sum to `G = sum x x^T`, what a row loses is `(w - q) G (w - q)^T`. With
//! `G = (I + U) D (I + U)^T`, U strictly upper, one value after another is rounded, each first moved by what those before
//! it have lost: `q_k = round(w_k + sum_{j < k} (w_j - q_j) U_jk)`. That is LDLQ (Chee et al. 2023, arXiv 2307.13304,
//! section 3), which gives the codes of GPTQ (Frantar et al. 2022, arXiv 2210.17323) without an inverse. Levels and layout
//! stay those of [`crate::quantised`]: a reader of the codes knows no difference.

mod factors;

use std::ops::Range;

use rayon::prelude::*;

use factors::decompose;

use crate::quantised::{BLOCK, LEVELS, Quantised, nearest_level};
use crate::simd::{Lanes, multiversion};

/// Inputs whose products are followed together; those of two such parts are not.
const PART: usize = 4096;

/// Rows that share a pass over the factor.
const ROWS: usize = 16;

/// Rows of a register tile of two vectors.
const TILE: usize = 4;

/// Inputs that are rounded before those after them are moved by what they have lost.
const TOGETHER: usize = 32;

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

impl Quantised {
    /// `values`, `[out, in]` in rows, which are finite, in nf4 codes that lose least of what `feedback` was made of.
    pub fn fitted(values: &[f32], shape: [usize; 2], feedback: &Feedback) -> Self {
        let inputs = shape[1];
        let magnitudes: Vec<f32> = (values.par_chunks(BLOCK).enumerate())
            .map(|(block, values)| {
                let mut squares = [0.0; BLOCK];
                let of_block = (block * BLOCK..).map(|index| feedback.squares[index % inputs]);
                squares[..values.len()].iter_mut().zip(of_block).for_each(|(to, square)| *to = square);
                magnitude(values, &squares)
            })
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

/// Magnitudes that are tried for a block, a twentieth of the largest value apart.
const TRIED: usize = 9;

/// The magnitude of a block with which least is lost of values that count by the squares of their inputs: its largest
/// value, or less where a few large ones leave the many small ones too few levels.
fn magnitude(values: &[f32], squares: &[f32]) -> f32 {
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let tried: [f32; TRIED] = std::array::from_fn(|step| largest * (1.0 - 0.05 * step as f32));
    let mut lost = [0.0; TRIED];
    // SAFETY: the instruction set is there.
    unsafe { losses_of_magnitudes(values, squares, &tried, &mut lost) };
    lost.into_iter().zip(tried).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0.0, |best| best.1)
}

multiversion! {
    /// What is lost of the values of a block with each of the magnitudes.
    fn losses_of_magnitudes(values: &[f32], squares: &[f32], tried: &[f32; TRIED], lost: &mut [f32; TRIED])
        = losses_of_magnitudes_body;
}

/// The loss of each is summed over the values in their order.
#[inline(always)]
unsafe fn losses_of_magnitudes_body<L: Lanes>(
    values: &[f32],
    squares: &[f32],
    tried: &[f32; TRIED],
    lost: &mut [f32; TRIED],
) {
    let bounds: [f32; LEVELS.len() - 1] = std::array::from_fn(|at| (LEVELS[at] + LEVELS[at + 1]) / 2.0);
    let mut terms = [[0.0; BLOCK]; TRIED];
    for (terms, magnitude) in terms.iter_mut().zip(tried) {
        let by = 1.0 / magnitude.max(1e-38);
        for ((term, value), square) in terms.iter_mut().zip(values).zip(squares) {
            let scaled = value * by;
            // As `nearest_level`, without a code in between.
            let mut level = LEVELS[0];
            for (bound, above) in bounds.iter().zip(&LEVELS[1..]) {
                level = if *bound < scaled { *above } else { level };
            }
            let lost = value - level * magnitude;
            *term = lost * lost * square;
        }
    }
    *lost = [0.0; TRIED];
    for at in 0..values.len() {
        for (lost, terms) in lost.iter_mut().zip(&terms) {
            *lost += terms[at];
        }
    }
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
    let mut targets = vec![0.0; rows * n];
    for (targets, values) in targets.chunks_exact_mut(n).zip(values.chunks_exact(inputs)) {
        targets.iter_mut().zip(&part.order).for_each(|(to, input)| *to = values[part.first + input]);
    }
    let mut lost = vec![0.0; rows * TOGETHER];
    for start in (0..n).step_by(TOGETHER) {
        let end = (start + TOGETHER).min(n);
        for row in 0..rows {
            let targets = &mut targets[row * n..][..n];
            let lost = &mut lost[row * TOGETHER..][..TOGETHER];
            for k in start..end {
                let index = row * inputs + part.first + part.order[k];
                let scale = scales[(place + index) / BLOCK];
                let code = nearest_level(targets[k] / scale.max(1e-38));
                codes[index] = code;
                lost[k - start] = values[index] - LEVELS[usize::from(code)] * scale;
                let (factor, to) = (&part.upper[k * n..][k + 1..end], &mut targets[k + 1..end]);
                // SAFETY: both are as long, and the instruction set is there.
                unsafe { move_by::<L>(to, factor, lost[k - start]) };
            }
        }
        // SAFETY: the columns lie inside of the factor and the targets, and the instruction set is there.
        unsafe { move_rest::<L>(&mut targets, &lost, &part.upper[start * n..end * n], n, end) };
    }
}

/// `to += lost * factor`
#[inline(always)]
unsafe fn move_by<L: Lanes>(to: &mut [f32], factor: &[f32], lost: f32) {
    // SAFETY: inside of `multiversion!` the instruction set is there; `factor` is as long as `to`, and no lane past
    // them is touched.
    unsafe {
        let lost = L::splat(lost);
        for at in (0..to.len()).step_by(L::WIDTH) {
            let count = L::WIDTH.min(to.len() - at);
            let place = to.as_mut_ptr().add(at);
            let moved = L::fma(lost, L::load_part(factor.as_ptr().add(at), count), L::load_part(place, count));
            L::store_part(place, count, moved);
        }
    }
}

/// Moves the columns from `end` on of all rows of `targets`, each `n` wide, by what these rows have `lost` in the columns
/// before, whose factors are the rows of `upper`: one after the other, as [`move_by`] would.
#[inline(always)]
unsafe fn move_rest<L: Lanes>(targets: &mut [f32], lost: &[f32], upper: &[f32], n: usize, end: usize) {
    let depth = upper.len() / n;
    for (rows, lost) in targets.chunks_mut(TILE * n).zip(lost.chunks(TILE * TOGETHER)) {
        let mut at = end;
        if rows.len() == TILE * n {
            // SAFETY: the rows have `n` columns each, of which two vectors from `at` on are left.
            unsafe {
                while at + 2 * L::WIDTH <= n {
                    let place = |row: usize, half: usize| rows.as_ptr().add(row * n + at + half * L::WIDTH);
                    let mut sums: [[L::V; 2]; TILE] =
                        std::array::from_fn(|row| [L::load(place(row, 0)), L::load(place(row, 1))]);
                    for k in 0..depth {
                        let factor = upper.as_ptr().add(k * n + at);
                        let factor = [L::load(factor), L::load(factor.add(L::WIDTH))];
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let lost = L::splat(*lost.get_unchecked(row * TOGETHER + k));
                            *sums = [L::fma(lost, factor[0], sums[0]), L::fma(lost, factor[1], sums[1])];
                        }
                    }
                    for (row, sums) in sums.into_iter().enumerate() {
                        let to = rows.as_mut_ptr().add(row * n + at);
                        L::store(to, sums[0]);
                        L::store(to.add(L::WIDTH), sums[1]);
                    }
                    at += 2 * L::WIDTH;
                }
            }
        }
        for (row, lost) in rows.chunks_exact_mut(n).zip(lost.chunks_exact(TOGETHER)) {
            for (k, lost) in lost[..depth].iter().enumerate() {
                // SAFETY: both are the columns from `at` on, and the instruction set is there.
                unsafe { move_by::<L>(&mut row[at..], &upper[k * n..][at..n], *lost) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantised::Quantisation;

    pub(super) fn values(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.7 + seed).sin() + 0.3 * (i as f32 * 1.9).cos()).collect()
    }

    /// `sum x x^T` of some rows.
    pub(super) fn gram(x: &[f32], inputs: usize) -> Vec<f32> {
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
        let fitted = Quantised::fitted(&weight, [outputs, inputs], &feedback);
        assert_eq!((fitted.shape(), fitted.bytes()), (nearest.shape(), nearest.bytes()));
        let (before, after) = (lost(&x, &weight, &nearest), lost(&x, &weight, &fitted));
        assert!(after < 0.2 * before, "{after} of {before}");
        let apart: Vec<f32> = (0..inputs * inputs).map(|i| if i % (inputs + 1) == 0 { 1.0 } else { 0.0 }).collect();
        let alone = Quantised::fitted(&weight, [outputs, inputs], &Feedback::new(inputs, &[apart], 0.01));
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
        let found =
            Quantised::fitted(&weight, [outputs, inputs], &Feedback::new(inputs, std::slice::from_ref(&gram), 0.05));
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
