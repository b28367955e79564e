//! One message of a conversation, under the names that OpenAI, ShareGPT and other trainers write.

use faults::{Fault, nearest};
use serde_json::{Map, Value, json};

use crate::conversation::Message;
use crate::row::{Names, decoded, is_nothing, listed, string, wrong_type};
use crate::way::Way;

/// Names of who speaks.
pub(crate) const ROLE: [&str; 2] = ["role", "from"];

/// Names of what is said.
pub(crate) const CONTENT: [&str; 2] = ["content", "value"];

/// Names of a thought before an answer.
pub(crate) const THOUGHTS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// What says of a message whether it is learned, each with whether `true` says that it is.
pub(crate) const LEARNED: [(&str, bool); 10] = [
    ("weight", true),
    ("train", true),
    ("training", true),
    ("trainable", true),
    ("train_on_turn", true),
    ("loss", true),
    ("trained", true),
    ("is_trained", true),
    ("learn", true),
    ("masked", false),
];

/// What other programs read of a message and we do not, with what to do about it.
const REFUSED: [(&str, &str); 29] = [
    (
        "function_call",
        "write it as `tool_calls`: `[{\"type\": \"function\", \"function\": {\"name\", \"arguments\"}}]`",
    ),
    ("train_detail", "a message is learned as a whole: split it, or write `train`"),
    ("training_detail", "a message is learned as a whole: split it, or write `train`"),
    ("mask", "say `train: false` of a message that is not learned"),
    ("loss_mask", "say `train: false` of a message that is not learned"),
    ("loss_scale", "say `train: false` of a message that is not learned"),
    ("loss_weight", "say `train: false` of a message that is not learned"),
    ("labels", "say `train: false` of a message that is not learned"),
    ("train_mask", "say `train: false` of a message that is not learned"),
    ("no_loss", "say `train: false` of a message that is not learned"),
    ("no_train", "say `train: false` of a message that is not learned"),
    ("ignore_loss", "say `train: false` of a message that is not learned"),
    ("is_masked", "say `train: false` of a message that is not learned"),
    ("thought", "write it as `reasoning_content`"),
    ("thoughts", "write it as `reasoning_content`"),
    ("cot", "write it as `reasoning_content`"),
    ("chain_of_thought", "write it as `reasoning_content`"),
    ("rationale", "write it as `reasoning_content`"),
    ("reasoning_text", "write it as `reasoning_content`"),
    ("reasoning_details", "write its text as `reasoning_content`"),
    ("thinking_blocks", "write their text as `reasoning_content`"),
    ("prefix", "put the beginning of the answer into its content"),
    ("refusal", "put what the model is to say into `content`"),
    ("image", "only text is read"),
    ("images", "only text is read"),
    ("video", "only text is read"),
    ("videos", "only text is read"),
    ("audio", "only text is read"),
    ("audios", "only text is read"),
];

/// True for a name by which other programs say what is learned, and how much.
pub(crate) fn is_mask(name: &str) -> bool {
    REFUSED.iter().any(|(refused, hint)| *refused == name && hint.starts_with("say `train"))
}

/// Reads the message called `name` in faults.
pub(super) fn parse(name: &str, value: &Value, names: Names<'_>) -> Result<Message, Fault> {
    let Value::Object(turn) = value else {
        let fault = wrong_type(name, "an object", value);
        return Err(match value {
            Value::String(_) => fault.hint(
                "a message says who speaks: `{\"role\": \"user\", \"content\": \"..\"}`; several answers are a row each",
            ),
            Value::Array(_) => fault.hint("a row is one conversation: write a row for each list of messages"),
            _ => fault,
        });
    };
    let (role_key, content_key) = (key_in(turn, "role", &ROLE, names), key_in(turn, "content", &CONTENT, names));
    if let Some(key) = [role_key, content_key].into_iter().find(|key| turn.contains_key(*key) && names.ignores(key)) {
        let fault =
            Fault::new(format!("{} names `{key}`, without which `{name}` is no message", names.way.key("ignore")));
        return Err(
            fault.hint("it may name any other column or field; a column beside the messages is left out by itself")
        );
    }
    let said = turn.get(content_key).filter(|value| !value.is_null());
    let spoken = match turn.get(role_key) {
        Some(Value::Null) | None => return Err(missing(name, role_key, turn, names)),
        Some(value) => string(&format!("{name}.{role_key}"), value)?,
    };
    if spoken.is_empty() {
        let fault = Fault::new(format!("`{name}.{role_key}` is empty"));
        return Err(fault.hint("say whose turn it is: `user`, `assistant`"));
    }
    let mut message = Message::new(role(spoken), "");
    let own = |key: &str| key == role_key || key == content_key || LEARNED.iter().any(|(known, _)| *known == key);
    for (key, value) in turn.iter().filter(|(key, value)| !own(key) && !is_nothing(value) && !names.ignores(key)) {
        let full = format!("{name}.{key}");
        if let Some((_, hint)) =
            REFUSED.iter().find(|(refused, _)| refused == key).filter(|_| !is_neutral(value) || key == "train_mask")
        {
            return Err(Fault::new(format!("`{full}` is not read")).hint(left_out(hint, key, names.way)));
        }
        if ROLE.contains(&key.as_str()) || CONTENT.contains(&key.as_str()) {
            let other = if ROLE.contains(&key.as_str()) { role_key } else { content_key };
            return Err(Fault::new(format!("`{name}` has both `{other}` and `{key}`")).hint("keep one of them"));
        }
        let value = if key == "tool_calls" { calls(&full, value)? } else { value.clone() };
        if !is_nothing(&value) {
            message.fields.insert(key.clone(), value);
        }
    }
    message.learned = learned(name, turn, names)?;
    let has_calls = message.fields.contains_key("tool_calls");
    message.content = match said {
        Some(Value::Array(parts)) => {
            message.parts = texts_of(&format!("{name}.{content_key}"), parts)?;
            Some(message.parts.concat())
        }
        Some(value) => Some(string(&format!("{name}.{content_key}"), value)?.to_owned()),
        None if has_calls => None,
        None => return Err(missing(name, content_key, turn, names)),
    };
    if role_key == "from" {
        agent(&mut message, spoken, &format!("{name}.{content_key}"))?;
    }
    Ok(message)
}

/// Calls of tools: a list of objects, of which list and objects may be JSON in a text, as tables have them.
fn calls(name: &str, value: &Value) -> Result<Value, Fault> {
    match decoded(name, value)? {
        Value::Array(calls) => {
            let call = |(index, call): (usize, &Value)| {
                let full = format!("{name}[{index}]");
                let call = decoded(&full, call)?;
                if call.is_object() { Ok(call) } else { Err(wrong_type(&full, "an object", &call)) }
            };
            calls.iter().enumerate().map(call).collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Null => Ok(Value::Null),
        other => Err(wrong_type(name, "a list", &other)),
    }
}

/// The name that stands in `turn` for `key`: what `data.rename` says, or one of the usual ones.
pub(crate) fn key_in<'a>(turn: &Map<String, Value>, key: &'a str, usual: &[&'a str], names: Names<'a>) -> &'a str {
    match names.column_of(key) {
        renamed if renamed != key => renamed,
        _ => {
            let holds = |name: &&&str| turn.get(**name).is_some_and(|value| !value.is_null());
            let is_there = |name: &&&str| turn.contains_key(**name);
            usual.iter().find(holds).or_else(|| usual.iter().find(is_there)).copied().unwrap_or(key)
        }
    }
}

fn missing(name: &str, key: &str, turn: &Map<String, Value>, names: Names<'_>) -> Fault {
    let full = format!("{name}.{key}");
    if turn.contains_key(key) {
        return Fault::new(format!("`{full}` is null")).hint("write what is said, or take the row out");
    }
    let fault = Fault::new(format!("`{full}` is missing"));
    let others: Vec<&str> = turn.keys().map(String::as_str).filter(|key| !names.ignores(key)).collect();
    let usual: &[&str] = match key {
        "content" => &["text", "message", "utterance", "body", "msg"],
        _ => &["speaker", "author", "user", "sender", "name"],
    };
    match nearest(key, others.iter().copied()) {
        Some(near) => fault.hint(format!("the message has `{near}`")),
        None => match usual.iter().find(|name| others.contains(name)) {
            Some(near) => fault.hint(format!("is it `{near}`? then set {}", names.way.rename([(*near, key)]))),
            None => fault.hint(format!("the message has {}", listed(others.into_iter()))),
        },
    }
}

/// What chat templates call a speaker that other people's files name otherwise.
pub(crate) fn role(spoken: &str) -> &str {
    const ROLES: [(&str, &[&str]); 4] = [
        ("user", &["user", "human"]),
        ("assistant", &["assistant", "gpt", "chatgpt", "model", "bot", "ai", "bard", "bing"]),
        ("system", &["system"]),
        ("tool", &["tool_response"]),
    ];
    let is_name = |name: &&str| name.eq_ignore_ascii_case(spoken);
    ROLES.iter().find(|(_, names)| names.iter().any(is_name)).map_or(spoken, |(role, _)| role)
}

/// Of ShareGPT's turns of agents: a call under `function_call`, and what came back under `observation`.
fn agent(message: &mut Message, spoken: &str, name: &str) -> Result<(), Fault> {
    match spoken {
        "observation" => message.role = "tool".into(),
        "function_call" | "tool_call" => {
            let hint = "write `{\"name\": \"..\", \"arguments\": {..}}`, or a list of them";
            let no_call = || Fault::new(format!("`{name}` is no call of a function")).hint(hint);
            let call = decoded(name, &Value::String(message.text().into())).map_err(|_| no_call())?;
            let calls = match call {
                Value::Array(calls) if !calls.is_empty() => calls,
                call => vec![call],
            };
            if calls.iter().any(|call| !call.get("name").is_some_and(Value::is_string)) {
                return Err(no_call());
            }
            let calls: Vec<Value> =
                calls.into_iter().map(|call| json!({"type": "function", "function": call})).collect();
            message.role = "assistant".into();
            message.content = None;
            message.fields.insert("tool_calls".into(), Value::Array(calls));
        }
        _ => {}
    }
    Ok(())
}

/// The texts of a content in parts.
fn texts_of(name: &str, parts: &[Value]) -> Result<Vec<String>, Fault> {
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let full = format!("{name}[{index}]");
        match part {
            Value::String(words) => texts.push(words.clone()),
            Value::Object(fields) => {
                let kind = fields.get("type").and_then(Value::as_str).unwrap_or("text");
                if !["text", "input_text", "output_text"].contains(&kind) {
                    let fault = Fault::new(format!("`{full}` is of type `{kind}`"));
                    return Err(fault.hint("only text is read: take the part out, or the row"));
                }
                refuse_of_part(&full, fields)?;
                let words = fields.get("text").or_else(|| fields.get("content"));
                let words = words.ok_or_else(|| Fault::new(format!("`{full}.text` is missing")))?;
                texts.push(string(&format!("{full}.text"), words)?.to_owned());
            }
            _ => return Err(wrong_type(&full, "a part with `type` and `text`", part)),
        }
    }
    Ok(texts)
}

/// Refuses what a part says of being learned, unless it says nothing, and any other field: a part is its text.
fn refuse_of_part(name: &str, part: &Map<String, Value>) -> Result<(), Fault> {
    let own = |key: &str| ["type", "text", "content"].contains(&key);
    for (key, value) in part.iter().filter(|(key, value)| !own(key) && !is_nothing(value)) {
        let learns = LEARNED.iter().find(|(known, _)| known == key).map(|(_, learns)| *learns);
        if learns.is_some() && flag(value) == learns
            || learns.is_none() && is_neutral(value)
            || HARMLESS.contains(&key.as_str())
        {
            continue;
        }
        let fault = Fault::new(format!("`{name}.{key}` is not read"));
        return Err(fault.hint(match learns {
            Some(_) => "a message is learned as a whole: say it of the message, or make two of it".to_owned(),
            None => format!("take `{key}` out of the part: only its text is learned"),
        }));
    }
    match part.get("text").filter(|_| part.get("content").is_some_and(|other| !is_nothing(other))) {
        Some(text) if Some(text) != part.get("content") => {
            Err(Fault::new(format!("`{name}` has both `text` and `content`")).hint("keep one of them"))
        }
        _ => Ok(()),
    }
}

/// Fields of a part that change nothing in what it says.
const HARMLESS: [&str; 2] = ["cache_control", "index"];

/// What a message says of being learned.
fn learned(name: &str, turn: &Map<String, Value>, names: Names<'_>) -> Result<Option<bool>, Fault> {
    let mut said: Option<(&str, bool)> = None;
    for (key, learns) in LEARNED {
        let Some(value) = turn.get(key).filter(|value| !value.is_null() && !names.ignores(key)) else { continue };
        let flag = flag(value).ok_or_else(|| {
            let what = match value {
                Value::Number(number) => format!("`{name}.{key}` = {number}: a message is learned, or it is not"),
                other => format!("`{name}.{key}` must be true or false, found {}", crate::row::described(other)),
            };
            Fault::new(what).hint(left_out("write 0 or 1, or `false` or `true`", key, names.way))
        })?;
        let is_learned = flag == learns;
        match said {
            Some((other, before)) if before != is_learned => {
                let fault = Fault::new(format!("`{name}.{other}` and `{name}.{key}` contradict each other"));
                return Err(fault.hint("keep one of them"));
            }
            _ => said = Some((key, is_learned)),
        }
    }
    Ok(said.map(|(_, is_learned)| is_learned))
}

/// True, false, 1 or 0, as a flag.
pub(crate) fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) if number.as_f64() == Some(1.0) => Some(true),
        Value::Number(number) if number.as_f64() == Some(0.0) => Some(false),
        _ => None,
    }
}

/// True for what changes nothing where a field of another trainer has it.
pub(crate) fn is_neutral(value: &Value) -> bool {
    is_nothing(value) || *value == Value::Bool(false)
}

/// A hint with the other way out.
pub(crate) fn left_out(hint: &str, name: &str, way: Way) -> String {
    match way {
        Way::Recipe => format!("{hint}; or leave it out: {}", way.key(&format!("ignore = [\"{name}\"]"))),
        // No flag leaves a column out.
        Way::Flags => format!("{hint}; or take it out"),
    }
}
