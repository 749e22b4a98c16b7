//! Promise: the end of every task is told, whichever node dies, and by receivers that fail in every
//! way a receiver can.

mod callers;
mod hosts;
mod verdict;

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::callers::{operate, produce, work};
use self::hosts::Hosts;
use self::verdict::every_end_was_told;
use super::{quick, text};
use crate::support::{Fleet, Nemesis, Redis, Settings};

/// How hard, and how much of it.
#[derive(Clone, Copy)]
pub struct Siege {
    pub nodes: usize,
    /// Hosts of receivers; the last of them is away for a while.
    pub receivers: usize,
    pub tasks: usize,
    /// Of what receivers do; the same ones fail in the same places.
    pub seed: u64,
    /// Between two deaths of a node, in turn.
    pub node_dies: Duration,
    /// How long one receiver is away.
    pub away: Duration,
    /// Of 1000 requests so many fail in each of six ways.
    pub failures: u32,
    pub producers: usize,
    /// Between two batches of a producer, so that tasks end all through the siege.
    pub pace: Duration,
    pub workers: usize,
    pub within: Duration,
}

const SECRET: &str = "webhooks survive whichever node dies";
/// Workers take tasks of this command.
const COMMAND: &str = "siege";
/// Nobody takes tasks of this one: their producer cancels them.
const CANCELLED: &str = "siege-cancelled";

#[tokio::test]
async fn nodes_that_are_killed_and_receivers_that_fail_leave_no_end_untold() {
    every_end_is_told(Siege {
        nodes: 3,
        receivers: 6,
        tasks: 300,
        seed: 38,
        node_dies: Duration::from_secs(1),
        away: Duration::from_secs(4),
        failures: 25,
        producers: 2,
        pace: Duration::from_millis(1500),
        workers: 4,
        within: Duration::from_secs(45),
    })
    .await;
}

/// Ends tasks in every way a task can end while nodes are killed; then each end was told, and
/// accepted, as the words of the promise have it.
pub async fn every_end_is_told(siege: Siege) {
    let begun = Instant::now();
    let redis = Redis::start().await;
    let fleet = Fleet::start(settings(&redis), siege.nodes).await;
    let mut hosts = Hosts::start(siege.receivers, siege.seed, siege.failures, SECRET).await;
    let (producers, workers) = (fleet.callers("admin"), fleet.callers("worker"));
    let operator = fleet.callers("operator");

    let nodes = Nemesis::start(|stop| kill_nodes(fleet, siege.node_dies, stop));
    let operators = Nemesis::start(|stop| operate(operator, stop));
    let labour: Vec<_> =
        (0..siege.workers).map(|_| Nemesis::start(|stop| work(workers.clone(), stop))).collect();
    let created: Vec<_> = (0..siege.producers)
        .map(|n| tokio::spawn(produce(producers.clone(), n, siege, hosts.urls())))
        .collect();
    let last = hosts.last_mut();
    sleep(Duration::from_secs(1)).await;
    last.leave().await;
    sleep(siege.away).await;
    last.come_back().await;
    let mut tasks = Vec::new();
    for producer in created {
        tasks.extend(producer.await.unwrap());
    }
    assert_eq!(tasks.len(), siege.tasks);

    let accepted = timeout(siege.within.saturating_sub(begun.elapsed()), hosts.until_told(&tasks));
    let accepted = accepted.await.is_ok();
    let seconds = begun.elapsed().as_secs_f64();
    for worker in labour {
        worker.stop().await;
    }
    let resumed = operators.stop().await;
    let (killed, fleet) = nodes.stop().await;
    fleet.until_ready().await;
    println!("{seconds:.1} s, {killed} nodes killed, {resumed} destinations resumed by hand");
    every_end_was_told(&fleet, &redis, &hosts, &tasks, accepted).await;
}

/// Nodes that try again soon and often.
fn settings(redis: &Redis) -> Settings {
    quick(redis)
        .set("WEBHOOK_HMAC_SECRET", SECRET)
        .set("WEBHOOK_ALLOW_PRIVATE_NETWORKS", "true")
        .set("WEBHOOK_TIMEOUT_MS", "1000")
        .set("WEBHOOK_CONNECT_TIMEOUT_MS", "1000")
        .set("RESULT_WEBHOOK_MAX_ATTEMPTS", "100")
        .set("RESULT_WEBHOOK_BASE_BACKOFF_SECONDS", "1")
        .set("RESULT_WEBHOOK_MAX_BACKOFF_SECONDS", "2")
}

async fn kill_nodes(mut fleet: Fleet, pause: Duration, stop: CancellationToken) -> (usize, Fleet) {
    let mut killed = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return (killed, fleet),
            () = sleep(pause) => {}
        }
        fleet.crash(killed % fleet.nodes().len()).await;
        killed += 1;
    }
}
