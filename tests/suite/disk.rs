//! A disk that fails: each call by which a run changes it fails once, is cut short, or is where the process is killed
//! (`tools/faults/faults.c`), and what is left goes on as if nothing had been. `tools/faults/run.py` tries many more, of many
//! runs. Linux alone: elsewhere the calls of a program are replaced in other ways.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ended, Workplace};

/// With a number that is kept from step to step, samples, and a best checkpoint that comes before the last.
const RUN: &str = "run recipe.toml --set train.steps=3 --set checkpoint.every=1 --set checkpoint.keep=1 \
    --set adapter.targets=[\"q_proj\"] --set adapter.rank=2 --set optimizer.learning_rate=0.3 \
    --set objective.kind=trunc_r --set objective.buffer=40 --set objective.recompute=7 \
    --set eval.prompts=[\"prompts.jsonl\"] --set eval.samples=2 --set eval.max_tokens=4";

/// The process is killed before or after a call, or within a write.
const KILLS: [&str; 3] = ["before", "after", "torn"];

/// The call fails; with `+`, so do all after it that take room; with `!`, it is done all the same.
const ERRORS: [&str; 7] = ["ENOSPC", "EIO", "EACCES", "EROFS", "ENOSPC+", "EIO+", "EIO!"];

/// The call is made again, or the rest of it.
const PASSING: [&str; 2] = ["EINTR", "short"];

/// Points that are tried; the script tries as many as one likes.
const POINTS: usize = 52;

/// The layer between the program and the disk.
struct Layer {
    folder: TempDir,
}

/// A call that the layer has counted.
#[derive(Debug, PartialEq)]
struct Call {
    kind: String,
    path: String,
}

impl Layer {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/faults/faults.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-shared", "-fPIC", "-o"]).arg(folder.path().join("faults.so")).arg(source);
        assert!(compiler.status().expect("a C compiler").success());
        Self { folder }
    }

    /// Runs the program in `place`; its call number `at`, the first is 1, fails in the way `how`.
    fn run(&self, place: &Workplace, arguments: &str, at: usize, how: &str) -> Ended {
        let text = |path: PathBuf| path.to_str().expect("UTF-8").to_owned();
        let (library, log) = (self.folder.path().join("faults.so"), self.folder.path().join("calls"));
        let _ = std::fs::remove_file(&log);
        let (library, log) = (text(library), text(log));
        let below = text(place.path("").canonicalize().expect("a folder"));
        let at = at.to_string();
        let layer = [("LD_PRELOAD", &*library), ("FAULTS_BELOW", &below), ("FAULTS_LOG", &log)];
        let fault = [("FAULTS_AT", &*at), ("FAULTS_HOW", how)];
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        place.trainer_with(&arguments, &[&layer[..], &fault[..]].concat())
    }

    /// The calls of the last program, in their order.
    fn calls(&self) -> Vec<Call> {
        let log = std::fs::read_to_string(self.folder.path().join("calls")).expect("the calls");
        let call = |line: &str| {
            let fields: Vec<&str> = line.split('\t').collect();
            Call { kind: fields[1].into(), path: fields[2].into() }
        };
        log.lines().map(call).collect()
    }
}

fn place() -> Workplace {
    let place = Workplace::new();
    place.write("prompts.jsonl", "{\"prompt\": \"Tell me about a fox.\\n\"}\n");
    place
}

/// The run that nothing befell, with the calls that it made.
fn unbroken(layer: &Layer) -> (Workplace, Vec<Call>) {
    let whole = place();
    layer.run(&whole, RUN, usize::MAX, "before").succeeds();
    let best = whole.text("run/checkpoints/best");
    assert!(best < whole.text("run/checkpoints/latest"), "the best is the last: {best}");
    let calls = layer.calls();
    assert!(calls.len() > 150, "{} calls", calls.len());
    (whole, calls)
}

/// What a run has left, the times left out.
fn left(place: &Workplace) -> (Vec<Value>, BTreeMap<PathBuf, Vec<u8>>) {
    let mut files = place.tree("run");
    for (path, content) in &mut files {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name == "metrics.jsonl" {
            content.clear();
        } else if name.starts_with("events.out") {
            *content = without_times(content);
        } else if name == "report.html" {
            let page = String::from_utf8(std::mem::take(content)).expect("UTF-8");
            let lines = page.lines().filter(|line| !line.contains("training time") && !line.contains(" per second"));
            *content = lines.collect::<Vec<_>>().join("\n").into_bytes();
        }
    }
    (place.timeless("run"), files)
}

/// The records of a TensorBoard file but for when they were written, which each begins with, and for the sums of that.
fn without_times(mut events: &[u8]) -> Vec<u8> {
    const LENGTH: usize = 8;
    const SUM: usize = 4;
    const TIME: usize = 9;
    let mut kept = Vec::new();
    while !events.is_empty() {
        let length = u64::from_le_bytes(events[..LENGTH].try_into().expect("8 bytes")) as usize;
        let record = &events[LENGTH + SUM..][..length];
        kept.extend_from_slice(&record[TIME..]);
        events = &events[LENGTH + SUM + length + SUM..];
    }
    kept
}

fn assert_same(unbroken: &Workplace, found: &Workplace, point: &str) {
    let ((metrics, files), (others, other_files)) = (left(unbroken), left(found));
    assert_eq!(files.keys().collect::<Vec<_>>(), other_files.keys().collect::<Vec<_>>(), "{point}");
    assert_eq!(metrics, others, "{point}: the metrics differ");
    for (path, content) in files {
        assert!(content == other_files[&path], "{point}: {} differs", path.display());
    }
}

/// Which step the log of calls had named the latest before call number `at`.
fn saved_before(calls: &[Call], at: usize) -> Option<String> {
    let before = &calls[..at - 1];
    let named = before.iter().rposition(|call| call.kind == "rename" && call.path == "run/checkpoints/latest")?;
    let made = before[..named].iter().rfind(|call| call.kind == "rename" && call.path.contains("/step-"))?;
    made.path.rsplit('/').next().map(str::to_owned)
}

fn has_checkpoint(place: &Workplace) -> bool {
    let run = checkpoints::Run::open(&place.path("run"));
    run.and_then(|run| run.checkpoints()).is_ok_and(|found| !found.is_empty())
}

#[test]
fn a_call_that_fails_or_is_the_last_loses_nothing() {
    let layer = Layer::new();
    let (whole, calls) = unbroken(&layer);
    let ways: Vec<&str> = [&KILLS[..], &ERRORS, &PASSING].concat();
    let mut went_on = 0;
    for index in 0..POINTS {
        // Along the run's life, each way in turn.
        let at = 1 + index * calls.len() / POINTS;
        let (call, how) = (&calls[at - 1], ways[index % ways.len()]);
        let point = format!("call {at} ({} {}), {how}", call.kind, call.path);
        let place = place();
        let ended = layer.run(&place, RUN, at, how);
        if KILLS.contains(&how) {
            assert_eq!(ended.code, None, "{point}: {}", ended.stderr);
        } else if PASSING.contains(&how) {
            ended.succeeds();
            assert_same(&whole, &place, &point);
            continue;
        } else if call.kind == "lock" && !how.ends_with('+') {
            ended.succeeds().says(&["no lock is to be had"]);
            assert_same(&whole, &place, &point);
            continue;
        } else {
            ended.fails(&["--> ", "hint: "]);
        }
        let latest = std::fs::read_to_string(place.path("run/checkpoints/latest")).ok();
        assert!(latest >= saved_before(&calls, at), "{point}: the latest is {latest:?}");
        if has_checkpoint(&place) {
            let resumed = place.trainer(&format!("{RUN} --resume")).succeeds();
            assert!(!resumed.stderr.contains("damaged"), "{point}: {}", resumed.stderr);
            assert_same(&whole, &place, &point);
            went_on += 1;
        } else {
            place.trainer(&format!("{RUN} --resume")).fails(&["hint: "]);
        }
    }
    assert!(went_on > POINTS / 3, "only {went_on} had a checkpoint");
}

/// Lustre, CIFS, FUSE: neither is needed to train.
#[test]
fn a_file_system_without_locks_or_syncs_of_folders_is_warned_of() {
    let layer = Layer::new();
    let (whole, calls) = unbroken(&layer);
    let number = |kind: &str, path: &str| {
        1 + calls.iter().position(|call| call.kind == kind && call.path == path).expect("a call of this kind")
    };
    let lock = number("lock", "run/.lock");
    for how in ["ENOTSUP", "ENOSYS", "ENOLCK"] {
        let place = place();
        layer.run(&place, RUN, lock, how).succeeds().says(&["no lock is to be had", "run"]);
        assert_same(&whole, &place, how);
    }
    for (path, how) in [("run", "EINVAL"), ("run/checkpoints", "ENOTSUP"), ("run/samples", "EINVAL")] {
        let place = place();
        let sync = number("sync-folder", path);
        layer.run(&place, RUN, sync, how).succeeds().says(&["the folder cannot be synced", path]);
        assert_same(&whole, &place, path);
    }
}
