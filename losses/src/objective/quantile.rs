//! The rolling quantile that `trunc` and `trunc_r` compare losses with, and `forking` entropies.
//!
//! As in loss truncation (Kang & Hashimoto 2020, ddkang/loss_dropper): a circular buffer of the last losses; everything
//! is kept until it is full; from then on the cut-off is a percentile of the buffer, computed when it fills and again
//! after every `recompute` new values. Unlike there, the cut-off changes between two values and not between two calls,
//! so that the size of a micro-batch or of a chunk changes nothing.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData};
use faults::{Fault, Section};

use crate::objective::{fraction, told};
use crate::{Extent, Objective, Scope, State, Statistics, Tokens};

/// The largest buffer that a recipe may ask for: 40 MB.
const LARGEST_BUFFER: usize = 10_000_000;

/// The largest part of the likeliest tokens that a model with random weights was seen to do without: with 0.4 it stayed at
/// the uniform distribution.
const MOST_FROM_SCRATCH: f64 = 0.1;

/// Which side of the cut-off is dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    Lowest,
    Highest,
}

/// The unit of a value in the buffer: a token or a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Granularity {
    Token,
    /// The mean over the learned tokens of a row.
    Row,
}

/// How a recipe says where the cut-off lies.
#[derive(Clone, Copy)]
enum Setting {
    /// The fraction that is not learned.
    Drop(f64),
    /// The fraction that is.
    Share(f64),
}

/// Weights of 1 on one side of a rolling quantile of the losses and of 0 on the other.
pub(super) struct RollingQuantile {
    dropped: Dropped,
    granularity: Granularity,
    setting: Setting,
    drop: f64,
    buffer: usize,
    recompute: usize,
    /// The last finite losses, at most `buffer`, the oldest first.
    losses: Vec<f32>,
    /// Values seen and not yet in `losses`: on the device until a cut-off needs them, so that no chunk waits.
    pending: Vec<Tensor<1>>,
    pending_count: usize,
    /// Values seen since the cut-off was computed, those pending too.
    since: usize,
    cutoff: Option<f32>,
}

/// An objective that is such a quantile and nothing else.
pub(super) struct Kept {
    /// As the registry lists it.
    pub name: &'static str,
    pub quantile: RollingQuantile,
    /// The buffer holds entropies, not losses.
    pub of_entropy: bool,
}

impl Objective for Kept {
    fn name(&self) -> &str {
        self.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        match self.of_entropy {
            true => self.quantile.kept(told(&tokens.entropy)),
            false => self.quantile.weights(tokens),
        }
    }

    fn statistics(&self) -> Statistics {
        Statistics { entropy: self.of_entropy, ..Statistics::default() }
    }

    fn scope(&self) -> Scope {
        match self.quantile.granularity {
            Granularity::Token => Scope::Token,
            Granularity::Row => Scope::Row,
        }
    }

    fn remarks(&self, extent: &Extent) -> Vec<String> {
        self.quantile.remarks(extent)
    }

    fn milder(&self) -> Option<String> {
        Some(self.quantile.milder())
    }

    fn diagnostics(&mut self) -> Vec<(String, f64)> {
        self.quantile.diagnostics()
    }

    fn state(&self) -> Option<State> {
        Some(self.quantile.state())
    }

    fn restore(&mut self, state: State) -> Result<(), Fault> {
        self.quantile.restore(self.name, state)
    }
}

impl RollingQuantile {
    /// Reads `drop`, `buffer`, `recompute` and `granularity`.
    pub(super) fn read(section: &mut Section, dropped: Dropped) -> Self {
        let drop = fraction(section, "drop", 0.4, "0 is plain nll, 0.4 the usual value");
        section.check(
            "drop",
            drop != 1.0,
            format!("`{}` must be below 1: nothing would be learned", section.full("drop")),
            "0.4 drops four losses of ten",
        );
        let rest = Self::read_buffer(section, dropped, Setting::Drop(drop));
        let words = [("token", Granularity::Token), ("sequence", Granularity::Row)];
        Self { granularity: section.choice("granularity", &words, "token"), ..rest }
    }

    /// Reads `share`, the fraction that is kept, `buffer` and `recompute`; of tokens, each by itself.
    pub(super) fn read_share(section: &mut Section, dropped: Dropped, default: f64) -> Self {
        let hint = format!("1 is plain nll, {default} the usual value");
        let share = fraction(section, "share", default, &hint);
        let message = format!("`{}` must be above 0: nothing would be learned", section.full("share"));
        section.check("share", share != 0.0, message, &hint);
        Self::read_buffer(section, dropped, Setting::Share(share))
    }

    fn read_buffer(section: &mut Section, dropped: Dropped, setting: Setting) -> Self {
        let buffer = section.value("buffer", 10_000usize);
        section.check(
            "buffer",
            (1..=LARGEST_BUFFER).contains(&buffer),
            format!("`{}` must be from 1 to {LARGEST_BUFFER}", section.full("buffer")),
            "10000 is the usual value",
        );
        // A buffer of 0 is a fault of its own, above.
        let recompute = section.value("recompute", buffer.max(1));
        section.check(
            "recompute",
            recompute >= 1,
            format!("`{}` must be at least 1", section.full("recompute")),
            "leave it out to compute the cut-off once per `buffer` losses",
        );
        Self {
            dropped,
            granularity: Granularity::Token,
            setting,
            drop: match setting {
                Setting::Drop(drop) => drop,
                Setting::Share(share) => 1.0 - share,
            },
            buffer,
            recompute,
            losses: Vec::new(),
            pending: Vec::new(),
            pending_count: 0,
            since: 0,
            cutoff: None,
        }
    }

    /// A buffer that the run cannot fill, so that nothing is ever dropped.
    fn remarks(&self, extent: &Extent) -> Vec<String> {
        let (losses, unit) = match self.granularity {
            Granularity::Token => (extent.tokens, "learned tokens"),
            Granularity::Row => (extent.rows, "rows"),
        };
        if self.drop == 0.0 {
            return Vec::new();
        }
        if losses <= self.buffer {
            return vec![format!(
                "`objective.buffer` = {} is never full in a run of about {losses} {unit}: nothing is left out, and the run is \
                 one of `nll`; lower it to a tenth of that, or train longer",
                self.buffer
            )];
        }
        let lowest_tokens = self.dropped == Dropped::Lowest && self.granularity == Granularity::Token;
        if extent.untrained.is_some() && lowest_tokens && self.drop > MOST_FROM_SCRATCH {
            let (written, milder) = match self.setting {
                Setting::Drop(drop) => (
                    format!("`objective.drop` = {drop}"),
                    format!("write `drop = {MOST_FROM_SCRATCH}` or `granularity = \"sequence\"`"),
                ),
                Setting::Share(share) => {
                    (format!("`objective.share` = {share}"), format!("write `share = {}`", 1.0 - MOST_FROM_SCRATCH))
                }
            };
            return vec![format!(
                "{written} on a model with random weights: what falls below the quantile is not learned until all tokens are \
                 alike again, and a run may never leave the uniform distribution; begin with nll, `warm_start` is for so many \
                 steps, or {milder}"
            )];
        }
        Vec::new()
    }

    fn milder(&self) -> String {
        match self.setting {
            Setting::Drop(drop) => format!("lower `objective.drop` (it is {drop}; 0 is plain nll)"),
            Setting::Share(share) => format!("raise `objective.share` (it is {share}; 1 is plain nll)"),
        }
    }

    /// 1 for each token that is kept, 0 for the others; the buffer takes the losses in.
    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        match self.granularity {
            Granularity::Token => self.kept(tokens.nll.clone()),
            Granularity::Row => {
                let rows: Vec<&Range<usize>> = tokens.rows.iter().filter(|row| !row.is_empty()).collect();
                if rows.is_empty() {
                    return tokens.nll.ones_like();
                }
                let means = rows.iter().map(|row| tokens.nll.clone().narrow(0, row.start, row.len()).mean()).collect();
                let kept = self.kept(Tensor::cat(means, 0));
                let row_of_token: Vec<i32> =
                    rows.iter().enumerate().flat_map(|(index, row)| vec![index as i32; row.len()]).collect();
                let row_of_token = Tensor::<1, Int>::from_data(row_of_token.as_slice(), &kept.device());
                kept.select(0, row_of_token)
            }
        }
    }

    /// 1 for each of `values`, `[n]`, on the right side of the cut-off of its moment.
    fn kept(&mut self, values: Tensor<1>) -> Tensor<1> {
        let count = values.dims()[0];
        let mut parts = Vec::new();
        let mut start = 0;
        while start < count {
            let end = count.min(start + self.until_flush());
            let part = values.clone().narrow(0, start, end - start);
            parts.push(self.compare(part.clone()));
            self.take_in(part, end - start);
            start = end;
        }
        match parts.len() {
            0 => values,
            _ => Tensor::cat(parts, 0),
        }
    }

    fn compare(&self, values: Tensor<1>) -> Tensor<1> {
        match self.cutoff {
            None => values.ones_like(),
            // The quantiles of 0 and 1 are the extremes of the buffer, not of what comes.
            Some(_) if self.drop == 0.0 => values.ones_like(),
            Some(cutoff) => match self.dropped {
                Dropped::Lowest => values.greater_elem(cutoff).float(),
                Dropped::Highest => values.lower_elem(cutoff).float(),
            },
        }
    }

    /// The number of values, at least 1, that can come before the pending ones must be read.
    fn until_flush(&self) -> usize {
        let until_full = self.buffer - self.losses.len();
        match until_full {
            // More than a buffer of values need not be kept on the device.
            0 => (self.recompute - self.since).min(self.buffer - self.pending_count),
            _ => until_full - self.pending_count,
        }
    }

    /// Takes in as many values as [`Self::until_flush`] allows, or fewer.
    fn take_in(&mut self, values: Tensor<1>, count: usize) {
        self.pending.push(values);
        self.pending_count += count;
        let due = if self.losses.len() == self.buffer {
            self.since += count;
            self.since == self.recompute
        } else {
            self.losses.len() + self.pending_count == self.buffer
        };
        if due || self.pending_count == self.buffer {
            self.losses = self.history();
            self.pending.clear();
            self.pending_count = 0;
        }
        // Losses that are not finite leave the buffer short of a few.
        if due && self.losses.len() == self.buffer {
            let quantile = match self.dropped {
                Dropped::Lowest => self.drop,
                Dropped::Highest => 1.0 - self.drop,
            };
            self.cutoff = Some(percentile(&self.losses, quantile));
            self.since = 0;
        }
    }

    /// The buffer with the pending values in it.
    fn history(&self) -> Vec<f32> {
        let mut losses = self.losses.clone();
        for pending in &self.pending {
            let values = pending.clone().into_data().try_to_vec::<f32>().expect("losses are f32");
            losses.extend(values.into_iter().filter(|loss| loss.is_finite()));
        }
        losses.drain(..losses.len().saturating_sub(self.buffer));
        losses
    }

    fn diagnostics(&self) -> Vec<(String, f64)> {
        self.cutoff.map(|cutoff| ("cutoff".into(), f64::from(cutoff))).into_iter().collect()
    }

    fn settings(&self) -> [i64; 3] {
        [
            self.buffer as i64,
            self.recompute.min(i64::MAX as usize) as i64,
            i64::from(self.granularity == Granularity::Row),
        ]
    }

    fn state(&self) -> State {
        let mut state = State::new();
        let losses = self.history();
        let [buffer, recompute, row] = self.settings();
        state.insert("settings".into(), TensorData::new(vec![buffer, recompute, row, self.since as i64], [4]));
        state.insert("losses".into(), TensorData::new(losses.clone(), [losses.len()]));
        if let Some(cutoff) = self.cutoff {
            state.insert("cutoff".into(), TensorData::new(vec![cutoff], [1]));
        }
        state
    }

    fn restore(&mut self, name: &str, mut state: State) -> Result<(), Fault> {
        let mut floats = |key: &str| state.remove(key).map(|data| data.try_to_vec::<f32>().unwrap_or_default());
        let losses = floats("losses");
        let cutoff = floats("cutoff");
        let settings = state.remove("settings").and_then(|data| data.try_to_vec::<i64>().ok());
        let wrong = |what: &str| {
            Fault::new(format!("the saved state of objective `{name}` {what}"))
                .hint("resume with the recipe that saved it, or start again without `--resume`")
        };
        let (Some(losses), Some([buffer, recompute, row, since])) = (losses, settings.as_deref()) else {
            return Err(wrong("is not its own"));
        };
        if self.settings() != [*buffer, *recompute, *row] {
            return Err(wrong("is of another `buffer`, `recompute` or `granularity`"));
        }
        let since = usize::try_from(*since).ok().filter(|since| *since < self.recompute);
        let cutoff = match cutoff.as_deref() {
            None => Some(None),
            Some([cutoff]) => Some(Some(*cutoff)),
            Some(_) => None,
        };
        let (Some(since), Some(cutoff), true) = (since, cutoff, losses.len() <= self.buffer && state.is_empty()) else {
            return Err(wrong("is damaged"));
        };
        // A cut-off exists from the moment the buffer is full, and it stays full.
        if cutoff.is_some() != (losses.len() == self.buffer) {
            return Err(wrong("is damaged"));
        }
        self.losses = losses;
        self.since = since;
        self.cutoff = cutoff;
        self.pending.clear();
        self.pending_count = 0;
        Ok(())
    }
}

/// The percentile by linear interpolation, as numpy's default.
fn percentile(losses: &[f32], quantile: f64) -> f32 {
    let mut sorted = losses.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let place = quantile * (sorted.len() - 1) as f64;
    let below = f64::from(sorted[place.floor() as usize]);
    let above = f64::from(sorted[place.ceil() as usize]);
    (below + (above - below) * place.fract()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_numpys() {
        // np.percentile([0.4, 3.1, 1.2, 0.9, 2.2], [0, 25, 40, 60, 70, 100])
        let losses = [0.4, 3.1, 1.2, 0.9, 2.2];
        for (quantile, expected) in [(0.0, 0.4), (0.25, 0.9), (0.4, 1.08), (0.6, 1.6), (0.7, 2.0), (1.0, 3.1)] {
            assert_eq!(percentile(&losses, quantile), expected);
        }
        assert_eq!(percentile(&[7.0], 0.4), 7.0);
    }
}
