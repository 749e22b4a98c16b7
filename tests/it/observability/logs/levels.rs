//! Which lines there are: levels, categories, filters.

use serde_json::{Value, json};

use super::{events, lines_of};
use crate::support::schema::CATEGORIES;
use crate::support::{Node, Receiver, Redis, Reply, Settings};

#[tokio::test]
async fn l4_a_task_that_goes_well_is_neither_a_warning_nor_an_error() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let node = Node::on(&redis).await;
    let id = node.producer().created_with_webhook("well", &receiver.url()).await;
    node.worker().claimed("well").await;
    node.worker().complete(&id).await.json_of(200);
    node.line(|line| line["event"] == "webhook.delivered").await;
    // What the store could do better was said at the start.
    let loud = lines_of(&node, |line| {
        ["WARN", "ERROR"].contains(&line["level"].as_str().unwrap())
            && line["event"] != "config.warning"
    });
    assert!(loud.is_empty(), "{loud:#?}");
    let of_node = ["node.started", "node.ready", "node.draining", "node.stopped"];
    let lines = node.stop().await;
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |line: &&Value| of_node.contains(&line["event"].as_str().unwrap());
    let named: Vec<Value> = lines.iter().filter(named).cloned().collect();
    assert_eq!(events(&named), of_node);
}

#[tokio::test]
async fn l10_what_administrators_do_and_who_is_turned_away_is_written_down() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let node = Settings::on(&redis).set("MAX_ATTEMPTS_DEFAULT", "1").start().await;
    let (admin, operator) = (node.admin(), node.operator());
    let dead = node.producer().created("dead").await;
    node.worker().claimed("dead").await;
    node.worker().nack(dead["id"].as_str().unwrap(), json!({})).await.json_of(200);
    let spare = node.producer().created("spare").await["id"].as_str().unwrap().to_owned();

    admin.bare_post("/admin/queues/dead/pause").await.json_of(200);
    admin.bare_post("/admin/queues/dead/pause").await.json_of(200);
    admin.bare_post("/admin/queues/dead/resume").await.json_of(200);
    admin.bare_post("/admin/queues/dead/dlq/requeue").await.json_of(200);
    admin.bare_post("/admin/queues/dead/dlq/purge").await.json_of(200);
    admin.delete(&format!("/admin/tasks/{spare}")).await.json_of(200);
    admin.bare_post("/admin/tasks/cleanup").await.json_of(200);
    admin.put("/admin/topics/dead", json!({"maxAttempts": 3})).await.json_of(201);
    admin.put("/admin/topics/dead", json!({"maxAttempts": 4})).await.json_of(200);
    admin.test_webhook(&receiver.url()).await.json_of(200);
    operator.put("/admin/log-level", json!({"level": "debug"})).await.json_of(200);

    node.line(|line| line["event"] == "admin.log_level").await;
    let audit = lines_of(&node, |line| line["category"] == "audit");
    let what: Vec<_> = audit
        .iter()
        .map(|line| {
            let of = &line["context"];
            let text = |name: &str| of[name].as_str().unwrap_or("-").to_owned();
            format!(
                "{} {} {} {}",
                line["event"].as_str().unwrap(),
                text("by"),
                text("before"),
                text("after")
            )
        })
        .collect();
    assert_eq!(
        what,
        [
            "admin.queue_paused admin running paused",
            "admin.queue_paused admin paused paused",
            "admin.queue_resumed admin paused running",
            "admin.dlq_requeued admin dead ready",
            "admin.dlq_purged admin dead gone",
            "admin.task_cancelled admin - CANCELLED",
            "admin.tasks_cleaned_up admin - -",
            "admin.topic_put admin  {\"maxAttempts\":3}",
            "admin.topic_put admin {\"maxAttempts\":3} {\"maxAttempts\":4}",
            "admin.webhook_tested admin - -",
            "admin.log_level operator info debug",
        ]
    );
    let queue = lines_of(&node, |line| line["event"].as_str().unwrap().starts_with("queue."));
    assert_eq!(events(&queue), ["queue.paused", "queue.resumed"], "only what changed");
    let redriven = lines_of(&node, |line| line["event"] == "task.redriven");
    assert_eq!(redriven.len(), 1);

    node.token("nobody").create(json!({"command": "x"})).await;
    node.token("worker-without-scopes").claim("x").await;
    node.token("claim-only").heartbeat(&spare).await;
    node.token("no-tenant").create(json!({"command": "x"})).await;
    node.token("mail-worker").claim("x").await;
    for (event, level) in [
        ("auth.failed", "WARN"),
        ("scope.denied", "WARN"),
        ("tenant.mismatch", "ERROR"),
        ("claim.rejected", "INFO"),
    ] {
        let line = node.line(|line| line["event"] == event).await;
        assert_eq!(line["level"], level);
        assert!(line["request_id"].is_string(), "{line}");
        assert!(line["context"]["suppressed"].is_number(), "{line}");
        let category = if event == "claim.rejected" { "worker" } else { "security" };
        assert_eq!(line["category"], category);
    }
}

#[tokio::test]
async fn l10_a_blocked_webhook_is_a_line_of_security() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("WEBHOOK_ALLOW_PRIVATE_NETWORKS", "false")]).await;
    let id = node.producer().created_with_webhook("m", "http://localhost:9/secret-path").await;
    node.worker().claimed("m").await;
    node.worker().complete(&id).await.json_of(200);
    let line = node.line(|line| line["event"] == "webhook.blocked").await;
    assert_eq!((&line["category"], &line["level"]), (&json!("security"), &json!("WARN")));
    assert_eq!(line["context"]["webhook"]["host"], "localhost");
}

#[test]
fn l10_every_category_has_its_retention_in_the_documentation() {
    let page = std::fs::read_to_string("docs/observability/logging.md").unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    for (category, levels) in CATEGORIES {
        let row = rows.iter().find(|row| row[1] == format!("`{category}`"));
        let row = row.unwrap_or_else(|| panic!("{category} has no row"));
        for level in levels {
            assert!(row[3].contains(level), "{category} at {level}: {}", row[3]);
        }
        let retention = row[4];
        let units = ["hours", "days", "year"];
        assert!(units.iter().any(|unit| retention.contains(unit)), "{category}: {retention}");
    }
}

#[tokio::test]
async fn l11_a_module_filter_raises_that_module_alone() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let node = Node::with(&redis, &[("RUST_LOG", "codeq::webhook=debug")]).await;
    receiver.answers(Reply::OK);
    let id = node.producer().created_with_webhook("m", &receiver.url()).await;
    node.worker().claimed("m").await;
    node.worker().heartbeat(&id).await.json_of(200);
    node.worker().complete(&id).await.json_of(200);
    node.line(|line| line["event"] == "webhook.delivered").await;
    let below =
        lines_of(&node, |line| ["DEBUG", "TRACE"].contains(&line["level"].as_str().unwrap()));
    assert!(events(&below).contains(&"webhook.sent"), "{below:#?}");
    for line in &below {
        assert!(line["target"].as_str().unwrap().starts_with("codeq::webhook"), "{line}");
    }
}

#[tokio::test]
async fn a_store_that_goes_and_comes_back_is_said_once_each() {
    let mut redis = Redis::start().await;
    let node = Node::on(&redis).await;
    redis.restart().await;
    let lost = node.line(|line| line["event"] == "store.lost").await;
    assert_eq!((&lost["level"], &lost["category"]), (&json!("WARN"), &json!("system")));
    let link = lost["context"]["link"].clone();
    node.line(|line| line["event"] == "store.restored" && line["context"]["link"] == link).await;
}
