//! Log lines: one JSON object (or `key=value` text) per event, written without ever waiting.

mod control;
mod every;
mod fields;
mod line;
mod writer;

use std::cell::{Cell, RefCell};
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
use crate::model::TaskId;
use fields::{Fields, Place};
use line::{Clock, Frame, Surroundings};

/// What the lines of one request have in common.
#[derive(Debug, Default)]
pub struct Request {
    id: Arc<str>,
    traceparent: Option<Arc<str>>,
    task: Cell<Option<TaskId>>,
}

impl Request {
    /// The request's id, and the incoming `traceparent`: it stands on lines that have none of their
    /// own while no spans are made.
    pub fn new(id: Arc<str>, traceparent: Option<Arc<str>>) -> Self {
        Self { id, traceparent, task: Cell::new(None) }
    }
}

tokio::task_local! {
    static REQUEST: Request;
}

/// Runs a request so that each of its lines carries its id.
pub async fn within<F: Future>(request: Request, future: F) -> F::Output {
    REQUEST.scope(request, future).await
}

/// From here on the request is about this task: its lines say so.
pub fn about(task: TaskId) {
    // Outside a request there is nothing to say it of.
    let _ = REQUEST.try_with(|request| request.task.set(Some(task)));
}

/// Turns events into lines.
pub(super) struct Lines {
    format: Format,
    identity: String,
    sink: Sink,
    metrics: Metrics,
    task_sample_ratio: f64,
}

/// Memory that every line of a thread uses again.
#[derive(Default)]
struct Scratch {
    fields: Fields,
    line: String,
    clock: Clock,
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
    /// `task_sample_ratio` is the share of tasks whose lines of category `task` are written, 0 to 1.
    pub(super) fn new(
        format: Format,
        identity: &Identity,
        sink: Sink,
        metrics: Metrics,
        task_sample_ratio: f64,
    ) -> Self {
        Self { format, identity: identity.pairs(format), sink, metrics, task_sample_ratio }
    }

    fn write(&self, event: &Event<'_>, scratch: &mut Scratch) {
        scratch.fields.clear();
        scratch.line.clear();
        event.record(&mut scratch.fields);
        if !self.sampled(&scratch.fields) {
            return;
        }
        let current = match scratch.fields.at(Place::Traceparent) {
            Some(_) => None,
            None => super::trace::current_traceparent(),
        };
        let current = current.as_deref();
        let mut write = |around: Surroundings<'_>| {
            let Scratch { fields, line, clock } = &mut *scratch;
            let (format, identity) = (self.format, self.identity.as_str());
            let frame = Frame { format, identity, metadata: event.metadata(), around };
            line::write(line, clock, &frame, fields);
        };
        let inside = REQUEST.try_with(|request| {
            write(Surroundings {
                request_id: Some(&request.id),
                traceparent: current.or(request.traceparent.as_deref()),
                task: request.task.get(),
            });
        });
        if inside.is_err() {
            write(Surroundings { traceparent: current, ..Surroundings::default() });
        }
        self.metrics.log_lines.with(counted(event.metadata().level())).inc();
        self.sink.line(scratch.line.as_bytes());
    }

    /// All lines of a task or none: a sampled trace decides first, then the task's id.
    fn sampled(&self, fields: &Fields) -> bool {
        if self.task_sample_ratio >= 1.0 || fields.plain(Place::Category) != Some("task") {
            return true;
        }
        if fields.plain(Place::Traceparent).is_some_and(|parent| parent.ends_with("-01")) {
            return true;
        }
        let Some(id) = fields.json("task_id").and_then(fields::unquoted) else { return true };
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
