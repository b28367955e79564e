//! Compares chat templates with what transformers makes of them, and trains on them: the lines are those that
//! `tools/render_chat_templates.py` writes. One row of a table for each template; what differs goes to stderr.
//!
//! ```text
//! cargo run --release -p datasets --example chat_templates -- cases.jsonl
//! ```

use std::collections::BTreeMap;

use datasets::{ChatSettings, Conversation, Message, Moment, Options, Tokenizer, read_text};
use serde_json::{Map, Value, json};

/// Tokens at which models of many families stop.
const STOPS: [&str; 21] = [
    "</s>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<turn|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>",
    "<|end_of_turn|>",
    "<EOS_TOKEN>",
    "[|endofturn|]",
    "<|user|>",
    "<|observation|>",
    "<SPECIAL_12>",
    "<eos>",
];

#[derive(Default)]
struct Counts {
    rendered: usize,
    refused: usize,
    otherwise: usize,
    trained: usize,
    apart: usize,
    untrained: usize,
}

fn main() {
    let path = std::env::args().nth(1).expect("the file of cases");
    let text = std::fs::read_to_string(path).expect("the cases can be read");
    let mut table: BTreeMap<String, Counts> = BTreeMap::new();
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).expect("a case is JSON");
        let name = case["template"].as_str().expect("a name").to_owned();
        let counts = table.entry(name).or_default();
        compare(&case, counts);
    }
    println!(
        "| template | alike | refused by both | otherwise | trained | of them a turn each | not trained |\n|---|---|---|---|---|---|---|"
    );
    let mut sums = Counts::default();
    for (name, counts) in &table {
        let Counts { rendered, refused, otherwise, trained, apart, untrained } = counts;
        println!("| {name} | {rendered} | {refused} | {otherwise} | {trained} | {apart} | {untrained} |");
        sums.rendered += rendered;
        sums.refused += refused;
        sums.otherwise += otherwise;
        sums.trained += trained;
        sums.apart += apart;
        sums.untrained += untrained;
    }
    let Counts { rendered, refused, otherwise, trained, apart, untrained } = sums;
    println!("| all {} | {rendered} | {refused} | {otherwise} | {trained} | {apart} | {untrained} |", table.len());
}

/// Renders a case whole and opened, and trains on it where transformers renders both.
fn compare(case: &Value, counts: &mut Counts) {
    let place = format!("{} {}", case["template"], case["conversation"]);
    let whole = conversation(case);
    let tokenizer = tokenizer(case);
    let opened = Conversation { messages: whole.messages[..whole.messages.len() - 1].to_vec(), ..whole.clone() };
    for (key, conversation, open) in [("whole", &whole, false), ("opened", &opened, true)] {
        let found = match &tokenizer {
            Ok(tokenizer) => tokenizer.render_chat(conversation, open).map_err(|fault| fault.message),
            Err(message) => Err(message.clone()),
        };
        match (case[key]["text"].as_str(), found) {
            (Some(expected), Ok(found)) if expected == found => counts.rendered += 1,
            (None, Err(_)) => counts.refused += 1,
            (expected, found) => {
                counts.otherwise += 1;
                eprintln!(
                    "{place} {key}:\n  transformers {:?}\n  here         {found:?}",
                    expected.ok_or(&case[key]["error"])
                );
            }
        }
    }
    let (Ok(tokenizer), Some(opened)) = (&tokenizer, case["opened"]["text"].as_str()) else { return };
    if case["whole"]["text"].is_null() {
        return;
    }
    match train(case, tokenizer, opened) {
        Ok(true) => {
            counts.trained += 1;
            counts.apart += 1;
        }
        Ok(false) => counts.trained += 1,
        Err(message) => {
            counts.untrained += 1;
            eprintln!("{place} training: {message}");
        }
    }
}

fn conversation(case: &Value) -> Conversation {
    let message = |message: &Value| {
        let mut fields = message.as_object().expect("a message").clone();
        let role = fields.remove("role").and_then(|role| Some(role.as_str()?.to_owned())).expect("a role");
        let said = fields.remove("content");
        let parts = said.iter().filter_map(Value::as_array).flatten().filter_map(|part| part["text"].as_str());
        let parts: Vec<String> = parts.map(str::to_owned).collect();
        let content = match parts.is_empty() {
            true => said.and_then(|said| Some(said.as_str()?.to_owned())),
            false => Some(parts.concat()),
        };
        Message { role, content, parts, fields, learned: None }
    };
    let part = |key: &str| case.get(key).filter(|value| !value.is_null()).cloned();
    Conversation {
        messages: case["messages"].as_array().expect("messages").iter().map(message).collect(),
        tools: part("tools"),
        documents: part("documents"),
        arguments: case["arguments"].as_object().cloned().unwrap_or_default(),
    }
}

/// The tokenizer inside the program with the template, and with the tokens that it names.
fn tokenizer(case: &Value) -> Result<Tokenizer, String> {
    let files = datasets::builtin::tokenizer_files();
    let file = files.iter().find(|(name, _)| *name == "tokenizer.json").map(|(_, text)| text.as_ref());
    let mut file: Value = serde_json::from_str(file.expect("a tokenizer")).expect("JSON");
    let texts = [case["whole"]["text"].as_str(), case["opened"]["text"].as_str(), case["source"].as_str()];
    let mut found: Vec<String> = STOPS.iter().map(|stop| (*stop).to_owned()).collect();
    for text in texts.into_iter().flatten() {
        found.extend(marks(text));
    }
    found.sort();
    found.dedup();
    let of_words = file["model"]["vocab"].as_object().into_iter().flatten().filter_map(|(_, id)| id.as_u64());
    let first = of_words.max().unwrap_or(0) + 1;
    let tokens = file["added_tokens"].as_array_mut().expect("a list");
    let mut next =
        tokens.iter().filter_map(|token| token["id"].as_u64()).max().map_or(first, |last| first.max(last + 1));
    let known = |content: &str, tokens: &[Value]| {
        tokens.iter().find(|token| token["content"] == content).and_then(|token| token["id"].as_u64())
    };
    let mut ids = Vec::new();
    for content in found {
        let id = known(&content, tokens).unwrap_or_else(|| {
            let id = next;
            next += 1;
            tokens.push(json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}));
            id
        });
        if STOPS.contains(&content.as_str()) {
            ids.push(id);
        }
    }
    let config = r#"{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}"#;
    let generation = json!({"eos_token_id": ids}).to_string();
    let texts = [
        ("tokenizer.json", &*file.to_string()),
        ("tokenizer_config.json", config),
        ("generation_config.json", &generation),
    ];
    let with = |arguments: &Map<String, Value>| {
        let settings = ChatSettings {
            template: Some(("template".into(), case["source"].as_str().expect("a template").to_owned())),
            arguments: arguments.clone(),
            moment: Moment::parse("2026-11-28T09:05:07").ok(),
            end_of_turn: None,
        };
        let tokenizer = Tokenizer::from_texts(&texts).map_err(|faults| faults.to_string())?;
        tokenizer.with_chat(&settings).map_err(|fault| fault.to_string())
    };
    // transformers takes switches that the template does not have, and nothing comes of them.
    let mut switches = Map::new();
    for (name, value) in case["arguments"].as_object().into_iter().flatten() {
        let mut more = switches.clone();
        more.insert(name.clone(), value.clone());
        if with(&more).is_ok() {
            switches = more;
        }
    }
    with(&switches)
}

/// What looks like a special token: short, in angle brackets with a bar.
fn marks(text: &str) -> Vec<String> {
    let starts = text.match_indices('<').map(|(at, _)| at);
    let mark = |at: usize| {
        let end = at + text[at..].char_indices().take(40).find(|(_, letter)| *letter == '>')?.0 + 1;
        let mark = &text[at..end];
        let is_one =
            mark[1..].find('<').is_none() && !mark.contains(char::is_whitespace) && !mark.contains(['\'', '"']);
        (is_one && (mark.contains('|') || mark.contains('｜') || mark.contains("_of_"))).then(|| mark.to_owned())
    };
    starts.filter_map(mark).collect()
}

/// Trains on a case: its last answer must be learned after exactly the text that inference will see. True where each
/// turn is an example of its own.
fn train(case: &Value, tokenizer: &Tokenizer, opened: &str) -> Result<bool, String> {
    let mut row = Map::new();
    for key in ["messages", "tools", "documents"] {
        row.extend(case.get(key).filter(|value| !value.is_null()).map(|value| (key.to_owned(), value.clone())));
    }
    let options = Options { max_length: 1 << 20, ..Options::default() };
    let data =
        read_text("row", &Value::Object(row).to_string(), &options, tokenizer).map_err(|faults| faults.to_string())?;
    let example = data.examples.last().ok_or("no example")?;
    let last = example.learned.iter().rposition(|learned| *learned).ok_or("nothing is learned")?;
    let first = example.learned[..last].iter().rposition(|learned| !learned).map_or(0, |before| before + 1);
    let text = |ids: &[u32]| tokenizer.decode(ids, false).map_err(|fault| fault.to_string());
    let (before, answer) = (text(&example.ids[..first])?, text(&example.ids[first..=last])?);
    let has_marks = case["whole"].get("generation").is_some();
    if before != opened && !has_marks {
        return Err(format!("the prompt is\n  {before:?}, inference sees\n  {opened:?}"));
    }
    let messages = case["messages"].as_array().ok_or("no messages")?;
    let words = messages.last().and_then(|message| message["content"].as_str()).unwrap_or_default();
    let words = words.rsplit("</think>").next().unwrap_or_default().trim();
    if !answer.contains(words) {
        return Err(format!("the answer {answer:?} does not have {words:?}"));
    }
    if !has_marks && example.ids[..first] != tokenizer.encode(opened, false).map_err(|fault| fault.to_string())? {
        return Err("the prompt's tokens are others than those of the opened turn".into());
    }
    Ok(data.report.notices.iter().any(|notice| notice.oddity == datasets::Oddity::Apart))
}
