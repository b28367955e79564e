//! A recipe that is no TOML at all: YAML or JSON, as other trainers have it, or rows in its place.

use std::path::Path;

use faults::{Fault, Place};

use super::elsewhere;

/// The fault of a text that is no TOML and looks like something else; `None` where it is TOML, or TOML with a slip.
pub fn fault(name: &str, text: &str) -> Option<Fault> {
    let text = text.trim_start_matches('\u{feff}');
    if text.parse::<toml::Table>().is_ok() {
        return None;
    }
    let ending = Path::new(name).extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let start = "`trainer recipes cp nll` writes one to start from";
    let fault = |what: &str, hint: String| Some(Fault::new(what).at(Place::file(name)).hint(hint));
    let objects = text.lines().filter(|line| line.trim_start().starts_with('{') && line.trim_end().ends_with('}'));
    let objects = objects.count();
    let listed = text.trim_start().strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with('{'));
    let of_rows = ["jsonl", "csv", "tsv"].contains(&&ending[..]);
    if of_rows || listed || objects > 1 && !text.contains('=') {
        let hint = format!("they are what `data.train` of a recipe names; {start}");
        return fault("these are rows, and a recipe is expected", hint);
    }
    // TOML begins with a key, a table's name in brackets or a comment.
    let json = ending == "json" || text.trim_start().starts_with('{');
    let yaml = matches!(&ending[..], "yaml" | "yml") || !json && looks_like_yaml(text);
    let what = match (json, yaml) {
        (true, _) => "this is JSON, and a recipe is TOML",
        (_, true) => "this is YAML, and a recipe is TOML",
        _ => return None,
    };
    let known = translated(text);
    let hint = match known.is_empty() {
        true => format!("write `[adapter]` and below it `rank = 16`, and so on; {start}"),
        false => format!("{}; `trainer init {name}` writes the recipe of it", known.join(", ")),
    };
    fault(what, hint)
}

/// More lines are `key: value` or `- item` than `key = value` or `[table]`.
fn looks_like_yaml(text: &str) -> bool {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let key = |line: &str| line.split_once(':').is_some_and(|(key, value)| is_key(key) && separates(value));
    let separates = lines().filter(|line| key(line) || line.starts_with("- ") || *line == "---").count();
    let of_toml = lines().filter(|line| line.contains('=') && !key(line) || line.starts_with('[')).count();
    separates > of_toml
}

fn separates(value: &str) -> bool {
    value.is_empty() || value.starts_with(char::is_whitespace)
}

fn is_key(key: &str) -> bool {
    let key = key.trim().trim_start_matches("- ").trim_matches('"');
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

/// At most this many keys are translated: enough to see how it goes.
const TRANSLATED: usize = 6;

/// ``"`lora_r` is `adapter.rank`"`` for the first known keys of the text.
fn translated(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    // JSON may have all of it on one line.
    for part in text.split(['\n', ',', '{']) {
        let Some((key, _)) = part.split_once(':').filter(|(key, _)| is_key(key)) else { continue };
        let key = key.trim().trim_start_matches("- ").trim_matches('"');
        if let Some(here) = elsewhere::own_key(key).filter(|here| *here != key) {
            let words = format!("`{key}` is `{here}` here");
            if !found.contains(&words) {
                found.push(words);
            }
        }
    }
    found.truncate(TRANSLATED);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(name: &str, text: &str) -> String {
        fault(name, text).map(|fault| fault.to_string()).unwrap_or_default()
    }

    #[test]
    fn yaml_and_json_are_told_from_toml_by_what_they_hold() {
        let yaml = "# axolotl\nbase_model: org/name\nlora_r: 8\ndatasets:\n  - path: rows.jsonl\n    type: alpaca\n";
        for name in ["a.toml", "a.yaml", "a", "a.yml"] {
            let words = words(name, yaml);
            assert!(words.contains("this is YAML, and a recipe is TOML"), "{name}: {words}");
            assert!(words.contains("`base_model` is `model.path` here, `lora_r` is `adapter.rank` here"), "{words}");
        }
        assert!(words("a.toml", "---\nlearning_rate: 1e-4\n...\n").contains("YAML"));
        assert!(words("a.toml", "model: {name: x}\nlist:\n- a\n- b\n").contains("YAML"));
        let json = "{\n  \"model_name_or_path\": \"m\",\n  \"num_train_epochs\": 3\n}\n";
        let found = words("a.toml", json);
        assert!(
            found.contains("this is JSON") && found.contains("`num_train_epochs` is `train.epochs` here"),
            "{found}"
        );
        assert!(words("a.json", "{}").contains("this is JSON"));
        let line = words("a.json", "\u{feff}{\"lora_alpha\": 3, \"optimizer\": {\"lr\": 1}}");
        assert!(
            line.contains("hint: `lora_alpha` is `adapter.alpha` here, `lr` is `optimizer.learning_rate` here;"),
            "{line}"
        );
        for rows in ["[\n {\"text\": \"a = b\"}\n]", "[{\"text\": 1}]"] {
            assert!(words("rows.json", rows).contains("these are rows"), "{rows}");
        }
        assert!(words("rows.csv", "prompt,completion\na,b\n").contains("these are rows"));
        let rows = "{\"text\": \"a\"}\n{\"text\": \"b\"}\n";
        assert!(
            words("rows.jsonl", rows).contains("these are rows") && words("a.toml", rows).contains("these are rows")
        );
    }

    #[test]
    fn toml_with_a_slip_is_none_of_them() {
        for text in [
            "",
            "a = 1\n",
            "[model]\npath = \"a: b\n",
            "seed: 17\n[model]\npath = \"m\"\n[data]\ntrain = [\"a\"]\n",
            "path = C:\\models\n",
            "# lora_r: 8\nseed = = 3\n",
            "[[auxiliary]\nkind = \"mtp\"\n",
        ] {
            assert_eq!(words("a.toml", text), "", "{text}");
        }
        // By its ending alone nothing is told: it can be read.
        assert_eq!(words("a.yaml", "seed = 1\n"), "");
    }
}
