//! The card of a model: a `README.md` beside what is exported, with what the hub reads of it (PEFT's metadata), the recipe, what
//! the run has measured, and how to sample.

use std::path::Path;

use checkpoints::export::Exported;
use faults::Fault;
use serde_json::Value;

use super::super::closing::exact::{self, Measured};
use crate::engine::state::RunState;
use crate::recipe;

/// What is known of a model that is exported.
pub(super) struct Card {
    /// The base, as the adapter or the recipe names it.
    pub base: Option<String>,
    /// The exported folder is a whole model.
    pub whole: bool,
    /// The run, where it is known: its folder and what its checkpoint says.
    pub run: Option<(std::path::PathBuf, RunState)>,
}

const NAME: &str = "README.md";

impl Card {
    /// Writes it beside what is exported, where no card is yet.
    ///
    /// # Errors
    /// A file of the run that cannot be read, or a card that cannot be written.
    pub fn write(&self, exported: &mut Exported) -> Result<(), Fault> {
        let path = exported.folder.join(NAME);
        if path.exists() {
            return Ok(());
        }
        let name = exported.folder.file_name().map_or("model".into(), |name| name.to_string_lossy().into_owned());
        let text = self.text(&name, exported.files.iter().any(|file| file == "tokenizer.json"))?;
        fs_err::write(&path, text).map_err(|error| Fault::of_file("cannot write the model's card", &path, &error))?;
        exported.files.push(NAME.into());
        exported.files.sort();
        Ok(())
    }

    /// The card of the folder `name`, which may have a tokenizer.
    fn text(&self, name: &str, has_tokenizer: bool) -> Result<String, Fault> {
        let recipe = self.run.as_ref().and_then(|(_, state)| state.recipe.parse::<toml::Table>().ok());
        let measured = match (&self.run, &recipe) {
            (Some((folder, state)), Some(recipe)) => exact::measured(folder, state.step as u64, temperature(recipe))?,
            _ => None,
        };
        let mut text = self.front(recipe.as_ref());
        text += &format!("\n# {name}\n\n{}\n", self.about(recipe.as_ref()));
        if let Some((folder, state)) = &self.run {
            text += &numbers(folder, state, measured.as_ref());
        }
        text += &self.sampling(recipe.as_ref(), measured.as_ref(), has_tokenizer);
        if let (Some(recipe), Some((_, state))) = (&recipe, &self.run) {
            let written = toml::to_string(&without_paths(recipe)).unwrap_or_default();
            let version = &state.version;
            text += &format!(
                "\n## Recipe\n\nEvery setting of the run, as `trainer` {version} read it; of whole paths the last part.\n\n```toml\n{written}```\n"
            );
        }
        Ok(text)
    }

    /// What the hub reads.
    fn front(&self, recipe: Option<&toml::Table>) -> String {
        let mut lines: Vec<String> = Vec::new();
        let base = self.base.as_deref().filter(|base| is_of_hub(base));
        lines.extend(base.map(|base| format!("base_model: {base}")));
        lines.extend(license(self.base.as_deref()));
        lines.push(format!("library_name: {}", if self.whole { "transformers" } else { "peft" }));
        lines.push("pipeline_tag: text-generation".into());
        lines.push("tags:".into());
        let relation = if self.whole { "finetune" } else { "adapter" };
        lines.extend(base.map(|base| format!("- base_model:{relation}:{base}")));
        let kind = recipe.and_then(|recipe| word(recipe, "adapter", "kind"));
        if kind != Some("none") {
            lines.push(format!("- {}", kind.unwrap_or("lora")));
        }
        lines.push("- transformers".into());
        lines.push("- trainer".into());
        format!("---\n{}\n---\n", lines.join("\n"))
    }

    /// What it is, in a sentence or two.
    fn about(&self, recipe: Option<&toml::Table>) -> String {
        let base = match self.base.as_deref() {
            Some(base) if is_of_hub(base) => format!("[{base}](https://huggingface.co/{base})"),
            Some(base) => format!("`{}`", last_part(base)),
            None => "a model from scratch".into(),
        };
        let what = match (self.whole, recipe.and_then(|recipe| word(recipe, "adapter", "kind"))) {
            (true, Some("none")) => format!("All weights of {base}, trained"),
            (true, _) => format!("{base} with an adapter merged into its weights, trained"),
            (false, kind) => {
                format!("A {} adapter for {base}, trained", if kind == Some("dora") { "DoRA" } else { "LoRA" })
            }
        };
        let Some(recipe) = recipe else { return format!("{what}.") };
        let objective = recipe.get("objective").and_then(toml::Value::as_table);
        let kind = objective.and_then(|objective| objective.get("kind")?.as_str()).unwrap_or("nll");
        let keys = objective.into_iter().flatten().filter(|(key, _)| *key != "kind");
        let keys: Vec<String> = keys.map(|(key, value)| format!("`{key} = {value}`")).collect();
        let keys = if keys.is_empty() { String::new() } else { format!(" ({})", keys.join(", ")) };
        let steps = self.run.as_ref().map(|(_, state)| state.step).unwrap_or_default();
        format!("{what} by the objective `{kind}`{keys}, {}.", faults::counted(steps as u64, "step"))
    }

    /// How to get text out of it, at the temperature that is known to be good.
    fn sampling(&self, recipe: Option<&toml::Table>, measured: Option<&Measured>, has_tokenizer: bool) -> String {
        let is_intent = recipe.and_then(|recipe| word(recipe, "objective", "kind")) == Some("intent");
        let temperature = measured.and_then(|measured| measured.as_precise).unwrap_or(1.0);
        let mut text = String::from("\n## Sampling\n\n");
        text += &match measured.and_then(|measured| Some((measured, measured.as_precise?))) {
            Some((Measured { temperature: before, says_more, .. }, temperature)) => format!(
                "At temperature {temperature:.2} it is as precise as its base was at {before}{}; 1 is the model's own.",
                if *says_more { ", and says more of what there is to say" } else { "" }
            ),
            None => "At temperature 1 it says what it has learned with the frequencies it has learned; lower is safer and less diverse.".into(),
        };
        text += " Programs cut what is unlikely off unless told otherwise (`top_k`, `top_p`), and diversity with it: switch that off.\n\n";
        let (class, import) = match self.whole {
            true => ("AutoModelForCausalLM", "transformers"),
            false => ("AutoPeftModelForCausalLM", "peft"),
        };
        let from = if self.whole { "" } else { "from transformers import AutoTokenizer\n" };
        let also = if self.whole { "AutoTokenizer, " } else { "" };
        let tokenizer = match self.base.as_deref().filter(|base| is_of_hub(base)) {
            _ if self.whole || has_tokenizer => "DIR",
            Some(base) => base,
            // A folder that only this machine has.
            None => "BASE",
        };
        text += &format!(
            "```python\n{from}from {import} import {also}{class}\n\ntokenizer = AutoTokenizer.from_pretrained(\"{tokenizer}\")\n\
             model = {class}.from_pretrained(\"DIR\")  # this folder, or its name on the hub\n\
             # Of a chat model: tokenizer.apply_chat_template([{{\"role\": \"user\", \"content\": \"..\"}}], add_generation_prompt=True, \
             return_dict=True, return_tensors=\"pt\")\n\
             inputs = tokenizer(\"Tell me about a fox.\\n\", return_tensors=\"pt\")\n\
             samples = model.generate(**inputs, do_sample=True, temperature={temperature:.2}, top_p=1.0, top_k=0, max_new_tokens=128, \
             num_return_sequences=5)\nprint(*tokenizer.batch_decode(samples, skip_special_tokens=True), sep=\"\\n\\n\")\n```\n"
        );
        if is_intent {
            text += "\nIt was trained to state an intent before each response: `trainer sample DIR --intent chat` draws the two at temperatures of \
                     their own.\n";
        }
        text
    }
}

/// The temperature at which the run looked at itself.
fn temperature(recipe: &toml::Table) -> f64 {
    let eval = recipe.get("eval").and_then(toml::Value::as_table);
    eval.and_then(|eval| eval.get("temperature")?.as_float()).unwrap_or(1.0)
}

fn word<'a>(recipe: &'a toml::Table, table: &str, key: &str) -> Option<&'a str> {
    recipe.get(table)?.get(key)?.as_str()
}

/// The held-out nll and the exact numbers, of before and after.
fn numbers(folder: &Path, state: &RunState, measured: Option<&Measured>) -> String {
    let lines = faults::read_text(&folder.join("metrics.jsonl")).unwrap_or_default();
    let lines: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let nll = |step: u64| {
        let of_step = |line: &&Value| line["split"] == "eval" && line["step"] == step;
        lines.iter().rfind(of_step).and_then(|line| line["nll"].as_f64())
    };
    let mut text = String::new();
    if let Some(after) = nll(state.step as u64) {
        let before = nll(0).map(|before| format!("{before:.4} before, ")).unwrap_or_default();
        text += &format!(
            "Held-out rows, mean negative log-likelihood of a token in nats: {before}{after:.4} after step {}.\n",
            state.step
        );
    }
    if let Some(measured) = measured {
        text += &format!("\n{}", measured.table);
    }
    if text.is_empty() { text } else { format!("\n## What was measured\n\n{text}") }
}

/// What the base's own card says of its licence, where it is at hand.
fn license(base: Option<&str>) -> Vec<String> {
    let card =
        base.map(|base| Path::new(base).join(NAME)).and_then(|path| faults::read_text(&path).ok()).unwrap_or_default();
    let front = card.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---").map(|(front, _)| front));
    let is_of_license =
        |line: &&str| ["license:", "license_name:", "license_link:"].iter().any(|key| line.starts_with(key));
    front.unwrap_or_default().lines().filter(is_of_license).map(str::to_owned).collect()
}

/// `organisation/name`, and no folder here.
fn is_of_hub(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let plain = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    parts.len() == 2 && parts.iter().all(plain) && !name.starts_with('.') && !Path::new(name).exists()
}

fn last_part(path: &str) -> &str {
    path.trim_end_matches('/').rsplit(['/', '\\']).next().unwrap_or(path)
}

/// The recipe with the last part of each whole path: where a file lies on one machine is nothing to others.
fn without_paths(recipe: &toml::Table) -> toml::Table {
    fn of(value: &toml::Value) -> toml::Value {
        match value {
            toml::Value::String(text) if text.starts_with(['/', '~']) => last_part(text).into(),
            toml::Value::Array(values) => values.iter().map(of).collect::<Vec<_>>().into(),
            toml::Value::Table(table) => without_paths(table).into(),
            other => other.clone(),
        }
    }
    recipe.iter().map(|(key, value)| (key.clone(), of(value))).collect()
}

/// The base that a recipe names.
pub(super) fn base_of(recipe: &str) -> Option<String> {
    match recipe::backbone("recipe.toml", recipe).ok()? {
        recipe::Backbone::Pretrained { path, .. } => Some(path),
        recipe::Backbone::Init(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_files_lie_is_not_told() {
        let recipe: toml::Table =
            "[data]\ntrain = [\"/home/me/rows.jsonl\", { path = \"~/more.jsonl\" }, \"own/rows\"]\n"
                .parse()
                .expect("TOML");
        let text = toml::to_string(&without_paths(&recipe)).expect("TOML");
        assert!(
            text.contains("\"rows.jsonl\"") && text.contains("\"own/rows\"") && text.contains("\"more.jsonl\""),
            "{text}"
        );
        assert!(!text.contains("/home/me") && !text.contains('~'), "{text}");
    }

    #[test]
    fn the_base_s_licence_is_told_where_its_card_is() {
        let folder = tempfile::tempdir().expect("a folder");
        fs_err::write(folder.path().join(NAME), "---\nlicense: apache-2.0\ntags: [a]\n---\n# A base\n")
            .expect("a write");
        let card =
            |base: String| Card { base: Some(base), whole: false, run: None }.text("mine", false).expect("a card");
        let text = card(folder.path().display().to_string());
        assert!(text.starts_with("---\nlicense: apache-2.0\nlibrary_name: peft\n"), "{text}");
        assert!(!text.contains(&folder.path().display().to_string()), "{text}");
        assert!(text.contains("AutoTokenizer.from_pretrained(\"BASE\")"), "{text}");
        let text = card("org/name".into());
        assert!(text.contains("base_model: org/name\n") && text.contains("- base_model:adapter:org/name\n"), "{text}");
        assert!(!text.contains("license") && text.contains("AutoTokenizer.from_pretrained(\"org/name\")"), "{text}");
    }
}
