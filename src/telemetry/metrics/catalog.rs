//! Every family a node exports. The doc comment is the help text.

use super::exemplar::TracedHistogram;
use super::family::{By, Declared, Family, HeldGauge, Home, Open, SetGauge, Sparse};
use super::labels::*;
use super::recording::{Counter, Histogram, IntCounter};
use crate::model::delivery::Reason;

/// Declares the families: `field: type = "name" [labels] buckets;`.
macro_rules! families {
    ($($(#[doc = $help:literal])+ $field:ident: $family:ty = $name:literal [$($label:literal),*] $($buckets:ident)?;)+) => {
        /// One field per family.
        pub struct Families { $( $(#[doc = $help])+ pub $field: $family, )+ }

        impl Families {
            /// Every declaration, in the order of the catalog.
            pub const ALL: &'static [Declared] = &[$(Declared {
                name: $name,
                kind: <$family as Family>::KIND,
                help: concat!($($help),+),
                labels: &[$($label),*],
                buckets: families!(@buckets $($buckets)?),
            },)+];

            /// The values of their closed labels, in the same order.
            pub const MEMBERS: &'static [fn() -> Vec<Vec<&'static str>>] =
                &[$(<$family as Family>::members,)+];

            /// Whether they keep exemplars, in the same order.
            pub const EXEMPLARS: &'static [bool] = &[$(<$family as Family>::EXEMPLARS,)+];

            /// Registers every family.
            ///
            /// # Errors
            /// When two have one name.
            pub fn register(home: &Home) -> prometheus::Result<Self> {
                let mut declared = Self::ALL.iter();
                $( let $field = <$family>::register(
                    declared.next().expect("one declaration per field"),
                    home,
                )?; )+
                Ok(Self { $($field,)+ })
            }
        }
    };
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { $buckets };
}

/// From creation to the end of a task, in seconds.
const LIFE: &[f64] =
    &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
/// From the moment at which a task may be claimed to its claim, in seconds.
const QUEUED: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    1800.0,
];
/// From a claim to the worker's verdict, in seconds.
const WORK: &[f64] =
    &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
/// One round over all partitions, in seconds.
const SWEEP: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// One call of the store, in seconds.
const STORE: &[f64] =
    &[0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
/// Items of one call.
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
/// The bounds that OpenTelemetry's HTTP conventions advise, in seconds.
const HTTP: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// From the end of a task to the first 2xx, in seconds.
const TOLD: &[f64] = &[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 28_800.0,
    86_400.0,
];
/// One call to a receiver, in seconds.
const ATTEMPT: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];
/// Attempts.
const TRIES: &[f64] = &[1.0, 2.0, 3.0, 5.0, 8.0, 12.0];
/// One operation on an artifact's object, in seconds.
const OBJECTS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// As [`HTTP`], and finer at its low end: what is left without deliberate waiting.
const UNWAITED: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// Delays inside of a node, in seconds.
const DELAYS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];
/// From "it is there" to the answer of who waited for it, in seconds.
const WOKEN: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0];

families! {
    /// Tasks accepted, once each. A replayed idempotency key does not count.
    /// When: a create call, single or in a batch, is accepted.
    task_created: Open<(), IntCounter> = "codeq_task_created_total" ["command"];
    /// Deliveries to workers, redeliveries included.
    /// When: a claim hands a task to a worker.
    task_claimed: Open<(), IntCounter> = "codeq_task_claimed_total" ["command"];
    /// Tasks that ended, once each. FAILED is a worker's verdict or a dead letter.
    /// When: a worker's result is accepted, or the last attempt fails.
    task_completed: Open<Status, IntCounter> = "codeq_task_completed_total" ["command", "status"];
    /// Time from a task's creation to its end.
    /// When: the task ends.
    task_processing_latency: Open<Status, TracedHistogram> = "codeq_task_processing_latency_seconds" ["command", "status"] LIFE;
    /// Time from the moment at which a task may be claimed to its claim, by the clock of the store.
    /// When: a claim hands the task to a worker.
    task_queue_wait: Open<(), TracedHistogram> = "codeq_task_queue_wait_seconds" ["command"] QUEUED;
    /// Time from a claim until its worker submitted a result (ack) or gave the task back (nack).
    /// When: a worker's result or nack is accepted.
    task_execution: Open<Said, TracedHistogram> = "codeq_task_execution_seconds" ["command", "outcome"] WORK;
    /// Attempts that a task took until it ended; a cancelled one is not counted.
    /// When: the task ends.
    task_attempts: Open<(), Histogram> = "codeq_task_attempts" ["command"] TRIES;
    /// Attempts that failed and are followed by another.
    /// When: the task goes back for another attempt.
    task_retries: Open<Failed, IntCounter> = "codeq_task_retries_total" ["command", "reason"];
    /// Deliveries that went back without an attempt; undelivered: the worker was gone before its answer.
    /// When: a worker abandons the task, or its answer could not be handed over.
    task_returned: Open<Returned, IntCounter> = "codeq_task_returned_total" ["command", "reason"];
    /// Tasks that failed for the last time and went to the DLQ; they are FAILED in completed as well.
    /// When: the last attempt fails.
    task_dead_lettered: Open<Failed, IntCounter> = "codeq_task_dead_lettered_total" ["command", "reason"];
    /// Tasks that left the DLQ.
    /// When: an administrator or a sweep moves the task.
    dlq_moved: Open<DlqMoved, IntCounter> = "codeq_dlq_moved_total" ["command", "kind"];
    /// Creates that a known idempotency key answered with the task that is there.
    /// When: a create call is answered from its key.
    task_replays: Open<(), IntCounter> = "codeq_task_idempotent_replays_total" ["command"];
    /// Tasks called off before anybody worked on them.
    /// When: a cancel is accepted.
    task_cancelled: Open<(), IntCounter> = "codeq_task_cancelled_total" ["command"];
    /// Tasks of a tenant that ended, by how they ended. Only with metrics.tenants.
    /// When: the task ends.
    tenant_completed: Open<Status, IntCounter> = "codeq_tenant_task_completed_total" ["tenant", "status"];
    /// Seconds that workers had tasks of a tenant until they said what became of them. Only with metrics.tenants.
    /// When: a worker's result or nack is accepted.
    tenant_execution: Open<(), Counter> = "codeq_tenant_execution_seconds_total" ["tenant"];
    /// Leases that ran out, once each, whoever noticed.
    /// When: a sweep finds the lease past its end.
    lease_expired: Open<(), IntCounter> = "codeq_lease_expired_total" ["command"];
    /// Webhook deliveries that ended, one count per delivery and not per attempt.
    /// When: a receiver accepts, or the delivery is given up or superseded; a nudge to a subscriber, when it was sent.
    webhook_deliveries: Open<Delivery, IntCounter> = "codeq_webhook_deliveries_total" ["command", "kind", "outcome"];
    /// Calls to receivers, by how they ended.
    /// When: a call to a receiver has ended.
    webhook_attempts: By<WebhookAttempt, IntCounter> = "codeq_webhook_attempts_total" ["kind", "result"];
    /// Time of one call to a receiver, up to the status line.
    /// When: a call to a receiver has ended.
    webhook_duration: By<WebhookKind, TracedHistogram> = "codeq_webhook_duration_seconds" ["kind"] ATTEMPT;
    /// Calls to receivers that are under way.
    /// When: from the start of a call to a receiver to its end.
    webhook_in_flight: By<WebhookKind, HeldGauge> = "codeq_webhook_in_flight" ["kind"];
    /// Time from the end of a task until its webhook was first accepted.
    /// When: a receiver accepts the delivery for the first time.
    webhook_end_to_end: Open<(), TracedHistogram> = "codeq_webhook_end_to_end_seconds" ["command"] TOLD;
    /// Attempts that a delivery took until it was accepted.
    /// When: a receiver accepts the delivery.
    webhook_attempts_to_success: Histogram = "codeq_webhook_attempts_to_success" [] TRIES;
    /// Deliveries that were given up.
    /// When: a delivery is given up.
    webhook_dead: By<Reason, IntCounter> = "codeq_webhook_dead_total" ["reason"];
    /// When this node last looked for deliveries without an error, in Unix seconds; 0 before the first.
    /// When: a look for due deliveries is answered.
    outbox_last_success: SetGauge = "codeq_outbox_last_success_timestamp_seconds" [];
    /// Requests refused by a rate limit.
    /// When: a call is answered 429, or a delivery is put off.
    rate_limit_hits: By<RateLimit, IntCounter> = "codeq_rate_limit_hits_total" ["scope", "operation"];

    /// Time of one call of a script, from sending to the answer.
    /// When: the answer to a call arrives.
    store_operation_duration: Open<(), Histogram> = "codeq_store_operation_duration_seconds" ["operation"] STORE;
    /// Items handed to the store, by how they were answered.
    /// When: the answer to an item arrives.
    store_operations: Open<StoreResult, IntCounter> = "codeq_store_operations_total" ["operation", "result"];
    /// Calls to the store that failed.
    /// When: an item fails.
    store_errors: By<StoreFailure, IntCounter> = "codeq_store_errors_total" ["reason"];
    /// Items that travelled in one call.
    /// When: the answer to a call arrives.
    store_batch_size: Open<(), Histogram> = "codeq_store_batch_size" ["operation"] BATCH;
    /// 1 when Redis answered the last ping, at most five seconds ago.
    /// When: the ping of each second is answered, or is not.
    store_up: SetGauge = "codeq_store_up" [];
    /// Connections of the pool for rare calls; max is its bound.
    /// When: at a scrape.
    store_pool_connections: By<PoolState, SetGauge> = "codeq_store_pool_connections" ["state"];
    /// Memory of Redis, of its fullest primary; max is absent without `maxmemory`.
    /// When: the look of each second at Redis.
    store_memory: Sparse<StoreMemory> = "codeq_store_memory_bytes" ["state"];
    /// Long polls woken. Many from source poll mean that messages were lost.
    /// When: a long poll looks because it was woken.
    wakeups: By<Wakeup, IntCounter> = "codeq_wakeups_total" ["kind", "source"];
    /// Time from a task being ready, or its result stored, by Redis' clock, until the long poll that was woken for it is answered.
    /// When: a long poll that was woken is answered.
    wakeup_latency: By<Wakeup, Histogram> = "codeq_wakeup_latency_seconds" ["kind", "source"] WOKEN;
    /// Time that work of this node waited at its named wait points. Long polls are none.
    /// When: the wait ends.
    wait_time: By<WaitKind, Histogram> = "codeq_wait_seconds" ["kind"] DELAYS;
    /// Long polls that wait now.
    /// When: from the moment a call waits to its answer.
    waiters: By<Wait, HeldGauge> = "codeq_waiters" ["kind"];

    /// Requests answered.
    /// When: the answer is ready, or the client has gone: then as code 499.
    http_requests: Open<(), IntCounter> = "codeq_http_requests_total" ["route", "method", "code"];
    /// Time from a request's arrival to the end of its answer, waiting included.
    /// When: a request is counted.
    http_request_duration: Open<(), Histogram> = "codeq_http_request_duration_seconds" ["route", "method"] HTTP;
    /// Time from a request's arrival to the end of its answer, without the time it was asked to wait.
    /// When: a request is counted.
    http_request_work: Open<(), Histogram> = "codeq_http_request_work_seconds" ["route", "method"] UNWAITED;
    /// Requests being answered now, without probes and scrapes.
    /// When: from arrival to answer.
    http_requests_in_flight: HeldGauge = "codeq_http_requests_in_flight" [];
    /// Tokens refused.
    /// When: a token is refused.
    auth_failures: By<Refused, IntCounter> = "codeq_auth_failures_total" ["kind", "reason"];
    /// Fetches of key sets.
    /// When: a fetch has ended.
    jwks_fetches: By<Fetched, IntCounter> = "codeq_jwks_fetches_total" ["kind", "outcome"];
    /// When a key set was last fetched, in Unix seconds; absent without one, and before the first.
    /// When: a fetch has succeeded.
    jwks_last_success: Sparse<Role> = "codeq_jwks_last_success_timestamp_seconds" ["kind"];
    /// Look-ups in a cache of this node.
    /// When: a look-up.
    cache_requests: By<Cache, IntCounter> = "codeq_cache_requests_total" ["kind", "result"];
    /// Rounds of this node's sweeper over all partitions.
    /// When: a round ends.
    sweep_runs: By<Sweep, IntCounter> = "codeq_sweep_runs_total" ["outcome"];
    /// Time of one round of this node's sweeper.
    /// When: a round ends.
    sweep_duration: Histogram = "codeq_sweep_duration_seconds" [] SWEEP;
    /// Kinds of background loops that run: 1 when each loop of the kind does.
    /// When: from the start of the loops to their end.
    loops_active: By<LoopKind, HeldGauge> = "codeq_loops_active" ["kind"];
    /// Turns of background loops that failed.
    /// When: a turn fails for another reason than a store that is away.
    loop_errors: By<LoopKind, IntCounter> = "codeq_loop_errors_total" ["kind"];
    /// Background loops that ended or panicked and were started again.
    /// When: the supervisor finds that a loop has ended.
    loop_restarts: By<LoopKind, IntCounter> = "codeq_loop_restarts_total" ["kind"];
    /// Tasks the sweeper moved or removed.
    /// When: a sweep of a partition has moved something.
    sweep_moved: By<Swept, IntCounter> = "codeq_sweep_moved_total" ["kind"];
    /// When this node's last complete sweep ended, in Unix seconds; 0 before the first.
    /// When: a sweep of every partition has succeeded.
    sweep_last_success: SetGauge = "codeq_sweep_last_success_timestamp_seconds" [];

    /// Operations on objects in the artifact store; get is the look of `/health`.
    /// When: an operation has ended.
    artifact_operations: By<ArtifactResult, IntCounter> = "codeq_artifact_operations_total" ["operation", "result"];
    /// Bytes of artifacts stored and deleted.
    /// When: an operation has succeeded.
    artifact_bytes: By<ArtifactOperation, IntCounter> = "codeq_artifact_bytes_total" ["operation"];
    /// Time of one operation on one object in the artifact store.
    /// When: an operation has ended.
    artifact_duration: By<ArtifactOperation, Histogram> = "codeq_artifact_duration_seconds" ["operation"] OBJECTS;

    /// How long a task of the runtime waits for a thread.
    /// When: four times a second, by a probe from outside of the runtime.
    runtime_scheduling_delay: Histogram = "codeq_runtime_scheduling_delay_seconds" [] DELAYS;
    /// Batches of spans handed to the collector.
    /// When: an export has ended.
    otel_exports: By<Export, IntCounter> = "codeq_otel_export_total" ["outcome"];
    /// Tasks created under the label of all others, because the labels of the fleet are all taken or pinned.
    /// When: a task is created.
    label_overflow: By<Bounded, IntCounter> = "codeq_metrics_label_overflow_total" ["label"];
    /// Spans dropped because the collector took them too slowly, or not at all.
    /// When: a span ends while the queue of spans is full.
    otel_spans_dropped: IntCounter = "codeq_otel_spans_dropped_total" [];
    /// Log lines written.
    /// When: a line is written.
    log_lines: By<LogLevel, IntCounter> = "codeq_log_lines_total" ["level"];
    /// Log lines dropped because nobody read them fast enough.
    /// When: a line finds the buffer full.
    log_lines_dropped: prometheus::IntCounter = "codeq_log_lines_dropped_total" [];
    /// 1 for the version that runs.
    /// When: at the start.
    build_info: Open<(), SetGauge> = "codeq_build_info" ["version", "revision"];
    /// 1 while the node finishes its work and takes no more.
    /// When: the node is told to stop.
    draining: SetGauge = "codeq_draining" [];
    /// 1 when the last scrape could read the queues from the store.
    /// When: a scrape has read the store.
    scrape_collector_success: SetGauge = "codeq_scrape_collector_success" [];
    /// How long the last reading of the queues took.
    /// When: a scrape has read the store.
    scrape_collector_duration: SetGauge = "codeq_scrape_collector_duration_seconds" [];
}
