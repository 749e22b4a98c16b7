//! What the operator is told: each change once, signed, and nothing about the telling.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    SECRET, completed, end_the_pause, ended, hooked, taken, until_destination,
    until_outbox_is_empty,
};
use crate::support::{Fleet, Keys, Receiver, Redis, Reply, eventually};

#[tokio::test]
async fn the_operator_is_told_once_of_each_change_and_never_of_the_telling() {
    let redis = Redis::start().await;
    let operator = Receiver::on("127.48.0.1").await;
    let (failing, gone) = (Receiver::on("127.48.0.2").await, Receiver::on("127.48.0.3").await);
    let settings = hooked(&redis).set("WEBHOOK_OPS_URL", &operator.url());
    let fleet = Fleet::start(settings, 2).await;
    let node = fleet.node(0);

    gone.answers(Reply::Status(410));
    let dead = completed(node, "m", &gone).await;
    operator.until_count(1).await;
    // Far more at once, by both nodes, than open it.
    failing.answers(Reply::Status(500));
    let ids = taken(node, "m", &[failing.url()], 60).await;
    let (some, others) = ids.split_at(30);
    tokio::join!(ended(node, some), ended(fleet.node(1), others));
    let id = until_destination(&node.admin(), &failing.origin(), "open").await;
    operator.until_count(2).await;
    failing.answers(Reply::OK);
    eventually("it is told that the destination is back", || async {
        // A node remembers for a moment what it saw, and leaves it alone again.
        end_the_pause(&redis, &id).await;
        (operator.count() == 3).then_some(())
    })
    .await;
    until_outbox_is_empty(&redis).await;

    let told = by_type(&operator);
    assert_eq!(
        told.keys().collect::<Vec<_>>(),
        ["delivery.dead", "destination.open", "destination.recovered"]
    );
    assert!(told.values().all(|all| all.len() == 1), "{told:#?}");
    assert!(told["delivery.dead"][0].to_string().contains(&dead), "{told:#?}");
    for change in ["destination.open", "destination.recovered"] {
        let event = &told[change][0];
        assert_eq!(event["destinationId"], id.as_str());
        assert_eq!(event["origin"], failing.origin());
        assert_eq!(event["tenantId"], "acme");
    }
    for request in operator.requests() {
        request.verify(&Keys::of(SECRET)).unwrap();
        assert_eq!(request.path(), "/hook");
    }

    // What is told of its own failures would fail in its turn, and so on.
    operator.answers(Reply::Status(410));
    for n in 0..6 {
        completed(node, "m", &gone).await;
        operator.until_count(4 + n).await;
    }
    until_outbox_is_empty(&redis).await;
    assert_eq!(operator.count(), 9);
    assert_eq!(by_type(&operator)["delivery.dead"].len(), 7);
}

/// Bodies by their type.
fn by_type(operator: &Receiver) -> BTreeMap<String, Vec<Value>> {
    let mut told = BTreeMap::<_, Vec<_>>::new();
    for request in operator.requests() {
        let body = request.json();
        told.entry(super::text(&body, "type")).or_default().push(body);
    }
    told
}
