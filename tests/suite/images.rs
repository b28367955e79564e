//! Models with a part for images beside the decoder: the decoder is trained on text, and all else is left as it is.

use std::collections::BTreeMap;
use std::path::Path;

use backbone::{Config, ModelFiles};
use burn::tensor::DType;
use checkpoints::export::{Base, merged};
use checkpoints::{Adapter, StoredTensor, TargetModules, Weights};
use rand::{Rng, SeedableRng};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};

use crate::fixtures::{Expected, adapter, examples, fixture, largest_difference, load, logits};
use crate::support::Workplace;

const MODEL: &str = "gemma3_images";

/// Of each tensor its type, shape and bytes.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let parts = |tensor: &TensorView| (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec());
    file.iter().map(|(name, tensor)| (name.to_owned(), parts(&tensor))).collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).expect("a tensor")));
    std::fs::write(path, serialize(views, None).expect("a file")).expect("a written file");
}

/// What a file of before transformers 4.52 calls a part, and what it is called now.
const MOVED: [(&str, &str); 3] = [
    ("language_model.model.", "model.language_model."),
    ("vision_tower.vision_model.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
];

fn present(name: &str) -> String {
    let moved = MOVED.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
    moved.unwrap_or_else(|| panic!("{name}"))
}

/// The fixture under the present names, with its configuration as transformers writes it.
fn renamed(folder: &Path) {
    let former = tensors(&fixture(MODEL).join("model.safetensors"));
    let present: Tensors = former.into_iter().map(|(name, tensor)| (present(&name), tensor)).collect();
    std::fs::create_dir_all(folder).expect("a folder");
    write(&folder.join("model.safetensors"), &present);
    std::fs::copy(fixture(MODEL).join("full.json"), folder.join("config.json")).expect("a configuration");
}

#[test]
fn both_forms_of_a_model_are_the_same() {
    let place = tempfile::tempdir().expect("a folder");
    renamed(place.path());
    let config = |folder: &Path| ModelFiles::Folder(folder.into()).config().expect("a configuration");
    assert_eq!(config(place.path()), config(&fixture(MODEL)));
    let [former, present] = [&fixture(MODEL), place.path()].map(|folder| load(folder, false, DType::F32));
    let expected = Expected::of(MODEL).logits();
    for (row, expected) in examples().iter().zip(expected) {
        assert_eq!(logits(&former, &row.ids), logits(&present, &row.ids));
        assert!(largest_difference(&logits(&present, &row.ids), &expected) < 1e-4);
    }
}

/// Whatever the files call them, and in how many files they are.
#[test]
fn a_merge_leaves_all_else_and_every_name_as_it_is() {
    let place = tempfile::tempdir().expect("a folder");
    let [former, present, sharded] = ["former", "present", "sharded"].map(|name| place.path().join(name));
    renamed(&present);
    for folder in [&former, &sharded] {
        std::fs::create_dir(folder).expect("a folder");
        std::fs::copy(fixture(MODEL).join("config.json"), folder.join("config.json")).expect("a configuration");
    }
    let all = tensors(&fixture(MODEL).join("model.safetensors"));
    write(&former.join("model.safetensors"), &all);
    let (first, second): (Tensors, Tensors) = all.into_iter().partition(|(name, _)| name.contains("layers.0"));
    let shards = [("model-00001-of-00002.safetensors", first), ("model-00002-of-00002.safetensors", second)];
    let places = shards.iter().flat_map(|(file, tensors)| tensors.keys().map(move |name| (name.clone(), json!(file))));
    let index = json!({"metadata": {}, "weight_map": places.collect::<serde_json::Map<String, Value>>()});
    std::fs::write(sharded.join("model.safetensors.index.json"), index.to_string()).expect("an index");
    for (file, tensors) in &shards {
        write(&sharded.join(file), tensors);
    }
    for base in [former, present, sharded] {
        for name in ["preprocessor_config.json", "processor_config.json"] {
            std::fs::write(base.join(name), name).expect("a file");
        }
        let out = base.with_extension("merged");
        merged(&Base::open(&base).expect("a base"), &adapter("images"), &out, None).expect("a merge");
        let files = |folder: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(folder).expect("a folder");
            let mut names: Vec<String> =
                entries.map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(files(&base), files(&out));
        for name in files(&base) {
            if name.ends_with(".json") && !name.contains("index") {
                let [before, after] = [&base, &out].map(|folder| std::fs::read(folder.join(&name)).expect("a file"));
                assert!(before == after, "{name}");
            }
            if name.ends_with(".safetensors") {
                let [before, after] = [&base, &out].map(|folder| tensors(&folder.join(&name)));
                assert!(before.keys().eq(after.keys()), "{name}: {:?}", after.keys());
                for (tensor, held) in &before {
                    let adapted = tensor.contains("language_model") && tensor.contains("_proj");
                    assert_eq!(*held != after[tensor], adapted, "{tensor}");
                }
            }
        }
        let index = out.join("model.safetensors.index.json");
        if index.exists() {
            let written: Value = serde_json::from_slice(&std::fs::read(index).expect("a file")).expect("JSON");
            let before: Value =
                serde_json::from_slice(&std::fs::read(base.join("model.safetensors.index.json")).expect("a file"))
                    .expect("JSON");
            assert_eq!(written["weight_map"], before["weight_map"]);
        }
    }
}

/// The new head has the name that its file would give it, and both places of the configuration say that it is there.
#[test]
fn a_head_that_a_merge_unties_is_named_as_the_rest() {
    let place = tempfile::tempdir().expect("a folder");
    let present = place.path().join("present");
    renamed(&present);
    let mut adapter = adapter("images");
    adapter.tensors.retain(|key, _| key.contains("layers.0.self_attn.q_proj"));
    adapter.tensors.insert(Adapter::key_a("lm_head"), StoredTensor::from_f32([2, 8], &[0.5; 16]));
    adapter.tensors.insert(Adapter::key_b("lm_head"), StoredTensor::from_f32([32, 2], &[0.25; 64]));
    for (base, head) in [(fixture(MODEL), "language_model.lm_head.weight"), (present, "lm_head.weight")] {
        let out = place.path().join(head);
        merged(&Base::open(&base).expect("a base"), &adapter, &out, None).expect("a merge");
        let mut after = tensors(&out.join("model.safetensors"));
        assert!(after.remove(head).is_some(), "{:?}", after.keys());
        assert!(after.keys().eq(tensors(&base.join("model.safetensors")).keys()), "{:?}", after.keys());
        let config = std::fs::read_to_string(out.join("config.json")).expect("a configuration");
        let config: Value = serde_json::from_str(&config).expect("JSON");
        let tied = (&config["tie_word_embeddings"], &config["text_config"]["tie_word_embeddings"]);
        assert_eq!(tied, (&json!(false), &json!(false)));
        let mut beside = load(&base, false, DType::F32);
        beside.attach(&adapter, 0.0).expect("a fitting adapter");
        let row = &examples()[0].ids;
        // The merged head is rounded to bf16.
        let difference = largest_difference(&logits(&load(&out, false, DType::F32), row), &logits(&beside, row));
        assert!(difference < 0.05, "{difference}");
    }
}

/// The adapter of the fixture with other files: its configuration changed, and its keys.
fn rewritten(keys: &[(&str, Value)], rename: impl Fn(&str) -> String, more: &[(&str, f32)]) -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a folder");
    let source = fixture("adapters/images");
    let config = std::fs::read_to_string(source.join("adapter_config.json")).expect("a configuration");
    let mut config: Value = serde_json::from_str(&config).expect("JSON");
    for (key, value) in keys {
        config[*key] = value.clone();
    }
    std::fs::write(place.path().join("adapter_config.json"), config.to_string()).expect("a written file");
    let written = tensors(&source.join("adapter_model.safetensors"));
    let mut written: Tensors = written.into_iter().map(|(key, tensor)| (rename(&key), tensor)).collect();
    for (module, value) in more {
        for (key, shape) in [(Adapter::key_a(module), [2, 4]), (Adapter::key_b(module), [4, 2])] {
            let value = if key.contains("lora_A") { 0.5 } else { *value };
            written.insert(key, (Dtype::F32, shape.to_vec(), value.to_le_bytes().repeat(8)));
        }
    }
    write(&place.path().join("adapter_model.safetensors"), &written);
    place
}

#[test]
fn adapters_load_however_peft_was_told_to_leave_the_images_out() {
    let expected = Expected::of(MODEL).numbers("adapted");
    let projections = "(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)";
    let former = |key: &str| key.replace("model.language_model.", "language_model.model.");
    let same = str::to_owned;
    type Rename<'a> = &'a dyn Fn(&str) -> String;
    let pattern = json!(format!(r".*language_model.*\.{projections}$"));
    // As Unsloth writes it.
    let unsloth = json!(format!(
        r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?{projections}.*?)|(?:\bmodel\.layers\.[\d]{{1,}}\.(?:self_attn|mlp)\.(?:{projections}))"
    ));
    let left_out = json!(r".*\.(vision_tower|multi_modal_projector)\..*");
    let cases: [(Value, Value, Rename); 5] = [
        (pattern.clone(), Value::Null, &same),
        (unsloth, Value::Null, &same),
        (json!(["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]), left_out, &same),
        (pattern, Value::Null, &former),
        (json!("language_model.*_proj"), json!("vision_tower.*"), &former),
    ];
    for (targets, excluded, rename) in cases {
        let place = rewritten(&[("target_modules", targets.clone()), ("exclude_modules", excluded)], rename, &[]);
        let adapter = Adapter::read(place.path()).unwrap_or_else(|faults| panic!("{targets}: {faults}"));
        let mut decoder = load(&fixture(MODEL), false, DType::F32);
        decoder.attach(&adapter, 0.0).unwrap_or_else(|faults| panic!("{targets}: {faults}"));
        let difference = largest_difference(&logits(&decoder, &examples()[1].ids), &expected);
        assert!(difference < 1e-4, "{targets}: {difference}");
    }
}

/// PEFT finds the projections of the images by the same names; text never trains them.
#[test]
fn modules_of_the_images_are_left_out_where_they_do_nothing_and_refused_by_name_where_they_do() {
    let queries = "model.vision_tower.encoder.layers.0.self_attn.q_proj";
    let attach = |value: f32| {
        let place = rewritten(&[("exclude_modules", Value::Null)], str::to_owned, &[(queries, value)]);
        let adapter = Adapter::read(place.path()).unwrap_or_else(|faults| panic!("{faults}"));
        let mut decoder = load(&fixture(MODEL), false, DType::F32);
        decoder.attach(&adapter, 0.0).map(|()| decoder)
    };
    let mut idle = attach(0.0).unwrap_or_else(|faults| panic!("{faults}"));
    let expected = Expected::of(MODEL).numbers("adapted");
    assert!(largest_difference(&logits(&idle, &examples()[1].ids), &expected) < 1e-4);
    assert_eq!(idle.adapter_tensors().len(), 28);
    let Err(faults) = attach(0.25) else { panic!("an adapter of the images is taken") };
    assert!(faults.to_string().contains(queries) && faults.to_string().contains("PEFT"), "{faults}");
}

#[test]
fn what_an_adapter_says_of_itself_leaves_the_images_alone_in_peft() {
    let place = Workplace::new();
    random_model(&place);
    let written = |run: &str| {
        let config = place.json(&format!("{run}/checkpoints/step-000002/adapter_config.json"));
        (config["target_modules"].clone(), config["exclude_modules"].clone())
    };
    let excluded = json!(r".*\.(vision_tower|multi_modal_projector)\..*");
    let all = json!(["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]);
    let run = "run recipe.toml --set model.path=model --set train.steps=2";
    place.trainer(run).succeeds();
    assert_eq!(written("run"), (all.clone(), excluded.clone()));
    let one = "--set output.dir=one --set adapter.targets=[\"layers.1.self_attn.q_proj\",\"lm_head\"]";
    place.trainer(&format!("{run} {one}")).succeeds();
    let paths = json!(["model.language_model.layers.1.self_attn.q_proj", "lm_head"]);
    assert_eq!(written("one"), (paths, excluded.clone()));
    let keys: Vec<String> =
        tensors(&place.path("one/checkpoints/step-000002/adapter_model.safetensors")).into_keys().collect();
    let module = "base_model.model.model.language_model.layers.1.self_attn.q_proj";
    assert!(keys.contains(&format!("{module}.lora_A.weight")), "{keys:?}");

    // An adapter that goes on from one with idle modules of the images leaves them out.
    let mut adapter = Adapter::read(&place.path("run/checkpoints/step-000002")).unwrap_or_else(|f| panic!("{f}"));
    let queries = "model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj";
    adapter.tensors.insert(Adapter::key_a(queries), StoredTensor::from_f32([4, 4], &[0.5; 16]));
    adapter.tensors.insert(Adapter::key_b(queries), StoredTensor::from_f32([4, 4], &[0.0; 16]));
    adapter.config.exclude_modules = None;
    adapter.config.target_modules = TargetModules::Names(vec!["q_proj".into()]);
    let of = |tensor: &StoredTensor| (Dtype::F32, tensor.shape.clone(), tensor.bytes.clone());
    let held = adapter.tensors.iter().map(|(key, tensor)| (key.clone(), of(tensor))).collect();
    std::fs::create_dir(place.path("idle")).expect("a folder");
    write(&place.path("idle/adapter_model.safetensors"), &held);
    let mut config = adapter.config.to_json();
    config["target_modules"] = all.clone();
    place.write("idle/adapter_config.json", config.to_string());
    let recipe = place.text("recipe.toml").replace("rank = 4\nalpha = 8", "init_from = \"idle\"");
    place.write("recipe.toml", recipe);
    place.trainer(&format!("{run} --set output.dir=next")).succeeds().says(&[
        "left out of the adapter",
        "1 modules",
        queries,
    ]);
    assert_eq!(written("next"), (all, excluded));
    place
        .trainer("check recipe.toml --set model.path=model --set output.dir=last")
        .succeeds()
        .says(&["left out of the adapter"]);

    // PEFT reads it as it is; others have no such modules in the part for text.
    let of_images = |folder: &str| {
        let keys = tensors(&place.path(&format!("{folder}/adapter_model.safetensors"))).into_keys();
        keys.filter(|key| key.contains("vision_tower")).count()
    };
    place.trainer("export idle --out whole").succeeds();
    place.trainer("export idle --out text --for llama.cpp").succeeds();
    assert_eq!((of_images("whole"), of_images("text")), (2, 0));
    adapter.tensors.insert(Adapter::key_b(queries), StoredTensor::from_f32([4, 4], &[0.25; 16]));
    let held = adapter.tensors.iter().map(|(key, tensor)| (key.clone(), of(tensor))).collect();
    write(&place.path("idle/adapter_model.safetensors"), &held);
    for set in ["--for vllm", "--for llama.cpp", "--merge"] {
        place.refuses(&format!("export idle --out other {set}"), &[queries, "not a part for text", "hint: "]);
    }
}

/// A model in `model/` with the tokenizer of the embedded one, named as published models are.
fn random_model(place: &Workplace) {
    let (vocabulary, hidden, inner) = (768, 16, 24);
    let config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text", "vocab_size": vocabulary, "hidden_size": hidden, "head_dim": 4,
            "intermediate_size": inner, "num_hidden_layers": 2, "sliding_window": 6, "sliding_window_pattern": 2,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "max_position_embeddings": 256,
        },
        "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 4},
        "eos_token_id": 3,
    });
    place.write("model/config.json", config.to_string());
    let (queries, keys) = (32, 16);
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("language_model.model.embed_tokens.weight".into(), vec![vocabulary, hidden]),
        ("language_model.model.norm.weight".into(), vec![hidden]),
        ("multi_modal_projector.mm_input_projection_weight".into(), vec![4, hidden]),
        ("vision_tower.vision_model.embeddings.patch_embedding.weight".into(), vec![4, 3, 2, 2]),
        ("vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight".into(), vec![4, 4]),
    ];
    let norms = ["input", "post_attention", "pre_feedforward", "post_feedforward"];
    for layer in 0..2 {
        let name = |part: &str| format!("language_model.model.layers.{layer}.{part}.weight");
        shapes.extend(norms.map(|norm| (name(&format!("{norm}_layernorm")), vec![hidden])));
        shapes.extend(["q", "k"].map(|norm| (name(&format!("self_attn.{norm}_norm")), vec![4])));
        shapes.push((name("self_attn.q_proj"), vec![queries, hidden]));
        shapes.extend(["k", "v"].map(|of| (name(&format!("self_attn.{of}_proj")), vec![keys, hidden])));
        shapes.push((name("self_attn.o_proj"), vec![hidden, queries]));
        shapes.extend(["gate", "up"].map(|of| (name(&format!("mlp.{of}_proj")), vec![inner, hidden])));
        shapes.push((name("mlp.down_proj"), vec![hidden, inner]));
    }
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let mut values = |count: usize| -> Vec<u8> {
        (0..count).flat_map(|_| random.random_range(-0.3f32..0.3).to_le_bytes()).collect()
    };
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let bytes = values(shape.iter().product());
        (name, (Dtype::F32, shape, bytes))
    };
    write(&place.path("model/model.safetensors"), &shapes.into_iter().map(tensor).collect());
    for (file, text) in datasets::builtin::tokenizer_files() {
        place.write(&format!("model/{file}"), text);
    }
    place.write("model/preprocessor_config.json", "{}");
}

/// What is not of the decoder, with all its bytes.
fn beside(place: &Workplace, model: &str) -> Tensors {
    let mut all = tensors(&place.path(&format!("{model}/model.safetensors")));
    all.retain(|name, _| !name.contains("language_model"));
    all
}

#[test]
fn every_command_takes_such_a_model() {
    let place = Workplace::new();
    random_model(&place);
    let set = "recipe.toml --set model.path=model --set train.steps=2";
    place.trainer(&format!("check {set}")).succeeds();
    let seen = place.trainer("inspect model").succeeds().stdout;
    assert!(seen.contains("gemma3, 2 layers") && seen.contains("model.vision_tower"), "{seen}");
    place.trainer("bench --model model --batch 1 --seq 16 --rank 2 --steps 2 --json").succeeds();
    place.write("targets.jsonl", r#"{"prompt": "a fox", "targets": ["{1}", "{2}"]}"#);
    place.trainer("eval model --data targets.jsonl --n 4").succeeds();
    let sample = |model: &str| {
        let arguments = ["sample", model, "--prompt", "Tell me", "--temperature", "0", "--max-tokens", "8"];
        place.trainer_with(&arguments, &[]).succeeds().json()["text"].clone()
    };
    let kinds = [
        ("lora", ""),
        ("dora", "--set adapter.kind=dora"),
        ("pissa", "--set adapter.init=pissa"),
        ("int8", "--set model.quantize=int8"),
        ("nf4", "--set model.quantize=nf4"),
    ];
    for (name, kind) in kinds {
        let rate = "--set optimizer.learning_rate=2e-2";
        place.trainer(&format!("run {set} {kind} {rate} --set output.dir={name}")).succeeds();
        place.trainer(&format!("export {name} --out {name}_adapter")).succeeds();
        let said = place.trainer(&format!("export {name} --out {name}_merged --merge")).succeeds();
        let difference = said.number_after("adapter against merged: ");
        assert!(difference < 1e-4, "{name}: {difference}");
        assert_eq!(sample(name), sample(&format!("{name}_merged")), "{name}");
        assert_eq!(sample(name), sample(&format!("{name}_adapter")), "{name}");
        assert!(beside(&place, &format!("{name}_merged")) == beside(&place, "model"), "{name}");
        assert!(place.path(&format!("{name}_merged/preprocessor_config.json")).exists());
    }
    assert_ne!(sample("lora"), sample("model"), "the adapter changes nothing");
}

/// A model of which every weight was trained is whole again when it is exported.
#[test]
fn every_weight_of_the_decoder_is_trained_and_the_rest_comes_along() {
    let place = Workplace::new();
    random_model(&place);
    place.trainer("run full.toml --set model.path=model --set train.steps=2").succeeds();
    place.trainer("export run --out whole").succeeds();
    assert!(beside(&place, "whole") == beside(&place, "model"));
    let [before, after] = ["model", "whole"].map(|folder| tensors(&place.path(&format!("{folder}/model.safetensors"))));
    assert!(before.keys().eq(after.keys()), "{:?}", after.keys());
    let name = "language_model.model.layers.0.self_attn.q_proj.weight";
    assert!(before[name] != after[name]);
    assert!(place.json("whole/config.json")["vision_config"].is_object());
    place.trainer("sample whole --prompt x --max-tokens 2").succeeds();
}

#[test]
fn two_names_of_one_tensor_are_refused() {
    let place = tempfile::tempdir().expect("a folder");
    let mut all = tensors(&fixture(MODEL).join("model.safetensors"));
    let norm = all["language_model.model.norm.weight"].clone();
    all.insert("model.language_model.norm.weight".into(), norm);
    write(&place.path().join("model.safetensors"), &all);
    let Err(fault) = Weights::open(place.path()) else { panic!("both are taken") };
    assert!(fault.message.contains("two names of one tensor"), "{}", fault.message);
}

/// The published models of 4B and 27B, as `config.json` has them, with what transformers 5.23 makes of them.
#[test]
fn what_published_files_leave_out_is_as_in_transformers() {
    let of = |text: &str| {
        let text = format!(
            r#"{{"model_type": "gemma3", "image_token_index": 262144, "boi_token_index": 255999, "eoi_token_index": 256000,
            "mm_tokens_per_image": 256, "initializer_range": 0.02, "eos_token_id": [1, 106], "text_config": {text},
            "vision_config": {{"hidden_size": 1152, "model_type": "siglip_vision_model", "vision_use_head": false}}}}"#
        );
        Config::parse(&text, "c").unwrap_or_else(|fault| panic!("{fault}"))
    };
    let small =
        of(r#"{"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}"#);
    assert_eq!(small.parameters(), 3_880_263_168);
    assert_eq!((small.num_attention_heads, small.num_key_value_heads, small.head_dim), (8, 4, 256));
    assert_eq!((small.vocab_size, small.max_position_embeddings, small.tie_word_embeddings), (262_208, 131_072, true));
    assert_eq!((small.attention_scale, small.norm_epsilon, small.logit_cap), (Some(0.0625), 1e-6, None));
    let local = small.local_rope.as_ref().expect("local layers");
    assert_eq!((small.rope.theta, local.theta), (1e6, 1e4));
    let global: Vec<usize> = (0..34).filter(|layer| small.sliding_windows[*layer].is_none()).collect();
    assert_eq!((global, small.sliding_windows[0]), (vec![5, 11, 17, 23, 29], Some(1024)));
    let large = of(r#"{"head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504, "model_type": "gemma3_text",
        "num_attention_heads": 32, "num_hidden_layers": 62, "num_key_value_heads": 16, "query_pre_attn_scalar": 168,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}"#);
    assert_eq!(large.parameters(), 27_009_346_304);
    assert_eq!(of("{}").parameters(), 2_628_658_432);
}

#[test]
fn what_is_not_understood_is_refused_by_name_wherever_it_stands() {
    let message = |top: &str, text: &str| {
        let text = format!(r#"{{"model_type": "gemma3" {top}, "text_config": {{"num_hidden_layers": 2 {text}}}}}"#);
        Config::parse(&text, "c").expect_err(&text).to_string()
    };
    for (top, text, expected) in [
        (r#", "hidden_size": 64"#, "", "the field `hidden_size`"),
        (r#", "quantization_config": {}"#, "", "`quantization_config`"),
        (r#", "vision_config": null, "tie_word_embeddings": "no""#, "", "`tie_word_embeddings` must be true or false"),
        (r#", "tie_word_embeddings": true"#, r#", "tie_word_embeddings": false"#, "that of `text_config` is false"),
        ("", r#", "use_bidirectional_attention": true"#, "`text_config.use_bidirectional_attention`"),
        ("", r#", "attn_logit_softcapping": 50.0"#, "`text_config.attn_logit_softcapping`"),
        ("", r#", "final_logit_softcapping": 30.0"#, "`text_config.final_logit_softcapping` is 30"),
        ("", r#", "hidden_size": 0"#, "`text_config.hidden_size` must be at least 1"),
        ("", r#", "hidden_activation": "silu""#, "`text_config.hidden_activation` is `silu`"),
        ("", r#", "model_type": "llama""#, "`text_config.model_type`"),
    ] {
        let found = message(top, text);
        assert!(found.contains(expected), "{found}");
    }
    assert!(
        Config::parse(r#"{"model_type": "gemma3", "text_config": 3}"#, "c")
            .expect_err("no object")
            .message
            .contains("`text_config` must be an object")
    );
}
