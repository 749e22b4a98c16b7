//! A retry storm: clients that give up at once and ask again elsewhere. Over the fleet each thing is
//! counted as often as it happened.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::{Nodes, of_m};
use crate::support::{Answer, Call, Client, Redis, eventually};

const PRODUCERS: usize = 4;
const TASKS_OF_EACH: usize = 15;

/// Repeats a call, at any node each time and mostly with little patience, until one answers. In most
/// rounds the caller is gone before its answer.
async fn insist(nodes: &Nodes, token: &str, call: impl Fn(&Client) -> Call) -> Answer {
    for round in 0.. {
        let node = &nodes.0[rand::random_range(0..nodes.0.len())];
        let patience = match round {
            0..5 => Duration::from_micros(rand::random_range(100..3_000)),
            _ => Duration::from_secs(5),
        };
        let sent = call(&node.token(token)).sent();
        if let Ok(Ok(answer)) = tokio::time::timeout(patience, sent).await {
            return answer;
        }
    }
    unreachable!("rounds without end")
}

/// Creates tasks, each with a key, some of them with one attempt only.
async fn produce(nodes: &Nodes, producer: usize) {
    for n in 0..TASKS_OF_EACH {
        let task = json!({"command": "m", "payload": n, "maxAttempts": if n % 5 == 0 { 1 } else { 50 },
            "idempotencyKey": format!("{producer}-{n}")});
        insist(nodes, "producer", |node| node.create(task.clone())).await.json_of(202);
    }
}

/// Works until told to stop: completes, fails, gives back, or forgets.
async fn work(nodes: &Nodes, ended: &AtomicUsize) {
    while ended.load(Ordering::Relaxed) == 0 {
        let ask = json!({"commands": ["m"], "leaseSeconds": 1, "waitSeconds": 1});
        let claimed = insist(nodes, "worker", |node| node.claim_as(ask.clone())).await;
        if claimed.status == 204 {
            continue;
        }
        let task = claimed.json_of(200);
        let (id, lease) = (task["id"].as_str().unwrap(), &task["leaseToken"]);
        let what = rand::random_range(0..10);
        let call = |node: &Client| match what {
            0 => node.nack(id, json!({"delaySeconds": 1})).lease(lease),
            1 => node.abandon(id).lease(lease),
            2 => node.fail(id, "no").lease(lease),
            _ => node.complete(id).lease(lease),
        };
        if what == 3 {
            continue; // its lease runs out
        }
        let answer = insist(nodes, "worker", call).await;
        // A busy machine may let a lease of a second run out.
        assert!(matches!(answer.status, 200 | 409), "{}", answer.shown());
    }
}

/// Waits until nothing is left to do. What was delivered to nobody takes seconds to come back.
async fn all_have_ended(admin: &Client) {
    let ended = async {
        while admin.counts("m").await[..3] != [0, 0, 0] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the storm has an end");
}

#[tokio::test]
async fn m44_counters_balance_after_a_retry_storm_on_three_nodes() {
    let redis = Redis::start().await;
    let nodes = Nodes::on(&redis, 3).await;
    let ended = AtomicUsize::new(0);
    let storm = async {
        join_all((0..PRODUCERS).map(|producer| produce(&nodes, producer))).await;
        let admin = nodes.0[0].admin();
        all_have_ended(&admin).await;
        // One dead task comes back, so that its second life is counted as well.
        let some = json!({"limit": 1});
        let back = admin.post("/admin/queues/m/dlq/requeue", some).await.json_of(200);
        let producer = nodes.0[1].producer();
        let undone =
            producer.created_as(json!({"command": "m", "payload": 1, "delaySeconds": 600}));
        let undone = format!("/tasks/{}/cancel", undone.await);
        producer.bare_post(&undone).await.json_of(200);
        all_have_ended(&admin).await;
        ended.store(1, Ordering::Relaxed);
        back["requeued"].as_f64().unwrap()
    };
    let (back, _) = tokio::join!(storm, join_all((0..6).map(|_| work(&nodes, &ended))));

    #[expect(clippy::cast_precision_loss, reason = "a hundred or so")]
    let tasks = (PRODUCERS * TASKS_OF_EACH) as f64;
    eventually("the counts agree with what happened", async || {
        let [created, completed, failed, requeued] = nodes
            .counted([
                "task_created_total",
                "task_completed_total{status=\"COMPLETED\"}",
                "task_completed_total{status=\"FAILED\"}",
                "dlq_moved_total{kind=\"requeue\"}",
            ])
            .await;
        let [claimed, acks, nacked, expired, dead_by_nack, dead_by_lease, abandoned, undelivered] =
            nodes
                .counted([
                    "task_claimed_total",
                    "task_execution_seconds_count{outcome=\"ack\"}",
                    "task_retries_total{reason=\"nack\"}",
                    "task_retries_total{reason=\"lease_expired\"}",
                    "task_dead_lettered_total{reason=\"nack\"}",
                    "task_dead_lettered_total{reason=\"lease_expired\"}",
                    "task_returned_total{reason=\"abandon\"}",
                    "task_returned_total{reason=\"undelivered\"}",
                ])
                .await;
        let [cancelled] = nodes.counted(["task_cancelled_total"]).await;
        let lives = created == tasks + cancelled && requeued == back && cancelled == 1.0;
        let ends = created + requeued == completed + failed + cancelled;
        let deliveries = claimed
            == acks + nacked + expired + dead_by_nack + dead_by_lease + abandoned + undelivered;
        let [leases, said_nack] = nodes
            .counted(["lease_expired_total", "task_execution_seconds_count{outcome=\"nack\"}"])
            .await;
        let parts = leases == expired + dead_by_lease && said_nack == nacked + dead_by_nack;
        println!(
            "created {created} requeued {requeued} completed {completed} failed {failed} claimed \
             {claimed} acks {acks} nacks {nacked} + {dead_by_nack} leases {expired} + \
             {dead_by_lease} abandoned {abandoned} undelivered {undelivered}"
        );
        (lives && ends && deliveries && parts).then_some(())
    })
    .await;
    // Something was tried: answers were lost, and what was repeated was known.
    assert!(nodes.sum(&of_m("task_idempotent_replays_total")).await > 0.0, "no call was repeated");
}
