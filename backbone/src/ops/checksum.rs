//! Sums by which frozen weights are known again.

use burn::tensor::{DType, Int, Tensor};

use super::{Form, Matrix};

/// Numbers that change where a value of the tensor does. On the CPU they hold every bit; on a GPU they are sums, in which a
/// change of little weight may be lost.
///
/// # Shapes
/// - `x`: `[rows, columns]`
pub fn checksum(x: Tensor<2>) -> Vec<u64> {
    match Form::on(&x.device().inner()) {
        Form::Cpu => {
            let data = x.into_data();
            vec![data.as_bytes().iter().fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()))]
        }
        #[cfg(feature = "gpu")]
        Form::Gpu => sums(x),
        Form::Composed => sums(x),
    }
}

/// Values that are summed at once: their magnitudes take memory.
const PIECE: usize = 1 << 20;

/// The sum and the sum of magnitudes of every slice.
fn sums(x: Tensor<2>) -> Vec<u64> {
    // Along dimensions: the sum of all elements meets in an order that varies, between threads as between the blocks of a
    // GPU, which add to one number as they come.
    let along = |x: Tensor<2>| x.sum_dim(1).swap_dims(0, 1).sum_dim(1).reshape([1]);
    let slice = PIECE / x.dims()[1].max(1);
    let pieces = x.split(slice.max(1), 0).into_iter().flat_map(|piece| {
        let piece = piece.cast(DType::F32);
        [along(piece.clone()), along(piece.abs())]
    });
    let sums = Tensor::cat(pieces.collect(), 0);
    // By their bits: a weight that is not a number is as unchanged as any other.
    crate::values(sums).into_iter().map(|sum| sum.to_bits().into()).collect()
}

/// The sum of whole numbers, whose order does not matter.
pub(super) fn sum_of_words(words: &Tensor<1, Int>) -> u64 {
    let sum: Vec<i64> = words.clone().sum().into_data().iter::<i64>().collect();
    sum.into_iter().fold(0, |all, sum| all.wrapping_add(sum as u64))
}

impl Matrix {
    /// Numbers that change where one of its values does; `None` of a tensor, of which [`checksum`] has them.
    pub fn packed_checksum(&self) -> Option<Vec<u64>> {
        match self {
            Self::Tensor(_) => None,
            Self::Packed(packed) => Some(vec![packed.checksum()]),
            Self::Codes(codes) => Some(codes.checksum()),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn a_bit_that_turns_over_is_seen() {
        let values: Vec<f32> = (0..12).map(|i| (i as f32).sin()).collect();
        let tensor = |values: &[f32]| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [3, 4]), &Device::flex());
        let of = |values: &[f32]| checksum(tensor(values));
        assert_eq!(of(&values), of(&values));
        for bit in [0, 13, 31] {
            let mut other = values.clone();
            other[7] = f32::from_bits(other[7].to_bits() ^ 1 << bit);
            assert_ne!(of(&other), of(&values), "{bit}");
        }
        // The form of a GPU sees what weighs something, and NaN as itself.
        let mut other = values.clone();
        other[7] += 0.5;
        assert_ne!(sums(tensor(&other)), sums(tensor(&values)));
        other[7] = f32::NAN;
        assert_eq!(sums(tensor(&other)), sums(tensor(&other)));
    }
}
