//! A reply that is lost after the work was done: repeating a call has one effect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{create_many, drain, ids, quickly, settled, text};
use crate::support::{Callers, Fleet, Node, Proxy, Redis, Settings};

/// A fleet behind a network that loses replies, and a node beside it that sees clearly.
async fn behind_a_bad_network() -> (Redis, Proxy, Fleet, Node) {
    let redis = Redis::start().await;
    let proxy = Proxy::before(&redis).await;
    let settings = quickly(Settings::at(&proxy.url())).set("REDIS_COMMAND_TIMEOUT_MS", "400");
    let fleet = Fleet::start(settings, 2).await;
    let clear = super::quick(&redis).start().await;
    (redis, proxy, fleet, clear)
}

#[tokio::test]
async fn creates_whose_replies_are_lost_make_one_task_each() {
    let (_redis, proxy, fleet, clear) = behind_a_bad_network().await;
    proxy.lose_one_in(100);
    let callers = fleet.callers("producer");
    let producers = (0..8).map(|producer| create(callers.clone(), producer));
    let accepted: BTreeMap<_, _> = join_all(producers).await.into_iter().flatten().collect();
    proxy.lose_one_in(0);
    assert!(proxy.happened() > 0, "no reply was lost: nothing was tried");
    println!("{} replies lost, {} tasks", proxy.happened(), accepted.len());

    let delivered = drain(&clear.worker(), "mail").await;
    ids(&delivered);
    let mut of_payload = BTreeMap::<_, Vec<_>>::new();
    for task in &delivered {
        of_payload.entry(text(task, "payload")).or_default().push(text(task, "id"));
    }
    for (payload, id) in &accepted {
        let tasks = of_payload.remove(payload).unwrap_or_default();
        assert_eq!(tasks, std::slice::from_ref(id), "{payload}");
    }
    // What nobody was told of: a create without a key whose outcome was called unknown.
    assert!(of_payload.keys().all(|payload| payload.contains("no key")), "{of_payload:?}");
    assert!(of_payload.values().all(|tasks| tasks.len() == 1), "{of_payload:?}");
}

/// Creates with and without a key. One without is not repeated by us, so it may have failed.
async fn create(nodes: Callers, producer: usize) -> Vec<(String, String)> {
    let mut accepted = Vec::new();
    for n in 0..40 {
        let key = format!("{producer}-{n}");
        let with = json!({"command": "mail", "payload": key, "idempotencyKey": key});
        let task = nodes.insist(|node| node.create(with.clone())).await.json_of(202);
        accepted.push((text(&task, "payload"), text(&task, "id")));
        let without = json!({"command": "mail", "payload": format!("{key} no key")});
        if let Some(answer) = nodes.attempt(|node| node.create(without.clone())).await {
            let task = answer.json_of(202);
            accepted.push((text(&task, "payload"), text(&task, "id")));
        }
    }
    accepted
}

#[tokio::test]
async fn submits_and_nacks_whose_replies_are_lost_end_one_attempt_each() {
    let (_redis, proxy, fleet, clear) = behind_a_bad_network().await;
    let created = create_many(&clear.producer(), 150, json!({"command": "mail"})).await;
    let leased = drain(&clear.worker(), "mail").await;
    proxy.lose_one_in(15);
    let workers = fleet.callers("worker");
    let replayed = Arc::new(AtomicUsize::new(0));
    // One after the other in each of ten lines, so that there are many replies to lose.
    join_all(leased.chunks(15).map(|tasks| end(workers.clone(), tasks, replayed.clone()))).await;
    proxy.lose_one_in(0);
    println!(
        "{} replies lost, {} answers replayed",
        proxy.happened(),
        replayed.load(Ordering::Relaxed)
    );
    assert!(proxy.happened() > 0, "no reply was lost: nothing was tried");

    settled(&clear.admin(), "mail", [75, 0, 0, 0]).await;
    let again = drain(&clear.worker(), "mail").await;
    assert_eq!(ids(&again).len(), 75);
    for task in &again {
        assert_eq!(task["attempts"], 2, "a nack counted twice: {task}");
    }
    let mut ends = 0;
    for id in &created {
        let timeline = clear.producer().timeline(id).await.json_of(200);
        let events = timeline["events"].as_array().unwrap();
        ends += events.iter().filter(|event| event["to"] == "NONE").count();
        let nacks = events.iter().filter(|event| event["reason"] == "lost?").count();
        assert!(nacks <= 1, "{timeline}");
    }
    assert_eq!(ends, 75);
}

async fn end(nodes: Callers, tasks: &[Value], replayed: Arc<AtomicUsize>) {
    for task in tasks {
        let (id, lease) = (text(task, "id"), &task["leaseToken"]);
        let n: u64 = text(task, "payload").parse().unwrap();
        let answer = match n % 2 {
            0 => nodes.insist(|node| node.complete(&id).lease(lease)).await,
            _ => {
                let why = json!({"reason": "lost?", "delaySeconds": 2});
                nodes.insist(|node| node.nack(&id, why.clone()).lease(lease)).await
            }
        };
        answer.json_of(200);
        replayed.fetch_add(usize::from(answer.is_replayed()), Ordering::Relaxed);
    }
}

#[tokio::test]
async fn claims_whose_replies_are_lost_return_with_the_end_of_their_lease() {
    let (_redis, proxy, fleet, clear) = behind_a_bad_network().await;
    let created = create_many(&clear.producer(), 120, json!({"command": "mail"})).await;
    proxy.lose_one_in(30);
    let workers = fleet.callers("worker");
    let ask = json!({"commands": ["mail"], "leaseSeconds": 1});
    // The busier the machine, the fewer replies carry the same claims: so until one was lost.
    for _ in 0..50 {
        let claims = (0..10).map(|_| async {
            for _ in 0..20 {
                workers.attempt(|node| node.claim_as(ask.clone())).await;
            }
        });
        join_all(claims).await;
        if proxy.happened() > 0 {
            break;
        }
    }
    proxy.lose_one_in(0);
    assert!(proxy.happened() > 0, "no reply was lost: nothing was tried");
    // Nobody heartbeats: a second of lease, one of back-off, one of sweeping.
    settled(&clear.admin(), "mail", [120, 0, 0, 0]).await;
    let delivered = drain(&clear.worker(), "mail").await;
    assert_eq!(ids(&delivered), created.into_iter().collect());
}
