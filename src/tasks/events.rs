//! What each step of a task's life leaves behind. One function writes span, metric and log line of a
//! step, so they cannot disagree.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::app::App;
use crate::http::{Worker, scope};
use crate::model::record::{self, Body, End, Terminal};
use crate::model::{Command, Priority, Task, TaskId, TenantId};
use crate::telemetry::log::Every;
use crate::telemetry::metrics::{
    Delivery, DlqMoved, Failed, Returned, Said, Sampled, Status as Ended, Swept,
};
use crate::telemetry::trace::{self, OpenSpan, Step, Sweep};

use super::abandon::Abandoned;
use super::cancel::Cancelled;
use super::claim::Granted;
use super::heartbeat::Kept;
use super::nack::Nacked;
use super::submit::Submitted;

pub use super::step::Drawn;

/// The beginning of a body, as scripts give it, with the command as its label spells it. One that
/// cannot be read was logged elsewhere.
pub fn head(app: &App, bytes: &[u8]) -> Option<Body> {
    Body::read_head(bytes).ok().map(|body| spelled(app, body))
}

/// The same body for spans and lines: they name a command as metrics do.
pub fn spelled(app: &App, mut body: Body) -> Body {
    body.command = app.labels.spelled(body.label, &body.command);
    body
}

/// Seconds of a time by the store's clock.
fn seconds(ms: i64) -> f64 {
    f64::from(u32::try_from(ms.max(0)).unwrap_or(u32::MAX)) / 1000.0
}

/// Writes the line of a step: fields that every line about a task has, then its own.
macro_rules! line {
    ($level:ident, $category:literal, $event:literal, $id:expr, $body:expr, $after:expr, { $($field:tt)* }, $message:literal) => {
        tracing::$level!(
            target: "codeq::task",
            category = $category,
            event = $event,
            task_id = %$id,
            command = $body.command.as_str(),
            tenant_id = $body.tenant.as_str(),
            priority = $body.priority.number(),
            traceparent = $after,
            $($field)*
            $message
        )
    };
}

/// A task that a producer hands in.
pub(super) struct Made {
    pub id: TaskId,
    pub label: u16,
    pub command: Command,
    pub tenant: TenantId,
    pub producer: String,
    pub priority: Priority,
    pub trace_parent: Option<String>,
    /// Whether it was told of: after a silence of the store the answers to both its tries may come.
    pub told: AtomicBool,
}

impl Made {
    /// Whether nobody was told of it before; from now on somebody was.
    pub fn is_news(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }
}

/// A producer's task was accepted. Without a span when the producer did not wait for it.
pub(super) fn created(app: &App, span: Option<&mut OpenSpan>, made: &Made, max_attempts: u16) {
    let command = app.labels.spelled(made.label, &made.command);
    if let Some(span) = span.filter(|span| span.is_recording()) {
        span.set("codeq.task_id", made.id.to_string())
            .set("codeq.idempotent_replay", false)
            .set("messaging.message.id", made.id.to_string());
    }
    if !made.is_news() {
        return;
    }
    app.with_label(made.label, |metrics| metrics.created.inc());
    tracing::info!(
        target: "codeq::task",
        category = "task",
        event = "task.created",
        task_id = %made.id,
        command = command.as_str(),
        tenant_id = made.tenant.as_str(),
        producer_id = made.producer.as_str(),
        priority = made.priority.number(),
        max_attempts,
        traceparent = made.trace_parent.as_deref(),
        "task created"
    );
}

/// A producer's key was known.
pub(super) fn replayed(span: &mut OpenSpan, task: &Task) {
    if span.is_recording() {
        span.set("codeq.task_id", task.id.to_string())
            .set("codeq.idempotent_replay", true)
            .set("messaging.message.id", task.id.to_string());
    }
    tracing::debug!(
        target: "codeq::task",
        category = "task",
        event = "task.replayed",
        task_id = %task.id,
        command = task.command.as_str(),
        tenant_id = task.tenant_id.as_str(),
        "idempotency key known"
    );
}

/// A create was answered with a task that was there.
pub(super) fn count_replay(app: &App, made: &Made) {
    if made.is_news() {
        app.with_label(made.label, |metrics| metrics.replays.inc());
    }
}

/// A claim took a task, for whomever: the worker may be gone by now.
pub(super) fn taken(app: &App, granted: &Granted, claimed_ms: i64) {
    let waited = seconds(claimed_ms - granted.visible_ms);
    let created = || Body::read_head(&granted.body).ok()?.trace_parent;
    let context = granted.trace.clone().or_else(|| trace::is_on().then(created).flatten());
    let trace = Sampled::of(context.as_deref());
    app.with_label(record::label_of(&granted.body), move |metrics| {
        metrics.claimed.inc();
        metrics.queue_wait.observe(waited, trace);
    });
}

/// A worker got a task.
pub(super) fn claimed(step: &Drawn, body: &Body, task: &Task, granted: &Granted) {
    let queue_wait_ms = (task.updated_at.ms() - granted.visible_ms).max(0);
    let worker = task.worker_id.as_deref().unwrap_or_default();
    let mut span = step.span(body, granted.trace.as_deref());
    by_worker(&mut span, &granted.id, body, worker);
    if span.is_recording() {
        span.set("codeq.attempt", i64::from(granted.attempt))
            .set("codeq.priority", i64::from(body.priority.number()))
            .set("codeq.lease_seconds", lease_seconds(task))
            .set("codeq.queue_wait_ms", queue_wait_ms);
        message(&mut span, "claim", "receive", body.command.as_str());
        span.set("messaging.message.id", granted.id.to_string());
    }
    drop(span);
    trace::link_request(body.trace_parent.as_deref(), body.trace_state.as_deref());
    line!(info, "task", "task.claimed", granted.id, body, task.trace_parent.as_deref(), {
        worker_id = worker,
        attempt = granted.attempt,
        max_attempts = body.max_attempts,
        queue_wait_ms,
    }, "task claimed");
}

/// A worker may not have what it asked for; `reason` is the code of the answer.
pub(super) fn claim_rejected(worker: &Worker<scope::Claim>, reason: &'static str) {
    static LIMIT: Every = Every::new(Duration::from_secs(1));
    if let Some(suppressed) = LIMIT.pass() {
        tracing::info!(
            target: "codeq::task", category = "worker", event = "claim.rejected",
            worker_id = worker.subject.as_str(), tenant_id = worker.tenant.as_str(), reason,
            suppressed, "a claim was rejected"
        );
    }
}

/// A worker keeps its task.
pub(super) fn kept(
    app: &App,
    step: &Drawn,
    id: &TaskId,
    kept: &Kept,
    worker: &str,
    extend_ms: u64,
) {
    let Some(body) = head(app, &kept.head) else { return };
    app.worker_called(&body.tenant, worker, [&body.command]);
    let before = kept.trace.as_deref().or(body.trace_parent.as_deref());
    let mut span = step.span(&body, before);
    by_worker(&mut span, id, &body, worker);
    span.set("codeq.extend_seconds", i64::try_from(extend_ms / 1000).unwrap_or(i64::MAX));
    drop(span);
    line!(debug, "worker", "heartbeat", id, body, step.after(before), {
        worker_id = worker,
        attempt = kept.attempt,
    }, "lease extended");
}

/// A worker gave a task back unused.
pub(super) fn abandoned(app: &App, step: &Drawn, id: &TaskId, abandoned: &Abandoned, worker: &str) {
    let Some(body) = head(app, &abandoned.head).filter(|_| !abandoned.replayed) else { return };
    let before = abandoned.trace.as_deref().or(body.trace_parent.as_deref());
    by_worker(&mut step.span(&body, before), id, &body, worker);
    let after = step.after(before);
    returned(app, id, &body, abandoned.attempt, worker, Returned::Abandon, after.as_deref());
}

/// A claim's answer could not be handed over.
pub(super) fn undelivered(app: &App, id: &TaskId, abandoned: &Abandoned, worker: &str) {
    let Some(body) = head(app, &abandoned.head).filter(|_| !abandoned.replayed) else { return };
    let after = abandoned.trace.as_deref().or(body.trace_parent.as_deref());
    returned(app, id, &body, abandoned.attempt, worker, Returned::Undelivered, after);
}

fn returned(
    app: &App,
    id: &TaskId,
    body: &Body,
    attempt: u16,
    worker: &str,
    reason: Returned,
    after: Option<&str>,
) {
    app.with_label(body.label, move |metrics| metrics.returned.with(reason).inc());
    line!(info, "queue", "task.returned", id, body, after, {
        worker_id = worker,
        attempt,
        reason = reason.text(),
    }, "task returned");
}

/// A worker gave a task back for later.
pub(super) fn nacked(
    app: &App,
    step: &Drawn,
    id: &TaskId,
    nacked: &Nacked,
    worker: &str,
    told: &str,
) {
    let Some(body) = head(app, &nacked.head).filter(|_| !nacked.replayed) else { return };
    let before = nacked.trace.as_deref().or(body.trace_parent.as_deref());
    let mut span = step.span(&body, before);
    by_worker(&mut span, id, &body, worker);
    span.set("codeq.delay_seconds", i64::try_from(nacked.delay_ms / 1000).unwrap_or(i64::MAX))
        .set("codeq.reason", "nack");
    worked(app, &body, Said::Nack, nacked.held_ms, before);
    let attempt = Attempt {
        id,
        attempt: nacked.attempt,
        claimed_ms: nacked.claimed_ms,
        delay_ms: nacked.delay_ms,
        worker,
        reason: Failed::Nack,
        told: Some(told).filter(|text| !text.is_empty()),
        record: &nacked.record,
    };
    failed_attempt(app, &body, &attempt, step.after(before).as_deref());
}

/// An attempt that failed, by whatever way.
pub struct Attempt<'a> {
    /// The task.
    pub id: &'a TaskId,
    /// Which delivery it was.
    pub attempt: u16,
    /// When it began, by the store's clock.
    pub claimed_ms: i64,
    /// The wait before the next one.
    pub delay_ms: u64,
    /// Who held the task.
    pub worker: &'a str,
    /// A class, as in metrics.
    pub reason: Failed,
    /// What the worker said of it: for the log alone.
    pub told: Option<&'a str>,
    /// The terminal record if it was the last, else empty.
    pub record: &'a bytes::Bytes,
}

/// A lease ran out; it was the `n`-th, from 1, that the sweep ended.
pub fn lease_expired(
    app: &App,
    sweep: &Sweep,
    n: usize,
    body: &Body,
    attempt: &Attempt<'_>,
    before: Option<&str>,
) {
    let before = before.or(body.trace_parent.as_deref());
    let dead = !attempt.record.is_empty();
    let step = if dead { Step::DeadLetter } else { Step::Requeue };
    let n = u16::try_from(n).unwrap_or(u16::MAX);
    let mut span = sweep.task(step, n, before, body.trace_state.as_deref());
    about(&mut span, attempt.id, body);
    span.set("codeq.reason", attempt.reason.text())
        .set("codeq.attempt", i64::from(attempt.attempt));
    // Without a context to begin with, the one of a new trace is stored nowhere.
    let after = before.and_then(|_| span.traceparent()).or_else(|| before.map(str::to_owned));
    drop(span);
    app.with_label(body.label, |metrics| metrics.lease_expired.inc());
    line!(info, "queue", "lease.expired", attempt.id, body, before, {
        worker_id = attempt.worker,
        attempt = attempt.attempt,
        max_attempts = body.max_attempts,
    }, "lease expired");
    failed_attempt(app, body, attempt, after.as_deref());
}

fn failed_attempt(app: &App, body: &Body, attempt: &Attempt<'_>, after: Option<&str>) {
    let reason = attempt.reason;
    if attempt.record.is_empty() {
        app.with_label(body.label, move |metrics| metrics.retries.with(reason).inc());
        line!(info, "queue", "task.requeued", attempt.id, body, after, {
            worker_id = attempt.worker,
            attempt = attempt.attempt,
            max_attempts = body.max_attempts,
            reason = attempt.reason.text(),
            delay_ms = attempt.delay_ms,
            will_retry = true,
            error.r#type = attempt.reason.text(),
            error.message = attempt.told,
        }, "task requeued");
        return;
    }
    let Ok(terminal) = Terminal::read(attempt.record) else { return };
    ended(app, attempt.id, body, terminal.end);
    count_end(app, body, &terminal, after);
    app.with_label(body.label, move |metrics| metrics.dead_lettered.with(reason).inc());
    line!(warn, "queue", "task.dead_lettered", attempt.id, body, after, {
        worker_id = attempt.worker,
        attempt = attempt.attempt,
        max_attempts = body.max_attempts,
        reason = attempt.reason.text(),
        will_retry = false,
        duration_ms = terminal.completed.ms() - attempt.claimed_ms,
        total_duration_ms = terminal.completed.ms() - body.created.ms(),
        error.r#type = attempt.reason.text(),
        error.message = attempt.told,
    }, "task dead-lettered");
}

/// A worker's verdict ended a task.
pub(super) fn submitted(
    app: &App,
    step: &Drawn,
    id: &TaskId,
    submitted: &Submitted,
    terminal: &Terminal,
    worker: &str,
    artifacts: usize,
) {
    let Some(body) = head(app, &submitted.head) else { return };
    let before = submitted.trace.as_deref().or(body.trace_parent.as_deref());
    let mut span = step.span(&body, before);
    by_worker(&mut span, id, &body, worker);
    let status = if terminal.end == End::Completed { "COMPLETED" } else { "FAILED" };
    span.set("codeq.submit.status", status)
        .set("codeq.attempt", i64::from(terminal.attempts))
        .set("codeq.artifact_count", i64::try_from(artifacts).unwrap_or(i64::MAX));
    ended(app, id, &body, terminal.end);
    let after = terminal.trace_parent.as_deref().or(before);
    count_end(app, &body, terminal, after);
    if let Some(claimed) = terminal.claimed {
        worked(app, &body, Said::Ack, terminal.completed.ms() - claimed.ms(), after);
    }
    let total_duration_ms = terminal.completed.ms() - body.created.ms();
    let duration_ms = terminal.claimed.map(|at| terminal.completed.ms() - at.ms());
    if terminal.end == End::Completed {
        line!(info, "task", "task.completed", id, body, after, {
            worker_id = worker, attempt = terminal.attempts, status, duration_ms, total_duration_ms,
        }, "task completed");
    } else {
        line!(info, "task", "task.failed", id, body, after, {
            worker_id = worker, attempt = terminal.attempts, max_attempts = body.max_attempts, status,
            duration_ms, total_duration_ms, will_retry = false, error.r#type = "worker",
        }, "task failed");
    }
}

/// A task was called off.
pub(super) fn cancelled(app: &App, step: &Drawn, id: &TaskId, cancelled: &Cancelled) {
    let Some(body) = head(app, &cancelled.head) else { return };
    app.with_label(body.label, |metrics| metrics.cancelled.inc());
    ended(app, id, &body, End::Cancelled);
    let before = cancelled.trace.as_deref().or(body.trace_parent.as_deref());
    about(&mut step.span(&body, before), id, &body);
    let terminal = Terminal::read(&cancelled.record).ok();
    let total_duration_ms = terminal.map(|end| end.completed.ms() - body.created.ms());
    line!(info, "task", "task.cancelled", id, body, step.after(before), {
        total_duration_ms,
    }, "task cancelled");
}

/// A dead task came back.
pub fn redriven(app: &App, step: &Drawn, id: &TaskId, body: &Body, before: Option<&str>) {
    left_dlq(app, &[body.label], DlqMoved::Requeue);
    let before = before.or(body.trace_parent.as_deref());
    about(&mut step.span(body, before), id, body);
    line!(info, "queue", "task.redriven", id, body, step.after(before), {}, "task redriven");
}

/// So many deliveries left the outbox unsent, because their tasks came back; all are of the command
/// of this one.
pub fn superseded(app: &App, body: &Body, deliveries: u64) {
    if deliveries > 0 {
        app.with_label(body.label, move |metrics| {
            metrics.webhook_deliveries.with(Delivery::TaskResultSuperseded).inc_by(deliveries);
        });
    }
}

/// What a round of sweeps moved on all partitions.
pub fn sweep_moved(moved: [u64; 3]) {
    let [delayed, lease, retention] = moved;
    if moved != [0; 3] {
        tracing::info!(
            target: "codeq::sweeper", category = "queue", event = "sweep.moved",
            moved.delayed = delayed, moved.lease = lease, moved.retention = retention,
            "time moved tasks"
        );
    }
}

/// Tasks left the DLQ: the label of each.
pub fn left_dlq(app: &App, labels: &[u16], how: DlqMoved) {
    for label in labels {
        app.with_label(*label, move |metrics| metrics.dlq_moved.with(how).inc());
    }
}

/// Time moved tasks of a partition: so many became ready, so many leases ended, and those with these
/// labels went for good.
pub fn swept(app: &App, sweep: &mut Sweep, due: u64, leases: usize, retired: &[u16]) {
    let (leases, gone) = (leases as u64, retired.len() as u64);
    for (kind, name, moved) in [
        (Swept::Delayed, "codeq.moved.delayed", due),
        (Swept::Lease, "codeq.moved.lease", leases),
        (Swept::Retention, "codeq.moved.retention", gone),
    ] {
        app.metrics.sweep_moved.with(kind).inc_by(moved);
        if moved > 0 {
            sweep.span().set(name, i64::try_from(moved).unwrap_or(i64::MAX));
        }
    }
    left_dlq(app, retired, DlqMoved::Expired);
}

/// A task ended: if somebody is to be told, the script has put the delivery into the outbox, and this
/// node looks there at once.
fn ended(app: &App, id: &TaskId, body: &Body, end: End) {
    if body.hooks.wants(end) {
        app.outbox.nudge(id.partition(), false);
    }
}

fn count_end(app: &App, body: &Body, terminal: &Terminal, context: Option<&str>) {
    let trace = Sampled::of(context);
    let status = match terminal.end {
        End::Completed => Ended::Completed,
        _ => Ended::Failed,
    };
    let life = seconds(terminal.completed.ms() - body.created.ms());
    let attempts = f64::from(terminal.attempts);
    app.with_label(body.label, move |metrics| {
        metrics.completed.with(status).inc();
        metrics.processing_latency.with(status).observe(life, trace);
        metrics.attempts.observe(attempts);
    });
    if let Some(tenant) = app.tenants.of(&body.tenant) {
        tenant.completed.with(status).inc();
    }
}

/// A worker is done with an attempt, and says so.
fn worked(app: &App, body: &Body, said: Said, held_ms: i64, context: Option<&str>) {
    let (held, trace) = (seconds(held_ms), Sampled::of(context));
    app.with_label(body.label, move |metrics| metrics.execution.with(said).observe(held, trace));
    if let Some(tenant) = app.tenants.of(&body.tenant) {
        tenant.execution_seconds.inc_by(held);
    }
}

fn about(span: &mut OpenSpan, id: &TaskId, body: &Body) {
    if !span.is_recording() {
        return;
    }
    span.set("codeq.task_id", id.to_string())
        .set("codeq.command", body.command.as_str().to_owned())
        .set("codeq.tenant_id", body.tenant.as_str().to_owned());
}

fn by_worker(span: &mut OpenSpan, id: &TaskId, body: &Body, worker: &str) {
    about(span, id, body);
    if span.is_recording() {
        span.set("codeq.worker_id", worker.to_owned());
    }
}

/// Says which queue a create is for.
pub(super) fn create_asks(span: &mut OpenSpan, command: &Command) {
    if span.is_recording() {
        span.set("codeq.command", command.as_str().to_owned());
        message(span, "create", "send", command.as_str());
    }
}

/// What the conventions want to know of a message.
fn message(span: &mut OpenSpan, name: &'static str, kind: &'static str, command: &str) {
    span.set("messaging.system", "codeq")
        .set("messaging.operation.name", name)
        .set("messaging.operation.type", kind)
        .set("messaging.destination.name", command.to_owned());
}

/// How long the lease of a task that was just claimed is, in seconds.
fn lease_seconds(task: &Task) -> i64 {
    task.lease_until.map_or(0, |until| (until.ms() - task.updated_at.ms()) / 1000)
}
