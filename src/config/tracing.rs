use std::time::Duration;

use secrecy::SecretString;

/// Spans and their exporter. `OTEL_BSP_*`, span limits and `OTEL_RESOURCE_ATTRIBUTES` are not here:
/// the SDK reads them itself.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Whether spans are made. Context passes through in any case.
    pub enabled: bool,
    /// `service.name`.
    pub service_name: String,
    /// Where spans go.
    pub exporter: TraceExporter,
    /// Address of the collector.
    pub endpoint: OtlpEndpoint,
    /// Wire format of the exporter.
    pub protocol: OtlpProtocol,
    /// Headers (gRPC metadata) of each export.
    pub headers: Vec<(String, SecretString)>,
    /// Time for one export; `None`: the exporter's default.
    pub timeout: Option<Duration>,
    /// Compression of exports.
    pub compression: Option<Compression>,
    /// Which traces are kept.
    pub sampler: Sampler,
    /// W3C `traceparent` and `tracestate` pass through.
    pub propagate_trace_context: bool,
    /// W3C `baggage` passes through; also `tracing.baggage`.
    pub propagate_baggage: bool,
    /// A span per call of the store.
    pub store_spans: bool,
    /// `OTEL_LOG_LEVEL`: the SDK's own messages; `None`: as the other modules.
    pub sdk_log_level: Option<::tracing::level_filters::LevelFilter>,
}

/// Where spans go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceExporter {
    /// A collector.
    Otlp,
    /// Standard output, for a look.
    Console,
    /// Nowhere: spans exist, for log lines and headers.
    None,
}

/// Address of the collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint {
    /// Complete: `http://` or `https://`, and the path `/v1/traces` for HTTP.
    pub url: String,
    /// Whether the scheme is `https`.
    pub tls: bool,
}

/// Wire format of the exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP, protobuf bodies.
    HttpProtobuf,
}

/// Compression of exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Which traces are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// An upstream decision wins both ways.
    pub parent_based: bool,
    /// Share of traces kept where no parent decides, 0.0..=1.0.
    pub ratio: f64,
}
