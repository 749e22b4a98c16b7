//! Why an object could not be stored, seen or deleted, in a word.

use std::error::Error;

use object_store::client::{HttpError, HttpErrorKind};

/// A class, never the library's own text: that holds URLs, which may be signed, and answers of the
/// store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failed {
    /// The environment does not say how to reach the store, or with which key.
    #[error("the store is not set up: look at its variables (docs/artifacts.md)")]
    Setup,
    /// The store does not let this key in.
    #[error("permission denied")]
    Denied,
    /// There is no such bucket, container or directory.
    #[error("no such bucket or directory")]
    Missing,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// No connection.
    #[error("no connection")]
    Connect,
    /// The disk is full.
    #[error("no space left")]
    Full,
    /// Anything else.
    #[error("the store failed")]
    Other,
}

impl Failed {
    /// The class as one word, for logs and spans.
    pub fn word(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Full => "full",
            Self::Other => "other",
        }
    }

    pub(super) fn of(error: &object_store::Error) -> Self {
        use object_store::Error as E;
        match error {
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Self::Denied,
            E::NotFound { .. } => Self::Missing,
            other => causes(other).find_map(Self::of_cause).unwrap_or(Self::Other),
        }
    }

    fn of_cause(cause: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            return match http.kind() {
                HttpErrorKind::Timeout => Some(Self::Timeout),
                HttpErrorKind::Connect => Some(Self::Connect),
                _ => None,
            };
        }
        cause.downcast_ref::<std::io::Error>().map(Self::of_io)
    }

    pub(super) fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        match error.kind() {
            K::PermissionDenied | K::ReadOnlyFilesystem => Self::Denied,
            K::NotFound | K::NotADirectory => Self::Missing,
            K::TimedOut => Self::Timeout,
            K::ConnectionRefused | K::ConnectionReset | K::NotConnected => Self::Connect,
            K::StorageFull | K::QuotaExceeded => Self::Full,
            _ => Self::Other,
        }
    }
}

/// An error and what caused it, outermost first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let this = next?;
        next = this.source();
        Some(this)
    })
}
