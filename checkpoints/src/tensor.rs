//! Tensors as they lie in files, and the conversion of their numbers to and from f32.

use faults::Fault;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// Numbers that one thread converts at a time.
const CHUNK: usize = 1 << 16;

/// A tensor as stored: little-endian numbers, the last dimension contiguous.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTensor {
    /// The type of each number.
    pub dtype: Dtype,
    /// The size of each dimension; empty for a single number.
    pub shape: Vec<usize>,
    /// The numbers, little-endian.
    pub bytes: Vec<u8>,
}

impl StoredTensor {
    /// A tensor of f32 numbers; `values` holds as many as `shape` says.
    pub fn from_f32(shape: impl Into<Vec<usize>>, values: &[f32]) -> Self {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), values.len(), "as many values as the shape {shape:?} holds");
        Self { dtype: Dtype::F32, shape, bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
    }

    /// The numbers as f32.
    ///
    /// # Errors
    /// The tensor does not hold f32, bf16, f16 or f64.
    pub fn to_f32(&self) -> Result<Vec<f32>, Fault> {
        decode(self.dtype, &self.bytes)
    }
}

/// The bytes of one number of a type that [`decode`] reads.
pub(crate) fn float_size(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F64 => Some(8),
        Dtype::F32 => Some(4),
        Dtype::BF16 | Dtype::F16 => Some(2),
        _ => None,
    }
}

/// Floating point numbers as f32, on all cores.
pub(crate) fn decode(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>, Fault> {
    let Some(size) = float_size(dtype) else {
        return Err(Fault::new(format!("holds {dtype}, expected F32, BF16, F16 or F64"))
            .hint("take the model or adapter as it was before it was quantised"));
    };
    if !bytes.len().is_multiple_of(size) {
        return Err(Fault::new(format!("{} bytes are no whole number of {dtype} values", bytes.len()))
            .hint("the file is damaged: fetch or write it again"));
    }
    let mut values = vec![0.0; bytes.len() / size];
    values
        .par_chunks_mut(CHUNK)
        .zip(bytes.par_chunks(CHUNK * size))
        .for_each(|(values, bytes)| decode_into(dtype, bytes, values));
    Ok(values)
}

/// Fills `values` from as many numbers of a floating point type.
pub(crate) fn decode_into(dtype: Dtype, bytes: &[u8], values: &mut [f32]) {
    fn each<const N: usize>(bytes: &[u8], values: &mut [f32], read: impl Fn([u8; N]) -> f32) {
        for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<N>().0) {
            *value = read(*bytes);
        }
    }
    match dtype {
        Dtype::F64 => each(bytes, values, |bytes| f64::from_le_bytes(bytes) as f32),
        Dtype::F32 => each(bytes, values, f32::from_le_bytes),
        Dtype::BF16 => each(bytes, values, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Dtype::F16 => each(bytes, values, |bytes| f16::from_le_bytes(bytes).to_f32()),
        _ => unreachable!("`float_size` lists the types that are decoded"),
    }
}

/// True when all numbers of a floating point type are finite as f32; those of other types always are.
pub(crate) fn all_finite(dtype: Dtype, bytes: &[u8]) -> bool {
    fn each<const N: usize>(bytes: &[u8], finite: impl Fn([u8; N]) -> bool) -> bool {
        // No way out within a chunk: the loop is for the processor's vectors.
        bytes.as_chunks::<N>().0.iter().fold(true, |all, bytes| all & finite(*bytes))
    }
    const SIGNLESS: u32 = i32::MAX as u32;
    bytes.par_chunks(CHUNK * 8).all(|bytes| match dtype {
        Dtype::F64 => each(bytes, |bytes| (f64::from_le_bytes(bytes) as f32).is_finite()),
        Dtype::F32 => each(bytes, |bytes| u32::from_le_bytes(bytes) & SIGNLESS < f32::INFINITY.to_bits()),
        Dtype::BF16 => each(bytes, |bytes| u16::from_le_bytes(bytes) & 0x7fff < 0x7f80),
        Dtype::F16 => each(bytes, |bytes| u16::from_le_bytes(bytes) & 0x7fff < 0x7c00),
        _ => true,
    })
}

/// Writes f32 numbers as a floating point type, rounded to the nearest, ties to even.
pub(crate) fn encode_into(dtype: Dtype, values: &[f32], bytes: &mut [u8]) {
    fn each<const N: usize>(values: &[f32], bytes: &mut [u8], write: impl Fn(f32) -> [u8; N]) {
        for (value, bytes) in values.iter().zip(bytes.as_chunks_mut::<N>().0) {
            *bytes = write(*value);
        }
    }
    match dtype {
        Dtype::F64 => each(values, bytes, |value| f64::from(value).to_le_bytes()),
        Dtype::F32 => each(values, bytes, f32::to_le_bytes),
        Dtype::BF16 => each(values, bytes, |value| bf16::from_f32(value).to_le_bytes()),
        Dtype::F16 => each(values, bytes, |value| f16::from_f32(value).to_le_bytes()),
        _ => unreachable!("`float_size` lists the types that are encoded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_the_nearest_and_ties_to_even() {
        // 1 + 2^-8 lies half-way between the bf16 numbers 1 and 1 + 2^-7; 1 + 3 * 2^-8 between 1 + 2^-7 and 1 + 2^-6.
        let values = [1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8), 1.0 + 2f32.powi(-8) + 2f32.powi(-20)];
        let mut bytes = [0; 6];
        encode_into(Dtype::BF16, &values, &mut bytes);
        assert_eq!(decode(Dtype::BF16, &bytes).unwrap(), [1.0, 1.0 + 2f32.powi(-6), 1.0 + 2f32.powi(-7)]);
        let mut bytes = [0; 2];
        encode_into(Dtype::F16, &[1.0 + 2f32.powi(-11)], &mut bytes);
        assert_eq!(decode(Dtype::F16, &bytes).unwrap(), [1.0]);
    }

    #[test]
    fn many_numbers_come_back_in_order() {
        let values: Vec<f32> = (0..3 * CHUNK + 7).map(|index| index as f32 - 1e5).collect();
        let tensor = StoredTensor::from_f32([values.len()], &values);
        assert_eq!(tensor.to_f32().unwrap(), values);
        let mut bytes = vec![0; values.len() * 8];
        encode_into(Dtype::F64, &values, &mut bytes);
        assert_eq!(decode(Dtype::F64, &bytes).unwrap(), values);
    }

    #[test]
    fn integers_and_cut_numbers_are_refused() {
        assert!(decode(Dtype::I64, &[0; 8]).is_err());
        assert!(decode(Dtype::F32, &[0; 7]).is_err());
    }
}
