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
