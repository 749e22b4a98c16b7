//! The steps of a task's life: one trace, each span as the catalog says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{INCOMING, TRACE, parent, server, text, traced, traced_with, within};
use crate::support::{Collector, Redis, Span};

/// Name, kind, scope and attributes of a span, and that it ended well.
fn is_described(span: &Span, kind: &str, scope: &str, attributes: Value) {
    assert_eq!((span.kind, &*span.scope), (kind, scope), "{}", span.name);
    let expected: BTreeMap<String, Value> = serde_json::from_value(attributes).unwrap();
    assert_eq!(span.attributes, expected, "{}", span.name);
    assert!(span.is_unset && span.events.is_empty(), "{span:?}");
}

/// Whether the span is one step of the trace: below `above`, linked to the request of its answer.
async fn is_a_step(collector: &Collector, span: &Span, above: &str, request: &str) {
    let request = collector.of_traceparent(request).await;
    assert_eq!((&*span.trace_id, &*span.parent), (TRACE, &above[36..52]), "{}", span.name);
    assert!(span.is_linked_to(&request), "{}: {:?}", span.name, span.links);
    assert_eq!((request.kind, &*request.scope), ("SERVER", "codeq/http"));
}

#[tokio::test]
async fn t4_t6_t7_t16_t28_t29_m30_a_life_is_one_chain_of_described_spans() {
    let redis = Redis::start().await;
    let (node, collector) = traced(&redis).await;
    let body = json!({
        "command": "Gen.X", "payload": {"n": 1}, "priority": 3, "idempotencyKey": "once",
    });
    let answer = within(node.producer().create(body), INCOMING).await;
    let created = answer.json_of(202);
    let id = text(&created, "id");
    let request = collector.of_traceparent(&server(&answer)).await;
    assert_eq!((&*request.trace_id, &*request.parent), (TRACE, "b7ad6b7169203331"));
    let span = collector.of_traceparent(parent(&created)).await;
    assert!(span.is_below(&request) && span.links.is_empty());
    is_described(
        &span,
        "PRODUCER",
        "codeq/scheduler",
        json!({
            "codeq.command": "Gen.X", "codeq.priority": 3, "codeq.has_webhook": false,
            "codeq.has_idempotency_key": true, "codeq.tenant_id": "acme", "codeq.task_id": id,
            "codeq.idempotent_replay": false, "messaging.system": "codeq",
            "messaging.operation.name": "create", "messaging.operation.type": "send",
            "messaging.destination.name": "Gen.X", "messaging.message.id": id,
        }),
    );

    let three = |more: Value| {
        let mut all = json!({
            "codeq.task_id": id, "codeq.command": "Gen.X", "codeq.tenant_id": "acme",
            "codeq.worker_id": "worker",
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let answer = node.worker().claim_as(json!({"commands": ["Gen.X"], "leaseSeconds": 40})).await;
    let claimed = answer.json_of(200);
    let claim = collector.of_traceparent(parent(&claimed)).await;
    is_a_step(&collector, &claim, parent(&created), &server(&answer)).await;
    let waited = claim.at("codeq.queue_wait_ms").as_i64().unwrap();
    is_described(
        &claim,
        "CONSUMER",
        "codeq/scheduler",
        three(json!({
            "codeq.attempt": 1, "codeq.priority": 3, "codeq.lease_seconds": 40,
            "codeq.queue_wait_ms": waited, "messaging.system": "codeq",
            "messaging.operation.name": "claim", "messaging.operation.type": "receive",
            "messaging.destination.name": "Gen.X", "messaging.message.id": id,
        })),
    );
    let request = collector.of_traceparent(&server(&answer)).await;
    assert!(request.is_linked_to(&span), "a claim leads to what it took: {:?}", request.links);

    let token = &claimed["leaseToken"];
    let answer = node.worker().heartbeat(id).json(json!({"extendSeconds": 50})).lease(token).await;
    answer.json_of(200);
    let heartbeat = collector.first("codeq.task.heartbeat").await;
    is_a_step(&collector, &heartbeat, parent(&claimed), &server(&answer)).await;
    let extended = three(json!({"codeq.extend_seconds": 50}));
    is_described(&heartbeat, "INTERNAL", "codeq/scheduler", extended);
    assert_eq!(parent(&node.producer().task(id).await), heartbeat.traceparent());

    let answer = node.worker().abandon(id).lease(token).await;
    let abandon = collector.first("codeq.task.abandon").await;
    is_a_step(&collector, &abandon, &heartbeat.traceparent(), &server(&answer)).await;
    is_described(&abandon, "INTERNAL", "codeq/scheduler", three(json!({})));

    let claimed = node.worker().claimed("Gen.X").await;
    let again = collector.of_traceparent(parent(&claimed)).await;
    assert!(again.is_below(&abandon), "the chain goes on");
    let verdict = json!({"status": "FAILED", "error": "no"});
    let answer = node.worker().submit(id, verdict).lease(&claimed["leaseToken"]).await;
    let submit = collector.first("codeq.task.submit_result").await;
    is_a_step(&collector, &submit, parent(&claimed), &server(&answer)).await;
    let attributes = three(json!({
        "codeq.submit.status": "FAILED", "codeq.attempt": 1, "codeq.artifact_count": 0,
    }));
    is_described(&submit, "INTERNAL", "codeq/results", attributes);
    assert_eq!(parent(&node.producer().task(id).await), submit.traceparent());
    assert!(collector.spans().iter().all(|span| !span.name.starts_with("EVALSHA")));
}

#[tokio::test]
async fn t6_what_producers_and_administrators_do_goes_on_with_the_trace() {
    let redis = Redis::start().await;
    let (node, collector) = traced(&redis).await;
    let task = json!({"command": "m", "payload": 1, "maxAttempts": 1});
    let created = within(node.producer().create(task), INCOMING).await.json_of(202);
    let id = text(&created, "id");
    let claimed = node.worker().claimed("m").await;
    let nack = json!({"delaySeconds": 7, "reason": "the printer is on fire"});
    let answer = node.worker().nack(id, nack).lease(&claimed["leaseToken"]).await;
    let nack = collector.first("codeq.task.nack").await;
    is_a_step(&collector, &nack, parent(&claimed), &server(&answer)).await;
    let three = json!({"codeq.task_id": id, "codeq.command": "m", "codeq.tenant_id": "acme"});
    let with = |more: Value| {
        let mut all = three.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    is_described(
        &nack,
        "INTERNAL",
        "codeq/scheduler",
        with(json!({
            "codeq.worker_id": "worker", "codeq.delay_seconds": 0, "codeq.reason": "nack",
        })),
    );
    assert!(!collector.saw("on fire"), "what a worker writes is on no span");

    let answer = node.admin().bare_post("/admin/queues/m/dlq/requeue").await;
    assert_eq!(answer.json_of(200)["requeued"], 1);
    let redrive = collector.first("codeq.task.redrive").await;
    is_a_step(&collector, &redrive, &nack.traceparent(), &server(&answer)).await;
    is_described(&redrive, "INTERNAL", "codeq/scheduler", three.clone());
    assert_eq!(parent(&node.producer().task(id).await), redrive.traceparent());

    let answer = node.producer().bare_post(&format!("/tasks/{id}/cancel")).await;
    answer.json_of(200);
    let cancel = collector.first("codeq.task.cancel").await;
    is_a_step(&collector, &cancel, &redrive.traceparent(), &server(&answer)).await;
    is_described(&cancel, "INTERNAL", "codeq/scheduler", three);
    assert_eq!(parent(&answer.json()), cancel.traceparent());
}

#[tokio::test]
async fn t6_the_tasks_of_a_batch_have_spans_of_their_own_also_within_one_trace() {
    let redis = Redis::start().await;
    let (node, collector) = traced(&redis).await;
    let tasks: Vec<Value> = (0..5).map(|n| json!({"command": "m", "payload": n})).collect();
    let answer = within(node.producer().post("/tasks/batch", json!(tasks)), INCOMING).await;
    assert_eq!(answer.status, 200);
    let request = collector.of_traceparent(&server(&answer)).await;
    assert_eq!(request.at("messaging.batch.message_count"), 5);
    let creates = collector.count("codeq.task.create", 5).await;
    assert!(creates.iter().all(|create| create.is_below(&request)));

    let claim = node.worker().post("/tasks/claim/batch", json!({"commands": ["m"], "count": 5}));
    let answer = claim.await;
    let tasks = answer.json_of(200)["tasks"].as_array().unwrap().clone();
    let claims = collector.count("codeq.task.claim", 5).await;
    let ids: BTreeSet<_> = claims.iter().map(|claim| claim.id.clone()).collect();
    assert_eq!(ids.len(), 5, "two spans of a trace with one id would be one");
    for task in &tasks {
        let claim = claims.iter().find(|claim| claim.traceparent() == parent(task)).unwrap();
        assert_eq!(claim.at("codeq.task_id"), task["id"]);
        let create = creates.iter().find(|span| span.at("codeq.task_id") == task["id"]).unwrap();
        assert!(claim.is_below(create));
    }
    let request = collector.of_traceparent(&server(&answer)).await;
    assert_eq!(request.at("messaging.batch.message_count"), 5);
    assert!(creates.iter().all(|create| request.is_linked_to(create)), "{:?}", request.links);
    assert!(claims.iter().all(|claim| claim.is_linked_to(&request)));

    let verdicts: Vec<Value> = tasks
        .iter()
        .map(|task| json!({"taskId": task["id"], "status": "COMPLETED", "result": {}, "leaseToken": task["leaseToken"]}))
        .collect();
    let answer = node.worker().post("/tasks/batch/results", json!(verdicts)).await;
    let request = collector.of_traceparent(&server(&answer)).await;
    assert_eq!(request.at("messaging.batch.message_count"), 5);
    let submits = collector.count("codeq.task.submit_result", 5).await;
    assert!(submits.iter().all(|submit| claims.iter().any(|claim| submit.is_below(claim))));
}

#[tokio::test]
async fn t10_t12_every_part_has_its_scope_and_every_attribute_is_a_known_one() {
    let redis = Redis::start().await;
    let place = tempfile::tempdir().unwrap();
    let store = format!("file://{}", place.path().display());
    let receiver = crate::support::Receiver::start().await;
    let file = "tracing: { storeSpans: true }";
    let collector = Collector::start().await;
    let settings = collector.of(crate::support::Settings::on(&redis)).file(&redis, file);
    let settings = settings.set("WEBHOOK_ALLOW_PRIVATE_NETWORKS", "true");
    let node = settings.set("ARTIFACT_STORE", &store).start().await;
    let subscription = json!({"callbackUrl": receiver.url(), "eventTypes": ["m"]});
    node.worker().post("/workers/subscriptions", subscription).await.json_of(200);
    let task = json!({"command": "m", "payload": 1, "webhook": receiver.url()});
    let id = node.producer().created_as(task).await;
    let claimed = node.worker().claimed("m").await;
    let verdict = json!({
        "status": "COMPLETED", "result": {}, "leaseToken": claimed["leaseToken"],
        "artifacts": [{"name": "a.txt", "contentBase64": "aGk=", "contentType": "text/plain"}],
    });
    node.worker().submit(&id, verdict).await.json_of(200);
    node.producer().created_as(json!({"command": "late", "payload": 1, "delaySeconds": 1})).await;
    collector.first("codeq.webhook.task_result").await;
    collector.first("codeq.webhook.queue_ready").await;
    collector.first("codeq.sweep").await;

    let submit = collector.first("codeq.task.submit_result").await;
    let stored = collector.first("codeq.artifacts.store").await;
    assert!(stored.is_below(&submit), "{stored:?}");
    let bytes = json!({"codeq.artifact_count": 1, "codeq.artifact_bytes": 2});
    is_described(&stored, "CLIENT", "codeq/results", bytes);
    let call = collector.first("EVALSHA submit").await;
    let set = json!({
        "db.system.name": "redis", "db.operation.name": "EVALSHA",
        "db.stored_procedure.name": "submit",
    });
    is_described(&call, "CLIENT", "codeq/repository", set);
    let request = collector.first("POST /v1/codeq/tasks/{id}/result").await;
    assert!(call.is_below(&request), "{call:?}");

    let spans = collector.spans();
    let scopes: BTreeSet<&str> = spans.iter().map(|span| &*span.scope).collect();
    let known = [
        "codeq/http",
        "codeq/notifier",
        "codeq/repository",
        "codeq/result_callback",
        "codeq/results",
        "codeq/scheduler",
        "codeq/sweeper",
    ];
    assert_eq!(scopes, BTreeSet::from(known));
    let others = [
        "http.request.method",
        "http.route",
        "http.response.status_code",
        "http.request.resend_count",
        "url.path",
        "url.scheme",
        "network.protocol.version",
        "server.address",
        "server.port",
        "error.type",
    ];
    for span in &spans {
        for key in span.attributes.keys() {
            let known = ["codeq.", "messaging.", "db."].iter().any(|p| key.starts_with(p));
            assert!(known || others.contains(&&**key), "{key} on {}", span.name);
        }
    }
}

#[tokio::test]
async fn t11_nothing_that_a_client_fills_freely_is_on_a_span() {
    let redis = Redis::start().await;
    let receiver = crate::support::Receiver::start().await;
    let (node, collector) =
        traced_with(&redis, &[("WEBHOOK_HMAC_SECRET", "marker-secret-0123456789abcdef-0123")])
            .await;
    let url = format!("{}/marker-path?key=marker-query", receiver.origin());
    let task = json!({
        "command": "m", "payload": {"p": "marker-payload"}, "webhook": url, "maxAttempts": 2,
        "idempotencyKey": "marker-key",
    });
    let create = node.producer().create(task).header("user-agent", "marker-agent");
    let create = create.header("x-request-id", "marker-request").header("baggage", "a=marker-bag");
    let id = create.await.json_of(202)["id"].as_str().unwrap().to_owned();
    let claimed = node.worker().claimed("m").await;
    let nack = json!({"reason": "marker-reason", "leaseToken": claimed["leaseToken"]});
    node.worker().nack(&id, nack).await.json_of(200);
    node.producer().create(json!({"command": "m", "payload": 1, "webhook": "marker-url"})).await;
    node.producer().create(json!({"command": "marker\u{7}", "payload": 1})).await;
    node.anyone().get("/marker-unknown?x=marker-query").await;
    node.token("marker-token").get("/tasks/marker-id?x=marker-query").await;
    let done = json!({
        "command": "m", "payload": 1, "webhook": url,
    });
    let id = node.producer().created_as(done).await;
    let claimed = node.worker().claimed("m").await;
    let verdict = json!({
        "status": "FAILED", "error": "marker-error", "leaseToken": claimed["leaseToken"],
    });
    node.worker().submit(&id, verdict).await.json_of(200);
    collector.first("codeq.webhook.task_result").await;
    node.stop().await;
    assert!(collector.saw("codeq.task.nack") && collector.saw("_unmatched"));
    assert!(!collector.saw("marker"), "{:#?}", collector.spans());
}
