//! From a setting of another trainer to a key of a recipe, with its value; and what that trainer does where nothing is said.

use std::collections::BTreeSet;

use faults::{Fault, Place};
use serde_json::Value;

use super::super::recipes::real_rate;
use super::draft::Draft;
use super::rows;
use super::source::{Source, Trainer, is_nothing, normal};
use super::special::special;
use crate::recipe;

/// How a value is carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    Text,
    Number,
    /// A whole number; 0 and less set nothing.
    Whole,
    Truth,
    /// A list of texts, or one alone.
    List,
    /// A table of numbers.
    Table,
}

/// Settings whose values are carried over as they are.
const PLAIN: &[(&[&str], &str, As)] = &[
    (&["base_model", "model_name_or_path", "base_model_name_or_path"], "model.path", As::Text),
    (&["revision", "model_revision", "revision_of_model"], "model.revision", As::Text),
    (&["r", "lora_r", "lora_rank"], "adapter.rank", As::Whole),
    (&["lora_alpha"], "adapter.alpha", As::Number),
    (&["lora_dropout"], "adapter.dropout", As::Number),
    (&["exclude_modules", "lora_exclude_modules"], "adapter.exclude", As::List),
    (&["use_rslora", "peft_use_rslora", "lora_use_rslora"], "adapter.rslora", As::Truth),
    (&["rank_pattern"], "adapter.rank_pattern", As::Table),
    (&["alpha_pattern"], "adapter.alpha_pattern", As::Table),
    (&["loraplus_lr_ratio"], "adapter.lora_plus_ratio", As::Number),
    (&["lora_model_dir", "adapter_name_or_path"], "adapter.init_from", As::Text),
    (&["sequence_len", "cutoff_len", "max_seq_length", "max_length", "max_seq_len"], "data.max_length", As::Whole),
    (&["learning_rate", "lr"], "optimizer.learning_rate", As::Number),
    (&["weight_decay"], "optimizer.weight_decay", As::Number),
    (&["adam_epsilon"], "optimizer.eps", As::Number),
    (&["max_grad_norm"], "optimizer.clip_norm", As::Number),
    (&["cosine_min_lr_ratio"], "schedule.min_rate", As::Number),
    (&["neftune_noise_alpha", "noisy_embedding_alpha"], "train.neftune_alpha", As::Number),
    (&["label_smoothing_factor"], "objective.label_smoothing", As::Number),
    (&["save_steps"], "checkpoint.every", As::Whole),
    (&["save_total_limit"], "checkpoint.keep", As::Whole),
    (&["load_best_model_at_end"], "checkpoint.keep_best", As::Truth),
    (&["early_stopping_patience"], "checkpoint.patience", As::Whole),
    (&["eval_steps"], "eval.every", As::Whole),
    (&["output_dir"], "output.dir", As::Text),
    (&["seed"], "seed", As::Whole),
];

/// What became of a setting.
pub(super) enum Told {
    /// It is in the draft.
    Written,
    /// It sets nothing, or what is so here anyway.
    Nothing,
    /// It has no place, for this reason.
    Left(String),
    /// Nothing is known of it here.
    Unknown,
}

/// All settings of a source, each written or named.
///
/// # Errors
/// A source of another kind of training.
pub(super) fn translate(source: &Source) -> Result<Draft, Fault> {
    refuse(source)?;
    let mut draft = Draft::default();
    let mut taken: BTreeSet<String> = rows::translate(source, &mut draft);
    taken.extend(together(source, &mut draft));
    for (setting, value) in source.keys.iter().filter(|(setting, _)| !taken.contains(*setting)) {
        let key = normal(setting);
        if is_nothing(value) {
            draft.nothing(setting);
            continue;
        }
        let told = match plain(&mut draft, setting, &key, value) {
            Told::Unknown => special(&mut draft, source, setting, value),
            told => told,
        };
        match told {
            Told::Written => {}
            Told::Nothing => draft.nothing(setting),
            Told::Left(why) => draft.left(setting, value, why),
            Told::Unknown if *value == Value::Bool(false) => draft.nothing(setting),
            Told::Unknown => {
                let why = recipe::translate(&key).unwrap_or_else(|| "no key of a recipe is like it".into());
                draft.left(setting, value, why);
            }
        }
    }
    Ok(draft)
}

/// Refuses what is no training by rows with a LoRA.
fn refuse(source: &Source) -> Result<(), Fault> {
    let word = |names: &[&str]| {
        source.find(names).and_then(|(key, value)| Some((key.to_owned(), value.as_str()?.to_lowercase())))
    };
    let known: [(&[&str], &[&str], &str); 4] = [
        (&["adapter"], &["lora", "qlora"], "adapters here are LoRA and DoRA"),
        (&["peft_type"], &["lora"], "adapters here are LoRA and DoRA"),
        (
            &["stage"],
            &["sft", "pt"],
            "rows are learned here, by one of many objectives; there is no preference training",
        ),
        (&["rl"], &[], "rows are learned here, by one of many objectives; there is no preference training"),
    ];
    for (names, possible, why) in known {
        if let Some((key, word)) = word(names).filter(|(_, word)| !possible.contains(&word.as_str())) {
            return Err(Fault::new(format!("`{key}` is `{word}`: {why}"))
                .at(Place::file(&source.path))
                .hint("`trainer recipes` lists what there is to train by"));
        }
    }
    Ok(())
}

fn plain(draft: &mut Draft, setting: &str, key: &str, value: &Value) -> Told {
    let Some((_, ours, how)) = PLAIN.iter().find(|(names, ..)| names.contains(&key)) else { return Told::Unknown };
    let carried: Option<toml::Value> = match how {
        As::Text => value.as_str().map(Into::into),
        As::Number => number(value).map(Into::into),
        As::Whole => match number(value) {
            Some(number) if number <= 0.0 => return Told::Nothing,
            number => number.filter(|number| number.fract() == 0.0).map(|number| (number as i64).into()),
        },
        As::Truth => match value.as_bool() {
            Some(false) => return Told::Nothing,
            truth => truth.map(Into::into),
        },
        As::List => texts(value).map(Into::into),
        As::Table => toml::Value::try_from(value).ok().filter(toml::Value::is_table),
    };
    match carried {
        Some(carried) => {
            draft.set(ours, carried, setting);
            Told::Written
        }
        None => Told::Left(recipe::translate(key).unwrap_or_else(|| format!("`{ours}` cannot be that"))),
    }
}

/// A number, be it in quotes as PyYAML reads `2e-4`.
pub(super) fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).filter(|number| number.is_finite())
}

/// A list of texts, or one alone.
pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Settings of which several make one key; gives those that were used.
fn together(source: &Source, draft: &mut Draft) -> Vec<String> {
    let mut taken = Vec::new();
    let rows = ["per_device_train_batch_size", "per_gpu_train_batch_size", "micro_batch_size"];
    let find = |names: &[&str]| source.find(names).and_then(|(key, value)| Some((key.to_owned(), number(value)?)));
    // No batch has more rows than this.
    let possible = 1.0..=1e9;
    let whole =
        |found: Option<(String, f64)>| found.filter(|(_, number)| possible.contains(number) && number.fract() == 0.0);
    let micro = whole(find(&rows));
    let times = whole(find(&["gradient_accumulation_steps"]));
    let default = match source.trainer {
        Trainer::Axolotl => 1.0,
        _ => 8.0,
    };
    if micro.is_some() || times.is_some() {
        let at_once = micro.as_ref().map_or(default, |(_, number)| *number);
        let steps = times.as_ref().map_or(1.0, |(_, number)| *number);
        let names: Vec<String> = [&micro, &times].into_iter().flatten().map(|(name, _)| name.clone()).collect();
        draft.set("train.batch_size", (at_once * steps) as i64, &names.join(", "));
        draft.set("train.micro_batch_size", at_once as i64, micro.as_ref().map_or(&names[0], |(name, _)| name));
        taken.extend(names);
    }
    let (first, second) = (find(&["adam_beta1"]), find(&["adam_beta2"]));
    let names: Vec<String> = [&first, &second].into_iter().flatten().map(|(name, _)| name.clone()).collect();
    if !names.is_empty() {
        let betas = [first.map_or(0.9, |(_, beta)| beta), second.map_or(0.999, |(_, beta)| beta)];
        draft.set("optimizer.betas", betas.map(toml::Value::from).to_vec(), &names.join(", "));
        taken.extend(names);
    }
    taken
}

/// What the other trainer does where its settings say nothing, and what has to go together.
pub(super) fn complete(draft: &mut Draft, source: &Source) {
    let there = format!("{} has it where nothing is said", source.trainer.name());
    let fill = |draft: &mut Draft, key: &str, value: toml::Value| draft.fill(key, value, &there);
    let words = |words: &[&str]| toml::Value::from(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    match source.trainer {
        Trainer::Peft => {
            fill(draft, "adapter.rank", 8.into());
            fill(draft, "adapter.alpha", 8.0.into());
        }
        Trainer::Axolotl => {
            let adapted = source.find(&["adapter"]).is_some();
            fill(draft, "adapter.kind", if adapted { "lora" } else { "none" }.into());
            fill(draft, "data.max_length", 512.into());
            fill(draft, "data.too_long", "drop".into());
            fill(draft, "schedule.kind", "cosine".into());
            fill(draft, "train.batch_size", 1.into());
        }
        Trainer::LlamaFactory => {
            fill(draft, "adapter.kind", "lora".into());
            fill(draft, "adapter.rank", 8.into());
            fill(draft, "adapter.targets", "all-linear".into());
            fill(draft, "data.max_length", 2048.into());
            fill(draft, "data.too_long", "truncate".into());
            fill(draft, "optimizer.learning_rate", 5e-5.into());
            fill(draft, "schedule.kind", "linear".into());
            fill(draft, "train.epochs", 3.into());
            fill(draft, "train.batch_size", 8.into());
            let rank = draft.get("adapter.rank").and_then(toml::Value::as_integer).unwrap_or(8);
            draft.fill("adapter.alpha", 2.0 * rank as f64, &there);
        }
        Trainer::Trl => {
            let adapted = source.keys.keys().any(|key| normal(key).starts_with("lora_")) || draft.has("adapter.kind");
            fill(draft, "adapter.kind", if adapted { "lora" } else { "none" }.into());
            fill(draft, "adapter.rank", 16.into());
            fill(draft, "adapter.alpha", 32.0.into());
            fill(draft, "adapter.dropout", 0.05.into());
            fill(draft, "adapter.targets", words(&["q_proj", "v_proj"]));
            // `null` is no limit, and not the usual one.
            if !source.keys.iter().any(|(setting, value)| normal(setting) == "max_length" && value.is_null()) {
                fill(draft, "data.max_length", 1024.into());
                fill(draft, "data.too_long", "truncate".into());
            }
            draft.fill(
                "data.train_on",
                "assistant",
                "TRL learns all of a conversation unless `assistant_only_loss` is true, which is `\"all\"` here",
            );
            fill(draft, "optimizer.learning_rate", 2e-5.into());
            fill(draft, "schedule.kind", "linear".into());
            fill(draft, "train.epochs", 3.into());
            fill(draft, "train.batch_size", 8.into());
        }
    }
    for_a_real_model(draft);
    settle(draft);
}

/// What is not said at all, as `trainer recipes cp --model` has it.
fn for_a_real_model(draft: &mut Draft) {
    if !draft.has("model.path") {
        draft.fill("model.path", "org/name", "put yours in its place");
        draft.remark("no model is named: put yours in the place of `org/name` in `model.path`");
    }
    if !draft.has("data.train") {
        draft.fill("data.train", vec!["rows.jsonl"], "put yours in its place");
        draft.remark("no rows are named: put yours in the place of `rows.jsonl` in `data.train`");
    }
    let model = draft.get("model.path").and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    let usual = "what suits a model of this size";
    let rate: f64 = real_rate(&model, 1.0).parse().unwrap_or(2e-4);
    if !draft.has("optimizer.learning_rate") {
        // An adapter's description says nothing of how it was trained.
        draft.fill("optimizer.learning_rate", rate, usual);
        draft.fill("schedule.kind", "cosine", "down to 0 along half a cosine");
        draft.fill("schedule.warmup", 0.03, "3 % is usual");
        if !draft.has("train.batch_size") {
            draft.fill("train.batch_size", 16, "16 is usual");
            draft.fill("train.micro_batch_size", 4, "the result is the same but for rounding");
        }
        draft.fill("data.too_long", "drop", "`error` would stop, `truncate` would cut");
        draft.fill("data.eval", 0.05, "this part of the prompts is held out");
    }
    draft.fill("objective.kind", "nll", "`trainer recipes` lists those that ask for diversity");
}

/// Keys of an adapter that others make void.
const SHAPE: [&str; 9] = [
    "adapter.rank",
    "adapter.alpha",
    "adapter.targets",
    "adapter.exclude",
    "adapter.layers",
    "adapter.rslora",
    "adapter.init",
    "adapter.rank_pattern",
    "adapter.alpha_pattern",
];

/// Leaves out what has no effect beside another key.
fn settle(draft: &mut Draft) {
    let is = |draft: &Draft, key: &str, words: &[&str]| {
        draft.get(key).and_then(toml::Value::as_str).is_some_and(|word| words.contains(&word))
    };
    if is(draft, "adapter.kind", &["none"]) {
        let why = "every weight is trained, without an adapter beside them";
        SHAPE
            .iter()
            .chain(&["adapter.dropout", "adapter.lora_plus_ratio", "adapter.init_from"])
            .for_each(|key| draft.leave_out(key, why));
        draft.leave_out("model.quantize", "every weight is trained, and quantised ones cannot be");
    }
    if draft.has("adapter.init_from") {
        SHAPE.iter().for_each(|key| draft.leave_out(key, "the adapter that the run goes on from brings its own"));
    }
    if draft.has("train.steps") {
        draft.leave_out("train.epochs", "the number of steps is said, too, and goes before it");
    }
    if !draft.has("data.eval") {
        for key in ["eval.every", "checkpoint.keep_best", "checkpoint.best_by", "checkpoint.patience"] {
            draft.leave_out(key, "there are no rows to evaluate on: name some in `data.eval`, or a part such as 0.05");
        }
    }
    if !is(draft, "schedule.kind", &["linear", "cosine", "wsd"]) {
        draft.leave_out("schedule.min_rate", "a constant rate never falls");
    }
    if !is(draft, "schedule.kind", &["cosine"]) {
        draft.leave_out("schedule.cycles", "a cosine alone falls several times");
    }
}
