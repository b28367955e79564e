//! What is counted of samples, wherever they come from: a file, or draws on the spot. One line for each prompt, and the mean
//! over the prompts.

use std::collections::BTreeSet;

use datasets::Sampled;
use faults::{Fault, Faults};
use metrics::classes::judged;
use metrics::counts::ceiling;
use metrics::interval::Mean;
use metrics::pass_at_k::USUAL_K;
use metrics::points::dot;
use metrics::words::{different_words, spoken};
use metrics::{Points, Registry};
use serde_json::{Map, Value, json};

use super::Arguments;
use super::encoder::{Embedded, TextEncoder};
use super::judge::Without;
use crate::command::argument;

/// The least cosine of two samples that mean the same, where nothing is said.
const THRESHOLD: f64 = 0.8;

/// Who says which samples of a prompt mean the same.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Meaning {
    /// The file, for each ordered pair or by classes.
    File,
    /// Equal words: letter case, blanks and marks at the end of a word do not count.
    Exact,
    /// Embeddings that are so near each other.
    Encoder { threshold: f64 },
    /// Nobody: the samples have no text.
    Nobody,
}

/// How the samples of several prompts are counted.
pub(super) struct Counting<'a> {
    registry: Registry,
    /// False where the user has chosen some of them.
    all: bool,
    ks: Vec<usize>,
    vocabulary: usize,
    meaning: Meaning,
    encoder: Option<&'a TextEncoder>,
    /// The vectors of all samples, prompt after prompt, and where each prompt's begin.
    vectors: Option<(Embedded, Vec<usize>)>,
    /// Of each prompt the samples without a verdict, where a judge was asked.
    without: Option<Without>,
}

/// A prompt's numbers.
pub(super) struct Counted {
    /// By their keys.
    pub line: Map<String, Value>,
    /// The class of each sample among those that mean the same.
    pub classes: Option<Vec<usize>>,
}

/// Refuses settings that nothing can be counted with.
pub(super) fn check(arguments: &Arguments) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut check = |name: &str, is_right: bool, must: &str, hint: &str| {
        if !is_right {
            faults.push(Fault::new(format!("`--{name}` must {must}")).at(argument(name)).hint(hint));
        }
    };
    check("k", !arguments.k.contains(&0), "be at least 1", "pass@1 is the part of the samples that is right");
    let hint = "the size of the largest vocabulary of what is compared";
    check("vocabulary", arguments.vocabulary != Some(0), "be at least 1", hint);
    let threshold = arguments.threshold.is_none_or(|threshold| threshold > 0.0 && threshold <= 1.0);
    check("threshold", threshold, "be above 0 and at most 1", "1 asks for equal embeddings");
    faults
}

/// What one prompt has, all must have: a mean over some of them would not be one.
pub(super) fn refuse_mixtures(sampled: &[Sampled]) -> Result<(), Fault> {
    alike(sampled, "text", |prompt| prompt.texts.is_some())?;
    alike(sampled, "correct", |prompt| prompt.correct.is_some())?;
    alike(sampled, "score", |prompt| prompt.scores.is_some())?;
    alike(sampled, "partition", |prompt| prompt.classes.is_some())?;
    alike(sampled, "same", |prompt| prompt.same.is_some())
}

fn alike(sampled: &[Sampled], key: &str, has: impl Fn(&Sampled) -> bool) -> Result<(), Fault> {
    let with = sampled.iter().find(|prompt| has(prompt));
    match (with, sampled.iter().find(|prompt| !has(prompt))) {
        (Some(with), Some(without)) => {
            let message = format!("no row of {} has `{key}`, and rows of {} do", without.name, with.name);
            Err(Fault::new(message)
                .at(without.place.clone())
                .hint("put samples of different kinds into files of their own"))
        }
        _ => Ok(()),
    }
}

impl<'a> Counting<'a> {
    /// For these samples, which are embedded if there is an encoder.
    ///
    /// # Errors
    /// A `k` of pass@k that there are not enough samples for, or texts that cannot be embedded.
    pub(super) fn new(
        sampled: &[Sampled],
        arguments: &Arguments,
        encoder: Option<&'a TextEncoder>,
        without: Option<Without>,
    ) -> Result<Self, Faults> {
        let ks = ks(sampled, &arguments.k)?.into_iter().collect();
        let has_texts = sampled.iter().any(|prompt| prompt.texts.is_some());
        let all = || sampled.iter().filter_map(|prompt| prompt.texts.as_ref()).flatten();
        let vectors = match encoder {
            Some(encoder) => {
                let texts: Vec<String> = all().cloned().collect();
                let starts = sampled.iter().scan(0, |next, prompt| {
                    let start = *next;
                    *next += prompt.count;
                    Some(start)
                });
                Some((encoder.embed(&texts)?, starts.collect()))
            }
            None => None,
        };
        let is_judged = sampled.iter().any(|prompt| prompt.same.is_some() || prompt.classes.is_some());
        let of_encoder =
            encoder.and_then(|encoder| arguments.threshold.or(encoder.is_of_sentences().then_some(THRESHOLD)));
        let meaning = match (is_judged, has_texts, of_encoder) {
            (true, ..) => Meaning::File,
            (_, false, _) => Meaning::Nobody,
            (.., Some(threshold)) => Meaning::Encoder { threshold },
            _ => Meaning::Exact,
        };
        let vocabulary = arguments.vocabulary.unwrap_or_else(|| different_words(all()));
        Ok(Self {
            registry: arguments.registry(),
            all: arguments.metrics.is_empty(),
            ks,
            vocabulary,
            meaning,
            encoder,
            vectors,
            without,
        })
    }

    /// The numbers of the prompt at `index`.
    pub(super) fn measure(&self, index: usize, prompt: &Sampled) -> Counted {
        let mut line = Map::new();
        line.insert("samples".into(), json!(prompt.count));
        let (sizes, classes) = self.classes(index, prompt).unzip();
        let samples = metrics::Samples {
            texts: prompt.texts.as_deref(),
            clusters: sizes.as_deref(),
            classes: classes.as_deref(),
            scores: prompt.scores.as_deref(),
            vectors: self.vectors(index, prompt),
            correct: prompt.correct.as_deref(),
            ks: &self.ks,
            vocabulary: self.vocabulary,
            ..metrics::Samples::default()
        };
        for metric in &self.registry.samples {
            line.extend((metric.measure)(&samples).map(|measured| (metric.name.into(), json!(measured))));
        }
        line.extend(sizes.filter(|_| self.all).map(|sizes| ("clusters".into(), json!(sizes))));
        line.extend(self.without.as_ref().map(|without| ("without_verdict".into(), json!(without[index]))));
        Counted { line, classes }
    }

    /// The sizes of the clusters of samples that mean the same, and the class of each.
    fn classes(&self, index: usize, prompt: &Sampled) -> Option<(Vec<usize>, Vec<usize>)> {
        if let Some(classes) = &prompt.classes {
            // What is of one class is joined by it: each class is a component.
            return Some((judged(classes.len(), |i, j| classes[i] == classes[j]).0, classes.clone()));
        }
        let words =
            || -> Option<Vec<String>> { Some(prompt.texts.as_ref()?.iter().map(|text| spoken(text)).collect()) };
        Some(match self.meaning {
            Meaning::File => {
                let same = prompt.same.as_ref()?;
                judged(prompt.count, |i, j| same.contains(&(i, j)) && same.contains(&(j, i)))
            }
            Meaning::Exact => {
                let words = words()?;
                judged(prompt.count, |i, j| words[i] == words[j])
            }
            Meaning::Encoder { threshold } => {
                let (words, vectors) = (words()?, self.vectors(index, prompt)?);
                // Texts without a word have no embedding.
                judged(prompt.count, |i, j| words[i] == words[j] || dot(vectors.row(i), vectors.row(j)) >= threshold)
            }
            Meaning::Nobody => return None,
        })
    }

    /// The embeddings of the prompt at `index`.
    fn vectors(&self, index: usize, prompt: &Sampled) -> Option<Points<'_>> {
        let (Embedded { values, dimension }, starts) = self.vectors.as_ref()?;
        Some(Points::new(&values[starts[index] * dimension..][..prompt.count * dimension], *dimension))
    }

    /// The embeddings of all samples, prompt after prompt.
    pub(super) fn embedded(&self) -> Option<&Embedded> {
        self.vectors.as_ref().map(|(embedded, _)| embedded)
    }

    /// Whether the classes of samples are more than equal words.
    pub(super) fn knows_meanings(&self) -> bool {
        matches!(self.meaning, Meaning::File | Meaning::Encoder { .. })
    }

    /// The mean of every number over the prompts, with its standard error where there are several.
    pub(super) fn mean(&self, lines: &[Map<String, Value>]) -> Map<String, Value> {
        let mut line = Map::new();
        let sum = |key: &str| lines.iter().filter_map(|line| line[key].as_u64()).sum::<u64>();
        line.insert("prompts".into(), json!(lines.len()));
        line.insert("samples".into(), json!(sum("samples")));
        let (mut errors, mut without) = (Map::new(), Map::new());
        for metric in &self.registry.samples {
            without.extend(prompts_without(lines, metric.name));
            let Some((mean, error)) = mean_of(lines, metric.name) else { continue };
            line.insert(metric.name.into(), mean);
            errors.insert(metric.name.into(), error);
        }
        if self.without.is_some() {
            line.insert("without_verdict".into(), json!(sum("without_verdict")));
        }
        let keys = ["entropy", "relaxed_semantic_entropy"].into_iter().filter(|key| lines[0].contains_key(*key));
        let saturated: Map<String, Value> =
            keys.map(|key| (key.into(), json!(at_ceiling(lines, key).count()))).collect();
        if !saturated.is_empty() {
            line.insert("prompts_at_ceiling".into(), Value::Object(saturated));
        }
        let judge = match self.meaning {
            Meaning::File => Some("file"),
            Meaning::Exact => Some("exact"),
            Meaning::Encoder { .. } => Some("encoder"),
            Meaning::Nobody => None,
        };
        line.extend(judge.map(|judge| ("judge".into(), json!(judge))));
        if line.contains_key("ead") {
            line.insert("vocabulary".into(), json!(self.vocabulary));
        }
        line.extend(self.encoder.map(|encoder| ("encoder".into(), encoder.describe())));
        if !without.is_empty() {
            line.insert("prompts_without".into(), Value::Object(without));
        }
        if lines.len() > 1 && !errors.is_empty() {
            line.insert("standard_errors".into(), Value::Object(errors));
        }
        line
    }
}

/// The `k` to count: those asked for, or the usual ones, each of which every prompt must have the samples for.
fn ks(sampled: &[Sampled], asked: &[usize]) -> Result<BTreeSet<usize>, Fault> {
    let fewest = sampled.iter().min_by_key(|prompt| prompt.count);
    let Some(fewest) = fewest.filter(|prompt| prompt.correct.is_some()) else {
        return match asked {
            [] => Ok(BTreeSet::new()),
            _ => Err(Fault::new("`--k` has no effect: the samples do not say what is `correct`")
                .at(argument("k"))
                .hint("write `\"correct\": true` or `false` into each row, or have a program say so (`--judge`)")),
        };
    };
    if let Some(k) = asked.iter().find(|k| **k > fewest.count) {
        let message = format!("pass@{k} needs {k} samples, and {} has {}", fewest.name, fewest.count);
        return Err(Fault::new(message).at(fewest.place.clone()).hint("draw more samples, or lower `--k`"));
    }
    let chosen = if asked.is_empty() { &USUAL_K[..] } else { asked };
    Ok(chosen.iter().copied().filter(|k| *k <= fewest.count).collect())
}

/// The prompts whose entropy under `key` is as large as so many samples can have: it says how many there are.
fn at_ceiling<'a>(lines: &'a [Map<String, Value>], key: &'a str) -> impl Iterator<Item = usize> + 'a {
    lines.iter().filter_map(move |line| {
        let (count, entropy) = (line["samples"].as_u64()? as usize, line.get(key)?.as_f64()?);
        (count > 1 && entropy >= ceiling(count) - 1e-9).then_some(count)
    })
}

/// Tells of entropies that say how many samples there are and no more.
pub(super) fn tell_of_ceilings(lines: &[Map<String, Value>]) {
    for words in ["entropy", "relaxed_semantic_entropy"].into_iter().filter_map(|key| saturated(lines, key)) {
        tracing::warn!("{words}");
    }
}

/// The same in words, where there are such prompts.
fn saturated(lines: &[Map<String, Value>], key: &str) -> Option<String> {
    let mut counts: Vec<usize> = at_ceiling(lines, key).collect();
    let prompts = counts.len();
    counts.sort_unstable();
    counts.dedup();
    let most = match counts[..] {
        [] => return None,
        [count] => format!("ln {count} = {:.4}", ceiling(count)),
        _ => "the logarithm of the number of samples".into(),
    };
    let of = if lines.len() == 1 { "the prompt".into() } else { format!("{prompts} of {} prompts", lines.len()) };
    Some(format!(
        "`{key}` of {of} is at its ceiling, {most}: no two samples are the same, and it says how many there are; draw more \
         to tell how diverse they can be"
    ))
}

/// Tables by the number of samples. A mean over those prompts alone that have so many would be one of other prompts at each
/// number, and no curve: there is one where all have it.
const BY_SAMPLES: [&str; 2] = ["rarefied", "pass_at_k"];

/// How many prompts lack a number of `key` that others have, as two-word sequences where every answer is a word.
fn prompts_without(lines: &[Map<String, Value>], key: &str) -> Vec<(String, Value)> {
    let mut names: Vec<Option<&String>> = Vec::new();
    for value in lines.iter().filter_map(|line| line.get(key)) {
        let found: Vec<Option<&String>> = match value {
            Value::Object(table) => table.keys().map(Some).collect(),
            _ => vec![None],
        };
        names.extend(found.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
    }
    let has = |line: &Map<String, Value>, name: &Option<&String>| match (line.get(key), name) {
        (Some(value), Some(name)) => value.get(name.as_str()).is_some(),
        (value, _) => value.is_some(),
    };
    let counted = names.into_iter().map(|name| (name, lines.iter().filter(|line| !has(line, &name)).count()));
    let called = |name: Option<&String>| name.map_or(key.to_owned(), |name| format!("{key}.{name}"));
    counted.filter(|(_, count)| *count > 0).map(|(name, count)| (called(name), json!(count))).collect()
}

/// Mean and standard error of what stands under `key` over the prompts that have it: of each number, where that is a table
/// of numbers.
fn mean_of(lines: &[Map<String, Value>], key: &str) -> Option<(Value, Value)> {
    let over = |pick: &dyn Fn(&Value) -> Option<f64>| {
        let values: Vec<f64> = lines.iter().filter_map(|line| pick(line.get(key)?)).collect();
        let mean = (!values.is_empty()).then(|| Mean::of(&values))?;
        Some((json!(mean.mean), json!(mean.standard_error)))
    };
    let first = lines.iter().find_map(|line| line.get(key))?;
    let Value::Object(first) = first else { return over(&Value::as_f64) };
    let mut names: Vec<&String> = first.keys().collect();
    for table in lines.iter().filter_map(|line| line.get(key)?.as_object()) {
        names.extend(table.keys().filter(|name| !names.contains(name)).collect::<Vec<_>>());
    }
    if BY_SAMPLES.contains(&key) {
        names.retain(|name| lines.iter().all(|line| line.get(key).is_some_and(|v| v.get(name.as_str()).is_some())));
    }
    let found = names.into_iter().filter_map(|name| Some((name.clone(), over(&|value| value.get(name)?.as_f64())?)));
    let (means, errors) = found.map(|(name, (mean, error))| ((name.clone(), mean), (name, error))).unzip();
    Some((Value::Object(means), Value::Object(errors)))
}
