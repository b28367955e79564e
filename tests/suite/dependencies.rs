//! What is built into the program, by the lists of `deny.toml`, which `cargo deny` reads too.

use serde_json::Value;

/// What a command writes.
fn written(program: &str, variable: &str, arguments: &[&str]) -> Vec<u8> {
    let program = std::env::var(variable).unwrap_or_else(|_| program.into());
    let mut command = std::process::Command::new(program);
    let output = command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The packages of the program and its tests as they are built here, which are those that cargo has fetched.
fn packages() -> Vec<Value> {
    let version = String::from_utf8(written("rustc", "RUSTC", &["-vV"])).expect("text");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let arguments = ["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host];
    let metadata: Value = serde_json::from_slice(&written("cargo", "CARGO", &arguments)).expect("JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

fn rules() -> toml::Table {
    let text = fs_err::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).expect("the rules");
    text.parse().expect("TOML")
}

/// The words of a list of strings, or of a key of a list of tables.
fn words(list: &toml::Value, key: &str) -> Vec<String> {
    let word = |item: &toml::Value| item.as_str().or_else(|| item.get(key)?.as_str()).expect("a word").to_owned();
    list.as_array().expect("a list").iter().map(word).collect()
}

/// True where an SPDX expression can be kept with these licences alone: one of each `OR`, and all of each `AND`.
fn may_be_kept(expression: &str, allowed: &[String]) -> bool {
    // A slash is how `OR` was written once.
    let text = expression.replace('/', " OR ");
    let text = text.trim();
    let outer = |separator: &str| -> Option<Vec<String>> {
        let (mut parts, mut depth, mut part) = (Vec::new(), 0, Vec::new());
        let spaced = text.replace('(', " ( ").replace(')', " ) ");
        for word in spaced.split_whitespace() {
            depth += match word {
                "(" => 1,
                ")" => -1,
                _ => 0,
            };
            if word == separator && depth == 0 {
                parts.push(std::mem::take(&mut part).join(" "));
            } else {
                part.push(word);
            }
        }
        parts.push(part.join(" "));
        (parts.len() > 1).then_some(parts)
    };
    if let Some(parts) = outer("OR") {
        return parts.iter().any(|part| may_be_kept(part, allowed));
    }
    if let Some(parts) = outer("AND") {
        return parts.iter().all(|part| may_be_kept(part, allowed));
    }
    match text.strip_prefix('(').and_then(|text| text.strip_suffix(')')) {
        Some(inner) => may_be_kept(inner, allowed),
        None => allowed.iter().any(|licence| licence == text),
    }
}

#[test]
fn expressions_of_licences_are_read_as_spdx_has_them() {
    let allowed = ["MIT".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned(), "ISC".to_owned()];
    for (expression, kept) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND ISC", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("(MIT OR ISC) AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
    ] {
        assert_eq!(may_be_kept(expression, &allowed), kept, "{expression}");
    }
}

#[test]
fn every_package_has_a_licence_and_a_source_that_are_allowed_and_none_is_banned() {
    let (rules, packages) = (rules(), packages());
    let allowed = words(&rules["licenses"]["allow"], "");
    let banned = words(&rules["bans"]["deny"], "crate");
    let clarified = rules["licenses"]["clarify"].as_array().expect("a list");
    assert!(packages.len() > 300, "only {} packages", packages.len());
    let mut wrong = Vec::new();
    for package in &packages {
        let name = package["name"].as_str().expect("a name");
        let source = package["source"].as_str();
        // What `cargo deny` allows where `[sources]` names no other.
        if source.is_some_and(|source| !(source.starts_with("registry+") && source.ends_with("/crates.io-index"))) {
            wrong.push(format!("{name} comes from {source:?}"));
        }
        if banned.iter().any(|banned| banned == name) {
            wrong.push(format!("{name} is banned"));
        }
        let clarification = clarified.iter().find(|one| one["crate"].as_str() == Some(name));
        let licence = clarification.map_or(package["license"].as_str(), |one| one["expression"].as_str());
        match licence {
            Some(licence) if may_be_kept(licence, &allowed) => {}
            // A package of this repository that stands in for another is no one's to give on.
            None if source.is_none() => {}
            licence => wrong.push(format!("{name} has the licence {licence:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
