//! The recipe as a JSON schema, for editors that complete and check TOML by one: made of what the reading of recipes asks
//! for, so that a key that is read and a key of the schema are the same.

use std::collections::BTreeMap;

use faults::{Document, Key, Section, Shape};
use losses::Registry;
use serde_json::{Map, Value, json};

use super::{read, words};

/// Recipes that ask for every key between them: which keys have a meaning depends on others. What is wrong with them
/// otherwise does not matter.
const PROBES: [&str; 6] = [
    "[model]\npath = \"m\"\n[data]\ntrain = [\"a\"]\neval = [\"b\"]\n[eval]\nprompts = \"p\"\n[sweep]\ngrid = [\"seed=1\"]\n",
    "[model]\npath = \"m\"\nquantize = \"nf4\"\n[data]\ntrain = [\"a\"]\nprefix_free = \"error\"\ntemplate = \"chat\"\n\
     intent_noise = { kind = \"shuffle\", fraction = 0.1 }\nchat = { user = \"a\", assistant = \"b\" }\n[schedule]\nkind = \"cosine\"\n",
    "[model]\ninit = { heads = 4, hidden_size = 64 }\n[data]\ntrain = [\"a\"]\n[schedule]\nkind = \"wsd\"\n[train]\nsteps = 1\n",
    "[model]\ninit = { heads = 2, hidden_size = 64 }\n[data]\ntrain = [\"a\"]\n[objective]\nkind = \"diffuse\"\n",
    "[model]\npath = \"m\"\n[data]\ntrain = [\"a\"]\n[adapter]\nkind = \"dora\"\n",
    "[[auxiliary]]\nkind = \"mtp\"\n",
];

/// What stands for the recipe's own name in the default of `output.dir`.
const NAME: &str = "RECIPE.toml";

/// The schema (JSON Schema, draft 7) of a recipe that may name what is in `registry`.
pub fn schema(registry: &Registry) -> Value {
    let keys = known(registry);
    let mut root = table("", &keys);
    merge(&mut root["properties"]["objective"], objective(&keys, registry));
    root["properties"]["auxiliary"]["items"] = auxiliary(registry);
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A recipe of `trainer`",
        "description": "What `trainer run`, `trainer sweep` and `trainer check` take. `trainer check` says more than this schema: \
                        which keys go together, and what they make of the rows.",
    });
    merge(&mut schema, root);
    schema
}

/// Every key that some recipe is asked for, each once; with its default where that is the same in all of them.
fn known(registry: &Registry) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for text in PROBES {
        let document = Document::parse(NAME, text, &[]).unwrap_or_else(|faults| unreachable!("{faults}"));
        let known = document.known();
        // Its faults are of no interest.
        drop(read(NAME, document, registry));
        for key in known.keys() {
            let Some(known) = keys.iter_mut().find(|known| known.full() == key.full()) else {
                keys.push(key);
                continue;
            };
            // One that is passed over in some recipes is nothing there.
            let default = known.default.take().filter(|default| key.default.as_ref() == Some(default));
            if known.shape.is_none() {
                *known = key;
            }
            known.default = default;
        }
    }
    keys
}

/// The schema of the table of this name.
fn table(name: &str, keys: &[Key]) -> Value {
    let inside: Vec<&Key> = keys.iter().filter(|key| key.table == name).collect();
    let mut properties = Map::new();
    let mut rest = Value::Bool(false);
    for key in &inside {
        match key.name.as_str() {
            "*" => rest = values(key.shape.as_ref().unwrap_or(&Shape::Any)),
            own => drop(properties.insert(own.into(), value(key, &key.full(), keys))),
        }
    }
    let mut table = json!({ "type": "object" });
    if !properties.is_empty() {
        table["properties"] = properties.into();
    }
    table["additionalProperties"] = rest;
    let required: Vec<&str> = inside.iter().filter(|key| key.required).map(|key| key.name.as_str()).collect();
    if !required.is_empty() {
        table["required"] = json!(required);
    }
    table
}

/// The schema of what a key may say, with its description, which is that of `named`, and its default.
fn value(key: &Key, named: &str, keys: &[Key]) -> Value {
    let mut schema = json!({});
    if let Some(word) = words::word(named) {
        schema["description"] = word.into();
    }
    let shape = key.shape.as_ref().unwrap_or(&Shape::Any);
    merge(&mut schema, if *shape == Shape::Table { table(&key.full(), keys) } else { values(shape) });
    if let Some(default) = &key.default {
        schema["default"] = json!(default);
    }
    schema
}

fn values(shape: &Shape) -> Value {
    match shape {
        Shape::Any => json!({}),
        Shape::Truth => json!({ "type": "boolean" }),
        Shape::Text => json!({ "type": "string" }),
        Shape::Words(words) => json!({ "type": "string", "enum": words }),
        Shape::Matching(pattern) => json!({ "type": "string", "pattern": pattern }),
        Shape::Whole(None) => json!({ "type": "integer" }),
        Shape::Whole(Some(least)) => json!({ "type": "integer", "minimum": least }),
        Shape::Number => json!({ "type": "number" }),
        Shape::List(item) => json!({ "type": "array", "items": values(item) }),
        Shape::Map(item) => json!({ "type": "object", "additionalProperties": values(item) }),
        Shape::Fields(fields) => {
            let properties: Map<String, Value> =
                fields.iter().map(|(name, shape)| ((*name).to_owned(), values(shape))).collect();
            let first: Vec<&str> = fields.iter().take(1).map(|(name, _)| *name).collect();
            json!({ "type": "object", "properties": properties, "additionalProperties": false, "required": first })
        }
        Shape::Either(shapes) => json!({ "anyOf": shapes.iter().map(values).collect::<Vec<_>>() }),
        Shape::Table => json!({ "type": "object" }),
    }
}

/// Of `[objective]`: its kinds, what they share, and for each kind its own keys.
fn objective(keys: &[Key], registry: &Registry) -> Value {
    let kinds = registry.objectives.iter().map(|kind| {
        let mut probe = Section::probe();
        (kind.build)(&mut probe);
        Kind { name: kind.name, purpose: kind.purpose, keys: probe.known().keys() }
    });
    let kinds: Vec<Kind> = kinds.collect();
    let own: Vec<&str> = kinds.iter().flat_map(|kind| &kind.keys).map(|key| key.name.as_str()).collect();
    let is_shared = |key: &&Key| key.table != "objective" || !own.contains(&key.name.as_str());
    let shared: Vec<Key> = keys.iter().filter(is_shared).cloned().collect();
    by_kind("objective", table("objective", &shared), &kinds, Some("nll"))
}

/// Of each `[[auxiliary]]`.
fn auxiliary(registry: &Registry) -> Value {
    let kinds = registry.auxiliaries.iter().map(|kind| {
        let mut probe = Section::probe();
        drop((kind.build)(&mut probe));
        Kind { name: kind.name, purpose: kind.purpose, keys: probe.known().keys() }
    });
    let names: Vec<&str> = registry.auxiliaries.iter().map(|kind| kind.name).collect();
    let kind = json!({ "description": words::word("auxiliary.kind"), "type": "string", "enum": names });
    let shared = json!({ "type": "object", "properties": { "kind": kind }, "additionalProperties": false, "required": ["kind"] });
    by_kind("auxiliary", shared, &kinds.collect::<Vec<_>>(), None)
}

/// One kind of an objective or an auxiliary loss, with its own keys.
struct Kind {
    name: &'static str,
    purpose: &'static str,
    keys: Vec<Key>,
}

/// The keys of all kinds, of which each kind has its own; `default` is the kind where none is written.
fn by_kind(table: &str, mut shared: Value, kinds: &[Kind], default: Option<&str>) -> Value {
    let lines: Vec<String> = kinds.iter().map(|kind| format!("\n{}: {}", kind.name, kind.purpose)).collect();
    let word = shared["properties"]["kind"]["description"].as_str().unwrap_or_default();
    shared["properties"]["kind"]["description"] = format!("{word}{}", lines.concat()).into();
    let common: Vec<String> =
        shared["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
    let mut all: BTreeMap<&str, (Value, Vec<&str>)> = BTreeMap::new();
    let mut rules = Vec::new();
    for kind in kinds {
        let mut own = Map::new();
        for key in &kind.keys {
            let schema = value(key, &format!("{table}.{}.{}", kind.name, key.name), &[]);
            let (_, owners) =
                all.entry(&key.name).or_insert_with(|| (values(key.shape.as_ref().unwrap_or(&Shape::Any)), Vec::new()));
            owners.push(kind.name);
            own.insert(key.name.clone(), schema);
        }
        let names: Vec<&str> = common.iter().map(String::as_str).chain(own.keys().map(String::as_str)).collect();
        let is_kind = json!({ "properties": { "kind": { "const": kind.name } } });
        let condition = match default == Some(kind.name) {
            true => is_kind,
            false => json!({ "properties": is_kind["properties"], "required": ["kind"] }),
        };
        let mut then = json!({ "propertyNames": { "enum": names } });
        let required: Vec<&str> = kind.keys.iter().filter(|key| key.required).map(|key| key.name.as_str()).collect();
        if !required.is_empty() {
            then["required"] = json!(required);
        }
        then["properties"] = own.into();
        rules.push(json!({ "if": condition, "then": then }));
    }
    for (key, (mut schema, owners)) in all {
        let words: Vec<String> = owners
            .iter()
            .map(|kind| {
                format!("{kind}: {}", words::word(&format!("{table}.{kind}.{key}")).unwrap_or("a key of its own"))
            })
            .collect();
        schema["description"] = words.join("\n").into();
        shared["properties"][key] = schema;
    }
    shared["allOf"] = rules.into();
    shared
}

/// Puts the keys of `more` behind those of `into`.
fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

#[cfg(test)]
mod tests;
