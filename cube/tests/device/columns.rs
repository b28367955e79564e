//! DoRA's factors of columns against their definition in f64.

use cube::{scale_columns, scale_columns_backward};

use crate::testing::{Device, close, values};

#[test]
fn values_and_gradients_match_the_definition() {
    let device = Device::open();
    for (rows, width) in [(47, 31), (1, 1), (1, 4096), (130, 64), (64, 576), (5, 1030)] {
        for element in device.elements() {
            let [z, gradient] = [0.3, 0.9].map(|seed| device.buffer(&values(rows * width, seed), element));
            let gain = device.f32(&values(width, 0.5));
            let [y, dz] = [0, 1].map(|_| device.empty(rows * width, element));
            let dgain = device.empty_f32(width);
            scale_columns(&device.client, &z, &gain, &y);
            scale_columns_backward(&device.client, &z, &gain, &gradient, &dz, &dgain);
            let [z, gain, gradient] = [&z, &gain, &gradient].map(|buffer| device.read(buffer));
            let mut expected = [Vec::new(), Vec::new(), vec![0.0; width]];
            for (i, (z, g)) in z.iter().zip(&gradient).enumerate() {
                let column = i % width;
                expected[0].push(z * gain[column]);
                expected[1].push(g * gain[column]);
                expected[2][column] += g * z;
            }
            for (found, expected) in [&y, &dz, &dgain].into_iter().zip(&expected) {
                close(&device.read(found), expected, device.tolerance(found.element));
            }
        }
    }
}
