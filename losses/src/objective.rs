//! The interface of an objective.

mod cdiv;
mod deft;
mod dft;
mod diffuse;
mod eaft;
mod focal;
mod forking;
mod gem;
mod gold;
mod intent;
mod lambda_pr;
mod mixce;
mod nll;
mod proximal;
mod quantile;
mod tailr;
#[cfg(test)]
mod testing;
mod tofu;
mod trunc;
mod trunc_r;
mod weighted;

use std::ops::{Range, RangeInclusive};

use burn::tensor::Tensor;
use faults::{Fault, Section};

use crate::State;

pub use cdiv::CDIV;
pub use deft::DEFT;
pub use dft::DFT;
pub use diffuse::DIFFUSE;
pub use eaft::EAFT;
pub use focal::FOCAL;
pub use forking::FORKING;
pub use gem::GEM;
pub use gold::GOLD;
pub use intent::INTENT;
pub use lambda_pr::LAMBDA_PR;
pub use mixce::MIXCE;
pub use nll::{NLL, Nll};
pub use proximal::PROXIMAL;
pub use tailr::TAILR;
pub use tofu::TOFU;
pub use trunc::TRUNC;
pub use trunc_r::TRUNC_R;
pub use weighted::WEIGHTED;

/// Learned tokens, row after row, with all that a weight may depend on. Every tensor is f32, `[tokens]`, detached, and
/// on the device of the model.
pub struct Tokens<'a> {
    /// `-ln q` of the observed token at temperature 1.
    pub nll: Tensor<1>,
    /// Place of the token among its row's learned tokens, 1 to `length`.
    pub position: Tensor<1>,
    /// Number of learned tokens of the token's row.
    pub length: Tensor<1>,
    /// The row's own weight: 1, or the probability of a target.
    pub row_weight: Tensor<1>,
    /// Entropy of the predicted distribution, in nats; there when [`Statistics::entropy`] asks for it.
    pub entropy: Option<Tensor<1>>,
    /// `sum_v q_v^2`, the chance that two draws are alike; there when [`Statistics::sum_of_squares`] asks for it.
    pub sum_of_squares: Option<Tensor<1>>,
    /// `-ln q` of the observed token under the frozen model that the adapter stands beside, nothing dropped; there when
    /// [`Statistics::base_nll`] asks for it.
    pub base_nll: Option<Tensor<1>>,
    /// The number that the token's row has in [`Objective::column`]; there when that names one.
    pub column: Option<Tensor<1>>,
    /// The tokens of each row. In [`Scope::Token`] a row may be cut at either end.
    pub rows: &'a [Range<usize>],
}

/// What an objective asks to be told of each token's predicted distribution beside the nll. What is not asked for costs
/// nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// [`Tokens::entropy`]
    pub entropy: bool,
    /// [`Tokens::sum_of_squares`]
    pub sum_of_squares: bool,
    /// [`Tokens::base_nll`], at the price of a second way forward without the adapter. A model whose every weight is trained
    /// has none.
    pub base_nll: bool,
}

/// A column of numbers that an objective goes by, beside what the shape of a row reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Column<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// The smallest number that it may hold.
    pub least: f64,
}

/// How much an objective must see at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A token's weight depends on that token: tokens come in chunks of any size.
    Token,
    /// A token's weight depends on its whole row: rows come whole, at the price of a second pass of the head.
    Row,
}

/// The normaliser of a step's sum of `weight * nll`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalisation {
    /// The number of learned tokens of the whole optimizer step, all micro-batches together.
    Tokens,
    /// The number of prompts of the whole optimizer step: a sum over each prompt's targets.
    Prompts,
}

/// How much a run will learn, known before anything is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Optimizer steps.
    pub steps: usize,
    /// Learned tokens of all steps, about.
    pub tokens: usize,
    /// Rows of all steps, about.
    pub rows: usize,
    /// Tokens of the vocabulary of a model whose weights are random: each has a probability of about one over this.
    /// `None` for a model that has learned before.
    pub untrained: Option<usize>,
}

/// A rule for the detached weights of a weighted negative log-likelihood, `L = sum_l w_l * nll_l / normaliser`.
///
/// The weights carry no gradient: the engine multiplies `softmax(z / T) - onehot` by them, z the logits and T the
/// objective's temperature. Above or below 1 it is the gradient of `T * nll` at that temperature, and that is then the loss.
pub trait Objective: Send {
    /// The word that names it in a recipe.
    fn name(&self) -> &str;

    /// The weight of each token, `[tokens]`, zero or more. Called exactly once for every learned token of a training
    /// step, in order, and never in evaluation, so that state may be updated here.
    fn weights(&mut self, tokens: &Tokens) -> Tensor<1>;

    /// The statistics of each token that [`Objective::weights`] needs beside its nll.
    fn statistics(&self) -> Statistics {
        Statistics::default()
    }

    /// The column of the training rows that [`Tokens::column`] is read from; every row must have it. Not for rows with
    /// `targets`, whose tokens belong to several.
    fn column(&self) -> Option<Column<'_>> {
        None
    }

    /// The temperature of the softmax in the gradient, above 0.
    fn temperature(&self) -> f64 {
        1.0
    }

    /// How much must be seen at once.
    fn scope(&self) -> Scope {
        Scope::Token
    }

    /// The normaliser of the step's sum.
    fn normalisation(&self) -> Normalisation {
        Normalisation::Tokens
    }

    /// The row shape that it is defined on, as `data.format` names it; `None` for any.
    fn row_shape(&self) -> Option<&'static str> {
        None
    }

    /// Training ends after a pass whose loss, summed over the prompts, is at most `1 + this` times the least possible
    /// loss; `None` for never. For [`Normalisation::Prompts`].
    fn early_stop(&self) -> Option<f64> {
        None
    }

    /// The part of the learning rate of `nll` that suits a model which has learned before; `losses/README.md` has what was
    /// measured.
    fn rate(&self) -> f64 {
        1.0
    }

    /// What a user should know before a run of this extent, a sentence each.
    fn remarks(&self, _extent: &Extent) -> Vec<String> {
        Vec::new()
    }

    /// What to change in the recipe when weights have overflowed: the plain nll is finite and the loss is not.
    fn overflow_hint(&self) -> Option<String> {
        None
    }

    /// What to change in the recipe when so few tokens count that a step learns from a handful of them; `None` where no
    /// setting does that.
    fn milder(&self) -> Option<String> {
        None
    }

    /// What [`Objective::weights`] has added up since the last step for [`Objective::diagnostics`]: always as many numbers.
    /// Processes that share a step add theirs up, number by number.
    fn sums(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Takes the sums of all processes in place of its own.
    fn set_sums(&mut self, _sums: &[f64]) {}

    /// Numbers of its own to log with the step just done, beside the statistics of the weights that the engine logs for
    /// every objective.
    fn diagnostics(&mut self) -> Vec<(String, f64)> {
        Vec::new()
    }

    /// What has to be saved for a resumed run to be the unbroken one; `None` where the weights of tokens depend on nothing
    /// seen before. Where several processes share a step, an objective with a state sees the tokens of all of them.
    fn state(&self) -> Option<State> {
        None
    }

    /// Takes back what [`Objective::state`] gave.
    ///
    /// # Errors
    /// A state that is not of this objective or of these settings.
    fn restore(&mut self, state: State) -> Result<(), Fault> {
        if state.is_empty() {
            Ok(())
        } else {
            Err(Fault::new(format!("objective `{}` has no state to restore", self.name()))
                .hint("resume with the recipe that saved it, or start again without `--resume`"))
        }
    }
}

/// The value of `key`, which must be above 0, with a warning where nobody has tried it.
fn positive(section: &mut Section, key: &str, default: f64, tried: RangeInclusive<f64>, hint: &str) -> f64 {
    let value = section.value(key, default);
    let possible = value.is_finite() && value > 0.0;
    section.check(key, possible, format!("`{}` must be a finite number above 0", section.full(key)), hint);
    section.check_single(key, value, hint);
    let message = format!("`{}` = {value:e} is far from all that has been tried", section.full(key));
    section.warn(key, !possible || tried.contains(&value), message, hint);
    value
}

/// The value of `key`, which must lie between 0 and 1.
fn fraction(section: &mut Section, key: &str, default: f64, hint: &str) -> f64 {
    let value = section.value(key, default);
    let message = format!("`{}` must be from 0 to 1", section.full(key));
    section.check(key, (0.0..=1.0).contains(&value), message, hint);
    value
}

/// What [`Objective::statistics`] or [`Objective::column`] has asked for.
fn told(statistic: &Option<Tensor<1>>) -> Tensor<1> {
    statistic.clone().expect("the engine gives what an objective asks for")
}

/// `q`, never above 1, where rounding has left an nll below 0.
fn probability(nll: Tensor<1>) -> Tensor<1> {
    nll.clamp_min(0.0).neg().exp()
}

/// `exp(x) - 1 = tanh(x/2) (exp(x) + 1)`, which loses no digits where `x` is near 0.
fn expm1(x: Tensor<1>) -> Tensor<1> {
    x.clone().div_scalar(2.0).tanh() * x.exp().add_scalar(1.0)
}
