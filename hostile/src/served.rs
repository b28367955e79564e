//! What a hub answers: a list of files, and files with their headers.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hub::Hub;
use sha2::{Digest, Sha256};

use crate::{Target, shown};

pub(crate) const TARGETS: [Target; 1] = [Target {
    name: "hub",
    seeds: || vec![answers().join("\n~~~~~\n").into_bytes()],
    words: &[
        "HTTP/1.1 200 OK",
        "HTTP/1.1 206 Partial Content",
        "HTTP/1.1 302 Found",
        "HTTP/1.1 401 Unauthorized",
        "HTTP/1.1 404 Not Found",
        "HTTP/1.1 416 Range",
        "HTTP/1.1 429 Too Many",
        "HTTP/1.1 500 Oops",
        "HTTP/1.1 100 Continue",
        "Content-Length: ",
        "Transfer-Encoding: chunked",
        "Content-Encoding: gzip",
        "Content-Range: bytes 0-1/2",
        "Location: http://127.0.0.1:1/",
        "Location: /api",
        "X-Linked-Size: ",
        "X-Linked-Etag: ",
        "ETag: ",
        "X-Repo-Commit: ",
        "X-Error-Code: GatedRepo",
        "\"siblings\":",
        "\"rfilename\":",
        "\"sha\":",
        "../../x",
        "/etc/passwd",
        "\n~~~~~\n",
        "\r\n\r\n",
    ],
    run: served,
}];

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a good hub answers, in the order in which it is asked.
fn answers() -> Vec<String> {
    let answer = |headers: &str, body: &str| {
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
    };
    let names = ["config.json", "tokenizer.json", "model.safetensors"];
    let siblings: Vec<String> = names.iter().map(|name| format!("{{\"rfilename\":\"{name}\"}}")).collect();
    let list = format!("{{\"sha\":\"{COMMIT}\",\"siblings\":[{}]}}", siblings.join(","));
    let mut all = vec![answer("", &list)];
    for name in names {
        let body = format!("the file {name}");
        let etag: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
        let headers =
            format!("X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {}\r\n", body.len());
        all.push(answer(&format!("{headers}ETag: \"{etag}\"\r\n"), &body));
    }
    all
}

/// A hub that gives the answers of an input in turn, whatever it is asked, and then the last again.
struct Server {
    url: String,
    answers: Arc<Mutex<Vec<Vec<u8>>>>,
}

thread_local! {
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

fn start() -> Server {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback interface");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let answers = Arc::new(Mutex::new(Vec::<Vec<u8>>::new()));
    let given = answers.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut left = given.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = if left.len() > 1 { left.remove(0) } else { left.first().cloned().unwrap_or_default() };
            drop(left);
            let _ = reply(stream, &answer);
        }
    });
    Server { url, answers }
}

fn reply(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    for line in BufReader::new(&stream).lines() {
        if line?.is_empty() {
            break;
        }
    }
    stream.write_all(answer)
}

fn served(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    SERVER.with_borrow_mut(|server| {
        let server = server.get_or_insert_with(start);
        *server.answers.lock().unwrap_or_else(PoisonError::into_inner) =
            text.split("\n~~~~~\n").map(|answer| answer.as_bytes().to_vec()).collect();
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let cache = folder.path().join("outer/cache");
        let hub = Hub {
            endpoint: server.url.clone(),
            cache: cache.clone(),
            token: Some("hf_verysecret".into()),
            offline: false,
            certificates: None,
            first_pause: Duration::ZERO,
        };
        let found = hub.model_folder("org/model", None, &|_| (), &|_| Ok(()));
        if let Err(fault) = &found {
            assert!(!fault.render(false).contains("verysecret"), "the token is told: {fault}");
        }
        let outside: Vec<_> =
            std::fs::read_dir(folder.path()).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
        assert!(outside.iter().all(|name| name == "outer"), "written outside of the cache: {outside:?}");
        shown(found)
    })
}
