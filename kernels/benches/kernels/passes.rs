//! Passes over activations and over the trained values.

use divan::{Bencher, black_box};
use kernels::bf16;

use crate::{HIDDEN, INNER, ROWS, assert_same, halved, values};

const EPSILON: f32 = 1e-5;

/// `x / sqrt(mean(x^2) + eps) * w`
mod rms_norm {
    use super::*;

    #[divan::bench(sample_count = 20)]
    fn ours(bencher: Bencher) {
        let (x, weight) = (values(ROWS * HIDDEN, 1), values(HIDDEN, 2));
        bencher.bench_local(|| kernels::rms_norm::<f32, bf16>(black_box(&x), &weight, EPSILON));
    }

    #[divan::bench(sample_count = 20)]
    fn naive(bencher: Bencher) {
        let (x, weight) = (values(ROWS * HIDDEN, 1), values(HIDDEN, 2));
        let run = || {
            let squares: Vec<f32> = black_box(&x).iter().map(|x| x * x).collect();
            let roots: Vec<f32> = squares.chunks(HIDDEN).map(root).collect();
            let divided: Vec<f32> = x.iter().enumerate().map(|(i, x)| x / roots[i / HIDDEN]).collect();
            divided.iter().enumerate().map(|(i, x)| x * weight[i % HIDDEN]).collect::<Vec<f32>>()
        };
        assert_same(&kernels::rms_norm::<f32, f32>(&x, &weight, EPSILON), &run());
        bencher.bench_local(run);
    }

    pub(super) fn root(squares: &[f32]) -> f32 {
        (squares.iter().sum::<f32>() / HIDDEN as f32 + EPSILON).sqrt()
    }
}

mod rms_norm_back {
    use super::*;

    #[divan::bench(sample_count = 20)]
    fn ours(bencher: Bencher) {
        let (x, weight, gradient) = (values(ROWS * HIDDEN, 1), values(HIDDEN, 2), values(ROWS * HIDDEN, 3));
        bencher.bench_local(|| kernels::rms_norm_backward(black_box(&x), &weight, &gradient, EPSILON, false));
    }

    /// `dx = (w g - x mean(w g x) / r^2) / r` for the root r, a pass for each operation.
    #[divan::bench(sample_count = 20)]
    fn naive(bencher: Bencher) {
        let (x, weight, gradient) = (values(ROWS * HIDDEN, 1), values(HIDDEN, 2), values(ROWS * HIDDEN, 3));
        let run = || {
            let squares: Vec<f32> = black_box(&x).iter().map(|x| x * x).collect();
            let roots: Vec<f32> = squares.chunks(HIDDEN).map(rms_norm::root).collect();
            let weighted: Vec<f32> = gradient.iter().enumerate().map(|(i, g)| g * weight[i % HIDDEN]).collect();
            let products: Vec<f32> = weighted.iter().zip(&x).map(|(g, x)| g * x).collect();
            let means: Vec<f32> = products.chunks(HIDDEN).map(|row| row.iter().sum::<f32>() / HIDDEN as f32).collect();
            let along = |(i, x): (usize, &f32)| x * means[i / HIDDEN] / roots[i / HIDDEN].powi(2);
            let along: Vec<f32> = x.iter().enumerate().map(along).collect();
            let across = weighted.iter().zip(along).enumerate();
            across.map(|(i, (weighted, along))| (weighted - along) / roots[i / HIDDEN]).collect::<Vec<f32>>()
        };
        assert_same(&kernels::rms_norm_backward(&x, &weight, &gradient, EPSILON, false).0, &run());
        bencher.bench_local(run);
    }
}

/// `x sigmoid(x)` and its slope.
fn silu(x: f32) -> (f32, f32) {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)))
}

/// `x / 2 (1 + tanh(u))` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`, and its slope.
fn gelu(x: f32) -> (f32, f32) {
    let factor = (2.0 / std::f32::consts::PI).sqrt();
    let tanh = (factor * (x + 0.044_715 * x.powi(3))).tanh();
    let slope = factor * (1.0 + 3.0 * 0.044_715 * x * x);
    (0.5 * x * (1.0 + tanh), 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * slope)
}

/// The activation, then its product with what stands beside it.
fn gated(gate_up: &[f32], activation: impl Fn(f32) -> (f32, f32)) -> Vec<f32> {
    let rows = gate_up.chunks(2 * INNER);
    let active: Vec<f32> = rows.flat_map(|row| row[..INNER].iter().map(|gate| activation(*gate).0)).collect();
    let ups = gate_up.chunks(2 * INNER).flat_map(|row| &row[INNER..]);
    active.iter().zip(ups).map(|(active, up)| active * up).collect()
}

/// The gradients of the gates, those of the others, and both side by side.
fn gated_back(gate_up: &[f32], gradient: &[f32], activation: impl Fn(f32) -> (f32, f32)) -> Vec<f32> {
    let rows = || gate_up.chunks(2 * INNER).zip(gradient.chunks(INNER));
    let gates = rows().flat_map(|(row, gradient)| {
        (0..INNER).map(|i| gradient[i] * row[INNER + i] * activation(row[i]).1).collect::<Vec<_>>()
    });
    let gates: Vec<f32> = gates.collect();
    let ups =
        rows().flat_map(|(row, gradient)| (0..INNER).map(|i| gradient[i] * activation(row[i]).0).collect::<Vec<_>>());
    let ups: Vec<f32> = ups.collect();
    gates.chunks(INNER).zip(ups.chunks(INNER)).flat_map(|(gate, up)| [gate, up].concat()).collect()
}

/// `silu(gate) * up`
mod swiglu {
    use super::*;

    #[divan::bench(sample_count = 20)]
    fn ours(bencher: Bencher) {
        let gate_up = halved(&values(ROWS * 2 * INNER, 4));
        bencher.bench_local(|| kernels::swiglu(black_box(&gate_up), INNER));
    }

    #[divan::bench(sample_count = 10)]
    fn naive(bencher: Bencher) {
        let gate_up = values(ROWS * 2 * INNER, 4);
        let run = || gated(black_box(&gate_up), silu);
        assert_same(&kernels::swiglu(&gate_up, INNER), &run());
        bencher.bench_local(run);
    }
}

mod swiglu_back {
    use super::*;

    #[divan::bench(sample_count = 20)]
    fn ours(bencher: Bencher) {
        let (gate_up, gradient) = (halved(&values(ROWS * 2 * INNER, 4)), values(ROWS * INNER, 5));
        bencher.bench_local(|| kernels::swiglu_backward(black_box(&gate_up), &gradient, INNER));
    }

    #[divan::bench(sample_count = 10)]
    fn naive(bencher: Bencher) {
        let (gate_up, gradient) = (values(ROWS * 2 * INNER, 4), values(ROWS * INNER, 5));
        let run = || gated_back(black_box(&gate_up), &gradient, silu);
        assert_same(&kernels::swiglu_backward(&gate_up, &gradient, INNER), &run());
        bencher.bench_local(run);
    }
}

/// `gelu(gate) * up`
mod geglu {
    use super::*;

    #[divan::bench(sample_count = 20)]
    fn ours(bencher: Bencher) {
        let gate_up = halved(&values(ROWS * 2 * INNER, 4));
        bencher.bench_local(|| kernels::geglu(black_box(&gate_up), INNER));
    }

    #[divan::bench(sample_count = 10)]
    fn naive(bencher: Bencher) {
        let gate_up = values(ROWS * 2 * INNER, 4);
        let run = || gated(black_box(&gate_up), gelu);
        assert_same(&kernels::geglu(&gate_up, INNER), &run());
        bencher.bench_local(run);
    }
}

mod geglu_back {
    use super::*;

    #[divan::bench(sample_count = 20)]
    fn ours(bencher: Bencher) {
        let (gate_up, gradient) = (halved(&values(ROWS * 2 * INNER, 4)), values(ROWS * INNER, 5));
        bencher.bench_local(|| kernels::geglu_backward(black_box(&gate_up), &gradient, INNER));
    }

    #[divan::bench(sample_count = 10)]
    fn naive(bencher: Bencher) {
        let (gate_up, gradient) = (values(ROWS * 2 * INNER, 4), values(ROWS * INNER, 5));
        let run = || gated_back(black_box(&gate_up), &gradient, gelu);
        assert_same(&kernels::geglu_backward(&gate_up, &gradient, INNER), &run());
        bencher.bench_local(run);
    }
}

/// `z * gain + start`, as DoRA has it beside a projection.
mod scale_columns {
    use super::*;

    #[divan::bench(sample_count = 20)]
    fn ours(bencher: Bencher) {
        let (z, gain, start) = (halved(&values(ROWS * INNER, 6)), values(INNER, 7), values(INNER, 8));
        bencher.bench_local(|| kernels::scale_columns::<bf16, bf16>(black_box(&z), &gain, &start));
    }

    #[divan::bench(sample_count = 20)]
    fn naive(bencher: Bencher) {
        let (z, gain, start) = (values(ROWS * INNER, 6), values(INNER, 7), values(INNER, 8));
        let run = || {
            let scaled: Vec<f32> = black_box(&z).iter().enumerate().map(|(i, z)| z * gain[i % INNER]).collect();
            scaled.iter().enumerate().map(|(i, z)| z + start[i % INNER]).collect::<Vec<f32>>()
        };
        assert_same(&kernels::scale_columns::<f32, f32>(&z, &gain, &start), &run());
        bencher.bench_local(run);
    }
}

mod scale_columns_back {
    use super::*;

    #[divan::bench(sample_count = 20)]
    fn ours(bencher: Bencher) {
        let (z, gain, gradient) = (halved(&values(ROWS * INNER, 6)), values(INNER, 7), values(ROWS * INNER, 9));
        bencher.bench_local(|| kernels::scale_columns_backward(black_box(&z), &gain, &gradient));
    }

    #[divan::bench(sample_count = 20)]
    fn naive(bencher: Bencher) {
        let (z, gain, gradient) = (values(ROWS * INNER, 6), values(INNER, 7), values(ROWS * INNER, 9));
        let run = || {
            let input: Vec<f32> = gradient.iter().enumerate().map(|(i, g)| g * gain[i % INNER]).collect();
            let products: Vec<f32> = black_box(&z).iter().zip(&gradient).map(|(z, g)| z * g).collect();
            let mut gains = vec![0.0; INNER];
            products.iter().enumerate().for_each(|(i, product)| gains[i % INNER] += product);
            (input, gains)
        };
        let (found, naive) = (kernels::scale_columns_backward(&z, &gain, &gradient), run());
        assert_same(&found.0, &naive.0);
        assert_same(&found.1, &naive.1);
        bencher.bench_local(run);
    }
}

/// Values of rank 16 on all projections.
const TRAINED: usize = 4_884_480;

/// The norm of the gradient, for clipping.
mod gradient_norm {
    use super::*;

    #[divan::bench(sample_count = 10)]
    fn ours(bencher: Bencher) {
        let gradient = values(TRAINED, 10);
        bencher.bench_local(|| kernels::sum_of_squares(black_box(&gradient)));
    }

    #[divan::bench(sample_count = 10)]
    fn naive(bencher: Bencher) {
        let gradient = values(TRAINED, 10);
        let run = || black_box(&gradient).iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
        assert_same(&[kernels::sum_of_squares(&gradient) as f32], &[run() as f32]);
        bencher.bench_local(run);
    }
}

mod adamw {
    use super::*;

    const STEP: kernels::AdamWStep = kernels::AdamWStep {
        gradient_scale: 0.5,
        betas: [0.9, 0.999],
        shares: [0.1, 0.001],
        rate: 1e-3,
        root_scale: 1.0,
        epsilon: 1e-8,
        decay: 1e-3,
    };

    /// Values, their gradient and two moments.
    fn state() -> [Vec<f32>; 4] {
        let second = values(TRAINED, 14).iter().map(|value| value * value).collect();
        [values(TRAINED, 11), values(TRAINED, 12), values(TRAINED, 13), second]
    }

    #[divan::bench(sample_count = 10)]
    fn ours(bencher: Bencher) {
        let [mut w, g, mut m, mut v] = state();
        bencher.bench_local(|| kernels::adamw(&mut w, black_box(&g), &mut m, &mut v, &[], &STEP));
    }

    #[divan::bench(sample_count = 5)]
    fn naive(bencher: Bencher) {
        let [w, g, m, v] = state();
        let run = || {
            let g: Vec<f32> = black_box(&g).iter().map(|g| STEP.gradient_scale * g).collect();
            let m: Vec<f32> = m.iter().zip(&g).map(|(m, g)| 0.9 * m + 0.1 * g).collect();
            let v: Vec<f32> = v.iter().zip(&g).map(|(v, g)| 0.999 * v + 0.001 * g * g).collect();
            let roots: Vec<f32> = v.iter().map(|v| v.sqrt() + STEP.epsilon).collect();
            let moved: Vec<f32> = m.iter().zip(&roots).map(|(m, root)| STEP.rate * m / root).collect();
            let decayed: Vec<f32> = w.iter().map(|w| w - STEP.decay * w).collect();
            let w: Vec<f32> = decayed.iter().zip(moved).map(|(w, moved)| w - moved).collect();
            [w, m, v]
        };
        let [mut found, g, mut m, mut v] = state();
        kernels::adamw(&mut found, &g, &mut m, &mut v, &[], &STEP);
        [found, m, v].iter().zip(run()).for_each(|(found, naive)| assert_same(found, &naive));
        bencher.bench_local(run);
    }
}

/// What dropout leaves of an adapter's input.
mod dropout {
    use super::*;

    #[divan::bench(sample_count = 20)]
    fn ours(bencher: Bencher) {
        let (x, dropout) = (halved(&values(ROWS * HIDDEN, 1)), kernels::Dropout::new(7, 0.05));
        bencher.bench_local(|| dropout.kept(black_box(&x), HIDDEN));
    }

    /// A mask from a generator (SplitMix64), then a product: its own places, the same share of them.
    #[divan::bench(sample_count = 20)]
    fn naive(bencher: Bencher) {
        let x = halved(&values(ROWS * HIDDEN, 1));
        bencher.bench_local(|| {
            let mut state = 7u64;
            let mut draw = || {
                state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mut z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                (z ^ (z >> 31)) as f64 / u64::MAX as f64
            };
            let mask: Vec<f32> = black_box(&x).iter().map(|_| if draw() < 0.05 { 0.0 } else { 1.0 / 0.95 }).collect();
            x.iter().zip(&mask).map(|(x, mask)| bf16::from_f32(x.to_f32() * mask)).collect::<Vec<bf16>>()
        });
    }
}
