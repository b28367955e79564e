//! RMSNorm against its closed forms in f64.

use cube::{rms_norm, rms_norm_backward, rms_norm_weight_backward};

use crate::testing::{Device, close, values};

const EPSILON: f64 = 1e-5;

/// Closed forms in f64 of y, r, dx and dw.
fn reference(x: &[f64], weight: &[f64], gradient: &[f64]) -> [Vec<f64>; 4] {
    let width = weight.len();
    let mut found = [Vec::new(), Vec::new(), Vec::new(), vec![0.0; width]];
    for (x, g) in x.chunks(width).zip(gradient.chunks(width)) {
        let r = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / width as f64 + EPSILON).sqrt();
        let dot: f64 = x.iter().zip(g).zip(weight).map(|((x, g), w)| x * g * w).sum::<f64>() / width as f64;
        found[1].push(r);
        for i in 0..width {
            found[0].push(x[i] * r * weight[i]);
            found[2].push(r * weight[i] * g[i] - x[i] * r.powi(3) * dot);
            found[3][i] += g[i] * x[i] * r;
        }
    }
    found
}

#[test]
fn values_and_gradients_match_the_definition() {
    let device = Device::open();
    for (rows, width) in [(47, 31), (1, 1), (1, 4096), (130, 64), (3, 576), (5, 1030)] {
        for element in device.elements() {
            let [x, weight, gradient] =
                [(rows * width, 0.3), (width, 0.5), (rows * width, 0.9)].map(|(count, seed)| values(count, seed));
            let (x, gradient) = (device.buffer(&x, element), device.buffer(&gradient, element));
            let weight = device.f32(&weight);
            let [y, dx] = [0, 1].map(|_| device.empty(rows * width, element));
            let (inverse, dweight) = (device.empty_f32(rows), device.empty_f32(width));
            rms_norm(&device.client, &x, &weight, EPSILON as f32, &y, &inverse);
            rms_norm_backward(&device.client, &x, &weight, &inverse, &gradient, &dx);
            rms_norm_weight_backward(&device.client, &x, &inverse, &gradient, &dweight);
            let expected = reference(&device.read(&x), &device.read(&weight), &device.read(&gradient));
            for (found, expected) in [&y, &inverse, &dx, &dweight].into_iter().zip(&expected) {
                close(&device.read(found), expected, device.tolerance(found.element));
            }
        }
    }
}

#[test]
fn a_row_that_is_not_a_number_leaves_the_others_alone() {
    let device = Device::open();
    let (rows, width) = (3, 40);
    let mut x = values(rows * width, 0.3);
    x[width + 7] = f32::NAN;
    let (x, weight) = (device.f32(&x), device.f32(&values(width, 0.5)));
    let (y, inverse) = (device.empty_f32(rows * width), device.empty_f32(rows));
    rms_norm(&device.client, &x, &weight, EPSILON as f32, &y, &inverse);
    let y = device.read(&y);
    assert!(y[width..2 * width].iter().all(|v| v.is_nan()), "{y:?}");
    assert!(y[..width].iter().chain(&y[2 * width..]).all(|v| v.is_finite()), "{y:?}");
}
