//! What a person sees: the program on a terminal of its own, at which it may be alone.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::{PROGRAM, SILENCED, Workplace};

/// A terminal with a program on it.
struct Terminal {
    child: Child,
    screen: JoinHandle<Vec<u8>>,
}

/// The two ends of a terminal of so many columns.
fn ends(columns: u16) -> (OwnedFd, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(ours.as_fd()).expect("a terminal");
    unlockpt(ours.as_fd()).expect("a terminal");
    let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(ours.as_fd(), size).expect("a terminal");
    let name = ptsname(ours.as_fd(), Vec::new()).expect("a terminal").into_string().expect("a path");
    let no_control = rustix::fs::OFlags::NOCTTY.bits() as i32;
    let theirs = OpenOptions::new().read(true).write(true).custom_flags(no_control).open(name).expect("a terminal");
    (ours, theirs)
}

/// The program with its words on one end of a terminal, and its data in the file `stdout`.
fn command(place: &Workplace, arguments: &str, environment: &[(&str, &str)], theirs: File) -> Command {
    let mut command = Command::new(PROGRAM);
    command.current_dir(place.path("")).args(arguments.split_whitespace()).stdin(Stdio::null());
    SILENCED.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.env("TERM", "xterm").env("XDG_CACHE_HOME", place.path("cache")).envs(environment.iter().copied());
    command.stdout(File::create(place.path("stdout")).expect("a file")).stderr(theirs);
    command
}

impl Terminal {
    fn start(place: &Workplace, arguments: &str, columns: u16, environment: &[(&str, &str)]) -> Self {
        let (ours, theirs) = ends(columns);
        let child = command(place, arguments, environment, theirs).spawn().expect("the program starts");
        let screen = std::thread::spawn(move || {
            let mut seen = Vec::new();
            // The end of a terminal is an error.
            let _ = File::from(ours).read_to_end(&mut seen);
            seen
        });
        Self { child, screen }
    }

    /// All that was written to the screen of a program that succeeds.
    fn screen(mut self) -> String {
        let status = self.child.wait().expect("a child");
        let seen = String::from_utf8(self.screen.join().expect("a reader")).expect("UTF-8");
        assert!(status.success(), "{status}\n{seen}");
        seen
    }
}

fn screen(place: &Workplace, arguments: &str, columns: u16, environment: &[(&str, &str)]) -> String {
    Terminal::start(place, arguments, columns, environment).screen()
}

/// Lines without what moves the cursor.
fn lines(screen: &str) -> Vec<&str> {
    screen.lines().map(|line| line.trim_end_matches('\r')).collect()
}

const LONGER: &str = "run recipe.toml --set train.steps=12 --set eval.every=4 --set checkpoint.every=4";

#[test]
fn a_person_reads_aligned_words_that_fit_the_terminal() {
    let place = Workplace::new();
    for columns in [80, 200] {
        let run = format!("{LONGER} --set output.dir=run{columns}");
        let screen = screen(&place, &run, columns, &[("TERM", "dumb")]);
        assert!(!screen.contains('\u{1b}'), "a dumb terminal moves no cursor: {screen}");
        let evaluations: Vec<&str> = lines(&screen).into_iter().filter(|line| line.starts_with("eval ")).collect();
        assert_eq!(evaluations.len(), 4, "{screen}");
        for (line, step) in evaluations.iter().zip([" 0", " 4", " 8", "12"]) {
            assert!(line.starts_with(&format!("eval {step}/12  nll ")) && line.contains("  entropy "), "{line}");
        }
        let at = |line: &str| line.find("entropy");
        assert!(evaluations.iter().all(|line| at(line) == at(evaluations[0])), "{evaluations:?}");
        assert!(screen.contains("\nstep  1/12  loss "), "{screen}");
        assert!(screen.contains("tokens/s ") && !screen.contains("step="), "{screen}");
        for line in lines(&screen) {
            // A command to paste and a path stay whole.
            let whole = line.contains("trainer ") || line.contains("checkpoints/") || line.contains("report.html");
            assert!(whole || line.chars().count() <= columns.into(), "{line}");
        }
    }
}

/// The table of a sweep and the one that a run ends with: no line is longer than the terminal, and no number is left out.
#[test]
fn tables_fit_the_terminal() {
    let place = Workplace::new();
    let rows = ["fox", "owl"].map(|animal| {
        format!("{{\"prompt\": \"Tell me about a {animal}.\\n\", \"targets\": [\"The {animal}.\", \"A {animal}.\"]}}\n")
    });
    place.write("targets.jsonl", rows.concat());
    let short = "--set train.steps=2 --set checkpoint.every=0";
    let sweep =
        format!("sweep recipe.toml {short} --grid objective.kind=nll,cdiv --grid seed=1,2 --data targets.jsonl");
    place.trainer(&sweep).succeeds();
    for columns in [40, 60, 80, 200] {
        let sweep = screen(&place, &sweep, columns, &[("TERM", "dumb")]);
        let run = format!("run recipe.toml {short} --set eval.prompts=targets.jsonl --set eval.samples=0");
        let run = screen(&place, &format!("{run} --set output.dir=run{columns}"), columns, &[("TERM", "dumb")]);
        for screen in [&sweep, &run] {
            for line in lines(screen) {
                let whole =
                    ["trainer ", "checkpoints/", ".html", ".jsonl", "{\"", "runs/"].iter().any(|it| line.contains(it));
                assert!(whole || line.chars().count() <= columns.into(), "{columns}: {line}\n{screen}");
            }
        }
        for name in ["mass", "f8", "f1_8", "coverage.100", "loss", "kind=cdiv", "\u{b1}"] {
            assert!(sweep.contains(name), "{columns}: {name}\n{sweep}");
        }
        for name in ["exactly, of 2 prompts", "before (step 0), T = 1", "precision", "recall (F_8)", "coverage at 100"]
        {
            assert!(run.contains(name), "{columns}: {name}\n{run}");
        }
    }
}

#[test]
fn a_bar_without_colour_shows_how_far_a_run_is() {
    let place = Workplace::new();
    let filled = |screen: &str| -> Vec<usize> {
        // One is drawn over the other: each stands right before the steps that are done.
        let drawn: Vec<&str> = screen.split("/12, ").collect();
        let of_bar = |c: &char| "━╸ ".contains(*c) || c.is_ascii_digit();
        let bars = drawn[..drawn.len() - 1].iter().map(|before| before.chars().rev().take_while(of_bar));
        bars.map(|bar| bar.filter(|c| *c == '━').count()).collect()
    };
    let screen = screen(&place, LONGER, 100, &[("NO_COLOR", "1")]);
    let counts = filled(&screen);
    assert!(
        counts.iter().any(|count| *count < 15) && counts.iter().all(|count| *count <= 30),
        "{counts:?} in {screen:?}"
    );
    assert!(!screen.contains("\u{1b}[32m"), "colour: {screen:?}");
}

#[test]
fn a_warning_breaks_between_words() {
    let place = Workplace::new();
    let screen = screen(&place, "check recipe.toml --set checkpoint.every=9", 60, &[]);
    let lines = lines(&screen);
    assert!(lines[0].contains("warning: ") && lines.len() > 1, "{screen}");
    assert!(
        lines.iter().all(|line| line.replace("\u{1b}[33m", "").replace("\u{1b}[0m", "").chars().count() <= 60),
        "{screen}"
    );
}

/// The plan is on stdout: here that is the terminal.
#[test]
fn a_plan_breaks_between_words() {
    let place = Workplace::new();
    let (ours, theirs) = ends(80);
    let mut command = command(&place, "check recipe.toml", &[], theirs.try_clone().expect("a terminal"));
    let mut child = command.stdout(theirs).spawn().expect("the program starts");
    drop(command);
    let mut seen = Vec::new();
    let _ = File::from(ours).read_to_end(&mut seen);
    assert!(child.wait().expect("a child").success());
    let screen = String::from_utf8(seen).expect("UTF-8");
    let plan: Vec<&str> = lines(&screen).into_iter().take_while(|line| !line.is_empty()).collect();
    assert!(plan.iter().all(|line| line.chars().count() <= 80), "{screen}");
    let adapter = plan.iter().position(|line| line.starts_with("adapter ")).expect("a line on the adapter");
    assert!(plan[adapter + 1].starts_with("             ") && !plan[adapter + 1].ends_with(','), "{screen}");
}

/// Bar and log go nowhere from the middle of the run on.
#[test]
fn a_terminal_that_goes_away_does_not_end_a_run() {
    for (name, value) in [("TERM", "xterm"), ("TERM", "dumb")] {
        let place = Workplace::new();
        let (ours, theirs) = ends(80);
        let run = "run recipe.toml --set train.steps=40";
        let mut child = command(&place, run, &[(name, value)], theirs).spawn().expect("the program starts");
        let reader = std::thread::spawn(move || {
            let mut terminal = File::from(ours);
            let mut piece = [0; 64];
            // Until the first words of it, then the terminal is closed.
            let _ = terminal.read(&mut piece);
        });
        reader.join().expect("a reader");
        assert!(child.wait().expect("a child").success(), "{value}");
        assert_eq!(place.steps("run").len(), 40, "{value}");
    }
}

#[test]
fn a_log_that_cannot_be_written_does_not_end_a_run() {
    let place = Workplace::new();
    for (name, redirection) in [
        ("full", "2>/dev/full"),
        ("closed", "2>&-"),
        ("head", "2>&1 | head -n 1"),
        ("json", "--log-format json 2>/dev/full"),
    ] {
        let run = format!("trainer run recipe.toml --set train.steps=30 --set output.dir={name} {redirection}");
        place.shell(&run).succeeds();
        assert_eq!(place.steps(name).len(), 30, "{name}");
    }
}

/// Data, help and version alike; a reader that has gone is none.
#[test]
fn output_that_cannot_be_written_is_told() {
    let place = Workplace::new();
    for command in ["--help", "--version", "check --help", "recipes", "check recipe.toml", "completions bash"] {
        let told = place.shell(&format!("trainer {command} >/dev/full"));
        assert_eq!(told.code, Some(1), "{command}: {}", told.stderr);
        assert!(told.stderr.contains("cannot write there") && told.stderr.contains("stdout"), "{}", told.stderr);
        let gone = place.shell(&format!("{{ trainer {command}; echo $? >code; }} | true")).succeeds();
        assert_eq!((place.text("code").as_str(), gone.stderr.as_str()), ("0\n", ""), "{command}");
    }
}

/// The terminal is closed: what SIGTERM does, more than once if need be.
#[test]
fn a_hangup_writes_a_checkpoint() {
    let place = Workplace::new();
    // Whoever runs the tests may be deaf to hangups, and its children with it.
    let mut child = place.start_by("env --default-signal=HUP", "run recipe.toml --set train.steps=100000");
    place.wait_until("the first step", || place.metrics_length() > 2);
    let hangup = || kill_process(Pid::from_child(&child), Signal::HUP).expect("the signal is sent");
    hangup();
    hangup();
    assert_eq!(child.wait().expect("a child").code(), Some(130), "{}", place.text("stderr"));
    assert!(place.text("stderr").contains("interrupted after step"), "{}", place.text("stderr"));
    assert_eq!(place.text("run/checkpoints/latest"), format!("step-{:06}", place.steps("run").len()));
}

#[test]
fn a_run_that_was_started_deaf_to_hangups_stays_so() {
    let place = Workplace::new();
    let script = "trap '' HUP; trainer run recipe.toml --set train.steps=400 & child=$!
        while [ ! -s run/metrics.jsonl ]; do :; done; kill -HUP $child; wait $child";
    place.shell(script).succeeds();
    assert_eq!(place.steps("run").len(), 400);
}

#[test]
fn samples_are_counted_on_a_terminal_alone() {
    let place = Workplace::new();
    let sample = "sample builtin:tiny --prompt fox --n 3 --max-tokens 8";
    let seen = screen(&place, sample, 80, &[]);
    assert!(seen.contains("of 3 samples") && seen.contains("tokens drawn"), "{seen}");
    assert_eq!(place.text("stdout").lines().count(), 3);
    assert_eq!(place.trainer(sample).succeeds().stderr, "");
    assert_eq!(screen(&place, &format!("{sample} --quiet"), 80, &[]), "");
}
