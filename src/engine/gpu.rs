//! A whole training step on the first CUDA or Vulkan device (which may be the processor), against the CPU's.

use backbone::{Decoder, ModelFiles, Quantise, Source, values as host};
use burn::tensor::{DType, Device, Tensor, TensorData};
use kernels::Quantisation;
use losses::Objective;

use super::backward::Recompute;
use super::batch::Batch;
use super::fixtures::{Fixture, SETTINGS};
use super::head;
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

/// Loss, nll and entropy of a micro-batch, and the gradient of each trained tensor with its name.
fn step(trainee: &mut Trainee, batch: &Batch, recompute: Recompute) -> ([f64; 3], Vec<(String, Vec<f32>)>) {
    let registry = losses::Registry::default();
    let kind = registry.objectives.iter().find(|kind| kind.name == "cdiv").expect("an objective with weights");
    let mut objective: Box<dyn Objective> = (kind.build)(&mut faults::Section::probe());
    let settings = StepSettings { recompute, ..SETTINGS };
    let mut trainer = Trainer::new(trainee, objective.as_mut(), settings);
    let step = trainer.gradient(1, std::slice::from_ref(batch)).expect("one process");
    let (totals, flat) = (step.totals.read(), host(step.gradient));
    let parts = trainer.slots().iter().map(|slot| (slot.name.clone(), flat[slot.offset..][..slot.length].to_vec()));
    ([totals.loss, totals.nll, totals.entropy], parts.collect())
}

fn example(ids: &[u32]) -> datasets::Example {
    datasets::Example {
        ids: ids.to_vec(),
        parts: vec![datasets::Part::Response; ids.len()],
        learned: (0..ids.len()).map(|token| token > 1).collect(),
        weight: 1.0,
        number: None,
        alone: None,
        group: 0,
        file: "test".into(),
        line: 1,
        element: None,
    }
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
    let batch = Batch::new(&ids.map(example), &[0, 1, 2], 8);
    for (fixture, recompute) in fixtures.zip(ways) {
        compare(&fixture, &batch, recompute);
    }
}

/// Targets of a prompt as one tree, whose branches see what they follow: all of it, or within a window.
#[test]
fn a_step_over_a_tree_is_the_one_of_the_cpu() {
    let ids: [&[u32]; 4] = [&[1, 7, 20, 13, 7, 9, 9, 15, 14], &[1, 7, 20, 5, 8], &[1, 7, 20, 13, 7, 4], &[1, 7, 2]];
    let batch = Batch::packed(&ids.map(example), &[0, 1, 2, 3], 8);
    for (family, recompute) in [("llama", Recompute::Blocks), ("gemma2", Recompute::None), ("mistral", Recompute::None)]
    {
        compare(&Fixture::of(family), &batch, recompute);
    }
}

/// A step on the GPU, its blocks recomputed or not, is that of the CPU.
fn compare(fixture: &Fixture, batch: &Batch, recompute: Recompute) {
    let on = |device: &Device| Trainee { decoder: fixture.on(device), auxiliaries: Vec::new() };
    let (expected, expected_gradients) = step(&mut on(&Device::flex()), batch, Recompute::None);
    let mut there = on(&device());
    #[cfg(feature = "cuda-untuned")]
    assert!(
        backbone::ops::keeps_no_scores(&device(), DType::F32, &there.decoder.config.attention_heads()),
        "attention of our own is what is tried"
    );
    let (found, gradients) = step(&mut there, batch, recompute);
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-5 * b.abs(), "{fixture:?}: {a} is not {b}");
    }
    let largest = |values: &[f32]| values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let mut wrong = Vec::new();
    for ((name, found), (_, expected)) in gradients.iter().zip(&expected_gradients) {
        let differences: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
        let (error, scale) = (largest(&differences), largest(expected));
        if differences.iter().any(|value| value.is_nan()) || error > 1e-4 * scale.max(1e-4) {
            wrong.push(format!("{name}: {error} in {scale}"));
        }
    }
    assert!(wrong.is_empty(), "{fixture:?}: {}", wrong.join("\n"));
}

#[test]
fn evaluation_is_the_one_of_the_cpu() {
    let batch = Batch::new(&[example(&[1, 7, 20, 13, 7, 9])], &[0], 8);
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
