//! The names and shapes of a model's weights, as its configuration asks for them: to count them, and to compare them with
//! what a folder holds before anything is loaded.

use std::collections::BTreeSet;

use checkpoints::{Dtype, Weights};
use faults::{Fault, Place};

use super::config::{Config, NormKind, NormPlaces, QueryKeyNorm};
use super::decoder::HEAD;
use super::ops::AttentionHeads;
use super::projections::ProjectionShape;

/// The matrix of a head of its own.
const HEAD_WEIGHT: &str = "lm_head.weight";

impl Config {
    /// How queries, keys and values stand in a row of a layer without a window, and what becomes of them.
    pub fn attention_heads(&self) -> AttentionHeads {
        AttentionHeads {
            heads: self.num_attention_heads,
            key_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            rotary: self.rope.width,
            window: None,
            scale: self.attention_scale,
            cap: self.attention_cap,
        }
    }

    /// The attention heads of a layer, with its sliding window.
    pub(super) fn heads_of(&self, layer: usize) -> AttentionHeads {
        AttentionHeads { window: self.sliding_windows[layer], ..self.attention_heads() }
    }

    /// The path of a block.
    pub(super) fn layer_path(&self, layer: usize) -> String {
        format!("{}.layers.{layer}", self.decoder_path)
    }

    /// The path of the embedding.
    pub fn embedding_path(&self) -> String {
        format!("{}.embed_tokens", self.decoder_path)
    }

    /// True for the path of what is in a part beside the decoder.
    pub fn is_beside(&self, path: &str) -> bool {
        self.other_parts.iter().any(|part| path.strip_prefix(part).is_some_and(|rest| rest.starts_with('.')))
    }

    /// A regular expression, as PEFT reads it, for all modules of the parts beside the decoder, if there are any: some are
    /// called as the decoder's own.
    pub fn modules_beside(&self) -> Option<String> {
        let names: Vec<&str> = self.other_parts.iter().filter_map(|part| part.rsplit('.').next()).collect();
        (!names.is_empty()).then(|| format!(r".*\.({})\..*", names.join("|")))
    }

    /// Every matrix that can be adapted: its path and its shape `[out, in]`. The projections of the blocks, first to last,
    /// then the embedding and the head, whether it has a matrix of its own or not.
    pub fn adaptable(&self) -> Vec<(String, [usize; 2])> {
        let in_blocks = self
            .all_projections()
            .map(|(layer, projection)| (format!("{}.{}", self.layer_path(layer), projection.path), projection.sides));
        let ends = [self.embedding_path(), HEAD.into()].map(|path| (path, [self.vocab_size, self.hidden_size]));
        in_blocks.chain(ends).collect()
    }

    /// The norms around attention and MLP of a block: for each of the two, the one before and the one after.
    pub(super) fn block_norms(&self) -> [[Option<&'static str>; 2]; 2] {
        let (input, attention) = (Some("input_layernorm"), Some("post_attention_layernorm"));
        let (before, after) = (Some("pre_feedforward_layernorm"), Some("post_feedforward_layernorm"));
        match self.norm_places {
            // Named for where it stands, this one is the MLP's.
            NormPlaces::Before => [[input, None], [attention, None]],
            NormPlaces::After => [[None, attention], [None, after]],
            NormPlaces::Both => [[input, attention], [before, after]],
        }
    }

    /// Width of the norms of queries and of keys, if there are any.
    pub(super) fn query_key_norms(&self) -> Option<[usize; 2]> {
        match self.query_key_norm {
            QueryKeyNorm::None => None,
            QueryKeyNorm::Heads => Some([self.head_dim; 2]),
            QueryKeyNorm::Together => {
                Some([self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim])
            }
        }
    }

    /// Every tensor of block `layer` by its path inside of it.
    fn block_tensors(&self, layer: usize) -> Vec<(String, Vec<usize>)> {
        let mut tensors = Vec::new();
        for ProjectionShape { path, sides, has_bias } in self.projections(layer) {
            tensors.push((format!("{path}.weight"), sides.to_vec()));
            if has_bias {
                tensors.push((format!("{path}.bias"), vec![sides[0]]));
            }
        }
        if let Some([queries, keys]) = self.query_key_norms() {
            tensors.push(("self_attn.q_norm.weight".into(), vec![queries]));
            tensors.push(("self_attn.k_norm.weight".into(), vec![keys]));
        }
        if self.norm != NormKind::LayerWithoutWeights {
            for name in self.block_norms().into_iter().flatten().flatten() {
                tensors.push((format!("{name}.weight"), vec![self.hidden_size]));
            }
        }
        tensors
    }

    /// Every tensor outside of the blocks.
    fn other_tensors(&self) -> Vec<(String, Vec<usize>)> {
        let embedding = vec![self.vocab_size, self.hidden_size];
        let mut tensors = vec![(format!("{}.weight", self.embedding_path()), embedding.clone())];
        if self.norm != NormKind::LayerWithoutWeights {
            tensors.push((format!("{}.norm.weight", self.decoder_path), vec![self.hidden_size]));
        }
        if !self.tie_word_embeddings {
            tensors.push((HEAD_WEIGHT.into(), embedding));
        }
        tensors
    }

    /// Number of weights of the backbone, head and embedding counted once when tied.
    pub fn parameters(&self) -> u64 {
        let count = |tensors: Vec<(String, Vec<usize>)>| {
            let sizes =
                tensors.into_iter().map(|(_, shape)| shape.into_iter().map(|size| size as u64).product::<u64>());
            sizes.sum::<u64>()
        };
        let blocks = (0..self.num_hidden_layers).map(|layer| count(self.block_tensors(layer))).sum::<u64>();
        blocks + count(self.other_tensors())
    }

    /// Compares names and shapes of `weights` with those asked for here, from the files' headers alone.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape or no numbers, or has no place here.
    pub fn check_weights(&self, weights: &Weights) -> Result<(), Fault> {
        let mut known = BTreeSet::new();
        let mut compare = |name: String, shape: &[usize]| {
            compare(weights, &name, shape)?;
            known.insert(name);
            Ok::<_, Fault>(())
        };
        for (name, shape) in self.other_tensors() {
            compare(name, &shape)?;
        }
        for layer in 0..self.num_hidden_layers {
            for (name, shape) in self.block_tensors(layer) {
                compare(format!("{}.{name}", self.layer_path(layer)), &shape)?;
            }
        }
        refuse_others(weights, &known, self)
    }
}

/// Refuses a tensor that is missing, has another shape, or holds something else than floating point numbers.
pub(super) fn compare(weights: &Weights, name: &str, shape: &[usize]) -> Result<(), Fault> {
    let readable = [Dtype::F32, Dtype::BF16, Dtype::F16, Dtype::F64];
    if let Some(dtype) = weights.dtype(name).filter(|dtype| !readable.contains(dtype)) {
        let message = format!("the tensor `{name}` holds {dtype}, expected F32, BF16, F16 or F64");
        return Err(Fault::new(message)
            .at(weights.place_of(name))
            .hint("take the model as it was before it was quantised"));
    }
    let fault = match weights.shape(name) {
        None if name == HEAD_WEIGHT && weights.head_is_embedding() => {
            Fault::new("the weights hold one matrix, `lm_head.weight`, where `config.json` asks for embedding and head")
                .hint("if both are this matrix, write `\"tie_word_embeddings\": true` into a copy of the model")
        }
        None => {
            let fault = Fault::new(format!("the tensor `{name}` is missing from the model's weights"));
            match weights.names().find_map(|other| Some((other, between(name, other)?))) {
                Some((other, more)) => {
                    fault.hint(format!("there is `{other}`: write the weights without `{more}` in their names"))
                }
                None => fault.hint("`config.json` and the weights are not of the same model, or a file is cut short"),
            }
        }
        Some(found) if found != shape => {
            Fault::new(format!("the tensor `{name}` has the shape {found:?}, and `config.json` asks for {shape:?}"))
                .hint("`config.json` and the weights are not of the same model")
        }
        Some(_) => return Ok(()),
    };
    Err(fault.at(Place::Named(name.into())))
}

/// The parts of a tensor's name that `name` does not have, such as `module.` and `_orig_mod.` of other programs, where it is
/// the same otherwise.
fn between(name: &str, other: &str) -> Option<String> {
    let mut wanted = name.split('.').peekable();
    let more = other.split('.').filter(|part| wanted.next_if(|next| next == part).is_none());
    let more: String = more.map(|part| format!("{part}.")).collect();
    (wanted.peek().is_none() && !more.is_empty()).then_some(more)
}

/// Refuses a tensor that the configuration has no place for: ignoring it could change the mathematics.
pub(super) fn refuse_others(weights: &Weights, known: &BTreeSet<String>, config: &Config) -> Result<(), Fault> {
    let embedding = format!("{}.weight", config.embedding_path());
    for name in weights.names().filter(|name| !known.contains(*name) && !config.is_beside(name)) {
        // Tables that older versions of transformers saved, and the copy of a tied embedding.
        let derived = name.ends_with("rotary_emb.inv_freq");
        let tied = name == HEAD_WEIGHT && weights.bytes(name)? == weights.bytes(&embedding)?;
        if !derived && !tied {
            return Err(Fault::new(format!("the weights hold `{name}`, which `config.json` has no place for"))
                .at(weights.place_of(name))
                .hint("`config.json` and the weights are not of the same model"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::between;

    #[test]
    fn what_other_programs_put_into_names_is_found() {
        let name = "model.embed_tokens.weight";
        for (other, more) in [
            ("module.model.embed_tokens.weight", Some("module.")),
            ("model._orig_mod.embed_tokens.weight", Some("_orig_mod.")),
            ("model.language_model.embed_tokens.weight", Some("language_model.")),
            ("_orig_mod.module.model.embed_tokens.weight", Some("_orig_mod.module.")),
            ("model.embed_tokens.weight", None),
            ("model.norm.weight", None),
            ("embed_tokens.weight", None),
        ] {
            assert_eq!(between(name, other).as_deref(), more, "{other}");
        }
    }
}
