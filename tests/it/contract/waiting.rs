//! Long polls: claims that wait for a task, reads that wait for a result.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, Client, Node, Raw, Redis, Settings, eventually};

/// A claim on its way; resolves when it is answered.
fn waiting(who: &Client, body: Value) -> tokio::task::JoinHandle<Answer> {
    tokio::spawn(who.claim_as(body).into_future())
}

async fn until_waiting(node: &Node, kind: &str, count: f64) {
    let series = format!("codeq_waiters{{kind=\"{kind}\"}}");
    eventually("long polls wait", async || {
        (node.scrape().await.value(&series) == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_waiting_claim_gets_a_task_within_milliseconds_from_any_node() {
    let redis = Redis::start().await;
    let (here, there) = (Node::on(&redis).await, Node::on(&redis).await);
    for body in [json!({"commands": ["m"], "waitSeconds": 30}), json!({"waitSeconds": 30})] {
        for producer in [&here, &there] {
            let claim = waiting(&here.worker(), body.clone());
            until_waiting(&here, "claim", 1.0).await;
            let began = Instant::now();
            let created = producer.producer().created("m").await;
            let claimed = claim.await.unwrap().json_of(200);
            assert_eq!(claimed["id"], created["id"]);
            // The safety poll comes every two seconds; this must not need it.
            assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
            here.worker().complete(claimed["id"].as_str().unwrap()).await.json_of(200);
        }
    }
    let scrape = here.scrape().await;
    let told = |source: &str| {
        scrape.value(&format!("codeq_wakeups_total{{kind=\"claim\",source=\"{source}\"}}"))
    };
    assert!(told("pubsub") >= 3.0, "{} by message, {} by poll", told("pubsub"), told("poll"));
}

#[tokio::test]
async fn a_claim_that_waits_in_vain_is_204_when_its_time_is_over() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let began = Instant::now();
    let answer = node.worker().claim_as(json!({"commands": ["m"], "waitSeconds": 1})).await;
    assert_eq!(answer.status, 204);
    let took = began.elapsed();
    assert!((Duration::from_millis(990)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert_eq!(node.scrape().await.value("codeq_waiters{kind=\"claim\"}"), 0.0);
}

#[tokio::test]
async fn many_that_wait_get_one_task_each() {
    let redis = Redis::start().await;
    let (here, there) = (Node::on(&redis).await, Node::on(&redis).await);
    let mut claims = tokio::task::JoinSet::new();
    for n in 0..40 {
        let node = if n % 2 == 0 { &here } else { &there };
        claims.spawn(
            node.worker().claim_as(json!({"commands": ["m"], "waitSeconds": 30})).into_future(),
        );
    }
    until_waiting(&here, "claim", 20.0).await;
    until_waiting(&there, "claim", 20.0).await;
    let mut created = Vec::new();
    for n in 0..40 {
        let node = if n % 3 == 0 { &here } else { &there };
        created.push(node.producer().created("m").await["id"].as_str().unwrap().to_owned());
    }
    let mut claimed = Vec::new();
    while let Some(answer) = claims.join_next().await {
        claimed.push(answer.unwrap().json_of(200)["id"].as_str().unwrap().to_owned());
    }
    created.sort();
    claimed.sort();
    assert_eq!(claimed, created, "each task once");
}

#[tokio::test]
async fn a_batch_claim_waits_for_its_first_task() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let body = json!({"commands": ["m"], "count": 5, "waitSeconds": 30});
    let claim = tokio::spawn(node.worker().post("/tasks/claim/batch", body).into_future());
    until_waiting(&node, "claim", 1.0).await;
    let created = node.producer().created("m").await;
    let claimed = claim.await.unwrap().json_of(200);
    assert_eq!(claimed["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(claimed["tasks"][0]["id"], created["id"]);
}

#[tokio::test]
async fn a_worker_that_hangs_up_while_it_waits_leaves_nothing_behind() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let claim = waiting(&node.worker(), json!({"commands": ["m"], "waitSeconds": 30}));
    until_waiting(&node, "claim", 1.0).await;
    claim.abort();
    until_waiting(&node, "claim", 0.0).await;
    node.producer().created("m").await;
    assert_eq!(node.worker().claimed("m").await["attempts"], 1, "nobody had it");
}

#[tokio::test]
async fn a_task_taken_for_a_worker_that_hung_up_comes_back_with_its_attempt_not_counted() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("REDIS_COMMAND_TIMEOUT_MS", "30000")]).await;
    let id = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    redis.freeze();
    let mut lost = Raw::to(&node.anyone().origin).await;
    lost.send(&claim_request(r#"{"commands":["m"]}"#)).await;
    let until_in_flight = async |count: f64| {
        eventually("calls are under way", async || {
            let scrape = node.scrape().await;
            (scrape.value("codeq_http_requests_in_flight") == count).then_some(())
        })
        .await;
    };
    until_in_flight(1.0).await;
    drop(lost);
    until_in_flight(0.0).await;
    redis.thaw();
    // Taken and given back, or never taken because its turn came too late: the same from outside.
    eventually("the task is ready as if nothing had been", async || {
        let task = node.producer().task(&id).await;
        (task["status"] == "PENDING" && task["attempts"] == Value::Null).then_some(())
    })
    .await;
    assert_eq!(node.worker().claimed("m").await["attempts"], 1);
}

/// The bytes of a claim.
fn claim_request(body: &str) -> String {
    format!(
        "POST /v1/codeq/tasks/claim HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer worker\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_worker_that_hangs_up_as_its_task_comes_loses_nothing() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    for _ in 0..20 {
        let mut lost = Raw::to(&node.anyone().origin).await;
        lost.send(&claim_request(r#"{"commands":["m"],"waitSeconds":30}"#)).await;
        until_waiting(&node, "claim", 1.0).await;
        let producer = node.producer();
        let create = producer.created("m");
        let (created, ()) = tokio::join!(create, async { drop(lost) });
        let id = created["id"].as_str().unwrap();
        until_waiting(&node, "claim", 0.0).await;
        // An answer that was written into the socket before it closed cannot be told from one that
        // arrived: such a task stays with its lease. Else it is ready, as if nothing had been.
        let task = node.producer().task(id).await;
        if task["status"] == "PENDING" {
            assert_eq!(task["attempts"], Value::Null);
            assert_eq!(node.worker().claimed("m").await["attempts"], 1);
        }
        node.worker().complete(id).await.json_of(200);
    }
}

#[tokio::test]
async fn a_read_waits_for_the_result_and_wakes_within_milliseconds_on_any_node() {
    let redis = Redis::start().await;
    let (here, there) = (Node::on(&redis).await, Node::on(&redis).await);
    for submitter in [&here, &there] {
        let task = here.producer().created("m").await;
        let id = task["id"].as_str().unwrap();
        let read = tokio::spawn(here.producer().result_within(id, 60).into_future());
        until_waiting(&here, "result", 1.0).await;
        submitter.worker().claimed("m").await;
        let began = Instant::now();
        submitter.worker().complete(id).await.json_of(200);
        let answer = read.await.unwrap().json_of(200);
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
        assert_eq!(
            (&answer["task"]["status"], &answer["result"]["result"]),
            (&json!("COMPLETED"), &json!({"ok": true}))
        );
    }
    let pending = here.producer().created("m").await;
    let began = Instant::now();
    let late = here.producer().result_within(pending["id"].as_str().unwrap(), 1).await;
    assert_eq!(late.refusal(), "404 result_not_found result not found");
    assert!(began.elapsed() >= Duration::from_millis(990));
}

#[tokio::test]
async fn a_read_wakes_however_the_task_ends() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let wait = |id: &str| tokio::spawn(node.producer().result_within(id, 60).into_future());
    let doomed =
        node.producer().created_as(json!({"command": "m", "payload": 1, "maxAttempts": 1})).await;
    let read = wait(&doomed);
    until_waiting(&node, "result", 1.0).await;
    node.worker().claimed("m").await;
    node.worker().nack(&doomed, json!({"reason": "smtp"})).await.json_of(200);
    assert_eq!(read.await.unwrap().json_of(200)["task"]["lastKnownLocation"], "DLQ_SET");
    until_waiting(&node, "result", 0.0).await;

    let cancelled = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    let read = wait(&cancelled);
    until_waiting(&node, "result", 1.0).await;
    node.producer().bare_post(&format!("/tasks/{cancelled}/cancel")).await.json_of(200);
    assert_eq!(read.await.unwrap().json_of(200)["result"]["error"], "CANCELLED");
}

#[tokio::test]
async fn what_waits_goes_on_waiting_while_redis_is_away() {
    let mut redis = Redis::durable().await;
    let node = Node::on(&redis).await;
    let task = node.producer().created("other").await;
    let id = task["id"].as_str().unwrap();
    let claim = waiting(&node.worker(), json!({"commands": ["m"], "waitSeconds": 30}));
    let read = tokio::spawn(node.producer().result_within(id, 30).into_future());
    until_waiting(&node, "claim", 1.0).await;
    until_waiting(&node, "result", 1.0).await;
    redis.kill();
    eventually("the node sees that Redis is away", async || {
        let answer = node.producer().create(json!({"command": "x", "payload": 1})).await;
        (answer.status == 503).then_some(())
    })
    .await;
    let began_away = waiting(&node.worker(), json!({"commands": ["m2"], "waitSeconds": 30}));
    redis.begin().await;
    let node = &node;
    let created = async |command: &'static str| {
        eventually("Redis is back", async || {
            let answer = node.producer().create(json!({"command": command, "payload": 1})).await;
            (answer.status == 202).then(|| answer.json())
        })
        .await
    };
    assert_eq!(created("m").await["id"], claim.await.unwrap().json_of(200)["id"]);
    assert_eq!(created("m2").await["id"], began_away.await.unwrap().json_of(200)["id"]);
    node.worker().claimed("other").await;
    node.worker().complete(id).await.json_of(200);
    assert_eq!(read.await.unwrap().status, 200);
}

#[tokio::test]
async fn what_waited_in_vain_for_redis_is_503_when_its_time_is_over() {
    let mut redis = Redis::start().await;
    let node = Settings::on(&redis).start().await;
    let claim = waiting(&node.worker(), json!({"commands": ["m"], "waitSeconds": 2}));
    until_waiting(&node, "claim", 1.0).await;
    redis.kill();
    let answer = claim.await.unwrap();
    // It may have looked before Redis went, and then has nothing to report but "no task".
    assert!(matches!(answer.status, 204 | 503), "{}", answer.shown());
    let began = Instant::now();
    let away = node.worker().claim_as(json!({"commands": ["m"], "waitSeconds": 2})).await;
    assert_eq!(away.refusal(), "503 store_unavailable store unavailable");
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
    assert!(away.header("Retry-After").is_some());
}
