//! The whole backbone: embedding, blocks, last norm, head.

use burn::tensor::{DType, Device, Int, Tensor};
use faults::Fault;
use kernels::bf16;
use losses::Parameter;

use super::Context;
use super::attention::LayerCache;
use super::block::Block;
use super::config::Config;
use super::linear::Linear;
use super::lora::{EmbeddingLora, Lora};
use super::norm::Norm;
use super::ops::Head;
use super::ops::{Matrix, checksum};
use super::rope::Rope;
use super::rotary::Rotary;
use super::source::Source;
use super::visibility::Visibility;

/// The path of the head.
pub const HEAD: &str = "lm_head";

/// True for the path of the embedding, wherever the decoder is.
pub fn is_embedding(path: &str) -> bool {
    path.ends_with(".embed_tokens")
}

/// A decoder-only language model.
pub struct Decoder {
    /// Its shape.
    pub config: Config,
    /// `[vocabulary, hidden_size]`
    embed_tokens: Matrix,
    embedding_lora: Option<EmbeddingLora>,
    /// The blocks, first to last.
    pub layers: Vec<Block>,
    norm: Norm,
    /// `None` when the head is the embedding.
    lm_head: Option<Linear>,
    /// Factor of the embeddings, rounded to the type of the weights as Gemma was trained.
    embedding_scale: f64,
    device: Device,
}

impl Decoder {
    /// Takes every weight from `source`.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape than `config` asks for, or has no place in it.
    pub fn load(config: Config, source: &Source) -> Result<Self, Fault> {
        let embedding = [config.vocab_size, config.hidden_size];
        let lm_head = match config.tie_word_embeddings {
            true => None,
            false => Some(Linear::load(source, "lm_head", embedding, false)?),
        };
        let decoder = Self {
            embed_tokens: source.projection(&format!("{}.weight", config.embedding_path()), embedding)?,
            embedding_lora: None,
            layers: (0..config.num_hidden_layers)
                .map(|layer| Block::load(source, &config, layer))
                .collect::<Result<_, _>>()?,
            norm: Norm::load(source, &format!("{}.norm", config.decoder_path), config.hidden_size, &config)?,
            lm_head,
            embedding_scale: match source.dtype {
                DType::BF16 => bf16::from_f64(config.embedding_scale).to_f64(),
                _ => config.embedding_scale,
            },
            device: source.device.clone(),
            config,
        };
        source.refuse_unused(&decoder.config)?;
        Ok(decoder)
    }

    /// The inner (not autodiff) device of the weights.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What the layers share in a pass over `length` positions from `start` on, of which the longest row fills those up to
    /// `longest`, padding not counted.
    pub fn context(&self, start: usize, length: usize, longest: usize, dropout_seed: Option<u64>) -> Context {
        let positions: Vec<usize> = (start..start + length).collect();
        self.context_of(&positions, 1, longest, None, dropout_seed)
    }

    /// The same at given positions and with a given visibility: positions of one row after another, or of one row for the
    /// whole batch.
    pub fn context_at(
        &self,
        positions: &[usize],
        rows: usize,
        visibility: Visibility,
        dropout_seed: Option<u64>,
    ) -> Context {
        let longest = positions.iter().max().map_or(0, |last| last + 1);
        self.context_of(positions, rows, longest, Some(visibility), dropout_seed)
    }

    fn context_of(
        &self,
        positions: &[usize],
        rows: usize,
        longest: usize,
        visibility: Option<Visibility>,
        dropout_seed: Option<u64>,
    ) -> Context {
        let rotary = |rope: &Rope| Rotary::at(rope, positions, rows, longest, &self.device);
        let Config { rope, local_rope, without_rope, .. } = &self.config;
        Context {
            rotary: rotary(rope),
            local_rotary: local_rope.as_ref().map(rotary),
            no_rotary: without_rope
                .contains(&true)
                .then(|| Rotary::none(rope.width, positions.len() / rows, &self.device)),
            visibility,
            dropout_seed,
            without_adapter: false,
            inputs: None,
        }
    }

    /// # Shapes
    /// - `ids`: `[batch, positions]`; output `[batch, positions, hidden_size]`. Tracked when asked for.
    pub fn embed(&self, context: &Context, ids: Tensor<2, Int>, tracked: bool) -> Tensor<3> {
        let [batch, positions] = ids.dims();
        let ids = ids.reshape([batch * positions]);
        let rows = self.embed_tokens.rows(ids.clone(), tracked, &self.device);
        let rows = match &self.embedding_lora {
            Some(lora) if !context.without_adapter => {
                let dtype = rows.dtype();
                let rows = rows + lora.rows(ids, tracked).cast(dtype);
                match lora.gain(&self.embed_tokens, &rows) {
                    Some(gain) => crate::ops::times_gain(rows, gain),
                    None => rows,
                }
            }
            _ => rows,
        };
        let rows = if self.embedding_scale == 1.0 { rows } else { rows.mul_scalar(self.embedding_scale) };
        rows.reshape([batch, positions, self.config.hidden_size])
    }

    /// The norm after the last block.
    pub fn last_norm(&self, x: Tensor<3>) -> Tensor<3> {
        self.norm.forward(x)
    }

    /// Hidden states after the last norm. With a cache, `ids` are the positions after those it holds.
    ///
    /// # Shapes
    /// - `ids`: `[batch, positions]`; output `[batch, positions, hidden_size]`.
    pub fn hidden(&self, ids: Tensor<2, Int>, tracked: bool, cache: Option<&mut Vec<LayerCache>>) -> Tensor<3> {
        let start = cache.as_ref().and_then(|cache| cache.first()).map_or(0, LayerCache::length);
        let length = ids.dims()[1];
        let context = self.context(start, length, start + length, None);
        self.hidden_in(&context, ids, tracked, cache)
    }

    /// [`Decoder::hidden`] where the context says which positions these are and what they see.
    pub fn hidden_in(
        &self,
        context: &Context,
        ids: Tensor<2, Int>,
        tracked: bool,
        cache: Option<&mut Vec<LayerCache>>,
    ) -> Tensor<3> {
        let mut x = self.embed(context, ids, tracked);
        match cache {
            Some(cache) => {
                cache.resize_with(self.layers.len(), LayerCache::default);
                for (block, cache) in self.layers.iter().zip(cache) {
                    x = block.forward(x, context, Some(cache));
                }
            }
            None => {
                for block in &self.layers {
                    x = block.forward(x, context, None);
                }
            }
        }
        self.last_norm(x)
    }

    /// The way from the last hidden states to the logits, with its adapter if it has one.
    pub fn head(&self) -> Head<'_> {
        self.head_with(self.lm_head.as_ref().and_then(Linear::lora))
    }

    /// The head of the frozen base, without the adapter.
    pub fn base_head(&self) -> Head<'_> {
        self.head_with(self.lm_head.as_ref().and_then(Linear::lora).and_then(Lora::taken))
    }

    fn head_with<'a>(&'a self, lora: Option<&'a Lora>) -> Head<'a> {
        let (matrix, path, lora) = match &self.lm_head {
            Some(linear) => (linear.weight(), HEAD.to_owned(), lora),
            None => (&self.embed_tokens, self.config.embedding_path(), None),
        };
        Head {
            matrix,
            name: format!("{path}.weight"),
            is_trained: matrix.is_trained(),
            lora,
            scale: self.config.logit_scale,
            cap: self.config.logit_cap,
        }
    }

    /// # Shapes
    /// - `hidden`: `[tokens, hidden_size]`, not tracked; output `[tokens, vocabulary]`, f32.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.head().logits(hidden)
    }

    /// Bytes of all matrices, the adapter's not counted.
    pub fn matrix_bytes(&mut self) -> usize {
        let head = self.lm_head.as_ref().map_or(0, |head| head.weight().bytes());
        let ends = self.embed_tokens.bytes() + head;
        ends + self.linears().map(|linear| linear.weight().bytes()).sum::<usize>()
    }

    /// By name, numbers that change where a value of what is frozen does.
    pub fn frozen_checksums(&mut self) -> Vec<(String, Vec<u64>)> {
        let mut found = Vec::new();
        self.visit(&mut |name, parameter| {
            let (rows, is_trained) = match parameter {
                Parameter::Vector(tensor) => (tensor.clone().unsqueeze_dim(0), tensor.is_require_grad()),
                Parameter::Matrix(tensor) => (tensor.clone(), tensor.is_require_grad()),
            };
            if !is_trained {
                found.push((name.to_owned(), checksum(rows)));
            }
        });
        // Packed and quantised matrices, which `visit` does not show.
        let packed = |name: String, matrix: &Matrix| Some((name, matrix.packed_checksum()?));
        let of = |linear: &Linear| packed(linear.name().to_owned(), linear.weight());
        found.extend(packed(self.config.embedding_path(), &self.embed_tokens));
        found.extend(self.layers.iter_mut().flat_map(Block::linears).filter_map(|linear| of(linear)));
        found.extend(self.lm_head.iter().filter_map(of));
        found
    }

    /// Every projection inside the blocks, first to last.
    pub fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.layers.iter_mut().flat_map(Block::linears)
    }

    /// The projection at `path`, in a block or the head; a head that shares the embedding's matrix becomes a projection of
    /// its own, by the same matrix.
    pub(super) fn linear(&mut self, path: &str) -> Option<&mut Linear> {
        if path == HEAD {
            return Some(self.lm_head.get_or_insert_with(|| Linear::sharing(HEAD, self.embed_tokens.clone())));
        }
        self.linears().find(|linear| linear.name() == path)
    }

    /// Puts another matrix of the same shape in the place of the frozen one that gives the logits, which may be the
    /// embedding.
    pub(super) fn replace_head(&mut self, weight: Matrix) {
        match &mut self.lm_head {
            Some(linear) => linear.replace_weight(weight),
            None => self.embed_tokens = weight,
        }
    }

    /// The embedding's matrix.
    pub(super) fn embedding(&self) -> &Matrix {
        &self.embed_tokens
    }

    /// Puts an adapter beside the embedding.
    pub(super) fn attach_to_embedding(&mut self, lora: EmbeddingLora) {
        self.embedding_lora = Some(lora);
    }

    /// Shows every weight, trained or not, by its Hugging Face name, in an order that never changes.
    pub fn visit(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        self.visit_embedding(visit);
        for block in &mut self.layers {
            block.visit(visit);
        }
        self.visit_end(visit);
    }

    /// The part of [`Decoder::visit`] before the blocks.
    pub fn visit_embedding(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        let path = self.config.embedding_path();
        if let Some(weight) = self.embed_tokens.as_tensor_mut() {
            visit(&format!("{path}.weight"), Parameter::Matrix(weight));
        }
        if let Some(lora) = &mut self.embedding_lora {
            lora.visit(&path, visit);
        }
    }

    /// The part of [`Decoder::visit`] after the blocks.
    pub fn visit_end(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        self.norm.visit(visit);
        if let Some(lm_head) = &mut self.lm_head {
            lm_head.visit(visit);
        }
    }

    /// True when any weight of the backbone itself is trained.
    pub fn is_trained(&self) -> bool {
        self.embed_tokens.is_trained()
    }
}
