//! The list of a repository's files, and a file in as many attempts as it takes, taken for it only where it has the hash
//! that names it.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use faults::{Fault, Place};
use fs_err::{File, OpenOptions};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::Body;
use ureq::http::{HeaderMap, Response, StatusCode};

use super::Progress;
use super::digest::Digest;
use super::failure::{Failure, disk, reason};
use super::repository::is_commit;
use super::request::{Client, Method, blob_name, header};

/// Attempts in a row without a new byte before giving up.
const ATTEMPTS: u32 = 5;
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A listing has about a hundred bytes per file.
const LARGEST_LISTING: u64 = 32 << 20;
/// A revision is one segment of a URL.
const ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');

/// The files of a repository at a commit.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: BTreeSet<String>,
}

/// A file as the hub describes it: its name among the blobs and its size in bytes.
struct Described {
    etag: String,
    size: u64,
}

/// A file on its way.
struct Download<'d> {
    /// Its name in the repository.
    file: &'d str,
    /// Where the hub has it.
    path: &'d str,
    size: u64,
    /// Where what has come lies until it is whole.
    part: &'d Path,
    /// Of what has come; `None` where the hub names the file by no hash.
    digest: Option<Digest>,
    /// The most bytes that an attempt has come to.
    longest: u64,
}

impl Client<'_> {
    /// The repository's files at `revision`.
    pub(super) fn list(&self, revision: &str) -> Result<Listing, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let encoded = utf8_percent_encode(revision, &ENCODED);
        let path = format!("/api/{}/{}/revision/{encoded}", self.kind.api(), self.name);
        let text = self.patiently("the list of files", || {
            let mut response = self.send(Method::Get, &path, 0)?.response;
            let body = response.body_mut().with_config().limit(LARGEST_LISTING).read_to_vec();
            body.map_err(|error| self.broken_off(&error, &path))
        });
        let text = match text {
            Err(Failure::NotFound(_)) => return Err(self.no_repository_or_revision(revision, path)),
            text => text?,
        };
        let unusable = |why: &str| {
            Failure::Final(
                Fault::new(format!(
                    "the answer of `{}` is not a list of a {}'s files: {why}",
                    self.hub.site(),
                    self.kind.word()
                ))
                .at(Place::Named(path.clone()))
                .hint("is `HF_ENDPOINT` the address of a Hugging Face hub?"),
            )
        };
        if text.starts_with(b"\x1f\x8b") {
            return Err(unusable("it is packed (gzip), which was not asked for"));
        }
        let answer: Answer = serde_json::from_slice(&text).map_err(|error| unusable(&error.to_string()))?;
        if !is_commit(&answer.sha) {
            return Err(unusable("its `sha` is not a commit"));
        }
        Ok(Listing { commit: answer.sha, files: answer.siblings.into_iter().map(|file| file.rfilename).collect() })
    }

    /// Downloads `file` into `blobs` unless the blob is there, and returns the blob's path.
    ///
    /// `locks` is the folder of the locks that `huggingface_hub` takes too: of several processes one downloads. What does
    /// not have the hash that names it is removed and fetched anew, once.
    pub(super) fn download(&self, commit: &str, file: &str, blobs: &Path, locks: &Path) -> Result<PathBuf, Failure> {
        let parts: Vec<String> = file.split('/').map(|part| utf8_percent_encode(part, &ENCODED).to_string()).collect();
        let path = format!("/{}{}/resolve/{commit}/{}", self.kind.prefix(), self.name, parts.join("/"));
        let Described { etag, size } = self.patiently(file, || self.describe(&path))?;
        let (blob, part) = (blobs.join(&etag), blobs.join(format!("{etag}.incomplete")));
        for folder in [blobs, locks] {
            fs_err::create_dir_all(folder).map_err(|error| disk(error, folder))?;
        }
        let lock_path = locks.join(format!("{etag}.lock"));
        let lock = std::fs::File::create(&lock_path).map_err(|error| disk(error, &lock_path))?;
        // A file system without locks leaves the rename, which is whole either way.
        if let Err(std::fs::TryLockError::WouldBlock) = lock.try_lock() {
            self.notice(&format!("another process is downloading {file} of {}: waiting for it", self.name));
            lock.lock().map_err(|error| disk(error, &lock_path))?;
        }
        let mut digest = Digest::new(&etag, size);
        if std::fs::metadata(&blob).is_ok_and(|found| found.len() == size) {
            if let Some(digest) = &mut digest {
                digest.follow(&blob, size).map_err(|error| disk(error, &blob))?;
            }
            match digest.as_ref().and_then(Digest::other) {
                None => return Ok(blob),
                Some(_) => self.notice(&format!("`{file}` in the cache is not what its name says: fetching it anew")),
            }
        }
        if digest.is_none() {
            let site = self.hub.site();
            self.notice(&format!(
                "`{site}` names `{file}` by no hash that it could be compared with: it is taken as it comes"
            ));
        }
        let mut download = Download { file, path: &path, size, part: &part, digest, longest: 0 };
        let mut came = self.patiently(file, || self.transfer(&mut download));
        if let Err(Failure::NotTheFile(fault)) = &came {
            self.notice(&format!("{}; fetching it anew", fault.message));
            fs_err::remove_file(&part).map_err(|error| disk(error, &part))?;
            download.longest = 0;
            came = self.patiently(file, || self.transfer(&mut download));
        }
        if let Err(Failure::NotTheFile(_)) = &came {
            fs_err::remove_file(&part).map_err(|error| disk(error, &part))?;
        }
        came?;
        fs_err::rename(&part, &blob).map_err(|error| disk(error, &blob))?;
        Ok(blob)
    }

    fn notice(&self, text: &str) {
        (self.progress)(Progress::Notice { text });
    }

    fn describe(&self, path: &str) -> Result<Described, Failure> {
        let answer = self.send(Method::Head, path, 0)?;
        let headers = answer.response.headers();
        let length = || header(headers, "content-length").and_then(|text| text.parse().ok());
        let etag = answer.linked_etag.or_else(|| header(headers, "etag").and_then(blob_name));
        match (etag, answer.linked_size.or_else(length)) {
            (Some(etag), Some(size)) => Ok(Described { etag, size }),
            (etag, _) => {
                let lacking = if etag.is_none() { "`ETag`" } else { "size" };
                Err(Failure::Final(
                    Fault::new(format!("`{}` does not give the file's {lacking}", self.hub.site()))
                        .at(Place::Named(path.to_owned()))
                        .hint("is `HF_ENDPOINT` the address of a Hugging Face hub?"),
                ))
            }
        }
    }

    /// One attempt to bring the part to its size, beginning where an earlier one was cut.
    fn transfer(&self, download: &mut Download<'_>) -> Result<(), Failure> {
        let (file, size, part) = (download.file, download.size, download.part);
        let on_disk = |error: std::io::Error| disk(error, part);
        let mut output = OpenOptions::new().append(true).create(true).open(part).map_err(on_disk)?;
        let mut done = output.metadata().map_err(on_disk)?.len();
        if done > size {
            output.set_len(0).map_err(on_disk)?;
            done = 0;
        }
        (self.progress)(Progress::Bytes { file, done, size });
        if done < size {
            let response = self.send(Method::Get, download.path, done)?.response;
            download.refuse_another(response.headers(), done)?;
            let continues = response.status() == StatusCode::PARTIAL_CONTENT
                && header(response.headers(), "content-range")
                    .is_some_and(|r| r.starts_with(&format!("bytes {done}-")));
            if done > 0 && !continues {
                output.set_len(0).map_err(on_disk)?;
                done = 0;
            }
            if !continues && response.status() != StatusCode::OK {
                let fault = Fault::new(format!("`{}` does not continue `{file}` where it was cut", self.hub.site()))
                    .at(Place::Named(download.path.to_owned()))
                    .hint("run it again: the download starts anew");
                return Err(Failure::passing(fault));
            }
            done = self.receive(response, &mut output, download, done)?;
        }
        debug_assert_eq!(done, size);
        download.compare()?;
        output.sync_all().map_err(on_disk)
    }

    /// Adds the answer to the `done` bytes that are there, and returns how many there are then.
    fn receive(
        &self,
        response: Response<Body>,
        output: &mut File,
        download: &mut Download<'_>,
        mut done: u64,
    ) -> Result<u64, Failure> {
        let (file, size) = (download.file, download.size);
        if let Some(digest) = &mut download.digest {
            digest.follow(download.part, done).map_err(|error| disk(error, download.part))?;
        }
        let mut reader = response.into_body().into_reader();
        let mut buffer = vec![0; 256 << 10];
        let cut = loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) if done == size => return Ok(done),
                Ok(0) => break "the answer ended there".to_owned(),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => break reason(&ureq::Error::from(error)),
            };
            if done + read as u64 > size {
                let more = "is longer than the size that the hub gives";
                return Err(download.another(format!("{more}, {size} bytes")));
            }
            output.write_all(&buffer[..read]).map_err(|error| disk(error, output.path()))?;
            if let Some(digest) = &mut download.digest {
                digest.update(&buffer[..read]);
            }
            done += read as u64;
            (self.progress)(Progress::Bytes { file, done, size });
        };
        let advanced = done > download.longest;
        download.longest = done.max(download.longest);
        let fault = Fault::new(format!("`{file}` came only to {done} of {size} bytes: {cut}"))
            .at(Place::Named(download.path.to_owned()))
            .hint("run it again: the download continues where it was cut");
        Err(Failure::Passing { fault, advanced, pause: None })
    }

    /// Repeats `attempt` while its failure may pass: with doubling pauses, up to [`ATTEMPTS`] without progress.
    fn patiently<T>(&self, what: &str, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut failed = 0;
        loop {
            let failure = match attempt() {
                Err(failure @ Failure::Passing { .. }) => failure,
                other => return other,
            };
            let Failure::Passing { fault, advanced, pause } = &failure else { return Err(failure) };
            failed = if *advanced { 1 } else { failed + 1 };
            if failed >= ATTEMPTS {
                return Err(failure);
            }
            let doubled = self.hub.first_pause.saturating_mul(1 << (failed - 1));
            let pause = pause.unwrap_or(doubled).min(LONGEST_PAUSE);
            let text = format!("{what}: {}; trying again in {} s", fault.message, pause.as_secs());
            self.notice(&text);
            std::thread::sleep(pause);
        }
    }
}

impl Download<'_> {
    /// What is wrong with what came, as a failure.
    fn another(&self, what: String) -> Failure {
        Failure::NotTheFile(
            Fault::new(format!("`{}` {what}", self.file))
                .at(Place::Named(self.path.to_owned()))
                .hint("something between here and the hub changes what it sends: a proxy, a page that wants a login, or `HF_ENDPOINT`"),
        )
    }

    /// An answer of another type, form or length than the file from byte `done` on, or the whole of it, is not the file.
    fn refuse_another(&self, headers: &HeaderMap, done: u64) -> Result<(), Failure> {
        let encoding = header(headers, "content-encoding").unwrap_or("identity").trim();
        if !encoding.eq_ignore_ascii_case("identity") {
            return Err(self.another(format!("came in another form (`{}`) than asked for", encoding.escape_debug())));
        }
        let kind = header(headers, "content-type").unwrap_or_default().to_ascii_lowercase();
        if kind.contains("html") {
            return Err(self.another("was answered with a page of HTML".into()));
        }
        let range = header(headers, "content-range");
        let whole = range.and_then(|range| range.rsplit_once('/')?.1.parse::<u64>().ok());
        let length = header(headers, "content-length").and_then(|text| text.parse::<u64>().ok());
        let expected = if range.is_some() { self.size - done } else { self.size };
        let (found, expected) = match (whole, length) {
            (Some(whole), _) if whole != self.size => (whole, self.size),
            (_, Some(length)) if length != expected => (length, expected),
            _ => return Ok(()),
        };
        Err(self.another(format!("was answered with {found} bytes, expected {expected}")))
    }

    /// Compares what has come, which is all of it, with the hash that names it.
    fn compare(&mut self) -> Result<(), Failure> {
        let Some(digest) = &mut self.digest else { return Ok(()) };
        digest.follow(self.part, self.size).map_err(|error| disk(error, self.part))?;
        let (kind, expected) = (digest.kind(), digest.expected().to_owned());
        match digest.other() {
            None => Ok(()),
            Some(found) => {
                Err(self
                    .another(format!("is not the file that the hub names: its {kind} is {found}, expected {expected}")))
            }
        }
    }
}
