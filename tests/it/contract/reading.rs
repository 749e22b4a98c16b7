//! Reads: a task, its result, with either kind of token.

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::{Node, Redis};

#[tokio::test]
async fn a_task_reads_as_what_it_is_in_every_state() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let task =
        node.producer().created_as(json!({"command": "m", "payload": 1, "maxAttempts": 2})).await;
    let read = || node.producer().read(&task);
    assert_shown!(read().await, @r#"
    200 {"id":"<id>",
    "command":"m",
    "payload":"1",
    "status":"PENDING",
    "lastKnownLocation":"PENDING_LIST",
    "maxAttempts":2,
    "tenantId":"acme",
    "createdAt":"<time>",
    "updatedAt":"<time>"}
    "#);
    node.worker().claimed("m").await;
    assert_shown!(read().await, @r#"
    200 {"id":"<id>",
    "command":"m",
    "payload":"1",
    "status":"IN_PROGRESS",
    "lastKnownLocation":"INPROG_SET",
    "workerId":"worker",
    "leaseUntil":"<time>",
    "attempts":1,
    "maxAttempts":2,
    "tenantId":"acme",
    "createdAt":"<time>",
    "updatedAt":"<time>"}
    "#);
    node.worker().nack(&task, json!({"delaySeconds": 1, "reason": "later"})).await.json_of(200);
    assert_shown!(read().await, @r#"
    200 {"id":"<id>",
    "command":"m",
    "payload":"1",
    "status":"PENDING",
    "lastKnownLocation":"DELAYED_ZSET",
    "attempts":1,
    "maxAttempts":2,
    "tenantId":"acme",
    "createdAt":"<time>",
    "updatedAt":"<time>",
    "visibleAt":"<time>"}
    "#);
    node.worker().claim_as(json!({"waitSeconds": 20})).await.json_of(200);
    node.worker().nack(&task, json!({"reason": "never"})).await.json_of(200);
    assert_shown!(read().await, @r#"
    200 {"id":"<id>",
    "command":"m",
    "payload":"1",
    "status":"FAILED",
    "lastKnownLocation":"DLQ_SET",
    "attempts":2,
    "maxAttempts":2,
    "error":"never",
    "tenantId":"acme",
    "createdAt":"<time>",
    "updatedAt":"<time>",
    "completedAt":"<time>"}
    "#);
}

#[tokio::test]
async fn producers_and_workers_may_read() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let id = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    for token in
        ["producer", "producer-2", "admin", "worker", "worker-2", "mail-worker", "claim-only"]
    {
        assert_eq!(node.token(token).read(&id).await.status, 200, "{token}");
        assert_eq!(node.token(token).result(&id).await.status, 404, "{token}");
        assert_eq!(node.token(token).timeline(&id).await.status, 200, "{token}");
    }
    for (token, refused) in [
        ("nobody", "401 unauthorized invalid token"),
        ("no-tenant", "403 invalid_tenant invalid tenant claims"),
    ] {
        assert_eq!(node.token(token).read(&id).await.refusal(), refused, "{token}");
    }
    assert_eq!(
        node.anyone().read(&id).await.refusal(),
        "401 unauthorized missing Authorization header"
    );
}

#[tokio::test]
async fn a_result_that_is_not_there_is_told_from_a_task_that_is_not_there() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let task = node.producer().created("m").await;
    let id = task["id"].as_str().unwrap();
    assert_shown!(node.producer().result(id).await, @r#"
    404 {"error":"result not found",
    "code":"result_not_found",
    "requestId":"<request>"}
    "#);
    for query in ["waitSeconds=0", "waitSeconds=-5", "unknown=1", ""] {
        let path = format!("/tasks/{id}/result?{query}");
        assert_eq!(
            node.producer().get(&path).await.refusal(),
            "404 result_not_found result not found",
            "{query}"
        );
    }
    for query in ["waitSeconds=x", "waitSeconds=1.5", "waitSeconds=", "waitSeconds=1&waitSeconds=2"]
    {
        let path = format!("/tasks/{id}/result?{query}");
        assert_eq!(
            node.producer().get(&path).await.refusal(),
            "400 invalid_body invalid body",
            "{query}"
        );
    }
    assert_ne!(task["tenantId"], Value::Null);
}
