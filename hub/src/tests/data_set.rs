//! Data sets: the list of their files, those that are wanted, and what the cache knows without a hub.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bench, NOBODY, contains};
use crate::Progress;
use crate::loopback::{COMMIT, Reply, Request, Server, etag, part};

const FIRST: &str = "data/train-00000-of-00002.parquet";
const SECOND: &str = "data/train-00001-of-00002.parquet";
const ODD: &str = "data/language=en/a row.jsonl";

fn rows() -> BTreeMap<String, Vec<u8>> {
    let file = |name: &str| (name.to_owned(), format!("the rows of {name}").repeat(1000).into_bytes());
    ["README.md", FIRST, SECOND, ODD].into_iter().map(file).collect()
}

/// Answers as the hub does for the data set `org/rows`; a name in its list is one that leads out of the cache.
fn hub() -> impl Fn(&Request) -> Reply {
    let files = rows();
    move |request| {
        if request.path == "/api/datasets/org/rows" {
            return Reply::new(200).body("{}");
        }
        if let Some(revision) = request.path.strip_prefix("/api/datasets/org/rows/revision/") {
            if !["main", COMMIT, "refs%2Fconvert%2Fparquet"].contains(&revision) {
                return Reply::new(404);
            }
            let names = files.keys().map(String::as_str).chain(["../outside.jsonl", "/root.jsonl", "a//b.jsonl"]);
            let siblings: Vec<String> = names.map(|name| format!(r#"{{"rfilename":"{name}"}}"#)).collect();
            return Reply::new(200).body(format!(r#"{{"sha":"{COMMIT}","siblings":[{}]}}"#, siblings.join(",")));
        }
        let file = request.path.strip_prefix(&format!("/datasets/org/rows/resolve/{COMMIT}/"));
        let file = file.map(|file| file.replace("%20", " ").replace("%3D", "="));
        match file.and_then(|file| Some((files.get(&file)?, file))) {
            Some((body, file)) => part(request, body).header("ETag", format!("\"{}\"", etag(&file, body))),
            None => Reply::new(404),
        }
    }
}

fn served() -> Server {
    let hub = hub();
    Server::start(move |request, _| hub(request))
}

fn wanted(files: &[&str]) -> Vec<String> {
    files.iter().map(|file| (*file).to_owned()).collect()
}

#[test]
fn files_come_once_and_are_then_found_without_a_request_and_without_a_hub() {
    let server = served();
    let mut bench = Bench::new(server.url());
    let nobody = |_: Progress<'_>| ();
    let data_set = bench.hub.data_set("org/rows", None, &nobody).unwrap();
    let all: BTreeSet<String> = rows().into_keys().collect();
    assert_eq!(*data_set.files(), all, "names that lead out of the folder are none of its files");
    let paths = data_set.bring(&wanted(&[FIRST, ODD])).unwrap();
    // The layout that `huggingface_hub` reads.
    let repository = bench.hub.cache.join("datasets--org--rows");
    assert_eq!(paths, [FIRST, ODD].map(|file| repository.join("snapshots").join(COMMIT).join(file)));
    assert_eq!(std::fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    for (path, file) in paths.iter().zip([FIRST, ODD]) {
        assert!(std::fs::read(path).unwrap() == rows()[file], "{file} differs");
        assert!(path.is_symlink());
    }
    drop(data_set);
    let asked = server.requests().len();
    let again = bench.hub.data_set("org/rows", None, &nobody).unwrap();
    assert_eq!(again.bring(&wanted(&[FIRST])).unwrap(), paths[..1]);
    assert_eq!(server.requests().len(), asked, "all was known");
    // Another file comes at the commit that the branch had, without a new list.
    again.bring(&wanted(&[SECOND])).unwrap();
    assert_eq!(server.count("GET /api/datasets/org/rows/revision/main"), 1);
    drop(again);
    drop(server);
    bench.hub.endpoint = NOBODY.into();
    bench.hub.offline = true;
    let offline = bench.hub.data_set("org/rows", None, &nobody).unwrap();
    assert_eq!(*offline.files(), all);
    assert_eq!(offline.bring(&wanted(&[FIRST, SECOND])).unwrap().len(), 2);
    let fault = offline.bring(&wanted(&["README.md"])).unwrap_err().to_string();
    contains(&fault, &["the cache has no `README.md` of `org/rows` at `main`", "unset `HF_HUB_OFFLINE`"]);
    let other = bench.hub.data_set("org/other", None, &nobody).err().unwrap().to_string();
    contains(&other, &["the cache has no `org/other` at `main`"]);
    // As Python leaves a cache: nobody has noted which files there are.
    std::fs::remove_dir_all(repository.join(".trainer")).unwrap();
    let held = bench.hub.data_set("org/rows", None, &nobody).unwrap();
    assert!(held.is_partial());
    assert_eq!(*held.files(), BTreeSet::from([FIRST, SECOND, ODD].map(str::to_owned)));
}

#[test]
fn a_revision_is_one_segment_and_what_is_not_there_is_told_of_a_data_set() {
    let server = served();
    let bench = Bench::new(server.url());
    let nobody = |_: Progress<'_>| ();
    bench.hub.data_set("org/rows", Some("refs/convert/parquet"), &nobody).unwrap();
    let fault =
        |name: &str, revision: Option<&str>| bench.hub.data_set(name, revision, &nobody).err().unwrap().to_string();
    contains(&fault("org/rows", Some("nope")), &["`org/rows` has no revision `nope`", "/datasets/org/rows/tree/main`"]);
    contains(&fault("org/none", None), &["the hub has no data set `org/none`"]);
    contains(&fault("nowhere", None), &["is not the name of a data set on the hub", "org/name/subset@main:train"]);
    contains(&fault("org/rows", Some("a b")), &["cannot be a revision"]);
    let refused = Server::start(|_, _| Reply::new(401));
    let mut bench = Bench::new(refused.url());
    bench.hub.token = Some("hf_verysecret".into());
    let fault = bench.hub.data_set("org/rows", None, &nobody).err().unwrap();
    contains(&fault.to_string(), &["does not accept the access token for `org/rows` (401)"]);
    assert!(!fault.render(false).contains("verysecret"));
}

#[test]
fn rows_that_are_not_what_their_hash_says_are_not_taken() {
    let hub = hub();
    let server = Server::start(move |request, _| match request.method.as_str() {
        "GET" if request.path.ends_with("00000-of-00002.parquet") => Reply::new(200).body(vec![7; rows()[FIRST].len()]),
        _ => hub(request),
    });
    let bench = Bench::new(server.url());
    let nobody = |_: Progress<'_>| ();
    let data_set = bench.hub.data_set("org/rows", None, &nobody).unwrap();
    contains(&data_set.bring(&wanted(&[FIRST])).unwrap_err().to_string(), &["is not the file that the hub names"]);
    assert!(!data_set.folder().join(FIRST).exists());
    assert!(!bench.hub.cache.join("datasets--org--rows/refs/main").exists());
}
