use std::path::PathBuf;

use losses::Registry;

use super::*;
use crate::recipe::{Adapter, Backbone, Held, Start};

/// The recipe from a source of this name and text, which it reads as, and its text.
fn made(name: &str, text: &str) -> (recipe::Recipe, String, Draft) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    fs_err::write(&path, text).expect("a write");
    let source = Source::read(&path).unwrap_or_else(|fault| panic!("{fault}"));
    let mut draft = keys::translate(&source).unwrap_or_else(|fault| panic!("{fault}"));
    keys::complete(&mut draft, &source);
    let text = draft.text(&source);
    let recipe = recipe::parse("recipe.toml", &text, &[], &Registry::default());
    let recipe = recipe.unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    assert_eq!(recipe.warnings, Vec::<String>::new(), "{text}");
    let told = draft.settings();
    for setting in source.keys.keys() {
        let is_told = told.iter().any(|told| told == setting || told.starts_with(&format!("{setting}[")));
        assert!(is_told, "nothing is said of `{setting}`: {text}");
    }
    (recipe, text, draft)
}

const AXOLOTL: &str = "
base_model: NousResearch/Llama-3.2-1B
load_in_8bit: false
load_in_4bit: true
strict: false
datasets:
  - path: teknium/GPT4-LLM-Cleaned
    type: alpaca
    split: train[:2000]
  - path: mhenrichsen/alpaca_2k_test
    name: clean
    type: alpaca
dataset_prepared_path: last_run_prepared
val_set_size: 0.1
output_dir: ./outputs/lora-out
adapter: qlora
lora_model_dir:
sequence_len: 2048
sample_packing: true
eval_sample_packing: true
lora_r: 16
lora_alpha: 32
lora_dropout: 0.05
lora_target_modules:
  - gate_proj
  - up_proj
lora_fan_in_fan_out:
wandb_project:
wandb_entity:
gradient_accumulation_steps: 2
micro_batch_size: 4
num_epochs: 2
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: '2e-4'
bf16: auto
tf32: false
gradient_checkpointing: true
resume_from_checkpoint:
logging_steps: 1
flash_attention: true
loss_watchdog_threshold: 5.0
loss_watchdog_patience: 3
warmup_steps: 10
evals_per_epoch: 4
saves_per_epoch: 1
weight_decay: 0.0
special_tokens:
  pad_token: \"<|end_of_text|>\"
";

#[test]
fn an_axolotl_yaml_is_a_recipe() {
    let (recipe, text, draft) = made("config.yml", AXOLOTL);
    let base = Backbone::Pretrained { path: "NousResearch/Llama-3.2-1B".into(), revision: None };
    assert_eq!(recipe.model.backbone, base);
    assert!(recipe.model.quantise.is_some());
    let paths: Vec<(&str, Option<usize>)> = recipe.data.train.iter().map(|e| (e.path.as_str(), e.limit)).collect();
    assert_eq!(paths, [("teknium/GPT4-LLM-Cleaned:train", Some(2000)), ("mhenrichsen/alpaca_2k_test/clean", None)]);
    assert_eq!((recipe.data.eval, recipe.data.format), (Held::Part(0.1), datasets::Format::Alpaca));
    assert_eq!((recipe.train.batch_size, recipe.train.micro_batch_size), (8, 4));
    assert_eq!(recipe.optimizer.learning_rate, 2e-4);
    assert_eq!(recipe.data.too_long, datasets::TooLong::Drop, "Axolotl drops what is too long");
    let Adapter::Lora(lora) = recipe.adapter else { panic!("an adapter") };
    let Start::Fresh(shape) = lora.start else { panic!("a fresh one") };
    assert_eq!((shape.rank, shape.alpha, lora.dropout), (16, 32.0, 0.05));
    for left in ["sample_packing: true", "loss_watchdog_threshold: 5.0", "evals_per_epoch: 4", "special_tokens: "] {
        assert!(text.contains(&format!("#   {left}")), "{left}\n{text}");
    }
    assert!(text.contains("rank = 16\n") && text.contains("(`lora_r`)."), "{text}");
    let unbroken = text.replace("\n# ", " ");
    assert!(unbroken.contains("(`micro_batch_size`, `gradient_accumulation_steps`)"), "{text}");
    assert!(draft.remarks().is_empty() && draft.left_out() > 8, "{draft:?}");
}

#[test]
fn an_adapter_of_peft_is_a_recipe() {
    let config = r#"{"alora_invocation_tokens": null, "alpha_pattern": {"q_proj": 4}, "base_model_name_or_path": "org/name", "bias": "none",
        "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true, "layers_to_transform": [0, 1], "layers_pattern": null,
        "lora_alpha": 8, "lora_bias": false, "lora_dropout": 0.1, "megatron_core": "megatron.core", "modules_to_save": null, "peft_type": "LORA",
        "peft_version": "0.21.2", "r": 4, "rank_pattern": {}, "revision": null, "target_modules": ["k_proj", "q_proj"],
        "task_type": "CAUSAL_LM", "use_dora": true, "use_rslora": true}"#;
    let (recipe, text, draft) = made("adapter_config.json", config);
    let Adapter::Lora(lora) = recipe.adapter else { panic!("an adapter") };
    let Start::Fresh(shape) = lora.start else { panic!("a fresh one") };
    assert!(lora.dora && shape.rslora);
    assert_eq!((shape.rank, shape.alpha, lora.dropout, shape.layers), (4, 8.0, 0.1, Some(vec![0, 1])));
    assert_eq!(shape.alpha_pattern, [("q_proj".to_owned(), 4.0)]);
    assert_eq!(shape.targets, backbone::Targets::Named(vec!["k_proj".into(), "q_proj".into()]));
    assert!(text.contains("train = [\"rows.jsonl\"]"), "{text}");
    assert_eq!(draft.remarks().len(), 1, "rows are to be named");
}

#[test]
fn a_yaml_of_llama_factory_is_a_recipe() {
    let text = "
model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
dataset: identity,alpaca_en_demo
template: qwen
cutoff_len: 1024
max_samples: 1000
overwrite_cache: true
preprocessing_num_workers: 16
output_dir: saves/qwen
logging_steps: 10
save_steps: 500
plot_loss: true
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
";
    let (recipe, text, _) = made("sft.yaml", text);
    assert_eq!((recipe.train.batch_size, recipe.train.micro_batch_size), (8, 1));
    assert_eq!(recipe.data.max_length, Some(1024));
    assert_eq!(recipe.data.too_long, datasets::TooLong::Truncate, "LLaMA-Factory cuts what is too long");
    let Adapter::Lora(lora) = recipe.adapter else { panic!("an adapter") };
    let Start::Fresh(shape) = lora.start else { panic!("a fresh one") };
    assert_eq!((shape.rank, shape.alpha), (8, 16.0), "alpha is twice the rank there");
    for left in ["dataset: \"identity\"", "template: \"qwen\"", "ddp_timeout: 180000000"] {
        assert!(text.contains(left), "{left}\n{text}");
    }
}

/// The names of data sets stand for what `dataset_info.json` says of them.
#[test]
fn data_sets_of_llama_factory_are_looked_up() {
    let folder = tempfile::tempdir().expect("a folder");
    fs_err::create_dir(folder.path().join("data")).expect("a folder");
    let info = r#"{"own": {"file_name": "own.json", "columns": {"prompt": "question", "response": "answer"}},
        "chats": {"hf_hub_url": "org/chats", "formatting": "sharegpt", "split": "test", "num_samples": 5}}"#;
    fs_err::write(folder.path().join("data/dataset_info.json"), info).expect("a write");
    let path = folder.path().join("sft.yaml");
    fs_err::write(&path, "model_name_or_path: m/m\nstage: sft\ndataset: own,chats\n").expect("a write");
    let source = Source::read(&path).unwrap_or_else(|fault| panic!("{fault}"));
    let mut draft = keys::translate(&source).unwrap_or_else(|fault| panic!("{fault}"));
    keys::complete(&mut draft, &source);
    let train = draft.get("data.train").expect("rows").to_string();
    assert!(train.contains("data/own.json\"") && train.contains("{ path = \"org/chats:test\", limit = 5 }"), "{train}");
    assert_eq!(
        draft.get("data.rename").expect("names").to_string(),
        "{ answer = \"output\", question = \"instruction\" }"
    );
}

#[test]
fn a_yaml_of_trl_is_a_recipe() {
    let text = "
model_name_or_path: org/name
dataset_name: trl-lib/Capybara
dataset_train_split: train
dataset_test_split: test
eval_strategy: steps
eval_steps: 100
use_peft: true
lora_r: 32
lora_target_modules: all-linear
learning_rate: 2.0e-4
packing: true
max_length: 512
max_steps: 300
num_train_epochs: 1
torch_dtype: bfloat16
attn_implementation: flash_attention_2
loss_type: dft
lr_scheduler_type: cosine_with_min_lr
lr_scheduler_kwargs: {min_lr_rate: 0.1}
early_stopping_patience: 3
";
    let (recipe, text, _) = made("sft.yaml", text);
    assert_eq!(recipe.objective.name(), "dft");
    assert_eq!(recipe.data.eval, Held::Files(vec![recipe::Entry::of("trl-lib/Capybara:test")]));
    assert_eq!((recipe.schedule.min_rate, recipe.checkpoint.patience), (0.1, Some(3)));
    assert_eq!(recipe.train.duration, recipe::Duration::Steps(300));
    assert!(text.contains("num_train_epochs: 1\n"), "{text}");
    let (whole, _, _) = made("sft.yaml", "model_name_or_path: org/name\nlearning_rate: 1e-5\ndataset_name: a/b\n");
    assert_eq!(whole.adapter, Adapter::None, "without `use_peft` TRL trains every weight");
}

/// Settings that say next to nothing, or what cannot be: the recipe is one all the same.
#[test]
fn poor_settings_make_a_recipe_too() {
    for text in [
        "base_model: 3\n",
        "base_model: a/b\nlora_r: \"x\"\nadapter: lora\nlearning_rate: fast\n",
        "base_model: &x a/b\nfoo: *x\n",
        "base_model: a/b\nlora_r: -3\nadapter: lora\nnum_epochs: 0.5\nval_set_size: 200\nmicro_batch_size: auto\n",
        "base_model: a/b\nadapter: lora\ndatasets: 3\n",
        "base_model: a/b\nadapter: lora\ndatasets:\n- path: x/y\n  split: train[10%:20%]\n",
        "model_name_or_path: a/b\ndataset: [x]\nquantization_bit: 2\nlr_scheduler_type: polynomial\nwarmup_ratio: 2\n",
        "model_name_or_path: a/b\ngradient_accumulation_steps: 4\n",
    ] {
        made("a.yml", text);
    }
}

#[test]
fn what_has_no_effect_beside_another_setting_is_left_out_and_named() {
    let text = "base_model: m/m\nlora_r: 8\nload_in_4bit: true\nearly_stopping_patience: 2\nlearning_rate: 1e-4\n";
    let (recipe, text, _) = made("a.yml", text);
    assert_eq!(recipe.adapter, Adapter::None, "without `adapter` Axolotl trains every weight");
    for left in ["lora_r: 8", "load_in_4bit: \"nf4\"", "early_stopping_patience: 2"] {
        assert!(text.contains(left), "{left}\n{text}");
    }
}

/// Data sets of several shapes have none that could be written for all.
#[test]
fn shapes_that_differ_are_told_of() {
    let text = "base_model: m/m\nadapter: lora\nlearning_rate: 1e-4\ndatasets:\n- path: a/b\n  type: alpaca\n- path: c/d\n  type: chat_template\n";
    let (recipe, _, draft) = made("a.yml", text);
    assert_eq!(recipe.data.format, datasets::Format::Auto);
    assert!(draft.remarks()[0].contains("several shapes"), "{draft:?}");
}

#[test]
fn other_trainings_are_refused() {
    for (text, expected) in [
        ("base_model: m\nrl: dpo\n", "`rl` is `dpo`"),
        ("model_name_or_path: m\nstage: kto\n", "`stage` is `kto`"),
        ("base_model: m\nadapter: ia3\n", "`adapter` is `ia3`"),
        ("", "an `adapter_config.json` of PEFT"),
        ("{\"peft_type\": \"IA3\", \"base_model_name_or_path\": \"m\"}", "`peft_type` is `ia3`"),
        ("model:\n  _component_: torchtune.models.llama3\n", "of no trainer that is known here"),
        ("[model]\npath = \"m\"\n", "it is TOML, as recipes are"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.yml");
        fs_err::write(&path, text).expect("a write");
        let fault =
            Source::read(&path).and_then(|source| keys::translate(&source).map(drop)).expect_err("it is refused");
        assert!(fault.to_string().contains(expected), "{fault}");
    }
    let fault = Source::read(&PathBuf::from("no/such/file")).err().expect("no file");
    assert!(fault.to_string().contains("cannot read the settings"), "{fault}");
}

#[test]
fn every_objective_has_a_recipe_to_begin_with_or_says_that_it_has_none() {
    let run = RealRun { model: "org/name".into(), train: vec!["a.jsonl".into()], eval: Vec::new() };
    for kind in Registry::default().objectives {
        match real_text(kind.name, &run) {
            Ok(text) => {
                let recipe = recipe::parse("r.toml", &text, &[], &Registry::default());
                assert_eq!(recipe.unwrap_or_else(|faults| panic!("{faults}")).objective.name(), kind.name);
            }
            Err(fault) => assert_eq!((kind.name, fault.hint.is_some()), ("weighted", true), "{fault}"),
        }
    }
}

/// A column that is one key in one set and another in the next would be read wrongly in one of them.
#[test]
fn columns_that_two_sets_call_otherwise_are_told_of() {
    let text = "
base_model: org/name
adapter: lora
datasets:
  - { path: a.jsonl, type: { field_instruction: q, field_output: a } }
  - { path: b.jsonl, type: { field_instruction: a, field_output: q } }
";
    let (_, text, draft) = made("axolotl.yml", text);
    assert!(text.contains("q = \"instruction\"") && text.contains("a = \"output\""), "{text}");
    let told = draft.remarks().join("\n");
    assert!(told.contains("`a` is `output` in one and `instruction` in another"), "{told}");
}

#[test]
fn what_is_switched_off_is_not_what_nobody_wrote() {
    let text = "
model_name_or_path: org/name
dataset_name: org/rows
use_peft: true
lora_r: 8
max_length: null
completion_only_loss: false
per_device_train_batch_size: 99999999999999999999
";
    let (recipe, text, _) = made("trl.yaml", text);
    assert_eq!(recipe.data.max_length, None, "{text}");
    assert_eq!(recipe.train.batch_size, 8, "{text}");
    for left in ["completion_only_loss: false", "per_device_train_batch_size: "] {
        assert!(text.contains(left), "{left}\n{text}");
    }
}
