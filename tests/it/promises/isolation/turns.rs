//! Rates, rooms and connections; and whose failures they are.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    completed, destinations, ended, hooked, taken, until_destination, until_outbox_is_empty,
};
use crate::support::receiver::Request;
use crate::support::{Fleet, Receiver, Redis, Reply};

/// A destination with a rate.
#[derive(Clone, Copy)]
pub struct Pace {
    pub per_second: u32,
    pub deliveries: usize,
}

#[tokio::test]
async fn a_destination_gets_no_more_per_second_than_it_is_to_get_from_three_nodes() {
    a_rate_holds(Pace { per_second: 50, deliveries: 350 }).await;
}

/// Ends more tasks than a destination may be told of, at three nodes at once; the rate is that of the
/// whole fleet.
pub async fn a_rate_holds(pace: Pace) {
    let redis = Redis::start().await;
    let fleet = Fleet::start(hooked(&redis).set("WEBHOOK_TIMEOUT_MS", "15000"), 3).await;
    let receiver = Receiver::on("127.44.0.1").await;
    // Which makes its record.
    completed(fleet.node(0), "first", &receiver).await;
    until_outbox_is_empty(&redis).await;
    let admin = fleet.node(0).admin();
    let id = until_destination(&admin, &receiver.origin(), "active").await;
    let limit = json!({"maxPerSecond": pace.per_second});
    admin.put_destination(&id, limit).await.json_of(200);
    let ids = taken(fleet.node(0), "m", &[receiver.url()], pace.deliveries).await;
    // What a node saw before the limit serves it for a second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let shares = ids.chunks(pace.deliveries.div_ceil(3));
    let submits = shares.zip(fleet.nodes()).map(|(ids, node)| ended(node, ids));
    futures_util::future::join_all(submits).await;
    let expected = pace.deliveries + 1;
    let patience =
        Duration::from_secs(20) + Duration::from_secs(pace.deliveries as u64) / pace.per_second;
    receiver.until_within(patience, "all are told of", |all| all.len() >= expected).await;
    let requests = receiver.requests();
    assert_eq!(receiver.deliveries().len(), expected);
    assert_eq!(requests.len(), expected, "something was sent twice");
    let took = (requests[expected - 1].at - requests[1].at).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let rate = (pace.deliveries - 1) as f64 / took;
    let set = f64::from(pace.per_second);
    println!("{rate:.2} a second of {set} over {took:.1} s");
    assert!(rate <= set * 1.05, "{rate:.2} a second of {set}");
    // A limit is no reason to be slow.
    assert!(rate >= set * 0.7, "{rate:.2} a second of {set}");
}

#[tokio::test]
async fn a_node_without_room_hands_what_is_due_to_another_before_anybody_would_look() {
    let redis = Redis::start().await;
    let settings = hooked(&redis).set("WEBHOOK_TIMEOUT_MS", "60000");
    let narrow = settings.clone().set("WEBHOOK_MAX_CONCURRENCY", "1");
    let full = narrow.set("WEBHOOK_MAX_CONCURRENCY_PER_HOST", "1").start().await;
    let (hangs, healthy) = (Receiver::on("127.45.0.1").await, Receiver::on("127.45.0.2").await);
    hangs.answers(Reply::Hang);
    completed(&full, "hangs", &hangs).await;
    hangs.until_count(1).await;
    let _other = settings.start().await;
    // The first makes connection and record.
    let mut times = Vec::new();
    for n in 0..21 {
        let id = full.producer().created_with_webhook("m", &healthy.url()).await;
        full.worker().claimed("m").await;
        let begun = Instant::now();
        full.worker().complete(&id).await.json_of(200);
        let arrived = healthy.until_count(n + 1).await[n].at;
        if n > 0 {
            times.push(arrived.saturating_duration_since(begun));
        }
    }
    times.sort();
    println!("{:?} at the median, {:?} at most", times[10], times[19]);
    // Who waits to be found waits half the time between two sweeps, of 500 ms.
    assert!(times[10] < Duration::from_millis(100), "{times:?}");
    assert_eq!((hangs.count(), healthy.count()), (1, 21));
}

#[tokio::test]
async fn deliveries_to_a_host_one_after_the_other_share_a_connection() {
    let redis = Redis::start().await;
    let node = hooked(&redis).start().await;
    let receiver = Receiver::on("127.46.0.1").await;
    for n in 1..=30 {
        completed(&node, "m", &receiver).await;
        receiver.until_count(n).await;
        until_outbox_is_empty(&redis).await;
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn what_a_receiver_refuses_one_tenant_says_nothing_about_another() {
    let redis = Redis::start().await;
    let node = hooked(&redis).start().await;
    let receiver = Receiver::on("127.47.0.1").await;
    receiver.answers_by(|request| match request.path() {
        "/acme" => Reply::Status(500),
        _ => Reply::OK,
    });
    let url = |path: &str| format!("{}/{path}", receiver.origin());
    ended(&node, &taken(&node, "m", &[url("acme")], 20).await).await;
    until_destination(&node.admin(), &receiver.origin(), "open").await;
    let (producer, worker) = (node.token("globex-producer"), node.token("globex-worker"));
    for n in 1..=20 {
        let id = producer.created_with_webhook("m", &url("globex")).await;
        worker.claimed("m").await;
        worker.complete(&id).await.json_of(200);
        let told = |all: &[Request]| all.iter().filter(|one| one.path() == "/globex").count();
        receiver.until("it was told", |all| told(all) == n).await;
    }
    let admin = node.token("globex-admin");
    assert_eq!(destinations(&admin, "open").await.len(), 0);
    let active = destinations(&admin, "active").await;
    assert_eq!(active.len(), 1);
    assert_eq!(active[0]["consecutiveFailures"], 0);
    assert_eq!(destinations(&node.admin(), "open").await.len(), 1);
}
