//! The checks of the report, one by one. Workers, artifacts and telemetry are others' business too,
//! so they never make the node worse than degraded.

use std::time::Duration;

use serde::Serialize;

use super::redis::RedisCheck;
use super::{KeySets, Status, millis, rounded};
use crate::diagnostics::depths::{CommandDepth, OutboxDepth, Reading};
use crate::diagnostics::resources::Resources;
use crate::telemetry::trace::Exporting;

/// A sweeper that has not come round for this long is stuck.
const STALE_SECONDS: f64 = 30.0;
/// An outbox whose oldest delivery has been due for this long is stuck.
const LATE_SECONDS: f64 = 300.0;
/// A key set that was not fetched for this long is stale.
const OLD_KEYS: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, Serialize)]
pub(super) struct Checks {
    pub redis: RedisCheck,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breakers: Option<BreakersCheck>,
    pub sweeper: SweeperCheck,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbox: Option<OutboxCheck>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthCheck>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<WorkersCheck>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<ArtifactsCheck>,
    pub resources: ResourcesCheck,
    pub telemetry: TelemetryCheck,
}

impl Checks {
    /// Healthy counts for what is not there.
    pub fn worst(&self) -> Status {
        [
            Some(self.redis.status),
            self.circuit_breakers.as_ref().map(|check| check.status),
            Some(self.sweeper.status),
            self.outbox.as_ref().map(|check| check.status),
            self.auth.as_ref().map(|check| check.status),
            self.workers.as_ref().map(|check| check.status),
            self.artifacts.as_ref().map(|check| check.status),
            Some(self.resources.status),
            Some(self.telemetry.status),
        ]
        .into_iter()
        .flatten()
        .max()
        .expect("there are checks")
    }
}

/// Declares a check: a status, and fields that are left out when they are not known.
macro_rules! check {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Clone, Debug, serde::Serialize)]
        pub(in crate::diagnostics::health) struct $name {
            pub status: $crate::diagnostics::Status,
            $(#[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)*
        }
    };
}
pub(super) use check;

check!(BreakersCheck { open_breakers: u64, store: &'static str });
check!(SweeperCheck { last_success_seconds: f64 });
check!(OutboxCheck { pending: u64, dead: u64, oldest_age_seconds: f64 });
check!(AuthCheck { jwks_age_seconds: f64 });
check!(WorkersCheck { active: u64, waiters: i64, subscriptions: u64, overdue_leases: u64 });
check!(ArtifactsCheck { error: String, latency_ms: f64 });
check!(ResourcesCheck { memory_bytes: u64, memory_limit_bytes: u64, open_fds: u64, max_fds: u64 });
check!(TelemetryCheck { exporting: bool });

impl BreakersCheck {
    /// A receiver that fails is no fault of the node's; a store that is away is.
    pub fn of(depth: Option<OutboxDepth>, store_is_down: bool) -> Self {
        Self {
            status: if store_is_down { Status::Unhealthy } else { Status::Healthy },
            open_breakers: depth.map(|depth| depth.destinations[1]),
            store: Some(if store_is_down { "open" } else { "closed" }),
        }
    }
}

impl SweeperCheck {
    /// `last` in Unix seconds, 0 before the first sweep.
    pub fn of(last: f64, uptime: Duration) -> Self {
        let now = jiff::Timestamp::now().as_millisecond() as f64 / 1e3;
        let ago = (last > 0.0).then(|| (now - last).max(0.0));
        let stale = ago.unwrap_or(uptime.as_secs_f64()) > STALE_SECONDS;
        Self { status: Status::degraded_if(stale), last_success_seconds: ago.map(rounded) }
    }
}

impl OutboxCheck {
    /// Degraded when deliveries wait for us rather than for their receivers.
    pub fn of(depth: Option<OutboxDepth>) -> Self {
        let late = depth.is_none_or(|depth| depth.oldest_age_seconds > LATE_SECONDS);
        Self {
            status: Status::degraded_if(late),
            pending: depth.map(|depth| depth.pending + depth.parked),
            dead: depth.map(|depth| depth.dead),
            oldest_age_seconds: depth.map(|depth| depth.oldest_age_seconds),
        }
    }
}

impl AuthCheck {
    /// Degraded when a key set was never fetched, or not for an hour: keys that were withdrawn still
    /// work, and new ones do not.
    pub fn of(key_sets: Option<KeySets>) -> Self {
        let age = key_sets.and_then(|key_sets| key_sets.age);
        let stale = key_sets.is_some() && age.is_none_or(|age| age > OLD_KEYS);
        let jwks_age_seconds = age.map(|age| rounded(age.as_secs_f64()));
        Self { status: Status::degraded_if(stale), jwks_age_seconds }
    }
}

impl WorkersCheck {
    /// Degraded when a command has ready tasks, is not paused, and nobody called for it in the two
    /// minutes in which a worker counts as active. Workers are counted by the fleet, once for each
    /// command that they call for; `waiters` are the waiting claims of this node.
    pub fn of(reading: Option<&Reading>, waiters: i64) -> Self {
        let commands = reading.map(|reading| reading.commands.as_slice());
        let sum = |number: fn(&CommandDepth) -> u64| Some(commands?.iter().map(number).sum());
        let is_left_alone = |of: &CommandDepth| of.ready > 0 && of.workers == 0 && !of.paused;
        Self {
            status: Status::degraded_if(commands.is_none_or(|all| all.iter().any(is_left_alone))),
            active: sum(|of| of.workers),
            waiters: Some(waiters),
            subscriptions: sum(|of| of.subscriptions),
            overdue_leases: reading.map(|reading| reading.overdue_leases),
        }
    }
}

impl ArtifactsCheck {
    /// Tasks go on without artifacts.
    pub fn of(looked: Result<Duration, String>) -> Self {
        let (error, latency_ms) = match looked {
            Ok(latency) => (None, Some(millis(latency))),
            Err(error) => (Some(error), None),
        };
        Self { status: Status::degraded_if(error.is_some()), error, latency_ms }
    }
}

impl ResourcesCheck {
    pub fn of(resources: Resources) -> Self {
        let status = Status::degraded_if(resources.is_scarce());
        let Resources { memory_bytes, memory_limit_bytes, open_fds, max_fds } = resources;
        Self { status, memory_bytes, memory_limit_bytes, open_fds, max_fds }
    }
}

impl TelemetryCheck {
    /// A lost collector costs traces and no task.
    pub fn of(exporting: &Exporting) -> Self {
        let failing = exporting.is_failing();
        let status = Status::degraded_if(failing);
        Self { status, exporting: Some(exporting.is_on() && !failing) }
    }
}
