//! Destinations of webhooks: what administrators see of them, and do about them.

use serde_json::{Value, json};

use crate::support::{Client, Node, Receiver, Redis, Reply, Settings, eventually};

/// Nodes that make the second attempt a second after the first.
fn hooked(redis: &Redis) -> Settings {
    Settings::on(redis)
        .set("RESULT_WEBHOOK_BASE_BACKOFF_SECONDS", "1")
        .set("RESULT_WEBHOOK_MAX_BACKOFF_SECONDS", "1")
        .set("RESULT_WEBHOOK_MAX_ATTEMPTS", "50")
}

/// Tasks whose end that receiver is told.
async fn completed(node: &Node, receiver: &Receiver, tasks: usize) {
    for _ in 0..tasks {
        let id = node.producer().created_with_webhook("m", &receiver.url()).await;
        node.worker().claimed("m").await;
        node.worker().complete(&id).await.json_of(200);
    }
}

async fn page(admin: &Client, query: &str) -> Value {
    admin.destinations(query).await.json_of(200)
}

/// The only destination, once it is such.
async fn until(admin: &Client, what: &str, such: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || async {
        let only = page(admin, "").await["items"].get(0).cloned();
        only.filter(&such)
    })
    .await
}

#[tokio::test]
async fn five_failures_open_a_destination_and_resume_sends_what_waited() {
    let redis = Redis::start().await;
    let (receiver, operator) = (Receiver::start().await, Receiver::on("127.9.0.1").await);
    let node = hooked(&redis).set("WEBHOOK_OPS_URL", &operator.url()).start().await;
    let admin = node.admin();
    assert_eq!(page(&admin, "").await, json!({"items": []}));
    receiver.answers(Reply::Status(500));
    completed(&node, &receiver, 5).await;
    let open = until(&admin, "it is open", |it| it["state"] == "open").await;
    assert_eq!(open["origin"], receiver.origin());
    assert_eq!(open["lastClass"], "http_5xx");
    assert_eq!((&open["pending"], &open["dead"]), (&json!(5), &json!(0)));
    assert!(open["consecutiveFailures"].as_u64() >= Some(5), "{open}");
    assert!(open["failingSince"].is_string() && open["nextProbeAt"].is_string(), "{open}");
    assert!(open.get("tenantId").is_none() && open.get("maxPerSecond").is_none(), "{open}");
    assert_eq!(page(&admin, "state=open").await["items"].as_array().unwrap().len(), 1);
    assert_eq!(page(&admin, "state=active").await, json!({"items": []}));

    let line = node.line(|line| line["event"] == "destination.open").await;
    assert_eq!((&line["target"], &line["level"]), (&json!("codeq::webhook"), &json!("WARN")));
    assert!(!line.to_string().contains(&receiver.origin()), "the host and no more: {line}");
    let [told] = operator.until_count(1).await.try_into().unwrap();
    let told = told.json();
    assert_eq!((&told["type"], &told["destinationId"]), (&json!("destination.open"), &open["id"]));
    assert_eq!((&told["tenantId"], &told["origin"]), (&json!("acme"), &open["origin"]));
    eventually("the scrape shows it", || async {
        let scrape = node.scrape().await;
        (scrape.value("codeq_webhook_destinations{state=\"open\"}") == 1.0
            && scrape.value("codeq_webhook_outbox_depth{state=\"parked\"}") == 5.0)
            .then_some(())
    })
    .await;

    receiver.answers(Reply::OK);
    let id = open["id"].as_str().unwrap();
    let resumed = admin.resume_destination(id).await.json_of(200);
    assert_eq!((&resumed["state"], &resumed["consecutiveFailures"]), (&json!("active"), &json!(0)));
    until(&admin, "nothing waits", |it| it["pending"] == 0).await;
    assert_eq!(receiver.requests().iter().filter(|one| one.is_accepted()).count(), 5);
    let line = node.line(|line| line["event"] == "admin.destination_resumed").await;
    assert_eq!(line["target"], "codeq::audit");
    assert_eq!(operator.count(), 1, "an administrator knows what he did");
}

#[tokio::test]
async fn a_paused_destination_gets_nothing_and_loses_nothing() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let node = hooked(&redis).start().await;
    let admin = node.admin();
    completed(&node, &receiver, 1).await;
    let it = until(&admin, "it was sent to", |it| it["pending"] == 0 && it["id"].is_string()).await;
    let id = it["id"].as_str().unwrap();
    assert_eq!(it["state"], "active");
    let paused = admin.pause_destination(id).await.json_of(200);
    assert_eq!(paused["state"], "paused");
    completed(&node, &receiver, 3).await;
    eventually("they are parked", || async {
        let scrape = node.scrape().await;
        (scrape.value("codeq_webhook_outbox_depth{state=\"parked\"}") == 3.0).then_some(())
    })
    .await;
    assert_eq!(receiver.count(), 1);
    // Another node resumes it, while this one has just seen that it is paused.
    let other = hooked(&redis).start().await;
    let resumed = other.admin().resume_destination(id).await.json_of(200);
    assert_eq!((&resumed["state"], &resumed["pending"]), (&json!("active"), &json!(3)));
    receiver.until_count(4).await;
}

#[tokio::test]
async fn limits_are_within_bounds_shown_and_taken_back() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let node = hooked(&redis).start().await;
    let admin = node.admin();
    completed(&node, &receiver, 1).await;
    let it = until(&admin, "it was sent to", |it| it["id"].is_string()).await;
    let id = it["id"].as_str().unwrap();
    for bad in [
        json!({"maxPerSecond": 0.09}),
        json!({"maxPerSecond": 100_000.1}),
        json!({"maxPerSecond": "5"}),
        json!({"maxConcurrency": 0}),
        json!({"maxConcurrency": 65_537}),
        json!({"maxConcurrency": 1.5}),
        json!([]),
    ] {
        let refused = admin.put_destination(id, bad.clone()).await;
        assert_eq!(refused.refusal(), "400 invalid_body invalid body", "{bad}");
    }
    let limits = json!({"maxPerSecond": 0.5, "maxConcurrency": 2});
    let limited = admin.put_destination(id, limits).await.json_of(200);
    assert_eq!((&limited["maxPerSecond"], &limited["maxConcurrency"]), (&json!(0.5), &json!(2)));
    let listed = page(&admin, "").await["items"][0].take();
    assert_eq!((&listed["maxPerSecond"], &listed["maxConcurrency"]), (&json!(0.5), &json!(2)));
    let line = node.line(|line| line["event"] == "admin.destination_limited").await;
    assert_eq!(line["target"], "codeq::audit");
    let free = admin.put_destination(id, json!({"maxPerSecond": null})).await.json_of(200);
    assert!(free.get("maxPerSecond").is_none() && free.get("maxConcurrency").is_none(), "{free}");
}

#[tokio::test]
async fn destinations_are_their_tenants_alone() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let node = hooked(&redis).start().await;
    completed(&node, &receiver, 1).await;
    let it = until(&node.admin(), "it was sent to", |it| it["id"].is_string()).await;
    let id = it["id"].as_str().unwrap();
    let (globex, operator) = (node.token("globex-admin"), node.operator());
    assert_eq!(page(&globex, "").await, json!({"items": []}));
    for call in [
        globex.pause_destination(id),
        globex.resume_destination(id),
        globex.put_destination(id, json!({})),
        node.admin().pause_destination("AAAAAAAAAAAAAAAA"),
        node.admin().pause_destination("no-such"),
    ] {
        assert_eq!(call.await.refusal(), "404 not_found not found");
    }
    let all = page(&operator, "tenant=*").await;
    assert_eq!(all["items"][0]["tenantId"], "acme", "{all}");
    let hers = page(&operator, "tenant=acme").await;
    assert_eq!(hers["items"][0]["id"], it["id"]);
    let path = format!("/admin/webhook-destinations/{id}/pause?tenant=acme");
    let paused = operator.bare_post(&path);
    assert_eq!(paused.await.json_of(200)["state"], "paused");
    assert_eq!(node.producer().destinations("").await.status, 401);
    for query in ["state=closed", "limit=0", "cursor=x"] {
        let refused = node.admin().destinations(query).await;
        assert_eq!(refused.refusal(), "400 invalid_body invalid body", "{query}");
    }
}

#[tokio::test]
async fn pages_of_destinations_hold_each_of_them_once() {
    let redis = Redis::start().await;
    let node = hooked(&redis).start().await;
    let mut receivers = Vec::new();
    for n in 1..=9 {
        receivers.push(Receiver::on(&format!("127.8.0.{n}")).await);
    }
    for receiver in &receivers {
        completed(&node, receiver, 1).await;
        receiver.until_count(1).await;
    }
    let whole = page(&node.admin(), "").await;
    let ids = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&whole).len(), 9);
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let next = page(&node.admin(), &format!("limit=2{cursor}")).await;
        assert!(ids(&next).len() <= 2);
        found.extend(ids(&next));
        let Some(more) = next["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={more}");
        assert!(found.len() <= 9);
    }
    assert_eq!(found, ids(&whole));
}
