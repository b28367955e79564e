//! Requests to the hub: redirects, the token, and a fault for each way to refuse.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use faults::{Fault, Place};
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::failure::{Failure, is_cut, reason};
use super::kind::Kind;
use super::{Hub, Progress};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Head,
    Get,
}

/// Talks to one hub about one repository.
pub(super) struct Client<'a> {
    pub(super) hub: &'a Hub,
    pub(super) kind: Kind,
    pub(super) name: &'a str,
    pub(super) progress: &'a dyn Fn(Progress<'_>),
    pub(super) agent: Agent,
}

impl<'a> Client<'a> {
    pub(super) fn new(
        hub: &'a Hub,
        (kind, name): (Kind, &'a str),
        progress: &'a dyn Fn(Progress<'_>),
    ) -> Result<Self, Failure> {
        // Redirects are followed here, where it can be seen whom the token goes to.
        let mut agent = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("trainer/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(Duration::from_secs(20)))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)));
        if ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|own| hub.endpoint.starts_with(own)) {
            agent = agent.proxy(None);
        }
        if let Some(path) = &hub.certificates {
            let roots = RootCerts::Specific(Arc::new(certificates(path).map_err(Failure::Final)?));
            agent = agent.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self { hub, kind, name, progress, agent: agent.build().into() })
    }
}

/// An answer that is neither a refusal nor a redirect to be followed; 416 is one when the middle of a file was asked for.
pub(super) struct Answer {
    pub(super) response: Response<Body>,
    /// What the hub says of a file that it keeps elsewhere, before it redirects there.
    pub(super) linked_etag: Option<String>,
    pub(super) linked_size: Option<u64>,
}

impl Client<'_> {
    /// Sends a request for `path` of the hub, from byte `start` on, and follows redirects; the token goes to the hub only.
    pub(super) fn send(&self, method: Method, path: &str, start: u64) -> Result<Answer, Failure> {
        let mut url = format!("{}{path}", self.hub.endpoint);
        let (mut linked_etag, mut linked_size) = (None, None);
        for _ in 0..10 {
            let mut request = if method == Method::Head { self.agent.head(&url) } else { self.agent.get(&url) };
            // Sizes and ranges count the bytes of the file, not of a compressed form of it.
            request = request.header("accept-encoding", "identity");
            if let Some(token) = &self.hub.token
                && origin(&url) == origin(&self.hub.endpoint)
            {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if start > 0 {
                request = request.header("range", format!("bytes={start}-"));
            }
            let response = request.call().map_err(|error| self.no_answer(&error, path))?;
            let headers = response.headers();
            linked_etag = linked_etag.or_else(|| header(headers, "x-linked-etag").and_then(blob_name));
            linked_size = linked_size.or_else(|| header(headers, "x-linked-size").and_then(|text| text.parse().ok()));
            let status = response.status();
            let told = method == Method::Head && linked_etag.is_some() && linked_size.is_some();
            let past_the_end = status == StatusCode::RANGE_NOT_SATISFIABLE && start > 0;
            if status.is_success() || past_the_end || (status.is_redirection() && told) {
                return Ok(Answer { response, linked_etag, linked_size });
            }
            url = match header(headers, "location") {
                Some(place) if status.is_redirection() && place.starts_with('/') && !place.starts_with("//") => {
                    format!("{}{place}", origin(&url))
                }
                Some(place) if status.is_redirection() && !origin(place).is_empty() => place.to_owned(),
                _ => return Err(self.refusal(status, headers, path)),
            };
        }
        Err(Failure::Final(
            Fault::new(format!("`{}` redirects in a circle", self.hub.site()))
                .at(Place::Named(path.to_owned()))
                .hint("is `HF_ENDPOINT` the address of a Hugging Face hub?"),
        ))
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, path: &str) -> Failure {
        let (name, site, code) = (self.name, self.hub.site(), status.as_u16());
        let page = format!("{site}/{}{name}", self.kind.prefix());
        let place = Place::Named(path.to_owned());
        let account = if self.hub.token.is_some() { "the token's account" } else { "an account, set `HF_TOKEN`" };
        match code {
            401 if self.hub.token.is_some() => Failure::Final(
                Fault::new(format!("the hub does not accept the access token for `{name}` (401)"))
                    .at(place)
                    .hint(format!("make a new token at `{site}/settings/tokens` and set `HF_TOKEN` to it")),
            ),
            401 => Failure::Final(
                Fault::new(format!(
                    "the hub wants a login for `{name}` (401): it is private or gated, or does not exist"
                ))
                .at(place)
                .hint(format!("check the name; accept the licence at `{page}` and set `HF_TOKEN`")),
            ),
            403 => Failure::Final(
                Fault::new(format!("the hub does not grant access to `{name}` (403): it is gated or private"))
                    .at(place)
                    .hint(format!("accept the licence at `{page}` with {account}")),
            ),
            404 => Failure::NotFound(
                Fault::new(format!("`{name}` has no such file (404)"))
                    .at(place)
                    .hint("the repository is broken or changing: try again, or another revision"),
            ),
            408 | 429 | 500..=599 => Failure::Passing {
                fault: Fault::new(format!("`{site}` answers {status}")).at(place).hint(if code == 429 {
                    "too many requests came from here: wait some minutes, or set `HF_TOKEN` for a higher limit"
                } else {
                    "the hub has a problem: try again later"
                }),
                advanced: false,
                pause: header(headers, "retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs),
            },
            _ => Failure::Final(
                Fault::new(format!("`{site}` answers {status}, which was not expected"))
                    .at(place)
                    .hint("is `HF_ENDPOINT` the address of a Hugging Face hub?"),
            ),
        }
    }

    /// The listing was not found: because of the repository, or because of the revision?
    pub(super) fn no_repository_or_revision(&self, revision: &str, path: String) -> Failure {
        let (name, site, kind) = (self.name, self.hub.site(), self.kind);
        let fault = match self.send(Method::Get, &format!("/api/{}/{name}", kind.api()), 0) {
            Ok(_) => Fault::new(format!("`{name}` has no revision `{revision}`")).hint(format!(
                "its branches, tags and commits are listed at `{site}/{}{name}/tree/main`",
                kind.prefix()
            )),
            Err(Failure::NotFound(_)) => {
                let word = kind.word();
                Fault::new(format!("the hub has no {word} `{name}`")).hint(format!(
                    "check the name at `{site}`; a private {word} needs `HF_TOKEN`, a local folder is given as `./folder`"
                ))
            }
            Err(other) => return other,
        };
        Failure::NotFound(fault.at(Place::Named(path)))
    }

    pub(super) fn no_answer(&self, error: &ureq::Error, path: &str) -> Failure {
        let fault = Fault::new(format!("cannot reach `{}`: {}", self.hub.site(), reason(error)))
            .at(Place::Named(path.to_owned()))
            .hint(format!("check the network, the proxy and `HF_ENDPOINT`; {}", self.kind.local()));
        match error {
            ureq::Error::Timeout(_) => Failure::passing(fault),
            ureq::Error::Io(error) if is_cut(error.kind()) => Failure::passing(fault),
            _ => Failure::Unreachable(fault),
        }
    }

    pub(super) fn broken_off(&self, error: &ureq::Error, path: &str) -> Failure {
        let fault = Fault::new(format!("the answer of `{}` broke off: {}", self.hub.site(), reason(error)))
            .at(Place::Named(path.to_owned()))
            .hint("try again later");
        Failure::passing(fault)
    }
}

/// The certificates in a PEM file.
fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Fault> {
    let unusable = |why: String| {
        Fault::new(format!("the file of trusted certificates {why}"))
            .at(Place::file(path))
            .hint("`SSL_CERT_FILE` or `REQUESTS_CA_BUNDLE` names it: a file in the PEM format, or unset it")
    };
    let text = std::fs::read(path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
    let found: Vec<Certificate<'static>> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() { Err(unusable("has no certificate in it".into())) } else { Ok(found) }
}

pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// An `ETag` as the name of a file.
pub(super) fn blob_name(etag: &str) -> Option<String> {
    let name = etag.trim().trim_start_matches("W/").trim_matches('"');
    super::index::is_plain_name(name).then(|| name.to_owned())
}

/// Scheme, host and port of a URL; empty when it is none.
pub(super) fn origin(url: &str) -> &str {
    match url.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => {
            let host = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            &url[..scheme.len() + 3 + host]
        }
        _ => "",
    }
}
