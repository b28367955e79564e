//! A matrix of the backbone: a tensor, or packed for the processor's products when it is frozen and lives on the CPU.
//! A quantised one is packed too, or in codes on a GPU.

use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use kernels::{Packed, Precision, Quantised};

use super::{Codes, projection};

/// `[out, in]`
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "a few per layer, and a tensor's handle is what it is")]
pub enum Matrix {
    /// Trained, or on a GPU.
    Tensor(Tensor<2>),
    /// Frozen, on the CPU.
    Packed(Arc<Packed>),
    /// Frozen and quantised, on a GPU.
    Codes(Codes),
}

/// By what a matrix is multiplied with.
#[expect(clippy::large_enum_variant, reason = "one at a time, and a tensor's handle is what it is")]
pub(super) enum Form {
    /// Kernels of the CPU, which have all around the product in one pass.
    Packed(Arc<Packed>),
    /// Burn's operations.
    Unpacked(Unpacked),
}

/// A matrix that burn's operations multiply with.
#[expect(clippy::large_enum_variant, reason = "one at a time, and a tensor's handle is what it is")]
pub(super) enum Unpacked {
    Tensor(Tensor<2>),
    Codes(Codes),
}

impl Unpacked {
    /// `x W^T`, tracked when `x` is.
    ///
    /// # Shapes
    /// - `x`: `[tokens, in]`; output `[tokens, out]`.
    pub fn product(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Tensor(weight) => {
                let weight = on_side_of(&x, weight);
                x.matmul(weight.transpose())
            }
            Self::Codes(codes) => codes.product(x),
        }
    }

    /// `x W` in the type `dtype`, not tracked.
    ///
    /// # Shapes
    /// - `x`: `[tokens, out]`; output `[tokens, in]`.
    pub fn product_back(&self, x: Tensor<2>, dtype: DType) -> Tensor<2> {
        match self {
            Self::Tensor(weight) => x.cast(dtype).matmul(weight.clone().inner()),
            Self::Codes(codes) => codes.product_back(x).cast(dtype),
        }
    }
}

impl Matrix {
    pub(super) fn form(&self) -> Form {
        match self {
            Self::Tensor(tensor) => Form::Unpacked(Unpacked::Tensor(tensor.clone())),
            Self::Codes(codes) => Form::Unpacked(Unpacked::Codes(codes.clone())),
            Self::Packed(packed) => Form::Packed(packed.clone()),
        }
    }

    /// A frozen matrix of these values, kept in the type `dtype`.
    pub(crate) fn frozen(values: Vec<f32>, shape: [usize; 2], dtype: DType, device: &Device) -> Self {
        match is_packed(device, false) {
            true => Self::Packed(Arc::new(Packed::new(&values, shape, (shape[1], 1), 1.0, precision(dtype)))),
            false => Self::Tensor(Tensor::from_data(TensorData::new(values, shape), (device, dtype))),
        }
    }

    /// A frozen matrix of these codes, whose values are taken in the type `dtype`.
    pub(crate) fn quantised(codes: Quantised, dtype: DType, device: &Device) -> Self {
        match is_packed(device, false) {
            true => Self::Packed(Arc::new(Packed::quantised(codes, precision(dtype)))),
            false => Self::Codes(Codes::new(&codes, dtype, device)),
        }
    }

    /// The tensor, of a matrix that is one and so may be trained.
    pub(crate) fn as_tensor_mut(&mut self) -> Option<&mut Tensor<2>> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            Self::Packed(_) | Self::Codes(_) => None,
        }
    }

    /// True where the matrix is trained.
    pub(crate) fn is_trained(&self) -> bool {
        matches!(self, Self::Tensor(tensor) if tensor.is_require_grad())
    }

    /// The type in which activations pass from one product to the next, where the residual stream has the type `stream`:
    /// packed bf16 matrices take them in bf16.
    pub(crate) fn inner_type(&self, stream: DType) -> DType {
        match self {
            Self::Packed(packed) if packed.precision() == Precision::Bf16 => DType::BF16,
            _ => stream,
        }
    }

    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Tensor(tensor) => tensor.dims(),
            Self::Packed(packed) => packed.shape(),
            Self::Codes(codes) => codes.shape(),
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Tensor(tensor) => tensor.shape().num_elements() * tensor.dtype().size(),
            Self::Packed(packed) => packed.bytes(),
            Self::Codes(codes) => codes.bytes(),
        }
    }

    /// The inner device it lives on.
    pub fn device(&self) -> Device {
        match self {
            Self::Tensor(tensor) => tensor.clone().inner().device(),
            Self::Packed(_) => Device::flex(),
            Self::Codes(codes) => codes.device(),
        }
    }

    /// Rows of an embedding, in f32 from a packed one.
    ///
    /// # Shapes
    /// - `ids`: `[tokens]`; output `[tokens, in]`. Tracked when asked for.
    pub(crate) fn rows(&self, ids: Tensor<1, Int>, tracked: bool, device: &Device) -> Tensor<2> {
        match self {
            Self::Tensor(tensor) if tracked => tensor.clone().autodiff().select(0, ids),
            Self::Tensor(tensor) => tensor.clone().inner().select(0, ids),
            Self::Codes(codes) if tracked => codes.rows(ids).autodiff(),
            Self::Codes(codes) => codes.rows(ids),
            Self::Packed(packed) => {
                let width = packed.shape()[1];
                let ids: Vec<i64> = ids.into_data().iter::<i64>().collect();
                let mut values = vec![0.0; ids.len() * width];
                for (id, row) in ids.iter().zip(values.chunks_exact_mut(width.max(1))) {
                    packed.row(*id as usize, row);
                }
                let rows = Tensor::from_data(TensorData::new(values, [ids.len(), width]), device);
                if tracked { rows.autodiff() } else { rows }
            }
        }
    }

    /// The sum of the squares of each row, `[out]`, f32.
    pub(crate) fn row_squares(&self) -> Tensor<1> {
        match self {
            Self::Tensor(tensor) => {
                let values = tensor.clone().inner().cast(DType::F32);
                (values.clone() * values).sum_dim(1).squeeze_dim(1)
            }
            Self::Packed(packed) => {
                let squares = kernels::row_squares(packed);
                Tensor::from_data(TensorData::new(squares, [packed.shape()[0]]), &Device::flex())
            }
            Self::Codes(codes) => {
                let sums = |values: Tensor<2>| (values.clone() * values).sum_dim(1).squeeze_dim(1);
                Tensor::cat(codes.pieces().map(sums).collect(), 0)
            }
        }
    }

    /// The sum of the squares of each column, `[in]`, f32.
    pub(crate) fn column_squares(&self) -> Tensor<1> {
        let sums = |values: Tensor<2>| (values.clone() * values).sum_dim(0).squeeze_dim(0);
        match self {
            Self::Tensor(tensor) => sums(tensor.clone().inner().cast(DType::F32)),
            Self::Codes(codes) => codes.pieces().map(sums).reduce(Tensor::add).expect("a matrix has rows"),
            Self::Packed(packed) => {
                let [outputs, inputs] = packed.shape();
                let (mut row, mut squares) = (vec![0.0; inputs], vec![0.0f64; inputs]);
                for output in 0..outputs {
                    packed.row(output, &mut row);
                    squares.iter_mut().zip(&row).for_each(|(sum, value)| *sum += f64::from(*value).powi(2));
                }
                let squares: Vec<f32> = squares.into_iter().map(|sum| sum as f32).collect();
                Tensor::from_data(TensorData::new(squares, [inputs]), &Device::flex())
            }
        }
    }

    /// `x W`, not tracked, in f32.
    ///
    /// # Shapes
    /// - `x`: `[tokens, out]`; output `[tokens, in]`.
    pub(crate) fn product_back(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Tensor(tensor) => x.cast(tensor.dtype()).matmul(tensor.clone().inner()).cast(DType::F32),
            Self::Codes(codes) => codes.product_back(x).cast(DType::F32),
            Self::Packed(packed) => {
                let (rows, device) = (x.dims()[0], x.device());
                let values = crate::values(x.flatten(0, 1));
                let product = kernels::product_transposed(&values, rows, packed);
                Tensor::from_data(TensorData::new(product, [rows, packed.shape()[1]]), &device)
            }
        }
    }

    /// `x W^T`, not tracked, in f32.
    ///
    /// # Shapes
    /// - `x`: `[tokens, in]`; output `[tokens, out]`.
    pub(crate) fn product(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Tensor(tensor) => x.cast(tensor.dtype()).matmul(tensor.clone().inner().transpose()).cast(DType::F32),
            Self::Codes(codes) => codes.product(x).cast(DType::F32),
            Self::Packed(packed) => projection::product(x, packed.clone()),
        }
    }
}

/// A weight on the side of `x`: a tracked leaf in a tracked computation, its plain values in any other.
pub(crate) fn on_side_of<const D: usize, const E: usize>(x: &Tensor<E>, weight: &Tensor<D>) -> Tensor<D> {
    if x.is_autodiff() { weight.clone() } else { weight.clone().inner() }
}

/// The packing for weights of type `dtype`.
pub(super) fn precision(dtype: DType) -> Precision {
    if dtype == DType::BF16 { Precision::Bf16 } else { Precision::F32 }
}

/// Whether matrices are packed on a device: the frozen ones of the CPU, where everything else is f32.
pub fn is_packed(device: &Device, trained: bool) -> bool {
    !trained && crate::device::is_cpu(device)
}
