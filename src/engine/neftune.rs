//! NEFTune: noise on the embeddings of a training step, and nowhere else.
//!
//! "NEFTune: Noisy Embeddings Improve Instruction Finetuning" (arXiv 2310.05914), algorithm 1: to the embeddings of a row of
//! `L` tokens of width `d` is added `alpha / sqrt(L d)` times numbers from -1 to 1, so that the noise of a row has the length
//! `alpha / sqrt(3)` whatever its size. `L` is without padding, as in the authors' code. Where a family multiplies its
//! embeddings with a factor, the noise is that of the embeddings before.

use backbone::{Config, Decoder};
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::batch::Batch;

/// The noise of a micro-batch, `[rows, width, hidden_size]` in f32, zero where there is padding; the same for the same `seed`.
pub fn noise(batch: &Batch, decoder: &Decoder, alpha: f64, seed: u64) -> Tensor<3> {
    let Config { hidden_size, embedding_scale, .. } = decoder.config;
    let values = values(batch, hidden_size, alpha * embedding_scale, seed);
    Tensor::from_data(TensorData::new(values, [batch.height, batch.width, hidden_size]), decoder.device())
}

fn values(batch: &Batch, hidden_size: usize, alpha: f64, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0f32; batch.height * batch.width * hidden_size];
    for (index, (row, to)) in batch.rows.iter().zip(values.chunks_mut(batch.width * hidden_size)).enumerate() {
        let of_row = backbone::random::key(seed, &["neftune", &index.to_string()]);
        let mut random = ChaCha8Rng::seed_from_u64(of_row);
        let real = row.ids.len() * hidden_size;
        let size = (alpha / (real as f64).sqrt()) as f32;
        to[..real].fill_with(|| size * (2.0 * random.random::<f32>() - 1.0));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fixtures::example;

    #[test]
    fn the_noise_of_a_row_has_one_length_and_its_padding_none() {
        let (hidden_size, alpha) = (64, 5.0);
        let rows = [example(&[7; 40], 1), example(&[7; 160], 1)];
        let batch = Batch::new(&rows, &[0, 1], 8);
        let values = values(&batch, hidden_size, alpha, 3);
        for (row, length) in [40, 160].into_iter().enumerate() {
            let of_row = &values[row * batch.width * hidden_size..][..batch.width * hidden_size];
            let (real, padding) = of_row.split_at(length * hidden_size);
            let largest = alpha / ((length * hidden_size) as f64).sqrt();
            assert!(real.iter().all(|value| f64::from(value.abs()) <= largest * 1.000_001));
            assert!(padding.iter().all(|value| *value == 0.0));
            // Uniform numbers from -1 to 1 have a variance of a third: of 2,560 of them the sum of squares is within 5 % of it.
            let norm = real.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            assert!((norm / (alpha / 3f64.sqrt()) - 1.0).abs() < 0.05, "{norm}");
            let mean = real.iter().map(|value| f64::from(*value)).sum::<f64>() / real.len() as f64;
            assert!(mean.abs() < 0.06 * largest, "{mean}");
        }
        assert_eq!(super::values(&batch, hidden_size, alpha, 3), values);
        assert_ne!(super::values(&batch, hidden_size, alpha, 4), values);
    }
}
