//! What time does to tasks.

use serde_json::json;

use super::{INCOMING, parent, text, traced_with, within};
use crate::support::{Collector, Node, Receiver, Redis, Span, eventually};

const QUICK: [(&str, &str); 2] = [("BACKOFF_POLICY", "fixed"), ("BACKOFF_BASE_SECONDS", "1")];

#[tokio::test]
async fn t6_t9_a_lease_that_runs_out_goes_on_with_the_trace_and_leads_to_its_sweep() {
    let redis = Redis::start().await;
    let (node, collector) = traced_with(&redis, &QUICK).await;
    let receiver = Receiver::start().await;
    let task = json!({
        "command": "m", "payload": 1, "maxAttempts": 2, "webhook": receiver.url(),
    });
    let created = within(node.producer().create(task), INCOMING).await.json_of(202);
    let id = text(&created, "id");
    let claim =
        || node.worker().claim_as(json!({"commands": ["m"], "leaseSeconds": 1, "waitSeconds": 15}));
    let claimed = claim().await.json_of(200);
    let requeue = collector.first("codeq.task.requeue").await;
    is_swept(&collector, &requeue, parent(&claimed), id, 1).await;
    let again = claim().await.json_of(200);
    let claims = collector.count("codeq.task.claim", 2).await;
    assert!(claims[1].is_below(&requeue), "{:?}", claims[1]);
    let dead = collector.first("codeq.task.dead_letter").await;
    is_swept(&collector, &dead, parent(&again), id, 2).await;
    let told = receiver.until_count(1).await;
    let call = collector.first("codeq.webhook.task_result").await;
    assert!(call.is_below(&dead), "the webhook hangs below what ended the task: {call:?}");
    assert_eq!(told[0].header("traceparent"), Some(&*call.traceparent()));
    assert_eq!(parent(&node.producer().task(id).await), dead.traceparent());
    let moved: i64 = collector
        .named("codeq.sweep")
        .iter()
        .map(|sweep| sweep.at("codeq.moved.lease").as_i64().unwrap_or_default())
        .sum();
    assert_eq!(moved, 2);
}

async fn is_swept(collector: &Collector, span: &Span, above: &str, id: &str, attempt: i64) {
    assert_eq!((span.kind, &*span.scope), ("INTERNAL", "codeq/sweeper"));
    assert_eq!(span.traceparent()[..35], above[..35]);
    assert_eq!(span.parent, above[36..52]);
    let expected = json!({
        "codeq.task_id": id, "codeq.command": "m", "codeq.tenant_id": "acme",
        "codeq.reason": "lease_expired", "codeq.attempt": attempt,
    });
    assert_eq!(json!(span.attributes), expected);
    let sweep = collector.span("its sweep", |sweep| span.is_linked_to(sweep)).await;
    assert_eq!((&*sweep.name, sweep.kind, &*sweep.parent), ("codeq.sweep", "INTERNAL", ""));
}

#[tokio::test]
async fn t16_t17_what_happens_to_a_task_without_a_trace_begins_one() {
    let redis = Redis::start().await;
    let plain = Node::on(&redis).await;
    let task = json!({"command": "m", "payload": 1, "maxAttempts": 1});
    for _ in 0..2 {
        plain.producer().created_as(task.clone()).await;
    }
    plain.worker().claim_as(json!({"commands": ["m"], "leaseSeconds": 1})).await.json_of(200);
    plain.stop().await;
    let (node, collector) = traced_with(&redis, &QUICK).await;
    let dead = collector.first("codeq.task.dead_letter").await;
    assert_eq!((&*dead.parent, dead.kind), ("", "INTERNAL"), "a root");
    node.worker().claimed("m").await;
    let claim = collector.first("codeq.task.claim").await;
    assert_eq!((&*claim.parent, claim.kind), ("", "CONSUMER"), "a root");
    eventually("the dead letter is there", async || {
        (node.admin().counts("m").await[3] == 1).then_some(())
    })
    .await;
}
