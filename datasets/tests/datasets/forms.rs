//! The same rows in every form of a file are the same examples; what is wrong with one is told by its row.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datasets::{Dataset, Options, Source, read, read_apart, read_prompts, read_samples, read_sources};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::basic::Compression as Codec;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::byte_level;

/// Lists of values as the levels of a column: each list in a row of its own, none of them null.
fn levels<T, V>(lists: &[Vec<T>], deepest: i16, value: impl Fn(&T) -> V) -> (Vec<V>, Vec<i16>, Vec<i16>) {
    let values: Vec<V> = lists.iter().flatten().map(value).collect();
    let repetition = lists.iter().flat_map(|list| (0..list.len()).map(|index| i16::from(index > 0))).collect();
    (values, vec![deepest; lists.iter().map(Vec::len).sum()], repetition)
}

/// A column of a table for the tests.
enum Column {
    Texts(Vec<&'static str>),
    Lists(Vec<Vec<&'static str>>),
    Numbers(Vec<Vec<f64>>),
    /// A field of the structures in the lists of `messages`.
    Messages(Vec<Vec<&'static str>>),
}

fn parquet_file(path: &Path, schema: &str, codec: Codec, columns: &[Column]) {
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let properties = Arc::new(WriterProperties::builder().set_compression(codec).build());
    let file = std::fs::File::create(path).expect("created");
    let mut writer = SerializedFileWriter::new(file, schema, properties).expect("a writer");
    let mut group = writer.next_row_group().expect("a group");
    let text = |text: &&'static str| ByteArray::from(*text);
    for column in columns {
        let mut open = group.next_column().expect("a column").expect("as many as the schema has");
        match column {
            Column::Texts(texts) => {
                let values: Vec<ByteArray> = texts.iter().map(text).collect();
                let levels = vec![1; values.len()];
                open.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).expect("written");
            }
            Column::Lists(lists) => {
                let (values, definition, repetition) = levels(lists, 3, text);
                let open = open.typed::<ByteArrayType>();
                open.write_batch(&values, Some(&definition), Some(&repetition)).expect("written");
            }
            Column::Numbers(lists) => {
                let (values, definition, repetition) = levels(lists, 3, |number| *number);
                open.typed::<DoubleType>().write_batch(&values, Some(&definition), Some(&repetition)).expect("written");
            }
            Column::Messages(lists) => {
                let (values, definition, repetition) = levels(lists, 4, text);
                let open = open.typed::<ByteArrayType>();
                open.write_batch(&values, Some(&definition), Some(&repetition)).expect("written");
            }
        }
        open.close().expect("closed");
    }
    group.close().expect("closed");
    writer.close().expect("closed");
}

const PAIRS: &str = "message m { optional binary prompt (UTF8); optional binary completion (UTF8); }";

const TARGETS: &str = "message m { optional binary prompt (UTF8);
    optional group targets (LIST) { repeated group list { optional binary element (UTF8); } }
    optional group weights (LIST) { repeated group list { optional double element; } } }";

const MESSAGES: &str = "message m { optional group messages (LIST) { repeated group list { optional group element {
    optional binary role (UTF8); optional binary content (UTF8); } } } }";

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("packed");
    encoder.finish().expect("packed")
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 0).expect("packed")
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, bytes).expect("written");
        path
    }
}

fn good(path: &Path) -> Dataset {
    let read = read(&[path.to_path_buf()], &Options::default(), &byte_level());
    read.unwrap_or_else(|faults| panic!("{}: {faults}", path.display()))
}

fn bad(path: &Path) -> String {
    let faults = read(&[path.to_path_buf()], &Options::default(), &byte_level()).expect_err("there are faults");
    faults.to_string().replace(&format!("{}/", path.parent().expect("a folder").display()), "").replace('\n', " ")
}

/// All of them are what the first is.
fn assert_same(paths: &[PathBuf]) {
    let first = good(&paths[0]);
    for path in &paths[1..] {
        let other = good(path);
        assert_eq!(other.fingerprint, first.fingerprint, "{}", path.display());
        assert_eq!(other.report.rows, first.report.rows, "{}", path.display());
        for (a, b) in first.examples.iter().zip(&other.examples) {
            assert_eq!((&a.ids, &a.learned, a.weight, a.group), (&b.ids, &b.learned, b.weight, b.group));
        }
    }
}

#[test]
fn pairs_are_the_same_in_every_form() {
    let folder = Folder::new();
    let lines = "{\"prompt\": \"a, \\\"b\\\"\\n\", \"completion\": \"c\\td\"}\n{\"prompt\": \"\u{e4}\", \"completion\": \"42\"}\n";
    let list = format!("[{}]", lines.trim_end().replace("}\n{", "},\n{"));
    let csv = "prompt,completion\n\"a, \"\"b\"\"\n\",c\td\n\u{e4},42\n";
    let tsv = "prompt\tcompletion\r\n\"a, \"\"b\"\"\n\"\t\"c\td\"\r\n\u{e4}\t42\r\n";
    let semicolons = "\u{feff}prompt;completion\n\"a, \"\"b\"\"\n\";c\td\n\u{e4};42";
    let columns = [Column::Texts(vec!["a, \"b\"\n", "\u{e4}"]), Column::Texts(vec!["c\td", "42"])];
    let mut paths = vec![
        folder.write("a.jsonl", lines),
        folder.write("a.json", &list),
        folder.write("a.jsonl.gz", gz(lines.as_bytes())),
        folder.write("a.jsonl.zst", zst(lines.as_bytes())),
        folder.write("list.json.zst", zst(list.as_bytes())),
        folder.write("a.csv", csv),
        folder.write("a.csv.gz", gz(csv.as_bytes())),
        folder.write("a.tsv", tsv),
        folder.write("a.tsv.zst", zst(tsv.as_bytes())),
        folder.write("semicolons.csv", semicolons),
        // Told by what is in them.
        folder.write("packed", gz(lines.as_bytes())),
        folder.write("packed.jsonl", zst(csv.as_bytes())),
        folder.write("table", csv),
        folder.write("several.gz", [gz(&lines.as_bytes()[..20]), gz(&lines.as_bytes()[20..])].concat()),
    ];
    let codecs = [
        ("none", Codec::UNCOMPRESSED),
        ("snappy", Codec::SNAPPY),
        ("gzip", Codec::GZIP(Default::default())),
        ("zstd", Codec::ZSTD(Default::default())),
        ("lz4", Codec::LZ4_RAW),
    ];
    for (name, codec) in codecs {
        let path = folder.path(&format!("{name}.parquet"));
        parquet_file(&path, PAIRS, codec, &columns);
        paths.push(path);
    }
    let table = std::fs::read(paths.last().expect("a table")).expect("read");
    paths.push(folder.write("table.parquet.gz", gz(&table)));
    paths.push(folder.write("rows.jsonl", &table));
    assert_same(&paths);
    // Those that follow are told by where they stand in the file.
    let example = |path: &Path, index: usize| good(path).examples[index].place().to_string();
    assert!(example(&folder.path("a.csv"), 1).ends_with("a.csv:4"), "the line that the row begins in");
    assert!(example(&folder.path("snappy.parquet"), 1).ends_with("snappy.parquet:2"), "the row");
}

#[test]
fn lists_and_structures_are_the_same_in_every_form() {
    let folder = Folder::new();
    let turns = |texts: &[&str]| {
        let turn = |(index, text): (usize, &&str)| {
            let role = if index % 2 == 0 { "user" } else { "assistant" };
            serde_json::json!({"role": role, "content": text})
        };
        serde_json::json!({"messages": texts.iter().enumerate().map(turn).collect::<Vec<_>>()})
    };
    let rows = [turns(&["a", "b"]), turns(&["c", "d", "e", "f"])];
    let quoted = |value: &serde_json::Value| format!("\"{}\"", value.to_string().replace('"', "\"\""));
    let table = folder.path("chat.parquet");
    let roles = vec![vec!["user", "assistant"], vec!["user", "assistant", "user", "assistant"]];
    let contents = vec![vec!["a", "b"], vec!["c", "d", "e", "f"]];
    parquet_file(&table, MESSAGES, Codec::SNAPPY, &[Column::Messages(roles), Column::Messages(contents)]);
    let chat = |path: &Path| {
        let tokenizer = byte_level();
        let read = read(&[path.to_path_buf()], &Options::default(), &tokenizer);
        read.unwrap_or_else(|faults| panic!("{}: {faults}", path.display())).fingerprint
    };
    let lines = folder.write("chat.jsonl", format!("{}\n{}\n", rows[0], rows[1]));
    let csv = format!("messages\n{}\n{}\n", quoted(&rows[0]["messages"]), quoted(&rows[1]["messages"]));
    let csv = folder.write("chat.csv", csv);
    assert_eq!(chat(&table), chat(&lines));
    assert_eq!(chat(&csv), chat(&lines));

    let table = folder.path("targets.parquet");
    let columns = [
        Column::Texts(vec!["a", "b"]),
        Column::Lists(vec![vec!["x", "y"], vec!["z"]]),
        Column::Numbers(vec![vec![0.25, 0.75], vec![1.0]]),
    ];
    parquet_file(&table, TARGETS, Codec::SNAPPY, &columns);
    let lines = "{\"prompt\": \"a\", \"targets\": [\"x\", \"y\"], \"weights\": [0.25, 0.75]}\n\
                 {\"prompt\": \"b\", \"targets\": [\"z\"]}\n";
    let csv = "prompt,targets,weights\na,\"[\"\"x\"\", \"\"y\"\"]\",\"[0.25, 0.75]\"\nb,\"[\"\"z\"\"]\",\n";
    assert_same(&[folder.write("targets.jsonl", lines), table, folder.write("targets.csv", csv)]);
    // A renamed column is read as the key that it stands for.
    let renamed = Options { rename: vec![("answers".into(), "targets".into())], ..Options::default() };
    let csv = folder.write("renamed.csv", "prompt,answers\na,\"[\"\"x\"\"]\"\n");
    assert_eq!(read(&[csv], &renamed, &byte_level()).expect("rows").examples.len(), 1);
}

#[test]
fn prompts_and_samples_are_read_from_tables_too() {
    let folder = Folder::new();
    let csv = folder.write("prompts.csv.gz", gz(b"id,prompt\n7,a\n8,b\n"));
    let prompts = read_prompts(&csv, crate::asking(&[], false)).expect("prompts");
    assert_eq!(prompts.rows.len(), 2);
    assert_eq!(prompts.rows[1].columns["id"], "8");
    let csv = folder.write("samples.csv", "prompt,text,correct,score\na,b,True,0.5\na,c,0,1\n");
    let samples = &read_samples(&csv, &[]).expect("samples").prompts[0];
    assert_eq!(samples.correct, Some(vec![true, false]));
    assert_eq!(samples.scores, Some(vec![0.5, 1.0]));
}

#[test]
fn what_is_wrong_with_a_table_is_told_by_its_row() {
    let folder = Folder::new();
    for (name, bytes, expected) in [
        (
            "a.csv",
            &b"prompt,completion\na,b\n\nc\nd,e\n"[..],
            "a.csv:4: the row has 1 cell, and the table 2 columns hint: a cell with",
        ),
        ("b.csv", b"prompt,completion\na,\"b\nc,d\n", "b.csv:2: a quote is opened in this line and never closed"),
        ("c.csv", b"prompt,completion\na,b\xff\n", "c.csv:2: `completion` is not UTF-8"),
        ("d.csv", b"prompt,prompt\na,b\n", "d.csv:1: columns 1 and 2 are both named `prompt`"),
        ("e.csv", b"prompt,completion\n", "e.csv: the file has no rows"),
        ("f.csv", b"prompt,targets\na,\"['x', 'y']\"\n", "f.csv:2: `targets` is a text, and no JSON"),
        ("g.csv", b"prompt,targets\na,\"['x', 'y']\"\n", "it is as Python prints it: write it by `json.dumps`"),
        (
            "h.csv",
            b"prompt,targets,eos\na,\"[\"\"x\"\"]\",maybe\n",
            "h.csv:2: `eos` must be true or false, found a string",
        ),
        ("i.csv", b"question,answer_text\na,b\n", "i.csv:2"),
    ] {
        let found = bad(&folder.write(name, bytes));
        assert!(found.contains(expected), "{found}");
    }
    // The index that pandas writes has no name: it is told of, and the rest is read.
    let indexed = good(&folder.write("indexed.csv", ",prompt,completion\n0,a,b\n"));
    assert_eq!(indexed.report.unread[0].name, "Unnamed: 0");
    let table = folder.path("null.parquet");
    let columns = [Column::Texts(vec!["a", "b"]), Column::Texts(vec!["c", ""])];
    parquet_file(&table, PAIRS, Codec::SNAPPY, &columns);
    assert!(bad(&table).contains("null.parquet:2: `completion` is empty"), "{}", bad(&table));
}

#[test]
fn a_damaged_file_is_told_as_such() {
    let folder = Folder::new();
    let lines = "{\"text\": \"once upon a time there was a row\"}\n".repeat(2000);
    for (name, bytes, expected) in [
        ("a.jsonl.gz", gz(lines.as_bytes()), "the gzip file is damaged: it ends before its end"),
        ("a.jsonl.zst", zst(lines.as_bytes()), "the Zstandard file is damaged: "),
    ] {
        let found = bad(&folder.write(name, &bytes[..bytes.len() / 2]));
        assert!(found.contains(expected) && found.contains("copy it again"), "{found}");
    }
    let table = folder.path("a.parquet");
    parquet_file(&table, PAIRS, Codec::SNAPPY, &[Column::Texts(vec!["a"; 100]), Column::Texts(vec!["b"; 100])]);
    let bytes = std::fs::read(&table).expect("read");
    let cut = bad(&folder.write("cut.parquet", &bytes[..bytes.len() / 2]));
    assert!(
        cut.starts_with("cut.parquet: the Parquet table cannot be read: ") && cut.contains("copy it again"),
        "{cut}"
    );
    // Whatever byte is changed: rows or a fault.
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 0x55;
        let path = folder.write("changed.parquet", &other);
        let _ = read(&[path], &Options::default(), &byte_level());
    }
}

#[test]
fn folders_and_patterns_are_the_files_in_them() {
    let folder = Folder::new();
    let row = |text: &str| format!("{{\"prompt\": \"{text}\", \"completion\": \"x\"}}\n");
    folder.write("rows/b.jsonl", row("b"));
    folder.write("rows/a.csv", "prompt,completion\na,x\n");
    folder.write("rows/deep/c.jsonl.gz", gz(row("c").as_bytes()));
    for name in ["rows/README.md", "rows/.hidden.jsonl", "rows/dataset_infos.json"] {
        folder.write(name, "not rows");
    }
    let all = folder.write("all.jsonl", row("a") + &row("b") + &row("c"));
    assert_same(&[all, folder.path("rows"), folder.path("rows/**/[abc].*")]);
    assert_eq!(good(&folder.path("rows/*.jsonl")).examples.len(), 1);
    assert_eq!(good(&folder.path("rows/?.*")).report.files.len(), 2);
    for (path, expected) in [
        ("rows/z*", "no file matches the pattern"),
        ("rows/[", "the pattern cannot be read"),
        ("empty", "the folder has no file of rows"),
        ("splits", "the folder has files of several splits: test, train"),
        ("saved", "datasets.load_from_disk('"),
    ] {
        folder.write("empty/README.md", "");
        folder.write("splits/train-0.jsonl", row("a"));
        folder.write("splits/test-0.jsonl", row("a"));
        folder.write("saved/state.json", "{}");
        folder.write("saved/data-00000-of-00001.arrow", "");
        let found = bad(&folder.path(path));
        assert!(found.contains(expected), "{found}");
    }
    assert_eq!(good(&folder.path("splits/train*")).examples.len(), 1);
}

#[test]
fn a_source_has_a_limit_and_a_weight() {
    let folder = Folder::new();
    let row = |text: String| format!("{{\"prompt\": \"{text}\", \"completion\": \"x\"}}\n");
    let a = folder.write("a.jsonl", (0..4).map(|n| row(format!("a{n}"))).collect::<String>());
    let b = folder.write("b.jsonl", (0..4).map(|n| row(format!("b{n}"))).collect::<String>());
    let prompts = |limit: Option<usize>, weight: f64| {
        let source = Source { name: "s".into(), files: vec![a.clone(), b.clone()], weight, limit };
        let read = read_sources(&[source], &Options::default(), &byte_level()).expect("rows");
        let groups: Vec<usize> = read.examples.iter().map(|example| example.group).collect();
        assert!(groups.windows(2).all(|pair| pair[0] < pair[1]), "each copy is a prompt of its own: {groups:?}");
        let place =
            |example: &datasets::Example| format!("{}{}", &example.file[example.file.len() - 7..][..1], example.line);
        read.examples.iter().map(place).collect::<Vec<String>>().join(" ")
    };
    assert_eq!(prompts(None, 1.0), "a1 a2 a3 a4 b1 b2 b3 b4");
    assert_eq!(prompts(Some(6), 1.0), "a1 a2 a3 a4 b1 b2");
    assert_eq!(prompts(Some(2), 2.5), "a1 a2 a1 a2 a2");
    assert_eq!(prompts(None, 0.25), "a4 b4");
}

#[test]
fn a_part_is_held_out_by_prompt_whatever_stands_beside_it() {
    let folder = Folder::new();
    let row =
        |prompt: usize, answer: &str| format!("{{\"prompt\": \"question {prompt}\", \"completion\": \"{answer}\"}}\n");
    let rows: Vec<String> = (0..200).flat_map(|prompt| [row(prompt, "a"), row(prompt, "b")]).collect();
    let apart = |rows: &[String], part: f64, weight: f64| {
        let source = |name: &str, rows: &[String]| {
            let files = vec![folder.write(name, rows.concat())];
            Source { name: name.into(), files, weight, limit: None }
        };
        let half = rows.len() / 2;
        let sources = [source("one.jsonl", &rows[..half]), source("two.jsonl", &rows[half..])];
        read_apart(&sources, &Options::default(), &byte_level(), Some(part))
    };
    let prompts = |dataset: &Dataset| -> std::collections::BTreeSet<Vec<u32>> {
        dataset.examples.iter().map(|example| example.prompt().to_vec()).collect()
    };
    let (train, held) = apart(&rows, 0.1, 1.0).expect("rows");
    let held = held.expect("a part");
    assert!(prompts(&train).is_disjoint(&prompts(&held)));
    assert!((10..30).contains(&prompts(&held).len()), "{}", prompts(&held).len());
    assert_eq!(train.examples.len() + held.examples.len(), 400);
    assert_eq!(held.examples.len(), 2 * prompts(&held).len(), "both answers of each");
    assert_eq!((train.report.rows + held.report.rows, held.report.rows), (400, held.examples.len()));
    let of_files = |dataset: &Dataset| dataset.report.files.iter().map(|file| file.rows).sum::<usize>();
    assert_eq!((of_files(&train), of_files(&held)), (train.report.rows, held.report.rows));
    assert_eq!(held.sources().iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["one.jsonl", "two.jsonl"]);
    // Fewer rows, in another order: those that are there are on the side that they were on.
    let mut fewer: Vec<String> = rows.iter().rev().take(300).cloned().collect();
    fewer.rotate_left(7);
    let (_, some) = apart(&fewer, 0.1, 1.0).expect("rows");
    let some = prompts(&some.expect("a part"));
    assert!(some.is_subset(&prompts(&held)) && some.len() > 5);
    // A weight repeats what is learned, and nothing that is held out.
    let (twice, same) = apart(&rows, 0.1, 2.0).expect("rows");
    assert_eq!(twice.examples.len(), 2 * train.examples.len());
    assert_eq!(same.expect("a part").examples.len(), held.examples.len());
    for (rows, part, expected) in [
        (&rows[..4], 1e-9, "`data.eval` = 0.000000001 holds out no prompt: there are too few"),
        (&rows[..4], 1.0 - 1e-9, "holds out every prompt"),
    ] {
        let fault = apart(rows, part, 1.0).expect_err("a fault").to_string();
        assert!(fault.contains(expected) && fault.contains("hint: change the part"), "{fault}");
    }
}
