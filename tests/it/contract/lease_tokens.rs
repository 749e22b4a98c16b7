//! The lease token, and what a call that is repeated after a lost answer gets.

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::{Node, Redis};

fn id(task: &Value) -> &str {
    task["id"].as_str().unwrap()
}

async fn claimed(node: &Node) -> Value {
    node.producer().created("m").await;
    node.worker().claimed("m").await
}

#[tokio::test]
async fn a_stale_worker_of_a_pool_that_shares_one_subject_is_fenced_off() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let first = claimed(&node).await;
    node.worker().abandon(id(&first)).await.json_of(200);
    let second = node.token("worker-same-subject").claimed("m").await;
    assert_ne!(first["leaseToken"], second["leaseToken"]);
    let stale = &first["leaseToken"];
    let worker = node.worker();
    for call in [
        worker.heartbeat(id(&first)),
        worker.abandon(id(&first)),
        worker.nack(id(&first), json!({})),
        worker.complete(id(&first)),
    ] {
        assert_eq!(call.lease(stale).await.refusal(), "409 lease_lost lease-lost");
    }
    let submitted = worker.complete(id(&first)).lease(&second["leaseToken"]).await;
    assert_eq!(submitted.status, 200, "the same subject with the right token");
}

#[tokio::test]
async fn the_token_may_stand_in_the_header_or_in_the_body_and_an_empty_one_is_none() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let worker = node.worker();
    let task = claimed(&node).await;
    let (id, lease) = (id(&task), task["leaseToken"].as_str().unwrap());
    for (body, status) in [
        (json!({"leaseToken": lease}), 200),
        (json!({"leaseToken": ""}), 200),
        (json!({"leaseToken": null}), 200),
        (json!({"leaseToken": "AAAAAAAAAAAAAAAAAAAAAA"}), 409),
        (json!({"leaseToken": "x"}), 409),
        (json!({"leaseToken": 7}), 400),
    ] {
        let answer = worker.heartbeat(id).json(body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    assert_eq!(worker.heartbeat(id).header("X-CodeQ-Lease-Token", "").await.status, 200);
    let stale = worker.complete(id).header("X-CodeQ-Lease-Token", "AAAAAAAAAAAAAAAAAAAAAA").await;
    assert_eq!(stale.refusal(), "409 lease_lost lease-lost");
    let body = json!({"status": "COMPLETED", "result": {}, "leaseToken": lease});
    assert_eq!(worker.submit(id, body).await.status, 200);
    assert_eq!(node.producer().task(id).await["leaseToken"], Value::Null, "only a claim shows it");
}

#[tokio::test]
async fn a_submit_repeated_with_its_token_answers_the_stored_record() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let task = claimed(&node).await;
    let (id, lease) = (id(&task), &task["leaseToken"]);
    let first = node.worker().complete(id).lease(lease).await;
    assert!(!first.is_replayed());
    let again = node.worker().complete(id).lease(lease).await;
    assert_eq!((again.status, again.body.clone()), (200, first.body.clone()));
    assert!(again.is_replayed());
    let other = json!({"status": "COMPLETED", "result": {"other": 1}});
    for different in [node.worker().submit(id, other), node.worker().fail(id, "no")] {
        let refused = different.lease(lease).await;
        assert_eq!(refused.refusal(), "409 not_in_progress not-in-progress", "a different verdict");
    }
    let stale = node.worker().complete(id).header("X-CodeQ-Lease-Token", "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(stale.await.refusal(), "409 not_in_progress not-in-progress", "another token");
    let other = node.other_worker().complete(id).lease(lease).await;
    assert_eq!(other.refusal(), "409 not_in_progress not-in-progress", "another subject");
}

#[tokio::test]
async fn a_blind_repeat_of_the_same_verdict_by_the_same_subject_answers_the_stored_record() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let worker = node.worker();
    let task = claimed(&node).await;
    let verdict = |result: Value| json!({"status": "COMPLETED", "result": result, "artifacts": [{"name": "a", "url": "http://x/a"}]});
    let first = worker.submit(id(&task), verdict(json!({"n": 1}))).await;
    first.json_of(200);
    let again =
        worker.complete(id(&task)).json(json!({"status": "COMPLETED", "result": {"n": 1}})).await;
    assert_eq!((again.status, again.is_replayed()), (200, true), "artifacts do not count");
    assert_eq!(again.body, first.body);
    for (body, why) in [
        (r#"{"status":"COMPLETED","result":{"n":2}}"#, "other bytes"),
        (r#"{"status":"COMPLETED","result":{"n": 1}}"#, "other spelling"),
        (r#"{"status":"FAILED","error":"no"}"#, "other verdict"),
    ] {
        let path = format!("/tasks/{}/result", id(&task));
        let refused = worker.bare_post(&path).text(body).await;
        assert_eq!(refused.refusal(), "409 not_in_progress not-in-progress", "{why}");
    }
    let other = node.other_worker().submit(id(&task), verdict(json!({"n": 1}))).await;
    assert_eq!(other.refusal(), "409 not_in_progress not-in-progress", "another subject");

    let failed = claimed(&node).await;
    let first = worker.fail(id(&failed), "disk full").await;
    let again = worker.fail(id(&failed), "disk full").await;
    assert_eq!((again.status, again.is_replayed(), &again.body), (200, true, &first.body));
    assert_eq!(worker.fail(id(&failed), "disk empty").await.status, 409);
}

#[tokio::test]
async fn a_repeat_never_replays_what_no_worker_submitted() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let doomed =
        node.producer().created_as(json!({"command": "m", "payload": 1, "maxAttempts": 1})).await;
    let task = node.worker().claimed("m").await;
    node.worker().nack(&doomed, json!({"reason": "smtp"})).await.json_of(200);
    for call in [node.worker().fail(&doomed, "smtp"), node.worker().complete(&doomed)] {
        assert_eq!(call.await.refusal(), "409 not_in_progress not-in-progress");
    }
    let with_token = node.worker().fail(&doomed, "smtp").lease(&task["leaseToken"]).await;
    assert_eq!(with_token.status, 409, "{}", with_token.text());

    let cancelled = node.producer().created("m").await;
    let path = format!("/tasks/{}/cancel", id(&cancelled));
    node.producer().bare_post(&path).await.json_of(200);
    let refused = node.worker().fail(id(&cancelled), "CANCELLED").await;
    assert_eq!(refused.refusal(), "409 not_in_progress not-in-progress");
}

#[tokio::test]
async fn a_nack_or_abandon_repeated_with_its_token_answers_as_the_first_did() {
    let redis = Redis::start().await;
    let node =
        Node::with(&redis, &[("BACKOFF_POLICY", "fixed"), ("BACKOFF_BASE_SECONDS", "1")]).await;
    let worker = node.worker();

    let task = claimed(&node).await;
    let (task_id, lease) = (id(&task), &task["leaseToken"]);
    let nack = || worker.nack(task_id, json!({"reason": "smtp", "delaySeconds": 2}));
    let first = nack().lease(lease).await;
    assert_shown!(first, @r#"
    200 {"status":"requeued",
    "delaySeconds":2}
    "#);
    assert!(!first.is_replayed());
    let again = nack().lease(lease).await;
    assert_eq!((again.status, again.is_replayed(), &again.body), (200, true, &first.body));
    assert_eq!(nack().await.refusal(), "409 not_in_progress not-in-progress", "without a token");
    let other = node.other_worker().nack(task_id, json!({})).lease(lease).await;
    assert_eq!(other.refusal(), "409 not_in_progress not-in-progress", "another subject");
    assert_eq!(node.worker().task(task_id).await["attempts"], 1, "counted once");
    let wait = json!({"commands": ["m"], "waitSeconds": 20});
    assert_eq!(worker.claim_as(wait).await.json_of(200)["id"], task["id"]);
    assert_eq!(nack().lease(lease).await.refusal(), "409 lease_lost lease-lost", "claimed again");

    let task = claimed(&node).await;
    let (task_id, lease) = (id(&task), &task["leaseToken"]);
    let first = worker.abandon(task_id).lease(lease).await;
    let again = worker.abandon(task_id).lease(lease).await;
    assert_eq!((again.status, again.is_replayed(), &again.body), (200, true, &first.body));
    assert_eq!(worker.abandon(task_id).await.refusal(), "409 not_in_progress not-in-progress");
    assert_eq!(node.admin().counts("m").await, [1, 0, 1, 0], "given back once");
    worker.claimed("m").await;
    assert_eq!(worker.abandon(task_id).lease(lease).await.refusal(), "409 lease_lost lease-lost");

    let doomed =
        node.producer().created_as(json!({"command": "d", "payload": 1, "maxAttempts": 1})).await;
    let task = worker.claimed("d").await;
    let nack = || worker.nack(&doomed, json!({"reason": "smtp"})).lease(&task["leaseToken"]);
    assert_eq!(nack().await.text(), r#"{"status":"dlq","delaySeconds":0}"#);
    let again = nack().await;
    assert_eq!((again.text(), again.is_replayed()), (r#"{"status":"dlq","delaySeconds":0}"#, true));
}
