//! Samples of a sweep: of every run that it trains, or of one model at every point of a grid, with nothing trained.

use serde_json::{Value, json};

use crate::support::Workplace;

fn place() -> Workplace {
    let place = Workplace::new();
    place.write("prompts.jsonl", "{\"prompt\": \"the\", \"id\": \"a\"}\n{\"prompt\": \"a fox\", \"id\": \"b\"}\n");
    place
}

#[test]
fn every_run_and_the_base_are_sampled_where_prompts_are_given() {
    let place = place();
    let sweep = "sweep recipe.toml --out s --set train.steps=1 --grid seed=1,2 --prompts prompts.jsonl";
    let options = "--sample n=3 --sample temperature=0.7 --sample max_tokens=6";
    place.trainer(&format!("{sweep} {options}")).succeeds();
    let sample = |model: &str, n: usize| {
        let command = format!("sample {model} --prompts prompts.jsonl --n {n} --temperature 0.7 --max-tokens 6");
        place.trainer(&command).succeeds().stdout
    };
    assert_eq!(place.text("s/samples/base.jsonl"), sample("builtin:tiny", 3));
    assert_eq!(place.text("s/samples/seed=2.jsonl"), sample("s/runs/seed=2", 3));
    let samples = json!({"prompts": "prompts.jsonl", "options": ["n=3", "temperature=0.7", "max_tokens=6"]});
    assert_eq!(place.json("s/sweep.json")["samples"], samples);
    // Other options draw anew, and neither train nor measure.
    let (runs, evaluation) = (place.tree("s/runs"), place.tree("s/evaluation"));
    place.trainer(&format!("{sweep} {}", options.replace("n=3", "n=2"))).succeeds();
    assert_eq!(place.text("s/samples/seed=1.jsonl"), sample("s/runs/seed=1", 2));
    assert!(evaluation == place.tree("s/evaluation"), "runs were measured again");
    // What is measured of the samples stands in the table beside the rest.
    let line = |metric: &str| {
        let lines: Vec<Value> =
            place.text("s/table.jsonl").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        lines.into_iter().find(|line| line["metric"] == metric).unwrap_or_else(|| panic!("no {metric}"))
    };
    let of_one = |seed: usize| {
        let eval = format!("eval --samples s/samples/seed={seed}.jsonl");
        place.trainer(&eval).succeeds().lines().pop().expect("a mean")["distinct"].clone()
    };
    assert_eq!(line("distinct")["values"], json!([of_one(1), of_one(2)]));
    assert_eq!(line("distinct")["temperature"], Value::Null);
    assert!(line("nll")["mean"].is_number());
    let page = place.text("s/report.html");
    assert!(page.contains("relaxed_semantic_entropy_share"), "the page has no table of samples");
    let again = "--prompts prompts.jsonl --sample n=3 --sample temperature=0.7 --sample max_tokens=6 --out s";
    assert!(page.contains(&again.replace("n=3", "n=2")), "the page's command is another sweep");
    let weights = |tree: std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>| {
        tree.into_iter().filter(|(file, _)| file.ends_with("metrics.jsonl")).collect::<Vec<_>>()
    };
    assert!(weights(runs) == weights(place.tree("s/runs")), "runs were trained again");
}

#[test]
fn a_grid_of_temperatures_trains_nothing() {
    let place = place();
    let sweep =
        "sweep builtin:tiny --grid sample.temperature=0,1 --grid sample.seed=1,2 --prompts prompts.jsonl --sample n=4";
    let ended = place.trainer(sweep).succeeds();
    let folder = "sweeps/builtin:tiny-samples";
    assert_eq!(place.text(&format!("{folder}/table.jsonl")), ended.stdout);
    let sample = |temperature: usize, seed: usize| {
        let command =
            format!("sample builtin:tiny --prompts prompts.jsonl --n 4 --temperature {temperature} --seed {seed}");
        place.trainer(&command).succeeds().stdout
    };
    assert_eq!(place.text(&format!("{folder}/samples/temperature=1,seed=2.jsonl")), sample(1, 2));
    let lines = ended.lines();
    let distinct = |arm: &str| {
        let is_it = |line: &&Value| line["arm"] == arm && line["metric"] == "distinct";
        lines.iter().find(is_it).expect("a line").clone()
    };
    // At 0 the four samples of a prompt are one text.
    let cold = distinct("temperature=0");
    assert_eq!((&cold["values"], &cold["seeds"]), (&json!([1.0, 1.0]), &json!([1, 2])));
    assert_eq!(cold["settings"], json!({"sample.temperature": 0}));
    let eval = format!("eval --samples {folder}/samples/temperature=1,seed=1.jsonl");
    let of_one = place.trainer(&eval).succeeds().lines().pop().expect("a mean")["distinct"].clone();
    assert_eq!(distinct("temperature=1")["values"][0], of_one);
    // More points keep what is there; other prompts or options would change it.
    let before = place.tree(&format!("{folder}/samples"));
    place.trainer(&sweep.replace("0,1", "0,0.5,1")).succeeds();
    let after = place.tree(&format!("{folder}/samples"));
    assert!(before.iter().all(|(file, bytes)| after.get(file) == Some(bytes)) && after.len() == before.len() + 2);
    place.trainer(&sweep.replace("n=4", "n=5")).fails(&["`--sample` are not those of the sweep in this folder"]);
}

#[test]
fn samples_are_measured_as_is_asked_for_and_drawn_once() {
    let place = Workplace::new();
    let prompts = [json!({"prompt": "the", "said": "the"}), json!({"prompt": "a fox", "said": "no"})];
    place.write("prompts.jsonl", prompts.map(|row| format!("{row}\n")).concat());
    let sweep = "sweep builtin:tiny --out s --grid sample.temperature=0,1 --grid sample.seed=1,2 --prompts prompts.jsonl --sample n=4";
    place.trainer(sweep).succeeds();
    let samples = place.tree("s/samples");
    let judged = place.trainer(&format!("{sweep} --measure exact_match=said --measure k=1,2")).succeeds();
    assert!(samples == place.tree("s/samples"), "they were drawn again");
    let metrics: Vec<Value> = judged.lines().iter().map(|line| line["metric"].clone()).collect();
    assert!(metrics.contains(&json!("pass_at_k.2")) && !metrics.contains(&json!("pass_at_k.4")), "{metrics:?}");
    let cold = |line: &&Value| line["arm"] == "temperature=1" && line["metric"] == "pass_at_k.1";
    let line = judged.lines().iter().find(cold).expect("a line").clone();
    assert_eq!((&line["pairs"], &line["prompts"]), (&json!(2), &json!(2)));
    for (measure, words) in [
        ("exact_match=said --measure judge=true", "--judge"),
        ("answer_pattern=(.)", "--exact-match"),
        ("k=0", "`--k` must be at least 1"),
        ("encoder=gone", "gone"),
        ("novelty_bench=d", "`novelty_bench`"),
    ] {
        place.refuses(&format!("{sweep} --measure {measure}"), &[words]);
    }
}

#[test]
fn intents_and_responses_have_a_temperature_each() {
    let place = place();
    let sweep = "sweep builtin:tiny --out s --grid sample.intent_temperature=0.5,1 --grid sample.response_temperature=0,0.5 \
                 --prompts prompts.jsonl --sample intent=chat --sample intent_max_tokens=4 --sample response_max_tokens=4";
    place.trainer(sweep).succeeds();
    let command = "sample builtin:tiny --prompts prompts.jsonl --intent chat --intent-max-tokens 4 --response-max-tokens 4 \
                   --intent-temperature 1 --response-temperature 0.5";
    let expected = place.trainer(command).succeeds().stdout;
    assert_eq!(place.text("s/samples/intent_temperature=1,response_temperature=0.5.jsonl"), expected);
    // The same on a cluster, task by task.
    let emitted = sweep.replace("--out s", "--out t --emit slurm");
    place.trainer(&emitted).succeeds();
    for task in 0..4 {
        place.trainer(&format!("sweep --task t {task}")).succeeds();
    }
    place.trainer("sweep --collect t").succeeds();
    assert_eq!(place.text("t/table.jsonl"), place.text("s/table.jsonl"));
}

#[test]
fn options_that_no_sample_has_are_refused_before_anything_is_drawn() {
    let place = place();
    let cases: [(&str, &[&str]); 9] = [
        (
            "builtin:tiny --grid sample.n=1,2 --temperatures 0.5 --prompts prompts.jsonl",
            &["`--temperatures` has no effect", "options of `trainer sample`"],
        ),
        ("recipe.toml --grid seed=1 --prompts prompts.jsonl --sample tmperature=1", &["--tmperature"]),
        ("recipe.toml --grid seed=1 --prompts gone.jsonl", &["gone.jsonl"]),
        ("recipe.toml --grid seed=1 --sample n=2", &["--prompts"]),
        ("recipe.toml --grid seed=1 --measure k=1", &["`k=1` is of samples", "[sweep] prompts"]),
        ("builtin:tiny --grid sample.temperature=1,-1 --prompts prompts.jsonl", &["`--temperature` must be 0 or more"]),
        ("builtin:tiny --grid sample.n=0 --prompts prompts.jsonl", &["`--n` must be at least 1"]),
        ("builtin:tiny --grid sample.n=1", &["no prompts to sample", "`--prompts FILE`"]),
        ("recipe.toml --grid sample.n=1 --grid seed=1 --prompts prompts.jsonl", &["keys of a recipe and of samples"]),
    ];
    for (arguments, expected) in cases {
        place.refuses(&format!("sweep {arguments}"), expected);
    }
}
