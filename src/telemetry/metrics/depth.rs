//! What the scrape reads from the store; absent while the store is away.

use super::family::Declared;

/// Tasks per queue and state.
pub const QUEUE: Declared = Declared {
    name: "codeq_queue_depth",
    kind: "gauge",
    help: "Tasks per command: ready, delayed, in_progress or dlq. The same on every node.",
    labels: &["command", "queue"],
    buckets: &[],
};
/// Dead letters.
pub const DLQ: Declared = Declared {
    name: "codeq_dlq_depth",
    kind: "gauge",
    help: "Dead letters per command. The same on every node.",
    labels: &["command"],
    buckets: &[],
};
/// Unexpired subscriptions.
pub const SUBSCRIPTIONS: Declared = Declared {
    name: "codeq_subscriptions_active",
    kind: "gauge",
    help: "Unexpired subscriptions per command. The same on every node.",
    labels: &["command"],
    buckets: &[],
};
/// The oldest that is ready.
pub const OLDEST_READY: Declared = Declared {
    name: "codeq_queue_oldest_ready_age_seconds",
    kind: "gauge",
    help: "How long the oldest ready task of a command has been ready, by the clock of the store; 0 when none is. The same on every node.",
    labels: &["command"],
    buckets: &[],
};
/// Claims stopped.
pub const PAUSED: Declared = Declared {
    name: "codeq_queue_paused",
    kind: "gauge",
    help: "1 while a queue of the command is paused. The same on every node.",
    labels: &["command"],
    buckets: &[],
};
/// Split by priority.
pub const BY_PRIORITY: Declared = Declared {
    name: "codeq_queue_ready_by_priority",
    kind: "gauge",
    help: "Ready tasks per priority of the commands in metrics.priorityCommands. The same on every node.",
    labels: &["command", "priority"],
    buckets: &[],
};
/// Who works.
pub const WORKERS: Declared = Declared {
    name: "codeq_workers_active",
    kind: "gauge",
    help: "Workers that called claim or heartbeat for the command in the last two minutes. The same on every node.",
    labels: &["command"],
    buckets: &[],
};
/// Per tenant and state.
pub const OF_TENANT: Declared = Declared {
    name: "codeq_tenant_queue_depth",
    kind: "gauge",
    help: "Tasks per tenant of metrics.tenants, all others as _other: ready, delayed, in_progress or dlq. The same on every node.",
    labels: &["tenant", "queue"],
    buckets: &[],
};
/// The sweeper's lateness.
pub const OVERDUE: Declared = Declared {
    name: "codeq_delayed_overdue_seconds",
    kind: "gauge",
    help: "How late the most overdue delayed task is; 0 when none is. The same on every node.",
    labels: &[],
    buckets: &[],
};
/// Webhook deliveries in the outbox.
pub const OUTBOX: Declared = Declared {
    name: "codeq_webhook_outbox_depth",
    kind: "gauge",
    help: "Webhook deliveries: pending, parked (pending for a destination that is left alone) or dead. The same on every node.",
    labels: &["state"],
    buckets: &[],
};
/// Destinations.
pub const DESTINATIONS: Declared = Declared {
    name: "codeq_webhook_destinations",
    kind: "gauge",
    help: "Destinations of webhooks: active, open, paused or disabled. The same on every node.",
    labels: &["state"],
    buckets: &[],
};
/// Our own lateness.
pub const OUTBOX_AGE: Declared = Declared {
    name: "codeq_webhook_outbox_oldest_age_seconds",
    kind: "gauge",
    help: "How long the delivery that waits longest has been due, without parked ones; 0 when none is. The same on every node.",
    labels: &[],
    buckets: &[],
};
/// Every family of the collector.
pub const ALL: &[Declared] = &[
    QUEUE,
    DLQ,
    SUBSCRIPTIONS,
    OLDEST_READY,
    PAUSED,
    BY_PRIORITY,
    WORKERS,
    OF_TENANT,
    OVERDUE,
    OUTBOX,
    DESTINATIONS,
    OUTBOX_AGE,
];
