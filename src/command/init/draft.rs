//! A recipe that is being written: its keys with where they come from, and what of the source it leaves out.

use std::collections::BTreeSet;

use faults::counted;
use serde_json::Value;

use super::super::recipes::SCHEMA_LINE;
use super::source::Source;
use crate::recipe;

/// What is known of the recipe so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    keys: Vec<Written>,
    /// Settings that have no place here, and why.
    left: Vec<Left>,
    /// Settings that set nothing, or what is so here anyway.
    nothing: Vec<String>,
    /// What the user is to mend, a sentence each.
    remarks: Vec<String>,
}

#[derive(Debug)]
struct Written {
    key: &'static str,
    value: toml::Value,
    /// The setting that says it; `None` where the other program's default does, or what a real model wants.
    from: Option<String>,
    why: Option<String>,
}

#[derive(Debug)]
struct Left {
    setting: String,
    value: Value,
    why: String,
}

impl Draft {
    /// Writes a key of the recipe, from a setting of this name.
    pub fn set(&mut self, key: &str, value: impl Into<toml::Value>, from: &str) {
        self.put(key, value.into(), Some(from.to_owned()), None);
    }

    /// Writes a key that no setting says and that is not written yet, with the reason for its value.
    pub fn fill(&mut self, key: &str, value: impl Into<toml::Value>, why: &str) {
        if !self.has(key) {
            self.put(key, value.into(), None, Some(why.to_owned()));
        }
    }

    fn put(&mut self, key: &str, value: toml::Value, from: Option<String>, why: Option<String>) {
        let key = recipe::keys().find(|known| *known == key).unwrap_or_else(|| unreachable!("`{key}` is no key"));
        // Several settings may say one key together.
        let others = self.keys.iter().position(|written| written.key == key).map(|place| self.keys.remove(place).from);
        let from = match (others.flatten(), from) {
            (Some(others), Some(from)) if others != from => Some(format!("{others}, {from}")),
            (others, from) => from.or(others),
        };
        self.keys.push(Written { key, value, from, why });
    }

    /// Takes a key away.
    pub fn remove(&mut self, key: &str) {
        self.keys.retain(|written| written.key != key);
    }

    /// Takes a key away; the settings that said it are left out for this reason.
    pub fn leave_out(&mut self, key: &str, why: &str) {
        let Some(place) = self.keys.iter().position(|written| written.key == key) else { return };
        let Written { value, from, .. } = self.keys.remove(place);
        // What the other program's defaults say is of no interest.
        if let Some(from) = from {
            self.left(&from, &serde_json::to_value(value).unwrap_or_default(), why);
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|written| written.key == key)
    }

    pub fn get(&self, key: &str) -> Option<&toml::Value> {
        self.keys.iter().find(|written| written.key == key).map(|written| &written.value)
    }

    /// Says why a setting has no place here.
    pub fn left(&mut self, setting: &str, value: &Value, why: impl Into<String>) {
        self.left.push(Left { setting: setting.into(), value: value.clone(), why: why.into() });
    }

    /// Takes note of a setting that sets nothing, or what is so here anyway.
    pub fn nothing(&mut self, setting: &str) {
        self.nothing.push(setting.into());
    }

    /// Says what the user is to mend.
    pub fn remark(&mut self, sentence: impl Into<String>) {
        self.remarks.push(sentence.into());
    }

    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Settings that are written.
    pub fn translated(&self) -> usize {
        let settings = self.keys.iter().filter_map(|written| written.from.as_ref()).flat_map(|from| from.split(", "));
        settings.collect::<BTreeSet<_>>().len()
    }

    /// Settings that have no place.
    pub fn left_out(&self) -> usize {
        self.left.len()
    }

    /// Every setting that it says something of.
    #[cfg(test)]
    pub fn settings(&self) -> Vec<String> {
        let written = self.keys.iter().filter_map(|written| written.from.as_ref());
        let written = written.flat_map(|from| from.split(", ")).map(str::to_owned);
        let left = self.left.iter().map(|left| left.setting.clone());
        written.chain(left).chain(self.nothing.iter().cloned()).collect()
    }

    /// The recipe as a file.
    pub fn text(&self, source: &Source) -> String {
        let of = format!("{} ({})", source.path.display(), source.trainer.name());
        let mut text = format!("{SCHEMA_LINE}# Written by `trainer init` from {of}.\n");
        if !self.left.is_empty() {
            let settings = counted(self.left.len() as u64, "setting");
            text += &format!("# {settings} of it have no place here: the end says which, and why.\n");
        }
        let mut table = "";
        for key in recipe::keys() {
            let Some(written) = self.keys.iter().find(|written| written.key == key) else { continue };
            let (of, name) = key.rsplit_once('.').unwrap_or(("", key));
            if of != table {
                text += &format!("\n[{of}]\n");
                table = of;
            } else if of.is_empty() {
                text += "\n";
            }
            text += &wrapped(&written.comment(), "# ");
            text += &format!("{name} = {}\n", written.value);
        }
        text + &self.end(&of)
    }

    /// What the source has and the recipe has not.
    fn end(&self, of: &str) -> String {
        let mut text = String::new();
        if !self.left.is_empty() {
            text += &format!("\n# What {of} says and this recipe does not:\n#\n");
            for Left { setting, value, why } in &self.left {
                text += &wrapped(&format!("{setting}: {}", short(value)), "#   ");
                text += &wrapped(why, "#       ");
            }
        }
        if !self.nothing.is_empty() {
            text += "\n";
            text += &wrapped(
                &format!("What it sets to nothing, or to what is so here anyway: {}.", self.nothing.join(", ")),
                "# ",
            );
        }
        text
    }
}

impl Written {
    /// What the key is for, and where its value comes from.
    fn comment(&self) -> String {
        let word = recipe::word(self.key).unwrap_or_default();
        match (&self.from, &self.why) {
            (Some(from), _) => {
                let names: Vec<String> = from.split(", ").map(|name| format!("`{name}`")).collect();
                format!("{word} ({}).", names.join(", "))
            }
            (None, Some(why)) => format!("{word}; {why}."),
            (None, None) => format!("{word}."),
        }
    }
}

/// A value as it is named in a line.
fn short(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    match text.chars().count() > LONGEST {
        true => text.chars().take(LONGEST).chain("..".chars()).collect(),
        false => text,
    }
}

/// A text in lines of at most 120 letters, each after `before`.
fn wrapped(text: &str, before: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from(before.trim_end());
    for word in text.split_whitespace() {
        let is_first = line == before.trim_end();
        if !is_first && line.chars().count() + 1 + word.chars().count() > 120 {
            lines += &line;
            lines += "\n";
            line = before.trim_end().to_owned();
        }
        let gap = if line == before.trim_end() { &before[before.trim_end().len()..] } else { " " };
        line = format!("{line}{gap}{word}");
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_before_they_are_too_long() {
        let text = wrapped(&"word ".repeat(60), "#   ");
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.starts_with("#   word") && line.len() <= 120));
        assert_eq!(text.matches("word").count(), 60);
        assert_eq!(wrapped(&"x".repeat(200), "# "), format!("# {}\n", "x".repeat(200)));
    }
}
