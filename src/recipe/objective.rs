//! `[objective]` and `[[auxiliary]]`: the word is looked up in the registry, the other keys are read by what it names.

use std::collections::BTreeMap;

use faults::{Section, nearest};
use losses::{AuxiliaryBuilder, Normalisation, Objective, Registry, Terms};

const WARM_START: &str = "warm_start";

/// The objective, and beside it the steps of its warm start and the terms.
pub(super) fn read(section: &mut Section, registry: &Registry) -> Option<(Box<dyn Objective>, (usize, Terms))> {
    let names: Vec<&str> = registry.objectives.iter().map(|kind| kind.name).collect();
    // A kind that cannot be read is one fault: the other keys may be those of the kind that was meant.
    let unread = if section.has("kind") { "" } else { "nll" };
    let word = section.value("kind", unread.to_string());
    section.words("kind", &names);
    let keys = registry.objectives.iter().map(|kind| {
        let mut probe = Section::probe();
        (kind.build)(&mut probe);
        (kind.name, probe.asked().to_vec())
    });
    let owners = owners("objective", keys);
    let Some(kind) = registry.objectives.iter().find(|kind| kind.name == word) else {
        unknown_kind(section, &word, &names, &owners);
        return None;
    };
    let objective = (kind.build)(section);
    let terms = Terms::read(section, &*objective);
    let warm_start = read_warm_start(section, &*objective);
    name_owners(section, &owners);
    Some((objective, (warm_start, terms)))
}

fn read_warm_start(section: &mut Section, objective: &dyn Objective) -> usize {
    let steps = section.optional(WARM_START).unwrap_or(0);
    let message =
        format!("`{}` is learned from the first step on: nll counts tokens and not prompts", objective.name());
    let possible = steps == 0 || objective.normalisation() == Normalisation::Tokens;
    section.check(WARM_START, possible, message, format!("leave `{}` out", section.full(WARM_START)));
    let message = format!("`{}` has no effect: `nll` is what it would begin with", section.full(WARM_START));
    section.warn(WARM_START, steps == 0 || objective.name() != "nll", message, "name the objective that is to follow");
    steps
}

pub(super) fn read_auxiliaries(root: &mut Section, registry: &Registry) -> Vec<AuxiliaryBuilder> {
    let names: Vec<&str> = registry.auxiliaries.iter().map(|kind| kind.name).collect();
    let keys = registry.auxiliaries.iter().map(|kind| {
        let mut probe = Section::probe();
        drop((kind.build)(&mut probe));
        (kind.name, probe.asked().to_vec())
    });
    let owners = owners("auxiliary loss", keys);
    let mut sections = root.sections("auxiliary");
    let mut seen = Vec::new();
    let mut builders = Vec::new();
    for section in &mut sections {
        let word: String = section.required("kind", format!("one of: {}", names.join(", ")));
        section.words("kind", &names);
        let Some(kind) = registry.auxiliaries.iter().find(|kind| kind.name == word) else {
            unknown_kind(section, &word, &names, &owners);
            continue;
        };
        let again = format!("auxiliary loss `{word}` is named twice");
        section.check("kind", !seen.contains(&kind.name), again, "metrics are kept by this name: keep one of them");
        seen.push(kind.name);
        builders.push((kind.build)(section));
        name_owners(section, &owners);
    }
    root.close_all("auxiliary", sections);
    builders
}

/// From each key to the words for all that know it.
fn owners<'a>(what: &str, kinds: impl Iterator<Item = (&'a str, Vec<String>)>) -> BTreeMap<String, String> {
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for (name, keys) in kinds {
        for key in keys {
            let owner = owners.entry(key).or_default();
            let joint = if owner.is_empty() { format!("{what} ") } else { " and ".into() };
            *owner += &format!("{joint}`{name}`");
        }
    }
    owners
}

fn name_owners(section: &mut Section, owners: &BTreeMap<String, String>) {
    for (key, owner) in owners {
        if !section.asked().contains(key) {
            section.foreign(key, owner);
        }
    }
}

/// Files one fault for the word, and none for the keys that the meant kind would have known.
fn unknown_kind(section: &mut Section, word: &str, names: &[&str], owners: &BTreeMap<String, String>) {
    for key in owners.keys().map(String::as_str).chain(Terms::KEYS).chain([WARM_START]) {
        section.skip(key);
    }
    if word.is_empty() {
        return;
    }
    let hint = match nearest(word, names.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if names.is_empty() => "none is built into this program".into(),
        None => format!("one of: {}", names.join(", ")),
    };
    section.reject("kind", format!("`{}` cannot be \"{word}\"", section.full("kind")), hint);
}
