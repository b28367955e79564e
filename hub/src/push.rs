//! Files of a folder into a repository of the hub, in one commit: small ones within it, large ones by git LFS before it.
//!
//! The calls are those of Python's `huggingface_hub`: `repos/create`, `preupload`, the LFS batch with one or several parts, and
//! `commit`. The token goes to the hub alone, never to where large files are stored, and into no message.

mod large;
mod send;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use faults::{Fault, Place};
use serde_json::json;

use super::failure::Failure;
use super::kind::Kind;
use super::request::Client;
use super::{Hub, Progress, check_name, check_revision};

/// The settings of a push.
pub struct Push<'a> {
    /// The folder whose files go up, those of its folders too.
    pub folder: &'a Path,
    /// `organisation/name`.
    pub name: &'a str,
    /// The branch; `main` unless given.
    pub revision: Option<&'a str>,
    /// A repository that is made for it is private.
    pub private: bool,
    /// The first line of the commit.
    pub message: &'a str,
}

/// The outcome of a push.
#[derive(Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The page of the repository.
    pub page: String,
    /// The commit, as the hub names it.
    pub commit: String,
    /// Files in it.
    pub files: usize,
}

/// A file to push.
struct File {
    /// From the folder, with `/` between its parts.
    path: String,
    place: PathBuf,
    size: u64,
    /// By LFS, with the SHA-256 of its content.
    large: Option<String>,
}

/// Bytes of a file by which the hub says how it is stored.
const SAMPLE: usize = 512;

/// Files that are named in one request.
const AT_ONCE: usize = 256;

impl Hub {
    /// Pushes the files of a folder; the repository is made where it is not there.
    ///
    /// # Errors
    /// No token, a hub that is not to be asked, a name that cannot be one, a folder without files, and everything that can fail
    /// between here and the hub. What failed before the commit has changed nothing that anybody sees.
    pub fn push(&self, push: &Push<'_>, progress: &dyn Fn(Progress<'_>)) -> Result<Pushed, Fault> {
        check_name(push.name).map_err(|_| {
            Fault::new(format!("`{}` cannot be the name of a repository on the hub", push.name.escape_debug()))
                .hint("it is `organisation/name`, where the organisation may be your own name there")
        })?;
        check_revision(push.revision.unwrap_or("main"))?;
        if self.offline {
            return Err(Fault::new("nothing is pushed while `HF_HUB_OFFLINE` is set")
                .at(Place::Named("HF_HUB_OFFLINE".into()))
                .hint("unset it"));
        }
        if self.token.is_none() {
            return Err(Fault::new("the hub takes files of those alone whom it knows")
                .at(Place::Named("HF_TOKEN".into()))
                .hint(format!(
                    "make a token that may write at `{}/settings/tokens`, and set `HF_TOKEN` to it",
                    self.site()
                )));
        }
        let files = files(push.folder)?;
        let client = Client::new(self, (Kind::Model, push.name), progress).map_err(Failure::into_fault)?;
        Pushing { client, push, revision: push.revision.unwrap_or("main") }.run(files).map_err(Failure::into_fault)
    }
}

struct Pushing<'a> {
    client: Client<'a>,
    push: &'a Push<'a>,
    revision: &'a str,
}

impl Pushing<'_> {
    fn run(&self, mut files: Vec<File>) -> Result<Pushed, Failure> {
        self.create()?;
        for part in files.chunks_mut(AT_ONCE) {
            self.ask_how(part)?;
        }
        let large: Vec<&File> = files.iter().filter(|file| file.large.is_some()).collect();
        for part in large.chunks(AT_ONCE) {
            large::upload(&self.client, part, self.revision)?;
        }
        let commit = self.commit(&files)?;
        let page = format!("{}/{}", self.client.hub.site(), self.push.name);
        Ok(Pushed { page, commit, files: files.len() })
    }

    /// Makes the repository; one that is there is as good.
    fn create(&self) -> Result<(), Failure> {
        let (organisation, name) = self.push.name.split_once('/').unwrap_or(("", self.push.name));
        let body = json!({ "name": name, "organization": organisation, "private": self.push.private });
        self.client.create(&body)
    }

    /// Asks which files are to go by LFS.
    fn ask_how(&self, files: &mut [File]) -> Result<(), Failure> {
        let mut asked = Vec::new();
        for file in files.iter() {
            let sample = beginning(file)?;
            asked.push(json!({ "path": file.path, "size": file.size, "sample": BASE64_STANDARD.encode(&sample) }));
        }
        let path = format!("/api/models/{}/preupload/{}", self.push.name, segment(self.revision));
        let answer = self.client.post(&path, "application/json", &json!({ "files": asked }).to_string())?;
        for file in files {
            let told = answer["files"].as_array().into_iter().flatten().find(|told| told["path"] == file.path.as_str());
            match told.and_then(|told| told["uploadMode"].as_str()) {
                Some("lfs") => file.large = Some(large::digest(file)?),
                Some("regular") => {}
                _ => {
                    return Err(self
                        .client
                        .unexpected(&path, &format!("it does not say how `{}` is stored", file.path)));
                }
            }
        }
        Ok(())
    }

    /// The commit's lines, each a JSON object.
    fn commit(&self, files: &[File]) -> Result<String, Failure> {
        let mut lines = vec![json!({ "key": "header", "value": { "summary": self.push.message, "description": "" } })];
        for file in files {
            lines.push(match &file.large {
                Some(oid) => {
                    json!({ "key": "lfsFile", "value": { "path": file.path, "algo": "sha256", "oid": oid, "size": file.size } })
                }
                None => {
                    let content = BASE64_STANDARD.encode(&faults::read_file(&file.place).map_err(|error| unreadable(file, &error))?);
                    json!({ "key": "file", "value": { "path": file.path, "content": content, "encoding": "base64" } })
                }
            });
        }
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let path = format!("/api/models/{}/commit/{}", self.push.name, segment(self.revision));
        let answer = self.client.post(&path, "application/x-ndjson", &body)?;
        let commit = answer["commitOid"].as_str().or(answer["oid"].as_str());
        commit.map(str::to_owned).ok_or_else(|| self.client.unexpected(&path, "it names no commit"))
    }
}

/// A revision as one segment of an address.
fn segment(revision: &str) -> String {
    percent_encoding::utf8_percent_encode(revision, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The files of a folder and of those in it, in the order of their names; hidden ones stay.
fn files(folder: &Path) -> Result<Vec<File>, Fault> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((folder, before)) = folders.pop() {
        let unreadable = |error| Fault::of_file("cannot read the folder", &folder, &error);
        for entry in fs_err::read_dir(&folder).map_err(unreadable)? {
            let place = entry.map_err(unreadable)?.path();
            let Some(name) = place.file_name().and_then(|name| name.to_str()) else {
                return Err(Fault::new("the name of this file is not UTF-8").at(Place::file(&place)).hint("rename it"));
            };
            if name.starts_with('.') {
                continue;
            }
            let path = format!("{before}{name}");
            let about =
                fs_err::metadata(&place).map_err(|error| Fault::of_file("cannot read the file", &place, &error))?;
            if about.is_dir() {
                folders.push((place, format!("{path}/")));
            } else if about.is_file() {
                files.push(File { path, size: about.len(), place, large: None });
            }
        }
    }
    if files.is_empty() {
        return Err(Fault::new("there is no file in this folder")
            .at(Place::file(folder))
            .hint("`trainer export` writes one"));
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn beginning(file: &File) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(&file.place);
    let read = opened.and_then(|opened| opened.take(SAMPLE as u64).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(file, &error))?;
    Ok(bytes)
}

fn unreadable(file: &File, error: &std::io::Error) -> Failure {
    Failure::Final(Fault::of_file("cannot read the file", &file.place, error))
}
