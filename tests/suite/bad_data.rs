//! Rows that cannot be learned from: each with its file and line, and nothing written.

use crate::support::Workplace;

const GOOD: &str = "{\"prompt\": \"a fox\\n\", \"completion\": \"is red\"}\n";

fn refused(place: &Workplace, content: impl AsRef<[u8]>, expected: &[&str]) {
    place.write("bad.jsonl", content);
    for command in ["run", "check"] {
        place.refuses(&format!("{command} recipe.toml --set data.train=[\"bad.jsonl\"]"), expected);
        place.refuses(&format!("{command} recipe.toml --set data.eval=[\"bad.jsonl\"]"), expected);
    }
}

#[test]
fn a_bad_row_is_named_by_its_line() {
    let place = Workplace::new();
    let cases: [(&str, &[&str]); 9] = [
        ("{\"prompt\": \"a\", \"completion\": }\n", &["bad.jsonl:3"]),
        ("{\"prompt\": \"a\", \"completion\": \"b\"\n", &["bad.jsonl:3"]),
        ("[1, 2]\n", &["bad.jsonl:3"]),
        ("\"text\"\n", &["bad.jsonl:3"]),
        ("{\"prompt\": \"a\"}\n", &["bad.jsonl:3", "completion"]),
        ("{\"prompt\": \"a\", \"completion\": \"\"}\n", &["bad.jsonl:3", "completion"]),
        ("{\"prompt\": \"a\", \"completion\": 5}\n", &["bad.jsonl:3", "completion"]),
        ("{\"prompt\": \"a\", \"completion\": null}\n", &["bad.jsonl:3", "completion"]),
        ("{\"prompt\": \"a\", \"completion\": \"\\ud800\"}\n", &["bad.jsonl:3"]),
    ];
    for (row, expected) in cases {
        refused(&place, format!("{GOOD}{GOOD}{row}{GOOD}"), expected);
    }
}

#[test]
fn every_bad_row_is_named_at_once() {
    let place = Workplace::new();
    let bad = "{\"prompt\": \"a\", \"completion\": \"\"}\n";
    refused(
        &place,
        format!("{GOOD}{bad}{GOOD}not JSON\n{bad}"),
        &["bad.jsonl:2", "(2 rows: lines 2, 5)", "bad.jsonl:4"],
    );
    refused(&place, bad.repeat(30), &["bad.jsonl:1", "(30 rows: lines 1, 2,", "19, 20 and 10 more)"]);
}

#[test]
fn a_file_that_holds_no_rows_is_refused() {
    let place = Workplace::new();
    refused(&place, "", &["bad.jsonl", "no rows"]);
    refused(&place, "\n\n  \n", &["bad.jsonl", "no rows"]);
    let binary: Vec<u8> = (0..40_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    refused(&place, binary, &["bad.jsonl"]);
    refused(&place, b"{\"prompt\": \"\xff\xfe\", \"completion\": \"b\"}\n", &["bad.jsonl:1"]);
    refused(&place, "the prompt,completion\na,b\n", &["bad.jsonl", "it seems a table", "give it the ending `.csv`"]);
    refused(&place, "prompt,completion\na,\n", &["bad.jsonl:2", "`completion` is empty"]);
    refused(&place, "{\"question\": \"a\", \"reply\": \"b\"}\n", &["bad.jsonl", "question", "hint: "]);
    refused(&place, "[".repeat(200_000), &["bad.jsonl"]);
}

#[test]
fn a_path_that_is_no_file_of_rows_is_refused() {
    let place = Workplace::new();
    place.write("folder/notes.md", GOOD);
    let cases: [(&str, &[&str]); 7] = [
        ("data.train=[\"none*.jsonl\"]", &["none*.jsonl", "no file matches the pattern"]),
        ("data.train=-  --set data.eval=-", &["`-` stands for stdin, which can be read once"]),
        ("data.train=[\"nowhere.jsonl\"]", &["nowhere.jsonl"]),
        ("data.eval=[\"nowhere.jsonl\"]", &["nowhere.jsonl"]),
        ("data.train=[\"folder\"]", &["folder", "no file of rows"]),
        ("data.train=[\"builtin:world-trian\"]", &["builtin:world-trian", "did you mean `builtin:world-train`?"]),
        ("data.train=[\"\"]", &["error: "]),
    ];
    for (set, expected) in cases {
        place.refuses(&format!("run recipe.toml --set {set}"), expected);
    }
    let both = "run recipe.toml --set data.train=[\"no.jsonl\"] --set data.eval=[\"none.jsonl\"]";
    place.refuses(both, &["no.jsonl", "none.jsonl"]);
}

#[test]
fn a_row_that_is_too_long_stops_is_left_out_or_is_cut_as_the_recipe_says() {
    let place = Workplace::new();
    let long = format!("{{\"prompt\": \"a fox\\n\", \"completion\": \"{}\"}}\n", "word ".repeat(400));
    place.write("long.jsonl", format!("{GOOD}{long}{GOOD}"));
    let recipe = "recipe.toml --set data.train=[\"long.jsonl\"]";
    let ended = place.refuses(&format!("run {recipe}"), &["long.jsonl:2", "the model's 256 positions", "too_long"]);
    assert!(!ended.stderr.contains("raise `data.max_length`"), "it cannot be raised: {}", ended.stderr);
    let chosen = format!("run {recipe} --set data.max_length=200");
    place.refuses(&chosen, &["long.jsonl:2", "more than 200", "hint: raise `data.max_length`"]);
    let report = |set: &str| place.trainer(&format!("check --json {recipe} {set}")).succeeds().json();
    let dropped = report("--set data.too_long=drop");
    assert_eq!(dropped["data"]["train"]["examples"], 2);
    assert_eq!(dropped["data"]["train"]["dropped"][0]["line"], 2);
    let cut = report("--set data.too_long=truncate");
    assert_eq!((&cut["data"]["train"]["examples"], &cut["data"]["train"]["truncated"]), (&3.into(), &1.into()));
    assert_eq!(cut["data"]["train"]["longest"], 256);
    place.refuses(&format!("run {recipe} --set data.max_length=257"), &["256 positions", "hint: "]);
    place.write("long.jsonl", long);
    place.refuses(&format!("run {recipe} --set data.too_long=drop"), &["no example is left", "long.jsonl:1"]);
    let cut = format!("run {recipe} --set data.too_long=truncate");
    place.refuses(&cut, &["long.jsonl", "where to stop", "hint: every row is cut off before its end: use"]);
    place.refuses(&format!("{cut} --set data.max_length=99"), &["where to stop", "raise `data.max_length`"]);
}

#[test]
fn columns_under_other_names_are_renamed_or_named() {
    let place = Workplace::new();
    place.write("odd.jsonl", "{\"question\": \"a fox\\n\", \"reply\": \"is red\"}\n");
    let recipe = "recipe.toml --set data.train=[\"odd.jsonl\"] --set data.eval=[\"odd.jsonl\"]";
    let rename = "--set data.rename={question=\"prompt\",reply=\"completion\"}";
    place.trainer(&format!("check {recipe} {rename}")).succeeds();
    let cases: [(&str, &[&str]); 3] = [
        ("{question=\"promt\",reply=\"completion\"}", &["promt", "did you mean `prompt`?"]),
        ("{qestion=\"prompt\",reply=\"completion\"}", &["qestion", "did you mean `question`?"]),
        ("{question=\"prompt\",reply=\"prompt\"}", &["`data.rename`", "hint: "]),
    ];
    for (rename, expected) in cases {
        place.refuses(&format!("run {recipe} --set data.rename={rename}"), expected);
    }
}
