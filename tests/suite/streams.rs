//! Data on stdout, everything else on stderr, and colour only where it is wanted.

use serde_json::Value;

use crate::support::Workplace;

#[test]
fn a_run_prints_nothing_on_stdout() {
    let place = Workplace::new();
    let ended = place.trainer("run recipe.toml").succeeds();
    assert_eq!(ended.stdout, "");
    assert!(!ended.stderr.contains('\u{1b}'), "colour without a terminal: {}", ended.stderr);
    // Plain lines in place of a progress bar: one for each step here.
    for step in 1..=6 {
        assert!(
            ended.stderr.contains(&format!("train step={step} of=6 loss=")),
            "step {step} is not told of in\n{}",
            ended.stderr
        );
    }
    let quiet = place.trainer("run recipe.toml --quiet --set output.dir=quiet").succeeds();
    assert_eq!(quiet.stdout, "");
    assert!(!quiet.stderr.contains("step=1"), "{}", quiet.stderr);
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let place = Workplace::new();
    for command in
        ["check recipe.toml --json", "check recipe.toml", "recipes", "sample builtin:tiny --prompt fox --n 9", "--help"]
    {
        let ended = place.shell(&format!("trainer {command} | head -c 1 >head")).succeeds();
        assert!(!ended.stderr.contains("panic") && !ended.stderr.contains("error"), "{command}: {}", ended.stderr);
        let closed = place.shell(&format!("trainer {command} | true; echo done")).succeeds();
        assert_eq!(closed.stdout, "done\n");
        assert!(!closed.stderr.contains("panic"), "{command}: {}", closed.stderr);
    }
}

/// Nobody is left to draw for: a hundred thousand samples would take minutes.
#[test]
fn drawing_ends_with_its_reader() {
    let place = Workplace::new();
    let ended = place.shell("trainer sample builtin:tiny --prompt fox --n 100000 | head -n 1");
    let ended = ended.succeeds();
    assert_eq!((ended.stdout.lines().count(), ended.stderr.as_str()), (1, ""));
    let intents = "trainer sample builtin:tiny --prompt fox --n 100000 --intent chat | head -n 1";
    assert_eq!(place.shell(intents).succeeds().stdout.lines().count(), 1);
}

#[test]
fn colour_can_be_asked_for_and_turned_off() {
    let place = Workplace::new();
    let check =
        |environment: &[(&str, &str)]| place.trainer_with(&["check", "recipe.toml"], environment).succeeds().stdout;
    let (plain, forced) = (check(&[]), check(&[("CLICOLOR_FORCE", "1")]));
    assert!(!plain.contains('\u{1b}') && forced.contains('\u{1b}'), "{forced}");
    assert!(!check(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "0")]).contains('\u{1b}'));
    let fault = |environment: &[(&str, &str)]| place.trainer_with(&["check", "nowhere.toml"], environment).stderr;
    assert!(fault(&[("CLICOLOR_FORCE", "1")]).contains('\u{1b}'));
    assert!(!fault(&[("NO_COLOR", "1")]).contains('\u{1b}'));
}

#[test]
fn logs_as_json_are_a_json_object_a_line() {
    let place = Workplace::new();
    let ended = place.trainer("run recipe.toml --log-format json --set checkpoint.every=9").succeeds();
    let mut levels = Vec::new();
    for line in ended.stderr.lines().filter(|line| line.starts_with('{')) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["message"].is_string(), "{line}");
        levels.push(line["level"].as_str().expect("a level").to_owned());
    }
    assert!(levels.contains(&"WARN".into()) && levels.contains(&"INFO".into()), "{}", ended.stderr);
    let others: Vec<&str> = ended.stderr.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(others, Vec::<&str>::new(), "lines that a program cannot read");
}

#[test]
fn a_filter_of_logs_that_cannot_be_read_is_refused() {
    let place = Workplace::new();
    let ended = place.trainer_with(&["check", "recipe.toml"], &[("RUST_LOG", "trainer=loud")]);
    ended.fails(&["RUST_LOG", "hint: "]);
}

#[test]
fn help_and_version_are_data() {
    let place = Workplace::new();
    let help = place.trainer("--help").succeeds();
    for command in ["run", "check", "export", "sample", "recipes"] {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{}", help.stdout);
    }
    assert_eq!(place.trainer("--version").succeeds().stdout, format!("trainer {}\n", env!("CARGO_PKG_VERSION")));
    place.refuses("rum recipe.toml", &["rum", "run"]);
    place.trainer("").exits(1).says(&["Usage: trainer"]);
}
