//! The runs of a sweep: each a process of this program, and how it ended.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use checkpoints::{Lock, Run, again};
use datasets::{Asking, Way};
use faults::{Fault, Faults, Place};
use serde_json::json;

use super::folder::{BASE, Folder, RunState, State, Sweep, partial};
use super::grid::Point;
use super::sampling;
use crate::command::announce;
use crate::logging::terminal;

/// How often it is looked whether a process has ended, and whether it is to.
const PAUSE: Duration = Duration::from_millis(20);

/// Prompts whose targets the page shows one by one.
const PROBABILITIES: &str = "3";

/// Why something is not done.
pub(super) enum Undone {
    /// The user stopped it, or a cluster did.
    Interrupted,
    /// The first line of what went wrong.
    Failed(String),
}

impl From<Fault> for Undone {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault.line())
    }
}

impl RunState {
    fn note(&mut self, ended: Result<(), Undone>) {
        (self.state, self.fault) = match ended {
            Ok(()) => (State::Done, None),
            Err(Undone::Interrupted) => (State::Waiting, None),
            Err(Undone::Failed(words)) => (State::Failed, Some(words)),
        };
    }
}

/// Trains and measures what is not done yet.
pub(super) struct Runner<'a> {
    program: PathBuf,
    folder: &'a Folder,
    sweep: Mutex<Sweep>,
    points: &'a [Point],
    interrupted: &'a AtomicBool,
    /// Whether rows that all are measured on have targets, once that is asked.
    has_targets: OnceLock<bool>,
}

impl<'a> Runner<'a> {
    /// For the runs of `sweep`, which are those of `points`; they end when `interrupted` is set.
    ///
    /// # Errors
    /// The program cannot tell where it is.
    pub(super) fn new(
        folder: &'a Folder,
        sweep: &Sweep,
        points: &'a [Point],
        interrupted: &'a AtomicBool,
    ) -> Result<Self, Fault> {
        let program =
            std::env::current_exe().map_err(|error| Fault::of_file("cannot find itself", "trainer", &error))?;
        Ok(Self {
            program,
            folder,
            sweep: Mutex::new(sweep.clone()),
            points,
            interrupted,
            has_targets: OnceLock::new(),
        })
    }

    /// Measures the base, unless it is measured or there is none.
    pub(super) fn base(&self) -> Result<(), Undone> {
        let Some(base) = self.with_sweep(|sweep| sweep.base.clone()) else { return Ok(()) };
        if self.with_sweep(|sweep| self.folder.is_measured(sweep, BASE)) {
            return Ok(());
        }
        let _held = self.log(BASE)?;
        self.measure(&base, BASE)
    }

    /// Measures the base, and trains and measures every run, `processes` at a time; the sweep as it stands then, or `None`
    /// when it was stopped.
    ///
    /// # Errors
    /// The base cannot be measured, or the folder cannot be written.
    pub(super) fn run(self, processes: usize) -> Result<Option<Sweep>, Faults> {
        match self.base() {
            Ok(()) => {}
            Err(Undone::Interrupted) => return Ok(None),
            Err(Undone::Failed(words)) => {
                let hint = "nothing is trained before the base can be measured; all it said is in this file";
                return Err(unmeasured_base(self.folder, &words).hint(hint).into());
            }
        }
        let next = Mutex::new(0..self.points.len());
        let work = || -> Result<(), Fault> {
            while !self.interrupted.load(Ordering::Relaxed) {
                // In a statement of its own: the queue is not held while a run goes on.
                let index = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(index) = index else { break };
                self.point(index)?;
            }
            Ok(())
        };
        let ended: Vec<Result<(), Fault>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..processes.min(self.points.len())).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        Faults::check(ended.into_iter().filter_map(Result::err).collect())?;
        let sweep = self.sweep.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(sweep.runs.iter().all(|run| run.state != State::Waiting).then_some(sweep))
    }

    /// Measures what is trained and not measured, and notes where every run stands; `None` when it was stopped.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn collect(self) -> Result<Option<Sweep>, Fault> {
        for (index, point) in self.points.iter().enumerate() {
            let log = self.folder.log(&point.name);
            let ended = if self.with_sweep(|sweep| sweep.runs[index].state == State::Done) {
                Ok(())
            } else if self.folder.is_trained(&point.name) {
                say(&format!("{}: measuring", point.name));
                self.log(&point.name).map_err(Undone::from).and_then(|_held| self.measure_run(point))
            } else {
                Err(error_in(&log).map_or(Undone::Interrupted, Undone::Failed))
            };
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.with_sweep(|sweep| sweep.runs[index].note(ended));
        }
        self.with_sweep(|sweep| self.folder.write_sweep(sweep))?;
        Ok(Some(self.sweep.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Trains and measures one run, unless it is done.
    pub(super) fn task(&self, index: usize) -> Result<(), Undone> {
        let point = &self.points[index];
        let _held = self.log(&point.name)?;
        if self.with_sweep(|sweep| sweep.model.is_none()) {
            self.train(point)?;
        }
        self.measure_run(point)
    }

    /// Trains and measures one run, unless it is done, and notes how that ended.
    fn point(&self, index: usize) -> Result<(), Fault> {
        let point = &self.points[index];
        let place = format!("run {} of {}, {}", index + 1, self.points.len(), point.name);
        if self.with_sweep(|sweep| sweep.runs[index].state == State::Done) {
            say(&format!("{place}: done before"));
            return Ok(());
        }
        let doing = if self.with_sweep(|sweep| sweep.model.is_some()) { "sampling" } else { "training" };
        say(&format!("{place}: {doing}"));
        let started = Instant::now();
        let ended = self.task(index);
        match &ended {
            Ok(()) => say(&format!("{place}: done in {:.1} s", started.elapsed().as_secs_f64())),
            Err(Undone::Interrupted) => say(&format!("{place}: stopped")),
            Err(Undone::Failed(words)) => say(&format!("{place}: failed: {words}")),
        }
        self.note(index, ended)
    }

    fn note(&self, index: usize, ended: Result<(), Undone>) -> Result<(), Fault> {
        self.with_sweep(|sweep| {
            sweep.runs[index].note(ended);
            self.folder.write_sweep(sweep)
        })
    }

    fn with_sweep<T>(&self, act: impl FnOnce(&mut Sweep) -> T) -> T {
        act(&mut self.sweep.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An empty log, which keeps every other process from this run while it is held.
    fn log(&self, name: &str) -> Result<File, Fault> {
        let path = self.folder.log(name);
        let unwritten = |error| Fault::of_file("cannot write the log", &path, &error);
        let log = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(unwritten)?;
        match Lock::ask(|| log.try_lock()) {
            Lock::Held => {}
            Lock::Taken => {
                let fault = Fault::new(format!("another process is at `{name}`")).at(Place::file(&path));
                return Err(fault.hint("wait for it"));
            }
            Lock::Missing(error) => Lock::warn_of_missing(&path, &error),
        }
        log.set_len(0).map_err(unwritten)?;
        Ok(log)
    }

    /// Trains a run to its end, from its latest checkpoint where it has one.
    fn train(&self, point: &Point) -> Result<(), Undone> {
        let folder = self.folder.run(&point.name);
        Run::refuse_in_use(&folder)?;
        let has_checkpoint = Run::has_checkpoints(&folder)?;
        if folder.exists() && !has_checkpoint {
            // It was stopped before its first checkpoint, and begins anew.
            fs_err::remove_dir_all(&folder).map_err(|error| Fault::of_file("cannot remove it", &folder, &error))?;
        }
        let mut command = Command::new(&self.program);
        command.arg("run").arg(self.folder.recipe());
        let set = self.with_sweep(|sweep| sweep.set.clone());
        let folder = one_line(&folder.display().to_string());
        for set in set.iter().chain(&point.set).chain([&format!("output.dir={folder}")]) {
            command.arg("--set").arg(set);
        }
        if has_checkpoint {
            command.arg("--resume");
        }
        command.stdout(Stdio::null());
        self.wait_for(command, &point.name)
    }

    fn measure_run(&self, point: &Point) -> Result<(), Undone> {
        match self.with_sweep(|sweep| sweep.model.clone()) {
            Some(model) => self.sample(&model, &point.name, &point.set),
            None => self.measure(&self.folder.run(&point.name).display().to_string(), &point.name),
        }
    }

    /// Measures a model on the rows of the sweep, and samples of it where there are to be any.
    fn measure(&self, model: &str, name: &str) -> Result<(), Undone> {
        if !self.folder.evaluation(name).is_file() {
            self.evaluate(model, name)?;
        }
        self.sample(model, name, &[])
    }

    /// Draws samples where there are to be any and are none yet, with options of a point beside those of the sweep, and
    /// measures them.
    fn sample(&self, model: &str, name: &str, set: &[String]) -> Result<(), Undone> {
        let Some(samples) = self.with_sweep(|sweep| sweep.samples.clone()) else { return Ok(()) };
        let file = self.folder.samples(name);
        if !file.is_file() {
            let mut command = Command::new(&self.program);
            command
                .args(["sample", model, "--prompts", &samples.prompts])
                .args(sampling::options(&samples.options, set));
            self.write_output(command, &file, name)?;
        }
        let measured = self.with_sweep(|sweep| self.folder.measured_samples(sweep, name));
        if measured.is_file() {
            return Ok(());
        }
        let mut command = Command::new(&self.program);
        command.args(["eval", "--samples"]).arg(file).args(sampling::options(&samples.measure, &[]));
        self.write_output(command, &measured, name)
    }

    /// Measures a model on the rows of the sweep.
    fn evaluate(&self, model: &str, name: &str) -> Result<(), Undone> {
        let evaluation = self.with_sweep(|sweep| sweep.evaluation.clone());
        let mut command = Command::new(&self.program);
        command.args(["eval", model, "--device", &evaluation.device]);
        let look = || evaluation.data.iter().any(|file| has_targets(Path::new(file), &evaluation.rename));
        if *self.has_targets.get_or_init(look) {
            command.args(["--probabilities", PROBABILITIES]);
        }
        let temperatures: Vec<String> = evaluation.temperatures.iter().map(f64::to_string).collect();
        command.args(["--temperatures", &temperatures.join(",")]);
        for file in &evaluation.data {
            command.args(["--data", file]);
        }
        for rename in &evaluation.rename {
            command.args(["--rename", rename]);
        }
        self.write_output(command, &self.folder.evaluation(name), name)
    }

    /// Runs a command whose output becomes a file, which has its name once it is whole.
    fn write_output(&self, mut command: Command, whole: &Path, name: &str) -> Result<(), Undone> {
        let partial = partial(whole);
        let unwritten = |error| Fault::of_file("cannot write it", whole, &error);
        // A new file: what a sweep that was killed may have left behind cannot write into it.
        match again(|| std::fs::remove_file(&partial)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unwritten(error).into()),
            _ => {}
        }
        let file = File::create_new(&partial).map_err(unwritten)?;
        command.stdout(file.try_clone().map_err(unwritten)?);
        self.wait_for(command, name)?;
        file.sync_all().and_then(|()| again(|| std::fs::rename(&partial, whole))).map_err(unwritten)?;
        Ok(())
    }

    /// Runs a command to its end, its words in the log of `name`.
    fn wait_for(&self, mut command: Command, name: &str) -> Result<(), Undone> {
        let path = self.folder.log(name);
        let unwritten = |error| Fault::of_file("cannot write the log", &path, &error);
        let log = File::options().append(true).create(true).open(&path).map_err(unwritten)?;
        command.stdin(Stdio::null()).stderr(log);
        // The log is a file: plain words, and no colours.
        command.args(["--log-format", "text"]).env("NO_COLOR", "1").env_remove("CLICOLOR_FORCE");
        alone(&mut command);
        let unstarted = |error| Fault::of_file("cannot start it", &self.program, &error);
        let mut child = command.spawn().map_err(unstarted)?;
        let mut asked = false;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(unstarted)? {
                break status;
            }
            if !asked && self.interrupted.load(Ordering::Relaxed) {
                ask_to_end(&mut child);
                asked = true;
            }
            thread::sleep(PAUSE);
        };
        if status.success() {
            return Ok(());
        }
        if asked || was_asked_to_end(status) {
            return Err(Undone::Interrupted);
        }
        let words = error_in(&path).unwrap_or_else(|| {
            let words = words(status);
            // For who reads the log later, such as `--collect`. That the run failed is told in any case.
            if let Ok(mut log) = File::options().append(true).open(&path) {
                let _ = writeln!(log, "{ERROR}{words}");
            }
            words
        });
        Err(Undone::Failed(words))
    }
}

/// Whether rows of a file have targets, whose probabilities can be shown.
fn has_targets(file: &Path, rename: &[String]) -> bool {
    let rename: Vec<(String, String)> = rename
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(column, key)| (column.into(), key.into()))
        .collect();
    // Rows without a question have no targets; what else is wrong with them `trainer eval` says.
    datasets::read_prompts(file, Asking { rename: &rename, way: Way::Flags, ..Asking::default() })
        .is_ok_and(|prompts| prompts.rows.iter().any(|row| row.columns.contains_key("targets")))
}

/// A text as TOML and `--set` read it, on one line whatever it holds.
fn one_line(text: &str) -> String {
    // JSON's strings are TOML's, but for a mark that JSON does not escape.
    json!(text).to_string().replace('\u{7f}', "\\u007f")
}

/// What an error begins with in a log.
const ERROR: &str = "error: ";

/// The base cannot be measured.
pub(super) fn unmeasured_base(folder: &Folder, words: &str) -> Fault {
    Fault::new(format!("the base cannot be measured: {words}")).at(Place::file(folder.log(BASE)))
}

/// True where somebody else asked the process to end: a cluster signals all processes of a task, not the first alone.
fn was_asked_to_end(status: ExitStatus) -> bool {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return [libc::SIGTERM, libc::SIGINT, libc::SIGHUP].contains(&signal);
    }
    status.code().is_some_and(|code| [130, 143].contains(&code))
}

/// How a process ended that said nothing of it.
fn words(status: ExitStatus) -> String {
    #[cfg(unix)]
    if std::os::unix::process::ExitStatusExt::signal(&status) == Some(libc::SIGKILL) {
        return "it was killed, as the system does when memory runs out".into();
    }
    status.to_string()
}

/// Keeps the terminal's signals from a process, which are passed on as a request to end, so that they come once; and ends
/// it with this one, however that ends.
fn alone(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(unix)]
    // SAFETY: between fork and exec a system call is all that is made.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, || {
            // It hears requests to end, even where this one was started by `nohup`.
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        });
    }
    #[cfg(target_os = "linux")]
    // SAFETY: between fork and exec a system call is all that is made.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, || {
            match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

/// Asks a process to end: a run writes a checkpoint first. By SIGHUP, of which there may be several: a cluster sends SIGTERM to
/// all processes of a task at once, and a second one of those would stop the run without a checkpoint.
fn ask_to_end(child: &mut Child) {
    // One that has ended meanwhile needs no asking.
    #[cfg(unix)]
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::HUP);
    #[cfg(not(unix))]
    let _ = child.kill();
}

/// The first error in a log.
fn error_in(log: &Path) -> Option<String> {
    let text = fs_err::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| line.strip_prefix(ERROR)).map(|words| words.trim().to_owned())
}

/// Tells how far a sweep is, in lines that fit the terminal.
fn say(words: &str) {
    announce(&terminal::wrapped(words, terminal::columns(), 2));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_is_one_line_of_toml() {
        for text in ["plain", "it's \"a\"\nb\t\\ \u{7f}\u{1b} 狐", ""] {
            let line = one_line(text);
            let read: toml::Table = toml::from_str(&format!("value = {line}")).expect("TOML");
            assert!(!line.contains('\n') && read["value"].as_str() == Some(text), "{line}");
        }
    }
}
