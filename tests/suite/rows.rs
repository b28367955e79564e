//! Rows as people have them, through the program: what is not read is told of, what cannot be read is one clear line.

use serde_json::{Value, json};

use crate::support::Workplace;

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

#[test]
fn what_nothing_reads_is_told_by_every_command_that_reads_rows() {
    let place = Workplace::new();
    let rows = [
        json!({"prompt": "a fox\n", "completion": "is red", "id": 1}),
        json!({"prompt": "a fox\n", "completion": "is red"}),
    ];
    place.write("odd.jsonl", lines(&rows));
    let recipe = "recipe.toml --set data.train=[\"odd.jsonl\"] --set data.eval=[] --set train.steps=1";
    let told = "training rows: 1 of 2 rows have what nothing reads, first odd.jsonl:1: `id` in 1";
    place.trainer(&format!("check {recipe}")).succeeds().says(&["WARN", told]);
    place.trainer(&format!("run {recipe}")).succeeds().says(&["WARN", told]);
    let plan = place.trainer(&format!("check --json {recipe}")).succeeds().json();
    assert_eq!(plan["data"]["train"]["unread"], json!([{"name": "id", "rows": 1}]));
    let ignoring = place.trainer(&format!("check {recipe} --set data.ignore=[\"id\"]")).succeeds();
    assert!(!ignoring.stderr.contains("nothing reads"), "{}", ignoring.stderr);

    place.write("asked.jsonl", lines(&[json!({"messages": [{"role": "user", "content": "a fox", "mood": "good"}]})]));
    let sampled = place.trainer("sample builtin:tiny --prompts asked.jsonl --max-tokens 1").succeeds();
    sampled.says(&["1 of 1 rows have what nothing reads, first asked.jsonl:1: `messages[].mood` in 1"]);
    place.write("targets.jsonl", lines(&[json!({"prompt": "A fox:", "targets": ["{1}", "{2}"], "note": "x"})]));
    let measured = place.trainer("eval builtin:tiny --data targets.jsonl --n 0").succeeds();
    measured.says(&["1 of 1 rows have what nothing reads, first targets.jsonl:1: `note` in 1"]);
    place.write("samples.jsonl", lines(&[json!({"prompt": "a", "text": "b", "judge": "x"})]));
    place.trainer("eval --samples samples.jsonl").succeeds().says(&["first samples.jsonl:1: `judge` in 1"]);
}

#[test]
fn columns_with_a_meaning_stop_every_command() {
    let place = Workplace::new();
    let row = |key: &str, value: Value| {
        let mut row = json!({"prompt": "a fox\n", "completion": "is red"});
        row[key] = value;
        row
    };
    for (key, value) in [("weight", json!(0.5)), ("history", json!([["a", "b"]])), ("rejected", json!("x"))] {
        place.write("odd.jsonl", lines(&[row(key, value)]));
        for command in ["check", "run"] {
            let set = "recipe.toml --set data.train=[\"odd.jsonl\"]";
            place.refuses(
                &format!("{command} {set}"),
                &["odd.jsonl:1", &format!("nothing reads `{key}`"), "data.ignore"],
            );
        }
    }
    place.write("targets.jsonl", lines(&[json!({"prompt": "A fox:", "targets": ["{1}", "{2}"], "probs": [0.9, 0.1]})]));
    place.refuses("eval builtin:tiny --data targets.jsonl --n 0", &["targets.jsonl:1", "is it `weights`?"]);
    let renamed = place
        .trainer("eval builtin:tiny --data targets.jsonl --n 0 --rename probs=weights")
        .succeeds()
        .lines()
        .remove(0);
    // The entropy of 0.9 and 0.1: -0.9 ln 0.9 - 0.1 ln 0.1.
    assert!((renamed["floor"].as_f64().expect("a number") - 0.325_082_973_391_448_2).abs() < 1e-12, "{renamed}");
    place.write("asked.jsonl", lines(&[json!({"prompt": "a fox", "system": "Be brief."})]));
    place.refuses(
        "sample builtin:tiny --prompts asked.jsonl",
        &["asked.jsonl:1", "`system` stands beside a plain `prompt`"],
    );
}

/// A repository that there is not: were anything of the model looked for first, the fault would be another.
#[test]
fn files_of_other_kinds_are_told_before_the_model_is_looked_for() {
    let place = Workplace::new();
    place.write("a.parquet", b"PAR1\x15\x04");
    place.write("packed.jsonl.gz", b"\x1f\x8b\x08\0\0\0");
    place.write("table.csv", "prompt,completion\na,b\n");
    place.write("folder/rows.jsonl", "");
    for (name, expected) in [
        ("a.parquet", "a Parquet table is no file of rows in JSON"),
        ("packed.jsonl.gz", "unpack it first: gunzip -k packed.jsonl.gz"),
        ("table.csv", "pandas.read_csv('table.csv', dtype=str, keep_default_na=False)"),
        ("folder", "name each file in it, such as `folder/rows.jsonl`"),
        ("openai/gsm8k", "datasets.load_dataset('openai/gsm8k', split='train')"),
        ("hf://datasets/openai/gsm8k/main", "datasets.load_dataset('openai/gsm8k', split='train')"),
    ] {
        for command in [
            format!("check recipe.toml --set model.path=no/where --set data.train=[\"{name}\"]"),
            format!("eval no/where --data {name}"),
            format!("sample no/where --prompts {name}"),
            format!("eval --samples {name}"),
        ] {
            let refused = place.refuses(&command, &[expected]);
            assert_eq!(refused.stderr.matches("error: ").count(), 1, "{}", refused.stderr);
        }
    }
    for (set, expected) in [
        ("data.train=none.jsonl", "none.jsonl"),
        ("data.eval=none/there.jsonl", "none/there.jsonl"),
        ("data.train=builtin:numbes", "did you mean `builtin:numbers`?"),
        ("data.chat_template=none.jinja", "none.jinja"),
    ] {
        let refused = place.refuses(&format!("check recipe.toml --set model.path=no/where --set {set}"), &[expected]);
        assert_eq!(refused.stderr.matches("error: ").count(), 1, "{}", refused.stderr);
        assert!(!refused.stderr.contains("no/where"), "{}", refused.stderr);
    }
    let refused = place.refuses("eval no/where --data none.jsonl", &["cannot open the data file", "none.jsonl"]);
    assert!(!refused.stderr.contains("no/where"), "{}", refused.stderr);
}

#[test]
fn columns_go_through_the_chat_template_by_one_key() {
    let place = Workplace::new();
    place.write("asked.jsonl", lines(&[json!({"question": "a fox", "answer": "is red", "rules": "Be brief."})]));
    let chat = "data.chat={user=\"question\",assistant=\"answer\",system=\"rules\"}";
    let set = format!("check --json recipe.toml --set data.train=[\"asked.jsonl\"] --set data.eval=[] --set {chat}");
    let plan = place.trainer(&set).succeeds().json();
    assert_eq!(plan["data"]["train"]["files"][0]["format"], "chat");
    let text = plan["example"]["text"].as_str().expect("a text");
    for part in ["system", "Be", "brief", "user", "assistant"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let rename = "--chat --rename question=prompt --rename rules=system";
    let sampled =
        place.trainer(&format!("sample builtin:tiny --prompts asked.jsonl --max-tokens 1 {rename}")).succeeds().json();
    let turns = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a fox"}]);
    assert_eq!((&sampled["prompt"], &sampled["answer"]), (&turns, &json!("is red")));
    place.refuses("sample builtin:tiny --prompts asked.jsonl --rename question", &["COLUMN=KEY"]);
}

#[test]
fn a_name_of_data_ignore_that_neither_data_set_has_is_warned_of() {
    let place = Workplace::new();
    place.write("train.jsonl", lines(&[json!({"prompt": "a fox\n", "completion": "is red", "id": 1})]));
    place.write("eval.jsonl", lines(&[json!({"prompt": "a fox\n", "completion": "is red", "from": "x"})]));
    let set = "--set data.train=[\"train.jsonl\"] --set data.eval=[\"eval.jsonl\"] --set data.ignore=";
    let check = |names: &str| place.trainer(&format!("check recipe.toml {set}{names}")).succeeds();
    let told = "`data.ignore` names `sorce`, `ix`, which no row has";
    check("[\"id\",\"sorce\",\"from\",\"ix\"]").says(&["WARN", "--set:1:", told, "; hint: "]);
    let all = check("[\"id\",\"from\"]");
    assert!(!all.stderr.contains("data.ignore"), "{}", all.stderr);
}

/// From the row to the template, and with a prompt into its samples.
#[test]
fn whole_numbers_of_more_than_64_bits_stay_what_they_are() {
    let place = Workplace::new();
    let prompts = "{\"prompt\": \"a fox\", \"id\": 12345678901234567890123, \"at\": -0}\n";
    place.write("prompts.jsonl", prompts);
    let sampled = place.trainer("sample builtin:tiny --prompts prompts.jsonl --max-tokens 1").succeeds();
    assert!(sampled.stdout.starts_with("{\"id\":12345678901234567890123,\"at\":0,"), "{}", sampled.stdout);
    let long = "{\"limit\":340282366920938463463374607431768211456}";
    place
        .trainer_with(&["sample", "builtin:tiny", "--prompt", "fox", "--chat", "--template-arguments", long], &[])
        .fails(&["`limit` is `340282366920938463463374607431768211456`, a whole number", "--template-arguments"]);
}
