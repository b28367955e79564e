//! Texts as Python's `json.dumps` writes them, and what `json.loads` makes of them.

use serde_json::json;

use super::*;

fn places(read: &Read<Value>) -> Vec<(&str, String)> {
    read.oddities.iter().map(|oddity| (oddity.pointer.as_str(), oddity.to_string())).collect()
}

#[test]
fn numbers_that_json_does_not_have_are_null_and_told_of() {
    let text = r#"{"a": NaN, "b": [1.5, -Infinity, {"c/d": Infinity}], "e":NaN,"NaN": "Infinity, NaN", "f": 1e309, "g": -1e400}"#;
    let read = read(text).expect("as Python reads it");
    assert_eq!(
        read.value,
        json!({"a": null, "b": [1.5, null, {"c/d": null}], "e": null, "NaN": "Infinity, NaN", "f": null, "g": null})
    );
    let no_number = |word: &str| format!("`{word}`, which is no finite number");
    let expected = [
        ("/a", no_number("NaN")),
        ("/b/1", no_number("-Infinity")),
        ("/b/2/c~1d", no_number("Infinity")),
        ("/e", no_number("NaN")),
        ("/f", no_number("1e309")),
        ("/g", no_number("-1e400")),
    ];
    assert_eq!(places(&read), expected);
    let written: Vec<&str> = read.oddities.iter().map(|oddity| &text[oddity.at.clone()]).collect();
    assert_eq!(written, ["NaN", "-Infinity", "Infinity", "NaN", "1e309", "-1e400"]);
    assert_eq!(read.oddities.iter().map(Oddity::key).collect::<Vec<_>>(), ["a", "b", "b", "e", "f", "g"]);
}

#[test]
fn halves_of_surrogate_pairs_are_replaced_and_whole_pairs_are_characters() {
    let text = r#"{"a": "x\ud83dy", "b": "\ud83d\ude00", "c": ["\ude00\ud83d", "\ud83d\ud83d\ude00"], "\udfff": 1, "d": "\\ud83d"}"#;
    let read = read(text).expect("as Python reads it");
    assert_eq!(
        read.value,
        json!({"a": "x\u{fffd}y", "b": "😀", "c": ["\u{fffd}\u{fffd}", "\u{fffd}😀"], "\u{fffd}": 1, "d": r"\ud83d"})
    );
    let half = |word: &str| format!(r"`\{word}`, half of a surrogate pair");
    let expected = [
        ("/a", half("ud83d")),
        ("/c/0", half("ude00")),
        ("/c/0", half("ud83d")),
        ("/c/1", half("ud83d")),
        ("/\u{fffd}", half("udfff")),
    ];
    assert_eq!(places(&read), expected);
}

#[test]
fn the_last_of_two_equal_keys_counts_and_takes_the_oddities_of_the_first_with_it() {
    let read = read(r#"{"a": NaN, "a": 1, "b": 2, "b": Infinity, "c": "\ud83d", "c": "ok", "d": NaN, "d": NaN}"#)
        .expect("JSON");
    assert_eq!(read.value, json!({"a": 1, "b": null, "c": "ok", "d": null}));
    assert_eq!(read.oddities.iter().map(Oddity::key).collect::<Vec<_>>(), ["b", "d", "d"]);
}

#[test]
fn true_json_is_read_as_it_is() {
    for text in
        ["{\"a\": 1e300, \"b\": \"\\u00e4\\ud83d\\ude00\", \"n\": [1, {}, \"NaN\"]}", " 5 ", "null", "\"Infinity\""]
    {
        let plain: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(read(text).expect("JSON"), Read { value: plain, oddities: Vec::new() });
        assert!(matches!(mask(text).text, Cow::Borrowed(_)));
    }
    // More digits than a whole number of 64 bits has.
    assert_eq!(
        read("[123456789012345678901234567890]").expect("JSON").value,
        json!([123456789012345678901234567890.0])
    );
    assert_eq!(read("NaN").expect("as Python reads it").value, Value::Null);
    assert_eq!(read("NaN").expect("as Python reads it").oddities[0].key(), "");
}

#[test]
fn what_python_does_not_read_is_a_fault_in_its_place() {
    for (text, plain) in [
        ("{\"a\": NaN,\n \"b\": Infinity, \"c\": nan}", "{\"a\": 100,\n \"b\": 10000000, \"c\": nan}"),
        ("{\"a\": Infinity,\n \"b\" 1}", "{\"a\": 10000000,\n \"b\" 1}"),
        ("{\"a\": NaN", "{\"a\": 100"),
        ("[-Infinity, +1]", "[-10000000, +1]"),
        ("[NaN, Infinit]", "[100, Infinit]"),
        ("[NaN, INF]", "[100, INF]"),
        ("[NaN, -NaN]", "[100, -NaN]"),
        ("[\"\\ud83d\", \"\\ud83\"]", "[\"\\u0041\", \"\\ud83\"]"),
        ("[NaN, \"open", "[100, \"open"),
        ("\u{feff}{\"ä\": NaN}", "\u{feff}{\"ä\": 100}"),
        ("", ""),
        ("[\"\\", "[\"\\"),
    ] {
        let fault = read(text).expect_err(text).to_string();
        assert_eq!(fault, serde_json::from_str::<Value>(plain).expect_err(plain).to_string(), "{text}");
    }
}

#[test]
fn an_object_is_asked_for_and_another_value_is_named() {
    let Read { value, oddities } = read_object("{\"a\": NaN}").expect("an object");
    assert_eq!((value.get("a"), oddities.len()), (Some(&Value::Null), 1));
    for (text, found) in [("[NaN]", "sequence"), ("5", "integer"), ("null", "null")] {
        let fault = read_object(text).expect_err(text).to_string();
        assert!(fault.contains(found), "{text}: {fault}");
    }
}

/// Lines, columns and offsets of faults and of what follows depend on it.
#[test]
fn a_masked_text_is_as_long_as_the_text() {
    let text = "[\n{\"ä\": NaN, \"b\": -Infinity},\n{\"c\": \"\\uDE00ö\", \"d\": 2e999}\n, nonsense NaN \"\\ud800";
    let masked = mask(text);
    assert_eq!((masked.text.len(), masked.oddities.len()), (text.len(), 6));
    let breaks = |text: &str| text.match_indices('\n').map(|(at, _)| at).collect::<Vec<_>>();
    assert_eq!(breaks(&masked.text), breaks(text));
    let mut elements =
        serde_json::Deserializer::from_str(&masked.text[1..text.find(", non").expect("it")]).into_iter::<Value>();
    assert_eq!(elements.next().expect("one").expect("JSON"), json!({"ä": "", "b": null}));
}
