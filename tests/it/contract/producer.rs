//! What a producer may send, and what it gets.

use serde_json::{Value, json};

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
    seen(|| insta::assert_snapshot!(created.shown(), @""));
    let least = node.producer().create(json!({"command": "m", "payload": 0})).await;
    seen(|| insta::assert_snapshot!(least.shown(), @""));
}
