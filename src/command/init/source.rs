//! Settings of another trainer as they are in its file: whose they are, and its keys.

use std::path::{Path, PathBuf};

use faults::{Fault, Place};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Number, Value};

/// Whose settings they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trainer {
    /// An adapter's own description.
    Peft,
    Axolotl,
    LlamaFactory,
    Trl,
}

impl Trainer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Peft => "PEFT",
            Self::Axolotl => "Axolotl",
            Self::LlamaFactory => "LLaMA-Factory",
            Self::Trl => "TRL",
        }
    }
}

/// A file of settings.
pub(super) struct Source {
    pub path: PathBuf,
    pub trainer: Trainer,
    /// In the order of the file.
    pub keys: Map<String, Value>,
}

/// More than any file of settings has.
const LARGEST: u64 = 1 << 20;

impl Source {
    /// Reads a file, or the `adapter_config.json` of a folder.
    ///
    /// # Errors
    /// A file that cannot be read, is neither JSON nor YAML, or of no trainer that is known here.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let path = match path.is_dir() {
            true => path.join("adapter_config.json"),
            false => path.to_owned(),
        };
        let unreadable = |error| Fault::of_file("cannot read the settings", &path, &error);
        let length = fs_err::metadata(&path).map_err(unreadable)?.len();
        if length > LARGEST {
            return Err(Fault::new("too long for settings of a trainer").at(Place::file(&path)).hint(KNOWN));
        }
        let text = faults::read_text(&path).map_err(unreadable)?;
        let keys = parsed(&text).map_err(|why| {
            let fault = Fault::new(format!("these are no settings in JSON or YAML: {why}"));
            match text.parse::<toml::Table>() {
                Ok(table) if !table.is_empty() => fault.hint("it is TOML, as recipes are: `trainer check` reads it"),
                _ => fault.hint(KNOWN),
            }
            .at(Place::file(&path))
        })?;
        let trainer = whose(&keys).ok_or_else(|| {
            Fault::new("these settings are of no trainer that is known here").at(Place::file(&path)).hint(KNOWN)
        })?;
        Ok(Self { path, trainer, keys })
    }

    /// True of Axolotl's.
    pub fn is_axolotl(&self) -> bool {
        self.trainer == Trainer::Axolotl
    }

    /// The first of these keys that says something, by its name in the file.
    pub fn find(&self, names: &[&str]) -> Option<(&str, &Value)> {
        let said = |(key, value): &(&String, &Value)| names.contains(&normal(key).as_str()) && !is_nothing(value);
        self.keys.iter().find(said).map(|(key, value)| (key.as_str(), value))
    }
}

const KNOWN: &str = "an `adapter_config.json` of PEFT, or a YAML of Axolotl, LLaMA-Factory or TRL; `trainer recipes cp nll --model NAME` writes a recipe for any model";

/// A key as the tables have it.
pub(super) fn normal(key: &str) -> String {
    key.to_lowercase().replace('-', "_")
}

/// True of a value that sets nothing.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() || text == "null" || text == "None",
        Value::Array(items) => items.is_empty(),
        Value::Object(keys) => keys.is_empty(),
        _ => false,
    }
}

fn whose(keys: &Map<String, Value>) -> Option<Trainer> {
    let has = |name: &str| keys.keys().any(|key| normal(key) == name);
    let of_factory = ["stage", "finetuning_type", "cutoff_len", "template", "dataset", "dataset_dir"];
    if has("peft_type") {
        Some(Trainer::Peft)
    } else if has("base_model") {
        Some(Trainer::Axolotl)
    } else if has("model_name_or_path") {
        Some(if of_factory.into_iter().any(has) { Trainer::LlamaFactory } else { Trainer::Trl })
    } else {
        None
    }
}

/// The keys of a text.
fn parsed(text: &str) -> Result<Map<String, Value>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let value = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map_err(|error| error.to_string())?,
        false => {
            let documents = Yaml::load_from_str(text).map_err(|error| error.to_string())?;
            documents.first().map_or(Ok(Value::Null), json)?
        }
    };
    match value {
        Value::Object(keys) => Ok(keys),
        _ => Err("there are no keys at the top".into()),
    }
}

fn json(value: &Yaml<'_>) -> Result<Value, String> {
    Ok(match value {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(truth)) => Value::Bool(*truth),
        Yaml::Value(Scalar::Integer(number)) => Value::from(*number),
        Yaml::Value(Scalar::FloatingPoint(number)) => Number::from_f64(number.0).map_or(Value::Null, Value::Number),
        // YAML 1.1, which these programs read, has more words for the two.
        Yaml::Value(Scalar::String(text)) => match text.to_lowercase().as_str() {
            "yes" | "on" => Value::Bool(true),
            "off" => Value::Bool(false),
            _ => Value::from(text.as_ref()),
        },
        Yaml::Sequence(items) => items.iter().map(json).collect::<Result<_, _>>()?,
        Yaml::Mapping(keys) => {
            let mut found = Map::new();
            for (key, value) in keys {
                let key = match key {
                    Yaml::Value(Scalar::String(key)) => key.to_string(),
                    other => json(other)?.to_string(),
                };
                found.insert(key, json(value)?);
            }
            Value::Object(found)
        }
        Yaml::Tagged(_, value) => json(value)?,
        _ => return Err("a value of it cannot be read".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_read_as_the_trainers_read_it() {
        let text = "a: 2e-4\nb: yes\nc: [1, x]\nd:\n  - path: p\n    n: null\ne: '7'\nf: !!str 8\n# g: 1\n";
        let keys = parsed(text).expect("YAML");
        let expected = serde_json::json!({"a": 2e-4, "b": true, "c": [1, "x"], "d": [{"path": "p", "n": null}], "e": "7", "f": "8"});
        assert_eq!(Value::Object(keys), expected);
        for broken in ["- a\n", "", "a: [", "{\"a\": 1"] {
            assert!(parsed(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn whose_settings_they_are_is_told_from_their_keys() {
        let of = |text: &str| whose(&parsed(text).expect("keys"));
        assert_eq!(of("{\"peft_type\": \"LORA\"}"), Some(Trainer::Peft));
        assert_eq!(of("base_model: m\n"), Some(Trainer::Axolotl));
        assert_eq!(of("model_name_or_path: m\nstage: sft\n"), Some(Trainer::LlamaFactory));
        assert_eq!(of("model_name_or_path: m\ndataset_name: d\n"), Some(Trainer::Trl));
        assert_eq!(of("model: m\n"), None);
    }
}
