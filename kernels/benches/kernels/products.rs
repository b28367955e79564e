//! Products with frozen matrices, and with adapters beside them.

use divan::{Bencher, black_box};
use kernels::{Dropped, Factors, Packed, Part, Precision};

use crate::{HIDDEN, INNER, RANK, ROWS, assert_same, halved, naive, operations, values};

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

fn packed(weight: &[f32], precision: Precision) -> Packed {
    Packed::new(weight, [INNER, HIDDEN], (HIDDEN, 1), 1.0, precision)
}

/// `x W^T`
mod product {
    use super::*;

    #[divan::bench(args = PRECISIONS, sample_count = 20)]
    fn ours(bencher: Bencher, precision: Precision) {
        let x = values(ROWS * HIDDEN, 1);
        let weight = packed(&values(INNER * HIDDEN, 2), precision);
        let bencher = bencher.counter(operations(2 * ROWS * HIDDEN * INNER));
        match precision {
            Precision::F32 => bencher.bench_local(|| kernels::product::<f32, f32>(black_box(&x), ROWS, &weight)),
            Precision::Bf16 => {
                let x = halved(&x);
                bencher.bench_local(|| kernels::product::<_, f32>(black_box(&x), ROWS, &weight));
            }
        }
    }

    #[divan::bench(sample_count = 2)]
    fn naive(bencher: Bencher) {
        let (x, w) = (values(ROWS * HIDDEN, 1), values(INNER * HIDDEN, 2));
        let run = || naive::product(black_box(&x), &w, HIDDEN);
        assert_same(&kernels::product::<f32, f32>(&x, ROWS, &packed(&w, Precision::F32)), &run());
        bencher.counter(operations(2 * ROWS * HIDDEN * INNER)).bench_local(run);
    }
}

/// `dy W`, the way back to the input.
mod product_back {
    use super::*;

    #[divan::bench(args = PRECISIONS, sample_count = 20)]
    fn ours(bencher: Bencher, precision: Precision) {
        let dy = values(ROWS * INNER, 3);
        let weight = packed(&values(INNER * HIDDEN, 2), precision);
        let bencher = bencher.counter(operations(2 * ROWS * HIDDEN * INNER));
        match precision {
            Precision::F32 => bencher.bench_local(|| kernels::product_transposed(black_box(&dy), ROWS, &weight)),
            Precision::Bf16 => {
                let dy = halved(&dy);
                bencher.bench_local(|| kernels::product_transposed(black_box(&dy), ROWS, &weight));
            }
        }
    }

    #[divan::bench(sample_count = 2)]
    fn naive(bencher: Bencher) {
        let (dy, w) = (values(ROWS * INNER, 3), values(INNER * HIDDEN, 2));
        let run = || naive::product_transposed(black_box(&dy), &w, HIDDEN);
        assert_same(&kernels::product_transposed(&dy, ROWS, &packed(&w, Precision::F32)), &run());
        bencher.counter(operations(2 * ROWS * HIDDEN * INNER)).bench_local(run);
    }
}

/// `u^T x`, the gradient of an adapter's factor.
mod weight_gradient {
    use super::*;

    #[divan::bench(sample_count = 20)]
    fn ours(bencher: Bencher) {
        let (u, x) = (values(ROWS * RANK, 4), halved(&values(ROWS * INNER, 5)));
        let run = || kernels::outer(ROWS, (black_box(&u), RANK, 0..RANK), (&x, INNER, 0..INNER));
        bencher.counter(operations(2 * ROWS * RANK * INNER)).bench_local(run);
    }

    #[divan::bench(sample_count = 10)]
    fn naive(bencher: Bencher) {
        let (u, x) = (values(ROWS * RANK, 4), values(ROWS * INNER, 5));
        let run = || naive::outer(black_box(&u), RANK, &x, INNER);
        assert_same(&kernels::outer(ROWS, (&u, RANK, 0..RANK), (&x, INNER, 0..INNER)), &run());
        bencher.counter(operations(2 * ROWS * RANK * INNER)).bench_local(run);
    }
}

/// Two matrices of one input with an adapter each, as gate and up are.
struct Projections {
    /// `[INNER, HIDDEN]`, `[RANK, HIDDEN]` and `[INNER, RANK]` of both.
    matrices: [[Vec<f32>; 3]; 2],
    packed: Vec<Packed>,
}

const SCALE: f32 = 2.0;

impl Projections {
    fn new(precision: Precision) -> Self {
        let matrices = [10, 20].map(|seed| {
            [values(INNER * HIDDEN, seed), values(RANK * HIDDEN, seed + 1), values(INNER * RANK, seed + 2)]
        });
        let packed = matrices.iter().map(|[weight, ..]| packed(weight, precision)).collect();
        Self { matrices, packed }
    }

    fn parts(&self) -> Vec<Part<'_>> {
        let both = self.matrices.iter().zip(&self.packed);
        both.map(|([_, a, b], weight)| Part {
            weight,
            bias: None,
            factors: Some(Factors { a, b, scale: SCALE }),
            dropped: Dropped::Nothing,
        })
        .collect()
    }

    /// A product, the adapter's two, their sum; and the outputs side by side.
    fn naive(&self, x: &[f32]) -> Vec<f32> {
        let outputs = self.matrices.each_ref().map(|[weight, a, b]| {
            let update = naive::product(&naive::product(x, a, HIDDEN), b, RANK);
            let plain = naive::product(x, weight, HIDDEN);
            plain.iter().zip(update).map(|(plain, update)| plain + SCALE * update).collect::<Vec<f32>>()
        });
        let rows = outputs[0].chunks(INNER).zip(outputs[1].chunks(INNER));
        rows.flat_map(|(gate, up)| gate.iter().chain(up).copied()).collect()
    }

    /// The gradients of the input, and of A and B of both.
    fn naive_back(&self, x: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<[Vec<f32>; 2]>) {
        let mut input = vec![0.0; x.len()];
        let mut factors = Vec::new();
        for (index, [weight, a, b]) in self.matrices.iter().enumerate() {
            let own = gradient.chunks(2 * INNER).flat_map(|row| row[index * INNER..][..INNER].iter().copied());
            let dy: Vec<f32> = own.collect();
            let low = naive::product(x, a, HIDDEN);
            let scaled: Vec<f32> = dy.iter().map(|value| SCALE * value).collect();
            let low_gradient = naive::product_transposed(&scaled, b, RANK);
            factors.push([naive::outer(&low_gradient, RANK, x, HIDDEN), naive::outer(&scaled, INNER, &low, RANK)]);
            let through_weight = naive::product_transposed(&dy, weight, HIDDEN);
            let through_adapter = naive::product_transposed(&low_gradient, a, HIDDEN);
            let sums = input.iter_mut().zip(through_weight.iter().zip(through_adapter));
            sums.for_each(|(sum, (weight, adapter))| *sum += weight + adapter);
        }
        (input, factors)
    }
}

/// `x W^T + s (x A^T) B^T` of gate and up.
mod projection {
    use super::*;

    const OPERATIONS: usize = 4 * ROWS * (HIDDEN * INNER + RANK * (HIDDEN + INNER));

    #[divan::bench(args = PRECISIONS, sample_count = 20)]
    fn ours(bencher: Bencher, precision: Precision) {
        let (x, projections) = (values(ROWS * HIDDEN, 6), Projections::new(precision));
        let (bencher, parts) = (bencher.counter(operations(OPERATIONS)), projections.parts());
        match precision {
            Precision::F32 => {
                bencher.bench_local(|| kernels::project::<_, f32>(black_box(&x[..]), ROWS, &parts, None));
            }
            Precision::Bf16 => {
                let x = halved(&x);
                bencher.bench_local(|| kernels::project::<_, kernels::bf16>(black_box(&x[..]), ROWS, &parts, None));
            }
        }
    }

    #[divan::bench(sample_count = 1)]
    fn naive(bencher: Bencher) {
        let (x, projections) = (values(ROWS * HIDDEN, 6), Projections::new(Precision::F32));
        let run = || projections.naive(black_box(&x));
        assert_same(&kernels::project::<_, f32>(&x[..], ROWS, &projections.parts(), None).0, &run());
        bencher.counter(operations(OPERATIONS)).bench_local(run);
    }
}

/// The gradients of input and adapters of gate and up.
mod projection_back {
    use super::*;

    const OPERATIONS: usize = 4 * ROWS * (HIDDEN * INNER + 2 * RANK * (HIDDEN + INNER));

    #[divan::bench(args = PRECISIONS, sample_count = 20)]
    fn ours(bencher: Bencher, precision: Precision) {
        let (x, gradient) = (values(ROWS * HIDDEN, 6), values(ROWS * 2 * INNER, 7));
        let (low, projections) = (values(ROWS * 2 * RANK, 8), Projections::new(precision));
        let (bencher, parts) = (bencher.counter(operations(OPERATIONS)), projections.parts());
        match precision {
            Precision::F32 => bencher
                .bench_local(|| kernels::project_backward(black_box(&x[..]), ROWS, &parts, &low, &gradient[..], true)),
            Precision::Bf16 => {
                let (x, gradient) = (halved(&x), halved(&gradient));
                bencher.bench_local(|| {
                    kernels::project_backward(black_box(&x[..]), ROWS, &parts, &low, &gradient[..], true)
                });
            }
        }
    }

    #[divan::bench(sample_count = 1)]
    fn naive(bencher: Bencher) {
        let (x, gradient) = (values(ROWS * HIDDEN, 6), values(ROWS * 2 * INNER, 7));
        let projections = Projections::new(Precision::F32);
        let run = || projections.naive_back(black_box(&x), &gradient);
        let parts = projections.parts();
        let (_, low) = kernels::project::<_, f32>(&x[..], ROWS, &parts, None);
        let found = kernels::project_backward(&x[..], ROWS, &parts, &low, &gradient[..], true);
        let (input, factors) = run();
        assert_same(&found.input.expect("it was asked for"), &input);
        for (found, [da, db]) in found.factors.iter().zip(factors) {
            let (found_a, found_b) = found.as_ref().expect("both have an adapter");
            assert_same(found_a, &da);
            assert_same(found_b, &db);
        }
        bencher.counter(operations(OPERATIONS)).bench_local(run);
    }
}
