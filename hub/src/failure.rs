//! Why a request or a download did not succeed, and the words for it.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use faults::{Fault, Place};

/// Why a request or a download did not succeed.
pub(super) enum Failure {
    /// Asking again would not help.
    Final(Fault),
    /// The hub knows nothing under this address.
    NotFound(Fault),
    /// No answer was to be had.
    Unreachable(Fault),
    /// The cache could not be read or written.
    Disk(Fault),
    /// What came is not the file that was asked for: fetched anew it may be.
    NotTheFile(Fault),
    /// May go away. `advanced`: the attempt brought new bytes. `pause`: what the hub asks for.
    Passing { fault: Fault, advanced: bool, pause: Option<Duration> },
}

impl Failure {
    pub(super) fn into_fault(self) -> Fault {
        match self {
            Failure::Final(fault) | Failure::NotFound(fault) | Failure::Unreachable(fault) => fault,
            Failure::Disk(fault) | Failure::NotTheFile(fault) | Failure::Passing { fault, .. } => fault,
        }
    }

    /// Whether the hub could not be talked to, as opposed to a hub that says no.
    pub(super) fn is_out_of_reach(&self) -> bool {
        matches!(self, Failure::Unreachable(_) | Failure::Passing { .. })
    }

    pub(super) fn passing(fault: Fault) -> Self {
        Failure::Passing { fault, advanced: false, pause: None }
    }
}

/// A file operation in the cache that failed.
pub(super) fn disk(error: std::io::Error, path: &Path) -> Failure {
    let fault = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Fault::new("no space is left on the disk of the cache")
            .hint("free some, or set `HF_HOME` to a folder on a larger disk; the download continues where it stopped"),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Fault::new("the cache cannot be written")
            .hint("set `HF_HOME` to a folder that can, or mend the rights of this one"),
        _ => {
            // `fs_err` names the path a second time; its source does not.
            let cause = error.get_ref().and_then(|inner| inner.source()).map(|cause| cause.to_string());
            Fault::new(format!("the cache cannot be used: {}", cause.unwrap_or_else(|| error.to_string())))
                .hint("set `HF_HOME` to another folder")
        }
    };
    Failure::Disk(fault.at(Place::file(path)))
}

/// What went wrong, in words that repeat no part of a URL: it may be signed.
pub(super) fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => "the connection was refused".into(),
            kind if is_cut(kind) => "the connection was cut".into(),
            _ if error.to_string().contains("UnknownIssuer") => {
                "its certificate is from an authority that is not trusted here (`SSL_CERT_FILE` names others)".into()
            }
            _ => error.to_string(),
        },
        ureq::Error::HostNotFound => "there is no host of this name".into(),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => "the address is not a URL".into(),
        other => other.to_string(),
    }
}

/// Errors of a connection that stood.
pub(super) fn is_cut(kind: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
