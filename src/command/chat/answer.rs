//! Drawing answers and showing them: one as it grows, several side by side when they are there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datasets::{PromptRow, Way};
use faults::{Fault, Place, visible};
use serde_json::Map;
use signal_hook::consts::SIGINT;
use signal_hook::flag;

use super::columns::side_by_side;
use super::session::Session;
use crate::command::print_while_read;
use crate::loading::Loaded;
use crate::logging::terminal;
use crate::sampling::{
    DecoderRows, Growing, Heard, News, Question, Stage, Take, check_room, sample, sample_with_intent,
};

/// A model that answers.
pub(super) struct Answerer<'a> {
    model: &'a Loaded,
    /// Set by Ctrl-C while an answer is drawn.
    stop: Arc<AtomicBool>,
    /// Somebody sits at the terminal.
    person: bool,
    closed: bool,
}

/// Columns of a terminal that does not say how many it has.
const USUAL_COLUMNS: usize = 80;

impl<'a> Answerer<'a> {
    /// Watches for Ctrl-C at a terminal; elsewhere it ends the program as ever.
    ///
    /// # Errors
    /// The system refuses to have it watched for.
    pub fn new(model: &'a Loaded, person: bool) -> Result<Self, Fault> {
        let stop = Arc::new(AtomicBool::new(false));
        if person {
            flag::register(SIGINT, stop.clone()).map_err(|error| {
                Fault::new(format!("cannot watch for Ctrl-C: {error}")).at(Place::Named("SIGINT".into()))
            })?;
        }
        Ok(Self { model, stop, person, closed: false })
    }

    /// True when stdout's reader has gone away.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The answers to the last message, which are on stdout by then. Ctrl-C ends them where they are.
    ///
    /// # Errors
    /// A conversation that the template cannot write, or that leaves no room; logits that are not finite; a stdout that
    /// cannot be written.
    pub fn answer(&mut self, session: &Session) -> Result<Vec<String>, Fault> {
        self.stop.store(false, Ordering::Relaxed);
        let model = self.model;
        let tokenizer = &model.tokenizer;
        let row = PromptRow { asked: session.asked(), beginning: String::new(), columns: Map::new(), place: None };
        let (text, special) = row.fitted(tokenizer, Way::Flags)?.text_with("", tokenizer, Way::Flags)?;
        let ids = tokenizer.encode_beginning(&text, special)?;
        let limit = model.decoder.config.max_position_embeddings;
        check_room(&ids, 1, limit, "").map_err(|fault| {
            let hint = "`/clear` forgets all turns, `/undo` the last one";
            Fault::new(fault.message).hint(if ids.is_empty() { "write some text" } else { hint })
        })?;
        let room = limit - ids.len();
        let answers = match session.two_temperatures(room) {
            Some(settings) => {
                let question = Question { text, special };
                self.several(session.n, |model, take| {
                    sample_with_intent(model, tokenizer, &[question], session.n, &settings, &mut |news| {
                        take(match news {
                            News::Tokens(count) => News::Tokens(count),
                            News::Done(stated) => News::Done(Answer::of_stages(&stated.stages)),
                        })
                    })
                })?
            }
            None if session.n == 1 => vec![self.one(&ids, session, room)?],
            None => {
                let settings = session.settings(room);
                self.several(session.n, |model, take| {
                    sample(model, tokenizer, &[ids], session.n, &settings, &mut |news| {
                        take(match news {
                            News::Tokens(count) => News::Tokens(count),
                            News::Done(sample) => News::Done(Answer::plain(sample.text)),
                        })
                    })
                })?
            }
        };
        Ok(answers.into_iter().map(|answer| answer.trim().to_owned()).collect())
    }

    /// An answer that is shown while it grows.
    fn one(&mut self, ids: &[u32], session: &Session, room: usize) -> Result<String, Fault> {
        let model = self.model;
        let tokenizer = &model.tokenizer;
        let mut growing = Growing::default();
        let mut written = Ok(true);
        let mut show = |piece: &str| {
            if !piece.is_empty() && matches!(written, Ok(true)) {
                written = print_while_read(&visible(piece));
            }
        };
        let mut rows = DecoderRows::new(&model.decoder);
        let mut whole = None;
        let drawn = {
            let mut hear = |rows: &[Vec<u32>]| show(&growing.more(&rows[0], tokenizer, 0));
            let mut model = Heard::new(&mut rows, &mut hear);
            let stop = self.stop.clone();
            sample(&mut model, tokenizer, &[ids.to_vec()], 1, &session.settings(room), &mut |news| {
                if let News::Done(sample) = news {
                    whole = Some(sample.text);
                }
                go_on(&stop)
            })
        };
        let stopped = self.stop.load(Ordering::Relaxed);
        let text = match whole {
            Some(text) => text,
            None if stopped => growing.shown().to_owned(),
            None => {
                drawn?;
                String::new()
            }
        };
        show(&growing.rest(&text));
        show(if stopped { " ..\n" } else { "\n" });
        self.closed = !written?;
        if self.closed {
            return Err(closed());
        }
        Ok(text)
    }

    /// Answers that are shown when all are there, with a bar until then.
    fn several(
        &mut self,
        n: usize,
        draw: impl FnOnce(&mut DecoderRows<'_>, &mut Take<'_, Answer>) -> Result<(), Fault>,
    ) -> Result<Vec<String>, Fault> {
        let mut rows = DecoderRows::new(&self.model.decoder);
        let bar =
            self.person.then(|| terminal::bar("{bar:20.green/dim} {pos} of {len} answers {wide_msg}", n)).flatten();
        let (mut answers, mut tokens): (Vec<Answer>, usize) = (Vec::new(), 0);
        let stop = self.stop.clone();
        let drawn = draw(&mut rows, &mut |news: News<Answer>| {
            match news {
                News::Tokens(count) => tokens += count,
                News::Done(answer) => answers.push(answer),
            }
            if let Some(bar) = &bar {
                bar.set_message(faults::counted(tokens as u64, "token"));
                bar.set_position(answers.len() as u64);
            }
            go_on(&stop)
        });
        drop(bar);
        if !self.stop.load(Ordering::Relaxed) {
            drawn?;
        }
        if answers.is_empty() {
            return Err(Fault::new("stopped before an answer was there").hint("`/retry` asks again"));
        }
        let width = if self.person { terminal::columns_of_stdout().unwrap_or(USUAL_COLUMNS) } else { USUAL_COLUMNS };
        let shown: Vec<String> = answers.iter().map(|answer| visible(&answer.shown)).collect();
        let text = match &shown[..] {
            [one] => one.trim().to_owned(),
            // A program that reads has one below the other.
            _ if !self.person => {
                let numbered = shown.iter().enumerate();
                numbered
                    .map(|(index, answer)| format!("[{}] {}", index + 1, answer.trim()))
                    .collect::<Vec<_>>()
                    .join("\n")
            }
            _ => side_by_side(&shown, width),
        };
        self.closed = !print_while_read(&format!("{text}\n"))?;
        if self.closed { Err(closed()) } else { Ok(answers.into_iter().map(|answer| answer.said).collect()) }
    }
}

fn closed() -> Fault {
    Fault::new("stdout is closed").hint("what is answered from here on would be lost")
}

fn go_on(stop: &AtomicBool) -> Result<(), Fault> {
    match stop.load(Ordering::Relaxed) {
        true => Err(Fault::new("stopped")),
        false => Ok(()),
    }
}

/// An answer as it is shown, and as the conversation goes on with it.
struct Answer {
    shown: String,
    said: String,
}

impl Answer {
    fn plain(text: String) -> Self {
        Self { shown: text.clone(), said: text }
    }

    /// Each intent in brackets before its response; intents are no part of what is said.
    fn of_stages(stages: &[Stage]) -> Self {
        let shown = stages.iter().map(|stage| format!("({}) {}", stage.intent.trim(), stage.response.trim()));
        let said = stages.iter().map(|stage| stage.response.trim());
        Self { shown: shown.collect::<Vec<_>>().join("\n"), said: said.collect::<Vec<_>>().join("\n") }
    }
}
