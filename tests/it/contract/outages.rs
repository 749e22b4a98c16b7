//! Redis is away: nothing is promised that is not kept.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::assert_shown;
use crate::support::{Node, Redis, eventually};

#[tokio::test]
async fn while_redis_is_away_every_call_is_503_and_says_that_nothing_was_done() {
    let mut redis = Redis::durable().await;
    let node = Node::on(&redis).await;
    let id = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    redis.kill();
    eventually("the node sees it", async || {
        let answer = node.producer().create(json!({"command": "x", "payload": 1})).await;
        (answer.refusal() == "503 store_unavailable store unavailable").then_some(())
    })
    .await;
    assert_shown!(node.producer().create(json!({"command": "x", "payload": 1})).await, @r#"
    503 {"error":"store unavailable",
    "code":"store_unavailable",
    "requestId":"<request>"}
    "#);
    let (producer, worker, admin) = (node.producer(), node.worker(), node.admin());
    for call in [
        producer.read(&id),
        producer.result(&id),
        producer.timeline(&id),
        worker.claim("m"),
        worker.claim_as(json!({})),
        worker.complete(&id),
        worker.heartbeat(&id),
        worker.nack(&id, json!({})),
        worker.abandon(&id),
        producer.bare_post(&format!("/tasks/{id}/cancel")),
        admin.get("/admin/queues"),
        admin.get("/admin/queues/m"),
        admin.get("/admin/queues/m/tasks?state=ready"),
        admin.bare_post("/admin/queues/m/pause"),
        admin.get("/admin/topics/m"),
    ] {
        let answer = call.await;
        assert_eq!(answer.refusal(), "503 store_unavailable store unavailable");
        let seconds: u64 = answer.header("Retry-After").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds));
    }
    let batch = producer.post("/tasks/batch", json!([{"command": "m", "payload": 1}])).await;
    let code = if batch.status == 200 {
        batch.json()[0]["code"].clone()
    } else {
        batch.json()["code"].clone()
    };
    assert_eq!(code, "store_unavailable", "{}", batch.text());
    assert_eq!(node.anyone().get("//healthz").await.status, 200, "the process runs");
    assert_eq!(
        producer.create(json!({"command": ""})).await.status,
        400,
        "what needs no store is answered"
    );

    redis.begin().await;
    let claimed = eventually("the node is back by itself", async || {
        let answer = node.worker().claim("m").await;
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    assert_eq!(claimed["id"], id.as_str());
}

#[tokio::test]
async fn a_redis_that_hangs_is_answered_in_time_and_nothing_is_done_twice() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("REDIS_COMMAND_TIMEOUT_MS", "300")]).await;
    node.producer().created("m").await;
    redis.freeze();
    let task = json!({"command": "m", "payload": 1, "idempotencyKey": "k"});
    let began = Instant::now();
    let answer = node.producer().create(task.clone()).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(answer.status, 503, "{}", answer.text());
    let code = answer.json()["code"].as_str().unwrap().to_owned();
    assert!(matches!(code.as_str(), "outcome_unknown" | "store_unavailable"), "{code}");
    assert_eq!(answer.json()["error"], "store unavailable");
    assert!(answer.header("Retry-After").is_some());
    redis.thaw();
    let created = eventually("Redis is back", async || {
        let answer = node.producer().create(task.clone()).await;
        (answer.status == 202).then_some(answer)
    })
    .await;
    let again = node.producer().create(task).await;
    assert_eq!(again.json()["id"], created.json()["id"]);
    assert_eq!(
        node.admin().counts("m").await,
        [2, 0, 0, 0],
        "repeated with its key, it is one task"
    );
}

#[tokio::test]
async fn a_redis_that_is_nearly_full_takes_no_more_tasks_but_lets_work_finish() {
    let redis = Redis::with(&["--appendonly", "no", "--maxmemory-policy", "noeviction"]).await;
    let node = Node::on(&redis).await;
    let id = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    let used: String = redis.command("INFO memory").await;
    let used: u64 =
        used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().parse().unwrap();
    let maxmemory = used * 100 / 95;
    redis.command::<String>(&format!("CONFIG SET maxmemory {maxmemory}")).await;
    let refused = eventually("the node sees how full it is", async || {
        let answer = node.producer().create(json!({"command": "m", "payload": "x"})).await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!(refused.refusal(), "503 store_unavailable store unavailable");
    assert!(refused.header("Retry-After").is_some());
    node.worker().claimed("m").await;
    node.worker().complete(&id).await.json_of(200);
    redis.command::<String>("CONFIG SET maxmemory 0").await;
    eventually("there is room again", async || {
        let answer = node.producer().create(json!({"command": "m", "payload": "x"})).await;
        (answer.status == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn scripts_that_a_restarted_redis_forgot_are_sent_again() {
    let mut redis = Redis::durable().await;
    let node = Node::on(&redis).await;
    node.producer().created("m").await;
    redis.command::<String>("SCRIPT FLUSH").await;
    node.producer().created("m").await;
    redis.restart().await;
    eventually("the node is back", async || {
        (node.worker().claim("m").await.status == 200).then_some(())
    })
    .await;
}
