//! What time does: due tasks become ready, expired leases end, dead tasks past their retention go.
//!
//! Every node sweeps every partition. A guard in each partition keeps the fleet's rate the same
//! however many nodes there are, and any of them takes over at once when another dies.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use opentelemetry::trace::SpanId;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::app::{App, Cause};
use crate::model::record::{Body, Terminal};
use crate::model::{Partition, QueueName, TaskId};
use crate::store;
use crate::tasks::events::{self, Attempt};
use crate::telemetry::metrics::{Failed, LoopKind, Sweep as Round};
use crate::telemetry::trace::{self, draw_span_id, span_begins};
use crate::{gives, script};

gives! {
    /// A lease that ended.
    pub struct Expired {
        id: TaskId, head: Bytes, outcome: String, delay_ms: u64, attempt: u16, claimed_ms: i64,
        held_ms: i64, worker: String, record: Bytes, awaited: bool, trace: Option<String>,
    }
}

script! {
    /// Moves what is due on a partition.
    pub struct Sweep<'a> = "sweep", write, once_only {
        once { policy: &'static str, base_ms: u64, max_ms: u64, dlq_ms: u64, hold_ms: u64, age_ms: u64, lost_ms: u64 }
        each { guard_ms: u64, limit: u64, dooms: u64, chance: f64, span: &'a str }
    } -> Swept { ran: bool, more: bool, due: u64, woken: Vec<(QueueName, Bytes, Option<String>)>, expired: Vec<Expired>, retired: Vec<u16>, outbox: bool, aged: bool, doomed: Vec<String>, recoveries: Vec<TaskId> }
}

/// How often a partition is swept, by whichever node.
const PERIOD: Duration = Duration::from_millis(500);
/// Shorter than the period, so that a node alone finds its own guard gone.
const GUARD: Duration = Duration::from_millis(400);
/// Most things of each kind moved in one call.
const LIMIT: u64 = 64;
/// Most calls in a row for one partition, so that a flood in one leaves turns to the others.
const BURST: usize = 64;

/// Sweeps until told to stop.
pub async fn run(app: App, stop: CancellationToken) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let begun = Instant::now();
        let sweeps = app.partitions.all().map(|partition| sweep(&app, partition, &stop));
        let swept = futures_util::future::join_all(sweeps).await;
        let moved = swept.iter().flatten().fold([0; 3], |sum: [u64; 3], of: &[u64; 3]| {
            [sum[0] + of[0], sum[1] + of[1], sum[2] + of[2]]
        });
        events::sweep_moved(moved);
        let is_complete = swept.iter().all(Result::is_ok);
        app.metrics.sweep_duration.observe(begun.elapsed().as_secs_f64());
        app.metrics.sweep_runs.with(if is_complete { Round::Ok } else { Round::Error }).inc();
        if is_complete {
            let now = jiff::Timestamp::now().as_millisecond();
            app.metrics
                .sweep_last_success
                .set(std::time::Duration::from_millis(now.unsigned_abs()).as_secs_f64());
            continue;
        }
        // A store that is away says so itself, and one with too much to do is swept at the next turn.
        let mut failed = swept.iter().filter_map(|swept| swept.as_ref().err());
        if let Some(error) = failed.find(|error| !error.is_passing()) {
            app.metrics.loop_failed(LoopKind::Sweeper, &error.to_string());
        }
    }
}

/// Moves all that is due on a partition, in bounded calls; how many due tasks, expired leases and
/// tasks past their retention that were.
async fn sweep(
    app: &App,
    partition: Partition,
    stop: &CancellationToken,
) -> Result<[u64; 3], store::Error> {
    let begun = Instant::now();
    let mut moved = [0; 3];
    for call in 0..BURST {
        let guard = if call == 0 { GUARD } else { Duration::ZERO };
        let swept = sweep_once(app, partition, guard).await?;
        for (sum, count) in moved.iter_mut().zip(swept.moved()) {
            *sum += count;
        }
        if !swept.more || stop.is_cancelled() || begun.elapsed() > PERIOD * 4 {
            break;
        }
    }
    Ok(moved)
}

impl Swept {
    fn moved(&self) -> [u64; 3] {
        [self.due, self.expired.len() as u64, self.retired.len() as u64]
    }
}

async fn sweep_once(
    app: &App,
    partition: Partition,
    guard: Duration,
) -> Result<Swept, store::Error> {
    let rules = app.rules();
    let id = draw_span_id();
    let began = span_begins();
    let span = id.map(|id| id.to_string()).unwrap_or_default();
    let sweep = Sweep {
        policy: rules.policy,
        base_ms: rules.base_ms,
        max_ms: rules.max_ms,
        dlq_ms: rules.dlq_ms,
        hold_ms: rules.hold_ms,
        age_ms: rules.age_ms,
        lost_ms: rules.lost_ms,
        guard_ms: u64::try_from(guard.as_millis()).expect("under a second"),
        limit: LIMIT,
        dooms: app.deletions.room(),
        chance: rand::random(),
        span: &span,
    };
    // An answer that comes too late for the loop is told of all the same: what it moved is moved.
    let late = app.clone();
    let on_late = move |swept: Swept| settle(&late, partition, id, began, &swept);
    let swept = app.store.run_with_orphan(partition, sweep, on_late).await?;
    settle(app, partition, id, began, &swept);
    Ok(swept)
}

/// Tells everybody concerned what a sweep has moved.
fn settle(
    app: &App,
    partition: Partition,
    id: Option<SpanId>,
    began: Option<SystemTime>,
    swept: &Swept,
) {
    for (queue, head, latest) in &swept.woken {
        app.announce_ready(partition, queue, || {
            let body = Body::read_head(head).ok();
            body.map(|body| Cause::of(body, latest.clone())).unwrap_or_default()
        });
    }
    if swept.ran {
        let moved = swept.due + swept.expired.len() as u64 + swept.retired.len() as u64;
        let mut span = if moved > 0 { trace::Sweep::open(began, id) } else { trace::Sweep::none() };
        events::swept(app, &mut span, swept.due, swept.expired.len(), &swept.retired);
        for (at, expired) in swept.expired.iter().enumerate() {
            tell(app, &span, at + 1, expired);
        }
    }
    if swept.outbox || swept.aged {
        app.outbox.nudge(partition, swept.aged);
    }
    app.delete_folders(&swept.doomed);
    for id in &swept.recoveries {
        app.recoveries.nudge(*id);
    }
}

fn tell(app: &App, sweep: &trace::Sweep, n: usize, expired: &Expired) {
    if expired.awaited {
        app.announce_done(&expired.id);
    }
    let Some(body) = events::head(app, &expired.head) else { return };
    debug_assert_eq!(expired.outcome == "dead", Terminal::read(&expired.record).is_ok());
    let attempt = Attempt {
        id: &expired.id,
        attempt: expired.attempt,
        claimed_ms: expired.claimed_ms,
        delay_ms: expired.delay_ms,
        worker: &expired.worker,
        reason: Failed::LeaseExpired,
        told: None,
        record: &expired.record,
    };
    events::lease_expired(app, sweep, n, &body, &attempt, expired.trace.as_deref());
}
