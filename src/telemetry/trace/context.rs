//! W3C trace context: text on the wire and in Redis ↔ the SDK's values.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;

static CONTEXT: AtomicBool = AtomicBool::new(true);
static BAGGAGE: AtomicBool = AtomicBool::new(true);

/// Whether `traceparent` and `tracestate` are taken from requests and sent on: the one choice that
/// every surface asks, also while tracing is off.
pub fn propagates() -> bool {
    CONTEXT.load(Ordering::Relaxed)
}

/// Whether `baggage` is.
pub fn propagates_baggage() -> bool {
    BAGGAGE.load(Ordering::Relaxed)
}

/// Sets which propagators there are.
pub(super) fn propagate(context: bool, baggage: bool) {
    CONTEXT.store(context, Ordering::Relaxed);
    BAGGAGE.store(baggage, Ordering::Relaxed);
}

/// The context of a stored or incoming `traceparent` and `tracestate`. Without one, or with one
/// that is not valid, the empty context: a span below it is a root.
pub fn parent(traceparent: Option<&str>, tracestate: Option<&str>) -> Context {
    if traceparent.is_none() {
        return Context::new();
    }
    let carrier = Carrier { traceparent, tracestate };
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
}

struct Carrier<'a> {
    traceparent: Option<&'a str>,
    tracestate: Option<&'a str>,
}

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.traceparent,
            "tracestate" => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// The `traceparent` of the span that is entered now.
pub fn current_traceparent() -> Option<String> {
    if !super::is_on() {
        return None;
    }
    traceparent(Context::current().span().span_context())
}

pub(super) fn traceparent(context: &SpanContext) -> Option<String> {
    context.is_valid().then(|| {
        let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags());
        format!("00-{trace}-{span}-{:02x}", flags.to_u8() & 1)
    })
}

pub(super) fn tracestate(context: &SpanContext) -> Option<String> {
    Some(context.trace_state().header()).filter(|header| !header.is_empty())
}

/// `before` with another span in it; `before` itself when there is no id, or when it is none.
pub(super) fn with_span(before: &str, id: Option<SpanId>) -> Option<String> {
    match (id, before.get(..36), before.get(52..)) {
        (Some(id), Some(trace), Some(flags)) => Some(format!("{trace}{id}{flags}")),
        _ => Some(before.to_owned()),
    }
}
