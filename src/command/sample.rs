//! `trainer sample`: text from a base model, a run, a checkpoint or an exported folder.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use datasets::{Asked, Message, Template, read_prompts};
use faults::{Fault, Faults, Place};
use serde_json::json;

use super::{Outcome, argument, load_model, print, refuse_too_many};
use crate::sampling::{DecoderRows, End, Question, Settings, TwoTemperatures, sample, sample_with_intent};

/// Draw continuations of prompts; one JSON object a line.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct Arguments {
    /// A base model (folder, `org/name`, `builtin:tiny`), a run, a checkpoint or an exported folder.
    model: String,
    /// A prompt; may be given several times.
    #[arg(long, required_unless_present = "prompts")]
    prompt: Vec<String>,
    /// A file of prompts: JSON Lines with `prompt` or `messages`.
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Put each prompt into the model's chat template, as the user's turn.
    #[arg(long)]
    chat: bool,
    /// Continuations of each prompt.
    #[arg(long, default_value_t = 1)]
    n: usize,
    /// Most tokens of a continuation.
    #[arg(long, default_value_t = 128, conflicts_with = "intent")]
    max_tokens: usize,
    /// Divides the logits; 0 always takes the most likely token.
    #[arg(long, default_value_t = 1.0, conflicts_with = "intent")]
    temperature: f64,
    /// Draw from the smallest set of tokens that holds this much probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Draw from this many most likely tokens; 0 is all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// End a text, of an answer with intents a response, where this begins; may be given several times.
    #[arg(long)]
    stop: Vec<String>,
    /// Draw an intent first, then the response, each at a temperature of its own, written as rows of this template are.
    #[arg(long, value_enum, value_name = "TEMPLATE")]
    intent: Option<IntentTemplate>,
    /// Temperature of the intents.
    #[arg(long, default_value_t = 0.73, requires = "intent", value_name = "T")]
    intent_temperature: f64,
    /// Most tokens of an intent.
    #[arg(long, default_value_t = 40, requires = "intent", value_name = "TOKENS")]
    intent_max_tokens: usize,
    /// Temperature of the responses.
    #[arg(long, default_value_t = 0.6, requires = "intent", value_name = "T")]
    response_temperature: f64,
    /// Most tokens of a response [default: 300, and 500 for each step]
    #[arg(long, requires = "intent", value_name = "TOKENS")]
    response_max_tokens: Option<usize>,
    /// Most stages of a stepwise answer, an intent or a response each.
    #[arg(long, default_value_t = 20, requires = "intent", value_name = "STAGES")]
    max_stages: usize,
    /// Seed of the draws.
    #[arg(long, default_value_t = 17)]
    seed: u64,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum IntentTemplate {
    Chat,
    Comments,
    Mathematics,
    Code,
}

impl From<IntentTemplate> for Template {
    fn from(template: IntentTemplate) -> Self {
        match template {
            IntentTemplate::Chat => Self::Chat,
            IntentTemplate::Comments => Self::Comments,
            IntentTemplate::Mathematics => Self::Mathematics,
            IntentTemplate::Code => Self::Code,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Settings that are impossible, or a model that cannot be loaded.
pub fn run(arguments: &Arguments) -> Result<Outcome, Faults> {
    check(arguments)?;
    refuse_too_many(arguments.n)?;
    let asked = asked(arguments)?;
    let model = load_model(&arguments.model, &arguments.device)?;
    let questions = asked.iter().map(|asked| asked.text(&model.tokenizer)).collect::<Result<Vec<_>, Fault>>()?;
    let encode = |(text, special): &(String, bool)| model.tokenizer.encode(text, *special);
    let prompts = questions.iter().map(encode).collect::<Result<Vec<_>, Fault>>()?;
    // An answer with intents ends where the model's positions do: it has no length to plan with.
    let planned = if arguments.intent.is_some() { 1 } else { arguments.max_tokens };
    check_lengths(&prompts, planned, model.decoder.config.max_position_embeddings)?;
    let mut rows = DecoderRows::new(&model.decoder);
    if let Some(settings) = two_temperatures(arguments) {
        let questions: Vec<Question> =
            questions.into_iter().map(|(text, special)| Question { text, special }).collect();
        let stated = sample_with_intent(&mut rows, &model.tokenizer, &questions, arguments.n, &settings)
            .map_err(|fault| fault.or_at(Place::file(&arguments.model)))?;
        for (index, stated) in stated.into_iter().enumerate() {
            let stages = stated.stages.iter();
            let responses: Vec<&str> = stages.clone().map(|stage| stage.response.as_str()).collect();
            let line = json!({
                "prompt": prompt_json(&asked[index / arguments.n]),
                "sample": index % arguments.n,
                "text": stated.text,
                "response": responses.join("\n").trim_end(),
                "stages": stages.map(|s| json!({"intent": s.intent, "response": s.response})).collect::<Vec<_>>(),
                "stopped": stated.stopped,
            });
            print(&format!("{line}\n"))?;
        }
        return Ok(Outcome::Done);
    }
    let settings = settings(arguments, arguments.temperature, arguments.max_tokens);
    let mut drawn = 0;
    sample(&mut rows, &model.tokenizer, &prompts, arguments.n, &settings, &mut |sample| {
        let index = drawn;
        drawn += 1;
        let line = json!({
            "prompt": prompt_json(&asked[index / arguments.n]),
            "sample": index % arguments.n,
            "text": sample.text,
            "ids": sample.ids,
            "stopped": sample.end != End::Limit,
        });
        print(&format!("{line}\n"))
    })
    .map_err(|fault| fault.or_at(Place::file(&arguments.model)))?;
    Ok(Outcome::Done)
}

/// The prompts of the command line, then those of the file.
fn asked(arguments: &Arguments) -> Result<Vec<Asked>, Faults> {
    let mut asked: Vec<Asked> = arguments.prompt.iter().cloned().map(Asked::Text).collect();
    if let Some(file) = &arguments.prompts {
        asked.extend(read_prompts(file)?);
    }
    if arguments.chat {
        for asked in &mut asked {
            if let Asked::Text(text) = asked {
                *asked = Asked::Conversation(vec![Message::new("user", text.as_str())]);
            }
        }
    }
    Ok(asked)
}

/// The prompt as it was given: its text, or the turns before the answer.
fn prompt_json(asked: &Asked) -> serde_json::Value {
    match asked {
        Asked::Text(text) => json!(text),
        Asked::Conversation(turns) => match &turns[..] {
            [turn] if turn.role == "user" => json!(turn.content),
            turns => json!(turns),
        },
    }
}

fn settings(arguments: &Arguments, temperature: f64, max_tokens: usize) -> Settings {
    Settings {
        temperature,
        top_p: arguments.top_p,
        top_k: arguments.top_k,
        max_tokens,
        stop: arguments.stop.clone(),
        seed: arguments.seed,
    }
}

fn two_temperatures(arguments: &Arguments) -> Option<TwoTemperatures> {
    let template: Template = arguments.intent?.into();
    let (intent, response) = (arguments.intent_temperature, arguments.response_temperature);
    if intent <= response {
        tracing::warn!(
            "the intent's temperature {intent} is not above the response's {response}: diversity is to come from the intent"
        );
    }
    let most = arguments.response_max_tokens.unwrap_or(if template.is_stepwise() { 500 } else { 300 });
    Some(TwoTemperatures {
        template,
        intent: settings(arguments, intent, arguments.intent_max_tokens),
        response: settings(arguments, response, most),
        max_stages: arguments.max_stages,
    })
}

fn check(arguments: &Arguments) -> Result<(), Faults> {
    let mut faults = Vec::new();
    let mut check = |flag: &str, holds: bool, must: &str, hint: &str| {
        if !holds {
            faults.push(Fault::new(format!("`--{flag}` must {must}")).at(argument(flag)).hint(hint));
        }
    };
    let possible = |temperature: f64| temperature.is_finite() && temperature >= 0.0;
    for (flag, temperature, hint) in [
        ("temperature", arguments.temperature, "1 is the model's own"),
        ("intent-temperature", arguments.intent_temperature, "0.73 is the paper's for code"),
        ("response-temperature", arguments.response_temperature, "0.6 is the paper's for code"),
    ] {
        check(flag, possible(temperature), "be 0 or more", hint);
    }
    let top_p = arguments.top_p > 0.0 && arguments.top_p <= 1.0;
    check("top-p", top_p, "be above 0 and at most 1", "1 draws from all");
    check("n", arguments.n > 0, "be at least 1", "leave it out for one");
    for (flag, most) in [
        ("max-tokens", Some(arguments.max_tokens)),
        ("intent-max-tokens", Some(arguments.intent_max_tokens)),
        ("response-max-tokens", arguments.response_max_tokens),
        ("max-stages", Some(arguments.max_stages)),
    ] {
        check(flag, most != Some(0), "be at least 1", "with 0 there is nothing to draw");
    }
    check("stop", !arguments.stop.iter().any(String::is_empty), "not be empty", "leave it out");
    Faults::check(faults)
}

fn check_lengths(prompts: &[Vec<u32>], max_tokens: usize, limit: usize) -> Result<(), Fault> {
    for ids in prompts {
        if ids.is_empty() {
            return Err(Fault::new("a prompt without any token").hint("give each prompt some text"));
        }
        if ids.len().saturating_add(max_tokens) > limit {
            let message = format!("{} tokens of prompt and {max_tokens} to draw", ids.len());
            return Err(Fault::new(format!("{message} are more than the model's {limit} positions")).hint(
                if max_tokens > 1 { "shorten the prompt, or lower `--max-tokens`" } else { "shorten the prompt" },
            ));
        }
    }
    Ok(())
}
