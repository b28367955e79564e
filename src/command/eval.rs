//! `trainer eval`: what a model gives to rows, exactly; and how diverse and how right samples are that any program has
//! drawn.

mod drawn;
mod held_out;
mod samples;
mod targets;

use std::path::PathBuf;

use clap::Args;
use datasets::{Dataset, Example, Format, Options, PrefixFree};
use faults::{Fault, Faults};
use metrics::temperature::Sampler;

use super::{Outcome, argument, check_temperatures, load_model, refuse_too_many, renamed};
use crate::loading::Loaded;

/// Measure models on rows, or samples; JSON Lines.
///
/// Of rows with `targets` every number is exact, from the model's probabilities of all targets: mass, loss, KL, total
/// variation, the curve of precision and recall, coverage; an object for each model, prompt and temperature, then one with
/// `"prompt": null` for all prompts together. With `--n` samples are drawn beside that.
///
/// Of all other rows the negative log-likelihood of what they learn, perplexity and entropy: for each file, then all.
///
/// Of samples (`--samples FILE`, rows such as `trainer sample` writes) what is known of them: different texts, n-grams,
/// self-BLEU, clusters, pass@k where rows say what is `correct`. The last line is the mean over the prompts.
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
    #[arg(long, required_unless_present = "samples", value_name = "FILE")]
    data: Vec<PathBuf>,
    /// A column of these rows under another name: `question=prompt`; may be given several times.
    #[arg(long, value_name = "COLUMN=KEY", value_parser = renamed, conflicts_with = "samples")]
    rename: Vec<(String, String)>,
    /// Temperatures, with commas between them, all from one pass over the rows; 0 takes the most likely token.
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
    /// Numbers of samples, with commas between them, whose expected coverage is told beside that of 10, 100 and 1000.
    #[arg(long, value_delimiter = ',', conflicts_with = "samples", value_name = "N")]
    budget: Vec<usize>,
    /// Print the probabilities of all targets of so many prompts, the first ones: `probabilities`, for `trainer report`.
    #[arg(long, default_value_t = 0, conflicts_with = "samples", value_name = "PROMPTS")]
    probabilities: usize,
    /// Samples in place of a model: rows with `prompt` or `id`, and `text` or `response`, `correct`, or a judge's `same` and `n`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "data", "n", "max_tokens", "no_end_token", "seed"])]
    samples: Option<PathBuf>,
    /// The k of pass@k, with commas between them [default: 1,5,10, as far as there are samples]
    #[arg(long, value_delimiter = ',', requires = "samples", value_name = "K")]
    k: Vec<usize>,
    /// A sentence encoder (folder, `org/name`) that says which samples mean the same; without it, equal words do.
    #[arg(long, requires = "samples", value_name = "ENCODER")]
    encoder: Option<String>,
    /// The least cosine of two samples that mean the same.
    #[arg(long, default_value_t = 0.8, requires = "encoder", value_name = "COSINE")]
    threshold: f64,
    /// The number of words that `ead` is adjusted by [default: the different words of the file]
    #[arg(long, requires = "samples", value_name = "WORDS")]
    vocabulary: Option<usize>,
    /// Samples of each prompt with targets at each temperature; 0 for the exact numbers alone.
    #[arg(long, default_value_t = 0)]
    n: usize,
    /// Most tokens of a sample.
    #[arg(long, default_value_t = 64)]
    max_tokens: usize,
    /// The targets are beginnings, after which the model goes on.
    #[arg(long)]
    no_end_token: bool,
    /// Seed of the draws.
    #[arg(long, default_value_t = 17)]
    seed: u64,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
}

/// Runs the command.
///
/// # Errors
/// Rows that cannot be read, or a model that cannot be loaded.
pub fn run(arguments: &Arguments) -> Result<Outcome, Faults> {
    if let Some(file) = &arguments.samples {
        samples::run(file, arguments)?;
        return Ok(Outcome::Done);
    }
    check(arguments)?;
    datasets::refuse_unreadable(&arguments.data)?;
    for name in &arguments.model {
        measure(name, arguments)?;
    }
    Ok(Outcome::Done)
}

fn check(arguments: &Arguments) -> Result<(), Faults> {
    refuse_too_many(arguments.n)?;
    let mut faults: Vec<Fault> = check_temperatures(&arguments.temperatures).err().into_iter().collect();
    let mut check = |name: &str, is_right: bool, words: &str, hint: &str| {
        if !is_right {
            faults.push(Fault::new(format!("`--{name}` must {words}")).at(argument(name)).hint(hint));
        }
    };
    let top_p = arguments.top_p.is_none_or(|p| p > 0.0 && p <= 1.0);
    check("top-p", top_p, "be above 0 and at most 1", "leave it out to sample from all tokens");
    check("top-k", arguments.top_k != Some(0), "be at least 1", "leave it out to sample from all tokens");
    let min_p = arguments.min_p.is_none_or(|p| (0.0..=1.0).contains(&p));
    check("min-p", min_p, "be from 0 to 1", "leave it out to sample from all tokens");
    check("budget", !arguments.budget.contains(&0), "be at least 1", "no sample covers nothing");
    let hint = "with 0 there is nothing to draw; `--n 0` leaves the samples out";
    check("max-tokens", arguments.max_tokens > 0, "be at least 1", hint);
    // The command line's parser lets these pass beside what excludes `--samples`.
    let of_samples = [
        ("k", !arguments.k.is_empty()),
        ("encoder", arguments.encoder.is_some()),
        ("vocabulary", arguments.vocabulary.is_some()),
    ];
    for (name, _) in of_samples.into_iter().filter(|(_, given)| *given) {
        let fault = Fault::new(format!("`--{name}` has no effect on rows of `--data`")).at(argument(name));
        faults.push(fault.hint("it measures samples that are there already: `--samples FILE`"));
    }
    Faults::check(faults)
}

/// The lines of one model.
fn measure(name: &str, arguments: &Arguments) -> Result<(), Faults> {
    let chat = crate::chat::of_run(std::path::Path::new(name))?.settings()?;
    let mut model = load_model(name, arguments.base.as_deref(), &arguments.device)?;
    model.tokenizer = model.tokenizer.with_chat(&chat)?;
    let data = read(&model, arguments)?;
    let measuring = Measuring { name, model: &model, samplers: samplers(arguments), arguments };
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
    if !of_targets.is_empty() {
        targets::run(&measuring, &of_targets)?;
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
        of_recipe: false,
        ..Options::default()
    };
    let data = datasets::read(&arguments.data, &options, &model.tokenizer)?;
    for notice in &data.report.notices {
        tracing::warn!("{notice}");
    }
    Ok(data)
}
