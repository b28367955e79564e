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
        ("chat_template_jinja", "`data.chat_template"),
        ("eot_tokens", "`data.end_of_turn"),
        ("batch_size", "`train.batch_size"),
        ("create_new_adapter", "`adapter.init_from"),
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

/// The keys that are pasted most, from PEFT, TRL, Axolotl, LLaMA-Factory and Unsloth.
const PASTED: [&str; 69] = [
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "lora_target_linear",
    "use_rslora",
    "use_dora",
    "init_lora_weights",
    "modules_to_save",
    "layers_to_transform",
    "loraplus_lr_ratio",
    "base_model",
    "model_name_or_path",
    "tokenizer_type",
    "load_in_4bit",
    "load_in_8bit",
    "quantization_bit",
    "bf16",
    "torch_dtype",
    "attn_implementation",
    "flash_attention",
    "datasets",
    "dataset",
    "template",
    "chat_template",
    "cutoff_len",
    "sequence_len",
    "max_seq_length",
    "sample_packing",
    "packing",
    "train_on_inputs",
    "mask_history",
    "val_set_size",
    "val_size",
    "eval_steps",
    "split",
    "num_train_epochs",
    "num_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "micro_batch_size",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "learning_rate",
    "lr",
    "lr_scheduler_type",
    "lr_scheduler",
    "warmup_ratio",
    "warmup_steps",
    "weight_decay",
    "adam_beta1",
    "max_grad_norm",
    "optim",
    "optimizer",
    "output_dir",
    "save_steps",
    "saves_per_epoch",
    "save_total_limit",
    "load_best_model_at_end",
    "resume_from_checkpoint",
    "logging_steps",
    "report_to",
    "wandb_project",
    "neftune_noise_alpha",
    "label_smoothing_factor",
    "deepspeed",
    "fsdp",
    "ddp_timeout",
    "max_samples",
];

/// As they are pasted: at the top of the recipe, where each is one fault that says what is to be written, or why nothing is.
#[test]
fn every_key_that_is_pasted_has_its_word() {
    let text = "[model]\npath = \"m\"\n[data]\ntrain = [\"a\"]\n";
    for key in PASTED {
        let read = super::super::parse("r.toml", text, &[format!("{key}=1")], &Registry::default());
        let faults = read.err().unwrap_or_else(|| panic!("`{key}` is taken"));
        let [fault] = faults.list() else { panic!("{key}: {faults}") };
        let hint = fault.hint.as_deref().unwrap_or_default();
        let own = ["micro_batch_size", "learning_rate", "weight_decay"].contains(&key);
        match own {
            true => assert!(hint.contains(&format!(".{key}`")), "{key}: {fault}"),
            false => assert_eq!(Some(hint), translate(key).as_deref(), "{key}"),
        }
    }
}
