//! `--references FILE`: samples against reference texts, both as embeddings, with what the references score against
//! themselves (the ceiling) and against those of other prompts (the floor).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use datasets::{Reference, Sampled, read_references};
use faults::{Fault, Faults, counted};
use metrics::manifold::{Fit, Ties, expected_coverage};
use metrics::{Compared, Protocol, Registry};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::Arguments;
use super::encoder::{Embedded, TextEncoder};
use crate::command::argument;

/// Lengths that differ by more than this, one side's median by the other's, are told of.
const FAR: f64 = 1.5;

/// What principal components are fitted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pca {
    /// Samples and references together, as published code has it: other samples, other axes.
    Union,
    /// The references alone: the same axes for every model.
    References,
}

/// References that are read and embedded.
pub(super) struct References {
    file: PathBuf,
    side: Side,
    /// Those without a word, which are left out.
    empty: usize,
    cut: usize,
    all: Vec<Reference>,
    protocol: Protocol,
    seed: u64,
    /// The numbers that are told.
    registry: Registry,
}

/// Texts with their vectors.
struct Side {
    texts: Vec<String>,
    /// What each answers, if that is known.
    groups: Vec<Option<String>>,
    values: Vec<f64>,
    dimension: usize,
}

impl References {
    /// Those that the command line names, if it names any.
    ///
    /// # Errors
    /// A file that cannot be read, or with too few texts for so many neighbours.
    pub(super) fn read(arguments: &Arguments) -> Result<Option<Vec<Reference>>, Faults> {
        let Some(file) = &arguments.references else { return Ok(None) };
        let read = read_references(file)?;
        for notice in read.notices {
            tracing::warn!("{notice}");
        }
        Ok(Some(read.texts))
    }

    /// Embeds them.
    ///
    /// # Errors
    /// Texts that cannot be embedded, or too few of them.
    pub(super) fn new(all: Vec<Reference>, encoder: &TextEncoder, arguments: &Arguments) -> Result<Self, Faults> {
        let file = arguments.references.clone().unwrap_or_default();
        let texts: Vec<String> = all.iter().map(|reference| reference.text.clone()).collect();
        let embedded = encoder.embed(&texts)?;
        let groups = all.iter().map(|reference| reference.id.as_ref().or(reference.prompt.as_ref()).map(named));
        let places = |index: usize| all[index].place.to_string();
        let (side, empty) = Side::new(texts.clone(), groups.collect(), &embedded, "reference", places);
        let protocol = Protocol {
            neighbours: arguments.neighbours,
            ties: if arguments.strict { Ties::Strict } else { Ties::Held },
            fit: match arguments.pca {
                Pca::Union => Fit::Union,
                Pca::References => Fit::References,
            },
            seed: arguments.seed(),
            ..Protocol::default()
        };
        refuse_few(side.texts.len(), &protocol, "reference", &file)?;
        let cut = encoder.cut(&side.texts)?;
        Ok(Self { file, side, empty, cut, all, protocol, seed: arguments.seed(), registry: arguments.registry() })
    }

    /// The numbers of samples against them. `origin` is where the samples come from.
    ///
    /// # Errors
    /// Too few samples for so many neighbours.
    pub(super) fn compare(
        &self,
        sampled: &[Sampled],
        embedded: &Embedded,
        encoder: &TextEncoder,
        origin: &Path,
    ) -> Result<Map<String, Value>, Faults> {
        let texts: Vec<String> = sampled.iter().filter_map(|prompt| prompt.texts.clone()).flatten().collect();
        let groups = sampled.iter().flat_map(|prompt| vec![Some(named(&prompt.name)); prompt.count]).collect();
        let rows: Vec<_> = sampled.iter().flat_map(|prompt| &prompt.rows).collect();
        let (samples, empty) = Side::new(texts, groups, embedded, "sample", |index| rows[index].1.to_string());
        refuse_few(samples.texts.len(), &self.protocol, "sample", origin)?;
        self.tell_of_other_prompts(sampled);
        let cut = encoder.cut(&samples.texts)?;
        let texts = samples.texts.len().min(self.side.texts.len());
        let (real, fake) = (self.drawn("references", &self.side), self.drawn("samples", &samples));
        let (used_real, used_fake) = (&real[..texts], &fake[..texts]);
        let compared = self.compared((&self.side, used_real), (&samples, used_fake));
        let compared = compared.expect("both sides have more texts than neighbours");
        let mut line = Map::new();
        line.insert("references".into(), json!(self.file.display().to_string()));
        line.insert("texts".into(), json!(texts));
        line.extend(self.numbers(&compared));
        line.insert("expected_coverage".into(), json!(expected_coverage(texts, texts, self.protocol.neighbours)));
        line.insert("ceiling".into(), self.ceiling(texts, &real));
        line.insert("floor".into(), self.floor(texts, &real));
        line.extend(pair("repeated", (&samples, used_fake), (&self.side, used_real), Side::repeated));
        line.insert("empty".into(), json!({"samples": empty, "references": self.empty}));
        let unused = |side: &Side| side.texts.len() - texts;
        line.insert("unused".into(), json!({"samples": unused(&samples), "references": unused(&self.side)}));
        line.insert("cut".into(), json!({"samples": cut, "references": self.cut}));
        line.extend(pair("words", (&samples, used_fake), (&self.side, used_real), Side::lengths));
        tell_of_lengths(&samples.lengths(used_fake), &self.side.lengths(used_real));
        line.insert("neighbours".into(), json!(self.protocol.neighbours));
        line.insert("ties".into(), json!(if self.protocol.ties == Ties::Strict { "strict" } else { "held" }));
        line.insert("pca".into(), json!(if self.protocol.fit == Fit::Union { "union" } else { "references" }));
        line.insert("components".into(), json!(compared.components));
        line.insert("clusters".into(), json!(compared.clusters));
        line.insert("seed".into(), json!(self.seed));
        line.insert("encoder".into(), encoder.describe());
        Ok(line)
    }

    fn numbers(&self, compared: &Compared) -> Map<String, Value> {
        let metrics = self.registry.compared.iter();
        metrics.map(|metric| (metric.name.into(), json!((metric.measure)(compared)))).collect()
    }

    /// The texts of a side in an order of the seed: the longer side is cut at its end.
    fn drawn(&self, name: &str, side: &Side) -> Vec<usize> {
        let mut order: Vec<usize> = (0..side.texts.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(backbone::random::key(self.seed, &["eval", name])));
        order
    }

    fn compared(&self, (real, of_real): (&Side, &[usize]), (fake, of_fake): (&Side, &[usize])) -> Option<Compared> {
        Compared::new(&real.values(of_real), &fake.values(of_fake), real.dimension, &self.protocol)
    }

    /// References against other references: as many as samples where there are twice so many, else their halves.
    fn ceiling(&self, texts: usize, order: &[usize]) -> Value {
        let half = texts.min(order.len() / 2);
        let (first, second) = (&order[..half], &order[half..2 * half]);
        let found = self.beside((&self.side, first), (&self.side, second));
        if found.is_null() {
            tracing::warn!("the ceiling is not known: half of the references are too few for so many neighbours");
        } else if half < texts {
            let all = order.len();
            tracing::warn!(
                "the ceiling is of {half} texts a side, for there are {all} references, and the samples' numbers are of {texts}: \
                 with {} references they would compare",
                2 * texts
            );
        }
        found
    }

    /// References against those of other prompts.
    fn floor(&self, texts: usize, order: &[usize]) -> Value {
        let known: BTreeSet<&String> = self.side.groups.iter().flatten().collect();
        if known.len() < 2 {
            tracing::warn!(
                "the floor is not known: the references do not name two prompts at least (`prompt` or `id`)"
            );
            return Value::Null;
        }
        let mut known: Vec<&String> = known.into_iter().collect();
        known.shuffle(&mut ChaCha8Rng::seed_from_u64(backbone::random::key(self.seed, &["eval", "prompts"])));
        let first: BTreeSet<&String> = known[..known.len() / 2].iter().copied().collect();
        let with_prompt = order.iter().copied().filter(|index| self.side.groups[*index].is_some());
        let (mut a, mut b): (Vec<usize>, Vec<usize>) =
            with_prompt.partition(|index| self.side.groups[*index].as_ref().is_some_and(|group| first.contains(group)));
        let each = texts.min(a.len()).min(b.len());
        a.truncate(each);
        b.truncate(each);
        let found = self.beside((&self.side, &a), (&self.side, &b));
        if found.is_null() {
            tracing::warn!(
                "the floor is not known: half of the prompts have too few references for so many neighbours"
            );
        }
        found
    }

    fn beside(&self, real: (&Side, &[usize]), fake: (&Side, &[usize])) -> Value {
        let Some(compared) = self.compared(real, fake) else { return Value::Null };
        let mut line = Map::new();
        line.insert("texts".into(), json!(real.1.len()));
        line.extend(self.numbers(&compared));
        Value::Object(line)
    }

    /// Tells of prompts that one side alone knows, where both name prompts.
    fn tell_of_other_prompts(&self, sampled: &[Sampled]) {
        let of_reference = |reference: &Reference| {
            let key = if sampled[0].key == "id" { &reference.id } else { &reference.prompt };
            key.as_ref().map(named)
        };
        let known: BTreeSet<String> = self.all.iter().filter_map(of_reference).collect();
        if known.is_empty() {
            return;
        }
        let asked: BTreeSet<String> = sampled.iter().map(|prompt| named(&prompt.name)).collect();
        let (more, fewer) = (asked.difference(&known).count(), known.difference(&asked).count());
        if more + fewer > 0 {
            tracing::warn!(
                "samples and references are of different prompts: {more} of {} have no reference, and {fewer} of {} have no \
                 sample; the numbers are of all texts",
                asked.len(),
                known.len()
            );
        }
    }
}

impl Side {
    /// Texts that have a word, and how many have none, of which the first are named.
    fn new(
        texts: Vec<String>,
        groups: Vec<Option<String>>,
        embedded: &Embedded,
        what: &str,
        place: impl Fn(usize) -> String,
    ) -> (Self, usize) {
        let dimension = embedded.dimension;
        let is_empty = |index: usize| {
            let vector = &embedded.values[index * dimension..][..dimension];
            texts[index].trim().is_empty() || vector.iter().all(|value| *value == 0.0)
        };
        let (empty, kept): (Vec<usize>, Vec<usize>) = (0..texts.len()).partition(|index| is_empty(*index));
        if !empty.is_empty() {
            let named: Vec<String> = empty.iter().take(3).map(|index| place(*index)).collect();
            let more = if empty.len() > named.len() { ", .." } else { "" };
            let count = counted(empty.len() as u64, what);
            tracing::warn!("{count} without a word, left out: {}{more}", named.join(", "));
        }
        let values =
            kept.iter().flat_map(|index| &embedded.values[index * dimension..][..dimension]).copied().collect();
        let side = Self {
            texts: kept.iter().map(|index| texts[*index].clone()).collect(),
            groups: kept.iter().map(|index| groups[*index].clone()).collect(),
            values,
            dimension,
        };
        (side, empty.len())
    }

    fn values(&self, chosen: &[usize]) -> Vec<f64> {
        chosen.iter().flat_map(|index| &self.values[index * self.dimension..][..self.dimension]).copied().collect()
    }

    /// The share of texts that are copies of an earlier one.
    fn repeated(&self, chosen: &[usize]) -> f64 {
        let different: BTreeSet<&String> = chosen.iter().map(|index| &self.texts[*index]).collect();
        (chosen.len() - different.len()) as f64 / chosen.len() as f64
    }

    /// Words of a text: the least, the quartiles, and the most.
    fn lengths(&self, chosen: &[usize]) -> BTreeMap<&'static str, usize> {
        let mut lengths: Vec<usize> =
            chosen.iter().map(|index| self.texts[*index].split_whitespace().count()).collect();
        lengths.sort_unstable();
        let at = |quarter: usize| lengths[(lengths.len() - 1) * quarter / 4];
        [("0", 0), ("0.25", 1), ("0.5", 2), ("0.75", 3), ("1", 4)].map(|(name, quarter)| (name, at(quarter))).into()
    }
}

/// Something of both sides.
fn pair<T: serde::Serialize>(
    key: &str,
    (samples, of_samples): (&Side, &[usize]),
    (references, of_references): (&Side, &[usize]),
    of: impl Fn(&Side, &[usize]) -> T,
) -> Option<(String, Value)> {
    let pair = json!({"samples": of(samples, of_samples), "references": of(references, of_references)});
    Some((key.to_owned(), pair))
}

fn tell_of_lengths(samples: &BTreeMap<&str, usize>, references: &BTreeMap<&str, usize>) {
    let (a, b) = (samples["0.5"] as f64, references["0.5"] as f64);
    if a.max(b) > FAR * a.min(b) {
        tracing::warn!(
            "samples have {a} words in the middle and references {b}: embeddings see lengths; cut both alike before they are \
             compared"
        );
    }
}

fn named(name: &Value) -> String {
    name.to_string()
}

fn refuse_few(texts: usize, protocol: &Protocol, what: &str, file: &Path) -> Result<(), Fault> {
    if texts > protocol.neighbours {
        return Ok(());
    }
    let (k, found) = (protocol.neighbours, counted(texts as u64, what));
    let fault = Fault::new(format!("{k} neighbours need {} texts a side at least, and there are {found}", k + 1));
    Err(fault
        .at(faults::Place::file(file))
        .hint("give more of them: some hundred a side say something, 4,000 are usual"))
}

/// Refuses settings that no comparison has.
pub(super) fn check(arguments: &Arguments) -> Vec<Fault> {
    let mut faults = Vec::new();
    if arguments.neighbours == 0 {
        let fault = Fault::new("`--neighbours` must be at least 1").at(argument("neighbours"));
        faults.push(fault.hint("4 is usual"));
    }
    if arguments.references.is_some() && arguments.encoder.is_none() {
        let fault = Fault::new("`--references` needs an `--encoder`, which makes vectors of texts");
        let hint = "a sentence encoder or any model, such as `--encoder sentence-transformers/all-MiniLM-L6-v2`";
        faults.push(fault.at(argument("references")).hint(hint));
    }
    faults
}
