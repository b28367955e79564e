//! What the layout promises: see ARCHITECTURE.md.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The rooms of `src`, the lowest first: none names one that stands after it.
const ROOMS: [&str; 13] = [
    "allocation",
    "inspection",
    "metrics",
    "logging",
    "report",
    "engine",
    "recipe",
    "loading",
    "embeddings",
    "chat",
    "sampling",
    "plan",
    "command",
];

/// Above this a file is split.
const LONGEST: usize = 500;

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
    if is_test { String::new() } else { text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned() }
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn level(room: &str) -> usize {
    ROOMS.iter().position(|known| *known == room).unwrap_or_else(|| panic!("`{room}` is no room in `ROOMS`"))
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
        let named = text.split("crate::").skip(1).map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            &rest[..end]
        });
        for other in named.filter(|other| !other.is_empty()) {
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

#[test]
fn no_file_is_too_long_to_be_read_at_once() {
    let crates = [
        "src",
        "backbone/src",
        "losses/src",
        "datasets/src",
        "checkpoints/src",
        "faults/src",
        "kernels/src",
        "cube/src",
    ];
    let long = |path: &PathBuf| text(path).lines().count() > LONGEST;
    let found: Vec<String> = crates.into_iter().flat_map(sources).filter(long).map(|path| shown(&path)).collect();
    assert!(found.is_empty(), "{found:#?}");
}
