//! A program that answers lines by lines: started by the shell, read and written by threads, so that nothing it does or
//! leaves undone holds this program up.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use faults::shortened;

/// Bytes of the longest answer.
const LONGEST: u64 = 1 << 20;

/// Lines that wait to be read.
const WAITING: usize = 16;

/// Bytes of its stderr that are kept, the last ones.
const KEPT: usize = 2048;

/// How long a program is given to end by itself.
const PATIENCE: Duration = Duration::from_secs(1);

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A line.
    Line(Vec<u8>),
    /// A line that was longer than any answer.
    TooLong,
    /// The end of its output.
    End,
    /// Nothing in time.
    Late,
}

/// A running program; it ends when this is dropped.
pub(super) struct Process {
    child: Child,
    requests: Option<Sender<String>>,
    lines: Receiver<Heard>,
    words: Receiver<Vec<u8>>,
    ended: Option<ExitStatus>,
    /// Lines that it has answered.
    pub answered: usize,
}

impl Process {
    /// Starts `command` by the shell.
    pub fn start(command: &str) -> io::Result<Self> {
        let mut child = shell(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        #[cfg(unix)]
        ending::watch(&child);
        let mut stdin = child.stdin.take().expect("it was asked for");
        let stdout = child.stdout.take().expect("it was asked for");
        let mut stderr = child.stderr.take().expect("it was asked for");
        let (requests, asked) = mpsc::channel::<String>();
        // A program that does not read makes this wait, one that reads no more ends it.
        thread::spawn(move || {
            for line in asked {
                if stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).is_err() {
                    return;
                }
            }
        });
        let (answers, lines) = mpsc::sync_channel(WAITING);
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            loop {
                let heard = next(&mut stdout);
                let is_last = matches!(heard, Heard::End | Heard::TooLong);
                if answers.send(heard).is_err() || is_last {
                    return;
                }
            }
        });
        let (said, words) = mpsc::channel();
        thread::spawn(move || {
            let (mut last, mut part) = (Vec::new(), [0; 4096]);
            while let Ok(count @ 1..) = stderr.read(&mut part) {
                last.extend_from_slice(&part[..count]);
                let from = last.len().saturating_sub(KEPT);
                last.drain(..from);
            }
            let _ = said.send(last);
        });
        Ok(Self { child, requests: Some(requests), lines, words, ended: None, answered: 0 })
    }

    /// Gives it a line, and waits for its answer.
    pub fn ask(&mut self, line: &str, limit: Duration) -> Heard {
        if let Some(requests) = &self.requests {
            // Where nobody reads, no answer will come, or has come already.
            let _ = requests.send(format!("{line}\n"));
        }
        self.wait(limit)
    }

    /// What came without being asked for.
    pub fn heard(&mut self) -> Option<Heard> {
        match self.lines.try_recv() {
            Ok(heard) => Some(heard),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Heard::End),
        }
    }

    /// Tells it that there is no more, and waits for its end.
    pub fn finish(&mut self, limit: Duration) -> Heard {
        self.requests = None;
        self.wait(limit)
    }

    fn wait(&self, limit: Duration) -> Heard {
        match self.lines.recv_timeout(limit) {
            Ok(heard) => heard,
            Err(RecvTimeoutError::Timeout) => Heard::Late,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }

    /// How it ended, which it is given a moment to do; `None` where it goes on without output, and is ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.requests = None;
        let started = Instant::now();
        while self.ended.is_none() && started.elapsed() < PATIENCE {
            self.ended = self.child.try_wait().ok().flatten();
            thread::sleep(Duration::from_millis(5));
        }
        let status = self.ended;
        self.end();
        status
    }

    /// Ends it, and gives the last that it said to its stderr, in one line.
    pub fn last_words(&mut self) -> String {
        self.end();
        let said = self.words.recv_timeout(PATIENCE).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        shortened(&lines[lines.len().saturating_sub(2)..].join(" / "))
    }

    fn end(&mut self) {
        #[cfg(unix)]
        ending::end(&self.child);
        if self.ended.is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The next line that is not blank; the last one may have no end.
fn next(stdout: &mut impl BufRead) -> Heard {
    let mut line = Vec::new();
    loop {
        line.clear();
        match stdout.take(LONGEST + 1).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return Heard::End,
            Ok(_) if line.len() as u64 > LONGEST => return Heard::TooLong,
            Ok(_) if line.trim_ascii().is_empty() => {}
            Ok(_) => return Heard::Line(line),
        }
    }
}

#[cfg(unix)]
fn shell(command: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let mut shell = Command::new("sh");
    // A group of its own, so that whatever the shell starts ends with it.
    shell.args(["-c", command]).process_group(0);
    shell
}

#[cfg(not(unix))]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("cmd");
    shell.args(["/C", command]);
    shell
}

/// Ending a program with all that it has started.
#[cfg(unix)]
mod ending {
    use std::process::Child;
    use std::sync::Once;
    use std::sync::atomic::{AtomicI32, Ordering};

    use rustix::process::{Pid, Signal, kill_process_group};
    use signal_hook::consts::{SIGINT, SIGTERM};

    /// The group of the program that runs; 0 for none.
    static RUNNING: AtomicI32 = AtomicI32::new(0);

    /// Sees to it that a program in a group of its own, which a terminal's Ctrl-C does not reach, ends with this one.
    pub(super) fn watch(child: &Child) {
        static WATCHED: Once = Once::new();
        RUNNING.store(Pid::from_child(child).as_raw_nonzero().get(), Ordering::SeqCst);
        WATCHED.call_once(|| {
            let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else { return };
            std::thread::spawn(move || {
                for signal in &mut signals {
                    if let Some(group) = Pid::from_raw(RUNNING.load(Ordering::SeqCst)) {
                        let _ = kill_process_group(group, Signal::KILL);
                    }
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
            });
        });
    }

    /// Ends the group, if it is the one that runs.
    pub(super) fn end(child: &Child) {
        let group = Pid::from_child(child);
        let own = group.as_raw_nonzero().get();
        if RUNNING.compare_exchange(own, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
