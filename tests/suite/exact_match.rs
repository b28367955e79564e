//! Which samples are right, said by their own rows: a column with the answer, or the targets of their prompt.

use serde_json::{Value, json};

use crate::support::Workplace;

fn rows(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// Samples of two sums, as `trainer sample --prompts` writes them.
fn sums() -> Workplace {
    let place = Workplace::new();
    let sample = |prompt: &str, answer: Value, text: &str| json!({"prompt": prompt, "answer": answer, "text": text});
    place.write(
        "samples.jsonl",
        rows(&[
            sample("3 + 4", json!("3 and 4.\n#### 7"), "It is 7.\n#### 7"),
            sample("3 + 4", json!("3 and 4.\n#### 7"), "#### 12, no:\n#### 7 \n"),
            sample("3 + 4", json!("3 and 4.\n#### 7"), "7"),
            sample("3 + 4", json!("3 and 4.\n#### 7"), "#### 8"),
            sample("1 + 1", json!(2), "#### 2"),
            sample("1 + 1", json!(2), "two"),
            sample("1 + 1", json!(2), "2"),
            sample("1 + 1", json!(2), "#### 22"),
        ]),
    );
    place
}

fn eval(place: &Workplace, arguments: &str) -> Vec<Value> {
    place.trainer(&format!("eval --samples samples.jsonl {arguments}")).succeeds().lines()
}

#[test]
fn samples_are_right_that_say_what_their_rows_do() {
    let place = sums();
    let lines = eval(&place, "--exact-match answer --answer-pattern ####\\s*(.+)");
    assert_eq!((&lines[0]["correct"], &lines[1]["correct"]), (&json!(2), &json!(1)));
    assert_eq!(lines[2]["pass_at_k"]["1"], json!((0.5 + 0.25) / 2.0));
    // Without a pattern the whole text is the answer.
    let lines = eval(&place, "--exact-match answer --k 1");
    assert_eq!((&lines[0]["correct"], &lines[1]["correct"]), (&json!(0), &json!(1)));
    // Nothing is said to be unread that is read.
    let told = place.trainer("eval --samples samples.jsonl --exact-match answer").succeeds();
    assert!(!told.stderr.contains("answer"), "{}", told.stderr);
    place.trainer("eval --samples samples.jsonl").says(&["`answer`"]);
    // One of several is enough.
    place.write("samples.jsonl", rows(&[json!({"prompt": "a", "any": ["x", 2], "text": "2"})]));
    assert_eq!(eval(&place, "--exact-match any")[0]["correct"], json!(1));
}

#[test]
fn drawn_samples_are_compared_with_the_columns_of_their_prompts() {
    let place = Workplace::new();
    let drawn = place.trainer("sample builtin:tiny --prompt fox --temperature 0 --max-tokens 4").succeeds();
    let text = drawn.lines()[0]["text"].clone();
    place.write("prompts.jsonl", rows(&[json!({"prompt": "fox", "said": text})]));
    let draw = "eval builtin:tiny --prompts prompts.jsonl --temperatures 0 --n 2 --max-tokens 4";
    let lines = place.trainer(&format!("{draw} --exact-match said")).succeeds().lines();
    assert_eq!((&lines[0]["correct"], &lines[0]["pass_at_k"]["1"]), (&json!(2), &json!(1.0)));
    place.write("prompts.jsonl", rows(&[json!({"prompt": "fox", "said": "no fox"})]));
    assert_eq!(place.trainer(&format!("{draw} --exact-match said")).succeeds().lines()[0]["correct"], json!(0));
}

/// By either way of measuring samples, and whether an end was drawn or not.
#[test]
fn targets_of_a_prompt_say_what_is_right() {
    let place = Workplace::new();
    let sample = |text: &str| json!({"prompt": "a", "targets": ["red fox", "owl"], "text": text});
    place.write("samples.jsonl", rows(&["owl", " red fox\n", "red foxes", "wolf"].map(sample)));
    let line = eval(&place, "").remove(0);
    assert_eq!((&line["correct"], &line["yield"], &line["pass_at_k"]["1"]), (&json!(2), &json!(2), &json!(0.5)));
    let open = |text: &str| json!({"prompt": "a", "targets": ["red fox", "owl"], "eos": false, "text": text});
    place.write("samples.jsonl", rows(&["owl", " red fox\n", "red foxes", "wolf"].map(open)));
    assert_eq!(eval(&place, "").remove(0)["correct"], json!(3));
    // Each row has its own, and what was cut at its greatest length has not ended as a target does.
    let under_one =
        |prompt: &str, targets: Value| json!({"id": 1, "prompt": prompt, "targets": targets, "text": "good"});
    place.write("samples.jsonl", rows(&[under_one("praise", json!(["good"])), under_one("blame", json!("bad"))]));
    assert_eq!(eval(&place, "").remove(0)["correct"], json!(1));
    let cut = json!({"prompt": "a", "targets": ["owl"], "text": "owl", "stopped": false});
    place.write(
        "samples.jsonl",
        rows(&[cut, json!({"prompt": "a", "targets": ["owl"], "text": "owl", "stopped": true})]),
    );
    assert_eq!(eval(&place, "").remove(0)["correct"], json!(1));
    // Where some prompts have none, a mean over all would not be one.
    place.write("samples.jsonl", rows(&[sample("owl"), json!({"prompt": "b", "text": "owl"})]));
    let told =
        place.trainer("eval --samples samples.jsonl").says(&["1 of 2 prompts have `targets`, and samples.jsonl"]);
    assert_eq!(told.lines()[0].get("correct"), None);
    // Drawn on the spot the same.
    let drawn = place.trainer("sample builtin:tiny --prompt fox --temperature 0 --max-tokens 4").succeeds();
    let text = drawn.lines()[0]["text"].clone();
    place.write("prompts.jsonl", rows(&[json!({"prompt": "fox", "targets": ["owl", text], "eos": false})]));
    let draw = "eval builtin:tiny --prompts prompts.jsonl --temperatures 0 --n 2 --max-tokens 4";
    assert_eq!(place.trainer(draw).succeeds().lines()[0]["correct"], json!(2));
    place.write("prompts.jsonl", rows(&[json!({"prompt": "fox", "targets": ["owl", text]})]));
    assert_eq!(place.trainer(draw).succeeds().lines()[0]["correct"], json!(0), "it was cut");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let place = sums();
    for (arguments, words) in [
        ("--exact-match gone", &["has no `gone` to be compared with", "samples.jsonl:1", "`answer`"][..]),
        ("--exact-match answer --answer-pattern (", &["is no regular expression", "hint: "]),
        ("--exact-match answer --answer-pattern ####", &["must have one group, and has 0"]),
        ("--answer-pattern (.)", &["--exact-match"]),
        ("--exact-match answer --judge true", &["--judge"]),
    ] {
        place.refuses(&format!("eval --samples samples.jsonl {arguments}"), words);
    }
    place.write("samples.jsonl", rows(&[json!({"prompt": "a", "text": "b", "correct": true, "answer": "b"})]));
    place.refuses("eval --samples samples.jsonl --exact-match answer", &["would replace what the samples say already"]);
    place.write("samples.jsonl", rows(&[json!({"prompt": "a", "text": "b", "answer": {"b": 1}})]));
    place
        .refuses("eval --samples samples.jsonl --exact-match answer", &["`answer` must be a text, a number or a list"]);
    place.refuses("eval builtin:tiny --data held_out.jsonl --exact-match answer", &["`--exact-match` has no effect"]);
}
