//! What is measured of prompts at each evaluation of a run: samples are drawn of each, and of rows with targets the exact
//! numbers are computed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use backbone::{Config, Decoder};
use checkpoints::Run;
use datasets::{Asking, Example, Format, Options, PrefixFree, Tokenizer, Way};
use faults::{Fault, Faults, counted};
use group::Group;
use metrics::classes::judged;
use metrics::interval::Mean;
use metrics::pass_at_k::USUAL_K;
use metrics::temperature::Sampler;
use metrics::words::{different_words, spoken};
use metrics::{Exact, Measured, Outcome, Registry, Samples};
use serde_json::{Map, Value, json};

use crate::engine::data::{Prompt, prompts};
use crate::engine::together::in_order;
use crate::evaluation::lines::{Lines, probabilities};
use crate::evaluation::{BUDGETS, KnownTargets, outcomes};
use crate::recipe::{Prompts, Recipe};
use crate::report::Numbers;
use crate::report::record::{EXACT, SAMPLES};
use crate::sampling::{DecoderRows, End, Sample, Settings, question, sample_some};

/// The temperatures of the exact numbers unless the recipe has others: each costs little beside the pass over the targets.
const TEMPERATURES: [f64; 8] = [0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0];

/// The prompts of a run's evaluations.
pub struct Observation {
    /// Each different prompt that is sampled.
    asked: Vec<Asked>,
    /// Rows with targets among them, and their prompts.
    targets: Vec<Example>,
    with_targets: Vec<Prompt>,
    /// Of the exact numbers, one for each temperature, in order.
    samplers: Vec<Sampler>,
    how: Prompts,
    seed: u64,
    /// What is said of the files, a sentence each.
    notices: Vec<String>,
}

/// The outcomes of a prompt, under each sampler.
type Found = Vec<Vec<Outcome>>;

/// A prompt that is sampled.
struct Asked {
    /// As the text that the model sees.
    text: String,
    ids: Vec<u32>,
    /// The answers that are right, where its row has targets.
    targets: Option<KnownTargets>,
}

impl Observation {
    /// Reads the prompts of a recipe, if it has any.
    ///
    /// # Errors
    /// Files that cannot be read, rows without a prompt, prompts that leave no room for an answer, settings that leave nothing to
    /// be measured, and a `checkpoint.best_by` that no evaluation will have.
    pub fn read(recipe: &Recipe, config: &Config, tokenizer: &Tokenizer) -> Result<Option<Self>, Faults> {
        let Some(how) = &recipe.eval.prompts else { return Ok(None) };
        let Files { mut asked, with_targets, renamed, notices } = Files::read(recipe, how, config, tokenizer)?;
        let mut known = HashSet::new();
        asked.retain(|(_, ids)| known.insert(ids.clone()));
        if let (true, Some(_)) = (with_targets.is_empty(), &how.temperatures) {
            return Err(Fault::new("`eval.temperatures` has no effect: no row of `eval.prompts` has targets")
                .at(recipe.places.of("eval.temperatures"))
                .hint("samples are drawn at `eval.temperature`")
                .into());
        }
        let targets = if with_targets.is_empty() {
            Vec::new()
        } else {
            let options = Options {
                format: Format::Auto,
                end_token: recipe.data.targets.end_token,
                prefix_free: PrefixFree::Warn,
                max_length: config.max_position_embeddings,
                model_limit: true,
                way: Way::Recipe,
                rename: renamed.into_iter().collect(),
                ignore: recipe.data.ignore.clone(),
                ..Options::default()
            };
            datasets::read(&with_targets, &options, tokenizer)?.examples
        };
        if targets.is_empty() && how.samples == 0 {
            return Err(Fault::new(
                "`eval.samples` = 0 leaves nothing to be measured: no row of `eval.prompts` has targets",
            )
            .at(recipe.places.of("eval.samples"))
            .hint("draw some, or name rows with targets")
            .into());
        }
        let most = how.max_prompts.unwrap_or(usize::MAX);
        let mut known: HashMap<&[u32], &[Example]> = HashMap::new();
        let of_targets = prompts(&targets);
        known.extend(of_targets.iter().map(|prompt| {
            let targets = &targets[prompt.targets.clone()];
            (targets[0].prompt(), targets)
        }));
        let with_known = |(text, ids): (String, Vec<u32>)| {
            let targets = known.get(&*ids).map(|targets| KnownTargets::of_examples(targets, tokenizer)).transpose()?;
            Ok(Asked { text, ids, targets })
        };
        let observation = Self {
            asked: spread(asked, most).into_iter().map(with_known).collect::<Result<_, Fault>>()?,
            with_targets: spread(of_targets, most),
            targets,
            samplers: samplers(how),
            how: how.clone(),
            seed: recipe.seed,
            notices,
        };
        let (by, known) = (&recipe.checkpoint.best_by, observation.names());
        if by.needs_prompts() && !known.iter().any(|name| name == by.name()) {
            let fault = by.missing(known.iter().map(String::as_str));
            return Err(Fault { place: None, ..fault }.or_at(recipe.places.of("checkpoint.best_by")).into());
        }
        Ok(Some(observation))
    }

    /// What is to be said of the files, a sentence each.
    pub fn notices(&self) -> impl Iterator<Item = String> + '_ {
        self.notices.iter().cloned()
    }

    /// The measurements, in the words of the plan.
    pub fn words(&self) -> String {
        let drawn = match self.how.samples {
            0 => String::new(),
            samples => {
                format!(", {} of each at temperature {}", counted(samples as u64, "sample"), self.how.temperature)
            }
        };
        let exact = match (self.with_targets.len() as u64, self.samplers.len() as u64) {
            (0, _) => String::new(),
            (prompts, temperatures) => {
                let targets: usize = self.with_targets.iter().map(|prompt| prompt.targets.len()).sum();
                let (prompts, targets) = (counted(prompts, "prompt"), counted(targets as u64, "target"));
                format!("; exactly {targets} of {prompts} at {}", counted(temperatures, "temperature"))
            }
        };
        format!("{}{drawn}{exact}", counted(self.asked.len() as u64, "prompt"))
    }

    /// The names of all numbers that an evaluation can have.
    fn names(&self) -> Vec<String> {
        let registry = Registry::default();
        let mut numbers = Numbers::new();
        if !self.targets.is_empty() {
            numbers.extend(exact_numbers(&Exact::new(vec![&[Outcome { p: 1.0, log_q: 0.0 }]], &BUDGETS), &registry));
        }
        // Texts long and different enough for every metric.
        let text = |sample| (0..16).map(|word| format!("{sample}.{word} ")).collect();
        let sample = |sample| Sample { ids: Vec::new(), text: text(sample), end: End::Token };
        if self.how.samples > 0 {
            let drawn: Vec<Sample> = (0..self.how.samples).map(sample).collect();
            let targets = (!self.targets.is_empty()).then(|| KnownTargets::new(["0.0"], true));
            numbers.extend(of_samples(&drawn, &[targets.as_ref()], &registry));
        }
        numbers.into_iter().map(|(name, _)| name).collect()
    }

    /// The numbers after a step; what is drawn goes to `samples/step-NNNNNN.jsonl` of the run, the exact numbers of every
    /// prompt and temperature to `evaluation/step-NNNNNN.jsonl`. Each process of the group takes its part of the prompts; the
    /// first, which has the run's folder, has the numbers, and the others none.
    ///
    /// # Errors
    /// A model whose numbers are not finite, a file that cannot be written, or another process that cannot go on.
    pub fn measure(
        &self,
        (decoder, tokenizer): (&Decoder, &Tokenizer),
        step: usize,
        run: Option<&Run>,
        group: &Group,
    ) -> Result<Vec<(String, Numbers)>, Faults> {
        let found = self.found(decoder, group)?;
        let drawn = self.draw(decoder, tokenizer, step, group)?;
        let Some(run) = run else { return Ok(Vec::new()) };
        let registry = Registry::default();
        let mut groups = Vec::new();
        if !self.targets.is_empty() {
            let (lines, numbers) = self.exact(&found, tokenizer, &format!("{}@{step}", run.folder().display()))?;
            run.write_file(format!("evaluation/step-{step:06}.jsonl"), lines.as_bytes())?;
            groups.push((EXACT.to_owned(), numbers));
        }
        if self.how.samples > 0 {
            run.write_file(format!("samples/step-{step:06}.jsonl"), self.lines(&drawn, step).as_bytes())?;
            let targets: Vec<Option<&KnownTargets>> = self.asked.iter().map(|asked| asked.targets.as_ref()).collect();
            groups.push((SAMPLES.to_owned(), of_samples(&drawn, &targets, &registry)));
        }
        Ok(groups)
    }

    /// Of each prompt with targets its outcomes, from the processes that have taken it.
    fn found(&self, decoder: &Decoder, group: &Group) -> Result<Vec<Found>, Fault> {
        let count = self.with_targets.len();
        let of = |prompt: usize| outcomes(decoder, &self.targets, &self.with_targets[prompt], &self.samplers);
        let own: Vec<Found> = group.share(count).map(of).collect::<Result<_, _>>()?;
        if !group.is_several() {
            return Ok(own);
        }
        // By their bits: JSON has no word for the log of 0.
        let bits = |Outcome { p, log_q }: &Outcome| [p.to_bits(), log_q.to_bits()];
        let own = own.iter().map(|found| found.iter().map(|all| all.iter().map(bits).collect()).collect()).collect();
        let all: Vec<Vec<Vec<[u64; 2]>>> = in_order(group, own, count)?;
        let outcome = |[p, log_q]: [u64; 2]| Outcome { p: f64::from_bits(p), log_q: f64::from_bits(log_q) };
        let of_sampler = |all: Vec<[u64; 2]>| all.into_iter().map(outcome).collect();
        Ok(all.into_iter().map(|found| found.into_iter().map(of_sampler).collect()).collect())
    }

    /// The lines that `trainer eval` prints of the same model, and the numbers at the temperature of the samples.
    fn exact(&self, found: &[Found], tokenizer: &Tokenizer, model: &str) -> Result<(String, Numbers), Fault> {
        let lines = Lines::new(model, BUDGETS.to_vec(), Registry::default());
        let mut all: Vec<Vec<Vec<Outcome>>> = vec![Vec::new(); self.samplers.len()];
        let mut text = String::new();
        for (index, (prompt, found)) in self.with_targets.iter().zip(found).enumerate() {
            let targets = &self.targets[prompt.targets.clone()];
            for ((sampler, outcomes), all) in self.samplers.iter().zip(found).zip(&mut all) {
                let mut line = lines.of_prompt(&targets[0], tokenizer, sampler, outcomes)?;
                // One whole distribution is enough for a picture; those of all prompts can be hundreds of thousands.
                if index == 0 && sampler.temperature == self.how.temperature {
                    line.insert("probabilities".into(), probabilities(targets, tokenizer, outcomes)?);
                }
                text += &faults::json::to_line(&Value::Object(line));
                text += "\n";
                all.push(outcomes.clone());
            }
        }
        let mut numbers = Numbers::new();
        for (sampler, outcomes) in self.samplers.iter().zip(&all) {
            let joint = lines.joint(outcomes);
            text += &faults::json::to_line(&Value::Object(lines.of_all(sampler, &joint)));
            text += "\n";
            if sampler.temperature == self.how.temperature {
                numbers = exact_numbers(&joint, &lines.registry);
            }
        }
        Ok((text, numbers))
    }

    /// All samples of the first prompt, then those of the next, from the processes that have taken them.
    fn draw(&self, decoder: &Decoder, tokenizer: &Tokenizer, step: usize, group: &Group) -> Result<Vec<Sample>, Fault> {
        let settings = Settings {
            sampler: Sampler::at(self.how.temperature),
            repetition_penalty: 1.0,
            max_tokens: self.how.max_tokens,
            stop: Vec::new(),
            seed: backbone::random::key(self.seed, &["evaluation", &step.to_string()]),
        };
        let count = self.asked.len();
        let own: Vec<_> = group.share(count).map(|prompt| (prompt, self.asked[prompt].ids.clone())).collect();
        let each = self.how.samples;
        let drawn = sample_some(&mut DecoderRows::new(decoder), tokenizer, &own, each, &settings)?;
        let of_prompts = drawn.chunks(each.max(1)).map(<[Sample]>::to_vec).collect();
        Ok(in_order::<Vec<Sample>>(group, of_prompts, if each == 0 { 0 } else { count })?.concat())
    }

    /// The samples as `trainer sample` writes them, with the step.
    fn lines(&self, drawn: &[Sample], step: usize) -> String {
        let of_prompts = self.asked.iter().zip(drawn.chunks(self.how.samples));
        let lines = of_prompts.flat_map(|(asked, samples)| {
            samples.iter().enumerate().map(move |(index, sample)| {
                let mut line = Map::new();
                line.insert("step".into(), json!(step));
                line.insert("prompt".into(), json!(asked.text));
                line.insert("sample".into(), json!(index));
                line.extend(sample.columns().map(|(key, value)| (key.into(), value)));
                let is_right = |targets: &KnownTargets| json!(says(targets, sample));
                line.extend(asked.targets.as_ref().map(|targets| ("correct".into(), is_right(targets))));
                format!("{}\n", faults::json::to_line(&Value::Object(line)))
            })
        });
        lines.collect()
    }
}

/// What the files of prompts say.
#[derive(Default)]
struct Files {
    /// The text and the tokens of each prompt.
    asked: Vec<(String, Vec<u32>)>,
    with_targets: Vec<PathBuf>,
    /// Of `data.rename` what these have.
    renamed: BTreeSet<(String, String)>,
    notices: Vec<String>,
}

impl Files {
    /// Prompts are asked as the training rows are, with `data.rename`, `data.ignore` and `data.chat`.
    fn read(recipe: &Recipe, how: &Prompts, config: &Config, tokenizer: &Tokenizer) -> Result<Self, Faults> {
        let rename = recipe.data.rename.pairs();
        let asking = Asking {
            rename: &rename,
            ignore: &recipe.data.ignore,
            columns: recipe.data.columns.as_ref(),
            chat: false,
            way: Way::Recipe,
        };
        let mut files = Self::default();
        for file in how.files.iter().map(PathBuf::from) {
            let found = datasets::read_prompts(&file, asking)
                .map_err(|faults| faults.map(|fault| fault.or_at(recipe.places.of("eval.prompts"))))?;
            let notices = found.notices(tokenizer);
            files.notices.extend(notices.iter().map(|notice| format!("prompts of evaluations: {notice}")));
            if found.rows.iter().any(|row| row.columns.contains_key("targets")) {
                files.with_targets.push(file);
                files.renamed.extend(found.renamed().iter().cloned());
            }
            for row in found.rows {
                let limit = config.max_position_embeddings;
                files.asked.push(question(&row, tokenizer, how.max_tokens, limit, Way::Recipe)?);
            }
        }
        Ok(files)
    }
}

/// At most `most` of `all`, spread evenly.
fn spread<T>(all: Vec<T>, most: usize) -> Vec<T> {
    let count = all.len();
    let kept = most.min(count);
    // The place i of `kept` is that of `i * count / kept`.
    let is_kept = |place: usize| (place * kept).div_ceil(count) * count / kept == place;
    all.into_iter().enumerate().filter(|(place, _)| is_kept(*place)).map(|(_, item)| item).collect()
}

fn samplers(how: &Prompts) -> Vec<Sampler> {
    let mut temperatures = how.temperatures.clone().unwrap_or_else(|| TEMPERATURES.to_vec());
    temperatures.push(how.temperature);
    temperatures.sort_by(f64::total_cmp);
    temperatures.dedup();
    temperatures.into_iter().map(Sampler::at).collect()
}

fn exact_numbers(exact: &Exact<'_>, registry: &Registry) -> Numbers {
    registry.exact.iter().flat_map(|metric| named(metric.name, &(metric.measure)(exact))).collect()
}

/// Whether a sample says one of the targets.
fn says(targets: &KnownTargets, sample: &Sample) -> bool {
    targets.find(&sample.text, sample.has_ended()).is_some()
}

/// The mean of every number over the prompts that have it, samples of equal words meaning the same; `targets` are those of each
/// prompt, all of which have as many samples.
fn of_samples(drawn: &[Sample], targets: &[Option<&KnownTargets>], registry: &Registry) -> Numbers {
    let count = drawn.len() / targets.len();
    let texts: Vec<String> = drawn.iter().map(|sample| sample.text.clone()).collect();
    let vocabulary = different_words(&texts);
    let ks: Vec<usize> = USUAL_K.into_iter().filter(|k| *k <= count).collect();
    let mut numbers: Vec<(String, Vec<f64>)> = Vec::new();
    for ((texts, samples), targets) in texts.chunks(count).zip(drawn.chunks(count)).zip(targets) {
        let words: Vec<String> = texts.iter().map(|text| spoken(text)).collect();
        let (sizes, classes) = judged(count, |i, j| words[i] == words[j]);
        let is_right = |targets: &&KnownTargets| samples.iter().map(|sample| says(targets, sample)).collect();
        let correct: Option<Vec<bool>> = targets.as_ref().map(is_right);
        let samples = Samples {
            texts: Some(texts),
            clusters: Some(&sizes),
            classes: Some(&classes),
            correct: correct.as_deref(),
            ks: &ks,
            vocabulary,
            ..Samples::default()
        };
        let measured =
            registry.samples.iter().filter_map(|metric| Some(named(metric.name, &(metric.measure)(&samples)?)));
        for (name, value) in measured.flatten() {
            match numbers.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => numbers.push((name, vec![value])),
            }
        }
    }
    numbers.into_iter().map(|(name, values)| (name, Mean::of(&values).mean)).collect()
}

/// The numbers of a metric by its name, those of a series with their setting: `coverage.100`.
fn named(name: &str, measured: &Measured) -> Numbers {
    let full = |setting: Option<&str>| setting.map_or_else(|| name.to_owned(), |setting| format!("{name}.{setting}"));
    measured.numbers().into_iter().map(|(setting, value)| (full(setting), value)).collect()
}
