//! Recipes that cannot be meant: each fault with its place and a hint, all of them at once, and nothing written.

use crate::support::Workplace;

/// Refused by `run` and `check` alike.
fn refused(place: &Workplace, arguments: &str, expected: &[&str]) {
    for command in ["run", "check", "check --json"] {
        place.refuses(&format!("{command} {arguments}"), expected);
    }
}

/// The recipe with `from` replaced, as `bad.toml`.
fn with(place: &Workplace, from: &str, to: &str) {
    let recipe = place.text("recipe.toml");
    assert!(recipe.contains(from), "{from:?} is not in the recipe");
    place.write("bad.toml", recipe.replacen(from, to, 1));
}

#[test]
fn a_fault_in_the_file_has_line_column_and_hint() {
    let place = Workplace::new();
    let cases: [(&str, &str, &[&str]); 16] = [
        ("rank = 4", "rnak = 4", &["bad.toml:5:1", "`rnak` in `[adapter]`", "did you mean `adapter.rank`?"]),
        ("[adapter]", "[adaptor]", &["bad.toml:4:", "adaptor", "adapter"]),
        ("rank = 4", "rank = \"four\"", &["bad.toml:5:8", "`adapter.rank`"]),
        ("rank = 4", "rank = 0", &["bad.toml:5:8", "`adapter.rank`"]),
        ("rank = 4", "rank = -4", &["bad.toml:5:8", "`adapter.rank`"]),
        ("rank = 4", "rank = 4.5", &["bad.toml:5:8", "`adapter.rank`"]),
        ("alpha = 8", "alpha = nan", &["bad.toml:6:9", "`adapter.alpha`"]),
        ("alpha = 8", "alpha = -8", &["bad.toml:6:9", "`adapter.alpha`"]),
        ("batch_size = 4", "batch_size = 0", &["bad.toml:14:14", "`train.batch_size`"]),
        ("learning_rate = 5e-3", "learning_rate = -1", &["bad.toml:11:17", "`optimizer.learning_rate`", "hint: "]),
        ("learning_rate = 5e-3", "learning_rate = nan", &["bad.toml:11:17", "`optimizer.learning_rate`", "hint: "]),
        ("learning_rate = 5e-3", "learning_rate = inf", &["bad.toml:11:17", "`optimizer.learning_rate`", "hint: "]),
        ("steps = 6", "steps = 99999999999999999999", &["bad.toml:13:"]),
        ("steps = 6", "steps = 6\nepochs = 1", &["`train.epochs` and `train.steps` exclude each other", "hint: "]),
        ("every = 2", "every = 2\nevery = 3", &["bad.toml:17:1", "every"]),
        ("train = [\"rows.jsonl\"]", "train = [", &["bad.toml:"]),
    ];
    for (from, to, expected) in cases {
        with(&place, from, to);
        refused(&place, "bad.toml", expected);
    }
}

#[test]
fn impossible_values_on_the_command_line_are_named() {
    let place = Workplace::new();
    let cases: [(&str, &[&str]); 42] = [
        ("adapter.dropout=1.0", &["`adapter.dropout`", "hint: "]),
        ("adapter.dropout=-0.1", &["`adapter.dropout`", "hint: "]),
        ("adapter.rank=65537", &["`adapter.rank` cannot be 65537", "hint: "]),
        ("adapter.rank=9223372036854775807", &["`adapter.rank` cannot be", "hint: "]),
        ("adapter.rank_pattern={q_proj=9223372036854775807}", &["`adapter.rank_pattern.q_proj`", "from 1 to 65536"]),
        ("adapter.rank_pattern={k_proj=4,q_proj=0}", &["`adapter.rank_pattern.q_proj` cannot be 0", "--set:1:41"]),
        ("adapter.rank_pattern={q_proj=\"four\"}", &["`adapter.rank_pattern.q_proj` must be a whole number", "found"]),
        (
            "adapter.rank_pattern={layers.0.mlp.up_proj=2}",
            &["`adapter.rank_pattern.layers` is a table", "a name with dots needs quotes"],
        ),
        ("adapter.rank_pattern=4", &["`adapter.rank_pattern` must be a table", "found"]),
        ("adapter.alpha_pattern={q_proj=1e-50}", &["`adapter.alpha_pattern.q_proj`", "f32"]),
        ("adapter.alpha_pattern={q_proj=1e39}", &["`adapter.alpha_pattern.q_proj`", "up to 1e6"]),
        ("adapter.alpha_pattern={q_proj=-1}", &["`adapter.alpha_pattern.q_proj` cannot be -1", "hint: "]),
        ("adapter.kind=lorra", &["`adapter.kind`", "lora"]),
        ("adapter.targets=[]", &["`adapter.targets`", "hint: "]),
        ("adapter.targets=all_linear", &["`adapter.targets`", "all-linear"]),
        ("data.max_length=1", &["`data.max_length`", "hint: "]),
        ("data.too_long=shorten", &["`data.too_long`"]),
        ("data.format=csv", &["`data.format`"]),
        ("data.train=[]", &["`data.train`", "hint: "]),
        ("data.train=3", &["`data.train`", "a file or a list of files"]),
        ("data.train_on=asistant", &["`data.train_on`", "did you mean \"assistant\"?"]),
        ("objective.kind=cdif", &["`objective.kind`", "did you mean \"cdiv\"?"]),
        ("objective.alpha=1.4", &["alpha", "objective `cdiv`"]),
        ("objective={kind=\"cdiv\",drop=0.4}", &["drop", "objective `trunc_r`"]),
        ("objective={kind=\"cdiv\",alpha=nan}", &["`objective.alpha`"]),
        ("objective={kind=\"trunc_r\",drop=1.5}", &["`objective.drop`", "hint: "]),
        ("auxiliary=[{kind=\"mpt\"}]", &["auxiliary", "did you mean \"mtp\"?"]),
        ("auxiliary=[{kind=\"mtp\"},{kind=\"mtp\"}]", &["named twice", "hint: "]),
        ("auxiliary=[{kind=\"mtp\",heads=0}]", &["heads", "hint: "]),
        ("optimizer.betas=[0.9]", &["`optimizer.betas`", "hint: "]),
        ("optimizer.eps=0", &["`optimizer.eps`", "hint: "]),
        ("optimizer.weight_decay=-1", &["`optimizer.weight_decay`", "hint: "]),
        ("optimizer.clip_norm=-1", &["`optimizer.clip_norm`", "hint: "]),
        ("schedule.warmup=6", &["`schedule.warmup`", "hint: "]),
        ("schedule.min_rate=0.1", &["unknown key `min_rate`", "a `schedule.kind` that falls"]),
        (
            "schedule={kind=\"linear\",min_rate=1e-5,cycles=2}",
            &["unknown key `cycles`", "`schedule.kind = \"cosine\"`"],
        ),
        ("schedule={kind=\"cosine\",min_rate=1.0}", &["`schedule.min_rate` = 1", "to below 1"]),
        ("schedule={kind=\"cosine\",decay=2}", &["unknown key `decay`", "`schedule.kind = \"wsd\"`"]),
        ("schedule={kind=\"wsd\",decay=0.0}", &["`schedule.decay` cannot be 0"]),
        (
            "schedule={kind=\"wsd\",decay=4,warmup=3}",
            &["3 steps of warm-up and 4 of `schedule.decay` are more than the run's 6"],
        ),
        ("train.micro_batch_size=5", &["`train.micro_batch_size`", "hint: "]),
        ("checkpoint.keep=0", &["`checkpoint.keep`"]),
    ];
    for (set, expected) in cases {
        place.refuses(&format!("run recipe.toml --set {set}"), expected);
    }
}

#[test]
fn an_override_that_is_none_is_refused() {
    let place = Workplace::new();
    let cases: [(&str, &[&str]); 5] = [
        ("nonsense", &["nonsense", "hint: "]),
        ("=3", &["hint: "]),
        ("adapter.rnak=3", &["rnak", "did you mean `adapter.rank`?"]),
        ("adapter.rnak=", &["rnak", "did you mean `adapter.rank`?"]),
        ("adapter..rank=3", &["rank"]),
    ];
    for (set, expected) in cases {
        refused(&place, &format!("recipe.toml --set {set}"), expected);
    }
}

#[test]
fn every_fault_is_named_at_once() {
    let place = Workplace::new();
    with(&place, "rank = 4\nalpha = 8", "rnak = 4\nalpha = -8");
    let arguments = "run bad.toml --set train.micro_batch_size=9 --set objective.alpha=2 --set checkpoint.keep=0";
    let named = ["`rnak`", "`adapter.alpha`", "`train.micro_batch_size`", "alpha", "`checkpoint.keep`"];
    let ended = place.refuses(arguments, &named);
    assert_eq!(ended.stderr.matches("error: ").count(), named.len(), "{}", ended.stderr);
}

#[test]
fn a_recipe_that_cannot_be_read_is_refused() {
    let place = Workplace::new();
    refused(&place, "nowhere.toml", &["nowhere.toml", "hint: ", "trainer recipes"]);
    refused(&place, "nll.toml", &["nll.toml", "trainer recipes cp nll"]);
    place.write("folder/file", "");
    refused(&place, "folder", &["folder"]);
    place.write("bad.toml", [0xff, 0xfe, 0x00, 0x41]);
    refused(&place, "bad.toml", &["bad.toml"]);
    place.write("bad.toml", "");
    refused(&place, "bad.toml", &["`model.path`", "`data.train`", "hint: "]);
    place.write("bad.toml", "model = 3\ndata = []\n");
    refused(&place, "bad.toml", &["bad.toml:1:", "bad.toml:2:"]);
    let other = "base_model: builtin:tiny\nlora_r: 8\ndatasets:\n  - path: rows.jsonl\n";
    place.write("axolotl.yaml", other);
    refused(
        &place,
        "axolotl.yaml",
        &["this is YAML", "`lora_r` is `adapter.rank` here", "`trainer init axolotl.yaml` writes the recipe of it"],
    );
    place.write("bad.toml", "{\"lora_r\": 8}");
    refused(&place, "bad.toml", &["this is JSON", "`lora_r` is `adapter.rank` here"]);
    refused(&place, "rows.jsonl", &["these are rows"]);
    place.write("bad.toml", "[".repeat(100_000));
    refused(&place, "bad.toml", &["bad.toml:"]);
}

#[test]
fn a_gpu_that_this_program_was_not_built_for_is_refused() {
    if cfg!(feature = "cuda-untuned") {
        return;
    }
    let place = Workplace::new();
    for device in ["cuda", "cuda:7"] {
        refused(&place, &format!("recipe.toml --set model.device={device}"), &["built without CUDA", "hint: "]);
    }
    refused(&place, "recipe.toml --set model.device=gpu", &["`model.device`", "cuda:N"]);
}

/// Lists are reached by number, a string is a list of one, and what is unset is as if it were not written.
#[test]
fn overrides_reach_lists_and_take_keys_away() {
    let place = Workplace::new();
    let resolved =
        |set: &str| place.trainer(&format!("check recipe.toml --json {set}")).succeeds().json()["recipe"].clone();
    let plain = resolved("");
    assert_eq!(resolved("--set data.train=rows.jsonl"), plain);
    assert_eq!(resolved("--set adapter.rank=")["adapter"]["rank"], 16);
    assert_eq!(resolved("--set auxiliary.0.kind=mtp --set auxiliary.0.heads=2")["auxiliary"][0]["heads"], 2);
    let gone = resolved("--set auxiliary.0.kind=mtp --set auxiliary.0.heads=2 --set auxiliary=");
    assert_eq!(gone, plain);
    place.refuses("check recipe.toml --set auxiliary.1.kind=mtp", &["auxiliary", "hint: "]);
    place.refuses("check recipe.toml --set learning_rate=3", &["did you mean `optimizer.learning_rate`?"]);
    place.refuses("check recipe.toml --set per_device_train_batch_size=3", &["`train.micro_batch_size`"]);
}

/// No step, no checkpoint, and a run that begins in the same folder when it is made longer.
#[test]
fn no_steps_evaluate_and_a_longer_run_begins_there() {
    let place = Workplace::new();
    let run = |set: &str| format!("run recipe.toml --set schedule.warmup=2 --set {set}");
    place.trainer(&run("train.steps=0")).succeeds().says(&["evaluated, nothing trained, nll "]);
    let metrics = place.metrics("run");
    assert_eq!((metrics.len(), &metrics[0]["split"], &metrics[0]["step"]), (1, &"eval".into(), &0.into()));
    assert!(!place.path("run/checkpoints/latest").exists());
    place.refuses(&run("train.steps=4"), &["the output directory is not empty"]);
    place.trainer(&run("train.steps=0 --resume")).succeeds().says(&["the run is done already"]);
    let other = run("train.steps=4 --set adapter.rank=2 --resume");
    place.refuses(&other, &["this is not the run that was started", "`adapter.rank`"]);
    place.trainer(&run("train.steps=4 --resume")).succeeds();
    place.trainer(&run("train.steps=4 --set output.dir=whole")).succeeds();
    assert_eq!(place.timeless("run"), place.timeless("whole"));
    place.refuses(&run("train.steps=0 --set data.eval="), &["`train.steps` = 0 evaluates only"]);
}
