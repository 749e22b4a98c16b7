//! A host that is gone, with deliveries waiting for it ahead of all others.

use std::time::{Duration, Instant};

use codeq::model::{Partition, Partitions};
use futures_util::future::join_all;

use super::{PARTITIONS, arrivals, ended, hooked, hosts, taken, until_destination, urls};
use crate::support::{Node, Receiver, Redis, eventually};

/// How many wait.
#[derive(Clone, Copy)]
pub struct Crowd {
    /// For the host that is gone.
    pub dead: usize,
    /// For others.
    pub healthy: usize,
}

/// What may be lost by them.
const DELAY: Duration = Duration::from_secs(2);
/// In one partition, when the time of a park ends: a claim that finds out, and what it took goes back.
const WRITES: u64 = 40;

#[tokio::test]
async fn deliveries_of_a_dead_host_do_not_delay_those_behind_them_and_cost_nothing_while_parked() {
    a_dead_host_is_passed(Crowd { dead: 2_000, healthy: 100 }).await;
}

/// Measures how long healthy deliveries take with none and with many of a dead host ahead, and counts
/// what a park costs.
pub async fn a_dead_host_is_passed(crowd: Crowd) {
    let redis = Redis::start().await;
    let node = hooked(&redis).set("WEBHOOK_TIMEOUT_MS", "15000").start().await;
    let healthy = hosts("127.42.0", 10).await;
    let mut dead = Receiver::on("127.43.0.1").await;
    dead.leave().await;
    let alone = told(&node, &healthy, crowd.healthy).await;

    let begun = Instant::now();
    let makers = (0..4).map(|n| {
        let (node, url) = (&node, [dead.url()]);
        async move {
            let command = format!("dead-{n}");
            let mut left = crowd.dead / 4;
            while left > 0 {
                let some = left.min(1_000);
                ended(node, &taken(node, &command, &url, some).await).await;
                left -= some;
            }
        }
    });
    join_all(makers).await;
    let made = begun.elapsed();
    let id = until_destination(&node.admin(), &dead.origin(), "open").await;
    // Everything that waits for it is due, and was so before the others.
    let resumed = node.admin().resume_destination(&id).await.json_of(200);
    let ahead = usize::try_from(resumed["pending"].as_u64().unwrap()).unwrap();
    assert_eq!(ahead, crowd.dead);
    let behind = told(&node, &healthy, crowd.healthy).await;
    println!(
        "{} healthy: {alone:?} alone, {behind:?} behind {ahead} made in {made:?}",
        crowd.healthy
    );
    assert!(behind < alone + DELAY, "{alone:?} became {behind:?}");

    until_destination(&node.admin(), &dead.origin(), "open").await;
    until_parked(&redis, &id, 0).await;
    let before = redis.calls("zadd").await;
    let holding = with_some(&redis, &id).await;
    for &partition in &holding {
        let end = format!("ZADD {}:oz XX 1 {id}", root(partition));
        redis.command::<u64>(&end).await;
    }
    until_parked(&redis, &id, 1).await;
    let writes = redis.calls("zadd").await - before;
    let holding = holding.len();
    println!("{writes} writes of {holding} partitions when a park ended and began again");
    assert!(writes <= WRITES * holding as u64, "{writes} writes of {holding} partitions");
}

/// Partitions in which something waits for a destination.
async fn with_some(redis: &Redis, id: &str) -> Vec<Partition> {
    let mut some = Vec::new();
    for partition in (0..PARTITIONS).map(Partition::new) {
        let is_there = format!("EXISTS {}:o:{id}", root(partition));
        if redis.command(&is_there).await {
            some.push(partition);
        }
    }
    some
}

fn root(partition: Partition) -> String {
    Partitions::new("codeq", PARTITIONS).root(partition)
}

/// Waits until a destination is left alone in all partitions, until after this time.
async fn until_parked(redis: &Redis, id: &str, after: i64) {
    eventually("all partitions leave it alone", || async {
        for partition in with_some(redis, id).await {
            let score = format!("ZSCORE {}:oz {id}", root(partition));
            let until: Option<f64> = redis.command(&score).await;
            #[expect(clippy::cast_possible_truncation, reason = "a time in milliseconds")]
            until.filter(|&until| until as i64 > after)?;
        }
        Some(())
    })
    .await;
}

/// Ends tasks in batches; how long until the last was told of.
async fn told(node: &Node, healthy: &[Receiver], count: usize) -> Duration {
    let ids = taken(node, "m", &urls(healthy), count).await;
    let begun = Instant::now();
    ended(node, &ids).await;
    let arrived = arrivals(healthy, &ids).await;
    ids.iter().map(|id| arrived[id] - begun).max().unwrap()
}
