//! What the hub sends is taken only where it has the hash that names it.

use super::{Bench, contains, troubled, weights};
use crate::loopback::{Reply, Request, etag, part};

const WEIGHTS: &str = "GET /cached/model.safetensors";

/// The weights with one bit in the middle of them turned over.
fn flipped() -> Vec<u8> {
    let mut bytes = weights(1);
    bytes[150_000] ^= 1;
    bytes
}

/// The model with what was said on the way.
fn told(bench: &Bench) -> String {
    let (snapshot, notices) = bench.get_with_notices();
    assert!(std::fs::read(snapshot.join("model.safetensors")).unwrap() == weights(1));
    notices
}

/// Nothing that could be taken for the weights, or gone on with.
fn assert_no_part(bench: &Bench) {
    bench.assert_no_weights();
    let part = format!("{}.incomplete", etag("model.safetensors", &weights(1)));
    assert!(!bench.repository().join("blobs").join(part).exists());
}

#[test]
fn weights_with_a_bit_turned_over_are_fetched_anew_once() {
    let server =
        troubled(|request, before| (request.line() == WEIGHTS && before == 0).then(|| part(request, &flipped())));
    let bench = Bench::new(server.url());
    contains(&told(&bench), &["`model.safetensors` is not the file that the hub names: its SHA-256 is", "anew"]);
    assert_eq!(server.count(WEIGHTS), 2);

    let server = troubled(|request, _| (request.line() == WEIGHTS).then(|| part(request, &flipped())));
    let mut bench = Bench::new(server.url());
    let fault = bench.fault().to_string();
    contains(&fault, &["is not the file that the hub names", "hint: something between here and"]);
    contains(&fault, &[&format!("expected {}", etag("model.safetensors", &weights(1)))]);
    assert_eq!(server.count(WEIGHTS), 2);
    assert_no_part(&bench);
    // Nothing of it is in the way of a hub that is right.
    let right = troubled(|_, _| None);
    bench.hub.endpoint = right.url();
    assert_eq!(told(&bench), "");
}

#[test]
fn a_small_file_is_compared_with_its_name_in_git() {
    let path = "GET /cached/config.json";
    let server =
        troubled(move |request, _| (request.line() == path).then(|| part(request, br#"{"name": "config.jsom"}"#)));
    let bench = Bench::new(server.url());
    contains(&bench.fault().message, &["`config.json` is not the file that the hub names: its git hash is"]);
    assert_eq!(server.count(path), 2);
    assert!(!bench.repository().join("snapshots").exists());
}

/// The first part is right and the range after it is of other bytes, within a run and from one run to the next.
#[test]
fn a_download_in_parts_is_compared_whole() {
    let other = |request: &Request, before| match before {
        0 => part(request, &weights(1)).cut(100_000),
        1 => part(request, &weights(2)),
        _ => part(request, &weights(1)),
    };
    let server = troubled(move |request, before| (request.line() == WEIGHTS).then(|| other(request, before)));
    let bench = Bench::new(server.url());
    contains(&told(&bench), &["came only to 100000 of 300000 bytes", "is not the file that the hub names"]);
    let ranges: Vec<Option<String>> = (server.requests().iter().filter(|request| request.line() == WEIGHTS))
        .map(|request| request.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, [None, Some("bytes=100000-".to_owned()), None]);

    let server = troubled(|_, _| None);
    for lying in [flipped()[..200_000].to_vec(), flipped()] {
        let bench = Bench::new(server.url());
        let blobs = bench.repository().join("blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(format!("{}.incomplete", etag("model.safetensors", &weights(1)))), lying).unwrap();
        contains(&told(&bench), &["is not the file that the hub names"]);
    }
    // What lies there and is right is gone on with, and not fetched again.
    let bench = Bench::new(server.url());
    let blobs = bench.repository().join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{}.incomplete", etag("model.safetensors", &weights(1))));
    std::fs::write(part, &weights(1)[..200_000]).unwrap();
    assert_eq!(told(&bench), "");
    assert_eq!(server.requests().last().unwrap().header("range"), Some("bytes=200000-"));
}

/// An answer that does not say its length before it ends.
fn chunked(body: &[u8]) -> Reply {
    let chunk = [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat();
    Reply::new(200).header("Transfer-Encoding", "chunked").body(chunk)
}

/// As a proxy or a network that wants a login answers: with success, in place of the file.
#[test]
fn an_answer_of_another_type_form_or_length_is_not_the_file() {
    type Answer = fn(&Request) -> Reply;
    let answers: [(Answer, &str); 6] = [
        (|_| Reply::new(200).body("<html>log in</html>").header("Content-Type", "text/html"), "a page of HTML"),
        (|_| Reply::new(200).body(weights(1)).header("Content-Type", "text/html; charset=utf-8"), "a page of HTML"),
        (|request| part(request, &weights(1)).header("Content-Encoding", "gzip"), "in another form (`gzip`)"),
        (|_| Reply::new(200).body("short"), "was answered with 5 bytes, expected 300000"),
        (|_| Reply::new(200).body([weights(1), weights(2)].concat()), "with 600000 bytes, expected 300000"),
        (|_| chunked(&[weights(1), vec![0]].concat()), "is longer than the size that the hub gives, 300000 bytes"),
    ];
    for (answer, message) in answers {
        let server = troubled(move |request, _| (request.line() == WEIGHTS).then(|| answer(request)));
        let bench = Bench::new(server.url());
        contains(&bench.fault().message, &[message]);
        bench.assert_no_weights();
        // Once is not enough to fail.
        let server =
            troubled(move |request, before| (request.line() == WEIGHTS && before == 0).then(|| answer(request)));
        contains(&told(&Bench::new(server.url())), &[message]);
    }
}

/// A range of a file that has another length by now.
#[test]
fn a_range_of_another_file_is_not_gone_on_with() {
    let server = troubled(|request, before| match (request.line() == WEIGHTS, before) {
        (true, 0) => Some(part(request, &weights(1)).cut(100_000)),
        (true, 1) => Some(part(request, &[weights(1), weights(1)].concat())),
        _ => None,
    });
    contains(&told(&Bench::new(server.url())), &["was answered with 600000 bytes, expected 300000"]);
}

/// As some mirrors do: nothing to compare with, which is said.
#[test]
fn a_name_that_is_no_hash_is_told() {
    let named = |name: &'static str| {
        troubled(move |request, _| {
            let at = request.path == "/cached/model.safetensors";
            at.then(|| part(request, &weights(1)).header("ETag", name))
        })
    };
    for name in ["\"weights-of-the-mirror\"", "\"d41d8cd98f00b204e9800998ecf8427e\""] {
        let server = named(name);
        contains(&told(&Bench::new(server.url())), &["`model.safetensors` by no hash that it could be compared with"]);
    }
}
