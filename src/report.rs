//! What a run tells about itself: to the person before the terminal, to programs, and afterwards.

pub mod comparison;
pub mod html;
pub mod progress;
pub mod record;
mod state;
pub mod tensorboard;
pub mod trouble;

use std::io::ErrorKind;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use checkpoints::Run;
use faults::Fault;
use serde_json::Value;

use progress::Progress;
pub use record::{Numbers, StepRecord};
use trouble::Watch;
pub use trouble::Watched;

/// The page's name in a run's directory.
const PAGE: &str = "report.html";

/// Takes every step and evaluation of a run to the terminal, `metrics.jsonl` and TensorBoard, and ends it with
/// `report.html`.
pub struct Reporter {
    progress: Progress,
    watch: Watch,
    /// Whether the event file holds what `metrics.jsonl` does.
    has_events: bool,
}

impl Reporter {
    /// For a run that ends at step `total`, goes on after step `resumed_at` (0 for a new one), and is set to `watched`.
    pub fn new(total: usize, resumed_at: usize, watched: Watched) -> Self {
        Self { progress: Progress::new(total, resumed_at), watch: Watch::new(watched), has_events: false }
    }

    /// Reports a training step.
    ///
    /// # Errors
    /// A file of the run that cannot be written.
    pub fn step(&mut self, run: &mut Run, record: &StepRecord) -> Result<(), Fault> {
        self.progress.step(record);
        self.write(run, record)
    }

    /// Reports an evaluation.
    ///
    /// # Errors
    /// A file of the run that cannot be written.
    pub fn evaluation(&mut self, run: &mut Run, record: &StepRecord) -> Result<(), Fault> {
        self.progress.evaluation(record);
        self.write(run, record)
    }

    /// Writes `report.html` of all steps so far, with the resolved recipe in it.
    ///
    /// # Errors
    /// A file of the run that cannot be read or written.
    pub fn finish(self, run: &Run, recipe: &toml::Table) -> Result<(), Fault> {
        let title = run.folder().display().to_string();
        let lines = run.metrics()?;
        let compared = compared(run.folder(), &lines);
        let mut page = html::render(&title, &lines, recipe, self.watch.watched(), compared.as_ref());
        let last = lines.iter().filter_map(|line| line["step"].as_u64()).max().unwrap_or_default();
        page += &mark(last as usize);
        run.write_file(PAGE, page.as_bytes())
    }

    /// Whether a run's page is there and tells all of it up to `step`; one of fewer steps is that of a run that was made longer.
    ///
    /// # Errors
    /// The page is there and cannot be read.
    pub fn has_told(run: &Run, step: usize) -> Result<bool, Fault> {
        let path = run.folder().join(PAGE);
        match std::fs::read(&path) {
            Ok(page) => Ok(page.ends_with(mark(step).as_bytes())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Fault::of_file("cannot read this", &path, &error)),
        }
    }

    fn write(&mut self, run: &mut Run, record: &StepRecord) -> Result<(), Fault> {
        let wall_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        if !self.has_events {
            // On resume the metrics have been cut back to the checkpoint: events start anew from what is left of them.
            let before = run.metrics()?;
            let mut events = tensorboard::head(wall_time);
            events.extend(before.iter().flat_map(|line| tensorboard::scalars(line, wall_time)));
            // What they show was told when they came.
            for line in &before {
                self.watch.take(line);
            }
            run.write_file(tensorboard::FILE_NAME, &events)?;
            self.has_events = true;
        }
        let line = record.to_json();
        run.append_metrics(&line)?;
        run.append_file(tensorboard::FILE_NAME, &tensorboard::scalars(&line, wall_time))?;
        for trouble in self.watch.take(&line) {
            tracing::warn!("{trouble}");
        }
        Ok(())
    }
}

/// The last line of the page, which nobody sees: the step up to which it tells.
fn mark(step: usize) -> String {
    format!("\n<!-- up to step {step} -->\n")
}

/// What the run measured before, while and after it trained, as a section of its page. The run is whole without it: a file
/// that cannot be read is warned of.
fn compared(folder: &Path, lines: &[Value]) -> Option<pages::Section> {
    match comparison::of_run(folder, lines) {
        Ok(found) => pages::section(&found?).ok(),
        Err(fault) => {
            tracing::warn!("`report.html` compares nothing: {}", fault.line());
            None
        }
    }
}
