use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use http_body_util::BodyExt;
use pprof::protos::{Message as _, Profile};
use tower::ServiceExt;

use super::*;
use crate::telemetry::Metrics;
use crate::telemetry::waits::Point;

fn profiler() -> Profiler {
    Profiler::new("node-1", Metrics::new().waits().clone())
}

async fn ask(profiler: &Profiler, path: &str) -> (StatusCode, Vec<u8>) {
    let request = http::Request::get(format!("/debug/pprof/{path}")).body(Body::empty());
    let answer = profiler.routes().oneshot(request.unwrap()).await.unwrap();
    assert_eq!(answer.headers()["x-codeq-instance"], "node-1");
    let status = answer.status();
    (status, answer.into_body().collect().await.unwrap().to_bytes().to_vec())
}

/// Something to find in a profile.
fn burn(enough: &AtomicBool) -> u64 {
    let mut sum = 0_u64;
    while !enough.load(Ordering::Relaxed) {
        sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
    }
    sum
}

// One test: there is one profiler per process, and the harness runs tests side by side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_is_a_profile_and_the_second_one_waits_its_turn() {
    let enough = Arc::new(AtomicBool::new(false));
    let busy = enough.clone();
    let burning = std::thread::spawn(move || burn(&busy));

    let profiler = profiler();
    let running = profiler.capture.begin().unwrap();
    for capture in ["profile?seconds=1", "flamegraph?seconds=1", "heap"] {
        assert_eq!(ask(&profiler, capture).await.0, StatusCode::CONFLICT, "{capture}");
    }
    drop(running);
    let (status, bytes) = ask(&profiler, "profile?seconds=1").await;
    assert_eq!(status, StatusCode::OK);
    assert!(!Profile::parse_from_bytes(&bytes).unwrap().sample.is_empty());

    let (status, svg) = ask(&profiler, "flamegraph?seconds=1").await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&svg));
    assert!(String::from_utf8_lossy(&svg).contains("<svg"));

    enough.store(true, Ordering::Relaxed);
    burning.join().unwrap();
}

#[tokio::test]
async fn a_bad_argument_is_told() {
    let profiler = profiler();
    for path in ["profile", "flamegraph", "heap", "block", "mutex"] {
        for bad in ["0", "301", "-1", "abc", "1.5", "", "1&seconds=2", "1&debug=1"] {
            let (status, _) = ask(&profiler, &format!("{path}?seconds={bad}")).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {bad:?}");
        }
    }
}

#[tokio::test]
async fn what_there_is_not_says_so() {
    let profiler = profiler();
    for absent in capture::ABSENT {
        let (status, text) = ask(&profiler, absent).await;
        assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with(absent) && text.len() > absent.len() + 10, "{text}");
    }
    assert_eq!(ask(&profiler, "").await.0, StatusCode::OK);
    assert_eq!(ask(&profiler, "nothing").await.0, StatusCode::NOT_FOUND);
}

/// The function of each sample, its contentions and its delay in ns.
async fn waited(profiler: &Profiler, path: &str) -> Vec<(String, i64, i64)> {
    let (status, bytes) = ask(profiler, path).await;
    assert_eq!(status, StatusCode::OK);
    let profile = Profile::parse_from_bytes(&bytes).unwrap();
    let text = |at: i64| profile.string_table[usize::try_from(at).unwrap()].clone();
    let types: Vec<_> = profile.sample_type.iter().map(|t| (text(t.ty), text(t.unit))).collect();
    let expected = [("contentions", "count"), ("delay", "nanoseconds")];
    assert_eq!(types, expected.map(|(ty, unit)| (ty.to_owned(), unit.to_owned())));
    let name = |id: u64| text(profile.function.iter().find(|f| f.id == id).unwrap().name);
    profile.sample.iter().map(|s| (name(s.location_id[0]), s.value[0], s.value[1])).collect()
}

#[tokio::test(start_paused = true)]
async fn waits_are_one_function_each_since_the_start_or_in_some_seconds() {
    let profiler = profiler();
    assert_eq!(waited(&profiler, "block").await, [], "nothing has waited");
    let mut tally = profiler.waits.tally(Point::WebhookSlot);
    for _ in 0..3 {
        tally.add(Duration::from_millis(20));
    }
    tally.tell();
    let slot = |count, ns| [("codeq::wait::webhook_slot".to_owned(), count, ns)];
    for name in ["block", "mutex"] {
        assert_eq!(waited(&profiler, name).await, slot(3, 60_000_000), "{name}");
    }
    let later = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        tally.add(Duration::from_millis(7));
        tally.tell();
    };
    let (within, ()) = tokio::join!(waited(&profiler, "block?seconds=1"), later);
    assert_eq!(within, slot(1, 7_000_000), "of that second only");
}

#[tokio::test]
async fn the_runtime_is_shown() {
    let (status, json) = ask(&profiler(), "runtime").await;
    assert_eq!(status, StatusCode::OK);
    let runtime: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(runtime["workers"].as_array().unwrap().len(), 1);
    assert!(runtime["alive_tasks"].is_number() && runtime["global_queue_depth"].is_number());
}
