//! Batches: items in order, each on its own.

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::{Node, Redis};

fn items(count: usize) -> Vec<Value> {
    (0..count).map(|n| json!({"command": "m", "payload": n})).collect()
}

#[tokio::test]
async fn a_batch_of_tasks_is_answered_in_order_each_on_its_own() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let batch = json!({"tasks": [
        {"command": "m", "payload": {"n": 1}},
        {"command": "", "payload": 1},
        {"payload": 1},
        7,
        null,
        {"command": "m", "payload": 1, "priority": "x"},
        {"command": "m", "payload": 1, "webhook": "nowhere"},
        {"command": "m", "payload": 1, "delaySeconds": -1},
        {"command": "m", "payload": 2, "delaySeconds": 60},
    ]});
    let answer = node.producer().post("/tasks/batch", batch).await.json_of(200);
    let results = answer["results"].as_array().unwrap();
    let told: Vec<String> = results
        .iter()
        .map(|item| match &item["task"] {
            Value::Null => {
                format!("{} {}", item["code"].as_str().unwrap(), item["error"].as_str().unwrap())
            }
            task => format!("{} {}", task["payload"], task["lastKnownLocation"]),
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    "{\"n\":1}" "PENDING_LIST"
    invalid_command invalid command
    invalid_body invalid body
    invalid_body invalid body
    invalid_body invalid body
    invalid_body invalid body
    invalid_url invalid webhook url
    invalid_delay invalid 'delaySeconds' (must be >= 0)
    "2" "DELAYED_ZSET"
    "#);
    assert_eq!(node.admin().counts("m").await, [1, 1, 0, 0]);
}

#[tokio::test]
async fn a_bare_array_is_answered_with_a_bare_array() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let created =
        node.producer().post("/tasks/batch", json!([{"command": "m", "payload": 1}, {}])).await;
    assert_shown!(created, @r#"
    200 [{"task":{"id":"<id>","command":"m","payload":"1","status":"PENDING","lastKnownLocation":"PENDING_LIST","maxAttempts":5,"tenantId":"acme","createdAt":"<time>","updatedAt":"<time>"}},
    {"error":"invalid body","code":"invalid_body","detail":"missing field `command`"}]
    "#);
    let id = node.worker().claimed("m").await["id"].clone();
    let submitted = node
        .worker()
        .post("/tasks/batch/results", json!([{"taskId": id, "status": "COMPLETED", "result": {}}]))
        .await;
    assert_shown!(submitted, @r#"200 [{"taskId":"<id>","result":{"taskId":"<id>","status":"COMPLETED","result":{},"completedAt":"<time>"}}]"#);
    assert_eq!(
        node.worker().post("/tasks/claim/batch", json!([])).await.status,
        400,
        "only these two"
    );
}

#[tokio::test]
async fn a_batch_has_one_to_a_hundred_items() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let over = "400 batch_too_large batch size exceeds maximum of 100";
    let body = "400 invalid_body invalid body";
    for (path, field, who) in [
        ("/tasks/batch", "tasks", node.producer()),
        ("/tasks/batch/results", "results", node.worker()),
    ] {
        for (sent, refused) in [
            (json!({field: items(101)}), over),
            (json!(items(101)), over),
            (json!({field: []}), body),
            (json!([]), body),
            (json!({}), body),
            (json!({field: null}), body),
            (json!({field: {}}), body),
            (json!(7), body),
        ] {
            assert_eq!(who.post(path, sent).await.refusal(), refused, "{path}");
        }
    }
    let hundred =
        node.producer().post("/tasks/batch", json!({"tasks": items(100)})).await.json_of(200);
    let payloads: Vec<String> = hundred["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["task"]["payload"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(payloads, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    let first = node.worker().claimed("m").await;
    assert_eq!(first["payload"], "0", "they were enqueued in their order");
}

#[tokio::test]
async fn a_batch_keeps_payloads_byte_for_byte() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let payload = r#"{ "a": 1.50, "a": "\u00fc" }"#;
    let large = format!(r#"{{ "x": "{}" }}"#, "y".repeat(5000));
    let body = format!(
        r#"{{"tasks":[{{"command":"m","payload":{payload}}}, {{"command":"m","payload":{large}}}]}}"#
    );
    let answer = node.producer().bare_post("/tasks/batch").text(body).await.json_of(200);
    assert_eq!(answer["results"][0]["task"]["payload"], payload);
    assert_eq!(answer["results"][1]["task"]["payload"], large);
    for text in [payload, &large] {
        assert_eq!(node.worker().claimed("m").await["payload"], text);
    }
}

#[tokio::test]
async fn a_batch_of_claims_answers_tasks_in_the_order_of_delivery() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    assert_eq!(node.worker().post("/tasks/claim/batch", json!({"count": 3})).await.status, 204);
    node.producer().post("/tasks/batch", json!(items(5))).await.json_of(200);
    let claim = |count: i64| {
        node.worker().post("/tasks/claim/batch", json!({"commands": ["m"], "count": count}))
    };
    let payloads = |answer: Value| -> Vec<String> {
        answer["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| task["payload"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(payloads(claim(3).await.json_of(200)), ["0", "1", "2"]);
    let rest = claim(10).await.json_of(200);
    let leases: Vec<&Value> =
        rest["tasks"].as_array().unwrap().iter().map(|task| &task["leaseToken"]).collect();
    assert_ne!(leases[0], leases[1]);
    assert_eq!(payloads(rest.clone()), ["3", "4"]);
    let body = "400 invalid_body invalid body";
    for count in [0, -1] {
        assert_eq!(claim(count).await.refusal(), body);
    }
    assert_eq!(node.worker().post("/tasks/claim/batch", json!({})).await.refusal(), body);
    assert_eq!(node.worker().bare_post("/tasks/claim/batch").await.refusal(), body);
    assert_eq!(claim(11).await.refusal(), "400 count_too_large count exceeds maximum of 10");
    assert_eq!(claim(i64::MAX).await.refusal(), "400 count_too_large count exceeds maximum of 10");

    let wide = Node::with(&redis, &[("MAX_CLAIM_BATCH", "50")]).await;
    let claim = |count: i64| wide.worker().post("/tasks/claim/batch", json!({"count": count}));
    assert_eq!(claim(51).await.refusal(), "400 count_too_large count exceeds maximum of 50");
    wide.producer().post("/tasks/batch", json!(items(50))).await.json_of(200);
    assert_eq!(payloads(claim(50).await.json_of(200)).len(), 50);
}

#[tokio::test]
async fn a_batch_of_results_is_answered_in_order_each_on_its_own() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    node.producer().post("/tasks/batch", json!(items(4))).await.json_of(200);
    let body = json!({"commands": ["m"], "count": 4});
    let claimed = node.worker().post("/tasks/claim/batch", body).await.json_of(200);
    let id = |n: usize| claimed["tasks"][n]["id"].clone();
    let batch = json!({"results": [
        {"taskId": id(0), "status": "COMPLETED", "result": {"n": 0}},
        {"taskId": id(1), "status": "FAILED", "error": "no"},
        {"taskId": id(2), "status": "COMPLETED"},
        {"taskId": "019b0000-0000-7000-8000-000000000000", "status": "COMPLETED", "result": {}},
        {"taskId": "nonsense", "status": "COMPLETED", "result": {}},
        {"status": "COMPLETED", "result": {}},
        7,
        {"taskId": id(3), "status": "COMPLETED", "result": {}, "leaseToken": "AAAAAAAAAAAAAAAAAAAAAA"},
    ]});
    assert_shown!(node.worker().post("/tasks/batch/results", batch.clone()).await, @r#"200 {"results":[{"taskId":"<id>","result":{"taskId":"<id>","status":"COMPLETED","result":{"n":0},"completedAt":"<time>"}},{"taskId":"<id>","result":{"taskId":"<id>","status":"FAILED","error":"no","completedAt":"<time>"}},{"taskId":"<id>","error":"result required when status=COMPLETED","code":"result_required"},{"taskId":"<id>","error":"task not found","code":"not_found"},{"taskId":"nonsense","error":"task not found","code":"not_found"},{"taskId":"","error":"invalid body","code":"invalid_body","detail":"missing field `taskId`"},{"taskId":"","error":"invalid body","code":"invalid_body","detail":"expected struct Named, found integer"},{"taskId":"<id>","error":"lease-lost","code":"lease_lost"}]}"#);
    let again = node.worker().post("/tasks/batch/results", batch).await.json_of(200);
    assert_eq!(again["results"][0]["replayed"], true, "{again}");
    assert_eq!(again["results"][1]["replayed"], true);
}

#[tokio::test]
async fn a_batch_says_which_items_were_replayed() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let batch = json!({"tasks": [
        {"command": "m", "payload": 1, "idempotencyKey": "k"},
        {"command": "M", "payload": 1, "idempotencyKey": "k"},
        {"command": "m", "payload": 2, "idempotencyKey": "k"},
        {"command": "m", "payload": 1},
    ]});
    let answer = node.producer().post("/tasks/batch", batch.clone()).await.json_of(200);
    let told = |answer: &Value| -> Vec<(Value, Value, bool)> {
        let items = answer["results"].as_array().unwrap();
        let first = items[0]["task"]["id"].clone();
        items
            .iter()
            .map(|i| (i["replayed"].clone(), i["mismatch"].clone(), i["task"]["id"] == first))
            .collect()
    };
    let none = Value::Null;
    assert_eq!(
        told(&answer),
        [
            (none.clone(), none.clone(), true),
            (json!(true), none.clone(), true),
            (json!(true), json!(true), true),
            (none.clone(), none.clone(), false),
        ]
    );
    let again = node.producer().post("/tasks/batch", batch).await.json_of(200);
    assert_eq!(told(&again)[0], (json!(true), none, true));
    assert_eq!(node.admin().counts("m").await[0], 3);
}
