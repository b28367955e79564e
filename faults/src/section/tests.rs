//! Recipes right and wrong, and what is said of them.

use super::*;
use crate::{Document, Faults, Translate};

fn read(text: &str, overrides: &[&str]) -> (f64, usize, Result<(), Faults>, toml::Table) {
    let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
    let document = Document::parse("r.toml", text, &overrides).expect("valid TOML");
    let mut root = document.root();
    let mut optimizer = root.section("optimizer");
    let learning_rate = optimizer.value("learning_rate", 1e-4);
    root.close(optimizer);
    let mut adapter = root.section("adapter");
    let rank = adapter.value("rank", 8);
    adapter.check("rank", rank > 0, "`adapter.rank` must be at least 1", "use 8 or 16");
    root.close(adapter);
    let resolved = root.end();
    (learning_rate, rank, document.finish(), resolved)
}

#[test]
fn defaults_fill_the_resolved_table() {
    let (learning_rate, rank, result, resolved) = read("[adapter]\nrank = 4\n", &[]);
    assert_eq!((learning_rate, rank, result), (1e-4, 4, Ok(())));
    assert_eq!(resolved["optimizer"]["learning_rate"].as_float(), Some(1e-4));
    assert_eq!(resolved["adapter"]["rank"].as_integer(), Some(4));
}

#[test]
fn every_fault_is_named_at_once_with_its_place_and_hint() {
    let text = "[optimizer]\nlearnig_rate = 1\n[adapter]\nrank = 0\nlearning_rate = 2\n";
    let faults = read(text, &[]).2.expect_err("three faults");
    let lines: Vec<String> = faults.list().iter().map(|fault| fault.to_string().replace('\n', " ")).collect();
    assert_eq!(
        lines,
        [
            "r.toml:2:1: unknown key `learnig_rate` in `[optimizer]` hint: did you mean `optimizer.learning_rate`?",
            "r.toml:4:8: `adapter.rank` must be at least 1 hint: use 8 or 16",
            "r.toml:5:1: unknown key `learning_rate` in `[adapter]` hint: did you mean `optimizer.learning_rate`?",
        ]
    );
}

#[test]
fn a_wrong_type_says_what_was_expected_and_found() {
    let faults = read("[adapter]\nrank = \"four\"\n", &[]).2.expect_err("a fault");
    assert_eq!(
        faults.to_string(),
        "r.toml:2:8: `adapter.rank` must be a whole number, zero or more, found the string \"four\"\n\
         hint: write a whole number, zero or more there, or remove it for the default"
    );
    assert!(read("[adapter]\nrank = -1\n", &[]).2.is_err());
    assert!(read("adapter = 3\n", &[]).2.is_err());
}

#[test]
fn an_override_wins_and_is_named_as_the_place() {
    let (learning_rate, rank, result, _) =
        read("[adapter]\nrank = 4\n", &["adapter.rank=16", "optimizer.learning_rate=3e-4"]);
    assert_eq!((learning_rate, rank, result), (3e-4, 16, Ok(())));
    let faults = read("", &["adapter.rnk=16"]).2.expect_err("a fault");
    assert!(faults.to_string().starts_with("--set:1:9: unknown key `rnk`"), "{faults}");
    assert!(Document::parse("r.toml", "", &["nonsense".into()]).is_err());
    let (_, rank, result, resolved) = read("[adapter]\nrank = 4\n", &["adapter={}"]);
    assert_eq!((rank, result), (8, Ok(())), "a whole table replaces the table");
    assert_eq!(resolved["adapter"]["rank"].as_integer(), Some(8));
    let bare = Document::parse("r.toml", "", &["output.dir=runs/a b".into()]).expect("a bare word is a string");
    assert_eq!(bare.root().section("output").value("dir", String::new()), "runs/a b");
}

#[test]
fn what_is_no_table_is_one_fault_whatever_it_takes_away() {
    let document = Document::parse("r.toml", "data = 3\n", &[]).expect("valid TOML");
    let mut root = document.root();
    let mut data = root.section("data");
    data.required::<String>("train", "a file");
    root.close(data);
    root.end();
    let faults = document.finish().expect_err("a fault");
    assert_eq!(faults.list().len(), 1, "{faults}");
    assert!(faults.to_string().starts_with("r.toml:1:8: `data` must be a table"), "{faults}");
}

#[test]
fn places_are_known_when_the_reading_is_over() {
    let text = "[adapter]\nrank = 4\n";
    let places = Document::parse("r.toml", text, &["data.train=[]".into()]).expect("valid TOML").places();
    let of = |key: &str| places.of(key).to_string();
    assert_eq!(of("adapter.rank"), "r.toml:2:8");
    assert_eq!(of("adapter.alpha"), "r.toml:1:2");
    assert_eq!(of("data.train"), "--set:1:14");
    assert_eq!(of("model.path"), "model.path");
}

#[test]
fn a_number_that_f32_does_not_hold_is_refused() {
    let document = Document::parse("r.toml", "", &[]).expect("valid TOML");
    let root = document.root();
    for (value, holds) in [(1e-300, false), (1e300, false), (1e-40, false), (0.0, true), (-1e-5, true), (3e38, true)] {
        root.check_single("x", value, "a hint");
        assert_eq!(std::mem::take(&mut root.shared.borrow_mut().faults).is_empty(), holds, "{value}");
    }
}

#[test]
fn broken_toml_gives_line_and_column() {
    let faults = Document::parse("r.toml", "a = 1\nb = = 2\n", &[]).err().expect("a fault");
    assert!(faults.to_string().starts_with("r.toml:2:"), "{faults}");
}

/// As a run is resumed (the resolved recipe as it stands in its state), started again from its `recipe.toml`, and given on
/// the command line.
#[test]
fn numbers_of_a_resolved_recipe_come_back_to_the_bit() {
    // xorshift: as many patterns of bits as there are, subnormal ones and the ends of the range among them.
    let mut bits = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        bits
    };
    let edges =
        [0.0, -0.0, 5e-324, f64::MIN_POSITIVE, f64::MAX, f64::MIN, 0.1, 1e16, 1e21, 9_007_199_254_740_993.0, 3e38];
    let any = (0..20_000).map(|_| f64::from_bits(next())).filter(|number| number.is_finite()).collect::<Vec<_>>();
    let subnormal = (0..2_000).map(|index| f64::from_bits((index as u64).pow(4) + 1));
    let usual = (0..2_000).map(|index| (index as f64).sqrt() / 1000.0);
    for number in edges.into_iter().chain(any).chain(subnormal).chain(usual) {
        let read = |text: &str, overrides: &[String]| {
            let document = Document::parse("r.toml", text, overrides).expect("valid TOML");
            let mut root = document.root();
            let number: f64 = root.value("number", 0.5);
            let list = root.value("list", Vec::<f64>::new());
            let resolved = root.end();
            document.finish().expect("no fault");
            (number.to_bits(), list.iter().map(|number| number.to_bits()).collect::<Vec<_>>(), resolved)
        };
        let written: toml::Table = [("number", number.to_toml()), ("list", vec![number, 0.25].to_toml())]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let text = toml::to_string(&written).expect("TOML");
        let expected = (number.to_bits(), vec![number.to_bits(), 0.25f64.to_bits()]);
        let (found, list, resolved) = read(&text, &[]);
        assert_eq!((found, list), expected, "{number:e}");
        assert_eq!(resolved["number"].as_float().map(f64::to_bits), Some(number.to_bits()), "{number:e}");
        let state: toml::Table = toml::from_str(&text).expect("TOML");
        assert_eq!(state["number"].as_float().map(f64::to_bits), Some(number.to_bits()), "{number:e}");
        let (found, ..) = read("", &[format!("number={number:e}")]);
        assert_eq!(found, number.to_bits(), "{number:e}");
        let (found, ..) = read("", &[format!("number={number:?}")]);
        assert_eq!(found, number.to_bits(), "{number:?}");
    }
}

#[test]
fn whole_numbers_as_large_as_toml_has_them_come_back() {
    for number in [0, 1, 1 << 53, (1 << 53) + 1, u64::MAX >> 1] {
        let text = format!("seed = {number}\n");
        let document = Document::parse("r.toml", &text, &[]).expect("valid TOML");
        let mut root = document.root();
        assert_eq!(root.value("seed", 5u64), number);
        let resolved = root.end();
        assert_eq!(toml::to_string(&resolved).expect("TOML"), text);
        document.finish().expect("no fault");
    }
}

/// Kind and weight of each part.
type Parts = Vec<(String, f64)>;

/// A table with a list of tables and a list of words, as an override sees them.
fn lists(overrides: &[&str]) -> Result<(Parts, Vec<String>), Faults> {
    let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
    let text = "files = [\"a\", \"b\"]\n[[part]]\nkind = \"one\"\nweight = 2\n";
    let document = Document::parse("r.toml", text, &overrides)?;
    let mut root = document.root();
    let files = root.value("files", Vec::<String>::new());
    let mut parts = root.sections("part");
    let read = |part: &mut Section| (part.value("kind", String::new()), part.value("weight", 1.0));
    let read = parts.iter_mut().map(read).collect();
    root.close_all("part", parts);
    root.end();
    document.finish()?;
    Ok((read, files))
}

#[test]
fn an_item_of_a_list_is_reached_by_its_number() {
    let (parts, files) = lists(&["part.0.weight=3", "part.1.kind=two", "files.1=c", "files.2=d"]).expect("two parts");
    assert_eq!(parts, [("one".into(), 3.0), ("two".into(), 1.0)]);
    assert_eq!(files, ["a", "c", "d"]);
    assert_eq!(lists(&["part=", "part.0.kind=new"]).expect("one part").0, [("new".into(), 1.0)]);
    assert_eq!(lists(&["part.0={kind=\"x\"}"]).expect("one part").0, [("x".into(), 1.0)]);
    let refused = |set: &str| lists(&[set]).err().unwrap_or_else(|| panic!("{set} was taken")).to_string();
    let far = refused("part.2.kind=x");
    assert!(far.contains("there is no `part.2`: `part` has 1 of them") && far.contains("`part.1` adds one"), "{far}");
    let word = refused("part.kind=x");
    assert!(word.contains("`kind` is no number") && word.contains("`--set part.0.kind=VALUE`"), "{word}");
    assert!(refused("part.0.wieght=3").contains("did you mean `part.0.weight`?"));
    assert!(refused("part.-1.kind=x").contains("no number"));
}

#[test]
fn a_key_without_a_value_is_taken_away() {
    let text = "[optimizer]\nlearning_rate = 3e-4\n[adapter]\nrank = 4\n";
    let unset = |overrides: &[&str]| {
        let (learning_rate, rank, result, _) = read(text, overrides);
        (learning_rate, rank, result)
    };
    assert_eq!(unset(&["adapter.rank="]), (3e-4, 8, Ok(())));
    assert_eq!(unset(&["optimizer="]), (1e-4, 4, Ok(())));
    assert_eq!(unset(&["adapter.rank=", "adapter.rank=5"]), (3e-4, 5, Ok(())));
    assert_eq!(unset(&["adapter.rank=5", "adapter.rank= "]), (3e-4, 8, Ok(())));
    // What is a key and is not there needs no taking away.
    assert_eq!(read("", &["adapter.rank="]).2, Ok(()));
    let faults = unset(&["adapter.rnak="]).2.expect_err("no such key").to_string();
    assert!(faults.contains("unknown key `rnak` in `[adapter]`") && faults.contains("`adapter.rank`?"), "{faults}");
    let (parts, files) = lists(&["part.0.weight=", "files.0="]).expect("lists");
    assert_eq!((parts, files), (vec![("one".into(), 1.0)], vec!["b".to_string()]));
    assert_eq!(lists(&["part.0="]).expect("no part").0, []);
    assert_eq!(lists(&["files=\"\""]).err().map(|faults| faults.list().len()), Some(1), "an empty string is a value");
}

#[test]
fn a_list_that_the_shell_took_the_quotes_from_is_a_list_of_words() {
    assert_eq!(lists(&["files=[x.jsonl, y z]"]).expect("a list").1, ["x.jsonl", "y z"]);
    assert_eq!(lists(&["files=[\"x,y\"]"]).expect("a list").1, ["x,y"]);
}

#[test]
fn a_key_of_another_table_or_another_program_has_its_own_name_here() {
    let hint = |text: &str, translate: Option<Translate>| {
        let document = Document::parse("r.toml", text, &[]).expect("valid TOML");
        translate.into_iter().for_each(|translate| document.translate_with(translate));
        let mut root = document.root();
        let mut optimizer = root.section("optimizer");
        optimizer.value("learning_rate", 1e-4);
        root.close(optimizer);
        root.end();
        let faults = document.finish().expect_err("an unknown key").into_list();
        faults.into_iter().next().and_then(|fault| fault.hint).expect("a hint")
    };
    assert_eq!(hint("learning_rate = 1\n", None), "did you mean `optimizer.learning_rate`?");
    assert_eq!(hint("lerning_rate = 1\n", None), "did you mean `optimizer.learning_rate`?");
    let lr: Translate = |key| (key == "lr").then(|| "`lr` is `optimizer.learning_rate` here".into());
    assert_eq!(hint("lr = 1\n", Some(lr)), "`lr` is `optimizer.learning_rate` here");
    assert_eq!(hint("[optimizer]\nlr = 1\n", Some(lr)), "`lr` is `optimizer.learning_rate` here");
    let table: Translate = |key| (key == "optimizer").then(|| "AdamW is the only one".into());
    assert_eq!(hint("optimizer = \"adamw\"\n", Some(table)), "AdamW is the only one");
}

/// The schema is made of what the reading itself asks.
#[test]
fn what_is_asked_for_says_what_it_may_be() {
    let document = Document::parse("r.toml", "[c]\nq_proj = 3\n", &[]).expect("valid TOML");
    let (mut root, known) = (document.root(), document.known());
    root.value("seed", 17u64);
    root.choice("word", &[("one", 1), ("two", 2)], "two");
    root.skip("later");
    root.optional::<Vec<f64>>("later");
    let mut table = root.section("c");
    table.any_name::<usize>();
    table.required::<String>("name", "write it");
    root.close(table);
    root.sections("d");
    let key = |table: &str, name: &str, shape: Shape, default: Option<toml::Value>| Key {
        table: table.into(),
        name: name.into(),
        shape: Some(shape),
        default,
        required: name == "name",
    };
    let words = ["one", "two"].map(String::from).to_vec();
    let expected = [
        key("", "seed", Shape::Whole(Some(0)), Some(17.into())),
        key("", "word", Shape::Words(words), Some("two".into())),
        key("", "later", Shape::List(Box::new(Shape::Number)), None),
        key("", "c", Shape::Table, None),
        key("c", "*", Shape::Whole(Some(0)), None),
        key("c", "name", Shape::Text, None),
        key("", "d", Shape::List(Box::new(Shape::Table)), None),
    ];
    assert_eq!(known.keys(), expected);
}
