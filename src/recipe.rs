//! What the user typed: a TOML text read into typed values, with every fault in it named at once.
//!
//! A [`Recipe`] says nothing that needs the model, the tokenizer or the data to be known; the plan is made from it. Each
//! table is read by one file below, which holds the defaults. Reading also writes the resolved table (defaults filled
//! in), and the resolved text reads as the same recipe again.

mod adapter;
mod chat;
mod data;
mod differences;
mod elsewhere;
mod model;
mod not_toml;
mod objective;
mod optimization;
mod run;
mod schema;
mod sources;
mod sweep;
mod words;

use std::path::Path;

use faults::{Document, Fault, Faults, FromToml, Place, Places, Section, Shape};
use losses::{AuxiliaryBuilder, Normalisation, Objective, Registry, Terms};

pub use adapter::{Adapter, Lora, Start};
pub use chat::Chat;
pub use data::{Data, Rename};
pub use differences::{Changes, differences, since_start, up_to_date};
pub use elsewhere::{own_key, translate};
pub use model::{Backbone, FITTED_ROWS, Model};
pub use optimization::{Duration, Optimizer, Schedule, Span, Train};
pub use run::{Checkpoint, Eval, Output, Prompts};
pub use schema::schema;
pub use sources::{Entry, Held};
pub use sweep::Sweep;
pub use words::{keys, word};

/// A recipe as typed, defaults filled in.
pub struct Recipe {
    /// Seed of every random stream of the run.
    pub seed: u64,
    /// `[model]`
    pub model: Model,
    /// `[adapter]`
    pub adapter: Adapter,
    /// `[data]`
    pub data: Data,
    /// `[objective]`, built from its own keys.
    pub objective: Box<dyn Objective>,
    /// `objective.warm_start`: steps of nll before the objective begins.
    pub warm_start: usize,
    /// What `[objective]` has beside these.
    pub terms: Terms,
    /// `[[auxiliary]]`, in the order written.
    pub auxiliaries: Vec<AuxiliaryBuilder>,
    /// `[optimizer]`
    pub optimizer: Optimizer,
    /// `[schedule]`
    pub schedule: Schedule,
    /// `[train]`
    pub train: Train,
    /// `[checkpoint]`
    pub checkpoint: Checkpoint,
    /// `[eval]`
    pub eval: Eval,
    /// `[output]`
    pub output: Output,
    /// `[sweep]`, which no single run has.
    pub sweep: Option<Sweep>,
    /// Settings that are allowed and have no effect or cannot be meant, one sentence each.
    pub warnings: Vec<String>,
    /// Where the values stand, for faults that are found when more than the recipe is known.
    pub places: Places,
    /// Every key that has a meaning in this recipe, with its value.
    pub resolved: toml::Table,
}

impl Recipe {
    /// [`Recipe::resolved`] as TOML: what a run keeps as `recipe.toml`.
    pub fn resolved_text(&self) -> String {
        toml::to_string(&self.resolved).expect("a table of plain values is TOML")
    }

    /// The same recipe with its base at another `path`, where a revision of the old one means nothing.
    ///
    /// # Errors
    /// The model is built from scratch.
    pub fn move_base(&mut self, path: &str) -> Result<(), Fault> {
        let Backbone::Pretrained { path: old, revision } = &mut self.model.backbone else {
            let fault = Fault::new("`--base` has no effect on a model that is built from scratch");
            return Err(fault.at(Place::Named("--base".into())).hint("leave it out"));
        };
        if old == path {
            return Ok(());
        }
        *old = path.to_owned();
        *revision = None;
        if let Some(toml::Value::Table(model)) = self.resolved.get_mut("model") {
            model.insert("path".into(), path.into());
            model.remove("revision");
        }
        Ok(())
    }
}

/// Reads a recipe from `text`, shown as `name` in faults, with overrides written `table.key=value`.
///
/// Relative paths stay as they are: they are meant from the current directory, wherever the recipe lies.
///
/// # Errors
/// Every fault at once: syntax, unknown keys, wrong types, impossible values, and keys that do not go together.
pub fn parse(name: &str, text: &str, overrides: &[String], registry: &Registry) -> Result<Recipe, Faults> {
    if let Some(fault) = not_toml::fault(name, text) {
        return Err(fault.into());
    }
    read(name, Document::parse(name, text, overrides)?, registry)
}

fn read(name: &str, document: Document, registry: &Registry) -> Result<Recipe, Faults> {
    document.translate_with(translate);
    let mut root = document.root();

    let seed = root.value("seed", 17);
    let model = in_table(&mut root, "model", model::read);
    let adapter = in_table(&mut root, "adapter", |section| adapter::read(section, &model));
    let (data, eval_written) =
        in_table(&mut root, "data", |section| (data::read(section, &model), section.has("eval")));
    let (objective, beside) = in_table(&mut root, "objective", |section| objective::read(section, registry)).unzip();
    let auxiliaries = objective::read_auxiliaries(&mut root, registry);
    let optimizer = in_table(&mut root, "optimizer", |section| optimization::read_optimizer(section, &adapter));
    let by_prompt = objective.as_ref().is_some_and(|objective| objective.normalisation() == Normalisation::Prompts);
    let (train, last_step) = in_table(&mut root, "train", |section| optimization::read_train(section, by_prompt));
    let schedule = in_table(&mut root, "schedule", |section| optimization::read_schedule(section, last_step));
    let has_eval = !data.eval.is_empty();
    let mut warnings = Vec::new();
    // An empty list says that there is to be no evaluation: what else is said of it goes with it.
    let switched_off = eval_written && !has_eval;
    let checkpoint = in_table(&mut root, "checkpoint", |section| {
        warnings.extend(switched_off.then(|| run::lay_aside(section, "keep_best", false)).flatten());
        run::read_checkpoint(section, has_eval, last_step, &mut warnings)
    });
    let eval = in_table(&mut root, "eval", |section| {
        if switched_off {
            section.forget_unless("every", &0.into());
        }
        run::read_eval(section, &checkpoint, has_eval, last_step, &mut warnings)
    });
    let without_prompts = checkpoint.best_by.needs_prompts() && has_eval && eval.prompts.is_none();
    let is_full = adapter == Adapter::None;
    for (key, fault) in [
        (train.duration == Duration::Steps(0) && !has_eval).then(no_rows_to_evaluate),
        without_prompts.then(no_prompts_to_go_by),
        objective.as_deref().filter(|objective| is_full && objective.statistics().base_nll).map(no_base),
    ]
    .into_iter()
    .flatten()
    {
        root.file(fault.at(document.places().of(key)));
    }
    let output = in_table(&mut root, "output", |section| run::read_output(section, &default_directory(name)));
    let sweep = root.has("sweep").then(|| in_table(&mut root, "sweep", sweep::read));

    let mut resolved = root.end();
    resolved.remove("sweep");
    let places = document.places();
    warnings.extend(document.warnings().iter().map(Fault::line));
    document.finish()?;
    // One that could not be built has filed its fault: `finish` gives it.
    let objective = objective.ok_or_else(|| {
        let fault = Fault::new("no objective is known").at(places.of("objective.kind"));
        fault.hint("this program was built without any")
    })?;
    let (warm_start, terms) = beside.unwrap_or((0, Terms::NONE));
    Ok(Recipe {
        seed,
        model,
        adapter,
        data,
        objective,
        warm_start,
        terms,
        auxiliaries,
        optimizer,
        schedule,
        train,
        checkpoint,
        eval,
        output,
        sweep,
        warnings,
        places,
        resolved,
    })
}

/// The fault of a run without steps that has nothing to evaluate, and its key; the same of the others.
fn no_rows_to_evaluate() -> (&'static str, Fault) {
    let fault = Fault::new("`train.steps` = 0 evaluates only, and there is no `data.eval`");
    ("train.steps", fault.hint("name held-out rows there, or train some steps"))
}

fn no_prompts_to_go_by() -> (&'static str, Fault) {
    let fault = Fault::new("`checkpoint.best_by` is a number of prompts, and there are no `eval.prompts`");
    ("checkpoint.best_by", fault.hint("name a file of prompts there; of rows with `targets` there are exact numbers"))
}

fn no_base(objective: &dyn Objective) -> (&'static str, Fault) {
    let message = format!(
        "objective `{}` compares the model with its frozen base, and `adapter.kind = \"none\"` trains every weight of it",
        objective.name()
    );
    (
        "objective.kind",
        Fault::new(message).hint("train an adapter (`adapter.kind = \"lora\"`), or choose another objective"),
    )
}

/// The backbone that a run's resolved recipe names; what else stands in it is left unread, so that a run with an
/// objective of another program can be loaded too.
///
/// # Errors
/// A text that is not TOML, or a `[model]` that cannot be read.
pub fn backbone(name: &str, text: &str) -> Result<Backbone, Faults> {
    let document = Document::parse(name, text, &[])?;
    let backbone = in_table(&mut document.root(), "model", model::read).backbone;
    document.finish()?;
    Ok(backbone)
}

/// What a recipe says of its sweep, and where; what else stands in it is left unread.
///
/// # Errors
/// A text that is not TOML, or a `[sweep]` that cannot be read.
pub fn sweep(name: &str, text: &str) -> Result<Option<(Sweep, Places)>, Faults> {
    let document = Document::parse(name, text, &[])?;
    let mut root = document.root();
    let sweep = root.has("sweep").then(|| in_table(&mut root, "sweep", sweep::read));
    let places = document.places();
    document.finish()?;
    Ok(sweep.map(|sweep| (sweep, places)))
}

/// What a run's resolved recipe says of chats; what else stands in it is left unread.
///
/// # Errors
/// A text that is not TOML, or keys of chats that cannot be read.
pub fn chat(name: &str, text: &str) -> Result<Chat, Faults> {
    let document = Document::parse(name, text, &[])?;
    let chat = chat::read(&mut document.root().section("data"));
    document.finish()?;
    Ok(chat)
}

fn in_table<T>(root: &mut Section, key: &str, read: impl FnOnce(&mut Section) -> T) -> T {
    let mut section = root.section(key);
    let value = read(&mut section);
    root.close(section);
    value
}

/// A count that cannot be zero; 1 stands in for one that is at fault.
#[derive(Clone, Copy)]
struct Positive(usize);

impl Default for Positive {
    fn default() -> Self {
        Positive(1)
    }
}

impl FromToml for Positive {
    const EXPECTED: &'static str = "a whole number, 1 or more";

    fn shape() -> Shape {
        Shape::Whole(Some(1))
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        usize::from_toml(value).filter(|count| *count > 0).map(Positive)
    }

    fn to_toml(&self) -> toml::Value {
        self.0.to_toml()
    }
}

fn positive(section: &mut Section, key: &str, default: usize) -> usize {
    section.value(key, Positive(default)).0
}

fn default_directory(name: &str) -> String {
    let stem = Path::new(name).file_stem().map_or("recipe".into(), |stem| stem.to_string_lossy());
    format!("runs/{stem}")
}

#[cfg(test)]
mod tests;
