//! Whole numbers of more than 64 bits in what a template is given: written as Python writes them, or refused by name.

use datasets::{Options, Tokenizer, read_prompts, read_text};

/// Writes tools, a switch, and of messages calls and words.
const TEMPLATE: &str = "{%- if tools %}{{ tools | tojson }}{% endif -%}{%- if limit is defined %}{{ limit }}{% endif -%}\
    {%- for m in messages -%}{{- '<' + m.role + '>' -}}\
    {%- if m.tool_calls %}{{ m.tool_calls[0].function.name + (m.tool_calls[0].function.arguments | tojson) }}{% endif -%}\
    {{- (m.content or '') + '<|im_end|>' -}}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";

fn tokenizer() -> Tokenizer {
    let file = std::fs::read_to_string(super::fixture("byte_level/tokenizer.json")).expect("the fixture is there");
    let settings = r#"{"eos_token": "<|im_end|>"}"#;
    let files =
        [("tokenizer.json", file.as_str()), ("tokenizer_config.json", settings), ("chat_template.jinja", TEMPLATE)];
    Tokenizer::from_texts(&files).unwrap_or_else(|faults| panic!("{faults}"))
}

fn text(rows: &str) -> Result<String, String> {
    let tokenizer = tokenizer();
    let data = read_text("r", rows, &Options::default(), &tokenizer).map_err(|faults| faults.to_string())?;
    assert_eq!(data.report.notices, []);
    Ok(tokenizer.decode(&data.examples[0].ids, false).expect("text"))
}

fn called(arguments: &str) -> String {
    format!(
        r#"{{"messages": [{{"role": "user", "content": "q"}}, {{"role": "assistant", "content": null, "tool_calls": [{{"type": "function", "function": {{"name": "f", "arguments": {arguments}}}}}]}}]}}"#
    )
}

/// As `json.dumps(json.loads(text))` has them, each with what that is.
const NUMBERS: [(&str, &str); 8] = [
    ("12345678901234567890123", "12345678901234567890123"),
    ("-12345678901234567890123", "-12345678901234567890123"),
    ("18446744073709551616", "18446744073709551616"),
    ("18446744073709551615", "18446744073709551615"),
    ("-9223372036854775809", "-9223372036854775809"),
    ("340282366920938463463374607431768211455", "340282366920938463463374607431768211455"),
    ("-0", "0"),
    ("1e22", "1e+22"),
];

#[test]
fn they_are_written_to_the_digit() {
    for (number, written) in NUMBERS {
        let object = format!("{{\"n\": {number}}}");
        let expected = format!("<user>q<|im_end|><assistant>f{{\"n\": {written}}}<|im_end|>");
        // As an object, as JSON in a text, in a file that is one list, and beside what is no JSON.
        let row = called(&object);
        let in_text = called(&serde_json::Value::from(object.as_str()).to_string());
        let beside = row.replacen('{', "{\"unread\": [NaN], ", 1);
        for rows in [&row, &in_text, &format!("[{row}, {row}]")] {
            assert_eq!(text(rows).as_ref(), Ok(&expected), "{rows}");
        }
        for rows in [format!("[{beside}]"), beside] {
            let tokenizer = tokenizer();
            let data = read_text("r", &rows, &Options::default(), &tokenizer).unwrap_or_else(|f| panic!("{f}"));
            assert_eq!(tokenizer.decode(&data.examples[0].ids, false).as_ref(), Ok(&expected), "{rows}");
        }
        let plain = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "#;
        let answered = "<user>q<|im_end|><assistant>a<|im_end|>";
        let tools = format!("[{{\"maximum\": {written}}}]");
        for given in [format!("[{{\"maximum\": {number}}}]"), format!("\"[{{\\\"maximum\\\": {number}}}]\"")] {
            assert_eq!(text(&format!("{plain}\"tools\": {given}}}")), Ok(format!("{tools}{answered}")));
        }
        let switch = format!("{plain}\"chat_template_kwargs\": {{\"limit\": {number}}}}}");
        assert_eq!(text(&switch), Ok(format!("{written}{answered}")));
    }
}

#[test]
fn those_of_more_than_128_bits_are_refused_by_name() {
    let number = "340282366920938463463374607431768211456";
    let object = format!("{{\"n\": {number}}}");
    let what = format!("is `{number}`, a whole number of more than 128 bits");
    let in_text = called(&serde_json::Value::from(object.as_str()).to_string());
    for (row, name) in [
        (called(&object), "`messages[1].tool_calls[0].function.arguments.n`"),
        (in_text, "`messages[1].tool_calls[0].arguments.n`"),
    ] {
        let found = text(&row).expect_err("refused");
        assert!(
            found.contains(&format!("{name} {what}")) && found.contains("r:1") && found.contains("hint"),
            "{found}"
        );
    }
    // What nobody reads may be any number.
    let row = format!("{{\"id\": {number}, {}", &called("{}")[1..]);
    assert!(read_text("r", &row, &Options::default(), &tokenizer()).is_ok());
    // In the place of another type it is named as what it is.
    let found = text(r#"{"messages": [{"role": "user", "content": 12345678901234567890123}]}"#).expect_err("a number");
    assert!(found.contains("must be a string, found the number `12345678901234567890123`"), "{found}");
    let found = text(r#"{"prompt": "a", "targets": ["b"], "weights": [12345678901234567890123]}"#).expect_err("one");
    assert!(found.contains("the number `12345678901234567890123`, of more than 64 bits"), "{found}");
}

#[test]
fn prompts_keep_them_for_their_samples() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("prompts.jsonl");
    std::fs::write(&path, "{\"prompt\": \"a\", \"id\": 12345678901234567890123}\n").expect("written");
    let prompts = read_prompts(&path, crate::asking(&[], false)).unwrap_or_else(|faults| panic!("{faults}"));
    let columns = serde_json::Value::Object(prompts.rows[0].columns.clone());
    assert_eq!(faults::json::to_line(&columns), r#"{"id":12345678901234567890123}"#);
}
