//! The mathematics of every architecture against transformers and PEFT: the numbers in `tests/fixtures`, made by
//! `make.py` there.

use backbone::Decoder;
use backbone::values;
use burn::tensor::{DType, Tensor};
use checkpoints::export::{Base, merged};
use trainer::engine::Trainee;
use trainer::engine::backward::Recompute;
use trainer::engine::batch::Batch;
use trainer::engine::step::{StepSettings, Trainer};

use crate::fixtures::{Expected, adapter_of, examples, fixture, ids, largest_difference, load, logits};
use crate::six_steps::{STEPS, Steps, assert_steps, train};

pub const MODELS: [&str; 19] = [
    "llama",
    "llama3",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3",
    "olmo",
    "olmo2",
    "olmo3",
    "smollm3",
    "seed_oss",
    "ernie4_5",
    "granite",
    "phi3",
    "longrope",
    "dynamic",
    "gemma3_images",
];

/// Those whose rotary frequencies depend on the longest row of a pass: their rows are not the same alone and together.
const BY_LENGTH: [&str; 2] = ["longrope", "dynamic"];

fn decoder(model: &str) -> Decoder {
    load(&fixture(model), false, DType::F32)
}

/// A frozen model with the adapter that PEFT starts from.
fn adapted(model: &str, dtype: DType) -> Decoder {
    let mut decoder = load(&fixture(model), false, dtype);
    decoder.attach(&adapter_of(model), 0.0).expect("the adapter fits");
    decoder
}

#[test]
fn logits_are_those_of_transformers() {
    for model in MODELS {
        let decoder = decoder(model);
        for (row, expected) in examples().iter().zip(Expected::of(model).logits()) {
            let difference = largest_difference(&logits(&decoder, &row.ids), &expected);
            assert!(difference < 1e-4, "{model}: {difference}");
        }
    }
}

/// The adapter beside its base, and merged into it, have the logits that PEFT gives the two.
#[test]
fn merged_folders_have_the_logits_of_base_and_adapter() {
    for model in MODELS {
        let expected = Expected::of(model).numbers("adapted");
        let row = &examples()[1].ids;
        let difference = largest_difference(&logits(&adapted(model, DType::F32), row), &expected);
        assert!(difference < 1e-4, "{model}: {difference}");

        let place = tempfile::tempdir().expect("a folder");
        let out = place.path().join("merged");
        let base = Base::open(&fixture(model)).expect("the base");
        merged(&base, &adapter_of(model), &out, Some(checkpoints::Dtype::F32)).expect("a merged folder");
        let difference = largest_difference(&logits(&load(&out, false, DType::F32), row), &expected);
        assert!(difference < 1e-4, "{model}, merged: {difference}");
    }
}

/// Token by token behind the cache, past the end of the sliding windows (5 and 6 positions of 14).
#[test]
fn logits_from_the_cache_are_those_of_transformers() {
    for model in MODELS.into_iter().filter(|model| !BY_LENGTH.contains(model)) {
        let decoder = decoder(model);
        for (row, expected) in examples().iter().zip(Expected::of(model).logits()) {
            let mut cache = Vec::new();
            // The prompt at once, the rest one by one, as sampling does.
            let (prompt, rest) = row.ids.split_at(6);
            let mut found = vec![decoder.hidden(ids(prompt), false, Some(&mut cache))];
            found.extend(rest.iter().map(|id| decoder.hidden(ids(&[*id]), false, Some(&mut cache))));
            let found = values(decoder.logits(Tensor::cat(found, 1).flatten(0, 1)).flatten(0, 1));
            let difference = largest_difference(&found, &expected);
            assert!(difference < 1e-4, "{model}: {difference}");
        }
    }
}

/// Rows that may stand in one batch with others.
fn rows_at_once(model: &str) -> &'static [usize] {
    if BY_LENGTH.contains(&model) { &[3] } else { &[1, 3] }
}

#[test]
fn six_steps_have_the_losses_and_gradient_norms_of_peft() {
    for model in MODELS {
        assert_steps(model, "", rows_at_once(model), STEPS, || adapted(model, DType::F32));
    }
}

/// Embeddings (tied and not), heads, norms and biases have gradients too.
#[test]
fn six_steps_of_every_weight_have_the_losses_and_gradient_norms_of_transformers() {
    for model in MODELS {
        assert_steps(model, "full_", rows_at_once(model), STEPS, || load(&fixture(model), true, DType::F32));
    }
}

/// Packed weights and activations of bf16 round at the third digit; what they train towards is the same.
#[test]
fn six_steps_in_bf16_stay_near_those_of_peft_in_f32() {
    for model in MODELS {
        let [losses, norms] = ["losses", "norms"].map(|name| Expected::of(model).numbers(name));
        for recompute in [Recompute::None, Recompute::Blocks] {
            let mut trainee = Trainee { decoder: adapted(model, DType::BF16), auxiliaries: Vec::new() };
            let found = train(&mut trainee, Steps { recompute, ..STEPS });
            for (step, (loss, norm)) in found.into_iter().enumerate() {
                let (expected_loss, expected_norm) = (f64::from(losses[step]), f64::from(norms[step]));
                assert!((loss / expected_loss - 1.0).abs() < 0.02, "{model} {step}: loss {loss} for {expected_loss}");
                assert!((norm / expected_norm - 1.0).abs() < 0.1, "{model} {step}: norm {norm} for {expected_norm}");
            }
        }
    }
}

/// Blocks that run again give the very gradients of blocks that were kept, in both precisions, every time; with noise on the
/// embeddings, which are others, too.
#[test]
fn gradients_do_not_depend_on_what_is_kept() {
    for model in MODELS {
        for dtype in [DType::F32, DType::BF16] {
            let [plain, noisy] = [None, Some(5.0)].map(|neftune_alpha| {
                let gradients = [Recompute::None, Recompute::Blocks, Recompute::Blocks].map(|recompute| {
                    let mut trainee = Trainee { decoder: adapted(model, dtype), auxiliaries: Vec::new() };
                    let mut objective = (losses::objective::NLL.build)(&mut faults::Section::probe());
                    let batches = [Batch::new(&examples(), &[0, 1, 2], 8)];
                    let settings = StepSettings { neftune_alpha, ..Steps { recompute, ..STEPS }.settings() };
                    values(
                        Trainer::new(&mut trainee, &mut *objective, settings)
                            .gradient(1, &batches)
                            .expect("one process")
                            .gradient,
                    )
                });
                assert!(gradients[0] == gradients[1] && gradients[1] == gradients[2], "{model} {dtype:?}");
                assert!(gradients[0].iter().any(|value| *value != 0.0), "{model} {dtype:?}");
                gradients
            });
            assert_ne!(plain[0], noisy[0], "{model} {dtype:?}");
        }
    }
}
