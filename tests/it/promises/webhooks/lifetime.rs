//! How long a task, its result and its delivery are kept.

use codeq::model::delivery::{Reason, State};
use serde_json::json;

use super::{Place, completed, died, hooked, until_delivery, until_outbox_is_empty, until_state};
use crate::support::{Receiver, Redis, Reply, eventually};

/// Keys that name a task.
async fn keys_of(redis: &Redis, id: &str) -> Vec<String> {
    let short = Place::of(id, 1).short[..22].to_owned();
    let mut keys = redis.keys().await;
    keys.retain(|key| key.contains(&short));
    keys
}

#[tokio::test]
async fn a_task_outlives_its_retention_while_somebody_has_to_be_told() {
    let redis = Redis::start().await;
    let settings = hooked(&redis).set("TASK_RETENTION_SECONDS", "1");
    let settings = settings.set("RESULT_WEBHOOK_MAX_BACKOFF_SECONDS", "1");
    let node = settings.set("DLQ_RETENTION_SECONDS", "1").start().await;
    let receiver = Receiver::start().await;
    receiver.answers(Reply::Status(500));
    // Large enough that the result has a key of its own.
    let result = json!({"large": "x".repeat(20_000)});
    let task = json!({
        "command": "m", "payload": 1, "webhook": receiver.url(), "idempotencyKey": "k",
    });
    let id = node.producer().created_as(task).await;
    node.worker().claimed("m").await;
    let verdict = json!({"status": "COMPLETED", "result": result});
    node.worker().submit(&id, verdict).await.json_of(200);
    let dead = died(&node, json!({"command": "m", "payload": 1, "webhook": receiver.url()})).await;
    // Two failures take longer than the retention.
    for id in [&id, &dead] {
        until_delivery(&redis, id, 1, |of| of.attempts >= 2).await;
    }
    assert_eq!(node.producer().result(&id).await.json_of(200)["result"]["result"], result);
    receiver.answers(Reply::OK);
    receiver
        .until("both are accepted", |all| all.iter().filter(|one| one.is_accepted()).count() == 2)
        .await;
    let accepted = |id: &str| {
        let mut of = receiver.deliveries().remove(&format!("{id}_1")).unwrap();
        assert!(of.iter().all(|request| request.body == of[0].body));
        of.pop().unwrap().json()
    };
    assert_eq!(accepted(&id)["result"], result);
    assert_eq!(accepted(&dead)["error"], "no \"paper\"");
    // Now their time is over.
    eventually("nothing is left of them", || async {
        let left = [keys_of(&redis, &id).await, keys_of(&redis, &dead).await].concat();
        left.is_empty().then_some(())
    })
    .await;
    assert_eq!(node.producer().read(&id).await.status, 404);
}

#[tokio::test]
async fn a_task_that_was_told_is_kept_as_long_as_one_without_a_webhook() {
    let redis = Redis::start().await;
    let node = hooked(&redis).set("TASK_RETENTION_SECONDS", "600").start().await;
    let receiver = Receiver::start().await;
    let id = completed(&node, "m", &receiver).await;
    until_state(&redis, &id, 1, State::Delivered).await;
    let keys = keys_of(&redis, &id).await;
    assert!(keys.len() >= 3, "{keys:?}");
    for key in keys {
        let ttl: i64 = redis.command(&format!("TTL {key}")).await;
        assert!((580..=605).contains(&ttl), "{key} stays {ttl} s");
    }
}

#[tokio::test]
async fn a_dead_delivery_is_kept_for_its_own_time_whatever_becomes_of_its_task() {
    let redis = Redis::start().await;
    let node = hooked(&redis).set("WEBHOOK_DEAD_RETENTION_SECONDS", "60").start().await;
    let receiver = Receiver::start().await;
    receiver.answers(Reply::Status(410));
    let id = died(&node, json!({"command": "m", "payload": 1, "webhook": receiver.url()})).await;
    let dead = until_state(&redis, &id, 1, State::Dead).await;
    node.admin().bare_post("/admin/queues/m/dlq/purge").await.json_of(200);
    let place = Place::of(&id, 1);
    assert_eq!(keys_of(&redis, &id).await, [place.record.as_str()]);
    let kept = super::delivery(&redis, &id, 1).await.unwrap();
    assert_eq!((kept.reason, &kept.body), (Some(Reason::Gone), &dead.body));
    // A minute goes by.
    let then = dead.changed.unwrap().ms() - 61_000;
    let (root, tag) = (&place.root, &dead.tenant_tag);
    let _: i64 = redis.command(&format!("ZADD {root}:od:{tag} XX {then} {}", place.short)).await;
    let _: i64 = redis.command(&format!("ZADD {root}:od XX {then} {tag}")).await;
    eventually("it is forgotten", || async { keys_of(&redis, &id).await.is_empty().then_some(()) })
        .await;
    eventually("so are its indexes", || async {
        let left = redis.keys().await;
        let of_dead = |key: &String| key.contains(":od") || key.ends_with(":oc");
        (!left.iter().any(of_dead)).then_some(())
    })
    .await;
    until_outbox_is_empty(&redis).await;
}
