//! The health report and the probes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::callers::workers;
use crate::support::{Node, Redis, Settings, eventually};

/// The names of the probes.
const LIVE: [&str; 2] = ["//healthz", "//health/live"];
const READY: [&str; 3] = ["//readyz", "//ready", "//health/ready"];

async fn report(node: &Node) -> Value {
    node.anyone().get("//health").await.json()
}

/// The check of this name, when it says that.
async fn until_check(node: &Node, name: &str, status: &str) -> Value {
    eventually(&format!("{name} is {status}"), async || {
        let report = report(node).await;
        (report["checks"][name]["status"] == status).then_some(report)
    })
    .await
}

#[tokio::test]
async fn h1_the_report_and_every_name_of_the_probes_answer() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    for path in ["//health"].into_iter().chain(LIVE).chain(READY) {
        assert_eq!(node.anyone().get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn h2_the_report_has_the_fields_of_its_document_and_a_lost_redis_makes_it_unhealthy() {
    let mut redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let artifacts = format!("file://{}", folder.path().display());
    let node = Node::with(&redis, &[("ARTIFACT_STORE", &artifacts)]).await;
    node.producer().created("m").await;
    node.worker().claimed("m").await;
    let report = eventually("everything was looked at", async || {
        let report = report(&node).await;
        let swept = report["checks"]["sweeper"]["last_success_seconds"].is_number();
        (swept && report["checks"]["workers"]["active"] == 1).then_some(report)
    })
    .await;
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut expected =
        vec!["status", "timestamp", "version", "uptime_seconds", "draining", "checks"];
    expected.sort_unstable();
    assert_eq!(names(&report), expected);
    // What depends on how Redis and the node are set up is not there in every report.
    let documents: [(&str, &[&str], &[&str]); 9] = [
        (
            "redis",
            &[
                "latency_ms",
                "role",
                "connections_in_use",
                "connections_idle",
                "connections_max",
                "memory_used_bytes",
                "maxmemory_policy",
                "aof",
                "replicas",
            ],
            &["error", "memory_max_bytes", "replication_lag_seconds"],
        ),
        ("circuit_breakers", &["open_breakers", "store"], &[]),
        ("sweeper", &["last_success_seconds"], &[]),
        ("outbox", &["pending", "dead", "oldest_age_seconds"], &[]),
        ("auth", &[], &["jwks_age_seconds"]),
        ("workers", &["active", "waiters", "subscriptions", "overdue_leases"], &[]),
        ("artifacts", &["latency_ms"], &["error"]),
        ("resources", &["memory_bytes", "open_fds", "max_fds"], &["memory_limit_bytes"]),
        ("telemetry", &["exporting"], &[]),
    ];
    let mut checks: Vec<_> = documents.iter().map(|(name, ..)| (*name).to_owned()).collect();
    checks.sort();
    assert_eq!(names(&report["checks"]), checks);
    for (name, always, sometimes) in documents {
        let fields = names(&report["checks"][name]);
        for field in ["status"].iter().chain(always) {
            assert!(fields.iter().any(|found| found == field), "{name}.{field}: {report}");
        }
        let known = |found: &str| {
            found == "status" || always.contains(&found) || sometimes.contains(&found)
        };
        assert!(fields.iter().all(|found| known(found)), "{name}: {fields:?}");
    }

    redis.kill();
    let lost = until_check(&node, "redis", "unhealthy").await;
    assert_eq!(lost["status"], "unhealthy");
    assert!(lost["checks"]["redis"]["error"].is_string(), "{lost}");
    assert_eq!(node.anyone().get("//health").await.status, 503);
}

#[tokio::test]
async fn h3_each_indicator_shows_what_is_wrong() {
    let redis = Redis::with(&["--appendonly", "no", "--maxmemory", "1gb"]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let artifacts = format!("file://{}/below-a-file", file.path().display());
    // Nobody answers at port 1: no key set can be fetched, no span exported.
    let nowhere = json!({"jwksUrl": "http://127.0.0.1:1/keys", "issuer": "i", "audience": "a"});
    let config = json!({"providers": [
        {"type": "static", "config": workers()}, {"type": "jwks", "config": nowhere},
    ]});
    let node = Settings::on(&redis)
        .set("ARTIFACT_STORE", &artifacts)
        .set("WORKER_AUTH_PROVIDER", "multi")
        .set("WORKER_AUTH_CONFIG", &config.to_string())
        .set("TRACING_ENABLED", "true")
        .set("TRACING_OTLP_ENDPOINT", "http://127.0.0.1:1")
        .set("OTEL_BSP_SCHEDULE_DELAY", "50")
        .start()
        .await;
    until_check(&node, "workers", "healthy").await;
    let auth = until_check(&node, "auth", "degraded").await;
    assert_eq!(auth["status"], "degraded", "{auth}");

    // A queue that nobody calls for, until somebody does.
    node.producer().created("alone").await;
    let alone = until_check(&node, "workers", "degraded").await;
    assert_eq!(
        (&alone["status"], alone["checks"]["workers"]["active"].as_u64()),
        (&json!("degraded"), Some(0))
    );
    node.worker().claimed("alone").await;
    node.producer().created("alone").await;
    until_check(&node, "workers", "healthy").await;

    // The spans of these calls find no collector.
    let failing = until_check(&node, "telemetry", "degraded").await;
    assert_eq!(failing["checks"]["telemetry"]["exporting"], false);
    assert_eq!(failing["status"], "degraded");

    let lost = until_check(&node, "artifacts", "degraded").await;
    assert!(lost["checks"]["artifacts"]["error"].is_string(), "{lost}");

    // A store with so little room left that it takes no new tasks.
    let used: String = redis.command("INFO memory").await;
    let used = used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().to_owned();
    let _: () = redis
        .command(&format!("CONFIG SET maxmemory {}", used.parse::<u64>().unwrap() + 65_536))
        .await;
    eventually("Redis is nearly full", async || {
        let report = report(&node).await;
        let error = report["checks"]["redis"]["error"].as_str()?.to_owned();
        error.contains("nearly full").then_some(())
    })
    .await;
    assert_eq!(node.anyone().get("//health").await.status, 200, "degraded is no reason to leave");
    assert_eq!(node.anyone().get("//readyz").await.status, 200);
}

#[tokio::test]
async fn h3_a_store_that_takes_a_tenth_of_a_second_is_slow() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let stutters = async {
        loop {
            redis.freeze();
            tokio::time::sleep(Duration::from_millis(300)).await;
            redis.thaw();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let slow = tokio::select! {
        slow = until_check(&node, "redis", "degraded") => slow,
        () = stutters => unreachable!("it stutters for ever"),
    };
    assert_eq!(slow["checks"]["redis"]["error"], "slow", "{slow}");
    assert!(slow["checks"]["redis"]["latency_ms"].as_f64().unwrap() > 100.0, "{slow}");
}

#[tokio::test]
async fn h4_a_node_without_redis_lives() {
    let redis = Redis::away(&[]);
    let node = Settings::on(&redis).launch().await;
    until_check(&node, "redis", "unhealthy").await;
    for path in LIVE {
        let answer = node.anyone().get(path).await;
        assert_eq!((answer.status, answer.text()), (200, r#"{"status":"ok"}"#), "{path}");
    }
}

#[tokio::test]
async fn h5_a_node_leaves_after_three_failed_checks_and_at_once_when_it_drains() {
    let redis = Redis::start().await;
    let mut node = Settings::on(&redis).set("SHUTDOWN_DELAY_SECONDS", "5").start().await;
    let is_ready = async || node.anyone().get("//readyz").await.status == 200;
    redis.freeze();
    let frozen = Instant::now();
    eventually("the node leaves", async || (!is_ready().await).then_some(())).await;
    let left = frozen.elapsed();
    // The first check ends up to a second after, and the third is two seconds later.
    assert!(left > Duration::from_millis(1900), "a blip is no reason to leave: {left:?}");
    redis.thaw();
    node.until_ready().await;

    node.terminate();
    node.line(|line| line["event"] == "node.draining").await;
    for path in READY {
        let answer = node.anyone().get(path).await;
        assert_eq!((answer.status, answer.text()), (503, r#"{"status":"draining"}"#), "{path}");
    }
    let draining = node.anyone().get("//health").await;
    assert_eq!((draining.status, &draining.json()["draining"]), (503, &json!(true)));
    assert_eq!(node.anyone().get("//healthz").await.status, 200, "it lives until it has ended");
    node.kill();
}

#[tokio::test]
async fn h7_the_report_holds_no_secret_host_or_tenant() {
    let mut redis = Redis::start().await;
    let marker = "h7marker";
    let file = tempfile::Builder::new().prefix(marker).tempfile().unwrap();
    let artifacts = format!("file://{}/{marker}", file.path().display());
    let node = Settings::on(&redis)
        .set("WEBHOOK_HMAC_SECRET", &format!("{marker}-secret-of-thirty-two-characters"))
        .set("ARTIFACT_STORE", &artifacts)
        .set("TRACING_ENABLED", "true")
        .set("TRACING_OTLP_ENDPOINT", &format!("http://{marker}.invalid:4317"))
        .set("OTEL_BSP_SCHEDULE_DELAY", "50")
        .start()
        .await;
    let url = format!("https://{marker}.example/hook?key={marker}");
    let body = json!({"command": format!("{marker}-command"), "payload": marker, "webhook": url});
    node.producer().created_as(body).await;
    let clean = |text: &str| {
        for secret in [marker, "acme", "producer", "redis.sock", "127.0.0.1", "/tmp"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    };
    until_check(&node, "telemetry", "degraded").await;
    clean(node.anyone().get("//health").await.text());
    redis.kill();
    until_check(&node, "redis", "unhealthy").await;
    clean(node.anyone().get("//health").await.text());
    for path in LIVE.into_iter().chain(READY) {
        clean(node.anyone().get(path).await.text());
    }
}
