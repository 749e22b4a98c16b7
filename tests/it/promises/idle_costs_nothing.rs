//! Promise 6: what is idle costs nothing.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::{create_many, drain, quick, text, waiting_claims};
use crate::support::{Node, Redis, eventually};

/// Keys that may stay: layout, metric labels, and what ends by itself within seconds, or, who works,
/// within two minutes.
async fn left(redis: &Redis) -> Vec<String> {
    let mut left = redis.keys().await;
    left.retain(|key| !(key.ends_with(":g") || key.ends_with(":m") || key.contains("meta")));
    left.retain(|key| !key.contains(":jw:"));
    left
}

/// Creates tasks of many commands and finishes them in every way there is.
async fn use_and_leave(node: &Node, commands: usize) {
    let (producer, worker) = (node.producer(), node.worker());
    let all = (0..commands).map(|n| {
        let (producer, worker) = (producer.clone(), worker.clone());
        async move {
            let command = format!("c{n}");
            let task = json!({"command": command, "payload": 1, "idempotencyKey": "k"});
            producer.create(task).await.json_of(202);
            producer.create(json!({"command": command, "payload": 1})).await.json_of(202);
            let first = text(&worker.claimed(&command).await, "id");
            worker.abandon(&first).await.json_of(200);
            let first = text(&worker.claimed(&command).await, "id");
            worker.complete(&first).await.json_of(200);
            let second = text(&worker.claimed(&command).await, "id");
            worker.fail(&second, "no").await.json_of(200);
            let third = producer.created_as(json!({"command": command, "payload": 1})).await;
            producer.bare_post(&format!("/tasks/{third}/cancel")).await.json_of(200);
            let last = json!({"command": command, "payload": 1, "maxAttempts": 1});
            let dead = producer.created_as(last).await;
            worker.claimed(&command).await;
            worker.nack(&dead, json!({})).await.json_of(200);
        }
    });
    join_all(all).await;
}

#[tokio::test]
async fn drained_queues_leave_no_key_and_results_end_with_their_retention() {
    // Item 28 of the failures: results were never deleted.
    let redis = Redis::start().await;
    let settings = quick(&redis).set("TASK_RETENTION_SECONDS", "2");
    let node = settings.set("DLQ_RETENTION_SECONDS", "2").start().await;
    use_and_leave(&node, 30).await;
    eventually("no key is left", || async { left(&redis).await.is_empty().then_some(()) }).await;
    let scrape = node.scrape().await;
    assert_eq!(scrape.sum("codeq_queue_depth", ""), 0.0);
    assert_eq!(node.admin().get("/admin/queues").await.json_of(200), json!([]));
}

#[tokio::test]
async fn claims_and_reads_of_what_is_not_there_leave_no_key() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    for n in 0..50 {
        assert_eq!(node.worker().claim(&format!("never-{n}")).await.status, 204);
    }
    assert_eq!(node.worker().claim_as(json!({"waitSeconds": 1})).await.status, 204);
    assert_eq!(node.producer().read("0199f3f5-8c00-7000-8000-000000000000").await.status, 404);
    assert_eq!(node.admin().counts("never").await, [0, 0, 0, 0]);
    assert_eq!(left(&redis).await, Vec::<String>::new());
}

/// Calls of scripts and microseconds in them so far, as Redis counts.
async fn spent(redis: &Redis) -> (f64, f64) {
    let stats: String = redis.command("INFO commandstats").await;
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:")).unwrap();
    let number = |name: &str| {
        let part = line.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
        part.trim_start_matches('=').parse::<f64>().unwrap()
    };
    (number("calls"), number("usec"))
}

/// What a fleet that is left alone costs: scripts a second, and the share of a core they take.
async fn cost_of_idleness(redis: &Redis) -> (f64, f64) {
    // A rate needs a span of time; this is the one place where one is let pass.
    let (calls, usec) = spent(redis).await;
    let begun = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (later_calls, later_usec) = spent(redis).await;
    let seconds = begun.elapsed().as_secs_f64();
    ((later_calls - calls) / seconds, (later_usec - usec) / seconds / 1e6)
}

#[tokio::test]
async fn a_fleet_with_many_idle_queues_and_tasks_costs_what_a_new_one_costs() {
    let redis = Redis::start().await;
    let nodes = [quick(&redis).start().await, quick(&redis).start().await];
    let (new_calls, new_share) = cost_of_idleness(&redis).await;
    use_and_leave(&nodes[0], 50).await;
    // Tasks that are due much later, and tasks that nobody asks for.
    let later = json!({"command": "later", "delaySeconds": 86_400});
    create_many(&nodes[0].producer(), 2000, later).await;
    create_many(&nodes[1].producer(), 2000, json!({"command": "waits"})).await;
    drain(&nodes[0].worker(), "waits").await;
    let (calls, share) = cost_of_idleness(&redis).await;
    println!("idle: {new_calls:.0}/s {new_share:.5} of a core; used: {calls:.0}/s {share:.5}");
    // 16 partitions, twice a second, whoever does it; a node asks in vain where another was first.
    assert!(new_calls <= 16.0 * 2.0 * 2.0 * 1.2, "{new_calls} scripts a second");
    assert!(calls <= new_calls * 1.5 + 5.0, "{calls} scripts a second, {new_calls} when new");
    assert!(share <= new_share * 3.0 + 0.002, "{share} of a core, {new_share} when new");
    assert!(share < 0.05, "{share} of a core");
}

#[tokio::test]
async fn claims_that_wait_ask_redis_no_more_often_when_there_are_more_of_them() {
    // Item 32 of the failures: each waiting claim polled four times a second.
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let (fresh, _) = cost_of_idleness(&redis).await;
    let ask = json!({"commands": ["a", "b", "c", "d", "e"], "waitSeconds": 30});
    let worker = node.worker();
    let claims: Vec<_> =
        (0..200).map(|_| tokio::spawn(worker.claim_as(ask.clone()).into_future())).collect();
    waiting_claims(&node, 200).await;
    // Each looks before it waits; once the poll has been round all of them have.
    let looks = || async { node.scrape().await.sum("codeq_store_operations_total", "\"peek\"") };
    let before = looks().await;
    eventually("a poll", || async { (looks().await > before).then_some(()) }).await;
    let claimed = node.scrape().await.sum("codeq_store_operations_total", "\"claim\"");
    let (waited, _) = cost_of_idleness(&redis).await;
    let after = node.scrape().await.sum("codeq_store_operations_total", "\"claim\"");
    println!("scripts a second: {fresh:.1} alone, {waited:.1} with 200 waiting claims");
    assert_eq!(after, claimed, "a waiting claim looked although nothing was there");
    // Every two seconds one look for each of five queues.
    assert!(waited <= fresh * 1.2 + 5.0, "{waited} scripts a second, {fresh} without waiters");
    for claim in claims {
        claim.abort();
    }
}
