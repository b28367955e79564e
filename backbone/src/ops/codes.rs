//! Products with a frozen matrix in codes, as a GPU runs them. The matrix is dequantised a piece at a time, again on the way
//! back, and never exists as a whole; the definition is that of `kernels::Quantised`, value for value.
//!
//! On a GPU a kernel dequantises; `composed` has the same of burn's operations, for everything else.

mod composed;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
#[cfg(feature = "gpu")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, Flex, backend_extension};
#[cfg(feature = "gpu")]
use burn::tensor::Shape;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use kernels::{BLOCK, LEVELS, Quantisation, Quantised, SCALE_BLOCK, Scales, dynamic_map};

use super::Form;
use super::checksum::{checksum, sum_of_words};
use composed::{by_pieces, product};

/// Values that are dequantised at once. In bf16 they take 128 MiB, and the matrices of an 8B model but its head are one piece
/// each, whose product is written where it belongs.
pub const PIECE: usize = 1 << 26;

/// A matrix `[out, in]` in codes on a device.
#[derive(Debug, Clone)]
pub struct Codes {
    /// Bytes of whole blocks, in words of 32 bits: not every device has smaller ones.
    codes: Tensor<1, Int>,
    /// nf4: the code of each block's magnitude, filled up to whole blocks of them, in words.
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
    pub shape: [usize; 2],
    pub quantisation: Quantisation,
    /// Offset of all magnitudes.
    pub offset: f32,
    /// The type of products.
    pub dtype: DType,
}

impl Codes {
    /// Numbers that change where a code or a magnitude does.
    pub(crate) fn checksum(&self) -> Vec<u64> {
        let mut sums = checksum(self.scales.clone().unsqueeze_dim(0));
        sums.extend([&self.codes, &self.scale_codes].map(sum_of_words));
        sums
    }

    /// Puts a matrix onto a device; its products are those of its values in `dtype`.
    pub fn new(matrix: &Quantised, dtype: DType, device: &Device) -> Self {
        let shape = matrix.shape();
        let blocks = (shape[0] * shape[1]).div_ceil(BLOCK);
        let floats = |values: Vec<f32>| {
            let count = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [count]), (device, DType::F32))
        };
        let words = |mut bytes: Vec<u8>, count: usize| {
            bytes.resize(count, 0);
            let words = bytes.chunks_exact(4).map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]]));
            let words: Vec<i32> = words.collect();
            Tensor::<1, Int>::from_data(TensorData::new(words, [count / 4]), (device, DType::I32))
        };
        let quantisation = matrix.quantisation();
        let (codes, scale_codes, scales, tables, offset) = match matrix.scales() {
            Scales::Plain(scales) => {
                // Without signs, so that a byte is what its bits say.
                let codes = matrix.codes().iter().map(|code| code.wrapping_add(128)).collect();
                (words(codes, blocks * BLOCK), words(Vec::new(), 4), floats(scales.clone()), floats(vec![0.0]), 0.0)
            }
            Scales::Double { codes, largest, offset } => (
                words(matrix.codes().to_vec(), blocks * BLOCK / 2),
                words(codes.clone(), blocks.next_multiple_of(SCALE_BLOCK)),
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
        let words = self.codes.dims()[0] + self.scale_codes.dims()[0] + self.scales.dims()[0] + self.tables.dims()[0];
        4 * words
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
        let x = x.cast(self.layout.dtype).into_dispatch();
        Tensor::from_dispatch(<Dispatch as CodedOps>::coded_product(x, self.parts(), back))
    }

    fn parts(&self) -> Parts<Dispatch> {
        Parts {
            codes: self.codes.clone().into_dispatch(),
            scale_codes: self.scale_codes.clone().into_dispatch(),
            scales: self.scales.clone().into_dispatch(),
            tables: self.tables.clone().into_dispatch(),
            layout: self.layout,
        }
    }

    /// Rows of the matrix: an embedding's lookup.
    ///
    /// # Shapes
    /// - `ids`: `[tokens]`; output `[tokens, in]`, in the type of products, not tracked.
    pub fn rows(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        match Form::on(&ids.device()) {
            #[cfg(feature = "gpu")]
            Form::Gpu => on_gpu::coded_rows(ids, self.parts()),
            Form::Cpu | Form::Composed => self.composed_rows(ids),
        }
    }

    /// All values, as many rows at a time as a product dequantises, in f32.
    pub fn pieces(&self) -> impl Iterator<Item = Tensor<2>> {
        by_pieces(self.layout.shape, PIECE).map(|rows| {
            let ids = Tensor::<1, Int>::arange(rows.start as i64..rows.end as i64, &self.device());
            self.rows(ids).cast(DType::F32)
        })
    }
}

#[backend_extension(Cube: cfg(feature = "gpu"), Flex, Autodiff, Fusion: cfg(feature = "gpu"))]
pub(crate) trait CodedOps: Backend {
    /// `x W^T`, or `x W` on the way back.
    #[fusion(meta = |x, parts, back| {
        TensorSpec::new(Shape::new([x.shape[0], parts.layout.shape[usize::from(*back)]]), parts.layout.dtype)
    })]
    fn coded_product(x: FloatTensor<Self>, #[extension_type] parts: Parts<Self>, back: bool) -> FloatTensor<Self>;
}

impl CodedOps for Flex {
    fn coded_product(x: FloatTensor<Self>, parts: Parts<Self>, back: bool) -> FloatTensor<Self> {
        product::<Self>(x, &parts, back)
    }
}

impl<B: CodedOps, C: CheckpointStrategy> CodedOps for Autodiff<B, C> {
    fn coded_product(x: FloatTensor<Self>, parts: Parts<Self>, back: bool) -> FloatTensor<Self> {
        let node = x.node();
        let Parts { codes, scale_codes, scales, tables, layout } = parts;
        let (scales, tables) = (scales.into_primitive(), tables.into_primitive());
        let parts: Parts<B> = Parts { codes, scale_codes, scales, tables, layout };
        let y = B::coded_product(x.into_primitive(), parts.clone(), back);
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
            gradients.register::<B>(parent.id, B::coded_product(gradient, parts, !back));
        }
    }
}

/// [`Codes`] as one backend has them.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "gpu"))]
pub(crate) struct Parts<B: Backend> {
    pub codes: IntTensor<B>,
    pub scale_codes: IntTensor<B>,
    pub scales: FloatTensor<B>,
    pub tables: FloatTensor<B>,
    pub layout: Layout,
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

/// On a GPU: a kernel dequantises a piece into the type of products, right before each.
#[cfg(feature = "gpu")]
mod on_gpu {
    use burn::backend::fusion::custom::TensorSpec;
    use burn::backend::tensor::{FloatTensor, IntTensor};
    use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
    use burn::tensor::{DType, Int, Shape, Tensor};
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::tensor::CubeTensor;
    use cube::{Coded, Rows};
    use kernels::Quantisation;

    use super::composed::{by_pieces, product, product_of};
    use super::{CodedOps, Layout, PIECE, Parts};
    use crate::ops::gpu::{beside, buffer, composed};

    /// Rows `ids` of a matrix in codes, `[ids, in]`, in its type of products.
    pub fn coded_rows(ids: Tensor<1, Int>, parts: Parts<Dispatch>) -> Tensor<2> {
        let ids = ids.cast(DType::I32).into_dispatch();
        Tensor::from_dispatch(<Dispatch as RowKernels>::coded_rows(ids, parts))
    }

    /// Outside of the graph.
    #[backend_extension(Cube, Fusion)]
    pub(crate) trait RowKernels: Backend {
        #[fusion(meta = |ids, parts| {
        TensorSpec::new(Shape::new([ids.shape.num_elements(), parts.layout.shape[1]]), parts.layout.dtype)
    })]
        fn coded_rows(ids: IntTensor<Self>, #[extension_type] parts: Parts<Self>) -> FloatTensor<Self>;
    }

    impl RowKernels for CubeBackend {
        fn coded_rows(ids: IntTensor<Self>, parts: Parts<Self>) -> FloatTensor<Self> {
            let ids = into_contiguous(ids);
            values(parts, Rows::Of(&buffer(&ids)), ids.shape().num_elements())
        }
    }

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
    fn values(parts: Parts<CubeBackend>, rows: Rows<'_>, count: usize) -> CubeTensor {
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
