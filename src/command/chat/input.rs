//! The lines that are typed: edited and remembered at a terminal, read as they are from anywhere else.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use faults::{Fault, Place};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::session::commands;

/// Lines that are remembered.
const REMEMBERED: usize = 1000;

/// Where lines come from.
pub(super) enum Input {
    Person { editor: Box<Editor<Typing, FileHistory>>, history: Option<PathBuf> },
    Lines,
}

/// A line, or what came in its place.
pub(super) enum Line {
    Text(String),
    /// Ctrl-C: what was typed is thrown away.
    Nothing,
    End,
}

impl Input {
    /// Stdin and stdout, by what they are.
    ///
    /// # Errors
    /// A terminal that cannot be set up.
    pub fn open() -> Result<Self, Fault> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(Self::Lines);
        }
        let config = Config::builder()
            .max_history_size(REMEMBERED)
            .and_then(|config| config.history_ignore_dups(true))
            .map(|config| config.completion_type(CompletionType::List).bracketed_paste(true).build());
        let editor = config.and_then(Editor::with_config).map_err(|error| unreadable(&error))?;
        let mut editor: Box<Editor<Typing, FileHistory>> = Box::new(editor);
        editor.set_helper(Some(Typing));
        // Without a home there is no memory, and the talk goes on.
        let history = super::history().ok();
        if let Some(history) = &history {
            let _ = editor.load_history(history);
        }
        Ok(Self::Person { editor, history })
    }

    /// True at a terminal.
    pub fn is_a_person(&self) -> bool {
        matches!(self, Self::Person { .. })
    }

    /// The next line; one that ends with `\` goes on in the one after it.
    ///
    /// # Errors
    /// An input that cannot be read.
    pub fn next(&mut self, prompt: &str) -> Result<Line, Fault> {
        let text = match self {
            Self::Lines => {
                let mut text = String::new();
                loop {
                    let mut line = String::new();
                    let read = io::stdin().lock().read_line(&mut line).map_err(|error| unreadable(&error))?;
                    text += line.trim_end_matches(['\r', '\n']);
                    match text.strip_suffix('\\') {
                        Some(begun) if read > 0 => text = format!("{begun}\n"),
                        _ if read == 0 && text.is_empty() => return Ok(Line::End),
                        _ => return Ok(Line::Text(text)),
                    }
                }
            }
            Self::Person { editor, history } => match editor.readline(prompt) {
                Ok(text) => {
                    let _ = editor.add_history_entry(&text);
                    if let Some(history) = history {
                        // It is a convenience: a disk that is full does not end a talk.
                        let _ = editor.append_history(history);
                    }
                    text
                }
                Err(ReadlineError::Interrupted) => return Ok(Line::Nothing),
                Err(ReadlineError::Eof) => return Ok(Line::End),
                Err(error) => return Err(unreadable(&error)),
            },
        };
        Ok(Line::Text(text.replace("\\\n", "\n")))
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(format!("stdin cannot be read: {error}")).at(Place::Named("stdin".into()))
}

/// What helps at the terminal: commands are completed, and a line may go on.
pub(super) struct Typing;

impl Completer for Typing {
    type Candidate = Pair;

    fn complete(&self, line: &str, place: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..place];
        let known = commands().filter(|name| typed.starts_with('/') && name.starts_with(typed));
        Ok((0, known.map(|name| Pair { display: name.into(), replacement: format!("{name} ") }).collect()))
    }
}

impl Validator for Typing {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match context.input().ends_with('\\') {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Hinter for Typing {
    type Hint = String;
}

impl Highlighter for Typing {}

impl Helper for Typing {}
