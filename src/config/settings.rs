use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Auth, Durability, Problem, Redis, RedisScheme, Tracing, Webhook};
use crate::model::{Command, TenantId};

/// What a node runs with. Every value has passed its rule; nothing is looked up later.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Port of the API; 0 lets the system choose.
    pub port: u16,
    /// Address the API listens on.
    pub bind_addr: IpAddr,
    /// Decides some rules and defaults.
    pub env: Env,
    /// The store.
    pub redis: Redis,
    /// Number of partitions, 1..=1024; fixed when the store is first used.
    pub partitions: u16,
    /// On how many partitions a hot queue lies, by lower-cased command; 1 for all others.
    pub spread: BTreeMap<String, u16>,
    /// Who may call.
    pub auth: Auth,
    /// Defaults of a task's life.
    pub tasks: Tasks,
    /// What a request may ask for at most.
    pub limits: Limits,
    /// Delivery of results and nudges.
    pub webhook: Webhook,
    /// Requests per minute, by kind of caller.
    pub rate_limit: RateLimits,
    /// Log lines.
    pub log: Log,
    /// Labels of the metrics.
    pub metrics: MetricsSettings,
    /// Spans and their exporter.
    pub tracing: Tracing,
    /// Where profiles are served; `None` opens no listener.
    pub pprof: Option<SocketAddr>,
    /// Times of an orderly stop.
    pub shutdown: Shutdown,
    /// Nudges to workers.
    pub subscriptions: Subscriptions,
    /// Where artifacts go: `file://`, `s3://`, `gs://` or `az://`, without credentials.
    pub artifact_store: String,
    /// What works but an operator should know: logged once at start.
    pub warnings: Vec<String>,
}

impl Settings {
    /// The settings that `defaults.yaml` gives.
    pub fn defaults() -> Self {
        super::load(&super::Sources::default()).expect("a test loads the defaults")
    }

    /// What these settings ask for and this version cannot do yet: a node refuses to start.
    pub fn not_yet_supported(&self) -> Vec<Problem> {
        let refusal = |key: &str, value: &str, rule: &str| Problem {
            key: key.to_owned(),
            value: Some(value.to_owned()),
            from: None,
            rule: format!("this version of codeq can only use {rule}"),
        };
        let mut refused = Vec::new();
        if !matches!(self.redis.url.scheme(), RedisScheme::Plain | RedisScheme::Unix) {
            let url = self.redis.url.to_string();
            refused.push(refusal("redis.url", &url, "redis:// and redis+unix://"));
        }
        if self.redis.durability != Durability::Async {
            let durability = self.redis.durability.as_str();
            refused.push(refusal("redis.durability", durability, "async"));
        }
        refused
    }

    /// How many partitions the queue of this command lies on.
    pub fn spread_of(&self, command: &Command) -> u16 {
        if self.spread.is_empty() {
            return 1;
        }
        self.spread.get(&command.lower()).copied().unwrap_or(1)
    }
}

/// The kind of installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Env {
    /// Strict: authentication and a webhook secret are required.
    Production,
    /// A developer's machine; also allows webhooks to private networks by default.
    Dev,
    /// Any other name: as lenient as `dev`, but for private networks.
    Named(String),
}

impl Env {
    /// Whether the strict rules hold.
    pub fn is_production(&self) -> bool {
        *self == Self::Production
    }

    /// Whether this is `dev` itself, not merely something that is not production.
    pub fn is_dev(&self) -> bool {
        *self == Self::Dev
    }

    /// The name, as in `deployment.environment.name`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Production => "production",
            Self::Dev => "dev",
            Self::Named(name) => name,
        }
    }
}

/// Defaults of a task's life.
#[derive(Clone, Debug)]
pub struct Tasks {
    /// Lease of a claim that names none.
    pub default_lease_seconds: u32,
    /// Deliveries of a task that names no limit.
    pub max_attempts_default: u16,
    /// Wait after a failed attempt.
    pub backoff: Backoff,
    /// How long a completed or failed task is kept.
    pub retention_seconds: u32,
    /// How long a dead task is kept.
    pub dlq_retention_seconds: u32,
}

/// Wait after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// How the wait grows.
    pub policy: BackoffPolicy,
    /// The first wait.
    pub base_seconds: u32,
    /// The longest wait.
    pub max_seconds: u32,
}

/// How the wait between attempts grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackoffPolicy {
    /// Always the base.
    Fixed,
    /// Base times attempt.
    Linear,
    /// Base doubling.
    Exponential,
    /// Anything between zero and the exponential wait.
    ExpFullJitter,
    /// Between half of the exponential wait and all of it.
    ExpEqualJitter,
}

impl BackoffPolicy {
    /// Every policy with its name.
    pub(super) const NAMES: &'static [(&'static str, Self)] = &[
        ("fixed", Self::Fixed),
        ("linear", Self::Linear),
        ("exponential", Self::Exponential),
        ("exp_full_jitter", Self::ExpFullJitter),
        ("exp_equal_jitter", Self::ExpEqualJitter),
    ];

    /// The name, in settings as in scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Linear => "linear",
            Self::Exponential => "exponential",
            Self::ExpFullJitter => "exp_full_jitter",
            Self::ExpEqualJitter => "exp_equal_jitter",
        }
    }
}

/// What a request may ask for at most.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest request body.
    pub max_body_bytes: usize,
    /// Most tasks in one batch claim.
    pub max_claim_batch: usize,
}

/// Requests per minute, by kind of caller; `None` is no limit.
#[derive(Clone, Debug, Default)]
pub struct RateLimits {
    /// Producer calls.
    pub producer: Option<Bucket>,
    /// Worker calls.
    pub worker: Option<Bucket>,
    /// Outgoing deliveries.
    pub webhook: Option<Bucket>,
    /// Admin calls.
    pub admin: Option<Bucket>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Refill.
    pub requests_per_minute: u32,
    /// Size.
    pub burst_size: u32,
}

/// Log lines.
#[derive(Clone, Debug)]
pub struct Log {
    /// Least severe level written.
    pub level: ::tracing::Level,
    /// `RUST_LOG`: module filters beside the level, in the syntax of `EnvFilter`.
    pub filters: Option<String>,
    /// Shape of a line.
    pub format: LogFormat,
    /// Share of tasks whose INFO lines are written, 0.0..=1.0.
    pub task_sample_ratio: f64,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl LogFormat {
    /// The name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

/// Which values become labels.
#[derive(Clone, Debug)]
pub struct MetricsSettings {
    /// Most values of the `command` label in the fleet; the rest is `_other`.
    pub max_commands: usize,
    /// Pins the values of `command`; empty: first come.
    pub commands: Vec<Command>,
    /// Tenants with series of their own, at most 50.
    pub tenants: Vec<TenantId>,
    /// Commands whose ready depth is split by priority, at most 10.
    pub priority_commands: Vec<Command>,
}

/// Times of an orderly stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long the listener still accepts after readiness has turned 503.
    pub delay: Duration,
    /// All of it, `delay` included.
    pub drain: Duration,
}

/// Nudges to workers that a queue has become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriptions {
    /// Least time between two nudges to one subscriber.
    pub min_interval_seconds: u32,
    /// Pause between two rounds that remove expired subscriptions.
    pub cleanup_interval_seconds: u32,
}
