//! What every span of ours is made of: one place starts them, names their failure and ends them.

use std::time::SystemTime;

use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::Span;

use super::ids::with_span_id;
use super::tracers::{Room, with_tracer};
use super::{context, is_on};

/// A span that is to be started.
pub(super) struct Plan {
    pub(super) room: Room,
    pub(super) name: &'static str,
    pub(super) kind: SpanKind,
    /// What it hangs below; empty for a root.
    pub(super) below: Context,
    pub(super) link: Option<SpanContext>,
    /// An id that was drawn before.
    pub(super) id: Option<SpanId>,
    /// When it began, if not now.
    pub(super) began: Option<SystemTime>,
}

impl Plan {
    pub(super) fn of(room: Room, name: &'static str, kind: SpanKind) -> Self {
        let below = Context::new();
        Self { room, name, kind, below, link: None, id: None, began: None }
    }

    /// `None` while tracing is off.
    pub(super) fn start(self) -> Option<Box<Span>> {
        with_tracer(self.room, |tracer| {
            let mut builder = tracer.span_builder(self.name).with_kind(self.kind);
            builder.start_time = self.began;
            builder.links =
                self.link.filter(SpanContext::is_valid).map(|link| vec![Link::with_context(link)]);
            let start = || tracer.build_with_context(builder, &self.below);
            Box::new(with_span_id(self.id, start))
        })
    }
}

/// A span; it ends when this is dropped. Nothing while tracing is off.
pub struct OpenSpan(pub(super) Option<Box<Span>>);

impl OpenSpan {
    /// Whether anybody will see it: what is costly to say need not be said otherwise.
    pub fn is_recording(&self) -> bool {
        self.0.as_ref().is_some_and(|span| span.is_recording())
    }

    /// Adds one attribute: `codeq.…`, `messaging.…`; never text of a request, never more of a URL
    /// than its host.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) -> &mut Self {
        if let Some(span) = self.0.as_mut().filter(|span| span.is_recording()) {
            span.set_attribute(KeyValue::new(key, value));
        }
        self
    }

    /// The step was refused, which is no error; `outcome` is the refusal's name.
    pub fn refused(&mut self, outcome: &'static str) {
        self.set("codeq.outcome", outcome);
    }

    /// It failed; `kind` is a class such as `store_unavailable`, `timeout` or `http_5xx`.
    pub fn failed(&mut self, kind: &'static str) {
        if let Some(span) = self.0.as_mut().filter(|span| span.is_recording()) {
            span.set_attribute(KeyValue::new("error.type", kind));
            span.set_status(Status::error(""));
            span.add_event("exception", vec![KeyValue::new("exception.type", kind)]);
        }
    }

    /// Its own `traceparent`: what is stored with the task from now on. `None` with tracing off
    /// (then what came in stays).
    pub fn traceparent(&self) -> Option<String> {
        context::traceparent(self.0.as_ref()?.span_context())
    }

    /// The `tracestate` that goes with [`OpenSpan::traceparent`].
    pub fn tracestate(&self) -> Option<String> {
        context::tracestate(self.0.as_ref()?.span_context())
    }
}

/// The span of the request that is being answered; invalid without one.
pub(super) fn request() -> SpanContext {
    Context::current().span().span_context().clone()
}

/// How many messages a request is about: an attribute of its span.
pub const BATCH_COUNT: &str = "messaging.batch.message_count";

/// Adds an attribute to the span of the request that is being answered.
pub fn say_of_request(key: &'static str, value: impl Into<Value>) {
    if is_on() {
        Context::current().span().set_attribute(KeyValue::new(key, value));
    }
}

/// Links the span of the request that is being answered to a task's stored context.
pub fn link_request(stored: Option<&str>, stored_state: Option<&str>) {
    let current = Context::current();
    let span = current.span();
    if is_on() && stored.is_some() && span.is_recording() {
        span.add_link(context::parent(stored, stored_state).span().span_context().clone(), vec![]);
    }
}

/// Whether the request that is being answered has a span that somebody will see.
pub fn request_is_recorded() -> bool {
    is_on() && Context::current().span().is_recording()
}
