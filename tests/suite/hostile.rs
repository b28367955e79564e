//! What a stranger's files may try beside being broken: terminals, pages, devices, secrets, numbers.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::Workplace;

/// Does something to a terminal: clears it, sets its title, turns the direction of what follows.
const ODD: &str = "a\u{1b}[2J\u{1b}]0;t\u{7}b\u{9b}31mc\u{202e}txt.exe\u{2066}d\u{200f}";

#[track_caller]
fn assert_harmless(command: &str, text: &str) {
    let sent: Vec<char> = text.chars().filter(|letter| faults::is_hidden(*letter)).collect();
    assert!(sent.is_empty(), "{command}: {sent:?} in {text:?}");
}

/// Rows, targets, prompts and samples whose texts do.
fn odd_rows(place: &Workplace) {
    let lines = |rows: &[Value]| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    let row = |at: usize| json!({"prompt": format!("{ODD} {at}\n"), "completion": format!("{ODD}{at}")});
    place.write("rows.jsonl", lines(&(0..8).map(row).collect::<Vec<_>>()));
    place.write("held_out.jsonl", lines(&[row(100), row(101)]));
    place.write("prompts.jsonl", lines(&[json!({"prompt": format!("{ODD}\n"), "id": ODD})]));
    place.write(
        "targets.jsonl",
        lines(&[json!({"prompt": format!("{ODD}\n"), "targets": [format!("{ODD}a"), format!("{ODD}b")]})]),
    );
    let sample = |text: &str, correct: bool| json!({"prompt": ODD, "text": format!("{ODD}{text}"), "correct": correct, "model": ODD});
    place.write("samples.jsonl", lines(&[sample("a", true), sample("b", false)]));
    place.write("broken.jsonl", format!("{{\"prompt\": \"{ODD}\", \"completion\": 3}}\n{{\"{ODD}\": \n"));
}

#[test]
fn nothing_that_a_file_says_moves_the_terminal_or_turns_a_line_around() {
    let place = Workplace::with_model();
    odd_rows(&place);
    let prompts =
        "--set eval.prompts=[\"prompts.jsonl\"] --set eval.samples=2 --set eval.max_tokens=4 --set eval.every=3";
    for command in [
        "check recipe.toml".to_owned(),
        "check recipe.toml --json".to_owned(),
        "check recipe.toml --verbose".to_owned(),
        format!("run recipe.toml {prompts}"),
        "check recipe.toml --set data.train=[\"broken.jsonl\"]".to_owned(),
        "sample run --prompts prompts.jsonl --n 2 --max-tokens 6".to_owned(),
        "sample run --prompts prompts.jsonl --chat --n 2 --max-tokens 6".to_owned(),
        "eval --samples samples.jsonl".to_owned(),
        "eval run --data targets.jsonl".to_owned(),
        "inspect run".to_owned(),
        "inspect run --json".to_owned(),
        "report samples.jsonl".to_owned(),
    ] {
        let ended = place.trainer(&command);
        assert_harmless(&command, &ended.stdout);
        assert_harmless(&command, &ended.stderr);
        assert!(!ended.stderr.contains("fault of this program"), "{command}: {}", ended.stderr);
    }
    // Escaped, and not left out: the same text comes back.
    let line = place.trainer("sample run --prompts prompts.jsonl --n 1 --max-tokens 2").succeeds().stdout;
    let line: Value = serde_json::from_str(line.lines().next().expect("a line")).expect("JSON");
    assert_eq!(line["prompt"], format!("{ODD}\n"));
}

/// What a browser would run.
const MARKUP: &str = "</script><script>alert(1)</script><img src=x onerror=alert(1)><!--]]>&\"'`</textarea></style>";

#[test]
fn the_pages_of_runs_show_markup_and_do_not_run_it() {
    let place = Workplace::new();
    let prompts =
        "--set eval.prompts=[\"prompts.jsonl\"] --set eval.samples=2 --set eval.max_tokens=4 --set eval.every=3";
    let page = |text: &str, run: &str| {
        place.write(
            "prompts.jsonl",
            format!("{}\n", json!({"prompt": format!("{text}\n"), "id": text, "targets": [text, "b"]})),
        );
        place.write(
            "samples.jsonl",
            format!("{}\n", json!({"prompt": text, "text": text, "model": text, "correct": true})).repeat(2),
        );
        place.trainer(&format!("run recipe.toml {prompts} --set output.dir={run}")).succeeds();
        let lines = place.trainer("eval --samples samples.jsonl").succeeds().stdout;
        place.write("evaluated.jsonl", lines);
        place.trainer(&format!("report evaluated.jsonl {run} --out {run}.html")).succeeds();
        [place.text(&format!("{run}/report.html")), place.text(&format!("{run}.html"))]
    };
    let (plain, hostile) = (page("a plain text", "plain"), page(MARKUP, "hostile"));
    for (plain, hostile) in plain.iter().zip(&hostile) {
        for tag in ["<script", "</script", "<img", "<!--", "</textarea", "</style"] {
            assert_eq!(hostile.matches(tag).count(), plain.matches(tag).count(), "{tag}");
        }
    }
    assert!(hostile[1].contains("alert(1)"), "the page does not show the text at all");
}

/// A pipe, a device, a link to itself, a folder: whatever a name in a model's folder leads to.
#[test]
fn a_file_of_a_model_that_is_no_file_is_a_fault_at_once() {
    let place = Workplace::new();
    let kinds = ["pipe", "/dev/zero", "/dev/full", "loop", "folder"];
    let names = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
        "chat_template.jinja",
        "model.safetensors",
        "model.safetensors.index.json",
    ];
    for name in names {
        for kind in kinds {
            place.model("model");
            let path = place.path("model").join(name);
            if name == "model.safetensors.index.json" {
                fs::remove_file(place.path("model/model.safetensors")).expect("a file");
            }
            let _ = fs::remove_file(&path);
            match kind {
                "pipe" => assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success()),
                "loop" => symlink(name, &path).expect("a link"),
                "folder" => fs::create_dir(&path).expect("a folder"),
                device => symlink(device, &path).expect("a link"),
            }
            let ended =
                place.trainer("check recipe.toml --set model.path=model").fails(&["error: ", "model", "hint: "]);
            assert!(ended.stderr.contains(name) || name.starts_with("model."), "{kind} as {name}: {}", ended.stderr);
            fs::remove_dir_all(place.path("model")).expect("a folder");
        }
    }
}

#[test]
fn a_shard_and_an_adapter_that_are_devices_are_faults() {
    let place = Workplace::with_model();
    fs::rename(place.path("model/model.safetensors"), place.path("model/real.safetensors")).expect("a file");
    for (shard, target) in [("zero.safetensors", "/dev/zero"), ("outside.safetensors", "../../etc/passwd")] {
        symlink(target, place.path("model").join(shard)).expect("a link");
        let index = json!({"weight_map": {"model.norm.weight": shard}});
        place.write("model/model.safetensors.index.json", index.to_string());
        place.trainer("check recipe.toml --set model.path=model").fails(&["error: ", "model", "hint: "]);
    }
    place.trainer("run recipe.toml --set train.steps=1").succeeds();
    place.trainer("export run --out adapter").succeeds();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let path = place.path("adapter").join(name);
        let kept = fs::read(&path).expect("a file");
        fs::remove_file(&path).expect("a file");
        symlink("/dev/zero", &path).expect("a link");
        place.trainer("sample adapter --prompt fox").fails(&["error: ", "adapter", "hint: "]);
        fs::remove_file(&path).expect("a link");
        fs::write(&path, kept).expect("a file");
    }
}

/// What is named on the command line or in a recipe, and what lies in folders that are: a device is a fault, a pipe that
/// another program writes into is read.
#[test]
fn a_device_in_place_of_a_file_that_is_named_is_a_fault_at_once() {
    let place = Workplace::with_model();
    place.write("drawn.jsonl", "{\"prompt\": \"p\", \"text\": \"a\"}\n{\"prompt\": \"p\", \"text\": \"b\"}\n");
    place.trainer("run recipe.toml --set train.steps=2 --set checkpoint.every=1").succeeds();
    let commands = [
        "report /dev/zero --out page.html",
        "sample model --prompt a --chat-template /dev/zero",
        "check recipe.toml --set data.chat_template=/dev/zero --set output.dir=other",
        "sample model --prompts /dev/zero",
        "eval --samples /dev/zero",
    ];
    for command in commands {
        place.trainer(command).fails(&["/dev/zero", "device", "hint: "]);
    }
    place.shell("cat drawn.jsonl | trainer report /dev/stdin --out page.html").succeeds();
    // What the disk does not tell of is not missing.
    let samples = place.path("run/samples");
    let _ = fs::remove_dir_all(&samples);
    symlink("samples", &samples).expect("a link");
    place.trainer("report run --out page.html").fails(&["run/samples", "hint: "]);
    fs::remove_file(&samples).expect("a link");
    for name in ["config.json", "evaluation/step-000002.jsonl", "checkpoints/best"] {
        let folder = if name == "config.json" { "model" } else { "run" };
        let path = place.path(folder).join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let _ = fs::remove_file(&path);
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
    }
    place.trainer("eval --samples drawn.jsonl --encoder model").fails(&["model", "hint: "]);
    place.trainer("recipes cp nll copied --model ./model").succeeds();
    place.trainer("report run --out page.html").fails(&["step-000002.jsonl", "pipe", "hint: "]);
}

/// An export takes the latest of a run that puts a newer one in its place and removes it meanwhile.
#[test]
fn a_run_that_keeps_one_checkpoint_is_exported_and_drawn_from_while_it_goes_on() {
    let place = Workplace::new();
    let mut run = place.start("run recipe.toml --set train.steps=100000 --set checkpoint.every=1 --set checkpoint.keep=1 --set eval.every=100000");
    place.wait_until("a checkpoint", || place.path("run/checkpoints/latest").is_file());
    for number in 0..20 {
        place.trainer(&format!("export run --out out-{number}")).succeeds();
    }
    place.trainer("sample run --prompt fox --max-tokens 1").succeeds();
    run.kill().expect("it runs still");
    run.wait().expect("it ends");
}

/// Neither the token nor the rest of the environment is written or said anywhere.
#[test]
fn no_secret_of_the_environment_is_kept_or_told() {
    let place = Workplace::new();
    place.write("prompts.jsonl", "{\"prompt\": \"fox\\n\"}\n");
    let secrets = [("HF_TOKEN", "hf_verysecret"), ("AWS_SECRET_ACCESS_KEY", "verysecret2"), ("RUST_BACKTRACE", "1")];
    for command in [
        "run recipe.toml --set eval.prompts=[\"prompts.jsonl\"] --set eval.samples=1 --set eval.max_tokens=3",
        "run recipe.toml --resume",
        "sample run --prompt fox --n 1 --max-tokens 3",
        "export run --out out",
        "inspect run --json",
        "check recipe.toml --json",
        "report run --out page.html",
        "run recipe.toml --set model.path=org/model --set output.dir=other",
        "run nothing.toml",
    ] {
        let words: Vec<&str> = command.split_whitespace().collect();
        let ended = place.trainer_with(&words, &secrets);
        assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("verysecret"), "{command}: {}", ended.stderr);
    }
    assert!(place.path("run/report.html").is_file() && place.path("out/adapter_config.json").is_file());
    for (path, bytes) in place.tree("") {
        let holds = bytes.windows(10).any(|window| window == b"verysecret");
        assert!(!holds, "{} holds a secret", path.display());
    }
}

/// An adapter to begin with that holds NaN or infinity gives no run that looks like one.
#[test]
fn an_adapter_that_is_not_finite_is_told_of() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=1").succeeds();
    place.trainer("export run --out adapter").succeeds();
    let path = "adapter/adapter_model.safetensors";
    let bytes = place.read(path);
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("a length")) as usize;
    for odd in [f32::NAN, f32::INFINITY] {
        let mut spoilt = bytes.clone();
        spoilt[8 + header..][..4].copy_from_slice(&odd.to_le_bytes());
        place.write(path, &spoilt);
        let recipe = place.text("recipe.toml").replace("rank = 4\nalpha = 8", "init_from = \"adapter\"");
        place.write("from.toml", recipe.replace("dir = \"run\"", "dir = \"from\""));
        let expected = ["hold NaN or infinity", "adapter_model.safetensors", "hint: "];
        for command in
            ["check from.toml", "run from.toml", "sample adapter --prompt fox", "export adapter --merge --out merged"]
        {
            place.refuses(command, &expected);
        }
    }
}

/// Weights of targets at the ends of what a number can be.
#[test]
fn weights_of_rows_that_no_loss_can_hold_are_faults() {
    let place = Workplace::new();
    for weights in ["1, NaN", "1, Infinity", "1, -Infinity", "1, -1", "1, 1e999", "1e-300, 1e300", "0, 0"] {
        let row = format!("{{\"prompt\": \"a fox\\n\", \"targets\": [\"a\", \"b\"], \"weights\": [{weights}]}}\n");
        place.write("rows.jsonl", "{\"prompt\": \"p\\n\", \"targets\": [\"a\", \"b\"]}\n".to_owned() + &row);
        let set = "--set objective.kind=diffuse --set data.eval=[]";
        place.refuses(&format!("check recipe.toml {set}"), &["rows.jsonl:2", "weights", "hint: "]);
        place.refuses(&format!("run recipe.toml {set}"), &["rows.jsonl:2", "weights", "hint: "]);
    }
}
