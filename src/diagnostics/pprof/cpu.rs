//! CPU: where the threads of this node are, 199 times a second of the time that they run.
//!
//! Stacks are walked by frame pointers, since the tables of the default unwinder are not safe to
//! read in a signal handler. So the innermost function counts for its caller where a library was
//! built without frame pointers, and the time within libc counts for nobody.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use pprof::protos::Message;
use pprof::{Frames, ProfilerGuardBuilder, Report};

use super::capture::{Capture, Refused, Seconds, aside, file};

/// Samples a second. Not a round number, so that it does not march in step with timers.
const FREQUENCY: i32 = 199;
/// The length of a capture that names none.
const USUAL: Duration = Duration::from_secs(30);
/// Whose frames are left out: unwinding through them inside a signal handler can crash.
const BLOCKLIST: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// `GET /debug/pprof/profile`.
pub(super) async fn profile(
    State(capture): State<Capture>,
    seconds: Seconds,
) -> Result<Response, Refused> {
    let report = sample(&capture, seconds).await?;
    let bytes = aside(move || {
        let profile = report.pprof().map_err(Refused::failed)?;
        profile.write_to_bytes().map_err(Refused::failed)
    });
    Ok(file("profile.pb", bytes.await?))
}

/// `GET /debug/pprof/flamegraph`.
pub(super) async fn flamegraph(
    State(capture): State<Capture>,
    seconds: Seconds,
) -> Result<Response, Refused> {
    let report = sample(&capture, seconds).await?;
    if report.data.is_empty() {
        return Err(Refused::failed("the node used no CPU in that time"));
    }
    let svg = aside(move || {
        let mut svg = Vec::new();
        report.flamegraph(&mut svg).map_err(Refused::failed)?;
        Ok(svg)
    });
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], svg.await?).into_response())
}

/// Samples every thread. Dropping the future, as when the client leaves, ends the capture.
async fn sample(capture: &Capture, seconds: Seconds) -> Result<Report, Refused> {
    let turn = capture.begin()?;
    // The beginning reads the tables of symbols as well.
    let guard = aside(|| {
        let builder = ProfilerGuardBuilder::default().frequency(FREQUENCY);
        builder.blocklist(&BLOCKLIST).build().map_err(Refused::failed)
    });
    let guard = guard.await?;
    tokio::time::sleep(seconds.asked().unwrap_or(USUAL)).await;
    aside(move || {
        let unnamed = guard.report().build_unresolved().map_err(Refused::failed)?;
        // From here on nobody is interrupted.
        drop(guard);
        let mut data = HashMap::new();
        for (stack, count) in unnamed.data {
            *data.entry(Frames::from(stack)).or_insert(0) += count;
        }
        drop(turn);
        Ok(Report { data, timing: unnamed.timing })
    })
    .await
}
