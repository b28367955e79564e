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

#[test]
fn an_object_that_was_changed_is_written_with_the_numbers_that_were_read() {
    let text = "{\n  \"a\": NaN,\n  \"b\": [\n    -Infinity,\n    1e999\n  ],\n  \"c\": null,\n  \"d\": Infinity\n}";
    let Read { mut value, oddities } = read_object(text).expect("an object");
    assert_eq!(written(value.clone(), &oddities), text);
    value["d"] = json!(2);
    value.remove("a");
    value.insert("e".into(), json!("new"));
    let expected = "{\n  \"b\": [\n    -Infinity,\n    1e999\n  ],\n  \"c\": null,\n  \"d\": 2,\n  \"e\": \"new\"\n}";
    let mut sorted: Map<String, Value> = Map::new();
    for key in ["b", "c", "d", "e"] {
        sorted.insert(key.into(), value[key].clone());
    }
    assert_eq!(written(sorted, &oddities), expected);
}

#[test]
fn what_is_used_is_refused_by_name_and_what_is_not_is_null() {
    let read = read_object_of(br#"{"a/b": {"c": [1, NaN]}, "text": "\ud83d", "d": -Infinity}"#).expect("an object");
    let refused = |key: &str| read.refuse_odd(|used| used == key).expect_err(key).message;
    assert_eq!(refused("a~1b"), "`a/b.c.1` is `NaN`, which is no finite number");
    assert_eq!(refused("text"), r"`text` holds `\ud83d`, half of a surrogate pair");
    read.refuse_odd(|used| used == "c").expect("nothing that is used");
    let object = read.with_special_floats();
    assert_eq!(object["a/b"], json!({"c": [1, {"__float__": "NaN"}]}));
    assert_eq!(special_float(&object["d"]), Some("-Infinity"));
    for other in [json!(null), json!({"__float__": 1}), json!({"__float__": "NaN", "b": 1}), json!("NaN")] {
        assert_eq!(special_float(&other), None, "{other}");
    }
    let broken = read_object_of(b"{\"a\": \"\xff\"}").expect_err("no UTF-8").to_string();
    assert!(broken.contains("unicode"), "{broken}");
}

#[test]
fn whole_numbers_of_more_than_64_bits_are_kept_to_the_digit() {
    let text = r#"{"a": [12345678901234567890123, -9223372036854775809, 18446744073709551615, -9223372036854775808],
        "b": {"c/d": 340282366920938463463374607431768211455, "e": -0, "f": -0.0, "g": 1e22, "h": 18446744073709551616.0}, "i": "99999999999999999999"}"#;
    let mut value = read(text).expect("JSON").value;
    assert_eq!(keep_wholes(text, &mut value), []);
    let digits = |pointer: &str| value.pointer(pointer).and_then(whole);
    assert_eq!(digits("/a/0"), Some("12345678901234567890123"));
    assert_eq!(digits("/a/1"), Some("-9223372036854775809"));
    assert_eq!(digits("/b/c~1d"), Some("340282366920938463463374607431768211455"));
    assert_eq!(value["a"][2], json!(u64::MAX));
    assert_eq!(value["a"][3], json!(i64::MIN));
    // Python has whole numbers without a sign of zero.
    assert_eq!(value["b"]["e"], json!(0));
    assert_eq!(value["b"]["f"].as_f64().map(f64::to_bits), Some((-0.0f64).to_bits()));
    assert_eq!((value["b"]["g"].as_f64(), value["b"]["h"].as_f64()), (Some(1e22), Some(18446744073709551616.0)));
    let line = to_line(&value);
    assert_eq!(
        line,
        "{\"a\":[12345678901234567890123,-9223372036854775809,18446744073709551615,-9223372036854775808],\
         \"b\":{\"c/d\":340282366920938463463374607431768211455,\"e\":0,\"f\":-0.0,\"g\":1e+22,\"h\":1.8446744073709552e+19},\
         \"i\":\"99999999999999999999\"}"
    );
    // The last of two keys counts.
    let text = r#"{"a": 12345678901234567890123, "a": 1, "b": 2, "b": 12345678901234567890123}"#;
    let mut value = read(text).expect("JSON").value;
    assert_eq!(keep_wholes(text, &mut value), []);
    assert_eq!((&value["a"], whole(&value["b"])), (&json!(1), Some("12345678901234567890123")));
}

#[test]
fn whole_numbers_of_more_than_128_bits_are_told_of() {
    let text = r#"{"a": {"b": [1, 340282366920938463463374607431768211456]}}"#;
    let mut value = read(text).expect("JSON").value;
    let found = keep_wholes(text, &mut value);
    let fault = found[0].fault().message;
    assert_eq!(found.len(), 1);
    let digits = "340282366920938463463374607431768211456";
    assert_eq!(fault, format!("`a.b.1` is `{digits}`, a whole number of more than 128 bits"));
}

/// Whatever Python reads as a whole number comes back to the digit.
#[test]
fn every_whole_number_comes_back() {
    let near = |power: u32| [-1, 0, 1].map(|beside| (1i128 << power) + beside);
    for number in (0..127).flat_map(near).flat_map(|number| [number, -number]) {
        let text = format!("[{number}]");
        let mut value = read(&text).expect("JSON").value;
        assert_eq!(keep_wholes(&text, &mut value), []);
        assert_eq!(to_line(&value), text);
    }
}
