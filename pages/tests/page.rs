//! The whole page.

use pages::samples::{Draw, Drawn};
use pages::{Comparison, read};
use serde_json::{Value, json};

fn render(comparison: &Comparison) -> String {
    pages::render(comparison).expect("a baseline that is there")
}

fn drawn(model: &str, prompt: &str, texts: &[&str]) -> Drawn {
    let draws = texts.iter().map(|text| Draw { text: (*text).into(), ..Draw::default() }).collect();
    Drawn { model: model.into(), prompt: prompt.into(), draws, targets: None }
}

/// Lines of an evaluation of `seeds` runs of each arm.
fn evaluated(arms: &[&str], seeds: u64) -> Comparison {
    let mut text = String::new();
    for (place, arm) in arms.iter().enumerate() {
        for seed in 1..=seeds {
            for (step, temperature) in [0.5, 1.0, 2.0].into_iter().enumerate() {
                let mass = 0.9 - 0.2 * step as f64 - 0.011 * seed as f64;
                let f8 = 0.5 + 0.1 * step as f64 + 0.07 * place as f64 + 0.013 * seed as f64;
                for prompt in [json!("Name one.\n"), Value::Null] {
                    let line = json!({"model": format!("runs/{arm},seed={seed}"), "file": prompt.as_str().map(|_| "f"),
                        "prompt": prompt, "temperature": temperature, "targets": 12, "mass": mass, "f8": f8,
                        "coverage": {"10": f8 / 3.0, "100": f8 / 2.0, "1000": f8}, "kl": null});
                    text += &format!("{line}\n");
                }
            }
        }
    }
    let mut comparison = Comparison { title: "Two arms".into(), ..Comparison::default() };
    read::evaluations(&text, "file", &mut comparison.runs).expect("lines of an evaluation");
    comparison
}

fn numbers(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"numbers\">").expect("a block of JSON");
    let (json, _) = rest.split_once("</script>").expect("its end");
    serde_json::from_str(json).expect("JSON")
}

/// What stands between `start` and `end`, as often as it does.
fn all<'a>(page: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    page.split(start).skip(1).filter_map(|rest| Some(rest.split_once(end)?.0)).collect()
}

#[test]
fn every_number_that_is_drawn_stands_in_the_json() {
    let page = render(&evaluated(&["kind=nll", "kind=cdiv"], 3));
    let json = numbers(&page);
    let figures = json["figures"].as_array().expect("figures");
    assert_eq!(figures.len(), page.matches("<figure>").count());
    let lines = figures.iter().flat_map(|figure| figure["lines"].as_array().expect("lines"));
    let points = lines.flat_map(|line| line["points"].as_array().expect("points"));
    let known: Vec<(f64, f64)> =
        points.map(|point| (point["x"].as_f64().expect("x"), point["y"].as_f64().expect("y"))).collect();
    let number = |text: &str| text.parse::<f64>().expect("a number");
    let (xs, ys) = (all(&page, "data-x=\"", "\""), all(&page, "data-y=\"", "\""));
    let drawn: Vec<(f64, f64)> = xs.iter().zip(&ys).map(|(x, y)| (number(x), number(y))).collect();
    assert_eq!(drawn, known);
    // Six pictures; three seeds and their mean of two arms, three points each.
    assert_eq!(drawn.len(), 6 * 8 * 3);
    assert!(known.contains(&(0.6 + 0.026, 0.7 - 0.022)), "{known:?}");
}

#[test]
fn the_verdict_stands_first_and_the_rest_in_order() {
    let mut comparison = evaluated(&["kind=nll", "kind=cdiv"], 3);
    comparison.settings = vec![("recipe".into(), "a.toml".into())];
    comparison.failures = vec![("kind=gold,seed=1".into(), "out of memory".into())];
    comparison.failures.extend((1..=4).map(|seed| (format!("kind=gem,seed={seed}"), "it is waiting".into())));
    comparison.samples = vec![drawn("kind=nll", "p", &["x", "x"])];
    let page = render(&comparison);
    let mut from = 0;
    for part in [
        "cdiv finds more than nll: at precision 0.678 (mass; the baseline&#x27;s own at temperature 1)",
        "kind=gold,seed=1 has no numbers: out of memory",
        // Many of one reason are one line to open.
        "<summary>4 runs have no numbers, each for the same reason: it is waiting</summary>",
        "<p>kind=gem,seed=1</p>",
        "Precision against recall (f8)",
        "Precision against coverage in 100 samples",
        "<h2>Recall at equal precision</h2>",
        "What models give to each target is not shown",
        "Samples side by side",
        "2 &#215;",
        "<h2>Metrics</h2>",
        "Coverage against the number of samples",
        "Precision (mass) against temperature",
        "Prompts that changed most",
        "<bdi>evaluated</bdi></th><td>12 targets</td>",
        "<td>a.toml</td>",
        "application/json",
    ] {
        from += page[from..].find(part).unwrap_or_else(|| panic!("{part} is not where it belongs in {page}"));
    }
    assert!(!page.contains("http"), "it loads nothing");
    // The baseline that is asked for takes the other side.
    for baseline in ["kind=cdiv", "cdiv"] {
        comparison.baseline = Some(baseline.into());
        assert!(render(&comparison).contains("nll finds less than cdiv"), "{baseline}");
    }
}

#[test]
fn hostile_names_stay_text() {
    let hostile = "</script><script>alert(1)</script><!--\"'&";
    let mut comparison = evaluated(&["kind=nll"], 1);
    comparison.title = hostile.into();
    let run = comparison.runs[0].clone();
    comparison.runs.push(read::Run { name: hostile.into(), arm: hostile.into(), seed: None, ..run });
    comparison.runs[1].parts[0].name = hostile.into();
    comparison.samples = vec![drawn(hostile, hostile, &[hostile])];
    comparison.settings = vec![(hostile.into(), hostile.into())];
    comparison.failures = vec![(hostile.into(), hostile.into())];
    let page = render(&comparison);
    assert_eq!(
        (page.matches("<script").count(), page.matches("</script").count(), page.matches("<!--").count()),
        (1, 1, 0)
    );
    assert!(page.matches("&lt;script&gt;alert").count() >= 8, "it is shown");
    assert_eq!(numbers(&page)["title"], hostile);
}

#[test]
fn nothing_and_one_model_make_a_page_too() {
    let page = render(&Comparison::default());
    assert!(page.contains("Nothing was evaluated") && page.ends_with("</html>\n") | page.ends_with("</html>"));
    assert!(!page.contains("<figure>") && !page.contains("<table"));
    let page = render(&evaluated(&["kind=nll"], 1));
    assert!(page.contains("nll alone was evaluated: there is nothing to compare it with."));
    assert!(page.contains("<figure>") && !page.contains("class=\"grey\"") && !page.contains("the baseline<"));
    assert!(!page.contains("Prompts that changed most"));
}

/// Pictures of a hundred lines would show nothing: the table and the JSON have all of them.
#[test]
fn of_many_arms_pictures_show_some_and_the_table_all() {
    let names: Vec<String> = (0..40).map(|place| format!("lr={place}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let page = render(&evaluated(&names, 2));
    assert!(page.contains("Pictures and columns show 12 of 40 arms"));
    let json = numbers(&page);
    let shown: Vec<&str> = json["tables"][0]["rows"][0]["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .map(|cell| cell["arm"].as_str().expect("a name"))
        .collect();
    // The baseline, and those that find most and least.
    assert!(shown.len() == 12 && ["lr=0", "lr=1", "lr=39"].iter().all(|arm| shown.contains(arm)), "{shown:?}");
    assert_eq!(
        (json["overview"]["arms"].as_array().map(Vec::len), json["verdicts"].as_array().map(Vec::len)),
        (Some(40), Some(39))
    );
    assert!(page.contains("33 more comparisons"));
}

#[test]
fn a_baseline_that_is_no_arm_is_refused() {
    let mut comparison = evaluated(&["kind=nll", "kind=cdiv"], 1);
    comparison.baseline = Some("kind=gold".into());
    let refused = pages::render(&comparison).expect_err("no such arm");
    assert_eq!((&refused.wanted[..], refused.arms), ("kind=gold", vec!["kind=nll".into(), "kind=cdiv".to_owned()]));
}

#[test]
fn arms_of_different_prompts_and_files_that_were_cut_off_are_told() {
    let mut comparison = evaluated(&["kind=nll", "kind=cdiv"], 1);
    comparison.runs[1].parts[0].name = "Name another.\n".into();
    let page = render(&comparison);
    assert!(page.contains("they were evaluated on different prompts (1 and 1, of which 0 are the same)"), "{page}");
    assert!(numbers(&page)["tables"][0]["rows"][0]["cells"][1]["difference"].is_null());
    comparison.runs[1].points.clear();
    assert!(render(&comparison).contains("kind=cdiv,seed=1 has no numbers: its lines end before"));
}
