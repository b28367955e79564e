//! A factor for each column of a matrix of activations: DoRA's.

use cubecl::client::Client;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::{Buffer, address, elementwise, lanes};

/// `z * gain`
///
/// # Shapes
/// - `z`, `y`: `[rows, width]` of one type; `gain`: `[width]`, f32.
pub fn scale_columns(client: &Client, z: &Buffer, gain: &Buffer, y: &Buffer) {
    let width = gain.length;
    assert!(z.length.is_multiple_of(width.max(1)) && y.length == z.length, "rows of another width");
    assert!(z.element == y.element, "one type");
    if z.length == 0 {
        return;
    }
    let lanes = lanes(client, width, &[z, gain, y]);
    let (cubes, dim) = elementwise(client, z.length / lanes);
    // SAFETY: the lengths agree, and no unit goes past them.
    unsafe {
        forward::launch_unchecked(
            client,
            cubes,
            dim,
            address(&[z]),
            lanes,
            z.argument(),
            gain.argument(),
            y.argument(),
            z.element,
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn forward<E: Float, N: Size>(
    z: &[Vector<E, N>],
    gain: &[Vector<f32, N>],
    y: &mut [Vector<E, N>],
    #[define(E)] _element: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= y.len() {
        terminate!();
    }
    y[i] = Vector::cast_from(Vector::<f32, N>::cast_from(z[i]) * gain[i % gain.len()]);
}

/// Rows of a partial sum.
const PIECE: usize = 64;

/// The gradients of `z` and `gain` from that of the output: `dz = g gain`, `dgain = sum over the rows of g z`, in an order
/// that is always the same.
///
/// # Shapes
/// - `z`, `dz`: `[rows, width]` of one type; `gradient`: `[rows, width]`; `gain`, `dgain`: `[width]`, f32.
pub fn scale_columns_backward(
    client: &Client,
    z: &Buffer,
    gain: &Buffer,
    gradient: &Buffer,
    dz: &Buffer,
    dgain: &Buffer,
) {
    let width = gain.length;
    assert!([gradient, dz].iter().all(|buffer| buffer.length == z.length), "rows of another width");
    assert!(z.length.is_multiple_of(width.max(1)) && dgain.length == width, "rows of another width");
    assert!(z.element == dz.element, "one type");
    if width == 0 {
        return;
    }
    let count = z.length / width;
    let pieces = count.div_ceil(PIECE).max(1);
    let partial = Buffer::empty(client, pieces * width, gain.element);
    let lanes = lanes(client, width, &[z, gain, gradient, dz, dgain]);
    let vectors = width / lanes;
    let (cubes, dim) = elementwise(client, pieces * vectors);
    // SAFETY: the lengths agree, and no unit goes past its column.
    unsafe {
        backward::launch_unchecked(
            client,
            cubes,
            dim,
            address(&[z, &partial]),
            lanes,
            z.argument(),
            gain.argument(),
            gradient.argument(),
            dz.argument(),
            partial.argument(),
            count,
            PIECE,
            [z.element, gradient.element],
        );
    }
    column_sums(client, &partial, dgain);
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn backward<E: Float, G: Float, N: Size>(
    z: &[Vector<E, N>],
    gain: &[Vector<f32, N>],
    gradient: &[Vector<G, N>],
    dz: &mut [Vector<E, N>],
    partial: &mut [Vector<f32, N>],
    count: usize,
    #[comptime] piece: usize,
    #[define(E, G)] _elements: [ElemType; 2],
) {
    if ABSOLUTE_POS >= partial.len() {
        terminate!();
    }
    let vectors = gain.len();
    let column = ABSOLUTE_POS % vectors;
    let first = ABSOLUTE_POS / vectors * piece;
    let last = min(first + piece, count);
    let factor = gain[column];
    let mut sum = Vector::<f32, N>::new(0.0);
    for row in first..last {
        let i = row * vectors + column;
        let g = Vector::<f32, N>::cast_from(gradient[i]);
        dz[i] = Vector::cast_from(g * factor);
        sum += g * Vector::cast_from(z[i]);
    }
    partial[ABSOLUTE_POS] = sum;
}

/// The sum of the rows of `partial`, from the first to the last.
///
/// # Shapes
/// - `partial`: `[rows, width]`, `total`: `[width]`, both f32.
pub(crate) fn column_sums(client: &Client, partial: &Buffer, total: &Buffer) {
    let rows = partial.length / total.length;
    let lanes = lanes(client, total.length, &[partial, total]);
    let (cubes, dim) = elementwise(client, total.length / lanes);
    // SAFETY: every row has a value for each of the sums, and no unit goes past its column.
    unsafe {
        sums::launch_unchecked(
            client,
            cubes,
            dim,
            address(&[partial]),
            lanes,
            partial.argument(),
            total.argument(),
            rows,
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn sums<N: Size>(partial: &[Vector<f32, N>], total: &mut [Vector<f32, N>], rows: usize) {
    if ABSOLUTE_POS >= total.len() {
        terminate!();
    }
    let mut sum = Vector::<f32, N>::new(0.0);
    for row in 0..rows {
        sum += partial[row * total.len() + ABSOLUTE_POS];
    }
    total[ABSOLUTE_POS] = sum;
}
