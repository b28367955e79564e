//! A base, rows and a run are known by what they hold: where they lie may change, and is told; what they are may not.

use std::path::Path;

use checkpoints::{Contents, Retention, Run, Trained};
use serde_json::json;

use crate::support::{Ended, Workplace};

const RUN: &str = "run recipe.toml --set model.path=model --set train.steps";

/// A run of two steps on a base in a folder of its own.
fn trained() -> Workplace {
    let place = Workplace::with_model();
    place.trainer(&format!("{RUN}=2 --set optimizer.learning_rate=1e-2")).succeeds();
    place
}

fn draw(place: &Workplace, arguments: &str) -> Ended {
    place.trainer(&format!("sample {arguments} --prompt fox --temperature 0 --max-tokens 12")).succeeds()
}

fn rename(place: &Workplace, from: &str, to: &str) {
    std::fs::rename(place.path(from), place.path(to)).expect("a new name");
}

/// The same model with its last weight changed.
fn other_weights(place: &Workplace, name: &str) {
    place.model(name);
    let file = format!("{name}/model.safetensors");
    let mut bytes = place.read(&file);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    place.write(&file, bytes);
}

#[test]
fn a_base_that_moved_is_named_with_its_place_and_given_anew() {
    let place = trained();
    place.trainer("export run --out adapter").succeeds();
    let text = draw(&place, "run").stdout;
    assert_ne!(text, draw(&place, "model").stdout, "the adapter changes nothing");
    rename(&place, "model", "moved");
    let whole = place.path("model").display().to_string();
    for (model, named) in [("run", "step-000002/state.json"), ("adapter", "adapter/adapter_config.json")] {
        let expected = ["the base model cannot be had", named, &whole, "hint: ", "--base DIR|NAME"];
        place.refuses(&format!("sample {model} --prompt fox"), &expected);
        place.refuses(&format!("export {model} --out merged --merge"), &expected);
        place.write("targets.jsonl", json!({"prompt": "fox", "targets": ["a", "b"]}).to_string());
        place.refuses(&format!("eval {model} --data targets.jsonl"), &expected);
        assert_eq!(draw(&place, &format!("{model} --base moved")).stdout, text);
        let measured = place.trainer(&format!("eval {model} --base moved --data targets.jsonl --n 0")).succeeds();
        assert!(measured.lines()[0]["loss"].is_f64());
        let out = format!("merged-{model}");
        place.trainer(&format!("export {model} --base moved --out {out} --merge --dtype f32")).succeeds();
        assert_eq!(draw(&place, &out).stdout, text);
        // An adapter alone names the base that is given.
        place.trainer(&format!("export {model} --base moved --out {model}-copy")).succeeds();
        assert_eq!(draw(&place, &format!("{model}-copy")).stdout, text);
    }
    // The same in this program, and nothing is said; other weights, and that is.
    let same = draw(&place, "run --base builtin:tiny");
    assert_eq!(same.stdout, text);
    assert!(!same.stderr.contains("WARN"), "{}", same.stderr);
    other_weights(&place, "other");
    draw(&place, "run --base other").says(&["trained on another base than this: its weights are other ones", "other"]);
    place.refuses("sample run --base nowhere --prompt fox", &["nowhere", "hint: "]);
    place.refuses("sample moved --base other --prompt fox", &["`--base` has no effect", "hint: "]);
    place.trainer("eval --samples nothing.jsonl --base other").fails(&["--base"]);
}

#[test]
fn a_relative_path_means_the_same_base_from_everywhere() {
    let place = trained();
    place.trainer("export run --out adapter").succeeds();
    let text = draw(&place, "run").stdout;
    place.write("elsewhere/model/config.json", "not this one");
    for model in ["run", "adapter", "run/checkpoints/best"] {
        let command = format!("cd elsewhere && trainer sample ../{model} --prompt fox --temperature 0 --max-tokens 12");
        assert_eq!(place.shell(&command).succeeds().stdout, text, "{model}");
    }
    // All of it on another machine, where the path from here is what is left.
    let other = Workplace::new();
    for (name, bytes) in place.tree("run").into_iter().chain(place.tree("model")) {
        if !name.display().to_string().ends_with('/') {
            other.write(&name.display().to_string(), bytes);
        }
    }
    rename(&place, "model", "gone");
    assert_eq!(draw(&other, "run").stdout, text);
}

/// Taken for the end of the run, a checkpoint on the way would be compared as if it were one.
#[test]
fn a_run_that_is_not_at_its_end_is_told_of_where_it_is_meant_as_a_whole() {
    let place = Workplace::new();
    place.trainer("run recipe.toml").succeeds();
    assert_eq!(draw(&place, "run").stderr, "");
    std::fs::remove_dir_all(place.path("run/checkpoints/step-000006")).expect("a checkpoint");
    place.write("run/checkpoints/latest", "step-000004");
    draw(&place, "run").says(&["run: the run has not come to its end, and its latest checkpoint is step 4 of 6"]);
    assert_eq!(draw(&place, "run@4").stderr, "");
}

#[test]
fn checkpoints_of_a_run_go_by_name() {
    let place = Workplace::new();
    // So high a rate that the first evaluation is the best.
    let run = "run recipe.toml --set train.steps=6 --set eval.every=2 --set optimizer.learning_rate=0.05";
    place.trainer(run).succeeds();
    let text = |model: &str| draw(&place, model).stdout;
    assert_eq!(place.text("run/checkpoints/best"), "step-000002");
    assert_ne!(text("run@best"), text("run"));
    assert_eq!(text("run@best"), text("run@2"));
    assert_eq!(text("run@000004"), text("run/checkpoints/step-000004"));
    assert_eq!(text("run@latest"), text("run"));
    place.trainer("export run@best --out best").succeeds();
    assert_eq!(text("best"), text("run@best"));
    let inspected = place.trainer("inspect run@2 --json").succeeds().json();
    assert_eq!(inspected["step"], 2);
    place.trainer("inspect run@2 --diff run@6").succeeds();
    let next = place.text("recipe.toml").replace("rank = 4\nalpha = 8", "init_from = \"run@best\"");
    place.write("next.toml", next);
    place.trainer("run next.toml --set output.dir=next --set train.steps=1").succeeds();
    let there = "hint: there are `latest` (step 6), `best` (step 2) and the steps 2, 4, 6";
    for which in ["3", "bset", "-1", ""] {
        let found = place.refuses(&format!("sample run@{which} --prompt fox"), &["no checkpoint `", which, there]);
        assert!(found.stderr.contains("run@"), "{}", found.stderr);
        place.refuses(&format!("export run@{which} --out other"), &[there]);
        place.refuses(&format!("inspect run@{which}"), &[there]);
    }
    place.refuses("sample rnu@best --prompt fox", &["there is no such directory", "rnu"]);
    place.refuses("sample model@main --prompt fox", &["neither a folder nor the name of a model"]);
    // A folder that is called so.
    rename(&place, "run", "run@best");
    assert_eq!(text("run@best"), text("run@best/checkpoints/step-000006"));
    assert_eq!(text("run@best@2"), text("run@best/checkpoints/step-000002"));
    assert_eq!(text("run@best@step-000002"), text("run@best@2"));
    place.refuses("sample run@best@step-3 --prompt fox", &["the run has no checkpoint `step-3`", "the steps 2"]);
    rename(&place, "best", "me@example.org");
    assert_eq!(text("me@example.org"), text("run@best@best"));
}

#[test]
fn a_run_goes_on_with_rows_and_base_from_another_place() {
    let whole = Workplace::with_model();
    whole.trainer(&format!("{RUN}=4")).succeeds();
    let place = Workplace::with_model();
    place.trainer(&format!("{RUN}=2")).succeeds();
    rename(&place, "model", "moved");
    rename(&place, "rows.jsonl", "staged.jsonl");
    place.refuses(
        &format!("{RUN}=4 --set data.train=[\"staged.jsonl\"] --resume"),
        &["`model` is neither a folder", "hint: ", "--base DIR", "content is compared"],
    );
    let moved =
        "run recipe.toml --set model.path=moved --set data.train=[\"staged.jsonl\"] --set train.steps=4 --resume";
    place.trainer(moved).succeeds().says(&[
        "another place, the same content: `model.path`: \"model\" -> \"moved\"",
        "`data.train`: [\"rows.jsonl\"] -> [\"staged.jsonl\"]",
        "goes on      after step 2 of 4, in pass 1, about ",
        " to go; best so far",
    ]);
    let adapter = "run/checkpoints/step-000004/adapter_model.safetensors";
    assert!(whole.read(adapter) == place.read(adapter));
    assert_eq!(whole.timeless("run"), place.timeless("run"));
    // What is kept is what is so now: the length, and where the base lies.
    let state = place.json("run/checkpoints/step-000004/state.json");
    let recipe: toml::Table = toml::from_str(state["recipe"].as_str().expect("a recipe")).expect("TOML");
    assert_eq!((recipe["train"]["steps"].as_integer(), recipe["model"]["path"].as_str()), (Some(4), Some("moved")));
    assert_eq!(state["base"]["folder"], place.path("moved").display().to_string());
    assert_eq!(state["base"]["weights"], whole.json("run/checkpoints/step-000004/state.json")["base"]["weights"]);
    assert_eq!(draw(&place, "run").stdout, draw(&whole, "run").stdout);
    // The same said as elsewhere.
    rename(&place, "moved", "third");
    let longer = "run recipe.toml --set data.train=[\"staged.jsonl\"] --set train.steps=5";
    place.refuses(&format!("{longer} --base third"), &["`--resume` is missing"]);
    let told = "another place, the same content: `model.path`: \"moved\" -> \"third\"";
    place.trainer(&format!("{longer} --resume --base third")).succeeds().says(&[told]);
}

#[test]
fn another_base_is_not_gone_on_with() {
    let place = trained();
    let resume = "--set optimizer.learning_rate=1e-2 --resume";
    other_weights(&place, "other");
    let refused = ["not the run that was started", "the base is another one: its weights are other ones", "hint: "];
    place.refuses(&format!("run recipe.toml --set model.path=other --set train.steps=4 {resume}"), &refused);
    // At the same place, too.
    let (weights, config) = (place.read("model/model.safetensors"), place.text("model/config.json"));
    place.write("model/model.safetensors", place.read("other/model.safetensors"));
    place.refuses(&format!("{RUN}=4 {resume}"), &refused);
    place.write("model/model.safetensors", weights);
    place.write("model/config.json", config.replace("10000.0", "500000.0"));
    let refused = ["not the run that was started", "`config.json` means something else now", "500000", "hint: "];
    place.refuses(&format!("{RUN}=4 {resume}"), &refused);
    // Saved again by another version of transformers it means the same.
    let again = config
        .replace("\"rope_theta\": 10000.0", "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 1e4}");
    place.write("model/config.json", again.replacen('{', "{\"transformers_version\": \"5.0.0\",", 1));
    place.trainer(&format!("{RUN}=4 {resume}")).succeeds();
}

/// A checkpoint as earlier versions wrote it.
fn forget_the_base(run: &Path) {
    let run = Run::open(run).expect("a run");
    let checkpoint = run.latest().expect("checkpoints").expect("a checkpoint");
    let mut state = checkpoint.state().expect("a state");
    for key in ["base", "encoders"] {
        state.as_object_mut().expect("an object").remove(key).expect("the key");
    }
    let contents = Contents {
        weights: Trained::Adapter(checkpoint.adapter().unwrap_or_else(|faults| panic!("{faults}"))),
        training_state: checkpoint.training_state().expect("tensors"),
        state,
        beside: Vec::new(),
        best: true,
    };
    run.save(checkpoint.step, &contents, &Retention { keep: 3 }).expect("a checkpoint");
}

#[test]
fn a_checkpoint_that_does_not_say_what_its_base_was_goes_on_with_a_word() {
    let place = trained();
    forget_the_base(&place.path("run"));
    rename(&place, "model", "moved");
    // Nothing says that it is the same.
    let elsewhere = "run recipe.toml --set model.path=moved --set train.steps=4 --set optimizer.learning_rate=1e-2";
    place.refuses(&format!("{elsewhere} --resume"), &["`model.path`: \"model\" -> \"moved\"", "hint: "]);
    rename(&place, "moved", "model");
    let said = place.trainer(&format!("{RUN}=4 --set optimizer.learning_rate=1e-2 --resume")).succeeds();
    said.says(&["the checkpoint does not say what its base was"]);
    assert!(place.json("run/checkpoints/step-000004/state.json")["base"]["weights"].is_string());
    draw(&place, "run@2");
}

#[test]
fn a_longer_run_tells_how_its_rate_moves() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=4 --set schedule.kind=cosine").succeeds();
    let said = place.trainer("run recipe.toml --set train.steps=8 --set schedule.kind=cosine --resume").succeeds();
    // 5e-3 (1 + cos(pi 3 / 4)) / 2 and 5e-3 (1 + cos(pi 4 / 8)) / 2
    said.says(&["the rate was 7.3e-4 at step 4 and is 2.5e-3 at step 5", "goes on      after step 4 of 8"]);
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=4 --set schedule.warmup=0.5").succeeds();
    let longer = "run recipe.toml --set train.steps=8 --set schedule.warmup=0.5 --resume";
    place.trainer(longer).succeeds().says(&["a warm-up of 4 in place of 2"]);
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=2").succeeds();
    let said = place.trainer("run recipe.toml --set train.steps=4 --resume").succeeds();
    assert!(!said.stderr.contains("in place of"), "{}", said.stderr);
}

#[test]
fn what_a_run_does_after_its_last_checkpoint_is_done_when_it_is_resumed() {
    let place = Workplace::new();
    let run = "run recipe.toml --set train.steps=4 --set checkpoint.keep=1 --set eval.every=4";
    place.trainer(run).succeeds();
    let whole = place.tree("run");
    let last = place.text("run/checkpoints/latest");
    assert_eq!(place.text("run/checkpoints/best"), last, "there is one evaluation");
    // Ended right after its last checkpoint had its name.
    for file in ["run/report.html", "run/checkpoints/best"] {
        std::fs::remove_file(place.path(file)).expect("the file");
    }
    place.write("run/checkpoints/.staging-step-000003/state.json", "{");
    place.trainer(&format!("{run} --resume")).succeeds().says(&["done: 4 steps", "trainer export run"]);
    let now = place.tree("run");
    assert_eq!(whole.keys().collect::<Vec<_>>(), now.keys().collect::<Vec<_>>());
    assert!(whole == now, "a file is another");
    let again = place.trainer(&format!("{run} --resume")).succeeds();
    again.says(&["the run is done already, at step 4"]);
    assert!(now == place.tree("run"));
}

#[test]
fn what_an_export_left_that_was_ended_is_told_of_or_removed() {
    let place = trained();
    for left in [".merged.partial", ".older.partial"] {
        place.write(&format!("{left}/model.safetensors"), "half");
    }
    place.write(".mine.partial/notes.txt", "not an export");
    let said = place.trainer("export run --out merged --merge").succeeds();
    let said = said.says(&[
        "removing what an export to the same place left",
        ".merged.partial",
        "`./.older.partial` is what an export left",
    ]);
    assert!(!said.stderr.contains(".mine.partial"), "{}", said.stderr);
    let is_there = |name: &str| place.path(name).exists();
    assert!(!is_there(".merged.partial") && is_there(".older.partial") && is_there(".mine.partial"));
}

/// As rows and base, the chat template of a run is known by what it holds, and a copy is in its checkpoints.
#[test]
fn a_run_is_asked_and_goes_on_with_its_chat_template_from_anywhere() {
    let place = Workplace::with_model();
    let own = "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|im_end|>{% endfor %}";
    place.write("own.jinja", own);
    let chat = json!({"messages": [{"role": "user", "content": "a fox"}, {"role": "assistant", "content": "is red."}]});
    place.write("chat.jsonl", format!("{chat}\n").repeat(8));
    let run = |steps: usize, template: &str| {
        let data = format!("--set data.train=chat.jsonl --set data.eval=[] --set data.chat_template={template}");
        format!("{RUN}={steps} {data}")
    };
    place.trainer(&run(2, "own.jinja")).succeeds();
    let asked = "sample run --chat --prompt fox --temperature 0 --max-tokens 4";
    let answer = place.trainer(asked).succeeds().stdout;
    place.write("folder/moved.jinja", own);
    std::fs::remove_file(place.path("own.jinja")).expect("removed");
    assert_eq!(place.trainer(asked).succeeds().stdout, answer);
    place.trainer(&format!("{} --resume", run(3, "own.jinja"))).succeeds().says(&["that of the checkpoint"]);
    let told = "another place, the same content: `data.chat_template`: \"own.jinja\" -> \"folder/moved.jinja\"";
    place.trainer(&format!("{} --resume", run(4, "folder/moved.jinja"))).succeeds().says(&[told]);
    place.write("other.jinja", own.replace('[', "("));
    let refused = ["this is not the run that was started: `data.chat_template`", "hint: "];
    place.refuses(&format!("{} --resume", run(5, "other.jinja")), &refused);
}

/// The same weights beside another tokenizer: told wherever an adapter meets them. One that was only saved again is the
/// same.
#[test]
fn another_tokenizer_of_the_base_is_told_and_the_same_written_otherwise_is_not() {
    let place = trained();
    place.model("again");
    let tokenizer = place.json("again/tokenizer.json");
    place.write("again/tokenizer.json", format!("{tokenizer:#}\n"));
    let same = draw(&place, "run --base again");
    assert!(!same.stderr.contains("WARN"), "{}", same.stderr);

    place.model("other");
    let mut moved = tokenizer.clone();
    let vocabulary = moved["model"]["vocab"].as_object_mut().expect("tokens");
    let tokens: Vec<String> = vocabulary.keys().filter(|token| token.len() == 3).take(2).cloned().collect();
    let ids = [vocabulary[&tokens[0]].clone(), vocabulary[&tokens[1]].clone()];
    vocabulary.insert(tokens[0].clone(), ids[1].clone());
    vocabulary.insert(tokens[1].clone(), ids[0].clone());
    place.write("other/tokenizer.json", moved.to_string());
    let told = "trained with another tokenizer than the base has here: it makes other tokens of texts";
    draw(&place, "run --base other").says(&["WARN", told]);
    place.trainer("export run --base other --merge --out merged").succeeds().says(&["WARN", told]);
    let on = place.trainer(&format!("{RUN}=4 --set optimizer.learning_rate=1e-2 --set model.path=other --resume"));
    on.fails(&["the base has another tokenizer: it makes other tokens of texts", "hint: "]);

    place.model("chat");
    place.write("chat/chat_template.jinja", "{{ messages[0].content }}");
    draw(&place, "run --base chat").says(&["WARN", "its chat template is another one"]);
    // Plain rows are the same with it: that is told, and the run goes on.
    let on = place.trainer(&format!("{RUN}=4 --set optimizer.learning_rate=1e-2 --set model.path=chat --resume"));
    on.succeeds().says(&["WARN", "the base has another tokenizer: its chat template is another one"]);
}
