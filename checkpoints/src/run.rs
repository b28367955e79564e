//! A run's output directory: the recipe, the metrics, and the checkpoints.
//!
//! A checkpoint appears in one step or not at all: it is written into a hidden folder, synced, read back, given its
//! manifest and renamed. `latest` and `best` are text files in `checkpoints/` that hold a checkpoint's folder name. What
//! a crash leaves behind is hidden, ignored, and removed by the next save.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use faults::{Fault, Place};
use serde_json::Value;

use crate::checkpoint::{self, Checkpoint, Contents};
use crate::lock::Lock;
use crate::manifest::{MANIFEST, Refused};
use crate::{files, metrics_file};

const LOCK: &str = ".lock";
const RECIPE: &str = "recipe.toml";
pub(crate) const CHECKPOINTS: &str = "checkpoints";
pub(crate) const LATEST: &str = "latest";
pub(crate) const BEST: &str = "best";
const VISIBLE: &str = "step-";
const STAGING: &str = ".staging-step-";
const REPLACED: &str = ".replaced-step-";
const REMOVED: &str = ".removed-step-";

/// How many checkpoints stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many stay; `latest` and `best` stay whatever this says.
    pub keep: usize,
}

/// A run's directory.
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
    /// The files that are appended to, by their paths. What they hold is on the disk before a checkpoint is.
    appended: RefCell<BTreeMap<PathBuf, File>>,
    /// Held until the run is dropped; the system gives it back when the process dies, however it does.
    lock: Option<File>,
}

impl Run {
    /// A new run in `dir`, which must not exist or be an empty folder.
    ///
    /// # Errors
    /// `dir` is a file, holds something, or cannot be created.
    pub fn create(dir: &Path) -> Result<Self, Fault> {
        Self::refuse_used(dir)?;
        files::create_folder(&dir.join(CHECKPOINTS))?;
        Ok(Self::at(dir))
    }

    /// Looks whether [`Run::create`] could begin a run in `dir`, and makes nothing.
    ///
    /// # Errors
    /// `dir` is a file or holds something.
    pub fn refuse_used(dir: &Path) -> Result<(), Fault> {
        let fault = |message: &str| Fault::new(message).at(Place::file(dir));
        if dir.exists() && !dir.is_dir() {
            return Err(fault("the output directory is a file").hint("choose another `output.dir`"));
        }
        if dir.is_dir() && !is_empty(dir)? {
            let checkpoints = Self::open(dir).and_then(|run| run.checkpoints()).unwrap_or_default();
            return Err(fault("the output directory is not empty").hint(match checkpoints.is_empty() {
                true => "it holds no checkpoint to go on from: remove it, or choose another `output.dir`",
                false => "continue the run in it with `--resume`, or choose another `output.dir`",
            }));
        }
        Ok(())
    }

    /// The run that is in `dir` already.
    ///
    /// # Errors
    /// `dir` is not a run's directory.
    pub fn open(dir: &Path) -> Result<Self, Fault> {
        if !files::is_there(&dir.join(RECIPE))? && !files::is_there(&dir.join(CHECKPOINTS))? {
            let what = if dir.is_dir() { "not a run's directory" } else { "there is no such directory" };
            let hint = format!("a run's directory, which `trainer run` writes, holds `{RECIPE}` and `{CHECKPOINTS}`");
            return Err(Fault::new(what).at(Place::file(dir)).hint(hint));
        }
        Ok(Self::at(dir))
    }

    fn at(dir: &Path) -> Self {
        Self { folder: dir.into(), appended: RefCell::default(), lock: None }
    }

    /// Keeps every other process from training into this directory, until this run is dropped or the process ends. Where the
    /// file system knows no locks, a warning says so.
    ///
    /// # Errors
    /// Another process holds it, or the file cannot be written.
    pub fn lock(&mut self) -> Result<(), Fault> {
        let (file, lock) = lock_in(&self.folder)?;
        if let Lock::Missing(error) = lock {
            Lock::warn_of_missing(&self.folder, &error);
        }
        self.lock = Some(file);
        Ok(())
    }

    /// Tells before anything is read or computed that [`Run::lock`] would fail.
    ///
    /// # Errors
    /// Another process trains into `dir`.
    pub fn refuse_in_use(dir: &Path) -> Result<(), Fault> {
        if dir.join(LOCK).is_file() { lock_in(dir).map(drop) } else { Ok(()) }
    }

    /// The run's directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the resolved recipe.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_recipe(&self, text: &str) -> Result<(), Fault> {
        files::replace(&self.folder.join(RECIPE), text.as_bytes())
    }

    /// The resolved recipe.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn recipe(&self) -> Result<String, Fault> {
        files::read_text(&self.folder.join(RECIPE))
    }

    /// Appends a line to `metrics.jsonl`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append_metrics(&self, line: &Value) -> Result<(), Fault> {
        self.append_file(metrics_file::METRICS, &metrics_file::line(line))
    }

    /// Drops from `metrics.jsonl` the lines of steps after `step`, and a line that a crash has torn.
    ///
    /// # Errors
    /// The file cannot be read or replaced.
    pub fn cut_metrics(&self, step: usize) -> Result<(), Fault> {
        let path = self.folder.join(metrics_file::METRICS);
        if !files::is_there(&path)? {
            return Ok(());
        }
        let text = files::read(&path)?;
        let kept = metrics_file::kept(&text, step);
        if kept == text { Ok(()) } else { self.write_file(metrics_file::METRICS, &kept) }
    }

    /// All whole lines of `metrics.jsonl`, none when there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, or a line is not JSON.
    pub fn metrics(&self) -> Result<Vec<Value>, Fault> {
        metrics_file::read(&self.folder.join(metrics_file::METRICS))
    }

    /// Writes a file of the run at once; `name` is relative to the run's directory, folders in it are created.
    ///
    /// # Errors
    /// The name leaves the run's directory, or the file cannot be written.
    pub fn write_file(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Fault> {
        let path = self.inside(name.as_ref())?;
        // An open file would go on writing into the one that is replaced.
        self.appended.borrow_mut().remove(&path);
        files::replace(&path, bytes)
    }

    /// Appends to a file of the run, which is created when it is not there. It stays open; the next save puts it on the disk.
    ///
    /// # Errors
    /// The name leaves the run's directory, or the file cannot be written.
    pub fn append_file(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Fault> {
        let path = self.inside(name.as_ref())?;
        let mut appended = self.appended.borrow_mut();
        let mut append = || -> std::io::Result<()> {
            let file = match appended.entry(path.clone()) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(none) => none.insert(File::options().create(true).append(true).open(&path)?),
            };
            file.write_all(bytes)
        };
        append().map_err(|error| files::fault("write", &path, &error))
    }

    /// Saves a checkpoint: complete, or not at all. One of the same step is replaced.
    ///
    /// # Errors
    /// The disk is full or fails, or the weights read back are not those given; the checkpoints from before remain.
    pub fn save(&self, step: usize, contents: &Contents, retention: &Retention) -> Result<PathBuf, Fault> {
        let folder = self.folder.join(CHECKPOINTS);
        files::create_folder(&folder)?;
        sweep(&folder)?;
        // Whoever resumes from this checkpoint needs the lines that led to it.
        for (path, file) in self.appended.borrow().iter() {
            file.sync_all().map_err(|error| files::fault("write", path, &error))?;
        }
        let staging = folder.join(format!("{STAGING}{step:06}"));
        let target = folder.join(folder_name(step));
        let saved = files::create_folder(&staging)
            .and_then(|()| checkpoint::write(&staging, step, contents))
            .and_then(|()| publish(&folder, &staging, &target, step));
        if let Err(fault) = saved {
            // The first fault says what is wrong; the next save sweeps what could not be removed now.
            let _ = files::remove_folder(&staging);
            return Err(files::unhidden(fault, &staging, &target));
        }
        files::replace(&folder.join(LATEST), folder_name(step).as_bytes())?;
        if contents.best {
            self.mark_best(step)?;
        }
        self.retain(&folder, step, retention)?;
        Ok(target)
    }

    /// Names the checkpoint of `step` the best. A save does so itself; a crash may have come between the two.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn mark_best(&self, step: usize) -> Result<(), Fault> {
        files::replace(&self.folder.join(CHECKPOINTS).join(BEST), folder_name(step).as_bytes())
    }

    /// Removes what saves left that were cut short, and the checkpoints that are too many after `step`; a save does so
    /// itself. Tells whether there was anything.
    ///
    /// # Errors
    /// The disk fails.
    pub fn tidy(&self, step: usize, retention: &Retention) -> Result<bool, Fault> {
        let folder = self.folder.join(CHECKPOINTS);
        let before = entries(&folder)?.len();
        sweep(&folder)?;
        self.retain(&folder, step, retention)?;
        Ok(entries(&folder)?.len() < before)
    }

    /// The checkpoint to go on from: the one `latest` names, or else the newest that is complete; `None` before the first.
    /// Damaged ones are passed over with a warning; one that cannot be read may be whole, and no older one is taken for it.
    ///
    /// # Errors
    /// The folder of checkpoints or the one to go on from cannot be read, or all of them are damaged.
    pub fn latest(&self) -> Result<Option<Checkpoint>, Fault> {
        let folder = self.folder.join(CHECKPOINTS);
        let named = pointed(&folder, LATEST)?;
        let mut candidates: Vec<PathBuf> = named.iter().cloned().collect();
        let newest_first = self.checkpoints()?.into_iter().rev().map(|(_, path)| path);
        candidates.extend(newest_first.filter(|path| named.as_ref() != Some(path)));
        let mut damaged = Vec::new();
        for candidate in candidates {
            match Checkpoint::verify(&candidate) {
                Ok(checkpoint) => {
                    for fault in damaged {
                        let step = checkpoint.step;
                        let passed = Fault { hint: None, ..fault }.hint(format!(
                            "the one of step {step} is taken in its place; put the file back, or remove the checkpoint"
                        ));
                        tracing::warn!("passing over a damaged checkpoint: {}", passed.line());
                    }
                    return Ok(Some(checkpoint));
                }
                Err(Refused::Damaged(fault)) => damaged.push(fault),
                Err(Refused::Unreadable(fault)) => return Err(not_told(fault, &candidate)),
            }
        }
        // One that `latest` names and that is gone is not damaged.
        let gone = match named {
            Some(named) if !files::is_there(&named)? => Some(Place::file(named)),
            _ => None,
        };
        damaged.retain(|fault| gone.is_none() || fault.place != gone);
        let (count, first) = (damaged.len(), damaged.into_iter().next());
        match first {
            Some(fault) => {
                let message = match count {
                    1 => format!("the run's only checkpoint is damaged: {}", fault.message),
                    _ => format!("all {count} checkpoints of the run are damaged, the latest so: {}", fault.message),
                };
                Err(Fault { message, ..fault }.hint("put the file back from a copy, or train again"))
            }
            None => Ok(None),
        }
    }

    /// The best checkpoint, when one was marked so.
    ///
    /// # Errors
    /// The best checkpoint is not complete any more.
    pub fn best(&self) -> Result<Option<Checkpoint>, Fault> {
        pointed(&self.folder.join(CHECKPOINTS), BEST)?.map(|folder| Checkpoint::open(&folder)).transpose()
    }

    /// Steps and folders of all checkpoints, the oldest first; their files are not checked.
    ///
    /// # Errors
    /// The folder of checkpoints cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<(usize, PathBuf)>, Fault> {
        let folder = self.folder.join(CHECKPOINTS);
        let entries = entries(&folder)?;
        let mut found: Vec<(usize, PathBuf)> = Vec::new();
        for name in &entries {
            // A crash while a step is replaced can leave its old state under the hidden name only.
            let step = step_of(name, VISIBLE)
                .or_else(|| step_of(name, REPLACED).filter(|step| !entries.contains(&folder_name(*step))));
            if let Some(step) = step
                && files::is_there(&folder.join(name).join(MANIFEST))?
            {
                found.push((step, folder.join(name)));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Whether there is a checkpoint in `dir`, which need not be a run.
    ///
    /// # Errors
    /// The disk does not say.
    pub fn has_checkpoints(dir: &Path) -> Result<bool, Fault> {
        Ok(!Self::at(dir).checkpoints()?.is_empty())
    }

    fn retain(&self, folder: &Path, step: usize, retention: &Retention) -> Result<(), Fault> {
        // One that cannot be read may name any: nothing is removed then.
        let kept = [pointed(folder, LATEST)?, pointed(folder, BEST)?];
        let checkpoints = self.checkpoints()?;
        // Later ones are of another history, that of the run before it was resumed: not ours to count or to remove.
        let so_far: Vec<_> = checkpoints.into_iter().filter(|(found, _)| *found <= step).collect();
        let excess = so_far.len().saturating_sub(retention.keep);
        for (old, path) in so_far.into_iter().take(excess) {
            if kept.iter().flatten().all(|kept| *kept != path) {
                // Renamed first, so that nobody finds one that is half removed.
                let removed = folder.join(format!("{REMOVED}{old:06}"));
                files::rename(&path, &removed)?;
                files::remove_folder(&removed)?;
            }
        }
        Ok(())
    }

    fn inside(&self, name: &Path) -> Result<PathBuf, Fault> {
        let normal = name.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !normal || name.as_os_str().is_empty() {
            return Err(Fault::new("the name of a file of the run leaves the run's directory")
                .at(Place::file(name))
                .hint("give a path without `..` that does not begin with `/`"));
        }
        let path = self.folder.join(name);
        files::create_folder(path.parent().expect("a file of the run lies in the run's directory"))?;
        Ok(path)
    }
}

/// The lock file of a run's directory, and what came of asking for it.
fn lock_in(folder: &Path) -> Result<(File, Lock), Fault> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(|error| files::fault("write", &path, &error))?;
    match Lock::ask(|| file.try_lock()) {
        Lock::Taken => Err(Fault::new("another process is training into this directory")
            .at(Place::file(folder))
            .hint("wait for it, or choose another `output.dir`")),
        lock => Ok((file, lock)),
    }
}

/// The checkpoint folder that `latest` or `best` in `folder` names; `None` where there is no such file, or it names none.
///
/// # Errors
/// The file is there and cannot be read.
pub(crate) fn pointed(folder: &Path, pointer: &str) -> Result<Option<PathBuf>, Fault> {
    let path = folder.join(pointer);
    let text = match faults::read_file(&path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(files::fault("read", &path, &error)),
    };
    let name = text.trim();
    let Some(step) = step_of(name, VISIBLE) else { return Ok(None) };
    let target = folder.join(name);
    let replaced = folder.join(format!("{REPLACED}{step:06}"));
    Ok(Some(if !files::is_there(&target)? && files::is_there(&replaced)? { replaced } else { target }))
}

/// The fault of a checkpoint of which nobody knows whether it is whole.
fn not_told(fault: Fault, checkpoint: &Path) -> Fault {
    let told = fault.hint.clone().unwrap_or_default();
    let name = checkpoint.display();
    fault.hint(format!("{told}; no older checkpoint is taken in its place: to have that, remove `{name}`"))
}

/// Puts a complete staging folder in its place, and the one it replaces out of the way.
fn publish(folder: &Path, staging: &Path, target: &Path, step: usize) -> Result<(), Fault> {
    let replaced = folder.join(format!("{REPLACED}{step:06}"));
    let replaces = files::is_there(target)?;
    if replaces {
        files::rename(target, &replaced)?;
    }
    if let Err(fault) = files::rename(staging, target) {
        if replaces {
            // The first fault says what is wrong; the next save does this too.
            let _ = files::rename(&replaced, target);
        }
        return Err(fault);
    }
    files::sync_folder(folder)?;
    if replaces { files::remove_folder(&replaced) } else { Ok(()) }
}

/// Removes what earlier saves left behind when they were cut short.
fn sweep(folder: &Path) -> Result<(), Fault> {
    let entries = entries(folder)?;
    for name in &entries {
        let path = folder.join(name);
        match step_of(name, REPLACED) {
            Some(step) if !entries.contains(&folder_name(step)) => {
                files::rename(&path, &folder.join(folder_name(step)))?
            }
            Some(_) => files::remove_folder(&path)?,
            None if step_of(name, STAGING).is_some() || step_of(name, REMOVED).is_some() => {
                files::remove_folder(&path)?
            }
            None => {}
        }
    }
    Ok(())
}

fn folder_name(step: usize) -> String {
    format!("{VISIBLE}{step:06}")
}

fn step_of(name: &str, prefix: &str) -> Option<usize> {
    let digits = name.strip_prefix(prefix)?;
    let step = digits.parse().ok()?;
    (format!("{step:06}") == digits).then_some(step)
}

/// The names in a folder, none when there is no such folder.
fn entries(folder: &Path) -> Result<Vec<String>, Fault> {
    if !files::is_there(folder)? {
        return Ok(Vec::new());
    }
    let read = || -> std::io::Result<Vec<String>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    read().map_err(|error| files::fault("read", folder, &error))
}

/// True for a folder with nothing in it.
pub(crate) fn is_empty(folder: &Path) -> Result<bool, Fault> {
    Ok(entries(folder)?.is_empty())
}

#[cfg(test)]
mod tests;
