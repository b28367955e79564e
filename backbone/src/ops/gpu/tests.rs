//! What runs on a GPU, run on the first CUDA or Vulkan device (which may be the processor) against the CPU's own operations and
//! against compositions of burn's, operation by operation.

use std::f64::consts::PI;

use burn::tensor::activation::silu;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use kernels::{Quantisation, Quantised};

use crate::ops::head::on_gpu::{logits_gradient, softmax_statistics};
use crate::ops::{
    Activation, AdamW, AttentionHeads, Codes, Moments, Projected, adamw, gated, native_is_right, norm, rotate,
    times_gain,
};
#[cfg(feature = "cuda-untuned")]
use crate::ops::{attend, keeps_no_scores};
use crate::values as host;
#[cfg(feature = "cuda-untuned")]
use crate::visibility::Visibility;

fn device() -> Device {
    #[cfg(feature = "cuda-untuned")]
    return crate::device::cuda::device(0);
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
        norm(l[0].clone() * 2.0, Some(l[1].clone().reshape([43])), 1e-5, DType::F32) + 1.0
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
    let cases: [(Activation, &dyn Fn(Tensor<2>) -> Tensor<2>); 2] =
        [(Activation::Silu, &silu), (Activation::GeluTanh, &gelu)];
    for (kind, activation) in cases {
        let found = run(&shapes, &device(), |l| gated(Projected::Apart([l[0].clone() * 5.0, l[1].clone()]), kind));
        let composed = run(&shapes, &Device::flex(), |l| activation(l[0].clone() * 5.0) * l[1].clone());
        compare(&found, &composed);
        // Halves of one tensor, which are not contiguous.
        let halves = |l: &[Tensor<2>]| (l[0].clone().narrow(1, 0, 23), l[0].clone().narrow(1, 23, 23));
        let found = run(&shapes[..1], &device(), |l| gated(Projected::Apart(halves(l).into()), kind));
        let composed = run(&shapes[..1], &Device::flex(), |l| activation(halves(l).0) * halves(l).1);
        compare(&found, &composed);
    }
}

#[test]
fn scaled_columns_are_the_composed_ones() {
    let shapes = [[147, 46], [1, 46]];
    let found = run(&shapes, &device(), |l| times_gain(l[0].clone() * 2.0, l[1].clone().reshape([46])) + 1.0);
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
    let [nll, entropy, largest, above] = softmax_statistics(kept.clone(), targets.clone());
    let gradient = logits_gradient(kept.clone(), targets, [largest, above], tensor([rows], 0.9, &on));
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
    let settings = AdamW { betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.01, clip_norm: Some(1.0) };
    let length = 20_003;
    let devices = [device(), Device::flex()];
    for rates in [false, true] {
        let mut states = devices.each_ref().map(|device| {
            let factors = rates.then(|| tensor::<1>([length], 0.3, device) * 16.0);
            (tensor::<1>([length], 0.1, device), Moments { factors, ..Moments::zeros(length, device) })
        });
        for step in 0..5 {
            // The fourth is skipped; moments that are still held stay as they are.
            let loss = if step == 3 { f32::NAN } else { 1.0 };
            let held = states[0].1.first.clone();
            let before = host(held.clone());
            let mut norms = Vec::new();
            for (device, (values, moments)) in devices.iter().zip(&mut states) {
                let gradient = tensor([length], step as f32, device);
                let loss = Tensor::from_floats([loss], device);
                let (updated, norm) = adamw(values.clone(), moments, gradient, loss, &settings, 0.1);
                *values = updated;
                norms.push(host(norm)[0]);
            }
            assert_eq!(host(held), before);
            assert!(norms[0].is_nan() == (step == 3) && (step == 3 || (norms[0] / norms[1] - 1.0).abs() < 1e-6));
            let [(values_on_device, on_device), (values_on_cpu, on_cpu)] = &states;
            for (a, b) in [
                (values_on_device, values_on_cpu),
                (&on_device.first, &on_cpu.first),
                (&on_device.second, &on_cpu.second),
                (&on_device.corrections, &on_cpu.corrections),
            ] {
                close(&host(a.clone()), &host(b.clone()), 3e-6);
            }
        }
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
        let heads = AttentionHeads {
            heads: queries,
            key_heads: keys,
            head_dim: width,
            rotary: width,
            window: None,
            scale: None,
            cap: None,
        };
        let believed = native_is_right(&device(), DType::F32, [2, positions], &heads);
        assert_eq!(believed, right, "{queries}/{keys} heads of {width}, {positions} positions");
    }
}

/// What queries see, made on a device.
#[cfg(feature = "cuda-untuned")]
type Sees<'a> = &'a dyn Fn(&Device) -> Option<Visibility>;

/// Heads as a projection leaves them, of a width that is filled up and of one that is not; queries that are the last of more
/// keys; against the composed attention, which has a mask.
#[cfg(feature = "cuda-untuned")]
#[test]
fn attention_of_our_own_is_the_masked_one() {
    let heads = |head_dim: usize, window, cap: Option<f64>| AttentionHeads {
        heads: 4,
        key_heads: 2,
        head_dim,
        rotary: head_dim,
        window,
        scale: cap.map(|_| 0.7),
        cap,
    };
    // Two continuations of the first ten places, and branches of both.
    let parent = |place: usize| match place {
        15 => Some(12),
        20 => Some(10),
        25 => Some(9),
        33 => Some(27),
        _ => place.checked_sub(1),
    };
    let parents: Vec<Option<usize>> = (0..40).map(parent).collect();
    let depths = parents.iter().fold(Vec::new(), |mut depths: Vec<usize>, parent| {
        depths.push(parent.map_or(0, |parent| depths[parent] + 1));
        depths
    });
    let tree = |device: &Device| Some(Visibility::tree(&depths, &parents, device));
    let padded = |queries: usize| move |device: &Device| Some(Visibility::padded(&[3, 11], queries, 40, device));
    let (one, seven, all) = (padded(1), padded(7), padded(40));
    let cases: [(_, usize, usize, Sees<'_>); 8] = [
        (heads(64, None, None), 2, 40, &|_| None),
        (heads(20, Some(9), Some(1.25)), 2, 40, &|_| None),
        (heads(64, Some(9), None), 2, 7, &|_| None),
        (heads(32, None, None), 1, 40, &tree),
        (heads(20, Some(4), Some(1.25)), 1, 40, &tree),
        (heads(20, Some(9), None), 2, 40, &all),
        (heads(64, None, None), 2, 7, &seven),
        (heads(20, None, None), 2, 1, &one),
    ];
    for (shape, batch, queries, visibility) in cases {
        assert!(keeps_no_scores(&device(), DType::F32, &shape), "the kernels are for {shape:?}");
        let of = |positions, heads| [batch, positions, heads, shape.head_dim];
        let shapes = [of(queries, 4), of(40, 2), of(40, 2)];
        let [found, expected] = [device(), Device::flex()].map(|device| {
            let visibility = visibility(&device);
            run(&shapes, &device, |l| {
                let [q, k, v] = [0, 1, 2].map(|index: usize| l[index].clone().swap_dims(1, 2));
                let attended = attend(q * 2.0, k, v, visibility.as_ref(), &shape);
                assert_eq!(attended.dims(), [batch * queries, 4 * shape.head_dim]);
                attended.reshape([batch, queries, 4, shape.head_dim])
            })
        });
        compare(&found, &expected);
    }
}
