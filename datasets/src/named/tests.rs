use super::*;

fn named(text: &str) -> Named {
    Named::parse(text).unwrap_or_else(|| panic!("{text} is a name"))
}

fn files(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn names_have_a_subset_a_revision_and_a_split() {
    let parts = |text: &str| {
        let Named { repository, revision, subset, split, path } = named(text);
        [Some(repository), subset, revision, split, path].map(Option::unwrap_or_default).join("|")
    };
    for (text, expected) in [
        ("org/name", "org/name||||"),
        ("org/name:test", "org/name|||test|"),
        ("org/name@v1.2", "org/name||v1.2||"),
        ("org/name/main@refs/convert/parquet:train", "org/name|main|refs/convert/parquet|train|"),
        ("org/name-1.5", "org/name-1.5||||"),
        ("hf://datasets/org/name/data/*.parquet", "org/name||||data/*.parquet"),
        ("hf://datasets/org/name@refs%2Fpr%2F1/a.csv", "org/name||refs/pr/1||a.csv"),
        ("hf://datasets/org/name", "org/name||||"),
    ] {
        assert_eq!(parts(text), expected, "{text}");
    }
    for path in [
        "rows.jsonl",
        "data/rows.jsonl",
        "a/b/c.parquet",
        "./org/name",
        "/org/name",
        "~/name",
        "src/rows",
        "a/b.txt",
        "a/b/c/d",
        "builtin:numbers",
        "-",
        "https://a/b",
    ] {
        assert_eq!(Named::parse(path), None, "{path}");
    }
}

/// As in the hub's documentation, with subsets, splits, a folder, and the short forms.
const CARD: &str = "---\nlicense: mit\nconfigs:\n- config_name: main\n  default: true\n  data_files:\n  - split: train\n    path: data/main-*.parquet\n  - split: my_test\n    path:\n    - data/held.parquet\n    - extra/*.csv\n- config_name: plain\n  data_files: \"plain.jsonl\"\n- config_name: folder\n  data_dir: deep\n- config_name: both\n  data_dir: deep\n  data_files:\n    validation: dev.jsonl\n---\n# A card\n";

#[test]
fn a_card_says_which_files_are_which_split() {
    let all = files(&[
        "README.md",
        "data/main-0.parquet",
        "data/main-1.parquet",
        "data/held.parquet",
        "extra/a.csv",
        "extra/deep/b.csv",
        "plain.jsonl",
        "deep/train.jsonl",
        "deep/test.jsonl",
        "deep/dev.jsonl",
    ]);
    for (name, expected) in [
        ("org/name", &["data/main-0.parquet", "data/main-1.parquet"][..]),
        ("org/name:my_test", &["data/held.parquet", "extra/a.csv"]),
        ("org/name/plain", &["plain.jsonl"]),
        ("org/name/folder", &["deep/train.jsonl"]),
        ("org/name/folder:test", &["deep/test.jsonl"]),
        ("org/name/folder:validation", &["deep/dev.jsonl"]),
        ("org/name/both:validation", &["deep/dev.jsonl"]),
        ("hf://datasets/org/name/extra", &["extra/a.csv", "extra/deep/b.csv"]),
        ("hf://datasets/org/name/**/*.csv", &["extra/a.csv", "extra/deep/b.csv"]),
    ] {
        let found = named(name).select(&all, Some(CARD), TRAIN);
        assert_eq!(found.unwrap_or_else(|fault| panic!("{name}: {fault}")), expected, "{name}");
    }
    assert_eq!(named("org/name/both").select(&all, Some(CARD), HELD_OUT).unwrap(), ["deep/dev.jsonl"]);
    for (name, expected) in [
        ("org/name:tset", "no split `tset`\nhint: it has `my_test`, `train`"),
        ("org/name:my_tset", "did you mean `my_test`?"),
        ("org/name:train[:100]", "`limit` of a table in `data.train`"),
        ("org/name/mian", "no subset `mian`\nhint: did you mean `main`?"),
        ("hf://datasets/org/name/none.csv", "no file `none.csv`\nhint: it has `README.md`"),
    ] {
        let fault = named(name).select(&all, Some(CARD), TRAIN).expect_err(name).to_string();
        assert!(fault.contains(expected), "{fault}");
    }
    let fault = named("org/name").select(&all, Some(CARD), HELD_OUT).expect_err("no held-out rows").to_string();
    assert!(fault.contains("no split `validation` or `test`") && fault.contains("`org/name:SPLIT`"), "{fault}");
    let several = CARD.replace("  default: true\n", "");
    let fault = named("org/name").select(&all, Some(&several), TRAIN).expect_err("several").to_string();
    assert!(fault.contains("several subsets and none by default\nhint: name one as in `org/name/main`"), "{fault}");
    let fault = named("org/name").select(&all, Some("---\nconfigs: [\n---\n"), TRAIN).expect_err("no YAML").to_string();
    assert!(fault.starts_with("org/name/README.md: the front matter"), "{fault}");
}

#[test]
fn without_a_card_names_say_the_split() {
    let no_card = Some("# A data set\n");
    for (all, name, expected) in [
        (
            &["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet", "README.md"][..],
            "org/name",
            &["data/train-00000-of-00001.parquet"][..],
        ),
        (&["rows.jsonl", "more.jsonl"], "org/name", &["more.jsonl", "rows.jsonl"]),
        (&["a.jsonl", "a.parquet", "b.parquet"], "org/name", &["a.parquet", "b.parquet"]),
        (&["train/a.csv.gz", "dev/a.csv.gz"], "org/name:validation", &["dev/a.csv.gz"]),
        (&["fr/train.jsonl", "de/train.jsonl"], "org/name/de", &["de/train.jsonl"]),
        (&["only_test.jsonl"], "org/name", &["only_test.jsonl"]),
    ] {
        let found = named(name).select(&files(all), no_card, TRAIN);
        assert_eq!(found.unwrap_or_else(|fault| panic!("{all:?}: {fault}")), expected);
    }
    for (all, name, expected) in [
        (&["image.png"][..], "org/name", "no files of rows that are read here\nhint: it has `image.png`; the hub may"),
        (&[], "org/name", "it has no files"),
        (&["a.jsonl"], "org/name/de", "no subset and no folder `de`"),
        (&["val.jsonl", "test.jsonl"], "org/name", "name one as in `org/name:SPLIT`; it has `test`, `validation`"),
    ] {
        let fault = named(name).select(&files(all), no_card, TRAIN).expect_err("a fault").to_string();
        assert!(fault.contains(expected), "{fault}");
    }
}
