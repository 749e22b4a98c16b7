//! Rate limits: one bucket for each tenant and subject.

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::{Node, Redis};

fn limited(scope: &str, per_minute: &str, burst: &str) -> Vec<(String, String)> {
    vec![
        (format!("RATE_LIMIT_{scope}_REQUESTS_PER_MINUTE"), per_minute.to_owned()),
        (format!("RATE_LIMIT_{scope}_BURST_SIZE"), burst.to_owned()),
    ]
}

async fn node(redis: &Redis, scope: &str, per_minute: &str, burst: &str) -> Node {
    let variables = limited(scope, per_minute, burst);
    let variables: Vec<_> = variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    Node::with(redis, &variables).await
}

#[tokio::test]
async fn a_producer_whose_bucket_is_empty_hears_when_to_come_back() {
    let redis = Redis::start().await;
    let node = node(&redis, "PRODUCER", "1", "3").await;
    for _ in 0..3 {
        node.producer().created("m").await;
    }
    let refused = node.producer().create(json!({"command": "m", "payload": 1})).await;
    assert_shown!(refused, @r#"
    429 {"error":"rate limit exceeded",
    "code":"rate_limited",
    "requestId":"<request>",
    "scope":"producer",
    "operation":"create_task",
    "retryAfterSeconds":<minute>}
    "#);
    let seconds = refused.json()["retryAfterSeconds"].to_string();
    assert_eq!(refused.header("Retry-After"), Some(seconds.as_str()));
    let hits = "codeq_rate_limit_hits_total{operation=\"create_task\",scope=\"producer\"}";
    assert_eq!(node.scrape().await.value(hits), 1.0);
    assert_eq!(node.admin().counts("m").await[0], 3, "a refused create does nothing");

    let refreshed =
        node.token("producer-refreshed").create(json!({"command": "m", "payload": 1})).await;
    assert_eq!(refreshed.status, 429, "a refreshed token is the same bucket");
    for other in ["producer-2", "globex-producer"] {
        let answer = node.token(other).create(json!({"command": "m", "payload": 1})).await;
        assert_eq!(answer.status, 202, "{other} has a bucket of its own");
    }
    let bad = node.producer().create(json!({"command": ""})).await;
    assert_eq!(bad.status, 400, "what is wrong is said first, and costs nothing");
    assert_eq!(node.worker().claim("m").await.status, 200, "workers have another limit");
    let id = node.producer().read("x").await;
    assert_eq!(id.status, 404, "reads are not limited");
}

#[tokio::test]
async fn the_bucket_is_one_for_all_nodes_and_fills_again() {
    let redis = Redis::start().await;
    let (here, there) =
        (node(&redis, "PRODUCER", "120", "2").await, node(&redis, "PRODUCER", "120", "2").await);
    here.producer().created("m").await;
    there.producer().created("m").await;
    let task = json!({"command": "m", "payload": 1});
    assert_eq!(here.producer().create(task.clone()).await.header("Retry-After"), Some("1"));
    crate::support::eventually("half a second later there is one more", async || {
        (there.producer().create(task.clone()).await.status == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_batch_costs_its_items_and_one_larger_than_the_burst_goes_into_debt() {
    let redis = Redis::start().await;
    let node = node(&redis, "PRODUCER", "60", "5").await;
    let batch = |count: usize| {
        let items: Vec<Value> = (0..count).map(|n| json!({"command": "m", "payload": n})).collect();
        node.producer().post("/tasks/batch", json!({"tasks": items}))
    };
    assert_eq!(batch(3).await.status, 200);
    let refused = batch(3).await;
    assert_eq!(refused.json_of(429)["operation"], "create_task");
    let node = self::node(&redis, "PRODUCER", "60", "5").await;
    let batch = |who: &str, count: usize| {
        let items: Vec<Value> = (0..count).map(|n| json!({"command": "m", "payload": n})).collect();
        node.token(who).post("/tasks/batch", json!({"tasks": items}))
    };
    assert_eq!(batch("producer-2", 20).await.status, 200, "a full bucket admits it");
    let wait: u64 =
        batch("producer-2", 1).await.json_of(429)["retryAfterSeconds"].as_u64().unwrap();
    assert!((15..=16).contains(&wait), "fifteen in debt and one more: {wait}");
}

#[tokio::test]
async fn claims_are_limited_a_waiting_one_costs_one_a_batch_its_count() {
    let redis = Redis::start().await;
    let node = node(&redis, "WORKER", "1", "4").await;
    assert_eq!(node.worker().claim_as(json!({"waitSeconds": 1})).await.status, 204);
    let batch = node.worker().post("/tasks/claim/batch", json!({"count": 3})).await;
    assert_eq!(batch.status, 204);
    let refused = node.worker().claim("m").await;
    assert_shown!(refused, @r#"
    429 {"error":"rate limit exceeded",
    "code":"rate_limited",
    "requestId":"<request>",
    "scope":"worker",
    "operation":"claim",
    "retryAfterSeconds":<minute>}
    "#);
    node.producer().created("m").await;
    let other = node.other_worker().claimed("m").await;
    let id = other["id"].as_str().unwrap();
    for _ in 0..10 {
        node.other_worker().heartbeat(id).await.json_of(200);
    }
}

#[tokio::test]
async fn a_clean_up_is_limited_as_admin() {
    let redis = Redis::start().await;
    let node = node(&redis, "ADMIN", "1", "1").await;
    let cleanup = || node.admin().bare_post("/admin/tasks/cleanup");
    assert_eq!(cleanup().await.status, 200);
    assert_shown!(cleanup().await, @r#"
    429 {"error":"rate limit exceeded",
    "code":"rate_limited",
    "requestId":"<request>",
    "scope":"admin",
    "operation":"cleanup",
    "retryAfterSeconds":<minute>}
    "#);
    assert_eq!(node.admin().get("/admin/queues").await.status, 200, "other calls are not limited");
}
