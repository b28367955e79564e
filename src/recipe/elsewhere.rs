//! What the settings of other trainers are called here: PEFT, transformers and TRL, Axolotl, Unsloth, LLaMA-Factory,
//! torchtune, mlx-lm. It is asked for hints alone; nothing is ever taken from a key of another program.

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
        &["base_model", "model_name_or_path", "model_name", "model_id", "pretrained_model_name_or_path", "hf_path"],
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
    same("adapter.lora_plus_ratio", &["loraplus_lr_ratio", "loraplus_ratio"]),
    same(
        "adapter.init_from",
        &["lora_model_dir", "adapter_name_or_path", "adapter_path", "resume_adapter_file", "adapter_model"],
    ),
    with(
        "data.train",
        "a list of JSON Lines files",
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
    with("data.train", "`[data]` with `train = [\"rows.jsonl\"]` and `eval = [\"held_out.jsonl\"]`", &["data"]),
    with(
        "data.eval",
        "a list of files: held-out rows are files of their own",
        &[
            "test_datasets",
            "eval_dataset",
            "validation_file",
            "val_set_size",
            "val_size",
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
        "`\"constant\"`, `\"linear\"` or `\"cosine\"`; `constant_with_warmup` is `\"constant\"` with `schedule.warmup`",
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

/// Keys that have none of ours, and what there is in place of them.
const WITHOUT: &[(&[&str], &str)] = &[
    (
        &[
            "packing",
            "sample_packing",
            "packed",
            "pad_to_sequence_len",
            "eval_sample_packing",
            "neat_packing",
            "group_by_length",
        ],
        "rows are never packed together: those of a step are put with others of their length, and padding costs little",
    ),
    (
        &["per_device_eval_batch_size", "eval_batch_size", "val_batches"],
        "held-out rows run `train.micro_batch_size` at a time, all of them",
    ),
    (
        &["lora_bias", "bias", "peft_bias"],
        "biases are not trained: remove it, or write `adapter.kind = \"none\"` to train every weight",
    ),
    (&["task_type", "peft_task_type", "auto_model_class"], "models are causal language models: remove it"),
    (
        &[
            "report_to",
            "wandb_project",
            "use_wandb",
            "logging_steps",
            "wandb_entity",
            "run_name",
            "log_every_n_steps",
            "metric_logger",
            "steps_per_report",
            "plot_loss",
            "wandb",
            "logging_strategy",
            "logging_first_step",
        ],
        "remove it: every step goes to `metrics.jsonl`, TensorBoard's files and `report.html` of `output.dir`",
    ),
    (
        &[
            "flash_attention",
            "flash_attn",
            "attn_implementation",
            "use_flash_attention_2",
            "sdp_attention",
            "xformers_attention",
            "enable_liger_kernel",
            "use_liger_kernel",
            "liger_kernel",
            "torch_compile",
            "compile",
        ],
        "remove it: the program chooses its kernels by itself",
    ),
    (
        &[
            "deepspeed",
            "fsdp",
            "fsdp_config",
            "ddp_timeout",
            "world_size",
            "tensor_parallel_size",
            "ddp_find_unused_parameters",
        ],
        "one process trains on one device: remove it; `model.device` says which",
    ),
    (
        &["resume_from_checkpoint", "auto_resume_from_checkpoints"],
        "`trainer run RECIPE --resume` goes on from the latest checkpoint of `output.dir`",
    ),
    (
        &[
            "num_workers",
            "dataloader_num_workers",
            "preprocessing_num_workers",
            "dataset_num_proc",
            "dataset_prepared_path",
            "overwrite_cache",
            "dataloader_pin_memory",
            "dataset_processes",
        ],
        "remove it: rows are read whole, and every processor is used",
    ),
    (&["overwrite_output_dir"], "a run never overwrites another: name a new `output.dir`, or remove the old one"),
    (&["trust_remote_code"], "no code of a model's folder is ever run: remove it"),
    (
        &["chat_template", "template", "prompt_template", "apply_chat_template", "conversation_template"],
        "rows of the shape `messages` are written by the model's own chat template; `data.chat_template = \"FILE\"` names \
         another, a file of Jinja",
    ),
    (
        &["pad_token", "pad_token_id", "padding_side", "pad_to_multiple_of"],
        "remove it: padding is known by the length of a row, and never learned",
    ),
    (
        &["eos_token", "eos_token_id", "stop_token"],
        "the end tokens are those of the model's files; `data.end_of_turn = \"TOKEN\"` names one more",
    ),
    (
        &["special_tokens", "special_tokens_map", "additional_special_tokens"],
        "the special tokens are those of the model's files: `data.end_of_turn = \"TOKEN\"` names one more that ends turns, and \
         padding needs none",
    ),
    (
        &["tokenizer_type", "tokenizer_name", "tokenizer_path", "tokenizer"],
        "the tokenizer is the one in the model's folder",
    ),
    (
        &["neftune_noise_alpha", "noisy_embedding_alpha", "label_smoothing_factor", "label_smoothing", "ema_decay"],
        "there is nothing like it here: remove it",
    ),
    (&["early_stopping"], "`checkpoint.patience` says after how many evaluations that are no better a run ends"),
    (&["layers_pattern"], "the blocks of every model here are known by their numbers: see `adapter.layers`"),
    (
        &["do_train", "do_predict", "train", "test", "predict_with_generate"],
        "`trainer run` trains, `trainer eval` and `trainer sample` look at what came out: remove it",
    ),
    (
        &["push_to_hub", "hub_model_id", "hf_use_auth_token"],
        "`trainer export` writes a folder to upload; `HF_TOKEN` is honoured for models: remove it",
    ),
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
mod tests {
    use std::collections::BTreeSet;

    use losses::Registry;

    use super::*;

    /// Every key named as ours is one: asked for when a recipe is read.
    #[test]
    fn what_is_named_here_is_a_key_of_a_recipe() {
        let text = "[model]\npath = \"m\"\n[data]\ntrain = [\"a\"]\neval = [\"b\"]\n";
        for entry in KEYS {
            let set = format!("{}=", entry.here);
            let read = super::super::parse("r.toml", text, &[set], &Registry::default());
            let faults = read.err().map(|faults| faults.to_string()).unwrap_or_default();
            assert!(!faults.contains("unknown key"), "{}: {faults}", entry.here);
        }
    }

    #[test]
    fn what_has_no_key_here_is_answered_by_what_there_is() {
        for (key, here) in [
            ("eos_token", "`data.end_of_turn"),
            ("eos-token", "`data.end_of_turn"),
            ("pad_token", "never learned"),
            ("padding_side", "never learned"),
            ("chat_template", "`data.chat_template"),
            ("template", "`data.chat_template"),
        ] {
            let answer = translate(key).unwrap_or_default();
            assert!(answer.contains(here), "{key}: {answer}");
        }
    }

    #[test]
    fn no_name_stands_twice() {
        let mut seen = BTreeSet::new();
        let names = KEYS.iter().flat_map(|entry| entry.names).chain(WITHOUT.iter().flat_map(|(names, _)| *names));
        for name in names {
            assert!(seen.insert(name), "{name}");
            assert_eq!(*name, name.to_lowercase().replace('-', "_"));
        }
    }
}
