//! `[model]`: the backbone, where it runs and in which precision.

use backbone::device::{DTypeName, DeviceName};
use backbone::families::FAMILIES;
use backbone::{Init, Quantise};
use faults::Section;
use kernels::Quantisation;

use super::{Positive, positive};

/// `[model]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Which backbone.
    pub backbone: Backbone,
    /// Precision of the frozen weights and of the activations.
    pub dtype: DTypeName,
    /// Where it runs.
    pub device: DeviceName,
    /// `quantize`: the frozen matrices in fewer bits while training; merging and exporting take the original files.
    pub quantise: Option<Quantise>,
}

/// Where the backbone's weights come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Backbone {
    /// `model.path`: a directory, `org/name` on the Hugging Face hub, or `builtin:tiny`.
    Pretrained {
        /// As written.
        path: String,
        /// Branch, tag or commit on the hub.
        revision: Option<String>,
    },
    /// `[model.init]`: random weights.
    Init(Init),
}

pub(super) fn read(section: &mut Section) -> Model {
    let path = section.optional::<String>("path");
    let revision = section.optional::<String>("revision");
    let dtypes = [("auto", DTypeName::Auto), ("f32", DTypeName::F32), ("bf16", DTypeName::Bf16)];
    let dtype = section.choice("dtype", &dtypes, "auto");
    let device = section.value("device", DeviceName::Auto);
    let backbone = if section.has("init") {
        let hint = "remove it: `[model.init]` builds the weights from scratch";
        let both = "`model.path` and `[model.init]` exclude each other";
        section.check("path", !section.has("path"), both, "keep one of them");
        section.check("revision", !section.has("revision"), "`model.revision` has no effect here", hint);
        let mut init = section.section("init");
        let read = read_init(&mut init);
        section.close(init);
        Backbone::Init(read)
    } else {
        section.skip("init");
        if path.as_deref().map_or(!section.has("path"), |path| path.trim().is_empty()) {
            let hint = "write `path = \"org/name\"` or a directory, or `[model.init]` for a model from scratch";
            section.reject("path", "`model.path` names no model", hint);
        }
        let path = path.unwrap_or_default();
        let fixed = path.starts_with("builtin:") && revision.is_some();
        section.check("revision", !fixed, "`model.revision` has no effect on a builtin model", "remove it");
        Backbone::Pretrained { path, revision }
    };
    Model { backbone, dtype, device, quantise: read_quantise(section) }
}

/// Rows that nf4's codes are fitted to where no other number is asked for.
pub const FITTED_ROWS: usize = 128;

fn read_quantise(section: &mut Section) -> Option<Quantise> {
    let known = [("int8", Quantisation::Int8), ("nf4", Quantisation::Nf4)];
    // Not in the resolved table unless written: runs of before there was the key are the same runs.
    let quantisation = section.has("quantize").then(|| section.choice("quantize", &known, "nf4"));
    section.skip("quantize");
    let without = |section: &mut Section, key: &str, what: &str, hint: &str| {
        section.skip(key);
        let void = section.has(key);
        section.check(key, !void, format!("`model.{key}` has no effect {what}"), hint);
    };
    let Some(quantisation) = quantisation else {
        for key in ["quantize_embeddings", "quantize_rows"] {
            without(section, key, "without `model.quantize`", "remove it, or write `quantize = \"nf4\"`");
        }
        return None;
    };
    let embeddings = section.value("quantize_embeddings", true);
    let rows = match quantisation {
        Quantisation::Nf4 => {
            let rows = section.value("quantize_rows", FITTED_ROWS);
            let hint = "128 is as good as any more; 0 takes the nearest codes";
            section.check("quantize_rows", rows <= 1024, "`model.quantize_rows` must be at most 1024", hint);
            rows
        }
        Quantisation::Int8 => {
            without(section, "quantize_rows", "on int8, which loses next to nothing", "remove it");
            0
        }
    };
    Some(Quantise { quantisation, embeddings, rows })
}

fn read_init(section: &mut Section) -> Init {
    let architectures = FAMILIES.map(|family| (family.name, family));
    let architecture = section.choice("architecture", &architectures, "llama");
    let tokenizer = section.required("tokenizer", "the path of a `tokenizer.json`, which gives the vocabulary");
    let hidden_size = section.required::<Positive>("hidden_size", "the width of the model, for example 256").0;
    let layers = section.required::<Positive>("layers", "the number of decoder blocks, for example 4").0;
    let heads = section.required::<Positive>("heads", "the number of attention heads, for example 4").0;
    let intermediate_size =
        section.required::<Positive>("intermediate_size", "the width of the MLP, for example 704").0;
    let kv_heads = positive(section, "kv_heads", heads);
    let groups = heads.is_multiple_of(kv_heads);
    let message = format!("`heads` = {heads} is not a multiple of `kv_heads` = {kv_heads}");
    section.check("kv_heads", groups, message, "each key head serves the same number of query heads");
    let divides = hidden_size.is_multiple_of(heads);
    let message = format!("`hidden_size` = {hidden_size} is not a multiple of `heads` = {heads}");
    section.check("heads", divides || section.has("head_dim"), message, "change one of them, or write `head_dim`");
    let head_dim = positive(section, "head_dim", (hidden_size / heads).max(1));
    let known = section.has("head_dim") || divides && section.has("hidden_size") && section.has("heads");
    let message = format!("the width of a head must be even, found {head_dim}");
    section.check("head_dim", !known || head_dim.is_multiple_of(2), message, "rotary embeddings turn pairs of numbers");
    let max_positions = positive(section, "max_positions", 2048);
    let rope_theta = section.value("rope_theta", 10_000.0);
    let usable = rope_theta.is_finite() && rope_theta > 1.0;
    section.check("rope_theta", usable, format!("`rope_theta` cannot be {rope_theta}"), "the usual value is 10000");
    let tie_embeddings = section.value("tie_embeddings", true);
    Init {
        architecture,
        tokenizer,
        hidden_size,
        layers,
        heads,
        kv_heads,
        head_dim,
        intermediate_size,
        max_positions,
        rope_theta,
        tie_embeddings,
    }
}
