//! A run that was stopped, in whatever way, and resumed is bitwise the unbroken one: every file of its last checkpoint,
//! and every line of its metrics but for the time taken.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::Workplace;

/// Recipes whose later steps depend on state of every kind.
const CASES: [(&str, &str); 11] = [
    ("dropout", "recipe.toml --set adapter.dropout=0.1 --set train.micro_batch_size=3 --set schedule.kind=cosine"),
    (
        "quantile",
        "recipe.toml --set objective.kind=trunc_r --set objective.buffer=40 --set objective.recompute=7 --set train.micro_batch_size=2",
    ),
    (
        "warm start",
        "recipe.toml --set objective.kind=trunc_r --set objective.buffer=10 --set objective.recompute=7 --set objective.warm_start=5",
    ),
    (
        "entropies",
        "recipe.toml --set objective.kind=forking --set objective.share=0.4 --set objective.buffer=40 --set objective.recompute=7 --set train.micro_batch_size=3",
    ),
    ("auxiliary", "recipe.toml --set auxiliary=[{kind=\"mtp\",weight=0.3,heads=2}] --set objective.kind=cdiv"),
    (
        "sfr",
        "recipe.toml --set auxiliary=[{kind=\"sfr\",encoder=\"builtin:words\",k=4,stride=2,min_suffix=2,head_width=8,control=true,gradient_gate=true,head_ema=0.5,head_warmup=2,lambda_warmup=3}] --set train.micro_batch_size=3",
    ),
    ("pissa", "recipe.toml --set adapter.init=pissa --set adapter.lora_plus_ratio=4"),
    ("dora", "recipe.toml --set adapter.kind=dora --set adapter.dropout=0.1"),
    ("ends", "recipe.toml --set adapter.targets=[\"lm_head\",\"embed_tokens\",\"q_proj\"] --set adapter.dropout=0.1"),
    ("base", "recipe.toml --set objective.kind=proximal --set adapter.dropout=0.1 --set train.micro_batch_size=3"),
    ("full", "full.toml --set optimizer.learning_rate=1e-3"),
];

const STEPS: usize = 10;

/// What a kill waits for: nothing more than a step, a save that has begun, one that has written the weights, one that is
/// about to be given its name, one whose name is there.
const MOMENTS: [fn(&Workplace) -> bool; 5] = [
    |_| true,
    |place| staged(place, ""),
    |place| staged(place, "adapter_model.safetensors") || staged(place, "model.safetensors"),
    |place| staged(place, "MANIFEST.json"),
    |place| {
        let latest = std::fs::read_to_string(place.path("run/checkpoints/latest")).unwrap_or_default();
        let steps = std::fs::read_dir(place.path("run/checkpoints")).into_iter().flatten().flatten();
        steps.map(|entry| entry.file_name()).any(|name| *name.to_string_lossy() > *latest.trim())
    },
];

/// Whether a save that is not done yet has written a file.
fn staged(place: &Workplace, file: &str) -> bool {
    let entries = std::fs::read_dir(place.path("run/checkpoints")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        let staging = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".staging-"));
        staging && path.join(file).exists()
    })
}

/// The run in a folder of its own, with a checkpoint after every step.
fn command(recipe: &str) -> String {
    format!("run {recipe} --set train.steps={STEPS} --set checkpoint.every=1 --set eval.every=3")
}

fn unbroken(recipe: &str) -> Workplace {
    let place = Workplace::new();
    place.trainer(&command(recipe)).succeeds();
    place
}

fn assert_same(name: &str, unbroken: &Workplace, broken: &Workplace) {
    assert_eq!(unbroken.timeless("run"), broken.timeless("run"), "{name}: the metrics differ");
    let checkpoint = format!("run/checkpoints/step-{STEPS:06}");
    let (one, other) = (unbroken.tree(&checkpoint), broken.tree(&checkpoint));
    assert!(one.len() >= 4, "{name}: {:?}", one.keys());
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "{name}");
    for (file, bytes) in &one {
        assert!(*bytes == other[file], "{name}: {} differs", file.display());
    }
    for file in ["run/checkpoints/latest", "run/checkpoints/best", "run/recipe.toml"] {
        assert_eq!(unbroken.text(file), broken.text(file), "{name}: {file}");
    }
}

fn interrupt(child: &std::process::Child) {
    send(child, Signal::INT);
}

fn send(child: &std::process::Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("the signal is sent");
}

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_happened() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for (name, recipe) in CASES {
        let whole = unbroken(recipe);
        let place = Workplace::new();
        let mut kills = 0;
        loop {
            let resume = place.path("run/checkpoints/latest").exists();
            if !resume {
                let _ = std::fs::remove_dir_all(place.path("run"));
            }
            let flag = if resume { "--resume" } else { "" };
            let mut child = place.start(&format!("{} {flag}", command(recipe)));
            // Somewhere in the next steps and the saves between them: a save follows every step.
            let goal = place.metrics_length() + random.random_range(0..3);
            let moment = MOMENTS[random.random_range(0..MOMENTS.len())];
            let mut over = false;
            place.wait_until("progress", || {
                over = child.try_wait().expect("a child").is_some();
                over || place.metrics_length() > goal
            });
            // A moment that passed unseen comes again with the next save, or is given up.
            place.catch("the moment", || {
                over = child.try_wait().expect("a child").is_some();
                over || moment(&place) || place.metrics_length() > goal + 3
            });
            if over || child.try_wait().expect("a child").is_some() {
                let status = child.wait().expect("a child");
                assert!(status.success(), "{name}: {status}\n{}", place.text("stderr"));
                break;
            }
            child.kill().expect("the kill");
            child.wait().expect("a child");
            kills += 1;
        }
        assert!(kills >= 2, "{name}: only {kills} kills");
        assert_same(name, &whole, &place);
    }
}

#[test]
fn a_run_killed_before_it_named_its_best_checkpoint_names_it_when_resumed() {
    // So high a rate that every evaluation is worse than the one before.
    let run = "run recipe.toml --set eval.every=1 --set optimizer.learning_rate=0.05 --set train.steps";
    let whole = Workplace::new();
    whole.trainer(&format!("{run}=3")).succeeds();
    assert_eq!(whole.text("run/checkpoints/best"), "step-000001");
    let place = Workplace::new();
    place.trainer(&format!("{run}=1")).succeeds();
    std::fs::remove_file(place.path("run/checkpoints/best")).expect("a removed file");
    place.trainer(&format!("{run}=3 --resume")).succeeds();
    assert_eq!(place.text("run/checkpoints/best"), "step-000001");
}

#[test]
fn an_interrupted_run_prints_the_command_that_goes_on_with_it() {
    for (name, recipe) in CASES {
        let whole = unbroken(recipe);
        let place = Workplace::new();
        let mut child = place.start(&command(recipe));
        place.wait_until("the first step", || place.metrics_length() > 2);
        interrupt(&child);
        assert_eq!(child.wait().expect("a child").code(), Some(130), "{name}: {}", place.text("stderr"));
        let stderr = place.text("stderr");
        let printed = stderr.lines().map(str::trim).find(|line| line.starts_with("trainer run "));
        let printed = printed.unwrap_or_else(|| panic!("{name}: no command in\n{stderr}"));
        assert!(stderr.contains("interrupted after step"), "{stderr}");
        let done = place.steps("run").len();
        assert!((1..STEPS).contains(&done), "{name}: stopped after {done} steps");
        let latest = place.text("run/checkpoints/latest");
        assert_eq!(latest, format!("step-{done:06}"), "{name}");
        place.shell(printed).succeeds();
        assert_same(name, &whole, &place);
    }
}

/// As clusters ask before they take a machine back.
#[test]
fn a_request_to_end_writes_a_checkpoint_and_a_second_one_stops_at_once() {
    let place = Workplace::new();
    let mut child = place.start("run recipe.toml --set train.steps=100000");
    place.wait_until("the first step", || place.metrics_length() > 2);
    send(&child, Signal::TERM);
    assert_eq!(child.wait().expect("a child").code(), Some(130), "{}", place.text("stderr"));
    assert!(place.text("stderr").contains("interrupted after step"), "{}", place.text("stderr"));
    assert_eq!(place.text("run/checkpoints/latest"), format!("step-{:06}", place.steps("run").len()));

    let place = Workplace::new();
    let big = "--set train.batch_size=1000 --set train.micro_batch_size=8 --set data.train=[\"builtin:world-train\"]";
    let mut child = place.start(&format!("run recipe.toml --set train.steps=2 {big}"));
    place.wait_until("the run's folder", || place.path("run/recipe.toml").exists());
    send(&child, Signal::TERM);
    place.wait_until("the first request", || place.text("stderr").contains("asked to end"));
    send(&child, Signal::TERM);
    assert_eq!(child.wait().expect("a child").code(), Some(143), "{}", place.text("stderr"));
    assert!(!place.path("run/checkpoints/latest").exists(), "it went on to write a checkpoint");
}

#[test]
fn a_second_interrupt_stops_at_once() {
    let place = Workplace::new();
    // Steps that take long, so that the second signal comes within the first one's.
    let big = "--set train.batch_size=1000 --set train.micro_batch_size=8 --set data.train=[\"builtin:world-train\"]";
    let mut child = place.start(&format!("run recipe.toml --set train.steps=2 {big}"));
    place.wait_until("the run's folder", || place.path("run/recipe.toml").exists());
    interrupt(&child);
    place.wait_until("the first interrupt", || place.text("stderr").contains("press Ctrl-C again"));
    interrupt(&child);
    assert_eq!(child.wait().expect("a child").code(), Some(130), "{}", place.text("stderr"));
    assert!(!place.path("run/checkpoints/latest").exists(), "it went on to write a checkpoint");
    assert!(!place.text("stderr").contains("go on with"));
}

#[test]
fn a_folder_that_holds_something_is_not_written_to() {
    let place = Workplace::new();
    place.write("run/thesis.txt", "years of work");
    place.refuses("run recipe.toml", &["the output directory is not empty", "run", "hint: it holds no checkpoint"]);
    place.refuses("run recipe.toml --resume", &["not a run's directory", "hint: "]);
}

#[test]
fn there_must_be_a_run_to_resume() {
    let place = Workplace::new();
    place.refuses("run recipe.toml --resume", &["there is no such directory", "run", "leave `--resume` out"]);
    // A run's own recipe, from another folder than the one in which it was started.
    place.write("elsewhere/kept/recipe.toml", place.text("recipe.toml"));
    place.write("elsewhere/kept/checkpoints/latest", "step-000001");
    let words = ["there is no such directory", "that of the run in `elsewhere/kept`", "go on from there"];
    place.refuses("run elsewhere/kept/recipe.toml --resume", &words);
    // Stopped before its first checkpoint.
    place.write("run/recipe.toml", "");
    place.write("run/checkpoints/.staging-step-000001/state.json", "{");
    let why = "no checkpoint to resume from: the run ended before its first";
    place.refuses("run recipe.toml --resume", &[why, "hint: remove the folder", "`checkpoint.every`"]);
}

#[test]
fn a_changed_run_is_not_resumed_and_what_changed_is_named() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=2").succeeds();
    let recipe = "run recipe.toml --resume --set train.steps=4";
    let changed = [
        ("seed=4", "`seed`: 3 -> 4"),
        ("optimizer.learning_rate=1e-4", "`optimizer.learning_rate`: 0.005 -> 0.0001"),
        ("adapter.rank=8", "`adapter.rank`: 4 -> 8"),
        ("objective.kind=cdiv", "`objective.kind`: \"nll\" -> \"cdiv\""),
        ("train.batch_size=2", "`train.batch_size`: 4 -> 2"),
        ("data.shuffle=false", "`data.shuffle`: true -> false"),
        ("auxiliary=[{kind=\"mtp\"}]", "`auxiliary`"),
    ];
    for (set, named) in changed {
        place.refuses(&format!("{recipe} --set {set}"), &["not the run that was started", named, "hint: "]);
    }
    place.refuses("run recipe.toml --resume --set train.steps=1 --set seed=4", &["`train.steps`: 2 -> 1", "`seed`"]);
    let rows = place.text("rows.jsonl");
    place.write("rows.jsonl", rows.replacen(' ', " very ", 1));
    place.refuses(recipe, &["the rows of `data.train` are not the same", "hint: "]);
    place.write("rows.jsonl", &rows);
    let held_out = place.text("held_out.jsonl");
    place.write("held_out.jsonl", format!("{held_out}{}\n", rows.lines().next().expect("a row")));
    place.refuses(recipe, &["the rows of `data.eval` are not the same", "hint: "]);
    place.write("held_out.jsonl", &held_out);
    // What leaves the steps as they are may change.
    let free = "--set checkpoint.every=1 --set checkpoint.keep=1 --set eval.every=1 --set train.recompute=blocks";
    place.trainer(&format!("{recipe} {free}")).succeeds();
    assert_eq!(place.text("run/checkpoints/latest"), "step-000004");
}

#[test]
fn two_processes_do_not_train_into_one_directory() {
    let place = Workplace::new();
    let long = "run recipe.toml --set train.steps=100000 --set checkpoint.every=1";
    let mut child = place.start(long);
    place.wait_until("the first checkpoint", || place.path("run/checkpoints/latest").exists());
    let second = place.trainer(&format!("{long} --resume"));
    let running = child.try_wait().expect("a child").is_none();
    child.kill().expect("the kill");
    child.wait().expect("a child");
    second.fails(&["another process is training into this directory", "run", "hint: "]);
    assert!(running, "the first process did not go on: {}", place.text("stderr"));
}

#[test]
fn a_longer_run_of_a_constant_rate_is_the_long_run() {
    let long = Workplace::new();
    long.trainer("run recipe.toml --set train.steps=5 --set eval.every=5").succeeds();
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=3 --set eval.every=5").succeeds();
    place.trainer("run recipe.toml --set train.steps=5 --set eval.every=5 --resume").succeeds();
    let adapter = "run/checkpoints/step-000005/adapter_model.safetensors";
    assert!(long.read(adapter) == place.read(adapter));
    let losses = |place: &Workplace| place.steps("run").iter().map(|line| line["loss"].clone()).collect::<Vec<_>>();
    assert_eq!(losses(&long), losses(&place));
}

#[test]
fn a_finished_run_says_so_and_is_left_alone() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=2").succeeds();
    let before = place.tree("run");
    place
        .trainer("run recipe.toml --set train.steps=2 --resume")
        .succeeds()
        .says(&["the run is done already, at step 2"]);
    assert!(before == place.tree("run"));
}

/// A run that was made longer has a page already, of fewer steps.
#[test]
fn a_longer_run_that_was_ended_before_its_page_gets_its_page() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=2").succeeds();
    let of_two = place.text("run/report.html");
    place.trainer("run recipe.toml --set train.steps=4 --resume").succeeds();
    let of_four = place.text("run/report.html");
    assert!(of_two.contains("2 steps") && of_four.contains("4 steps"));
    place.write("run/report.html", of_two);
    place.trainer("run recipe.toml --set train.steps=4 --resume").succeeds().says(&["done: 4 steps"]);
    assert!(of_four == place.text("run/report.html"), "the page is that of the shorter run");
}

#[test]
fn an_evaluation_that_was_cut_short_is_made_when_it_is_resumed() {
    let whole = Workplace::new();
    whole.trainer("run recipe.toml --set train.steps=0").succeeds();
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=0").succeeds();
    std::fs::remove_file(place.path("run/report.html")).expect("a removed file");
    place.write("run/metrics.jsonl", "{\"step\":0,\"spl");
    place.trainer("run recipe.toml --set train.steps=0 --resume").succeeds().says(&["done: evaluated"]);
    assert_eq!(whole.timeless("run"), place.timeless("run"));
    assert!(place.path("run/report.html").exists());
    let done = place.trainer("run recipe.toml --set train.steps=0 --resume").succeeds();
    done.says(&["the run is done already"]);
}

#[test]
fn a_checkpoint_that_was_damaged_is_passed_over() {
    let place = Workplace::new();
    place.trainer("run recipe.toml").succeeds();
    let last = "run/checkpoints/step-000006/training_state.safetensors";
    let mut bytes = place.read(last);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    place.write(last, bytes);
    let adapter = place.read("run/checkpoints/step-000006/adapter_model.safetensors");
    place.trainer("run recipe.toml --resume").succeeds().says(&["passing over a damaged checkpoint", "step-000006"]);
    assert!(adapter == place.read("run/checkpoints/step-000006/adapter_model.safetensors"));
    assert_eq!(place.text("run/checkpoints/latest"), "step-000006");
}
