//! A host that accepts connections and never answers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{arrivals, ended, hooked, hosts, taken, until_destination, urls};
use crate::support::{Fleet, Node, Receiver, Redis, Reply};

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Rounds {
    pub nodes: usize,
    /// So often without a host that hangs, and so often with one.
    pub rounds: usize,
    /// Of a round, over all healthy hosts.
    pub deliveries: usize,
    /// For the host that hangs, far more than may be under way to it.
    pub waiting: usize,
}

const HEALTHY: usize = 50;
/// At once to one host by one node, unless set otherwise.
const PER_HOST: usize = 16;
/// Differences below it are those of a busy machine.
const NOISE: Duration = Duration::from_millis(10);

#[tokio::test]
async fn a_host_that_hangs_is_not_felt_by_fifty_others() {
    a_hanging_host_is_not_felt(Rounds { nodes: 1, rounds: 3, deliveries: 200, waiting: 200 }).await;
}

/// Measures, turn by turn without and with a host that hangs, how long it takes from a submit to its
/// delivery to another host.
pub async fn a_hanging_host_is_not_felt(measured: Rounds) {
    let redis = Redis::start().await;
    // Longer than a round: who hangs, hangs all through it.
    let settings = hooked(&redis).set("WEBHOOK_TIMEOUT_MS", "60000");
    let fleet = Fleet::start(settings, measured.nodes).await;
    let node = fleet.node(0);
    let healthy = hosts("127.40.0", HEALTHY).await;
    // Each has a connection and a record.
    round(node, &healthy, HEALTHY).await;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for n in 0..measured.rounds {
        without.extend(round(node, &healthy, measured.deliveries).await);
        let mut hangs = Receiver::on(&format!("127.41.0.{}", n + 1)).await;
        hangs.answers(Reply::Hang);
        ended(node, &taken(node, "hangs", &[hangs.url()], measured.waiting).await).await;
        hangs.until_count(PER_HOST).await;
        with.extend(round(node, &healthy, measured.deliveries).await);
        let most = PER_HOST * measured.nodes;
        assert!(hangs.count() <= most, "it took more than its share: {}", hangs.count());
        hangs.leave().await;
        until_destination(&node.admin(), &hangs.origin(), "open").await;
    }
    let samples = without.len();
    let (without, with) = (p99(without), p99(with));
    println!("p99 of {samples}: {without:?} without, {with:?} with a host that hangs");
    assert!(with <= without * 2 + NOISE, "{without:?} became {with:?}");
}

/// Ends tasks one by one; how long each delivery took.
async fn round(node: &Node, healthy: &[Receiver], count: usize) -> Vec<Duration> {
    let ids = taken(node, "m", &urls(healthy), count).await;
    let worker = node.worker();
    let mut submitted = HashMap::new();
    for id in &ids {
        submitted.insert(id, Instant::now());
        worker.complete(id).await.json_of(200);
    }
    let arrived = arrivals(healthy, &ids).await;
    submitted.into_iter().map(|(id, at)| arrived[id].saturating_duration_since(at)).collect()
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}
