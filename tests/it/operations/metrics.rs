//! The scrape: every count exact, over the fleet and on every node.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Node, Redis, eventually};

/// Two nodes on one Redis.
struct Fleet {
    nodes: [Node; 2],
}

impl Fleet {
    async fn on(redis: &Redis, variables: &[(&str, &str)]) -> Self {
        Self { nodes: [Node::with(redis, variables).await, Node::with(redis, variables).await] }
    }

    /// The sum of a series over all nodes.
    async fn sum(&self, series: &str) -> f64 {
        let mut sum = 0.0;
        for node in &self.nodes {
            sum += node.scrape().await.value(series);
        }
        sum
    }
}

#[tokio::test]
async fn a_scrape_needs_no_token_and_is_text_of_version_0_0_4() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let answer = node.anyone().get("//metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4"));
    assert!(answer.text().contains("# TYPE codeq_http_requests_total counter"));
    let mut series = answer.text().lines().filter(|line| !line.starts_with('#'));
    let phantom = series.find(|line| line.contains("_init") || line.contains("command=\"\""));
    assert_eq!(phantom, None, "no value that stands for nothing");
}

#[tokio::test]
async fn accepted_tasks_count_once_and_replays_not_at_all() {
    let redis = Redis::start().await;
    let fleet = Fleet::on(&redis, &[]).await;
    let [here, there] = &fleet.nodes;
    let keyed = json!({"command": "Gen.X", "payload": 1, "idempotencyKey": "k"});
    here.producer().create(keyed.clone()).await.json_of(202);
    there.producer().create(keyed).await.json_of(202);
    here.producer().created("Gen.X").await;
    there.producer().created("gen.x").await;
    let mut batch: Vec<Value> = (0..5).map(|n| json!({"command": "Gen.X", "payload": n})).collect();
    batch[2] = json!({"command": "Gen.X"});
    here.producer().post("/tasks/batch", json!(batch)).await.json_of(200);
    assert_eq!(
        fleet.sum("codeq_task_created_total{command=\"Gen.X\"}").await,
        7.0,
        "under the first spelling"
    );
}

#[tokio::test]
async fn deliveries_count_once_however_they_were_claimed() {
    let redis = Redis::start().await;
    let fleet = Fleet::on(&redis, &[]).await;
    let [here, there] = &fleet.nodes;
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
    assert_eq!(fleet.sum("codeq_task_claimed_total{command=\"m\"}").await, 6.0);
}

#[tokio::test]
async fn ends_count_once_per_task_by_how_they_ended() {
    let redis = Redis::start().await;
    let fleet = Fleet::on(&redis, &[]).await;
    let [here, there] = &fleet.nodes;
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
        let labels = format!("{{command=\"m\",status=\"{status}\"}}");
        assert_eq!(
            fleet.sum(&format!("codeq_task_completed_total{labels}")).await,
            ended,
            "{status}"
        );
        let count = format!("codeq_task_processing_latency_seconds_count{labels}");
        assert_eq!(fleet.sum(&count).await, ended, "{status}");
    }
}

#[tokio::test]
async fn the_time_from_creation_to_end_is_a_histogram_with_the_buckets_of_the_contract() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let id = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    node.worker().claimed("m").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    node.worker().complete(&id).await.json_of(200);
    let text = node.anyone().get("//metrics").await.text().to_owned();
    let prefix =
        "codeq_task_processing_latency_seconds_bucket{command=\"m\",status=\"COMPLETED\",le=\"";
    let buckets: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix(prefix)?.split_once("\"} "))
        .map(|(le, count)| (le.to_owned(), count.to_owned()))
        .collect();
    let bounds: Vec<&str> = buckets.iter().map(|(le, _)| le.as_str()).collect();
    let expected = [
        "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60", "120", "300", "600", "1800",
        "3600", "+Inf",
    ];
    assert_eq!(bounds, expected);
    let count = |le: &str| buckets.iter().find(|(bound, _)| bound == le).unwrap().1.as_str();
    assert_eq!((count("1"), count("5")), ("0", "1"));
}

#[tokio::test]
async fn a_lease_that_ends_counts_once_in_the_fleet() {
    let redis = Redis::start().await;
    let fleet = Fleet::on(&redis, &[]).await;
    let [here, there] = &fleet.nodes;
    let id =
        here.producer().created_as(json!({"command": "m", "payload": 1, "maxAttempts": 1})).await;
    here.worker().claim_as(json!({"leaseSeconds": 1})).await.json_of(200);
    let ended = there.producer().result_within(&id, 20).await.json_of(200);
    assert_eq!(ended["result"]["error"], "LEASE_EXPIRED");
    let series = "codeq_lease_expired_total{command=\"m\"}";
    eventually("it is counted", async || (fleet.sum(series).await == 1.0).then_some(())).await;
    let failed = "codeq_task_completed_total{command=\"m\",status=\"FAILED\"}";
    assert_eq!(fleet.sum(failed).await, 1.0);
}

#[tokio::test]
async fn depths_are_exact_on_every_node_and_sum_over_tenants() {
    let redis = Redis::start().await;
    let fleet = Fleet::on(&redis, &[]).await;
    let [here, there] = &fleet.nodes;
    for token in ["producer", "globex-producer"] {
        let (producer, worker) = (
            here.token(token),
            here.token(if token == "producer" { "worker" } else { "globex-worker" }),
        );
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
            producer
                .create(json!({"command": "m", "payload": 1, "delaySeconds": 60}))
                .await
                .json_of(202);
        }
    }
    for node in [here, there] {
        // A reading serves every scraper for a second.
        eventually("the depths are these", async || {
            let scrape = node.scrape().await;
            let depth = |queue: &str| {
                scrape.value(&format!("codeq_queue_depth{{command=\"m\",queue=\"{queue}\"}}"))
            };
            let found = ["ready", "delayed", "in_progress", "dlq"].map(depth);
            let dead = scrape.value("codeq_dlq_depth{command=\"m\"}");
            (found == [6.0, 4.0, 2.0, 2.0] && dead == 2.0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_redis_that_hangs_costs_a_scrape_its_depths_and_at_most_three_seconds() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    node.producer().created("m").await;
    redis.freeze();
    // The reading of the moment before may still serve.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let began = Instant::now();
    let answer = node.anyone().get("//metrics").await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("codeq_scrape_collector_success 0"));
    assert!(!answer.text().contains("\ncodeq_queue_depth{"));
    assert!(answer.text().contains("process_resident_memory_bytes"));
    redis.thaw();
}

#[tokio::test]
async fn gauges_of_what_is_under_way_return_to_zero() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..60 {
        let call = match n % 4 {
            0 => node.worker().claim_as(json!({"commands": ["none"], "waitSeconds": 30})),
            1 => node.producer().create(json!({"command": "m", "payload": 1})),
            2 => node.token("nobody").read("x"),
            _ => node.producer().result_within("019b0000-0000-7000-8000-000000000000", 5),
        };
        calls.spawn(call.into_future());
    }
    eventually("claims wait", async || {
        (node.scrape().await.value("codeq_waiters{kind=\"claim\"}") == 15.0).then_some(())
    })
    .await;
    calls.abort_all();
    while calls.join_next().await.is_some() {}
    eventually("nothing is under way", async || {
        let scrape = node.scrape().await;
        let gauges = [
            "codeq_waiters{kind=\"claim\"}",
            "codeq_waiters{kind=\"result\"}",
            "codeq_http_requests_in_flight",
        ];
        gauges.iter().all(|gauge| scrape.value(gauge) == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn routes_are_counted_by_template_and_unknown_paths_share_one() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    for n in 0..20 {
        node.producer().read(&format!("none-{n}")).await;
        node.producer().get(&format!("/nothing/{n}")).await;
    }
    let scrape = node.scrape().await;
    let series =
        "codeq_http_requests_total{code=\"404\",method=\"GET\",route=\"/v1/codeq/tasks/{id}\"}";
    assert_eq!(scrape.value(series), 20.0);
    assert_eq!(
        scrape.value("codeq_http_requests_total{code=\"404\",method=\"GET\",route=\"_unmatched\"}"),
        20.0
    );
    assert_eq!(scrape.sum("codeq_http_requests_total", "none-"), 0.0);
}

#[tokio::test]
async fn a_command_has_one_name_in_metric_and_log() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let id = node.producer().created("Gen.X").await["id"].as_str().unwrap().to_owned();
    node.worker().claimed("gen.x").await;
    node.worker().complete(&id).await.json_of(200);
    for event in ["task.created", "task.claimed", "task.completed"] {
        let line = node.line(|line| line["event"] == event).await;
        assert_eq!(line["context"]["command"], "Gen.X", "{line}");
        assert_eq!(line["context"]["task_id"], id.as_str(), "{line}");
    }
    let scrape = node.scrape().await;
    for family in ["created", "claimed", "completed"] {
        let family = format!("codeq_task_{family}_total");
        assert_eq!(scrape.sum(&family, "command=\"Gen.X\""), 1.0, "{family}");
    }
}
