//! Projections of packed matrices beside the composed ones, and DoRA beside PEFT.

use std::sync::Arc;

use burn::tensor::{Device, TensorData};
use kernels::{Packed, Precision};

use super::*;

fn values(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.7 + seed).sin()).collect()
}

fn host(tensor: Tensor<2>) -> Vec<f64> {
    crate::values(tensor.flatten(0, 1)).into_iter().map(f64::from).collect()
}

/// DoRA with dropped inputs, as PEFT's `DoraLinearVariant.forward` has it in training:
/// `W x + b + (g - 1) W d + g s B A d`, d what is left of x, in plain f64.
#[test]
fn dora_acts_on_dropped_inputs_as_in_peft() {
    let (tokens, inputs, outputs, rank, scale) = (5, 6, 7, 2, 0.8);
    let matrix = |rows: usize, columns: usize, seed: f32| -> Tensor<2> {
        Tensor::from_data(TensorData::new(values(rows * columns, seed), [rows, columns]), &Device::flex())
    };
    let weight = Packed::new(&values(outputs * inputs, 0.1), [outputs, inputs], (inputs, 1), 1.0, Precision::F32);
    let weight = Matrix::Packed(Arc::new(weight));
    let lengths = Tensor::from_data(TensorData::new(values(outputs, 2.0), [outputs]), &Device::flex());
    let (a, b) = (matrix(rank, inputs, 0.2), matrix(outputs, rank, 0.3));
    let lora = Lora::new(a.clone(), b.clone(), scale, 0.5).with_magnitude(&weight, Some(lengths));
    let bias = Tensor::from_data(TensorData::new(values(outputs, 0.4), [outputs]), &Device::flex());
    let (x, seed) = (matrix(tokens, inputs, 0.5), 9);
    let mask = host(lora.mask("it", &x, Some(seed)).expect("inputs are dropped"));
    assert!(mask.contains(&0.0) && mask.contains(&2.0), "{mask:?}");
    let mut linear = Linear { name: "it".into(), weight, bias: Some(bias), lora: None };
    linear.attach(lora);
    let context = Context::without_positions;
    let (w, a, b, x) = (values(outputs * inputs, 0.1), host(a), host(b), host(x));
    let expected = |mask: &[f64]| -> Vec<f64> {
        let dropped: Vec<f64> = x.iter().zip(mask).map(|(x, mask)| x * mask).collect();
        let mut y = Vec::new();
        for token in 0..tokens {
            for output in 0..outputs {
                let w: Vec<f64> = w[output * inputs..][..inputs].iter().map(|w| f64::from(*w)).collect();
                let more = |i: usize| scale * (0..rank).map(|r| b[output * rank + r] * a[r * inputs + i]).sum::<f64>();
                let norm = (0..inputs).map(|i| (w[i] + more(i)).powi(2)).sum::<f64>().sqrt();
                let gain = f64::from(values(outputs, 2.0)[output]) / norm;
                let dot = |row: &dyn Fn(usize) -> f64, x: &[f64]| -> f64 {
                    (0..inputs).map(|i| row(i) * x[token * inputs + i]).sum()
                };
                let own = dot(&|i| w[i], &x) + (gain - 1.0) * dot(&|i| w[i], &dropped);
                y.push(own + gain * dot(&more, &dropped) + f64::from(values(outputs, 0.4)[output]));
            }
        }
        y
    };
    let input = || matrix(tokens, inputs, 0.5);
    let close = |found: Vec<f64>, expected: Vec<f64>| {
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(found.len() == expected.len() && worst < 1e-5, "{worst}");
    };
    close(host(linear.forward(input(), None, &context(Some(seed)))), expected(&mask));
    close(host(linear.forward(input(), None, &context(None))), expected(&vec![1.0; tokens * inputs]));
}

/// Projections of packed matrices beside those that are composed of burn's operations, with the same inputs dropped:
/// alone, side by side, and onto a residual, forward and backward.
#[test]
fn dropped_inputs_are_those_of_the_composed_projections() {
    let (tokens, inputs, outputs, rank) = (9, 12, [7, 5], 3);
    let matrix = |rows: usize, columns: usize, seed: f32| -> Tensor<2> {
        Tensor::from_data(TensorData::new(values(rows * columns, seed), [rows, columns]), &Device::flex())
    };
    let context = Context::without_positions(Some(3));
    for (scaled, bias) in [(false, true), (true, false), (true, true)] {
        let linears = |packed: bool| -> Linears {
            let linear = |(index, outputs): (usize, usize)| {
                let seed = index as f32;
                let shape = [outputs, inputs];
                let plain = values(outputs * inputs, seed);
                let plain = match packed {
                    true => Matrix::Packed(Arc::new(Packed::new(&plain, shape, (inputs, 1), 1.0, Precision::F32))),
                    false => Matrix::Tensor(matrix(outputs, inputs, seed).autodiff()),
                };
                let lora = Lora::new(matrix(rank, inputs, seed + 0.2), matrix(outputs, rank, seed + 0.3), 0.8, 0.4);
                let lengths = Tensor::from_data(TensorData::new(values(outputs, 2.0), [outputs]), &Device::flex());
                let lora = if scaled { lora.with_magnitude(&plain, Some(lengths)) } else { lora };
                let bias = Tensor::from_data(TensorData::new(values(outputs, 0.4), [outputs]), &Device::flex());
                Linear { name: format!("{index}"), weight: plain, bias: Some(bias), lora: Some(lora) }
            };
            let both = outputs.into_iter().enumerate().map(linear);
            Linears(both.map(|linear| if bias { linear } else { Linear { bias: None, ..linear } }).collect())
        };
        let run = |mut linears: Linears| -> Vec<Vec<f64>> {
            let x = matrix(tokens, inputs, 0.5).autodiff().require_grad();
            let residual = matrix(tokens, outputs[0], 0.9).autodiff().require_grad();
            let together = match linears.together(outputs, x.clone(), &context) {
                Projected::Together(y) => y,
                Projected::Apart(parts) => Tensor::cat(parts.to_vec(), 1),
            };
            let onto = linears.0[0].forward(x.clone(), Some(residual.clone()), &context);
            let alone = linears.0[1].forward(x.clone(), None, &context);
            let y = Tensor::cat(vec![together, onto, alone], 1);
            let weights = matrix(tokens, y.dims()[1], 0.7).autodiff();
            let mut gradients = (y.clone() * weights).sum().backward();
            let mut found = vec![host(y.inner())];
            found.extend([&x, &residual].map(|leaf| host(leaf.grad(&gradients).expect("a gradient"))));
            for linear in &mut linears.0 {
                let lora = linear.lora.as_mut().expect("an adapter");
                lora.visit("", &mut |_, parameter| {
                    found.push(match parameter {
                        Parameter::Matrix(leaf) => host(leaf.grad_remove(&mut gradients).expect("a gradient")),
                        Parameter::Vector(leaf) => {
                            host(leaf.grad_remove(&mut gradients).expect("a gradient").unsqueeze())
                        }
                    });
                });
            }
            found
        };
        let (fused, composed) = (run(linears(true)), run(linears(false)));
        assert_eq!(fused.len(), if scaled { 9 } else { 7 });
        for (fused, composed) in fused.iter().zip(&composed) {
            let scale = composed.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
            let worst = fused.iter().zip(composed).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(fused.len() == composed.len() && worst < 2e-6 * scale, "{scaled} {bias}: {worst}");
        }
    }
}
