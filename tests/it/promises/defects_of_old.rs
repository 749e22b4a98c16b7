//! Where an earlier broker with this API broke, item by item, seen from outside.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{create_many, drain, ids, quick, settled, text, waiting_claims};
use crate::support::{Client, Fleet, Node, Raw, Redis, eventually};

const WORKING: Duration = Duration::from_millis(400);

#[tokio::test]
async fn a_node_killed_in_the_middle_of_claims_loses_no_task() {
    // Item 1: between the pop and the lease, a crash made the task vanish.
    let redis = Redis::start().await;
    let mut fleet = Fleet::start(quick(&redis), 2).await;
    let created = create_many(&fleet.node(1).producer(), 300, json!({"command": "mail"})).await;
    let worker = fleet.node(0).worker();
    let claiming: Vec<_> = (0..8)
        .map(|_| {
            let worker = worker.clone();
            tokio::spawn(async move {
                let ask = json!({"commands": ["mail"], "leaseSeconds": 1, "count": 3});
                loop {
                    if worker.post("/tasks/claim/batch", ask.clone()).sent().await.is_err() {
                        sleep(Duration::from_millis(5)).await;
                    }
                }
            })
        })
        .collect();
    for _ in 0..4 {
        // Long enough to be in the middle of it.
        sleep(WORKING).await;
        fleet.crash(0).await;
    }
    claiming.iter().for_each(tokio::task::JoinHandle::abort);
    settled(&fleet.node(1).admin(), "mail", [300, 0, 0, 0]).await;
    let delivered = drain(&fleet.node(1).worker(), "mail").await;
    assert_eq!(ids(&delivered), created.into_iter().collect());
}

/// A claim as bytes on a connection of its own; `wait` in seconds, the lease short or long.
async fn raw_claim(node: &Node, wait: u32, lease: u32) -> Raw {
    let body =
        json!({"commands": ["mail"], "waitSeconds": wait, "leaseSeconds": lease}).to_string();
    let mut raw = Raw::to(&node.anyone().origin).await;
    raw.send(&format!(
        "POST /v1/codeq/tasks/claim HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer worker\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    raw
}

#[tokio::test]
async fn a_client_that_disconnects_in_the_middle_of_a_claim_loses_no_task() {
    // Item 2: the client's end cancelled the undo as well.
    let redis = Redis::start().await;
    let node = quick(&redis).start().await;
    let created = create_many(&node.producer(), 100, json!({"command": "mail"})).await;
    join_all((0..150).map(|n| {
        let node = &node;
        async move {
            let claim = raw_claim(node, 0, 1).await;
            sleep(Duration::from_micros(100 * (n % 60))).await;
            drop(claim);
        }
    }))
    .await;
    settled(&node.admin(), "mail", [100, 0, 0, 0]).await;
    let delivered = drain(&node.worker(), "mail").await;
    assert_eq!(ids(&delivered), created.into_iter().collect());
}

#[tokio::test]
async fn clients_that_left_while_they_waited_are_given_nothing() {
    // Item 2, and 33 of the catalogue: not even for the time of a lease.
    let redis = Redis::start().await;
    let node = quick(&redis).start().await;
    let claims: Vec<_> = join_all((0..100).map(|_| raw_claim(&node, 30, 600))).await;
    waiting_claims(&node, 100).await;
    drop(claims);
    waiting_claims(&node, 0).await;
    create_many(&node.producer(), 50, json!({"command": "mail"})).await;
    let delivered = drain(&node.worker(), "mail").await;
    assert_eq!(ids(&delivered).len(), 50);
    assert!(delivered.iter().all(|task| task["attempts"] == 1), "{delivered:?}");
}

#[tokio::test]
async fn many_nodes_that_sweep_at_once_deliver_each_task_once() {
    // Item 8: two sweeps at once duplicated tasks. Item 31: nothing moved unless somebody claimed.
    let redis = Redis::start().await;
    let fleet = Fleet::start(quick(&redis), 3).await;
    let producer = fleet.node(0).producer();
    let leased = create_many(&producer, 100, json!({"command": "mail"})).await;
    let ask = json!({"commands": ["mail"], "leaseSeconds": 1, "count": 100});
    fleet.node(0).worker().post("/tasks/claim/batch", ask).await.json_of(200);
    let due = json!({"command": "mail", "delaySeconds": 1});
    let delayed = create_many(&producer, 200, due).await;
    settled(&fleet.node(1).admin(), "mail", [300, 0, 0, 0]).await;

    let workers = fleet.nodes().iter().map(Node::worker).collect::<Vec<_>>();
    let delivered = join_all(workers.iter().map(|worker| drain(worker, "mail"))).await.concat();
    let (leased, delayed): (BTreeSet<_>, BTreeSet<_>) =
        (leased.into_iter().collect(), delayed.into_iter().collect());
    assert_eq!(ids(&delivered), &leased | &delayed);
    for task in &delivered {
        let attempts = if leased.contains(&text(task, "id")) { 2 } else { 1 };
        assert_eq!(task["attempts"], attempts, "{task}");
    }
    let mut expired = 0.0;
    for node in fleet.nodes() {
        expired += node.scrape().await.sum("codeq_lease_expired_total", "");
    }
    assert_eq!(expired, 100.0, "each lease that ended is counted once");
    let ends = delivered.iter().map(|task| {
        workers[0].complete(task["id"].as_str().unwrap()).lease(&task["leaseToken"]).into_future()
    });
    for answer in join_all(ends).await {
        assert!(!answer.is_replayed());
        answer.json_of(200);
    }
    settled(&fleet.node(2).admin(), "mail", [0, 0, 0, 0]).await;
}

#[tokio::test]
async fn what_is_due_moves_although_nobody_claims() {
    // Item 31: an expired lease was found by a sample of 200, and only by a claim.
    let redis = Redis::start().await;
    let settings = quick(&redis).set("BACKOFF_POLICY", "fixed");
    let node = settings.start().await;
    let due = json!({"command": "mail", "delaySeconds": 1});
    create_many(&node.producer(), 500, due).await;
    settled(&node.admin(), "mail", [500, 0, 0, 0]).await;
    let worker = node.worker();
    for _ in 0..5 {
        let ask = json!({"commands": ["mail"], "leaseSeconds": 1, "count": 100});
        worker.post("/tasks/claim/batch", ask).await.json_of(200);
    }
    assert_eq!(node.admin().counts("mail").await[0], 0);
    settled(&node.admin(), "mail", [500, 0, 0, 0]).await;
}

#[tokio::test]
async fn neither_cleanup_nor_retention_touches_a_live_task() {
    // Item 5: whatever had passed its retention was deleted, queued or scheduled or running.
    let redis = Redis::start().await;
    let node = quick(&redis).set("TASK_RETENTION_SECONDS", "1").start().await;
    let (producer, worker) = (node.producer(), node.worker());
    let done = text(&producer.created("mail").await, "id");
    worker.claimed("mail").await;
    let leased = text(&producer.created("mail").await, "id");
    worker.complete(&done).await.json_of(200);
    let lease = worker.claimed("mail").await;
    let ready = text(&producer.created("mail").await, "id");
    let later = json!({"command": "mail", "payload": 1, "delaySeconds": 200_000});
    let delayed = producer.created_as(later).await;
    let live = BTreeSet::from([leased.clone(), ready.clone(), delayed.clone()]);
    eventually("the finished task is gone", || async {
        (producer.read(&done).await.status == 404).then_some(())
    })
    .await;
    let all = json!({"before": "2999-01-01T00:00:00Z", "limit": 1000});
    let cleaned = node.admin().post("/admin/tasks/cleanup", all).await.json_of(200);
    assert_eq!(cleaned["deleted"], 0);
    for id in &live {
        producer.task(id).await;
    }
    for key in redis.keys().await.iter().filter(|key| key.contains(":b:")) {
        let ttl: i64 = redis.command(&format!("PTTL {key}")).await;
        assert_eq!(ttl, -1, "{key} of a live task expires");
    }
    worker.complete(&leased).lease(&lease["leaseToken"]).await.json_of(200);
    assert_eq!(text(&worker.claimed("mail").await, "id"), ready);
}

#[tokio::test]
async fn a_heartbeat_on_a_lease_that_ended_is_refused() {
    // Item 11: it answered ok.
    let redis = Redis::start().await;
    let node = quick(&redis).start().await;
    let id = text(&node.producer().created("mail").await, "id");
    let ask = json!({"commands": ["mail"], "leaseSeconds": 1});
    let lease = node.worker().claim_as(ask).await.json_of(200)["leaseToken"].clone();
    eventually("the lease ends", || async {
        (node.producer().task(&id).await["status"] == "PENDING").then_some(())
    })
    .await;
    let calls = [
        node.worker().heartbeat(&id),
        node.worker().heartbeat(&id).lease(&lease),
        node.worker().complete(&id).lease(&lease),
        node.worker().nack(&id, json!({})).lease(&lease),
        node.worker().abandon(&id).lease(&lease),
    ];
    for call in calls {
        assert_eq!(call.await.refusal(), "409 not_in_progress not-in-progress");
    }
    settled(&node.admin(), "mail", [1, 0, 0, 0]).await;
    let again = node.other_worker().claimed("mail").await;
    assert_eq!(again["attempts"], 2);
    let late = node.worker().heartbeat(&id).lease(&lease).await;
    assert_eq!(late.refusal(), "409 lease_lost lease-lost");
}

/// Items handed to the store so far, of a kind.
async fn handed(node: &Node, operation: &str) -> f64 {
    let part = format!("operation=\"{operation}\"");
    node.scrape().await.sum("codeq_store_operations_total", &part)
}

#[tokio::test]
async fn a_call_by_id_asks_one_partition_once() {
    // Item 36: it fanned out to all shards, and an unknown shard became the default.
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let before = handed(&node, "read").await;
    let nobodys = [
        "0199f3f5-8c00-7000-8000-000000000000", // partition 0
        "0199f3f5-8c00-700f-8000-000000000000", // partition 15
        "0199f3f5-8c00-7010-8000-000000000000", // partition 16 of 16: there is none
        "0199f3f5-8c00-7fff-8000-000000000000",
        "0199f3f5-8c00-4000-8000-000000000000", // not of version 7
        "0199F3F5-8C00-7000-8000-000000000000", // upper case
        "mail",
        "%00",
        "{codeq:1}",
    ];
    for id in nobodys {
        assert_eq!(node.producer().read(id).await.refusal(), "404 not_found not found", "{id}");
    }
    let asked = handed(&node, "read").await - before;
    assert!(asked <= 2.0, "{asked} questions for two ids that could exist");
}

#[tokio::test]
async fn a_rate_limit_is_the_subjects_and_not_the_tokens_and_a_batch_counts_each_item() {
    // Item 37: a refreshed token was a new bucket, a batch of 100 cost one, by the node's clock.
    let redis = Redis::start().await;
    let settings = quick(&redis)
        .set("RATE_LIMIT_PRODUCER_REQUESTS_PER_MINUTE", "1")
        .set("RATE_LIMIT_PRODUCER_BURST_SIZE", "10");
    let fleet = Fleet::start(settings, 2).await;
    let tasks = vec![json!({"command": "mail", "payload": 1}); 6];
    let batch = |node: usize, token: &str| {
        fleet.node(node).token(token).post("/tasks/batch", json!({"tasks": tasks.clone()}))
    };
    batch(0, "producer").await.json_of(200);
    let one = json!({"command": "mail", "payload": 1});
    for _ in 0..4 {
        fleet.node(1).token("producer-refreshed").create(one.clone()).await.json_of(202);
    }
    for token in ["producer", "producer-refreshed"] {
        for node in 0..2 {
            let refused = fleet.node(node).token(token).create(one.clone()).await;
            assert_eq!(refused.refusal(), "429 rate_limited rate limit exceeded");
            let seconds: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
            assert!((1..=60).contains(&seconds), "{seconds}");
            assert_eq!(refused.json()["scope"], "producer");
            assert_eq!(refused.json()["operation"], "create_task");
        }
    }
    batch(1, "producer-2").await.json_of(200);
    batch(0, "globex-producer").await.json_of(200);
    assert_eq!(fleet.node(0).admin().counts("mail").await, [16, 0, 0, 0]);
}

#[tokio::test]
async fn what_a_caller_may_ask_for_is_bounded() {
    // Item 39: no limit of bodies, leases, extensions and attempts.
    let redis = Redis::start().await;
    let node = quick(&redis).set("MAX_BODY_BYTES", "10000").start().await;
    let (producer, worker) = (node.producer(), node.worker());
    let large = json!({"command": "mail", "payload": "x".repeat(10_000)});
    assert_eq!(producer.create(large).await.refusal(), "413 body_too_large body too large");
    let endless = json!({"command": "mail", "payload": 1, "maxAttempts": i64::MAX});
    let task = producer.create(endless).await.json_of(202);
    assert_eq!(task["maxAttempts"], 1000);
    let id = text(&task, "id");
    let ask = json!({"commands": ["mail"], "leaseSeconds": i64::MAX});
    let claimed = worker.claim_as(ask).await.json_of(200);
    let until = |task: &Value| task["leaseUntil"].as_str().unwrap().parse::<jiff::Timestamp>();
    let limit = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(43_200 + 60);
    assert!(until(&claimed).unwrap() < limit, "{claimed}");
    let path = format!("/tasks/{id}/heartbeat");
    let kept = worker.post(&path, json!({"extendSeconds": i64::MAX})).await.json_of(200);
    assert!(until(&kept).unwrap() < limit, "{kept}");
    let nacked = worker.nack(&id, json!({"delaySeconds": i64::MAX})).await.json_of(200);
    assert_eq!(nacked["delaySeconds"], 900, "backoffMaxSeconds");
    for bad in
        [json!({"leaseSeconds": 1e300}), json!({"leaseSeconds": 1.5}), json!({"waitSeconds": "1"})]
    {
        assert_eq!(worker.claim_as(bad).await.status, 400);
    }
}

#[tokio::test]
async fn no_back_off_policy_waits_longer_than_is_allowed() {
    // Item 39: many attempts overflowed the back-off. Beside the scripts the formula is tested.
    for policy in ["exp_full_jitter", "exp_equal_jitter", "exponential", "linear"] {
        let redis = Redis::start().await;
        let node = Node::with(
            &redis,
            &[
                ("BACKOFF_POLICY", policy),
                ("BACKOFF_BASE_SECONDS", "1"),
                ("BACKOFF_MAX_SECONDS", "1"),
            ],
        )
        .await;
        let endless = json!({"command": "mail", "payload": 1, "maxAttempts": 1000});
        let id = node.producer().created_as(endless).await;
        for attempt in 1..=3 {
            let waits = json!({"commands": ["mail"], "waitSeconds": 5});
            let task = node.worker().claim_as(waits).await.json_of(200);
            assert_eq!(task["attempts"], attempt);
            let nacked = node.worker().nack(&id, json!({})).await.json_of(200);
            assert_eq!(nacked["status"], "requeued");
            assert!(nacked["delaySeconds"].as_u64().unwrap() <= 1, "{policy}: {nacked}");
        }
    }
}

/// Reads a task until it is gone; each answer is whole.
async fn read_to_the_end(reader: Client, id: String) -> u32 {
    let mut seen = 0;
    loop {
        let (task, result, timeline) =
            tokio::join!(reader.read(&id), reader.result(&id), reader.timeline(&id));
        if task.status == 200 {
            assert_eq!(task.json()["status"], "COMPLETED");
            assert_eq!(text(&task.json(), "payload").len(), 30_002);
            seen += 1;
        }
        if result.status == 200 {
            let result = result.json();
            assert_eq!(result["result"]["result"]["r"].as_str().unwrap().len(), 20_000);
            assert_eq!(text(&result["task"], "payload").len(), 30_002);
        }
        for answer in [&task, &result, &timeline] {
            assert!(matches!(answer.status, 200 | 404), "{}", answer.shown());
        }
        if task.status == 404 {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_task_whose_retention_ends_while_it_is_read_is_whole_or_not_there() {
    // Item 39 of the catalogue; payload and result are large, so each is in a key of its own.
    let redis = Redis::start().await;
    let node = quick(&redis).set("TASK_RETENTION_SECONDS", "1").start().await;
    let (producer, worker) = (node.producer(), node.worker());
    let mut readers = Vec::new();
    for _ in 0..12 {
        producer
            .create(json!({"command": "mail", "payload": "p".repeat(30_000)}))
            .await
            .json_of(202);
        let task = worker.claimed("mail").await;
        let id = text(&task, "id");
        let result = json!({"status": "COMPLETED", "result": {"r": "r".repeat(20_000)}});
        worker.submit(&id, result).lease(&task["leaseToken"]).await.json_of(200);
        readers.push(tokio::spawn(read_to_the_end(producer.clone(), id)));
    }
    for reader in readers {
        assert!(reader.await.unwrap() > 0, "never read while it was there");
    }
}
