//! What a producer may send, and what it gets.

use serde_json::json;

use crate::support::{Node, Redis, seen};

#[tokio::test]
async fn a_task_is_answered_with_all_its_fields_in_order() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let full = json!({
        "command": "Send Mail/Grüße", "payload": {"to": "a@b", "n": 1.50},
        "priority": 7, "webhook": "http://receiver.test/hook", "maxAttempts": 3,
    });
    let created = node.producer().create(full).await;
    seen(|| {
        insta::assert_snapshot!(created.shown(), @r#"
    202 {"id":"<id>",
    "command":"Send Mail/Grüße",
    "payload":"{\"n\":1.5,\"to\":\"a@b\"}",
    "priority":7,
    "webhook":"http://receiver.test/hook",
    "status":"PENDING",
    "lastKnownLocation":"PENDING_LIST",
    "maxAttempts":3,
    "tenantId":"acme",
    "createdAt":"<time>",
    "updatedAt":"<time>"}
    "#)
    });
    let least = node.producer().create(json!({"command": "m", "payload": 0})).await;
    seen(|| {
        insta::assert_snapshot!(least.shown(), @r#"
    202 {"id":"<id>",
    "command":"m",
    "payload":"0",
    "status":"PENDING",
    "lastKnownLocation":"PENDING_LIST",
    "maxAttempts":5,
    "tenantId":"acme",
    "createdAt":"<time>",
    "updatedAt":"<time>"}
    "#)
    });
}
