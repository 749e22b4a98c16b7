//! The metrics of a node: one declaration per family, handles resolved once and kept.
//!
//! `metrics.rate_limit_hits.with(RateLimit::WorkerClaim).inc()` is an index into an array. What is
//! split by open text is asked for once and kept: [`Metrics::command`], [`Metrics::operation`],
//! [`Metrics::route`].

mod catalog;
pub mod depth;
mod exemplar;
mod family;
mod labels;
mod machine;
mod openmetrics;
mod recording;
mod reference;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use prometheus::{Encoder, Registry, TextEncoder};

pub use catalog::Families;
pub use exemplar::{Exemplar, Sampled, TracedHistogram};
pub use family::{By, Declared, Family, Held, HeldGauge, Home, Open, Series, SetGauge, Sparse};
pub use labels::*;
pub use machine::ALL as MACHINE;
pub use recording::{Counter, Histogram, IntCounter, is_recording};
pub use reference::reference;

use super::Waits;

/// Every metric of this node. Cheap to clone; derefs to the families of the catalog.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    home: Home,
    families: Families,
    waits: Waits,
    commands: Kept<CommandMetrics>,
    operations: Kept<OperationMetrics>,
    routes: Kept<[OnceLock<RouteMetrics>; METHODS.len()]>,
}

impl Metrics {
    /// A registry of its own with every family in it, and what the machine says about this process
    /// and, within one, about the runtime.
    ///
    /// # Panics
    /// When the catalog declares one name twice; the tests would have seen it.
    pub fn new() -> Self {
        recording::read_switch();
        let home = Home::default();
        let families = Families::register(&home).expect("the catalog declares every family once");
        home.registry
            .register(Box::new(machine::Machine::new()))
            .expect("what the machine says is declared nowhere else");
        families
            .build_info
            .with_all(&[env!("CARGO_PKG_VERSION"), option_env!("CODEQ_REVISION").unwrap_or("")])
            .set(1.0);
        Self(Arc::new(Inner {
            home,
            waits: Waits::new(&families.wait_time),
            families,
            commands: Kept::default(),
            operations: Kept::default(),
            routes: Kept::default(),
        }))
    }

    /// The registry, for a collector of its own.
    pub fn registry(&self) -> &Registry {
        &self.0.home.registry
    }

    /// The named wait points.
    pub fn waits(&self) -> &Waits {
        &self.0.waits
    }

    /// Everything, in one of the two formats.
    ///
    /// # Errors
    /// When a collector hands out a family that contradicts itself.
    pub fn page(&self, exposition: Exposition) -> prometheus::Result<Vec<u8>> {
        let Home { registry, book } = &self.0.home;
        let families = registry.gather();
        if exposition == Exposition::OpenMetrics {
            return Ok(openmetrics::encode(&families, book).into_bytes());
        }
        let mut text = Vec::with_capacity(64 * 1024);
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }

    /// The one place where a failed turn of a background loop is counted and logged.
    pub fn loop_failed(&self, kind: LoopKind, error: &str) {
        self.loop_errors.with(kind).inc();
        tracing::warn!(
            target: "codeq::loop", category = "system", event = "loop.failed",
            kind = kind.name(), error.message = error, "a turn of a background loop failed"
        );
    }

    /// The handles of one command. The label is one of the fleet's registry or `_other`, never
    /// text straight from a request: each new one makes series that stay.
    pub fn command(&self, label: &str) -> Arc<CommandMetrics> {
        self.0.commands.get(label, || CommandMetrics::resolve(self, label))
    }

    /// The handles of one tenant: one that the settings name, or `_other`. Looks them up: keep them.
    pub fn tenant(&self, label: &str) -> TenantMetrics {
        TenantMetrics {
            completed: self.tenant_completed.of(&[label]),
            execution_seconds: self.tenant_execution.with(label),
        }
    }

    /// The handles of one kind of store operation: a script's name, or `wait`.
    pub fn operation(&self, name: &str) -> Arc<OperationMetrics> {
        self.0.operations.get(name, || OperationMetrics::resolve(self, name))
    }

    /// The handles of one route: its template, or `_unmatched`.
    pub fn route(&self, method: &http::Method, route: &str) -> RouteMetrics {
        let at = METHODS.iter().position(|known| known == &method.as_str()).unwrap_or(0);
        let methods = self.0.routes.get(route, || [const { OnceLock::new() }; METHODS.len()]);
        methods[at].get_or_init(|| RouteMetrics::resolve(self, route, METHODS[at])).clone()
    }
}

/// How a scrape is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exposition {
    /// The text format of Prometheus, version 0.0.4.
    Text,
    /// `OpenMetrics` 1.0, with exemplars.
    OpenMetrics,
}

impl Exposition {
    /// What a scraper's `Accept` asks for.
    pub fn asked(headers: &http::HeaderMap) -> Self {
        let mut ranges = headers.get_all(http::header::ACCEPT).iter();
        let wanted = ranges.any(|ranges| ranges.to_str().is_ok_and(openmetrics::is_wanted));
        if wanted { Self::OpenMetrics } else { Self::Text }
    }

    /// The `Content-Type` of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => prometheus::TEXT_FORMAT,
            Self::OpenMetrics => openmetrics::CONTENT_TYPE,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Metrics {
    type Target = Families;

    fn deref(&self) -> &Families {
        &self.0.families
    }
}

/// What is counted per command; see the families of the same names.
#[allow(missing_docs)]
pub struct CommandMetrics {
    pub created: IntCounter,
    pub claimed: IntCounter,
    pub completed: By<Status, IntCounter>,
    pub processing_latency: By<Status, TracedHistogram>,
    pub queue_wait: TracedHistogram,
    pub execution: By<Said, TracedHistogram>,
    pub attempts: Histogram,
    pub retries: By<Failed, IntCounter>,
    pub returned: By<Returned, IntCounter>,
    pub dead_lettered: By<Failed, IntCounter>,
    pub dlq_moved: By<DlqMoved, IntCounter>,
    pub replays: IntCounter,
    pub cancelled: IntCounter,
    pub lease_expired: IntCounter,
    pub webhook_deliveries: By<Delivery, IntCounter>,
    pub webhook_end_to_end: TracedHistogram,
}

impl CommandMetrics {
    fn resolve(metrics: &Metrics, label: &str) -> Self {
        Self {
            created: metrics.task_created.with(label),
            claimed: metrics.task_claimed.with(label),
            completed: metrics.task_completed.of(&[label]),
            processing_latency: metrics.task_processing_latency.of(&[label]),
            queue_wait: metrics.task_queue_wait.with(label),
            execution: metrics.task_execution.of(&[label]),
            attempts: metrics.task_attempts.with(label),
            retries: metrics.task_retries.of(&[label]),
            returned: metrics.task_returned.of(&[label]),
            dead_lettered: metrics.task_dead_lettered.of(&[label]),
            dlq_moved: metrics.dlq_moved.of(&[label]),
            replays: metrics.task_replays.with(label),
            cancelled: metrics.task_cancelled.with(label),
            lease_expired: metrics.lease_expired.with(label),
            webhook_deliveries: metrics.webhook_deliveries.of(&[label]),
            webhook_end_to_end: metrics.webhook_end_to_end.with(label),
        }
    }
}

/// What is counted per tenant that the settings name; see the families `tenant_…`.
#[allow(missing_docs)]
pub struct TenantMetrics {
    pub completed: By<Status, IntCounter>,
    pub execution_seconds: Counter,
}

/// What is counted per script; see the families `store_…`.
#[allow(missing_docs)]
pub struct OperationMetrics {
    pub duration: Histogram,
    pub results: By<StoreResult, IntCounter>,
    pub batch_size: Histogram,
}

impl OperationMetrics {
    fn resolve(metrics: &Metrics, name: &str) -> Self {
        Self {
            duration: metrics.store_operation_duration.with(name),
            results: metrics.store_operations.of(&[name]),
            batch_size: metrics.store_batch_size.with(name),
        }
    }
}

/// Methods that are label values; the first stands for all others.
const METHODS: [&str; 8] = ["_OTHER", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// What is counted per method and route.
#[derive(Clone)]
pub struct RouteMetrics(Arc<Route>);

struct Route {
    requests: Open<(), IntCounter>,
    route: String,
    method: &'static str,
    duration: Histogram,
    work: Histogram,
    codes: [OnceLock<IntCounter>; 500],
}

impl RouteMetrics {
    fn resolve(metrics: &Metrics, route: &str, method: &'static str) -> Self {
        Self(Arc::new(Route {
            requests: metrics.http_requests.clone(),
            route: route.to_owned(),
            method,
            duration: metrics.http_request_duration.with_all(&[route, method]),
            work: metrics.http_request_work.with_all(&[route, method]),
            codes: [const { OnceLock::new() }; 500],
        }))
    }

    /// A request ended with this status (100 to 599) after this many seconds, of which it was
    /// asked to wait so many.
    pub fn ended(&self, status: http::StatusCode, seconds: f64, waited: f64) {
        let Route { requests, route, method, duration, work, codes } = &*self.0;
        duration.observe(seconds);
        work.observe((seconds - waited).max(0.0));
        let count = || requests.with_all(&[route, method, status.as_str()]);
        match codes.get(usize::from(status.as_u16()).wrapping_sub(100)) {
            Some(code) => code.get_or_init(count).inc(),
            None => count().inc(),
        }
    }
}

/// Handles by open text: read far more often than written.
struct Kept<T>(RwLock<HashMap<String, Arc<T>>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T> Kept<T> {
    fn get(&self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(kept) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return kept.clone();
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(name.to_owned()).or_insert_with(|| Arc::new(make())).clone()
    }
}

#[cfg(test)]
mod tests;
