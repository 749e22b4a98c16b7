//! Against a collector that takes what the exporter really sends, over gRPC and over HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response};
use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message;

use super::*;
use crate::telemetry::log::{Format, Identity, LogLevels, Sink};
use crate::telemetry::start::build;
use crate::telemetry::{Metrics, Options as TelemetryOptions, Telemetry};

type Received = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

/// A collector in this process: gRPC and HTTP/protobuf on one port.
struct Collector {
    address: std::net::SocketAddr,
    received: Received,
}

impl Collector {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Received::default();
        let router = axum::Router::new().fallback(export).with_state(received.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { address, received }
    }

    fn spans(&self) -> HashMap<String, Span> {
        let received = self.received.lock().unwrap();
        let scopes = received.iter().flat_map(|request| &request.resource_spans);
        let spans = scopes.flat_map(|resource| &resource.scope_spans).flat_map(|of| &of.spans);
        spans.map(|span| (span.name.clone(), span.clone())).collect()
    }

    fn resource(&self) -> HashMap<String, String> {
        let received = self.received.lock().unwrap();
        let resource = received[0].resource_spans[0].resource.clone().unwrap();
        attributes(&resource.attributes)
    }
}

async fn export(State(received): State<Received>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let grpc = head.headers["content-type"].as_bytes().starts_with(b"application/grpc");
    let mut bytes = body.collect().await.unwrap().to_bytes();
    if grpc {
        // One message: a flag, its length, itself.
        assert_eq!(head.uri.path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        bytes.advance(5);
    } else {
        assert_eq!(head.uri.path(), "/v1/traces");
    }
    received.lock().unwrap().push(ExportTraceServiceRequest::decode(bytes).unwrap());
    if !grpc {
        return Response::new(Body::empty());
    }
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)];
    let frames = futures_util::stream::iter(frames.map(Ok::<_, std::convert::Infallible>));
    let answer = Response::builder().header("content-type", "application/grpc");
    answer.body(Body::new(StreamBody::new(frames))).unwrap()
}

fn attributes(all: &[opentelemetry_proto::tonic::common::v1::KeyValue]) -> HashMap<String, String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value::*;
    let text = |value: &opentelemetry_proto::tonic::common::v1::AnyValue| match &value.value {
        Some(StringValue(text)) => text.clone(),
        Some(IntValue(number)) => number.to_string(),
        Some(BoolValue(yes)) => yes.to_string(),
        other => format!("{other:?}"),
    };
    all.iter().filter_map(|kv| Some((kv.key.clone(), text(kv.value.as_ref()?)))).collect()
}

/// `ON` is one per process: the tests that turn tracing on take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn node(tracing: Options) -> (impl tracing::Subscriber + Send + Sync, Telemetry, Metrics) {
    let metrics = Metrics::new();
    let sink = Sink::start(std::io::sink(), metrics.log_lines_dropped.clone(), metrics.waits());
    let options = TelemetryOptions {
        identity: Identity { env: "test".into(), instance: "node-1".into() },
        format: Format::Json,
        levels: LogLevels::new("error", "").unwrap(),
        task_sample_ratio: 1.0,
        tracing,
    };
    let (subscriber, telemetry) = build(options, &metrics, sink).unwrap();
    (subscriber, telemetry, metrics)
}

fn to(address: std::net::SocketAddr, protocol: Protocol) -> Options {
    let path = if protocol == Protocol::Grpc { "" } else { "/v1/traces" };
    let url = format!("http://{address}{path}");
    Options { enabled: true, exporter: Exporter::Otlp { url, protocol }, ..Options::default() }
}

const INCOMING: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn ids(traceparent: &str) -> (String, String) {
    let parts: Vec<&str> = traceparent.split('-').collect();
    assert_eq!((traceparent.len(), parts.len(), parts[0]), (55, 4, "00"), "{traceparent}");
    (parts[1].to_owned(), parts[2].to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn a_tasks_life_is_one_trace(protocol: Protocol) {
    let _turn = TURN.lock().await;
    let collector = Collector::start().await;
    let (subscriber, telemetry, metrics) = node(to(collector.address, protocol));
    let guard = tracing::subscriber::set_default(subscriber);

    let request = Server::open("POST", "/tasks", Some(INCOMING), Some("vendor=1"));
    let created = request.around(async {
        let mut step = Step::Create.below_current();
        step.set("codeq.command", "Gen.X").set("codeq.priority", 3_i64);
        assert_eq!(step.tracestate().as_deref(), Some("vendor=1"));
        step.traceparent().unwrap()
    });
    let created = created.await;
    request.answered(202);
    let request_traceparent = request.traceparent().unwrap();
    drop(request);

    let claim = Server::open("POST", "/tasks/claim", None, None);
    let drawn = draw_span_id().unwrap();
    let claimed = claim.around(async {
        tracing::info!(target: "h2", "an event of the exporter's own kind");
        Step::Claim.below_task(Some(&created), None, Some(drawn), None).traceparent().unwrap()
    });
    let claimed = claimed.await;
    claim.answered(503);
    drop(claim);
    Step::Nack.below_task(Some("not a traceparent"), None, None, None).refused("not_owner");
    drop(tracing::info_span!(target: "h2", "connection").entered());

    drop(guard);
    telemetry.shutdown().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 5, "{:?}", spans.keys());

    let (trace_id, create_id) = ids(&created);
    assert_eq!(trace_id, ids(INCOMING).0);
    let server = &spans["POST /tasks"];
    assert_eq!(server.kind(), SpanKind::Server);
    assert_eq!(hex(&server.parent_span_id), ids(INCOMING).1);
    assert_eq!(hex(&server.span_id), ids(&request_traceparent).1);
    assert_eq!(attributes(&server.attributes)["http.response.status_code"], "202");
    assert!(server.events.is_empty(), "log lines are no span events");

    let create = &spans["codeq.task.create"];
    assert_eq!(create.kind(), SpanKind::Producer);
    assert_eq!((&create.parent_span_id, hex(&create.span_id)), (&server.span_id, create_id));
    let expected = [("codeq.command", "Gen.X"), ("codeq.priority", "3")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(attributes(&create.attributes), HashMap::from(expected));

    let claim = &spans["codeq.task.claim"];
    assert_eq!(claim.kind(), SpanKind::Consumer);
    assert_eq!(hex(&claim.trace_id), trace_id);
    assert_eq!(claim.parent_span_id, create.span_id);
    assert_eq!(hex(&claim.span_id), drawn.to_string(), "the id was drawn first");
    assert_eq!(ids(&claimed).1, drawn.to_string());
    assert_eq!(claim.links[0].span_id, spans["POST /tasks/claim"].span_id);
    let failed = spans["POST /tasks/claim"].status.clone().unwrap();
    assert_eq!(failed.code(), opentelemetry_proto::tonic::trace::v1::status::StatusCode::Error);

    let nack = &spans["codeq.task.nack"];
    assert!(nack.parent_span_id.is_empty(), "without a usable context a span is a root");
    assert_eq!(attributes(&nack.attributes)["codeq.outcome"], "not_owner");

    let resource = collector.resource();
    assert_eq!(resource["service.name"], "codeq");
    assert_eq!(resource["service.instance.id"], "node-1");
    assert_eq!(resource["deployment.environment.name"], "test");
    assert!(resource.contains_key("telemetry.sdk.version"), "{resource:?}");
    let exported = metrics.otel_exports.with(crate::telemetry::metrics::Export::Success).get();
    assert!(exported > 0);
}

// One worker is what a node on one CPU has: nothing may wait for a second one.
#[tokio::test(flavor = "current_thread")]
async fn a_tasks_life_reaches_a_grpc_collector_as_one_trace() {
    a_tasks_life_is_one_trace(Protocol::Grpc).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_tasks_life_reaches_an_http_collector_as_one_trace() {
    a_tasks_life_is_one_trace(Protocol::HttpProtobuf).await;
}

#[tokio::test]
async fn an_upstream_decision_wins_both_ways() {
    let _turn = TURN.lock().await;
    let collector = Collector::start().await;
    let unsampled = INCOMING.replace("-01", "-00");
    for (ratio, incoming) in [(0.0, INCOMING), (1.0, &*unsampled)] {
        let sampling = Sampling { parent_based: true, ratio };
        let options = Options { sampling, ..to(collector.address, Protocol::Grpc) };
        let (subscriber, telemetry, _) = node(options);
        let guard = tracing::subscriber::set_default(subscriber);
        let step = Step::Claim.below_task(Some(incoming), None, None, None);
        assert!(step.traceparent().unwrap().ends_with(&incoming[52..]), "the flag is passed on");
        if ratio == 0.0 {
            let root = Step::Cancel.below_task(None, None, None, None).traceparent().unwrap();
            assert!(root.ends_with("-00"), "{root}");
        }
        drop((step, guard));
        telemetry.shutdown().await;
    }
    assert_eq!(collector.spans().into_keys().collect::<Vec<_>>(), ["codeq.task.claim"]);
    assert_eq!(collector.received.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn t24_the_ratio_rolls_for_roots_only_and_keeps_that_share() {
    let _turn = TURN.lock().await;
    let sampling = Sampling { parent_based: true, ratio: 0.1 };
    let (_subscriber, telemetry, _) =
        node(Options { enabled: true, sampling, ..Options::default() });
    let root = |_: &u32| Step::Cancel.below_task(None, None, None, None).is_recording();
    let kept = (0..5000).filter(root).count();
    assert!((400..=600).contains(&kept), "{kept}");
    let child = |_: &u32| Step::Cancel.below_task(Some(INCOMING), None, None, None).is_recording();
    assert_eq!((0..500).filter(child).count(), 500);
    telemetry.shutdown().await;
}

#[tokio::test]
async fn a_lost_collector_costs_nothing_but_a_count() {
    let _turn = TURN.lock().await;
    let dead = "127.0.0.1:1".parse().unwrap();
    let (subscriber, telemetry, metrics) = node(to(dead, Protocol::Grpc));
    let exporting = telemetry.exporting.clone();
    let guard = tracing::subscriber::set_default(subscriber);
    drop(Step::Claim.below_task(None, None, None, None));
    drop(guard);
    let stopping = tokio::time::timeout(Duration::from_secs(7), telemetry.shutdown());
    assert!(stopping.await.is_ok(), "a dead collector must not hold up the stop");
    assert!(exporting.is_failing());
    assert_eq!(metrics.otel_exports.with(crate::telemetry::metrics::Export::Failure).get(), 1);
}

#[tokio::test]
async fn a_wrong_endpoint_is_told_at_the_start() {
    let _turn = TURN.lock().await;
    let exporter = Exporter::Otlp { url: "http://[not a url".into(), protocol: Protocol::Grpc };
    let options = Options { enabled: true, exporter, ..Options::default() };
    let started = Pipeline::start(&options, &Identity::default(), &Metrics::new());
    assert!(matches!(started, Err(CannotExport::Exporter(_))));
}

#[tokio::test]
async fn with_tracing_off_there_are_no_spans_and_nothing_to_store() {
    let _turn = TURN.lock().await;
    let (subscriber, _telemetry, _) = node(Options::default());
    let _guard = tracing::subscriber::set_default(subscriber);
    assert!(!is_on());
    let request = Server::open("POST", "/tasks", Some(INCOMING), None);
    let step = request.around(async { Step::Create.below_current() }).await;
    assert_eq!((request.traceparent(), step.traceparent(), draw_span_id()), (None, None, None));
    let mut sent = http::HeaderMap::new();
    CallSpan::open(Call::TaskResult, Some(INCOMING), Some("a=1"), None).inject(None, &mut sent);
    assert_eq!(sent["traceparent"], INCOMING, "what is stored passes through");
    assert_eq!(sent["tracestate"], "a=1");
}

#[tokio::test]
async fn what_finds_no_room_in_the_queue_is_counted() {
    let _turn = TURN.lock().await;
    let dead = "127.0.0.1:1".parse().unwrap();
    let (subscriber, telemetry, metrics) = node(Options { queue: 4, ..to(dead, Protocol::Grpc) });
    let guard = tracing::subscriber::set_default(subscriber);
    for _ in 0..10 {
        drop(Step::Claim.below_task(None, None, None, None));
    }
    assert_eq!(metrics.otel_spans_dropped.get(), 6);
    drop(guard);
    telemetry.shutdown().await;
}

#[test]
fn many_spans_of_one_call_have_ids_of_their_own() {
    let id = SpanId::from_hex("00f067aa0ba902b7").unwrap();
    assert_eq!(nth_span_id(id, 1).to_string(), "00f067aa0ba90001");
    assert_eq!(nth_span_id(id, 100).to_string(), "00f067aa0ba90064");
}
