//! The story of a task.

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::{Node, Redis};

#[tokio::test]
async fn a_timeline_tells_creation_attempts_and_end_oldest_first() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let task =
        node.producer().created_as(json!({"command": "m", "payload": 1, "maxAttempts": 3})).await;
    node.worker().claimed("m").await;
    node.worker().abandon(&task).await.json_of(200);
    node.other_worker().claimed("m").await;
    node.other_worker()
        .nack(&task, json!({"delaySeconds": 1, "reason": "smtp"}))
        .await
        .json_of(200);
    node.worker().claim_as(json!({"waitSeconds": 20})).await.json_of(200);
    node.worker().complete(&task).await.json_of(200);
    let told = node.producer().timeline(&task).await.json_of(200);
    let events: Vec<String> = told["events"].as_array().unwrap().iter().map(shown).collect();
    insta::assert_snapshot!(events.join("\n"), @r#"
    {"to":"PENDING_LIST"}
    {"attempt":1,"by":"worker","from":"PENDING_LIST","to":"INPROG_SET"}
    {"attempt":1,"by":"worker","from":"INPROG_SET","to":"PENDING_LIST"}
    {"attempt":1,"by":"worker-2","from":"PENDING_LIST","to":"INPROG_SET"}
    {"attempt":1,"by":"worker-2","from":"INPROG_SET","reason":"smtp","to":"DELAYED_ZSET"}
    {"attempt":2,"by":"worker","from":"PENDING_LIST","to":"INPROG_SET"}
    {"attempt":2,"by":"worker","from":"INPROG_SET","to":"NONE"}
    "#);
    let times: Vec<&str> =
        told["events"].as_array().unwrap().iter().map(|e| e["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

/// An event without its times.
fn shown(event: &Value) -> String {
    let mut event = event.as_object().unwrap().clone();
    event.remove("at");
    event.remove("durationMs");
    Value::from(event).to_string()
}

#[tokio::test]
async fn a_timeline_has_the_shape_of_the_page() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let task = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    assert_shown!(node.producer().timeline(&task).await, @r#"200 {"events":[{"at":"<time>","to":"PENDING_LIST"}]}"#);
    node.worker().claimed("m").await;
    node.worker().fail(&task, "no").await.json_of(200);
    assert_shown!(node.worker().timeline(&task).await, @r#"200 {"events":[{"at":"<time>","to":"PENDING_LIST"},{"at":"<time>","from":"PENDING_LIST","to":"INPROG_SET","attempt":1,"by":"worker"},{"at":"<time>","from":"INPROG_SET","to":"NONE","attempt":1,"by":"worker","durationMs":<ms>,"reason":"no"}]}"#);
}

#[tokio::test]
async fn dying_coming_back_and_being_called_off_are_told() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let told = async |id: &str| {
        let told = node.producer().timeline(id).await.json_of(200);
        let events: Vec<String> = told["events"].as_array().unwrap().iter().map(shown).collect();
        events.join("\n")
    };
    let task =
        node.producer().created_as(json!({"command": "m", "payload": 1, "maxAttempts": 1})).await;
    node.worker().claimed("m").await;
    node.worker().nack(&task, json!({"reason": "smtp"})).await.json_of(200);
    insta::assert_snapshot!(told(&task).await, @r#"
    {"to":"PENDING_LIST"}
    {"attempt":1,"by":"worker","from":"PENDING_LIST","to":"INPROG_SET"}
    {"attempt":1,"by":"worker","from":"INPROG_SET","reason":"smtp","to":"DLQ_SET"}
    "#);
    node.admin().post("/admin/queues/m/dlq/requeue", json!({})).await.json_of(200);
    node.admin().delete(&format!("/admin/tasks/{task}")).await.json_of(200);
    insta::assert_snapshot!(told(&task).await, @r#"
    {"to":"PENDING_LIST"}
    {"attempt":1,"by":"worker","from":"PENDING_LIST","to":"INPROG_SET"}
    {"attempt":1,"by":"worker","from":"INPROG_SET","reason":"smtp","to":"DLQ_SET"}
    {"by":"admin","from":"DLQ_SET","to":"PENDING_LIST"}
    {"from":"PENDING_LIST","reason":"CANCELLED","to":"NONE"}
    "#);

    let delayed =
        node.producer().created_as(json!({"command": "m", "payload": 1, "delaySeconds": 99})).await;
    node.producer().bare_post(&format!("/tasks/{delayed}/cancel")).await.json_of(200);
    insta::assert_snapshot!(told(&delayed).await, @r#"
    {"to":"DELAYED_ZSET"}
    {"from":"DELAYED_ZSET","reason":"CANCELLED","to":"NONE"}
    "#);
}

#[tokio::test]
async fn a_timeline_keeps_the_last_32_attempts() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let task = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    for n in 0..40 {
        let who = if n % 2 == 0 { node.worker() } else { node.other_worker() };
        who.claimed("m").await;
        who.abandon(&task).await.json_of(200);
    }
    let told = node.producer().timeline(&task).await.json_of(200);
    assert_eq!(told["events"].as_array().unwrap().len(), 1 + 2 * 32);
    assert_eq!(told["events"][0]["from"], Value::Null, "the creation stays");
}
