//! What stands beside the messages of a conversation and no text has.

use std::collections::BTreeSet;

use serde_json::Value;

use super::lost::altered;
use super::values::{edges, leaves, names, otherwise, renamed};
use crate::conversation::Conversation;
use crate::notices::Oddity;

/// What stands beside the messages and changes nothing in `text`, which `written` gives for the conversation: `tools`,
/// `documents`, one of either, or a field of theirs. A template may test for them, or count them, and write nothing of what they
/// say.
pub(super) fn unread(
    conversation: &Conversation,
    text: &str,
    written: &impl Fn(&Conversation) -> Option<String>,
) -> Vec<(Oddity, String)> {
    let is_same = |changed: Conversation| written(&changed).as_deref() == Some(text);
    let mut found = Vec::new();
    // Most templates write each tool as it stands, in JSON.
    if let Some(tools) = conversation.tools.as_ref().filter(|tools| !has_each(text, tools)) {
        let is_same = |tools: Option<Value>| is_same(Conversation { tools, ..conversation.clone() });
        // The type of a tool or of an argument decides how a template goes on, and may not be another.
        // Its switches are for whoever calls it.
        let says = |path: &str, value: &Value| path.rsplit('.').next() != Some("type") && !value.is_boolean();
        found.extend(unread_of("tools", tools, &says, text, &is_same));
    }
    if let Some(documents) = &conversation.documents {
        let is_same = |documents: Option<Value>| is_same(Conversation { documents, ..conversation.clone() });
        found.extend(unread_of("documents", documents, &|_, _| true, text, &is_same));
    }
    found
}

/// The name of the list where nothing that it says is read, otherwise each value and each field of its values that is not, and
/// the first sentence that the text has otherwise; `is_same` where another list in its place gives the same text.
fn unread_of(
    name: &str,
    list: &Value,
    says: &impl Fn(&str, &Value) -> bool,
    text: &str,
    is_same: &impl Fn(Option<Value>) -> bool,
) -> Vec<(Oddity, String)> {
    let is_unread = |changed: Option<Value>| changed.is_some_and(|changed| is_same(Some(changed)));
    let told = |what: String| (Oddity::Unread, format!("`{what}`"));
    if is_same(None) || is_unread(otherwise(list, says)) {
        return vec![told(name.to_owned())];
    }
    let values = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let of_one = |(at, value): (usize, &Value)| {
        let mut changed = list.clone();
        changed[at] = otherwise(value, says)?;
        is_same(Some(changed)).then(|| told(format!("{name}[{at}]")))
    };
    let mut found: Vec<_> = values.iter().enumerate().filter(|_| values.len() > 1).filter_map(of_one).collect();
    if !found.is_empty() {
        return found;
    }
    let mut said = Vec::new();
    leaves(list, "", &mut said);
    said.retain(|(path, value)| says(path, value));
    let mut lost: BTreeSet<String> = said.iter().map(|(path, _)| path.clone()).collect();
    lost.retain(|path| is_unread(otherwise(list, &|other, value| other == path && says(other, value))));
    let is_partial =
        |(path, _, changed): &(String, String, Value)| says(path, changed) && is_same(Some(changed.clone()));
    lost.extend(edges(list).into_iter().filter(is_partial).map(|(path, ..)| path));
    let names = names(list).into_iter().filter(|path| is_same(Some(renamed(list, path))));
    lost.extend(names.map(|path| path + ".*"));
    found.extend(lost.iter().map(|path| told(format!("{name}[].{path}"))));
    // A text of several lines may be written line by line, and one word is often a name for something else, but for what may
    // be chosen.
    let texts = said.iter().filter(|(path, _)| !lost.contains(path.as_str()));
    let texts = texts.filter_map(|(path, value)| Some((path, value.as_str()?)));
    let sentences = texts.filter(|(path, said)| (said.contains(' ') || path.ends_with("enum")) && !said.contains('\n'));
    let mut other = sentences.filter_map(|(path, said)| Some((path, altered(said, text)?)));
    let other = other.next().map(|(path, words)| (Oddity::Rewritten, format!("{words} of `{name}[].{path}`")));
    found.extend(other);
    found
}

/// True where the text has each value of the list in JSON, whatever blanks it is written with.
fn has_each(text: &str, list: &Value) -> bool {
    let dense = |text: &str| text.split_whitespace().collect::<String>();
    let text = dense(text);
    list.as_array().is_some_and(|values| values.iter().all(|value| text.contains(&dense(&value.to_string()))))
}
