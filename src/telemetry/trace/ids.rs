//! Span ids that can be drawn before their span exists.
//!
//! A script stores the id of a step's span together with the step itself, so that nothing is
//! written twice: the node draws the id, sends it along, and gives it to the span afterwards.

use std::cell::Cell;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

thread_local! {
    static NEXT: Cell<Option<SpanId>> = const { Cell::new(None) };
}

/// A fresh span id for a step whose span is made later; `None` while tracing is off.
pub fn draw_span_id() -> Option<SpanId> {
    super::is_on().then(|| RandomIdGenerator::default().new_span_id())
}

/// Runs `make`; the first span started inside on this thread gets the id.
pub(super) fn with_span_id<T>(id: Option<SpanId>, make: impl FnOnce() -> T) -> T {
    NEXT.set(id);
    let made = make();
    NEXT.set(None);
    made
}

/// Random ids, and drawn ones where they were asked for.
#[derive(Debug, Default)]
pub(super) struct Drawn(RandomIdGenerator);

impl IdGenerator for Drawn {
    fn new_trace_id(&self) -> TraceId {
        self.0.new_trace_id()
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.take().unwrap_or_else(|| self.0.new_span_id())
    }
}
