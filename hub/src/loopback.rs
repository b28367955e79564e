//! A hub on the loopback interface for the tests: one thread, HTTP/1.1 by hand, one request per connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request as it came in; the names of headers in lower case.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// `GET /path`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Close the connection after so many bytes of the body that was announced whole.
    pub cut: Option<usize>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut: None }
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }
}

/// Answers requests until dropped, and remembers them.
pub(super) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `answer` gets a request and how often this method and path were asked for before.
    pub fn start(mut answer: impl FnMut(&Request, usize) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::<Request>::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                let before = log.lock().unwrap().iter().filter(|earlier| earlier.line() == request.line()).count();
                let reply = answer(&request, before);
                log.lock().unwrap().push(request.clone());
                write(stream, &request, reply);
            }
        });
        Self { address, requests, stop, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How often `GET /path` or the like was asked for.
    pub fn count(&self, line: &str) -> usize {
        self.requests().iter().filter(|request| request.line() == line).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread out of its wait for a connection.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let outcome = thread.join();
            assert!(outcome.is_ok() || std::thread::panicking(), "the hub of the test broke");
        }
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut lines = reader.by_ref().lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    // A body that is cut is one all the same.
    let _ = reader.take(length).read_to_end(&mut body);
    Some(Request { method, path, headers, body })
}

fn write(mut stream: TcpStream, request: &Request, reply: Reply) {
    let mut head = format!("HTTP/1.1 {} Whatever\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !reply.headers.iter().any(|(name, _)| ["Content-Length", "Transfer-Encoding"].contains(name)) {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    head += "\r\n";
    // The other side may hang up first, as it does after the head of a redirect.
    let _ = stream.write_all(head.as_bytes());
    if request.method != "HEAD" {
        let _ = stream.write_all(&reply.body[..reply.cut.unwrap_or(reply.body.len())]);
    }
}

/// Answers as the hub does for one repository, `org/model`, with `files` at [`COMMIT`], which `main` and the tag `v1/a`
/// point to. Small files are answered by a redirect to another path, weights by one to `elsewhere` when it is given.
pub(super) fn hub(
    files: BTreeMap<String, Vec<u8>>,
    elsewhere: Option<String>,
) -> impl Fn(&Request) -> Reply + Send + 'static {
    move |request| {
        if request.path == "/api/models/org/model" {
            return Reply::new(200).body("{}");
        }
        if let Some(revision) = request.path.strip_prefix("/api/models/org/model/revision/") {
            if !["main", "v1%2Fa", COMMIT].contains(&revision) {
                return Reply::new(404).header("X-Error-Code", "RevisionNotFound");
            }
            let siblings: Vec<String> = files.keys().map(|name| format!(r#"{{"rfilename":"{name}"}}"#)).collect();
            return Reply::new(200).body(format!(r#"{{"sha":"{COMMIT}","siblings":[{}]}}"#, siblings.join(",")));
        }
        if let Some(name) = request.path.strip_prefix(&format!("/org/model/resolve/{COMMIT}/")) {
            let Some(body) = files.get(name) else { return Reply::new(404) };
            return match &elsewhere {
                Some(address) if name.ends_with(".safetensors") => Reply::new(302)
                    .header("Location", format!("{address}/signed/{name}?signature=secret"))
                    .header("X-Repo-Commit", COMMIT)
                    .header("X-Linked-Etag", format!("\"{}\"", etag(name, body)))
                    .header("X-Linked-Size", body.len().to_string()),
                _ => Reply::new(307).header("Location", format!("/cached/{name}")),
            };
        }
        let Some((name, body)) = request.path.strip_prefix("/cached/").and_then(|name| Some((name, files.get(name)?)))
        else {
            return Reply::new(404);
        };
        part(request, body).header("ETag", format!("W/\"{}\"", etag(name, body))).header("X-Repo-Commit", COMMIT)
    }
}

/// The hash that names a file: of git LFS for weights, git's own for the others.
pub(super) fn etag(name: &str, body: &[u8]) -> String {
    if name.ends_with(".safetensors") {
        return format!("{:x}", Sha256::digest(body));
    }
    format!("{:x}", Sha1::new_with_prefix(format!("blob {}\0", body.len())).chain_update(body).finalize())
}

/// A body from the byte on that the request's `Range` names.
pub(super) fn part(request: &Request, body: &[u8]) -> Reply {
    match request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()) {
        None => Reply::new(200).body(body),
        Some(start) if start < body.len() => Reply::new(206)
            .body(&body[start..])
            .header("Content-Range", format!("bytes {start}-{}/{}", body.len() - 1, body.len())),
        Some(_) => Reply::new(416),
    }
}
