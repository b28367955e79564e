//! `check` and `recipes`: what a run will do, said before it is done.

use crate::support::Workplace;

/// What depends on the machine: memory that is free and time that a step takes.
fn portable(text: &str) -> String {
    text.lines()
        .map(|line| match line {
            line if line.starts_with("memory ") => "memory       (of this machine)\n".into(),
            line if line.starts_with("time ") => "time         (of this machine)\n".into(),
            line => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn a_plan_reads_as_it_should() {
    let place = Workplace::new();
    let plan = place.trainer("check recipe.toml").succeeds();
    assert_eq!(plan.stderr, "");
    insta::assert_snapshot!("plan", portable(&plan.stdout));
    assert!(!place.path("run").exists(), "`check` writes nothing");
}

#[test]
fn the_plan_as_json_has_the_numbers_of_the_text() {
    let place = Workplace::new();
    let json = place.trainer("check recipe.toml --json").succeeds().json();
    let text = place.trainer("check recipe.toml").succeeds().stdout;
    assert_eq!(json["model"]["layers"], 4);
    assert_eq!(json["steps"], 6);
    assert_eq!(json["steps_per_epoch"], 6);
    assert_eq!(json["data"]["train"]["rows"], 24);
    assert_eq!(json["data"]["eval"]["rows"], 8);
    for count in ["tokens", "learned_tokens", "longest", "shortest"] {
        let count = json["data"]["train"][count].as_u64().expect("a count");
        assert!(text.contains(&count.to_string()), "{count} is not in\n{text}");
    }
    // Rank 4 on seven projections of four layers: queries 128, keys 64, hidden 128, inner 384.
    let per_layer = 4 * ((128 + 128) + 2 * (128 + 64) + (128 + 128) + 3 * (128 + 384));
    assert_eq!(json["trained_parameters"], 4 * per_layer);
    assert!(text.contains(&format!("{:.1} k", 4.0 * f64::from(per_layer) / 1e3)), "{text}");
    let memory = &json["memory"];
    let bytes = |key: &str| memory[key].as_u64().expect("bytes");
    let parts = ["weights", "optimizer", "activations", "program"];
    assert_eq!(bytes("peak"), parts.into_iter().map(bytes).sum::<u64>());
    let example = &json["example"];
    assert_eq!(example["ids"].as_array().map(Vec::len), example["learned"].as_array().map(Vec::len));
    assert!(text.contains(example["text"].as_str().expect("a text")), "{text}");
}

/// The mask of the printed example is the one that is trained on: brackets around what is learned.
#[test]
fn the_example_shows_what_is_learned() {
    let place = Workplace::new();
    place.write("rows.jsonl", "{\"prompt\": \"a fox\\n\", \"completion\": \"is red\"}\n");
    let example = |set: &str| {
        let json = place.trainer(&format!("check recipe.toml --json {set}")).succeeds().json();
        let learned = json["example"]["learned"].as_array().expect("a mask").iter().filter(|l| **l == true).count();
        assert_eq!(json["data"]["train"]["learned_tokens"], learned);
        (json["example"]["text"].as_str().expect("a text").to_owned(), learned)
    };
    let (text, learned) = example("");
    let inside: String = text.split('[').skip(1).filter_map(|part| part.split(']').next()).collect();
    assert!(inside.starts_with("is red"), "{text}");
    assert_eq!(text.matches('[').count(), learned);
    assert!(!inside.contains("fox"), "{text}");
    let (all, learned_of_all) = example("--set data.train_on=all");
    assert!(learned_of_all > learned && all.contains('['), "{all}");
}

#[test]
fn the_recipes_inside_are_listed_copied_and_planned() {
    let place = Workplace::new();
    let list = place.trainer("recipes").succeeds().stdout;
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"nll") && names.contains(&"cdiv_alpha1.4"), "{list}");
    for name in names {
        assert_eq!(place.trainer(&format!("recipes cp {name}")).succeeds().stdout, format!("./{name}.toml\n"));
        let shipped = std::fs::read_to_string(format!("{}/recipes/{name}.toml", env!("CARGO_MANIFEST_DIR")));
        assert_eq!(place.text(&format!("{name}.toml")), shipped.expect("the recipe"));
        if place.text(&format!("{name}.toml")).contains("builtin:") {
            let plan = place.trainer(&format!("check {name}.toml --json")).succeeds().json();
            assert!(plan["steps"].as_u64().expect("steps") > 0, "{name}");
            assert_eq!(plan["warnings"], serde_json::json!([]), "{name}");
        }
        place.refuses(&format!("recipes cp {name}"), &["the file is there already", "hint: "]);
    }
    place.refuses("recipes cp nlll", &["no recipe is named `nlll`", "did you mean `nll`?"]);
}

#[test]
fn a_setting_without_effect_is_warned_of() {
    let place = Workplace::new();
    let plan = place.trainer("check recipe.toml --set checkpoint.every=9").succeeds();
    plan.says(&["`checkpoint.every` = 9 has no effect", "step 6"]);
}
