//! `trainer sample`: text from a base model, a run, a checkpoint or an exported folder.

use clap::Args;
use datasets::Message;
use faults::{Fault, Faults, FromToml};
use serde_json::json;

use super::{Outcome, print};
use crate::sampling::{Settings, sample};
use crate::{device, loading, recipe};

/// Draw continuations of prompts; one JSON object a line.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A base model (folder, `org/name`, `builtin:tiny`), a run, a checkpoint or an exported folder.
    model: String,
    /// A prompt; may be given several times.
    #[arg(long, required = true)]
    prompt: Vec<String>,
    /// Put each prompt into the model's chat template, as the user's turn.
    #[arg(long)]
    chat: bool,
    /// Continuations of each prompt.
    #[arg(long, default_value_t = 1)]
    n: usize,
    /// Most tokens of a continuation.
    #[arg(long, default_value_t = 128)]
    max_tokens: usize,
    /// Divides the logits; 0 always takes the most likely token.
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Draw from the smallest set of tokens that holds this much probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Draw from this many most likely tokens; 0 is all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// End a text where this begins; may be given several times.
    #[arg(long)]
    stop: Vec<String>,
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
/// Settings that are impossible, or a model that cannot be loaded.
pub fn run(arguments: &Arguments) -> Result<Outcome, Faults> {
    check(arguments)?;
    let wanted = recipe::Device::from_toml(&toml::Value::String(arguments.device.clone())).ok_or_else(|| {
        Fault::new(format!("`--device` cannot be `{}`", arguments.device)).hint("one of: auto, cpu, cuda, cuda:N")
    })?;
    let device = device::open(wanted)?;
    let dtype = device::dtype(recipe::DType::Auto, &device);
    let model = loading::named(&arguments.model)?.load(&device, dtype)?;
    let settings = Settings {
        temperature: arguments.temperature,
        top_p: arguments.top_p,
        top_k: arguments.top_k,
        max_tokens: arguments.max_tokens,
        stop: arguments.stop.clone(),
        seed: arguments.seed,
    };
    for prompt in &arguments.prompt {
        let ids = match arguments.chat {
            true => {
                let text = model.tokenizer.render_chat(&[Message::new("user", prompt.as_str())], true)?;
                model.tokenizer.encode(&text, false)?
            }
            false => model.tokenizer.encode(prompt, true)?,
        };
        if ids.is_empty() {
            return Err(Fault::new("a prompt without any token").hint("give `--prompt` some text").into());
        }
        let limit = model.decoder.config.max_position_embeddings;
        if ids.len().saturating_add(arguments.max_tokens) > limit {
            let message = format!("{} tokens of prompt and {} to draw", ids.len(), arguments.max_tokens);
            let fault = Fault::new(format!("{message} are more than the model's {limit} positions"));
            return Err(fault.hint("shorten the prompt, or lower `--max-tokens`").into());
        }
        for (index, sample) in sample(&model, &ids, arguments.n, &settings)?.into_iter().enumerate() {
            let line = json!({
                "prompt": prompt,
                "sample": index,
                "text": sample.text,
                "ids": sample.ids,
                "stopped": sample.stopped,
            });
            print(&format!("{line}\n"))?;
        }
    }
    Ok(Outcome::Done)
}

fn check(arguments: &Arguments) -> Result<(), Faults> {
    let mut faults = Vec::new();
    let mut check = |holds: bool, message: &str, hint: &str| {
        if !holds {
            faults.push(Fault::new(message).hint(hint));
        }
    };
    let temperature = arguments.temperature;
    check(temperature.is_finite() && temperature >= 0.0, "`--temperature` must be 0 or more", "1 is the model's own");
    check(
        arguments.top_p > 0.0 && arguments.top_p <= 1.0,
        "`--top-p` must be above 0 and at most 1",
        "1 draws from all",
    );
    check(arguments.n > 0, "`--n` must be at least 1", "leave it out for one");
    check(!arguments.stop.iter().any(String::is_empty), "`--stop` must not be empty", "leave it out");
    Faults::check(faults)
}
