//! The mathematics of every architecture against transformers and PEFT: the numbers in `tests/fixtures`, made by
//! `make.py` there.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use checkpoints::{Adapter, Weights};
use serde::Deserialize;
use trainer::engine::Trainee;
use trainer::engine::backward::{Place, Recompute, StepScale, StepSums, micro_batch};
use trainer::engine::batch::Batch;
use trainer::engine::parameters::{GradientSum, Layout};
use trainer::engine::totals::Totals;
use trainer::engine::trainee::values;
use trainer::model::{Config, Decoder, Source};

use crate::six_steps;
use crate::support::{FixtureRow, examples, larger};

const MODELS: [&str; 14] = [
    "llama", "llama3", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "olmo", "olmo2", "granite", "phi3",
    "longrope", "dynamic",
];

/// Those whose rotary frequencies depend on the longest row of a pass: their rows are not the same alone and together.
const BY_LENGTH: [&str; 2] = ["longrope", "dynamic"];

#[derive(Deserialize)]
struct Expected {
    rows: Vec<FixtureRow>,
    /// For each row, for each position, the logits.
    logits: Vec<Vec<Vec<f32>>>,
    /// Of the second row, with the adapter.
    adapted: Vec<Vec<f32>>,
    /// Six steps of the adapter.
    #[serde(flatten)]
    adapter: Steps,
    /// Six steps of every weight.
    full: Steps,
}

#[derive(Deserialize)]
struct Steps {
    losses: Vec<f64>,
    norms: Vec<f64>,
}

fn folder(model: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(model)
}

fn expected(model: &str) -> Expected {
    let text = std::fs::read_to_string(folder(model).join("expected.json")).expect("the numbers");
    serde_json::from_str(&text).expect("numbers")
}

fn decoder(model: &str, trained: bool) -> Decoder {
    decoder_of(model, trained, DType::F32)
}

fn decoder_of(model: &str, trained: bool, dtype: DType) -> Decoder {
    decoder_in(&folder(model), trained, dtype)
}

fn decoder_in(folder: &Path, trained: bool, dtype: DType) -> Decoder {
    let text = std::fs::read_to_string(folder.join("config.json")).expect("the configuration");
    let config = Config::parse(&text, "config.json").unwrap_or_else(|fault| panic!("{}: {fault}", folder.display()));
    let weights = Weights::open(folder).expect("the weights");
    config.check_weights(&weights).unwrap_or_else(|fault| panic!("{fault}"));
    let device = Device::flex();
    let source = Source { trained, ..Source::frozen(&weights, dtype, &device) };
    Decoder::load(config, &source).unwrap_or_else(|fault| panic!("{fault}"))
}

fn ids(row: &[u32]) -> Tensor<2, Int> {
    let row: Vec<i32> = row.iter().map(|id| *id as i32).collect();
    let width = row.len();
    Tensor::from_data(TensorData::new(row, [1, width]), &Device::flex())
}

/// The largest difference between the logits and those of transformers.
fn logits_differ_by(found: Tensor<2>, expected: &[Vec<f32>]) -> f32 {
    let found = values(found.flatten(0, 1));
    let expected: Vec<f32> = expected.concat();
    assert_eq!(found.len(), expected.len());
    found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, larger)
}

#[test]
fn logits_are_those_of_transformers() {
    for model in MODELS {
        let (decoder, expected) = (decoder(model, false), expected(model));
        for (row, logits) in expected.rows.iter().zip(&expected.logits) {
            let hidden = decoder.hidden(ids(&row.ids), false, None).flatten(0, 1);
            let difference = logits_differ_by(decoder.logits(hidden), logits);
            assert!(difference < 1e-4, "{model}: {difference}");
        }
    }
}

/// The adapter beside its base, and merged into it, have the logits that PEFT gives the two.
#[test]
fn merged_folders_have_the_logits_of_base_and_adapter() {
    for model in MODELS {
        let expected = expected(model);
        let row = &expected.rows[1].ids;
        let logits = |decoder: Decoder| decoder.logits(decoder.hidden(ids(row), false, None).flatten(0, 1));
        let difference = logits_differ_by(logits(adapted(model, DType::F32)), &expected.adapted);
        assert!(difference < 1e-4, "{model}: {difference}");

        let place = tempfile::tempdir().expect("a folder");
        let merged = place.path().join("merged");
        let base = checkpoints::export::Base::open(&folder(model)).expect("the base");
        let adapter = Adapter::read(&folder(model).join("adapter")).expect("the adapter");
        checkpoints::export::merged(&base, &adapter, &merged, None).expect("a merged folder");
        let difference = logits_differ_by(logits(decoder_in(&merged, false, DType::F32)), &expected.adapted);
        assert!(difference < 1e-4, "{model}, merged: {difference}");
    }
}

/// Token by token behind the cache, past the end of the sliding windows (5 and 6 positions of 14).
#[test]
fn logits_from_the_cache_are_those_of_transformers() {
    for model in MODELS.into_iter().filter(|model| !BY_LENGTH.contains(model)) {
        let (decoder, expected) = (decoder(model, false), expected(model));
        for (row, logits) in expected.rows.iter().zip(&expected.logits) {
            let mut cache = Vec::new();
            // The prompt at once, the rest one by one, as sampling does.
            let (prompt, rest) = row.ids.split_at(7);
            let mut found = vec![decoder.hidden(ids(prompt), false, Some(&mut cache))];
            found.extend(rest.iter().map(|id| decoder.hidden(ids(&[*id]), false, Some(&mut cache))));
            let difference = logits_differ_by(decoder.logits(Tensor::cat(found, 1).flatten(0, 1)), logits);
            assert!(difference < 1e-4, "{model}: {difference}");
        }
    }
}

/// The six steps of a decoder on the rows of its fixture.
fn six_steps(decoder: Decoder, rows: &Expected, recompute: Recompute, micro_batch_size: usize) -> Vec<(f64, f64)> {
    let mut trainee = Trainee { decoder, auxiliaries: Vec::new() };
    let steps = six_steps::Steps { recompute, micro_batch_size, ..six_steps::STEPS };
    six_steps::train(&mut trainee, &examples(&rows.rows), steps)
}

/// In both ways of going back, and with the rows one by one and together.
fn assert_steps(case: &str, expected: &Steps, rows: &Expected, decoder: impl Fn() -> Decoder) {
    assert_eq!((expected.losses.len(), expected.norms.len()), (6, 6));
    for recompute in [Recompute::None, Recompute::Blocks] {
        for micro_batch_size in if BY_LENGTH.contains(&case) { vec![3] } else { vec![1, 3] } {
            let found = six_steps(decoder(), rows, recompute, micro_batch_size);
            for (step, (loss, norm)) in found.into_iter().enumerate() {
                let case = format!("{case}, recompute {recompute:?}, {micro_batch_size} rows at once, step {step}");
                let (expected_loss, expected_norm) = (expected.losses[step], expected.norms[step]);
                assert!((loss - expected_loss).abs() < 3e-4, "{case}: loss {loss} for {expected_loss}");
                assert!((norm / expected_norm - 1.0).abs() < 3e-3, "{case}: norm {norm} for {expected_norm}");
            }
        }
    }
}

#[test]
fn six_steps_have_the_losses_and_gradient_norms_of_peft() {
    for model in MODELS {
        let rows = expected(model);
        assert_steps(model, &rows.adapter, &rows, || {
            let mut decoder = decoder(model, false);
            let adapter = Adapter::read(&folder(model).join("adapter")).expect("the adapter");
            decoder.attach(&adapter, 0.0).expect("the adapter fits");
            decoder
        });
    }
}

/// Embeddings (tied and not), heads, norms and biases have gradients too.
#[test]
fn six_steps_of_every_weight_have_the_losses_and_gradient_norms_of_transformers() {
    for model in MODELS {
        let rows = expected(model);
        assert_steps(model, &rows.full, &rows, || decoder(model, true));
    }
}

fn adapted(model: &str, dtype: DType) -> Decoder {
    let mut decoder = decoder_of(model, false, dtype);
    let adapter = Adapter::read(&folder(model).join("adapter")).expect("the adapter");
    decoder.attach(&adapter, 0.0).expect("the adapter fits");
    decoder
}

/// Packed weights and activations of bf16 round at the third digit; what they train towards is the same.
#[test]
fn six_steps_in_bf16_stay_near_those_of_peft_in_f32() {
    for model in MODELS {
        let rows = expected(model);
        for recompute in [Recompute::None, Recompute::Blocks] {
            let found = six_steps(adapted(model, DType::BF16), &rows, recompute, 3);
            for (step, (loss, norm)) in found.into_iter().enumerate() {
                let (expected_loss, expected_norm) = (rows.adapter.losses[step], rows.adapter.norms[step]);
                assert!((loss / expected_loss - 1.0).abs() < 0.02, "{model} {step}: loss {loss} for {expected_loss}");
                assert!((norm / expected_norm - 1.0).abs() < 0.1, "{model} {step}: norm {norm} for {expected_norm}");
            }
        }
    }
}

/// Blocks that run again give the very gradients of blocks that were kept, in both precisions, every time.
#[test]
fn gradients_do_not_depend_on_what_is_kept() {
    for model in MODELS {
        let rows = expected(model);
        for dtype in [DType::F32, DType::BF16] {
            let gradients = [Recompute::None, Recompute::Blocks, Recompute::Blocks].map(|recompute| {
                let mut trainee = Trainee { decoder: adapted(model, dtype), auxiliaries: Vec::new() };
                let mut objective = (losses::objective::NLL.build)(&mut faults::Section::probe());
                let layout = Layout::of(&mut trainee);
                let totals = Totals::zeros(&Device::flex());
                let mut sums = StepSums { gradients: GradientSum::new(&layout), totals, auxiliaries: Vec::new() };
                let batch = Batch::new(&examples(&rows.rows), &[0, 1, 2], 8);
                let scale = StepScale { objective: 0.1, auxiliaries: Vec::new() };
                let place = Place { step: 1, seed: 0, step_seed: 0, scale };
                micro_batch(&mut trainee, &mut *objective, &batch, &place, recompute, &mut sums);
                values(sums.gradients.flatten())
            });
            assert!(gradients[0] == gradients[1] && gradients[1] == gradients[2], "{model} {dtype:?}");
            assert!(gradients[0].iter().any(|value| *value != 0.0), "{model} {dtype:?}");
        }
    }
}
