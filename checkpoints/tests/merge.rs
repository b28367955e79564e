//! Merges and exports against PEFT's own (`fixtures/make.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use checkpoints::export::{self, Base, Reader};
use checkpoints::{
    Adapter, AdapterConfig, Checkpoint, Contents, Dtype, Retention, Run, StoredTensor, TargetModules, Trained, Weights,
};
use faults::Faults;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn base() -> Base {
    Base::open(&fixture("base")).unwrap()
}

fn adapter(name: &str) -> Adapter {
    Adapter::read(&fixture(name)).unwrap()
}

/// The largest difference between two models' tensors, in units of the reference's largest number.
fn difference(found: &Weights, expected: &Weights, names: impl Iterator<Item = String>) -> f32 {
    let mut worst = 0f32;
    for name in names {
        let (found, expected) = (found.f32(&name).unwrap(), expected.f32(&name).unwrap());
        assert_eq!(found.len(), expected.len(), "{name}");
        let scale = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            worst = worst.max((found - expected).abs() / scale);
        }
    }
    worst
}

fn names(weights: &Weights) -> Vec<String> {
    weights.names().map(str::to_owned).collect()
}

fn refused(adapter: &Adapter, out: &Path) -> String {
    let faults: Faults = export::merged(&base(), adapter, out, None).unwrap_err();
    faults.to_string()
}

#[test]
fn the_merge_is_pefts_and_touches_nothing_else() {
    for (name, modules) in [("plain", 8), ("patterns", 6), ("dora", 4)] {
        let out = tempfile::tempdir().unwrap();
        let exported = export::merged(&base(), &adapter(name), &out.path().join("merged"), None).unwrap();
        assert_eq!(exported.modules, modules);
        assert_eq!(exported.files, ["config.json", "generation_config.json", "model.safetensors"]);
        assert_eq!(exported.warnings, [""; 0]);
        let merged = Weights::open(&exported.folder).unwrap();
        let expected = Weights::open_file(&fixture(name).join("merged.safetensors")).unwrap();
        assert_eq!(names(&expected).len(), modules);
        let worst = difference(&merged, &expected, names(&expected).into_iter());
        assert!(worst < 1e-6, "{name}: {worst:e}");
        let base = base();
        assert_eq!(names(&merged), names(&base.weights));
        for untouched in names(&merged).iter().filter(|name| !expected.contains(name)) {
            assert_eq!(merged.bytes(untouched).unwrap(), base.weights.bytes(untouched).unwrap(), "{untouched}");
        }
        assert!(!merged.contains("lm_head.weight"), "tied embeddings stay tied");
        assert_eq!(
            fs::read(exported.folder.join("config.json")).unwrap(),
            fs::read(fixture("base/config.json")).unwrap()
        );
    }
}

#[test]
fn a_merge_in_bf16_is_rounded_once() {
    let out = tempfile::tempdir().unwrap();
    let (halved, merged) = (out.path().join("halved"), out.path().join("merged"));
    export::model(&base(), &halved, Some(Dtype::BF16)).unwrap();
    let config = fs::read_to_string(halved.join("config.json")).unwrap();
    assert!(config.contains("\"dtype\": \"bfloat16\"") && !config.contains("float32"), "{config}");
    export::merged(&Base::open(&halved).unwrap(), &adapter("plain"), &merged, None).unwrap();
    let merged = Weights::open(&merged).unwrap();
    let expected = Weights::open_file(&fixture("plain/merged_bf16.safetensors")).unwrap();
    for name in expected.names() {
        assert_eq!(merged.dtype(name), Some(Dtype::BF16));
        assert_eq!(merged.bytes(name).unwrap(), expected.bytes(name).unwrap(), "{name}");
    }
}

#[test]
fn a_zero_adapter_gives_the_base_byte_for_byte() {
    let mut zero = adapter("plain");
    for (key, tensor) in &mut zero.tensors {
        if key.contains("lora_B") {
            tensor.bytes.fill(0);
        }
    }
    let out = tempfile::tempdir().unwrap();
    let exported = export::merged(&base(), &zero, &out.path().join("merged"), None).unwrap();
    assert!(exported.warnings[0].contains("every `lora_B` is zero"));
    let read = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    assert!(read(&exported.folder) == read(&fixture("base")), "the files differ");
}

#[test]
fn a_sharded_base_keeps_its_files_and_its_index() {
    let folder = tempfile::tempdir().unwrap();
    let sharded = folder.path().join("base");
    fs::create_dir(&sharded).unwrap();
    let whole = base();
    let mut places = BTreeMap::new();
    for (part, shard) in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"].iter().enumerate() {
        let held: Vec<&str> = whole.weights.names().filter(|name| name.contains("layers.1") == (part == 1)).collect();
        let views = held.iter().map(|name| {
            let shape = whole.weights.shape(name).unwrap();
            let view = safetensors::tensor::TensorView::new(Dtype::F32, shape, whole.weights.bytes(name).unwrap());
            (*name, view.unwrap())
        });
        safetensors::serialize_to_file(views, None, &sharded.join(shard)).unwrap();
        places.extend(held.iter().map(|name| (name.to_string(), shard.to_string())));
    }
    let index = serde_json::json!({"metadata": {"total_size": 1, "total_parameters": 2}, "weight_map": places});
    fs::write(sharded.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::copy(fixture("base/config.json"), sharded.join("config.json")).unwrap();

    let sharded = Base::open(&sharded).unwrap();
    assert_eq!(sharded.weights.parameters(), whole.weights.parameters());
    let exported = export::merged(&sharded, &adapter("plain"), &folder.path().join("a"), Some(Dtype::F16)).unwrap();
    let single = export::merged(&whole, &adapter("plain"), &folder.path().join("b"), Some(Dtype::F16)).unwrap();
    assert_eq!(exported.files.iter().filter(|name| name.ends_with(".safetensors")).count(), 2);
    let (merged, single) = (Weights::open(&exported.folder).unwrap(), Weights::open(&single.folder).unwrap());
    assert_eq!(names(&merged), names(&single));
    for name in single.names() {
        assert_eq!(merged.bytes(name).unwrap(), single.bytes(name).unwrap(), "{name}");
    }
    let text = fs::read(exported.folder.join("model.safetensors.index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(index["weight_map"], serde_json::json!(places));
    assert_eq!(index["metadata"]["total_size"], whole.weights.parameters() * 2);
    assert_eq!(index["metadata"]["total_parameters"], 2);
}

/// Gemma is tied where nothing is said, also beside a copy of the head; with an adapter on it the merged model says that it
/// is tied no more. Other families with a head of their own are left as they are.
#[test]
fn a_head_that_is_tied_by_its_family_is_untied_by_a_merge() {
    for (family, said) in [("gemma2", Some(false)), ("llama", None)] {
        let folder = tempfile::tempdir().unwrap();
        let two = folder.path().join("two");
        fs::create_dir(&two).unwrap();
        let bytes: Vec<u8> = [0.5f32, -1.0, 2.0, 0.25].iter().flat_map(|value| value.to_le_bytes()).collect();
        let views = ["model.embed_tokens.weight", "lm_head.weight"]
            .map(|name| (name, safetensors::tensor::TensorView::new(Dtype::F32, vec![2, 2], &bytes).unwrap()));
        safetensors::serialize_to_file(views, None, &two.join("model.safetensors")).unwrap();
        fs::write(two.join("config.json"), format!("{{\"model_type\": \"{family}\"}}")).unwrap();
        let mut adapter =
            Adapter { config: AdapterConfig::new(1, 1.0, vec!["lm_head".into()]), tensors: BTreeMap::new() };
        for (key, shape) in [(Adapter::key_a("lm_head"), vec![1, 2]), (Adapter::key_b("lm_head"), vec![2, 1])] {
            adapter.tensors.insert(key, StoredTensor::from_f32(shape, &[1.0, 2.0]));
        }
        let merged = folder.path().join("merged");
        export::merged(&Base::open(&two).unwrap(), &adapter, &merged, None).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&fs::read(merged.join("config.json")).unwrap()).unwrap();
        assert_eq!(config.get("tie_word_embeddings").and_then(serde_json::Value::as_bool), said, "{family}");
    }
}

#[test]
fn what_cannot_be_merged_is_named_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("merged");

    let with = |module: &str, output: usize, input: usize, value: f32| {
        let mut adapter = Adapter { config: AdapterConfig::new(1, 1.0, vec!["x".into()]), tensors: BTreeMap::new() };
        let (a, b) = (Adapter::key_a(module), Adapter::key_b(module));
        adapter.tensors.insert(a, StoredTensor::from_f32([1, input], &vec![1.0; input]));
        adapter.tensors.insert(b, StoredTensor::from_f32([output, 1], &vec![value; output]));
        adapter
    };
    let module = "model.layers.0.self_attn.q_proj";
    let fault = refused(&with("model.layers.7.self_attn.q_proj", 16, 16, 1.0), &out);
    assert!(fault.contains("`model.layers.7.self_attn.q_proj.weight`, which the base does not have"), "{fault}");
    let fault = refused(&with("lm_head", 23, 16, 1.0), &out);
    assert!(fault.contains("[24, 16]") && fault.contains("[23, 16]"), "{fault}");
    let fault = refused(&with(module, 16, 12, 1.0), &out);
    assert!(fault.contains("[16, 16]") && fault.contains("[16, 12]") && fault.contains(module), "{fault}");
    for value in [f32::NAN, f32::INFINITY] {
        let fault = refused(&with(module, 16, 16, value), &out);
        assert!(fault.contains("`lora_B`") && fault.contains(module), "{fault}");
    }
    let mut overflowing = with(module, 16, 16, f32::MAX);
    overflowing.config.lora_alpha = 2.0;
    let fault = refused(&overflowing, &out);
    assert!(fault.contains("not finite") && fault.contains(module), "{fault}");
    overflowing.tensors.clear();
    assert!(refused(&overflowing, &out).contains("no tensors"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_number_that_does_not_fit_the_output_type_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("merged");
    let mut large = adapter("plain");
    for (key, tensor) in &mut large.tensors {
        if key.contains("lora_B") {
            *tensor = StoredTensor::from_f32(tensor.shape.clone(), &vec![1e7; tensor.bytes.len() / 4]);
        }
    }
    let faults = export::merged(&base(), &large, &out, Some(Dtype::F16)).unwrap_err().to_string();
    assert!(faults.contains("does not fit F16") && faults.contains("proj.weight"), "{faults}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    export::merged(&base(), &large, &out, Some(Dtype::BF16)).unwrap();
}

#[test]
fn an_output_that_exists_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("merged");
    fs::create_dir(&out).unwrap();
    export::merged(&base(), &adapter("plain"), &out, None).unwrap();
    assert!(refused(&adapter("plain"), &out).contains("not empty"));
    assert!(refused(&adapter("plain"), &out.join("config.json")).contains("is a file"));
}

/// Saves an adapter in a run of its own and exports it from there.
fn through_a_run(adapter: Adapter) -> (tempfile::TempDir, export::Exported) {
    let (folder, exported) = exported_for(adapter, Reader::Peft);
    (folder, exported.unwrap())
}

fn exported_for(adapter: Adapter, reader: Reader) -> (tempfile::TempDir, Result<export::Exported, Faults>) {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::create(&folder.path().join("run")).unwrap();
    let contents = Contents {
        weights: Trained::Adapter(adapter),
        training_state: BTreeMap::new(),
        state: serde_json::Value::Null,
        beside: Vec::new(),
        best: false,
    };
    let saved = run.save(1, &contents, &Retention { keep: 1 }).unwrap();
    let adapter = Checkpoint::open(&saved).unwrap().adapter().unwrap();
    let exported = export::adapter(&adapter, &[], &folder.path().join("out"), reader, None);
    (folder, exported)
}

#[test]
fn an_adapter_goes_through_a_run_and_out_again_unchanged() {
    let words = ["--max-lora-rank", "one rank", "`alpha_pattern`", "DoRA", "use_rslora"];
    for (name, expected) in [
        ("plain", [false, false, false, false, false]),
        ("patterns", [false, true, true, false, true]),
        ("dora", [false, false, false, true, false]),
    ] {
        let (_guard, exported) = through_a_run(adapter(name));
        assert_eq!(exported.files, ["adapter_config.json", "adapter_model.safetensors"]);
        let warned = words.map(|word| exported.warnings.iter().any(|warning| warning.contains(word)));
        assert_eq!(warned, expected, "{name}: {:?}", exported.warnings);
        assert_eq!(Adapter::read(&exported.folder).unwrap(), adapter(name));
    }
}

#[test]
fn an_rslora_adapter_of_one_rank_leaves_as_plain_lora_of_the_same_scale() {
    let mut stabilised = adapter("plain");
    stabilised.config.use_rslora = true;
    stabilised.config.alpha_pattern.insert("up_proj".into(), 3.0);
    let (_guard, exported) = through_a_run(stabilised.clone());
    let plain = Adapter::read(&exported.folder).unwrap();
    // Rank 4: alpha 8 / sqrt(4) = 4 = 16 / 4, and 3 / sqrt(4) = 1.5 = 6 / 4.
    assert_eq!((plain.config.use_rslora, plain.config.lora_alpha), (false, 16.0));
    let scales = |adapter: &Adapter| adapter.modules().unwrap().iter().map(|module| module.scale).collect::<Vec<_>>();
    assert_eq!(scales(&plain), scales(&stabilised));
    assert!(scales(&plain).contains(&4.0) && scales(&plain).contains(&1.5));
    assert_eq!(plain.tensors, stabilised.tensors);
}

/// What an adapter adds to each matrix, `scale * B A`, in f64.
fn deltas(adapter: &Adapter) -> BTreeMap<String, Vec<f64>> {
    let wide = |tensor: &StoredTensor| tensor.to_f32().unwrap().into_iter().map(f64::from).collect::<Vec<f64>>();
    let delta = |module: &checkpoints::Module<'_>| {
        let (a, b) = (wide(module.a), wide(module.b));
        let (rank, width) = (module.a.shape[0], module.a.shape[1]);
        let value =
            |row: usize, column: usize| (0..rank).map(|r| b[row * rank + r] * a[r * width + column]).sum::<f64>();
        let values = (0..module.b.shape[0]).flat_map(|row| (0..width).map(move |column| (row, column)));
        values.map(|(row, column)| module.scale * value(row, column)).collect::<Vec<f64>>()
    };
    adapter.modules().unwrap().iter().map(|module| (module.path.to_string(), delta(module))).collect()
}

/// As each of the readers computes the scale: by the global keys alone.
#[test]
fn converted_adapters_add_the_same_to_each_matrix() {
    let mut stabilised = adapter("plain");
    stabilised.config.use_rslora = true;
    stabilised.config.lora_alpha = 7.0;
    for original in [adapter("plain"), adapter("patterns"), stabilised] {
        for reader in [Reader::Vllm, Reader::LlamaCpp] {
            let (_guard, exported) = exported_for(original.clone(), reader);
            let exported = exported.unwrap();
            assert_eq!(exported.warnings, [""; 0]);
            let converted = Adapter::read(&exported.folder).unwrap();
            let config = &converted.config;
            assert!(!config.use_rslora && config.alpha_pattern.is_empty());
            for module in converted.modules().unwrap() {
                assert_eq!(module.scale, config.lora_alpha / module.a.shape[0] as f64);
                assert!(reader == Reader::LlamaCpp || (module.rank == 8 && config.rank_pattern.is_empty()));
            }
            let (before, after) = (deltas(&original), deltas(&converted));
            assert!(before.keys().eq(after.keys()));
            for (path, before) in before {
                let largest = before.iter().fold(0f64, |largest, value| largest.max(value.abs()));
                for (a, b) in before.iter().zip(&after[&path]) {
                    assert!((a - b).abs() < 1e-6 * largest, "{path} {reader:?}: {a} {b}");
                }
            }
        }
    }
}

#[test]
fn what_no_conversion_helps_is_refused_with_the_way_out() {
    let mut wide = adapter("plain");
    wide.config.r = 513;
    for (key, tensor) in &mut wide.tensors {
        let (shape, length) = match key.contains("lora_A") {
            true => ([513, tensor.shape[1]], 513 * tensor.shape[1]),
            false => ([tensor.shape[0], 513], 513 * tensor.shape[0]),
        };
        *tensor = StoredTensor::from_f32(shape, &vec![0.5; length]);
    }
    let mut ends = adapter("plain");
    ends.config.target_modules = TargetModules::Pattern("all-linear".into());
    ends.tensors.insert(Adapter::key_a("lm_head"), StoredTensor::from_f32([4, 16], &[0.5; 64]));
    ends.tensors.insert(Adapter::key_b("lm_head"), StoredTensor::from_f32([24, 4], &[0.5; 96]));
    let cases = [
        (adapter("dora"), Reader::Vllm, "DoRA"),
        (adapter("dora"), Reader::LlamaCpp, "DoRA"),
        (wide, Reader::Vllm, "rank 513"),
        (ends, Reader::Vllm, "lm_head"),
    ];
    for (adapter, reader, part) in cases {
        let (guard, exported) = exported_for(adapter, reader);
        let faults = exported.unwrap_err().to_string();
        assert!(faults.contains(part) && faults.contains("`--merge`"), "{faults}");
        assert!(!guard.path().join("out").exists());
    }
}
