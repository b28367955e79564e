//! From a step's numbers on the device to the record that is logged.

use std::time::Instant;

use backbone::values as read;
use burn::tensor::Tensor;
use faults::Fault;
use group::Group;

use super::data::prompts;
use super::evaluate::{Counts, HeldOutLosses, batches_of, evaluate};
use super::settings::Settings;
use super::step::StepNumbers;
use super::together::{Told, gathered};
use super::totals::Sums;
use super::train::Rows;
use super::trainee::Trainee;
use crate::report::StepRecord;
use crate::report::record::{GROUP, SOURCES};

/// A step that is done and not yet logged.
pub struct Pending {
    /// The numbers of the step.
    pub numbers: StepNumbers,
    /// The least that the loss of this step could be.
    pub floor: Option<f64>,
    /// When it began.
    pub started: Instant,
    /// How long its turn of the loop took, once that is over.
    pub seconds: Option<f64>,
}

impl Pending {
    /// Waits for the device. Beside the record, the sum of the objective's loss before it is normalised.
    pub fn read(self) -> (StepRecord, f64) {
        let numbers = self.numbers;
        let sums = numbers.totals.read();
        let tokens = numbers.tokens_loss.max(1) as f64;
        let mut objective = sums.weight_diagnostics(numbers.tokens_loss);
        objective.extend(numbers.diagnostics);
        let mut loss = sums.loss * numbers.scale.objective;
        if let Some(floor) = self.floor {
            objective.extend([("floor".to_string(), floor), ("gap".to_string(), loss - floor)]);
        }
        let Told { waited, spent, .. } = numbers.told;
        // A single process waits for nobody.
        let of_group = (!waited.is_empty()).then(|| {
            let seconds = [("waited", spent.waited), ("sent", spent.sent)];
            let named = [("processes", waited.len() as f64), ("bytes", spent.bytes as f64)].into_iter().chain(seconds);
            (GROUP.to_owned(), named.map(|(name, value)| (name.to_owned(), value)).collect())
        });
        let mut auxiliaries = Vec::new();
        let losses = numbers.auxiliary_losses.into_iter().zip(numbers.scale.auxiliaries);
        for ((sum, scale), (name, diagnostics)) in losses.zip(numbers.auxiliary_diagnostics) {
            let value = sum.map_or(0.0, |sum| f64::from(read(sum)[0]));
            loss += value * scale;
            let mut own = vec![("loss".to_string(), value * scale)];
            own.extend(diagnostics);
            auxiliaries.push((name, own));
        }
        let norm = f64::from(read(numbers.norm)[0]);
        let seconds = self.seconds.unwrap_or_else(|| self.started.elapsed().as_secs_f64());
        let record = StepRecord {
            step: numbers.step,
            split: "train",
            loss,
            nll: sums.nll / tokens,
            entropy: sums.entropy / tokens,
            grad_norm: Some(norm),
            lr: Some(numbers.learning_rate),
            tokens: numbers.tokens as u64,
            tokens_real: numbers.tokens_real as u64,
            tokens_loss: numbers.tokens_loss as u64,
            seconds,
            skipped: !(loss.is_finite() && norm.is_finite()),
            objective,
            auxiliaries,
            measured: of_group.into_iter().collect(),
            waited,
        };
        (record, sums.loss)
    }
}

/// The plain NLL of the held-out rows after a step, of all and where there are several of each source, and the auxiliary
/// losses' on them. Each process runs its part of the micro-batches.
///
/// # Errors
/// Another process that cannot go on.
pub fn evaluation_record(
    settings: &Settings,
    trainee: &mut Trainee,
    rows: &Rows<'_, '_>,
    step: usize,
    group: &Group,
) -> Result<StepRecord, Fault> {
    let started = Instant::now();
    let mut held_out = HeldOutLosses::new(&mut trainee.auxiliaries, step);
    let see = &mut |hidden: &Tensor<3>, batch: &_| held_out.add(hidden, batch);
    let mut own = Vec::new();
    for (_, range) in rows.sources {
        let mut batches = batches_of(rows.evaluation, range, settings).into_iter().map(Some).collect::<Vec<_>>();
        let batches: Vec<_> = group.share(batches.len()).filter_map(|index| batches[index].take()).collect();
        let (sums, counts) = evaluate(&trainee.decoder, &batches, see);
        own.extend(sums.numbers().into_iter().chain(counts.numbers()));
    }
    own.extend(held_out.numbers());
    let mut of_sources = vec![(Sums::default(), Counts::default()); rows.sources.len()];
    let mut of_losses = Vec::new();
    for given in gathered(group, &own)? {
        let (given, losses) = given.split_at(of_sources.len() * (Sums::LENGTH + Counts::LENGTH));
        for ((sums, counts), given) in of_sources.iter_mut().zip(given.chunks(Sums::LENGTH + Counts::LENGTH)) {
            let (of_process, counted) = given.split_at(Sums::LENGTH);
            *sums += Sums::from_numbers(of_process);
            *counts += Counts::from_numbers(counted);
        }
        of_losses.push(losses.to_vec());
    }
    let (mut sums, mut counts) = (Sums::default(), Counts::default());
    for (of_source, counted) in &of_sources {
        sums += *of_source;
        counts += *counted;
    }
    let nll = |(sums, counts): &(Sums, Counts)| sums.nll / counts.learned.max(1) as f64;
    let named = rows.sources.iter().zip(&of_sources).map(|((name, _), found)| ((*name).to_owned(), nll(found)));
    let several = (of_sources.len() > 1).then(|| (SOURCES.to_owned(), named.collect()));
    let auxiliaries = held_out.means(&of_losses);
    let tokens = counts.learned.max(1) as f64;
    let objective = match settings.by_prompt {
        Some(_) => {
            let prompts = prompts(rows.evaluation);
            let mean = |sum: f64| sum / prompts.len() as f64;
            let (loss, floor) = (mean(sums.loss), mean(prompts.iter().map(|prompt| prompt.floor).sum()));
            vec![("loss".into(), loss), ("floor".into(), floor), ("gap".into(), loss - floor)]
        }
        None => Vec::new(),
    };
    Ok(StepRecord {
        step,
        split: "eval",
        loss: sums.nll / tokens,
        nll: sums.nll / tokens,
        entropy: sums.entropy / tokens,
        grad_norm: None,
        lr: None,
        tokens: counts.processed as u64,
        tokens_real: counts.real as u64,
        tokens_loss: counts.learned as u64,
        seconds: started.elapsed().as_secs_f64(),
        skipped: false,
        objective,
        auxiliaries,
        measured: several.into_iter().collect(),
        waited: Vec::new(),
    })
}
