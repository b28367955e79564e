//! Requests to the hub: its list of files, a file in as many attempts as it takes, and a fault for each way to fail.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use faults::{Fault, Place};
use fs_err::{File, OpenOptions};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::repository::is_commit;
use super::{Hub, Progress};

/// Attempts in a row without a new byte before giving up.
const ATTEMPTS: u32 = 5;
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A listing has about a hundred bytes per file.
const LARGEST_LISTING: u64 = 32 << 20;
/// A revision is one segment of a URL.
const ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');

/// Why a request or a download did not succeed.
pub(super) enum Failure {
    /// Asking again would not help.
    Final(Fault),
    /// The hub knows nothing under this address.
    NotFound(Fault),
    /// No answer was to be had.
    Unreachable(Fault),
    /// The cache could not be read or written.
    Disk(Fault),
    /// May go away. `advanced`: the attempt brought new bytes. `pause`: what the hub asks for.
    Passing { fault: Fault, advanced: bool, pause: Option<Duration> },
}

impl Failure {
    pub(super) fn into_fault(self) -> Fault {
        match self {
            Failure::Final(fault) | Failure::NotFound(fault) | Failure::Unreachable(fault) => fault,
            Failure::Disk(fault) | Failure::Passing { fault, .. } => fault,
        }
    }

    /// Whether the hub could not be talked to, as opposed to a hub that says no.
    pub(super) fn is_out_of_reach(&self) -> bool {
        matches!(self, Failure::Unreachable(_) | Failure::Passing { .. })
    }

    fn passing(fault: Fault) -> Self {
        Failure::Passing { fault, advanced: false, pause: None }
    }
}

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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Head,
    Get,
}

/// Talks to one hub about one repository.
pub(super) struct Client<'a> {
    hub: &'a Hub,
    name: &'a str,
    progress: &'a dyn Fn(Progress<'_>),
    agent: Agent,
}

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub, name: &'a str, progress: &'a dyn Fn(Progress<'_>)) -> Result<Self, Failure> {
        // Redirects are followed here, where it can be seen whom the token goes to.
        let mut agent = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("trainer/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(Duration::from_secs(20)))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)));
        if ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|own| hub.endpoint.starts_with(own)) {
            agent = agent.proxy(None);
        }
        if let Some(path) = &hub.certificates {
            let roots = RootCerts::Specific(Arc::new(certificates(path).map_err(Failure::Final)?));
            agent = agent.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self { hub, name, progress, agent: agent.build().into() })
    }

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
        let path = format!("/api/models/{}/revision/{}", self.name, utf8_percent_encode(revision, &ENCODED));
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
                Fault::new(format!("the answer of `{}` is not a list of a model's files: {why}", self.hub.site()))
                    .at(Place::Named(path.clone()))
                    .hint("is `HF_ENDPOINT` the address of a Hugging Face hub?"),
            )
        };
        let answer: Answer = serde_json::from_slice(&text).map_err(|error| unusable(&error.to_string()))?;
        if !is_commit(&answer.sha) {
            return Err(unusable("its `sha` is not a commit"));
        }
        Ok(Listing { commit: answer.sha, files: answer.siblings.into_iter().map(|file| file.rfilename).collect() })
    }

    /// Downloads `file` into `blobs` unless the blob is there, and returns the blob's path.
    ///
    /// `locks` is the folder of the locks that `huggingface_hub` takes too: of several processes one downloads.
    pub(super) fn download(&self, commit: &str, file: &str, blobs: &Path, locks: &Path) -> Result<PathBuf, Failure> {
        let path = format!("/{}/resolve/{commit}/{file}", self.name);
        let described = self.patiently(file, || self.describe(&path))?;
        let blob = blobs.join(&described.etag);
        let part = blobs.join(format!("{}.incomplete", described.etag));
        for folder in [blobs, locks] {
            fs_err::create_dir_all(folder).map_err(|error| disk(error, folder))?;
        }
        let lock_path = locks.join(format!("{}.lock", described.etag));
        let lock = std::fs::File::create(&lock_path).map_err(|error| disk(error, &lock_path))?;
        // A file system without locks leaves the rename, which is whole either way.
        if let Err(std::fs::TryLockError::WouldBlock) = lock.try_lock() {
            let text = format!("another process is downloading {file} of {}: waiting for it", self.name);
            (self.progress)(Progress::Notice { text: &text });
            lock.lock().map_err(|error| disk(error, &lock_path))?;
        }
        if std::fs::metadata(&blob).is_ok_and(|found| found.len() == described.size) {
            return Ok(blob);
        }
        let mut longest = 0;
        self.patiently(file, || self.transfer(&path, file, described.size, &part, &mut longest))?;
        fs_err::rename(&part, &blob).map_err(|error| disk(error, &blob))?;
        Ok(blob)
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

    /// One attempt to bring `part` to `size` bytes, beginning where an earlier one was cut.
    fn transfer(&self, path: &str, file: &str, size: u64, part: &Path, longest: &mut u64) -> Result<(), Failure> {
        let on_disk = |error: std::io::Error| disk(error, part);
        let mut output = OpenOptions::new().append(true).create(true).open(part).map_err(on_disk)?;
        let mut done = output.metadata().map_err(on_disk)?.len();
        if done > size {
            output.set_len(0).map_err(on_disk)?;
            done = 0;
        }
        (self.progress)(Progress::Bytes { file, done, size });
        if done < size {
            let response = self.send(Method::Get, path, done)?.response;
            let continues = response.status() == StatusCode::PARTIAL_CONTENT
                && header(response.headers(), "content-range")
                    .is_some_and(|r| r.starts_with(&format!("bytes {done}-")));
            if done > 0 && !continues {
                output.set_len(0).map_err(on_disk)?;
                done = 0;
            }
            if !continues && response.status() != StatusCode::OK {
                let fault = Fault::new(format!("`{}` does not continue `{file}` where it was cut", self.hub.site()))
                    .at(Place::Named(path.to_owned()))
                    .hint("run it again: the download starts anew");
                return Err(Failure::passing(fault));
            }
            done = self.receive(response, &mut output, (path, file), (done, size), longest)?;
        }
        debug_assert_eq!(done, size);
        output.sync_all().map_err(on_disk)
    }

    fn receive(
        &self,
        response: Response<Body>,
        output: &mut File,
        (path, file): (&str, &str),
        (mut done, size): (u64, u64),
        longest: &mut u64,
    ) -> Result<u64, Failure> {
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
                output.set_len(0).map_err(|error| disk(error, output.path()))?;
                return Err(Failure::Final(
                    Fault::new(format!("`{file}` is longer than the {size} bytes that the hub gives as its size"))
                        .at(Place::Named(path.to_owned()))
                        .hint("something between here and the hub changes what it sends: a proxy, or `HF_ENDPOINT`"),
                ));
            }
            output.write_all(&buffer[..read]).map_err(|error| disk(error, output.path()))?;
            done += read as u64;
            (self.progress)(Progress::Bytes { file, done, size });
        };
        let advanced = done > *longest;
        *longest = done.max(*longest);
        let fault = Fault::new(format!("`{file}` came only to {done} of {size} bytes: {cut}"))
            .at(Place::Named(path.to_owned()))
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
            (self.progress)(Progress::Notice { text: &text });
            std::thread::sleep(pause);
        }
    }
}

/// An answer that is neither a refusal nor a redirect to be followed; 416 is one when the middle of a file was asked for.
struct Answer {
    response: Response<Body>,
    /// What the hub says of a file that it keeps elsewhere, before it redirects there.
    linked_etag: Option<String>,
    linked_size: Option<u64>,
}

impl Client<'_> {
    /// Sends a request for `path` of the hub, from byte `start` on, and follows redirects; the token goes to the hub only.
    fn send(&self, method: Method, path: &str, start: u64) -> Result<Answer, Failure> {
        let mut url = format!("{}{path}", self.hub.endpoint);
        let (mut linked_etag, mut linked_size) = (None, None);
        for _ in 0..10 {
            let mut request = if method == Method::Head { self.agent.head(&url) } else { self.agent.get(&url) };
            // Sizes and ranges count the bytes of the file, not of a compressed form of it.
            request = request.header("accept-encoding", "identity");
            if let Some(token) = &self.hub.token
                && origin(&url) == origin(&self.hub.endpoint)
            {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if start > 0 {
                request = request.header("range", format!("bytes={start}-"));
            }
            let response = request.call().map_err(|error| self.no_answer(&error, path))?;
            let headers = response.headers();
            linked_etag = linked_etag.or_else(|| header(headers, "x-linked-etag").and_then(blob_name));
            linked_size = linked_size.or_else(|| header(headers, "x-linked-size").and_then(|text| text.parse().ok()));
            let status = response.status();
            let told = method == Method::Head && linked_etag.is_some() && linked_size.is_some();
            let past_the_end = status == StatusCode::RANGE_NOT_SATISFIABLE && start > 0;
            if status.is_success() || past_the_end || (status.is_redirection() && told) {
                return Ok(Answer { response, linked_etag, linked_size });
            }
            url = match header(headers, "location") {
                Some(place) if status.is_redirection() && place.starts_with('/') && !place.starts_with("//") => {
                    format!("{}{place}", origin(&url))
                }
                Some(place) if status.is_redirection() && !origin(place).is_empty() => place.to_owned(),
                _ => return Err(self.refusal(status, headers, path)),
            };
        }
        Err(Failure::Final(
            Fault::new(format!("`{}` redirects in a circle", self.hub.site()))
                .at(Place::Named(path.to_owned()))
                .hint("is `HF_ENDPOINT` the address of a Hugging Face hub?"),
        ))
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, path: &str) -> Failure {
        let (name, site, code) = (self.name, self.hub.site(), status.as_u16());
        let place = Place::Named(path.to_owned());
        let account = if self.hub.token.is_some() { "the token's account" } else { "an account, set `HF_TOKEN`" };
        match code {
            401 if self.hub.token.is_some() => Failure::Final(
                Fault::new(format!("the hub does not accept the access token for `{name}` (401)"))
                    .at(place)
                    .hint(format!("make a new token at `{site}/settings/tokens` and set `HF_TOKEN` to it")),
            ),
            401 => Failure::Final(
                Fault::new(format!(
                    "the hub wants a login for `{name}` (401): it is private or gated, or does not exist"
                ))
                .at(place)
                .hint(format!("check the name; accept the licence at `{site}/{name}` and set `HF_TOKEN`")),
            ),
            403 => Failure::Final(
                Fault::new(format!("the hub does not grant access to `{name}` (403): it is gated or private"))
                    .at(place)
                    .hint(format!("accept the licence at `{site}/{name}` with {account}")),
            ),
            404 => Failure::NotFound(
                Fault::new(format!("`{name}` has no such file (404)"))
                    .at(place)
                    .hint("the repository is broken or changing: try again, or another revision"),
            ),
            408 | 429 | 500..=599 => Failure::Passing {
                fault: Fault::new(format!("`{site}` answers {status}")).at(place).hint(if code == 429 {
                    "too many requests came from here: wait some minutes, or set `HF_TOKEN` for a higher limit"
                } else {
                    "the hub has a problem: try again later"
                }),
                advanced: false,
                pause: header(headers, "retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs),
            },
            _ => Failure::Final(
                Fault::new(format!("`{site}` answers {status}, which was not expected"))
                    .at(place)
                    .hint("is `HF_ENDPOINT` the address of a Hugging Face hub?"),
            ),
        }
    }

    /// The listing was not found: because of the repository, or because of the revision?
    fn no_repository_or_revision(&self, revision: &str, path: String) -> Failure {
        let (name, site) = (self.name, self.hub.site());
        let fault = match self.send(Method::Get, &format!("/api/models/{name}"), 0) {
            Ok(_) => Fault::new(format!("`{name}` has no revision `{revision}`"))
                .hint(format!("its branches, tags and commits are listed at `{site}/{name}/tree/main`")),
            Err(Failure::NotFound(_)) => Fault::new(format!("the hub has no model `{name}`")).hint(format!(
                "check the name at `{site}`; a private model needs `HF_TOKEN`, a local folder is given as `./folder`"
            )),
            Err(other) => return other,
        };
        Failure::NotFound(fault.at(Place::Named(path)))
    }

    fn no_answer(&self, error: &ureq::Error, path: &str) -> Failure {
        let fault = Fault::new(format!("cannot reach `{}`: {}", self.hub.site(), reason(error)))
            .at(Place::Named(path.to_owned()))
            .hint("check the network, the proxy and `HF_ENDPOINT`; a model in a local folder needs none of them");
        match error {
            ureq::Error::Timeout(_) => Failure::passing(fault),
            ureq::Error::Io(error) if is_cut(error.kind()) => Failure::passing(fault),
            _ => Failure::Unreachable(fault),
        }
    }

    fn broken_off(&self, error: &ureq::Error, path: &str) -> Failure {
        let fault = Fault::new(format!("the answer of `{}` broke off: {}", self.hub.site(), reason(error)))
            .at(Place::Named(path.to_owned()))
            .hint("try again later");
        Failure::passing(fault)
    }
}

/// A file operation in the cache that failed.
pub(super) fn disk(error: std::io::Error, path: &Path) -> Failure {
    let fault = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Fault::new("no space is left on the disk of the cache")
            .hint("free some, or set `HF_HOME` to a folder on a larger disk; the download continues where it stopped"),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Fault::new("the cache cannot be written")
            .hint("set `HF_HOME` to a folder that can, or mend the rights of this one"),
        _ => {
            // `fs_err` names the path a second time; its source does not.
            let cause = error.get_ref().and_then(|inner| inner.source()).map(|cause| cause.to_string());
            Fault::new(format!("the cache cannot be used: {}", cause.unwrap_or_else(|| error.to_string())))
                .hint("set `HF_HOME` to another folder")
        }
    };
    Failure::Disk(fault.at(Place::file(path)))
}

/// What went wrong, in words that repeat no part of a URL: it may be signed.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => "the connection was refused".into(),
            kind if is_cut(kind) => "the connection was cut".into(),
            _ if error.to_string().contains("UnknownIssuer") => {
                "its certificate is from an authority that is not trusted here (`SSL_CERT_FILE` names others)".into()
            }
            _ => error.to_string(),
        },
        ureq::Error::HostNotFound => "there is no host of this name".into(),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => "the address is not a URL".into(),
        other => other.to_string(),
    }
}

/// Errors of a connection that stood.
fn is_cut(kind: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// The certificates in a PEM file.
fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Fault> {
    let unusable = |why: String| {
        Fault::new(format!("the file of trusted certificates {why}"))
            .at(Place::file(path))
            .hint("`SSL_CERT_FILE` or `REQUESTS_CA_BUNDLE` names it: a file in the PEM format, or unset it")
    };
    let text = std::fs::read(path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
    let found: Vec<Certificate<'static>> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() { Err(unusable("has no certificate in it".into())) } else { Ok(found) }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// An `ETag` as the name of a file.
fn blob_name(etag: &str) -> Option<String> {
    let name = etag.trim().trim_start_matches("W/").trim_matches('"');
    super::index::is_plain_name(name).then(|| name.to_owned())
}

/// Scheme, host and port of a URL; empty when it is none.
fn origin(url: &str) -> &str {
    match url.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => {
            let host = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            &url[..scheme.len() + 3 + host]
        }
        _ => "",
    }
}
