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
    place.write("table.arrow", b"ARROW1\0\0");
    place.write("notes.txt", "once upon a time\n");
    for (name, expected) in [
        ("a.parquet", "the Parquet table cannot be read"),
        ("packed.jsonl.gz", "the gzip file is damaged"),
        ("table.arrow", "pandas.read_feather('table.arrow')"),
        ("notes.txt", "a plain text is no file of rows"),
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
    // Of the hub, and of a cache that has nothing.
    for name in ["openai/gsm8k", "openai/gsm8k/main:test", "hf://datasets/openai/gsm8k/main"] {
        place
            .refuses(&format!("check recipe.toml --set data.train=[\"{name}\"]"), &["the cache has no `openai/gsm8k`"]);
        place.refuses(&format!("eval builtin:tiny --data {name}"), &["the cache has no `openai/gsm8k`"]);
    }
    place.refuses("sample no/where --prompts openai/gsm8k", &["datasets.load_dataset('openai/gsm8k', split='train')"]);
    let refused = place.refuses("eval no/where --data none.jsonl", &["cannot open the data file", "none.jsonl"]);
    assert!(!refused.stderr.contains("no/where"), "{}", refused.stderr);
}

/// Of the numbers of a run all but times.
#[test]
fn a_run_is_the_same_whatever_form_its_rows_have() {
    let place = Workplace::new();
    let rows: Vec<Value> =
        place.text("rows.jsonl").lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    let cell = |row: &Value, key: &str| format!("\"{}\"", row[key].as_str().expect("a text").replace('"', "\"\""));
    let csv: String = rows.iter().map(|row| format!("{},{}\n", cell(row, "prompt"), cell(row, "completion"))).collect();
    place.write("table.csv", format!("prompt,completion\n{csv}"));
    place.write("list.json", serde_json::to_string(&rows).expect("JSON"));
    let half = |rows: &[Value]| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    place.write("folder/1.jsonl", half(&rows[..9]));
    place.write("folder/2.jsonl", half(&rows[9..]));
    place.trainer("run recipe.toml").succeeds();
    for (index, train) in ["table.csv", "list.json", "folder", "folder/*.jsonl"].into_iter().enumerate() {
        place.trainer(&format!("run recipe.toml --set data.train={train} --set output.dir=other-{index}")).succeeds();
        assert_eq!(place.timeless(&format!("other-{index}")), place.timeless("run"), "{train}");
    }
    place.shell("trainer run recipe.toml --set data.train=- --set output.dir=piped < rows.jsonl").succeeds();
    assert_eq!(place.timeless("piped"), place.timeless("run"));
}

#[test]
fn evaluations_tell_each_source_and_a_part_may_be_held_out() {
    let place = Workplace::new();
    let sources = "[{path=\"rows.jsonl\",name=\"seen\",limit=5},\"held_out.jsonl\"]";
    let ended = place.trainer(&format!("run recipe.toml --set data.eval={sources}")).succeeds();
    let line = place.metrics("run").into_iter().find(|line| line["split"] == "eval").expect("an evaluation");
    let (seen, held) = (&line["sources"]["seen"], &line["sources"]["held_out.jsonl"]);
    let (seen, held) = (seen.as_f64().expect("a number"), held.as_f64().expect("a number"));
    assert!(ended.stderr.contains(&format!("(seen {seen:.4}, held_out.jsonl {held:.4})")), "{}", ended.stderr);
    let nll = line["nll"].as_f64().expect("a number");
    assert!(seen.min(held) < nll && nll < seen.max(held), "{line}");
    // Each is the number of an evaluation of its own.
    place.trainer("run recipe.toml --set train.steps=0 --set output.dir=one").succeeds();
    let alone = &place.metrics("one")[0];
    assert!(
        (alone["nll"].as_f64().expect("a number") - held).abs() < 1e-6 && alone.get("sources").is_none(),
        "{alone}"
    );

    let plan = place.trainer("check recipe.toml --json --set data.eval=0.3").succeeds().json();
    let rows = |part: &str| plan["data"][part]["rows"].as_u64().expect("rows");
    assert_eq!(rows("train") + rows("eval"), 24);
    assert!((3..12).contains(&rows("eval")), "{plan}");
    let twice = "data.train=[{path=\"rows.jsonl\",weight=2,limit=10}]";
    let plan = place.trainer(&format!("check recipe.toml --json --set {twice}")).succeeds().json();
    assert_eq!((&plan["data"]["train"]["rows"], &plan["data"]["train"]["examples"]), (&10.into(), &20.into()));
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

    // As `eval` measures them, they are the same conversation; and what it says of columns is flags.
    let turns = json!({"messages": [{"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a fox"}, {"role": "assistant", "content": "is red"}]});
    place.write("turns.jsonl", lines(&[turns]));
    let of_columns = "--data asked.jsonl --chat-columns user=question,assistant=answer,system=rules";
    let [columns, messages] = [of_columns, "--data turns.jsonl"].map(|data| {
        let mut line = place.trainer(&format!("eval builtin:tiny {data}")).succeeds().lines().remove(0);
        line["file"].take();
        line
    });
    assert_eq!(columns, messages);
    let hint = "`--rename question=prompt --rename answer=completion`, or put them through the chat template with \
                `--chat-columns user=question,assistant=answer`";
    let told = place.refuses("eval builtin:tiny --data asked.jsonl", &["asked.jsonl:1", hint]);
    assert!(!told.stderr.contains("data."), "{}", told.stderr);
    for (given, word) in [("user=question", "assistant=COLUMN"), ("user=a,asistant=b", "there is no `asistant`")] {
        place.refuses(&format!("eval builtin:tiny --data asked.jsonl --chat-columns {given}"), &[word]);
    }
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
