use backbone::AdapterSettings;
use backbone::device::{DTypeName, DeviceName};
use datasets::{Format, TooLong, TrainOn};
use faults::Section;
use losses::objective::NLL;
use losses::{AuxiliaryKind, ObjectiveKind, Registry};

use super::*;
use crate::engine::schedule::Kind;

const LEAST: &str = "[model]\npath = \"org/name\"\n[data]\ntrain = [\"a.jsonl\"]\n";

/// Two objectives that share `alpha`, one with a key of its own, and an auxiliary loss.
fn registry() -> Registry {
    let sharp = |section: &mut Section| {
        let alpha: f64 = section.value("alpha", 1.4);
        section.check("alpha", alpha >= 1.0, "`objective.alpha` must be at least 1", "1 is nll");
        (NLL.build)(section)
    };
    let cut = |section: &mut Section| {
        section.value("alpha", 1.0);
        section.value("quantile", 0.9);
        (NLL.build)(section)
    };
    let features = |section: &mut Section| -> AuxiliaryBuilder {
        section.value("weight", 1.0);
        AuxiliaryBuilder::new(|_| unreachable!("no model is built here"))
    };
    Registry {
        objectives: vec![
            NLL,
            ObjectiveKind { name: "sharp", purpose: "", build: sharp },
            ObjectiveKind { name: "cut", purpose: "", build: cut },
        ],
        auxiliaries: vec![AuxiliaryKind { name: "features", purpose: "", build: features }],
    }
}

fn read(text: &str, overrides: &[&str]) -> Result<Recipe, Faults> {
    let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
    parse("experiments/first.toml", text, &overrides, &registry())
}

fn good(text: &str, overrides: &[&str]) -> Recipe {
    read(text, overrides).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The faults of the least recipe with `overrides`, one line each.
fn faults_of(overrides: &[&str]) -> Vec<String> {
    let faults = read(LEAST, overrides).err().unwrap_or_else(|| panic!("{overrides:?} was taken"));
    faults.list().iter().map(|fault| fault.to_string().replace('\n', " ")).collect()
}

#[test]
fn what_a_recipe_says_of_chats_is_kept_and_read_again() {
    assert_eq!(good(LEAST, &[]).data.chat, Chat::default());
    let overrides = [
        "data.chat_template=own.jinja",
        "data.template_arguments={enable_thinking=false, depth=2, words=[\"a\"], inner={x=0.5}}",
        "data.end_of_turn=\"<|im_end|>\"",
        "data.date=\"2026-11-28\"",
    ];
    let recipe = good(LEAST, &overrides);
    let chat = &recipe.data.chat;
    assert_eq!((chat.template.as_deref(), chat.end_of_turn.as_deref()), (Some("own.jinja"), Some("<|im_end|>")));
    let switches = serde_json::json!({"enable_thinking": false, "depth": 2, "words": ["a"], "inner": {"x": 0.5}});
    assert_eq!(serde_json::Value::from(chat.arguments.clone()), switches);
    assert_eq!(chat.date.map(|date| date.to_string()).as_deref(), Some("2026-11-28T00:00:00"));
    assert_eq!(good(LEAST, &["data.date=2026-11-28"]).data.chat.date, chat.date);
    // What a run keeps says the same to `sample` and `eval`.
    let again = super::chat("recipe.toml", &recipe.resolved_text()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(&again, chat);
}

#[test]
fn the_least_recipe_has_the_documented_defaults() {
    let recipe = good(LEAST, &[]);
    assert_eq!(recipe.seed, 17);
    assert_eq!(recipe.model.backbone, Backbone::Pretrained { path: "org/name".into(), revision: None });
    assert_eq!((recipe.model.dtype, recipe.model.device), (DTypeName::Auto, DeviceName::Auto));
    let start = Start::Fresh(AdapterSettings::new(16, 32.0));
    assert_eq!(recipe.adapter, Adapter::Lora(Lora { dora: false, start, dropout: 0.0, lora_plus_ratio: None }));
    assert_eq!((recipe.data.format, recipe.data.too_long, recipe.data.shuffle), (Format::Auto, TooLong::Error, true));
    assert_eq!(recipe.data.train_on, TrainOn::Assistant);
    assert_eq!(recipe.objective.name(), "nll");
    assert_eq!((recipe.optimizer.learning_rate, recipe.optimizer.betas), (2e-4, [0.9, 0.999]));
    assert_eq!((recipe.optimizer.eps, recipe.optimizer.clip_norm), (1e-8, Some(1.0)));
    assert_eq!(recipe.schedule, Schedule::new(Kind::Constant));
    assert_eq!(recipe.train.duration, Duration::Epochs(1));
    assert_eq!((recipe.train.batch_size, recipe.train.micro_batch_size), (8, 8));
    assert_eq!((recipe.checkpoint.keep, recipe.checkpoint.keep_best, recipe.eval.every), (3, false, None));
    assert_eq!(recipe.output.dir, Path::new("runs/first"));
}

#[test]
fn the_resolved_text_reads_as_the_same_recipe() {
    let init = "[model.init]\ntokenizer = \"t\"\nhidden_size = 64\nlayers = 2\nheads = 4\nkv_heads = 2\n\
                intermediate_size = 96\n[data]\ntrain = [\"a\"]\neval = [\"b\"]\nrename = { question = \"prompt\" }\n";
    let cases: [(&str, &[&str]); 8] = [
        (LEAST, &[]),
        (
            LEAST,
            &[
                "adapter.kind=dora",
                "adapter.init=pissa",
                "adapter.lora_plus_ratio=16",
                "adapter.rank_pattern={\"layers.0.mlp.up_proj\"=8, q_proj=4}",
                "adapter.alpha_pattern={q_proj=1.5}",
            ],
        ),
        (LEAST, &["adapter.kind=none", "train.steps=9", "schedule.warmup=0.1", "objective.kind=cut"]),
        (LEAST, &["adapter.init_from=old", "data.eval=[\"b\"]", "checkpoint.every=0", "model.device=cuda"]),
        (LEAST, &["data.eval=[]", "eval.every=5", "checkpoint.keep_best=true"]),
        (LEAST, &["eval.every=0"]),
        (LEAST, &["adapter.targets=[\"q_proj\"]", "optimizer.clip_norm=0", "schedule.warmup=7"]),
        (init, &["auxiliary=[{kind=\"features\",weight=0.5}]", "data.train_on=[\"response\"]"]),
    ];
    for (text, overrides) in cases {
        let first = good(text, overrides);
        let again = good(&first.resolved_text(), &[]);
        assert_eq!(again.resolved, first.resolved);
        assert_eq!((&again.model, &again.adapter, &again.data), (&first.model, &first.adapter, &first.data));
        assert_eq!((&again.train, &again.schedule, &again.eval), (&first.train, &first.schedule, &first.eval));
        assert_eq!((&again.optimizer, &again.checkpoint), (&first.optimizer, &first.checkpoint));
        assert_eq!(again.output, first.output);
    }
}

#[test]
fn an_empty_list_switches_evaluation_off_with_all_that_is_said_of_it() {
    let written = "data.eval=[\"b\"]";
    let on = good(LEAST, &[written, "eval.every=5", "checkpoint.keep_best=true"]);
    assert!(on.warnings.is_empty() && on.checkpoint.keep_best && on.eval.every.is_some());
    let off = good(LEAST, &[written, "eval.every=5", "checkpoint.keep_best=true", "data.eval=[]"]);
    assert_eq!((off.eval.every, off.checkpoint.keep_best), (None, false));
    // How often there would be an evaluation is no wish for one.
    assert_eq!(off.warnings, ["`checkpoint.keep_best` has no effect: `data.eval` is empty"]);
    assert_eq!(good(LEAST, &["data.eval=[]"]).warnings, Vec::<String>::new());
}

#[test]
fn every_fault_of_a_recipe_is_named_at_once_in_the_order_of_the_file() {
    let text = "sed = 1\n[model]\npath = \"m\"\ndevice = \"gpu\"\n[adapter]\nrank = 0\ndropout = 1.0\n[data]\n\
                train = []\n[objective]\nkind = \"sharp\"\nalpha = 0.5\nquantile = 0.9\n[optimizer]\nbetas = [0.9]\n";
    let faults = read(text, &[]).err().expect("eight faults");
    let places: Vec<String> =
        faults.list().iter().map(|fault| fault.place.as_ref().expect("a place").to_string()).collect();
    let lines = ["1:1", "4:10", "6:8", "7:11", "9:9", "12:9", "13:1", "15:9"];
    assert_eq!(places, lines.map(|line| format!("experiments/first.toml:{line}")));
    let text = faults.to_string();
    for part in ["did you mean `seed`?", "\"cuda:N\", found the string \"gpu\"", "a key of objective `cut`"] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn impossible_values_and_keys_that_exclude_each_other_are_one_fault_each() {
    let cases: [(&[&str], &str); 52] = [
        (&["model.path=3"], "`model.path` must be a string"),
        (&["model.path=\"\""], "`model.path` names no model"),
        (&["model.path=builtin:tiny", "model.revision=main"], "`model.revision` has no effect"),
        (&["model.dtype=f16"], "`model.dtype` cannot be \"f16\""),
        (&["adapter.kind=dorra"], "did you mean \"dora\"?"),
        (&["adapter.kind=none", "adapter.lora_plus_ratio=4"], "`adapter.lora_plus_ratio` has no effect"),
        (&["adapter.init_from=d", "adapter.rank_pattern={q_proj=4}"], "`adapter.rank_pattern` has no effect"),
        (&["adapter.init=pisa"], "did you mean \"pissa\"?"),
        (&["adapter.lora_plus_ratio=0"], "`adapter.lora_plus_ratio` cannot be 0"),
        (&["adapter.lora_plus_ratio=1"], "`adapter.lora_plus_ratio` cannot be 1"),
        (&["adapter.lora_plus_ratio=1e300"], "`adapter.lora_plus_ratio` = 1e300 is infinite as f32"),
        (&["adapter.lora_plus_ratio=1e38", "optimizer.learning_rate=9.0"], "`adapter.lora_plus_ratio` is 9e38, which"),
        (&["adapter.rank_pattern={q_proj=0}"], "`adapter.rank_pattern.q_proj` cannot be 0"),
        (&["adapter.kind=none", "adapter.rank=8"], "`adapter.rank` has no effect with `adapter.kind = \"none\"`"),
        (&["adapter.init_from=d", "adapter.alpha=8"], "`adapter.alpha` has no effect with `adapter.init_from`"),
        (&["adapter.targets=linear"], "`adapter.targets` must be \"all-linear\" or a list of module names"),
        (&["adapter.targets=[]"], "`adapter.targets` names no module"),
        (&["adapter.alpha=nan"], "`adapter.alpha` cannot be NaN"),
        (&["adapter.dropout=-0.1"], "`adapter.dropout` cannot be -0.1"),
        (&["data.train=3"], "`data.train` must be a file or a list of files"),
        (&["data.train=\"\""], "`data.train` names no file"),
        (&["data.max_length=1"], "`data.max_length` must be at least 2"),
        (&["data.train_on=[\"respond\"]"], "did you mean \"response\"?"),
        (&["data.train_on=[\"intent\", \"intent\"]"], "names a part twice"),
        (&["data.train_on=\"assistent\""], "did you mean \"assistant\"?"),
        (&["data.train_on=[]"], "nothing would be learned"),
        (&["data.rename={a=\"prompt\", b=\"prompt\"}"], "two columns the same key"),
        (&["data.chat={user=\"a\"}"], "`data.chat.assistant`"),
        (&["data.chat={assistant=\"a\"}"], "`data.chat.user`"),
        (&["data.chat={user=[], assistant=\"a\"}"], "`data.chat.user` names no column"),
        (&["data.chat={user=\"a\", assistent=\"b\", assistant=\"c\"}"], "unknown key `assistent` in `[data.chat]`"),
        (
            &["data.chat={user=\"a\", assistant=\"b\"}", "data.format=text"],
            "`data.chat` and `data.format` exclude each other",
        ),
        (&["data.date=tomorrow"], "`data.date` = \"tomorrow\" is no date hint: write the year first"),
        (
            &["data.template_arguments=[1]"],
            "`data.template_arguments` must be a table such as `{ enable_thinking = false }`",
        ),
        (&["data.chat_templat=a.jinja"], "did you mean"),
        (&["objective.kind=shrap", "objective.alpha=2"], "did you mean \"sharp\"?"),
        (&["objective.alpha=2"], "a key of objective `sharp` and `cut`"),
        (&["auxiliary=[{kind=\"feature\",weight=1}]"], "did you mean \"features\"?"),
        (&["auxiliary=[{kind=\"features\"},{kind=\"features\"}]"], "auxiliary loss `features` is named twice"),
        (&["optimizer.learning_rate=0"], "`optimizer.learning_rate` cannot be 0"),
        (&["optimizer.betas=[0.9, 1.0]"], "`optimizer.betas` must be two numbers"),
        (&["optimizer.clip_norm=-1"], "`optimizer.clip_norm` cannot be -1"),
        (&["schedule.warmup=1.5"], "a fraction below 1 or a whole number of steps"),
        (&["schedule.warmup=10", "train.steps=10"], "`schedule.warmup` = 10 does not end before `train.steps` = 10"),
        (&["train.steps=5", "train.epochs=1"], "exclude each other"),
        (&["train.steps=0"], "`train.steps` = 0 evaluates only, and there is no `data.eval`"),
        (&["train.steps=-1"], "`train.steps` must be a whole number, zero or more"),
        (&["train.batch_size=4", "train.micro_batch_size=5"], "is more than `batch_size` = 4"),
        (&["checkpoint.keep=0"], "`checkpoint.keep` must be a whole number, 1 or more"),
        (&["checkpoint.keep_best=true"], "needs evaluation data"),
        (&["eval.every=5"], "`eval.every` has no effect without `data.eval`"),
        (&["output.dir=\"\""], "`output.dir` is empty"),
    ];
    for (overrides, part) in cases {
        let faults = faults_of(overrides);
        let as_expected = faults.len() == 1 && faults[0].contains(part);
        assert!(as_expected, "{overrides:?} gave {faults:#?} in place of one with {part:?}");
    }
}

#[test]
fn a_model_from_scratch_is_checked_as_a_whole() {
    let text = "[model.init]\ntokenizer = \"t\"\nhidden_size = 30\nlayers = 2\nheads = 4\nkv_heads = 3\n\
                intermediate_size = 8\nmax_positions = 16\n[data]\ntrain = [\"a\"]\nmax_length = 17\n";
    let faults = read(text, &[]).err().expect("three faults").to_string();
    for part in ["`heads` = 4 is not a multiple of `kv_heads` = 3", "`hidden_size` = 30", "16 positions"] {
        assert!(faults.contains(part), "{part:?} is missing in\n{faults}");
    }
    let odd = read(text, &["model.init.kv_heads=2", "model.init.head_dim=7", "data.max_length=16"]);
    let odd = odd.err().expect("a fault").to_string();
    assert!(odd.contains("the width of a head must be even, found 7"), "{odd}");
    let both = faults_of(&["model.init.layers=2"]).join("\n");
    assert!(both.contains("exclude each other") && both.contains("`model.init.heads` is missing"), "{both}");
    let recipe = good(text, &["model.init.kv_heads=2", "model.init.head_dim=8", "data.max_length=16"]);
    let Backbone::Init(init) = recipe.model.backbone else { panic!("`[model.init]` was written") };
    assert_eq!((init.head_dim, init.kv_heads, init.rope_theta, init.tie_embeddings), (8, 2, 10_000.0, true));
}

#[test]
fn a_length_on_the_command_line_takes_the_place_of_the_other_in_the_file() {
    let text = format!("{LEAST}[train]\nepochs = 3\n");
    let recipe = good(&text, &["train.steps=5"]);
    assert_eq!(recipe.train.duration, Duration::Steps(5));
    assert!(recipe.resolved["train"].get("epochs").is_none());
    assert!(recipe.warnings.is_empty(), "a default is nobody's mistake");
    let recipe = good(&text, &["train.steps=5", "checkpoint.every=100"]);
    assert_eq!(recipe.warnings, ["`checkpoint.every` = 100 has no effect: the run ends at step 5"]);
    assert_eq!(good(&text.replace("epochs", "steps"), &["train.epochs=2"]).train.duration, Duration::Epochs(2));
}

#[test]
fn only_changes_that_leave_the_past_alone_let_a_run_go_on() {
    let old = good(LEAST, &["train.steps=10", "data.eval=[\"b\"]"]).resolved;
    let compare = |overrides: &[&str]| {
        let new = good(&toml::to_string(&old).expect("a table"), overrides).resolved;
        (differences(&old, &new), since_start(&old, &new).blocking)
    };
    assert_eq!(compare(&[]), (vec![], vec![]));
    let longer = compare(&["train.steps=20", "checkpoint.every=5", "eval.every=5", "output.dir=elsewhere"]);
    assert_eq!(longer.0.len(), 4);
    assert!(longer.0.contains(&"`train.steps`: 10 -> 20".to_string()), "{longer:?}");
    assert_eq!(longer.1, Vec::<String>::new());
    assert_eq!(compare(&["train.steps=9"]).1, ["`train.steps`: 10 -> 9"]);
    assert_eq!(compare(&["optimizer.learning_rate=1.0"]).1, ["`optimizer.learning_rate`: 0.0002 -> 1.0"]);
    let other = compare(&["auxiliary=[{kind=\"features\"}]", "adapter.targets=[\"q_proj\"]", "train.epochs=2"]).1;
    let expected = [
        "`adapter.targets`: \"all-linear\" -> [\"q_proj\"]",
        "`train.steps`: 10 -> not set",
        "`train.epochs`: not set -> 2",
        "`auxiliary`: not set -> [{ kind = \"features\", weight = 1.0 }]",
    ];
    assert_eq!(other.len(), expected.len(), "{other:?}");
    for line in expected {
        assert!(other.contains(&line.to_string()), "{line} is missing in {other:?}");
    }
}

#[test]
fn keys_that_an_earlier_version_did_not_know_had_their_defaults() {
    let new = good(LEAST, &["schedule.kind=cosine", "objective.kind=cut"]).resolved;
    let mut old = new.clone();
    for (table, key) in
        [("schedule", "min_rate"), ("schedule", "cycles"), ("data", "shuffle"), ("checkpoint", "keep_best")]
    {
        old[table].as_table_mut().expect("a table").remove(key).expect("a key");
    }
    assert_eq!(since_start(&up_to_date(old.clone(), &registry()), &new), Default::default());
    let other = good(LEAST, &["schedule.kind=cosine", "objective.kind=cut", "schedule.cycles=2"]).resolved;
    let changes = since_start(&up_to_date(old, &registry()), &other);
    assert_eq!(changes.blocking, ["`schedule.cycles`: 1 -> 2"]);
    // What cannot be read is compared as it is.
    let foreign: toml::Table = toml::from_str("[model]\npath = 3\n").expect("TOML");
    assert_eq!(up_to_date(foreign.clone(), &registry()), foreign);
}

#[test]
fn a_base_that_moved_has_no_revision_of_its_old_place() {
    let mut recipe = good(LEAST, &["model.revision=v1"]);
    recipe.move_base("org/name").expect("the same base");
    let there = Backbone::Pretrained { path: "org/name".into(), revision: Some("v1".into()) };
    assert_eq!(recipe.model.backbone, there);
    recipe.move_base("folder").expect("another place");
    assert_eq!(recipe.model.backbone, Backbone::Pretrained { path: "folder".into(), revision: None });
    assert_eq!(recipe.resolved["model"]["path"].as_str(), Some("folder"));
    assert!(recipe.resolved["model"].get("revision").is_none());
}

#[test]
fn paths_are_told_apart_from_what_changes_steps() {
    let table = |text: &str| -> toml::Table { toml::from_str(text).expect("TOML") };
    let text =
        "[model]\npath = \"one\"\n[data]\ntrain = [\"a\"]\neval = [\"b\"]\n[[auxiliary]]\nencoder = \"a\"\nk = 4\n";
    let changes = |from: &str, to: &str| since_start(&table(text), &table(&text.replace(from, to)));
    let moved = changes("\"one\"", "\"two\"");
    assert_eq!((&moved.base[..], moved.blocking.len()), (&["`model.path`: \"one\" -> \"two\"".to_owned()][..], 0));
    assert_eq!(changes("\"one\"", "\"a/b\"\nrevision = \"main\"").base.len(), 2);
    assert_eq!(changes("encoder = \"a\"", "encoder = \"c\"").encoders, ["`auxiliary[0].encoder`: \"a\" -> \"c\""]);
    let rows = changes("train = [\"a\"]\neval = [\"b\"]", "train = [\"c\", \"d\"]\neval = [\"e\"]");
    assert_eq!((rows.rows.len(), rows.blocking.len()), (2, 0), "{rows:?}");
    // No path any more, or another setting beside one.
    assert_eq!(changes("path = \"one\"", "init = {}").blocking.len(), 2);
    assert_eq!(changes("k = 4", "k = 5").blocking.len(), 1);
}

#[test]
fn one_file_may_stand_without_brackets() {
    let text = "[model]\npath = \"m\"\n[data]\ntrain = \"dir/a.jsonl\"\neval = \"builtin:world-eval\"\n";
    let recipe = good(text, &[]);
    assert_eq!(recipe.data.train, [Entry::of("dir/a.jsonl")]);
    assert_eq!(recipe.data.eval, Held::Files(vec![Entry::of("builtin:world-eval")]));
    // In the resolved recipe it is a list, and a run that was started with one goes on with the other.
    assert_eq!(recipe.resolved, good(&text.replace("\"dir/a.jsonl\"", "[\"dir/a.jsonl\"]"), &[]).resolved);
    assert_eq!(good(text, &["data.train=b c.jsonl"]).data.train, [Entry::of("b c.jsonl")]);
    assert_eq!(good(text, &["data.train=[b.jsonl,c.jsonl]"]).data.train, [Entry::of("b.jsonl"), Entry::of("c.jsonl")]);
    assert!(good(text, &["data.eval="]).data.eval.is_empty(), "as if it were not written");
}

#[test]
fn an_entry_may_be_a_table_and_held_out_rows_a_part() {
    let tables = "[{path=\"a\",weight=2,limit=10,name=\"x\"},\"b\",{path=\"c\"}]";
    let recipe = good(LEAST, &[&format!("data.train={tables}"), "data.eval=0.05"]);
    let first = Entry { name: Some("x".into()), weight: 2.0, limit: Some(10), ..Entry::of("a") };
    assert_eq!(recipe.data.train, [first, Entry::of("b"), Entry::of("c")]);
    assert_eq!(recipe.data.eval, Held::Part(0.05));
    let again = good(&recipe.resolved_text(), &[]);
    assert_eq!((again.data.train, again.data.eval), (recipe.data.train, recipe.data.eval));
    for (set, expected) in [
        ("data.train=[{path=\"a\",wieght=2}]", "unknown key `wieght`: did you mean `weight`?"),
        ("data.train=[{path=\"a\"},{path=\"b\",weight=0}]", "`data.train[1]`: `weight` must be a number above 0"),
        ("data.train=[{path=\"a\",limit=-1}]", "`limit` must be a whole number above 0"),
        ("data.train=[{name=\"a\"}]", "`path` must be the name of a file"),
        ("data.train=[{path=\"a\",name=\"x\"},{path=\"b\",name=\"x\"}]", "two entries of the name `x`"),
        ("data.eval=[{path=\"a\",weight=2}]", "`weight` has no effect in `data.eval`"),
        ("data.eval=1.5", "`data.eval` = 1.5 must be a part of the training rows"),
        ("data.eval=0", "above 0 and below 1"),
    ] {
        let faults = faults_of(&[set]);
        assert!(faults.len() == 1 && faults[0].contains(expected), "{set} gave {faults:#?}");
    }
}

#[test]
fn an_auxiliary_loss_is_reached_by_its_number() {
    let text = format!("{LEAST}[[auxiliary]]\nkind = \"features\"\n");
    let weight = |recipe: &Recipe| recipe.resolved["auxiliary"][0]["weight"].as_float();
    assert_eq!(weight(&good(&text, &["auxiliary.0.weight=2"])), Some(2.0));
    assert_eq!(weight(&good(LEAST, &["auxiliary.0.kind=features"])), Some(1.0));
    assert!(good(&text, &["auxiliary="]).auxiliaries.is_empty());
    assert!(good(&text, &["auxiliary.0="]).auxiliaries.is_empty());
    let faults = read(&text, &["auxiliary.0.wight=2"]).err().expect("an unknown key").to_string();
    assert!(faults.contains("--set:1:13: unknown key `wight`") && faults.contains("`auxiliary.0.weight`?"), "{faults}");
}

/// The keys that somebody writes who comes from PEFT, TRL, Axolotl, Unsloth, LLaMA-Factory, torchtune or mlx-lm.
#[test]
fn keys_of_other_trainers_are_named_with_ours() {
    for (set, here) in [
        ("lora_r=8", "`adapter.rank`"),
        ("lora.r=8", "`adapter`: `[adapter]` with `rank = 16`"),
        ("adapter.lora_alpha=16", "`adapter.alpha`: the same number"),
        ("adapter.r=16", "`adapter.rank`"),
        ("adapter.scale=20", "`scale` times `adapter.rank`"),
        ("train.per_device_train_batch_size=4", "`train.micro_batch_size`"),
        ("train.gradient_accumulation_steps=4", "`per_device_train_batch_size` times `gradient_accumulation_steps`"),
        ("num_train_epochs=3", "`train.epochs`"),
        ("data.max_seq_length=512", "`data.max_length`"),
        ("base_model=org/name", "`model.path`"),
        ("model.load_in_4bit=true", "`model.quantize`: `\"nf4\"`"),
        ("schedule.warmup_ratio=0.1", "`schedule.warmup`: the same number"),
        ("lr_scheduler_type=cosine", "`schedule.kind`"),
        ("adapter.target_modules=all-linear", "`adapter.targets`"),
        ("optimizer.lr=1e-4", "`optimizer.learning_rate`"),
        ("train.learning_rate=1e-4", "did you mean `optimizer.learning_rate`?"),
        ("train.packing=true", "never packed"),
        ("optimizer=adamw_torch", "AdamW"),
        ("model=org/name", "`model.path`: `[model]` with `path"),
        ("data=rows.jsonl", "`data.train`"),
        ("Per-Device-Train-Batch-Size=3", "`train.micro_batch_size`"),
        ("train.report_to=wandb", "`metrics.jsonl`"),
    ] {
        let faults = faults_of(&[set]);
        assert!(faults.len() == 1 && faults[0].contains(here), "{set} gave {faults:#?} in place of one with {here}");
    }
}

#[test]
fn a_recipe_in_another_language_is_one_fault() {
    for (text, what) in [("lora_r: 8\nbase_model: m\n", "YAML"), ("{\"lora_r\": 8}", "JSON")] {
        let faults = read(text, &["seed=1"]).err().expect("no TOML");
        assert_eq!(faults.list().len(), 1);
        assert!(faults.to_string().contains(&format!("this is {what}, and a recipe is TOML")), "{faults}");
    }
}
