//! What a GPU does with the parts of a training step: products of the projections of published models, attention, and
//! each fused kernel beside the composition that it stands for. One JSON object a line.
//!
//!     cargo bench --features cuda --bench gpu

use std::time::Instant;

use backbone::ops::{
    Activation, AdamW, Codes, Moments, Projected, adamw, gated, logits_gradient, norm, rotate, softmax_statistics,
    times_gain,
};
use burn::tensor::activation::{sigmoid, silu};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use kernels::{Quantisation, Quantised};
use serde_json::json;

/// Times each thing is done: the first ones compile and tune.
const WARM_UP: usize = 3;
const TIMES: usize = 10;

fn main() {
    #[cfg(feature = "cuda-untuned")]
    let device = Device::cuda(0);
    #[cfg(not(feature = "cuda-untuned"))]
    let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
    // A smaller tour of the same code, where the device is a processor.
    let small = std::env::args().any(|argument| argument == "--small");
    let dtype = if small { DType::F32 } else { DType::BF16 };
    let tokens = if small { 64 } else { 8192 };
    products(&device, dtype, tokens, small);
    coded_products(&device, dtype, tokens, small);
    attentions(&device, dtype, small);
    kernels(&device, dtype, tokens, small);
}

/// Milliseconds of one call, over the calls after the warm-up.
fn milliseconds<T>(device: &Device, mut function: impl FnMut() -> T) -> f64 {
    for _ in 0..WARM_UP {
        function();
    }
    device.sync().expect("the device answers");
    let started = Instant::now();
    for _ in 0..TIMES {
        function();
    }
    device.sync().expect("the device answers");
    started.elapsed().as_secs_f64() * 1e3 / TIMES as f64
}

fn random<const D: usize>(shape: [usize; D], device: &Device, dtype: DType) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), (device, dtype))
}

/// `x W^T` and the gradient of `x`, of the projections of an 8B Llama, and a large square.
fn products(device: &Device, dtype: DType, tokens: usize, small: bool) {
    let shapes: &[[usize; 2]] = match small {
        true => &[[96, 64]],
        false => &[[8192, 8192], [4096, 4096], [1024, 4096], [14_336, 4096], [4096, 14_336]],
    };
    for &[out, inputs] in shapes {
        let (x, weight) = (random([tokens, inputs], device, dtype), random([out, inputs], device, dtype));
        let gradient = random([tokens, out], device, dtype);
        let forward = milliseconds(device, || x.clone().matmul(weight.clone().transpose()));
        let backward = milliseconds(device, || gradient.clone().matmul(weight.clone()));
        let teraflops = |ms: f64| 2e-9 * (tokens * out * inputs) as f64 / ms;
        let line = json!({
            "what": "product", "tokens": tokens, "out": out, "in": inputs, "dtype": format!("{dtype:?}"),
            "forward_tflops": teraflops(forward), "backward_tflops": teraflops(backward),
        });
        println!("{line}");
    }
}

/// The largest projection in 8 and 4 bits beside itself in `dtype`, and how fast it is dequantised: the difference.
fn coded_products(device: &Device, dtype: DType, tokens: usize, small: bool) {
    let [out, inputs] = if small { [96, 64] } else { [14_336, 4096] };
    let values: Vec<f32> = (0..out * inputs).map(|i| (i as f32 * 0.7).sin()).collect();
    let (x, gradient) = (random([tokens, inputs], device, dtype), random([tokens, out], device, dtype));
    let weight = random([out, inputs], device, dtype);
    let plain = milliseconds(device, || x.clone().matmul(weight.clone().transpose()));
    for (name, quantisation) in [("int8", Quantisation::Int8), ("nf4", Quantisation::Nf4)] {
        let codes = Codes::new(&Quantised::new(&values, [out, inputs], quantisation), dtype, device);
        let forward = milliseconds(device, || codes.product(x.clone()));
        let backward = milliseconds(device, || codes.product_back(gradient.clone()));
        let line = json!({
            "what": "coded product", "codes": name, "tokens": tokens, "out": out, "in": inputs,
            "dtype": format!("{dtype:?}"), "forward_ms": forward, "backward_ms": backward, "plain_forward_ms": plain,
        });
        println!("{line}");
    }
}

/// Causal attention with grouped queries, both ways: its time, and its distance to the CPU's in f32.
fn attentions(device: &Device, dtype: DType, small: bool) {
    let (batch, heads, key_heads, positions, head_dim) = if small { (1, 4, 2, 32, 16) } else { (4, 32, 8, 2048, 128) };
    let run = |batch: usize, device: &Device, dtype: DType, data: &[TensorData; 4]| {
        let first = |data: &TensorData| Tensor::<4>::from_data(data.clone(), (device, dtype)).narrow(0, 0, batch);
        let [q, k, v] = [&data[0], &data[1], &data[2]].map(|data| first(data).autodiff().require_grad());
        let seed = first(&data[3]).autodiff();
        let options = AttentionModuleOptions { is_causal: true, ..Default::default() };
        (q.clone(), k.clone(), v.clone(), seed, move || attention(q.clone(), k.clone(), v.clone(), None, None, options))
    };
    let data = |heads: usize| random::<4>([batch, heads, positions, head_dim], &Device::flex(), DType::F32).into_data();
    let data = [data(heads), data(key_heads), data(key_heads), data(heads)];
    let (_, _, _, seed, forward) = run(batch, device, dtype, &data);
    let forward_ms = milliseconds(device, &forward);
    let both_ms = milliseconds(device, || (forward() * seed.clone()).sum().backward());
    let values = |device: &Device, dtype: DType| -> Vec<Vec<f32>> {
        let (q, k, v, seed, forward) = run(1, device, dtype, &data);
        let y = forward();
        let mut gradients = (y.clone() * seed).sum().backward();
        let host = |tensor: Tensor<4>| tensor.into_data().convert::<f32>().try_into_vec().expect("converted to f32");
        let mut found = vec![host(y.inner())];
        found.extend([q, k, v].map(|leaf| host(leaf.grad_remove(&mut gradients).expect("a gradient"))));
        found
    };
    let errors: Vec<f64> = (values(device, dtype).iter().zip(values(&Device::flex(), DType::F32)))
        .map(|(found, expected)| {
            let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let error = found.iter().zip(&expected).fold(0.0f32, |error, (a, b)| error.max((a - b).abs()));
            f64::from(error / largest)
        })
        .collect();
    let line = json!({
        "what": "attention", "shape": [batch, heads, key_heads, positions, head_dim], "dtype": format!("{dtype:?}"),
        "forward_ms": forward_ms, "forward_and_backward_ms": both_ms,
        "relative_error": {"output": errors[0], "queries": errors[1], "keys": errors[2], "values": errors[3]},
    });
    println!("{line}");
}

fn report(name: &str, dtype: DType, bytes: usize, fused: f64, composed: f64) {
    let line = json!({
        "what": "kernel", "name": name, "dtype": format!("{dtype:?}"), "fused_ms": fused, "composed_ms": composed,
        "gb_per_s": bytes as f64 / fused / 1e6,
    });
    println!("{line}");
}

/// Each kernel at the shapes of an 8B Llama, forward and backward, beside burn's operations; the bytes are those that have
/// to be read and written at least.
fn kernels(device: &Device, dtype: DType, tokens: usize, small: bool) {
    let (hidden, inner, vocabulary) = if small { (64, 96, 512) } else { (4096, 14_336, 128_256) };
    let size = dtype.size();
    let leaf = |width: usize| random([tokens, width], device, dtype).autodiff().require_grad();
    let both = |y: Tensor<2>| y.sum().backward();

    let (x, weight) = (leaf(hidden), random([hidden], device, DType::F32));
    let plain_norm = |x: Tensor<2>| {
        let x = x.cast(DType::F32);
        let mean_square = (x.clone() * x.clone()).mean_dim(1);
        (x / (mean_square + 1e-5).sqrt() * weight.clone().autodiff().unsqueeze()).cast(dtype)
    };
    let fused = milliseconds(device, || both(norm(x.clone(), Some(weight.clone().autodiff()), 1e-5, dtype)));
    let composed = milliseconds(device, || both(plain_norm(x.clone())));
    report("rms_norm", dtype, 5 * tokens * hidden * size, fused, composed);

    let (gate, up) = (leaf(inner), leaf(inner));
    let fused = milliseconds(device, || both(gated(Projected::Apart([gate.clone(), up.clone()]), Activation::Silu)));
    let composed = milliseconds(device, || both(silu(gate.clone()) * up.clone()));
    report("swiglu", dtype, 8 * tokens * inner * size, fused, composed);

    let gelu = |x: Tensor<2>| {
        let cube = x.clone() * x.clone() * x.clone();
        x.clone() * sigmoid((x + cube.mul_scalar(0.044_715)).mul_scalar(1.595_769_1))
    };
    let fused =
        milliseconds(device, || both(gated(Projected::Apart([gate.clone(), up.clone()]), Activation::GeluTanh)));
    let composed = milliseconds(device, || both(gelu(gate.clone()) * up.clone()));
    report("geglu", dtype, 8 * tokens * inner * size, fused, composed);

    let gain = random([inner], device, DType::F32).autodiff().require_grad();
    let scaled = |z: Tensor<2>| (z.cast(DType::F32) * gain.clone().unsqueeze()).cast(dtype);
    let fused = milliseconds(device, || both(times_gain(gate.clone(), gain.clone())));
    let composed = milliseconds(device, || both(scaled(gate.clone())));
    report("scale_columns", dtype, 5 * tokens * inner * size, fused, composed);

    let (heads, head_dim) = (hidden / 32, 32);
    let heads_of = |x: Tensor<2>| x.reshape([1, tokens, heads, head_dim]).swap_dims(1, 2);
    let table = random([1, 1, tokens, head_dim / 2], device, DType::F32);
    let turn = |x: Tensor<4>| {
        let x = x.cast(DType::F32);
        let (a, b) = (x.clone().narrow(3, 0, head_dim / 2), x.narrow(3, head_dim / 2, head_dim / 2));
        let t = table.clone().autodiff();
        Tensor::cat(vec![a.clone() * t.clone() - b.clone() * t.clone(), b * t.clone() + a * t], 3).cast(dtype)
    };
    let flat = |y: Tensor<4>| y.reshape([tokens, hidden]);
    let rotated = |x: Tensor<2>| rotate(heads_of(x), table.clone().autodiff(), table.clone().autodiff());
    let fused = milliseconds(device, || both(flat(rotated(x.clone()))));
    let composed = milliseconds(device, || both(flat(turn(heads_of(x.clone())))));
    report("rotate", dtype, 4 * tokens * hidden * size, fused, composed);

    let rows = ((1 << 23) / vocabulary).min(tokens);
    let logits = random([rows, vocabulary], device, dtype);
    let ids = TensorData::new((0..rows as i32).collect::<Vec<_>>(), [rows]);
    let targets = Tensor::<1, Int>::from_data(ids, device);
    let weights = random([rows], device, DType::F32);
    let fused = milliseconds(device, || {
        let [_, _, largest, above] = softmax_statistics(logits.clone(), targets.clone());
        logits_gradient(logits.clone(), targets.clone(), [largest, above], weights.clone())
    });
    let composed = milliseconds(device, || {
        let shifted = logits.clone().cast(DType::F32) - logits.clone().cast(DType::F32).max_dim(1);
        let exponentials = shifted.clone().exp();
        let sum = exponentials.clone().sum_dim(1);
        let probabilities = exponentials / sum.clone();
        let entropy = sum.log() - (probabilities.clone() * shifted.clone()).sum_dim(1);
        let nll = shifted.gather(1, targets.clone().reshape([rows, 1]));
        (probabilities * weights.clone().reshape([rows, 1]) + (entropy + nll) * 0.0).cast(dtype)
    });
    report("cross_entropy", dtype, 3 * rows * vocabulary * size, fused, composed);

    let length = if small { 10_000 } else { 40_000_000 };
    let vector = || random([length], device, DType::F32);
    let [values, gradient, first, second] = [vector(), vector(), vector(), vector()];
    let (corrections, loss) = (random([2], device, DType::F32).abs(), random([1], device, DType::F32));
    let settings = AdamW { betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.0, clip_norm: Some(1.0) };
    let (first_moment, second_moment) = (first.clone(), second.clone());
    let mut moments = Moments { first: first_moment, second: second_moment, corrections, factors: None };
    let mut trained = values.clone();
    let fused = milliseconds(device, || {
        let (updated, norm) = adamw(trained.clone(), &mut moments, gradient.clone(), loss.clone(), &settings, 1e-4);
        trained = updated;
        norm
    });
    let composed = milliseconds(device, || {
        let norm = (gradient.clone() * gradient.clone()).sum().sqrt();
        let g = gradient.clone() * norm.recip().clamp_max(1.0);
        let m = first.clone().mul_scalar(0.9) + g.clone().mul_scalar(0.1);
        let v = second.clone().mul_scalar(0.999) + (g.clone() * g).mul_scalar(0.001);
        let updated = values.clone() - m.clone() / (v.clone().sqrt() + 1e-8) * 1e-4;
        (updated, m, v)
    });
    report("adamw", DType::F32, 8 * length * 4, fused, composed);
}
