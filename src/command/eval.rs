//! `trainer eval`: how near a model's answers come to the distributions of rows with targets; and how diverse and how
//! right samples are that any program has drawn.

mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use datasets::{Dataset, Example, Format, Options, PrefixFree, Tokenizer};
use faults::{Fault, Faults};
use serde_json::json;

use super::{Outcome, argument, load_model, print, refuse_too_many, renamed};
use crate::engine::batch::Batch;
use crate::engine::data::{Prompt, prompts};
use crate::engine::head;
use crate::loading::Loaded;
use crate::metrics::{entropy, total_variation};
use crate::sampling::{DecoderRows, News, Settings, sample};

/// Measure a model on rows with targets, or samples; one JSON object for each prompt.
///
/// Of a model, `loss`, `floor`, `kl` and `total_variation` are exact, from its probabilities of the targets; `entropy`,
/// `coverage` and `valid` are of samples at temperature 1. Entropies are in nats.
///
/// Of samples (`--samples FILE`, rows such as `trainer sample` writes), `distinct`, `entropy`, Relaxed Semantic Entropy,
/// and pass@k where rows say what is `correct`. The last line is the mean over the prompts.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A base model (folder, `org/name`, `builtin:tiny`), a run (its latest checkpoint, or `RUN@best`, `RUN@latest`, `RUN@STEP`), a
    /// checkpoint, or the folder of an adapter or an export.
    #[arg(required_unless_present = "samples")]
    model: Option<String>,
    /// The base of the adapter, in place of the one that its files name: a folder, or `org/name`.
    #[arg(long, conflicts_with = "samples", value_name = "DIR|NAME")]
    base: Option<String>,
    /// A file of rows with `targets`; may be given several times.
    #[arg(long, required_unless_present = "samples", value_name = "FILE")]
    data: Vec<PathBuf>,
    /// A column of these rows under another name: `question=prompt`; may be given several times.
    #[arg(long, value_name = "COLUMN=KEY", value_parser = renamed, conflicts_with = "samples")]
    rename: Vec<(String, String)>,
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
    /// Samples of each prompt; 0 for the exact numbers alone.
    #[arg(long, default_value_t = 1000)]
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

/// Targets whose probabilities are computed at once.
const AT_ONCE: usize = 64;

/// Runs the command.
///
/// # Errors
/// Rows that cannot be read, or a model that cannot be loaded.
pub fn run(arguments: &Arguments) -> Result<Outcome, Faults> {
    if let Some(file) = &arguments.samples {
        samples::run(file, arguments)?;
        return Ok(Outcome::Done);
    }
    refuse_too_many(arguments.n)?;
    if arguments.max_tokens == 0 {
        let hint = "with 0 there is nothing to draw; `--n 0` leaves the samples out";
        return Err(Fault::new("`--max-tokens` must be at least 1").at(argument("max-tokens")).hint(hint).into());
    }
    datasets::refuse_unreadable(&arguments.data)?;
    let named = arguments.model.as_deref().expect("the command line asks for a model where there are no samples");
    let chat = crate::chat::of_run(std::path::Path::new(named))?.settings()?;
    let mut model = load_model(named, arguments.base.as_deref(), &arguments.device)?;
    model.tokenizer = model.tokenizer.with_chat(&chat)?;
    let options = Options {
        format: Format::Targets,
        end_token: !arguments.no_end_token,
        prefix_free: PrefixFree::Warn,
        max_length: model.decoder.config.max_position_embeddings,
        model_limit: true,
        rename: arguments.rename.clone(),
        of_recipe: false,
        ..Options::default()
    };
    let data: Dataset = datasets::read(&arguments.data, &options, &model.tokenizer)?;
    for notice in &data.report.notices {
        tracing::warn!("{notice}");
    }
    for (index, prompt) in prompts(&data.examples).iter().enumerate() {
        // A stream of its own for each prompt: with one for all, their sampling errors would be one. The first has that of
        // `trainer sample`.
        let seed = match index {
            0 => arguments.seed,
            _ => backbone::random::key(arguments.seed, &["prompt", &index.to_string()]),
        };
        let line = measure(&model, &data.examples, prompt, seed, arguments)?;
        print(&format!("{line}\n"))?;
    }
    Ok(Outcome::Done)
}

fn measure(
    model: &Loaded,
    examples: &[Example],
    prompt: &Prompt,
    seed: u64,
    arguments: &Arguments,
) -> Result<serde_json::Value, Fault> {
    let targets = &examples[prompt.targets.clone()];
    let nll = target_nll(model, examples, prompt);
    let loss: f64 = targets.iter().zip(&nll).map(|(target, nll)| target.weight * nll).sum();
    if !loss.is_finite() {
        return Err(Fault::new(format!("the model's loss is {loss}"))
            .at(targets[0].place())
            .hint("its weights are not finite: take another checkpoint"));
    }
    // Targets that are alike, which are warned of, are one outcome.
    let mut outcomes: BTreeMap<&[u32], (f64, f64)> = BTreeMap::new();
    for (target, nll) in targets.iter().zip(&nll) {
        let (wanted, found) = outcomes.entry(&target.ids).or_default();
        (*wanted, *found) = (*wanted + target.weight, (-nll).exp());
    }
    let (wanted, found): (Vec<f64>, Vec<f64>) = outcomes.into_values().unzip();
    let mut line = json!({
        "file": &*targets[0].file,
        "line": targets[0].line,
        "targets": targets.len(),
        "floor": prompt.floor,
        "loss": loss,
        "kl": loss - prompt.floor,
        "total_variation": total_variation(&wanted, &found),
        "probability_of_targets": found.iter().sum::<f64>(),
    });
    if arguments.n > 0 {
        let texts = targets.iter().map(|target| answer(target, &model.tokenizer)).collect::<Result<Vec<_>, Fault>>()?;
        let asked = targets[0].prompt();
        if asked.is_empty() {
            return Err(Fault::new("a prompt without any token")
                .at(targets[0].place())
                .hint("give each prompt some text; `--n 0` leaves the samples out"));
        }
        let settings = Settings {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            max_tokens: arguments.max_tokens,
            stop: Vec::new(),
            seed,
        };
        let prompts = [asked.to_vec()];
        let mut rows = DecoderRows::new(&model.decoder);
        let mut samples = Vec::new();
        sample(&mut rows, &model.tokenizer, &prompts, arguments.n, &settings, &mut |news| {
            if let News::Done(sample) = news {
                samples.push(sample);
            }
            Ok(())
        })?;
        let samples: Vec<&str> = samples.iter().map(|sample| sample.text.trim()).collect();
        // After a target without an end the model goes on as it likes.
        let last = targets[0].ids.last();
        let open = last.is_none_or(|last| !model.tokenizer.stop_tokens().contains(last));
        let target_of = |sample: &&str| match open {
            true => texts.iter().find(|target| sample.starts_with(target.as_str())),
            false => texts.iter().find(|target| target == sample),
        };
        let valid: Vec<&String> = samples.iter().filter_map(target_of).collect();
        line["samples"] = json!(arguments.n);
        line["entropy"] = json!(entropy(&samples));
        line["distinct"] = json!(samples.iter().collect::<BTreeSet<_>>().len());
        line["valid"] = json!(valid.len());
        line["coverage"] = json!(valid.iter().collect::<BTreeSet<_>>().len());
    }
    Ok(line)
}

/// The nll of each target given the prompt, the sum over its tokens.
fn target_nll(model: &Loaded, examples: &[Example], prompt: &Prompt) -> Vec<f64> {
    let decoder = &model.decoder;
    let targets: Vec<usize> = prompt.targets.clone().collect();
    let part = |targets: &[usize]| {
        let batch = Batch::packed(examples, targets, 1);
        let context = batch.context(decoder, None);
        let hidden = decoder.hidden_in(&context, batch.ids(decoder.device()), false, None);
        batch.row_sums(&head::nll(decoder, hidden, &batch))
    };
    targets.chunks(AT_ONCE).flat_map(part).collect()
}

/// What is learned of a target, as a sample would show it.
fn answer(target: &Example, tokenizer: &Tokenizer) -> Result<String, Fault> {
    let learned = target.ids.iter().zip(&target.learned).filter(|(_, learned)| **learned).map(|(id, _)| *id);
    Ok(tokenizer.decode(&learned.collect::<Vec<_>>(), true)?.trim().to_string())
}
