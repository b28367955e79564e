//! The grid: keys with their values as `--grid key=a,b` takes them, and the runs that its points are.

use std::collections::BTreeSet;

use faults::{Fault, Faults, Place};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The keys whose values make runs of one arm: of a recipe, and of what samples a model.
const SEEDS: [&str; 2] = ["seed", "sample.seed"];

/// Most bytes of a run's name: file systems take 255 of a name, endings included.
const LONGEST: usize = 200;

/// A key of the recipe and the values that it is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Axis {
    /// Dotted, as `--set` takes it.
    pub key: String,
    /// As TOML reads them; what is no TOML is a string.
    pub values: Vec<Value>,
    /// The same as they were typed.
    written: Vec<String>,
}

/// True for a key whose values make runs of one arm.
pub(super) fn is_seed(key: &str) -> bool {
    SEEDS.contains(&key)
}

/// A point of the grid.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    /// Of its run's folder and files.
    pub name: String,
    /// What it is without its seed.
    pub arm: String,
    /// The value of every key of the grid.
    pub settings: Map<String, Value>,
    /// The same as `--set` takes them.
    pub set: Vec<String>,
}

impl Axis {
    /// True for a key whose values make runs of one arm.
    pub(super) fn is_seed(&self) -> bool {
        is_seed(&self.key)
    }

    /// Reads `key=a,b`. Commas inside of brackets, braces and quotes belong to a value.
    ///
    /// # Errors
    /// No key, no value, or a value twice.
    pub(super) fn parse(written: &str) -> Result<Self, Fault> {
        let example = "write `KEY=VALUE,VALUE`, for example `objective.alpha=1.1,1.2`";
        let pair = written.split_once('=').map(|(key, values)| (key.trim(), values));
        let (key, values) = pair
            .filter(|(key, values)| !key.is_empty() && !values.trim().is_empty() && !written.contains('\n'))
            .ok_or_else(|| {
                Fault::new(format!("`{}` is no key with its values", written.escape_debug())).hint(example)
            })?;
        if key == "output.dir" {
            let hint = "each run has its own folder in that of the sweep: `--out` says where that is";
            return Err(Fault::new("`output.dir` cannot be a key of the grid").hint(hint));
        }
        let parts = split(values).map_err(|why| Fault::new(format!("the values of `{key}`: {why}")).hint(example))?;
        let texts: Vec<String> = parts.into_iter().map(|text| text.trim().to_owned()).collect();
        if texts.iter().any(String::is_empty) {
            return Err(Fault::new(format!("a value of `{key}` is empty")).hint(example));
        }
        let values: Vec<Value> = texts.iter().map(|text| read(text)).collect();
        let is_before = |at: &usize| values[..*at].iter().any(|before| is_same(before, &values[*at]));
        if let Some(twice) = (1..values.len()).find(is_before) {
            let message = format!("`{key}` has the value {} twice", texts[twice]);
            return Err(Fault::new(message).hint("leave one of them out"));
        }
        Ok(Self { key: key.into(), values, written: texts })
    }
}

/// Whether two values are one: as numbers `1` and `1.0` are.
fn is_same(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a == b)
}

/// Writes every value as it was written before, so that its runs keep their names: `1.4` stays that where `1.40` is typed.
pub(super) fn keep_written(axes: &mut [Axis], before: &[Axis]) {
    for axis in axes {
        let Some(before) = before.iter().find(|before| before.key == axis.key) else { continue };
        for (value, text) in axis.values.iter().zip(&mut axis.written) {
            if let Some(at) = before.values.iter().position(|known| is_same(known, value)) {
                text.clone_from(&before.written[at]);
            }
        }
    }
}

/// The text between commas that stand outside of brackets, braces and quotes.
///
/// # Errors
/// A quote or a bracket that is not closed.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0usize, None);
    // A quote inside of a word is a letter of it.
    let (mut begins, mut escaped) = (true, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), c) if c == open && !escaped => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if begins => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        escaped = false;
        begins = quote.is_none() && (c.is_whitespace() || [',', '[', '{', '='].contains(&c));
    }
    if let Some(open) = quote {
        return Err(format!("a quote {open} is not closed"));
    }
    if depth > 0 {
        return Err("a bracket is not closed".into());
    }
    parts.push(&text[start..]);
    Ok(parts)
}

/// A value as TOML reads it, or as a string, as with `--set`.
fn read(text: &str) -> Value {
    let table: Option<toml::Table> = toml::from_str(&format!("value = {text}")).ok();
    let value = table.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    value.and_then(|value| serde_json::to_value(value).ok()).unwrap_or_else(|| json!(text))
}

/// More runs than anyone waits for: each is a process with a folder of its own.
const MOST_POINTS: usize = 10_000;

/// Every point, the last key changing fastest, but the seed fastest of all: runs of one arm stand together. `recipe` names
/// the arm of a grid of seeds alone, and the grid stands at `place`.
///
/// # Errors
/// A key twice, and points whose names are too long or the same.
pub(super) fn points(axes: &[Axis], recipe: &str, place: &Place) -> Result<Vec<Point>, Faults> {
    let fault = |message: String| Fault::new(message).at(place.clone());
    let mut seen = BTreeSet::new();
    let twice = axes.iter().filter(|axis| !seen.insert(&axis.key));
    let hint = "give all its values at once, with commas between them";
    Faults::check(twice.map(|axis| fault(format!("`{}` is given twice", axis.key)).hint(hint)).collect())?;
    let count = axes.iter().fold(1usize, |count, axis| count.saturating_mul(axis.values.len()));
    if count > MOST_POINTS {
        let hint = "name fewer values, or split it into several sweeps";
        return Err(fault(format!("the grid has {count} points, more than {MOST_POINTS}")).hint(hint).into());
    }
    let mut ordered: Vec<&Axis> = axes.iter().filter(|axis| !axis.is_seed()).collect();
    ordered.extend(axes.iter().filter(|axis| axis.is_seed()));
    let mut points = vec![Point { name: String::new(), arm: String::new(), settings: Map::new(), set: Vec::new() }];
    for axis in ordered {
        let word = word(&axis.key, axes);
        let mut longer = Vec::new();
        for point in &points {
            for (value, text) in axis.values.iter().zip(&axis.written) {
                let mut next = point.clone();
                let part = format!("{word}={}", named(text));
                next.name = joined(&point.name, &part);
                if !axis.is_seed() {
                    next.arm = joined(&point.arm, &part);
                }
                next.settings.insert(axis.key.clone(), value.clone());
                next.set.push(format!("{}={text}", axis.key));
                longer.push(next);
            }
        }
        points = longer;
    }
    let mut names = BTreeSet::new();
    for point in &mut points {
        if point.arm.is_empty() {
            point.arm = plain(recipe);
        }
        if point.name.len() > LONGEST {
            let message = format!("the name of a run would be longer than {LONGEST} bytes: `{}`", point.name);
            return Err(fault(message).hint("write what is long into recipes, and make a sweep of each").into());
        }
        if !names.insert(point.name.clone()) {
            let message = format!("two runs would have the name `{}`", point.name);
            let hint = "names keep letters, digits and `._-+=,` of the values alone: make a sweep of each";
            return Err(fault(message).hint(hint).into());
        }
    }
    Ok(points)
}

fn joined(before: &str, part: &str) -> String {
    if before.is_empty() { part.into() } else { format!("{before},{part}") }
}

/// How a key is called in names: by its last word, or whole where two keys end alike.
fn word(key: &str, axes: &[Axis]) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let alike = axes.iter().filter(|axis| last(&axis.key) == last(key)).count();
    plain(&if alike > 1 { key.into() } else { last(key) })
}

/// A value in the name of a run; one of which nothing would be left, as an empty list, has a word.
fn named(value: &str) -> String {
    let kept = plain(value);
    if kept.is_empty() { "none".into() } else { kept }
}

/// A text as a part of a file's name: what separates folders is a `-`, and all else that shells or systems read is left out.
fn plain(text: &str) -> String {
    let keep = |c: char| match c {
        c if c.is_alphanumeric() || "._-+=,".contains(c) => Some(c),
        '/' | '\\' | ':' => Some('-'),
        _ => None,
    };
    text.chars().filter_map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(written: &[&str]) -> Vec<Axis> {
        written.iter().map(|written| Axis::parse(written).expect("a key with values")).collect()
    }

    fn of(axes: &[Axis], recipe: &str) -> Result<Vec<Point>, Faults> {
        points(axes, recipe, &Place::Named("the grid".into()))
    }

    #[test]
    fn quotes_and_brackets_hold_a_value_together_and_are_closed() {
        let written = |text: &str| Axis::parse(text).map(|axis| axis.written).map_err(|fault| fault.message);
        let values = |text: &str| written(text).unwrap_or_else(|message| panic!("{text}: {message}"));
        assert_eq!(values(r#"stop=",","\"","<b>""#), [r#"",""#, r#""\"""#, r#""<b>""#]);
        assert_eq!(values(r"stop='a,b','\','c'"), ["'a,b'", r"'\'", "'c'"]);
        assert_eq!(values("stop=don't,won't"), ["don't", "won't"]);
        assert_eq!(values(r#"objective={kind="nll"},{kind="cdiv",alpha=1.4}"#).len(), 2);
        for (text, words) in [
            (r#"stop="a"#, "a quote \" is not closed"),
            (r#"stop="a\""#, "a quote \" is not closed"),
            ("x=[1,2", "a bracket is not closed"),
            ("x=1,1.0", "has the value 1.0 twice"),
            ("x=1e-3,0.001", "has the value 0.001 twice"),
        ] {
            let found = written(text).expect_err(text);
            assert!(found.contains(words), "{text}: {found}");
        }
    }

    #[test]
    fn values_are_what_toml_reads_and_commas_inside_stay() {
        let [axis] = &axes(&["a.b= 1, 1.5,true,nll,[q_proj, v_proj],{kind = \"x,y\", alpha = 2}"])[..] else {
            panic!("one key");
        };
        assert_eq!(axis.key, "a.b");
        let expected = json!([1, 1.5, true, "nll", "[q_proj, v_proj]", {"kind": "x,y", "alpha": 2}]);
        assert_eq!(Value::from(axis.values.clone()), expected);
    }

    #[test]
    fn runs_of_one_arm_stand_together_wherever_the_seed_is_written() {
        let points = of(&axes(&["seed=1,2", "objective.kind=nll,cdiv"]), "recipe").expect("points");
        let names: Vec<(&str, &str)> = points.iter().map(|point| (&*point.name, &*point.arm)).collect();
        let expected = [
            ("kind=nll,seed=1", "kind=nll"),
            ("kind=nll,seed=2", "kind=nll"),
            ("kind=cdiv,seed=1", "kind=cdiv"),
            ("kind=cdiv,seed=2", "kind=cdiv"),
        ];
        assert_eq!(names, expected);
        assert_eq!(points[3].set, ["objective.kind=cdiv", "seed=2"]);
        assert_eq!(Value::Object(points[3].settings.clone()), json!({"objective.kind": "cdiv", "seed": 2}));
    }

    #[test]
    fn names_are_told_apart_and_fit_into_a_folder() {
        let two = of(&axes(&["adapter.kind=lora,dora", "objective.kind=nll"]), "r").expect("points");
        assert_eq!(two[1].name, "adapter.kind=dora,objective.kind=nll");
        let seeds = of(&axes(&["seed=1,2"]), "my recipe").expect("points");
        assert_eq!((&*seeds[1].name, &*seeds[1].arm), ("seed=2", "myrecipe"));
        let paths = of(&axes(&["model.path=org/a,../b"]), "r").expect("points");
        assert_eq!(paths[1].name, "path=..-b");
        let message = of(&axes(&["model.path=a/b,a-b"]), "r").expect_err("one name").to_string();
        assert!(message.contains("two runs would have the name `path=a-b`"), "{message}");
        let lists = of(&axes(&["auxiliary=[],[{kind=\"mtp\"}]"]), "r").expect("points");
        assert_eq!((&*lists[0].name, &*lists[1].name), ("auxiliary=none", "auxiliary=kind=mtp"));
        let long = format!("model.path={}", "x".repeat(300));
        assert!(of(&axes(&[&long]), "r").expect_err("a long name").to_string().contains("longer than 200 bytes"));
    }

    #[test]
    fn a_value_typed_another_way_keeps_the_name_of_its_run() {
        let before = axes(&["objective.alpha=1.4,2"]);
        let mut now = axes(&["objective.alpha=1.40,1.2,2"]);
        keep_written(&mut now, &before);
        let names: Vec<String> = of(&now, "r").expect("points").into_iter().map(|point| point.name).collect();
        assert_eq!(names, ["alpha=1.4", "alpha=1.2", "alpha=2"]);
    }

    #[test]
    fn what_is_no_grid_is_refused() {
        for (written, named) in [
            ("alpha", "`alpha` is no key with its values"),
            ("=1", "no key with"),
            ("alpha=", "no key with"),
            ("alpha=1,,2", "is empty"),
            ("seed=1,2,1", "the value 1 twice"),
            ("output.dir=a,b", "`output.dir`"),
        ] {
            let fault = Axis::parse(written).expect_err(written);
            assert!(fault.message.contains(named) && fault.hint.is_some(), "{written}: {}", fault.message);
        }
        let seeds: Vec<String> = (0..101).map(|seed| seed.to_string()).collect();
        let [a, b] = ["seed", "train.steps"].map(|key| format!("{key}={}", seeds.join(",")));
        let many = of(&axes(&[&a, &b]), "r").expect_err("too many").to_string();
        assert!(many.contains("the grid has 10201 points, more than 10000"), "{many}");
        let twice = of(&axes(&["seed=1", "seed=2"]), "r").expect_err("a key twice").to_string();
        assert!(twice.contains("`seed` is given twice"), "{twice}");
    }
}
