//! Each hot function beside the naive version of it, at the shapes of SmolLM2-135M with 4 x 256 tokens.
//!
//! `cargo bench -p kernels`; the column `fastest` is the one to read on a machine that others use too.

use divan::{Bencher, black_box};
use kernels::{AttentionShape, Dropped, Factors, Packed, Part, Precision, Quantisation, Quantised, bf16};

fn main() {
    divan::main();
}

const ROWS: usize = 1024;
const HIDDEN: usize = 576;
const INNER: usize = 1536;

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.7).sin()).collect()
}

fn counter(operations: usize) -> divan::counter::ItemsCount {
    divan::counter::ItemsCount::new(operations)
}

/// Products with a frozen matrix; items are floating-point operations.
mod product {
    use super::*;

    #[divan::bench(args = [Precision::F32, Precision::Bf16], sample_count = 20)]
    fn packed(bencher: Bencher, precision: Precision) {
        let (x, w) = (values(ROWS * HIDDEN), values(INNER * HIDDEN));
        let weight = Packed::new(&w, [INNER, HIDDEN], (HIDDEN, 1), 1.0, precision);
        let bencher = bencher.counter(counter(2 * ROWS * HIDDEN * INNER));
        match precision {
            Precision::F32 => bencher.bench_local(|| kernels::product::<f32, f32>(black_box(&x), ROWS, &weight)),
            Precision::Bf16 => {
                let x: Vec<bf16> = kernels::convert(&x);
                bencher.bench_local(|| kernels::product::<bf16, f32>(black_box(&x), ROWS, &weight));
            }
        }
    }

    #[divan::bench(args = [Precision::F32, Precision::Bf16], sample_count = 20)]
    fn packed_back(bencher: Bencher, precision: Precision) {
        let (dy, w) = (values(ROWS * INNER), values(INNER * HIDDEN));
        let weight = Packed::new(&w, [INNER, HIDDEN], (HIDDEN, 1), 1.0, precision);
        let bencher = bencher.counter(counter(2 * ROWS * HIDDEN * INNER));
        match precision {
            Precision::F32 => bencher.bench_local(|| kernels::product_transposed(black_box(&dy), ROWS, &weight)),
            Precision::Bf16 => {
                let dy: Vec<bf16> = kernels::convert(&dy);
                bencher.bench_local(|| kernels::product_transposed(black_box(&dy), ROWS, &weight));
            }
        }
    }

    fn in_codes(quantisation: Quantisation) -> Packed {
        let matrix = Quantised::new(&values(INNER * HIDDEN), [INNER, HIDDEN], quantisation);
        Packed::quantised(matrix, Precision::Bf16)
    }

    #[divan::bench(args = [Quantisation::Int8, Quantisation::Nf4], sample_count = 20)]
    fn codes(bencher: Bencher, quantisation: Quantisation) {
        let (x, weight): (Vec<bf16>, _) = (kernels::convert(&values(ROWS * HIDDEN)), in_codes(quantisation));
        let bencher = bencher.counter(counter(2 * ROWS * HIDDEN * INNER));
        bencher.bench_local(|| kernels::product::<bf16, f32>(black_box(&x), ROWS, &weight));
    }

    #[divan::bench(args = [Quantisation::Int8, Quantisation::Nf4], sample_count = 20)]
    fn codes_back(bencher: Bencher, quantisation: Quantisation) {
        let (dy, weight): (Vec<bf16>, _) = (kernels::convert(&values(ROWS * INNER)), in_codes(quantisation));
        let bencher = bencher.counter(counter(2 * ROWS * HIDDEN * INNER));
        bencher.bench_local(|| kernels::product_transposed(black_box(&dy), ROWS, &weight));
    }

    /// Items are values.
    #[divan::bench(args = [Quantisation::Int8, Quantisation::Nf4], sample_count = 20)]
    fn dequantise(bencher: Bencher, quantisation: Quantisation) {
        let matrix = Quantised::new(&values(INNER * HIDDEN), [INNER, HIDDEN], quantisation);
        bencher.counter(counter(HIDDEN * INNER)).bench_local(|| black_box(&matrix).dequantise());
    }

    #[divan::bench(sample_count = 2)]
    fn naive(bencher: Bencher) {
        let (x, w) = (values(ROWS * HIDDEN), values(INNER * HIDDEN));
        bencher.counter(counter(2 * ROWS * HIDDEN * INNER)).bench_local(|| {
            let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
            let rows = black_box(&x).chunks(HIDDEN);
            rows.flat_map(|x| w.chunks(HIDDEN).map(move |w| dot(x, w))).collect::<Vec<f32>>()
        });
    }

    #[divan::bench(sample_count = 20)]
    fn weight_gradient(bencher: Bencher) {
        let (u, x) = (values(ROWS * 16), values(ROWS * INNER));
        let x: Vec<bf16> = kernels::convert(&x);
        bencher
            .counter(counter(2 * ROWS * 16 * INNER))
            .bench_local(|| kernels::outer(ROWS, (black_box(&u), 16, 0..16), (&x, INNER, 0..INNER)));
    }
}

/// Gate and up with adapters of rank 16.
mod projection {
    use super::*;

    fn with_parts<R>(precision: Precision, run: impl FnOnce(&[Part]) -> R) -> R {
        let (w, a, b) = (values(INNER * HIDDEN), values(16 * HIDDEN), values(INNER * 16));
        let weight = Packed::new(&w, [INNER, HIDDEN], (HIDDEN, 1), 1.0, precision);
        let factors = Some(Factors { a: &a, b: &b, scale: 2.0 });
        let part = Part { weight: &weight, bias: None, factors, dropped: Dropped::Nothing };
        run(&[part, part])
    }

    #[divan::bench(sample_count = 20)]
    fn forward(bencher: Bencher) {
        let x: Vec<bf16> = kernels::convert(&values(ROWS * HIDDEN));
        let bencher = bencher.counter(counter(4 * ROWS * (HIDDEN * INNER + 16 * (HIDDEN + INNER))));
        with_parts(Precision::Bf16, |parts| {
            bencher.bench_local(|| kernels::project::<bf16, bf16>(black_box(&x), ROWS, parts, None));
        });
    }

    #[divan::bench(sample_count = 20)]
    fn backward(bencher: Bencher) {
        let x: Vec<bf16> = kernels::convert(&values(ROWS * HIDDEN));
        let dy: Vec<bf16> = kernels::convert(&values(ROWS * 2 * INNER));
        let low = values(ROWS * 32);
        let bencher = bencher.counter(counter(4 * ROWS * (HIDDEN * INNER + 3 * 16 * (HIDDEN + INNER))));
        with_parts(Precision::Bf16, |parts| {
            bencher.bench_local(|| kernels::project_backward(black_box(&x), ROWS, parts, &low, &dy, true));
        });
    }
}

mod norm {
    use super::*;

    #[divan::bench(sample_count = 20)]
    fn fused(bencher: Bencher) {
        let (x, weight) = (values(ROWS * HIDDEN), values(HIDDEN));
        bencher.bench_local(|| kernels::rms_norm::<f32, f32>(black_box(&x), &weight, 1e-5));
    }

    #[divan::bench(sample_count = 20)]
    fn fused_back(bencher: Bencher) {
        let (x, weight) = (values(ROWS * HIDDEN), values(HIDDEN));
        bencher.bench_local(|| kernels::rms_norm_backward(black_box(&x), &weight, &x, 1e-5, false));
    }

    #[divan::bench(sample_count = 20)]
    fn naive(bencher: Bencher) {
        let (x, weight) = (values(ROWS * HIDDEN), values(HIDDEN));
        bencher.bench_local(|| {
            let squares: Vec<f32> = black_box(&x).iter().map(|x| x * x).collect();
            let roots: Vec<f32> =
                squares.chunks(HIDDEN).map(|r| (r.iter().sum::<f32>() / HIDDEN as f32 + 1e-5).sqrt()).collect();
            let divided: Vec<f32> = x.iter().enumerate().map(|(i, x)| x / roots[i / HIDDEN]).collect();
            divided.iter().enumerate().map(|(i, x)| x * weight[i % HIDDEN]).collect::<Vec<f32>>()
        });
    }
}

mod swiglu {
    use super::*;

    #[divan::bench(sample_count = 20)]
    fn fused(bencher: Bencher) {
        let gate_up: Vec<bf16> = kernels::convert(&values(ROWS * 2 * INNER));
        bencher.bench_local(|| kernels::swiglu(black_box(&gate_up), INNER));
    }

    #[divan::bench(sample_count = 20)]
    fn fused_back(bencher: Bencher) {
        let gate_up: Vec<bf16> = kernels::convert(&values(ROWS * 2 * INNER));
        let gradient = values(ROWS * INNER);
        bencher.bench_local(|| kernels::swiglu_backward(black_box(&gate_up), &gradient, INNER));
    }

    #[divan::bench(sample_count = 10)]
    fn naive(bencher: Bencher) {
        let gate_up = values(ROWS * 2 * INNER);
        bencher.bench_local(|| {
            let rows = black_box(&gate_up).chunks(2 * INNER);
            rows.flat_map(|row| (0..INNER).map(|i| row[i] / (1.0 + (-row[i]).exp()) * row[INNER + i]))
                .collect::<Vec<f32>>()
        });
    }
}

mod cross_entropy {
    use super::*;

    const VOCABULARY: usize = 49_152;
    const TOKENS: usize = 170;

    #[divan::bench(sample_count = 10)]
    fn fused(bencher: Bencher) {
        let (logits, targets) = (values(TOKENS * VOCABULARY), vec![7; TOKENS]);
        bencher.bench_local(|| kernels::softmax_statistics(black_box(&logits), VOCABULARY, &targets));
    }

    #[divan::bench(sample_count = 10)]
    fn fused_gradient(bencher: Bencher) {
        let (logits, targets, ones) = (values(TOKENS * VOCABULARY), vec![7; TOKENS], vec![1.0; TOKENS]);
        bencher.bench_local(|| {
            kernels::logits_gradient::<bf16>(black_box(&logits), VOCABULARY, &targets, &ones, &ones, None)
        });
    }

    #[divan::bench(sample_count = 3)]
    fn naive(bencher: Bencher) {
        let logits = values(TOKENS * VOCABULARY);
        bencher.bench_local(|| {
            let rows = black_box(&logits).chunks(VOCABULARY);
            rows.map(|row| {
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let e: Vec<f32> = row.iter().map(|x| (x - largest).exp()).collect();
                let sum: f32 = e.iter().sum();
                e.into_iter().map(|e| e / sum).collect::<Vec<f32>>()
            })
            .collect::<Vec<_>>()
        });
    }
}

mod attention {
    use super::*;

    fn shape(batch: usize, positions: usize) -> AttentionShape {
        AttentionShape { batch, positions, ..AttentionShape::new(9, 3, 64) }
    }

    #[divan::bench(args = [(4, 256), (1, 1024), (1, 2048)], sample_count = 10)]
    fn blocks(bencher: Bencher, (batch, positions): (usize, usize)) {
        let qkv: Vec<bf16> = kernels::convert(&values(batch * positions * 960));
        let table = values(positions * 32);
        bencher.bench_local(|| kernels::attention(shape(batch, positions), None, black_box(&qkv), &table, &table));
    }

    #[divan::bench(args = [(4, 256), (1, 1024), (1, 2048)], sample_count = 10)]
    fn blocks_back(bencher: Bencher, (batch, positions): (usize, usize)) {
        let qkv: Vec<bf16> = kernels::convert(&values(batch * positions * 960));
        let table = values(positions * 32);
        let shape = shape(batch, positions);
        let (out, sums) = kernels::attention(shape, None, &qkv, &table, &table);
        bencher.bench_local(|| {
            kernels::attention_backward(shape, None, black_box(&qkv), &table, &table, &out, &sums, &out)
        });
    }

    /// One query after the other, every score of a head in memory.
    #[divan::bench(args = [(4, 256)], sample_count = 2)]
    fn naive(bencher: Bencher, (batch, positions): (usize, usize)) {
        let qkv = values(batch * positions * 960);
        bencher.bench_local(|| {
            let qkv = black_box(&qkv);
            let at = |row: usize, p: usize, head: usize| &qkv[(row * positions + p) * 960 + head * 64..][..64];
            let mut out = Vec::new();
            for (row, head) in (0..batch).flat_map(|row| (0..9).map(move |head| (row, head))) {
                for query in 0..positions {
                    let q = at(row, query, head);
                    let dot = |k: &[f32]| q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>() / 8.0;
                    let e: Vec<f32> = (0..=query).map(|key| dot(at(row, key, 9 + head / 3)).exp()).collect();
                    let sum: f32 = e.iter().sum();
                    out.extend((0..64).map(|i| {
                        let terms = e.iter().enumerate().map(|(key, e)| e * at(row, key, 12 + head / 3)[i]);
                        terms.sum::<f32>() / sum
                    }));
                }
            }
            out
        });
    }
}

mod adamw {
    use super::*;

    const LENGTH: usize = 4_884_480;

    #[divan::bench(sample_count = 10)]
    fn fused(bencher: Bencher) {
        let (mut w, g, mut m, mut v) = (values(LENGTH), values(LENGTH), vec![0.0; LENGTH], vec![0.0; LENGTH]);
        let step = kernels::AdamWStep {
            gradient_scale: 1.0,
            betas: [0.9, 0.999],
            shares: [0.1, 0.001],
            rate: 1e-3,
            root_scale: 1.0,
            epsilon: 1e-8,
            decay: 1e-3,
        };
        bencher.bench_local(|| kernels::adamw(&mut w, black_box(&g), &mut m, &mut v, &[], &step));
    }

    #[divan::bench(sample_count = 5)]
    fn naive(bencher: Bencher) {
        let (w, g, m, v) = (values(LENGTH), values(LENGTH), vec![0.0f32; LENGTH], vec![0.0f32; LENGTH]);
        bencher.bench_local(|| {
            let m: Vec<f32> = m.iter().zip(black_box(&g)).map(|(m, g)| 0.9 * m + 0.1 * g).collect();
            let v: Vec<f32> = v.iter().zip(&g).map(|(v, g)| 0.999 * v + 0.001 * g * g).collect();
            let roots: Vec<f32> = v.iter().map(|v| v.sqrt() + 1e-8).collect();
            let moved: Vec<f32> = m.iter().zip(&roots).map(|(m, root)| 1e-3 * m / root).collect();
            w.iter().zip(moved).map(|(w, moved)| w - moved).collect::<Vec<f32>>()
        });
    }
}
