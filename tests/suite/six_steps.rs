//! The six steps that the parity fixtures hold the numbers of: plain nll, AdamW, clipping at 1.

use burn::tensor::Device;
use trainer::engine::Trainee;
use trainer::engine::backward::{Place, Recompute, StepScale, StepSums, micro_batch};
use trainer::engine::batch::Batch;
use trainer::engine::optimizer::{AdamW, Moments};
use trainer::engine::parameters::{GradientSum, Layout};
use trainer::engine::totals::Totals;
use trainer::engine::trainee::values;
use trainer::model::Decoder;

use crate::fixtures::{Expected, examples};

/// How six steps are taken.
#[derive(Clone, Copy)]
pub struct Steps {
    pub rate: f64,
    pub weight_decay: f64,
    pub lora_plus_ratio: Option<f64>,
    pub recompute: Recompute,
    pub micro_batch_size: usize,
}

pub const STEPS: Steps =
    Steps { rate: 5e-3, weight_decay: 0.0, lora_plus_ratio: None, recompute: Recompute::None, micro_batch_size: 3 };

/// Losses and gradient norms of six steps on all rows, as `make.py` takes them.
pub fn train(trainee: &mut Trainee, steps: Steps) -> Vec<(f64, f64)> {
    let examples = examples();
    let mut objective = (losses::objective::NLL.build)(&mut faults::Section::probe());
    let optimizer =
        AdamW { betas: (0.9, 0.999), epsilon: 1e-8, weight_decay: steps.weight_decay, clip_norm: Some(1.0) };
    let device = Device::flex();
    let layout = Layout::of(trainee);
    let mut parameters = layout.gather(trainee);
    let mut moments = Moments::zeros(layout.length(), &device);
    moments.factors = steps.lora_plus_ratio.map(|ratio| layout.rate_factors(ratio));
    let order: Vec<usize> = (0..examples.len()).collect();
    let tokens: usize = examples.iter().flat_map(|example| &example.learned).filter(|learned| **learned).count();
    let scale = StepScale { objective: 1.0 / tokens as f64, auxiliaries: Vec::new() };
    let mut found = Vec::new();
    for step in 1..=6 {
        let gradients = GradientSum::new(&layout);
        let mut sums = StepSums { gradients, totals: Totals::zeros(&device), auxiliaries: Vec::new() };
        for indices in order.chunks(steps.micro_batch_size) {
            let batch = Batch::new(&examples, indices, 8);
            let place = Place { step, seed: 0, step_seed: 0, scale: scale.clone() };
            micro_batch(trainee, &mut *objective, &batch, &place, steps.recompute, &mut sums);
        }
        assert_eq!(sums.gradients.missing(), Vec::<&str>::new());
        let (gradient, loss) = (sums.gradients.flatten(), sums.totals.loss());
        let (updated, norm) = optimizer.update(parameters, gradient, &loss, &mut moments, steps.rate);
        layout.scatter(&updated, trainee);
        parameters = updated;
        found.push((sums.totals.read().loss / tokens as f64, f64::from(values(norm)[0])));
    }
    found
}

/// The losses and norms are those of a fixture (its tensors `{of}losses` and `{of}norms`), in both ways of going back, with so
/// many rows at once. Gives the last trained model.
#[track_caller]
pub fn assert_steps(
    name: &str,
    of: &str,
    rows_at_once: &[usize],
    steps: Steps,
    decoder: impl Fn() -> Decoder,
) -> Decoder {
    let expected = Expected::of(name);
    let [losses, norms] = ["losses", "norms"].map(|what| expected.numbers(&format!("{of}{what}")));
    assert_eq!((losses.len(), norms.len()), (6, 6));
    let mut last = None;
    for recompute in [Recompute::None, Recompute::Blocks] {
        for micro_batch_size in rows_at_once.iter().copied() {
            let mut trainee = Trainee { decoder: decoder(), auxiliaries: Vec::new() };
            let found = train(&mut trainee, Steps { recompute, micro_batch_size, ..steps });
            for (step, (loss, norm)) in found.into_iter().enumerate() {
                let case = format!("{name}, recompute {recompute:?}, {micro_batch_size} rows at once, step {step}");
                let (expected_loss, expected_norm) = (f64::from(losses[step]), f64::from(norms[step]));
                assert!((loss - expected_loss).abs() < 3e-4, "{case}: loss {loss} for {expected_loss}");
                assert!((norm / expected_norm - 1.0).abs() < 3e-3, "{case}: norm {norm} for {expected_norm}");
            }
            last = Some(trainee.decoder);
        }
    }
    last.expect("a trained model")
}
