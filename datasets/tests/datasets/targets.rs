//! Rows with targets: weights, the end of each target, and the check that none begins another.

use datasets::{Options, PrefixFree, Tokenizer, TooLong, Way, read_text};

use super::{byte_level, dataset, faults, fixture};

const ROW: &str = r#"{"prompt": "Pick: ", "targets": ["{1}", "{2}", "{10}"], "weights": [1, 2, 1]}"#;

fn learned_text(tokenizer: &Tokenizer, example: &datasets::Example) -> String {
    let learned = example.ids.iter().zip(&example.learned).filter(|(_, learned)| **learned).map(|(id, _)| *id);
    tokenizer.decode(&learned.collect::<Vec<_>>(), false).expect("text")
}

#[test]
fn each_target_is_an_example_with_its_probability_in_one_group() {
    let text = format!("{ROW}\n{}\n", r#"{"prompt": "Or: ", "targets": ["a", "b"]}"#);
    let data = dataset(&text, &Options::default());
    let weights: Vec<f64> = data.examples.iter().map(|example| example.weight).collect();
    assert_eq!(weights, [0.25, 0.5, 0.25, 0.5, 0.5]);
    assert_eq!(data.examples.iter().map(|example| example.group).collect::<Vec<_>>(), [0, 0, 0, 1, 1]);
    let tokenizer = byte_level();
    let end = tokenizer.decode(&[tokenizer.end_token().expect("it has one")], false).expect("text");
    let learned: Vec<String> = data.examples.iter().map(|example| learned_text(&tokenizer, example)).collect();
    assert_eq!(learned[..3], [format!("{{1}}{end}"), format!("{{2}}{end}"), format!("{{10}}{end}")]);
    let open = Options { end_token: false, ..Options::default() };
    let learned: Vec<String> =
        dataset(ROW, &open).examples.iter().map(|example| learned_text(&tokenizer, example)).collect();
    assert_eq!(learned, ["{1}", "{2}", "{10}"]);
}

/// One object over several lines, as the files of the paper's authors are; its request passes the chat template.
#[test]
fn a_file_with_one_object_is_read_and_its_request_rendered() {
    let tokenizer = std::fs::read_to_string(fixture("byte_level/tokenizer.json")).expect("the fixture is there");
    let config = r#"{"eos_token": "<|im_end|>"}"#;
    let chatml = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|im_end|>{% endfor %}\
                  {% if add_generation_prompt %}<|assistant|>{% endif %}";
    let tokenizer = Tokenizer::from_texts(&[
        ("m/tokenizer.json", &tokenizer),
        ("m/tokenizer_config.json", config),
        ("m/chat_template.jinja", chatml),
    ])
    .unwrap_or_else(|faults| panic!("{faults}"));
    let text = "{\n  \"request\": \"Pick.\",\n  \"response\": [\n    \"\"\n  ],\n  \"targets\": [\n    \"{1}\",\n    \"{2}\"\n  ]\n}\n";
    let data = read_text("rng.json", text, &Options::default(), &tokenizer).unwrap_or_else(|faults| panic!("{faults}"));
    let whole: Vec<String> =
        data.examples.iter().map(|example| tokenizer.decode(&example.ids, false).expect("text")).collect();
    assert_eq!(
        whole,
        ["<|user|>Pick.<|im_end|><|assistant|>{1}<|im_end|>", "<|user|>Pick.<|im_end|><|assistant|>{2}<|im_end|>"]
    );
    assert_eq!(learned_text(&tokenizer, &data.examples[0]), "{1}<|im_end|>");
    assert_eq!((data.examples[0].line, data.report.rows), (1, 1));

    let begun = text.replace("\"\"\n", "\"I pick \"\n");
    let data =
        read_text("rng.json", &begun, &Options::default(), &tokenizer).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(learned_text(&tokenizer, &data.examples[1]), "{2}<|im_end|>");
    let open = Options { end_token: false, ..Options::default() };
    let data = read_text("rng.json", &begun, &open, &tokenizer).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(
        tokenizer.decode(&data.examples[0].ids, false).expect("text"),
        "<|user|>Pick.<|im_end|><|assistant|>I pick {1}"
    );
}

#[test]
fn broken_objects_over_several_lines_are_named_by_their_line() {
    for (text, part) in [
        ("{\n \"prompt\": \"a\",\n \"targets\": [\"b\"\n}", "rows.jsonl:4: broken JSON at column 1"),
        ("{\n\"prompt\": \"a\"\n}\n{\n}", "rows.jsonl:4: broken JSON"),
        ("{\n", "broken JSON"),
    ] {
        let found = faults(text, &Options::default()).join(" ");
        assert!(found.contains(part), "{text:?}: {found}");
    }
}

#[test]
fn targets_that_begin_others_are_named_unless_allowed() {
    let row = |targets: &str| format!(r#"{{"prompt": "p ", "targets": [{targets}]}}"#);
    let open = Options { end_token: false, ..Options::default() };
    let found = faults(&row(r#""{1", "{10", "{2", "{10""#), &open).join(" ");
    for part in ["rows.jsonl:1: the targets are not prefix-free", "`{10` stands there twice", "`{1` begins `{10`"] {
        assert!(found.contains(part), "{part} is missing in {found}");
    }
    assert!(!found.contains("{2"), "{found}");
    // With the end token none of them begins another, but two are still alike.
    let found = faults(&row(r#""{1", "{10", "{10""#), &Options::default()).join(" ");
    assert!(found.contains("twice") && !found.contains("begins"), "{found}");
    // No mark makes two of these differ.
    assert!(found.contains("hint: write each once") && !found.contains("close each"), "{found}");
    for prefix_free in [PrefixFree::Warn, PrefixFree::Off] {
        assert_eq!(dataset(&row(r#""{1", "{10", "{10""#), &Options { prefix_free, ..open.clone() }).examples.len(), 3);
    }
    let many: Vec<String> = (0..8).map(|length| format!("\"a{}\"", "b".repeat(length))).collect();
    let found = faults(&row(&many.join(", ")), &open).join(" ");
    assert_eq!((found.matches(" begins ").count(), found.contains("and 8 more")), (20, true), "{found}");
}

/// 1 to 100 with neither brace nor end token has 9 + 9 * 10 + 1 + 1 = 92 pairs in which one number begins another, as
/// single digits: 1..9 begin the two-digit ones of theirs (90), and 1 and 10 begin 100.
#[test]
fn the_numbers_from_1_to_100_have_92_violations_without_brace_and_end() {
    let targets: Vec<String> = (1..=100).map(|number| format!("\"{number}\"")).collect();
    let open = Options { end_token: false, ..Options::default() };
    let found = faults(&format!(r#"{{"prompt": "p ", "targets": [{}]}}"#, targets.join(", ")), &open).join(" ");
    assert!(found.contains("and 72 more"), "{found}");
    let braced: Vec<String> = (1..=100).map(|number| format!("\"{{{number}}}\"")).collect();
    dataset(&format!(r#"{{"prompt": "p ", "targets": [{}]}}"#, braced.join(", ")), &open);
}

#[test]
fn bad_targets_and_weights_are_refused() {
    for (fields, part) in [
        (r#""prompt": "p", "targets": []"#, "`targets` is empty"),
        (r#""prompt": "p", "targets": ["a", 3]"#, "`targets[1]` must be a string"),
        (r#""prompt": "p", "targets": ["a", ""]"#, "`targets[1]` is empty"),
        (r#""prompt": "p", "targets": "a""#, "`targets` must be a list"),
        (r#""prompt": "p", "targets": ["a", "b"], "weights": [1]"#, "1 weights for 2 targets"),
        (r#""prompt": "p", "targets": ["a", "b"], "weights": [1, 0]"#, "`weights[1]` = 0 must be above 0"),
        (r#""prompt": "p", "targets": ["a", "b"], "weights": [1, "x"]"#, "`weights[1]` must be a number"),
        (r#""targets": ["a"]"#, "`prompt` is missing"),
        (r#""prompt": "p", "request": "r", "targets": ["a"]"#, "both `prompt` and `request`"),
        (r#""messages": [], "targets": ["a"]"#, "`messages` is empty"),
        (r#""prompt": "p", "response": ["a", "b", "a"], "targets": ["a"]"#, "`response[2]` stands there twice"),
        (r#""prompt": "p", "response": ["a", 1], "targets": ["a"]"#, "`response[1]` must be a string"),
        (r#""prompt": "p", "targets": ["a", "b"], "weights": [1, null]"#, "`weights[1]` must be a number"),
        (r#""prompt": "p", "targets": ["a", "b"], "weights": [1, NaN]"#, "`weights[1]` is `NaN`"),
        (r#""prompt": "p", "targets": ["a", "b"], "weights": [1, 1e999]"#, "`weights[1]` is `1e999`"),
        (r#""prompt": "p", "targets": ["a", "b"], "weights": [1, -1]"#, "`weights[1]` = -1 must be above 0"),
        (r#""prompt": "p", "targets": ["a", "b"], "weights": [1e-300, 1e300]"#, "`weights[0]` = "),
        (r#""prompt": "p", "targets": ["a"], "eos": "no""#, "`eos` must be true or false"),
    ] {
        let found = faults(&format!("{{{fields}}}"), &Options::default()).join(" ");
        assert!(found.contains(part), "{fields}: {found}");
    }
    let huge = r#"{"prompt": "p", "targets": ["a", "b"], "weights": [1e308, 1e308]}"#;
    assert_eq!(dataset(huge, &Options::default()).examples[0].weight, 0.5);
}

/// The beginnings of a row are prompts of their own, each with the whole distribution: one answer may begin another of
/// another prompt.
#[test]
fn a_row_with_several_beginnings_is_a_prompt_for_each() {
    let row = r#"{"prompt": "p ", "response": ["", "It is "], "targets": ["{1}", "{2}"], "weights": [3, 1]}"#;
    let data = dataset(&format!("{row}\n{ROW}"), &Options::default());
    let seen: Vec<(usize, f64, usize)> = data.examples.iter().map(|e| (e.group, e.weight, e.line)).collect();
    let expected = [(0, 0.75, 1), (0, 0.25, 1), (1, 0.75, 1), (1, 0.25, 1), (2, 0.25, 2), (2, 0.5, 2), (2, 0.25, 2)];
    assert_eq!(seen, expected);
    let tokenizer = byte_level();
    let texts: Vec<String> = data.examples[..4].iter().map(|e| tokenizer.decode(&e.ids, true).expect("text")).collect();
    assert_eq!(texts, ["p {1}", "p {2}", "p It is {1}", "p It is {2}"]);
    assert_eq!(learned_text(&tokenizer, &data.examples[2]), learned_text(&tokenizer, &data.examples[0]));
    assert_eq!(data.report.rows, 2);
}

/// The paper's files of biographies say `"eos": false`; a row's own word counts before `data.end_token`.
#[test]
fn a_row_says_itself_whether_its_targets_end() {
    let tokenizer = byte_level();
    let learned = |eos: &str, end_token: bool| {
        let text = format!(r#"{{"prompt": "p ", "targets": ["{{1}}", "{{2}}"]{eos}}}"#);
        let data = dataset(&text, &Options { end_token, ..Options::default() });
        learned_text(&tokenizer, &data.examples[0])
    };
    let ended = learned("", true);
    assert!(ended.starts_with("{1}") && ended.len() > 3, "{ended}");
    assert_eq!(learned("", false), "{1}");
    for end_token in [true, false] {
        assert_eq!(learned(r#", "eos": true"#, end_token), ended);
        assert_eq!(learned(r#", "eos": false"#, end_token), "{1}");
    }
    // Without the end one target begins the other.
    let found = faults(r#"{"prompt": "p ", "targets": ["{1", "{10"], "eos": false}"#, &Options::default()).join(" ");
    assert!(found.contains("`{1` begins `{10`"), "{found}");
}

#[test]
fn a_prompt_is_dropped_whole() {
    let options = Options { max_length: 12, too_long: TooLong::Drop, ..Options::default() };
    let text = format!(
        "{}\n{}",
        r#"{"prompt": "p", "targets": ["a", "bbbbbbbbbbbbbbbbbbbbbbbbxyz"]}"#,
        r#"{"prompt": "p", "targets": ["a", "b"]}"#
    );
    let data = dataset(&text, &options);
    assert_eq!((data.examples.len(), data.report.dropped.len()), (2, 1));
}

/// Each beginning of the answers of a row with targets is a prompt of its own, to a sampler too.
#[test]
fn a_sampler_reads_the_prompts_that_training_gave() {
    let tokenizer = byte_level();
    let text = concat!(
        r#"{"request": "Pick one.", "response": ["It is", "", "So: "], "targets": ["{1}", "{2}"], "eos": true, "n": 1}"#,
        "\n",
        r#"{"prompt": "Pick one.", "response": " It is", "targets": ["{1}", "{2}"]}"#,
        "\n",
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("prompts.jsonl");
    std::fs::write(&path, text).expect("a file");
    let rows = datasets::read_prompts(&path, crate::asking(&[], false)).expect("prompts").rows;
    let examples = dataset(text, &Options::default()).examples;
    let trained: Vec<&[u32]> = examples.chunk_by(|a, b| a.group == b.group).map(|group| group[0].prompt()).collect();
    let asked = rows.iter().map(|row| {
        let (text, special) = row.asked.text_with(&row.beginning, &tokenizer, Way::Flags).expect("a text");
        tokenizer.encode_beginning(&text, special).expect("ids")
    });
    assert_eq!(asked.collect::<Vec<_>>(), trained);
    assert_eq!(rows.iter().map(|row| row.beginning.as_str()).collect::<Vec<_>>(), ["It is", "", "So: ", " It is"]);
    assert!(rows.iter().all(|row| !row.columns.contains_key("response")) && rows[1].columns["n"] == 1);
}
