//! `trainer report`: files and folders as they are written become one page.

use serde_json::json;

use crate::support::Workplace;

/// Lines of `trainer eval` at three temperatures.
fn evaluated(model: &str, shift: f64) -> String {
    let line = |(temperature, mass, f8): (f64, f64, f64)| {
        let prompt = json!(null);
        json!({"model": model, "file": prompt, "line": prompt, "prompt": prompt, "temperature": temperature,
            "targets": 12, "mass": mass, "f8": f8 + shift})
    };
    [(0.5, 0.9, 0.5), (1.0, 0.7, 0.6), (2.0, 0.4, 0.7)].map(|point| format!("{}\n", line(point))).concat()
}

#[test]
fn a_sweep_is_compared_by_the_arms_and_seeds_that_it_names() {
    let place = Workplace::new();
    let mut runs = Vec::new();
    for (arm, shift) in [("kind=nll", 0.0), ("kind=cdiv", 0.1)] {
        for seed in 1..=3 {
            let name = format!("{arm},seed={seed}");
            let model = format!("sweep/runs/{name}");
            let text = evaluated(&model, shift + 0.01 * f64::from(seed));
            place.write(&format!("sweep/evaluation/{name}.jsonl"), text);
            runs.push(json!({"name": name, "arm": arm, "seed": seed, "state": "done"}));
        }
    }
    runs.push(json!({"name": "kind=gold,seed=1", "arm": "kind=gold", "seed": 1, "state": "failed", "fault": "the <loss> is NaN"}));
    let sweep =
        json!({"recipe": "a.toml", "set": [], "grid": [], "runs": runs, "baseline": "kind=nll", "evaluation": {}});
    place.write("sweep/sweep.json", sweep.to_string());
    place.trainer("report sweep --out page.html").succeeds().says(&["wrote page.html"]);
    let page = place.text("page.html");
    assert!(
        page.contains("cdiv finds more than nll: at precision 0.7 (mass; the baseline&#x27;s own at temperature 1)"),
        "{page}"
    );
    assert!(page.contains("kind=gold,seed=1 has no numbers: the &lt;loss&gt; is NaN"), "{page}");
}

#[test]
fn files_of_evaluations_are_compared_with_the_first_or_the_one_that_is_asked_for() {
    let place = Workplace::new();
    place.write("a.jsonl", evaluated("runs/a", 0.0));
    place.write("b.jsonl", evaluated("runs/b", 0.1));
    place.trainer("report a.jsonl b.jsonl").succeeds();
    assert!(place.text("report.html").contains("b against a, these two alone: at precision 0.7 (mass"));
    place.trainer("report a.jsonl b.jsonl --baseline runs/b").succeeds();
    assert!(place.text("report.html").contains("a against b, these two alone: at precision 0.7 (mass"));
    place.trainer("report a.jsonl --baseline runs/c").fails(&["no arm is named `runs/c`", "the arms are `runs/a`"]);
    place.trainer("report a.jsonl a.jsonl").fails(&["a.jsonl:1", "was given before"]);
    place.trainer("report none.jsonl").fails(&["none.jsonl"]);
    place
        .trainer("report a.jsonl b.jsonl --temperature 9")
        .fails(&["nothing was evaluated at temperature 9", "one of: "]);
}

/// Before and after: the first step of a run is what the others are compared with.
#[test]
fn a_run_is_compared_with_itself_before() {
    let place = Workplace::new();
    for (step, shift) in [("000000", 0.0), ("000010", 0.05), ("000020", 0.1)] {
        place.write(&format!("run/evaluation/step-{step}.jsonl"), evaluated("run", shift));
        let sample =
            json!({"step": 0, "prompt": "Name one.", "sample": 0, "text": format!("<i>{step}"), "stopped": true});
        place.write(&format!("run/samples/step-{step}.jsonl"), format!("{sample}\n"));
    }
    place.write("run/recipe.toml", "seed = 1\n[eval]\ntemperature = 0.5\n");
    place.trainer("report run").succeeds();
    let page = place.text("report.html");
    let first = page.find("step 20 against before (step 0), these two alone: at precision 0.7");
    assert!(first.is_some() && !page.contains("step 10 against"), "{page}");
    assert!(page.contains("the ring is 0.5") && page.contains("&lt;i&gt;000020") && !page.contains("&lt;i&gt;000010"));
    // The best of the run stands between its ends.
    place.write("run/checkpoints/best", "step-000010");
    place.trainer("report run").succeeds();
    let page = place.text("report.html");
    let second = page.find("step 10 against before (step 0)");
    assert!(page.find("step 20 against before") < second && page.contains("&lt;i&gt;000010"), "{page}");
    // Its training stands there, too, as in the run's own page; of a file that was cut what is whole, and a word.
    let lines = |steps: std::ops::Range<usize>| -> String {
        let line = |step: usize| json!({"split": "train", "step": step, "nll": 3.0 / (step + 1) as f64, "loss": 1.0});
        steps.map(|step| format!("{}\n", line(step))).collect()
    };
    place.write("run/metrics.jsonl", lines(1..9));
    place.trainer("report run").succeeds();
    let page = place.text("report.html");
    assert!(page.contains("<h2>Training</h2>") && !page.contains("in the middle of a line"), "{page}");
    place.write("run/metrics.jsonl", format!("{}{{\"split\": \"tr", lines(1..9)));
    place.trainer("report run").succeeds();
    let page = place.text("report.html");
    assert!(
        page.contains("<h2>Training</h2>") && page.contains("metrics.jsonl ends in the middle of a line"),
        "{page}"
    );
    // What cannot be read is said, and is not passed over.
    place.write("run/evaluation/step-000010.jsonl", "{\"loss\": 1}\n");
    place.trainer("report run").fails(&["step-000010.jsonl:1", "no line of `trainer eval`"]);
    std::fs::remove_dir_all(place.path("run")).expect("the folder");
    std::fs::create_dir_all(place.path("run")).expect("a folder");
    place.trainer("report run").fails(&["no evaluation is in the folder"]);
}

/// What was measured of the samples of a run stands on its page as that of any samples does: in the tables, and pass@k as a
/// curve. Where nothing is exact it is all there is.
#[test]
fn the_samples_of_a_run_are_measured_on_its_page() {
    let place = Workplace::new();
    let row = json!({"prompt": "Tell me about a fox.\n", "targets": ["The owl.", "A crab."]});
    place.write("targets.jsonl", format!("{row}\n"));
    place.write("prompts.jsonl", "{\"prompt\": \"Tell me about a fox.\\n\"}\n");
    let run = "run recipe.toml --set train.steps=2 --set eval.samples=6";
    place.trainer(&format!("{run} --set eval.prompts=targets.jsonl")).succeeds();
    place.trainer(&format!("{run} --set eval.prompts=prompts.jsonl --set output.dir=other")).succeeds();
    place.trainer("report run").succeeds();
    for page in [place.text("run/report.html"), place.text("report.html")] {
        assert!(page.contains("pass@k against k") && page.contains("<summary>Samples</summary>"), "{page}");
        let (_, below) = page.split_once("</h1>").expect("a title");
        assert!(below.trim_start().starts_with("<div class=\"verdict\">"), "the verdict comes first: {below}");
    }
    let metrics = place.metrics("run");
    let last = metrics.iter().rfind(|line| line["split"] == "eval").expect("an evaluation");
    let (_, numbers) = place
        .text("run/report.html")
        .split_once("id=\"numbers\">")
        .map(|(a, b)| (a.len(), b.to_owned()))
        .expect("numbers");
    let numbers: serde_json::Value =
        serde_json::from_str(numbers.split_once("</script>").expect("its end").0).expect("JSON");
    let samples = numbers["tables"].as_array().expect("tables").iter().find(|table| table["title"] == "Samples");
    let rows = samples.expect("a table of samples")["rows"].as_array().expect("rows");
    for (name, key) in [("pass_at_k@1", "pass_at_k.1"), ("distinct", "distinct"), ("sample_entropy", "entropy")] {
        let row = rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}"));
        let cells = row["cells"].as_array().expect("cells");
        assert_eq!(cells.last().expect("the end")["mean"], last["samples"][key], "{name}");
    }
    let other = place.text("other/report.html");
    assert!(other.contains("There is no verdict") && other.contains("<summary>Samples</summary>"), "{other}");
}

/// The prompts' rows tell what is valid, wherever the page gets them from, and a file that has gone is told of.
#[test]
fn what_is_no_target_is_marked_for_every_prompt_of_a_run_and_of_a_sweep() {
    let place = Workplace::new();
    let prompts = ["One.\n", "Two.\n", "Three.\n", "Four.\n"];
    let row = |prompt: &str| format!("{}\n", json!({"prompt": prompt, "targets": ["yes", "no"]}));
    place.write("rows.jsonl", prompts.map(row).concat());
    let sample = |prompt: &str| {
        let line = |text: &str| format!("{}\n", json!({"prompt": prompt, "text": text, "stopped": true}));
        line("yes") + &line("perhaps")
    };
    let samples = prompts.map(sample).concat();
    place.write("run/evaluation/step-000000.jsonl", evaluated("run", 0.0));
    place.write("run/samples/step-000000.jsonl", samples.clone());
    place.write("run/recipe.toml", "seed = 1\n[eval]\nprompts = [\"rows.jsonl\"]\n");
    place.write("sweep/evaluation/base.jsonl", evaluated("base", 0.0));
    place.write("sweep/samples/base.jsonl", samples);
    let sweep = json!({"recipe": "a.toml", "set": [], "grid": [], "runs": [], "directory": place.path(""),
        "evaluation": {"data": ["rows.jsonl"]}});
    place.write("sweep/sweep.json", sweep.to_string());
    for folder in ["run", "sweep"] {
        place.trainer(&format!("report {folder}")).succeeds();
        let page = place.text("report.html");
        assert_eq!(page.matches("2 different of 2, 1 invalid").count(), 4, "{folder}");
        assert!(!page.contains("is not there"), "{folder}");
    }
    std::fs::remove_file(place.path("rows.jsonl")).expect("the rows");
    place.trainer("report run").succeeds();
    let page = place.text("report.html");
    assert!(
        page.contains("is not there: it is not known which of the samples are invalid") && !page.contains("1 invalid")
    );
}

/// What `trainer eval --references` prints is shown, of a file and of samples that are drawn on the spot.
#[test]
fn samples_against_references_stand_between_a_floor_and_a_ceiling() {
    let place = Workplace::new();
    let words = ["red", "blue", "old", "young", "quick", "small", "quiet"];
    let texts = |count: usize, shift: usize| {
        let text = |index: usize| {
            let (prompt, place) = (["fox?", "owl?"][index % 2], index / 2 + shift);
            json!({"prompt": prompt, "text": format!("the {} {} and {} friend", words[place % 7], &prompt[..3], words[(place / 7 + 3) % 7])})
        };
        (0..count).map(|index| format!("{}\n", text(index))).collect::<String>()
    };
    place.write("references.jsonl", texts(64, 0));
    place.write("a.jsonl", texts(24, 3));
    place.write("b.jsonl", texts(24, 5));
    let compare = "--references references.jsonl --encoder builtin:words";
    let ended = place.trainer(&format!("eval --samples a.jsonl --samples b.jsonl {compare}")).succeeds();
    place.write("files.jsonl", &ended.stdout);
    place.trainer("report files.jsonl").succeeds();
    let page = place.text("report.html");
    assert!(page.contains("<summary>Against references</summary>") && page.contains(">ceiling</th>"), "{page}");
    assert!(page.contains("a, the baseline") || page.contains(">a</bdi>"), "{page}");
    place.write(
        "prompts.jsonl",
        "{\"prompt\":\"Tell me about a fox.\\n\"}\n{\"prompt\":\"Tell me about an owl.\\n\"}\n",
    );
    let drawn =
        format!("eval builtin:tiny --prompts prompts.jsonl --n 8 --max-tokens 12 --temperatures 0.5,1 {compare}");
    place.write("drawn.jsonl", &place.trainer(&drawn).succeeds().stdout);
    place.trainer("report drawn.jsonl").succeeds();
    let page = place.text("report.html");
    for part in ["Against references: precision and recall, over temperature", "Against references, temperature 0.5"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn probabilities_of_targets_become_bars() {
    let place = Workplace::new();
    let row = json!({"prompt": "Pick one.\n", "targets": ["bread", "salt"], "weights": [3, 1]});
    place.write("rows.jsonl", format!("{row}\n{}\n", json!({"prompt": "Another.\n", "targets": ["oil", "a cake"]})));
    let ended = place.trainer("eval builtin:tiny --data rows.jsonl --probabilities 1").succeeds();
    let lines = ended.lines();
    let targets = lines[0]["probabilities"].as_array().expect("the targets of the first prompt");
    let of = |key: &str| targets.iter().map(|target| target[key].as_f64().expect("a number")).collect::<Vec<f64>>();
    assert_eq!((of("p"), targets[1]["target"].as_str()), (vec![0.75, 0.25], Some("salt")));
    let (q, mass) = (of("q"), lines[0]["mass"].as_f64().expect("the mass"));
    assert!((q.iter().sum::<f64>() - mass).abs() < 1e-12 && q[0] != q[1]);
    let loss = -0.75 * q[0].ln() - 0.25 * q[1].ln();
    assert!((loss - lines[0]["loss"].as_f64().expect("the loss")).abs() < 1e-9);
    assert!(lines[1].get("probabilities").is_none() && lines[2].get("probabilities").is_none());
    place.write("eval.jsonl", &ended.stdout);
    place.trainer("report eval.jsonl --temperature 1").succeeds();
    let page = place.text("report.html");
    assert_eq!(page.matches("class=\"bar truth\"").count(), 2);
    let said = "eval builtin:tiny --data builtin:world-eval --probabilities 1";
    place.trainer(said).succeeds().says(&["no row has `targets`"]);
    place.trainer("report eval.jsonl --temperature=-1").fails(&["`--temperature` must be a number from 0 up"]);
    place.write("empty.jsonl", "\n");
    place.trainer("report empty.jsonl").fails(&["empty.jsonl", "the file is empty"]);
}

/// In a browser, where there is one: nothing overflows, overlaps or is empty, at two widths, in light and dark. The pages'
/// text is looked at everywhere (`pages/tests/sound.rs`).
#[test]
fn pages_are_sound_in_a_browser() {
    let has = |program: &str| {
        let found = std::process::Command::new(program).arg("--version").output();
        found.is_ok_and(|output| output.status.success())
    };
    if !has("chromium") || !has("python3") {
        eprintln!("not looked at: there is no `chromium` (Debian: chromium) or no `python3` here");
        return;
    }
    let place = Workplace::new();
    let set = "--set train.steps=3 --set eval.every=1 --set eval.prompts=[\"targets.jsonl\"] --set eval.samples=2";
    let row = json!({"prompt": "Tell me about a fox.", "targets": ["red", "quick and <b>brown</b>"]});
    place.write("targets.jsonl", format!("{row}\n"));
    place.trainer(&format!("run recipe.toml {set}")).succeeds();
    let sweep =
        "sweep recipe.toml --grid objective.kind=nll,cdiv --grid seed=1,2 --set train.steps=2 --set checkpoint.every=0";
    place
        .trainer(&format!("{sweep} --data targets.jsonl --temperatures 0.5,1,2 --prompts targets.jsonl --out s"))
        .succeeds();
    let samples = "sweep run --grid sample.temperature=0.5,1 --grid sample.top_p=0.5,1 --prompts targets.jsonl --out t";
    place.trainer(samples).succeeds();
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/check_page.py");
    for page in ["run/report.html", "s/report.html", "t/report.html"] {
        let looked = std::process::Command::new("python3").arg(tool).arg(place.path(page)).output().expect("it runs");
        let said = String::from_utf8_lossy(&looked.stdout).into_owned() + &String::from_utf8_lossy(&looked.stderr);
        assert!(looked.status.success() && said.contains(" 0 faults"), "{page}: {said}");
    }
}
