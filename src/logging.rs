//! Logs on stderr, as text for a person or JSON for a program, never torn by the progress bar.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use faults::{Fault, Place};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::report::progress;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a person.
    Text,
    /// One JSON object per line.
    Json,
}

/// How much is logged where `RUST_LOG` says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Warnings and errors.
    Quiet,
    /// What a run does.
    Normal,
    /// How it does it.
    Verbose,
}

static DRAWS_PROGRESS: AtomicBool = AtomicBool::new(false);
static WRITES_JSON: AtomicBool = AtomicBool::new(false);

/// Whether a progress bar is wanted: stderr is a terminal and carries text that is not held back.
pub fn draws_progress() -> bool {
    DRAWS_PROGRESS.load(Ordering::Relaxed)
}

/// Whether stderr carries one JSON object a line and nothing else.
pub fn writes_json() -> bool {
    WRITES_JSON.load(Ordering::Relaxed)
}

/// True when stderr takes colour: a terminal, unless `NO_COLOR` or `CLICOLOR` say otherwise.
pub fn colour() -> bool {
    anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
}

/// True when stdout takes colour, by the same rules.
pub fn colour_on_stdout() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

/// Whether a command line that cannot be read asks for JSON all the same.
pub fn asks_for_json(arguments: impl Iterator<Item = OsString>) -> bool {
    let arguments: Vec<OsString> = arguments.take_while(|argument| argument != "--").collect();
    arguments.iter().any(|argument| argument == "--log-format=json")
        || arguments.windows(2).any(|pair| pair[0] == "--log-format" && pair[1] == "json")
}

/// Starts logging for the whole program. `RUST_LOG` comes before `verbosity`.
///
/// # Errors
/// A `RUST_LOG` that cannot be read.
pub fn start(format: Format, verbosity: Verbosity) -> Result<(), Fault> {
    let text_for_a_person = format == Format::Text && verbosity != Verbosity::Quiet;
    DRAWS_PROGRESS.store(text_for_a_person && io::stderr().is_terminal(), Ordering::Relaxed);
    WRITES_JSON.store(format == Format::Json, Ordering::Relaxed);
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter(verbosity)?).with_writer(Stderr).with_target(false);
    match format {
        Format::Text => subscriber.without_time().with_ansi(colour()).compact().init(),
        Format::Json => subscriber.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
    Ok(())
}

fn filter(verbosity: Verbosity) -> Result<EnvFilter, Fault> {
    // Other crates at a level above ours: what they tell is about themselves.
    let (others, ours) = match verbosity {
        Verbosity::Quiet => ("error", "warn"),
        Verbosity::Normal => ("warn", "info"),
        Verbosity::Verbose => ("info", "debug"),
    };
    let crates = ["trainer", "losses", "datasets", "checkpoints"].map(|name| format!("{name}={ours}"));
    let default = format!("{others},{}", crates.join(","));
    let written = std::env::var("RUST_LOG").ok().filter(|written| !written.is_empty());
    EnvFilter::builder().parse(written.unwrap_or(default)).map_err(|error| {
        Fault::new(format!("cannot read `RUST_LOG`: {error}"))
            .at(Place::Named("RUST_LOG".into()))
            .hint("for example `RUST_LOG=debug` or `RUST_LOG=warn,trainer=debug`")
    })
}

/// Stderr, with the progress bar taken away while a line is written.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Stderr;

    fn make_writer(&'a self) -> Stderr {
        Stderr
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        progress::beside_the_bar(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
