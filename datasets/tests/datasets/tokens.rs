//! Ids and masks against transformers (`fixtures/make_rows.py`), special tokens, and what a person sees.

use datasets::{Options, Part, Tokenizer, TooLong, TrainOn, describe, read_text};
use serde_json::{Value, json};

use super::{byte_fallback, byte_level, dataset, fixture};

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn mask(value: &Value) -> Vec<bool> {
    value.as_array().expect("a list").iter().map(|mark| mark.as_bool().expect("a mark")).collect()
}

#[test]
fn ids_and_masks_are_those_of_transformers() {
    let expected = super::json("rows.json");
    let mut seen = 0;
    for (kind, tokenizer) in [("byte_level", byte_level()), ("byte_fallback", byte_fallback())] {
        for (shape, cases) in expected[kind].as_object().expect("an object") {
            for case in cases.as_array().expect("a list") {
                let data = read_text("r", &case.to_string(), &Options::default(), &tokenizer)
                    .unwrap_or_else(|faults| panic!("{faults}\n{case}"));
                assert_eq!(data.report.files[0].format, *shape);
                let example = &data.examples[0];
                assert_eq!(example.ids, ids(&case["ids"]), "{kind}: {case}");
                assert_eq!(example.learned, mask(&case["learned"]), "{kind}: {case}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 24);
}

#[test]
fn text_is_learned_but_for_its_first_token_and_ends_once() {
    let tokenizer = byte_fallback();
    for (text, beginning) in [("the cat", "<s>"), ("日本", "<s>"), ("<s>the", "<s>"), ("the</s>", "<s>")] {
        let data = read_text("r", &json!({"text": text}).to_string(), &Options::default(), &tokenizer).expect("a row");
        let example = &data.examples[0];
        assert_eq!(tokenizer.decode(&example.ids[..1], false).as_deref(), Ok(beginning));
        assert_eq!(example.ids.iter().filter(|id| **id == 1).count(), 1, "{text} begins once");
        assert_eq!(example.ids.iter().filter(|id| **id == 2).count(), 1, "{text} ends once");
        assert_eq!(example.ids.last(), Some(&2));
        let all_but_first: Vec<bool> = (0..example.ids.len()).map(|at| at > 0).collect();
        assert_eq!(example.learned, all_but_first, "{text}");
    }
    let twice = json!({"text": "<s><s>a"}).to_string();
    let fault = read_text("r", &twice, &Options::default(), &tokenizer).expect_err("a fault").to_string();
    assert!(fault.contains("begins with `<s>` twice"), "{fault}");
}

/// Both tokenizers pad with the end token; the end token of every row is learned all the same.
#[test]
fn padding_with_the_end_token_does_not_hide_it() {
    for tokenizer in [byte_level(), byte_fallback()] {
        assert_eq!(Some(tokenizer.pad_token()), tokenizer.end_token());
        let rows = "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\", \"completion\": \"bcdefg\"}\n";
        let data = read_text("r", rows, &Options::default(), &tokenizer).expect("two rows");
        for example in &data.examples {
            assert_eq!((example.ids.last().copied(), example.learned.last()), (tokenizer.end_token(), Some(&true)));
        }
    }
}

#[test]
fn stop_tokens_are_gathered_from_every_file() {
    let tokenizer = std::fs::read_to_string(fixture("byte_level/tokenizer.json")).expect("the fixture is there");
    let load = |files: &[(&str, &str)]| {
        let files: Vec<(&str, &str)> =
            std::iter::once(("tokenizer.json", tokenizer.as_str())).chain(files.iter().copied()).collect();
        Tokenizer::from_texts(&files).unwrap_or_else(|faults| panic!("{faults}"))
    };
    let all = load(&[
        ("tokenizer_config.json", r#"{"eos_token": {"content": "<|im_end|>"}}"#),
        ("generation_config.json", r#"{"eos_token_id": [2, 1, 4000000000, -1, "x"]}"#),
        ("config.json", r#"{"eos_token_id": 0}"#),
    ]);
    assert_eq!((all.end_token(), all.stop_tokens(), all.pad_token()), (Some(2), &[2, 1, 0][..], 2));
    let map = load(&[("special_tokens_map.json", r#"{"eos_token": "<|endoftext|>", "pad_token": "<|im_start|>"}"#)]);
    assert_eq!((map.end_token(), map.pad_token(), map.bos()), (Some(0), 1, None));
    let none = load(&[]);
    assert_eq!((none.end_token(), none.stop_tokens(), none.pad_token(), none.vocabulary()), (None, &[][..], 0, 300));
}

#[test]
fn a_folder_without_a_tokenizer_says_how_to_get_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let fault = Tokenizer::load(folder.path()).err().expect("a fault").to_string();
    assert!(fault.contains("`tokenizer.json` is missing") && fault.contains("save_pretrained"), "{fault}");
    assert!(!fault.contains("tokenizer.model"), "{fault}");
    std::fs::write(folder.path().join("tokenizer.model"), "").expect("written");
    let fault = Tokenizer::load(folder.path()).err().expect("a fault").to_string();
    assert!(fault.contains("transformers makes one of `tokenizer.model`"), "{fault}");
    std::fs::write(folder.path().join("tokenizer.json"), "{\"model\": 3}").expect("written");
    let fault = Tokenizer::load(folder.path()).err().expect("a fault").to_string();
    assert!(fault.contains("tokenizer.json: cannot read the tokenizer"), "{fault}");
}

#[test]
fn train_on_chooses_the_turns_and_the_prompt() {
    let row = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]}"#
        .replace('\n', " ");
    let tokenizer = byte_level();
    let learned = |row: &str, train_on| {
        let data = dataset(row, &Options { train_on, ..Options::default() });
        let example = &data.examples[0];
        let ids: Vec<u32> =
            example.ids.iter().zip(&example.learned).filter(|(_, learned)| **learned).map(|(id, _)| *id).collect();
        tokenizer.decode(&ids, false).expect("text")
    };
    assert_eq!(learned(&row, TrainOn::Assistant), "b<|im_end|>d<|im_end|>");
    assert_eq!(learned(&row, TrainOn::Last), "d<|im_end|>");
    let whole = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n\
                 <|im_start|>assistant\nd<|im_end|>\n";
    assert_eq!(learned(&row, TrainOn::All), &whole["<|im_start|>".len()..]);
    let pair = r#"{"prompt": "xyz", "completion": "b"}"#;
    assert_eq!(learned(pair, TrainOn::Assistant), "b<|im_end|>");
    assert_eq!(learned(pair, TrainOn::All), "yzb<|im_end|>");
}

#[test]
fn sharegpt_is_messages_and_alpaca_is_stanfords_prompt() {
    let messages = dataset(
        r#"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#,
        &Options::default(),
    );
    let sharegpt = dataset(
        r#"{"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "id": 7}"#,
        &Options::default(),
    );
    assert_eq!(sharegpt.fingerprint, messages.fingerprint);
    assert_eq!(sharegpt.report.files[0].format, "sharegpt");

    // The wording of `PROMPT_DICT` in Stanford Alpaca's train.py.
    let with = "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\nadd\n\n### Input:\n1 2\n\n### Response:";
    let without = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nadd\n\n### Response:";
    for (row, prompt) in [
        (json!({"instruction": "add", "input": "1 2", "output": "3"}), with),
        (json!({"instruction": "add", "input": "", "output": "3"}), without),
        (json!({"instruction": "add", "output": "3"}), without),
    ] {
        let alpaca = dataset(&row.to_string(), &Options::default());
        let pair = dataset(&json!({"prompt": prompt, "completion": "3"}).to_string(), &Options::default());
        assert_eq!(alpaca.fingerprint, pair.fingerprint);
        assert_eq!(alpaca.report.files[0].format, "alpaca");
    }
}

#[test]
fn the_fingerprint_sees_ids_and_masks() {
    let of = |row: &str, train_on| dataset(row, &Options { train_on, ..Options::default() }).fingerprint;
    let first = of(r#"{"prompt": "a", "completion": "b"}"#, TrainOn::Assistant);
    assert_eq!(first.len(), 64);
    assert_eq!(first, of(r#" {"completion": "b", "prompt": "a", "id": 1} "#, TrainOn::Last));
    assert_ne!(first, of(r#"{"prompt": "a", "completion": "c"}"#, TrainOn::Assistant));
    let wide = r#"{"prompt": "ab", "completion": "c"}"#;
    assert_ne!(of(wide, TrainOn::Assistant), of(wide, TrainOn::All));
}

#[test]
fn a_described_example_shows_each_token_with_its_mask() {
    let tokenizer = byte_level();
    let data = dataset(r#"{"prompt": "the 🙂\u001b[2J", "completion": " cat🙂"}"#, &Options::default());
    let plain = describe(&data.examples[0], &tokenizer, false);
    assert_eq!(plain, "the 🙂\\u{1b}[2J[ cat][🙂][<|im_end|>]");
    let coloured = describe(&data.examples[0], &tokenizer, true);
    assert!(coloured.contains("\u{1b}[32m cat\u{1b}[0m") && coloured.contains("\u{1b}[2mthe\u{1b}[0m"), "{coloured:?}");
    assert!(!coloured.contains("\u{1b}[2J"));
}

#[test]
fn too_long_rows_are_faults_or_dropped_or_cut() {
    let rows = "{\"prompt\": \"xyz\", \"completion\": \"bcdefghij\"}\n{\"prompt\": \"x\", \"completion\": \"b\"}\n";
    let long = r#"{"prompt": "xyzxyz", "completion": "b"}"#;
    let options = |too_long| Options { too_long, max_length: 6, ..Options::default() };
    assert_eq!(
        super::faults(rows, &options(TooLong::Error)),
        [
            "rows.jsonl:1: the row has 13 tokens, more than 6 hint: raise `data.max_length`, or set `data.too_long` to \"drop\" or \"truncate\""
        ]
    );
    let dropped = dataset(rows, &options(TooLong::Drop));
    assert_eq!((dropped.examples.len(), dropped.examples[0].line, dropped.examples[0].group), (1, 2, 1));
    assert_eq!(dropped.report.dropped[0].to_string(), "rows.jsonl:1: 13 tokens, more than 6");
    let cut = dataset(&format!("{rows}{long}"), &options(TooLong::Truncate));
    assert_eq!((cut.report.rows, cut.report.examples, cut.report.truncated), (3, 2, 1));
    assert_eq!(cut.examples[0].ids.len(), 6);
    assert_eq!(cut.examples[0].learned, [false, false, false, true, true, true]);
    assert_eq!(cut.examples[0].parts[2..4], [Part::Prompt, Part::Response]);
    assert_eq!(cut.report.dropped[0].to_string(), "rows.jsonl:3: nothing to learn in the first 6 of 8 tokens");
    assert_eq!((cut.report.tokens, cut.report.learned_tokens), (9, 5));

    let only = super::faults(rows.lines().next().expect("a row"), &options(TooLong::Truncate));
    assert_eq!(
        only,
        [
            "rows.jsonl: no row teaches the model where to stop hint: every row is cut off before its end: raise `data.max_length`, or use `data.too_long = \"drop\"`"
        ]
    );
    let none = super::faults(long, &options(TooLong::Drop));
    assert_eq!(none, ["no example is left of 1 rows hint: the first was dropped: rows.jsonl:1: 8 tokens, more than 6"]);
}

#[test]
fn a_very_long_row_is_refused_without_a_count_of_all_its_tokens() {
    let rows = format!("{{\"text\": \"{}\"}}\n{{\"text\": \"the cat\"}}\n", "the cat ".repeat(1 << 18));
    let options = |too_long| Options { too_long, max_length: 6, ..Options::default() };
    let dropped = dataset(&rows, &options(TooLong::Drop));
    assert_eq!((dropped.examples.len(), dropped.examples[0].line), (1, 2));
    assert_eq!(dropped.report.dropped[0].to_string(), "rows.jsonl:1: more tokens than 6");
    let told = super::faults(&rows, &options(TooLong::Error));
    assert!(told[0].starts_with("rows.jsonl:1: the row has more tokens than 6 hint: raise"), "{told:?}");
    assert_eq!(dataset(&rows, &options(TooLong::Truncate)).examples[0].ids.len(), 6);
}
