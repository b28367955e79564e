//! Files that are none of rows: one line that says what they are and what makes rows of them.

use std::path::{Path, PathBuf};

use datasets::{Options, read, read_prompts, read_samples, refuse_other_kinds};

use super::byte_level;

/// What every reader says.
fn told(path: &Path) -> String {
    let same = told_of_one(path);
    let options = Options::default();
    let read = read(&[path.to_path_buf()], &options, &byte_level()).expect_err("a fault");
    assert_eq!(read.to_string().replace('\n', " "), same);
    same
}

/// What those say that read one file alone.
fn told_of_one(path: &Path) -> String {
    let faults = refuse_other_kinds(&[path.to_path_buf()]).expect_err(&path.display().to_string());
    assert_eq!(faults.list().len(), 1, "{faults}");
    let same = faults.to_string();
    assert_eq!(read_prompts(path, crate::asking(&[], false)).expect_err("a fault").to_string(), same);
    assert_eq!(read_samples(path, &[]).expect_err("a fault").to_string(), same);
    same.replace('\n', " ")
}

#[test]
fn files_are_told_by_their_first_bytes_and_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases: [(&str, &[u8], &str, &str); 26] = [
        ("a.arrow", b"\xff\xff\xff\xff\x10", "an Arrow table", "datasets.Dataset.from_file('"),
        ("a.feather", b"ARROW1\0\0", "an Arrow table", "pandas.read_feather('"),
        ("b.feather", b"FEA1\0\0\0\0", "an Arrow table", "pandas.read_feather('"),
        ("a.tgz", b"\x1f\x8b\x08\0", "a packed archive", "tar xzf "),
        ("a.jsonl.bz2", b"BZh9", "a bzip2 file", "bunzip2 -k "),
        ("a.jsonl.xz", b"\xfd7zXZ\0\0", "an xz file", "unxz -k "),
        ("a.zip", b"PK\x03\x04\x14", "a zip archive", "unzip "),
        ("a.docx", b"PK\x03\x04\x14", "a document", "take the texts out"),
        ("a.pdf", b"%PDF-1.7\n%\xe2\xe3", "a PDF", "take the texts out"),
        ("a.jsonl", b"%PDF-1.7\n%\xe2\xe3", "a PDF", "take the texts out"),
        ("a.rtf", b"{\\rtf1\\ansi", "a document in RTF", "take the texts out"),
        ("a.png", b"\x89PNG\r\n", "a picture", "take the texts out"),
        ("a.xlsx", b"PK\x03\x04\x14", "a table of Excel", "pandas.read_excel('"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a table of old Excel", "pandas.read_excel('"),
        ("a.pt", b"PK\x03\x04\x14", "a file of tensors", "rows are text"),
        ("a.pkl", b"\x80\x04\x95\x1a", "a pickle of Python", "a pickle runs code of whoever made it"),
        ("a.npy", b"\x93NUMPY\x01", "a file of arrays", "rows are text"),
        ("a.db", b"SQLite format 3\0", "an SQLite database", "sqlite3 -json"),
        ("a.json", b"\xff\xfe{\0\"\0", "a text in UTF-16", "iconv -f UTF-16 -t UTF-8"),
        ("b.json", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS", "git lfs pull"),
        ("c.json", b"\n<!DOCTYPE html><html>", "a web page", "open it to see why"),
        ("d.jsonl", b"prompt, completion\na,b\n", "a text, it seems a table,", "`prompt, completion`: if these are"),
        ("rows", b"the prompt\tcompletion\na\tb\n", "a text, it seems a table,", "give it the ending `.tsv`"),
        ("a.txt", b"once upon a time\n", "a plain text", "makes a row of each line"),
        ("a.yaml", b"- prompt: a\n", "a file in YAML", "yaml.safe_load"),
        ("a.toml", b"model = 1\n", "a program or a recipe", "name the file of rows"),
    ];
    for (name, bytes, what, hint) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        let found = told(&path);
        let expected = format!("{}: {what} is no file of rows hint: ", path.display());
        assert!(found.starts_with(&expected) && found.contains(hint), "{found}");
    }
    // JSON under any name is JSON.
    for name in ["e.csv", "e.txt", "e.parquet", "e"] {
        let path = folder.path().join(name);
        std::fs::write(&path, "\u{feff}\n {\"text\": \"a\"}").expect("written");
        assert_eq!(refuse_other_kinds(std::slice::from_ref(&path)), Ok(()));
        assert_eq!(read(&[path], &Options::default(), &byte_level()).expect("rows").examples.len(), 1);
    }
    // The end of a table is looked at, too.
    for (name, bytes, expected) in [
        ("a.parquet", &b"PAR1\x15"[..], "a.parquet: the Parquet table cannot be read: "),
        ("a.jsonl.gz", b"\x1f\x8b\x08\0", "a.jsonl.gz: cannot read the rows: the gzip file is damaged"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd\x04", "a.jsonl.zst: cannot read the rows: the Zstandard file is damaged"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        assert!(told(&path).contains(expected), "{}", told(&path));
    }
    // What is empty or not there is told by whoever reads it.
    let empty = folder.path().join("empty.csv");
    std::fs::write(&empty, "").expect("written");
    assert_eq!(refuse_other_kinds(&[empty, folder.path().join("none.jsonl"), "builtin:numbers".into()]), Ok(()));
}

#[test]
fn folders_and_names_of_the_hub_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let make = |name: &str, files: &[&str]| {
        std::fs::create_dir(path(name)).expect("made");
        for file in files {
            std::fs::write(path(name).join(file), "").expect("written");
        }
        told_of_one(&path(name))
    };
    assert!(make("saved", &["state.json", "data-00000-of-00001.arrow"]).contains("datasets.load_from_disk('"));
    assert!(make("split", &["dataset_dict.json"]).contains("')['train'].to_json("));
    let rows = make("rows", &["b.jsonl", "a.jsonl"]);
    assert!(
        rows.contains("the data is a folder, and must be a file of rows hint: name each file in it, such as `")
            && rows.contains("a.jsonl`"),
        "{rows}"
    );
    assert!(make("empty", &[]).ends_with("hint: name each file of rows"));

    for (name, what) in [
        ("openai/gsm8k", "load_dataset('openai/gsm8k', split='train').to_json('rows.jsonl'"),
        ("HuggingFaceH4/ultrachat_200k", "load_dataset('HuggingFaceH4/ultrachat_200k', split='train')"),
        ("hf://datasets/openai/gsm8k/main/train.parquet", "load_dataset('openai/gsm8k', split='train')"),
        ("hf://datasets/openai/gsm8k@main/a.jsonl", "load_dataset('openai/gsm8k', split='train')"),
        ("https://example.org/rows.jsonl", "download it first"),
        ("s3://bucket/rows.jsonl", "download it first"),
    ] {
        let found = told(&PathBuf::from(name));
        assert!(found.starts_with(&format!("{name}: ")) && found.contains(what), "{found}");
    }
    for path in ["data/rows.jsonl", "./org/name", "a/b/c", "rows", "/org/name", "../name"] {
        assert_eq!(refuse_other_kinds(&[PathBuf::from(path)]), Ok(()), "{path}");
    }
}

#[test]
fn an_archive_of_tar_is_told_wherever_its_mark_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut block = vec![0; 512];
    block[..10].copy_from_slice(b"rows.jsonl");
    block[257..262].copy_from_slice(b"ustar");
    for name in ["a.tar", "a.jsonl"] {
        let path = folder.path().join(name);
        std::fs::write(&path, &block).expect("written");
        let found = told(&path);
        assert!(found.contains("a tar archive is no file of rows") && found.contains("tar xf "), "{found}");
    }
}

#[test]
fn a_pattern_of_the_shell_is_told_with_what_is_like_it() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["a1.jsonl", "a2.jsonl", "a3.jsonl", "b.json"] {
        std::fs::write(folder.path().join(name), "{}").expect("written");
    }
    for (pattern, names) in [
        ("*.jsonl", &["a1.jsonl", "a2.jsonl", ".."][..]),
        ("a?.jsonl", &["a1.jsonl", "a2.jsonl", ".."]),
        ("?.json", &["b.json"]),
        ("*", &["a1.jsonl", ".."]),
        ("c*", &["none here is like it"]),
    ] {
        let found = told_of_one(&folder.path().join(pattern));
        assert!(found.contains("no pattern is expanded here"), "{found}");
        assert!(names.iter().all(|name| found.contains(name)), "{found}");
        assert_eq!(found.contains(".."), names.contains(&".."), "{found}");
    }
    // A file may have such a name.
    let path = folder.path().join("a[1]*.jsonl");
    std::fs::write(&path, "{\"text\": \"a\"}").expect("written");
    assert!(refuse_other_kinds(&[path]).is_ok());
}

#[test]
fn names_that_a_shell_would_expand_are_told_as_such() {
    for (name, what) in [
        ("~/rows.jsonl", "`~` is expanded by a shell"),
        ("$HOME/rows.jsonl", "variables are expanded by a shell"),
        ("file:///rows.jsonl", "this is an address"),
    ] {
        let found = refuse_other_kinds(&[PathBuf::from(name)]).expect_err(name).to_string();
        assert!(found.contains(what) && found.contains("hint: "), "{found}");
    }
}

/// Looked at first and read afterwards, a pipe would have lost its rows; a device has no end.
#[cfg(unix)]
#[test]
fn prompts_and_samples_come_through_a_pipe_and_not_from_a_device() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let write = |row: &'static str| {
        let pipe = pipe.clone();
        std::thread::spawn(move || std::fs::write(pipe, row).expect("a reader"))
    };
    let writer = write("{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n");
    assert_eq!(read_prompts(&pipe, crate::asking(&[], false)).expect("prompts").rows.len(), 2);
    writer.join().expect("it was read");
    let writer = write("{\"prompt\": \"a\", \"text\": \"b\"}\n");
    assert_eq!(read_samples(&pipe, &[]).expect("samples").prompts.len(), 1);
    writer.join().expect("it was read");
    let zero = refuse_other_kinds(&[PathBuf::from("/dev/zero")]).expect_err("no end").to_string();
    assert!(zero.contains("this is a device"), "{zero}");
}
