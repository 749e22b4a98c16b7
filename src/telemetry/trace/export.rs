//! The exporter, counted and never in the way.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use super::queue::Queued;
use crate::telemetry::log::Every;
use crate::telemetry::metrics::{Export, Metrics};

/// How exporting goes, for the health report. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Exporting(Arc<AtomicU8>);

const OFF: u8 = 0;
const WORKS: u8 = 1;
const FAILS: u8 = 2;

impl Exporting {
    pub(super) fn on() -> Self {
        Self(Arc::new(AtomicU8::new(WORKS)))
    }

    /// Whether spans are made at all.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) != OFF
    }

    /// Whether the last batch did not reach the collector.
    pub fn is_failing(&self) -> bool {
        self.0.load(Ordering::Relaxed) == FAILS
    }
}

/// Counts what an exporter does and reports failures, now and then.
pub(super) struct Counted<E> {
    pub(super) inner: E,
    pub(super) metrics: Metrics,
    pub(super) exporting: Exporting,
    pub(super) queued: Queued,
}

impl<E: fmt::Debug> fmt::Debug for Counted<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

static FAILED: Every = Every::new(Duration::from_secs(60));

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.inner.export(batch).await;
        self.queued.left(spans);
        let (outcome, state) = match &exported {
            Ok(()) => (Export::Success, WORKS),
            Err(_) => (Export::Failure, FAILS),
        };
        self.metrics.otel_exports.with(outcome).inc();
        self.exporting.0.store(state, Ordering::Relaxed);
        if let (Err(error), Some(suppressed)) = (&exported, failed_line(&exported)) {
            tracing::warn!(
                category = "system",
                event = "telemetry.export_failed",
                spans,
                suppressed,
                error.r#type = "export",
                error.message = %error,
                "spans could not be exported"
            );
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

fn failed_line(exported: &OTelSdkResult) -> Option<u64> {
    exported.as_ref().err().and_then(|_| FAILED.pass())
}

/// Spans as log lines, for a look without a collector.
#[derive(Debug)]
pub(super) struct Console;

impl SpanExporter for Console {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        for span in batch {
            let took = span.end_time.duration_since(span.start_time).unwrap_or_default();
            let context = &span.span_context;
            tracing::info!(
                category = "debug",
                event = "span.ended",
                traceparent = super::context::traceparent(context),
                span.name = &*span.name,
                span.kind = ?span.span_kind,
                span.parent = %span.parent_span_id,
                span.duration_ms = took.as_secs_f64() * 1e3,
                span.scope = span.instrumentation_scope.name(),
                "a span ended"
            );
        }
        Ok(())
    }
}
