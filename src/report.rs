//! What a run tells about itself: to the person before the terminal, to programs, and afterwards.

pub mod html;
mod metrics;
pub mod progress;
pub mod tensorboard;

use std::time::{SystemTime, UNIX_EPOCH};

use checkpoints::Run;
use faults::Fault;

pub use metrics::{Numbers, StepRecord};
use progress::Progress;

/// Takes every step and evaluation of a run to the terminal, `metrics.jsonl` and TensorBoard, and ends it with
/// `report.html`.
pub struct Reporter {
    progress: Progress,
    /// Whether the event file holds what `metrics.jsonl` does.
    has_events: bool,
}

impl Reporter {
    /// For a run that ends at step `total` and goes on after step `resumed_at` (0 for a new one).
    pub fn new(total: usize, resumed_at: usize) -> Self {
        Self { progress: Progress::new(total, resumed_at), has_events: false }
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
        run.write_file("report.html", html::render(&title, &run.metrics()?, recipe).as_bytes())
    }

    fn write(&mut self, run: &mut Run, record: &StepRecord) -> Result<(), Fault> {
        let wall_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        if !self.has_events {
            // On resume the metrics have been cut back to the checkpoint: events start anew from what is left of them.
            let mut events = tensorboard::head(wall_time);
            events.extend(run.metrics()?.iter().flat_map(|line| tensorboard::scalars(line, wall_time)));
            run.write_file(tensorboard::FILE_NAME, &events)?;
            self.has_events = true;
        }
        let line = record.to_json();
        run.append_metrics(&line)?;
        run.append_file(tensorboard::FILE_NAME, &tensorboard::scalars(&line, wall_time))
    }
}
