//! `trainer --version --verbose`: what this program is made of, and what it computes with here.

use std::ffi::OsString;

/// The tensor framework's version, as `Cargo.lock` has it.
const BURN: &str = "0.23.0-pre.1";

/// Whether a command line asks for the version with all that belongs to it.
pub(super) fn asks_for_details(arguments: impl Iterator<Item = OsString>) -> bool {
    let arguments: Vec<OsString> = arguments.take_while(|argument| argument != "--").collect();
    arguments.iter().any(|argument| argument == "--verbose" || argument == "-v")
}

/// A line each: the version, features, the instruction set of the kernels, the system, burn.
pub(super) fn details() -> String {
    let features = [
        ("cuda", cfg!(feature = "cuda")),
        ("cuda-untuned", cfg!(feature = "cuda-untuned")),
        ("wgpu", cfg!(feature = "wgpu")),
    ];
    let built: Vec<&str> = features.iter().filter(|(_, is_built)| *is_built).map(|(name, _)| *name).collect();
    let features = if built.is_empty() { "none (CPU alone)".into() } else { built.join(", ") };
    // A limit that is no word is told of where a command computes.
    let set = if kernels::limit().is_ok() {
        kernels::instruction_set()
    } else {
        "not known: KERNELS_LIMIT is no word for one"
    };
    format!(
        "trainer {}\nfeatures: {features}\ninstruction set: {set}\nsystem: {} {}\nburn: {BURN}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_burn_is_the_one_that_is_built_in() {
        let lock = include_str!("../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"burn\"\nversion = \"{BURN}\"\n")));
    }
}
