//! Samples against references, samples drawn by `eval` itself, and NoveltyBench's files.

use serde_json::{Value, json};

use crate::support::Workplace;

fn rows(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().map(|row| format!("{row}\n")).collect()
}

fn number(line: &Value, pointer: &str) -> f64 {
    line.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} of {line}"))
}

/// Texts of a prompt, all different.
fn texts(prompt: &str, subject: &str, count: usize) -> impl Iterator<Item = Value> {
    const WORDS: [&str; 7] = ["red", "blue", "old", "young", "quick", "small", "quiet"];
    let (prompt, subject) = (prompt.to_owned(), subject.to_owned());
    (0..count).map(move |index| {
        let (a, b) = (WORDS[index % 7], WORDS[(index / 7 + index) % 7]);
        json!({"prompt": prompt, "text": format!("the {a} {subject} and {b} friend number {index}")})
    })
}

fn place() -> Workplace {
    let place = Workplace::new();
    let two = |a: usize, b: usize| rows(texts("fox?", "fox", a).chain(texts("owl?", "owl", b)));
    place.write("references.jsonl", two(24, 24));
    place.write("samples.jsonl", two(12, 12));
    place
}

const COMPARE: &str = "eval --samples samples.jsonl --references references.jsonl --encoder builtin:words";

/// The keys are a contract.
#[test]
fn the_line_of_references_says_what_decides_its_numbers() {
    let place = place();
    let lines = place.trainer(COMPARE).succeeds().lines();
    assert_eq!(lines.len(), 4);
    let line = &lines[3];
    let keys: Vec<&String> = line.as_object().expect("an object").keys().collect();
    let expected = [
        "file",
        "references",
        "texts",
        "precision",
        "recall",
        "density",
        "coverage",
        "f8",
        "f1",
        "f1_8",
        "mauve",
        "mauve_star",
        "frontier_integral",
        "expected_coverage",
        "ceiling",
        "floor",
        "repeated",
        "empty",
        "unused",
        "cut",
        "words",
        "neighbours",
        "ties",
        "pca",
        "components",
        "clusters",
        "seed",
        "encoder",
    ];
    assert_eq!(keys, expected);
    assert_eq!((&line["texts"], &line["neighbours"], &line["clusters"]), (&json!(24), &json!(4), &json!(2)));
    assert_eq!(line["unused"], json!({"samples": 0, "references": 24}));
    assert_eq!((&line["ceiling"]["texts"], &line["floor"]["texts"]), (&json!(24), &json!(24)));
    // Other prompts' texts are about something else; what is said of the same is nearer.
    assert!(number(line, "/ceiling/density") > 2.0 * number(line, "/floor/density"), "{line}");
    assert_eq!(line["encoder"]["kind"], json!("sentence"));
    assert_eq!(line["encoder"]["digest"].as_str().map(str::len), Some(64));
    assert_eq!(lines[2]["encoder"], line["encoder"]);
    // The same again, to the bit; other seeds take other references.
    assert_eq!(place.trainer(COMPARE).succeeds().lines()[3], *line);
    let other = place.trainer(&format!("{COMPARE} --seed 3")).succeeds().lines().remove(3);
    assert_eq!((&other["seed"], other["ceiling"] == line["ceiling"]), (&json!(3), false));
    let own = place.trainer(&format!("{COMPARE} --pca references")).succeeds().lines().remove(3);
    assert_eq!(own["pca"], json!("references"));
}

/// With its copies a perfect model has precision 1, and 0 where the edge of a ball is not in it.
#[test]
fn repeated_texts_count_unless_ties_are_strict() {
    let place = Workplace::new();
    let text = |index: usize| if index.is_multiple_of(2) { "a fox" } else { "an owl" };
    let repeated = rows((0..12).map(|index| json!({"id": 1, "text": text(index)})));
    place.write("samples.jsonl", &repeated);
    place.write("references.jsonl", &repeated);
    let line = place.trainer(COMPARE).succeeds().says(&["the floor is not known"]).lines().remove(2);
    for key in ["precision", "recall", "coverage", "f8", "f1_8", "mauve"] {
        assert!((number(&line, &format!("/{key}")) - 1.0).abs() < 1e-9, "{key} of {line}");
    }
    assert_eq!((&line["floor"], &line["repeated"]["samples"]), (&Value::Null, &json!(10.0 / 12.0)));
    let strict = place.trainer(&format!("{COMPARE} --strict")).succeeds().lines().remove(2);
    assert_eq!(
        (&strict["precision"], &strict["coverage"], &strict["ties"]),
        (&json!(0.0), &json!(0.0), &json!("strict"))
    );
    // All equal.
    place.write("samples.jsonl", repeated.replace("an owl", "a fox"));
    let line = place.trainer(COMPARE).succeeds().lines().remove(2);
    assert_eq!((&line["precision"], &line["recall"]), (&json!(1.0), &json!(0.5)));
    place.write("references.jsonl", repeated.replace("an owl", "a fox"));
    let line = place.trainer(COMPARE).succeeds().lines().remove(2);
    assert_eq!((&line["recall"], &line["mauve"]), (&json!(1.0), &json!(1.0)));
}

#[test]
fn texts_that_say_nothing_are_left_out_and_other_prompts_are_told_of() {
    let place = place();
    let samples = place.text("samples.jsonl");
    // Line ends of Windows, empty texts, a text of a megabyte, and a prompt that no reference is of.
    let more = rows([
        json!({"prompt": "fox?", "text": ""}),
        json!({"prompt": "fox?", "text": "  \n"}),
        json!({"prompt": "crab?", "text": "word ".repeat(200_000)}),
    ]);
    place.write("samples.jsonl", format!("{samples}{more}").replace('\n', "\r\n").replace("\\r\\n", "\\n"));
    let ended = place.trainer(COMPARE).succeeds().says(&[
        "2 samples without a word, left out: samples.jsonl:25, samples.jsonl:26",
        "1 of 3 have no reference, and 0 of 2 have no sample",
        "the ceiling is of 24 texts a side",
    ]);
    let line = ended.lines().remove(4);
    assert_eq!((&line["texts"], &line["empty"]), (&json!(25), &json!({"samples": 2, "references": 0})));
    assert_eq!(line["unused"]["references"], json!(23));
    assert_eq!(line["words"]["samples"]["1"], json!(200_000));
    // References without prompts, in lists, of another program.
    let lists = [
        json!({"targets": ["a fox ran", "an owl sat", "the crab"]}),
        json!({"completion": "a dog", "note": 1}),
        json!({"generations": ["one", "two"]}),
    ];
    place.write("references.jsonl", rows(lists));
    let ended =
        place.trainer(COMPARE).succeeds().says(&["`note`", "the ceiling is not known", "the floor is not known"]);
    let line = ended.lines().remove(4);
    assert_eq!((&line["texts"], &line["ceiling"], &line["unused"]["samples"]), (&json!(6), &Value::Null, &json!(19)));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let place = place();
    let references = place.read("references.jsonl");
    for (content, expected) in [
        (&b""[..], &["references.jsonl", "no rows"][..]),
        (br#"{"prompt": "a"}"#, &["references.jsonl:1", "`text` is missing"]),
        (br#"{"text": 1}"#, &["`text` must be a string"]),
        (br#"{"targets": ["a", 2]}"#, &["`targets[1]` must be a string"]),
        (br#"{"targets": ["a"], "weights": [1]}"#, &["references have no `weights`"]),
        (b"{\"text\": \"\xff\"}", &["references.jsonl:1", "not UTF-8"]),
        (br#"{"text": NaN}"#, &["references.jsonl:1", "`text`"]),
        (
            b"{\"text\": \"a\"}\n{\"text\": \"b\"}",
            &["4 neighbours need 5 texts a side at least, and there are 2 references"],
        ),
    ] {
        place.write("references.jsonl", content);
        place.refuses(COMPARE, &[expected, &["hint: "]].concat());
    }
    place.write("references.jsonl", references);
    let samples = place.read("samples.jsonl");
    for count in [1, 2] {
        place.write("samples.jsonl", rows(texts("fox?", "fox", count)));
        let found = format!("and there {}", if count == 1 { "are 1 sample" } else { "are 2 samples" });
        let ended = place.trainer(COMPARE).exits(1);
        assert!(ended.stderr.contains(&found) && ended.stderr.contains("samples.jsonl"), "{}", ended.stderr);
        // Fewer neighbours need fewer texts.
        let line = place.trainer(&format!("{COMPARE} --neighbours 1"));
        assert_eq!(line.code, Some(if count == 1 { 1 } else { 0 }), "{}", line.stderr);
    }
    place.write("samples.jsonl", samples);
    let eval = "eval --samples samples.jsonl";
    place.refuses(&format!("{eval} --references references.jsonl"), &["`--references` needs an `--encoder`", "hint: "]);
    place.refuses(&format!("{COMPARE} --neighbours 0"), &["`--neighbours` must be at least 1"]);
    place.refuses(&format!("{eval} --strict"), &["--references"]);
    place.refuses(&format!("{eval} --seed 3"), &["`--seed` has no effect"]);
    place.refuses(&format!("{eval} --references nowhere.jsonl --encoder builtin:words"), &["nowhere.jsonl"]);
    place.refuses(&format!("{eval} --references references.jsonl --encoder nowhere/at/all"), &["nowhere/at/all"]);
    let rows = "eval builtin:tiny --data builtin:numbers --references references.jsonl --encoder builtin:words";
    place.refuses(rows, &["`--references` has no effect on rows of `--data`"]);
}

/// A causal model's last state at a text's last token: any model, named as models are, with its digest.
#[test]
fn any_causal_model_is_an_encoder() {
    let place = place();
    let compare = COMPARE.replace("builtin:words", "builtin:tiny");
    let lines = place.trainer(&compare).succeeds().lines();
    assert_eq!(lines[3]["encoder"]["kind"], json!("last_token"));
    // Equal words mean the same, unless a cosine is given.
    assert_eq!((&lines[2]["judge"], lines[0].get("vendi").is_some()), (&json!("exact"), true));
    let near = place.trainer(&format!("{compare} --threshold 0.0001")).succeeds().lines();
    assert_eq!((&near[2]["judge"], &lines[0]["distinct_k"]), (&json!("encoder"), &json!(12)));
    assert!(number(&near[0], "/distinct_k") < 12.0, "{}", near[0]);
    place.model("model");
    let same = place.trainer(&compare.replace("builtin:tiny", "model")).succeeds().lines().remove(3);
    assert_eq!(same["encoder"]["digest"], lines[3]["encoder"]["digest"]);
    assert_eq!((&same["precision"], &same["mauve"]), (&lines[3]["precision"], &lines[3]["mauve"]));
    place.trainer("run recipe.toml").succeeds();
    let run = place.trainer(&compare.replace("builtin:tiny", "run")).succeeds().lines().remove(3);
    assert_ne!(run["encoder"]["digest"], same["encoder"]["digest"]);
}

/// The samples are those of `trainer sample`, and counted alike.
/// `--chat` asks as `trainer sample --chat` does, and turns of the user are told as it tells them.
#[test]
fn what_is_drawn_through_the_chat_template_is_counted_as_a_file_of_it_is() {
    let place = place();
    place.write("plain.jsonl", rows([json!({"prompt": "Tell me about a fox."})]));
    let turn = json!([{"role": "user", "content": "Tell me about a fox."}]);
    place.write("turns.jsonl", rows([json!({"messages": turn})]));
    let draws = "--n 3 --max-tokens 8 --seed 5";
    let of = |prompts: &str| {
        let sampled = place.trainer(&format!("sample builtin:tiny --prompts {prompts} {draws}")).succeeds().stdout;
        place.write("samples.jsonl", sampled);
        let of_file = place.trainer("eval --samples samples.jsonl").succeeds().lines().remove(0);
        let drawn =
            place.trainer(&format!("eval builtin:tiny --prompts {prompts} {draws}")).succeeds().lines().remove(0);
        for (key, value) in of_file.as_object().expect("an object").iter().filter(|(key, _)| *key != "file") {
            assert_eq!(drawn[key], *value, "{key} of {prompts}");
        }
        (drawn["prompt"].clone(), drawn["ead"].clone())
    };
    assert_eq!(of("plain.jsonl --chat"), of("turns.jsonl"));
    assert_ne!(of("plain.jsonl --chat").1, of("plain.jsonl").1, "the chat template has no effect");
    place.refuses("eval builtin:tiny --data turns.jsonl --chat", &["--chat", "--prompts"]);
    place.refuses("eval --samples samples.jsonl --template-arguments {}", &["a chat template has no effect"]);
}

/// Files of prompts are one set: a line for each prompt with its file, one mean over all of them, and a page can be made of it.
#[test]
fn prompts_of_several_files_are_measured_together() {
    let place = place();
    place.write("a.jsonl", rows([json!({"prompt": "The fox"}), json!({"prompt": "The owl"})]));
    place.write("b.jsonl", rows([json!({"prompt": "Tell me about a fox.\n"})]));
    let draws = "--n 4 --max-tokens 6 --seed 5 --temperatures 0.5,1 --vocabulary 50";
    let lines = |files: &str| place.trainer(&format!("eval builtin:tiny {files} {draws}")).succeeds();
    let both = lines("--prompts a.jsonl --prompts b.jsonl");
    place.write("both.jsonl", &both.stdout);
    let (both, a, b) = (both.lines(), lines("--prompts a.jsonl").lines(), lines("--prompts b.jsonl").lines());
    assert_eq!((both.len(), a.len(), b.len()), (2 * 4, 2 * 3, 2 * 2));
    // Of each prompt what the file by itself gives.
    assert_eq!((&both[..2], &both[2], &both[4..6], &both[6]), (&a[..2], &b[0], &a[3..5], &b[2]));
    for (all, a, b) in [(&both[3], &a[2], &b[1]), (&both[7], &a[5], &b[3])] {
        assert_eq!((&all["file"], &all["prompt"], &all["prompts"]), (&Value::Null, &Value::Null, &json!(3)));
        let mean = |line: &Value| line["distinct"].as_f64().expect("a number");
        assert!((mean(all) - (2.0 * mean(a) + mean(b)) / 3.0).abs() < 1e-12, "{all}");
    }
    place.trainer("report both.jsonl").succeeds();
}

#[test]
fn what_is_drawn_here_is_counted_as_a_file_of_it_is() {
    let place = place();
    place.write(
        "prompts.jsonl",
        rows([json!({"id": 7, "prompt": "The fox"}), json!({"prompt": "Tell me about a fox.\n", "id": 8})]),
    );
    let draws = "--n 6 --max-tokens 8 --seed 5";
    let sampled = place.trainer(&format!("sample builtin:tiny --prompts prompts.jsonl --temperature 0.7 {draws}"));
    place.write("samples.jsonl", sampled.succeeds().stdout);
    let measures = "--encoder builtin:words --references references.jsonl";
    let of_file = place.trainer(&format!("eval --samples samples.jsonl {measures} --seed 5")).succeeds().lines();
    let command = format!("eval builtin:tiny --prompts prompts.jsonl --temperatures 0.7,1.5 {draws} {measures}");
    let drawn = place.trainer(&command).succeeds().lines();
    assert_eq!((of_file.len(), drawn.len()), (4, 8));
    for (drawn, of_file) in drawn.iter().zip(&of_file) {
        let of_file = of_file.as_object().expect("an object");
        for (key, value) in of_file.iter().filter(|(key, _)| *key != "file") {
            assert_eq!(drawn[key], *value, "{key}");
        }
    }
    let head = |line: &Value| ["model", "file", "line", "prompt", "temperature"].map(|key| line[key].clone());
    assert_eq!(
        head(&drawn[0]),
        [json!("builtin:tiny"), json!("prompts.jsonl"), json!(1), json!("The fox"), json!(0.7)]
    );
    assert_eq!(head(&drawn[6]), [json!("builtin:tiny"), json!("prompts.jsonl"), Value::Null, Value::Null, json!(1.5)]);
    place.refuses("eval builtin:tiny --prompts prompts.jsonl --n 0", &["`--n` must be at least 1"]);
    place.refuses("eval builtin:tiny --prompts prompts.jsonl --budget 3", &["`--budget` has no effect on `--prompts`"]);
    place.refuses(
        "eval builtin:tiny --prompts prompts.jsonl --max-tokens 100000",
        &["prompts.jsonl:1", "`--max-tokens`"],
    );
}

/// Beside the exact numbers, all that is counted of samples; where a key is taken, under another.
#[test]
fn rows_with_targets_have_the_numbers_of_samples_too() {
    let place = Workplace::new();
    let targets = [
        json!({"prompt": "Tell me about a fox.\n", "targets": ["The", "A"]}),
        json!({"prompt": "The", "targets": [" fox", " owl", " crab"]}),
    ];
    place.write("targets.jsonl", rows(targets));
    let command = "eval builtin:tiny --data targets.jsonl --no-end-token --n 40 --max-tokens 1 --k 1,2";
    let lines = place.trainer(command).succeeds().lines();
    let keys: Vec<&String> = lines[0].as_object().expect("an object").keys().collect();
    let from = keys.iter().position(|key| *key == "samples").expect("samples");
    let contract = ["samples", "valid", "distinct", "covered", "sampled_entropy", "other_tokenisations"];
    assert_eq!(keys[from..from + 6], contract);
    for key in
        ["distinct_n", "ead", "self_bleu_nltk", "rarefied", "chao1", "miller_madow", "pass_at_k", "yield", "clusters"]
    {
        assert!(lines[0].get(key).is_some() && (key == "clusters" || lines[2].get(key).is_some()), "{key}");
    }
    // The exact ones stand, and their names are not those of draws.
    let exact = place.trainer("eval builtin:tiny --data targets.jsonl --no-end-token").succeeds().lines();
    for (with, without) in lines.iter().zip(&exact) {
        for (key, value) in without.as_object().expect("an object") {
            assert_eq!(with[key], *value, "{key}");
        }
    }
    let sum = |key: &str| lines[0][key].as_u64().expect("a count") + lines[1][key].as_u64().expect("a count");
    for key in ["samples", "valid", "distinct", "covered"] {
        assert_eq!(lines[2][key], json!(sum(key)), "{key}");
    }
    let mean = |pointer: &str| (number(&lines[0], pointer) + number(&lines[1], pointer)) / 2.0;
    for pointer in ["/sampled_entropy", "/pass_at_k/2", "/validity", "/other_tokenisations"] {
        assert!((number(&lines[2], pointer) - mean(pointer)).abs() < 1e-12, "{pointer}");
    }
    let errors = lines[2]["standard_errors"].as_object().expect("of two prompts");
    assert!(errors.contains_key("sampled_entropy") && !errors.contains_key("entropy") && !errors.contains_key("valid"));
}

/// Its own rows are read; what it says of classes and scores is counted, and written as it is.
#[test]
fn files_of_novelty_bench_are_read_and_written() {
    let place = Workplace::new();
    let scored = json!({
        "id": "curated-1", "prompt": "Name a tree.", "model": "m", "generations": ["oak", "elm", "Oak!", "fir", "an elm",
        "ash", "oak", "oak tree", "yew", "a fir"], "partition": [0, 1, 0, 2, 1, 3, 0, 0, 4, 2], "distinct": 4,
        "generation_scores": [7, 5, 0, 8, 0, 10, 0, 0, 4, 0], "partition_scores": [7, 5, 8, 10, 4], "utility": 4.26,
    });
    place.write("scores.jsonl", rows([scored.clone()]));
    let ended = place.trainer("eval --samples scores.jsonl --novelty-bench nb").succeeds();
    assert!(!ended.stderr.contains("nothing reads"), "{}", ended.stderr);
    let lines = ended.lines();
    assert_eq!(
        (&lines[0]["id"], &lines[0]["distinct_k"], &lines[1]["judge"]),
        (&json!("curated-1"), &json!(5), &json!("file"))
    );
    assert!((number(&lines[0], "/utility_k") - 4.266_936_552).abs() < 1e-6);
    assert_eq!(lines[0]["clusters"], json!([4, 2, 2, 1, 1]));
    let read = |name: &str| place.json(&format!("nb/{name}.jsonl"));
    assert_eq!(
        read("generations"),
        json!({"id": "curated-1", "prompt": "Name a tree.", "model": "m", "generations": scored["generations"]})
    );
    assert_eq!((&read("partitions")["partition"], &read("partitions")["distinct"]), (&scored["partition"], &json!(4)));
    let written = read("scores");
    for key in ["generation_scores", "partition_scores"] {
        let numbers = |value: &Value| value.as_array().expect("a list").iter().map(|v| v.as_f64()).collect::<Vec<_>>();
        assert_eq!(numbers(&written[key]), numbers(&scored[key]), "{key}");
    }
    assert!((number(&written, "/utility") - 4.266_936_552).abs() < 1e-6);
    // What is written is read to the same, and nothing is written over.
    let again = place.trainer("eval --samples nb/scores.jsonl").succeeds().lines();
    assert_eq!((&again[0]["utility_k"], &again[0]["distinct_k"]), (&lines[0]["utility_k"], &json!(5)));
    place.refuses("eval --samples scores.jsonl --novelty-bench nb", &["generations.jsonl", "there already", "hint: "]);
    // Of equal words there are no classes to write: its program would pass over the prompts.
    let plain =
        [json!({"prompt": "q", "text": "a"}), json!({"prompt": "q", "text": "b"}), json!({"prompt": "r", "text": "c"})];
    place.write("samples.jsonl", rows(plain));
    place.trainer("eval --samples samples.jsonl --novelty-bench plain").succeeds();
    let written: Vec<Value> =
        place.text("plain/generations.jsonl").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(written[0], json!({"id": "prompt-1", "prompt": "q", "model": null, "generations": ["a", "b"]}));
    assert!(written.len() == 2 && !place.path("plain/partitions.jsonl").exists());
    place.refuses(
        "eval --samples samples.jsonl --samples scores.jsonl --novelty-bench other",
        &["takes one set of samples"],
    );
    for (key, value, expected) in [
        ("generations", json!([]), "`generations` is empty"),
        ("generations", json!(["a", 1]), "`generations[1]` must be a string"),
        ("partition", json!([0]), "`partition` has 1 entries for 10"),
        ("partition", json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 10]), "`partition[9]` must be a class"),
        ("generation_scores", json!(["7", 5, 0, 8, 0, 10, 0, 0, 4, 0]), "`generation_scores[0]` must be a number"),
        ("text", json!("a"), "both `generations` and `text`"),
    ] {
        let mut row = scored.clone();
        row[key] = value;
        place.write("scores.jsonl", rows([row]));
        place.refuses("eval --samples scores.jsonl", &["scores.jsonl:1", expected, "hint: "]);
    }
    place.write("scores.jsonl", rows([scored.clone(), scored]));
    place.refuses("eval --samples scores.jsonl", &["scores.jsonl:2", "has samples already"]);
}

/// What is wrong with the second model, or with a flag of the second file, is said before the first is measured.
#[test]
fn faults_come_before_the_work() {
    let place = Workplace::new();
    place.write("targets.jsonl", rows([json!({"prompt": "Pick a number.\n", "targets": ["{1}", "{2}"]})]));
    place.refuses("eval builtin:tiny nowhere/at/all --data targets.jsonl", &["nowhere/at/all", "hint: "]);
    place.refuses(
        "eval builtin:tiny --data targets.jsonl --data rows.jsonl --n 3",
        &["`--n` is for rows with `targets`", "`--prompts FILE`"],
    );
    place.refuses("eval builtin:tiny --data targets.jsonl --data rows.jsonl --top-k 3", &["--top-k"]);
}

/// Files of unequal numbers of samples, several at once: each has its own lines, and rarefied counts compare.
#[test]
fn several_files_have_lines_of_their_own() {
    let place = place();
    place.write("few.jsonl", rows(texts("fox?", "fox", 1).chain(texts("owl?", "owl", 5))));
    let lines = place.trainer("eval --samples samples.jsonl --samples few.jsonl").succeeds().lines();
    let files: Vec<&Value> = lines.iter().map(|line| &line["file"]).collect();
    assert_eq!(files, ["samples.jsonl"; 3].iter().chain(&["few.jsonl"; 3]).collect::<Vec<_>>());
    assert_eq!((&lines[3]["samples"], lines[3].get("self_bleu_nltk")), (&json!(1), None));
    // Over prompts, what all have: one sample has no second.
    let counts = lines[5]["rarefied"].as_object().expect("numbers").keys().cloned().collect::<Vec<String>>();
    assert_eq!((counts, &lines[5]["samples"]), (vec!["1".to_owned()], &json!(6)));
}
