//! What a fault says: where it is and what to do, once for each mistake, and nothing that the user did not write.

use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

use crate::support::{Ended, Workplace};

/// One fault, with its place and a hint.
#[track_caller]
fn one(ended: Ended) -> Ended {
    assert_eq!(ended.stderr.matches("error: ").count(), 1, "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("hint: ").count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("--> "), "a fault without a place: {}", ended.stderr);
    ended
}

#[test]
fn arguments_that_cannot_be_read_are_faults_like_all_others() {
    let place = Workplace::new();
    let cases: [(&str, &[&str]); 14] = [
        ("train recipe.toml", &["there is no command `train`", "`trainer run RECIPE` trains"]),
        ("merge run", &["there is no command `merge`", "`trainer export RUN --out DIR --merge`"]),
        ("recipe.toml", &["there is no command `recipe.toml`", "`trainer run recipe.toml`"]),
        ("run recipe.toml --lora_r 8", &["there is no option `--lora_r`", "`--set adapter.rank=VALUE`"]),
        ("run recipe.toml train.steps=3", &["one too many", "write `--set train.steps=3`"]),
        ("run recipe.toml --resum", &["there is no option `--resum`", "did you mean `--resume`?"]),
        ("run recipe.toml --bogus", &["there is no option `--bogus`", "trainer run --help"]),
        ("run recipe.toml more", &["the argument `more` is one too many", "trainer run"]),
        ("rum recipe.toml", &["there is no command `rum`", "did you mean `run`?"]),
        ("sample --prompt fox", &["`<MODEL>` is missing", "trainer sample"]),
        ("sample builtin:tiny --prompt fox --n many", &["`--n <N>` cannot be `many`", "a whole number"]),
        ("sample builtin:tiny --prompt fox --top-p many", &["--top-p", "`many`", "a number"]),
        ("export run --out o --dtype f64", &["--dtype", "`f64`", "one of: f32, bf16, f16"]),
        ("eval builtin:tiny --samples s", &["exclude each other", "--samples"]),
    ];
    for (arguments, expected) in cases {
        one(place.refuses(arguments, expected));
        let ended = place.trainer(&format!("--log-format json {arguments}")).exits(1);
        let line: Value =
            serde_json::from_str(&ended.stderr).unwrap_or_else(|error| panic!("{error}: {}", ended.stderr));
        for key in ["message", "place", "hint"] {
            assert!(line[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {line}");
        }
        assert_eq!(line["level"], "ERROR");
    }
    // No recipe is read, so that there is nothing to set.
    let ended = place.trainer("eval builtin:tiny --data rows.jsonl --max-length 5").exits(1);
    assert!(!ended.stderr.contains("--set"), "{}", ended.stderr);
    let ended = place.trainer("--log-format=json").exits(1);
    assert!(serde_json::from_str::<Value>(&ended.stderr).is_ok(), "{}", ended.stderr);
}

#[test]
fn a_recipe_in_place_of_a_run_and_a_run_in_place_of_a_recipe_are_told_apart() {
    let place = Workplace::new();
    for command in ["sample recipe.toml --prompt x", "eval recipe.toml --data rows.jsonl", "inspect recipe.toml"] {
        one(place.refuses(command, &["this is a recipe", "recipe.toml", "`trainer run recipe.toml`"]));
    }
    one(place.refuses("export recipe.toml --out out", &["this is a recipe", "`trainer run recipe.toml`"]));
    one(place.refuses("inspect rows.jsonl", &["this is a file", "rows.jsonl"]));
    place.trainer("run recipe.toml --set train.steps=1").succeeds();
    one(place.refuses("sample run/recipe.toml --prompt x", &["this is a recipe", "its run is the folder `run`"]));
    one(place.refuses("check run", &["the recipe is not a file", "`run/recipe.toml`"]));
    one(place.refuses("inspect --diff nope run", &["`nope` is neither", "--> --diff"]));
    one(place.refuses("inspect nope", &["`nope` is neither", "--> nope"]));
    place.write("broken.safetensors", "not one");
    one(place.refuses("inspect broken.safetensors", &["not a safetensors file", "--> broken.safetensors"]));
}

#[test]
fn files_that_are_not_there_are_told_of_in_words() {
    let place = Workplace::new();
    for (command, file) in [
        ("run nowhere.toml", "nowhere.toml"),
        ("run recipe.toml --set data.train=[\"nowhere.jsonl\"]", "nowhere.jsonl"),
        ("eval builtin:tiny --data nowhere.jsonl", "nowhere.jsonl"),
        ("eval --samples nowhere.jsonl", "nowhere.jsonl"),
        ("sample builtin:tiny --prompts nowhere.jsonl", "nowhere.jsonl"),
    ] {
        let ended = one(place.refuses(command, &["there is no such file", &format!("--> {file}")]));
        assert!(!ended.stderr.contains("os error") && !ended.stderr.contains("entity"), "{}", ended.stderr);
    }
}

#[test]
fn the_commands_that_a_run_proposes_can_be_pasted() {
    let place = Workplace::new();
    let rows: [(&str, &str); 6] = [
        ("dash", "- it's \"one\" $HOME `fox` \\n\n"),
        ("long", &"a fox and ".repeat(12)),
        ("plain", "The fox"),
        ("line", "Tell me about a fox.\n"),
        ("code", "def fox(n):\n\tif n > 1:\n\t\treturn '\\t' * n\n"),
        // Too long to be typed: how it begins is tried.
        ("endless", &"The fox sleeps near the river. ".repeat(22)),
    ];
    for (name, prompt) in rows {
        let row = json!({"prompt": prompt, "completion": " is red."});
        place.write("held_out.jsonl", format!("{row}\n").repeat(4));
        let set = format!("--set train.steps=1 --set output.dir=run-{name}");
        let ended = place.trainer(&format!("run recipe.toml {set}")).succeeds();
        let (_, script) = ended.stderr.split_once("next:\n").unwrap_or_else(|| panic!("{}", ended.stderr));
        let lines: Vec<&str> = script.lines().filter(|line| !line.trim().is_empty()).collect();
        assert!(lines.len() == 2 && lines.iter().all(|line| line.starts_with("  trainer ")), "{script}");
        let sampled = place.shell(&format!("set -e\n{script}\nrm -r exported")).succeeds();
        let first: Value = serde_json::from_str(sampled.stdout.lines().next().expect("a sample")).expect("JSON");
        match name {
            "endless" => assert_eq!(first["prompt"], "The fox sleeps near the river. The fox", "{script}"),
            _ => assert_eq!(first["prompt"], prompt, "{script}"),
        }
    }
}

#[test]
fn one_mistake_is_one_fault() {
    let place = Workplace::new();
    let recipe = place.text("recipe.toml");
    place.write(
        "eval.toml",
        format!("{recipe}[eval]\nevery = 2\n").replace("every = 2\n[output]", "every = 2\nkeep_best = true\n[output]"),
    );
    let trunc = "[objective]\nkind = \"trunc_r\"\ndrop = 0.4\nbuffer = 20\nrecompute = 4\n";
    place.write("trunc.toml", format!("{recipe}{trunc}"));
    let cases: [(&str, &str, &[&str]); 11] = [
        ("eval.toml", "data.eval=3", &["`data.eval` = 3 must be a part of the training rows", "--set:1:13"]),
        ("eval.toml", "data=rows.jsonl", &["`data` must be a table", "`data.train`"]),
        ("trunc.toml", "objective.kind=3", &["`objective.kind` must be a string"]),
        ("trunc.toml", "objective.drop=nan", &["`objective.drop` must be from 0 to 1"]),
        ("trunc.toml", "objective.drop=1.5", &["`objective.drop` must be from 0 to 1"]),
        ("trunc.toml", "objective.drop=1.0", &["`objective.drop` must be below 1"]),
        ("recipe.toml", "adapter.kind=none", &["`adapter.rank`, `adapter.alpha` have no effect", "recipe.toml:5:8"]),
        ("recipe.toml", "adapter.init_from=x", &["`adapter.rank`, `adapter.alpha` have no effect"]),
        ("recipe.toml", "data.rename.a=b", &["`data.rename` gives `a`", "--set:1:6"]),
        ("recipe.toml", "model.path=nowhere", &["`nowhere` is neither", "--set:1:14"]),
        ("recipe.toml", "data.max_length=9999", &["`data.max_length` = 9999", "--set:1:19"]),
    ];
    for (recipe, set, expected) in cases {
        one(place.refuses(&format!("check {recipe} --set {set}"), expected));
    }
}

#[test]
fn numbers_that_cannot_be_meant_are_refused_or_warned_of() {
    let place = Workplace::new();
    for set in [
        "optimizer.eps=1e-300",
        "optimizer.learning_rate=1e300",
        "optimizer.clip_norm=1e-300",
        "optimizer.weight_decay=1e300",
        "adapter.alpha=1e-300",
        "objective={kind=\"lambda_pr\",lambda=1e-300}",
        "objective={kind=\"cdiv\",alpha=1e300}",
        "objective={kind=\"focal\",gamma=1e300}",
    ] {
        one(place.refuses(&format!("check recipe.toml --set {set}"), &["as f32", "--> --set:1:"]));
    }
    let far = "optimizer.learning_rate=3e38";
    one(place.refuses(
        &format!("check recipe.toml --set {far}"),
        &["cannot be 3e38: a step of AdamW moves", "--> --set:1:"],
    ));
    for (set, expected) in [
        ("optimizer.learning_rate=30", "`optimizer.learning_rate` = 3e1 is far from what is usual"),
        ("optimizer.weight_decay=1000", "`optimizer.weight_decay` = 1e3"),
        ("objective={kind=\"lambda_pr\",lambda=1e-30}", "`objective.lambda` = 1e-30 is far from"),
        ("objective={kind=\"cdiv\",alpha=8}", "`objective.alpha` = 8e0 is far from"),
        ("adapter.rank=200", "`adapter.rank` = 200 is above the rank that any of the adapted matrices can have, 128"),
    ] {
        let ended = place.trainer(&format!("check recipe.toml --set {set}")).succeeds();
        ended.says(&["WARN", "--set:1:", expected, "; hint: "]);
    }
    let usual = place.trainer("check recipe.toml --set adapter.rank=128").succeeds();
    assert!(!usual.stderr.contains("WARN"), "{}", usual.stderr);
}

#[test]
fn targets_are_shown_in_part_and_with_their_line() {
    let place = Workplace::new();
    let long = ["fox"; 30].join(" ");
    let row = json!({"prompt": "A fox:", "targets": [long, format!("{long} and more")]});
    place.write("targets.jsonl", format!("\n{row}\n"));
    let set = "--set data.train=[\"targets.jsonl\"] --set data.eval=[] --set objective.kind=diffuse --set data.end_token=false";
    let refused = one(place.refuses(&format!("check recipe.toml {set}"), &["targets.jsonl:2", "characters ..]"]));
    assert!(!refused.stderr.contains(&long), "{}", refused.stderr);
    let warned = place.trainer(&format!("check recipe.toml {set} --set data.prefix_free=warn")).succeeds();
    let warned = warned.says(&["WARN targets.jsonl:2: the targets are not prefix-free", "; hint: "]);
    assert!(!warned.stderr.contains(&long), "{}", warned.stderr);
    // Of a command without a recipe, no hint names a key of one.
    let row = json!({"prompt": "A fox:", "targets": ["fox ".repeat(300)]});
    place.write("targets.jsonl", format!("{row}\n"));
    let ended =
        one(place.refuses("eval builtin:tiny --data targets.jsonl --n 0", &["targets.jsonl:1", "256 positions"]));
    assert!(!ended.stderr.contains("data.too_long"), "{}", ended.stderr);
}

#[test]
fn an_export_names_the_folder_that_was_asked_for() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=1").succeeds();
    place.write("file", "in the way");
    for (out, flags) in
        [("/proc/adapter", ""), ("/proc/merged", "--merge"), ("file/adapter", ""), ("file/merged", "--merge")]
    {
        let ended = one(place.refuses(&format!("export run --out {out} {flags}"), &[&format!("--> {out}")]));
        assert!(!ended.stderr.contains("partial"), "{}", ended.stderr);
    }
}

#[test]
fn a_damaged_checkpoint_is_called_damaged_and_its_file_named() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=2 --set checkpoint.every=1").succeeds();
    let file = |step: usize| format!("run/checkpoints/step-{step:06}/adapter_model.safetensors");
    place.write(&file(2), "cut");
    let ended = place.trainer("sample run --prompt fox --max-tokens 1").succeeds();
    ended.says(&["WARN", "passing over a damaged checkpoint", &file(2), "; hint: the one of step 1 is taken"]);
    place.write(&file(1), "cut");
    for command in ["sample run --prompt fox", "export run --out out", "run recipe.toml --resume --set train.steps=3"] {
        let ended = place.trainer(command).fails(&["2 checkpoints of the run are damaged", &file(2), "has 3 bytes"]);
        assert!(!ended.stderr.contains("no complete checkpoint yet"), "{}", ended.stderr);
    }
}

/// The folder of a run's adapter, with `adapter_config.json` and its tensors changed.
struct Folder<'a> {
    place: &'a Workplace,
}

const STEP: &str = "run/checkpoints/step-000001";

impl Folder<'_> {
    fn configure(&self, key: &str, value: Value) {
        let mut config = self.place.json(&format!("{STEP}/adapter_config.json"));
        config[key] = value;
        self.place.write("adapter/adapter_config.json", config.to_string());
        self.place
            .write("adapter/adapter_model.safetensors", self.place.read(&format!("{STEP}/adapter_model.safetensors")));
    }

    /// The tensors under the names that `rename` gives them; none where it gives none.
    fn rename(&self, rename: impl Fn(&str) -> Option<String>) {
        self.configure("peft_type", "LORA".into());
        let bytes = self.place.read(&format!("{STEP}/adapter_model.safetensors"));
        let file = SafeTensors::deserialize(&bytes).expect("an adapter");
        let tensors: Vec<(String, TensorView)> =
            file.tensors().into_iter().filter_map(|(name, view)| Some((rename(&name)?, view))).collect();
        self.place.write("adapter/adapter_model.safetensors", safetensors::serialize(tensors, None).expect("a file"));
    }
}

#[test]
fn adapters_that_cannot_be_read_have_a_place_and_a_hint() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=1").succeeds();
    let folder = Folder { place: &place };
    let cases: [(&str, Value, &[&str]); 13] = [
        ("peft_type", "IA3".into(), &["IA3", "merge it with PEFT"]),
        ("peft_type", Value::Null, &["peft_type"]),
        ("r", 0.into(), &["a rank of `r` is 0"]),
        ("r", "four".into(), &["`r` is \"four\"", "a whole number"]),
        ("lora_alpha", "eight".into(), &["`lora_alpha` is \"eight\"", "a number"]),
        ("rank_pattern", json!({"q_proj": "four"}), &["`rank_pattern` of \"q_proj\" is \"four\""]),
        ("rank_pattern", json!({"q_proj": 0}), &["a rank of `rank_pattern` is 0"]),
        ("rank_pattern", json!({"q_proj(": 4}), &["cannot read the pattern \"q_proj(\"", "unclosed group"]),
        ("rank_pattern", json!(["q_proj"]), &["`rank_pattern` is [\"q_proj\"]", "an object"]),
        ("alpha_pattern", json!({"q_proj": null}), &["`alpha_pattern` of \"q_proj\" is null"]),
        ("alpha_pattern", json!({"*": 1}), &["cannot read the pattern \"*\""]),
        ("use_dora", "yes".into(), &["cannot read the configuration"]),
        ("modules_to_save", json!(["lm_head".repeat(300)]), &["modules_to_save", "characters ..]"]),
    ];
    for (key, value, expected) in cases {
        folder.configure(key, value);
        one(place.refuses("inspect adapter", expected).says(&["--> adapter/adapter_config.json"]));
    }
    folder.configure("r", 3.into());
    let ended =
        place.refuses("inspect adapter", &["gives it rank 3", "and 8 more of this kind", "adapter_model.safetensors"]);
    assert_eq!(ended.stderr.matches("error: ").count(), 21, "{}", ended.stderr);

    let first = "base_model.model.model.layers.0.self_attn.q_proj";
    let without = format!("{first}.lora_A.weight");
    folder.rename(|name| (name != without).then(|| name.into()));
    one(place.refuses("inspect adapter", &["q_proj` has no `lora_A.weight`", "--> adapter/adapter_model.safetensors"]));
    folder.rename(|name| Some(name.replace("lora_A.weight", "ia3_l.weight")));
    place.refuses("inspect adapter", &["unknown tensor", "ia3_l", "hint: "]);
    let lengths = format!("{first}.lora_magnitude_vector");
    folder.rename(|name| Some(if name == without { lengths.clone() } else { name.into() }));
    place.refuses("inspect adapter", &["q_proj` has no `lora_A.weight`", "hint: "]);
    folder.rename(|name| Some(name.replace("model.layers.3.", "model.layers.9.")));
    let ended =
        place.refuses("sample adapter --prompt fox", &["model.layers.9.mlp.down_proj", "does not have", "hint: "]);
    assert_eq!(ended.stderr.matches("error: ").count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("and 6 more are like it"), "{}", ended.stderr);
}
