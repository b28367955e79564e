//! `eval` of models on rows: the lines that other programs read, exact numbers over temperature, and held-out likelihood.

use serde_json::{Value, json};

use crate::support::Workplace;

fn number(line: &Value, pointer: &str) -> f64 {
    line.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} of {line}"))
}

#[track_caller]
fn assert_near(found: f64, expected: f64, within: f64) {
    assert!((found - expected).abs() <= within * expected.abs().max(1.0), "{found} is not {expected}");
}

fn place() -> Workplace {
    let place = Workplace::new();
    let rows = [
        json!({"prompt": "Tell me about a fox.\n", "targets": ["The owl.", "A crab.", "The fox."], "weights": [2, 1, 1]}),
        json!({"prompt": "Pick a number.\n", "targets": ["{1}", "{2}"]}),
    ];
    place.write("targets.jsonl", rows.map(|row| format!("{row}\n")).concat());
    place
}

/// The keys are a contract, in this order.
#[test]
fn targets_have_a_line_for_each_model_prompt_and_temperature_and_one_for_all() {
    let place = place();
    let command = "eval builtin:tiny builtin:tiny --data targets.jsonl --temperatures 0.5,1,2 --budget 7,10";
    let lines = place.trainer(command).succeeds().lines();
    assert_eq!(lines.len(), 2 * (2 * 3 + 3));
    let keys: Vec<&String> = lines[0].as_object().expect("an object").keys().collect();
    let expected = [
        "model",
        "file",
        "line",
        "prompt",
        "temperature",
        "targets",
        "mass",
        "loss",
        "floor",
        "kl",
        "total_variation",
        "alpha",
        "beta",
        "f8",
        "f1",
        "f1_8",
        "area",
        "coverage",
        "entropy",
    ];
    assert_eq!(keys, expected);
    assert_eq!(lines[..9], lines[9..]);
    let head = |line: &Value| [&line["file"], &line["line"], &line["prompt"], &line["temperature"]].map(Value::clone);
    assert_eq!(head(&lines[0]), [json!("targets.jsonl"), json!(1), json!("Tell me about a fox.\n"), json!(0.5)]);
    assert_eq!(head(&lines[4]), [json!("targets.jsonl"), json!(2), json!("Pick a number.\n"), json!(1.0)]);
    assert_eq!(head(&lines[7]), [Value::Null, Value::Null, Value::Null, json!(1.0)]);
    assert_eq!((&lines[0]["targets"], &lines[7]["targets"]), (&json!(3), &json!(5)));
    let budgets: Vec<&String> = lines[0]["coverage"].as_object().expect("an object").keys().collect();
    assert_eq!(budgets, ["7", "10", "100", "1000"]);
    for (first, second, all) in [(0, 3, 6), (1, 4, 7), (2, 5, 8)] {
        let mean = |key: &str| (number(&lines[first], key) + number(&lines[second], key)) / 2.0;
        for key in ["/mass", "/loss", "/floor", "/kl", "/total_variation", "/alpha/1", "/beta/0.1", "/coverage/100"] {
            assert_near(number(&lines[all], key), mean(key), 1e-12);
        }
        // The largest F of a mean of curves is at most the mean of the largest.
        assert!(number(&lines[all], "/f8") <= mean("/f8") + 1e-12);
        assert_near(number(&lines[first], "/total_variation"), 1.0 - number(&lines[first], "/alpha/1"), 1e-12);
    }
    // What the truth itself covers in ten samples, the mean over the prompts: 1 - (1 - p)^10.
    let seen = |p: f64| 1.0 - (1.0 - p).powi(10);
    let perfect = ((seen(0.5) + 2.0 * seen(0.25)) / 3.0 + seen(0.5)) / 2.0;
    for line in &lines[6..9] {
        assert_near(number(line, "/perfect_coverage/10"), perfect, 1e-12);
    }
    assert!(lines[0].get("perfect_coverage").is_none());
    // -(1/2 ln 1/2 + 1/2 ln 1/4)
    assert_near(number(&lines[0], "/floor"), 1.5 * 2f64.ln(), 1e-12);
}

/// The exact mass is what samples show, at every temperature and under every truncation.
#[test]
fn exact_mass_is_that_of_samples_as_they_are_drawn() {
    let place = Workplace::new();
    place.write("one.jsonl", format!("{}\n", json!({"prompt": "Tell me about a fox.\n", "targets": ["The", "A"]})));
    for sampling in
        ["--temperatures 0.7,1.5", "--top-k 3", "--top-p 0.8", "--min-p 0.2 --temperatures 1.5", "--typical-p 0.7"]
    {
        let command = format!("eval builtin:tiny --data one.jsonl --no-end-token --n 400 --max-tokens 1 {sampling}");
        for line in place.trainer(&command).succeeds().lines() {
            let valid = number(&line, "/valid") / number(&line, "/samples");
            let (mass, counted) = (number(&line, "/mass"), valid - number(&line, "/other_tokenisations"));
            // Five standard deviations of a share of 400.
            assert!((mass - counted).abs() < 5.0 * (0.25f64 / 400.0).sqrt(), "{sampling}: {mass} {counted}");
            assert!(mass > 0.02, "{line}");
        }
    }
    let cut = place.trainer("eval builtin:tiny --data one.jsonl --no-end-token --top-k 1").succeeds().lines();
    // One token is kept: all or nothing, and what cannot come costs without end.
    assert!([0.0, 1.0].contains(&number(&cut[0], "/mass")) && cut[0]["loss"].is_null(), "{}", cut[0]);
    assert_eq!(cut[0]["top_k"], json!(1));
    let greedy = place.trainer("eval builtin:tiny --data one.jsonl --no-end-token --temperatures 0").succeeds().lines();
    assert_eq!(greedy[0]["mass"], cut[0]["mass"]);
}

/// `fox` takes the blank of the prompt into its token and `owl` does not: learned each after its own tokens, both could have all
/// probability, and the loss would fall below its floor.
#[test]
fn targets_that_share_a_token_with_the_prompt_are_one_distribution() {
    let place = Workplace::new();
    place.write("targets.jsonl", "{\"prompt\": \"Owl or fox? \", \"targets\": [\"owl\", \"fox\"]}\n");
    let set = "--set data.train=targets.jsonl --set data.eval=targets.jsonl --set objective.kind=diffuse --set train.steps=40 \
               --set train.batch_size=1 --set optimizer.learning_rate=0.003";
    place.trainer(&format!("run full.toml {set}")).says(&["a prompt that alone is other tokens"]);
    let line = place.trainer("eval run --data targets.jsonl").succeeds().lines().remove(0);
    let (mass, kl) = (number(&line, "/mass"), number(&line, "/kl"));
    assert!((0.9..=1.0).contains(&mass), "{line}");
    assert!((0.0..0.1).contains(&kl), "{line}");
}

/// The same number as the evaluation of a run, for each file and for all.
#[test]
fn held_out_rows_have_the_nll_of_a_runs_evaluation() {
    let place = Workplace::new();
    place.trainer("run recipe.toml").succeeds();
    let logged = place.metrics("run").into_iter().rfind(|line| line["split"] == "eval").expect("an evaluation");
    let command = "eval run builtin:tiny --data held_out.jsonl --data rows.jsonl --temperatures 1,2";
    let lines = place.trainer(command).succeeds().lines();
    assert_eq!(lines.len(), 2 * 3 * 2);
    assert_eq!((&lines[0]["file"], &lines[0]["rows"]), (&json!("held_out.jsonl"), &json!(8)));
    assert_near(number(&lines[0], "/nll"), number(&logged, "/nll"), 1e-4);
    assert_near(number(&lines[0], "/entropy"), number(&logged, "/entropy"), 1e-4);
    assert_near(number(&lines[0], "/perplexity"), number(&lines[0], "/nll").exp(), 1e-12);
    let tokens = |line: &Value| number(line, "/tokens");
    assert_eq!((&lines[4]["file"], &lines[4]["rows"]), (&Value::Null, &json!(32)));
    assert_eq!(tokens(&lines[4]), tokens(&lines[0]) + tokens(&lines[2]));
    let sum = number(&lines[0], "/nll") * tokens(&lines[0]) + number(&lines[2], "/nll") * tokens(&lines[2]);
    assert_near(number(&lines[4], "/nll"), sum / tokens(&lines[4]), 1e-9);
    // Hotter is more spread, and another model has other numbers.
    assert!(number(&lines[1], "/entropy") > number(&lines[0], "/entropy"));
    assert_eq!(lines[6]["model"], json!("builtin:tiny"));
    assert_ne!(lines[6]["nll"], lines[0]["nll"]);
}

/// Bits of the text by its bytes: what tokens are made of it, and what the end token costs beside, changes neither.
#[test]
fn held_out_likelihood_is_told_by_the_bytes_of_the_text() {
    let place = Workplace::new();
    let answers = ["sch\u{f6}n \u{72d0}.", "The fox, the owl and the crab."];
    let row = |answer| format!("{}\n", json!({"prompt": "Tell me about a fox.\n", "completion": answer}));
    place.write("rows.jsonl", answers.map(row).concat());
    place.write("text.jsonl", format!("{}\n", json!({"text": "Two \u{2013} or three."})));
    let lines = place.trainer("eval builtin:tiny --data rows.jsonl --data text.jsonl --temperatures 1,2").succeeds();
    let lines = lines.lines();
    let keys: Vec<&String> = lines[0].as_object().expect("an object").keys().collect();
    let expected = "model file rows tokens bytes temperature nll perplexity bits_per_byte entropy";
    assert_eq!(keys, expected.split(' ').collect::<Vec<_>>());
    let bytes: usize = answers.iter().map(|answer| answer.len()).sum();
    assert_eq!((&lines[0]["bytes"], &lines[1]["bytes"]), (&json!(bytes), &json!(bytes)));
    // A text is learned from its second token on.
    let of_text = number(&lines[2], "/bytes");
    assert!((10.0..19.0).contains(&of_text), "{}", lines[2]);
    assert_near(number(&lines[4], "/bytes"), bytes as f64 + of_text, 1e-12);
    for line in &lines {
        let bits = number(line, "/nll") * number(line, "/tokens") / std::f64::consts::LN_2;
        assert_near(number(line, "/bits_per_byte"), bits / number(line, "/bytes"), 1e-12);
    }
}

/// Those that are named, in their own order, of every kind of evaluation.
#[test]
fn metrics_are_chosen_by_name() {
    let place = place();
    let keys = |command: &str, line: usize| {
        let lines = place.trainer(&format!("eval builtin:tiny {command}")).succeeds().lines();
        lines[line].as_object().expect("an object").keys().cloned().collect::<Vec<String>>().join(" ")
    };
    let exact = "--data targets.jsonl --metrics f8,mass";
    assert_eq!(keys(exact, 0), "model file line prompt temperature targets mass f8");
    assert_eq!(keys(exact, 2), "model file line prompt temperature targets mass f8");
    let held_out = "--data held_out.jsonl --metrics bits_per_byte";
    assert_eq!(keys(held_out, 0), "model file rows tokens bytes temperature bits_per_byte");
    let drawn = "--prompts targets.jsonl --n 2 --max-tokens 3 --metrics distinct,pass_at_k --k 1";
    assert_eq!(keys(drawn, 0), "model file line prompt temperature samples distinct pass_at_k");
    let mean = "model file line prompt temperature prompts samples distinct pass_at_k judge standard_errors";
    assert_eq!(keys(drawn, 2), mean);
    place.write("plain.jsonl", "{\"prompt\": \"Tell me about a fox.\\n\"}\n");
    let without = "eval builtin:tiny --prompts plain.jsonl --n 2 --max-tokens 3 --metrics distinct,pass_at_k";
    place.trainer(without).succeeds().says(&["`pass_at_k` is not told"]);
    let eval = "eval builtin:tiny";
    for (flags, expected) in [
        ("--data targets.jsonl --metrics mas", &["there is no metric `mas`", "did you mean `mass`?"][..]),
        ("--data targets.jsonl --metrics zzzzzzzz", &["one of: mass, loss, ", "bits_per_byte"]),
        ("--data targets.jsonl --metrics mass,nll", &["`nll` is not measured of rows with `targets`"]),
        ("--data held_out.jsonl --metrics mass", &["`mass` is not measured of rows without `targets`", "one of: nll"]),
        ("--data targets.jsonl --metrics distinct", &["`distinct` is not measured of rows with `targets`"]),
        ("--prompts targets.jsonl --metrics mass", &["`mass` is not measured of samples", "one of: distinct"]),
        ("--prompts targets.jsonl --metrics distinct --k 1", &["`--k` has no effect", "`pass_at_k`"]),
        ("--data targets.jsonl --metrics mass --budget 5", &["`--budget` has no effect", "`coverage`"]),
    ] {
        place.refuses(&format!("{eval} {flags}"), expected);
    }
}

#[test]
fn what_has_no_effect_or_no_meaning_is_refused() {
    let place = place();
    let eval = "eval builtin:tiny --data targets.jsonl";
    for (flags, expected) in [
        ("--temperatures -1", "--temperatures"),
        ("--temperatures nan", "--temperatures"),
        ("--top-p 0", "`--top-p` must be above 0"),
        ("--typical-p 1.5", "`--typical-p` must be above 0 and at most 1"),
        ("--top-k 0", "`--top-k` must be at least 1"),
        ("--min-p 2", "`--min-p` must be from 0 to 1"),
        ("--budget 0", "`--budget` must be at least 1"),
        ("--k 3", "`--k` has no effect"),
        ("--encoder builtin:words", "`--encoder` has no effect"),
        ("--vocabulary 5", "`--vocabulary` has no effect"),
    ] {
        place.refuses(&format!("{eval} {flags}"), &[expected]);
    }
    for flags in ["--n 3", "--no-end-token", "--top-k 3", "--budget 5", "--temperatures 0"] {
        let name = flags.split(' ').next().expect("a word");
        place.refuses(&format!("eval builtin:tiny --data rows.jsonl {flags}"), &[name, "hint: "]);
    }
}
