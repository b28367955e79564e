//! What `tools/check_page.py` asks of a page in a browser, as far as it can be asked of the text of one: tags that close, no
//! empty picture or section, no number that is none, every number of a picture in the JSON.

use std::collections::BTreeSet;

use pages::grid::Grid;
use pages::samples::{Draw, Drawn};
use pages::training::Training;
use pages::{Comparison, read};
use serde_json::{Value, json};

/// Elements without an end.
const VOID: [&str; 4] = ["meta", "wbr", "br", "!doctype"];

/// Shapes that a picture draws its numbers with.
const SHAPES: [&str; 4] = ["polyline", "circle", "polygon", "path"];

/// A tag with its attributes, and the elements that it stands in.
#[derive(Debug)]
struct Tag<'a> {
    name: &'a str,
    attributes: Vec<(&'a str, &'a str)>,
    /// Places of those around it, the innermost last.
    within: Vec<usize>,
}

impl<'a> Tag<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.attributes.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }
}

/// The tags of a page, in order; panics where one does not close or a text has a sign that begins one.
fn tags(page: &str) -> Vec<Tag<'_>> {
    let (mut tags, mut open): (Vec<Tag<'_>>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        let end = rest[start..].find('>').expect("a tag ends") + start;
        let (inner, after) = (&rest[start + 1..end], &rest[end + 1..]);
        rest = after;
        let (name, attributes) = inner.trim_end_matches('/').split_once(char::is_whitespace).unwrap_or((inner, ""));
        let name = name.trim_end_matches('/');
        if let Some(name) = name.strip_prefix('/') {
            let opened = open.pop().map(|place| tags[place].name);
            assert_eq!(opened, Some(name), "closed before {}", &after[..after.len().min(80)]);
            continue;
        }
        assert!(name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '!'), "<{inner}> is a text");
        tags.push(Tag { name, attributes: attributes_of(attributes), within: open.clone() });
        if !inner.ends_with('/') && !VOID.contains(&name) {
            open.push(tags.len() - 1);
        }
        // Inside of these nothing is a tag.
        if ["script", "style"].contains(&name) {
            rest = &rest[rest.find(&format!("</{name}")).expect("it ends")..];
        }
    }
    assert!(open.is_empty(), "{open:?} are never closed");
    tags
}

fn attributes_of(text: &str) -> Vec<(&str, &str)> {
    let (mut found, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        let stop = rest.find(|letter: char| letter == '=' || letter.is_whitespace()).unwrap_or(rest.len());
        let key = &rest[..stop];
        rest = &rest[stop..];
        match rest.strip_prefix("=\"") {
            Some(value) => {
                let end = value.find('"').expect("an attribute ends");
                found.push((key, &value[..end]));
                rest = value[end + 1..].trim_start();
            }
            None => {
                found.push((key, ""));
                rest = rest.trim_start();
            }
        }
    }
    found
}

/// Every pair of numbers that the page's JSON has as `x` and `y`.
fn points(value: &Value, found: &mut BTreeSet<(String, String)>, lengths: &mut BTreeSet<usize>) {
    match value {
        Value::Object(object) => {
            if let (Some(x), Some(y)) =
                (object.get("x").and_then(Value::as_f64), object.get("y").and_then(Value::as_f64))
            {
                found.insert((x.to_string(), y.to_string()));
            }
            lengths.extend(object.get("points").and_then(Value::as_array).map(Vec::len));
            object.values().for_each(|value| points(value, found, lengths));
        }
        Value::Array(values) => values.iter().for_each(|value| points(value, found, lengths)),
        _ => {}
    }
}

#[track_caller]
fn is_sound(page: &str) {
    let all = tags(page);
    let (_, json) = page.split_once("id=\"numbers\">").expect("a block of JSON");
    let json: Value = serde_json::from_str(json.split_once("</script>").expect("its end").0).expect("JSON");
    let (mut known, mut lengths) = (BTreeSet::new(), BTreeSet::new());
    points(&json, &mut known, &mut lengths);
    let ids: Vec<&str> = all.iter().filter_map(|tag| tag.get("id")).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "an id is there twice: {ids:?}");
    for tag in &all {
        for (key, value) in &tag.attributes {
            assert!(!["src", "onload", "onclick"].contains(key), "<{} {key}> loads or runs something", tag.name);
            let target = match *key {
                "href" => Some(value.strip_prefix('#').unwrap_or_else(|| panic!("{value} is outside of the page"))),
                "for" | "aria-labelledby" | "aria-describedby" => Some(*value),
                _ => None,
            };
            assert!(target.is_none_or(|target| ids.contains(&target)), "{key}={value} leads nowhere");
            let is_number = ["points", "cx", "cy", "x", "y", "x1", "x2", "y1", "y2", "d", "viewBox"].contains(key);
            assert!(!(is_number && ["NaN", "inf"].iter().any(|none| value.contains(none))), "{key}={value}");
        }
        if let (Some(x), Some(y)) = (tag.get("data-x"), tag.get("data-y")) {
            assert!(known.contains(&(x.to_owned(), y.to_owned())), "{x} {y} is drawn and not in the JSON");
        }
        if let ("polyline", Some(drawn)) = (tag.name, tag.get("points")) {
            let count = drawn.split(' ').count();
            let is_legend = drawn == "0,5 20,5";
            assert!(is_legend || lengths.contains(&count), "no line of {count} points is in the JSON");
        }
    }
    for (place, svg) in all.iter().enumerate().filter(|(_, tag)| tag.name == "svg") {
        let is_hidden = svg.get("aria-hidden") == Some("true");
        assert!(is_hidden || svg.get("aria-label").is_some_and(|title| !title.is_empty()), "a picture without a title");
        let inside = all.iter().filter(|tag| tag.within.contains(&place));
        assert!(inside.filter(|tag| SHAPES.contains(&tag.name)).count() > 0, "{:?} is empty", svg.get("aria-label"));
    }
    let count =
        |name: &str, place: usize| all.iter().filter(|tag| tag.name == name && tag.within.contains(&place)).count();
    for (place, tag) in all.iter().enumerate() {
        match tag.name {
            "table" => assert!(count("tr", place) > 0, "a table without rows"),
            "details" => assert_eq!(all.get(place + 1).map(|tag| tag.name), Some("summary"), "folded without a word"),
            "h2" => {
                let next = all[place + 1..].iter().find(|other| other.within.len() == tag.within.len());
                assert!(next.is_some_and(|next| !["h2", "footer", "script"].contains(&next.name)), "an empty section");
            }
            _ => {}
        }
    }
    let colours: BTreeSet<&str> =
        page.split("var(--").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)).collect();
    // Widths of bars and shares of a colour stand at their elements.
    for colour in colours.into_iter().filter(|name| !["share", "width"].contains(name)) {
        assert!(page.contains(&format!("--{colour}:")), "the colour --{colour} is none");
    }
}

/// All that a page can have: seeds, many targets and few, samples of hostile texts, references, a grid, curves, a failure.
fn full() -> Comparison {
    let mut text = String::new();
    let arms = [("kind=nll", 0.0), ("kind=cdiv,alpha=1.4", 0.05), ("kind=cdiv,alpha=1.7", 0.08)];
    for ((arm, shift), seed) in arms.iter().flat_map(|arm| [1, 2, 3].map(|seed| (arm, seed))) {
        for (temperature, mass, f8) in [(0.5, 0.95, 0.2), (1.0, 0.7, 0.6), (2.0, 0.1, 0.3)] {
            let (model, f8) = (format!("runs/{arm},seed={seed}"), f8 + shift + 0.003 * f64::from(seed));
            for prompt in [Some(("Few?\n", 3)), Some(("Many?\n", 40)), None] {
                let target = |place: usize, count: usize| json!({"target": format!("<{place}>"), "p": 1.0 / count as f64, "q": 0.01});
                let targets = prompt.map(|(_, count)| (0..count).map(|place| target(place, count)).collect::<Vec<_>>());
                text += &format!(
                    "{}\n",
                    json!({"model": model, "file": prompt.map(|_| "f"), "line": prompt.map(|p| p.1),
                    "prompt": prompt.map(|p| p.0), "temperature": temperature, "targets": 43, "mass": mass, "f8": f8, "kl": null,
                    "loss": 2.0 - f8, "coverage": {"10": f8 / 3.0, "100": f8}, "perfect_coverage": {"10": 0.5, "100": 0.9},
                    "probabilities": targets})
                );
            }
            let side = |shift: f64| json!({"texts": 45, "precision": 0.9 - shift, "recall": 0.9 - shift, "coverage": 0.8 - shift});
            text += &format!(
                "{}\n",
                json!({"model": model, "file": "p", "prompt": null, "temperature": temperature,
                "references": "r", "texts": 90, "precision": mass, "recall": f8, "coverage": f8 / 2.0, "neighbours": 4,
                "ceiling": side(0.0), "floor": side(0.5)})
            );
        }
    }
    let mut comparison = Comparison { title: "<All> & \"more\"".into(), ..Comparison::default() };
    read::evaluations(&text, "file", &mut comparison.runs).expect("lines of an evaluation");
    let draw = |text: &str| Draw { text: text.into(), ..Draw::default() };
    let drawn = |model: &str| Drawn {
        model: model.into(),
        prompt: "Few?\n".into(),
        draws: ["<0>", "</li><script>", "", "\u{202e}x"].map(draw).into(),
        targets: None,
    };
    comparison.samples = arms.iter().map(|(arm, _)| drawn(arm)).collect();
    comparison.grid = Grid {
        keys: vec!["objective".into()],
        arms: arms.iter().map(|(arm, _)| ((*arm).into(), vec![arm.replace("kind=", "").replace(',', ", ")])).collect(),
    };
    comparison.training = comparison
        .runs
        .iter()
        .map(|run| Training {
            run: run.name.clone(),
            arm: run.arm.clone(),
            seed: run.seed,
            lines: (1..=90)
                .map(|step| json!({"split": "train", "step": step, "nll": 2.0 / f64::from(step), "entropy": null}))
                .collect(),
        })
        .collect();
    comparison.settings = vec![("recipe".into(), "<x>\n".repeat(200))];
    comparison.failures = (1..=5).map(|seed| (format!("kind=gold,seed={seed}"), "the <loss> is NaN".into())).collect();
    comparison.failures.push(("kind=gem,seed=1".into(), "out of memory".into()));
    comparison.notes = vec!["a & b".into()];
    comparison
}

#[test]
fn pages_are_sound_without_a_browser() {
    let whole = full();
    let page = pages::render(&whole).expect("the first is the baseline");
    is_sound(&page);
    for part in
        ["enlarged", "Against references", "<summary>Temperature 2", "Cumulative probability", "Samples side by side"]
    {
        assert!(page.contains(part), "{part} is not there");
    }
    let json = page.split_once("id=\"numbers\">").expect("JSON").1;
    assert!(page.matches("<figure").count() >= 15 && json.contains("\"labels\":[[\"kind=nll\",\"nll\"]"), "{json}");
    for runs in [0, 1, 3] {
        let fewer = Comparison { runs: whole.runs[..runs].to_vec(), ..whole.clone() };
        is_sound(&pages::render(&fewer).expect("a baseline"));
        is_sound(
            &pages::render(&Comparison { runs: whole.runs[..runs].to_vec(), ..Comparison::default() })
                .expect("a baseline"),
        );
    }
}

/// A check that finds nothing finds nothing wrong either.
#[test]
fn the_check_finds_what_is_wrong() {
    let page = pages::render(&full()).expect("the first is the baseline");
    let breaks: [(&str, &str); 8] = [
        ("</figure>", ""),
        ("data-x=\"0.6", "data-x=\"7.6"),
        ("points=\"", "points=\"NaN,0 "),
        (" role=\"img\" aria-label=\"", " role=\"img\" data-label=\""),
        ("<footer>", "<footer><a href=\"#nowhere\">x</a>"),
        ("<footer>", "<footer><svg aria-hidden=\"true\"></svg>"),
        ("<footer>", "<h2>Nothing</h2><footer>"),
        ("<footer>", "<footer>a <b"),
    ];
    for (from, to) in breaks {
        assert!(page.contains(from), "{from}");
        let broken = page.replacen(from, to, 1);
        assert!(std::panic::catch_unwind(|| is_sound(&broken)).is_err(), "{from} as {to} is not found");
    }
}
