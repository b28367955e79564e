//! How much memory a step takes, from the shapes alone.
//!
//! The terms are the tensors themselves, beside what the process holds already when the plan is made; what is measured
//! (`tools/memory.py`, tables in `docs/performance.md`) lies within 15 % of them.

use backbone::device::has_own_memory;
use backbone::ops::{Keeping, PIECE, chunk_bytes, columns_bytes, is_packed};
use backbone::{Config, Quantise, block_bytes};
use burn::tensor::{DType, Device};
use losses::Held;

use super::fitting;
use crate::engine::backward::Recompute;

/// The sizes and settings on which the memory of a step depends.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The backbone's shape.
    pub config: &'a Config,
    /// Values of the adapter, or of the backbone where every weight is trained.
    pub trained: u64,
    /// Memory of the auxiliary losses, all together.
    pub auxiliaries: Held,
    /// Every weight of the backbone is trained.
    pub full: bool,
    /// Rows of the largest micro-batch.
    pub height: usize,
    /// Tokens of its longest row.
    pub width: usize,
    /// Tokens of the largest held-out micro-batch; 0 for none.
    pub evaluated: usize,
    /// Blocks from the first that holds something trained: those before it keep nothing for the way back.
    pub tracked: usize,
    /// Copies of a chunk's logits in f32 that an adapter beside the head adds.
    pub head_copies: u64,
    /// Type of the frozen weights.
    pub dtype: DType,
    /// How they are kept in fewer bits, if they are.
    pub quantise: Option<Quantise>,
    /// Tokens that nf4's codes are fitted to before the first step; 0 for none.
    pub fitted: usize,
    /// The inner device.
    pub device: &'a Device,
    /// Values of a token behind projections of blocks whose rows have trained lengths (DoRA), all together: what is
    /// multiplied with these is kept.
    pub scaled: u64,
    /// Inputs of the adapter are dropped: a GPU keeps what is left and the mask.
    pub dropout: bool,
    /// Attention without a mask keeps no scores on this GPU.
    pub native_attention: bool,
    /// Nor does any other.
    pub scoreless: bool,
    /// Rows are packed as trees, which a GPU sees through a mask.
    pub tree: bool,
    /// Each micro-batch passes forward once more without the adapter.
    pub base_nll: bool,
    /// Bytes that the process holds before the model is loaded: the program with tokenizer and rows. `None` where the system
    /// does not say.
    pub held: Option<u64>,
    /// Checkpoints are written.
    pub saved: bool,
    /// Factors are taken out of the matrices (PiSSA) and kept: an adapter leaves with both.
    pub pissa: bool,
}

/// Bytes that a step holds at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The backbone's weights.
    pub weights: u64,
    /// Trained values, their gradients and moments.
    pub optimizer: u64,
    /// What is kept of the way forward of the largest micro-batch, and the largest of what comes and goes beside it.
    pub activations: u64,
    /// The program itself with tokenizer and rows, and what is left over of loading.
    pub program: u64,
    /// All of it at the largest moment before the first step: while the model is loaded, or codes are fitted.
    pub loading: u64,
}

/// Bytes for each token of a micro-batch.
struct PerToken {
    /// Kept for the way back.
    kept: u64,
    /// Comes and goes beside that.
    passing: u64,
    /// Comes and goes where nothing is kept, as in an evaluation.
    forward: u64,
}

/// The program itself where the system does not say how large it is.
const PROGRAM: u64 = 50 << 20;

/// Free memory that the pools of a GPU hold on to.
const OF_A_GPU: u64 = 80 << 20;

/// The code and the threads of a step.
const REST: u64 = 24 << 20;

/// What stays of the largest matrix in f32, in parts that nothing else fits into: with 0.4 a base of 494 M parameters was
/// overestimated by 6 to 13 %, with this by -1 to 6 %.
const LEFT_OVER: f64 = 0.25;

/// Blocks of memory are rounded up, and freed ones do not fit every new one.
const ROUNDING: f64 = 1.08;

impl Memory {
    /// All of it at the largest moment of a step.
    pub fn of_step(&self) -> u64 {
        self.weights + self.optimizer + self.activations + self.program
    }

    /// All of it at the largest moment.
    pub fn peak(&self) -> u64 {
        self.of_step().max(self.loading)
    }
}

impl<'a> Step<'a> {
    /// A step on `[height, width]` tokens with an adapter of `trained` values in every block, and nothing else of what memory
    /// depends on.
    pub fn plain(
        config: &'a Config,
        trained: u64,
        [height, width]: [usize; 2],
        dtype: DType,
        device: &'a Device,
    ) -> Self {
        Self {
            config,
            trained,
            auxiliaries: Held::default(),
            full: false,
            height,
            width,
            evaluated: 0,
            tracked: config.num_hidden_layers,
            head_copies: 0,
            dtype,
            quantise: None,
            fitted: 0,
            device,
            scaled: 0,
            dropout: false,
            native_attention: false,
            scoreless: false,
            tree: false,
            base_nll: false,
            held: None,
            saved: false,
            pissa: false,
        }
    }

    /// The memory of a step that keeps what `recompute` says.
    pub fn memory(&self, recompute: Recompute) -> Memory {
        let tokens = (self.height * self.width) as u64;
        let on_cpu = !has_own_memory(self.device);
        let PerToken { kept, passing, forward } = match (on_cpu, self.is_fused()) {
            (_, true) => self.fused(recompute),
            (true, false) => self.composed(recompute),
            (false, _) => self.on_gpu(recompute),
        };
        let base = if self.base_nll { self.forward(tokens, forward) } else { 0 };
        let beside = self.head().max(tokens * passing).max(base);
        let auxiliaries = 4 * (tokens * self.auxiliaries.per_token + self.auxiliaries.passing);
        let step = tokens * kept + beside.max(auxiliaries) + self.piece();
        let evaluation = self.forward(self.evaluated as u64, forward);
        let activations = (step.max(evaluation) as f64 * ROUNDING) as u64;
        let (optimizer, passing) = match self.full {
            // Values, two moments, the gradients and their flat copy, one more vector while an update is made. When all
            // activations are gone there are two more in that; or a checkpoint, which is copies on the host and their bytes
            // as they go into files.
            false => {
                let copies = match (self.saved && on_cpu, self.pissa) {
                    (false, _) => 2,
                    (true, false) => 6,
                    (true, true) => 8,
                };
                (4 * (6 + u64::from(self.pissa)) * self.trained, 4 * self.trained * copies)
            }
            // Values, two moments and the gradients. Of a whole backbone the copies that come and go in an update, when
            // activations are gone, are large: as many as were measured.
            true => (4 * 4 * self.trained, 4 * 11 * self.trained / 2),
        };
        let gradients = if self.full { 4 * self.config.parameters() } else { 0 };
        let (weights, program) = (self.weights(), self.program());
        Memory {
            weights,
            optimizer: optimizer + 4 * 6 * self.auxiliaries.parameters,
            activations: (activations + gradients).max(passing),
            program,
            loading: self.loading(weights, program),
        }
    }

    /// What is kept of the way forward where that fits into the bytes that can be had, with a tenth to spare; else the
    /// inputs of blocks.
    pub fn recompute_that_fits(&self, available: Option<u64>) -> Recompute {
        let needed = self.memory(Recompute::None).peak();
        match available.is_none_or(|available| needed < available / 10 * 9) {
            true => Recompute::None,
            false => Recompute::Blocks,
        }
    }

    fn weights(&self) -> u64 {
        match self.quantise {
            Some(quantise) => quantise.bytes(self.config, self.dtype),
            None => self.config.parameters() * self.dtype.size() as u64,
        }
    }

    fn program(&self) -> u64 {
        if has_own_memory(self.device) {
            return OF_A_GPU;
        }
        let embedding = (self.config.vocab_size * self.config.hidden_size) as u64;
        let left_over = if self.full { 0 } else { (LEFT_OVER * (4 * embedding) as f64) as u64 };
        self.bare_program() + left_over
    }

    /// The program where freed pages go back to the system.
    fn bare_program(&self) -> u64 {
        self.held.unwrap_or(PROGRAM) + REST
    }

    /// The largest moment before the first step. While a matrix is packed its values are in memory in f32: first those of
    /// the embedding (and the head), then those of projections beside all that is packed by then. On a GPU it is not this
    /// memory that runs out.
    fn loading(&self, weights: u64, program: u64) -> u64 {
        if has_own_memory(self.device) {
            return 0;
        }
        let embedding = (self.config.vocab_size * self.config.hidden_size) as u64;
        let share = weights as f64 / self.config.parameters() as f64;
        let ends = if self.config.tie_word_embeddings { 1 } else { 2 };
        let first = 4 * embedding + (share * (ends * embedding) as f64) as u64;
        let projections = self.config.all_projections().map(|(_, projection)| projection.values() as u64);
        let last = weights + 4 * projections.max().unwrap_or(0);
        match self.quantise.filter(|_| self.fitted > 0) {
            Some(quantise) => {
                let beside = fitting::memory(self.config, self.dtype, quantise, self.fitted);
                self.bare_program() + first.max(last).max(weights + beside)
            }
            None => program + first.max(last),
        }
    }

    /// Whose attention it is: of our own, burn's native one, or a composition of burn's operations.
    pub fn attention(&self) -> &'static str {
        match self.is_fused() || self.scoreless {
            true => "own",
            false if self.native_attention => "native",
            false => "composed",
        }
    }

    /// Frozen weights on the CPU: every tensor that operations keep is counted where they are.
    fn is_fused(&self) -> bool {
        is_packed(self.device, self.full)
    }

    fn fused(&self, recompute: Recompute) -> PerToken {
        let config = self.config;
        let inner_size = self.dtype.size() as u64;
        let (hidden, inner) = (config.hidden_size as u64, config.intermediate_size as u64);
        let (blocks, block) = self.blocks(4);
        // Gradients of the widest part: of the gated values in f32, of gate and up, of the stream.
        let passing = 4 * inner + inner_size * 2 * inner + 4 * 4 * hidden;
        // The MLP at its widest, beside the stream before and after it.
        let forward = 2 * 4 * hidden + inner_size * (hidden + 3 * inner);
        let tracked = self.tracked as u64;
        let scaled = columns_bytes(&self.keeping(), self.scaled);
        let (kept, passing) = match recompute {
            _ if tracked == 0 => (0, forward),
            Recompute::None => (blocks + scaled, passing),
            Recompute::Blocks => (tracked * 4 * hidden, block + scaled / tracked + passing),
        };
        PerToken { kept, passing, forward }
    }

    /// What the kernels for a GPU, the projections and their adapters save, and the scores of layers whose attention is
    /// composed because it has a mask or the native one is wrong. From the code, not yet held against a measurement.
    fn on_gpu(&self, recompute: Recompute) -> PerToken {
        let config = self.config;
        let hidden = config.hidden_size as u64;
        let inner = config.intermediate_size as u64;
        let (blocks, block) = self.blocks(self.dtype.size() as u64);
        let scaled = columns_bytes(&self.keeping(), self.scaled);
        let (blocks, block) = (blocks + scaled, block + scaled / (self.tracked as u64).max(1));
        let passing = 4 * hidden + 3 * inner;
        let (layers, size) = (self.tracked as u64, self.dtype.size() as u64);
        let tracked = &config.sliding_windows[config.num_hidden_layers - self.tracked..];
        let windowed = tracked.iter().flatten().filter(|window| **window < self.width).count() as u64;
        // With a cap and without a mask, scores are made again on the way back.
        let capped = config.attention_cap.is_some();
        let masked = if self.scoreless {
            0
        } else if self.tree || !(self.native_attention || capped) {
            layers
        } else {
            windowed
        };
        let again = u64::from(capped && masked < layers && !self.scoreless);
        let scores = 4 * (config.num_attention_heads * self.width) as u64;
        // Which places are hidden, and how far apart they stand; or an end and a depth for each.
        let mask = match (self.tree, self.scoreless) {
            (false, _) => 0,
            (true, false) => 2 * 4 * self.width as u64,
            (true, true) => 9,
        };
        let most = masked.min(1).max(again);
        let (kept, passing) = match recompute {
            Recompute::None => (blocks + size * masked * scores + mask, size * (passing + again * scores)),
            Recompute::Blocks => (size * layers * hidden + mask, block + size * (most * scores + passing)),
        };
        PerToken { kept, passing, forward: block + size * most * scores }
    }

    fn keeping(&self) -> Keeping {
        Keeping { size: self.dtype.size() as u64, is_packed: self.is_fused(), drops: self.dropout }
    }

    /// Bytes of a token that the operations of all tracked blocks keep, and those of the largest block, beside a residual stream
    /// whose values have `stream` bytes.
    fn blocks(&self, stream: u64) -> (u64, u64) {
        let config = self.config;
        // A rank costs as many values as there are at both ends of its projection.
        let (count, sides) = config.all_projections().fold((0, 0), |(count, sides), (_, projection)| {
            (count + 1, sides + projection.sides.iter().map(|side| *side as u64).sum::<u64>())
        });
        let layers = config.num_hidden_layers;
        let ranks = count * self.trained / sides.max(1) / (layers as u64).max(1);
        let bytes = |layer: usize| block_bytes(config, layer, &self.keeping(), stream, ranks);
        let tracked = (layers - self.tracked..layers).map(bytes).sum();
        (tracked, (0..layers).map(bytes).max().unwrap_or(0))
    }

    /// The largest piece of a quantised matrix that a GPU dequantises at once.
    fn piece(&self) -> u64 {
        let Some(quantise) = self.quantise.filter(|_| has_own_memory(self.device)) else { return 0 };
        let head = if quantise.embeddings { self.config.vocab_size * self.config.hidden_size } else { 0 };
        let largest = self.config.all_projections().map(|(_, projection)| projection.values()).fold(head, usize::max);
        (largest.min(PIECE) * self.dtype.size()) as u64
    }

    /// Compositions of burn's operations keep more: a tensor for each.
    fn composed(&self, recompute: Recompute) -> PerToken {
        let config = self.config;
        let hidden = config.hidden_size as u64;
        let queries = (config.num_attention_heads * config.head_dim) as u64;
        let keys = (config.num_key_value_heads * config.head_dim) as u64;
        let scores = (config.num_attention_heads * self.width) as u64;
        // As many as were measured.
        let block = 7 * hidden + 4 * queries + 4 * keys + 5 * config.intermediate_size as u64 + 3 * scores;
        let (layers, size) = (config.num_hidden_layers as u64, self.dtype.size() as u64);
        let (kept, passing) = match recompute {
            Recompute::None => (size * layers * block, 0),
            // One block at a time, and the gradients that flow through it.
            Recompute::Blocks => (size * layers * hidden, size * 2 * block),
        };
        PerToken { kept, passing, forward: size * block }
    }

    /// The way forward of so many tokens alone, of which each takes so much, and the hidden states with their norm.
    fn forward(&self, tokens: u64, per_token: u64) -> u64 {
        tokens * (per_token + 4 * self.config.hidden_size as u64) + self.logits(tokens)
    }

    /// Logits of a chunk and what is made of them; and the gradients of all hidden states.
    fn head(&self) -> u64 {
        let tokens = (self.height * self.width) as u64;
        self.logits(tokens) + 4 * 4 * tokens * self.config.hidden_size as u64
    }

    /// Logits of a chunk of so many tokens and what is made of them.
    fn logits(&self, tokens: u64) -> u64 {
        let (vocabulary, size) = (self.config.vocab_size, self.dtype.size() as u64);
        chunk_bytes(tokens, vocabulary, size, self.device, self.is_fused(), self.head_copies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fixtures;

    /// What a step of four rows keeps grows with the blocks that are tracked and not otherwise; an evaluation of more
    /// tokens than a step has takes over.
    #[test]
    fn blocks_before_the_first_adapter_keep_nothing_and_evaluations_count() {
        let decoder = fixtures::decoder("llama");
        let (config, device) = (&decoder.config, Device::flex());
        let layers = config.num_hidden_layers;
        let activations = |tracked: usize, evaluated: usize| {
            let plain = Step::plain(config, 1, [4, 4096], DType::F32, &device);
            let step = Step { evaluated, tracked, held: Some(0), ..plain };
            step.memory(Recompute::None).activations
        };
        let kept = (1..=layers).map(|tracked| activations(tracked, 0)).collect::<Vec<_>>();
        let block = kept[1] - kept[0];
        assert!(kept.windows(2).all(|pair| (pair[1] - pair[0]).abs_diff(block) <= 1), "{kept:?}");
        assert!(activations(0, 0) < kept[0] && block > 0);
        assert_eq!(activations(layers, 4 * 4096), activations(layers, 0));
        let larger = activations(layers, 1 << 20);
        assert!(larger > 10 * activations(layers, 0) && activations(0, 1 << 20) == larger, "{larger}");
    }

    /// By kernels of our own on a GPU, a token takes the same however long its row is, windows, caps and trees among them.
    #[test]
    fn attention_of_our_own_grows_with_the_tokens_alone() {
        let device = Device::flex();
        for family in ["llama", "mistral", "gemma2"] {
            let decoder = fixtures::decoder(family);
            let step = Step::plain(&decoder.config, 1, [4, 4096], DType::F32, &device);
            for (tree, recompute) in [(false, Recompute::None), (true, Recompute::None), (true, Recompute::Blocks)] {
                let token = |scoreless: bool, width: usize| {
                    let all = Step { scoreless, native_attention: scoreless, tree, width, ..step }.on_gpu(recompute);
                    [all.kept, all.passing, all.forward]
                };
                assert_eq!(token(true, 1 << 12), token(true, 1 << 20), "{family} {tree} {recompute:?}");
                assert!(token(true, 1 << 12)[0] < token(false, 1 << 12)[0], "{family} {tree} {recompute:?}");
            }
        }
    }
}
