//! A model as a sampler sees it: rows of tokens that grow side by side, and the logits of what comes next.

use backbone::{Decoder, LayerCache, Visibility};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::loading::Loaded;

/// A model as a sampler uses it.
pub trait NextToken {
    /// Begins anew with these rows, none empty; gives the logits after each.
    fn start(&mut self, prompts: &[Vec<u32>]) -> Vec<Vec<f32>>;

    /// Keeps the given rows in the given order; a row may be kept several times.
    fn keep(&mut self, rows: &[usize]);

    /// Adds one token to each row; gives the logits after each.
    fn step(&mut self, tokens: &[u32]) -> Vec<Vec<f32>>;

    /// The most tokens that a row can have.
    fn positions(&self) -> usize;
}

/// A decoder with the keys and values of the rows so far. Shorter rows are padded on the left.
pub struct DecoderRows<'a> {
    decoder: &'a Decoder,
    cache: Vec<LayerCache>,
    /// Places before each row's first token.
    padding: Vec<usize>,
}

impl<'a> DecoderRows<'a> {
    /// Without rows.
    pub fn new(decoder: &'a Decoder) -> Self {
        Self { decoder, cache: Vec::new(), padding: Vec::new() }
    }

    /// The logits at the last of `width` new places.
    fn pass(&mut self, ids: Vec<i32>, width: usize) -> Vec<Vec<f32>> {
        let (decoder, rows) = (self.decoder, self.padding.len());
        let device = decoder.device();
        let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [rows, width]), device);
        let seen = self.cache.first().map_or(0, LayerCache::length);
        let context = if self.padding.iter().all(|padding| *padding == 0) {
            decoder.context(seen, width, seen + width, None)
        } else {
            let positions = |padding: &usize| {
                let padding = *padding;
                (seen..seen + width).map(move |place| place.saturating_sub(padding))
            };
            let positions: Vec<usize> = self.padding.iter().flat_map(positions).collect();
            let visibility = Visibility::padded(&self.padding, width, seen + width, device);
            decoder.context_at(&positions, rows, visibility, None)
        };
        let hidden = decoder.hidden_in(&context, ids, false, Some(&mut self.cache));
        let hidden_size = hidden.dims()[2];
        let last = hidden.narrow(1, width - 1, 1).reshape([rows, hidden_size]);
        let logits = decoder.logits(last);
        let vocabulary = logits.dims()[1];
        host(logits).chunks(vocabulary).map(<[f32]>::to_vec).collect()
    }
}

impl NextToken for DecoderRows<'_> {
    fn start(&mut self, prompts: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let width = prompts.iter().map(Vec::len).max().unwrap_or(0);
        self.cache.clear();
        self.padding = prompts.iter().map(|prompt| width - prompt.len()).collect();
        let padded = prompts.iter().zip(&self.padding);
        let ids = padded
            .flat_map(|(prompt, padding)| std::iter::repeat_n(0, *padding).chain(prompt.iter().map(|id| *id as i32)));
        self.pass(ids.collect(), width)
    }

    fn keep(&mut self, rows: &[usize]) {
        let device: &Device = self.decoder.device();
        let places: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
        let places: Tensor<1, Int> = Tensor::from_data(TensorData::new(places, [rows.len()]), device);
        for layer in &mut self.cache {
            layer.select(places.clone());
        }
        self.padding = rows.iter().map(|row| self.padding[*row]).collect();
    }

    fn step(&mut self, tokens: &[u32]) -> Vec<Vec<f32>> {
        self.pass(tokens.iter().map(|id| *id as i32).collect(), 1)
    }

    fn positions(&self) -> usize {
        self.decoder.config.max_position_embeddings
    }
}

/// The logits at the last position of a prompt, `[vocabulary]`.
pub fn last_logits(model: &Loaded, prompt: &[u32]) -> Vec<f32> {
    DecoderRows::new(&model.decoder).start(&[prompt.to_vec()]).remove(0)
}

fn host(logits: Tensor<2>) -> Vec<f32> {
    let [rows, vocabulary] = logits.dims();
    backbone::values(logits.reshape([rows * vocabulary]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fixtures::decoder;

    /// Rows of 3, 9 and 6 tokens, longer and shorter than Mistral's window of 5, against each of them alone.
    #[test]
    fn padded_rows_have_the_logits_that_they_have_alone() {
        let prompts: Vec<Vec<u32>> = vec![vec![5, 9, 11], (1..10).collect(), vec![31, 3, 8, 8, 1, 30]];
        for family in
            ["llama", "mistral", "gemma2", "gemma3", "olmo", "olmo3", "smollm3", "ernie4_5", "phi3", "granite"]
        {
            let decoder = decoder(family);
            let mut rows = DecoderRows::new(&decoder);
            let first = rows.start(&prompts);
            rows.keep(&[2, 0, 0, 1]);
            let second = rows.step(&[7, 6, 2, 12]);
            for (prompt, logits) in prompts.iter().zip(&first) {
                assert_near(logits, &DecoderRows::new(&decoder).start(std::slice::from_ref(prompt))[0]);
            }
            for ((row, token), logits) in [(2, 7), (0, 6), (0, 2), (1, 12)].into_iter().zip(&second) {
                let mut whole: Vec<u32> = prompts[row].clone();
                whole.push(token);
                assert_near(logits, &DecoderRows::new(&decoder).start(&[whole])[0]);
            }
        }
    }

    #[track_caller]
    fn assert_near(found: &[f32], expected: &[f32]) {
        let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(found.len() == expected.len() && error < 1e-5, "the largest difference is {error}");
    }
}
