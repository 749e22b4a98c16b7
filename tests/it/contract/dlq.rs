//! Dead tasks: they come back, or go for good.

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::{Node, Redis};

/// Tasks that died, oldest death first.
async fn dead(node: &Node, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        let task = json!({"command": "m", "payload": n, "maxAttempts": 1, "idempotencyKey": format!("k{n}")});
        let id = node.producer().created_as(task).await;
        node.worker().claimed("m").await;
        node.worker().nack(&id, json!({"reason": "smtp"})).await.json_of(200);
        ids.push(id);
    }
    ids
}

fn requeue(node: &Node, body: Value) -> crate::support::Call {
    node.admin().post("/admin/queues/M/dlq/requeue", body)
}

#[tokio::test]
async fn requeued_tasks_start_again_in_the_order_of_their_death() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let ids = dead(&node, 5).await;
    assert_eq!(requeue(&node, json!({"limit": 2})).await.text(), r#"{"requeued":2}"#);
    assert_eq!(node.admin().counts("m").await, [2, 0, 0, 3]);
    assert_shown!(node.producer().read(&ids[0]).await, @r#"
    200 {"id":"<id>",
    "command":"m",
    "payload":"0",
    "status":"PENDING",
    "lastKnownLocation":"PENDING_LIST",
    "maxAttempts":1,
    "tenantId":"acme",
    "createdAt":"<time>",
    "updatedAt":"<time>"}
    "#);
    assert_eq!(
        node.producer().result(&ids[0]).await.refusal(),
        "404 result_not_found result not found"
    );
    let all = node.admin().bare_post("/admin/queues/m/dlq/requeue").await;
    assert_eq!(all.text(), r#"{"requeued":3}"#, "an empty body is all");
    for id in &ids {
        let claimed = node.worker().claimed("m").await;
        assert_eq!((&claimed["id"], &claimed["attempts"]), (&json!(id), &json!(1)));
    }
    let again = json!({"command": "m", "payload": 0, "idempotencyKey": "k0"});
    assert_eq!(
        node.producer().create(again).await.json_of(202)["id"],
        ids[0].as_str(),
        "the key stays"
    );
    node.worker().complete(&ids[0]).await.json_of(200);
    assert_eq!(node.producer().task(&ids[0]).await["error"], Value::Null);
}

#[tokio::test]
async fn named_tasks_are_requeued_and_unknown_ones_skipped() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let ids = dead(&node, 3).await;
    let alive = node.producer().created("other").await["id"].clone();
    let named =
        json!({"ids": [ids[1], ids[1], "nonsense", "019b0000-0000-7000-8000-000000000000", alive]});
    assert_eq!(requeue(&node, named).await.text(), r#"{"requeued":1}"#);
    assert_eq!(requeue(&node, json!({"ids": []})).await.text(), r#"{"requeued":0}"#);
    assert_eq!(node.admin().counts("m").await, [1, 0, 0, 2]);
    let many: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    for bad in [
        json!({"ids": many}),
        json!({"limit": 0}),
        json!({"limit": -1}),
        json!({"limit": 1.5}),
        json!({"ids": "x"}),
        json!([]),
    ] {
        assert_eq!(requeue(&node, bad).await.refusal(), "400 invalid_body invalid body");
    }
    assert_eq!(
        node.token("globex-admin")
            .post("/admin/queues/m/dlq/requeue", json!({"ids": ids}))
            .await
            .text(),
        r#"{"requeued":0}"#
    );
}

#[tokio::test]
async fn purged_tasks_are_gone_with_result_and_key() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let ids = dead(&node, 3).await;
    let purge = |body: Value| node.admin().post("/admin/queues/m/dlq/purge", body);
    assert_eq!(purge(json!({"ids": [ids[1]]})).await.text(), r#"{"purged":1}"#);
    assert_eq!(node.producer().read(&ids[1]).await.refusal(), "404 not_found not found");
    assert_eq!(node.producer().result(&ids[1]).await.refusal(), "404 not_found task not found");
    let fresh =
        node.producer().create(json!({"command": "m", "payload": 1, "idempotencyKey": "k1"})).await;
    assert!(!fresh.is_replayed(), "its key is free");
    assert_eq!(purge(json!({})).await.text(), r#"{"purged":2}"#);
    assert_eq!(node.admin().counts("m").await, [1, 0, 0, 0]);
    let id = fresh.json()["id"].as_str().unwrap().to_owned();
    node.worker().claimed("m").await;
    node.worker().complete(&id).await.json_of(200);
    let left: Vec<String> = redis
        .keys()
        .await
        .into_iter()
        .filter(|key| ids.iter().any(|id| key.contains(id.as_str())))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}
