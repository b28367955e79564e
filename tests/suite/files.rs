//! The contract: names and keys that other tools read.

use std::collections::BTreeSet;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::Workplace;

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_run_leaves_the_files_of_the_contract() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set auxiliary=[{kind=\"mtp\"}]").succeeds();
    let files: BTreeSet<String> =
        place.tree("run").into_keys().map(|path| path.to_string_lossy().trim_end_matches('/').to_owned()).collect();
    let mut expected: BTreeSet<String> =
        ["recipe.toml", "metrics.jsonl", "report.html", "checkpoints"].map(in_run).into();
    expected.extend(["checkpoints/latest", "checkpoints/best"].map(in_run));
    for step in ["000002", "000004", "000006"] {
        let folder = format!("run/checkpoints/step-{step}");
        let names = [
            "adapter_model.safetensors",
            "adapter_config.json",
            "training_state.safetensors",
            "state.json",
            "MANIFEST.json",
        ];
        expected.extend(names.map(|name| format!("{folder}/{name}")));
        expected.insert(folder);
    }
    expected.insert(in_run(".lock"));
    let rest: Vec<&String> = files.difference(&expected).collect();
    assert_eq!(expected.difference(&files).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert!(rest[0].contains("events.out.tfevents"), "{rest:?}");
    assert!(place.read(rest[0]).len() > 500, "the events of six steps");
    let report = place.text("run/report.html");
    assert!(report.to_lowercase().starts_with("<!doctype html>") && report.contains("learning_rate"));
}

fn in_run(name: &str) -> String {
    format!("run/{name}")
}

#[test]
fn metrics_have_the_keys_of_the_contract() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set auxiliary=[{kind=\"mtp\"}] --set eval.every=3").succeeds();
    let shared: BTreeSet<&str> = [
        "step",
        "split",
        "loss",
        "nll",
        "entropy",
        "grad_norm",
        "lr",
        "tokens",
        "tokens_real",
        "tokens_loss",
        "seconds",
    ]
    .into();
    let lines = place.metrics("run");
    let order: Vec<(u64, &str)> = lines
        .iter()
        .map(|line| (line["step"].as_u64().expect("a step"), line["split"].as_str().expect("a word")))
        .collect();
    let expected = [
        (0, "eval"),
        (1, "train"),
        (2, "train"),
        (3, "train"),
        (3, "eval"),
        (4, "train"),
        (5, "train"),
        (6, "train"),
        (6, "eval"),
    ];
    assert_eq!(order, expected);
    for line in &lines {
        let train = line["split"] == "train";
        let mut expected = shared.clone();
        if train {
            expected.extend(["objective", "mtp"]);
            assert!(line["grad_norm"].as_f64().expect("a number") > 0.0);
            assert_eq!(line["lr"], 5e-3);
            assert_eq!(line["objective"]["weight_mean"], 1.0);
        }
        assert_eq!(keys(line), expected);
        let count = |key: &str| line[key].as_u64().expect("a count");
        assert!(count("tokens") >= count("tokens_real") && count("tokens_real") > count("tokens_loss"), "{line}");
        assert!(line["entropy"].as_f64().expect("a number") > 0.0);
    }
}

#[test]
fn a_manifest_has_the_size_and_the_checksum_of_every_file() {
    let place = Workplace::new();
    for (run, recipe) in [("lora", "recipe.toml"), ("full", "full.toml")] {
        place.trainer(&format!("run {recipe} --set train.steps=2 --set output.dir={run}")).succeeds();
        let folder = format!("{run}/checkpoints/step-000002");
        let manifest = place.json(&format!("{folder}/MANIFEST.json"));
        assert_eq!(manifest["step"], 2);
        let listed = manifest["files"].as_object().expect("files");
        let mut there: Vec<String> =
            place.tree(&folder).keys().map(|path| path.file_name().expect("a name").to_string_lossy().into()).collect();
        there.retain(|name| name != "MANIFEST.json");
        assert_eq!(listed.keys().cloned().collect::<BTreeSet<_>>(), there.into_iter().collect());
        assert_eq!(listed.contains_key("model.safetensors"), run == "full");
        assert_eq!(listed.contains_key("adapter_model.safetensors"), run == "lora");
        for (name, sum) in listed {
            let bytes = place.read(&format!("{folder}/{name}"));
            let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(
                (sum["size"].as_u64(), sum["sha256"].as_str()),
                (Some(bytes.len() as u64), Some(&*digest)),
                "{name}"
            );
        }
    }
}

#[test]
fn a_state_says_where_the_run_stands() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=2").succeeds();
    let state = place.json("run/checkpoints/step-000002/state.json");
    assert_eq!((&state["step"], &state["skipped"]), (&2.into(), &0.into()));
    assert_eq!(state["recipe"], place.text("run/recipe.toml"));
    assert_eq!(state["train_fingerprint"].as_str().map(str::len), Some(64));
    assert_eq!(state["best"][0], 2);
    let evaluation = place.metrics("run").pop().expect("the last evaluation");
    assert_eq!(state["best"][1], evaluation["loss"]);
}

#[test]
fn an_adapter_is_described_as_peft_describes_it() {
    let place = Workplace::new();
    let set = "--set adapter.rslora=true --set adapter.dropout=0.1 --set adapter.targets=[\"q_proj\",\"v_proj\"]";
    place.trainer(&format!("run recipe.toml --set train.steps=1 {set}")).succeeds();
    let config = place.json("run/checkpoints/step-000001/adapter_config.json");
    assert_eq!((&config["peft_type"], &config["task_type"]), (&"LORA".into(), &"CAUSAL_LM".into()));
    assert_eq!((config["r"].as_u64(), config["lora_alpha"].as_f64()), (Some(4), Some(8.0)));
    assert_eq!((config["use_rslora"].as_bool(), config["lora_dropout"].as_f64()), (Some(true), Some(0.1)));
    assert_eq!(config["base_model_name_or_path"], "builtin:tiny");
    let mut targets: Vec<&str> =
        config["target_modules"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    targets.sort_unstable();
    assert_eq!(targets, ["q_proj", "v_proj"]);
    let bytes = place.read("run/checkpoints/step-000001/adapter_model.safetensors");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut names = file.names();
    names.sort_unstable();
    assert_eq!(names.len(), 4 * 2 * 2, "layers, modules, factors");
    assert_eq!(names[0], "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
    assert_eq!(file.tensor(names[0]).expect("a tensor").shape(), [4, 128]);
}

#[test]
fn every_b_has_moved_after_the_first_step() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=1").succeeds();
    let bytes = place.read("run/checkpoints/step-000001/adapter_model.safetensors");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let b: Vec<_> = file.tensors().into_iter().filter(|(name, _)| name.contains("lora_B")).collect();
    assert_eq!(b.len(), 4 * 7);
    for (name, tensor) in b {
        assert!(tensor.data().iter().any(|byte| *byte != 0), "{name} is zero");
    }
}

#[test]
fn the_recipe_of_a_run_makes_the_same_run_again() {
    let place = Workplace::new();
    let set =
        "--set adapter.dropout=0.1 --set objective.kind=cdiv --set schedule.kind=cosine --set schedule.warmup=0.3";
    place.trainer(&format!("run recipe.toml {set}")).succeeds();
    place.trainer("run run/recipe.toml --set output.dir=again").succeeds();
    assert_eq!(place.timeless("run"), place.timeless("again"));
    let adapter = |run: &str| place.read(&format!("{run}/checkpoints/step-000006/adapter_model.safetensors"));
    assert!(adapter("run") == adapter("again"));
    let recipe = place.text("again/recipe.toml");
    assert_eq!(recipe.replace("\"again\"", "\"run\""), place.text("run/recipe.toml"));
}

#[test]
fn the_latest_checkpoints_and_the_best_one_stay() {
    let place = Workplace::new();
    // The first step has the rate zero and that of the second destroys the model: the best evaluation is the first.
    let rate = "--set train.steps=2 --set optimizer.learning_rate=100 --set schedule.warmup=1";
    let set = format!("--set checkpoint.every=1 --set checkpoint.keep=1 --set eval.every=1 {rate}");
    place.trainer(&format!("run recipe.toml {set}")).succeeds();
    let evaluations: Vec<(u64, f64)> = (place.metrics("run").iter())
        .filter(|line| line["split"] == "eval" && line["step"] != 0)
        .map(|line| (line["step"].as_u64().expect("a step"), line["loss"].as_f64().expect("a loss")))
        .collect();
    let best = evaluations.iter().min_by(|a, b| a.1.total_cmp(&b.1)).expect("evaluations").0;
    assert_eq!(best, 1, "{evaluations:?}");
    assert_eq!(place.text("run/checkpoints/best"), format!("step-{best:06}"));
    assert_eq!(place.text("run/checkpoints/latest"), "step-000002");
    let folders: Vec<String> = std::fs::read_dir(place.path("run/checkpoints"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("step-"))
        .collect();
    assert_eq!(
        folders.iter().cloned().collect::<BTreeSet<_>>(),
        [format!("step-{best:06}"), "step-000002".into()].into()
    );
}
