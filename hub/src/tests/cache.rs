//! What happens on this side of the hub: names, the environment, the cache and its disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Bench, NOBODY, RESOLVE, contains, names, sharded, troubled, weights, whole};
use crate::loopback::{COMMIT, Server, etag, hub};
use crate::{Hub, Progress, VARIABLES};

/// A snapshot of the configuration and the weights alone, as another program leaves it.
fn of_another_program(bench: &Bench) -> PathBuf {
    let snapshot = bench.repository().join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(bench.repository().join("refs")).unwrap();
    std::fs::write(bench.repository().join("refs/main"), COMMIT).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::write(snapshot.join(name), name).unwrap();
    }
    snapshot
}

#[test]
fn offline_names_what_the_cache_lacks() {
    let mut bench = Bench::new(NOBODY.into());
    bench.hub.offline = true;
    contains(&bench.fault().to_string(), &["the cache has no `org/model` at `main`", "unset `HF_HUB_OFFLINE`"]);

    let answers = hub(sharded(), None);
    let server = Server::start(move |request, _| answers(request));
    bench.hub = Hub { endpoint: server.url(), offline: false, ..bench.hub };
    let snapshot = bench.get().unwrap();
    // A blob that was deleted leaves a link to nothing.
    std::fs::remove_file(bench.repository().join("blobs").join(etag("model-00002-of-00002.safetensors", &weights(2))))
        .unwrap();
    bench.hub.offline = true;
    contains(&bench.fault().message, &["the cache has no `model-00002-of-00002.safetensors` of `org/model` at `main`"]);
    bench.hub.offline = false;
    assert_eq!(bench.get().unwrap(), snapshot);
    assert!(std::fs::read(snapshot.join("model-00002-of-00002.safetensors")).unwrap() == weights(2));
    assert!(snapshot.join("model-00002-of-00002.safetensors").is_symlink());
    // As a cache that was fetched by the commit alone: the branch leads nowhere.
    std::fs::remove_file(bench.repository().join("refs/main")).unwrap();
    bench.hub.offline = true;
    let fault = bench.fault().to_string();
    contains(&fault, &["the cache has no `org/model` at `main`", &format!("`model.revision = \"{COMMIT}\"` takes")]);
    assert_eq!(bench.hub.model_folder("org/model", Some(COMMIT), &|_| (), &|_| Ok(())).unwrap(), snapshot);
}

#[test]
fn a_cache_filled_by_another_program_is_completed_by_the_hub_and_good_enough_without_one() {
    let mut bench = Bench::new(NOBODY.into());
    let snapshot = of_another_program(&bench);
    let (folder, notices) = bench.get_with_notices();
    assert_eq!(folder, snapshot);
    contains(&notices, &["cannot reach", "using `org/model` from the cache"]);
    assert_eq!(names(&snapshot), ["config.json", "model.safetensors"]);

    let server = troubled(|_, _| None);
    bench.hub.endpoint = server.url();
    assert_eq!(bench.get().unwrap(), snapshot);
    assert_eq!(names(&snapshot), ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);
    assert_eq!(std::fs::read_to_string(snapshot.join("model.safetensors")).unwrap(), "model.safetensors");
}

/// Every file of the model and no mark of those that it does not have, in a cache where no note can be taken.
#[test]
fn a_complete_cache_that_cannot_be_written_is_good_enough() {
    let server = troubled(|_, _| None);
    let bench = Bench::new(server.url());
    let snapshot = bench.get().unwrap();
    std::fs::remove_dir_all(bench.repository().join(".no_exist")).unwrap();
    // Whoever may do everything is not kept from writing by rights: a file where a folder should be keeps everyone.
    std::fs::write(bench.repository().join(".no_exist"), "").unwrap();
    let locks = bench.hub.cache.join(".locks");
    std::fs::remove_dir_all(&locks).unwrap();
    std::fs::write(&locks, "").unwrap();
    let asked = server.requests().len();
    assert_eq!(bench.get().unwrap(), snapshot);
    assert_eq!(server.requests().len(), asked + 1, "the list was asked for, and nothing else");
    assert_eq!(bench.hub.model_folder("org/model", Some(COMMIT), &|_| (), &|_| Ok(())).unwrap(), snapshot);
    // Another name of the same commit cannot be noted either.
    std::fs::remove_dir_all(bench.repository().join("refs")).unwrap();
    std::fs::write(bench.repository().join("refs"), "").unwrap();
    assert_eq!(bench.get().unwrap(), snapshot);
}

/// Of a repository's other files those that are read cannot be left out, and those that only go along can.
#[test]
fn a_cache_that_cannot_be_written_and_lacks_a_file_says_which() {
    let mut files = whole();
    files.insert("merges.txt".into(), b"a b".to_vec());
    let answers = hub(files, None);
    let server = Server::start(move |request, _| answers(request));
    let bench = Bench::new(server.url());
    let snapshot = bench.get().unwrap();
    let locks = bench.hub.cache.join(".locks");
    std::fs::remove_dir_all(&locks).unwrap();
    std::fs::write(&locks, "").unwrap();
    std::fs::remove_file(snapshot.join("merges.txt")).unwrap();
    let (folder, notices) = bench.get_with_notices();
    assert_eq!(folder, snapshot);
    contains(&notices, &["the cache cannot be used", "`merges.txt` of `org/model` is left out"]);
    std::fs::remove_file(snapshot.join("tokenizer_config.json")).unwrap();
    contains(&bench.fault().to_string(), &["the cache cannot be used", ".locks", "`HF_HOME`"]);
}

/// A branch stays at the commit that the cache has, and a hub that says no does not take away what is there.
#[test]
fn what_is_in_the_cache_is_asked_for_at_its_commit_and_used_whatever_the_hub_says() {
    let moved = |request: &super::Request| request.path == "/api/models/org/model/revision/main";
    let server = troubled(move |request, _| moved(request).then(|| panic!("the branch was asked for")));
    let mut bench = Bench::new(server.url());
    let snapshot = of_another_program(&bench);
    for status in [401, 403, 404, 418] {
        let refusing = Server::start(move |_, _| super::Reply::new(status));
        bench.hub.endpoint = refusing.url();
        let (folder, notices) = bench.get_with_notices();
        assert_eq!(folder, snapshot, "{status}");
        contains(&notices, &["using `org/model` from the cache"]);
    }
    bench.hub.endpoint = server.url();
    assert_eq!(bench.get().unwrap(), snapshot);
    assert!(snapshot.join("tokenizer.json").exists());
}

/// As where another program has downloaded weights and configuration alone.
#[test]
fn a_tokenizer_that_the_cache_lacks_is_told_of_when_the_hub_is_not_to_be_asked() {
    let mut bench = Bench::new(super::NOBODY.into());
    bench.hub.offline = true;
    let snapshot = of_another_program(&bench);
    let (folder, notices) = bench.get_with_notices();
    assert_eq!(folder, snapshot);
    contains(&notices, &["no `tokenizer.json` of `org/model`", "unset `HF_HUB_OFFLINE`"]);
    // Where the repository is known to have none there is nothing to download.
    let absent = bench.repository().join(".no_exist").join(COMMIT);
    std::fs::create_dir_all(&absent).unwrap();
    std::fs::write(absent.join("tokenizer.json"), "").unwrap();
    assert_eq!(bench.get_with_notices(), (snapshot, String::new()));
}

/// A tokenizer with several templates keeps all but one in a folder.
#[test]
fn further_templates_come_along_and_what_else_lies_in_folders_does_not() {
    let mut files = whole();
    for name in ["additional_chat_templates/rag.jinja", "additional_chat_templates/more/a.jinja"] {
        files.insert(name.into(), name.into());
    }
    let answers = hub(files, None);
    let server = Server::start(move |request, _| answers(request));
    let bench = Bench::new(server.url());
    let folder = bench.get().unwrap().join("additional_chat_templates");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    assert_eq!(read("rag.jinja").as_deref(), Some("additional_chat_templates/rag.jinja"));
    assert_eq!(read("more/a.jinja"), None);
}

#[test]
fn a_file_of_certificates_that_has_none_is_named() {
    let mut bench = Bench::new("https://127.0.0.1:1".into());
    let file = bench.folder.path().join("authorities.pem");
    bench.hub.certificates = Some(file.clone());
    contains(&bench.fault().to_string(), &["authorities.pem", "cannot be read", "`SSL_CERT_FILE`"]);
    std::fs::write(&file, "not a certificate").unwrap();
    contains(&bench.fault().to_string(), &["authorities.pem", "no certificate", "`SSL_CERT_FILE`"]);
}

/// Of another size, and of the same size with other bytes.
#[test]
fn a_blob_that_is_not_what_its_name_says_is_downloaded_again() {
    let server = troubled(|_, _| None);
    for (asked, blob) in [weights(1)[1..].to_vec(), weights(2)].into_iter().enumerate() {
        let bench = Bench::new(server.url());
        let blobs = bench.repository().join("blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(etag("model.safetensors", &weights(1))), blob).unwrap();
        let snapshot = bench.get().unwrap();
        assert!(std::fs::read(snapshot.join("model.safetensors")).unwrap() == weights(1));
        assert_eq!(server.count("GET /cached/model.safetensors"), asked + 1);
    }
}

#[test]
fn a_file_that_another_process_is_downloading_is_waited_for() {
    let server = troubled(|_, _| None);
    let bench = Bench::new(server.url());
    // The lock that `huggingface_hub` takes.
    let locks = bench.hub.cache.join(".locks/models--org--model");
    std::fs::create_dir_all(&locks).unwrap();
    let lock = std::fs::File::create(locks.join(format!("{}.lock", etag("model.safetensors", &weights(1))))).unwrap();
    lock.lock().unwrap();
    let listen = |progress: Progress<'_>| {
        if let Progress::Notice { text } = progress {
            contains(text, &["another process is downloading model.safetensors of org/model"]);
            std::fs::write(bench.repository().join("blobs").join(etag("model.safetensors", &weights(1))), weights(1))
                .unwrap();
            lock.unlock().unwrap();
        }
    };
    let snapshot = bench.hub.model_folder("org/model", None, &listen, &|_| Ok(())).unwrap();
    assert!(std::fs::read(snapshot.join("model.safetensors")).unwrap() == weights(1));
    assert_eq!(server.count(&format!("GET {RESOLVE}/model.safetensors")), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_named() {
    let server = troubled(|_, _| None);
    let bench = Bench::new(server.url());
    let blobs = bench.repository().join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{}.incomplete", etag("model.safetensors", &weights(1))));
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    contains(&bench.fault().to_string(), &["no space is left on the disk", ".incomplete", "`HF_HOME`"]);
    bench.assert_no_weights();
}

#[test]
fn a_cache_that_cannot_be_made_is_named() {
    let server = troubled(|_, _| None);
    let bench = Bench::new(server.url());
    std::fs::write(&bench.hub.cache, "a file in the place of the folder").unwrap();
    contains(&bench.fault().to_string(), &["the cache cannot be used", "set `HF_HOME`"]);
}

#[test]
fn a_local_folder_is_returned_as_it_is_and_a_wrong_one_says_what_would_be_right() {
    let bench = Bench::new(NOBODY.into());
    let get = |path: &str, revision| bench.hub.model_folder(path, revision, &|_| (), &|_| Ok(()));
    let folder = bench.folder.path().to_str().unwrap();
    assert_eq!(get(folder, None).unwrap(), bench.folder.path());
    // The tests run in the crate's folder: an existing path needs no `./` before it.
    assert_eq!(get("src/tests", None).unwrap(), Path::new("src/tests"));
    contains(&get(folder, Some("main")).unwrap_err().to_string(), &["has no `revision`", "hint:"]);
    contains(&get("src/lib.rs", None).unwrap_err().to_string(), &["is a file", "hint:"]);
    for missing in ["./org/model", "/nowhere/at/all", "~/no-such-folder-of-mine", "~nobody/model"] {
        let fault = get(missing, None).unwrap_err().to_string();
        contains(&fault, &["there is no folder", "on this disk", "`organisation/name`"]);
    }
}

#[test]
fn a_name_or_a_revision_that_cannot_be_one_is_refused_before_anyone_is_asked() {
    let bench = Bench::new(NOBODY.into());
    for name in
        ["", " ", "a/b/c", "gpt2-no-such-folder", "a b/c", "a/", "a/..", "a--b/c", "a/b.git", "a/b?c", "ä/b", "a/b\n"]
    {
        let fault = bench.hub.model_folder(name, None, &|_| (), &|_| Ok(())).unwrap_err();
        contains(&fault.to_string(), &["neither a folder nor the name of a model", "`organisation/name`"]);
    }
    for revision in ["", " ", "a b", "../../x", "/main", "a//b", "a/.b", "v1:x", "a\0"] {
        let fault = bench.hub.model_folder("org/model", Some(revision), &|_| (), &|_| Ok(())).unwrap_err();
        contains(&fault.to_string(), &["cannot be a revision", "hint:"]);
    }
}

#[test]
fn the_environment_names_the_hub_as_it_does_for_python() {
    let from = |variables: &[(&str, &str)]| {
        let variables: BTreeMap<String, String> =
            variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Hub::from_variables(|name| variables.get(name).map(Into::into))
    };
    let home = tempfile::tempdir().unwrap();
    let home = home.path().to_str().unwrap();
    let plain = from(&[("HOME", home)]).unwrap();
    assert_eq!(plain.endpoint, "https://huggingface.co");
    assert_eq!(plain.cache, Path::new(home).join(".cache/huggingface/hub"));
    assert_eq!((plain.token, plain.offline), (None, false));

    std::fs::write(Path::new(home).join("token"), "hf_file\n").unwrap();
    let set = from(&[("HOME", home), ("HF_HOME", "~/"), ("HF_ENDPOINT", "http://mirror/hf/"), ("HF_HUB_OFFLINE", "1")]);
    let set = set.unwrap();
    assert_eq!((set.endpoint.as_str(), set.offline), ("http://mirror/hf", true));
    assert_eq!(set.cache, Path::new(home).join("hub"));
    assert_eq!(set.token.as_deref(), Some("hf_file"));

    let over = [("HF_HOME", home), ("HF_TOKEN", " hf_own "), ("HF_HUB_CACHE", "/c"), ("HUGGINGFACE_HUB_CACHE", "/d")];
    let over = from(&over).unwrap();
    assert_eq!((over.token.as_deref(), over.cache.as_path()), (Some("hf_own"), Path::new("/c")));
    assert_eq!(from(&[("HF_HOME", home), ("HUGGINGFACE_HUB_CACHE", "/d")]).unwrap().cache, Path::new("/d"));
    assert!(!from(&[("HF_HOME", home), ("HF_HUB_OFFLINE", "0")]).unwrap().offline);

    let trusting = from(&[("HF_HOME", home), ("SSL_CERT_FILE", "/a.pem"), ("REQUESTS_CA_BUNDLE", "/b.pem")]).unwrap();
    assert_eq!(trusting.certificates.as_deref(), Some(Path::new("/a.pem")));

    let fault = from(&[("HF_HOME", home), ("HF_TOKEN", "very secret")]).err().unwrap();
    assert!(!fault.to_string().contains("secret"), "{fault}");
    contains(&from(&[("HF_HOME", home), ("HF_ENDPOINT", "mirror")]).err().unwrap().to_string(), &["HF_ENDPOINT"]);
}

/// Neither another cache than was meant nor a private model that is not there.
#[cfg(unix)]
#[test]
fn what_the_environment_says_in_no_text_is_a_fault() {
    use std::os::unix::ffi::OsStrExt;
    let home = tempfile::tempdir().unwrap();
    let path = home.path();
    let bytes = std::ffi::OsStr::from_bytes(b"/cache\xff");
    for wrong in VARIABLES {
        let of = |name: &str| match name {
            name if name == wrong => Some(bytes.to_owned()),
            "HOME" => Some(path.as_os_str().to_owned()),
            _ => None,
        };
        let told = Hub::from_variables(of).err().unwrap().to_string();
        contains(&told, &[wrong, "is not UTF-8 text", "hint: "]);
    }
    std::fs::create_dir_all(path.join(".cache/huggingface/token")).unwrap();
    let with = |offline: &'static str| {
        Hub::from_variables(move |name| match name {
            "HOME" => Some(path.as_os_str().to_owned()),
            "HF_HUB_OFFLINE" => Some(offline.into()),
            _ => None,
        })
    };
    contains(&with("0").err().unwrap().to_string(), &["access token", "huggingface/token", "hint: "]);
    assert!(with("1").is_ok());
}
