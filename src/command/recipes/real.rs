//! A recipe for a real model: the objective of an embedded one, with the settings that a model of a hundred million
//! parameters or more wants in place of those of the embedded model, which has one million.

use std::path::Path;

use faults::{Fault, Place};

use super::{Embedded, RECIPES, SCHEMA_LINE};
use crate::plan::advice::best_rate;

/// What the recipe is written for.
pub struct RealRun {
    /// `model.path`
    pub model: String,
    /// `data.train`; a name to put in place where there is none.
    pub train: Vec<String>,
    /// `data.eval`; where rows to train on are named and these are not, a part of those.
    pub eval: Vec<String>,
}

const BUFFER: &str =
    "# Learned tokens that the quantile is taken from; until there are as many, everything is learned.\nbuffer = 10000";

/// Of the objective's own keys, those that were chosen for the short rows and the few tokens of the embedded data: the
/// recipe, the key, and the value and comment in its place.
const FOR_LONG_ROWS: [(&str, &str, &str); 6] = [
    (
        "lambda_pr",
        "gamma",
        "# 1e-7 to 1e-5 in the paper: the larger, the more tokens count.\n\
         gamma = 1e-5",
    ),
    (
        "tailr",
        "gamma",
        "# About the probability below which a token is ignored; 1e-7 to 1e-5 in the papers; 0 is `nll`.\ngamma = 1e-5",
    ),
    ("trunc_r", "drop", "# The part of the tokens that is left out, those with the lowest loss.\ndrop = 0.4"),
    ("trunc_r", "buffer", BUFFER),
    ("trunc", "buffer", BUFFER),
    ("forking", "buffer", BUFFER),
];

/// Recipes that are written for a real model already, in place of embedded ones whose sections say much of the embedded
/// data.
const SISTERS: [(&str, &str); 3] =
    [("diffuse_numbers", "diffuse_smollm2"), ("mtp", "mtp_gsm8k"), ("sfr_words", "sfr_gsm8k")];

/// The text of `recipe` for a model and rows.
///
/// # Errors
/// A recipe that builds its own model.
pub fn text(recipe: &Embedded, place: &RealRun) -> Result<String, Fault> {
    if recipe.text.contains("\n[model.init]\n") {
        return Err(Fault::new(format!("`{}` builds its model from scratch", recipe.name))
            .at(Place::Named("--model".into()))
            .hint("leave `--model` out, or take another recipe"));
    }
    if !recipe.needs_nothing() {
        return Ok(moved(recipe.text, place));
    }
    let sister = SISTERS.iter().find(|(name, _)| *name == recipe.name).map(|(_, sister)| *sister);
    let source = sister.and_then(|sister| RECIPES.iter().find(|recipe| recipe.name == sister));
    let sections = source.map_or(recipe.text, |source| source.text);
    if recipe.name == "diffuse_numbers" {
        return Ok(header(recipe, place) + &moved(after_comments(sections), place).replace("= 5e-5", "= 5e-4"));
    }
    let mut objective: String =
        ["[objective]", "[[auxiliary]]"].into_iter().filter_map(|name| section(sections, name)).collect();
    for (_, key, with) in FOR_LONG_ROWS.iter().filter(|(name, ..)| *name == recipe.name) {
        objective = replaced(&objective, key, with);
    }
    let objective = objective
        .replace("encoder = \"BAAI/bge-large-en-v1.5\"", "encoder = \"sentence-transformers/all-MiniLM-L6-v2\"");
    let data = data(recipe, place);
    let embedded = crate::recipe::parse(recipe.name, recipe.text, &[], &losses::Registry::default());
    let embedded = embedded.unwrap_or_else(|faults| unreachable!("an embedded recipe is sound: {faults}"));
    let rate = rate(&place.model, embedded.objective.rate());
    let training = TRAINING.replace("RATE", &rate);
    Ok(format!("{}{}{data}{objective}{training}{}", header(recipe, place), model(place), sweep(recipe)))
}

/// The grid of the embedded recipe, if it has one; it is measured on the held-out rows then.
fn sweep(recipe: &Embedded) -> String {
    let own = section(recipe.text, "[sweep]").unwrap_or_default();
    let grid = own.lines().find(|line| line.starts_with("grid = "));
    grid.map_or_else(String::new, |grid| {
        format!("\n[sweep]\n# Keys and their values, as `trainer sweep --grid` takes them. All are measured on the held-out rows; for recall at \
             equal\n# precision name rows with `targets` in `data` and several `temperatures`.\n{grid}\n")
    })
}

/// The learning rate for an adapter: where the width of the model can be read, half of the best one, which leaves room for
/// rows and objectives of all kinds; else what is usual from one to thirteen billion parameters.
pub(in crate::command) fn rate(model: &str, part: f64) -> String {
    match config(model)["hidden_size"].as_u64() {
        Some(width) => format!("{:.0e}", part * (best_rate(width as usize) / 2.0).clamp(1e-4, 1e-3)),
        None => format!("{:.0e}", part * 2e-4),
    }
}

const TRAINING: &str = "[optimizer]
# For an adapter: from 1e-3 on models of 100 million parameters down to 1e-4 on those of 10 billion; for `lambda_pr` a tenth.
learning_rate = RATE

[schedule]
# Down to zero along half a cosine after the warmup.
kind = \"cosine\"
warmup = 0.03

[train]
# 2 or 3 for less than some thousand rows.
epochs = 1
# Rows per optimizer step.
batch_size = 16
# Rows that run at once: lower it when memory is short. The result is the same but for rounding.
micro_batch_size = 4

[checkpoint]
# Steps between checkpoints.
every = 50

[eval]
# Steps between evaluations.
every = 50
";

/// ``TruncR on org/name: ..``
fn header(recipe: &Embedded, place: &RealRun) -> String {
    let described = recipe.description().replace("the built-in world", &place.model);
    let described = described.replace("the built-in number tasks", &place.model);
    format!(
        "{SCHEMA_LINE}# {described}\n#\n# Settings for a model of 100 million parameters or more. `trainer check` shows what they make of your \
         rows,\n# and says which of them do not suit your model; the recipe `nll`, written the same way, is the baseline.\n\n"
    )
}

fn model(place: &RealRun) -> String {
    format!(
        "seed = 17\n\n[model]\n# A folder, or `org/name` on the Hugging Face hub.\npath = {}\n\n[adapter]\nkind = \"lora\"\nrank = 16\n# The update \
         counts alpha / rank.\nalpha = 32\ntargets = \"all-linear\"\n\n",
        quoted(&place.model)
    )
}

/// The rows, and of the embedded recipe what else it says of them.
fn data(recipe: &Embedded, place: &RealRun) -> String {
    let (train, eval) = files(place);
    let own = section(recipe.text, "[data]").unwrap_or_default();
    let own: Vec<&str> = own.lines().skip_while(|line| !line.starts_with("train =")).skip(1).collect();
    let others: String = own
        .iter()
        .filter(|line| !line.starts_with("eval =") && !line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect();
    let longest = positions(&place.model).map_or(LONGEST, |positions| positions.min(LONGEST));
    format!(
        "[data]\n# JSON Lines; their shape is told from the first row.\ntrain = {train}\n# Held-out rows, none of them among those above; \
         0.05 takes that part of the prompts above, [] is none.\neval = {eval}\n# Longest row in tokens.\nmax_length = {longest}\n# Longer rows are left out and counted; `error` would \
         stop, `truncate` would cut.\ntoo_long = \"drop\"\n{others}\n"
    )
}

/// Tokens of the longest row, where the model has as many positions.
const LONGEST: u64 = 1024;

/// The positions of a model that is a folder here.
fn positions(model: &str) -> Option<u64> {
    let config = config(model);
    let of_text = config.get("text_config").and_then(|text| text["max_position_embeddings"].as_u64());
    config["max_position_embeddings"].as_u64().or(of_text).filter(|positions| *positions >= 2)
}

/// `config.json` of a model that is a folder here; null of one that is not.
fn config(model: &str) -> serde_json::Value {
    let text = faults::read_text(&Path::new(model).join("config.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// `data.train` and `data.eval`, as they are written.
fn files(place: &RealRun) -> (String, String) {
    let list = |files: &[String]| format!("[{}]", files.iter().map(|file| quoted(file)).collect::<Vec<_>>().join(", "));
    match (place.train.is_empty(), place.eval.is_empty()) {
        (true, true) => ("[\"rows.jsonl\"]".into(), "[\"held_out.jsonl\"]".into()),
        (true, false) => ("[\"rows.jsonl\"]".into(), list(&place.eval)),
        (false, true) => (list(&place.train), HELD_OUT.into()),
        (false, false) => (list(&place.train), list(&place.eval)),
    }
}

/// The part of the prompts that is held out where no rows are named for that.
const HELD_OUT: &str = "0.05";

fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

/// A recipe for a real model with another one, and other rows where they are named.
fn moved(text: &str, place: &RealRun) -> String {
    let (train, eval) = files(place);
    let text = replaced(text, "path", &format!("path = {}", quoted(&place.model)));
    let written = text.lines().find_map(|line| line.strip_prefix("max_length = ")?.trim().parse::<u64>().ok());
    let text = match (written, positions(&place.model)) {
        (Some(longest), Some(positions)) if longest > positions => {
            replaced(&text, "max_length", &format!("max_length = {positions}"))
        }
        _ => text,
    };
    let text = if place.train.is_empty() { text } else { replaced(&text, "train", &format!("train = {train}")) };
    let has_eval = text.contains("\neval = ");
    match (place.eval.is_empty(), place.train.is_empty()) {
        (true, true) => text,
        (true, false) if !has_eval => text,
        _ if has_eval => replaced(&text, "eval", &format!("eval = {eval}")),
        // A recipe without held-out rows gets them behind those it learns from.
        _ => {
            let lines = text.lines().map(|line| match line.starts_with("train = ") {
                true => format!("{line}\neval = {eval}\n"),
                false => format!("{line}\n"),
            });
            lines.collect()
        }
    }
}

/// `text` with the line of `key` replaced, the comment above it too where there is one in `with`.
fn replaced(text: &str, key: &str, with: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let Some(at) = lines.iter().position(|line| line.starts_with(&format!("{key} = "))) else { return text.into() };
    let comments = lines[..at].iter().rev().take_while(|line| line.starts_with('#')).count();
    let first = if with.starts_with('#') { at - comments } else { at };
    lines.splice(first..=at, with.lines());
    lines.join("\n") + "\n"
}

/// A table with its name, to the next one.
fn section<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let start = text.find(&format!("\n{name}\n"))? + 1;
    let end = text[start + 1..].find("\n[").map_or(text.len(), |end| start + 1 + end + 1);
    Some(&text[start..end])
}

fn after_comments(text: &str) -> &str {
    text.find("\n\n").map_or(text, |end| &text[end + 2..])
}

#[cfg(test)]
mod tests {
    use losses::Registry;

    use super::*;
    use crate::recipe::{self, Backbone, Recipe};

    fn read(name: &str, place: &RealRun) -> (String, Recipe) {
        let text = text(super::super::named(name).expect("a recipe"), place).unwrap_or_else(|fault| panic!("{fault}"));
        let recipe = recipe::parse("r.toml", &text, &[], &Registry::default());
        (text, recipe.unwrap_or_else(|faults| panic!("{name}: {faults}")))
    }

    fn place() -> RealRun {
        RealRun {
            model: "org/a name".into(),
            train: vec!["a.jsonl".into(), "b.jsonl".into()],
            eval: vec!["c.jsonl".into()],
        }
    }

    #[test]
    fn every_recipe_can_be_written_for_a_real_model() {
        for embedded in RECIPES.iter().filter(|recipe| recipe.name != "tiny_base") {
            let (text, recipe) = read(embedded.name, &place());
            let name = embedded.name;
            assert_eq!(recipe.warnings, Vec::<String>::new(), "{name}");
            assert_eq!(
                recipe.model.backbone,
                Backbone::Pretrained { path: "org/a name".into(), revision: None },
                "{name}"
            );
            assert_eq!(
                (recipe.data.train.len(), &recipe.data.eval),
                (2, &recipe::Held::Files(vec![recipe::Entry::of("c.jsonl")])),
                "{name}"
            );
            assert!(
                !text.contains("builtin:") && !text.contains("embedded model") && !text.contains("built-in"),
                "{text}"
            );
            let own = recipe::parse("r.toml", embedded.text, &[], &Registry::default());
            let own = own.unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!(recipe.objective.name(), own.objective.name(), "{name}");
            assert_eq!(recipe.auxiliaries.len(), own.auxiliaries.len(), "{name}");
            if embedded.needs_nothing() {
                assert!(recipe.optimizer.learning_rate <= 5e-4, "{name}");
                assert!(matches!(recipe.adapter, recipe::Adapter::Lora(_)), "{name}");
            }
        }
    }

    #[test]
    fn what_was_chosen_for_short_rows_is_chosen_anew() {
        for (name, key, with) in FOR_LONG_ROWS {
            let (text, recipe) = read(name, &place());
            assert!(text.contains(with), "{name}: {text}");
            let value = recipe.resolved["objective"][key].to_string();
            assert!(with.ends_with(&format!("= {value}")) || value == "1e-5" || value == "0.00001", "{name}: {value}");
            assert_eq!(text.matches(&format!("\n{key} = ")).count(), 1, "{text}");
        }
        let (_, intents) = read("intent_comments", &place());
        assert!(intents.data.intent.template.is_some(), "what rows look like is kept");
    }

    #[test]
    fn the_rate_is_that_of_the_width_where_it_can_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        for (width, expected) in [(576, 7e-4), (2048, 2e-4), (4096, 1e-4), (16, 1e-3)] {
            fs_err::write(folder.path().join("config.json"), format!("{{\"hidden_size\": {width}}}")).expect("a write");
            let place = RealRun { model: folder.path().display().to_string(), train: Vec::new(), eval: Vec::new() };
            assert_eq!(read("nll", &place).1.optimizer.learning_rate, expected, "{width}");
        }
        assert_eq!(read("nll", &place()).1.optimizer.learning_rate, 2e-4);
        assert_eq!(read("lambda_pr", &place()).1.optimizer.learning_rate, 2e-5);
    }

    #[test]
    fn without_rows_to_evaluate_on_a_part_is_held_out() {
        for embedded in RECIPES.iter().filter(|recipe| recipe.name != "tiny_base") {
            let (text, recipe) = read(embedded.name, &RealRun { eval: Vec::new(), ..place() });
            assert!(recipe.data.eval == recipe::Held::Part(0.05) || !text.contains("\neval = "), "{text}");
        }
    }

    #[test]
    fn rows_that_are_not_named_have_names_to_put_in_place() {
        let (text, _) = read("nll", &RealRun { model: "m".into(), train: Vec::new(), eval: Vec::new() });
        assert!(text.contains("train = [\"rows.jsonl\"]") && text.contains("eval = [\"held_out.jsonl\"]"), "{text}");
        let tiny = super::super::named("tiny_base").expect("a recipe");
        assert!(super::text(tiny, &place()).is_err());
    }
}
