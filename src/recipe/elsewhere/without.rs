//! Keys of other trainers that have none of ours.

/// Keys that have none of ours, and what there is in place of them.
pub(super) const WITHOUT: &[(&[&str], &str)] = &[
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
            "tf32",
            "plugins",
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
            "streaming",
            "dataset_processes",
        ],
        "remove it: rows are read whole, and every processor is used",
    ),
    (&["overwrite_output_dir"], "a run never overwrites another: name a new `output.dir`, or remove the old one"),
    (
        &["target_parameters", "megatron_config", "auto_mapping", "inference_mode"],
        "remove it: `adapter.targets` names linear layers, and PEFT's other switches have no meaning here",
    ),
    (&["trust_remote_code"], "no code of a model's folder is ever run: remove it"),
    (
        &[
            "chat_template",
            "chat_template_jinja",
            "chat_template_path",
            "template",
            "prompt_template",
            "apply_chat_template",
            "conversation_template",
        ],
        "rows of the shape `messages` are written by the model's own chat template; `data.chat_template = \"FILE\"` names \
         another, a file of Jinja",
    ),
    (
        &["pad_token", "pad_token_id", "padding_side", "pad_to_multiple_of"],
        "remove it: padding is known by the length of a row, and never learned",
    ),
    (
        &["eos_token", "eos_token_id", "stop_token", "eot_tokens"],
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
    (&["create_new_adapter"], "an adapter is new unless `adapter.init_from` names one to go on with: remove it"),
    (&["ema_decay"], "there is nothing like it here: remove it"),
    (&["early_stopping"], "`checkpoint.patience` says after how many evaluations that are no better a run ends"),
    (&["layers_pattern"], "the blocks of every model here are known by their numbers: see `adapter.layers`"),
    (
        &["do_train", "do_predict", "train", "test", "predict_with_generate"],
        "`trainer run` trains, `trainer eval` and `trainer sample` look at what came out: remove it",
    ),
    (
        &["push_to_hub", "hub_model_id", "hf_use_auth_token"],
        "`trainer export` writes a folder, and `trainer push DIR org/name` uploads it: remove it",
    ),
];
