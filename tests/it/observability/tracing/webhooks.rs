//! Deliveries: a span for each attempt, below what it tells of.

use serde_json::json;

use super::{INCOMING, parent, text, traced, traced_with, within};
use crate::support::{Receiver, Redis, Reply};

const QUICK: [(&str, &str); 2] =
    [("RESULT_WEBHOOK_BASE_BACKOFF_SECONDS", "1"), ("RESULT_WEBHOOK_MAX_BACKOFF_SECONDS", "1")];

#[tokio::test]
async fn t8_t9_t19_each_attempt_is_a_client_span_below_the_step_that_ended_the_task() {
    let redis = Redis::start().await;
    let (node, collector) = traced_with(&redis, &QUICK).await;
    let receiver = Receiver::start().await;
    let mut left = 2;
    receiver.answers_by(move |_| {
        left -= 1;
        if left >= 0 { Reply::Status(500) } else { Reply::OK }
    });
    let task = json!({"command": "m", "payload": 1, "webhook": receiver.url()});
    let create = within(node.producer().create(task), INCOMING).header("tracestate", "v=1");
    let created = create.header("baggage", "who=me").await.json_of(202);
    let claimed = node.worker().claimed("m").await;
    node.worker().complete(text(&created, "id")).lease(&claimed["leaseToken"]).await.json_of(200);
    let submit = collector.first("codeq.task.submit_result").await;
    let requests = receiver.until_count(3).await;
    let calls = collector.count("codeq.webhook.task_result", 3).await;
    let port: u16 = receiver.origin().rsplit(':').next().unwrap().parse().unwrap();
    for (at, call) in calls.iter().enumerate() {
        let failed = at < 2;
        assert_eq!((call.kind, &*call.scope), ("CLIENT", "codeq/result_callback"));
        assert!(call.is_below(&submit) && call.links.is_empty(), "{call:?}");
        let mut expected = json!({
            "codeq.command": "m", "codeq.webhook.kind": "task_result",
            "codeq.webhook.host": "127.0.0.1", "codeq.webhook.attempt": at + 1,
            "http.request.method": "POST", "http.request.resend_count": at,
            "http.response.status_code": if failed { 500 } else { 200 },
            "server.address": "127.0.0.1", "server.port": port,
        });
        if failed {
            expected["error.type"] = json!("http_5xx");
        }
        assert_eq!(json!(call.attributes), expected);
        assert_eq!((call.is_error, call.is_unset), (failed, !failed));
        assert_eq!(requests[at].header("traceparent"), Some(&*call.traceparent()));
        assert_eq!(requests[at].header("tracestate"), Some("v=1"));
        assert_eq!(requests[at].header("baggage"), Some("who=me"));
    }
    assert_eq!(parent(&node.producer().task(text(&created, "id")).await), submit.traceparent());

    let before = receiver.connections();
    for _ in 0..3 {
        let id = node.producer().created_with_webhook("m", &receiver.url()).await;
        let claimed = node.worker().claimed("m").await;
        let count = receiver.count();
        node.worker().complete(&id).lease(&claimed["leaseToken"]).await.json_of(200);
        receiver.until_count(count + 1).await;
    }
    assert!(receiver.connections() <= before + 1, "successes in a row share a connection");
}

#[tokio::test]
async fn t8_a_replayed_delivery_is_linked_to_the_request_that_asked_for_it() {
    let redis = Redis::start().await;
    let (node, collector) = traced(&redis).await;
    let receiver = Receiver::start().await;
    let id = node.producer().created_with_webhook("m", &receiver.url()).await;
    let claimed = node.worker().claimed("m").await;
    node.worker().complete(&id).lease(&claimed["leaseToken"]).await.json_of(200);
    let delivered = receiver.until_count(1).await;
    let submit = collector.first("codeq.task.submit_result").await;
    let again = crate::support::eventually("it may be sent again", async || {
        let answer = node.admin().replay_webhook(delivered[0].webhook_id()).await;
        (answer.status < 300).then_some(answer)
    })
    .await;
    receiver.until_count(2).await;
    let calls = collector.count("codeq.webhook.task_result", 2).await;
    let request = collector.of_traceparent(&super::server(&again)).await;
    assert!(calls[1].is_below(&submit), "{:?}", calls[1]);
    assert!(calls[1].is_linked_to(&request), "{:?}", calls[1]);
}

#[tokio::test]
async fn t8_a_subscriber_is_told_below_the_task_that_made_the_queue_ready() {
    let redis = Redis::start().await;
    let (node, collector) = traced(&redis).await;
    let receiver = Receiver::start().await;
    let subscription = json!({
        "callbackUrl": receiver.url(), "eventTypes": ["m"], "deliveryMode": "group",
        "groupId": "blue",
    });
    let made = node.worker().post("/workers/subscriptions", subscription).await.json_of(200);
    let task = json!({"command": "m", "payload": 1});
    let created = within(node.producer().create(task), INCOMING).await.json_of(202);
    let told = receiver.until_count(1).await;
    let call = collector.first("codeq.webhook.queue_ready").await;
    let create = collector.of_traceparent(parent(&created)).await;
    assert_eq!((call.kind, &*call.scope), ("CLIENT", "codeq/notifier"));
    assert!(call.is_below(&create) && call.is_unset, "{call:?}");
    let expected = json!({
        "codeq.command": "m", "codeq.webhook.kind": "queue_ready",
        "codeq.webhook.host": "127.0.0.1", "codeq.subscription.id": made["subscriptionId"],
        "codeq.subscription.mode": "group", "http.response.status_code": 200,
    });
    assert_eq!(json!(call.attributes), expected);
    assert_eq!(told[0].header("traceparent"), Some(&*call.traceparent()));
}
