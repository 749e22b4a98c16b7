//! Long polls: woken within milliseconds, by a message, each task by one claim.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{quick, text, waiting, waiting_claims};
use crate::support::client::plain;
use crate::support::{Answer, Client, Fleet, Nemesis, Node, Raw, Redis, Scrape, eventually};

fn waiting_claim(worker: &Client, command: &str) -> JoinHandle<(Answer, Instant)> {
    let call = worker.claim_as(json!({"commands": [command], "waitSeconds": 30})).into_future();
    tokio::spawn(async move { (call.await, Instant::now()) })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn polls(scrape: &Scrape, kind: &str) -> f64 {
    scrape.value(&format!("codeq_wakeups_total{{kind=\"{kind}\",source=\"poll\"}}"))
}

/// The most that a wake-up may take.
const AT_ONCE: Duration = Duration::from_millis(20);
/// A machine that is busy with other things may need another round to show what is possible.
const ROUNDS: usize = 3;

#[tokio::test]
async fn a_claim_that_waits_at_another_node_is_answered_within_20_ms_and_never_by_the_poll() {
    let redis = Redis::start().await;
    let (here, there) = (Node::on(&redis).await, Node::on(&redis).await);
    let (producer, worker) = (here.producer(), there.worker());
    for round in 1..=ROUNDS {
        let polls_before = polls(&there.scrape().await, "claim");
        let mut times = Vec::new();
        for _ in 0..200 {
            let claim = waiting_claim(&worker, "mail");
            waiting_claims(&there, 1).await;
            let begun = Instant::now();
            let id = text(&producer.created("mail").await, "id");
            let (answer, ended) = claim.await.unwrap();
            assert_eq!(text(&answer.json_of(200), "id"), id);
            times.push(ended - begun);
        }
        let by_poll = polls(&there.scrape().await, "claim") - polls_before;
        let median = median(times);
        println!("create to delivery: median {median:?}, {by_poll} by the poll");
        if median < AT_ONCE && by_poll == 0.0 {
            return;
        }
        assert!(round < ROUNDS, "median {median:?}, {by_poll} by the poll");
    }
}

#[tokio::test]
async fn a_result_that_is_waited_for_at_another_node_is_answered_within_20_ms_of_its_submit() {
    let redis = Redis::start().await;
    let (here, there) = (Node::on(&redis).await, Node::on(&redis).await);
    for round in 1..=ROUNDS {
        let polls_before = polls(&there.scrape().await, "result");
        let mut times = Vec::new();
        for _ in 0..50 {
            times.push(submit_to_result(&redis, &here, &there).await);
        }
        let by_poll = polls(&there.scrape().await, "result") - polls_before;
        let median = median(times);
        println!("submit to result: median {median:?}, {by_poll} by the poll");
        if median < AT_ONCE && by_poll == 0.0 {
            return;
        }
        assert!(round < ROUNDS, "median {median:?}, {by_poll} by the poll");
    }
}

async fn submit_to_result(redis: &Redis, here: &Node, there: &Node) -> Duration {
    let (producer, worker) = (there.producer(), here.worker());
    let id = text(&producer.created("mail").await, "id");
    worker.claimed("mail").await;
    let call = producer.result_within(&id, 30).into_future();
    let result = tokio::spawn(async move { (call.await, Instant::now()) });
    waiting(there, "result", 1).await;
    // It waits once it has left its mark, which is what makes the submit tell.
    eventually("the mark", || async {
        redis.keys().await.iter().any(|key| key.ends_with(":y")).then_some(())
    })
    .await;
    let begun = Instant::now();
    worker.complete(&id).await.json_of(200);
    let (answer, ended) = result.await.unwrap();
    assert_eq!(text(&answer.json_of(200)["task"], "status"), "COMPLETED");
    ended - begun
}

/// Claims handed to the store so far.
async fn claims(node: &Node) -> f64 {
    node.scrape().await.sum("codeq_store_operations_total", "operation=\"claim\"")
}

/// Looks of the safety poll so far.
async fn looks(node: &Node) -> f64 {
    node.scrape().await.sum("codeq_store_operations_total", "operation=\"peek\"")
}

#[tokio::test]
async fn two_thousand_waiters_and_one_task_cause_at_most_one_claim_for_each_node() {
    let redis = Redis::start().await;
    let nodes = [Node::on(&redis).await, Node::on(&redis).await];
    let mut waiters = Vec::new();
    for node in &nodes {
        for _ in 0..10 {
            // A connection for each hundred, as streams.
            let worker = node.worker().over(plain().http2_prior_knowledge());
            waiters.extend((0..100).map(|_| waiting_claim(&worker, "mail")));
        }
    }
    for node in &nodes {
        waiting_claims(node, 1000).await;
        // Each looks once before it waits and once when it does; only then its look is no answer.
        eventually("each has looked", || async { (claims(node).await >= 2000.0).then_some(()) })
            .await;
    }
    let mut before = Vec::new();
    for node in &nodes {
        before.push((claims(node).await, looks(node).await));
    }
    nodes[0].producer().created("mail").await;
    eventually("one is answered", || {
        let answered = waiters.iter().filter(|waiter| waiter.is_finished()).count();
        async move { (answered == 1).then_some(()) }
    })
    .await;
    for (node, (claims_before, looks_before)) in nodes.iter().zip(before) {
        // Once the poll has been round, whatever the task caused has happened.
        eventually("a poll", || async { (looks(node).await > looks_before).then_some(()) }).await;
        let caused = claims(node).await - claims_before;
        assert!(caused <= 1.0, "{caused} claims of one node for one task");
    }
    assert_eq!(waiters.iter().filter(|waiter| waiter.is_finished()).count(), 1);
    for waiter in waiters {
        waiter.abort();
    }
    for node in &nodes {
        waiting_claims(node, 0).await;
    }
}

#[tokio::test]
async fn waiters_whose_messages_are_cut_off_all_the_time_are_served_by_the_fallback() {
    let redis = Redis::start().await;
    let fleet = Fleet::start(quick(&redis), 2).await;
    let mut connection = redis.connection().await;
    let cutting = Nemesis::start(|stop| async move {
        while !stop.is_cancelled() {
            let mut kill = ::redis::cmd("CLIENT");
            let _ = kill.arg("KILL").arg("TYPE").arg("pubsub").exec_async(&mut connection).await;
            sleep(Duration::from_millis(15)).await;
        }
    });
    let (producer, worker) = (fleet.node(0).producer(), fleet.node(1).worker());
    for round in 0..2 {
        let waiters: Vec<_> =
            (0..30).map(|n| waiting_claim(&worker, &format!("c{round}-{n}"))).collect();
        waiting_claims(fleet.node(1), 30).await;
        let mut longest = Duration::ZERO;
        for (n, waiter) in waiters.into_iter().enumerate() {
            let begun = Instant::now();
            producer.created(&format!("c{round}-{n}")).await;
            let answered = timeout(Duration::from_secs(8), waiter).await;
            let (answer, ended) = answered.expect("it is served").unwrap();
            answer.json_of(200);
            longest = longest.max(ended - begun);
            if longest > Duration::from_secs(1) {
                break; // one that had to wait for the fallback is what we came to see
            }
        }
        println!("longest with messages cut off: {longest:?}");
        assert!(longest < Duration::from_millis(3500), "{longest:?}");
    }
    cutting.stop().await;
}

/// A claim of `worker-2` that waits, as bytes on a connection of its own.
async fn raw_claim(node: &Node, command: &str) -> Raw {
    let body = json!({"commands": [command], "waitSeconds": 30}).to_string();
    let mut raw = Raw::to(&node.anyone().origin).await;
    raw.send(&format!(
        "POST /v1/codeq/tasks/claim HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer worker-2\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    raw
}

#[tokio::test]
async fn a_waiter_that_disconnects_passes_its_turn_on() {
    let redis = Redis::start().await;
    let (here, there) = (Node::on(&redis).await, Node::on(&redis).await);
    let (producer, worker) = (here.producer(), there.worker());
    let (mut passed_on, mut taken_along) = (0, 0);
    for round in 0..40 {
        let leaving = raw_claim(&there, "mail").await;
        waiting_claims(&there, 1).await;
        let staying = waiting_claim(&worker, "mail");
        waiting_claims(&there, 2).await;
        let leave = async {
            // From before the turn comes to after the answer is written.
            sleep(Duration::from_micros(250 * round)).await;
            drop(leaving);
        };
        let (task, ()) = tokio::join!(producer.created("mail"), leave);
        let id = text(&task, "id");
        let is_served = eventually("the task has a holder", || async {
            if staying.is_finished() {
                return Some(true);
            }
            // It had the answer before it left. If it had not, the task is on its way back.
            let taken = producer.task(&id).await["workerId"] == "worker-2"
                && there.other_worker().complete(&id).await.status == 200;
            taken.then_some(false)
        })
        .await;
        if is_served {
            passed_on += 1;
        } else {
            taken_along += 1;
            producer.created("mail").await;
        }
        let delivered = staying.await.unwrap().0.json_of(200);
        assert_eq!(text(&delivered, "id") == id, is_served);
        assert_eq!(delivered["attempts"], 1, "what nobody received counts as an attempt");
        worker.complete(&text(&delivered, "id")).await.json_of(200);
    }
    println!("{passed_on} passed on, {taken_along} answered before they left");
    assert!(passed_on > 0, "nobody left in time: nothing was tried");
    assert_eq!(polls(&there.scrape().await, "claim"), 0.0, "only the poll found it");
    assert_eq!(here.admin().counts("mail").await, [0, 0, 0, 0]);
}
