//! Webhooks: the end of a task is told, once it is there and until it is heard, whatever fails on
//! the way.

mod attempts;
mod crashes;
mod ends;
mod idle;
mod lifetime;
mod outcomes;

use codeq::model::delivery::{Delivery, State};
use codeq::model::{DeliveryId, Partitions};
use serde_json::Value;

use super::quick;
use crate::support::{Node, Receiver, Redis, Settings, eventually};

pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Nodes that give an attempt half a second, and make the next one a second later.
pub fn hooked(redis: &Redis) -> Settings {
    quick(redis)
        .set("WEBHOOK_HMAC_SECRET", SECRET)
        .set("WEBHOOK_TIMEOUT_MS", "500")
        .set("WEBHOOK_CONNECT_TIMEOUT_MS", "500")
        .set("RESULT_WEBHOOK_BASE_BACKOFF_SECONDS", "1")
}

/// Where the record of a delivery is, and its place among those of its destination.
struct Place {
    record: String,
    root: String,
    short: String,
}

impl Place {
    /// Of the `n`-th end of a task.
    fn of(task: &str, n: u16) -> Self {
        let id = DeliveryId::parse(&format!("{task}_{n}")).unwrap();
        let root = Partitions::new("codeq", 16).root(id.partition());
        let short = id.short();
        Self { record: format!("{root}:v:{short}"), root, short }
    }

    /// The deliveries that are pending for the same destination.
    fn pending(&self, of: &Delivery) -> String {
        format!("{}:o:{}", self.root, of.destination)
    }
}

/// What the store holds of the delivery of a task's `n`-th end.
pub async fn delivery(redis: &Redis, task: &str, n: u16) -> Option<Delivery> {
    let raw: Option<Vec<u8>> = redis.command(&format!("GET {}", Place::of(task, n).record)).await;
    raw.map(|raw| Delivery::read(&raw).unwrap())
}

/// When a pending delivery is due, in milliseconds.
pub async fn due_ms(redis: &Redis, task: &str, n: u16) -> Option<i64> {
    let of = delivery(redis, task, n).await?;
    let place = Place::of(task, n);
    let due: Option<f64> =
        redis.command(&format!("ZSCORE {} {}", place.pending(&of), place.short)).await;
    #[expect(clippy::cast_possible_truncation, reason = "a time in milliseconds")]
    let due = due.map(|due| due as i64);
    due
}

/// Waits until the delivery of a task's `n`-th end is such.
pub async fn until_delivery(
    redis: &Redis,
    task: &str,
    n: u16,
    such: impl Fn(&Delivery) -> bool,
) -> Delivery {
    let mut last = None;
    for _ in 0..2000 {
        last = delivery(redis, task, n).await;
        if last.as_ref().is_some_and(&such) {
            return last.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the delivery is not as expected: {last:#?}");
}

/// Waits until the delivery of a task's `n`-th end has become this.
pub async fn until_state(redis: &Redis, task: &str, n: u16, state: State) -> Delivery {
    until_delivery(redis, task, n, |of| of.state == state).await
}

/// Keys of the outbox that are there: what is due, what is parked, what ages.
pub async fn waiting(redis: &Redis) -> Vec<String> {
    let mut keys = redis.keys().await;
    let of_outbox = |key: &String| {
        key.rsplit_once('}').is_some_and(|(_, name)| {
            matches!(name, ":o" | ":oz" | ":oa") || name.starts_with(":o:")
        })
    };
    keys.retain(of_outbox);
    keys
}

/// Waits until nothing waits for a receiver.
pub async fn until_outbox_is_empty(redis: &Redis) {
    eventually("the outbox is empty", || async { waiting(redis).await.is_empty().then_some(()) })
        .await;
}

/// A task of this command with a webhook is worked on, and completed; its id.
pub async fn completed(node: &Node, command: &str, receiver: &Receiver) -> String {
    let id = node.producer().created_with_webhook(command, &receiver.url()).await;
    node.worker().claimed(command).await;
    node.worker().complete(&id).await.json_of(200);
    id
}

/// A task of this command and these fields dies at its first attempt; its id.
pub async fn died(node: &Node, mut task: Value) -> String {
    task["maxAttempts"] = 1.into();
    let command = super::text(&task, "command");
    let id = node.producer().created_as(task).await;
    node.worker().claimed(&command).await;
    let reason = serde_json::json!({"reason": "no \"paper\""});
    node.worker().nack(&id, reason).await.json_of(200);
    id
}
