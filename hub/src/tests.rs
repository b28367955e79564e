//! A hub that the tests start on loopback; nothing else is asked. Bytes on the disk are compared with bytes served.

mod cache;
mod data_set;
mod push;
mod trust;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use faults::Fault;

use super::loopback::{COMMIT, Reply, Request, Server, etag, hub, part};
use super::{Hub, Progress};

/// Long enough for several reads of the client's buffer, and different at each place.
fn weights(seed: u32) -> Vec<u8> {
    (0..300_000u32).map(|place| (place.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
}

fn files(weights: &[(&str, Vec<u8>)]) -> BTreeMap<String, Vec<u8>> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "README.md"] {
        files.insert(name.into(), format!("{{\"name\": \"{name}\"}}").into());
    }
    for name in ["pytorch_model.bin", "model.gguf", "onnx/model.onnx", "extra/config.json"] {
        files.insert(name.into(), b"not wanted".to_vec());
    }
    files.extend(weights.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())));
    files
}

fn whole() -> BTreeMap<String, Vec<u8>> {
    files(&[("model.safetensors", weights(1))])
}

fn sharded() -> BTreeMap<String, Vec<u8>> {
    let index = br#"{"metadata": {}, "weight_map": {"a": "model-00002-of-00002.safetensors",
        "b": "model-00001-of-00002.safetensors", "c": "model-00001-of-00002.safetensors"}}"#;
    files(&[
        ("model.safetensors.index.json", index.to_vec()),
        ("model-00001-of-00002.safetensors", weights(1)),
        ("model-00002-of-00002.safetensors", weights(2)),
    ])
}

/// A port below the ones that systems give out: connections to it are refused.
const NOBODY: &str = "http://127.0.0.1:1";

const RESOLVE: &str = "/org/model/resolve/0123456789abcdef0123456789abcdef01234567";

struct Bench {
    folder: tempfile::TempDir,
    hub: Hub,
}

impl Bench {
    fn new(endpoint: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("hub");
        Self {
            folder,
            hub: Hub { endpoint, cache, token: None, offline: false, certificates: None, first_pause: Duration::ZERO },
        }
    }

    fn get(&self) -> Result<PathBuf, Fault> {
        self.hub.model_folder("org/model", None, &|_| (), &|_| Ok(()))
    }

    /// The model's folder, and what was noticed on the way.
    fn get_with_notices(&self) -> (PathBuf, String) {
        let notices = RefCell::new(String::new());
        let listen = |progress: Progress<'_>| {
            if let Progress::Notice { text } = progress {
                notices.borrow_mut().push_str(text);
            }
        };
        let folder = self.hub.model_folder("org/model", None, &listen, &|_| Ok(())).unwrap();
        (folder, notices.into_inner())
    }

    fn fault(&self) -> Fault {
        let fault = self.get().unwrap_err();
        assert!(fault.hint.is_some(), "{fault}");
        fault
    }

    fn repository(&self) -> PathBuf {
        self.hub.cache.join("models--org--model")
    }

    /// Nothing of an unsuccessful download may look like a model's file.
    fn assert_no_weights(&self) {
        assert!(!self.repository().join("snapshots").join(COMMIT).join("model.safetensors").exists());
        assert!(!self.repository().join("blobs").join(etag("model.safetensors", &weights(1))).exists());
        assert!(!self.repository().join("refs/main").exists());
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

/// A hub of whole weights that does as `trouble` says where it says something.
fn troubled(trouble: impl Fn(&Request, usize) -> Option<Reply> + Send + 'static) -> Server {
    let hub = hub(whole(), None);
    Server::start(move |request, before| trouble(request, before).unwrap_or_else(|| hub(request)))
}

#[test]
fn sharded_weights_come_once_and_are_then_found_without_a_request_and_without_a_hub() {
    let served = sharded();
    let answers = hub(served.clone(), None);
    let server = Server::start(move |request, _| answers(request));
    let mut bench = Bench::new(server.url());

    let snapshot = bench.get().unwrap();
    assert_eq!(snapshot, bench.repository().join("snapshots").join(COMMIT));
    let expected = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names(&snapshot), expected);
    for name in expected {
        assert!(std::fs::read(snapshot.join(name)).unwrap() == served[name], "{name} differs");
    }
    // The layout that `huggingface_hub` reads.
    assert_eq!(std::fs::read_to_string(bench.repository().join("refs/main")).unwrap(), COMMIT);
    let config = std::fs::read_link(snapshot.join("config.json")).unwrap();
    assert_eq!(config, Path::new("../../blobs").join(etag("config.json", &served["config.json"])));
    assert!(bench.repository().join(".no_exist").join(COMMIT).join("merges.txt").exists());
    assert_eq!(names(&bench.repository().join("blobs")).len(), expected.len(), "a part was left behind");

    let asked = server.requests().len();
    assert_eq!(bench.get().unwrap(), snapshot);
    assert_eq!(server.requests().len(), asked);
    drop(server);
    assert_eq!(bench.get().unwrap(), snapshot);
    bench.hub.offline = true;
    assert_eq!(bench.get().unwrap(), snapshot);
    assert_eq!(bench.hub.model_folder("org/model", Some(COMMIT), &|_| (), &|_| Ok(())).unwrap(), snapshot);
}

#[test]
fn progress_is_told_from_the_first_to_the_last_byte_of_each_file() {
    let answers = hub(whole(), None);
    let server = Server::start(move |request, _| answers(request));
    let told = RefCell::new(Vec::new());
    let bench = Bench::new(server.url());
    let listen = |progress: Progress<'_>| match progress {
        Progress::Bytes { file: "model.safetensors", done, size } => told.borrow_mut().push((done, size)),
        Progress::Bytes { .. } => {}
        Progress::Notice { text } => panic!("{text}"),
    };
    bench.hub.model_folder("org/model", None, &listen, &|_| Ok(())).unwrap();
    let told = told.into_inner();
    assert_eq!((told[0], told[told.len() - 1]), ((0, 300_000), (300_000, 300_000)));
    assert!(told.is_sorted());
}

#[test]
fn a_revision_with_a_slash_is_one_segment_of_the_url_and_a_folder_of_the_cache() {
    let answers = hub(whole(), None);
    let server = Server::start(move |request, _| answers(request));
    let bench = Bench::new(server.url());
    bench.hub.model_folder("org/model", Some("v1/a"), &|_| (), &|_| Ok(())).unwrap();
    assert_eq!(server.count("GET /api/models/org/model/revision/v1%2Fa"), 1);
    assert_eq!(std::fs::read_to_string(bench.repository().join("refs/v1/a")).unwrap(), COMMIT);

    // `main` is the same commit: its files are there, and only the list is asked for.
    let asked = server.requests().len();
    bench.get().unwrap();
    assert_eq!(server.requests().len(), asked + 1);
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_where_it_redirects() {
    let elsewhere = Server::start(|request, _| {
        assert_eq!(request.path, "/signed/model.safetensors?signature=secret");
        part(request, &weights(1))
    });
    let answers = hub(whole(), Some(elsewhere.url()));
    let server = Server::start(move |request, _| answers(request));
    let mut bench = Bench::new(server.url());
    bench.hub.token = Some("hf_verysecret".into());
    let snapshot = bench.get().unwrap();
    assert!(std::fs::read(snapshot.join("model.safetensors")).unwrap() == weights(1));
    for request in server.requests() {
        assert_eq!(request.header("authorization"), Some("Bearer hf_verysecret"), "{}", request.line());
        assert_eq!(request.header("accept-encoding"), Some("identity"), "{}", request.line());
    }
    let sent = elsewhere.requests();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].header("authorization"), None);
}

#[test]
fn a_refusal_names_the_model_and_what_to_do_and_never_the_token() {
    for (status, token, message, hint) in [
        (401, None, "the hub wants a login for `org/model` (401)", "set `HF_TOKEN`"),
        (401, Some("hf_verysecret"), "does not accept the access token for `org/model` (401)", "/settings/tokens"),
        (403, None, "does not grant access to `org/model` (403)", "an account, set `HF_TOKEN`"),
        (403, Some("hf_verysecret"), "does not grant access to `org/model` (403)", "accept the licence"),
        (418, None, "418", "HF_ENDPOINT"),
    ] {
        let server = Server::start(move |_, _| Reply::new(status));
        let mut bench = Bench::new(server.url());
        bench.hub.token = token.map(str::to_owned);
        let fault = bench.fault();
        contains(&fault.message, &[message]);
        contains(fault.hint.as_deref().unwrap(), &[hint]);
        contains(&fault.to_string(), &["/api/models/org/model/revision/main"]);
        assert!(!fault.render(false).contains("verysecret"), "{fault}");
        assert_eq!(server.requests().len(), 1, "a refusal is not asked for again");
    }
}

#[test]
fn weights_of_a_gated_model_are_refused_although_its_list_is_not() {
    let server = troubled(|request, _| {
        request.path.ends_with("model.safetensors").then(|| Reply::new(403).header("X-Error-Code", "GatedRepo"))
    });
    let bench = Bench::new(server.url());
    contains(&bench.fault().to_string(), &["`org/model` (403)", &format!("{RESOLVE}/model.safetensors")]);
    bench.assert_no_weights();
}

#[test]
fn a_missing_model_revision_and_file_are_told_apart() {
    let nothing = Server::start(|_, _| Reply::new(404));
    contains(&Bench::new(nothing.url()).fault().message, &["the hub has no model `org/model`"]);

    let server = troubled(|request, _| request.path.ends_with("/tokenizer.json").then(|| Reply::new(404)));
    let bench = Bench::new(server.url());
    let fault = bench.hub.model_folder("org/model", Some("nope"), &|_| (), &|_| Ok(())).unwrap_err();
    contains(&fault.to_string(), &["`org/model` has no revision `nope`", "hint: its branches"]);
    contains(&bench.fault().to_string(), &["has no such file (404)", &format!("{RESOLVE}/tokenizer.json")]);
}

#[test]
fn a_repository_without_what_a_model_needs_is_refused_before_weights_are_downloaded() {
    let without = |gone: &[&str]| {
        let mut files = sharded();
        files.retain(|name, _| !gone.contains(&name.as_str()));
        files
    };
    let mut adapter = without(&["model.safetensors.index.json"]);
    adapter.insert("adapter_config.json".into(), b"{}".to_vec());
    let outside = files(&[("model.safetensors.index.json", br#"{"weight_map": {"a": "../b.safetensors"}}"#.to_vec())]);
    let broken = files(&[("model.safetensors.index.json", b"[1".to_vec())]);
    for (files, message) in [
        (without(&["config.json"]), "has no `config.json`"),
        (without(&["model.safetensors.index.json"]), "has no `model.safetensors` and no"),
        (without(&["model-00002-of-00002.safetensors"]), "has no `model-00002-of-00002.safetensors`, which its index"),
        (adapter, "is an adapter"),
        (outside, "names `../b.safetensors`"),
        (broken, "`model.safetensors.index.json` cannot be used"),
    ] {
        let answers = hub(files, None);
        let server = Server::start(move |request, _| answers(request));
        let bench = Bench::new(server.url());
        contains(&bench.fault().message, &[message]);
        assert!(!server.requests().iter().any(|request| request.path.ends_with(".safetensors")), "{message}");
        assert!(!bench.repository().join("refs/main").exists());
    }
}

#[test]
fn a_repository_that_is_no_whole_model_is_told_by_what_it_has() {
    let only = |files: &[(&str, &[u8])]| -> BTreeMap<String, Vec<u8>> {
        files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
    };
    let named = br#"{"base_model_name_or_path": "org/base"}"#;
    let adapter = "`org/model` is an adapter, expected a whole model";
    for (files, message, hint) in [
        // As PEFT saves one: without the model's configuration, and with it.
        (only(&[("adapter_config.json", named), ("adapter_model.safetensors", b"a")]), adapter, "made for, `org/base`"),
        (only(&[("adapter_config.json", named), ("config.json", b"{}")]), adapter, "made for, `org/base`"),
        (only(&[("adapter_config.json", b"{}"), ("adapter_model.bin", b"a")]), adapter, "`base_model_name_or_path`"),
        (only(&[("adapter_config.json", b"[")]), adapter, "`base_model_name_or_path`"),
        (
            only(&[("m.gguf", b"a"), ("README.md", b"a")]),
            "expected a model's repository; it has `m.gguf`",
            "safetensors",
        ),
        (
            only(&[("params.json", b"{}"), ("consolidated.safetensors", b"a")]),
            "no `config.json`, expected a model's repository; it has `consolidated.safetensors`",
            "transformers library",
        ),
        (only(&[("README.md", b"a")]), "no `config.json`, expected a model's repository", "transformers library"),
    ] {
        let answers = hub(files, None);
        let server = Server::start(move |request, _| answers(request));
        let bench = Bench::new(server.url());
        let fault = bench.fault();
        contains(&fault.message, &[message]);
        contains(fault.hint.as_deref().unwrap_or_default(), &[hint]);
        let weights = |path: &str| [".safetensors", ".bin", ".gguf"].iter().any(|end| path.ends_with(end));
        assert!(!server.requests().iter().any(|request| weights(&request.path)), "{message}");
    }
}

#[test]
fn what_is_wrong_with_the_small_files_is_found_before_weights_are_downloaded() {
    for files in [whole(), sharded()] {
        let answers = hub(files, None);
        let server = Server::start(move |request, _| answers(request));
        let bench = Bench::new(server.url());
        let refuse = |folder: &Path| {
            assert_eq!(names(folder), ["config.json", "tokenizer.json", "tokenizer_config.json"]);
            Err(Fault::new("not this one").hint("another"))
        };
        let fault = bench.hub.model_folder("org/model", None, &|_| (), &refuse).unwrap_err();
        assert_eq!(fault.message, "not this one");
        assert!(!server.requests().iter().any(|request| request.path.ends_with(".safetensors")));
        assert!(!bench.repository().join("refs/main").exists());
        bench.get().unwrap();
    }
}

#[test]
fn a_cut_download_goes_on_where_it_was_cut_as_often_as_new_bytes_come() {
    // Seven cuts are more than the five attempts that a download without progress has.
    let server = troubled(|request, _| {
        let reply = part(request, &weights(1));
        let left = reply.body.len();
        (request.line() == "GET /cached/model.safetensors").then(|| reply.cut(left.min(40_000)))
    });
    let bench = Bench::new(server.url());
    let snapshot = bench.get().unwrap();
    assert!(std::fs::read(snapshot.join("model.safetensors")).unwrap() == weights(1));
    let ranges: Vec<Option<String>> = server
        .requests()
        .iter()
        .filter(|request| request.line() == "GET /cached/model.safetensors")
        .map(|request| request.header("range").map(str::to_owned))
        .collect();
    let expected: Vec<Option<String>> =
        (0..8).map(|cut| (cut > 0).then(|| format!("bytes={}-", cut * 40_000))).collect();
    assert_eq!(ranges, expected);
}

#[test]
fn fewer_bytes_than_announced_are_not_taken_for_the_file() {
    let server = troubled(|request, _| {
        (request.line() == "HEAD /cached/model.safetensors").then(|| {
            Reply::new(200).header("ETag", etag("model.safetensors", &weights(1))).header("Content-Length", "300001")
        })
    });
    let bench = Bench::new(server.url());
    contains(&bench.fault().message, &["`model.safetensors` was answered with 300000 bytes, expected 300001"]);
    bench.assert_no_weights();
}

#[test]
fn a_server_that_always_starts_from_the_beginning_is_given_the_whole_file_or_given_up() {
    // One cut, then everything: what was there is written over, not added to.
    let server = troubled(|request, before| {
        let reply = Reply::new(200).body(weights(1));
        (request.line() == "GET /cached/model.safetensors")
            .then(|| if before == 0 { reply.cut(100_000) } else { reply })
    });
    let bench = Bench::new(server.url());
    let snapshot = bench.get().unwrap();
    assert!(std::fs::read(snapshot.join("model.safetensors")).unwrap() == weights(1));

    // Cut at the same place each time: the first attempt brings bytes, four more bring none.
    let server = troubled(|request, _| {
        (request.line() == "GET /cached/model.safetensors").then(|| Reply::new(200).body(weights(1)).cut(100_000))
    });
    let bench = Bench::new(server.url());
    let fault = bench.fault().to_string();
    contains(&fault, &["`model.safetensors` came only to 100000 of 300000 bytes", "cut", "hint: run it again"]);
    assert_eq!(server.count("GET /cached/model.safetensors"), 5);
    bench.assert_no_weights();
}

#[test]
fn a_download_that_failed_is_continued_by_the_next_run() {
    let first = troubled(|request, before| match request.line().as_str() {
        "GET /cached/model.safetensors" if before == 0 => Some(part(request, &weights(1)).cut(100_000)),
        "GET /cached/model.safetensors" => Some(Reply::new(503)),
        _ => None,
    });
    let mut bench = Bench::new(first.url());
    contains(&bench.fault().to_string(), &["503", &format!("{RESOLVE}/model.safetensors")]);
    assert_eq!(first.count("GET /cached/model.safetensors"), 1 + 4);
    bench.assert_no_weights();

    let second = troubled(|_, _| None);
    bench.hub.endpoint = second.url();
    let snapshot = bench.get().unwrap();
    assert!(std::fs::read(snapshot.join("model.safetensors")).unwrap() == weights(1));
    assert_eq!(second.requests().last().unwrap().header("range"), Some("bytes=100000-"));
    assert_eq!(second.count(&format!("HEAD {RESOLVE}/config.json")), 0, "a file that was whole came again");
}

#[test]
fn more_bytes_than_announced_are_not_taken_for_the_file() {
    let server = troubled(|request, _| {
        (request.line() == "HEAD /cached/model.safetensors").then(|| {
            Reply::new(200).header("ETag", etag("model.safetensors", &weights(1))).header("Content-Length", "299999")
        })
    });
    let bench = Bench::new(server.url());
    contains(&bench.fault().message, &["`model.safetensors` was answered with 300000 bytes, expected 299999"]);
    bench.assert_no_weights();
}

#[test]
fn an_empty_file_is_a_file() {
    let mut files = whole();
    files.insert("merges.txt".into(), Vec::new());
    let answers = hub(files, None);
    let server = Server::start(move |request, _| answers(request));
    let bench = Bench::new(server.url());
    let snapshot = bench.get().unwrap();
    assert_eq!(std::fs::read(snapshot.join("merges.txt")).unwrap(), b"");
}

/// Without it an encoder would pool in another way than it was trained to.
#[test]
fn how_an_encoder_pools_comes_with_it() {
    let mut files = whole();
    files.insert("1_Pooling/config.json".into(), b"{\"pooling_mode_cls_token\": true}".to_vec());
    let answers = hub(files.clone(), None);
    let server = Server::start(move |request, _| answers(request));
    let bench = Bench::new(server.url());
    let snapshot = bench.get().unwrap();
    assert_eq!(std::fs::read(snapshot.join("1_Pooling/config.json")).unwrap(), files["1_Pooling/config.json"]);
    assert!(snapshot.join("1_Pooling/config.json").is_symlink());
    let asked = server.requests().len();
    bench.get().unwrap();
    assert_eq!(server.requests().len(), asked);
}

#[test]
fn a_hub_with_a_passing_problem_is_asked_again_and_then_given_up() {
    let server = troubled(|_, before| (before == 0).then(|| Reply::new(500)));
    let notices = RefCell::new(Vec::new());
    let bench = Bench::new(server.url());
    let listen = |progress: Progress<'_>| {
        if let Progress::Notice { text } = progress {
            notices.borrow_mut().push(text.to_owned());
        }
    };
    bench.hub.model_folder("org/model", None, &listen, &|_| Ok(())).unwrap();
    contains(&notices.borrow()[0], &["the list of files", "500", "trying again"]);

    for (status, hint) in [(429, "too many requests"), (503, "try again later")] {
        let server = Server::start(move |_, _| Reply::new(status).header("Retry-After", "0"));
        let fault = Bench::new(server.url()).fault().to_string();
        contains(&fault, &[&status.to_string(), hint, "/api/models/org/model/revision/main"]);
        assert_eq!(server.requests().len(), 5);
    }
}

#[test]
fn an_answer_that_is_not_the_hubs_is_said_to_be_none() {
    let path = "GET /api/models/org/model/revision/main";
    let listings = [
        "<html>".to_owned(),
        r#"{"sha": "../../../etc", "siblings": []}"#.to_owned(),
        format!(r#"{{"sha": "{COMMIT}"}}"#),
    ];
    for body in listings {
        let server = troubled(move |request, _| (request.line() == path).then(|| Reply::new(200).body(body.clone())));
        contains(&Bench::new(server.url()).fault().to_string(), &["not a list of a model's files", "HF_ENDPOINT"]);
    }
    // An `ETag` becomes the name of a file; one that leads elsewhere is none.
    let server = troubled(|request, _| {
        (request.line() == "HEAD /cached/config.json").then(|| Reply::new(200).header("ETag", "\"../../../x\""))
    });
    contains(&Bench::new(server.url()).fault().to_string(), &["does not give the file's `ETag`"]);
    let server = Server::start(|request, _| Reply::new(302).header("Location", request.path.clone()));
    contains(&Bench::new(server.url()).fault().to_string(), &["redirects in a circle"]);
}

/// Beside a folder of this name: a slip in a path is more likely than a model of the hub.
#[test]
fn a_name_in_a_folder_that_is_here_may_be_meant_as_a_path() {
    let bench = Bench::new("http://127.0.0.1:1".into());
    let fault = bench.hub.model_folder("src/nothing", None, &|_| (), &|_| Ok(())).unwrap_err().to_string();
    contains(
        &fault,
        &["cannot reach", "hint: was a folder meant? there is a folder `src` here, and no `nothing` in it"],
    );
}

#[test]
fn a_hub_that_is_not_there_is_named_without_the_password_in_its_address() {
    let fault = Bench::new("http://user:verysecret@127.0.0.1:1".into()).fault().to_string();
    contains(&fault, &["cannot reach `http://127.0.0.1:1`: the connection was refused", "hint: check the network"]);
    assert!(!fault.contains("verysecret"), "{fault}");
}
