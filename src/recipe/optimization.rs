//! `[optimizer]`, `[schedule]` and `[train]`: how a step is made, and how many there are.

use std::num::NonZeroUsize;

use faults::{FromToml, Place, Section, Shape};

use super::{Adapter, positive};
use crate::engine::backward::Recompute;
use crate::engine::schedule::Kind;

/// `[optimizer]`: AdamW.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    /// The peak of the schedule.
    pub learning_rate: f64,
    /// Decay of the averages of the gradient and of its square.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; `None` for no clipping.
    pub clip_norm: Option<f64>,
}

/// `[schedule]`: the learning rate over the steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// What follows the warm-up.
    pub kind: Kind,
    /// A linear rise from zero.
    pub warmup: Span,
    /// What it falls to, as a part of `optimizer.learning_rate`.
    pub min_rate: f64,
    /// How often a cosine falls.
    pub cycles: usize,
    /// The end in which `wsd` falls.
    pub decay: Span,
}

/// Length of the warm-up, or of the decay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Span {
    /// A part of all steps, below 1.
    Fraction(f64),
    Steps(usize),
}

impl FromToml for Span {
    const EXPECTED: &'static str = "a fraction below 1 or a whole number of steps";

    fn shape() -> Shape {
        Shape::Number
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        match value {
            toml::Value::Integer(steps) => (*steps).try_into().ok().map(Span::Steps),
            toml::Value::Float(part) => (0.0..1.0).contains(part).then_some(Span::Fraction(*part)),
            _ => None,
        }
    }

    fn to_toml(&self) -> toml::Value {
        match self {
            Span::Fraction(part) => toml::Value::Float(*part),
            Span::Steps(steps) => toml::Value::Integer(*steps as i64),
        }
    }
}

/// `[train]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Train {
    /// How long.
    pub duration: Duration,
    /// Sequences per optimizer step; prompts where the objective normalises by prompts.
    pub batch_size: usize,
    /// Sequences that run at once; targets of a prompt where the objective normalises by prompts.
    pub micro_batch_size: usize,
    /// Whether the targets of a prompt share the computation of what they begin with.
    pub share_prefixes: bool,
    /// What is kept of the way forward; `None` keeps all activations when they fit, else the inputs of the blocks.
    pub recompute: Option<Recompute>,
    /// The size of the noise on the embeddings in training.
    pub neftune_alpha: Option<f64>,
}

/// How long to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duration {
    /// Times through the training rows.
    Epochs(usize),
    /// Optimizer steps; 0 evaluates and trains nothing.
    Steps(usize),
}

/// The largest rate that is taken: sums over weights that a step has moved by more are infinite in f32, which ends at 3.4e38.
const LARGEST_RATE: f64 = 1e30;

/// `lora_plus_ratio` is how many times the learning rate some of the weights have.
pub(super) fn read_optimizer(section: &mut Section, adapter: &Adapter) -> Optimizer {
    section.choice("kind", &[("adamw", ())], "adamw");
    let learning_rate = section.value("learning_rate", 2e-4);
    let usable = learning_rate.is_finite() && learning_rate > 0.0;
    let message = format!("`optimizer.learning_rate` cannot be {learning_rate}");
    let hint = "above 0; 1e-4 to 5e-4 is usual for an adapter";
    section.check("learning_rate", usable, message, hint);
    section.check_single("learning_rate", learning_rate, hint);
    if let Some(ratio) = adapter.lora_plus_ratio() {
        let rate = learning_rate * ratio;
        let alone = |value: f64| (value as f32).is_normal();
        section.check(
            "learning_rate",
            !alone(learning_rate) || !alone(ratio) || alone(rate),
            format!("`optimizer.learning_rate` times `adapter.lora_plus_ratio` is {rate:e}, which f32 cannot hold"),
            "16 is the paper's ratio; 1e-4 to 5e-4 is usual for the rate of an adapter",
        );
    }
    let possible = !usable || learning_rate <= LARGEST_RATE || !(learning_rate as f32).is_finite();
    let message = format!(
        "`optimizer.learning_rate` cannot be {learning_rate:e}: a step of AdamW moves every weight by about as much, and \
         f32 does not hold what the model makes of such weights"
    );
    section.check("learning_rate", possible, message, hint);
    let message = format!("`optimizer.learning_rate` = {learning_rate:e} is far from what is usual");
    section.warn(
        "learning_rate",
        !usable || !possible || (1e-9..=1.0).contains(&learning_rate),
        message,
        "1e-4 to 5e-4 for an adapter",
    );
    let written = section.value("betas", vec![0.9, 0.999]);
    let betas = <[f64; 2]>::try_from(written.as_slice()).unwrap_or([f64::NAN; 2]);
    let possible = betas.iter().all(|beta| (0.0..1.0).contains(beta) && (*beta as f32) < 1.0);
    let message = "`optimizer.betas` must be two numbers from 0 to below 1";
    section.check("betas", possible, message, "the usual ones are [0.9, 0.999]");
    let eps = section.value("eps", 1e-8);
    section.check("eps", eps.is_finite() && eps > 0.0, format!("`optimizer.eps` cannot be {eps}"), "1e-8 is usual");
    section.check_single("eps", eps, "1e-8 is usual");
    let weight_decay = section.value("weight_decay", 0.0);
    let message = format!("`optimizer.weight_decay` cannot be {weight_decay}");
    section.check("weight_decay", weight_decay.is_finite() && weight_decay >= 0.0, message, "zero or more");
    section.check_single("weight_decay", weight_decay, "0 for none; 0.01 is usual");
    let message = format!("`optimizer.weight_decay` = {weight_decay:e} takes a whole weight off in one step, or more");
    let possible = learning_rate * weight_decay < 1.0;
    section.warn("weight_decay", possible, message, "0.01 is usual: its product with the learning rate is taken off");
    let clip_norm = section.value("clip_norm", 1.0);
    let message = format!("`optimizer.clip_norm` cannot be {clip_norm}");
    section.check("clip_norm", clip_norm.is_finite() && clip_norm >= 0.0, message, "above 0, or 0 for no clipping");
    section.check_single("clip_norm", clip_norm, "1 is usual, 0 for no clipping");
    Optimizer { learning_rate, betas, eps, weight_decay, clip_norm: (clip_norm > 0.0).then_some(clip_norm) }
}

impl Schedule {
    /// Without a warm-up, and down to zero.
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, warmup: Span::Steps(0), min_rate: 0.0, cycles: 1, decay: Span::Fraction(DECAY) }
    }
}

/// The part of a run in which `wsd` falls, where the recipe does not say it.
const DECAY: f64 = 0.1;

pub(super) fn read_schedule(section: &mut Section, last_step: Option<NonZeroUsize>) -> Schedule {
    let kinds = [("constant", Kind::Constant), ("linear", Kind::Linear), ("cosine", Kind::Cosine), ("wsd", Kind::Wsd)];
    let none = Schedule::new(section.choice("kind", &kinds, "constant"));
    let warmup = section.value("warmup", none.warmup);
    if let (Span::Steps(steps), Some(last_step)) = (warmup, last_step) {
        let message = format!("`schedule.warmup` = {steps} does not end before `train.steps` = {last_step}");
        section.check("warmup", steps < last_step.get(), message, "shorten it; below 1 it is a fraction of all steps");
    }
    let min_rate = match none.kind {
        Kind::Constant => {
            section.foreign("min_rate", "a `schedule.kind` that falls (`linear`, `cosine`, `wsd`)");
            none.min_rate
        }
        _ => section.value("min_rate", none.min_rate),
    };
    let message = format!("`schedule.min_rate` = {min_rate} is no part of `optimizer.learning_rate`");
    section.check("min_rate", (0.0..1.0).contains(&min_rate), message, "from 0 to below 1; 0.1 falls to a tenth of it");
    let cycles = match none.kind {
        Kind::Cosine => positive(section, "cycles", 1),
        _ => {
            section.foreign("cycles", "`schedule.kind = \"cosine\"`");
            1
        }
    };
    let decay = match none.kind {
        Kind::Wsd => section.value("decay", none.decay),
        _ => {
            section.foreign("decay", "`schedule.kind = \"wsd\"`");
            none.decay
        }
    };
    let is_none = [Span::Steps(0), Span::Fraction(0.0)].contains(&decay);
    section.check("decay", !is_none, "`schedule.decay` cannot be 0", "`schedule.kind = \"constant\"` never falls");
    Schedule { warmup, min_rate, cycles, decay, ..none }
}

/// Gives the last step too, where it is known before the data is. With `by_prompt`, a step is made of prompts with all
/// their targets.
pub(super) fn read_train(section: &mut Section, by_prompt: bool) -> (Train, Option<NonZeroUsize>) {
    let duration = read_duration(section);
    let batch_size = positive(section, "batch_size", if by_prompt { 1 } else { 8 });
    let micro_batch_size = positive(section, "micro_batch_size", if by_prompt { 32 } else { batch_size });
    let message = format!("`train.micro_batch_size` = {micro_batch_size} is more than `batch_size` = {batch_size}");
    let possible = by_prompt || micro_batch_size <= batch_size;
    section.check("micro_batch_size", possible, message, "it is the part that runs at once");
    let share_prefixes = by_prompt && section.value("share_prefixes", true);
    if !by_prompt {
        section.foreign("share_prefixes", "objective `diffuse`");
    }
    let recompute = [("auto", None), ("none", Some(Recompute::None)), ("blocks", Some(Recompute::Blocks))];
    let recompute = section.choice("recompute", &recompute, "auto");
    let last_step = match duration {
        Duration::Steps(steps) => NonZeroUsize::new(steps),
        Duration::Epochs(_) => None,
    };
    let neftune_alpha = read_neftune(section, by_prompt);
    (Train { duration, batch_size, micro_batch_size, share_prefixes, recompute, neftune_alpha }, last_step)
}

fn read_neftune(section: &mut Section, by_prompt: bool) -> Option<f64> {
    let alpha: Option<f64> = section.optional("neftune_alpha");
    let possible = alpha.is_none_or(|alpha| alpha.is_finite() && alpha >= 0.0);
    let hint = "0 is none; 5 to 15 were published";
    section.check("neftune_alpha", possible, "`train.neftune_alpha` must be a finite number, 0 or more", hint);
    let tried = !possible || alpha.is_none_or(|alpha| alpha <= 100.0);
    section.warn("neftune_alpha", tried, "`train.neftune_alpha` is far above all that has been tried", hint);
    let alpha = alpha.filter(|alpha| *alpha != 0.0);
    let message =
        "`train.neftune_alpha` is the noise of a row of its own, and the targets of a prompt share their tokens";
    section.check("neftune_alpha", alpha.is_none() || !by_prompt, message, "leave it out");
    alpha
}

fn read_duration(section: &mut Section) -> Duration {
    // One of the two on the command line takes the place of the other in the file.
    let from_command_line =
        |key| matches!(section.place_of(key), Place::Span(source, _) if source.name == "--set") && section.has(key);
    let (set_epochs, set_steps) = (from_command_line("epochs"), from_command_line("steps"));
    let both = section.has("epochs") && section.has("steps");
    if both && set_epochs == set_steps {
        section.reject("steps", "`train.epochs` and `train.steps` exclude each other", "keep one of them");
    }
    if section.has("steps") && !(both && set_epochs) {
        section.skip("epochs");
        Duration::Steps(section.value("steps", 1))
    } else {
        section.skip("steps");
        Duration::Epochs(positive(section, "epochs", 1))
    }
}
