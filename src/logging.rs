//! Logs on stderr: words for a person at a terminal, `key=value` in a file, JSON for a program. They are never torn by the
//! progress bar, and what cannot be written is dropped: a stream that is gone is no reason to stop a run.

pub mod columns;
pub mod terminal;
pub mod typed;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use faults::{Fault, Place};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a person at a terminal, `key=value` elsewhere.
    Text,
    /// One JSON object per line.
    Json,
}

/// How much is logged where `RUST_LOG` says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Nothing, whatever `RUST_LOG` says: another process speaks for this one.
    Silent,
    /// Warnings and errors.
    Quiet,
    /// What a run does.
    Normal,
    /// How it does it.
    Verbose,
}

static DRAWS_PROGRESS: AtomicBool = AtomicBool::new(false);
static IS_READ_AS_WRITTEN: AtomicBool = AtomicBool::new(false);
static WRITES_JSON: AtomicBool = AtomicBool::new(false);

/// Whether a progress bar is wanted: stderr is a terminal that can move its cursor, and carries text that is not held back.
pub fn draws_progress() -> bool {
    DRAWS_PROGRESS.load(Ordering::Relaxed)
}

/// Whether a person reads the log while it is written: it is text on a terminal.
pub fn is_read_as_written() -> bool {
    IS_READ_AS_WRITTEN.load(Ordering::Relaxed)
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
    let on_terminal = format == Format::Text && io::stderr().is_terminal();
    IS_READ_AS_WRITTEN.store(on_terminal, Ordering::Relaxed);
    let is_quiet = matches!(verbosity, Verbosity::Quiet | Verbosity::Silent);
    let draws_progress = on_terminal && !is_quiet && !console::is_dumb();
    DRAWS_PROGRESS.store(draws_progress, Ordering::Relaxed);
    WRITES_JSON.store(format == Format::Json, Ordering::Relaxed);
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter(verbosity)?).with_writer(Stderr).with_target(false);
    match format {
        Format::Text if on_terminal => subscriber.with_ansi(colour()).event_format(Words).init(),
        Format::Text => subscriber.without_time().with_ansi(colour()).compact().init(),
        Format::Json => subscriber.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
    Ok(())
}

fn filter(verbosity: Verbosity) -> Result<EnvFilter, Fault> {
    if verbosity == Verbosity::Silent {
        return Ok(EnvFilter::new("off"));
    }
    // Other crates at a level above ours: what they tell is about themselves.
    let (others, ours) = match verbosity {
        Verbosity::Silent => ("off", "off"),
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
    /// Never fails: the subscriber would tell of it on the stream that has failed.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        terminal::beside_the_bar(|| {
            let _ = io::stderr().write_all(line);
        });
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines for a person: what a warning is says so, and long ones break between words.
struct Words;

impl<S, N> FormatEvent<S, N> for Words
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (name, colour) = match *event.metadata().level() {
            Level::ERROR => ("error: ", "31"),
            Level::WARN => ("warning: ", "33"),
            Level::INFO => ("", ""),
            Level::DEBUG => ("debug: ", "2"),
            Level::TRACE => ("trace: ", "2"),
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let text = format!("{name}{}{}", fields.message, fields.others);
        let text = terminal::wrapped(&faults::visible(&text), terminal::columns(), 2);
        match text.strip_prefix(name).filter(|_| !name.is_empty() && writer.has_ansi_escapes()) {
            Some(rest) => writeln!(writer, "\u{1b}[{colour}m{name}\u{1b}[0m{rest}"),
            None => writeln!(writer, "{text}"),
        }
    }
}

/// The fields of an event: its message, and the others after it.
#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.others += &format!(" {name}={value:?}"),
        }
    }
}
