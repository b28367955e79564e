//! Text from a model: prompts in, continuations out, with a key-value cache.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use datasets::Tokenizer;
use faults::Fault;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::loading::Loaded;
use crate::model::LayerCache;

/// How tokens are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Draws from the smallest set of tokens whose probabilities reach this; 1 draws from all.
    pub top_p: f64,
    /// Draws from this many most likely tokens; 0 draws from all.
    pub top_k: usize,
    /// Most tokens to draw.
    pub max_tokens: usize,
    /// Ends a text where one of these begins.
    pub stop: Vec<String>,
    /// Seed of the draws: each sample has a stream of its own.
    pub seed: u64,
}

/// One continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The tokens, without the stop token.
    pub ids: Vec<u32>,
    /// The tokens as text.
    pub text: String,
    /// True when a stop token or a stop string ended it, false at the limit.
    pub stopped: bool,
}

/// `count` continuations of one prompt, drawn side by side.
///
/// # Errors
/// Tokens that the tokenizer cannot turn into text.
pub fn sample(model: &Loaded, prompt: &[u32], count: usize, settings: &Settings) -> Result<Vec<Sample>, Fault> {
    let decoder = &model.decoder;
    let device = decoder.device();
    let stops = model.tokenizer.stop_tokens();
    let mut cache: Vec<LayerCache> = Vec::new();
    // The prompt passes once; its cache then serves every sample.
    let hidden = decoder.hidden(rows(&[prompt.to_vec()], device), false, Some(&mut cache));
    let [_, positions, hidden_size] = hidden.dims();
    let last = hidden.narrow(1, positions - 1, 1).reshape([1, hidden_size]);
    let first = host(decoder.logits(last));
    for layer in &mut cache {
        layer.select(Tensor::zeros([count], (device, DType::I32)));
    }
    let mut drafts: Vec<Draft> = (0..count).map(|index| Draft::new(settings.seed, index)).collect();
    for draft in &mut drafts {
        draft.push(&first, stops, settings, &model.tokenizer)?;
    }
    // Rows of the cache are the drafts that go on, in order.
    let mut open: Vec<usize> = (0..count).collect();
    loop {
        let going: Vec<usize> = (0..open.len()).filter(|row| !drafts[open[*row]].done).collect();
        if going.is_empty() {
            break;
        }
        if going.len() < open.len() {
            let kept: Vec<i32> = going.iter().map(|row| *row as i32).collect();
            let kept: Tensor<1, Int> = Tensor::from_data(TensorData::new(kept, [going.len()]), device);
            for layer in &mut cache {
                layer.select(kept.clone());
            }
            open = going.iter().map(|row| open[*row]).collect();
        }
        let newest: Vec<Vec<u32>> = open.iter().map(|index| vec![*drafts[*index].ids.last().unwrap_or(&0)]).collect();
        let hidden = decoder.hidden(rows(&newest, device), false, Some(&mut cache));
        let logits = host(decoder.logits(hidden.reshape([open.len(), hidden_size])));
        let vocabulary = logits.len() / open.len();
        for (index, logits) in open.iter().zip(logits.chunks(vocabulary)) {
            drafts[*index].push(logits, stops, settings, &model.tokenizer)?;
        }
    }
    drafts.into_iter().map(|draft| draft.finish(settings, &model.tokenizer)).collect()
}

/// The logits at the last position of a prompt, `[vocabulary]`.
pub fn last_logits(model: &Loaded, prompt: &[u32]) -> Vec<f32> {
    let hidden = model.decoder.hidden(rows(&[prompt.to_vec()], model.decoder.device()), false, None);
    let [_, positions, hidden_size] = hidden.dims();
    host(model.decoder.logits(hidden.narrow(1, positions - 1, 1).reshape([1, hidden_size])))
}

/// A continuation in the making.
struct Draft {
    ids: Vec<u32>,
    random: ChaCha8Rng,
    stopped: bool,
    done: bool,
}

impl Draft {
    fn new(seed: u64, index: usize) -> Self {
        let key = crate::random::key(seed, &["sample", &index.to_string()]);
        Self { ids: Vec::new(), random: ChaCha8Rng::seed_from_u64(key), stopped: false, done: false }
    }

    fn push(&mut self, logits: &[f32], stops: &[u32], settings: &Settings, tokenizer: &Tokenizer) -> Result<(), Fault> {
        if settings.max_tokens == 0 {
            self.done = true;
            return Ok(());
        }
        let token = draw(logits, settings, &mut self.random);
        if stops.contains(&token) {
            self.stopped = true;
        } else {
            self.ids.push(token);
            let text = || tokenizer.decode(&self.ids, true);
            self.stopped = !settings.stop.is_empty() && cut(&text()?, &settings.stop).is_some();
        }
        self.done = self.stopped || self.ids.len() >= settings.max_tokens;
        Ok(())
    }

    fn finish(self, settings: &Settings, tokenizer: &Tokenizer) -> Result<Sample, Fault> {
        let mut text = tokenizer.decode(&self.ids, true)?;
        if let Some(end) = cut(&text, &settings.stop) {
            text.truncate(end);
        }
        Ok(Sample { ids: self.ids, text, stopped: self.stopped })
    }
}

/// Where the first stop string begins.
fn cut(text: &str, stop: &[String]) -> Option<usize> {
    stop.iter().filter_map(|stop| text.find(stop.as_str())).min()
}

/// One token from the logits.
fn draw(logits: &[f32], settings: &Settings, random: &mut ChaCha8Rng) -> u32 {
    if settings.temperature == 0.0 {
        return most_likely(logits);
    }
    let mut ranked: Vec<(u32, f64)> =
        logits.iter().enumerate().map(|(token, logit)| (token as u32, f64::from(*logit))).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if settings.top_k > 0 {
        ranked.truncate(settings.top_k);
    }
    let largest = ranked[0].1;
    for (_, value) in &mut ranked {
        *value = ((*value - largest) / settings.temperature).exp();
    }
    let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
    if settings.top_p < 1.0 {
        let mut sum = 0.0;
        let kept = ranked.iter().take_while(|(_, weight)| {
            let before = sum;
            sum += weight / total;
            before < settings.top_p
        });
        let kept = kept.count();
        ranked.truncate(kept.max(1));
    }
    let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
    let mut left = random.random::<f64>() * total;
    for (token, weight) in &ranked {
        left -= weight;
        if left < 0.0 {
            return *token;
        }
    }
    ranked[ranked.len() - 1].0
}

/// The token with the largest logit, the first of several.
fn most_likely(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

fn rows(ids: &[Vec<u32>], device: &Device) -> Tensor<2, Int> {
    let width = ids[0].len();
    let flat: Vec<i32> = ids.iter().flatten().map(|id| *id as i32).collect();
    Tensor::from_data(TensorData::new(flat, [ids.len(), width]), device)
}

fn host(logits: Tensor<2>) -> Vec<f32> {
    let [rows, vocabulary] = logits.dims();
    crate::engine::trainee::values(logits.reshape([rows * vocabulary]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(temperature: f64, top_p: f64, top_k: usize) -> Settings {
        Settings { temperature, top_p, top_k, max_tokens: 1, stop: Vec::new(), seed: 1 }
    }

    fn frequencies(settings: &Settings) -> [f64; 3] {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut counts = [0.0; 3];
        for _ in 0..20_000 {
            counts[draw(&logits, settings, &mut random) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn assert_close(found: [f64; 3], expected: [f64; 3]) {
        // Four standard deviations of a frequency near one half in 20,000 draws.
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.0142), "{found:?} is not {expected:?}");
    }

    #[test]
    fn draws_follow_the_temperature_and_the_cuts() {
        assert_close(frequencies(&settings(1.0, 1.0, 0)), [0.5, 0.3, 0.2]);
        let squares: f64 = 0.25 + 0.09 + 0.04;
        assert_close(frequencies(&settings(0.5, 1.0, 0)), [0.25 / squares, 0.09 / squares, 0.04 / squares]);
        assert_close(frequencies(&settings(1.0, 1.0, 2)), [0.625, 0.375, 0.0]);
        assert_close(frequencies(&settings(1.0, 0.6, 0)), [0.625, 0.375, 0.0]);
        assert_close(frequencies(&settings(1.0, 0.5, 0)), [1.0, 0.0, 0.0]);
        assert_close(frequencies(&settings(0.0, 1.0, 0)), [1.0, 0.0, 0.0]);
    }
}
