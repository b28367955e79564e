//! `trainer chat` from a pipe, where it answers line by line. What a person at a terminal sees is looked at by hand.

use crate::support::Workplace;

/// A template that puts the roles before what is said.
const TEMPLATE: &str = "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}\
                        {% if turn.role == 'assistant' %}<|im_end|>{% endif %}\n{% endfor %}\
                        {% if add_generation_prompt %}assistant:{% endif %}";

fn place() -> Workplace {
    let place = Workplace::new();
    place.write("turns.jinja", TEMPLATE);
    place
}

const CHAT: &str = "trainer chat builtin:tiny --chat-template turns.jinja --max-tokens 8";

#[test]
fn lines_are_answered_as_sampling_answers_them() {
    let place = place();
    place.write("lines", "Tell me about a fox.\n/temperature 0\nTell me about an owl.\n");
    let told = place.shell(&format!("{CHAT} --temperature 0 < lines")).succeeds();
    let sampled = place.trainer_with(
        &[
            "sample",
            "builtin:tiny",
            "--chat",
            "--chat-template",
            "turns.jinja",
            "--max-tokens",
            "8",
            "--temperature",
            "0",
            "--format",
            "text",
            "--prompt",
            "Tell me about a fox.",
        ],
        &[],
    );
    let first = sampled.succeeds().stdout;
    assert!(told.stdout.starts_with(&first) && told.stdout.len() > first.len(), "{}\n{first}", told.stdout);
    assert!(!told.stdout.contains("> "), "nobody reads a prompt");
}

#[test]
fn commands_change_what_is_drawn_and_mistakes_are_told() {
    let place = place();
    place.write("lines", "/n 3\nhello\n/keep 2\n/save said.jsonl\n/temprature 1\n/settings\n/quit\nnever\n");
    let told = place.shell(&format!("{CHAT} < lines")).succeeds();
    for part in ["[1] ", "[2] ", "[3] ", "n 3, ", "2 turns are in said.jsonl"] {
        assert!(told.stdout.contains(part), "{part}\n{}", told.stdout);
    }
    assert!(told.stderr.contains("did you mean `/temperature`?"), "{}", told.stderr);
    let second = told.stdout.split("[2] ").nth(1).and_then(|rest| rest.split("\n[3] ").next()).expect("an answer");
    assert_eq!(place.json("said.jsonl")["messages"][1]["content"].as_str().map(str::trim), Some(second.trim()));
    // Ready to be learned from.
    place
        .trainer(
            "check recipe.toml --set data.train=said.jsonl --set data.eval=[] --set data.chat_template=turns.jinja",
        )
        .succeeds();
}

#[test]
fn a_base_without_turns_goes_on_with_each_text() {
    let place = Workplace::with_model();
    let mut settings = place.json("model/tokenizer_config.json");
    settings.as_object_mut().expect("an object").remove("chat_template").expect("a template");
    place.write("model/tokenizer_config.json", settings.to_string());
    place.write("lines", "Tell me about a fox.\\\n\nThe fox\n");
    let told = place.shell("trainer chat model --max-tokens 6 --temperature 0 < lines").succeeds();
    assert!(told.stderr.contains("has no chat template"), "{}", told.stderr);
    let sampled =
        place.trainer("sample model --escapes --prompt=The\\u0020fox --max-tokens 6 --temperature 0 --format text");
    assert!(told.stdout.ends_with(&sampled.succeeds().stdout), "{}", told.stdout);
}

#[test]
fn what_is_impossible_is_refused_before_a_model_is_loaded() {
    let place = place();
    place.trainer("chat none").fails(&["none"]);
    place.trainer("chat builtin:tiny --temperature -1").fails(&["--temperature", "a number, 0 or more"]);
    place.trainer("chat builtin:tiny --n 0").fails(&["--n", "from 1 to 32"]);
    place.trainer("chat builtin:tiny --intent poem").fails(&["--intent", "the templates are chat"]);
    // A message that leaves no room is told of, and the talk goes on.
    place.write("lines", format!("{}\nhello\n", "fox ".repeat(4000)));
    let told = place.shell(&format!("{CHAT} < lines")).succeeds();
    assert!(told.stderr.contains("`/clear` forgets all turns"), "{}", told.stderr);
    assert!(!told.stdout.is_empty());
}

#[test]
fn the_version_says_what_is_built_in() {
    let place = Workplace::new();
    let short = place.trainer("--version").succeeds().stdout;
    let long = place.trainer("--version --verbose").succeeds().stdout;
    assert!(long.starts_with(&short) && long.lines().count() == 5, "{long}");
    for part in ["features: ", "instruction set: ", "burn: 0."] {
        assert!(long.contains(part), "{long}");
    }
}
