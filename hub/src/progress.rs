//! What a download tells while it goes on, and how it is shown to a person.

use std::cell::RefCell;
use std::io::IsTerminal;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// A word from a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// `done` of `size` bytes of `file` are on the disk. Said when a file starts, as it grows, and once at its end.
    Bytes { file: &'a str, done: u64, size: u64 },
    /// Something the user may wonder about: a pause before another attempt, a wait for another process.
    Notice { text: &'a str },
}

/// A bar on a terminal that shows logs, log lines otherwise.
pub fn progress_on_stderr() -> impl Fn(Progress<'_>) {
    progress("downloading", "downloaded")
}

/// The same of files that go up.
pub fn progress_up_on_stderr() -> impl Fn(Progress<'_>) {
    progress("uploading", "uploaded")
}

fn progress(going: &'static str, gone: &'static str) -> impl Fn(Progress<'_>) {
    let terminal = std::io::stderr().is_terminal() && tracing::enabled!(tracing::Level::INFO);
    let current: RefCell<Option<(String, ProgressBar)>> = RefCell::new(None);
    move |progress| match progress {
        Progress::Bytes { file, done, size } => {
            let mut current = current.borrow_mut();
            if current.as_ref().is_none_or(|(shown, _)| shown != file) {
                if !terminal {
                    tracing::info!("{going} {file} ({})", HumanBytes(size));
                }
                let shown = if terminal { bar(file, size) } else { ProgressBar::hidden() };
                *current = Some((file.to_owned(), shown));
            }
            if let Some((_, bar)) = current.as_ref() {
                bar.set_position(done);
                if done == size {
                    bar.finish_and_clear();
                    if terminal {
                        tracing::info!("{gone} {file} ({})", HumanBytes(size));
                    }
                    *current = None;
                }
            }
        }
        Progress::Notice { text } => match current.borrow().as_ref() {
            Some((_, bar)) if terminal => bar.println(text),
            _ => tracing::info!("{text}"),
        },
    }
}

fn bar(file: &str, size: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} ({eta})")
        .expect("the template is a constant")
        .progress_chars("=> ");
    ProgressBar::new(size).with_style(style).with_message(file.to_owned())
}
