//! Short names of arms for columns and sentences: what tells them apart, and no more.

use std::collections::BTreeSet;

use crate::grid::Grid;

/// The arms of a page with their labels, each label once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Vec<(String, String)>);

/// So many words and numbers are read at a glance.
const MOST_PARTS: usize = 3;

/// A word or a number of an arm's name, and the key that it is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    /// Its last name, as `alpha` of `objective.alpha`.
    key: String,
    value: String,
    /// The place of its key in the grid: parts of one key stand together.
    group: usize,
}

impl Part {
    fn new(key: &str, value: &str, group: usize) -> Self {
        let last = key.rsplit(['=', '.']).next().unwrap_or(key);
        // Of a file or a folder its name; whole where two arms would be called alike.
        let value = if value.contains('/') { tail(value) } else { value };
        Self { key: last.into(), value: value.into(), group }
    }

    /// True where the value says by itself what it is.
    fn is_word(&self) -> bool {
        self.value.parse::<f64>().is_err() && !["true", "false"].contains(&&self.value[..])
    }
}

impl Labels {
    /// Labels of these arms, by the keys of their sweep where there is one, else by their names.
    pub fn of(arms: &[&str], grid: &Grid) -> Self {
        let parts: Vec<Option<Vec<Part>>> =
            arms.iter().map(|arm| of_grid(arm, grid).or_else(|| of_name(arm))).collect();
        let known = || parts.iter().flatten();
        // What all have tells none of them apart, unless it is all that one has.
        let is_shared = |part: &Part| known().count() > 1 && known().all(|parts| parts.contains(part));
        let has_own = known().all(|parts| parts.iter().any(|part| !is_shared(part)));
        let is_common = |part: &Part| has_own && is_shared(part);
        let told: Vec<Option<Vec<&Part>>> = parts
            .iter()
            .map(|parts| parts.as_ref().map(|parts| parts.iter().filter(|part| !is_common(part)).collect()))
            .collect();
        let told: Vec<Option<Vec<&Part>>> =
            told.iter().map(|parts| parts.as_ref().map(|parts| without_its_kinds(parts, &told))).collect();
        let numbers: BTreeSet<&str> =
            told.iter().flatten().flatten().filter(|part| !part.is_word()).map(|part| &part.key[..]).collect();
        let label = |(arm, parts): (&&str, &Option<Vec<&Part>>)| match parts {
            Some(parts) if !parts.is_empty() => text(parts, numbers.len() == 1),
            _ => tail(arm).to_owned(),
        };
        let short: Vec<String> = arms.iter().zip(&told).map(label).collect();
        let label = |(place, arm): (usize, &&str)| {
            let own = &short[place];
            let is_alone = short.iter().filter(|other| *other == own).count() == 1
                && arms.iter().enumerate().all(|(other, name)| other == place || *name != own);
            let label = if is_alone && own.chars().count() < arm.chars().count() { own } else { *arm };
            ((*arm).to_owned(), label.to_owned())
        };
        Self(arms.iter().enumerate().map(label).collect())
    }

    /// The label of an arm; what is none has its own name.
    pub fn label<'a>(&'a self, arm: &'a str) -> &'a str {
        self.0.iter().find(|(known, _)| known == arm).map_or(arm, |(_, label)| label)
    }

    /// The arm that has this name or this label.
    pub fn arm(&self, wanted: &str) -> Option<&str> {
        let by_name = self.0.iter().find(|(arm, _)| arm == wanted);
        by_name.or_else(|| self.0.iter().find(|(_, label)| label == wanted)).map(|(arm, _)| &arm[..])
    }

    /// All of them, in the order of the page.
    pub fn all(&self) -> &[(String, String)] {
        &self.0
    }
}

/// Without what all arms of the same kind have, where a label would be a list of settings: the kind says it.
fn without_its_kinds<'a>(parts: &[&'a Part], all: &[Option<Vec<&Part>>]) -> Vec<&'a Part> {
    let kind = |parts: &[&'a Part]| parts.iter().position(|part| part.is_word());
    let Some(place) = kind(parts).filter(|_| parts.len() > MOST_PARTS) else { return parts.to_vec() };
    let of_kind =
        || all.iter().flatten().filter(|other| other.iter().find(|part| part.is_word()) == Some(&parts[place]));
    let is_shared = |part: &Part| of_kind().count() > 1 && of_kind().all(|other| other.contains(&part));
    let is_told = |(at, part): &(usize, &&Part)| *at == place || !is_shared(part);
    parts.iter().enumerate().filter(is_told).map(|(_, part)| *part).collect()
}

/// What a sweep says of an arm; `None` where its grid has no key.
fn of_grid(arm: &str, grid: &Grid) -> Option<Vec<Part>> {
    let (_, values) = grid.arms.iter().find(|(known, values)| known == arm && !values.is_empty())?;
    let parts = grid.keys.iter().zip(values).enumerate().flat_map(|(group, (key, value))| {
        // A table is written as its kind and `key=value`.
        let of_table = value.split(", ").map(move |part| match part.split_once('=') {
            Some((inner, value)) => Part::new(inner, value, group),
            None => Part::new(key, part, group),
        });
        of_table.collect::<Vec<Part>>()
    });
    Some(parts.collect())
}

/// What a name as `sweeps/x/runs/kind=cdiv,alpha=1.4` says; `None` of one that is not made of keys and values.
fn of_name(arm: &str) -> Option<Vec<Part>> {
    let (settings, checkpoint) = tail(arm).split_once('@').map_or((tail(arm), None), |(a, b)| (a, Some(b)));
    if settings.contains(char::is_whitespace) {
        return None;
    }
    let part = |part: &str| part.rsplit_once('=').map(|(key, value)| Part::new(key, value, 0));
    let mut parts: Vec<Part> = settings.split(',').map(part).collect::<Option<_>>()?;
    parts.extend(checkpoint.map(|checkpoint| Part::new("checkpoint", &format!("@{checkpoint}"), 0)));
    Some(parts)
}

/// The last part of a path; a name that is no path is whole.
fn tail(arm: &str) -> &str {
    let is_of_path = |letter: char| letter.is_alphanumeric() || "/._-+=,@:".contains(letter);
    let end = arm.trim_end_matches('/');
    let last = end.rsplit('/').next().unwrap_or(end);
    let (path, _) = arm.split_at(arm.len() - last.len());
    if last.is_empty() || !path.chars().all(is_of_path) { arm } else { last }
}

/// Words as they are and numbers with their keys, where there are numbers of several keys or nothing else.
fn text(parts: &[&Part], one_key: bool) -> String {
    let is_clear = one_key && parts.iter().any(|part| part.is_word());
    let mut text = String::new();
    for (place, part) in parts.iter().enumerate() {
        let joint = match place.checked_sub(1).map(|before| parts[before].group == part.group) {
            None => "",
            Some(true) => " ",
            Some(false) => ", ",
        };
        text += joint;
        if !part.is_word() && !is_clear {
            text += &format!("{} ", part.key);
        }
        text += &part.value;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(arms: &[&str], grid: &Grid) -> Vec<String> {
        Labels::of(arms, grid).0.into_iter().map(|(_, label)| label).collect()
    }

    fn grid(keys: &[&str], arms: &[(&str, &[&str])]) -> Grid {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Grid { keys: texts(keys), arms: arms.iter().map(|(arm, values)| ((*arm).into(), texts(values))).collect() }
    }

    #[test]
    fn a_sweep_says_what_tells_its_arms_apart() {
        let arms = ["base", "objective=kind=nll", "objective=kind=cdiv,alpha=1.4", "objective=kind=cdiv,alpha=1.7"];
        let of = grid(
            &["objective"],
            &[(arms[1], &["nll"]), (arms[2], &["cdiv, alpha=1.4"]), (arms[3], &["cdiv, alpha=1.7"])],
        );
        assert_eq!(labels(&arms, &of), ["base", "nll", "cdiv 1.4", "cdiv 1.7"]);
        // The same of the names alone, as files have them.
        assert_eq!(labels(&arms, &Grid::default()), ["base", "nll", "cdiv 1.4", "cdiv 1.7"]);
        let two = ["objective.kind=nll,optimizer.learning_rate=0.1", "objective.kind=nll,optimizer.learning_rate=0.2"];
        let keys = ["objective.kind", "optimizer.learning_rate"];
        let of = grid(&keys, &[(two[0], &["nll", "0.1"]), (two[1], &["nll", "0.2"])]);
        assert_eq!(labels(&two, &of), ["learning_rate 0.1", "learning_rate 0.2"]);
        // A grid without a key says nothing of them.
        let without = grid(&[], &[("kind=nll", &[]), ("kind=cdiv", &[])]);
        assert_eq!(labels(&["kind=nll", "kind=cdiv"], &without), ["nll", "cdiv"]);
        let both = ["a=1,b=2,kind=x", "a=2,b=1,kind=x"];
        assert_eq!(labels(&both, &Grid::default()), ["a 1 b 2", "a 2 b 1"]);
    }

    #[test]
    fn what_all_of_a_kind_have_is_not_in_a_label() {
        let sfr = "kind=sfr,encoder=world-encoder,k=16,stride=1";
        let arms = [
            "auxiliary=".to_owned(),
            format!("auxiliary={sfr}"),
            format!("auxiliary={sfr},targets=other_rows"),
            "auxiliary=kind=mtp,heads=4".to_owned(),
        ];
        let arms: Vec<&str> = arms.iter().map(String::as_str).collect();
        let of = grid(
            &["auxiliary"],
            &[
                (arms[0], &["none"]),
                (arms[1], &["sfr, encoder=world/encoder, k=16, stride=1"]),
                (arms[2], &["sfr, encoder=world/encoder, k=16, stride=1, targets=other_rows"]),
                (arms[3], &["mtp, heads=4"]),
            ],
        );
        assert_eq!(labels(&arms, &of), ["none", "sfr", "sfr other_rows", "mtp 4"]);
        // Few parts are short: what they share is said all the same.
        let arms = ["objective=kind=nll", "objective=kind=cdiv,alpha=1.4", "objective=kind=cdiv,alpha=1.4,m=2"];
        let values: [&[&str]; 3] = [&["nll"], &["cdiv, alpha=1.4"], &["cdiv, alpha=1.4, m=2"]];
        let of = grid(&["objective"], &[(arms[0], values[0]), (arms[1], values[1]), (arms[2], values[2])]);
        assert_eq!(labels(&arms, &of), ["nll", "cdiv alpha 1.4", "cdiv alpha 1.4 m 2"]);
    }

    #[test]
    fn a_file_is_called_by_its_name() {
        let arms = ["train=data-one", "train=data-all"];
        let of = grid(&["data.train"], &[(arms[0], &["data/one.jsonl"]), (arms[1], &["data/all.jsonl"])]);
        assert_eq!(labels(&arms, &of), ["one.jsonl", "all.jsonl"]);
        let alike = grid(&["data.train"], &[(arms[0], &["a/rows.jsonl"]), (arms[1], &["b/rows.jsonl"])]);
        assert_eq!(labels(&arms, &alike), arms);
    }

    #[test]
    fn a_label_belongs_to_one_arm_and_is_no_other_ones_name() {
        let arms = ["runs/a", "old/a", "b", "x/b", "runs/c@best", "runs/kind=nll@best", "runs/kind=nll"];
        let found = labels(&arms, &Grid::default());
        assert_eq!(found, ["runs/a", "old/a", "b", "x/b", "c@best", "nll @best", "nll"]);
        // A single arm has all of its words, and no key is empty.
        assert_eq!(labels(&["runs/kind=nll"], &Grid::default()), ["nll"]);
        assert_eq!(
            labels(&["before (step 0)", "step 20", "</b>x", "/"], &Grid::default()),
            ["before (step 0)", "step 20", "</b>x", "/"]
        );
        let known = Labels::of(&arms, &Grid::default());
        assert_eq!(
            (known.arm("nll"), known.arm("runs/a"), known.arm("a")),
            (Some("runs/kind=nll"), Some("runs/a"), None)
        );
    }
}
