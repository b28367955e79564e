//! The base that an adapter or a run names: where it is looked for, and whether it is the same one.

use std::path::Path;

use backbone::ModelFiles;
use faults::{Fault, Faults, Place};

/// The option that says where a base is.
pub const OPTION: &str = "--base";

/// A base as something names it.
pub struct Name<'a> {
    /// A folder, a name on the hub, or one of this program's.
    pub path: &'a str,
    /// Branch, tag or commit on the hub.
    pub revision: Option<&'a str>,
    /// The whole path it had then, if that is known.
    pub folder: Option<&'a str>,
    /// The file that names it.
    pub place: Place,
    /// Where in that file.
    pub key: &'a str,
}

impl Name<'_> {
    /// The base: what `--base` gave, else the folder it was in, else what the name means from here.
    ///
    /// # Errors
    /// It is not there; the fault says who names it.
    pub fn locate(&self, given: Option<&str>) -> Result<ModelFiles, Fault> {
        if let Some(given) = given {
            let revision = self.revision.filter(|_| given == self.path);
            return ModelFiles::locate(given, revision).map_err(|fault| fault.or_at(Place::Named(OPTION.into())));
        }
        if let Some(folder) = self.folder.filter(|folder| Path::new(folder).is_dir()) {
            return Ok(ModelFiles::Folder(folder.into()));
        }
        ModelFiles::locate(self.path, self.revision).map_err(|fault| self.missing(&fault))
    }

    fn missing(&self, fault: &Fault) -> Fault {
        let here = format!("{} here names `{}`; `{OPTION} DIR|NAME` says where it is now", self.key, self.path);
        // That it is no name on the hub either says nothing of a folder that was there.
        let message = match self.folder {
            Some(folder) => format!("there is no folder `{folder}` any more"),
            None => fault.message.clone(),
        };
        // A hint about folders and names is this one; others are about the hub, and stay.
        let hint = match &fault.hint {
            Some(hint) if !message.starts_with("there is no folder") => format!("{hint}; {here}"),
            _ => here,
        };
        Fault::new(format!("the base model cannot be had: {message}")).at(self.place.clone()).hint(hint)
    }
}

/// The fault of a base given for something that has none of its own.
pub fn refuse_given(given: Option<&str>, what: &str) -> Result<(), Faults> {
    match given {
        None => Ok(()),
        Some(_) => Err(Fault::new(format!("`{OPTION}` has no effect on {what}"))
            .at(Place::Named(OPTION.into()))
            .hint("leave it out")
            .into()),
    }
}
