//! AdamW over the flat vector of trained values, with global-norm clipping and the guard against numbers that are not
//! finite: what the host decides on a CPU is decided here on the device, so that no step waits for it.

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::reduce::{Sum, over_cube};
use crate::{Buffer, UNITS, address, elementwise, lanes, rows, units};

/// The numbers of one update.
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep {
    /// Decay of the two moments.
    pub betas: [f32; 2],
    /// 1 less each decay, rounded once: 1 - 0.999 in f32 is off in the fifth digit.
    pub shares: [f32; 2],
    /// The largest global norm of the gradient; `f32::MAX` does not clip.
    pub clip_norm: f32,
    /// Learning rate.
    pub rate: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// 1 less the decay of the values.
    pub keep: f32,
}

/// The vectors of an update: all `[length]` but where said, all f32.
pub struct AdamWBuffers<'a> {
    /// Before the update.
    pub values: &'a Buffer,
    /// Not clipped.
    pub gradient: &'a Buffer,
    /// The step's loss, `[1]`.
    pub loss: &'a Buffer,
    /// Updated in place.
    pub first: &'a Buffer,
    /// Updated in place.
    pub second: &'a Buffer,
    /// `1 - beta^updates` of the two moments, `[2]`, updated in place.
    pub corrections: &'a Buffer,
    /// The values after the update.
    pub updated: &'a Buffer,
    /// The gradient's global norm before clipping, `[1]`; not finite where the norm or the loss is not, and then nothing
    /// else has changed.
    pub norm: &'a Buffer,
}

/// One update.
pub fn adamw(client: &Client, buffers: &AdamWBuffers<'_>, step: &AdamWStep) {
    let AdamWBuffers { values, gradient, loss, first, second, corrections, updated, norm } = *buffers;
    let length = values.length;
    assert!([gradient, first, second, updated].iter().all(|buffer| buffer.length == length), "one of each a value");
    assert!(loss.length == 1 && norm.length == 1 && corrections.length == 2, "one loss, one norm, two corrections");
    let lanes = lanes(client, length, &[values, gradient, first, second, updated]);
    let units = units(client, UNITS);
    let pieces = length.div_ceil(PIECE).max(1);
    let partial = Buffer::empty(client, pieces, norm.element);
    let decided = Buffer::empty(client, FACTORS, norm.element);
    let [beta1, beta2] = step.betas;
    let [share1, share2] = step.shares;
    let AdamWStep { clip_norm, rate, epsilon, keep, .. } = *step;
    let numbers = || NumbersLaunch::new(beta1, beta2, share1, share2, clip_norm, rate, epsilon, keep);
    // SAFETY: the lengths agree, and no unit goes past them.
    unsafe {
        squares::launch_unchecked(
            client,
            rows(pieces),
            CubeDim::new_1d(units as u32),
            address(&[gradient]),
            lanes,
            gradient.argument(),
            partial.argument(),
            PIECE / lanes,
            units,
        );
        decide::launch_unchecked(
            client,
            CubeCount::Static(1, 1, 1),
            CubeDim::new_1d(units as u32),
            address(&[&partial]),
            partial.argument(),
            loss.argument(),
            corrections.argument(),
            decided.argument(),
            norm.argument(),
            numbers(),
            units,
        );
        if length == 0 {
            return;
        }
        let (cubes, dim) = elementwise(client, length / lanes);
        update::launch_unchecked(
            client,
            cubes,
            dim,
            address(&[values]),
            lanes,
            values.argument(),
            gradient.argument(),
            first.argument(),
            second.argument(),
            updated.argument(),
            decided.argument(),
            numbers(),
        );
    }
}

/// [`AdamWStep`] as kernels take it.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Numbers {
    beta1: f32,
    beta2: f32,
    share1: f32,
    share2: f32,
    clip_norm: f32,
    rate: f32,
    epsilon: f32,
    keep: f32,
}

/// Values of a partial sum of squares.
const PIECE: usize = 1 << 14;

/// Numbers that an update reads: whether it takes place, the factor of the gradient, the learning rate over the correction
/// of the first moment, and 1 over the root of that of the second.
const FACTORS: usize = 4;

#[cube(launch_unchecked, address_type = "dynamic")]
fn squares<N: Size>(gradient: &[Vector<f32, N>], partial: &mut [f32], piece: usize, #[comptime] units: usize) {
    let row = CUBE_POS;
    if row >= partial.len() {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let mut shared = Shared::<[f32]>::new_slice(units);
    let last = min((row + 1) * piece, gradient.len());
    let mut sum = Vector::<f32, N>::new(0.0);
    let mut i = row * piece + unit;
    while i < last {
        sum += gradient[i] * gradient[i];
        i += units;
    }
    let total = over_cube::<Sum>(sum.vector_sum(), &mut shared, units);
    if unit == 0 {
        partial[row] = total;
    }
}

/// Told by its bits: a compiler may take it for granted that nothing is infinite.
#[cube]
fn is_finite(value: f32) -> bool {
    let exponent = u32::reinterpret(value) & 0x7f80_0000u32;
    exponent != 0x7f80_0000u32
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn decide(
    partial: &[f32],
    loss: &[f32],
    corrections: &mut [f32],
    decided: &mut [f32],
    norm: &mut [f32],
    step: Numbers,
    #[comptime] units: usize,
) {
    let unit = UNIT_POS as usize;
    let mut shared = Shared::<[f32]>::new_slice(units);
    let mut sum = f32::new(0.0);
    let mut i = unit;
    while i < partial.len() {
        sum += partial[i];
        i += units;
    }
    let total = over_cube::<Sum>(sum, &mut shared, units).sqrt();
    if unit == 0 {
        let known = is_finite(loss[0]);
        norm[0] = select(known, total, loss[0]);
        if known && is_finite(total) {
            let correction1 = corrections[0] * step.beta1 + step.share1;
            let correction2 = corrections[1] * step.beta2 + step.share2;
            corrections[0] = correction1;
            corrections[1] = correction2;
            decided[0] = 1.0;
            // As PyTorch's `clip_grad_norm_`: min(1, clip / (norm + 1e-6)).
            decided[1] = min(step.clip_norm / (total + 1e-6), f32::new(1.0));
            decided[2] = step.rate / correction1;
            decided[3] = 1.0 / correction2.sqrt();
        } else {
            decided[0] = 0.0;
        }
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn update<N: Size>(
    values: &[Vector<f32, N>],
    gradient: &[Vector<f32, N>],
    first: &mut [Vector<f32, N>],
    second: &mut [Vector<f32, N>],
    updated: &mut [Vector<f32, N>],
    decided: &[f32],
    step: Numbers,
) {
    let i = ABSOLUTE_POS;
    if i >= values.len() {
        terminate!();
    }
    if decided[0] == 0.0 {
        updated[i] = values[i];
        terminate!();
    }
    let g = gradient[i] * Vector::new(decided[1]);
    let m = first[i] * Vector::new(step.beta1) + g * Vector::new(step.share1);
    let v = second[i] * Vector::new(step.beta2) + g * g * Vector::new(step.share2);
    first[i] = m;
    second[i] = v;
    let root = v.sqrt() * Vector::new(decided[3]) + Vector::new(step.epsilon);
    updated[i] = values[i] * Vector::new(step.keep) - m * Vector::new(decided[2]) / root;
}
