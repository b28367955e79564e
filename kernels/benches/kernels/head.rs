//! Softmax and cross-entropy of a chunk of the head's logits.

use divan::{Bencher, black_box};
use kernels::bf16;

use crate::{assert_same, values};

const VOCABULARY: usize = 49_152;
/// Rows of a chunk.
const TOKENS: usize = 170;

fn logits() -> Vec<f32> {
    values(TOKENS * VOCABULARY, 1).iter().map(|value| 8.0 * value).collect()
}

fn targets() -> Vec<u32> {
    (0..TOKENS as u32).map(|row| row * 277 % VOCABULARY as u32).collect()
}

/// A row's probabilities and the log of the sum of its exponentials.
fn softmax(row: &[f32]) -> (Vec<f32>, f32) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f32> = row.iter().map(|x| (x - largest).exp()).collect();
    let sum: f32 = e.iter().sum();
    (e.iter().map(|e| e / sum).collect(), largest + sum.ln())
}

/// The nll of each row's target, the entropy, and the log of the sum of exponentials.
mod statistics {
    use super::*;

    #[divan::bench(sample_count = 10)]
    fn ours(bencher: Bencher) {
        let (logits, targets) = (logits(), targets());
        bencher.bench_local(|| kernels::softmax_statistics(black_box(&logits), VOCABULARY, &targets));
    }

    #[divan::bench(sample_count = 3)]
    fn naive(bencher: Bencher) {
        let (logits, targets) = (logits(), targets());
        let run = || {
            let rows = black_box(&logits).chunks(VOCABULARY).zip(&targets);
            let rows = rows.map(|(row, target)| {
                let (probabilities, log_sum) = softmax(row);
                let logs: Vec<f32> = row.iter().map(|x| x - log_sum).collect();
                let terms: Vec<f32> = probabilities.iter().zip(&logs).map(|(p, log)| p * log).collect();
                [-logs[*target as usize], -terms.iter().sum::<f32>(), log_sum]
            });
            rows.collect::<Vec<_>>()
        };
        let (found, naive) = (kernels::softmax_statistics(&logits, VOCABULARY, &targets), run());
        let log_sum =
            found.sums.largest.iter().zip(&found.sums.above).map(|(largest, above)| largest + above).collect();
        for (index, found) in [found.nll, found.entropy, log_sum].iter().enumerate() {
            assert_same(found, &naive.iter().map(|row| row[index]).collect::<Vec<_>>());
        }
        bencher.bench_local(run);
    }
}

/// `weight * (softmax - onehot)`
mod gradient {
    use super::*;

    fn inputs() -> (Vec<f32>, Vec<u32>, kernels::LogSums, Vec<f32>) {
        let (logits, targets) = (logits(), targets());
        let log_sums = kernels::softmax_statistics(&logits, VOCABULARY, &targets).sums;
        (logits, targets, log_sums, values(TOKENS, 2))
    }

    #[divan::bench(sample_count = 10)]
    fn ours(bencher: Bencher) {
        let (logits, targets, log_sums, weights) = inputs();
        let run = || {
            kernels::logits_gradient::<bf16>(
                black_box(&logits),
                VOCABULARY,
                &targets,
                &log_sums,
                &weights,
                kernels::Bend::NONE,
                kernels::More::default(),
            )
        };
        bencher.bench_local(run);
    }

    #[divan::bench(sample_count = 3)]
    fn naive(bencher: Bencher) {
        let (logits, targets, log_sums, weights) = inputs();
        let run = || {
            let row = |(row, (target, weight)): (&[f32], (&u32, &f32))| {
                let (mut gradient, _) = softmax(row);
                gradient[*target as usize] -= 1.0;
                gradient.iter().map(|value| value * weight).collect::<Vec<f32>>()
            };
            black_box(&logits).chunks(VOCABULARY).zip(targets.iter().zip(&weights)).flat_map(row).collect::<Vec<f32>>()
        };
        let (bend, more) = (kernels::Bend::NONE, kernels::More::default());
        let found = kernels::logits_gradient::<f32>(&logits, VOCABULARY, &targets, &log_sums, &weights, bend, more);
        assert_same(&found, &run());
        bencher.bench_local(run);
    }
}

/// `cap * tanh(logit / cap)`, as Gemma has it.
mod cap {
    use super::*;

    const CAP: f32 = 30.0;

    #[divan::bench(sample_count = 10)]
    fn ours(bencher: Bencher) {
        let mut logits = logits();
        bencher.bench_local(|| kernels::scale_and_cap(black_box(&mut logits), 0.5, Some(CAP)));
    }

    #[divan::bench(sample_count = 3)]
    fn naive(bencher: Bencher) {
        let logits = logits();
        let run = || {
            let scaled: Vec<f32> = black_box(&logits).iter().map(|x| x * 0.5).collect();
            scaled.iter().map(|x| CAP * (x / CAP).tanh()).collect::<Vec<f32>>()
        };
        let mut found = logits.clone();
        kernels::scale_and_cap(&mut found, 0.5, Some(CAP));
        assert_same(&found, &run());
        bencher.bench_local(run);
    }
}
