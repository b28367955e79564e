//! The crate from outside, against numbers of transformers and by hand.

mod chat;
mod conversations;
mod forms;
mod hostile;
mod intents;
mod kinds;
mod lost;
mod marks;
mod notices;
mod order;
mod python_json;
mod rows;
mod targets;
mod tokens;
mod turns;
mod unread;
mod wholes;

use std::path::PathBuf;

use datasets::{Dataset, Options, Tokenizer, read_text};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn json(name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(fixture(name)).expect("the fixture is there");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::load(&fixture(name)).unwrap_or_else(|faults| panic!("{faults}"))
}

fn byte_level() -> Tokenizer {
    tokenizer("byte_level")
}

fn byte_fallback() -> Tokenizer {
    tokenizer("byte_fallback")
}

/// Prompts as a command line asks them.
fn asking(rename: &[(String, String)], chat: bool) -> datasets::Asking<'_> {
    datasets::Asking { rename, chat, way: datasets::Way::Flags, ..datasets::Asking::default() }
}

/// `byte_level` with a chat template whose turns end with `<|im_end|>`.
fn with_chat_template(template: &str) -> Tokenizer {
    let file = std::fs::read_to_string(fixture("byte_level/tokenizer.json")).expect("the fixture is there");
    let files = [
        ("tokenizer.json", file.as_str()),
        ("tokenizer_config.json", r#"{"eos_token": "<|im_end|>"}"#),
        ("chat_template.jinja", template),
    ];
    Tokenizer::from_texts(&files).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The data set of `text` read with `byte_level`.
fn dataset(text: &str, options: &Options) -> Dataset {
    read_text("rows.jsonl", text, options, &byte_level()).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The faults of `text` read with `byte_level`, each on one line.
fn faults(text: &str, options: &Options) -> Vec<String> {
    let faults = read_text("rows.jsonl", text, options, &byte_level()).expect_err("there are faults");
    faults.list().iter().map(|fault| fault.to_string().replace('\n', " ")).collect()
}
