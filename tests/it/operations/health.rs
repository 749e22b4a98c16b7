//! Probes and the health report.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Node, Redis, eventually};

#[tokio::test]
async fn probes_answer_without_a_token_under_all_their_names() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    for path in ["//healthz", "//health/live", "//readyz", "//ready", "//health/ready"] {
        let answer = node.anyone().get(path).await;
        assert_eq!((answer.status, answer.text()), (200, r#"{"status":"ok"}"#), "{path}");
    }
}

#[tokio::test]
async fn the_report_names_every_check_and_no_secret_host_or_tenant() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    node.producer().created("m").await;
    let report = node.anyone().get("//health").await;
    let health = report.json_of(200);
    assert!(matches!(health["status"].as_str(), Some("healthy" | "degraded")), "{health}");
    assert_eq!(health["draining"], false);
    assert!(health["version"].is_string() && health["uptime_seconds"].is_number());
    let redis_check = &health["checks"]["redis"];
    assert_eq!(redis_check["status"], "healthy", "{health}");
    assert!(redis_check["latency_ms"].is_number() && redis_check["memory_used_bytes"].is_number());
    assert_eq!(redis_check["role"], "master");
    for check in ["redis", "sweeper", "resources", "telemetry"] {
        assert!(health["checks"][check]["status"].is_string(), "{check}: {health}");
    }
    for secret in ["acme", "producer", "redis.sock", "127.0.0.1"] {
        assert!(!report.text().contains(secret), "{secret} is in {}", report.text());
    }
}

#[tokio::test]
async fn a_node_whose_redis_is_away_leaves_after_three_checks_and_comes_back() {
    let mut redis = Redis::start().await;
    let node = Node::on(&redis).await;
    redis.kill();
    let health = eventually("the report sees it", async || {
        let answer = node.anyone().get("//health").await;
        (answer.status == 503).then(|| answer.json())
    })
    .await;
    assert_eq!(health["status"], "unhealthy");
    assert_ne!(health["checks"]["redis"]["status"], "healthy");
    eventually("the node leaves", async || {
        (node.anyone().get("//readyz").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(node.anyone().get("//healthz").await.status, 200, "nobody restarts it");
    redis.begin().await;
    node.until_ready().await;
}

#[tokio::test]
async fn a_blip_of_redis_does_not_empty_the_service() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    redis.freeze();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(node.anyone().get("//readyz").await.status, 200, "one failed check is not three");
    redis.thaw();
    let answer: Value = eventually("Redis is back", async || {
        let answer = node.producer().create(json!({"command": "m", "payload": 1})).await;
        (answer.status == 202).then(|| answer.json())
    })
    .await;
    assert_eq!(answer["status"], "PENDING");
    assert_eq!(node.anyone().get("//readyz").await.status, 200);
}
