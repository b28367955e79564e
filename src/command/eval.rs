//! `trainer eval`: what a model gives to rows, exactly; and how diverse and how right samples are, drawn on the spot or by any
//! program.

mod chosen;
mod counted;
mod drawn;
mod encoder;
mod exact_match;
mod held_out;
mod judge;
mod lines;
mod novelty;
mod prompts;
mod references;
mod samples;
mod targets;

use std::path::PathBuf;

use clap::Args;
use datasets::{ChatColumns, Dataset, Example, Format, HELD_OUT, Options, PrefixFree, Prompts, Source, Way};
use faults::{Fault, Faults};
use metrics::temperature::Sampler;

use super::{Outcome, argument, chat_columns, check_temperatures, load_named, refuse_too_many, renamed, usage};
use crate::chat::ChatFlags;
use crate::loading::{self, Loaded, Named};
use lines::{Found, Tools};

/// Measure models on rows, or samples; JSON Lines.
///
/// Of rows with `targets` every number is exact, from the model's probabilities of all targets: mass, loss, KL, total
/// variation, the curve of precision and recall, coverage; an object for each model, prompt and temperature, then one with
/// `"prompt": null` for all prompts together. With `--n` samples are drawn beside that.
///
/// Of all other rows the negative log-likelihood of what they learn, perplexity and entropy: for each file, then all.
///
/// Of samples, those of a file (`--samples FILE`, rows such as `trainer sample` writes) or drawn here (`MODEL.. --prompts FILE`),
/// what is known of them: different texts, n-grams, self-BLEU, clusters, pass@k where rows or a judge (`--judge COMMAND`) say
/// what is right. After the prompts comes a line with the mean over them.
///
/// With `--references FILE` and an `--encoder` one line more says how samples lie among references: precision, recall, density,
/// coverage, F_8, MAUVE, beside what references score against themselves and against other prompts'.
/// Entropies are in nats; docs/evaluation.md defines every number.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct Arguments {
    /// Base models (folder, `org/name`, `builtin:tiny`), runs (the latest checkpoint, or `RUN@best`, `RUN@latest`, `RUN@STEP`),
    /// checkpoints, or folders of adapters or exports, measured one after another.
    #[arg(required_unless_present = "samples")]
    model: Vec<String>,
    /// The base of the adapters, in place of the one that their files name: a folder, or `org/name`.
    #[arg(long, conflicts_with = "samples", value_name = "DIR|NAME")]
    base: Option<String>,
    /// A file of rows, with `targets` or of any other shape; may be given several times.
    #[arg(long, required_unless_present_any = ["samples", "prompts"], value_name = "FILE")]
    data: Vec<PathBuf>,
    /// A file of prompts, as `trainer sample --prompts` reads them, to draw samples of; may be given several times: their prompts
    /// are measured together.
    #[arg(long, conflicts_with_all = ["samples", "data"], value_name = "FILE")]
    prompts: Vec<PathBuf>,
    /// Put each prompt into the model's chat template, as the user's turn.
    #[arg(long)]
    chat: bool,
    #[command(flatten)]
    chat_flags: ChatFlags,
    /// A column of these rows under another name: `question=prompt`; may be given several times.
    #[arg(long, value_name = "COLUMN=KEY", value_parser = renamed, conflicts_with = "samples")]
    rename: Vec<(String, String)>,
    /// Columns of these rows that are the turns of a conversation, which goes through the model's chat template:
    /// `user=question,assistant=answer`, with `system`, `history` and `reasoning_content` as `data.chat` of a recipe has them.
    #[arg(long, value_name = "TURN=COLUMN,..", value_parser = chat_columns, conflicts_with_all = ["samples", "prompts"])]
    chat_columns: Option<ChatColumns>,
    /// Temperatures, with commas between them, of rows all from one pass; 0 takes the most likely token.
    #[arg(long, value_delimiter = ',', default_value = "1", conflicts_with = "samples", value_name = "T")]
    temperatures: Vec<f64>,
    /// Sample from the smallest set of tokens that holds this much probability; what is cut has none.
    #[arg(long, conflicts_with = "samples", value_name = "P")]
    top_p: Option<f64>,
    /// Sample from this many most likely tokens.
    #[arg(long, conflicts_with = "samples", value_name = "K")]
    top_k: Option<usize>,
    /// Sample from tokens of at least this part of the largest probability.
    #[arg(long, conflicts_with = "samples", value_name = "P")]
    min_p: Option<f64>,
    /// Sample from the smallest set of tokens of a usual surprise that holds this much probability (locally typical sampling).
    #[arg(long, conflicts_with = "samples", value_name = "P")]
    typical_p: Option<f64>,
    /// Metrics to print, with commas between them, by the keys of docs/evaluation.md: `mass,f8,coverage` [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    metrics: Vec<String>,
    /// Numbers of samples, with commas between them, whose expected coverage is told beside that of 10, 100 and 1000.
    #[arg(long, value_delimiter = ',', conflicts_with = "samples", value_name = "N")]
    budget: Vec<usize>,
    /// Print the probabilities of all targets of so many prompts, the first ones: `probabilities`, for `trainer report`.
    #[arg(long, default_value_t = 0, conflicts_with = "samples", value_name = "PROMPTS")]
    probabilities: usize,
    /// Samples in place of a model: rows with `prompt` or `id`, and `text` or `response`, `correct`, `score`, a judge's `same` and
    /// `n`, or NoveltyBench's `generations`; may be given several times.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "data", "n", "max_tokens", "no_end_token"])]
    samples: Vec<PathBuf>,
    /// The k of pass@k, with commas between them [default: 1,5,10, as far as there are samples]
    #[arg(long, value_delimiter = ',', value_name = "K")]
    k: Vec<usize>,
    /// What makes vectors of texts (folder, `org/name`, run, `builtin:words`): a sentence encoder, which then says which samples
    /// mean the same, or any causal model, by its last hidden state at a text's last token.
    #[arg(long, value_name = "ENCODER")]
    encoder: Option<String>,
    /// The least cosine of two samples that mean the same [default: 0.8; of a causal model equal words mean the same]
    #[arg(long, requires = "encoder", value_name = "COSINE")]
    threshold: Option<f64>,
    /// The number of words that `ead` is adjusted by [default: the different words of the samples]
    #[arg(long, value_name = "WORDS")]
    vocabulary: Option<usize>,
    /// Texts to compare samples with: rows with `text`, `response`, `completion`, `targets` or `generations`, best with their
    /// `prompt` or `id`.
    #[arg(long, value_name = "FILE")]
    references: Option<PathBuf>,
    /// A point's ball reaches to this neighbour in its own set.
    #[arg(long, default_value_t = 4, requires = "references", value_name = "K")]
    neighbours: usize,
    /// A ball does not hold what lies on its edge, as published code has it: repeated texts then count for nothing.
    #[arg(long, requires = "references")]
    strict: bool,
    /// What the principal components of the vectors are fitted on.
    #[arg(long, value_enum, default_value = "union", requires = "references", value_name = "SIDE")]
    pca: references::Pca,
    /// A program that says which samples are right, run by the shell: it gets each sample's row as a line of JSON and answers with
    /// `true`, `false`, `null`, or `{"correct": true, "score": 7}`.
    #[arg(long, value_name = "COMMAND")]
    judge: Option<String>,
    /// Most seconds that it may take for a line.
    #[arg(long, default_value_t = 60.0, requires = "judge", value_name = "SECONDS")]
    judge_seconds: f64,
    /// A sample is right where it is what its row has under this column: a text, a number, or a list of them. Blanks at the ends do
    /// not count.
    #[arg(long, conflicts_with = "judge", value_name = "COLUMN")]
    exact_match: Option<String>,
    /// Where the answer stands in a sample and in that column: the group of the last match of this regular expression, as in
    /// `#### (.+)`. A sample that it does not match is not right.
    #[arg(long, requires = "exact_match", value_name = "REGEX")]
    answer_pattern: Option<String>,
    /// Write the samples into this folder as NoveltyBench has them: `generations.jsonl`, and with classes and scores
    /// `partitions.jsonl` and `scores.jsonl`.
    #[arg(long, value_name = "DIR")]
    novelty_bench: Option<PathBuf>,
    /// Samples of each prompt at each temperature [default: 8 of `--prompts`; of rows with targets none, and the exact numbers alone]
    #[arg(long)]
    n: Option<usize>,
    /// Most tokens of a sample.
    #[arg(long, default_value_t = 64)]
    max_tokens: usize,
    /// The targets are beginnings, after which the model goes on.
    #[arg(long)]
    no_end_token: bool,
    /// Seed of the draws, and with `--references` of the clusters and of what is left out of the longer side [default: 17]
    #[arg(long)]
    seed: Option<u64>,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
}

/// Options as they would be typed after `--samples FILE`.
#[derive(clap::Parser)]
#[command(name = "eval", no_binary_name = true)]
struct Typed {
    #[command(flatten)]
    arguments: Arguments,
}

/// Looks at options for samples as the command would before it reads any.
///
/// # Errors
/// All that it would refuse.
pub(super) fn check_options(options: &[String]) -> Result<(), Faults> {
    let words = ["--samples", "SAMPLES"].into_iter().chain(options.iter().map(String::as_str));
    let typed = <Typed as clap::Parser>::try_parse_from(words).map_err(|refusal| usage::fault(&refusal))?;
    let arguments = &typed.arguments;
    if arguments.samples.len() > 1 || arguments.novelty_bench.is_some() {
        let fault = Fault::new("`samples` and `novelty_bench` are of one file, and there is one of each run");
        return Err(fault.at(argument("measure")).hint("leave it out").into());
    }
    check(arguments)?;
    Found::of(arguments).map(drop)
}

/// Samples of a prompt where nothing is said.
const SAMPLES: usize = 8;

impl Arguments {
    /// Samples of a prompt to draw.
    fn draws(&self) -> usize {
        self.n.unwrap_or(if self.prompts.is_empty() { 0 } else { SAMPLES })
    }

    fn seed(&self) -> u64 {
        self.seed.unwrap_or(17)
    }
}

/// Runs the command.
///
/// # Errors
/// Rows that cannot be read, or a model that cannot be loaded.
pub fn run(arguments: &Arguments) -> Result<Outcome, Faults> {
    check(arguments)?;
    if !arguments.samples.is_empty() {
        samples::run(arguments)?;
        return Ok(Outcome::Done);
    }
    let data: Vec<String> = arguments.data.iter().map(|path| path.display().to_string()).collect();
    loading::rows::refuse_unreadable(data.iter().map(String::as_str))?;
    let prompts = prompts::read(arguments)?;
    // All that is named is looked for before the first of it is measured.
    let found = Found::of(arguments)?;
    let mut models = Vec::with_capacity(arguments.model.len());
    for name in &arguments.model {
        models.push(loading::named(name, arguments.base.as_deref())?);
    }
    let mut tools = found.load(arguments)?;
    for (name, named) in arguments.model.iter().zip(models) {
        measure(name, &named, &prompts, &mut tools, arguments)?;
    }
    Ok(Outcome::Done)
}

fn check(arguments: &Arguments) -> Result<(), Faults> {
    refuse_too_many(arguments.draws())?;
    let mut faults: Vec<Fault> = check_temperatures(&arguments.temperatures).err().into_iter().collect();
    faults.extend(chosen::check(arguments));
    faults.extend(counted::check(arguments));
    faults.extend(references::check(arguments));
    let mut check = |name: &str, is_right: bool, words: &str, hint: &str| {
        if !is_right {
            faults.push(Fault::new(format!("`--{name}` must {words}")).at(argument(name)).hint(hint));
        }
    };
    for (name, part) in [("top-p", arguments.top_p), ("typical-p", arguments.typical_p)] {
        let possible = part.is_none_or(|p| p > 0.0 && p <= 1.0);
        check(name, possible, "be above 0 and at most 1", "leave it out to sample from all tokens");
    }
    check("top-k", arguments.top_k != Some(0), "be at least 1", "leave it out to sample from all tokens");
    let min_p = arguments.min_p.is_none_or(|p| (0.0..=1.0).contains(&p));
    check("min-p", min_p, "be from 0 to 1", "leave it out to sample from all tokens");
    check("budget", !arguments.budget.contains(&0), "be at least 1", "no sample covers nothing");
    let hint = "with 0 there is nothing to draw; `--n 0` leaves the samples out";
    check("max-tokens", arguments.max_tokens > 0, "be at least 1", hint);
    let draws = arguments.prompts.is_empty() || arguments.draws() > 0;
    check("n", draws, "be at least 1 with `--prompts`", "leave it out for 8");
    let seconds = arguments.judge_seconds;
    let hint = "60 is usual; the first line has what the judge needs to start too";
    check("judge-seconds", seconds > 0.0 && seconds <= 86_400.0, "be above 0 and at most 86400", hint);
    faults.extend(without_effect(arguments));
    Faults::check(faults)
}

/// What is given and would change nothing.
fn without_effect(arguments: &Arguments) -> Vec<Fault> {
    let is_of_rows = arguments.samples.is_empty() && arguments.prompts.is_empty();
    let of_samples = [
        ("k", !arguments.k.is_empty()),
        ("encoder", arguments.encoder.is_some()),
        ("vocabulary", arguments.vocabulary.is_some()),
        ("judge", arguments.judge.is_some()),
    ];
    let of_files = [
        ("references", arguments.references.is_some()),
        ("novelty-bench", arguments.novelty_bench.is_some()),
        ("exact-match", arguments.exact_match.is_some()),
    ];
    let fault = |name: &str, hint: &str| {
        let fault = Fault::new(format!("`--{name}` has no effect on rows of `--data`")).at(argument(name));
        fault.hint(hint.to_owned())
    };
    let mut faults = Vec::new();
    if is_of_rows && arguments.draws() == 0 {
        let hint = "it measures samples: those of `--samples FILE`, or drawn here by `--n`";
        faults.extend(of_samples.iter().filter(|(_, given)| *given).map(|(name, _)| fault(name, hint)));
    }
    if is_of_rows {
        let hint = "it is for samples of `--samples FILE` or `--prompts FILE`; rows with targets are measured exactly";
        faults.extend(of_files.iter().filter(|(_, given)| *given).map(|(name, _)| fault(name, hint)));
    }
    let of_prompts = [("budget", !arguments.budget.is_empty()), ("no-end-token", arguments.no_end_token)];
    if !arguments.prompts.is_empty() {
        let given = of_prompts.iter().filter(|(_, given)| *given);
        faults.extend(given.map(|(name, _)| {
            let fault = Fault::new(format!("`--{name}` has no effect on `--prompts`")).at(argument(name));
            fault.hint("it is for the exact numbers of rows with targets: `--data FILE`")
        }));
    }
    if arguments.chat && arguments.prompts.is_empty() {
        let fault = Fault::new("`--chat` has no effect without `--prompts`").at(argument("chat"));
        faults.push(
            fault.hint("it puts prompts into the chat template; rows with `messages` go through it by themselves"),
        );
    }
    if !arguments.samples.is_empty() && arguments.chat_flags.are_given() {
        let fault = Fault::new("a chat template has no effect: nothing is drawn").at(argument("samples"));
        faults.push(fault.hint("leave `--chat-template` and `--template-arguments` out"));
    }
    if !arguments.samples.is_empty() && arguments.seed.is_some() && arguments.references.is_none() {
        let fault = Fault::new("`--seed` has no effect: nothing is drawn").at(argument("seed"));
        faults.push(fault.hint("with `--references` it is that of the clusters"));
    }
    faults
}

/// The lines of one model.
fn measure(
    name: &str,
    named: &Named,
    prompts: &[Prompts],
    tools: &mut Tools,
    arguments: &Arguments,
) -> Result<(), Faults> {
    let chat = arguments.chat_flags.settings(name)?;
    let mut model = load_named(named, &arguments.device)?;
    model.tokenizer = model.tokenizer.with_chat(&chat)?;
    let measuring = Measuring { name, model: &model, samplers: samplers(arguments), arguments };
    if !prompts.is_empty() {
        return prompts::run(&measuring, prompts, tools);
    }
    let data = read(&model, arguments)?;
    let has_targets = |example: &Example| {
        let shape = data.report.files.iter().find(|file| *file.file == *example.file);
        shape.is_some_and(|shape| shape.format == "targets")
    };
    // By file: a prompt's targets stand together, and so do the rows of a file.
    let mut of_targets: Vec<Example> = Vec::new();
    let mut others: Vec<Example> = Vec::new();
    for file in data.examples.chunk_by(|a, b| a.file == b.file) {
        match has_targets(&file[0]) {
            true => of_targets.extend_from_slice(file),
            false => others.extend_from_slice(file),
        }
    }
    if of_targets.is_empty() && arguments.probabilities > 0 {
        tracing::warn!("`--probabilities` prints nothing: no row has `targets`");
    }
    if !others.is_empty() {
        held_out::refuse_cuts(arguments)?;
    }
    chosen::refuse_unmeasured(arguments, !of_targets.is_empty(), !others.is_empty())?;
    if !of_targets.is_empty() {
        targets::run(&measuring, &of_targets, tools)?;
    }
    if !others.is_empty() {
        held_out::run(&measuring, &others)?;
    }
    Ok(())
}

/// A model and how it is measured.
struct Measuring<'a> {
    /// As the command line has it.
    name: &'a str,
    model: &'a Loaded,
    /// One for each temperature.
    samplers: Vec<Sampler>,
    arguments: &'a Arguments,
}

fn samplers(arguments: &Arguments) -> Vec<Sampler> {
    let at = |temperature: &f64| Sampler {
        temperature: *temperature,
        top_k: arguments.top_k.unwrap_or(0),
        top_p: arguments.top_p.unwrap_or(1.0),
        min_p: arguments.min_p.unwrap_or(0.0),
        typical_p: arguments.typical_p.unwrap_or(1.0),
    };
    arguments.temperatures.iter().map(at).collect()
}

fn read(model: &Loaded, arguments: &Arguments) -> Result<Dataset, Faults> {
    let options = Options {
        format: Format::Auto,
        end_token: !arguments.no_end_token,
        prefix_free: PrefixFree::Warn,
        max_length: model.decoder.config.max_position_embeddings,
        model_limit: true,
        rename: arguments.rename.clone(),
        chat: arguments.chat_columns.clone(),
        way: Way::Flags,
        ..Options::default()
    };
    let sources = arguments.data.iter().map(|path| {
        let name = path.display().to_string();
        let files = loading::rows::files(&name, HELD_OUT)?;
        Ok(Source { name, files, weight: 1.0, limit: None })
    });
    let sources = sources.collect::<Result<Vec<_>, Fault>>()?;
    let data = datasets::read_sources(&sources, &options, &model.tokenizer)?;
    for notice in &data.report.notices {
        tracing::warn!("{notice}");
    }
    Ok(data)
}
