//! The command line: what can be asked for, and how an answer becomes an exit code.
//!
//! Data goes to stdout, everything else to stderr. The exit code is 0 when the work is done, 1 when the user has
//! something to mend, 2 when this program has, 130 when the user stopped it.

mod bench;
mod chat;
mod check;
mod closing;
mod completions;
mod cutting;
mod eval;
mod export;
mod init;
mod inspect;
mod interrupt;
mod man;
mod model;
mod push;
mod recipes;
mod report;
mod run;
mod sample;
mod schema;
mod sweep;
mod usage;
mod version;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::path::Path;
use std::process::ExitCode;

use backbone::device::{self, DTypeName, DeviceName};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use datasets::ChatColumns;
use faults::{Fault, Faults, FromToml, Place};
use losses::Registry;

use crate::loading::{Loaded, Named};
use crate::logging::terminal;
use crate::logging::{self, Format, Verbosity};
use crate::recipe::{self, Recipe};

/// The user has something to mend.
const USER: u8 = 1;
/// This program has something to mend.
const OURS: u8 = 2;
/// The user stopped it: 128 and the number of SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// How a command ended that met no fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is done.
    Done,
    /// The user stopped it, and what there was is saved.
    Interrupted,
    /// One of several processes met a fault, which has been told.
    Failed,
}

/// Fine-tune language models with an objective that is a plug-in: a recipe goes in, a mergeable adapter comes out.
#[derive(Parser)]
#[command(name = "trainer", version, propagate_version = true, max_term_width = 100)]
struct CommandLine {
    #[command(flatten)]
    logs: Logs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Logs {
    /// How log lines are written to stderr; `RUST_LOG` chooses which
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: Format,
    /// Log warnings and errors alone, and show no progress
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Log details
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Arguments),
    Sweep(sweep::Arguments),
    Check(check::Arguments),
    Bench(bench::Arguments),
    Export(export::Arguments),
    Push(push::Arguments),
    Inspect(inspect::Arguments),
    Sample(sample::Arguments),
    Chat(chat::Arguments),
    Eval(Box<eval::Arguments>),
    Report(report::Arguments),
    Recipes(recipes::Arguments),
    Init(init::Arguments),
    Schema(schema::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

impl Command {
    fn run(self, registry: &Registry) -> Result<Outcome, Faults> {
        match self {
            Command::Run(arguments) => run::run(&arguments, registry),
            Command::Sweep(arguments) => sweep::run(&arguments, registry),
            Command::Check(arguments) => check::run(&arguments, registry),
            Command::Bench(arguments) => bench::run(&arguments),
            Command::Export(arguments) => export::run(&arguments),
            Command::Push(arguments) => push::run(&arguments),
            Command::Inspect(arguments) => inspect::run(&arguments),
            Command::Sample(arguments) => sample::run(&arguments),
            Command::Chat(arguments) => chat::run(&arguments),
            Command::Eval(arguments) => eval::run(&arguments),
            Command::Report(arguments) => report::run(&arguments),
            Command::Recipes(arguments) => recipes::run(arguments),
            Command::Init(arguments) => init::run(&arguments, registry),
            Command::Schema(arguments) => schema::run(&arguments, registry),
            Command::Completions(arguments) => completions::run(&arguments, CommandLine::command()),
            Command::Man(arguments) => man::run(&arguments, CommandLine::command()),
        }
    }
}

/// Runs the program with the arguments it was started with; recipes may name what is in `registry`.
pub fn main(registry: &Registry) -> ExitCode {
    panic::set_hook(Box::new(report_panic));
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(message) => return refused(&message),
    };
    // The hook has told what there is to tell.
    panic::catch_unwind(AssertUnwindSafe(|| execute(command_line, registry))).unwrap_or(OURS.into())
}

/// Tells of arguments that cannot be read, or gives the help that was asked for.
fn refused(message: &clap::Error) -> ExitCode {
    let json = logging::asks_for_json(std::env::args_os().skip(1));
    let tell = |mut faults: Vec<Fault>| {
        let format = if json { Format::Json } else { Format::Text };
        faults.extend(logging::start(format, Verbosity::Normal).err());
        if let Err(faults) = Faults::check(faults) {
            tell_faults(&faults);
        }
        USER.into()
    };
    // Help and the version go to stdout and are no fault.
    if message.kind() == ErrorKind::DisplayVersion && version::asks_for_details(std::env::args_os().skip(1)) {
        return print(&version::details()).map_or_else(|fault| tell(vec![fault]), |()| ExitCode::SUCCESS);
    }
    if !message.use_stderr() {
        return match message.print().and_then(|()| io::stdout().flush()).or_else(gone_is_done) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => tell(vec![unwritable(&error)]),
        };
    }
    if message.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !json {
        let _ = message.print();
        return USER.into();
    }
    tell(vec![usage::fault(message)])
}

/// A reader that has gone away, as `head` does, has what it wanted.
fn gone_is_done(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

fn execute(command_line: CommandLine, registry: &Registry) -> ExitCode {
    let Logs { log_format, quiet, verbose } = command_line.logs;
    let is_silent = matches!(&command_line.command, Command::Run(arguments) if arguments.is_silent());
    let verbosity = match (quiet, verbose) {
        _ if is_silent => Verbosity::Silent,
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    let result = logging::start(log_format, verbosity)
        .and_then(|()| check_limit())
        .map_err(Faults::from)
        .and_then(|()| command_line.command.run(registry));
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => INTERRUPTED.into(),
        Ok(Outcome::Failed) => USER.into(),
        Err(faults) => {
            tell_faults(&faults);
            USER.into()
        }
    }
}

/// Looks at what the environment says of instruction sets, before a kernel does.
fn check_limit() -> Result<(), Fault> {
    let limits = kernels::LIMITS.join(", ");
    kernels::limit().map(drop).map_err(|word| {
        Fault::new(format!("`{}` cannot be `{word}`", kernels::LIMIT))
            .at(Place::Named(kernels::LIMIT.into()))
            .hint(format!("one of: {limits}; unset it to use all that this processor has"))
    })
}

/// Reads and checks the recipe in a file.
fn read_recipe(path: &Path, overrides: &[String], registry: &Registry) -> Result<Recipe, Faults> {
    recipe::parse(&path.display().to_string(), &recipe_text(path)?, overrides, registry)
}

/// The text of the recipe in a file.
fn recipe_text(path: &Path) -> Result<String, Fault> {
    if std::fs::metadata(path).is_ok_and(|file| !file.is_file()) {
        let own = path.join("recipe.toml");
        let hint = match own.is_file() {
            true => format!("the recipe of this run is `{}`", own.display()),
            false => "give the recipe's file; `trainer recipes` lists recipes to start from".into(),
        };
        return Err(Fault::new("the recipe is not a file").at(Place::file(path)).hint(hint));
    }
    fs_err::read_to_string(path).map_err(|error| {
        let fault = Fault::of_file("cannot read the recipe", path, &error);
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        match recipes::RECIPES.iter().any(|recipe| recipe.name == name) {
            true => fault.hint(format!("`trainer recipes cp {name}` writes the recipe of this name here")),
            false if error.kind() == io::ErrorKind::NotFound => {
                fault.hint("check the path for a typing error; `trainer recipes` lists recipes to start from")
            }
            false => fault,
        }
    })
}

/// The place that is an option of the command line.
fn argument(name: &str) -> Place {
    Place::Named(format!("--{name}"))
}

/// More samples of a prompt than anybody reads, and fewer than memory holds.
const MOST_SAMPLES: usize = 1_000_000;

fn refuse_too_many(samples: usize) -> Result<(), Fault> {
    if samples <= MOST_SAMPLES {
        return Ok(());
    }
    Err(Fault::new(format!("`--n` cannot be above {MOST_SAMPLES}, found {samples}"))
        .at(argument("n"))
        .hint("draw the rest with another `--seed`"))
}

/// Refuses temperatures of the command line that nothing can be measured at.
fn check_temperatures(temperatures: &[f64]) -> Result<(), Fault> {
    let is_again = |(place, temperature): (usize, &f64)| temperatures[..place].contains(temperature);
    if temperatures.iter().enumerate().any(is_again) {
        let fault = Fault::new("`--temperatures` has one of them twice").at(argument("temperatures"));
        return Err(fault.hint("leave the second one out"));
    }
    if temperatures.iter().all(|temperature| temperature.is_finite() && *temperature >= 0.0) {
        return Ok(());
    }
    let fault = Fault::new("`--temperatures` must be numbers from 0 up").at(argument("temperatures"));
    Err(fault.hint("1 is the model as it is"))
}

/// A column and the key that it stands for, as `--rename` takes them.
fn renamed(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(column, key)| !column.is_empty() && !key.is_empty());
    let (column, key) = pair.ok_or("write COLUMN=KEY, for example `question=prompt`")?;
    Ok((column.into(), key.into()))
}

/// Columns that are the turns of a conversation, as `--chat-columns` takes them: what `data.chat` of a recipe says.
fn chat_columns(text: &str) -> Result<ChatColumns, String> {
    let mut found = ChatColumns::default();
    for part in text.split(',') {
        let (turn, column) = part.split_once('=').filter(|(_, column)| !column.is_empty()).ok_or(CHAT_COLUMNS)?;
        match turn {
            "user" => found.user.push(column.into()),
            "assistant" => found.assistant = column.into(),
            "system" => found.system = Some(column.into()),
            "history" => found.history = Some(column.into()),
            "reasoning_content" => found.reasoning_content = Some(column.into()),
            _ => return Err(format!("there is no `{turn}`: {CHAT_COLUMNS}")),
        }
    }
    match found.user.is_empty() || found.assistant.is_empty() {
        true => Err(CHAT_COLUMNS.into()),
        false => Ok(found),
    }
}

const CHAT_COLUMNS: &str =
    "write user=COLUMN,assistant=COLUMN, and system=, history= or reasoning_content= where there are such columns";

/// A model that was found, on the device named on the command line.
fn load_named(named: &Named, device: &str) -> Result<Loaded, Faults> {
    let device = open_device(device)?;
    let dtype = device::dtype(DTypeName::Auto, &device);
    named.tell_of_other_base()?;
    named.load(&device, dtype)
}

/// The device named on the command line.
fn open_device(device: &str) -> Result<burn::tensor::Device, Fault> {
    let wanted = DeviceName::from_toml(&toml::Value::String(device.into())).ok_or_else(|| {
        Fault::new(format!("`--device` cannot be `{device}`"))
            .at(argument("device"))
            .hint("one of: auto, cpu, cuda, cuda:N")
    })?;
    device::open(wanted).map_err(|fault| fault.or_at(argument("device")))
}

/// Writes data to stdout. A reader that has gone away, as `head` does, has what it wanted.
///
/// # Errors
/// Stdout that cannot be written for another reason, such as a full disk.
pub fn print(text: &str) -> Result<(), Fault> {
    print_while_read(text).map(|_| ())
}

/// The same for what comes piece by piece: false when the reader has gone away.
///
/// # Errors
/// As [`print`].
pub fn print_while_read(text: &str) -> Result<bool, Fault> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(unwritable(&error)),
    }
}

fn unwritable(error: &io::Error) -> Fault {
    Fault::of_file("cannot write there", "stdout", error)
        .hint("stdout goes to a file or a device that takes no more: name another")
}

/// Tells of the run on stderr, unless that is held back: as it is to a person, as a log line where those are JSON.
fn announce(message: &str) {
    if logging::writes_json() {
        tracing::info!("{message}");
    } else if tracing::enabled!(tracing::Level::INFO) {
        // It may name what others have named.
        tell(&faults::visible(message));
    }
}

/// Tells what the user has to mend: drawn for a person, a log line each where those are JSON.
fn tell_faults(faults: &Faults) {
    if !logging::writes_json() {
        // Beside `  = hint: ` and as much as the number of a line takes.
        let columns = terminal::columns().map(|columns| columns.saturating_sub(12));
        let fitting = |text: &str| terminal::wrapped(text, columns, 0);
        let fits = |fault: Fault| Fault {
            message: fitting(&fault.message),
            hint: fault.hint.as_deref().map(fitting),
            place: fault.place,
        };
        return tell(&faults.clone().map(fits).render(logging::colour()));
    }
    for Fault { message, place, hint } in faults.list() {
        let place = place.as_ref().map(ToString::to_string);
        tracing::error!(place, hint, "{message}");
    }
}

/// Writes a message to stderr, where nobody can be told that stderr is gone.
fn tell(message: &str) {
    terminal::beside_the_bar(|| {
        let _ = writeln!(io::stderr(), "{message}");
    });
}

/// Tells of a broken invariant in place of the standard hook, whose words are for programmers.
fn report_panic(panic: &PanicHookInfo) {
    // One of others' code on others' files: who called it tells of the file.
    if faults::is_caught() {
        return;
    }
    let place = panic.location().map_or("an unknown place".into(), ToString::to_string);
    let mut message = format!(
        "error: a fault of this program, not of yours: {}\n --> {place}\nhint: please report it with the command and the \
         recipe; `RUST_BACKTRACE=1` adds where it came from",
        panic.payload_as_str().unwrap_or("it panicked without a word")
    );
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        message += &format!("\n{backtrace}");
    }
    tell(&message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
