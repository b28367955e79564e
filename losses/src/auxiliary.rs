//! The interface of an auxiliary loss: a loss on the hidden states, beside the objective.

mod mtp;

use burn::tensor::Tensor;
use faults::Fault;

use crate::State;

pub use mtp::MTP;

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
    /// Seed of this micro-batch's own random stream.
    pub seed: u64,
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

    /// What these rows add to the step's normaliser. Known before the forward pass.
    fn units(&self, rows: &[Row]) -> f64;

    /// The sum of the loss over the batch, `[1]`, tracked down to `hidden` and to the parameters.
    fn loss(&mut self, batch: &HiddenBatch) -> Tensor<1>;

    /// Shows every trained parameter to `visit`, in an order that never changes. Parameters are leaves on the autodiff
    /// device; the engine puts the updated ones in their place.
    fn visit_parameters(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>));

    /// Called once after each optimizer step (exponential averages live here).
    fn after_step(&mut self, _step: usize) {}

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
            Err(Fault::new(format!("auxiliary loss `{}` has no state to restore", self.name())))
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
