//! Softmax and cross-entropy of rows of logits, without a tensor of probabilities.

use cubecl::client::Client;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::reduce::{Largest, Sum, over_cube};
use crate::{Buffer, address, elementwise, lanes, rows, units};

/// The nll of a target in each row of logits, the entropy of the row's softmax, and the log of its sum of exponentials.
///
/// # Shapes
/// - `logits`: `[rows, vocabulary]` of any float type; `targets`: `[rows]`, integers below the vocabulary.
/// - `nll`, `entropy`, `log_sum`: `[rows]`, f32.
pub fn softmax_statistics(
    client: &Client,
    logits: &Buffer,
    targets: &Buffer,
    nll: &Buffer,
    entropy: &Buffer,
    log_sum: &Buffer,
) {
    let count = targets.length;
    if count == 0 {
        return;
    }
    let vocabulary = logits.length / count;
    assert!(logits.length == count * vocabulary && vocabulary > 0, "one target a row");
    assert!([nll, entropy, log_sum].iter().all(|buffer| buffer.length == count), "one of each a row");
    let lanes = lanes(client, vocabulary, &[logits]);
    let units = units(client, vocabulary / lanes);
    // SAFETY: the lengths agree, no unit goes past its row, and targets outside of the vocabulary are not looked up.
    unsafe {
        statistics::launch_unchecked(
            client,
            rows(count),
            CubeDim::new_1d(units as u32),
            address(&[logits]),
            lanes,
            logits.argument(),
            targets.argument(),
            nll.argument(),
            entropy.argument(),
            log_sum.argument(),
            vocabulary / lanes,
            units,
            [logits.element, targets.element],
        );
    }
}

/// Below every logit, and finite, so that no difference with it is not a number.
const LOWEST: f64 = -3.0e38;

/// Where an exponential is zero, in f32 and long before.
const CUT: f64 = -1.0e4;

#[cube(launch_unchecked, address_type = "dynamic")]
fn statistics<E: Float, T: Int, N: Size>(
    logits: &[Vector<E, N>],
    targets: &[T],
    nll: &mut [f32],
    entropy: &mut [f32],
    log_sum: &mut [f32],
    vectors: usize,
    #[comptime] units: usize,
    #[define(E, T)] _elements: [ElemType; 2],
) {
    let row = CUBE_POS;
    if row >= nll.len() {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let start = row * vectors;
    let mut shared = Shared::<[f32]>::new_slice(units);
    let cut = f32::new(CUT);
    // In one pass: the largest so far, the sum of e^(x - largest), and that of (x - largest) e^(x - largest).
    let mut largest = f32::new(LOWEST);
    let mut sum = f32::new(0.0);
    let mut weighted = f32::new(0.0);
    let mut i = unit;
    while i < vectors {
        let v = Vector::<f32, N>::cast_from(logits[start + i]);
        let mut top = largest;
        #[unroll]
        for lane in 0..N::value() {
            top = max(top, v.extract(lane));
        }
        let moved = max(largest - top, cut);
        let scale = moved.exp();
        let shifted = v - Vector::new(top);
        let e = shifted.exp();
        weighted = scale * (weighted + sum * moved) + (max(shifted, Vector::new(cut)) * e).vector_sum();
        sum = sum * scale + e.vector_sum();
        largest = top;
        i += units;
    }
    let top = over_cube::<Largest>(largest, &mut shared, units);
    let moved = max(largest - top, cut);
    let scale = moved.exp();
    let all = over_cube::<Sum>(sum * scale, &mut shared, units);
    let all_weighted = over_cube::<Sum>((weighted + sum * moved) * scale, &mut shared, units);
    if unit == 0 {
        let log = all.ln();
        let target = usize::cast_from(targets[row]);
        let lanes = N::value();
        let observed = if target < vectors * lanes {
            f32::cast_from(logits[start + target / lanes].extract_dynamic(target % lanes))
        } else {
            f32::new(0.0)
        };
        nll[row] = log - (observed - top);
        entropy[row] = log - all_weighted / all;
        log_sum[row] = top + log;
    }
}

/// Turns logits into their gradient, `weight * (softmax - onehot)` of each row, in the same place.
///
/// # Shapes
/// - `logits`: `[rows, vocabulary]`; `targets`: `[rows]`; `log_sum`, `weights`: `[rows]`, f32.
pub fn logits_gradient(client: &Client, logits: &Buffer, targets: &Buffer, log_sum: &Buffer, weights: &Buffer) {
    let count = targets.length;
    if count == 0 {
        return;
    }
    let vocabulary = logits.length / count;
    assert!(logits.length == count * vocabulary && vocabulary > 0, "one target a row");
    assert!(log_sum.length == count && weights.length == count, "one of each a row");
    let lanes = lanes(client, vocabulary, &[logits]);
    let vectors = vocabulary / lanes;
    let (cubes, dim) = elementwise(client, count * vectors);
    // SAFETY: the lengths agree, and no unit goes past them.
    unsafe {
        gradient::launch_unchecked(
            client,
            cubes,
            dim,
            address(&[logits]),
            lanes,
            logits.argument(),
            targets.argument(),
            log_sum.argument(),
            weights.argument(),
            vectors,
            [logits.element, targets.element],
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn gradient<E: Float, T: Int, N: Size>(
    logits: &mut [Vector<E, N>],
    targets: &[T],
    log_sum: &[f32],
    weights: &[f32],
    vectors: usize,
    #[define(E, T)] _elements: [ElemType; 2],
) {
    let i = ABSOLUTE_POS;
    if i >= logits.len() {
        terminate!();
    }
    let row = i / vectors;
    let column = i % vectors;
    let lanes = N::value();
    let shifted = Vector::<f32, N>::cast_from(logits[i]) - Vector::new(log_sum[row]);
    let mut probability = shifted.exp();
    let target = usize::cast_from(targets[row]);
    if column == target / lanes {
        let lane = target % lanes;
        let observed = probability.extract_dynamic(lane);
        probability.insert_dynamic(lane, observed - 1.0);
    }
    logits[i] = Vector::cast_from(probability * Vector::new(weights[row]));
}

#[cfg(all(test, any(feature = "cuda", feature = "wgpu")))]
mod tests {
    use cubecl::prelude::*;

    use crate::testing::{Device, I32, close, values};

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
                let targets_on = crate::Buffer { handle, length: rows, element: I32 };
                let [nll, entropy, log_sum] = [0, 1, 2].map(|_| device.empty_f32(rows));
                super::softmax_statistics(&device.client, &on, &targets_on, &nll, &entropy, &log_sum);
                super::logits_gradient(&device.client, &on, &targets_on, &log_sum, &device.f32(&weights));
                let mut expected = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
                for (row, logits) in logits.chunks(vocabulary).enumerate() {
                    let sum: f64 = logits.iter().map(|v| v.exp()).sum();
                    let probabilities: Vec<f64> = logits.iter().map(|v| v.exp() / sum).collect();
                    let target = targets[row] as usize;
                    expected[0].push(-probabilities[target].ln());
                    expected[1].push(probabilities.iter().map(|p| -p * p.ln()).sum());
                    expected[2].push(sum.ln());
                    expected[3].extend(
                        probabilities
                            .iter()
                            .enumerate()
                            .map(|(i, p)| f64::from(weights[row]) * (p - f64::from(u8::from(i == target)))),
                    );
                }
                for (found, expected) in [&nll, &entropy, &log_sum, &on].into_iter().zip(&expected) {
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
        let targets = crate::Buffer { handle, length: rows, element: I32 };
        let [nll, entropy, log_sum] = [0, 1, 2].map(|_| device.empty_f32(rows));
        super::softmax_statistics(&device.client, &on, &targets, &nll, &entropy, &log_sum);
        let (nll, entropy) = (device.read(&nll), device.read(&entropy));
        assert!(nll[0].is_nan() && !nll[1].is_finite(), "{nll:?}");
        assert_eq!((nll[2], entropy[2]), (0.0, 0.0));
        assert!(nll[3].is_finite() && entropy[3].is_finite());
    }
}
