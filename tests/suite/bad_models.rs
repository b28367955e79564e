//! Models and adapters that are broken, hostile or of another kind: named, never a panic, and nothing written.

use serde_json::{Value, json};

use crate::support::Workplace;

const RUN: &str = "run recipe.toml --set model.path=model";
const CHECK: &str = "check recipe.toml --set model.path=model";

/// `model/config.json` with one value changed.
fn configure(place: &Workplace, key: &str, value: Value) {
    place.model("model");
    let mut config = place.json("model/config.json");
    config[key] = value;
    place.write("model/config.json", config.to_string());
}

/// A file of safetensors with this header in front of `data`.
fn safetensors(header: &Value, data: usize) -> Vec<u8> {
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn a_configuration_that_does_not_fit_the_weights_is_refused() {
    let place = Workplace::new();
    let cases: [(&str, Value, &[&str]); 11] = [
        ("hidden_size", 64.into(), &["model.", "shape", "hint: "]),
        ("num_hidden_layers", 5.into(), &["model.layers.4.", "missing", "hint: "]),
        ("num_key_value_heads", 4.into(), &["k_proj", "shape"]),
        ("vocab_size", 4096.into(), &["embed_tokens", "shape"]),
        ("vocab_size", 100.into(), &["768 tokens", "100 rows", "hint: "]),
        ("tie_word_embeddings", false.into(), &["lm_head", "missing"]),
        ("num_attention_heads", 0.into(), &["model/config.json", "num_attention_heads"]),
        ("hidden_size", json!(-128), &["model/config.json", "hidden_size"]),
        ("hidden_size", json!(1u64 << 60), &["model/config.json"]),
        ("intermediate_size", json!(u64::MAX), &["error: "]),
        ("num_hidden_layers", json!(1u64 << 40), &["model/config.json"]),
    ];
    for (key, value, expected) in cases {
        configure(&place, key, value);
        place.refuses(RUN, expected);
        // Names and shapes are in the headers: nothing has to be loaded to compare them.
        place.refuses(CHECK, expected);
    }
    configure(&place, "model_type", "qwen2".into());
    place.refuses(CHECK, &["q_proj.bias", "missing", "hint: "]);
    configure(&place, "num_hidden_layers", 1.into());
    place.refuses(CHECK, &["model.layers.1.", "no place", "hint: "]);
}

#[test]
fn an_architecture_that_is_not_known_is_refused() {
    let place = Workplace::new();
    let cases: [(&str, Value, &[&str]); 7] = [
        ("model_type", "lama".into(), &["model/config.json", "unknown architecture `lama`", "nearest is `llama`"]),
        ("model_type", "mixtral".into(), &["unknown architecture `mixtral`", "hint: "]),
        ("model_type", "gemma3".into(), &["model/config.json", "is not understood"]),
        ("model_type", Value::Null, &["model/config.json", "model_type", "hint: "]),
        ("hidden_act", "gelu".into(), &["hidden_act", "gelu"]),
        ("rope_scaling", json!({"rope_type": "yarns", "factor": 2.0}), &["`yarns`", "yarn,"]),
        ("attn_logit_softcapping", 50.0.into(), &["attn_logit_softcapping", "hint: "]),
    ];
    for (key, value, expected) in cases {
        configure(&place, key, value);
        place.refuses(RUN, expected);
    }
    place.write("model/config.json", "{");
    place.refuses(RUN, &["model/config.json", "not valid JSON"]);
}

#[test]
fn a_folder_without_its_files_is_refused() {
    let place = Workplace::new();
    for (file, expected) in
        [("config.json", "config.json"), ("model.safetensors", "model"), ("tokenizer.json", "tokenizer.json")]
    {
        place.model("model");
        std::fs::remove_file(place.path(&format!("model/{file}"))).expect("the file");
        place.refuses(RUN, &[expected, "hint: "]);
    }
    place.refuses("run recipe.toml --set model.path=./nowhere", &["nowhere", "hint: "]);
    place.refuses("run recipe.toml --set model.path=recipe.toml", &["recipe.toml"]);
    place.refuses("run recipe.toml --set model.path=builtin:tinny", &["no builtin model", "builtin:tiny"]);
    // The hub is not asked when the user says so.
    place.refuses("run recipe.toml --set model.path=org/name", &["org/name", "hint: "]);
}

#[test]
fn what_stands_on_a_base_is_no_base() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set output.dir=tuned --set train.steps=1").succeeds();
    place.trainer("export tuned --out adapter").succeeds();
    for path in ["tuned", "tuned@latest", "tuned/checkpoints/step-000001", "adapter"] {
        let hint = format!("`model.path` is its base (`builtin:tiny`), and `adapter.init_from = \"{path}\"` goes on");
        let check = format!("check recipe.toml --set model.path={path}");
        place.refuses(&check, &[&format!("`{path}` is "), "expected a whole model", "model.path = ", &hint]);
    }
    // What the hint says works.
    let recipe = place.text("recipe.toml");
    place.write("from.toml", recipe.replace("rank = 4\nalpha = 8", "init_from = \"adapter\""));
    place.trainer("check from.toml").succeeds();
    place.trainer("run full.toml --set output.dir=whole --set train.steps=1").succeeds();
    place.refuses("check recipe.toml --set model.path=whole", &["a run of this program", "trainer export whole --out"]);
    place.trainer("export whole --out model").succeeds();
    place.trainer("check recipe.toml --set model.path=model").succeeds();
}

#[test]
fn a_broken_tokenizer_is_refused() {
    let place = Workplace::with_model();
    let good = place.text("model/tokenizer.json");
    place.write("model/tokenizer.json", &good[..good.len() / 2]);
    place.refuses(RUN, &["model/tokenizer.json", "hint: "]);
    place.write("model/tokenizer.json", "{}");
    place.refuses(RUN, &["model/tokenizer.json", "hint: "]);
    // Added tokens may lie past the end of the embedding, as long as no text holds one.
    let mut tokenizer: Value = serde_json::from_str(&good).expect("JSON");
    let added = tokenizer["added_tokens"].as_array_mut().expect("a list");
    let mut extra = added[0].clone();
    extra["id"] = 768.into();
    extra["content"] = "<|extra|>".into();
    added.push(extra);
    place.write("model/tokenizer.json", tokenizer.to_string());
    place.trainer(CHECK).succeeds();
    let rows = place.text("rows.jsonl");
    place.write("rows.jsonl", format!("{rows}{{\"prompt\": \"a\", \"completion\": \"<|extra|>\"}}\n"));
    place.refuses(RUN, &["`<|extra|>`", "768 rows", "hint: "]);
    place.refuses("sample model --prompt <|extra|>", &["`<|extra|>`", "768 rows", "hint: "]);
    place.write("rows.jsonl", rows);
    // Words of the vocabulary itself may not.
    let words = tokenizer["model"]["vocab"].as_object_mut().expect("words");
    words.insert("zebra".into(), 769.into());
    place.write("model/tokenizer.json", tokenizer.to_string());
    place.refuses(RUN, &["770 tokens", "768 rows", "hint: "]);
}

#[test]
fn weights_that_are_cut_or_hostile_are_refused() {
    let place = Workplace::with_model();
    let whole = place.read("model/model.safetensors");
    for length in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        place.write("model/model.safetensors", &whole[..length]);
        place.refuses(RUN, &["model.safetensors", "hint: "]);
    }
    let tensor = |dtype: &str, shape: Value, from: u64, to: u64| json!({"dtype": dtype, "shape": shape, "data_offsets": [from, to]});
    let embedding = "model.embed_tokens.weight";
    let hostile: [(&str, Vec<u8>); 9] = [
        ("a header longer than the file", [u64::MAX.to_le_bytes().to_vec(), vec![b'{'; 64]].concat()),
        ("a header longer than memory", [(1u64 << 40).to_le_bytes().to_vec(), vec![b'{'; 64]].concat()),
        ("a header that is no JSON", [16u64.to_le_bytes().to_vec(), vec![0xff; 64]].concat()),
        (
            "overlapping tensors",
            safetensors(&json!({"a": tensor("F32", json!([4]), 0, 16), "b": tensor("F32", json!([4]), 8, 24)}), 24),
        ),
        ("offsets past the end", safetensors(&json!({"a": tensor("F32", json!([1 << 20]), 0, 1 << 22)}), 16)),
        ("offsets that run backwards", safetensors(&json!({"a": tensor("F32", json!([4]), 16, 0)}), 16)),
        (
            "a shape whose product overflows",
            safetensors(&json!({embedding: tensor("F32", json!([1u64 << 33, 1u64 << 33]), 0, 16)}), 16),
        ),
        (
            "a shape that is not its bytes",
            safetensors(&json!({embedding: tensor("F32", json!([768, 128]), 0, 16)}), 16),
        ),
        ("an unknown type", safetensors(&json!({embedding: tensor("F99", json!([768, 128]), 0, 16)}), 16)),
    ];
    for (what, bytes) in hostile {
        place.write("model/model.safetensors", bytes);
        let ended = place.refuses(RUN, &["model.safetensors"]);
        assert!(ended.stderr.contains("hint: "), "{what}: {}", ended.stderr);
    }
    let integers = safetensors(&json!({embedding: tensor("I64", json!([768, 128]), 0, 768 * 128 * 8)}), 768 * 128 * 8);
    place.write("model/model.safetensors", integers);
    place.refuses(RUN, &[embedding]);
}

#[test]
fn targets_that_match_nothing_are_refused() {
    let place = Workplace::new();
    let run = |targets: &str| format!("run recipe.toml --set adapter.targets=[{targets}]");
    place.refuses(&run("\"q_porj\""), &["q_porj", "did you mean `q_proj`?", "hint: "]);
    place.refuses(&run("\"q_proj\",\"c_attn\",\"wte\""), &["c_attn", "wte", "hint: "]);
}

#[test]
fn targets_are_narrowed_by_block_and_by_name() {
    let place = Workplace::new();
    for (set, expected) in [
        ("adapter.layers=[9]", "`adapter.layers` names block 9, which this model does not have"),
        ("adapter.layers=[-5]", "hint: from 0 to 3, or from -1, the last, to -4"),
        ("adapter.layers=[]", "`adapter.layers` names no block"),
        ("adapter.layers=2", "`adapter.layers` must be"),
        ("adapter.exclude=[\"up_porj\"]", "did you mean `up_proj`?"),
        ("adapter.exclude=[\"lm_head\"]", "`adapter.exclude` names `lm_head`, which none of the targets matches"),
        ("adapter={targets=[\"q_proj\"],exclude=[\"q_proj\"]}", "leave no module to adapt"),
        ("adapter={init_from=\"x\",layers=[0]}", "`adapter.layers` has no effect with `adapter.init_from`"),
    ] {
        place.refuses(&format!("check recipe.toml --set {set}"), &[expected]);
    }
    let set = "adapter={rank=2,exclude=[\"self_attn.o_proj\",\"layers.0.mlp.up_proj\"],layers=[0,-1]}";
    place.trainer(&format!("run recipe.toml --set train.steps=1 --set {set}")).succeeds();
    let latest = place.text("run/checkpoints/latest");
    let config = place.json(&format!("run/checkpoints/{}/adapter_config.json", latest.trim()));
    let mut named: Vec<&str> =
        config["target_modules"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
    named.sort_unstable();
    let of = |layer: usize, names: &[&str]| {
        names.iter().map(|name| format!("model.layers.{layer}.{name}")).collect::<Vec<_>>()
    };
    let attention = ["self_attn.k_proj", "self_attn.q_proj", "self_attn.v_proj"];
    let first = of(0, &[&["mlp.down_proj", "mlp.gate_proj"], &attention[..]].concat());
    let last = of(3, &[&["mlp.down_proj", "mlp.gate_proj", "mlp.up_proj"], &attention[..]].concat());
    assert_eq!(named, [first, last].concat());
    // It is what the run goes on with, and what is exported.
    place.trainer(&format!("run recipe.toml --set train.steps=2 --resume --set {set}")).succeeds();
    place.trainer("export run --out merged --merge").succeeds();
}

#[test]
fn an_adapter_of_another_shape_is_refused() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=1 --set output.dir=first").succeeds();
    let good = place.tree("first/checkpoints/step-000001");
    let copy = |change: &dyn Fn(&str, Vec<u8>) -> Vec<u8>| {
        for (path, bytes) in &good {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if name.starts_with("adapter") {
                place.write(&format!("adapter/{name}"), change(&name, bytes.clone()));
            }
        }
    };
    let recipe = place.text("recipe.toml");
    place.write("goes_on.toml", recipe.replace("rank = 4\nalpha = 8", "init_from = \"adapter\""));
    let run = "run goes_on.toml";
    copy(&|_, bytes| bytes);
    place.trainer(&format!("{run} --set train.steps=1 --set output.dir=second")).succeeds();

    // Another rank than its own description says.
    let described = |from: &'static str, to: &'static str| {
        move |name: &str, bytes: Vec<u8>| {
            if name != "adapter_config.json" {
                return bytes;
            }
            let text = String::from_utf8(bytes).expect("UTF-8");
            assert!(text.contains(from), "{from} is not in {text}");
            text.replace(from, to).into_bytes()
        }
    };
    copy(&described("\"r\": 4", "\"r\": 8"));
    let refuses = |set: &str, expected: &[&str]| {
        for command in ["check", "run"] {
            let ended = place.refuses(&format!("{command} goes_on.toml {set}"), expected);
            assert!(!ended.stderr.contains("memory  "), "the plan comes before the fault:\n{}", ended.stderr);
        }
    };
    refuses("", &["adapter", "rank", "hint: "]);
    copy(&described("\"peft_type\": \"LORA\"", "\"peft_type\": \"IA3\""));
    refuses("", &["adapter_config.json", "IA3"]);
    copy(&described("{", "{,"));
    refuses("", &["adapter_config.json"]);
    copy(&|name, bytes| if name.ends_with("safetensors") { bytes[..bytes.len() / 2].to_vec() } else { bytes });
    refuses("", &["adapter_model.safetensors"]);

    // Of another model.
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/adapters/wide");
    refuses(&format!("--set adapter.init_from={other}"), &["fit", "hint: "]);
    refuses("--set adapter.init_from=nowhere", &["nowhere", "hint: "]);
    refuses("--set adapter.init_from=rows.jsonl", &["rows.jsonl"]);
    refuses("--set adapter.rank=4", &["`adapter.rank`", "hint: "]);
}

/// What `run` refuses before it trains, `check` refuses, and neither prints a plan that will not be done.
#[test]
fn adapters_that_do_not_fit_the_model_are_refused_before_the_plan() {
    let place = Workplace::new();
    let cases = [
        ("adapter.targets=[\"q_prj\"]", &["`q_prj`", "did you mean `q_proj`?", "--set:1:19", "hint: "][..]),
        (
            "adapter.targets=[\"all-linear\",\"lm_head\"]",
            &["`all-linear`, which no projection", "stands alone", "--set:1:19"],
        ),
        ("adapter.rank_pattern={q_pro=2}", &["\"q_pro\" has no effect", "did you mean `q_proj`?"]),
        ("adapter.rank_pattern={lm_head=2}", &["\"lm_head\" has no effect", "--set:1:33", "hint: "]),
        ("adapter.alpha_pattern={\"(q_proj\"=2}", &["cannot read the pattern", "--set:1:36"]),
        ("adapter.init=pissa --set adapter.rank=129", &["rank 129 is more than a matrix [128, 128] has", "hint: "]),
        (
            "adapter.init=pissa --set adapter.targets=[\"embed_tokens\"]",
            &["model.embed_tokens", "cannot start an adapter on an embedding", "hint: "],
        ),
    ];
    for (set, expected) in cases {
        for command in ["check", "run"] {
            let ended = place.refuses(&format!("{command} recipe.toml --set {set}"), expected);
            assert!(!ended.stderr.contains("memory  "), "the plan comes before the fault:\n{}", ended.stderr);
        }
    }
}

/// transformers, and so PEFT, drops in training what such a model says; here it would be trained as another.
#[test]
fn dropout_inside_of_a_model_is_refused_for_training_alone() {
    let place = Workplace::with_model();
    let config = place.text("model/config.json");
    let set = |name: &str| config.replacen('{', &format!("{{\"{name}\": 0.1,"), 1);
    for name in ["attention_dropout", "resid_pdrop"] {
        place.write("model/config.json", set(name));
        for command in ["check", "run"] {
            let expected =
                [&format!("`{name}` of this model is 0.1"), "model/config.json", "hint: to train without it"];
            place.refuses(&format!("{command} recipe.toml --set model.path=model"), &expected);
        }
        place.trainer("sample model --prompt fox --max-tokens 2").succeeds();
    }
    place.write("model/config.json", config.replacen('{', "{\"attention_dropout\": 0.0,", 1));
    place.trainer("check recipe.toml --set model.path=model").succeeds();
}

/// Nobody is kept from a model by a template that nobody asked for.
#[test]
fn a_template_that_cannot_be_read_is_a_fault_where_it_is_asked_for() {
    let place = Workplace::with_model();
    place.write("model/chat_template.jinja", "{% for m in messages %}{{ m.content");
    place.write("own.jinja", "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}");
    let chat =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n";
    place.write("chat.jsonl", chat);
    let check = "check recipe.toml --set model.path=model";
    place.trainer(check).succeeds();
    place.trainer("sample model --prompt a --max-tokens 1").succeeds();
    place.trainer(&format!("{check} --set data.train=chat.jsonl --set data.chat_template=own.jinja")).succeeds();
    let expected = ["cannot read the chat template: ", "model/chat_template.jinja", "hint: "];
    place.refuses(&format!("{check} --set data.train=chat.jsonl"), &expected);
    place.refuses("sample model --chat --prompt a", &expected);
}
