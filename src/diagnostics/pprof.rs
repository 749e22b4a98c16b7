//! Profiles, on a listener of their own: `go tool pprof http://host:6060/debug/pprof/profile`.
//!
//! Off by default; when off there is no listener and no cost. One capture at a time, since there is
//! one timer signal per process.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use pprof::protos::Message;
use pprof::{ProfilerGuard, ProfilerGuardBuilder, Report};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// Samples a second. Not a round number, so that it does not march in step with timers.
const FREQUENCY: i32 = 199;
/// The length of a capture that names none, and the bounds.
const DEFAULT_SECONDS: u64 = 30;
const MOST_SECONDS: u64 = 300;
/// Whose frames are left out: unwinding through them inside a signal handler can crash.
const BLOCKLIST: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// One capture at a time. Cheap to clone.
#[derive(Clone)]
pub struct Profiler {
    capture: Arc<Mutex<()>>,
    instance: HeaderValue,
}

impl Profiler {
    /// `instance` is the node's name on its log lines and spans; it stands on every answer.
    pub fn new(instance: &str) -> Self {
        let instance = HeaderValue::from_str(instance).unwrap_or(HeaderValue::from_static(""));
        Self { capture: Arc::default(), instance }
    }

    /// The routes under `/debug/pprof/`.
    pub fn routes(&self) -> Router {
        let instance = self.instance.clone();
        Router::new()
            .route("/debug/pprof/", get(index))
            .route("/debug/pprof/profile", get(profile))
            .route("/debug/pprof/flamegraph", get(flamegraph))
            .route("/debug/pprof/heap", get(|| async { Refused::Absent("heap") }))
            .route("/debug/pprof/mutex", get(|| async { Refused::Absent("mutex") }))
            .route("/debug/pprof/block", get(|| async { Refused::Absent("block") }))
            .layer(axum::middleware::map_response(move |mut answer: Response| {
                answer.headers_mut().insert("x-codeq-instance", instance.clone());
                std::future::ready(answer)
            }))
            .with_state(self.clone())
    }

    fn lock(&self) -> Result<MutexGuard<'_, ()>, Refused> {
        self.capture.try_lock().map_err(|_| Refused::Busy)
    }

    /// Samples every thread. Dropping the future, as when the client leaves, ends the capture.
    async fn sample(&self, seconds: u64) -> Result<Report, Refused> {
        let _only = self.lock()?;
        let failed = |error: pprof::Error| Refused::Failed(error.to_string());
        let guard: ProfilerGuard<'static> = ProfilerGuardBuilder::default()
            .frequency(FREQUENCY)
            .blocklist(&BLOCKLIST)
            .build()
            .map_err(failed)?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        // Finding the names of all frames takes a while.
        tokio::task::spawn_blocking(move || guard.report().build())
            .await
            .map_err(|error| Refused::Failed(error.to_string()))?
            .map_err(failed)
    }
}

/// Serves profiles until `stop`. A capture that runs then is cut off.
///
/// # Errors
/// When the listener fails.
pub async fn serve_profiles(
    listener: TcpListener,
    profiler: Profiler,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let serving = axum::serve(listener, profiler.routes()).into_future();
    stop.run_until_cancelled(serving).await.unwrap_or(Ok(()))
}

#[derive(Debug, PartialEq)]
enum Refused {
    Busy,
    Argument,
    Absent(&'static str),
    Failed(String),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Busy => (StatusCode::CONFLICT, "another capture is running\n".to_owned()),
            Self::Argument => (
                StatusCode::BAD_REQUEST,
                format!("seconds must be a whole number from 1 to {MOST_SECONDS}\n"),
            ),
            Self::Absent(name) => (
                StatusCode::NOT_IMPLEMENTED,
                format!("this build has no {name} profile; use profile or flamegraph\n"),
            ),
            Self::Failed(why) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("the capture could not be made: {why}\n"),
            ),
        }
        .into_response()
    }
}

#[derive(Deserialize)]
struct Asked {
    seconds: Option<String>,
}

impl Asked {
    fn seconds(&self) -> Result<u64, Refused> {
        let Some(text) = &self.seconds else { return Ok(DEFAULT_SECONDS) };
        let seconds = text.parse().map_err(|_| Refused::Argument)?;
        if (1..=MOST_SECONDS).contains(&seconds) { Ok(seconds) } else { Err(Refused::Argument) }
    }
}

async fn profile(
    State(profiler): State<Profiler>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refused> {
    let report = profiler.sample(asked.seconds()?).await?;
    let failed = |error: String| Refused::Failed(error);
    let profile = report.pprof().map_err(|error| failed(error.to_string()))?;
    let bytes = profile.write_to_bytes().map_err(|error| failed(error.to_string()))?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"profile.pb\""),
    ];
    Ok((headers, bytes).into_response())
}

async fn flamegraph(
    State(profiler): State<Profiler>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refused> {
    let report = profiler.sample(asked.seconds()?).await?;
    if report.data.is_empty() {
        return Err(Refused::Failed("the node used no CPU in that time".to_owned()));
    }
    let mut svg = Vec::new();
    report.flamegraph(&mut svg).map_err(|error| Refused::Failed(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], svg).into_response())
}

async fn index() -> Html<&'static str> {
    Html(concat!(
        "<!doctype html><title>codeq profiles</title><h1>/debug/pprof/</h1><ul>",
        "<li><a href=\"profile?seconds=30\">profile?seconds=n</a>: CPU, for go tool pprof",
        "<li><a href=\"flamegraph?seconds=30\">flamegraph?seconds=n</a>: CPU, as an SVG",
        "<li>heap, mutex, block: not in this build</ul>",
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn ask(profiler: &Profiler, path: &str) -> (StatusCode, Vec<u8>) {
        let request = http::Request::get(format!("/debug/pprof/{path}")).body(Body::empty());
        let answer = profiler.routes().oneshot(request.unwrap()).await.unwrap();
        assert_eq!(answer.headers()["x-codeq-instance"], "node-1");
        let status = answer.status();
        (status, answer.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    /// Something to find in a profile.
    fn burn(enough: &AtomicBool) -> u64 {
        let mut sum = 0_u64;
        while !enough.load(Ordering::Relaxed) {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        sum
    }

    // One test: there is one profiler per process, and the harness runs tests side by side.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_capture_is_a_profile_and_the_second_one_waits_its_turn() {
        let enough = Arc::new(AtomicBool::new(false));
        let busy = enough.clone();
        let burning = std::thread::spawn(move || burn(&busy));

        let profiler = Profiler::new("node-1");
        let running = profiler.capture.lock().await;
        assert_eq!(ask(&profiler, "flamegraph?seconds=1").await.0, StatusCode::CONFLICT);
        drop(running);
        let (status, bytes) = ask(&profiler, "profile?seconds=1").await;
        assert_eq!(status, StatusCode::OK);
        let profile = pprof::protos::Profile::parse_from_bytes(&bytes).unwrap();
        assert!(!profile.sample.is_empty());

        let (status, svg) = ask(&profiler, "flamegraph?seconds=1").await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&svg));
        assert!(String::from_utf8_lossy(&svg).contains("<svg"));

        enough.store(true, Ordering::Relaxed);
        burning.join().unwrap();
    }

    #[tokio::test]
    async fn a_bad_argument_is_told() {
        let profiler = Profiler::new("node-1");
        for bad in ["0", "301", "-1", "abc", "1.5", ""] {
            let (status, _) = ask(&profiler, &format!("profile?seconds={bad}")).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn what_there_is_not_says_so() {
        let profiler = Profiler::new("node-1");
        for absent in ["heap", "mutex", "block"] {
            let (status, text) = ask(&profiler, absent).await;
            assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
            assert!(String::from_utf8(text).unwrap().contains(absent));
        }
        assert_eq!(ask(&profiler, "").await.0, StatusCode::OK);
        assert_eq!(ask(&profiler, "nothing").await.0, StatusCode::NOT_FOUND);
    }
}
