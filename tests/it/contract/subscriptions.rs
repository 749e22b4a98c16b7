//! Subscriptions: who is told that there is work.

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::callers::{WORKER_SCOPES, token, workers};
use crate::support::{Answer, Client, Node, Redis, Settings, eventually};

const URL: &str = "http://127.0.0.1:9/ready";

async fn subscribe(worker: &Client, body: Value) -> Answer {
    worker.post("/workers/subscriptions", body).await
}

async fn subscribed(worker: &Client, body: Value) -> String {
    let answer = subscribe(worker, body).await.json_of(200);
    answer["subscriptionId"].as_str().unwrap().to_owned()
}

fn heartbeat(worker: &Client, id: &str) -> crate::support::Call {
    worker.bare_post(&format!("/workers/subscriptions/{id}/heartbeat"))
}

/// Seconds from now until a subscription ends.
fn lasts(answer: &Value) -> i64 {
    let ends: jiff::Timestamp = answer["expiresAt"].as_str().unwrap().parse().unwrap();
    (ends.as_millisecond() - jiff::Timestamp::now().as_millisecond() + 500).div_euclid(1000)
}

#[tokio::test]
async fn the_same_callback_and_event_types_are_the_same_subscription() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let worker = node.worker();
    let answer = subscribe(&worker, json!({"callbackUrl": URL, "eventTypes": ["Mail", "Print"]}))
        .await
        .json_of(200);
    assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
    assert_eq!(lasts(&answer), 300);
    let id = answer["subscriptionId"].as_str().unwrap();

    let again = json!({
        "callbackUrl": URL, "eventTypes": ["print", "MAIL", "mail"], "ttlSeconds": 60,
        "deliveryMode": "group", "groupId": "blue", "minIntervalSeconds": 30,
    });
    let again = subscribe(&node.other_worker(), again).await.json_of(200);
    assert_eq!((again["subscriptionId"].as_str(), lasts(&again)), (Some(id), 60));

    for other in [
        json!({"callbackUrl": "http://127.0.0.1:9/other", "eventTypes": ["mail", "print"]}),
        json!({"callbackUrl": URL, "eventTypes": ["mail"]}),
        json!({"callbackUrl": URL}),
    ] {
        assert_ne!(subscribed(&worker, other.clone()).await, id, "{other}");
    }
    let all = subscribed(&worker, json!({"callbackUrl": URL})).await;
    for same in [json!([]), json!(null), json!(["*"]), json!(["mail", "*"])] {
        let body = json!({"callbackUrl": URL, "eventTypes": same});
        assert_eq!(subscribed(&worker, body).await, all, "{same}");
    }
    let elsewhere = node.token("globex-worker");
    assert_ne!(subscribed(&elsewhere, json!({"callbackUrl": URL})).await, all);
}

#[tokio::test]
async fn what_is_no_subscription_is_refused_with_its_reason() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let worker = node.worker();
    for (body, refusal) in [
        (json!({}), "400 invalid_body invalid body"),
        (json!({"callbackUrl": " "}), "400 invalid_body invalid body"),
        (json!({"callbackUrl": 5}), "400 invalid_body invalid body"),
        (json!({"callbackUrl": "ftp://x.example/"}), "400 invalid_url invalid callback url"),
        (json!({"callbackUrl": "http://u:p@x.example/"}), "400 invalid_url invalid callback url"),
        (json!({"callbackUrl": "http://169.254.169.254/"}), "400 invalid_url invalid callback url"),
        (
            json!({"callbackUrl": URL, "deliveryMode": "all"}),
            "400 invalid_delivery_mode invalid deliveryMode",
        ),
        (
            json!({"callbackUrl": URL, "deliveryMode": "group"}),
            "400 group_id_required groupId is required",
        ),
        (
            json!({"callbackUrl": URL, "deliveryMode": "group", "groupId": "\t"}),
            "400 group_id_required groupId is required",
        ),
        (
            json!({"callbackUrl": URL, "eventTypes": ["a\u{0}"]}),
            "400 invalid_command invalid command",
        ),
        (json!({"callbackUrl": URL, "ttlSeconds": 1.5}), "400 invalid_body invalid body"),
        (
            json!({"callbackUrl": URL, "eventTypes": vec!["a"; 101]}),
            "400 invalid_body invalid body",
        ),
    ] {
        assert_eq!(subscribe(&worker, body.clone()).await.refusal(), refusal, "{body}");
    }
    assert_shown!(subscribe(&worker, json!({"callbackUrl": "http://127.0.0.1:0/"})).await, @r#"
    400 {"error":"invalid callback url",
    "code":"invalid_url",
    "requestId":"<request>",
    "detail":"callbackUrl: port 1 to 65535"}
    "#);
    let scope = subscribe(&node.token("claim-only"), json!({"callbackUrl": URL})).await;
    assert_eq!(scope.refusal(), "403 missing_scope missing scope");
    let nobody = subscribe(&node.anyone(), json!({"callbackUrl": URL})).await;
    assert_eq!(nobody.status, 401);
    assert_eq!(redis.keys().await.iter().filter(|key| key.contains(":sb")).count(), 0);
}

#[tokio::test]
async fn a_worker_hears_only_of_the_event_types_of_its_token() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let worker = node.token("mail-worker");
    for types in [json!(["print"]), json!(["mail", "print"])] {
        let refused = subscribe(&worker, json!({"callbackUrl": URL, "eventTypes": types})).await;
        assert_eq!(refused.refusal(), "403 event_type_not_allowed event type not allowed");
    }
    let all = subscribed(&worker, json!({"callbackUrl": URL})).await;
    let mail = subscribed(&worker, json!({"callbackUrl": URL, "eventTypes": ["MAIL"]})).await;
    assert_eq!(all, mail, "all there are for this token");
    let late = json!({"callbackUrl": "no", "eventTypes": ["print"]});
    assert_eq!(subscribe(&worker, late).await.status, 400, "the body is looked at first");
}

#[tokio::test]
async fn times_that_are_too_short_or_too_long_are_brought_within_bounds() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let worker = node.worker();
    for (asked, seconds) in [(json!(null), 300), (json!(0), 300), (json!(-7), 300), (json!(1), 1)] {
        let body = json!({"callbackUrl": URL, "ttlSeconds": asked});
        assert_eq!(lasts(&subscribe(&worker, body).await.json_of(200)), seconds, "{asked}");
    }
    let body = json!({"callbackUrl": URL, "ttlSeconds": 86_401, "minIntervalSeconds": -3});
    let answer = subscribe(&worker, body).await.json_of(200);
    assert_eq!(lasts(&answer), 86_400);
    let id = answer["subscriptionId"].as_str().unwrap();
    let all = redis.keys().await;
    let record = all.iter().find(|key| key.ends_with(&format!(":sb:{id}"))).unwrap();
    let interval: String = redis.command(&format!("HGET {record} interval")).await;
    assert_eq!(interval, "5000", "the floor of the settings");
}

#[tokio::test]
async fn a_heartbeat_keeps_a_subscription_and_only_ones_own() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let worker = node.worker();
    let id = subscribed(&worker, json!({"callbackUrl": URL, "ttlSeconds": 1000})).await;
    let kept = heartbeat(&node.other_worker(), &id).json(json!({"ttlSeconds": 50})).await;
    assert_eq!(kept.json_of(200)["subscriptionId"].as_str(), Some(id.as_str()));
    assert_eq!(lasts(&kept.json()), 50);
    for empty in ["", "{}", "null"] {
        let kept = heartbeat(&worker, &id).text(empty).await.json_of(200);
        assert_eq!(lasts(&kept), 300, "{empty:?}");
    }
    let unknown = "A".repeat(20);
    for (caller, id) in [
        (node.token("globex-worker"), id.as_str()),
        (worker.clone(), &unknown),
        (worker.clone(), "x"),
        (worker.clone(), "%00"),
        (worker.clone(), "%ff%ff"),
    ] {
        assert_eq!(heartbeat(&caller, id).await.refusal(), "404 not_found not-found", "{id}");
    }
    let scope = heartbeat(&node.token("claim-only"), &id).await;
    assert_eq!(scope.refusal(), "403 missing_scope missing scope");
}

#[tokio::test]
async fn a_subscription_that_nobody_keeps_ends_and_is_gone() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("SUBSCRIPTION_CLEANUP_INTERVAL_SECONDS", "1")]).await;
    let worker = node.worker();
    let body = json!({"callbackUrl": URL, "eventTypes": ["Mail"], "ttlSeconds": 1});
    let id = subscribed(&worker, body).await;
    let created = node.line(|line| line["event"] == "subscription.created").await;
    assert_eq!(created["context"]["tenant_id"], "acme", "{created}");
    assert!(!created.to_string().contains("/ready"), "a URL is not logged: {created}");
    let active = "codeq_subscriptions_active{command=\"Mail\"}";
    assert_eq!(node.scrape().await.value(active), 1.0);
    node.line(|line| line["event"] == "subscription.expired").await;
    assert_eq!(heartbeat(&worker, &id).await.refusal(), "404 not_found not-found");
    eventually("the scrape is read again", || async {
        (node.scrape().await.value(active) == 0.0).then_some(())
    })
    .await;
    assert_eq!(redis.keys().await.iter().filter(|key| key.contains(":sb")).count(), 0);
}

#[tokio::test]
async fn a_tokens_group_overrides_the_requests() {
    let redis = Redis::start().await;
    let mut known = workers();
    let mut blue = token("blue-worker", "acme", &WORKER_SCOPES, &["*"]);
    blue["raw"]["workerGroup"] = json!("blue");
    known.as_array_mut().unwrap().push(blue);
    let settings = Settings::on(&redis).set("WORKER_AUTH_CONFIG", &known.to_string());
    let node = settings.start().await;
    let group = async |worker: &Client, body: Value| {
        let id = subscribed(worker, body).await;
        let all = redis.keys().await;
        let record = all.iter().find(|key| key.ends_with(&format!(":sb:{id}"))).unwrap();
        let mode: String = redis.command(&format!("HGET {record} mode")).await;
        let group: String = redis.command(&format!("HGET {record} group")).await;
        (mode, group)
    };
    let named = json!({"callbackUrl": URL, "deliveryMode": "group", "groupId": "blue"});
    let by_request = group(&node.worker(), named).await;
    assert_eq!((by_request.0.as_str(), by_request.1.len()), ("g", 12));
    let blue = node.token("blue-worker");
    let other = json!({"callbackUrl": URL, "deliveryMode": "group", "groupId": "red"});
    assert_eq!(group(&blue, other).await, by_request);
    assert_eq!(group(&blue, json!({"callbackUrl": URL})).await, by_request);
}

#[tokio::test]
async fn a_tenant_has_no_more_subscriptions_than_it_may() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("WEBHOOK_MAX_SUBSCRIPTIONS", "3")]).await;
    let of = |n: usize| json!({"callbackUrl": format!("{URL}/{n}"), "ttlSeconds": 600});
    for n in 0..3 {
        subscribed(&node.worker(), of(n)).await;
    }
    let refused = subscribe(&node.worker(), of(3)).await;
    assert_eq!(refused.refusal(), "400 invalid_body invalid body");
    assert!(refused.json()["detail"].as_str().unwrap().contains("webhook.maxSubscriptions"));
    subscribed(&node.worker(), of(2)).await;
    subscribed(&node.token("globex-worker"), of(3)).await;
}
