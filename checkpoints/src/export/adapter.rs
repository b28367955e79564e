//! An adapter as a folder of its own, as its readers take it: PEFT takes everything, vLLM and llama.cpp do not.
//!
//! vLLM (its `PEFTHelper` and its kernels) takes ranks up to the one it was started with, 16 by default, before 0.32 one
//! rank and one scale for all modules (it passes over patterns), and neither DoRA nor, in all its architectures, embeddings.
//! llama.cpp (`convert_lora_to_gguf.py` and its loader) takes the rank of each module from its tensors, one alpha for all,
//! ignores `use_rslora` and knows no DoRA. A base whose head is its embedding has one matrix there, under the embedding's
//! name: llama.cpp finds no head to adapt in it, and stops on what is meant for the embedding. Nor does it read the head of
//! a merged Gemma 1 or 2: for it their head is always the embedding.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use faults::{Fault, Faults, Place};

use super::{Exported, check_out, exported, stage};
use crate::adapter::{Adapter, Module};
use crate::files;
use crate::tensor::StoredTensor;

/// The values that vLLM's `--max-lora-rank` may have, from 8 on: smaller ranks need none.
const VLLM_RANKS: &[usize] = &[8, 16, 32, 64, 128, 256, 320, 512];

/// The value it has where none is given.
const VLLM_RANK: usize = 16;

/// The modules that are no projection of a block.
const ENDS: [&str; 2] = ["embed_tokens", "lm_head"];

/// What llama.cpp has no place for.
const TIED_IN_LLAMA_CPP: &str =
    "llama.cpp reads no adapter on `embed_tokens` or `lm_head` of a base whose head is its embedding";

/// Who an adapter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// PEFT, and whoever takes what it writes.
    Peft,
    /// vLLM.
    Vllm,
    /// llama.cpp's converter.
    LlamaCpp,
}

/// Writes an adapter as a folder of its own, converted to what `reader` takes, without any change of what it computes.
/// `beside` are the files of a tokenizer of its own, which go along.
/// `tied` says whether the base's head is its embedding, if that is known; it matters to adapters on one of them alone.
///
/// llama.cpp ignores `use_rslora`, so an rsLoRA adapter of one rank is written as plain LoRA with alpha * sqrt(rank) for
/// every reader, which is the same adapter.
///
/// # Errors
/// `out` is a file or not empty, the adapter cannot be converted, or the disk fails.
pub fn adapter(
    adapter: &Adapter,
    beside: &[(String, Vec<u8>)],
    out: &Path,
    reader: Reader,
    tied: Option<bool>,
) -> Result<Exported, Faults> {
    check_out(out)?;
    let modules = adapter.modules()?;
    let count = modules.len();
    let all_zero = modules.iter().all(Module::is_idle);
    let converted = match reader {
        Reader::Peft => without_rslora(adapter)?,
        Reader::Vllm => for_vllm(adapter)?,
        Reader::LlamaCpp => for_llama_cpp(adapter, tied)?,
    };
    let mut warnings = match reader {
        Reader::Peft => limits(&converted, tied)?,
        Reader::Vllm => rank_warning(&converted.modules()?).into_iter().collect(),
        Reader::LlamaCpp => tied_warning(&modules, tied).into_iter().collect(),
    };
    if all_zero {
        warnings.push("every `lora_B` is zero: the adapter changes nothing".into());
    }
    stage(out, |folder| {
        converted.write(folder)?;
        beside.iter().try_for_each(|(name, bytes)| files::write(&folder.join(name), |file| file.write_all(bytes)))
    })?;
    exported(out, count, warnings)
}

/// What vLLM and llama.cpp cannot read of an adapter, one sentence each.
fn limits(adapter: &Adapter, tied: Option<bool>) -> Result<Vec<String>, Faults> {
    let mut warnings = Vec::new();
    let modules = adapter.modules()?;
    if adapter.config.use_dora {
        warnings.push("vLLM and llama.cpp do not load DoRA adapters: export with `--merge` for them".into());
    } else {
        warnings.extend(rank_warning(&modules));
        if !adapter.config.alpha_pattern.is_empty() {
            warnings.push(
                "llama.cpp, and vLLM before 0.32, pass over `alpha_pattern` and compute something else: export with \
                 `--for llama.cpp` or `--for vllm`"
                    .into(),
            );
        }
        if adapter.config.use_rslora {
            warnings.push(
                "llama.cpp ignores `use_rslora` and scales by alpha / rank: export with `--for llama.cpp` for it"
                    .into(),
            );
        }
    }
    if modules.iter().any(is_end) {
        warnings.push(
            "vLLM reads adapters on `embed_tokens` and `lm_head` for some architectures alone: export with `--merge` for \
             the others"
                .into(),
        );
    }
    warnings.extend(tied_warning(&modules, tied));
    Ok(warnings)
}

/// What vLLM makes of the ranks.
fn rank_warning(modules: &[Module<'_>]) -> Option<String> {
    let ranks: BTreeSet<usize> = modules.iter().map(|module| module.rank).collect();
    let largest = *ranks.last()?;
    let Some(known) = VLLM_RANKS.iter().find(|known| **known >= largest) else {
        return Some(format!("vLLM does not load rank {largest}: export with `--merge` for it"));
    };
    if ranks.len() > 1 {
        let ranks = ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        return Some(format!(
            "vLLM before 0.32 takes one rank for all modules and computes something else with {ranks}: export with \
             `--for vllm` for it"
        ));
    }
    (largest > VLLM_RANK)
        .then(|| format!("vLLM loads rank {largest} when it is started with `--max-lora-rank {known}`"))
}

/// What llama.cpp makes of an adapter on an end of a base that ties them.
fn tied_warning(modules: &[Module<'_>], tied: Option<bool>) -> Option<String> {
    let on_end = tied != Some(false) && modules.iter().any(is_end);
    on_end.then(|| format!("{TIED_IN_LLAMA_CPP}: export with `--merge` then"))
}

fn is_end(module: &Module<'_>) -> bool {
    ENDS.iter().any(|end| module.path.ends_with(end))
}

/// The same adapter with the scale `alpha / rank`, where one alpha does for it.
fn without_rslora(adapter: &Adapter) -> Result<Adapter, Faults> {
    let mut converted = own_tensors(adapter);
    let ranks: BTreeSet<usize> = adapter.modules()?.iter().map(|module| module.rank).collect();
    if let (true, [rank]) = (adapter.config.use_rslora, &ranks.into_iter().collect::<Vec<_>>()[..]) {
        let factor = (*rank as f64).sqrt();
        converted.config.use_rslora = false;
        converted.config.lora_alpha *= factor;
        converted.config.alpha_pattern.values_mut().for_each(|alpha| *alpha *= factor);
    }
    Ok(converted)
}

/// The adapter without copies of the base.
fn own_tensors(adapter: &Adapter) -> Adapter {
    let mut own = adapter.clone();
    own.tensors.retain(|key, _| !Adapter::is_base_copy(key));
    own
}

/// One rank that vLLM knows, filled up with zeros, and one scale.
fn for_vllm(adapter: &Adapter) -> Result<Adapter, Faults> {
    let modules = adapter.modules()?;
    let mut faults = vec![];
    if adapter.config.use_dora {
        faults.push(no_dora("vLLM"));
    }
    if let Some(module) = modules.iter().find(|module| is_end(module)) {
        faults.push(
            Fault::new("vLLM reads adapters on `embed_tokens` and `lm_head` for some architectures alone")
                .at(Place::Named(module.path.into()))
                .hint("export with `--merge` in place of `--for`, or without either"),
        );
    }
    let largest = modules.iter().map(|module| module.rank).max().unwrap_or(0);
    let rank = VLLM_RANKS.iter().copied().find(|rank| *rank >= largest);
    if rank.is_none() {
        let most = VLLM_RANKS.last().expect("vLLM has ranks");
        faults.push(
            Fault::new(format!("vLLM has no rank above {most}, and the adapter has rank {largest}"))
                .at(for_flag())
                .hint("export with `--merge` in place of `--for`"),
        );
    }
    Faults::check(faults)?;
    let rank = rank.expect("a fault was filed where there is none");
    let scale = most_common(modules.iter().map(|module| module.scale));
    let mut converted = own_tensors(adapter);
    for module in &modules {
        let a = widened(&module.a.to_f32()?, module.rank, rank, module.in_features);
        let b = scaled(&module.b.to_f32()?, module.scale / scale);
        let b: Vec<f32> = b.chunks_exact(module.rank).flat_map(|row| padded(row, rank)).collect();
        converted.tensors.insert(Adapter::key_a(module.path), StoredTensor::from_f32([rank, module.in_features], &a));
        converted.tensors.insert(Adapter::key_b(module.path), StoredTensor::from_f32([module.out_features, rank], &b));
    }
    converted.config.r = rank;
    converted.config.lora_alpha = scale * rank as f64;
    converted.config.use_rslora = false;
    converted.config.rank_pattern.clear();
    converted.config.alpha_pattern.clear();
    Ok(converted)
}

/// One alpha over each module's own rank.
fn for_llama_cpp(adapter: &Adapter, tied: Option<bool>) -> Result<Adapter, Faults> {
    if adapter.config.use_dora {
        return Err(no_dora("llama.cpp").into());
    }
    let modules = adapter.modules()?;
    let on_tied = |module: &&Module<'_>| tied == Some(true) && is_end(module);
    if let Some(module) = modules.iter().find(on_tied) {
        return Err(Fault::new(TIED_IN_LLAMA_CPP)
            .at(Place::Named(module.path.into()))
            .hint("export with `--merge` in place of `--for`: the merged model has two matrices there")
            .into());
    }
    let alpha = |module: &Module<'_>| module.scale * module.rank as f64;
    let common = most_common(modules.iter().map(alpha));
    let mut converted = own_tensors(adapter);
    for module in modules.iter().filter(|module| alpha(module) != common) {
        let key = if module.embedding {
            Adapter::keys_of_embedding(module.path)[1].clone()
        } else {
            Adapter::key_b(module.path)
        };
        let b = scaled(&module.b.to_f32()?, alpha(module) / common);
        converted.tensors.insert(key, StoredTensor::from_f32(module.b.shape.clone(), &b));
    }
    converted.config.lora_alpha = common;
    converted.config.use_rslora = false;
    converted.config.alpha_pattern.clear();
    Ok(converted)
}

fn no_dora(reader: &str) -> Fault {
    Fault::new(format!("{reader} does not load DoRA adapters, and nothing else is the same"))
        .at(for_flag())
        .hint("export with `--merge` in place of `--for`")
}

/// Where the reader was named.
fn for_flag() -> Place {
    Place::Named("--for".into())
}

/// The value that most have, so that the fewest tensors are changed for it.
fn most_common(values: impl Iterator<Item = f64>) -> f64 {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value.to_bits()).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map_or(1.0, |(bits, _)| f64::from_bits(bits))
}

fn scaled(values: &[f32], factor: f64) -> Vec<f32> {
    values.iter().map(|value| (f64::from(*value) * factor) as f32).collect()
}

fn padded(row: &[f32], width: usize) -> impl Iterator<Item = f32> {
    row.iter().copied().chain(std::iter::repeat_n(0.0, width - row.len()))
}

/// Rows of zeros after those of A.
fn widened(a: &[f32], rank: usize, wanted: usize, width: usize) -> Vec<f32> {
    let mut wide = a.to_vec();
    wide.resize(a.len() + (wanted - rank) * width, 0.0);
    wide
}
