//! Profiles, on a listener of their own: `go tool pprof http://host:6060/debug/pprof/profile`.
//!
//! Off by default; when off there is no listener and no cost. Captures of CPU and heap exclude each
//! other and themselves: there is one timer signal per process, and a stack that is walked for one
//! must not disturb the other. Every answer names the node.

mod capture;
mod cpu;
mod heap;
mod runtime;
mod waits;

use axum::Router;
use axum::extract::FromRef;
use axum::http::{HeaderValue, Uri};
use axum::response::{Html, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::Waits;
use capture::{Capture, Refused};

/// What the routes answer from. Cheap to clone.
#[derive(Clone)]
pub struct Profiler {
    capture: Capture,
    waits: Waits,
    instance: HeaderValue,
}

impl Profiler {
    /// `instance` is the node's name on its log lines and spans; it stands on every answer.
    pub fn new(instance: &str, waits: Waits) -> Self {
        let instance = HeaderValue::from_str(instance).unwrap_or(HeaderValue::from_static(""));
        Self { capture: Capture::default(), waits, instance }
    }

    /// The routes under `/debug/pprof/`.
    pub fn routes(&self) -> Router {
        let instance = self.instance.clone();
        // Go tells mutexes from what else blocks; a named wait point is both.
        let mut router = Router::new()
            .route("/debug/pprof/", get(index))
            .route("/debug/pprof/profile", get(cpu::profile))
            .route("/debug/pprof/flamegraph", get(cpu::flamegraph))
            .route("/debug/pprof/heap", get(heap::heap))
            .route("/debug/pprof/mutex", get(waits::profile))
            .route("/debug/pprof/block", get(waits::profile))
            .route("/debug/pprof/runtime", get(runtime::now));
        for name in capture::ABSENT {
            router = router.route(&format!("/debug/pprof/{name}"), get(absent).post(absent));
        }
        router
            .layer(axum::middleware::map_response(move |mut answer: Response| {
                answer.headers_mut().insert("x-codeq-instance", instance.clone());
                std::future::ready(answer)
            }))
            .with_state(self.clone())
    }
}

impl FromRef<Profiler> for Capture {
    fn from_ref(profiler: &Profiler) -> Self {
        profiler.capture.clone()
    }
}

impl FromRef<Profiler> for Waits {
    fn from_ref(profiler: &Profiler) -> Self {
        profiler.waits.clone()
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

async fn absent(path: Uri) -> Refused {
    let name = path.path().rsplit('/').next().unwrap_or_default();
    Refused::Absent(capture::ABSENT.iter().find(|known| **known == name).copied().unwrap_or(""))
}

async fn index() -> Html<&'static str> {
    Html(concat!(
        "<!doctype html><title>codeq profiles</title><h1>/debug/pprof/</h1><ul>",
        "<li><a href=\"profile?seconds=30\">profile?seconds=n</a>: CPU, for go tool pprof",
        "<li><a href=\"flamegraph?seconds=30\">flamegraph?seconds=n</a>: CPU, as an SVG",
        "<li><a href=\"heap\">heap</a>: memory in use that was allocated since the first request ",
        "for it; ?seconds=n waits before it looks",
        "<li><a href=\"block\">block</a>, <a href=\"mutex\">mutex</a>: time waited at the named ",
        "wait points since the start, or with ?seconds=n from now on",
        "<li><a href=\"runtime\">runtime</a>: threads and tasks of the runtime, as JSON</ul>",
    ))
}

#[cfg(test)]
mod tests;
