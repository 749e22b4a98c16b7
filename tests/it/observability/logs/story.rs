//! What the lines of one task tell.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use prost::Message as _;
use serde_json::{Value, json};

use super::{events, is_of, lines_of};
use crate::support::{Node, Receiver, Redis, Reply, Settings};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Trace and span id of every span that came, as a `traceparent` writes them.
fn spans(collector: &Receiver) -> Vec<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let requests = collector.requests();
    let batches =
        requests.iter().map(|it| ExportTraceServiceRequest::decode(&it.body[..]).unwrap());
    let scopes = batches.flat_map(|it| it.resource_spans).flat_map(|it| it.scope_spans);
    scopes
        .flat_map(|it| it.spans)
        .map(|span| format!("{}-{}", hex(&span.trace_id), hex(&span.span_id)))
        .collect()
}

/// The `service.instance.id` of everything that came.
fn instances(collector: &Receiver) -> BTreeSet<String> {
    let requests = collector.requests();
    let batches =
        requests.iter().map(|it| ExportTraceServiceRequest::decode(&it.body[..]).unwrap());
    let resources = batches.flat_map(|it| it.resource_spans).filter_map(|it| it.resource);
    resources
        .flat_map(|it| it.attributes)
        .filter(|attribute| attribute.key == "service.instance.id")
        .filter_map(|attribute| attribute.value?.value)
        .map(|value| match value {
            any_value::Value::StringValue(text) => text,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// A node whose spans go to this collector.
fn traced(redis: &Redis, collector: &Receiver) -> Settings {
    Settings::on(redis)
        .set("TRACING_ENABLED", "true")
        .set("TRACING_OTLP_ENDPOINT", &collector.origin())
        .set("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .set("BACKOFF_POLICY", "fixed")
        .set("BACKOFF_BASE_SECONDS", "1")
}

/// Creates a task with a webhook, fails it once, keeps it once, completes it; its id.
async fn lived_through(node: &Node, receiver: &Receiver) -> String {
    let id = node
        .producer()
        .create(json!({"command": "story", "payload": {}, "webhook": receiver.url()}))
        .header("traceparent", PARENT)
        .header("X-Request-Id", "r-create")
        .await
        .json_of(202)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let worker = node.worker();
    worker.claim("story").header("X-Request-Id", "r-claim").await.json_of(200);
    worker
        .nack(&id, json!({"reason": "disk full"}))
        .header("X-Request-Id", "r-nack")
        .await
        .json_of(200);
    let again = json!({"commands": ["story"], "waitSeconds": 10});
    worker.claim_as(again).header("X-Request-Id", "r-claim-again").await.json_of(200);
    worker.heartbeat(&id).header("X-Request-Id", "r-heartbeat").await.json_of(200);
    worker.complete(&id).header("X-Request-Id", "r-complete").await.json_of(200);
    receiver.until_count(1).await;
    node.line(|line| line["event"] == "webhook.delivered").await;
    id
}

const STORY: [&str; 6] = [
    "task.created",
    "task.claimed",
    "task.requeued",
    "task.claimed",
    "task.completed",
    "webhook.delivered",
];

#[tokio::test]
async fn l2_l6_l7_l14_each_step_of_a_task_is_one_line_that_leads_to_its_span() {
    let redis = Redis::start().await;
    let (collector, receiver) = (Receiver::start().await, Receiver::start().await);
    let node = traced(&redis, &collector).start().await;
    let id = lived_through(&node, &receiver).await;

    let lines = lines_of(&node, |line| is_of(line, &id));
    assert_eq!(events(&lines), STORY, "at INFO, in order, each once: {lines:#?}");
    let requests: Vec<_> = lines.iter().map(|line| line["request_id"].clone()).collect();
    assert_eq!(
        requests,
        [
            json!("r-create"),
            json!("r-claim"),
            json!("r-nack"),
            json!("r-claim-again"),
            json!("r-complete"),
            json!(null)
        ]
    );
    for (line, fields) in lines.iter().zip([
        &["producer_id", "priority", "max_attempts"][..],
        &["worker_id", "attempt", "max_attempts", "queue_wait_ms"],
        &["worker_id", "attempt", "max_attempts", "reason", "delay_ms", "will_retry"],
        &["worker_id", "attempt", "max_attempts", "queue_wait_ms"],
        &["worker_id", "attempt", "status", "duration_ms", "total_duration_ms"],
        &["duration_ms", "webhook", "http"],
    ]) {
        for field in fields.iter().chain(&["command", "tenant_id"]) {
            assert!(line["context"].get(field).is_some(), "{field} is not in {line}");
        }
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["trace_id"], PARENT[3..35], "one trace for a life: {line}");
    }
    node.stop().await;
    let spans = spans(&collector);
    let ids: Vec<_> = lines.iter().map(|line| line["traceparent"].as_str().unwrap()).collect();
    for (line, parent) in lines.iter().zip(&ids) {
        assert!(spans.iter().any(|span| *span == parent[3..52]), "no such span: {line}");
    }
    let named = instances(&collector).into_iter().collect::<Vec<_>>();
    assert_eq!(json!(named), json!([lines[0]["instance"]]), "l14: spans and lines name one node");
    let different: BTreeSet<_> = ids.iter().collect();
    assert_eq!(different.len(), ids.len(), "each step has a span of its own");
}

#[tokio::test]
async fn l2_l12_without_spans_lines_carry_the_trace_that_passes_through() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let settings = Settings::on(&redis)
        .set("LOG_LEVEL", "trace")
        .set("BACKOFF_POLICY", "fixed")
        .set("BACKOFF_BASE_SECONDS", "1");
    let node = settings.start().await;
    let id = lived_through(&node, &receiver).await;

    let lines = lines_of(&node, |line| is_of(line, &id));
    for line in &lines {
        let is_of_a_request = line["event"] == "http.answered";
        assert!(line["traceparent"] == PARENT || is_of_a_request, "{line}");
    }
    let of_steps: Vec<_> = lines.iter().filter(|line| line["level"] == "INFO").cloned().collect();
    assert_eq!(events(&of_steps), STORY);
    let kept = lines.iter().filter(|line| line["event"] == "heartbeat").collect::<Vec<_>>();
    assert_eq!((kept.len(), &kept[0]["level"]), (1, &json!("DEBUG")));
    for (request, has_task) in [("r-create", false), ("r-nack", true), ("r-complete", true)] {
        let of_request = lines_of(&node, |line| line["request_id"] == request);
        assert!(of_request.iter().any(|line| line["event"] == "http.answered"), "{of_request:#?}");
        let rest = of_request.iter().filter(|line| line["event"] != "http.answered");
        assert!(rest.clone().count() > 0);
        assert!(rest.clone().all(|line| !has_task || is_of(line, &id)), "{of_request:#?}");
    }
}

#[tokio::test]
async fn l4_l8_m35_what_fails_says_how_often_and_whether_it_is_tried_again() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let node = Settings::on(&redis)
        .set("RESULT_WEBHOOK_MAX_ATTEMPTS", "2")
        .set("RESULT_WEBHOOK_BASE_BACKOFF_SECONDS", "1")
        .set("RESULT_WEBHOOK_MAX_BACKOFF_SECONDS", "1")
        .start()
        .await;
    receiver.answers(Reply::Status(500));
    let (producer, worker) = (node.producer(), node.worker());
    let warned = node.scrape().await.value("codeq_log_lines_total{level=\"warn\"}");

    let told = producer.created_with_webhook("told", &receiver.url()).await;
    worker.claimed("told").await;
    worker.complete(&told).await.json_of(200);
    let dead =
        producer.created_as(json!({"command": "dead", "payload": 1, "maxAttempts": 1})).await;
    worker.claimed("dead").await;
    worker.nack(&dead, json!({"reason": "no such file"})).await.json_of(200);
    let failed = producer.created_as(json!({"command": "failed", "payload": 1})).await;
    worker.claimed("failed").await;
    worker.fail(&failed, "a verdict").await.json_of(200);

    let last = node.line(|line| line["event"] == "webhook.failed").await;
    let callbacks = lines_of(&node, |line| line["message"] == "result callback failed");
    let of = |line: &Value| {
        let context = &line["context"];
        json!([
            line["level"],
            context["webhook"]["attempt"],
            context["max_attempts"],
            context["will_retry"],
            line["error"]["type"]
        ])
    };
    assert_eq!(
        callbacks.iter().map(of).collect::<Vec<_>>(),
        [json!(["WARN", 1, 2, true, "http_5xx"]), json!(["ERROR", 2, 2, false, "http_5xx"])],
        "{last}"
    );
    let buried = node.line(|line| line["event"] == "task.dead_lettered").await;
    assert_eq!(buried["level"], "WARN");
    assert_eq!(buried["error"], json!({"type": "nack", "message": "no such file"}));
    for (field, value) in
        [("attempt", json!(1)), ("max_attempts", json!(1)), ("will_retry", json!(false))]
    {
        assert_eq!(buried["context"][field], value);
    }
    let verdict = node.line(|line| line["event"] == "task.failed").await;
    assert_eq!(
        (&verdict["context"]["will_retry"], &verdict["error"]),
        (&json!(false), &json!({"type": "worker"}))
    );

    let warnings = lines_of(&node, |line| line["level"] == "WARN").len() as f64;
    let counted = node.scrape().await;
    assert_eq!(counted.value("codeq_log_lines_total{level=\"warn\"}"), warnings);
    assert!(warnings >= warned + 2.0, "the callback and the burial");
    assert_eq!(counted.value("codeq_log_lines_total{level=\"error\"}"), 1.0);
}

#[tokio::test]
async fn l5_a_thousand_tasks_are_told_in_a_handful_of_sentences() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("MAX_CLAIM_BATCH", "100")]).await;
    let (producer, worker) = (node.producer(), node.worker());
    let task = json!({"command": "many", "payload": {"n": 1}});
    for _ in 0..10 {
        producer.post("/tasks/batch", json!({"tasks": vec![&task; 100]})).await.json_of(200);
        let claimed = worker
            .post("/tasks/claim/batch", json!({"commands": ["many"], "count": 100}))
            .await
            .json_of(200);
        let done = claimed["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| json!({"taskId": task["id"], "status": "COMPLETED", "result": {}}));
        let done: Vec<_> = done.collect();
        worker.post("/tasks/batch/results", json!({"results": done})).await.json_of(200);
    }
    let is_done = |line: &Value| line["event"] == "task.completed";
    let all = || async { (lines_of(&node, is_done).len() == 1000).then_some(()) };
    crate::support::eventually("a line for each", all).await;
    let lines = lines_of(&node, |_| true);
    let sentences: BTreeSet<_> =
        lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    for known in ["task created", "task claimed", "task completed"] {
        assert!(sentences.contains(known));
    }
    assert!(sentences.len() < 12, "{sentences:#?}");
}
