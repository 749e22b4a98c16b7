//! In which order a call is checked, and what a worker hears that may not touch a task.

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::{Client, Node, Redis};

const NO_TASK: &str = "019b0000-0000-7000-8000-000000000000";

/// The four calls of a worker on its task.
const CALLS: [&str; 4] = ["heartbeat", "abandon", "nack", "result"];

async fn refusal(who: &Client, id: &str, call: &str, lease: &str) -> String {
    let body = match call {
        "result" => json!({"status": "COMPLETED", "result": {}}),
        _ => json!({}),
    };
    let call = who.post(&format!("/tasks/{id}/{call}"), body);
    let call = if lease.is_empty() { call } else { call.header("X-CodeQ-Lease-Token", lease) };
    call.await.refusal()
}

#[tokio::test]
async fn the_checks_come_in_the_order_of_the_page() {
    let redis = Redis::start().await;
    let rate =
        [("RATE_LIMIT_WORKER_REQUESTS_PER_MINUTE", "1"), ("RATE_LIMIT_WORKER_BURST_SIZE", "1")];
    let mut variables = rate.to_vec();
    variables.push(("MAX_BODY_BYTES", "1024"));
    let node = Node::with(&redis, &variables).await;
    let large = format!(r#"{{"commands":["{}"]}}"#, "x".repeat(1100));
    let bad = r#"{"commands":7}"#.to_owned();
    let forbidden = r#"{"commands":["print"]}"#.to_owned();
    let claim =
        |token: &str, body: &String| node.token(token).bare_post("/tasks/claim").text(body.clone());
    // Each caller has everything wrong that comes after the check named.
    assert_eq!(claim("nobody", &large).await.refusal(), "401 unauthorized invalid token");
    assert_eq!(
        claim("no-tenant-worker", &large).await.refusal(),
        "413 body_too_large body too large"
    );
    assert_eq!(
        claim("no-tenant-worker", &bad).await.refusal(),
        "403 invalid_tenant invalid tenant claims"
    );
    assert_eq!(claim("scope-of-nothing", &bad).await.refusal(), "403 missing_scope missing scope");
    assert_eq!(claim("mail-worker", &bad).await.refusal(), "400 invalid_body invalid body");
    assert_eq!(claim("mail-worker", &"{}".to_owned()).await.status, 204, "the bucket is empty now");
    assert_eq!(
        claim("mail-worker", &forbidden).await.refusal(),
        "403 event_type_not_allowed event type not allowed"
    );
    assert_eq!(
        claim("mail-worker", &"{}".to_owned()).await.refusal(),
        "429 rate_limited rate limit exceeded"
    );
    let result = format!("/tasks/{NO_TASK}/result");
    let submit = |body: Value| node.worker().post(&result, body);
    assert_eq!(
        submit(json!({"status": 1})).await.refusal(),
        "400 invalid_body invalid request body"
    );
    assert_eq!(
        submit(json!({"status": "DONE"})).await.refusal(),
        "400 invalid_status invalid status"
    );
}

#[tokio::test]
async fn who_does_not_say_who_he_is_hears_which_check_failed() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let nobody = node.anyone();
    assert_shown!(nobody.create(json!({})).await, @r#"
    401 {"error":"missing Authorization header",
    "code":"unauthorized",
    "requestId":"<request>"}
    "#);
    let header = |value: &'static str| nobody.create(json!({})).header("Authorization", value);
    for format in ["producer", "Basic producer", "Bearer", "Bearer ", "Bearer a b"] {
        let answer = header(format).await;
        assert_eq!(answer.refusal(), "401 unauthorized invalid Authorization format", "{format}");
        assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer"));
    }
    assert_eq!(header("bearer producer").await.status, 400, "the scheme has no case");
    let twice = header("Bearer producer").header("Authorization", "Bearer producer").await;
    assert_eq!(twice.refusal(), "401 unauthorized invalid Authorization format");
    for (token, refused) in [
        ("nobody", "401 unauthorized invalid token"),
        ("producer", "401 unauthorized invalid token"),
        ("worker-without-events", "401 unauthorized missing eventTypes"),
        ("worker-without-scopes", "401 unauthorized missing scope"),
    ] {
        let answer = node.token(token).claim("m").await;
        assert_eq!(answer.refusal(), refused, "{token}");
        assert!(!answer.text().contains("nobody"));
    }
    assert_shown!(node.token("nobody").claim("m").await, @r#"
    401 {"error":"invalid token",
    "code":"unauthorized",
    "requestId":"<request>",
    "detail":"token not recognised"}
    "#);
}

#[tokio::test]
async fn every_call_of_a_worker_needs_its_scope() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let without = node.token("scope-of-nothing");
    for (path, scope) in [
        ("/tasks/claim".to_owned(), "codeq:claim"),
        ("/tasks/claim/batch".to_owned(), "codeq:claim"),
        (format!("/tasks/{NO_TASK}/heartbeat"), "codeq:heartbeat"),
        (format!("/tasks/{NO_TASK}/abandon"), "codeq:abandon"),
        (format!("/tasks/{NO_TASK}/nack"), "codeq:nack"),
        (format!("/tasks/{NO_TASK}/result"), "codeq:result"),
        ("/tasks/batch/results".to_owned(), "codeq:result"),
    ] {
        let refused = without.bare_post(&path).await;
        assert_eq!(refused.refusal(), "403 missing_scope missing scope", "{path}");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(scope), "{path}: {detail}");
    }
    let claims_only = node.token("claim-only");
    node.producer().created("m").await;
    let id = claims_only.claimed("m").await["id"].as_str().unwrap().to_owned();
    for call in CALLS {
        assert_eq!(refusal(&claims_only, &id, call, "").await, "403 missing_scope missing scope");
    }
    assert_eq!(claims_only.read(&id).await.status, 200, "to read needs no scope");
}

#[tokio::test]
async fn a_task_that_is_not_there_is_not_found_in_each_calls_words() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let not_ids = [
        "nonsense",
        "%00",
        "019b0000-0000-7000-8000-00000000000g",
        "019B0000-0000-7000-8000-0000000000000",
    ];
    for id in [NO_TASK].into_iter().chain(not_ids) {
        for call in ["heartbeat", "abandon", "nack"] {
            assert_eq!(
                refusal(&node.worker(), id, call, "").await,
                "404 not_found not-found",
                "{id} {call}"
            );
        }
        assert_eq!(
            refusal(&node.worker(), id, "result", "").await,
            "404 not_found task not found",
            "{id}"
        );
        assert_eq!(node.producer().read(id).await.refusal(), "404 not_found not found", "{id}");
        assert_eq!(node.producer().timeline(id).await.refusal(), "404 not_found not found", "{id}");
        assert_eq!(
            node.producer().result_within(id, 10).await.refusal(),
            "404 not_found task not found",
            "{id}"
        );
    }
}

#[tokio::test]
async fn another_tenants_task_is_as_if_it_did_not_exist() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let task = node.producer().created("m").await;
    let id = task["id"].as_str().unwrap();
    let (worker, producer) = (node.token("globex-worker"), node.token("globex-producer"));
    let strangers = async |state: &str| {
        for call in ["heartbeat", "abandon", "nack"] {
            assert_eq!(
                refusal(&worker, id, call, "").await,
                "404 not_found not-found",
                "{state} {call}"
            );
        }
        assert_eq!(
            refusal(&worker, id, "result", "").await,
            "404 not_found task not found",
            "{state}"
        );
        for reader in [&worker, &producer] {
            assert_eq!(reader.read(id).await.refusal(), "404 not_found not found", "{state}");
            assert_eq!(reader.timeline(id).await.refusal(), "404 not_found not found", "{state}");
            assert_eq!(
                reader.result(id).await.refusal(),
                "404 not_found task not found",
                "{state}"
            );
        }
    };
    assert_eq!(worker.claim("m").await.status, 204);
    assert_eq!(worker.claim_as(json!({})).await.status, 204);
    strangers("ready").await;
    node.worker().claimed("m").await;
    strangers("in progress").await;
    node.worker().complete(id).await.json_of(200);
    strangers("done").await;
}

#[tokio::test]
async fn refusals_come_in_their_order_not_found_not_in_progress_lease_lost_not_owner() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let task = node.producer().created("m").await;
    let id = task["id"].as_str().unwrap();
    let stale = "AAAAAAAAAAAAAAAAAAAAAA";
    for call in CALLS {
        for who in [node.worker(), node.other_worker()] {
            for lease in ["", stale] {
                let refused = refusal(&who, id, call, lease).await;
                assert_eq!(refused, "409 not_in_progress not-in-progress", "{call}: whoever asks");
            }
        }
    }
    let lease = node.worker().claimed("m").await["leaseToken"].as_str().unwrap().to_owned();
    for call in CALLS {
        for who in [node.worker(), node.other_worker()] {
            assert_eq!(refusal(&who, id, call, stale).await, "409 lease_lost lease-lost", "{call}");
        }
        let other = node.other_worker();
        for right in ["", lease.as_str()] {
            let refused = refusal(&other, id, call, right).await;
            assert_eq!(refused, "403 not_owner not-owner", "{call}: a right token is no owner");
        }
    }
    let task = node.worker().task(id).await;
    assert_eq!((&task["status"], &task["workerId"]), (&json!("IN_PROGRESS"), &json!("worker")));
    node.worker().complete(id).await.json_of(200);
    for call in ["heartbeat", "abandon", "nack"] {
        assert_eq!(
            refusal(&node.worker(), id, call, "").await,
            "409 not_in_progress not-in-progress"
        );
    }
    assert_eq!(
        refusal(&node.other_worker(), id, "result", "").await,
        "409 not_in_progress not-in-progress"
    );
}
