//! What a file that is no file of rows is, told by its name and its first bytes, with how to make rows of it.

use std::path::{Path, PathBuf};

use faults::{Fault, Faults, Place, shortened};

use crate::builtin;
use crate::files;
use crate::form;
use crate::open::{self, STDIN};
use crate::parquet::Table;
use crate::row::Names;

/// Refuses every path from which no rows can be read, before anything else is: files that are not there, names of no
/// built-in rows, archives, documents, names of the hub. Of a folder or a pattern each file is looked at.
///
/// # Errors
/// One fault for each such path, with a command that makes rows of what has none.
pub fn refuse_unreadable(paths: &[PathBuf]) -> Result<(), Faults> {
    let mut faults = Vec::new();
    for path in paths {
        match files::expand(path) {
            Ok(files) => faults.extend(files.iter().filter_map(|file| unreadable(file))),
            Err(fault) => faults.push(fault),
        }
    }
    Faults::check(faults)
}

/// Refuses every path that is no file of rows: archives, documents, folders, names of the hub.
///
/// # Errors
/// One fault for each such path, with a command that makes rows of it. A file that is not there is not looked for.
pub fn refuse_other_kinds(paths: &[PathBuf]) -> Result<(), Faults> {
    Faults::check(paths.iter().filter_map(|path| other_kind(path)).collect())
}

/// Why no rows can be read from a path, as far as can be told without reading them.
pub(crate) fn unreadable(path: &Path) -> Option<Fault> {
    let name = path.to_string_lossy();
    if name == STDIN {
        return None;
    }
    if name.starts_with(builtin::PREFIX) {
        return builtin::check_name(&name).err().map(|fault| fault.at(Place::file(path)));
    }
    // A pipe is not even opened, which would wait for whoever writes to it.
    if path.metadata().is_ok_and(|file| !file.is_file() && !file.is_dir()) {
        let fault = Fault::new("the data is not a regular file").at(Place::file(path));
        return Some(fault.hint("name a file of rows, or pass them to stdin and write `-`"));
    }
    let unopened = || {
        let error = std::fs::File::open(path).err()?;
        Some(Fault::of_file("cannot open the data file", path, &error))
    };
    other_kind(path).or_else(unopened)
}

/// What a path is that has no rows.
fn other_kind(path: &Path) -> Option<Fault> {
    let name = path.to_string_lossy();
    if name.starts_with(builtin::PREFIX) || name == STDIN {
        return None;
    }
    let fault = |what: &str, hint: String| Some(Fault::new(what).at(Place::file(path)).hint(hint));
    if let Some(address) =
        ["hf://", "https://", "http://", "s3://", "gs://"].iter().find(|start| name.starts_with(**start))
    {
        let what = "rows are read from files of this machine, and this is an address";
        return match name.strip_prefix("hf://datasets/") {
            Some(rest) => {
                let dataset: Vec<&str> = rest.splitn(3, '/').take(2).collect();
                fault(what, of_hub(dataset.join("/").split('@').next().unwrap_or_default()))
            }
            None if *address == "hf://" => {
                fault(what, "`hf://datasets/ORG/NAME` names a data set; download it first".into())
            }
            None => fault(what, "download it first, and name the file".into()),
        };
    }
    if path.is_dir() {
        if let Some(fault) = saved_folder(path) {
            return Some(fault);
        }
        return fault("the data is a folder, and must be a file of rows", of_folder(path));
    }
    if let Some(unreadable) = of_no_file(path) {
        return unreadable;
    }
    let Ok(file) = std::fs::File::open(path) else {
        if !path.exists() && name.contains(['*', '?', '{']) {
            return fault("there is no file of this name, and no pattern is expanded here", of_pattern(path));
        }
        if let Some((what, hint)) = of_shell(&name).filter(|_| !path.exists()) {
            return fault(what, hint.into());
        }
        let looks_like_a_name = !path.exists() && path.extension().is_none() && is_hub_name(&name);
        let what = "there is no such file; it looks like a data set of the Hugging Face hub, which is not fetched";
        return looks_like_a_name.then(|| fault(what, of_hub(&name))).flatten();
    };
    // What is in a table its last bytes say.
    if open::is_parquet(&file) {
        return Table::of_file(&name, file, Names::default()).err();
    }
    form::open(path, Box::new(file)).err()
}

/// Why there are no rows in the file `path` that begins with `head`, after unpacking, and would be named `unpacked` then.
pub(crate) fn refused(head: &[u8], path: &Path, unpacked: &Path) -> Option<Fault> {
    let (what, hint) = of_bytes(head, path).or_else(|| of_name(head, path, unpacked))?;
    Some(Fault::new(format!("{what} is no file of rows")).at(Place::file(path)).hint(hint))
}

/// `org/name`, which no path of rows looks like.
fn is_hub_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '~', '-'])
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let parts: Vec<&str> = name.split('/').collect();
    parts.len() == 2 && parts.into_iter().all(part)
}

/// What is to be said of a path that is neither file nor folder: `None` where it is one of them, and nothing of a pipe, of which
/// what is looked at would be gone for who reads it.
#[cfg(unix)]
fn of_no_file(path: &Path) -> Option<Option<Fault>> {
    use std::os::unix::fs::FileTypeExt;
    let kind = path.metadata().ok()?.file_type();
    if kind.is_fifo() {
        return Some(None);
    }
    let is_of_system = kind.is_char_device() || kind.is_block_device() || kind.is_socket();
    is_of_system.then(|| {
        let fault = Fault::new("this is a device, and must be a file of rows").at(Place::file(path));
        Some(fault.hint("write the rows into a file, or through a pipe"))
    })
}

#[cfg(not(unix))]
fn of_no_file(_: &Path) -> Option<Option<Fault>> {
    None
}

/// A command that writes rows by pandas.
fn by_pandas(read: &str) -> String {
    format!(
        "python -c \"import pandas; pandas.{read}.to_json('rows.jsonl', orient='records', lines=True, force_ascii=False)\" makes rows of it"
    )
}

/// A command that writes rows by datasets.
fn by_datasets(open: &str) -> String {
    format!("python -c \"import datasets; datasets.{open}.to_json('rows.jsonl', force_ascii=False)\" makes rows of it")
}

fn of_hub(name: &str) -> String {
    by_datasets(&format!("load_dataset('{name}', split='train')"))
}

/// The fault of a folder that the library `datasets` has saved, which holds Arrow.
pub(crate) fn saved_folder(path: &Path) -> Option<Fault> {
    let shown = path.display();
    let open = if path.join("dataset_dict.json").exists() {
        format!("load_from_disk('{shown}')['train']")
    } else if path.join("state.json").exists() && has_ending(path, "arrow") {
        format!("load_from_disk('{shown}')")
    } else {
        return None;
    };
    let fault = Fault::new("the folder is one of `save_to_disk`, in Arrow, which is not read here");
    Some(fault.at(Place::file(path)).hint(by_datasets(&open)))
}

fn of_folder(path: &Path) -> String {
    let mut rows: Vec<String> = endings(path).filter(|name| files::is_of_rows(Path::new(name))).collect();
    rows.sort();
    match rows.first() {
        Some(first) => format!("name each file in it, such as `{}`", path.join(first).display()),
        None => "name each file of rows".into(),
    }
}

/// What a shell makes of a name, and nothing here does.
fn of_shell(name: &str) -> Option<(&'static str, &'static str)> {
    match name {
        _ if name.starts_with('~') => Some((
            "there is no such file: `~` is expanded by a shell, and not here",
            "write the whole path of your home",
        )),
        _ if name.contains('$') => Some((
            "there is no such file: variables are expanded by a shell, and not here",
            "write the whole path, or give it by `--set` from a shell",
        )),
        _ if name.starts_with("file://") => {
            Some(("there is no such file: this is an address", "write the path that follows `file://`"))
        }
        _ => None,
    }
}

/// Names of files in place of a pattern of the shell.
fn of_pattern(path: &Path) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let pattern: Vec<char> = path.file_name().unwrap_or_default().to_string_lossy().chars().collect();
    let mut names: Vec<String> =
        endings(folder).filter(|name| matches(&pattern, &name.chars().collect::<Vec<_>>())).collect();
    names.sort();
    let shown: Vec<String> = names.iter().take(2).map(|name| format!("{:?}", path.with_file_name(name))).collect();
    let more = if names.len() > shown.len() { ", .." } else { "" };
    match shown.is_empty() {
        true => "name each file of rows; none here is like it".into(),
        false => format!("name each file of rows: `data.train = [{}{more}]`", shown.join(", ")),
    }
}

/// True for a name that a pattern with `*` and `?` stands for.
fn matches(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => matches(rest, name) || !name.is_empty() && matches(pattern, &name[1..]),
        (Some(('?', rest)), Some((_, name))) => matches(rest, name),
        (Some((letter, rest)), Some((found, name))) => letter == found && matches(rest, name),
        _ => false,
    }
}

fn endings(path: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

fn has_ending(path: &Path, ending: &str) -> bool {
    endings(path).any(|name| name.ends_with(&format!(".{ending}")))
}

/// What to do with a file that people read and that has no rows.
const AS_TEXT: &str =
    "rows are JSON Lines, Parquet or CSV: take the texts out of it and write one a line, as `{\"text\": \"..\"}`";

/// What begins with these bytes, with what to do.
fn of_bytes(head: &[u8], path: &Path) -> Option<(&'static str, String)> {
    let shown = path.display();
    let starts = |with: &[u8]| head.starts_with(with);
    let ends = |ending: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
    let packed = |what, command: &str| Some((what, format!("unpack it first: {command} {shown}")));
    let other = |what, hint: &str| Some((what, hint.to_owned()));
    match () {
        _ if starts(b"ARROW1") || starts(b"FEA1") => {
            Some(("an Arrow table", by_pandas(&format!("read_feather('{shown}')"))))
        }
        _ if starts(b"\xff\xff\xff\xff") => {
            Some(("an Arrow table", by_datasets(&format!("Dataset.from_file('{shown}')"))))
        }
        _ if starts(b"\x1f\x8b") && ends("tgz") => packed("a packed archive", "tar xzf"),
        _ if starts(b"\x1f\x8b") => packed("a gzip file in another", "gunzip -k"),
        _ if starts(b"\x28\xb5\x2f\xfd") => packed("a Zstandard file in another", "unzstd"),
        _ if starts(b"BZh") => packed("a bzip2 file", "bunzip2 -k"),
        _ if starts(b"\xfd7zXZ\0") => packed("an xz file", "unxz -k"),
        _ if starts(b"7z\xbc\xaf\x27\x1c") => packed("a 7z archive", "7z x"),
        // POSIX.1-1988, `struct posix_header`.
        _ if head.get(257..262) == Some(b"ustar") => packed("a tar archive", "tar xf"),
        _ if starts(b"PK\x03\x04") && (ends("xlsx") || ends("xlsm")) => {
            Some(("a table of Excel", by_pandas(&format!("read_excel('{shown}', dtype=str, keep_default_na=False)"))))
        }
        _ if starts(b"PK\x03\x04") && (ends("pt") || ends("pth") || ends("bin")) => {
            other("a file of tensors", "rows are text: name the file that it was made from")
        }
        _ if starts(b"PK\x03\x04") && ends("npz") => {
            other("a file of arrays", "rows are text: name the file that it was made from")
        }
        _ if starts(b"PK\x03\x04") && (ends("docx") || ends("odt") || ends("pptx") || ends("epub")) => {
            other("a document", AS_TEXT)
        }
        _ if starts(b"PK\x03\x04") => packed("a zip archive", "unzip"),
        _ if starts(b"%PDF") => other("a PDF", AS_TEXT),
        _ if starts(b"{\\rtf") => other("a document in RTF", AS_TEXT),
        _ if starts(b"\x89PNG") || starts(b"\xff\xd8\xff") || starts(b"GIF8") => other("a picture", AS_TEXT),
        _ if starts(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") => Some((
            "a table of old Excel",
            by_pandas(&format!("read_excel('{shown}', dtype=str, keep_default_na=False)")),
        )),
        _ if head.len() > 1 && head[0] == 0x80 && (2..=5).contains(&head[1]) => {
            let hint = by_pandas(&format!("DataFrame(pandas.read_pickle('{shown}'))"));
            Some(("a pickle of Python", format!("{hint}; a pickle runs code of whoever made it")))
        }
        _ if starts(b"SQLite format 3\0") => {
            other("an SQLite database", "`sqlite3 -json FILE 'select * from TABLE' > rows.json` writes rows")
        }
        _ if starts(b"\x93NUMPY") || starts(b"\x89HDF") => {
            other("a file of arrays", "rows are text: name the file that it was made from")
        }
        _ if starts(b"Obj\x01") || starts(b"ORC") => other("a table of another format", "write it as JSON Lines"),
        _ if starts(b"\xff\xfe") || starts(b"\xfe\xff") => {
            Some(("a text in UTF-16", format!("save it as UTF-8: iconv -f UTF-16 -t UTF-8 {shown} > rows.jsonl")))
        }
        _ if starts(b"version https://git-lfs") => {
            other("a pointer of Git LFS", "the rows themselves were not downloaded: `git lfs pull` fetches them")
        }
        _ => {
            let text = String::from_utf8_lossy(&head[..head.len().min(64)]).trim_start().to_lowercase();
            let is_page = text.starts_with("<!doctype") || text.starts_with("<html");
            is_page.then(|| ("a web page", "the download gave a page and not the file: open it to see why".to_owned()))
        }
    }
}

/// What has this name and does not begin as rows do; packed, the name without that.
fn of_name(head: &[u8], path: &Path, unpacked: &Path) -> Option<(&'static str, String)> {
    if form::form(head, unpacked) != form::Form::Json {
        return None;
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    if text.is_empty() || text.starts_with(b"{") || text.starts_with(b"[") {
        return None;
    }
    let shown = path.display();
    let ending = unpacked.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else { return None };
    let line = if line.chars().any(|c| c.is_control() && c != '\t' && c != '\r') { "" } else { line };
    match ending.as_str() {
        "txt" | "md" => {
            let command = format!(
                "python -c \"import json; [print(json.dumps({{'text': line.rstrip('\\n')}})) for line in open('{shown}') if line.strip()]\" > rows.jsonl"
            );
            Some(("a plain text", format!("{command} makes a row of each line")))
        }
        "yaml" | "yml" => {
            let command = format!(
                "python -c \"import json, yaml; [print(json.dumps(row)) for row in yaml.safe_load(open('{shown}'))]\" > rows.jsonl"
            );
            Some(("a file in YAML", format!("{command} makes rows of it")))
        }
        "xml" | "html" | "pdf" | "docx" => Some(("a document", "write its text as rows: `{\"text\": \"..\"}`".into())),
        "py" | "ipynb" | "toml" => Some(("a program or a recipe", "name the file of rows".into())),
        _ if line.contains(['\t', ',']) && !line.contains(['{', '[']) => {
            let first = shortened(line.trim_end());
            let ending = if line.contains('\t') { "tsv" } else { "csv" };
            let hint = format!(
                "its first line is `{first}`: if these are the names of columns, give it the ending `.{ending}`"
            );
            Some(("a text, it seems a table,", hint))
        }
        _ => None,
    }
}
