//! SwiGLU and GeGLU against their definition in f64.

use cube::{Activation, gated, gated_backward};

use crate::testing::{Device, close, values};

/// The activation and its slope.
fn definition(activation: Activation, x: f64) -> (f64, f64) {
    match activation {
        Activation::Silu => {
            let s = 1.0 / (1.0 + (-x).exp());
            (x * s, s + x * s * (1.0 - s))
        }
        Activation::GeluTanh => {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let t = (root * (x + 0.044715 * x.powi(3))).tanh();
            let slope = 0.5 * x * (1.0 - t * t) * root * (1.0 + 3.0 * 0.044715 * x * x);
            (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + slope)
        }
    }
}

#[test]
fn values_and_gradients_match_the_definition() {
    let device = Device::open();
    for activation in [Activation::Silu, Activation::GeluTanh] {
        for length in [47 * 31, 1, 4096, 258] {
            for element in device.elements() {
                let gate: Vec<f32> = values(length, 0.3).iter().map(|v| v * 4.5).collect();
                let gate = device.buffer(&gate, element);
                let [up, gradient] = [0.5, 0.9].map(|seed| device.buffer(&values(length, seed), element));
                let [y, dgate, dup] = [0, 1, 2].map(|_| device.empty(length, element));
                gated(&device.client, activation, &gate, &up, &y);
                gated_backward(&device.client, activation, &gate, &up, &gradient, &dgate, &dup);
                let [gate, up, gradient] = [&gate, &up, &gradient].map(|buffer| device.read(buffer));
                let mut expected = [Vec::new(), Vec::new(), Vec::new()];
                for ((gate, up), g) in gate.into_iter().zip(up).zip(gradient) {
                    let (value, slope) = definition(activation, gate);
                    expected[0].push(value * up);
                    expected[1].push(g * up * slope);
                    expected[2].push(g * value);
                }
                for (found, expected) in [y, dgate, dup].iter().zip(&expected) {
                    close(&device.read(found), expected, device.tolerance(element));
                }
            }
        }
    }
}

/// The exponential over its whole range, and what is not a number.
#[test]
fn extreme_gates_stay_finite_and_nan_stays_nan() {
    let device = Device::open();
    let gate = device.f32(&[-1e30, -100.0, -88.0, 0.0, 88.0, 100.0, 1e30, f32::NAN]);
    let up = device.f32(&[1.0; 8]);
    for activation in [Activation::Silu, Activation::GeluTanh] {
        let [y, dgate, dup] = [0, 1, 2].map(|_| device.empty_f32(8));
        gated(&device.client, activation, &gate, &up, &y);
        gated_backward(&device.client, activation, &gate, &up, &up, &dgate, &dup);
        let [y, dgate, dup] = [y, dgate, dup].map(|buffer| device.read(&buffer));
        for found in [&y, &dgate, &dup] {
            assert!(found[..7].iter().all(|v| v.is_finite()) && found[7].is_nan(), "{activation:?}: {found:?}");
        }
        assert_eq!((y[3], y[5], y[6] as f32), (0.0, 100.0, 1e30));
    }
}
