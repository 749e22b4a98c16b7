//! The queue in front of the exporter: bounded, and what finds no room is counted.
//!
//! The SDK's processor tells of its first drop and, at its end, of their number. Counting in front
//! of it says at any time how many there were.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};

use crate::telemetry::log::Every;
use crate::telemetry::metrics::IntCounter;

/// How many spans wait for their export or are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Queued(Arc<AtomicUsize>);

impl Queued {
    fn enters(&self, most: usize) -> bool {
        let entered = self.0.fetch_add(1, Ordering::Relaxed) < most;
        if !entered {
            self.left(1);
        }
        entered
    }

    /// So many were exported, or lost on their way.
    pub(super) fn left(&self, spans: usize) {
        self.0.fetch_sub(spans, Ordering::Relaxed);
    }
}

/// The SDK's batch processor, never asked for more than it has room for.
#[derive(Debug)]
pub(super) struct Queue {
    inner: BatchSpanProcessor,
    queued: Queued,
    most: usize,
    dropped: IntCounter,
}

static FULL: Every = Every::new(Duration::from_secs(60));

impl Queue {
    pub(super) fn new<E: SpanExporter + 'static>(
        exporter: E,
        queued: Queued,
        most: usize,
        dropped: IntCounter,
    ) -> Self {
        let config = BatchConfigBuilder::default().with_max_queue_size(most).build();
        let inner = BatchSpanProcessor::new(exporter, config);
        Self { inner, queued, most, dropped }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.queued.enters(self.most) {
            return self.inner.on_end(span);
        }
        self.dropped.inc();
        if let Some(suppressed) = FULL.pass() {
            tracing::warn!(
                category = "system",
                event = "telemetry.spans_dropped",
                suppressed,
                "spans are dropped: they come faster than the collector takes them"
            );
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
