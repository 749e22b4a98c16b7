//! The spans of a node: the request, and the steps of a task's life.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, Status, TraceContextExt};
use opentelemetry::{Context, Value};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::context::{traceparent, tracestate};
use super::ids::with_span_id;
use super::{TARGET, is_on, parent};

/// The span of a request, from its headers to the end of its answer.
pub struct Server(Span);

impl Server {
    /// Opens `METHOD /route` below the incoming context. `method` is one of the known methods or
    /// `_OTHER`, `route` is the template: what a client can fill freely is on no span.
    pub fn open(
        method: &str,
        route: &str,
        incoming: Option<&str>,
        incoming_state: Option<&str>,
    ) -> Self {
        if !is_on() {
            return Self(Span::none());
        }
        let span = tracing::info_span!(
            target: TARGET,
            parent: None,
            "http",
            otel.name = format!("{method} {route}"),
            otel.kind = "server",
            http.request.method = method,
            http.route = route,
            url.path = route,
            url.scheme = "http",
        );
        below(&span, parent(incoming, incoming_state));
        Self(span)
    }

    /// For `Instrument`: the request runs inside.
    pub fn span(&self) -> Span {
        self.0.clone()
    }

    /// Adds one attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if !self.0.is_none() {
            self.0.set_attribute(key, value);
        }
    }

    /// The answer's status. From 500 on it is our failure; a client's is not an error here.
    pub fn answered(&self, status: u16) {
        if self.0.is_none() {
            return;
        }
        self.0.set_attribute("http.response.status_code", i64::from(status));
        if status >= 500 {
            self.0.set_attribute("error.type", status.to_string());
            self.0.set_status(Status::error(""));
        }
    }

    /// The span's own `traceparent`, for the answer.
    pub fn traceparent(&self) -> Option<String> {
        own_traceparent(&self.0)
    }
}

/// A step of a task's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A producer's task was taken in; also when it is refused.
    Create,
    /// A worker got the task.
    Claim,
    /// A worker keeps the task.
    Heartbeat,
    /// A worker gives the task back.
    Abandon,
    /// A worker could not do it.
    Nack,
    /// A worker's result.
    SubmitResult,
    /// Back to the queue for another attempt, without a worker's call.
    Requeue,
    /// No attempt is left.
    DeadLetter,
    /// A producer takes it back.
    Cancel,
    /// Out of the dead letters again.
    Redrive,
    /// Artifacts of a result are stored.
    StoreArtifacts,
}

impl Step {
    /// The span's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "codeq.task.create",
            Self::Claim => "codeq.task.claim",
            Self::Heartbeat => "codeq.task.heartbeat",
            Self::Abandon => "codeq.task.abandon",
            Self::Nack => "codeq.task.nack",
            Self::SubmitResult => "codeq.task.submit_result",
            Self::Requeue => "codeq.task.requeue",
            Self::DeadLetter => "codeq.task.dead_letter",
            Self::Cancel => "codeq.task.cancel",
            Self::Redrive => "codeq.task.redrive",
            Self::StoreArtifacts => "codeq.artifacts.store",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Create => "producer",
            Self::Claim => "consumer",
            Self::StoreArtifacts => "client",
            _ => "internal",
        }
    }

    /// Opens the span as a child of the request that is being answered.
    pub fn below_current(self) -> StepSpan {
        if !is_on() {
            return StepSpan(Span::none());
        }
        self.start(Context::current(), None, None)
    }

    /// Opens the span as a child of another step's context, without a link to the request.
    pub fn below(self, context: Option<&str>) -> StepSpan {
        if !is_on() {
            return StepSpan(Span::none());
        }
        self.start(parent(context, None), None, None)
    }

    /// Opens the span as a child of the context stored with the task, a root when there is none,
    /// linked to the request that is being answered. `id` is what [`super::draw_span_id`] gave.
    pub fn below_task(
        self,
        stored: Option<&str>,
        stored_state: Option<&str>,
        id: Option<SpanId>,
    ) -> StepSpan {
        if !is_on() {
            return StepSpan(Span::none());
        }
        let request = Context::current().span().span_context().clone();
        self.start(parent(stored, stored_state), Some(request), id)
    }

    fn start(self, context: Context, link: Option<SpanContext>, id: Option<SpanId>) -> StepSpan {
        let span = tracing::info_span!(
            target: TARGET,
            parent: None,
            "task",
            otel.name = self.name(),
            otel.kind = self.kind(),
        );
        below(&span, context);
        if let Some(link) = link {
            span.add_link(link);
        }
        // The SDK makes its span now, so that the id is taken and the context can be stored.
        with_span_id(id, || span.context());
        StepSpan(span)
    }
}

/// The span of a step; it ends when this is dropped.
pub struct StepSpan(Span);

impl StepSpan {
    /// Adds one attribute: `codeq.…`, `messaging.…`; never text of a request.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) -> &Self {
        if !self.0.is_none() {
            self.0.set_attribute(key, value);
        }
        self
    }

    /// The step was refused, which is no error; `outcome` is the refusal's name.
    pub fn refused(&self, outcome: &'static str) {
        self.set("codeq.outcome", outcome);
    }

    /// The step failed through us; `kind` is a class such as `store_unavailable`.
    pub fn failed(&self, kind: &'static str) {
        if !self.0.is_none() {
            self.0.set_attribute("error.type", kind);
            self.0.set_status(Status::error(""));
        }
    }

    /// What to store with the task from now on: this span's `traceparent`, `None` with tracing
    /// off (then what came in stays).
    pub fn traceparent(&self) -> Option<String> {
        own_traceparent(&self.0)
    }

    /// The `tracestate` that goes with [`StepSpan::traceparent`].
    pub fn tracestate(&self) -> Option<String> {
        if self.0.is_none() {
            return None;
        }
        tracestate(self.0.context().span().span_context())
    }
}

/// The span of a call to a receiver, and the context that goes with the call.
pub struct CallSpan {
    span: Span,
    traceparent: Option<String>,
    tracestate: Option<String>,
}

impl CallSpan {
    /// Opens the span `name` below a stored context, a root when there is none; `link` is the
    /// `traceparent` of a request that asked for the call. With tracing off what is stored passes
    /// through.
    pub fn open(
        name: &'static str,
        stored: Option<&str>,
        stored_state: Option<&str>,
        link: Option<&str>,
    ) -> Self {
        let text = |text: Option<&str>| text.map(str::to_owned);
        if !is_on() {
            let (traceparent, tracestate) = (text(stored), text(stored_state));
            return Self { span: Span::none(), traceparent, tracestate };
        }
        let span = tracing::info_span!(
            target: TARGET,
            parent: None,
            "call",
            otel.name = name,
            otel.kind = "client",
        );
        below(&span, parent(stored, stored_state));
        if link.is_some() {
            span.add_link(parent(link, None).span().span_context().clone());
        }
        let context = span.context();
        let own = context.span().span_context().clone();
        Self { span, traceparent: traceparent(&own), tracestate: tracestate(&own) }
    }

    /// Adds one attribute; never text of a request, never more of a URL than its host.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) -> &Self {
        if !self.span.is_none() {
            self.span.set_attribute(key, value);
        }
        self
    }

    /// The call failed; `kind` is a class such as `timeout` or `http_5xx`.
    pub fn failed(&self, kind: &'static str) {
        if !self.span.is_none() {
            self.span.set_attribute("error.type", kind);
            self.span.set_status(Status::error(""));
        }
    }

    /// Adds the context to the headers of the call. Its parts were checked when they came in; what
    /// is no header all the same stays behind.
    pub fn inject(&self, baggage: Option<&str>, into: &mut HeaderMap) {
        let parts = [
            ("traceparent", self.traceparent.as_deref()),
            ("tracestate", self.tracestate.as_deref()),
            ("baggage", baggage),
        ];
        for (name, value) in parts {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                into.insert(HeaderName::from_static(name), value);
            }
        }
    }

    /// The `traceparent` to send.
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }
}

fn own_traceparent(span: &Span) -> Option<String> {
    if span.is_none() {
        return None;
    }
    traceparent(span.context().span().span_context())
}

fn below(span: &Span, context: Context) {
    // Fails when the span was entered before, which nobody can do between making it and here, or
    // when the subscriber of this thread is not ours: then there is no span to place.
    let placed = span.set_parent(context);
    debug_assert!(
        !matches!(placed, Err(tracing_opentelemetry::SetParentError::AlreadyStarted)),
        "a span got its parent after it was started"
    );
}
