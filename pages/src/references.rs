//! Samples against references: what `trainer eval --references` printed of them, beside what the references score against
//! themselves (the ceiling) and against those of other prompts (the floor).

use metrics::Registry;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::axis::range;
use crate::chart::{Ceiling, Figure};
use crate::figures::{View, lines};
use crate::number::plain;
use crate::read::{Arm, Run};

/// The column that only these lines have.
const REFERENCES: &str = "references";

/// Counts that stand beside the metrics, and how the row is called.
const COUNTS: [(&str, &str, &str); 4] = [
    ("/texts", "texts", "texts of each side that were compared: numbers of unequal counts do not compare"),
    ("/repeated/samples", "repeated_samples", "share of the samples that are copies of an earlier one"),
    ("/repeated/references", "repeated_references", "share of the references that are copies of an earlier one"),
    (
        "/expected_coverage",
        "expected_coverage",
        "coverage of a perfect model in expectation, by these counts and neighbours",
    ),
];

/// What decides the numbers: where it differs, they do not compare.
const SETTINGS: [&str; 6] = ["references", "encoder", "neighbours", "ties", "pca", "seed"];

/// The numbers of a line.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Referenced {
    /// Of the samples, then counts.
    pub values: Vec<(String, f64)>,
    /// Of references against other references.
    pub ceiling: Vec<(String, f64)>,
    /// Of references against those of other prompts.
    pub floor: Vec<(String, f64)>,
    /// How it was measured: names and values.
    pub settings: Vec<(String, String)>,
}

impl Referenced {
    /// True of a line about references.
    pub fn is_in(line: &Map<String, Value>) -> bool {
        line.contains_key(REFERENCES)
    }

    /// What the line says.
    pub fn of(line: &Map<String, Value>) -> Self {
        let whole = Value::Object(line.clone());
        let numbers = |of: &Value| -> Vec<(String, f64)> {
            let registry = Registry::default();
            registry.compared.iter().filter_map(|m| Some((m.name.to_owned(), of[m.name].as_f64()?))).collect()
        };
        let counts = |of: &Value, several: &[(&str, &str, &str)]| -> Vec<(String, f64)> {
            several.iter().filter_map(|(at, name, _)| Some(((*name).to_owned(), of.pointer(at)?.as_f64()?))).collect()
        };
        let texts = &COUNTS[..1];
        let setting = |key: &&str| {
            let text = match whole.get(*key)? {
                Value::String(text) => text.clone(),
                Value::Object(encoder) => format!(
                    "{} ({})",
                    encoder.get("name").and_then(Value::as_str).unwrap_or("unnamed"),
                    encoder.get("digest").and_then(Value::as_str).map_or("without a digest", |digest| {
                        // As much as tells two of them apart.
                        digest.get(..12).unwrap_or(digest)
                    })
                ),
                value => value.to_string(),
            };
            Some(((*key).to_owned(), text))
        };
        Self {
            values: [numbers(&whole), counts(&whole, &COUNTS)].concat(),
            ceiling: [numbers(&whole["ceiling"]), counts(&whole["ceiling"], texts)].concat(),
            floor: [numbers(&whole["floor"]), counts(&whole["floor"], texts)].concat(),
            settings: SETTINGS.iter().filter_map(setting).collect(),
        }
    }

    /// The number of this name.
    pub fn value(&self, name: &str) -> Option<f64> {
        value(&self.values, name)
    }

    /// Why its numbers do not compare with another's; `None` where they do.
    pub fn unlike(&self, other: &Self) -> Option<String> {
        let different = self.settings.iter().zip(&other.settings).find(|(own, others)| own != others);
        different.map(|((key, own), (_, others))| format!("`{key}` is {own} and {others}"))
    }
}

fn value(values: &[(String, f64)], name: &str) -> Option<f64> {
    values.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
}

/// What a row of this name is.
pub fn definition(name: &str) -> Option<(&'static str, metrics::Better)> {
    let registry = Registry::default();
    let of_metric = registry.compared.iter().find(|metric| metric.name == name);
    let of_count = COUNTS.iter().find(|(_, known, _)| *known == name);
    let of_metric = of_metric.map(|metric| (metric.definition, metric.better));
    of_metric.or_else(|| of_count.map(|(_, _, definition)| (*definition, metrics::Better::Neither)))
}

/// All that was measured against references at a temperature.
fn all<'a>(arms: &'a [Arm<'_>], temperature: Option<f64>) -> impl Iterator<Item = &'a Referenced> {
    let runs = arms.iter().flat_map(|(_, runs)| runs);
    runs.filter_map(move |run| of(run, temperature))
}

/// What was measured of a run.
pub fn of(run: &Run, temperature: Option<f64>) -> Option<&Referenced> {
    run.at(temperature)?.references.as_ref()
}

/// What the ceiling (or the floor) has of a number: one where all runs have the same, else from where to where.
pub fn bound(arms: &[Arm<'_>], temperature: Option<f64>, name: &str, is_floor: bool) -> (Vec<f64>, String) {
    let side = |found: &Referenced| value(if is_floor { &found.floor } else { &found.ceiling }, name);
    let mut values: Vec<f64> = all(arms, temperature).filter_map(side).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let text = match &values[..] {
        [] => String::new(),
        [one] => plain(*one),
        [low, .., high] => format!("{} to {}", plain(*low), plain(*high)),
    };
    (values, text)
}

/// How it was measured, and what of it differs between runs.
pub fn note(arms: &[Arm<'_>], temperature: Option<f64>) -> String {
    let Some(first) = all(arms, temperature).next() else { return String::new() };
    let settings: Vec<String> = first.settings.iter().map(|(key, value)| format!("{key} {value}")).collect();
    let texts = range(all(arms, temperature).filter_map(|found| found.value("texts")));
    let texts = texts.map_or(String::new(), |(low, high)| match low == high {
        true => format!("{} texts a side; ", plain(low)),
        false => format!("{} to {} texts a side, which do not quite compare; ", plain(low), plain(high)),
    });
    let unlike = all(arms, temperature).find_map(|other| first.unlike(other));
    let unlike = unlike.map_or(String::new(), |why| {
        format!(" They are measured in different ways ({why}): no differences are told between those.")
    });
    format!(
        "{texts}{}. Ceiling: references against other references; floor: against those of other prompts.{unlike}",
        settings.join(", ")
    )
}

/// Precision against recall and against coverage over temperature, where there are several points to draw.
pub fn frontiers(view: &View<'_>) -> Vec<Figure> {
    let recalls = [("recall", "recall (balls around samples)"), ("coverage", "coverage (balls around references)")];
    let figures = recalls.into_iter().map(|(key, name)| {
        let points = |run: &Run| {
            let point = |point: &crate::read::Point| {
                let found = point.references.as_ref()?;
                Some((found.value(key)?, found.value("precision")?, point.temperature?))
            };
            run.points.iter().filter_map(point).collect()
        };
        let marks = [(false, "ceiling"), (true, "floor")].into_iter().filter_map(|(is_floor, label)| {
            let found = view.arms.iter().flat_map(|(_, runs)| runs).flat_map(|run| &run.points);
            let found = found.filter_map(|point| point.references.as_ref());
            let mut both = found.filter_map(|found| {
                let side = if is_floor { &found.floor } else { &found.ceiling };
                Some((value(side, key)?, value(side, "precision")?))
            });
            // Those of other counts of texts differ a little, and the tables have all.
            let (x, y) = both.next()?;
            Some(Ceiling { x: Some(x), y, label: label.into() })
        });
        Figure {
            title: format!("Against references: precision and {key}, over temperature"),
            note: format!(
                "Dots are temperatures; the ring is {}. The ceiling is references against other references, the floor against \
                 those of other prompts.",
                plain(view.temperature)
            ),
            x: name.into(),
            y: "precision (balls around references)".into(),
            ceilings: marks.collect(),
            lines: lines(view, true, points),
            is_of_shares: true,
            ..Figure::default()
        }
    });
    figures.filter(|figure| figure.lines.iter().map(|line| line.points.len()).sum::<usize>() > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{arms, evaluations};
    use serde_json::json;

    fn line(model: &str, temperature: f64, precision: f64, neighbours: usize) -> String {
        let side =
            |shift: f64| json!({"texts": 45, "precision": 0.9 - shift, "recall": 0.92 - shift, "mauve": 0.97 - shift});
        let line = json!({"model": model, "file": "p.jsonl", "line": null, "prompt": null, "temperature": temperature,
            "references": "r.jsonl", "texts": 90, "precision": precision, "recall": 1.0 - precision, "coverage": 0.5, "mauve": 0.8,
            "ceiling": side(0.0), "floor": side(0.5), "repeated": {"samples": 0.25, "references": 0.0}, "neighbours": neighbours,
            "words": {"samples": {"0": 1}}, "clusters": 9, "encoder": {"name": "builtin:words", "digest": "ab"}});
        format!("{line}\n")
    }

    fn read(text: &str) -> Vec<Run> {
        let mut runs = Vec::new();
        evaluations(text, "file", &mut runs).expect("lines");
        runs
    }

    #[test]
    fn a_line_has_its_numbers_with_ceiling_and_floor() {
        let runs = read(&line("m", 0.5, 0.8, 4));
        let found = of(&runs[0], Some(0.5)).expect("references");
        let names: Vec<&str> = found.values.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(
            names,
            ["precision", "recall", "coverage", "mauve", "texts", "repeated_samples", "repeated_references"]
        );
        assert_eq!((value(&found.ceiling, "texts"), value(&found.floor, "precision")), (Some(45.0), Some(0.4)));
        assert!(runs[0].points[0].values.is_empty() && runs[0].parts.is_empty(), "they are no other metrics' numbers");
        assert!(definition("mauve").is_some_and(|(text, _)| !text.is_empty()) && definition("mass").is_none());
        let twice = evaluations(&line("m", 0.5, 0.8, 4).repeat(2), "", &mut Vec::new()).expect_err("twice");
        assert!(
            twice.line == 2 && twice.message.contains("`references` of `m` at temperature 0.5"),
            "{}",
            twice.message
        );
    }

    /// Of `trainer eval --samples a.jsonl b.jsonl --references ..` each file is a model.
    #[test]
    fn samples_of_files_are_named_by_their_file_where_there_are_several() {
        let of = |file: &str| {
            let lines = [
                json!({"file": file, "prompt": "p", "samples": 4, "distinct": 2}),
                json!({"file": file, "prompts": 1, "samples": 4, "distinct": 2.0}),
                json!({"file": file, "references": "r.jsonl", "precision": 0.5}),
            ];
            lines.map(|line| format!("{line}\n")).concat()
        };
        let one = read(&of("s/a.jsonl"));
        assert_eq!((&one[0].name[..], one.len()), ("file", 1));
        let two = read(&(of("s/kind=nll,seed=1.jsonl") + &of("s/b.jsonl")));
        let names: Vec<(&str, Option<u64>)> = two.iter().map(|run| (&run.arm[..], run.seed)).collect();
        assert_eq!(names, [("kind=nll", Some(1)), ("s/b", None)]);
        assert!(two.iter().all(|run| run.parts.len() == 1 && super::of(run, None).is_some()));
    }

    #[test]
    fn the_picture_has_a_line_over_temperature_and_both_marks() {
        let runs = read(&(line("m", 0.5, 0.8, 4) + &line("m", 1.0, 0.6, 4)));
        let view = View { arms: &arms(&runs), temperature: 1.0, ceiling: Vec::new() };
        let [recall, coverage] = &frontiers(&view)[..] else { panic!("two pictures") };
        let points: Vec<(f64, f64, &str)> =
            recall.lines[0].points.iter().map(|dot| (dot.x, dot.y, &dot.label[..])).collect();
        assert_eq!(points, [(1.0 - 0.8, 0.8, "T 0.5"), (0.4, 0.6, "T 1")]);
        assert!(recall.lines[0].points[1].ringed);
        let marks: Vec<_> = recall.ceilings.iter().map(|mark| (&mark.label[..], mark.x, mark.y)).collect();
        assert_eq!(marks, [("ceiling", Some(0.92), 0.9), ("floor", Some(0.92 - 0.5), 0.9 - 0.5)]);
        // There is no coverage of references against references here.
        assert!(coverage.ceilings.is_empty());
        let single = read(&line("m", 0.5, 0.8, 4));
        assert!(frontiers(&View { arms: &arms(&single), temperature: 1.0, ceiling: Vec::new() }).is_empty());
    }

    #[test]
    fn bounds_are_one_number_or_a_range_and_what_differs_is_told() {
        let runs = read(&(line("m", 1.0, 0.8, 4) + &line("n", 1.0, 0.6, 5)));
        let all = arms(&runs);
        assert_eq!(bound(&all, Some(1.0), "precision", true), (vec![0.4], "0.4".into()));
        assert_eq!(bound(&all, Some(1.0), "density", false), (Vec::new(), String::new()));
        let note = note(&all, Some(1.0));
        assert!(
            note.starts_with("90 texts a side; references r.jsonl, encoder builtin:words (ab), neighbours 4"),
            "{note}"
        );
        assert!(note.contains("(`neighbours` is 4 and 5): no differences"), "{note}");
    }
}
