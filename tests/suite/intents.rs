//! Intents before responses from the recipe to the samples.

use serde_json::Value;

use crate::support::Workplace;

const INTENTS: &str = "recipe.toml --set data.train=[\"builtin:intent-train\"] --set data.eval=[] \
                       --set objective.kind=intent --set train.steps=40 --set optimizer.learning_rate=3e-3";

#[test]
fn a_run_on_intents_is_sampled_at_two_temperatures() {
    let place = Workplace::new();
    // The command it ends with samples as it trained.
    let ended = place.trainer(&format!("run {INTENTS} --set train.batch_size=8")).succeeds();
    let (_, next) = ended.stderr.split_once("next:\n").expect("commands to try");
    let (next, _) = next.split_once("trainer export").expect("the command after that");
    let next = next.trim();
    assert!(next.contains(" --intent chat ") && !next.contains("###"), "{next}");
    let tried = place.shell(&format!("{next} --intent-max-tokens 3 --response-max-tokens 3")).succeeds();
    assert_eq!(tried.stdout.lines().count(), 5);
    let steps = place.steps("run");
    let nll = |line: &Value| line["nll"].as_f64().expect("nll");
    assert!(nll(&steps[steps.len() - 1]) < nll(&steps[0]));
    place.write(
        "prompts.jsonl",
        "{\"prompt\": \"Tell me about a fox.\\n\"}\n{\"prompt\": \"Tell me about an owl.\\n\"}\n",
    );
    let sample =
        "sample run --prompts prompts.jsonl --intent chat --intent-max-tokens 12 --response-max-tokens 20 --n 3";
    let sampled = place.trainer(sample).succeeds();
    assert!(!sampled.stderr.contains("temperature"), "{}", sampled.stderr);
    let lines: Vec<Value> = sampled.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 6);
    for (index, line) in lines.iter().enumerate() {
        let prompt = if index < 3 { "Tell me about a fox.\n" } else { "Tell me about an owl.\n" };
        assert_eq!((line["prompt"].as_str(), line["sample"].as_u64()), (Some(prompt), Some(index as u64 % 3)));
        let text = line["text"].as_str().expect("a text");
        let intent = line["stages"][0]["intent"].as_str().expect("an intent");
        assert!(text.trim_start().starts_with(&format!("{intent} ###")), "{line}");
    }
    assert_eq!(place.trainer(sample).succeeds().stdout, sampled.stdout);
    // What is said, without the intent, is what samples are compared by.
    let alike = lines.iter().take(3).map(|line| {
        assert_eq!(line["response"], line["stages"][0]["response"]);
        serde_json::json!({"prompt": "p", "text": line["text"], "response": "It is red."})
    });
    place.write("samples.jsonl", alike.map(|line| format!("{line}\n")).collect::<String>());
    let counted = place.trainer("eval --samples samples.jsonl").succeeds().stdout;
    assert!(counted.contains("\"distinct\":1") && counted.contains("\"clusters\":[3]"), "{counted}");
    let cold = place.trainer(&format!("{sample} --intent-temperature 0.5")).succeeds();
    assert!(cold.stderr.contains("the intent's temperature 0.5 is not above the response's 0.6"), "{}", cold.stderr);
    place.refuses("sample run --prompt a --intent-temperature 1", &["--intent"]);
}

/// Masks, templates and noise change what is learned; noise leaves the evaluation as it is.
#[test]
fn every_key_of_intent_rows_changes_the_run() {
    let place = Workplace::new();
    let run = |name: &str, set: &str| {
        let set = format!(
            "run {INTENTS} --set train.steps=2 --set data.eval=[\"builtin:intent-eval\"] --set output.dir={name} {set}"
        );
        place.trainer(&set).succeeds();
        (place.timeless(name), place.metrics(name).remove(0)["nll"].clone())
    };
    let (base, evaluation) = run("base", "");
    for (index, set) in [
        "data.train_on=[\"intent\"]",
        "data.train_on=[\"response\"]",
        "data.template=comments",
        "data.intent_noise={kind=\"shuffle\",fraction=0.5}",
        "data.intent_noise={kind=\"drop\",fraction=0.5}",
        "data.intent_noise={kind=\"replace\",fraction=0.5}",
    ]
    .into_iter()
    .enumerate()
    {
        let (steps, first) = run(&format!("run-{index}"), &format!("--set {set}"));
        assert_ne!(steps, base, "{set}");
        if set.contains("noise") {
            assert_eq!(first, evaluation, "{set}");
        }
    }
    place.write("empty.jsonl", "{\"prompt\": \"a\", \"intent\": \"\", \"response\": \"b\"}\n");
    let empty = "check recipe.toml --set data.train=[\"empty.jsonl\"] --set data.eval=[] --set objective.kind=intent";
    place.refuses(empty, &["empty.jsonl:1", "`intent` is empty"]);
    place.trainer(&format!("{empty} --set data.allow_empty_intent=true")).succeeds();
    place.refuses(
        &format!("check {INTENTS} --set data.intent_noise={{kind=\"shufle\",fraction=2}}"),
        &["did you mean \"shuffle\"?", "`data.intent_noise.fraction` must be from 0 to 1"],
    );
    let steps = "--set data.train=[\"builtin:intent-steps\"]";
    for template in ["mathematics", "code"] {
        place.trainer(&format!("check {INTENTS} {steps} --set data.template={template}")).succeeds();
    }
    place.refuses(&format!("check {INTENTS} {steps} --set data.template=chat"), &["needs `intent` and `response`"]);
}
