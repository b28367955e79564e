//! What rows of conversations say beside their turns: all of it reaches the chat template, or is refused by name.

use datasets::{ChatColumns, Options, TrainOn, read_text};
use serde_json::{Value, json};

use super::with_chat_template;

/// A template that writes all that it is given.
const ALL: &str = "{% if tools %}<tools>{{ tools | tojson }}\n{% endif %}{% for d in documents or [] %}<doc>{{ d.text }}\n{% endfor %}\
    {% if style is defined %}<style>{{ style }}\n{% endif %}{% for m in messages %}<{{ m.role }}>\
    {% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}{{ m.content or '' }}\
    {% for c in m.tool_calls or [] %}{{ c.function.name }}:{{ c.function.arguments | tojson }}{% endfor %}<|im_end|>{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}";

/// One that writes turns alone.
const PLAIN: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|im_end|>{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}";

/// The texts of the examples of a row, with what is learned in square brackets.
fn marked(row: &Value, options: &Options, template: &str) -> Result<Vec<String>, String> {
    let tokenizer = with_chat_template(template);
    let data = read_text("r", &row.to_string(), options, &tokenizer).map_err(|faults| faults.to_string())?;
    let text = |ids: &[u32]| tokenizer.decode(ids, false).expect("text");
    let marked = |example: &datasets::Example| {
        let mut all = String::new();
        let runs = example.learned.chunk_by(|a, b| a == b);
        let mut at = 0;
        for run in runs {
            let part = text(&example.ids[at..at + run.len()]);
            all += &if run[0] { format!("[{part}]") } else { part };
            at += run.len();
        }
        all
    };
    Ok(data.examples.iter().map(marked).collect())
}

fn one(row: &Value) -> String {
    let found = marked(row, &Options::default(), ALL).unwrap_or_else(|faults| panic!("{row}: {faults}"));
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().expect("one")
}

fn refused(row: &Value, template: &str) -> String {
    marked(row, &Options::default(), template).expect_err(&row.to_string())
}

fn asked(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn answer(content: &str) -> Value {
    json!({"role": "assistant", "content": content})
}

#[test]
fn what_stands_beside_the_turns_is_given_to_the_template() {
    let turns = json!([asked("q"), answer("a")]);
    let tool = json!([{"type": "function", "function": {"name": "f"}}]);
    let plain = "<user>q<|im_end|><assistant>[a<|im_end|>]";
    assert_eq!(one(&json!({"messages": turns})), plain);
    for (key, value, written) in [
        ("system", json!("s"), "<system>s<|im_end|>".to_owned()),
        ("tools", tool.clone(), format!("<tools>{}\n", r#"[{"type": "function", "function": {"name": "f"}}]"#)),
        (
            "tools",
            json!(tool.to_string()),
            format!("<tools>{}\n", r#"[{"type": "function", "function": {"name": "f"}}]"#),
        ),
        (
            "tools",
            json!([tool[0].to_string()]),
            format!("<tools>{}\n", r#"[{"type": "function", "function": {"name": "f"}}]"#),
        ),
        ("documents", json!([{"title": "t", "text": "d"}]), "<doc>d\n".to_owned()),
        ("documents", json!("[{\"text\": \"d\"}]"), "<doc>d\n".to_owned()),
        ("chat_template_kwargs", json!({"style": "brief"}), "<style>brief\n".to_owned()),
        ("chat_template_kwargs", json!("{\"style\": false}"), "<style>False\n".to_owned()),
        ("system", json!(""), String::new()),
        ("tools", json!([]), String::new()),
        ("tools", json!("[]"), String::new()),
        ("documents", Value::Null, String::new()),
        ("chat_template_kwargs", json!({}), String::new()),
    ] {
        assert_eq!(one(&json!({"messages": turns, key: value})), format!("{written}{plain}"), "{key} {value}");
        let shared =
            json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], key: value});
        assert_eq!(one(&shared), format!("{written}{plain}"), "{shared}");
        let lists = json!({"prompt": [asked("q")], "completion": [answer("a")], key: value});
        assert_eq!(one(&lists), format!("{written}{plain}"), "{lists}");
    }
    // The same system message twice is one.
    let both = json!({"system": "s", "messages": [{"role": "system", "content": "s"}, asked("q"), answer("a")]});
    assert_eq!(one(&both), format!("<system>s<|im_end|>{plain}"));
    let other = json!({"system": "t", "messages": [{"role": "system", "content": "s"}, asked("q"), answer("a")]});
    assert!(refused(&other, ALL).contains("a `system` column and another system message"));
    let other = json!({"system": "t", "messages": [{"role": "developer", "content": "s"}, asked("q"), answer("a")]});
    assert!(refused(&other, ALL).contains("a `system` column and a message of `developer`"));
}

#[test]
fn what_the_template_has_no_place_for_is_refused_by_name() {
    let turns = json!([asked("q"), answer("a")]);
    for (row, name) in [
        (json!({"messages": turns, "tools": [{"name": "f"}]}), "`tools`"),
        (json!({"messages": turns, "documents": [{"text": "d"}]}), "`documents`"),
        (
            json!({"messages": turns, "chat_template_kwargs": {"enable_thinking": false}}),
            "`chat_template_kwargs.enable_thinking`",
        ),
        (
            json!({"messages": [asked("q"), {"role": "assistant", "content": "a", "reasoning_content": "r"}]}),
            "`messages[1].reasoning_content`",
        ),
        (
            json!({"messages": [asked("q"), {"role": "assistant", "content": "a", "thinking": "r"}]}),
            "`messages[1].thinking`",
        ),
        (
            json!({"messages": [asked("q"), {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}]}),
            "`messages[1].tool_calls`",
        ),
    ] {
        let found = refused(&row, PLAIN);
        assert!(found.starts_with(&format!("r:1: the model's chat template has no place for {name}")), "{found}");
        assert!(found.contains("data.ignore"), "{found}");
    }
    let row = json!({"messages": turns, "tools": [{"name": "f"}]});
    let ignoring = Options { ignore: vec!["tools".into()], ..Options::default() };
    assert_eq!(marked(&row, &ignoring, PLAIN), Ok(vec!["<user>q<|im_end|><assistant>[a<|im_end|>]".into()]));
    for name in ["messages", "add_generation_prompt", "tools"] {
        let row = json!({"messages": turns, "chat_template_kwargs": {name: true}});
        assert!(refused(&row, ALL).contains("cannot be set by a row"), "{name}");
    }
    for (key, value, what) in [
        ("tools", json!("not JSON"), "`tools` is a text, and no JSON"),
        ("tools", json!(3), "`tools` must be a list"),
        ("documents", json!({"text": "d"}), "`documents` must be a list"),
        ("chat_template_kwargs", json!([1]), "`chat_template_kwargs` must be an object"),
        ("system", json!(["s"]), "`system` must be a string"),
    ] {
        assert!(refused(&json!({"messages": turns, key: value}), ALL).contains(what), "{key}");
    }
}

#[test]
fn thoughts_reach_the_template_under_the_name_that_it_has() {
    for key in ["reasoning_content", "thinking", "reasoning"] {
        let row = json!({"messages": [asked("q"), {"role": "assistant", "content": "a", key: "r"}]});
        assert_eq!(one(&row), "<user>q<|im_end|><assistant>[(r)a<|im_end|>]", "{key}");
    }
    let empty = json!({"messages": [asked("q"), {"role": "assistant", "content": "a", "thinking": ""}]});
    assert_eq!(
        marked(&empty, &Options::default(), PLAIN),
        Ok(vec!["<user>q<|im_end|><assistant>[a<|im_end|>]".into()])
    );
    let two = json!({"messages": [asked("q"), {"role": "assistant", "content": "a", "thinking": "r", "reasoning_content": "s"}]});
    assert!(refused(&two, ALL).contains("no place for `messages[1].thinking`"));
}

#[test]
fn a_message_says_whether_it_is_learned() {
    let row = |key: &str, value: Value| json!({"messages": [asked("q"), {"role": "assistant", "content": "a", key: value}, asked("p"), answer("b")]});
    let without = "<user>q<|im_end|><assistant>a<|im_end|><user>p<|im_end|><assistant>[b<|im_end|>]";
    let with = "<user>q<|im_end|><assistant>[a<|im_end|>]<user>p<|im_end|><assistant>[b<|im_end|>]";
    for (key, off, on) in [
        ("weight", json!(0), json!(1)),
        ("weight", json!(0.0), json!(1.0)),
        ("train", json!(false), json!(true)),
        ("training", json!(false), json!(null)),
        ("trainable", json!(0), json!(true)),
        ("train_on_turn", json!(false), json!(true)),
        ("loss", json!(false), json!(true)),
        ("masked", json!(true), json!(false)),
    ] {
        assert_eq!(one(&row(key, off)), without, "{key}");
        assert_eq!(one(&row(key, on)), with, "{key}");
    }
    let shared = json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "weight": 0},
        {"from": "human", "value": "p"}, {"from": "gpt", "value": "b", "weight": 1}]});
    assert_eq!(one(&shared), without);
    for (key, value, what) in [
        ("weight", json!(0.5), "`messages[1].weight` = 0.5: a message is learned, or it is not"),
        ("loss", json!(2.31), "`messages[1].loss` = 2.31"),
        ("train", json!("no"), "`messages[1].train` must be true or false, found a string"),
        ("train_detail", json!([{"begin_offset": 0}]), "`messages[1].train_detail` is not read"),
        ("loss_mask", json!([0, 1]), "`messages[1].loss_mask` is not read"),
        ("wieght", json!(0), "nothing reads `wieght` of a message"),
    ] {
        let found = refused(&row(key, value), ALL);
        assert!(found.contains(what), "{found}");
    }
    let contrary =
        json!({"messages": [asked("q"), {"role": "assistant", "content": "a", "weight": 1, "train": false}]});
    assert!(refused(&contrary, ALL).contains("`messages[1].weight` and `messages[1].train` contradict each other"));
    // Of the user's turns only that they are not learned is true.
    let user = |train: bool| json!({"messages": [{"role": "user", "content": "q", "train": train}, answer("a")]});
    assert_eq!(one(&user(false)), "<user>q<|im_end|><assistant>[a<|im_end|>]");
    assert!(refused(&user(true), ALL).contains("a message of `user` says that it is learned"));
}

#[test]
fn contents_come_as_texts_in_parts_or_as_calls() {
    let row = |content: Value| json!({"messages": [{"role": "user", "content": content}, answer("a")]});
    for content in [
        json!([{"type": "text", "text": "q"}]),
        json!([{"type": "text", "text": "q", "image_url": null}]),
        json!([{"type": "input_text", "text": "q"}]),
        json!(["q"]),
        json!([{"text": "q"}]),
    ] {
        assert_eq!(one(&row(content.clone())), "<user>q<|im_end|><assistant>[a<|im_end|>]", "{content}");
    }
    assert_eq!(
        one(&row(json!([{"type": "text", "text": "q"}, {"type": "text", "text": "r"}]))),
        "<user>qr<|im_end|><assistant>[a<|im_end|>]"
    );
    for (content, what) in [
        (json!([{"type": "image_url", "image_url": {"url": "u"}}]), "`messages[0].content[0]` is of type `image_url`"),
        (json!([{"type": "text"}]), "`messages[0].content[0].text` is missing"),
        (json!([3]), "`messages[0].content[0]` must be a part"),
        (json!(null), "`messages[0].content` is null"),
        (json!({"text": "q"}), "`messages[0].content` must be a string, found an object"),
    ] {
        let found = refused(&row(content), ALL);
        assert!(found.contains(what), "{found}");
    }
    let empty = json!({"messages": [asked("q"), {"role": "assistant", "content": "a", "tool_calls": []}]});
    assert_eq!(
        marked(&empty, &Options::default(), PLAIN),
        Ok(vec!["<user>q<|im_end|><assistant>[a<|im_end|>]".into()])
    );
}

#[test]
fn calls_of_tools_are_learned_with_content_null_or_absent() {
    let called = "<user>q<|im_end|><assistant>[f:{\"x\": 1}<|im_end|>]<tool>r<|im_end|><assistant>[a<|im_end|>]";
    let row = |call: Value| json!({"messages": [asked("q"), call, {"role": "tool", "content": "r"}, answer("a")]});
    for arguments in [json!({"x": 1}), json!("{\"x\": 1}")] {
        let calls = json!([{"type": "function", "function": {"name": "f", "arguments": arguments}}]);
        assert_eq!(one(&row(json!({"role": "assistant", "content": null, "tool_calls": calls}))), called);
        assert_eq!(one(&row(json!({"role": "assistant", "tool_calls": calls}))), called);
        // As tables have them: JSON in a text.
        for text in [json!(calls.to_string()), json!([calls[0].to_string()])] {
            assert_eq!(one(&row(json!({"role": "assistant", "content": null, "tool_calls": text}))), called);
        }
    }
    let none = json!({"messages": [asked("q"), {"role": "assistant", "content": "a", "tool_calls": "[]"}]});
    assert_eq!(one(&none), "<user>q<|im_end|><assistant>[a<|im_end|>]");
    for (calls, what) in [
        (json!("f()"), "`messages[1].tool_calls` is a text, and no JSON"),
        (json!(["f()"]), "`messages[1].tool_calls[0]` is a text, and no JSON"),
        (json!("{}"), "`messages[1].tool_calls` must be a list, found an object"),
        (json!([1]), "`messages[1].tool_calls[0]` must be an object, found the number `1`"),
    ] {
        let found = refused(&row(json!({"role": "assistant", "content": "a", "tool_calls": calls})), ALL);
        assert!(found.contains(what), "{found}");
    }
    let agent = |value: Value| {
        json!({"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": value},
            {"from": "observation", "value": "r"}, {"from": "gpt", "value": "a"}]})
    };
    assert_eq!(one(&agent(json!("{\"name\": \"f\", \"arguments\": {\"x\": 1}}"))), called);
    assert_eq!(one(&agent(json!("[{\"name\": \"f\", \"arguments\": {\"x\": 1}}]"))), called);
    assert!(refused(&agent(json!("f(1)")), ALL).contains("`conversations[1].value` is no call of a function"));
    let old = json!({"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}});
    assert!(refused(&row(old), ALL).contains(
        "`messages[1].function_call` is not read hint: write it as `tool_calls`".replace(" hint", "\nhint").as_str()
    ));
}

#[test]
fn speakers_and_keys_have_other_peoples_names() {
    let expected = "<user>q<|im_end|><assistant>[a<|im_end|>]";
    for (user, assistant) in
        [("human", "gpt"), ("user", "model"), ("User", "Assistant"), ("HUMAN", "bot"), ("user", "chatgpt")]
    {
        for (list, role, content) in [
            ("messages", "role", "content"),
            ("conversations", "from", "value"),
            ("conversations", "role", "content"),
            ("messages", "from", "value"),
        ] {
            let row = json!({list: [{role: user, content: "q"}, {role: assistant, content: "a"}]});
            assert_eq!(one(&row), expected, "{row}");
        }
    }
    let spoken = json!({"messages": [{"speaker": "user", "text": "q"}, {"speaker": "assistant", "text": "a"}]});
    let renamed = Options {
        rename: [("speaker", "role"), ("text", "content")].map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec(),
        ..Options::default()
    };
    assert_eq!(marked(&spoken, &renamed, ALL), Ok(vec![expected.into()]));
    let dialogue = json!({"dialogue": spoken["messages"]});
    let renamed = Options {
        rename: [renamed.rename, vec![("dialogue".into(), "messages".into())]].concat(),
        ..Options::default()
    };
    assert_eq!(marked(&dialogue, &renamed, ALL), Ok(vec![expected.into()]));
    let found = refused(&spoken, ALL);
    assert!(
        found.contains(
            "`messages[0].role` is missing\nhint: is it `speaker`? then set `data.rename = { speaker = \"role\" }`"
        ),
        "{found}"
    );
    let text = json!({"messages": [asked("q").to_string(), answer("a").to_string()]});
    assert!(refused(&text, ALL).contains("`messages[0]` must be an object, found a string"));
    let encoded = json!({"messages": json!([asked("q"), answer("a")]).to_string()});
    assert_eq!(one(&encoded), expected);
    let both = json!({"messages": [{"role": "user", "content": "q", "value": "p"}, answer("a")]});
    assert!(refused(&both, ALL).contains("`messages[0]` has both `content` and `value`"));
}

#[test]
fn prompt_and_completion_may_be_messages() {
    let prompt = json!([asked("q"), answer("a"), asked("p")]);
    let learned = "<user>q<|im_end|><assistant>a<|im_end|><user>p<|im_end|><assistant>[b<|im_end|>]";
    for completion in [json!([answer("b")]), json!("b")] {
        assert_eq!(one(&json!({"prompt": prompt, "completion": completion})), learned);
    }
    assert_eq!(one(&json!({"prompt": "q", "completion": [answer("a")]})), "<user>q<|im_end|><assistant>[a<|im_end|>]");
    let no_answer = json!({"prompt": prompt, "completion": [asked("b")]});
    assert!(refused(&no_answer, ALL).contains("no message of `completion` has the role `assistant`"));
    let plain = json!({"prompt": "q", "completion": "a", "system": "s"});
    let found = refused(&plain, ALL);
    assert!(found.contains("`system` stands beside a plain `prompt`") && found.contains("data.chat"), "{found}");
    // What `data.chat` names are the file's columns, under no other name.
    let renamed = |chat: Option<ChatColumns>| {
        let rename = vec![("q".into(), "prompt".into()), ("a".into(), "completion".into())];
        let options = Options { rename, chat, ..Options::default() };
        marked(&json!({"q": "q", "a": "a", "system": "s"}), &options, ALL).expect_err("a fault")
    };
    assert!(renamed(None).contains("`data.chat = { user = \"q\", assistant = \"a\" }`"));
    let chat = ChatColumns { user: vec!["q".into()], assistant: "a".into(), ..ChatColumns::default() };
    assert!(renamed(Some(chat)).contains("`data.rename` calls `q` `prompt`, and `data.chat` names `q`"));
}

#[test]
fn columns_become_turns_by_name() {
    let chat = |user: &[&str]| ChatColumns {
        user: user.iter().map(|name| name.to_string()).collect(),
        assistant: "answer".into(),
        system: Some("rules".into()),
        history: Some("before".into()),
        reasoning_content: Some("cot".into()),
    };
    let read = |row: &Value, user: &[&str]| marked(row, &Options { chat: Some(chat(user)), ..Options::default() }, ALL);
    let row = json!({"question": "q", "answer": "a"});
    assert_eq!(read(&row, &["question"]), Ok(vec!["<user>q<|im_end|><assistant>[a<|im_end|>]".into()]));
    let all = json!({"question": "q", "context": "c", "answer": "a", "rules": "s", "before": [["x", "y"]], "cot": "t"});
    let whole =
        "<system>s<|im_end|><user>x<|im_end|><assistant>[y<|im_end|>]<user>q\nc<|im_end|><assistant>[(t)a<|im_end|>]";
    assert_eq!(read(&all, &["question", "context"]), Ok(vec![whole.into()]));
    let found = read(&all, &["question"]).expect_err("the context is lost");
    assert!(found.contains("nothing reads `context` of rows of `chat`"), "{found}");
    let found = read(&json!({"question": "q", "anwser": "a"}), &["question"]).expect_err("no answer");
    assert!(
        found.contains("`answer` is missing, which `data.chat` names\nhint: the row has `anwser`: is it meant?"),
        "{found}"
    );
    let last = Options { chat: Some(chat(&["question", "context"])), train_on: TrainOn::Last, ..Options::default() };
    let whole =
        "<system>s<|im_end|><user>x<|im_end|><assistant>y<|im_end|><user>q\nc<|im_end|><assistant>[(t)a<|im_end|>]";
    assert_eq!(marked(&all, &last, ALL), Ok(vec![whole.into()]));
}

#[test]
fn alpaca_rows_have_a_system_message_and_turns_before() {
    let row = json!({"instruction": "q", "output": "a", "system": "s", "history": [["x", "y"]], "input": ""});
    let text = |learned: &str| {
        format!(
            "s\n\n### Instruction:\nx\n\n### Response:{learned}\n\n### Instruction:\nq\n\n### Response:[a<|im_end|>]"
        )
    };
    assert_eq!(one(&row), text("[y<|im_end|>]"));
    let last = Options { train_on: TrainOn::Last, ..Options::default() };
    assert_eq!(marked(&row, &last, ALL), Ok(vec![text("y<|im_end|>")]));
    let plain = one(&json!({"instruction": "q", "output": "a", "history": [], "system": null}));
    assert_eq!(plain, one(&json!({"instruction": "q", "output": "a"})));
    for (history, what) in [
        (json!([["x"]]), "`history[0]` is no pair of a question and its answer"),
        (json!([["x", ""]]), "`history[0][1]` is empty"),
        (json!([["x", 3]]), "`history[0][1]` must be a string"),
        (json!([{"role": "user", "content": "x"}]), "`history[0]` is no pair"),
        (json!("x"), "`history` is a text, and no JSON"),
    ] {
        let found = refused(&json!({"instruction": "q", "output": "a", "history": history}), ALL);
        assert!(found.contains(what), "{found}");
    }
}

#[test]
fn targets_and_intents_are_asked_with_all_that_the_row_says() {
    let row = json!({"messages": [asked("q")], "system": "s", "tools": [{"name": "f"}], "targets": ["a"]});
    assert_eq!(one(&row), "<tools>[{\"name\": \"f\"}]\n<system>s<|im_end|><user>q<|im_end|><assistant>[a<|im_end|>]");
    let intent = json!({"prompt": [asked("q")], "system": "s", "intent": "i", "response": "a"});
    assert_eq!(one(&intent), "<system>s<|im_end|><user>q<|im_end|><assistant>[i ### a<|im_end|>]");
    let plain = json!({"prompt": "q", "system": "s", "targets": ["a"]});
    assert!(refused(&plain, ALL).contains("`system` stands beside a plain `prompt`"));
    assert!(
        refused(&json!({"messages": [asked("q")], "tools": [{"name": "f"}], "targets": ["a"]}), PLAIN)
            .contains("no place for `tools`")
    );
}

#[test]
fn what_a_message_says_of_the_whole_row_is_refused_by_name() {
    for (field, column) in [("tools", "tools"), ("functions", "tools"), ("documents", "documents")] {
        let mut system = json!({"role": "system", "content": "s"});
        system[field] = json!([{"name": "f"}]);
        let found = refused(&json!({"messages": [system, asked("q"), answer("a")]}), PLAIN);
        assert!(found.contains(&format!("nothing reads `{field}` of a message")), "{found}");
        assert!(found.contains(&format!("as the row's `{column}`")), "{found}");
    }
}

#[test]
fn a_column_that_is_a_switch_of_the_template_is_refused_by_name() {
    let template = format!("{{% if enable_thinking %}}T{{% endif %}}{PLAIN}");
    let row = json!({"messages": [asked("q"), answer("a")], "enable_thinking": false});
    let found = refused(&row, &template);
    assert!(found.contains("nothing reads `enable_thinking`") && found.contains("\"chat_template_kwargs\""), "{found}");
    // Of a template without it, it is a column like any other.
    assert!(marked(&row, &Options::default(), PLAIN).is_ok());
}

#[test]
fn arguments_that_are_no_json_are_refused_where_they_are_read_as_such() {
    let row = |arguments: &str| {
        let calls = json!([{"type": "function", "function": {"name": "f", "arguments": arguments}}]);
        json!({"messages": [asked("q"), {"role": "assistant", "content": null, "tool_calls": calls}]})
    };
    let over = "{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}{% for c in m.tool_calls or [] %}{{ c.function.name }}\
        {% for k, v in c.function.arguments.items() %} {{ k }}={{ v }}{% endfor %}{% endfor %}<|im_end|>{% endfor %}\
        {% if add_generation_prompt %}<assistant>{% endif %}";
    for template in [ALL, over] {
        for arguments in ["{'x': 1}", "", "f(1)"] {
            let found = refused(&row(arguments), template);
            assert!(found.contains("`messages[1].tool_calls[0].arguments` is a text, and no JSON"), "{found}");
        }
    }
    let called = marked(&row("{\"x\": 1, \"y\": \"z\"}"), &Options::default(), over).expect("read as JSON");
    assert_eq!(called, ["<user>q<|im_end|><assistant>[f x=1 y=z<|im_end|>]"]);
    // A template that looks at their type writes them as they stand.
    let apart = "{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}{% for c in m.tool_calls or [] %}\
        {% if c.function.arguments is string %}{{ c.function.arguments }}{% else %}{{ c.function.arguments | tojson }}{% endif %}\
        {% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    let called = marked(&row("f(1)"), &Options::default(), apart).expect("a text");
    assert_eq!(called, ["<user>q<|im_end|><assistant>[f(1)<|im_end|>]"]);
}

#[test]
fn lists_of_messages_of_other_kinds_are_told_as_what_they_are() {
    for (messages, what) in [
        (json!(["q", "a"]), "a message says who speaks"),
        (json!([[asked("q"), answer("a")]]), "a row is one conversation"),
        (json!({"role": ["user", "assistant"], "content": ["q", "a"]}), "written column by column"),
    ] {
        let found = refused(&json!({"messages": messages}), ALL);
        assert!(found.contains(what), "{found}");
    }
    let tools = refused(&json!({"messages": [asked("q"), answer("a")], "tools": "[{'name': 'f'}]"}), ALL);
    assert!(tools.contains("write it by `json.dumps`"), "{tools}");
    let none = one(&json!({"messages": [asked("q"), answer("a")], "tools": " "}));
    assert_eq!(none, "<user>q<|im_end|><assistant>[a<|im_end|>]");
}

/// The characters that stand for marks within this program may stand in rows.
#[test]
fn characters_of_a_row_are_never_taken_for_marks() {
    let row = json!({"messages": [asked("q\u{fdd0}r"), answer("a\u{fdd1}b")]});
    assert_eq!(one(&row), "<user>q\u{fdd0}r<|im_end|><assistant>[a\u{fdd1}b<|im_end|>]");
    let marked = "{% for m in messages %}<{{ m.role }}>{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% endfor %}\
        {% if add_generation_prompt %}<assistant>{% endif %}";
    assert!(refused(&row, marked).contains("holds the character U+FDD0 or U+FDD1"));
}
