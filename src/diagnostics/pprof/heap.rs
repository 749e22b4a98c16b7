//! Memory in use, by the code that allocated it: samples of jemalloc's, one in 512 KiB.
//!
//! The first request turns sampling on, and what was allocated before is never seen. From then on
//! it stays on, or each look would forget the last; it costs about as much as its samples do.

use axum::extract::State;
use axum::response::Response;

use super::capture::{Capture, Refused, Seconds};
#[cfg(feature = "jemalloc")]
use super::capture::{aside, file};

/// `GET /debug/pprof/heap`.
#[cfg(feature = "jemalloc")]
pub(super) async fn heap(
    State(capture): State<Capture>,
    seconds: Seconds,
) -> Result<Response, Refused> {
    let turn = capture.begin()?;
    let Some(profiling) = jemalloc_pprof::PROF_CTL.as_ref() else {
        return Err(Refused::Absent("heap"));
    };
    {
        let mut profiling = profiling.lock().await;
        if !profiling.activated() {
            profiling.activate().map_err(Refused::failed)?;
        }
    }
    if let Some(length) = seconds.asked() {
        tokio::time::sleep(length).await;
    }
    let dump = || profiling.blocking_lock().dump_profile();
    let stacks = tokio::task::spawn_blocking(dump).await.map_err(Refused::failed)?;
    let stacks = stacks.map_err(Refused::failed)?;
    let bytes = aside(move || {
        let bytes = stacks.to_pprof(("inuse_space", "bytes"), ("space", "bytes"), None);
        drop(turn);
        Ok(bytes)
    });
    Ok(file("heap.pb.gz", bytes.await?))
}

/// `GET /debug/pprof/heap`, with nobody who takes samples.
#[cfg(not(feature = "jemalloc"))]
pub(super) async fn heap(State(_): State<Capture>, _: Seconds) -> Result<Response, Refused> {
    Err(Refused::Absent("heap"))
}
