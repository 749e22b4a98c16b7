//! Promise 5: no tenant sees, takes, changes or infers another one's tasks.

use serde_json::{Value, json};

use super::text;
use crate::support::callers::{WORKER_SCOPES, token, workers};
use crate::support::{Client, Node, Redis, Settings};

/// A node whose workers `same-acme` and `same-globex` have one subject.
async fn node(redis: &Redis) -> Node {
    let mut known = workers();
    for tenant in ["acme", "globex"] {
        let mut same = token(&format!("same-{tenant}"), tenant, &WORKER_SCOPES, &["*"]);
        same["subject"] = json!("same");
        known.as_array_mut().unwrap().push(same);
    }
    Settings::on(redis).set("WORKER_AUTH_CONFIG", &known.to_string()).start().await
}

/// A task of `acme` in each state, and the token of the one that is leased.
async fn one_in_each_state(node: &Node) -> (Vec<(&'static str, String)>, Value) {
    let (producer, worker) = (node.producer(), node.token("same-acme"));
    let done = producer.created_as(json!({"command": "mail", "payload": 1})).await;
    worker.claimed("mail").await;
    worker.complete(&done).await.json_of(200);
    let last = json!({"command": "mail", "payload": 1, "maxAttempts": 1});
    let dead = producer.created_as(last).await;
    worker.claimed("mail").await;
    worker.nack(&dead, json!({"reason": "no"})).await.json_of(200);
    let leased = producer.created_as(json!({"command": "mail", "payload": 1})).await;
    let lease = worker.claimed("mail").await["leaseToken"].clone();
    let ready = producer.created_as(json!({"command": "mail", "payload": 1})).await;
    let later = json!({"command": "mail", "payload": 1, "delaySeconds": 600});
    let delayed = producer.created_as(later).await;
    let all = [
        ("done", done),
        ("dead", dead),
        ("leased", leased),
        ("ready", ready),
        ("delayed", delayed),
    ];
    (all.into(), lease)
}

/// Every call that names a task.
async fn by_id(producer: &Client, worker: &Client, id: &str, lease: &Value) -> Vec<String> {
    let verdict = json!({"status": "COMPLETED", "result": {}});
    let batch = json!({"results": [{"taskId": id, "status": "COMPLETED", "result": {}}]});
    let calls = [
        producer.read(id),
        worker.read(id),
        producer.result(id),
        producer.result_within(id, 1),
        producer.timeline(id),
        producer.bare_post(&format!("/tasks/{id}/cancel")),
        producer.delete(&format!("/admin/tasks/{id}")),
        worker.heartbeat(id),
        worker.heartbeat(id).lease(lease),
        worker.abandon(id).lease(lease),
        worker.nack(id, json!({})).lease(lease),
        worker.submit(id, verdict).lease(lease),
        worker.post("/tasks/batch/results", batch),
    ];
    let mut answers = Vec::new();
    for call in calls {
        let answer = call.await;
        let mut body = answer.json();
        if let Some(fields) = body.as_object_mut() {
            fields.remove("requestId");
        }
        answers.push(format!("{} {body}", answer.status).replace(id, "<id>"));
    }
    answers
}

#[tokio::test]
async fn a_foreign_task_is_answered_as_one_that_does_not_exist_also_with_the_same_subject() {
    // Item 17 of the failures.
    let redis = Redis::start().await;
    let node = node(&redis).await;
    let (tasks, lease) = one_in_each_state(&node).await;
    let (producer, worker) = (node.token("globex-admin"), node.token("same-globex"));
    // An id of the same form that nobody has: the last character makes the difference.
    let nobodys = |id: &str| {
        let other = if id.ends_with('0') { '1' } else { '0' };
        format!("{}{other}", &id[..id.len() - 1])
    };
    let before = whole(&node, &tasks).await;
    for (state, id) in &tasks {
        let foreign = by_id(&producer, &worker, id, &lease).await;
        let absent = by_id(&producer, &worker, &nobodys(id), &lease).await;
        assert_eq!(foreign, absent, "a {state} task");
        let refused = foreign.iter().filter(|answer| answer.starts_with("404 ")).count();
        assert_eq!(refused, foreign.len() - 1, "{foreign:#?}");
        assert!(foreign.last().unwrap().contains("not_found"), "{foreign:#?}");
    }
    assert_eq!(whole(&node, &tasks).await, before, "a refused call changed something");
    node.token("same-acme").complete(&tasks[2].1).lease(&lease).await.json_of(200);
}

/// Everything that the owner can see.
async fn whole(node: &Node, tasks: &[(&str, String)]) -> Vec<Value> {
    let admin = node.admin();
    let mut seen = Vec::new();
    for (_, id) in tasks {
        seen.push(admin.task(id).await);
        seen.push(admin.timeline(id).await.json_of(200));
    }
    let mut queue = admin.get("/admin/queues/mail").await.json_of(200);
    queue.as_object_mut().unwrap().remove("oldestReadyAgeSeconds");
    seen.push(queue);
    seen
}

#[tokio::test]
async fn lists_counts_claims_and_switches_stop_at_the_tenant() {
    let redis = Redis::start().await;
    let node = node(&redis).await;
    let (tasks, _) = one_in_each_state(&node).await;
    let (admin, worker) = (node.token("globex-admin"), node.token("same-globex"));
    assert_eq!(admin.get("/admin/queues").await.json_of(200), json!([]));
    assert_eq!(admin.counts("mail").await, [0, 0, 0, 0]);
    for state in ["ready", "delayed", "in_progress", "dlq"] {
        let page = admin.get(&format!("/admin/queues/mail/tasks?state={state}")).await.json_of(200);
        assert_eq!(page, json!({"items": []}), "{state}");
    }
    assert_eq!(worker.claim("mail").await.status, 204);
    assert_eq!(worker.claim_as(json!({})).await.status, 204);
    let dead = json!({"ids": [tasks[1].1]});
    let requeue = admin.post("/admin/queues/mail/dlq/requeue", dead.clone()).await.json_of(200);
    assert_eq!(requeue, json!({"requeued": 0}));
    let purge = admin.post("/admin/queues/mail/dlq/purge", dead).await.json_of(200);
    assert_eq!(purge, json!({"purged": 0}));
    assert_eq!(admin.get("/admin/queues?tenant=acme").await.status, 403);

    let policy = json!({"maxAttempts": 1});
    admin.put("/admin/topics/mail", policy).await.json_of(201);
    admin.bare_post("/admin/queues/mail/pause").await.json_of(200);
    let created = node.producer().created("mail").await;
    assert_eq!(created["maxAttempts"], 5, "another tenant's policy");
    assert_eq!(node.admin().counts("mail").await, [2, 1, 1, 1]);
    assert_eq!(node.worker().claim("mail").await.status, 200, "another tenant's pause");
}

#[tokio::test]
async fn an_idempotency_key_belongs_to_its_tenant() {
    // Item 16 of the failures: the second tenant got the first one's whole task.
    let redis = Redis::start().await;
    let node = node(&redis).await;
    let of = |secret: &str| json!({"command": "mail", "payload": secret, "idempotencyKey": "k"});
    let ours = node.producer().create(of("ours")).await;
    let theirs = node.token("globex-producer").create(of("theirs")).await;
    assert!(!theirs.is_replayed());
    let theirs = theirs.json_of(202);
    assert_ne!(text(&ours.json_of(202), "id"), text(&theirs, "id"));
    assert_eq!(text(&theirs, "payload"), "\"theirs\"");
    let claimed = node.token("same-globex").claimed("mail").await;
    assert_eq!(text(&claimed, "payload"), "\"theirs\"");
}
