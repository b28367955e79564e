//! Products with a frozen matrix in codes, composed of burn's operations: what a GPU runs. The matrix is dequantised a
//! piece at a time, again on the way back, and never exists as a whole; the definition is that of `kernels::Quantised`,
//! value for value.

use std::ops::Range;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Device, FloatDType, Int, IntDType, Shape, Slice, Tensor, TensorData};
use kernels::{BLOCK, LEVELS, PART, Quantisation, Quantised, SCALE_BLOCK, Scales, dynamic_map};

/// Values that are dequantised at once; in f32 they take 64 MiB.
const PIECE: usize = 1 << 24;

/// A matrix `[out, in]` in codes on a device.
#[derive(Debug, Clone)]
pub struct Codes {
    /// Bytes as `Quantised` has them, of whole blocks.
    codes: Tensor<1, Int>,
    /// nf4: the code of each block's magnitude, filled up to whole blocks of them.
    scale_codes: Tensor<1, Int>,
    /// int8: the magnitude of each block; nf4: that of each block of magnitudes.
    scales: Tensor<1>,
    /// nf4: its levels, then the map of the magnitudes.
    tables: Tensor<1>,
    layout: Layout,
}

/// What the numbers of a matrix in codes mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    shape: [usize; 2],
    quantisation: Quantisation,
    /// What is added to all magnitudes.
    offset: f32,
    /// The type of products.
    dtype: DType,
}

impl Codes {
    /// Puts a matrix onto a device; its products are those of its values in `dtype`.
    pub fn new(matrix: &Quantised, dtype: DType, device: &Device) -> Self {
        let shape = matrix.shape();
        let blocks = (shape[0] * shape[1]).div_ceil(BLOCK);
        let floats = |values: Vec<f32>| {
            let count = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [count]), (device, DType::F32))
        };
        let bytes = |values: &[u8], count: usize| {
            let mut values = values.to_vec();
            values.resize(count, 0);
            Tensor::<1, Int>::from_data(TensorData::new(values, [count]), (device, DType::U8))
        };
        let quantisation = matrix.quantisation();
        let (codes, scale_codes, scales, tables, offset) = match matrix.scales() {
            Scales::Plain(scales) => {
                // Their signs are kept out of the bytes: not every device widens signed ones.
                let codes: Vec<u8> = matrix.codes().iter().map(|code| code.wrapping_add(128)).collect();
                (bytes(&codes, blocks * BLOCK), bytes(&[], 1), floats(scales.clone()), floats(vec![0.0]), 0.0)
            }
            Scales::Double { codes, largest, offset } => (
                bytes(matrix.codes(), blocks * BLOCK / 2),
                bytes(codes, blocks.next_multiple_of(SCALE_BLOCK)),
                floats(largest.clone()),
                floats(LEVELS.iter().chain(dynamic_map()).copied().collect()),
                *offset,
            ),
        };
        let layout = Layout { shape, quantisation, offset, dtype };
        Self { codes, scale_codes, scales, tables, layout }
    }

    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        self.layout.shape
    }

    /// The device that holds it.
    pub fn device(&self) -> Device {
        self.codes.device()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.codes.dims()[0] + self.scale_codes.dims()[0] + 4 * (self.scales.dims()[0] + self.tables.dims()[0])
    }

    /// `x W^T`. Tracked when `x` is; of the graph `x` alone is a part, and no value of the matrix is kept for the way back.
    ///
    /// # Shapes
    /// - `x`: `[tokens, in]`; output `[tokens, out]`, in the type of products.
    pub fn product(&self, x: Tensor<2>) -> Tensor<2> {
        self.run(x, false)
    }

    /// `x W`, the way back through [`Codes::product`].
    ///
    /// # Shapes
    /// - `x`: `[tokens, out]`; output `[tokens, in]`, in the type of products.
    pub fn product_back(&self, x: Tensor<2>) -> Tensor<2> {
        self.run(x, true)
    }

    fn run(&self, x: Tensor<2>, back: bool) -> Tensor<2> {
        Tensor::from_dispatch(<Dispatch as CodedOps>::coded_product(
            x.cast(self.layout.dtype).into_dispatch(),
            self.codes.clone().into_dispatch(),
            self.scale_codes.clone().into_dispatch(),
            self.scales.clone().into_dispatch(),
            self.tables.clone().into_dispatch(),
            self.layout,
            back,
        ))
    }

    /// Rows of the matrix: an embedding's lookup.
    ///
    /// # Shapes
    /// - `ids`: `[tokens]`; output `[tokens, in]`, in the type of products, not tracked.
    pub fn rows(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        let ([tokens], [_, inputs]) = (ids.dims(), self.layout.shape);
        let columns = Tensor::<1, Int>::arange(0..inputs as i64, &ids.device()).unsqueeze::<2>();
        let places = (ids.mul_scalar(inputs as i64).reshape([tokens, 1]) + columns).reshape([tokens * inputs]);
        let blocks = places.clone().bitwise_right_shift_scalar(BLOCK.ilog2() as i64);
        let values = match self.layout.quantisation {
            Quantisation::Int8 => {
                let codes = self.codes.clone().select(0, places).cast(DType::I32);
                let scales = self.scales.clone().select(0, blocks);
                ((codes.float() - 128.0) * scales).mul_scalar(PART)
            }
            Quantisation::Nf4 => {
                let pairs = self.codes.clone().select(0, places.clone().bitwise_right_shift_scalar(1)).cast(DType::I32);
                let odd = places.bitwise_and_scalar(1).cast(DType::I32);
                let codes = pairs.bitwise_right_shift((odd - 1).mul_scalar(-4)).bitwise_and_scalar(15);
                let greater = blocks.clone().bitwise_right_shift_scalar(SCALE_BLOCK.ilog2() as i64);
                let scale_codes = self.scale_codes.clone().select(0, blocks).cast(DType::I32) + LEVELS.len() as i64;
                let scales = self.tables.clone().select(0, scale_codes) * self.scales.clone().select(0, greater);
                self.tables.clone().select(0, codes) * (scales + self.layout.offset)
            }
        };
        values.reshape([tokens, inputs]).cast(self.layout.dtype)
    }
}

#[backend_extension(Cube: cfg(feature = "gpu"), Flex, Autodiff, Fusion: cfg(feature = "gpu"))]
#[allow(clippy::too_many_arguments, reason = "the dispatch takes tensors one by one")]
pub(crate) trait CodedOps: Backend {
    /// `x W^T`, or `x W` on the way back.
    #[fusion(default)]
    fn coded_product(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scale_codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        tables: FloatTensor<Self>,
        layout: Layout,
        back: bool,
    ) -> FloatTensor<Self> {
        product::<Self>(x, &Parts { codes, scale_codes, scales, tables, layout }, back)
    }
}

impl CodedOps for Flex {}

#[cfg(feature = "gpu")]
impl CodedOps for burn_cubecl::CubeBackend {}

impl<B: CodedOps, C: CheckpointStrategy> CodedOps for Autodiff<B, C> {
    fn coded_product(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scale_codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        tables: FloatTensor<Self>,
        layout: Layout,
        back: bool,
    ) -> FloatTensor<Self> {
        let node = x.node();
        let parts =
            Parts { codes, scale_codes, scales: scales.into_primitive(), tables: tables.into_primitive(), layout };
        let y = parts.clone().product(x.into_primitive(), back);
        match CodedProduct.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish((parts, back), y),
            OpsKind::UnTracked(preparation) => preparation.finish(y),
        }
    }
}

/// The step of the graph that a product leaves: it keeps the codes alone.
#[derive(Debug)]
struct CodedProduct;

impl<B: CodedOps> Backward<B, 1> for CodedProduct {
    type State = (Parts<B>, bool);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (parts, back) = ops.state;
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, parts.product(gradient, !back));
        }
    }
}

/// [`Codes`] as one backend has them.
struct Parts<B: Backend> {
    codes: IntTensor<B>,
    scale_codes: IntTensor<B>,
    scales: FloatTensor<B>,
    tables: FloatTensor<B>,
    layout: Layout,
}

impl<B: Backend> Clone for Parts<B> {
    fn clone(&self) -> Self {
        let Self { codes, scale_codes, scales, tables, layout } = self;
        Self {
            codes: codes.clone(),
            scale_codes: scale_codes.clone(),
            scales: scales.clone(),
            tables: tables.clone(),
            layout: *layout,
        }
    }
}

impl<B: Backend> std::fmt::Debug for Parts<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.layout.fmt(f)
    }
}

impl<B: CodedOps> Parts<B> {
    fn product(self, x: FloatTensor<B>, back: bool) -> FloatTensor<B> {
        let Self { codes, scale_codes, scales, tables, layout } = self;
        B::coded_product(x, codes, scale_codes, scales, tables, layout, back)
    }
}

/// The product, a piece of the matrix after the other.
fn product<B: Backend>(x: FloatTensor<B>, parts: &Parts<B>, back: bool) -> FloatTensor<B> {
    let [outputs, inputs] = parts.layout.shape;
    // Pieces begin with a block, whatever the width.
    let step = (PIECE / inputs.max(1)).next_multiple_of(BLOCK);
    let pieces = (0..outputs).step_by(step).map(|first| first..(first + step).min(outputs));
    if back {
        let shares = pieces.map(|rows| {
            let columns = B::float_slice(x.clone(), &[Slice::full(), slice(rows.clone())]);
            B::float_matmul(columns, piece(parts, rows))
        });
        return shares.reduce(B::float_add).expect("a matrix has rows");
    }
    let shares = pieces.map(|rows| B::float_matmul(x.clone(), B::float_swap_dims(piece(parts, rows), 0, 1)));
    let mut shares: Vec<_> = shares.collect();
    if shares.len() == 1 { shares.swap_remove(0) } else { B::float_cat(shares, 1) }
}

/// Rows of the matrix, `[rows, in]`, in the type of products. The first of them begins with a block.
fn piece<B: Backend>(parts: &Parts<B>, rows: Range<usize>) -> FloatTensor<B> {
    let Layout { shape: [_, inputs], quantisation, offset, dtype } = parts.layout;
    let count = rows.len() * inputs;
    let (first, end) = (rows.start * inputs / BLOCK, (rows.end * inputs).div_ceil(BLOCK));
    let blocks = end - first;
    let wide = |bytes: IntTensor<B>| B::int_cast(bytes, IntDType::I32);
    let values = match quantisation {
        Quantisation::Int8 => {
            let codes = B::int_slice(parts.codes.clone(), &[slice(first * BLOCK..end * BLOCK)]);
            let codes = B::int_into_float(wide(codes), FloatDType::F32);
            let codes = B::float_reshape(B::float_add_scalar(codes, (-128.0).into()), Shape::new([blocks, BLOCK]));
            let scales = B::float_slice(parts.scales.clone(), &[slice(first..end)]);
            let values = B::float_mul(codes, B::float_reshape(scales, Shape::new([blocks, 1])));
            B::float_mul_scalar(values, PART.into())
        }
        Quantisation::Nf4 => {
            let pairs = wide(B::int_slice(parts.codes.clone(), &[slice(first * BLOCK / 2..end * BLOCK / 2)]));
            let column = |codes| B::int_reshape(codes, Shape::new([blocks * BLOCK / 2, 1]));
            let high = column(B::bitwise_right_shift_scalar(pairs.clone(), 4.into()));
            let low = column(B::bitwise_and_scalar(pairs, 15.into()));
            let codes = B::int_reshape(B::int_cat(vec![high, low], 1), Shape::new([blocks * BLOCK]));
            let levels = B::float_slice(parts.tables.clone(), &[slice(0..LEVELS.len())]);
            let levels = B::float_reshape(B::float_select(levels, 0, codes), Shape::new([blocks, BLOCK]));
            // Magnitudes of whole blocks of them, and of these the part that is asked for.
            let (outer, outer_end) = (first / SCALE_BLOCK, end.div_ceil(SCALE_BLOCK));
            let all = outer * SCALE_BLOCK..outer_end * SCALE_BLOCK;
            let codes = wide(B::int_slice(parts.scale_codes.clone(), &[slice(all.clone())]));
            let map = B::float_slice(parts.tables.clone(), &[slice(LEVELS.len()..LEVELS.len() + 256)]);
            let scales = B::float_select(map, 0, codes);
            let scales = B::float_reshape(scales, Shape::new([outer_end - outer, SCALE_BLOCK]));
            let largest = B::float_slice(parts.scales.clone(), &[slice(outer..outer_end)]);
            let largest = B::float_reshape(largest, Shape::new([outer_end - outer, 1]));
            let scales = B::float_add_scalar(B::float_mul(scales, largest), offset.into());
            let scales = B::float_reshape(scales, Shape::new([all.len()]));
            let scales = B::float_slice(scales, &[slice(first - all.start..end - all.start)]);
            B::float_mul(levels, B::float_reshape(scales, Shape::new([blocks, 1])))
        }
    };
    let values = B::float_reshape(values, Shape::new([blocks * BLOCK]));
    let values = B::float_reshape(B::float_slice(values, &[slice(0..count)]), Shape::new([rows.len(), inputs]));
    if dtype == DType::BF16 { B::float_cast(values, FloatDType::BF16) } else { values }
}

fn slice(range: Range<usize>) -> Slice {
    Slice::from(range)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int, Tensor, TensorData};

    use super::*;

    fn values(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.7 + seed).sin()).collect()
    }

    fn host(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().convert::<f32>().try_into_vec().expect("f32")
    }

    fn tensor(values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    fn unit(size: usize) -> Tensor<2> {
        let places = (0..size * size).map(|i| if i % (size + 1) == 0 { 1.0 } else { 0.0 });
        tensor(places.collect(), [size, size])
    }

    /// The product with the unit matrix is the matrix: every value to the bit, of widths that cut blocks and of more
    /// magnitudes than share one.
    #[test]
    fn dequantised_values_are_those_of_the_definition() {
        for [outputs, inputs] in [[3, 70], [40, 64], [300, 128], [33, 7]] {
            for quantisation in [Quantisation::Int8, Quantisation::Nf4] {
                let matrix = Quantised::new(&values(outputs * inputs, 0.2), [outputs, inputs], quantisation);
                let codes = Codes::new(&matrix, DType::F32, &Device::flex());
                assert_eq!(host(codes.product_back(unit(outputs))), matrix.dequantise());
                let ids = Tensor::<1, Int>::from_data([outputs as i64 - 1, 0, 2], &Device::flex());
                let all = matrix.dequantise();
                let rows = [outputs - 1, 0, 2];
                let expected = rows.map(|row| all[row * inputs..(row + 1) * inputs].to_vec()).concat();
                assert_eq!(host(codes.rows(ids)), expected);
                assert!(codes.bytes() >= matrix.bytes() && codes.bytes() < matrix.bytes() + 2048);
            }
        }
    }

    /// Output and gradient are those of the composed product with the dequantised values.
    #[test]
    fn products_and_gradients_are_those_with_the_values() {
        let [tokens, outputs, inputs] = [5, 130, 192];
        for dtype in [DType::F32, DType::BF16] {
            let matrix = Quantised::new(&values(outputs * inputs, 0.2), [outputs, inputs], Quantisation::Nf4);
            let codes = Codes::new(&matrix, dtype, &Device::flex());
            let plain = tensor(matrix.dequantise(), [outputs, inputs]).cast(dtype);
            let run = |product: &dyn Fn(Tensor<2>) -> Tensor<2>| {
                let x = tensor(values(tokens * inputs, 0.4), [tokens, inputs]).cast(dtype).autodiff().require_grad();
                let y = product(x.clone());
                let seed = tensor(values(tokens * outputs, 0.6), [tokens, outputs]).cast(dtype).autodiff();
                let mut gradients = (y.clone() * seed).sum().backward();
                (host(y.inner()), host(x.grad_remove(&mut gradients).expect("a gradient")))
            };
            let coded = run(&|x| codes.product(x));
            let composed = run(&|x| x.matmul(Tensor::from_inner(plain.clone()).transpose()));
            assert_eq!(coded, composed, "{dtype:?}");
            assert_eq!(codes.product(tensor(values(inputs, 0.1), [1, inputs])).dtype(), dtype);
        }
    }
}
