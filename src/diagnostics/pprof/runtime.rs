//! The runtime of this node: what stands in for Go's list of goroutines.

use axum::Json;
use serde::Serialize;
use tokio::runtime::Handle;

/// Threads and tasks, now and since the start.
#[derive(Serialize)]
pub(super) struct Runtime {
    /// Tasks that have not ended.
    alive_tasks: usize,
    /// Tasks that are ready and have no thread yet.
    global_queue_depth: usize,
    workers: Vec<Worker>,
}

/// A thread that runs tasks.
#[derive(Serialize)]
struct Worker {
    /// How long it ran tasks.
    busy_seconds: f64,
    /// How often it went to sleep for want of a task.
    parks: u64,
}

/// `GET /debug/pprof/runtime`.
pub(super) async fn now() -> Json<Runtime> {
    let metrics = Handle::current().metrics();
    let worker = |at| Worker {
        busy_seconds: metrics.worker_total_busy_duration(at).as_secs_f64(),
        parks: metrics.worker_park_count(at),
    };
    Json(Runtime {
        alive_tasks: metrics.num_alive_tasks(),
        global_queue_depth: metrics.global_queue_depth(),
        workers: (0..metrics.num_workers()).map(worker).collect(),
    })
}
