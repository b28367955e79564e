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
    let grid = json!([
        {"key": "objective.kind", "values": ["nll", "cdiv"], "written": ["nll", "cdiv"]},
        {"key": "seed", "values": [1, 2], "written": ["1", "2"]},
    ]);
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
            &["alpha", "(in the run `kind=nll,alpha=1.2`)", "in the grid as `objective={kind="],
        ),
        ("--grid adapter.rnak=4,8", &["`rnak`", "did you mean `adapter.rank`?"]),
        ("--grid seed=1,1", &["`seed` has the value 1 twice"]),
        ("--grid seed=1 --grid seed=2", &["`seed` is given twice"]),
        ("--grid seed", &["`seed` is no key with its values", "--> --grid", "hint: write `KEY=VALUE,VALUE`"]),
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

/// What a recipe says of its sweep is looked at with the recipe, and told by its place there.
#[test]
fn check_looks_at_the_sweep_of_a_recipe() {
    let place = Workplace::new();
    let with = |lines: &str| place.write("swept.toml", format!("{}\n[sweep]\n{lines}\n", place.text("recipe.toml")));
    with("grid = ['objective={kind=\"nll\"},{kind=\"cdiv\",alpha=1.4}', \"seed=1,2,3\"]");
    let plan =
        "sweep        6 runs of 2 arms, with `trainer sweep`: objective=kind=nll, objective=kind=cdiv,alpha=1.4\n";
    assert!(place.trainer("check swept.toml").succeeds().stdout.contains(plan));
    let json = place.trainer("check swept.toml --json").succeeds().json();
    assert_eq!(json["sweep"]["runs"][5], "objective=kind=cdiv,alpha=1.4,seed=3");
    let line = place.text("recipe.toml").lines().count() + 3;
    for (written, expected) in [
        ("grid = [\"seed\"]", "`seed` is no key with its values"),
        ("grid = [\"seed=1,1\"]", "`seed` has the value 1 twice"),
        ("grid = [\"seed=1\", \"seed=2\"]", "`seed` is given twice"),
        ("grid = [\"seed=1\"]\nbaseline = \"x\"", "there is no arm `x`"),
        ("grid = [\"seed=1\"]\ntemperatures = [-1]", "must be numbers from 0 up"),
        ("grid = [\"seed=1\"]\nsample = [\"n=2\"]", "there are no prompts to draw them of"),
        ("grid = [\"seed=1\"]\nprompts = \"rows.jsonl\"\nmeasure = [\"k=0\"]", "`--k` must be at least 1"),
        ("grid = [\"seed=1\"]\nprompts = \"rows.jsonl\"\nsample = [\"n=0\"]", "`--n` must"),
    ] {
        with(written);
        // The last key is the one at fault.
        let place_of = format!("swept.toml:{}", line + written.matches('\n').count());
        for command in ["check", "sweep"] {
            place.refuses(&format!("{command} swept.toml"), &[expected, &place_of]);
        }
    }
    with("grid = [\"train.batch_size=4,0\", \"adapter.rnak=4,8\"]");
    place.refuses("check swept.toml", &["(in 2 of 4 runs", "did you mean `adapter.rank`?"]);
}

#[test]
fn another_sweep_in_the_same_folder_is_refused_with_what_changed() {
    let place = Workplace::new();
    let sweep = "sweep recipe.toml --out s --set train.steps=1";
    place.trainer(&format!("{sweep} --grid seed=1")).succeeds();
    let before = place.tree("s/runs");
    for (arguments, expected) in [
        ("--grid seed=2", "`seed` has the values [1] in this folder, and now not [1]"),
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
fn more_values_of_the_grid_are_more_runs() {
    let place = Workplace::new();
    let sweep = "sweep recipe.toml --set train.steps=1";
    let expected = place.trainer(&format!(
        "{sweep} --out whole --grid objective.alpha=1.2,1.4 --grid seed=1,2,3 --set objective.kind=cdiv"
    ));
    let expected = expected.succeeds().stdout;
    let sweep = format!("{sweep} --out s --set objective.kind=cdiv");
    place.trainer(&format!("{sweep} --grid objective.alpha=1.4 --grid seed=1,3")).succeeds();
    let before = place.tree("s/runs");
    // Typed another way, and in another order: what is there keeps its name and is not done again.
    let more = format!("{sweep} --grid objective.alpha=1.2,1.40 --grid seed=1,2,3");
    let ended =
        place.trainer(&more).succeeds().says(&["the sweep had 2 runs; 4 more", "alpha=1.4,seed=3: done before"]);
    assert_eq!(ended.stdout, expected);
    let after = place.tree("s/runs");
    assert!(before.iter().all(|(file, bytes)| after.get(file) == Some(bytes)), "a run that was done changed");
    assert_eq!(states(&place, "s"), ["done"; 6]);
    let place_of = |name: &str| {
        sweep_json(&place, "s")["runs"].as_array().expect("runs").iter().position(|run| run["name"] == name)
    };
    assert_eq!(place_of("alpha=1.4,seed=2"), Some(4));
    // What it had cannot be left out, and nothing that is the same for all runs can change with it.
    for (arguments, expected) in [
        (
            "--grid objective.alpha=1.2 --grid seed=1,2,3",
            "`objective.alpha` has the values [1.2,1.4] in this folder, and now not [1.4]",
        ),
        ("--grid seed=1,2,3,4 --grid objective.alpha=1.2,1.4", "another order"),
        ("--grid objective.alpha=1.2,1.4 --grid seed=1,2,3,4 --set train.batch_size=2", "--set train.batch_size=2"),
    ] {
        place.trainer(&format!("{sweep} {arguments}")).fails(&[expected]);
    }
    assert!(after == place.tree("s/runs"), "a refused sweep changed a run");
}

/// Process ids of the children of one.
#[cfg(target_os = "linux")]
pub fn children(of: u32) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").expect("processes").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    // The parent comes second after the name, which stands in brackets and may hold anything.
    let parent = |id: i32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    ids.filter(|id| parent(*id) == Some(of)).filter_map(Pid::from_raw).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_sweep_of_twelve_runs_killed_twice_ends_with_the_table_of_an_unbroken_one() {
    let sweep = "sweep recipe.toml --out s --set train.steps=4 --set checkpoint.every=1 --grid objective.kind=nll,cdiv,focal,tailr \
                 --grid seed=1,2,3 --processes 2";
    let whole = Workplace::new();
    let expected = whole.trainer(sweep).succeeds().stdout;
    let place = Workplace::new();
    // In the middle of a run, whichever is first to have a checkpoint; and when most of the others are measured, while the
    // last are on their way.
    let is_at = |name: &str| place.path(&format!("s/runs/{name}/checkpoints")).exists();
    let measured = || {
        fs::read_dir(place.path("s/evaluation")).map_or(0, |files| {
            let names = files.flatten().map(|file| file.file_name().to_string_lossy().into_owned());
            names.filter(|name| name.ends_with(".jsonl")).count()
        })
    };
    let points: [&dyn Fn() -> bool; 2] =
        [&|| is_at("kind=nll,seed=3"), &|| measured() > 7 && is_at("kind=focal,seed=3")];
    for point in points {
        let mut child = place.start(sweep);
        place.wait_until("the point to kill it at", point);
        let runs = children(child.id());
        child.kill().expect("a killed sweep");
        for run in runs {
            // Killed with the sweep already, for all that is known.
            let _ = kill_process(run, Signal::KILL);
        }
        child.wait().expect("a child");
        assert!(states(&place, "s").contains(&"waiting".to_owned()), "it was killed after its end");
    }
    let ended = place.trainer(sweep).succeeds();
    assert!(ended.stderr.contains(": done before") && ended.stderr.contains(": training"), "{}", ended.stderr);
    assert_eq!(ended.stdout, expected);
    assert_eq!(place.text("s/table.jsonl"), whole.text("s/table.jsonl"));
    assert_eq!(states(&place, "s"), ["done"; 12]);
}

#[cfg(unix)]
#[test]
fn a_run_that_outlives_its_sweep_is_let_alone_until_it_has_ended() {
    let place = Workplace::new();
    let sweep = "sweep recipe.toml --out s --set train.steps=200 --set checkpoint.every=0 --grid seed=1,2";
    let expected = place.trainer(&sweep.replace("--out s", "--out whole")).succeeds().stdout;
    // What a sweep starts, without the sweep: it holds the run's folder, and stands still.
    place.write("orphan.toml", place.text("recipe.toml"));
    let orphan =
        "run orphan.toml --set train.steps=200 --set checkpoint.every=0 --set seed=1 --set output.dir=s/runs/seed=1";
    let mut child = place.start(orphan);
    place.catch("a step of the run", || place.path("s/runs/seed=1/metrics.jsonl").exists());
    kill_process(Pid::from_child(&child), Signal::STOP).expect("a signal");
    place
        .trainer(sweep)
        .exits(1)
        .says(&["the run `seed=1` failed: ", "another process is training into this directory"]);
    assert_eq!(states(&place, "s"), ["failed", "done"]);
    child.kill().expect("a killed run");
    child.wait().expect("a child");
    assert_eq!(place.trainer(sweep).succeeds().stdout, expected);
}

#[test]
fn one_sweep_at_a_time_in_a_folder() {
    let place = Workplace::new();
    place.trainer("sweep recipe.toml --out s --set train.steps=1 --grid seed=1").succeeds();
    let lock = fs::File::open(place.path("s/lock")).expect("the lock");
    lock.lock().expect("held");
    for command in ["sweep recipe.toml --out s --set train.steps=1 --grid seed=1", "sweep --collect s"] {
        place.refuses(command, &["another process works in the folder of this sweep"]);
    }
    // A task waits its turn.
    let mut child = place.start("sweep --task s 0");
    place.wait_until("the task waits", || place.text("stderr").contains("waiting for the process"));
    lock.unlock().expect("given back");
    assert!(child.wait().expect("a child").success(), "{}", place.text("stderr"));
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
