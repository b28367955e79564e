//! Losses that are not finite: the step is skipped and counted, three in a row stop the run.

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::Workplace;

fn skipped(place: &Workplace) -> Vec<u64> {
    let steps = place.steps("run");
    let skipped = steps.iter().filter(|line| line["skipped"] == true);
    skipped.map(|line| line["step"].as_u64().expect("a step")).collect()
}

#[test]
fn a_learning_rate_that_is_far_too_large_ends_the_run_at_the_third_skipped_step() {
    let place = Workplace::new();
    // Warm-up: the first update has the rate zero, so that the first checkpoint is a good one.
    let set =
        "--set optimizer.learning_rate=1e30 --set schedule.warmup=1 --set checkpoint.every=1 --set train.steps=20";
    let ended = place.trainer(&format!("run recipe.toml {set}")).fails(&["not finite for 3 steps in a row", "hint: "]);
    let skipped = skipped(&place);
    assert_eq!(skipped.len(), 3, "{}", ended.stderr);
    assert!(skipped.windows(2).all(|pair| pair[1] == pair[0] + 1), "{skipped:?}");
    assert_eq!(place.steps("run").len() as u64, skipped[2], "the run went on after the third");
    // The checkpoint that is named still gives a finite loss: a step after it was not skipped.
    let good = skipped[0] - 2;
    ended.says(&["last good checkpoint", &format!("step-{good:06}"), "optimizer.learning_rate"]);
    assert!(place.path(&format!("run/checkpoints/step-{good:06}/MANIFEST.json")).exists());
}

/// Writes NaN into the last norm of `model/`.
fn spoil(place: &Workplace) {
    let bytes = place.read("model/model.safetensors");
    let file = SafeTensors::deserialize(&bytes).expect("the embedded model");
    let broken = file.tensor("model.norm.weight").expect("the last norm");
    let nan: &[u8] = match broken.dtype() {
        Dtype::F32 => &[0, 0, 0xc0, 0x7f],
        _ => &[0xc0, 0x7f],
    };
    let mut values = broken.data().to_vec();
    values[..nan.len()].copy_from_slice(nan);
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let data = if name == "model.norm.weight" { values.as_slice() } else { view.data() };
        let view = TensorView::new(view.dtype(), view.shape().to_vec(), data).expect("the shape it had");
        (name, view)
    });
    let bytes = safetensors::serialize(tensors.collect::<Vec<_>>(), None).expect("a file");
    place.write("model/model.safetensors", bytes);
}

#[test]
fn a_model_with_a_weight_that_is_nan_changes_nothing_and_is_reported() {
    let place = Workplace::with_model();
    spoil(&place);
    let set = "--set model.path=model --set eval.every=1 --set checkpoint.every=1";
    place.trainer(&format!("run recipe.toml {set}")).fails(&["not finite for 3 steps in a row", "hint: "]);
    assert_eq!(skipped(&place), [1, 2, 3]);
    let lines = place.metrics("run");
    assert!(lines.iter().all(|line| line["loss"].is_null()), "{lines:?}");
    place.refuses("sample model --prompt fox", &["the model's logits are not finite", "hint: "]);
    place.refuses("sample model --prompt fox --temperature 0", &["the model's logits are not finite"]);
    place.refuses("eval model --data builtin:numbers", &["the model's loss is NaN", "builtin:numbers:1", "hint: "]);
}

/// Fewer skips than stop a run, but its last steps: nobody knows whether what was saved is any good.
#[test]
fn a_run_that_ends_in_skipped_steps_is_not_done() {
    let place = Workplace::new();
    let set =
        "--set optimizer.learning_rate=1e30 --set schedule.warmup=0 --set train.steps=3 --set objective.kind=cdiv";
    let ended = place.trainer(&format!("run recipe.toml {set}"));
    let ended = ended.fails(&["the run ended with a loss or gradient not finite", "hint: "]);
    assert!(!ended.stdout.contains("done:") && skipped(&place).last() == Some(&3), "{}", ended.stderr);
    // Nothing was saved that a retry could take for the end.
    place.trainer(&format!("run recipe.toml {set} --resume")).fails(&["hint: "]);
}

/// Makes a checkpoint one of before it was kept what the base is.
fn forget_base(place: &Workplace, folder: &str) {
    let mut state = place.json(&format!("{folder}/state.json"));
    state.as_object_mut().expect("an object").remove("base").expect("what the base is");
    let text = state.to_string();
    let mut manifest = place.json(&format!("{folder}/MANIFEST.json"));
    let sum = &mut manifest["files"]["state.json"];
    sum["size"] = text.len().into();
    sum["sha256"] = Value::from(Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    place.write(&format!("{folder}/state.json"), text);
    place.write(&format!("{folder}/MANIFEST.json"), manifest.to_string());
}

#[test]
fn a_resumed_run_whose_every_step_is_skipped_names_a_checkpoint() {
    let place = Workplace::with_model();
    let run = "run recipe.toml --set model.path=model --set eval.every=0 --set checkpoint.every=1";
    place.trainer(&format!("{run} --set train.steps=2")).succeeds();
    spoil(&place);
    let run_on = format!("{run} --set train.steps=9 --resume");
    place.refuses(&run_on, &["the base is another one: its weights are other ones", "hint: "]);
    for step in ["step-000001", "step-000002"] {
        forget_base(&place, &format!("run/checkpoints/{step}"));
    }
    // Of the second checkpoint no step was finite after it, of the first one was.
    let ended = place.trainer(&run_on);
    let good = "the last good checkpoint is run/checkpoints/step-000001;";
    ended.fails(&["not finite for 3 steps in a row", good, "--> run"]);
    place
        .trainer(&format!("{run} --set train.steps=1 --set output.dir=other"))
        .fails(&["no step up to 1", "--> other"]);
}
