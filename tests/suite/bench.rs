//! `bench`: what it measures, and what it refuses before it begins.

use crate::support::Workplace;

const TINY: &str = "bench --model builtin:tiny --seq 16 --dtype bf16 --json";

#[test]
fn a_bench_says_how_fast_and_how_large_a_step_is() {
    let place = Workplace::new();
    let json = place.trainer(&format!("{TINY} --batch 2 --steps 2 --recompute auto")).succeeds().json();
    // Where all activations fit they are kept.
    assert_eq!((&json["recompute"], &json["batch"], &json["seq"]), (&"none".into(), &2.into(), &16.into()));
    assert_eq!(json["attention"], "own");
    let number = |key: &str| json[key].as_f64().unwrap_or_else(|| panic!("`{key}` is no number in {json}"));
    assert!(number("best_step_ms") <= number("mean_step_ms"), "{json}");
    // Of two steps the median lies in their middle.
    assert!((number("step_ms") - number("mean_step_ms")).abs() < 0.11, "{json}");
    assert!(number("best_processor_ms") <= number("processor_ms"), "{json}");
    assert!((number("tokens_per_s") / (32e3 / number("step_ms")) - 1.0).abs() < 0.05, "{json}");
    assert!(number("mfu") > 0.0 && number("flop_per_token") > 0.0, "{json}");
}

/// Each in a process of its own, in the words that were typed.
#[test]
fn both_types_are_measured_and_compared() {
    let place = Workplace::new();
    for given in ["--dtype all", "--dtype=all"] {
        let ended = place.trainer(&format!("bench --model builtin:tiny --seq 16 --steps 1 {given}")).succeeds();
        let lines =
            ended.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("an object"));
        let types: Vec<_> = lines.map(|line| (line["dtype"].clone(), line["seq"].clone())).collect();
        assert_eq!(types, [("f32".into(), 16.into()), ("bf16".into(), 16.into())]);
        ended.says(&["bf16 beside f32: ", " of its time of a step", " of its memory; `auto` takes f32"]);
    }
    let fault =
        place.trainer("bench --model builtin:tiny --seq 16 --rank 0 --dtype all").fails(&["`--rank` cannot be 0"]);
    assert_eq!(fault.stdout, "");
}

#[test]
fn a_rank_that_no_matrix_can_have_is_warned_of() {
    let place = Workplace::new();
    let ended = place.trainer(&format!("{TINY} --steps 1 --rank 129")).succeeds();
    ended.says(&["`--rank` = 129 is above the rank that any of the adapted matrices can have, 128", "128 or less"]);
    assert_eq!(place.trainer(&format!("{TINY} --steps 1 --rank 128")).succeeds().stderr, "");
}

/// Before anything is drawn or read: the estimate alone says so.
#[test]
fn what_does_not_fit_is_refused_with_what_to_change() {
    let place = Workplace::new();
    let expected = ["the run needs about ", " of memory, and ", "hint: ", "`--batch`", "--recompute blocks"];
    place.refuses("bench --shape llama-3.1-8b --batch 4096 --seq 131072", &expected);
    let ended = place.refuses("bench --shape llama-3.1-8b --batch 4096 --seq 131072 --recompute auto", &expected[..4]);
    assert!(!ended.stderr.contains("--recompute"), "{}", ended.stderr);
}
