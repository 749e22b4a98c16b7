//! Callers that leave, and queues that fill, while Redis is stopped.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::mpsc;

use super::*;
use crate::store::Error;
use crate::store::lane::QUEUE_ITEMS;

/// A store whose Redis is stopped, where two flights wait for their answers.
async fn stopped(redis: &TestRedis, store: &Store) {
    store.run(first(), AddOnce { name: ":other", by: 0 }).await.unwrap();
    redis.signal(libc::SIGSTOP);
    for _ in 0..2 {
        begin(store, 1).await;
        eventually("taken", async || waiting(store) == 0).await;
        // From the queue into the flight is one step of the lane's task.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn waiting(store: &Store) -> usize {
    store.0.primaries[0].write.waiting()
}

/// Starts an addition and returns when it waits in the queue or was sent.
async fn begin(store: &Store, by: i64) -> tokio::task::JoinHandle<()> {
    let (begun, wait) = tokio::sync::oneshot::channel();
    let store = store.clone();
    let call = tokio::spawn(async move {
        let mut call = Box::pin(store.run(first(), AddOnce { name: N, by }));
        let polled = futures_util::poll!(&mut call);
        begun.send(()).unwrap();
        if polled.is_pending() {
            drop(call.await);
        }
    });
    wait.await.unwrap();
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_before_sending_takes_its_once_only_item_along() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    stopped(&redis, &store).await;
    let late = begin(&store, 100).await;
    assert_eq!(waiting(&store), 1);
    late.abort();
    assert!(late.await.unwrap_err().is_cancelled());
    redis.signal(libc::SIGCONT);
    assert_eq!(store.run(first(), AddOnce { name: N, by: 10 }).await.unwrap().sum, 12);
    assert_eq!(sum(&redis).await, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_caller_has_left_finds_a_home() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    store.run(first(), AddOnce { name: ":other", by: 1 }).await.unwrap();
    let (orphans, mut home) = mpsc::unbounded_channel();

    redis.signal(libc::SIGSTOP);
    let item = AddOnce { name: N, by: 7 };
    let mut call =
        Box::pin(store.run_with_orphan(first(), item, move |orphan| drop(orphans.send(orphan))));
    assert!(futures_util::poll!(&mut call).is_pending());
    // What left the queue is sent before the lane looks at the next one.
    eventually("taken", async || waiting(&store) == 0).await;
    begin(&store, 0).await;
    eventually("sent", async || waiting(&store) == 0).await;
    drop(call);
    redis.signal(libc::SIGCONT);
    assert_eq!(home.recv().await.unwrap(), AddedOnce { sum: 7 });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_after_its_caller_was_told_unknown_finds_a_home() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    store.run(first(), AddOnce { name: ":other", by: 1 }).await.unwrap();
    let (orphans, mut home) = mpsc::unbounded_channel();
    redis.signal(libc::SIGSTOP);
    let item = AddOnce { name: N, by: 7 };
    let told = store.run_with_orphan(first(), item, move |orphan| drop(orphans.send(orphan))).await;
    assert_eq!(told.unwrap_err(), Error::OutcomeUnknown);
    redis.signal(libc::SIGCONT);
    assert_eq!(home.recv().await.unwrap(), AddedOnce { sum: 7 });
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_a_leaving_crowd_goes_to_exactly_one_side() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    let (got, orphaned) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    for round in 0..20_u64 {
        together(100, |index| {
            let (store, got, orphaned) = (store.clone(), got.clone(), orphaned.clone());
            async move {
                let item = AddOnce { name: N, by: 1 };
                let call = store.run_with_orphan(first(), item, move |_| {
                    orphaned.fetch_add(1, Ordering::SeqCst);
                });
                // Some leave before, some while and some after the answer comes.
                let patience = Duration::from_micros(u64::try_from(index).unwrap() * 5 * round);
                if let Ok(answer) = tokio::time::timeout(patience, call).await {
                    answer.unwrap();
                    got.fetch_add(1, Ordering::SeqCst);
                }
            }
        })
        .await;
    }
    eventually("every answer is somewhere", async || {
        sum(&redis).await == got.load(Ordering::SeqCst) + orphaned.load(Ordering::SeqCst)
    })
    .await;
    assert!(orphaned.load(Ordering::SeqCst) > 0, "nobody left in the middle");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_has_a_limit() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    stopped(&redis, &store).await;
    let answers = together(QUEUE_ITEMS + 1000, |_| {
        let store = store.clone();
        async move { store.run(first(), add(N, 1)).await }
    })
    .await;
    let full = |answer: &&Result<Added, Error>| matches!(answer, Err(Error::Full { .. }));
    assert!(answers.iter().filter(full).count() > 800);
}

#[tokio::test]
async fn an_answer_that_came_but_was_not_looked_at_finds_a_home() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    let (orphans, mut home) = mpsc::unbounded_channel();
    let item = AddOnce { name: N, by: 7 };
    let mut call =
        Box::pin(store.run_with_orphan(first(), item, move |orphan| drop(orphans.send(orphan))));
    assert!(futures_util::poll!(&mut call).is_pending());
    // Answers come in order, so behind this one the first has come.
    store.run(first(), AddOnce { name: N, by: 1 }).await.unwrap();
    drop(call);
    assert_eq!(home.recv().await.unwrap(), AddedOnce { sum: 7 });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_during_two_flights_travels_together() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    stopped(&redis, &store).await;
    let mut calls = Vec::new();
    for _ in 0..128 {
        calls.push(begin(&store, 1).await);
    }
    assert_eq!(waiting(&store), 128);
    redis.signal(libc::SIGCONT);
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(sum(&redis).await, 130);
    // The first met an empty script cache, then two flights alone, then 64 and 64 together.
    assert_eq!(redis.calls("evalsha").await, 2 + 2 + 2);
}
