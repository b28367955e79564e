//! Softmax and cross-entropy of rows of logits, without a tensor of probabilities.

use cubecl::client::Client;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::reduce::{Largest, Sum, over_cube};
use crate::{Buffer, address, elementwise, lanes, rows, units};

/// Where the statistics of rows of logits go, `[rows]` of f32 each.
pub struct Statistics {
    /// The nll of each row's target.
    pub nll: Buffer,
    /// The entropy of its softmax.
    pub entropy: Buffer,
    /// Its largest logit.
    pub largest: Buffer,
    /// The log of the sum of the exponentials of what its logits are below that. A probability is
    /// `exp((logit - largest) - above)`: the sum of the two in f32 would be wrong by more than what is left of `1 - q` where a
    /// model is sure.
    pub above: Buffer,
}

/// The statistics of rows of logits with one target a row.
///
/// # Shapes
/// - `logits`: `[rows, vocabulary]` of any float type; `targets`: `[rows]`, integers below the vocabulary.
pub fn softmax_statistics(client: &Client, logits: &Buffer, targets: &Buffer, to: &Statistics) {
    let count = targets.length;
    if count == 0 {
        return;
    }
    let vocabulary = logits.length / count;
    assert!(logits.length == count * vocabulary && vocabulary > 0, "one target a row");
    let Statistics { nll, entropy, largest, above } = to;
    assert!([nll, entropy, largest, above].iter().all(|buffer| buffer.length == count), "one of each a row");
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
            largest.argument(),
            above.argument(),
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
    tops: &mut [f32],
    above: &mut [f32],
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
        tops[row] = top;
        above[row] = log;
    }
}

/// Turns logits into their gradient, `weight * (softmax - onehot)` of each row, in the same place, by the two parts of the log of
/// the row's sum of exponentials (see [`Statistics`]).
///
/// # Shapes
/// - `logits`: `[rows, vocabulary]`; `targets`: `[rows]`; `largest`, `above`, `weights`: `[rows]`, f32.
pub fn logits_gradient(
    client: &Client,
    logits: &Buffer,
    targets: &Buffer,
    [largest, above]: [&Buffer; 2],
    weights: &Buffer,
) {
    let count = targets.length;
    if count == 0 {
        return;
    }
    let vocabulary = logits.length / count;
    assert!(logits.length == count * vocabulary && vocabulary > 0, "one target a row");
    assert!([largest, above, weights].iter().all(|buffer| buffer.length == count), "one of each a row");
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
            largest.argument(),
            above.argument(),
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
    largest: &[f32],
    above: &[f32],
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
    let below = Vector::<f32, N>::cast_from(logits[i]) - Vector::new(largest[row]);
    let mut probability = (below - Vector::new(above[row])).exp();
    let target = usize::cast_from(targets[row]);
    if column == target / lanes {
        let lane = target % lanes;
        let observed = probability.extract_dynamic(lane);
        probability.insert_dynamic(lane, observed - 1.0);
    }
    logits[i] = Vector::cast_from(probability * Vector::new(weights[row]));
}
