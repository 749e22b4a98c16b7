//! What captures have in common: their length, their turn, and how they are refused.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

/// The longest capture.
const MOST_SECONDS: u64 = 300;

/// What Go's tools may ask for and this program has no counterpart of.
pub(super) const ABSENT: [&str; 6] =
    ["allocs", "cmdline", "goroutine", "symbol", "threadcreate", "trace"];

/// The turn at capturing: one at a time.
#[derive(Clone, Default)]
pub(super) struct Capture(Arc<Mutex<()>>);

impl Capture {
    /// Takes the turn, or says that another has it.
    pub fn begin(&self) -> Result<OwnedMutexGuard<()>, Refused> {
        self.0.clone().try_lock_owned().map_err(|_| Refused::Busy)
    }
}

/// Runs work that takes seconds, as finding the names of functions does, on a thread of its own.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    let (done, answer) = oneshot::channel();
    let thread = std::thread::Builder::new().name("codeq-profile".to_owned());
    let started = thread.spawn(move || {
        // The client may have left.
        let _ = done.send(work());
    });
    started.map_err(Refused::failed)?;
    answer.await.unwrap_or_else(|_| Err(Refused::failed("it broke off")))
}

/// `?seconds=`, from 1 to 300.
#[derive(Clone, Copy)]
pub(super) struct Seconds(Option<u64>);

impl Seconds {
    /// The length that was asked for.
    pub fn asked(self) -> Option<Duration> {
        self.0.map(Duration::from_secs)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    seconds: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Seconds {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let asked: Result<Query<Asked>, QueryRejection> =
            Query::from_request_parts(parts, state).await;
        let Ok(Query(Asked { seconds })) = asked else { return Err(Refused::Argument) };
        let Some(text) = seconds else { return Ok(Self(None)) };
        match text.parse() {
            Ok(seconds) if (1..=MOST_SECONDS).contains(&seconds) => Ok(Self(Some(seconds))),
            _ => Err(Refused::Argument),
        }
    }
}

/// Why there is no profile.
#[derive(Debug, PartialEq)]
pub(super) enum Refused {
    Busy,
    Argument,
    Absent(&'static str),
    Failed(String),
}

impl Refused {
    pub fn failed(why: impl ToString) -> Self {
        Self::Failed(why.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Busy => (StatusCode::CONFLICT, "another capture is running\n".to_owned()),
            Self::Argument => (
                StatusCode::BAD_REQUEST,
                format!("the only argument is seconds, a whole number from 1 to {MOST_SECONDS}\n"),
            ),
            Self::Absent(name) => (StatusCode::NOT_IMPLEMENTED, format!("{}\n", instead_of(name))),
            Self::Failed(why) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("the capture could not be made: {why}\n"),
            ),
        }
        .into_response()
    }
}

/// Why there is none, and what to use instead.
fn instead_of(name: &str) -> &'static str {
    match name {
        "allocs" => "allocs: memory that was freed again is not sampled; use heap",
        "cmdline" => "cmdline: arguments and environment are not shown; see codeq config show",
        "goroutine" => "goroutine: tasks keep no stack that could be shown; use runtime",
        "heap" => "heap: this build does not allocate with jemalloc, which takes the samples",
        "symbol" => "symbol: profiles carry the names of their functions",
        "threadcreate" => "threadcreate: threads are created once, at start; use runtime",
        "trace" => "trace: there is no execution trace; use profile, block or a span",
        _ => "there is no such profile",
    }
}

/// A file for `go tool pprof`.
pub(super) fn file(name: &str, bytes: Vec<u8>) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, disposition.as_str()),
    ];
    (headers, bytes).into_response()
}
