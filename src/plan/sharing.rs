//! What several processes that share the steps have each to do, hold and send.

use serde_json::{Value, json};

use super::Plan;
use super::print::{INDENT, bytes};

impl Plan {
    /// A line of the plan about a run of `processes` processes.
    pub fn sharing_line(&self, processes: usize) -> String {
        let sent = bytes(self.sent(processes));
        let held = "each holds all of the above";
        let parts = match self.micro_batches() {
            None => String::new(),
            Some(parts) => format!(", runs {} of the {parts} micro-batches of a step", parts.div_ceil(processes)),
        };
        format!("{:<INDENT$}by {processes} processes: {held}{parts}, and sends {sent} for it\n", "shared")
    }

    /// The sharing as JSON.
    pub fn sharing_json(&self, processes: usize) -> Value {
        json!({"processes": processes, "micro_batches": self.micro_batches(), "bytes_sent_per_step": self.sent(processes)})
    }

    /// A warning where some process would have nothing to do in any step.
    pub fn idle(&self, processes: usize) -> Option<String> {
        let parts = self.micro_batches().filter(|parts| *parts < processes)?;
        let train = &self.recipe.train;
        let (rows, at_once, size) = (train.batch_size, train.micro_batch_size, train.batch_size.div_ceil(processes));
        Some(format!(
            "a step of {rows} rows is cut into {parts} micro-batches of {at_once}, and there are {processes} processes: set \
             `train.micro_batch_size` = {size} to give each of them some"
        ))
    }

    /// The micro-batches of a step of rows; how many a step of prompts has depends on its targets.
    fn micro_batches(&self) -> Option<usize> {
        let train = &self.recipe.train;
        self.prompts().is_empty().then(|| train.batch_size.div_ceil(train.micro_batch_size))
    }

    /// Bytes of the gradient that one process sends for a step: its parts of what the others add up, and to each of them the
    /// part that it has added up itself.
    fn sent(&self, processes: usize) -> u64 {
        let trained = 4 * (self.estimate.trained + self.estimate.auxiliary);
        2 * trained * (processes as u64 - 1) / processes as u64
    }
}
