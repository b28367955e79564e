//! Gated activations: `y = silu(gate) * up` and `y = gelu(gate) * up`.

use cubecl::client::Client;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::{Buffer, address, elementwise, lanes};

/// What a gate goes through. Both have the form `x sigmoid(v(x))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `v(x) = x`
    Silu,
    /// GELU's tanh approximation (Hendrycks and Gimpel 2016, arXiv 1606.08415): `v(x) = 2 sqrt(2 / pi) (x + 0.044715 x^3)`.
    GeluTanh,
}

/// `activation(gate) * up`
///
/// # Shapes
/// - `gate`, `up`, `y`: of one length and type.
pub fn gated(client: &Client, activation: Activation, gate: &Buffer, up: &Buffer, y: &Buffer) {
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
            activation == Activation::GeluTanh,
            gate.element,
        );
    }
}

#[cube]
fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::new(1.0);
    one / (one + (-x).exp())
}

/// `2 sqrt(2 / pi)`, and that times 0.044715.
const LINEAR: f32 = 1.595_769_2;
const CUBIC: f32 = 0.071_354_814;

/// Where GELU's sigmoid is 0 or 1 to the last bit: beyond, its cube would grow to infinity.
const FAR: f32 = 10.0;

/// `v(x)`
#[cube]
fn inner<N: Size>(x: Vector<f32, N>, #[comptime] gelu: bool) -> Vector<f32, N> {
    if gelu {
        let x = max(min(x, Vector::new(FAR)), Vector::new(-FAR));
        x * (x * x * Vector::new(CUBIC) + Vector::new(LINEAR))
    } else {
        x
    }
}

/// `v'(x)`
#[cube]
fn slope<N: Size>(x: Vector<f32, N>, #[comptime] gelu: bool) -> Vector<f32, N> {
    if gelu {
        let x = max(min(x, Vector::new(FAR)), Vector::new(-FAR));
        x * x * Vector::new(3.0 * CUBIC) + Vector::new(LINEAR)
    } else {
        Vector::new(1.0)
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn forward<E: Float, N: Size>(
    gate: &[Vector<E, N>],
    up: &[Vector<E, N>],
    y: &mut [Vector<E, N>],
    #[comptime] gelu: bool,
    #[define(E)] _element: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= y.len() {
        terminate!();
    }
    let g = Vector::<f32, N>::cast_from(gate[i]);
    y[i] = Vector::cast_from(g * sigmoid::<N>(inner::<N>(g, gelu)) * Vector::cast_from(up[i]));
}

/// The gradients of `gate` and `up` from that of `y`. With `s` the sigmoid: `d up = g gate s`,
/// `d gate = g up s (1 + gate v' (1 - s))`.
///
/// # Shapes
/// - `gate`, `up`, `dgate`, `dup`: of one length and type; `gradient`: of that length.
pub fn gated_backward(
    client: &Client,
    activation: Activation,
    gate: &Buffer,
    up: &Buffer,
    gradient: &Buffer,
    dgate: &Buffer,
    dup: &Buffer,
) {
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
            activation == Activation::GeluTanh,
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
    #[comptime] gelu: bool,
    #[define(E, G)] _elements: [ElemType; 2],
) {
    let i = ABSOLUTE_POS;
    if i >= dup.len() {
        terminate!();
    }
    let one = Vector::<f32, N>::new(1.0);
    let x = Vector::<f32, N>::cast_from(gate[i]);
    let s = sigmoid::<N>(inner::<N>(x, gelu));
    let scaled = Vector::<f32, N>::cast_from(gradient[i]) * s;
    dup[i] = Vector::cast_from(scaled * x);
    let bend = one + x * slope::<N>(x, gelu) * (one - s);
    dgate[i] = Vector::cast_from(scaled * Vector::cast_from(up[i]) * bend);
}

#[cfg(all(test, any(feature = "cuda", feature = "wgpu")))]
mod tests {
    use super::Activation;
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
                    super::gated(&device.client, activation, &gate, &up, &y);
                    super::gated_backward(&device.client, activation, &gate, &up, &gradient, &dgate, &dup);
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
            super::gated(&device.client, activation, &gate, &up, &y);
            super::gated_backward(&device.client, activation, &gate, &up, &up, &dgate, &dup);
            let [y, dgate, dup] = [y, dgate, dup].map(|buffer| device.read(&buffer));
            for found in [&y, &dgate, &dup] {
                assert!(found[..7].iter().all(|v| v.is_finite()) && found[7].is_nan(), "{activation:?}: {found:?}");
            }
            assert_eq!((y[3], y[5], y[6] as f32), (0.0, 100.0, 1e30));
        }
    }
}
