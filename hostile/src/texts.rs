//! Tokenizers and chat templates.

use std::sync::LazyLock;

use datasets::{ChatSettings, Conversation, Message, Tokenizer};

use crate::{Target, fixture, fixtures, shown};

pub(crate) const TARGETS: [Target; 2] = [
    Target {
        name: "tokenizer",
        seeds: || {
            let files =
                ["datasets/tests/fixtures/byte_level", "datasets/tests/fixtures/byte_fallback", "tests/fixtures/bert"];
            let mut seeds: Vec<Vec<u8>> = files.map(|folder| fixture(&format!("{folder}/tokenizer.json"))).into();
            seeds.extend(STEPS.map(|step| with_step(&seeds[0], step)));
            seeds
        },
        words: &[
            "\"type\":\"Sequence\"",
            "\"type\":\"Replace\"",
            "\"type\":\"Strip\"",
            "\"type\":\"CTC\"",
            "\"type\":\"Fuse\"",
            "\"type\":\"WordPiece\"",
            "\"type\":\"Unigram\"",
            "\"type\":\"WordLevel\"",
            "\"type\":\"Metaspace\"",
            "\"type\":\"ByteFallback\"",
            "\"type\":\"Precompiled\"",
            "\"type\":\"TemplateProcessing\"",
            "\"type\":\"Split\"",
            "\"type\":\"FixedLength\"",
            "\"pattern\":{\"Regex\":\"(a+)+$\"}",
            "\"pattern\":{\"String\":\"\"}",
            "\"content\":\"aa\"",
            "\"normalizer\":",
            "\"decoder\":",
            "\"pre_tokenizer\":",
            "\"post_processor\":",
            "\"model\":",
            "\"lstrip\":true",
            "\"rstrip\":true",
            "\"normalized\":true",
            "\"dropout\":1.0",
            "\"fuse_unk\":true",
            "\"byte_fallback\":true",
            "\"unk_token\":\"a\"",
            "\"start\":5,\"stop\":9",
            "[\"a\",\"t\"]",
            "(?:(?:a{999}){999}){999}",
            "(?=",
            "\\\\p{L}",
        ],
        run: tokenizer,
    },
    Target {
        name: "template",
        seeds: || {
            // Some refuse a system message.
            let mut seeds = fixtures("datasets/tests/fixtures/chat", ".jinja");
            seeds.retain(|source| template(source));
            let snippets = fixture("datasets/tests/fixtures/chat/snippets.json");
            let snippets: serde_json::Value = serde_json::from_slice(&snippets).expect("the fixture is JSON");
            let cases = snippets["cases"].as_array().expect("a list").iter().filter(|case| case["text"].is_string());
            let sources = cases.filter_map(|case| case["source"].as_str());
            // Some of the fixture are there because they are otherwise here.
            seeds.extend(sources.map(|source| source.as_bytes().to_vec()).filter(|source| template(source)));
            seeds
        },
        words: &[
            "{{",
            "}}",
            "{%",
            "%}",
            "{#",
            "#}",
            "{%- ",
            " -%}",
            "{% if x %}",
            "{% endif %}",
            "{% for a in x %}",
            "{% endfor %}",
            "{% set x = ",
            "{% set ns = namespace(x=1) %}",
            "{% set ns.x = ",
            "{% macro m(a) %}",
            "{% endmacro %}",
            "{% raw %}",
            "{% endraw %}",
            "{% generation %}",
            "{% endgeneration %}",
            "{% filter upper %}",
            "{% call m() %}",
            "{% elif x %}",
            "{% break %}",
            "messages",
            "loop.index0",
            "loop(",
            "recursive",
            "|tojson",
            "|tojson(indent=9)",
            "|replace('a','aa')",
            "|indent(99999)",
            "|join(x)",
            "|list",
            "|batch(3)",
            "|slice(3)",
            "|sort",
            "|groupby('a')",
            "|map(attribute='role')",
            "|selectattr('role', 'equalto', 'user')",
            "|center(999)",
            "|default(",
            "|first",
            "|last",
            "|length",
            "|urlencode",
            "|format(",
            "|truncate(3)",
            ".format(",
            ".split(",
            ".replace(",
            ".items()",
            ".zfill(9)",
            "'%s' % ",
            "'%99999d' % ",
            " ~ ",
            " * ",
            "**",
            "//",
            " % ",
            " is defined",
            " not in ",
            " if x else ",
            "range(999999)",
            "raise_exception(",
            "strftime_now(",
            "dict(",
            "cycler(",
            "joiner(",
            "none",
            "true",
            "[::-1]",
            "[1:]",
            "x[-1]",
            "not ",
            "(",
            ")",
        ],
        run: template,
    },
];

/// Parts of a tokenizer that the fixtures do not have, each in place of one that they have.
const STEPS: [(&str, &str); 12] = [
    (
        "normalizer",
        r#"{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":"_"},{"type":"Lowercase"}]}"#,
    ),
    (
        "normalizer",
        r#"{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}"#,
    ),
    ("normalizer", r#"{"type":"Prepend","prepend":"_"}"#),
    (
        "normalizer",
        r#"{"type":"Sequence","normalizers":[{"type":"Strip","strip_left":true,"strip_right":true},{"type":"StripAccents"},{"type":"Nmt"}]}"#,
    ),
    (
        "pre_tokenizer",
        r#"{"type":"Split","pattern":{"Regex":"\\p{N}{1,3}|\\s+(?!\\S)"},"behavior":"Isolated","invert":false}"#,
    ),
    (
        "pre_tokenizer",
        r#"{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"Punctuation","behavior":"Contiguous"}]}"#,
    ),
    ("pre_tokenizer", r#"{"type":"Metaspace","replacement":"_","prepend_scheme":"first","split":false}"#),
    (
        "decoder",
        r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"_"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
    ),
    ("decoder", r#"{"type":"CTC","pad_token":"!","word_delimiter_token":"|","cleanup":true}"#),
    ("decoder", r#"{"type":"WordPiece","prefix":"a","cleanup":true}"#),
    ("decoder", r#"{"type":"BPEDecoder","suffix":"t"}"#),
    (
        "post_processor",
        r#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<|im_start|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<|im_start|>":{"id":"<|im_start|>","ids":[1],"tokens":["<|im_start|>"]}}}"#,
    ),
];

fn with_step(tokenizer: &[u8], (part, step): (&str, &str)) -> Vec<u8> {
    let mut file: serde_json::Value = serde_json::from_slice(tokenizer).expect("the fixture is JSON");
    file[part] = serde_json::from_str(step).expect("a step is JSON");
    file.to_string().into_bytes()
}

/// Texts of many kinds of letters.
const TEXTS: [&str; 5] = [
    "The cat sat on the mat, what is the capital of caf\u{e9}s? 1234567",
    "<|im_start|>user\n  naïve <|im_end|>\n\n",
    "e\u{301}\u{1f600}\u{65e5}\u{672c}\u{200b}\u{fdfa}\u{fb01} \u{a0}\t\r\n aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "",
    "<s> \u{2581}a</s>",
];

fn tokenizer(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let config = r#"{"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}"#;
    let Ok(tokenizer) = Tokenizer::from_texts(&[("tokenizer.json", text), ("tokenizer_config.json", config)]) else {
        return false;
    };
    let mut accepted = true;
    for text in TEXTS {
        for special in [false, true] {
            accepted &= shown(tokenizer.encode_beginning(text, special));
            if let Ok(encoded) = tokenizer.encode_with_offsets(text, special) {
                shown(tokenizer.decode(&encoded.ids, special));
            }
        }
    }
    shown(tokenizer.decode(&[0, 5, 1 << 20, u32::MAX, 7, 7], false));
    let _ = tokenizer.identity();
    shown(tokenizer.bounded(300));
    accepted
}

static TOKENIZER: LazyLock<String> = LazyLock::new(|| {
    String::from_utf8(fixture("datasets/tests/fixtures/byte_level/tokenizer.json")).expect("the fixture is text")
});

fn template(input: &[u8]) -> bool {
    let Ok(source) = std::str::from_utf8(input) else { return false };
    let tokenizer = Tokenizer::from_texts(&[("tokenizer.json", &TOKENIZER)]).expect("the fixture is a tokenizer");
    let settings = ChatSettings { template: Some(("own.jinja".into(), source.into())), ..ChatSettings::default() };
    let Ok(tokenizer) = tokenizer.with_chat(&settings) else { return false };
    let messages = ["system", "user", "assistant", "user"];
    let messages = messages.map(|role| Message::new(role, "a text,\n of <two> lines'\"&")).into();
    let mut conversation = Conversation::new(messages);
    let arguments =
        serde_json::json!({"x": [1, {"a": [2.5, null]}, "text"], "y": "y", "n": 3, "enable_thinking": false});
    conversation.arguments = arguments.as_object().expect("an object").clone();
    conversation.tools = Some(serde_json::json!([{"function": {"name": "f", "parameters": {"type": "object"}}}]));
    let opened = shown(tokenizer.render_chat(&conversation, true));
    shown(tokenizer.render_chat(&conversation, false)) || opened
}
