//! Every number against a full softmax by brute force.

use metrics::curve::{Curve, LAMBDAS};
use metrics::{Exact, Outcome, Registry};

use super::*;
use crate::engine::fixtures;

fn example(ids: &[u32], prompt: usize, weight: f64) -> Example {
    Example { weight, ..fixtures::example(ids, prompt) }
}

/// `softmax(z / T)` after each token of a row by itself, `[position][token]`.
fn plain(decoder: &Decoder, ids: &[u32], temperature: f64) -> Vec<Vec<f64>> {
    let row: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
    let tensor: Tensor<2, Int> = Tensor::from_data(TensorData::new(row, [1, ids.len()]), decoder.device());
    let hidden = decoder.hidden(tensor, false, None);
    let [_, width, size] = hidden.dims();
    let logits = values(decoder.logits(hidden.reshape([width, size])).flatten(0, 1));
    let softmax = |logits: &[f32]| {
        let exponentials: Vec<f64> = logits.iter().map(|z| (f64::from(*z) / temperature).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        exponentials.iter().map(|value| value / sum).collect()
    };
    logits.chunks(decoder.config.vocab_size).map(softmax).collect()
}

const PROMPT: [u32; 3] = [1, 7, 4];

fn targets() -> Vec<Example> {
    let endings: [(&[u32], f64); 6] = [
        (&[20, 21, 2], 0.3),
        (&[20, 22, 2], 0.1),
        (&[20, 21, 23, 24, 2], 0.25),
        (&[30, 2], 0.15),
        (&[31, 29, 2], 0.15),
        (&[31, 28, 2], 0.05),
    ];
    endings.iter().map(|(ending, p)| example(&[&PROMPT[..], ending].concat(), PROMPT.len(), *p)).collect()
}

#[test]
fn targets_have_the_probabilities_of_a_full_softmax_at_every_temperature() {
    for family in ["llama", "gemma2", "qwen3"] {
        let decoder = fixtures::trainee(family).decoder;
        let examples = targets();
        let temperatures = [0.25, 0.5, 1.0, 2.0];
        let samplers = temperatures.map(Sampler::at);
        let found = target_log_q(&decoder, &examples, 0..examples.len(), &samplers);
        for (temperature, found) in temperatures.iter().zip(&found) {
            for (example, found) in examples.iter().zip(found) {
                let softmax = plain(&decoder, &example.ids, *temperature);
                let tokens = PROMPT.len()..example.ids.len();
                let expected: f64 = tokens.map(|token| softmax[token - 1][example.ids[token] as usize].ln()).sum();
                // Of two forward passes in f32, packed and by itself.
                assert!((found - expected).abs() < 2e-5 * expected.abs().max(1.0), "{family}: {found} {expected}");
            }
        }
    }
}

/// Two tokens after a prompt: all of the model's distribution is enumerated, and every metric is computed by its definition
/// from that, at four temperatures.
#[test]
fn exact_metrics_are_those_of_the_enumerated_distribution() {
    let decoder = fixtures::trainee("llama").decoder;
    let vocabulary = decoder.config.vocab_size;
    let pairs = [([20u32, 21u32], 0.4), ([20, 5], 0.3), ([9, 2], 0.2), ([3, 3], 0.1)];
    let examples: Vec<Example> =
        pairs.iter().map(|(pair, p)| example(&[&PROMPT[..], pair].concat(), PROMPT.len(), *p)).collect();
    for temperature in [0.25, 0.5, 1.0, 2.0] {
        let first = plain(&decoder, &PROMPT, temperature).pop().expect("a position");
        let mut joint = vec![0.0; vocabulary * vocabulary];
        for token in 0..vocabulary {
            let ids = [&PROMPT[..], &[token as u32]].concat();
            let second = plain(&decoder, &ids, temperature).pop().expect("a position");
            for (next, q) in second.iter().enumerate() {
                joint[token * vocabulary + next] = first[token] * q;
            }
        }
        assert!((joint.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let mut truth = vec![0.0; joint.len()];
        for ([a, b], p) in pairs {
            truth[a as usize * vocabulary + b as usize] = p;
        }
        let log_q = target_log_q(&decoder, &examples, 0..4, &[Sampler::at(temperature)]).remove(0);
        let outcomes: Vec<Outcome> = pairs.iter().zip(log_q).map(|((_, p), log_q)| Outcome { p: *p, log_q }).collect();
        let exact = Exact::new(vec![&outcomes], &[10]);
        let both = || truth.iter().zip(&joint);
        let alpha = |lambda: f64| both().map(|(p, q)| (lambda * p).min(*q)).sum::<f64>();
        let on_support = || both().filter(|(p, _)| **p > 0.0);
        let grid = |b: f64| {
            let f = |place: i32| {
                let lambda = 1.001f64.powi(place);
                (1.0 + b * b) * alpha(lambda) / (1.0 + b * b * lambda)
            };
            (-20_000..20_000).step_by(10).map(f).fold(0.0, f64::max)
        };
        for metric in Registry::default().exact {
            let measured = serde_json::to_value((metric.measure)(&exact)).expect("JSON");
            let number = |key: &str| measured.pointer(key).and_then(serde_json::Value::as_f64).expect("a number");
            let near = |found: f64, expected: f64| {
                assert!(
                    (found - expected).abs() < 1e-6 * expected.abs().max(1.0),
                    "{}: {found} {expected}",
                    metric.name
                );
            };
            match metric.name {
                "mass" => near(number(""), on_support().map(|(_, q)| q).sum()),
                "total_variation" => near(number(""), both().map(|(p, q)| (p - q).abs()).sum::<f64>() / 2.0),
                "kl" => near(number(""), on_support().map(|(p, q)| p * (p / q).ln()).sum()),
                "alpha" => LAMBDAS.iter().for_each(|(key, l)| near(number(&format!("/{key}")), alpha(*l))),
                "beta" => LAMBDAS.iter().for_each(|(key, l)| near(number(&format!("/{key}")), alpha(*l) / l)),
                "coverage" => {
                    near(number("/10"), on_support().map(|(_, q)| 1.0 - (1.0 - q).powi(10)).sum::<f64>() / 4.0)
                }
                "f8" | "f1" | "f1_8" => {
                    let b = [("f8", 8.0), ("f1", 1.0), ("f1_8", 0.125)].iter().find(|(name, _)| *name == metric.name);
                    let (exact, on_grid) = (number(""), grid(b.expect("one of them").1));
                    assert!(
                        exact >= on_grid - 1e-6 && exact < on_grid * 1.02 + 1e-9,
                        "{}: {exact} {on_grid}",
                        metric.name
                    );
                }
                "loss" | "floor" | "area" | "entropy" => {}
                other => panic!("`{other}` has no definition here"),
            }
        }
        assert!(Curve::new(&outcomes).mass() < 1.0);
    }
}

#[test]
fn many_targets_come_in_parts_and_have_the_numbers_of_one() {
    let decoder = fixtures::trainee("llama").decoder;
    // More places than one part may have: 60 targets of 20 tokens that share the prompt alone.
    let target = |index: u32| {
        let ending: Vec<u32> = (0..20).map(|place| 3 + (index * 7 + place * (index % 5 + 1)) % 28).collect();
        example(&[&PROMPT[..], &[3 + index % 28], &ending[..], &[2]].concat(), PROMPT.len(), 1.0 / 60.0)
    };
    let examples: Vec<Example> = (0..60).map(target).collect();
    assert!(parts(&examples, 0..60).len() > 1);
    let found = target_log_q(&decoder, &examples, 0..60, &[Sampler::at(1.0)]).remove(0);
    for (index, found) in found.iter().enumerate() {
        let alone = target_log_q(&decoder, &examples, index..index + 1, &[Sampler::at(1.0)]);
        assert!((found - alone[0][0]).abs() < 2e-5 * found.abs(), "{index}: {found} {}", alone[0][0]);
    }
}
