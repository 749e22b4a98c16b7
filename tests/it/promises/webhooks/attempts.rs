//! What stays the same from attempt to attempt, and what is new in each.

use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

use codeq::model::delivery::State;
use codeq::model::record::Terminal;
use serde_json::json;

use super::{Place, SECRET, completed, delivery, hooked, until_delivery, until_state};
use crate::support::receiver::Request;
use crate::support::{Keys, Node, Receiver, Redis, Reply};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A task that carries a trace context is completed; its id.
async fn traced(node: &Node, receiver: &Receiver, verdict: serde_json::Value) -> String {
    let task = json!({"command": "m", "payload": 1, "webhook": receiver.url()});
    let created = node
        .producer()
        .create(task)
        .header("traceparent", &format!("00-{TRACE}-b7ad6b7169203331-01"))
        .header("tracestate", "vendor=1,other=2")
        .header("baggage", "who=me,what=this;property")
        .await;
    let id = super::super::text(&created.json_of(202), "id");
    node.worker().claimed("m").await;
    node.worker().submit(&id, verdict).await.json_of(200);
    id
}

fn done() -> serde_json::Value {
    json!({"status": "COMPLETED", "result": {"n": 1}})
}

/// Fails so often, then accepts.
fn failing(times: usize) -> impl FnMut(&Request) -> Reply + Send + 'static {
    let mut left = times;
    move |_| {
        let fails = left > 0;
        left = left.saturating_sub(1);
        if fails { Reply::Status(503) } else { Reply::OK }
    }
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.header(name).unwrap_or_else(|| panic!("no {name}"))
}

#[tokio::test]
async fn every_attempt_has_the_same_id_and_body_and_its_own_number_time_and_signatures() {
    let redis = Redis::start().await;
    let node = hooked(&redis).start().await;
    let receiver = Receiver::start().await;
    receiver.answers_by(failing(2));
    let id = completed(&node, "m", &receiver).await;
    let requests = receiver.until_count(3).await;
    let mut signatures = BTreeSet::new();
    for (n, request) in (1..).zip(&requests) {
        assert_eq!(request.webhook_id(), format!("{id}_1"));
        assert_eq!(request.body, requests[0].body);
        assert_eq!(request.attempt(), n);
        request.verify(&Keys::of(SECRET)).unwrap();
        let stamp = header(request, "x-codeq-timestamp");
        assert_eq!(header(request, "webhook-timestamp"), stamp);
        let arrived = request.time.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = arrived - stamp.parse::<f64>().unwrap();
        assert!((-1.0..=3.0).contains(&age), "attempt {n} is {age} s old");
        signatures.insert((stamp, header(request, "x-codeq-signature").to_owned()));
    }
    // Two attempts may share a second, the first and the last do not.
    assert_ne!(requests[0].header("x-codeq-timestamp"), requests[2].header("x-codeq-timestamp"));
    let stamps: BTreeSet<_> = signatures.iter().map(|(stamp, _)| *stamp).collect();
    assert_eq!(stamps.len(), signatures.len());

    let told = until_state(&redis, &id, 1, State::Delivered).await;
    let statuses: Vec<_> = told.log.iter().map(|entry| entry.status).collect();
    assert_eq!((told.attempts, statuses), (3, vec![Some(503), Some(503), Some(200)]));
    // A receiver of loopback may be an internal service: what it says is nobody's business.
    assert!(told.log.iter().all(|entry| entry.excerpt.is_empty()));
}

#[tokio::test]
async fn a_tasks_trace_context_goes_to_its_receiver_with_tracing_off() {
    let redis = Redis::start().await;
    let node = hooked(&redis).start().await;
    let receiver = Receiver::start().await;
    receiver.answers_by(failing(1));
    let id = traced(&node, &receiver, done()).await;
    for request in receiver.until_count(2).await {
        assert_eq!(header(&request, "traceparent"), format!("00-{TRACE}-b7ad6b7169203331-01"));
        assert_eq!(header(&request, "tracestate"), "vendor=1,other=2");
        assert_eq!(header(&request, "baggage"), "who=me,what=this;property");
    }
    let told = until_state(&redis, &id, 1, State::Delivered).await;
    let traces = told.log.iter().map(|entry| entry.trace_id.map(u128::from_be_bytes));
    let trace = u128::from_str_radix(TRACE, 16).ok();
    assert_eq!(traces.collect::<Vec<_>>(), [trace, trace]);
    // Without a context there is none to pass on.
    let bare = completed(&node, "bare", &receiver).await;
    receiver.until_count(3).await;
    let request = receiver.deliveries().remove(&format!("{bare}_1")).unwrap().remove(0);
    for name in ["traceparent", "tracestate", "baggage"] {
        assert_eq!(request.header(name), None);
    }
}

#[tokio::test]
async fn each_attempt_is_a_span_of_the_tasks_trace() {
    let redis = Redis::start().await;
    let settings = hooked(&redis).set("TRACING_ENABLED", "true");
    let node = settings.set("OTEL_TRACES_EXPORTER", "none").start().await;
    let receiver = Receiver::start().await;
    receiver.answers_by(failing(1));
    traced(&node, &receiver, done()).await;
    let mut spans = BTreeSet::from(["b7ad6b7169203331".to_owned()]);
    for request in receiver.until_count(2).await {
        let traceparent = header(&request, "traceparent");
        assert_eq!(&traceparent[..36], format!("00-{TRACE}-"));
        assert!(spans.insert(traceparent[36..52].to_owned()), "the span is not its own");
        assert_eq!(header(&request, "tracestate"), "vendor=1,other=2");
        assert_eq!(header(&request, "baggage"), "who=me,what=this;property");
    }
}

#[tokio::test]
async fn a_delivery_is_below_the_step_that_ended_its_task() {
    let redis = Redis::start().await;
    let mut receiver = Receiver::start().await;
    receiver.leave().await;
    let settings = hooked(&redis).set("TRACING_ENABLED", "true");
    let mut node = settings.set("OTEL_TRACES_EXPORTER", "none").start().await;
    // The record is longer than what a claim brings along.
    let mut verdict = done();
    verdict["artifacts"] = (0..5)
        .map(|n| json!({"name": format!("{n}"), "url": format!("http://x/{}", "y".repeat(2000))}))
        .collect();
    let id = traced(&node, &receiver, verdict).await;
    until_delivery(&redis, &id, 1, |of| of.attempts > 0).await;
    node.kill();
    let place = Place::of(&id, 1);
    let ended: Vec<u8> =
        redis.command(&format!("GET {}:c:{}", place.root, &place.short[..22])).await;
    assert!(ended.len() > 8192);
    let step = Terminal::read(&ended.into()).unwrap().trace_parent.unwrap();
    assert!(step.contains(TRACE) && !step.contains("b7ad6b7169203331"), "{step}");
    // A node that makes no spans shows what the span would be below.
    receiver.come_back().await;
    let _other = hooked(&redis).start().await;
    let request = receiver.until_count(1).await.remove(0);
    assert_eq!(header(&request, "traceparent"), step);
    assert_eq!(request.json()["artifacts"].as_array().unwrap().len(), 5);
    until_state(&redis, &id, 1, State::Delivered).await;
    assert!(delivery(&redis, &id, 1).await.unwrap().attempts >= 2);
}
