//! Claims: which tasks, under which lease, in which words.

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::{Node, Redis};

fn id(task: &Value) -> &str {
    task["id"].as_str().unwrap()
}

/// Seconds from now until a time in an answer.
fn seconds_until(time: &Value) -> i64 {
    let at: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
    (at.as_millisecond() - jiff::Timestamp::now().as_millisecond() + 500).div_euclid(1000)
}

#[tokio::test]
async fn a_claim_answers_the_task_with_its_lease_and_nothing_is_204() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let none = node.worker().claim("Mail").await;
    assert_eq!((none.status, none.text()), (204, ""));
    node.producer().created("Mail").await;
    assert_shown!(node.worker().claim("mail").await, @r#"
    200 {"id":"<id>",
    "command":"Mail",
    "payload":"{\"n\":1}",
    "status":"IN_PROGRESS",
    "lastKnownLocation":"INPROG_SET",
    "workerId":"worker",
    "leaseUntil":"<time>",
    "leaseToken":"<lease>",
    "attempts":1,
    "maxAttempts":5,
    "tenantId":"acme",
    "createdAt":"<time>",
    "updatedAt":"<time>"}
    "#);
    assert_eq!(node.worker().claim("mail").await.status, 204, "one task, one lease");
}

#[tokio::test]
async fn every_way_to_ask_for_everything_gets_a_task() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    for body in [
        "",
        " \n",
        "{}",
        r#"{"commands":[]}"#,
        r#"{"commands":null}"#,
        r#"{"commands":["*"]}"#,
        r#"{"waitSeconds":-5,"leaseSeconds":-1}"#,
    ] {
        let created = node.producer().created("Any Thing").await;
        let claimed = node.worker().bare_post("/tasks/claim").text(body).await;
        assert_eq!(claimed.json_of(200)["id"], created["id"], "{body:?}");
    }
}

#[tokio::test]
async fn a_worker_gets_only_the_commands_of_its_token() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let restricted = node.token("mail-worker");
    node.producer().created("print").await;
    let refused = restricted.claim("print").await;
    assert_eq!(refused.refusal(), "403 event_type_not_allowed event type not allowed");
    let mixed = restricted.claim_as(json!({"commands": ["MAIL", "print"]})).await;
    assert_eq!(mixed.refusal(), "403 event_type_not_allowed event type not allowed");
    for all in [json!({}), json!({"commands": []}), json!({"commands": ["*"]})] {
        assert_eq!(restricted.claim_as(all).await.status, 204, "print is not for it");
    }
    node.producer().created("Mail").await;
    assert_eq!(restricted.claim("MAIL").await.json_of(200)["command"], "Mail");
    node.producer().created("mail").await;
    assert_eq!(restricted.claim_as(json!({})).await.json_of(200)["command"], "mail");
}

#[tokio::test]
async fn a_bad_claim_is_refused_as_the_page_says() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let body = "400 invalid_body invalid body";
    let command = "400 invalid_command invalid command";
    let many: Vec<String> = (0..101).map(|n| format!("c{n}")).collect();
    for (sent, refused) in [
        (json!({"commands": "mail"}), body),
        (json!({"commands": [1]}), body),
        (json!({"commands": [null]}), body),
        (json!({"commands": many}), body),
        (json!({"leaseSeconds": 1.5}), body),
        (json!({"leaseSeconds": "60"}), body),
        (json!({"waitSeconds": 0.5}), body),
        (json!([]), body),
        (json!({"commands": [""]}), command),
        (json!({"commands": ["ok", "a\nb"]}), command),
        (json!({"commands": ["x".repeat(257)]}), command),
    ] {
        assert_eq!(node.worker().claim_as(sent.clone()).await.refusal(), refused, "{sent}");
    }
    let hundred: Vec<&str> = many.iter().map(String::as_str).take(100).collect();
    assert_eq!(node.worker().claim_as(json!({"commands": hundred})).await.status, 204);
}

#[tokio::test]
async fn a_lease_is_as_long_as_asked_within_its_bounds() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("DEFAULT_LEASE_SECONDS", "90")]).await;
    for (asked, seconds) in [
        (Value::Null, 90),
        (json!(0), 90),
        (json!(-7), 90),
        (json!(1000), 1000),
        (json!(43_200), 43_200),
        (json!(9_000_000), 43_200),
    ] {
        node.producer().created("m").await;
        let claimed = node.worker().claim_as(json!({"leaseSeconds": asked})).await.json_of(200);
        assert_eq!(seconds_until(&claimed["leaseUntil"]), seconds, "{asked}");
        let beat =
            node.worker().heartbeat(id(&claimed)).json(json!({"extendSeconds": asked})).await;
        assert_eq!(seconds_until(&beat.json_of(200)["leaseUntil"]), seconds, "heartbeat {asked}");
    }
}

#[tokio::test]
async fn a_heartbeat_sets_the_end_of_the_lease_from_now_also_to_shorten_it() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    node.producer().created("m").await;
    let claimed = node.worker().claim_as(json!({"leaseSeconds": 600})).await.json_of(200);
    let longer = node.worker().heartbeat(id(&claimed)).json(json!({"extendSeconds": 1200})).await;
    assert_eq!(seconds_until(&longer.json_of(200)["leaseUntil"]), 1200);
    let beat = node.worker().heartbeat(id(&claimed)).json(json!({"extendSeconds": 20})).await;
    assert_shown!(beat, @r#"
    200 {"ok":true,
    "leaseUntil":"<time>"}
    "#);
    let task = node.worker().task(id(&claimed)).await;
    assert_eq!(task["leaseUntil"], beat.json()["leaseUntil"]);
    let empty = node.worker().heartbeat(id(&claimed)).await;
    assert_eq!(
        seconds_until(&empty.json_of(200)["leaseUntil"]),
        300,
        "an empty body is the default"
    );
    for bad in [json!({"extendSeconds": 1.5}), json!({"extendSeconds": "9"}), json!(7)] {
        let refused = node.worker().heartbeat(id(&claimed)).json(bad.clone()).await;
        assert_eq!(refused.refusal(), "400 invalid_body invalid body", "{bad}");
    }
}

#[tokio::test]
async fn an_abandoned_task_is_ready_at_once_and_its_attempt_not_counted() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    node.producer().created("m").await;
    for _ in 0..7 {
        let claimed = node.worker().claimed("m").await;
        assert_eq!(claimed["attempts"], 1);
        assert_shown!(node.worker().abandon(id(&claimed)).await, @r#"200 {"status":"requeued"}"#);
        let task = node.worker().task(id(&claimed)).await;
        assert_eq!(task["attempts"], Value::Null);
        assert_eq!(task["workerId"], Value::Null);
        assert_eq!(task["leaseUntil"], Value::Null);
        assert_eq!(task["status"], "PENDING");
    }
}

#[tokio::test]
async fn a_nacked_task_backs_off_and_dies_after_its_last_attempt() {
    let redis = Redis::start().await;
    let node = Node::with(
        &redis,
        &[
            ("BACKOFF_MAX_SECONDS", "100"),
            ("BACKOFF_POLICY", "fixed"),
            ("BACKOFF_BASE_SECONDS", "7"),
        ],
    )
    .await;
    let task = json!({"command": "m", "payload": 1, "maxAttempts": 1});
    for (asked, applied) in [
        (json!({}), 7),
        (json!({"delaySeconds": 0}), 7),
        (json!({"delaySeconds": -3}), 7),
        (json!({"delaySeconds": 30}), 30),
        (json!({"delaySeconds": 5000, "reason": "smtp"}), 100),
    ] {
        node.producer().created("m").await;
        let claimed = node.worker().claimed("m").await;
        let nacked = node.worker().nack(id(&claimed), asked.clone()).await;
        assert_eq!(nacked.text(), format!(r#"{{"status":"requeued","delaySeconds":{applied}}}"#));
        let task = node.worker().task(id(&claimed)).await;
        assert_eq!(task["lastKnownLocation"], "DELAYED_ZSET");
        assert_eq!(task["attempts"], 1);
        assert_eq!(seconds_until(&task["visibleAt"]), applied);
    }
    let doomed = node.producer().created_as(task).await;
    node.worker().claimed("m").await;
    let nacked =
        node.worker().nack(&doomed, json!({"reason": "smtp is down", "delaySeconds": 9})).await;
    assert_shown!(nacked, @r#"
    200 {"status":"dlq",
    "delaySeconds":0}
    "#);
    assert_shown!(node.producer().read(&doomed).await, @r#"
    200 {"id":"<id>",
    "command":"m",
    "payload":"1",
    "status":"FAILED",
    "lastKnownLocation":"DLQ_SET",
    "attempts":1,
    "maxAttempts":1,
    "error":"smtp is down",
    "tenantId":"acme",
    "createdAt":"<time>",
    "updatedAt":"<time>",
    "completedAt":"<time>"}
    "#);
    assert_shown!(node.producer().result(&doomed).await, @r#"
    200 {"task":{"id":"<id>","command":"m","payload":"1","status":"FAILED","lastKnownLocation":"DLQ_SET","attempts":1,"maxAttempts":1,"error":"smtp is down","tenantId":"acme","createdAt":"<time>","updatedAt":"<time>","completedAt":"<time>"},
    "result":{"taskId":"<id>","status":"FAILED","error":"smtp is down","completedAt":"<time>"}}
    "#);
    let empty_body = node.producer().created_as(json!({"command": "e", "payload": 1})).await;
    node.worker().claimed("e").await;
    let path = format!("/tasks/{empty_body}/nack");
    assert_eq!(node.worker().bare_post(&path).await.status, 200, "the body may be empty");
}

#[tokio::test]
async fn a_bad_nack_is_refused_and_changes_nothing() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    node.producer().created("m").await;
    let claimed = node.worker().claimed("m").await;
    for bad in [
        json!({"delaySeconds": 1.5}),
        json!({"delaySeconds": "5"}),
        json!({"reason": 7}),
        json!("x"),
    ] {
        let refused = node.worker().nack(id(&claimed), bad.clone()).await;
        assert_eq!(refused.refusal(), "400 invalid_body invalid body", "{bad}");
    }
    assert_eq!(node.worker().task(id(&claimed)).await["status"], "IN_PROGRESS");
}

#[tokio::test]
async fn a_lease_that_ends_gives_the_task_to_the_next_worker_and_counts_the_attempt() {
    let redis = Redis::start().await;
    let node =
        Node::with(&redis, &[("BACKOFF_POLICY", "fixed"), ("BACKOFF_BASE_SECONDS", "1")]).await;
    let task = json!({"command": "m", "payload": 1, "maxAttempts": 2});
    let task = node.producer().created_as(task).await;
    let lease = json!({"leaseSeconds": 1, "waitSeconds": 20});
    for attempt in 1..=2 {
        let claimed = node.worker().claim_as(lease.clone()).await.json_of(200);
        assert_eq!((id(&claimed), &claimed["attempts"]), (task.as_str(), &json!(attempt)));
    }
    let ended = node.producer().result_within(&task, 20).await.json_of(200);
    assert_eq!(ended["task"]["error"], "LEASE_EXPIRED");
    assert_eq!(ended["task"]["lastKnownLocation"], "DLQ_SET");
    assert_eq!(ended["result"]["error"], "LEASE_EXPIRED");
}
