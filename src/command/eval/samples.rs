//! `trainer eval --samples`: diversity and success of samples that are there already.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use backbone::EncoderFiles;
use datasets::{Sampled, Samples, read_samples};
use faults::{Fault, Faults};
use serde_json::{Map, Value, json};

use super::Arguments;
use crate::command::{argument, open_device, print};
use crate::metrics::{ceiling, clusters, entropy, pass_at_k, relaxed_semantic_entropy};

/// The `k` of pass@k where none is asked for, as far as every prompt has so many samples.
const USUAL: [usize; 3] = [1, 5, 10];

/// Who says which samples of a prompt mean the same.
enum Judge {
    /// The file, for each ordered pair.
    File,
    /// Equal words: letter case, blanks and marks at the end of a word do not count.
    Exact,
    /// Sentence embeddings, of every prompt the vectors of its samples, that are near each other.
    Encoder { vectors: Vec<Vec<f32>>, dimension: usize, threshold: f64 },
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
    let ks = ks(&sampled, &arguments.k)?;
    let lines: Vec<Map<String, Value>> =
        sampled.iter().enumerate().map(|(index, prompt)| measure(index, prompt, &judge, &ks)).collect();
    for line in &lines {
        print(&format!("{}\n", json!(line)))?;
    }
    print(&format!("{}\n", mean(&lines, &sampled, &judge)))?;
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
        vectors.to_vec()
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

fn measure(index: usize, prompt: &Sampled, judge: &Judge, ks: &BTreeSet<usize>) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert(prompt.key.into(), prompt.name.clone());
    line.insert("samples".into(), json!(prompt.count));
    if let Some(texts) = &prompt.texts {
        line.insert("distinct".into(), json!(texts.iter().collect::<BTreeSet<_>>().len()));
        line.insert("entropy".into(), json!(entropy(texts)));
    }
    if let Some(sizes) = judge.clusters(index, prompt) {
        line.insert("relaxed_semantic_entropy".into(), json!(relaxed_semantic_entropy(&sizes)));
        line.insert("clusters".into(), json!(sizes));
    }
    if let Some(correct) = &prompt.correct {
        let right = correct.iter().filter(|correct| **correct).count();
        line.insert("correct".into(), json!(right));
        let passes = ks.iter().map(|k| (k.to_string(), json!(pass_at_k(prompt.count, right, *k))));
        line.insert("pass_at_k".into(), Value::Object(passes.collect()));
    }
    line
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

    /// Sizes of the clusters of the prompt at `index`.
    fn clusters(&self, index: usize, prompt: &Sampled) -> Option<Vec<usize>> {
        let count = prompt.count;
        Some(match self {
            Self::File => {
                let same = prompt.same.as_ref()?;
                let both = same.iter().copied().filter(|(i, j)| same.contains(&(*j, *i)));
                clusters(count, both)
            }
            Self::Exact => clusters(count, equal(prompt.texts.as_ref()?)),
            Self::Encoder { vectors, dimension, threshold } => {
                let texts = prompt.texts.as_ref()?;
                let vectors: Vec<&[f32]> = vectors[index].chunks(*dimension).collect();
                let near = |(i, j): &(usize, usize)| cosine(vectors[*i], vectors[*j]) >= *threshold;
                let pairs = (0..count).flat_map(|i| (i + 1..count).map(move |j| (i, j))).filter(near);
                // Texts without a word have no embedding.
                clusters(count, pairs.chain(equal(texts)))
            }
            Self::Nobody => return None,
        })
    }
}

/// Each text with the first one that it equals, but for letter case, blanks and marks at the end of words. What stands
/// inside of a word or before it counts: `-5` is not `5`, and `3.5` not `35`.
fn equal(texts: &[String]) -> Vec<(usize, usize)> {
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    let words = |text: &str| {
        let bare = text.split_whitespace().map(|word| word.trim_end_matches(['.', ',', ';', ':', '!', '?']));
        let words: Vec<&str> = bare.filter(|word| !word.is_empty()).collect();
        // A text of marks alone is what it is.
        if words.is_empty() { text.trim().to_owned() } else { words.join(" ").to_lowercase() }
    };
    texts.iter().enumerate().map(|(index, text)| (*first.entry(words(text)).or_insert(index), index)).collect()
}

/// Of vectors of unit length.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
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

/// The mean of every number over the prompts.
fn mean(lines: &[Map<String, Value>], sampled: &[Sampled], judge: &Judge) -> Value {
    let mean = |pointer: &dyn Fn(&Map<String, Value>) -> Option<f64>| -> Option<f64> {
        let values: Vec<f64> = lines.iter().filter_map(pointer).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let mut line = Map::new();
    line.insert("prompts".into(), json!(lines.len()));
    line.insert("samples".into(), json!(sampled.iter().map(|prompt| prompt.count).sum::<usize>()));
    for key in ["distinct", "entropy", "relaxed_semantic_entropy"] {
        if let Some(mean) = mean(&|line| line.get(key)?.as_f64()) {
            line.insert(key.into(), json!(mean));
        }
    }
    let keys = ["entropy", "relaxed_semantic_entropy"].into_iter().filter(|key| lines[0].contains_key(*key));
    let saturated: Map<String, Value> = keys.map(|key| (key.into(), json!(at_ceiling(lines, key).count()))).collect();
    if !saturated.is_empty() {
        line.insert("prompts_at_ceiling".into(), Value::Object(saturated));
    }
    if let Some(judge) = judge.name() {
        line.insert("judge".into(), json!(judge));
    }
    if let Some(Value::Object(passes)) = lines[0].get("pass_at_k") {
        let mean_of = |k: &String| (k.clone(), json!(mean(&|line| line.get("pass_at_k")?.get(k)?.as_f64())));
        line.insert("pass_at_k".into(), Value::Object(passes.keys().map(mean_of).collect()));
    }
    Value::Object(line)
}
