//! The probability of a token under every way of sampling at once, from one row of logits.
//!
//! Temperature acts on each token, as samplers have it: `ln q_T(v) = z_v / T - logsumexp(z / T)`, and a text's `ln q_T` is
//! the sum over its tokens. (Tempering whole texts, `q^(1/T) / Z`, is another distribution.) So one forward pass over a
//! text serves all temperatures.
//!
//! Truncated sampling renormalises over the tokens that are kept, and a text with a token that is cut has `q = 0`. The order
//! is that of the sampler and of transformers: the `top_k` most likely, then the temperature, then of these the fewest that
//! reach `top_p`, then those of at least `min_p` times the largest probability (min-p: arXiv 2407.01082), then of these the fewest
//! that reach `typical_p`, those first whose `-ln q` is nearest to the entropy (locally typical sampling: arXiv 2202.00666,
//! section 4; all that are as near as the last one).

use std::borrow::Cow;

/// A way of drawing tokens from logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Divides the logits; 0 takes the most likely token, the first of several.
    pub temperature: f64,
    /// Keeps this many most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest most likely tokens whose probabilities reach this; 1 keeps all.
    pub top_p: f64,
    /// Keeps the tokens of at least this part of the largest probability; 0 keeps all.
    pub min_p: f64,
    /// Keeps the fewest tokens whose probabilities reach this, those of a usual surprise first; 1 keeps all.
    pub typical_p: f64,
}

impl Sampler {
    /// All tokens at this temperature.
    pub fn at(temperature: f64) -> Self {
        Self { temperature, top_k: 0, top_p: 1.0, min_p: 0.0, typical_p: 1.0 }
    }

    /// True where some tokens may be cut.
    pub fn cuts(&self) -> bool {
        let Self { temperature, top_k, top_p, min_p, typical_p } = *self;
        temperature == 0.0 || top_k > 0 || top_p < 1.0 || min_p > 0.0 || typical_p < 1.0
    }
}

/// A row of logits as its samplers see it.
pub struct Row<'a> {
    logits: &'a [f32],
    largest: f64,
    /// Tokens from the most likely on, those of equal logits in the order of the vocabulary; empty unless it is needed.
    ranked: Vec<u32>,
}

/// A row of logits under one sampler.
pub struct Kept<'a> {
    row: &'a Row<'a>,
    sampler: Sampler,
    /// The tokens that are kept, from the most likely on; `None` for all.
    tokens: Option<Cow<'a, [u32]>>,
    /// `ln sum exp((z - largest) / T)` over these.
    log_sum: f64,
}

impl<'a> Row<'a> {
    /// Logits for any of `samplers`.
    pub fn new(logits: &'a [f32], samplers: &[Sampler]) -> Self {
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let mut ranked = Vec::new();
        if samplers.iter().any(Sampler::cuts) {
            ranked.extend(0..logits.len() as u32);
            let logit = |token: u32| logits[token as usize];
            ranked.sort_unstable_by(|a, b| logit(*b).total_cmp(&logit(*a)).then(a.cmp(b)));
        }
        Self { logits, largest, ranked }
    }

    fn scaled(&self, token: u32, sampler: &Sampler) -> f64 {
        (f64::from(self.logits[token as usize]) - self.largest) / sampler.temperature
    }

    /// What `sampler` draws from.
    pub fn keep(&self, sampler: &Sampler) -> Kept<'_> {
        let kept = |tokens, log_sum| Kept { row: self, sampler: *sampler, tokens, log_sum };
        if sampler.temperature == 0.0 {
            return kept(Some(self.ranked[..1].into()), 0.0);
        }
        let scale = 1.0 / sampler.temperature;
        if !sampler.cuts() {
            let sum: f64 = self.logits.iter().map(|logit| ((f64::from(*logit) - self.largest) * scale).exp()).sum();
            return kept(None, sum.ln());
        }
        let most = if sampler.top_k == 0 { self.ranked.len() } else { sampler.top_k.min(self.ranked.len()) };
        let mut weights: Vec<f64> =
            self.ranked[..most].iter().map(|token| self.scaled(*token, sampler).exp()).collect();
        if sampler.top_p < 1.0 {
            let total: f64 = weights.iter().sum();
            let mut sum = 0.0;
            let count = weights.iter().take_while(|weight| {
                let before = sum;
                sum += **weight / total;
                before < sampler.top_p
            });
            weights.truncate(count.count().max(1));
        }
        // The largest weight is 1.
        let count = weights.iter().take_while(|weight| **weight >= sampler.min_p).count().max(1);
        weights.truncate(count);
        if sampler.typical_p >= 1.0 {
            return kept(Some(self.ranked[..count].into()), weights.iter().sum::<f64>().ln());
        }
        let typical = typical(&weights, sampler.typical_p);
        let sum: f64 = typical.iter().map(|place| weights[*place]).sum();
        let tokens: Vec<u32> = typical.into_iter().map(|place| self.ranked[place]).collect();
        kept(Some(tokens.into()), sum.ln())
    }
}

/// The places of the fewest weights that are `part` of all, those first whose `-ln q` is nearest to the entropy.
fn typical(weights: &[f64], part: f64) -> Vec<usize> {
    let total: f64 = weights.iter().sum();
    let surprise = |weight: &f64| total.ln() - weight.ln();
    // A weight of 0 has no part in the entropy.
    let entropy: f64 = weights.iter().filter(|weight| **weight > 0.0).map(|w| w / total * surprise(w)).sum();
    let distances: Vec<f64> = weights.iter().map(|weight| (surprise(weight) - entropy).abs()).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|a, b| distances[*a].total_cmp(&distances[*b]));
    let mut sum = 0.0;
    let last = order.iter().find(|place| {
        sum += weights[**place] / total;
        sum >= part
    });
    let farthest = distances[*last.or(order.last()).expect("a row of logits has a largest")];
    (0..weights.len()).filter(|place| distances[*place] <= farthest).collect()
}

impl Kept<'_> {
    /// `ln q` of each of `wanted`, one after another onto `found`; `-inf` for a token that is cut.
    pub fn log_probabilities(&self, wanted: &[u32], found: &mut Vec<f64>) {
        found.extend(wanted.iter().map(|token| match self.tokens.as_deref() {
            Some(tokens) if !tokens.contains(token) => f64::NEG_INFINITY,
            // The one token that is kept is certain, at temperature 0 too.
            Some([_]) => 0.0,
            _ => self.row.scaled(*token, &self.sampler) - self.log_sum,
        }));
    }

    /// The tokens that may come and a weight of each, which is 1 for the most likely of all; in no certain order.
    ///
    /// # Panics
    /// At temperature 0, where one token is certain.
    pub fn weights(&self) -> Vec<(u32, f64)> {
        assert!(self.sampler.temperature > 0.0, "a token that is certain is not drawn");
        let weight = |token: u32| (token, self.row.scaled(token, &self.sampler).exp());
        match self.tokens.as_deref() {
            Some(tokens) => tokens.iter().map(|token| weight(*token)).collect(),
            None => (0..self.row.logits.len() as u32).map(weight).collect(),
        }
    }

    /// Entropy in nats of the next token.
    pub fn entropy(&self) -> f64 {
        let term = |scaled: f64| if scaled == f64::NEG_INFINITY { 0.0 } else { scaled * (scaled - self.log_sum).exp() };
        let Row { logits, largest, .. } = self.row;
        let mean: f64 = match self.tokens.as_deref() {
            Some([_]) => return 0.0,
            Some(tokens) => tokens.iter().map(|token| term(self.row.scaled(*token, &self.sampler))).sum(),
            None => logits.iter().map(|logit| term((f64::from(*logit) - largest) / self.sampler.temperature)).sum(),
        };
        self.log_sum - mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::expected_distinct;
    use crate::curve::Curve;
    use crate::exact::Outcome;
    use crate::testing::{assert_all_near, assert_near};

    fn log_probabilities(sampler: Sampler, logits: &[f32]) -> Vec<f64> {
        let mut found = Vec::new();
        let all: Vec<u32> = (0..logits.len() as u32).collect();
        Row::new(logits, &[sampler]).keep(&sampler).log_probabilities(&all, &mut found);
        found
    }

    fn probabilities(sampler: Sampler, logits: &[f32]) -> Vec<f64> {
        log_probabilities(sampler, logits).into_iter().map(f64::exp).collect()
    }

    const FIRST: [f32; 4] = [2.0, 1.0, 0.0, -1.0];
    const SECOND: [[f32; 4]; 4] =
        [[1.0, 1.0, -2.0, -2.0], [2.0, -1.0, -1.0, -1.0], [-1.0, -1.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0]];
    const TARGETS: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (2, 3)];

    /// Two tokens out of four: every number of the model over temperature.
    #[test]
    fn one_pass_serves_all_temperatures() {
        let table: [[f64; 13]; 5] = [
            [
                0.25, 0.490839, 0.490839, 0.017980, 0.000329, 0.999987, 0.683091, 0.518309, 0.629586, 0.985383,
                0.484226, 0.564293, 0.999991,
            ],
            [
                0.5, 0.431408, 0.431408, 0.116195, 0.015482, 0.994493, 0.904819, 0.631677, 0.811001, 0.983513,
                0.560332, 0.770526, 0.995121,
            ],
            [
                1.0, 0.306688, 0.306688, 0.206100, 0.070567, 0.890043, 1.0, 0.776667, 0.962354, 0.886949, 0.598603,
                0.914827, 0.890043,
            ],
            [
                2.0, 0.186020, 0.186020, 0.165332, 0.092278, 0.629651, 1.0, 0.629651, 0.974378, 0.632140, 0.489441,
                0.914447, 0.618847,
            ],
            [
                8.0, 0.088495, 0.088495, 0.086073, 0.073755, 0.336817, 1.0, 0.336817, 0.964540, 0.340198, 0.296424,
                0.753864, 0.330496,
            ],
        ];
        let samplers = table.map(|row| Sampler::at(row[0]));
        let first = Row::new(&FIRST, &samplers);
        for (row, sampler) in table.iter().zip(&samplers) {
            let log_q = |(a, b): (usize, usize)| {
                let mut found = Vec::new();
                first.keep(sampler).log_probabilities(&[a as u32], &mut found);
                Row::new(&SECOND[a], &samplers).keep(sampler).log_probabilities(&[b as u32], &mut found);
                found.iter().sum::<f64>()
            };
            let outcomes = TARGETS.map(|target| Outcome { p: 0.25, log_q: log_q(target) });
            let curve = Curve::new(&outcomes);
            // Whole texts tempered, which is another distribution.
            let whole = |(a, b): (usize, usize)| {
                let plain =
                    log_probabilities(Sampler::at(1.0), &FIRST)[a] + log_probabilities(Sampler::at(1.0), &SECOND[a])[b];
                (plain / sampler.temperature).exp()
            };
            let all = (0..16).map(|text| whole((text / 4, text % 4))).sum::<f64>();
            let q = outcomes.map(|outcome| outcome.q());
            let found = [
                &[sampler.temperature][..],
                &q,
                &[curve.mass(), curve.beta(0.1), curve.alpha(1.0), curve.max_f(8.0), curve.max_f(0.125)],
                &[4, 16].map(|n| expected_distinct(&outcomes, n) / 4.0),
                &[TARGETS.iter().map(|target| whole(*target)).sum::<f64>() / all],
            ]
            .concat();
            // Six digits are given.
            for (found, expected) in found.iter().zip(row) {
                assert!((found - expected).abs() < 6e-7, "{found} is not {expected} in {row:?}");
            }
        }
    }

    #[test]
    fn min_p_keeps_what_is_near_the_largest_after_the_temperature() {
        let logits = [3.0, 2.0, 1.0, 0.0, -1.0];
        let at = |temperature| Sampler { min_p: 0.1, ..Sampler::at(temperature) };
        let expected = [0.665_240_956, 0.244_728_471, 0.090_030_573, 0.0, 0.0];
        assert_all_near(&probabilities(at(1.0), &logits), &expected);
        assert!(probabilities(at(2.0), &logits).iter().all(|q| *q > 0.0));
    }

    /// `TypicalLogitsWarper` of transformers 5.23, and behind `TopKLogitsWarper(3)`.
    #[test]
    fn typical_p_keeps_tokens_of_a_usual_surprise() {
        let (steps, pair) = ([3.0, 2.0, 1.0, 0.0, -1.0], [0.0, 2.0, 1.0, 2.0, -3.0]);
        for (logits, temperature, typical_p, expected) in [
            (steps, 1.0, 0.2, [0.0, 1.0, 0.0, 0.0, 0.0]),
            (steps, 1.0, 0.5, [0.731_058_579, 0.268_941_421, 0.0, 0.0, 0.0]),
            (steps, 1.0, 0.9, [0.665_240_956, 0.244_728_471, 0.090_030_573, 0.0, 0.0]),
            (steps, 2.0, 0.5, [0.506_480_391, 0.307_195_886, 0.186_323_723, 0.0, 0.0]),
            (steps, 2.0, 0.9, [0.455_054_234, 0.276_004_345, 0.167_405_097, 0.101_536_324, 0.0]),
            (steps, 0.5, 0.9, [0.880_797_078, 0.119_202_922, 0.0, 0.0, 0.0]),
            (pair, 1.0, 0.2, [0.0, 0.5, 0.0, 0.5, 0.0]),
            (pair, 2.0, 0.2, [0.0, 0.383_651_731, 0.232_696_538, 0.383_651_731, 0.0]),
            (pair, 2.0, 0.9, [0.123_681_479, 0.336_201_118, 0.203_916_286, 0.336_201_118, 0.0]),
        ] {
            assert_all_near(&probabilities(Sampler { typical_p, ..Sampler::at(temperature) }, &logits), &expected);
        }
        let both = Sampler { top_k: 3, typical_p: 0.5, ..Sampler::at(1.0) };
        assert_all_near(&probabilities(both, &steps), &[1.0, 0.0, 0.0, 0.0, 0.0]);
        // A token without any probability is never usual.
        let gone = [1.0, 0.0, f32::NEG_INFINITY];
        let all = Sampler { typical_p: 0.999_999, ..Sampler::at(1.0) };
        assert_all_near(&probabilities(all, &gone), &[0.731_058_579, 0.268_941_421, 0.0]);
    }

    #[test]
    fn cut_tokens_cannot_come_and_the_others_sum_to_one() {
        let logits = [0.0, 2.0, 1.0, 2.0, -3.0];
        let plain = probabilities(Sampler::at(0.7), &logits);
        let top_k = probabilities(Sampler { top_k: 2, ..Sampler::at(0.7) }, &logits);
        assert_all_near(&top_k, &[0.0, 0.5, 0.0, 0.5, 0.0]);
        // Of the two largest, .44 each, one alone does not reach .5.
        let top_p = probabilities(Sampler { top_p: 0.5, ..Sampler::at(0.7) }, &logits);
        assert!(plain[1] < 0.5);
        assert_all_near(&top_p, &[0.0, 0.5, 0.0, 0.5, 0.0]);
        // Of several of the same logit the first in the vocabulary, as the sampler has it.
        assert_all_near(
            &probabilities(Sampler { top_p: 0.1, ..Sampler::at(0.7) }, &logits),
            &[0.0, 1.0, 0.0, 0.0, 0.0],
        );
        assert_all_near(&probabilities(Sampler::at(0.0), &logits), &[0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_all_near(&probabilities(Sampler { top_k: 9, ..Sampler::at(0.7) }, &logits), &plain);
        // The part that `top_p` asks for is of what `top_k` has left.
        let both = Sampler { top_k: 3, top_p: 0.9, ..Sampler::at(1.0) };
        assert_all_near(&probabilities(both, &logits), &{
            let e = 1f64.exp();
            let sum = 2.0 * e * e + e;
            [0.0, e * e / sum, e / sum, e * e / sum, 0.0]
        });
    }

    #[test]
    fn the_entropy_is_that_of_what_is_kept() {
        let logits = [0.3, -1.0, 2.0, f32::NEG_INFINITY];
        for sampler in [Sampler::at(1.0), Sampler::at(0.3), Sampler { top_k: 2, ..Sampler::at(2.0) }, Sampler::at(0.0)]
        {
            let q = probabilities(sampler, &logits);
            let expected = q.iter().filter(|q| **q > 0.0).map(|q| -q * q.ln()).sum();
            assert_near(Row::new(&logits, &[sampler]).keep(&sampler).entropy(), expected);
        }
    }

    /// For logits that span at most Z at each of L tokens, no set of |S| texts has more than `|S| V^-L e^(Z L / T)`.
    #[test]
    fn mass_ends_at_the_sparsity() {
        for temperature in [0.5, 1.0, 4.0, 50.0] {
            let sampler = Sampler::at(temperature);
            let text =
                |(a, b): (usize, usize)| probabilities(sampler, &FIRST)[a] * probabilities(sampler, &SECOND[a])[b];
            let mass: f64 = TARGETS.iter().map(|target| text(*target)).sum();
            assert!(mass <= 4.0 / 16.0 * (3.0 * 2.0 / temperature).exp());
        }
    }
}
