//! Matrices in codes of 8 and 4 bits back into values: the definition is that of `kernels::Quantised`, to the bit.

use cubecl::client::Client;
use cubecl::ir::{AddressType, ElemType};
use cubecl::prelude::*;

use crate::{Buffer, elementwise, lanes};

/// Values that share a magnitude.
const BLOCK: usize = 64;

/// Magnitudes that share one of their own.
const SCALE_BLOCK: usize = 256;

/// Levels of 4 bits, which stand before the map of the magnitudes.
const LEVELS: usize = 16;

/// One part of 127, rounded to f32.
const PART: f32 = 7.874_016e-3;

/// A matrix `[rows, width]` in codes, row after row. Words are 32 bits, their first byte the lowest.
pub struct Coded<'a> {
    /// 8 bits: a byte for each value, more by 128 than the signed part of 127 that the value is. 4 bits: a byte for two, the
    /// first in its high bits. In words.
    pub codes: &'a Buffer,
    /// 4 bits: a byte for each block, in words.
    pub scale_codes: &'a Buffer,
    /// f32: the magnitude of each block; of 4 bits, that of each block of magnitudes.
    pub scales: &'a Buffer,
    /// 4 bits: its levels, then the map of the magnitudes; f32.
    pub tables: &'a Buffer,
    /// What is added to all magnitudes of 4 bits.
    pub offset: f32,
    /// 4 bits, not 8.
    pub nf4: bool,
    /// `[rows, width]`
    pub shape: [usize; 2],
}

/// Which rows of a matrix.
#[derive(Clone, Copy)]
pub enum Rows<'a> {
    /// Those that follow this one.
    From(usize),
    /// These: 32-bit integers.
    Of(&'a Buffer),
}

/// Values of some rows of a matrix, in the type of `values`.
///
/// # Shapes
/// - `values`: `[asked for, width]` of any float type.
pub fn dequantise(client: &Client, matrix: &Coded<'_>, rows: Rows<'_>, values: &Buffer) {
    let Coded { codes, scale_codes, scales, tables, offset, nf4, shape: [outputs, width] } = *matrix;
    let all = outputs * width;
    let (first, ids) = match rows {
        Rows::From(first) => (first, codes),
        Rows::Of(ids) => (0, ids),
    };
    let gathered = matches!(rows, Rows::Of(_));
    let blocks = all.div_ceil(BLOCK);
    assert!(codes.length * if nf4 { 8 } else { 4 } >= all, "a code for each value");
    if nf4 {
        assert!(
            scale_codes.length * 4 >= blocks && scales.length >= blocks.div_ceil(SCALE_BLOCK),
            "one for each block"
        );
        assert!(tables.length >= LEVELS + 256, "the levels and the map");
    } else {
        assert!(scales.length >= blocks, "one for each block");
    }
    if values.length == 0 {
        return;
    }
    let asked = values.length / width;
    assert!(values.length == asked * width, "rows of another width");
    assert!(if gathered { ids.length == asked } else { first + asked <= outputs }, "rows of the matrix");
    // Values that are made together lie in one block, and their codes in one word.
    let lanes = lanes(client, width, &[values]).min(4);
    let (cubes, dim) = elementwise(client, values.length / lanes);
    // SAFETY: there is a code for each value and a magnitude for each block of the matrix, no unit goes past the values, and
    // no row past the last of the matrix.
    unsafe {
        forward::launch_unchecked(
            client,
            cubes,
            dim,
            AddressType::from_len(all.max(values.length)),
            lanes,
            codes.argument(),
            scale_codes.argument(),
            scales.argument(),
            tables.argument(),
            ids.argument(),
            values.argument(),
            AskedLaunch::new(width / lanes, first, outputs - 1, offset, 0, nf4, gathered),
            values.element,
        );
    }
}

/// What a kernel is asked for.
#[derive(CubeType, CubeLaunch, Clone)]
struct Asked {
    /// Vectors of a row.
    vectors: usize,
    /// The first row, where they are not gathered.
    first: usize,
    /// The last row of the matrix.
    last: usize,
    /// [`Coded::offset`]
    offset: f32,
    /// 0, which the compiler does not know: see `rounded`.
    zero: u32,
    /// [`Coded::nf4`]
    #[cube(comptime)]
    nf4: bool,
    /// [`Rows::Of`]
    #[cube(comptime)]
    gathered: bool,
}

/// A product as it is once rounded. A compiler may join it with a sum into one operation that rounds once, or multiply in
/// another order; it does not know that these bits stay what they are.
#[cube]
fn rounded(product: f32, zero: u32) -> f32 {
    f32::reinterpret(u32::reinterpret(product) ^ zero)
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn forward<E: Float, N: Size>(
    codes: &[u32],
    scale_codes: &[u32],
    scales: &[f32],
    tables: &[f32],
    ids: &[u32],
    values: &mut [Vector<E, N>],
    matrix: Asked,
    #[define(E)] _element: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= values.len() {
        terminate!();
    }
    let vectors = matrix.vectors;
    let zero = matrix.zero;
    let asked = i / vectors;
    let row = if comptime![matrix.gathered] { min(ids[asked] as usize, matrix.last) } else { matrix.first + asked };
    let lanes = N::value();
    let place = (row * vectors + i % vectors) * lanes;
    let block = place / BLOCK;
    let mut found = Vector::<f32, N>::new(0.0);
    if comptime![matrix.nf4] {
        let code = (scale_codes[block / 4] >> ((block % 4) as u32 * 8)) & 255;
        let product = tables[code as usize + LEVELS] * scales[block / SCALE_BLOCK];
        let scale = rounded(product, zero) + matrix.offset;
        let word = codes[place / 8];
        let begin = (place % 8) as u32;
        #[unroll]
        for lane in 0..lanes {
            // The first of two values is in the high bits of their byte.
            let shift = ((begin + lane as u32) ^ 1) * 4;
            found.insert(lane, tables[((word >> shift) & 15) as usize] * scale);
        }
    } else {
        let scale = scales[block];
        let word = codes[place / 4];
        let begin = (place % 4) as u32;
        #[unroll]
        for lane in 0..lanes {
            let code = (word >> ((begin + lane as u32) * 8)) & 255;
            found.insert(lane, rounded((f32::cast_from(code) - 128.0) * scale, zero) * PART);
        }
    }
    values[i] = Vector::cast_from(found);
}
