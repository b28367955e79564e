//! The names that a chat template speaks of, by which we know whether it has a use for what a row says.

use std::collections::BTreeSet;

/// Names and whole texts that stand in the tags of a template.
#[derive(Debug, Default)]
pub(crate) struct Mentions {
    names: BTreeSet<String>,
    /// Those of the names that may be a field of something: behind a dot, or quoted.
    fields: BTreeSet<String>,
    /// Those that may be a variable.
    variables: BTreeSet<String>,
    /// It looks at the type of a call's arguments.
    tells_arguments_apart: bool,
    /// It goes over a call's arguments one by one.
    goes_over_arguments: bool,
}

impl Mentions {
    /// Reads `{{ .. }}` and `{% .. %}` of a template; what lies between them is text.
    pub fn of(source: &str) -> Self {
        let mut found = Self::default();
        let mut rest = source;
        while let Some(start) = rest.find('{') {
            rest = &rest[start + 1..];
            if let Some(comment) = rest.strip_prefix('#') {
                rest = comment.split_once("#}").map_or("", |(_, after)| after);
            } else if rest.starts_with(['{', '%']) {
                let end = if rest.starts_with('{') { "}}" } else { "%}" };
                rest = tag(&rest[1..], end, &mut found);
            }
        }
        let words: Vec<&str> = source.split_whitespace().collect();
        // Whether there are any says nothing of their type.
        let types = ["string", "mapping", "not"];
        let asks = |words: &[&str]| {
            let is_of_type = types.iter().any(|name| words[2].starts_with(name)) && !words[3].starts_with("none");
            words[0].ends_with("arguments") && words[1] == "is" && is_of_type
        };
        found.tells_arguments_apart = words.windows(4).any(asks);
        let compact: String = words.concat().replace(['\'', '"', ']'], "");
        found.goes_over_arguments = ["arguments.items(", "arguments|items"].iter().any(|way| compact.contains(way));
        found
    }

    /// True when the template has `name`, as a variable, an attribute or a key.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// True when it reads a field of this name of something.
    pub fn has_field(&self, name: &str) -> bool {
        self.fields.contains(name)
    }

    /// True when it reads a variable of this name.
    pub fn has_variable(&self, name: &str) -> bool {
        self.variables.contains(name)
    }

    /// The names that may be variables.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(String::as_str)
    }

    /// True when it writes calls as JSON, or goes over their arguments, whatever the type of these.
    pub fn writes_calls_as_json(&self) -> bool {
        (self.has("tojson") || self.goes_over_arguments) && !self.tells_arguments_apart
    }
}

/// Collects the names of one tag; gives what follows its end.
fn tag<'a>(text: &'a str, end: &str, found: &mut Mentions) -> &'a str {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let here = &text[at..];
        if let Some(after) = here.strip_prefix(end) {
            return after;
        }
        let length = match c {
            '\'' | '"' => {
                let length = quoted(here, c);
                let name = here[1..length].trim_end_matches(c).to_owned();
                found.fields.insert(name.clone());
                found.names.insert(name);
                length
            }
            c if c.is_alphabetic() || c == '_' => {
                let length = here.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(here.len());
                let name = here[..length].to_owned();
                let of_something = text[..at].trim_end().ends_with('.');
                let kind = if of_something { &mut found.fields } else { &mut found.variables };
                kind.insert(name.clone());
                found.names.insert(name);
                length
            }
            c => c.len_utf8(),
        };
        at += length;
    }
    ""
}

/// The bytes of a quoted text with its quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::Mentions;

    #[test]
    fn names_are_those_of_the_tags() {
        let mentions = Mentions::of(
            "documents {# weight #}{%- if tools is defined and m['reasoning_content'] %}# Tools\\n{{ 'the tool\\'s }} name' + \
             enable_thinking }}{% endif %}{{ m.get(\"tool_calls\") }} {names}",
        );
        for name in ["tools", "reasoning_content", "enable_thinking", "tool_calls", "m"] {
            assert!(mentions.has(name), "{name}: {mentions:?}");
        }
        for name in ["documents", "weight", "thinking", "tool", "Tools", "names", "name"] {
            assert!(!mentions.has(name), "{name}: {mentions:?}");
        }
        for (name, is_field, is_variable) in [
            ("reasoning_content", true, false),
            ("tool_calls", true, false),
            ("enable_thinking", false, true),
            ("m", false, true),
        ] {
            assert_eq!((mentions.has_field(name), mentions.has_variable(name)), (is_field, is_variable), "{name}");
        }
        let both = Mentions::of("{% if thinking and m.thinking %}{{ m . reasoning }}{% endif %}");
        assert!(both.has_field("thinking") && both.has_variable("thinking") && !both.has_variable("reasoning"));
        Mentions::of("{{ 'open {% \u{e4}{{");
    }
}
