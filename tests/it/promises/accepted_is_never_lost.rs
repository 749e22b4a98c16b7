//! Promise 1: a task that was accepted is never lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{drain, quick, text};
use crate::support::{Callers, Client, Fleet, Nemesis, Redis};

/// How hard, and how long.
#[derive(Clone, Copy)]
pub struct Storm {
    /// For how long producers create under fire.
    pub lasts: Duration,
    /// Between two blows.
    pub pause: Duration,
    /// Every so many blows hit Redis itself.
    pub redis_every: usize,
    pub producers: usize,
}

#[tokio::test]
async fn nodes_and_redis_that_are_killed_while_tasks_are_created_lose_none() {
    nothing_accepted_is_lost(Storm {
        lasts: Duration::from_secs(4),
        pause: Duration::from_millis(200),
        redis_every: 4,
        producers: 4,
    })
    .await;
}

/// Creates over two nodes while nodes and Redis are killed and scripts forgotten; then each task
/// that was accepted is delivered once, and nothing was made twice.
pub async fn nothing_accepted_is_lost(storm: Storm) {
    let redis = Redis::durable().await;
    let fleet = Fleet::start(quick(&redis), 2).await;
    let callers = fleet.callers("producer");
    let calm = Arc::new(AtomicBool::new(false));
    let producers: Vec<_> = (0..storm.producers)
        .map(|producer| tokio::spawn(produce(callers.clone(), producer, calm.clone())))
        .collect();

    let (blows, fleet, redis) = strike(storm, fleet, redis).await;
    calm.store(true, Ordering::Relaxed);
    let mut accepted = BTreeMap::new();
    for producer in producers {
        accepted.extend(producer.await.unwrap());
    }
    fleet.until_ready().await;

    let delivered = drain(&fleet.node(0).worker(), "mail").await;
    let mut found = BTreeMap::new();
    for task in &delivered {
        let twice = found.insert(text(task, "payload"), text(task, "id"));
        assert!(twice.is_none(), "two tasks of one idempotency key: {twice:?} and {task}");
    }
    println!("{} accepted, {blows} blows", accepted.len());
    assert!(accepted.len() > 20, "hardly anything was accepted: nothing was tried");
    for (payload, id) in &accepted {
        assert_eq!(found.get(payload), Some(id), "what was accepted as {payload}");
    }
    assert_eq!(fleet.node(0).admin().counts("mail").await, [0, 0, delivered.len() as u64, 0]);
    drop(redis);
}

/// Creates one task after the other, each until it is accepted; payload → id.
async fn produce(
    nodes: Callers,
    producer: usize,
    calm: Arc<AtomicBool>,
) -> BTreeMap<String, String> {
    let mut accepted = BTreeMap::new();
    for n in 0.. {
        if calm.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{producer}-{n}");
        let body = json!({"command": "mail", "payload": key, "idempotencyKey": key});
        let task = nodes.insist(|node: &Client| node.create(body.clone())).await.json_of(202);
        accepted.insert(text(&task, "payload"), text(&task, "id"));
    }
    accepted
}

async fn strike(storm: Storm, mut fleet: Fleet, mut redis: Redis) -> (usize, Fleet, Redis) {
    let end = Instant::now() + storm.lasts;
    let nemesis = Nemesis::start(|_| async move {
        let mut blows = 0;
        while Instant::now() < end {
            sleep(storm.pause).await;
            blows += 1;
            if blows % storm.redis_every == 0 {
                redis.restart().await;
            } else {
                let _: () = redis.command("SCRIPT FLUSH").await;
                fleet.crash(blows % 2).await;
            }
        }
        (blows, fleet, redis)
    });
    // It ends by the clock; a blow in hand is brought to its end.
    while Instant::now() < end {
        sleep(Duration::from_millis(50)).await;
    }
    nemesis.stop().await
}

#[tokio::test]
async fn a_create_that_is_repeated_at_many_nodes_at_once_makes_one_task() {
    // Item 13 of the failures: a second request between key and task.
    let redis = Redis::start().await;
    let fleet = Fleet::start(quick(&redis), 3).await;
    let producers = fleet.callers("producer");
    let body = json!({"command": "mail", "payload": 1, "idempotencyKey": "k"});
    let creates = (0..100).map(|_| producers.any().create(body.clone()).into_future());
    let answers = futures_util::future::join_all(creates).await;
    let first = text(&answers[0].json_of(202), "id");
    for answer in &answers {
        assert_eq!(text(&answer.json_of(202), "id"), first);
    }
    assert_eq!(answers.iter().filter(|answer| !answer.is_replayed()).count(), 1);
    assert_eq!(fleet.node(0).admin().counts("mail").await, [1, 0, 0, 0]);
}
