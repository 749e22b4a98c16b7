//! Idempotency keys: one key, one task.

use serde_json::{Value, json};

use crate::support::{Call, Client, Node, Redis};

fn create(who: &Client, command: &str, key: &str, payload: Value) -> Call {
    who.create(json!({"command": command, "payload": payload, "idempotencyKey": key}))
}

#[tokio::test]
async fn a_repeated_create_answers_the_task_that_is_there() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let first = create(&node.producer(), "m", "order-7", json!({"n": 1})).await;
    assert!(!first.is_replayed());
    let again = create(&node.producer(), "m", "order-7", json!({"n": 1})).await;
    assert_eq!((again.status, again.is_replayed(), &again.body), (202, true, &first.body));
    assert_eq!(again.header("Idempotency-Mismatch"), None);
    node.worker().claimed("m").await;
    let later = create(&node.producer(), "m", "order-7", json!({"n": 1})).await.json_of(202);
    assert_eq!(later["status"], "IN_PROGRESS", "as it is now");
    let id = later["id"].as_str().unwrap();
    node.worker().complete(id).await.json_of(200);
    let done = create(&node.producer(), "m", "order-7", json!({"n": 1})).await.json_of(202);
    assert_eq!((&done["id"], &done["status"]), (&later["id"], &json!("COMPLETED")));
}

#[tokio::test]
async fn a_replay_with_another_payload_says_so_and_other_fields_do_not_count() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let first = create(&node.producer(), "m", "k", json!({"n": 1})).await.json_of(202);
    for (payload, mismatch) in
        [(r#"{"n":1}"#, None), (r#"{"n": 1}"#, Some("true")), (r#"{"n":2}"#, Some("true"))]
    {
        let body = format!(
            r#"{{"command":"m","idempotencyKey":"k","priority":5,"delaySeconds":9,"payload":{payload}}}"#
        );
        let again = node.producer().bare_post("/tasks").text(body).await;
        assert_eq!(again.json_of(202)["id"], first["id"]);
        assert!(again.is_replayed());
        assert_eq!(again.header("Idempotency-Mismatch"), mismatch, "{payload}");
    }
    let large = json!({"x": "y".repeat(5000)});
    create(&node.producer(), "m", "large", large.clone()).await.json_of(202);
    let again = create(&node.producer(), "m", "large", large).await;
    assert_eq!((again.is_replayed(), again.header("Idempotency-Mismatch")), (true, None));
    let other = create(&node.producer(), "m", "large", json!({"x": "z".repeat(5000)})).await;
    assert_eq!(other.header("Idempotency-Mismatch"), Some("true"));
    assert_eq!(node.admin().counts("m").await, [2, 0, 0, 0]);
}

#[tokio::test]
async fn keys_are_scoped_to_tenant_and_lower_cased_command() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let id = async |token: &str, command: &str, key: &str| {
        create(&node.token(token), command, key, json!(1)).await.json_of(202)["id"].clone()
    };
    let first = id("producer", "Grüße", "k").await;
    assert_eq!(id("producer", "GRÜßE", "k").await, first, "the command has no case");
    assert_eq!(id("producer-2", "Grüße", "k").await, first, "another subject of the tenant");
    assert_ne!(id("producer", "Grüße", "K").await, first, "the key has");
    assert_ne!(id("producer", "other", "k").await, first);
    assert_ne!(id("globex-producer", "Grüße", "k").await, first);
}

#[tokio::test]
async fn the_header_is_as_good_as_the_field_and_the_field_wins() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let task = || node.producer().create(json!({"command": "m", "payload": 1}));
    let by_header = task().header("Idempotency-Key", "h").await.json_of(202);
    assert!(task().header("Idempotency-Key", "h").await.is_replayed());
    assert_eq!(
        create(&node.producer(), "m", "h", json!(1)).await.json_of(202)["id"],
        by_header["id"]
    );
    let both = create(&node.producer(), "m", "f", json!(1)).header("Idempotency-Key", "h").await;
    assert_ne!(both.json_of(202)["id"], by_header["id"], "the field wins");
    let blank = create(&node.producer(), "m", "  ", json!(1)).await;
    assert!(!blank.is_replayed());
    assert!(
        !create(&node.producer(), "m", "  ", json!(1)).await.is_replayed(),
        "white space is no key"
    );
    let longest = "k".repeat(255);
    assert_eq!(create(&node.producer(), "m", &longest, json!(1)).await.status, 202);
    let too_long = task().header("Idempotency-Key", &"k".repeat(256)).await;
    assert_eq!(too_long.refusal(), "400 invalid_body invalid body");
}

#[tokio::test]
async fn creates_at_the_same_moment_with_one_key_make_one_task() {
    let redis = Redis::start().await;
    let (here, there) = (Node::on(&redis).await, Node::on(&redis).await);
    for payload in [json!(1), json!({"x": "y".repeat(3000)})] {
        let mut creates = tokio::task::JoinSet::new();
        for n in 0..40 {
            let node = if n % 2 == 0 { &here } else { &there };
            creates.spawn(create(&node.producer(), "race", "k", payload.clone()).into_future());
        }
        let mut ids = Vec::new();
        let mut fresh = 0;
        while let Some(answer) = creates.join_next().await {
            let answer = answer.unwrap();
            fresh += usize::from(!answer.is_replayed());
            ids.push(answer.json_of(202)["id"].as_str().unwrap().to_owned());
        }
        ids.dedup();
        assert_eq!((ids.len(), fresh), (1, 1));
        assert_eq!(here.worker().claimed("race").await["id"], ids[0].as_str());
        assert_eq!(here.worker().claim("race").await.status, 204);
        here.worker().complete(&ids[0]).await.json_of(200);
        redis.command::<String>("FLUSHDB").await;
    }
}

#[tokio::test]
async fn a_key_of_a_dead_or_cancelled_task_answers_that_task() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let task = json!({"command": "m", "payload": 1, "maxAttempts": 1, "idempotencyKey": "dead"});
    let dead = node.producer().created_as(task.clone()).await;
    node.worker().claimed("m").await;
    node.worker().nack(&dead, json!({"reason": "smtp"})).await.json_of(200);
    let again = node.producer().create(task).await;
    assert!(again.is_replayed());
    let again = again.json();
    assert_eq!((&again["id"], &again["error"]), (&json!(dead), &json!("smtp")));

    let task = json!({"command": "m", "payload": 1, "idempotencyKey": "cancelled"});
    let cancelled = node.producer().created_as(task.clone()).await;
    let path = format!("/tasks/{cancelled}/cancel");
    node.producer().bare_post(&path).await.json_of(200);
    assert_eq!(node.producer().create(task).await.json_of(202)["error"], "CANCELLED");
}
