//! How a node leaves: nothing that was asked of it is lost.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Node, Raw, Redis, Settings, eventually};

/// A node that goes on listening for some seconds after it was told to stop, as balancers need it.
async fn patient(redis: &Redis) -> Node {
    Settings::on(redis).set("SHUTDOWN_DELAY_SECONDS", "2").start().await
}

async fn until_waiting(node: &Node, kind: &str, count: f64) {
    let series = format!("codeq_waiters{{kind=\"{kind}\"}}");
    eventually("long polls wait", async || {
        (node.scrape().await.value(&series) == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_told_to_stop_is_unready_at_once_answers_what_waits_and_exits_0() {
    let redis = Redis::start().await;
    let mut node = patient(&redis).await;
    let task = node.producer().created("other").await;
    let id = task["id"].as_str().unwrap();
    let claim = node.worker().claim_as(json!({"commands": ["m"], "waitSeconds": 30}));
    let claim = tokio::spawn(claim.into_future());
    let read = tokio::spawn(node.producer().result_within(id, 60).into_future());
    until_waiting(&node, "claim", 1.0).await;
    until_waiting(&node, "result", 1.0).await;

    let told = Instant::now();
    node.terminate();
    assert_eq!(claim.await.unwrap().status, 204);
    let read = read.await.unwrap();
    assert_eq!(read.refusal(), "404 result_not_found result not found");
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    let ready = node.anyone().get("//readyz").await;
    assert_eq!((ready.status, ready.text()), (503, r#"{"status":"draining"}"#));
    assert_eq!(node.anyone().get("//healthz").await.status, 200);
    let health = node.anyone().get("//health").await;
    assert_eq!((health.status, &health.json()["draining"]), (503, &json!(true)));
    assert_eq!(
        node.producer().create(json!({"command": "m", "payload": 1})).await.status,
        202,
        "until the port closes"
    );
    let late = node.worker().claim_as(json!({"commands": ["none"], "waitSeconds": 30})).await;
    assert_eq!(late.status, 204, "nobody waits on a node that goes");
    assert_eq!(node.scrape().await.value("codeq_draining"), 1.0);

    let status = node.exit(Duration::from_secs(8)).await;
    assert_eq!(status.code(), Some(0));
    let lines = node.lines();
    let events: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone())
        .collect();
    for event in ["node.started", "node.ready", "node.draining", "node.stopped"] {
        assert!(events.contains(&json!(event)), "{event} is not in {lines:#?}");
    }
}

#[tokio::test]
async fn a_request_in_flight_is_finished_before_the_node_ends() {
    let redis = Redis::start().await;
    let mut node = Node::on(&redis).await;
    let body = r#"{"command":"m","payload":{"n":1}}"#;
    let mut slow = Raw::to(&node.anyone().origin).await;
    slow.send(&format!(
        "POST /v1/codeq/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer producer\r\nContent-Length: {}\r\n\r\n{}",
        body.len(),
        &body[..10]
    ))
    .await;
    eventually("the request is in flight", async || {
        (node.scrape().await.value("codeq_http_requests_in_flight") >= 1.0).then_some(())
    })
    .await;
    node.terminate();
    node.line(|line| line["event"] == "node.draining").await;
    slow.send(&body[10..]).await;
    let answer = slow.rest().await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    assert_eq!(node.exit(Duration::from_secs(8)).await.code(), Some(0));
    let next = Node::on(&redis).await;
    assert_eq!(next.worker().claimed("m").await["payload"], r#"{"n":1}"#);
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_a_node_beyond_its_drain_time() {
    let redis = Redis::start().await;
    let mut node = Settings::on(&redis).set("SHUTDOWN_DRAIN_SECONDS", "1").start().await;
    let mut slow = Raw::to(&node.anyone().origin).await;
    slow.send("POST /v1/codeq/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer producer\r\nContent-Length: 10\r\n\r\n{").await;
    eventually("the request is in flight", async || {
        (node.scrape().await.value("codeq_http_requests_in_flight") >= 1.0).then_some(())
    })
    .await;
    node.terminate();
    assert_eq!(node.exit(Duration::from_secs(5)).await.code(), Some(0));
    assert!(node.lines().iter().any(|line| line.contains("node.cut_off")));
}

#[tokio::test]
async fn claims_that_race_with_the_stop_lose_no_task() {
    let redis = Redis::start().await;
    let (mut leaving, staying) = (Node::on(&redis).await, Node::on(&redis).await);
    let mut claims = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let body = json!({"commands": ["m"], "waitSeconds": 30});
        claims.spawn(leaving.worker().claim_as(body).sent());
    }
    until_waiting(&leaving, "claim", 20.0).await;
    let mut created = Vec::new();
    for n in 0..40 {
        if n == 10 {
            leaving.terminate();
        }
        created.push(staying.producer().created("m").await["id"].as_str().unwrap().to_owned());
    }
    let mut seen = Vec::new();
    while let Some(answer) = claims.join_next().await {
        let answer = answer.unwrap().expect("a node that goes answers first");
        match answer.status {
            200 => seen.push(answer.json()["id"].as_str().unwrap().to_owned()),
            status => assert_eq!(status, 204),
        }
    }
    assert_eq!(leaving.exit(Duration::from_secs(8)).await.code(), Some(0));
    loop {
        let answer = staying.worker().claim("m").await;
        if answer.status == 204 {
            break;
        }
        let task = answer.json_of(200);
        assert_eq!(task["attempts"], 1, "what was not handed over does not count");
        seen.push(task["id"].as_str().unwrap().to_owned());
    }
    seen.sort();
    created.sort();
    assert_eq!(seen, created, "each task was handed over once");
}

#[tokio::test]
async fn a_second_signal_ends_a_node_at_once() {
    let redis = Redis::start().await;
    let mut node = Settings::on(&redis).set("SHUTDOWN_DELAY_SECONDS", "8").start().await;
    node.terminate();
    node.line(|line| line["event"] == "node.draining").await;
    let told = Instant::now();
    eventually("the node ends", async || {
        node.terminate();
        tokio::time::sleep(Duration::from_millis(50)).await;
        node.anyone().get("//healthz").sent().await.is_err().then_some(())
    })
    .await;
    assert!(told.elapsed() < Duration::from_secs(4));
    assert_eq!(node.exit(Duration::from_secs(1)).await.code(), Some(1));
}

#[tokio::test]
async fn an_interrupt_stops_a_node_like_a_termination() {
    let redis = Redis::start().await;
    let mut node = Node::on(&redis).await;
    node.signal(libc::SIGINT);
    assert_eq!(node.exit(Duration::from_secs(8)).await.code(), Some(0));
}
