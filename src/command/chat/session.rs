//! What is said so far, how answers are drawn, and the commands that change either.

use std::path::Path;

use datasets::{Asked, Conversation, Message, Template};
use faults::{Fault, Place, nearest};
use metrics::temperature::Sampler;
use serde_json::json;

use super::Arguments;
use crate::sampling::{Settings, TwoTemperatures};

/// Most answers to a message: more are not read, and `trainer sample` writes them to a file.
const MOST_ANSWERS: usize = 32;

/// A conversation.
pub(super) struct Session {
    pub n: usize,
    settings: Settings,
    intent: Option<Intent>,
    system: Option<String>,
    turns: Vec<Message>,
    /// The answers to the last message, of which one is the last turn.
    answers: Vec<String>,
    /// Answers that were drawn, so that each has random numbers of its own.
    drawn: u64,
    /// The model has no chat template: each message is asked by itself.
    alone: bool,
}

/// Two temperatures.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Intent {
    template: Template,
    intent: f64,
    response: f64,
}

/// What follows from a line.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Nothing,
    /// Words for the user.
    Say(String),
    /// The last turn is to be answered.
    Answer,
    End,
}

/// The commands with what they take and do.
const COMMANDS: &[(&str, &str, &str)] = &[
    ("/temperature", "T", "divides the logits; 1 is the model's own, 0 always takes the most likely token"),
    ("/n", "COUNT", "answers to each message, side by side"),
    ("/keep", "NUMBER", "which of several answers the conversation goes on with; the first one unless said"),
    ("/retry", "", "answer the last message anew"),
    ("/undo", "", "take the last message and its answer back"),
    ("/clear", "", "forget all turns"),
    ("/system", "TEXT", "what the system says before the first turn; without a text nothing"),
    (
        "/intent",
        "TEMPLATE T T",
        "draw an intent first, then the response, each at its temperature: `/intent chat 0.73 0.6`; `off`",
    ),
    ("/top_p", "P", "draw from the smallest set of tokens that holds this much probability"),
    ("/top_k", "K", "draw from this many most likely tokens; 0 is all"),
    ("/min_p", "P", "draw from tokens of at least this part of the largest probability"),
    ("/typical_p", "P", "draw from tokens of a usual surprise that hold this much probability"),
    ("/repetition_penalty", "R", "above 1 what was said already becomes less likely"),
    ("/max_tokens", "COUNT", "most tokens of an answer"),
    ("/seed", "NUMBER", "seed of the draws from here on"),
    ("/settings", "", "how answers are drawn"),
    ("/save", "FILE", "add the conversation to a file, as a row that `data.train` reads"),
    ("/help", "", "these commands"),
    ("/quit", "", "end"),
];

/// The names of the commands, for whoever completes them.
pub(super) fn commands() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(name, ..)| *name)
}

impl Session {
    /// As the command line has it.
    ///
    /// # Errors
    /// A setting that is impossible.
    pub fn new(arguments: &Arguments) -> Result<Self, Fault> {
        let mut session = Self {
            n: 1,
            settings: Settings {
                sampler: arguments.cutting.sampler(1.0),
                repetition_penalty: arguments.cutting.repetition_penalty,
                max_tokens: 1,
                stop: Vec::new(),
                seed: arguments.seed,
            },
            intent: None,
            system: arguments.system.clone(),
            turns: Vec::new(),
            answers: Vec::new(),
            drawn: 0,
            alone: false,
        };
        for (flag, value) in [
            ("temperature", arguments.temperature.to_string()),
            ("n", arguments.n.to_string()),
            ("max_tokens", arguments.max_tokens.to_string()),
        ] {
            let place = || Place::Named(format!("--{}", flag.replace('_', "-")));
            session
                .command(flag, &value)
                .map_err(|fault| fault.at(place()).hint("`trainer chat --help` says what it does"))?;
        }
        if let Some(intent) = &arguments.intent {
            let place = || Place::Named("--intent".into());
            session.command("intent", intent).map_err(|fault| fault.at(place()))?;
        }
        Ok(session)
    }

    /// Says that the model has no chat template.
    pub fn has_no_turns(&mut self) {
        self.alone = true;
    }

    /// What stands before the line that is typed.
    pub fn prompt(&self) -> String {
        "> ".into()
    }

    /// Takes a line: a command or a message.
    ///
    /// # Errors
    /// A command that there is not, or a value that it cannot have.
    pub fn take(&mut self, line: &str) -> Result<Next, Fault> {
        let text = line.trim();
        if text.is_empty() {
            return Ok(Next::Nothing);
        }
        // Two of them are a message that begins with one.
        match text.strip_prefix('/').filter(|rest| !rest.starts_with('/')) {
            Some(command) => {
                let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
                self.command(name, rest.trim())
            }
            None => {
                let text = if text.starts_with("//") { &text[1..] } else { text };
                if self.alone {
                    self.turns.clear();
                }
                self.turns.push(Message::new("user", text));
                self.answers.clear();
                Ok(Next::Answer)
            }
        }
    }

    fn command(&mut self, name: &str, value: &str) -> Result<Next, Fault> {
        let impossible = |must: &str| {
            Fault::new(format!("`{name}` must be {must}, found `{value}`")).hint("`/help` lists the commands")
        };
        let number = |must: &str, holds: fn(f64) -> bool| {
            value.parse::<f64>().ok().filter(|number| holds(*number)).ok_or_else(|| impossible(must))
        };
        let count = |must: &str, most: usize| {
            value.parse::<usize>().ok().filter(|count| (1..=most).contains(count)).ok_or_else(|| impossible(must))
        };
        match name.to_lowercase().replace('-', "_").as_str() {
            "temperature" | "t" | "temp" => {
                self.settings.sampler.temperature = number("a number, 0 or more", |t| t.is_finite() && t >= 0.0)?;
            }
            "n" => self.n = count(&format!("from 1 to {MOST_ANSWERS}"), MOST_ANSWERS)?,
            "top_p" => self.settings.sampler.top_p = number("above 0, up to 1", |p| p > 0.0 && p <= 1.0)?,
            "min_p" => self.settings.sampler.min_p = number("from 0 to 1", |p| (0.0..=1.0).contains(&p))?,
            "typical_p" => self.settings.sampler.typical_p = number("above 0, up to 1", |p| p > 0.0 && p <= 1.0)?,
            "repetition_penalty" => {
                self.settings.repetition_penalty = number("a number above 0", |r| r.is_finite() && r > 0.0)?;
            }
            "top_k" => {
                self.settings.sampler.top_k = value.parse().map_err(|_| impossible("a whole number, 0 or more"))?;
            }
            "max_tokens" => self.settings.max_tokens = count("a whole number, 1 or more", usize::MAX)?,
            "seed" => {
                self.settings.seed = value.parse().map_err(|_| impossible("a whole number, 0 or more"))?;
                self.drawn = 0;
            }
            "intent" => self.intent = intent(value)?,
            "system" => self.system = Some(value.to_owned()).filter(|text| !text.is_empty()),
            "clear" | "reset" | "new" => {
                self.turns.clear();
                self.answers.clear();
            }
            "keep" => return self.keep(value),
            "retry" => return self.retry(),
            "undo" => {
                self.back();
                self.turns.pop_if(|turn| turn.role == "user");
            }
            "save" => return self.save(value),
            "settings" => return Ok(Next::Say(self.shown())),
            "help" | "?" | "h" => return Ok(Next::Say(help())),
            "quit" | "exit" | "bye" | "q" => return Ok(Next::End),
            _ => {
                let names = commands().map(|name| &name[1..]);
                let fault = Fault::new(format!("there is no command `/{name}`"));
                return Err(match nearest(name, names) {
                    Some(near) => fault.hint(format!("did you mean `/{near}`?")),
                    None => fault.hint("`/help` lists the commands; a message that begins with `/` is written `//`"),
                });
            }
        }
        Ok(Next::Nothing)
    }

    /// Takes the last answer off the conversation.
    fn back(&mut self) {
        self.turns.pop_if(|turn| turn.role == "assistant");
        self.answers.clear();
    }

    fn retry(&mut self) -> Result<Next, Fault> {
        self.back();
        match self.turns.is_empty() {
            true => Err(Fault::new("there is no message to answer").hint("write one")),
            false => Ok(Next::Answer),
        }
    }

    fn keep(&mut self, value: &str) -> Result<Next, Fault> {
        let number = value.parse::<usize>().ok().filter(|number| (1..=self.answers.len()).contains(number));
        let Some(number) = number else {
            let count = self.answers.len();
            let fault = Fault::new(format!("there is no answer `{value}`"));
            return Err(match count {
                0 => fault.hint("there are none yet: write a message"),
                _ => fault.hint(format!("there are {count}, the first is 1")),
            });
        };
        if let Some(turn) = self.turns.last_mut() {
            *turn = Message::new("assistant", self.answers[number - 1].as_str());
        }
        Ok(Next::Nothing)
    }

    /// Takes the answers to the last message; the conversation goes on with the first.
    pub fn answered(&mut self, answers: Vec<String>) {
        self.drawn += 1;
        if let Some(first) = answers.first() {
            self.turns.push(Message::new("assistant", first.as_str()));
        }
        self.answers = answers;
    }

    /// Takes the last message back: there is no answer to it.
    pub fn unanswered(&mut self) {
        self.turns.pop_if(|turn| turn.role == "user");
    }

    /// What is asked of the model.
    pub fn asked(&self) -> Asked {
        match (&self.turns.last(), self.alone) {
            (Some(turn), true) => Asked::Text(turn.text().into()),
            _ => Asked::Conversation(Conversation::new(self.messages())),
        }
    }

    fn messages(&self) -> Vec<Message> {
        let system = self.system.as_ref().map(|text| Message::new("system", text.as_str()));
        system.into_iter().chain(self.turns.iter().cloned()).collect()
    }

    /// How the next answers are drawn, with at most `room` tokens.
    pub fn settings(&self, room: usize) -> Settings {
        let Settings { seed, max_tokens, .. } = self.settings;
        Settings { seed: seed.wrapping_add(self.drawn), max_tokens: max_tokens.min(room), ..self.settings.clone() }
    }

    /// The same of answers that begin with an intent.
    pub fn two_temperatures(&self, room: usize) -> Option<TwoTemperatures> {
        let Intent { template, intent, response } = self.intent?;
        let settings = self.settings(room);
        let most = settings.max_tokens.min(40);
        Some(TwoTemperatures {
            template,
            intent: Settings { max_tokens: most, ..at(&settings, intent) },
            response: at(&settings, response),
            max_stages: 20,
        })
    }

    fn shown(&self) -> String {
        let Settings { sampler, repetition_penalty, max_tokens, seed, .. } = &self.settings;
        let Sampler { temperature, top_p, top_k, min_p, typical_p } = sampler;
        let drawn = match self.intent {
            Some(Intent { intent, response, .. }) => format!("intents at {intent}, responses at {response}"),
            None => format!("temperature {temperature}"),
        };
        let system = self.system.as_deref().map(|text| format!("\nsystem: {text}")).unwrap_or_default();
        format!(
            "{drawn}, n {}, top_p {top_p}, top_k {top_k}, min_p {min_p}, typical_p {typical_p}, repetition_penalty {repetition_penalty}, max_tokens {max_tokens}, seed {seed}{system}",
            self.n
        )
    }

    /// Adds the conversation to a file as a row.
    fn save(&self, file: &str) -> Result<Next, Fault> {
        let messages = self.messages();
        if file.is_empty() || !messages.iter().any(|turn| turn.role == "assistant") {
            return Err(Fault::new("there is nothing to save, or no file to save it to")
                .hint("write `/save FILE` when there is an answer"));
        }
        let turns: Vec<_> = messages.iter().map(|turn| json!({ "role": turn.role, "content": turn.text() })).collect();
        let path = Path::new(file);
        let line = faults::json::to_line(&json!({ "messages": turns }));
        let mut options = std::fs::OpenOptions::new();
        let written = options.append(true).create(true).open(path);
        written
            .and_then(|mut file| std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes()))
            .map_err(|error| Fault::of_file("cannot save the conversation", path, &error))?;
        Ok(Next::Say(format!("{} turns are in {file}", messages.len())))
    }
}

/// The same at another temperature.
fn at(settings: &Settings, temperature: f64) -> Settings {
    Settings { sampler: Sampler { temperature, ..settings.sampler }, ..settings.clone() }
}

/// `chat 0.73 0.6`, `chat`, `off`.
fn intent(value: &str) -> Result<Option<Intent>, Fault> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let hint =
        "write `/intent chat 0.73 0.6`, or `/intent off`; the templates are chat, comments, mathematics and code";
    let refused = || Fault::new(format!("`intent` cannot be `{value}`")).hint(hint);
    let (name, temperatures) = words.split_first().ok_or_else(refused)?;
    if *name == "off" {
        return Ok(None);
    }
    let template = Template::WORDS.iter().find(|(word, _)| word == name).map(|(_, template)| *template);
    let temperature = |word: &str| word.parse::<f64>().ok().filter(|t| t.is_finite() && *t >= 0.0).ok_or_else(refused);
    let (intent, response) = match temperatures {
        [] => (0.73, 0.6),
        [intent, response] => (temperature(intent)?, temperature(response)?),
        _ => return Err(refused()),
    };
    Ok(Some(Intent { template: template.ok_or_else(refused)?, intent, response }))
}

fn help() -> String {
    let begins = |(name, takes, _): &(&str, &str, &str)| format!("{name} {takes}");
    let width = COMMANDS.iter().map(|command| begins(command).len()).max().unwrap_or_default();
    let lines = COMMANDS.iter().map(|command| format!("  {:width$}  {}", begins(command), command.2));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
