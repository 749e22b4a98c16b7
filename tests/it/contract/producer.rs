//! What a producer may send, and what it gets.

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::{Node, Redis};

#[tokio::test]
async fn a_task_is_answered_with_its_fields_in_the_order_of_the_page() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let full = json!({
        "command": "Send Mail/Grüße", "payload": {"to": "a@b", "n": 1.5},
        "priority": 7, "webhook": "http://receiver.test/hook", "maxAttempts": 3,
        "delaySeconds": 60, "somethingOfALaterVersion": true,
    });
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let created = node
        .producer()
        .create(full)
        .header("traceparent", parent)
        .header("tracestate", "vendor=1")
        .header("baggage", "order=7")
        .await;
    assert_shown!(created, @r#"
    202 {"id":"<id>",
    "command":"Send Mail/Grüße",
    "payload":"{\"n\":1.5,\"to\":\"a@b\"}",
    "priority":7,
    "webhook":"http://receiver.test/hook",
    "traceParent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "traceState":"vendor=1",
    "baggage":"order=7",
    "status":"PENDING",
    "lastKnownLocation":"DELAYED_ZSET",
    "maxAttempts":3,
    "tenantId":"acme",
    "createdAt":"<time>",
    "updatedAt":"<time>",
    "visibleAt":"<time>"}
    "#);
    let least = node.producer().create(json!({"command": "m", "payload": 0})).await;
    assert_shown!(least, @r#"
    202 {"id":"<id>",
    "command":"m",
    "payload":"0",
    "status":"PENDING",
    "lastKnownLocation":"PENDING_LIST",
    "maxAttempts":5,
    "tenantId":"acme",
    "createdAt":"<time>",
    "updatedAt":"<time>"}
    "#);
    assert_eq!(least.header("Content-Type"), Some("application/json"));
    let id = least.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(node.producer().task(&id).await, least.json(), "it reads as it was answered");
}

#[tokio::test]
async fn what_is_wrong_with_a_task_is_said_as_the_page_says_it() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let with = |field: &str, value: Value| {
        let mut task = json!({"command": "m", "payload": 1});
        task[field] = value;
        task.to_string()
    };
    let body = "400 invalid_body invalid body";
    let command = "400 invalid_command invalid command";
    let url = "400 invalid_url invalid webhook url";
    let run_at = "400 invalid_run_at invalid 'runAt' (use RFC3339)";
    let delay = "400 invalid_delay invalid 'delaySeconds' (must be >= 0)";
    for (sent, refused) in [
        (String::new(), body),
        ("{".to_owned(), body),
        ("null".to_owned(), body),
        ("\"text\"".to_owned(), body),
        (r#"{"command":"m","payload":1} x"#.to_owned(), body),
        (r#"{"command":"m","payload":1}{}"#.to_owned(), body),
        (r#"{"command":"m"}"#.to_owned(), body),
        (r#"{"payload":1}"#.to_owned(), body),
        (r#"{"Command":"m","payload":1}"#.to_owned(), body),
        (with("payload", Value::Null), body),
        (with("command", Value::Null), body),
        (with("command", json!(7)), body),
        (format!(r#"{{"command":"m","payload":{}}}"#, deep(129)), body),
        (format!(r#"{{"command":"m","payload":1,"unknown":{}}}"#, deep(200)), body),
        (with("priority", json!("high")), body),
        (with("priority", json!(1.5)), body),
        (with("maxAttempts", json!("3")), body),
        (with("idempotencyKey", json!("k".repeat(256))), body),
        (with("idempotencyKey", json!(7)), body),
        (with("command", json!("")), command),
        (with("command", json!(" \t ")), command),
        (with("command", json!("x".repeat(257))), command),
        (with("command", json!("ü".repeat(129))), command),
        (with("command", json!("a\nb")), command),
        (with("command", json!("a\u{7f}")), command),
        (with("webhook", json!("no url")), url),
        (with("webhook", json!("ftp://a/b")), url),
        (with("webhook", json!("http://")), url),
        (with("runAt", json!("tomorrow")), run_at),
        (with("runAt", json!("2026-13-01T00:00:00Z")), run_at),
        (with("runAt", json!("2026-01-01")), run_at),
        (with("runAt", json!("2226-01-01T00:00:00Z")), "400 invalid_run_at invalid 'runAt' (too far ahead)"),
        (with("delaySeconds", json!(-1)), delay),
        (with("delaySeconds", json!(3_200_000_000_u64)), "400 invalid_delay invalid 'delaySeconds' (too large)"),
        (with("delaySeconds", json!(1.5)), body),
        (with("delaySeconds", json!("5")), body),
        (json!({"command": "m", "payload": 1, "runAt": "2026-01-01T00:00:00Z", "delaySeconds": -1}).to_string(), delay),
    ] {
        let answer = node.producer().bare_post("/tasks").text(sent.clone()).await;
        assert_eq!(answer.refusal(), refused, "{sent}");
        if refused == body {
            assert!(answer.json()["detail"].is_string(), "{sent}: {}", answer.text());
        }
    }
    assert_eq!(redis.keys().await.iter().filter(|key| key.contains(":b:")).count(), 0);
}

#[tokio::test]
async fn the_detail_of_a_bad_body_names_the_field() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let post = |body: &'static str| node.producer().bare_post("/tasks").text(body);
    assert_shown!(post(r#"{"command":"m","payload":1,"priority":"high"}"#).await, @r#"
    400 {"error":"invalid body",
    "code":"invalid_body",
    "requestId":"<request>",
    "detail":"priority: expected i64, found string"}
    "#);
    assert_shown!(post(r#"{"command":"m"}"#).await, @r#"
    400 {"error":"invalid body",
    "code":"invalid_body",
    "requestId":"<request>",
    "detail":"missing field `payload`"}
    "#);
    assert_shown!(post(r#"{"command":"m","payload":1} tail"#).await, @r#"
    400 {"error":"invalid body",
    "code":"invalid_body",
    "requestId":"<request>",
    "detail":"trailing characters at line 1 column 29"}
    "#);
}

#[tokio::test]
async fn what_is_out_of_range_is_clamped_where_the_page_says_so() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("MAX_ATTEMPTS_DEFAULT", "4")]).await;
    let task = async |field: &str, value: Value| {
        let mut body = json!({"command": "m", "payload": 1});
        body[field] = value;
        node.producer().create(body).await.json_of(202)
    };
    for (asked, kept) in
        [(-3, json!(null)), (0, json!(null)), (5, json!(5)), (9, json!(9)), (99, json!(9))]
    {
        assert_eq!(task("priority", json!(asked)).await["priority"], kept, "{asked}");
    }
    for (asked, kept) in [(-1, 4), (0, 4), (1, 1), (1000, 1000), (1001, 1000), (1_000_000, 1000)] {
        assert_eq!(task("maxAttempts", json!(asked)).await["maxAttempts"], kept, "{asked}");
    }
    for field in ["priority", "maxAttempts", "webhook", "runAt", "delaySeconds", "idempotencyKey"] {
        assert_eq!(task(field, Value::Null).await["status"], "PENDING", "{field}: null is absent");
    }
    for field in ["webhook", "idempotencyKey"] {
        for blank in ["", "  \t"] {
            let task = task(field, json!(blank)).await;
            assert_eq!(task["webhook"], Value::Null, "{field}: white space is absent");
        }
    }
}

#[tokio::test]
async fn a_task_waits_until_it_is_due() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let create = async |body: Value| {
        let mut task = json!({"command": "m", "payload": 1});
        task.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        node.producer().create(task).await.json_of(202)
    };
    let place = |task: &Value| task["lastKnownLocation"].as_str().unwrap().to_owned();

    let delayed = create(json!({"delaySeconds": 3600})).await;
    assert_eq!(place(&delayed), "DELAYED_ZSET");
    assert_eq!(delayed["status"], "PENDING");
    assert!(delayed["visibleAt"].is_string());

    let at = create(json!({"runAt": "2100-01-01T00:00:00.250+02:00", "delaySeconds": 5})).await;
    assert_eq!(at["visibleAt"], "2099-12-31T22:00:00.250Z", "runAt wins");

    for ready in [
        json!({"runAt": "2001-01-01T00:00:00Z"}),
        json!({"delaySeconds": 0}),
        json!({"runAt": "2001-01-01T00:00:00Z", "delaySeconds": 50}),
    ] {
        let task = create(ready.clone()).await;
        assert_eq!(
            (place(&task).as_str(), &task["visibleAt"]),
            ("PENDING_LIST", &Value::Null),
            "{ready}"
        );
    }

    let soon = create(json!({"delaySeconds": 1, "priority": 9})).await;
    let claimed = node.worker().claim_as(json!({"commands": ["m"], "waitSeconds": 0})).await;
    assert_ne!(claimed.json_of(200)["id"], soon["id"], "not before its time");
    while node.worker().claim("m").await.status == 200 {}
    let claimed = node.worker().claim_as(json!({"commands": ["m"], "waitSeconds": 10})).await;
    assert_eq!(claimed.json_of(200)["id"], soon["id"], "a waiting claim gets it when it is due");
}

#[tokio::test]
async fn the_spelling_of_a_command_is_kept_and_its_queue_is_its_lower_case() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let mut ids = Vec::new();
    for spelling in ["Grüße Senden", "GRÜßE senden", "grüße senden"] {
        let task = node.producer().created(spelling).await;
        assert_eq!(task["command"], spelling);
        ids.push(task["id"].clone());
    }
    for id in ids {
        assert_eq!(node.worker().claimed("grÜße SENDEN").await["id"], id);
    }
}

#[tokio::test]
async fn a_producer_cancels_what_nobody_works_on() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let cancel = |id: &str| node.producer().bare_post(&format!("/tasks/{id}/cancel"));
    let ready = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    let cancelled = cancel(&ready).await;
    assert_shown!(cancelled, @r#"
    200 {"id":"<id>",
    "command":"m",
    "payload":"{\"n\":1}",
    "status":"FAILED",
    "lastKnownLocation":"NONE",
    "maxAttempts":5,
    "error":"CANCELLED",
    "tenantId":"acme",
    "createdAt":"<time>",
    "updatedAt":"<time>",
    "completedAt":"<time>"}
    "#);
    assert_shown!(node.producer().result(&ready).await, @r#"
    200 {"task":{"id":"<id>","command":"m","payload":"{\"n\":1}","status":"FAILED","lastKnownLocation":"NONE","maxAttempts":5,"error":"CANCELLED","tenantId":"acme","createdAt":"<time>","updatedAt":"<time>","completedAt":"<time>"},
    "result":{"taskId":"<id>","status":"FAILED","error":"CANCELLED","completedAt":"<time>"}}
    "#);
    assert_eq!(node.worker().claim("m").await.status, 204, "it is never delivered");
    assert_eq!(cancel(&ready).await.refusal(), "409 not_cancellable not cancellable");

    let delayed =
        node.producer().created_as(json!({"command": "m", "payload": 1, "delaySeconds": 60})).await;
    assert_eq!(cancel(&delayed).await.json_of(200)["error"], "CANCELLED");
    assert_eq!(node.admin().counts("m").await, [0, 0, 0, 0]);

    node.producer().created("m").await;
    let held = node.worker().claimed("m").await["id"].as_str().unwrap().to_owned();
    assert_eq!(cancel(&held).await.refusal(), "409 not_cancellable not cancellable");
    assert_eq!(node.worker().complete(&held).await.status, 200);
    assert_eq!(cancel(&held).await.refusal(), "409 not_cancellable not cancellable");

    let theirs = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    let stranger = node.token("globex-producer");
    let path = format!("/tasks/{theirs}/cancel");
    assert_eq!(stranger.bare_post(&path).await.refusal(), "404 not_found not found");
    assert_eq!(node.worker().bare_post(&path).await.status, 401, "a worker is no producer");
}
