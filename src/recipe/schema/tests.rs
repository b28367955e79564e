use std::collections::BTreeSet;

use super::*;

/// The dotted names of all keys of a schema's table, those of a kind with the name of the kind before them.
fn names(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let kinds = schema["allOf"].as_array();
    let own = |rule: &Value| rule["then"]["properties"].as_object().expect("keys").keys().cloned().collect::<Vec<_>>();
    let of_kinds: BTreeSet<String> = kinds.into_iter().flatten().flat_map(own).collect();
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let name = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        names(value, &name, found);
        names(&value["items"], &name, found);
        if !of_kinds.contains(key) {
            found.insert(name);
        }
    }
    for rule in kinds.into_iter().flatten() {
        let kind = rule["if"]["properties"]["kind"]["const"].as_str().expect("a kind");
        found.extend(own(rule).into_iter().map(|key| format!("{path}.{kind}.{key}")));
    }
}

#[test]
fn every_key_has_its_line_and_every_line_a_key() {
    let mut found = BTreeSet::new();
    names(&schema(&Registry::default()), "", &mut found);
    let words: BTreeSet<String> = words::WORDS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(words.len(), words::WORDS.len(), "one stands there twice");
    assert_eq!(found, words);
}

#[test]
fn keys_say_what_they_may_be() {
    let schema = schema(&Registry::default());
    let of = |path: &str| path.split('.').fold(&schema, |table, key| &table["properties"][key]);
    assert_eq!(of("adapter.rank")["default"], json!(16));
    assert_eq!(of("adapter.rank_pattern")["additionalProperties"], json!({ "type": "integer", "minimum": 0 }));
    assert_eq!(
        of("model.init")["required"],
        json!(["tokenizer", "hidden_size", "layers", "heads", "intermediate_size"])
    );
    assert_eq!(of("data.too_long")["enum"], json!(["error", "drop", "truncate"]));
    assert_eq!(of("output.dir")["default"], json!("runs/RECIPE"));
    for key in ["data.eval", "model.quantize", "model.init.head_dim", "train.steps", "train.batch_size"] {
        assert_eq!(of(key).get("default"), None, "{key} depends on others");
    }
    assert_eq!(of("objective")["description"], "The loss; see losses/README.md");
    assert_eq!(of("train.epochs")["minimum"], json!(1));
    let rules = of("objective")["allOf"].as_array().expect("rules");
    let nll = rules.iter().find(|rule| rule["if"]["properties"]["kind"]["const"] == "nll").expect("the default");
    assert!(nll["if"].get("required").is_none(), "it is the kind where none is written");
    let gamma = of("objective.gamma")["description"].as_str().expect("words");
    assert!(gamma.starts_with("lambda_pr: ") && gamma.contains("\ntofu: "), "{gamma}");
}

/// An objective that a program adds is in its schema, with its keys.
#[test]
fn what_is_added_to_the_registry_is_in_the_schema() {
    let mut registry = Registry::default();
    registry.objectives.push(losses::ObjectiveKind {
        name: "mine",
        purpose: "show it",
        build: |section| {
            section.value("strength", 0.5);
            (Registry::default().objectives[0].build)(section)
        },
    });
    let schema = schema(&registry);
    let objective = &schema["properties"]["objective"];
    assert!(objective["properties"]["kind"]["enum"].as_array().expect("kinds").contains(&json!("mine")));
    assert_eq!(objective["properties"]["strength"]["type"], "number");
}
