use std::time::Duration;

use ::tracing::level_filters::LevelFilter;
use secrecy::SecretString;

use super::layers::Origin;
use super::otlp::{endpoint, headers, unescaped};
use super::read::{Reader, one_of, split};

const EXPORTERS: [(&str, TraceExporter); 3] = [
    ("otlp", TraceExporter::Otlp),
    ("console", TraceExporter::Console),
    ("none", TraceExporter::None),
];
const PROTOCOLS: [(&str, OtlpProtocol); 2] =
    [("grpc", OtlpProtocol::Grpc), ("http/protobuf", OtlpProtocol::HttpProtobuf)];
const COMPRESSIONS: [(&str, Option<Compression>); 2] =
    [("none", None), ("gzip", Some(Compression::Gzip))];
/// Numbers that the SDK reads itself, and passes over in silence when they are none.
const NUMBERS: [&str; 7] = [
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
];
/// Spans that may wait for their export, as the specification says.
const QUEUE: usize = 2048;
const LEVELS: [(&str, LevelFilter); 8] = [
    ("none", LevelFilter::OFF),
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
    ("all", LevelFilter::TRACE),
];
/// Propagators that OpenTelemetry knows and codeq does not speak.
const OTHER_PROPAGATORS: [&str; 5] = ["b3", "b3multi", "jaeger", "xray", "ottrace"];

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
    /// Most spans that wait for their export: `OTEL_BSP_MAX_QUEUE_SIZE`.
    pub queue: usize,
    /// `OTEL_LOG_LEVEL`: the SDK's own messages; `None`: as the other modules.
    pub sdk_log_level: Option<LevelFilter>,
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

impl TraceExporter {
    /// The name, as variables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Otlp => "otlp",
            Self::Console => "console",
            Self::None => "none",
        }
    }
}

/// Address of the collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint {
    /// Complete: `http://` or `https://`, and the path `/v1/traces` for HTTP.
    pub url: String,
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// As configured, for people.
    pub given: String,
}

/// Wire format of the exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP, protobuf bodies.
    HttpProtobuf,
}

impl OtlpProtocol {
    /// The name, as variables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
        }
    }
}

/// Compression of exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip.
    Gzip,
}

impl Compression {
    /// The name, as variables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
        }
    }
}

/// Which traces are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// An upstream decision wins both ways.
    pub parent_based: bool,
    /// Share of traces kept where no parent decides, 0.0..=1.0.
    pub ratio: f64,
}

impl Tracing {
    /// Per key: `TRACING_` over `OTEL_` over the file over the default.
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let protocol = choice(
            r,
            &["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
            &PROTOCOLS,
        );
        let protocol = protocol.unwrap_or(OtlpProtocol::Grpc);
        let compression = choice(
            r,
            &["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"],
            &COMPRESSIONS,
        );
        let (propagate_trace_context, propagate_baggage) = propagators(r);
        Self {
            enabled: enabled(r),
            service_name: service_name(r),
            exporter: choice(r, &["OTEL_TRACES_EXPORTER"], &EXPORTERS)
                .unwrap_or(TraceExporter::Otlp),
            endpoint: endpoint(r, protocol),
            protocol,
            headers: headers(r),
            timeout: timeout(r),
            compression: compression.flatten(),
            sampler: sampler(r),
            propagate_trace_context,
            propagate_baggage: r.boolean("tracing.baggage") && propagate_baggage,
            store_spans: r.boolean("tracing.storeSpans"),
            queue: queue(r),
            sdk_log_level: choice(r, &["OTEL_LOG_LEVEL"], &LEVELS),
        }
    }
}

/// Whether a key was set by its own `TRACING_` variable, over which no other wins.
pub(super) fn is_own(r: &Reader<'_>, key: &str) -> bool {
    matches!(r.origin(key), Origin::Environment(_))
}

/// The first of these variables that is set.
pub(super) fn first<'a>(r: &Reader<'a>, names: &[&'static str]) -> Option<(&'static str, &'a str)> {
    names.iter().find_map(|name| Some((*name, r.var(name)?)))
}

fn choice<T: Copy>(
    r: &mut Reader<'_>,
    names: &[&'static str],
    values: &[(&'static str, T)],
) -> Option<T> {
    let (name, text) = first(r, names)?;
    let found = values.iter().find(|(value, _)| value.eq_ignore_ascii_case(text.trim()));
    if found.is_none() {
        r.var_problem(name, false, one_of(text, values.iter().map(|(value, _)| *value)));
    }
    found.map(|(_, value)| *value)
}

/// As OpenTelemetry says: only `true` is true, anything else false, with a warning.
pub(super) fn otel_boolean(r: &mut Reader<'_>, name: &'static str, text: &str) -> bool {
    let is_true = text.eq_ignore_ascii_case("true");
    if !is_true && !text.eq_ignore_ascii_case("false") {
        r.warn(format!("{name} = {text:?} counts as false: only true is true"));
    }
    is_true
}

fn enabled(r: &mut Reader<'_>) -> bool {
    let disabled = r.var("OTEL_SDK_DISABLED");
    let disabled = disabled.is_some_and(|text| otel_boolean(r, "OTEL_SDK_DISABLED", text));
    let enabled = r.boolean("tracingEnabled");
    enabled && (!disabled || is_own(r, "tracingEnabled"))
}

fn service_name(r: &mut Reader<'_>) -> String {
    let configured = r.text("tracingServiceName").unwrap_or_default();
    if is_own(r, "tracingServiceName") {
        return configured;
    }
    let attributes = r.var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let attribute = attributes.split(',').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name.trim() == "service.name").then(|| unescaped(value.trim()))
    });
    r.var("OTEL_SERVICE_NAME").map(str::to_owned).or(attribute).unwrap_or(configured)
}

fn timeout(r: &mut Reader<'_>) -> Option<Duration> {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
    let (name, text) = first(r, &names)?;
    match text.trim().parse() {
        Ok(millis @ 1..=600_000) => Some(Duration::from_millis(millis)),
        _ => {
            r.var_problem(name, false, "must be a whole number of milliseconds, 1 to 600000");
            None
        }
    }
}

/// Checks the SDK's own numbers; the length of its queue.
fn queue(r: &mut Reader<'_>) -> usize {
    for name in NUMBERS {
        let number = r.var(name).map(|text| text.trim().parse::<u32>());
        if number.is_some_and(|number| !number.is_ok_and(|number| number > 0)) {
            r.var_problem(name, false, "must be a whole number above 0");
        }
    }
    let queue = r.var(NUMBERS[0]).and_then(|text| text.trim().parse().ok());
    queue.unwrap_or(QUEUE)
}

fn sampler(r: &mut Reader<'_>) -> Sampler {
    let configured = Sampler { parent_based: true, ratio: r.ratio("tracingSampleRatio") };
    let name = "OTEL_TRACES_SAMPLER";
    let Some(text) = r.var(name).map(str::trim) else { return configured };
    let (parent_based, root) = match text.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, text),
    };
    let ratio = match root {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => sampler_argument(r),
        _ => {
            let roots = ["always_on", "always_off", "traceidratio"];
            let rule = format!("must be one of {0}, or parentbased_ before one", roots.join(", "));
            r.var_problem(name, false, rule);
            return configured;
        }
    };
    match is_own(r, "tracingSampleRatio") {
        true => configured,
        false => Sampler { parent_based, ratio },
    }
}

fn sampler_argument(r: &mut Reader<'_>) -> f64 {
    let name = "OTEL_TRACES_SAMPLER_ARG";
    let Some(text) = r.var(name) else { return 1.0 };
    let ratio = text.trim().parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.unwrap_or_else(|| {
        r.var_problem(name, false, "must be a number, 0 to 1");
        1.0
    })
}

/// Whether trace context passes through, and baggage.
fn propagators(r: &mut Reader<'_>) -> (bool, bool) {
    let name = "OTEL_PROPAGATORS";
    let Some(text) = r.var(name) else { return (true, true) };
    let (mut context, mut baggage) = (false, false);
    for propagator in split(text) {
        match propagator.as_str() {
            "tracecontext" => context = true,
            "baggage" => baggage = true,
            "none" => return (false, false),
            other if OTHER_PROPAGATORS.contains(&other) => {
                r.warn(format!("{name}: codeq does not speak {other}; it has no effect"));
            }
            other => {
                let rule = one_of(other, ["tracecontext", "baggage", "none"].into_iter());
                r.var_problem(name, false, rule);
            }
        }
    }
    (context, baggage)
}
