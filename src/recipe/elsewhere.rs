//! What the settings of other trainers are called here: PEFT, transformers and TRL, Axolotl, Unsloth, LLaMA-Factory,
//! torchtune, mlx-lm. It is asked for hints alone; nothing is ever taken from a key of another program.

mod without;

use without::WITHOUT;

/// One of our keys, how a value is carried over, and the names of it elsewhere (in lower case, words joined by `_`).
struct Entry {
    here: &'static str,
    how: &'static str,
    names: &'static [&'static str],
}

const fn same(here: &'static str, names: &'static [&'static str]) -> Entry {
    Entry { here, how: "", names }
}

const fn with(here: &'static str, how: &'static str, names: &'static [&'static str]) -> Entry {
    Entry { here, how, names }
}

/// Keys that have one of ours.
const KEYS: &[Entry] = &[
    same(
        "model.path",
        &[
            "base_model",
            "model_name_or_path",
            "name_or_path",
            "model_name",
            "model_id",
            "pretrained_model_name_or_path",
            "hf_path",
        ],
    ),
    with("model.path", "`[model]` with `path = \"org/name\"` or a folder", &["model"]),
    same("model.revision", &["model_revision"]),
    with(
        "model.quantize",
        "`\"nf4\"`, where the matrices of a frozen base have four bits",
        &["load_in_4bit", "use_4bit", "bnb_4bit_quant_type", "quantization_bit", "quantization", "qlora"],
    ),
    with("model.quantize", "`\"int8\"`", &["load_in_8bit", "use_8bit"]),
    with(
        "model.dtype",
        "`\"f32\"` or `\"bf16\"`",
        &["torch_dtype", "dtype", "bf16", "fp16", "compute_dtype", "precision"],
    ),
    with("model.device", "`\"cpu\"`, `\"cuda\"` or `\"cuda:1\"`", &["device", "device_map", "use_cpu", "no_cuda"]),
    same("adapter.kind", &["finetuning_type", "fine_tune_type", "peft_type", "tuner_type"]),
    with("adapter.kind", "`\"dora\"`", &["use_dora", "peft_use_dora", "lora_use_dora"]),
    with(
        "adapter.kind",
        "`\"lora\"`, and the keys below it are those of `[adapter]`",
        &["use_peft", "use_lora", "adapter_type"],
    ),
    with(
        "adapter.kind",
        "`\"none\"`, which trains every weight",
        &["full_finetune", "full_finetuning", "full_training"],
    ),
    with(
        "adapter",
        "`[adapter]` with `rank = 16`",
        &["lora", "peft", "lora_config", "peft_config", "lora_parameters", "lora_settings"],
    ),
    same("adapter.rank", &["lora_r", "r", "lora_rank", "peft_lora_r", "network_dim"]),
    with(
        "adapter.alpha",
        "the same number: the update counts alpha / rank",
        &["lora_alpha", "peft_lora_alpha", "network_alpha"],
    ),
    with("adapter.alpha", "`scale` times `adapter.rank`: the update counts alpha / rank", &["scale", "lora_scale"]),
    same("adapter.dropout", &["lora_dropout", "peft_lora_dropout"]),
    with(
        "adapter.targets",
        "`\"all-linear\"` or a list of names",
        &[
            "target_modules",
            "lora_target_modules",
            "lora_target",
            "lora_attn_modules",
            "lora_target_linear",
            "lora_modules",
        ],
    ),
    with(
        "adapter.targets",
        "a list that names `\"lm_head\"` and `\"embed_tokens\"`: they get adapters; whole ones are not trained beside an adapter",
        &["modules_to_save", "lora_modules_to_save", "apply_lora_to_output", "additional_target"],
    ),
    same("adapter.exclude", &["exclude_modules", "lora_exclude_modules"]),
    with(
        "adapter.layers",
        "a list of the blocks' numbers, the first is 0 and the last -1",
        &["layers_to_transform", "num_layers", "lora_layers", "peft_layers_to_transform", "lora_layers_to_transform"],
    ),
    same("adapter.rslora", &["use_rslora", "peft_use_rslora", "lora_use_rslora"]),
    with(
        "adapter.init",
        "`\"default\"` or `\"pissa\"`",
        &["init_lora_weights", "pissa_init", "peft_init_lora_weights"],
    ),
    same("train.neftune_alpha", &["neftune_noise_alpha", "noisy_embedding_alpha"]),
    same("objective.label_smoothing", &["label_smoothing_factor", "label_smoothing"]),
    same("adapter.lora_plus_ratio", &["loraplus_lr_ratio", "loraplus_ratio"]),
    same(
        "adapter.init_from",
        &["lora_model_dir", "adapter_name_or_path", "adapter_path", "resume_adapter_file", "adapter_model"],
    ),
    with(
        "data.train",
        "a list of files (JSON Lines, Parquet, CSV, packed or not), folders, patterns, or data sets of the hub, `\"org/name:split\"`",
        &[
            "datasets",
            "dataset",
            "train_file",
            "dataset_name",
            "train_dataset",
            "data_path",
            "dataset_path",
            "train_data",
            "train_files",
            "data_files",
            "dataset_dir",
            "train_path",
        ],
    ),
    with(
        "data.train",
        "the split, the subset and the revision stand in the name: `\"org/name/subset@revision:split\"`",
        &["split", "dataset_split", "subset", "dataset_config", "dataset_config_name", "dataset_revision"],
    ),
    with(
        "data.train",
        "a table for each file: `{ path = \"rows.jsonl\", limit = 10000 }`",
        &["max_samples", "max_train_samples", "num_samples", "num_train_samples"],
    ),
    with(
        "data.train",
        "a table for each file: `{ path = \"rows.jsonl\", weight = 2 }`",
        &["interleave_probs", "mix_strategy", "dataset_weights", "dataset_mixer", "data_mix"],
    ),
    with("data.train", "`[data]` with `train = [\"rows.jsonl\"]` and `eval = [\"held_out.jsonl\"]`", &["data"]),
    with(
        "data.eval",
        "a part such as `0.05`, held out by prompt, or a list of files",
        &[
            "val_set_size",
            "val_size",
            "test_size",
            "validation_split",
            "eval_split_ratio",
            "validation_split_percentage",
        ],
    ),
    with(
        "data.eval",
        "a list of files, or the part of the training rows that is held out",
        &[
            "test_datasets",
            "eval_dataset",
            "validation_file",
            "eval_file",
            "valid",
            "validation_data",
            "eval_path",
            "val_file",
            "test_file",
            "val_data",
        ],
    ),
    with(
        "data.format",
        "`\"messages\"`, `\"alpaca\"`, `\"sharegpt\"`, `\"prompt_completion\"` or `\"text\"`; it is told from the rows if left out",
        &["dataset_format", "formatting", "prompt_style", "dataset_kwargs", "chat_template_format", "type"],
    ),
    with(
        "data.rename",
        "a table of `column = \"key\"`, such as `question = \"prompt\"`",
        &[
            "dataset_text_field",
            "field_instruction",
            "field_messages",
            "columns",
            "column_mapping",
            "prompt_feature",
            "completion_feature",
            "text_feature",
            "chat_feature",
            "message_property_mappings",
        ],
    ),
    with(
        "data.train_on",
        "`\"assistant\"`, `\"last\"` or `\"all\"`",
        &[
            "train_on_inputs",
            "train_on_input",
            "train_on_prompt",
            "mask_prompt",
            "completion_only_loss",
            "assistant_only_loss",
            "train_on_responses_only",
            "roles_to_train",
            "mask_history",
            "train_on_eos",
        ],
    ),
    same(
        "data.max_length",
        &[
            "max_seq_length",
            "sequence_len",
            "cutoff_len",
            "max_seq_len",
            "model_max_length",
            "max_length",
            "block_size",
            "max_prompt_length",
            "context_length",
            "seq_length",
        ],
    ),
    with(
        "data.too_long",
        "`\"error\"`, `\"drop\"` or `\"truncate\"`",
        &["excess_length_strategy", "truncation", "truncation_mode", "truncation_side"],
    ),
    same("data.shuffle", &["shuffle_merged_datasets", "dataset_shuffle", "disable_shuffling"]),
    with(
        "objective.kind",
        "`\"nll\"` and its relatives; the program has no preference training",
        &["loss_type", "loss", "loss_fn", "rl", "stage"],
    ),
    same("optimizer.learning_rate", &["lr", "base_lr", "max_lr", "peak_lr"]),
    with("optimizer.betas", "`[adam_beta1, adam_beta2]`", &["adam_beta1", "adam_beta2", "beta1", "beta2"]),
    same("optimizer.eps", &["adam_epsilon", "epsilon", "adam_eps"]),
    same("optimizer.weight_decay", &["wd", "decay"]),
    with(
        "optimizer.clip_norm",
        "the same number, 1 if left out; 0 is off",
        &["max_grad_norm", "grad_clip", "clip_grad_norm", "gradient_clipping", "max_norm", "gradient_clip_val"],
    ),
    with(
        "optimizer",
        "AdamW, and there is no other: leave it out, or write `[optimizer]` with `learning_rate = 2e-4`",
        &["optim", "optimizer", "optimizer_type"],
    ),
    with(
        "schedule.kind",
        "`\"constant\"`, `\"linear\"`, `\"cosine\"` or `\"wsd\"`; `constant_with_warmup` is `\"constant\"` with `schedule.warmup`",
        &["lr_scheduler_type", "lr_scheduler", "scheduler", "lr_schedule", "scheduler_type", "lr_decay_style"],
    ),
    with(
        "schedule.warmup",
        "the same number: below 1 it is a fraction of all steps, a whole number is steps",
        &["warmup_ratio", "warmup_steps", "num_warmup_steps", "warmup_fraction", "lr_warmup_steps"],
    ),
    with("schedule", "`[schedule]` with `kind = \"cosine\"`", &["schedule"]),
    same("train.epochs", &["num_train_epochs", "num_epochs", "epochs", "n_epochs", "max_epochs"]),
    same("train.steps", &["max_steps", "iters", "max_steps_per_epoch", "num_iterations", "total_steps", "max_iters"]),
    with(
        "train.micro_batch_size",
        "the rows that run at once; `train.batch_size` is that times `gradient_accumulation_steps`",
        &[
            "per_device_train_batch_size",
            "per_gpu_train_batch_size",
            "device_batch_size",
            "train_batch_size_per_device",
        ],
    ),
    with(
        "train.batch_size",
        "the rows of an optimizer step: `per_device_train_batch_size` times `gradient_accumulation_steps`",
        &[
            "gradient_accumulation_steps",
            "grad_accumulation_steps",
            "grad_accum",
            "gradient_accumulation",
            "accumulation_steps",
            "global_batch_size",
            "train_batch_size",
            "batch_size",
        ],
    ),
    with(
        "train.recompute",
        "`\"blocks\"` in place of true, `\"none\"` in place of false",
        &[
            "gradient_checkpointing",
            "use_gradient_checkpointing",
            "grad_checkpoint",
            "enable_activation_checkpointing",
            "activation_checkpointing",
            "disable_gradient_checkpointing",
        ],
    ),
    same(
        "checkpoint.every",
        &["save_steps", "save_every", "save_interval", "steps_per_save", "save_strategy", "saves_per_epoch"],
    ),
    same("checkpoint.keep", &["save_total_limit", "keep_last_n_checkpoints", "save_last_k"]),
    with(
        "checkpoint.keep_best",
        "the checkpoint with the lowest held-out nll is kept beside the latest",
        &["load_best_model_at_end"],
    ),
    with(
        "checkpoint.best_by",
        "`nll`, or a number of `eval.prompts` such as `f8` or `distinct`",
        &["metric_for_best_model"],
    ),
    with(
        "checkpoint.patience",
        "evaluations in a row without a better number after which the run ends",
        &["early_stopping_patience"],
    ),
    same(
        "eval.every",
        &[
            "eval_steps",
            "evals_per_epoch",
            "eval_strategy",
            "evaluation_strategy",
            "steps_per_eval",
            "val_check_interval",
            "do_eval",
            "eval_interval",
        ],
    ),
    same("output.dir", &["output_dir", "save_path", "checkpoint_dir", "logging_dir", "out_dir", "save_dir"]),
    same("seed", &["random_state", "data_seed", "random_seed"]),
];

/// What is to be written here in place of a key of another trainer, written in any case, with `-` or `_`.
pub fn translate(key: &str) -> Option<String> {
    let key = key.to_lowercase().replace('-', "_");
    let known = |names: &[&str]| names.contains(&key.as_str());
    if let Some(entry) = KEYS.iter().find(|entry| known(entry.names)) {
        let how = if entry.how.is_empty() { String::new() } else { format!(": {}", entry.how) };
        return Some(format!("here that is `{}`{how}", entry.here));
    }
    WITHOUT.iter().find(|(names, _)| known(names)).map(|(_, instead)| (*instead).to_owned())
}

/// The key alone that is to be written here for a key of another trainer.
pub fn own_key(key: &str) -> Option<&'static str> {
    let key = key.to_lowercase().replace('-', "_");
    KEYS.iter().find(|entry| entry.names.contains(&key.as_str())).map(|entry| entry.here)
}

#[cfg(test)]
mod tests;
