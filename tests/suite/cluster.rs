//! `trainer sweep --emit slurm`: an array of tasks that does what the sweep does, and `--collect`, which gathers it.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Ended, Workplace};

/// Stands in for Slurm: the tasks of an array, the last first and two at once, somewhere else in the file system.
const SBATCH: &str = r#"#!/bin/bash
last=$(sed -n 's/^#SBATCH --array=0-//p' "$1")
cd / && seq "$last" -1 0 | SCRIPT=$1 xargs -P 2 -I{} env SLURM_ARRAY_TASK_ID={} bash -c 'bash "$SCRIPT"'
"#;

/// A folder's name with whatever a shell may read otherwise.
const NAME: &str = "it's a $HOME \"sweep\" `x` 50% #1 \\ \n*?;&|<(ü狐)";

fn emit(place: &Workplace, out: &str, arguments: &str) -> Ended {
    let mut words = vec!["sweep", "recipe.toml", "--out", out, "--emit", "slurm"];
    words.extend(arguments.split_whitespace());
    place.trainer_with(&words, &[])
}

fn submit(place: &Workplace, script: &str) -> Ended {
    place.write("sbatch", SBATCH);
    let quoted = place.path(script).display().to_string().replace('\'', "'\\''");
    place.shell(&format!("bash -n '{quoted}' && bash ./sbatch '{quoted}'"))
}

#[test]
fn an_array_of_tasks_does_what_the_sweep_does() {
    let sweep = "--set train.steps=2 --grid data.train=rows.jsonl,late.jsonl --grid seed=1,2 --temperatures 0.5,1";
    let whole = Workplace::new();
    fs::copy(whole.path("rows.jsonl"), whole.path("late.jsonl")).expect("a copy");
    let expected = whole.trainer(&format!("sweep recipe.toml {sweep}")).succeeds().stdout;

    let place = Workplace::new();
    emit(&place, NAME, sweep).succeeds().says(&["  sbatch '/", "trainer sweep --collect '"]);
    let script = format!("{NAME}/sweep.sbatch");
    let collect = |code: i32| place.trainer_with(&["sweep", "--collect", NAME], &[]).exits(code);
    // Four runs and the base, none of them begun by this.
    assert!(place.text(&script).contains("#SBATCH --array=0-4\n"));
    assert_eq!(fs::read_dir(place.path(NAME).join("runs")).expect("a folder").count(), 0);
    let ended = collect(1).says(&["the run `train=rows.jsonl,seed=1` has not begun", "submit the tasks again"]);
    assert_eq!((ended.stdout.as_str(), ended.stderr.matches("has not begun").count()), ("", 4));

    // The rows of half of the runs are not there.
    let ended = submit(&place, &script);
    assert_ne!(ended.code, Some(0), "tasks failed");
    assert!(place.path(NAME).join("evaluation/base.jsonl").is_file());
    let ended =
        collect(1).says(&["the run `train=late.jsonl,seed=1` failed: ", "the run `train=late.jsonl,seed=2` failed: "]);
    assert!(
        !ended.stdout.is_empty()
            && ended.lines().iter().all(|line| line["arm"] == "train=rows.jsonl" && line["count"] == 2)
    );
    let state = |run: usize| place.json(&format!("{NAME}/sweep.json"))["runs"][run]["state"].clone();
    assert_eq!((state(0), state(2)), ("done".into(), "failed".into()));

    // The same array again does what is left. What is trained and not measured is measured where it is gathered.
    fs::copy(place.path("rows.jsonl"), place.path("late.jsonl")).expect("a copy");
    let before = place.tree(&format!("{NAME}/runs/train=rows.jsonl,seed=1"));
    submit(&place, &script).succeeds();
    assert!(before == place.tree(&format!("{NAME}/runs/train=rows.jsonl,seed=1")), "a run that was done changed");
    let measured = place.path(NAME).join("evaluation/train=late.jsonl,seed=2.jsonl");
    fs::rename(&measured, measured.with_extension("jsonl.partial")).expect("a measurement that has begun");
    assert_eq!(collect(0).says(&["train=late.jsonl,seed=2: measuring"]).stdout, expected);
    assert_eq!(place.text(&format!("{NAME}/table.jsonl")), expected);
    assert_eq!(state(3), Value::from("done"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_task_that_a_cluster_ends_goes_on_from_its_checkpoint() {
    let sweep = "--set train.steps=200 --set checkpoint.every=0 --grid seed=1";
    let whole = Workplace::new();
    let expected = whole.trainer(&format!("sweep recipe.toml --out s {sweep}")).succeeds().stdout;
    let place = Workplace::new();
    emit(&place, "s", sweep).succeeds();
    let mut child = place.start("sweep --task s 0");
    place.wait_until("a step of the run", || place.path("s/runs/seed=1/metrics.jsonl").exists());
    // Every process of a task is asked at once: the request that is passed on beside that must not count as a second one.
    let task = Pid::from_child(&child);
    for process in super::sweep::children(child.id()).into_iter().chain([task]) {
        kill_process(process, Signal::TERM).expect("a signal");
    }
    let code = child.wait().expect("a child").code();
    assert_eq!(code, Some(130), "{}\n{}", place.text("stderr"), place.text("s/logs/seed=1.log"));
    let saved = fs::read_dir(place.path("s/runs/seed=1/checkpoints")).expect("checkpoints").count();
    assert!(saved > 0, "it ended without a checkpoint");
    place.trainer("sweep --collect s").exits(1).says(&["the run `seed=1` was stopped before its end"]);
    place.trainer("sweep --task s 0").succeeds().says(&["seed=1: done"]);
    let resumed = whole.steps("s/runs/seed=1").len();
    assert_eq!((place.steps("s/runs/seed=1").len(), resumed), (200, 200));
    assert_eq!(place.trainer("sweep --collect s").succeeds().stdout, expected);
}

#[test]
fn more_tasks_than_an_array_holds_are_several_arrays() {
    let place = Workplace::new();
    let seeds: Vec<String> = (1..=1000).map(|seed| seed.to_string()).collect();
    emit(&place, "s", &format!("--grid seed={} --slurm --time=02:00:00 --slurm --output=x.log", seeds.join(",")))
        .succeeds()
        .says(&["/s/sweep-1.sbatch", "/s/sweep-2.sbatch"]);
    let (first, second) = (place.text("s/sweep-1.sbatch"), place.text("s/sweep-2.sbatch"));
    assert!(first.contains("#SBATCH --array=0-999\n") && second.contains("#SBATCH --array=0-0\n"));
    assert!(second.contains("#SBATCH --time=02:00:00\n#SBATCH --output=x.log\n") && !second.contains("slurm-%A"));
    // The last task is the base, after a thousand runs.
    submit(&place, "s/sweep-2.sbatch").succeeds();
    assert!(place.path("s/evaluation/base.jsonl").is_file());
    assert!(!place.path("s/logs/seed=1.log").exists());
}

#[test]
fn what_no_cluster_could_do_is_refused() {
    let place = Workplace::new();
    let emit = "sweep recipe.toml --out s --grid seed=1 --emit slurm";
    for (options, expected) in [
        (vec!["--slurm", "--time=1\n#SBATCH --wrap=x"], "`--slurm` cannot be `--time=1\\n"),
        (vec!["--slurm", "time=1"], "`--slurm` cannot be `time=1`"),
        (vec!["--slurm", "--array=0-9"], "the script says itself which tasks there are"),
        (vec!["--processes", "2"], "--processes"),
    ] {
        let arguments: Vec<&str> = emit.split(' ').chain(options).collect();
        place.trainer_with(&arguments, &[]).fails(&[expected]);
    }
    place.refuses("sweep recipe.toml --grid seed=1 --slurm --time=1", &["--emit"]);
    place.refuses("sweep --collect gone", &["there is no sweep in this folder"]);
    place.refuses("sweep --collect .", &["holds no sweep"]);
    place.refuses("sweep recipe.toml --collect s", &["--collect"]);
    place.refuses("sweep", &["RECIPE"]);
    place.trainer(emit).succeeds();
    place.refuses("sweep --task s 2", &["there is no task `2`", "2 tasks, from 0 on"]);
    place.refuses("sweep --task s seed=1", &["there is no task `seed=1`"]);
}
