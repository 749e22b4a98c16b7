//! What was refused, or failed, can be seen too.

use serde_json::{Value, json};

use super::{INCOMING, TRACE, parent, text, traced, traced_with, within};
use crate::support::{Redis, eventually};

#[tokio::test]
async fn t3_a_refused_create_has_its_span() {
    let redis = Redis::start().await;
    let (node, collector) = traced(&redis).await;
    for (body, outcome) in [
        (r#"{"command":"m","payload":1,"webhook":"ftp://x"}"#, "invalid_url"),
        (r#"{"command":"m","payload":null}"#, "invalid_body"),
        (r#"{"command":"#, "invalid_body"),
        (r#"{"command":" ","payload":1}"#, "invalid_command"),
        (r#"{"command":"m","payload":1,"runAt":"soon"}"#, "invalid_run_at"),
    ] {
        let answer = within(node.producer().call("POST", "/tasks").text(body), INCOMING).await;
        assert_eq!(answer.status, 400, "{body}");
        let request = collector.of_traceparent(&super::server(&answer)).await;
        let span = collector
            .span(body, |span| span.name == "codeq.task.create" && span.is_below(&request))
            .await;
        assert_eq!(span.at("codeq.outcome"), outcome, "{body}");
        assert!(span.is_unset && request.is_unset, "a refusal is no error");
        assert_eq!(span.at("codeq.task_id"), Value::Null);
    }
    let batch = json!([{"command": "m", "payload": 1}, {"command": "m", "payload": null}]);
    node.producer().post("/tasks/batch", batch).await.json_of(200);
    let outcome = |span: &crate::support::Span| span.at("codeq.outcome");
    let creates = collector.count("codeq.task.create", 7).await;
    assert_eq!(creates[5..].iter().filter(|span| outcome(span) == "invalid_body").count(), 1);
}

#[tokio::test]
async fn t6_a_refused_step_hangs_below_the_task_and_is_stored_nowhere() {
    let redis = Redis::start().await;
    let (node, collector) = traced(&redis).await;
    let task = json!({"command": "m", "payload": 1});
    let created = within(node.producer().create(task), INCOMING).await.json_of(202);
    let id = text(&created, "id");
    let beat = || json!({"extendSeconds": 5});
    let early = node.worker().heartbeat(id).json(beat()).await;
    assert_eq!(early.json()["code"], "not_in_progress");
    let claimed = node.worker().claimed("m").await;
    let latest = parent(&claimed).to_owned();
    let cases = [
        (node.other_worker().heartbeat(id).json(beat()).await, "heartbeat", "not_owner"),
        (
            node.worker().abandon(id).lease(&json!("0123456789abcdef")).await,
            "abandon",
            "lease_lost",
        ),
        (node.other_worker().nack(id, json!({})).await, "nack", "not_owner"),
        (node.other_worker().complete(id).await, "submit_result", "not_owner"),
        (
            node.producer().bare_post(&format!("/tasks/{id}/cancel")).await,
            "cancel",
            "not_cancellable",
        ),
    ];
    for (answer, step, outcome) in cases {
        assert_eq!(answer.json()["code"], outcome);
        let name = format!("codeq.task.{step}");
        let request = collector.of_traceparent(&super::server(&answer)).await;
        let span = collector.span(&name, |s| s.name == name && s.at("codeq.outcome") == outcome);
        let span = span.await;
        assert_eq!((&*span.trace_id, &*span.parent), (TRACE, &latest[36..52]), "{name}");
        assert!(span.is_linked_to(&request) && span.is_unset, "{span:?}");
        assert_eq!(span.at("codeq.command"), "m");
    }
    assert_eq!(parent(&node.producer().task(id).await), latest, "nothing of it is stored");
    let early = collector.span("early", |s| s.at("codeq.outcome") == "not_in_progress").await;
    assert_eq!(early.parent, parent(&created)[36..52]);

    let nobody = "018f3c5e-0000-7000-8000-000000000000";
    let missing = node.worker().heartbeat(nobody).await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn t18_a_step_that_we_fail_is_an_error_of_its_class() {
    let mut redis = Redis::start().await;
    let (node, collector) = traced_with(&redis, &[("REDIS_COMMAND_TIMEOUT_MS", "300")]).await;
    let id = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    let claimed = node.worker().claimed("m").await;
    redis.kill();
    let answer = eventually("the node notices", async || {
        let answer = node.worker().complete(&id).lease(&claimed["leaseToken"]).await;
        (answer.json()["code"] == "store_unavailable").then_some(answer)
    })
    .await;
    let request = collector.of_traceparent(&super::server(&answer)).await;
    assert!(request.is_error && request.at("error.type") == "503", "{request:?}");
    let span = collector
        .span("the failed step", |span| {
            span.name == "codeq.task.submit_result" && span.at("error.type") == "store_unavailable"
        })
        .await;
    assert!(span.is_error, "{span:?}");
    assert_eq!(span.events, ["exception"]);
}
