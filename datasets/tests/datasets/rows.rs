//! Files of rows: what is read, and what is said about rows that are bad.

use datasets::{Dataset, Format, NumberColumn, Options, Way, read};

use super::{byte_level, dataset, faults};

const ROW: &str = r#"{"prompt": "a", "completion": "b"}"#;

fn one(text: &str) -> String {
    let mut found = faults(text, &Options::default());
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn lines_and_lists_are_the_same_rows() {
    let other = r#"{"prompt": "a", "completion": "c"}"#;
    let lines = dataset(&format!("{ROW}\n{other}\n"), &Options::default());
    for text in [
        format!("\u{feff}\r\n{ROW}\r\n\r\n  \r\n{other}"),
        format!("[{ROW},{other}]"),
        format!("\n [ {ROW}\n,\n\n{other} ]\n "),
        format!("[\n{}\n]", [ROW, other].join(",\n").replace(", ", ",\n  ")),
    ] {
        assert_eq!(dataset(&text, &Options::default()).fingerprint, lines.fingerprint, "{text:?}");
    }
    let spread = dataset(&format!("\n\n[\n{}\n ,\n{other}]", ROW.replace(", ", ",\n")), &Options::default());
    assert_eq!(spread.examples.iter().map(|example| example.line).collect::<Vec<_>>(), [4, 7]);
    // Files with a mark of their own, put one behind the other.
    let joined = format!("\u{feff}{ROW}\r\n\u{feff}\r\n\u{feff}{other}\r\n");
    assert_eq!(dataset(&joined, &Options::default()).fingerprint, lines.fingerprint);
    let blank = dataset(&format!("\n{ROW}\n\n\n{other}"), &Options::default());
    assert_eq!(blank.examples.iter().map(|example| example.line).collect::<Vec<_>>(), [2, 5]);
}

#[test]
fn several_files_are_one_data_set_each_with_its_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let paths = [folder.path().join("a.jsonl"), folder.path().join("b.json")];
    std::fs::write(&paths[0], format!("{ROW}\n{ROW}\n")).expect("written");
    std::fs::write(&paths[1], r#"[{"text": "c"}]"#).expect("written");
    let data = read(&paths, &Options::default(), &byte_level()).unwrap_or_else(|faults| panic!("{faults}"));
    let formats: Vec<&str> = data.report.files.iter().map(|file| file.format.as_str()).collect();
    assert_eq!(formats, ["prompt_completion", "text"]);
    assert_eq!(data.examples.iter().map(|example| example.group).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(&*data.examples[2].file, paths[1].to_str().expect("a name"));
    assert_eq!(data.report.to_json()["files"][1]["rows"], 1);

    let missing = [folder.path().join("none.jsonl"), paths[0].clone()];
    let found = read(&missing, &Options::default(), &byte_level()).expect_err("a fault").to_string();
    assert!(found.contains("none.jsonl"), "{found}");
    let nothing = read(&[], &Options::default(), &byte_level()).expect_err("a fault").to_string();
    assert!(nothing.contains("no example is left of 0 rows"), "{nothing}");
    assert!(one("\n \n").starts_with("rows.jsonl: the file has no rows"));
    assert!(one("[ ]").starts_with("rows.jsonl: the file has no rows"));
}

#[test]
fn every_bad_row_is_named() {
    let text = format!("{ROW}\n{{\"prompt\": 3}}\n{ROW} x\n{{\"prompt\": \"a\", \"completion\": \"\"}}\n[1]\n");
    assert_eq!(
        faults(&text, &Options::default()),
        [
            "rows.jsonl:3: broken JSON at column 36: trailing characters hint: each line holds one JSON object, or the whole file one list of them",
            "rows.jsonl:5: the row must be an object, found a list hint: each line holds one JSON object, or the whole file one list of them",
            "rows.jsonl:2: `completion` is missing hint: the row has `prompt`",
            "rows.jsonl:4: `completion` is empty hint: a row must have something to learn: take it out",
        ]
    );
    let many = format!("{ROW}\n{}", "{\"prompt\": \"a\"}\n".repeat(50));
    let lines: Vec<String> = (2..22).map(|line| line.to_string()).collect();
    let told = format!(
        "rows.jsonl:2: `completion` is missing (50 rows: lines {} and 30 more) hint: the row has `prompt`",
        lines.join(", ")
    );
    assert_eq!(faults(&many, &Options::default()), [told]);
    // The lengths are different, and the cause is one.
    let long = format!("{ROW}\n{}\n{}\n", text_of(40), text_of(50));
    let options = Options { max_length: 20, ..Options::default() };
    let found = faults(&long, &options);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("rows.jsonl:2: the row has 42 tokens, more than 20 (2 rows: lines 2, 3)"),
        "{found:?}"
    );
}

fn text_of(length: usize) -> String {
    format!("{{\"prompt\": \"a\", \"completion\": \"{}\"}}", "z".repeat(length))
}

/// serde_json keeps the last of two, and the first would be lost.
#[test]
fn a_key_given_twice_is_refused_where_it_stands() {
    let twice = r#"{"prompt": "a", "completion": "b", "prompt": "c"}"#;
    assert_eq!(
        faults(&format!("{ROW}\n{twice}\n"), &Options::default()),
        ["rows.jsonl:2: the key `prompt` stands there twice: once more at column 43 hint: keep one of the two"]
    );
    let deep = "{\"messages\": [{\"role\": \"user\",\n\"content\": \"a\", \"role\": \"system\"}]}";
    for text in [format!("[{deep}]"), format!("{{\n{}", &deep[1..])] {
        let found = faults(&text, &Options::default());
        assert!(found[0].contains("the key `role` stands there twice") && found.len() == 1, "{found:?}");
        assert!(
            found[0].starts_with(if text.starts_with('[') { "rows.jsonl:2 (element 1):" } else { "rows.jsonl:3:" }),
            "{found:?}"
        );
    }
    // Of two objects each may have it.
    let rows = r#"[{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "b"}]"#;
    assert_eq!(dataset(rows, &Options::default()).examples.len(), 2);
}

#[test]
fn broken_files_never_panic() {
    for text in
        ["{", "[", "[,", "[{}", "[{} {}]", "[{}] x", "[{\"a\":", "nul", "\u{feff}", "]", "{}{}", "[[]]", "[\n\n3]"]
    {
        assert!(!faults(text, &Options::default()).is_empty(), "{text}");
    }
    let deep = "[".repeat(100_000);
    assert!(!faults(&deep, &Options::default()).is_empty());
    assert!(!faults(&format!("{{\"prompt\": {deep}"), &Options::default()).is_empty());
    let cut = format!("{ROW}\n{{\"messages\": [\n{ROW}");
    assert!(one(&cut).starts_with("rows.jsonl:2: broken JSON at column 15: EOF"), "{}", one(&cut));
    assert!(one(&format!("[{ROW}\n{ROW}]")).starts_with("rows.jsonl:2: broken JSON at column 1: expected `,` or `]`"));
    assert!(
        one("[\n{\"prompt\": \"a\",\n \"completion\" \"b\"}]")
            .starts_with("rows.jsonl:3 (element 1): broken JSON at column 15")
    );

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("latin.jsonl");
    std::fs::write(&path, [ROW.as_bytes(), b"\n{\"prompt\": \"\xe9\", \"completion\": \"b\"}\n"].concat())
        .expect("written");
    let found = read(&[path], &Options::default(), &byte_level()).expect_err("a fault").to_string();
    assert!(found.contains("latin.jsonl:2: not UTF-8 at byte 13 of the line"), "{found}");
    let found = read(&[folder.path().to_path_buf()], &Options::default(), &byte_level());
    assert!(found.is_err(), "a folder is no file");
}

#[test]
fn elements_of_a_list_are_named_by_their_number_and_the_lines_own_column() {
    let empty = r#"{"prompt": "a", "completion": ""}"#;
    let found = one(&format!("[{ROW}, {empty}, {ROW}, {empty}]"));
    assert_eq!(
        found,
        "rows.jsonl:1 (element 2): `completion` is empty (2 rows: elements 2, 4) hint: a row must have something to learn: take it out"
    );
    let data = dataset(&format!("[{ROW},\n {ROW}, {ROW}]"), &Options::default());
    let places: Vec<String> = data.examples.iter().map(|example| example.place().to_string()).collect();
    assert_eq!(places, ["rows.jsonl:1 (element 1)", "rows.jsonl:2 (element 2)", "rows.jsonl:2 (element 3)"]);
    // Columns are those of the line, not of the element.
    assert!(one(r#"[{"text": "a"}, {"text" 3}]"#).starts_with("rows.jsonl:1 (element 2): broken JSON at column 25: "));
    assert!(
        one("[{\"text\": \"a\"},\n  {\"text\" 3}]").starts_with("rows.jsonl:2 (element 2): broken JSON at column 11: ")
    );
    assert!(
        one("[{\"text\": \"a\"}, {\"text\":\n 3 4}]")
            .starts_with("rows.jsonl:2 (element 2): broken JSON at column 4: ")
    );
    assert!(one(r#"[{"text": "a"}, {"text": "a", "text": "b"}]"#).contains("once more at column 36"));
    assert!(one(r#"[{"text": "a"}, 3]"#).starts_with("rows.jsonl:1 (element 2): the row must be an object"));
    // Oddities of Python before the broken place do not move it.
    assert!(
        one(r#"[{"text": "a", "x": NaN}, {"text" 3}]"#)
            .starts_with("rows.jsonl:1 (element 2): broken JSON at column 35: ")
    );
    let dropped = Options { max_length: 5, too_long: datasets::TooLong::Drop, ..Options::default() };
    let report = dataset(&format!("[{}, {ROW}]", text_of(30)), &dropped).report;
    assert_eq!(report.dropped[0].to_string(), "rows.jsonl:1 (element 1): 32 tokens, more than 5");
    assert_eq!(report.to_json()["dropped"][0]["element"], 1);
}

#[test]
fn a_file_that_is_cut_off_or_printed_says_so() {
    for (text, what) in [
        (
            format!("{ROW}\n{{\"prompt\": \"a\", \"compl"),
            "rows.jsonl:2: the file ends inside this row hint: it was cut off",
        ),
        (
            format!("[{ROW}, {{\"prompt\": \"a"),
            "rows.jsonl:1 (element 2): the file ends inside this row hint: it was cut off",
        ),
        (format!("[{ROW},"), "rows.jsonl:1 (element 2): the file ends before the list's `]` hint: it was cut off"),
        (format!("[{ROW}\n"), "rows.jsonl:2: the file ends before the list's `]` hint: it was cut off"),
        (
            format!("{ROW}\n{{\"prompt\": \"a\",\n\"completion\": \"b\"}}\n"),
            "a row stands on one line: `jq -c . FILE > rows.jsonl`",
        ),
        ("{'prompt': 'a', 'completion': 'b'}\n".into(), "this is a dictionary as Python prints it"),
        (format!("{ROW}{ROW}\n"), "two rows stand on this line"),
        (
            "{\n\"text\": \"a\"\n}\n{\n\"text\": \"b\"\n}\n".into(),
            "each row stands on a line of its own: `jq -c . FILE > rows.jsonl`",
        ),
    ] {
        let found = faults(&text, &Options::default());
        assert!(found.iter().any(|fault| fault.contains(what)), "{what}: {found:?}");
    }
}

#[test]
fn a_null_in_the_first_row_is_that_rows_fault() {
    let text = format!("{{\"prompt\": \"a\", \"completion\": null}}\n{ROW}\n");
    assert_eq!(one(&text), "rows.jsonl:1: `completion` is null hint: write it, or take the row out");
    let text = "{\"messages\": null}\n{\"messages\": null}\n";
    assert_eq!(one(text), "rows.jsonl:1: `messages` is null (2 rows: lines 1, 2) hint: write it, or take the row out");
    // A table of several shapes has every column in every row.
    let union = format!("{{\"messages\": null, \"text\": null, {}", &ROW[1..]);
    assert_eq!(dataset(&union, &Options::default()).report.files[0].format, "prompt_completion");
    let renamed = Options {
        rename: vec![("q".into(), "prompt".into()), ("a".into(), "completion".into())],
        ..Options::default()
    };
    assert_eq!(
        faults("{\"q\": \"a\", \"a\": null}", &renamed)[0],
        "rows.jsonl:1: `a` is null hint: write it, or take the row out"
    );
}

#[test]
fn a_file_of_another_format_is_one_fault() {
    let text = format!("{ROW}\n").repeat(30);
    let recipe = Options { format: Format::Targets, ..Options::default() };
    let found = faults(&text, &recipe);
    assert_eq!(
        found,
        [
            "rows.jsonl:1: the rows are `prompt_completion` (`prompt`, `completion`), and `data.format` says `targets` hint: leave `data.format` out, or choose the other file"
        ]
    );
    let measured = faults(&text, &Options { way: Way::Flags, ..recipe });
    assert_eq!(measured.len(), 1);
    assert!(measured[0].starts_with("rows.jsonl:1: the rows are `prompt_completion` (`prompt`, `completion`), and `targets` are measured here hint: for the loss of other rows"), "{measured:?}");
}

#[test]
fn columns_of_another_name_are_explained_and_renamed() {
    let text = r#"{"question": "a", "answer": "b"}"#;
    assert_eq!(
        one(text),
        "rows.jsonl:1: no row shape has `question`, `answer` hint: name the columns with `data.rename = { question = \"prompt\", answer = \"completion\" }`, or put them through the chat template with `data.chat = { user = \"question\", assistant = \"answer\" }`"
    );
    let rename = |pairs: &[(&str, &str)]| Options {
        rename: pairs.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect(),
        ..Options::default()
    };
    let pairs = [("question", "prompt"), ("answer", "completion")];
    let renamed = dataset(text, &rename(&pairs));
    assert_eq!(renamed.fingerprint, dataset(ROW, &Options::default()).fingerprint);
    let swapped = dataset(
        r#"{"completion": "a", "prompt": "b"}"#,
        &rename(&[("completion", "prompt"), ("prompt", "completion")]),
    );
    assert_eq!(swapped.fingerprint, renamed.fingerprint);

    let second = faults(&format!("{text}\n{{\"question\": \"a\", \"anwser\": \"b\"}}"), &rename(&pairs));
    assert_eq!(second, ["rows.jsonl:2: `answer` is missing hint: did you mean `answer` where the row says `anwser`?"]);
    let absent = faults(text, &rename(&[("qestion", "prompt"), ("answer", "completion")]));
    assert_eq!(
        absent,
        [
            "rows.jsonl:1: `data.rename` names the column `qestion`, which the first row does not have hint: did you mean `question`?"
        ]
    );
    // A column that rows may have can stand in a later row, and has to stand in one.
    let later = r#"{"instruction": "a", "output": "b"}
{"instruction": "a", "output": "b", "about": "c"}"#;
    assert_eq!(dataset(later, &rename(&[("about", "input")])).examples.len(), 2);
    let nowhere = faults(later, &rename(&[("beside", "input")]));
    let told =
        "`data.rename` names the column `beside`, which no row has hint: the first row has `instruction`, `output`";
    assert_eq!(nowhere, [told]);
    let unknown = faults(text, &rename(&[("question", "promt")]));
    assert_eq!(unknown, ["`data.rename` gives `question` the unknown key `promt` hint: did you mean `prompt`?"]);
}

#[test]
fn a_misspelt_field_finds_its_name() {
    assert_eq!(
        one(r#"{"promt": "a", "completion": "b"}"#),
        "rows.jsonl:1: no row shape has `promt`, `completion` hint: did you mean `prompt` for `promt`?"
    );
    let text = r#"{"mesages": []}"#;
    assert!(one(text).ends_with("did you mean `messages` for `mesages`?"), "{}", one(text));
    let forced = faults(text, &Options { format: Format::Messages, ..Options::default() });
    assert_eq!(
        forced,
        ["rows.jsonl:1: `messages` is missing hint: did you mean `messages` where the row says `mesages`?"]
    );
    assert!(one(r#"{"zzz": 1}"#).contains("one of: targets (`targets`), intent (`intent`, `response`)"));
}

#[test]
fn a_file_of_mixed_shapes_is_refused() {
    assert_eq!(
        one(&format!("{ROW}\n{{\"text\": \"a\"}}")),
        "rows.jsonl:2: this row is `text` in a file of `prompt_completion` hint: put rows of different shapes into files of their own"
    );
}

#[test]
fn bad_conversations_are_named() {
    let of = |messages: &str| one(&format!("{{\"messages\": {messages}}}"));
    for (messages, message) in [
        ("3", "`messages` must be a list, found the number `3`"),
        ("[]", "the conversation has no message hint: take the row out"),
        (r#"["hi"]"#, "`messages[0]` must be an object, found a string"),
        (r#"[{"role": "user", "content": 3}]"#, "`messages[0].content` must be a string, found the number `3`"),
        (r#"[{"role": "user", "contnet": "a"}]"#, "`messages[0].content` is missing hint: the message has `contnet`"),
        (r#"[{"role": "user", "content": "a"}]"#, "no message has the role `assistant` hint: the roles are `user`"),
        (
            r#"[{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]"#,
            "message 1 of the assistant is empty",
        ),
        (r#"[{"role": "user", "content": null}]"#, "`messages[0].content` is null"),
        (r#"[{"role": "assistant", "content": "a", "tool_calls": 3}]"#, "`messages[0].tool_calls` must be a list"),
    ] {
        let found = of(messages);
        assert!(found.starts_with(&format!("rows.jsonl:1: {message}")), "{found}");
    }
}

#[test]
fn rows_need_a_chat_template_and_a_stop_token_where_they_end() {
    let tokenizer = std::fs::read_to_string(super::fixture("byte_level/tokenizer.json")).expect("the fixture is there");
    let files = [("tokenizer.json", tokenizer.as_str())];
    let bare = datasets::Tokenizer::from_texts(&files).expect("a tokenizer");
    let chat = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
    let found = |text: &str, tokenizer| {
        datasets::read_text("r", text, &Options::default(), tokenizer).expect_err("a fault").to_string()
    };
    assert!(found(chat, &bare).contains("hint: convert the rows to `prompt` and `completion`"));
    assert!(found(ROW, &bare).contains("the tokenizer has no end token"));

    // Qwen's base models: the template ends a turn with a token at which generation does not stop.
    let config = r#"{"eos_token": "<|endoftext|>", "chat_template": "{% for m in messages %}{{ m.role + ':' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"}"#;
    let base = datasets::Tokenizer::from_texts(&[files[0], ("tokenizer_config.json", config)]).expect("a tokenizer");
    let fault = found(chat, &base);
    assert!(fault.starts_with("r: no row teaches the model where to stop"), "{fault}");
    assert!(fault.contains("ends with \"<|im_end|>\", but the model stops at `<|endoftext|>`"), "{fault}");
    assert!(fault.contains("set `data.end_of_turn = \"<|im_end|>\"`"), "{fault}");
    let settings = datasets::ChatSettings { end_of_turn: Some("<|im_end|>".into()), ..Default::default() };
    let base = base.with_chat(&settings).expect("a tokenizer");
    assert!(datasets::read_text("r", chat, &Options::default(), &base).is_ok());
}

#[test]
fn the_report_prints_totals_and_lengths() {
    let rows: String = [1, 1, 1, 30].map(|length| format!("{{\"text\": \"{}\"}}\n", "z".repeat(length))).concat();
    let options = Options { max_length: 25, too_long: datasets::TooLong::Drop, ..Options::default() };
    let printed = dataset(&format!("{rows}{{\"text\": \"zzzzzzzzzzzzzz\"}}"), &options).report.to_string();
    let expected = "\
rows.jsonl: 5 rows, text
4 examples, 21 tokens, 17 of them learned (81.0 %), 2 to 15 tokens each
dropped 1:
  rows.jsonl:4: 31 tokens, more than 25
   2 to  3 tokens  3 ########################################
   4 to  5 tokens  0
   6 to  7 tokens  0
   8 to  9 tokens  0
  10 to 11 tokens  0
  12 to 13 tokens  0
  14 to 15 tokens  1 ##############
";
    assert_eq!(printed, expected);
}

/// A column that the objective asks for is a number of every answer of its row; it is no column that nothing reads, and rows
/// are the same rows without it.
#[test]
fn a_column_of_numbers_goes_with_its_rows() {
    let of = |name: &str, least: f64, required: bool| Options {
        number: Some(NumberColumn { name: name.into(), least, required }),
        ..Options::default()
    };
    // `sample_weight` is refused of rows that are learned as they are.
    let text = r#"{"prompt": "a", "completion": "b", "sample_weight": 0.25}
{"prompt": "a", "completion": "c", "sample_weight": 3}
"#;
    let refused = faults(text, &Options::default());
    assert!(refused[0].contains("nothing reads `sample_weight`"), "{refused:?}");
    let asked = dataset(text, &of("sample_weight", 0.0, true));
    assert_eq!(asked.examples.iter().map(|example| example.number).collect::<Vec<_>>(), [Some(0.25), Some(3.0)]);
    let is_told = |data: &Dataset, name: &str| data.report.notices.iter().any(|notice| notice.what.contains(name));
    assert!(!is_told(&asked, "sample_weight"), "{:?}", asked.report.notices);
    let plain = dataset(&text.replace("sample_weight", "note"), &Options::default());
    assert_eq!(plain.examples.iter().map(|example| example.number).collect::<Vec<_>>(), [None, None]);
    assert!(is_told(&plain, "note") && plain.fingerprint != asked.fingerprint, "{:?}", plain.report.notices);
    let without = dataset(&format!("{ROW}\n"), &of("sample_weight", 0.0, false));
    assert_eq!(without.fingerprint, dataset(&format!("{ROW}\n"), &Options::default()).fingerprint);

    let row = |value: &str| format!(r#"{{"prompt": "a", "completion": "b", "score": {value}}}"#);
    let ignored = Options { ignore: vec!["score".into()], ..of("score", 0.0, true) };
    for (row, options, parts) in [
        (row("1"), of("scores", 0.0, true), ["`scores` is missing", "did you mean `score`?"]),
        (row("1"), of("reward", 0.0, true), ["`reward` is missing", "the row has `prompt`, `completion`, `score`"]),
        (row("null"), of("score", 0.0, true), ["`score` is null", "write a number"]),
        (row("\"1\""), of("score", 0.0, true), ["`score` must be a number, found a string", "change the row"]),
        (row("-0.5"), of("score", 0.0, true), ["`score` must be 0 or more, found -0.5", "change the row"]),
        (row("NaN"), of("score", -1.0, false), ["`score` is", "write what is meant"]),
        (row("1"), ignored, ["`data.ignore` names `score`", "take it out"]),
        (row("1"), of("prompt", 0.0, true), ["`prompt` must be a number, found a string", "change the row"]),
    ] {
        let found = faults(&row, &options);
        assert!(found.len() == 1 && parts.iter().all(|part| found[0].contains(part)), "{found:?}");
    }
    let any = dataset(&row("-0.5"), &of("score", f64::MIN, false));
    assert_eq!(any.examples[0].number, Some(-0.5));
}
