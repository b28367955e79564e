//! `trainer report`: files and folders as they are written become one page.

use serde_json::json;

use crate::support::Workplace;

/// Lines of `trainer eval` at three temperatures.
fn evaluated(model: &str, shift: f64) -> String {
    let line = |(temperature, mass, f8): (f64, f64, f64)| {
        let prompt = json!(null);
        json!({"model": model, "file": prompt, "line": prompt, "prompt": prompt, "temperature": temperature,
            "targets": 12, "mass": mass, "f8": f8 + shift})
    };
    [(0.5, 0.9, 0.5), (1.0, 0.7, 0.6), (2.0, 0.4, 0.7)].map(|point| format!("{}\n", line(point))).concat()
}

#[test]
fn a_sweep_is_compared_by_the_arms_and_seeds_that_it_names() {
    let place = Workplace::new();
    let mut runs = Vec::new();
    std::fs::create_dir_all(place.path("sweep/evaluation")).expect("a folder");
    for (arm, shift) in [("kind=nll", 0.0), ("kind=cdiv", 0.1)] {
        for seed in 1..=3 {
            let name = format!("{arm},seed={seed}");
            let model = format!("sweep/runs/{name}");
            let text = evaluated(&model, shift + 0.01 * f64::from(seed));
            place.write(&format!("sweep/evaluation/{name}.jsonl"), text);
            runs.push(json!({"name": name, "arm": arm, "seed": seed, "state": "done"}));
        }
    }
    runs.push(json!({"name": "kind=gold,seed=1", "arm": "kind=gold", "seed": 1, "state": "failed", "fault": "the <loss> is NaN"}));
    let sweep =
        json!({"recipe": "a.toml", "set": [], "grid": [], "runs": runs, "baseline": "kind=nll", "evaluation": {}});
    place.write("sweep/sweep.json", sweep.to_string());
    place.trainer("report sweep --out page.html").succeeds().says(&["wrote page.html"]);
    let page = place.text("page.html");
    assert!(page.contains("kind=cdiv finds more than kind=nll: at precision 0.7 (mass)"), "{page}");
    assert!(page.contains("kind=gold,seed=1 has no numbers: the &lt;loss&gt; is NaN"), "{page}");
}

#[test]
fn files_of_evaluations_are_compared_with_the_first_or_the_one_that_is_asked_for() {
    let place = Workplace::new();
    place.write("a.jsonl", evaluated("runs/a", 0.0));
    place.write("b.jsonl", evaluated("runs/b", 0.1));
    place.trainer("report a.jsonl b.jsonl").succeeds();
    assert!(place.text("report.html").contains("between runs/b and runs/a: at precision 0.7"));
    place.trainer("report a.jsonl b.jsonl --baseline runs/b").succeeds();
    assert!(place.text("report.html").contains("between runs/a and runs/b: at precision 0.7"));
    place.trainer("report a.jsonl --baseline runs/c").fails(&["no arm is named `runs/c`", "one of: runs/a"]);
    place.trainer("report a.jsonl a.jsonl").fails(&["a.jsonl", "line 1", "was given before"]);
    place.trainer("report none.jsonl").fails(&["none.jsonl"]);
}
