//! Overrides of the command line, `table.key=value`, laid over what a file says.

use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::tree::{Entry, Node, Value, parse_table};
use crate::{Fault, Place, Source};

/// A key that was to be taken away and is not there: whether it is one at all is known when the reading is over.
pub(crate) struct Absent {
    /// The names of the tables around it, joined by dots; numbers of items left out.
    pub table: String,
    pub key: String,
    pub place: Place,
}

/// Puts `written` on top of `root`: `table.key=value` sets, `table.key=` takes away what is set. In a list, the number of
/// an item, from 0, is a name; that of the first that is not there adds one.
///
/// # Errors
/// A key or value that cannot be read, or an item that is not there.
pub(crate) fn apply(root: &mut Vec<Entry>, written: &str) -> Result<Option<Absent>, Fault> {
    let unreadable = || {
        Fault::new(format!("cannot read `--set {written}`")).at(Place::Named("--set".into())).hint(
            "write `--set table.key=value`, for example `--set optimizer.learning_rate=1e-4`; `table.key=` unsets",
        )
    };
    // A line break would smuggle in a second key.
    let (key, value) = written.split_once('=').filter(|_| !written.contains('\n')).ok_or_else(unreadable)?;
    let path = path_of(key).ok_or_else(unreadable)?;
    if value.trim().is_empty() {
        return Ok((!unset(root, &path)).then(|| absent(written, key, path)));
    }
    let source = Arc::new(Source { name: "--set".into(), text: as_toml(key, value) });
    let mut faults = Vec::new();
    let entries = parse_table(&source, &mut faults);
    if !faults.is_empty() || entries.len() != 1 {
        return Err(unreadable());
    }
    merge(root, entries, path.len() - 1, "")?;
    Ok(None)
}

/// The names that a dotted key is made of.
fn path_of(key: &str) -> Option<Vec<String>> {
    let text = format!("{key} = 0");
    let table = DeTable::parse(&text).ok()?;
    let mut names = Vec::new();
    let mut table = table.get_ref();
    loop {
        let (name, value) = table.iter().next().filter(|_| table.len() == 1)?;
        names.push(name.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => return Some(names),
        }
    }
}

/// A value that is not TOML by itself is taken as a string, and `[a, b]` as a list of strings, so that a shell user need
/// not quote twice.
fn as_toml(key: &str, value: &str) -> String {
    let plain = format!("{key} = {value}");
    if DeTable::parse(&plain).is_ok() {
        return plain;
    }
    let word = |word: &str| toml::Value::String(word.into());
    let list = value.trim().strip_prefix('[').and_then(|value| value.strip_suffix(']'));
    let value = match list.filter(|list| !list.contains(['"', '\'', '[', ']', '{', '}'])) {
        Some(list) => toml::Value::Array(list.split(',').map(|item| word(item.trim())).collect()),
        None => word(value),
    };
    format!("{key} = {value}")
}

/// Tables are joined for `depth` levels, which is as far as the key of an override reaches; below that, what is written
/// replaces what was there. `path` is the dotted name of the table `base`.
fn merge(base: &mut Vec<Entry>, over: Vec<Entry>, depth: usize, path: &str) -> Result<(), Fault> {
    for entry in over {
        let full = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        match base.iter_mut().find(|present| present.key == entry.key) {
            Some(present) => {
                if merge_node(&mut present.node, entry.node, depth, &full)? {
                    present.key_place = entry.key_place;
                }
            }
            None => base.push(entry),
        }
    }
    Ok(())
}

/// True when the whole of `present` is replaced.
fn merge_node(present: &mut Node, over: Node, depth: usize, path: &str) -> Result<bool, Fault> {
    match (&mut present.value, over.value) {
        (Value::Table(present), Value::Table(over)) if depth > 0 => merge(present, over, depth - 1, path)?,
        (Value::Array(items), Value::Table(over)) if depth > 0 => merge_items(items, over, depth - 1, path)?,
        (value, over_value) => {
            *value = over_value;
            present.place = over.place;
            return Ok(true);
        }
    }
    Ok(false)
}

fn merge_items(items: &mut Vec<Node>, over: Vec<Entry>, depth: usize, path: &str) -> Result<(), Fault> {
    for entry in over {
        let (count, key) = (items.len(), &entry.key);
        let Ok(index) = key.parse::<usize>() else {
            let message = format!("`{path}` is a list, and `{key}` is no number of an item of it");
            let hint = format!("items are counted from 0: `--set {path}.0.{key}=VALUE`");
            return Err(Fault::new(message).at(entry.key_place).hint(hint));
        };
        let full = format!("{path}.{index}");
        match items.get_mut(index) {
            Some(item) => {
                merge_node(item, entry.node, depth, &full)?;
            }
            None if index == count => items.push(entry.node),
            None => {
                let message = format!("there is no `{full}`: `{path}` has {count} of them, counted from 0");
                return Err(Fault::new(message).at(entry.key_place).hint(format!("`{path}.{count}` adds one")));
            }
        }
    }
    Ok(())
}

/// Takes away what is at `path`; false when nothing is.
fn unset(entries: &mut Vec<Entry>, path: &[String]) -> bool {
    let [first, rest @ ..] = path else { return false };
    let Some(at) = entries.iter().position(|entry| entry.key == *first) else { return false };
    if rest.is_empty() {
        entries.remove(at);
        return true;
    }
    unset_in(&mut entries[at].node, rest)
}

fn unset_in(node: &mut Node, path: &[String]) -> bool {
    match &mut node.value {
        Value::Table(entries) => unset(entries, path),
        Value::Array(items) => {
            let index = path[0].parse::<usize>().ok().filter(|index| *index < items.len());
            match (index, &path[1..]) {
                (Some(index), []) => {
                    items.remove(index);
                    true
                }
                (Some(index), rest) => unset_in(&mut items[index], rest),
                (None, _) => false,
            }
        }
        _ => false,
    }
}

fn absent(written: &str, key: &str, path: Vec<String>) -> Absent {
    let source = Arc::new(Source { name: "--set".into(), text: written.into() });
    let mut names: Vec<String> = path.into_iter().filter(|name| name.parse::<usize>().is_err()).collect();
    let last = names.pop().unwrap_or_default();
    Absent { table: names.join("."), key: last, place: Place::Span(source, 0..key.len()) }
}
