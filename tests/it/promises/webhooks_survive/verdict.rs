//! What must hold once the noise is over.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::StreamExt as _;
use serde_json::Value;

use super::hosts::Hosts;
use super::{CANCELLED, COMMAND, text};
use crate::support::receiver::Request;
use crate::support::{Fleet, Redis};

/// The clocks of Redis and of this process are one, read a moment apart.
const A_MOMENT: Duration = Duration::from_millis(2);
/// Longer than a node that was killed holds a delivery: an attempt, and ten seconds.
const A_LEASE: Duration = Duration::from_secs(15);

/// Panics with everything that is not as promised, each with an example.
pub async fn every_end_was_told(
    fleet: &Fleet,
    redis: &Redis,
    hosts: &Hosts,
    ids: &[String],
    accepted: bool,
) {
    let tasks = read(fleet, ids).await;
    let requests = hosts.requests();
    let mut faults = Faults::default();
    for wrong in hosts.wrong() {
        faults.add("a signature does not hold", wrong);
    }
    let mut deliveries = BTreeMap::<&str, Vec<&Request>>::new();
    for request in &requests {
        deliveries.entry(request.webhook_id()).or_default().push(request);
    }
    let mut told = HashMap::<String, usize>::new();
    for (id, attempts) in &deliveries {
        look_at(id, attempts, &tasks, &mut faults);
        let times = attempts.iter().filter(|request| request.is_accepted()).count();
        *told.entry(attempts[0].task_id()).or_default() += times;
    }
    for id in ids {
        if told.get(id).is_none_or(|&times| times == 0) {
            let hook = fleet.node(0).admin().task_webhook(id).await;
            faults.add("an end was never accepted", format!("{}: {}", tasks[id], hook.text()));
        }
    }
    let twice = told.values().map(|times| times.saturating_sub(1)).sum::<usize>();
    let ends = tally(&tasks);
    println!(
        "{} tasks ended ({ends}), {} requests, {} accepted, {twice} of them again",
        ids.len(),
        requests.len(),
        told.values().sum::<usize>()
    );
    faults.none();
    assert!(accepted, "it took too long");
    outbox_is_empty(fleet, redis).await;
}

/// One delivery over all its attempts.
fn look_at(id: &str, attempts: &[&Request], tasks: &HashMap<String, Value>, faults: &mut Faults) {
    let first = attempts[0];
    let event = first.json();
    let Some(task) = tasks.get(&first.task_id()) else {
        return faults.add("a delivery is about no task of ours", id.to_owned());
    };
    if id != format!("{}_1", text(task, "id")) {
        faults.add("a task that ended once has another webhook-id", id.to_owned());
    }
    if attempts.iter().any(|attempt| attempt.body != first.body) {
        faults.add("two bodies for one webhook-id", id.to_owned());
    }
    let known = ["status", "completedAt"].map(|field| (&event[field], &task[field]));
    if known.iter().any(|(told, is)| told != is) {
        faults.add("the delivery says another end than the task", format!("{event} of {task}"));
    }
    let ended: jiff::Timestamp = text(&event, "completedAt").parse().expect("RFC 3339");
    let ended =
        UNIX_EPOCH + Duration::try_from(ended.duration_since(jiff::Timestamp::UNIX_EPOCH)).unwrap();
    if let Some(early) = attempts.iter().find(|attempt| attempt.time + A_MOMENT < ended) {
        faults.add("a delivery came before its task's end", format!("{:?}: {event}", early.time));
    }
}

/// Every task as it is now.
async fn read(fleet: &Fleet, ids: &[String]) -> HashMap<String, Value> {
    let reader = fleet.callers("admin");
    let reads = futures_util::stream::iter(ids).map(|id| {
        let reader = reader.clone();
        async move { (id.clone(), reader.insist(|node| node.read(id)).await.json_of(200)) }
    });
    reads.buffer_unordered(16).collect().await
}

/// `COMPLETED 180, DLQ 60, …`
fn tally(tasks: &HashMap<String, Value>) -> String {
    let mut ends = BTreeMap::<String, usize>::new();
    for task in tasks.values() {
        let place = text(task, "lastKnownLocation");
        let status = text(task, "status");
        *ends.entry(format!("{status} {place}")).or_default() += 1;
    }
    let ends: Vec<_> = ends.into_iter().map(|(end, count)| format!("{end} {count}")).collect();
    ends.join(", ")
}

/// Nothing waits, nothing died, nothing is left in the store. A node that was killed after the
/// answer leaves a delivery that is sent again once its lease ends: so that long is given.
async fn outbox_is_empty(fleet: &Fleet, redis: &Redis) {
    let left = |key: &String| ["}:o:", "}:oa", "}:od"].iter().any(|part| key.contains(part));
    let emptied = tokio::time::timeout(A_LEASE, async {
        while redis.keys().await.iter().any(left) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(emptied.await.is_ok(), "after {A_LEASE:?} a delivery is pending or dead");
    let operator = fleet.node(0).operator();
    for state in ["pending", "dead"] {
        let page = operator.webhooks(&format!("state={state}&limit=10")).await.json_of(200);
        assert_eq!(page["items"], Value::Array(Vec::new()), "{state}");
    }
    let page = operator.destinations("limit=1000").await.json_of(200);
    for destination in page["items"].as_array().unwrap() {
        let left = (&destination["pending"], &destination["dead"]);
        assert_eq!(left, (&0.into(), &0.into()), "{destination}");
    }
    for command in [COMMAND, CANCELLED] {
        let [ready, delayed, leased, _dead] = operator.counts(command).await;
        assert_eq!([ready, delayed, leased], [0, 0, 0], "{command}");
    }
}

/// What is wrong, by kind.
#[derive(Default)]
struct Faults(BTreeMap<&'static str, Vec<String>>);

impl Faults {
    fn add(&mut self, kind: &'static str, example: String) {
        self.0.entry(kind).or_default().push(example);
    }

    #[track_caller]
    fn none(&self) {
        let told = self.0.iter().map(|(kind, all)| {
            let some: Vec<_> = all.iter().take(3).cloned().collect();
            format!("{} times {kind}:\n  {}", all.len(), some.join("\n  "))
        });
        let told: Vec<_> = told.collect();
        assert!(told.is_empty(), "{}", told.join("\n"));
    }
}
