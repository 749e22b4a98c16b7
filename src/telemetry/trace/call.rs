//! The span of a call to a receiver.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanKind, TraceContextExt as _};

use super::span::{OpenSpan, Plan};
use super::tracers::Room;
use super::{is_on, parent, propagates, propagates_baggage};

/// What a call to a receiver is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// The end of a task.
    TaskResult,
    /// A queue that became ready.
    QueueReady,
}

/// The span of a call to a receiver, and the context that goes with the call.
pub struct CallSpan {
    span: OpenSpan,
    traceparent: Option<String>,
    tracestate: Option<String>,
}

impl std::ops::Deref for CallSpan {
    type Target = OpenSpan;

    fn deref(&self) -> &OpenSpan {
        &self.span
    }
}

impl std::ops::DerefMut for CallSpan {
    fn deref_mut(&mut self) -> &mut OpenSpan {
        &mut self.span
    }
}

impl CallSpan {
    /// Opens the span below a stored context, a root when there is none; `link` is the
    /// `traceparent` of a request that asked for the call. With tracing off what is stored passes
    /// through.
    pub fn open(
        call: Call,
        stored: Option<&str>,
        stored_state: Option<&str>,
        link: Option<&str>,
    ) -> Self {
        if !is_on() {
            let text = |text: Option<&str>| text.map(str::to_owned);
            let (traceparent, tracestate) = (text(stored), text(stored_state));
            return Self { span: OpenSpan(None), traceparent, tracestate };
        }
        let (room, name) = match call {
            Call::TaskResult => (Room::ResultCallback, "codeq.webhook.task_result"),
            Call::QueueReady => (Room::Notifier, "codeq.webhook.queue_ready"),
        };
        let link = link.map(|link| parent(Some(link), None).span().span_context().clone());
        let plan = Plan::of(room, name, SpanKind::Client);
        let span = OpenSpan(Plan { below: parent(stored, stored_state), link, ..plan }.start());
        let (traceparent, tracestate) = (span.traceparent(), span.tracestate());
        Self { span, traceparent, tracestate }
    }

    /// Adds the context to the headers of the call, as far as the configured propagators say. Its
    /// parts were checked when they came in; what is no header all the same stays behind.
    pub fn inject(&self, baggage: Option<&str>, into: &mut HeaderMap) {
        let parts = [
            ("traceparent", self.traceparent.as_deref().filter(|_| propagates())),
            ("tracestate", self.tracestate.as_deref().filter(|_| propagates())),
            ("baggage", baggage.filter(|_| propagates_baggage())),
        ];
        for (name, value) in parts {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                into.insert(HeaderName::from_static(name), value);
            }
        }
    }

    /// The `traceparent` of the call.
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }
}
