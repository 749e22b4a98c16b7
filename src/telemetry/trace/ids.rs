//! Span ids that can be drawn before their span exists.
//!
//! A script stores the id of a step's span together with the step itself, so that nothing is
//! written twice: the node draws the id, sends it along, and gives it to the span afterwards.

use std::cell::Cell;
use std::time::SystemTime;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

thread_local! {
    static NEXT: Cell<Option<SpanId>> = const { Cell::new(None) };
}

/// A fresh span id for a step whose span is made later; `None` while tracing is off.
pub fn draw_span_id() -> Option<SpanId> {
    super::is_on().then(|| RandomIdGenerator::default().new_span_id())
}

/// Now, as the beginning of a span that is made later; `None` while tracing is off. It decides
/// nothing.
pub fn span_begins() -> Option<SystemTime> {
    super::is_on().then(SystemTime::now)
}

/// The id of the `n`-th span, from 1, of a call that was given one id and moved many tasks: two of
/// them may be in one trace. Its last four digits are the number; `lua/lib/task.lua` does the same.
pub fn nth_span_id(id: SpanId, n: u16) -> SpanId {
    let [a, b, c, d, e, f, ..] = id.to_bytes();
    let [g, h] = n.to_be_bytes();
    SpanId::from_bytes([a, b, c, d, e, f, g, h])
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
