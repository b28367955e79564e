//! What a row says and nothing reads: counted, or refused where it has a meaning.

use datasets::{Asking, Format, Notice, Oddity, Options, Unread, Way, read_prompts, read_samples, read_text};
use serde_json::{Value, json};

use super::{asking, dataset, faults, with_chat_template};

fn text(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

fn refused(row: &Value) -> String {
    let found = faults(&row.to_string(), &Options::default());
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().expect("one")
}

#[test]
fn columns_that_nothing_reads_are_counted_by_name() {
    let rows = [
        json!({"prompt": "a", "completion": "b", "id": 1, "source": "x"}),
        json!({"prompt": "a", "completion": "b", "id": 2, "source": null, "tags": []}),
        json!({"prompt": "a", "completion": "b"}),
    ];
    let report = dataset(&text(&rows), &Options::default()).report;
    let unread = [("id", 2), ("source", 1)].map(|(name, rows)| Unread { name: name.into(), rows });
    assert_eq!(report.unread, unread);
    let expected = Notice {
        oddity: Oddity::UnreadColumn,
        rows: 2,
        of: 3,
        file: "rows.jsonl".into(),
        line: 1,
        element: None,
        what: "`id` in 2, `source` in 1".into(),
        way: Way::Recipe,
    };
    assert_eq!(report.notices[1..], [expected]);
    let told = report.notices[1].to_string();
    assert!(
        told.starts_with("2 of 3 rows have what nothing reads, first rows.jsonl:1: `id` in 2, `source` in 1;"),
        "{told}"
    );
    // What no flag says is not told to who has flags alone.
    let measured = Notice { way: Way::Flags, ..report.notices[1].clone() }.to_string();
    assert!(told.ends_with("; `data.ignore` names what is left out on purpose") && !measured.contains("data."));
    let ignoring = Options { ignore: vec!["id".into(), "source".into()], ..Options::default() };
    assert_eq!(dataset(&text(&rows), &ignoring).report.unread, []);
    let wide: Value = (0..30)
        .map(|n| (format!("c{n:02}"), json!(1)))
        .chain([("text".into(), json!("a"))])
        .collect::<serde_json::Map<_, _>>()
        .into();
    let told = dataset(&wide.to_string(), &Options::default()).report.notices[0].to_string();
    assert!(told.contains("`c19` in 1 and 10 more;"), "{told}");
}

#[test]
fn columns_with_a_meaning_are_refused_unless_they_say_nothing() {
    let row = |base: &Value, key: &str, value: Value| {
        let mut row = base.clone();
        row[key] = value;
        row
    };
    let plain = json!({"prompt": "a", "completion": "b"});
    let alpaca = json!({"instruction": "a", "output": "b"});
    let targets = json!({"prompt": "a", "targets": ["b", "c"]});
    for (base, key, value) in [
        (&plain, "history", json!([["x", "y"]])),
        (&plain, "weight", json!(0.5)),
        (&plain, "train", json!(false)),
        (&plain, "loss", json!(0.3)),
        (&plain, "mask", json!([0, 1])),
        (&plain, "rejected", json!("c")),
        (&plain, "rejected_score", json!(0.1)),
        (&plain, "label", json!(false)),
        (&plain, "kto_tag", json!(true)),
        (&plain, "reasoning", json!("because")),
        (&plain, "thinking", json!("because")),
        (&plain, "context", json!("c")),
        (&plain, "system_prompt", json!("s")),
        (&plain, "images", json!(["a.png"])),
        (&plain, "completions", json!(["b", "c"])),
        (&plain, "labels", json!([1, 2])),
        (&alpaca, "inputs", json!("Guten Tag")),
        (&alpaca, "context", json!("c")),
        (&alpaca, "query", json!("c")),
        (&alpaca, "tools", json!([{"name": "f"}])),
        (&alpaca, "histroy", json!([["x", "y"]])),
        (&alpaca, "sytem", json!("s")),
        (&targets, "weight", json!([0.9, 0.1])),
        (&targets, "probabilities", json!([0.9, 0.1])),
        (&targets, "probs", json!([0.9, 0.1])),
        (&targets, "weigths", json!([0.9, 0.1])),
        (&targets, "wieghts", json!([0.9, 0.1])),
        (&targets, "prob", json!([0.9, 0.1])),
        (&targets, "counts", json!([9, 1])),
        (&targets, "frequencies", json!({"b": 9, "c": 1})),
    ] {
        let bad = row(base, key, value);
        let found = refused(&bad);
        assert!(found.starts_with(&format!("rows.jsonl:1: nothing reads `{key}` of rows of `")), "{found}");
        assert!(found.contains(&format!("or leave it out: `data.ignore = [\"{key}\"]`")), "{found}");
        let measured = faults(&bad.to_string(), &Options { way: Way::Flags, ..Options::default() }).remove(0);
        assert!(measured.ends_with("; or take it out"), "{measured}");
        let ignoring = Options { ignore: vec![key.into()], ..Options::default() };
        let options = Options { prefix_free: datasets::PrefixFree::Off, ..ignoring };
        assert_eq!(
            dataset(&bad.to_string(), &options).fingerprint,
            dataset(&base.to_string(), &Options { ignore: Vec::new(), ..options.clone() }).fingerprint
        );
    }
    for (key, value) in [
        ("history", json!([])),
        ("weight", json!(1)),
        ("weight", json!(1.0)),
        ("train", json!(true)),
        ("masked", json!(false)),
        ("rejected", json!(null)),
        ("label", json!(3)),
        ("reasoning", json!("")),
        ("tools", json!([])),
        ("topics", json!(["x"])),
        ("index", json!(3)),
    ] {
        let report = dataset(&row(&plain, key, value.clone()).to_string(), &Options::default()).report;
        let says = !matches!(&value, Value::Null) && value != json!([]) && value != json!("");
        assert_eq!(report.unread.len(), usize::from(says), "{key} {value}: {:?}", report.unread);
    }
    let named = refused(&row(&targets, "probs", json!([0.9, 0.1])));
    assert!(named.contains("is it `weights`? then set `data.rename = { probs = \"weights\" }`"), "{named}");
    for logarithms in [json!([-0.1, -2.3]), json!({"b": -0.1, "c": -2.3})] {
        let found = refused(&row(&targets, "logprobs", logarithms.clone()));
        assert!(found.contains("these are logarithms") && !found.contains("data.rename"), "{found}");
    }
    let logits = refused(&row(&targets, "logits", json!([2.0, 0.5])));
    assert!(logits.contains("these are logits") && !logits.contains("data.rename"), "{logits}");
    let without = Options { ignore: vec!["completion".into()], ..Options::default() };
    let found = faults(&plain.to_string(), &Options { format: Format::PromptCompletion, ..without });
    assert!(
        found[0].starts_with("`data.ignore` names `completion`, without which")
            || found[0].contains("`data.ignore` names `completion`"),
        "{found:?}"
    );
}

#[test]
fn text_is_not_taken_where_it_may_be_half_of_a_row() {
    for half in ["code", "answer", "output", "response", "completion", "summary", "question", "prompt"] {
        let found = refused(&json!({"text": "a", half: "b", "id": 3}));
        assert!(found.contains(&format!("the row has `text`, and `{half}` which may belong to it")), "{found}");
        assert!(found.contains("`data.format = \"text\"` trains `text` alone"), "{found}");
    }
    let found = refused(&json!({"text": "a", "code": "b"}));
    assert!(found.contains("data.rename = { text = \"prompt\", code = \"completion\" }"), "{found}");
    assert!(found.contains("data.chat = { user = \"text\", assistant = \"code\" }"), "{found}");
    let found = refused(&json!({"prompt": "a", "text": "b"}));
    assert!(found.contains("data.chat = { user = \"prompt\", assistant = \"text\" }"), "{found}");
    let row = json!({"text": "a", "code": "b"}).to_string();
    let told = dataset(&row, &Options { format: Format::Text, ..Options::default() }).report;
    assert_eq!(told.unread, [Unread { name: "code".into(), rows: 1 }]);
    let ignoring = Options { ignore: vec!["code".into()], ..Options::default() };
    assert_eq!(dataset(&row, &ignoring).report.unread, []);
    for other in
        [json!({"text": "a", "title": "b"}), json!({"text": "a", "label": 1}), json!({"text": "a", "answer": null})]
    {
        assert_eq!(dataset(&other.to_string(), &Options::default()).report.files[0].format, "text");
    }
}

#[test]
fn a_row_of_two_shapes_is_asked_about() {
    let both = json!({"prompt": "a", "completion": "b", "instruction": "c", "output": "d"});
    let found = refused(&both);
    assert!(found.contains("the row is both `alpaca` (`instruction`, `output`) and `prompt_completion`"), "{found}");
    let options = Options { format: Format::Alpaca, ..Options::default() };
    let report = dataset(&both.to_string(), &options).report;
    assert_eq!(report.unread.len(), 2, "{:?}", report.unread);
    // The text of a row beside its parts is what others make of them.
    let with_text = json!({"instruction": "a", "output": "b", "text": "a b"});
    assert_eq!(dataset(&with_text.to_string(), &Options::default()).report.files[0].format, "alpaca");
}

#[test]
fn rows_of_another_purpose_are_told_what_they_are() {
    for (row, what) in [
        (json!({"prompt": "a", "chosen": "b", "rejected": "c"}), "pairs of preferences"),
        (
            json!({"chosen": [{"role": "user", "content": "a"}], "rejected": []}),
            "data.rename = { chosen = \"messages\" }",
        ),
        (json!({"input_ids": [1, 2]}), "token ids of another tokenizer"),
        (json!({"role": "user", "content": "a"}), "a row is an object with all turns"),
        (json!({"from": "human", "value": "a"}), "a row is an object with all turns"),
        (
            json!({"data": [{"prompt": "a"}, {"prompt": "b"}]}),
            "the rows lie under `data`: `jq -c '.data[]' FILE > rows.jsonl`",
        ),
        (json!({"data": [{"prompt": "a"}]}), "the rows lie under `data`"),
        (json!({"prompt": "a", "target": ["b", "c"]}), "data.rename = { target = \"targets\" }"),
        (json!({"prompt": "a", "completions": ["b"]}), "data.rename = { completions = \"targets\" }"),
        (json!({"prompt": "a", "target": "b"}), "data.rename = { target = \"completion\" }"),
        (json!({"prompt": "a", "intents": "b", "response": "c"}), "data.rename = { intents = \"intent\" }"),
        (json!({"Question": "a", "Answer": "b"}), "data.rename = { Question = \"prompt\", Answer = \"completion\" }"),
        (json!({"question": "a", "answer": "b"}), "data.chat = { user = \"question\", assistant = \"answer\" }"),
        (json!({"msgs": []}), "data.rename = { msgs = \"messages\" }"),
        (json!({"prompt": "a", "complete": "b"}), "data.rename = { complete = \"completion\" }"),
    ] {
        if row.as_object().expect("an object").contains_key("chosen") && row.get("prompt").is_some() {
            assert!(refused(&row).contains(what), "{}", refused(&row));
            continue;
        }
        let found = refused(&row);
        assert!(found.contains("no row shape has") && found.contains(what), "{found}");
    }
    let list = format!("[[{}]]", json!({"from": "human", "value": "a"}));
    assert!(faults(&list, &Options::default())[0].contains("the row is a list of turns"));
    let columns = json!({"prompt": {"0": "a", "1": "b"}, "completion": {"0": "c", "1": "d"}});
    assert!(refused(&columns).contains("orient='records'"), "{}", refused(&columns));
}

#[test]
fn fields_of_messages_that_nothing_reads_are_counted() {
    let template = "{% for m in messages %}{{ m.name or '' }}{{ m.content }}{% if m.role == 'assistant' %}<|im_end|>{% endif %}{% endfor %}";
    let tokenizer = super::with_chat_template(template);
    let row = json!({"messages": [
        {"role": "user", "content": "a", "name": "n", "id": 3, "tool_call_id": null},
        {"role": "assistant", "content": "b", "id": 4, "weight": 1}
    ]});
    let data =
        read_text("r", &row.to_string(), &Options::default(), &tokenizer).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(data.report.unread, [Unread { name: "messages[].id".into(), rows: 1 }]);
    let ignoring = Options { ignore: vec!["id".into()], ..Options::default() };
    let data = read_text("r", &row.to_string(), &ignoring, &tokenizer).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(data.report.unread, []);

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("p.jsonl");
    std::fs::write(&path, json!({"messages": row["messages"].as_array().expect("a list")[..1], "id": 1}).to_string())
        .expect("written");
    let prompts = read_prompts(&path, asking(&[], false)).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(prompts.rows[0].columns, json!({"id": 1}).as_object().expect("an object").clone());
    assert_eq!(prompts.notices(&tokenizer)[0].what, "`messages[].id` in 1");
}

#[test]
fn prompts_are_asked_with_all_that_the_row_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("p.jsonl");
    let read = |row: Value, rename: &[(String, String)], chat: bool| {
        std::fs::write(&path, row.to_string()).expect("written");
        read_prompts(&path, asking(rename, chat)).map_err(|faults| faults.to_string())
    };
    let conversation = |row: Value, rename: &[(String, String)], chat: bool| {
        let rows = read(row, rename, chat).unwrap_or_else(|faults| panic!("{faults}")).rows;
        match &rows[0].asked {
            datasets::Asked::Conversation(conversation) => conversation.clone(),
            other => panic!("{other:?}"),
        }
    };
    let asked = conversation(json!({"prompt": "a", "system": "s", "tools": "[{\"name\": \"f\"}]"}), &[], true);
    assert_eq!(json!(asked.messages), json!([{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]));
    assert_eq!(asked.tools, Some(json!([{"name": "f"}])));
    let rename = [("question", "prompt"), ("rules", "system")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    let renamed = conversation(json!({"question": "a", "rules": "s", "id": 1}), &rename, true);
    assert_eq!(json!(renamed.messages), json!(asked.messages));
    let listed = conversation(json!({"prompt": [{"role": "user", "content": "a"}]}), &[], false);
    assert_eq!(json!(listed.messages), json!([{"role": "user", "content": "a"}]));
    let shared = conversation(json!({"conversations": [{"from": "human", "value": "a"}]}), &[], false);
    assert_eq!(json!(shared.messages), json!([{"role": "user", "content": "a"}]));
    for (row, what) in [
        (json!({"prompt": "a", "system": "s"}), "with `--chat`, or write it as `messages`"),
        (json!({"prompt": "a", "template_arguments": {"b": 1}}), "is it `chat_template_kwargs`?"),
        (json!({"prompt": "a", "tool_choice": "auto"}), "a chat template is not given it"),
        (json!({"prompt": "a", "chat_template": "{{ b }}"}), "a template is a file of its own: `--chat-template`"),
        (json!({"prompt": "a", "add_generation_prompt": false}), "the assistant's turn is opened for each"),
        (json!({"prompt": "a", "continue_final_message": true}), "the assistant's turn is opened for each"),
        (json!({"prompt": "a", "history": [["b", "c"]]}), "nothing reads `history` of a prompt"),
        (json!({"prompt": "a", "system_prompt": "s"}), "is it `system`? then set `--rename system_prompt=system`"),
        (
            json!({"messages": [{"role": "user", "content": "a"}], "systm": "s"}),
            "is it `system`? then set `--rename systm=system`",
        ),
        (json!({"prompt": "a", "Tools": [{"name": "f"}]}), "is it `tools`? then set `--rename Tools=tools`"),
        (json!({"prompt": "a", "chat_template_kwarg": {"b": 1}}), "is it `chat_template_kwargs`?"),
        (
            json!({"prompt": "a", "enable_thinking": false}),
            "write `\"chat_template_kwargs\": {\"enable_thinking\": ..}`",
        ),
        (json!({"prompt": "a", "reasoning_effort": "low"}), "it is a switch of chat templates"),
        (json!({"prompt": null}), "`prompt` is null"),
        (json!({"messages": [{"role": "assistant", "content": "a"}]}), "`messages` ends with the assistant's turn"),
    ] {
        let found = read(row, &[], false).expect_err("a fault");
        assert!(found.contains(what), "{found}");
    }
    // Columns that go along: a text under the name of a switch, a score under one that is near nothing.
    let columns = json!({"thinking": "two and two", "score": 1, "id": 7, "add_generation_prompt": true});
    let mut carried = columns.clone();
    carried["prompt"] = "a".into();
    let rows = read(carried, &[], false).unwrap_or_else(|faults| panic!("{faults}")).rows;
    assert_eq!(json!(rows[0].columns), columns);
    let unknown = read(json!({"prompt": "a"}), &[("a".into(), "promt".into())], false).expect_err("a fault");
    assert!(unknown.contains("`--rename` gives `a` the unknown key `promt`"), "{unknown}");
    std::fs::write(&path, "{\"promt\": \"a\"}\n".repeat(30)).expect("written");
    let found = read_prompts(&path, asking(&[], false)).expect_err("faults");
    assert_eq!(found.list().len(), 1, "{found}");
    assert!(found.to_string().contains("`prompt` is missing (30 rows: lines 1, 2,"), "{found}");
}

/// What a template is given, and which fields it reads, is known once there is one.
#[test]
fn prompts_lose_no_field_of_a_message_and_no_switch() {
    const BUDGET: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if thinking_budget %}{{ thinking_budget }}{% endif %}";
    let tokenizer = with_chat_template(BUDGET);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("p.jsonl");
    let fitted = |row: Value, way: Way| {
        std::fs::write(&path, row.to_string()).expect("written");
        let prompts =
            read_prompts(&path, Asking { way, ..Asking::default() }).unwrap_or_else(|faults| panic!("{faults}"));
        prompts.rows[0].fitted(&tokenizer, way).map_err(|fault| fault.to_string())
    };
    let asks = |more: Value| {
        let mut message = json!({"role": "user", "content": "a"});
        message.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"messages": [message]})
    };
    for (row, what) in [
        (asks(json!({"tools": [{"name": "f"}]})), "write it beside the messages, as the row's `tools`; or "),
        (asks(json!({"wieght": 0})), "did you mean `weight`?"),
        (asks(json!({"reasoning_contents": "b"})), "did you mean `reasoning_content`?"),
        (json!({"prompt": "a", "thinking_budget": 512}), "`\"chat_template_kwargs\": {\"thinking_budget\": ..}`"),
    ] {
        for way in [Way::Flags, Way::Recipe] {
            let found = fitted(row.clone(), way).expect_err("a fault");
            assert!(found.contains(what), "{found}");
        }
    }
    for row in [asks(json!({"id": 1, "weight": 0})), json!({"prompt": "a", "thinking_budget": null, "budget": 1})] {
        fitted(row, Way::Flags).unwrap_or_else(|fault| panic!("{fault}"));
    }
    std::fs::write(&path, json!({"messages": [], "systm": "s"}).to_string()).expect("written");
    let found = read_prompts(&path, Asking::default()).expect_err("a fault").to_string();
    assert!(found.contains("is it `system`? then set `data.rename = { systm = \"system\" }`"), "{found}");
}

#[test]
fn samples_lose_nothing_without_a_word() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s.jsonl");
    let read = |rows: &[Value]| {
        std::fs::write(&path, text(rows)).expect("written");
        read_samples(&path, &[]).map_err(|faults| faults.to_string())
    };
    let row = json!({"prompt": "a", "text": "b", "sample": 0, "ids": [1], "stopped": true, "temperature": 1, "correct": true});
    let samples = read(&[row.clone(), row]).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(samples.notices.len(), 1);
    assert_eq!(samples.notices[0].what, "`temperature` in 2");
    for (row, what) in [
        (
            json!({"prompt": "a", "text": "b", "passed": true}),
            "nothing reads `passed` of a sample hint: is it `correct`?",
        ),
        (
            json!({"prompt": "a", "text": "b", "corect": true}),
            "nothing reads `corect` of a sample hint: is it `correct`?",
        ),
        (json!({"prompt": "a", "same": [], "n": 2, "text": "b"}), "the row has both `same` and `text`"),
    ] {
        let found = read(&[row]).expect_err("a fault").replace('\n', " ");
        assert!(found.contains(what), "{found}");
    }
}

/// A model with a chat template that is trained on plain questions is asked otherwise than it has learned.
#[test]
fn questions_outside_of_a_chat_template_are_noticed() {
    let template = "{% for m in messages %}{{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}\
                    {% if add_generation_prompt %}assistant:{% endif %}";
    let (with, without) = (super::with_chat_template(template), super::byte_fallback());
    let notices = |row: &Value, tokenizer| {
        let data = read_text("r", &row.to_string(), &Options::default(), tokenizer)
            .unwrap_or_else(|faults| panic!("{faults}"));
        data.report.notices.iter().map(|notice| notice.oddity).collect::<Vec<_>>()
    };
    for row in [json!({"prompt": "a\n", "completion": "b"}), json!({"instruction": "a", "output": "b"})] {
        assert!(notices(&row, &with).contains(&Oddity::Untemplated), "{row}");
        assert!(!notices(&row, &without).contains(&Oddity::Untemplated), "{row}");
    }
    // Rows with targets or intents go through the template where they have messages.
    let (targets, asked) = (json!(["b", "c"]), json!([{"role": "user", "content": "a"}]));
    let plain =
        [json!({"prompt": "a\n", "targets": targets}), json!({"prompt": "a\n", "intent": "i", "response": "b"})];
    let through_it = [json!({"messages": asked, "targets": targets}), json!({"request": "a", "targets": targets})];
    assert!(plain.iter().all(|row| notices(row, &with).contains(&Oddity::Untemplated)));
    assert!(through_it.iter().all(|row| !notices(row, &with).contains(&Oddity::Untemplated)));
    assert!(!notices(&json!({"text": "a"}), &with).contains(&Oddity::Untemplated));
    assert!(!notices(&json!({"prompt": "<|im_start|>a", "completion": "b"}), &with).contains(&Oddity::Untemplated));
}

#[test]
fn fields_of_messages_and_of_parts_with_a_meaning_are_refused() {
    let row = |field: &str, value: Value| json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", field: value}]});
    for (field, value) in [
        ("thought", json!("t")),
        ("thoughts", json!("t")),
        ("cot", json!("t")),
        ("reasoning_details", json!([{"type": "reasoning.text", "text": "t"}])),
        ("no_loss", json!(true)),
        ("train_mask", json!(0)),
    ] {
        let found = refused(&row(field, value));
        assert!(
            found.contains(&format!("`messages[1].{field}` is not read")) && found.contains("data.ignore"),
            "{found}"
        );
    }
    let found = refused(&row("trained", json!(false)));
    assert!(found.contains("every turn of the assistant is left out by the row itself"), "{found}");
    let part = |field: &str, value: Value| {
        let parts = json!([{"type": "text", "text": "b", field: value}, {"type": "text", "text": "c"}]);
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": parts}]})
    };
    for (field, value) in [
        ("weight", json!(0)),
        ("train", json!(false)),
        ("masked", json!(true)),
        ("weight", json!(0.5)),
        ("annotations", json!([{"type": "url"}])),
        ("content", json!("other")),
    ] {
        let found = refused(&part(field, value.clone()));
        let what = if field == "content" { "`messages[1].content[0]` has both" } else { "`messages[1].content[0]." };
        assert!(found.contains(what), "{field} {value}: {found}");
    }
    let plain = part("type", json!("text"));
    let print = |row: &Value| dataset(&row.to_string(), &Options::default()).fingerprint;
    for (field, value) in [
        ("weight", json!(1)),
        ("train", json!(true)),
        ("masked", json!(false)),
        ("annotations", json!([])),
        ("cache_control", json!({"type": "ephemeral"})),
        ("content", json!("b")),
    ] {
        assert_eq!(print(&part(field, value)), print(&plain), "{field}");
    }
}

#[test]
fn what_stands_beside_messages_and_is_never_read_says_so() {
    let turns = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
    let found = refused(&json!({"messages": turns, "tool_choice": "auto"}));
    assert!(found.contains("a chat template is not given it"), "{found}");
    let found = refused(&json!({"messages": turns, "chat_template": "x"}));
    assert!(found.contains("`data.chat_template`"), "{found}");
}

#[test]
fn what_the_recipe_names_or_ignores_is_told_as_its_own() {
    let row = json!({"question": "a", "answer": "b"});
    let chat = |user: &str| datasets::ChatColumns {
        user: vec![user.into()],
        assistant: "answer".into(),
        ..Default::default()
    };
    let found = &faults(&row.to_string(), &Options { chat: Some(chat("questio")), ..Options::default() })[0];
    assert!(found.contains("`questio` is missing, which `data.chat` names"), "{found}");
    assert!(found.contains("the row has `question`: is it meant?"), "{found}");
    let options = Options { ignore: vec!["completion".into()], ..Options::default() };
    let found = &faults(&json!({"prompt": "a", "completion": "b"}).to_string(), &options)[0];
    assert!(found.contains("`data.ignore` leaves `completion` out"), "{found}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("p.jsonl");
    std::fs::write(&path, json!({"instruction": "a", "input": "b"}).to_string()).expect("written");
    let rename = [("instruction".to_owned(), "prompt".to_owned())];
    let told = read_prompts(&path, asking(&rename, true)).expect_err("refused").to_string();
    assert!(told.contains("nothing reads `input` of a prompt") && told.contains("into the question"), "{told}");
}

#[test]
fn a_name_of_data_ignore_that_no_row_has_is_told() {
    let rows = [
        json!({"messages": [{"role": "user", "content": "a", "at": 1}, {"role": "assistant", "content": "b"}], "id": 1}),
        json!({"messages": "[{\"role\": \"user\", \"content\": \"a\", \"in_text\": 1}, {\"role\": \"assistant\", \"content\": \"b\"}]"}),
    ];
    let names = ["at", "id", "in_text", "sorce", "sauce"].map(str::to_owned);
    let options = Options { ignore: names.to_vec(), ..Options::default() };
    assert_eq!(dataset(&text(&rows), &options).report.unmet, ["sorce", "sauce"]);
    assert!(dataset(&text(&rows), &Options::default()).report.unmet.is_empty());
}

#[test]
fn a_column_that_is_ignored_is_named_where_no_shape_fits() {
    let options = Options { ignore: vec!["completion".into(), "id".into()], ..Options::default() };
    for row in [
        json!({"prompt": "a", "completion": "b", "id": 1}),
        json!({"question": "a", "completion": "b", "id": 1}),
        json!({"x": "a", "completion": "b"}),
    ] {
        let found = faults(&row.to_string(), &options).remove(0);
        assert!(found.contains("; `data.ignore` leaves `completion` out"), "{found}");
    }
    let found = faults(&json!({"x": "a", "id": 1}).to_string(), &options).remove(0);
    assert!(!found.contains("data.ignore"), "{found}");
    assert!(faults("{}", &Options::default())[0].contains("the row is empty"));
}

#[test]
fn masks_of_other_programs_are_refused_as_columns_too() {
    for column in ["loss_mask", "train_mask", "is_masked", "no_loss"] {
        let mut row = json!({"prompt": "a", "completion": "b"});
        row[column] = json!([0, 1]);
        assert!(refused(&row).contains(&format!("nothing reads `{column}`")));
        row[column] = json!(false);
        assert!(dataset(&row.to_string(), &Options::default()).examples.len() == 1);
    }
}

#[test]
fn files_that_hold_their_rows_otherwise_are_told_how() {
    for (text, hint) in [
        ("{\"prompt\": \"a\", \"completion\": \"b\"},\n", "a comma stands behind the row"),
        ("// rows\n", "JSON has no comments"),
        ("# rows\n", "JSON has no comments"),
        ("\"a\"\n", "as `{\"text\": \"..\"}`"),
        ("{\"train\": [{\"prompt\": \"a\"}], \"test\": []}\n", "jq -c '.train[]' FILE"),
        ("{\"0\": {\"prompt\": \"a\"}, \"1\": {\"prompt\": \"b\"}}\n", "jq -c '.[]' FILE"),
        ("{\"prompt\": \"a\", \"completion\": [\"b\", \"c\"]}\n", "several answers are a row each"),
    ] {
        let found = faults(text, &Options::default()).remove(0);
        assert!(found.contains(hint), "{text}: {found}");
    }
}

/// Turns may be JSON in a text, as the cells of tables are: what is refused or counted of a list is refused and counted of them.
#[test]
fn turns_that_are_json_in_a_text_are_looked_at_as_lists_are() {
    let template = "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '<|im_end|>' }}{% endfor %}\
        {% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}";
    let tokenizer = with_chat_template(template);
    let read = |row: &Value| read_text("r", &row.to_string(), &Options::default(), &tokenizer);
    let turns = |more: Value| {
        let mut answer = json!({"role": "assistant", "content": "b"});
        answer.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!([{"role": "user", "content": "a"}, answer])
    };
    for key in ["messages", "conversations"] {
        for more in [json!({"wieght": 0}), json!({"trainin": false}), json!({"tools": []}), json!({"documents": [1]})] {
            let list = read(&json!({ key: turns(more.clone()) })).map_err(|faults| faults.to_string());
            let text = read(&json!({ key: turns(more.clone()).to_string() })).map_err(|faults| faults.to_string());
            let refused = more.get("tools").is_none();
            assert_eq!((list.is_err(), list.clone().err()), (refused, text.err()), "{more}");
        }
        let data = read(&json!({ key: turns(json!({"foo": 1})).to_string() })).expect("rows");
        assert_eq!(data.report.unread, [Unread { name: format!("{key}[].foo"), rows: 1 }]);
    }
    let critic = json!([{"role": "critic", "content": "a"}, {"role": "assistant", "content": "b"}]).to_string();
    let data = read(&json!({"messages": critic})).expect("rows");
    assert_eq!(data.report.notices[0].oddity, Oddity::Role);
    // In a table a prompt and its answer may be turns, too; in JSON a text is one.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.tsv");
    let (asked, said) = (json!([{"role": "user", "content": "a"}]), json!([{"role": "assistant", "content": "b"}]));
    std::fs::write(
        &path,
        format!("prompt\tcompletion\n{asked}\t{said}\n")
            .replace('"', "\"\"")
            .replace("[{", "\"[{")
            .replace("}]", "}]\""),
    )
    .expect("written");
    let table = datasets::read(&[path], &Options::default(), &tokenizer).unwrap_or_else(|faults| panic!("{faults}"));
    let list = read(&json!({"prompt": asked, "completion": said})).expect("rows");
    assert_eq!(table.fingerprint, list.fingerprint);
    let text = read(&json!({"prompt": asked.to_string(), "completion": "b"})).expect("rows");
    assert_ne!(text.examples[0].ids, list.examples[0].ids);
}

#[test]
fn fields_of_steps_with_a_meaning_are_refused_and_the_others_counted() {
    let row = |more: Value| {
        let mut step = json!({"intent": "i", "text": "t"});
        step.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"prompt": "p", "steps": [step]})
    };
    for (more, what) in [
        (json!({"train": false}), "a step is learned whole"),
        (json!({"reasoning": "r"}), "write it into the step's `text`"),
        (json!({"system": "s"}), "write it beside the question, as the row's `system`"),
        (json!({"intnet": "s"}), "did you mean `intent`?"),
    ] {
        assert!(refused(&row(more)).contains(what));
    }
    let data = dataset(&row(json!({"id": 1, "note": ""})).to_string(), &Options::default());
    assert_eq!(data.report.unread, [Unread { name: "steps[].id".into(), rows: 1 }]);
}

/// Every cell of a table is a text.
#[test]
fn a_switch_in_the_cell_of_a_table_is_no_text_that_goes_along() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("p.tsv");
    let read = |text: &str| {
        std::fs::write(&path, text).expect("written");
        read_prompts(&path, asking(&[], false)).map(|prompts| prompts.rows.len()).map_err(|faults| faults.to_string())
    };
    let refused = |text: &str, what: &str| assert!(read(text).expect_err("a fault").contains(what), "{text}");
    refused("prompt\tenable_thinking\na\tFalse\n", "it is a switch of chat templates");
    refused("prompt\tcontext\na\tb\n", "write it into the question");
    refused("prompt\timage\na\tb.png\n", "only text is read");
    assert_eq!(read("prompt\tthinking\na\ttwo and two\n"), Ok(1));
}

#[test]
fn a_recipes_names_hold_within_the_messages_of_prompts() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("p.jsonl");
    let rename = [("speaker", "role"), ("text", "content"), ("q", "prompt")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    let read = |row: Value, way: Way| {
        std::fs::write(&path, row.to_string()).expect("written");
        let asking = Asking { rename: &rename, way, ..Asking::default() };
        read_prompts(&path, asking).unwrap_or_else(|faults| panic!("{faults}")).rows.remove(0)
    };
    let spoken = read(json!({"messages": [{"speaker": "user", "text": "a"}]}), Way::Recipe).asked;
    let datasets::Asked::Conversation(conversation) = spoken else { panic!("a conversation") };
    assert_eq!(json!(conversation.messages), json!([{"role": "user", "content": "a"}]));
    // A column whose name another one has taken goes along.
    for way in [Way::Recipe, Way::Flags] {
        let row = read(json!({"q": "c", "prompt": "d"}), way);
        assert_eq!((row.asked, json!(row.columns)), (datasets::Asked::Text("c".into()), json!({"prompt": "d"})));
    }
}

#[test]
fn what_a_result_repeats_of_its_call_is_not_told() {
    let call =
        |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": {}}});
    let result = |id: &str, name: &str| json!({"role": "tool", "tool_call_id": id, "name": name, "content": "5"});
    let turns = |results: [Value; 2]| {
        let calls = [call("c1", "add"), call("c2", "sub")];
        let [first, second] = results;
        json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": calls},
            first, second, {"role": "assistant", "content": "a"}]})
    };
    let template = "{%- for m in messages %}{{ '<' + m.role + '>' + (m.content or '') }}\
        {%- for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}{{ '<|im_end|>' }}{% endfor -%}\
        {%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";
    let told = |row: Value| {
        let data = read_text("r", &row.to_string(), &Options::default(), &with_chat_template(template)).expect("rows");
        data.report.notices.into_iter().map(|notice| notice.what).filter(|what| !what.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(told(turns([result("c1", "add"), result("c2", "sub")])), [] as [String; 0]);
    // Out of order the id says which call is answered, and so does the name.
    let name = "`messages[2].name` of `tool`";
    assert_eq!(told(turns([result("c2", "sub"), result("c1", "add")])), [name, "`messages[].tool_call_id` in 1"]);
    assert_eq!(told(turns([result("c1", "multiply"), result("c2", "sub")])), [name]);
    // And a calls' list that is JSON in a text is read alike.
    let mut row = turns([result("c1", "add"), result("c2", "sub")]);
    row["messages"][1]["tool_calls"] = row["messages"][1]["tool_calls"].to_string().into();
    assert_eq!(told(row), [] as [String; 0]);
}
