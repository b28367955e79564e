//! Each operation against the composition of burn's own, forward and backward.

use std::sync::Arc;

use burn::tensor::activation::{gelu_approximate, silu};
use burn::tensor::{DType, Device, Tensor, TensorData};
use kernels::{Packed, Precision};

use super::*;

fn values(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.7 + seed).sin()).collect()
}

fn leaf(rows: usize, columns: usize, seed: f32) -> Tensor<2> {
    plain(rows, columns, seed).autodiff().require_grad()
}

fn plain(rows: usize, columns: usize, seed: f32) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values(rows * columns, seed), [rows, columns]), &Device::flex())
}

/// Outputs and gradients of `leaves`, with one fixed gradient of the output.
fn run(leaves: &[Tensor<2>], function: impl Fn(&[Tensor<2>]) -> Tensor<2>) -> Vec<Vec<f32>> {
    let y = function(leaves);
    let [rows, columns] = y.dims();
    let seed = plain(rows, columns, 0.77).autodiff();
    let host = |tensor: Tensor<2>| tensor.into_data().convert::<f32>().try_into_vec::<f32>().expect("f32");
    let mut gradients = (y.clone().cast(DType::F32) * seed).sum().backward();
    let mut found = vec![host(y.inner())];
    found.extend(leaves.iter().map(|leaf| host(leaf.grad_remove(&mut gradients).expect("a gradient"))));
    found
}

fn close(found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len());
        let scale = expected.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= tolerance * scale, "{index}: {a} is not {b}");
        }
    }
}

#[test]
fn norm_is_the_composed_norm() {
    let leaves = [leaf(37, 43, 0.1), leaf(1, 43, 0.5)];
    let fused = run(&leaves, |l| rms_norm(l[0].clone(), l[1].clone().reshape([43]), 1e-5, DType::F32));
    let composed = run(&leaves, |l| {
        let x = l[0].clone();
        let mean_square = (x.clone() * x.clone()).mean_dim(1);
        x / (mean_square + 1e-5).sqrt() * l[1].clone()
    });
    close(&fused, &composed, 1e-6);
}

#[test]
fn swiglu_is_the_composed_gate() {
    let leaves = [leaf(19, 46, 0.1)];
    let fused = run(&leaves, |l| swiglu(l[0].clone() * 5.0));
    let composed = run(&leaves, |l| {
        let x = l[0].clone() * 5.0;
        silu(x.clone().narrow(1, 0, 23)) * x.narrow(1, 23, 23)
    });
    close(&fused, &composed, 2e-6);
}

#[test]
fn geglu_is_the_composed_gate() {
    let leaves = [leaf(19, 46, 0.1)];
    let fused = run(&leaves, |l| geglu(l[0].clone() * 5.0));
    let composed = run(&leaves, |l| {
        let x = l[0].clone() * 5.0;
        gelu_approximate(x.clone().narrow(1, 0, 23)) * x.narrow(1, 23, 23)
    });
    close(&fused, &composed, 2e-6);
}

#[test]
fn projections_are_the_composed_products_with_adapters_bias_and_residual() {
    let (rows, inputs, outs) = (31, 47, [33usize, 8, 70]);
    let weights: Vec<Tensor<2>> = outs.iter().map(|out| plain(*out, inputs, 0.3)).collect();
    let bias = values(70, 0.9);
    let mut leaves = vec![leaf(rows, inputs, 0.1)];
    for (out, rank) in outs.iter().zip([3, 4, 5]) {
        leaves.extend([leaf(rank, inputs, 0.2), leaf(*out, rank, 0.6)]);
    }
    let composed = run(&leaves, |l| {
        let parts = (0..3).map(|i| {
            let low = l[0].clone().matmul(l[1 + 2 * i].clone().transpose());
            let y = l[0].clone().matmul(weights[i].clone().autodiff().transpose())
                + low.matmul(l[2 + 2 * i].clone().transpose()).mul_scalar(0.5);
            let bias = Tensor::<1>::from_floats(bias.as_slice(), &Device::flex()).autodiff();
            if i == 2 { y + bias.unsqueeze() } else { y }
        });
        Tensor::cat(parts.collect(), 1)
    });
    for (precision, tolerance) in [(Precision::F32, 2e-6), (Precision::Bf16, 6e-2)] {
        let packed: Vec<Projection> = (0..3)
            .map(|i| {
                let shape = [outs[i], inputs];
                let weight = Packed::new(&values(outs[i] * inputs, 0.3), shape, (inputs, 1), 1.0, precision);
                let bias = (i == 2).then(|| Arc::new(bias.clone()));
                Projection { bias, ..Projection::plain(Arc::new(weight)) }
            })
            .collect();
        let fused = run(&leaves, |l| {
            let parts = (0..3).map(|i| {
                let adapter = Adapter { a: l[1 + 2 * i].clone(), b: l[2 + 2 * i].clone(), scale: 0.5 };
                (packed[i].clone(), Some(adapter))
            });
            project(l[0].clone(), parts.collect(), None, DType::F32)
        });
        close(&fused, &composed, tolerance);
    }
    let weight = Packed::new(&values(33 * inputs, 0.3), [33, inputs], (inputs, 1), 1.0, Precision::F32);
    let projection = Projection::plain(Arc::new(weight));
    let leaves = [leaf(rows, inputs, 0.1), leaf(rows, 33, 0.4)];
    let fused =
        run(&leaves, |l| project(l[0].clone(), vec![(projection.clone(), None)], Some(l[1].clone()), DType::F32));
    let composed = run(&leaves, |l| l[1].clone() + l[0].clone().matmul(weights[0].clone().autodiff().transpose()));
    close(&fused, &composed, 2e-6);
}

/// Burn's own attention with a mask for the window, on turned queries and keys.
#[test]
fn attention_is_the_composed_attention() {
    let (batch, positions, head_dim) = (2, 60, 12);
    for (heads, key_heads, window, scale, cap) in [
        (2, 2, None, None, None),
        (4, 2, None, None, None),
        (3, 1, Some(17), None, None),
        (4, 2, Some(9), Some(0.7), Some(1.25)),
    ] {
        let shape = AttentionHeads { heads, key_heads, head_dim, rotary: head_dim, window, scale, cap };
        let width = (heads + 2 * key_heads) * head_dim;
        let leaves = [leaf(batch * positions, width, 0.1)];
        let table = |function: fn(f32) -> f32| {
            let angles = (0..positions).flat_map(|p| (0..6).map(move |i| p as f32 * 0.5f32.powi(i)));
            let data: Vec<f32> = angles.map(function).collect();
            Tensor::<4>::from_data(TensorData::new(data, [1, 1, positions, 6]), &Device::flex())
        };
        let (cosine, sine) = (table(f32::cos), table(f32::sin));
        let fused = run(&leaves, |l| attention(l[0].clone(), cosine.clone(), sine.clone(), batch, shape, None));
        let composed = run(&leaves, |l| {
            let rows = l[0].clone().reshape([batch, positions, width]);
            let part = |first: usize, count: usize| {
                let part = rows.clone().narrow(2, first * head_dim, count * head_dim);
                part.reshape([batch, positions, count, head_dim]).swap_dims(1, 2)
            };
            let turn = |x: Tensor<4>| {
                let (a, b) = (x.clone().narrow(3, 0, 6), x.narrow(3, 6, 6));
                let (cosine, sine) = (cosine.clone().autodiff(), sine.clone().autodiff());
                let first = a.clone() * cosine.clone() - b.clone() * sine.clone();
                Tensor::cat(vec![first, b * cosine + a * sine], 3)
            };
            let repeat = |x: Tensor<4>| {
                let group = heads / key_heads;
                let x = x.reshape([batch, key_heads, 1, positions * head_dim]).repeat_dim(2, group);
                x.reshape([batch, heads, positions, head_dim])
            };
            let (q, k) = (turn(part(0, heads)), repeat(turn(part(heads, key_heads))));
            let v = repeat(part(heads + key_heads, key_heads));
            let hidden: Vec<f32> = (0..positions * positions)
                .map(|i| {
                    let (query, key) = (i / positions, i % positions);
                    let seen = key <= query && window.is_none_or(|window| query - key < window);
                    if seen { 0.0 } else { -1e9 }
                })
                .collect();
            let hidden = TensorData::new(hidden, [1, 1, positions, positions]);
            let hidden = Tensor::<4>::from_data(hidden, &Device::flex()).autodiff();
            let scores = q.matmul(k.swap_dims(2, 3)).mul_scalar(scale.unwrap_or((head_dim as f64).sqrt().recip()));
            let scores = cap.map_or(scores.clone(), |cap| scores.div_scalar(cap).tanh().mul_scalar(cap));
            let attended = burn::tensor::activation::softmax(scores + hidden, 3).matmul(v);
            attended.swap_dims(1, 2).reshape([batch * positions, heads * head_dim])
        });
        close(&fused, &composed, 3e-6);
    }
}

#[test]
fn scaled_columns_are_the_composed_product() {
    let leaves = [leaf(37, 43, 0.1), leaf(1, 43, 0.5), leaf(37, 43, 0.9)];
    let gain = |l: &[Tensor<2>]| l[1].clone().reshape([43]);
    let fused = run(&leaves, |l| scale_columns(l[0].clone(), gain(l), None, Some(l[2].clone())));
    let composed = run(&leaves, |l| l[2].clone() + l[0].clone() * l[1].clone());
    close(&fused, &composed, 1e-6);
    let bias: Vec<f32> = values(43, 0.3);
    let fused = run(&leaves[..2], |l| scale_columns(l[0].clone(), gain(l), Some(Arc::new(bias.clone())), None));
    let composed = run(&leaves[..2], |l| l[0].clone() * l[1].clone() + plain(1, 43, 0.3));
    close(&fused, &composed, 1e-6);
    let half = |l: &[Tensor<2>]| scale_columns(l[0].clone().cast(DType::BF16), gain(l), None, None);
    close(&run(&leaves[..2], half), &run(&leaves[..2], |l| l[0].clone() * l[1].clone()), 2e-2);
}
