//! Promise 2: one valid lease at a time, exactly one end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{create_many, ids, quick, settled, text};
use crate::support::{Did, Fleet, History, Redis, eventually};

#[tokio::test]
async fn a_hundred_concurrent_submits_end_a_task_once() {
    let redis = Redis::start().await;
    let fleet = Fleet::start(quick(&redis), 2).await;
    let id = text(&fleet.node(0).producer().created("mail").await, "id");
    let claimed = fleet.node(0).worker().claimed("mail").await;
    let workers = fleet.callers("worker");
    let submits = (0..100).map(|n| {
        let verdict = match n % 2 {
            0 => json!({"status": "COMPLETED", "result": {"by": "one"}}),
            _ => json!({"status": "FAILED", "error": "other"}),
        };
        workers.any().submit(&id, verdict).lease(&claimed["leaseToken"])
    });
    let answers = join_all(submits.map(IntoFuture::into_future)).await;
    let first: Vec<_> =
        answers.iter().filter(|answer| answer.status == 200 && !answer.is_replayed()).collect();
    assert_eq!(first.len(), 1, "submits that ended the task");
    let record = first[0].json();
    for answer in &answers {
        match answer.status {
            200 => assert_eq!(answer.json(), record, "a repetition shows the stored record"),
            _ => assert_eq!(answer.refusal(), "409 not_in_progress not-in-progress"),
        }
    }
    assert_eq!(answers.iter().filter(|answer| answer.status == 409).count(), 50);
    let mut ends = 0.0;
    for node in fleet.nodes() {
        ends += node.scrape().await.sum("codeq_task_completed_total", "");
    }
    assert_eq!(ends, 1.0);
}

#[tokio::test]
async fn leases_that_end_and_workers_that_are_late_leave_one_holder_and_one_end() {
    let redis = Redis::start().await;
    let fleet = Fleet::start(quick(&redis), 2).await;
    let created = create_many(&fleet.node(0).producer(), 60, json!({"command": "mail"})).await;
    let history = Arc::new(History::default());
    let workers = (0..12).map(|_| late_worker(fleet.callers("worker"), history.clone(), 60));
    join_all(workers).await;
    history.check();
    assert_eq!(history.finished(), created.len());
    assert!(history.claimed() > created.len(), "no lease ended: nothing was tried");
    settled(&fleet.node(0).admin(), "mail", [0, 0, 0, 0]).await;
}

/// Takes tasks for a second; every third one it holds for longer, and then acts as if nothing were.
async fn late_worker(fleet: crate::support::Callers, history: Arc<History>, tasks: usize) {
    while history.finished() < tasks {
        let ask = json!({"commands": ["mail"], "leaseSeconds": 1, "waitSeconds": 1});
        let began = Instant::now();
        let answer = fleet.any().claim_as(ask).await;
        if answer.status == 204 {
            continue;
        }
        let task = answer.json_of(200);
        let (id, attempt) = (text(&task, "id"), task["attempts"].as_u64().unwrap());
        history.add(&id, Did::Claimed(attempt), began);
        if attempt < 3 && rand::random_bool(0.3) {
            tokio::time::sleep(Duration::from_millis(rand::random_range(900..2500))).await;
        }
        let began = Instant::now();
        let keep = json!({"extendSeconds": 1});
        let path = format!("/tasks/{id}/heartbeat");
        if fleet.any().post(&path, keep).lease(&task["leaseToken"]).await.status == 200 {
            history.add(&id, Did::Kept(attempt), began);
        }
        let began = Instant::now();
        let answer = fleet.any().complete(&id).lease(&task["leaseToken"]).await;
        match answer.status {
            200 if !answer.is_replayed() => history.add(&id, Did::Finished(attempt), began),
            409 => {}
            _ => panic!("{}", answer.shown()),
        }
    }
}

#[tokio::test]
async fn a_node_that_slept_through_a_lease_submits_in_vain_and_delivers_nothing_stale() {
    let redis = Redis::start().await;
    let fleet = Fleet::start(quick(&redis), 2).await;
    let (asleep, awake) = (fleet.node(0), fleet.node(1));
    let id = text(&awake.producer().created("mail").await, "id");
    let ask = json!({"commands": ["mail"], "leaseSeconds": 1});
    let stale = asleep.worker().claim_as(ask).await.json_of(200);
    let worker = asleep.worker();
    let wait = json!({"commands": ["mail"], "waitSeconds": 30});
    let waiting = tokio::spawn(worker.claim_as(wait).into_future());
    super::waiting_claims(asleep, 1).await;

    asleep.signal(libc::SIGSTOP);
    let late = tokio::spawn(worker.complete(&id).lease(&stale["leaseToken"]).into_future());
    // The other node ends the lease, and its worker takes the task.
    let fresh: Value = eventually("the task is delivered again", || async {
        let answer = awake.other_worker().claim("mail").await;
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    asleep.signal(libc::SIGCONT);

    assert_eq!(late.await.unwrap().refusal(), "409 lease_lost lease-lost");
    awake.other_worker().complete(&id).lease(&fresh["leaseToken"]).await.json_of(200);
    let next = text(&awake.producer().created("mail").await, "id");
    let delivered = waiting.await.unwrap().json_of(200);
    assert_eq!(ids(&[delivered]), [next].into());
}
