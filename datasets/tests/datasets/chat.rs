//! Chat templates against transformers' `apply_chat_template` (`fixtures/chat/make_expected.py`).

use datasets::{Conversation, Message, Options, Tokenizer, TrainOn, read_text};

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
    let broken = from_template("{% for message in messages %}").err().expect("a fault").to_string();
    assert!(broken.starts_with("m/chat_template.jinja: cannot read the chat template: "), "{broken}");
    let endless = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    assert!(with_template(endless).render_chat(&Conversation::default(), false).is_err());
    let recursive = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}";
    assert!(with_template(recursive).render_chat(&Conversation::default(), false).is_err());
}

#[test]
fn a_date_is_formatted_as_python_does() {
    let date =
        with_template("{{ strftime_now('%d %b %Y') }}").render_chat(&Conversation::default(), false).expect("a date");
    let parts: Vec<&str> = date.split(' ').collect();
    assert!(matches!(parts.as_slice(), [day, month, year] if day.len() == 2 && month.len() == 3 && year.len() == 4));
    assert!(with_template("{{ strftime_now('%d%') }}").render_chat(&Conversation::default(), false).is_err());
}

/// Qwen 3 writes an empty thought before the last answer and takes it away when the conversation goes on.
#[test]
fn a_template_that_rewrites_history_is_refused_unless_the_last_turn_alone_is_learned() {
    let qwen = std::fs::read_to_string(fixture("chat/qwen.jinja")).expect("the template is there");
    let file = std::fs::read_to_string(fixture("byte_level/tokenizer.json")).expect("the fixture is there");
    let load = |template: &str| {
        let config = r#"{"eos_token": "<|im_end|>"}"#;
        let files = [("tokenizer.json", &*file), ("tokenizer_config.json", config), ("chat_template.jinja", template)];
        Tokenizer::from_texts(&files).unwrap_or_else(|faults| panic!("{faults}"))
    };
    let row = |system: &str| {
        format!(
            r#"{{"messages": [{system}{{"role": "user", "content": "a"}}, {{"role": "assistant", "content": "b"}},
            {{"role": "user", "content": "c"}}, {{"role": "assistant", "content": "d"}}]}}"#
        )
        .replace('\n', " ")
    };
    let read = |row: &str, tokenizer: &Tokenizer, train_on| {
        read_text("r", row, &Options { train_on, ..Options::default() }, tokenizer)
    };
    let tokenizer = load(&qwen);
    let fault = read(&row(""), &tokenizer, TrainOn::Assistant).expect_err("a fault").to_string();
    assert!(fault.starts_with("r:1: the chat template writes message 1 differently"), "{fault}");
    assert!(fault.contains("set `data.train_on = \"last\"`"), "{fault}");
    let data = read(&row(""), &tokenizer, TrainOn::Last).unwrap_or_else(|faults| panic!("{faults}"));
    let example = &data.examples[0];
    let learned = example.ids.iter().zip(&example.learned).filter(|(_, learned)| **learned).map(|(id, _)| *id);
    let text = tokenizer.decode(&learned.collect::<Vec<_>>(), false).expect("text");
    assert_eq!(text, "<think>\n\n</think>\n\nd<|im_end|>");

    // Mistral's puts the system message into the last turn if that is the user's, and else leaves it out.
    let mistral = std::fs::read_to_string(fixture("chat/mistral.jinja")).expect("the template is there");
    let tokenizer = load(&mistral);
    assert!(read(&row(""), &tokenizer, TrainOn::Assistant).is_ok());
    let fault = read(&row(r#"{"role": "system", "content": "s"}, "#), &tokenizer, TrainOn::Last).err();
    let fault = fault.expect("a fault").to_string();
    assert!(fault.contains("message 4 differently") && fault.contains("take a `system` message out"), "{fault}");
}
