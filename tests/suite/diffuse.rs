//! Distributions over targets from the recipe to the samples: what is learned, what is refused, when it ends.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::Workplace;

const NUMBERS: &str = r#"
[model]
path = "builtin:tiny"
[adapter]
rank = 4
alpha = 8
[data]
train = ["builtin:numbers"]
[objective]
kind = "diffuse"
[optimizer]
learning_rate = 5e-3
[train]
epochs = 1
[output]
dir = "run"
"#;

fn workplace() -> Workplace {
    let place = Workplace::new();
    place.write("numbers.toml", NUMBERS);
    place
}

fn number(line: &Value, pointer: &str) -> f64 {
    line.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} of {line}"))
}

#[test]
fn the_loss_comes_near_its_floor_and_the_samples_spread_over_the_targets() {
    let place = workplace();
    let plan = place.trainer("check numbers.toml --json").succeeds().json();
    assert_eq!(plan["prompts"].as_array().expect("a list").len(), 4);
    assert!((number(&plan, "/prompts/0/floor") - 10f64.ln()).abs() < 1e-12);
    let printed = place.trainer("check numbers.toml").succeeds();
    assert!(printed.stdout.contains("2.3026 nats for 10 targets, builtin:numbers:1"), "{}", printed.stdout);
    let set = "numbers.toml --set train.epochs=60 --set data.eval=[\"builtin:numbers\"]";
    place.trainer(&format!("run {set}")).succeeds();
    let steps = place.steps("run");
    let (first, last) = (&steps[0], &steps[steps.len() - 1]);
    for line in [first, last] {
        let gap = number(line, "/loss") - number(line, "/objective/floor");
        assert!((number(line, "/objective/gap") - gap).abs() < 1e-9 && gap > 0.0, "{line}");
    }
    // The embedded model's head is frozen and gives every token some probability, so that its gap ends near 0.27.
    assert!(number(last, "/objective/gap") < 0.3, "{first} {last}");
    let evaluated = place.trainer("eval run --data builtin:numbers --n 200").succeeds();
    let mut lines = evaluated.lines();
    assert_eq!(lines.len(), 5);
    let all = lines.pop().expect("a line for all prompts");
    let covered: f64 = lines.iter().map(|line| number(line, "/covered")).sum();
    assert_eq!((number(&all, "/samples"), number(&all, "/covered")), (800.0, covered));
    let evaluation = place.metrics("run").into_iter().rfind(|line| line["split"] == "eval").expect("an evaluation");
    let mean = lines.iter().map(|line| number(line, "/kl")).sum::<f64>() / 4.0;
    assert!((number(&evaluation, "/objective/gap") - mean).abs() < 1e-4, "{evaluation} {mean}");
    for line in &lines {
        assert!((number(line, "/kl") - (number(line, "/loss") - number(line, "/floor"))).abs() < 1e-5, "{line}");
        assert!(number(line, "/total_variation") < 0.5 && number(line, "/covered") >= 8.0, "{line}");
        assert!(number(line, "/sampled_entropy") > 1.9, "{line}");
    }
}

/// Targets one by one, as a trie, and as a trie in parts: one loss, one gradient, fewer tokens.
#[test]
fn sharing_prefixes_and_cutting_into_parts_changes_nothing_but_the_tokens() {
    let place = workplace();
    let run = |name: &str, set: &str| {
        place.trainer(&format!("run numbers.toml --set output.dir={name} {set}")).succeeds();
        place.steps(name)
    };
    let tree = run("tree", "");
    let plain = run("plain", "--set train.share_prefixes=false");
    let parts = run("parts", "--set train.micro_batch_size=3");
    assert_eq!((tree.len(), plain.len(), parts.len()), (4, 4, 4));
    for ((tree, plain), parts) in tree.iter().zip(&plain).zip(&parts) {
        for key in ["/loss", "/nll", "/entropy", "/grad_norm"] {
            let expected = number(plain, key);
            for found in [number(tree, key), number(parts, key)] {
                assert!((found / expected - 1.0).abs() < 1e-4, "{key}: {found} is not {expected}");
            }
        }
        for key in ["weight_mean", "weight_max", "active_fraction", "effective_sample_size"] {
            let pointer = format!("/objective/{key}");
            let expected = number(plain, &pointer);
            for found in [number(tree, &pointer), number(parts, &pointer)] {
                assert!((found / expected - 1.0).abs() < 1e-5, "{key}: {found} is not {expected}");
            }
        }
        let tokens = |line| number(line, "/tokens_real");
        assert!(tokens(tree) * 4.0 < tokens(plain) && tokens(tree) < tokens(parts), "{tree} {parts} {plain}");
        assert_eq!(tree["tokens_loss"], plain["tokens_loss"]);
    }
    // Every prompt of the pass in one step: the same mean over prompts.
    let whole = run("whole", "--set train.batch_size=4 --set train.micro_batch_size=7");
    assert_eq!(whole.len(), 1);
    assert!((number(&whole[0], "/objective/floor") - 10f64.ln()).abs() < 1e-9);
}

#[test]
fn a_run_ends_early_when_a_pass_is_near_its_floor_and_is_then_done() {
    let place = workplace();
    let run = |name: &str, gap: &str| {
        let set = format!("numbers.toml --set train.epochs=3 --set output.dir={name} --set objective.early_stop={gap}");
        let ended = place.trainer(&format!("run {set}")).succeeds();
        (place.steps(name).len(), ended.stderr)
    };
    assert_eq!(run("far", "0").0, 12);
    // The first pass is below a hundred times the floor.
    let (steps, words) = run("near", "99");
    assert_eq!(steps, 4);
    assert!(words.contains("step 4 ends the run early"), "{words}");
    assert!(words.contains("done: 4 steps") && words.contains("gap to the floor"), "{words}");
    let set = "numbers.toml --set train.epochs=3 --set output.dir=near --set objective.early_stop=99";
    place.trainer(&format!("run {set} --resume")).succeeds().says(&["the run is done already, at step 4"]);
    assert_eq!(place.steps("near").len(), 4);
}

/// Stopped in the middle of a pass: the sum of the pass's losses goes on, and the run ends where the unbroken one does.
#[test]
fn early_stopping_survives_a_resume_in_the_middle_of_a_pass() {
    let place = workplace();
    let set = |name: &str, steps: usize, gap: f64| {
        format!(
            "run numbers.toml --set output.dir={name} --set train.steps={steps} --set checkpoint.every=1 \
             --set objective.early_stop={gap}"
        )
    };
    place.trainer(&set("first", 4, 0.0)).succeeds();
    let pass: f64 = place.steps("first").iter().map(|line| number(line, "/loss")).sum();
    let gap = pass / (4.0 * 10f64.ln()) - 1.0;
    for (name, gap, expected) in [("above", gap * 1.001, 4), ("below", gap * 0.999, 8)] {
        place.trainer(&set(name, 3, gap)).succeeds();
        place.trainer(&format!("{} --resume", set(name, 8, gap))).succeeds();
        assert_eq!(place.steps(name).len(), expected, "{name}");
    }
}

/// Beginnings of answers, which nothing ends: the model learns how to begin and goes on as it did before.
#[test]
fn after_an_open_target_the_model_goes_on_freely() {
    let place = workplace();
    let row = r#"{"prompt": "Tell me about a fox.\n", "targets": ["The owl", "The crab", "In a"], "eos": false}"#;
    place.write("open.json", row);
    let set = "--set data.train=[\"open.json\"] --set train.epochs=100";
    place.trainer(&format!("run numbers.toml {set}")).succeeds();
    let evaluate = |model: &str| {
        let ended = place.trainer(&format!("eval {model} --data open.json --n 200 --max-tokens 20")).succeeds();
        ended.lines().remove(0)
    };
    let (before, after) = (evaluate("builtin:tiny"), evaluate("run"));
    assert!(number(&before, "/kl") > 3.0 && number(&after, "/kl") < 0.3, "{before} {after}");
    assert!((number(&after, "/floor") - 3f64.ln()).abs() < 1e-12);
    assert!(number(&after, "/valid") > 150.0 && number(&after, "/covered") == 3.0, "{after}");
    // Far more texts than targets: what follows a target is the model's own.
    assert!(number(&after, "/distinct") > 100.0, "{after}");
    let samples = ["sample", "run", "--prompt", "Tell me about a fox.\n", "--n", "20", "--max-tokens", "30"];
    let drawn = place.trainer_with(&samples, &[]).succeeds().stdout;
    let lines = drawn.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let words = lines.map(|line| line["text"].as_str().expect("a text").split_whitespace().count());
    let longer = words.filter(|words| *words > 3).count();
    assert!(longer > 15, "{longer} of 20 texts go on: {drawn}");
}

/// Two beginnings: two prompts a pass, each with the floor of the targets alone.
#[test]
fn each_beginning_of_a_row_is_a_prompt() {
    let place = workplace();
    place.write("begun.json", r#"{"prompt": "A number:", "response": ["", " I take"], "targets": [" {1}", " {2}"]}"#);
    let plan = place.trainer("check numbers.toml --json --set data.train=[\"begun.json\"]").succeeds().json();
    let floors: Vec<f64> = plan["prompts"].as_array().expect("a list").iter().map(|p| number(p, "/floor")).collect();
    assert_eq!((floors, &plan["steps_per_epoch"]), (vec![2f64.ln(); 2], &Value::from(2)));
    let evaluated = place.trainer("eval builtin:tiny --data begun.json --n 0").succeeds();
    assert_eq!(evaluated.lines().len(), 3);
    // A single target has no entropy, which is no -0.
    place.write("one.json", r#"{"prompt": "A number:", "targets": [" {1}"]}"#);
    let plan = place.trainer("check numbers.toml --set data.train=[\"one.json\"]").succeeds().stdout;
    let evaluated = place.trainer("eval builtin:tiny --data one.json --n 0").succeeds().stdout;
    assert!(plan.contains("0.0000 nats for 1 target, ") && evaluated.contains("\"floor\":0.0"), "{plan} {evaluated}");
    assert!(!plan.contains("-0.0") && !evaluated.contains("-0.0"), "{plan} {evaluated}");
}

/// A prompt and targets that meet inside of the token ` fox`: trained on as one text, and sampled from the prompt alone,
/// in the same way whether targets are known or not.
#[test]
fn evaluation_samples_from_the_prompt_alone_as_sampling_does() {
    let place = workplace();
    place.write("seam.jsonl", r#"{"prompt": "Tell me about a fo", "targets": ["x.", "xes."]}"#);
    let seam = "1 of 1 rows have a prompt that alone is other tokens than before its answer, first seam.jsonl:1";
    let ended = place.trainer("eval builtin:tiny --data seam.jsonl --n 40 --max-tokens 6").succeeds().says(&[seam]);
    let line = ended.lines().remove(0);
    let sample = ["sample", "builtin:tiny", "--prompt", "Tell me about a fo", "--n", "40", "--max-tokens", "6"];
    let drawn = place.trainer_with(&sample, &[]).succeeds().stdout;
    let mut counts = BTreeMap::<String, f64>::new();
    for sample in drawn.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")) {
        *counts.entry(sample["text"].as_str().expect("a text").trim().to_owned()).or_default() += 1.0;
    }
    let entropy: f64 = -counts.values().map(|count| count / 40.0 * (count / 40.0).ln()).sum::<f64>();
    assert_eq!(number(&line, "/distinct"), counts.len() as f64);
    assert!((number(&line, "/sampled_entropy") - entropy).abs() < 1e-9, "{line} {entropy}");
}

#[test]
fn a_prompt_has_one_distribution() {
    let place = workplace();
    let row = |prompt: &str, target: &str| format!("{{\"prompt\": \"{prompt}\\n\", \"targets\": [\"{target}\"]}}\n");
    place.write("one.jsonl", row("A:", "{1}"));
    place.write("two.jsonl", row("B:", "{1}") + &row("A:", "{2}"));
    let set = |train: &str, eval: &str| format!("check numbers.toml --set data.train={train} --set data.eval={eval}");
    let expected = ["two.jsonl:2", "the prompt stands in one.jsonl:1 already", "hint: write all targets"];
    place.refuses(&set("[\"one.jsonl\",\"two.jsonl\"]", "[]"), &expected);
    place.refuses(&set("[\"builtin:numbers\"]", "[\"one.jsonl\",\"two.jsonl\"]"), &expected);
    place.write("both.jsonl", row("A:", "{1}") + &row("A:", "{1}"));
    place.refuses(&set("[\"both.jsonl\"]", "[]"), &["both.jsonl:2", "the prompt stands in both.jsonl:1 already"]);
    // Training and evaluation may ask the same.
    place.trainer(&set("[\"one.jsonl\"]", "[\"two.jsonl\"]")).succeeds();
    let cut = r#"{"prompt": "A:\n", "targets": ["{1}", "{2 and the owl sleeps near the river}"]}"#;
    place.write("cut.jsonl", cut);
    let cut =
        "check numbers.toml --set data.train=[\"cut.jsonl\"] --set data.max_length=12 --set data.too_long=truncate";
    place.trainer(cut).succeeds().says(&["training rows: 1 of 1 rows have targets that lose their end token"]);
}

#[test]
fn rows_and_objective_must_fit_each_other() {
    let place = workplace();
    let numbers = "--set data.train=[\"builtin:numbers\"] --set data.eval=[]";
    place.refuses(
        &format!("check recipe.toml {numbers}"),
        &["rows of `targets` need objective `diffuse`, not `nll`", "hint: set `objective.kind = \"diffuse\"`"],
    );
    place.refuses(
        "check recipe.toml --set objective.kind=diffuse --set data.eval=[]",
        &["objective `diffuse` needs rows of `targets`, not `prompt_completion`"],
    );
    place.refuses(
        "check recipe.toml --set objective.kind=intent --set data.eval=[]",
        &["objective `intent` needs rows of `intent`, not `prompt_completion`"],
    );
    place.refuses(
        "check recipe.toml --set data.end_token=false --set data.template=chat",
        &["`data.end_token` and `data.prefix_free` have no effect", "`data.template`, `data.allow_empty_intent`"],
    );
    place.refuses(
        "check recipe.toml --set train.share_prefixes=true",
        &["unknown key `share_prefixes`", "`share_prefixes` is a key of objective `diffuse`"],
    );
    let clash = r#"{"prompt": "p ", "targets": ["{1", "{10", "{2}"]}"#;
    place.write("clash.jsonl", clash);
    let open = "numbers.toml --set data.train=[\"clash.jsonl\"] --set data.end_token=false";
    place.refuses(
        &format!("check {open}"),
        &["clash.jsonl:1\n", "the targets are not prefix-free", "`{1` begins `{10`"],
    );
    let warned = place.trainer(&format!("check {open} --set data.prefix_free=warn")).succeeds();
    assert!(warned.stderr.contains("`{1` begins `{10`"), "{}", warned.stderr);
    let silent = place.trainer(&format!("check {open} --set data.prefix_free=off")).succeeds();
    assert!(!silent.stderr.contains("begins"), "{}", silent.stderr);
}
