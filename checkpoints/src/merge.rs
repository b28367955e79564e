//! W + s B A, in f32, rounded once.
//!
//! Rows are worked on side by side and go from the base's bytes to the output's bytes, so that a merge holds one output
//! tensor in memory and never a whole model.

use faults::{Fault, Place};
use rayon::prelude::*;
use safetensors::Dtype;

use crate::adapter::Module;
use crate::tensor::{decode_into, encode_into, float_size};

/// The update of a weight matrix of shape `[out_features, in_features]`.
pub(crate) struct Update {
    a: Vec<f32>,
    b: Vec<f32>,
    lengths: Lengths,
    rank: usize,
    in_features: usize,
    scale: f32,
}

/// How DoRA scales the sum.
enum Lengths {
    /// Nothing: there is no DoRA.
    Own,
    /// Its rows are brought to these.
    Rows(Vec<f32>),
    /// Its columns are multiplied with these, as those of an embedding are.
    Columns(Vec<f32>),
}

impl Update {
    /// The update of one module, whose matrix has these `bytes` of type `from`.
    ///
    /// # Errors
    /// A, B or the magnitudes hold a number that is not finite, or the matrix holds no numbers.
    pub fn new(module: &Module<'_>, from: Dtype, bytes: &[u8]) -> Result<Self, Fault> {
        let read = |name: &str, tensor: &crate::StoredTensor| -> Result<Vec<f32>, Fault> {
            let values = tensor.to_f32()?;
            match values.iter().position(|value| !value.is_finite()) {
                Some(index) => Err(Fault::new(format!(
                    "`{name}` of module `{}` holds {} at position {index}",
                    module.path, values[index]
                ))
                .at(Place::Named(module.path.into()))
                .hint("the training has diverged; export an earlier checkpoint")),
                None => Ok(values),
            }
        };
        let (a, b) = match module.embedding {
            false => (read("lora_A", module.a)?, read("lora_B", module.b)?),
            // (B A)^T = A^T B^T
            true => (
                transposed(&read("lora_embedding_B", module.b)?, module.rank),
                transposed(&read("lora_embedding_A", module.a)?, module.out_features),
            ),
        };
        let magnitude = module.magnitude.map(|tensor| read("lora_magnitude_vector", tensor)).transpose()?;
        let mut update = Self {
            a,
            b,
            lengths: Lengths::Own,
            rank: module.rank,
            in_features: module.in_features,
            scale: module.scale as f32,
        };
        update.lengths = match magnitude {
            None => Lengths::Own,
            Some(magnitude) if module.embedding => Lengths::Columns(update.column_factors(&magnitude, from, bytes)?),
            Some(magnitude) => Lengths::Rows(magnitude),
        };
        Ok(update)
    }

    /// What brings the columns of `W + s B A` to the lengths `magnitude`; a column of zeros stays one.
    fn column_factors(&self, magnitude: &[f32], from: Dtype, bytes: &[u8]) -> Result<Vec<f32>, Fault> {
        let Some(size) = float_size(from) else {
            return Err(Fault::new(format!("holds {from}, expected F32, BF16, F16 or F64")));
        };
        // At least one, because a file may claim that there are none.
        let width = self.in_features.max(1);
        let squares = |(index, stretch): (usize, &[u8])| {
            let (mut weights, mut delta, mut sums) = (vec![0.0; width], vec![0.0; width], vec![0.0f64; width]);
            for (row, bytes) in stretch.chunks(width * size).enumerate() {
                decode_into(from, bytes, &mut weights);
                self.add(index * STRETCH + row, &mut weights, &mut delta);
                sums.iter_mut().zip(&weights).for_each(|(sum, weight)| *sum += f64::from(*weight).powi(2));
            }
            sums
        };
        // One order of summation on every machine.
        let stretches: Vec<Vec<f64>> = bytes.par_chunks(STRETCH * width * size).enumerate().map(squares).collect();
        let norm = |column: usize| stretches.iter().map(|sums| sums[column]).sum::<f64>().sqrt();
        let factor = |(column, length): (usize, &f32)| match norm(column) {
            0.0 => 1.0,
            norm => (f64::from(*length) / norm) as f32,
        };
        Ok(magnitude.iter().enumerate().map(factor).collect())
    }

    /// True when merging changes nothing: every number of B is zero.
    pub fn is_zero(&self) -> bool {
        matches!(self.lengths, Lengths::Own) && self.b.iter().all(|value| *value == 0.0)
    }

    /// Row `row` of s B A, added to `weights`, the same row of W.
    fn add(&self, row: usize, weights: &mut [f32], delta: &mut [f32]) {
        delta.fill(0.0);
        for (factor, a) in self.b[row * self.rank..][..self.rank].iter().zip(self.a.chunks_exact(self.in_features)) {
            for (sum, a) in delta.iter_mut().zip(a) {
                *sum += factor * a;
            }
        }
        for (weight, delta) in weights.iter_mut().zip(delta) {
            *weight += self.scale * *delta;
        }
    }

    /// [`Update::add`], the sum scaled to the magnitudes where there are some (DoRA).
    fn apply(&self, row: usize, weights: &mut [f32], delta: &mut [f32]) {
        self.add(row, weights, delta);
        if let Lengths::Columns(factors) = &self.lengths {
            weights.iter_mut().zip(factors).for_each(|(weight, factor)| *weight *= factor);
        }
        if let Lengths::Rows(magnitude) = &self.lengths {
            let norm = weights.iter().map(|weight| f64::from(*weight).powi(2)).sum::<f64>().sqrt();
            // A row of zeros has no direction to be brought to a length in.
            if norm > 0.0 {
                let factor = (f64::from(magnitude[row]) / norm) as f32;
                weights.iter_mut().for_each(|weight| *weight *= factor);
            }
        }
    }
}

/// Rows of `width` numbers, turned.
fn transposed(values: &[f32], width: usize) -> Vec<f32> {
    (0..width).flat_map(|column| values.iter().skip(column).step_by(width).copied()).collect()
}

/// Numbers of a stretch of a tensor that is converted alone, and rows whose squares are summed one after the other.
const STRETCH: usize = 1 << 14;

/// A tensor's bytes in type `to`, with the update added.
///
/// # Errors
/// A number that is finite in the base does not fit the output type, or W + s B A is not finite. The fault has no place.
pub(crate) fn convert(from: Dtype, bytes: &[u8], to: Dtype, update: Option<&Update>) -> Result<Vec<u8>, Fault> {
    let (Some(size_from), Some(size_to)) = (float_size(from), float_size(to)) else {
        return Err(Fault::new(format!("holds {from}, which cannot be written as {to}"))
            .hint("merge into the model as it was before it was quantised"));
    };
    let width = update.map_or(STRETCH, |update| update.in_features).max(1);
    let mut out = vec![0; bytes.len() / size_from * size_to];
    let scratch = || (vec![0.0; width], vec![0.0; width]);
    let rows = out.par_chunks_mut(width * size_to).zip(bytes.par_chunks(width * size_from)).enumerate();
    let too_large = rows
        .map_init(scratch, |(weights, delta), (row, (out, bytes))| {
            let weights = &mut weights[..bytes.len() / size_from];
            decode_into(from, bytes, weights);
            let finite = weights.iter().all(|value| value.is_finite());
            if let Some(update) = update {
                update.apply(row, weights, delta);
            }
            encode_into(to, weights, out);
            // A base that holds NaN or infinity keeps it; a number that becomes one here is a fault.
            let largest = weights.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
            decode_into(to, out, weights);
            (finite && !weights.iter().all(|value| value.is_finite())).then_some(largest)
        })
        .find_any(Option::is_some)
        .flatten();
    match too_large {
        Some(largest) if largest.is_finite() => {
            Err(Fault::new(format!("a number of size {largest:e} does not fit {to}"))
                .hint("write it as bf16 or f32 with `--dtype`"))
        }
        Some(_) => {
            Err(Fault::new("the merged weights are not finite")
                .hint("the adapter has diverged; use an earlier checkpoint"))
        }
        None => Ok(out),
    }
}
