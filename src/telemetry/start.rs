//! Putting logs and traces in force, and taking them down in order.

use std::time::Duration;

use tracing::Subscriber;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{Registry, reload};

use super::log::{self, Format, Identity, LogControl, LogLevels, Sink, WrongFilter};
use super::metrics::Metrics;
use super::trace::{self, CannotExport, Exporting, Pipeline};

/// Time for the last spans to reach the collector.
const LAST_SPANS: Duration = Duration::from_secs(5);
/// Time for the last lines to reach their reader.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What logs and traces are set to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who writes.
    pub identity: Identity,
    /// How lines look.
    pub format: Format,
    /// Which lines are written.
    pub levels: LogLevels,
    /// The share of tasks whose lines are written, 0 to 1.
    pub task_sample_ratio: f64,
    /// Spans.
    pub tracing: trace::Options,
}

/// Logs or traces cannot start as configured.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    /// The level or the module filters.
    #[error("logging: {0}")]
    Filter(#[from] WrongFilter),
    /// The exporter.
    #[error(transparent)]
    Export(#[from] CannotExport),
    /// Somebody was first.
    #[error("logging was started twice in this process")]
    Twice,
}

/// Writes lines of this thread to standard output until the guard is dropped, at the level that
/// the environment names: for the time before settings are read.
#[must_use = "lines are written until the guard is dropped"]
pub fn console(metrics: &Metrics) -> Console {
    let levels = LogLevels::from_env();
    let sink = Sink::start(std::io::stdout(), metrics.log_lines_dropped.clone(), metrics.waits());
    let format = match std::env::var("LOG_FORMAT").as_deref() {
        Ok("text") => Format::Text,
        _ => Format::Json,
    };
    let lines = log::Lines::new(format, &Identity::default(), sink.clone(), metrics.clone(), 1.0);
    let filter = levels.to_filter().unwrap_or_default();
    let subscriber = Registry::default().with(lines.with_filter(filter));
    Console { _guard: tracing::subscriber::set_default(subscriber), sink }
}

/// Guard of [`console`].
pub struct Console {
    _guard: DefaultGuard,
    sink: Sink,
}

impl Drop for Console {
    fn drop(&mut self) {
        self.sink.flush(LAST_LINES);
        self.sink.close();
    }
}

/// What runs behind logs and traces.
pub struct Telemetry {
    /// Changes level and filters.
    pub log: LogControl,
    /// How exporting goes.
    pub exporting: Exporting,
    pipeline: Pipeline,
    sink: Sink,
}

/// Puts the configured logs and traces in force for the whole process. Call it inside the runtime.
///
/// # Errors
/// When a setting is wrong; an unreachable collector is none.
pub fn start(options: Options, metrics: &Metrics) -> Result<Telemetry, CannotStart> {
    let sink = Sink::start(std::io::stdout(), metrics.log_lines_dropped.clone(), metrics.waits());
    let (subscriber, telemetry) = build(options, metrics, sink)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| CannotStart::Twice)?;
    log::panics_become_lines();
    Ok(telemetry)
}

/// Everything but making it the process' own.
pub(super) fn build(
    options: Options,
    metrics: &Metrics,
    sink: Sink,
) -> Result<(impl Subscriber + Send + Sync + use<>, Telemetry), CannotStart> {
    let (filter, handle) = reload::Layer::new(options.levels.to_filter()?);
    let pipeline = Pipeline::start(&options.tracing, &options.identity, metrics)?;
    let lines = log::Lines::new(
        options.format,
        &options.identity,
        sink.clone(),
        metrics.clone(),
        options.task_sample_ratio,
    );
    let events_only = filter_fn(|metadata| metadata.is_event());
    let subscriber = Registry::default().with(lines.with_filter(filter.and(events_only)));
    let telemetry = Telemetry {
        log: LogControl::new(options.levels, handle),
        exporting: pipeline.exporting.clone(),
        pipeline,
        sink,
    };
    Ok((subscriber, telemetry))
}

impl Telemetry {
    /// Hands the last spans to the collector (at most 5 s) and the last lines to their reader.
    /// Call it when the HTTP server has drained.
    pub async fn shutdown(self) {
        // Inside a task the provider would wait for the thread it stands on.
        let flushed = tokio::task::spawn_blocking(move || {
            self.pipeline.shutdown(LAST_SPANS);
            self.sink.flush(LAST_LINES);
        });
        if let Err(error) = flushed.await {
            tracing::error!(
                category = "system",
                event = "telemetry.export_failed",
                error.r#type = "panic",
                error.message = %error,
                "flushing telemetry failed"
            );
        }
    }
}
