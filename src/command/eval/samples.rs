//! `trainer eval --samples`: diversity and success of samples that are there already.

use std::collections::BTreeSet;
use std::path::Path;

use backbone::EncoderFiles;
use datasets::{Sampled, Samples, read_samples};
use faults::{Fault, Faults};
use metrics::classes::judged;
use metrics::counts::ceiling;
use metrics::interval::Mean;
use metrics::points::dot;
use metrics::words::{different_words, spoken};
use metrics::{Points, Registry};
use serde_json::{Map, Value, json};

use super::Arguments;
use crate::command::{argument, open_device, print};

/// The `k` of pass@k where none is asked for, as far as every prompt has so many samples.
const USUAL: [usize; 3] = [1, 5, 10];

/// Who says which samples of a prompt mean the same.
enum Judge {
    /// The file, for each ordered pair.
    File,
    /// Equal words: letter case, blanks and marks at the end of a word do not count.
    Exact,
    /// Sentence embeddings, of every prompt the vectors of its samples, that are near each other.
    Encoder { vectors: Vec<Vec<f64>>, dimension: usize, threshold: f64 },
    /// Nobody: the samples have no text.
    Nobody,
}

/// A line for each prompt, and last the mean over the prompts.
pub fn run(file: &Path, arguments: &Arguments) -> Result<(), Faults> {
    check(arguments)?;
    let Samples { prompts: sampled, notices } = read_samples(file)?;
    for notice in notices {
        tracing::warn!("{notice}");
    }
    alike(&sampled, "text", |prompt| prompt.texts.is_some())?;
    alike(&sampled, "correct", |prompt| prompt.correct.is_some())?;
    alike(&sampled, "same", |prompt| prompt.same.is_some())?;
    let judge = judge(&sampled, arguments)?;
    let ks = ks(&sampled, &arguments.k)?.into_iter().collect();
    let texts = sampled.iter().filter_map(|prompt| prompt.texts.as_ref()).flatten();
    let vocabulary = arguments.vocabulary.unwrap_or_else(|| different_words(texts));
    let counting = Counting { registry: Registry::default(), ks, vocabulary };
    let lines: Vec<Map<String, Value>> =
        sampled.iter().enumerate().map(|(index, prompt)| measure(index, prompt, &judge, &counting)).collect();
    for line in &lines {
        print(&format!("{}\n", json!(line)))?;
    }
    print(&format!("{}\n", mean(&lines, &sampled, &judge, &counting.registry)))?;
    for words in ["entropy", "relaxed_semantic_entropy"].into_iter().filter_map(|key| saturated(&lines, key)) {
        tracing::warn!("{words}");
    }
    Ok(())
}

fn check(arguments: &Arguments) -> Result<(), Faults> {
    let mut faults = Vec::new();
    if arguments.k.contains(&0) {
        let fault = Fault::new("`--k` must be at least 1").at(argument("k"));
        faults.push(fault.hint("pass@1 is the part of the samples that is right"));
    }
    if arguments.vocabulary == Some(0) {
        let fault = Fault::new("`--vocabulary` must be at least 1").at(argument("vocabulary"));
        faults.push(fault.hint("the size of the largest vocabulary of what is compared"));
    }
    if !(arguments.threshold > 0.0 && arguments.threshold <= 1.0) {
        let fault = Fault::new("`--threshold` must be above 0 and at most 1").at(argument("threshold"));
        faults.push(fault.hint("1 asks for equal embeddings"));
    }
    Faults::check(faults)
}

/// What one prompt has, all must have: a mean over some of them would not be one.
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

fn judge(sampled: &[Sampled], arguments: &Arguments) -> Result<Judge, Faults> {
    let has_verdicts = sampled.iter().any(|prompt| prompt.same.is_some());
    let texts: Vec<String> = sampled.iter().filter_map(|prompt| prompt.texts.clone()).flatten().collect();
    let Some(encoder) = &arguments.encoder else {
        return Ok(match (has_verdicts, texts.is_empty()) {
            (true, _) => Judge::File,
            (_, true) => Judge::Nobody,
            _ => Judge::Exact,
        });
    };
    if has_verdicts || texts.is_empty() {
        let why = if has_verdicts { "the file says what is the `same`" } else { "the samples have no `text`" };
        let fault = Fault::new(format!("`--encoder` has nothing to judge: {why}")).at(argument("encoder"));
        return Err(fault.hint("leave it out").into());
    }
    let files = EncoderFiles::locate(encoder).map_err(|fault| fault.or_at(argument("encoder")))?;
    let dimension = files.dimension();
    let values = files.load(&open_device(&arguments.device)?)?.embed(&texts, &mut |_| {})?;
    let mut left = &values[..];
    let vectors = sampled.iter().map(|prompt| {
        let (vectors, rest) = left.split_at(prompt.count * dimension);
        left = rest;
        vectors.iter().map(|value| f64::from(*value)).collect()
    });
    Ok(Judge::Encoder { vectors: vectors.collect(), dimension, threshold: arguments.threshold })
}

/// The `k` to count: those asked for, or the usual ones, each of which every prompt must have the samples for.
fn ks(sampled: &[Sampled], asked: &[usize]) -> Result<BTreeSet<usize>, Fault> {
    let fewest = sampled.iter().min_by_key(|prompt| prompt.count);
    let Some(fewest) = fewest.filter(|prompt| prompt.correct.is_some()) else {
        return match asked {
            [] => Ok(BTreeSet::new()),
            _ => Err(Fault::new("`--k` has no effect: the samples do not say what is `correct`")
                .at(argument("k"))
                .hint("write `\"correct\": true` or `false` into each row")),
        };
    };
    if let Some(k) = asked.iter().find(|k| **k > fewest.count) {
        let message = format!("pass@{k} needs {k} samples, and {} has {}", fewest.name, fewest.count);
        return Err(Fault::new(message).at(fewest.place.clone()).hint("draw more samples, or lower `--k`"));
    }
    let chosen = if asked.is_empty() { &USUAL[..] } else { asked };
    Ok(chosen.iter().copied().filter(|k| *k <= fewest.count).collect())
}

fn measure(index: usize, prompt: &Sampled, judge: &Judge, counting: &Counting) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert(prompt.key.into(), prompt.name.clone());
    line.insert("samples".into(), json!(prompt.count));
    let same = judge.same(index, prompt);
    let (sizes, classes) = same.map(|same| judged(prompt.count, same)).unzip();
    let samples = metrics::Samples {
        texts: prompt.texts.as_deref(),
        clusters: sizes.as_deref(),
        classes: classes.as_deref(),
        vectors: judge.vectors(index),
        correct: prompt.correct.as_deref(),
        ks: &counting.ks,
        vocabulary: counting.vocabulary,
        ..metrics::Samples::default()
    };
    for metric in &counting.registry.samples {
        line.extend((metric.measure)(&samples).map(|measured| (metric.name.into(), json!(measured))));
    }
    line.extend(sizes.map(|sizes| ("clusters".into(), json!(sizes))));
    line
}

/// What is counted of every prompt.
struct Counting {
    registry: Registry,
    ks: Vec<usize>,
    vocabulary: usize,
}

impl Judge {
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::File => Some("file"),
            Self::Exact => Some("exact"),
            Self::Encoder { .. } => Some("encoder"),
            Self::Nobody => None,
        }
    }

    /// Whether two samples of the prompt at `index` mean the same.
    fn same<'a>(&'a self, index: usize, prompt: &'a Sampled) -> Option<Box<dyn Fn(usize, usize) -> bool + 'a>> {
        Some(match self {
            Self::File => {
                let same = prompt.same.as_ref()?;
                Box::new(|i, j| same.contains(&(i, j)) && same.contains(&(j, i)))
            }
            Self::Exact => {
                let words: Vec<String> = prompt.texts.as_ref()?.iter().map(|text| spoken(text)).collect();
                Box::new(move |i, j| words[i] == words[j])
            }
            Self::Encoder { threshold, .. } => {
                let words: Vec<String> = prompt.texts.as_ref()?.iter().map(|text| spoken(text)).collect();
                let vectors = self.vectors(index)?;
                // Texts without a word have no embedding.
                Box::new(move |i, j| words[i] == words[j] || dot(vectors.row(i), vectors.row(j)) >= *threshold)
            }
            Self::Nobody => return None,
        })
    }

    /// The embeddings of the prompt at `index`.
    fn vectors(&self, index: usize) -> Option<Points<'_>> {
        match self {
            Self::Encoder { vectors, dimension, .. } => Some(Points::new(&vectors[index], *dimension)),
            _ => None,
        }
    }
}

/// The prompts whose entropy under `key` is as large as so many samples can have: it says how many there are.
fn at_ceiling<'a>(lines: &'a [Map<String, Value>], key: &'a str) -> impl Iterator<Item = usize> + 'a {
    lines.iter().filter_map(move |line| {
        let (count, entropy) = (line["samples"].as_u64()? as usize, line.get(key)?.as_f64()?);
        (count > 1 && entropy >= ceiling(count) - 1e-9).then_some(count)
    })
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

/// The mean of every number over the prompts, with its standard error where there are several.
fn mean(lines: &[Map<String, Value>], sampled: &[Sampled], judge: &Judge, registry: &Registry) -> Value {
    let mut line = Map::new();
    line.insert("prompts".into(), json!(lines.len()));
    line.insert("samples".into(), json!(sampled.iter().map(|prompt| prompt.count).sum::<usize>()));
    let mut errors = Map::new();
    for metric in &registry.samples {
        let Some((mean, error)) = mean_of(lines, metric.name) else { continue };
        line.insert(metric.name.into(), mean);
        errors.insert(metric.name.into(), error);
    }
    let keys = ["entropy", "relaxed_semantic_entropy"].into_iter().filter(|key| lines[0].contains_key(*key));
    let saturated: Map<String, Value> = keys.map(|key| (key.into(), json!(at_ceiling(lines, key).count()))).collect();
    if !saturated.is_empty() {
        line.insert("prompts_at_ceiling".into(), Value::Object(saturated));
    }
    if let Some(judge) = judge.name() {
        line.insert("judge".into(), json!(judge));
    }
    if lines.len() > 1 && !errors.is_empty() {
        line.insert("standard_errors".into(), Value::Object(errors));
    }
    Value::Object(line)
}

/// Mean and standard error over the prompts of what stands under `key`: of each number, where that is a table of numbers.
fn mean_of(lines: &[Map<String, Value>], key: &str) -> Option<(Value, Value)> {
    let over = |pick: &dyn Fn(&Value) -> Option<f64>| {
        let values: Vec<f64> = lines.iter().filter_map(|line| pick(line.get(key)?)).collect();
        let mean = (!values.is_empty()).then(|| Mean::of(&values))?;
        Some((json!(mean.mean), json!(mean.standard_error)))
    };
    let first = lines.iter().find_map(|line| line.get(key))?;
    let Value::Object(first) = first else { return over(&Value::as_f64) };
    // Prompts with more samples may have more of them: what all have is a mean over all.
    let common =
        first.keys().filter(|name| lines.iter().all(|line| line.get(key).is_some_and(|v| v.get(name).is_some())));
    let found = common.filter_map(|name| Some((name.clone(), over(&|value| value.get(name)?.as_f64())?)));
    let (means, errors) = found.map(|(name, (mean, error))| ((name.clone(), mean), (name, error))).unzip();
    Some((Value::Object(means), Value::Object(errors)))
}
