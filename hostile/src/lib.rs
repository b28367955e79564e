//! Files nobody vouches for: every reader of other people's files, under inputs that are made of good ones.
//!
//! A [`Target`] is a reader with a few good inputs (seeds) and the words of its format. [`mutate`] makes bad inputs of
//! these, each by its number alone, so that a number is all that it takes to have one again. Whatever it is, a reader
//! accepts it or says what is wrong with it: it does not panic, comes back, and takes no more memory than a file of that
//! size may.
//!
//! The tests run some hundred inputs of each target, the program `hostile` as many as there is time for, and `fuzz/`
//! gives the same readers to `cargo fuzz`, which looks for inputs by the code that they reach.

mod files;
mod mutate;
mod rows;
mod served;
mod texts;
#[cfg(feature = "program")]
mod whole;

pub use faults::is_caught;
pub use mutate::mutate;

/// A reader of other people's files.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Good inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of its format that a change of single bytes would not find.
    pub words: &'static [&'static str],
    /// Reads an input; true where it was accepted.
    pub run: fn(&[u8]) -> bool,
}

/// All targets.
pub fn targets() -> Vec<Target> {
    let mut targets = Vec::new();
    targets.extend(texts::TARGETS);
    targets.extend(rows::TARGETS);
    targets.extend(files::TARGETS);
    targets.extend(served::TARGETS);
    #[cfg(feature = "program")]
    targets.extend(whole::TARGETS);
    targets
}

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    targets().into_iter().find(|target| target.name == name)
}

/// Shows a result as a user would be shown it, and says whether it was one.
fn shown<T, E: std::fmt::Display>(result: Result<T, E>) -> bool {
    if let Err(fault) = &result {
        assert!(!fault.to_string().is_empty(), "a fault without a word");
    }
    result.is_ok()
}

/// A fixture of the repository.
fn fixture(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fixtures in a folder that have this ending.
fn fixtures(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let entries = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(ending));
    names.sort();
    names.iter().map(|name| fixture(&format!("{folder}/{name}"))).collect()
}
