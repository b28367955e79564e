//! A data set of the hub: the list of its files, and those of them that are wanted, in the cache.
//!
//! What is in the cache is taken from there without a request. Which files a commit has is noted there too, in
//! `.trainer/COMMIT` of the data set's folder, because the files that were fetched so far do not say it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use faults::{Fault, Place};

use super::failure::Failure;
use super::repository::Repository;
use super::transfer::Listing;

/// A data set at one commit.
pub struct DataSet<'a> {
    repository: Repository<'a>,
    listing: Listing,
    /// The list is of what the cache happens to hold: the data set may have more.
    partial: bool,
}

impl<'a> DataSet<'a> {
    pub(super) fn open(repository: Repository<'a>) -> Result<Self, Fault> {
        let known = repository.known_commit();
        let noted = known.as_ref().and_then(|commit| noted(&repository.folder, commit));
        if let (Some(commit), Some(files)) = (&known, noted) {
            return Ok(Self { repository, listing: Listing { commit: commit.clone(), files }, partial: false });
        }
        if repository.hub.offline {
            let snapshot =
                known.map(|commit| (repository.snapshot(&commit), commit)).filter(|(folder, _)| folder.is_dir());
            let Some((folder, commit)) = snapshot else { return Err(not_in_the_cache(&repository, "")) };
            let mut files = BTreeSet::new();
            walk(&folder, &folder, &mut files);
            return Ok(Self { repository, listing: Listing { commit, files }, partial: true });
        }
        let listed =
            repository.client().and_then(|client| client.list(known.as_deref().unwrap_or(repository.revision)));
        let listing = listed.map_err(Failure::into_fault)?;
        let listing = Listing { files: listing.files.into_iter().filter(|file| is_inside(file)).collect(), ..listing };
        // A note, as are those of `refs`: a cache that cannot be written does without.
        let note = repository.folder.join(NOTES).join(&listing.commit);
        let text: Vec<&str> = listing.files.iter().map(String::as_str).collect();
        let folder = note.parent().unwrap_or(&repository.folder);
        let _ = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&note, text.join("\n")));
        Ok(Self { repository, listing, partial: false })
    }

    /// Its files, with `/` between the folders.
    pub fn files(&self) -> &BTreeSet<String> {
        &self.listing.files
    }

    /// True where only those files are known that the cache holds.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// The folder of the cache with the files of this commit.
    pub fn folder(&self) -> PathBuf {
        self.repository.snapshot(&self.listing.commit)
    }

    /// Brings `files` of it into the cache where they are not there yet, and gives their paths.
    ///
    /// # Errors
    /// A file that the cache lacks where the hub is not to be asked, and everything that can fail on the way.
    pub fn bring(&self, files: &[String]) -> Result<Vec<PathBuf>, Fault> {
        let folder = self.folder();
        let missing: Vec<&String> = files.iter().filter(|file| !folder.join(file).exists()).collect();
        if let Some(first) = missing.first() {
            if self.repository.hub.offline {
                return Err(not_in_the_cache(&self.repository, &format!("`{first}` of ")));
            }
            let commit = &self.listing.commit;
            let fetch = || {
                let client = self.repository.client()?;
                missing.iter().try_for_each(|file| self.repository.bring(&client, commit, file).map(drop))
            };
            fetch().map_err(Failure::into_fault)?;
        }
        self.repository.note_commit(&self.listing.commit);
        Ok(files.iter().map(|file| folder.join(file)).collect())
    }
}

/// The folder of the notes of which files a commit has.
const NOTES: &str = ".trainer";

fn noted(folder: &Path, commit: &str) -> Option<BTreeSet<String>> {
    let text = std::fs::read_to_string(folder.join(NOTES).join(commit)).ok()?;
    let files: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    files.iter().all(|file| is_inside(file)).then_some(files)
}

/// True for a path that leads to a file below the folder it is put behind, and is written plainly.
fn is_inside(file: &str) -> bool {
    let good = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.contains(['\\', ':'])
            && !part.contains(char::is_control)
    };
    file.len() <= 1000 && file.split('/').all(good)
}

fn walk(root: &Path, folder: &Path, files: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(root, &path, files);
        } else if let Some(inside) = path.strip_prefix(root).ok().and_then(Path::to_str)
            && path.exists()
        {
            files.insert(inside.to_owned());
        }
    }
}

fn not_in_the_cache(repository: &Repository<'_>, what: &str) -> Fault {
    let (name, revision) = (repository.name, repository.revision);
    Fault::new(format!("the cache has no {what}`{name}` at `{revision}`, and the hub is not to be asked"))
        .at(Place::file(&repository.folder))
        .hint("unset `HF_HUB_OFFLINE` to download it, or set `HF_HOME` to the cache that has it")
}
