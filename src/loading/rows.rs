//! The files that a path of rows stands for: those of this machine, or of a data set of the hub.

use std::path::{Path, PathBuf};

use datasets::Named;
use faults::{Fault, Faults};
use hub::{DataSet, Hub, progress_on_stderr};

/// What says which files of a data set are which rows.
const CARD: &str = "README.md";

/// The files of `path`, of which those of the hub are fetched where they are not in its cache yet; a data set that is named
/// without a split gives the first of `splits` that it has.
///
/// # Errors
/// A folder or a pattern without files of rows; what can be wrong with a name of the hub, and with the hub.
pub fn files(path: &str, splits: &[&str]) -> Result<Vec<PathBuf>, Fault> {
    let Some(named) = Named::parse(path) else { return datasets::expand(Path::new(path)) };
    let hub = Hub::from_env()?;
    let progress = progress_on_stderr();
    let data_set = hub.data_set(&named.repository, named.revision.as_deref(), &progress)?;
    let card = card(&data_set)?;
    let wanted = named.select(data_set.files(), card.as_deref(), splits)?;
    if data_set.is_partial() {
        let text = "the cache does not say which files the data set has: those that are in it are all that is read";
        tracing::warn!("`{path}`: {text}");
    }
    data_set.bring(&wanted)
}

/// Refuses paths of this machine from which no rows can be read; names of the hub are looked up when they are read.
///
/// # Errors
/// One fault for each such path.
pub fn refuse_unreadable<'a>(paths: impl Iterator<Item = &'a str>) -> Result<(), Faults> {
    let local: Vec<PathBuf> = paths.filter(|path| Named::parse(path).is_none()).map(PathBuf::from).collect();
    datasets::refuse_unreadable(&local)
}

fn card(data_set: &DataSet<'_>) -> Result<Option<String>, Fault> {
    if !data_set.files().contains(CARD) {
        return Ok(None);
    }
    let path = data_set.bring(&[CARD.to_owned()])?.remove(0);
    let text = fs_err::read_to_string(&path);
    text.map(Some).map_err(|error| Fault::of_file("cannot read the data set's card", &path, &error))
}
