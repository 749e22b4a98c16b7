//! The metrics that existing dashboards know.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Nodes, at_most, buckets, of_m, quick};
use crate::support::{Receiver, Redis, Reply, eventually};

#[tokio::test]
async fn m2_accepted_tasks_count_once_and_replays_not_at_all() {
    let redis = Redis::start().await;
    let nodes = Nodes::on(&redis, 2).await;
    let [here, there] = &nodes.0[..] else { panic!("two nodes") };
    let keyed = json!({"command": "Gen.X", "payload": 1, "idempotencyKey": "k"});
    here.producer().create(keyed.clone()).await.json_of(202);
    there.producer().create(keyed).await.json_of(202);
    here.producer().created("Gen.X").await;
    there.producer().created("gen.x").await;
    let mut batch: Vec<Value> = (0..5).map(|n| json!({"command": "Gen.X", "payload": n})).collect();
    batch[2] = json!({"command": "Gen.X"});
    here.producer().post("/tasks/batch", json!(batch)).await.json_of(200);
    let of = |name: &str| format!("codeq_task_{name}_total{{command=\"Gen.X\"}}");
    assert_eq!(nodes.sum(&of("created")).await, 7.0, "under the first spelling");
    assert_eq!(nodes.sum(&of("idempotent_replays")).await, 1.0);
}

#[tokio::test]
async fn m3_deliveries_count_once_however_they_were_claimed() {
    let redis = Redis::start().await;
    let nodes = Nodes::on(&redis, 2).await;
    let [here, there] = &nodes.0[..] else { panic!("two nodes") };
    for _ in 0..5 {
        here.producer().created("m").await;
    }
    there.worker().claimed("m").await;
    let body = json!({"commands": ["m"], "count": 10});
    let batch = here.worker().post("/tasks/claim/batch", body).await.json_of(200);
    assert_eq!(batch["tasks"].as_array().unwrap().len(), 4);
    let wait = there.worker().claim_as(json!({"commands": ["m"], "waitSeconds": 30}));
    let wait = tokio::spawn(wait.into_future());
    eventually("it waits", async || {
        (there.scrape().await.value("codeq_waiters{kind=\"claim\"}") == 1.0).then_some(())
    })
    .await;
    here.producer().created("m").await;
    wait.await.unwrap().json_of(200);
    assert_eq!(here.worker().claim("m").await.status, 204, "an empty claim is none");
    assert_eq!(nodes.sum("codeq_task_claimed_total{command=\"m\"}").await, 6.0);
}

#[tokio::test]
async fn m3_what_was_claimed_for_a_client_that_left_is_claimed_and_returned() {
    let redis = Redis::start().await;
    let nodes = Nodes::on(&redis, 1).await;
    let node = &nodes.0[0];
    let lasting = json!({"command": "m", "payload": 1, "maxAttempts": 100});
    let id = node.producer().created_as(lasting).await;
    let names = [
        "task_claimed_total",
        "task_returned_total{reason=\"undelivered\"}",
        "task_retries_total{reason=\"lease_expired\"}",
    ];
    // While Redis stands still the client goes away. The claim is not sent, or done for nobody, or
    // answered before the node has noticed: then its lease runs out.
    for _ in 0..10 {
        redis.freeze();
        let claim = json!({"commands": ["m"], "leaseSeconds": 1});
        let claim = node.worker().claim_as(claim).into_future();
        let left = tokio::time::timeout(Duration::from_millis(100), claim).await;
        redis.thaw();
        assert!(left.is_err(), "nobody answered");
        eventually("what was taken came back", async || {
            let ready = node.admin().counts("m").await[0] == 1;
            let [claimed, returned, expired] = nodes.counted(names).await;
            (ready && claimed == returned + expired).then_some(())
        })
        .await;
        if nodes.counted(names).await[1] > 0.0 {
            break;
        }
    }
    let [before, ..] = nodes.counted(names).await;
    node.worker().claimed("m").await;
    node.worker().abandon(&id).await.json_of(200);
    let [claimed, undelivered, expired] = nodes.counted(names).await;
    assert_eq!((claimed, undelivered + expired), (before + 1.0, before));
    assert_eq!(nodes.sum(&of_m("task_returned_total{reason=\"abandon\"}")).await, 1.0);
}

#[tokio::test]
async fn m4_ends_count_once_per_task_by_how_they_ended() {
    let redis = Redis::start().await;
    let nodes = Nodes::on(&redis, 2).await;
    let [here, there] = &nodes.0[..] else { panic!("two nodes") };
    for n in 0..3 {
        let task = here.producer().created("m").await;
        let id = task["id"].as_str().unwrap();
        let lease = there.worker().claimed("m").await["leaseToken"].clone();
        let worker = if n == 0 { here.worker() } else { there.worker() };
        let end = || match n {
            2 => worker.fail(id, "no").lease(&lease),
            _ => worker.complete(id).lease(&lease),
        };
        end().await.json_of(200);
        assert!(end().await.is_replayed(), "a replay adds nothing");
    }
    let doomed =
        there.producer().created_as(json!({"command": "m", "payload": 1, "maxAttempts": 1})).await;
    here.worker().claimed("m").await;
    there.worker().nack(&doomed, json!({})).await.json_of(200);
    let cancelled = here.producer().created("m").await["id"].as_str().unwrap().to_owned();
    here.producer().bare_post(&format!("/tasks/{cancelled}/cancel")).await.json_of(200);
    for (status, ended) in [("COMPLETED", 2.0), ("FAILED", 2.0)] {
        let of = |name: &str| of_m(&format!("{name}{{status=\"{status}\"}}"));
        assert_eq!(nodes.sum(&of("task_completed_total")).await, ended, "{status}");
        let count = of("task_processing_latency_seconds_count");
        assert_eq!(nodes.sum(&count).await, ended, "{status}");
    }
    let others = nodes
        .counted([
            "task_cancelled_total",
            "task_dead_lettered_total{reason=\"nack\"}",
            "task_attempts_count",
        ])
        .await;
    assert_eq!(others, [1.0, 1.0, 4.0], "a cancel is no end that has attempts");
}

#[tokio::test]
async fn m5_the_time_from_creation_to_end_has_the_buckets_of_the_contract() {
    let redis = Redis::start().await;
    let nodes = Nodes::on(&redis, 1).await;
    let node = &nodes.0[0];
    let id = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    node.worker().claimed("m").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    node.worker().complete(&id).await.json_of(200);
    let scrape = node.scrape().await;
    let name = "task_processing_latency_seconds{status=\"COMPLETED\"}";
    let bounds: Vec<String> = buckets(&scrape, name).into_iter().map(|(le, _)| le).collect();
    let contract = "0.1 0.25 0.5 1 2.5 5 10 30 60 120 300 600 1800 3600 +Inf";
    assert_eq!(bounds.join(" "), contract);
    assert_eq!((at_most(&scrape, name, "1"), at_most(&scrape, name, "5")), (0.0, 1.0));
}

#[tokio::test]
async fn m6_a_lease_that_ends_counts_once_in_the_fleet() {
    let redis = Redis::start().await;
    let nodes = Nodes::on(&redis, 2).await;
    let [here, there] = &nodes.0[..] else { panic!("two nodes") };
    let id =
        here.producer().created_as(json!({"command": "m", "payload": 1, "maxAttempts": 2})).await;
    for _ in 0..2 {
        let ask = json!({"leaseSeconds": 1, "waitSeconds": 10});
        here.worker().claim_as(ask).await.json_of(200);
    }
    let ended = there.producer().result_within(&id, 20).await.json_of(200);
    assert_eq!(ended["result"]["error"], "LEASE_EXPIRED");
    let names = [
        "lease_expired_total",
        "task_retries_total{reason=\"lease_expired\"}",
        "task_dead_lettered_total{reason=\"lease_expired\"}",
        "task_completed_total{status=\"FAILED\"}",
    ];
    eventually("each is counted", async || {
        (nodes.counted(names).await == [2.0, 1.0, 1.0, 1.0]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn m7_deliveries_of_webhooks_count_once_and_not_per_attempt() {
    let redis = Redis::start().await;
    let settings = quick(&redis)
        .set("WEBHOOK_HMAC_SECRET", "0123456789abcdef0123456789abcdef")
        .set("RESULT_WEBHOOK_MAX_ATTEMPTS", "3")
        .set("RESULT_WEBHOOK_BASE_BACKOFF_SECONDS", "1");
    let nodes = Nodes::with(settings, 2).await;
    let [here, there] = &nodes.0[..] else { panic!("two nodes") };
    let (moody, broken) = (Receiver::start().await, Receiver::start().await);
    let mut asked = 0;
    moody.answers_by(move |_| {
        asked += 1;
        if asked < 3 { Reply::Status(500) } else { Reply::OK }
    });
    broken.answers(Reply::Status(500));
    for receiver in [&moody, &broken] {
        let id = here.producer().created_with_webhook("m", &receiver.url()).await;
        there.worker().claimed("m").await;
        there.worker().complete(&id).await.json_of(200);
    }
    let of = |outcome: &str| {
        format!(
            "codeq_webhook_deliveries_total{{command=\"m\",kind=\"task_result\",outcome=\"{outcome}\"}}"
        )
    };
    eventually("both have ended", async || {
        let ended = (nodes.sum(&of("success")).await, nodes.sum(&of("failure")).await);
        (ended == (1.0, 1.0)).then_some(())
    })
    .await;
    assert_eq!((moody.count(), broken.count()), (3, 3));
}

#[tokio::test]
async fn m8_each_limit_that_refuses_has_a_series_and_the_answer_names_the_same() {
    let redis = Redis::start().await;
    let mut settings = quick(&redis);
    for scope in ["PRODUCER", "WORKER", "ADMIN"] {
        settings = settings.set(&format!("RATE_LIMIT_{scope}_REQUESTS_PER_MINUTE"), "1");
    }
    let nodes = Nodes::with(settings, 1).await;
    let node = &nodes.0[0];
    let calls = || {
        let create = node.producer().create(json!({"command": "m", "payload": 1}));
        let cleanup = node.admin().bare_post("/admin/tasks/cleanup");
        [
            ("producer", "create_task", create),
            ("worker", "claim", node.worker().claim("m")),
            ("admin", "cleanup", cleanup),
        ]
    };
    for (scope, operation, call) in calls() {
        assert!(call.await.status < 300, "{scope} {operation}");
    }
    for (scope, operation, call) in calls() {
        let refused = call.await.json_of(429);
        assert_eq!((&refused["scope"], &refused["operation"]), (&json!(scope), &json!(operation)));
        let series =
            format!("codeq_rate_limit_hits_total{{operation=\"{operation}\",scope=\"{scope}\"}}");
        assert_eq!(node.scrape().await.value(&series), 1.0, "{series}");
    }
}

#[tokio::test]
async fn m9_depths_are_exact_on_every_node_and_sum_over_tenants() {
    let redis = Redis::start().await;
    let nodes = Nodes::on(&redis, 2).await;
    let here = &nodes.0[0];
    for (producer, worker) in [("producer", "worker"), ("globex-producer", "globex-worker")] {
        let (producer, worker) = (here.token(producer), here.token(worker));
        let dead =
            producer.created_as(json!({"command": "m", "payload": 1, "maxAttempts": 1})).await;
        worker.claimed("m").await;
        worker.nack(&dead, json!({})).await.json_of(200);
        producer.created("m").await;
        worker.claimed("m").await;
        for _ in 0..3 {
            producer.created("m").await;
        }
        for _ in 0..2 {
            let later = json!({"command": "m", "payload": 1, "delaySeconds": 60});
            producer.create(later).await.json_of(202);
        }
        let callback = json!({"callbackUrl": "http://127.0.0.1:9/", "eventTypes": ["m"]});
        worker.post("/workers/subscriptions", callback).await.json_of(200);
    }
    for node in &nodes.0 {
        // A reading serves every scraper for a second.
        eventually("the depths are these", async || {
            let scrape = node.scrape().await;
            let depth = |queue| scrape.value(&of_m(&format!("queue_depth{{queue=\"{queue}\"}}")));
            let found = ["ready", "delayed", "in_progress", "dlq"].map(depth);
            let others =
                ["dlq_depth", "subscriptions_active"].map(|name| scrape.value(&of_m(name)));
            (found == [6.0, 4.0, 2.0, 2.0] && others == [2.0, 2.0]).then_some(())
        })
        .await;
    }
}
