//! Log lines: one JSON object (or `key=value` text) per event, written without ever waiting.

mod control;
mod every;
mod fields;
mod line;
mod writer;

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

pub use control::{LogControl, LogLevels, WrongFilter};
pub use every::Every;
pub use line::{Format, Identity};
pub use writer::Sink;

use super::metrics::{LogLevel, Metrics};
use fields::Fields;
use line::Surroundings;

/// What the lines of one request have in common.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The request's id.
    pub id: Arc<str>,
    /// The incoming `traceparent`: stands on lines that have none of their own.
    pub traceparent: Option<Arc<str>>,
}

tokio::task_local! {
    static REQUEST: Request;
}

/// Runs a request so that each of its lines carries its id.
pub async fn within<F: Future>(request: Request, future: F) -> F::Output {
    REQUEST.scope(request, future).await
}

/// Turns events into lines.
pub(super) struct Lines {
    pub(super) format: Format,
    pub(super) identity: Identity,
    pub(super) sink: Sink,
    pub(super) metrics: Metrics,
    /// The share of tasks whose lines of category `task` are written, 0 to 1.
    pub(super) task_sample_ratio: f64,
}

/// Memory that every line of a thread uses again.
#[derive(Default)]
struct Scratch {
    fields: Fields,
    line: String,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // A value's own Display may log while it is written: that inner line gets its own memory.
        SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => self.write(event, &mut scratch),
            Err(_) => self.write(event, &mut Scratch::default()),
        });
    }
}

impl Lines {
    fn write(&self, event: &Event<'_>, Scratch { fields, line }: &mut Scratch) {
        fields.clear();
        line.clear();
        event.record(fields);
        if !self.sampled(fields) {
            return;
        }
        let request = REQUEST.try_with(Clone::clone).ok();
        let current = match fields.json("traceparent") {
            Some(_) => None,
            None => super::trace::current_traceparent(),
        };
        let passed_on = request.as_ref().and_then(|request| request.traceparent.as_deref());
        let around = Surroundings {
            request_id: request.as_ref().map(|request| &*request.id),
            traceparent: current.as_deref().or(passed_on),
        };
        line::write(line, self.format, &self.identity, event.metadata(), fields, &around);
        self.metrics.log_lines.with(counted(event.metadata().level())).inc();
        self.sink.line(line.as_bytes());
    }

    /// All lines of a task or none: a sampled trace decides first, then the task's id.
    fn sampled(&self, fields: &Fields) -> bool {
        if self.task_sample_ratio >= 1.0 || fields.plain("category") != Some("task") {
            return true;
        }
        if fields.plain("traceparent").is_some_and(|traceparent| traceparent.ends_with("-01")) {
            return true;
        }
        let Some(id) = fields.plain("task_id") else { return true };
        // FNV-1a: the same on every node and in every version, unlike the standard hasher.
        let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let share = (hash >> 11) as f64 / (1_u64 << 53) as f64;
        share < self.task_sample_ratio
    }
}

fn counted(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

/// From now on a panic is one ERROR line, and nothing goes to standard error.
pub fn panics_become_lines() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("a panic without text");
        let location = panic.location().map(ToString::to_string);
        tracing::error!(
            category = "system",
            event = "node.panicked",
            location,
            thread = std::thread::current().name(),
            error.r#type = "panic",
            error.message = message,
            "a panic was caught"
        );
    }));
}

#[cfg(test)]
mod tests;
