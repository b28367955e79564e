//! Which modules PEFT takes an adapter to be on, by the keys of its configuration.

use serde_json::Value;

use crate::adapter_config::matches_module;
use crate::pattern::{compiled, of_whole};

/// The key of a configuration by which PEFT leaves a module as it is (`BaseTuner.inject_adapter`, `check_target_module_exists`);
/// `None` where no key does.
pub(crate) fn passed_over(path: &str, keys: &Value) -> Option<&'static str> {
    let named = |key: &str| match &keys[key] {
        Value::Array(names) => {
            let mut names = names.iter().filter_map(Value::as_str).peekable();
            names.peek()?;
            Some(names.any(|name| matches_module(path, name)))
        }
        // Of what Python's regular expressions have and these do not, nothing is said.
        Value::String(pattern) if !pattern.eq_ignore_ascii_case("all-linear") => {
            Some(of_whole(pattern).ok()?.is_match(path))
        }
        _ => None,
    };
    if named("target_modules") == Some(false) {
        return Some("target_modules");
    }
    if named("exclude_modules") == Some(true) {
        return Some("exclude_modules");
    }
    // A module that is named by its whole path is meant wherever it is.
    if keys["target_modules"].as_array().is_some_and(|names| names.iter().any(|name| name == path)) {
        return None;
    }
    let layers = match &keys["layers_to_transform"] {
        Value::Array(layers) => layers.iter().filter_map(Value::as_u64).collect(),
        layer => layer.as_u64().into_iter().collect::<Vec<_>>(),
    };
    let left_out =
        !layers.is_empty() && !layer(path, &keys["layers_pattern"]).is_some_and(|layer| layers.contains(&layer));
    left_out.then_some("layers_to_transform")
}

/// The layer that a module is in, by `layers_pattern`: the name, or names, of the list that has the layers, any when empty.
fn layer(path: &str, lists: &Value) -> Option<u64> {
    let lists: Vec<&str> = match lists {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => name.as_str().filter(|name| !name.is_empty()).into_iter().collect(),
    };
    let number = r"\.(?P<layer>\d+)\.";
    let mut named = lists.iter().map(|list| compiled(list, r"^(?:|.*?\.)(?:", &format!("){number}")));
    let found = match lists.is_empty() {
        true => compiled("[^.]*", r"^.*?\.", number).ok()?.captures(path),
        false => named.find_map(|expression| expression.ok()?.captures(path)),
    };
    found?.name("layer")?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_peft_would_leave_out_is_known_by_the_key() {
        let path = "model.layers.1.self_attn.q_proj";
        for (keys, expected) in [
            (r#"{"target_modules": ["q_proj"]}"#, None),
            (r#"{"target_modules": ["self_attn.q_proj", "v_proj"]}"#, None),
            (r#"{"target_modules": ["proj", "v_proj"]}"#, Some("target_modules")),
            (r#"{"target_modules": "all-linear"}"#, None),
            (r#"{"target_modules": ".*\\.(q|v)_proj"}"#, None),
            (r#"{"target_modules": ".*v_proj"}"#, Some("target_modules")),
            (r#"{"target_modules": "(?=x).*"}"#, None),
            (r#"{"target_modules": ["q_proj"], "exclude_modules": ["v_proj"]}"#, None),
            (r#"{"target_modules": ["q_proj"], "exclude_modules": ["q_proj"]}"#, Some("exclude_modules")),
            (r#"{"target_modules": ["q_proj"], "exclude_modules": []}"#, None),
            (r#"{"layers_to_transform": [0, 1]}"#, None),
            (r#"{"layers_to_transform": 0}"#, Some("layers_to_transform")),
            (r#"{"layers_to_transform": [0], "layers_pattern": "h"}"#, Some("layers_to_transform")),
            (r#"{"layers_to_transform": [1], "layers_pattern": "layers"}"#, None),
            (r#"{"layers_to_transform": [1], "layers_pattern": ["h", "layers"]}"#, None),
            (r#"{"layers_to_transform": [1], "layers_pattern": []}"#, None),
            (r#"{"layers_to_transform": [0], "layers_pattern": ["layers"]}"#, Some("layers_to_transform")),
            (r#"{"target_modules": ["model.layers.1.self_attn.q_proj"], "layers_to_transform": [0]}"#, None),
            (r#"{"target_modules": ["q_proj"], "layers_to_transform": [0]}"#, Some("layers_to_transform")),
            ("{}", None),
        ] {
            let keys = serde_json::from_str(keys).expect("JSON");
            assert_eq!(passed_over(path, &keys), expected, "{keys}");
        }
    }
}
