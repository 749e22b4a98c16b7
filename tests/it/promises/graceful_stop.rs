//! A stop in order, under load: nothing is lost, nothing waits for a lease to end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{create_many, quick, settled, text, waiting_claims};
use crate::support::{Client, Fleet, Redis, eventually};

/// Works at one node until that one is gone, then at the other. Its leases are long.
async fn work(
    nodes: [Client; 2],
    wait_seconds: u32,
    done: Arc<Mutex<BTreeSet<String>>>,
    enough: CancellationToken,
) {
    let mut at = 0;
    while !enough.is_cancelled() {
        let ask = json!({"commands": ["mail"], "waitSeconds": wait_seconds});
        let answer = match nodes[at].claim_as(ask).sent().await {
            Ok(answer) => answer,
            // The connection was closed, or nobody listens any more.
            Err(_) => {
                at = 1;
                continue;
            }
        };
        match answer.status {
            200 => {}
            204 => continue,
            _ => panic!("a stop that is an error: {}", answer.shown()),
        }
        let task = answer.json();
        let id = text(&task, "id");
        let ended = loop {
            match nodes[at].complete(&id).lease(&task["leaseToken"]).sent().await {
                Ok(answer) => break answer,
                Err(_) => at = 1,
            }
        };
        ended.json_of(200);
        assert!(done.lock().unwrap().insert(id), "{task} was delivered twice");
    }
}

#[tokio::test]
async fn a_stop_under_load_loses_nothing_and_leaves_nothing_waiting_for_a_lease() {
    let redis = Redis::start().await;
    let mut fleet = Fleet::start(quick(&redis), 2).await;
    let total = 600;
    let (done, enough) = (Arc::new(Mutex::new(BTreeSet::new())), CancellationToken::new());
    let both = [fleet.node(0).worker(), fleet.node(1).worker()];
    let workers: Vec<_> = (0..24)
        .map(|n| tokio::spawn(work(both.clone(), n % 3, done.clone(), enough.clone())))
        .collect();
    let producer = fleet.node(1).producer();
    let creating = tokio::spawn(async move {
        let mut created = BTreeSet::new();
        while created.len() < total {
            created.extend(create_many(&producer, 10, json!({"command": "mail"})).await);
        }
        created
    });
    eventually("the load is there", || {
        let done = done.lock().unwrap().len();
        async move { (done > 60).then_some(()) }
    })
    .await;
    fleet.node(0).terminate();
    let status = fleet.node_mut(0).exit(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0));
    assert!(done.lock().unwrap().len() < total, "the load was over before the stop");

    let created = creating.await.unwrap();
    settled(&fleet.node(1).admin(), "mail", [0, 0, 0, 0]).await;
    enough.cancel();
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(*done.lock().unwrap(), created);
}

#[tokio::test]
async fn waits_end_within_a_second_of_the_stop_and_hold_no_task() {
    let redis = Redis::start().await;
    let mut fleet = Fleet::start(quick(&redis), 2).await;
    let stopping = fleet.node(0);
    let waits = json!({"commands": ["mail"], "waitSeconds": 30});
    let worker = stopping.worker();
    let claims: Vec<_> =
        (0..50).map(|_| tokio::spawn(worker.claim_as(waits.clone()).into_future())).collect();
    let id = text(&stopping.producer().created("other").await, "id");
    let result = tokio::spawn(stopping.producer().result_within(&id, 60).into_future());
    waiting_claims(stopping, 50).await;
    super::waiting(stopping, "result", 1).await;

    let begun = tokio::time::Instant::now();
    stopping.terminate();
    // Tasks come while it stops: whoever is answered has one, whoever is not has none.
    let created = create_many(&fleet.node(1).producer(), 30, json!({"command": "mail"})).await;
    let mut delivered = 0;
    for claim in claims {
        match claim.await.unwrap() {
            answer if answer.status == 204 => {}
            answer => {
                answer.json_of(200);
                delivered += 1;
            }
        }
    }
    assert_eq!(result.await.unwrap().status, 404);
    let waited = begun.elapsed();
    assert!(waited < Duration::from_millis(1500), "answered after {waited:?}");
    let status = fleet.node_mut(0).exit(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(0));
    let left = created.len() as u64 - delivered;
    settled(&fleet.node(1).admin(), "mail", [left, 0, delivered, 0]).await;
}
