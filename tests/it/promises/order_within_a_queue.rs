//! Promise 3: the oldest ready task first, higher priorities before lower ones.

use serde_json::json;

use super::{drain, text};
use crate::support::{Node, Redis};

#[tokio::test]
async fn the_oldest_of_the_highest_priority_is_delivered_first_whichever_node_took_it() {
    let redis = Redis::start().await;
    let nodes = [Node::on(&redis).await, Node::on(&redis).await];
    let mut expected = Vec::new();
    for n in 0..60_u32 {
        let priority = (n * 7) % 10;
        let task = json!({"command": "mail", "payload": n, "priority": priority});
        let producer = nodes[n as usize % 2].producer();
        expected.push((9 - priority, n, producer.created_as(task).await));
    }
    expected.sort();
    let mut delivered = Vec::new();
    for n in 0..60 {
        delivered.push(text(&nodes[n % 2].worker().claimed("mail").await, "id"));
    }
    let expected: Vec<_> = expected.into_iter().map(|(_, _, id)| id).collect();
    assert_eq!(delivered, expected);
}

#[tokio::test]
async fn what_is_given_back_is_next_and_what_is_retried_is_last() {
    let redis = Redis::start().await;
    let node = super::quick(&redis).start().await;
    let (producer, worker) = (node.producer(), node.worker());
    for _ in 0..4 {
        producer.created("mail").await;
    }
    let first = text(&worker.claimed("mail").await, "id");
    let second = text(&worker.claimed("mail").await, "id");
    worker.nack(&first, json!({"delaySeconds": 1})).await.json_of(200);
    worker.abandon(&second).await.json_of(200);
    super::settled(&node.admin(), "mail", [4, 0, 0, 0]).await;
    let order: Vec<_> = drain(&worker, "mail").await.iter().map(|task| text(task, "id")).collect();
    assert_eq!(order.first(), Some(&second));
    assert_eq!(order.last(), Some(&first));
}
