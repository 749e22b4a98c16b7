//! How a node starts, and what keeps it from starting.

use serde_json::{Value, json};

use crate::support::{Node, Redis, Settings, eventually};

#[tokio::test]
async fn a_node_that_counts_partitions_differently_ends_and_names_both_numbers() {
    let redis = Redis::start().await;
    let first = Node::with(&redis, &[("PARTITIONS", "16")]).await;
    first.producer().created("m").await;
    let (code, lines) = Settings::on(&redis).set("PARTITIONS", "8").fails().await;
    assert_eq!(code, Some(1), "{lines:#?}");
    let said = lines.join("\n");
    assert!(said.contains("16") && said.contains('8') && said.contains("partitions"), "{said}");
    assert_eq!(first.worker().claim("m").await.status, 200, "the first node goes on");
}

#[tokio::test]
async fn a_node_starts_without_redis_and_takes_requests_when_it_comes() {
    let mut redis = Redis::away(&["--appendonly", "no"]);
    let node = Settings::on(&redis).launch().await;
    let ready = node.anyone().get("//readyz").await;
    assert_eq!((ready.status, ready.text()), (503, r#"{"status":"unready"}"#));
    assert_eq!(node.anyone().get("//healthz").await.status, 200);
    let refused = node.producer().create(json!({"command": "m", "payload": 1})).await;
    assert_eq!(refused.refusal(), "503 store_unavailable store unavailable");
    assert_eq!(node.anyone().get("//metrics").await.status, 200);
    redis.begin().await;
    node.until_ready().await;
    node.producer().created("m").await;
    assert_eq!(node.worker().claim("m").await.status, 200);
}

#[tokio::test]
async fn wrong_settings_end_a_node_with_code_2_and_every_problem_by_name() {
    let redis = Redis::start().await;
    let settings = Settings::on(&redis)
        .set("PARTITIONS", "0")
        .set("BACKOFF_POLICY", "sometimes")
        .set("MAX_CLAIM_BATCH", "1000");
    let (code, lines) = settings.fails().await;
    assert_eq!(code, Some(2), "{lines:#?}");
    let said = lines.join("\n");
    for name in ["partitions", "backoffPolicy", "maxClaimBatch"] {
        assert!(said.contains(name), "{name} is not in {said}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_ends_a_node_with_code_1_and_says_which() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let origin = node.anyone().origin;
    let port = origin.rsplit(':').next().unwrap();
    let (code, lines) = Settings::on(&redis).set("PORT", port).fails().await;
    assert_eq!(code, Some(1));
    assert!(lines.join("\n").contains(port), "{lines:#?}");
}

#[tokio::test]
async fn every_log_line_is_json_with_the_common_fields_and_no_secret() {
    let secret = "s3cr3t-of-redis";
    let redis = Redis::with(&["--appendonly", "no", "--requirepass", secret]).await;
    let settings =
        Settings::at(&format!("redis+unix://{}?pass={secret}", redis.socket().display()));
    let node = settings.set("LOG_LEVEL", "trace").launch().await;
    let answered = eventually("the node uses its password", async || {
        (node.anyone().get("//readyz").await.status == 200).then_some(())
    });
    answered.await;
    node.producer().created("m").await;
    let claimed = node.worker().claimed("m").await;
    node.worker().complete(claimed["id"].as_str().unwrap()).await.json_of(200);
    node.token("wrong-token-of-somebody").read("x").await;
    node.operator().get("/admin/queues?tenant=*").await.json_of(200);
    let lease = claimed["leaseToken"].as_str().unwrap().to_owned();
    let lines = node.stop().await;
    assert!(lines.len() > 3);
    for line in &lines {
        let said: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        for field in [
            "timestamp",
            "level",
            "service",
            "env",
            "version",
            "instance",
            "target",
            "category",
            "message",
        ] {
            assert!(said[field].is_string(), "{field} is missing in {line}");
        }
        for secret in [secret, "wrong-token-of-somebody", "Bearer ", &lease] {
            assert!(!line.contains(secret), "{secret} is in {line}");
        }
    }
}
