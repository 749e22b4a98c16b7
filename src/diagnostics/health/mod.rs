//! `GET /health`: how the node is, in detail. The worst check decides.
//!
//! The document needs no token, so it names no host, tenant or secret. A check that cannot be made
//! is a failed check, and never the end of the report.

mod checks;
mod probes;
mod redis;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use serde::Serialize;
use tokio::time::timeout;

use super::depths::Reading;
use super::readiness::Readiness;
use super::resources::Resources;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Wait;
use crate::telemetry::trace::Exporting;
use checks::{
    ArtifactsCheck, AuthCheck, BreakersCheck, Checks, OutboxCheck, ResourcesCheck, SweeperCheck,
    TelemetryCheck, WorkersCheck,
};
use redis::RedisCheck;

pub use probes::{Probes, described, routes};
pub use redis::RedisFacts;

/// The longest that the report waits for one of its sources.
const PATIENCE: Duration = Duration::from_secs(2);

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

impl Status {
    fn degraded_if(so: bool) -> Self {
        if so { Self::Degraded } else { Self::Healthy }
    }
}

/// The key sets that tokens are verified with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeySets {
    /// How long ago the stalest was fetched; `None` when one never was.
    pub age: Option<Duration>,
}

/// What a source says. An error's text is for operators and names no host.
type Said<T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send>>;
/// A source of facts.
type Ask<T> = Arc<dyn Fn() -> Said<T> + Send + Sync>;

fn source<T, F, R>(ask: F) -> Ask<T>
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<T, String>> + Send + 'static,
{
    Arc::new(move || -> Said<T> { Box::pin(ask()) })
}

/// What a source says, unless it takes too long or panics.
async fn ask<T>(source: &Ask<T>) -> Result<T, String> {
    let said = AssertUnwindSafe(async { source().await }).catch_unwind();
    match timeout(PATIENCE, said).await {
        Ok(Ok(said)) => said,
        Ok(Err(_)) => Err("the check itself failed".to_owned()),
        Err(_) => Err("no answer within two seconds".to_owned()),
    }
}

/// Where the report gets its facts. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    readiness: Readiness,
    metrics: Metrics,
    exporting: Exporting,
    redis: Ask<RedisFacts>,
    reading: Option<Ask<Reading>>,
    artifacts: Option<Ask<Duration>>,
    key_sets: Option<Arc<dyn Fn() -> Option<KeySets> + Send + Sync>>,
    started: Instant,
}

impl Health {
    /// `redis` asks the store; an error's text is for operators and names no host.
    pub fn new<F, R>(readiness: Readiness, metrics: Metrics, exporting: Exporting, redis: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<RedisFacts, String>> + Send + 'static,
    {
        let (reading, artifacts, key_sets) = (None, None, None);
        let (redis, started) = (source(redis), Instant::now());
        Self { readiness, metrics, exporting, redis, reading, artifacts, key_sets, started }
    }

    /// Adds what a scrape reads from the store: queues, workers, the outbox.
    #[must_use]
    pub fn with_reading<F, R>(mut self, reading: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reading, String>> + Send + 'static,
    {
        self.reading = Some(source(reading));
        self
    }

    /// Adds the store of artifacts: how long a look at it took, or why it failed.
    #[must_use]
    pub fn with_artifacts<F, R>(mut self, artifacts: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<Duration, String>> + Send + 'static,
    {
        self.artifacts = Some(source(artifacts));
        self
    }

    /// Adds the key sets; `None` when no token is verified with one.
    #[must_use]
    pub fn with_key_sets<F>(mut self, key_sets: F) -> Self
    where
        F: Fn() -> Option<KeySets> + Send + Sync + 'static,
    {
        self.key_sets = Some(Arc::new(key_sets));
        self
    }

    /// Asks everything once.
    pub async fn report(&self) -> Report {
        let (redis, artifacts, reading) = tokio::join!(
            ask(&self.redis),
            async { Some(ask(self.artifacts.as_ref()?).await) },
            async { Some(ask(self.reading.as_ref()?).await) },
        );
        let uptime = self.started.elapsed();
        let redis = redis.map_or_else(RedisCheck::failed, |facts| RedisCheck::of(&facts));
        let outbox = |reading: &Result<Reading, String>| reading.as_ref().ok()?.outbox;
        let waiters = self.metrics.waiters.with(Wait::Claim).get();
        let checks = Checks {
            circuit_breakers: reading.as_ref().map(|reading| {
                BreakersCheck::of(outbox(reading), redis.status == Status::Unhealthy)
            }),
            sweeper: SweeperCheck::of(self.metrics.sweep_last_success.get(), uptime),
            outbox: reading.as_ref().map(|reading| OutboxCheck::of(outbox(reading))),
            auth: self.key_sets.as_ref().map(|key_sets| AuthCheck::of(key_sets())),
            workers: reading.map(|reading| WorkersCheck::of(reading.ok().as_ref(), waiters)),
            artifacts: artifacts.map(ArtifactsCheck::of),
            resources: ResourcesCheck::of(Resources::now()),
            telemetry: TelemetryCheck::of(&self.exporting),
            redis,
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

/// Milliseconds to three places.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Seconds to three places.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests;
