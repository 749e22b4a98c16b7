use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::diagnostics::{CommandDepth, OutboxDepth, Scraper};

const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nused_memory:1048576\r\n\
                    maxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n\
                    connected_slaves:2\r\nslave0:ip=10.0.0.7,port=6379,state=online,lag=1\r\n\
                    slave1:ip=10.0.0.8,port=6379,state=online,lag=4\r\n\
                    slave_read_only:1\r\n";

struct Node {
    routes: Router,
    draining: CancellationToken,
    metrics: Metrics,
    readiness: Readiness,
}

fn node(redis: Result<RedisFacts, String>) -> Node {
    node_with(redis, |health| health)
}

fn node_with(redis: Result<RedisFacts, String>, more: impl FnOnce(Health) -> Health) -> Node {
    let draining = CancellationToken::new();
    let metrics = Metrics::new();
    let readiness = Readiness::new(draining.clone(), &metrics);
    let health = Health::new(readiness.clone(), metrics.clone(), Exporting::default(), move || {
        std::future::ready(redis.clone())
    });
    let health = more(health);
    let scraper = Scraper::new(metrics.clone(), || async { Ok::<_, String>(Reading::default()) });
    let routes = routes(Probes { readiness: readiness.clone(), health, scraper });
    Node { routes, draining, metrics, readiness }
}

async fn ask(node: &Node, path: &str) -> (StatusCode, Value) {
    let request = http::Request::get(path).body(Body::empty()).unwrap();
    let answer = node.routes.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

/// The status of the node, and the check of this name.
async fn check(node: &Node, name: &str) -> (Value, Value) {
    let (_, report) = ask(node, "/health").await;
    (report["status"].clone(), report["checks"][name].clone())
}

fn facts() -> RedisFacts {
    RedisFacts {
        latency: Duration::from_micros(310),
        info: INFO.into(),
        connections: Some([2, 6, 8]),
        nearly_full: false,
    }
}

#[tokio::test]
async fn liveness_has_nothing_to_do_with_redis() {
    let node = node(Err("away".into()));
    for path in ["/healthz", "/health/live"] {
        assert_eq!(ask(&node, path).await, (StatusCode::OK, json!({ "status": "ok" })), "{path}");
    }
}

#[tokio::test]
async fn readiness_answers_under_all_its_names() {
    let node = node(Ok(facts()));
    let paths = ["/readyz", "/ready", "/health/ready"];
    for path in paths {
        assert_eq!(ask(&node, path).await.0, StatusCode::SERVICE_UNAVAILABLE, "{path} at start");
    }
    let watch = node.readiness.watch(|| async { Ok::<(), String>(()) });
    tokio::spawn(watch.run(node.draining.clone()));
    while !node.readiness.is_ready() {
        tokio::task::yield_now().await;
    }
    for path in paths {
        assert_eq!(ask(&node, path).await, (StatusCode::OK, json!({ "status": "ok" })), "{path}");
    }
    node.draining.cancel();
    for path in paths {
        let draining = json!({ "status": "draining" });
        assert_eq!(ask(&node, path).await, (StatusCode::SERVICE_UNAVAILABLE, draining), "{path}");
    }
}

#[tokio::test]
async fn the_report_says_how_everything_is() {
    let node = node(Ok(facts()));
    let (status, report) = ask(&node, "/health").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(report["status"], "healthy", "{report}");
    assert_eq!(report["draining"], false);
    assert!(report["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        report["checks"]["redis"],
        json!({
            "status": "healthy", "latency_ms": 0.31, "role": "master",
            "connections_in_use": 2, "connections_idle": 6, "connections_max": 8,
            "memory_used_bytes": 1_048_576, "maxmemory_policy": "noeviction", "aof": true,
            "replicas": 2, "replication_lag_seconds": 4
        })
    );
    assert_eq!(report["checks"]["telemetry"], json!({ "status": "healthy", "exporting": false }));
    assert_eq!(report["checks"]["sweeper"], json!({ "status": "healthy" }));
    assert!(!report.to_string().contains("10.0.0."), "no host in an answer without a token");
}

#[tokio::test]
async fn what_is_wrong_with_redis_is_said() {
    let slow = RedisFacts { latency: Duration::from_millis(150), ..facts() };
    let full = RedisFacts { nearly_full: true, ..facts() };
    let info = INFO.replace("noeviction", "allkeys-lru");
    let evicts = RedisFacts { info, ..facts() };
    for (facts, error) in [
        (slow, "slow"),
        (full, "nearly full: new tasks are refused"),
        (evicts, "it evicts keys when it is full"),
    ] {
        let (status, redis) = check(&node(Ok(facts)), "redis").await;
        let degraded = json!("degraded");
        assert_eq!(
            (status, &redis["status"], &redis["error"]),
            (degraded.clone(), &degraded, &json!(error))
        );
    }
    let away = node(Err("away".into()));
    let (status, report) = ask(&away, "/health").await;
    assert_eq!((status, &report["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("unhealthy")));
    assert_eq!(report["checks"]["redis"], json!({ "status": "unhealthy", "error": "away" }));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_or_hangs_fails_and_the_report_comes() {
    async fn broken() -> Result<Duration, String> {
        panic!("on purpose")
    }
    let panics = node_with(Ok(facts()), |health| health.with_artifacts(broken));
    let (status, artifacts) = check(&panics, "artifacts").await;
    let said = json!({ "status": "degraded", "error": "the check itself failed" });
    assert_eq!((status, artifacts), (json!("degraded"), said));

    let hangs = node_with(Ok(facts()), |health| health.with_artifacts(std::future::pending));
    let (_, artifacts) = check(&hangs, "artifacts").await;
    assert_eq!(artifacts["error"], "no answer within two seconds");
}

fn outbox() -> OutboxDepth {
    OutboxDepth {
        pending: 2,
        parked: 40,
        dead: 3,
        oldest_age_seconds: 1.5,
        destinations: [5, 2, 0, 0],
    }
}

fn read(reading: Result<Reading, String>) -> Node {
    let reading = move || std::future::ready(reading.clone());
    node_with(Ok(facts()), |health| health.with_reading(reading))
}

#[tokio::test]
async fn an_outbox_that_is_late_degrades_the_node_and_dead_receivers_do_not() {
    let reading = |depth| read(Ok(Reading { outbox: Some(depth), ..Reading::default() }));
    let well = reading(outbox());
    assert_eq!(
        check(&well, "outbox").await,
        (
            json!("healthy"),
            json!({"status": "healthy", "pending": 42, "dead": 3, "oldest_age_seconds": 1.5})
        )
    );
    let breakers = json!({"status": "healthy", "open_breakers": 2, "store": "closed"});
    assert_eq!(check(&well, "circuit_breakers").await.1, breakers);
    let late = reading(OutboxDepth { oldest_age_seconds: 301.0, ..outbox() });
    assert_eq!(check(&late, "outbox").await.1["status"], "degraded");
    let unknown = read(Err("away".into()));
    assert_eq!(check(&unknown, "outbox").await, (json!("degraded"), json!({"status": "degraded"})));
}

#[tokio::test]
async fn ready_tasks_that_nobody_calls_for_degrade_the_node() {
    let busy = CommandDepth {
        label: "render".into(),
        ready: 3,
        workers: 2,
        subscriptions: 1,
        ..CommandDepth::default()
    };
    let with = |command: CommandDepth| {
        let commands = vec![busy.clone(), command];
        read(Ok(Reading {
            commands,
            overdue_leases: 7,
            outbox: Some(outbox()),
            ..Reading::default()
        }))
    };
    let idle = CommandDepth { label: "idle".into(), ..CommandDepth::default() };
    let well = with(idle.clone());
    let _waits = well.metrics.waiters.with(Wait::Claim).hold();
    assert_eq!(
        check(&well, "workers").await,
        (
            json!("healthy"),
            json!({"status": "healthy", "active": 2, "waiters": 1, "subscriptions": 1, "overdue_leases": 7})
        )
    );
    let left_alone = CommandDepth { ready: 1, ..idle };
    let (status, workers) = check(&with(left_alone.clone()), "workers").await;
    assert_eq!((status, &workers["status"]), (json!("degraded"), &json!("degraded")));
    let paused = CommandDepth { paused: true, ..left_alone };
    assert_eq!(check(&with(paused), "workers").await.0, "healthy", "nobody is to call for it");
}

#[tokio::test]
async fn key_sets_that_are_old_or_missing_degrade_the_node() {
    let with =
        |key_sets| node_with(Ok(facts()), move |health| health.with_key_sets(move || key_sets));
    let fetched = |seconds| Some(KeySets { age: Some(Duration::from_secs(seconds)) });
    for (key_sets, status, age) in [
        (None, "healthy", Value::Null),
        (fetched(60), "healthy", json!(60.0)),
        (fetched(3601), "degraded", json!(3601.0)),
        (Some(KeySets { age: None }), "degraded", Value::Null),
    ] {
        let (of_node, auth) = check(&with(key_sets), "auth").await;
        assert_eq!((&of_node, &auth["status"]), (&json!(status), &json!(status)), "{key_sets:?}");
        assert_eq!(auth["jwks_age_seconds"], age);
    }
}

#[tokio::test]
async fn a_stuck_sweeper_degrades_the_node() {
    let node = node(Ok(facts()));
    let minute_ago = jiff::Timestamp::now().as_second() as f64 - 60.0;
    node.metrics.sweep_last_success.set(minute_ago);
    let (status, report) = ask(&node, "/health").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(report["checks"]["sweeper"]["status"], "degraded", "{report}");
}

#[tokio::test]
async fn a_draining_node_is_out_whatever_else_it_is() {
    let node = node(Ok(facts()));
    node.draining.cancel();
    let (status, report) = ask(&node, "/health").await;
    assert_eq!((status, &report["draining"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(true)));
    assert_eq!(report["status"], "healthy");
}

#[tokio::test]
async fn a_lost_artifact_store_degrades_the_node_and_no_more() {
    for (looked, found) in [
        (Ok(Duration::from_millis(12)), json!({"status": "healthy", "latency_ms": 12.0})),
        (Err("no connection".to_owned()), json!({"status": "degraded", "error": "no connection"})),
    ] {
        let looked = move || std::future::ready(looked.clone());
        let node = node_with(Ok(facts()), |health| health.with_artifacts(looked));
        assert_eq!(check(&node, "artifacts").await, (found["status"].clone(), found));
    }
}
