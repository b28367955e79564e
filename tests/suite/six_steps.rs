//! The six steps that the parity fixtures hold the numbers of: plain nll, AdamW, clipping at 1.

use backbone::Decoder;
use backbone::values;
use trainer::engine::Trainee;
use trainer::engine::backward::Recompute;
use trainer::engine::batch::Batch;
use trainer::engine::optimizer::AdamW;
use trainer::engine::schedule::{Kind, Schedule};
use trainer::engine::step::{StepSettings, Trainer};

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

impl Steps {
    /// A run's own settings of a step.
    pub fn settings(self) -> StepSettings {
        let plain = StepSettings::plain(0, self.recompute, Schedule::new(Kind::Constant, self.rate, 0, 6));
        let optimizer = AdamW { weight_decay: self.weight_decay, ..plain.optimizer };
        StepSettings { optimizer, lora_plus_ratio: self.lora_plus_ratio, ..plain }
    }
}

/// Losses and gradient norms of six steps on all rows, as `make.py` takes them. Every trained tensor must have moved.
pub fn train(trainee: &mut Trainee, steps: Steps) -> Vec<(f64, f64)> {
    let examples = examples();
    let order: Vec<usize> = (0..examples.len()).collect();
    let batches: Vec<Batch> =
        order.chunks(steps.micro_batch_size).map(|indices| Batch::new(&examples, indices, 8)).collect();
    let mut objective = (losses::objective::NLL.build)(&mut faults::Section::probe());
    let mut trainer = Trainer::new(trainee, &mut *objective, steps.settings());
    let start = values(trainer.values().clone());
    let taken = (1..=6).map(|step| {
        let numbers = trainer.step(step, &batches).expect("every adapter is reached");
        (numbers.totals.read().loss * numbers.scale.objective, f64::from(values(numbers.norm)[0]))
    });
    let found = taken.collect();
    let end = values(trainer.values().clone());
    for slot in trainer.slots() {
        let range = slot.offset..slot.offset + slot.length;
        assert!(start[range.clone()] != end[range], "{} has not moved", slot.name);
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
