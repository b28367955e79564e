//! Large files by git LFS: which of them the hub wants, and where they go, in one part or several.

use std::io::{Read, Seek, SeekFrom};
use std::thread;

use faults::Place;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{File, unreadable};
use crate::Progress;
use crate::failure::Failure;
use crate::request::Client;

/// Bytes that are hashed or sent at once.
const CHUNK: usize = 1 << 20;

/// Attempts to send a part.
const ATTEMPTS: u32 = 4;

/// The SHA-256 of a file, by which LFS names it.
pub(super) fn digest(file: &File) -> Result<String, Failure> {
    let mut opened = std::fs::File::open(&file.place).map_err(|error| unreadable(file, &error))?;
    let (mut sum, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match opened.read(&mut buffer).map_err(|error| unreadable(file, &error))? {
            0 => return Ok(format!("{:x}", sum.finalize())),
            read => sum.update(&buffer[..read]),
        }
    }
}

/// Uploads those of the files that the hub does not have.
pub(super) fn upload(client: &Client<'_>, files: &[&File], revision: &str) -> Result<(), Failure> {
    let objects: Vec<Value> = files.iter().map(|file| json!({ "oid": file.large, "size": file.size })).collect();
    let body = json!({
        "operation": "upload",
        "transfers": ["basic", "multipart"],
        "objects": objects,
        "hash_algo": "sha256",
        "ref": { "name": revision },
    });
    let path = format!("/{}.git/info/lfs/objects/batch", client.name);
    let answer = client.post(&path, LFS, &body.to_string())?;
    for file in files {
        let oid = file.large.as_deref().unwrap_or_default();
        let told = answer["objects"].as_array().into_iter().flatten().find(|told| told["oid"] == oid);
        let told = told.ok_or_else(|| client.unexpected(&path, &format!("it says nothing of `{}`", file.path)))?;
        if let Some(refusal) = told["error"]["message"].as_str() {
            return Err(client.unexpected(&path, &format!("`{}` is refused: {refusal}", file.path)));
        }
        // Without one it is there already.
        let Some(action) = told["actions"]["upload"].as_object() else {
            (client.progress)(Progress::Notice { text: &format!("{} is there already", file.path) });
            continue;
        };
        send(client, file, action)?;
        if let Some(verify) = told["actions"]["verify"]["href"].as_str() {
            client.post_to(verify, LFS, &json!({ "oid": oid, "size": file.size }).to_string())?;
        }
    }
    Ok(())
}

/// The media type of LFS.
const LFS: &str = "application/vnd.git-lfs+json";

/// A file to where the hub says.
fn send(client: &Client<'_>, file: &File, action: &Map<String, Value>) -> Result<(), Failure> {
    let unexpected = |why: &str| client.unexpected("the place for large files", why);
    let place = action.get("href").and_then(Value::as_str).ok_or_else(|| unexpected("it names no address"))?;
    let headers = action.get("header").and_then(Value::as_object).cloned().unwrap_or_default();
    let text =
        |value: &Value| value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|number| number.to_string()));
    let Some(size) = headers.get("chunk_size").and_then(text).and_then(|size| size.parse::<u64>().ok()) else {
        let headers: Vec<(String, String)> =
            headers.iter().filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect();
        return part(client, file, place, &headers, 0, file.size).map(drop);
    };
    let count = file.size.div_ceil(size.max(1));
    let mut parts = Vec::new();
    for number in 1..=count {
        // The address of each part stands under its number, with zeros before it or without.
        let address = headers.iter().find(|(name, _)| name.parse() == Ok(number)).and_then(|(_, value)| value.as_str());
        let address = address.ok_or_else(|| unexpected("an address of a part is missing"))?;
        let start = (number - 1) * size;
        let etag = part(client, file, address, &[], start, size.min(file.size - start))?;
        let etag = etag.ok_or_else(|| unexpected("a part that was sent has no mark"))?;
        parts.push(json!({ "partNumber": number, "etag": etag }));
    }
    let body = json!({ "oid": file.large, "parts": parts });
    client.post_to(place, LFS, &body.to_string()).map(drop)
}

/// A part of a file, several times if need be; gives its `ETag`.
fn part(
    client: &Client<'_>,
    file: &File,
    address: &str,
    headers: &[(String, String)],
    start: u64,
    size: u64,
) -> Result<Option<String>, Failure> {
    let mut pause = client.hub.first_pause;
    for attempt in 1.. {
        let mut opened = std::fs::File::open(&file.place).map_err(|error| unreadable(file, &error))?;
        opened.seek(SeekFrom::Start(start)).map_err(|error| unreadable(file, &error))?;
        let told = Told { inner: opened.take(size), client, file, done: start };
        match client.put(address, headers, told, size) {
            Err(Failure::Passing { fault, .. }) if attempt < ATTEMPTS => {
                let text = format!("{}; sending `{}` again in {} s", fault.message, file.path, pause.as_secs());
                (client.progress)(Progress::Notice { text: &text });
                thread::sleep(pause);
                pause *= 2;
            }
            Err(Failure::Passing { fault, .. }) => return Err(Failure::Final(fault.at(Place::file(&file.place)))),
            sent => return sent,
        }
    }
    unreachable!("the last attempt returns")
}

/// A reader that tells how far it is.
struct Told<'a, R> {
    inner: R,
    client: &'a Client<'a>,
    file: &'a File,
    done: u64,
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.done += read as u64;
        if read > 0 {
            (self.client.progress)(Progress::Bytes { file: &self.file.path, done: self.done, size: self.file.size });
        }
        Ok(read)
    }
}
