//! Spans, and the W3C context that travels with a task through Redis.
//!
//! With tracing off every span here is nothing and costs a branch; the context that came in with a
//! request still passes through, because operations store and return it themselves.
//!
//! Spans are made with the SDK directly, not out of `tracing`'s: log lines make no spans, the
//! exporter's own connection makes none of itself, and each part of the broker is a scope of its
//! own.

mod call;
mod context;
mod export;
mod ids;
mod queue;
mod server;
mod setup;
mod span;
mod step;
mod tracers;

pub use call::{Call, CallSpan};
pub use context::{current_traceparent, parent, propagates, propagates_baggage};
pub use export::Exporting;
pub use ids::{draw_span_id, nth_span_id, span_begins};
pub use opentelemetry::trace::SpanId;
pub use server::Server;
pub(super) use setup::Pipeline;
pub use setup::{CannotExport, Exporter, Options, Protocol, Sampling};
pub use span::{BATCH_COUNT, OpenSpan, link_request, request_is_recorded, say_of_request};
pub use step::{Step, Sweep, store_call, traceparent_after};
pub use tracers::is_on;

#[cfg(test)]
mod tests;
