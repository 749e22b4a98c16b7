//! A collector that is away, hangs or refuses costs spans and nothing else; one that is there gets
//! them all before the node ends.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::traced_with;
use crate::support::{Collector, Node, Redis, Settings, eventually};

/// Listens, takes whatever comes, and never answers.
async fn black_hole() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            open.push(tokio::spawn(async move {
                let mut bytes = vec![0; 1 << 16];
                while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
                std::future::pending::<()>().await;
            }));
        }
    });
    address.to_string()
}

fn to(redis: &Redis, endpoint: &str) -> Settings {
    Settings::on(redis)
        .set("TRACING_ENABLED", "true")
        .set("TRACING_OTLP_ENDPOINT", endpoint)
        .set("OTEL_EXPORTER_OTLP_TIMEOUT", "500")
        .set("OTEL_BSP_SCHEDULE_DELAY", "50")
        // Many requests at once on a busy machine: what is looked at is not the store.
        .set("REDIS_COMMAND_TIMEOUT_MS", "10000")
}

/// Exports that failed so far.
async fn failures(node: &Node) -> f64 {
    node.scrape().await.value("codeq_otel_export_total{outcome=\"failure\"}")
}

fn warnings(lines: &[String], event: &str) -> usize {
    lines.iter().filter(|line| line.contains(&format!("\"event\":\"{event}\""))).count()
}

/// Sends so many requests, eight at a time; each is answered as it should be.
async fn requests(node: &Node, count: usize) {
    let each = (0..8).map(|_| {
        let producer = node.producer();
        tokio::spawn(async move {
            for _ in 0..count / 8 {
                assert_eq!(
                    producer.create(json!({"command": "m", "payload": 1})).await.status,
                    202
                );
            }
        })
    });
    for task in each.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

pub async fn serves_on(count: usize) {
    let redis = Redis::start().await;
    let hole = black_hole().await;
    // It talks plain HTTP to whom TLS is spoken.
    let plain = Collector::start().await;
    let refuses_tls = format!("https://{}", plain.address());
    for (endpoint, http) in [
        ("http://127.0.0.1:1".to_owned(), false),
        ("http://nowhere.invalid:4317".to_owned(), false),
        (format!("http://{hole}"), false),
        (format!("http://{hole}/v1/traces"), true),
        (refuses_tls, false),
    ] {
        let mut settings = to(&redis, &endpoint);
        if http {
            settings = settings.set("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        }
        let began = Instant::now();
        let node = settings.start().await;
        assert!(began.elapsed() < Duration::from_secs(5), "{endpoint}: {:?}", began.elapsed());
        requests(&node, count).await;
        eventually("exports fail", async || (failures(&node).await > 0.0).then_some(())).await;
        let health = node.anyone().get("//health").await;
        assert_eq!(health.status, 200, "{}", health.text());
        let began = Instant::now();
        let lines = node.stop().await;
        // Once in a while, and once more when the last spans are lost.
        let told = warnings(&lines, "telemetry.export_failed");
        assert!((1..=2).contains(&told), "{endpoint}: {told}");
        assert!(began.elapsed() < Duration::from_secs(7), "{endpoint}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn t22_t23_a_collector_that_cannot_be_used_is_told_of_once_and_nothing_waits_for_it() {
    serves_on(200).await;
}

/// Memory stays flat while every span is lost: the queue is bounded, and what it drops is counted.
pub async fn memory_stays_flat(count: usize) {
    let redis = Redis::start().await;
    let hole = black_hole().await;
    let settings = to(&redis, &format!("http://{hole}")).set("OTEL_EXPORTER_OTLP_TIMEOUT", "60000");
    let node = settings.start().await;
    let resident = || async { node.scrape().await.value("process_resident_memory_bytes") };
    requests(&node, count).await;
    let before = resident().await;
    requests(&node, count).await;
    let after = resident().await;
    assert!(after < before + 32e6, "{before} → {after}");
    assert!(node.scrape().await.value("codeq_otel_spans_dropped_total") > 0.0);
    let began = Instant::now();
    node.stop().await;
    // Five seconds for the last spans, one for the last lines, and the stop itself.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn t22_what_a_hanging_collector_does_not_take_is_dropped_and_counted() {
    memory_stays_flat(1600).await;
}

#[tokio::test]
async fn t23_all_spans_reach_the_collector_before_the_node_ends() {
    for (threads, protocol) in [("1", "grpc"), ("1", "http/protobuf"), ("2", "grpc")] {
        let redis = Redis::start().await;
        let variables = [
            ("TOKIO_WORKER_THREADS", threads),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            // Nothing goes before its time: all are queued when the node is told to stop.
            ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2048"),
        ];
        let (node, collector) = traced_with(&redis, &variables).await;
        let task = json!({"command": "m", "payload": 1});
        for _ in 0..9 {
            let batch = vec![task.clone(); 100];
            node.producer().post("/tasks/batch", json!(batch)).await.json_of(200);
        }
        assert_eq!(collector.spans().len(), 0);
        node.stop().await;
        assert_eq!(collector.named("codeq.task.create").len(), 900, "{threads} {protocol}");
        assert_eq!(collector.named("POST /v1/codeq/tasks/batch").len(), 9);
    }
}
