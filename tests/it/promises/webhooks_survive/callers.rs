//! Who creates the tasks, who ends them, and who looks after the destinations.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{CANCELLED, COMMAND, Siege, text};
use crate::support::{Callers, Client};

/// How a task ends, by its number.
#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    Completed,
    CompletedInBatch,
    Failed,
    NackedToDeath,
    LeaseExpired,
    Cancelled,
}

fn end_of(n: usize) -> End {
    match n % 10 {
        0..4 => End::Completed,
        4..6 => End::CompletedInBatch,
        6 => End::Failed,
        7 => End::NackedToDeath,
        8 => End::LeaseExpired,
        _ => End::Cancelled,
    }
}

/// Creates every n-th batch of the tasks; their ids.
pub async fn produce(nodes: Callers, nth: usize, siege: Siege, urls: Vec<String>) -> Vec<String> {
    let numbers: Vec<usize> = (0..siege.tasks).collect();
    let mut ids = Vec::new();
    for batch in numbers.chunks(20).skip(nth).step_by(siege.producers) {
        let tasks: Vec<_> = batch.iter().map(|&n| task(n, &urls[n % urls.len()])).collect();
        let mut made = vec![None; batch.len()];
        // An item of a batch may be refused for itself while its node loses the store.
        while made.iter().any(Option::is_none) {
            let ask = json!({"tasks": tasks});
            let answer = nodes.insist(|node| node.post("/tasks/batch", ask.clone())).await;
            let results = answer.json_of(200)["results"].clone();
            for (made, result) in made.iter_mut().zip(results.as_array().unwrap()) {
                *made = result["task"]["id"].as_str().map(str::to_owned).or(made.take());
            }
        }
        for (&n, id) in batch.iter().zip(made.into_iter().flatten()) {
            if end_of(n) == End::Cancelled {
                cancel(&nodes, &id).await;
            }
            ids.push(id);
        }
        sleep(siege.pace).await;
    }
    ids
}

fn task(n: usize, url: &str) -> Value {
    let end = end_of(n);
    let mut task = json!({
        "command": if end == End::Cancelled { CANCELLED } else { COMMAND },
        "payload": n,
        "webhook": url,
        // A create whose answer was lost is repeated.
        "idempotencyKey": format!("siege-{n}"),
    });
    if matches!(end, End::NackedToDeath | End::LeaseExpired) {
        task["maxAttempts"] = json!(1);
    }
    task
}

async fn cancel(nodes: &Callers, id: &str) {
    let path = format!("/tasks/{id}/cancel");
    let status = nodes.insist(|node: &Client| node.bare_post(&path)).await.status;
    // The answer to the first call may be lost, and then it is over already.
    assert!(matches!(status, 200 | 409), "{status}");
}

/// Claims and ends tasks, until it is told to stop.
pub async fn work(nodes: Callers, stop: CancellationToken) {
    // Short: what is claimed from a node that dies before it answers waits for it.
    let ask = json!({"commands": [COMMAND], "leaseSeconds": 3, "count": 20});
    while !stop.is_cancelled() {
        let claim = nodes.attempt(|node| node.post("/tasks/claim/batch", ask.clone())).await;
        let Some(answer) = claim.filter(|answer| answer.status == 200) else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let tasks = answer.json();
        let tasks = tasks["tasks"].as_array().unwrap();
        let mut batch = Vec::new();
        for task in tasks {
            let end = end_of(text(task, "payload").parse().unwrap());
            match end {
                End::CompletedInBatch => batch.push(completed(task)),
                _ => finish(&nodes, task, end).await,
            }
        }
        if !batch.is_empty() {
            let body = json!({"results": batch});
            nodes.insist(|node| node.post("/tasks/batch/results", body.clone())).await;
        }
    }
}

fn completed(task: &Value) -> Value {
    json!({
        "taskId": task["id"],
        "leaseToken": task["leaseToken"],
        "status": "COMPLETED",
        "result": {"n": task["payload"]},
    })
}

/// What it answers does not matter: a lease that is lost leaves the task to another.
async fn finish(nodes: &Callers, task: &Value, end: End) {
    let id = text(task, "id");
    let token = &task["leaseToken"];
    match end {
        End::Completed => {
            let body = completed(task);
            nodes.insist(|node| node.submit(&id, body.clone())).await;
        }
        End::Failed => {
            nodes.insist(|node| node.fail(&id, "as it was meant").lease(token)).await;
        }
        End::NackedToDeath => {
            let body = json!({"reason": "as it was meant"});
            nodes.insist(|node| node.nack(&id, body.clone()).lease(token)).await;
        }
        End::CompletedInBatch | End::LeaseExpired | End::Cancelled => {}
    }
}

/// What an operator does who does not want to wait: ends the pause of destinations that are open.
/// How often.
pub async fn operate(nodes: Callers, stop: CancellationToken) -> usize {
    let mut resumed = 0;
    while !stop.is_cancelled() {
        if let Some(page) = nodes.attempt(|node| node.destinations("state=open&limit=1000")).await {
            let page = page.json_of(200);
            for destination in page["items"].as_array().unwrap() {
                let id = text(destination, "id");
                if let Some(answer) = nodes.attempt(|node| node.resume_destination(&id)).await {
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    resumed += 1;
                }
            }
        }
        sleep(Duration::from_millis(500)).await;
    }
    resumed
}
