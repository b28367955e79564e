//! Training with the objectives: the held-out rows become likelier, and the diagnostics say what was done.

use std::path::Path;

use serde_json::json;

use crate::support::{PROGRAM, Workplace};

#[test]
fn cdiv_lowers_the_nll_of_held_out_rows_and_reports_its_weights() {
    let place = Workplace::new();
    let set = "--set train.steps=30 --set train.batch_size=8 --set objective={kind=\"cdiv\",alpha=1.4} \
               --set data.train=[\"builtin:world-train\"] --set data.eval=[\"builtin:world-eval\"] \
               --set checkpoint.every=15 --set optimizer.learning_rate=3e-3";
    let ended = place.trainer(&format!("run recipe.toml {set}")).succeeds();
    let evaluations: Vec<f64> = (place.metrics("run").iter())
        .filter(|line| line["split"] == "eval")
        .map(|line| line["nll"].as_f64().expect("nll"))
        .collect();
    assert_eq!(evaluations.len(), 3);
    assert!(evaluations.windows(2).all(|pair| pair[1] < pair[0]), "{evaluations:?}");
    for line in place.steps("run") {
        let number = |name: &str| line["objective"][name].as_f64().unwrap_or_else(|| panic!("{name} of {line}"));
        // exp(0.4 nll) is 1 or more, and the loss weighs each nll by it.
        assert!(number("weight_mean") >= 1.0 && number("weight_max") >= number("weight_mean"), "{line}");
        assert_eq!(number("active_fraction"), 1.0);
        let tokens = line["tokens_loss"].as_f64().expect("a count");
        assert!(
            number("effective_sample_size") > 1.0 && number("effective_sample_size") <= tokens * 1.000_01,
            "{line}"
        );
        assert!(line["loss"].as_f64() > line["nll"].as_f64(), "{line}");
    }
    ended.says(&["done: 30 steps", "nll of the held-out rows", "trainer sample run", "trainer export run"]);
}

/// So high a rate that every evaluation is worse than the one before: the run says so, and offers the checkpoint before.
#[test]
fn a_run_that_makes_held_out_rows_worse_says_so_and_offers_its_best_checkpoint() {
    let place = Workplace::new();
    let run =
        "run recipe.toml --set eval.every=1 --set checkpoint.every=9 --set train.steps=3 --set optimizer.learning_rate";
    let ended = place.trainer(&format!("{run}=0.05")).succeeds();
    let nll = |step: u64| {
        let metrics = place.metrics("run");
        let line = metrics.iter().find(|line| line["split"] == "eval" && line["step"] == step).expect("an evaluation");
        line["nll"].as_f64().expect("nll")
    };
    let best = place.text("run/checkpoints/best");
    let step: u64 = best.trim_start_matches("step-").parse().expect("a step");
    assert!(step < 3 && nll(step) < nll(3), "{best}");
    let told =
        format!("the nll of the held-out rows is {:.4} after step 3, and was {:.4} before training", nll(3), nll(0));
    assert!(ended.stderr.contains("lower `optimizer.learning_rate` (it is 5e-2)"), "{}", ended.stderr);
    let (_, closing) = ended.stderr.split_once("done: 3 steps").expect("closing words");
    assert!(ended.stderr.contains(&told), "{}", ended.stderr);
    for part in [
        format!(
            "nll of the held-out rows {:.4} -> {:.4}, best checkpoint {:.4} at step {step}\n",
            nll(0),
            nll(3),
            nll(step)
        ),
        format!("`sample` and `export` take step 3, the end, of run, and step {step} of run@best\n"),
        "  trainer sample run@best --".into(),
        "  trainer export run@best --out exported --merge\n".into(),
    ] {
        assert!(closing.contains(&part), "{part:?} is not in\n{closing}");
    }
    // A rate that helps: nothing to say, and the end is the best.
    let set = "--set data.eval=[\"rows.jsonl\"] --set output.dir=good";
    let quiet = place.trainer(&format!("{run}=2e-3 {set}")).succeeds();
    assert!(
        !quiet.stderr.contains("held-out rows is") && !quiet.stderr.contains("best checkpoint"),
        "{}",
        quiet.stderr
    );
    assert!(quiet.stderr.contains("  trainer sample good --"), "{}", quiet.stderr);
    // The page says what the run said.
    assert!(
        place.text("run/report.html").contains(&told) && !place.text("good/report.html").contains("before training")
    );
}

/// Weights that overflow while the nll does not are no matter of the learning rate.
#[test]
fn an_overflow_of_weights_names_what_bounds_them() {
    let place = Workplace::new();
    let set = "--set objective.kind=cdiv --set data.eval=[] --set objective.alpha=";
    place.refuses(&format!("check recipe.toml {set}1e308"), &["`objective.alpha`", "hint: 1 is plain nll"]);
    place.refuses(&format!("check recipe.toml {set}10.1"), &["`objective.alpha` must be at most 10"]);
    // A rate that makes the model's nll so large, and no larger than a number can be.
    let run = |set: &str| place.trainer(&format!("run full.toml --set optimizer.learning_rate=1 {set}"));
    let ended = run(&format!("{set}4")).exits(1);
    ended.says(&["not finite for 3 steps in a row", "`objective.max_weight`", "`objective.alpha` = 4"]);
    run(&format!("{set}4 --set objective.max_weight=100 --set output.dir=bounded")).succeeds();
}

/// One step from the same start: every objective sees the same nll, and weighs it by its own rule.
#[test]
fn every_objective_weighs_the_same_first_step_by_its_own_rule() {
    let place = Workplace::new();
    let first = |kind: &str| {
        let set = format!("--set output.dir={kind} --set objective.kind={kind} --set train.steps=1 --set data.eval=[]");
        place.trainer(&format!("run recipe.toml {set}")).succeeds();
        let line = place.steps(kind).remove(0);
        let number = |value: &serde_json::Value| value.as_f64().expect("a number");
        (number(&line["nll"]), number(&line["loss"]), number(&line["objective"]["weight_mean"]))
    };
    let (nll, loss, weight) = first("nll");
    assert!((loss - nll).abs() < 1e-9 && weight == 1.0, "{loss} {nll} {weight}");
    // Above 1 favours what is unlikely, below 1 what is likely; the quantiles keep all until their buffer is full.
    for (kind, low, high) in [
        ("cdiv", 1.0001, 1e9),
        ("focal", 0.0, 0.9999),
        ("gem", 1.0, 1.0),
        ("tofu", 0.0, 1.5),
        ("dft", 0.0, 0.9999),
        ("deft", 0.0, 0.9999),
        ("eaft", 0.0, 9.0),
        ("forking", 1.0, 1.0),
        ("proximal", 0.999, 1.001),
        ("gold", 0.0, 0.9999),
        ("tailr", 0.0, 1.0),
        ("mixce", 0.5, 0.9999),
        ("lambda_pr", 0.0, 1.5),
        ("trunc", 1.0, 1.0),
        ("trunc_r", 1.0, 1.0),
    ] {
        let (nll_of_kind, loss_of_kind, weight) = first(kind);
        assert!((nll_of_kind - nll).abs() < 1e-6, "{kind}: {nll_of_kind}");
        assert!(low <= weight && weight <= high, "{kind}: mean weight {weight}");
        assert!(loss_of_kind.is_finite() && loss_of_kind >= 0.0, "{kind}: {loss_of_kind}");
    }
}

/// Rows of every shape, from the file to a step: what is learned of each is in `datasets`.
#[test]
fn rows_of_every_shape_are_trained_on() {
    let place = Workplace::new();
    let question = "Tell me about a fox.";
    let shapes = [
        (
            "messages",
            json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "red"}]}),
        ),
        ("prompt_completion", json!({"prompt": question, "completion": " red"})),
        ("alpaca", json!({"instruction": question, "input": "", "output": "red"})),
        ("sharegpt", json!({"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": "red"}]})),
        ("text", json!({"text": "The fox is red."})),
    ];
    for (shape, row) in shapes {
        place.write("shape.jsonl", format!("{row}\n").repeat(4));
        let recipe = "recipe.toml --set data.train=[\"shape.jsonl\"] --set data.eval=[]";
        let plan = place.trainer(&format!("check {recipe} --json")).succeeds().json();
        assert_eq!(plan["data"]["train"]["files"][0]["format"], shape);
        place.trainer(&format!("run {recipe} --set output.dir={shape} --set train.steps=3")).succeeds();
        let nll: Vec<f64> = place.steps(shape).iter().map(|line| line["nll"].as_f64().expect("nll")).collect();
        assert!(nll[2] < nll[0], "{shape}: {nll:?}");
    }
    let chat = ["sample", "messages", "--chat", "--prompt", question, "--temperature", "0", "--max-tokens", "8"];
    assert_eq!(place.trainer_with(&chat, &[]).succeeds().json()["prompt"], question);
}

/// The example's source names nothing but the public interface; a program made of it trains, and this one loads the run.
#[test]
fn an_objective_of_another_program_trains_through_a_recipe() {
    let place = Workplace::new();
    // `cargo test` builds the examples too; a single test binary asked for by name does not.
    let example = Path::new(PROGRAM).with_file_name("examples").join("custom_objective");
    assert!(example.is_file(), "build it first: cargo build --release --examples");
    let set = "--set objective.kind=late_tokens --set objective.slope=2 --set output.dir=late";
    let ran = place.shell(&format!("{} run recipe.toml {set}", example.display())).succeeds();
    assert!(ran.stderr.contains("late_tokens slope 2"), "{}", ran.stderr);
    let step = &place.steps("late")[0];
    let mean = step["objective"]["weight_mean"].as_f64().expect("a number");
    assert!((1.0..3.0).contains(&mean) && mean > 1.2, "later tokens weigh up to 3, found a mean of {mean}");
    place
        .shell(&format!(
            "{} run recipe.toml --set objective.kind=late_tokens --set objective.slope=-1",
            example.display()
        ))
        .fails(&["`objective.slope` must be 0 or more", "hint: 0 is `nll`"]);
    place.refuses("run recipe.toml --set objective.kind=late_tokens", &["late_tokens"]);
    place.trainer_with(&["sample", "late", "--prompt", "The fox", "--max-tokens", "4"], &[]).succeeds();
}

/// `L = sum over k of CE(W_k h_t, y_(t+k))` per learned token, whatever the objective: rows whose prompts are longer than
/// the heads look ahead have as many pairs for each head as learned tokens.
#[test]
fn the_loss_of_multi_token_prediction_is_the_sum_of_its_heads() {
    let place = Workplace::new();
    let set =
        "--set train.steps=2 --set data.eval=[] --set objective.kind=cdiv --set auxiliary=[{kind=\"mtp\",heads=3}]";
    place.trainer(&format!("run recipe.toml {set}")).succeeds();
    let step = &place.steps("run")[0];
    let number = |name: &str| step["mtp"][name].as_f64().unwrap_or_else(|| panic!("{name} of {step}"));
    let heads = number("head_1") + number("head_2") + number("head_3");
    assert!((number("loss") - heads).abs() < 1e-4, "{step}");
}

/// The page shows the program that the test above runs, and not another.
#[test]
fn the_page_on_objectives_shows_the_example() {
    let read = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let (page, example) = (read("losses/README.md"), read("examples/custom_objective.rs"));
    let code = &example[example.find("use std").expect("the first line of code")..];
    assert!(page.contains(&format!("```rust\n{code}```")), "losses/README.md shows another program than the example");
    let burn = "burn = { version = \"=0.23.0-pre.1\"";
    assert!(page.contains(burn) && read("Cargo.toml").contains(burn), "the page names another version of burn");
}

/// While it lasts nll is learned to the bit, and then the objective, from a state in which it has seen nothing.
#[test]
fn a_warm_start_is_learned_by_nll() {
    let place = Workplace::new();
    let steps = |name: &str, objective: &str| {
        let set =
            format!("--set output.dir={name} --set train.steps=6 --set data.eval=[] --set objective={{{objective}}}");
        let ended = place.trainer(&format!("run recipe.toml {set}")).succeeds();
        let lines = place.timeless(name).into_iter().filter(|line| line["split"] == "train");
        (lines.map(|line| json!([line["loss"], line["grad_norm"], line["objective"]])).collect::<Vec<_>>(), ended)
    };
    let (nll, _) = steps("nll", "kind=\"nll\"");
    let (begun, _) = steps("begun", "kind=\"trunc_r\",buffer=20,warm_start=3");
    assert_eq!(begun[..3], nll[..3]);
    assert!(begun[5][2]["active_fraction"].as_f64().is_some_and(|part| part < 1.0), "{}", begun[5]);
    let (never, ended) = steps("never", "kind=\"cdiv\",warm_start=6");
    assert_eq!(never, nll);
    ended.says(&["`objective.warm_start` is as long as the run: the objective never begins"]);
    let set = "check recipe.toml --set data.eval=[] --set objective.warm_start=3";
    place.trainer(set).succeeds().says(&["`objective.warm_start` has no effect"]);
    place.refuses(&format!("{set} --set objective.kind=diffuse"), &["`diffuse` is learned from the first step on"]);
}
