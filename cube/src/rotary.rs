//! Rotary encoding as published models have it (rotate-half): the first half of a head is turned against the second.

use cubecl::client::Client;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::{Buffer, address, elementwise, lanes};

/// Where the values of `[batch, heads, positions, head_dim]` lie; those of a head one after another.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Batch, heads, positions and head_dim.
    pub shape: [usize; 4],
    /// From one row of the batch, one head and one position to the next, in values.
    pub strides: [usize; 3],
}

/// Turns every head by its position, forwards (`sign` 1) or back (`sign` -1), which is also the way back of a gradient.
///
/// # Shapes
/// - `x`: laid out as said; `y`: `[batch, heads, positions, head_dim]`, contiguous, of the type of `x`.
/// - `cosine`, `sine`: `[1 or batch, positions, head_dim / 2]`, f32.
pub fn rotate(client: &Client, x: &Buffer, layout: Layout, cosine: &Buffer, sine: &Buffer, sign: f32, y: &Buffer) {
    let Layout { shape: [batch, heads, positions, head_dim], strides } = layout;
    let half = head_dim / 2;
    assert!(head_dim.is_multiple_of(2) && y.length == batch * heads * positions * head_dim, "heads with two halves");
    assert!(cosine.length == sine.length && x.element == y.element, "one angle, one type");
    if y.length == 0 {
        return;
    }
    let tables = cosine.length / (positions * half);
    assert!(
        cosine.length == tables * positions * half && (tables == 1 || tables == batch),
        "tables of these positions"
    );
    let last = [batch, heads, positions].iter().zip(strides).map(|(size, stride)| (size - 1) * stride).sum::<usize>();
    assert!(last + head_dim <= x.length, "the layout lies inside of the values");
    let lanes = strides.iter().fold(half, |common, stride| gcd(common, *stride));
    let lanes = self::lanes(client, lanes, &[x, cosine, sine, y]);
    let [batch_stride, head_stride, position_stride] = strides.map(|stride| stride / lanes);
    let half = half / lanes;
    let (cubes, dim) = elementwise(client, batch * heads * positions * half);
    // SAFETY: the lengths agree, the layout lies inside of the values, and no unit goes past them.
    unsafe {
        turn::launch_unchecked(
            client,
            cubes,
            dim,
            address(&[x, y]),
            lanes,
            x.argument(),
            cosine.argument(),
            sine.argument(),
            y.argument(),
            HeadsLaunch::new(
                heads,
                positions,
                half,
                batch_stride,
                head_stride,
                position_stride,
                if tables == 1 { 0 } else { positions * half },
                sign,
            ),
            x.element,
        );
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Sizes and strides in vectors, and which way is turned.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Heads {
    heads: usize,
    positions: usize,
    half: usize,
    batch_stride: usize,
    head_stride: usize,
    position_stride: usize,
    table_stride: usize,
    sign: f32,
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn turn<E: Float, N: Size>(
    x: &[Vector<E, N>],
    cosine: &[Vector<f32, N>],
    sine: &[Vector<f32, N>],
    y: &mut [Vector<E, N>],
    by: Heads,
    #[define(E)] _element: ElemType,
) {
    let pair = ABSOLUTE_POS;
    if pair >= y.len() / 2 {
        terminate!();
    }
    let half = by.half;
    let i = pair % half;
    let row = pair / half;
    let position = row % by.positions;
    let head = row / by.positions % by.heads;
    let batch = row / by.positions / by.heads;
    let from = batch * by.batch_stride + head * by.head_stride + position * by.position_stride + i;
    let to = row * half * 2 + i;
    let angle = batch * by.table_stride + position * half + i;
    let c = cosine[angle];
    let s = sine[angle] * Vector::new(by.sign);
    let first = Vector::<f32, N>::cast_from(x[from]);
    let second = Vector::<f32, N>::cast_from(x[from + half]);
    y[to] = Vector::cast_from(first * c - second * s);
    y[to + half] = Vector::cast_from(second * c + first * s);
}
