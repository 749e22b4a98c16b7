//! How long things are kept after their end.

use serde_json::{Value, json};

use crate::support::{Node, Redis, eventually};

/// Names of keys that belong to a task, with seconds to live; -1 lives for ever.
async fn ttls(redis: &Redis) -> Vec<(String, i64)> {
    let mut found = Vec::new();
    for key in redis.keys().await {
        let kind = key.split(':').nth(2).unwrap_or_default();
        if ["b", "c", "s", "i", "h"].contains(&kind) {
            let ttl: i64 = redis.command(&format!("TTL {key}")).await;
            found.push((kind.to_owned(), ttl));
        }
    }
    found.sort();
    found
}

fn kinds(found: &[(String, i64)]) -> Vec<&str> {
    found.iter().map(|(kind, _)| kind.as_str()).collect()
}

#[tokio::test]
async fn a_task_is_kept_without_end_while_it_lives_and_for_its_retention_after() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("TASK_RETENTION_SECONDS", "600")]).await;
    let task = json!({"command": "m", "payload": 1, "idempotencyKey": "k"});
    let id = node.producer().created_as(task).await;
    node.worker().claimed("m").await;
    let found = ttls(&redis).await;
    assert_eq!(kinds(&found), ["b", "i"]);
    assert!(found.iter().all(|(_, ttl)| *ttl == -1), "{found:?}");
    let large = json!({"status": "COMPLETED", "result": {"x": "y".repeat(9000)}});
    node.worker().submit(&id, large).await.json_of(200);
    let found = ttls(&redis).await;
    assert_eq!(kinds(&found), ["b", "c", "i", "s"]);
    assert!(found.iter().all(|(_, ttl)| (590..=605).contains(ttl)), "{found:?}");
}

#[tokio::test]
async fn a_dead_task_is_kept_for_its_own_time_and_one_that_comes_back_without_end() {
    let redis = Redis::start().await;
    let node =
        Node::with(&redis, &[("TASK_RETENTION_SECONDS", "600"), ("DLQ_RETENTION_SECONDS", "6000")])
            .await;
    let task = json!({"command": "m", "payload": 1, "idempotencyKey": "k", "maxAttempts": 1});
    let id = node.producer().created_as(task).await;
    node.worker().claimed("m").await;
    node.worker().nack(&id, json!({})).await.json_of(200);
    let found = ttls(&redis).await;
    assert_eq!(kinds(&found), ["b", "c", "h", "i"]);
    assert!(found.iter().all(|(_, ttl)| (5990..=6005).contains(ttl)), "{found:?}");
    node.admin().bare_post("/admin/queues/m/dlq/requeue").await.json_of(200);
    let found = ttls(&redis).await;
    assert!(found.iter().all(|(_, ttl)| *ttl == -1), "{found:?}");
}

#[tokio::test]
async fn a_task_whose_time_is_over_is_not_found_and_its_key_is_free() {
    let redis = Redis::start().await;
    let node =
        Node::with(&redis, &[("TASK_RETENTION_SECONDS", "1"), ("DLQ_RETENTION_SECONDS", "1")])
            .await;
    for dies in [false, true] {
        let task = json!({"command": "m", "payload": 1, "idempotencyKey": "k", "maxAttempts": 1});
        let id = node.producer().created_as(task.clone()).await;
        node.worker().claimed("m").await;
        match dies {
            true => node.worker().nack(&id, json!({})).await.json_of(200),
            false => node.worker().complete(&id).await.json_of(200),
        };
        eventually("the task is gone", async || {
            (node.producer().read(&id).await.status == 404).then_some(())
        })
        .await;
        assert_eq!(node.producer().result(&id).await.refusal(), "404 not_found task not found");
        assert_eq!(node.producer().timeline(&id).await.status, 404);
        eventually("the queues are empty", async || {
            (node.admin().counts("m").await == [0, 0, 0, 0]).then_some(())
        })
        .await;
        let fresh = node.producer().create(task).await;
        assert!(!fresh.is_replayed());
        let fresh = fresh.json_of(202)["id"].as_str().unwrap().to_owned();
        node.admin().delete(&format!("/admin/tasks/{fresh}")).await.json_of(200);
        eventually("that one is gone too", async || {
            (node.producer().read(&fresh).await.status == 404).then_some(())
        })
        .await;
    }
    let listed = node.admin().get("/admin/queues/m/tasks?state=dlq").await.json_of(200);
    assert_eq!(listed["items"], Value::from(Vec::<Value>::new()));
}

#[tokio::test]
async fn the_policy_of_a_queue_says_how_long_its_tasks_are_kept() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("TASK_RETENTION_SECONDS", "600")]).await;
    let policy = json!({"retentionSeconds": 7200});
    assert_eq!(node.admin().put("/admin/topics/m", policy).await.status, 201);
    let id = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    node.worker().claimed("m").await;
    node.worker().complete(&id).await.json_of(200);
    let found = ttls(&redis).await;
    assert!(found.iter().all(|(_, ttl)| (7190..=7205).contains(ttl)), "{found:?}");
}
