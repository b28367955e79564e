//! `eval --samples`: what is counted on samples of any origin, and the files of them that are refused.

use serde_json::{Value, json};

use crate::support::Workplace;

fn eval(place: &Workplace, arguments: &str) -> Vec<Value> {
    let ended = place.trainer(&format!("eval --samples samples.jsonl {arguments}")).succeeds();
    ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn rows(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().map(|row| format!("{row}\n")).collect()
}

#[track_caller]
fn assert_near(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{found} is no number"));
    assert!((found - expected).abs() < 5e-5, "{found} is not {expected}");
}

/// Chen et al. 2021: of 10 samples 3 are right; and a prompt with none, for the mean.
#[test]
fn pass_at_k_has_the_published_values() {
    let place = Workplace::new();
    let right = (0..10).map(|index| json!({"prompt": "a", "text": "x", "correct": index < 3}));
    let wrong = (0..10).map(|_| json!({"prompt": "b", "correct": false}));
    // Rows of a prompt need not stand together, nor have a text.
    let right = right.map(|row| json!({"prompt": row["prompt"], "correct": row["correct"]}));
    let mixed: Vec<Value> = right.zip(wrong).flat_map(|(a, b)| [a, b]).collect();
    place.write("samples.jsonl", rows(mixed));
    let lines = eval(&place, "");
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["prompt"], &lines[0]["correct"], &lines[0]["samples"]), (&json!("a"), &json!(3), &json!(10)));
    for (k, expected) in [("1", 0.3), ("5", 0.916_667), ("10", 1.0)] {
        assert_near(&lines[0]["pass_at_k"][k], expected);
        assert_near(&lines[1]["pass_at_k"][k], 0.0);
        assert_near(&lines[2]["pass_at_k"][k], expected / 2.0);
    }
    assert_eq!((&lines[2]["prompts"], &lines[2]["samples"]), (&json!(2), &json!(20)));
    assert_eq!(lines[2].get("judge"), None);
    let passes = eval(&place, "--k 2").remove(2);
    assert_eq!(passes["pass_at_k"].as_object().map(serde_json::Map::len), Some(1));
    place.refuses("eval --samples samples.jsonl --k 1,11", &["pass@11 needs 11 samples", "samples.jsonl:1", "hint: "]);
    place.refuses("eval --samples samples.jsonl --k 0", &["`--k` must be at least 1"]);
}

#[test]
fn prompts_that_lack_a_number_leave_the_mean_of_the_others() {
    let place = Workplace::new();
    let of = |prompt: &str, texts: &[&str]| -> Vec<Value> {
        texts.iter().map(|text| json!({"prompt": prompt, "text": text})).collect()
    };
    let spoken = of("a", &["the cat sat", "the cat ate"]);
    place.write("samples.jsonl", rows([spoken.clone(), of("b", &["yes", "no"]), of("c", &["one"])].concat()));
    let lines = eval(&place, "");
    let [a, b, mean] = [&lines[0], &lines[1], &lines[3]];
    // By words: 4 of 6, 3 of 4, 2 of 2; two of two, and no sequence.
    assert_eq!(a["distinct_n"]["2"], json!(0.75));
    assert_eq!(b["distinct_n"].as_object().map(serde_json::Map::len), Some(1));
    assert_eq!((&mean["distinct_n"]["2"], &mean["distinct_n"]["3"]), (&json!(0.75), &json!(1.0)));
    assert_near(&mean["distinct_n"]["1"], (4.0 / 6.0 + 1.0 + 1.0) / 3.0);
    let without = &mean["prompts_without"];
    assert_eq!((&without["distinct_n.2"], &without["distinct_n.1"]), (&json!(2), &Value::Null));
    assert_eq!(without["self_bleu_nltk"], json!(1), "one sample alone has nothing to be like");
    // A curve over the number of samples is one of the same prompts throughout.
    assert_eq!((&mean["rarefied"]["2"], &without["rarefied.2"]), (&Value::Null, &json!(1)));
    place.write("samples.jsonl", rows(spoken));
    assert_eq!(eval(&place, "").remove(1).get("prompts_without"), None);
}

/// The values of arXiv 2506.09659's definition: an edge where both orders say so, clusters are connected components.
#[test]
fn relaxed_semantic_entropy_has_the_published_values() {
    let place = Workplace::new();
    let all: Vec<[usize; 2]> = (0..3).flat_map(|i| (0..3).map(move |j| [i, j])).collect();
    place.write(
        "samples.jsonl",
        rows([
            json!({"id": 1, "n": 3, "same": []}),
            json!({"id": 2, "n": 3, "same": [[0, 1], [1, 0], [1, 2], [0, 2]]}),
            json!({"id": 3, "n": 3, "same": all}),
            json!({"id": 4, "n": 3, "same": [[0, 1], [1, 2], [2, 1], [1, 0]]}),
            json!({"id": 5, "n": 10, "same": []}),
        ]),
    );
    let lines = eval(&place, "");
    let expected = [1.0986, 0.6365, 0.0, 0.0, 10f64.ln()];
    for (line, expected) in lines.iter().zip(expected) {
        assert_near(&line["relaxed_semantic_entropy"], expected);
    }
    assert_eq!(lines[1]["clusters"], json!([2, 1]));
    assert_near(&lines[5]["relaxed_semantic_entropy"], expected.iter().sum::<f64>() / 5.0);
    assert_eq!(lines[5]["judge"], "file");
    // Two of the five are at what so many samples can have at most.
    assert_eq!(lines[5]["prompts_at_ceiling"], json!({"relaxed_semantic_entropy": 2}));
    let words = place.trainer("eval --samples samples.jsonl").succeeds();
    words.says(&[
        "`relaxed_semantic_entropy` of 2 of 5 prompts is at its ceiling, the logarithm of the number of samples",
    ]);
    // The same judge beside the samples themselves, which then say how many there are.
    let samples = (0..3).map(|index| json!({"id": 1, "text": format!("{index}")}));
    place.write("samples.jsonl", rows(samples.chain([json!({"id": 1, "same": [[2, 0], [0, 2]]})])));
    let line = eval(&place, "").remove(0);
    assert_eq!((&line["clusters"], &line["distinct"]), (&json!([2, 1]), &json!(3)));
    assert_near(&line["entropy"], 3f64.ln());
}

#[test]
fn without_a_judge_equal_words_mean_the_same_and_with_an_encoder_near_ones() {
    let place = Workplace::new();
    let texts = ["The dog is red.", "the  dog is red", "A dog which is red", "It rains!", "It rains", ""];
    place.write("samples.jsonl", rows(texts.map(|text| json!({"prompt": "q", "text": text}))));
    let line = eval(&place, "").remove(0);
    assert_eq!((&line["clusters"], &line["distinct"]), (&json!([2, 2, 1, 1]), &json!(6)));
    let words = place.trainer("eval --samples samples.jsonl").succeeds();
    assert!(words.stderr.contains("`entropy` of the prompt is at its ceiling, ln 6 = 1.7918"), "{}", words.stderr);
    assert!(!words.stderr.contains("relaxed"), "{}", words.stderr);
    let near = eval(&place, "--encoder builtin:words --threshold 0.4");
    assert_eq!((&near[0]["clusters"], &near[1]["judge"]), (&json!([3, 2, 1]), &json!("encoder")));
    assert_eq!(eval(&place, "--encoder builtin:words --threshold 0.9999").remove(0)["clusters"], json!([2, 2, 1, 1]));
    // Case, blanks and marks count for nothing, signs and points inside of numbers for all they mean.
    let texts = ["Hi.", "HI !", "hi", " hi ?!", "5", "-5", "3.5", "35", "!", "?", "yes, no", "Yes no."];
    place.write("samples.jsonl", rows(texts.map(|text| json!({"prompt": "q", "text": text}))));
    assert_eq!(eval(&place, "").remove(0)["clusters"], json!([4, 2, 1, 1, 1, 1, 1, 1]));
    // What `sample` writes is what is read.
    let drawn = place.trainer_with(&["sample", "builtin:tiny", "--prompt", "The fox", "--n", "4"], &[]).succeeds();
    place.write("samples.jsonl", &drawn.stdout);
    let lines = eval(&place, "");
    assert_eq!((&lines[0]["prompt"], &lines[0]["samples"]), (&json!("The fox"), &json!(4)));
    // One sample, one cluster: 0, and no -0.
    place.write("samples.jsonl", drawn.stdout.lines().next().expect("a line"));
    let one = place.trainer("eval --samples samples.jsonl").succeeds().stdout;
    assert!(one.contains("\"entropy\":0.0") && !one.contains("-0.0"), "{one}");
}

#[test]
fn files_that_are_no_samples_are_refused() {
    let place = Workplace::new();
    let cases: [(&str, &[&str]); 14] = [
        ("", &["samples.jsonl", "no rows"]),
        (r#"{"text": "a"}"#, &["samples.jsonl:1", "`prompt` is missing"]),
        (r#"{"id": 1}"#, &["samples.jsonl:1", "`text` is missing"]),
        (r#"{"id": 1, "correct": 1}"#, &["`correct` must be true or false"]),
        (r#"{"id": 1, "text": 1}"#, &["`text` must be a string"]),
        (
            "{\"id\": 1, \"text\": \"a\", \"correct\": true}\n{\"id\": 1, \"text\": \"b\"}",
            &["1 of 2 samples of 1 have `correct`"],
        ),
        ("{\"id\": 1, \"correct\": true}\n{\"id\": 2, \"text\": \"b\"}", &["no row of 1 has `text`", "rows of 2 do"]),
        (r#"{"id": 1, "same": []}"#, &["`n` is missing"]),
        (r#"{"id": 1, "n": 0, "same": []}"#, &["`n` = 0 samples"]),
        (r#"{"id": 1, "n": 1e18, "same": []}"#, &["`n` must be a count"]),
        (r#"{"id": 1, "n": 1000000000, "same": []}"#, &["`n` = 1000000000 samples"]),
        (r#"{"id": 1, "n": 2, "same": [[0, 2]]}"#, &["the pair [0, 2] of 2 samples"]),
        (r#"{"id": 1, "n": 2, "same": [[0, 1, 1]]}"#, &["`same[0]` must be a pair"]),
        (
            "{\"id\": 1, \"n\": 2, \"same\": []}\n{\"id\": 1, \"n\": 2, \"same\": []}",
            &["samples.jsonl:2", "`same` already"],
        ),
    ];
    for (content, expected) in cases {
        place.write("samples.jsonl", content);
        place.refuses("eval --samples samples.jsonl", expected);
    }
    place.refuses("eval --samples nowhere.jsonl", &["nowhere.jsonl", "cannot open the samples"]);
    place.write("samples.jsonl", "{\"id\": 1, \"n\": 2, \"same\": []}");
    place.refuses("eval --samples samples.jsonl --encoder builtin:words", &["`--encoder` has nothing to judge"]);
    place.refuses("eval --samples samples.jsonl --k 1", &["`--k` has no effect"]);
    place.refuses("eval --samples samples.jsonl --encoder builtin:words --threshold 2", &["`--threshold` must be"]);
    place.refuses("eval --samples samples.jsonl --encoder nowhere", &["`--encoder` has nothing to judge"]);
    place.write("samples.jsonl", "{\"id\": 1, \"text\": \"a\"}");
    place.refuses("eval --samples samples.jsonl --encoder nowhere/at/all", &["nowhere/at/all", "hint: "]);
    place.refuses("eval --samples samples.jsonl --n 3", &["--n"]);
    place.refuses("eval builtin:tiny", &["--data"]);
}

/// Columns of the prompts go along, so that what is known of a prompt can be told of its samples; those whose names are
/// the samples' own stay behind, and that is said.
#[test]
fn samples_carry_the_columns_of_their_prompts() {
    let place = Workplace::new();
    let prompts = [
        json!({"id": "a", "prompt": "The fox", "answer": 4}),
        json!({"id": "b", "messages": [{"role": "user", "content": "hello"}], "response": "x", "ids": [1]}),
    ];
    place.write("prompts.jsonl", rows(prompts));
    let command = "sample builtin:tiny --prompts prompts.jsonl --n 2 --max-tokens 3";
    let drawn = place.trainer(command).succeeds();
    let drawn = drawn.says(&["`ids`, `response` of the prompts are left out: these names are the samples' own"]);
    let lines: Vec<Value> = drawn.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 4);
    for (index, line) in lines.iter().enumerate() {
        let (id, prompt) = if index < 2 { ("a", "The fox") } else { ("b", "hello") };
        assert_eq!((&line["id"], &line["prompt"], &line["sample"]), (&json!(id), &json!(prompt), &json!(index % 2)));
        assert_eq!(line.get("answer"), (index < 2).then(|| json!(4)).as_ref());
        assert!(
            line.get("response").is_none() && line.get("messages").is_none() && line["ids"] != json!([1]),
            "{line}"
        );
    }
    // Joined with what is right, they are counted by their `id`.
    let judged = lines.into_iter().enumerate().map(|(index, mut line)| {
        line["correct"] = json!(index == 0);
        line
    });
    place.write("samples.jsonl", rows(judged));
    let counted = eval(&place, "--k 1");
    assert_eq!((&counted[0]["id"], &counted[0]["pass_at_k"]["1"]), (&json!("a"), &json!(0.5)));
    let stated = "--intent chat --intent-max-tokens 3 --response-max-tokens 3";
    let line = place.trainer(&format!("sample builtin:tiny --prompts prompts.jsonl {stated}")).succeeds().stdout;
    assert!(line.contains("\"id\":\"a\"") && line.contains("\"answer\":4"), "{line}");
    let stages = format!("sample builtin:tiny --prompt fox {stated} --max-stages 4");
    place.refuses(&stages, &["`--max-stages` must not be given with", "hint: leave it out"]);
}

/// The paper's own rows of `diffuse`: a `response` is how every answer begins, several are prompts of their own, of which a
/// sampler is given what training gave. Without `targets` a `response` is an answer, and none of the prompt.
#[test]
fn beginnings_of_answers_are_prompts_of_their_own() {
    let place = Workplace::new();
    let chat = json!([{"role": "user", "content": "Pick one."}, {"role": "assistant", "content": "It is"}]);
    place.write(
        "prompts.jsonl",
        rows([
            json!({"prompt": "The fox", "response": [" is", " was"], "targets": ["red", "blue"], "id": 7}),
            json!({"request": "Pick one.", "response": "It is", "targets": ["{1}", "{2}"], "eos": true}),
            json!({"request": "Pick one.", "response": [""], "targets": ["{1}"]}),
            json!({"prompt": "The fox", "response": " is"}),
        ]),
    );
    let drawn = |prompt: &[&str]| -> Vec<Value> {
        let arguments = [&["sample", "builtin:tiny", "--temperature", "0", "--max-tokens", "4"], prompt].concat();
        let ended = place.trainer_with(&arguments, &[]).succeeds();
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let found = drawn(&["--prompts", "prompts.jsonl"]);
    let asked: Vec<&Value> = found.iter().map(|line| &line["prompt"]).collect();
    let expected = [json!("The fox is"), json!("The fox was"), chat, json!("Pick one."), json!("The fox")];
    assert_eq!(asked, expected.iter().collect::<Vec<_>>());
    assert_eq!((&found[0]["id"], &found[1]["id"], found[0].get("response")), (&json!(7), &json!(7), None));
    let typed = drawn(&["--prompt", "The fox is", "--prompt", "The fox was"]);
    assert_eq!([&typed[0]["ids"], &typed[1]["ids"]], [&found[0]["ids"], &found[1]["ids"]]);
}

#[test]
fn more_samples_than_memory_holds_are_refused() {
    let place = Workplace::new();
    for n in ["1000001", "18446744073709551615"] {
        place.refuses(&format!("sample builtin:tiny --prompt fox --n {n}"), &["`--n`", "hint: "]);
        place.refuses(&format!("eval builtin:tiny --data builtin:numbers --n {n}"), &["`--n`", "hint: "]);
    }
    place.refuses("eval builtin:tiny --data builtin:numbers --max-tokens 0", &["`--max-tokens`", "hint: "]);
}

/// The texts of `--format text` are those of the JSON Lines: one as it grows, several with a line between them.
#[test]
fn texts_alone_are_those_of_the_samples() {
    let place = Workplace::new();
    let arguments = "sample builtin:tiny --escapes --prompt=Tell\\tme\\n --max-tokens 12 --temperature 0.7";
    for (n, stop) in [(1, ""), (3, ""), (1, " --stop e")] {
        let lines = place.trainer(&format!("{arguments} --n {n}{stop}")).succeeds().stdout;
        let texts: Vec<String> = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["text"].as_str().expect("a text").to_owned())
            .collect();
        let written = place.trainer(&format!("{arguments} --n {n}{stop} --format text")).succeeds().stdout;
        assert_eq!(written, format!("{}\n", texts.join("\n---\n")), "{n}{stop}");
    }
}
