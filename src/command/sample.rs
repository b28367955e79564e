//! `trainer sample`: text from a base model, a run, a checkpoint or an exported folder.

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use datasets::{Asked, Asking, Conversation, Message, PromptRow, Prompts, Template, Way, read_prompts};
use faults::{Causes, Fault, Faults, Place, counted, visible};
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use super::cutting::Cutting;
use super::model::ModelArguments;
use super::{Outcome, argument, print_while_read, refuse_too_many, renamed, usage};
use crate::chat::ChatFlags;
use crate::loading::Loaded;
use crate::logging::terminal;
use crate::logging::typed::unescaped;
use crate::sampling::{
    DecoderRows, Growing, Heard, News, Question, Settings, TwoTemperatures, check_room, sample, sample_with_intent,
};

/// Most tokens of a continuation where nothing is said.
pub(super) const MAX_TOKENS: usize = 128;

/// Draw continuations of prompts; one JSON object a line.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// A prompt; may be given several times.
    #[arg(long, required_unless_present = "prompts")]
    prompt: Vec<String>,
    /// A file of prompts: JSON Lines with `prompt` or `messages`. Other columns, such as `id`, go along into the output. A row
    /// with `targets` is asked once for each of its `response`s, with which the answer then begins.
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Read `\n`, `\t`, `\u0041` and `\\` in every `--prompt` as JSON does: a prompt of several lines, or one that ends with a
    /// line break, on one line.
    #[arg(long, requires = "prompt")]
    escapes: bool,
    /// A column of these rows under another name: `question=prompt`; may be given several times.
    #[arg(long, requires = "prompts", value_name = "COLUMN=KEY", value_parser = renamed)]
    rename: Vec<(String, String)>,
    /// Put each prompt into the model's chat template, as the user's turn.
    #[arg(long)]
    chat: bool,
    #[command(flatten)]
    chat_flags: ChatFlags,
    /// Continuations of each prompt.
    #[arg(long, default_value_t = 1)]
    n: usize,
    /// Most tokens of a continuation.
    #[arg(long, default_value_t = MAX_TOKENS, conflicts_with = "intent")]
    max_tokens: usize,
    /// Divides the logits; 0 always takes the most likely token.
    #[arg(long, default_value_t = 1.0, conflicts_with = "intent")]
    temperature: f64,
    #[command(flatten)]
    cutting: Cutting,
    /// End a text, of an answer with intents a response, where this begins, which may be a special token; may be given several
    /// times.
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
    /// Most stages of a stepwise answer, an intent or a response each [default: 20]
    #[arg(long, requires = "intent", value_name = "STAGES")]
    max_stages: Option<usize>,
    /// Seed of the draws.
    #[arg(long, default_value_t = 17)]
    seed: u64,
    /// How samples are written: a JSON object each, or their texts alone, with a line `---` between two of them.
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Written,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
}

/// How samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Written {
    Jsonl,
    Text,
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

/// Options as they would be typed after a model and a file of prompts.
#[derive(clap::Parser)]
#[command(name = "sample", no_binary_name = true)]
struct Typed {
    #[command(flatten)]
    arguments: Arguments,
}

/// Looks at options as the command would before it loads anything.
///
/// # Errors
/// All that it would refuse.
pub(super) fn check_options(model: &str, prompts: &str, options: &[String]) -> Result<(), Faults> {
    let words = [model, "--prompts", prompts].into_iter().chain(options.iter().map(String::as_str));
    let typed = <Typed as clap::Parser>::try_parse_from(words).map_err(|refusal| usage::fault(&refusal))?;
    check(&typed.arguments)?;
    Ok(refuse_too_many(typed.arguments.n)?)
}

/// Runs the command.
///
/// # Errors
/// Settings that are impossible, or a model that cannot be loaded.
pub fn run(arguments: &Arguments) -> Result<Outcome, Faults> {
    check(arguments)?;
    refuse_too_many(arguments.n)?;
    let (mut asked, file) = asked(arguments)?;
    let chat = arguments.chat_flags.settings(&arguments.model.model)?;
    let mut model = arguments.model.load(&arguments.device)?;
    model.tokenizer = model.tokenizer.with_chat(&chat)?;
    for notice in file.iter().flat_map(|file| file.notices(&model.tokenizer)) {
        tracing::warn!("{notice}");
    }
    let mut faults = Causes::new();
    for row in &mut asked {
        match row.fitted(&model.tokenizer, Way::Flags) {
            Ok(fitted) => row.asked = fitted,
            Err(fault) => faults.push(Fault { place: row.place.clone(), ..fault }),
        }
    }
    faults.check()?;
    let text = |row: &PromptRow| row.asked.text_with(&row.beginning, &model.tokenizer, Way::Flags);
    let questions = asked.iter().map(text).collect::<Result<Vec<_>, Fault>>()?;
    let encode = |(text, special): &(String, bool)| model.tokenizer.encode_beginning(text, *special);
    let prompts = questions.iter().map(encode).collect::<Result<Vec<_>, Fault>>()?;
    // An answer with intents ends where the model's positions do: it has no length to plan with.
    let planned = if arguments.intent.is_some() { 1 } else { arguments.max_tokens };
    let limit = model.decoder.config.max_position_embeddings;
    prompts.iter().try_for_each(|ids| check_room(ids, planned, limit, "--max-tokens"))?;
    let mut rows = DecoderRows::new(&model.decoder);
    if let ([ids], 1, Written::Text, None) = (&prompts[..], arguments.n, arguments.format, arguments.intent) {
        return growing(&model, ids, arguments);
    }
    let mut output = Output::new(asked, arguments);
    if let Some(settings) = two_temperatures(arguments) {
        let questions: Vec<Question> =
            questions.into_iter().map(|(text, special)| Question { text, special }).collect();
        let drawn = sample_with_intent(&mut rows, &model.tokenizer, &questions, arguments.n, &settings, &mut |news| {
            output.take(news, |stated| {
                let stages = stated.stages.iter();
                let responses: Vec<&str> = stages.clone().map(|stage| stage.response.as_str()).collect();
                vec![
                    ("text", json!(stated.text)),
                    ("response", json!(responses.join("\n").trim_end())),
                    ("stages", stages.map(|s| json!({"intent": s.intent, "response": s.response})).collect()),
                    ("stopped", json!(stated.stopped)),
                ]
            })
        });
        return output.end(drawn.map_err(|fault| fault.or_at(Place::file(&arguments.model.model))));
    }
    let settings = settings(arguments, arguments.temperature, arguments.max_tokens);
    let drawn = sample(&mut rows, &model.tokenizer, &prompts, arguments.n, &settings, &mut |news| {
        output.take(news, |sample| sample.columns().to_vec())
    });
    output.end(drawn.map_err(|fault| fault.or_at(Place::file(&arguments.model.model))))
}

/// A drawn text as stdout takes it: what moves a terminal is shown there, and elsewhere it is the text.
fn shown(text: &str) -> Cow<'_, str> {
    if io::stdout().is_terminal() { visible(text).into() } else { text.into() }
}

/// One text, written while it is drawn.
fn growing(model: &Loaded, ids: &[u32], arguments: &Arguments) -> Result<Outcome, Faults> {
    let settings = settings(arguments, arguments.temperature, arguments.max_tokens);
    // A stop string is no part of a text, and half of one may be drawn.
    let held_back = settings.stop.iter().map(String::len).max().unwrap_or_default();
    let mut rows = DecoderRows::new(&model.decoder);
    let (mut text, mut written) = (Growing::default(), Ok(true));
    let mut whole = None;
    let mut write = |piece: &str| {
        if !piece.is_empty() && matches!(written, Ok(true)) {
            written = print_while_read(&shown(piece));
        }
    };
    let drawn = {
        let mut hear = |rows: &[Vec<u32>]| write(&text.more(&rows[0], &model.tokenizer, held_back));
        let mut heard = Heard::new(&mut rows, &mut hear);
        sample(&mut heard, &model.tokenizer, &[ids.to_vec()], 1, &settings, &mut |news| {
            if let News::Done(sample) = news {
                whole = Some(sample.text);
            }
            Ok(())
        })
    };
    if let Some(whole) = whole {
        write(&text.rest(&whole));
        write("\n");
    }
    drawn.map_err(|fault| fault.or_at(Place::file(&arguments.model.model)))?;
    written?;
    Ok(Outcome::Done)
}

/// The lines of samples on stdout, one as soon as its sample is done, and on a terminal how far the drawing is.
struct Output {
    asked: Vec<PromptRow>,
    /// Samples of each prompt.
    n: usize,
    format: Written,
    written: usize,
    tokens: usize,
    bar: Option<ProgressBar>,
    /// Nobody reads any more.
    is_closed: bool,
}

impl Output {
    fn new(asked: Vec<PromptRow>, &Arguments { n, format, .. }: &Arguments) -> Self {
        let bar = terminal::bar("{bar:20.green/dim} {pos} of {len} samples {wide_msg}", asked.len() * n);
        if let Some(bar) = &bar {
            // It is there before the first token is.
            bar.tick();
        }
        Self { asked, n, format, written: 0, tokens: 0, bar, is_closed: false }
    }

    fn take<T>(&mut self, news: News<T>, drawn: impl Fn(&T) -> Vec<(&'static str, Value)>) -> Result<(), Fault> {
        match news {
            News::Tokens(count) => self.tokens += count,
            News::Done(sample) => {
                let drawn = drawn(&sample);
                let line = match self.format {
                    Written::Jsonl => {
                        let row = &self.asked[self.written / self.n];
                        faults::json::to_line(&line(row, self.written % self.n, &drawn))
                    }
                    Written::Text => {
                        let text = drawn.iter().find(|(key, _)| *key == "text").and_then(|(_, text)| text.as_str());
                        let text = shown(text.unwrap_or_default());
                        format!("{}{text}", if self.written > 0 { "---\n" } else { "" })
                    }
                };
                self.written += 1;
                self.is_closed = !terminal::beside_the_bar(|| print_while_read(&format!("{line}\n")))?;
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} drawn", counted(self.tokens as u64, "token")));
            bar.set_position(self.written as u64);
        }
        match self.is_closed {
            true => Err(Fault::new("stdout is closed").hint("what is drawn from here on would be lost")),
            false => Ok(()),
        }
    }

    /// A reader that has gone away has what it wanted.
    fn end(&self, drawn: Result<(), Fault>) -> Result<Outcome, Faults> {
        if !self.is_closed {
            drawn?;
        }
        Ok(Outcome::Done)
    }
}

/// The prompts of the command line, then those of the file with their columns; and the file as it was read.
fn asked(arguments: &Arguments) -> Result<(Vec<PromptRow>, Option<Prompts>), Faults> {
    let typed = |text: &String| match arguments.escapes {
        true => unescaped(text).map_err(|fault| fault.at(argument("prompt"))),
        false => Ok(text.clone()),
    };
    let typed = arguments.prompt.iter().map(typed).collect::<Result<Vec<_>, Fault>>()?;
    let turn = |text: String| match arguments.chat {
        true => Asked::Conversation(Conversation::new(vec![Message::new("user", text)])),
        false => Asked::Text(text),
    };
    let row = |text| PromptRow { asked: turn(text), beginning: String::new(), columns: Map::new(), place: None };
    let mut rows: Vec<PromptRow> = typed.into_iter().map(row).collect();
    let Arguments { rename, chat, .. } = arguments;
    let asking = Asking { rename, chat: *chat, way: Way::Flags, ..Asking::default() };
    let file = match &arguments.prompts {
        Some(file) => Some(read_prompts(file, asking)?),
        None => None,
    };
    rows.extend(file.iter().flat_map(|file| file.rows.iter().cloned()));
    let mut hidden: Vec<&str> =
        OWN.into_iter().filter(|key| rows.iter().any(|r| r.columns.contains_key(*key))).collect();
    hidden.sort_unstable();
    if !hidden.is_empty() {
        let names: Vec<String> = hidden.iter().map(|key| format!("`{key}`")).collect();
        tracing::warn!("{} of the prompts are left out: these names are the samples' own", names.join(", "));
    }
    for row in &mut rows {
        row.columns.retain(|column, _| !OWN.contains(&column.as_str()));
    }
    Ok((rows, file))
}

/// Keys that say something of a sample, here or where samples are counted: a prompt's column of this name stays behind.
const OWN: [&str; 8] = ["prompt", "sample", "text", "ids", "stopped", "response", "stages", "same"];

/// A sample as it is printed: the columns of its prompt, and what was drawn.
fn line(row: &PromptRow, sample: usize, drawn: &[(&str, Value)]) -> Value {
    let mut line = row.columns.clone();
    line.insert("prompt".into(), prompt_json(row));
    line.insert("sample".into(), json!(sample));
    line.extend(drawn.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    Value::Object(line)
}

/// The prompt as it was given: its text, or the turns before the answer, and how the answer begins.
pub(super) fn prompt_json(row: &PromptRow) -> serde_json::Value {
    let PromptRow { asked, beginning, .. } = row;
    match asked {
        Asked::Text(text) => json!(format!("{text}{beginning}")),
        Asked::Conversation(conversation) => match &conversation.messages[..] {
            [turn] if turn.role == "user" && beginning.is_empty() => json!(turn.content),
            turns if beginning.is_empty() => json!(turns),
            turns => json!([turns, &[Message::new("assistant", beginning.as_str())]].concat()),
        },
    }
}

fn settings(arguments: &Arguments, temperature: f64, max_tokens: usize) -> Settings {
    Settings {
        sampler: arguments.cutting.sampler(temperature),
        repetition_penalty: arguments.cutting.repetition_penalty,
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
        max_stages: arguments.max_stages.unwrap_or(20),
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
    arguments.cutting.check(&mut check);
    check("n", arguments.n > 0, "be at least 1", "leave it out for one");
    for (flag, most) in [
        ("max-tokens", Some(arguments.max_tokens)),
        ("intent-max-tokens", Some(arguments.intent_max_tokens)),
        ("response-max-tokens", arguments.response_max_tokens),
        ("max-stages", arguments.max_stages),
    ] {
        check(flag, most != Some(0), "be at least 1", "with 0 there is nothing to draw");
    }
    check("stop", !arguments.stop.iter().any(String::is_empty), "not be empty", "leave it out");
    let takes_turns = arguments.intent.is_none_or(|template| Template::from(template).is_stepwise());
    check(
        "max-stages",
        takes_turns || arguments.max_stages.is_none(),
        "not be given with an `--intent` of one intent and one response",
        "leave it out; `mathematics` and `code` take turns",
    );
    Faults::check(faults)
}
