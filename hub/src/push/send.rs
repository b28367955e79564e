//! What a push sends: JSON to the hub, with the token, and bytes of large files to where the hub says, without it.

use std::io::Read;

use faults::{Fault, Place};
use serde_json::Value;
use ureq::http::{Response, StatusCode};
use ureq::{Body, SendBody};

use crate::failure::Failure;
use crate::request::{Client, header, origin};

/// Longest answer that is read, in bytes: answers name files, and hold none.
const LONGEST_ANSWER: u64 = 16 << 20;

impl Client<'_> {
    /// Posts JSON to a path of the hub; an answer without JSON in it is null.
    pub(super) fn post(&self, path: &str, kind: &str, body: &str) -> Result<Value, Failure> {
        self.post_to(&format!("{}{path}", self.hub.endpoint), kind, body)
    }

    /// The same to an address that the hub has named; the token goes to the hub alone.
    pub(super) fn post_to(&self, address: &str, kind: &str, body: &str) -> Result<Value, Failure> {
        let response = self.posted(address, kind, body)?;
        match response.status().is_success() {
            true => self.answer(response, &shown(address)),
            false => Err(self.refused(response, &shown(address))),
        }
    }

    /// Makes the repository of this name; one that is there already is as good.
    pub(super) fn create(&self, body: &Value) -> Result<(), Failure> {
        let path = "/api/repos/create";
        let response = self.posted(&format!("{}{path}", self.hub.endpoint), "application/json", &body.to_string())?;
        match response.status() {
            status if status.is_success() || status == StatusCode::CONFLICT => Ok(()),
            _ => Err(self.refused(response, path)),
        }
    }

    fn posted(&self, address: &str, kind: &str, body: &str) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.post(address).header("content-type", kind).header("accept", accepted(kind));
        if let Some(token) = &self.hub.token
            && origin(address) == origin(&self.hub.endpoint)
        {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.send(body).map_err(|error| self.no_answer(&error, &shown(address)))
    }

    /// Puts `size` bytes to an address; gives their `ETag`.
    pub(super) fn put(
        &self,
        address: &str,
        headers: &[(String, String)],
        mut bytes: impl Read,
        size: u64,
    ) -> Result<Option<String>, Failure> {
        let mut request = self.agent.put(address).header("content-length", size.to_string());
        for (name, value) in headers {
            request = request.header(name.as_str(), value.as_str());
        }
        let place = "the place for large files";
        let sent = request.send(SendBody::from_reader(&mut bytes)).map_err(|error| self.no_answer(&error, place))?;
        match sent.status() {
            status if status.is_success() => Ok(header(sent.headers(), "etag").map(str::to_owned)),
            _ => Err(self.refused(sent, place)),
        }
    }

    fn answer(&self, mut response: Response<Body>, path: &str) -> Result<Value, Failure> {
        let text = response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_string();
        let text = text.map_err(|error| self.broken_off(&error, path))?;
        match text.trim().is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_str(&text).map_err(|_| self.unexpected(path, "it is no JSON")),
        }
    }

    /// An answer that is not what the hub is known to say.
    pub(super) fn unexpected(&self, path: &str, why: &str) -> Failure {
        let fault = Fault::new(format!("the answer of `{}` cannot be used: {why}", self.hub.site()));
        Failure::Final(
            fault.at(Place::Named(path.to_owned())).hint("is `HF_ENDPOINT` the address of a Hugging Face hub?"),
        )
    }

    fn refused(&self, mut response: Response<Body>, path: &str) -> Failure {
        let (name, site, status) = (self.name, self.hub.site(), response.status());
        let text = response.body_mut().with_config().limit(1 << 16).read_to_string().unwrap_or_default();
        let said: Option<Value> = serde_json::from_str(&text).ok();
        let said = said.as_ref().and_then(|said| said["error"].as_str().or(said["message"].as_str()));
        let said = said.map(|said| format!(": {}", faults::shortened(said.trim()))).unwrap_or_default();
        let fault = |message: String| Fault::new(message).at(Place::Named(path.to_owned()));
        let tokens = format!("make a token that may write to it at `{site}/settings/tokens`, and set `HF_TOKEN` to it");
        match status.as_u16() {
            401 => Failure::Final(fault(format!("the hub does not accept the access token (401){said}")).hint(tokens)),
            403 => {
                Failure::Final(fault(format!("the access token may not write to `{name}` (403){said}")).hint(tokens))
            }
            404 => Failure::NotFound(fault(format!("the hub does not find `{name}`, or its branch (404){said}")).hint(
                format!(
                    "check the name, and that the token may see it; branches are made at `{site}/{name}/tree/main`"
                ),
            )),
            408 | 429 | 500..=599 => Failure::passing(
                fault(format!("`{site}` answers {status}{said}"))
                    .hint("try again later: no file of the repository was changed"),
            ),
            _ => Failure::Final(
                fault(format!("`{site}` answers {status}{said}")).hint("no file of the repository was changed"),
            ),
        }
    }
}

/// What is asked for in an answer to a body of this kind.
fn accepted(kind: &str) -> &str {
    if kind == "application/x-ndjson" { "application/json" } else { kind }
}

/// An address as it may be told: without the part that may be signed, and without a user's name and password.
fn shown(address: &str) -> String {
    let path = address.strip_prefix(origin(address)).unwrap_or(address);
    path.split(['?', '#']).next().unwrap_or_default().to_owned()
}
