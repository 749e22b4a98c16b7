//! How Redis is: one ping, and what `INFO` says.

use std::time::Duration;

use super::checks::check;
use super::{Status, millis};

/// A store that takes longer than this is slow.
const SLOW: Duration = Duration::from_millis(100);

/// What is known about Redis; every field that could not be learned is `None`.
#[derive(Clone, Debug, Default)]
pub struct RedisFacts {
    /// Time of one ping.
    pub latency: Duration,
    /// The reply of `INFO`, as it came.
    pub info: String,
    /// Pool: connections in use, idle and at most.
    pub connections: Option<[usize; 3]>,
    /// So little memory is left that new tasks are refused.
    pub nearly_full: bool,
}

check!(RedisCheck {
    error: String,
    latency_ms: f64,
    role: String,
    connections_in_use: usize,
    connections_idle: usize,
    connections_max: usize,
    memory_used_bytes: u64,
    memory_max_bytes: u64,
    maxmemory_policy: String,
    aof: bool,
    replicas: u64,
    replication_lag_seconds: u64,
});

impl RedisCheck {
    pub fn of(facts: &RedisFacts) -> Self {
        let info = Info(&facts.info);
        let policy = info.text("maxmemory_policy");
        let evicts = policy.as_deref().is_some_and(|policy| policy != "noeviction");
        let complaints: Vec<&str> = [
            (facts.latency > SLOW, "slow"),
            (facts.nearly_full, "nearly full: new tasks are refused"),
            (evicts, "it evicts keys when it is full"),
        ]
        .into_iter()
        .filter_map(|(so, complaint)| so.then_some(complaint))
        .collect();
        Self {
            status: Status::degraded_if(!complaints.is_empty()),
            error: (!complaints.is_empty()).then(|| complaints.join("; ")),
            latency_ms: Some(millis(facts.latency)),
            role: info.text("role"),
            connections_in_use: facts.connections.map(|[in_use, ..]| in_use),
            connections_idle: facts.connections.map(|[_, idle, _]| idle),
            connections_max: facts.connections.map(|[.., most]| most),
            memory_used_bytes: info.number("used_memory"),
            memory_max_bytes: info.number("maxmemory").filter(|most| *most > 0),
            maxmemory_policy: policy,
            aof: info.number("aof_enabled").map(|on| on == 1),
            replicas: info.number("connected_slaves"),
            replication_lag_seconds: info
                .number("master_last_io_seconds_ago")
                .or_else(|| info.replica_lag()),
        }
    }

    pub fn failed(error: String) -> Self {
        let unknown = Self::of(&RedisFacts::default());
        Self { status: Status::Unhealthy, error: Some(error), latency_ms: None, ..unknown }
    }
}

/// The reply of `INFO`. It names hosts as well, so only known fields are taken from it.
struct Info<'a>(&'a str);

impl Info<'_> {
    fn text(&self, key: &str) -> Option<String> {
        let of_key = |line: &str| line.strip_prefix(key)?.strip_prefix(':').map(str::to_owned);
        self.0.lines().find_map(of_key)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.trim().parse().ok()
    }

    /// Of the replica that is furthest behind.
    /// `slave0:ip=…,port=…,state=online,offset=…,lag=1` → 1.
    fn replica_lag(&self) -> Option<u64> {
        let replicas = self.0.lines().filter(|line| {
            let rest = line.strip_prefix("slave").and_then(|rest| rest.split(':').next());
            rest.is_some_and(|number| number.parse::<u32>().is_ok())
        });
        let lag = |line: &str| {
            line.split(',').find_map(|part| part.trim().strip_prefix("lag="))?.parse::<u64>().ok()
        };
        replicas.filter_map(lag).max()
    }
}
