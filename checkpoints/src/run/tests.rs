use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::checkpoint::{Trained, find_checkpoint};
use crate::files::hook::{Failure, failing};
use crate::{Adapter, AdapterConfig, Dtype, StoredTensor, Weights};

/// Contents in which every file depends on `seed`.
fn contents(seed: usize) -> Contents {
    let values: Vec<f32> = (0..6).map(|index| (seed * 10 + index) as f32).collect();
    let mut tensors = BTreeMap::new();
    tensors.insert(Adapter::key_a("m.q_proj"), StoredTensor::from_f32([2, 3], &values));
    tensors.insert(Adapter::key_b("m.q_proj"), StoredTensor::from_f32([1, 2], &values[..2]));
    let mut training_state = BTreeMap::new();
    let count = StoredTensor { dtype: Dtype::U8, shape: vec![3], bytes: vec![seed as u8; 3] };
    training_state.insert("count".to_string(), count);
    training_state.insert("moment".to_string(), StoredTensor::from_f32([6], &values));
    Contents {
        weights: Trained::Adapter(Adapter { config: AdapterConfig::new(2, 4.0, vec!["q_proj".into()]), tensors }),
        training_state,
        state: json!({"seed": seed}),
        beside: Vec::new(),
        best: false,
    }
}

fn assert_holds(checkpoint: &Checkpoint, step: usize, expected: &Contents) {
    assert_eq!(checkpoint.step, step);
    assert_eq!(Trained::Adapter(checkpoint.adapter().unwrap()), expected.weights);
    assert_eq!(checkpoint.training_state().unwrap(), expected.training_state);
    assert_eq!(checkpoint.state().unwrap(), expected.state);
}

fn new_run() -> (tempfile::TempDir, Run) {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::create(&folder.path().join("run")).unwrap();
    (folder, run)
}

fn steps(run: &Run) -> Vec<usize> {
    run.checkpoints().unwrap().into_iter().map(|(step, _)| step).collect()
}

fn all_names(run: &Run) -> BTreeSet<String> {
    entries(&run.folder.join(CHECKPOINTS)).unwrap().into_iter().collect()
}

const KEEP: Retention = Retention { keep: 2 };

#[test]
fn what_is_saved_is_read_back_and_pointed_to() {
    let (_guard, run) = new_run();
    assert_eq!(run.latest().unwrap(), None);
    let folder = run.save(100, &contents(1), &KEEP).unwrap();
    assert!(folder.ends_with("checkpoints/step-000100"));
    assert_holds(&run.latest().unwrap().unwrap(), 100, &contents(1));
    let names: Vec<String> = all_names(&run).into_iter().collect();
    assert_eq!(names, ["latest", "step-000100"]);
    let names: BTreeSet<String> = entries(&folder).unwrap().into_iter().collect();
    let expected = [
        "MANIFEST.json",
        "adapter_config.json",
        "adapter_model.safetensors",
        "state.json",
        "training_state.safetensors",
    ];
    assert_eq!(names, expected.map(str::to_owned).into());
    for path in [run.folder().to_owned(), folder.clone(), folder.with_file_name("latest")] {
        assert_holds(&find_checkpoint(&path).unwrap(), 100, &contents(1));
    }
    let renamed = folder.with_file_name("mine");
    fs::rename(&folder, &renamed).unwrap();
    assert_eq!(find_checkpoint(&renamed).unwrap().step, 100);
    assert!(find_checkpoint(run.folder()).unwrap_err().message.contains("no complete checkpoint"));
    assert!(find_checkpoint(&folder).unwrap_err().message.contains("no such file"));
    assert!(find_checkpoint(&folder.with_file_name("")).is_err());
}

#[test]
fn a_whole_model_takes_the_place_of_the_adapter() {
    let (_guard, run) = new_run();
    let model = BTreeMap::from([("w".to_string(), StoredTensor::from_f32([2], &[1.0, 2.0]))]);
    let contents = Contents { weights: Trained::Model(model), ..contents(3) };
    let folder = run.save(7, &contents, &KEEP).unwrap();
    assert_eq!(Weights::open(&folder).unwrap().f32("w").unwrap(), [1.0, 2.0]);
    let checkpoint = run.latest().unwrap().unwrap();
    assert_eq!(checkpoint.model().unwrap().f32("w").unwrap(), [1.0, 2.0]);
    assert!(!checkpoint.has_adapter() && checkpoint.adapter().is_err());
}

/// Does a save with a disk that fails at each operation in turn, and calls `check` on what is left.
fn at_every_operation(failure: Failure, saved_before: &[usize], step: usize, check: impl Fn(&Run, usize)) {
    for at in 0.. {
        let (_guard, run) = new_run();
        for before in saved_before {
            run.save(*before, &contents(*before), &Retention { keep: 1 }).unwrap();
        }
        let (saved, struck) = failing(at, failure, || run.save(step, &contents(99), &Retention { keep: 1 }));
        if !struck {
            saved.unwrap();
            assert!(at > 20, "a save has many operations, this one {at}");
            return;
        }
        check(&run, at);
        let reopened = Run::open(run.folder()).unwrap();
        reopened.save(step, &contents(50), &Retention { keep: 1 }).unwrap();
        assert_holds(&reopened.latest().unwrap().unwrap(), step, &contents(50));
        let names: Vec<String> = all_names(&reopened).into_iter().filter(|name| !name.ends_with(".partial")).collect();
        assert_eq!(names, ["latest".to_string(), folder_name(step)], "operation {at}");
    }
}

/// The latest checkpoint is one of two, whole.
fn old_or_new(run: &Run, old: (usize, usize), new: (usize, usize)) {
    let latest = run.latest().unwrap().expect("a checkpoint is left");
    let seed = latest.state().unwrap()["seed"].as_u64().unwrap() as usize;
    assert!([old, new].contains(&(latest.step, seed)), "step {} of seed {seed}", latest.step);
    assert_holds(&latest, latest.step, &contents(seed));
}

#[test]
fn a_crash_at_any_operation_leaves_the_old_checkpoint_or_the_new_one() {
    at_every_operation(Failure::Crash, &[100], 200, |run, _| old_or_new(run, (100, 100), (200, 99)));
}

#[test]
fn a_crash_while_a_step_is_replaced_loses_neither_state() {
    at_every_operation(Failure::Crash, &[100], 100, |run, _| old_or_new(run, (100, 100), (100, 99)));
}

#[test]
fn a_crash_in_the_first_save_leaves_none_or_the_new_one() {
    at_every_operation(Failure::Crash, &[], 100, |run, _| {
        if let Some(latest) = run.latest().unwrap() {
            assert_holds(&latest, 100, &contents(99));
        }
    });
}

#[test]
fn a_full_disk_leaves_the_old_checkpoint_and_nothing_hidden() {
    for step in [100, 200] {
        at_every_operation(Failure::Full, &[100], step, |run, at| {
            old_or_new(run, (100, 100), (step, 99));
            let hidden = |name: &String| name.starts_with(STAGING) || name.ends_with(".partial");
            let left: Vec<String> = all_names(run).into_iter().filter(hidden).collect();
            assert!(left.is_empty(), "operation {at}: {left:?}");
        });
    }
}

#[test]
fn a_full_disk_is_a_fault_with_a_hint() {
    let (_guard, run) = new_run();
    let (saved, _) = failing(3, Failure::Full, || run.save(1, &contents(1), &KEEP));
    let fault = saved.unwrap_err();
    assert!(fault.hint.unwrap().contains("free some space"));
    assert!(fault.place.is_some());
}

#[test]
fn every_changed_or_cut_file_is_found_and_the_run_falls_back() {
    for name in
        ["adapter_config.json", "adapter_model.safetensors", "state.json", "training_state.safetensors", MANIFEST]
    {
        for change in ["cut", "flip", "remove"] {
            let (_guard, run) = new_run();
            run.save(1, &contents(1), &KEEP).unwrap();
            let folder = run.save(2, &contents(2), &KEEP).unwrap();
            let path = folder.join(name);
            let mut bytes = fs::read(&path).unwrap();
            match change {
                "cut" => bytes.truncate(bytes.len() / 2),
                "flip" => *bytes.last_mut().unwrap() ^= 1,
                _ => {}
            }
            if change == "remove" {
                fs::remove_file(&path).unwrap()
            } else {
                fs::write(&path, bytes).unwrap()
            }
            let fault = Checkpoint::open(&folder).unwrap_err().to_string();
            assert!(fault.contains(if name == MANIFEST { "step-000002" } else { name }), "{fault}");
            assert_holds(&run.latest().unwrap().unwrap(), 1, &contents(1));
        }
    }
}

/// What cannot be read may be whole: the one before is not that. Not readable, not even by root: a name that is too long for
/// the system, as of a file that its manifest lists.
#[test]
fn no_older_checkpoint_is_taken_for_one_that_cannot_be_read() {
    let (_guard, run) = new_run();
    run.save(1, &contents(1), &KEEP).unwrap();
    let folder = run.save(2, &contents(2), &KEEP).unwrap();
    let path = folder.join(MANIFEST);
    let manifest = fs::read_to_string(&path).unwrap();
    fs::write(&path, manifest.replace("state.json", &"s".repeat(300))).unwrap();
    let told = run.latest().unwrap_err().to_string();
    assert!(told.contains("cannot look at this") && told.contains("sss"), "{told}");
    assert!(told.contains(&format!("to have that, remove `{}`", folder.display())), "{told}");
    // A folder in place of a file is damage that everybody sees.
    fs::write(&path, manifest).unwrap();
    fs::remove_file(folder.join("state.json")).unwrap();
    fs::create_dir(folder.join("state.json")).unwrap();
    assert_holds(&run.latest().unwrap().unwrap(), 1, &contents(1));
}

#[test]
fn a_file_that_is_asked_for_is_whole_or_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    files::write_whole(&path, b"one").unwrap();
    for failure in [Failure::Crash, Failure::Full] {
        for at in 0..3 {
            let (written, struck) = failing(at, failure, || files::write_whole(&path, b"another"));
            assert!(written.is_err() && struck);
            assert_eq!(fs::read(&path).unwrap(), b"one");
        }
    }
    let link = folder.path().join("link.html");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    files::write_whole(&link, b"two").unwrap();
    assert_eq!((fs::read(&path).unwrap(), link.is_symlink()), (b"two".to_vec(), true));
    let told = files::write_whole(folder.path(), b"three").unwrap_err().to_string();
    assert!(told.contains("it is a folder"), "{told}");
    let told = files::write_whole(&folder.path().join("no/page.html"), b"three").unwrap_err().to_string();
    assert!(told.contains("page.html: cannot write this: there is no such file or folder"), "{told}");
    assert_eq!(files::write_whole(std::path::Path::new("/dev/null"), b"four"), Ok(()));
}

#[test]
fn a_manifest_cannot_lead_out_of_its_folder() {
    let (_guard, run) = new_run();
    let folder = run.save(1, &contents(1), &KEEP).unwrap();
    let path = folder.join(MANIFEST);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("state.json", "../latest")).unwrap();
    assert!(Checkpoint::open(&folder).unwrap_err().message.contains("no plain file name"));
    fs::write(&path, r#"{"step": 1, "files": {}}"#).unwrap();
    assert!(Checkpoint::open(&folder).unwrap_err().message.contains("does not list"));
    fs::write(folder.with_file_name("latest"), "../../../etc").unwrap();
    let fault = run.latest().unwrap_err();
    assert!(fault.message.contains("only checkpoint is damaged") && fault.hint.is_some(), "{fault}");
}

#[test]
fn the_newest_stay_and_so_does_the_best() {
    let (_guard, run) = new_run();
    for step in 1..=6 {
        let contents = Contents { best: step == 2, ..contents(step) };
        run.save(step, &contents, &KEEP).unwrap();
    }
    assert_eq!(steps(&run), [2, 5, 6]);
    assert_holds(&run.best().unwrap().unwrap(), 2, &contents(2));
    run.save(7, &Contents { best: true, ..contents(7) }, &Retention { keep: 0 }).unwrap();
    assert_eq!(steps(&run), [7]);
}

#[test]
fn nothing_is_removed_while_nobody_can_tell_which_is_the_best() {
    let (_guard, run) = new_run();
    run.save(1, &Contents { best: true, ..contents(1) }, &KEEP).unwrap();
    run.save(2, &contents(2), &KEEP).unwrap();
    let best = run.folder().join(CHECKPOINTS).join(BEST);
    fs::remove_file(&best).unwrap();
    // Not readable, not even by root.
    fs::create_dir(&best).unwrap();
    let fault = run.save(3, &contents(3), &Retention { keep: 1 }).unwrap_err();
    assert!(fault.to_string().contains("best: cannot read this"), "{fault}");
    assert_eq!(steps(&run), [1, 2, 3]);
    assert_holds(&run.latest().unwrap().unwrap(), 3, &contents(3));
}

#[test]
fn a_new_run_needs_an_empty_place() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "x").unwrap();
    let fault = Run::create(folder.path()).unwrap_err();
    assert!(fault.hint.unwrap().contains("no checkpoint"));
    let (_guard, run) = new_run();
    run.save(1, &contents(1), &KEEP).unwrap();
    assert!(Run::create(run.folder()).unwrap_err().hint.unwrap().contains("--resume"));
    assert!(Run::create(&folder.path().join("file")).unwrap_err().message.contains("is a file"));
    assert!(Run::open(folder.path()).unwrap_err().message.contains("not a run"));
    assert!(Run::open(&folder.path().join("gone")).unwrap_err().message.contains("no such"));
    let run = Run::create(&folder.path().join("a/b")).unwrap();
    run.write_recipe("seed = 1\n").unwrap();
    run.write_recipe("seed = 17\n").unwrap();
    assert_eq!(Run::open(run.folder()).unwrap().recipe().unwrap(), "seed = 17\n");
}

#[test]
fn metrics_are_cut_and_appended_to() {
    let (_guard, run) = new_run();
    assert_eq!(run.metrics().unwrap(), Vec::<Value>::new());
    run.cut_metrics(3).unwrap();
    for step in 0..5 {
        run.append_metrics(&json!({"step": step, "loss": 0.1})).unwrap();
    }
    run.append_file("metrics.jsonl", b"{\"step\":5,\"lo").unwrap();
    assert_eq!(run.metrics().unwrap().len(), 5);
    run.cut_metrics(2).unwrap();
    run.append_metrics(&json!({"step": 3, "loss": 0.2})).unwrap();
    let text = fs::read_to_string(run.folder().join("metrics.jsonl")).unwrap();
    let expected = [
        "{\"step\":0,\"loss\":0.1}",
        "{\"step\":1,\"loss\":0.1}",
        "{\"step\":2,\"loss\":0.1}",
        "{\"step\":3,\"loss\":0.2}",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    run.append_file("metrics.jsonl", b"torn}\n").unwrap();
    assert!(run.metrics().unwrap_err().to_string().contains("metrics.jsonl:5"));
}

#[test]
fn a_cut_of_the_metrics_that_fails_leaves_them_as_they_were() {
    let (_guard, run) = new_run();
    for step in 0..5 {
        run.append_metrics(&json!({"step": step})).unwrap();
    }
    for failure in [Failure::Crash, Failure::Full] {
        for at in 0..3 {
            let (cut, struck) = failing(at, failure, || run.cut_metrics(2));
            assert!(cut.is_err() && struck);
            assert_eq!(run.metrics().unwrap().len(), 5);
        }
    }
    run.cut_metrics(2).unwrap();
    assert_eq!(run.metrics().unwrap().len(), 3);
}

#[test]
fn files_of_a_run_stay_inside_it() {
    let (_guard, run) = new_run();
    run.write_file("samples/a.txt", b"one").unwrap();
    run.write_file("samples/a.txt", b"two").unwrap();
    run.append_file("samples/a.txt", b"three").unwrap();
    assert_eq!(fs::read(run.folder().join("samples/a.txt")).unwrap(), b"twothree");
    for name in ["../x", "/tmp/x", "", "a/../../x"] {
        assert!(run.write_file(name, b"").is_err() && run.append_file(name, b"").is_err(), "{name}");
    }
    assert_eq!(entries(&run.folder().join("samples")).unwrap(), ["a.txt"]);
}

#[test]
fn a_run_in_use_cannot_be_locked_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::create(&folder.path().join("run")).unwrap();
    run.lock().unwrap();
    let mut other = Run::open(run.folder()).unwrap();
    assert!(other.lock().unwrap_err().message.contains("another process"));
    drop(run);
    other.lock().unwrap();
}
