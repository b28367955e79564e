//! What is odd about rows and yet allowed: counted, with the first of them; and where a prompt and its answer meet.

use datasets::{Conversation, Format, Message, Notice, Oddity, Options, Tokenizer, TooLong, Way, read_text};
use serde_json::{Value, json};

use super::fixture;

/// The tokenizer inside the program, whose token ` fox` is one.
fn builtin() -> Tokenizer {
    let files = datasets::builtin::tokenizer_files();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_ref())).collect();
    Tokenizer::from_texts(&files).unwrap_or_else(|faults| panic!("{faults}"))
}

fn text(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

fn notices(rows: &[Value], options: &Options, tokenizer: &Tokenizer) -> Vec<Notice> {
    let data = read_text("rows.jsonl", &text(rows), options, tokenizer);
    data.unwrap_or_else(|faults| panic!("{faults}")).report.notices
}

fn notice(oddity: Oddity, rows: usize, of: usize, line: usize, what: &str) -> Notice {
    Notice { oddity, rows, of, file: "rows.jsonl".into(), line, element: None, what: what.into(), way: Way::Recipe }
}

#[test]
fn a_prompt_that_ends_inside_a_token_is_counted_and_read_alone_for_samples() {
    let tokenizer = builtin();
    let row = |prompt: &str, completion: &str| json!({"prompt": prompt, "completion": completion});
    let rows = [
        row("Tell me about a fox.\n", "The fox"),
        row("Tell me about a fo", "x."),
        row("Tell me about a", " fox."),
        row("Tell me about a fo", "x that sleeps."),
    ];
    let data = read_text("rows.jsonl", &text(&rows), &Options::default(), &tokenizer).expect("rows");
    assert_eq!(data.report.notices, [notice(Oddity::Seam, 2, 4, 2, "")]);
    for (row, example) in rows.iter().zip(&data.examples) {
        let prompt = row["prompt"].as_str().expect("a prompt");
        assert_eq!(example.prompt(), tokenizer.encode_beginning(prompt, true).expect("ids"));
        // Trained on as one text: the token of both is learned.
        let whole = format!("{prompt}{}", row["completion"].as_str().expect("a completion"));
        let ids = tokenizer.encode(&whole, true).expect("ids");
        assert_eq!(example.ids[..ids.len()], ids);
        let learned = example.learned.iter().position(|learned| *learned).expect("a learned token");
        let first = tokenizer.decode(&example.ids[learned..=learned], false).expect("text");
        assert_eq!(first == " fox", prompt.len() < 20, "{first:?} of {row}");
    }
    // Of targets, a row counts once.
    let targets = json!({"prompt": "Tell me about a fo", "targets": ["x.", "xes.", "und."]});
    assert_eq!(notices(&[targets], &Options::default(), &tokenizer), [notice(Oddity::Seam, 1, 1, 1, "")]);
}

/// A few letters, and two line breaks as one token. Blanks are split as GPT-2 does: the last of several before a word
/// stands by itself.
fn breaks() -> Tokenizer {
    let letters = ["a", "b", ":", "Ċ", "ĊĊ", "."];
    let vocabulary: serde_json::Map<_, _> =
        letters.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect();
    let blanks = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    let file = json!({
        "version": "1.0", "added_tokens": [], "pre_tokenizer": blanks, "decoder": blanks,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": ["Ċ Ċ"]}
    });
    let template = "{% for m in messages %}{% if m.role == 'user' %}a:{{ '\\n' }}{% else %}{{ m.content }}.{% endif %}\
                    {% endfor %}";
    let files = [
        ("tokenizer.json", &*file.to_string()),
        ("tokenizer_config.json", r#"{"eos_token": "."}"#),
        ("chat_template.jinja", template),
    ];
    Tokenizer::from_texts(&files).unwrap_or_else(|faults| panic!("{faults}"))
}

/// Two line breaks are one token at the end of a text and two before a word: that a token ends with the prompt is not
/// enough.
#[test]
fn blanks_that_are_split_otherwise_inside_a_text_are_seen() {
    let tokenizer = breaks();
    assert_eq!(tokenizer.encode("a:\n\n", true), Ok(vec![0, 2, 4]));
    assert_eq!(tokenizer.encode("a:\n\nb", true), Ok(vec![0, 2, 3, 3, 1]));
    let rows = [json!({"prompt": "a:\n", "completion": "b"}), json!({"prompt": "a:\n\n", "completion": "b"})];
    let expected = [
        notice(Oddity::Untemplated, 2, 2, 1, "`data.chat` names the columns of `user` and `assistant`"),
        notice(Oddity::Seam, 1, 2, 2, ""),
    ];
    assert_eq!(notices(&rows, &Options::default(), &tokenizer), expected);
}

/// Of a conversation every prompt is looked at; what a row is asked by is the first.
#[test]
fn a_later_turn_that_runs_into_its_answer_is_counted() {
    let tokenizer = breaks();
    let row = |first: &str, last: &str| {
        let turn = |role: &str, content: &str| json!({"role": role, "content": content});
        json!({"messages": [turn("user", ""), turn("assistant", first), turn("user", ""), turn("assistant", last)]})
    };
    let rows = [row("b", "b"), row("b", "\n\nb"), row("\n\nb", "b")];
    let data = read_text("rows.jsonl", &text(&rows), &Options::default(), &tokenizer).expect("rows");
    assert_eq!(data.examples[1].ids, [0, 2, 3, 1, 5, 0, 2, 4, 3, 1, 5]);
    assert_eq!(data.report.notices, [notice(Oddity::Seam, 2, 3, 2, "")]);
    assert!(data.examples.iter().all(|example| example.prompt() == [0, 2, 3]));
    assert_eq!(data.examples.iter().map(|example| example.alone.is_some()).collect::<Vec<_>>(), [false, false, true]);
}

/// A template that writes a blank before every answer and none where it opens the turn: the blank is the answer's.
#[test]
fn a_sampler_is_given_the_opened_turn_as_rows_begin_with_it() {
    let file = std::fs::read_to_string(fixture("byte_fallback/tokenizer.json")).expect("the fixture is there");
    let template = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]\
                    {% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}";
    let tokenizer = Tokenizer::from_texts(&[
        ("tokenizer.json", file.as_str()),
        ("tokenizer_config.json", r#"{"bos_token": "<s>", "eos_token": "</s>"}"#),
        ("chat_template.jinja", template),
    ])
    .unwrap_or_else(|faults| panic!("{faults}"));
    let conversation = Conversation::new(vec![Message::new("user", "a number")]);
    let opened = tokenizer.render_chat(&conversation, true).expect("a text");
    let rows = [json!({"messages": [{"role": "user", "content": "a number"}], "targets": ["{1}", "{2}"]})];
    let data = read_text("rows.jsonl", &text(&rows), &Options::default(), &tokenizer).expect("rows");
    assert_eq!(data.report.notices, []);
    for example in &data.examples {
        assert_eq!(example.prompt(), tokenizer.encode_beginning(&opened, false).expect("ids"));
    }
}

#[test]
fn a_beginning_has_what_the_tokenizer_puts_before_a_text_once_and_nothing_after() {
    let tokenizer = super::byte_fallback();
    let ids = tokenizer.encode_beginning("the cat", true).expect("ids");
    assert_eq!((ids[0], &ids), (1, &tokenizer.encode_beginning("<s>the cat", true).expect("ids")));
    assert_eq!(tokenizer.encode_beginning("", true), Ok(vec![1]));
    // The same that also puts its end token after every text.
    let mut file = super::json("byte_fallback/tokenizer.json");
    let special = |id: &str, number: u32| json!({"id": id, "ids": [number], "tokens": [id]});
    let token = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    file["post_processor"] = json!({
        "type": "TemplateProcessing", "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "single": [token("<s>"), {"Sequence": {"id": "A", "type_id": 0}}, token("</s>")],
        "special_tokens": {"<s>": special("<s>", 1), "</s>": special("</s>", 2)}
    });
    let config = r#"{"bos_token": "<s>", "eos_token": "</s>"}"#;
    let files = [("tokenizer.json", &*file.to_string()), ("tokenizer_config.json", config)];
    let ending = Tokenizer::from_texts(&files).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(ending.encode("the cat", true).expect("ids").last(), Some(&2));
    assert_eq!((ending.encode_beginning("the cat", true), ending.encode_beginning("", true)), (Ok(ids), Ok(vec![1])));
    let rows = [json!({"prompt": "the cat", "completion": " red"})];
    assert_eq!(notices(&rows, &Options::default(), &ending), []);
}

#[test]
fn roles_special_tokens_and_targets_without_an_end_are_counted() {
    let tokenizer = builtin();
    let chat = |role: &str, content: &str| {
        let turn = |role: &str, content: &str| json!({"role": role, "content": content});
        json!({"messages": [turn(role, content), turn("user", "hello"), turn("assistant", "red")]})
    };
    let rows = [chat("system", "a"), chat("robot", "a"), chat("robot", "a"), chat("tool", "<|im_end|>")];
    let expected = [notice(Oddity::Role, 2, 4, 2, "robot"), notice(Oddity::SpecialToken, 1, 4, 4, "<|im_end|>")];
    assert_eq!(notices(&rows, &Options::default(), &tokenizer), expected);
    let share = json!({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "red"}]});
    assert_eq!(notices(&[share], &Options::default(), &tokenizer), []);

    for row in [
        json!({"prompt": "a<|im_end|>\n", "completion": "red"}),
        json!({"prompt": "a\n", "completion": "red<|im_end|> and blue"}),
        json!({"instruction": "a", "output": "b<|im_end|>c"}),
        json!({"prompt": "a\n", "targets": ["{1}", "{<|im_end|>}"]}),
        json!({"prompt": "a\n", "intent": "b", "response": "<|im_end|>"}),
    ] {
        let found = notices(std::slice::from_ref(&row), &Options::default(), &tokenizer);
        assert_eq!(found, [notice(Oddity::SpecialToken, 1, 1, 1, "<|im_end|>")], "{row}");
    }
    // Plain text may be anything, and other columns are not read.
    assert_eq!(notices(&[json!({"text": "a<|im_end|>b"})], &Options::default(), &tokenizer), []);
    let row = json!({"prompt": "a\n", "completion": "b", "note": "<|im_end|>"});
    assert_eq!(
        notices(&[row], &Options::default(), &tokenizer),
        [notice(Oddity::UnreadColumn, 1, 1, 1, "`note` in 1")]
    );

    let targets = [json!({"prompt": "A:\n", "targets": ["{1}", "{2 and the owl sleeps near the river}"]})];
    let cut = Options { max_length: 12, too_long: TooLong::Truncate, format: Format::Targets, ..Options::default() };
    assert_eq!(notices(&targets, &cut, &tokenizer), [notice(Oddity::CutTarget, 1, 1, 1, "")]);
    assert_eq!(notices(&targets, &Options { end_token: false, ..cut }, &tokenizer), []);
}

/// A role that the template has a word for is known.
#[test]
fn a_role_of_the_template_is_no_oddity() {
    let file = std::fs::read_to_string(fixture("byte_fallback/tokenizer.json")).expect("the fixture is there");
    let roles = |template: &str| {
        let files = [
            ("tokenizer.json", file.as_str()),
            ("tokenizer_config.json", r#"{"eos_token": "</s>"}"#),
            ("chat_template.jinja", template),
        ];
        let tokenizer = Tokenizer::from_texts(&files).unwrap_or_else(|faults| panic!("{faults}"));
        let turn = |role: &str| json!({"role": role, "content": "a"});
        let row = json!({"messages": [turn("robot"), turn("assistant")]});
        notices(&[row], &Options::default(), &tokenizer).len()
    };
    let plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}\
                 {% if add_generation_prompt %}assistant: {% endif %}";
    assert_eq!(roles(plain), 1);
    assert_eq!(roles(&format!("{{% set known = ['robot'] %}}{plain}")), 0);
}
