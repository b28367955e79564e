//! A part of the rows to train on that is held out of training, chosen by a hash of the prompt: the same rows in every run,
//! whatever stands beside them, and no prompt on both sides.

use std::collections::HashMap;

use faults::Fault;
use sha2::{Digest, Sha256};

use crate::draft::Example;
use crate::read::{Dataset, fingerprint};
use crate::report::{FileReport, Report};

/// The rows that are held out so far.
pub(crate) struct HeldOut {
    part: f64,
    examples: Vec<Example>,
    /// Rows of each file.
    rows: HashMap<String, usize>,
}

impl HeldOut {
    /// About this part of the prompts, above 0 and below 1.
    pub fn new(part: f64) -> Self {
        Self { part, examples: Vec::new(), rows: HashMap::new() }
    }

    /// Takes rows out of `examples`, from the one at `from` on.
    pub fn take(&mut self, examples: &mut Vec<Example>, from: usize) {
        let read = examples.split_off(from);
        for row in read.chunk_by(|a, b| (&a.file, a.line, a.element) == (&b.file, b.line, b.element)) {
            if share(&row[0]) < self.part {
                *self.rows.entry(row[0].file.to_string()).or_default() += 1;
                self.examples.extend_from_slice(row);
            } else {
                examples.extend_from_slice(row);
            }
        }
    }

    /// What is wrong with the part; `all` where nothing is left to train on.
    pub fn fault(&self, all: bool) -> Option<Fault> {
        let part = self.part;
        let message = match (self.examples.is_empty(), all) {
            (true, _) => format!("`data.eval` = {part} holds out no prompt: there are too few"),
            (false, true) => format!("`data.eval` = {part} holds out every prompt: there are too few, or all are one"),
            (false, false) => return None,
        };
        Some(Fault::new(message).hint("change the part, or name held-out rows in a file of their own"))
    }

    /// The data set of what was taken out of `dataset`.
    pub fn finish(self, dataset: &mut Dataset) -> Dataset {
        let mut report = Report::default();
        for file in &mut dataset.report.files {
            let rows = self.rows.get(&file.file).copied().unwrap_or_default();
            if rows > 0 {
                report.files.push(FileReport { rows, weight: 1.0, ..file.clone() });
                report.rows += rows;
                file.rows -= rows;
            }
        }
        dataset.report.rows -= report.rows;
        report.count(&self.examples);
        let fingerprint = fingerprint(&self.examples);
        Dataset { examples: self.examples, report, fingerprint }
    }
}

/// A number from 0 to 1 that is the prompt's own; that of the whole row where it has no prompt.
fn share(example: &Example) -> f64 {
    let prompt = example.prompt();
    let ids = if prompt.is_empty() { &example.ids } else { prompt };
    let mut hash = Sha256::new();
    ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    let digest = hash.finalize();
    let first = u64::from_be_bytes(digest[..8].try_into().expect("a digest has more than eight bytes"));
    first as f64 / u64::MAX as f64
}
