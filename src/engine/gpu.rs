//! What runs on a GPU, run on the first CUDA or Vulkan device (which may be the processor) against the CPU's own operations and
//! against compositions of burn's: operation by operation, then a whole training step.

use std::f64::consts::PI;

use backbone::ops::{Codes, gpu::*};
use backbone::{Decoder, ModelFiles, Quantise, Sizes, Source, is_right, values as host};
use burn::tensor::activation::silu;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use kernels::{Quantisation, Quantised};
use losses::Objective;


use crate::engine::backward::Recompute;
use crate::engine::batch::Batch;
use crate::engine::fixtures::{Fixture, SETTINGS};
use crate::engine::head;
use crate::engine::optimizer::{AdamW, Moments};
use crate::engine::step::{StepSettings, Trainer};
use crate::engine::trainee::Trainee;

fn device() -> Device {
    #[cfg(feature = "cuda-untuned")]
    return backbone::device::cuda::device(0);
    #[cfg(not(feature = "cuda-untuned"))]
    Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)
}

fn numbers(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.7 + seed).sin()).collect()
}

fn tensor<const D: usize>(shape: [usize; D], seed: f32, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers(shape.iter().product(), seed), shape), device)
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let length = tensor.dims().iter().product::<usize>();
    host(tensor.reshape([length]).cast(DType::F32))
}

#[track_caller]
fn close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
    let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(error <= tolerance * scale, "{error} in values up to {scale}");
    assert!(found.iter().all(|value| value.is_finite()));
}

/// Output and gradients of leaves of these shapes, with one fixed gradient of the output.
fn run<const D: usize>(
    shapes: &[[usize; D]],
    device: &Device,
    function: impl Fn(&[Tensor<D>]) -> Tensor<D>,
) -> Vec<Vec<f32>> {
    let leaves: Vec<Tensor<D>> = (shapes.iter().enumerate())
        .map(|(index, shape)| tensor(*shape, index as f32 * 0.4, device).autodiff().require_grad())
        .collect();
    let y = function(&leaves);
    let seed = tensor(y.dims(), 0.77, device).autodiff();
    let mut gradients = (y.clone() * seed).sum().backward();
    let mut found = vec![flat(y.inner())];
    found.extend(leaves.iter().map(|leaf| flat(leaf.grad_remove(&mut gradients).expect("a gradient"))));
    found
}

fn compare(found: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        close(found, expected, 3e-6);
    }
}

#[test]
fn norm_is_the_composed_norm() {
    let shapes = [[37, 43], [1, 43]];
    let found = run(&shapes, &device(), |l| {
        // Operations on both sides, so that burn's fusion has something to fuse with.
        rms_norm(l[0].clone() * 2.0, l[1].clone().reshape([43]), 1e-5, DType::F32) + 1.0
    });
    let composed = run(&shapes, &Device::flex(), |l| {
        let x = l[0].clone() * 2.0;
        let mean_square = (x.clone() * x.clone()).mean_dim(1);
        x / (mean_square + 1e-5).sqrt() * l[1].clone() + 1.0
    });
    compare(&found, &composed);
}

#[test]
fn gates_are_the_composed_ones() {
    let shapes = [[19, 46], [19, 46]];
    // `x / 2 (1 + tanh(u))`
    let gelu = |x: Tensor<2>| {
        let u = (x.clone() + x.clone().powi_scalar(3).mul_scalar(0.044_715)).mul_scalar((2.0 / PI).sqrt());
        x.mul_scalar(0.5) * (u.tanh() + 1.0)
    };
    type Gate = fn(Tensor<2>, Tensor<2>) -> Tensor<2>;
    let cases: [(Gate, &dyn Fn(Tensor<2>) -> Tensor<2>); 2] = [(swiglu::<2>, &silu), (geglu::<2>, &gelu)];
    for (gated, activation) in cases {
        let found = run(&shapes, &device(), |l| gated(l[0].clone() * 5.0, l[1].clone()));
        let composed = run(&shapes, &Device::flex(), |l| activation(l[0].clone() * 5.0) * l[1].clone());
        compare(&found, &composed);
        // Halves of one tensor, which are not contiguous.
        let halves = |l: &[Tensor<2>]| (l[0].clone().narrow(1, 0, 23), l[0].clone().narrow(1, 23, 23));
        let found = run(&shapes[..1], &device(), |l| gated(halves(l).0, halves(l).1));
        let composed = run(&shapes[..1], &Device::flex(), |l| activation(halves(l).0) * halves(l).1);
        compare(&found, &composed);
    }
}

#[test]
fn scaled_columns_are_the_composed_ones() {
    let shapes = [[147, 46], [1, 46]];
    let found = run(&shapes, &device(), |l| scale_columns(l[0].clone() * 2.0, l[1].clone().reshape([46])) + 1.0);
    let composed = run(&shapes, &Device::flex(), |l| l[0].clone() * 2.0 * l[1].clone() + 1.0);
    compare(&found, &composed);
}

/// Rows to the bit; products both ways, and the gradient through one, as with the values. Widths that cut blocks, blocks
/// that are not whole, and more magnitudes than share one.
#[test]
fn codes_are_the_values_of_the_definition() {
    let on = device();
    for [outputs, inputs] in [[3, 70], [40, 64], [300, 128], [33, 7]] {
        for quantisation in [Quantisation::Int8, Quantisation::Nf4] {
            let matrix = Quantised::new(&numbers(outputs * inputs, 0.2), [outputs, inputs], quantisation);
            let codes = Codes::new(&matrix, DType::F32, &on);
            let all = matrix.dequantise();
            assert!(codes.bytes() >= matrix.bytes() && codes.bytes() < matrix.bytes() + 2048);
            assert_eq!(flat(Tensor::cat(codes.pieces().collect(), 0)), all, "{quantisation:?}");
            let rows = [outputs - 1, 0, 2];
            let expected = rows.map(|row| all[row * inputs..(row + 1) * inputs].to_vec()).concat();
            assert_eq!(flat(codes.rows(Tensor::from_data(rows.map(|row| row as i64), &on))), expected);
            let plain =
                |device: &Device| Tensor::<2>::from_data(TensorData::new(all.clone(), [outputs, inputs]), device);
            let found = run(&[[5, inputs]], &on, |l| codes.product(l[0].clone() * 2.0) + 1.0);
            let expected = run(&[[5, inputs]], &Device::flex(), |l| {
                (l[0].clone() * 2.0).matmul(plain(&Device::flex()).autodiff().transpose()) + 1.0
            });
            compare(&found, &expected);
            let found = codes.product_back(tensor([5, outputs], 0.3, &on));
            let expected = tensor([5, outputs], 0.3, &Device::flex()).matmul(plain(&Device::flex()));
            close(&flat(found), &flat(expected), 3e-6);
        }
    }
}

#[test]
fn rotation_is_the_composed_rotation() {
    let (batch, heads, positions, head_dim) = (2, 3, 5, 12);
    for tables in [1, batch] {
        let angles = |function: fn(f32) -> f32, device: &Device| {
            let data: Vec<f32> = numbers(tables * positions * 6, 0.2).into_iter().map(function).collect();
            Tensor::<4>::from_data(TensorData::new(data, [tables, 1, positions, 6]), device)
        };
        let shapes = [[batch, positions, heads, head_dim]];
        let found = run(&shapes, &device(), |l| {
            rotate(l[0].clone().swap_dims(1, 2), angles(f32::cos, &device()), angles(f32::sin, &device()))
        });
        let composed = run(&shapes, &Device::flex(), |l| {
            let x = l[0].clone().swap_dims(1, 2);
            let (first, second) = (x.clone().narrow(3, 0, 6), x.narrow(3, 6, 6));
            let [c, s] = [f32::cos, f32::sin].map(|function| angles(function, &Device::flex()).autodiff());
            let turned = vec![first.clone() * c.clone() - second.clone() * s.clone(), second * c + first * s];
            Tensor::cat(turned, 3)
        });
        compare(&found, &composed);
    }
}

#[test]
fn cross_entropy_is_the_composed_one() {
    let (rows, vocabulary) = (13, 301);
    let ids: Vec<i32> = (0..rows as i32).map(|row| row * 23 % 301).collect();
    let logits = |device: &Device| tensor([rows, vocabulary], 0.3, device) * 6.0;
    let on = device();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(ids.clone(), [rows]), &on);
    let kept = logits(&on);
    let before = flat(kept.clone());
    let [nll, entropy, log_sum] = softmax_statistics(kept.clone(), targets.clone());
    let gradient = logits_gradient(kept.clone(), targets, log_sum, tensor([rows], 0.9, &on));
    assert_eq!(flat(kept), before, "logits that are still held are not written to");
    let x = logits(&Device::flex());
    let probabilities = burn::tensor::activation::softmax(x.clone(), 1);
    let logs = burn::tensor::activation::log_softmax(x, 1);
    let places = Tensor::<1, Int>::from_data(TensorData::new(ids, [rows]), &Device::flex()).reshape([rows, 1]);
    close(&host(nll), &flat(-logs.clone().gather(1, places.clone())), 3e-6);
    close(&host(entropy), &flat(-(probabilities.clone() * logs).sum_dim(1)), 3e-6);
    let onehot = Tensor::<2>::zeros([rows, vocabulary], &Device::flex());
    let ones = Tensor::<2>::ones([rows, 1], &Device::flex());
    let onehot = onehot.scatter(1, places, ones, burn::tensor::IndexingUpdateOp::Add);
    let expected = (probabilities - onehot) * tensor([rows], 0.9, &Device::flex()).reshape([rows, 1]);
    close(&flat(gradient), &flat(expected), 3e-6);
}

/// With one rate for all, and with rates of their own.
#[test]
fn adamw_is_the_one_of_the_cpu() {
    let settings = AdamW { betas: (0.9, 0.999), epsilon: 1e-8, weight_decay: 0.01, clip_norm: Some(1.0) };
    let length = 20_003;
    let devices = [device(), Device::flex()];
    for rates in [false, true] {
        let moments = |device: &Device| {
            let factors = rates.then(|| tensor::<1>([length], 0.3, device) * 16.0);
            Moments { factors, ..Moments::zeros(length, device) }
        };
        let mut states = devices.each_ref().map(|device| (tensor([length], 0.1, device), moments(device)));
        for step in 0..5 {
            // The fourth is skipped; moments that are still held stay as they are.
            let loss = if step == 3 { f32::NAN } else { 1.0 };
            let held = states[0].1.first.clone();
            let before = host(held.clone());
            let mut norms = Vec::new();
            for (device, (values, moments)) in devices.iter().zip(&mut states) {
                let gradient = tensor([length], step as f32, device);
                let loss = Tensor::from_floats([loss], device);
                let (updated, norm) = settings.update(values.clone(), gradient, &loss, moments, 0.1);
                *values = updated;
                norms.push(host(norm)[0]);
            }
            assert_eq!(host(held), before);
            assert!(norms[0].is_nan() == (step == 3) && (step == 3 || (norms[0] / norms[1] - 1.0).abs() < 1e-6));
            let [(a, on_device), (b, on_cpu)] = &states;
            for (a, b) in [
                (a, b),
                (&on_device.first, &on_cpu.first),
                (&on_device.second, &on_cpu.second),
                (&on_device.corrections, &on_cpu.corrections),
            ] {
                close(&host(a.clone()), &host(b.clone()), 3e-6);
            }
        }
    }
}

/// Loss, nll and entropy of a micro-batch, and the gradient of each trained tensor with its name.
fn step(trainee: &mut Trainee, recompute: Recompute) -> ([f64; 3], Vec<(String, Vec<f32>)>) {
    let ids: [&[u32]; 3] = [&[1, 7, 20, 13, 7, 9, 9, 15, 14], &[1, 3, 5, 8], &[1, 30, 2, 11, 4, 4]];
    let examples: Vec<_> = ids.iter().map(|ids| example(ids)).collect();
    let batch = Batch::new(&examples, &[0, 1, 2], 8);
    let registry = losses::Registry::default();
    let kind = registry.objectives.iter().find(|kind| kind.name == "cdiv").expect("an objective with weights");
    let mut objective: Box<dyn Objective> = (kind.build)(&mut faults::Section::probe());
    let settings = StepSettings { recompute, ..SETTINGS };
    let mut trainer = Trainer::new(trainee, objective.as_mut(), settings);
    let step = trainer.gradient(1, std::slice::from_ref(&batch));
    let (totals, flat) = (step.totals.read(), host(step.gradient));
    let parts = trainer.slots().iter().map(|slot| (slot.name.clone(), flat[slot.offset..][..slot.length].to_vec()));
    ([totals.loss, totals.nll, totals.entropy], parts.collect())
}

fn example(ids: &[u32]) -> datasets::Example {
    datasets::Example {
        ids: ids.to_vec(),
        parts: vec![datasets::Part::Response; ids.len()],
        learned: (0..ids.len()).map(|token| token > 1).collect(),
        weight: 1.0,
        alone: None,
        group: 0,
        file: "test".into(),
        line: 1,
        element: None,
    }
}

/// The output of burn's own attention, and that its native gradients are believed exactly where they are the CPU's.
#[test]
fn attention_is_the_one_of_the_cpu() {
    for (queries, keys, positions, width) in [(4, 2, 16, 4), (4, 4, 16, 4), (4, 2, 40, 64), (4, 4, 64, 64)] {
        let shape = |heads| [2, heads, positions, width];
        let attend = |l: &[Tensor<4>]| {
            let options = burn::tensor::ops::AttentionModuleOptions { is_causal: true, ..Default::default() };
            burn::tensor::module::attention(l[0].clone(), l[1].clone(), l[2].clone(), None, None, options)
        };
        let shapes = [shape(queries), shape(keys), shape(keys)];
        let found = run(&shapes, &device(), attend);
        let expected = run(&shapes, &Device::flex(), attend);
        close(&found[0], &expected[0], 1e-5);
        let error = |a: &[f32], b: &[f32]| {
            let squares: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
            (squares / b.iter().map(|b| b.powi(2)).sum::<f32>()).sqrt()
        };
        let right = found.iter().zip(&expected).all(|(found, expected)| error(found, expected) <= 5e-3);
        let sizes = Sizes { rows: 2, positions, heads: queries, key_heads: keys, width };
        let believed = is_right(&device(), DType::F32, sizes);
        assert_eq!(believed, right, "{queries}/{keys} heads of {width}, {positions} positions");
    }
}

/// Every architecture with adapters; DoRA beside projections, a head and an embedding; matrices in codes; and one with every
/// weight trained. With recomputed blocks and without, against the CPU.
#[test]
fn a_training_step_is_the_one_of_the_cpu() {
    let architectures =
        ["llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3", "olmo", "olmo2", "phi3", "granite"];
    let dora = [("llama", "dora"), ("llama3", "dora_head"), ("llama3", "dora_embedding")];
    let coded = [(Quantisation::Int8, "wide"), (Quantisation::Nf4, "wide"), (Quantisation::Nf4, "dora")];
    let coded = coded.map(|(quantisation, adapter)| Fixture {
        quantise: Some(Quantise { quantisation, embeddings: true, rows: 0 }),
        ..Fixture::with("llama", adapter)
    });
    let trained = Fixture { adapter: None, ..Fixture::of("llama") };
    let fixtures = architectures.map(Fixture::of).into_iter().chain(dora.map(|(base, name)| Fixture::with(base, name)));
    let fixtures = fixtures.chain(coded).chain([trained]);
    let ways = [Recompute::None, Recompute::Blocks].into_iter().cycle();
    for (fixture, recompute) in fixtures.zip(ways) {
        let on = |device: &Device| Trainee { decoder: fixture.on(device), auxiliaries: Vec::new() };
        let (expected, expected_gradients) = step(&mut on(&Device::flex()), Recompute::None);
        let (found, gradients) = step(&mut on(&device()), recompute);
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-5 * b.abs(), "{fixture:?}: {a} is not {b}");
        }
        let largest = |values: &[f32]| values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let mut wrong = Vec::new();
        for ((name, found), (_, expected)) in gradients.iter().zip(&expected_gradients) {
            let differences: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
            let (error, scale) = (largest(&differences), largest(expected));
            if differences.iter().any(|value| value.is_nan()) || error > 1e-4 * scale.max(1e-4) {
                wrong.push(format!("{name}: {error} in {scale}"));
            }
        }
        assert!(wrong.is_empty(), "{fixture:?}: {}", wrong.join("\n"));
    }
}

#[test]
fn evaluation_is_the_one_of_the_cpu() {
    let batch = Batch::new(&[example(&[1, 7, 20, 13, 7, 9])], &[0], 8);
    let [found, expected] = [device(), Device::flex()].map(|device| {
        let decoder = Fixture::of("llama").on(&device);
        let hidden = tensor([1, 8, decoder.config.hidden_size], 0.4, &device);
        head::nll(&decoder, hidden, &batch)
    });
    close(&found, &expected, 1e-5);
}

/// What the first update must leave as it was is compared bit by bit: a sum that blocks add to as they come would differ.
#[test]
fn frozen_sums_are_the_same_each_time() {
    let (files, device) = (ModelFiles::Embedded, device());
    let weights = files.weights().expect("its weights");
    let source = Source::frozen(&weights, DType::F32, &device);
    let decoder = Decoder::load(files.config().expect("its configuration"), &source).expect("its tensors");
    let mut trainee = Trainee { decoder, auxiliaries: Vec::new() };
    let first = trainee.frozen_sums();
    for _ in 0..5 {
        assert_eq!(trainee.frozen_sums(), first);
    }
}
