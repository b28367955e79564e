//! Chat templates against transformers' `apply_chat_template` (`fixtures/chat/make_expected.py`).

use datasets::{ChatSettings, Conversation, Message, Moment, Tokenizer};

use super::{fixture, json};

/// The byte-level tokenizer with another chat template, `<s>` and `</s>` as its named tokens.
fn with_template(source: &str) -> Tokenizer {
    from_template(source).unwrap_or_else(|faults| panic!("{faults}"))
}

fn from_template(source: &str) -> Result<Tokenizer, faults::Faults> {
    let tokenizer = std::fs::read_to_string(fixture("byte_level/tokenizer.json")).expect("the fixture is there");
    let config = r#"{"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": null}"#;
    Tokenizer::from_texts(&[
        ("m/tokenizer.json", &tokenizer),
        ("m/tokenizer_config.json", config),
        ("m/chat_template.jinja", source),
    ])
}

#[test]
fn templates_render_as_transformers_renders_them() {
    let (mut rendered, mut refused) = (0, 0);
    for case in json("chat/expected.json").as_array().expect("a list") {
        let name = case["template"].as_str().expect("a name");
        let source = std::fs::read_to_string(fixture("chat").join(name)).expect("the template is there");
        let messages: Vec<Message> = case["messages"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|m| Message::new(m["role"].as_str().expect("a role"), m["content"].as_str().expect("content")))
            .collect();
        let open = case["add_generation_prompt"].as_bool().expect("a boolean");
        let result = with_template(&source).render_chat(&Conversation::new(messages.clone()), open);
        match case["text"].as_str() {
            Some(text) => {
                assert_eq!(result.as_deref(), Ok(text), "{name}: {messages:?}");
                rendered += 1;
            }
            None => {
                let error = case["error"].as_str().expect("an error");
                let fault = result.expect_err("transformers refuses it");
                assert!(fault.message.contains(error), "{fault} does not say {error}");
                refused += 1;
            }
        }
    }
    assert_eq!((rendered, refused), (60, 12));
}

#[test]
fn the_default_of_several_templates_counts_and_a_file_of_its_own_wins() {
    let tokenizer = std::fs::read_to_string(fixture("byte_level/tokenizer.json")).expect("the fixture is there");
    let config =
        r#"{"chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]}"#;
    let files = [("tokenizer.json", tokenizer.as_str()), ("tokenizer_config.json", config)];
    let render = |files: &[(&str, &str)]| {
        Tokenizer::from_texts(files)
            .expect("a tokenizer")
            .render_chat(&Conversation::new(vec![Message::new("user", "a")]), false)
    };
    assert_eq!(render(&files), Ok("plain".into()));
    assert_eq!(render(&[files[0], files[1], ("chat_template.jinja", "own\n")]), Ok("own".into()));
    let fault = render(&files[..1]).expect_err("no template");
    assert!(fault.hint.is_some_and(|hint| hint.contains("instruct model")));
}

#[test]
fn a_broken_or_endless_template_is_a_fault() {
    let render = |tokenizer: &Tokenizer| tokenizer.render_chat(&Conversation::default(), false);
    let tokenizer = with_template("{% for message in messages %}");
    let broken = render(&tokenizer).expect_err("a fault").to_string();
    assert!(broken.starts_with("m/chat_template.jinja: cannot read the chat template: "), "{broken}");
    // Who does not ask for it, or names another, has nothing to do with it.
    assert!(!tokenizer.has_chat_template() && tokenizer.encode("a", true).is_ok());
    let named =
        |source: &str| ChatSettings { template: Some(("own.jinja".into(), source.into())), ..Default::default() };
    let tokenizer = tokenizer.with_chat(&ChatSettings::default()).expect("no template is asked for");
    assert!(render(&tokenizer).is_err());
    let tokenizer = tokenizer.with_chat(&named("own")).expect("another template");
    assert_eq!((render(&tokenizer), tokenizer.unread_template()), (Ok("own".into()), None));
    let fault = tokenizer.with_chat(&named("{{ broken")).err().expect("a fault").to_string();
    assert!(fault.starts_with("own.jinja: cannot read the chat template: "), "{fault}");
    let endless = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    assert!(with_template(endless).render_chat(&Conversation::default(), false).is_err());
    let recursive = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}";
    assert!(with_template(recursive).render_chat(&Conversation::default(), false).is_err());
}

#[test]
fn a_date_is_fixed_and_formatted_as_python_does() {
    let source = "{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%c') }}|{{ strftime_now('%d%') }}";
    let moment = Moment::parse("2026-11-28T09:05:07").expect("a moment");
    let settings = ChatSettings { moment: Some(moment), ..ChatSettings::default() };
    let tokenizer = with_template(source).with_chat(&settings).expect("a tokenizer");
    let text = tokenizer.render_chat(&Conversation::default(), false);
    assert_eq!(text, Ok("28 Nov 2026|Sat Nov 28 09:05:07 2026|28%".into()));
    // What a run keeps reads as the same moment.
    assert_eq!(Moment::parse(&tokenizer.moment().to_string()), Ok(moment));
    assert_eq!(Moment::parse("2026-11-28").map(|day| day.to_string()), Ok("2026-11-28T00:00:00".into()));
    for wrong in ["", "28.11.2026", "2026-13-01", "2026-11-28 9 o'clock", "now"] {
        assert!(Moment::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn settings_give_another_template_switches_and_an_end_of_turns() {
    let source = "{% for m in messages %}{{ m.content }}{% endfor %}{{ thinking }}{{ depth }}";
    let conversation = |arguments: serde_json::Value| Conversation {
        messages: vec![Message::new("user", "a")],
        arguments: arguments.as_object().expect("an object").clone(),
        ..Conversation::default()
    };
    let switches = serde_json::json!({"thinking": false, "depth": 2});
    let settings = ChatSettings {
        template: Some(("own.jinja".into(), source.into())),
        arguments: switches.as_object().expect("an object").clone(),
        end_of_turn: Some("<|im_start|>".into()),
        moment: None,
    };
    let tokenizer = with_template("x").with_chat(&settings).expect("a tokenizer");
    assert_eq!(tokenizer.chat_template(), Some(source));
    assert_eq!(tokenizer.render_chat(&conversation(serde_json::json!({})), false), Ok("aFalse2".into()));
    // A row's own go first.
    let own = conversation(serde_json::json!({"thinking": true}));
    assert_eq!(tokenizer.render_chat(&own, false), Ok("aTrue2".into()));
    assert_eq!(tokenizer.stop_tokens().last(), Some(&1));
    // What an export writes, so that others stop there too.
    let written = tokenizer.generation_config("{\"eos_token_id\": 2, \"top_p\": 0.5}").expect("JSON");
    let written: serde_json::Value = serde_json::from_str(&written).expect("JSON");
    assert_eq!(written, serde_json::json!({"eos_token_id": [2, 1], "top_p": 0.5}));
    let wrong = ChatSettings { end_of_turn: Some("<|im_stat|>".into()), ..ChatSettings::default() };
    let fault = with_template("x").with_chat(&wrong).err().expect("a fault");
    assert_eq!(fault.hint.as_deref(), Some("did you mean `<|im_start|>`?"));
}

#[test]
fn a_thought_is_given_under_both_of_its_names_and_what_is_null_is_not_there() {
    let tokenizer = with_template(
        "{% for m in messages %}{{ m.reasoning_content }}|{{ m.thinking }}|{{ m.content is defined }};{% endfor %}",
    );
    let mut thinking = Message::new("assistant", "b");
    thinking.fields.insert("thinking".into(), "t".into());
    let mut calling = Message { content: None, ..Message::new("assistant", "") };
    calling.fields.insert("reasoning_content".into(), "r".into());
    let conversation = Conversation::new(vec![thinking, calling]);
    assert_eq!(tokenizer.render_chat(&conversation, false), Ok("t|t|True;r|r|False;".into()));
}

#[test]
fn switches_that_the_template_does_not_have_are_refused() {
    let source = "{% for m in messages %}{{ m.content }}{{ m.depth }}{% endfor %}{{ enable_thinking }}";
    let refused = |source: &str, name: &str| {
        let mut arguments = serde_json::Map::new();
        arguments.insert(name.into(), true.into());
        let settings = ChatSettings { arguments, ..ChatSettings::default() };
        let fault = with_template(source).with_chat(&settings).err();
        fault.map(|fault| fault.to_string())
    };
    let near = refused(source, "enable_thinkin").expect("refused");
    assert!(
        near.contains("has no switch `enable_thinkin`") && near.contains("did you mean `enable_thinking`?"),
        "{near}"
    );
    for name in ["messages", "tools", "documents", "add_generation_prompt"] {
        assert!(refused(source, name).is_some_and(|told| told.contains("the program gives it")), "{name}");
    }
    // A field of a message is none.
    assert!(refused(source, "depth").is_some());
    assert_eq!(refused(source, "enable_thinking"), None);
    // One that is given by another template is.
    let settings = ChatSettings {
        template: Some(("own.jinja".into(), "{{ depth }}".into())),
        arguments: [("depth".to_owned(), 1.into())].into_iter().collect(),
        ..ChatSettings::default()
    };
    assert!(with_template(source).with_chat(&settings).is_ok());
}

/// Where a model has several templates, transformers takes `tool_use` for rows with tools and else `default`, and refuses a list
/// without it.
#[test]
fn templates_that_would_be_taken_elsewhere_are_not_passed_over() {
    let file = std::fs::read_to_string(fixture("byte_level/tokenizer.json")).expect("the fixture is there");
    let plain = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}{{ tools or '' }}";
    let of = |templates: &str| {
        let config = format!(r#"{{"eos_token": "<|im_end|>", "chat_template": {templates}}}"#);
        Tokenizer::from_texts(&[("m/tokenizer.json", &file), ("m/tokenizer_config.json", &config)])
            .unwrap_or_else(|faults| panic!("{faults}"))
    };
    let entry = |name: &str| serde_json::json!({"name": name, "template": plain});
    let both = of(&serde_json::json!([entry("tool_use"), entry("default")]).to_string());
    let none = of(&serde_json::json!([entry("tool_use"), entry("rag")]).to_string());
    let beside = Tokenizer::from_texts(&[
        ("m/tokenizer.json", &file),
        ("m/tokenizer_config.json", r#"{"eos_token": "<|im_end|>"}"#),
        ("m/chat_template.jinja", plain),
        ("m/additional_chat_templates/tool_use.jinja", plain),
    ])
    .unwrap_or_else(|faults| panic!("{faults}"));
    let turns = r#""messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]"#;
    let (without, with) = (format!("{{{turns}}}"), format!("{{{turns}, \"tools\": [{{\"name\": \"f\"}}]}}"));
    let read = |tokenizer: &Tokenizer, row: &str| {
        datasets::read_text("r", row, &datasets::Options::default(), tokenizer).map_err(|faults| faults.to_string())
    };
    for tokenizer in [&both, &beside] {
        assert!(read(tokenizer, &without).is_ok());
        let found = read(tokenizer, &with).expect_err("another template");
        assert!(
            found.contains("another chat template for rows with `tools`") && found.contains("`data.chat_template`"),
            "{found}"
        );
    }
    let found = read(&none, &without).expect_err("no default");
    assert!(found.contains("none of them is the default: `tool_use`, `rag`"), "{found}");
    // A template that is named is the one for all rows.
    let chosen = ChatSettings { template: Some(("t.jinja".into(), plain.into())), ..ChatSettings::default() };
    for tokenizer in [both, none, beside] {
        let tokenizer = tokenizer.with_chat(&chosen).unwrap_or_else(|fault| panic!("{fault}"));
        assert!(read(&tokenizer, &with).is_ok());
    }
}

/// What jinja2 makes of a part of a list is a list.
#[test]
fn a_part_of_a_list_is_a_list() {
    for (expression, expected) in [
        ("x[1:] | tojson", "[2, 3]"),
        ("x[::-1] | tojson", "[3, 2, 1]"),
        ("{'a': x[1:]} | tojson", "{\"a\": [2, 3]}"),
        ("namespace(a=x[1:]).a | tojson", "[2, 3]"),
        ("[[1], [2]] | sum(start=[]) | tojson", "[1, 2]"),
        ("'a b c'.split()[1:] | tojson", "[\"b\", \"c\"]"),
        ("[x[1:]] | tojson(indent=1)", "[\n [\n  2,\n  3\n ]\n]"),
        ("x[1:].index(3)", "1"),
        ("x[:].copy() | tojson", "[1, 2, 3]"),
    ] {
        let tokenizer = with_template(&format!("{{%- set x = [1, 2, 3] %}}{{{{ {expression} }}}}"));
        let conversation = Conversation::new(vec![Message::new("user", "q")]);
        assert_eq!(tokenizer.render_chat(&conversation, false).expect("text"), expected, "{expression}");
    }
}
