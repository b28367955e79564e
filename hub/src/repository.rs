//! One repository at one revision: what the cache holds of it, what is wanted, and the way from one to the other.

use std::path::{Path, PathBuf};

use faults::{Fault, Place};
use hf_hub::{Cache, CacheRepo, Repo};

use super::failure::{Failure, disk};
use super::index::{is_plain_name, shards};
use super::kind::Kind;
use super::request::Client;
use super::transfer::Listing;
use super::{Hub, Progress};

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// What PEFT's adapters have in place of the configuration.
const ADAPTER: &str = "adapter_config.json";

/// What a model's folder has beside its weights. All but the configuration may be absent.
const SMALL_FILES: [&str; 14] = [
    CONFIG,
    "generation_config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    // How a sentence encoder pools.
    "1_Pooling/config.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "preprocessor_config.json",
    "processor_config.json",
];

/// How many of them are read; the others go along into an export.
const READ: usize = 8;

pub(super) struct Repository<'a> {
    pub(super) hub: &'a Hub,
    kind: Kind,
    pub(super) name: &'a str,
    pub(super) revision: &'a str,
    pub(super) progress: &'a dyn Fn(Progress<'_>),
    check: &'a dyn Fn(&Path) -> Result<(), Fault>,
    /// `models--organisation--name` or `datasets--organisation--name` in the cache.
    pub(super) folder: PathBuf,
    cached: CacheRepo,
}

/// The files of a commit that the cache holds.
struct Held {
    commit: String,
    snapshot: PathBuf,
    /// Files without which there is no model.
    missing: Vec<String>,
    /// Whether each small file is there or known to be absent from the repository.
    settled: bool,
}

impl<'a> Repository<'a> {
    /// `name` and `revision` have been checked: they are safe as parts of a path.
    pub(super) fn new(
        hub: &'a Hub,
        (kind, name, revision): (Kind, &'a str, &'a str),
        progress: &'a dyn Fn(Progress<'_>),
        check: &'a dyn Fn(&Path) -> Result<(), Fault>,
    ) -> Self {
        let repo = Repo::with_revision(name.to_owned(), kind.repo_type(), revision.to_owned());
        let cache = Cache::new(hub.cache.clone());
        let folder = hub.cache.join(repo.folder_name());
        Self { hub, kind, name, revision, progress, check, folder, cached: cache.repo(repo) }
    }

    /// Talks to the hub about this repository.
    pub(super) fn client(&self) -> Result<Client<'a>, Failure> {
        Client::new(self.hub, (self.kind, self.name), self.progress)
    }

    /// The folder of the snapshot at a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.cached.pointer_path(commit)
    }

    /// The commit that the cache knows the revision by.
    pub(super) fn known_commit(&self) -> Option<String> {
        if is_commit(self.revision) {
            return Some(self.revision.to_owned());
        }
        let commit = std::fs::read_to_string(self.folder.join("refs").join(self.revision)).ok()?;
        is_commit(commit.trim()).then(|| commit.trim().to_owned())
    }

    /// Notes that the revision is at this commit. A note: without it the next run asks the hub once more.
    pub(super) fn note_commit(&self, commit: &str) {
        let known = || std::fs::read_to_string(self.folder.join("refs").join(self.revision)).unwrap_or_default();
        if self.revision != commit && known().trim() != commit {
            let _ = self.cached.create_ref(commit);
        }
    }

    /// The snapshot's folder, with everything in it.
    pub(super) fn folder(&self) -> Result<PathBuf, Fault> {
        let held = self.held()?;
        if let Some(held) = &held
            && held.missing.is_empty()
            && (held.settled || self.hub.offline)
        {
            self.tell_of_a_tokenizer_left_out(held);
            return Ok(held.snapshot.clone());
        }
        if self.hub.offline {
            return Err(self.not_in_the_cache(held));
        }
        match held {
            Some(held) if held.missing.is_empty() => self.settle(held),
            _ => self.fetch().map_err(Failure::into_fault),
        }
    }

    /// Another program may have put everything but the tokenizer into the cache: a hub that is not to be asked does not bring it.
    fn tell_of_a_tokenizer_left_out(&self, held: &Held) {
        let (name, commit) = (self.name, &held.commit);
        if !held.snapshot.join(TOKENIZER).exists() && !self.absent(commit, TOKENIZER).exists() {
            let text = format!(
                "the cache has no `{TOKENIZER}` of `{name}`, and the hub is not to be asked: unset `HF_HUB_OFFLINE` to \
                 download it"
            );
            (self.progress)(Progress::Notice { text: &text });
        }
    }

    /// The model is in the cache; asks for the small files that are not there and that it may not even have, at the commit
    /// that is there: the branch may lead to another by now.
    fn settle(&self, held: Held) -> Result<PathBuf, Fault> {
        let client = self.client().map_err(Failure::into_fault)?;
        let without = |failure: Failure| {
            let reason = failure.into_fault().message;
            (self.progress)(Progress::Notice { text: &format!("{reason}; using `{}` from the cache", self.name) });
        };
        match client.list(&held.commit).map(|listing| self.bring_small(&client, &listing)) {
            Ok(Ok(())) => {}
            // It may say no to everyone who has the files already.
            Err(failure) => without(failure),
            Ok(Err(failure)) if failure.is_out_of_reach() => without(failure),
            Ok(Err(failure)) => return Err(failure.into_fault()),
        }
        Ok(held.snapshot)
    }

    fn fetch(&self) -> Result<PathBuf, Failure> {
        let client = self.client()?;
        let listing = client.list(self.revision)?;
        let commit = listing.commit.as_str();
        let snapshot = self.cached.pointer_path(commit);
        self.bring_small(&client, &listing)?;
        (self.check)(&snapshot).map_err(Failure::Final)?;
        self.bring_weights(&client, &listing)?;
        // The name comes last: a revision that the cache knows leads to whole files.
        self.note_commit(commit);
        Ok(snapshot)
    }

    fn bring_small(&self, client: &Client<'_>, listing: &Listing) -> Result<(), Failure> {
        let commit = listing.commit.as_str();
        for (place, name) in SMALL_FILES.into_iter().enumerate() {
            if listing.files.contains(name) {
                match self.bring(client, commit, name) {
                    Err(Failure::Disk(fault)) if place >= READ => {
                        let text = format!("{}: `{name}` of `{}` is left out", fault.message, self.name);
                        (self.progress)(Progress::Notice { text: &text });
                    }
                    brought => drop(brought?),
                }
            } else if name == CONFIG {
                return Err(Failure::Final(self.no_model(client, listing)));
            } else {
                self.mark_absent(commit, name);
            }
        }
        let mut further = listing.files.iter().filter(|file| is_further_template(file));
        further.try_for_each(|name| self.bring(client, commit, name).map(drop))
    }

    fn bring_weights(&self, client: &Client<'_>, listing: &Listing) -> Result<(), Failure> {
        let commit = listing.commit.as_str();
        if listing.files.contains(WEIGHTS) {
            self.bring(client, commit, WEIGHTS)?;
        } else if listing.files.contains(INDEX) {
            let index = self.bring(client, commit, INDEX)?;
            let shards = shards(&index).map_err(Failure::Final)?;
            if let Some(shard) = shards.iter().find(|shard| !listing.files.contains(*shard)) {
                return Err(Failure::Final(
                    Fault::new(format!("`{}` has no `{shard}`, which its index names", self.name))
                        .at(Place::Named(format!("{}@{}", self.name, self.revision)))
                        .hint("the repository is incomplete: try another revision, or tell its owner"),
                ));
            }
            for shard in &shards {
                self.bring(client, commit, shard)?;
            }
        } else {
            return Err(Failure::Final(self.no_model(client, listing)));
        }
        Ok(())
    }

    /// Puts `file` into the snapshot unless it is there.
    pub(super) fn bring(&self, client: &Client<'_>, commit: &str, file: &str) -> Result<PathBuf, Failure> {
        let pointer = self.cached.pointer_path(commit).join(file);
        if !pointer.exists() {
            let locks = self.hub.cache.join(".locks").join(self.folder.file_name().unwrap_or_default());
            let blob = client.download(commit, file, &self.folder.join("blobs"), &locks)?;
            link(&blob, &pointer, file.matches('/').count()).map_err(|error| disk(error, &pointer))?;
        }
        Ok(pointer)
    }

    /// What the cache holds of the revision's commit; nothing when it does not know the revision.
    fn held(&self) -> Result<Option<Held>, Fault> {
        let Some(commit) = self.known_commit() else { return Ok(None) };
        let snapshot = self.cached.pointer_path(&commit);
        let is_there = |name: &str| snapshot.join(name).exists();
        let mut missing: Vec<String> = Vec::new();
        if !is_there(CONFIG) {
            missing.push(CONFIG.into());
        }
        if is_there(WEIGHTS) {
        } else if is_there(INDEX) {
            missing.extend(shards(&snapshot.join(INDEX))?.into_iter().filter(|shard| !is_there(shard)));
        } else {
            missing.push(WEIGHTS.into());
        }
        let settled = SMALL_FILES.iter().all(|name| is_there(name) || self.absent(&commit, name).exists());
        Ok(Some(Held { commit, snapshot, missing, settled }))
    }

    /// Where `huggingface_hub` notes that a repository has no such file at a commit.
    fn absent(&self, commit: &str, name: &str) -> PathBuf {
        self.folder.join(".no_exist").join(commit).join(name)
    }

    /// A note that saves later runs a request: a cache that cannot be written does without.
    fn mark_absent(&self, commit: &str, name: &str) {
        let mark = self.absent(commit, name);
        let folder = mark.parent().unwrap_or(&self.folder);
        let _ = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&mark, []));
    }

    fn not_in_the_cache(&self, held: Option<Held>) -> Fault {
        let place = held.as_ref().map_or(&self.folder, |held| &held.snapshot);
        let missing = match &held {
            Some(held) if held.snapshot.exists() => {
                let names: Vec<String> = held.missing.iter().map(|name| format!("`{name}`")).collect();
                format!("{} of `{}` at `{}`", names.join(", "), self.name, self.revision)
            }
            _ => format!("`{}` at `{}`", self.name, self.revision),
        };
        Fault::new(format!("the cache has no {missing}, and the hub is not to be asked"))
            .at(Place::file(place))
            .hint(match self.another_commit(held.as_ref()) {
                Some(commit) => format!(
                    "it has another commit, which `model.revision = \"{commit}\"` takes; or unset `HF_HUB_OFFLINE` to download \
                     this one"
                ),
                None => "unset `HF_HUB_OFFLINE` to download it, or set `HF_HOME` to the cache that has it".into(),
            })
    }

    /// A commit with a model in the cache that the revision does not lead to.
    fn another_commit(&self, held: Option<&Held>) -> Option<String> {
        let entries = std::fs::read_dir(self.folder.join("snapshots")).ok()?.flatten();
        let whole =
            |folder: &Path| folder.join(CONFIG).exists() && [WEIGHTS, INDEX].iter().any(|n| folder.join(n).exists());
        let found = entries.filter(|entry| whole(&entry.path()));
        let names = found.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| is_commit(name) && held.is_none_or(|held| held.commit != *name)).min()
    }

    /// What a repository without a configuration or without safetensors is, as far as its files tell.
    fn no_model(&self, client: &Client<'_>, listing: &Listing) -> Fault {
        let (name, files) = (self.name, &listing.files);
        let fault = if files.contains(ADAPTER) {
            let base = match self.base_of_adapter(client, &listing.commit) {
                Some(base) => format!("name the model that it was made for, `{base}`"),
                None => format!("name the model that its `{ADAPTER}` has as `base_model_name_or_path`"),
            };
            Fault::new(format!("`{name}` is an adapter, expected a whole model")).hint(format!(
                "{base}; the adapter itself is read from a folder of this disk: `hf download {name} --local-dir DIR` \
                 makes one, which `trainer sample DIR` reads and training goes on from with `adapter.init_from = \"DIR\"`"
            ))
        } else {
            let others: Vec<String> = files
                .iter()
                .filter(|file| [".bin", ".gguf", ".pth", ".pt", ".safetensors"].iter().any(|end| file.ends_with(end)))
                .filter(|file| is_plain_name(file))
                .take(3)
                .map(|file| format!("`{file}`"))
                .collect();
            let has = if others.is_empty() { String::new() } else { format!("; it has {}", others.join(", ")) };
            if files.contains(CONFIG) {
                Fault::new(format!("`{name}` has no `{WEIGHTS}` and no `{INDEX}`{has}")).hint(
                    "choose a repository or a revision with safetensors weights, or save the model with transformers' \
                     `save_pretrained` and give that folder",
                )
            } else {
                Fault::new(format!("`{name}` has no `{CONFIG}`, expected a model's repository{has}"))
                    .hint("name a repository of the transformers library with safetensors weights")
            }
        };
        fault.at(Place::Named(format!("{name}@{}", self.revision)))
    }

    /// The model that the adapter in this repository is for; `None` where its configuration does not say or cannot be had.
    fn base_of_adapter(&self, client: &Client<'_>, commit: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.bring(client, commit, ADAPTER).ok()?).ok()?;
        let config: serde_json::Value = serde_json::from_str(&text).ok()?;
        let base = config["base_model_name_or_path"].as_str()?;
        (!base.trim().is_empty()).then(|| base.escape_debug().to_string())
    }
}

/// True for a template beside the one that is taken by default, which goes along into an export.
fn is_further_template(file: &str) -> bool {
    let name = file.strip_prefix("additional_chat_templates/").and_then(|rest| rest.strip_suffix(".jinja"));
    name.is_some_and(|name| !name.contains('/') && is_plain_name(name))
}

/// A commit's full name.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Makes `pointer`, a file of a snapshot so many folders `deep`, lead to `blob`; where there are no links, the blob itself
/// moves there.
fn link(blob: &Path, pointer: &Path, deep: usize) -> std::io::Result<()> {
    if let Some(folder) = pointer.parent() {
        std::fs::create_dir_all(folder)?;
    }
    #[cfg(unix)]
    {
        let up = "../".repeat(2 + deep);
        let target = Path::new(&up).join("blobs").join(blob.file_name().unwrap_or_default());
        match std::os::unix::fs::symlink(target, pointer) {
            Ok(()) => return Ok(()),
            // Another process was first, or the link was there and its blob was not.
            Err(_) if pointer.exists() => return Ok(()),
            Err(_) => {}
        }
    }
    #[cfg(not(unix))]
    let _ = deep;
    std::fs::rename(blob, pointer)
}
