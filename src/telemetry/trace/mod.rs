//! Spans, and the W3C context that travels with a task through Redis.
//!
//! With tracing off every span here is nothing and costs a branch; the context that came in with a
//! request still passes through, because operations store and return it themselves.

mod context;
mod export;
mod ids;
mod setup;
mod span;

pub use context::{current_traceparent, parent};
pub use export::Exporting;
pub use ids::draw_span_id;
pub use opentelemetry::trace::SpanId;
pub use setup::{CannotExport, Exporter, Options, Protocol, Sampling};
pub(super) use setup::{Pipeline, layer};
pub use span::{CallSpan, Server, Step, StepSpan};

/// The target of every span of ours: the exporter takes these and nothing else.
const TARGET: &str = "codeq::span";

/// Whether spans are made.
pub fn is_on() -> bool {
    setup::ON.load(std::sync::atomic::Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
