//! How the rows of a step are cut into micro-batches, and what is kept for the way back, changes speed and memory alone.

use std::collections::BTreeMap;

use checkpoints::Adapter;

use crate::support::{Workplace, larger};

/// Losses and gradient norms of the steps, and the adapter after the last.
struct Trained {
    steps: Vec<(f64, f64)>,
    adapter: BTreeMap<String, Vec<f32>>,
}

fn train(place: &Workplace, run: &str, set: &str) -> Trained {
    place.trainer(&format!("run recipe.toml --set output.dir={run} {set}")).succeeds();
    let number = |line: &serde_json::Value, key: &str| line[key].as_f64().expect("a number");
    let steps = place.steps(run).iter().map(|line| (number(line, "loss"), number(line, "grad_norm"))).collect();
    let adapter = Adapter::read(&place.path(&format!("{run}/checkpoints/step-000003"))).expect("an adapter");
    let values = |tensor: &checkpoints::StoredTensor| tensor.to_f32().expect("f32");
    Trained { steps, adapter: adapter.tensors.iter().map(|(name, tensor)| (name.clone(), values(tensor))).collect() }
}

fn assert_alike(one: &Trained, other: &Trained, tolerance: f64, what: &str) {
    assert_eq!((one.steps.len(), other.steps.len()), (3, 3));
    for (step, (a, b)) in one.steps.iter().zip(&other.steps).enumerate() {
        assert!((a.0 - b.0).abs() < tolerance * a.0, "{what}, step {step}: loss {} and {}", a.0, b.0);
        assert!((a.1 - b.1).abs() < tolerance * a.1, "{what}, step {step}: norm {} and {}", a.1, b.1);
    }
    assert_eq!(one.adapter.keys().collect::<Vec<_>>(), other.adapter.keys().collect::<Vec<_>>());
    for (name, a) in &one.adapter {
        let b = &other.adapter[name];
        let largest = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, larger);
        assert!(largest < tolerance, "{what}: {name} differs by {largest}");
    }
}

/// AdamW divides by the root of the second moment: with the usual epsilon it makes a step out of the sign of a gradient
/// that is nothing but rounding. A larger one keeps the comparison to what is computed.
const STEPS: &str = "--set train.steps=3 --set train.batch_size=8 --set optimizer.eps=1e-3 --set checkpoint.every=3";

#[test]
fn one_by_eight_is_two_by_four_is_eight_by_one() {
    let place = Workplace::new();
    for objective in ["nll", "cdiv"] {
        let runs = [1, 4, 8].map(|size| {
            let set = format!("{STEPS} --set train.micro_batch_size={size} --set objective.kind={objective}");
            train(&place, &format!("{objective}-{size}"), &set)
        });
        assert_alike(&runs[0], &runs[1], 1e-5, "eight times one row and twice four");
        assert_alike(&runs[0], &runs[2], 1e-5, "eight times one row and once eight");
    }
}

/// The way back through recomputed blocks is the same arithmetic, dropout included.
#[test]
fn recomputed_blocks_give_the_gradients_of_kept_activations() {
    let place = Workplace::new();
    for (recipe, adapter) in [("recipe", "--set adapter.dropout=0.1"), ("full", "")] {
        let losses = ["none", "blocks"].map(|recompute| {
            let run = format!("{recipe}-{recompute}");
            let set = format!("{STEPS} {adapter} --set train.recompute={recompute} --set train.micro_batch_size=4");
            place.trainer(&format!("run {recipe}.toml --set output.dir={run} {set}")).succeeds();
            let number = |line: &serde_json::Value, key: &str| line[key].as_f64().expect("a number");
            let steps = place.steps(&run);
            steps.iter().map(|line| [number(line, "loss"), number(line, "grad_norm")]).collect::<Vec<_>>()
        });
        assert_eq!(losses[0].len(), 3);
        for (a, b) in losses[0].iter().flatten().zip(losses[1].iter().flatten()) {
            assert!((a - b).abs() < 1e-6 * a.abs(), "{recipe}: {a} and {b}");
        }
        if recipe == "recipe" {
            let adapter =
                |mode: &str| place.read(&format!("{recipe}-{mode}/checkpoints/step-000003/adapter_model.safetensors"));
            assert!(adapter("none") == adapter("blocks"), "the adapters differ");
        }
    }
}
