//! The interface of an auxiliary loss: a loss on the hidden states, beside the objective.

mod mtp;
mod sfr;

use burn::tensor::Tensor;
use faults::Fault;

use crate::State;

pub use mtp::MTP;
pub use sfr::SFR;

/// One row of a batch as an auxiliary loss sees it, on the host.
pub struct Row {
    /// The token ids, without padding.
    pub ids: Vec<u32>,
    /// Which tokens are learned, as long as `ids`; the hidden state that predicts token `t` is that of `t - 1`.
    pub learned: Vec<bool>,
    /// Which example of the data set this is, for what was computed once before training.
    pub example: usize,
}

/// A micro-batch with its hidden states.
pub struct HiddenBatch<'a> {
    /// Final hidden states after the last norm, `[batch, width, hidden_size]`, rows right-padded: a leaf that requires a
    /// gradient.
    pub hidden: Tensor<3>,
    /// The rows, in the order of `hidden`.
    pub rows: &'a [Row],
    /// The optimizer step, from 1.
    pub step: usize,
    /// Seed of the step's random streams, the same for all of its micro-batches: together with [`Row::example`] it lets
    /// a row draw the same numbers whatever micro-batch it falls into.
    pub seed: u64,
}

/// A loss on held-out rows as a sum over a batch, to be added up over all batches.
pub struct HeldOut {
    /// Its name among the metrics.
    pub name: &'static str,
    /// The sum of the loss, `[1]`, not tracked.
    pub sum: Tensor<1>,
    /// The normaliser of the sum of all batches.
    pub units: f64,
}

/// A loss on hidden states with parameters and state of its own, trained beside the adapter and thrown away at export.
///
/// With `units` summed over the whole optimizer step, the loss of the step is `weight * sum(loss) / max(1, sum(units))`:
/// the same whatever the micro-batch size.
pub trait Auxiliary: Send {
    /// The word that names it in a recipe, and its group of metrics.
    fn name(&self) -> &str;

    /// The factor of this loss at a step, from 1.
    fn weight(&self, step: usize) -> f64;

    /// The factor of the objective's own loss at a step: 0 while this loss's parameters are trained alone.
    fn token_loss_scale(&self, _step: usize) -> f64 {
        1.0
    }

    /// The part of each update of its parameters that is taken back: after the optimizer, a parameter is
    /// `damping * before + (1 - damping) * updated`.
    fn damping(&self, _step: usize) -> f64 {
        0.0
    }

    /// True for a parameter that is there to compare with and changes nothing else that is trained: its gradient is not
    /// in the norm that the others are clipped by.
    fn is_control(&self, _parameter: &str) -> bool {
        false
    }

    /// What these rows add to the step's normaliser. Known before the forward pass.
    fn units(&self, rows: &[Row]) -> f64;

    /// The sum of the loss over the batch, `[1]`, tracked down to `hidden` and to the parameters.
    fn loss(&mut self, batch: &HiddenBatch) -> Tensor<1>;

    /// Shows every trained parameter to `visit`, in an order that never changes. Parameters are leaves on the autodiff
    /// device; the engine puts the updated ones in their place.
    fn visit_parameters(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>));

    /// What [`Auxiliary::loss`] has added up since the last step for [`Auxiliary::after_step`] and
    /// [`Auxiliary::diagnostics`]: always as many numbers. Processes that share a step add theirs up, number by number.
    fn sums(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Takes the sums of all processes in place of its own.
    fn set_sums(&mut self, _sums: &[f64]) {}

    /// Called once after each optimizer step (exponential averages live here).
    fn after_step(&mut self, _step: usize) {}

    /// Its losses on held-out rows, the same sums in the same order for every batch. `hidden` is not tracked, and
    /// [`Row::example`] counts the held-out examples. The seed is the same for every evaluation of every run, so that
    /// two of them differ by what was learned alone.
    fn evaluate(&mut self, _batch: &HiddenBatch) -> Vec<HeldOut> {
        Vec::new()
    }

    /// Numbers of its own to log with the step just done.
    fn diagnostics(&mut self) -> Vec<(String, f64)> {
        Vec::new()
    }

    /// What has to be saved beside the parameters for a resumed run to be the unbroken one.
    fn state(&self) -> State {
        State::new()
    }

    /// Takes back what [`Auxiliary::state`] gave.
    ///
    /// # Errors
    /// A state that is not of this loss or of these settings.
    fn restore(&mut self, state: State) -> Result<(), Fault> {
        if state.is_empty() {
            Ok(())
        } else {
            Err(Fault::new(format!("auxiliary loss `{}` has no state to restore", self.name()))
                .hint("resume with the recipe that saved it, or start again without `--resume`"))
        }
    }
}

/// A trained tensor, by the number of its dimensions.
pub enum Parameter<'a> {
    /// A bias or a norm's weight, `[n]`.
    Vector(&'a mut Tensor<1>),
    /// A matrix, `[out, in]` as stored on disk.
    Matrix(&'a mut Tensor<2>),
}
