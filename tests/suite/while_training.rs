//! What is measured of prompts at each evaluation, the best checkpoint by it, and the end of a run that gets no better.

use serde_json::{Value, json};

use crate::support::Workplace;

const TARGETS: &str = "{\"prompt\": \"The quiet fox \", \"targets\": [\"sleeps.\", \"sings.\", \"walks home.\"]}\n";

fn place() -> Workplace {
    let place = Workplace::new();
    place.write("targets.jsonl", TARGETS);
    place
}

fn evaluations(place: &Workplace, run: &str) -> Vec<Value> {
    let lines = place.text(&format!("{run}/metrics.jsonl"));
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line["split"] == "eval").collect()
}

/// The numbers in the run are those that `eval` has of the same weights.
#[test]
fn evaluations_have_the_exact_numbers_that_eval_has_and_keep_their_samples() {
    let place = place();
    let set = "--set eval.prompts=targets.jsonl --set eval.samples=4 --set eval.max_tokens=6 --set eval.every=3";
    place.trainer(&format!("run recipe.toml {set}")).succeeds();
    let found = evaluations(&place, "run");
    assert_eq!(found.len(), 3);
    let eval = place.trainer("eval builtin:tiny run --data targets.jsonl").succeeds();
    let lines = eval.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let together: Vec<Value> = lines.filter(|line| line["prompt"].is_null()).collect();
    for (in_run, by_eval) in [(&found[0], &together[0]), (&found[2], &together[1])] {
        for key in ["mass", "loss", "kl", "f8", "entropy"] {
            let (a, b) = (in_run["exact"][key].as_f64().expect(key), by_eval[key].as_f64().expect(key));
            // The run has its adapter in parts of its own, `eval` loads it anew: the same values, summed alike.
            assert!((a - b).abs() <= 1e-6 * b.abs().max(1e-6), "{key}: {a} is not {b}");
        }
        let (a, b) = (&in_run["exact"]["coverage.100"], &by_eval["coverage"]["100"]);
        assert!((a.as_f64().expect("a number") - b.as_f64().expect("a number")).abs() < 1e-6, "{a} is not {b}");
    }
    let samples = place.text("run/samples/step-000003.jsonl");
    assert_eq!(samples.lines().count(), 4);
    let texts: Vec<Value> = samples.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect();
    let mut distinct: Vec<&str> = texts.iter().map(|line| line["text"].as_str().expect("a text")).collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(found[1]["samples"]["distinct"], distinct.len() as f64);
    // They are rows for the command that measures samples, which counts the same.
    let counted = place.trainer("eval --samples run/samples/step-000003.jsonl").succeeds().stdout;
    let counted: Value = serde_json::from_str(counted.lines().last().expect("a line")).expect("JSON");
    for key in ["entropy", "self_bleu_nltk", "compression_ratio", "validity"] {
        assert_eq!(found[1]["samples"][key], counted[key], "{key}");
    }
    assert_eq!(found[1]["samples"]["pass_at_k.1"], counted["pass_at_k"]["1"]);
    // What is right is said by the row's targets.
    for line in &texts {
        let text = line["text"].as_str().expect("a text").trim();
        let is_right = line["stopped"] == true && ["sleeps.", "sings.", "walks home."].contains(&text);
        assert_eq!(line["correct"], is_right, "{text}");
    }
}

/// A run that has learned its targets says them, and their number is a number of the run like any other.
#[test]
fn samples_are_right_where_they_say_a_target() {
    let place = Workplace::new();
    place.write("targets.jsonl", "{\"prompt\": \"Owl or fox?\\n\", \"targets\": [\"owl\", \"fox\"]}\n");
    let set = "--set data.train=targets.jsonl --set data.eval=targets.jsonl --set objective.kind=diffuse --set train.steps=60 \
               --set train.batch_size=1 --set optimizer.learning_rate=0.003 --set eval.every=20 \
               --set checkpoint.every=20 --set eval.prompts=targets.jsonl --set checkpoint.best_by=yield";
    place.trainer(&format!("run full.toml {set}")).succeeds();
    let found = evaluations(&place, "run");
    let (first, last) = (&found[0]["samples"], &found[found.len() - 1]["samples"]);
    assert_eq!((&first["validity"], &first["yield"]), (&json!(0.0), &json!(0.0)));
    assert_eq!((&last["validity"], &last["yield"]), (&json!(1.0), &json!(2.0)));
}

/// What is measured changes nothing of what is trained, and a resumed run measures the same.
#[test]
fn a_run_that_is_observed_is_the_run_that_is_not_and_goes_on_bitwise() {
    let plain = place();
    plain.trainer("run recipe.toml").succeeds();
    let set = "--set eval.prompts=targets.jsonl --set eval.samples=3 --set eval.max_tokens=5";
    let whole = place();
    whole.trainer(&format!("run recipe.toml {set}")).succeeds();
    let adapter = "run/checkpoints/step-000006/adapter_model.safetensors";
    assert_eq!(plain.read(adapter), whole.read(adapter));
    let parts = place();
    parts.trainer(&format!("run recipe.toml {set} --set train.steps=2")).succeeds();
    parts.trainer(&format!("run recipe.toml {set} --resume")).succeeds();
    assert_eq!(parts.read(adapter), whole.read(adapter));
    assert_eq!(parts.timeless("run"), whole.timeless("run"));
    let samples = "run/samples/step-000006.jsonl";
    assert_eq!(parts.text(samples), whole.text(samples));
}

/// Numbers of other prompts, or at another temperature, would stand beside those that are there as if they were of one kind.
#[test]
fn a_run_goes_on_with_the_prompts_that_it_was_measured_on() {
    let place = place();
    place.write("others.jsonl", TARGETS);
    let set = "--set eval.samples=0 --set train.steps=2";
    place.trainer(&format!("run recipe.toml {set} --set eval.prompts=targets.jsonl")).succeeds();
    let set = "run recipe.toml --resume --set eval.samples=0";
    for other in ["eval.prompts=others.jsonl", "eval.prompts=targets.jsonl --set eval.temperature=0.5"] {
        place.trainer(&format!("{set} --set {other}")).fails(&["`eval.", "->", "hint: "]);
    }
    let finer = "--set eval.prompts=targets.jsonl --set eval.temperatures=[0.9] --set eval.every=1";
    place.trainer(&format!("{set} {finer} --set train.steps=3")).succeeds();
    // Without any, nothing is compared.
    place.trainer("run recipe.toml --resume").succeeds();
}

#[test]
fn the_best_checkpoint_is_chosen_by_the_number_that_is_asked_for() {
    let place = place();
    let rate = "--set optimizer.learning_rate=0.05 --set eval.every=1 --set eval.prompts=targets.jsonl";
    let told = place.trainer(&format!("run recipe.toml {rate} --set eval.samples=0 --set checkpoint.best_by=f8"));
    let found = evaluations(&place, "run");
    let f8 = |line: &Value| line["exact"]["f8"].as_f64().expect("a number");
    let best = found[1..].iter().rev().max_by(|a, b| f8(a).total_cmp(&f8(b))).expect("evaluations");
    let named = format!("step-{:06}", best["step"].as_u64().expect("a step"));
    assert_eq!(place.text("run/checkpoints/best"), named);
    assert!(!place.path("run/samples").exists());
    if best["step"] != 6 {
        told.says(&[&format!("best checkpoint f8 {:.4} at step {}", f8(best), best["step"])]);
    }
}

#[test]
fn a_run_that_gets_no_better_ends_and_goes_on_with_more_patience() {
    // So high a rate that every evaluation is worse than the first.
    let set = "--set eval.every=1 --set optimizer.learning_rate=0.05";
    let place = place();
    let told = place.trainer(&format!("run recipe.toml {set} --set checkpoint.patience=2"));
    told.says(&["step 3 ends the run early: no better nll in 2 evaluations"]);
    assert_eq!(place.text("run/checkpoints/latest"), "step-000003");
    assert_eq!(place.text("run/checkpoints/best"), "step-000001");
    place.trainer(&format!("run recipe.toml {set} --set checkpoint.patience=2 --resume")).says(&["done already"]);
    place.trainer(&format!("run recipe.toml {set} --resume")).succeeds();
    let whole = self::place();
    whole.trainer(&format!("run recipe.toml {set}")).succeeds();
    assert_eq!(place.timeless("run"), whole.timeless("run"));
    let adapter = "run/checkpoints/step-000006/adapter_model.safetensors";
    assert_eq!(place.read(adapter), whole.read(adapter));
}

#[test]
fn what_cannot_be_measured_is_told_before_the_first_step() {
    let place = place();
    place.write("empty.jsonl", "");
    for (set, words) in [
        ("--set checkpoint.best_by=f8", "`checkpoint.best_by` is a number of prompts"),
        ("--set checkpoint.best_by=entropy --set eval.prompts=targets.jsonl", "a metric that can be better or worse"),
        ("--set eval.samples=3", "`eval.samples` has no effect without `eval.prompts`"),
        ("--set eval.temperatures=[1]", "`eval.temperatures` has no effect without `eval.prompts`"),
        ("--set eval.prompts=targets.jsonl --set eval.temperatures=[-1]", "must be numbers from 0 up"),
        ("--set eval.prompts=held_out.jsonl --set eval.temperatures=[1]", "no row of `eval.prompts` has targets"),
        ("--set eval.prompts=targets.jsonl --set eval.max_prompts=0", "`eval.max_prompts`"),
        ("--set eval.prompts=missing.jsonl", "missing.jsonl"),
        ("--set eval.prompts=empty.jsonl", "the file has no rows"),
        ("--set eval.prompts=targets.jsonl --set eval.max_tokens=100000", "lower `eval.max_tokens`"),
        ("--set eval.prompts=targets.jsonl --set data.eval=[]", "`eval.prompts` has no effect without `data.eval`"),
        ("--set eval.prompts=targets.jsonl --set checkpoint.best_by=coverage.7", "no number `coverage.7`"),
        ("--set eval.prompts=held_out.jsonl --set checkpoint.best_by=validity", "no number `validity`"),
        ("--set eval.prompts=held_out.jsonl --set checkpoint.best_by=f8", "no number `f8`"),
        ("--set eval.prompts=held_out.jsonl --set eval.samples=0", "`eval.samples` = 0 leaves nothing to be measured"),
    ] {
        place.trainer(&format!("run recipe.toml {set}")).fails(&[words]);
        assert!(!place.path("run").exists(), "{set}");
    }
}

/// What a run keeps of its rows with targets is what `eval` prints of them, at every temperature.
#[test]
fn a_run_keeps_the_lines_that_eval_prints_and_ends_with_before_and_after() {
    let place = Workplace::new();
    let rows = ["fox ", "hare ", "wren ", "newt "].map(|animal| {
        let row =
            json!({"prompt": format!("The quiet {animal}"), "targets": ["sleeps.", "sings."], "weights": [0.75, 0.25]});
        format!("{row}\n")
    });
    place.write("targets.jsonl", rows.concat());
    let set = "--set eval.prompts=targets.jsonl --set eval.samples=0 --set eval.max_prompts=2";
    let told = place.trainer(&format!("run recipe.toml {set} --set eval.temperatures=[0.5,2]")).succeeds();
    let parsed =
        |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect() };
    // Every second of four, and the same model: `eval` counts lines of the file that it is given.
    place.write("two.jsonl", format!("{}\n{}", rows[0], rows[2]));
    for (model, step) in [("builtin:tiny", 0), ("run", 6)] {
        let kept = parsed(&place.text(&format!("run/evaluation/step-{step:06}.jsonl")));
        let printed = place.trainer(&format!("eval {model} --data two.jsonl --temperatures 0.5,1,2")).succeeds();
        let printed = parsed(&printed.stdout);
        assert_eq!(kept.len(), printed.len());
        for (kept, printed) in kept.iter().zip(&printed) {
            for key in ["prompt", "temperature", "targets", "line"] {
                assert_eq!(kept[key], printed[key], "{key}");
            }
            let (kept, printed) = (kept["mass"].as_f64().expect("mass"), printed["mass"].as_f64().expect("mass"));
            assert!((kept - printed).abs() <= 1e-6 * printed, "{kept} is not {printed}");
        }
    }
    let mass = parsed(&place.text("run/evaluation/step-000000.jsonl"))
        .iter()
        .find(|line| line["prompt"].is_null() && line["temperature"] == 1.0)
        .and_then(|line| line["mass"].as_f64())
        .expect("a line");
    let told = told.says(&["at each evaluation 2 prompts; exactly 4 targets of 2 prompts at 3 temperatures"]);
    told.says(&["exactly, of 2 prompts", &format!("{mass:.4}"), "before (step 0), T = 1", "after step "]);
}

/// Columns have the names that the training rows' have, go through the chat template where those do, and what nothing reads of
/// them is told.
#[test]
fn prompts_are_asked_as_the_training_rows_are() {
    let place = Workplace::new();
    place.write(
        "qa.jsonl",
        "{\"question\": \"A fox?\", \"answer\": \"It sleeps.\", \"rules\": \"Be brief.\"}\n".repeat(8),
    );
    place.write(
        "prompts.jsonl",
        "{\"question\": \"An owl?\", \"rules\": \"Be kind.\", \"id\": 1}\n{\"prompt\": \"A bee?\"}\n\
         {\"messages\": [{\"role\": \"user\", \"content\": \"A cat?\", \"foo\": 1}]}\n",
    );
    let set = "--set data.train=qa.jsonl --set data.eval=qa.jsonl --set train.steps=1 --set eval.prompts=prompts.jsonl \
               --set eval.samples=1 --set eval.max_tokens=3 --set data.chat={user=\"question\",assistant=\"answer\",system=\"rules\"}";
    let ended = place.trainer(&format!("run recipe.toml {set}")).succeeds();
    ended.says(&["prompts of evaluations: 1 of 3 rows have what nothing reads", "`messages[].foo` in 1"]);
    let drawn = place.text("run/samples/step-000001.jsonl");
    let asked: Vec<Value> =
        drawn.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["prompt"].clone()).collect();
    let said =
        place.trainer_with(&["sample", "builtin:tiny", "--prompt", "An owl?", "--chat", "--max-tokens", "1"], &[]);
    assert_eq!(said.succeeds().lines()[0]["prompt"], "An owl?");
    for (asked, parts) in asked.iter().zip([&["Be kind.", "An owl?"][..], &["A bee?"], &["A cat?"]]) {
        let text = asked.as_str().expect("a text");
        assert!(parts.iter().all(|part| text.contains(part)) && !parts.contains(&text), "{text:?}");
    }
    // Under the names of `data.rename`, in rows that have them.
    let set = "--set data.train=qa.jsonl --set data.eval=qa.jsonl --set data.ignore=[\"rules\"] --set train.steps=1 --set eval.prompts=prompts.jsonl \
               --set eval.samples=1 --set eval.max_tokens=3 --set data.rename={question=\"prompt\",answer=\"completion\"} --set output.dir=renamed";
    place.trainer(&format!("run recipe.toml {set}")).succeeds();
    assert!(place.text("renamed/samples/step-000001.jsonl").starts_with("{\"step\":1,\"prompt\":\"An owl?\""));
}
