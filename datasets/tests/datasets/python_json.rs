//! What Python writes into JSON and JSON has no word for: `NaN`, `Infinity`, halves of surrogate pairs.

use datasets::{Options, Unread, read_text};

use super::{dataset, faults};

/// Python's `json.dumps` writes what JSON has no word for.
#[test]
fn what_python_writes_matters_where_it_is_read() {
    let plain = dataset(r#"{"prompt": "a", "completion": "b"}"#, &Options::default()).fingerprint;
    for row in [
        r#"{"prompt": "a", "completion": "b", "score": NaN}"#,
        r#"{"prompt": "a", "completion": "b", "score": [-Infinity, {"x": Infinity}]}"#,
        r#"{"prompt": "a", "completion": "b", "score": 1e999}"#,
        r#"{"prompt": "a", "completion": "b", "note": "\ud83d"}"#,
    ] {
        for text in [row.to_owned(), format!("[{row}]"), format!("{{\n{}", &row[1..])] {
            assert_eq!(dataset(&text, &Options::default()).fingerprint, plain, "{text}");
        }
    }
    // It is no empty column: it counts where nothing reads it, and is refused where it has a meaning.
    let rows = [r#""score": Infinity"#, r#""score": 0.5"#, r#""score": null"#, r#""n": 1e999"#];
    let rows = rows.map(|column| format!("{{\"prompt\": \"a\", \"completion\": \"b\", {column}}}\n")).concat();
    let unread = [("score", 2), ("n", 1)].map(|(name, rows)| Unread { name: name.into(), rows });
    assert_eq!(dataset(&rows, &Options::default()).report.unread, unread);
    for weight in ["Infinity", "NaN", "-Infinity", "1e999"] {
        let row = format!(r#"{{"prompt": "a", "completion": "b", "weight": {weight}}}"#);
        let found = faults(&row, &Options::default());
        assert!(found.len() == 1 && found[0].contains("nothing reads `weight` of rows of"), "{weight}: {found:?}");
    }
    for (row, what) in [
        (r#"{"prompt": "a", "completion": NaN}"#, "`completion` is `NaN`, which is no finite number"),
        (r#"{"prompt": "a", "completion": "b\ud83d"}"#, "`completion` holds `\\ud83d`, half of a surrogate pair"),
        (r#"{"messages": [{"role": "user", "content": NaN}]}"#, "`messages[0].content` is `NaN`"),
        (r#"{"prompt": "a", "targets": ["x"], "weights": [Infinity]}"#, "`weights[0]` is `Infinity`"),
    ] {
        for (text, place) in [(row.to_owned(), "rows.jsonl:1: "), (format!("[{row}]"), "rows.jsonl:1 (element 1): ")] {
            let found = faults(&text, &Options::default());
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&format!("{place}{what}")), "{found:?}");
        }
    }
    let field =
        r#"{"messages": [{"role": "user", "content": "a", "score": NaN}, {"role": "assistant", "content": "b"}]}"#;
    let template =
        "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}<|im_end|>{% endif %}{% endfor %}";
    let tokenizer = super::with_chat_template(template);
    let data = read_text("r", field, &Options::default(), &tokenizer).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(data.report.unread, []);
}
