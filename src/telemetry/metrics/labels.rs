//! The closed label sets: every value a label of ours may have, as enums.

use crate::model::delivery::{Class, Reason};

/// One value of one label, or of several labels together, from a closed set.
pub trait Label: Copy + Send + Sync + 'static {
    /// Every member, in declaration order.
    const ALL: &'static [Self];

    /// The position in [`Label::ALL`].
    fn index(self) -> usize;

    /// Appends the label values, as they appear in a scrape.
    fn values(self, into: &mut Vec<&'static str>);

    /// The first of them, for a line of the log.
    fn name(self) -> &'static str {
        let mut values = Vec::new();
        self.values(&mut values);
        values.first().copied().unwrap_or_default()
    }
}

/// No label at all: a family of exactly one series.
impl Label for () {
    const ALL: &'static [Self] = &[()];

    fn index(self) -> usize {
        0
    }

    fn values(self, _: &mut Vec<&'static str>) {}
}

/// Declares a closed set: `Variant => "value of the first label" "of the second" …`.
macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$member:meta])* $variant:ident => $($text:literal)+,)+ })+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name {
            $(
                #[doc = concat!($("`", $text, "` ",)+)]
                $(#[$member])*
                $variant,
            )+
        }

        impl $name {
            /// The value of the first label.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => [$($text),+][0],)+
                }
            }
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn index(self) -> usize {
                self as usize
            }

            fn values(self, into: &mut Vec<&'static str>) {
                match self {
                    $(Self::$variant => into.extend([$($text),+]),)+
                }
            }
        }
    )+ };
}

labels! {
    /// How a task ended, in the spelling of the wire.
    Status {
        Completed => "COMPLETED",
        Failed => "FAILED",
    }

    /// What a webhook was about and how its delivery ended: labels `kind`, `outcome`.
    Delivery {
        TaskResultSuccess => "task_result" "success",
        TaskResultFailure => "task_result" "failure",
        TaskResultSuperseded => "task_result" "superseded",
        QueueReadySuccess => "queue_ready" "success",
        QueueReadyFailure => "queue_ready" "failure",
    }

    /// What a webhook is about.
    WebhookKind {
        TaskResult => "task_result",
        QueueReady => "queue_ready",
        OperatorEvent => "operator_event",
    }

    /// A rate limit that refused something: labels `scope`, `operation`.
    RateLimit {
        ProducerCreateTask => "producer" "create_task",
        WorkerClaim => "worker" "claim",
        WebhookTaskResult => "webhook" "task_result",
        WebhookQueueReady => "webhook" "queue_ready",
        WebhookTest => "webhook" "test",
        AdminCleanup => "admin" "cleanup",
    }

    /// What a long poll waits for.
    Wait {
        Claim => "claim",
        Result => "result",
    }

    /// A kind of named wait points.
    WaitKind {
        Gather => "gather",
        Link => "link",
        Pool => "pool",
        WebhookSlot => "webhook_slot",
        WebhookHostSlot => "webhook_host_slot",
        OutboxClaim => "outbox_claim",
        Lock => "lock",
        LogWriter => "log_writer",
    }

    /// What ended a wait: labels `kind`, `source`. Many `poll` mean that messages were lost.
    Wakeup {
        ClaimPubsub => "claim" "pubsub",
        ClaimPoll => "claim" "poll",
        ResultPubsub => "result" "pubsub",
        ResultPoll => "result" "poll",
    }

    /// How the store answered one item of a call.
    StoreResult {
        Ok => "ok",
        NotFound => "not_found",
        Conflict => "conflict",
        Error => "error",
    }

    /// Why a call to the store failed.
    StoreFailure {
        Timeout => "timeout",
        Connection => "connection",
        OutOfMemory => "oom",
        Busy => "busy",
        ReadOnly => "readonly",
        Moved => "moved",
        NoScript => "noscript",
        QueueFull => "queue_full",
        Deadline => "deadline",
        CircuitOpen => "circuit_open",
        Other => "other",
    }

    /// A cache and what it answered: labels `kind`, `result`.
    Cache {
        ScriptHit => "script" "hit",
        ScriptMiss => "script" "miss",
        JwksHit => "jwks" "hit",
        JwksMiss => "jwks" "miss",
        TokenHit => "token" "hit",
        TokenMiss => "token" "miss",
        DestinationHit => "destination" "hit",
        DestinationMiss => "destination" "miss",
        ConnectionHit => "connection" "hit",
        ConnectionMiss => "connection" "miss",
    }

    /// What a background loop does.
    LoopKind {
        Sweeper => "sweeper",
        Outbox => "outbox",
        Wake => "wake",
        Jwks => "jwks",
        Health => "health",
    }

    /// Connections of the pool.
    PoolState {
        InUse => "in_use",
        Idle => "idle",
        Max => "max",
    }

    /// Memory of Redis.
    StoreMemory {
        Used => "used",
        Max => "max",
    }

    /// Which of the two validators refused a token.
    Role {
        Producer => "producer",
        Worker => "worker",
    }

    /// Why a token was refused.
    AuthFailure {
        Missing => "missing",
        Malformed => "malformed",
        Signature => "signature",
        Expired => "expired",
        Issuer => "issuer",
        Audience => "audience",
        UnknownKid => "unknown_kid",
        Tenant => "tenant",
        Scope => "scope",
    }

    /// What a worker said at the end of its work: a verdict, or that it gives the task back.
    Said {
        Ack => "ack",
        Nack => "nack",
    }

    /// How an attempt failed.
    Failed {
        Nack => "nack",
        LeaseExpired => "lease_expired",
    }

    /// Why a task that was claimed went back unused.
    Returned {
        Abandon => "abandon",
        Undelivered => "undelivered",
    }

    /// How a task left the DLQ.
    DlqMoved {
        Requeue => "requeue",
        Purge => "purge",
        Expired => "expired",
    }

    /// A label whose values are bounded.
    Bounded {
        Command => "command",
    }

    /// How a sweep of all partitions ended.
    Sweep {
        Ok => "ok",
        Error => "error",
    }

    /// What the sweeper moved.
    Swept {
        Delayed => "delayed",
        Lease => "lease",
        Retention => "retention",
    }

    /// What is done with an artifact's object.
    ArtifactOperation {
        Put => "put",
        Get => "get",
        Delete => "delete",
    }

    /// The same and how it ended: labels `operation`, `result`.
    ArtifactResult {
        PutOk => "put" "ok",
        PutError => "put" "error",
        GetOk => "get" "ok",
        GetError => "get" "error",
        DeleteOk => "delete" "ok",
        DeleteError => "delete" "error",
    }

    /// The level of a log line.
    LogLevel {
        Error => "error",
        Warn => "warn",
        Info => "info",
        Debug => "debug",
        Trace => "trace",
    }

    /// How an export to the collector, or a fetch, ended.
    Export {
        Success => "success",
        Failure => "failure",
    }
}

/// Declares a label set that is every pair of two others, laid out so that an index is arithmetic.
macro_rules! pairs {
    ($($(#[$doc:meta])* $name:ident($first:ident, $second:ident);)+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub struct $name(pub $first, pub $second);

        impl Label for $name {
            const ALL: &'static [Self] = &{
                let (firsts, seconds) = (<$first as Label>::ALL, <$second as Label>::ALL);
                const MEMBERS: usize =
                    <$first as Label>::ALL.len() * <$second as Label>::ALL.len();
                let mut all = [Self(firsts[0], seconds[0]); MEMBERS];
                let mut at = 0;
                while at < MEMBERS {
                    all[at] = Self(firsts[at / seconds.len()], seconds[at % seconds.len()]);
                    at += 1;
                }
                all
            };

            fn index(self) -> usize {
                self.0.index() * <$second as Label>::ALL.len() + self.1.index()
            }

            fn values(self, into: &mut Vec<&'static str>) {
                self.0.values(into);
                self.1.values(into);
            }
        }
    )+ };
}

pairs! {
    /// A validator and its reason: labels `kind`, `reason`.
    Refused(Role, AuthFailure);
    /// A fetch of a key set and how it ended: labels `kind`, `outcome`.
    Fetched(Role, Export);
    /// An attempt and how it ended: labels `kind`, `result`.
    WebhookAttempt(WebhookKind, Class);
}

/// How an attempt ended.
impl Label for Class {
    const ALL: &'static [Self] = Self::ALL;

    fn index(self) -> usize {
        self as usize // records count from 0 as well
    }

    fn values(self, into: &mut Vec<&'static str>) {
        into.push(self.as_str());
    }
}

/// Why a delivery was given up.
impl Label for Reason {
    const ALL: &'static [Self] = Self::ALL;

    fn index(self) -> usize {
        self as usize - 1 // in records 0 is none
    }

    fn values(self, into: &mut Vec<&'static str>) {
        into.push(self.as_str());
    }
}
