//! Nodes that are killed, stopped or away while there is something to tell.

use std::time::Duration;

use codeq::model::delivery::State;
use serde_json::json;

use super::{Place, completed, delivery, hooked, until_outbox_is_empty, until_state};
use crate::support::{Fleet, Receiver, Redis, Reply};

/// What a lease is longer than the time of an attempt, by the worker of the outbox.
const LEASE_MARGIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_node_killed_before_or_in_the_middle_of_an_attempt_is_followed_by_another() {
    let redis = Redis::start().await;
    let timeout = Duration::from_millis(1500);
    let settings = hooked(&redis)
        .set("WEBHOOK_TIMEOUT_MS", "1500")
        .set("TRACING_ENABLED", "true")
        .set("OTEL_TRACES_EXPORTER", "none");
    // One delivery at a time.
    let narrow = settings.clone();
    let narrow = narrow.set("WEBHOOK_MAX_CONCURRENCY", "1");
    let mut node = narrow.set("WEBHOOK_MAX_CONCURRENCY_PER_HOST", "1").start().await;
    let (hangs, other) = (Receiver::start().await, Receiver::start().await);
    hangs.answers(Reply::Hang);
    let started = completed(&node, "m", &hangs).await;
    let first = hangs.until_count(1).await.remove(0);
    let waits = completed(&node, "m", &other).await;
    node.kill();
    assert_eq!(other.count(), 0, "there was no room for it");
    assert_eq!(delivery(&redis, &waits, 1).await.unwrap().claims, 0);
    let held = delivery(&redis, &started, 1).await.unwrap();
    assert_eq!((held.state, held.attempts, held.claims), (State::Pending, 0, 1));
    // Nobody is there for a moment; both deliveries are due meanwhile.
    hangs.answers(Reply::OK);
    let _next = settings.start().await;
    // What nobody had begun does not wait for a lease.
    other.until_within(Duration::from_secs(8), "the one that waited", |all| !all.is_empty()).await;
    assert_eq!(other.requests()[0].webhook_id(), format!("{waits}_1"));
    let second = hangs.until_count(2).await.remove(1);
    let between = second.at - first.at;
    let lease = timeout + LEASE_MARGIN;
    assert!(between > lease - Duration::from_millis(500), "before its lease: {between:?}");
    assert!(between < lease + Duration::from_secs(5), "after {between:?}");
    assert_eq!((second.webhook_id(), &second.body), (first.webhook_id(), &first.body));
    // Of the first nobody knows how it ended.
    assert_eq!((first.attempt(), second.attempt()), (1, 1));
    let context = |request: &crate::support::receiver::Request| {
        let text = request.header("traceparent").unwrap().to_owned();
        (text[3..35].to_owned(), text[36..52].to_owned())
    };
    let ((trace, span), (other_trace, other_span)) = (context(&first), context(&second));
    assert_eq!(trace, other_trace);
    assert_ne!(span, other_span);
    let told = until_state(&redis, &started, 1, State::Delivered).await;
    assert_eq!((told.attempts, told.log.len(), told.claims), (1, 1, 0));
    until_outbox_is_empty(&redis).await;
    assert_eq!((hangs.count(), other.count()), (2, 1));
}

#[tokio::test]
async fn what_comes_due_while_every_node_is_down_is_sent_when_one_returns() {
    let redis = Redis::start().await;
    let mut node = hooked(&redis).start().await;
    let mut receiver = Receiver::start().await;
    receiver.leave().await;
    let id = completed(&node, "m", &receiver).await;
    let of = super::until_delivery(&redis, &id, 1, |of| of.attempts > 0).await;
    node.kill();
    receiver.come_back().await;
    let due = super::due_ms(&redis, &id, 1).await.unwrap();
    crate::support::eventually("it is due", || async {
        (jiff::Timestamp::now().as_millisecond() > due).then_some(())
    })
    .await;
    assert_eq!(delivery(&redis, &id, 1).await, Some(of));
    let _next = hooked(&redis).start().await;
    let request = receiver.until_count(1).await.remove(0);
    assert_eq!((request.webhook_id(), request.attempt()), (format!("{id}_1").as_str(), 2));
    until_state(&redis, &id, 1, State::Delivered).await;
}

#[tokio::test]
async fn a_node_told_to_stop_finishes_what_it_sends() {
    let redis = Redis::start().await;
    let settings = hooked(&redis).set("WEBHOOK_TIMEOUT_MS", "8000");
    let mut fleet = Fleet::start(settings, 2).await;
    let receiver = Receiver::start().await;
    receiver.answers(Reply::Slow(Duration::from_millis(700)));
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(completed(fleet.node(0), "m", &receiver).await);
    }
    receiver.until_count(5).await;
    fleet.node(0).terminate();
    let status = fleet.node_mut(0).exit(Duration::from_secs(9)).await;
    assert_eq!(status.code(), Some(0));
    for id in &ids {
        until_state(&redis, id, 1, State::Delivered).await;
    }
    assert_eq!(receiver.count(), ids.len(), "nothing was sent twice");
}

#[tokio::test]
async fn a_receiver_that_hangs_does_not_hold_a_node_that_is_told_to_stop() {
    let redis = Redis::start().await;
    let settings = hooked(&redis).set("WEBHOOK_TIMEOUT_MS", "60000");
    let mut node = settings.set("SHUTDOWN_DRAIN_SECONDS", "1").start().await;
    let receiver = Receiver::start().await;
    receiver.answers(Reply::Hang);
    let id = completed(&node, "m", &receiver).await;
    receiver.until_count(1).await;
    node.terminate();
    let status = node.exit(Duration::from_secs(6)).await;
    assert_eq!(status.code(), Some(0));
    let held = delivery(&redis, &id, 1).await.unwrap();
    assert_eq!((held.state, held.attempts), (State::Pending, 0));
    // Its lease is over.
    let place = Place::of(&id, 1);
    let _: i64 =
        redis.command(&format!("ZADD {} XX 1 {}", place.pending(&held), place.short)).await;
    let _: i64 = redis.command(&format!("ZADD {}:o XX 1 {}", place.root, held.destination)).await;
    receiver.answers(Reply::OK);
    let _next = hooked(&redis).start().await;
    let requests = receiver.until_count(2).await;
    assert_eq!(requests[1].webhook_id(), requests[0].webhook_id());
    assert_eq!(requests[1].body, requests[0].body);
    until_state(&redis, &id, 1, State::Delivered).await;
}

#[tokio::test]
async fn what_two_nodes_have_to_send_is_sent_once() {
    let redis = Redis::start().await;
    let fleet = Fleet::start(hooked(&redis).set("WEBHOOK_TIMEOUT_MS", "8000"), 2).await;
    let receiver = Receiver::start().await;
    let total = 300;
    let task = json!({"command": "m", "webhook": receiver.url()});
    let ids = super::super::create_many(&fleet.node(0).producer(), total, task).await;
    super::super::drain(&fleet.node(1).worker(), "m").await;
    for (n, ids) in ids.chunks(50).enumerate() {
        let results: Vec<_> = ids
            .iter()
            .map(|id| json!({"taskId": id, "status": "COMPLETED", "result": {"n": 1}}))
            .collect();
        let worker = fleet.node(n % 2).worker();
        worker.post("/tasks/batch/results", json!({"results": results})).await.json_of(200);
    }
    receiver.until("all are told", |all| all.len() >= total).await;
    until_outbox_is_empty(&redis).await;
    let deliveries = receiver.deliveries();
    assert!(deliveries.keys().eq(
        ids.iter().map(|id| format!("{id}_1")).collect::<std::collections::BTreeSet<_>>().iter()
    ));
    assert_eq!(receiver.count(), total, "something was sent twice");
}
