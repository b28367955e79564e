//! An objective in a group of processes. One that remembers what it has seen, such as a running quantile, has to see every
//! micro-batch of a step in its order, and each process runs only its own: they show each other what the objective asks to be
//! told, a round of micro-batches at a time, and every one of them shows the objective all of it.

use backbone::values as read;
use burn::tensor::{Device, Tensor, TensorData};
use faults::Fault;
use group::Group;
use losses::{Column, Extent, Normalisation, Objective, Scope, State, Statistics, Tokens};

use super::batch::Batch;
use super::head::{Seen, tokens as shown};

/// The objective of a step whose micro-batches several processes run: passes everything on where it remembers nothing, or
/// where there is one process.
pub struct Remembering<'a> {
    inner: &'a mut dyn Objective,
    group: &'a Group,
    /// All micro-batches of the step; number i is run by process i modulo their number.
    batches: &'a [Batch],
    device: Device,
    is_shown: bool,
    /// Rounds that are over: in each, every process runs one micro-batch.
    rounds: usize,
    fault: Option<Fault>,
}

impl<'a> Remembering<'a> {
    /// The objective of a step; `remembers` says that its weights depend on what it saw before.
    pub fn new(
        inner: &'a mut dyn Objective,
        group: &'a Group,
        batches: &'a [Batch],
        device: Device,
        remembers: bool,
    ) -> Self {
        let is_shown = remembers && group.is_several();
        Self { inner, group, batches, device, is_shown, rounds: 0, fault: None }
    }

    /// Ends the rounds up to the one of micro-batch `index`, or all of the step: those of them in which this process had
    /// nothing to show are not over yet.
    ///
    /// # Errors
    /// Another process that is lost, or has told of a fault.
    pub fn end_rounds(&mut self, index: Option<usize>) -> Result<(), Fault> {
        let rounds = match index {
            Some(index) => index / self.group.size() + 1,
            None => self.batches.len().div_ceil(self.group.size()),
        };
        while self.is_shown && self.rounds < rounds && self.fault.is_none() {
            self.round(None);
        }
        self.fault.take().map_or(Ok(()), Err)
    }

    /// Shows the objective the micro-batches of a round, of which this process brings `own`, and gives the weights of that.
    fn round(&mut self, own: Option<&Tokens>) -> Option<Tensor<1>> {
        let first = self.rounds * self.group.size();
        self.rounds += 1;
        let given = match self.group.all_gather(&own.map_or_else(Vec::new, bytes)) {
            Ok(given) => given,
            Err(fault) => {
                self.fault = Some(fault);
                return own.map(|tokens| tokens.nll.zeros_like());
            }
        };
        let mut weights = None;
        for ((batch, bytes), rank) in self.batches[first..].iter().zip(given).zip(0..) {
            if batch.learned.is_empty() {
                continue;
            }
            let seen = self.seen(&bytes, batch.learned.len());
            let tokens = shown(seen, &batch.learned, &batch.ranges, self.inner.column());
            let found = self.inner.weights(&tokens);
            if rank == self.group.rank() {
                weights = Some(found);
            }
        }
        weights
    }

    /// What a process has shown of the learned tokens of its micro-batch.
    fn seen(&self, bytes: &[u8], count: usize) -> Seen {
        let numbers: Vec<f32> = bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect();
        let mut parts = numbers.chunks_exact(count);
        let mut next = || {
            let part = parts.next().expect("as much as the objective asks for").to_vec();
            Tensor::from_data(TensorData::new(part, [count]), &self.device)
        };
        let Statistics { entropy, sum_of_squares, base_nll } = self.inner.statistics();
        Seen {
            nll: next(),
            entropy: entropy.then(&mut next),
            sum_of_squares: sum_of_squares.then(&mut next),
            base_nll: base_nll.then(&mut next),
        }
    }
}

/// What a process shows of its tokens: the nll of each, then what else the objective asks for.
fn bytes(tokens: &Tokens) -> Vec<u8> {
    let Tokens { nll, entropy, sum_of_squares, base_nll, .. } = tokens;
    let asked = [Some(nll), entropy.as_ref(), sum_of_squares.as_ref(), base_nll.as_ref()];
    asked.into_iter().flatten().flat_map(|part| bytemuck::cast_slice(&read(part.clone())).to_vec()).collect()
}

// What is not passed on would be answered by the default of an objective that has no opinion.
#[deny(clippy::missing_trait_methods)]
impl Objective for Remembering<'_> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        if !self.is_shown {
            return self.inner.weights(tokens);
        }
        self.round(Some(tokens)).expect("a process that shows tokens has some")
    }

    fn statistics(&self) -> Statistics {
        self.inner.statistics()
    }

    fn column(&self) -> Option<Column<'_>> {
        self.inner.column()
    }

    fn temperature(&self) -> f64 {
        self.inner.temperature()
    }

    /// Whole micro-batches are shown: all of one's tokens must be known before any has its weight.
    fn scope(&self) -> Scope {
        if self.is_shown { Scope::Row } else { self.inner.scope() }
    }

    fn normalisation(&self) -> Normalisation {
        self.inner.normalisation()
    }

    fn row_shape(&self) -> Option<&'static str> {
        self.inner.row_shape()
    }

    fn early_stop(&self) -> Option<f64> {
        self.inner.early_stop()
    }

    fn rate(&self) -> f64 {
        self.inner.rate()
    }

    fn remarks(&self, extent: &Extent) -> Vec<String> {
        self.inner.remarks(extent)
    }

    fn overflow_hint(&self) -> Option<String> {
        self.inner.overflow_hint()
    }

    fn milder(&self) -> Option<String> {
        self.inner.milder()
    }

    fn sums(&self) -> Vec<f64> {
        self.inner.sums()
    }

    fn set_sums(&mut self, sums: &[f64]) {
        self.inner.set_sums(sums);
    }

    fn diagnostics(&mut self) -> Vec<(String, f64)> {
        self.inner.diagnostics()
    }

    fn state(&self) -> Option<State> {
        self.inner.state()
    }

    fn restore(&mut self, state: State) -> Result<(), Fault> {
        self.inner.restore(state)
    }
}
