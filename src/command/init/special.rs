//! Settings of other trainers whose values are said in another way here.

use serde_json::{Value, json};

use super::draft::Draft;
use super::keys::{Told, number, texts};
use super::source::{Source, normal};
use crate::recipe;

/// What becomes of a setting whose value is not carried over as it is.
pub(super) fn special(draft: &mut Draft, source: &Source, setting: &str, value: &Value) -> Told {
    let key = normal(setting);
    let mut told = adapter(draft, setting, &key, value);
    for next in [model, rows, schedule, training] {
        if let Told::Unknown = told {
            told = next(draft, setting, &key, value);
        }
    }
    match told {
        Told::Unknown if source.is_axolotl() && key == "chat_template" && *value == "tokenizer_default" => {
            Told::Nothing
        }
        told => told,
    }
}

/// The word of `recipe::translate`, which knows every setting that comes here.
fn left(key: &str) -> Told {
    Told::Left(recipe::translate(key).unwrap_or_else(|| "no key of a recipe is like it".into()))
}

fn set(draft: &mut Draft, key: &str, value: impl Into<toml::Value>, setting: &str) -> Told {
    draft.set(key, value, setting);
    Told::Written
}

fn is_true(value: &Value) -> bool {
    *value == Value::Bool(true) || value.as_str().is_some_and(|word| word.eq_ignore_ascii_case("true"))
}

fn adapter(draft: &mut Draft, setting: &str, key: &str, value: &Value) -> Told {
    let word = value.as_str().unwrap_or_default().to_lowercase();
    match key {
        "peft_type" => lora(draft, setting),
        "adapter" if word == "lora" => lora(draft, setting),
        "adapter" if word == "qlora" => {
            draft.set("model.quantize", "nf4", setting);
            lora(draft, setting)
        }
        "finetuning_type" if word == "lora" => lora(draft, setting),
        "finetuning_type" if word == "full" => set(draft, "adapter.kind", "none", setting),
        "use_peft" if is_true(value) => lora(draft, setting),
        "use_peft" => set(draft, "adapter.kind", "none", setting),
        "use_dora" | "peft_use_dora" | "lora_use_dora" if is_true(value) => set(draft, "adapter.kind", "dora", setting),
        "bias" | "lora_bias" | "peft_bias" if word == "none" => Told::Nothing,
        "task_type" | "lora_task_type" if word == "causal_lm" => Told::Nothing,
        "inference_mode" | "peft_version" | "megatron_core" | "qalora_group_size" => Told::Nothing,
        "init_lora_weights" | "peft_init_lora_weights" if is_true(value) => Told::Nothing,
        "init_lora_weights" | "peft_init_lora_weights" if word.starts_with("pissa") => {
            set(draft, "adapter.init", "pissa", setting)
        }
        "init_lora_weights" | "peft_init_lora_weights" => {
            Told::Left("new adapters begin as PEFT's `true` does, or by PiSSA: `adapter.init`".into())
        }
        "pissa_init" if is_true(value) => set(draft, "adapter.init", "pissa", setting),
        "lora_target_linear" if is_true(value) => set(draft, "adapter.targets", "all-linear", setting),
        "target_modules" | "lora_target_modules" | "lora_target" => targets(draft, setting, value),
        "layers_to_transform" | "lora_layers_to_transform" | "peft_layers_to_transform" => {
            let one = value.as_i64().map(|layer| vec![layer]);
            let many = || value.as_array()?.iter().map(Value::as_i64).collect::<Option<Vec<_>>>();
            match one.or_else(many) {
                Some(layers) => set(draft, "adapter.layers", layers, setting),
                None => left(key),
            }
        }
        _ => Told::Unknown,
    }
}

/// A LoRA, which may be said to be a DoRA already.
fn lora(draft: &mut Draft, setting: &str) -> Told {
    let kind = draft.get("adapter.kind").filter(|kind| kind.as_str() == Some("dora")).cloned();
    set(draft, "adapter.kind", kind.unwrap_or_else(|| "lora".into()), setting)
}

/// `all-linear`, a list of names, or names between commas.
fn targets(draft: &mut Draft, setting: &str, value: &Value) -> Told {
    let names: Vec<String> = match value {
        Value::String(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        _ => texts(value).unwrap_or_default(),
    };
    if let [all] = &names[..]
        && ["all", "all-linear"].contains(&all.as_str())
    {
        return set(draft, "adapter.targets", "all-linear", setting);
    }
    let is_name =
        |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
    if names.is_empty() || !names.iter().all(is_name) {
        return Told::Left(
            "a regular expression has no place here: `adapter.targets` takes names such as `[\"q_proj\", \"layers.0.mlp.up_proj\"]`, \
             each the end of a module's path; until you write some, it is every linear layer of the blocks"
                .into(),
        );
    }
    set(draft, "adapter.targets", names, setting)
}

fn model(draft: &mut Draft, setting: &str, key: &str, value: &Value) -> Told {
    let word = value.as_str().unwrap_or_default().to_lowercase();
    match key {
        "load_in_4bit" | "use_4bit" if is_true(value) => set(draft, "model.quantize", "nf4", setting),
        "load_in_8bit" | "use_8bit" if is_true(value) => set(draft, "model.quantize", "int8", setting),
        "quantization_bit" if number(value) == Some(4.0) => set(draft, "model.quantize", "nf4", setting),
        "quantization_bit" if number(value) == Some(8.0) => set(draft, "model.quantize", "int8", setting),
        "bnb_4bit_quant_type" | "quantization_type" if word == "nf4" => Told::Nothing,
        "quantization_method" if ["bnb", "bitsandbytes"].contains(&word.as_str()) => Told::Nothing,
        // `auto` is bf16 on a GPU, which is what is asked for.
        "bf16" | "pure_bf16" if is_true(value) || word == "auto" => Told::Nothing,
        "torch_dtype" | "dtype" => match word.trim_start_matches("torch.") {
            "auto" | "bfloat16" | "bf16" => Told::Nothing,
            "float32" | "fp32" | "float" => set(draft, "model.dtype", "f32", setting),
            _ => f16(),
        },
        "fp16" if is_true(value) => f16(),
        _ => Told::Unknown,
    }
}

fn f16() -> Told {
    Told::Left("nothing is computed in f16 here: `model.dtype = \"auto\"` is bf16 on a GPU and f32 on a CPU".into())
}

fn rows(draft: &mut Draft, setting: &str, key: &str, value: &Value) -> Told {
    match key {
        "train_on_inputs" | "train_on_prompt" if is_true(value) => set(draft, "data.train_on", "all", setting),
        "mask_history" if is_true(value) => set(draft, "data.train_on", "last", setting),
        "assistant_only_loss" | "completion_only_loss" if is_true(value) => Told::Nothing,
        "assistant_only_loss" | "completion_only_loss" => {
            Told::Left("answers alone are learned; `data.train_on = \"all\"` learns everything".into())
        }
        "roles_to_train" if *value == json!(["assistant"]) => Told::Nothing,
        "val_set_size" | "val_size" => match number(value) {
            Some(0.0) => Told::Nothing,
            Some(part) if part > 0.0 && part < 1.0 => set(draft, "data.eval", part, setting),
            _ => Told::Left(
                "`data.eval` takes a part of the prompts, such as 0.05, or a file, and no number of rows".into(),
            ),
        },
        "excess_length_strategy" => match value.as_str() {
            Some("drop") => set(draft, "data.too_long", "drop", setting),
            Some("truncate") => set(draft, "data.too_long", "truncate", setting),
            Some("raise") => set(draft, "data.too_long", "error", setting),
            _ => left(key),
        },
        "shuffle_merged_datasets" => match value.as_bool() {
            Some(false) => set(draft, "data.shuffle", false, setting),
            _ => Told::Nothing,
        },
        "disable_shuffling" if is_true(value) => set(draft, "data.shuffle", false, setting),
        "enable_thinking" => {
            let switches =
                toml::Table::from_iter([("enable_thinking".to_owned(), toml::Value::Boolean(is_true(value)))]);
            set(draft, "data.template_arguments", switches, setting)
        }
        _ => Told::Unknown,
    }
}

fn schedule(draft: &mut Draft, setting: &str, key: &str, value: &Value) -> Told {
    match key {
        "lr_scheduler_type" | "lr_scheduler" => {
            let kind = match value.as_str().unwrap_or_default() {
                "constant" | "constant_with_warmup" => "constant",
                "linear" => "linear",
                "cosine" | "cosine_with_min_lr" | "cosine_with_restarts" => "cosine",
                "warmup_stable_decay" | "wsd" => "wsd",
                _ => return left(key),
            };
            set(draft, "schedule.kind", kind, setting)
        }
        "lr_scheduler_kwargs" => {
            let known = |name: &str| value.get(name).and_then(number);
            let others = value.as_object().into_iter().flatten();
            let others: Vec<&str> = others
                .map(|(name, _)| name.as_str())
                .filter(|name| !["min_lr_rate", "num_cycles"].contains(name))
                .collect();
            if let Some(rate) = known("min_lr_rate") {
                draft.set("schedule.min_rate", rate, setting);
            }
            if let Some(cycles) = known("num_cycles").filter(|cycles| *cycles >= 1.0 && cycles.fract() == 0.0) {
                draft.set("schedule.cycles", cycles as i64, setting);
            }
            match others.is_empty() {
                true => Told::Written,
                false => Told::Left(format!(
                    "of {} nothing is known here: see `schedule.min_rate`, `schedule.cycles` and `schedule.decay`",
                    others.join(", ")
                )),
            }
        }
        "warmup_ratio" | "warmup_steps" | "num_warmup_steps" => match number(value) {
            Some(0.0) => Told::Nothing,
            // Of the two the number of steps counts.
            Some(_) if key == "warmup_ratio" && draft.get("schedule.warmup").is_some() => {
                Told::Left("the number of steps is said, too, and goes before it".into())
            }
            Some(steps) if steps >= 1.0 && steps.fract() == 0.0 => {
                draft.leave_out("schedule.warmup", "the number of steps is said, too, and goes before it");
                set(draft, "schedule.warmup", steps as i64, setting)
            }
            Some(part) if part > 0.0 && part < 1.0 => set(draft, "schedule.warmup", part, setting),
            _ => left(key),
        },
        _ => Told::Unknown,
    }
}

fn training(draft: &mut Draft, setting: &str, key: &str, value: &Value) -> Told {
    let word = value.as_str().unwrap_or_default().to_lowercase();
    match key {
        "num_train_epochs" | "num_epochs" => match number(value) {
            Some(epochs) if epochs >= 1.0 && epochs.fract() == 0.0 => {
                set(draft, "train.epochs", epochs as i64, setting)
            }
            _ => Told::Left("`train.epochs` is a whole number; `train.steps` ends a run anywhere".into()),
        },
        "max_steps" => match number(value) {
            Some(steps) if steps >= 1.0 && steps.fract() == 0.0 => set(draft, "train.steps", steps as i64, setting),
            _ => Told::Nothing,
        },
        "gradient_checkpointing" | "use_gradient_checkpointing" if is_true(value) || word == "unsloth" => {
            set(draft, "train.recompute", "blocks", setting)
        }
        "optim" | "optimizer" if word.contains("adamw") => Told::Nothing,
        "loss_type" if word == "nll" => Told::Nothing,
        "loss_type" if word == "dft" => set(draft, "objective.kind", "dft", setting),
        "use_dft_loss" if is_true(value) => set(draft, "objective.kind", "dft", setting),
        "use_eaft" | "use_eaft_loss" if is_true(value) => set(draft, "objective.kind", "eaft", setting),
        "stage" if word == "pt" => set(draft, "data.format", "text", setting),
        "stage" | "do_train" => Told::Nothing,
        "save_strategy" | "eval_strategy" | "evaluation_strategy" => match word.as_str() {
            "steps" => Told::Nothing,
            "no" if key != "save_strategy" => Told::Nothing,
            "no" => set(draft, "checkpoint.every", 0, setting),
            _ => Told::Left(
                "checkpoints and evaluations come after so many steps: `checkpoint.every`, `eval.every`".into(),
            ),
        },
        "saves_per_epoch" | "evals_per_epoch" => Told::Left(
            "`checkpoint.every` and `eval.every` are numbers of steps; `trainer check` says how many steps there are"
                .into(),
        ),
        "metric_for_best_model" if ["loss", "eval_loss"].contains(&word.as_str()) => Told::Nothing,
        "report_to" | "logging_strategy" if word == "none" || *value == json!(["none"]) => Told::Nothing,
        _ => Told::Unknown,
    }
}
