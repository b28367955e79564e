//! What a run is set to: all that the loop and its records need to know, derived from the recipe.

use checkpoints::AdapterConfig;

use super::best::BestBy;
use super::state::RunState;
use super::step::StepSettings;

/// The settings of the training loop, all derived from the recipe.
pub struct Settings {
    /// The settings of every optimizer step.
    pub step: StepSettings,
    /// Optimizer steps of the whole run.
    pub steps: usize,
    /// Rows that run at once; targets where steps are made of prompts.
    pub micro_batch_size: usize,
    /// Steps are made of prompts with all their targets, which share what they begin with if it says so.
    pub by_prompt: Option<bool>,
    /// Rows are padded to a multiple of this.
    pub width_multiple: usize,
    /// Steps between evaluations.
    pub evaluate_every: Option<usize>,
    /// Steps between checkpoints.
    pub checkpoint_every: Option<usize>,
    /// Checkpoints kept.
    pub keep: usize,
    /// The best checkpoint is kept too.
    pub keep_best: bool,
    /// The number by which it is the best.
    pub best_by: BestBy,
    /// Evaluations in a row without a better one after which the run ends.
    pub patience: Option<usize>,
    /// The adapter's description in checkpoints; `None` when every weight is trained.
    pub adapter: Option<AdapterConfig>,
    /// Files of a tokenizer that go into checkpoints, because they are not the base's.
    pub beside: Vec<(String, Vec<u8>)>,
    /// Fingerprints of the data and the resolved recipe, for checkpoints.
    pub origin: RunState,
}
