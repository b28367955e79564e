//! Rotary encoding against its definition in f64.

use cube::{Layout, rotate};

use crate::testing::{Device, close, values};

/// Contiguous heads and heads inside of rows, one table for all rows and one for each, and the way back.
#[test]
fn turns_match_the_definition_and_are_undone_by_their_inverse() {
    let device = Device::open();
    for (batch, heads, positions, head_dim, tables) in [(2, 3, 5, 8, 1), (3, 2, 4, 6, 3), (1, 1, 1, 2, 1)] {
        let half = head_dim / 2;
        let count = batch * heads * positions * head_dim;
        let angles: Vec<f32> = values(tables * positions * half, 0.2);
        let cosine: Vec<f32> = angles.iter().map(|angle| angle.cos()).collect();
        let sine: Vec<f32> = angles.iter().map(|angle| angle.sin()).collect();
        let (cosine_on, sine_on) = (device.f32(&cosine), device.f32(&sine));
        let shape = [batch, heads, positions, head_dim];
        let contiguous = [heads * positions * head_dim, positions * head_dim, head_dim];
        let inside_of_rows = [heads * positions * head_dim, head_dim, heads * head_dim];
        for strides in [contiguous, inside_of_rows] {
            for element in device.elements() {
                let x = device.buffer(&values(count, 0.7), element);
                let [y, back] = [0, 1].map(|_| device.empty(count, element));
                rotate(&device.client, &x, Layout { shape, strides }, &cosine_on, &sine_on, 1.0, &y);
                let plain = Layout { shape, strides: contiguous };
                rotate(&device.client, &y, plain, &cosine_on, &sine_on, -1.0, &back);
                let x = device.read(&x);
                let (mut turned, mut same) = (Vec::new(), Vec::new());
                for row in 0..batch * heads * positions {
                    let (b, h, p) = (row / positions / heads, row / positions % heads, row % positions);
                    let from = b * strides[0] + h * strides[1] + p * strides[2];
                    let at = |i: usize| ((b % tables) * positions + p) * half + i % half;
                    for i in 0..head_dim {
                        let other = if i < half { -x[from + i + half] } else { x[from + i - half] };
                        turned.push(x[from + i] * f64::from(cosine[at(i)]) + other * f64::from(sine[at(i)]));
                        same.push(x[from + i]);
                    }
                }
                close(&device.read(&y), &turned, device.tolerance(element));
                close(&device.read(&back), &same, 2.0 * device.tolerance(element));
            }
        }
    }
}
