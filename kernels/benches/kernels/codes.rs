//! Matrices in fewer bits: what a step does with their codes, and how these are chosen when a model is loaded.

use divan::{Bencher, black_box};
use kernels::{
    BLOCK, Feedback, LEVELS, PART, Packed, Precision, Quantisation, Quantised, SCALE_BLOCK, Scales, dynamic_map,
};

use crate::{HIDDEN, INNER, ROWS, assert_same, halved, naive, operations, values};

const BOTH: [Quantisation; 2] = [Quantisation::Int8, Quantisation::Nf4];

fn matrix(quantisation: Quantisation) -> Quantised {
    Quantised::new(&values(INNER * HIDDEN, 1), [INNER, HIDDEN], quantisation)
}

/// One value after the other, by the definition.
fn naive_values(matrix: &Quantised) -> Vec<f32> {
    let scale = |block: usize| match matrix.scales() {
        Scales::Plain(scales) => scales[block],
        Scales::Double { codes, largest, offset } => {
            dynamic_map()[usize::from(codes[block])] * largest[block / SCALE_BLOCK] + offset
        }
    };
    let value = |i: usize| match matrix.quantisation() {
        Quantisation::Int8 => f32::from(matrix.codes()[i] as i8) * scale(i / BLOCK) * PART,
        Quantisation::Nf4 => {
            let code = matrix.codes()[i / 2] >> if i.is_multiple_of(2) { 4 } else { 0 } & 15;
            LEVELS[usize::from(code)] * scale(i / BLOCK)
        }
    };
    (0..INNER * HIDDEN).map(value).collect()
}

/// Items are values.
mod dequantise {
    use super::*;

    #[divan::bench(args = BOTH, sample_count = 20)]
    fn ours(bencher: Bencher, quantisation: Quantisation) {
        let matrix = matrix(quantisation);
        bencher.counter(operations(HIDDEN * INNER)).bench_local(|| black_box(&matrix).dequantise());
    }

    #[divan::bench(args = BOTH, sample_count = 10)]
    fn naive(bencher: Bencher, quantisation: Quantisation) {
        let matrix = matrix(quantisation);
        let run = || naive_values(black_box(&matrix));
        assert_same(&matrix.dequantise(), &run());
        bencher.counter(operations(HIDDEN * INNER)).bench_local(run);
    }
}

/// `x W^T` with W in codes: the naive way is the matrix first, then the product.
mod product {
    use super::*;

    #[divan::bench(args = BOTH, sample_count = 20)]
    fn ours(bencher: Bencher, quantisation: Quantisation) {
        let weight = Packed::quantised(matrix(quantisation), Precision::Bf16);
        let x = halved(&values(ROWS * HIDDEN, 2));
        let bencher = bencher.counter(operations(2 * ROWS * HIDDEN * INNER));
        bencher.bench_local(|| kernels::product::<_, f32>(black_box(&x), ROWS, &weight));
    }

    #[divan::bench(args = BOTH, sample_count = 2)]
    fn naive(bencher: Bencher, quantisation: Quantisation) {
        let (matrix, x) = (matrix(quantisation), values(ROWS * HIDDEN, 2));
        let run = || naive::product(black_box(&x), &naive_values(&matrix), HIDDEN);
        let packed = Packed::quantised(matrix.clone(), Precision::F32);
        assert_same(&kernels::product::<_, f32>(&x[..], ROWS, &packed), &run());
        bencher.counter(operations(2 * ROWS * HIDDEN * INNER)).bench_local(run);
    }
}

/// `dy W` with W in codes.
mod product_back {
    use super::*;

    #[divan::bench(args = BOTH, sample_count = 20)]
    fn ours(bencher: Bencher, quantisation: Quantisation) {
        let weight = Packed::quantised(matrix(quantisation), Precision::Bf16);
        let dy = halved(&values(ROWS * INNER, 3));
        let bencher = bencher.counter(operations(2 * ROWS * HIDDEN * INNER));
        bencher.bench_local(|| kernels::product_transposed(black_box(&dy), ROWS, &weight));
    }

    #[divan::bench(args = BOTH, sample_count = 2)]
    fn naive(bencher: Bencher, quantisation: Quantisation) {
        let (matrix, dy) = (matrix(quantisation), values(ROWS * INNER, 3));
        let run = || naive::product_transposed(black_box(&dy), &naive_values(&matrix), HIDDEN);
        let packed = Packed::quantised(matrix.clone(), Precision::F32);
        assert_same(&kernels::product_transposed(&dy, ROWS, &packed), &run());
        bencher.counter(operations(2 * ROWS * HIDDEN * INNER)).bench_local(run);
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// The level that lies nearest.
fn nearest(value: f32) -> f32 {
    let distance = |level: &f32| (level - value).abs();
    LEVELS.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0.0)
}

/// Magnitudes of blocks as nf4 keeps them: less their mean, the nearest of 256 values in parts of the largest.
fn kept(magnitudes: &[f32]) -> Vec<f32> {
    let mean = magnitudes.iter().sum::<f32>() / magnitudes.len() as f32;
    let centred: Vec<f32> = magnitudes.iter().map(|magnitude| magnitude - mean).collect();
    let nearest = |value: f32| {
        let distance = |level: &f32| (level - value).abs();
        dynamic_map().iter().copied().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0.0)
    };
    let blocks = centred.chunks(SCALE_BLOCK).map(|block| (block, largest(block)));
    blocks
        .flat_map(|(block, largest)| block.iter().map(move |value| nearest(value / largest) * largest + mean))
        .collect()
}

/// The nearest codes. Items are values.
mod quantise {
    use super::*;

    #[divan::bench(args = BOTH, sample_count = 10)]
    fn ours(bencher: Bencher, quantisation: Quantisation) {
        let values = values(INNER * HIDDEN, 1);
        let run = || Quantised::new(black_box(&values), [INNER, HIDDEN], quantisation);
        bencher.counter(operations(HIDDEN * INNER)).bench_local(run);
    }

    /// Gives the values that the codes stand for.
    #[divan::bench(args = BOTH, sample_count = 5)]
    fn naive(bencher: Bencher, quantisation: Quantisation) {
        let values = values(INNER * HIDDEN, 1);
        let run = || {
            let magnitudes: Vec<f32> = black_box(&values).chunks(BLOCK).map(largest).collect();
            let blocks = values.chunks(BLOCK).zip(&magnitudes);
            match quantisation {
                Quantisation::Int8 => {
                    let block = |(block, largest): (&[f32], &f32)| {
                        block
                            .iter()
                            .map(|value| (value / largest * 127.0).round() / 127.0 * largest)
                            .collect::<Vec<_>>()
                    };
                    blocks.flat_map(block).collect::<Vec<f32>>()
                }
                Quantisation::Nf4 => {
                    let block = |((block, largest), kept): ((&[f32], &f32), f32)| {
                        block.iter().map(|value| nearest(value / largest) * kept).collect::<Vec<_>>()
                    };
                    blocks.zip(kept(&magnitudes)).flat_map(block).collect()
                }
            }
        };
        assert_mostly_same(&matrix(quantisation).dequantise(), &run());
        bencher.counter(operations(HIDDEN * INNER)).bench_local(run);
    }
}

/// As [`assert_same`], but for a few values that lie in the middle of two codes, where rounding decides.
fn assert_mostly_same(found: &[f32], naive: &[f32]) {
    let different = found.iter().zip(naive).filter(|(a, b)| (*a - *b).abs() > 1e-3).count();
    assert!(found.len() == naive.len() && different < found.len() / 1000, "{different} of {}", found.len());
}

/// Sums of products of inputs that go together, as hidden states do.
fn gram() -> Vec<f32> {
    let (own, shared) = (values(2 * HIDDEN * HIDDEN, 5), values(2 * HIDDEN, 6));
    let x: Vec<f32> = own.iter().enumerate().map(|(i, own)| own + shared[i / HIDDEN]).collect();
    naive::outer(&x, HIDDEN, &x, HIDDEN)
}

const DAMPING: f64 = 0.01;

/// The factor `U` of `G = (I + U) D (I + U)^T`, by elimination, and the order in which inputs are rounded.
fn naive_factor(gram: &[f32]) -> (Vec<usize>, Vec<Vec<f64>>) {
    let mean = (0..HIDDEN).map(|i| f64::from(gram[i * HIDDEN + i])).sum::<f64>() / HIDDEN as f64;
    let mut order: Vec<usize> = (0..HIDDEN).collect();
    order.sort_by(|a, b| gram[b * HIDDEN + b].total_cmp(&gram[a * HIDDEN + a]));
    let raised = |i: usize, j: usize| f64::from(gram[i * HIDDEN + j]) + if i == j { DAMPING * mean } else { 0.0 };
    let mut rest: Vec<Vec<f64>> = order.iter().map(|i| order.iter().map(|j| raised(*i, *j)).collect()).collect();
    let mut upper = vec![vec![0.0; HIDDEN]; HIDDEN];
    for k in (0..HIDDEN).rev() {
        for i in 0..k {
            upper[i][k] = rest[i][k] / rest[k][k];
            let (own, eliminated) = (&upper[i][k], rest[k].clone());
            rest[i][..k].iter_mut().zip(eliminated).for_each(|(value, of_k)| *value -= own * of_k);
        }
    }
    (order, upper)
}

/// What the codes of a matrix lose is made good by those after them: the factor of an input's sums.
mod feedback {
    use super::*;

    #[divan::bench(sample_count = 5)]
    fn ours(bencher: Bencher) {
        let gram = [gram()];
        bencher.bench_local(|| Feedback::new(HIDDEN, black_box(&gram), DAMPING));
    }

    #[divan::bench(sample_count = 3)]
    fn naive(bencher: Bencher) {
        let gram = gram();
        bencher.bench_local(|| naive_factor(black_box(&gram)));
    }
}

/// Codes that are fitted to inputs. Items are values.
mod fitted {
    use super::*;

    #[divan::bench(sample_count = 5)]
    fn ours(bencher: Bencher) {
        let (values, feedback) = (values(INNER * HIDDEN, 1), Feedback::new(HIDDEN, &[gram()], DAMPING));
        let run = || Quantised::fitted(black_box(&values), [INNER, HIDDEN], &feedback);
        bencher.counter(operations(HIDDEN * INNER)).bench_local(run);
    }

    /// Gives the values that the codes stand for.
    #[divan::bench(sample_count = 1)]
    fn naive(bencher: Bencher) {
        let (values, gram) = (values(INNER * HIDDEN, 1), gram());
        let (order, upper) = naive_factor(&gram);
        let mean = (0..HIDDEN).map(|i| gram[i * HIDDEN + i]).sum::<f32>() / HIDDEN as f32;
        let square = |i: usize| gram[i % HIDDEN * (HIDDEN + 1)] + DAMPING as f32 * mean;
        let magnitude = |(index, block): (usize, &[f32])| {
            let lost = |magnitude: f32| {
                let lost = |(i, value): (usize, &f32)| {
                    (value - nearest(value / magnitude) * magnitude).powi(2) * square(index * BLOCK + i)
                };
                block.iter().enumerate().map(lost).sum::<f32>()
            };
            let tried = (0..=8).map(|step| largest(block) * (1.0 - 0.05 * step as f32));
            tried.min_by(|a, b| lost(*a).total_cmp(&lost(*b))).unwrap_or(0.0)
        };
        let run = || {
            let magnitudes: Vec<f32> = black_box(&values).chunks(BLOCK).enumerate().map(magnitude).collect();
            let scales = kept(&magnitudes);
            let mut found = vec![0.0; values.len()];
            for (row, (found, values)) in found.chunks_mut(HIDDEN).zip(values.chunks(HIDDEN)).enumerate() {
                for (k, at) in order.iter().enumerate() {
                    let lost = |j: usize| f64::from(values[order[j]] - found[order[j]]);
                    let moved = f64::from(values[*at]) + (0..k).map(|j| lost(j) * upper[j][k]).sum::<f64>();
                    let scale = scales[(row * HIDDEN + at) / BLOCK];
                    found[*at] = nearest(moved as f32 / scale) * scale;
                }
            }
            found
        };
        let feedback = Feedback::new(HIDDEN, std::slice::from_ref(&gram), DAMPING);
        let found = Quantised::fitted(&values, [INNER, HIDDEN], &feedback).dequantise();
        // A value in the middle of two codes moves all of its row after it.
        let naive = run();
        let same = found.iter().zip(&naive).filter(|(a, b)| (*a - *b).abs() < 1e-3).count();
        assert!(same > found.len() * 9 / 10, "{same} of {}", found.len());
        bencher.counter(operations(HIDDEN * INNER)).bench_local(run);
    }
}
