//! Several processes that train as one, started by `mpirun`: the same numbers as one process, the same bits in all of them,
//! one that dies, hangs or is asked to end. Without the feature `mpi` or without `mpirun` there is nothing to start.

use std::collections::BTreeMap;
use std::process::{Child, Command};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Signal, kill_process};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::support::{Workplace, larger};

/// Recipes whose steps depend on all that processes have to agree on.
const CASES: [(&str, &str); 8] = [
    ("cdiv", "recipe.toml --set objective.kind=cdiv --set objective.max_weight=2 --set adapter.dropout=0.1"),
    (
        "trunc_r",
        "recipe.toml --set objective.kind=trunc_r --set objective.buffer=40 --set objective.recompute=7 --set adapter.dropout=0.1",
    ),
    (
        "trunc of rows",
        "recipe.toml --set objective.kind=trunc --set objective.buffer=5 --set objective.recompute=3 --set objective.granularity=sequence",
    ),
    (
        "forking",
        "recipe.toml --set objective.kind=forking --set objective.share=0.4 --set objective.buffer=40 --set objective.warm_start=2",
    ),
    (
        "diffuse",
        "recipe.toml --set objective.kind=diffuse --set data.train=builtin:numbers --set data.eval=builtin:numbers --set train.batch_size=2 --set train.micro_batch_size=3",
    ),
    // With the usual epsilon a gradient that is nothing but rounding moves a value by the whole rate, and one process that runs its
    // rows all at once is as far from itself.
    (
        "sfr",
        "recipe.toml --set optimizer.eps=1e-5 --set auxiliary=[{kind=\"sfr\",encoder=\"builtin:words\",k=4,stride=2,min_suffix=2,head_width=8,control=true,gradient_gate=true,head_ema=0.5,head_warmup=2,lambda_warmup=3}]",
    ),
    ("mtp", "recipe.toml --set auxiliary=[{kind=\"mtp\",weight=0.3,heads=2}]"),
    ("full", "full.toml --set optimizer.learning_rate=1e-3"),
];

const STEPS: usize = 8;

/// A run of a case: five rows a step, one or two at once, so that processes have more and fewer micro-batches than others.
fn command(recipe: &str, folder: &str) -> String {
    let own = if recipe.contains("micro_batch_size") {
        ""
    } else {
        "--set train.batch_size=5 --set train.micro_batch_size=1"
    };
    format!(
        "run {recipe} {own} --set train.steps={STEPS} --set checkpoint.every=1 --set checkpoint.keep={STEPS} --set eval.every=3 --set output.dir={folder}"
    )
}

/// The same as a line of shell.
fn typed(command: &str) -> String {
    command.split_whitespace().map(|word| format!("'{word}' ")).collect()
}

/// Whether there is anything to start; says so where there is not.
fn has_mpi() -> bool {
    let has = cfg!(feature = "mpi") && Command::new("mpirun").arg("--version").output().is_ok();
    if !has {
        println!("skipped: this needs `--features mpi` and `mpirun`");
    }
    has
}

/// The words before the program that start so many of it.
fn mpirun(processes: usize) -> String {
    format!(
        "env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe --bind-to none -n {processes}"
    )
}

fn tensors(place: &Workplace, path: &str) -> BTreeMap<String, Vec<f32>> {
    let bytes = place.read(path);
    let read = SafeTensors::deserialize(&bytes).expect("a file of tensors");
    let numbers = |bytes: &[u8]| bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4"))).collect();
    read.iter().map(|(name, tensor)| (name.to_owned(), numbers(tensor.data()))).collect()
}

fn distance<'a>(pairs: impl Iterator<Item = (&'a Vec<f32>, &'a Vec<f32>)>) -> f64 {
    let squares = pairs.flat_map(|(a, b)| a.iter().zip(b)).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>().sqrt()
}

/// How far the adapters (or models) of two runs are apart, as a part of how far the first has moved since its first checkpoint.
fn apart(place: &Workplace, one: &str, other: &str) -> f64 {
    let [start, end] =
        [1, STEPS].map(|step| tensors(place, &format!("{one}/checkpoints/step-{step:06}/training_state.safetensors")));
    let found = tensors(place, &format!("{other}/checkpoints/step-{STEPS:06}/training_state.safetensors"));
    assert_eq!(end.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    let values = |(name, _): &(&String, &Vec<f32>)| name.starts_with("value.") && !name.starts_with("value.auxiliary.");
    let of = |other: &BTreeMap<String, Vec<f32>>| {
        distance(end.iter().filter(values).map(|(name, numbers)| (numbers, other.get(name).expect("the same names"))))
    };
    let moved = of(&start);
    assert!(moved > 0.0);
    of(&found) / moved
}

/// The largest difference of a number of two lines, of those that are alike whatever the time taken.
fn difference(one: &Value, other: &Value) -> f64 {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let kept = |key: &&String| !["seconds", "group"].contains(&key.as_str());
            assert_eq!(one.keys().filter(kept).collect::<Vec<_>>(), other.keys().filter(kept).collect::<Vec<_>>());
            one.keys().filter(kept).map(|key| difference(&one[key], &other[key])).fold(0.0, larger)
        }
        (one, other) => match (one.as_f64(), other.as_f64()) {
            (Some(one), Some(other)) => (one - other).abs() / one.abs().max(1.0),
            _ => f64::from(u8::from(one != other)),
        },
    }
}

#[test]
fn several_processes_train_what_one_does() {
    if !has_mpi() {
        return;
    }
    for (name, recipe) in CASES {
        let place = Workplace::new();
        place.trainer(&command(recipe, "alone")).succeeds();
        for processes in 1..=3 {
            let folder = format!("of_{processes}");
            place.shell(&format!("{} trainer {}", mpirun(processes), typed(&command(recipe, &folder)))).succeeds();
            let (alone, found) = (place.metrics("alone"), place.metrics(&folder));
            assert_eq!(alone.len(), found.len(), "{name}");
            let most = alone.iter().zip(&found).map(|(one, other)| difference(one, other)).fold(0.0, larger);
            let losses = alone
                .iter()
                .zip(&found)
                .flat_map(|(one, other)| ["loss", "nll"].map(|key| difference(&one[key], &other[key])));
            let losses = losses.fold(0.0, larger);
            let apart = apart(&place, "alone", &folder);
            println!("{name}, {processes}: losses {losses:.1e}, metrics {most:.1e}, what is trained {apart:.1e}");
            assert!(losses <= 1e-6, "{name} of {processes}: {losses}");
            // Norms and gaps are small differences of large numbers.
            assert!(most <= 1e-5, "{name} of {processes}: {most}");
            assert!(apart <= 1e-5, "{name} of {processes}: {apart}");
            if processes == 1 {
                assert_eq!((most, apart), (0.0, 0.0), "{name}");
                assert!(found.iter().all(|line| line.get("group").is_none()));
            } else {
                let group = &place.steps(&folder)[STEPS - 1]["group"];
                assert_eq!(group["processes"].as_f64(), Some(processes as f64), "{group}");
                let number = |key: &str| group[key].as_f64().expect("a number");
                assert!(number("bytes") > 0.0 && number("waited") >= 0.0 && number("sent") >= 0.0, "{group}");
            }
        }
    }
}

/// Prompts with targets and without: what is drawn and computed of each does not depend on which process does it.
#[test]
fn an_evaluation_is_split_by_prompts_and_put_together_in_order() {
    if !has_mpi() {
        return;
    }
    let started = |starter: &str| {
        let place = Workplace::new();
        let prompts: String = ["Tell me", "A fox", "Say a number", "The end"]
            .iter()
            .map(|text| format!("{{\"prompt\": \"{text}\"}}\n"))
            .collect();
        place.write("prompts.jsonl", prompts);
        let set = "--set train.steps=0 --set eval.prompts=[\"prompts.jsonl\",\"builtin:numbers\"] --set eval.samples=3";
        place.shell(&format!("{starter} trainer run recipe.toml {set} --set eval.max_tokens=12")).succeeds();
        place
    };
    let alone = started("");
    for processes in [2, 3] {
        let place = started(&mpirun(processes));
        for file in ["samples/step-000000.jsonl", "evaluation/step-000000.jsonl"] {
            assert_eq!(alone.text(&format!("run/{file}")), place.text(&format!("run/{file}")), "{processes}: {file}");
        }
        assert_eq!(alone.text("run/samples/step-000000.jsonl").lines().count(), 3 * 8);
        let (one, several) = (&alone.metrics("run")[0], &place.metrics("run")[0]);
        assert!(one.get("samples").is_some() && one.get("exact").is_some(), "{one}");
        assert!(difference(one, several) <= 2e-6, "{one}\n{several}");
    }
}

#[test]
fn another_number_of_processes_goes_on_with_a_run() {
    if !has_mpi() {
        return;
    }
    let place = Workplace::new();
    let line = command(CASES[1].1, "run");
    place.trainer(&command(CASES[1].1, "alone")).succeeds();
    let short = line.replace(&format!("train.steps={STEPS}"), "train.steps=3");
    place.shell(&format!("{} trainer {short}", mpirun(2))).succeeds();
    let longer = line.replace(&format!("train.steps={STEPS}"), "train.steps=6");
    place.shell(&format!("{} trainer {longer} --resume", mpirun(3))).succeeds().says(&["processes are 3 and were 2"]);
    place.trainer(&format!("{line} --resume")).succeeds().says(&["processes are 1 and were 3"]);
    let (alone, found) = (place.steps("alone"), place.steps("run"));
    let most = alone.iter().zip(&found).map(|(one, other)| difference(one, other)).fold(0.0, larger);
    assert!(alone.len() == found.len() && most <= 2e-6, "{most}");
    let apart = apart(&place, "alone", "run");
    assert!(apart <= 1e-5, "{apart}");
}

/// The processes that `mpirun` has started, in the order of their ranks.
fn ranks(mpirun: &Child, count: usize) -> Option<Vec<i32>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let Ok(process) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        if !status.contains(&format!("\nPPid:\t{}\n", mpirun.id())) {
            continue;
        }
        let environment = String::from_utf8_lossy(&read("environ")).into_owned();
        let rank = environment.split('\0').find_map(|line| line.strip_prefix("OMPI_COMM_WORLD_RANK="));
        found.extend(rank.and_then(|rank| Some((rank.parse::<usize>().ok()?, process))));
    }
    (found.len() == count).then(|| found.into_values().collect())
}

fn send(process: i32, signal: Signal) {
    kill_process(Pid::from_raw(process).expect("a process"), signal).expect("the signal is sent");
}

/// A line without what the time taken says.
fn timeless(place: &Workplace) -> Vec<Value> {
    let mut lines = place.timeless("run");
    lines.iter_mut().for_each(|line| drop(line.as_object_mut().expect("an object").remove("group")));
    lines
}

fn assert_same(unbroken: &Workplace, broken: &Workplace) {
    assert_eq!(timeless(unbroken), timeless(broken));
    let checkpoint = format!("run/checkpoints/step-{STEPS:06}");
    assert!(unbroken.tree(&checkpoint) == broken.tree(&checkpoint), "the last checkpoints differ");
}

/// Starts a run of two processes, waits until it has taken some steps, and does something to one of them.
fn meddle(place: &Workplace, line: &str, steps: usize, signal: Signal, rank: usize) -> (Child, bool) {
    let resume = if place.path("run/checkpoints/latest").exists() { "--resume" } else { "" };
    if resume.is_empty() {
        let _ = std::fs::remove_dir_all(place.path("run"));
    }
    let goal = place.metrics_length() + steps;
    let mut child = place.start_by(&mpirun(2), &format!("{line} {resume}"));
    let mut over = false;
    place.wait_until("progress", || {
        over = child.try_wait().expect("a child").is_some();
        over || place.metrics_length() > goal
    });
    let hit = !over
        && ranks(&child, 2).is_some_and(|ranks| {
            send(ranks[rank], signal);
            true
        });
    (child, hit)
}

#[test]
fn a_process_that_dies_or_hangs_ends_all_by_name_and_leaves_a_run_to_go_on_with() {
    if !has_mpi() {
        return;
    }
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let line = format!("{} --wait-limit 2", command(CASES[1].1, "run"));
    let unbroken = Workplace::new();
    unbroken.shell(&format!("{} trainer {line}", mpirun(2))).succeeds();
    for signal in [Signal::KILL, Signal::STOP] {
        let place = Workplace::new();
        let mut hits = 0;
        while hits < 5 {
            let (rank, steps) = (random.random_range(0..2), random.random_range(0..3));
            let (mut child, hit) = meddle(&place, &line, steps, signal, rank);
            let ended = child.wait().expect("it ends");
            if !hit {
                assert!(ended.success(), "{}", place.text("stderr"));
                let _ = std::fs::remove_dir_all(place.path("run"));
                continue;
            }
            let said = place.text("stderr");
            assert!(!ended.success(), "{said}");
            let name = match signal {
                Signal::STOP => format!("nothing has come from rank {rank} of 2 on"),
                _ => format!("process rank {rank} with PID"),
            };
            assert!(said.contains(&name), "{name} is not in\n{said}");
            hits += 1;
        }
        let resume = if place.path("run/checkpoints/latest").exists() { "--resume" } else { "" };
        if resume.is_empty() {
            let _ = std::fs::remove_dir_all(place.path("run"));
        }
        place.shell(&format!("{} trainer {line} {resume}", mpirun(2))).succeeds();
        assert_same(&unbroken, &place);
    }
}

#[test]
fn a_request_to_end_of_one_process_ends_all_with_one_checkpoint() {
    if !has_mpi() {
        return;
    }
    let line = command(CASES[1].1, "run").replace("checkpoint.every=1", "checkpoint.every=0");
    let unbroken = Workplace::new();
    unbroken.shell(&format!("{} trainer {line}", mpirun(2))).succeeds();
    for rank in [0, 1] {
        let place = Workplace::new();
        let (mut child, hit) = meddle(&place, &line, 1, Signal::TERM, rank);
        let code = child.wait().expect("it ends").code();
        if !hit {
            continue;
        }
        let said = place.text("stderr");
        let done = place.steps("run").len();
        assert_eq!((code, done < STEPS), (Some(130), true), "{said}");
        assert_eq!(said.matches(&format!("interrupted after step {done} of {STEPS}")).count(), 1, "{said}");
        assert_eq!(place.text("run/checkpoints/latest").trim(), format!("step-{done:06}"));
        assert!(rank == 0 || said.contains("rank 1 of 2 on"), "{said}");
        place.shell(&format!("{} trainer {line} --resume", mpirun(2))).succeeds();
        assert_same(&unbroken, &place);
    }
}

#[test]
fn what_one_process_cannot_do_is_said_once_and_ends_all() {
    if !has_mpi() {
        return;
    }
    let place = Workplace::new();
    let ended = place.shell(&format!("{} trainer run recipe.toml --set data.train=nothing.jsonl", mpirun(2)));
    assert_eq!((ended.code, ended.stderr.matches("error: ").count()), (Some(1), 1), "{}", ended.stderr);
    // The first of them alone looks at the folder, and tells the other.
    place.write("run/notes.txt", "mine");
    let ended = place.shell(&format!("{} trainer run recipe.toml", mpirun(2)));
    assert_eq!((ended.code, ended.stderr.matches("error: ").count()), (Some(1), 1), "{}", ended.stderr);
    // Each of the two sees other rows.
    place.write("start.sh", "exec trainer run recipe.toml --set seed=1$OMPI_COMM_WORLD_RANK --set output.dir=other\n");
    let ended = place.shell(&format!("{} sh start.sh", mpirun(2)));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    ended.says(&["rank 1 of 2 on", "has another recipe than rank 0 of 2"]);
    assert!(!place.path("other").exists());
}

#[test]
fn processes_that_nothing_joins_are_refused() {
    let place = Workplace::new();
    for variables in [
        [("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")],
        [("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_LOCALID", "0")],
        [("JOB_COMPLETION_INDEX", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "somewhere")],
    ] {
        let ended = place.trainer_with(&["run", "recipe.toml"], &variables).fails(&["2 processes", "mpirun"]);
        assert!(cfg!(feature = "mpi") || ended.stderr.contains("--features mpi"), "{}", ended.stderr);
        assert!(!place.path("run").exists());
    }
    // One of one is a process by itself.
    place.trainer_with(&["run", "recipe.toml"], &[("RANK", "0"), ("WORLD_SIZE", "1")]).succeeds();
    if !cfg!(feature = "mpi") {
        place.refuses("run recipe.toml --processes 2", &["--features mpi"]);
    }
}

#[test]
fn several_processes_are_started_by_one_command() {
    if !has_mpi() {
        return;
    }
    let place = Workplace::new();
    let root = "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;";
    place.shell(&format!("{root} trainer run --processes 2 recipe.toml --set train.micro_batch_size=2")).succeeds();
    assert_eq!(place.steps("run")[5]["group"]["processes"].as_f64(), Some(2.0));
    place.refuses("run recipe.toml --processes 0", &["--processes"]);
}

#[test]
fn a_check_says_what_each_of_several_would_do() {
    let place = Workplace::new();
    let checked = place.trainer("check recipe.toml --processes 2 --set train.micro_batch_size=1").succeeds();
    let words = "by 2 processes: each holds all of the above, runs 2 of the 4 micro-batches of a step, and sends";
    assert!(checked.stdout.replace(['\n', ' '], "").contains(&words.replace(' ', "")), "{}", checked.stdout);
    let plan = place.trainer("check recipe.toml --processes 3 --json").succeeds().json();
    // Of 4 bytes a number, to each of two others a third, on the way there and on the way back.
    let trained = plan["trained_parameters"].as_u64().expect("a number");
    assert_eq!(plan["sharing"]["bytes_sent_per_step"].as_u64(), Some(2 * 4 * trained * 2 / 3));
    // Four rows at once are one micro-batch.
    let warnings = plan["warnings"].to_string();
    assert!(warnings.contains("`train.micro_batch_size` = 2"), "{warnings}");
}
