//! A collector of spans in the test's process: OTLP over gRPC and over HTTP on one port.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response};
use bytes::{Buf as _, Bytes};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{self as otlp, span::SpanKind, status::StatusCode};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Settings, eventually};

/// Listens on a loopback port of its own. Away when dropped.
pub struct Collector {
    address: SocketAddr,
    received: Received,
    server: JoinHandle<()>,
}

type Received = Arc<Mutex<Exports>>;

#[derive(Default)]
struct Exports {
    spans: Vec<Span>,
    headers: Vec<HeaderMap>,
    bytes: Vec<Bytes>,
}

/// A span, in words.
#[derive(Clone, Debug)]
pub struct Span {
    pub scope: String,
    pub name: String,
    /// `SERVER`, `CLIENT`, …
    pub kind: &'static str,
    pub trace_id: String,
    pub id: String,
    /// Of the parent, "" for a root.
    pub parent: String,
    pub state: String,
    /// Trace and span of each link.
    pub links: Vec<(String, String)>,
    /// Attributes with their type kept: a JSON string, number or boolean.
    pub attributes: BTreeMap<String, Value>,
    pub events: Vec<String>,
    pub is_error: bool,
    pub is_unset: bool,
    pub start_ns: u64,
    pub end_ns: u64,
    pub resource: BTreeMap<String, Value>,
}

impl Span {
    /// `00-<trace>-<span>-01`
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace_id, self.id)
    }

    /// An attribute, `null` when it is not there.
    pub fn at(&self, key: &str) -> Value {
        self.attributes.get(key).cloned().unwrap_or(Value::Null)
    }

    /// Whether it is linked to that span.
    pub fn is_linked_to(&self, other: &Span) -> bool {
        self.links.contains(&(other.trace_id.clone(), other.id.clone()))
    }

    /// Whether that span is its parent.
    pub fn is_below(&self, other: &Span) -> bool {
        self.trace_id == other.trace_id && self.parent == other.id
    }

    pub fn took_ms(&self) -> u64 {
        (self.end_ns - self.start_ns) / 1_000_000
    }

    fn of(scope: &str, resource: &[KeyValue], span: &otlp::Span) -> Self {
        let status = span.status.as_ref().map_or(StatusCode::Unset, otlp::Status::code);
        let kind = match span.kind() {
            SpanKind::Server => "SERVER",
            SpanKind::Client => "CLIENT",
            SpanKind::Producer => "PRODUCER",
            SpanKind::Consumer => "CONSUMER",
            SpanKind::Internal => "INTERNAL",
            SpanKind::Unspecified => "UNSPECIFIED",
        };
        Self {
            scope: scope.to_owned(),
            name: span.name.clone(),
            kind,
            trace_id: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            state: span.trace_state.clone(),
            links: span.links.iter().map(|l| (hex(&l.trace_id), hex(&l.span_id))).collect(),
            attributes: values(&span.attributes),
            events: span.events.iter().map(|event| event.name.clone()).collect(),
            is_error: status == StatusCode::Error,
            is_unset: status == StatusCode::Unset,
            start_ns: span.start_time_unix_nano,
            end_ns: span.end_time_unix_nano,
            resource: values(resource),
        }
    }
}

impl Collector {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Received::default();
        let router = axum::Router::new().fallback(export).with_state(received.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, received, server }
    }

    /// `http://127.0.0.1:1234`
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A node that exports to it over gRPC, soon after each span.
    pub fn of(&self, settings: Settings) -> Settings {
        settings
            .set("TRACING_ENABLED", "true")
            .set("TRACING_OTLP_ENDPOINT", &self.origin())
            .set("OTEL_BSP_SCHEDULE_DELAY", "50")
    }

    /// What came so far.
    pub fn spans(&self) -> Vec<Span> {
        self.received.lock().unwrap().spans.clone()
    }

    /// Those of this name that came so far.
    pub fn named(&self, name: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.name == name).collect()
    }

    /// The headers of each export.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.received.lock().unwrap().headers.clone()
    }

    /// Whether these bytes came in any export.
    pub fn saw(&self, marker: &str) -> bool {
        let received = self.received.lock().unwrap();
        received
            .bytes
            .iter()
            .any(|bytes| bytes.windows(marker.len()).any(|window| window == marker.as_bytes()))
    }

    /// Waits for the first span that is such.
    pub async fn span(&self, what: &str, such: impl Fn(&Span) -> bool) -> Span {
        eventually(what, || {
            let found = self.spans().into_iter().find(&such);
            async move { found }
        })
        .await
    }

    /// Waits for the first span of this name.
    pub async fn first(&self, name: &str) -> Span {
        self.span(name, |span| span.name == name).await
    }

    /// Waits for the span whose `traceparent` this is.
    pub async fn of_traceparent(&self, traceparent: &str) -> Span {
        self.span(traceparent, |span| span.traceparent() == traceparent).await
    }

    /// Waits until so many of this name have come; these.
    pub async fn count(&self, name: &str, count: usize) -> Vec<Span> {
        eventually(&format!("{count} spans {name}"), || {
            let found = Some(self.named(name)).filter(|found| found.len() >= count);
            async move { found }
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn export(State(received): State<Received>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let kind = head.headers["content-type"].to_str().unwrap().to_owned();
    let mut bytes = body.collect().await.unwrap().to_bytes();
    let grpc = kind.starts_with("application/grpc");
    let encoding = if grpc { "grpc-encoding" } else { "content-encoding" };
    let mut zipped = head.headers.get(encoding).is_some_and(|encoding| encoding == "gzip");
    if grpc {
        // One message: whether it is compressed, its length, itself.
        assert_eq!(head.uri.path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        zipped &= bytes[0] == 1;
        bytes.advance(5);
    } else {
        assert_eq!(head.uri.path(), "/v1/traces");
    }
    if zipped {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        bytes = plain.into();
    }
    let mut all = received.lock().unwrap();
    if kind.starts_with("application/json") {
        all.spans.extend(of_json(&serde_json::from_slice(&bytes).unwrap()));
    } else {
        let exported = ExportTraceServiceRequest::decode(bytes.clone()).unwrap();
        for of in &exported.resource_spans {
            let resource = of.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
            for scoped in &of.scope_spans {
                let scope = scoped.scope.as_ref().map_or("", |scope| &scope.name);
                all.spans.extend(scoped.spans.iter().map(|span| Span::of(scope, resource, span)));
            }
        }
    }
    all.headers.push(head.headers);
    all.bytes.push(bytes);
    drop(all);
    if !grpc {
        return Response::new(Body::empty());
    }
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)];
    let frames = futures_util::stream::iter(frames.map(Ok::<_, std::convert::Infallible>));
    let answer = Response::builder().header("content-type", "application/grpc");
    answer.body(Body::new(StreamBody::new(frames))).unwrap()
}

/// What a worker in another language sends: names and linkage only.
fn of_json(export: &Value) -> Vec<Span> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut spans = Vec::new();
    for of in list(&export["resourceSpans"]) {
        for scoped in list(&of["scopeSpans"]) {
            for span in list(&scoped["spans"]) {
                spans.push(Span {
                    scope: text(&scoped["scope"]["name"]),
                    name: text(&span["name"]),
                    kind: if span["kind"] == 5 { "CONSUMER" } else { "INTERNAL" },
                    trace_id: text(&span["traceId"]),
                    id: text(&span["spanId"]),
                    parent: text(&span["parentSpanId"]),
                    state: String::new(),
                    links: Vec::new(),
                    attributes: BTreeMap::new(),
                    events: Vec::new(),
                    is_error: span["status"]["code"] == 2,
                    is_unset: span["status"]["code"].is_null(),
                    start_ns: text(&span["startTimeUnixNano"]).parse().unwrap(),
                    end_ns: text(&span["endTimeUnixNano"]).parse().unwrap(),
                    resource: BTreeMap::new(),
                });
            }
        }
    }
    spans
}

fn values(attributes: &[KeyValue]) -> BTreeMap<String, Value> {
    let value = |value: &Option<AnyValue>| match value.as_ref().and_then(|v| v.value.clone()) {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::IntValue(number)) => json!(number),
        Some(any_value::Value::BoolValue(yes)) => json!(yes),
        other => json!(format!("{other:?}")),
    };
    attributes.iter().map(|kv| (kv.key.clone(), value(&kv.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
