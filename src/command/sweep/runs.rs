//! The runs of a sweep: each a process of this program, and how it ended.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use checkpoints::Run;
use faults::{Fault, Faults, Place};

use super::folder::{BASE, Folder, State, Sweep};
use super::grid::Point;
use crate::command::announce;

/// How often it is looked whether a process has ended, and whether it is to.
const PAUSE: Duration = Duration::from_millis(20);

/// Prompts whose targets the page shows one by one.
const PROBABILITIES: &str = "3";

/// Why something is not done.
enum Undone {
    /// The user stopped it.
    Interrupted,
    /// The first line of what went wrong.
    Failed(String),
}

impl From<Fault> for Undone {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault.line())
    }
}

/// Trains and measures what is not done yet.
pub(super) struct Runner<'a> {
    program: PathBuf,
    folder: &'a Folder,
    sweep: Mutex<Sweep>,
    points: &'a [Point],
    interrupted: &'a AtomicBool,
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
        Ok(Self { program, folder, sweep: Mutex::new(sweep.clone()), points, interrupted })
    }

    /// Measures the base, and trains and measures every run, `processes` at a time; the sweep as it stands then, or `None`
    /// when the user stopped it.
    ///
    /// # Errors
    /// The base cannot be measured, or the folder cannot be written.
    pub(super) fn run(self, base: Option<&str>, processes: usize) -> Result<Option<Sweep>, Faults> {
        if let Some(base) = base.filter(|_| !self.folder.evaluation(BASE).is_file()) {
            match self.log(BASE).map_err(Undone::from).and_then(|()| self.evaluate(base, BASE)) {
                Ok(()) => {}
                Err(Undone::Interrupted) => return Ok(None),
                Err(Undone::Failed(words)) => {
                    let hint = "nothing is trained before the base can be measured; all it said is in this file";
                    let fault = Fault::new(format!("the base `{base}` cannot be measured: {words}"));
                    return Err(fault.at(Place::file(self.folder.log(BASE))).hint(hint).into());
                }
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
        let stopped = self.interrupted.load(Ordering::Relaxed);
        let sweep = self.sweep.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((!stopped || sweep.runs.iter().all(|run| run.state != State::Waiting)).then_some(sweep))
    }

    /// Trains and measures one run, unless it is done, and notes how that ended.
    fn point(&self, index: usize) -> Result<(), Fault> {
        let point = &self.points[index];
        let place = format!("run {} of {}, {}", index + 1, self.points.len(), point.name);
        if self.with_sweep(|sweep| sweep.runs[index].state == State::Done) {
            announce(&format!("{place}: done before"));
            return Ok(());
        }
        announce(&format!("{place}: training"));
        let started = Instant::now();
        let ended = self
            .train(point)
            .and_then(|()| self.evaluate(&self.folder.run(&point.name).display().to_string(), &point.name));
        let (state, fault) = match ended {
            Ok(()) => {
                announce(&format!("{place}: done in {:.1} s", started.elapsed().as_secs_f64()));
                (State::Done, None)
            }
            Err(Undone::Interrupted) => (State::Waiting, None),
            Err(Undone::Failed(words)) => {
                announce(&format!("{place}: failed: {words}"));
                (State::Failed, Some(words))
            }
        };
        self.with_sweep(|sweep| {
            let run = &mut sweep.runs[index];
            (run.state, run.fault) = (state, fault);
            self.folder.write_sweep(sweep)
        })
    }

    fn with_sweep<T>(&self, act: impl FnOnce(&mut Sweep) -> T) -> T {
        act(&mut self.sweep.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An empty log.
    fn log(&self, name: &str) -> Result<(), Fault> {
        let log = self.folder.log(name);
        File::create(&log).map(drop).map_err(|error| Fault::of_file("cannot write the log", &log, &error))
    }

    /// Trains a run to its end, from its latest checkpoint where it has one.
    fn train(&self, point: &Point) -> Result<(), Undone> {
        self.log(&point.name)?;
        let folder = self.folder.run(&point.name);
        Run::refuse_in_use(&folder)?;
        let has_checkpoint = Run::open(&folder).and_then(|run| run.checkpoints()).is_ok_and(|found| !found.is_empty());
        if folder.exists() && !has_checkpoint {
            // It was stopped before its first checkpoint, and begins anew.
            fs_err::remove_dir_all(&folder).map_err(|error| Fault::of_file("cannot remove it", &folder, &error))?;
        }
        let mut command = Command::new(&self.program);
        command.arg("run").arg(self.folder.recipe());
        let set = self.with_sweep(|sweep| sweep.set.clone());
        let folder = toml::Value::String(folder.display().to_string());
        for set in set.iter().chain(&point.set).chain([&format!("output.dir={folder}")]) {
            command.arg("--set").arg(set);
        }
        if has_checkpoint {
            command.arg("--resume");
        }
        command.stdout(Stdio::null());
        self.wait_for(command, &point.name)
    }

    /// Measures a model; what was measured has its name once it is whole.
    fn evaluate(&self, model: &str, name: &str) -> Result<(), Undone> {
        let evaluation = self.with_sweep(|sweep| sweep.evaluation.clone());
        let mut command = Command::new(&self.program);
        command.args(["eval", model, "--device", &evaluation.device]);
        command.args(["--probabilities", PROBABILITIES]);
        let temperatures: Vec<String> = evaluation.temperatures.iter().map(f64::to_string).collect();
        command.args(["--temperatures", &temperatures.join(",")]);
        for file in &evaluation.data {
            command.args(["--data", file]);
        }
        for rename in &evaluation.rename {
            command.args(["--rename", rename]);
        }
        let (partial, whole) = (self.folder.partial_evaluation(name), self.folder.evaluation(name));
        let unwritten = |error| Fault::of_file("cannot write what was measured", &whole, &error);
        let file = File::create(&partial).map_err(unwritten)?;
        command.stdout(file.try_clone().map_err(unwritten)?);
        self.wait_for(command, name)?;
        file.sync_all().and_then(|()| std::fs::rename(&partial, &whole)).map_err(unwritten)?;
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
        match status.success() {
            true => Ok(()),
            false if asked => Err(Undone::Interrupted),
            false => Err(Undone::Failed(what_went_wrong(&path, status))),
        }
    }
}

/// Keeps the terminal's signals from a process, which are passed on as a request to end, so that they come once; and ends
/// it with this one, however that ends.
fn alone(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
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

/// Asks a process to end: a run writes a checkpoint first.
fn ask_to_end(child: &mut Child) {
    // One that has ended meanwhile needs no asking.
    #[cfg(unix)]
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM);
    #[cfg(not(unix))]
    let _ = child.kill();
}

/// The first error in a log, or how the process ended.
fn what_went_wrong(log: &Path, status: ExitStatus) -> String {
    let text = fs_err::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let error = text.lines().find_map(|line| line.strip_prefix("error: "));
    error.map_or_else(|| status.to_string(), |words| words.trim().to_owned())
}
