//! Rows with targets: weights, the end of each target, and the check that none begins another.

use datasets::{Options, PrefixFree, Tokenizer, TooLong, read_text};

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
        (r#""prompt": "p", "response": ["a", "b"], "targets": ["a"]"#, "several beginnings"),
    ] {
        let found = faults(&format!("{{{fields}}}"), &Options::default()).join(" ");
        assert!(found.contains(part), "{fields}: {found}");
    }
    let huge = r#"{"prompt": "p", "targets": ["a", "b"], "weights": [1e308, 1e308]}"#;
    assert_eq!(dataset(huge, &Options::default()).examples[0].weight, 0.5);
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
