//! Embeddings and the auxiliary loss that learns from them, through a whole run.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use checkpoints::{Checkpoint, Run};
use serde_json::Value;

use super::*;
use crate::engine::data::Order;
use crate::engine::settings::Settings;
use crate::engine::train::{Company, Learner, Log, Rows, train};
use crate::plan::Plan;
use crate::report::{Reporter, Watched};

const ENCODER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bert");

/// Six steps of four rows with every part of SFR at work.
fn plan(folder: &Path, auxiliary: &str) -> Plan {
    let text = format!(
        "[model]\npath = \"builtin:tiny\"\ndtype = \"f32\"\ndevice = \"cpu\"\n[adapter]\nrank = 2\n\
         [data]\ntrain = [{:?}]\neval = [{:?}]\n[train]\nsteps = 6\nbatch_size = 4\nmicro_batch_size = 2\n\
         [optimizer]\nlearning_rate = 1e-2\n[eval]\nevery = 3\n[output]\ndir = {:?}\n{auxiliary}",
        rows(folder, "train.jsonl", 20),
        rows(folder, "eval.jsonl", 5),
        folder.join("run"),
    );
    let recipe =
        crate::recipe::parse("sfr.toml", &text, &[], &losses::Registry::default()).unwrap_or_else(|f| panic!("{f}"));
    let mut plan = Plan::new(recipe).unwrap_or_else(|faults| panic!("{faults}"));
    plan.cache = Some(Cache::at(folder.join("cache")));
    plan
}

fn sfr(keys: &str) -> String {
    format!(
        "[[auxiliary]]\nkind = \"sfr\"\nencoder = {ENCODER:?}\nk = 6\nstride = 2\nmin_suffix = 2\nhead_width = 16\n{keys}\n"
    )
}

const OTHERS: &str = "targets = \"other_rows\"";
const ALL: &str = "control = true\ngradient_gate = true\nhead_ema = 0.5\nhead_warmup = 2\nlambda_warmup = 2";

fn rows(folder: &Path, name: &str, count: usize) -> String {
    let path = folder.join(name);
    let all = datasets::builtin::rows("builtin:world-train").expect("a built-in data set");
    let some: String = all.lines().take(count).map(|line| format!("{line}\n")).collect();
    fs_err::write(&path, some).expect("a write");
    path.display().to_string()
}

/// Trains in `folder`, from `resume` if given, up to step `until`, with a checkpoint there.
fn run(folder: &Path, auxiliary: &str, until: usize, resume: Option<&Checkpoint>) -> Checkpoint {
    let mut plan = plan(folder, auxiliary);
    let mut trainee = plan.build().unwrap_or_else(|faults| panic!("{faults}"));
    let settings = Settings { steps: until, ..plan.settings(&mut trainee) };
    let output = plan.recipe.output.dir.clone();
    let mut run = if resume.is_some() { Run::open(&output) } else { Run::create(&output) }.expect("a run");
    let mut order = crate::plan::order(&plan.recipe, &plan.train, plan.width_multiple);
    let eval = plan.eval.as_ref().expect("evaluation rows").examples.as_slice();
    let objective = plan.recipe.objective.as_mut();
    let mut reporter = Reporter::new(until, 0, Watched::default());
    let (group, interrupted) = (group::Group::single(), AtomicBool::new(false));
    let company = Company { group: &group, interrupted: &interrupted };
    let learner = Learner { trainee: &mut trainee, objective };
    let sources = [("held out", 0..eval.len())];
    let rows = Rows { order: &mut order, evaluation: eval, sources: &sources, observe: None };
    let log = Log { run: &mut run, reporter: &mut reporter };
    train(&settings, learner, rows, Some(log), resume, company).unwrap_or_else(|faults| panic!("{faults}"));
    run.latest().expect("a readable run").expect("a checkpoint")
}

fn metrics(folder: &Path) -> Vec<Value> {
    let text = fs_err::read_to_string(folder.join("run/metrics.jsonl")).expect("metrics");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_resumed_run_is_the_unbroken_one_to_the_bit() {
    resumed(&sfr(ALL));
}

#[test]
fn a_resumed_run_borrows_of_the_rows_that_the_unbroken_one_does() {
    resumed(&sfr(&format!("{ALL}\n{OTHERS}")));
}

fn resumed(auxiliary: &str) {
    let (whole, broken) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let expected = run(whole.path(), auxiliary, 6, None);
    // Broken off in phase A, in phase B and after.
    let mut found = run(broken.path(), auxiliary, 1, None);
    for until in [3, 5, 6] {
        found = run(broken.path(), auxiliary, until, Some(&found));
    }
    let state = found.training_state().expect("a training state");
    assert!(state.contains_key("value.auxiliary.0.head.output_proj.weight"));
    assert!(state.contains_key("value.auxiliary.0.control.output_proj.weight"));
    assert!(state.contains_key("auxiliary.0.state.gate"));
    assert_eq!(state, expected.training_state().expect("a training state"));
    for name in ["adapter_model.safetensors", "adapter_config.json"] {
        let bytes = |checkpoint: &Checkpoint| fs_err::read(checkpoint.folder.join(name)).expect("a file");
        assert!(bytes(&found) == bytes(&expected), "{name}");
    }
    let train = |folder: &Path| -> Vec<Value> {
        let lines = metrics(folder).into_iter().filter(|line| line["split"] == "train");
        lines.map(|line| serde_json::json!([line["loss"], line["nll"], line["sfr"]])).collect()
    };
    assert_eq!(train(broken.path()), train(whole.path()));
    assert_eq!(train(whole.path()).len(), 6);
}

#[test]
fn metrics_hold_the_losses_of_head_and_control_and_the_phases() {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), &sfr(ALL), 6, None);
    let lines = metrics(folder.path());
    let train: Vec<&Value> = lines.iter().filter(|line| line["split"] == "train").collect();
    let number = |line: &Value, key: &str| line["sfr"][key].as_f64().unwrap_or_else(|| panic!("{key} in {line}"));
    let weights: Vec<f64> = train.iter().map(|line| number(line, "weight")).collect();
    assert_eq!(weights, [1.0, 1.0, 0.0, 0.5, 1.0, 1.0]);
    // A head that begins at zero: 1 + 1/8 but for the draws, the same for the control.
    assert!((number(train[0], "head") - 1.125).abs() < 0.3, "{}", train[0]);
    assert_eq!(number(train[0], "head"), number(train[0], "control"));
    assert_ne!(number(train[5], "head"), number(train[5], "control"));
    for line in &train {
        let nll = if number(line, "weight") == 1.0 && line["step"].as_u64() <= Some(2) {
            0.0
        } else {
            line["nll"].as_f64().expect("nll")
        };
        let sum = nll + number(line, "weight") * number(line, "head");
        assert!((line["loss"].as_f64().expect("a loss") - sum).abs() < 1e-5, "{line}");
    }
    // Held-out rows: at the start both heads are zero; there are evaluations before step 1, after 3 and after 6.
    let eval: Vec<&Value> = lines.iter().filter(|line| line["split"] == "eval").collect();
    assert_eq!(eval.len(), 3);
    assert_eq!(number(eval[0], "head"), number(eval[0], "control"));
    assert!((number(eval[0], "head") - 1.125).abs() < 0.3);
    assert_eq!(eval[0]["loss"], eval[0]["nll"]);
}

/// A control is there to compare with: with and without it, whatever is trained and logged besides is the same to the bit.
#[test]
fn a_control_changes_nothing_else_that_is_trained() {
    let (with, without) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let keys = |control: bool| sfr(&format!("weight = 20\ngradient_gate = true\nhead_ema = 0.5\ncontrol = {control}"));
    let first = run(with.path(), &keys(true), 6, None);
    let second = run(without.path(), &keys(false), 6, None);
    let (mut lines, expected) = (metrics(with.path()), metrics(without.path()));
    // Clipping acts, and the control has numbers of its own to learn by.
    assert!(expected.iter().any(|line| line["grad_norm"].as_f64() > Some(1.0)));
    assert_ne!(lines[lines.len() - 1]["sfr"]["control"], lines[lines.len() - 1]["sfr"]["head"]);
    for line in &mut lines {
        assert!(line["sfr"].as_object_mut().expect("an object").remove("control").is_some());
    }
    let timeless = |lines: Vec<Value>| -> Vec<Value> {
        let without_time = |mut line: Value| {
            line.as_object_mut().expect("an object").remove("seconds");
            line
        };
        lines.into_iter().map(without_time).collect()
    };
    assert_eq!(timeless(lines), timeless(expected));
    let state = |checkpoint: &Checkpoint| checkpoint.training_state().expect("a training state");
    let (mut state_with, state_without) = (state(&first), state(&second));
    state_with.retain(|name, _| !name.contains(".control."));
    assert!(state_with == state_without);
    let adapter = |checkpoint: &Checkpoint| checkpoint.adapter().expect("an adapter").tensors;
    assert!(adapter(&first) == adapter(&second));
}

#[test]
fn the_adapter_holds_no_head_and_is_that_of_a_run_without_one_where_the_weight_is_zero() {
    let (with, without) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let first = run(with.path(), &sfr("weight = 0"), 6, None);
    let second = run(without.path(), "", 6, None);
    let (first, second) = (first.adapter().expect("an adapter"), second.adapter().expect("an adapter"));
    assert!(first.tensors == second.tensors);
    // With a weight the adapter is another one, of the same tensors.
    let other = tempfile::tempdir().expect("a folder");
    let third = run(other.path(), &sfr(""), 6, None).adapter().expect("an adapter");
    assert!(third.tensors != second.tensors && third.tensors.keys().eq(second.tensors.keys()));
}

#[test]
fn micro_batches_do_not_change_the_gradient() {
    let flow = |keys: &str, size: usize| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut plan = plan(folder.path(), &sfr(keys));
        let mut trainee = plan.build().unwrap_or_else(|faults| panic!("{faults}"));
        let settings = Settings { steps: 3, micro_batch_size: size, ..plan.settings(&mut trainee) };
        let mut run = Run::create(&plan.recipe.output.dir).expect("a run");
        let mut order = Order::new(&plan.train.examples, 4, size, None, plan.width_multiple);
        let objective = plan.recipe.objective.as_mut();
        let mut reporter = Reporter::new(3, 0, Watched::default());
        let (group, interrupted) = (group::Group::single(), AtomicBool::new(false));
        let company = Company { group: &group, interrupted: &interrupted };
        let learner = Learner { trainee: &mut trainee, objective };
        let rows = Rows { order: &mut order, evaluation: &[], sources: &[], observe: None };
        let log = Log { run: &mut run, reporter: &mut reporter };
        train(&settings, learner, rows, Some(log), None, company).unwrap_or_else(|faults| panic!("{faults}"));
        let lines = metrics(folder.path());
        lines.iter().map(|line| line["sfr"]["head"].as_f64().expect("a loss")).collect::<Vec<_>>()
    };
    for keys in ["", OTHERS] {
        let (one, four) = (flow(keys, 1), flow(keys, 4));
        assert_eq!(one.len(), 3);
        assert!(one.iter().zip(&four).all(|(a, b)| (a - b).abs() < 1e-4), "{one:?} {four:?}");
    }
}

#[test]
fn a_single_row_with_a_text_has_none_to_borrow_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let row = |words: &str| format!("{{\"prompt\":\"The\",\"completion\":\"{words}\"}}\n");
    let faults = |rows: String, keys: &str| {
        let path = folder.path().join("few.jsonl");
        fs_err::write(&path, rows).expect("a write");
        let mut plan = plan(folder.path(), &sfr(keys));
        plan.train = Plan::new({
            let text = format!("[model]\npath = \"builtin:tiny\"\n[data]\ntrain = [{path:?}]\n");
            crate::recipe::parse("few.toml", &text, &[], &losses::Registry::default()).unwrap_or_else(|f| panic!("{f}"))
        })
        .unwrap_or_else(|faults| panic!("{faults}"))
        .train;
        plan.build().err().map(|faults| faults.to_string())
    };
    let (long, short) = (row(" fox sees the red owl and the fox"), row(" a"));
    let fault = faults(format!("{long}{short}"), OTHERS).expect("a fault");
    assert!(fault.contains("a single training row has a text") && fault.contains("targets = \"own\""), "{fault}");
    assert_eq!(faults(format!("{long}{short}"), ""), None);
    assert_eq!(faults(format!("{long}{long}"), OTHERS), None);
}

#[test]
fn embeddings_come_from_the_cache_and_a_damaged_one_is_made_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let compute = |prefix: &str| {
        let mut plan = plan(folder.path(), &sfr(&format!("prefix = {prefix:?}")));
        let encoder = plan.encoders[0].take().expect("an encoder");
        let sentences = plan.recipe.auxiliaries[0].sentences.take().expect("a request");
        let (train, eval) = (&plan.train.examples, &plan.eval.as_ref().expect("evaluation rows").examples);
        super::compute(&sentences, &encoder, &plan.tokenizer, train, eval, plan.cache.clone(), &plan.device)
            .unwrap_or_else(|faults| panic!("{faults}"))
    };
    let files = || -> Vec<std::path::PathBuf> {
        let entries = fs_err::read_dir(folder.path().join("cache")).expect("the cache");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    };
    let first = compute("");
    assert_eq!((first.dimension, files().len()), (8, 2));
    assert_eq!(compute(""), first);
    assert_eq!(files().len(), 2);
    // Another setting has files of its own.
    assert_ne!(compute("the "), first);
    assert_eq!(files().len(), 4);
    for path in files() {
        let mut bytes = fs_err::read(&path).expect("a file");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs_err::write(&path, bytes).expect("a write");
    }
    assert_eq!(compute(""), first);
    let damaged = files().iter().filter(|path| checkpoints_get(&folder.path().join("cache"), path).is_err()).count();
    assert_eq!(damaged, 2, "the two of the other setting");
}

fn checkpoints_get(folder: &Path, path: &Path) -> Result<(), faults::Fault> {
    let key = path.file_stem().expect("a name").to_string_lossy().into_owned();
    Cache::at(folder).get(&key).map(|_| ())
}

/// Answers shorter than `min_suffix`: nothing would be learned from them, silently.
#[test]
fn rows_without_a_text_to_embed_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan(folder.path(), &sfr("").replace("k = 6", "k = 300").replace("min_suffix = 2", "min_suffix = 250"));
    let faults = plan.build().err().expect("a fault").to_string();
    assert!(faults.contains("no training row has an answer long enough"), "{faults}");
}
