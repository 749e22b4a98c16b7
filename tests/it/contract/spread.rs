//! A command that is spread over several partitions behaves as any other.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Node, Redis, Settings, eventually};

async fn spread(redis: &Redis) -> Node {
    Settings::on(redis).file(redis, "spread:\n  Wide: 4\n").start().await
}

async fn create(node: &Node, more: Value) -> Value {
    let mut task = json!({"command": "wide", "payload": 1});
    task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    node.producer().create(task).await.json_of(202)
}

#[tokio::test]
async fn every_task_of_a_spread_command_is_found_once_by_every_kind_of_claim() {
    let redis = Redis::start().await;
    let node = spread(&redis).await;
    let mut created = BTreeSet::new();
    for _ in 0..60 {
        created.insert(create(&node, json!({})).await["id"].as_str().unwrap().to_owned());
    }
    let lists = redis.keys().await.into_iter().filter(|key| key.contains(":r:")).count();
    assert_eq!(lists, 4, "sixty tasks lie on all four");
    assert_eq!(node.admin().counts("wide").await, [60, 0, 0, 0]);
    let mut claimed = BTreeSet::new();
    loop {
        let body = match claimed.len() % 3 {
            0 => json!({"count": 1, "commands": ["WIDE"]}),
            1 => json!({"count": 3, "commands": ["other", "wide"]}),
            _ => json!({"count": 2}),
        };
        let answer = node.worker().post("/tasks/claim/batch", body).await;
        if answer.status == 204 {
            break;
        }
        for task in answer.json()["tasks"].as_array().unwrap() {
            assert!(claimed.insert(task["id"].as_str().unwrap().to_owned()), "delivered twice");
        }
    }
    assert_eq!(claimed, created);
    assert_eq!(node.admin().counts("wide").await, [0, 0, 60, 0]);
}

#[tokio::test]
async fn a_waiting_claim_of_a_spread_command_wakes_wherever_the_task_lands() {
    let redis = Redis::start().await;
    let (here, there) = (spread(&redis).await, spread(&redis).await);
    for _ in 0..8 {
        let body = json!({"commands": ["wide"], "waitSeconds": 30});
        let claim = tokio::spawn(here.worker().claim_as(body).into_future());
        eventually("it waits", async || {
            let waiters = here.scrape().await.value("codeq_waiters{kind=\"claim\"}");
            (waiters == 1.0).then_some(())
        })
        .await;
        let created = create(&there, json!({})).await;
        assert_eq!(claim.await.unwrap().json_of(200)["id"], created["id"]);
    }
    let polls = here.scrape().await.value("codeq_wakeups_total{kind=\"claim\",source=\"poll\"}");
    assert!(polls <= 2.0, "{polls} of eight by poll");
}

#[tokio::test]
async fn keys_pages_pause_and_dead_letters_of_a_spread_command_are_those_of_one_queue() {
    let redis = Redis::start().await;
    let node = spread(&redis).await;
    for n in 0..12 {
        let key = format!("k{n}");
        let first = create(&node, json!({"idempotencyKey": key, "maxAttempts": 1})).await;
        let again = create(&node, json!({"idempotencyKey": key})).await;
        assert_eq!(first["id"], again["id"]);
    }
    let admin = node.admin();
    let mut listed = BTreeSet::new();
    let mut path = "/admin/queues/wide/tasks?state=ready&limit=5".to_owned();
    loop {
        let page = admin.get(&path).await.json_of(200);
        listed.extend(page["items"].as_array().unwrap().iter().map(|task| task["id"].to_string()));
        match page["nextCursor"].as_str() {
            Some(cursor) => {
                path = format!("/admin/queues/wide/tasks?state=ready&limit=5&cursor={cursor}");
            }
            None => break,
        }
    }
    assert_eq!(listed.len(), 12);
    admin.bare_post("/admin/queues/wide/pause").await.json_of(200);
    assert_eq!(node.worker().claim("wide").await.status, 204);
    assert_eq!(node.worker().claim_as(json!({})).await.status, 204);
    admin.bare_post("/admin/queues/wide/resume").await.json_of(200);
    for _ in 0..12 {
        let task = node.worker().claimed("wide").await;
        node.worker().nack(task["id"].as_str().unwrap(), json!({})).await.json_of(200);
    }
    assert_eq!(admin.counts("wide").await, [0, 0, 0, 12]);
    let some = admin.post("/admin/queues/wide/dlq/requeue", json!({"limit": 5})).await;
    assert_eq!(some.text(), r#"{"requeued":5}"#, "the limit is for the whole queue");
    assert_eq!(
        admin.post("/admin/queues/wide/dlq/purge", json!({})).await.text(),
        r#"{"purged":7}"#
    );
    assert_eq!(admin.counts("wide").await, [5, 0, 0, 0]);
    assert_eq!(admin.get("/admin/queues").await.json_of(200).as_array().unwrap().len(), 1);
}
