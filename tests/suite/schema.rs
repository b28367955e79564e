//! The schema of recipes, as an editor takes it: what the program reads passes, and what it refuses by its form does not.
//! `tools/check_schema.py` asks validators of others.

use serde_json::Value;

use crate::support::Workplace;

/// What is wrong with a value by a schema, for the words that the schema of recipes is written with.
fn wrong(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    for (word, rule) in schema.as_object().expect("a schema") {
        let holds = match (word.as_str(), value) {
            ("type", _) => match rule.as_str().expect("a word") {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64() || value.is_u64(),
                "number" => value.is_number(),
                other => panic!("a type `{other}`"),
            },
            ("enum", _) => rule.as_array().expect("a list").contains(value),
            ("const", _) => rule == value,
            ("minimum", Value::Number(number)) => number.as_f64() >= rule.as_f64(),
            ("pattern", Value::String(text)) => {
                // There is one pattern, of devices.
                assert_eq!(rule, "^(auto|cpu|cuda(:[0-9]+)?)$");
                ["auto", "cpu", "cuda"].contains(&text.as_str()) || text.starts_with("cuda:")
            }
            ("items", Value::Array(items)) => {
                items.iter().for_each(|item| wrong(rule, item, path, found));
                true
            }
            ("anyOf", _) => rule.as_array().expect("a list").iter().any(|schema| passes(schema, value)),
            ("allOf", _) => {
                rule.as_array().expect("a list").iter().for_each(|schema| wrong(schema, value, path, found));
                true
            }
            ("if", _) => {
                if passes(rule, value) {
                    wrong(&schema["then"], value, path, found);
                }
                true
            }
            ("required", Value::Object(table)) => {
                rule.as_array().expect("a list").iter().all(|key| table.contains_key(key.as_str().expect("a key")))
            }
            ("propertyNames", Value::Object(table)) => table.keys().all(|key| passes(rule, &Value::from(key.as_str()))),
            ("properties", Value::Object(table)) => {
                let known = rule.as_object().expect("a table");
                for (key, value) in table {
                    if let Some(schema) = known.get(key) {
                        wrong(schema, value, &format!("{path}.{key}"), found);
                    }
                }
                true
            }
            ("additionalProperties", Value::Object(table)) => {
                let known = schema.get("properties").and_then(Value::as_object);
                let mut others = table.iter().filter(|(key, _)| known.is_none_or(|known| !known.contains_key(*key)));
                match rule {
                    Value::Bool(may_be) => *may_be || others.next().is_none(),
                    schema => others.all(|(_, value)| passes(schema, value)),
                }
            }
            // About values of another type, or of no effect.
            (
                "minimum" | "pattern" | "items" | "required" | "propertyNames" | "properties" | "additionalProperties",
                _,
            )
            | ("then" | "title" | "description" | "default" | "$schema", _) => true,
            (other, _) => panic!("`{other}` is not looked at here"),
        };
        if !holds {
            found.push(format!("{path}: {word} {rule}, found {value}"));
        }
    }
}

fn passes(schema: &Value, value: &Value) -> bool {
    let mut found = Vec::new();
    wrong(schema, value, "", &mut found);
    found.is_empty()
}

/// What is wrong with a recipe's text.
fn faults(schema: &Value, text: &str) -> Vec<String> {
    let table: toml::Table = text.parse().expect("TOML");
    let mut found = Vec::new();
    wrong(schema, &serde_json::to_value(table).expect("JSON"), "", &mut found);
    found
}

#[test]
fn every_recipe_that_comes_with_the_program_passes() {
    let place = Workplace::new();
    let printed = place.trainer("schema").succeeds();
    let kept = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/trainer.schema.json"));
    let hint = "`trainer schema > recipes/trainer.schema.json` writes it anew";
    assert!(printed.stdout == kept.expect("the schema beside the recipes"), "{hint}");
    let schema = printed.json();
    let list = place.trainer("recipes").succeeds().stdout;
    let names: Vec<&str> =
        list.lines().filter(|line| line.starts_with("  ")).filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 40);
    for name in names {
        let copied = place.trainer(&format!("recipes cp {name}")).succeeds();
        assert!(copied.stderr.contains("trainer.schema.json` lets an editor complete"), "{}", copied.stderr);
        let text = place.text(&format!("{name}.toml"));
        assert!(text.starts_with("#:schema ./trainer.schema.json\n# "), "{text}");
        assert_eq!(faults(&schema, &text), Vec::<String>::new(), "{name}");
    }
    for name in ["trunc_r", "sfr_words", "quickstart_compare", "paper_nll", "diffuse_numbers"] {
        place.trainer(&format!("recipes cp {name} real --model org/name --train a.jsonl")).succeeds();
        let text = place.text(&format!("real/{name}.toml"));
        assert!(text.starts_with("#:schema ./trainer.schema.json\n# "), "{text}");
        assert_eq!(faults(&schema, &text), Vec::<String>::new(), "{name}");
    }
}

/// A run's own recipe has every default written out: the schema knows them all.
#[test]
fn what_is_resolved_passes() {
    let place = Workplace::new();
    let schema = place.trainer("schema").succeeds().json();
    let resolved = place.trainer("check recipe.toml --json").succeeds().json()["recipe"].clone();
    let mut found = Vec::new();
    wrong(&schema, &resolved, "", &mut found);
    assert_eq!(found, Vec::<String>::new());
    assert!(resolved["optimizer"]["betas"].is_array());
}

#[test]
fn what_the_program_refuses_by_its_form_does_not_pass() {
    let place = Workplace::new();
    let schema = place.trainer("schema").succeeds().json();
    let good = place.text("recipe.toml");
    assert_eq!(faults(&schema, &good), Vec::<String>::new());
    for (from, to) in [
        ("rank = 4", "r = 4"),
        ("rank = 4", "rank = \"4\""),
        ("rank = 4", "rank = 4\nkind = \"loraa\""),
        ("train = [\"rows.jsonl\"]", "train = 3"),
        ("train = [\"rows.jsonl\"]", "train = [{ name = \"a\" }]"),
        ("train = [\"rows.jsonl\"]", "train = [{ path = \"a\", weigth = 2 }]"),
        ("train = [\"rows.jsonl\"]", "train = [\"rows.jsonl\"]\nrename = { a = 3 }"),
        ("batch_size = 4", "batch_size = 0"),
        ("[optimizer]", "[optimiser]"),
        ("[optimizer]", "[objective]\nalpha = 1.4\n[optimizer]"),
        ("[optimizer]", "[objective]\nkind = \"cdiv\"\nbeta = 1.4\n[optimizer]"),
        ("[optimizer]", "[objective]\nkind = \"cdivv\"\n[optimizer]"),
        ("[optimizer]", "[[auxiliary]]\nkind = \"mtp\"\nk = 3\n[optimizer]"),
        ("[optimizer]", "[[auxiliary]]\nweight = 1\n[optimizer]"),
        ("[optimizer]", "[[auxiliary]]\nkind = \"sfr\"\n[optimizer]"),
        ("path = \"builtin:tiny\"", "path = \"builtin:tiny\"\ndevice = \"gpu\""),
    ] {
        let text = good.replacen(from, to, 1);
        assert!(text != good && !faults(&schema, &text).is_empty(), "{to} passes");
        place.write("wrong.toml", text);
        assert_eq!(place.trainer("check wrong.toml").code, Some(1), "{to}: the program takes it");
    }
}

#[test]
fn manual_pages_have_every_command() {
    let place = Workplace::new();
    place.trainer("man pages/man1").succeeds();
    let page = place.text("pages/man1/trainer-run.1");
    assert!(page.contains("Train as a recipe says") && page.contains("\\-\\-resume"), "{page}");
    let help = place.trainer("--help").succeeds().stdout;
    let commands = help.split("Commands:").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("commands");
    // What goes on in a second line stands further in.
    let named = commands.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let commands: Vec<&str> = named.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands.iter().filter(|command| **command != "help") {
        assert!(place.path(&format!("pages/man1/trainer-{command}.1")).is_file(), "{command}");
    }
    place.write("file", "");
    let ended = place.trainer("man file");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("cannot write the manual pages"), "{}", ended.stderr);
}
