//! `tokenizer.json` of somebody who means no good, or of a disk that failed: the file is named, and nothing panics.

use datasets::Tokenizer;
use serde_json::{Value, json};

use super::json;

fn read(tokenizer: &str) -> Result<Tokenizer, String> {
    Tokenizer::from_texts(&[("m/tokenizer.json", tokenizer)]).map_err(|faults| faults.to_string())
}

/// Parts of many kinds, each in its place of a tokenizer.
fn parts() -> Vec<(&'static str, Value)> {
    let replace = json!({"type": "Replace", "pattern": {"String": "_"}, "content": " "});
    let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
    let single =
        json!([{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]);
    let pair = json!([{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]);
    let special = json!({"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}});
    vec![
        (
            "decoder",
            json!({"type": "Sequence", "decoders": [replace, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]}),
        ),
        ("decoder", json!({"type": "CTC", "pad_token": "!", "word_delimiter_token": "|", "cleanup": true})),
        ("decoder", json!({"type": "WordPiece", "prefix": "a", "cleanup": true})),
        ("decoder", json!({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "split": false})),
        (
            "normalizer",
            json!({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Prepend", "prepend": "_"}]}),
        ),
        ("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "ALQCAACEAAAAAACAAQAAgMz8AgC4BQAA"})),
        (
            "pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}"}, "behavior": "Isolated", "invert": false}),
        ),
        (
            "post_processor",
            json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}),
        ),
        (
            "model",
            json!({"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "#", "max_input_chars_per_word": 9, "vocab": {"a": 0, "#b": 1}}),
        ),
        ("model", json!({"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0], ["b", -1.5]], "byte_fallback": false})),
        ("model", json!({"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"})),
    ]
}

#[test]
fn a_tokenizer_that_is_cut_within_any_of_its_parts_is_a_fault_that_names_it() {
    let whole = json("byte_level/tokenizer.json");
    let mut cut = 0;
    for (name, part) in parts() {
        let mut file = whole.clone();
        file[name] = json!("HERE");
        let (text, part) = (file.to_string(), part.to_string());
        for end in (0..part.len()).filter(|end| part.is_char_boundary(*end)) {
            // The part breaks off, and the file goes on or ends with it.
            for rest in [text.split_once("\"HERE\"").expect("its place").1, "}", ""] {
                let before = text.split_once("\"HERE\"").expect("its place").0;
                if let Err(told) = read(&format!("{before}{}{rest}", &part[..end])) {
                    assert!(
                        told.contains("m/tokenizer.json: cannot read the tokenizer: ") && told.contains("hint: "),
                        "{told}"
                    );
                    cut += 1;
                }
            }
        }
    }
    assert!(cut > 3_000, "only {cut} were faults");
}

/// Each value in turn is taken out, or another in its place.
#[test]
fn a_part_of_a_tokenizer_with_another_value_anywhere_is_read_or_is_a_fault() {
    let others = [json!(null), json!(-1), json!(1e300), json!("a"), json!([]), json!({}), json!(true)];
    for (name, part) in parts() {
        let mut pointers = vec![(String::new(), part.clone())];
        let mut at = 0;
        while let Some((pointer, value)) = pointers.get(at).cloned() {
            match value {
                Value::Object(fields) => {
                    pointers.extend(fields.into_iter().map(|(key, value)| (format!("{pointer}/{key}"), value)))
                }
                Value::Array(items) => {
                    pointers.extend(
                        items.into_iter().enumerate().map(|(index, value)| (format!("{pointer}/{index}"), value)),
                    );
                }
                _ => {}
            }
            at += 1;
        }
        for (pointer, _) in pointers {
            for other in &others {
                let mut file = json("byte_level/tokenizer.json");
                file[name] = part.clone();
                if let Some(place) = file[name].pointer_mut(&pointer) {
                    *place = other.clone();
                }
                match read(&file.to_string()) {
                    Err(told) => assert!(told.contains("m/tokenizer.json") && told.contains("hint: "), "{told}"),
                    Ok(tokenizer) => {
                        let ids = tokenizer.encode("a cat <|im_end|> b_1", true).unwrap_or_default();
                        let _ = tokenizer.decode(&ids, false);
                    }
                }
            }
        }
    }
}

#[test]
fn a_tokenizer_that_makes_a_huge_text_of_a_word_is_refused() {
    let doubled = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    for (name, list) in [("normalizer", "normalizers"), ("decoder", "decoders")] {
        let with = |count: usize| {
            let mut file = json("byte_level/tokenizer.json");
            file[name] = json!({"type": "Sequence", list: vec![doubled.clone(); count]});
            read(&file.to_string())
        };
        let told = with(60).err().expect("too much");
        assert!(told.contains("more than 4096 times as long"), "{told}");
        assert!(with(10).is_ok());
    }
    // Lists in lists, as deep as JSON is read.
    let mut nested = doubled;
    for _ in 0..50 {
        nested = json!({"type": "Sequence", "normalizers": [nested]});
    }
    let mut file = json("byte_level/tokenizer.json");
    file["normalizer"] = nested;
    if let Err(told) = read(&file.to_string()) {
        assert!(told.contains("m/tokenizer.json"), "{told}");
    }
}
