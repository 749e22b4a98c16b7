//! What the broker promises, kept while it is made hard: real nodes, a real Redis, real clients, and
//! trouble between them. An item's number is its place in the list of known failures.

mod accepted_is_never_lost;
mod checksum;
mod defects_of_old;
mod graceful_stop;
mod idle_costs_nothing;
mod isolation;
mod lost_replies;
mod nudges;
mod one_lease_at_a_time;
mod order_within_a_queue;
mod recoveries;
mod redis_away;
mod tenants_are_isolated;
mod waiters_wake;
mod webhooks;
mod webhooks_survive;

pub use accepted_is_never_lost::{Storm, nothing_accepted_is_lost};
pub use checksum::{Run, every_file_of};
pub use isolation::{
    Crowd, Pace, Rounds, a_dead_host_is_passed, a_hanging_host_is_not_felt, a_rate_holds,
};
pub use recoveries::{Outage, recovers};
pub use webhooks_survive::{Siege, every_end_is_told};

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Client, Node, Redis, Settings, eventually};

/// Nodes whose retries come after a second, and whose batches are large.
pub fn quick(redis: &Redis) -> Settings {
    quickly(Settings::on(redis))
}

/// As `quick`, for settings that are there already.
pub fn quickly(settings: Settings) -> Settings {
    settings
        .set("BACKOFF_POLICY", "fixed")
        .set("BACKOFF_BASE_SECONDS", "1")
        .set("MAX_CLAIM_BATCH", "100")
        .set("MAX_ATTEMPTS_DEFAULT", "100")
}

/// Creates so many tasks with the payloads 0, 1, 2, …; their ids.
pub async fn create_many(producer: &Client, count: usize, task: Value) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let batch = (ids.len()..count).take(100).map(|n| {
            let mut task = task.clone();
            task["payload"] = json!(n);
            task
        });
        let body = json!({"tasks": batch.collect::<Vec<_>>()});
        let created = producer.post("/tasks/batch", body).await.json_of(200);
        let created = created["results"].as_array().unwrap();
        ids.extend(created.iter().map(|item| item["task"]["id"].as_str().unwrap().to_owned()));
    }
    ids
}

/// Takes everything that is ready, for ten minutes; the tasks in the order of delivery.
pub async fn drain(worker: &Client, command: &str) -> Vec<Value> {
    let ask = json!({"commands": [command], "leaseSeconds": 600, "count": 100});
    let mut tasks = Vec::new();
    loop {
        let answer = worker.post("/tasks/claim/batch", ask.clone()).await;
        if answer.status == 204 {
            return tasks;
        }
        tasks.extend(answer.json_of(200)["tasks"].as_array().unwrap().iter().cloned());
    }
}

/// Waits until a queue has so many ready, delayed, leased and dead tasks.
pub async fn settled(admin: &Client, command: &str, counts: [u64; 4]) {
    let mut last = None;
    let seen = async {
        while last != Some(counts) {
            last = Some(admin.counts(command).await);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let seen = tokio::time::timeout(std::time::Duration::from_secs(12), seen).await;
    assert!(seen.is_ok(), "{command} has {last:?} tasks, not {counts:?}");
}

/// The ids of tasks; panics when one is there twice.
#[track_caller]
pub fn ids(tasks: &[Value]) -> BTreeSet<String> {
    let ids: BTreeSet<_> = tasks.iter().map(|task| text(task, "id")).collect();
    assert_eq!(ids.len(), tasks.len(), "a task was delivered twice");
    ids
}

/// A field that is text.
#[track_caller]
pub fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field}: {value}")).to_owned()
}

/// Waits until a node reads and writes again; readiness turns later.
pub async fn served(node: &Node) {
    eventually("the store is there", || async {
        let claim = node.worker().claim("nothing-of-this-name").await.status;
        let read = node.producer().read("0199f3f5-8c00-7000-8000-000000000000").await.status;
        ((claim, read) == (204, 404)).then_some(())
    })
    .await;
}

/// Waits until so many claims wait at a node.
pub async fn waiting_claims(node: &Node, count: usize) {
    waiting(node, "claim", count).await;
}

/// Waits until so many calls of a kind wait at a node.
#[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
pub async fn waiting(node: &Node, kind: &str, count: usize) {
    let series = format!("codeq_waiters{{kind=\"{kind}\"}}");
    eventually(&format!("{count} {kind}s wait"), || async {
        (node.scrape().await.value(&series) == count as f64).then_some(())
    })
    .await;
}
