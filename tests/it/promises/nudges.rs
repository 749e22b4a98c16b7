//! Nudges: whoever subscribed hears that a queue has work, by whatever way it came there, and no
//! producer waits for it (items 18, 24 and 25, and the amplification that a sender must not offer).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::text;
use crate::support::{Client, Fleet, Keys, Node, Receiver, Redis, Reply, Settings, eventually};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A node whose sweeps and retries are quick, and whose subscribers may be told every second.
fn settings(redis: &Redis) -> Settings {
    super::quick(redis)
        .set("SUBSCRIPTION_MIN_INTERVAL_SECONDS", "1")
        .set("WEBHOOK_HMAC_SECRET", SECRET)
}

/// Subscribes a path of the receiver to a command; more fields may follow.
async fn subscribe(worker: &Client, receiver: &Receiver, path: &str, command: &str, more: Value) {
    let mut body = json!({
        "callbackUrl": format!("{}/{path}", receiver.origin()),
        "eventTypes": [command],
        "minIntervalSeconds": 600,
    });
    for (field, value) in more.as_object().unwrap() {
        body[field] = value.clone();
    }
    worker.post("/workers/subscriptions", body).await.json_of(200);
}

/// How many requests came for each path.
fn by_path(receiver: &Receiver) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in receiver.requests() {
        *counts.entry(request.path().trim_start_matches('/').to_owned()).or_default() += 1;
    }
    counts
}

/// Waits until this path was called so often.
async fn told(receiver: &Receiver, path: &str, times: usize) {
    let path = format!("/{path}");
    receiver
        .until(&format!("{path} is told {times} times"), |requests| {
            requests.iter().filter(|request| request.path() == path).count() >= times
        })
        .await;
}

/// Everything that became ready at this node before was looked at: what becomes ready after it is
/// told.
async fn fence(node: &Node, receiver: &Receiver, name: &str) {
    subscribe(&node.worker(), receiver, name, name, json!({})).await;
    node.producer().created(name).await;
    told(receiver, name, 1).await;
}

/// A task of this command comes and goes again: its queue became ready once.
async fn flash(node: &Node, command: &str) {
    node.producer().created(command).await;
    let id = text(&node.worker().claimed(command).await, "id");
    node.worker().complete(&id).await.json_of(200);
}

#[tokio::test]
async fn a_nudge_says_what_is_ready_and_is_signed_and_traced() {
    let redis = Redis::start().await;
    let node = settings(&redis).start().await;
    let receiver = Receiver::start().await;
    for n in 0..3 {
        node.producer().create(json!({"command": "Mail", "payload": n})).await.json_of(202);
    }
    subscribe(&node.worker(), &receiver, "m", "mail", json!({})).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let task = json!({"command": "MAIL", "payload": 3, "priority": 5});
    let created = node
        .producer()
        .create(task)
        .header("traceparent", &format!("00-{trace}-b7ad6b7169203331-01"))
        .header("tracestate", "vendor=1")
        .header("baggage", "who=me")
        .await;
    created.json_of(202);
    let request = receiver.until_count(1).await.remove(0);
    let body = request.json();
    let id = body["notificationId"].as_str().unwrap();
    let fields: Vec<&str> = ["eventType", "available", "queueDepth", "claimUrl", "sentAt"].into();
    let order: Vec<usize> = fields
        .iter()
        .chain(&["notificationId"])
        .map(|field| {
            std::str::from_utf8(&request.body).unwrap().find(&format!("\"{field}\":")).unwrap()
        })
        .collect();
    assert!(order.is_sorted() && body.as_object().unwrap().len() == 6, "{body}");
    assert_eq!(
        (&body["eventType"], &body["available"], &body["queueDepth"], &body["claimUrl"]),
        (&json!("Mail"), &json!(true), &json!(4), &json!("/v1/codeq/tasks/claim"))
    );
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
    assert_eq!(request.webhook_id(), id);
    assert_eq!(request.attempt(), 1);
    request.verify(&Keys::of(SECRET)).unwrap();
    let sent: jiff::Timestamp = body["sentAt"].as_str().unwrap().parse().unwrap();
    assert!((jiff::Timestamp::now().as_second() - sent.as_second()).abs() < 30);
    assert!(request.header("traceparent").unwrap().contains(trace));
    assert_eq!(request.header("tracestate"), Some("vendor=1"));
    assert_eq!(request.header("baggage"), Some("who=me"));

    eventually("the nudge is counted", || async {
        let scrape = node.scrape().await;
        let delivered = scrape
            .sum("codeq_webhook_deliveries_total", "kind=\"queue_ready\",outcome=\"success\"");
        let attempts =
            scrape.sum("codeq_webhook_attempts_total", "kind=\"queue_ready\",result=\"2xx\"");
        let timed = scrape.sum("codeq_webhook_duration_seconds_count", "kind=\"queue_ready\"");
        ((delivered, attempts, timed) == (1.0, 1.0, 1.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn with_tracing_on_a_nudge_is_a_span_below_its_task() {
    let redis = Redis::start().await;
    let settings = settings(&redis).set("TRACING_ENABLED", "true");
    let node = settings.set("OTEL_TRACES_EXPORTER", "none").start().await;
    let receiver = Receiver::start().await;
    subscribe(&node.worker(), &receiver, "now", "now", json!({})).await;
    subscribe(&node.worker(), &receiver, "later", "later", json!({})).await;
    let now = node.producer().created("now").await;
    let later = json!({"command": "later", "payload": 1, "delaySeconds": 1});
    let later = node.producer().create(later).await.json_of(202);
    receiver.until_count(2).await;
    for (path, task) in [("/now", now), ("/later", later)] {
        let requests = receiver.requests();
        let request = requests.iter().find(|request| request.path() == path).unwrap();
        let (of_task, of_nudge) =
            (text(&task, "traceParent"), request.header("traceparent").unwrap());
        assert_eq!(of_nudge[..36], of_task[..36], "one trace");
        assert_ne!(of_nudge, of_task, "a span of its own");
    }
}

/// Item 24: a queue that gets work by any way nudges, not only by an immediate create.
#[tokio::test]
async fn delayed_retried_requeued_abandoned_and_resumed_tasks_nudge_too() {
    let redis = Redis::start().await;
    let node = settings(&redis).start().await;
    let receiver = Receiver::start().await;
    let (producer, worker) = (node.producer(), node.worker());
    let watch = |name: &'static str| subscribe(&worker, &receiver, name, name, json!({}));

    watch("delayed").await;
    producer
        .create(json!({"command": "delayed", "payload": 1, "delaySeconds": 1}))
        .await
        .json_of(202);

    for name in ["abandoned", "nacked", "expired", "dead"] {
        let attempts = if name == "dead" { 1 } else { 5 };
        let task = json!({"command": name, "payload": 1, "maxAttempts": attempts});
        let id = producer.created_as(task).await;
        let lease = if name == "expired" { 1 } else { 300 };
        let ask = json!({"commands": [name], "leaseSeconds": lease});
        worker.claim_as(ask).await.json_of(200);
        watch(name).await;
        match name {
            "abandoned" => drop(worker.abandon(&id).await.json_of(200)),
            "nacked" => drop(worker.nack(&id, json!({"delaySeconds": 0})).await.json_of(200)),
            "dead" => {
                worker.nack(&id, json!({})).await.json_of(200);
                let path = "/admin/queues/dead/dlq/requeue";
                node.admin().bare_post(path).await.json_of(200);
            }
            _ => {}
        }
    }

    node.admin().bare_post("/admin/queues/paused/pause").await.json_of(200);
    watch("paused").await;
    producer.created("paused").await;
    fence(&node, &receiver, "fence").await;
    assert_eq!(by_path(&receiver).get("paused"), None, "a paused queue nudges nobody");
    node.admin().bare_post("/admin/queues/paused/resume").await.json_of(200);

    for name in ["delayed", "abandoned", "nacked", "expired", "dead", "paused"] {
        told(&receiver, name, 1).await;
    }
    for request in receiver.requests() {
        assert_eq!(request.json()["queueDepth"], 1, "{}", request.path());
    }
}

/// Item 24: never inside the producer's request.
#[tokio::test]
async fn a_subscriber_that_hangs_holds_up_no_producer_and_no_other_subscriber() {
    let redis = Redis::start().await;
    let node = settings(&redis).set("WEBHOOK_MAX_CONCURRENCY", "64").start().await;
    let (stuck, fine) = (Receiver::start().await, Receiver::start().await);
    stuck.answers(Reply::Hang);
    for n in 0..100 {
        subscribe(&node.worker(), &stuck, &n.to_string(), "mail", json!({})).await;
    }
    subscribe(&node.worker(), &fine, "fine", "mail", json!({"minIntervalSeconds": 1})).await;
    let began = Instant::now();
    node.producer().created("mail").await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    told(&fine, "fine", 1).await;
    stuck.until_count(16).await;
    fence(&node, &fine, "fence").await;
    assert_eq!(stuck.count(), 16, "no more at a time than webhook.maxConcurrencyPerHost");
}

/// Item 25: exactly one is told, and when the first was told just now it is the next.
#[tokio::test]
async fn group_and_hash_tell_exactly_one_also_when_the_first_is_throttled() {
    let redis = Redis::start().await;
    let node = settings(&redis).start().await;
    let receiver = Receiver::start().await;
    for mode in ["group", "hash"] {
        for n in 0..3 {
            let more = json!({"deliveryMode": mode, "groupId": "blue"});
            subscribe(&node.worker(), &receiver, &format!("{mode}-{n}"), mode, more).await;
        }
        for round in 1..=3 {
            flash_until_told(&node, &receiver, mode, round).await;
        }
        flash(&node, mode).await;
    }
    fence(&node, &receiver, "fence").await;
    let expected: BTreeMap<String, usize> = ["group", "hash"]
        .iter()
        .flat_map(|mode| (0..3).map(move |n| (format!("{mode}-{n}"), 1)))
        .chain([("fence".to_owned(), 1)])
        .collect();
    assert_eq!(by_path(&receiver), expected, "each in turn, and then nobody");
}

/// A queue becomes ready once and stays so until somebody was told of it, the `times`-th time.
async fn flash_until_told(node: &Node, receiver: &Receiver, command: &str, times: usize) {
    node.producer().created(command).await;
    let prefix = format!("/{command}-");
    receiver
        .until(&format!("{command} is told {times} times"), |requests| {
            requests.iter().filter(|r| r.path().starts_with(&prefix)).count() >= times
        })
        .await;
    let id = text(&node.worker().claimed(command).await, "id");
    node.worker().complete(&id).await.json_of(200);
}

#[tokio::test]
async fn an_interval_holds_over_three_nodes() {
    let redis = Redis::start().await;
    let fleet = Fleet::start(settings(&redis), 3).await;
    let receiver = Receiver::start().await;
    let worker = fleet.node(0).worker();
    subscribe(&worker, &receiver, "slow", "mail", json!({"minIntervalSeconds": 3600})).await;
    subscribe(&worker, &receiver, "quick", "mail", json!({"minIntervalSeconds": 1})).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(3500) {
        for node in fleet.nodes() {
            flash(node, "mail").await;
        }
    }
    for (n, node) in fleet.nodes().iter().enumerate() {
        fence(node, &receiver, &format!("fence-{n}")).await;
    }
    let counts = by_path(&receiver);
    assert!(counts.get("slow").is_none_or(|told| *told == 1), "{counts:?}");
    let times: Vec<Instant> =
        receiver.requests().iter().filter(|r| r.path() == "/quick").map(|r| r.at).collect();
    assert!((1..=5).contains(&times.len()), "{}", times.len());
    for pair in times.windows(2) {
        // The store lets the next go after a second; on the way both may be late.
        assert!(pair[1] - pair[0] > Duration::from_millis(700), "{:?}", pair[1] - pair[0]);
    }
}

/// Item 18: a tenant hears nothing of another one's activity.
#[tokio::test]
async fn tenants_do_not_hear_of_each_other() {
    let redis = Redis::start().await;
    let node = settings(&redis).start().await;
    let receiver = Receiver::start().await;
    let globex = node.token("globex-worker");
    subscribe(&globex, &receiver, "globex", "mail", json!({})).await;
    let everything = json!({"eventTypes": [], "callbackUrl": format!("{}/all", receiver.origin())});
    globex.post("/workers/subscriptions", everything).await.json_of(200);
    node.producer().created("mail").await;
    fence(&node, &receiver, "fence").await;
    assert_eq!(by_path(&receiver).keys().collect::<Vec<_>>(), ["fence"]);
    node.token("globex-producer").created("mail").await;
    told(&receiver, "globex", 1).await;
    told(&receiver, "all", 1).await;
}

/// With no subscriber a create pays a look into a map; the store is asked once a second.
#[tokio::test]
async fn where_nobody_is_subscribed_the_store_is_asked_once_a_second() {
    let redis = Redis::start().await;
    let node = settings(&redis).start().await;
    let began = Instant::now();
    for n in 0..100 {
        flash(&node, &format!("queue-{}", n % 10)).await;
    }
    let asked = node.scrape().await.sum("codeq_store_operations_total", "operation=\"subscribed\"");
    let seconds = began.elapsed().as_secs_f64();
    assert!((1.0..=seconds + 1.0).contains(&asked), "{asked} times in {seconds} s");
    let looks =
        node.scrape().await.sum("codeq_store_operations_total", "operation=\"queue_ready\"");
    assert_eq!(looks, 0.0);
}

/// A tenant that subscribes a victim's URL many times is held by its own bucket.
#[tokio::test]
async fn a_tenants_nudges_are_limited_and_what_is_refused_is_counted() {
    let redis = Redis::start().await;
    let settings = settings(&redis)
        .set("RATE_LIMIT_WEBHOOK_REQUESTS_PER_MINUTE", "1")
        .set("RATE_LIMIT_WEBHOOK_BURST_SIZE", "5");
    let node = settings.start().await;
    let victim = Receiver::start().await;
    for n in 0..20 {
        subscribe(&node.worker(), &victim, &n.to_string(), "mail", json!({})).await;
    }
    node.producer().created("mail").await;
    let hits = "codeq_rate_limit_hits_total{operation=\"queue_ready\",scope=\"webhook\"}";
    eventually("the rest is refused", || async {
        (node.scrape().await.value(hits) == 15.0).then_some(())
    })
    .await;
    victim.until_count(5).await;
    assert_eq!(victim.count(), 5);
    let failed = "kind=\"queue_ready\",outcome=\"failure\"";
    assert_eq!(node.scrape().await.sum("codeq_webhook_deliveries_total", failed), 15.0);
}

#[tokio::test]
async fn a_nudge_is_tried_once_and_a_failure_names_the_host_only() {
    let redis = Redis::start().await;
    let node = settings(&redis).start().await;
    let receiver = Receiver::start().await;
    receiver.answers(Reply::Status(500));
    subscribe(&node.worker(), &receiver, "secret-path", "mail", json!({})).await;
    node.producer().created("mail").await;
    let line = node.line(|line| line["event"] == "webhook.failed").await;
    assert!(line.to_string().contains("127.0.0.1"), "{line}");
    assert!(node.lines().iter().all(|line| !line.contains("secret-path")));
    receiver.answers(Reply::OK);
    fence(&node, &receiver, "fence").await;
    assert_eq!(by_path(&receiver)["secret-path"], 1);
    let failed = "kind=\"queue_ready\",outcome=\"failure\"";
    assert_eq!(node.scrape().await.sum("codeq_webhook_deliveries_total", failed), 1.0);
}

#[tokio::test]
async fn a_subscription_made_at_another_node_hears_of_what_became_ready_before_it_was_known() {
    let redis = Redis::start().await;
    let fleet = Fleet::start(settings(&redis), 2).await;
    let receiver = Receiver::start().await;
    let (here, there) = (fleet.node(0), fleet.node(1));
    flash(here, "mail").await;
    subscribe(&there.worker(), &receiver, "m", "mail", json!({})).await;
    here.producer().created("mail").await;
    told(&receiver, "m", 1).await;
}

#[tokio::test]
async fn a_node_that_stops_does_not_wait_for_subscribers() {
    let redis = Redis::start().await;
    let node = settings(&redis).start().await;
    let receiver = Receiver::start().await;
    receiver.answers(Reply::Hang);
    subscribe(&node.worker(), &receiver, "m", "mail", json!({})).await;
    node.producer().created("mail").await;
    receiver.until_count(1).await;
    let began = Instant::now();
    node.stop().await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}
