//! The names that a chat template speaks of, by which we know whether it has a use for what a row says.

use std::collections::BTreeSet;

/// Names and whole texts that stand in the tags of a template.
#[derive(Debug, Default)]
pub(crate) struct Mentions {
    names: BTreeSet<String>,
    /// It looks at the type of a call's arguments.
    tells_arguments_apart: bool,
}

impl Mentions {
    /// Reads `{{ .. }}` and `{% .. %}` of a template; what lies between them is text.
    pub fn of(source: &str) -> Self {
        let mut names = BTreeSet::new();
        let mut rest = source;
        while let Some(start) = rest.find('{') {
            rest = &rest[start + 1..];
            if let Some(comment) = rest.strip_prefix('#') {
                rest = comment.split_once("#}").map_or("", |(_, after)| after);
            } else if rest.starts_with(['{', '%']) {
                let end = if rest.starts_with('{') { "}}" } else { "%}" };
                rest = tag(&rest[1..], end, &mut names);
            }
        }
        let words: Vec<&str> = source.split_whitespace().collect();
        let tells_arguments_apart = words.windows(2).any(|pair| pair[0].ends_with("arguments") && pair[1] == "is");
        Self { names, tells_arguments_apart }
    }

    /// True when the template has `name`, as a variable, an attribute or a key.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// True when it writes calls as JSON, whatever the type of their arguments.
    pub fn writes_calls_as_json(&self) -> bool {
        self.has("tojson") && !self.tells_arguments_apart
    }
}

/// Collects the names of one tag; gives what follows its end.
fn tag<'a>(text: &'a str, end: &str, names: &mut BTreeSet<String>) -> &'a str {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let here = &text[at..];
        if let Some(after) = here.strip_prefix(end) {
            return after;
        }
        let length = match c {
            '\'' | '"' => {
                let length = quoted(here, c);
                names.insert(here[1..length].trim_end_matches(c).to_owned());
                length
            }
            c if c.is_alphabetic() || c == '_' => {
                let length = here.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(here.len());
                names.insert(here[..length].to_owned());
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
        Mentions::of("{{ 'open {% \u{e4}{{");
    }
}
