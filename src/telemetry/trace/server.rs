//! The span of a request.

use std::future::Future;

use opentelemetry::context::FutureExt as _;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, Value};

use super::tracers::{Room, with_tracer};
use super::{context, parent, propagates};

/// The span of a request, from its headers to the end of its answer.
pub struct Server(Option<Context>);

impl Server {
    /// None: for requests that are not traced.
    pub fn none() -> Self {
        Self(None)
    }

    /// Whether there is one.
    pub fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Opens `METHOD /route` below the incoming context. `method` is one of the known methods or
    /// `_OTHER`, `route` is the template: what a client can fill freely is on no span.
    pub fn open(
        method: &'static str,
        route: &str,
        incoming: Option<&str>,
        incoming_state: Option<&str>,
    ) -> Self {
        let above = parent(incoming, incoming_state);
        Self(with_tracer(Room::Http, |tracer| {
            let builder = tracer
                .span_builder(format!("{method} {route}"))
                .with_kind(SpanKind::Server)
                .with_attributes([
                    KeyValue::new("http.request.method", method),
                    KeyValue::new("http.route", route.to_owned()),
                    KeyValue::new("url.path", route.to_owned()),
                    KeyValue::new("url.scheme", "http"),
                ]);
            Context::new().with_span(tracer.build_with_context(builder, &above))
        }))
    }

    /// The request runs inside: what it does finds this span as the current one.
    pub fn around<F: Future>(&self, request: F) -> impl Future<Output = F::Output> + use<F> {
        request.with_context(self.0.clone().unwrap_or_default())
    }

    /// Adds one attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, value));
        }
    }

    /// The answer's status. From 500 on it is our failure; a client's is not an error here.
    pub fn answered(&self, status: u16) {
        let Some(context) = &self.0 else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= 500 {
            span.set_attribute(KeyValue::new("error.type", status.to_string()));
            span.set_status(Status::error(""));
        }
    }

    /// The span's own `traceparent`, for the answer, unless none is to be sent.
    pub fn traceparent(&self) -> Option<String> {
        let context = self.0.as_ref().filter(|_| propagates())?;
        context::traceparent(context.span().span_context())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Work behind the answer may hold the context for longer than the request takes.
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}
