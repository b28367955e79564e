//! A whole training step on the first CUDA or Vulkan device (which may be the processor), against the CPU's.

use backbone::{Decoder, ModelFiles, Quantise, Source, values as host};
use burn::tensor::{DType, Device, Tensor, TensorData};
use kernels::Quantisation;
use losses::Objective;

use super::backward::Recompute;
use super::batch::Batch;
use super::fixtures::{Fixture, SETTINGS, example};
use super::head;
use super::optimizer::AdamW;
use super::schedule::{Kind, Schedule};
use super::step::{StepSettings, Trainer};
use super::trainee::Trainee;

fn device() -> Device {
    #[cfg(feature = "cuda-untuned")]
    return backbone::device::cuda::device(0);
    #[cfg(not(feature = "cuda-untuned"))]
    Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)
}

fn numbers(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.7 + seed).sin()).collect()
}

fn tensor<const D: usize>(shape: [usize; D], seed: f32, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers(shape.iter().product(), seed), shape), device)
}

#[track_caller]
fn close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
    let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(error <= tolerance * scale, "{error} in values up to {scale}");
    assert!(found.iter().all(|value| value.is_finite()));
}

/// Rounding error, in f32, of the difference of two values of the size of these weights.
const ROUNDING: f32 = 2e-6;

/// The outcome of a step.
struct Taken {
    /// Its loss, nll, entropy and the norm of its gradient.
    numbers: [f64; 4],
    parts: Vec<Part>,
}

/// Its gradient and update of one trained tensor.
struct Part {
    name: String,
    /// The clipped gradient, which the first moment is a part of.
    gradient: Vec<f32>,
    /// How far the update moved it.
    moved: Vec<f32>,
}

/// A step as a run takes it.
fn step(trainee: &mut Trainee, batch: &Batch, recompute: Recompute) -> Taken {
    let registry = losses::Registry::default();
    let kind = registry.objectives.iter().find(|kind| kind.name == "cdiv").expect("an objective with weights");
    let mut objective: Box<dyn Objective> = (kind.build)(&mut faults::Section::probe());
    // With an epsilon as large as gradients an update goes by their size: with a small one, by their sign alone, which is
    // anyone's guess near zero. And it is large beside the rounding of what it moves.
    let optimizer = AdamW { epsilon: 1.0, ..SETTINGS.optimizer };
    let schedule = Schedule::new(Kind::Constant, 1.0, 0, 1);
    let mut trainer =
        Trainer::new(trainee, objective.as_mut(), StepSettings { recompute, optimizer, schedule, ..SETTINGS });
    let before = host(trainer.values().clone());
    let numbers = trainer.step(1, std::slice::from_ref(batch)).expect("every adapter is reached");
    let (totals, norm) = (numbers.totals.read(), f64::from(host(numbers.norm)[0]));
    let (after, state) = (host(trainer.values().clone()), trainer.state());
    let parts = trainer.slots().iter().map(|slot| {
        let range = slot.offset..slot.offset + slot.length;
        let moved = after[range.clone()].iter().zip(&before[range]).map(|(after, before)| after - before);
        let first = state[&format!("optimizer.first.{}", slot.name)].to_f32().expect("f32");
        let gradient = first.into_iter().map(|first| first / (1.0 - optimizer.betas[0]) as f32);
        Part { name: slot.name.clone(), gradient: gradient.collect(), moved: moved.collect() }
    });
    Taken { numbers: [totals.loss, totals.nll, totals.entropy, norm], parts: parts.collect() }
}

/// Every architecture with adapters; DoRA beside projections, a head and an embedding; matrices in codes; and one with every
/// weight trained. With recomputed blocks and without, against the CPU.
#[test]
fn a_training_step_is_the_one_of_the_cpu() {
    let architectures = [
        "llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3", "olmo", "olmo2", "olmo3", "phi3", "granite",
        "smollm3", "seed_oss", "ernie4_5",
    ];
    let dora = [("llama", "dora"), ("llama3", "dora_head"), ("llama3", "dora_embedding")];
    let coded = [(Quantisation::Int8, "wide"), (Quantisation::Nf4, "wide"), (Quantisation::Nf4, "dora")];
    let coded = coded.map(|(quantisation, adapter)| Fixture {
        quantise: Some(Quantise { quantisation, embeddings: true, rows: 0 }),
        ..Fixture::with("llama", adapter)
    });
    let trained = Fixture { adapter: None, ..Fixture::of("llama") };
    let fixtures = architectures.map(Fixture::of).into_iter().chain(dora.map(|(base, name)| Fixture::with(base, name)));
    let fixtures = fixtures.chain(coded).chain([trained]);
    let ways = [Recompute::None, Recompute::Blocks].into_iter().cycle();
    let ids: [&[u32]; 3] = [&[1, 7, 20, 13, 7, 9, 9, 15, 14], &[1, 3, 5, 8], &[1, 30, 2, 11, 4, 4]];
    let batch = Batch::new(&ids.map(|ids| example(ids, 2)), &[0, 1, 2], 8);
    for (fixture, recompute) in fixtures.zip(ways) {
        compare(&fixture, &batch, recompute);
    }
}

/// Targets of a prompt as one tree, whose branches see what they follow: all of it, or within a window.
#[test]
fn a_step_over_a_tree_is_the_one_of_the_cpu() {
    let ids: [&[u32]; 4] = [&[1, 7, 20, 13, 7, 9, 9, 15, 14], &[1, 7, 20, 5, 8], &[1, 7, 20, 13, 7, 4], &[1, 7, 2]];
    let batch = Batch::packed(&ids.map(|ids| example(ids, 2)), &[0, 1, 2, 3], 8);
    for (family, recompute) in [("llama", Recompute::Blocks), ("gemma2", Recompute::None), ("mistral", Recompute::None)]
    {
        compare(&Fixture::of(family), &batch, recompute);
    }
}

/// A step on the GPU, its blocks recomputed or not, is that of the CPU.
fn compare(fixture: &Fixture, batch: &Batch, recompute: Recompute) {
    let on = |device: &Device| Trainee { decoder: fixture.on(device), auxiliaries: Vec::new() };
    let expected = step(&mut on(&Device::flex()), batch, Recompute::None);
    let mut there = on(&device());
    #[cfg(feature = "cuda-untuned")]
    assert!(
        backbone::ops::keeps_no_scores(&device(), DType::F32, &there.decoder.config.attention_heads()),
        "attention of our own is what is tried"
    );
    let found = step(&mut there, batch, recompute);
    for (a, b) in found.numbers.iter().zip(expected.numbers) {
        assert!((a - b).abs() < 1e-5 * b.abs(), "{fixture:?}: {a} is not {b}");
    }
    let largest = |values: &[f32]| values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let mut wrong = Vec::new();
    for (found, expected) in found.parts.iter().zip(&expected.parts) {
        let mut compare = |what: &str, found: &[f32], expected: &[f32], rounding: f32| {
            let differences: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
            let (error, scale) = (largest(&differences), largest(expected));
            if differences.iter().any(|value| value.is_nan()) || error > 1e-4 * scale.max(1e-4) + rounding {
                wrong.push(format!("{what}: {error} in {scale}"));
            }
        };
        compare(&format!("the gradient of {}", found.name), &found.gradient, &expected.gradient, 0.0);
        compare(&format!("the update of {}", found.name), &found.moved, &expected.moved, ROUNDING);
    }
    assert!(wrong.is_empty(), "{fixture:?}: {}", wrong.join("\n"));
}

#[test]
fn evaluation_is_the_one_of_the_cpu() {
    let batch = Batch::new(&[example(&[1, 7, 20, 13, 7, 9], 2)], &[0], 8);
    let [found, expected] = [device(), Device::flex()].map(|device| {
        let decoder = Fixture::of("llama").on(&device);
        let hidden = tensor([1, 8, decoder.config.hidden_size], 0.4, &device);
        head::nll(&decoder, hidden, &batch)
    });
    close(&found, &expected, 1e-5);
}

/// What the first update must leave as it was is compared bit by bit: a sum that blocks add to as they come would differ.
#[test]
fn checksums_are_the_same_each_time() {
    let (files, device) = (ModelFiles::Embedded, device());
    let weights = files.weights().expect("its weights");
    let source = Source::frozen(&weights, DType::F32, &device);
    let decoder = Decoder::load(files.config().expect("its configuration"), &source).expect("its tensors");
    let mut trainee = Trainee { decoder, auxiliaries: Vec::new() };
    let first = trainee.decoder.frozen_checksums();
    for _ in 0..5 {
        assert_eq!(trainee.decoder.frozen_checksums(), first);
    }
}
