//! From settings to a running exporter. Fails loudly on a wrong setting, never on the network.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, WithExportConfig, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, TracerProviderBuilder};

use super::export::{Console, Counted, Exporting};
use super::queue::{Queue, Queued};
use super::{context, ids, tracers};
use crate::telemetry::log::Identity;
use crate::telemetry::metrics::Metrics;

/// What tracing is set to. Headers of exports, batch sizes and span limits are not here: the SDK
/// reads their `OTEL_…` variables itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether spans are made.
    pub enabled: bool,
    /// `service.name`.
    pub service_name: String,
    /// Where spans go.
    pub exporter: Exporter,
    /// Which traces are kept.
    pub sampling: Sampling,
    /// Install the propagator of `traceparent` and `tracestate`.
    pub propagate_trace_context: bool,
    /// Install the propagator of `baggage`.
    pub propagate_baggage: bool,
    /// A span for each call of the store.
    pub store_spans: bool,
    /// Time for one export; `None`: the exporter's default.
    pub timeout: Option<Duration>,
    /// Exports are compressed with gzip.
    pub gzip: bool,
    /// Most spans that wait for their export, or are under way.
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: false,
            service_name: "codeq".into(),
            exporter: Exporter::None,
            sampling: Sampling { parent_based: true, ratio: 1.0 },
            propagate_trace_context: true,
            propagate_baggage: true,
            store_spans: false,
            timeout: None,
            gzip: false,
            queue: 2048,
        }
    }
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exporter {
    /// To a collector; the URL is complete: `https://host:4317`, or with path for HTTP.
    Otlp {
        /// Where it listens.
        url: String,
        /// What it understands.
        protocol: Protocol,
    },
    /// To the log.
    Console,
    /// Nowhere: context is made and passed on all the same.
    None,
}

/// Wire format of OTLP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf bodies over HTTP.
    HttpProtobuf,
}

/// Which traces are kept.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sampling {
    /// An upstream decision wins both ways.
    pub parent_based: bool,
    /// Share of the traces that begin here, 0 to 1.
    pub ratio: f64,
}

/// Tracing cannot start as configured.
#[derive(Debug, thiserror::Error)]
pub enum CannotExport {
    /// The exporter refuses its settings.
    #[error("tracing: the exporter cannot be built: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// No thread for it.
    #[error("tracing: cannot start the exporter's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The running SDK. Dropping it without [`Pipeline::shutdown`] loses what is queued.
#[derive(Default)]
pub(crate) struct Pipeline {
    provider: Option<SdkTracerProvider>,
    /// Carries the exporter's connection, so that a busy or single-threaded node cannot starve it.
    runtime: Option<tokio::runtime::Runtime>,
    pub(crate) exporting: Exporting,
}

impl Pipeline {
    /// Installs the propagator and, when enabled, builds everything behind it.
    pub(crate) fn start(
        options: &Options,
        identity: &Identity,
        metrics: &Metrics,
    ) -> Result<Self, CannotExport> {
        context::propagate(options.propagate_trace_context, options.propagate_baggage);
        if !options.enabled {
            return Ok(Self::default());
        }
        // Owned by the pipeline from the start: a runtime dropped inside another one panics.
        let mut pipeline = Self { provider: None, runtime: None, exporting: Exporting::on() };
        let runtime = pipeline.runtime.insert(
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .max_blocking_threads(2)
                .thread_name("codeq-otlp")
                .enable_all()
                .build()?,
        );
        let inside = runtime.enter();
        let provider = provider(options, identity, metrics, &pipeline.exporting)?;
        drop(inside);
        tracers::install(&provider, options.store_spans);
        pipeline.provider = Some(provider);
        Ok(pipeline)
    }

    /// Hands everything queued to the collector, for at most `at_most`. Blocks: called inside a
    /// task it would stop the very thread that the export may need.
    pub(crate) fn shutdown(mut self, at_most: Duration) {
        tracers::remove();
        let Some(provider) = self.provider.take() else { return };
        if let Err(error) = provider.shutdown_with_timeout(at_most) {
            tracing::warn!(
                category = "system",
                event = "telemetry.export_failed",
                error.r#type = "shutdown",
                error.message = %error,
                "the last spans could not be exported"
            );
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn provider(
    options: &Options,
    identity: &Identity,
    metrics: &Metrics,
    exporting: &Exporting,
) -> Result<SdkTracerProvider, CannotExport> {
    let ratio = Sampler::TraceIdRatioBased(options.sampling.ratio);
    let sampler =
        if options.sampling.parent_based { Sampler::ParentBased(Box::new(ratio)) } else { ratio };
    let builder = SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_id_generator(ids::Drawn::default())
        .with_resource(resource(options, identity));
    let exporter = opentelemetry_otlp::SpanExporter::builder();
    let gzip = options.gzip.then_some(opentelemetry_otlp::Compression::Gzip);
    let builder = match &options.exporter {
        Exporter::Otlp { url, protocol: Protocol::Grpc } => {
            let mut otlp = exporter.with_tonic().with_endpoint(url);
            if let Some(timeout) = options.timeout {
                otlp = otlp.with_timeout(timeout);
            }
            if let Some(gzip) = gzip {
                otlp = otlp.with_compression(gzip);
            }
            batched(builder, otlp.build()?, options, metrics, exporting)
        }
        Exporter::Otlp { url, protocol: Protocol::HttpProtobuf } => {
            let mut otlp = exporter.with_http().with_endpoint(url);
            otlp = otlp.with_protocol(opentelemetry_otlp::Protocol::HttpBinary);
            if let Some(timeout) = options.timeout {
                otlp = otlp.with_timeout(timeout);
            }
            if let Some(gzip) = gzip {
                otlp = otlp.with_compression(gzip);
            }
            batched(builder, otlp.build()?, options, metrics, exporting)
        }
        Exporter::Console => batched(builder, Console, options, metrics, exporting),
        Exporter::None => builder,
    };
    Ok(builder.build())
}

/// Exports in batches, behind a queue that is bounded and counted.
fn batched<E: opentelemetry_sdk::trace::SpanExporter + 'static>(
    builder: TracerProviderBuilder,
    inner: E,
    options: &Options,
    metrics: &Metrics,
    exporting: &Exporting,
) -> TracerProviderBuilder {
    let queued = Queued::default();
    let (metrics, exporting) = (metrics.clone(), exporting.clone());
    let dropped = metrics.otel_spans_dropped.clone();
    let exporter = Counted { inner, metrics, exporting, queued: queued.clone() };
    builder.with_span_processor(Queue::new(exporter, queued, options.queue, dropped))
}

/// What every span says about its process. `OTEL_RESOURCE_ATTRIBUTES` wins over what we find out,
/// but for the names that log lines share.
fn resource(options: &Options, identity: &Identity) -> Resource {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("host.name", hostname.trim().to_owned()),
            KeyValue::new("process.pid", i64::from(std::process::id())),
            KeyValue::new("os.type", std::env::consts::OS),
            KeyValue::new("process.runtime.name", "rustc"),
            KeyValue::new("process.runtime.version", env!("CARGO_PKG_RUST_VERSION")),
            KeyValue::new("deployment.environment.name", identity.env.clone()),
        ])
        .with_detectors(&[
            Box::new(TelemetryResourceDetector),
            Box::new(EnvResourceDetector::new()),
        ])
        .with_service_name(options.service_name.clone())
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", identity.instance.clone()),
        ])
        .build()
}
