//! `trainer chat`: a conversation with a model, at a terminal or line by line from anywhere else.

mod answer;
mod columns;
mod input;
mod session;

use std::io;

use clap::Args;
use faults::{Fault, Faults};

use self::answer::Answerer;
use self::input::{Input, Line};
use self::session::{Next, Session};
use super::cutting::Cutting;
use super::model::ModelArguments;
use super::{Outcome, argument, print};
use crate::chat::ChatFlags;

/// Talk with a model.
///
/// What you type is answered through the model's chat template; a base without one goes on with your text. Lines that begin
/// with `/` are commands: `/help` lists them. A `\` at the end of a line goes on in the next one. Ctrl-C ends an answer, Ctrl-D
/// the conversation.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    chat_flags: ChatFlags,
    /// What the system says before the first turn.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Answers to each message, side by side.
    #[arg(long, default_value_t = 1)]
    n: usize,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 512)]
    max_tokens: usize,
    /// Divides the logits; 0 always takes the most likely token.
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    #[command(flatten)]
    cutting: Cutting,
    /// Draw an intent first, then the response, each at a temperature of its own: `chat 0.73 0.6`, or `chat` alone; also
    /// `comments`, `mathematics`, `code`.
    #[arg(long, value_name = "TEMPLATE [T T]")]
    intent: Option<String>,
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
/// Settings that are impossible, a model that cannot be loaded, or an input that cannot be read.
pub fn run(arguments: &Arguments) -> Result<Outcome, Faults> {
    check(arguments)?;
    let mut session = Session::new(arguments)?;
    let chat = arguments.chat_flags.settings(&arguments.model.model)?;
    let mut model = arguments.model.load(&arguments.device)?;
    model.tokenizer = model.tokenizer.with_chat(&chat)?;
    if !model.tokenizer.has_chat_template() {
        session.has_no_turns();
        tracing::warn!(
            "`{}` has no chat template: it goes on with each text that you write, by itself",
            arguments.model.model
        );
    }
    let mut input = Input::open()?;
    if input.is_a_person() {
        tracing::info!("`/help` lists what else you can write; Ctrl-D ends");
    }
    let mut answerer = Answerer::new(&model, input.is_a_person())?;
    loop {
        let line = match input.next(&session.prompt())? {
            Line::Text(line) => line,
            Line::Nothing => continue,
            Line::End => return Ok(Outcome::Done),
        };
        match session.take(&line) {
            Ok(Next::Nothing) => {}
            Ok(Next::Say(words)) => print(&format!("{words}\n"))?,
            Ok(Next::End) => return Ok(Outcome::Done),
            Ok(Next::Answer) => match answerer.answer(&session) {
                Ok(answers) => session.answered(answers),
                // A reader that has gone away has heard enough.
                Err(_) if answerer.is_closed() => return Ok(Outcome::Done),
                Err(fault) => {
                    session.unanswered();
                    super::tell_faults(&fault.into());
                }
            },
            // A line that cannot be meant is told of, and the talk goes on.
            Err(fault) => super::tell_faults(&fault.into()),
        }
    }
}

fn check(arguments: &Arguments) -> Result<(), Faults> {
    let mut faults = Vec::new();
    arguments.cutting.check(&mut |flag, holds, must, hint| {
        if !holds {
            faults.push(Fault::new(format!("`--{flag}` must {must}")).at(argument(flag)).hint(hint));
        }
    });
    Faults::check(faults)
}

/// Where the terminal's own lines are kept.
fn history() -> io::Result<std::path::PathBuf> {
    let folder = std::env::var_os("XDG_STATE_HOME").filter(|folder| !folder.is_empty()).map(std::path::PathBuf::from);
    let home = || Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".local/state"));
    let folder = folder.or_else(home).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.join("trainer");
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join("chat_history"))
}
