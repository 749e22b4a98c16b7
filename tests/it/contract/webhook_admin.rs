//! Deliveries that administrators look at, drop and send again.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::receiver::Request;
use crate::support::{Client, Node, Receiver, Redis, Reply, Settings, eventually};

fn settings(redis: &Redis) -> Settings {
    Settings::on(redis)
        .set("WEBHOOK_ALLOW_PRIVATE_NETWORKS", "true")
        .set("WEBHOOK_HMAC_SECRET", "an administrator's receiver")
}

/// A task that a worker completed, told to the receiver; its id.
async fn ended(node: &Node, command: &str, receiver: &Receiver) -> String {
    let id = node.producer().created_with_webhook(command, &receiver.url()).await;
    node.worker().claimed(command).await;
    node.worker().complete(&id).await.json_of(200);
    id
}

async fn until_state(node: &Node, id: &str, state: &str) -> Value {
    eventually(state, || async {
        let answer = node.producer().task_webhook(id).await;
        (answer.status == 200 && answer.json()["state"] == state).then(|| answer.json())
    })
    .await
}

/// A task whose receiver never wants to hear of it again.
async fn dead(node: &Node, command: &str, receiver: &Receiver) -> String {
    let id = ended(node, command, receiver).await;
    until_state(node, &id, "dead").await;
    id
}

async fn listed(client: &Client, query: &str) -> Vec<String> {
    let page = client.webhooks(query).await.json_of(200);
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["webhookId"].as_str().unwrap().to_owned()).collect()
}

fn first(ids: &[String]) -> Vec<String> {
    ids.iter().map(|id| format!("{id}_1")).collect()
}

#[tokio::test]
async fn a_producer_sees_what_became_of_its_webhook_and_not_what_the_receiver_said() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let node = settings(&redis).start().await;
    receiver.answers(Reply::Status(500));
    let id = node.producer().created_with_webhook("m", &receiver.url()).await;
    let none = "404 not_found not found";
    assert_eq!(node.producer().task_webhook(&id).await.refusal(), none, "it has not ended");
    node.worker().claimed("m").await;
    node.worker().complete(&id).await.json_of(200);
    receiver.until_count(1).await;
    let told = eventually("the attempt is written down", || async {
        let told = node.producer().task_webhook(&id).await.json_of(200);
        (told["attempts"][0]["status"] == 500).then_some(told)
    })
    .await;
    assert_eq!(
        (&told["webhookId"], &told["state"]),
        (&json!(format!("{id}_1")), &json!("pending"))
    );
    let attempt = told["attempts"][0].as_object().unwrap();
    assert_eq!((&attempt["class"], &attempt["trigger"]), (&json!("http_5xx"), &json!("schedule")));
    assert!(attempt.contains_key("at") && attempt.contains_key("durationMs"));
    assert!(told["nextAttemptAt"].is_string() && !attempt.contains_key("excerpt"));

    receiver.answers(Reply::OK);
    node.admin().replay_webhook(&format!("{id}_1")).await.json_of(202);
    let told = until_state(&node, &id, "delivered").await;
    assert_eq!(
        (told["attempts"].as_array().unwrap().len(), &told["nextAttemptAt"]),
        (2, &Value::Null)
    );
    let without = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    assert_eq!(node.producer().task_webhook(&without).await.refusal(), none);
    assert_eq!(node.token("globex-admin").task_webhook(&id).await.refusal(), none);
    assert_eq!(node.producer().task_webhook("nonsense").await.refusal(), none);
}

#[tokio::test]
async fn dead_deliveries_are_listed_oldest_first_in_pages_and_by_everything_that_narrows_them() {
    let redis = Redis::start().await;
    let (one, other) = (Receiver::start().await, Receiver::start().await);
    let node = settings(&redis).start().await;
    one.answers(Reply::Status(410));
    other.answers(Reply::abort());
    let mut ids = Vec::new();
    for n in 0..9 {
        let receiver = if n % 3 == 2 { &other } else { &one };
        ids.push(dead(&node, ["a", "b", "c", "d"][n % 4], receiver).await);
    }
    let admin = node.admin();
    let all = first(&ids);
    assert_eq!(listed(&admin, "").await, all, "`dead` unless asked otherwise");
    assert_eq!(listed(&admin, "state=pending").await, [] as [&str; 0]);
    assert_eq!(listed(&admin, "command=B").await, [&all[1], &all[5]].map(String::clone));
    let aborted = [&all[2], &all[5], &all[8]].map(String::clone);
    assert_eq!(listed(&admin, "reason=aborted").await, aborted);
    let page = admin.webhooks("reason=aborted&limit=1").await.json_of(200);
    let item = page["items"][0].clone();
    assert_eq!(item["origin"], other.origin());
    assert_eq!(
        [&item["state"], &item["reason"], &item["command"], &item["lastClass"]],
        ["dead", "aborted", "c", "http_4xx"]
    );
    assert_eq!(item["attempts"], 1);
    assert!(!page.to_string().contains("/hook"), "the path of a URL may be a secret");
    let destination = format!("destination={}", item["destination"].as_str().unwrap());
    assert_eq!(listed(&admin, &destination).await, aborted);
    let moment = item["diedAt"].as_str().unwrap();
    assert_eq!(listed(&admin, &format!("since={moment}")).await, all[2..]);
    assert_eq!(listed(&admin, &format!("until={moment}")).await, all[..2]);

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for _ in 0..10 {
        let page = admin.webhooks(&format!("limit=2{cursor}")).await.json_of(200);
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["webhookId"].as_str().unwrap().to_owned()));
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, all);
    assert_eq!(listed(&node.token("globex-admin"), "").await, [] as [&str; 0]);
    let of_all = node.operator().webhooks("tenant=*").await.json_of(200);
    assert_eq!(of_all["items"].as_array().unwrap().len(), 9);
    assert_eq!(of_all["items"][0]["tenantId"], "acme");
    for (query, field) in [
        ("state=delivered", "state"),
        ("state=pending&reason=gone", "reason:"),
        ("reason=late", "reason:"),
        ("destination=x", "destination:"),
        ("command=%20", "command"),
        ("since=soon", "since:"),
        ("until=2026-01-01", "until:"),
        ("limit=0", "limit"),
        ("cursor=eA", "cursor"),
    ] {
        let refused = admin.webhooks(query).await;
        assert_eq!(refused.refusal(), "400 invalid_body invalid body", "{query}");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with(field), "{query}: {detail}");
    }
}

#[tokio::test]
async fn a_delivery_is_shown_dropped_and_sent_again_with_one_id_and_one_body() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let node = settings(&redis).start().await;
    let admin = node.admin();
    receiver.answers(Reply::Status(410));
    let id = format!("{}_1", dead(&node, "m", &receiver).await);
    let record = admin.webhook(&id).await.json_of(200);
    assert_eq!((&record["state"], &record["reason"]), (&json!("dead"), &json!("gone")));
    assert_eq!((&record["attempts"], &record["log"][0]["status"]), (&json!(1), &json!(410)));
    let not_found = "404 not_found not found";
    let globex = node.token("globex-admin");
    assert_eq!(globex.webhook(&id).await.refusal(), not_found);
    assert_eq!(globex.replay_webhook(&id).await.refusal(), not_found);
    assert_eq!(globex.drop_webhook(&id).await.status, 204);
    assert_eq!(admin.webhook("nonsense").await.refusal(), not_found);
    assert_eq!(admin.drop_webhook("nonsense").await.refusal(), not_found);

    receiver.answers(Reply::OK);
    for series in 2..=3 {
        let answer = admin.replay_webhook(&id).await;
        assert_eq!(answer.json_of(202), json!({"webhookId": id}), "the {series}. series");
        receiver.until_count(series).await;
        let task = id.trim_end_matches("_1");
        until_state(&node, task, "delivered").await;
    }
    let requests = receiver.requests();
    let attempts: Vec<u32> = requests.iter().map(Request::attempt).collect();
    assert_eq!(attempts, [1, 2, 3], "attempts are counted on");
    assert!(requests.iter().all(|request| request.webhook_id() == id));
    assert!(requests.iter().all(|request| request.body == requests[0].body));
    let record = admin.webhook(&id).await.json_of(200);
    assert_eq!((&record["attempts"], &record["log"][2]["trigger"]), (&json!(3), &json!("replay")));
    node.line(|line| line["event"] == "admin.webhook_replayed" && line["target"] == "codeq::audit")
        .await;

    receiver.answers(Reply::Status(410));
    let gone = format!("{}_1", dead(&node, "m", &receiver).await);
    for _ in 0..2 {
        assert_eq!(admin.drop_webhook(&gone).await.status, 204);
        assert_eq!(admin.webhook(&gone).await.refusal(), not_found);
        assert_eq!(admin.replay_webhook(&gone).await.refusal(), not_found);
    }
    node.line(|line| line["event"] == "admin.webhook_dropped").await;
}

/// So many tasks that ended and whose deliveries are dead.
async fn many_dead(node: &Node, receiver: &Receiver, count: usize) -> BTreeSet<String> {
    receiver.answers(Reply::Status(410));
    let mut ids = BTreeSet::new();
    for chunk in 0..count / 50 {
        let tasks: Vec<Value> = (0..50)
            .map(|n| json!({"command": format!("m{}", n % 20), "payload": n, "webhook": receiver.url()}))
            .collect();
        let made = node.producer().post("/tasks/batch", json!({"tasks": tasks})).await.json_of(200);
        for one in made["results"].as_array().unwrap() {
            let id = one["task"]["id"].as_str().unwrap();
            node.producer().post(&format!("/tasks/{id}/cancel"), json!({})).await.json_of(200);
            ids.insert(format!("{id}_1"));
        }
        receiver.until_count((chunk + 1) * 50).await;
    }
    let since = "2020-01-01T00:00:00Z";
    eventually("all are dead", || async {
        let ask = json!({"since": since, "dryRun": true});
        let seen = node.admin().recover_webhooks(ask).await.json_of(200);
        (seen["matched"] == count).then_some(())
    })
    .await;
    ids
}

#[tokio::test]
async fn a_recovery_is_previewed_limited_stopped_and_refused_by_name() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let node = settings(&redis).start().await;
    let ids = many_dead(&node, &receiver, 100).await;
    let admin = node.admin();
    let since = "2020-01-01T00:00:00Z";
    let ask = |more: Value| {
        let mut ask = json!({"since": since});
        ask.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        admin.recover_webhooks(ask)
    };
    let preview = ask(json!({"dryRun": true, "reason": "gone"})).await.json_of(200);
    assert_eq!(preview, json!({"matched": 100, "byReason": {"gone": 100}}));
    let preview = ask(json!({"dryRun": true, "reason": "poison"})).await.json_of(200);
    assert_eq!(preview, json!({"matched": 0, "byReason": {}}));
    let preview = ask(json!({"dryRun": true, "command": "M3"})).await.json_of(200);
    assert_eq!(preview["matched"], 6);
    for (more, field) in [
        (json!({"since": "soon"}), "since:"),
        (json!({"since": null}), "since:"),
        (json!({"ratePerSecond": 0}), "ratePerSecond:"),
        (json!({"ratePerSecond": 10001}), "ratePerSecond:"),
        (json!({"limit": 0}), "limit:"),
        (json!({"reason": "x"}), "reason:"),
    ] {
        let refused = ask(more.clone()).await;
        assert_eq!(refused.refusal(), "400 invalid_body invalid body", "{more}");
        assert!(refused.json()["detail"].as_str().unwrap().starts_with(field), "{more}");
    }

    receiver.answers(Reply::OK);
    let begun = ask(json!({"limit": 10, "ratePerSecond": 1000})).await.json_of(202);
    assert_eq!(begun["matched"], 10);
    let id = begun["recoveryId"].as_str().unwrap().to_owned();
    let all = json!({"state": "done", "matched": 10, "done": 10, "failed": 0});
    eventually("ten are sent", || async {
        (admin.recovery(&id).await.json_of(200) == all).then_some(())
    })
    .await;
    let sent = receiver.until_count(110).await;
    let again: BTreeSet<String> = sent[100..].iter().map(|r| r.webhook_id().to_owned()).collect();
    assert!(again.len() == 10 && again.is_subset(&ids));

    let slow = ask(json!({"ratePerSecond": 1})).await.json_of(202);
    let id = slow["recoveryId"].as_str().unwrap();
    assert_eq!(node.token("globex-admin").stop_recovery(id).await.status, 204);
    assert_eq!(admin.recovery(id).await.json_of(200)["state"], "running");
    assert_eq!(admin.stop_recovery(id).await.status, 204);
    assert_eq!(admin.recovery(id).await.json_of(200)["state"], "stopped");
    let not_found = "404 not_found not found";
    assert_eq!(node.token("globex-admin").recovery(id).await.refusal(), not_found);
    assert_eq!(admin.recovery("nonsense").await.refusal(), not_found);
    assert_eq!(admin.stop_recovery("nonsense").await.refusal(), not_found);
}
