//! Probes and the report: `/healthz`, `/readyz`, `/health` and their other names.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response as Answer};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathItem, PathsBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder, ResponsesBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{ContentBuilder, OpenApi, OpenApiBuilder};

use super::depths::OutboxDepth;
use super::readiness::Readiness;
use super::resources::Resources;
use super::scrape::Scraper;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Exposition;
use crate::telemetry::trace::Exporting;

/// The longest that the report waits for the store.
const PATIENCE: Duration = Duration::from_secs(2);
/// A store that takes longer than this is slow.
const SLOW: Duration = Duration::from_millis(100);
/// A sweeper that has not come round for this long is stuck.
const STALE_SECONDS: f64 = 30.0;
/// An outbox whose oldest delivery has been due for this long is stuck.
const LATE_SECONDS: f64 = 300.0;

/// How something is; the worst one is how the node is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Healthy,
    /// It works, but somebody should look.
    Degraded,
    /// It does not work.
    Unhealthy,
}

/// What is known about Redis; every field that could not be learned is `None`.
#[derive(Clone, Debug, Default)]
pub struct RedisFacts {
    /// Time of one ping.
    pub latency: Duration,
    /// The reply of `INFO`, as it came.
    pub info: String,
    /// Pool: connections in use, idle and at most.
    pub connections: Option<[usize; 3]>,
}

type Asked = Pin<Box<dyn Future<Output = Result<RedisFacts, String>> + Send>>;
type Counted = Pin<Box<dyn Future<Output = Option<OutboxDepth>> + Send>>;
type Looked = Pin<Box<dyn Future<Output = Result<Duration, String>> + Send>>;

/// Where the report gets its facts. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    readiness: Readiness,
    metrics: Metrics,
    exporting: Exporting,
    redis: Arc<dyn Fn() -> Asked + Send + Sync>,
    artifacts: Option<Arc<dyn Fn() -> Looked + Send + Sync>>,
    outbox: Option<Arc<dyn Fn() -> Counted + Send + Sync>>,
    started: Instant,
}

impl Health {
    /// `redis` asks the store; an error's text is for operators and names no host.
    pub fn new<F, R>(readiness: Readiness, metrics: Metrics, exporting: Exporting, redis: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<RedisFacts, String>> + Send + 'static,
    {
        let redis = Arc::new(move || Box::pin(redis()) as Asked);
        let started = Instant::now();
        Self { readiness, metrics, exporting, redis, artifacts: None, outbox: None, started }
    }

    /// Adds the store of artifacts: how long a look at it took, or why it failed.
    #[must_use]
    pub fn with_artifacts<F, R>(mut self, artifacts: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<Duration, String>> + Send + 'static,
    {
        self.artifacts = Some(Arc::new(move || Box::pin(artifacts()) as Looked));
        self
    }

    /// Adds the outbox: how much is in it, `None` when the store does not say.
    #[must_use]
    pub fn with_outbox<F, R>(mut self, outbox: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Option<OutboxDepth>> + Send + 'static,
    {
        self.outbox = Some(Arc::new(move || Box::pin(outbox()) as Counted));
        self
    }

    /// Asks everything once.
    pub async fn report(&self) -> Report {
        let (redis, artifacts, outbox) = tokio::join!(
            timeout(PATIENCE, (self.redis)()),
            self.look_at_artifacts(),
            self.count_outbox()
        );
        let redis = match redis {
            Ok(Ok(facts)) => RedisCheck::of(&facts),
            Ok(Err(error)) => RedisCheck::failed(error),
            Err(_) => RedisCheck::failed("no answer within two seconds".to_owned()),
        };
        let uptime = self.started.elapsed();
        let store_is_down = redis.status == Status::Unhealthy;
        let checks = Checks {
            redis,
            circuit_breakers: outbox.map(|depth| BreakersCheck::of(depth, store_is_down)),
            sweeper: SweeperCheck::of(self.metrics.sweep_last_success.get(), uptime),
            outbox: outbox.map(OutboxCheck::of),
            artifacts,
            resources: ResourcesCheck::of(Resources::now()),
            telemetry: TelemetryCheck::of(&self.exporting),
        };
        Report {
            status: checks.worst(),
            timestamp: format!("{:.3}", jiff::Timestamp::now()),
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: uptime.as_secs(),
            draining: self.readiness.is_draining(),
            checks,
        }
    }

    /// Outside `None`: nobody counts it here.
    async fn count_outbox(&self) -> Option<Option<OutboxDepth>> {
        Some((self.outbox.as_ref()?)().await)
    }

    async fn look_at_artifacts(&self) -> Option<ArtifactsCheck> {
        let looked = timeout(PATIENCE, (self.artifacts.as_ref()?)()).await;
        let late = || Err("no answer within two seconds".to_owned());
        Some(ArtifactsCheck::of(looked.unwrap_or_else(|_| late())))
    }
}

/// The document of `GET /health`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The worst of the checks.
    pub status: Status,
    timestamp: String,
    version: &'static str,
    uptime_seconds: u64,
    /// The node takes no more work.
    pub draining: bool,
    checks: Checks,
}

#[derive(Clone, Debug, Serialize)]
struct Checks {
    redis: RedisCheck,
    #[serde(skip_serializing_if = "Option::is_none")]
    circuit_breakers: Option<BreakersCheck>,
    sweeper: SweeperCheck,
    #[serde(skip_serializing_if = "Option::is_none")]
    outbox: Option<OutboxCheck>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifacts: Option<ArtifactsCheck>,
    resources: ResourcesCheck,
    telemetry: TelemetryCheck,
}

impl Checks {
    fn worst(&self) -> Status {
        self.redis
            .status
            .max(self.sweeper.status)
            .max(self.outbox.as_ref().map_or(Status::Healthy, |check| check.status))
            .max(self.artifacts.as_ref().map_or(Status::Healthy, |check| check.status))
            .max(self.resources.status)
            .max(self.telemetry.status)
    }
}

macro_rules! check {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Clone, Debug, Serialize)]
        struct $name {
            status: Status,
            $(#[serde(skip_serializing_if = "Option::is_none")] $field: Option<$type>,)*
        }
    };
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
check!(BreakersCheck { open_breakers: u64, store: &'static str });
check!(OutboxCheck { pending: u64, dead: u64, oldest_age_seconds: f64 });
check!(ArtifactsCheck { error: String, latency_ms: f64 });
check!(SweeperCheck { last_success_seconds: f64 });
check!(ResourcesCheck { memory_bytes: u64, memory_limit_bytes: u64, open_fds: u64, max_fds: u64 });
check!(TelemetryCheck { exporting: bool });

impl RedisCheck {
    fn of(facts: &RedisFacts) -> Self {
        let text = |key: &str| {
            let of_key = |line: &str| line.strip_prefix(key)?.strip_prefix(':').map(str::to_owned);
            facts.info.lines().find_map(of_key)
        };
        let number = |key: &str| text(key).and_then(|value| value.trim().parse::<u64>().ok());
        let slow = facts.latency > SLOW;
        Self {
            status: if slow { Status::Degraded } else { Status::Healthy },
            error: slow.then(|| "slow".to_owned()),
            latency_ms: Some(millis(facts.latency)),
            role: text("role"),
            connections_in_use: facts.connections.map(|[in_use, ..]| in_use),
            connections_idle: facts.connections.map(|[_, idle, _]| idle),
            connections_max: facts.connections.map(|[.., most]| most),
            memory_used_bytes: number("used_memory"),
            memory_max_bytes: number("maxmemory").filter(|most| *most > 0),
            maxmemory_policy: text("maxmemory_policy"),
            aof: number("aof_enabled").map(|on| on == 1),
            replicas: number("connected_slaves"),
            replication_lag_seconds: number("master_last_io_seconds_ago")
                .or_else(|| text("slave0").and_then(|replica| lag(&replica))),
        }
    }

    fn failed(error: String) -> Self {
        let nothing = RedisFacts::default();
        let unknown = Self::of(&nothing);
        Self { status: Status::Unhealthy, error: Some(error), latency_ms: None, ..unknown }
    }
}

/// `ip=…,port=…,state=online,offset=…,lag=1` → 1.
fn lag(replica: &str) -> Option<u64> {
    replica.split(',').find_map(|part| part.trim().strip_prefix("lag="))?.parse().ok()
}

impl BreakersCheck {
    /// A receiver that fails is no fault of the node's.
    fn of(depth: Option<OutboxDepth>, store_is_down: bool) -> Self {
        Self {
            status: Status::Healthy,
            open_breakers: depth.map(|depth| depth.destinations[1]),
            store: Some(if store_is_down { "open" } else { "closed" }),
        }
    }
}

impl OutboxCheck {
    /// Degraded when deliveries wait for us rather than for their receivers.
    fn of(depth: Option<OutboxDepth>) -> Self {
        let late = depth.is_none_or(|depth| depth.oldest_age_seconds > LATE_SECONDS);
        Self {
            status: if late { Status::Degraded } else { Status::Healthy },
            pending: depth.map(|depth| depth.pending + depth.parked),
            dead: depth.map(|depth| depth.dead),
            oldest_age_seconds: depth.map(|depth| depth.oldest_age_seconds),
        }
    }
}

impl ArtifactsCheck {
    /// Tasks go on without artifacts, so their store never makes the node worse than degraded.
    fn of(looked: Result<Duration, String>) -> Self {
        match looked {
            Ok(latency) => {
                let latency_ms = Some(millis(latency));
                Self { status: Status::Healthy, error: None, latency_ms }
            }
            Err(error) => Self { status: Status::Degraded, error: Some(error), latency_ms: None },
        }
    }
}

/// Milliseconds to three places.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

impl SweeperCheck {
    /// `last` in Unix seconds, 0 before the first sweep.
    fn of(last: f64, uptime: Duration) -> Self {
        let now = jiff::Timestamp::now().as_millisecond() as f64 / 1e3;
        let ago = (last > 0.0).then(|| (now - last).max(0.0));
        let stale = ago.unwrap_or(uptime.as_secs_f64()) > STALE_SECONDS;
        let status = if stale { Status::Degraded } else { Status::Healthy };
        Self { status, last_success_seconds: ago.map(|ago| (ago * 1e3).round() / 1e3) }
    }
}

impl ResourcesCheck {
    fn of(resources: Resources) -> Self {
        let scarce = resources.is_scarce();
        let Resources { memory_bytes, memory_limit_bytes, open_fds, max_fds } = resources;
        let status = if scarce { Status::Degraded } else { Status::Healthy };
        Self { status, memory_bytes, memory_limit_bytes, open_fds, max_fds }
    }
}

impl TelemetryCheck {
    fn of(exporting: &Exporting) -> Self {
        // A lost collector never makes the node worse than degraded.
        let failing = exporting.is_failing();
        let status = if failing { Status::Degraded } else { Status::Healthy };
        Self { status, exporting: Some(exporting.is_on() && !failing) }
    }
}

/// What the routes without a token answer from.
#[derive(Clone)]
pub struct Probes {
    /// For `/readyz`.
    pub readiness: Readiness,
    /// For `/health`.
    pub health: Health,
    /// For `/metrics`.
    pub scraper: Scraper,
}

/// The names of the probe that says whether the process runs.
const LIVE: [&str; 2] = ["/healthz", "/health/live"];
/// The names of the probe that says whether requests should come here.
const READY: [&str; 3] = ["/readyz", "/ready", "/health/ready"];

/// The probes under all their names, the report and the scrape. None needs a token.
pub fn routes<S: Clone + Send + Sync + 'static>(probes: Probes) -> Router<S> {
    let Probes { readiness, health, scraper } = probes;
    let mut router = Router::new();
    for path in LIVE {
        router = router.route(path, get(live));
    }
    for path in READY {
        router = router.route(path, get(ready).with_state(readiness.clone()));
    }
    router
        .route("/health", get(report).with_state(health))
        .route("/metrics", get(metrics).with_state(scraper))
}

/// What [`routes`] serves, for the description of the API.
pub fn described() -> OpenApi {
    let object = || ObjectBuilder::new().schema_type(Type::Object).build();
    let text = || ObjectBuilder::new().schema_type(Type::String).build();
    let says = |what: &str, kind: &str, schema: Schema| {
        let content = ContentBuilder::new().schema(Some(schema)).build();
        ResponseBuilder::new().description(what).content(kind, content).build()
    };
    let json = |what: &str| says(what, "application/json", object().into());
    let route =
        |paths: PathsBuilder, path: &str, summary: &str, responses: Vec<(&str, Response)>| {
            let operation = OperationBuilder::new()
                .tag("node")
                .summary(Some(summary))
                .operation_id(Some(path.trim_start_matches('/').replace('/', "_")))
                .responses(ResponsesBuilder::new().responses_from_iter(responses));
            paths.path(path, PathItem::new(HttpMethod::Get, operation))
        };
    let mut paths = PathsBuilder::new();
    for path in LIVE {
        paths = route(paths, path, "Whether the process runs.", vec![("200", json("It runs."))]);
    }
    let ready = || vec![("200", json("Yes.")), ("503", json("Redis is away, or the node drains."))];
    for path in READY {
        paths = route(paths, path, "Whether requests should come here.", ready());
    }
    let healthy = || vec![("200", json("It works.")), ("503", json("It does not, or it drains."))];
    paths = route(paths, "/health", "How the node is, in detail.", healthy());
    let scrape = says(
        "Prometheus' text format, or OpenMetrics for those who ask.",
        "text/plain",
        text().into(),
    );
    paths = route(paths, "/metrics", "What the node has counted.", vec![("200", scrape)]);
    OpenApiBuilder::new().paths(paths).build()
}

/// The process runs; Redis has no say in it, or a lost Redis would restart every node.
async fn live() -> Answer {
    Json(json!({ "status": "ok" })).into_response()
}

async fn ready(State(readiness): State<Readiness>) -> Answer {
    if readiness.is_ready() {
        return Json(json!({ "status": "ok" })).into_response();
    }
    let status = if readiness.is_draining() { "draining" } else { "unready" };
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": status }))).into_response()
}

async fn report(State(health): State<Health>) -> Answer {
    let report = health.report().await;
    let code = if report.status == Status::Unhealthy || report.draining {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    (code, Json(report)).into_response()
}

async fn metrics(State(scraper): State<Scraper>, headers: HeaderMap) -> Answer {
    scraper.answer(Exposition::asked(&headers)).await
}

#[cfg(test)]
mod tests;
