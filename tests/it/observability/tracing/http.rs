//! The span of a request.

use std::time::Duration;

use serde_json::json;

use super::{INCOMING, server, traced, traced_with, within};
use crate::support::client::plain;
use crate::support::{Answer, Collector, Redis, Span, eventually};

async fn span_of(collector: &Collector, answer: &Answer) -> Span {
    collector.of_traceparent(&server(answer)).await
}

#[tokio::test]
async fn t13_t14_every_status_has_its_server_span_and_only_ours_are_errors() {
    let mut redis = Redis::start().await;
    let limits = [
        ("RATE_LIMIT_ADMIN_REQUESTS_PER_MINUTE", "1"),
        ("RATE_LIMIT_ADMIN_BURST_SIZE", "1"),
        ("REDIS_COMMAND_TIMEOUT_MS", "300"),
    ];
    let (node, collector) = traced_with(&redis, &limits).await;
    let producer = node.producer();
    let id = producer.created("held").await["id"].as_str().unwrap().to_owned();
    node.worker().claimed("held").await;
    let cleanup = || node.admin().post("/admin/tasks/cleanup", json!({}));
    cleanup().await;
    let broken = producer.created("broken").await["id"].as_str().unwrap().to_owned();
    let mut table = vec![
        (producer.read(&id).await, 200, "GET /v1/codeq/tasks/{id}"),
        (producer.create(json!({"command": "m", "payload": 1})).await, 202, "POST /v1/codeq/tasks"),
        (node.worker().claim("nothing").await, 204, "POST /v1/codeq/tasks/claim"),
        (producer.create(json!({"command": ""})).await, 400, "POST /v1/codeq/tasks"),
        (node.anyone().read(&id).await, 401, "GET /v1/codeq/tasks/{id}"),
        (producer.result(&id).await, 404, "GET /v1/codeq/tasks/{id}/result"),
        (node.anyone().get("//no/such/path").await, 404, "GET _unmatched"),
        (
            producer.bare_post(&format!("/tasks/{id}/cancel")).await,
            409,
            "POST /v1/codeq/tasks/{id}/cancel",
        ),
        (cleanup().await, 429, "POST /v1/codeq/admin/tasks/cleanup"),
    ];
    damage(&redis).await;
    table.push((producer.read(&broken).await, 500, "GET /v1/codeq/tasks/{id}"));
    redis.kill();
    let away = eventually("the node notices", async || {
        let answer = producer.read(&id).await;
        (answer.status == 503).then_some(answer)
    });
    table.push((away.await, 503, "GET /v1/codeq/tasks/{id}"));
    for (answer, status, name) in table {
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        let span = span_of(&collector, &answer).await;
        assert_eq!((&*span.name, span.kind), (name, "SERVER"));
        assert_eq!(span.at("http.response.status_code"), status);
        let (method, route) = name.split_once(' ').unwrap();
        assert_eq!(span.at("http.request.method"), method);
        assert_eq!((span.at("http.route"), span.at("url.path")), (json!(route), json!(route)));
        assert_eq!(span.is_error, status >= 500, "{name} {status}");
        assert_eq!(span.is_unset, status < 500, "{name} {status}");
        let class = if status >= 500 { json!(status.to_string()) } else { json!(null) };
        assert_eq!(span.at("error.type"), class);
        assert_eq!(span.at("network.protocol.version"), "1.1");
    }
    let probes = collector.spans().iter().any(|span| span.name.contains("ready"));
    assert!(!probes, "probes are not traced");
}

/// Makes the records of tasks what no script can read.
async fn damage(redis: &Redis) {
    for key in redis.keys().await.iter().filter(|key| key.contains(":b:")) {
        let _: i64 = redis.command(&format!("DEL {key}")).await;
        let _: i64 = redis.command(&format!("RPUSH {key} broken")).await;
    }
}

#[tokio::test]
async fn t13_the_answer_names_the_server_span_below_the_caller() {
    let redis = Redis::start().await;
    let (node, collector) = traced(&redis).await;
    let answer = within(node.producer().get("/tasks/x"), INCOMING).await;
    let span = span_of(&collector, &answer).await;
    assert_eq!(span.trace_id, INCOMING[3..35]);
    assert_eq!(span.parent, INCOMING[36..52]);
    let made = node.producer().get("/tasks/x").await;
    let span = span_of(&collector, &made).await;
    assert_eq!(span.parent, "", "without a caller's it is a root");
    assert_eq!(span.at("codeq.request_id"), made.header("x-request-id").unwrap());
    let given = node.producer().get("/tasks/x").header("x-request-id", "mine").await;
    let span = span_of(&collector, &given).await;
    assert_eq!(span.at("codeq.request_id"), json!(null), "a caller's id is on no span");
}

#[tokio::test]
async fn t15_a_long_poll_over_http2_is_cancelled_through_all_layers() {
    let redis = Redis::start().await;
    let (node, collector) = traced(&redis).await;
    let h2 = node.worker().over(plain().http2_prior_knowledge());
    let waiting = h2.claim_as(json!({"commands": ["m"], "waitSeconds": 30})).sent();
    let waiters = "codeq_waiters{kind=\"claim\"}";
    let cancelled = tokio::spawn(waiting);
    eventually("the claim waits", async || {
        (node.scrape().await.value(waiters) == 1.0).then_some(())
    })
    .await;
    cancelled.abort();
    eventually("nobody waits", async || (node.scrape().await.value(waiters) == 0.0).then_some(()))
        .await;
    let name = "POST /v1/codeq/tasks/claim";
    let span = collector.first(name).await;
    assert!(span.is_unset, "a caller that goes away is no error");
    assert_eq!(span.at("http.response.status_code"), json!(null));
    assert_eq!(span.at("network.protocol.version"), "2");

    let waiting = h2.claim_as(json!({"commands": ["m"], "waitSeconds": 30})).sent();
    let waiting = tokio::spawn(waiting);
    eventually("the claim waits", async || {
        (node.scrape().await.value(waiters) == 1.0).then_some(())
    })
    .await;
    node.producer().created("m").await;
    let answer = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    let answer = answer.unwrap().unwrap().unwrap();
    assert_eq!((answer.status, answer.version), (200, reqwest::Version::HTTP_2));
    let span = span_of(&collector, &answer).await;
    assert_eq!(span.at("http.response.status_code"), 200);
}
