//! Rows with an intent: the four templates, their masks, what is refused, and noise.

use datasets::{
    Asked, Conversation, Example, IntentNoise, Message, NoiseKind, Options, Part, Template, TrainOn, read_prompts,
};
use serde_json::{Value, json};

use super::{byte_level, dataset, faults};

/// The text of an example, intents in braces and responses in brackets where they are learned.
fn marked(example: &Example) -> String {
    let tokenizer = byte_level();
    let mut text = String::new();
    let mut run: Vec<u32> = Vec::new();
    let mut state = (Part::Prompt, false);
    let mut flush = |run: &mut Vec<u32>, state: (Part, bool)| {
        let piece = tokenizer.decode(run, false).expect("text");
        run.clear();
        text += &match state {
            (Part::Intent, true) => format!("<{piece}>"),
            (Part::Response, true) => format!("[{piece}]"),
            _ => piece,
        };
    };
    for ((id, part), learned) in example.ids.iter().zip(&example.parts).zip(&example.learned) {
        if (*part, *learned) != state && !run.is_empty() {
            flush(&mut run, state);
        }
        state = (*part, *learned);
        run.push(*id);
    }
    flush(&mut run, state);
    text
}

fn only(text: &str, options: &Options) -> String {
    marked(&dataset(text, options).examples[0])
}

#[test]
fn the_four_templates_are_written_and_masked() {
    let tokenizer = byte_level();
    let end = tokenizer.decode(&[tokenizer.end_token().expect("it has one")], false).expect("text");
    let row = r#"{"prompt": "q", "intent": "a, b", "response": "yes"}"#;
    assert!(only(row, &Options::default()).ends_with(&format!("q<a, b ###>[ yes{end}]")));
    let comments = Options { template: Some(Template::Comments), ..Options::default() };
    let expected = format!("q### Keywords:\n<a, b\n### Comment:\n>[yes\n###{end}]");
    assert!(only(row, &comments).ends_with(&expected), "{}", only(row, &comments));
    let steps = r#"{"prompt": "q", "steps": [{"intent": "add", "text": "1 + 1"}, {"intent": "end", "text": "2"}]}"#;
    let expected = format!("q###< add ###>[ 1 + 1\n###]< end ###>[ 2{end}]");
    assert!(only(steps, &Options::default()).ends_with(&expected), "{}", only(steps, &Options::default()));
    let code = Options { template: Some(Template::Code), ..Options::default() };
    let expected = format!("q###< add ###>[\n1 + 1\n###]< end ###>[\n2\n###]< End of code. ###{end}>");
    assert!(only(steps, &code).ends_with(&expected), "{}", only(steps, &code));
    // The row's own template wins.
    let own = steps.replace("\"q\",", "\"q\", \"template\": \"code\",");
    assert_eq!(only(&own, &Options::default()), only(steps, &code));
}

/// What a sampler has to be told of a row that was trained on.
#[test]
fn a_template_is_known_from_its_text() {
    let tokenizer = byte_level();
    for (row, template) in [
        (r#"{"prompt": "q", "intent": "a, b", "response": "yes"}"#, Template::Chat),
        (r#"{"prompt": "q", "intent": "a, b", "response": "yes"}"#, Template::Comments),
        (r#"{"prompt": "q", "steps": [{"intent": "add", "text": "1 + 1"}]}"#, Template::Mathematics),
        (r#"{"prompt": "q", "steps": [{"intent": "add", "text": "1 + 1"}]}"#, Template::Code),
    ] {
        let data = dataset(row, &Options { template: Some(template), ..Options::default() });
        let example = &data.examples[0];
        let answer = example.parts.iter().position(|part| *part != Part::Prompt).expect("an answer");
        let [prompt, answer] =
            [&example.ids[..answer], &example.ids[answer..]].map(|ids| tokenizer.decode(ids, true).expect("text"));
        assert_eq!(Template::of_text(&prompt, &answer), Some(template), "{prompt:?} {answer:?}");
        assert_eq!(prompt.strip_suffix(template.head()), Some("q"));
    }
}

#[test]
fn either_part_can_be_masked() {
    let row = r#"{"prompt": "q", "intent": "a", "response": "yes"}"#;
    let with = |intent, response| Options { train_on: TrainOn::Parts { intent, response }, ..Options::default() };
    let both = only(row, &with(true, true));
    assert_eq!(both, only(row, &Options::default()));
    let bare = |text: &str| text.replace(['<', '>', '[', ']'], "");
    let (intent, response) = (only(row, &with(true, false)), only(row, &with(false, true)));
    assert!(intent.contains("<a ###>") && !intent.contains("[ yes"), "{intent}");
    assert!(response.contains("[ yes") && !response.contains("<a"), "{response}");
    assert_eq!((bare(&intent), bare(&response)), (bare(&both), bare(&both)));
}

#[test]
fn what_would_break_the_sampler_is_refused() {
    for (fields, part) in [
        (r##""intent": "a ### b", "response": "r""##, "`intent` holds the separator `###`"),
        (r##""intent": " ", "response": "r""##, "`intent` is empty"),
        (r##""intent": "a", "response": """##, "`response` is empty"),
        (r##""intent": "a", "response": "b ### c", "template": "comments""##, "`response` holds the separator `###`"),
        (r##""steps": []"##, "`steps` is empty"),
        (
            r#####""steps": [{"intent": "a", "text": "b"}, {"intent": "###", "text": "b"}]"#####,
            "`steps[1].intent` holds",
        ),
        (r##""steps": [{"intent": "a", "text": "x ### y"}]"##, "`steps[0].text` holds the separator"),
        (
            r##""steps": [{"intent": "End of code.", "text": "x"}], "template": "code""##,
            "`steps[0].intent` is the mark that ends the answer, `End of code.`",
        ),
        (r##""steps": [{"intent": "a"}]"##, "`steps[0].text` is missing"),
        (r##""steps": [3]"##, "`steps[0]` must be an object"),
        (r##""steps": [{"intent": "a", "text": "b"}], "template": "chat""##, "needs `intent` and `response`"),
        (r##""intent": "a", "response": "r", "template": "code""##, "needs `steps`"),
        (r##""intent": "a", "response": "r", "template": "chta""##, "did you mean \"chat\"?"),
    ] {
        let found = faults(&format!(r#"{{"prompt": "p", {fields}}}"#), &Options::default()).join(" ");
        assert!(found.contains(part), "{fields}: {found}");
    }
    // In a chat the first separator alone is one.
    assert!(
        only(r##"{"prompt": "q", "intent": "a", "response": "# ### b"}"##, &Options::default()).contains("# ### b")
    );
    let options = Options { allow_empty_intent: true, ..Options::default() };
    assert!(only(r#"{"prompt": "q", "intent": "", "response": "r"}"#, &options).contains("q< ###>[ r"));
}

#[test]
fn noise_spoils_the_asked_part_of_the_intents_and_nothing_else() {
    let rows: String = (0..200)
        .map(|row| format!("{{\"prompt\": \"p{row}\", \"intent\": \"intent {row}\", \"response\": \"r{row}\"}}\n"))
        .collect();
    let intents = |kind, fraction, seed| -> Vec<String> {
        let options = Options { intent_noise: Some(IntentNoise { kind, fraction, seed }), ..Options::default() };
        let texts = dataset(&rows, &options).examples.iter().map(marked).collect::<Vec<_>>();
        texts.iter().map(|text| text.split(['<', '>']).nth(1).unwrap_or_default().to_string()).collect()
    };
    let clean = intents(NoiseKind::Shuffle, 0.0, 1);
    assert_eq!(clean[7], "intent 7 ###");
    let changed = |found: &[String]| found.iter().zip(&clean).filter(|(a, b)| a != b).count();
    let sorted = |mut found: Vec<String>| {
        found.sort();
        found
    };
    let shuffled = intents(NoiseKind::Shuffle, 0.25, 1);
    assert_eq!((changed(&shuffled), sorted(shuffled.clone())), (50, sorted(clean.clone())));
    assert_eq!(intents(NoiseKind::Shuffle, 0.25, 1), shuffled);
    assert_ne!(intents(NoiseKind::Shuffle, 0.25, 2), shuffled);
    let dropped = intents(NoiseKind::Drop, 0.1, 1);
    assert_eq!(dropped.iter().filter(|intent| *intent == " ###").count(), 20);
    let replaced = intents(NoiseKind::Replace, 1.0, 1);
    assert!(changed(&replaced) > 190 && sorted(replaced.clone()) != sorted(clean.clone()));
    assert!(replaced.iter().all(|intent| clean.contains(intent)));
}

#[test]
fn prompts_are_read_from_any_rows_that_ask_something() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("prompts.jsonl");
    let rows = "{\"prompt\": \"a\", \"id\": 7, \"answer\": \"c\"}\n\
                {\"messages\": [{\"role\": \"user\", \"content\": \"b\"}]}\n";
    std::fs::write(&path, rows).expect("written");
    let read = read_prompts(&path, crate::asking(&[], false)).unwrap_or_else(|faults| panic!("{faults}")).rows;
    let asked = [Asked::Text("a".into()), Asked::Conversation(Conversation::new(vec![Message::new("user", "b")]))];
    assert_eq!(read.iter().map(|row| &row.asked).collect::<Vec<_>>(), asked.iter().collect::<Vec<_>>());
    let columns: Vec<Value> = read.into_iter().map(|row| Value::Object(row.columns)).collect();
    assert_eq!(columns, [json!({"id": 7, "answer": "c"}), json!({})]);
    std::fs::write(&path, "{\"prompt\": \"a\"}\n{\"text\": \"b\"}\n").expect("written");
    let found = read_prompts(&path, crate::asking(&[], false)).expect_err("a fault").to_string();
    assert!(found.contains(":2: `prompt` is missing"), "{found}");
}
