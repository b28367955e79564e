//! A folder that goes up to a hub on loopback, which keeps what it is given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;
use crate::{Push, Pushed};

const TOKEN: &str = "hf_verysecret";

/// Where large files go; nobody there may see the token.
struct Store {
    server: Server,
    kept: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Store {
    /// Fails the first `failing` attempts of each address.
    fn start(failing: usize) -> Self {
        let kept: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
        let keeps = Arc::clone(&kept);
        let server = Server::start(move |request, before| {
            assert_eq!(request.method, "PUT");
            assert_eq!(request.header("authorization"), None, "the token is the hub's alone");
            if before < failing {
                return Reply::new(503);
            }
            let name = request.path.split('?').next().expect("a path").to_owned();
            let mark = format!("\"mark of {name}\"");
            keeps.lock().unwrap().insert(name, request.body.clone());
            Reply::new(200).header("ETag", mark)
        });
        Self { server, kept }
    }
}

/// Answers as the hub does. `chunk` is the size of parts, if large files go up in parts; `has` says what is there already.
fn hub_that_takes(store: &Store, chunk: Option<u64>, has: bool) -> Server {
    let address = store.server.url();
    let own = Arc::new(Mutex::new(String::new()));
    let known = Arc::clone(&own);
    let server = Server::start(move |request, _| {
        assert_eq!(request.header("authorization"), Some("Bearer hf_verysecret"), "{}", request.line());
        let body = || serde_json::from_slice::<Value>(&request.body).expect("JSON");
        let reply = |value: Value| Reply::new(200).body(value.to_string());
        match request.path.as_str() {
            "/api/repos/create" => Reply::new(409).body(json!({"error": "You already created this repo"}).to_string()),
            "/api/models/org/model/preupload/main" => {
                let files = body()["files"].as_array().expect("files").clone();
                let mode = |file: &Value| {
                    if file["path"].as_str().expect("a path").ends_with(".safetensors") { "lfs" } else { "regular" }
                };
                let files = files.iter().map(|file| json!({"path": file["path"], "uploadMode": mode(file)}));
                reply(json!({ "files": files.collect::<Vec<_>>() }))
            }
            "/org/model.git/info/lfs/objects/batch" => {
                let own = known.lock().unwrap().clone();
                let object = |object: &Value| {
                    let oid = object["oid"].as_str().expect("a name");
                    let mut header = json!({ "X-Own": "kept" });
                    let mut href = format!("{address}/{oid}?signature=secret");
                    if let Some(chunk) = chunk {
                        header = json!({ "chunk_size": chunk.to_string() });
                        for part in 1..=object["size"].as_u64().expect("a size").div_ceil(chunk) {
                            header[format!("{part:05}")] = format!("{address}/{oid}/{part}?signature=secret").into();
                        }
                        href = format!("{own}/complete/{oid}");
                    }
                    let upload = json!({ "href": href, "header": header });
                    let verify = json!({ "href": format!("{own}/verify") });
                    match has {
                        true => json!({ "oid": oid, "size": object["size"] }),
                        false => {
                            json!({ "oid": oid, "size": object["size"], "actions": { "upload": upload, "verify": verify } })
                        }
                    }
                };
                let objects: Vec<Value> = body()["objects"].as_array().expect("objects").iter().map(object).collect();
                reply(json!({ "objects": objects }))
            }
            "/api/models/org/model/commit/main" => reply(json!({ "commitOid": COMMIT, "success": true })),
            path if path == "/verify" || path.starts_with("/complete/") => reply(json!({})),
            path => panic!("nobody asks for {path}"),
        }
    });
    *own.lock().unwrap() = server.url();
    server
}

/// A folder with two small files and a large one, and a hidden one that stays.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("extra")).unwrap();
    for (name, bytes) in [
        ("adapter_model.safetensors", weights(1)),
        ("README.md", b"# A card\n".to_vec()),
        ("extra/note.txt", "größer".into()),
        (".hidden", b"mine".to_vec()),
    ] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn push(server: &Server, token: Option<&str>, progress: &dyn Fn(Progress<'_>)) -> Result<Pushed, Fault> {
    let mut bench = Bench::new(server.url());
    bench.hub.token = token.map(str::to_owned);
    let folder = folder();
    let push = Push { folder: folder.path(), name: "org/model", revision: None, private: true, message: "Add it" };
    bench.hub.push(&push, progress)
}

/// The lines of the commit.
fn committed(server: &Server) -> Vec<Value> {
    let requests = server.requests();
    let commit = requests.iter().find(|request| request.path.contains("/commit/")).expect("a commit");
    let text = String::from_utf8(commit.body.clone()).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn small_files_go_into_the_commit_and_large_ones_to_their_place_before_it() {
    for chunk in [None, Some(100_000)] {
        let store = Store::start(0);
        let server = hub_that_takes(&store, chunk, false);
        let told = RefCell::new(0);
        let pushed = push(&server, Some(TOKEN), &|progress| {
            if let Progress::Bytes { done, size, .. } = progress {
                *told.borrow_mut() += usize::from(done == size);
            }
        });
        let pushed = pushed.unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!((pushed.commit.as_str(), pushed.files), (COMMIT, 3));
        assert_eq!(pushed.page, format!("{}/org/model", server.url()));
        let oid = format!("{:x}", Sha256::digest(weights(1)));
        let expected = [
            json!({"key": "header", "value": {"summary": "Add it", "description": ""}}),
            json!({"key": "file", "value": {"path": "README.md", "content": "IyBBIGNhcmQK", "encoding": "base64"}}),
            json!({"key": "lfsFile", "value": {"path": "adapter_model.safetensors", "algo": "sha256", "oid": oid, "size": 300_000}}),
            json!({"key": "file", "value": {"path": "extra/note.txt", "content": "Z3LDtsOfZXI=", "encoding": "base64"}}),
        ];
        assert_eq!(committed(&server), expected);
        let kept = store.kept.lock().unwrap();
        let whole: Vec<u8> = kept.values().flatten().copied().collect();
        assert!(whole == weights(1), "in the order of the parts");
        assert_eq!(kept.len(), if chunk.is_some() { 3 } else { 1 });
        assert_eq!(*told.borrow(), 1, "told once that it is whole");
        if chunk.is_some() {
            let complete = server.requests().into_iter().find(|request| request.path.starts_with("/complete/"));
            let parts: Value = serde_json::from_slice(&complete.expect("the end of the parts").body).expect("JSON");
            assert_eq!(parts["parts"][2], json!({"partNumber": 3, "etag": format!("\"mark of /{oid}/3\"")}));
        } else {
            assert_eq!(store.server.requests()[0].header("x-own"), Some("kept"));
        }
        assert_eq!(server.count("POST /verify"), 1);
    }
}

#[test]
fn what_the_hub_has_is_not_sent_again() {
    let store = Store::start(0);
    let server = hub_that_takes(&store, None, true);
    push(&server, Some(TOKEN), &|_| ()).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(store.server.requests().len(), 0);
    assert_eq!(committed(&server).len(), 4);
}

#[test]
fn a_part_that_does_not_arrive_is_sent_again() {
    let store = Store::start(2);
    let server = hub_that_takes(&store, Some(100_000), false);
    push(&server, Some(TOKEN), &|_| ()).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(store.server.requests().len(), 9);
    let whole: Vec<u8> = store.kept.lock().unwrap().values().flatten().copied().collect();
    assert!(whole == weights(1));
    let store = Store::start(100);
    let server = hub_that_takes(&store, None, false);
    let fault = push(&server, Some(TOKEN), &|_| ()).unwrap_err();
    contains(&fault.to_string(), &["answers 503", "try again later"]);
    assert!(!fault.to_string().contains("secret"), "{fault}");
    assert_eq!(server.count("POST /api/models/org/model/commit/main"), 0, "half of it is nothing");
}

#[test]
fn refusals_say_what_to_do_and_never_the_token() {
    for (status, body, message, hint) in [
        (401, "{}", "does not accept the access token (401)", "/settings/tokens"),
        (
            403,
            r#"{"error": "You don't have the rights"}"#,
            "may not write to `org/model` (403): You don't have the rights",
            "HF_TOKEN",
        ),
        (404, "{}", "(404)", "check the name"),
        (400, r#"{"error": "bad card"}"#, "answers 400 Bad Request: bad card", "no file of the repository was changed"),
        (500, "oops", "answers 500", "later"),
        (200, "no json", "it is no JSON", "HF_ENDPOINT"),
    ] {
        let server = Server::start(move |request, _| match request.path.as_str() {
            "/api/repos/create" => Reply::new(200).body("{}"),
            _ => Reply::new(status).body(body),
        });
        let fault = push(&server, Some(TOKEN), &|_| ()).unwrap_err();
        contains(&fault.message, &[message]);
        contains(fault.hint.as_deref().unwrap(), &[hint]);
        assert!(!fault.render(false).contains("verysecret"), "{fault}");
    }
}

#[test]
fn nothing_is_asked_without_a_token_a_name_or_files() {
    let server = Server::start(|_, _| panic!("nobody asks"));
    let fault = push(&server, None, &|_| ()).unwrap_err();
    contains(&fault.to_string(), &["takes files of those alone whom it knows", "set `HF_TOKEN`"]);
    let mut bench = Bench::new(server.url());
    bench.hub.token = Some(TOKEN.into());
    let (full, empty) = (folder(), tempfile::tempdir().unwrap());
    let mut fault = |folder: &Path, name: &str, offline: bool| {
        bench.hub.offline = offline;
        let push = Push { folder, name, revision: None, private: false, message: "m" };
        bench.hub.push(&push, &|_| ()).unwrap_err().to_string()
    };
    contains(&fault(full.path(), "model", false), &["cannot be the name of a repository", "organisation/name"]);
    contains(&fault(full.path(), "org/model", true), &["HF_HUB_OFFLINE"]);
    contains(&fault(empty.path(), "org/model", false), &["no file in this folder"]);
    contains(&fault(&empty.path().join("none"), "org/model", false), &["cannot read the folder"]);
    assert_eq!(server.requests().len(), 0);
}
