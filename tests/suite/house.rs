//! The house itself: no file grows without end, and recipes that are to differ in little do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Most lines of a source file.
const LINES: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files of a folder and of those in it.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// Files of tests alone aside.
#[test]
fn no_source_file_is_longer_than_a_person_reads() {
    let mut files = Vec::new();
    for package in fs::read_dir(root()).expect("the repository").map(|entry| entry.expect("an entry").path()) {
        if package.join("Cargo.toml").is_file() && package.join("src").is_dir() {
            sources(&package.join("src"), &mut files);
        }
    }
    sources(&root().join("src"), &mut files);
    assert!(files.len() > 200, "only {} files were found", files.len());
    let tests = |file: &Path| {
        let mut parts = file.strip_prefix(root()).expect("a file of the repository").components();
        parts.any(|part| ["tests", "tests.rs"].iter().any(|name| *name == part.as_os_str()))
    };
    let long = files.iter().filter(|file| !tests(file)).filter_map(|file| {
        let lines = fs::read_to_string(file).expect("a source file").lines().count();
        (lines > LINES).then(|| format!("{}: {lines}", file.display()))
    });
    assert_eq!(long.collect::<Vec<_>>(), Vec::<String>::new(), "split along an honest seam");
}

/// What a recipe is but for its first words, its comments and the tables that make it another experiment.
struct Rest {
    lines: Vec<String>,
    comments: BTreeSet<String>,
}

impl Rest {
    fn of(name: &str) -> Self {
        let text = fs::read_to_string(root().join("recipes").join(format!("{name}.toml"))).expect("a recipe");
        let (_, body) = text.split_once("\n\n").expect("words, and then the settings");
        let (mut rest, mut own) = (Self { lines: Vec::new(), comments: BTreeSet::new() }, false);
        for line in body.lines().filter(|line| !line.is_empty()) {
            if line.starts_with('[') {
                own = ["[objective]", "[[auxiliary]]"].contains(&line);
            }
            match line.starts_with('#') {
                _ if own => {}
                true => drop(rest.comments.insert(line.to_owned())),
                false => rest.lines.push(line.to_owned()),
            }
        }
        rest
    }
}

/// A recipe is a whole file, to be read and copied by itself; those that compare objectives are the same run otherwise.
#[test]
fn recipes_of_one_comparison_differ_in_their_objectives_alone() {
    let world =
        ["cdiv_alpha1.4", "trunc_r", "lambda_pr", "focal", "trunc", "gold", "tailr", "mixce", "mtp", "sfr_words"];
    let paper = ["cdiv", "trunc_r", "lambda_pr", "focal", "trunc", "gold", "tailr", "mixce"]
        .map(|name| format!("paper_{name}"));
    let world = world.map(str::to_owned);
    for (base, recipes) in [("nll", &world[..]), ("paper_nll", &paper[..])] {
        let base = Rest::of(base);
        assert!(base.lines.len() > 10 && base.comments.len() > 3);
        for name in recipes {
            let rest = Rest::of(name);
            assert_eq!(rest.lines, base.lines, "{name}");
            assert!(rest.comments.is_subset(&base.comments), "{name}: {:?}", rest.comments.difference(&base.comments));
        }
    }
}
