//! Contents in parts of text. Some templates go over the parts and write each in its own way (Gemma 3 trims them), as
//! transformers lets them; most would refuse a list or write it as Python shows one, and are given the text as a whole.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::{ChatTemplate, LIMIT};
use crate::conversation::{Conversation, Message};

/// Two words that no template writes by itself.
const PROBES: [&str; 2] = ["Aardvark", "Zeppelin"];

impl ChatTemplate {
    /// What the template is given for the content of a message.
    pub(super) fn content(&self, message: &Message) -> Option<Json> {
        let content = message.content.as_deref()?;
        // What was put in another content's place to see what comes of it has no parts.
        let is_in_parts = !message.parts.is_empty() && message.parts.concat() == content;
        Some(match is_in_parts && self.goes_over_parts(&message.role) {
            true => as_list(message.parts.iter().map(String::as_str)),
            false => Json::from(content),
        })
    }

    /// True when the template writes every part of a content in parts, and nothing else of the list.
    fn goes_over_parts(&self, role: &str) -> bool {
        let known = |parts: &BTreeMap<String, bool>| parts.get(role).copied();
        if let Some(known) = known(&self.goes_over_parts.lock().expect("nobody panics with it")) {
            return known;
        }
        let said = |role: &str, content: Json| json!({"role": role, "content": content});
        let (parts, question) = (said(role, as_list(PROBES.into_iter())), || said("user", json!("Question")));
        let messages = match role {
            "user" => vec![parts],
            "system" | "developer" => vec![parts, question()],
            _ => vec![question(), parts, question()],
        };
        let messages = messages.iter().map(super::values::given).collect();
        let context = self.context(messages, &Conversation::default(), &Map::new(), false);
        let goes_over = self.rendered(context, LIMIT).is_ok_and(|text| {
            let shows_list = text.contains("'text'") || text.contains("\"text\"");
            PROBES.iter().all(|word| text.contains(word)) && !shows_list
        });
        self.goes_over_parts.lock().expect("nobody panics with it").insert(role.to_owned(), goes_over);
        goes_over
    }
}

fn as_list<'a>(parts: impl Iterator<Item = &'a str>) -> Json {
    parts.map(|text| json!({"type": "text", "text": text})).collect()
}
