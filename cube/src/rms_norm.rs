//! Root mean square norm: `y = x r w` with `r = 1 / sqrt(mean(x^2) + epsilon)` of each row.

use cubecl::client::Client;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::columns::column_sums;
use crate::reduce::{Sum, over_cube};
use crate::{Buffer, address, elementwise, lanes, rows, units};

/// Normalises rows of the weight's length, and keeps the `r` of each row in `inverse`.
///
/// # Shapes
/// - `x`, `y`: `[rows, width]` of any two float types; `weight`: `[width]`, `inverse`: `[rows]`, both f32.
pub fn rms_norm(client: &Client, x: &Buffer, weight: &Buffer, epsilon: f32, y: &Buffer, inverse: &Buffer) {
    let width = weight.length;
    let count = inverse.length;
    assert!(x.length == count * width && y.length == x.length, "rows of another width");
    if x.length == 0 {
        return;
    }
    let lanes = lanes(client, width, &[x, weight, y]);
    let units = units(client, width / lanes);
    // SAFETY: the lengths agree, and no unit goes past its row.
    unsafe {
        forward::launch_unchecked(
            client,
            rows(count),
            CubeDim::new_1d(units as u32),
            address(&[x]),
            lanes,
            x.argument(),
            weight.argument(),
            y.argument(),
            inverse.argument(),
            RowLaunch::new(width / lanes, width as f32, units),
            epsilon,
            [x.element, y.element],
        );
    }
}

/// A row as a cube reduces it.
#[derive(CubeType, CubeLaunch, Clone)]
struct Row {
    /// Its vectors.
    vectors: usize,
    /// Its values.
    width: f32,
    /// Units of a cube.
    #[cube(comptime)]
    units: usize,
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn forward<I: Float, O: Float, N: Size>(
    x: &[Vector<I, N>],
    weight: &[Vector<f32, N>],
    y: &mut [Vector<O, N>],
    inverse: &mut [f32],
    of: Row,
    epsilon: f32,
    #[define(I, O)] _elements: [ElemType; 2],
) {
    let row = CUBE_POS;
    if row >= inverse.len() {
        terminate!();
    }
    let units = comptime![of.units];
    let vectors = of.vectors;
    let unit = UNIT_POS as usize;
    let start = row * vectors;
    let mut shared = Shared::<[f32]>::new_slice(units);
    let mut squares = Vector::<f32, N>::new(0.0);
    let mut i = unit;
    while i < vectors {
        let v = Vector::<f32, N>::cast_from(x[start + i]);
        squares += v * v;
        i += units;
    }
    let sum = over_cube::<Sum>(squares.vector_sum(), &mut shared, units);
    let r = 1.0 / (sum / of.width + epsilon).sqrt();
    let mut i = unit;
    while i < vectors {
        let v = Vector::<f32, N>::cast_from(x[start + i]);
        y[start + i] = Vector::cast_from(v * Vector::new(r) * weight[i]);
        i += units;
    }
    if unit == 0 {
        inverse[row] = r;
    }
}

/// The gradient of `x` from that of `y`: `dx = r w g - x r^3 mean(w g x)`.
///
/// # Shapes
/// - `x`, `gradient`, `dx`: `[rows, width]`; `weight`: `[width]`, `inverse`: `[rows]`, both f32.
pub fn rms_norm_backward(
    client: &Client,
    x: &Buffer,
    weight: &Buffer,
    inverse: &Buffer,
    gradient: &Buffer,
    dx: &Buffer,
) {
    let width = weight.length;
    let count = inverse.length;
    assert!(x.length == count * width && gradient.length == x.length && dx.length == x.length, "rows of another width");
    if x.length == 0 {
        return;
    }
    let lanes = lanes(client, width, &[x, weight, gradient, dx]);
    let units = units(client, width / lanes);
    // SAFETY: the lengths agree, and no unit goes past its row.
    unsafe {
        backward::launch_unchecked(
            client,
            rows(count),
            CubeDim::new_1d(units as u32),
            address(&[x]),
            lanes,
            x.argument(),
            weight.argument(),
            inverse.argument(),
            gradient.argument(),
            dx.argument(),
            RowLaunch::new(width / lanes, width as f32, units),
            [x.element, gradient.element, dx.element],
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn backward<I: Float, G: Float, O: Float, N: Size>(
    x: &[Vector<I, N>],
    weight: &[Vector<f32, N>],
    inverse: &[f32],
    gradient: &[Vector<G, N>],
    dx: &mut [Vector<O, N>],
    of: Row,
    #[define(I, G, O)] _elements: [ElemType; 3],
) {
    let row = CUBE_POS;
    if row >= inverse.len() {
        terminate!();
    }
    let units = comptime![of.units];
    let vectors = of.vectors;
    let unit = UNIT_POS as usize;
    let start = row * vectors;
    let mut shared = Shared::<[f32]>::new_slice(units);
    let mut products = Vector::<f32, N>::new(0.0);
    let mut i = unit;
    while i < vectors {
        let v = Vector::<f32, N>::cast_from(x[start + i]);
        products += v * weight[i] * Vector::cast_from(gradient[start + i]);
        i += units;
    }
    let dot = over_cube::<Sum>(products.vector_sum(), &mut shared, units);
    let r = inverse[row];
    let factor = dot / of.width * r * r * r;
    let mut i = unit;
    while i < vectors {
        let v = Vector::<f32, N>::cast_from(x[start + i]);
        let g = weight[i] * Vector::cast_from(gradient[start + i]);
        dx[start + i] = Vector::cast_from(g * Vector::new(r) - v * Vector::new(factor));
        i += units;
    }
}

/// Rows of a partial sum of the weight's gradient.
const PIECE: usize = 64;

/// The gradient of the weight, `dw = sum over the rows of g x r`, in an order that is always the same.
///
/// # Shapes
/// - `x`, `gradient`: `[rows, width]`; `inverse`: `[rows]`, `dweight`: `[width]`, both f32.
pub fn rms_norm_weight_backward(client: &Client, x: &Buffer, inverse: &Buffer, gradient: &Buffer, dweight: &Buffer) {
    let width = dweight.length;
    let count = inverse.length;
    assert!(x.length == count * width && gradient.length == x.length, "rows of another width");
    if width == 0 {
        return;
    }
    let pieces = count.div_ceil(PIECE).max(1);
    let partial = Buffer::empty(client, pieces * width, dweight.element);
    let lanes = lanes(client, width, &[x, gradient, dweight]);
    let vectors = width / lanes;
    let (cubes, dim) = elementwise(client, pieces * vectors);
    // SAFETY: the lengths agree, and no unit goes past its column.
    unsafe {
        weight_partial::launch_unchecked(
            client,
            cubes,
            dim,
            address(&[x, &partial]),
            lanes,
            x.argument(),
            inverse.argument(),
            gradient.argument(),
            partial.argument(),
            vectors,
            PIECE,
            [x.element, gradient.element],
        );
    }
    column_sums(client, &partial, dweight);
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn weight_partial<I: Float, G: Float, N: Size>(
    x: &[Vector<I, N>],
    inverse: &[f32],
    gradient: &[Vector<G, N>],
    partial: &mut [Vector<f32, N>],
    vectors: usize,
    #[comptime] piece: usize,
    #[define(I, G)] _elements: [ElemType; 2],
) {
    if ABSOLUTE_POS >= partial.len() {
        terminate!();
    }
    let column = ABSOLUTE_POS % vectors;
    let first = ABSOLUTE_POS / vectors * piece;
    let last = min(first + piece, inverse.len());
    let mut sum = Vector::<f32, N>::new(0.0);
    let mut row = first;
    while row < last {
        let i = row * vectors + column;
        let r = Vector::new(inverse[row]);
        sum += Vector::cast_from(x[i]) * Vector::cast_from(gradient[i]) * r;
        row += 1;
    }
    partial[ABSOLUTE_POS] = sum;
}
