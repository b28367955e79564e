//! One saved state of a run: `checkpoints/step-000100/`.
//!
//! It holds the adapter (`adapter_model.safetensors`, `adapter_config.json`) or, when every weight was trained,
//! `model.safetensors`; what the optimizer and the losses need to go on (`training_state.safetensors`, `state.json`); and
//! `MANIFEST.json`. The adapter's files alone are what PEFT reads, so a checkpoint's folder is an adapter's folder, and like
//! one it may hold the tokenizer that the adapter was trained with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use faults::{Fault, Faults, Place};

use crate::adapter::{self, Adapter};
use crate::files;
use crate::manifest::{MANIFEST, Manifest, Refused};
use crate::moving::while_it_moves;
use crate::run::{self, Run};
use crate::tensor::StoredTensor;
use crate::weights::{self, Weights};

const TRAINING_STATE: &str = "training_state.safetensors";
const STATE: &str = "state.json";

/// The trained weights.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is moved once")]
pub enum Trained {
    /// An adapter on a frozen model.
    Adapter(Adapter),
    /// Every weight of the model, under the names of its base.
    Model(BTreeMap<String, StoredTensor>),
}

/// The contents of a checkpoint.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The trained weights.
    pub weights: Trained,
    /// Tensors of the optimizer, the objective and the auxiliary losses; never part of the adapter.
    pub training_state: BTreeMap<String, StoredTensor>,
    /// All else that a resumed run needs: counters, the place in the data, random streams.
    pub state: serde_json::Value,
    /// Files of a tokenizer that is not the base's, by name; see [`crate::files_beside`].
    pub beside: Vec<(String, Vec<u8>)>,
    /// True when this is the best checkpoint so far.
    pub best: bool,
}

/// A complete checkpoint whose files are those it was saved with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its folder.
    pub folder: PathBuf,
    /// The optimizer step after which it was taken.
    pub step: usize,
    has_adapter: bool,
}

impl Checkpoint {
    /// Opens a checkpoint's folder and compares every file with `MANIFEST.json`.
    ///
    /// # Errors
    /// The folder is no complete checkpoint: a file is missing, cut or changed.
    pub fn open(folder: &Path) -> Result<Self, Fault> {
        Self::verify(folder).map_err(Refused::fault)
    }

    /// The same, and whether what is wrong is the checkpoint or the reading of it.
    pub(crate) fn verify(folder: &Path) -> Result<Self, Refused> {
        let manifest = Manifest::verify(folder)?;
        let has = |name: &str| manifest.files.contains_key(name);
        let has_adapter = has(adapter::TENSORS) && has(adapter::CONFIG);
        if !(has(STATE) && has(TRAINING_STATE) && (has_adapter || has(weights::SINGLE))) {
            let fault = Fault::new("the manifest does not list the files of a checkpoint")
                .at(Place::file(folder.join(MANIFEST)))
                .hint("another program or version wrote it: use another checkpoint");
            return Err(Refused::Damaged(fault));
        }
        Ok(Self { folder: folder.into(), step: manifest.step, has_adapter })
    }

    /// True when an adapter was trained, false when every weight was.
    pub fn has_adapter(&self) -> bool {
        self.has_adapter
    }

    /// The adapter.
    ///
    /// # Errors
    /// The checkpoint holds a whole model, or the adapter is not one we can read.
    pub fn adapter(&self) -> Result<Adapter, Faults> {
        if self.has_adapter {
            return Adapter::read(&self.folder);
        }
        let fault = Fault::new("the checkpoint holds a whole model and no adapter").at(Place::file(&self.folder));
        Err(fault.hint("it was trained with `adapter.kind = \"none\"`").into())
    }

    /// The model's weights when all of them were trained.
    ///
    /// # Errors
    /// The checkpoint holds an adapter.
    pub fn model(&self) -> Result<Weights, Fault> {
        if self.has_adapter {
            return Err(Fault::new("the checkpoint holds an adapter, no whole model")
                .at(Place::file(&self.folder))
                .hint("`trainer export --merge` makes a whole model of it and its base"));
        }
        Weights::open_file(&self.folder.join(weights::SINGLE))
    }

    /// The tensors of the optimizer, the objective and the auxiliary losses.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn training_state(&self) -> Result<BTreeMap<String, StoredTensor>, Fault> {
        weights::read_all(&Weights::open_file(&self.folder.join(TRAINING_STATE))?)
    }

    /// The state that was saved as [`Contents::state`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn state(&self) -> Result<serde_json::Value, Fault> {
        let path = self.folder.join(STATE);
        serde_json::from_slice(&files::read(&path)?).map_err(|error| {
            Fault::new(format!("not JSON: {error}")).at(Place::file(&path)).hint("use another checkpoint")
        })
    }
}

/// Writes all files of a checkpoint into a folder that is not one yet; the manifest makes it one.
pub(crate) fn write(folder: &Path, step: usize, contents: &Contents) -> Result<(), Fault> {
    let mut names = vec![TRAINING_STATE, STATE];
    for (name, bytes) in &contents.beside {
        files::write(&folder.join(name), |out| out.write_all(bytes))?;
        names.push(name);
    }
    match &contents.weights {
        Trained::Adapter(adapter) => {
            adapter.write(folder)?;
            names.extend([adapter::TENSORS, adapter::CONFIG]);
        }
        Trained::Model(tensors) => {
            weights::write_tensors(&folder.join(weights::SINGLE), tensors)?;
            names.push(weights::SINGLE);
        }
    }
    weights::write_tensors(&folder.join(TRAINING_STATE), &contents.training_state)?;
    let state = serde_json::to_vec_pretty(&contents.state).expect("a JSON value can be written");
    files::write(&folder.join(STATE), |out| out.write_all(&state))?;
    Manifest::write(folder, step, &names)?;
    files::sync_folder(folder)
}

/// The checkpoint that a path means: a checkpoint's folder, a run (its latest), `latest` or `best` in a run's
/// `checkpoints/`, or one of a run by `RUN@latest`, `RUN@best` or `RUN@STEP`. The run may go on meanwhile.
///
/// # Errors
/// The path is none of these, the run has no checkpoint yet or none of that name, or the checkpoint is not complete.
pub fn find_checkpoint(path: &Path) -> Result<Checkpoint, Fault> {
    while_it_moves(path, || found(path))
}

fn found(path: &Path) -> Result<Checkpoint, Fault> {
    let fault = |message: &str| Fault::new(message).at(Place::file(path));
    if let Some((run, which)) = of_run(path) {
        return chosen(&Run::open(&run)?, which, path);
    }
    if !path.exists() {
        return Err(fault("there is no such file or folder").hint("give a run's folder or one of its checkpoints"));
    }
    if path.join(MANIFEST).exists() {
        return Checkpoint::open(path);
    }
    if path.is_file() {
        let pointer = path.parent().zip(path.file_name().and_then(|name| name.to_str()));
        let target = pointer.map(|(folder, name)| run::pointed(folder, name)).transpose()?.flatten();
        return target.map_or_else(|| Err(no_folder(path)), |target| Checkpoint::open(&target));
    }
    match Run::open(path)?.latest()? {
        Some(checkpoint) => Ok(checkpoint),
        None => Err(fault("the run has no complete checkpoint yet")
            .hint("`checkpoint.every` of the recipe says after how many steps one is written")),
    }
}

/// A path `RUN@WHICH` as the run's folder and the word for one of its checkpoints. What is there under the whole name is
/// that, whatever it has an `@` in.
pub fn of_run(path: &Path) -> Option<(PathBuf, &str)> {
    let (run, which) = path.to_str()?.trim_end_matches('/').rsplit_once('@')?;
    let is_word = ["latest", "best"].contains(&which) || !which.is_empty() && which.bytes().all(|b| b.is_ascii_digit());
    // An unknown word behind a run is a typing error of one of these; behind anything else it is none of ours.
    let run = Path::new(run);
    let meant = !path.exists() && (run.join(run::CHECKPOINTS).is_dir() || is_word && !run.as_os_str().is_empty());
    meant.then(|| (run.to_owned(), which))
}

/// The checkpoint of a run that a word or a step names.
fn chosen(run: &Run, which: &str, path: &Path) -> Result<Checkpoint, Fault> {
    let checkpoints = run.checkpoints()?;
    let found = match which {
        run::LATEST => run.latest()?,
        run::BEST => run.best()?,
        step => {
            // As the folder, the log and `inspect` write it, or the number alone.
            let step = step.strip_prefix("step-").unwrap_or(step);
            let folder = checkpoints.iter().find(|(found, _)| step.parse() == Ok(*found)).map(|(_, folder)| folder);
            folder.map(|folder| Checkpoint::open(folder)).transpose()?
        }
    };
    let there = || -> Result<String, Fault> {
        let steps: Vec<String> = checkpoints.iter().map(|(step, _)| step.to_string()).collect();
        let Some(last) = steps.last() else { return Ok("it has no complete checkpoint yet".into()) };
        let best = run.best().ok().flatten().map(|best| format!(", `best` (step {})", best.step)).unwrap_or_default();
        Ok(format!("there are `latest` (step {last}){best} and the steps {}", steps.join(", ")))
    };
    match found {
        Some(checkpoint) => Ok(checkpoint),
        None => Err(Fault::new(format!("the run has no checkpoint `{which}`")).at(Place::file(path)).hint(there()?)),
    }
}

/// A file where a run or a model is expected; a recipe is what is most easily mistaken for one.
fn no_folder(path: &Path) -> Fault {
    let expected = "expected a run, a checkpoint or a model";
    if path.extension().is_none_or(|extension| extension != "toml") {
        let is_of_rows = path.extension().is_some_and(|extension| extension == "jsonl" || extension == "json");
        let hint = match is_of_rows {
            true => {
                "a file of rows is given by an option: each by one of its own, as in `--data a.jsonl --data b.jsonl`"
            }
            false => "give its folder: that of a run, of a checkpoint, of an adapter or of a model",
        };
        return Fault::new(format!("this is a file, {expected}")).at(Place::file(path)).hint(hint);
    }
    let run =
        path.parent().filter(|folder| Run::open(folder).is_ok_and(|run| run.folder().join("checkpoints").is_dir()));
    let hint = match run {
        Some(run) if !run.as_os_str().is_empty() => format!("its run is the folder `{}`", run.display()),
        Some(_) => "its run is the folder `.`".into(),
        None => format!("`trainer run {}` trains it into a run: give the folder of that", path.display()),
    };
    Fault::new(format!("this is a recipe, {expected}")).at(Place::file(path)).hint(hint)
}
