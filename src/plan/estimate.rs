//! How much memory, arithmetic and time a run will take, and whether its activations fit.

use backbone::ops::{keeps_no_scores, measured_flops, native_is_right};
use backbone::{AdapterSettings, Config, EncoderFiles, HEAD, is_embedding};
use burn::tensor::{DType, Device};
use faults::Fault;
use losses::{Held, Widths};

use super::adaptation::Adaptation;
use super::fitting;
use super::memory::{Memory, Step};
use super::room::{available, resident};
use crate::engine::backward::Recompute;
use crate::engine::data::Order;
use crate::recipe::Recipe;

/// The derived sizes of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Values of the backbone.
    pub parameters: u64,
    /// Values that are trained, auxiliary losses not counted.
    pub trained: u64,
    /// Values that the auxiliary losses train.
    pub auxiliary: u64,
    /// Floating-point operations of one real token, forward and backward: 4 per frozen weight that a token meets (6 per
    /// trained one), 2 more when blocks are recomputed, 2 more where the base passes too, and the attention's own.
    pub flop_per_token: f64,
    /// Bytes that the largest micro-batch needs.
    pub memory: Memory,
    /// Bytes that can be had, those held when the plan was made among them, if the machine says; of a GPU, all that it has.
    pub available_bytes: Option<u64>,
    /// Which activations are kept for the backward pass.
    pub recompute: Recompute,
    /// Tokens of the whole run without padding.
    pub tokens: u64,
    /// Seconds of all steps, from the speed of this machine's matrix product just measured.
    pub seconds: f64,
    /// Seconds before the first step in which codes are fitted, from the same; 0 where none are.
    pub fitting_seconds: f64,
}

/// The inputs of an estimate.
pub(super) struct Basis<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The backbone's shape.
    pub config: &'a Config,
    /// What is trained.
    pub adaptation: &'a Adaptation,
    /// Memory of the auxiliary losses, all together.
    pub auxiliaries: Held,
    /// Optimizer steps of the run.
    pub steps: usize,
    /// Tokens that nf4's codes are fitted to before the first step.
    pub fitted: usize,
    /// Tokens of the largest held-out micro-batch.
    pub evaluated: usize,
    /// The inner device.
    pub device: &'a Device,
    /// Type of the frozen weights.
    pub dtype: DType,
}

impl Estimate {
    pub(super) fn new(basis: &Basis, order: &mut Order) -> Self {
        let Basis { recipe, config, adaptation, auxiliaries, device, dtype, .. } = *basis;
        let parameters = config.parameters();
        let full = adaptation.is_full();
        let (shape, tokens) = largest_batch(order, basis.steps);
        let BatchShape { height, width, tree } = shape;
        let reach = Reach::new(adaptation, config);
        let dora = adaptation.dora;
        let base_nll = recipe.objective.statistics().base_nll;
        let step = Step {
            config,
            trained: adaptation.parameters,
            auxiliaries,
            full,
            height,
            width,
            evaluated: basis.evaluated,
            tracked: reach.tracked,
            head_copies: match (reach.head && !full, dora) {
                (false, _) => 0,
                (true, false) => 2,
                (true, true) => 5,
            },
            dtype,
            quantise: recipe.model.quantise,
            fitted: basis.fitted,
            device,
            scaled: if dora { reach.outputs } else { 0 },
            dropout: adaptation.dropout > 0.0,
            native_attention: !tree && native_attention(config, [height, width], dtype, device),
            scoreless: keeps_no_scores(device, dtype, &config.attention_heads()),
            tree,
            base_nll,
            held: resident(),
            saved: true,
            pissa: adaptation.is_pissa(),
        };
        let available_bytes = available(device);
        let recompute = recipe.train.recompute.unwrap_or_else(|| step.recompute_that_fits(available_bytes));
        let once_more = if base_nll { forward_flop_per_token(config, shape.width) } else { 0.0 };
        let flop_per_token = flop_per_token(config, shape.width, recompute, full) + once_more;
        let speed = measured_flops(device, dtype, full);
        let fitting_seconds = match recipe.model.quantise.filter(|_| step.fitted > 0) {
            Some(quantise) => {
                let plain = measured_flops(&Device::flex(), DType::F32, false);
                fitting::seconds(config, quantise, step.fitted, speed, plain)
            }
            None => 0.0,
        };
        Self {
            parameters,
            trained: adaptation.parameters,
            auxiliary: auxiliaries.parameters,
            flop_per_token,
            memory: step.memory(recompute),
            available_bytes,
            recompute,
            tokens,
            seconds: flop_per_token * tokens as f64 / (speed * EFFICIENCY),
            fitting_seconds,
        }
    }
}

/// The parts of the backbone that have an adapter.
#[derive(Debug, Clone, Copy)]
struct Reach {
    /// Blocks from the first of them, or all where the embedding is one.
    tracked: usize,
    /// Sum of the output widths of the adapted projections in blocks.
    outputs: u64,
    /// The head.
    head: bool,
}

impl Reach {
    fn new(adaptation: &Adaptation, config: &Config) -> Self {
        let layers = config.num_hidden_layers;
        if adaptation.is_full() {
            return Self { tracked: layers, outputs: 0, head: true };
        }
        let paths = || adaptation.modules.iter().map(|(path, _)| path);
        let blocks = format!("{}.layers.", config.decoder_path);
        let block = |path: &String| match path.strip_prefix(&blocks).and_then(|rest| rest.split_once('.')) {
            Some((block, _)) => block.parse().unwrap_or(0),
            None if is_embedding(path) => 0,
            None => layers,
        };
        Self {
            tracked: layers - paths().map(block).min().unwrap_or(0).min(layers),
            outputs: (adaptation.modules.iter())
                .filter(|(path, _)| path.starts_with(&blocks))
                .map(|(_, [outputs, _])| *outputs as u64)
                .sum(),
            head: adaptation.adapts(HEAD),
        }
    }
}

/// Memory of the auxiliary losses, all together.
pub(super) fn held(recipe: &Recipe, config: &Config, encoders: &[Option<EncoderFiles>]) -> Held {
    let (hidden_size, vocabulary) = (config.hidden_size, config.vocab_size);
    recipe.auxiliaries.iter().zip(encoders).fold(Held::default(), |sum, (builder, encoder)| {
        let embedding = encoder.as_ref().map(EncoderFiles::dimension);
        let held = (builder.held)(&Widths { hidden_size, vocabulary, embedding });
        Held {
            parameters: sum.parameters + held.parameters,
            // One after the other: what the largest keeps is gone when the next one begins.
            per_token: sum.per_token.max(held.per_token),
            passing: sum.passing.max(held.passing),
        }
    })
}

/// The part of a plain matrix product's speed that a whole step reaches.
const EFFICIENCY: f64 = 0.5;

/// The largest micro-batch of a run.
#[derive(Clone, Copy)]
struct BatchShape {
    height: usize,
    width: usize,
    /// Rows are packed as a tree.
    tree: bool,
}

/// The largest micro-batch among the first steps, and the real tokens of the whole run.
fn largest_batch(order: &mut Order, steps: usize) -> (BatchShape, u64) {
    let looked_at = steps.min(order.steps_per_epoch()).max(1);
    let mut largest = BatchShape { height: 1, width: 1, tree: false };
    let mut tokens = 0;
    for step in 1..=looked_at {
        for batch in order.batches(step) {
            tokens += batch.tokens_real() as u64;
            if batch.tokens() > largest.height * largest.width {
                largest = BatchShape { height: batch.height, width: batch.width, tree: batch.is_tree() };
            }
        }
    }
    (largest, (tokens as f64 * steps as f64 / looked_at as f64) as u64)
}

/// Whether attention without a mask keeps no scores on a device, for rows of these numbers `[rows, positions]`.
pub fn native_attention(config: &Config, rows_positions: [usize; 2], dtype: DType, device: &Device) -> bool {
    // With a cap the native one is not asked.
    let heads = config.attention_heads();
    keeps_no_scores(device, dtype, &heads)
        || config.attention_cap.is_none() && native_is_right(device, dtype, rows_positions, &heads)
}

/// A rank, written under `key`, that no adapted matrix can have.
pub fn wasted_rank(settings: &AdapterSettings, config: &Config, key: &str) -> Option<Fault> {
    let rank = settings.rank;
    let smaller_sides = settings.adapted(config).into_iter().map(|(_, sides)| sides.into_iter().min().unwrap_or(0));
    let most = smaller_sides.max().filter(|most| rank > *most)?;
    let message = format!("`{key}` = {rank} is above the rank that any of the adapted matrices can have, {most}");
    Some(Fault::new(message).hint(format!("{most} or less: more takes memory and time, and changes nothing")))
}

/// Floating-point operations of one token, forward and backward, the adapter's not counted.
pub fn flop_per_token(config: &Config, width: usize, recompute: Recompute, full: bool) -> f64 {
    let passes = if full { 6.0 } else { 4.0 } + if recompute == Recompute::Blocks { 2.0 } else { 0.0 };
    passes * weights_met(config) + 12.0 * attention_width(config, width)
}

/// Floating-point operations of one token in a forward pass, the adapter's not counted.
fn forward_flop_per_token(config: &Config, width: usize) -> f64 {
    2.0 * weights_met(config) + 4.0 * attention_width(config, width)
}

/// Weights that a token meets: of the embedding one row.
fn weights_met(config: &Config) -> f64 {
    let embedding = config.vocab_size as f64 * config.hidden_size as f64;
    let lookup = if config.tie_word_embeddings { 0.0 } else { embedding };
    config.parameters() as f64 - lookup
}

/// Values of all queries of a token, for each position that it may see.
fn attention_width(config: &Config, width: usize) -> f64 {
    (config.num_hidden_layers * config.num_attention_heads * config.head_dim * width) as f64
}
