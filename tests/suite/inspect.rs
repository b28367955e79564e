//! `inspect`: numbers of models, adapters and checkpoints against numpy's, and paths that are none of these.

use serde_json::{Value, json};

use crate::support::Workplace;

fn fixture(name: &str) -> String {
    crate::fixtures::fixture(name).display().to_string()
}

fn close(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{found} is no number"));
    assert!((found - expected).abs() < 1e-9 * expected.abs().max(1.0), "{found} for {expected}");
}

fn module<'a>(object: &'a Value, path: &str) -> &'a Value {
    let modules = object["modules"].as_array().expect("modules");
    modules.iter().find(|module| module["path"] == path).unwrap_or_else(|| panic!("no {path}"))
}

/// Norms of numpy 2.4 on the factors that PEFT wrote, the update formed there.
#[test]
fn an_adapter_has_the_norms_of_numpy() {
    let place = Workplace::new();
    let object = place.trainer(&format!("inspect {} --json", fixture("adapters/wide"))).succeeds().json();
    assert_eq!(
        (&object["kind"], &object["config"]["r"], &object["dtypes"]),
        (&json!("adapter"), &json!(4), &json!(["F32"]))
    );
    assert_eq!(object["modules"].as_array().map(Vec::len), Some(14));
    let down = module(&object, "model.layers.0.mlp.down_proj");
    assert_eq!((&down["in"], &down["out"], &down["rank"]), (&json!(14), &json!(12), &json!(4)));
    close(&down["scale"], 2.0);
    close(&down["norm_a"], 1.1971893500280195);
    close(&down["norm_b"], 0.6042797617295446);
    close(&down["norm_update"], 0.7245928988957032);
    close(&module(&object, "model.layers.1.mlp.up_proj")["norm_update"], 0.8040342488263207);
    close(&object["norm_update"], 3.024705869199249);
    assert_eq!((&object["untrained"], &object["not_finite"]), (&json!([]), &json!([])));
    let text = place.trainer(&format!("inspect {}", fixture("adapters/wide"))).succeeds().stdout;
    for part in ["rank 4, alpha 8, scale alpha / rank", "14, 1.4 k values in F32", "0.7246", "norm 3.0247"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn two_adapters_have_the_distance_and_cosine_of_numpy() {
    let place = Workplace::new();
    let [first, second] = ["adapters/wide", "adapters/dora"].map(fixture);
    let object = place.trainer(&format!("inspect {first} --diff {second} --json")).succeeds().json();
    assert_eq!(object["config"], json!({"use_dora": [false, true]}));
    let keys = module(&object, "model.layers.0.self_attn.k_proj");
    close(&keys["norm_first"], 0.5149020091415938);
    close(&keys["norm_second"], 0.5538803251792009);
    close(&keys["distance"], 1.5692185705479869);
    close(&keys["cosine"], -0.14191471865140154);
    close(&object["all"]["distance"], 1.4144775278406883);
    close(&object["all"]["cosine"], -0.021826014401998984);
    let same = place.trainer(&format!("inspect {first} --diff {first} --json")).succeeds().json();
    close(&same["all"]["distance"], 0.0);
    close(&same["all"]["cosine"], 1.0);
    let text = place.trainer(&format!("inspect {first} --diff {second}")).succeeds().stdout;
    for part in ["|U - V| / |U|", "1.5692", "-0.1419", "`use_dora`: false -> true"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

/// Numpy's `scale * norm(B @ A)` of the fixture's `lora_embedding_A` and `lora_embedding_B`.
#[test]
fn an_adapter_on_an_embedding_has_the_norm_of_its_own_product() {
    let place = Workplace::new();
    let object = place.trainer(&format!("inspect {} --json", fixture("adapters/embeddings"))).succeeds().json();
    close(&module(&object, "model.embed_tokens")["norm_update"], 0.6355509100392943);
}

/// Modules that one side alone has count as changed by nothing on the other.
#[test]
fn modules_of_one_side_are_named() {
    let place = Workplace::new();
    let run = |name: &str, targets: &str| {
        let set = format!("--set adapter.targets={targets} --set output.dir={name} --set train.steps=2");
        place
            .trainer_with(&["run", "recipe.toml"].into_iter().chain(set.split(' ')).collect::<Vec<_>>(), &[])
            .succeeds();
    };
    run("one", "[\"q_proj\",\"v_proj\"]");
    run("two", "[\"q_proj\",\"k_proj\"]");
    let object = place.trainer("inspect one --diff two --json").succeeds().json();
    let names = |key: &str| object[key].as_array().expect("names").len();
    assert_eq!((names("only_first"), names("only_second"), names("modules")), (4, 4, 4));
    assert_eq!(object["only_first"][0], "model.layers.0.self_attn.v_proj");
    assert_eq!(object["config"]["target_modules"], json!([["q_proj", "v_proj"], ["k_proj", "q_proj"]]));
    let all = |key: &str| object["all"][key].as_f64().expect("a number");
    // |U - V|^2 is the sum over the shared modules, and of the others' own squares.
    let sum = |path: &str| {
        place.trainer(&format!("inspect {path} --json")).succeeds().json()["adapter"]["norm_update"].clone()
    };
    close(&sum("one"), all("norm_first"));
    close(&sum("two"), all("norm_second"));
}

/// Norms of numpy on the fixture's tensors.
#[test]
fn a_model_has_its_shape_types_and_norms() {
    let place = Workplace::new();
    let object = place.trainer(&format!("inspect {} --json", fixture("llama"))).succeeds().json();
    assert_eq!(
        (&object["architecture"], &object["tied"], &object["values"]),
        (&json!("llama"), &json!(false), &json!(3156))
    );
    assert_eq!(object["tensors"].as_array().map(Vec::len), Some(35));
    let tensor = |name: &str| {
        let all = object["tensors"].as_array().expect("tensors");
        all.iter().find(|tensor| tensor["name"] == name).cloned().unwrap_or_else(|| panic!("no {name}"))
    };
    close(&tensor("model.embed_tokens.weight")["norm"], 5.603093244273106);
    close(&tensor("lm_head.weight")["norm"], 5.692546041667414);
    let text = place.trainer(&format!("inspect {}", fixture("llama"))).succeeds().stdout;
    for part in ["llama, 2 layers, width 12", "a matrix of its own", "model.layers.0 ", "10.9256", "11.3707"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let tiny = place.trainer("inspect builtin:tiny").succeeds().stdout;
    assert!(tiny.contains("tied to the embedding"), "{tiny}");
    let file = place.trainer(&format!("inspect {}/model.safetensors", fixture("llama"))).succeeds().stdout;
    assert!(file.contains("35 tensors, 3.2 k BF16"), "{file}");
}

/// The fields of the fixtures' `config.json`, under what they do.
#[test]
fn a_model_shows_its_architecture() {
    let place = Workplace::new();
    let of = |name: &str| {
        let object = place.trainer(&format!("inspect {} --json", fixture(name))).succeeds().json();
        (object, place.trainer(&format!("inspect {}", fixture(name))).succeeds().stdout)
    };
    let (object, text) = of("gemma3");
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("gemma3/config.json")).expect("a file")).expect("JSON");
    for (field, own) in [
        ("architecture", "model_type"),
        ("layers", "num_hidden_layers"),
        ("hidden_size", "hidden_size"),
        ("intermediate_size", "intermediate_size"),
        ("heads", "num_attention_heads"),
        ("kv_heads", "num_key_value_heads"),
        ("head_dim", "head_dim"),
        ("vocabulary", "vocab_size"),
        ("tied", "tie_word_embeddings"),
        ("max_positions", "max_position_embeddings"),
        ("logit_cap", "final_logit_softcapping"),
        ("norm_epsilon", "rms_norm_eps"),
    ] {
        assert_eq!(object[field], config[own], "{field}");
    }
    assert_eq!(object["sliding_windows"], json!([5, null]));
    assert_eq!(object["rope"], json!({"theta": 1000.0, "width": 8, "scaling": "linear", "factor": 4.0}));
    assert_eq!(object["local_rope"], json!({"theta": 100.0, "width": 8, "scaling": "none"}));
    close(&object["embedding_scale"], 12f64.sqrt());
    close(&object["attention_scale"], 5f64.powf(-0.5));
    assert_eq!(object["parameters"], object["values"]);
    for part in [
        "attention    2 heads of 8, 1 for keys and values, norms on queries and keys (each head), scores times 0.447",
        "mlp          width 14, gated by gelu (tanh)",
        "norms        rms (1 + weight) before and after attention and mlp, epsilon 1e-5",
        "rope, global theta 1000, 8 values of a head, scaling linear factor 4.0",
        "rope, local  theta 100, 8 values of a head, scaling none",
        "windows      5 on layers 0\n",
        "soft caps    logits 4",
        "scales       embeddings times 3.464",
        "head         tied to the embedding",
        "model.layers.*.self_attn.q_proj.weight",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let row = text.lines().find(|line| line.starts_with("model.layers.*.self_attn.q_proj.weight")).expect("a row");
    assert_eq!(row.split_whitespace().skip(1).collect::<Vec<_>>(), ["[16,", "12]", "BF16", "2"]);
    let (object, text) = of("granite");
    let scales = ["embedding_scale", "residual_scale", "attention_scale", "logit_scale"];
    for (field, expected) in scales.into_iter().zip([3.0, 0.7, 0.4, 1.0 / 0.6]) {
        close(&object[field], expected);
    }
    assert_eq!((&object["rope"]["scaling"], &object["rope"]["beta_fast"]), (&json!("yarn"), &json!(2.0)));
    assert!(text.contains("windows      none, every layer sees all"), "{text}");
    let (object, text) = of("olmo");
    assert_eq!((&object["clip_qkv"], &object["norm"]), (&json!(0.9), &json!("layer (no weights)")));
    assert!(text.contains("cut off at 0.9"), "{text}");
    let (object, text) = of("qwen2");
    assert_eq!((&object["biases"]["qkv"], &object["sliding_windows"]), (&json!(true), &json!([null, 6])));
    assert!(text.contains("windows      6 on layers 1\n"), "{text}");
}

#[test]
fn a_run_shows_where_it_stands() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set objective.kind=cdiv --set adapter.rslora=true").succeeds();
    let object = place.trainer("inspect run --json").succeeds().json();
    assert_eq!((&object["kind"], &object["step"], &object["skipped"]), (&json!("checkpoint"), &json!(6), &json!(0)));
    assert_eq!(object["objective"]["kind"], "cdiv");
    close(&object["adapter"]["modules"][0]["scale"], 4.0);
    let values = object["adapter"]["values"].as_u64().expect("a count");
    for part in ["optimizer.first", "optimizer.second", "value"] {
        assert_eq!(object["training_state"][part], json!({"values": values, "bytes": 4 * values}), "{part}");
    }
    let text = place.trainer("inspect run/checkpoints/step-000002").succeeds().stdout;
    for part in ["step         2, 0 skipped", "objective    cdiv alpha 1.4", "alpha / sqrt(rank)", "untrained    none"]
    {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let full = place.trainer("run full.toml --set output.dir=full --set train.steps=1").succeeds();
    drop(full);
    let object = place.trainer("inspect full --json").succeeds().json();
    assert!(object["model"]["values"].as_u64().expect("a count") > 100_000);
}

/// B is zero before the first step: the module does nothing yet.
#[test]
fn modules_that_do_nothing_or_are_no_numbers_are_named() {
    let place = Workplace::new();
    let from = fixture("adapters/wide");
    let mut bytes = std::fs::read(format!("{from}/adapter_model.safetensors")).expect("the adapter");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let tensors: Value = serde_json::from_slice(&bytes[8..8 + header]).expect("a header");
    let mut fill = |name: &str, value: f32| {
        let offsets = &tensors[format!("base_model.model.{name}.weight")]["data_offsets"];
        let [start, end] = [0usize, 1].map(|i| 8 + header + offsets[i].as_u64().expect("an offset") as usize);
        bytes[start..end].as_chunks_mut::<4>().0.iter_mut().for_each(|four| *four = value.to_le_bytes());
    };
    fill("model.layers.1.mlp.up_proj.lora_B", 0.0);
    fill("model.layers.0.self_attn.q_proj.lora_A", f32::NAN);
    place.write("adapter/adapter_model.safetensors", &bytes);
    place.write("adapter/adapter_config.json", std::fs::read(format!("{from}/adapter_config.json")).expect("its keys"));
    let object = place.trainer("inspect adapter --json").succeeds().json();
    assert_eq!(object["untrained"], json!(["model.layers.1.mlp.up_proj"]));
    assert_eq!(object["not_finite"], json!(["model.layers.0.self_attn.q_proj"]));
    assert_eq!(module(&object, "model.layers.0.self_attn.q_proj")["norm_a"], Value::Null);
    let text = place.trainer("inspect adapter").succeeds().stdout;
    assert!(text.contains("untrained    model.layers.1.mlp.up_proj\n"), "{text}");
    assert!(text.contains("not finite   model.layers.0.self_attn.q_proj\n"), "{text}");
}

#[test]
fn what_is_nothing_is_refused_with_place_and_hint() {
    let place = Workplace::with_model();
    place.refuses("inspect nothing/here", &["nothing/here", "hint: "]);
    place.refuses("inspect rows.jsonl", &["rows.jsonl"]);
    place.refuses("inspect builtin:small", &["builtin model `small`", "hint: there is `builtin:tiny`"]);
    let adapter = fixture("adapters/wide");
    place.refuses(&format!("inspect model --diff {adapter}"), &["whole model", "model", "hint: give the folder"]);
    place.trainer("run recipe.toml --set train.steps=1").succeeds();
    place.refuses(&format!("inspect {adapter} --diff run"), &["the sides of this module are", "hint: "]);
    let whole = std::fs::read(format!("{adapter}/adapter_model.safetensors")).expect("the adapter");
    let config = std::fs::read(format!("{adapter}/adapter_config.json")).expect("its keys");
    place.write("cut/adapter_config.json", &config);
    for length in [0, 7, 9, whole.len() / 2, whole.len() - 1] {
        place.write("cut/adapter_model.safetensors", &whole[..length]);
        place.refuses("inspect cut", &["adapter_model.safetensors"]);
    }
    place.write("cut/adapter_model.safetensors", &whole);
    place
        .write("cut/adapter_config.json", b"{\"peft_type\": \"LORA\", \"r\": 18446744073709551615, \"lora_alpha\": 1}");
    place.refuses("inspect cut", &["rank"]);
}

/// Names and settings that a terminal would take for orders, in a model, an adapter and what is wrong with one.
#[test]
fn names_in_files_cannot_write_on_the_terminal() {
    let place = Workplace::new();
    let name = "a\u{1b}[2J\u{9b}31m\nb";
    let header = json!({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).to_string();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &1f32.to_le_bytes()].concat();
    place.write("model.safetensors", &file);
    let from = fixture("adapters/wide");
    let keys = std::fs::read_to_string(format!("{from}/adapter_config.json")).expect("its keys");
    let mut keys: Value = serde_json::from_str(&keys).expect("JSON");
    (keys["base_model_name_or_path"], keys["alpha_pattern"]["k\u{1b}.*"]) = (json!(name), json!(3));
    place.write("adapter/adapter_config.json", keys.to_string());
    let tensors = std::fs::read(format!("{from}/adapter_model.safetensors")).expect("its tensors");
    place.write("adapter/adapter_model.safetensors", tensors);
    let escaped = "a\\u{1b}[2J\\u{9b}31m\\nb";
    for path in ["model.safetensors", "adapter"] {
        let text = place.trainer(&format!("inspect {path}")).succeeds().stdout;
        assert!(text.contains(escaped) && text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
    // No module of an adapter is called so.
    place.write("adapter/adapter_model.safetensors", &file);
    let told = place.trainer("inspect adapter").fails(&["a\\u{1b}[2J"]).stderr;
    assert!(told.chars().all(|c| c == '\n' || !c.is_control()), "{told:?}");
}
