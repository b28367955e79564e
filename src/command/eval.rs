//! `trainer eval`: how near a model's answers come to the distributions of rows with targets.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use datasets::{Dataset, Example, Format, Options, PrefixFree, Tokenizer};
use faults::{Fault, Faults};
use serde_json::json;

use super::{Outcome, load_model, print};
use crate::engine::batch::Batch;
use crate::engine::data::{Prompt, prompts};
use crate::engine::head;
use crate::loading::Loaded;
use crate::metrics::{divergence, entropy, total_variation};
use crate::sampling::{DecoderRows, Settings, sample};

/// Measure a model on rows with targets; one JSON object for each prompt.
///
/// `loss`, `floor`, `kl` and `total_variation` are exact, from the model's probabilities of the targets; `entropy`,
/// `coverage` and `valid` are of samples at temperature 1. Entropies are in nats.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A base model (folder, `org/name`, `builtin:tiny`), a run, a checkpoint or an exported folder.
    model: String,
    /// A file of rows with `targets`; may be given several times.
    #[arg(long, required = true, value_name = "FILE")]
    data: Vec<PathBuf>,
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
    let model = load_model(&arguments.model, &arguments.device)?;
    let options = Options {
        format: Format::Targets,
        end_token: !arguments.no_end_token,
        prefix_free: PrefixFree::Warn,
        max_length: model.decoder.config.max_position_embeddings,
        ..Options::default()
    };
    let data: Dataset = datasets::read(&arguments.data, &options, &model.tokenizer)?;
    for prompt in prompts(&data.examples) {
        let line = measure(&model, &data.examples, &prompt, arguments)?;
        print(&format!("{line}\n"))?;
    }
    Ok(Outcome::Done)
}

fn measure(
    model: &Loaded,
    examples: &[Example],
    prompt: &Prompt,
    arguments: &Arguments,
) -> Result<serde_json::Value, Fault> {
    let targets = &examples[prompt.targets.clone()];
    let wanted: Vec<f64> = targets.iter().map(|target| target.weight).collect();
    let nll = target_nll(model, examples, prompt);
    let found: Vec<f64> = nll.iter().map(|nll| (-nll).exp()).collect();
    let loss: f64 = wanted.iter().zip(&nll).map(|(p, nll)| p * nll).sum();
    let mut line = json!({
        "file": &*targets[0].file,
        "line": targets[0].line,
        "targets": targets.len(),
        "floor": prompt.floor,
        "loss": loss,
        "kl": divergence(&wanted, &found),
        "total_variation": total_variation(&wanted, &found),
        "probability_of_targets": found.iter().sum::<f64>(),
    });
    if arguments.n > 0 {
        let texts = targets.iter().map(|target| answer(target, &model.tokenizer)).collect::<Result<Vec<_>, Fault>>()?;
        let asked = targets[0].learned.iter().position(|learned| *learned).unwrap_or(0);
        let settings = Settings {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            max_tokens: arguments.max_tokens,
            stop: Vec::new(),
            seed: arguments.seed,
        };
        let prompts = [targets[0].ids[..asked].to_vec()];
        let mut rows = DecoderRows::new(&model.decoder);
        let samples = sample(&mut rows, &model.tokenizer, &prompts, arguments.n, &settings)?;
        let samples: Vec<&str> = samples.iter().map(|sample| sample.text.trim()).collect();
        let is_target = |sample: &&str| match arguments.no_end_token {
            true => texts.iter().any(|target| sample.starts_with(target.as_str())),
            false => texts.iter().any(|target| target == sample),
        };
        let valid: Vec<&str> = samples.iter().copied().filter(|sample| is_target(sample)).collect();
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
