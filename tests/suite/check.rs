//! `check` and `recipes`: what a run will do, said before it is done.

use serde_json::json;

use crate::support::Workplace;

/// What depends on the machine: memory that is free and time that a step takes.
fn portable(text: &str) -> String {
    text.lines()
        .map(|line| match line {
            line if line.starts_with("memory ") => "memory       (of this machine)\n".into(),
            line if line.starts_with("time ") => "time         (of this machine)\n".into(),
            line => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn a_plan_reads_as_it_should() {
    let place = Workplace::new();
    let plan = place.trainer("check recipe.toml").succeeds();
    assert_eq!(plan.stderr, "");
    insta::assert_snapshot!("plan", portable(&plan.stdout));
    assert!(!place.path("run").exists(), "`check` writes nothing");
}

#[test]
fn the_plan_as_json_has_the_numbers_of_the_text() {
    let place = Workplace::new();
    let json = place.trainer("check recipe.toml --json").succeeds().json();
    let text = place.trainer("check recipe.toml").succeeds().stdout;
    assert_eq!(json["model"]["layers"], 4);
    assert_eq!(json["steps"], 6);
    assert_eq!(json["steps_per_epoch"], 6);
    assert_eq!(json["data"]["train"]["rows"], 24);
    assert_eq!(json["data"]["eval"]["rows"], 8);
    for count in ["tokens", "learned_tokens", "longest", "shortest"] {
        let count = json["data"]["train"][count].as_u64().expect("a count");
        assert!(text.contains(&count.to_string()), "{count} is not in\n{text}");
    }
    // Rank 4 on seven projections of four layers: queries 128, keys 64, hidden 128, inner 384.
    let per_layer = 4 * ((128 + 128) + 2 * (128 + 64) + (128 + 128) + 3 * (128 + 384));
    assert_eq!(json["trained_parameters"], 4 * per_layer);
    assert!(text.contains(&format!("{:.1} k", 4.0 * f64::from(per_layer) / 1e3)), "{text}");
    let memory = &json["memory"];
    let bytes = |key: &str| memory[key].as_u64().expect("bytes");
    let parts = ["weights", "optimizer", "activations", "program"];
    assert_eq!(bytes("peak"), parts.into_iter().map(bytes).sum::<u64>().max(bytes("loading")));
    // The parts that are printed add up to what is printed as their sum.
    let memory = text.lines().find_map(|line| line.strip_prefix("memory ")).expect("a line on memory");
    let sizes = memory.split(" MiB").map_while(|before| before.rsplit(' ').next()?.parse::<f64>().ok());
    let sizes: Vec<f64> = sizes.take(5).collect();
    assert_eq!(sizes.len(), 5, "{memory}");
    assert!((sizes[0] - sizes[1..].iter().sum::<f64>()).abs() < 1e-9, "{memory}");
    let example = &json["example"];
    assert_eq!(example["ids"].as_array().map(Vec::len), example["learned"].as_array().map(Vec::len));
    assert!(text.contains(example["text"].as_str().expect("a text")), "{text}");
}

#[test]
fn several_examples_are_shown_and_the_worst_of_them() {
    let place = Workplace::new();
    let text = |arguments: &str| place.trainer(&format!("check recipe.toml {arguments}")).succeeds().stdout;
    let first = text("--examples 3");
    for words in ["the first examples, 1 of 3, rows.jsonl:1\n", "the first examples, 3 of 3, rows.jsonl:3\n"] {
        assert!(first.contains(words), "{first}");
    }
    let worst = text("--worst");
    for words in
        ["the longest example, rows.jsonl:", "the shortest example, ", "the least learned example, ", " learned)\n"]
    {
        assert!(worst.contains(words), "{worst}");
    }
    assert!(!worst.contains("the first example"));
    let json = place.trainer("check recipe.toml --worst --examples 2 --json").succeeds().json();
    let examples = json["examples"].as_array().expect("a list");
    assert_eq!(examples.len(), 6);
    assert_eq!(examples[0]["ids"].as_array().expect("ids").len() as u64, json["data"]["train"]["longest"]);
    assert_eq!(examples[2]["ids"].as_array().expect("ids").len() as u64, json["data"]["train"]["shortest"]);
}

#[test]
fn what_shells_complete_is_printed() {
    let place = Workplace::new();
    for (shell, word) in [
        ("bash", "complete -F _trainer"),
        ("zsh", "#compdef trainer"),
        ("fish", "complete -c trainer"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = place.trainer(&format!("completions {shell}")).succeeds();
        // fish has options without their dashes.
        let option = if shell == "fish" { "-l resume" } else { "--resume" };
        let has_both = script.stdout.contains(word) && script.stdout.contains(option);
        assert!(has_both && script.stderr.is_empty(), "{shell}");
    }
    place.refuses("completions tcsh", &["tcsh"]);
}

/// What an adapter brings along is in the plan; dropout is the recipe's, and PEFT would go on with the adapter's.
#[test]
fn the_plan_says_what_an_adapter_brings_along() {
    let place = Workplace::new();
    let patterns = "adapter.rank_pattern={q_proj=2} --set adapter.dropout=0.25";
    place.trainer(&format!("run recipe.toml --set train.steps=1 --set {patterns}")).succeeds();
    let recipe = place.text("recipe.toml").replace("rank = 4\nalpha = 8", "init_from = \"run\"");
    place.write("goes_on.toml", recipe);
    let plan = place.trainer("check goes_on.toml --set output.dir=next").succeeds();
    assert!(
        plan.stdout
            .contains("adapter      lora of rank 2 to 4, scale 2 to 4, starts from run, on 28 matrices: down_proj, ")
    );
    let told = ["trained with dropout 0.25, and this run has 0", "`adapter.dropout = 0.25`", "goes_on.toml:"];
    assert!(told.iter().all(|part| plan.stderr.contains(part)), "{}", plan.stderr);
    let set = "check goes_on.toml --set output.dir=next --set adapter.dropout=0";
    assert_eq!(place.trainer(set).succeeds().stderr, "");
    let json = place.trainer(&format!("{set}.5 --json")).succeeds().json();
    assert_eq!((&json["adapter"]["ranks"], &json["adapter"]["scales"]), (&json!([2, 4]), &json!([2.0, 4.0])));
    assert_eq!((&json["adapter"]["dropout"], &json["adapter"]["matrices"]), (&json!(0.5), &json!(28)));
}

/// Fitting codes is in the plan: its time beside that of the steps.
#[test]
fn a_plan_counts_what_comes_before_the_first_step() {
    let place = Workplace::new();
    let plan = |rows: usize| {
        let set = format!("--set model.quantize=nf4 --set model.quantize_rows={rows}");
        let json = place.trainer(&format!("check recipe.toml --json {set}")).succeeds().json();
        let text = place.trainer(&format!("check recipe.toml {set}")).succeeds().stdout;
        assert_eq!(rows > 0, text.contains("; before that, about ") && text.contains(" to fit the codes"), "{text}");
        json["fitting_seconds"].as_f64().expect("seconds")
    };
    assert!(plan(0) == 0.0 && plan(2) > 0.0);
}

/// The mask of the printed example is the one that is trained on: brackets around what is learned.
#[test]
fn the_example_shows_what_is_learned() {
    let place = Workplace::new();
    place.write("rows.jsonl", "{\"prompt\": \"a fox\\n\", \"completion\": \"is red\"}\n");
    let example = |set: &str| {
        let json = place.trainer(&format!("check recipe.toml --json {set}")).succeeds().json();
        let learned = json["example"]["learned"].as_array().expect("a mask").iter().filter(|l| **l == true).count();
        assert_eq!(json["data"]["train"]["learned_tokens"], learned);
        (json["example"]["text"].as_str().expect("a text").to_owned(), learned)
    };
    let (text, learned) = example("");
    let inside: String = text.split('[').skip(1).filter_map(|part| part.split(']').next()).collect();
    assert!(inside.starts_with("is red"), "{text}");
    assert_eq!(text.matches('[').count(), learned);
    assert!(!inside.contains("fox"), "{text}");
    let (all, learned_of_all) = example("--set data.train_on=all");
    assert!(learned_of_all > learned && all.contains('['), "{all}");
}

#[test]
fn the_recipes_inside_are_listed_copied_and_planned() {
    let place = Workplace::new();
    let list = place.trainer("recipes").succeeds().stdout;
    // Each under the title of its group.
    let names = list.lines().filter(|line| line.starts_with("  ")).filter_map(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.collect();
    assert!(names.contains(&"nll") && names.contains(&"paper_cdiv"), "{list}");
    let titles: Vec<&str> = list.lines().filter(|line| line.ends_with(':')).collect();
    assert_eq!(titles.len(), 2, "{list}");
    for name in names {
        assert_eq!(place.trainer(&format!("recipes cp {name}")).succeeds().stdout, format!("./{name}.toml\n"));
        let shipped = std::fs::read_to_string(format!("{}/recipes/{name}.toml", env!("CARGO_MANIFEST_DIR")));
        assert_eq!(place.text(&format!("{name}.toml")), shipped.expect("the recipe"));
        let set =
            if shipped_inside(&place.text(&format!("{name}.toml"))) { String::new() } else { stand_in(&place, name) };
        let plan = place.trainer(&format!("check {name}.toml --json {set}")).succeeds().json();
        assert!(plan["steps"].as_u64().expect("steps") > 0, "{name}");
        assert_eq!(plan["warnings"], serde_json::json!([]), "{name}");
        place.refuses(&format!("recipes cp {name}"), &["the file is there already", "hint: "]);
    }
    let folder =
        place.trainer("recipes cp trunc_r real --model org/name --train rows.jsonl --eval more.jsonl").succeeds();
    assert_eq!(folder.stdout, "real/trunc_r.toml\n");
    let (written, other) = (place.text("real/trunc_r.toml"), place.text("trunc_r.toml"));
    assert!(written.contains("path = \"org/name\"") && written.contains("eval = [\"more.jsonl\"]"), "{written}");
    assert!(written.contains("buffer = 10000") && other.contains("builtin:tiny"), "{written}");
    // No longer rows than the model has positions.
    place.model("model");
    place.trainer("recipes cp nll real --model model --train rows.jsonl --eval held_out.jsonl").succeeds();
    assert!(place.text("real/nll.toml").contains("\nmax_length = 256\n"), "{}", place.text("real/nll.toml"));
    place.trainer("check real/nll.toml").succeeds();
    place.trainer("recipes cp sfr_gsm8k real --model model").succeeds();
    assert!(place.text("real/sfr_gsm8k.toml").contains("\nmax_length = 256\n"));
    // Without rows to evaluate on, a part of those to train on.
    place.trainer("recipes cp cdiv_alpha1.4 held --model model --train rows.jsonl").succeeds();
    let held = place.trainer("check held/cdiv_alpha1.4.toml").succeeds().stdout;
    assert!(
        place.text("held/cdiv_alpha1.4.toml").contains("\neval = 0.05\n") && held.contains("evaluation rows"),
        "{held}"
    );
    place.refuses("recipes cp tiny_base real --model org/name", &["builds its model from scratch", "hint: "]);
    place.refuses("recipes cp nll real --train rows.jsonl", &["--model"]);
    place.refuses("recipes cp nlll", &["no recipe is named `nlll`", "did you mean `nll`?"]);
}

fn shipped_inside(recipe: &str) -> bool {
    recipe.contains("train = [\"builtin:")
}

/// Puts rows where a recipe for a real model looks for them, of the columns that it names, and gives the overrides that
/// put the embedded model in place of its own.
fn stand_in(place: &Workplace, name: &str) -> String {
    let recipe: toml::Table = place.text(&format!("{name}.toml")).parse().expect("a recipe");
    let data = recipe["data"].as_table().expect("a table");
    let row = match recipe["objective"]["kind"].as_str().expect("a kind") {
        "diffuse" => json!({"prompt": "A number:", "targets": ["{1}", "{2}"]}),
        "intent" => json!({"prompt": "The fox\n", "intent": "red", "response": "is red."}),
        _ if data.get("format").and_then(toml::Value::as_str) == Some("messages") => {
            let turn = |role: &str, content: &str| json!({"role": role, "content": content});
            json!({"messages": [turn("user", "The fox"), turn("assistant", "is red.")]})
        }
        _ => {
            let columns = data["rename"].as_table().expect("a table");
            let column = |key: &str| {
                let renamed = columns.iter().find(|(_, to)| to.as_str() == Some(key));
                renamed.map_or(key.to_owned(), |(from, _)| from.clone())
            };
            json!({column("prompt"): "The fox\n", column("completion"): "is red."})
        }
    };
    // Rows of both would be warned of.
    let held_out = row.to_string().replace("fox", "owl").replace("A number", "Another number");
    for (key, row) in [("train", row.to_string()), ("eval", held_out)] {
        for path in data.get(key).and_then(toml::Value::as_array).into_iter().flatten() {
            let count = if row.contains("targets") { 1 } else { 40 };
            place.write(path.as_str().expect("a path"), format!("{row}\n").repeat(count));
        }
    }
    let mut set = "--set model.path=builtin:tiny --set model.dtype=f32".to_owned();
    if data.contains_key("max_length") {
        set += " --set data.max_length=64";
    }
    if recipe["objective"].get("buffer").is_some() {
        set += " --set objective.buffer=9";
    }
    if name == "sfr_gsm8k" {
        set += " --set auxiliary=[{kind=\"sfr\",encoder=\"builtin:words\"}]";
    }
    set
}

#[test]
fn a_setting_without_effect_is_warned_of() {
    let place = Workplace::new();
    let plan = place.trainer("check recipe.toml --set checkpoint.every=9").succeeds();
    plan.says(&["`checkpoint.every` = 9 has no effect", "step 6"]);
}

#[test]
fn rows_that_are_trained_on_are_no_held_out_rows() {
    let place = Workplace::new();
    let warnings = |arguments: &str| place.trainer(&format!("check recipe.toml --json {arguments}")).succeeds().json();
    assert_eq!(warnings("")["warnings"], json!([]));
    // Two of the ten stand in both, one of them in JSON that is written otherwise.
    let (rows, held_out) = (place.text("rows.jsonl"), place.text("held_out.jsonl"));
    let (first, third) = (rows.lines().next().expect("a row"), rows.lines().nth(2).expect("a row"));
    place.write("both.jsonl", format!("{held_out}{first}\n  {}\n", third.replace("\":", "\" : ")));
    let said = warnings("--set data.eval=[\"both.jsonl\"]")["warnings"].to_string();
    let expected = "2 of 10 rows of `data.eval` can be trained on, too, the first of them both.jsonl:9";
    assert!(said.contains(expected) && said.contains("hint: take them out"), "{said}");
    // A world that is drawn from again repeats itself.
    let world = warnings("--set data.train=[\"builtin:world-train\"] --set data.eval=[\"builtin:world-eval\"]");
    assert!(!world["warnings"].to_string().contains("held-out"), "{world}");
}

/// What is allowed and seldom meant: said of the rows with the first of them, by `check` and by `run`.
#[test]
fn odd_rows_are_counted_and_warned_of() {
    let place = Workplace::new();
    let rows = [
        json!({"prompt": "Tell me about a fox.\n", "completion": "red"}),
        json!({"prompt": "Tell me about a fo", "completion": "x."}),
        json!({"prompt": "Tell me about a fo", "completion": "x<|im_end|>es."}),
    ];
    place.write("rows.jsonl", rows.map(|row| format!("{row}\n")).concat());
    let expected = [
        "training rows: 2 of 3 rows have a prompt that alone is other tokens than before its answer, first rows.jsonl:2",
        "end the prompt with one line break",
        "training rows: 1 of 3 rows spell out a special token, first `<|im_end|>` in rows.jsonl:3",
    ];
    place.trainer("check recipe.toml").succeeds().says(&expected);
    place.trainer("run recipe.toml --set train.steps=1").succeeds().says(&expected);
    let json = place.trainer("check recipe.toml --json").succeeds().json();
    assert_eq!(json["warnings"].as_array().map(Vec::len), Some(2));
    let notice = &json["data"]["train"]["notices"][0];
    assert_eq!((&notice["oddity"], &notice["rows"], &notice["line"]), (&json!("seam"), &json!(2), &json!(2)));
    let turn = |role: &str| json!({"role": role, "content": "red"});
    let chat = json!({"messages": [turn("robot"), turn("user"), turn("assistant")]});
    place.write("held_out.jsonl", format!("{chat}\n"));
    place.trainer("check recipe.toml").succeeds().says(&["evaluation rows: 1 of 1 rows have a role", "first `robot`"]);
}

/// Settings that leave nothing of what was asked for.
#[test]
fn a_run_too_short_for_its_settings_is_warned_of() {
    let place = Workplace::new();
    let check = |set: &str| place.trainer(&format!("check recipe.toml --set {set}")).succeeds();
    let sfr = "auxiliary=[{kind=\"sfr\",encoder=\"builtin:words\",k=0,head_warmup=6}]";
    check(sfr).says(&["`auxiliary.head_warmup` = 6 takes all 6 steps", "the adapter is not trained"]);
    assert_eq!(check(&sfr.replace('6', "5")).stderr, "");
    for kind in ["trunc", "trunc_r"] {
        check(&format!("objective.kind={kind}")).says(&["`objective.buffer` = 10000 is never full", "learned tokens"]);
        let rows = format!("objective.kind={kind} --set objective.granularity=sequence --set objective.buffer=");
        check(&format!("{rows}24")).says(&["`objective.buffer` = 24 is never full in a run of about 24 rows"]);
        assert_eq!(check(&format!("{rows}23")).stderr, "");
        assert_eq!(check(&format!("objective.kind={kind} --set objective.drop=0")).stderr, "");
    }
    // Evaluation is switched off by an empty list, whatever else the recipe says of it.
    let off = "data.eval=[] --set eval.every=2 --set checkpoint.keep_best=true";
    let told = check(off).says(&["`checkpoint.keep_best` has no effect: `data.eval` is empty"]);
    assert!(!told.stderr.contains("eval.every"), "{}", told.stderr);
    place.trainer(&format!("run recipe.toml --set train.steps=2 --set {off}")).succeeds();
    assert!(place.metrics("run").iter().all(|line| line["split"] == "train"));
}

/// A broken encoder is found by `check`, and by `run` before it leaves anything.
#[test]
fn an_encoder_is_looked_at_before_a_run() {
    let place = Workplace::new();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bert");
    let copy = |name: &str| {
        place.write(&format!("encoder/{name}"), std::fs::read(format!("{fixture}/{name}")).expect("the fixture"));
    };
    ["config.json", "tokenizer.json", "model.safetensors"].into_iter().for_each(copy);
    let set = "recipe.toml --set auxiliary=[{kind=\"sfr\",encoder=\"./encoder\",k=0,head_width=8}]";
    place.trainer(&format!("check {set}")).succeeds();
    for (name, content, expected) in [
        ("config.json", None, "`config.json`"),
        ("config.json", Some("{\"model_type\": \"roberta\"}"), "`roberta` is not a sentence encoder known here"),
        ("tokenizer.json", None, "`tokenizer.json` is missing"),
        ("tokenizer.json", Some("{}"), "cannot read the tokenizer"),
        ("model.safetensors", None, "no weights here"),
        ("model.safetensors", Some("not one"), "model.safetensors"),
    ] {
        match content {
            Some(content) => place.write(&format!("encoder/{name}"), content),
            None => std::fs::remove_file(place.path(&format!("encoder/{name}"))).expect("a file"),
        }
        for command in ["check", "run"] {
            place.refuses(&format!("{command} {set}"), &["encoder", expected]);
        }
        copy(name);
    }
    place.refuses("check recipe.toml --set auxiliary=[{kind=\"sfr\",encoder=\"./none\",k=0}]", &["./none", "hint: "]);
}

/// `run` finds the first when it quantises, and otherwise after three steps; `check` looks at all.
#[test]
fn weights_that_are_no_numbers_are_found_by_check() {
    let place = Workplace::with_model();
    let whole = place.read("model/model.safetensors");
    let header = u64::from_le_bytes(whole[..8].try_into().expect("eight")) as usize;
    let tensors: serde_json::Value = serde_json::from_slice(&whole[8..8 + header]).expect("a header");
    let checks = "check recipe.toml --set model.path=./model";
    place.trainer(checks).succeeds();
    for (name, value) in [("model.norm.weight", f32::NAN), ("model.layers.0.mlp.up_proj.weight", f32::NEG_INFINITY)] {
        let end = 8 + header + tensors[name]["data_offsets"][1].as_u64().expect("an offset") as usize;
        let mut bytes = whole.clone();
        match tensors[name]["dtype"].as_str() {
            Some("F32") => bytes[end - 4..end].copy_from_slice(&value.to_le_bytes()),
            // bf16 is the upper half.
            Some("BF16") => bytes[end - 2..end].copy_from_slice(&value.to_le_bytes()[2..]),
            other => panic!("{other:?}"),
        }
        place.write("model/model.safetensors", &bytes);
        for more in ["", " --json", " --set model.quantize=nf4"] {
            let expected =
                [&format!("the tensor `{name}` holds a value that is not finite"), "model.safetensors", "hint: "];
            place.refuses(&format!("{checks}{more}"), &expected);
        }
    }
}
