//! An outbox with nothing in it costs nothing, and one with something wakes at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{completed, hooked, until_outbox_is_empty};
use crate::support::{Node, Receiver, Redis, eventually};

/// Looks at the outbox and at destinations so far, by any node.
async fn looks(nodes: &[Node]) -> f64 {
    let scrapes = join_all(nodes.iter().map(Node::scrape)).await;
    let calls = |name: &str| -> f64 {
        scrapes.iter().map(|scrape| scrape.sum("codeq_store_operations_total", name)).sum()
    };
    calls("\"outbox_claim\"") + calls("\"destination_look\"")
}

#[tokio::test]
async fn an_outbox_that_was_used_is_left_alone_and_leaves_no_key() {
    let redis = Redis::start().await;
    let settings = hooked(&redis).set("TASK_RETENTION_SECONDS", "1");
    let nodes = [settings.clone().start().await, settings.start().await];
    let receivers = join_all((0..5).map(|_| Receiver::start())).await;
    join_all(receivers.iter().enumerate().map(|(n, receiver)| {
        let nodes = &nodes;
        async move {
            for _ in 0..5 {
                completed(&nodes[n % 2], &format!("c{n}"), receiver).await;
            }
            receiver.until_count(5).await;
        }
    }))
    .await;
    until_outbox_is_empty(&redis).await;
    eventually("no key of a delivery is left", || async {
        let left = redis.keys().await;
        let of_webhooks = |key: &String| {
            key.rsplit_once('}')
                .is_some_and(|(_, name)| name.starts_with(":o") || name.starts_with(":v"))
        };
        (!left.iter().any(of_webhooks)).then_some(())
    })
    .await;
    // Where something was sent is remembered for a week.
    let known = redis.keys().await;
    let known: Vec<_> = known.iter().filter(|key| key.contains(":z:")).collect();
    assert_eq!(known.len(), receivers.len());
    for key in known {
        let ttl: i64 = redis.command(&format!("TTL {key}")).await;
        assert!((1..=604_800).contains(&ttl), "{key} stays {ttl} s");
    }
    let before = looks(&nodes).await;
    assert!(before > 0.0);
    // Four sweeps; that nothing happens can only be seen in time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(looks(&nodes).await, before);
    assert!(receivers.iter().all(|receiver| receiver.count() == 5));
}

#[tokio::test]
async fn a_delivery_starts_within_milliseconds_of_the_submit() {
    let redis = Redis::start().await;
    let node = hooked(&redis).start().await;
    let receiver = Receiver::start().await;
    let mut waits = Vec::new();
    for n in 0..50 {
        let id = node.producer().created_with_webhook("m", &receiver.url()).await;
        node.worker().claimed("m").await;
        node.worker().complete(&id).await.json_of(200);
        let answered = Instant::now();
        let request = receiver.until_count(n + 1).await.remove(n);
        // It may be there before the worker's answer.
        waits.push(request.at.saturating_duration_since(answered));
    }
    waits.sort();
    println!("from the submit's answer: p50 {:?}, longest {:?}", waits[25], waits[49]);
    // Far below the time between two sweeps, which would find it otherwise.
    assert!(waits[25] < Duration::from_millis(200), "{waits:?}");
    assert_eq!(receiver.connections(), 1, "one after the other go over one connection");
}
