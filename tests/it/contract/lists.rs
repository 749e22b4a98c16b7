//! Pages of a queue's tasks.

use serde_json::{Value, json};

use crate::support::{Node, Redis};

async fn page(node: &Node, query: &str) -> (Vec<String>, Option<String>) {
    let page = node.admin().get(&format!("/admin/queues/m/tasks?{query}")).await.json_of(200);
    let ids = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["id"].as_str().unwrap().to_owned());
    let cursor =
        page.as_object().unwrap().get("nextCursor").map(|c| c.as_str().unwrap().to_owned());
    (ids.collect(), cursor)
}

/// Every task of a state, page by page.
async fn all(node: &Node, state: &str, limit: usize) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let rest = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let (ids, next) = page(node, &format!("state={state}&limit={limit}{rest}")).await;
        assert!(ids.len() <= limit);
        found.extend(ids);
        match next {
            Some(next) => cursor = Some(next),
            None => return found,
        }
    }
}

async fn create(node: &Node, more: Value) -> String {
    let mut task = json!({"command": "m", "payload": 1});
    task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    node.producer().created_as(task).await
}

#[tokio::test]
async fn each_state_is_listed_oldest_first_in_pages_of_any_size() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let mut dlq = Vec::new();
    for _ in 0..5 {
        let id = create(&node, json!({"maxAttempts": 1})).await;
        node.worker().claimed("m").await;
        node.worker().nack(&id, json!({})).await.json_of(200);
        dlq.push(id);
    }
    let mut in_progress = Vec::new();
    for lease in [500, 100, 300, 200, 400] {
        let id = create(&node, json!({})).await;
        node.worker().claim_as(json!({"leaseSeconds": lease})).await.json_of(200);
        in_progress.push((lease, id));
    }
    in_progress.sort();
    let in_progress: Vec<String> = in_progress.into_iter().map(|(_, id)| id).collect();
    let mut delayed = Vec::new();
    for seconds in [500, 100, 300, 200, 400] {
        delayed.push((seconds, create(&node, json!({"delaySeconds": seconds})).await));
    }
    delayed.sort();
    let delayed: Vec<String> = delayed.into_iter().map(|(_, id)| id).collect();
    let mut ready = Vec::new();
    for priority in [0, 9, 0, 5, 9] {
        ready.push((9 - priority, create(&node, json!({"priority": priority})).await));
    }
    ready.sort_by_key(|(rank, _)| *rank);
    let ready: Vec<String> = ready.into_iter().map(|(_, id)| id).collect();
    for (state, expected) in
        [("dlq", dlq), ("in_progress", in_progress), ("delayed", delayed), ("ready", ready)]
    {
        for limit in [1, 2, 5, 1000] {
            assert_eq!(all(&node, state, limit).await, expected, "{state} by {limit}");
        }
    }
}

#[tokio::test]
async fn a_page_is_a_hundred_and_the_last_one_has_no_cursor() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let items: Vec<Value> = (0..100).map(|n| json!({"command": "m", "payload": n})).collect();
    node.producer().post("/tasks/batch", json!(items)).await.json_of(200);
    create(&node, json!({})).await;
    let (first, cursor) = page(&node, "state=ready").await;
    assert_eq!(first.len(), 100);
    let (rest, last) = page(&node, &format!("state=ready&cursor={}", cursor.unwrap())).await;
    assert_eq!((rest.len(), last), (1, None));
    let task = node.admin().get("/admin/queues/m/tasks?state=ready&limit=1").await.json_of(200);
    let id = task["items"][0]["id"].as_str().unwrap();
    assert_eq!(task["items"][0], node.admin().task(id).await, "a row is the task");
    let (none, _) = page(&node, "state=dlq").await;
    assert_eq!(none.len(), 0);
}

#[tokio::test]
async fn a_bad_limit_cursor_or_state_is_an_invalid_body() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    for query in [
        "",
        "state=",
        "state=done",
        "state=READY",
        "state=ready&limit=0",
        "state=ready&limit=1001",
        "state=ready&limit=-1",
        "state=ready&limit=x",
        "state=ready&limit=",
        "state=ready&cursor=x",
        "state=ready&cursor=%00",
        "state=ready&state=dlq",
    ] {
        let refused = node.admin().get(&format!("/admin/queues/m/tasks?{query}")).await;
        assert_eq!(refused.refusal(), "400 invalid_body invalid body", "{query}");
    }
}

#[tokio::test]
async fn cancelled_tasks_and_other_queues_are_not_listed() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("PARTITIONS", "1")]).await;
    let mut expected = Vec::new();
    for n in 0..12 {
        let id = create(&node, json!({})).await;
        node.producer().created("other").await;
        node.token("globex-producer").created("m").await;
        if n % 3 == 1 {
            node.admin().delete(&format!("/admin/tasks/{id}")).await.json_of(200);
        } else {
            expected.push(id);
        }
    }
    for limit in [1, 3, 100] {
        assert_eq!(all(&node, "ready", limit).await, expected, "{limit}");
    }
    assert_eq!(node.admin().counts("m").await[0], 8);
}
