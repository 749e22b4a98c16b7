//! The scrape: what it is, and what it costs. What is counted of tasks is shown in
//! `observability/counts`.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Node, Redis, eventually};

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
async fn m10_a_redis_that_hangs_costs_a_scrape_its_depths_and_at_most_three_seconds() {
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
