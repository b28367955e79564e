//! Dropped inputs of a head with trained lengths, against the formula of PEFT's `DoraLinearVariant.forward` in plain f64:
//! `W x + (g - 1) W d + g s B A d`, d what is left of x, `g = m / |W + s B A|` with the lengths below taken for constants.

use backbone::values;
use backbone::{Config, Decoder, Source};
use burn::tensor::{DType, Device, Tensor, TensorData};
use checkpoints::Weights;
use trainer::engine::batch::Batch;
use trainer::engine::head::loss_and_gradients;
use trainer::engine::totals::Totals;

use crate::fixtures::{adapter, example, fixture, micro_step};
use crate::support::larger;

/// The parts of a head: the hidden states `[tokens, width]`, A, B and m.
type Parts = [Vec<f64>; 4];

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

struct Reference {
    weight: Vec<f64>,
    mask: Vec<f64>,
    norms: Vec<f64>,
    scale: f64,
    rank: usize,
    /// For each learned token, its place and what comes next.
    learned: Vec<(usize, usize)>,
}

impl Reference {
    fn row(&self, [_, a, b, _]: &Parts, token: usize, width: usize) -> Vec<f64> {
        let low = |i: usize| (0..self.rank).map(|r| b[token * self.rank + r] * a[r * width + i]).sum::<f64>();
        (0..width).map(|i| self.scale * low(i)).collect()
    }

    fn loss(&self, parts: &Parts) -> f64 {
        let (vocabulary, [hidden, _, _, lengths]) = (self.norms.len(), parts);
        let width = self.weight.len() / vocabulary;
        let rows: Vec<Vec<f64>> = (0..vocabulary).map(|token| self.row(parts, token, width)).collect();
        let nll = |(place, target): &(usize, usize)| {
            let logit = |token: usize| {
                let gain = lengths[token] / self.norms[token];
                let at = |i: usize| (hidden[place * width + i], self.mask[place * width + i]);
                let part = |i: usize| {
                    let ((x, mask), w) = (at(i), self.weight[token * width + i]);
                    w * x + (gain - 1.0) * w * x * mask + gain * rows[token][i] * x * mask
                };
                (0..width).map(part).sum::<f64>()
            };
            let logits: Vec<f64> = (0..vocabulary).map(logit).collect();
            logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[*target]
        };
        self.learned.iter().map(nll).sum()
    }

    /// By central differences.
    fn gradient(&self, parts: &Parts, of: usize) -> Vec<f64> {
        let step = 1e-5;
        let at = |index: usize, by: f64| {
            let mut moved = parts.clone();
            moved[of][index] += by;
            self.loss(&moved)
        };
        (0..parts[of].len()).map(|index| (at(index, step) - at(index, -step)) / (2.0 * step)).collect()
    }
}

#[track_caller]
fn close(name: &str, found: Vec<f32>, expected: &[f64]) {
    let worst = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, larger);
    assert!(found.len() == expected.len() && worst < 1e-4, "{name}: {worst}");
    assert!(expected.iter().any(|value| value.abs() > 1e-2), "{name}: nothing to see");
}

#[test]
fn a_head_with_trained_lengths_and_dropped_inputs_has_the_loss_and_gradients_of_peft() {
    let adapter = adapter("dora_head");
    let folder = fixture("llama3");
    let text = std::fs::read_to_string(folder.join("config.json")).expect("the configuration");
    let weights = Weights::open(&folder).expect("the weights");
    let device = Device::flex();
    let modules = adapter.modules().expect("modules");
    let module = modules.iter().find(|module| module.path == "lm_head").expect("the head's");
    let numbers = |tensor: &checkpoints::StoredTensor| wide(&tensor.to_f32().expect("numbers"));
    // Packed, as a frozen matrix is on the CPU, and as the tensor that it is elsewhere.
    for trained in [false, true] {
        let source = Source { trained, ..Source::frozen(&weights, DType::F32, &device) };
        let config = Config::parse(&text, "config.json").expect("a configuration");
        let mut decoder = Decoder::load(config, &source).expect("a model");
        decoder.attach(&adapter, 0.5).expect("a fitting adapter");
        let ids: Vec<u32> = (0..9).map(|i| 3 + 5 * i % 29).collect();
        let learned = (0..ids.len()).map(|place| place > 1).collect();
        let example = example(0, ids, learned);
        let batch = Batch::new(&[example], &[0], 8);
        let width = decoder.config.hidden_size;
        let hidden: Vec<f32> = (0..batch.width * width).map(|i| (i as f32 * 0.7).sin()).collect();
        let flat = Tensor::<2>::from_data(TensorData::new(hidden.clone(), [batch.width, width]), &device);
        let step = micro_step(losses::Terms::NONE);
        let mask = decoder
            .head()
            .lora
            .expect("an adapter")
            .mask("lm_head", &flat, Some(step.seed))
            .expect("inputs are dropped");
        let mask = wide(&values(mask.flatten(0, 1)));
        assert!(mask.contains(&0.0) && mask.contains(&2.0), "{mask:?}");
        let lengths = numbers(module.magnitude.expect("trained lengths"));
        let parts: Parts = [wide(&hidden), numbers(module.a), numbers(module.b), lengths];
        let mut reference = Reference {
            weight: wide(&weights.f32("model.embed_tokens.weight").expect("the tied matrix")),
            mask,
            norms: vec![1.0; decoder.config.vocab_size],
            scale: module.scale,
            rank: module.rank,
            learned: batch.learned.iter().map(|token| (token.hidden, token.target as usize)).collect(),
        };
        let norm = |token: usize| {
            let row = reference.row(&parts, token, width).into_iter();
            let own = &reference.weight[token * width..];
            row.zip(own).map(|(more, own)| (own + more).powi(2)).sum::<f64>().sqrt()
        };
        reference.norms = (0..reference.norms.len()).map(norm).collect();

        let mut objective = (losses::objective::NLL.build)(&mut faults::Section::probe());
        let mut totals = Totals::zeros(&device);
        let states = flat.reshape([1, batch.width, width]);
        let found = loss_and_gradients(&decoder, states, &batch, &mut *objective, &step, &mut totals);
        let loss = totals.read().loss;
        assert!((loss - reference.loss(&parts)).abs() < 1e-3, "{loss} for {}", reference.loss(&parts));
        let mut own = found.head.0;
        close("hidden", values(found.hidden.flatten::<1>(0, 2)), &reference.gradient(&parts, 0));
        for (index, name) in ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"].into_iter().enumerate() {
            let gradient = own.remove(&format!("lm_head.{name}")).expect(name);
            close(name, values(gradient), &reference.gradient(&parts, index + 1));
        }
    }
}
