//! Results of tools: which call they are of, and whether they say so once more.

use std::collections::VecDeque;

use serde_json::{Map, Value};

/// Calls whose results are still to come, while one goes over the turns of a conversation.
#[derive(Default)]
pub(crate) struct Awaited {
    calls: VecDeque<Value>,
}

impl Awaited {
    /// The fields of the next turn that repeat what the calls before it say: results stand in the order of their calls, and so
    /// neither a call's id nor the name of its function says more.
    pub(crate) fn repeated(&mut self, role: &str, fields: &Map<String, Value>) -> Vec<&'static str> {
        if let Some(calls) = fields.get("tool_calls").and_then(list) {
            self.calls = calls.into();
        }
        let Some(call) = self.calls.pop_front_if(|_| role == "tool") else { return Vec::new() };
        let function = call.get("function").unwrap_or(&call);
        let said = [("tool_call_id", call.get("id")), ("name", function.get("name"))];
        said.into_iter().filter(|(field, of_call)| fields.get(*field) == *of_call).map(|(field, _)| field).collect()
    }
}

/// A list, or a text that is JSON of one.
fn list(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values.clone()),
        Value::String(text) => serde_json::from_str(text).ok(),
        _ => None,
    }
}
