//! `eval --judge`: a program that says which samples are right, and all that such a program may do instead.

use serde_json::{Map, Value, json};

use crate::support::{Ended, Workplace};

/// Answers are right where they are 4.
const CHECK: &str = r#"while read -r line; do
    case "$line" in
        *'"text":"4"'*) echo true ;;
        *) echo false ;;
    esac
done"#;

fn rows(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().map(|row| format!("{row}\n")).collect()
}

/// Two prompts of four answers.
fn place() -> Workplace {
    let place = Workplace::new();
    let answers = [("a", ["4", "4", "5", "six"]), ("b", ["7", "4", "8", "9"])];
    let of_prompt = |(prompt, texts): (&'static str, [&'static str; 4])| {
        texts.map(|text| json!({"prompt": prompt, "text": text, "answer": 4, "ids": [1, 2]}))
    };
    place.write("samples.jsonl", rows(answers.into_iter().flat_map(of_prompt)));
    place
}

fn judged(place: &Workplace, script: &str, more: &[&str]) -> Ended {
    place.write("judge.sh", script);
    place.trainer_with(&[&["eval", "--samples", "samples.jsonl", "--judge", "sh judge.sh"], more].concat(), &[])
}

fn refused(place: &Workplace, script: &str, more: &[&str], expected: &[&str]) {
    judged(place, script, more).fails(&[expected, &["--judge sh judge.sh", "hint: "]].concat());
}

/// Verdicts are what rows with `correct` have, in every number.
#[test]
fn verdicts_count_as_those_of_rows_do() {
    let place = place();
    let by_judge = judged(&place, CHECK, &["--k", "1,2"]).succeeds().lines();
    let file = place.text("samples.jsonl");
    let with = |line: &str| {
        let mut row: Map<String, Value> = serde_json::from_str(line).expect("a row");
        row.insert("correct".into(), json!(row["text"] == "4"));
        Value::Object(row)
    };
    place.write("samples.jsonl", rows(file.lines().map(with)));
    let mut by_rows = place.trainer("eval --samples samples.jsonl --k 1,2").succeeds().lines();
    for line in &mut by_rows {
        line["without_verdict"] = json!(0);
    }
    assert_eq!(by_judge.len(), 3);
    for (a, b) in by_judge.iter().zip(&by_rows) {
        let sorted = |line: &Value| {
            let fields = line.as_object().expect("an object").clone();
            fields.into_iter().collect::<std::collections::BTreeMap<String, Value>>()
        };
        assert_eq!(sorted(a), sorted(b));
    }
    assert_eq!(
        (&by_judge[0]["valid"], &by_judge[0]["yield"], &by_judge[0]["validity"]),
        (&json!(2), &json!(1), &json!(0.5))
    );
    assert_eq!((&by_judge[0]["uniqueness"], &by_judge[2]["valid"]), (&json!(0.5), &json!(1.5)));
    // 1 - C(2, 2) / C(4, 2) and 1 - C(3, 2) / C(4, 2), and the error over the two problems.
    let pass = |line: &Value| line["pass_at_k"]["2"].as_f64().expect("a number");
    assert!((pass(&by_judge[0]) - 5.0 / 6.0).abs() < 1e-12 && (pass(&by_judge[1]) - 0.5).abs() < 1e-12);
    let error = by_judge[2]["standard_errors"]["pass_at_k"]["2"].as_f64().expect("a number");
    assert!((error - (5.0 / 6.0 - 0.5) / 2.0).abs() < 1e-12, "{error}");
    // Verdicts are not written over, and the file stays as it is.
    refused_as_judged(&place);
}

fn refused_as_judged(place: &Workplace) {
    let before = place.text("samples.jsonl");
    judged(place, CHECK, &[]).fails(&["samples.jsonl:1", "would replace what the samples say already", "hint: "]);
    assert_eq!(place.text("samples.jsonl"), before);
}

/// The judge sees the row with its other columns and without token ids, and what it says beside its verdict is its own.
#[test]
fn a_judge_sees_the_row_and_may_score_it() {
    let place = place();
    let script = r#"while read -r line; do
        case "$line" in
            *ids*) echo '{"correct": false, "score": 0}' ;;
            *'"answer":4'*) printf '{"correct": null, "score": 2.5, "why": "a column"}\r\n\n' ;;
        esac
    done"#;
    let lines = judged(&place, script, &[]).succeeds().lines();
    // Scores alone: nothing is said of what is right.
    assert_eq!((lines[0].get("valid"), lines[0].get("pass_at_k")), (None, None));
    assert_eq!(lines[0]["without_verdict"], json!(0));
    let utility = lines[0]["utility_k"].as_f64().expect("a number");
    let expected = 0.2 / (1.0 - 0.8f64.powi(4)) * 2.5 * (1.0 + 0.8f64.powi(2) + 0.8f64.powi(3));
    assert!((utility - expected).abs() < 1e-12, "{utility} {expected}");
}

/// A sample without a verdict is counted and named, not right, and the next one has its own.
#[test]
fn what_is_not_answered_is_not_right() {
    let place = place();
    let at_five = |does: &str| {
        format!("while read -r line; do case \"$line\" in *'\"text\":\"5\"'*) {does} ;; *) echo true ;; esac; done")
    };
    let cases = [
        ("exit 3", "samples.jsonl:3: it ended without an answer (exit status: 3)"),
        ("exec <&-; exec >&-; exit 0", "samples.jsonl:3: it ended without an answer"),
        ("kill -9 $$", "samples.jsonl:3: it ended without an answer ("),
        ("echo 'Traceback: no'", "samples.jsonl:3: its answer is no verdict: `Traceback: no`"),
        ("echo '{\"correct\": \"yes\"}'", "`correct` of its answer must be true or false"),
        ("echo '{\"score\": NaN}'", "its answer is no verdict"),
        ("printf '\\377\\n'", "its answer is not UTF-8"),
        ("head -c 1100000 /dev/zero | tr '\\0' x; echo", "its answer is longer than a megabyte"),
        ("echo null", "the judge answered them with `null`"),
        ("sleep 1000", "samples.jsonl:3: no answer in 5 s"),
    ];
    for (does, said) in cases {
        let ended = judged(&place, &at_five(does), &["--judge-seconds", "5"]).succeeds();
        let ended = ended.says(&["1 sample of 8 without a verdict, which count as not right", said]);
        let lines = ended.lines();
        let counts = |line: &Value| (line["valid"].clone(), line["without_verdict"].clone(), line["samples"].clone());
        assert_eq!(counts(&lines[0]), (json!(3), json!(1), json!(4)), "{does}");
        assert_eq!(counts(&lines[1]), (json!(4), json!(0), json!(4)), "{does}");
        assert_eq!((&lines[2]["without_verdict"], &lines[2]["valid"]), (&json!(1), &json!(3.5)), "{does}");
    }
}

#[test]
fn a_judge_may_answer_a_line_and_end_and_say_much_to_stderr() {
    let place = place();
    let one_line = "read -r line; head -c 300000 /dev/zero | tr '\\0' x >&2; echo false; exit 1";
    let ended = judged(&place, one_line, &[]).succeeds();
    // The judge reads all columns.
    assert!(!ended.stderr.contains("nothing reads"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("xxxx"), "{}", &ended.stderr[..200]);
    assert_eq!(ended.lines()[2]["valid"], json!(0.0));
    // The last line may have no end.
    assert_eq!(judged(&place, "read -r line; printf true", &[]).succeeds().lines()[2]["valid"], json!(4.0));
}

#[test]
fn a_judge_that_cannot_be_trusted_is_a_fault() {
    let place = place();
    for (script, expected) in [
        ("exit 7", &["has not given a single verdict", "exit status: 7"][..]),
        ("echo 'no module x' >&2; exit 1", &["the last it said: no module x"]),
        ("echo loading; cat", &["not given a single verdict: its answer is no verdict: `loading`"]),
        ("while read -r line; do echo null; done", &["no verdict on any sample"]),
        ("while read -r line; do echo true; echo true; done", &["more lines than it was asked"]),
        ("while read -r line; do echo true; done; echo true", &["more lines than it was asked"]),
        ("read -r line; echo true; while read -r line; do echo no; done", &["has not given a single verdict"]),
    ] {
        let ended = judged(&place, script, &[]);
        // A new process has its first line right.
        if script.starts_with("read -r line; echo true; while") {
            ended.succeeds().says(&["without a verdict"]);
            continue;
        }
        ended.fails(&[expected, &["--judge sh judge.sh", "hint: "]].concat());
    }
    // One that reads nothing, of a text that no pipe holds.
    place.write("samples.jsonl", rows([json!({"prompt": "a", "text": "word ".repeat(200_000)})]));
    refused(&place, "sleep 1000", &["--judge-seconds", "1"], &["no answer in 1 s", "flush"]);
    judged(&place, "cat > /dev/null", &["--judge-seconds", "1"]).fails(&["no answer in 1 s"]);
    assert_eq!(judged(&place, CHECK, &[]).succeeds().lines()[0]["valid"], json!(0));
    // Fails from some sample on.
    let texts = (0..8).map(|index| json!({"prompt": "a", "text": if index < 2 { "good" } else { "bad" }}));
    place.write("samples.jsonl", rows(texts));
    let script = "while read -r line; do case \"$line\" in *good*) echo true ;; *) exit 1 ;; esac; done";
    refused(&place, script, &[], &["the judge fails again and again"]);
    for (flags, expected) in [
        (&["--judge-seconds", "0"][..], "`--judge-seconds` must be above 0"),
        (&["--judge-seconds", "nan"], "`--judge-seconds` must be above 0"),
    ] {
        judged(&place, CHECK, flags).fails(&[expected]);
    }
    place.refuses("eval builtin:tiny --data builtin:numbers --judge true", &["`--judge` has no effect"]);
    place.refuses("eval --samples samples.jsonl --judge-seconds 3", &["--judge"]);
}

/// Of what is drawn here, too; of rows with targets the judge goes before the targets.
#[test]
fn drawn_samples_are_judged() {
    let place = Workplace::new();
    place.write(
        "prompts.jsonl",
        rows([json!({"id": 1, "prompt": "The fox", "answer": "x"}), json!({"id": 2, "prompt": "A"})]),
    );
    place.write(
        "judge.sh",
        "while read -r line; do case \"$line\" in *'\"answer\":\"x\"'*) echo true ;; *) echo false ;; esac; done",
    );
    let draw = ["eval", "builtin:tiny", "--n", "3", "--max-tokens", "4", "--judge", "sh judge.sh"];
    let lines = place.trainer_with(&[&draw[..], &["--prompts", "prompts.jsonl"]].concat(), &[]).succeeds().lines();
    assert_eq!((&lines[0]["valid"], &lines[1]["valid"]), (&json!(3), &json!(0)));
    assert_eq!((&lines[0]["pass_at_k"]["1"], &lines[2]["pass_at_k"]["1"]), (&json!(1.0), &json!(0.5)));
    place.write("targets.jsonl", rows([json!({"prompt": "The fox", "targets": ["no such answer"]})]));
    place.write("judge.sh", "while read -r line; do echo true; done");
    let lines = place.trainer_with(&[&draw[..], &["--data", "targets.jsonl"]].concat(), &[]).succeeds().lines();
    assert_eq!(
        (&lines[0]["valid"], &lines[0]["covered"], &lines[0]["without_verdict"]),
        (&json!(3), &json!(0), &json!(0))
    );
}
