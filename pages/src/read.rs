//! The lines of `trainer eval` and `trainer sample` as what a page compares: arms, each with its runs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::samples::Drawn;

/// Counts that say what was evaluated, and measure nothing.
const SIZES: [&str; 3] = ["targets", "rows", "tokens"];

/// The temperature and the numbers that were measured at it; those by a setting are named as `coverage@10`.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// What the logits were divided by.
    pub temperature: f64,
    /// Names and numbers in the order of the lines.
    pub values: Vec<(String, f64)>,
}

impl Point {
    /// The number of this name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

/// A model that was evaluated: one seed of an arm.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// As its lines name it.
    pub name: String,
    /// What was asked for and what else is the same for all seeds.
    pub arm: String,
    /// `None` where the name tells none.
    pub seed: Option<u64>,
    /// All prompts together, by rising temperature.
    pub points: Vec<Point>,
    /// The same of each prompt, or of each file of rows without targets.
    pub parts: Vec<(String, Vec<Point>)>,
    /// How much was evaluated, such as `targets`.
    pub sizes: Vec<(String, f64)>,
}

impl Run {
    /// A run without numbers, whose name tells its arm and its seed: `sweeps/x/runs/kind=nll,seed=1` is seed 1 of the arm
    /// `kind=nll`, and a name without `seed=` is an arm of its own.
    pub fn named(name: &str) -> Self {
        let (model, checkpoint) = name.split_once('@').map_or((name, ""), |(model, at)| (model, at));
        let last = model.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let (seeds, rest): (Vec<&str>, Vec<&str>) = last.split(',').partition(|part| part.starts_with("seed="));
        let seed = seeds.first().and_then(|part| part["seed=".len()..].parse().ok());
        let arm = match (seed, checkpoint) {
            (None, _) => name.to_owned(),
            (Some(_), "") => rest.join(","),
            (Some(_), at) => format!("{}@{at}", rest.join(",")),
        };
        let arm = if arm.is_empty() { "seed".into() } else { arm };
        Self { name: name.into(), arm, seed, points: Vec::new(), parts: Vec::new(), sizes: Vec::new() }
    }

    /// The curve of two numbers over temperature, where both were measured.
    pub fn curve(&self, x: &str, y: &str) -> Vec<(f64, f64)> {
        self.points.iter().filter_map(|point| Some((point.value(x)?, point.value(y)?))).collect()
    }

    /// What was measured at this temperature.
    pub fn at(&self, temperature: f64) -> Option<&Point> {
        at(&self.points, temperature)
    }
}

/// What was measured at this temperature.
pub fn at(points: &[Point], temperature: f64) -> Option<&Point> {
    points.iter().find(|point| point.temperature == temperature)
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// Adds the models of what `trainer eval` printed; models that are there already get the numbers that they lack.
///
/// # Errors
/// A line that is no object with a `model`, and a number that is given twice.
pub fn evaluations(text: &str, runs: &mut Vec<Run>) -> Result<(), Trouble> {
    for (number, line) in objects(text)? {
        let trouble = |message: String| Trouble { line: number, message };
        let Some(model) = line.get("model").and_then(Value::as_str) else {
            return Err(trouble("`model` is missing: this is no line of `trainer eval`".into()));
        };
        let temperature = match line.get("temperature") {
            None => 1.0,
            Some(value) => value.as_f64().ok_or_else(|| trouble("`temperature` is not a number".into()))?,
        };
        let place = runs.iter().position(|run| run.name == model).unwrap_or_else(|| {
            runs.push(Run::named(model));
            runs.len() - 1
        });
        let run = &mut runs[place];
        let words = |key: &str| line.get(key).and_then(Value::as_str);
        let total = words("prompt").is_none() && words("file").is_none();
        let part = words("prompt").or(words("file")).unwrap_or_default();
        let points = if total {
            &mut run.points
        } else {
            let place = run.parts.iter().position(|(name, _)| name == part).unwrap_or_else(|| {
                run.parts.push((part.into(), Vec::new()));
                run.parts.len() - 1
            });
            &mut run.parts[place].1
        };
        add(points, temperature, &line)
            .map_err(|key| trouble(format!("`{key}` of `{model}` at temperature {temperature} was given before")))?;
        if total {
            for key in SIZES {
                if let Some(size) = line.get(key).and_then(Value::as_f64)
                    && !run.sizes.iter().any(|(known, _)| known == key)
                {
                    run.sizes.push((key.into(), size));
                }
            }
        }
    }
    Ok(())
}

/// Adds the numbers of a line to those of its temperature; the key of one that is there, where there is one.
fn add(points: &mut Vec<Point>, temperature: f64, line: &Map<String, Value>) -> Result<(), String> {
    let place = points.iter().position(|point| point.temperature == temperature).unwrap_or_else(|| {
        let place = points.partition_point(|point| point.temperature < temperature);
        points.insert(place, Point { temperature, values: Vec::new() });
        place
    });
    let point = &mut points[place];
    // The entropy of a line with `nll` is one of tokens; with targets it is one of whole texts.
    let of_tokens = line.contains_key("nll");
    let mut put = |name: String, value: &Value| match value.as_f64() {
        _ if point.value(&name).is_some() => Err(name),
        Some(value) => {
            point.values.push((name, value));
            Ok(())
        }
        None => Ok(()),
    };
    for (key, value) in line {
        match value {
            _ if ["temperature", "line"].contains(&&key[..]) || SIZES.contains(&&key[..]) => {}
            Value::Object(series) => {
                series.iter().try_for_each(|(setting, value)| put(format!("{key}@{setting}"), value))?;
            }
            value if key == "entropy" && of_tokens => put("token_entropy".into(), value)?,
            value => put(key.clone(), value)?,
        }
    }
    Ok(())
}

/// The samples of what `trainer sample` printed, under the name of their model.
///
/// # Errors
/// A line without `text`.
pub fn samples(model: &str, text: &str) -> Result<Vec<Drawn>, Trouble> {
    let mut prompts: Vec<Drawn> = Vec::new();
    for (number, line) in objects(text)? {
        let words = |key: &str| line.get(key).and_then(Value::as_str);
        let Some(sample) = words("text") else {
            return Err(Trouble {
                line: number,
                message: "`text` is missing: this is no line of `trainer sample`".into(),
            });
        };
        let prompt = match (words("prompt"), line.get("messages")) {
            (Some(prompt), _) => prompt.to_owned(),
            (None, Some(messages)) => messages.to_string(),
            (None, None) => String::new(),
        };
        match prompts.iter_mut().find(|drawn| drawn.prompt == prompt) {
            Some(drawn) => drawn.texts.push(sample.into()),
            None => prompts.push(Drawn { model: model.into(), prompt, texts: vec![sample.into()] }),
        }
    }
    Ok(prompts)
}

/// The line's number from 1, and what stands in it.
type Object = (usize, Map<String, Value>);

fn objects(text: &str) -> Result<Vec<Object>, Trouble> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(place, line)| match serde_json::from_str(line) {
            Ok(Value::Object(object)) => Ok((place + 1, object)),
            Ok(_) => Err(Trouble { line: place + 1, message: "this is JSON, and no object".into() }),
            Err(error) => Err(Trouble { line: place + 1, message: format!("this is no JSON: {error}") }),
        })
        .collect()
}

/// The arms of runs in the order in which they come, each with its runs by seed.
pub fn arms(runs: &[Run]) -> Vec<(&str, Vec<&Run>)> {
    let mut order: Vec<&str> = Vec::new();
    let mut groups: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        if !groups.contains_key(&run.arm[..]) {
            order.push(&run.arm);
        }
        groups.entry(&run.arm).or_default().push(run);
    }
    let mut take = |arm| {
        let mut runs = groups.remove(arm).unwrap_or_default();
        runs.sort_by_key(|run| run.seed);
        (arm, runs)
    };
    order.into_iter().map(&mut take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_arm_and_its_seed() {
        for (name, arm, seed) in [
            ("sweeps/x/runs/kind=nll,seed=1", "kind=nll", Some(1)),
            ("runs/seed=2,kind=nll@best", "kind=nll@best", Some(2)),
            ("seed=3", "seed", Some(3)),
            ("builtin:tiny", "builtin:tiny", None),
            ("runs/a@400", "runs/a@400", None),
        ] {
            let run = Run::named(name);
            assert_eq!((&run.arm[..], run.seed), (arm, seed), "{name}");
        }
    }

    #[test]
    fn lines_become_points_of_all_prompts_and_of_each() {
        let text = r#"{"model":"m","file":"f","line":1,"prompt":"a","temperature":2.0,"targets":3,"mass":0.5,"coverage":{"10":0.25}}
{"model":"m","file":null,"line":null,"prompt":null,"temperature":2.0,"targets":7,"mass":0.4,"entropy":3.0}

{"model":"m","file":null,"rows":5,"tokens":9,"temperature":0.5,"nll":1.5,"entropy":2.0}
{"model":"m","file":null,"line":null,"prompt":null,"temperature":1,"targets":7,"mass":0.3,"kl":null}"#;
        let mut runs = Vec::new();
        evaluations(text, &mut runs).expect("lines of an evaluation");
        let [run] = &runs[..] else { panic!("{runs:?}") };
        assert_eq!(run.points.iter().map(|point| point.temperature).collect::<Vec<_>>(), [0.5, 1.0, 2.0]);
        assert_eq!(run.points[0].values, [("nll".to_owned(), 1.5), ("token_entropy".into(), 2.0)]);
        assert_eq!(run.points[1].values, [("mass".to_owned(), 0.3)]);
        assert_eq!(run.points[2].values, [("mass".to_owned(), 0.4), ("entropy".into(), 3.0)]);
        let (prompt, points) = &run.parts[0];
        assert_eq!((&prompt[..], points[0].value("coverage@10")), ("a", Some(0.25)));
        assert_eq!(run.sizes, [("targets".to_owned(), 7.0), ("rows".into(), 5.0), ("tokens".into(), 9.0)]);
    }

    #[test]
    fn a_line_of_something_else_is_named() {
        let fault = |text: &str| evaluations(text, &mut Vec::new()).expect_err(text);
        assert_eq!(fault("\n{\"loss\": 1}").line, 2);
        assert!(fault("[1]").message.contains("no object"));
        assert!(fault("{").message.contains("no JSON"));
        let twice = "{\"model\":\"m\",\"temperature\":1,\"mass\":0.1}\n".repeat(2);
        let fault = fault(&twice);
        assert!(fault.line == 2 && fault.message.contains("`mass` of `m` at temperature 1"), "{}", fault.message);
        assert_eq!(samples("m", "{\"prompt\": \"a\"}").expect_err("no text").line, 1);
    }
}
