//! Products with a matrix in codes: a kernel dequantises a piece of it into the type of products, right before each.

use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cube::{Coded, Rows};
use kernels::Quantisation;

use super::composed;
use super::launch::{beside, buffer};
use crate::ops::codes::{CodedOps, Layout, PIECE, Parts, by_pieces, product, product_of};

impl CodedOps for CubeBackend {
    fn coded_product(x: FloatTensor<Self>, parts: Parts<Self>, back: bool) -> FloatTensor<Self> {
        if composed() {
            return product::<Self>(x, &parts, back);
        }
        product_of::<Self>(x, by_pieces(parts.layout.shape, PIECE), back, |rows| {
            values(parts.clone(), Rows::From(rows.start), rows.len())
        })
    }
}

/// So many of the rows, `[count, in]`, in the type of products.
pub(super) fn values(parts: Parts<CubeBackend>, rows: Rows<'_>, count: usize) -> CubeTensor {
    let Parts { codes, scale_codes, scales, tables, layout } = parts;
    let [codes, scale_codes, scales, tables] = [codes, scale_codes, scales, tables].map(into_contiguous);
    let Layout { shape, quantisation, offset, dtype } = layout;
    let values = beside(&codes, Shape::new([count, shape[1]]), dtype);
    let matrix = Coded {
        codes: &buffer(&codes),
        scale_codes: &buffer(&scale_codes),
        scales: &buffer(&scales),
        tables: &buffer(&tables),
        offset,
        nf4: quantisation == Quantisation::Nf4,
        shape,
    };
    cube::dequantise(&codes.client, &matrix, rows, &buffer(&values));
    values
}
