//! Which task comes next.

use serde_json::{Value, json};

use crate::support::{Node, Redis};

async fn create(node: &Node, command: &str, priority: u8) -> Value {
    let body = json!({"command": command, "payload": 1, "priority": priority});
    node.producer().create(body).await.json_of(202)["id"].clone()
}

#[tokio::test]
async fn nine_comes_before_zero_and_within_a_priority_the_oldest_first() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let mut created = Vec::new();
    for priority in [0, 3, 9, 0, 5, 9, 1, 3, 9, 0] {
        created.push((priority, create(&node, "m", priority).await));
    }
    created.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    for (priority, id) in created {
        let claimed = node.worker().claimed("m").await;
        assert_eq!(
            (&claimed["id"], claimed["priority"].as_u64().unwrap_or(0)),
            (&id, u64::from(priority))
        );
    }
}

#[tokio::test]
async fn an_abandoned_task_is_next_and_a_due_one_last() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let first = create(&node, "m", 0).await;
    let second = create(&node, "m", 0).await;
    let held = node.worker().claimed("m").await;
    assert_eq!(held["id"], first);
    node.worker().abandon(first.as_str().unwrap()).await.json_of(200);
    assert_eq!(node.other_worker().claimed("m").await["id"], first, "at the head");
    node.other_worker()
        .nack(first.as_str().unwrap(), json!({"delaySeconds": 1}))
        .await
        .json_of(200);
    // It is due when it is ready again; what was created before that comes first.
    crate::support::eventually("the first task is due", async || {
        (node.admin().counts("m").await == [2, 0, 0, 0]).then_some(())
    })
    .await;
    assert_eq!(node.worker().claimed("m").await["id"], second);
    assert_eq!(node.worker().claimed("m").await["id"], first, "at the tail");
}

#[tokio::test]
async fn commands_are_looked_through_in_the_order_the_worker_gives() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("PARTITIONS", "1")]).await;
    let low = create(&node, "a", 0).await;
    let high = create(&node, "b", 9).await;
    let claim = |commands: Value| node.worker().claim_as(json!({"commands": commands}));
    assert_eq!(claim(json!(["c", "a", "b"])).await.json_of(200)["id"], low);
    assert_eq!(claim(json!(["c", "a", "b"])).await.json_of(200)["id"], high);
}

#[tokio::test]
async fn no_queue_starves_when_a_worker_takes_from_any() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    for _ in 0..40 {
        create(&node, "busy", 9).await;
    }
    create(&node, "quiet", 0).await;
    let mut claims = 0;
    loop {
        claims += 1;
        let task = node.worker().claim_as(json!({})).await.json_of(200);
        if task["command"] == "quiet" {
            break;
        }
    }
    assert!(claims <= 20, "{claims} claims");
}
