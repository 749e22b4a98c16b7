use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;

const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nused_memory:1048576\r\n\
                    maxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n\
                    connected_slaves:1\r\nslave0:ip=10.0.0.7,port=6379,state=online,lag=1\r\n";

struct Node {
    routes: Router,
    draining: CancellationToken,
    metrics: Metrics,
    readiness: Readiness,
}

fn node(redis: Result<RedisFacts, String>) -> Node {
    let draining = CancellationToken::new();
    let metrics = Metrics::new();
    let readiness = Readiness::new(draining.clone(), &metrics);
    let health = Health::new(readiness.clone(), metrics.clone(), Exporting::default(), move || {
        std::future::ready(redis.clone())
    });
    let scraper = Scraper::new(metrics.clone(), || async {
        Ok::<_, String>(crate::diagnostics::Reading::default())
    });
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

fn facts() -> RedisFacts {
    RedisFacts {
        latency: Duration::from_micros(310),
        info: INFO.into(),
        connections: Some([2, 6, 8]),
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
            "replicas": 1, "replication_lag_seconds": 1
        })
    );
    assert_eq!(report["checks"]["telemetry"], json!({ "status": "healthy", "exporting": false }));
    assert_eq!(report["checks"]["sweeper"], json!({ "status": "healthy" }));
    assert!(!report.to_string().contains("10.0.0.7"), "no host in an answer without a token");
}

#[tokio::test]
async fn the_worst_check_decides() {
    let slow = node(Ok(RedisFacts { latency: Duration::from_millis(150), ..facts() }));
    let (status, report) = ask(&slow, "/health").await;
    assert_eq!((status, &report["status"]), (StatusCode::OK, &json!("degraded")));

    let away = node(Err("away".into()));
    let (status, report) = ask(&away, "/health").await;
    assert_eq!((status, &report["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("unhealthy")));
    assert_eq!(report["checks"]["redis"], json!({ "status": "unhealthy", "error": "away" }));
}

#[tokio::test]
async fn an_outbox_that_is_late_degrades_the_node_and_dead_receivers_do_not() {
    let report = async |outbox: Option<OutboxDepth>| {
        let metrics = Metrics::new();
        let readiness = Readiness::new(CancellationToken::new(), &metrics);
        let facts = || std::future::ready(Ok(facts()));
        let health = Health::new(readiness, metrics, Exporting::default(), facts)
            .with_outbox(move || std::future::ready(outbox));
        serde_json::to_value(health.report().await).unwrap()
    };
    let depth = OutboxDepth {
        pending: 2,
        parked: 40,
        dead: 3,
        oldest_age_seconds: 1.5,
        destinations: [5, 2, 0, 0],
    };
    let well = report(Some(depth)).await;
    assert_eq!(
        well["checks"]["outbox"],
        json!({"status": "healthy", "pending": 42, "dead": 3, "oldest_age_seconds": 1.5})
    );
    let breakers = json!({"status": "healthy", "open_breakers": 2, "store": "closed"});
    assert_eq!(well["checks"]["circuit_breakers"], breakers);
    let late = report(Some(OutboxDepth { oldest_age_seconds: 301.0, ..depth })).await;
    assert_eq!(late["checks"]["outbox"]["status"], "degraded");
    assert_eq!(report(None).await["checks"]["outbox"], json!({"status": "degraded"}));
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
    let node = node(Ok(facts()));
    for (looked, status) in [
        (Ok(Duration::from_millis(12)), json!({"status": "healthy", "latency_ms": 12.0})),
        (Err("no connection".to_owned()), json!({"status": "degraded", "error": "no connection"})),
    ] {
        let worst = status["status"].clone();
        let health =
            Health::new(node.readiness.clone(), node.metrics.clone(), Exporting::default(), || {
                std::future::ready(Ok(facts()))
            });
        let health = health.with_artifacts(move || std::future::ready(looked.clone()));
        let report = serde_json::to_value(health.report().await).unwrap();
        assert_eq!(report["checks"]["artifacts"], status);
        assert_eq!(report["status"], worst);
    }
}
