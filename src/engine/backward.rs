//! Forward and backward pass of one micro-batch: with all activations kept, or block by block with each block run again in
//! the backward pass (activation checkpointing).

use burn::tensor::{Gradients, IndexingUpdateOp, Tensor};
use losses::{HiddenBatch, Objective, Terms};

use super::batch::Batch;
use super::head;
use super::neftune;
use super::parameters::GradientSum;
use super::totals::Totals;
use super::trainee::{Trainee, auxiliary_name};

/// Which activations are kept for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recompute {
    /// All activations.
    None,
    /// The input of each block; the block runs again in the backward pass (activation checkpointing).
    Blocks,
}

/// The factors of one optimizer step, known before its first micro-batch.
#[derive(Debug, Clone)]
pub struct StepScale {
    /// Factor of the objective's loss: one over its normaliser, times what auxiliary losses leave of it.
    pub objective: f64,
    /// For each auxiliary loss, its weight over its normaliser.
    pub auxiliaries: Vec<f64>,
}

/// The settings, seeds and normalisers that a micro-batch's forward and backward pass need.
pub struct MicroStep {
    /// The optimizer step, from 1.
    pub step: usize,
    /// Seed of this micro-batch's random streams.
    pub seed: u64,
    /// Seed of the random streams that do not depend on how the step is cut into micro-batches.
    pub step_seed: u64,
    /// How the step normalises.
    pub scale: StepScale,
    /// Label smoothing and entropy bonus.
    pub terms: Terms,
    /// The size of the noise on the embeddings (see [`neftune`]).
    pub neftune_alpha: Option<f64>,
}

/// Sums that a step's micro-batches add to.
pub struct StepSums<'a> {
    /// Gradients of everything trained.
    pub gradients: GradientSum<'a>,
    /// Sums over the learned tokens.
    pub totals: Totals,
    /// For each auxiliary loss, the sum of its losses before weight and normaliser, `[1]`.
    pub auxiliaries: Vec<Option<Tensor<1>>>,
}

/// Adds the gradients of one micro-batch to `sums`.
pub fn micro_batch(
    trainee: &mut Trainee,
    objective: &mut dyn Objective,
    batch: &Batch,
    of: &MicroStep,
    recompute: Recompute,
    sums: &mut StepSums,
) {
    let ids = batch.ids(trainee.decoder.device());
    let context = batch.context(&trainee.decoder, Some(of.seed));
    let noise = of.neftune_alpha.map(|alpha| neftune::noise(batch, &trainee.decoder, alpha, of.seed));
    let noisy = |x: Tensor<3>| match &noise {
        Some(noise) => {
            let noise = noise.clone().cast(x.dtype());
            let noise = if x.is_autodiff() { noise.autodiff() } else { noise };
            x + noise
        }
        None => x,
    };
    match recompute {
        Recompute::None => {
            let mut x = noisy(trainee.decoder.embed(&context, ids, true));
            for block in &trainee.decoder.layers {
                x = block.forward(x, &context, None);
            }
            let hidden = trainee.decoder.last_norm(x);
            let gradient = losses_on(trainee, objective, hidden.clone().inner(), batch, of, sums);
            // Nothing below is tracked when only an auxiliary loss is trained.
            if hidden.is_tracked() {
                let mut gradients = seeded_backward(hidden, gradient);
                trainee.decoder.visit(&mut |name, parameter| sums.gradients.take(name, &parameter, &mut gradients));
            }
        }
        Recompute::Blocks => {
            let mut inputs = Vec::with_capacity(trainee.decoder.layers.len());
            let mut x = noisy(trainee.decoder.embed(&context, ids.clone(), false));
            for block in &trainee.decoder.layers {
                inputs.push(x.clone());
                x = block.forward(x, &context, None);
            }
            let hidden = trainee.decoder.last_norm(x.clone());
            let gradient = losses_on(trainee, objective, hidden, batch, of, sums);
            let x = x.autodiff().require_grad();
            let mut gradients = seeded_backward(trainee.decoder.last_norm(x.clone()), gradient);
            trainee.decoder.visit_end(&mut |name, parameter| sums.gradients.take(name, &parameter, &mut gradients));
            let mut gradient = input_gradient(&x, &mut gradients);
            for (block, x) in trainee.decoder.layers.iter_mut().zip(inputs).rev() {
                let x = x.autodiff().require_grad();
                let mut gradients = seeded_backward(block.forward(x.clone(), &context, None), gradient);
                block.visit(&mut |name, parameter| sums.gradients.take(name, &parameter, &mut gradients));
                gradient = input_gradient(&x, &mut gradients);
            }
            let embedded = trainee.decoder.embed(&context, ids, true);
            if embedded.is_tracked() {
                let mut gradients = seeded_backward(embedded, gradient);
                let take = &mut |name: &str, parameter: losses::Parameter<'_>| {
                    sums.gradients.take(name, &parameter, &mut gradients);
                };
                trainee.decoder.visit_embedding(take);
            }
        }
    }
}

/// The backward pass of `y` with the gradient `seed` of `y`: burn has no such call, and the gradient of `sum(y * seed)`
/// is the same.
fn seeded_backward(y: Tensor<3>, seed: Tensor<3>) -> Gradients {
    (y * seed).sum().backward()
}

fn input_gradient(x: &Tensor<3>, gradients: &mut Gradients) -> Tensor<3> {
    x.grad_remove(gradients).expect("every block depends on its input")
}

/// The gradient of all losses with respect to the hidden states, `[rows, width, hidden_size]`.
fn losses_on(
    trainee: &mut Trainee,
    objective: &mut dyn Objective,
    hidden: Tensor<3>,
    batch: &Batch,
    of: &MicroStep,
    sums: &mut StepSums,
) -> Tensor<3> {
    let found = head::loss_and_gradients(&trainee.decoder, hidden.clone(), batch, objective, of, &mut sums.totals);
    for (name, gradient) in found.head.0 {
        sums.gradients.add(&name, gradient);
    }
    let mut gradient = found.hidden;
    for (index, auxiliary) in trainee.auxiliaries.iter_mut().enumerate() {
        let (rows, places) = batch.unpack(hidden.clone());
        let leaf = rows.autodiff().require_grad();
        let seed = backbone::random::key(of.step_seed, &["auxiliary", &index.to_string()]);
        let loss = auxiliary.loss(&HiddenBatch { hidden: leaf.clone(), rows: &batch.rows, step: of.step, seed });
        let value = loss.clone().inner();
        sums.auxiliaries[index] = Some(sums.auxiliaries[index].take().map_or(value.clone(), |sum| sum + value));
        let mut gradients = loss.mul_scalar(of.scale.auxiliaries[index]).backward();
        auxiliary.visit_parameters(&mut |name, parameter| {
            sums.gradients.take(&auxiliary_name(index, name), &parameter, &mut gradients);
        });
        // An auxiliary loss may look at a detached copy of the hidden states.
        if let Some(more) = leaf.grad_remove(&mut gradients) {
            gradient = match places {
                None => gradient + more,
                Some(places) => {
                    let ([rows, width, size], [_, packed, _]) = (more.dims(), gradient.dims());
                    let flat = gradient.reshape([packed, size]);
                    let more = more.reshape([rows * width, size]);
                    flat.select_assign(0, places, more, IndexingUpdateOp::Add).reshape([1, packed, size])
                }
            };
        }
    }
    gradient
}
