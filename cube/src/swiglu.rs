//! The gated activation: `y = silu(gate) * up`.

use cubecl::client::Client;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::{Buffer, address, elementwise, lanes};

/// `silu(gate) * up`
///
/// # Shapes
/// - `gate`, `up`, `y`: of one length and type.
pub fn swiglu(client: &Client, gate: &Buffer, up: &Buffer, y: &Buffer) {
    assert!(gate.length == up.length && gate.length == y.length, "one gate a value");
    assert!(gate.element == up.element && gate.element == y.element, "one type");
    if gate.length == 0 {
        return;
    }
    let lanes = lanes(client, gate.length, &[gate, up, y]);
    let (cubes, dim) = elementwise(client, gate.length / lanes);
    // SAFETY: the lengths agree, and no unit goes past them.
    unsafe {
        forward::launch_unchecked(
            client,
            cubes,
            dim,
            address(&[gate]),
            lanes,
            gate.argument(),
            up.argument(),
            y.argument(),
            gate.element,
        );
    }
}

#[cube]
fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::new(1.0);
    one / (one + (-x).exp())
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn forward<E: Float, N: Size>(
    gate: &[Vector<E, N>],
    up: &[Vector<E, N>],
    y: &mut [Vector<E, N>],
    #[define(E)] _element: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= y.len() {
        terminate!();
    }
    let g = Vector::<f32, N>::cast_from(gate[i]);
    y[i] = Vector::cast_from(g * sigmoid::<N>(g) * Vector::cast_from(up[i]));
}

/// The gradients of `gate` and `up` from that of `y`. With `s` the sigmoid of the gate: `d up = g gate s`,
/// `d gate = g up s (1 + gate (1 - s))`.
///
/// # Shapes
/// - `gate`, `up`, `dgate`, `dup`: of one length and type; `gradient`: of that length.
pub fn swiglu_backward(client: &Client, gate: &Buffer, up: &Buffer, gradient: &Buffer, dgate: &Buffer, dup: &Buffer) {
    let all = [gate, up, dgate, dup];
    assert!(all.iter().all(|buffer| buffer.length == gradient.length), "one gate a value");
    assert!(all.iter().all(|buffer| buffer.element == gate.element), "one type");
    if gate.length == 0 {
        return;
    }
    let lanes = lanes(client, gate.length, &[gate, up, gradient, dgate, dup]);
    let (cubes, dim) = elementwise(client, gate.length / lanes);
    // SAFETY: the lengths agree, and no unit goes past them.
    unsafe {
        backward::launch_unchecked(
            client,
            cubes,
            dim,
            address(&[gate]),
            lanes,
            gate.argument(),
            up.argument(),
            gradient.argument(),
            dgate.argument(),
            dup.argument(),
            [gate.element, gradient.element],
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn backward<E: Float, G: Float, N: Size>(
    gate: &[Vector<E, N>],
    up: &[Vector<E, N>],
    gradient: &[Vector<G, N>],
    dgate: &mut [Vector<E, N>],
    dup: &mut [Vector<E, N>],
    #[define(E, G)] _elements: [ElemType; 2],
) {
    let i = ABSOLUTE_POS;
    if i >= dup.len() {
        terminate!();
    }
    let one = Vector::<f32, N>::new(1.0);
    let x = Vector::<f32, N>::cast_from(gate[i]);
    let s = sigmoid::<N>(x);
    let scaled = Vector::<f32, N>::cast_from(gradient[i]) * s;
    dup[i] = Vector::cast_from(scaled * x);
    dgate[i] = Vector::cast_from(scaled * Vector::cast_from(up[i]) * (one + x * (one - s)));
}

#[cfg(all(test, any(feature = "cuda", feature = "wgpu")))]
mod tests {
    use crate::testing::{Device, close, values};

    #[test]
    fn values_and_gradients_match_the_definition() {
        let device = Device::open();
        for length in [47 * 31, 1, 4096, 258] {
            for element in device.elements() {
                let gate: Vec<f32> = values(length, 0.3).iter().map(|v| v * 4.5).collect();
                let gate = device.buffer(&gate, element);
                let [up, gradient] = [0.5, 0.9].map(|seed| device.buffer(&values(length, seed), element));
                let [y, dgate, dup] = [0, 1, 2].map(|_| device.empty(length, element));
                super::swiglu(&device.client, &gate, &up, &y);
                super::swiglu_backward(&device.client, &gate, &up, &gradient, &dgate, &dup);
                let [gate, up, gradient] = [&gate, &up, &gradient].map(|buffer| device.read(buffer));
                let mut expected = [Vec::new(), Vec::new(), Vec::new()];
                for ((gate, up), g) in gate.into_iter().zip(up).zip(gradient) {
                    let s = 1.0 / (1.0 + (-gate).exp());
                    expected[0].push(gate * s * up);
                    expected[1].push(g * up * (s + gate * s * (1.0 - s)));
                    expected[2].push(g * gate * s);
                }
                for (found, expected) in [y, dgate, dup].iter().zip(&expected) {
                    close(&device.read(found), expected, device.tolerance(element));
                }
            }
        }
    }

    /// The exponential over its whole range, and what is not a number.
    #[test]
    fn extreme_gates_stay_finite_and_nan_stays_nan() {
        let device = Device::open();
        let gate = device.f32(&[-1e30, -100.0, -88.0, 0.0, 88.0, 100.0, 1e30, f32::NAN]);
        let (up, y) = (device.f32(&[1.0; 8]), device.empty_f32(8));
        super::swiglu(&device.client, &gate, &up, &y);
        let y = device.read(&y);
        assert!(y[..7].iter().all(|v| v.is_finite()), "{y:?}");
        assert_eq!((y[3], y[5], y[6] as f32), (0.0, 100.0, 1e30));
        assert!(y[7].is_nan());
    }
}
