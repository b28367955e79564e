//! `check` and `recipes`: what a run will do, said before it is done.

use serde_json::json;

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
    // The parts that are printed add up to what is printed as their sum.
    let memory = text.lines().find_map(|line| line.strip_prefix("memory ")).expect("a line on memory");
    let sizes = memory.split(" MiB").map_while(|before| before.rsplit(' ').next()?.parse::<f64>().ok());
    let sizes: Vec<f64> = sizes.take(5).collect();
    assert_eq!(sizes.len(), 5, "{memory}");
    assert!((sizes[0] - sizes[1..].iter().sum::<f64>()).abs() < 1e-9, "{memory}");
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
    // Each under the title of its group.
    let names = list.lines().filter(|line| line.starts_with("  ")).filter_map(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.collect();
    assert!(names.contains(&"nll") && names.contains(&"paper_cdiv"), "{list}");
    let titles: Vec<&str> = list.lines().filter(|line| line.ends_with(':')).collect();
    assert_eq!(titles.len(), 2, "{list}");
    for name in names {
        assert_eq!(place.trainer(&format!("recipes cp {name}")).succeeds().stdout, format!("./{name}.toml\n"));
        let shipped = std::fs::read_to_string(format!("{}/recipes/{name}.toml", env!("CARGO_MANIFEST_DIR")));
        assert_eq!(place.text(&format!("{name}.toml")), shipped.expect("the recipe"));
        let set =
            if shipped_inside(&place.text(&format!("{name}.toml"))) { String::new() } else { stand_in(&place, name) };
        let plan = place.trainer(&format!("check {name}.toml --json {set}")).succeeds().json();
        assert!(plan["steps"].as_u64().expect("steps") > 0, "{name}");
        assert_eq!(plan["warnings"], serde_json::json!([]), "{name}");
        place.refuses(&format!("recipes cp {name}"), &["the file is there already", "hint: "]);
    }
    place.refuses("recipes cp nlll", &["no recipe is named `nlll`", "did you mean `nll`?"]);
}

fn shipped_inside(recipe: &str) -> bool {
    recipe.contains("train = [\"builtin:")
}

/// Puts rows where a recipe for a real model looks for them, of the columns that it names, and gives the overrides that
/// put the embedded model in place of its own.
fn stand_in(place: &Workplace, name: &str) -> String {
    let recipe: toml::Table = place.text(&format!("{name}.toml")).parse().expect("a recipe");
    let data = recipe["data"].as_table().expect("a table");
    let row = match recipe["objective"]["kind"].as_str().expect("a kind") {
        "diffuse" => json!({"prompt": "A number:", "targets": ["{1}", "{2}"]}),
        "intent" => json!({"prompt": "The fox", "intent": "red", "response": "is red."}),
        _ => {
            let columns = data["rename"].as_table().expect("a table");
            let column = |key: &str| {
                let renamed = columns.iter().find(|(_, to)| to.as_str() == Some(key));
                renamed.map_or(key.to_owned(), |(from, _)| from.clone())
            };
            json!({column("prompt"): "The fox\n", column("completion"): "is red."})
        }
    };
    let paths = ["train", "eval"].into_iter().filter_map(|key| data.get(key)?.as_array()).flatten();
    for path in paths {
        place.write(
            path.as_str().expect("a path"),
            format!("{row}\n").repeat(if row.get("targets").is_some() { 1 } else { 40 }),
        );
    }
    let mut set = "--set model.path=builtin:tiny --set model.dtype=f32".to_owned();
    if data.contains_key("max_length") {
        set += " --set data.max_length=64";
    }
    if name == "sfr_gsm8k" {
        set += " --set auxiliary=[{kind=\"sfr\",encoder=\"builtin:words\"}]";
    }
    set
}

#[test]
fn a_setting_without_effect_is_warned_of() {
    let place = Workplace::new();
    let plan = place.trainer("check recipe.toml --set checkpoint.every=9").succeeds();
    plan.says(&["`checkpoint.every` = 9 has no effect", "step 6"]);
}
