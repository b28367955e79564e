//! Frozen matrices in 8 and 4 bits: what is trained beside them, what is merged, and what is refused.

use std::collections::BTreeMap;

use backbone::{Decoder, ModelFiles, Quantise, Source};
use burn::tensor::{DType, Device};
use kernels::{Quantisation, Quantised};
use safetensors::tensor::{Dtype, SafeTensors, View, serialize};

use crate::support::{Workplace, larger};

/// A model's tensors with their numbers; the embedded model is kept in bf16.
fn tensors(bytes: &[u8]) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let file = SafeTensors::deserialize(bytes).expect("safetensors");
    let numbers = |tensor: &safetensors::tensor::TensorView| -> Vec<f32> {
        match tensor.dtype() {
            Dtype::BF16 => {
                let halves = tensor.data().chunks(2).map(|two| u32::from(two[0]) << 16 | u32::from(two[1]) << 24);
                halves.map(f32::from_bits).collect()
            }
            Dtype::F32 => {
                tensor.data().chunks(4).map(|four| f32::from_le_bytes(four.try_into().expect("four"))).collect()
            }
            other => panic!("{other}"),
        }
    };
    file.iter().map(|(name, tensor)| (name.to_owned(), (tensor.shape().to_vec(), numbers(&tensor)))).collect()
}

/// A tensor of f32 for a file.
struct Plain(Vec<usize>, Vec<u8>);

impl View for Plain {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.0
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.1[..]).into()
    }
    fn data_len(&self) -> usize {
        self.1.len()
    }
}

/// Replaces the matrices of `model/` by what is left of them after quantising.
fn quantise_files(place: &Workplace, quantisation: Quantisation, embeddings: bool) {
    let rounded = tensors(&place.read("model/model.safetensors")).into_iter().map(|(name, (shape, values))| {
        let matrix = shape.len() == 2 && (embeddings || !name.contains("embed_tokens"));
        let values =
            if matrix { Quantised::new(&values, [shape[0], shape[1]], quantisation).dequantise() } else { values };
        (name, Plain(shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
    });
    place.write("model/model.safetensors", serialize(rounded, None).expect("a file"));
}

/// To the bit: every loss and norm of a run on codes is that of a run on a model that holds their values.
#[test]
fn a_run_on_codes_is_the_run_on_their_values() {
    for (quantisation, name, dtype, embeddings) in [
        (Quantisation::Nf4, "nf4", "f32", true),
        (Quantisation::Nf4, "nf4", "bf16", true),
        (Quantisation::Int8, "int8", "bf16", true),
        (Quantisation::Nf4, "nf4", "f32", false),
    ] {
        let place = Workplace::with_model();
        // The lengths of DoRA, too, are those of the values.
        let kind = if embeddings { "lora" } else { "dora" };
        let shared = format!("run recipe.toml --set model.dtype={dtype} --set model.path=model --set train.steps=3");
        let rows = if quantisation == Quantisation::Nf4 { "--set model.quantize_rows=0" } else { "" };
        let quantise = format!("--set model.quantize={name} --set model.quantize_embeddings={embeddings} {rows}");
        let shared = format!("{shared} --set adapter.kind={kind}");
        place.trainer(&format!("{shared} {quantise} --set output.dir=codes")).succeeds();
        quantise_files(&place, quantisation, embeddings);
        place.trainer(&format!("{shared} --set output.dir=values")).succeeds();
        assert_eq!(place.timeless("codes"), place.timeless("values"), "{name} {dtype} {embeddings}");
        let adapter = |run: &str| place.read(&format!("{run}/checkpoints/step-000002/adapter_model.safetensors"));
        assert!(adapter("codes") == adapter("values"), "{name} {dtype} {embeddings}");
    }
}

/// The embedded model's held-out nll in fewer bits, before and after training, beside that in full.
#[test]
fn training_in_fewer_bits_stays_near() {
    let place = Workplace::new();
    let run = |name: &str, set: &str| -> Vec<f64> {
        place.trainer(&format!("run recipe.toml --set output.dir={name} --set train.steps=20 {set}")).succeeds();
        let lines = place.metrics(name);
        lines.iter().filter(|line| line["split"] == "eval").map(|line| line["nll"].as_f64().expect("an nll")).collect()
    };
    let full = run("full", "--set model.dtype=bf16");
    let cases = [("int8", "int8", 0.01), ("nearest", "nf4 --set model.quantize_rows=0", 0.05), ("fitted", "nf4", 0.02)];
    for (name, bits, tolerance) in cases {
        let found = run(name, &format!("--set model.dtype=bf16 --set model.quantize={bits}"));
        for (found, full) in [(found[0], full[0]), (found[found.len() - 1], full[full.len() - 1])] {
            assert!((found / full - 1.0).abs() < tolerance, "{name}: {found} for {full}");
            assert!(found != full, "{name} changed nothing");
        }
    }
}

/// Matrices in nf4 take a quarter of their bytes in bf16, in int8 half of them.
#[test]
fn matrices_take_the_memory_that_is_promised() {
    let files = ModelFiles::Embedded;
    let weights = files.weights().expect("the embedded weights");
    let bytes = |quantise: Option<Quantise>| {
        let device = Device::flex();
        let source = Source { quantise, ..Source::frozen(&weights, DType::BF16, &device) };
        let config = files.config().expect("its configuration");
        Decoder::load(config, &source).expect("the embedded model").matrix_bytes() as f64
    };
    let full = bytes(None);
    let share = |quantisation, embeddings| bytes(Some(Quantise { quantisation, embeddings, rows: 0 })) / full;
    let nf4 = share(Quantisation::Nf4, true);
    assert!((0.255..0.27).contains(&nf4), "{nf4}");
    let int8 = share(Quantisation::Int8, true);
    assert!((0.52..0.54).contains(&int8), "{int8}");
    assert!(share(Quantisation::Nf4, false) > nf4 + 0.02);
}

/// The tensors of an adapter: A, B and the trained lengths of the module of a weight.
struct Factors<'a> {
    a: &'a [f32],
    b: &'a [f32],
    lengths: Option<&'a [f32]>,
    rank: usize,
    inputs: usize,
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// alpha / rank of the tests' recipe.
const SCALE: f64 = 2.0;

impl<'a> Factors<'a> {
    fn of(adapter: &'a Tensors, weight: &str) -> Option<Self> {
        let module = format!("base_model.model.{}", weight.strip_suffix(".weight")?);
        let (shape, a) = adapter.get(&format!("{module}.lora_A.weight"))?;
        let (_, b) = adapter.get(&format!("{module}.lora_B.weight"))?;
        let lengths = adapter.get(&format!("{module}.lora_magnitude_vector")).map(|(_, lengths)| &lengths[..]);
        Some(Self { a, b, lengths, rank: shape[0], inputs: shape[1] })
    }

    /// `s B A` of the ranks in `ranks`, at a place of the matrix.
    fn update(&self, place: usize, ranks: std::ops::Range<usize>) -> f64 {
        let (o, i) = (place / self.inputs, place % self.inputs);
        let term = |r: usize| f64::from(self.b[o * self.rank + r]) * f64::from(self.a[r * self.inputs + i]);
        SCALE * ranks.map(term).sum::<f64>()
    }
}

/// Merging takes the original weights, whatever the adapter: what is merged is W + s B A to a rounding of f32, its rows
/// brought to DoRA's lengths; and it has the logits of the original base with the exported adapter beside it.
#[test]
fn an_adapter_of_a_quantised_run_is_merged_into_the_original_weights() {
    for (bits, kind, ranks) in [
        ("nf4", "adapter.init=default", 4),
        ("nf4", "adapter.kind=dora", 4),
        ("int8", "adapter.kind=dora", 4),
        ("nf4", "adapter.init=pissa", 8),
        ("int8", "adapter.init=pissa", 8),
    ] {
        let place = Workplace::with_model();
        let set = format!("--set model.path=model --set model.quantize={bits} --set {kind}");
        place.trainer(&format!("run recipe.toml {set}")).succeeds();
        let losses: Vec<f64> = place.steps("run").iter().map(|line| line["loss"].as_f64().expect("a loss")).collect();
        assert!(losses.len() == 6 && losses.iter().all(|loss| loss.is_finite()), "{bits} {kind}: {losses:?}");
        place.trainer("export run --out adapter").succeeds();
        let merged = place.trainer("export run --out merged --merge --dtype f32").succeeds();
        let apart = merged.number_after("adapter against merged: ");
        assert!(apart < 1e-3, "{bits} {kind}: {apart}");
        let before = tensors(&place.read("model/model.safetensors"));
        let after = tensors(&place.read("merged/model.safetensors"));
        let adapter = tensors(&place.read("adapter/adapter_model.safetensors"));
        let mut adapted = 0;
        for (name, (_, values)) in &before {
            let Some(factors) = Factors::of(&adapter, name) else {
                assert_eq!(*values, after[name].1, "{name} has no adapter");
                continue;
            };
            adapted += 1;
            assert_eq!(factors.rank, ranks, "{bits} {kind}");
            let sum = |(place, value): (usize, &f32)| f64::from(*value) + factors.update(place, 0..factors.rank);
            let mut expected: Vec<f64> = values.iter().enumerate().map(sum).collect();
            assert_eq!(factors.lengths.is_some(), kind.ends_with("dora"), "{kind}");
            for (row, length) in expected.chunks_mut(factors.inputs).zip(factors.lengths.into_iter().flatten()) {
                let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
                row.iter_mut().for_each(|value| *value *= f64::from(*length) / norm);
            }
            let worst = after[name].1.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, larger);
            assert!(worst < 2e-6, "{bits} {kind} {name}: {worst}");
        }
        assert_eq!(adapted, 28);
    }
}

/// PiSSA takes what is largest in the original matrices, not in their codes, and quantises the rest: `Q(W - s B0 A0)` with
/// `s B0 A0` beside it is what is trained.
#[test]
fn pissa_on_codes_decomposes_the_original_weights() {
    let place = Workplace::with_model();
    for (bits, quantisation) in [("nf4", Quantisation::Nf4), ("int8", Quantisation::Int8)] {
        let set = format!("--set adapter.init=pissa --set model.quantize={bits} --set output.dir={bits}");
        place.trainer(&format!("run recipe.toml --set model.path=model {set}")).succeeds();
        place.trainer(&format!("export {bits} --out {bits}-adapter")).succeeds();
        let adapter = tensors(&place.read(&format!("{bits}-adapter/adapter_model.safetensors")));
        let start = tensors(&place.read("model/model.safetensors")).into_iter().map(|(name, (shape, values))| {
            let Some(factors) = Factors::of(&adapter, &name) else {
                let quantised = || Quantised::new(&values, [shape[0], shape[1]], quantisation).dequantise();
                let values = if shape.len() == 2 { quantised() } else { values };
                return (name, Plain(shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()));
            };
            // The second half of the ranks takes away again what was taken out.
            let taken: Vec<f64> = (0..values.len()).map(|place| -factors.update(place, 4..8)).collect();
            let rest: Vec<f64> = values.iter().zip(&taken).map(|(value, taken)| f64::from(*value) - taken).collect();
            assert_largest(&name, &factors, &rest);
            let narrow: Vec<f32> = rest.iter().map(|value| *value as f32).collect();
            let codes = Quantised::new(&narrow, [shape[0], shape[1]], quantisation).dequantise();
            let sum = codes.iter().zip(&taken).map(|(code, taken)| (f64::from(*code) + taken) as f32);
            (name, Plain(shape, sum.flat_map(f32::to_le_bytes).collect()))
        });
        let bytes = serialize(start, None).expect("a file");
        place.model(&format!("{bits}-start"));
        place.write(&format!("{bits}-start/model.safetensors"), bytes);
        let plain = format!("--set model.path={bits}-start --set train.steps=1 --set output.dir={bits}-plain");
        place.trainer(&format!("run recipe.toml {plain}")).succeeds();
        let before = |run: &str| place.metrics(run)[0]["nll"].as_f64().expect("an nll");
        let apart = (before(bits) - before(&format!("{bits}-plain"))).abs();
        assert!(apart < 1e-4, "{bits}: {apart}");
    }
}

/// The residual matrix of PiSSA is orthogonal to the factors that were taken out, and has no singular value as large as theirs.
#[track_caller]
fn assert_largest(name: &str, factors: &Factors, rest: &[f64]) {
    let (rank, inputs) = (factors.rank, factors.inputs);
    let length = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let through = |left: &[f64]| -> Vec<f64> {
        let mut sums = vec![0.0; inputs];
        for (value, row) in left.iter().zip(rest.chunks_exact(inputs)) {
            sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += value * weight);
        }
        sums
    };
    let back = |right: &[f64]| -> Vec<f64> {
        rest.chunks_exact(inputs).map(|row| row.iter().zip(right).map(|(a, b)| a * b).sum()).collect()
    };
    let mut smallest = f64::INFINITY;
    for r in rank / 2..rank {
        let left: Vec<f64> = factors.b.iter().skip(r).step_by(rank).map(|value| f64::from(*value)).collect();
        let right: Vec<f64> = factors.a[r * inputs..(r + 1) * inputs].iter().map(|value| f64::from(*value)).collect();
        let left_over = length(&through(&left)) / length(&left) / length(rest);
        assert!(left_over < 1e-5, "{name}: {left_over}");
        smallest = smallest.min(SCALE * length(&left) * length(&right));
    }
    // The largest singular value of the rest, by powers.
    let mut left = vec![1.0; rest.len() / inputs];
    for _ in 0..30 {
        left = back(&through(&left));
        let norm = length(&left);
        left.iter_mut().for_each(|value| *value /= norm);
    }
    let largest = length(&through(&left));
    assert!(largest < smallest * 1.01, "{name}: {largest} is left, {smallest} was taken");
}

#[test]
fn what_cannot_be_quantised_is_refused() {
    let place = Workplace::with_model();
    let refuses = |arguments: &str, expected: &[&str]| {
        for command in ["run", "check"] {
            place.refuses(&format!("{command} {arguments}"), expected);
        }
    };
    refuses("full.toml --set model.quantize=nf4", &["`adapter.kind = \"none\"`", "hint: remove `model.quantize`"]);
    refuses("recipe.toml --set model.quantize=nf8", &["`model.quantize` cannot be \"nf8\"", "did you mean \"nf4\"?"]);
    refuses("recipe.toml --set model.quantize=4", &["`model.quantize`"]);
    let alone = "recipe.toml --set model.quantize_embeddings=false";
    refuses(alone, &["`model.quantize_embeddings` has no effect without `model.quantize`", "hint: "]);
    let int8 = "recipe.toml --set model.quantize=int8 --set model.quantize_rows=9";
    refuses(int8, &["`model.quantize_rows` has no effect on int8", "hint: remove it"]);
    // A value that has no nearest code.
    let bytes = place.read("model/model.safetensors");
    let mut values = tensors(&bytes);
    values.get_mut("model.layers.1.mlp.up_proj.weight").expect("a matrix").1[7] = f32::INFINITY;
    let plain = values.into_iter().map(|(name, (shape, values))| {
        (name, Plain(shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
    });
    place.write("model/model.safetensors", serialize(plain, None).expect("a file"));
    let run = "run recipe.toml --set model.path=model --set model.quantize=int8";
    place.refuses(run, &["model.layers.1.mlp.up_proj.weight", "not finite", "hint: it cannot be quantised"]);
}

/// A run goes on as it was begun; the losses after the break are those of an unbroken run.
#[test]
fn a_quantised_run_is_resumed_as_what_it_is() {
    let place = Workplace::new();
    let run = |steps: usize, more: &str| format!("run recipe.toml --set train.steps={steps} {more}");
    place.trainer(&run(6, "--set model.quantize=nf4 --set output.dir=whole")).succeeds();
    place.trainer(&run(4, "--set model.quantize=nf4")).succeeds();
    let changed = ["", "--set model.quantize=int8", "--set model.quantize=nf4 --set model.quantize_embeddings=false"];
    for changed in changed {
        place.refuses(
            &run(6, &format!("{changed} --resume")),
            &["this is not the run that was started", "`model.quant"],
        );
    }
    place.trainer(&run(6, "--set model.quantize=nf4 --resume")).succeeds();
    assert_eq!(place.timeless("run"), place.timeless("whole"));
}

#[test]
fn the_plan_says_what_is_quantised() {
    let place = Workplace::new();
    let plan = |set: &str| place.trainer(&format!("check recipe.toml {set}")).succeeds().stdout;
    assert!(plan("--set model.quantize=nf4").contains("cpu in f32, the frozen matrices in nf4, fitted to "));
    let nearest = plan("--set model.quantize=nf4 --set model.quantize_rows=0");
    assert!(nearest.contains("cpu in f32, the frozen matrices in nf4\n"), "{nearest}");
    let kept = plan("--set model.quantize=int8 --set model.quantize_embeddings=false");
    assert!(kept.contains("the frozen matrices in int8 but for embedding and head\n"), "{kept}");
    let bytes = |set: &str| {
        let json = place.trainer(&format!("check recipe.toml --json {set}")).succeeds().json();
        (json["model"]["quantize"].clone(), json["memory"]["weights"].as_f64().expect("bytes"))
    };
    let (none, full) = bytes("--set model.dtype=bf16");
    let (nf4, small) = bytes("--set model.dtype=bf16 --set model.quantize=nf4");
    assert_eq!((none, nf4), (serde_json::Value::Null, "nf4".into()));
    assert!(small / full < 0.3, "{small} of {full}");
}

#[test]
fn a_bench_on_codes_says_what_the_base_takes() {
    let place = Workplace::new();
    let bench = |more: &str| {
        let ended = place.trainer(&format!("bench --model builtin:tiny --seq 16 --steps 1 --dtype bf16 --json {more}"));
        ended.succeeds().json()
    };
    let (full, nf4) = (bench(""), bench("--quantize nf4"));
    assert_eq!((&full["quantize"], &nf4["quantize"]), (&serde_json::Value::Null, &"nf4".into()));
    let share = nf4["base_mib"].as_f64().expect("a size") / full["base_mib"].as_f64().expect("a size");
    assert!(share < 0.3, "{share}");
}
