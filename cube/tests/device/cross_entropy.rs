//! Softmax, cross-entropy and entropy, and the gradient of logits, against their definition in f64.

use cube::{Buffer, Statistics, logits_gradient, softmax_statistics};
use cubecl::prelude::*;

use crate::testing::{Device, I32, close, values};

fn statistics(device: &Device, rows: usize) -> Statistics {
    let empty = || device.empty_f32(rows);
    Statistics { nll: empty(), entropy: empty(), largest: empty(), above: empty() }
}

#[test]
fn statistics_and_gradients_match_the_definition() {
    let device = Device::open();
    for (rows, vocabulary) in [(47, 31), (1, 1), (5, 5003), (3, 4096), (130, 64)] {
        for element in device.elements() {
            let logits: Vec<f32> = values(rows * vocabulary, 0.3).iter().map(|v| v * 4.0).collect();
            let targets: Vec<i32> = (0..rows).map(|row| (row * 7 % vocabulary) as i32).collect();
            let weights: Vec<f32> = (0..rows).map(|row| row as f32 * 0.3).collect();
            let on = device.buffer(&logits, element);
            let logits = device.read(&on);
            let handle = device.client.create_from_slice(i32::as_bytes(&targets));
            let targets_on = Buffer { handle, length: rows, element: I32 };
            let to = statistics(&device, rows);
            softmax_statistics(&device.client, &on, &targets_on, &to);
            let sums = [&to.largest, &to.above];
            logits_gradient(&device.client, &on, &targets_on, sums, &device.f32(&weights));
            let mut expected: [Vec<f64>; 5] = Default::default();
            for (row, logits) in logits.chunks(vocabulary).enumerate() {
                let sum: f64 = logits.iter().map(|v| v.exp()).sum();
                let probabilities: Vec<f64> = logits.iter().map(|v| v.exp() / sum).collect();
                let target = targets[row] as usize;
                expected[0].push(-probabilities[target].ln());
                expected[1].push(probabilities.iter().map(|p| -p * p.ln()).sum());
                let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                expected[2].push(largest);
                expected[3].push(sum.ln() - largest);
                expected[4].extend(
                    probabilities
                        .iter()
                        .enumerate()
                        .map(|(i, p)| f64::from(weights[row]) * (p - f64::from(u8::from(i == target)))),
                );
            }
            let found = [&to.nll, &to.entropy, &to.largest, &to.above, &on];
            for (found, expected) in found.into_iter().zip(&expected) {
                close(&device.read(found), expected, device.tolerance(found.element));
            }
        }
    }
}

/// A row with a value that is not finite shows in its own nll and in no other; very low logits do no harm.
#[test]
fn logits_that_are_not_finite_show() {
    let device = Device::open();
    let (rows, vocabulary) = (4, 1000);
    let mut logits = values(rows * vocabulary, 0.3);
    logits[7] = f32::NAN;
    logits[vocabulary + 900] = f32::INFINITY;
    logits[2 * vocabulary..3 * vocabulary].fill(-1e30);
    logits[2 * vocabulary + 5] = 1.0;
    let on = device.f32(&logits);
    let handle = device.client.create_from_slice(i32::as_bytes(&[5; 4]));
    let targets = Buffer { handle, length: rows, element: I32 };
    let to = statistics(&device, rows);
    softmax_statistics(&device.client, &on, &targets, &to);
    let (nll, entropy) = (device.read(&to.nll), device.read(&to.entropy));
    assert!(nll[0].is_nan() && !nll[1].is_finite(), "{nll:?}");
    assert_eq!((nll[2], entropy[2]), (0.0, 0.0));
    assert!(nll[3].is_finite() && entropy[3].is_finite());
}
