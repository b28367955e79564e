//! The lines of `trainer eval` as what a page compares: arms, each with its runs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::keys::{BYTES, CUTS, PERFECT_COVERAGE, SIZES, TOKENS, is_about};
use crate::references::Referenced;

/// A target of a prompt with its probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// As the rows have it.
    pub text: String,
    /// The true probability.
    pub p: f64,
    /// The model's.
    pub q: f64,
}

/// What was measured at one temperature; numbers by a setting are named as `coverage@10`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Point {
    /// What the logits were divided by; `None` of samples, which do not say it.
    pub temperature: Option<f64>,
    /// Names and numbers in the order of the lines.
    pub values: Vec<(String, f64)>,
    /// Of a single prompt, where they were printed.
    pub targets: Vec<Target>,
    /// What a perfect model covers, by the number of samples, where it was printed.
    pub perfect_coverage: Vec<(f64, f64)>,
    /// Samples against references, where there are some.
    pub references: Option<Referenced>,
}

impl Point {
    /// The number of this name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The numbers of this name by their settings, rising.
    pub fn series(&self, name: &str) -> Vec<(f64, f64)> {
        let numbers = self.values.iter().filter_map(|(key, value)| {
            let (metric, setting) = key.split_once('@')?;
            let setting: f64 = setting.parse().ok()?;
            (metric == name).then_some((setting, *value))
        });
        let mut numbers: Vec<(f64, f64)> = numbers.collect();
        numbers.sort_by(|a, b| a.0.total_cmp(&b.0));
        numbers
    }
}

/// A prompt, or a file of rows without targets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Part {
    /// The prompt's text, or the file's name.
    pub name: String,
    /// True of a prompt.
    pub is_prompt: bool,
    /// The file and the line that it stands in.
    pub place: (String, u64),
    /// By rising temperature.
    pub points: Vec<Point>,
}

impl Part {
    /// True where it is the same prompt of the same line, whatever the path of its file is.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.name == other.name && self.place.1 == other.place.1
    }
}

/// A model that was evaluated: one seed of an arm.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// As its lines name it.
    pub name: String,
    /// What was asked for and what else is the same for all seeds.
    pub arm: String,
    /// `None` where the name tells none: such a model is a constant to all seeds of another arm.
    pub seed: Option<u64>,
    /// All prompts together, by rising temperature.
    pub points: Vec<Point>,
    /// The same of each prompt, or of each file of rows without targets.
    pub parts: Vec<Part>,
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
        Self { name: name.into(), arm, seed, ..Self::default() }
    }

    /// The curve of two numbers over temperature, where both were measured.
    pub fn curve(&self, x: &str, y: &str) -> Vec<(f64, f64)> {
        let points = self.points.iter().filter(|point| point.temperature.is_some());
        points.filter_map(|point| Some((point.value(x)?, point.value(y)?))).collect()
    }

    /// The same with the temperature in front.
    pub fn sweep(&self, x: &str, y: &str) -> Vec<(f64, f64, f64)> {
        self.points.iter().filter_map(|point| Some((point.temperature?, point.value(x)?, point.value(y)?))).collect()
    }

    /// What was measured at this temperature.
    pub fn at(&self, temperature: Option<f64>) -> Option<&Point> {
        at(&self.points, temperature)
    }

    /// True where both were measured on rows of as many bytes, whatever their tokens are.
    fn has_same_text(&self, other: &Self) -> bool {
        let bytes = self.size(BYTES).filter(|bytes| *bytes > 0.0);
        bytes.is_some() && bytes == other.size(BYTES)
    }

    /// True where a mean over tokens is a number of one unit in both: their rows have as many tokens.
    pub fn has_same_tokens(&self, other: &Self) -> bool {
        self.size(TOKENS) == other.size(TOKENS)
    }

    fn size(&self, name: &str) -> Option<f64> {
        self.sizes.iter().find(|(known, _)| known == name).map(|(_, size)| *size)
    }

    /// Why its numbers are not those of the same rows as another's; `None` where they are.
    pub fn unlike(&self, other: &Self) -> Option<String> {
        let asked = |run: &Self| {
            let mut names: Vec<String> = run.parts.iter().filter(|p| p.is_prompt).map(|p| p.name.clone()).collect();
            names.sort();
            names
        };
        let (own, others) = (asked(self), asked(other));
        if !own.is_empty() && !others.is_empty() && own != others {
            let shared = own.iter().filter(|name| others.contains(name)).count();
            return Some(format!(
                "they were evaluated on different prompts ({} and {}, of which {shared} are the same)",
                own.len(),
                others.len()
            ));
        }
        let has_same_text = self.has_same_text(other);
        let sizes = self.sizes.iter().filter(|(name, _)| !(has_same_text && name == TOKENS));
        sizes.into_iter().find_map(|(name, size)| {
            let (_, unequal) = other.sizes.iter().find(|(known, value)| known == name && value != size)?;
            // As many rows with other tokens and no word of their bytes are mostly those of two tokenizers.
            let why = match &name[..] {
                "tokens" => "on different rows, or with different tokenizers",
                _ => "on different rows",
            };
            Some(format!("they were evaluated {why} ({size} and {unequal} {name})"))
        })
    }
}

/// What was measured at this temperature.
pub fn at(points: &[Point], temperature: Option<f64>) -> Option<&Point> {
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

/// Adds the models of what `trainer eval` printed; models that are there already get the numbers that they lack. The lines
/// of `trainer eval --samples` name no model: theirs is `unnamed`, or where they are of several files that of the file.
///
/// # Errors
/// A line that is none of `trainer eval`, and a number that is given twice.
pub fn evaluations(text: &str, unnamed: &str, runs: &mut Vec<Run>) -> Result<(), Trouble> {
    let lines = objects(text)?;
    let without_model = lines.iter().filter(|(_, line)| !line.contains_key("model"));
    let mut files: Vec<&str> = without_model.filter_map(|(_, line)| line.get("file")?.as_str()).collect();
    files.dedup();
    let is_of_one = files.len() < 2;
    for (number, line) in &lines {
        let trouble = |message: String| Trouble { line: *number, message };
        let file = line.get("file").and_then(Value::as_str).filter(|_| !is_of_one);
        let file = file.map(|file| file.strip_suffix(".jsonl").unwrap_or(file));
        let (name, temperature) = model(line, file.unwrap_or(unnamed)).map_err(trouble)?;
        let place = runs.iter().position(|run| run.name == name).unwrap_or_else(|| {
            runs.push(Run::named(&name));
            runs.len() - 1
        });
        let run = &mut runs[place];
        let part = part(line);
        let is_total = part.is_none();
        let points = match part {
            None => &mut run.points,
            Some(part) => {
                let same = |known: &Part| (&known.name, &known.place) == (&part.name, &part.place);
                let place = run.parts.iter().position(same).unwrap_or_else(|| {
                    run.parts.push(part);
                    run.parts.len() - 1
                });
                &mut run.parts[place].points
            }
        };
        add(points, temperature, line).map_err(|key| {
            let at = temperature.map_or(String::new(), |temperature| format!(" at temperature {temperature}"));
            trouble(format!("`{key}` of `{name}`{at} was given before"))
        })?;
        if is_total {
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

/// The name of the model that a line is about, and its temperature.
fn model(line: &Map<String, Value>, unnamed: &str) -> Result<(String, Option<f64>), String> {
    let Some(model) = line.get("model").and_then(Value::as_str) else {
        return match line.contains_key("samples") || Referenced::is_in(line) {
            true => Ok((unnamed.to_owned(), line.get("temperature").and_then(Value::as_f64))),
            false => Err("`model` is missing: this is no line of `trainer eval`".into()),
        };
    };
    let temperature = match line.get("temperature") {
        None => return Err("`temperature` is missing".into()),
        Some(value) => value.as_f64().filter(|t| *t >= 0.0).ok_or("`temperature` is no number of 0 or more")?,
    };
    let cuts = CUTS.iter().filter_map(|key| Some(format!(" {key}={}", line.get(*key)?.as_f64()?)));
    Ok((format!("{model}{}", cuts.collect::<String>()), Some(temperature)))
}

/// The prompt or file that a line is about; `None` for all together.
fn part(line: &Map<String, Value>) -> Option<Part> {
    let words = |key: &str| line.get(key).filter(|value| !value.is_null()).map(as_text);
    // The mean over the prompts of samples says of how many, and references are compared with all of them.
    if line.contains_key("samples") && line.contains_key("prompts") || Referenced::is_in(line) {
        return None;
    }
    let (prompt, file) = (words("prompt").or_else(|| words("id")), words("file"));
    let name = prompt.clone().or_else(|| file.clone())?;
    let place = (file.unwrap_or_default(), line.get("line").and_then(Value::as_u64).unwrap_or_default());
    Some(Part { name, is_prompt: prompt.is_some(), place, points: Vec::new() })
}

/// A text as it is; the turns of a conversation one below the other.
pub fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(turns) if turns.iter().all(|turn| turn["content"].is_string()) => {
            let turn = |turn: &Value| {
                let words = |key: &str| turn[key].as_str().unwrap_or_default().to_owned();
                format!("{}: {}", words("role"), words("content"))
            };
            turns.iter().map(turn).collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}

/// Adds the numbers of a line to those of its temperature; the key of one that is there, where there is one.
fn add(points: &mut Vec<Point>, temperature: Option<f64>, line: &Map<String, Value>) -> Result<(), String> {
    let order = |t: Option<f64>| t.unwrap_or(-1.0);
    let place = points.iter().position(|point| point.temperature == temperature).unwrap_or_else(|| {
        let place = points.partition_point(|point| order(point.temperature) < order(temperature));
        points.insert(place, Point { temperature, ..Point::default() });
        place
    });
    let point = &mut points[place];
    if Referenced::is_in(line) {
        return match point.references.replace(Referenced::of(line)) {
            Some(_) => Err("references".into()),
            None => Ok(()),
        };
    }
    // The entropy of rows is one of tokens, that of samples one of their frequencies; with targets it is one
    // of whole texts.
    let has = |key: &str| line.contains_key(key);
    let entropy = match (has(TOKENS) || has("nll"), has("targets") || has("mass")) {
        (true, _) => "token_entropy",
        (false, true) => "entropy",
        (false, false) => "sample_entropy",
    };
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
            _ if is_about(key) => {}
            Value::Object(series) => {
                series.iter().try_for_each(|(setting, value)| put(format!("{key}@{setting}"), value))?;
            }
            value if key == "entropy" => put(entropy.into(), value)?,
            value => put(key.clone(), value)?,
        }
    }
    if let Some(Value::Array(targets)) = line.get("probabilities") {
        let target = |target: &Value| {
            let text = target["target"].as_str()?.to_owned();
            Some(Target { text, p: target["p"].as_f64()?, q: target["q"].as_f64()? })
        };
        point.targets = targets.iter().filter_map(target).collect();
    }
    if let Some(Value::Object(covered)) = line.get(PERFECT_COVERAGE) {
        let by_count = |(count, value): (&String, &Value)| Some((count.parse().ok()?, value.as_f64()?));
        point.perfect_coverage = covered.iter().filter_map(by_count).collect();
    }
    Ok(())
}

/// The line's number from 1, and what stands in it.
type Object = (usize, Map<String, Value>);

/// The objects of JSON Lines; empty lines are none.
///
/// # Errors
/// A line that is anything else.
pub fn objects(text: &str) -> Result<Vec<Object>, Trouble> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(place, line)| match serde_json::from_str(line) {
            Ok(Value::Object(object)) => Ok((place + 1, object)),
            Ok(_) => Err(Trouble { line: place + 1, message: "this is JSON, and no object".into() }),
            Err(error) => Err(Trouble { line: place + 1, message: format!("this is no JSON: {error}") }),
        })
        .collect()
}

/// An arm with its runs.
pub type Arm<'a> = (&'a str, Vec<&'a Run>);

/// The arms of runs in the order in which they come, each with its runs by seed.
pub fn arms(runs: &[Run]) -> Vec<Arm<'_>> {
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

/// Every temperature that something was measured at, rising.
pub fn temperatures(arms: &[Arm<'_>]) -> Vec<f64> {
    let points = arms.iter().flat_map(|(_, runs)| runs).flat_map(|run| &run.points);
    let mut temperatures: Vec<f64> = points.filter_map(|point| point.temperature).collect();
    temperatures.sort_by(f64::total_cmp);
    temperatures.dedup();
    temperatures
}

/// The one that is nearest to `wanted`.
pub fn nearest(temperatures: &[f64], wanted: f64) -> Option<f64> {
    temperatures.iter().copied().min_by(|a, b| (a - wanted).abs().total_cmp(&(b - wanted).abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Run> {
        let mut runs = Vec::new();
        evaluations(text, "file", &mut runs).expect("lines of an evaluation");
        runs
    }

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
        let runs = read(text);
        let [run] = &runs[..] else { panic!("{runs:?}") };
        let temperatures: Vec<_> = run.points.iter().map(|point| point.temperature).collect();
        assert_eq!(temperatures, [Some(0.5), Some(1.0), Some(2.0)]);
        assert_eq!(run.points[0].values, [("nll".to_owned(), 1.5), ("token_entropy".into(), 2.0)]);
        assert_eq!(run.points[1].values, [("mass".to_owned(), 0.3)]);
        assert_eq!(run.points[2].values, [("mass".to_owned(), 0.4), ("entropy".into(), 3.0)]);
        let part = &run.parts[0];
        assert_eq!((&part.name[..], part.points[0].series("coverage")), ("a", vec![(10.0, 0.25)]));
        assert_eq!(run.sizes, [("targets".to_owned(), 7.0), ("rows".into(), 5.0), ("tokens".into(), 9.0)]);
    }

    /// Two rows may ask the same; the same line twice is a fault.
    #[test]
    fn prompts_are_told_apart_by_their_line() {
        let line = |line: u64| {
            format!(
                "{{\"model\":\"m\",\"file\":\"f\",\"line\":{line},\"prompt\":\"a\",\"temperature\":1,\"mass\":0.5}}\n"
            )
        };
        assert_eq!(read(&(line(1) + &line(2)))[0].parts.len(), 2);
        let fault = evaluations(&(line(1) + &line(1)), "", &mut Vec::new()).expect_err("twice");
        assert_eq!(fault.line, 2);
    }

    #[test]
    fn probabilities_of_targets_and_cuts_are_read() {
        let text = r#"{"model":"m","file":"f","line":1,"prompt":"a","temperature":1,"top_k":5,"mass":0.5,"probabilities":[{"target":"x","p":1.0,"q":0.5}]}
{"model":"m","file":"f","line":1,"prompt":"a","temperature":1,"mass":0.6}"#;
        let runs = read(text);
        assert_eq!((&runs[0].name[..], &runs[1].name[..]), ("m top_k=5", "m"));
        let point = &runs[0].parts[0].points[0];
        assert_eq!(point.targets, [Target { text: "x".into(), p: 1.0, q: 0.5 }]);
        assert_eq!(point.values, [("mass".to_owned(), 0.5)]);
    }

    #[test]
    fn numbers_of_samples_have_the_name_of_their_file() {
        let text = r#"{"prompt":"a","samples":4,"distinct":3,"entropy":1.0,"pass_at_k":{"1":0.5},"clusters":[2,1,1]}
{"prompts":1,"samples":4,"distinct":3.0,"entropy":1.0,"pass_at_k":{"1":0.5},"judge":"exact"}"#;
        let runs = read(text);
        let [run] = &runs[..] else { panic!("{runs:?}") };
        assert_eq!((&run.name[..], run.points[0].temperature, run.parts.len()), ("file", None, 1));
        assert_eq!(run.points[0].series("pass_at_k"), [(1.0, 0.5)]);
        assert_eq!(run.points[0].value("sample_entropy"), Some(1.0));
    }

    #[test]
    fn runs_of_other_rows_are_told() {
        let of = |prompt: &str, targets: u64| {
            read(&format!(
                "{{\"model\":\"m\",\"file\":\"f\",\"prompt\":\"{prompt}\",\"temperature\":1,\"mass\":0.5}}\n\
                 {{\"model\":\"m\",\"prompt\":null,\"temperature\":1,\"targets\":{targets},\"mass\":0.5}}\n"
            ))
            .remove(0)
        };
        assert_eq!(of("a", 3).unlike(&of("a", 3)), None);
        assert!(
            of("a", 3).unlike(&of("b", 3)).is_some_and(|why| why.contains("different prompts (1 and 1, of which 0"))
        );
        assert!(of("a", 3).unlike(&of("a", 4)).is_some_and(|why| why.contains("(3 and 4 targets)")));
    }

    #[test]
    fn a_line_of_something_else_is_named() {
        let fault = |text: &str| evaluations(text, "", &mut Vec::new()).expect_err(text);
        assert_eq!(fault("\n{\"loss\": 1}").line, 2);
        assert!(fault("[1]").message.contains("no object"));
        assert!(fault("{").message.contains("no JSON"));
        assert!(fault("{\"model\":\"m\",\"mass\":1}").message.contains("`temperature` is missing"));
        assert!(
            fault("{\"model\":\"m\",\"temperature\":null,\"mass\":1}").message.contains("`temperature` is no number")
        );
        let twice = "{\"model\":\"m\",\"temperature\":1,\"mass\":0.1}\n".repeat(2);
        let fault = fault(&twice);
        assert!(fault.line == 2 && fault.message.contains("`mass` of `m` at temperature 1"), "{}", fault.message);
    }
}
