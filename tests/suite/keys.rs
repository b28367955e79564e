//! A key that is accepted must change the plan: each is given another value here, and the plan, the steps or the files
//! of the run must differ for it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use trainer::recipe::parse;

use crate::support::Workplace;

/// A base that every key of the list has an effect on, and for each key another value.
const ALTERNATIVES: [(&str, &str); 48] = [
    ("seed", "seed=4"),
    ("model.path", "model.path=model"),
    ("model.dtype", "model.dtype=bf16"),
    ("model.quantize", "model.quantize=int8"),
    ("adapter.rank", "adapter.rank=5"),
    ("adapter.alpha", "adapter.alpha=9"),
    ("adapter.dropout", "adapter.dropout=0.2"),
    ("adapter.targets", "adapter.targets=[\"q_proj\"]"),
    ("adapter.exclude", "adapter.exclude=[\"up_proj\"]"),
    ("adapter.layers", "adapter.layers=[0,-1]"),
    ("adapter.rslora", "adapter.rslora=true"),
    ("adapter.rank_pattern", "adapter.rank_pattern={\"0.self_attn.q_proj\"=2}"),
    ("adapter.alpha_pattern", "adapter.alpha_pattern={q_proj=2}"),
    ("adapter.init", "adapter.init=pissa"),
    ("adapter.lora_plus_ratio", "adapter.lora_plus_ratio=4"),
    ("data.train", "data.train=[\"held_out.jsonl\"]"),
    ("data.eval", "data.eval=[\"rows.jsonl\"]"),
    ("data.format", "data.format=text"),
    ("data.train_on", "data.train_on=all"),
    ("data.max_length", "data.max_length=34"),
    ("data.too_long", "data.too_long=drop"),
    ("data.shuffle", "data.shuffle=false"),
    ("data.rename", "data.rename={text=\"completion\"}"),
    ("data.ignore", "data.ignore=[\"text\"]"),
    (
        "data.chat",
        "data.format=auto --set data.max_length=60 --set data.chat={user=\"prompt\",assistant=\"completion\"}",
    ),
    ("objective.kind", "objective.kind=cdiv"),
    ("objective.warm_start", "objective={kind=\"cdiv\",warm_start=2}"),
    ("objective.label_smoothing", "objective.label_smoothing=0.1"),
    ("objective.entropy_bonus", "objective.entropy_bonus=0.1"),
    ("auxiliary", "auxiliary=[{kind=\"mtp\"}]"),
    ("optimizer.learning_rate", "optimizer.learning_rate=4e-3"),
    ("optimizer.betas", "optimizer.betas=[0.8,0.999]"),
    ("optimizer.eps", "optimizer.eps=1e-3"),
    ("optimizer.weight_decay", "optimizer.weight_decay=0.1"),
    ("optimizer.clip_norm", "optimizer.clip_norm=0.01"),
    ("schedule.kind", "schedule.kind=cosine"),
    ("schedule.warmup", "schedule.warmup=2"),
    ("schedule.min_rate", "schedule.kind=linear --set schedule.min_rate=0.5"),
    ("schedule.cycles", "schedule.kind=cosine --set schedule.cycles=2"),
    ("schedule.decay", "schedule.kind=wsd --set schedule.decay=2"),
    ("train.steps", "train.steps=2"),
    ("train.epochs", "train.epochs=1"),
    ("train.batch_size", "train.batch_size=3"),
    ("train.micro_batch_size", "train.micro_batch_size=3"),
    ("train.neftune_alpha", "train.neftune_alpha=5"),
    ("train.recompute", "train.recompute=blocks"),
    ("checkpoint.every", "checkpoint.every=2"),
    ("checkpoint.keep", "checkpoint.keep=1"),
];

const MORE: [(&str, &str); 12] = [
    ("adapter.kind", "adapter.kind=dora"),
    ("checkpoint.keep_best", "checkpoint.keep_best=false"),
    ("checkpoint.best_by", "checkpoint.best_by=distinct --set eval.prompts=[\"held_out.jsonl\"]"),
    ("checkpoint.patience", "checkpoint.patience=1 --set optimizer.learning_rate=0.05"),
    ("eval.every", "eval.every=2"),
    ("eval.prompts", "eval.prompts=[\"held_out.jsonl\"]"),
    ("eval.samples", "eval.prompts=[\"held_out.jsonl\"] --set eval.samples=2"),
    ("eval.temperature", "eval.prompts=[\"held_out.jsonl\"] --set eval.temperature=0"),
    ("eval.temperatures", "eval.prompts=[\"builtin:numbers\"] --set eval.temperatures=[0.5]"),
    ("eval.max_prompts", "eval.prompts=[\"builtin:numbers\"] --set eval.max_prompts=2"),
    ("eval.max_tokens", "eval.prompts=[\"held_out.jsonl\"] --set eval.max_tokens=2"),
    ("output.dir", "output.dir=other"),
];

/// Keys that exclude others, as recipes of their own.
const RECIPES: [(&str, &str); 4] = [
    ("adapter.kind", "full.toml"),
    ("adapter.init_from", "goes_on.toml"),
    ("model.quantize_embeddings", "quantised.toml"),
    ("model.quantize_rows", "fitted.toml"),
];

/// Keys with one possible value here: a single word, or what needs a GPU or the hub.
const SINGLE: [&str; 3] = ["optimizer.kind", "model.device", "model.revision"];

const BASE: &str = "--set checkpoint.every=1 --set data.max_length=30 --set data.too_long=truncate";

/// The plan and what the run leaves, less what every run has of its own: the recipe, times, and the state's copies.
fn traces(place: &Workplace, run: &str, recipe: &str, set: &str) -> (Value, Vec<Value>, Vec<String>, Vec<u8>) {
    let arguments = format!("{recipe} {BASE} --set output.dir={run} {set}");
    let mut plan = place.trainer(&format!("check {arguments} --json")).succeeds().json();
    let object = plan.as_object_mut().expect("an object");
    for key in ["recipe", "seconds", "fitting_seconds"] {
        object.remove(key).expect("a key of the plan");
    }
    // What a process holds when its plan is made is never quite the same.
    for key in ["available", "program", "loading", "peak"] {
        object["memory"].as_object_mut().expect("an object").remove(key).expect("a key of the memory");
    }
    place.trainer(&format!("run {arguments}")).succeeds();
    let run = if place.path(run).exists() { run } else { "other" };
    let files: Vec<String> = place.tree(run).keys().map(|path| path.display().to_string()).collect();
    let names: Vec<String> =
        files.iter().map(|path| if run == "other" { path.clone() } else { path.replacen(run, "", 1) }).collect();
    let latest = place.text(&format!("{run}/checkpoints/latest"));
    let weights = files.iter().find(|path| path.contains(&latest) && path.ends_with("model.safetensors"));
    (plan, place.timeless(run), names, place.read(weights.expect("weights")))
}

#[test]
fn every_key_of_a_recipe_changes_the_run() {
    let place = Workplace::with_model();
    let mut config = place.json("model/config.json");
    config["rms_norm_eps"] = 1e-2.into();
    place.write("model/config.json", config.to_string());
    place.trainer("run recipe.toml --set train.steps=1 --set adapter.rank=3 --set output.dir=first").succeeds();
    // A row of two shapes, so that the format has something to decide.
    for name in ["rows.jsonl", "held_out.jsonl"] {
        place.write(name, place.text(name).replace("\"}", "\", \"text\": \"a text of its own\"}"));
    }
    let shape = "[data]\nformat = \"prompt_completion\"";
    let recipe = place.text("recipe.toml").replace("[data]", shape).replace("steps = 6", "steps = 3");
    place.write("goes_on.toml", recipe.replace("rank = 4\nalpha = 8", "init_from = \"first/checkpoints/step-000001\""));
    let model = "[model]\nquantize = \"int8\"\nquantize_embeddings = false";
    place.write("quantised.toml", recipe.replace("[model]", model));
    place.write("fitted.toml", recipe.replace("[model]", "[model]\nquantize = \"nf4\"\nquantize_rows = 1"));
    place.write("full.toml", recipe.replace("rank = 4\nalpha = 8", "kind = \"none\""));
    place.write("recipe.toml", recipe);
    let base = traces(&place, "base", "recipe.toml", "");
    let sets = ALTERNATIVES.iter().chain(&MORE).map(|(key, set)| (*key, "recipe.toml", format!("--set {set}")));
    let recipes = RECIPES.iter().map(|(key, recipe)| (*key, *recipe, String::new()));
    let changed = sets.chain(recipes).enumerate().map(|(index, (key, recipe, set))| {
        let differs = traces(&place, &format!("run-{index}"), recipe, &set) != base;
        (key, differs)
    });
    let without: Vec<&str> = changed.filter(|(_, differs)| !differs).map(|(key, _)| key).collect();
    assert_eq!(without, Vec::<&str>::new(), "keys that are accepted and change nothing");
}

/// No key is missing from the lists above.
#[test]
fn every_key_that_is_read_is_listed() {
    let registry = trainer::losses::Registry::default();
    let mut read = BTreeSet::new();
    let texts = [
        "[model]\npath = \"a\"\nrevision = \"b\"\nquantize = \"nf4\"\n[data]\ntrain = [\"a\"]\neval = [\"a\"]\nmax_length = 9\n\
         rename = { a = \"text\" }\nignore = [\"b\"]\nchat = { user = \"a\", assistant = \"b\" }\n[train]\nsteps = 3\nneftune_alpha = 5\n[objective]\nwarm_start = 2\nlabel_smoothing = 0.1\nentropy_bonus = 0.1\n[[auxiliary]]\nkind = \"mtp\"\n\
         [adapter]\nlayers = [0]\nlora_plus_ratio = 4\nrank_pattern = { q_proj = 2 }\nalpha_pattern = { q_proj = 2 }\n[checkpoint]\nbest_by = \"nll\"\npatience = 2\n[eval]\nprompts = \"a\"\ntemperatures = [1]\nmax_prompts = 2\n\
         [schedule]\nkind = \"cosine\"\n",
        "[model]\npath = \"a\"\n[data]\ntrain = [\"a\"]\n[adapter]\ninit_from = \"a\"\n[schedule]\nkind = \"wsd\"\n",
    ];
    for text in texts {
        let recipe = parse("recipe.toml", text, &[], &registry).unwrap_or_else(|faults| panic!("{faults}"));
        for (table, value) in &recipe.resolved {
            match value {
                toml::Value::Table(keys) => read.extend(keys.keys().map(|key| format!("{table}.{key}"))),
                _ => drop(read.insert(table.clone())),
            }
        }
    }
    let listed: BTreeSet<String> = ALTERNATIVES
        .iter()
        .chain(&MORE)
        .chain(&RECIPES)
        .map(|(key, _)| *key)
        .chain(SINGLE)
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, read);
}

/// Every key of the lists of this file stands in the schema that editors take, those of a kind among the kind's own.
#[test]
fn every_key_is_in_the_schema() {
    let schema = Workplace::new().trainer("schema").succeeds().json();
    let of = |path: &str| path.split('.').fold(&schema, |table, key| &table["properties"][key]).clone();
    let keys = ALTERNATIVES.iter().chain(&MORE).chain(&RECIPES).map(|(key, _)| *key).chain(SINGLE);
    let missing: Vec<&str> = keys.filter(|key| of(key).is_null()).collect();
    assert_eq!(missing, Vec::<&str>::new());
    let own = |table: &Value, kind: &str| -> BTreeSet<String> {
        let rules = table["allOf"].as_array().expect("a rule for each kind");
        let rule = rules.iter().find(|rule| rule["if"]["properties"]["kind"]["const"] == kind).expect("of this kind");
        rule["then"]["properties"].as_object().expect("its keys").keys().cloned().collect()
    };
    for (table, kind, keys) in OBJECTIVES
        .iter()
        .map(|(kind, _, keys)| (of("objective"), kind, keys))
        .chain(AUXILIARIES.iter().map(|(kind, _, keys)| (of("auxiliary")["items"].clone(), kind, keys)))
    {
        let expected: BTreeSet<String> = names(keys).into_iter().map(str::to_owned).collect();
        assert_eq!(own(&table, kind), expected, "{kind}");
    }
}

/// The objectives with keys that make each other key count, and each of their keys with another value.
const OBJECTIVES: [(&str, &[&str], &[&str]); 19] = [
    ("nll", &[], &[]),
    ("cdiv", &[], &["alpha=0.5", "max_weight=1.1"]),
    ("trunc_r", &["drop=0.5", "buffer=20"], &["drop=0.3", "buffer=60", "recompute=3", "granularity=sequence"]),
    ("trunc", &["drop=0.5", "buffer=20"], &["drop=0.3", "buffer=60", "recompute=3", "granularity=sequence"]),
    ("lambda_pr", &["gamma=1e-2"], &["lambda=0.5", "gamma=1e-3"]),
    ("focal", &[], &["gamma=1.0", "full_gradient=true"]),
    ("gem", &[], &["beta=0.5"]),
    ("tofu", &[], &["gamma=1.0", "beta=0.5"]),
    ("gold", &[], &["floor=0.5"]),
    ("tailr", &["gamma=0.5"], &["gamma=0.1", "min_weight=0.99"]),
    ("mixce", &[], &["eta=0.2"]),
    ("dft", &[], &[]),
    ("deft", &[], &[]),
    ("eaft", &[], &["alpha=0.5"]),
    ("forking", &["share=0.5", "buffer=20"], &["share=0.3", "buffer=60", "recompute=3"]),
    ("proximal", &[], &["epsilon=1e-3"]),
    ("weighted", &[], &["column=other"]),
    ("diffuse", &[], &["early_stop=1e6"]),
    ("intent", &[], &[]),
];

/// The rows of an objective, where it needs rows of its own.
fn rows_of(place: &Workplace, kind: &str) -> Option<String> {
    let row = match kind {
        "diffuse" => json!({"prompt": "A number:", "targets": ["{1}", "{2}", "{30}"]}),
        "weighted" => json!({"prompt": "The fox", "completion": " is red.", "weight": 1, "other": 0.5}),
        "intent" => json!({"prompt": "The fox", "intent": "red", "response": "is red."}),
        _ => return None,
    };
    place.write(&format!("{kind}.jsonl"), format!("{row}\n"));
    Some(format!("data.train=[\"{kind}.jsonl\"]"))
}

/// The same of the auxiliary losses.
const AUXILIARIES: [(&str, &[&str], &[&str]); 2] = [
    ("mtp", &[], &["weight=0.5", "heads=2"]),
    (
        "sfr",
        &["encoder=\"builtin:words\"", "k=4", "stride=2", "min_suffix=2", "head_width=8"],
        &[
            concat!("encoder=\"", env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bert\""),
            "prefix=\"owl:\"",
            "weight=0.5",
            "k=3",
            "stride=1",
            "min_suffix=1",
            "mask_short=false",
            "flow=\"mse\"",
            "targets=\"other_rows\"",
            "head_width=9",
            "head_layers=4",
            "head_warmup=1",
            "lambda_warmup=2",
            "lambda_schedule=\"linear\"",
            "gradient_gate=true",
            "head_ema=0.5",
            "control=true",
        ],
    ),
];

fn names<'a>(keys: &[&'a str]) -> BTreeSet<&'a str> {
    keys.iter().filter_map(|key| key.split('=').next()).collect()
}

/// The metrics of three steps.
fn steps(place: &Workplace, run: &str, set: &[String]) -> Vec<Value> {
    let set: String = set.iter().map(|set| format!(" --set {set}")).collect();
    let shared = "--set train.steps=3 --set data.eval=[]";
    place.trainer(&format!("run recipe.toml {shared} --set output.dir={run}{set}")).succeeds();
    place.timeless(run)
}

#[test]
fn every_key_of_an_objective_changes_the_steps() {
    let place = Workplace::new();
    for listed in trainer::losses::Registry::default().objectives {
        let kind = listed.name;
        let (_, start, keys) = OBJECTIVES.iter().find(|(name, ..)| *name == kind).expect("a kind that is listed above");
        let mut probe = faults::Section::probe();
        (listed.build)(&mut probe);
        let asked: BTreeSet<&str> = probe.asked().iter().map(String::as_str).collect();
        assert_eq!(asked, names(keys), "{kind}");
        let mut set = vec![format!("objective.kind={kind}")];
        set.extend(rows_of(&place, kind));
        set.extend(start.iter().map(|key| format!("objective.{key}")));
        let base = steps(&place, kind, &set);
        for (index, key) in keys.iter().enumerate() {
            let with_key: Vec<String> = set.iter().cloned().chain([format!("objective.{key}")]).collect();
            assert_ne!(steps(&place, &format!("{kind}-{index}"), &with_key), base, "{kind}: {key} changes nothing");
        }
    }
}

#[test]
fn every_key_of_an_auxiliary_loss_changes_the_steps() {
    let place = Workplace::new();
    for listed in trainer::losses::Registry::default().auxiliaries {
        let kind = listed.name;
        let (_, start, keys) =
            AUXILIARIES.iter().find(|(name, ..)| *name == kind).expect("a kind that is listed above");
        let mut probe = faults::Section::probe();
        drop((listed.build)(&mut probe));
        let asked: BTreeSet<&str> = probe.asked().iter().map(String::as_str).collect();
        assert_eq!(asked, names(keys), "{kind}");
        let auxiliary = |key: Option<&str>| {
            let changed = names(key.as_slice());
            let kept = start.iter().copied().filter(|key| changed.is_disjoint(&names(&[key])));
            let written: String = kept.chain(key).map(|key| format!(",{key}")).collect();
            format!("auxiliary=[{{kind=\"{kind}\"{written}}}]")
        };
        let base = steps(&place, kind, &[auxiliary(None)]);
        for (index, key) in keys.iter().enumerate() {
            let set = [auxiliary(Some(key))];
            assert_ne!(steps(&place, &format!("{kind}-{index}"), &set), base, "{kind}: {key} changes nothing");
        }
    }
}
