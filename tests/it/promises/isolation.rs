//! Promise: what one destination does, or what one node has no room for, is not felt by the others.

mod dead_host;
mod hanging;
mod operator_events;
mod probes;
mod turns;

pub use dead_host::{Crowd, a_dead_host_is_passed};
pub use hanging::{Rounds, a_hanging_host_is_not_felt};
pub use turns::{Pace, a_rate_holds};

use std::collections::HashMap;
use std::time::Instant;

use serde_json::{Value, json};

use super::text;
use super::webhooks::{SECRET, completed, hooked, until_outbox_is_empty};
use crate::support::{Client, Node, Receiver, Redis, eventually};

/// Most of a batch.
const BATCH: usize = 100;
/// Partitions of a node that is told nothing else.
const PARTITIONS: u16 = 16;

/// Creates and claims so many tasks, each with the next of these webhooks; their ids.
async fn taken(node: &Node, command: &str, urls: &[String], count: usize) -> Vec<String> {
    let mut ids = Vec::with_capacity(count);
    for first in (0..count).step_by(BATCH) {
        let most = BATCH.min(count - first);
        let task =
            |n: usize| json!({"command": command, "payload": n, "webhook": urls[n % urls.len()]});
        let tasks: Vec<_> = (first..first + most).map(task).collect();
        node.producer().post("/tasks/batch", json!({"tasks": tasks})).await.json_of(200);
        let wanted = ids.len() + most;
        while ids.len() < wanted {
            let count = wanted - ids.len();
            let ask = json!({"commands": [command], "leaseSeconds": 600, "count": count});
            let claimed = node.worker().post("/tasks/claim/batch", ask).await.json_of(200);
            ids.extend(claimed["tasks"].as_array().unwrap().iter().map(|task| text(task, "id")));
        }
    }
    ids
}

/// Ends tasks, a batch at a time.
async fn ended(node: &Node, ids: &[String]) {
    for ids in ids.chunks(BATCH) {
        let result = |id| json!({"taskId": id, "status": "COMPLETED", "result": {"n": 1}});
        let results: Vec<_> = ids.iter().map(result).collect();
        let ask = json!({"results": results});
        let done = node.worker().post("/tasks/batch/results", ask).await.json_of(200);
        let all = done["results"].as_array().unwrap();
        assert!(all.iter().all(|one| one["error"].is_null()), "{done}");
    }
}

/// So many hosts, each at an address of its own in this network.
async fn hosts(network: &str, count: usize) -> Vec<Receiver> {
    let mut hosts = Vec::new();
    for n in 0..count {
        hosts.push(Receiver::on(&format!("{network}.{}", n + 1)).await);
    }
    hosts
}

fn urls(hosts: &[Receiver]) -> Vec<String> {
    hosts.iter().map(Receiver::url).collect()
}

/// Waits until hosts were told of so many tasks; when each was first told of.
async fn arrivals(hosts: &[Receiver], ids: &[String]) -> HashMap<String, Instant> {
    let mut seen = vec![0; hosts.len()];
    let mut arrived = HashMap::new();
    let begun = Instant::now();
    while !ids.iter().all(|id| arrived.contains_key(id)) {
        assert!(begun.elapsed().as_secs() < 60, "not all of {} were told of", ids.len());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        for (host, seen) in hosts.iter().zip(&mut seen) {
            if host.count() > *seen {
                let requests = host.requests();
                for request in &requests[*seen..] {
                    arrived.entry(request.task_id()).or_insert(request.at);
                }
                *seen = requests.len();
            }
        }
    }
    arrived
}

/// The destinations of a caller that are in this state.
async fn destinations(admin: &Client, state: &str) -> Vec<Value> {
    let page = admin.destinations(&format!("state={state}&limit=1000")).await.json_of(200);
    page["items"].as_array().unwrap().clone()
}

/// Waits until the destination at this origin is in a state; its id.
async fn until_destination(admin: &Client, origin: &str, state: &str) -> String {
    eventually(&format!("{origin} is {state}"), || async {
        let all = destinations(admin, state).await;
        all.iter().find(|one| one["origin"] == origin).map(|one| text(one, "id"))
    })
    .await
}

/// The half minute before a destination is tried out is over.
async fn end_the_pause(redis: &Redis, id: &str) {
    let keys = redis.keys().await;
    let record = keys.iter().find(|key| key.ends_with(&format!(":z:{id}"))).unwrap();
    redis.command::<u64>(&format!("HSET {record} till 1")).await;
    for key in keys.iter().filter(|key| key.ends_with(":oz")) {
        redis.command::<u64>(&format!("ZADD {key} XX 1 {id}")).await;
    }
}
