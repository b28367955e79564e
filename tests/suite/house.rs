//! What the layout promises: see ARCHITECTURE.md.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Most lines of a source file.
const LINES: usize = 500;

/// Most lines of a function.
const LINES_OF_A_FUNCTION: usize = 80;

/// The rooms of `src`, the lowest first: none names one that stands after it.
const ROOMS: [&str; 14] = [
    "allocation",
    "inspection",
    "logging",
    "report",
    "engine",
    "recipe",
    "loading",
    "evaluation",
    "embeddings",
    "chat",
    "sampling",
    "observation",
    "plan",
    "command",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder.
fn sources(folder: &str) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![root().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder).expect("a folder of this project") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// A file without its tests.
fn text(path: &Path) -> String {
    let text = fs_err::read_to_string(path).expect("a file of this project");
    let is_test = path.file_name().is_some_and(|name| name == "tests.rs");
    // Tests in a file of their own are named among the other modules, before all else.
    let modules = text.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| at);
    let mut within = modules.filter(|at| text[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{')));
    let end = within.next().unwrap_or(text.len());
    if is_test { String::new() } else { text[..end].to_owned() }
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn level(room: &str) -> usize {
    ROOMS.iter().position(|known| *known == room).unwrap_or_else(|| panic!("`{room}` is no room in `ROOMS`"))
}

/// What a path goes on with: a name, or each name of a list in braces.
fn names(rest: &str) -> Vec<&str> {
    let name = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let Some(list) = rest.strip_prefix('{') else { return vec![&rest[..name(rest)]] };
    let (mut found, mut depth, mut is_next) = (Vec::new(), 1, true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' => is_next = depth == 1,
            c if is_next && !c.is_whitespace() => {
                found.push(&list[at..at + name(&list[at..])]);
                is_next = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// The rooms that a file names whose module stands so deep below the root: as `crate::room`, or with as many `super::`.
fn rooms_named(text: &str, depth: usize) -> Vec<&str> {
    let from_the_root = text.split("crate::").skip(1);
    let above = "super::".repeat(depth);
    // More of them lead out of the crate, fewer to a module within the room.
    let from_below = text.match_indices(&above).filter(|(at, _)| !text[..*at].ends_with("super::"));
    let from_below = from_below.map(|(at, _)| &text[at + above.len()..]).filter(|rest| !rest.starts_with("super::"));
    let all = from_the_root.chain(from_below).flat_map(names);
    all.filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase())).collect()
}

#[test]
fn rooms_are_found_however_they_are_named() {
    let text = "use crate::{plan, engine::{head, step}};\nuse crate::chat::{Flags};\nuse super::super::report::html;\nuse super::{best};";
    assert_eq!(rooms_named(text, 2), ["plan", "engine", "chat", "report"]);
    assert_eq!(rooms_named(text, 1), ["plan", "engine", "chat", "best"]);
}

#[test]
fn no_arrow_runs_upwards() {
    let mut upwards = BTreeSet::new();
    for path in sources("src") {
        let inside = path.strip_prefix(root().join("src")).expect("below src");
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let room = first.trim_end_matches(".rs");
        if ["lib", "main"].contains(&room) {
            continue;
        }
        let text = text(&path);
        let depth = inside.components().count() - usize::from(inside.ends_with("mod.rs"));
        for other in rooms_named(&text, depth) {
            if level(other) > level(room) {
                upwards.insert(format!("{}: {room} -> {other}", shown(&path)));
            }
        }
    }
    assert!(upwards.is_empty(), "{upwards:#?}");
}

/// Operations choose their form by the device, and `device` says what a device is; all else is the same everywhere.
#[test]
fn only_operations_know_the_device() {
    let knows = |path: &Path| {
        let path = shown(path);
        path.starts_with("backbone/src/ops") || path == "backbone/src/device.rs"
    };
    let mut found = Vec::new();
    for path in ["src", "backbone/src", "losses/src"].into_iter().flat_map(sources).filter(|path| !knows(path)) {
        let text = text(&path);
        let leaks = text.lines().filter(|line| line.contains("is_cpu") || line.contains("cfg(feature = \"gpu\")"));
        found.extend(leaks.map(|line| format!("{}: {}", shown(&path), line.trim())));
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// The sources of all packages, those of tests alone aside.
fn all_sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for package in fs_err::read_dir(root()).expect("the repository").map(|entry| entry.expect("an entry").path()) {
        if package.join("Cargo.toml").is_file() && package.join("src").is_dir() {
            files.extend(sources(&shown(&package.join("src"))));
        }
    }
    files.extend(sources("src"));
    assert!(files.len() > 200, "only {} files were found", files.len());
    let tests = |file: &Path| {
        let mut parts = file.strip_prefix(root()).expect("a file of the repository").components();
        parts.any(|part| ["tests", "tests.rs"].iter().any(|name| *name == part.as_os_str()))
    };
    files.retain(|file| !tests(file));
    files
}

#[test]
fn no_source_file_is_longer_than_a_person_reads() {
    let files = all_sources();
    let long = files.iter().filter_map(|file| {
        let lines = fs_err::read_to_string(file).expect("a source file").lines().count();
        (lines > LINES).then(|| format!("{}: {lines}", file.display()))
    });
    assert_eq!(long.collect::<Vec<_>>(), Vec::<String>::new(), "split along an honest seam");
}

/// True for the first line of a function that does not end in it.
fn begins_a_function(line: &str) -> bool {
    let words = ["pub", "pub(super)", "pub(crate)", "const", "unsafe"];
    let mut before = line.split_whitespace().take_while(|word| *word != "fn");
    let is_one = line.split_whitespace().any(|word| word == "fn") && before.all(|word| words.contains(&word));
    is_one && !line.ends_with(['}', ';'])
}

/// From its name to its brace, which stands as far in as its beginning; tests aside.
#[test]
fn no_function_is_longer_than_two_screens() {
    let (mut long, mut functions) = (Vec::new(), 0);
    for path in all_sources() {
        let text = text(&path);
        let lines: Vec<&str> = text.lines().collect();
        let depth = |line: &str| line.len() - line.trim_start().len();
        for (first, line) in lines.iter().enumerate().filter(|(_, line)| begins_a_function(line)) {
            let ends = |other: &&str| depth(other) == depth(line) && (other.trim() == "}" || other.ends_with(';'));
            let length = 1 + lines[first..].iter().position(ends).expect("a function has an end");
            functions += 1;
            if length > LINES_OF_A_FUNCTION {
                long.push(format!("{}:{}: {length}", shown(&path), first + 1));
            }
        }
    }
    assert!(functions > 3000, "only {functions} functions were found");
    assert!(long.is_empty(), "name its phases: {long:#?}");
}

/// What a recipe is but for its first words, its comments and the tables that make it another experiment.
struct Rest {
    lines: Vec<String>,
    comments: BTreeSet<String>,
}

impl Rest {
    fn of(name: &str) -> Self {
        let text = fs_err::read_to_string(root().join("recipes").join(format!("{name}.toml"))).expect("a recipe");
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
    let world = "cdiv_alpha1.4 trunc_r lambda_pr focal gem tofu trunc gold tailr mixce dft deft eaft forking proximal entropy_bonus label_smoothing mtp sfr_words";
    let paper = ["cdiv", "trunc_r", "lambda_pr", "focal", "trunc", "gold", "tailr", "mixce"]
        .map(|name| format!("paper_{name}"));
    let world: Vec<String> = world.split(' ').map(str::to_owned).collect();
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
