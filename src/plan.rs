//! From what was typed to what will be done: every derived number of a run, before anything is trained.

mod adaptation;
pub mod advice;
mod before;
mod beside;
mod estimate;
mod fitting;
mod held_out;
mod memory;
mod numbers;
pub mod print;
mod room;
mod rows;
mod sharing;

use std::num::NonZeroUsize;
use std::sync::Arc;

use backbone::{Config, Decoder, EncoderFiles, INITIALIZER_RANGE, Identity, ModelFiles, Source, local_folder};
use burn::tensor::{DType, Device};
use checkpoints::{AdapterConfig, Cache, Checkpoint, TargetModules};
use datasets::{Dataset, Tokenizer};
use faults::{Fault, Faults};
use losses::{Auxiliary, AuxiliaryBuilder, Normalisation, Scope, Surroundings};

use crate::allocation::returning_pages;
use crate::embeddings;
use crate::engine::Trainee;
use crate::engine::backward::Recompute;
use crate::engine::data::{Order, Prompt, prompts};
use crate::engine::optimizer::AdamW;
use crate::engine::schedule::{Kind, Schedule};
use crate::engine::settings::Settings;
use crate::engine::state::RunState;
use crate::engine::step::StepSettings;
use crate::loading::Brought;
use crate::observation::Observation;
use crate::recipe::{self, Adapter, Backbone, Entry, Recipe};
use crate::report::progress::Counter;

pub use adaptation::{Adaptation, Adapted, Origin};
use before::Before;
pub use estimate::{Estimate, flop_per_token, native_attention, wasted_rank};
pub use memory::{Memory, Step};
use numbers::{Numbers, Of};
pub use room::{available, resident, room};
use rows::rows;

/// A run as it will be done.
pub struct Plan {
    /// The recipe it came from.
    pub recipe: Recipe,
    /// Where the base model's files are; `None` for a model built from scratch.
    pub files: Option<ModelFiles>,
    /// The shape of the backbone.
    pub config: Config,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The training rows.
    pub train: Dataset,
    /// The evaluation rows.
    pub eval: Option<Dataset>,
    /// The prompts that are looked at while the run goes on.
    pub observation: Option<Observation>,
    /// The inner device.
    pub device: Device,
    /// Type of the frozen weights and the activations.
    pub dtype: DType,
    /// Optimizer steps of the run.
    pub steps: usize,
    /// Steps that take every row once.
    pub steps_per_epoch: usize,
    /// Rows are padded to a multiple of this.
    pub width_multiple: usize,
    /// The learning rate over the steps.
    pub schedule: Schedule,
    /// What is trained.
    pub adaptation: Adaptation,
    /// Files of a tokenizer that go into checkpoints, because they are not the base's.
    pub beside: Vec<(String, Vec<u8>)>,
    /// For each auxiliary loss, the sentence encoder that it needs.
    pub encoders: Vec<Option<EncoderFiles>>,
    /// Where its embeddings are kept.
    pub cache: Option<Cache>,
    /// Memory, arithmetic and time.
    pub estimate: Estimate,
}

impl Plan {
    /// Reads configuration, tokenizer and rows, and derives everything else. Loads no weights.
    ///
    /// # Errors
    /// All that is wrong with the model's files, the rows, or the two together.
    pub fn new(recipe: Recipe) -> Result<Self, Faults> {
        Self::of(recipe, None)
    }

    /// The same for a run that goes on from a checkpoint: an adapter that it began with is not looked for any more, and what
    /// that brought is the checkpoint's.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn resuming(recipe: Recipe, checkpoint: &Checkpoint) -> Result<Self, Faults> {
        Self::of(recipe, Some(checkpoint))
    }

    fn of(mut recipe: Recipe, checkpoint: Option<&Checkpoint>) -> Result<Self, Faults> {
        let chat = before::files(&recipe, checkpoint)?;
        let device = backbone::device::open(recipe.model.device)
            .map_err(|fault| fault.or_at(recipe.places.of("model.device")))?;
        let dtype = backbone::device::dtype(recipe.model.dtype, &device);
        let place = |key: &str| recipe.places.of(key);
        let before = Before::new(&recipe, checkpoint, &chat, (&device, dtype));
        let (files, config, tokenizer) = backbone(&recipe.model.backbone, &before)
            .map_err(|faults| faults.map(|fault| fault.or_at(place("model.path"))))?;
        let read = before.into_rows();
        let weights = files.as_ref().map(ModelFiles::weights).transpose()?;
        if let Some(weights) = &weights {
            config.check_weights(weights)?;
        }
        let base = files.as_ref().zip(weights.as_ref());
        let (adaptation, brought) = Adaptation::resolve(&recipe, &config, base, checkpoint)?;
        if adaptation.is_pissa()
            && recipe.model.quantise.is_some_and(|quantise| ![0, recipe::FITTED_ROWS].contains(&quantise.rows))
        {
            let warning = "`model.quantize_rows` has no effect with `adapter.init = \"pissa\"`: what is left of a matrix has the \
                           nearest codes";
            recipe.warnings.push(warning.into());
        }
        let tokenizer = brought.as_ref().map_or(Ok(tokenizer), Brought::tokenizer)?;
        let tokenizer = tokenizer.with_chat(&chat).map_err(|fault| fault.or_at(place("data")))?;
        let beside = beside::beside(&recipe.data.chat, &tokenizer, brought, files.as_ref())?;
        let encoders: Vec<_> = recipe.auxiliaries.iter().map(encoder).collect::<Result<_, _>>()?;
        let (train, eval) = read.map_or_else(|| rows(&recipe, &config, &tokenizer), Ok)?;
        let observation = Observation::read(&recipe, &config, &tokenizer)?;
        let of = Of { train: &train, eval: eval.as_ref(), adaptation: &adaptation, encoders: &encoders };
        let Numbers { width_multiple, steps_per_epoch, steps, schedule, estimate, warning } =
            Numbers::new(&recipe, &config, &of, (&device, dtype))?;
        let own = |entries: &[Entry]| entries.iter().any(|entry| !entry.path.starts_with("builtin:"));
        let held = recipe.data.eval.files();
        if own(&recipe.data.train) && !held.is_empty() && !own(held) {
            recipe.warnings.push("`data.eval` has built-in rows alone, which say little about rows of your own".into());
        }
        let sets = [("training", Some(&train)), ("evaluation", eval.as_ref())];
        for (name, set) in sets.into_iter().filter_map(|(name, set)| Some((name, set?))) {
            recipe.warnings.extend(set.report.notices.iter().map(|notice| format!("{name} rows: {notice}")));
        }
        recipe.warnings.extend(observation.iter().flat_map(Observation::notices));
        recipe.warnings.extend(rows::unmet(&recipe, &train, eval.as_ref()));
        recipe.warnings.extend(eval.as_ref().and_then(|eval| held_out::repeated(&recipe, &train, eval)));
        if steps > 0 {
            let of_losses = advice::of_losses(&recipe, &config, &train.report, (steps, steps_per_epoch));
            let of_settings = advice::warnings(&recipe, config.hidden_size, steps, steps_per_epoch);
            recipe.warnings.extend(of_losses.into_iter().chain(of_settings));
        }
        recipe.warnings.extend(tokenizer.remarks().into_iter().chain(warning));
        let of_adapter = adaptation.warnings(&recipe, &config);
        recipe.warnings.extend(of_adapter);
        Ok(Self {
            files,
            config,
            tokenizer,
            train,
            eval,
            observation,
            device,
            dtype,
            steps,
            steps_per_epoch,
            width_multiple,
            schedule,
            adaptation,
            beside,
            encoders,
            cache: Cache::from_env(),
            estimate,
            recipe,
        })
    }

    /// Reads every value of the base's weights, which [`Plan::new`] leaves to the loading.
    ///
    /// # Errors
    /// A value is NaN or infinite.
    pub fn check_values(&self) -> Result<(), Fault> {
        let weights = self.files.as_ref().map(ModelFiles::weights).transpose()?;
        weights.map_or(Ok(()), |weights| weights.refuse_not_finite())
    }

    /// What the base is by its content; `None` for a model built from scratch. Every weight is read.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn identity(&self) -> Result<Option<Identity>, Fault> {
        match (&self.recipe.model.backbone, &self.files) {
            (Backbone::Pretrained { path, .. }, Some(files)) => Identity::of(files, path).map(Some),
            _ => Ok(None),
        }
    }

    /// The same of the sentence encoder that each auxiliary loss needs, if it does.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn encoder_fingerprints(&self) -> Result<Vec<Option<String>>, Fault> {
        let encoders = self.encoders.iter();
        encoders.map(|encoder| encoder.as_ref().map(EncoderFiles::fingerprint).transpose()).collect()
    }

    /// The prompts with their targets, if the objective is defined on such.
    pub fn prompts(&self) -> Vec<Prompt> {
        by_prompt(&self.recipe).map_or_else(Vec::new, |_| prompts(&self.train.examples))
    }

    /// Which activations are kept for the backward pass.
    pub fn recompute(&self) -> Recompute {
        self.estimate.recompute
    }

    /// Loads the weights and puts the adapter and the auxiliary losses beside them.
    ///
    /// # Errors
    /// Weights that do not fit the configuration, targets that match nothing, an adapter that does not fit.
    pub fn build(&self) -> Result<Trainee, Faults> {
        let weights = self.files.as_ref().map(ModelFiles::weights).transpose()?;
        let source = Source {
            weights: weights.as_ref(),
            dtype: self.dtype,
            device: &self.device,
            trained: self.adaptation.is_full(),
            quantise: self.recipe.model.quantise,
            seed: self.recipe.seed,
            initializer_range: INITIALIZER_RANGE,
            draws_on_device: false,
            used: Default::default(),
        };
        let rows = self.fitting_rows();
        let mut decoder = match rows.is_empty() {
            true => Decoder::load(self.config.clone(), &source)?,
            false => returning_pages(|| self.fitted(&source, &rows))?,
        };
        match &self.adaptation.start {
            Origin::Model => {}
            Origin::Fresh(settings) if settings.pissa => {
                decoder.attach_pissa(settings, self.recipe.seed, &source, self.adaptation.saved.as_ref())?;
            }
            Origin::Fresh(settings) => decoder.attach_fresh(settings, self.recipe.seed)?,
            Origin::Continued { adapter, .. } => decoder.attach(adapter, self.adaptation.dropout)?,
        }
        let builders = self.recipe.auxiliaries.iter().zip(&self.encoders);
        let auxiliaries = builders.map(|(builder, encoder)| self.auxiliary(builder, encoder.as_ref()));
        Ok(Trainee { decoder, auxiliaries: auxiliaries.collect::<Result<_, _>>()? })
    }

    /// The backbone with codes that are fitted to `rows`.
    fn fitted(&self, source: &Source, rows: &[&[u32]]) -> Result<Decoder, Fault> {
        let mut decoder = Decoder::load(self.config.clone(), source)?;
        let about = print::duration(self.estimate.fitting_seconds);
        tracing::info!("fitting the codes to {} rows before the first step, about {about}", rows.len());
        let mut counter = Counter::new(decoder.parts_to_fit(), "fitting the codes, block by block".into());
        decoder.fit_codes(source, rows, &mut |done| counter.at(done))?;
        Ok(decoder)
    }

    /// The rows that nf4's codes are fitted to.
    fn fitting_rows(&self) -> Vec<&[u32]> {
        fitting::rows(&self.recipe, &self.adaptation, &self.train, self.width_multiple)
    }

    fn auxiliary(
        &self,
        builder: &AuxiliaryBuilder,
        encoder: Option<&EncoderFiles>,
    ) -> Result<Box<dyn Auxiliary>, Faults> {
        let sources = builder.sentences.as_ref().zip(encoder);
        let eval = self.eval.as_ref().map_or(&[][..], |eval| &eval.examples);
        let embeddings = sources.map(|(sentences, encoder)| {
            embeddings::compute(
                sentences,
                encoder,
                &self.tokenizer,
                &self.train.examples,
                eval,
                self.cache.clone(),
                &self.device,
            )
        });
        Ok((builder.build)(&Surroundings {
            hidden_size: self.config.hidden_size,
            vocabulary: self.config.vocab_size,
            device: self.device.clone(),
            seed: self.recipe.seed,
            steps: self.steps,
            embeddings: embeddings.transpose()?.map(Arc::new),
        }))
    }

    /// What the loop needs, with the adapter as it stands in `trainee`.
    pub fn settings(&self, trainee: &mut Trainee) -> Settings {
        let recipe = &self.recipe;
        let count = |every: Option<NonZeroUsize>| every.map(NonZeroUsize::get);
        Settings {
            step: StepSettings {
                seed: recipe.seed,
                recompute: self.recompute(),
                optimizer: AdamW {
                    betas: recipe.optimizer.betas,
                    epsilon: recipe.optimizer.eps,
                    weight_decay: recipe.optimizer.weight_decay,
                    clip_norm: recipe.optimizer.clip_norm,
                },
                schedule: self.schedule,
                lora_plus_ratio: recipe.adapter.lora_plus_ratio(),
                warm_start: recipe.warm_start,
                terms: recipe.terms,
                neftune_alpha: recipe.train.neftune_alpha,
            },
            steps: self.steps,
            micro_batch_size: recipe.train.micro_batch_size,
            by_prompt: by_prompt(recipe),
            width_multiple: self.width_multiple,
            evaluate_every: count(recipe.eval.every),
            checkpoint_every: count(recipe.checkpoint.every),
            keep: recipe.checkpoint.keep,
            keep_best: recipe.checkpoint.keep_best,
            best_by: recipe.checkpoint.best_by.clone(),
            patience: recipe.checkpoint.patience,
            adapter: self.adapter_config(trainee),
            beside: self.beside.clone(),
            origin: RunState {
                step: 0,
                skipped: 0,
                best: None,
                pass_loss: 0.0,
                stopped_early: false,
                evaluations_since_best: 0,
                train_fingerprint: self.train.fingerprint.clone(),
                eval_fingerprint: self.eval.as_ref().map(|eval| eval.fingerprint.clone()),
                base: None,
                encoders: Vec::new(),
                moment: self.tokenizer.is_dated().then(|| self.tokenizer.moment().to_string()),
                processes: 1,
                recipe: recipe.resolved_text(),
                version: env!("CARGO_PKG_VERSION").into(),
            },
        }
    }

    fn adapter_config(&self, trainee: &mut Trainee) -> Option<AdapterConfig> {
        let (base, revision) = match &self.recipe.model.backbone {
            // Whoever reads it may stand in another folder.
            Backbone::Pretrained { path, revision } => {
                (local_folder(path).unwrap_or_else(|| path.clone()), revision.clone())
            }
            Backbone::Init(_) => (String::new(), None),
        };
        let config = self.adaptation.config(base, trainee.decoder.adapted_modules())?;
        let exclude_modules = self.config.modules_beside().map(TargetModules::Pattern);
        Some(AdapterConfig { revision, exclude_modules, ..config })
    }
}

/// Whether steps are made of prompts with all their targets, and if so, whether these share what they begin with.
fn by_prompt(recipe: &Recipe) -> Option<bool> {
    // Weights that depend on whole rows need the rows whole.
    let share_prefixes = recipe.train.share_prefixes && recipe.objective.scope() == Scope::Token;
    (recipe.objective.normalisation() == Normalisation::Prompts).then_some(share_prefixes)
}

/// The training rows in the order of the run.
pub fn order<'a>(recipe: &Recipe, train: &'a Dataset, width_multiple: usize) -> Order<'a> {
    let batch = (recipe.train.batch_size, recipe.train.micro_batch_size);
    let shuffle = recipe.data.shuffle.then_some(recipe.seed);
    let order = Order::new(&train.examples, batch.0, batch.1, shuffle, width_multiple);
    match by_prompt(recipe) {
        Some(share_prefixes) => order.by_prompt(share_prefixes),
        None => order,
    }
}

/// The encoder that an auxiliary loss asks for; a fault names the place in the recipe where there is no other.
fn encoder(builder: &AuxiliaryBuilder) -> Result<Option<EncoderFiles>, Faults> {
    let Some(sentences) = &builder.sentences else { return Ok(None) };
    let found = EncoderFiles::locate(&sentences.encoder)
        .map_err(|fault| if fault.place.is_some() { fault } else { fault.at(sentences.place.clone()) })?;
    found.check()?;
    Ok(Some(found))
}

fn backbone(backbone: &Backbone, before: &Before) -> Result<(Option<ModelFiles>, Config, Tokenizer), Faults> {
    match backbone {
        Backbone::Pretrained { path, revision } => {
            crate::loading::refuse_as_model(path)?;
            let files = before.locate(path, revision.as_deref())?;
            let (config, tokenizer) = (files.config()?, files.tokenizer()?);
            config.check_training().map_err(|fault| fault.at(files.config_place()))?;
            Ok((Some(files), config, tokenizer))
        }
        Backbone::Init(init) => {
            let tokenizer = init.tokenizer()?;
            Ok((None, Config::from_init(init, &tokenizer)?, tokenizer))
        }
    }
}

/// How a run that does not fit is made smaller.
fn smaller(estimate: &Estimate, recipe: &Recipe) -> String {
    let mut changes = vec!["lower `train.micro_batch_size`, `data.max_length` or `adapter.rank`"];
    if estimate.recompute == Recompute::None {
        changes.insert(0, "set `train.recompute = \"blocks\"`");
    }
    if recipe.model.quantise.is_none() && recipe.adapter != Adapter::None {
        changes.push("keep the base in fewer bits (`model.quantize = \"nf4\"`)");
    }
    changes.join(", or ") + ", or take a smaller model"
}

/// The steps of a run.
pub fn length(recipe: &Recipe, steps_per_epoch: usize) -> usize {
    match recipe.train.duration {
        recipe::Duration::Epochs(epochs) => epochs * steps_per_epoch,
        recipe::Duration::Steps(steps) => steps,
    }
}

/// The learning rate over a run of so many steps.
///
/// # Errors
/// A warm-up as long as the run.
pub fn schedule(recipe: &Recipe, steps: usize) -> Result<Schedule, Fault> {
    let told = &recipe.schedule;
    let of = |span: recipe::Span| match span {
        recipe::Span::Fraction(part) => (part * steps as f64).ceil() as usize,
        recipe::Span::Steps(steps) => steps,
    };
    let warmup = match told.warmup {
        // However short the run, one step is left that is no warm-up.
        recipe::Span::Fraction(_) => of(told.warmup).min(steps.saturating_sub(1)),
        recipe::Span::Steps(steps) => steps,
    };
    if warmup >= steps && warmup > 0 && steps > 0 {
        return Err(Fault::new(format!("`schedule.warmup` takes {warmup} steps of a run of {steps}"))
            .at(recipe.places.of("schedule.warmup"))
            .hint("shorten it, or train longer"));
    }
    let decay = of(told.decay);
    if told.kind == Kind::Wsd && warmup + decay > steps && steps > 0 {
        let message =
            format!("{warmup} steps of warm-up and {decay} of `schedule.decay` are more than the run's {steps}");
        return Err(Fault::new(message).at(recipe.places.of("schedule.decay")).hint("shorten one, or train longer"));
    }
    let schedule = Schedule::new(told.kind, recipe.optimizer.learning_rate, warmup, steps);
    Ok(Schedule { min_rate: told.min_rate, cycles: told.cycles, decay, ..schedule })
}
