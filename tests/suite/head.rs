//! The head of a large vocabulary goes over the learned tokens in chunks.

use backbone::ops::chunk_rows;
use backbone::values;
use backbone::{Config, Decoder, Source};
use burn::tensor::{DType, Device, Tensor, TensorData};
use datasets::Example;
use losses::{Objective, Scope, Statistics, Terms, Tokens};
use trainer::engine::batch::Batch;
use trainer::engine::head::loss_and_gradients;
use trainer::engine::totals::Totals;

use crate::fixtures::{self, fixture, load, micro_step};
use crate::support::larger;

const VOCABULARY: usize = 66_000;

fn example(length: usize, line: usize) -> Example {
    let ids = (0..length).map(|place| ((place * 7919 + line * 104_729) % VOCABULARY) as u32);
    fixtures::example(line, ids.collect(), (0..length).map(|place| place > 0).collect())
}

/// Rows that are cut by the ends of chunks have the loss and the gradients that each has alone, in one chunk; of an objective
/// without weights, and of one whose weights go by a token's place in its row.
#[test]
fn chunks_change_neither_loss_nor_gradients() {
    let text = std::fs::read_to_string(fixture("llama3/config.json")).expect("the configuration");
    let mut config = Config::parse(&text, "config.json").expect("a configuration");
    config.vocab_size = VOCABULARY;
    let device = Device::flex();
    let source = Source {
        weights: None,
        dtype: DType::F32,
        device: &device,
        trained: false,
        quantise: None,
        seed: 3,
        initializer_range: 0.3,
        draws_on_device: false,
        used: Default::default(),
    };
    let decoder = Decoder::load(config, &source).expect("a drawn model");
    let hidden_size = decoder.config.hidden_size;
    let examples: Vec<Example> = (1..=3).map(|line| example(88 + 8 * line, line)).collect();
    let learned: usize = examples.iter().map(|example| example.ids.len() - 1).sum();
    let chunk = chunk_rows(VOCABULARY, &Device::flex());
    assert!(learned > 2 * chunk && examples.iter().all(|example| example.ids.len() < chunk), "{learned} of {chunk}");

    for objective in [losses::objective::NLL, losses::objective::LAMBDA_PR] {
        let run = |rows: &[usize]| {
            let batch = Batch::new(&examples, rows, 8);
            let numbers: Vec<f32> = (rows.iter())
                .flat_map(|row| (0..batch.width * hidden_size).map(move |i| ((i + row * 31) as f32 * 0.7).sin()))
                .collect();
            let states = TensorData::new(numbers, [rows.len(), batch.width, hidden_size]);
            let mut totals = Totals::zeros(&device);
            let mut objective = (objective.build)(&mut faults::Section::probe());
            let states = Tensor::from_data(states, &device);
            let found =
                loss_and_gradients(&decoder, states, &batch, &mut *objective, &micro_step(Terms::NONE), &mut totals);
            let gradient = values(found.hidden.flatten(0, 2));
            let width = batch.width * hidden_size;
            let kept = rows
                .iter()
                .enumerate()
                .map(|(place, row)| gradient[place * width..][..examples[*row].ids.len() * hidden_size].to_vec());
            (totals.read().loss, kept.collect::<Vec<_>>())
        };
        let (loss, gradients) = run(&[0, 1, 2]);
        let alone: Vec<_> = (0..3).map(|row| run(&[row])).collect();
        let sum: f64 = alone.iter().map(|(loss, _)| loss).sum();
        assert!((loss / sum - 1.0).abs() < 1e-6, "{}: {loss} for {sum}", objective.name);
        for (found, (_, expected)) in gradients.iter().zip(&alone) {
            let scale = expected[0].iter().map(|value| value.abs()).fold(0.0, larger);
            let worst = found.iter().zip(&expected[0]).map(|(a, b)| (a - b).abs()).fold(0.0, larger);
            assert!(found.len() == expected[0].len() && scale > 0.0 && worst <= 1e-5 * scale, "{worst} in {scale}");
        }
    }
}

/// What a weighted objective sends back to the hidden states, in f64 from its definition: the weight of a token, which takes
/// no part in the differentiation, times the gradient of its nll.
#[test]
fn gradients_carry_the_weights_of_the_definition() {
    let folder = fixture("llama3");
    let decoder = load(&folder, false, DType::F32);
    let weights = checkpoints::Weights::open(&folder).expect("the weights");
    let device = Device::flex();
    let (width, vocabulary) = (decoder.config.hidden_size, decoder.config.vocab_size);
    let matrix = weights.f32("model.embed_tokens.weight").expect("the tied matrix");
    let mut example = example(12, 1);
    example.ids = (0..12).map(|place| (3 + 5 * place) % vocabulary as u32).collect();
    let batch = Batch::new(&[example], &[0], 8);
    let hidden: Vec<f32> = (0..batch.width * width).map(|i| 3.0 * (i as f32 * 0.7).sin()).collect();

    type Weight = fn(f64) -> f64;
    let cases: [(_, Weight); 4] = [
        (losses::objective::NLL, |_| 1.0),
        (losses::objective::CDIV, |q| q.powf(-0.4)),
        (losses::objective::FOCAL, |q| (1.0 - q).powi(2)),
        (losses::objective::GOLD, |q| q),
    ];
    for (objective, weight) in cases {
        let mut expected = vec![0.0; hidden.len()];
        let mut expected_loss = 0.0;
        for token in &batch.learned {
            let row = &hidden[token.hidden * width..][..width];
            let logit = |entry: &[f32]| row.iter().zip(entry).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>();
            let logits: Vec<f64> = matrix.chunks_exact(width).map(logit).collect();
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            let q = logits[token.target as usize].exp() / sum;
            expected_loss -= weight(q) * q.ln();
            for (entry, logit) in logits.iter().enumerate() {
                let slope = weight(q) * (logit.exp() / sum - f64::from(u8::from(entry == token.target as usize)));
                for i in 0..width {
                    expected[token.hidden * width + i] += slope * f64::from(matrix[entry * width + i]);
                }
            }
        }
        let states = Tensor::from_data(TensorData::new(hidden.clone(), [1, batch.width, width]), &device);
        let mut totals = Totals::zeros(&device);
        let mut built = (objective.build)(&mut faults::Section::probe());
        let found = loss_and_gradients(&decoder, states, &batch, &mut *built, &micro_step(Terms::NONE), &mut totals);
        let loss = totals.read().loss;
        assert!((loss / expected_loss - 1.0).abs() < 1e-5, "{}: {loss} for {expected_loss}", objective.name);
        let scale = expected.iter().map(|value: &f64| value.abs()).fold(0.0, larger);
        let found = values(found.hidden.flatten(0, 2));
        let worst = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, larger);
        assert!(worst < 1e-5 * scale, "{}: {worst} in {scale}", objective.name);
    }
}

/// Asks for all that there is: weights by the entropy and the sum of squares, and a softmax of its own in the gradient.
struct Asking {
    temperature: f64,
    scope: Scope,
}

impl Objective for Asking {
    fn name(&self) -> &str {
        "asking"
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        let [entropy, squares] =
            [&tokens.entropy, &tokens.sum_of_squares].map(|asked| asked.clone().expect("asked for"));
        entropy * (squares.neg() + 1.0)
    }

    fn statistics(&self) -> Statistics {
        Statistics { entropy: true, sum_of_squares: true, ..Statistics::default() }
    }

    fn temperature(&self) -> f64 {
        self.temperature
    }

    fn scope(&self) -> Scope {
        self.scope
    }
}

/// Loss, weights and gradient of an objective that asks for more, and of what stands beside it, in f64 from the definitions; of
/// packed matrices and of burn's operations, token by token and by whole rows.
#[test]
fn an_objective_is_told_what_it_asks_for() {
    let folder = fixture("llama3");
    let weights = checkpoints::Weights::open(&folder).expect("the weights");
    let matrix = weights.f32("model.embed_tokens.weight").expect("the tied matrix");
    let device = Device::flex();
    let smoothed = Terms { label_smoothing: 0.1, ..Terms::NONE };
    let both = Terms { entropy_bonus: 0.3, ..smoothed };
    for (trained, scope, temperature, terms) in [
        (false, Scope::Token, 0.7, Terms::NONE),
        (true, Scope::Token, 0.7, smoothed),
        (false, Scope::Token, 1.6, smoothed),
        (false, Scope::Row, 1.6, Terms::NONE),
        (true, Scope::Row, 1.0, both),
        (false, Scope::Token, 1.0, both),
        (true, Scope::Token, 1.0, Terms { label_smoothing: 0.0, ..both }),
    ] {
        let decoder = load(&folder, trained, DType::F32);
        let (width, vocabulary) = (decoder.config.hidden_size, decoder.config.vocab_size);
        let mut example = example(12, 1);
        example.ids = (0..12).map(|place| (3 + 5 * place) % vocabulary as u32).collect();
        let batch = Batch::new(&[example], &[0], 8);
        let hidden: Vec<f32> = (0..batch.width * width).map(|i| 3.0 * (i as f32 * 0.7).sin()).collect();
        let (mut expected, mut expected_loss, mut expected_weight) = (vec![0.0; hidden.len()], 0.0, 0.0);
        for token in &batch.learned {
            let row = &hidden[token.hidden * width..][..width];
            let logit = |entry: &[f32]| row.iter().zip(entry).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>();
            let logits: Vec<f64> = matrix.chunks_exact(width).map(logit).collect();
            let softmax = |temperature: f64| -> Vec<f64> {
                let sum: f64 = logits.iter().map(|logit| (logit / temperature).exp()).sum();
                logits.iter().map(|logit| (logit / temperature).exp() / sum).collect()
            };
            let (plain, tempered) = (softmax(1.0), softmax(temperature));
            let entropy: f64 = plain.iter().map(|q| -q * q.ln()).sum();
            let weight = entropy * (1.0 - plain.iter().map(|q| q * q).sum::<f64>());
            expected_weight += weight;
            let smoothing = terms.label_smoothing;
            let everywhere = smoothing / vocabulary as f64;
            let of_target =
                |entry: usize| everywhere + (1.0 - smoothing) * f64::from(u8::from(entry == token.target as usize));
            expected_loss -= terms.entropy_bonus * entropy;
            for (entry, q) in tempered.iter().enumerate() {
                expected_loss -= weight * temperature * of_target(entry) * q.ln();
                let slope = weight * (q - of_target(entry))
                    + terms.entropy_bonus * plain[entry] * (plain[entry].ln() + entropy);
                for i in 0..width {
                    expected[token.hidden * width + i] += slope * f64::from(matrix[entry * width + i]);
                }
            }
        }
        let states = Tensor::from_data(TensorData::new(hidden.clone(), [1, batch.width, width]), &device);
        let mut totals = Totals::zeros(&device);
        let mut objective = Asking { temperature, scope };
        let found = loss_and_gradients(&decoder, states, &batch, &mut objective, &micro_step(terms), &mut totals);
        let sums = totals.read();
        let close =
            |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-5, "{found} for {expected}");
        close(sums.weight, expected_weight);
        close(sums.loss, expected_loss);
        let scale = expected.iter().map(|value: &f64| value.abs()).fold(0.0, larger);
        let found = values(found.hidden.flatten(0, 2));
        let worst = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, larger);
        assert!(worst < 1e-5 * scale, "{worst} in {scale}, trained {trained}, {scope:?}");
    }
}
