//! Who makes which spans: a tracer for each instrumentation scope.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

static ON: AtomicBool = AtomicBool::new(false);
static STORE: AtomicBool = AtomicBool::new(false);
static TRACERS: RwLock<Vec<SdkTracer>> = RwLock::new(Vec::new());

/// The part of the broker that a span tells of: its instrumentation scope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room {
    Http,
    Scheduler,
    Repository,
    Results,
    Notifier,
    ResultCallback,
    Sweeper,
}

/// The scopes, in the order of [`Room`].
const SCOPES: [&str; 7] = [
    "codeq/http",
    "codeq/scheduler",
    "codeq/repository",
    "codeq/results",
    "codeq/notifier",
    "codeq/result_callback",
    "codeq/sweeper",
];

/// Whether spans are made.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Whether calls of the store make spans.
pub(super) fn store_is_on() -> bool {
    STORE.load(Ordering::Relaxed) && is_on()
}

/// From now on spans are made, by this provider.
pub(super) fn install(provider: &SdkTracerProvider, store_spans: bool) {
    let tracer = |name: &&'static str| {
        let scope = InstrumentationScope::builder(*name).with_version(env!("CARGO_PKG_VERSION"));
        provider.tracer_with_scope(scope.build())
    };
    *TRACERS.write().unwrap_or_else(PoisonError::into_inner) = SCOPES.iter().map(tracer).collect();
    STORE.store(store_spans, Ordering::Relaxed);
    ON.store(true, Ordering::Relaxed);
}

/// From now on none are made.
pub(super) fn remove() {
    ON.store(false, Ordering::Relaxed);
    TRACERS.write().unwrap_or_else(PoisonError::into_inner).clear();
}

/// Runs `make` with the tracer of a scope; `None` while tracing is off.
pub(super) fn with_tracer<T>(room: Room, make: impl FnOnce(&SdkTracer) -> T) -> Option<T> {
    if !is_on() {
        return None;
    }
    let tracers = TRACERS.read().unwrap_or_else(PoisonError::into_inner);
    tracers.get(room as usize).map(make)
}
