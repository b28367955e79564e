//! A model's folder: one on this disk, or a repository of the Hugging Face hub brought into its cache; and the files of its
//! data sets.
//!
//! The cache is the one that Python's `huggingface_hub` keeps (`models--org--name/{blobs,refs,snapshots,.no_exist}`), so
//! that neither downloads what the other has. `hf-hub` knows its layout; the transfer is ours, because the blocking
//! client of `hf-hub` 0.5 sets no timeouts, sends the token on to the host it is redirected to, and drops the headers
//! that tell one refusal from another. `hf-hub` 1.0 has its blocking client on tokio and reqwest, brings 284 crates in
//! place of these few (a C library for TLS and the client of Xet among them), and compares nothing that it downloads
//! with a hash.
//!
//! A file is taken only where it has the hash that the hub names it by: SHA-256 of a large file, git's hash of a small
//! one. On a difference it is fetched anew, once.
//!
//! What is in the cache is taken from there without a request: a branch stays at the commit it had when it was first
//! fetched, as a repeated run wants it. A newer commit is had by naming it in `revision`.

mod data_set;
mod digest;
mod failure;
mod index;
mod kind;
mod progress;
mod push;
mod repository;
mod request;
mod transfer;

#[cfg(test)]
mod loopback;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use faults::{Fault, Place};

use kind::Kind;
use repository::Repository;

pub use data_set::DataSet;
pub use progress::{Progress, progress_on_stderr, progress_up_on_stderr};
pub use push::{Push, Pushed};

/// Where models come from and where they are kept.
pub struct Hub {
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// The folder of the cache, the one with `models--org--name` in it.
    pub cache: PathBuf,
    /// The user's access token; sent to the endpoint only.
    pub token: Option<String>,
    /// Use the cache alone.
    pub offline: bool,
    /// A PEM file of the authorities whose certificates are believed, in place of the built-in list.
    pub certificates: Option<PathBuf>,
    /// The pause before the first repeated attempt; each later one doubles it.
    pub first_pause: Duration,
}

/// The folder of the model `path` (see [`Hub::model_folder`]), with the hub as the environment names it.
pub fn model_folder(
    path: &str,
    revision: Option<&str>,
    progress: &dyn Fn(Progress<'_>),
    check: &dyn Fn(&Path) -> Result<(), Fault>,
) -> Result<PathBuf, Fault> {
    Hub::from_env()?.model_folder(path, revision, progress, check)
}

/// What the environment may say of the hub, but for the home folder.
const VARIABLES: [&str; 10] = [
    "HF_ENDPOINT",
    "HF_HOME",
    "XDG_CACHE_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_OFFLINE",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
];

impl Hub {
    /// The hub as the environment names it: `HF_ENDPOINT`; `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else
    /// `HF_HOME/hub`; `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `HF_HOME/token`; `HF_HUB_OFFLINE`;
    /// `SSL_CERT_FILE`, else `REQUESTS_CA_BUNDLE`.
    ///
    /// # Errors
    /// An endpoint that is not `http://` or `https://`, a token that cannot stand in a header, no home folder.
    pub fn from_env() -> Result<Self, Fault> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Fault> {
        // What is passed over here would be another cache than was meant, or a private model that is not there.
        if let Some(name) =
            VARIABLES.into_iter().find(|name| variable(name).is_some_and(|text| text.to_str().is_none()))
        {
            let fault = Fault::new(format!("`{name}` is not UTF-8 text")).at(Place::Named(name.into()));
            return Err(fault.hint("set it anew, or unset it"));
        }
        let variable = |name: &str| {
            let text = variable(name)?.into_string().ok()?.trim().to_owned();
            (!text.is_empty()).then_some(text)
        };
        let home = || home_folder(variable("HOME"));
        let hf_home = match (variable("HF_HOME"), variable("XDG_CACHE_HOME")) {
            (Some(folder), _) => expand_home(&folder, home)?,
            (None, Some(folder)) => expand_home(&folder, home)?.join("huggingface"),
            (None, None) => home()?.join(".cache/huggingface"),
        };
        let cache = match variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")) {
            Some(folder) => expand_home(&folder, home)?,
            None => hf_home.join("hub"),
        };
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(Fault::new("`HF_ENDPOINT` is not the address of a hub")
                .at(Place::Named("HF_ENDPOINT".into()))
                .hint("it starts with `https://`, as in `https://huggingface.co`; unset it to use that one"));
        }
        let offline = variable("HF_HUB_OFFLINE")
            .is_some_and(|text| ["1", "true", "yes", "on"].contains(&text.to_lowercase().as_str()));
        let token = match variable("HF_TOKEN") {
            Some(token) => Some(token),
            None => {
                let file = match variable("HF_TOKEN_PATH") {
                    Some(file) => expand_home(&file, home)?,
                    None => hf_home.join("token"),
                };
                let token = match faults::read_text(&file) {
                    // Nobody is asked for anything without a hub.
                    Err(error)
                        if !offline && !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
                    {
                        return Err(Fault::of_file("cannot read the hub's access token", &file, &error));
                    }
                    read => read.unwrap_or_default().trim().to_owned(),
                };
                (!token.is_empty()).then_some(token)
            }
        };
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Fault::new("the hub's access token has characters that no token has")
                .at(Place::Named("HF_TOKEN".into()))
                .hint("copy it again: it is one word that starts with `hf_`"));
        }
        let certificates = variable("SSL_CERT_FILE").or_else(|| variable("REQUESTS_CA_BUNDLE")).map(PathBuf::from);
        Ok(Self { endpoint, cache, token, offline, certificates, first_pause: Duration::from_secs(1) })
    }

    /// The folder of the model `path` with its configuration, tokenizer and safetensors weights.
    ///
    /// A path that exists, or that starts with `.`, `/` or `~`, is a local folder and is returned as it is (`~` put
    /// in). Anything else is `organisation/name` on the hub: its files at `revision` (a branch, tag or commit; `main`
    /// unless given) are downloaded into the cache where they are not there yet, and the snapshot's folder is returned.
    /// Before the first byte of its weights, `check` is given the folder with everything else in it.
    ///
    /// # Errors
    /// A missing folder, a name or revision that cannot be one, a `revision` of a local folder, what `check` says, and
    /// everything that can fail between here and the hub: each with its own message. Files reach their place in the cache only whole.
    pub fn model_folder(
        &self,
        path: &str,
        revision: Option<&str>,
        progress: &dyn Fn(Progress<'_>),
        check: &dyn Fn(&Path) -> Result<(), Fault>,
    ) -> Result<PathBuf, Fault> {
        if is_local(path) {
            return local_folder(path, revision);
        }
        check_name(path)?;
        let revision = revision.unwrap_or("main");
        check_revision(revision)?;
        Repository::new(self, (Kind::Model, path, revision), progress, check).folder().map_err(|fault| {
            match path.split_once('/') {
                Some((parent, name)) if Path::new(parent).is_dir() => fault.hint(format!(
                    "was a folder meant? there is a folder `{parent}` here, and no `{name}` in it that can be opened"
                )),
                _ => fault,
            }
        })
    }

    /// The data set `name`, `organisation/name`, at `revision` (a branch, tag or commit; `main` unless given): which files it
    /// has, as the cache knows them or else the hub. No rows are fetched yet.
    ///
    /// # Errors
    /// A name or revision that cannot be one, a cache that does not know it where the hub is not to be asked, and everything
    /// that can fail between here and the hub.
    pub fn data_set<'a>(
        &'a self,
        name: &'a str,
        revision: Option<&'a str>,
        progress: &'a dyn Fn(Progress<'_>),
    ) -> Result<DataSet<'a>, Fault> {
        check_name(name).map_err(|_| {
            Fault::new(format!("`{}` is not the name of a data set on the hub", name.escape_debug())).hint(
                "a data set is `organisation/name`, with a subset, a revision and a split as in `org/name/subset@main:train`",
            )
        })?;
        let revision = revision.unwrap_or("main");
        check_revision(revision)?;
        DataSet::open(Repository::new(self, (Kind::DataSet, name, revision), progress, &|_| Ok(())))
    }

    /// The endpoint as it may be shown: without a user's name and password in it.
    fn site(&self) -> String {
        match self.endpoint.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
            Some((scheme, rest)) => format!("{scheme}://{rest}"),
            None => self.endpoint.clone(),
        }
    }
}

fn is_local(path: &str) -> bool {
    path.starts_with(['.', '/', '~']) || Path::new(path).is_absolute() || (!path.is_empty() && Path::new(path).exists())
}

fn local_folder(path: &str, revision: Option<&str>) -> Result<PathBuf, Fault> {
    let folder = expand_home(path, || home_folder(std::env::var("HOME").ok()))?;
    if !folder.exists() {
        return Err(Fault::new(format!("there is no folder `{path}`")).at(Place::file(&folder)).hint(
            "a model is a folder on this disk, or the name `organisation/name` of a repository of the Hugging Face hub",
        ));
    }
    if !folder.is_dir() {
        return Err(Fault::new(format!("`{path}` is a file, expected a model's folder"))
            .at(Place::file(&folder))
            .hint("give the folder with `config.json` in it"));
    }
    if revision.is_some() {
        return Err(Fault::new(format!("a local folder has no `revision`, and `{path}` is one"))
            .at(Place::file(&folder))
            .hint("remove `revision`, or name a repository of the hub"));
    }
    Ok(folder)
}

fn home_folder(variable: Option<String>) -> Result<PathBuf, Fault> {
    variable.filter(|folder| !folder.is_empty()).map(PathBuf::from).or_else(std::env::home_dir).ok_or_else(|| {
        Fault::new("the home folder is unknown").hint("set `HF_HOME` to the folder of the Hugging Face cache")
    })
}

fn expand_home(path: &str, home: impl Fn() -> Result<PathBuf, Fault>) -> Result<PathBuf, Fault> {
    match path.strip_prefix('~') {
        Some("") => home(),
        Some(rest) if rest.starts_with('/') => Ok(home()?.join(rest.trim_start_matches('/'))),
        _ => Ok(PathBuf::from(path)),
    }
}

/// The hub's own rule (`huggingface_hub.utils.validate_repo_id`), with the organisation required.
fn check_name(name: &str) -> Result<(), Fault> {
    let parts: Vec<&str> = name.split('/').collect();
    let good_part = |part: &&str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
            && !part.starts_with(['.', '-'])
            && !part.ends_with(['.', '-'])
    };
    let good = parts.len() == 2
        && parts.iter().all(good_part)
        && !name.contains("--")
        && !name.contains("..")
        && !name.ends_with(".git")
        && name.len() <= 96;
    if good {
        return Ok(());
    }
    Err(Fault::new(format!("`{}` is neither a folder nor the name of a model on the hub", name.escape_debug())).hint(
        "a model is a folder on this disk (`./folder` says so plainly), or `organisation/name` on the Hugging Face hub, \
         as in `Qwen/Qwen2.5-0.5B`",
    ))
}

/// Branches, tags and commits become parts of paths in the cache, so what git itself forbids is forbidden here.
fn check_revision(revision: &str) -> Result<(), Fault> {
    let good = !revision.is_empty()
        && revision.len() <= 200
        && revision
            .chars()
            .all(|letter| !letter.is_whitespace() && !letter.is_control() && !r"\:?*[~^".contains(letter))
        && revision.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with('.'))
        && !revision.contains("..");
    if good {
        return Ok(());
    }
    Err(Fault::new(format!("`{}` cannot be a revision", revision.escape_debug()))
        .hint("give a branch, a tag or a commit of the repository, or leave `revision` out for `main`"))
}
