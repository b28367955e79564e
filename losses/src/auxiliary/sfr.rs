//! Semantic Flow Regularization (arXiv 2605.27971): hidden states learn to know where the text is going.
//!
//! ```text
//! z1[t]  = embedding of the text of the next k tokens after t, by a frozen sentence encoder, of unit length
//! z_tau  = (1 - tau) z0 + tau z1,  z0 ~ N(0, I) per position,  tau ~ U(0, 1) one per row
//! loss_t = mean over d of (head(z_tau, tau, h_t) - (z1 - z0))^2
//! L_FM   = sum rho_t loss_t / max(1, sum rho_t),  rho_t = (N - pos_t + 1) / N
//! ```
//!
//! `h_t` is the final hidden state at token `t` of the response, the `pos_t`-th of `N`. The flow head is trained beside the
//! adapter and thrown away. Definitions are those of the authors' code; where that contradicts its own words, the words
//! count and an option gives the code (`mask_short`).
//!
//! A control head may be trained beside it on the hidden states of other rows. Both can learn what all targets have in
//! common, so the first loss falls for either; only what the head does better than its control was read from `h_t`.
//!
//! With `targets = "other_rows"` the whole loss is a control: `z1[t]` comes from another row, so that an effect that stays is
//! one of any noise on the hidden states and not of what the text to come means.

mod gate;
mod head;
mod lenders;
mod schedule;
mod settings;
mod targets;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use faults::Fault;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use self::gate::Gate;
use self::head::{FlowHead, HeadShape};
use self::lenders::Lenders;
use self::schedule::Phases;
use self::settings::{Flow, Settings, Targets, read_settings, read_targets};
use self::targets::Position;
use crate::{
    Auxiliary, AuxiliaryBuilder, AuxiliaryKind, Embeddings, Extent, Held, HeldOut, HiddenBatch, Parameter, Row,
    Sentences, State, Surroundings, Widths,
};

/// `sfr` as listed in the registry.
pub const SFR: AuxiliaryKind = AuxiliaryKind {
    name: "sfr",
    purpose: "hidden states that know the meaning of the text to come, through a flow head on sentence embeddings",
    build: |section| {
        let (encoder, prefix, rule) = read_targets(section);
        let settings = read_settings(section, rule);
        let place = section.place_of("encoder");
        let texts = Box::new(move |row: &Row| rule.texts(row));
        let from_others = (settings.targets == Targets::OtherRows).then(|| section.place_of("targets"));
        AuxiliaryBuilder::new(move |surroundings| Box::new(Sfr::new(surroundings, settings)))
            .holding(move |widths| held(widths, &settings))
            .remarking(move |extent| remarks(extent, settings.phases.head_warmup))
            .with_sentences(Sentences { encoder, place, prefix, texts, from_others })
    },
};

/// Draws of noise and time for each held-out row: a single time would leave the sum to chance.
const HELD_OUT_DRAWS: u64 = 4;

/// Prefix of the names of the control head's parameters.
const CONTROL: &str = "control";

/// An output of the head shorter than this has no direction yet: it starts at zero, where a cosine has no gradient.
const SHORTEST: f64 = 1e-3;

fn remarks(extent: &Extent, head_warmup: usize) -> Vec<String> {
    let all = (head_warmup >= extent.steps).then(|| {
        let steps = extent.steps;
        format!(
            "`auxiliary.head_warmup` = {head_warmup} takes all {steps} steps, in which the head learns alone: the adapter is \
             not trained; lower it, or train longer"
        )
    });
    all.into_iter().collect()
}

fn held(widths: &Widths, settings: &Settings) -> Held {
    let shape = HeadShape {
        dimension: widths.embedding.unwrap_or_default(),
        hidden_size: widths.hidden_size,
        width: settings.width,
        layers: settings.layers,
    };
    let heads = if settings.control { 2 } else { 1 };
    Held { parameters: heads * shape.parameters(), per_token: heads * shape.kept_per_position(), passing: 0 }
}

struct Sfr {
    settings: Settings,
    head: FlowHead,
    control: Option<FlowHead>,
    gate: Option<Gate>,
    embeddings: Arc<Embeddings>,
    /// Where targets are those of other rows.
    lenders: Option<Lenders>,
    device: Device,
    /// Sums over the micro-batches of the step at hand.
    step: Sums,
    /// The losses of the head and of its control in the step just done, `[1]` each.
    last: Option<(Tensor<1>, Option<Tensor<1>>)>,
    /// Phase and weight of that step.
    weight: f64,
}

#[derive(Default)]
struct Sums {
    head: Option<Tensor<1>>,
    control: Option<Tensor<1>>,
    units: f64,
}

/// The learning positions of a micro-batch with their targets, on the host.
struct Batch {
    /// Of each row, in the order of the rows.
    positions: Vec<Vec<Position>>,
    /// Number of positions.
    count: usize,
    /// `[count, d]`
    targets: Vec<f32>,
}

/// Where rows come from: [`Row::example`] counts those of one set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Train,
    HeldOut,
}

/// The random draws of a micro-batch.
struct Noise {
    /// `z0`, `[count, d]`.
    start: Tensor<2>,
    /// One for each row, `[rows]`.
    tau: Tensor<1>,
}

impl Sfr {
    fn new(surroundings: &Surroundings, settings: Settings) -> Self {
        let embeddings = surroundings.embeddings.clone().expect("the embeddings that were asked for");
        let dimension = embeddings.dimension;
        let shape = HeadShape {
            dimension,
            hidden_size: surroundings.hidden_size,
            width: settings.width,
            layers: settings.layers,
        };
        let head = |name| FlowHead::new(shape, name, surroundings.seed, &surroundings.device);
        if settings.flow == Flow::Velocity {
            let deviation = 1.0 / (dimension as f64).sqrt();
            tracing::info!(
                "sfr: {dimension} dimensions: the first flow loss is {:.4}; a head that ignores the hidden states ends at \
                 {:.4} where targets are spread evenly, and lower where they are not",
                1.0 + 1.0 / dimension as f64,
                deviation * (1.0 / deviation).atan()
            );
        }
        Self {
            head: head("head"),
            control: settings.control.then(|| head(CONTROL)),
            gate: settings.gate.then(|| Gate::new(&surroundings.device)),
            lenders: (settings.targets == Targets::OtherRows).then(|| Lenders::new(&embeddings.train)),
            embeddings,
            device: surroundings.device.clone(),
            step: Sums::default(),
            last: None,
            weight: 0.0,
            settings: Settings { phases: Phases { steps: surroundings.steps, ..settings.phases }, ..settings },
        }
    }

    fn batch(&self, rows: &[Row], set: Set, seed: u64) -> Batch {
        let mut targets = Vec::new();
        let zeros = vec![0.0; self.embeddings.dimension];
        let vectors = match set {
            Set::Train => &self.embeddings.train,
            Set::HeldOut => &self.embeddings.eval,
        };
        let positions: Vec<Vec<Position>> = rows
            .iter()
            .map(|row| {
                let positions = self.settings.rule.positions(row, vectors);
                let texts: Vec<Option<&[f32]>> = match &self.lenders {
                    None => vectors.of(row.example).collect(),
                    Some(lenders) => self.embeddings.train.of(lenders.draw(row.example, set, seed)).collect(),
                };
                for position in &positions {
                    targets.extend(position.text.and_then(|text| lenders::nearest(&texts, text)).unwrap_or(&zeros));
                }
                positions
            })
            .collect();
        Batch { count: positions.iter().map(Vec::len).sum(), positions, targets }
    }

    /// The noise of each row from a stream of its own, so that it does not matter which rows it runs with.
    fn noise(&self, batch: &Batch, rows: &[Row], seed: u64) -> Noise {
        let dimension = self.embeddings.dimension;
        let mut start = Vec::with_capacity(batch.count * dimension);
        let mut tau = Vec::with_capacity(rows.len());
        for (row, positions) in rows.iter().zip(&batch.positions) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(row.example as u64);
            tau.push((random.next_u32() >> 8) as f32 / (1u32 << 24) as f32);
            start.extend((0..positions.len() * dimension).map(|_| -> f32 { StandardNormal.sample(&mut random) }));
        }
        Noise { start: self.matrix(start), tau: Tensor::from_data(TensorData::new(tau, [rows.len()]), &self.device) }
    }

    /// `[positions, d]`
    fn matrix(&self, values: Vec<f32>) -> Tensor<2> {
        let dimension = self.embeddings.dimension;
        let shape = [values.len() / dimension, dimension];
        Tensor::from_data(TensorData::new(values, shape), (&self.device, DType::F32))
    }

    fn indices(&self, values: impl Iterator<Item = usize>) -> Tensor<1, Int> {
        let values: Vec<i32> =
            values.map(|value| i32::try_from(value).expect("a batch has fewer than 2^31 tokens")).collect();
        Tensor::from_data(&values[..], &self.device)
    }

    /// The weighted sum of a head's losses, `[1]`.
    ///
    /// # Shapes
    /// - `targets`: `[positions, d]`, `hidden`: `[positions, hidden_size]`.
    fn sum(&self, head: &FlowHead, batch: &Batch, noise: &Noise, hidden: Tensor<2>, tracked: bool) -> Tensor<1> {
        let rows = batch.positions.iter().enumerate().flat_map(|(row, all)| std::iter::repeat_n(row, all.len()));
        let row = self.indices(rows);
        let targets = self.matrix(batch.targets.clone());
        let losses = match self.settings.flow {
            Flow::Velocity => {
                let tau = noise.tau.clone().select(0, row.clone()).unsqueeze_dim::<2>(1);
                let start = noise.start.clone();
                let z = start.clone() * (tau.clone().neg().add_scalar(1.0)) + targets.clone() * tau;
                let velocity = head.forward(z, noise.tau.clone(), row, hidden, tracked);
                mean_square(velocity, targets - start)
            }
            Flow::Cosine | Flow::Mse => {
                let (z, tau) = (targets.zeros_like(), noise.tau.zeros_like());
                let found = head.forward(z, tau, row, hidden, tracked);
                if self.settings.flow == Flow::Mse { mean_square(found, targets) } else { distance(found, targets) }
            }
        };
        let weights: Vec<f32> = batch.positions.iter().flatten().map(|position| position.weight).collect();
        let weights = Tensor::<1>::from_data(&weights[..], (&self.device, DType::F32));
        let weights = if tracked { weights.autodiff() } else { weights };
        (losses * weights).sum()
    }

    /// Flat indices of the hidden states that the control head sees: those of the same place in the response of another
    /// row, of its last place where it is shorter. A row without another beside it lends itself its own, from elsewhere.
    fn borrowed(&self, batch: &Batch, width: usize, seed: u64) -> Tensor<1, Int> {
        let lenders: Vec<usize> = (0..batch.positions.len()).filter(|row| !batch.positions[*row].is_empty()).collect();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(u64::MAX);
        let draw = random.next_u32() as usize;
        let shift = if lenders.len() > 1 { 1 + draw % (lenders.len() - 1) } else { 0 };
        let places = lenders.iter().enumerate().flat_map(|(index, row)| {
            let lender = lenders[(index + shift) % lenders.len()];
            let (own, lent) = (batch.positions[*row].len(), &batch.positions[lender]);
            (0..own).map(move |place| {
                let place = if shift == 0 { (place + own / 2) % own } else { place.min(lent.len() - 1) };
                lender * width + lent[place].token
            })
        });
        self.indices(places)
    }
}

/// The mean over `d` of the squared differences, `[positions]`.
fn mean_square(found: Tensor<2>, wanted: Tensor<2>) -> Tensor<1> {
    let wanted = if found.is_autodiff() { wanted.autodiff() } else { wanted };
    let difference = found - wanted;
    (difference.clone() * difference).mean_dim(1).squeeze_dim(1)
}

/// `1 - cos`, `[positions]`.
fn distance(found: Tensor<2>, wanted: Tensor<2>) -> Tensor<1> {
    let wanted = if found.is_autodiff() { wanted.autodiff() } else { wanted };
    let length = (found.clone() * found.clone()).sum_dim(1).clamp_min(SHORTEST * SHORTEST).sqrt();
    ((found * wanted).sum_dim(1) / length).neg().add_scalar(1.0).squeeze_dim(1)
}

fn add(sum: &mut Option<Tensor<1>>, more: Tensor<1>) {
    *sum = Some(match sum.take() {
        Some(sum) => sum + more,
        None => more,
    });
}

impl Auxiliary for Sfr {
    fn name(&self) -> &str {
        SFR.name
    }

    fn weight(&self, step: usize) -> f64 {
        self.settings.phases.weight(step)
    }

    fn token_loss_scale(&self, step: usize) -> f64 {
        if self.settings.phases.head_alone(step) { 0.0 } else { 1.0 }
    }

    fn damping(&self, step: usize) -> f64 {
        if self.settings.phases.head_alone(step) { 0.0 } else { self.settings.damping }
    }

    fn is_control(&self, parameter: &str) -> bool {
        parameter.starts_with(CONTROL)
    }

    /// The sum of `rho`.
    fn units(&self, rows: &[Row]) -> f64 {
        let positions = rows.iter().flat_map(|row| self.settings.rule.positions(row, &self.embeddings.train));
        positions.map(|position| f64::from(position.weight)).sum()
    }

    fn loss(&mut self, batch: &HiddenBatch) -> Tensor<1> {
        let [rows, width, hidden_size] = batch.hidden.dims();
        let found = self.batch(batch.rows, Set::Train, batch.seed);
        if found.count == 0 {
            return self.head.zero();
        }
        let flat = batch.hidden.clone().reshape([rows * width, hidden_size]);
        let constant = flat.clone().inner();
        let places = found.positions.iter().enumerate();
        let places =
            self.indices(places.flat_map(|(row, all)| all.iter().map(move |position| row * width + position.token)));
        let hidden = match (self.settings.phases.head_alone(batch.step), &self.gate) {
            (true, _) => constant.clone().select(0, places).cast(DType::F32),
            (false, None) => flat.select(0, places).cast(DType::F32),
            (false, Some(gate)) => {
                let open = gate.opening().autodiff().unsqueeze::<2>();
                let through = flat.select(0, places.clone()).cast(DType::F32);
                let detached = constant.clone().select(0, places).cast(DType::F32).autodiff();
                through * open.clone() + detached * (open.neg().add_scalar(1.0))
            }
        };
        let noise = self.noise(&found, batch.rows, batch.seed);
        let mut loss = self.sum(&self.head, &found, &noise, hidden, true);
        add(&mut self.step.head, loss.clone().inner());
        if let Some(control) = &self.control {
            let borrowed = constant.select(0, self.borrowed(&found, width, batch.seed)).cast(DType::F32);
            let beside = self.sum(control, &found, &noise, borrowed, true);
            let value = beside.clone().inner();
            add(&mut self.step.control, value.clone());
            // The control learns in the same pass and adds nothing to the value, not even where it is not a number.
            let nothing = beside - value.clone().autodiff();
            loss = loss + nothing.mask_fill(value.is_finite().bool_not().autodiff(), 0.0);
        }
        self.step.units += found.positions.iter().flatten().map(|position| f64::from(position.weight)).sum::<f64>();
        loss
    }

    fn visit_parameters(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        self.head.visit(visit);
        if let Some(control) = &mut self.control {
            control.visit(visit);
        }
    }

    /// Whether the head has seen anything, its loss, that of its control, and what both are divided by.
    fn sums(&self) -> Vec<f64> {
        let sum = |sum: &Option<Tensor<1>>| sum.clone().map_or(0.0, |sum| f64::from(sum.into_scalar::<f32>()));
        let Sums { head, control, units } = &self.step;
        vec![f64::from(u8::from(head.is_some())), sum(head), sum(control), *units]
    }

    fn set_sums(&mut self, sums: &[f64]) {
        let sum = |sum: f64| Tensor::from_data([sum as f32], (&self.device, DType::F32));
        let has_seen = sums[0] > 0.0;
        let control = self.control.as_ref().filter(|_| has_seen).map(|_| sum(sums[2]));
        self.step = Sums { head: has_seen.then(|| sum(sums[1])), control, units: sums[3] };
    }

    fn after_step(&mut self, step: usize) {
        // One that had no row of the step has it, too.
        self.weight = self.weight(step);
        let sums = std::mem::take(&mut self.step);
        let mean = |sum: Tensor<1>| sum.div_scalar(sums.units.max(1.0));
        self.last = sums.head.map(|head| (mean(head), sums.control.map(mean)));
        if let (Some(gate), Some((head, _))) = (&mut self.gate, &self.last) {
            gate.observe(head.clone());
        }
    }

    fn evaluate(&mut self, batch: &HiddenBatch) -> Vec<HeldOut> {
        let [rows, width, hidden_size] = batch.hidden.dims();
        let found = self.batch(batch.rows, Set::HeldOut, batch.seed);
        let units: f64 = found.positions.iter().flatten().map(|position| f64::from(position.weight)).sum();
        let mut sums = Sums { units: units * HELD_OUT_DRAWS as f64, ..Sums::default() };
        let flat = batch.hidden.clone().reshape([rows * width, hidden_size]);
        if found.count > 0 {
            let places = found.positions.iter().enumerate();
            let places = self
                .indices(places.flat_map(|(row, all)| all.iter().map(move |position| row * width + position.token)));
            let hidden = flat.clone().select(0, places).cast(DType::F32);
            let borrowed = flat.select(0, self.borrowed(&found, width, batch.seed)).cast(DType::F32);
            for draw in 0..HELD_OUT_DRAWS {
                let noise = self.noise(&found, batch.rows, batch.seed.wrapping_add(draw));
                add(&mut sums.head, self.sum(&self.head, &found, &noise, hidden.clone(), false));
                if let Some(control) = &self.control {
                    add(&mut sums.control, self.sum(control, &found, &noise, borrowed.clone(), false));
                }
            }
        }
        let zero = || Tensor::zeros([1], (&self.device, DType::F32));
        let held = |name, sum: Option<Tensor<1>>| HeldOut { name, sum: sum.unwrap_or_else(zero), units: sums.units };
        let mut all = vec![held("head", sums.head)];
        if self.control.is_some() {
            all.push(held("control", sums.control));
        }
        all
    }

    fn diagnostics(&mut self) -> Vec<(String, f64)> {
        let mut numbers = vec![("weight".to_string(), self.weight)];
        let mut put = |name: &str, value: Tensor<1>| {
            numbers.push((name.into(), f64::from(value.into_scalar::<f32>())));
        };
        if let Some((head, control)) = self.last.take() {
            put("head", head);
            if let Some(control) = control {
                put("control", control);
            }
        }
        if let Some(gate) = &self.gate {
            put("gate", gate.opening());
        }
        numbers
    }

    fn state(&self) -> State {
        let mut state = State::new();
        if let Some(gate) = &self.gate {
            gate.save(&mut state);
        }
        state
    }

    fn restore(&mut self, mut state: State) -> Result<(), Fault> {
        if let Some(gate) = &mut self.gate {
            gate.restore(state.remove("gate"))?;
        }
        match state.keys().next() {
            Some(key) => Err(Fault::new(format!("auxiliary loss `sfr` has no state `{key}` to restore"))),
            None => Ok(()),
        }
    }
}
