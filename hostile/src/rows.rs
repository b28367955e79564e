//! Rows of every shape, prompts, samples and references.

use std::sync::LazyLock;

use datasets::{Options, PrefixFree, Tokenizer, TooLong, TrainOn, read_text};

use crate::{Target, files::in_a_file, fixture, shown};

pub(crate) const TARGETS: [Target; 2] = [
    Target {
        name: "rows",
        seeds: || SHAPES.iter().chain(&LISTS).map(|rows| rows.as_bytes().to_vec()).collect(),
        words: &[
            "\"messages\":",
            "\"role\":",
            "\"content\":",
            "\"assistant\"",
            "\"user\"",
            "\"system\"",
            "\"tool\"",
            "\"tool_calls\":",
            "\"prompt\":",
            "\"completion\":",
            "\"text\":",
            "\"intent\":",
            "\"response\":",
            "\"targets\":",
            "\"weights\":",
            "\"weight\":",
            "\"probabilities\":",
            "\"conversations\":",
            "\"from\":",
            "\"value\":",
            "\"instruction\":",
            "\"output\":",
            "\"input\":",
            "\"train\":false",
            "\"thinking\":",
            "\"tools\":",
            "\"type\":\"text\"",
            "\"steps\":",
            "\"id\":",
        ],
        run: rows,
    },
    Target {
        name: "samples",
        seeds: || SAMPLES.iter().map(|rows| rows.as_bytes().to_vec()).collect(),
        words: &[
            "\"prompt\":",
            "\"text\":",
            "\"correct\":",
            "\"score\":",
            "\"same\":",
            "\"n\":",
            "\"model\":",
            "\"generations\":",
            "\"partition\":",
            "\"response\":",
            "\"id\":",
            "\"messages\":",
            "\"reference\":",
            "\"references\":",
        ],
        run: samples,
    },
];

/// Lines of one shape each.
const SHAPES: [&str; 10] = [
    "{\"text\": \"the cat sat on the mat\"}\n{\"text\": \"and <|im_end|> what?\", \"id\": 7}\n",
    "{\"prompt\": \"what is the capital?\\n\", \"completion\": \"a cat\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n",
    "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \"content\": \"u\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}\n",
    "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"u\"}]}, {\"role\": \"assistant\", \"content\": \"a\", \"weight\": 0}, {\"role\": \"user\", \"content\": \"v\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n",
    "{\"prompt\": \"a number\\n\", \"intent\": \"seven\", \"response\": \"7\"}\n{\"prompt\": \"a number\\n\", \"intent\": \"eight\", \"response\": \"8\"}\n",
    "{\"prompt\": \"pick one\\n\", \"targets\": [\"cat\", \"mat\", \"sat\"], \"weights\": [1, 2, 3]}\n{\"prompt\": \"or\", \"targets\": [\"a\", \"b\"]}\n",
    "{\"instruction\": \"say it\", \"input\": \"\", \"output\": \"cat\"}\n",
    "{\"conversations\": [{\"from\": \"human\", \"value\": \"u\"}, {\"from\": \"gpt\", \"value\": \"a\"}]}\n",
    "{\"prompt\": [{\"role\": \"user\", \"content\": \"u\"}], \"completion\": [{\"role\": \"assistant\", \"content\": \"a\"}]}\n",
    "{\"messages\": [{\"role\": \"user\", \"content\": \"u\"}, {\"role\": \"assistant\", \"content\": \"a\"}], \"x\": NaN}\n",
];

/// The same as one list.
const LISTS: [&str; 2] = [
    "[\n{\"text\": \"the cat\"},\n{\"text\": \"the mat\"}\n]\n",
    "[{\"prompt\": \"a\", \"completion\": \"b\"}, {\"prompt\": \"c\", \"completion\": \"d\"}]",
];

const SAMPLES: [&str; 4] = [
    "{\"prompt\": \"p\", \"sample\": 0, \"text\": \"a cat\", \"correct\": false}\n{\"prompt\": \"p\", \"sample\": 1, \"text\": \"a mat\", \"correct\": true}\n",
    "{\"id\": \"1\", \"prompt\": \"p\", \"text\": \"a\", \"score\": 0.5, \"model\": \"m\"}\n{\"id\": \"1\", \"prompt\": \"p\", \"n\": 1, \"same\": []}\n",
    "{\"id\": \"1\", \"prompt\": \"p\", \"model\": \"m\", \"generations\": [\"a\", \"b\", \"c\"]}\n",
    "{\"prompt\": \"p\", \"response\": \"a\"}\n{\"prompt\": \"q\", \"response\": \"b\"}\n",
];

/// With a chat template, so that every shape can be read.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let text = |name: &str| String::from_utf8(fixture(name)).expect("the fixture is text");
    let tokenizer = text("datasets/tests/fixtures/byte_level/tokenizer.json");
    let template = text("datasets/tests/fixtures/chat/chatml.jinja");
    let config = r#"{"eos_token": "<|im_end|>"}"#;
    let files = [
        ("tokenizer.json", tokenizer.as_str()),
        ("tokenizer_config.json", config),
        ("chat_template.jinja", template.as_str()),
    ];
    Tokenizer::from_texts(&files).unwrap_or_else(|faults| panic!("{faults}"))
});

fn rows(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let name = if text.trim_start().starts_with('[') { "rows.json" } else { "rows.jsonl" };
    let short = Options {
        max_length: 24,
        too_long: TooLong::Truncate,
        train_on: TrainOn::All,
        prefix_free: PrefixFree::Warn,
        ..Options::default()
    };
    shown(read_text(name, text, &short, &TOKENIZER));
    shown(read_text(name, text, &Options::default(), &TOKENIZER))
}

fn samples(input: &[u8]) -> bool {
    in_a_file("samples.jsonl", input, |path| {
        let samples = shown(datasets::read_samples(path, &["answer"]));
        let references = shown(datasets::read_references(path));
        let prompts = datasets::read_prompts(path, datasets::Asking::default());
        if let Ok(prompts) = &prompts {
            prompts.notices(&TOKENIZER);
        }
        shown(prompts) || samples || references
    })
}
