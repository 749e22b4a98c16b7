//! What a worker may submit, and the record it makes.

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::{Node, Redis, eventually};

async fn claimed(node: &Node) -> String {
    node.producer().created("m").await;
    node.worker().claimed("m").await["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_result_is_recorded_and_the_task_is_over() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let id = claimed(&node).await;
    let body = r#"{"status":"COMPLETED","result":{ "pages": 3.0 },"artifacts":[{"name":"a.pdf","url":"http://files.test/a.pdf"}]}"#;
    let submitted = node.worker().bare_post(&format!("/tasks/{id}/result")).text(body).await;
    assert_shown!(submitted, @r#"
    200 {"taskId":"<id>",
    "status":"COMPLETED",
    "result":{ "pages": 3.0 },
    "artifacts":[{"name":"a.pdf","url":"http://files.test/a.pdf"}],
    "completedAt":"<time>"}
    "#);
    assert_shown!(node.producer().read(&id).await, @r#"
    200 {"id":"<id>",
    "command":"m",
    "payload":"{\"n\":1}",
    "status":"COMPLETED",
    "lastKnownLocation":"NONE",
    "attempts":1,
    "maxAttempts":5,
    "tenantId":"acme",
    "createdAt":"<time>",
    "updatedAt":"<time>",
    "completedAt":"<time>"}
    "#);
    assert_shown!(node.producer().result(&id).await, @r#"
    200 {"task":{"id":"<id>","command":"m","payload":"{\"n\":1}","status":"COMPLETED","lastKnownLocation":"NONE","attempts":1,"maxAttempts":5,"tenantId":"acme","createdAt":"<time>","updatedAt":"<time>","completedAt":"<time>"},
    "result":{"taskId":"<id>","status":"COMPLETED","result":{ "pages": 3.0 },"artifacts":[{"name":"a.pdf","url":"http://files.test/a.pdf"}],"completedAt":"<time>"}}
    "#);

    let id = claimed(&node).await;
    assert_shown!(node.worker().fail(&id, "disk full").await, @r#"
    200 {"taskId":"<id>",
    "status":"FAILED",
    "error":"disk full",
    "completedAt":"<time>"}
    "#);
    assert_shown!(node.producer().result(&id).await, @r#"
    200 {"task":{"id":"<id>","command":"m","payload":"{\"n\":1}","status":"FAILED","lastKnownLocation":"NONE","attempts":1,"maxAttempts":5,"error":"disk full","tenantId":"acme","createdAt":"<time>","updatedAt":"<time>","completedAt":"<time>"},
    "result":{"taskId":"<id>","status":"FAILED","error":"disk full","completedAt":"<time>"}}
    "#);

    let id = claimed(&node).await;
    let empty = node.worker().submit(&id, json!({"status": "COMPLETED", "result": {}})).await;
    assert_shown!(empty, @r#"
    200 {"taskId":"<id>",
    "status":"COMPLETED",
    "result":{},
    "completedAt":"<time>"}
    "#);
    assert_eq!(node.admin().counts("m").await, [0, 0, 0, 0]);
}

#[tokio::test]
async fn a_bad_result_is_refused_and_the_task_stays_with_its_worker() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let id = claimed(&node).await;
    let body = "400 invalid_body invalid request body";
    let result = "400 result_required result required when status=COMPLETED";
    let error = "400 error_required error required when status=FAILED";
    let status = "400 invalid_status invalid status";
    let done =
        |artifacts: Value| json!({"status": "COMPLETED", "result": {}, "artifacts": artifacts});
    let named = |name: &str| done(json!([{"name": name, "url": "http://x"}]));
    let many: Vec<Value> =
        (0..101).map(|n| json!({"name": format!("{n}"), "url": "http://x"})).collect();
    for (sent, refused) in [
        (json!(null), body),
        (json!([]), body),
        (json!({}), body),
        (json!({"status": null, "result": {}}), body),
        (json!({"status": 1, "result": {}}), body),
        (json!({"status": ""}), status),
        (json!({"status": "completed", "result": {}}), status),
        (json!({"status": "PENDING", "result": {}}), status),
        (json!({"status": "COMPLETED"}), result),
        (json!({"status": "COMPLETED", "result": null}), result),
        (json!({"status": "COMPLETED", "result": [1]}), body),
        (json!({"status": "COMPLETED", "result": "text"}), body),
        (json!({"status": "FAILED"}), error),
        (json!({"status": "FAILED", "error": null}), error),
        (json!({"status": "FAILED", "error": ""}), error),
        (json!({"status": "FAILED", "error": 7}), body),
        (done(json!({})), body),
        (done(json!([{"url": "http://x"}])), body),
        (done(json!([{"name": "a"}])), body),
        (done(Value::from(many)), body),
        (named(""), body),
        (named("."), body),
        (named(".."), body),
        (named("a/b"), body),
        (named("a\\b"), body),
        (named("a\u{0}"), body),
        (named(&"x".repeat(256)), body),
    ] {
        let answer = node.worker().submit(&id, sent.clone()).await;
        assert_eq!(answer.refusal(), refused, "{sent}");
    }
    let path = format!("/tasks/{id}/result");
    for text in ["", "{", r#"{"status":"COMPLETED","result":{}} {}"#] {
        assert_eq!(node.worker().bare_post(&path).text(text).await.refusal(), body, "{text}");
    }
    assert_eq!(node.worker().task(&id).await["status"], "IN_PROGRESS");
    let hundred: Vec<Value> =
        (0..100).map(|n| json!({"name": format!("{n}"), "url": "http://x"})).collect();
    let answer = node.worker().submit(&id, done(Value::from(hundred))).await.json_of(200);
    assert_eq!(answer["artifacts"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn a_failed_task_may_bring_a_result_and_a_completed_one_an_error() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let id = claimed(&node).await;
    let body = json!({"status": "FAILED", "error": "half", "result": {"partial": true}});
    assert_shown!(node.worker().submit(&id, body).await, @r#"
    200 {"taskId":"<id>",
    "status":"FAILED",
    "result":{"partial":true},
    "error":"half",
    "completedAt":"<time>"}
    "#);
    assert_eq!(node.producer().task(&id).await["error"], "half");
}

#[tokio::test]
async fn error_and_reason_are_cut_to_4096_bytes_at_a_character() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let long = format!("x{}", "ü".repeat(4000));
    let kept = format!("x{}", "ü".repeat(2047));
    let id = claimed(&node).await;
    let record = node.worker().fail(&id, &long).await.json_of(200);
    assert_eq!(record["error"], kept);
    assert_eq!(node.producer().task(&id).await["error"], kept, "the task's error is the record's");

    let doomed =
        node.producer().created_as(json!({"command": "d", "payload": 1, "maxAttempts": 1})).await;
    node.worker().claimed("d").await;
    node.worker().nack(&doomed, json!({"reason": long})).await.json_of(200);
    let ended = node.producer().result(&doomed).await.json_of(200);
    assert_eq!(ended["task"]["error"], ended["result"]["error"]);
    assert!(ended["result"]["error"].as_str().unwrap().len() <= 4096);
}

#[tokio::test]
async fn a_result_for_a_lease_that_expired_is_accepted_until_the_sweeper_ends_it() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    // No node sweeps a partition that another one just swept.
    for partition in 0..16 {
        let guard = format!("SET {{codeq:{partition}}}:g 1 PX 600000");
        redis.command::<String>(&guard).await;
    }
    for end in ["complete", "heartbeat", "nack", "abandon"] {
        node.producer().created(end).await;
        let lease = json!({"commands": [end], "leaseSeconds": 1});
        let id = node.worker().claim_as(lease).await.json_of(200)["id"].clone();
        let id = id.as_str().unwrap();
        eventually("the lease is over", async || {
            let until = node.worker().task(id).await["leaseUntil"].as_str().unwrap().to_owned();
            let until: jiff::Timestamp = until.parse().unwrap();
            (jiff::Timestamp::now() > until).then_some(())
        })
        .await;
        let worker = node.worker();
        let call = match end {
            "complete" => worker.complete(id),
            "heartbeat" => worker.heartbeat(id),
            "nack" => worker.nack(id, json!({})),
            _ => worker.abandon(id),
        };
        call.await.json_of(200);
    }
}
