//! `trainer sweep`: a recipe at every point of a grid, measured alike and tabulated; what is stopped goes on, and what fails
//! does not stop the others.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::Workplace;

/// Two objectives with two seeds, two steps each.
const SWEEP: &str = "sweep recipe.toml --set train.steps=2 --grid objective.kind=nll,cdiv --grid seed=1,2";

fn sweep_json(place: &Workplace, folder: &str) -> Value {
    place.json(&format!("{folder}/sweep.json"))
}

fn states(place: &Workplace, folder: &str) -> Vec<String> {
    let sweep = sweep_json(place, folder);
    let state = |run: &Value| run["state"].as_str().expect("a state").to_owned();
    sweep["runs"].as_array().expect("runs").iter().map(state).collect()
}

#[test]
fn every_arm_is_measured_over_its_seeds_beside_the_baseline() {
    let place = Workplace::new();
    let names = ["kind=nll,seed=1", "kind=nll,seed=2", "kind=cdiv,seed=1", "kind=cdiv,seed=2"];
    let ended = place.trainer(&format!("{SWEEP} --temperatures 0.5,1")).succeeds().says(&names);
    let folder = "sweeps/recipe";
    assert_eq!(place.text(&format!("{folder}/table.jsonl")), ended.stdout);
    assert_eq!(place.text(&format!("{folder}/recipe.toml")), place.text("recipe.toml"));
    let sweep = sweep_json(&place, folder);
    let grid = json!([{"key": "objective.kind", "values": ["nll", "cdiv"]}, {"key": "seed", "values": [1, 2]}]);
    assert_eq!(
        (&sweep["grid"], &sweep["set"], &sweep["baseline"]),
        (&grid, &json!(["train.steps=2"]), &json!("kind=nll"))
    );
    assert_eq!(sweep["evaluation"]["data"], json!(["held_out.jsonl"]));
    assert_eq!(sweep["evaluation"]["temperatures"], json!([0.5, 1.0]));
    let last = json!({"name": names[3], "arm": "kind=cdiv", "seed": 2, "settings": {"objective.kind": "cdiv", "seed": 2}, "state": "done"});
    assert_eq!(sweep["runs"][3], last);

    // Each number of the table from what `trainer eval` says of the runs.
    let nll = |name: &str| {
        let run = format!("{folder}/runs/{name}");
        let lines = place.trainer(&format!("eval {run} --data held_out.jsonl --temperatures 0.5,1")).succeeds().lines();
        let total = lines.iter().find(|line| line["file"].is_null() && line["temperature"] == 1.0);
        total.expect("a line for all files")["nll"].as_f64().expect("a number")
    };
    let values = names.map(nll);
    assert!(values[0] != values[1] && values[0] != values[2], "seed or objective had no effect: {values:?}");
    let lines = ended.lines();
    let found = |arm: &str| {
        let is_it = |line: &&Value| line["arm"] == arm && line["metric"] == "nll" && line["temperature"] == 1.0;
        lines.iter().find(is_it).expect("a line of the table").clone()
    };
    let (nll, cdiv) = (found("kind=nll"), found("kind=cdiv"));
    let near = |found: &Value, expected: f64| {
        let found = found.as_f64().expect("a number");
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    };
    assert_eq!((&nll["values"], &cdiv["values"]), (&json!(values[..2]), &json!(values[2..])));
    assert_eq!(cdiv["settings"], json!({"objective.kind": "cdiv"}));
    near(&nll["mean"], (values[0] + values[1]) / 2.0);
    near(&cdiv["difference"], (values[2] - values[0] + values[3] - values[1]) / 2.0);
    // Of two values the error is half their distance, and t is the tangent of 0.475 pi.
    let t = (0.475 * std::f64::consts::PI).tan();
    near(&nll["half_width"], t * (values[0] - values[1]).abs() / 2.0);
    near(&cdiv["difference_half_width"], t * ((values[2] - values[0]) - (values[3] - values[1])).abs() / 2.0);
    assert_eq!(nll["difference"], Value::Null);

    // Done already: nothing is done again, and another baseline is but another table.
    let before = place.tree(&format!("{folder}/runs"));
    let again = place.trainer(&format!("{SWEEP} --temperatures 0.5,1 --baseline kind=cdiv")).succeeds();
    let back = again.lines().into_iter().find(|line| line["arm"] == "kind=nll" && line["metric"] == "nll");
    assert!(back.expect("a line")["difference"].is_number());
    assert!(before == place.tree(&format!("{folder}/runs")), "runs that were done changed");
}

#[test]
fn a_sweep_that_was_stopped_goes_on_to_the_same_table() {
    let whole = Workplace::new();
    let expected = whole.trainer(&format!("{SWEEP} --set checkpoint.every=1 --out s")).succeeds().stdout;
    let place = Workplace::new();
    let command = format!("{SWEEP} --set checkpoint.every=1 --out s");
    let first = "s/evaluation/kind=nll,seed=1.jsonl";
    // Killed, so that it can say nothing; its runs end with it.
    let mut child = place.start(&command);
    place.wait_until("the first run", || place.path(first).exists());
    child.kill().expect("a killed sweep");
    child.wait().expect("a child");
    let measured = place.read(first);
    // Asked to end: it passes that on, and says how to go on.
    let mut child = place.start(&command);
    place.wait_until("the second run", || place.path("s/runs/kind=nll,seed=2/metrics.jsonl").exists());
    kill_process(Pid::from_child(&child), Signal::INT).expect("a signal");
    let code = child.wait().expect("a child").code();
    let stderr = place.text("stderr");
    assert_eq!(code, Some(130), "{stderr}");
    assert!(stderr.contains("kind=nll,seed=1: done before"), "{stderr}");
    assert!(states(&place, "s").contains(&"waiting".to_owned()));
    let printed = stderr.lines().map(str::trim).find(|line| line.starts_with("trainer sweep "));
    let ended = place.shell(printed.unwrap_or_else(|| panic!("no command in\n{stderr}"))).succeeds();
    assert_eq!(ended.stdout, expected);
    assert_eq!(place.text("s/table.jsonl"), expected);
    assert!(place.read(first) == measured, "what was done was measured again");
    assert_eq!(states(&place, "s"), ["done"; 4]);
}

#[test]
fn a_run_that_fails_is_named_and_the_others_go_on() {
    let place = Workplace::new();
    let sweep = "sweep recipe.toml --set train.steps=1 --grid data.train=rows.jsonl,gone.jsonl --grid seed=1,2 --out s";
    let ended = place.trainer(sweep).exits(1).says(&[
        "the run `train=gone.jsonl,seed=1` failed: ",
        "the run `train=gone.jsonl,seed=2` failed: ",
        "logs/train=gone.jsonl,seed=1.log",
    ]);
    assert_eq!(states(&place, "s"), ["done", "done", "failed", "failed"]);
    let fault = sweep_json(&place, "s")["runs"][2]["fault"].as_str().expect("what went wrong").to_owned();
    assert!(ended.stderr.contains(&fault), "{fault}");
    let log = place.text("s/logs/train=gone.jsonl,seed=1.log");
    assert!(log.contains(&format!("error: {fault}")), "{fault} is not in\n{log}");
    assert!(ended.lines().iter().all(|line| line["arm"] == "train=rows.jsonl" && line["count"] == 2));
    // Once it is mended, the same command does what is left.
    fs::copy(place.path("rows.jsonl"), place.path("gone.jsonl")).expect("a copy");
    let ended = place.trainer(sweep).succeeds();
    assert_eq!(states(&place, "s"), ["done"; 4]);
    let difference =
        ended.lines().into_iter().find(|line| line["arm"] == "train=gone.jsonl" && line["metric"] == "nll");
    assert_eq!(difference.expect("a line")["difference"], 0.0, "the same rows, the same seeds");
}

#[test]
fn faults_at_any_point_come_before_the_first_run() {
    let place = Workplace::new();
    let cases: [(&str, &[&str]); 14] = [
        ("--grid train.batch_size=4,0,-1", &["(in the run `batch_size=0`)", "(in the run `batch_size=-1`)"]),
        (
            "--grid objective.kind=nll,cdiv --grid objective.alpha=1.2,1.4",
            &["alpha", "(in the run `kind=nll,alpha=1.2`)", "--grid 'objective={kind="],
        ),
        ("--grid adapter.rnak=4,8", &["`rnak`", "did you mean `adapter.rank`?"]),
        ("--grid seed=1,1", &["`seed` has the value 1 twice"]),
        ("--grid seed=1 --grid seed=2", &["`seed` is given twice"]),
        ("--grid seed", &["cannot read `--grid seed`", "hint: "]),
        ("--grid seed=1 --set seed=2", &["`seed` is set and in the grid"]),
        ("--grid seed=1 --set output.dir=x", &["`output.dir` has no effect", "`--out`"]),
        ("--grid output.dir=x", &["`output.dir`", "`--out`"]),
        ("--grid seed=1 --baseline kind=nll", &["there is no arm `kind=nll`", "one of: recipe"]),
        ("--grid seed=1 --temperatures 1,-1", &["`--temperatures`"]),
        ("--grid seed=1 --data gone.jsonl", &["gone.jsonl"]),
        ("--grid seed=1 --set data.eval=[]", &["no rows to measure", "`--data FILE`"]),
        ("--grid seed=1 --processes 0", &["`--processes`"]),
    ];
    for (arguments, expected) in cases {
        place.refuses(&format!("sweep recipe.toml {arguments}"), expected);
    }
    place.refuses("sweep gone.toml --grid seed=1", &["cannot read the recipe"]);
}

#[test]
fn another_sweep_in_the_same_folder_is_refused_with_what_changed() {
    let place = Workplace::new();
    let sweep = "sweep recipe.toml --out s --set train.steps=1";
    place.trainer(&format!("{sweep} --grid seed=1")).succeeds();
    let before = place.tree("s/runs");
    for (arguments, expected) in [
        ("--grid seed=1,2", "`seed` has the values [1] in this folder, and now [1,2]"),
        ("--grid seed=1 --grid adapter.rank=2", "`adapter.rank` is not in the grid"),
        ("--grid adapter.rank=2", "`seed` is in the grid"),
        ("--grid seed=1 --set adapter.rank=2", "`--set adapter.rank=2`"),
    ] {
        place.trainer(&format!("{sweep} {arguments}")).fails(&[expected, "`--out`"]);
    }
    // Other rows to measure on need no other training.
    place.trainer(&format!("{sweep} --grid seed=1 --temperatures 2")).succeeds().says(&["measured again"]);
    assert!(before == place.tree("s/runs"), "a run that was done changed");
    place.write("recipe.toml", place.text("recipe.toml") + "# another\n");
    place.trainer(&format!("{sweep} --grid seed=1")).fails(&["is not the recipe of the sweep in this folder"]);
    place.refuses("sweep recipe.toml --grid seed=1 --out .", &["holds no sweep"]);
}

#[test]
fn whole_tables_of_keys_and_several_processes() {
    let place = Workplace::new();
    let grid = "objective={kind=\"nll\"},{kind=\"cdiv\",alpha=1.4}";
    let arguments = ["sweep", "recipe.toml", "--set", "train.steps=1", "--grid", grid, "--grid", "seed=1,2"];
    let one = place.trainer_with(&[&arguments[..], &["--out", "one"]].concat(), &[]).succeeds();
    let two = place.trainer_with(&[&arguments[..], &["--out", "two", "--processes", "2"]].concat(), &[]).succeeds();
    assert_eq!(one.stdout, two.stdout);
    let arms: Vec<Value> = one.lines().into_iter().map(|line| line["arm"].clone()).collect();
    assert!(arms.contains(&json!("objective=kind=cdiv,alpha=1.4")), "{arms:?}");
}
